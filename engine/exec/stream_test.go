package exec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// gatherOf makes a gather of queues that are written by hand.
func gatherOf(n int, copies bool) (*gather, []*Queue) {
	queues := make([]*Queue, n)
	ports := make([]pollable, n)
	for i := range queues {
		queues[i] = NewQueue(1 << 20)
		ports[i] = queuePort{queues[i]}
	}
	return newGather(ports, copies), queues
}

func put(t *testing.T, q *Queue, elements ...Element) {
	t.Helper()
	for _, e := range elements {
		if err := q.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func at(s int64) Element        { return Element{Kind: KindWatermark, Watermark: time.Unix(s, 0)} }
func barrier(id uint64) Element { return Element{Kind: KindBarrier, Barrier: id} }
func control(what any) Element  { return Element{Kind: KindControl, Control: what} }
func idle() Element             { return Element{Kind: KindWatermark, Idle: true} }
func ended() Element            { return Element{Kind: KindEnd} }
func describe(e Element) string {
	switch e.Kind {
	case KindBatch:
		defer e.Release()
		return fmt.Sprint(ids(e.Batch))
	case KindWatermark:
		if e.Idle {
			return "idle"
		}
		return fmt.Sprintf("w%d", e.Watermark.Unix())
	case KindBarrier:
		return fmt.Sprintf("b%d", e.Barrier)
	case KindControl:
		return fmt.Sprint(e.Control)
	}
	return "end"
}

// drain gives what can be read without further input.
func drain(t *testing.T, g *gather) string {
	t.Helper()
	var got []string
	for {
		e, ok, err := g.poll()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return strings.Join(got, " ")
		}
		got = append(got, describe(e))
		if e.Kind == KindEnd {
			return strings.Join(got, " ")
		}
	}
}

func expect(t *testing.T, g *gather, want string) {
	t.Helper()
	if got := drain(t, g); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGatherTakesTheLowestWatermark(t *testing.T) {
	g, q := gatherOf(2, false)
	put(t, q[0], at(5))
	expect(t, g, "") // of the other nothing is known yet
	put(t, q[1], at(3), at(4))
	expect(t, g, "w3 w4")
	put(t, q[1], at(9))
	expect(t, g, "w5")
	put(t, q[0], at(4), at(5)) // never goes back
	expect(t, g, "")
	put(t, q[0], ended())
	expect(t, g, "w9") // what has ended holds nothing back
	put(t, q[1], ended())
	expect(t, g, "end")
}

func TestGatherLeavesIdleInputsOut(t *testing.T) {
	alloc := allocator(t)
	g, q := gatherOf(2, false)
	put(t, q[0], at(1))
	put(t, q[1], at(1))
	expect(t, g, "w1")
	put(t, q[0], at(7), idle())
	put(t, q[1], at(5))
	expect(t, g, "w5")
	put(t, q[1], at(8)) // beyond the idle one's
	expect(t, g, "w8")
	put(t, q[0], BatchElement(idBatch(alloc, 0, 1)), at(7))
	put(t, q[1], at(9))
	expect(t, g, "[0]") // awake again, at 7
	put(t, q[0], at(10))
	expect(t, g, "w9")
	put(t, q[0], idle())
	put(t, q[1], idle())
	if got := drain(t, g); got != "idle" && got != "w10 idle" {
		t.Errorf("got %q", got)
	}
}

func TestGatherAlignsBarriers(t *testing.T) {
	alloc := allocator(t)
	g, q := gatherOf(3, false)
	row := func(i int64) Element { return BatchElement(idBatch(alloc, i, i+1)) }
	put(t, q[0], row(1), barrier(1), row(100), at(50))
	put(t, q[1], row(2))
	put(t, q[2], row(3))
	if got := drain(t, g); strings.Contains(got, "100") || len(got) != len("[1] [2] [3]") {
		t.Fatalf("before the barrier: %q", got)
	}
	put(t, q[1], barrier(1), row(101))
	expect(t, g, "") // two are held
	put(t, q[2], row(4), row(5), barrier(1))
	if got := drain(t, g); !strings.HasPrefix(got, "[4] [5] b1 ") || !strings.Contains(got, "[100]") || !strings.Contains(got, "[101]") {
		t.Fatalf("around the barrier: %q", got)
	}
	put(t, q[0], barrier(2))
	put(t, q[1], ended())
	expect(t, g, "")
	put(t, q[2], ended()) // has nothing left that could belong to checkpoint 2
	expect(t, g, "b2 w50")
	put(t, q[0], ended())
	expect(t, g, "end")
}

func TestGatherPassesCommonElementsOnce(t *testing.T) {
	for copies, want := range map[bool]string{true: "m1 m2", false: "m1 m1 m2 m2"} {
		g, q := gatherOf(2, copies)
		put(t, q[0], control("m1"), control("m2"))
		put(t, q[1], control("m1"), control("m2"))
		if got := drain(t, g); len(got) != len(want) || copies && got != want {
			t.Errorf("copies %v: %q", copies, got)
		}
	}
}

func TestGatherWaitsForAnyPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, q := gatherOf(4, false)
		got := make(chan Element)
		go func() {
			for range 4 {
				e, err := g.get(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- e
			}
		}()
		alloc := allocator(t)
		for i, queue := range q {
			synctest.Wait() // the reader sleeps
			put(t, queue, BatchElement(idBatch(alloc, int64(i), int64(i)+1)))
			if s := describe(<-got); s != fmt.Sprintf("[%d]", i) {
				t.Errorf("got %s", s)
			}
		}
	})
}

