package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

var testSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "na me", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "parts", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}), Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
}, nil)

func rows(t *testing.T, text string) arrow.RecordBatch {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, testSchema, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Release)
	return batch
}

func openPath(t *testing.T, path string, columns ...string) (*Source, error) {
	t.Helper()
	return Open(t.Context(), plan.ScanParquet{Files: plan.Files{Path: path, Columns: columns}})
}

func sinkTo(t *testing.T, path string, mode plan.WriteMode) (exec.SinkWriter, error) {
	t.Helper()
	sink, err := NewSink(plan.WriteParquet{Output: plan.Output{Path: path, Mode: mode}})
	if err != nil {
		t.Fatal(err)
	}
	return sink.Open(t.Context(), testSchema)
}

func write(t *testing.T, path string, mode plan.WriteMode, batches ...arrow.RecordBatch) error {
	t.Helper()
	w, err := sinkTo(t, path, mode)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := w.Write(t.Context(), b); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Commit(t.Context())
}

func read(t *testing.T, source exec.Source) (string, int64) {
	t.Helper()
	reader, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var text strings.Builder
	var n int64
	for {
		batch, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return text.String(), n
		}
		if err != nil {
			t.Fatal(err)
		}
		n += batch.NumRows()
		b, err := batch.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
		batch.Release()
	}
}

func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

const twoRows = `[{"id": 1, "na me": "größe", "parts": {"x": 1.5}, "at": "2013-01-01T05:00:00Z"}, {"id": null, "na me": null, "parts": null, "at": null}]`

func TestParquetRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	batch := rows(t, twoRows)
	if err := write(t, path, plan.ErrorIfExists, batch, batch); err != nil {
		t.Fatal(err)
	}
	source, err := openPath(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if !source.Schema().Equal(testSchema) {
		t.Errorf("schema is %s", source.Schema())
	}
	one, _ := batch.MarshalJSON()
	for range 2 { // a source can be read again
		got, n := read(t, source)
		if want := string(one[:len(one)-1]) + "," + string(one[1:]); n != 4 || got != want {
			t.Errorf("%d rows:\n%s\nwant\n%s", n, got, want)
		}
	}
	some, err := openPath(t, path, "parts", "id")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, some); !strings.HasPrefix(got, `[{"id":1,"parts":{"x":1.5}}`) {
		t.Errorf("two columns: %s", got)
	}
}

func TestEmptyTableIsAFileToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := write(t, path, plan.ErrorIfExists); err != nil {
		t.Fatal(err)
	}
	source, err := openPath(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if got, n := read(t, source); n != 0 || got != "" || source.Schema().NumFields() != 4 {
		t.Errorf("%d rows %q of %s", n, got, source.Schema())
	}
}

func TestOutputAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.parquet")
	w, err := sinkTo(t, path, plan.ErrorIfExists)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), rows(t, twoRows)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); strings.Contains(got, "t.parquet ") || got == "t.parquet" {
		t.Errorf("visible before it is whole: %s", got)
	}
	w.Abort()
	if got := files(t, dir); got != "" {
		t.Errorf("left after an abort: %s", got)
	}
}

func TestOverwriteKeepsTheOldUntilTheEnd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.parquet")
	if err := write(t, path, plan.Overwrite); err != nil {
		t.Fatal(err)
	}
	old, _ := os.ReadFile(path)
	w, err := sinkTo(t, path, plan.Overwrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), rows(t, twoRows)); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(path); string(now) != string(old) {
		t.Error("the old file changed before the end")
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(path); string(now) == string(old) || files(t, dir) != "t.parquet" {
		t.Errorf("after the end: %s", files(t, dir))
	}
}

func TestErrorModeNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.parquet")
	w, err := sinkTo(t, path, plan.ErrorIfExists)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("somebody else's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := diag.From(w.Commit(t.Context())); d == nil || d.Code != diag.OutputExists {
		t.Errorf("a file that came in between: %v", d)
	}
	if d := diag.From(write(t, path, plan.ErrorIfExists)); d == nil || d.Code != diag.OutputExists {
		t.Errorf("a file that was there: %v", d)
	}
	if now, _ := os.ReadFile(path); string(now) != "somebody else's" || files(t, dir) != "t.parquet" {
		t.Errorf("%q, %s", now, files(t, dir))
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "flights.parquet")
	if err := write(t, good, plan.Overwrite, rows(t, twoRows)); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(good)
	cut := filepath.Join(dir, "cut.parquet")
	text := filepath.Join(dir, "text.parquet")
	for path, content := range map[string][]byte{cut: whole[:len(whole)-20], text: []byte("a,b\n1,2\n")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path    string
		columns []string
		code    diag.Code
		hint    string
	}{
		"missing":        {filepath.Join(dir, "flihgts.parquet"), nil, diag.FileMissing, "did you mean " + good},
		"missing folder": {"/nowhere/at/all.parquet", nil, diag.FileMissing, "does not exist either"},
		"cut":            {cut, nil, diag.FileUnreadable, "whole"},
		"text":           {text, nil, diag.FileUnreadable, "whole"},
		"folder":         {dir, nil, diag.FileUnreadable, "whole"}, // of which one file is not
		"no such column": {good, []string{"idd"}, diag.UnknownColumn, "did you mean id?"},
	} {
		_, err := openPath(t, c.path, c.columns...)
		if d := diag.From(err); d == nil || d.Code != c.code || !strings.Contains(d.Hint, c.hint) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := diag.From(write(t, dir+"/no/t.parquet", plan.Overwrite)); d == nil || d.Code != diag.OutputUnwritable || !strings.Contains(d.Hint, "make the folder") {
		t.Errorf("no folder: %v", d)
	}
	if got := fmt.Sprint(files(t, dir)); got != "cut.parquet flights.parquet text.parquet" {
		t.Errorf("left behind: %s", got)
	}
}

func TestDamageInTheMiddleIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	var batches []arrow.RecordBatch
	for range 200 {
		batches = append(batches, rows(t, twoRows))
	}
	if err := write(t, path, plan.Overwrite, batches...); err != nil {
		t.Fatal(err)
	}
	content, _ := os.ReadFile(path)
	for i := 4; i < 60; i++ {
		content[i] ^= 0x5a
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := openPath(t, path)
	if err != nil {
		t.Fatal("the damage is in the part that is read first:", err)
	}
	reader, err := source.Open(t.Context())
	if err == nil {
		defer reader.Close()
		for err == nil {
			var batch arrow.RecordBatch
			if batch, err = reader.Next(t.Context()); err == nil {
				batch.Release()
			}
		}
	}
	if errors.Is(err, io.EOF) {
		t.Error("a damaged file was read to its end without an error")
	}
}

func TestOverwriteKeepsPermissionsAndLinks(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "t.parquet"), filepath.Join(dir, "link.parquet")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if err := write(t, link, plan.Overwrite, rows(t, twoRows)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if target, err := os.Readlink(link); err != nil || target != path || files(t, dir) != "link.parquet t.parquet" {
		t.Errorf("the link points at %q, %v; %s", target, err, files(t, dir))
	}
}

func TestOnlyFilesAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.parquet")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := diag.From(write(t, path, plan.Overwrite)); d == nil || d.Code != diag.OutputUnwritable || !strings.Contains(d.Cause, "not a regular file") {
		t.Errorf("a pipe: %v", d)
	}
}

// TestFlippedBitsAreErrors: whatever a file holds, reading it ends with rows
// or with an error that names it.
func TestFlippedBitsAreErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := write(t, path, plan.Overwrite, rows(t, twoRows)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0xff
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := readQuietly(t, path); err != nil && diag.From(err).Code != diag.FileUnreadable {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// readQuietly reads a file to its end or to its first error.
func readQuietly(t *testing.T, path string) error {
	t.Helper()
	source, err := openPath(t, path)
	if err != nil {
		return err
	}
	reader, err := source.Open(t.Context())
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		batch, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		batch.Release()
	}
}
