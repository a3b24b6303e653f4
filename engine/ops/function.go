// Package ops holds the engine's operators, one file each. They implement
// exec.Operator on Arrow batches and import nothing beside engine/exec: what
// runs Python or SQL, reads or writes reaches them through exec's interfaces.
package ops

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"
)

// Function applies a stage of Python functions to each batch. Only the columns
// that the functions need cross to the worker; with KeepInput their results
// are put behind the columns of the input. Several bundles are in flight; the
// order of the input is kept.
type Function struct {
	Runner exec.FunctionRunner
	Stage  *exec.FunctionStage
	// Columns are the columns of the input that make the stage's input.
	Columns []int
	// KeepInput is set for functions that add columns, to the columns Kept of
	// the input (nil: all).
	KeepInput bool
	Kept      []int
	// Schema is the operator's output.
	Schema *arrow.Schema
	// Eager opens the session at once instead of at the first batch.
	Eager bool
	// Letters are the columns of the input that make a dead letter.
	Letters []int
	// Allocator is for what is put together; nil means Arrow's default.
	Allocator memory.Allocator
	// RowsWanted is how many rows a limit behind wants: then the first bundles
	// are small, so that not a whole batch is run for a few rows. 0 means all.
	RowsWanted int64
	// Tables are what the function gets whole, beside its batches.
	Tables []*SideTable
}

// Sizes of the first bundles below a limit: about as many rows as it wants, and
// each time firstGrowth as many, since a step between may leave rows out.
const (
	firstRowsMin = 64
	firstRowsMax = 65_536
	firstGrowth  = 4
)

// FirstRows is how many rows the first bundle has below a limit that wants so
// many; 0 is no bound.
func FirstRows(wanted int64) int64 {
	if wanted == 0 {
		return 0
	}
	return max(firstRowsMin, wanted)
}

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (f *Function) OwnTime() {}

// Run implements exec.Operator.
func (f *Function) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	defer leaveTables(f.Tables)
	b := newBundler(f.Runner, f.Stage)
	return b.run(ctx, f.Eager, func(ctx context.Context) error { return f.submit(ctx, in[0], b) }, out)
}

// submit reads the input and hands its batches to the worker.
func (f *Function) submit(ctx context.Context, in *exec.Input, b *bundler) error {
	rows := cmp.Or(FirstRows(f.RowsWanted), math.MaxInt64)
	for {
		e, err := in.Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return err
		}
		if e.Kind != exec.KindBatch {
			err = b.pass(ctx, e)
		} else if err = awaitTables(ctx, f.Tables); err != nil {
			e.Release()
		} else {
			rows, err = f.submitBatch(ctx, e, rows, b)
		}
		if err != nil {
			return err
		}
	}
}

// BundleShare is the part of a stage's credit that one bundle's input has at
// most, unless a row is larger, so that several may be in flight.
const BundleShare = 4

// widths are the bytes that each row of a batch has in the columns that cross,
// or nil where all of them together are within what a bundle may have.
func (f *Function) widths(batch arrow.RecordBatch) []int64 {
	total := int64(0)
	for _, c := range f.Columns {
		total += util.TotalArraySize(batch.Column(c))
	}
	if total <= f.Stage.Credit()/BundleShare {
		return nil
	}
	return rowBytes(batch, f.Columns)
}

// end is where a bundle ends that begins at a row and has at most so many.
func (f *Function) end(widths []int64, begin, rows int64, batch arrow.RecordBatch) int64 {
	end := begin + min(rows, batch.NumRows()-begin)
	if widths == nil {
		return end
	}
	bytes := widths[begin]
	for row := begin + 1; row < end; row++ {
		if bytes += widths[row]; bytes > f.Stage.Credit()/BundleShare {
			return row
		}
	}
	return end
}

// submitBatch makes bundles of a batch, which it takes over: the first one of
// so many rows, and the following of more; fewer where a worker came near its
// limit of memory, or the function is slow. It gives the size of the next.
func (f *Function) submitBatch(ctx context.Context, e exec.Element, rows int64, b *bundler) (int64, error) {
	widths, callRows := f.widths(e.Batch), CallRows(f.Stage)
	if e.Batch.NumRows() <= min(rows, f.Stage.Meter.RowsMax(callRows)) && (widths == nil || f.end(widths, 0, rows, e.Batch) == e.Batch.NumRows()) {
		return f.grown(rows, e.Batch.NumRows()), b.submit(ctx, newOneBatch(e.Batch, f.Columns, f.Stage.Input), e.FirstRow, f.task(e.Batch, e.FirstRow, exec.BatchBytes(e.Batch), b))
	}
	defer e.Release()
	bytes := exec.BatchBytes(e.Batch) // the pieces keep the same memory
	for begin := int64(0); begin < e.Batch.NumRows(); {
		end := f.end(widths, begin, min(rows, f.Stage.Meter.RowsMax(callRows)), e.Batch)
		piece := e.Batch.NewSlice(begin, end)
		if err := b.submit(ctx, newOneBatch(piece, f.Columns, f.Stage.Input), e.FirstRow+begin, f.task(piece, e.FirstRow+begin, bytes, b)); err != nil {
			return rows, err
		}
		rows, begin, bytes = f.grown(rows, end-begin), end, 0
	}
	return rows, nil
}

