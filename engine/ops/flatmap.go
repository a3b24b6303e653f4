package ops

import (
	"context"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/alink-runtime/alink/engine/exec"
)

// Limits of a FlatMap. What a bundle gives is in memory as a whole, so bundles
// are made of so many rows that they give flatMapBytesWanted; the first ones
// are small, because nothing is known yet.
const (
	flatMapRowsFirst   = 1024
	flatMapRowsMax     = 65_536
	flatMapGrowth      = 4
	flatMapBytesWanted = 4 << 20
	// A batch that is passed on has at most so many rows, and so many bytes of
	// the input's columns unless one row has more.
	joinedRowsMax  = 65_536
	joinedBytesMax = 8 << 20
)

// FlatMap applies a function that gives any number of rows for each row. The
// order of the input is kept.
type FlatMap struct {
	Runner exec.FunctionRunner
	// Stage is of the kind StageFlatMap.
	Stage *exec.FunctionStage
	// Columns are the columns of the input that make the stage's input.
	Columns []int
	// Kept are the columns of the input that stand before the function's, and
	// Outer keeps a row without results once, with NULLs in the latter.
	Kept  []int
	Outer bool
	// Letters are the columns of the input that make a dead letter.
	Letters []int
	// Schema is the operator's output.
	Schema *arrow.Schema
	// Eager opens the session at once instead of at the first batch.
	Eager bool
	// Allocator is for what is put together; nil means Arrow's default.
	Allocator memory.Allocator
}

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (f *FlatMap) OwnTime() {}

// Run implements exec.Operator.
func (f *FlatMap) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	run := &flatMapRun{FlatMap: f, bundler: newBundler(f.Runner, f.Stage)}
	run.rows.Store(flatMapRowsFirst)
	return run.run(ctx, f.Eager, func(ctx context.Context) error { return run.submitAll(ctx, in[0]) }, out)
}

// flatMapRun is a FlatMap at work.
type flatMapRun struct {
	*FlatMap
	*bundler
	// rows is the number of rows of the next bundle.
	rows atomic.Int64
}

