package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
)

var idSchema = arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

// allocator fails the test if Arrow memory is left at its end.
func allocator(t *testing.T) memory.Allocator {
	t.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { checked.AssertSize(t, 0) })
	return checked
}

func idBatch(alloc memory.Allocator, from, to int64) arrow.RecordBatch {
	b := array.NewInt64Builder(alloc)
	defer b.Release()
	for i := from; i < to; i++ {
		b.Append(i)
	}
	column := b.NewArray()
	defer column.Release()
	return array.NewRecordBatch(idSchema, []arrow.Array{column}, to-from)
}

func ids(batch arrow.RecordBatch) []int64 {
	return slices.Clone(batch.Column(0).(*array.Int64).Int64Values())
}

// operatorFunc makes an operator of a function.
type operatorFunc func(ctx context.Context, in []*Input, out *Output) error

func (f operatorFunc) Run(ctx context.Context, in []*Input, out *Output) error {
	return f(ctx, in, out)
}

func source(alloc memory.Allocator, batches int, rows int64) Operator {
	return operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
		for i := range int64(batches) {
			if err := out.EmitBatch(ctx, idBatch(alloc, i*rows, (i+1)*rows)); err != nil {
				return err
			}
		}
		return nil
	})
}

// sinkInto appends every id it is given.
func sinkInto(got *[]int64) Operator {
	return operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		reader := in[0].Batches()
		for {
			batch, err := reader.Next(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			*got = append(*got, ids(batch)...)
			batch.Release()
		}
	})
}

func only(operator Operator) func(int) Operator { return func(int) Operator { return operator } }

func graphOf(t *testing.T, options Options, vertices ...*Vertex) *Graph {
	t.Helper()
	g := NewGraph(options)
	for _, v := range vertices {
		if v.Parallelism == 0 {
			v.Parallelism = 1
		}
		v.Schema = idSchema
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func upTo(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alloc := allocator(t)
		q := NewQueue(2 * BatchBytes(idBatchOnce(t, alloc, 1000)))
		var put atomic.Int32
		go func() {
			for range 5 {
				if err := q.Put(t.Context(), BatchElement(idBatch(alloc, 0, 1000))); err != nil {
					t.Error(err)
				}
				put.Add(1)
			}
		}()
		synctest.Wait()
		if put.Load() != 2 {
			t.Fatalf("%d batches fit into a queue of two", put.Load())
		}
		for range 5 {
			e, err := q.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			e.Release()
		}
	})
}

func idBatchOnce(t *testing.T, alloc memory.Allocator, rows int64) arrow.RecordBatch {
	t.Helper()
	batch := idBatch(alloc, 0, rows)
	t.Cleanup(batch.Release)
	return batch
}

func TestQueueTakesALargeElementWhenEmpty(t *testing.T) {
	alloc := allocator(t)
	q := NewQueue(1)
	if err := q.Put(t.Context(), BatchElement(idBatch(alloc, 0, 1000))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := q.Put(ctx, BatchElement(idBatch(alloc, 0, 1))); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second element went in: %v", err)
	}
	q.Close()
	if err := q.Put(t.Context(), BatchElement(idBatch(alloc, 0, 1))); !errors.Is(err, ErrStopped) {
		t.Fatalf("a closed queue says %v", err)
	}
}

