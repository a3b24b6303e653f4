package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// jsonFormat reads files of JSON objects.
type jsonFormat struct {
	sample   sample
	declared []arrow.Field
}

func (*jsonFormat) label() string        { return "JSON" }
func (*jsonFormat) extensions() []string { return []string{".jsonl", ".json", ".ndjson"} }

// schema implements format: the members of the objects of the sample, in the
// order of their first sight, then those that are declared besides.
func (f *jsonFormat) schema(ctx context.Context, paths []string) (*arrow.Schema, error) {
	members := newShapeMembers()
	left := f.sample.rows
	for _, path := range paths {
		if left == 0 {
			break
		}
		rows, err := f.look(ctx, path, members, left)
		if err != nil {
			return nil, err
		}
		if left > 0 {
			left -= rows
		}
	}
	fields := members.fields()
	names := append([]string{}, members.names...)
	for _, d := range f.declared {
		if indexOf(names, d.Name) < 0 {
			fields, names = append(fields, d), append(names, d.Name)
		}
	}
	if err := refuseTwins(paths[0], names); err != nil {
		return nil, err
	}
	return declare(paths[0], fields, f.declared)
}

func (f *jsonFormat) look(ctx context.Context, path string, members *shapeMembers, rowsMax int) (rows int, err error) {
	file, err := openJSON(path)
	if err != nil {
		return 0, err
	}
	defer file.text.Close()
	var scratch []byte
	for rows != rowsMax && (rowsMax < 0 || file.decoder.InputOffset() < sampleBytesMax) {
		if rows%cancelRows == 0 && ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err := file.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, err
		}
		if err := members.add(file.decoder, scratch); err != nil {
			return 0, file.broken(err)
		}
		rows++
	}
	return rows, nil
}

// open implements format.
func (f *jsonFormat) open(_ context.Context, path string, table *arrow.Schema, wanted []int) (exec.BatchReader, error) {
	file, err := openJSON(path)
	if err != nil {
		return nil, err
	}
	r := &jsonReader{jsonFile: file, format: f}
	fields := make([]arrow.Field, len(wanted))
	for i, at := range wanted {
		fields[i] = table.Field(at)
	}
	r.builder = array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	columns := make([]*jsonColumn, table.NumFields())
	for i, at := range wanted {
		if columns[at], err = r.newColumn(r.builder.Field(i)); err != nil {
			r.Close()
			return nil, diag.New(diag.TypeMismatch, "the column %q of a JSON file cannot have the type %s", fields[i].Name, plan.FormatType(fields[i].Type)).WithCause(err).
				WithHint("read it as string")
		}
	}
	names := make([]string, table.NumFields())
	for i, field := range table.Fields() {
		names[i] = field.Name
	}
	r.members = newJSONMembers(names, columns)
	return r, nil
}

// jsonColumn puts the next value of the decoder into a builder.
type jsonColumn struct {
	builder array.Builder
	put     func() error
}

// jsonMembers are the columns of an object by name.
type jsonMembers struct {
	// quoted are the names as JSON; columns those of them that are read, nil
	// for others.
	quoted  []string
	columns []*jsonColumn
	index   map[string]int
	// seen are the columns that the object has, by its number.
	seen   []int64
	number int64
}

func newJSONMembers(names []string, columns []*jsonColumn) *jsonMembers {
	m := &jsonMembers{columns: columns, index: map[string]int{}, seen: make([]int64, len(names))}
	for i, name := range names {
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			quoted = []byte{} // a name that no file can have
		}
		m.quoted = append(m.quoted, string(quoted))
		m.index[name] = i
	}
	return m
}

// jsonReader reads columns of a file of JSON.
type jsonReader struct {
	*jsonFile
	format  *jsonFormat
	builder *array.RecordBuilder
	members *jsonMembers
	scratch []byte
	closed  bool
}

// Next implements exec.BatchReader.
func (r *jsonReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	rows, begin := 0, r.decoder.InputOffset()
	for ; rows < readRowsMax && r.decoder.InputOffset()-begin < batchBytesMax; rows++ {
		if rows%cancelRows == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.object(r.members)
		}
		if err != nil {
			if _, ok := errors.AsType[*diag.Diagnostic](err); ok {
				return nil, err
			}
			return nil, r.broken(err)
		}
		if r.decoder.InputOffset()-r.row > rowBytesMax {
			return nil, r.problem(fmt.Sprintf("the row is longer than %d MiB", rowBytesMax>>20))
		}
	}
	if rows == 0 {
		return nil, io.EOF
	}
	return r.builder.NewRecordBatch(), nil
}

