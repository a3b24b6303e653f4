package exec

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrival is what a vertex gets, and when.
type arrival struct {
	Element
	rows int64
	at   time.Duration
}

// coalesced runs feed before a vertex of one subtask and gives what reaches it,
// and all ids.
func coalesced(t *testing.T, v *Vertex, feed operatorFunc) (got []arrival, all []int64) {
	t.Helper()
	began := time.Now()
	v.ID, v.Inputs = "f", []string{"source"}
	v.New = only(operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		for {
			e, err := in[0].Next(ctx)
			if err != nil || e.Kind == KindEnd {
				return err
			}
			a := arrival{Element: e, at: time.Since(began)}
			if e.Batch != nil {
				a.rows = e.Batch.NumRows()
				all = append(all, ids(e.Batch)...)
				e.Release()
			}
			got = append(got, a)
		}
	}))
	g := graphOf(t, Options{}, &Vertex{ID: "source", New: only(feed)}, v)
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return got, all
}

func rowsOf(got []arrival) (rows []int64) {
	for _, a := range got {
		rows = append(rows, a.rows)
	}
	return rows
}

// busyMeter has a bundle in flight and knows what rows cost, which is nothing.
func busyMeter() *Meter {
	m := &Meter{}
	m.Took(1, time.Nanosecond)
	m.Submitted()
	return m
}

func TestSmallBatchesAreJoined(t *testing.T) {
	for _, test := range []struct {
		name    string
		how     Coalescing
		batches []int64
		want    []int64
	}{
		{"by rows", Coalescing{RowsMax: 100, BytesMax: 1 << 20}, slices.Repeat([]int64{20}, 11), []int64{60, 60, 60, 40}},
		{"by bytes", Coalescing{RowsMax: 1 << 20, BytesMax: 10 * (8*10 + 2)}, slices.Repeat([]int64{10}, 13), []int64{60, 60, 10}},
		{"large ones pass", Coalescing{RowsMax: 100, BytesMax: 1 << 20}, []int64{5, 5, 99, 300, 5}, []int64{10, 99, 300, 5}},
		{"below a limit", Coalescing{RowsMax: 1 << 20, BytesMax: 1 << 20, FirstRows: 64}, slices.Repeat([]int64{10}, 60), []int64{40, 130, 430}},
	} {
		t.Run(test.name, func(t *testing.T) {
			alloc := allocator(t)
			total := int64(0)
			got, all := coalesced(t, &Vertex{Meter: busyMeter(), Coalesce: &test.how}, func(ctx context.Context, _ []*Input, out *Output) error {
				for _, rows := range test.batches {
					total += rows
					if err := out.EmitBatch(ctx, idBatch(alloc, total-rows, total)); err != nil {
						return err
					}
				}
				return nil
			})
			if rows := rowsOf(got); !slices.Equal(rows, test.want) {
				t.Errorf("batches of %v rows, not %v", rows, test.want)
			}
			if !slices.Equal(all, upTo(total)) {
				t.Error("rows are missing or out of order")
			}
		})
	}
}

