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

func TestEnginesShareTheHarness(t *testing.T) {
	cache := t.TempDir()
	dir, err := SharedHarness(cache)
	if err != nil {
		t.Fatal(err)
	}
	entry := filepath.Join(dir, HarnessEntry)
	want, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(entry)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := SharedHarness(cache); err != nil || again != dir {
		t.Fatalf("a second engine got %q, %v", again, err)
	}
	if after, err := os.Stat(entry); err != nil || !os.SameFile(before, after) {
		t.Errorf("an engine wrote again what was there: %v", err)
	}
	if err := os.WriteFile(entry, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SharedHarness(cache); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(entry); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a damaged file stayed: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
