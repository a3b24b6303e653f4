package duck

import (
	"context"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// repeated gives the same batch again and again.
type repeated struct {
	batch arrow.RecordBatch
	left  int
}

func (r *repeated) Next(context.Context) (arrow.RecordBatch, error) {
	if r.left == 0 {
		return nil, io.EOF
	}
	r.left--
	r.batch.Retain()
	return r.batch, nil
}

func (r *repeated) Close() {}

// BenchmarkFilter measures what it costs to get rows through the engine: a
// filter that passes every row of 10 million, in batches of 65,536 rows.
func BenchmarkFilter(b *testing.B) {
	for _, bench := range []struct {
		name    string
		fields  []plan.Field
		threads int
	}{
		{"numbers/threads=1", []plan.Field{{Name: "a", Type: "bigint"}, {Name: "b", Type: "double"}, {Name: "c", Type: "integer"}, {Name: "d", Type: "double"}}, 1},
		{"numbers/threads=2", []plan.Field{{Name: "a", Type: "bigint"}, {Name: "b", Type: "double"}, {Name: "c", Type: "integer"}, {Name: "d", Type: "double"}}, 2},
		{"mixed/threads=1", []plan.Field{{Name: "a", Type: "bigint"}, {Name: "b", Type: "double"}, {Name: "c", Type: "string"}, {Name: "d", Type: "date"}}, 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			const size, wanted = 65_536, 10_000_000
			d, err := Open(Options{Threads: bench.threads})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			schema, err := plan.ParseSchema(bench.fields)
			if err != nil {
				b.Fatal(err)
			}
			builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			for i := range size {
				for _, field := range builder.Fields() {
					switch field := field.(type) {
					case *array.Int64Builder:
						field.Append(int64(i))
					case *array.Int32Builder:
						field.Append(int32(i))
					case *array.Float64Builder:
						field.Append(float64(i))
					case *array.Date32Builder:
						field.Append(arrow.Date32(i))
					case *array.StringBuilder:
						field.Append([]string{"short", "longer than twelve bytes"}[i%2])
					}
				}
			}
			batch := builder.NewRecordBatch()
			s := &exec.RelationalStage{
				ID: "s", Inputs: []exec.RelationalInput{{Node: "in", Schema: schema}},
				Nodes: []plan.Node{{ID: "f", Inputs: []string{"in"}, Op: plan.Filter{Predicate: plan.SQL("a >= 0")}}},
			}
			rows := int64(0)
			for b.Loop() {
				err := d.Run(b.Context(), s, []exec.BatchReader{&repeated{batch, wanted/size + 1}}, func(out arrow.RecordBatch) error {
					rows += out.NumRows()
					out.Release()
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}
