package state

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
)

var microseconds = &arrow.TimestampType{Unit: arrow.Microsecond}

func inputSchema(key, value arrow.DataType) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "ts", Type: microseconds, Nullable: true},
		{Name: "key", Type: key, Nullable: true},
		{Name: "v", Type: value, Nullable: true},
	}, nil)
}

func keysOf(columns []int) (keys []Key) {
	for _, c := range columns {
		keys = append(keys, Key{"key", c})
	}
	return keys
}

func windowsOf(t *testing.T, alloc memory.Allocator, schema *arrow.Schema, size int64, keys []int, aggregates ...Aggregate) *Windows {
	t.Helper()
	w, err := NewWindows(WindowOptions{Size: time.Duration(size) * time.Microsecond, Time: 0, Keys: keysOf(keys), Aggregates: aggregates, Input: schema, Allocator: alloc})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func batchOf(t *testing.T, alloc memory.Allocator, schema *arrow.Schema, json string) arrow.RecordBatch {
	t.Helper()
	batch, _, err := array.RecordFromJSON(alloc, schema, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Release)
	return batch
}

func add(t *testing.T, w *Windows, batch arrow.RecordBatch, watermark int64) int64 {
	t.Helper()
	late, err := w.Add(batch, watermark)
	if err != nil {
		t.Fatal(err)
	}
	return late
}

// fired gives the results up to a watermark as lines of text, sorted.
func fired(t *testing.T, w *Windows, watermark int64) []string {
	t.Helper()
	var lines []string
	err := w.Fire(watermark, func(batch arrow.RecordBatch) error {
		defer batch.Release()
		for row := range int(batch.NumRows()) {
			var cells []string
			for i, c := range batch.Columns() {
				switch ts, ok := c.(*array.Timestamp); {
				case ok && i < 2:
					cells = append(cells, fmt.Sprint(int64(ts.Value(row))))
				default:
					cells = append(cells, c.ValueStr(row))
				}
			}
			lines = append(lines, strings.Join(cells, " "))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

var all = []Aggregate{{"n", Count, -1}, {"c", Count, 2}, {"s", Sum, 2}, {"lo", Min, 2}, {"hi", Max, 2}, {"m", Avg, 2}}

func TestWindowsAggregate(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	w := windowsOf(t, alloc, schema, 10, []int{1}, all...)
	add(t, w, batchOf(t, alloc, schema, `[
		{"ts":1,"key":"a","v":5},{"ts":9,"key":"a","v":null},{"ts":3,"key":null,"v":2},{"ts":4,"key":null,"v":1},
		{"ts":12,"key":"a","v":7},{"ts":-1,"key":"a","v":9},{"ts":-10,"key":"b","v":null}]`), NoWatermark)
	if got := fired(t, w, -1); len(got) > 0 {
		t.Errorf("fired too early: %v", got)
	}
	want := []string{"-10 0 a 1 1 9 9 9 9", "-10 0 b 1 0 (null) (null) (null) (null)"}
	if got := fired(t, w, 9); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want = []string{"0 10 (null) 2 2 3 1 2 1.5", "0 10 a 2 1 5 5 5 5"}
	if got := fired(t, w, 10); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if late := add(t, w, batchOf(t, alloc, schema, `[{"ts":9,"key":"a","v":1},{"ts":10,"key":"a","v":1},{"ts":-500,"key":"z","v":1}]`), 10); late != 2 {
		t.Errorf("%d late rows", late)
	}
	if got := fired(t, w, math.MaxInt64); !slices.Equal(got, []string{"10 20 a 2 2 8 1 7 4"}) {
		t.Errorf("got %v", got)
	}
}

func TestWindowsWithoutKeys(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	w := windowsOf(t, alloc, schema, 10, nil, Aggregate{"n", Count, -1})
	add(t, w, batchOf(t, alloc, schema, `[{"ts":1},{"ts":11},{"ts":2}]`), NoWatermark)
	if got := fired(t, w, math.MaxInt64); !slices.Equal(got, []string{"0 10 2", "10 20 1"}) {
		t.Errorf("got %v", got)
	}
}

// TestExtremesOfTime: windows at both ends of what a timestamp can hold.
func TestExtremesOfTime(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	w := windowsOf(t, alloc, schema, 1000, nil, Aggregate{"n", Count, -1})
	b := array.NewRecordBuilder(alloc, schema)
	defer b.Release()
	for _, ts := range []arrow.Timestamp{math.MinInt64, math.MinInt64 + 1, math.MaxInt64 - 1, math.MaxInt64 - 807, math.MaxInt64 - 808} {
		b.Field(0).(*array.TimestampBuilder).Append(ts)
		b.Field(1).AppendNull()
		b.Field(2).AppendNull()
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	if late := add(t, w, batch, NoWatermark); late != 0 {
		t.Errorf("%d late rows", late)
	}
	total := 0
	for _, line := range fired(t, w, math.MaxInt64) {
		var start, end, n int64
		fmt.Sscan(line, &start, &end, &n)
		if start >= end {
			t.Errorf("a window from %d to %d", start, end)
		}
		total += int(n)
	}
	if total != 5 {
		t.Errorf("%d of 5 rows came out", total)
	}
}

func TestEveryKeyTypeGroups(t *testing.T) {
	for _, c := range keyTypes {
		alloc := allocator(t)
		schema := inputSchema(c.typ, c.typ)
		if _, err := ResultType(Min, c.typ); err != nil {
			schema = inputSchema(c.typ, arrow.PrimitiveTypes.Int64)
		}
		key := fromJSON(t, alloc, c.typ, c.json)
		times := fromJSON(t, alloc, arrow.PrimitiveTypes.Int64, `[1,1,1,1,11]`)
		data := array.NewData(microseconds, 5, times.Data().Buffers(), nil, 0, 0)
		ts := array.MakeFromData(data)
		data.Release()
		value := key
		if !arrow.TypeEqual(schema.Field(2).Type, c.typ) {
			value = times
		}
		batch := array.NewRecordBatch(schema, []arrow.Array{ts, key, value}, 5)
		ts.Release()
		w := windowsOf(t, alloc, schema, 10, []int{1}, Aggregate{"n", Count, -1}, Aggregate{"lo", Min, 2}, Aggregate{"hi", Max, 2})
		add(t, w, batch, NoWatermark)
		w = roundTrip(t, w, 1)[0]
		a, b := value.ValueStr(0), value.ValueStr(2)
		if value == times {
			a, b = "1", "1"
		}
		none := map[bool]string{true: "(null)", false: "1"}[value == key]
		want := []string{
			fmt.Sprintf("0 10 (null) 1 %s %s", none, none),
			fmt.Sprintf("0 10 %s 1 %s %s", key.ValueStr(2), b, b), fmt.Sprintf("0 10 %s 2 %s %s", key.ValueStr(0), a, a),
		}
		if value == times {
			none = "11"
		}
		want = append(want, fmt.Sprintf("10 20 (null) 1 %s %s", none, none))
		slices.Sort(want)
		if got := fired(t, w, math.MaxInt64); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.typ, got, want)
		}
		batch.Release()
	}
}

// like makes windows with the options of others.
func like(t *testing.T, w *Windows) *Windows {
	t.Helper()
	out, err := NewWindows(w.options)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// roundTrip moves what w remembers to n others.
func roundTrip(t *testing.T, w *Windows, n int) []*Windows {
	t.Helper()
	saved := w.Snapshot()
	defer saved.Release()
	out := make([]*Windows, n)
	for i := range out {
		out[i] = like(t, w)
		if err := out[i].Restore(saved, i, n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestRandomRowsAgainstAMap compares with the plainest program there is, for
// batches of any size, with snapshots in between that change the number of
// subtasks.
func TestRandomRowsAgainstAMap(t *testing.T) {
	for _, valueType := range []arrow.DataType{
		arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Float64,
		arrow.PrimitiveTypes.Float32, &arrow.Decimal128Type{Precision: 20, Scale: 1},
	} {
		for _, batchRows := range []int{1, 7, 300} {
			alloc := allocator(t)
			schema := inputSchema(arrow.PrimitiveTypes.Int32, valueType)
			random := rand.New(rand.NewPCG(uint64(batchRows), 7))
			type cell struct {
				n, c        int64
				sum, lo, hi float64
			}
			want := map[[2]int64]*cell{}
			current := []*Windows{windowsOf(t, alloc, schema, 100, []int{1}, all...)}
			var got []string
			watermark, highest, late, wantLate := int64(NoWatermark), int64(0), int64(0), int64(0)
			const rows = 700
			for from := 0; from < rows; from += batchRows {
				var lines []string
				for i := from; i < min(from+batchRows, rows); i++ {
					ts := int64(i) - random.Int64N(150)
					key, v := random.Int64N(40), random.Int64N(100)
					highest = max(highest, ts)
					value := fmt.Sprint(v)
					if valueType.ID() == arrow.DECIMAL128 {
						value = fmt.Sprintf(`"%d.0"`, v)
					}
					if v < 10 {
						value = "null"
					}
					lines = append(lines, fmt.Sprintf(`{"ts":%d,"key":%d,"v":%s}`, ts, key, value))
					start := ts - ((ts%100)+100)%100
					if start+100 <= watermark {
						wantLate++
						continue
					}
					c := want[[2]int64{start, key}]
					if c == nil {
						c = &cell{lo: math.Inf(1), hi: math.Inf(-1)}
						want[[2]int64{start, key}] = c
					}
					c.n++
					if v >= 10 {
						c.c, c.sum, c.lo, c.hi = c.c+1, c.sum+float64(v), min(c.lo, float64(v)), max(c.hi, float64(v))
					}
				}
				batch, _, err := array.RecordFromJSON(alloc, schema, strings.NewReader("["+strings.Join(lines, ",")+"]"))
				if err != nil {
					t.Fatal(err)
				}
				late += addToAll(t, current, batch, watermark)
				batch.Release()
				watermark = highest - 60
				for _, w := range current {
					got = append(got, fired(t, w, watermark)...)
				}
				if from%(batchRows*9) == 0 {
					current = rescale(t, current, 1+random.IntN(4))
				}
			}
			for _, w := range current {
				got = append(got, fired(t, w, math.MaxInt64)...)
			}
			var lines []string
			for k, c := range want {
				line := fmt.Sprintf("%d %d %d %d %d", k[0], k[0]+100, k[1], c.n, c.c)
				if c.c == 0 {
					line += " (null) (null) (null) (null)"
				} else {
					line += fmt.Sprintf(" %v %v %v %v", c.sum, c.lo, c.hi, c.sum/float64(c.c))
				}
				lines = append(lines, line)
			}
			slices.Sort(lines)
			slices.Sort(got)
			if !slices.Equal(got, lines) || late != wantLate || wantLate == 0 {
				t.Errorf("%s, batches of %d: %d results instead of %d, %d late instead of %d", valueType, batchRows, len(got), len(lines), late, wantLate)
				for i := range min(len(got), len(lines)) {
					if got[i] != lines[i] {
						t.Fatalf("first difference: got %q, want %q", got[i], lines[i])
					}
				}
			}
		}
	}
}

// addToAll gives each row to the subtask of its key, as an exchange does.
func addToAll(t *testing.T, subtasks []*Windows, batch arrow.RecordBatch, watermark int64) (late int64) {
	t.Helper()
	if len(subtasks) == 1 {
		return add(t, subtasks[0], batch, watermark)
	}
	h := hashes(t, batch.Column(1))
	for row, hash := range h {
		part := batch.NewSlice(int64(row), int64(row)+1)
		late += add(t, subtasks[Subtask(hash, len(subtasks))], part, watermark)
		part.Release()
	}
	return late
}

func rescale(t *testing.T, from []*Windows, n int) []*Windows {
	t.Helper()
	w := from[0]
	to := make([]*Windows, n)
	for i := range to {
		to[i] = like(t, w)
	}
	for _, f := range from {
		saved := f.Snapshot()
		for i := range to {
			if err := to[i].Restore(saved, i, n); err != nil {
				t.Fatal(err)
			}
		}
		saved.Release()
	}
	return to
}

func TestOverflowIsAnError(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	rows := `[{"ts":1,"key":"a","v":9223372036854775807},{"ts":2,"key":"a","v":9223372036854775807},{"ts":3,"key":"a","v":%d}]`
	w := windowsOf(t, alloc, schema, 10, []int{1}, Aggregate{"total", Sum, 2}, Aggregate{"m", Avg, 2})
	add(t, w, batchOf(t, alloc, schema, fmt.Sprintf(rows, -9223372036854775807)), NoWatermark)
	if got := fired(t, w, 10); !slices.Equal(got, []string{"0 10 a 9223372036854775807 3.0744573456182584e+18"}) {
		t.Errorf("a sum that comes back into range is %v", got)
	}
	add(t, w, batchOf(t, alloc, schema, fmt.Sprintf(rows, 1)), NoWatermark)
	err := w.FireAll(func(batch arrow.RecordBatch) error { batch.Release(); return nil })
	if d := diag.From(err); d.Code != diag.WindowOverflow || !strings.Contains(d.Message, `"total"`) || d.Hint == "" {
		t.Errorf("got %v", d)
	}
	decimal := &arrow.Decimal128Type{Precision: 38}
	schema = inputSchema(arrow.BinaryTypes.String, decimal)
	w = windowsOf(t, alloc, schema, 10, []int{1}, Aggregate{"total", Sum, 2})
	big := strings.Repeat("9", 38)
	add(t, w, batchOf(t, alloc, schema, fmt.Sprintf(`[{"ts":1,"key":"a","v":%q},{"ts":1,"key":"a","v":%q}]`, big, big)), NoWatermark)
	if err := w.FireAll(func(batch arrow.RecordBatch) error { batch.Release(); return nil }); diag.From(err).Code != diag.WindowOverflow {
		t.Errorf("decimals: %v", err)
	}
}

func TestOrderOfFloats(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64)
	b := array.NewRecordBuilder(alloc, schema)
	defer b.Release()
	for _, v := range []float64{1, math.NaN(), math.Inf(-1), -0.5} {
		b.Field(0).(*array.TimestampBuilder).Append(1)
		b.Field(1).AppendNull()
		b.Field(2).(*array.Float64Builder).Append(v)
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	w := windowsOf(t, alloc, schema, 10, nil, Aggregate{"lo", Min, 2}, Aggregate{"hi", Max, 2})
	add(t, w, batch, NoWatermark)
	if got := fired(t, w, 10); !slices.Equal(got, []string{"0 10 -Inf NaN"}) {
		t.Errorf("got %v", got)
	}
}

func TestWhatCannotBeAggregatedIsSaid(t *testing.T) {
	list := arrow.ListOf(arrow.PrimitiveTypes.Int64)
	for name, c := range map[string]struct {
		schema *arrow.Schema
		keys   []int
		a      Aggregate
	}{
		"sum of a string": {inputSchema(arrow.BinaryTypes.String, arrow.BinaryTypes.String), nil, Aggregate{"s", Sum, 2}},
		"avg of nothing":  {inputSchema(arrow.BinaryTypes.String, arrow.BinaryTypes.String), nil, Aggregate{"s", Avg, -1}},
		"min of a list":   {inputSchema(arrow.BinaryTypes.String, list), nil, Aggregate{"s", Min, 2}},
		"list as key":     {inputSchema(list, arrow.PrimitiveTypes.Int64), []int{1}, Aggregate{"n", Count, -1}},
	} {
		_, err := NewWindows(WindowOptions{Size: 10 * time.Microsecond, Keys: keysOf(c.keys), Aggregates: []Aggregate{c.a}, Input: c.schema})
		if d := diag.From(err); d.Code != diag.TypeMismatch || d.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := NewWindows(WindowOptions{Size: 10 * time.Microsecond, Time: 1, Input: inputSchema(arrow.BinaryTypes.String, arrow.BinaryTypes.String)})
	if d := diag.From(err); d.Code != diag.TypeMismatch || !strings.Contains(d.Message, `"key"`) {
		t.Errorf("time: %v", err)
	}
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	w := windowsOf(t, alloc, schema, 10, nil, Aggregate{"n", Count, -1})
	_, err = w.Add(batchOf(t, alloc, schema, `[{"ts":1},{"ts":null}]`), NoWatermark)
	if d := diag.From(err); d.Code != diag.NullEventTime {
		t.Errorf("NULL time: %v", err)
	}
}

func TestARefusedResultReleasesTheRest(t *testing.T) {
	alloc := allocator(t)
	schema := inputSchema(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	w := windowsOf(t, alloc, schema, 1, []int{1}, Aggregate{"n", Count, -1})
	b := array.NewRecordBuilder(alloc, schema)
	defer b.Release()
	for i := range 3 * resultRowsMin {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		b.Field(1).AppendNull()
		b.Field(2).AppendNull()
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	add(t, w, batch, NoWatermark)
	boom, calls := errors.New("boom"), 0
	if err := w.FireAll(func(batch arrow.RecordBatch) error { batch.Release(); calls++; return boom }); !errors.Is(err, boom) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// BenchmarkWindows: count and sum over 1,000 keys in windows of a minute, from
// batches in memory.
func BenchmarkWindows(b *testing.B) {
	for _, batchRows := range []int{8192, 65536} {
		b.Run(fmt.Sprint(batchRows), func(b *testing.B) {
			schema := inputSchema(arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64)
			w, err := NewWindows(WindowOptions{
				Size: time.Minute, Keys: keysOf([]int{1}), Input: schema,
				Aggregates: []Aggregate{{"n", Count, -1}, {"s", Sum, 2}},
			})
			if err != nil {
				b.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			var batches []arrow.RecordBatch
			for i := range 16 {
				builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				for row := range batchRows {
					builder.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp((i*batchRows + row) * 10))
					builder.Field(1).(*array.Int64Builder).Append(random.Int64N(1000))
					builder.Field(2).(*array.Int64Builder).Append(random.Int64N(100))
				}
				batches = append(batches, builder.NewRecordBatch())
				builder.Release()
			}
			rows := 0
			for b.Loop() {
				for _, batch := range batches {
					if _, err := w.Add(batch, NoWatermark); err != nil {
						b.Fatal(err)
					}
					rows += batchRows
				}
				if err := w.FireAll(func(batch arrow.RecordBatch) error { batch.Release(); return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}
