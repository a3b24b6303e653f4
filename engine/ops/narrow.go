package ops

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// blameTime is how long the row is looked for that has killed its workers where
// the job fails whatever it is.
const blameTime = 30 * time.Second

// piece are rows that a bundle is made of.
type piece struct {
	input arrow.RecordBatch
	// columns are those that cross to the worker, letters those that make a
	// dead letter.
	columns, letters []int
	firstRow         int64
	allocator        memory.Allocator
}

// slice is a part of a piece; the caller releases its input.
func (p piece) slice(begin, end int64) piece {
	p.input, p.firstRow = p.input.NewSlice(begin, end), p.firstRow+begin
	return p
}

func (p piece) memory() memory.Allocator {
	if p.allocator == nil {
		return memory.DefaultAllocator
	}
	return p.allocator
}

// emitPiece passes on what the rows of a piece have given; results, which it
// takes over, are nil for a row that is given up.
type emitPiece func(ctx context.Context, p piece, results []arrow.RecordBatch, out *exec.Output) error

// recovery says what becomes of a bundle on which the function has failed.
//
// Where that is to fail the job, the row that has killed its worker is looked
// for, if the worker has not told it. Otherwise the bundle is run again in
// parts: what is before the row, the row by itself, what is behind it; or, where
// the row is not known, in halves. A row that fails by itself is given up, so
// what nobody else fails on is lost to nobody. Parts are emitted in their order,
// each once.
func (b *bundler) recovery(whole piece, emit emitPiece) func(context.Context, *exec.BundleFailure, *exec.Output) error {
	return func(ctx context.Context, failure *exec.BundleFailure, out *exec.Output) error {
		stage := b.lease.stage
		switch {
		case failure.Fatal || stage.Once:
			return failure
		case !stage.OnError.Tolerant():
			return b.blame(ctx, whole, failure)
		}
		n := &narrowing{bundler: b, emit: emit, out: out}
		if err := n.narrow(ctx, whole, failure); err != nil {
			return err
		}
		if n.given == 0 { // it was not a row, but all of them together
			return stage.Failures.Settled(failure.Deaths)
		}
		return nil
	}
}

// narrowing is a bundle that is run again in parts.
type narrowing struct {
	*bundler
	emit  emitPiece
	out   *exec.Output
	given int
}

// narrow runs a bundle that has failed in parts. A function of rows that was
// stopped at its time limit is run once more first where the row is not known:
// that takes the limit again, halves would take it each time.
func (n *narrowing) narrow(ctx context.Context, whole piece, failure *exec.BundleFailure) error {
	if toldAgain(n.lease.stage, failure) {
		return n.run(ctx, whole, 0, whole.input.NumRows())
	}
	return n.split(ctx, whole, failure)
}

// split runs the parts of a piece that has failed.
func (n *narrowing) split(ctx context.Context, p piece, failure *exec.BundleFailure) error {
	rows, row := p.input.NumRows(), failure.Row
	switch {
	case failure.Fatal:
		return failure
	case rows == 1:
		return n.giveUp(ctx, p, failure)
	case row < 0 || row >= rows:
		if err := n.run(ctx, p, 0, rows/2); err != nil {
			return err
		}
		return n.run(ctx, p, rows/2, rows)
	}
	if err := n.run(ctx, p, 0, row); err != nil {
		return err
	}
	if failure.Sure || n.lease.stage.Retries == 0 {
		one := p.slice(row, row+1)
		defer one.input.Release()
		if err := n.giveUp(ctx, one, failure); err != nil {
			return err
		}
	} else if err := n.run(ctx, p, row, row+1); err != nil {
		return err
	}
	return n.run(ctx, p, row+1, rows)
}

// run runs a part of a piece.
func (n *narrowing) run(ctx context.Context, p piece, begin, end int64) error {
	if begin == end {
		return nil
	}
	part := p.slice(begin, end)
	results, err := n.probe(ctx, part)
	if failure, ok := errors.AsType[*exec.BundleFailure](err); ok {
		defer part.input.Release()
		return n.split(ctx, part, failure)
	}
	if err != nil {
		n.later = append(n.later, part.input.Release) // the session may use it
		return err
	}
	defer part.input.Release()
	return n.emit(ctx, part, results, n.out)
}

