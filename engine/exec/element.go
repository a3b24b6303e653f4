// Package exec says how a job runs: operators in subtasks (one goroutine
// each), byte-bounded queues between them, exchanges that keep or restore
// order, watermarks, barriers, progress and cancellation. It declares the
// Operator and FunctionRunner interfaces that other rooms implement, and
// imports engine/plan, engine/state and diag, never a room above or beside it.
package exec

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Kind says what an Element is.
type Kind uint8

// The kinds of element. Everything that flows is one of them.
const (
	// KindBatch is a record batch, of the schema that the plan gives.
	KindBatch Kind = iota + 1
	// KindWatermark promises that no row older than Watermark follows.
	KindWatermark
	// KindBarrier separates what belongs to checkpoint Barrier from what does
	// not.
	KindBarrier
	// KindControl is a message to operators, for example a model version.
	KindControl
	// KindEnd is the end of the input; nothing follows. Batch is a stream with
	// an end.
	KindEnd
)

// Element is what flows from one operator to the next.
type Element struct {
	Kind Kind
	// Batch is owned by the element: whoever receives the element releases it
	// or passes it on.
	Batch arrow.RecordBatch
	// FirstRow is the index of the batch's first row in the input of the
	// vertex that reads it.
	FirstRow int64
	// More, of a batch, says that the next batch belongs to the same bundle: an
	// exchange hands both to one subtask.
	More      bool
	Watermark time.Time
	// Idle, of a watermark, says instead that no rows come for now: until the
	// next element the input does not hold event time back.
	Idle    bool
	Barrier uint64
	Control any
}

// BatchElement makes an element of a batch, whose reference it takes over.
func BatchElement(batch arrow.RecordBatch) Element { return Element{Kind: KindBatch, Batch: batch} }

// CountNulls makes a batch fit to be read by several goroutines: an Arrow array
// whose number of NULLs is unknown, as that of a slice is, counts them at the
// first question and writes the answer down, which two readers of one array
// would do at the same time. Output does this for every batch; a batch that is
// shared in another way needs it once.
func CountNulls(batch arrow.RecordBatch) {
	for _, column := range batch.Columns() {
		countNulls(column)
	}
}

func countNulls(a arrow.Array) {
	a.NullN()
	switch a := a.(type) {
	case array.ListLike: // a map is a list of structs
		countNulls(a.ListValues())
	case *array.Struct:
		for i := range a.NumField() {
			countNulls(a.Field(i))
		}
	case *array.Dictionary:
		countNulls(a.Indices())
		countNulls(a.Dictionary())
	case array.ExtensionArray:
		countNulls(a.Storage())
	}
}

// Release gives up the element's batch, if it has one.
func (e Element) Release() {
	if e.Batch != nil {
		e.Batch.Release()
	}
}

// BatchReader gives batches one by one. The caller releases each batch. Next
// returns io.EOF at the end, and again whenever it is called after that. Close
// may be called more than once.
type BatchReader interface {
	Next(ctx context.Context) (arrow.RecordBatch, error)
	Close()
}

// BatchSource can be read more than once; each Open starts at the beginning.
type BatchSource interface {
	Open(ctx context.Context) (BatchReader, error)
}
