// Package python carries the worker harness inside the engine's binary, so
// that an engine and the Python code that its workers run are always of one
// version. It imports the standard library only.
package python

import (
	"embed"
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

// WriteHarness writes the harness's files into dir, which it makes if need be.
// The files can be read by every user, because a sandboxed worker may be
// another one.
func WriteHarness(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the worker harness: %w", err)
	}
	entries, err := fs.ReadDir(harness, harnessRoot)
	if err != nil {
		return fmt.Errorf("read the embedded worker harness: %w", err)
	}
	for _, entry := range entries {
		content, err := harness.ReadFile(harnessRoot + "/" + entry.Name())
		if err != nil {
			return fmt.Errorf("read the embedded worker harness: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, entry.Name()), content, 0o644); err != nil {
			return fmt.Errorf("write the worker harness: %w", err)
		}
	}
	return nil
}
