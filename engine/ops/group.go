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
	// groupRunBytes is what the number of a group takes in a batch.
	groupRunBytes = 12
)

// Group numbers the groups of neighbouring rows that agree in the columns
// Keys, and cuts its input into bundles of whole groups. What belongs to one
// bundle is marked with exec.Element.More. It is for sorted rows: then equal
// keys are neighbours.
type Group struct {
	Keys []int
	// Columns are the columns of the input that stand behind the number of the
	// group in Schema, which is of the type plan.GroupNumber.
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
	same := sameAsBefore(batch, g.last, g.Keys)
	if g.last != nil {
		g.last.Release()
	}
	g.last = batch
	rows := batch.NumRows()
	columns := pick(batch, g.Columns, arrow.NewSchema(g.Schema.Fields()[1:], nil))
	defer columns.Release()
	rowBytes := 1 + exec.SliceBytes(columns)/rows
	var runs groupRuns
	begin := int64(0)
	for row := range rows {
		if same[row] {
			continue
		}
		runs.end(g.group-1, row-begin)
		// The bundle with the rows before this one may end here.
		if g.full(row-begin, rowBytes*(row-begin)) {
			if err := g.holdSlice(ctx, columns, begin, row, runs, rowBytes, out); err != nil {
				return err
			}
			if err := g.pass(ctx, false, out); err != nil {
				return err
			}
			runs, begin = groupRuns{}, row
		}
		g.group++
		g.groups++
	}
	runs.end(g.group-1, rows-begin)
	return g.holdSlice(ctx, columns, begin, rows, runs, rowBytes, out)
}

// full reports whether the open bundle, with further rows, is to end.
func (g *Group) full(rows, bytes int64) bool {
	rows, bytes = g.rows+rows, g.bytes+bytes
	if rows == 0 {
		return false
	}
	return g.large(rows, bytes) || rows >= g.Meter.RowsMax(0) || g.Few && g.groups >= min(1+g.most, fewGroupsMax)
}

// large reports whether rows, of the groups of the open bundle, are as many as a
// bundle may have.
func (g *Group) large(rows, bytes int64) bool {
	bytes += groupRunBytes * g.groups
	return rows >= groupRowsMax || bytes >= min(groupBytesMax, cmp.Or(g.BytesMax, groupBytesMax))
}

// holdSlice adds rows begin to end of a batch to the open bundle.
func (g *Group) holdSlice(ctx context.Context, batch arrow.RecordBatch, begin, end int64, runs groupRuns, rowBytes int64, out *exec.Output) error {
	slice := batch.NewSlice(begin, end)
	defer slice.Release()
	return g.hold(ctx, slice.Columns(), runs, rowBytes, out)
}

// hold adds rows to the open bundle: columns, which it does not take over, and
// the groups that they are of.
func (g *Group) hold(ctx context.Context, columns []arrow.Array, runs groupRuns, rowBytes int64, out *exec.Output) error {
	rows := runs.rows()
	if rows == 0 {
		return nil
	}
	if g.held != nil {
		if err := g.pass(ctx, true, out); err != nil {
			return err
		}
	}
	numbers := runs.column(g.Allocator)
	defer numbers.Release()
	g.held = array.NewRecordBatch(g.Schema, append([]arrow.Array{numbers}, columns...), rows)
	g.rows += rows
	g.bytes += rowBytes * rows
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

// groupRuns are the numbers of the groups of a batch's rows, and the row at
// which each group ends.
type groupRuns struct {
	numbers []int64
	ends    []int32
}

// end says that the rows up to end that have no group yet are of one, which may
// be the group of the rows before.
func (r *groupRuns) end(number, end int64) {
	switch last := len(r.numbers) - 1; {
	case end == r.rows():
	case last >= 0 && r.numbers[last] == number:
		r.ends[last] = int32(end)
	default:
		r.numbers, r.ends = append(r.numbers, number), append(r.ends, int32(end))
	}
}

func (r *groupRuns) rows() int64 {
	if len(r.ends) == 0 {
		return 0
	}
	return int64(r.ends[len(r.ends)-1])
}

// column makes the column of the numbers, of the type plan.GroupNumber. Each
// batch has one of its own, since the runs of a slice may end beyond it.
func (r *groupRuns) column(allocator memory.Allocator) arrow.Array {
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	ends, numbers := array.NewInt32Builder(allocator), array.NewInt64Builder(allocator)
	defer ends.Release()
	defer numbers.Release()
	ends.AppendValues(r.ends, nil)
	numbers.AppendValues(r.numbers, nil)
	of, values := ends.NewArray(), numbers.NewArray()
	defer of.Release()
	defer values.Release()
	return array.NewRunEndEncodedArray(of, values, int(r.rows()), 0)
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
