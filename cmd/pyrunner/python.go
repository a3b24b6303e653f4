package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// findPython finds the interpreter that scripts run with: the one given, that
// of the active virtual environment, the one beside this binary (where a wheel
// puts it), and PATH.
func findPython(given string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", diag.New(diag.NoInterpreter, "there is no Python at %s", given).WithCause(err)
		}
		return filepath.Abs(path)
	}
	var looked []string
	if venv := os.Getenv("VIRTUAL_ENV"); venv != "" {
		looked = append(looked, filepath.Join(venv, "bin", "python"))
	}
	if self, err := os.Executable(); err == nil {
		looked = append(looked, filepath.Join(filepath.Dir(self), "python"))
	}
	for _, path := range looked {
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	for _, name := range []string{"python3", "python"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", diag.New(diag.NoInterpreter, "no Python was found to run the script with").
		WithFact("looked at %s and on PATH", strings.Join(looked, ", ")).
		WithHint("name it with --python, or activate the virtual environment that has alink")
}
