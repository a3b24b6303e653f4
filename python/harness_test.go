package python

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteHarnessWritesEveryFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "harness")
	for range 2 { // a second time it replaces what is there
		if err := WriteHarness(dir); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := filepath.Glob(filepath.Join("alink", "_worker", "*.py"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 || len(written) != len(sources) {
		t.Fatalf("%d files were written of %d", len(written), len(sources))
	}
	for _, source := range sources {
		want, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, filepath.Base(source)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the one in the checkout", filepath.Base(source))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, HarnessEntry)); err != nil {
		t.Error(err)
	}
}

func TestWriteHarnessSaysWhatItCouldNotDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteHarness(filepath.Join(file, "dir")); err == nil {
		t.Error("a folder within a file was written to")
	}
}
