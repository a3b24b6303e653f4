package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestKeys numbers keys of each kind of column, with NULLs and without, over two
// batches.
func TestKeys(t *testing.T) {
	for name, test := range map[string]struct {
		types         []arrow.DataType
		first, second string
		want          []uint32
		keys          string
	}{
		"texts": {
			[]arrow.DataType{arrow.BinaryTypes.String},
			`[{"0": "b"}, {"0": "a"}, {"0": ""}, {"0": "b"}]`, `[{"0": null}, {"0": ""}, {"0": "c"}, {"0": null}]`,
			[]uint32{0, 1, 2, 0, 3, 2, 4, 3},
			`["b" "a" "" (null) "c"]`,
		},
		"NULL first": {
			[]arrow.DataType{arrow.BinaryTypes.String},
			`[{"0": null}, {"0": ""}]`, `[{"0": ""}, {"0": "x"}]`,
			[]uint32{0, 1, 1, 2},
			`[(null) "" "x"]`,
		},
		"numbers": {
			[]arrow.DataType{arrow.PrimitiveTypes.Int64},
			`[{"0": 7}, {"0": null}]`, `[{"0": 0}, {"0": 7}]`,
			[]uint32{0, 1, 2, 0},
			`[7 (null) 0]`,
		},
		"two columns": {
			[]arrow.DataType{arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64},
			`[{"0": "a", "1": 0}, {"0": "a", "1": null}]`, `[{"0": null, "1": 0}, {"0": "a", "1": -0.0}]`,
			[]uint32{0, 1, 2, 0},
			`["a" "a" (null)] [0 (null) 0]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
			defer alloc.AssertSize(t, 0)
			var fields []arrow.Field
			for i, kind := range test.types {
				fields = append(fields, arrow.Field{Name: fmt.Sprint(i), Type: kind, Nullable: true})
			}
			keys := NewKeys(test.types)
			var got []uint32
			for _, text := range []string{test.first, test.second} {
				batch, _, err := array.RecordFromJSON(alloc, arrow.NewSchema(fields, nil), strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				defer batch.Release()
				out := make([]uint32, batch.NumRows())
				if err := keys.Find(batch.Columns(), out); err != nil {
					t.Fatal(err)
				}
				got = append(got, out...)
			}
			var texts []string
			for _, column := range keys.Columns(alloc) {
				texts = append(texts, fmt.Sprint(column))
				column.Release()
			}
			if !slices.Equal(got, test.want) || strings.Join(texts, " ") != test.keys {
				t.Errorf("numbers %v of the keys %v", got, texts)
			}
		})
	}
}

// BenchmarkKeys numbers texts of 1,000 keys.
func BenchmarkKeys(b *testing.B) {
	builder := array.NewStringBuilder(memory.DefaultAllocator)
	const rows = 65_536
	for i := range rows {
		builder.Append(fmt.Sprintf("k%d", i%1_000))
	}
	column := builder.NewArray()
	defer column.Release()
	builder.Release()
	keys := NewKeys([]arrow.DataType{arrow.BinaryTypes.String})
	out := make([]uint32, rows)
	for b.Loop() {
		if err := keys.Find([]arrow.Array{column}, out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