// TestParallelVertexKeepsOrder runs an operator on four subtasks of different
// and changing speed; elements other than batches keep their place too.
func TestParallelVertexKeepsOrder(t *testing.T) {
	alloc := allocator(t)
	const batches, rows = 200, 10
	var order []string
	mixed := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
		for i := range int64(batches) {
			if err := out.EmitBatch(ctx, idBatch(alloc, i*rows, (i+1)*rows)); err != nil {
				return err
			}
			if i%50 == 49 {
				if err := out.Emit(ctx, Element{Kind: KindWatermark, Watermark: time.Unix(i, 0)}); err != nil {
					return err
				}
				if err := out.Emit(ctx, Element{Kind: KindBarrier, Barrier: uint64(i)}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	slow := func(int) Operator { return Handle(&dawdling{random: rand.New(rand.NewPCG(1, 2))}) }
	sink := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		for {
			e, err := in[0].Next(ctx)
			if err != nil || e.Kind == KindEnd {
				return err
			}
			switch e.Kind {
			case KindBatch:
				order = append(order, fmt.Sprint(ids(e.Batch)[0]/rows))
				e.Release()
			case KindWatermark:
				order = append(order, fmt.Sprintf("w%d", e.Watermark.Unix()))
			case KindBarrier:
				order = append(order, fmt.Sprintf("b%d", e.Barrier))
			}
		}
	})
	g := graphOf(t, Options{QueueBytes: 4096},
		&Vertex{ID: "source", New: only(mixed)},
		&Vertex{ID: "slow", Parallelism: 4, New: slow, Inputs: []string{"source"}},
		&Vertex{ID: "sink", New: only(sink), Inputs: []string{"slow"}},
	)
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range batches {
		want = append(want, fmt.Sprint(i))
		if i%50 == 49 {
			want = append(want, fmt.Sprintf("w%d", i), fmt.Sprintf("b%d", i))
		}
	}
	if !slices.Equal(order, want) {
		t.Fatalf("order lost:\n got %v\nwant %v", order, want)
	}
	for _, p := range g.Progress() {
		if p.State != "done" {
			t.Errorf("%s is %s after the end", p.ID, p.State)
		}
	}
	if p := g.Progress()[1]; p.RowsIn != batches*rows || p.RowsOut != batches*rows {
		t.Errorf("the parallel vertex counted %d rows in and %d out", p.RowsIn, p.RowsOut)
	}
}

// dawdling passes everything on, some of it late, some batches in two pieces.
type dawdling struct {
	PassThrough
	random *rand.Rand
}

func (d *dawdling) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *Output) error {
	time.Sleep(time.Duration(d.random.IntN(300)) * time.Microsecond)
	return out.EmitBatch(ctx, batch)
}

func TestRowsAreNumberedAcrossSubtasks(t *testing.T) {
	alloc := allocator(t)
	var wrong atomic.Int32
	check := func(int) Operator {
		return operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
			for {
				e, err := in[0].Next(ctx)
				if err != nil || e.Kind == KindEnd {
					return err
				}
				if e.Kind == KindBatch && ids(e.Batch)[0] != e.FirstRow {
					wrong.Add(1)
				}
				if err := out.Emit(ctx, e); err != nil {
					return err
				}
			}
		})
	}
	var got []int64
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(source(alloc, 30, 7))},
		&Vertex{ID: "one", New: check, Inputs: []string{"source"}},
		&Vertex{ID: "many", Parallelism: 3, New: check, Inputs: []string{"one"}},
		&Vertex{ID: "sink", New: only(sinkInto(&got)), Inputs: []string{"many"}},
	)
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wrong.Load() > 0 || !slices.Equal(got, upTo(210)) {
		t.Fatalf("%d batches with a wrong first row; rows %d", wrong.Load(), len(got))
	}
}

// TestFanOutDoesNotBlock reads one vertex twice; the second reader starts only
// when the first has ended, which plain bounded queues would never reach.
func TestFanOutDoesNotBlock(t *testing.T) {
	for _, memoryBytes := range []int64{1, 10_000, 1 << 30} {
		t.Run(fmt.Sprint(memoryBytes), func(t *testing.T) {
			alloc := allocator(t)
			firstDone := make(chan struct{})
			var first, second []int64
			late := operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
				<-firstDone
				return sinkInto(&second).Run(ctx, in, out)
			})
			early := operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
				defer close(firstDone)
				return sinkInto(&first).Run(ctx, in, out)
			})
			dir := t.TempDir()
			g := graphOf(t, Options{QueueBytes: 1000, SpoolBytes: memoryBytes, SpillDir: dir},
				&Vertex{ID: "source", New: only(source(alloc, 100, 100))},
				&Vertex{ID: "first", New: only(early), Inputs: []string{"source"}},
				&Vertex{ID: "second", New: only(late), Inputs: []string{"source"}},
			)
			if err := g.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := upTo(10_000); !slices.Equal(first, want) || !slices.Equal(second, want) {
				t.Fatalf("read %d and %d rows", len(first), len(second))
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Fatalf("the spool left %d files", len(left))
			}
		})
	}
}

func TestFailureEndsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	alloc := allocator(t)
	boom := errors.New("boom")
	endless := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
		for {
			if err := out.EmitBatch(ctx, idBatch(alloc, 0, 10)); err != nil {
				return err
			}
		}
	})
	failing := func(subtask int) Operator {
		return operatorFunc(func(ctx context.Context, in []*Input, out *Output) error {
			for n := 0; ; n++ {
				e, err := in[0].Next(ctx)
				if err != nil {
					return err
				}
				if subtask == 2 && n == 20 {
					e.Release()
					return boom
				}
				if err := out.Emit(ctx, e); err != nil {
					return err
				}
			}
		})
	}
	var got []int64
	g := graphOf(t, Options{QueueBytes: 2000},
		&Vertex{ID: "source", New: only(endless)},
		&Vertex{ID: "failing", Parallelism: 3, New: failing, Inputs: []string{"source"}},
		&Vertex{ID: "sink", New: only(sinkInto(&got)), Inputs: []string{"failing"}},
	)
	if err := g.Run(t.Context()); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func TestFaultIsADiagnostic(t *testing.T) {
	g := graphOf(t, Options{}, &Vertex{ID: "bad", Name: "bad", New: only(operatorFunc(
		func(context.Context, []*Input, *Output) error { panic("out of range") },
	))})
	if d := diag.From(g.Run(t.Context())); d.Code != diag.Internal || d.Message != "operator bad stopped by a fault" {
		t.Fatalf("got %v", d)
	}
}

func TestReaderThatStopsEndsItsProducers(t *testing.T) {
	alloc := allocator(t)
	var emitted atomic.Int64
	endless := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
		for {
			emitted.Add(1)
			if err := out.EmitBatch(ctx, idBatch(alloc, 0, 10)); err != nil {
				return err
			}
		}
	})
	first := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		e, err := in[0].Next(ctx)
		e.Release()
		return err
	})
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(endless)},
		&Vertex{ID: "middle", Parallelism: 2, New: func(int) Operator { return Handle(PassThrough{}) }, Inputs: []string{"source"}},
		&Vertex{ID: "first", New: only(first), Inputs: []string{"middle"}},
	)
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestStopReachesWorkInFlight: an operator that is busy, and emits nothing, is
// told that nobody wants its output any more, whatever lies between the two.
func TestStopReachesWorkInFlight(t *testing.T) {
	for name, middle := range map[string]func() *Vertex{
		"queue":     func() *Vertex { return &Vertex{} },
		"rebalance": func() *Vertex { return &Vertex{Parallelism: 3} },
		"hash":      func() *Vertex { return &Vertex{Parallelism: 3, Keyed: true, Keys: []int{0}} },
		"stream":    func() *Vertex { return &Vertex{Stream: true} },
	} {
		for _, readers := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d readers", name, readers), func(t *testing.T) {
				stopsBusyWork(t, middle(), readers)
			})
		}
	}
}

// stopsBusyWork runs a vertex whose subtasks never end by themselves, below
// readers of which each takes nothing: the last one only when the others have
// ended.
func stopsBusyWork(t *testing.T, middle *Vertex, readers int) {
	t.Helper()
	alloc := allocator(t)
	var causes sync.Map
	var gone atomic.Int32
	busy := func(subtask int) Operator {
		return operatorFunc(func(ctx context.Context, _ []*Input, _ *Output) error {
			<-ctx.Done()
			if int(gone.Load()) != readers {
				t.Error("the work was stopped although somebody waits for it")
			}
			causes.Store(subtask, context.Cause(ctx))
			return errors.New("work that was given up fails, but nobody cares")
		})
	}
	middle.ID, middle.New, middle.Inputs = "busy", busy, []string{"source"}
	vertices := []*Vertex{{ID: "source", New: only(source(alloc, 5, 10))}, middle}
	for i := range readers {
		vertices = append(vertices, &Vertex{ID: fmt.Sprint("reader", i), Inputs: []string{"busy"}, New: only(operatorFunc(
			func(context.Context, []*Input, *Output) error {
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				gone.Add(1)
				return nil
			}))})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := graphOf(t, Options{SpillDir: t.TempDir()}, vertices...).Run(ctx); err != nil {
		t.Fatal(err)
	}
	for subtask := range max(1, middle.Parallelism) {
		cause, _ := causes.Load(subtask)
		if err, ok := cause.(error); !ok || !errors.Is(err, ErrStopped) {
			t.Errorf("subtask %d ended with the cause %v", subtask, cause)
		}
	}
}

// TestAFailureBeforeTheStopCounts: only what goes wrong after it is nobody's
// business.
func TestAFailureBeforeTheStopCounts(t *testing.T) {
	var got []int64
	broken := errors.New("broken")
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(operatorFunc(func(context.Context, []*Input, *Output) error { return broken }))},
		&Vertex{ID: "sink", New: only(sinkInto(&got)), Inputs: []string{"source"}},
	)
	if err := g.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestAQueueTellsOnceThatItIsClosed(t *testing.T) {
	q, told := NewQueue(1000), 0
	q.OnClose(func() { told++ })
	q.Close()
	q.Close()
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if q.OnClose(func() { told++ }); told != 2 {
		t.Error("a queue that is closed says nothing")
	}
}

