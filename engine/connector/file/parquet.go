package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"golang.org/x/sync/errgroup"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

const (
	// readRowsMax is the number of rows in a batch that is read.
	readRowsMax = 65536
	// pageBufferBytes is what is read ahead of each column.
	pageBufferBytes = 128 << 10
)

// parquetFormat reads Parquet files.
type parquetFormat struct {
	declared []arrow.Field
	union    bool
}

func (*parquetFormat) label() string        { return "Parquet" }
func (*parquetFormat) extensions() []string { return []string{".parquet", ".parq", ".pq"} }

// parquetFile is an open Parquet file.
type parquetFile struct {
	path  string
	file  *parquetfile.Reader
	arrow *pqarrow.FileReader
	// plain is for columns of numbers that flatOf leaves to the library. It
	// takes memory as it was left; for lists the library relies on its being
	// cleared.
	plain  *pqarrow.FileReader
	memory *recycler
	raw    *arrow.Schema
	normal *arrow.Schema
}

// openParquet opens a file and reads its schema.
func openParquet(path string) (_ *parquetFile, err error) {
	defer recovered(path, &err)
	opened, err := openFile(path)
	if err != nil {
		return nil, unreadable(path, "Parquet", err)
	}
	recycled := newRecycler(memory.DefaultAllocator)
	properties := parquet.NewReaderProperties(recycled)
	properties.BufferSize = pageBufferBytes
	properties.BufferedStreamEnabled = true
	file, err := parquetfile.NewParquetReader(opened, parquetfile.WithReadProps(properties))
	if err != nil {
		return nil, unreadable(path, "Parquet", errors.Join(err, opened.Close()))
	}
	f := &parquetFile{path: path, file: file, memory: recycled}
	read := pqarrow.ArrowReadProperties{BatchSize: readRowsMax}
	f.arrow, err = pqarrow.NewFileReader(file, read, memory.DefaultAllocator)
	if err == nil {
		f.plain, err = pqarrow.NewFileReader(file, read, recycled)
	}
	if err == nil {
		f.raw, err = f.arrow.Schema()
	}
	if err == nil && file.NumRows() < 0 {
		err = fmt.Errorf("it is said to have %d rows", file.NumRows())
	}
	if err != nil {
		f.close()
		return nil, unreadable(path, "Parquet", err)
	}
	root := file.MetaData().Schema.Root()
	for i := range root.NumFields() {
		if root.Field(i).Name() == "" { // arrow-go leaves the column out
			f.close()
			return nil, diag.New(diag.FileUnreadable, "column %d of %s has no name", i+1, path).
				WithHint("write the file again with a name for each column: no expression could refer to it")
		}
	}
	f.normal = exec.NormalSchema(f.raw)
	return f, nil
}

func (f *parquetFile) close() {
	_ = f.file.Close() // only read
	f.memory.close()
}

// recovered makes an error of a fault in the library, which trusts some of
// what a file says. It is deferred.
func recovered(path string, err *error) {
	if fault := recover(); fault != nil {
		*err = unreadable(path, "Parquet", fmt.Errorf("its content is damaged: %v", fault))
	}
}

// schema implements format: the columns of the first file, whose types are
// widened to hold those of the others.
func (f *parquetFormat) schema(ctx context.Context, paths []string) (*arrow.Schema, error) {
	var fields []arrow.Field
	from := map[string]int{} // the file that gave a column's type
	names := func(fields []arrow.Field) []string {
		out := make([]string, len(fields))
		for i, f := range fields {
			out[i] = f.Name
		}
		return out
	}
	for i, path := range paths {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		file, err := openParquet(path)
		if err != nil {
			return nil, err
		}
		file.close()
		if i == 0 {
			fields = file.normal.Fields()
			continue
		}
		if !f.union {
			if err := compareNames(paths[0], names(fields), path, names(file.normal.Fields())); err != nil {
				return nil, err
			}
		}
		for _, field := range file.normal.Fields() {
			at := slices.Index(names(fields), field.Name)
			if at < 0 {
				fields, from[field.Name] = append(fields, field), i
				continue
			}
			wide := widerType(fields[at].Type, field.Type)
			if wide == nil && !isDeclared(f.declared, field.Name) {
				return nil, diag.New(diag.SchemasDiffer, "the column %q is %s in %s, but %s in %s", field.Name,
					plan.FormatType(fields[at].Type), paths[from[field.Name]], plan.FormatType(field.Type), path).
					WithHint("declare one type for all files: schema={%q: …}", field.Name)
			}
			if wide != nil && !arrow.TypeEqual(wide, fields[at].Type) {
				fields[at].Type, from[field.Name] = wide, i
			}
		}
	}
	return declare(paths[0], slices.Clone(fields), f.declared)
}

