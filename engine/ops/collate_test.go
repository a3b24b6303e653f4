package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// sorter stands in for the relational engine: it sorts by the first columns,
// NULL last, and counts the rows. Rows that are equal stay in their order.
type sorter struct {
	exec.Relational
	alloc memory.Allocator
	rows  []int64
	err   error
}

func (s *sorter) Run(ctx context.Context, stage *exec.RelationalStage, inputs []exec.BatchReader, emit func(arrow.RecordBatch) error) error {
	defer inputs[0].Close()
	if s.err != nil {
		return s.err
	}
	var batches []arrow.RecordBatch
	defer func() { releaseAll(batches) }()
	total := int64(0)
	for {
		batch, err := inputs[0].Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !batch.Schema().Equal(stage.Inputs[0].Schema) {
			return fmt.Errorf("a batch of %s", batch.Schema())
		}
		batches = append(batches, batch)
		total += batch.NumRows()
	}
	s.rows = append(s.rows, total)
	if total == 0 {
		return nil
	}
	columns := make([]arrow.Array, stage.Inputs[0].Schema.NumFields())
	for i := range columns {
		var parts []arrow.Array
		for _, batch := range batches {
			parts = append(parts, batch.Column(i))
		}
		var err error
		if columns[i], err = array.Concatenate(parts, s.alloc); err != nil {
			return err
		}
		defer columns[i].Release()
	}
	keys := len(stage.Nodes[0].Op.(plan.Sort).By)
	rows := make([]int64, total)
	for i := range rows {
		rows[i] = int64(i)
	}
	slices.SortStableFunc(rows, func(a, b int64) int {
		for _, column := range columns[:keys] {
			if order := compareValues(column, int(a), int(b)); order != 0 {
				return order
			}
		}
		return 0
	})
	for part := range slices.Chunk(rows, 7) {
		taken, err := takeColumns(ctx, columns, part, s.alloc)
		if err != nil {
			return err
		}
		batch := array.NewRecordBatch(stage.Inputs[0].Schema, taken, int64(len(part)))
		exec.ReleaseColumns(taken)
		if err := emit(batch); err != nil {
			return err
		}
	}
	return nil
}

func compareValues(column arrow.Array, i, j int) int {
	if column.IsNull(i) || column.IsNull(j) {
		return cmp.Compare(btoi(column.IsNull(i)), btoi(column.IsNull(j)))
	}
	switch c := column.(type) {
	case *array.Float64:
		x, y := c.Value(i), c.Value(j)
		if math.IsNaN(x) || math.IsNaN(y) {
			return cmp.Compare(btoi(math.IsNaN(x)), btoi(math.IsNaN(y)))
		}
		return cmp.Compare(x, y)
	case *array.Int64:
		return cmp.Compare(c.Value(i), c.Value(j))
	case *array.List: // of one value each
		return compareValues(c.ListValues(), i, j)
	}
	return strings.Compare(column.ValueStr(i), column.ValueStr(j))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// collateCase is a table with keys of several types, and a column that numbers
// its rows.
func collateCase(random *rand.Rand, alloc memory.Allocator, rows, distinct int, nested bool) (*arrow.Schema, []arrow.RecordBatch) {
	third := arrow.PrimitiveTypes.Float64
	if nested {
		third = arrow.ListOf(arrow.PrimitiveTypes.Int64)
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "b", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "c", Type: third, Nullable: true},
	}, nil)
	var batches []arrow.RecordBatch
	for id := 0; id < rows; {
		b := array.NewRecordBuilder(alloc, schema)
		for range 1 + random.IntN(9) {
			k := random.IntN(distinct)
			b.Field(0).(*array.Int64Builder).Append(int64(id))
			if k%5 == 0 {
				b.Field(1).AppendNull()
			} else {
				b.Field(1).(*array.Int64Builder).Append(int64(k % 3))
			}
			if k%7 == 0 {
				b.Field(2).AppendNull()
			} else {
				b.Field(2).(*array.StringBuilder).Append(strings.Repeat("x", k%4))
			}
			switch c := b.Field(3).(type) {
			case *array.Float64Builder:
				c.Append([]float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff8000000000abc), -1, float64(k)}[random.IntN(2)+2*(k%3)])
			case *array.ListBuilder:
				c.Append(true)
				c.ValueBuilder().(*array.Int64Builder).Append(int64(k))
			}
			id++
		}
		batches = append(batches, b.NewRecordBatch())
		b.Release()
	}
	return schema, batches
}

// collate runs a Collate on batches, which it takes over.
func collate(t *testing.T, c *Collate, batches []arrow.RecordBatch) (*bundles, error) {
	t.Helper()
	sink := &bundles{}
	g := exec.NewGraph(exec.Options{})
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator {
			return fromBatches{func() []arrow.RecordBatch { return batches }}
		}},
		{ID: "c", Parallelism: 1, Inputs: []string{"in"}, New: func(int) exec.Operator { return c }},
		{ID: "out", Parallelism: 1, Inputs: []string{"c"}, New: func(int) exec.Operator { return sink }},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return sink, g.Run(t.Context())
}

