package envmgr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alink-runtime/alink/diag"
)

const (
	// oldestPython is the oldest version that the worker runs on.
	oldestPython = "3.10"
	// interpretersMax bounds the interpreters that are asked for their version.
	interpretersMax = 64
	// probeTimeout bounds the wait for one interpreter's answer.
	probeTimeout = 20 * time.Second
)

// interpreter is what a Python says of itself.
type interpreter struct {
	Executable     string `json:"executable"`
	Implementation string `json:"implementation"`
	Version        string `json:"version"`
	ABI            string `json:"abi"`
	Platform       string `json:"platform"`
}

// probeProgram prints an interpreter as JSON. It imports as little as it can:
// it stands in the way of every job's first batch.
const probeProgram = `
import sys, os, _imp
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, ValueError, OSError):
    libc = ""
version = "%d.%d.%d" % sys.version_info[:3]
if sys.version_info[3] != "final":
    version += "%s%d" % sys.version_info[3:]
fields = {
    "executable": sys.executable,
    "implementation": sys.implementation.name,
    "version": version,
    "abi": (_imp.extension_suffixes() or [""])[0],
    "platform": " ".join([sys.platform, os.uname().machine, libc]).strip(),
}
quote = lambda s: '"%s"' % s.replace("\\", "\\\\").replace('"', '\\"')
print("{%s}" % ",".join("%s:%s" % (quote(k), quote(v)) for k, v in fields.items()))
`

// recent reports whether workers can run on p.
func (p interpreter) recent() bool {
	return compareVersions(p.Version, oldestPython) >= 0
}

// compareVersions compares by the numbers that both have: 3.11.7 equals 3.11.
func compareVersions(a, b string) int {
	as, bs := numbers(a), numbers(b)
	n := min(len(as), len(bs))
	return slices.Compare(as[:n], bs[:n])
}

var digits = regexp.MustCompile(`^\d{1,6}`)

// numbers are the leading numbers of a version: 3, 13, 0 of "3.13.0rc1".
func numbers(version string) []int {
	var ns []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(digits.FindString(part))
		if err != nil {
			break
		}
		ns = append(ns, n)
	}
	return ns
}

// probe asks the Python at path what it is. The executable in the answer is
// the true one where path is a shim of pyenv, and stays inside its virtual
// environment where path is in one.
func (s *Store) probe(ctx context.Context, path string) (interpreter, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return interpreter{}, err
	}
	s.mu.Lock()
	p, ok := s.probed[path]
	s.mu.Unlock()
	if ok {
		if _, err := os.Stat(p.Executable); err == nil {
			return p, nil
		}
	}
	if info, err := os.Stat(path); err != nil {
		return interpreter{}, err
	} else if info.IsDir() {
		return interpreter{}, errors.New("it is a folder")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("no answer within %s", probeTimeout))
	defer cancel()
	stdout, stderr, err := run(ctx, command{
		path: path,
		args: []string{"-I", "-S", "-c", probeProgram},
		env:  baseEnvironment(os.Environ()),
	})
	if err != nil {
		return interpreter{}, fmt.Errorf("it could not be run: %w\n%s", err, lastLine(stderr))
	}
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || p.Executable == "" || p.Version == "" {
		return interpreter{}, errors.New("it does not answer as a Python does")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.probed) >= interpretersMax {
		clear(s.probed)
	}
	s.probed[path] = p
	return p, nil
}

var versionPattern = regexp.MustCompile(`^\d+(\.\d+){0,2}$`)

