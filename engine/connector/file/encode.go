package file

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

const (
	// rowGroupRowsMax and rowGroupBytesMax bound what a Parquet writer holds
	// in memory before it writes.
	rowGroupRowsMax  = 1 << 18
	rowGroupBytesMax = 64 << 20
	// textBufferBytes is what a writer of text holds.
	textBufferBytes = 128 << 10
)

// encoder writes batches to one file.
type encoder interface {
	write(batch arrow.RecordBatch) error
	// buffered is about the number of bytes that it holds in memory.
	buffered() int64
	// finish completes the file, which is not closed.
	finish() error
}

// codec makes the encoders of an output.
type codec struct {
	label string
	// extension is the ending of files in a folder.
	extension string
	open      func(w io.Writer, schema *arrow.Schema) (encoder, error)
}

// newCodec gives the codec of a write and where it writes to.
func newCodec(op plan.Op) (codec, plan.Output, error) {
	switch op := op.(type) {
	case plan.WriteParquet:
		return parquetCodec(op.Compression), op.Output, nil
	case plan.WriteCSV:
		c, err := textCodec("CSV", ".csv", op.Output, func(text *textWriter, schema *arrow.Schema) (encoder, error) {
			return newCSVEncoder(text, schema, op)
		})
		return c, op.Output, err
	case plan.WriteJSON:
		c, err := textCodec("JSON", ".jsonl", op.Output, newJSONEncoder)
		return c, op.Output, err
	}
	return codec{}, plan.Output{}, fmt.Errorf("%s does not write files", op.Name())
}

var parquetCodecs = map[string]compress.Compression{
	"": compress.Codecs.Zstd, "zstd": compress.Codecs.Zstd, "snappy": compress.Codecs.Snappy, "gzip": compress.Codecs.Gzip,
	"brotli": compress.Codecs.Brotli, "lz4": compress.Codecs.Lz4Raw, "none": compress.Codecs.Uncompressed,
}

const parquetExtension = ".parquet"

