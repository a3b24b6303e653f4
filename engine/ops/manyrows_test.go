package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// pureRunner gives for each bundle what apply makes of its batches, which it
// is lent. It runs every bundle twice, as after a death, and counts bundles.
type pureRunner struct {
	apply func(input []arrow.RecordBatch) ([]arrow.RecordBatch, error)

	mu      sync.Mutex
	bundles int
	open    int
}

func (r *pureRunner) Open(context.Context, *exec.FunctionStage) (exec.FunctionSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &pureSession{runner: r}, nil
}

type pureSession struct {
	runner  *pureRunner
	running sync.WaitGroup
	bundles []*fakeBundle
}

func (s *pureSession) Submit(ctx context.Context, input exec.BatchSource, _ int64) (exec.Bundle, error) {
	s.runner.mu.Lock()
	s.runner.bundles++
	s.runner.mu.Unlock()
	b := &fakeBundle{done: make(chan struct{})}
	s.bundles = append(s.bundles, b)
	s.running.Go(func() {
		defer close(b.done)
		for range 2 {
			releaseAll(b.results)
			if b.results, b.err = s.runner.once(ctx, input); b.err != nil {
				return
			}
		}
	})
	return b, nil
}

func (s *pureSession) Probe(ctx context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	return s.Submit(ctx, input, firstRow)
}

func (r *pureRunner) once(ctx context.Context, input exec.BatchSource) ([]arrow.RecordBatch, error) {
	reader, err := input.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var read []arrow.RecordBatch
	defer func() { releaseAll(read) }()
	for {
		batch, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			return r.apply(read)
		}
		if err != nil {
			return nil, err
		}
		read = append(read, batch)
	}
}

func (s *pureSession) Close() error {
	s.running.Wait()
	for _, b := range s.bundles {
		releaseAll(b.results)
	}
	s.runner.mu.Lock()
	defer s.runner.mu.Unlock()
	s.runner.open--
	return nil
}

// fromBatches is a source of the batches that make gives.
type fromBatches struct{ make func() []arrow.RecordBatch }

func (f fromBatches) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	return emitAll(ctx, f.make(), out)
}

// texts notes the rows that reach it as text, and the largest batch.
type texts struct {
	exec.PassThrough
	rows    []string
	largest int64
	// bundles are the numbers of rows of the bundles.
	failAt int
}

func (k *texts) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	if k.failAt > 0 && len(k.rows) >= k.failAt {
		return errBoom
	}
	k.rows = append(k.rows, rowTexts(batch)...)
	k.largest = max(k.largest, batch.NumRows())
	return nil
}

func rowTexts(batch arrow.RecordBatch) []string {
	out := make([]string, batch.NumRows())
	for i := range out {
		cells := make([]string, batch.NumCols())
		for c, column := range batch.Columns() {
			cells[c] = column.ValueStr(i)
		}
		out[i] = strings.Join(cells, " ")
	}
	return out
}

// runChain runs batches through operators into sink; stages holds, for each
// operator, how many subtasks it has and how one is made.
func runChain(t *testing.T, source exec.Operator, stages []exec.Vertex, sink exec.Handler) error {
	t.Helper()
	g := exec.NewGraph(exec.Options{SpillDir: t.TempDir()})
	vertices := []*exec.Vertex{{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return source }, Schema: oneColumn}}
	for i := range stages {
		stages[i].ID = fmt.Sprint("stage", i)
		vertices = append(vertices, &stages[i])
	}
	vertices = append(vertices, &exec.Vertex{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return exec.Handle(sink) }})
	for i, v := range vertices {
		if i > 0 {
			v.Inputs = []string{vertices[i-1].ID}
		}
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return g.Run(t.Context())
}

