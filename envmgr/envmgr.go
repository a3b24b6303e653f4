// Package envmgr makes the dependency environments that Python functions run
// in. An environment is either an existing interpreter, used as it is, or is
// built by uv from requirements; a built one is named by the hash of all that
// decides its content and shared by every job that needs the same.
//
// In the cache directory:
//
//	envs/<key>/venv         the virtual environment, found by workers, read-only
//	envs/<key>/files        or else files and archives that go with one
//	envs/<key>/lock.txt     what is installed, with hashes
//	envs/<key>/meta.json    what it was made for
//	envs/<key>/uses         who asked for it
//	envs/<key>/.complete    the marker, written last; its time is the last use
//	envs/.build-<key>-*     being built, or abandoned
//	locks/<spec>.txt        the versions chosen for a specification
//	locks/*.lock            file locks, held while one of the above is written
//	locks/<key>.use.lock    shared by the stores that have resolved <key>
//
// A directory without its marker is never used. Credentials of a package index
// are told to uv through a pipe and are nowhere else; see Index. Programs that
// run here are uv, the interpreters that are asked what they are, and, only
// where both the environment and the engine allow it, the builds of source
// distributions. The package imports diag, and from outside x/sys, a reader of
// TOML and one of zstd.
package envmgr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/alink-runtime/alink/diag"
)

// Options says where environments are kept and what builds them.
type Options struct {
	// CacheDir holds the environments; "" means "alink" in the user's cache
	// directory.
	CacheDir string
	// UV is the path of uv; "" means ALINK_UV, then beside the client's
	// interpreter, then PATH.
	UV string
	// HarnessRequirements are what the worker itself needs ("pyarrow",
	// "grpcio"). Each is added to an environment whose requirements do not name
	// that package, and must be importable once the environment is built.
	HarnessRequirements []string
	// Offline makes uv use only what its cache holds.
	Offline bool
	// SourceBuilds lets an environment ask for packages to be built from
	// source, which runs their code. Without it there are wheels only.
	SourceBuilds bool
	// Confine runs a uv that builds from source, shut in. Where this machine
	// cannot do so its error wraps errors.ErrUnsupported, and the build runs
	// unconfined, as it does where Confine is nil; it has no credentials in
	// either case.
	Confine func(context.Context, Confined) (output string, err error)
}

// Confined is a program to run shut in.
type Confined struct {
	// Argv[0] is the absolute path of the program, Env its whole environment.
	Argv, Env []string
	// Stdin is what it finds on standard input, at most pipeBytesMax bytes.
	Stdin []byte
	// Interpreters are Pythons that it runs; Read are files and folders that it
	// needs besides, Write those that it changes. The first of Write is where it
	// starts.
	Interpreters, Read, Write []string
	// Network says that it fetches packages.
	Network bool
	// Line is told each line that it writes, as it comes.
	Line func(string)
}

// Validate reports the first option that cannot be used.
func (o Options) Validate() error {
	for _, text := range o.HarnessRequirements {
		if _, err := parseRequirement(text); err != nil {
			return diag.New(diag.BadOption, "HarnessRequirements: %q is not a requirement", text).WithCause(err)
		}
	}
	return nil
}

// Store holds the environments of one cache directory. Its methods may be
// called from several goroutines, and several processes may share a
// directory.
type Store struct {
	options Options
	harness []requirement
	envs    string
	locks   string

	mu sync.Mutex
	// probed remembers what interpreters said of themselves, by path. It holds
	// at most interpretersMax entries.
	probed map[string]interpreter
	// installers remembers uv's version, by path.
	installers map[string]installer
	// held are the locks of the environments in use, by key, until Close.
	held map[string]*os.File
}