// widerType is the type that holds all values of both exactly; nil if there is
// none.
func widerType(a, b arrow.DataType) arrow.DataType {
	if arrow.TypeEqual(a, b) {
		return a
	}
	widths := []arrow.Type{arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64}
	x, y := slices.Index(widths, a.ID()), slices.Index(widths, b.ID())
	switch {
	case a.ID() == arrow.NULL:
		return b
	case b.ID() == arrow.NULL:
		return a
	case x >= 0 && y >= 0:
		if x > y {
			return a
		}
		return b
	case a.ID() == arrow.FLOAT32 && b.ID() == arrow.FLOAT64, x >= 0 && x < 3 && b.ID() == arrow.FLOAT64:
		return b
	case a.ID() == arrow.FLOAT64 && b.ID() == arrow.FLOAT32, y >= 0 && y < 3 && a.ID() == arrow.FLOAT64:
		return a
	}
	return nil
}

// open implements format. The file is read row group by row group, page by
// page, so that memory does not grow with it.
func (f *parquetFormat) open(ctx context.Context, path string, table *arrow.Schema, wanted []int) (_ exec.BatchReader, err error) {
	file, err := openParquet(path)
	if err != nil {
		return nil, err
	}
	r := &parquetReader{parquetFile: file, rows: file.file.NumRows()}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	defer recovered(path, &err)
	if err := r.choose(table, wanted, f.union); err != nil {
		return nil, err
	}
	if len(r.roots) == 0 {
		return r, nil // all its columns are NULL
	}
	for _, root := range r.roots {
		column, err := file.openColumn(ctx, root)
		if err != nil {
			return nil, unreadable(path, "Parquet", err)
		}
		r.columns = append(r.columns, column)
	}
	return r, nil
}

// columnReader reads a column of a file.
type columnReader interface {
	// next gives what comes next, as many rows as every column gives, which the
	// caller releases; nil at the end.
	next() (arrow.Array, error)
	release()
}

func (f *parquetFile) openColumn(ctx context.Context, root int) (columnReader, error) {
	if flat := f.flatOf(root); flat != nil {
		return flat, nil
	}
	reader := f.arrow
	if isNumber(f.raw.Field(root).Type) {
		reader = f.plain
	}
	records, err := reader.GetRecordReader(ctx, f.leavesOf([]int{root}), nil)
	if err != nil {
		return nil, err
	}
	return recordColumn{records}, nil
}

// recordColumn is a column that the library reads.
type recordColumn struct{ records pqarrow.RecordReader }

func (c recordColumn) next() (arrow.Array, error) {
	if !c.records.Next() {
		if err := c.records.Err(); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, nil
	}
	column := c.records.RecordBatch().Column(0)
	column.Retain()
	return column, nil
}

func (c recordColumn) release() { c.records.Release() }

// isNumber reports whether a column has values of one size and nothing else.
func isNumber(t arrow.DataType) bool {
	return arrow.IsPrimitive(t.ID()) && t.ID() != arrow.BOOL && t.ID() != arrow.FLOAT16
}

// leavesOf are the leaves that columns consist of.
func (f *parquetFile) leavesOf(roots []int) []int {
	schema := f.file.MetaData().Schema
	leaves := []int{}
	for i := range schema.NumColumns() {
		if slices.Contains(roots, schema.Root().FieldIndexByField(schema.ColumnRoot(i))) {
			leaves = append(leaves, i)
		}
	}
	return leaves
}

// parquetReader reads columns of a Parquet file.
type parquetReader struct {
	*parquetFile
	schema *arrow.Schema // of the result
	// roots are the columns of the file that are read, in its order, columns
	// their readers; places are for each column of the result its place in
	// roots, or -1.
	roots   []int
	columns []columnReader
	places  []int
	// rows are those of the file, done those that were read.
	rows, done int64
	closed     bool
}

// choose finds the columns of a table in the file.
func (r *parquetReader) choose(table *arrow.Schema, wanted []int, union bool) error {
	same := table.NumFields() == r.normal.NumFields() // a file may have two columns of one name
	for i := 0; same && i < table.NumFields(); i++ {
		same = table.Field(i).Name == r.normal.Field(i).Name
	}
	fields, roots := make([]arrow.Field, len(wanted)), make([]int, len(wanted))
	for i, at := range wanted {
		fields[i], roots[i] = table.Field(at), at
		if same {
			continue
		}
		roots[i] = -1
		if found := r.normal.FieldIndices(fields[i].Name); len(found) > 0 {
			roots[i] = found[0]
		} else if !union { // the file has changed since
			return diag.New(diag.SchemasDiffer, "%s has no column %q", r.path, fields[i].Name)
		}
	}
	for _, root := range slices.Sorted(slices.Values(roots)) {
		if root >= 0 && !slices.Contains(r.roots, root) {
			r.roots = append(r.roots, root)
		}
	}
	for _, root := range roots {
		r.places = append(r.places, slices.Index(r.roots, root))
	}
	r.schema = arrow.NewSchema(fields, nil)
	return nil
}