var (
	lettersIn = arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	spreadResult = arrow.NewSchema([]arrow.Field{
		{Name: "__alink_row", Type: arrow.PrimitiveTypes.Int64},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
)

// spreadRows gives for each row with the number n the rows 0 … n-1, in batches
// of at most most rows.
func spreadRows(alloc memory.Allocator, most int) func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	return func(input []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
		if len(input) != 1 {
			return nil, fmt.Errorf("%d batches in a bundle", len(input))
		}
		b := array.NewRecordBuilder(alloc, spreadResult)
		defer b.Release()
		var out []arrow.RecordBatch
		rows := 0
		flush := func() {
			if rows > 0 {
				out = append(out, b.NewRecordBatch())
				rows = 0
			}
		}
		for row, n := range input[0].Column(0).(*array.Int64).Int64Values() {
			for i := range n {
				b.Field(0).(*array.Int64Builder).Append(int64(row))
				b.Field(1).(*array.Int64Builder).Append(i)
				if rows++; rows == most {
					flush()
				}
			}
		}
		flush()
		return out, nil
	}
}

func TestFlatMapAgainstTheObvious(t *testing.T) {
	for _, outer := range []bool{false, true} {
		for _, most := range []int{1, 7, 100_000} {
			for _, parallelism := range []int{1, 3} {
				t.Run(fmt.Sprint(outer, most, parallelism), func(t *testing.T) {
					alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
					random := rand.New(rand.NewPCG(uint64(most), 1))
					var counts []int64
					for range 4000 {
						counts = append(counts, max(0, random.Int64N(9)-4))
					}
					counts = append(counts, 0, 0, 3, 0)
					var want []string
					for row, n := range counts {
						text := fmt.Sprintf("é%d", row)
						for i := range n {
							want = append(want, fmt.Sprint(n, " ", text, " ", i))
						}
						if n == 0 && outer {
							want = append(want, fmt.Sprint(n, " ", text, " ", array.NullValueStr))
						}
					}
					source := fromBatches{func() []arrow.RecordBatch {
						b := array.NewRecordBuilder(alloc, lettersIn)
						defer b.Release()
						var out []arrow.RecordBatch
						for row, n := range counts {
							b.Field(0).(*array.Int64Builder).Append(n)
							b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("é%d", row))
							if row%1500 == 1499 || row == len(counts)-1 {
								out = append(out, b.NewRecordBatch())
							}
						}
						return append(out, b.NewRecordBatch()) // an empty one
					}}
					r := &pureRunner{apply: spreadRows(alloc, most)}
					schema := arrow.NewSchema(slices.Concat(lettersIn.Fields(), spreadResult.Fields()[1:]), nil)
					sink := &texts{}
					err := runChain(t, source, []exec.Vertex{{Parallelism: parallelism, Schema: schema, New: func(int) exec.Operator {
						return &FlatMap{
							Runner: r, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageFlatMap, Input: oneColumn, Output: spreadResult},
							Columns: []int{0}, Kept: []int{0, 1}, Outer: outer, Schema: schema, Allocator: alloc,
						}
					}}}, sink)
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(sink.rows, want) {
						t.Errorf("%d rows came out, not %d, or others", len(sink.rows), len(want))
					}
					if r.open != 0 {
						t.Errorf("%d sessions are open", r.open)
					}
					alloc.AssertSize(t, 0)
				})
			}
		}
	}
}

// One row may give more than fits into a batch, and its own columns may be
// large: what is passed on stays bounded.
func TestFlatMapBoundsWhatItPassesOn(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	const rows = 300_000
	large := strings.Repeat("x", 1<<20)
	source := fromBatches{func() []arrow.RecordBatch {
		b := array.NewRecordBuilder(alloc, lettersIn)
		defer b.Release()
		b.Field(0).(*array.Int64Builder).AppendValues([]int64{20, rows}, nil)
		b.Field(1).(*array.StringBuilder).AppendValues([]string{large, "small"}, nil)
		return []arrow.RecordBatch{b.NewRecordBatch()}
	}}
	r := &pureRunner{apply: spreadRows(alloc, rows+20)}
	schema := arrow.NewSchema(slices.Concat(lettersIn.Fields(), spreadResult.Fields()[1:]), nil)
	sink := &measure{}
	if err := runChain(t, source, []exec.Vertex{{Parallelism: 1, Schema: schema, New: func(int) exec.Operator {
		return &FlatMap{
			Runner: r, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageFlatMap, Input: oneColumn, Output: spreadResult},
			Columns: []int{0}, Kept: []int{0, 1}, Schema: schema, Allocator: alloc,
		}
	}}}, sink); err != nil {
		t.Fatal(err)
	}
	if sink.rows != rows+20 || sink.rowsMax > joinedRowsMax || sink.textMax > joinedBytesMax {
		t.Errorf("%d rows, at most %d and %d bytes of text in a batch", sink.rows, sink.rowsMax, sink.textMax)
	}
	alloc.AssertSize(t, 0)
}

// measure keeps the size of the largest batch.
type measure struct {
	exec.PassThrough
	rows, rowsMax int64
	textMax       int
}

