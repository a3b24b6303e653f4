package ops

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// SideTableBytesMax bounds a table that a function gets whole, as a file.
const SideTableBytesMax = 2 << 30

// SideTable keeps its input as a file of Arrow's, for functions that get it
// whole. It is the operator of that input; the operators of the functions wait
// for it to be complete before they submit their first bundle.
type SideTable struct {
	name, function string
	schema         *arrow.Schema
	file           *os.File
	bytesMax       int64
	// users are the operators that may still want it, wanted ends when there
	// are none.
	users  atomic.Int64
	wanted context.Context //nolint:containedctx // the table's own life, not a call's
	unwant context.CancelFunc
	// complete is closed when the file is.
	complete chan struct{}
}

// SideTableOptions are those of a SideTable.
type SideTableOptions struct {
	// Name is the parameter of the function that gets the table.
	Name, Function string
	Schema         *arrow.Schema
	// File is empty. The operator closes it; whoever made it removes it.
	File *os.File
	// Users is the number of operators that get the table.
	Users int
	// BytesMax bounds the file; 0 means SideTableBytesMax.
	BytesMax int64
}

// NewSideTable makes an operator that has to be run once.
func NewSideTable(o SideTableOptions) *SideTable {
	t := &SideTable{
		name: o.Name, function: o.Function, file: o.File, bytesMax: o.BytesMax,
		// What the schema says besides names and types is not the function's.
		schema:   arrow.NewSchema(o.Schema.Fields(), nil),
		complete: make(chan struct{}),
	}
	t.wanted, t.unwant = context.WithCancel(context.Background())
	if t.bytesMax == 0 {
		t.bytesMax = SideTableBytesMax
	}
	t.users.Store(int64(o.Users))
	return t
}

// Run implements exec.Operator. It ends when nobody wants the table any more.
func (t *SideTable) Run(ctx context.Context, in []*exec.Input, _ *exec.Output) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(t.wanted, func() { stop(exec.ErrStopped) })()
	if err := errors.Join(t.keep(ctx, in[0]), t.file.Close()); err != nil {
		return err
	}
	close(t.complete)
	return nil
}

// keep writes the input to the file.
func (t *SideTable) keep(ctx context.Context, in *exec.Input) error {
	columns := make([]int, t.schema.NumFields())
	for i := range columns {
		columns[i] = i
	}
	_, err := writeTable(ctx, in, columns, t.schema, &boundedWriter{to: t.file, left: t.bytesMax}, t.unwritable)
	return err
}

// writeTable writes columns of an input as a file of Arrow's, and gives its size
// in bytes; unwritable makes the error where the file cannot be written.
func writeTable(ctx context.Context, in *exec.Input, columns []int, schema *arrow.Schema, to io.Writer, unwritable func(error) error) (bytes int64, err error) {
	counted := &countedWriter{to: to}
	buffered := bufio.NewWriterSize(counted, 1<<20)
	w, err := ipc.NewFileWriter(buffered, ipc.WithSchema(schema))
	if err != nil {
		return 0, unwritable(err)
	}
	for {
		e, err := in.Next(ctx)
		if err != nil {
			return 0, err
		}
		switch e.Kind {
		case exec.KindEnd:
			if err := w.Close(); err != nil {
				return 0, unwritable(err)
			}
			if err := buffered.Flush(); err != nil {
				return 0, unwritable(err)
			}
			return counted.bytes, nil
		case exec.KindBatch:
			batch := pick(e.Batch, columns, schema)
			e.Release()
			err := w.Write(batch)
			batch.Release()
			if err != nil {
				return 0, unwritable(err)
			}
		}
	}
}

// countedWriter counts what is written.
type countedWriter struct {
	to    io.Writer
	bytes int64
}

// Write implements io.Writer.
func (w *countedWriter) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.bytes += int64(n)
	return n, err
}

func (t *SideTable) unwritable(err error) error {
	if errors.Is(err, errBeyond) {
		return diag.New(diag.OutputTooLarge, "the table %s of %s has more than %d MiB", t.name, t.function, t.bytesMax>>20).
			WithHint("a function gets such a table whole, in each of its workers: select the columns and rows that it needs, or join with the table")
	}
	return diag.New(diag.OutputUnwritable, "the table %s of %s could not be written to the spill directory", t.name, t.function).
		WithCause(err).WithHint("free space on the disk, or name another folder with al.connect(spill_dir=...)")
}

var errBeyond = errors.New("the table is beyond its limit")

// boundedWriter fails where more is written than it may take.
type boundedWriter struct {
	to   io.Writer
	left int64
}

// Write implements io.Writer.
func (w *boundedWriter) Write(b []byte) (int, error) {
	if w.left -= int64(len(b)); w.left < 0 {
		return 0, errBeyond
	}
	return w.to.Write(b)
}

// awaitTables waits until tables are complete.
func awaitTables(ctx context.Context, tables []*SideTable) error {
	for _, t := range tables {
		select {
		case <-t.complete:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// leaveTables says that one of the operators that get tables has ended.
func leaveTables(tables []*SideTable) {
	for _, t := range tables {
		if t.users.Add(-1) == 0 {
			t.unwant()
		}
	}
}