// A Join makes several batches of what is held, also of one, and what a stopped
// consumer does not take is released.
func TestBatchesAreJoinedByAFunction(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		alloc := allocator(t)
		halves := func(_ context.Context, batches []arrow.RecordBatch) (joined []arrow.RecordBatch, err error) {
			for _, batch := range batches {
				half := batch.NumRows() / 2
				joined = append(joined, batch.NewSlice(0, half), batch.NewSlice(half, batch.NumRows()))
			}
			return joined, nil
		}
		v := &Vertex{Meter: busyMeter(), Coalesce: &Coalescing{RowsMax: 100, BytesMax: 1 << 20, Join: halves}}
		feed := source(alloc, 1, 120).(operatorFunc)
		if !stopped {
			got, all := coalesced(t, v, feed)
			if rows := rowsOf(got); !slices.Equal(rows, []int64{60, 60}) || !slices.Equal(all, upTo(120)) {
				t.Errorf("batches of %v rows", rows)
			}
			continue
		}
		v.ID, v.Inputs = "f", []string{"source"}
		v.New = only(operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
			e, err := in[0].Next(ctx)
			e.Release()
			return err
		}))
		g := graphOf(t, Options{QueueBytes: 1}, &Vertex{ID: "source", New: only(feed)}, v)
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What a function costs bounds what is put together for it, and until that is
// known nothing is held back from workers that have nothing to do.
func TestBatchesAreJoinedToTheMeasuredSize(t *testing.T) {
	slow := &Meter{}
	slow.Took(100, 100*time.Millisecond) // 50 rows take as long as a bundle should
	slow.Submitted()
	for name, test := range map[string]struct {
		meter *Meter
		want  []int64
	}{"slow": {slow, []int64{30, 30, 30, 10}}, "unknown": {&Meter{}, slices.Repeat([]int64{10}, 10)}} {
		got, _ := coalesced(t, &Vertex{Meter: test.meter, Coalesce: &Coalescing{RowsMax: 1 << 16, BytesMax: 1 << 20}},
			source(memory.DefaultAllocator, 10, 10).(operatorFunc))
		if rows := rowsOf(got); !slices.Equal(rows, test.want) {
			t.Errorf("%s: batches of %v rows, not %v", name, rows, test.want)
		}
	}
}

func TestNothingIsHeldBackAtOtherElements(t *testing.T) {
	alloc := allocator(t)
	at := time.Unix(7, 0).UTC()
	got, all := coalesced(t, &Vertex{Stream: true, Meter: busyMeter(), Coalesce: &Coalescing{RowsMax: 1 << 16, BytesMax: 1 << 20}},
		func(ctx context.Context, _ []*Input, out *Output) error {
			for i, e := range []Element{
				{Kind: KindBatch},
				{Kind: KindBatch},
				{Kind: KindWatermark, Watermark: at},
				{Kind: KindBatch},
				{Kind: KindBarrier, Barrier: 3},
				{Kind: KindBarrier, Barrier: 4},
				{Kind: KindBatch},
				{Kind: KindControl, Control: "model"},
				{Kind: KindBatch},
				{Kind: KindBatch, More: true},
			} {
				if e.Kind == KindBatch {
					e.Batch = idBatch(alloc, int64(i), int64(i)+1)
				}
				if err := out.Emit(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	var kinds []Kind
	for _, a := range got {
		kinds = append(kinds, a.Kind)
	}
	want := []Kind{KindBatch, KindWatermark, KindBatch, KindBarrier, KindBarrier, KindBatch, KindControl, KindBatch, KindBatch}
	if !slices.Equal(kinds, want) || got[0].rows != 2 || !got[1].Watermark.Equal(at) || got[4].Barrier != 4 || !got[8].More {
		t.Errorf("got %v of %v rows", kinds, rowsOf(got))
	}
	if !slices.Equal(all, []int64{0, 1, 3, 6, 8, 9}) {
		t.Errorf("rows %v", all)
	}
}

// A row of a stream waits for others while its workers are busy only, and not
// for long.
func TestAStreamIsHeldBackForMoments(t *testing.T) {
	slowly := func(ctx context.Context, _ []*Input, out *Output) error {
		for i := range int64(6) {
			if err := out.EmitBatch(ctx, idBatch(memory.DefaultAllocator, i, i+1)); err != nil {
				return err
			}
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(time.Second)
		return nil
	}
	for name, test := range map[string]struct {
		stream, busy bool
		idleAt       time.Duration
		want         []int64
		last         time.Duration
	}{
		"idle stream":               {stream: true, want: []int64{1, 1, 1, 1, 1, 1}, last: 15 * time.Millisecond},
		"busy stream":               {stream: true, busy: true, want: []int64{2, 2, 2}, last: 12*time.Millisecond + streamHold},
		"stream with an answer":     {stream: true, busy: true, idleAt: 4 * time.Millisecond, want: []int64{2, 1, 1, 1, 1}, last: 15 * time.Millisecond},
		"idle input with an end":    {want: []int64{6}, last: boundedHold},
		"busy input with an end":    {busy: true, want: []int64{6}, last: 18*time.Millisecond + time.Second},
		"input with an end, answer": {busy: true, idleAt: 500 * time.Millisecond, want: []int64{6}, last: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &Meter{}
				m.Took(1, time.Nanosecond)
				if test.busy {
					m.Submitted()
				}
				if test.idleAt > 0 {
					time.AfterFunc(test.idleAt, m.Answered)
				}
				got, all := coalesced(t, &Vertex{Stream: test.stream, Meter: m, Coalesce: &Coalescing{RowsMax: 1 << 16, BytesMax: 1 << 20}}, slowly)
				if rows := rowsOf(got); !slices.Equal(rows, test.want) || got[len(got)-1].at != test.last {
					t.Errorf("batches of %v rows, the last one at %v; not %v, %v", rows, got[len(got)-1].at, test.want, test.last)
				}
				if !slices.Equal(all, upTo(6)) {
					t.Errorf("rows %v", all)
				}
			})
		})
	}
}

// The order of rows and their numbers are those of the input with several
// subtasks too, and a reader that stops ends the source.
func TestJoinedBatchesAmongSubtasks(t *testing.T) {
	for _, limit := range []int64{0, 500} {
		alloc := allocator(t)
		pass := operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
			for {
				e, err := in[0].Next(ctx)
				if err != nil || e.Kind == KindEnd {
					return err
				}
				if e.Batch != nil && (e.Batch.NumRows() < 2 || e.FirstRow != ids(e.Batch)[0]) {
					t.Errorf("row %d: a batch of %d rows that begins with %d", e.FirstRow, e.Batch.NumRows(), ids(e.Batch)[0])
				}
				if err := out.Emit(ctx, e); err != nil {
					return err
				}
			}
		})
		var got []int64
		sink := operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
			if limit == 0 {
				return sinkInto(&got).Run(ctx, in, out)
			}
			for int64(len(got)) < limit {
				e, err := in[0].Next(ctx)
				if err != nil {
					return err
				}
				got = append(got, ids(e.Batch)...)
				e.Release()
			}
			return nil
		})
		rows := int64(10_000)
		g := graphOf(t, Options{Allocator: alloc},
			&Vertex{ID: "source", New: only(source(alloc, int(rows/2), 2))},
			&Vertex{ID: "f", Inputs: []string{"source"}, Parallelism: 3, New: only(pass), Meter: busyMeter(), Coalesce: &Coalescing{RowsMax: 64, BytesMax: 1 << 20}},
			&Vertex{ID: "sink", Inputs: []string{"f"}, New: only(sink)})
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if limit > 0 {
			rows = int64(len(got))
		}
		if !slices.Equal(got, upTo(rows)) {
			t.Errorf("limit %d: %d rows, or out of order", limit, len(got))
		}
	}
}