func (m *measure) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	m.rows += batch.NumRows()
	m.rowsMax = max(m.rowsMax, batch.NumRows())
	m.textMax = max(m.textMax, len(batch.Column(1).(*array.String).ValueBytes()))
	return nil
}

func TestFlatMapMakesBundlesOfWhatTheyGive(t *testing.T) {
	f := &flatMapRun{FlatMap: &FlatMap{}}
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	f.rows.Store(flatMapRowsFirst)
	f.learn(flatMapRowsFirst, nil)
	if f.rows.Load() != flatMapGrowth*flatMapRowsFirst {
		t.Errorf("nothing came back, and then %d rows go out", f.rows.Load())
	}
	result := numbers(alloc, oneColumn, make([]int64, 1<<20)...) // 8 MiB
	f.learn(4096, []arrow.RecordBatch{result})
	if got := f.rows.Load(); got > 2048 || got < 1024 {
		t.Errorf("4096 rows gave 8 MiB, and then %d go out", got)
	}
	f.learn(1, []arrow.RecordBatch{result})
	if got := f.rows.Load(); got != 1 {
		t.Errorf("a row gave 8 MiB, and then %d go out", got)
	}
	result.Release()
	alloc.AssertSize(t, 0)
}

// everyType has a column of each type that a plan can have, three rows, the
// last of them NULL.
func everyType(alloc memory.Allocator) arrow.RecordBatch {
	var fields []arrow.Field
	var columns []arrow.Array
	for i, t := range []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Float32,
		arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time64us,
		arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Duration_us, arrow.FixedWidthTypes.MonthDayNanoInterval,
		&arrow.Decimal128Type{Precision: 20, Scale: 2}, arrow.ListOf(arrow.PrimitiveTypes.Int64),
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32),
	} {
		b := array.NewBuilder(alloc, t)
		b.AppendEmptyValue()
		b.AppendEmptyValue()
		b.AppendNull()
		fields, columns = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: t, Nullable: true}), append(columns, b.NewArray())
		b.Release()
	}
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, 3)
}

func TestFlatMapKeepsColumnsOfEveryType(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	example := everyType(memory.DefaultAllocator)
	defer example.Release()
	kept := make([]int, example.NumCols())
	for i := range kept {
		kept[i] = i
	}
	schema := arrow.NewSchema(slices.Concat(example.Schema().Fields(), spreadResult.Fields()[1:]), nil)
	apply := func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
		b := array.NewRecordBuilder(alloc, spreadResult)
		defer b.Release()
		b.Field(0).(*array.Int64Builder).AppendValues([]int64{0, 2, 2}, nil)
		b.Field(1).(*array.Int64Builder).AppendValues([]int64{7, 8, 9}, nil)
		return []arrow.RecordBatch{b.NewRecordBatch()}, nil
	}
	for _, outer := range []bool{false, true} {
		sink := &texts{}
		source := fromBatches{func() []arrow.RecordBatch { return []arrow.RecordBatch{everyType(alloc)} }}
		if err := runChain(t, source, []exec.Vertex{{Parallelism: 1, Schema: schema, New: func(int) exec.Operator {
			return &FlatMap{
				Runner: &pureRunner{apply: apply}, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageFlatMap, Input: arrow.NewSchema(nil, nil), Output: spreadResult},
				Kept: kept, Outer: outer, Schema: schema, Allocator: alloc,
			}
		}}}, sink); err != nil {
			t.Fatal(err)
		}
		rows := rowTexts(example)
		want := []string{rows[0] + " 7", rows[1] + " " + array.NullValueStr, rows[2] + " 8", rows[2] + " 9"}
		if !outer {
			want = slices.Delete(want, 1, 2)
		}
		if !slices.Equal(sink.rows, want) {
			t.Errorf("outer %v:\n%s\nwant\n%s", outer, strings.Join(sink.rows, "\n"), strings.Join(want, "\n"))
		}
	}
	alloc.AssertSize(t, 0)
}

// keyed is a schema of keys that need care, and a number of the row.
var keyed = arrow.NewSchema([]arrow.Field{
	{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "d", Type: &arrow.Decimal128Type{Precision: 20, Scale: 1}, Nullable: true},
	{Name: "l", Type: arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float32, Nullable: true})), Nullable: true},
	{Name: "m", Type: arrow.FixedWidthTypes.MonthDayNanoInterval, Nullable: true},
	{Name: "row", Type: arrow.PrimitiveTypes.Int64},
}, nil)