// Spec says what an environment must offer. See plan.Environment.
type Spec struct {
	// Interpreter is an existing Python that is used as it is, or the folder of
	// a virtual environment, with Paths as further folders of packages. Of the
	// other fields only Python, which is then checked, Files, Archives and
	// Variables have a meaning.
	Interpreter string
	Paths       []string
	// Python is the wanted version ("3.11", "3.11.7"); "" means
	// BaseInterpreter's.
	Python string
	// BaseInterpreter is the client's interpreter, taken where its version
	// agrees with Python.
	BaseInterpreter string
	// Requirements are PEP 508 requirements; none is legal.
	Requirements []string
	// Lock says exactly what is installed; its zero value is none. It excludes
	// Requirements.
	Lock Lock
	// Wheels are installed with the rest.
	Wheels []File
	// Files and Archives are placed, and unpacked, in a read-only folder.
	Files    []File
	Archives []File
	// Variables are set in workers; they have no part in what is built.
	Variables map[string]string
	// Indexes are asked for packages in this order, and no others; none means
	// what uv's settings say.
	Indexes []Index
	// SourceBuilds lets packages without a wheel be built.
	SourceBuilds bool
	// AskedBy names the function or program that wants it, for people; it has
	// no part in what the environment is.
	AskedBy string
}

// Environment is an environment that workers can be started in.
type Environment struct {
	// ID is equal for equal environments and differs otherwise.
	ID string
	// Interpreter is the absolute path of the Python to start.
	Interpreter string
	// PythonVersion is its full version, "3.11.7".
	PythonVersion string
	// Paths are folders of packages that Interpreter does not find by itself.
	Paths []string
	// Entries are the names of what it consists of in the cache: its packages,
	// its files. An interpreter that is used as it is has none.
	Entries []string
	// Files is the folder of files and unpacked archives, or "".
	Files string
	// Variables are set in workers. They may hold secrets.
	Variables map[string]string
}

// Open prepares a cache directory and removes what builds that died left in
// it.
func Open(options Options) (*Store, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	if options.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, diag.New(diag.BadOption, "the user's cache directory is not known").WithCause(err).
				WithHint("set HOME, or ALINK_CACHE_DIR to a folder that can be written to")
		}
		options.CacheDir = filepath.Join(dir, "alink")
	}
	dir, err := filepath.Abs(options.CacheDir)
	if err != nil {
		return nil, cacheError(options.CacheDir, err)
	}
	options.CacheDir = dir
	s := &Store{
		options:    options,
		envs:       filepath.Join(dir, "envs"),
		locks:      filepath.Join(dir, "locks"),
		probed:     map[string]interpreter{},
		installers: map[string]installer{},
		held:       map[string]*os.File{},
	}
	for _, text := range options.HarnessRequirements {
		r, err := parseRequirement(text)
		if err != nil {
			return nil, err
		}
		s.harness = append(s.harness, r)
	}
	for _, d := range []string{s.envs, s.locks} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, cacheError(dir, err)
		}
	}
	if err := s.sweep(); err != nil {
		return nil, cacheError(dir, err)
	}
	return s, nil
}

// CacheDir is the directory in use, an absolute path.
func (s *Store) CacheDir() string { return s.options.CacheDir }

func cacheError(dir string, err error) error {
	if noRoom(err) {
		return diag.New(diag.BuildFailed, "the environment cache %s cannot be written to", dir).WithCause(err).WithHint("%s", fullHint(dir))
	}
	return diag.New(diag.BuildFailed, "the environment cache %s cannot be used", dir).WithCause(err).
		WithHint("set ALINK_CACHE_DIR to a folder that can be written to")
}

// Resolve returns the environment of spec, after building it where needed. A
// specification that was resolved before keeps the versions chosen then.
// Concurrent calls for one environment, in this process or in others, build
// it once. progress, which may be nil, is called from this goroutine with
// short lines while something is being waited for. When ctx ends, the
// installer is killed, nothing is left behind, and the error wraps ctx's.
func (s *Store) Resolve(ctx context.Context, spec Spec, progress func(string)) (*Environment, error) {
	if progress == nil {
		progress = func(string) {}
	}
	env, err := s.resolve(ctx, spec, progress)
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil && !errors.Is(err, ctxErr) {
		return nil, fmt.Errorf("resolving an environment: %w", ctxErr)
	}
	return env, err
}