func (f *flatMapRun) submitAll(ctx context.Context, in *exec.Input) error {
	for {
		e, err := in.Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return err
		}
		if e.Kind != exec.KindBatch {
			err = f.pass(ctx, e)
		} else {
			err = f.submitBatch(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// submitBatch makes bundles of a batch, which it takes over.
func (f *flatMapRun) submitBatch(ctx context.Context, e exec.Element) error {
	defer e.Release()
	for begin := int64(0); begin < e.Batch.NumRows(); {
		end := min(begin+f.rows.Load(), e.Batch.NumRows())
		whole := piece{
			input: e.Batch.NewSlice(begin, end), columns: f.Columns, letters: f.Letters, firstRow: e.FirstRow + begin, allocator: f.Allocator,
		}
		t := &task{
			release: whole.input.Release,
			emit: func(ctx context.Context, results []arrow.RecordBatch, out *exec.Output) error {
				f.learn(whole.input.NumRows(), results)
				return f.emitPiece(ctx, whole, results, out)
			},
			fail: f.recovery(whole, f.emitPiece),
		}
		if begin == 0 { // the pieces keep the same memory
			t.inputBytes = exec.BatchBytes(e.Batch)
		}
		if err := f.submit(ctx, newOneBatch(whole.input, f.Columns, f.Stage.Input), e.FirstRow+begin, t); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// learn sets the size of the bundles to come by what one has given.
func (f *flatMapRun) learn(rows int64, results []arrow.RecordBatch) {
	bytes := int64(0)
	for _, r := range results {
		bytes += exec.BatchBytes(r)
	}
	most := min(flatMapGrowth*rows, flatMapRowsMax)
	if bytes > 0 {
		most = min(most, rows*flatMapBytesWanted/bytes)
	}
	if most < f.rows.Load() || rows >= f.rows.Load() { // the last piece of a batch says little
		f.rows.Store(max(1, most))
	}
}

// emitPiece passes on what the rows of a piece have given; it takes results
// over.
func (f *flatMapRun) emitPiece(ctx context.Context, p piece, results []arrow.RecordBatch, out *exec.Output) error {
	var left map[int64]bool
	if f.Stage.OnError.Tolerant() {
		var err error
		if results, left, err = f.settle(ctx, p, results); err != nil {
			return err
		}
	}
	return f.emitResults(ctx, p.input, left, results, out)
}

// emitResults passes on what the rows of input have given, left apart; it takes
// results over.
func (f *flatMapRun) emitResults(ctx context.Context, input arrow.RecordBatch, left map[int64]bool, results []arrow.RecordBatch, out *exec.Output) error {
	defer releaseAll(results)
	if f.Kept == nil {
		for _, r := range results {
			if err := f.emitPlain(ctx, r, out); err != nil {
				return err
			}
		}
		return nil
	}
	allocator := f.Allocator
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	j := &joiner{f: f.FlatMap, input: input, leftOut: left, widths: rowBytes(input, f.Kept), allocator: allocator, out: out}
	for _, r := range results {
		if err := j.add(ctx, r); err != nil {
			return err
		}
	}
	return j.end(ctx)
}

// emitPlain passes on a result without the rows that it is from.
func (f *flatMapRun) emitPlain(ctx context.Context, result arrow.RecordBatch, out *exec.Output) error {
	whole := array.NewRecordBatch(f.Schema, result.Columns()[1:], result.NumRows())
	defer whole.Release()
	for begin := int64(0); begin < whole.NumRows(); begin += joinedRowsMax {
		end := min(begin+joinedRowsMax, whole.NumRows())
		if err := out.EmitBatch(ctx, whole.NewSlice(begin, end)); err != nil {
			return err
		}
	}
	return nil
}

// joiner puts the rows of a FlatMap's result behind those that they are from.
type joiner struct {
	f         *FlatMap
	input     arrow.RecordBatch
	widths    []int64
	allocator memory.Allocator
	out       *exec.Output
	// leftOut are rows of the input that are not to appear.
	leftOut map[int64]bool
	// next is the first row of the input that nothing has been found of.
	next int64
	// left and right are rows of the input and of the result that belong
	// together; right is -1 for a row without results.
	left, right []int64
	nulls       int
	bytes       int64
}

// add joins a batch of the result, which it does not take over.
func (j *joiner) add(ctx context.Context, result arrow.RecordBatch) error {
	for i, row := range result.Column(0).(*array.Int64).Int64Values() {
		if err := j.skip(ctx, row, result); err != nil {
			return err
		}
		if err := j.append(ctx, row, int64(i), result); err != nil {
			return err
		}
		j.next = row + 1
	}
	return j.flush(ctx, result)
}

// end adds the last rows without results.
func (j *joiner) end(ctx context.Context) error {
	if err := j.skip(ctx, j.input.NumRows(), nil); err != nil {
		return err
	}
	return j.flush(ctx, nil)
}

// skip adds, for an outer join, the rows before row that gave nothing.
func (j *joiner) skip(ctx context.Context, row int64, result arrow.RecordBatch) error {
	for ; j.f.Outer && j.next < row; j.next++ {
		if j.leftOut[j.next] {
			continue
		}
		if err := j.append(ctx, j.next, -1, result); err != nil {
			return err
		}
	}
	return nil
}

func (j *joiner) append(ctx context.Context, left, right int64, result arrow.RecordBatch) error {
	width := j.widths[left]
	if len(j.left) > 0 && (len(j.left) >= joinedRowsMax || j.bytes+width > joinedBytesMax) {
		if err := j.flush(ctx, result); err != nil {
			return err
		}
	}
	j.left, j.right, j.bytes = append(j.left, left), append(j.right, right), j.bytes+width
	if right < 0 {
		j.nulls++
	}
	return nil
}

// flush passes on what has been joined with rows of result.
func (j *joiner) flush(ctx context.Context, result arrow.RecordBatch) error {
	if len(j.left) == 0 {
		return nil
	}
	rows := int64(len(j.left))
	columns := make([]arrow.Array, 0, j.f.Schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	ctxTake := compute.WithAllocator(ctx, j.allocator)
	left := j.indices(j.left)
	defer left.Release()
	for _, c := range j.f.Kept {
		taken, err := takeRows(ctxTake, j.input.Column(c), left)
		if err != nil {
			return err
		}
		columns = append(columns, taken)
	}
	right, err := j.results(ctxTake, result)
	columns = append(columns, right...)
	if err != nil {
		return err
	}
	j.left, j.right, j.nulls, j.bytes = j.left[:0], j.right[:0], 0, 0
	return j.out.EmitBatch(ctx, array.NewRecordBatch(j.f.Schema, columns, rows))
}

// results are the columns of the function, the caller's even with an error.
func (j *joiner) results(ctx context.Context, result arrow.RecordBatch) (columns []arrow.Array, err error) {
	fields := j.f.Schema.Fields()[len(j.f.Kept):]
	var right arrow.Array
	if j.nulls > 0 && j.nulls < len(j.right) {
		right = j.indices(j.right)
		defer right.Release()
	}
	for i, field := range fields {
		var column arrow.Array
		switch {
		case j.nulls == len(j.right):
			column = exec.Nulls(j.allocator, field.Type, len(j.right))
		case j.nulls == 0: // results come in order, without gaps
			column = array.NewSlice(result.Column(1+i), j.right[0], j.right[len(j.right)-1]+1)
		default:
			if column, err = takeRows(ctx, result.Column(1+i), right); err != nil {
				return columns, err
			}
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// indices makes an array of indices, NULL for negative ones.
func (j *joiner) indices(rows []int64) arrow.Array {
	b := array.NewInt64Builder(j.allocator)
	defer b.Release()
	b.Reserve(len(rows))
	for _, row := range rows {
		if row < 0 {
			b.UnsafeAppendBoolToBitmap(false)
		} else {
			b.UnsafeAppend(row)
		}
	}
	return b.NewArray()
}

// rowBytes are the bytes that the values of each row have in some columns.
func rowBytes(batch arrow.RecordBatch, columns []int) []int64 {
	widths := make([]int64, batch.NumRows())
	for _, c := range columns {
		addBytes(widths, batch.Column(c))
	}
	return widths
}

// addBytes adds what the rows of a column have: exactly for text, otherwise on
// the average.
func addBytes(widths []int64, column arrow.Array) {
	switch column := column.(type) {
	case array.BinaryLike:
		for i := range widths {
			widths[i] += int64(column.ValueLen(i))
		}
	case array.ListLike:
		values := column.ListValues()
		each := int64(1)
		if values.Len() > 0 {
			each += util.TotalArraySize(values) / int64(values.Len())
		}
		for i := range widths {
			begin, end := column.ValueOffsets(i)
			widths[i] += each * (end - begin)
		}
	case *array.Struct:
		for i := range column.NumField() {
			addBytes(widths, column.Field(i))
		}
	default:
		if t, ok := column.DataType().(arrow.FixedWidthDataType); ok {
			for i := range widths {
				widths[i] += int64(t.Bytes())
			}
		}
	}
}

// takeRows gives the rows of a column at indices, NULL where they are NULL.
func takeRows(ctx context.Context, column arrow.Array, indices arrow.Array) (arrow.Array, error) {
	if column.DataType().ID() == arrow.INTERVAL_MONTH_DAY_NANO {
		return takeIntervals(ctx, column.(*array.MonthDayNanoInterval), indices.(*array.Int64)), nil
	}
	return compute.TakeArray(ctx, column, indices)
}

// takeIntervals is for the one type that Arrow's take does not know.
func takeIntervals(ctx context.Context, column *array.MonthDayNanoInterval, indices *array.Int64) arrow.Array {
	b := array.NewMonthDayNanoIntervalBuilder(compute.GetAllocator(ctx))
	defer b.Release()
	b.Reserve(indices.Len())
	for i := range indices.Len() {
		if row := int(indices.Value(i)); indices.IsNull(i) || column.IsNull(row) {
			b.AppendNull()
		} else {
			b.Append(column.Value(row))
		}
	}
	return b.NewArray()
}