func TestWhatIsHeldIsReleasedOnFailure(t *testing.T) {
	alloc := allocator(t)
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
			for i := range int64(3) {
				if err := out.EmitBatch(ctx, idBatch(alloc, i, i+1)); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}))},
		&Vertex{ID: "f", Inputs: []string{"source"}, Meter: busyMeter(), Coalesce: &Coalescing{RowsMax: 64, BytesMax: 1 << 20}, New: only(sinkInto(new([]int64)))})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := g.Run(ctx); err == nil {
		t.Error("the job was not cancelled")
	}
}

func TestSliceBytes(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Float64},
		{Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int32)},
		{Name: "r", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.FixedWidthTypes.Boolean})},
	}, nil))
	defer b.Release()
	for range 1_000 {
		b.Field(0).(*array.Float64Builder).Append(1)
		b.Field(1).(*array.StringBuilder).Append("twelve bytes")
		l := b.Field(2).(*array.ListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Int32Builder).AppendValues([]int32{1, 2, 3}, nil)
		r := b.Field(3).(*array.StructBuilder)
		r.Append(true)
		r.FieldBuilder(0).(*array.BooleanBuilder).Append(true)
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	slice := batch.NewSlice(100, 116)
	defer slice.Release()
	each := int64(8 + 4 + 12 + 4 + 3*4)
	for _, test := range []arrow.RecordBatch{batch, slice} {
		rows := test.NumRows()
		if got := SliceBytes(test); got < rows*each || got > rows*(each+4) {
			t.Errorf("%d bytes for %d rows of about %d", got, rows, each)
		}
	}
}
