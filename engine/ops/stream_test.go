package ops

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// keptKeeper keeps what a subtask remembers for the next one to restore.
type keptKeeper struct {
	barriers chan uint64
	kept     []exec.Snapshot
}

func (k *keptKeeper) Barriers() <-chan uint64            { return k.barriers }
func (k *keptKeeper) Restored() ([]exec.Snapshot, error) { return slices.Clone(k.kept), nil }
func (k *keptKeeper) Keep(_ context.Context, _ uint64, s exec.Snapshot) error {
	k.kept = []exec.Snapshot{s}
	return nil
}

// told writes down what reaches it, the first column of rows.
type told struct {
	events []string
	stop   int // after so many rows; 0 for never
	rows   int
}

func (k *told) Run(ctx context.Context, in []*exec.Input, _ *exec.Output) error {
	for {
		e, err := in[0].Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return err
		}
		switch e.Kind {
		case exec.KindBatch:
			for i := range int(e.Batch.NumRows()) {
				k.events = append(k.events, e.Batch.Column(0).ValueStr(i))
				k.rows++
			}
			e.Release()
		case exec.KindWatermark:
			k.events = append(k.events, fmt.Sprintf("w%d", e.Watermark.UnixMicro()))
		case exec.KindBarrier:
			k.events = append(k.events, fmt.Sprintf("b%d", e.Barrier))
		}
		if k.stop > 0 && k.rows >= k.stop {
			return nil
		}
	}
}

func runStream(t *testing.T, sink *told, operators ...exec.Operator) {
	t.Helper()
	g := exec.NewGraph(exec.Options{})
	for i, o := range append(operators, exec.Operator(sink)) {
		v := &exec.Vertex{ID: fmt.Sprint(i), Parallelism: 1, New: func(int) exec.Operator { return o }, Schema: oneColumn}
		if i > 0 {
			v.Inputs = []string{fmt.Sprint(i - 1)}
		}
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func sequence(rows int64, batchRows int, rate float64, keeper exec.Keeper, alloc memory.Allocator) *Generate {
	spec := plan.Generate{
		Columns: []plan.GeneratedColumn{{Name: "id", Kind: plan.GenerateSequence, Step: 1}},
		Rows:    &rows, BatchRows: batchRows, RowsPerSecond: rate,
	}
	return &Generate{Spec: spec, Schema: spec.Schema(), Keeper: keeper, Allocator: alloc}
}

func TestAGeneratorKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		sink, began := &told{}, time.Now()
		runStream(t, sink, sequence(500, 64, 100, exec.NoKeeper{}, alloc))
		if took := time.Since(began).Round(time.Millisecond); took != 5*time.Second || sink.rows != 500 {
			t.Errorf("%d rows in %v", sink.rows, took)
		}
		alloc.AssertSize(t, 0)
	})
}

// TestABarrierDoesNotWaitForRows: a slow generator answers at once, and goes
// on exactly there.
func TestABarrierDoesNotWaitForRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		keeper := &keptKeeper{barriers: make(chan uint64, 1)}
		time.AfterFunc(25*time.Second, func() { keeper.barriers <- 7 })
		sink := &told{}
		runStream(t, sink, sequence(4, 1, 0.1, keeper, alloc))
		if want := []string{"0", "1", "b7", "2", "3"}; !slices.Equal(sink.events, want) {
			t.Errorf("got %v, want %v", sink.events, want)
		}
		again := &told{}
		runStream(t, again, sequence(4, 1, 0, keeper, alloc))
		if want := []string{"2", "3"}; !slices.Equal(again.events, want) {
			t.Errorf("after the restore: %v, want %v", again.events, want)
		}
		alloc.AssertSize(t, 0)
	})
}

// given emits elements.
type given []exec.Element

func (g given) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	for i, e := range g {
		if err := out.Emit(ctx, e); err != nil {
			for _, rest := range g[i+1:] {
				rest.Release()
			}
			return err
		}
	}
	return nil
}

var timeSchema = arrow.NewSchema([]arrow.Field{{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}}, nil)

func times(alloc memory.Allocator, values ...int64) exec.Element {
	b := array.NewRecordBuilder(alloc, timeSchema)
	defer b.Release()
	for _, v := range values {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(v))
	}
	return exec.BatchElement(b.NewRecordBatch())
}

// places gives, for each watermark and barrier, the number of rows before it.
func places(events []string) (out []string) {
	rows := 0
	for _, e := range events {
		if e[0] == 'w' || e[0] == 'b' {
			out = append(out, fmt.Sprintf("%s@%d", e, rows))
			continue
		}
		rows++
	}
	return out
}

func TestWatermarksStandBehindTheirRow(t *testing.T) {
	values := []int64{3, 1, 12, 11, 13, 35, 20, 36, -5, 47}
	want := []string{"w1@1", "w10@3", "w33@6", "w45@10"}
	for size := 1; size <= len(values); size++ {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		var in given
		for from := 0; from < len(values); from += size {
			in = append(in, times(alloc, values[from:min(from+size, len(values))]...))
		}
		sink := &told{}
		work := &plan.Watermarking{Delay: 2 * time.Microsecond, Step: 10 * time.Microsecond}
		runStream(t, sink, in, NewWatermark(work, timeSchema, exec.NoKeeper{}))
		if got := places(sink.events); !slices.Equal(got, want) || sink.rows != len(values) {
			t.Errorf("batches of %d: %v, want %v", size, got, want)
		}
		alloc.AssertSize(t, 0)
	}
}

func TestAWatermarkGoesOnWhereItWas(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	keeper := &keptKeeper{}
	work := &plan.Watermarking{Step: 10 * time.Microsecond}
	first := &told{}
	barrier := exec.Element{Kind: exec.KindBarrier, Barrier: 1}
	runStream(t, first, given{times(alloc, 25), barrier}, NewWatermark(work, timeSchema, keeper))
	second := &told{}
	runStream(t, second, given{times(alloc, 24, 29, 31)}, NewWatermark(work, timeSchema, keeper))
	if a, b := places(first.events), places(second.events); !slices.Equal(a, []string{"w25@1", "b1@1"}) || !slices.Equal(b, []string{"w31@3"}) {
		t.Errorf("%v, then %v", a, b)
	}
	alloc.AssertSize(t, 0)
}

func TestALimitRemembersWhatItHasSeen(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	keeper := &keptKeeper{}
	work := plan.Limiting{N: 3, Offset: 2}
	barrier := exec.Element{Kind: exec.KindBarrier, Barrier: 1}
	first := &told{}
	runStream(t, first, given{times(alloc, 0, 1, 2), barrier}, &Limit{Work: work, Keeper: keeper})
	second := &told{}
	runStream(t, second, given{times(alloc, 3, 4, 5), times(alloc, 6)}, &Limit{Work: work, Keeper: keeper})
	if first.rows != 1 || second.rows != 2 || !slices.Equal(places(first.events), []string{"b1@1"}) {
		t.Errorf("%v, then %v", first.events, second.events)
	}
	none := &told{}
	runStream(t, none, given{times(alloc, 0)}, &Limit{Keeper: exec.NoKeeper{}})
	if none.rows != 0 {
		t.Errorf("a limit of nothing passed %v", none.events)
	}
	alloc.AssertSize(t, 0)
}
