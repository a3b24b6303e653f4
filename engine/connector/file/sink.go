package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Sink writes a table to a file or a folder of files. It implements exec.Sink.
type Sink struct {
	codec  codec
	output plan.Output
}

// NewSink makes the sink of a write.
func NewSink(op plan.Op) (*Sink, error) {
	c, out, err := newCodec(op)
	if err != nil {
		return nil, err
	}
	return &Sink{codec: c, output: out}, nil
}

// Open implements exec.Sink.
func (s *Sink) Open(_ context.Context, schema *arrow.Schema) (exec.SinkWriter, error) {
	if s.intoFolder() {
		return openFolder(s.codec, s.output, schema)
	}
	if s.output.Mode == plan.Append {
		return nil, diag.New(diag.BadOption, "mode=\"append\" adds files to a folder, but %s is a file", s.output.Path).
			WithHint("a path that ends in / is a folder")
	}
	target, err := createBeside(s.output.Path, s.output.Mode)
	if err != nil {
		return nil, err
	}
	e, err := s.codec.open(target, schema)
	if err != nil {
		target.discard()
		return nil, unwritable(s.output.Path, err)
	}
	return &fileWriter{path: s.output.Path, target: target, encoder: e}, nil
}

// intoFolder reports whether the output is a folder: because it says so, has
// partitions, exists as one, or is one that files are added to.
func (s *Sink) intoFolder() bool {
	o := s.output
	if o.Folder || len(o.PartitionBy) > 0 || isFolder(o.Path) {
		return true
	}
	_, err := os.Stat(o.Path)
	return o.Mode == plan.Append && err != nil && filepath.Ext(o.Path) == ""
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// fileWriter writes one file.
type fileWriter struct {
	path    string
	target  *beside
	encoder encoder
}

// Write implements exec.SinkWriter.
func (w *fileWriter) Write(_ context.Context, batch arrow.RecordBatch) error {
	if batch.NumRows() == 0 {
		return nil
	}
	if err := w.encoder.write(batch); err != nil {
		return unwritable(w.path, err)
	}
	return nil
}

// Commit implements exec.SinkWriter.
func (w *fileWriter) Commit(context.Context) error {
	err := w.encoder.finish()
	if err == nil {
		err = w.target.publish()
	}
	if err != nil {
		w.target.discard()
		return unwritable(w.path, err)
	}
	return nil
}

// Abort implements exec.SinkWriter.
func (w *fileWriter) Abort() { w.target.discard() }

// unwritable says why an output cannot be written. A diagnostic is passed on.
func unwritable(path string, err error) error {
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		return d
	}
	d := diag.New(diag.OutputUnwritable, "%s cannot be written", path).WithCause(fmt.Errorf("%w", err))
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		folder := filepath.Dir(path)
		if free, whole, ok := diskSpace(folder); ok {
			d.WithFact("%s are free of %s on the disk of %s", size(free), size(whole), folder)
		}
		return d.WithHint("make room or choose another disk; nothing of the output is left")
	case errors.Is(err, syscall.EFBIG):
		return d.WithHint("the size of files is limited (ulimit -f); nothing of the output is left")
	case errors.Is(err, os.ErrPermission):
		return d.WithHint("the engine runs as %s, which may not write there", user())
	case errors.Is(err, os.ErrNotExist):
		if _, missing := os.Stat(filepath.Dir(path)); missing != nil {
			return d.WithHint("make the folder %s first", filepath.Dir(path))
		}
	}
	return d.WithHint("check that the folder exists, that it may be written to and that the disk has room")
}

// size shows a number of bytes.
func size(bytes uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(bytes), 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