func TestCancelReachesBlockedSubtasks(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting := operatorFunc(func(ctx context.Context, _ []*Input, _ *Output) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	var got []int64
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(waiting)},
		&Vertex{ID: "sink", New: only(sinkInto(&got)), Inputs: []string{"source"}},
	)
	reason := errors.New("enough")
	time.AfterFunc(10*time.Millisecond, func() { cancel(reason) })
	if err := g.Run(ctx); !errors.Is(err, reason) {
		t.Fatalf("got %v", err)
	}
}

func TestAddRefusesWhatCannotRun(t *testing.T) {
	g := graphOf(t, Options{}, &Vertex{ID: "a", New: only(nil)})
	for name, v := range map[string]*Vertex{
		"twice":          {ID: "a", Parallelism: 1},
		"unknown input":  {ID: "b", Parallelism: 1, Inputs: []string{"x"}},
		"no subtask":     {ID: "c"},
		"parallel start": {ID: "d", Parallelism: 2},
	} {
		if err := g.Add(v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSpoolIsReadAgain reads a spool that keeps everything, while it is being
// written and afterwards, from memory and from files.
func TestSpoolIsReadAgain(t *testing.T) {
	for _, memoryBytes := range []int64{0, 3000, 1 << 30} {
		t.Run(fmt.Sprint(memoryBytes), func(t *testing.T) {
			alloc := allocator(t)
			s, err := NewSpool(idSchema, SpoolOptions{MemoryBytes: memoryBytes, Dir: t.TempDir(), Allocator: alloc})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			early, err := s.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for i := range int64(50) {
					if err := s.Put(t.Context(), BatchElement(idBatch(alloc, i*20, (i+1)*20))); err != nil {
						t.Error(err)
					}
				}
				if err := s.Put(t.Context(), Element{Kind: KindEnd}); err != nil {
					t.Error(err)
				}
			}()
			for range 3 {
				if got := readAll(t, early); !slices.Equal(got, upTo(1000)) {
					t.Fatalf("read %d rows", len(got))
				}
				if early, err = s.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			early.Close()
		})
	}
}

func readAll(t *testing.T, reader BatchReader) []int64 {
	t.Helper()
	defer reader.Close()
	var got []int64
	for {
		batch, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(batch)...)
		batch.Release()
	}
}

func TestSpoolSaysWhenTheDiskFails(t *testing.T) {
	alloc := allocator(t)
	s, err := NewSpool(idSchema, SpoolOptions{Dir: t.TempDir() + "/missing", Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := diag.From(s.Put(t.Context(), BatchElement(idBatch(alloc, 0, 10))))
	if d == nil || d.Code != diag.OutputUnwritable || d.Hint == "" {
		t.Fatalf("got %v", d)
	}
}

func TestNormalize(t *testing.T) {
	alloc := allocator(t)
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "d", Type: dictionary, Nullable: true}}, nil)
	b := array.NewDictionaryBuilder(alloc, dictionary).(*array.BinaryDictionaryBuilder)
	defer b.Release()
	for _, v := range []string{"a", "b", "a"} {
		if err := b.AppendString(v); err != nil {
			t.Fatal(err)
		}
	}
	b.AppendNull()
	column := b.NewArray()
	defer column.Release()
	normal := NormalSchema(schema)
	batch, err := Normalize(t.Context(), array.NewRecordBatch(schema, []arrow.Array{column}, 4), normal)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	if got := fmt.Sprint(batch.Column(0)); got != `["a" "b" "a" (null)]` || !batch.Schema().Equal(normal) {
		t.Fatalf("got %s of %s", got, batch.Schema())
	}
}

// TestStopReachesIdleSubtasks: the sink takes one batch and ends, while other
// subtasks of the vertex before it wait for input.
func TestStopReachesIdleSubtasks(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10} {
		alloc := allocator(t)
		slow := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
			for i := range int64(n) {
				if err := out.EmitBatch(ctx, idBatch(alloc, i*10, i*10+10)); err != nil {
					return err
				}
				time.Sleep(5 * time.Millisecond)
			}
			return nil
		})
		first := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
			e, err := in[0].Next(ctx)
			e.Release()
			return err
		})
		g := graphOf(t, Options{},
			&Vertex{ID: "source", New: only(slow)},
			&Vertex{ID: "middle", Parallelism: 4, New: func(int) Operator { return Handle(PassThrough{}) }, Inputs: []string{"source"}},
			&Vertex{ID: "again", Parallelism: 3, New: func(int) Operator { return Handle(PassThrough{}) }, Inputs: []string{"middle"}},
			&Vertex{ID: "first", New: only(first), Inputs: []string{"again"}},
		)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := g.Run(ctx); err != nil {
			t.Errorf("a source of %d batches: %v", n, err)
		}
		cancel()
	}
}

func TestWhatIsDoneStaysDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := graphOf(t, Options{}, &Vertex{ID: "a", New: only(operatorFunc(func(context.Context, []*Input, *Output) error {
		cancel() // comes when all is done, before Run has returned
		return nil
	}))})
	if err := g.Run(ctx); err != nil {
		t.Errorf("a job that has done everything says %v", err)
	}
}

// faulty panics at the end of its input.
type faulty struct {
	PassThrough
	failed *bool
}

func (f faulty) OnEnd(context.Context, *Output) error { panic("at the end") }
func (f faulty) OnFail(error)                         { *f.failed = true }

func TestAFaultUndoesWhatMustNotStay(t *testing.T) {
	alloc := allocator(t)
	failed := false
	g := graphOf(t, Options{},
		&Vertex{ID: "source", New: only(source(alloc, 1, 10))},
		&Vertex{ID: "faulty", New: only(Handle(faulty{failed: &failed})), Inputs: []string{"source"}},
	)
	if err := g.Run(t.Context()); err == nil || !failed {
		t.Errorf("%v, OnFail called: %v", err, failed)
	}
}

// TestNormalizeNested converts nested types whole and sliced; the values stay,
// and the result is a valid array of the normal type.
func TestNormalizeNested(t *testing.T) {
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	i64 := arrow.PrimitiveTypes.Int64
	for name, c := range map[string]struct {
		typ  arrow.DataType
		json string
	}{
		"list of not null":     {arrow.ListOfNonNullable(i64), `[{"c":[1,2]},{"c":null},{"c":[]},{"c":[3,4,5]}]`},
		"list of dictionary":   {arrow.ListOf(dictionary), `[{"c":["a","b"]},{"c":null},{"c":[]},{"c":["c"]}]`},
		"large list":           {arrow.LargeListOf(dictionary), `[{"c":["a","b"]},{"c":null},{"c":[]},{"c":["c"]}]`},
		"list of view":         {arrow.ListOf(arrow.BinaryTypes.StringView), `[{"c":["a","b"]},{"c":null},{"c":[]},{"c":["c"]}]`},
		"struct of not null":   {arrow.StructOf(arrow.Field{Name: "x", Type: i64}), `[{"c":{"x":1}},{"c":null},{"c":{"x":2}},{"c":{"x":3}}]`},
		"struct of dictionary": {arrow.StructOf(arrow.Field{Name: "x", Type: dictionary, Nullable: true}), `[{"c":{"x":"a"}},{"c":null},{"c":{"x":null}},{"c":{"x":"b"}}]`},
		"list of struct":       {arrow.ListOf(arrow.StructOf(arrow.Field{Name: "x", Type: i64})), `[{"c":[{"x":1}]},{"c":null},{"c":[]},{"c":[{"x":2},{"x":3}]}]`},
		"map of dictionary":    {arrow.MapOf(arrow.BinaryTypes.String, dictionary), `[{"c":[{"key":"a","value":"x"}]},{"c":null},{"c":[]},{"c":[{"key":"b","value":"y"}]}]`},
		"dictionary":           {dictionary, `[{"c":null},{"c":"a"},{"c":null},{"c":"b"}]`},
		"nothing to do":        {arrow.ListOf(i64), `[{"c":[1]},{"c":null},{"c":[2]},{"c":[3]}]`},
	} {
		for _, from := range []int64{0, 1, 2} {
			alloc := allocator(t)
			schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: c.typ, Nullable: true}}, nil)
			whole, _, err := array.RecordFromJSON(alloc, schema, strings.NewReader(c.json))
			if err != nil {
				t.Fatal(name, err)
			}
			batch := whole.NewSlice(from, whole.NumRows())
			whole.Release()
			want, err := batch.Column(0).MarshalJSON()
			if err != nil {
				t.Fatal(name, err)
			}
			normal, err := Normalize(t.Context(), batch, NormalSchema(schema))
			if err != nil {
				t.Errorf("%s from %d: %v", name, from, err)
				continue
			}
			got, err := normal.Column(0).MarshalJSON()
			if err != nil || string(got) != string(want) {
				t.Errorf("%s from %d: %s, want %s (%v)", name, from, got, want, err)
			}
			if err := array.ValidateFull(normal.Column(0)); err != nil {
				t.Errorf("%s from %d: %v", name, from, err)
			}
			normal.Release()
		}
	}
}

