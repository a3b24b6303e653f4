package gotests_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/alink-runtime/alink/"

// room says what a folder's code (its tests apart) may import. It holds for
// the folders within too, unless they have rooms of their own: then each needs
// one.
type room struct {
	folder string
	// ours are the folders of this module that it may import; "…" is all.
	ours []string
	// theirs are the prefixes of other modules that it may import; nil is all
	// but those that are reserved.
	theirs []string
	why    string
}

var none = []string{}

var rooms = []room{
	{"diag", none, none, "every room reports through it, so it depends on none"},
	{"config", []string{"diag"}, []string{"github.com/pelletier/go-toml/"}, "settings mean the same to whoever reads them"},
	{"grant", none, none, "plans and the sandbox share it"},
	{"engine/plan", []string{"diag", "grant"}, []string{"github.com/apache/arrow-go/"}, "what a job is does not depend on how it runs"},
	{"engine/state", []string{"diag"}, []string{"github.com/apache/arrow-go/", "github.com/zeebo/xxh3"}, "what operators remember does not depend on how they run"},
	{
		"engine/exec",
		[]string{"diag", "engine/plan", "engine/state"},
		[]string{"github.com/apache/arrow-go/", "golang.org/x/sync/"},
		"it declares the interfaces that operators and workers implement, and knows none of them",
	},
	{"engine/ops", []string{"diag", "engine/plan", "engine/exec", "engine/state"}, nil, "operators run under exec and know no outside system"},
	{"engine/checkpoint", []string{"diag", "engine/plan", "engine/exec"}, []string{"github.com/apache/arrow-go/"}, "checkpoints know subtasks, not what they compute"},
	{"engine/duck", []string{"diag", "engine/plan", "engine/exec"}, nil, "relational work is behind exec's interfaces"},
	{"engine/connector", []string{"diag", "engine/plan", "engine/exec"}, nil, "connectors know nothing of workers"},
	{
		"engine",
		[]string{"diag", "engine/plan", "engine/exec", "engine/state", "engine/ops", "engine/checkpoint", "engine/duck", "engine/connector", "fnapi", "udfworker", "udfworker/cgroup", "udfworker/sandbox", "envmgr", "python", "grant"},
		nil,
		"it wires the rooms below; its front doors are above",
	},
	{"fnapi", []string{"diag", "engine/plan", "engine/exec", "udfworker", "udfworker/sandbox", "envmgr"}, nil, "the boundary knows nothing of SQL, DuckDB, algorithms or servers"},
	{"udfworker", []string{"diag", "envmgr", "python", "udfworker/cgroup", "udfworker/sandbox"}, nil, "a worker's life does not depend on what it computes"},
	{"udfworker/cgroup", none, []string{"golang.org/x/sys/"}, "what is trusted to confine stays small"},
	{"udfworker/sandbox", []string{"grant"}, []string{"golang.org/x/sys/"}, "what is trusted to confine stays small"},
	{"envmgr", []string{"diag"}, []string{"golang.org/x/sys/", "github.com/pelletier/go-toml/", "github.com/klauspost/compress/"}, "environments are made for whoever asks"},
	{"python", none, none, "it only carries the harness"},
	{"server", []string{"diag", "engine", "engine/plan", "engine/exec"}, nil, "a front door talks to the engine, not to its rooms"},
	{"cmd", []string{"…"}, nil, "the command line wires everything"},
	{"tools", []string{"…"}, nil, "generators read what they generate from"},
	{"bench", []string{"…"}, nil, "a benchmark may reach inside"},
	{"go-tests", []string{"…"}, nil, "tests of the whole"},
}

// tops are folders that nothing may import.
var tops = []string{"cmd", "tools", "bench", "go-tests"}