// keyValues are rows of keyed as JSON, each with the key that it is equal to.
var keyValues = []struct{ json, equal string }{
	{`"f": 1`, "one"},
	{`"f": 0`, "zero"},
	{`"f": "-0"`, "zero"},
	{`"f": "NaN"`, "nan"},
	{`"f": null`, "null"},
	{`"s": ""`, "empty"},
	{`"s": "é"`, "é"},
	{`"s": "e"`, "e"},
	{`"d": "1.5"`, "1.5"},
	{`"d": "-1.5"`, "-1.5"},
	{`"l": []`, "[]"},
	{`"l": [null]`, "[null]"},
	{`"l": [{"x": null}]`, "[{null}]"},
	{`"l": [{"x": 0}]`, "[{0}]"},
	{`"l": [{"x": 0}, {"x": 1}]`, "[{0} {1}]"},
	{`"m": {"months": 1, "days": 0, "nanoseconds": 0}`, "month"},
	{`"m": {"months": 0, "days": 30, "nanoseconds": 0}`, "month"},
	{`"m": {"months": 0, "days": 29, "nanoseconds": 86400000000000}`, "month"},
	{`"m": {"months": 0, "days": 29, "nanoseconds": 0}`, "29 days"},
}

// keyRow appends a row; JSON has no NaN and no -0.
func keyRow(t *testing.T, b *array.RecordBuilder, value string, row int) {
	t.Helper()
	special := map[string]float64{`"f": "NaN"`: math.NaN(), `"f": "-0"`: math.Copysign(0, -1)}
	if f, ok := special[value]; ok {
		for i := range 5 {
			if i == 0 {
				b.Field(0).(*array.Float64Builder).Append(f)
			} else {
				b.Field(i).AppendNull()
			}
		}
		b.Field(5).(*array.Int64Builder).Append(int64(row))
		return
	}
	if err := b.UnmarshalJSON([]byte(fmt.Sprintf(`{%s, "row": %d}`, value, row))); err != nil {
		t.Fatal(value, err)
	}
}

// groupNumbers gives the number of each row's group, of which neighbouring runs
// must differ, and the last must end with the batch.
func groupNumbers(batch arrow.RecordBatch) []int64 {
	runs := batch.Column(0).(*array.RunEndEncoded)
	ends, numbers := runs.RunEndsArr().(*array.Int32), runs.Values().(*array.Int64)
	var each []int64
	for i := range ends.Len() {
		if i > 0 && numbers.Value(i) == numbers.Value(i-1) {
			panic("a group has two runs of a batch")
		}
		for len(each) < int(ends.Value(i)) {
			each = append(each, numbers.Value(i))
		}
	}
	if len(each) != int(batch.NumRows()) {
		panic("the runs do not end with the batch")
	}
	return each
}

// bundles notes what a Group makes: the rows and groups of every bundle.
type bundles struct {
	exec.PassThrough
	rows, groups [][]int64
	open         bool
}

func (k *bundles) Run(ctx context.Context, in []*exec.Input, _ *exec.Output) error {
	for {
		e, err := in[0].Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return err
		}
		if !k.open {
			k.rows, k.groups = append(k.rows, nil), append(k.groups, nil)
		}
		last := len(k.rows) - 1
		k.groups[last] = append(k.groups[last], groupNumbers(e.Batch)...)
		k.rows[last] = append(k.rows[last], e.Batch.Column(1).(*array.Int64).Int64Values()...)
		k.open = e.More
		e.Release()
	}
}