// keyedSchema has a key with NULLs, the number of the row, and columns of
// kinds that take is worth testing with.
var keyedSchema = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
	{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
	{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
}, nil)

func keyedBatch(t *testing.T, alloc memory.Allocator, from, to int64) arrow.RecordBatch {
	t.Helper()
	var rows []string
	for i := from; i < to; i++ {
		key := fmt.Sprintf("%q", fmt.Sprintf("k%d", i%17))
		if i%17 == 0 {
			key = "null"
		}
		rows = append(rows, fmt.Sprintf(`{"key":%s,"id":%d,"list":[%d,null],"s":{"x":"%d"},"m":[{"key":"a","value":%d}]}`, key, i, i, i, i))
	}
	batch, _, err := array.RecordFromJSON(alloc, keyedSchema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// TestKeyedVertex sends rows, watermarks and barriers through a hash exchange
// with subtasks of changing speed: no row is lost or altered, a key is in one
// subtask and in order, and a barrier separates the rows before it from those
// behind it.
func TestKeyedVertex(t *testing.T) {
	for _, parallelism := range []int{1, 2, 4} {
		alloc := allocator(t)
		const batches, rows, every = 60, 23, 10
		feed := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
			for i := range int64(batches) {
				if err := out.EmitBatch(ctx, keyedBatch(t, alloc, i*rows, (i+1)*rows)); err != nil {
					return err
				}
				if i%every != every-1 {
					continue
				}
				for _, e := range []Element{at(i), barrier(uint64(i)), control(i)} {
					if err := out.Emit(ctx, e); err != nil {
						return err
					}
				}
			}
			return nil
		})
		var mu sync.Mutex
		owner := map[string]int{}
		last := map[string]int64{}
		keyed := func(subtask int) Operator {
			return Handle(&keyChecker{t: t, subtask: subtask, mu: &mu, owner: owner, last: last, random: rand.New(rand.NewPCG(1, uint64(subtask)))})
		}
		var got []int64
		var order []string
		sink := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
			for {
				e, err := in[0].Next(ctx)
				if err != nil || e.Kind == KindEnd {
					return err
				}
				if e.Kind != KindBatch {
					order = append(order, fmt.Sprintf("%s@%d", describe(e), len(got)))
					continue
				}
				for i := range int(e.Batch.NumRows()) {
					id := e.Batch.Column(1).(*array.Int64).Value(i)
					got = append(got, id)
					row := e.Batch.NewSlice(int64(i), int64(i)+1)
					text, _ := row.MarshalJSON()
					if want := fmt.Sprintf(`"list":[%d,null],"m":[{"key":"a","value":%d}],"s":{"x":"%d"}`, id, id, id); !strings.Contains(string(text), want) {
						t.Errorf("row %d is %s", id, text)
					}
					row.Release()
				}
				e.Release()
			}
		})
		g := NewGraph(Options{QueueBytes: 4096, Allocator: alloc})
		for _, v := range []*Vertex{
			{ID: "source", Parallelism: 1, New: only(feed), Schema: keyedSchema},
			{ID: "keyed", Parallelism: parallelism, Keyed: true, Keys: []int{0}, New: keyed, Inputs: []string{"source"}, Schema: keyedSchema},
			{ID: "sink", Parallelism: 1, New: only(sink), Inputs: []string{"keyed"}},
		} {
			if err := g.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := int64(every - 1); i < batches; i += every {
			n := (i + 1) * rows
			want = append(want, fmt.Sprintf("w%d@%d", i, n), fmt.Sprintf("b%d@%d", i, n), fmt.Sprintf("%d@%d", i, n))
		}
		// A watermark waits for the slowest too, but rows behind it may come
		// before it; barriers and what all got in common may not.
		if len(order) != len(want) {
			t.Fatalf("parallelism %d: %v", parallelism, order)
		}
		for i := range want {
			if !strings.HasPrefix(want[i], "w") && order[i] != want[i] {
				t.Errorf("parallelism %d: %s instead of %s", parallelism, order[i], want[i])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, upTo(batches*rows)) {
			t.Errorf("parallelism %d: %d rows", parallelism, len(got))
		}
		if len(owner) != 17 {
			t.Errorf("%d keys", len(owner))
		}
	}
}