func (s *Store) resolve(ctx context.Context, spec Spec, progress func(string)) (*Environment, error) {
	if err := checkVariables(spec.Variables); err != nil {
		return nil, err
	}
	files, err := s.fileSet(spec, progress)
	if err != nil {
		return nil, err
	}
	var env *Environment
	if spec.Interpreter != "" {
		env, err = s.existing(ctx, spec)
	} else {
		env, err = s.built(ctx, spec, progress)
	}
	if err != nil {
		return nil, err
	}
	env.Variables = spec.Variables
	if len(spec.Files) > 0 || len(spec.Archives) > 0 {
		if err := files.make(ctx); err != nil {
			return nil, err
		}
		s.noteUse(files.key, spec.AskedBy)
		env.ID = hashJSON([]string{env.ID, files.key})
		env.Entries = append(env.Entries, files.key)
		env.Files = filepath.Join(files.dir(), filesFolder)
	}
	return env, nil
}

// built is an environment of the cache.
func (s *Store) built(ctx context.Context, spec Spec, progress func(string)) (env *Environment, err error) {
	b, err := s.newBuild(ctx, spec, progress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.resolve(ctx); err != nil {
		return nil, err
	}
	// Before the environment is looked for: it must not be removed after that.
	if err := s.hold(ctx, b.key); err != nil {
		return nil, err
	}
	if err := b.make(ctx); err != nil {
		return nil, err
	}
	s.noteUse(b.key, spec.AskedBy)
	return &Environment{ID: b.key, Entries: []string{b.key}, Interpreter: venvPython(filepath.Join(s.envs, b.key)), PythonVersion: b.python.Version}, nil
}

// existing is an interpreter that is used as it is. Its path is kept, not what
// a symbolic link resolves to: that is how a virtual environment differs from
// the interpreter it was made from.
func (s *Store) existing(ctx context.Context, spec Spec) (*Environment, error) {
	if len(spec.Requirements) > 0 || len(spec.Wheels) > 0 || spec.Lock.Name != "" || len(spec.Indexes) > 0 || spec.SourceBuilds {
		return nil, diag.New(diag.BadOption, "the environment at %s is used as it is: nothing can be installed into it", spec.Interpreter).
			WithHint("leave out path= to have an environment built, or install the packages into that one yourself")
	}
	path := spec.Interpreter
	if isDir(path) {
		path = filepath.Join(path, "bin", "python")
		if _, err := os.Stat(path); err != nil {
			return nil, diag.New(diag.NoInterpreter, "the folder %s is not an environment of Python: it has no bin/python", spec.Interpreter).
				WithHint("give the folder that python -m venv or uv venv made, or the path of a Python")
		}
	}
	python, err := s.probe(ctx, path)
	if err != nil {
		return nil, diag.New(diag.NoInterpreter, "there is no usable Python at %s", spec.Interpreter).WithCause(err).
			WithHint("give the absolute path of a Python of version %s or later", oldestPython)
	}
	if !python.recent() {
		return nil, diag.New(diag.NoInterpreter, "the Python at %s has version %s, which is too old", spec.Interpreter, python.Version).
			WithHint("workers need Python %s or later", oldestPython)
	}
	if spec.Python != "" && compareVersions(python.Version, spec.Python) != 0 {
		return nil, diag.New(diag.NoInterpreter, "the Python at %s has version %s, not %s", spec.Interpreter, python.Version, spec.Python).
			WithHint("give python=%q, or leave it out", python.Version)
	}
	id := hashJSON(struct {
		Format      int
		Interpreter interpreter
		Paths       []string
	}{formatVersion, python, spec.Paths})
	return &Environment{ID: id, Interpreter: python.Executable, PythonVersion: python.Version, Paths: spec.Paths}, nil
}

func venvPython(dir string) string { return filepath.Join(dir, "venv", "bin", "python") }