func TestGroupAgainstTheObvious(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 2))
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		var values []int
		for len(values) < 300 {
			value := random.IntN(len(keyValues))
			for range 1 + random.IntN(1+random.IntN(40)) {
				values = append(values, value)
			}
		}
		var wantGroups []int64
		group := int64(-1)
		for i, v := range values {
			if i == 0 || keyValues[v].equal != keyValues[values[i-1]].equal {
				group++
			}
			wantGroups = append(wantGroups, group)
		}
		source := fromBatches{func() []arrow.RecordBatch {
			b := array.NewRecordBuilder(alloc, keyed)
			defer b.Release()
			var out []arrow.RecordBatch
			for i, v := range values {
				keyRow(t, b, keyValues[v].json, i)
				if i == len(values)-1 || random.IntN(25) == 0 {
					whole := b.NewRecordBatch()
					begin := random.Int64N(2) // slices have offsets
					out = append(out, whole.NewSlice(0, min(begin, whole.NumRows())), whole.NewSlice(min(begin, whole.NumRows()), whole.NumRows()))
					whole.Release()
				}
			}
			return out
		}}
		few := seed%2 == 0
		sink := &bundles{}
		schema := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, keyed.Field(5)}, nil)
		g := exec.NewGraph(exec.Options{})
		for _, v := range []*exec.Vertex{
			{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return source }},
			{ID: "g", Parallelism: 1, Inputs: []string{"in"}, New: func(int) exec.Operator {
				return exec.Handle(&Group{Keys: []int{0, 1, 2, 3, 4}, Columns: []int{5}, Schema: schema, Few: few, Allocator: alloc})
			}},
			{ID: "out", Parallelism: 1, Inputs: []string{"g"}, New: func(int) exec.Operator { return sink }},
		} {
			if err := g.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		gotGroups, gotRows := slices.Concat(sink.groups...), slices.Concat(sink.rows...)
		if !slices.Equal(gotGroups, wantGroups) || sink.open {
			t.Fatalf("seed %d: groups %v\nwant %v", seed, gotGroups, wantGroups)
		}
		if !slices.IsSorted(gotRows) || len(gotRows) != len(values) {
			t.Fatalf("seed %d: rows %v", seed, gotRows)
		}
		checkBundles(t, sink, few)
		alloc.AssertSize(t, 0)
	}
}

// checkBundles looks for groups that two bundles share.
func checkBundles(t *testing.T, sink *bundles, few bool) {
	t.Helper()
	for i, groups := range sink.groups {
		if i > 0 && groups[0] <= sink.groups[i-1][len(sink.groups[i-1])-1] {
			t.Fatalf("bundle %d begins with a group of the one before", i)
		}
		if count := groups[len(groups)-1] - groups[0] + 1; few && count > int64(i+1) {
			t.Fatalf("bundle %d has %d groups", i, count)
		}
	}
	if !few && len(sink.groups) != 1 {
		t.Fatalf("a few rows make %d bundles", len(sink.groups))
	}
}

func TestGroupBoundsBundles(t *testing.T) {
	sink := &bundles{}
	schema := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, oneColumn.Field(0)}, nil)
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	source := fromBatches{func() []arrow.RecordBatch {
		var out []arrow.RecordBatch
		for b := range 10 {
			values := make([]int64, 100_000)
			for i := range values {
				values[i] = int64(b*len(values)+i) / 3
				if b >= 4 && b < 8 {
					values[i] = -1 // one group larger than a bundle
				}
			}
			out = append(out, numbers(alloc, oneColumn, values...))
		}
		return out
	}}
	g := exec.NewGraph(exec.Options{})
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return source }},
		{ID: "g", Parallelism: 1, Inputs: []string{"in"}, New: func(int) exec.Operator {
			return exec.Handle(&Group{Keys: []int{0}, Columns: []int{0}, Schema: schema, Allocator: alloc})
		}},
		{ID: "out", Parallelism: 1, Inputs: []string{"g"}, New: func(int) exec.Operator { return sink }},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for i, rows := range sink.rows {
		if rows[0] == -1 || slices.Contains(rows, -1) {
			whole++
			continue
		}
		if len(rows) > groupRowsMax+2 {
			t.Errorf("bundle %d has %d rows", i, len(rows))
		}
	}
	if whole != 1 || len(slices.Concat(sink.rows...)) != 1_000_000 {
		t.Errorf("the large group is in %d bundles", whole)
	}
	alloc.AssertSize(t, 0)
}

// sumGroups gives a row for each group of a bundle: the sum of its values.
func sumGroups(alloc memory.Allocator) func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	return func(input []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
		var sums []int64
		last := int64(-1)
		for _, batch := range input {
			values := batch.Column(1).(*array.Int64)
			for i, group := range groupNumbers(batch) {
				if group != last {
					sums, last = append(sums, 0), group
				}
				sums[len(sums)-1] += values.Value(i)
			}
		}
		return []arrow.RecordBatch{numbers(alloc, result, sums...)}, nil
	}
}