// probe runs a piece by itself.
func (b *bundler) probe(ctx context.Context, p piece) ([]arrow.RecordBatch, error) {
	stage := b.lease.stage
	bundle, err := b.lease.session.Probe(ctx, newOneBatch(p.input, p.columns, stage.Input), p.firstRow)
	if err != nil {
		return nil, err
	}
	return bundle.Wait(ctx)
}

// giveUp notes that the function fails on a row, and emits what the row gives
// all the same.
func (n *narrowing) giveUp(ctx context.Context, row piece, failure *exec.BundleFailure) error {
	n.given++
	failed := exec.FailedRow{
		Index: row.firstRow, Kind: failure.Kind, Message: failure.Message, Worker: strings.Join(failure.Facts, "; "),
	}
	if e := failure.Exception; e != nil && failure.Kind == exec.FailedException {
		failed.Type, failed.Message = e.Type, e.Message
	}
	if err := addFailed(ctx, n.lease.stage, row, []int64{0}, []exec.FailedRow{failed}); err != nil {
		return err
	}
	if n.lease.stage.Failures.Rows() != nil {
		return nil // it is left out
	}
	return n.emit(ctx, row, nil, n.out)
}

// blame looks for the row that has killed its workers, by halves, and gives the
// failure that names it. It is over when that takes long, or when both halves
// of what is left do well: then no row is to blame.
func (b *bundler) blame(ctx context.Context, p piece, failure *exec.BundleFailure) error {
	if failure.Row >= 0 || b.lease.stage.Retries == 0 {
		return failure
	}
	switch failure.Kind {
	case exec.FailedTime:
		if !toldAgain(b.lease.stage, failure) || b.lease.stage.Calls[0].Function.Timeout() > blameTime {
			return failure
		}
		found, err := b.try(ctx, p.slice(0, p.input.NumRows()))
		if err != nil {
			return err
		}
		if found == nil {
			return failure
		}
		return named(failure, found)
	case exec.FailedException, exec.FailedKilled, exec.FailedLost:
		return failure
	}
	ends := time.Now().Add(blameTime)
	for begin, end := int64(0), p.input.NumRows(); time.Now().Before(ends); {
		half := (begin + end + 1) / 2
		found, err := b.try(ctx, p.slice(begin, half))
		switch {
		case err != nil:
			return err
		case found == nil && end-begin == 1:
			return failure
		case found == nil:
			begin = half
		case half-begin == 1 || found.Row >= 0:
			return named(failure, found)
		default:
			end = half
		}
	}
	return failure
}

// toldAgain reports whether a bundle that was stopped at its time limit would
// tell the row if it were run once more.
func toldAgain(stage *exec.FunctionStage, failure *exec.BundleFailure) bool {
	kind := stage.Calls[0].Function.Kind
	return failure.Kind == exec.FailedTime && failure.Row < 0 && (kind == plan.RowFunction || kind == plan.FlatMapFunction)
}

// try gives the failure of a piece, whose input it releases, or nil if it does
// well.
func (b *bundler) try(ctx context.Context, p piece) (*exec.BundleFailure, error) {
	results, err := b.probe(ctx, p)
	releaseAll(results)
	failure, ok := errors.AsType[*exec.BundleFailure](err)
	if err != nil && !ok {
		b.later = append(b.later, p.input.Release)
		return nil, err
	}
	p.input.Release()
	return failure, nil
}

// named is a failure with the row that another one tells.
func named(failure, found *exec.BundleFailure) error {
	if found.Diagnostic.Row == nil || found.Kind != failure.Kind {
		return failure
	}
	d := *failure.Diagnostic
	d.Row, d.Facts = found.Diagnostic.Row, nil
	for _, fact := range failure.Facts {
		if !strings.HasPrefix(fact, "rows ") {
			d.Facts = append(d.Facts, fact)
		}
	}
	more := *failure
	more.Diagnostic = &d
	return &more
}
