package exec

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/state"
)

// broadcast gives every element to every queue. A reader that has stopped
// keeps nothing from the others.
type broadcast struct{ queues []*Queue }

func (b *broadcast) put(ctx context.Context, e Element) error {
	stopped := 0
	defer e.Release()
	for _, q := range b.queues {
		if e.Batch != nil {
			e.Batch.Retain()
		}
		err := q.Put(ctx, e)
		switch {
		case errors.Is(err, ErrStopped):
			stopped++
		case err != nil:
			return err
		}
	}
	if stopped == len(b.queues) {
		return ErrStopped
	}
	return nil
}

func (b *broadcast) onStop(f func()) { onAllClosed(b.queues, f) }

// hashExchange gives each row to the subtask of its key, and everything else
// to all of them: so a watermark or a barrier has its place among the rows of
// every subtask. Rows of equal keys stay in order; the order of others is
// lost.
type hashExchange struct {
	queues    []*Queue
	keys      []int
	allocator memory.Allocator

	hashes []uint64
	rows   [][]int64 // for each subtask
}

func newHashExchange(keys []int, allocator memory.Allocator) *hashExchange {
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	return &hashExchange{keys: keys, allocator: allocator}
}

func (x *hashExchange) put(ctx context.Context, e Element) error {
	if e.Kind != KindBatch {
		return (&broadcast{x.queues}).put(ctx, e)
	}
	defer e.Release()
	if err := x.divide(e.Batch); err != nil {
		return err
	}
	for subtask, rows := range x.rows {
		if len(rows) == 0 {
			continue
		}
		part, err := x.take(ctx, e.Batch, rows)
		if err != nil {
			return err
		}
		if err := x.queues[subtask].Put(ctx, BatchElement(part)); err != nil {
			return err
		}
	}
	return nil
}

func (x *hashExchange) onStop(f func()) { onAllClosed(x.queues, f) }

// divide fills rows with the rows of each subtask.
func (x *hashExchange) divide(batch arrow.RecordBatch) error {
	n := int(batch.NumRows())
	if cap(x.hashes) < n {
		x.hashes = make([]uint64, n)
	}
	if x.rows == nil {
		x.rows = make([][]int64, len(x.queues))
	}
	keys := make([]arrow.Array, len(x.keys))
	for i, c := range x.keys {
		keys[i] = batch.Column(c)
	}
	if err := state.Hash(keys, x.hashes[:n]); err != nil {
		return err
	}
	for subtask := range x.rows {
		x.rows[subtask] = x.rows[subtask][:0]
	}
	for row, hash := range x.hashes[:n] {
		subtask := state.Subtask(hash, len(x.queues))
		x.rows[subtask] = append(x.rows[subtask], int64(row))
	}
	return nil
}

// take makes a batch of some rows of another, whose order they have. Batches
// count in queues with all the memory that they refer to, so rows are copied
// unless all of them are taken.
func (x *hashExchange) take(ctx context.Context, batch arrow.RecordBatch, rows []int64) (arrow.RecordBatch, error) {
	if int64(len(rows)) == batch.NumRows() {
		batch.Retain()
		return batch, nil
	}
	if batch.NumCols() == 0 {
		return array.NewRecordBatch(batch.Schema(), nil, int64(len(rows))), nil
	}
	b := array.NewInt64Builder(x.allocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	indices := b.NewArray()
	defer indices.Release()
	ctx = compute.WithAllocator(ctx, x.allocator)
	columns := make([]arrow.Array, 0, batch.NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, c := range batch.Columns() {
		taken, err := compute.TakeArrayOpts(ctx, c, indices, compute.TakeOptions{BoundsCheck: false})
		if err != nil {
			return nil, err
		}
		columns = append(columns, taken)
	}
	return array.NewRecordBatch(batch.Schema(), columns, int64(len(rows))), nil
}