func parquetCodec(compression string) codec {
	return codec{"Parquet", parquetExtension, func(w io.Writer, schema *arrow.Schema) (encoder, error) {
		properties := parquet.NewWriterProperties(
			parquet.WithCompression(parquetCodecs[compression]),
			parquet.WithMaxRowGroupLength(rowGroupRowsMax),
			parquet.WithCreatedBy("alink"),
		)
		to := &notClosed{Writer: w}
		writer, err := pqarrow.NewFileWriter(schema, to, properties, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
		if to.err != nil { // it is not the table's fault
			return nil, to.err
		}
		if err != nil {
			return nil, notParquet(schema, err)
		}
		return &parquetEncoder{writer: writer}, nil
	}}
}

// notParquet names the column that Parquet has no type for.
func notParquet(schema *arrow.Schema, err error) error {
	for _, f := range schema.Fields() {
		one := arrow.NewSchema([]arrow.Field{f}, nil)
		if _, why := pqarrow.ToParquet(one, parquet.NewWriterProperties(), pqarrow.NewArrowWriterProperties()); why != nil {
			return diag.New(diag.TypeMismatch, "Parquet has no type for the column %q of type %s", f.Name, plan.FormatType(f.Type)).WithCause(why).
				WithHint("cast it, to a string or a number of seconds, say, or drop it")
		}
	}
	return diag.New(diag.TypeMismatch, "the table cannot be written as Parquet").WithCause(err).
		WithHint("cast or drop the column that Parquet has no type for")
}

// notClosed hides that a file can be closed: the Parquet writer closes what it
// is given, but the file is still needed then.
type notClosed struct {
	io.Writer
	err error // of the first write that failed
}

func (w *notClosed) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

type parquetEncoder struct{ writer *pqarrow.FileWriter }

func (e *parquetEncoder) write(batch arrow.RecordBatch) error {
	if err := e.writer.WriteBuffered(batch); err != nil {
		return err
	}
	if e.buffered() > rowGroupBytesMax {
		return e.writer.NewBufferedRowGroupChecked()
	}
	return nil
}

func (e *parquetEncoder) buffered() int64 { return e.writer.RowGroupTotalBytesWritten() }

func (e *parquetEncoder) finish() error { return e.writer.Close() }

// textCodec makes the codec of a format of text, compressed as the output or
// the ending of its name says.
func textCodec(label, extension string, out plan.Output, open func(*textWriter, *arrow.Schema) (encoder, error)) (codec, error) {
	compression := out.Compression
	if named := compressionOf(out.Path); !out.Folder && len(out.PartitionBy) == 0 {
		if compression == "" {
			compression = named
		}
		if compression != named && (compression != "none" || named != "") && !isFolder(out.Path) {
			ending := map[string]string{"gzip": ".gz", "zstd": ".zst"}[compression]
			return codec{}, diag.New(diag.BadOption, "the compression of %s is to be %s, which its name does not say", out.Path, compression).
				WithHint("files of text are read by their endings: let the name end in %s%s", extension, ending)
		}
	}
	switch compression {
	case "gzip":
		extension += ".gz"
	case "zstd":
		extension += ".zst"
	}
	return codec{label, extension, func(w io.Writer, schema *arrow.Schema) (encoder, error) {
		text := &textWriter{to: w}
		var err error
		switch compression {
		case "gzip":
			text.closer = gzip.NewWriter(w)
		case "zstd":
			// One encoder without goroutines of its own: nothing to wait for.
			text.closer, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		}
		if err != nil {
			return nil, err
		}
		if text.closer != nil {
			text.to = text.closer
		}
		return open(text, schema)
	}}, nil
}

// textWriter gathers a text and writes it in pieces.
type textWriter struct {
	to     io.Writer
	closer io.WriteCloser // of the compression; nil without
	text   []byte
}

func (w *textWriter) flush(least int) error {
	if len(w.text) < least || len(w.text) == 0 {
		return nil
	}
	_, err := w.to.Write(w.text)
	w.text = w.text[:0]
	if cap(w.text) > 4*textBufferBytes { // after a large row
		w.text = nil
	}
	return err
}

func (w *textWriter) buffered() int64 { return int64(cap(w.text)) }

func (w *textWriter) finish() error {
	if err := w.flush(0); err != nil {
		return err
	}
	if w.closer != nil {
		return w.closer.Close()
	}
	return nil
}

// valueWriters makes the writers of a batch's columns.
func valueWriters(batch arrow.RecordBatch, f form) ([]valueWriter, error) {
	writers := make([]valueWriter, batch.NumCols())
	for i, column := range batch.Columns() {
		w, err := newValueWriter(column, f)
		if err != nil {
			return nil, unwritableType(batch.ColumnName(i), column.DataType(), err)
		}
		writers[i] = w
	}
	return writers, nil
}

func unwritableType(name string, t arrow.DataType, err error) error {
	return diag.New(diag.ValueUnwritable, "the column %q of type %s cannot be written as text", name, plan.FormatType(t)).WithCause(err).
		WithHint("cast or drop it, or write Parquet")
}

// checkText refuses a type before any row is written.
func checkText(schema *arrow.Schema, f form) error {
	for _, field := range schema.Fields() {
		empty := exec.Nulls(memory.DefaultAllocator, field.Type, 0)
		_, err := newValueWriter(empty, f)
		empty.Release()
		if err != nil {
			return unwritableType(field.Name, field.Type, err)
		}
	}
	return nil
}

// csvEncoder writes CSV. NULL is the null value bare; a text that would be
// taken for it is put into quotes.
type csvEncoder struct {
	*textWriter
	delimiter, quote byte
	null             []byte
	// special marks the bytes for which a text is put into quotes.
	special [256]bool
	single  bool // one column: an empty line is a NULL
}

func newCSVEncoder(text *textWriter, schema *arrow.Schema, op plan.WriteCSV) (encoder, error) {
	if schema.NumFields() == 0 {
		return nil, diag.New(diag.ValueUnwritable, "a table without columns cannot be written as CSV")
	}
	if err := checkText(schema, formCSV); err != nil {
		return nil, err
	}
	e := &csvEncoder{textWriter: text, delimiter: ',', quote: '"', null: []byte(op.NullValue), single: schema.NumFields() == 1}
	if op.Delimiter != "" {
		e.delimiter = op.Delimiter[0]
	}
	if op.Quote != "" {
		e.quote = op.Quote[0]
	}
	for _, c := range []byte{e.delimiter, e.quote, '\n', '\r'} {
		e.special[c] = true
	}
	if bytes.ContainsFunc(e.null, func(r rune) bool { return r < 128 && e.special[r] }) {
		return nil, diag.New(diag.BadOption, "null_value must not hold the delimiter, a quote or a line end, as %q does", op.NullValue)
	}
	if !op.NoHeader {
		for i, f := range schema.Fields() {
			e.separate(i)
			e.cell(append(e.text, f.Name...), len(e.text), true)
		}
		e.text = append(e.text, '\n')
	}
	return e, nil
}

func (e *csvEncoder) separate(column int) {
	if column > 0 {
		e.text = append(e.text, e.delimiter)
	}
}

// cell ends a cell that begins at from, with quotes if it needs them.
func (e *csvEncoder) cell(text []byte, from int, isText bool) {
	e.text = text
	value := text[from:]
	needs := isText && (bytes.Equal(value, e.null) || len(value) == 0)
	quotes := 0
	for _, c := range value {
		if e.special[c] {
			needs = true
			if c == e.quote {
				quotes++
			}
		}
	}
	// Blanks at the ends and a mark of byte order would not be kept by all.
	if n := len(value); !needs && n > 0 {
		needs = isText && (value[0] == ' ' || value[n-1] == ' ' || value[0] == 0xef || value[0] == '#')
	}
	if !needs {
		return
	}
	size := len(value) + quotes + 2
	e.text = slices.Grow(e.text, size)[:from+size]
	at := len(e.text) - 1
	e.text[at] = e.quote
	for i := from + len(value) - 1; i >= from; i-- {
		c := e.text[i]
		at--
		e.text[at] = c
		if c == e.quote {
			at--
			e.text[at] = c
		}
	}
	e.text[from] = e.quote
}

func (e *csvEncoder) write(batch arrow.RecordBatch) error {
	writers, err := valueWriters(batch, formCSV)
	if err != nil {
		return err
	}
	texts := make([]bool, len(writers))
	for i, column := range batch.Columns() {
		t := column.DataType().ID()
		texts[i] = t == arrow.STRING || t == arrow.LARGE_STRING || t == arrow.BINARY || t == arrow.LARGE_BINARY
	}
	for row := range int(batch.NumRows()) {
		for i, write := range writers {
			e.separate(i)
			if isNull(batch.Column(i), row) {
				e.text = append(e.text, e.null...)
				continue
			}
			from := len(e.text)
			e.cell(write(e.text, row), from, texts[i])
		}
		e.text = append(e.text, '\n')
		if err := e.flush(textBufferBytes); err != nil {
			return err
		}
	}
	return nil
}

// jsonEncoder writes one JSON object a line. A NULL is written, so that the
// first line names every column.
type jsonEncoder struct {
	*textWriter
	names [][]byte
}

func newJSONEncoder(text *textWriter, schema *arrow.Schema) (encoder, error) {
	if err := checkText(schema, formJSON); err != nil {
		return nil, err
	}
	e := &jsonEncoder{textWriter: text}
	for i, f := range schema.Fields() {
		name := []byte{','}
		if i == 0 {
			name = nil
		}
		name, err := jsontext.AppendQuote(name, f.Name)
		if err != nil {
			return nil, err
		}
		e.names = append(e.names, append(name, ':'))
	}
	return e, nil
}

func (e *jsonEncoder) write(batch arrow.RecordBatch) error {
	writers, err := valueWriters(batch, formJSON)
	if err != nil {
		return err
	}
	for row := range int(batch.NumRows()) {
		e.text = append(e.text, '{')
		for i, write := range writers {
			e.text = append(e.text, e.names[i]...)
			if isNull(batch.Column(i), row) {
				e.text = append(e.text, "null"...)
				continue
			}
			e.text = write(e.text, row)
		}
		e.text = append(e.text, "}\n"...)
		if err := e.flush(textBufferBytes); err != nil {
			return err
		}
	}
	return nil
}