func TestGroupedKeepsGroupsWholeAndInOrder(t *testing.T) {
	numbered := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, oneColumn.Field(0)}, nil)
	const keys, each = 90, 11
	for _, batchRows := range []int{1, 7, 8192} {
		for _, parallelism := range []int{1, 4} {
			for _, few := range []bool{true, false} {
				alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
				source := fromBatches{func() []arrow.RecordBatch {
					var values []int64
					for k := range keys {
						for range each * (1 + k%3) {
							values = append(values, int64(k))
						}
					}
					var out []arrow.RecordBatch
					for piece := range slices.Chunk(values, batchRows) {
						out = append(out, numbers(alloc, oneColumn, piece...))
					}
					return out
				}}
				r := &pureRunner{apply: sumGroups(alloc)}
				sink := &texts{}
				if err := runChain(t, source, groupStages(r, numbered, alloc, few, parallelism), sink); err != nil {
					t.Fatal(err)
				}
				var want []string
				for k := range keys {
					want = append(want, fmt.Sprint(k*each*(1+k%3)))
				}
				if !slices.Equal(sink.rows, want) {
					t.Errorf("batches of %d, %d subtasks: %v", batchRows, parallelism, sink.rows)
				}
				if few && r.bundles < 12 {
					t.Errorf("%d groups went out in %d bundles", keys, r.bundles)
				}
				alloc.AssertSize(t, 0)
			}
		}
	}
}

func groupStages(r exec.FunctionRunner, numbered *arrow.Schema, alloc memory.Allocator, few bool, parallelism int) []exec.Vertex {
	return []exec.Vertex{
		{Parallelism: 1, Schema: numbered, New: func(int) exec.Operator {
			return exec.Handle(&Group{Keys: []int{0}, Columns: []int{0}, Schema: numbered, Few: few, Allocator: alloc})
		}},
		{Parallelism: parallelism, Schema: result, New: func(int) exec.Operator {
			return &Grouped{
				Runner: r, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageMerge, Input: numbered, Output: result},
				Spool: exec.SpoolOptions{MemoryBytes: 512, Allocator: alloc},
			}
		}},
	}
}

func TestGroupedFailuresReleaseEverything(t *testing.T) {
	numbered := arrow.NewSchema([]arrow.Field{{Name: plan.GroupColumn, Type: plan.GroupNumber}, oneColumn.Field(0)}, nil)
	for _, parallelism := range []int{1, 3} {
		for name, c := range map[string]struct {
			sink  *texts
			apply func(alloc memory.Allocator) func([]arrow.RecordBatch) ([]arrow.RecordBatch, error)
			words string
		}{
			"downstream fails": {&texts{failAt: 20}, sumGroups, "boom"},
			"a bundle fails": {&texts{}, func(alloc memory.Allocator) func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
				return func(input []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
					if groupNumbers(input[0])[0] > 50 {
						return nil, errBoom
					}
					return sumGroups(alloc)(input)
				}
			}, "boom"},
			"a row is missing": {&texts{}, func(alloc memory.Allocator) func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
				return func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
					return []arrow.RecordBatch{numbers(alloc, result)}, nil
				}
			}, "0 rows came back for"},
		} {
			alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
			source := fromBatches{func() []arrow.RecordBatch {
				var out []arrow.RecordBatch
				for i := range int64(300) {
					out = append(out, numbers(alloc, oneColumn, i/2, i/2))
				}
				return out
			}}
			r := &pureRunner{apply: c.apply(alloc)}
			err := runChain(t, source, groupStages(r, numbered, alloc, true, parallelism), c.sink)
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v", name, err)
			}
			if r.open != 0 {
				t.Errorf("%s: %d sessions are open", name, r.open)
			}
			alloc.AssertSize(t, 0)
		}
	}
}

func TestAtLeastOne(t *testing.T) {
	for _, rows := range []int64{0, 4} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		batchesSeen := 0
		sink := &countBatches{seen: &batchesSeen}
		if err := runChain(t, batches{alloc, rows}, []exec.Vertex{{Parallelism: 1, Schema: oneColumn, New: func(int) exec.Operator {
			return exec.Handle(&AtLeastOne{Schema: oneColumn, Allocator: alloc})
		}}}, sink); err != nil {
			t.Fatal(err)
		}
		if want := max(1, int(rows)/2); batchesSeen != want || sink.rows != rows {
			t.Errorf("%d rows: %d batches with %d rows came out", rows, batchesSeen, sink.rows)
		}
		alloc.AssertSize(t, 0)
	}
}

type countBatches struct {
	exec.PassThrough
	seen *int
	rows int64
}

func (c *countBatches) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	*c.seen++
	c.rows += batch.NumRows()
	batch.Release()
	return nil
}

func (c *countBatches) OnElement(context.Context, exec.Element, *exec.Output) error { return nil }
