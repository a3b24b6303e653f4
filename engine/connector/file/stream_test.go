package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
)

var allFormats = []Format{CSV, JSON, Arrow, Feather, Parquet}

func smallBatch(t *testing.T) arrow.RecordBatch {
	t.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	batch, _, err := array.RecordFromJSON(checked, schema, strings.NewReader(`[{"a": 1, "s": "x,y"}, {"a": null, "s": null}]`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		batch.Release()
		checked.AssertSize(t, 0)
	})
	return batch
}

func TestEncodersOfText(t *testing.T) {
	batch := smallBatch(t)
	for format, want := range map[Format]string{
		CSV:  "a,s\n1,\"x,y\"\n,\n",
		JSON: `{"a":1,"s":"x,y"}` + "\n" + `{"a":null,"s":null}` + "\n",
	} {
		var out bytes.Buffer
		e, err := NewEncoder(&out, format, "", batch.Schema())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Write(batch); err != nil || out.String() != want { // nothing is held back
			t.Errorf("%s: %q, %v", format, out.String(), err)
		}
		if err := e.Close(); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v", format, out.String(), err)
		}
	}
}

// TestEveryEncoderTellsOfItsStream: a pipe that nobody reads is known for one.
func TestEveryEncoderTellsOfItsStream(t *testing.T) {
	batch := smallBatch(t)
	for _, format := range allFormats {
		e, err := NewEncoder(brokenPipe{}, format, "", batch.Schema())
		for i := 0; i < 3 && err == nil; i++ {
			err = e.Write(batch)
		}
		if err == nil {
			err = e.Close()
		}
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: %v", format, err)
		}
	}
	if _, err := NewEncoder(&bytes.Buffer{}, "xlsx", "", batch.Schema()); err == nil {
		t.Error("an unknown format is taken")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Err: syscall.EPIPE}
}

func TestTarget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	write := func(overwrite bool, between func()) error {
		target, err := Create(path, overwrite)
		if err != nil {
			return err
		}
		if _, err := target.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if between != nil {
			between()
		}
		return target.Publish()
	}
	other := func() {
		if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code := func(err error) diag.Code {
		d, _ := errors.AsType[*diag.Diagnostic](err)
		if d == nil {
			return ""
		}
		return d.Code
	}
	if err := write(false, other); code(err) != diag.OutputExists { // it has come meanwhile
		t.Error(err)
	}
	if err := write(false, nil); code(err) != diag.OutputExists {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "other" {
		t.Errorf("%q, %v", text, err)
	}
	if err := write(true, nil); err != nil {
		t.Error(err)
	}
	target, err := Create(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.Write([]byte("given up")); err != nil {
		t.Fatal(err)
	}
	target.Discard()
	entries, err := os.ReadDir(filepath.Dir(path))
	if text, readErr := os.ReadFile(path); readErr != nil || string(text) != "new" || err != nil || len(entries) != 1 {
		t.Errorf("%q, %v, %v, %v", text, readErr, entries, err)
	}
}

func TestScratch(t *testing.T) {
	parent := t.TempDir()
	folder, remove, err := Scratch(parent, ".scratch-")
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(parent, ".scratch-dead"+stagingSuffix) // nobody has locked it
	other := filepath.Join(parent, "scratch")
	for _, path := range []string{dead, other} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	again, removeAgain, err := Scratch(parent, ".scratch-")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{folder: true, again: true, other: true, dead: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v", path, err == nil)
		}
	}
	if err := errors.Join(remove(), removeAgain()); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, _, err := Scratch(filepath.Join(parent, "nowhere"), ".scratch-"); err == nil {
		t.Error("a folder that is not there is taken")
	}
}