type keyChecker struct {
	PassThrough
	t       *testing.T
	subtask int
	mu      *sync.Mutex
	owner   map[string]int
	last    map[string]int64
	random  *rand.Rand
}

func (k *keyChecker) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *Output) error {
	time.Sleep(time.Duration(k.random.IntN(300)) * time.Microsecond)
	k.mu.Lock()
	for i := range int(batch.NumRows()) {
		key, id := batch.Column(0).ValueStr(i), batch.Column(1).(*array.Int64).Value(i)
		if owner, met := k.owner[key]; met && owner != k.subtask {
			k.t.Errorf("key %s is in subtasks %d and %d", key, owner, k.subtask)
		}
		if last, met := k.last[key]; met && last >= id {
			k.t.Errorf("key %s: row %d came after %d", key, id, last)
		}
		k.owner[key], k.last[key] = k.subtask, id
	}
	k.mu.Unlock()
	return out.EmitBatch(ctx, batch)
}

// TestStreamsFanOutInBoundedMemory: both readers get everything, one that
// stops holds nothing up, and the source does not run ahead of the slowest.
func TestStreamsFanOutInBoundedMemory(t *testing.T) {
	alloc := allocator(t)
	const batches = 200
	emitted := 0
	feed := operatorFunc(func(ctx context.Context, _ []*Input, out *Output) error {
		for i := range int64(batches) {
			emitted++
			if err := out.EmitBatch(ctx, idBatch(alloc, i*10, (i+1)*10)); err != nil {
				return err
			}
			if err := out.Emit(ctx, barrier(uint64(i))); err != nil {
				return err
			}
		}
		return nil
	})
	var all []int64
	slow := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		for {
			e, err := in[0].Next(ctx)
			if err != nil || e.Kind == KindEnd {
				return err
			}
			if e.Kind == KindBatch {
				all = append(all, ids(e.Batch)...)
				e.Release()
			}
		}
	})
	first := operatorFunc(func(ctx context.Context, in []*Input, _ *Output) error {
		e, err := in[0].Next(ctx)
		e.Release()
		return err
	})
	g := graphOf(t, Options{QueueBytes: 2000, SpillDir: "/nowhere"},
		&Vertex{ID: "source", New: only(feed), Stream: true},
		&Vertex{ID: "slow", New: only(slow), Inputs: []string{"source"}},
		&Vertex{ID: "first", New: only(first), Inputs: []string{"source"}},
	)
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(all, upTo(batches*10)) || emitted != batches {
		t.Errorf("%d rows of %d batches", len(all), emitted)
	}
	synctest.Test(t, func(t *testing.T) {
		alloc := allocator(t)
		b := &broadcast{queues: []*Queue{NewQueue(1000), NewQueue(1000)}}
		puts := 0
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for b.put(ctx, BatchElement(idBatch(alloc, 0, 10))) == nil {
				puts++
			}
		}()
		synctest.Wait()
		if puts == 0 || puts > 10 {
			t.Errorf("%d batches went ahead of both readers", puts)
		}
		b.queues[0].Close()
		synctest.Wait()
		if before := puts; before > 10 {
			t.Errorf("%d batches went ahead of the reader that is left", before)
		}
		cancel()
		synctest.Wait()
		b.queues[1].Close()
	})
}
