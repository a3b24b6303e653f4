package file

import (
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/alink-runtime/alink/engine/plan"
)

// Format is how a table is written to a stream.
type Format string

// The formats.
const (
	CSV     Format = "csv"
	JSON    Format = "json"    // one object a line
	Arrow   Format = "arrow"   // the stream of Arrow IPC
	Feather Format = "feather" // the file of Arrow IPC
	Parquet Format = "parquet"
)

// Encoder writes one table to a stream, batch by batch.
type Encoder struct{ encoder encoder }

// NewEncoder begins a table. path is the name of the file that w is, whose
// ending tells how text is compressed; "" is none.
func NewEncoder(w io.Writer, format Format, path string, schema *arrow.Schema) (*Encoder, error) {
	var op plan.Op
	switch output := (plan.Output{Path: path}); format {
	case CSV:
		op = plan.WriteCSV{Output: output}
	case JSON:
		op = plan.WriteJSON{Output: output}
	case Parquet:
		op = plan.WriteParquet{Output: output}
	case Arrow:
		return &Encoder{&ipcEncoder{ipc.NewWriter(w, ipc.WithSchema(schema))}}, nil
	case Feather:
		writer, err := ipc.NewFileWriter(w, ipc.WithSchema(schema))
		return &Encoder{&ipcEncoder{writer}}, err
	default:
		return nil, fmt.Errorf("there is no format %q", format)
	}
	c, _, err := newCodec(op)
	if err != nil {
		return nil, err
	}
	e, err := c.open(w, schema)
	return &Encoder{e}, err
}

// Write writes a batch, which stays the caller's. Text is not held back:
// whoever reads the stream sees the rows.
func (e *Encoder) Write(batch arrow.RecordBatch) error {
	if batch.NumRows() == 0 {
		return nil
	}
	if err := e.encoder.write(batch); err != nil {
		return err
	}
	if text, ok := e.encoder.(interface{ flush(least int) error }); ok {
		return text.flush(0)
	}
	return nil
}

// Close completes the table; the stream stays open.
func (e *Encoder) Close() error { return e.encoder.finish() }

// ipcEncoder writes messages of Arrow IPC, each when it is made.
type ipcEncoder struct {
	writer interface {
		Write(batch arrow.RecordBatch) error
		Close() error
	}
}

func (e *ipcEncoder) write(batch arrow.RecordBatch) error { return e.writer.Write(batch) }
func (e *ipcEncoder) buffered() int64                     { return 0 }
func (e *ipcEncoder) finish() error                       { return e.writer.Close() }

// Target is a file that is written out of sight and appears under its name
// when it is whole.
type Target struct{ file *beside }

// Create begins a file. One that is there is replaced only if overwrite says
// so, and when the new one is whole.
func Create(path string, overwrite bool) (*Target, error) {
	mode := plan.ErrorIfExists
	if overwrite {
		mode = plan.Overwrite
	}
	b, err := createBeside(path, mode)
	if err != nil {
		return nil, err
	}
	return &Target{b}, nil
}

// Write implements io.Writer.
func (t *Target) Write(p []byte) (int, error) { return t.file.Write(p) }

// Publish makes the file appear under its name.
func (t *Target) Publish() error {
	if err := t.file.publish(); err != nil {
		t.file.discard()
		return unwritable(t.file.path, err)
	}
	return nil
}

// Discard gives the file up.
func (t *Target) Discard() { t.file.discard() }

// Texts gives the texts of a column's values, as CSV has them without quotes;
// that of a NULL must not be asked for.
func Texts(column arrow.Array) (func(row int) []byte, error) {
	w, err := newValueWriter(column, formCSV)
	if err != nil {
		return nil, err
	}
	return func(row int) []byte { return w(nil, row) }, nil
}
