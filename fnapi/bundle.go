package fnapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// bundle is a unit of work of a session. It implements exec.Bundle.
type bundle struct {
	session  *session
	input    exec.BatchSource
	firstRow int64
	// done is closed when result or err is final and the input is not used any
	// more.
	done chan struct{}

	// The session's mu guards what follows.

	// record is what has happened to it so far. alone says that it is run by
	// itself: it is a probe, or was begun when a worker died; careful that the
	// worker is to tell the row that it is at.
	record
	alone, careful bool
	// probe says that it is a part of a bundle that has failed.
	probe bool
	// settled says that err, or else result, is what Wait will give; sending
	// that the session's goroutine still holds the input. done is closed when
	// settled and not sending.
	settled, sending bool
	err              error
	attempt
}

func newBundle(s *session, input exec.BatchSource, firstRow int64) *bundle {
	return &bundle{
		session: s, input: input, firstRow: firstRow, done: make(chan struct{}), record: record{row: -1},
		// Where it is run only once, that time has to tell the row. One that
		// must not be begun twice is begun only when the worker has no other.
		careful: s.stage.Retries == 0 || s.stage.Once, alone: s.stage.Once,
	}
}

// attempt is what has to be begun anew when a worker has died.
type attempt struct {
	// instruction names the bundle to the worker; "" says that the bundle is
	// not begun.
	instruction string
	// begunAt is when the worker was asked to run it, inputWaited how long its
	// input was waited for meanwhile.
	begunAt     time.Time
	inputWaited time.Duration
	// near is what the worker's Near was then.
	near int64
	// stopReading ends the reading of the input.
	stopReading context.CancelFunc
	// inputBytes, rows and batchRows are what has been sent, sentAll that this
	// is all. sentBytes count what is not held too.
	inputBytes int64
	sentBytes  int64
	rows       int64
	batchRows  []int64
	sentAll    bool
	// result is the data stream that came back, in pieces that the bundle owns.
	result      []piece
	resultBytes int64
	// again says that it is to be run again as soon as nothing is sent of it.
	again bool
	// spent is where the worker says its time has gone.
	spent exec.Work
	// resultEnded and responded say that the data stream's last piece and the
	// response have come, in either order.
	resultEnded, responded bool
}

// drop gives up what has come back.
func (a *attempt) drop() {
	releasePieces(a.result)
	a.result = nil
}

// Wait implements exec.Bundle. The batches may refer to slots of the worker, of
// which there are few: one that is never released costs those behind it a copy.
func (b *bundle) Wait(ctx context.Context) ([]arrow.RecordBatch, error) {
	select {
	case <-b.done:
	case <-ctx.Done():
		b.session.stop(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
	pieces, err := b.takeResult()
	if err != nil {
		return nil, err
	}
	batches, err := b.session.decode(pieces)
	if err != nil {
		return nil, strange(b.session.stage, err.Error())
	}
	if err := b.checkShape(batches); err != nil {
		releaseAll(batches)
		return nil, err
	}
	return batches, nil
}

// takeResult gives what has come back, which the caller releases, or why nothing
// has.
func (b *bundle) takeResult() ([]piece, error) {
	b.session.mu.Lock()
	defer b.session.mu.Unlock()
	pieces := b.result
	b.result = nil
	delete(b.session.untaken, b)
	return pieces, b.err
}

// Held implements exec.Bundle.
func (b *bundle) Held() int64 {
	b.session.mu.Lock()
	defer b.session.mu.Unlock()
	return b.resultBytes
}

// checkShape compares what came back with what the kind of stage promises.
func (b *bundle) checkShape(batches []arrow.RecordBatch) error {
	stage := b.session.stage
	switch stage.Kind {
	case exec.StageColumns:
		if len(batches) != len(b.batchRows) {
			return strange(stage, fmt.Sprintf("%d batches went out and %d came back", len(b.batchRows), len(batches)))
		}
		for i, batch := range batches {
			if batch.NumRows() != b.batchRows[i] {
				return strange(stage, fmt.Sprintf("%d rows went out and %d came back", b.batchRows[i], batch.NumRows()))
			}
		}
	case exec.StageFlatMap:
		return b.checkRows(batches)
	case exec.StageAggregate:
		return b.checkStates(batches)
	case exec.StageFit:
		if len(batches) != 1 || batches[0].NumRows() != 1 {
			return strange(stage, fmt.Sprintf("a fit function gave %d batches", len(batches)))
		}
	}
	return nil
}

// checkRows checks that each row of a flat_map's result says which row of the
// bundle's batch it is from, in order.
func (b *bundle) checkRows(batches []arrow.RecordBatch) error {
	last := int64(0)
	for _, batch := range batches {
		rows, ok := batch.Column(0).(*array.Int64)
		if !ok || rows.NullN() > 0 {
			return strange(b.session.stage, "rows came back without the row that they are from")
		}
		for _, row := range rows.Int64Values() {
			if row < last || row >= b.rows {
				return strange(b.session.stage, fmt.Sprintf("a row came back for row %d, after row %d of %d", row, last, b.rows))
			}
			last = row
		}
	}
	return nil
}

// checkStates checks the number of states of a bundle.
func (b *bundle) checkStates(batches []arrow.RecordBatch) error {
	rows := int64(0)
	for _, batch := range batches {
		rows += batch.NumRows()
	}
	if b.session.stage.Keys == 0 && rows != 1 || b.session.stage.Keys > 0 && rows > b.rows {
		return strange(b.session.stage, fmt.Sprintf("%d states came back for %d rows", rows, b.rows))
	}
	return nil
}

// workLocked is what a worker has done that was busy with the bundle for so long.
func (b *bundle) workLocked(busy time.Duration) exec.Work {
	w := b.spent
	told := w.Load
	for _, f := range w.Functions {
		told += f.Python + f.Conversion
	}
	// A worker that was still starting counts what nobody need have waited for.
	early := max(0, min(w.Load, told-busy))
	w.Load -= early
	w.Busy, w.Batches, w.BytesTo, w.BytesFrom = max(busy, told-early), int64(len(b.batchRows)), b.sentBytes, b.resultBytes
	return w
}

// errTooLarge is what a bundle ends with whose result has no bound.
func errTooLarge(stage *exec.FunctionStage) error {
	what, hint := "one batch", "return less for each batch, or set a smaller batch_rows="
	if stage.Kind.WholeInput() {
		what, hint = "its table", "a table that a function makes of a whole table comes back as one: return less"
	}
	return diag.New(diag.OutputTooLarge, "%s returned more than %d GiB for %s", functionNames(stage), resultBytesMax>>30, what).
		WithHint("%s", hint).
		At(stage.Calls[0].Operator, stage.Calls[0].Origin)
}

// errDropped is what a bundle ends with that nobody waits for any more.
var errDropped = errors.New("the session was closed")