func TestAClosedQueueGivesNothing(t *testing.T) {
	q := NewQueue(1000)
	q.Close()
	if _, err := q.Get(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
}

func TestNormalizeKeepsInstants(t *testing.T) {
	alloc := allocator(t)
	zoned := &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "America/New_York"}
	schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: zoned, Nullable: true}}, nil)
	batch, _, err := array.RecordFromJSON(alloc, schema, strings.NewReader(`[{"c":"2013-07-01T05:00:00Z"},{"c":null}]`))
	if err != nil {
		t.Fatal(err)
	}
	normal, err := Normalize(t.Context(), batch, NormalSchema(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer normal.Release()
	got, err := normal.Column(0).MarshalJSON()
	if err != nil || string(got) != `["2013-07-01T05:00:00Z",null]` || normal.Column(0).DataType().String() != "timestamp[ms, tz=UTC]" {
		t.Errorf("%s of %s, %v", got, normal.Column(0).DataType(), err)
	}
}

// TestQueuesShareTheirBytes: many queues together hold no more than a few.
func TestQueuesShareTheirBytes(t *testing.T) {
	const limit, total = 1 << 20, 4 << 20
	for parallelism, want := range map[int]int64{1: limit, 5: total / 12, 64: queueBytesMin} {
		g := NewGraph(Options{QueueBytes: limit, QueuesBytes: total})
		for _, v := range []*Vertex{
			{ID: "source", Parallelism: 1},
			{ID: "spread", Parallelism: parallelism, Inputs: []string{"source"}},
			{ID: "sink", Parallelism: 1, Inputs: []string{"spread"}},
		} {
			v.New = func(int) Operator { return Handle(PassThrough{}) }
			if err := g.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		w := wiring{graph: g, outputs: map[string]edge{}, ports: map[string][]port{}}
		if err := w.connect(); err != nil {
			t.Fatal(err)
		}
		for _, q := range w.queues {
			if q.bytesLimit != want {
				t.Errorf("parallelism %d: each of %d queues holds %d bytes, want %d", parallelism, len(w.queues), q.bytesLimit, want)
			}
		}
		w.close()
	}
}

// A batch is read by several goroutines once it has left its operator, and
// counting the NULLs of an Arrow array writes to it: under -race this fails
// where an array of the batch, however deep, was left uncounted.
func TestBatchesAreReadBySeveralGoroutines(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "list", Type: arrow.ListOf(arrow.ListOf(arrow.BinaryTypes.String)), Nullable: true},
		{Name: "struct", Type: arrow.StructOf(arrow.Field{Name: "a", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), Nullable: true}), Nullable: true},
		{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "dictionary", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	}, nil)
	whole, _, err := array.RecordFromJSON(mem, schema, strings.NewReader(`[
		{"n": 1, "list": [["a", null], null], "struct": {"a": [1, null]}, "map": [{"key": "k", "value": null}], "dictionary": "d"},
		{"n": null, "list": null, "struct": null, "map": null, "dictionary": null},
		{"n": 3, "list": [[null]], "struct": {"a": null}, "map": [{"key": "l", "value": 2}], "dictionary": "e"}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Release()
	batch := whole.NewSlice(1, 3)
	queue := NewQueue(1 << 20)
	out := &Output{edge: queuePort{queue}, stats: &Stats{}}
	if err := out.EmitBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	e, err := queue.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			payload, err := ipc.GetRecordBatchPayload(e.Batch)
			if err != nil {
				t.Error(err)
				return
			}
			payload.Release()
		})
	}
	readers.Wait()
}
