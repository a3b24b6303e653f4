package envmgr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alink-runtime/alink/diag"
)

// formatVersion is raised when the layout of an environment or the way it is
// built changes; environments of another version are then not used.
const formatVersion = 1

const (
	marker      = ".complete"
	buildPrefix = ".build-"
)

// importNames are the modules of the harness's packages whose name differs.
var importNames = map[string]string{"grpcio": "grpc"}

// build is the making of one environment, or the finding of it.
type build struct {
	store        *Store
	uv           installer
	python       interpreter
	requirements []requirement // with the harness's
	asked        []string      // as the user wrote them
	progress     func(string)

	chosenFile string // where the lock is remembered
	lockText   string
	key        string
}

// meta is what meta.json says of an environment.
type meta struct {
	Format       int         `json:"format"`
	Key          string      `json:"key"`
	Created      time.Time   `json:"created"`
	Interpreter  interpreter `json:"interpreter"`
	Installer    string      `json:"installer"`
	Requirements []string    `json:"requirements"`
}

// resolve chooses the versions, or finds the choice made earlier, and from
// them the environment's key.
func (b *build) resolve(ctx context.Context) error {
	// The path of the interpreter does not decide what fits it.
	python := b.python
	python.Executable = ""
	spec := hashJSON(struct {
		Format       int
		Requirements []string
		Interpreter  interpreter
		Installer    string
		Settings     map[string]string
	}{formatVersion, requirementTexts(b.requirements), python, b.uv.major(), resolutionSettings(os.Environ())})
	b.chosenFile = filepath.Join(b.store.locks, spec+".txt")

	text, err := os.ReadFile(b.chosenFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = b.chooseVersions(ctx, spec)
	}
	if err != nil {
		return err
	}
	b.lockText = string(text)
	b.key = hashJSON(struct {
		Format      int
		Lock        string
		Interpreter interpreter
		Installer   string
	}{formatVersion, b.lockText, python, b.uv.major()})
	return nil
}

// chooseVersions resolves the requirements and remembers the lock.
func (b *build) chooseVersions(ctx context.Context, spec string) ([]byte, error) {
	held, err := b.store.lock(ctx, spec, func() { b.progress("waiting for another job to resolve " + b.what()) })
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if text, err := os.ReadFile(b.chosenFile); err == nil {
		return text, nil // chosen while this one waited
	}
	b.progress("resolving " + b.what() + "…")
	text, err := b.uv.compile(ctx, b, held)
	if err != nil {
		return nil, err
	}
	if err := writeWhole(b.chosenFile, []byte(text)); err != nil {
		return nil, cacheError(b.store.options.CacheDir, err)
	}
	return []byte(text), nil
}

// make builds the environment unless it is there.
func (b *build) make(ctx context.Context) error {
	dir := filepath.Join(b.store.envs, b.key)
	if usable(dir) {
		return nil
	}
	held, err := b.store.lock(ctx, b.key, func() { b.progress("waiting for another job to install " + b.what()) })
	if err != nil {
		return err
	}
	defer held.Close()
	if usable(dir) {
		return nil // built while this one waited
	}
	temporary, err := os.MkdirTemp(b.store.envs, buildPrefix+b.key+"-")
	if err != nil {
		return cacheError(b.store.options.CacheDir, err)
	}
	if err := b.fill(ctx, temporary, held); err != nil {
		return b.abandon(ctx, temporary, err)
	}
	if err := publish(temporary, dir); err != nil {
		return b.abandon(ctx, temporary, b.failed("it could not be put in its place", err))
	}
	return nil
}

// abandon removes a build that failed. The choice of versions that led to it
// is forgotten, unless the build was only interrupted: a file may have gone
// from the index, and then the next attempt has to choose anew.
func (b *build) abandon(ctx context.Context, temporary string, err error) error {
	if ctx.Err() == nil {
		err = errors.Join(err, removeIfThere(b.chosenFile))
	}
	return errors.Join(err, os.RemoveAll(temporary))
}