// sortedGroups are the rows of batches in the order of their keys, and the
// numbers of their groups.
func sortedGroups(t *testing.T, alloc memory.Allocator, batches []arrow.RecordBatch, keys []int) (ids, groups []int64) {
	t.Helper()
	var columns []arrow.Array
	for _, k := range append(slices.Clone(keys), 0) {
		var parts []arrow.Array
		for _, batch := range batches {
			parts = append(parts, batch.Column(k))
		}
		column, err := array.Concatenate(parts, alloc)
		if err != nil {
			t.Fatal(err)
		}
		defer column.Release()
		columns = append(columns, column)
	}
	compare := func(a, b int64) int {
		for _, column := range columns[:len(keys)] {
			if order := compareValues(column, int(a), int(b)); order != 0 {
				return order
			}
		}
		return 0
	}
	for i := range columns[0].Len() {
		ids = append(ids, int64(i))
	}
	slices.SortStableFunc(ids, compare)
	for i := range ids {
		switch {
		case i == 0:
			groups = append(groups, 0)
		case compare(ids[i-1], ids[i]) == 0:
			groups = append(groups, groups[i-1])
		default:
			groups = append(groups, groups[i-1]+1)
		}
	}
	return ids, groups
}

// TestCollateAgainstTheObvious compares with a stable sort of the whole table:
// runs in memory and in files, too many keys, too many runs, and keys that have
// no hash.
func TestCollateAgainstTheObvious(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(80) {
		random := rand.New(rand.NewPCG(seed, 1))
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		schema, batches := collateCase(random, alloc, 1+random.IntN(200), 1+random.IntN(40), seed%6 == 5)
		keys := [][]int{{1}, {2}, {3}, {1, 2, 3}, {3, 1}}[random.IntN(5)]
		columns := [][]int{{0}, {0, 2}, {0, 1, 2, 3}}[random.IntN(3)]
		fields := []arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}}
		for _, c := range columns {
			fields = append(fields, schema.Field(c))
		}
		wantRows, wantGroups := sortedGroups(t, alloc, batches, keys)
		engine := &sorter{alloc: alloc}
		few := seed%2 == 0
		sink, err := collate(t, &Collate{
			Group:  &Group{Keys: keys, Columns: columns, Schema: arrow.NewSchema(fields, nil), Few: few, Allocator: alloc},
			Engine: engine, Types: schema.Fields(),
			limits: collateLimits{
				keys: 1 + random.IntN(60), runs: 1 + random.IntN(12), runBytes: 1 << (4 + random.IntN(10)),
				runRows: 1 + random.Int64N(100), batchRows: 1 + random.Int64N(20), batchBytes: 200,
			},
			Spool: exec.SpoolOptions{Memory: exec.NewAllowance(random.Int64N(4_000)), Dir: t.TempDir(), Allocator: alloc},
		}, batches)
		if err != nil {
			t.Fatal(err)
		}
		if rows := slices.Concat(sink.rows...); !slices.Equal(rows, wantRows) {
			t.Fatalf("seed %d: rows %v\nnot %v", seed, rows, wantRows)
		}
		if groups := slices.Concat(sink.groups...); !slices.Equal(groups, wantGroups) || sink.open {
			t.Fatalf("seed %d: groups %v\nnot %v", seed, groups, wantGroups)
		}
		checkBundles(t, sink, few)
		alloc.AssertSize(t, 0)
		all := engine.rows[len(engine.rows)-1] == int64(len(wantRows))
		seen[fmt.Sprintf("all rows sorted: %t, keys sorted often: %t", all, len(engine.rows) > 2)] = true
	}
	if len(seen) != 4 {
		t.Errorf("the cases are of the kinds %v only", seen)
	}
}

// A group that is larger than a bundle goes in parts that belong together.
func TestCollateCutsLargeGroups(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	var batches []arrow.RecordBatch
	const each, count = 50_000, 20
	for i := range int64(count) {
		values := make([]int64, each)
		for k := range values {
			values[k] = int64(k) % 2 * (1 + i/count)
		}
		batches = append(batches, numbers(alloc, oneColumn, values...))
	}
	out := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, oneColumn.Field(0)}, nil)
	sink, err := collate(t, &Collate{
		Group:  &Group{Keys: []int{0}, Columns: []int{0}, Schema: out, Allocator: alloc},
		Engine: &sorter{alloc: alloc}, Types: oneColumn.Fields(), Spool: exec.SpoolOptions{Dir: t.TempDir(), Allocator: alloc},
	}, batches)
	if err != nil {
		t.Fatal(err)
	}
	if len(sink.rows) != 2 || len(sink.rows[0]) != each*count/2 || len(sink.rows[1]) != each*count/2 {
		t.Errorf("%d bundles", len(sink.rows))
	}
	checkBundles(t, sink, true)
}

func TestCollateFailuresReleaseEverything(t *testing.T) {
	for _, many := range []bool{false, true} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer alloc.AssertSize(t, 0)
		var batches []arrow.RecordBatch
		for i := range int64(10) {
			batches = append(batches, numbers(alloc, oneColumn, i, i+1, i))
		}
		limits := collateLimits{keys: 100, runs: 100, runBytes: 1 << 20, runRows: 100, batchRows: 10, batchBytes: 1 << 10}
		if many {
			limits.keys = 4
		}
		out := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, oneColumn.Field(0)}, nil)
		_, err := collate(t, &Collate{
			Group:  &Group{Keys: []int{0}, Columns: []int{0}, Schema: out, Allocator: alloc},
			Engine: &sorter{alloc: alloc, err: errBoom}, Types: oneColumn.Fields(), limits: limits,
			Spool: exec.SpoolOptions{Dir: t.TempDir(), Allocator: alloc},
		}, batches)
		if !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
	}
}