// choose finds the interpreter an environment is built on.
func (s *Store) choose(ctx context.Context, spec Spec) (interpreter, error) {
	if spec.Python != "" && !versionPattern.MatchString(spec.Python) {
		return interpreter{}, diag.New(diag.BadOption, "python=%q is not a version", spec.Python).
			WithHint(`give one as "3.11" or "3.11.7"`)
	}
	if spec.Python != "" && compareVersions(spec.Python, oldestPython) < 0 {
		return interpreter{}, diag.New(diag.BadOption, "python=%q is too old", spec.Python).
			WithHint("workers need Python %s or later", oldestPython)
	}
	fits := func(p interpreter) bool {
		return p.recent() && compareVersions(p.Version, spec.Python) == 0
	}
	var found []string
	if spec.BaseInterpreter != "" {
		p, err := s.probe(ctx, spec.BaseInterpreter)
		if err != nil {
			return interpreter{}, diag.New(diag.NoInterpreter, "the client's Python at %s cannot be used", spec.BaseInterpreter).WithCause(err)
		}
		if fits(p) {
			return p, nil
		}
		found = append(found, p.Version+" at "+p.Executable)
	}
	for _, path := range interpreterPaths(spec.Python) {
		p, err := s.probe(ctx, path)
		if ctx.Err() != nil {
			return interpreter{}, ctx.Err()
		}
		if err != nil {
			continue // a shim without a version, a broken link: others may do
		}
		if fits(p) {
			return p, nil
		}
		if line := p.Version + " at " + p.Executable; !slices.Contains(found, line) {
			found = append(found, line)
		}
	}
	return interpreter{}, noInterpreter(spec.Python, found)
}

func noInterpreter(wanted string, found []string) error {
	const listed = 8
	wanted = strings.TrimSpace("Python " + wanted)
	d := diag.New(diag.NoInterpreter, "%s is not on this machine", wanted)
	if wanted == "Python" {
		d.Message = fmt.Sprintf("no Python of version %s or later is on this machine", oldestPython)
	}
	for _, line := range found[:min(listed, len(found))] {
		d = d.WithFact("found: %s", line)
	}
	if len(found) > listed {
		d = d.WithFact("and %d more", len(found)-listed)
	}
	if len(found) == 0 {
		return d.WithHint("install %s, for example with: uv python install", wanted)
	}
	return d.WithHint("install %s, or ask for one that is here (%s or later)", wanted, oldestPython)
}

// interpreterPaths lists the Pythons of this machine: on PATH, then where
// pyenv and uv put them, then in the usual folders; those whose path names the
// wanted version come first. The shims of pyenv are passed over: they are
// scripts that run a version of their own choice or none, and the versions
// behind them are listed themselves.
func interpreterPaths(wanted string) []string {
	names := []string{"python3", "python"}
	if ns := numbers(wanted); len(ns) >= 2 {
		names = append([]string{fmt.Sprintf("python%d.%d", ns[0], ns[1])}, names...)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = string(filepath.Separator) // nothing is installed for a user who has no home
	}
	pyenv := cmp.Or(os.Getenv("PYENV_ROOT"), filepath.Join(home, ".pyenv"))
	data := cmp.Or(os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local", "share"))
	managed := cmp.Or(os.Getenv("UV_PYTHON_INSTALL_DIR"), filepath.Join(data, "uv", "python"))

	dirs := filepath.SplitList(os.Getenv("PATH"))
	dirs = append(dirs, versionDirs(filepath.Join(pyenv, "versions"))...)
	dirs = append(dirs, versionDirs(managed)...)
	dirs = append(dirs, "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")

	var paths []string
	seen := map[string]bool{}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) || dir == filepath.Join(pyenv, "shims") {
			continue
		}
		for _, name := range names {
			path := filepath.Join(dir, name)
			target, err := filepath.EvalSymlinks(path)
			if err != nil || seen[target] || len(paths) == interpretersMax {
				continue
			}
			seen[target] = true
			paths = append(paths, path)
		}
	}
	if wanted == "" {
		return paths
	}
	named := func(path string) bool { return strings.Contains(path, wanted) }
	first := slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return !named(path) })
	return append(first, slices.DeleteFunc(paths, named)...)
}

// versionDirs lists the bin folders of installations side by side, the latest
// version first.
func versionDirs(parent string) []string {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil // not there: that tool is not used here
	}
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int {
		return slices.Compare(installedVersion(b.Name()), installedVersion(a.Name()))
	})
	var dirs []string
	for _, entry := range entries {
		dirs = append(dirs, filepath.Join(parent, entry.Name(), "bin"))
	}
	return dirs
}

// installedVersion reads pyenv's "3.12.1" and uv's "cpython-3.12.1-linux-…".
func installedVersion(name string) []int {
	return numbers(strings.TrimPrefix(name, "cpython-"))
}
