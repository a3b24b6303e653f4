package exec

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Coalescing says how small batches are put together before a vertex whose
// workers take about as long for a call as for many rows.
type Coalescing struct {
	// RowsMax and BytesMax bound what is put together. Larger batches pass as
	// they are.
	RowsMax, BytesMax int64
	// FirstRows bounds the first ones, each of which may have
	// coalescedGrowth times as many as the one before: below a limit. 0 is no
	// bound.
	FirstRows int64
	// CallRows are the rows that the functions are called for at once; 0 where
	// nobody has said. See Meter.RowsMax.
	CallRows int64
	// Join makes batches of those that are held, one or more, which it does not
	// take over; nil makes one of them. One goroutine calls it.
	Join func(ctx context.Context, batches []arrow.RecordBatch) ([]arrow.RecordBatch, error)
}

const (
	coalescedGrowth = 4
	// streamHold is how long a row of a stream waits at most for others, while
	// the workers have something to do.
	streamHold = 5 * time.Millisecond
	// boundedHold is how long rows of an input with an end wait before they are
	// sent to workers that have nothing to do. Otherwise two slow functions in a
	// row would work one after the other.
	boundedHold = 100 * time.Millisecond
)

// errDue ends a wait for input when what is held is to be passed on.
var errDue = errors.New("what is held is due")

// coalescer puts small batches together. It passes on what it holds
//
//   - when it is full: as large as Coalescing and the vertex's meter allow,
//   - before anything that is not a batch, so that watermarks, barriers and the
//     end stay where they are among the rows,
//   - of a stream, as soon as the vertex has no bundle in flight, and after
//     streamHold at the latest,
//   - of an input with an end, while nobody knows yet what a row costs, as soon
//     as the vertex has no bundle in flight, later boundedHold after the first
//     row if there is none then.
type coalescer struct {
	Coalescing
	meter     *Meter
	stream    bool
	allocator memory.Allocator

	held        []arrow.RecordBatch
	rows, bytes int64
	// most is how many rows the next ones may have; since is when the first of
	// those that are held came.
	most  int64
	since time.Time
}

func newCoalescer(v *Vertex, allocator memory.Allocator) *coalescer {
	c := &coalescer{Coalescing: *v.Coalesce, meter: v.Meter, stream: v.Stream, allocator: allocator, most: math.MaxInt64}
	if allocator == nil {
		c.allocator = memory.DefaultAllocator
	}
	if c.FirstRows > 0 {
		c.most = c.FirstRows
	}
	return c
}