// fill makes a whole environment in dir.
func (b *build) fill(ctx context.Context, dir string, held *os.File) error {
	b.progress(installing(b.lockText))
	lockFile := filepath.Join(dir, "lock.txt")
	if err := os.WriteFile(lockFile, []byte(b.lockText), 0o600); err != nil {
		return b.failed("its files could not be written", err)
	}
	if err := b.uv.install(ctx, b, dir, lockFile, held); err != nil {
		return err
	}
	if err := b.smoke(ctx, dir, held); err != nil {
		return err
	}
	text, err := json.MarshalIndent(meta{
		Format: formatVersion, Key: b.key, Created: time.Now().UTC().Truncate(time.Second),
		Interpreter: b.python, Installer: b.uv.version, Requirements: requirementTexts(b.requirements),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), append(text, '\n'), 0o600); err != nil {
		return b.failed("its files could not be written", err)
	}
	if err := syncTree(dir); err != nil {
		return b.failed("its files could not be written", err)
	}
	return nil
}

// smoke imports what the worker needs, in the new environment.
func (b *build) smoke(ctx context.Context, dir string, held *os.File) error {
	var modules []string
	for _, r := range b.store.harness {
		name, ok := importNames[r.name]
		if !ok {
			name = strings.ReplaceAll(r.name, "-", "_")
		}
		modules = append(modules, name)
	}
	program := "pass"
	if len(modules) > 0 {
		program = "import " + strings.Join(modules, ", ")
	}
	_, stderr, err := run(ctx, command{
		path: venvPython(dir), args: []string{"-I", "-c", program}, env: baseEnvironment(os.Environ()), held: held,
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d := diag.New(diag.BuildFailed, "the environment of %s was installed but the worker cannot run in it", b.what())
	d.Cause = cmp.Or(lastLine(stderr), err.Error())
	return d.WithHint("a worker needs %s: add a version of it that fits your other requirements, or change those",
		strings.Join(b.store.options.HarnessRequirements, " and "))
}

func (b *build) failed(how string, err error) error {
	return diag.New(diag.BuildFailed, "the environment of %s could not be built: %s", b.what(), how).WithCause(err).
		WithHint("look for free space and permissions in %s, or set ALINK_CACHE_DIR", b.store.options.CacheDir)
}

// what names the environment in a message: the user's own requirements.
func (b *build) what() string {
	const listed = 3
	if len(b.asked) == 0 {
		return "the worker's own packages"
	}
	names := make([]string, 0, listed)
	for _, text := range b.asked[:min(listed, len(b.asked))] {
		names = append(names, strings.TrimSpace(text))
	}
	if more := len(b.asked) - listed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
}

func installing(lockText string) string {
	n := countPackages(lockText)
	if n == 1 {
		return "installing 1 package…"
	}
	return fmt.Sprintf("installing %d packages…", n)
}

// countPackages counts the packages of a lock: lines that are neither
// continued hashes nor comments.
func countPackages(lockText string) int {
	n := 0
	for line := range strings.SplitSeq(lockText, "\n") {
		if line != "" && !strings.ContainsAny(line[:1], " \t#") {
			n++
		}
	}
	return n
}

// usable reports whether dir is a whole environment whose interpreter is
// still there, and notes that it is being used.
func usable(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
		return false
	}
	if _, err := os.Stat(venvPython(dir)); err != nil {
		return false // the interpreter it was made from has been removed
	}
	now := time.Now()
	// If the time cannot be set, as in a cache that is shared read-only, the
	// environment is usable all the same.
	_ = os.Chtimes(filepath.Join(dir, marker), now, now)
	return true
}

// publish moves a whole environment to its place. The marker comes last, and
// goes first where something unusable stands there: at no moment is there a
// marker in a directory that is not whole. The caller holds the key's lock.
func publish(temporary, dir string) error {
	if err := removeIfThere(filepath.Join(dir, marker)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	if err := syncFile(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, marker), nil, 0o600); err != nil {
		return err
	}
	return syncFile(dir)
}

// sweep removes what builds that died have left: temporaries, and directories
// that were moved but not marked. Whatever somebody is working on is locked
// and stays.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.envs)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(s.envs, entry.Name())
		key := entry.Name()
		if rest, ok := strings.CutPrefix(key, buildPrefix); ok {
			key, _, _ = strings.Cut(rest, "-")
		} else if _, err := os.Stat(filepath.Join(dir, marker)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := s.sweepOne(key, dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepOne(key, dir string) error {
	held, err := s.tryLock(key)
	if err != nil || held == nil {
		return err
	}
	defer held.Close()
	// It may have been marked before the lock was taken.
	if _, err := os.Stat(filepath.Join(dir, marker)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// writeWhole writes a file beside its place and renames it. The caller holds
// the lock of what the file is for.
func writeWhole(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	if err := syncFile(temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// syncFile makes a file's content or a folder's entries survive a loss of
// power.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
