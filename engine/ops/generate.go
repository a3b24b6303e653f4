package ops

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

const (
	generatedRowsDefault = 8192
	// pacesPerSecond is how often a generator with a rate emits at least.
	pacesPerSecond = 20
)

// Generate makes rows; see plan.Generate. It remembers only how many it has
// made.
type Generate struct {
	Spec   plan.Generate
	Schema *arrow.Schema
	Keeper exec.Keeper
	// Allocator is for the batches; nil means Arrow's default.
	Allocator memory.Allocator

	offset int64
}

// generated is what a Generate remembers.
type generated struct {
	Offset int64 `json:"offset"`
}

// Run implements exec.Operator.
func (g *Generate) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	err := restore(g.Keeper, func(meta generated, _ arrow.RecordBatch) error {
		g.offset = meta.Offset
		return nil
	})
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(g.allocator(), g.Schema)
	defer b.Release()
	began, first := time.Now(), g.offset
	for n := g.next(); n > 0; n = g.next() {
		var due time.Time
		if g.Spec.RowsPerSecond > 0 {
			made := float64(g.offset + n - first)
			due = began.Add(time.Duration(made / g.Spec.RowsPerSecond * float64(time.Second)))
		}
		if err := g.wait(ctx, due, out); err != nil {
			return err
		}
		g.fill(b, n)
		g.offset += n
		if err := out.EmitBatch(ctx, b.NewRecordBatch()); err != nil {
			return err
		}
	}
	return nil
}

func (g *Generate) allocator() memory.Allocator {
	if g.Allocator == nil {
		return memory.DefaultAllocator
	}
	return g.Allocator
}

// next is the number of rows of the next batch; 0 at the end.
func (g *Generate) next() int64 {
	n := int64(g.Spec.BatchRows)
	if n == 0 {
		n = generatedRowsDefault
	}
	if rate := g.Spec.RowsPerSecond; rate > 0 {
		n = max(1, min(n, int64(rate/pacesPerSecond)))
	}
	if g.Spec.Rows != nil {
		n = min(n, *g.Spec.Rows-g.offset)
	}
	return n
}

// wait returns when it is time (the zero time: at once), and passes barriers
// on until then.
func (g *Generate) wait(ctx context.Context, due time.Time, out *exec.Output) error {
	defer out.Rest()()
	var timer <-chan time.Time
	if left := time.Until(due); !due.IsZero() && left > 0 {
		t := time.NewTimer(left)
		defer t.Stop()
		timer = t.C
	}
	for {
		if timer == nil {
			select {
			case barrier := <-g.Keeper.Barriers():
				return g.barrier(ctx, barrier, out)
			case <-ctx.Done():
				return context.Cause(ctx)
			default:
				return nil
			}
		}
		select {
		case <-timer:
			timer = nil
		case barrier := <-g.Keeper.Barriers():
			if err := g.barrier(ctx, barrier, out); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *Generate) barrier(ctx context.Context, id uint64, out *exec.Output) error {
	return remember(ctx, g.Keeper, exec.Element{Kind: exec.KindBarrier, Barrier: id}, generated{g.offset}, nil, out)
}

// fill appends n rows from the offset on.
func (g *Generate) fill(b *array.RecordBuilder, n int64) {
	for i, c := range g.Spec.Columns {
		// Each column has random numbers of its own.
		seed := scramble(g.Spec.Seed + uint64(i+1)*0x9e3779b97f4a7c15)
		random := func(row int64) uint64 { return scramble(seed ^ uint64(row)) }
		field := b.Field(i)
		field.Reserve(int(n))
		for row := g.offset; row < g.offset+n; row++ {
			switch c.Kind {
			case plan.GenerateSequence:
				field.(*array.Int64Builder).UnsafeAppend(c.Start + row*c.Step)
			case plan.GenerateDouble:
				field.(*array.Float64Builder).UnsafeAppend(fraction(random(row)))
			case plan.GenerateChoice:
				field.(*array.StringBuilder).Append(c.Values[random(row)%uint64(len(c.Values))])
			case plan.GenerateEventTime:
				late := int64(random(row) % (uint64(c.Disorder) + 1))
				field.(*array.TimestampBuilder).UnsafeAppend(arrow.Timestamp(c.Start + row*c.Step - late))
			case plan.GenerateInteger:
				v := random(row)
				if c.Nulls > 0 && fraction(scramble(v)) < c.Nulls {
					field.AppendNull()
					continue
				}
				field.(*array.Int64Builder).UnsafeAppend(c.Low + int64(v%uint64(c.High-c.Low)))
			}
		}
	}
}

// scramble is the finalizer of splitmix64: its results for 0, 1, 2 … pass for
// random (Steele, Lea and Flood, 2014).
func scramble(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// fraction is a number from 0 to 1, without 1.
func fraction(x uint64) float64 { return float64(x>>11) / (1 << 53) }
