package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// cancelRows is the number of rows between two looks at the context.
const cancelRows = 1024

// csvFormat reads CSV files.
type csvFormat struct {
	dialect *dialect
	sample  sample
	// declared are the types of schema=.
	declared []arrow.Field
	union    bool
}

func (*csvFormat) label() string        { return "CSV" }
func (*csvFormat) extensions() []string { return []string{".csv", ".tsv", ".txt", ".tab"} }

// csvFile is an open CSV file whose header has been read.
type csvFile struct {
	path    string
	text    *textFile
	scanner *csvScanner
	// names are those of the header; without one they are declared or made.
	names []string
	// pending says that the scanner holds a first row already.
	pending bool
}

// openCSV opens a file and reads its header. A file without any line has no
// columns.
func (f *csvFormat) openCSV(path string) (_ *csvFile, err error) {
	text, err := openText(path)
	if err != nil {
		return nil, unreadable(path, f.label(), err)
	}
	c := &csvFile{path: path, text: text, scanner: newCSVScanner(text, f.dialect)}
	if err := c.readHeader(f); err != nil {
		text.Close()
		return nil, unreadable(path, f.label(), err)
	}
	return c, nil
}

func (c *csvFile) readHeader(f *csvFormat) error {
	err := c.scanner.next()
	if errors.Is(err, io.EOF) {
		c.names = declaredNames(f)
		return nil
	}
	if err != nil {
		return err
	}
	if !f.dialect.header {
		c.pending = true
		if c.names = declaredNames(f); c.names == nil {
			for i := range c.scanner.fields {
				c.names = append(c.names, fmt.Sprintf("column%d", i+1))
			}
		}
		c.scanner.blanks = len(c.names) == 1
		return nil
	}
	for i, field := range c.scanner.fields {
		name := string(c.scanner.text(field))
		switch {
		case !utf8.ValidString(name):
			return fmt.Errorf("line %d: the name of column %d, %s, is not UTF-8", c.scanner.line, i+1, show([]byte(name)))
		case slices.Contains([]byte(name), 0):
			return fmt.Errorf("line %d: the name of column %d holds a zero byte; it may be UTF-16 or no text at all", c.scanner.line, i+1)
		case name == "":
			name = fmt.Sprintf("column%d", i+1)
		}
		c.names = append(c.names, name)
	}
	c.scanner.blanks = len(c.names) == 1
	return refuseTwins(c.path, c.names)
}

// declaredNames are the names of a file without a header.
func declaredNames(f *csvFormat) []string {
	var names []string
	for _, field := range f.declared {
		if !f.dialect.header {
			names = append(names, field.Name)
		}
	}
	return names
}

func refuseTwins(path string, names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if seen[plan.Fold(name)] {
			return diag.New(diag.FileUnreadable, "%s has two columns %q", path, name).
				WithHint("names are compared without regard to case; pass over the header with skip_rows=1, header=False and name the columns in schema=")
		}
		seen[plan.Fold(name)] = true
	}
	return nil
}

// next gives the next record; its error is io.EOF at the end.
func (c *csvFile) next() error {
	if c.pending {
		c.pending = false
	} else if err := c.scanner.next(); err != nil {
		return err
	}
	if got := len(c.scanner.fields); got != len(c.names) {
		return ragged(c, got)
	}
	return nil
}

func fieldCount(n int) string {
	if n == 1 {
		return "1 field"
	}
	return fmt.Sprintf("%d fields", n)
}

func ragged(c *csvFile, got int) error {
	raw := c.scanner.buffer[c.scanner.from:c.scanner.start]
	d := diag.New(diag.FileUnreadable, "%s has %s instead of %d", place(c.path, c.scanner.line), fieldCount(got), len(c.names)).
		WithFact("the line is %s", show(raw[:min(len(raw), showBytesMax+1)]))
	if len(c.names) == 1 {
		return d.WithHint("delimiter= says what separates the columns if it is not %q", c.scanner.dialect.delimiter)
	}
	return d.WithHint("a field that holds %q or a line end must be in quotes; delimiter=, quote= and escape= say how the file is written", c.scanner.dialect.delimiter)
}

