package ops

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// Limits of the bundles that a Group makes. A bundle ends with the first group
// that takes it over one of them; a single group may be larger.
const (
	groupBytesMax = 3 << 20
	groupRowsMax  = 1 << 18
	// With Few the first bundle has one group, each following one more, up to
	// fewGroupsMax: few groups are spread over the workers, and many cost
	// little each.
	fewGroupsMax = 64
	// groupNumberBytes is what the number of a group takes in a row.
	groupNumberBytes = 8
)

// Group numbers the groups of neighbouring rows that agree in the columns
// Keys, and cuts its input into bundles of whole groups. What belongs to one
// bundle is marked with exec.Element.More. It is for sorted rows: then equal
// keys are neighbours.
type Group struct {
	Keys []int
	// Columns are the columns of the input that stand behind the number of the
	// group in Schema.
	Columns []int
	Schema  *arrow.Schema
	// Few makes bundles of few groups.
	Few bool
	// BytesMax, if it is set, bounds the bundles in the place of groupBytesMax.
	BytesMax int64
	// Meter, of the functions behind, tells how many rows take their workers as
	// long as a bundle should; nil is no bound.
	Meter *exec.Meter
	// Allocator is for the numbers; nil means Arrow's default.
	Allocator memory.Allocator

	group int64 // the number of the last row's group; 0 before the first row
	// last is the batch with the last row.
	last arrow.RecordBatch
	// held is the last of the open bundle, which has rows, bytes and groups. It
	// is passed on when it is known whether more follows.
	held                      arrow.RecordBatch
	rows, bytes, groups, most int64
}

// OnBatch implements exec.Handler.
func (g *Group) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	if batch.NumRows() == 0 {
		batch.Release()
		return nil
	}
	numbered, starts := g.number(batch)
	defer numbered.Release()
	if g.last != nil {
		g.last.Release()
	}
	g.last = batch
	rowBytes := 1 + exec.SliceBytes(numbered)/numbered.NumRows()
	begin := int64(0)
	for _, start := range starts {
		// The bundle with the rows before start may end here.
		rows := start - begin
		if g.full(rows, rowBytes*rows) {
			if err := g.cut(ctx, numbered, begin, start, rowBytes, out); err != nil {
				return err
			}
			begin = start
		}
		g.groups++
	}
	return g.hold(ctx, numbered, begin, numbered.NumRows(), rowBytes, out)
}

// full reports whether the open bundle, with further rows, is to end.
func (g *Group) full(rows, bytes int64) bool {
	rows, bytes = g.rows+rows, g.bytes+bytes
	if rows == 0 {
		return false
	}
	return g.large(rows, bytes) || rows >= g.Meter.RowsMax(0) || g.Few && g.groups >= min(1+g.most, fewGroupsMax)
}

// large reports whether rows are as many as a bundle may have.
func (g *Group) large(rows, bytes int64) bool {
	return rows >= groupRowsMax || bytes >= min(groupBytesMax, cmp.Or(g.BytesMax, groupBytesMax))
}

// cut ends the open bundle with rows begin to end of a batch.
func (g *Group) cut(ctx context.Context, batch arrow.RecordBatch, begin, end, rowBytes int64, out *exec.Output) error {
	if err := g.hold(ctx, batch, begin, end, rowBytes, out); err != nil {
		return err
	}
	return g.pass(ctx, false, out)
}

// hold adds rows to the open bundle.
func (g *Group) hold(ctx context.Context, batch arrow.RecordBatch, begin, end, rowBytes int64, out *exec.Output) error {
	if begin == end {
		return nil
	}
	if g.held != nil {
		if err := g.pass(ctx, true, out); err != nil {
			return err
		}
	}
	g.held = batch.NewSlice(begin, end)
	g.rows += end - begin
	g.bytes += rowBytes * (end - begin)
	return nil
}

// pass emits what is held; without more the bundle has ended.
func (g *Group) pass(ctx context.Context, more bool, out *exec.Output) error {
	held := g.held
	g.held = nil
	if !more {
		g.rows, g.bytes, g.groups = 0, 0, 0
		g.most++
	}
	e := exec.BatchElement(held)
	e.More = more
	return out.Emit(ctx, e)
}

// number gives the columns with the number of the group before them, and the
// rows at which groups begin. It does not take the batch over.
func (g *Group) number(batch arrow.RecordBatch) (arrow.RecordBatch, []int64) {
	allocator := g.Allocator
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	b := array.NewInt64Builder(allocator)
	defer b.Release()
	b.Reserve(int(batch.NumRows()))
	var starts []int64
	same := sameAsBefore(batch, g.last, g.Keys)
	for row := range int(batch.NumRows()) {
		if !same[row] {
			g.group++
			starts = append(starts, int64(row))
		}
		b.UnsafeAppend(g.group - 1)
	}
	numbers := b.NewArray()
	defer numbers.Release()
	columns := []arrow.Array{numbers}
	for _, c := range g.Columns {
		columns = append(columns, batch.Column(c))
	}
	return array.NewRecordBatch(g.Schema, columns, batch.NumRows()), starts
}

// OnElement implements exec.Handler: groups have a bounded input, in which
// only rows mean something.
func (g *Group) OnElement(context.Context, exec.Element, *exec.Output) error { return nil }

// OnEnd implements exec.Handler.
func (g *Group) OnEnd(ctx context.Context, out *exec.Output) error {
	defer g.drop()
	if g.held == nil {
		return nil
	}
	return g.pass(ctx, false, out)
}

// OnFail implements exec.Handler.
func (g *Group) OnFail(error) { g.drop() }

func (g *Group) drop() {
	for _, b := range []arrow.RecordBatch{g.last, g.held} {
		if b != nil {
			b.Release()
		}
	}
	g.last, g.held = nil, nil
}
