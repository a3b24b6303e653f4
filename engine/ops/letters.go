package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// messageBytesMax bounds what is kept of what a worker says of a row.
const messageBytesMax = 8_000

// addFailed notes that a function has failed on rows of a piece.
func addFailed(ctx context.Context, stage *exec.FunctionStage, p piece, rows []int64, failed []exec.FailedRow) error {
	stage.Meter.Failed(len(failed))
	failures := stage.Failures
	var letters arrow.RecordBatch
	if schema := failures.Rows(); schema != nil {
		// They outlive the operator, and whoever forgets the job may leave them
		// to the collector.
		columns, err := takeAll(ctx, memory.DefaultAllocator, p.input, p.letters, rows)
		if err != nil {
			return err
		}
		letters = array.NewRecordBatch(schema, columns, int64(len(rows)))
		exec.ReleaseColumns(columns)
	}
	return failures.Add(failed, letters)
}

// takeAll gives rows of some columns of a batch; the caller releases them.
func takeAll(ctx context.Context, allocator memory.Allocator, batch arrow.RecordBatch, columns []int, rows []int64) ([]arrow.Array, error) {
	picked := make([]arrow.Array, len(columns))
	for i, c := range columns {
		picked[i] = batch.Column(c)
	}
	return takeColumns(ctx, picked, rows, allocator)
}

// failedRows reads the column in which a worker tells on which rows the function
// has failed. rowOf gives the row of the piece that an entry is about.
func failedRows(column arrow.Array, firstRow int64, rowOf func(i int) int64) (rows []int64, failed []exec.FailedRow, err error) {
	told, ok := column.(*array.String)
	if !ok {
		return nil, nil, fmt.Errorf("the column of errors has type %s", column.DataType())
	}
	for i := 0; i < told.Len() && told.NullN() < told.Len(); i++ {
		if told.IsNull(i) {
			continue
		}
		row := rowOf(i)
		rows = append(rows, row)
		failed = append(failed, failedRow(told.Value(i), firstRow+row))
	}
	return rows, failed, nil
}