// reserved are modules that only some folders may import.
var reserved = []struct {
	prefix string
	rooms  []string
	why    string
}{
	{"github.com/duckdb/", []string{"engine/duck"}, "all else builds without cgo"},
	{"github.com/apache/beam/", []string{"fnapi", "udfworker", "tools"}, "the Fn API is the boundary's language"},
	{"github.com/hashicorp/go-plugin", []string{"udfworker", "cmd"}, "only the supervisor is a plugin"},
	{"google.golang.org/grpc", []string{"fnapi", "udfworker", "server"}, "everything else calls Go"},
}

// goPackage is the part of go list's answer that matters here.
type goPackage struct {
	ImportPath string
	Imports    []string
}

// under reports whether path is folder or lies in it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// violations lists the imports that break a rule, as sentences.
func violations(packages []goPackage) []string {
	var found []string
	for _, p := range packages {
		folder := strings.TrimPrefix(p.ImportPath, module)
		r, ok := roomOf(folder)
		if !ok {
			found = append(found, fmt.Sprintf("%s is in no room: add it to the table of rooms, with what it may import and why", folder))
			continue
		}
		for _, path := range p.Imports {
			if why := r.refuses(folder, path); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", folder, strings.TrimPrefix(path, module), why))
			}
		}
	}
	return found
}

func roomOf(folder string) (room, bool) {
	var best room
	for _, r := range rooms {
		if under(folder, r.folder) && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	divided := slices.ContainsFunc(rooms, func(r room) bool { return strings.HasPrefix(r.folder, best.folder+"/") })
	return best, best.folder == folder || best.folder != "" && !divided
}

// refuses says why a package of the room may not import path, or "".
func (r room) refuses(folder, path string) string {
	if ours, ok := strings.CutPrefix(path, module); ok {
		for _, top := range tops {
			if under(ours, top) {
				return "nothing imports " + top
			}
		}
		target, _ := roomOf(ours)
		if target.folder == r.folder || slices.Contains(r.ours, target.folder) || slices.Contains(r.ours, "…") {
			return ""
		}
		return r.why
	}
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		return "" // the standard library, and "C"
	}
	for _, m := range reserved {
		if strings.HasPrefix(path, m.prefix) && !slices.ContainsFunc(m.rooms, func(f string) bool { return under(folder, f) }) {
			return m.why
		}
	}
	if r.theirs != nil && !slices.ContainsFunc(r.theirs, func(prefix string) bool { return strings.HasPrefix(path+"/", prefix) }) {
		return r.why
	}
	return ""
}

func TestImportRules(t *testing.T) {
	platforms := []struct{ goos, cgo string }{{"linux", "1"}, {"linux", "0"}, {"darwin", "0"}}
	for _, platform := range platforms {
		t.Run(platform.goos+" cgo "+platform.cgo, func(t *testing.T) {
			packages := listPackages(t, "GOOS="+platform.goos, "CGO_ENABLED="+platform.cgo)
			if len(packages) < len(rooms)/2 {
				t.Fatalf("only %d packages were found", len(packages))
			}
			for _, v := range violations(packages) {
				t.Error(v)
			}
		})
	}
}

