// Package python carries the worker harness inside the engine's binary, so
// that an engine and the Python code that its workers run are always of one
// version. It imports the standard library only.
package python

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed alink/_worker/*.py
var harness embed.FS

// harnessRoot is the harness's folder within the embedded files.
const harnessRoot = "alink/_worker"

// HarnessEntry is the file of the harness that an interpreter is started with.
const HarnessEntry = "boot.py"

// SharedHarness gives the harness's folder in a cache directory, which engines
// of one version share: what Python compiles there is compiled once for all of
// them. Files that differ from the embedded ones are written anew.
func SharedHarness(cacheDir string) (string, error) {
	files, err := readHarness()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%s %d\n", f.name, len(f.content))
		sum.Write(f.content)
	}
	dir := filepath.Join(cacheDir, "harness", hex.EncodeToString(sum.Sum(nil))[:16])
	for _, f := range files {
		there, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil || !bytes.Equal(there, f.content) {
			return dir, replaceHarness(dir)
		}
	}
	return dir, nil
}

// replaceHarness makes dir in one step: another engine may be doing the same.
func replaceHarness(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the harness's folder: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".write-")
	if err != nil {
		return fmt.Errorf("make the harness's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(fresh) }() // gone, where it was renamed
	if err := errors.Join(os.Chmod(fresh, 0o755), WriteHarness(fresh)); err != nil {
		return err
	}
	if err := os.Rename(fresh, dir); err == nil {
		return nil
	}
	// The folder is there: another engine was faster, or its files are damaged.
	return WriteHarness(dir)
}

// harnessFile is an embedded file.
type harnessFile struct {
	name    string
	content []byte
}

func readHarness() ([]harnessFile, error) {
	entries, err := fs.ReadDir(harness, harnessRoot)
	if err != nil {
		return nil, fmt.Errorf("read the embedded worker harness: %w", err)
	}
	files := make([]harnessFile, len(entries))
	for i, entry := range entries {
		content, err := harness.ReadFile(harnessRoot + "/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read the embedded worker harness: %w", err)
		}
		files[i] = harnessFile{entry.Name(), content}
	}
	return files, nil
}

// WriteHarness writes the harness's files into dir, which it makes if need be.
// The files can be read by every user, because a sandboxed worker may be
// another one.
func WriteHarness(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the worker harness: %w", err)
	}
	files, err := readHarness()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := writeWhole(filepath.Join(dir, f.name), f.content); err != nil {
			return fmt.Errorf("write the worker harness: %w", err)
		}
	}
	return nil
}

// writeWhole replaces a file in one step, since a worker may be reading it.
func writeWhole(path string, content []byte) error {
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(fresh, content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return nil
}