// failedRow is what a worker says of a row. It is not trusted: what it says is
// bounded, and only shown.
func failedRow(text string, index int64) exec.FailedRow {
	var told struct {
		Message   string `json:"message"`
		Exception *struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"exception"`
	}
	row := exec.FailedRow{Index: index, Kind: exec.FailedException}
	if json.Unmarshal([]byte(text), &told) != nil {
		row.Message = short(text)
		return row
	}
	row.Message = short(told.Message)
	if told.Exception != nil {
		row.Type, row.Message = short(told.Exception.Type), short(told.Exception.Message)
	}
	return row
}

// short bounds a text, at the end of a character.
func short(text string) string {
	if len(text) <= messageBytesMax {
		return text
	}
	text = text[:messageBytesMax]
	for len(text) > 0 {
		if r, size := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || size != 1 {
			break
		}
		text = text[:len(text)-1]
	}
	return text
}

// emitTolerant passes on what a piece has given, and notes the rows on which the
// function has failed. It takes results over.
func (f *Function) emitTolerant(ctx context.Context, p piece, results []arrow.RecordBatch, out *exec.Output) error {
	defer releaseAll(results)
	if len(results) != 1 || results[0].NumRows() != p.input.NumRows() {
		return fmt.Errorf("stage %s: %d batches came back for one of %d rows", f.Stage.ID, len(results), p.input.NumRows())
	}
	made := results[0].Columns()
	last := len(made) - 1
	rows, failed, err := failedRows(made[last], p.firstRow, func(i int) int64 { return int64(i) })
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		if err := addFailed(ctx, f.Stage, p, rows, failed); err != nil {
			return err
		}
	}
	all := array.NewRecordBatch(f.Schema, append(f.kept(p.input), made[:last]...), p.input.NumRows())
	if len(rows) == 0 || f.Stage.Failures.Rows() == nil {
		return out.EmitBatch(ctx, all)
	}
	defer all.Release()
	return f.emitWithout(ctx, p, all, rows, out)
}

// emitWithout passes on the rows of a batch that are not among those left out,
// which are in order. It does not take the batch over.
func (f *Function) emitWithout(ctx context.Context, p piece, batch arrow.RecordBatch, leftOut []int64, out *exec.Output) error {
	kept := make([]int64, 0, batch.NumRows())
	for row := range batch.NumRows() {
		if len(leftOut) > 0 && leftOut[0] == row {
			leftOut = leftOut[1:]
			continue
		}
		kept = append(kept, row)
	}
	if len(kept) == 0 {
		return nil
	}
	columns := make([]int, batch.NumCols())
	for i := range columns {
		columns[i] = i
	}
	taken, err := takeAll(ctx, p.memory(), batch, columns, kept)
	if err != nil {
		return err
	}
	defer exec.ReleaseColumns(taken)
	return out.EmitBatch(ctx, array.NewRecordBatch(f.Schema, taken, int64(len(kept))))
}

// emitNulls passes on a piece that has failed with NULL as its result.
func (f *Function) emitNulls(ctx context.Context, p piece, out *exec.Output) error {
	columns := f.kept(p.input)
	for _, field := range f.Schema.Fields()[len(columns):] {
		nulls := exec.Nulls(p.memory(), field.Type, int(p.input.NumRows()))
		defer nulls.Release()
		columns = append(columns, nulls)
	}
	return out.EmitBatch(ctx, array.NewRecordBatch(f.Schema, columns, p.input.NumRows()))
}

// settle notes the rows of a piece on which the function has failed, and gives
// the results without theirs, and the rows that are to be left out. It takes
// results over.
func (f *flatMapRun) settle(ctx context.Context, p piece, results []arrow.RecordBatch) (clean []arrow.RecordBatch, leftOut map[int64]bool, err error) {
	defer releaseAll(results)
	defer func() {
		if err != nil {
			releaseAll(clean)
			clean = nil
		}
	}()
	var rows []int64
	var failed []exec.FailedRow
	gone := map[int64]bool{}
	for _, r := range results {
		origins := r.Column(0).(*array.Int64)
		of, more, err := failedRows(r.Column(int(r.NumCols())-1), p.firstRow, func(i int) int64 { return origins.Value(i) })
		if err != nil {
			return clean, nil, err
		}
		for i, row := range of {
			if !gone[row] {
				gone[row] = true
				rows, failed = append(rows, row), append(failed, more[i])
			}
		}
	}
	if len(rows) > 0 {
		if err := addFailed(ctx, f.Stage, p, rows, failed); err != nil {
			return clean, nil, err
		}
	}
	for _, r := range results {
		c, err := f.without(ctx, r, gone)
		if err != nil {
			return clean, nil, err
		}
		clean = append(clean, c)
	}
	if f.Stage.Failures.Rows() == nil {
		gone = nil
	}
	return clean, gone, nil
}

// without gives the rows of a result that are not of certain rows of the input,
// without the column of errors.
func (f *flatMapRun) without(ctx context.Context, result arrow.RecordBatch, gone map[int64]bool) (arrow.RecordBatch, error) {
	last := int(result.NumCols()) - 1
	schema := arrow.NewSchema(f.Stage.Output.Fields()[:last], nil)
	kept := make([]int64, 0, result.NumRows())
	for i, row := range result.Column(0).(*array.Int64).Int64Values() {
		if !gone[row] {
			kept = append(kept, int64(i))
		}
	}
	if int64(len(kept)) == result.NumRows() {
		return array.NewRecordBatch(schema, result.Columns()[:last], result.NumRows()), nil
	}
	columns := make([]int, last)
	for i := range columns {
		columns[i] = i
	}
	allocator := f.Allocator
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	taken, err := takeAll(ctx, allocator, result, columns, kept)
	if err != nil {
		return nil, err
	}
	defer exec.ReleaseColumns(taken)
	return array.NewRecordBatch(schema, taken, int64(len(kept))), nil
}