func listPackages(t *testing.T, environment ...string) []goPackage {
	t.Helper()
	// -e: a package may have no files on a platform.
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	command.Dir = ".."
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// The rules find what they are for.
func TestImportRulesCatch(t *testing.T) {
	tests := []struct {
		folder, path string
		allowed      bool
	}{
		{"engine", module + "server", false},
		{"engine", module + "engine/duck", true},
		{"engine", module + "envmgr", true},
		{"diag", module + "engine/plan", false},
		{"diag", "golang.org/x/sys/unix", false},
		{"diag", "fmt", true},
		{"engine/plan", module + "diag", true},
		{"engine/plan", module + "engine/exec", false},
		{"engine/plan", "github.com/apache/arrow-go/v18/arrow", true},
		{"engine/plan", "google.golang.org/grpc", false},
		{"engine/exec", module + "engine/duck", false},
		{"engine/exec", module + "engine", false},
		{"engine/ops", "github.com/duckdb/duckdb-go-bindings", false},
		{"engine/duck", "github.com/duckdb/duckdb-go-bindings", true},
		{"engine/connector/file", module + "udfworker", false},
		{"engine/connector/file", module + "fnapi", false},
		{"engine/connector/file", module + "engine/exec", true},
		{"fnapi", module + "engine/duck", false},
		{"fnapi", module + "server", false},
		{"fnapi", module + "udfworker", true},
		{"udfworker", module + "fnapi", false},
		{"udfworker/sandbox", module + "diag", false},
		{"udfworker/sandbox", module + "udfworker", false},
		{"udfworker/sandbox", "golang.org/x/sys/unix", true},
		{"envmgr", module + "udfworker", false},
		{"server", module + "fnapi", false},
		{"server", "google.golang.org/grpc/codes", true},
		{"cmd/pyrunner", module + "server", true},
		{"go-tests", module + "cmd/pyrunner", false},
		{"server", module + "tools/gen", false},
		{"attic", "fmt", false},
		{"engine/attic", "fmt", false},
	}
	for _, test := range tests {
		found := violations([]goPackage{{ImportPath: module + test.folder, Imports: []string{test.path}}})
		if (len(found) == 0) != test.allowed {
			t.Errorf("%s imports %s: allowed is %v, violations %q", test.folder, test.path, test.allowed, found)
		}
	}
}

// importedByPython prints the outside modules that the Python files given as
// arguments import, one "file:line module" for each; imports for type checkers
// only do not count.
const importedByPython = `
import ast, sys
def outside(tree):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from outside(ast.Module([other], []))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.lineno, node.module
        else:
            yield from outside(node)
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        for line, name in outside(ast.parse(file.read())):
            if name.split(".")[0] not in sys.stdlib_module_names:
                print(f"{path}:{line} {name}")
`

// harnessMay are the outside modules that the worker's harness may import:
// whatever else it imported would have to be in every user's environment. It
// is loaded under the name alink_worker.
var harnessMay = []string{"pyarrow", "numpy", "grpc", "cloudpickle", "alink_worker"}

// harnessFileMay are files of the harness that may import one module more,
// because they are imported themselves only for functions that ask for it.
var harnessFileMay = map[string]string{"_frames.py": "pandas", "_polars.py": "polars"}

func TestImportRulesOfTheHarness(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "python", "alink", "_worker", "*.py"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the harness has no files: %v", err)
	}
	allowed := 0
	for _, line := range importsOf(t, files) {
		where, name, _ := strings.Cut(line, " ")
		file, _, _ := strings.Cut(filepath.Base(where), ":")
		if top, _, _ := strings.Cut(name, "."); !slices.Contains(harnessMay, top) && harnessFileMay[file] != top {
			t.Errorf("%s imports %s: the harness may import the standard library, %s", where, name, strings.Join(harnessMay, ", "))
		} else {
			allowed++
		}
	}
	if allowed == 0 {
		t.Error("no import of pyarrow was seen: the rule does not look where it should")
	}
}

func TestImportRulesOfTheHarnessCatch(t *testing.T) {
	program := `
import os, pandas.core as p
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import polars
else:
    import scipy
from . import _wire
def late():
    try:
        from google.protobuf import message
    except ImportError:
        from alink import udf
`
	path := filepath.Join(t.TempDir(), "program.py")
	if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range importsOf(t, []string{path}) {
		got = append(got, strings.TrimPrefix(line, path+":"))
	}
	want := []string{"2 pandas.core", "7 scipy", "11 google.protobuf", "13 alink"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// importsOf runs importedByPython on files.
func importsOf(t *testing.T, files []string) []string {
	t.Helper()
	python := os.Getenv("ALINK_TEST_PYTHON")
	if python == "" {
		python = "python3"
	}
	command := exec.CommandContext(t.Context(), python, append([]string{"-I", "-c", importedByPython}, files...)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s (ALINK_TEST_PYTHON names another Python, 3.10 or later): %v", python, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