// object reads an object's members into their columns; those that it lacks are
// NULL.
func (r *jsonReader) object(m *jsonMembers) error {
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	m.number++
	for expected := 0; r.decoder.PeekKind() != '}'; expected++ {
		name, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		at, err := r.find(m, name, expected)
		if err != nil {
			return err
		}
		expected = at
		m.seen[at] = m.number
		if m.columns[at] == nil {
			err = r.decoder.SkipValue()
		} else {
			err = r.value(m.columns[at])
		}
		if err != nil {
			return err
		}
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for i, column := range m.columns {
		if column != nil && m.seen[i] != m.number {
			column.builder.AppendNull()
		}
	}
	return nil
}

// find gives the place of a member. Objects mostly have their members in the
// same order, so the one that is expected is tried first.
func (r *jsonReader) find(m *jsonMembers, name jsontext.Value, expected int) (int, error) {
	if expected < len(m.quoted) && string(name) == m.quoted[expected] {
		return expected, nil
	}
	text, err := unquote(name, r.scratch)
	if err != nil {
		return 0, err
	}
	if at, ok := m.index[string(text)]; ok {
		return at, nil
	}
	column := r.column(r.decoder.StackPointer())
	d := diag.New(diag.ValueUnreadable, "%s: the key %q is not among the columns", place(r.path, r.line()), column).
		WithFact("the columns were found by looking at the first rows")
	if m == r.members {
		return 0, d.WithHint("declare it: schema={%q: \"string\"}, or look at all rows: sample_rows=None", column)
	}
	return 0, d.WithHint("look at all rows: sample_rows=None")
}

// value reads a value into a column.
func (r *jsonReader) value(c *jsonColumn) error {
	if r.decoder.PeekKind() == 'n' {
		c.builder.AppendNull()
		_, err := r.decoder.ReadToken()
		return err
	}
	return c.put()
}

// newColumn makes the column of a builder.
func (r *jsonReader) newColumn(b array.Builder) (*jsonColumn, error) {
	switch b := b.(type) {
	case *array.StructBuilder:
		return r.newStruct(b)
	case *array.MapBuilder:
		return r.newMap(b)
	case array.ListLikeBuilder:
		if _, fixed := b.(*array.FixedSizeListBuilder); !fixed {
			return r.newList(b)
		}
	case *array.StringBuilder:
		return &jsonColumn{b, func() error { return r.readText(b.BinaryBuilder) }}, nil
	case *array.LargeStringBuilder:
		return &jsonColumn{b, func() error { return r.readText(b.BinaryBuilder) }}, nil
	}
	cell, err := newAppender(b)
	if err != nil {
		return nil, err
	}
	return &jsonColumn{b, func() error { return r.scalar(b.Type(), cell) }}, nil
}

func (r *jsonReader) newStruct(b *array.StructBuilder) (*jsonColumn, error) {
	t := b.Type().(*arrow.StructType)
	names, columns := make([]string, t.NumFields()), make([]*jsonColumn, t.NumFields())
	for i, f := range t.Fields() {
		var err error
		if columns[i], err = r.newColumn(b.FieldBuilder(i)); err != nil {
			return nil, err
		}
		names[i] = f.Name
	}
	members := newJSONMembers(names, columns)
	return &jsonColumn{b, func() error {
		if err := r.expect('{', t); err != nil {
			return err
		}
		b.Append(true)
		return r.object(members)
	}}, nil
}

func (r *jsonReader) newList(b array.ListLikeBuilder) (*jsonColumn, error) {
	element, err := r.newColumn(b.ValueBuilder())
	if err != nil {
		return nil, err
	}
	return &jsonColumn{b, func() error {
		if err := r.expect('[', b.Type()); err != nil {
			return err
		}
		if _, err := r.decoder.ReadToken(); err != nil {
			return err
		}
		b.Append(true)
		for r.decoder.PeekKind() != ']' {
			if err := r.value(element); err != nil {
				return err
			}
		}
		_, err := r.decoder.ReadToken()
		return err
	}}, nil
}

// newMap reads an object of any keys.
func (r *jsonReader) newMap(b *array.MapBuilder) (*jsonColumn, error) {
	key, err := newAppender(b.KeyBuilder())
	if err != nil {
		return nil, err
	}
	item, err := r.newColumn(b.ItemBuilder())
	if err != nil {
		return nil, err
	}
	t := b.Type().(*arrow.MapType)
	return &jsonColumn{b, func() error {
		if err := r.expect('{', t); err != nil {
			return err
		}
		if _, err := r.decoder.ReadToken(); err != nil {
			return err
		}
		b.Append(true)
		for r.decoder.PeekKind() != '}' {
			name, err := r.decoder.ReadValue()
			if err != nil {
				return err
			}
			text, err := unquote(name, r.scratch)
			if err != nil {
				return err
			}
			if err := key(text); err != nil {
				return r.unfit(name, t.KeyType(), err)
			}
			if err := r.value(item); err != nil {
				return err
			}
		}
		_, err := r.decoder.ReadToken()
		return err
	}}, nil
}

// expect refuses a value of another kind.
func (r *jsonReader) expect(kind jsontext.Kind, t arrow.DataType) error {
	if got := r.decoder.PeekKind(); got == kind {
		return nil
	}
	value, err := r.decoder.ReadValue()
	if err != nil {
		return err
	}
	return r.unfit(value, t, errDoesNotFit)
}

// readText reads a string, or the JSON text of anything else.
func (r *jsonReader) readText(b *array.BinaryBuilder) error {
	value, err := r.decoder.ReadValue()
	if err != nil {
		return err
	}
	if value.Kind() != '"' {
		b.Append(value)
		return nil
	}
	text, err := unquote(value, r.scratch)
	if err != nil {
		return err
	}
	if cap(text) > cap(r.scratch) && len(text) < len(value)-2 {
		r.scratch = text
	}
	if !utf8.Valid(text) {
		return r.unfit(value, b.Type(), errNotUTF8)
	}
	b.Append(text)
	return nil
}

// scalar reads a number, a boolean, or a string that stands for what JSON has
// no form of its own for.
func (r *jsonReader) scalar(t arrow.DataType, cell appender) error {
	value, err := r.decoder.ReadValue()
	if err != nil {
		return err
	}
	text, fits := []byte(value), false
	switch kind := value.Kind(); kind {
	case '"':
		if text, err = unquote(value, r.scratch); err != nil {
			return err
		}
		special := string(text) == "NaN" || string(text) == "Infinity" || string(text) == "-Infinity"
		fits = !numeric(t) && t.ID() != arrow.BOOL || special && arrow.IsFloating(t.ID())
	case '0':
		if fits = numeric(t) || t.ID() == arrow.DECIMAL128; fits && arrow.IsInteger(t.ID()) {
			text = wholeNumber(text)
		}
	case 't', 'f':
		fits = t.ID() == arrow.BOOL
	}
	if !fits {
		return r.unfit(value, t, errDoesNotFit)
	}
	if err := cell(text); err != nil {
		return r.unfit(value, t, err)
	}
	return nil
}

func numeric(t arrow.DataType) bool { return arrow.IsInteger(t.ID()) || arrow.IsFloating(t.ID()) }

// wholeNumber writes 1.0 and 1e3 as whole numbers, if they are.
func wholeNumber(text []byte) []byte {
	for _, c := range text {
		if c != '.' && c != 'e' && c != 'E' {
			continue
		}
		const exact = 1 << 53
		if f, ok := parseFloat(text, 64); ok && f == math.Trunc(f) && math.Abs(f) <= exact {
			return fmt.Appendf(nil, "%d", int64(f))
		}
		break
	}
	return text
}

// unfit says that the value that was just read does not fit.
func (r *jsonReader) unfit(value []byte, t arrow.DataType, why error) error {
	column := r.column(r.decoder.StackPointer())
	err := badValue(r.path, r.line(), column, value, t, false, why)
	if top, _, nested := cutColumn(column); nested || isDeclared(r.format.declared, top) {
		d := diag.From(err)
		d.Facts = nil
		return d.WithHint("declare the type of %q in schema=, or read it as string, which keeps the JSON text", top)
	}
	return err
}

// cutColumn splits a place within a row after its column.
func cutColumn(column string) (top, rest string, nested bool) {
	for i := range len(column) {
		if column[i] == '.' {
			return column[:i], column[i+1:], true
		}
	}
	return column, "", false
}

// Close implements exec.BatchReader.
func (r *jsonReader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.builder.Release()
	r.text.Close()
}