// Run implements Operator.
func (c *coalescer) Run(ctx context.Context, in []*Input, out *Output) error {
	defer c.drop()
	for {
		e, err := c.next(ctx, in[0])
		switch {
		case errors.Is(err, errDue):
			err = c.flush(ctx, out)
		case err != nil:
		case e.Kind == KindEnd:
			return c.flush(ctx, out)
		case e.Kind == KindBatch && !e.More:
			err = c.take(ctx, e, out)
		default:
			if err = c.flush(ctx, out); err != nil {
				e.Release()
				return err
			}
			err = out.Emit(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// next waits for the next element, or for errDue.
func (c *coalescer) next(ctx context.Context, in *Input) (Element, error) {
	if len(c.held) == 0 {
		return in.Next(ctx)
	}
	waiting, due := context.WithCancelCause(ctx)
	defer due(nil)
	send := func() { due(errDue) }
	hold := boundedHold
	passed := func() { c.meter.WhenIdle(send) }
	if c.stream {
		c.meter.WhenIdle(send)
		hold, passed = streamHold, send
	}
	timer := time.AfterFunc(hold-time.Since(c.since), passed)
	defer timer.Stop()
	e, err := in.Next(waiting)
	if err != nil && ctx.Err() != nil {
		return e, context.Cause(ctx)
	}
	return e, err
}

// rowsMax is how many rows are put together at most.
func (c *coalescer) rowsMax() int64 {
	return min(c.RowsMax, c.most, c.meter.RowsMax(c.CallRows))
}

// take holds a batch, which it takes over, or passes it on.
func (c *coalescer) take(ctx context.Context, e Element, out *Output) error {
	rows, bytes := e.Batch.NumRows(), SliceBytes(e.Batch)
	if len(c.held) > 0 && (c.rows+rows > c.rowsMax() || c.bytes+bytes > c.BytesMax) {
		if err := c.flush(ctx, out); err != nil {
			e.Release()
			return err
		}
	}
	if len(c.held) == 0 {
		c.since = time.Now()
	}
	c.held = append(c.held, e.Batch)
	c.rows += rows
	c.bytes += bytes
	if 2*c.rows > c.rowsMax() || 2*c.bytes > c.BytesMax || (c.stream || !c.meter.Measured()) && c.meter.Idle() {
		return c.flush(ctx, out)
	}
	return nil
}

// flush passes on what is held.
func (c *coalescer) flush(ctx context.Context, out *Output) error {
	if len(c.held) == 0 {
		return nil
	}
	if c.most < math.MaxInt64/coalescedGrowth {
		c.most *= coalescedGrowth
	}
	batches, err := c.joined(ctx)
	if err != nil {
		return err
	}
	for i, batch := range batches {
		if err := out.EmitBatch(ctx, batch); err != nil {
			for _, left := range batches[i+1:] {
				left.Release()
			}
			return err
		}
	}
	return nil
}

// joined makes batches of what is held, and holds nothing any more.
func (c *coalescer) joined(ctx context.Context) ([]arrow.RecordBatch, error) {
	if len(c.held) == 1 && c.Join == nil {
		batch := c.held[0]
		c.held, c.rows, c.bytes = c.held[:0], 0, 0
		return []arrow.RecordBatch{batch}, nil
	}
	defer c.drop()
	if c.Join != nil {
		return c.Join(ctx, c.held)
	}
	columns, err := JoinColumns(c.held, c.allocator)
	if err != nil {
		return nil, err
	}
	defer ReleaseColumns(columns)
	return []arrow.RecordBatch{array.NewRecordBatch(c.held[0].Schema(), columns, c.rows)}, nil
}

// JoinColumns gives the columns of batches of one schema, one or more, each in
// one piece; the caller releases them.
func JoinColumns(batches []arrow.RecordBatch, allocator memory.Allocator) ([]arrow.Array, error) {
	columns := make([]arrow.Array, 0, batches[0].NumCols())
	parts := make([]arrow.Array, len(batches))
	for i := range int(batches[0].NumCols()) {
		for k, batch := range batches {
			parts[k] = batch.Column(i)
		}
		column, err := array.Concatenate(parts, allocator)
		if err != nil {
			ReleaseColumns(columns)
			return nil, err
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// ReleaseColumns releases each of the columns.
func ReleaseColumns(columns []arrow.Array) {
	for _, column := range columns {
		column.Release()
	}
}

func (c *coalescer) drop() {
	for i, batch := range c.held {
		batch.Release()
		c.held[i] = nil
	}
	c.held, c.rows, c.bytes = c.held[:0], 0, 0
}

// SliceBytes is about what the rows of a batch take by themselves, however
// much memory the batch keeps alive.
func SliceBytes(batch arrow.RecordBatch) (bytes int64) {
	for _, column := range batch.Columns() {
		bytes += sliceBytes(column)
	}
	return bytes
}

func sliceBytes(a arrow.Array) int64 {
	rows := int64(a.Len())
	bytes := (rows + 7) / 8 // its validity
	switch a := a.(type) {
	case array.BinaryLike:
		if rows > 0 {
			last := int(rows) - 1
			bytes += 4*rows + a.ValueOffset64(last) + int64(a.ValueLen(last)) - a.ValueOffset64(0)
		}
	case array.ListLike:
		if rows == 0 {
			return bytes
		}
		begin, _ := a.ValueOffsets(0)
		_, end := a.ValueOffsets(int(rows) - 1)
		values := array.NewSlice(a.ListValues(), begin, end)
		defer values.Release()
		bytes += 4*rows + sliceBytes(values)
	case *array.Struct:
		for i := range a.NumField() {
			bytes += sliceBytes(a.Field(i))
		}
	default:
		if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
			bytes += rows * int64(t.Bytes())
		}
	}
	return bytes
}