// schema implements format: names are those of the headers, types are declared
// or those that the rows of the sample fit.
func (f *csvFormat) schema(ctx context.Context, paths []string) (*arrow.Schema, error) {
	columns := newColumns("CSV", f.union)
	left := f.sample.rows
	for _, path := range paths {
		rows, err := f.look(ctx, path, columns, left)
		if err != nil {
			return nil, err
		}
		if left > 0 {
			left -= rows
		}
	}
	return columns.schema(f.declared)
}

// look adds a file's columns, and the kinds of at most so many of its rows
// (negative: all) to what is known.
func (f *csvFormat) look(ctx context.Context, path string, columns *columns, rowsMax int) (rows int, err error) {
	c, err := f.openCSV(path)
	if err != nil {
		return 0, err
	}
	defer c.text.Close()
	places, err := columns.add(path, c.names)
	if err != nil {
		return 0, err
	}
	kinds := make([]kind, len(c.names))
	for bytes := 0; rows != rowsMax && (rowsMax < 0 || bytes < sampleBytesMax); rows++ {
		if rows%cancelRows == 0 && ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err := c.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, unreadable(path, f.label(), err)
		}
		bytes += c.scanner.size()
		for i, field := range c.scanner.fields {
			if kinds[i] == kindString || field.start == field.end {
				continue // settled, or NULL in any other type
			}
			text := c.scanner.text(field)
			if !field.quoted && f.dialect.isNull(text) {
				continue
			}
			kinds[i] = kinds[i].widen(kindOf(text))
		}
	}
	for i, k := range kinds {
		at := places[i]
		columns.kinds[at] = columns.kinds[at].widen(k)
	}
	return rows, nil
}

// open implements format.
func (f *csvFormat) open(_ context.Context, path string, table *arrow.Schema, wanted []int) (exec.BatchReader, error) {
	c, err := f.openCSV(path)
	if err != nil {
		return nil, err
	}
	r := &csvReader{format: f, csvFile: c, places: make([]int, len(wanted)), cells: make([]appender, len(wanted))}
	fields := make([]arrow.Field, len(wanted))
	for i, at := range wanted {
		fields[i] = table.Field(at)
		r.places[i] = slices.Index(c.names, fields[i].Name)
		if r.places[i] < 0 && !f.union && len(c.names) > 0 { // the file has changed since
			c.text.Close()
			return nil, diag.New(diag.SchemasDiffer, "%s has no column %q", path, fields[i].Name)
		}
	}
	r.builder = array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	for i, b := range r.builder.Fields() {
		if r.cells[i], err = newAppender(b); err != nil {
			r.Close()
			return nil, diag.New(diag.TypeMismatch, "the column %q of a CSV file cannot have the type %s", fields[i].Name, plan.FormatType(fields[i].Type)).
				WithHint("read it as string")
		}
	}
	return r, nil
}

// csvReader reads columns of a CSV file.
type csvReader struct {
	*csvFile
	format  *csvFormat
	builder *array.RecordBuilder
	// places and cells are the field of the file (-1: none) and the appender
	// of each column.
	places []int
	cells  []appender
	closed bool
}

// Next implements exec.BatchReader.
func (r *csvReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	rows := 0
	for bytes := 0; rows < readRowsMax && bytes < batchBytesMax; rows++ {
		if rows%cancelRows == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.row()
		}
		if err != nil {
			return nil, unreadable(r.path, "CSV", err)
		}
		bytes += r.scanner.size()
	}
	if rows == 0 {
		return nil, io.EOF
	}
	return r.builder.NewRecordBatch(), nil
}

func (r *csvReader) row() error {
	for i, cell := range r.cells {
		b := r.builder.Field(i)
		if r.places[i] < 0 {
			b.AppendNull()
			continue
		}
		f := r.scanner.fields[r.places[i]]
		text := r.scanner.text(f)
		if !f.quoted && r.format.dialect.isNull(text) {
			b.AppendNull()
			continue
		}
		err := cell(text)
		if err == nil {
			continue
		}
		// A type that has no empty text takes it for NULL, and what means NULL
		// elsewhere even in quotes.
		if len(text) == 0 || r.format.dialect.isNull(text) {
			b.AppendNull()
			continue
		}
		column := r.builder.Schema().Field(i)
		return badValue(r.path, r.scanner.line, column.Name, text, column.Type, isDeclared(r.format.declared, column.Name), err)
	}
	return nil
}

// Close implements exec.BatchReader.
func (r *csvReader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.builder.Release()
	r.text.Close()
}
