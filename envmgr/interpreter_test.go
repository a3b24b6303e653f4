package envmgr

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
)

// realPython is an interpreter that the tests can use.
func realPython(t *testing.T, s *Store) interpreter {
	t.Helper()
	p, err := s.choose(t.Context(), Spec{})
	must(t, err)
	return p
}

// wrapper is a script that behaves as the interpreter, as pyenv's shims do.
func wrapper(t *testing.T, path, target string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexec %q \"$@\"\n", target), 0o700))
}

// pretender answers the probe as an interpreter of another version.
func pretender(t *testing.T, path, version string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	answer := fmt.Sprintf(`{"executable":%q,"implementation":"cpython","version":%q,"abi":".so","platform":"test"}`, path, version)
	must(t, os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\necho '%s'\n", answer), 0o700))
}

func TestExistingInterpreter(t *testing.T) {
	s := open(t, Options{UV: "not-needed"})
	here := realPython(t, s)
	env := resolve(t, s, Spec{Interpreter: here.Executable, Paths: []string{"/site"}})
	if env.Interpreter != here.Executable || env.PythonVersion != here.Version || !slices.Equal(env.Paths, []string{"/site"}) {
		t.Errorf("got %+v of %+v", env, here)
	}
	if other := resolve(t, s, Spec{Interpreter: here.Executable}); other.ID == env.ID {
		t.Error("other paths, but the same ID")
	}
	if same := resolve(t, open(t, Options{UV: "not-needed"}), Spec{Interpreter: here.Executable, Paths: []string{"/site"}}); same.ID != env.ID {
		t.Error("the same interpreter and paths, but another ID")
	}

	shim := filepath.Join(t.TempDir(), "python3")
	wrapper(t, shim, here.Executable)
	if behind := resolve(t, s, Spec{Interpreter: shim, Paths: []string{"/site"}}); behind.Interpreter != here.Executable || behind.ID != env.ID {
		t.Errorf("behind a shim: %+v, want %+v", behind, env)
	}

	// A virtual environment's Python links to its base but is not it.
	venv := filepath.Join(t.TempDir(), "v")
	if out, err := exec.CommandContext(t.Context(), here.Executable, "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inVenv := resolve(t, s, Spec{Interpreter: filepath.Join(venv, "bin", "python"), Paths: []string{"/site"}})
	if inVenv.ID == env.ID || python(t, inVenv, "import sys; print(sys.prefix)") != venv {
		t.Errorf("in a virtual environment: %+v", inVenv)
	}
}

func TestExistingInterpreterRefused(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	pretender(t, old, "3.9.18")
	broken := filepath.Join(dir, "broken")
	must(t, os.WriteFile(broken, []byte("#!/bin/sh\necho 'no version is set' >&2\nexit 127\n"), 0o700))
	silent := filepath.Join(dir, "silent")
	must(t, os.WriteFile(silent, []byte("#!/bin/sh\n"), 0o700))
	tests := []struct{ name, path, part string }{
		{"missing", filepath.Join(dir, "missing"), "no such file"},
		{"folder", dir, "it has no bin/python"},
		{"too old", old, "has version 3.9.18, which is too old"},
		{"does not run", broken, "no version is set"},
		{"is no Python", silent, "does not answer as a Python does"},
	}
	s := open(t, Options{UV: "not-needed"})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), Spec{Interpreter: test.path}, nil)
			wantDiagnostic(t, err, diag.NoInterpreter, test.path, test.part)
		})
	}
}

func TestChooseInterpreter(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	pyenv, managed, bin := filepath.Join(home, "pyenv"), filepath.Join(home, "uv"), filepath.Join(home, "bin")
	t.Setenv("PYENV_ROOT", pyenv)
	t.Setenv("UV_PYTHON_INSTALL_DIR", managed)
	t.Setenv("PATH", strings.Join([]string{filepath.Join(pyenv, "shims"), bin, "/usr/bin", "/bin"}, ":"))
	at := map[string]string{}
	for version, path := range map[string]string{
		"9.1.0":  filepath.Join(bin, "python3"),
		"9.2.4":  filepath.Join(pyenv, "versions", "9.2.4", "bin", "python3"),
		"9.2.10": filepath.Join(pyenv, "versions", "9.2.10", "bin", "python3"),
		"9.3.1":  filepath.Join(managed, "cpython-9.3.1-linux", "bin", "python3"),
		"9.4.2":  filepath.Join(home, "client", "bin", "python3"),
		"9.5.0":  filepath.Join(pyenv, "shims", "python9.5"),
	} {
		pretender(t, path, version)
		at[version] = path
	}
	client := at["9.4.2"]
	tests := []struct{ wanted, base, version string }{
		{"", client, "9.4.2"},
		{"9", client, "9.4.2"},
		{"9.4", client, "9.4.2"},
		{"9.4.2", client, "9.4.2"},
		{"9.1", client, "9.1.0"},
		{"9.2", client, "9.2.10"}, // the latest, by number
		{"9.2.4", client, "9.2.4"},
		{"9.3", client, "9.3.1"},
		{"", "", "9.1.0"},
		{"9.4.1", client, ""},
		{"9.4", "", ""}, // nobody's base
		{"9.5", client, ""},
		{"9.20", client, ""},
	}
	s := open(t, Options{UV: "not-needed"})
	for _, test := range tests {
		t.Run(fmt.Sprintf("%q from %q", test.wanted, filepath.Base(filepath.Dir(test.base))), func(t *testing.T) {
			got, err := s.choose(t.Context(), Spec{Python: test.wanted, BaseInterpreter: test.base})
			if test.version == "" {
				wantDiagnostic(t, err, diag.NoInterpreter, "Python "+test.wanted+" is not on this machine", "found: 9.1.0 at "+at["9.1.0"], "hint: install Python "+test.wanted)
				return
			}
			must(t, err)
			if got.Version != test.version || got.Executable != at[test.version] {
				t.Errorf("got %+v, want %s", got, test.version)
			}
		})
	}
	for _, wanted := range []string{"three", "3.11.*", ">=3.11", "2.7", "3.9"} {
		_, err := s.choose(t.Context(), Spec{Python: wanted, BaseInterpreter: client})
		wantDiagnostic(t, err, diag.BadOption, wanted)
	}
}

func TestCompareVersions(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"3.11.7", "3.11", 0},
		{"3.9.18", "3.10", -1},
		{"3.13.0rc1", "3.13.0", 0},
		{"3.10.1", "3.9.30", 1},
		{"4.0", "3.10", 1},
		{"3.11.7", "", 0},
	}
	for _, test := range tests {
		if got := compareVersions(test.a, test.b); got != test.want {
			t.Errorf("compareVersions(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