// Next implements exec.BatchReader.
func (r *parquetReader) Next(ctx context.Context) (_ arrow.RecordBatch, err error) {
	if r.closed || r.done == r.rows {
		return nil, io.EOF
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if len(r.columns) == 0 {
		rows := min(r.rows-r.done, readRowsMax)
		r.done += rows
		return r.arrange(ctx, nil, rows)
	}
	batch, err := r.read()
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, r.damaged(ctx, err)
	}
	if batch == nil {
		return nil, io.EOF
	}
	r.done += batch.NumRows()
	normal, err := exec.Normalize(ctx, batch, r.normalOf(r.roots))
	if err != nil {
		return nil, unreadable(r.path, "Parquet", err)
	}
	defer normal.Release()
	return r.arrange(ctx, normal.Columns(), normal.NumRows())
}

// read gives the next batch of the file, nil at the end. Columns are read at the
// same time, each by a goroutine that recovers from faults: in goroutines of the
// library a damaged file would end the engine.
func (r *parquetReader) read() (arrow.RecordBatch, error) {
	columns := make([]arrow.Array, len(r.columns))
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range r.columns {
		group.Go(func() (err error) {
			columns[i], err = r.readColumn(i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	rows := 0
	for _, c := range columns {
		if c != nil {
			rows = max(rows, c.Len())
		}
	}
	if rows == 0 {
		return nil, nil
	}
	for i, c := range columns {
		if c == nil || c.Len() != rows {
			return nil, fmt.Errorf("the column %q ends before others", r.raw.Field(r.roots[i]).Name)
		}
	}
	return array.NewRecordBatch(r.rawOf(r.roots), columns, int64(rows)), nil
}

// readColumn gives what comes next of a column, which the caller releases; nil
// at the end.
func (r *parquetReader) readColumn(i int) (_ arrow.Array, err error) {
	defer recovered(r.path, &err)
	return r.columns[i].next()
}

func (f *parquetFile) rawOf(roots []int) *arrow.Schema { return fieldsOf(f.raw, roots) }

func (f *parquetFile) normalOf(roots []int) *arrow.Schema { return fieldsOf(f.normal, roots) }

func fieldsOf(schema *arrow.Schema, roots []int) *arrow.Schema {
	fields := make([]arrow.Field, len(roots))
	for i, root := range roots {
		fields[i] = schema.Field(root)
	}
	return arrow.NewSchema(fields, nil)
}

// arrange makes a batch of the table's columns and types.
func (r *parquetReader) arrange(ctx context.Context, columns []arrow.Array, rows int64) (arrow.RecordBatch, error) {
	out := make([]arrow.Array, 0, len(r.places))
	defer func() {
		for _, c := range out {
			c.Release()
		}
	}()
	for i, place := range r.places {
		field := r.schema.Field(i)
		if place < 0 {
			out = append(out, exec.Nulls(memory.DefaultAllocator, field.Type, int(rows)))
			continue
		}
		column := columns[place]
		if arrow.TypeEqual(column.DataType(), field.Type) {
			column.Retain()
			out = append(out, column)
			continue
		}
		cast, err := compute.CastArray(ctx, column, compute.SafeCastOptions(field.Type))
		if err != nil {
			return nil, diag.New(diag.ValueUnreadable, "%s: the column %q of type %s cannot be read as %s", r.path, field.Name,
				plan.FormatType(column.DataType()), plan.FormatType(field.Type)).WithCause(err).
				WithHint("declare another type in schema=, or none")
		}
		out = append(out, cast)
	}
	return array.NewRecordBatch(r.schema, out, rows), nil
}

// damaged says which row group and column cannot be read, by reading those
// that come next one by one.
func (r *parquetReader) damaged(ctx context.Context, cause error) error {
	problem := diag.From(unreadable(r.path, "Parquet", cause))
	first, groups := int64(0), r.file.NumRowGroups()
	for group := range groups {
		rows := r.file.MetaData().RowGroups[group].NumRows
		if first+rows > r.done && first <= r.done+readRowsMax {
			for _, leaf := range r.leavesOf(r.roots) {
				if r.readable(ctx, group, leaf) != nil {
					path := r.file.MetaData().Schema.Column(leaf).Path()
					return problem.WithFact("in the column %q of row group %d of %d (rows %d to %d)", path, group+1, groups, first, first+rows-1)
				}
			}
		}
		first += rows
	}
	return problem
}

// readable tells why a column of a row group cannot be read.
func (r *parquetReader) readable(ctx context.Context, group, leaf int) (err error) {
	defer recovered(r.path, &err)
	records, err := r.arrow.GetRecordReader(ctx, []int{leaf}, []int{group})
	if err != nil {
		return err
	}
	defer records.Release()
	for records.Next() { // only its errors matter
	}
	if err := records.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Close implements exec.BatchReader.
func (r *parquetReader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	for _, column := range r.columns {
		column.release()
	}
	r.close()
}