// CallRows are the rows that a stage's functions are to be called for at once,
// 0 where nobody has said.
func CallRows(stage *exec.FunctionStage) int64 {
	most := 0
	for _, call := range stage.Calls {
		most = max(most, call.Function.Options.BatchRows)
	}
	return int64(most)
}

// grown is the size of the bundle after one of done rows, which was to have
// rows.
func (f *Function) grown(rows, done int64) int64 {
	if done < rows {
		return rows // also where there is no bound
	}
	if rows >= firstRowsMax/firstGrowth {
		return math.MaxInt64
	}
	return rows * firstGrowth
}

// task is the bundle of a batch, which it takes over.
func (f *Function) task(input arrow.RecordBatch, firstRow, bytes int64, b *bundler) *task {
	whole := piece{input: input, columns: f.Columns, letters: f.Letters, firstRow: firstRow, allocator: f.Allocator}
	emit := func(ctx context.Context, p piece, results []arrow.RecordBatch, out *exec.Output) error {
		return f.emitPiece(ctx, p, results, out)
	}
	return &task{
		release: input.Release, inputBytes: bytes,
		emit: func(ctx context.Context, results []arrow.RecordBatch, out *exec.Output) error {
			return emit(ctx, whole, results, out)
		},
		fail: b.recovery(whole, emit),
	}
}

// emitPiece passes on what the rows of a piece have given; it takes results
// over.
func (f *Function) emitPiece(ctx context.Context, p piece, results []arrow.RecordBatch, out *exec.Output) error {
	if !f.KeepInput {
		return emitAll(ctx, results, out)
	}
	if f.Stage.OnError.Tolerant() {
		if results == nil { // the piece has failed, and gives NULL
			return f.emitNulls(ctx, p, out)
		}
		return f.emitTolerant(ctx, p, results, out)
	}
	joined, err := f.join(p.input, results)
	if err != nil {
		return err
	}
	return out.EmitBatch(ctx, joined)
}

// emitAll passes on batches, all of which it takes over.
func emitAll(ctx context.Context, batches []arrow.RecordBatch, out *exec.Output) error {
	var failure error
	for _, batch := range batches {
		if failure != nil {
			batch.Release()
			continue
		}
		failure = out.EmitBatch(ctx, batch)
	}
	return failure
}

// join puts the result's columns behind those of the input; it takes results
// over.
func (f *Function) join(input arrow.RecordBatch, results []arrow.RecordBatch) (arrow.RecordBatch, error) {
	defer releaseAll(results)
	if len(results) != 1 || results[0].NumRows() != input.NumRows() {
		return nil, fmt.Errorf("stage %s: %d batches came back for one of %d rows", f.Stage.ID, len(results), input.NumRows())
	}
	return array.NewRecordBatch(f.Schema, append(f.kept(input), results[0].Columns()...), input.NumRows()), nil
}

// kept are the columns of the input that stand before the results.
func (f *Function) kept(input arrow.RecordBatch) []arrow.Array {
	if f.Kept == nil {
		return slices.Clone(input.Columns())
	}
	columns := make([]arrow.Array, 0, f.Schema.NumFields())
	for _, c := range f.Kept {
		columns = append(columns, input.Column(c))
	}
	return columns
}

func releaseAll(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}

// lease opens its session once, when it is first needed.
type lease struct {
	runner  exec.FunctionRunner
	stage   *exec.FunctionStage
	session exec.FunctionSession
}

func (l *lease) open(ctx context.Context) (err error) {
	if l.session == nil {
		l.session, err = l.runner.Open(ctx, l.stage)
	}
	return err
}

func (l *lease) close() error {
	if l.session == nil {
		return nil
	}
	return l.session.Close()
}

// oneBatch is the input of a bundle that is made of one batch: it makes the
// batch whenever it is read.
type oneBatch func() arrow.RecordBatch

// newOneBatch gives columns of a batch, which it does not own: whoever submits it
// keeps the batch until the bundle is done.
func newOneBatch(batch arrow.RecordBatch, columns []int, schema *arrow.Schema) oneBatch {
	return func() arrow.RecordBatch { return pick(batch, columns, schema) }
}

func (o oneBatch) Open(context.Context) (exec.BatchReader, error) {
	return &oneBatchReader{source: o}, nil
}

type oneBatchReader struct {
	source oneBatch
	read   bool
}

func (r *oneBatchReader) Next(context.Context) (arrow.RecordBatch, error) {
	if r.read {
		return nil, io.EOF
	}
	r.read = true
	return r.source(), nil
}

func (r *oneBatchReader) Close() {}

// pick makes a batch of some columns of another, which it does not take over.
// A function without arguments gets a batch of rows without columns.
func pick(batch arrow.RecordBatch, columns []int, schema *arrow.Schema) arrow.RecordBatch {
	picked := make([]arrow.Array, len(columns))
	for i, c := range columns {
		picked[i] = batch.Column(c)
	}
	return array.NewRecordBatch(schema, picked, batch.NumRows())
}
