package envmgr

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/diag"
)

// formatVersion is raised when the layout of an environment or the way it is
// built changes; environments of another version are then not used.
const formatVersion = 2

const (
	marker      = ".complete"
	buildPrefix = ".build-"
	// scratchPrefix begins the names of scratch folders, where keys stand
	// otherwise.
	scratchPrefix = "scratch"
	// kindFiles is the kind of what holds files instead of packages.
	kindFiles    = "files"
	kindPackages = "packages"
)

// importNames are the modules of the harness's packages whose name differs.
var importNames = map[string]string{"grpcio": "grpc"}

// build is the making of one environment, or the finding of it.
type build struct {
	store        *Store
	uv           installer
	python       interpreter
	spec         Spec
	requirements []requirement // with the wheels and the harness's
	// locked are the packages of the user's lock file; requirements then has
	// only what is not in it.
	locked   []pinned
	secrets  secrets
	progress func(string)

	chosenFile string // where the lock is remembered
	lockText   string
	key        string
	// scratch is a folder for the time of the build, "" until it is needed.
	scratch     string
	scratchLock *os.File
}

// meta is what meta.json says of an environment. It has no credentials.
type meta struct {
	Format int    `json:"format"`
	Key    string `json:"key"`
	// Kind is "" or kindFiles.
	Kind         string      `json:"kind,omitempty"`
	Created      time.Time   `json:"created"`
	Interpreter  interpreter `json:"interpreter"`
	Installer    string      `json:"installer,omitempty"`
	Requirements []string    `json:"requirements,omitempty"`
	Lock         string      `json:"lock,omitempty"`
	Indexes      []string    `json:"indexes,omitempty"`
	SourceBuilds bool        `json:"source_builds,omitempty"`
	Files        []string    `json:"files,omitempty"`
}

func (s *Store) newBuild(ctx context.Context, spec Spec, progress func(string)) (*build, error) {
	b := &build{store: s, spec: spec, progress: progress}
	var err error
	if b.requirements, b.locked, err = s.requirements(spec); err != nil {
		return nil, err
	}
	if err := checkIndexes(spec.Indexes); err != nil {
		return nil, err
	}
	if spec.SourceBuilds && !s.options.SourceBuilds {
		return nil, diag.New(diag.EnvironmentDenied, "the environment of %s asks for source builds, which this engine does not allow", b.what()).
			WithHint("leave source_builds out, and choose versions that have wheels; the setting source_builds is the engine's to make")
	}
	if b.python, err = s.choose(ctx, spec); err != nil {
		return nil, err
	}
	if b.uv, err = s.installer(ctx, spec.BaseInterpreter); err != nil {
		return nil, err
	}
	b.arm(os.Environ())
	return b, nil
}

// arm sets up how uv is run: which indexes it is told of through the pipe, and
// under which variables it runs.
func (b *build) arm(environ []string) {
	b.secrets = secretsOf(b.spec.Indexes)
	b.uv.indexes = b.spec.Indexes
	if b.spec.SourceBuilds {
		// What uv builds runs below uv, and so with uv's variables: credentials
		// are none of them, nor is the way to the user's home.
		if len(b.uv.indexes) == 0 {
			b.uv.indexes = environIndexes(environ)
		}
		b.uv.indexes = withNetrc(b.uv.indexes)
		b.secrets = secretsOf(b.uv.indexes)
	}
	if len(b.uv.indexes) > 0 {
		b.uv.env = slices.DeleteFunc(slices.Clone(b.uv.env), func(variable string) bool {
			name, _, _ := strings.Cut(variable, "=")
			return indexVariable(name)
		})
	}
}

// resolve chooses the versions, or finds the choice made earlier, and from
// them the environment's key.
func (b *build) resolve(ctx context.Context) error {
	// The path of the interpreter does not decide what fits it.
	python := b.python
	python.Executable = ""
	settings := resolutionSettings(os.Environ())
	if len(b.spec.Indexes) > 0 {
		maps.DeleteFunc(settings, func(name, _ string) bool { return indexVariable(name) })
	}
	spec := hashJSON(struct {
		Format       int
		Requirements []string
		Locked       string
		Indexes      []string
		SourceBuilds bool
		Interpreter  interpreter
		Installer    string
		Settings     map[string]string
	}{
		formatVersion, requirementTexts(b.requirements), lockText(b.locked), indexURLs(b.spec.Indexes), b.spec.SourceBuilds,
		python, b.uv.major(), settings,
	})
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
		Format       int
		Lock         string
		SourceBuilds bool
		Interpreter  interpreter
		Installer    string
	}{formatVersion, b.lockText, b.spec.SourceBuilds, python, b.uv.major()})
	return nil
}

// chooseVersions resolves the requirements and remembers the lock.
func (b *build) chooseVersions(ctx context.Context, spec string) ([]byte, error) {
	held, err := b.store.lock(ctx, spec, func() { b.progress("waiting for another job to resolve " + b.what()) })
	if err != nil {
		return nil, b.store.lockError(ctx, err)
	}
	defer held.Close()
	if text, err := os.ReadFile(b.chosenFile); err == nil {
		return text, nil // chosen while this one waited
	}
	text := ""
	if len(b.requirements) > 0 {
		b.progress("resolving " + b.what() + "…")
		if text, err = b.compile(ctx, held); err != nil {
			return nil, err
		}
	}
	if len(b.locked) > 0 {
		text = lockedText(b.locked, text)
	}
	if err := writeWhole(b.chosenFile, []byte(text)); err != nil {
		return nil, cacheError(b.store.options.CacheDir, err)
	}
	return []byte(text), nil
}

// compile has uv choose the versions of all that is not locked.
func (b *build) compile(ctx context.Context, held *os.File) (string, error) {
	var constraints string
	if b.needsScratch() {
		if err := b.openScratch(ctx); err != nil {
			return "", err
		}
		if len(b.locked) > 0 {
			constraints = filepath.Join(b.scratch, "constraints.txt")
			if err := os.WriteFile(constraints, []byte(pins(b.locked)), 0o600); err != nil {
				return "", b.failed("its files could not be written", err)
			}
		}
	}
	text, err := b.uv.compile(ctx, b, constraints, held)
	return withoutFolder(text), err
}

// input are the requirements as uv reads them.
func (b *build) input() string {
	var text strings.Builder
	for _, r := range b.requirements {
		line := r.text
		if r.wheel != "" {
			line = r.name + " @ " + fileURL(filepath.Join(b.wheelsDir(), r.wheel))
		}
		text.WriteString(line + "\n")
	}
	return text.String()
}

// needsScratch reports whether uv needs more than its input.
func (b *build) needsScratch() bool {
	return len(b.spec.Wheels) > 0 || len(b.locked) > 0 || b.spec.SourceBuilds
}

// openScratch makes the scratch folder, with the local wheels in it. It is
// locked while this process lives, so that nobody sweeps it away.
func (b *build) openScratch(ctx context.Context) (err error) {
	if b.scratch != "" {
		return nil
	}
	name := scratchPrefix + strings.ToLower(rand.Text())
	if b.scratchLock, err = b.store.lock(ctx, name, func() {}); err != nil {
		return b.store.lockError(ctx, err)
	}
	b.scratch = filepath.Join(b.store.envs, buildPrefix+name+"-")
	for _, dir := range []string{b.scratch, filepath.Join(b.scratch, "home"), filepath.Join(b.scratch, "tmp")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return cacheError(b.store.options.CacheDir, err)
		}
	}
	if err := placeWheels(b.spec.Wheels, b.wheelsDir()); err != nil {
		return b.failed("its wheels could not be copied", err)
	}
	return nil
}

// close removes what was only needed for the time of the build.
func (b *build) close() error {
	if b.scratchLock == nil {
		return nil
	}
	return errors.Join(removeTree(b.scratch), os.Remove(b.scratchLock.Name()), b.scratchLock.Close())
}

func (b *build) wheelsDir() string { return filepath.Join(b.scratch, "wheels") }

// environment are the variables that uv runs under.
func (b *build) environment() []string {
	env := slices.Clone(b.uv.env)
	if len(b.spec.Wheels) > 0 {
		env = append(env, wheelsVariable+"="+(&url.URL{Path: b.wheelsDir()}).EscapedPath())
	}
	if b.spec.SourceBuilds {
		env = buildEnvironment(env, b.scratch)
	}
	return env
}

// make builds the environment unless it is there.
func (b *build) make(ctx context.Context) error {
	return b.store.construct(ctx, construction{
		key: b.key, usable: usable,
		waiting: func() { b.progress("waiting for another job to install " + b.what()) },
		fill:    b.fill,
		failed:  b.failed,
		// A file may have gone from the index: the next attempt has to choose
		// anew.
		abandoned: func() error { return removeIfThere(b.chosenFile) },
	})
}

// construction is how a directory of the cache is made.
type construction struct {
	key string
	// usable tells whether it is there; waiting is called if another process
	// is making it.
	usable  func(dir string) bool
	waiting func()
	// fill makes all of it in dir. held is to be handed to programs that it
	// starts.
	fill   func(ctx context.Context, dir string, held *os.File) error
	failed func(how string, err error) error
	// abandoned is called when it could not be made, other than because ctx
	// ended; nil is legal.
	abandoned func() error
}

// construct makes a directory of the cache unless it is there: in a temporary
// one beside it, under a lock, which is renamed and marked when it is whole.
func (s *Store) construct(ctx context.Context, c construction) error {
	dir := filepath.Join(s.envs, c.key)
	if c.usable(dir) {
		return nil
	}
	held, err := s.lock(ctx, c.key, c.waiting)
	if err != nil {
		return s.lockError(ctx, err)
	}
	defer held.Close()
	if c.usable(dir) {
		return nil // built while this one waited
	}
	temporary, err := os.MkdirTemp(s.envs, buildPrefix+c.key+"-")
	if err != nil {
		return cacheError(s.options.CacheDir, err)
	}
	if err = c.fill(ctx, temporary, held); err == nil {
		if err = syncTree(temporary); err == nil {
			err = publish(temporary, dir)
		}
		if err == nil {
			return nil
		}
		err = c.failed("it could not be put in its place", err)
	}
	if ctx.Err() == nil && c.abandoned != nil {
		err = errors.Join(err, c.abandoned())
	}
	return errors.Join(err, removeTree(temporary))
}

// lockError is what a lock that cannot be had means.
func (s *Store) lockError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return cacheError(s.options.CacheDir, err)
}

// fill makes a whole environment in dir.
func (b *build) fill(ctx context.Context, dir string, held *os.File) error {
	if b.needsScratch() {
		if err := b.openScratch(ctx); err != nil {
			return err
		}
	}
	b.progress(installing(b.lockText))
	lockFile := filepath.Join(dir, "lock.txt")
	if err := os.WriteFile(lockFile, []byte(b.lockText), 0o600); err != nil {
		return b.failed("its files could not be written", err)
	}
	if err := b.uv.install(ctx, b, dir, lockFile, held); err != nil {
		return err
	}
	if err := b.bytecode(ctx, dir, held); err != nil {
		return err
	}
	if err := b.smoke(ctx, dir, held); err != nil {
		return err
	}
	text, err := json.MarshalIndent(meta{
		Format: formatVersion, Key: b.key, Created: time.Now().UTC().Truncate(time.Second),
		Interpreter: b.python, Installer: b.uv.version, Requirements: b.shown(), Lock: b.spec.Lock.Name,
		Indexes: indexURLs(b.spec.Indexes), SourceBuilds: b.spec.SourceBuilds,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), append(text, '\n'), 0o600); err != nil {
		return b.failed("its files could not be written", err)
	}
	if err := seal(filepath.Join(dir, "venv")); err != nil {
		return b.failed("it could not be closed to writes", err)
	}
	return nil
}

// shown are the requirements as people read them.
func (b *build) shown() []string {
	var texts []string
	for _, r := range b.requirements {
		texts = append(texts, cmp.Or(r.wheel, r.text))
	}
	return texts
}

// importing runs a program in the new environment, shut in where this machine
// can: packages run code when an interpreter starts (.pth files), and this is
// the first time that they do.
func (b *build) importing(ctx context.Context, dir, program string, held *os.File) (messages string, err error) {
	argv := []string{venvPython(dir), "-I", "-c", program}
	err = errors.ErrUnsupported
	if b.store.options.Confine != nil {
		home := filepath.Join(dir, ".home")
		if err := os.Mkdir(home, 0o700); err != nil {
			return "", err
		}
		messages, err = b.store.options.Confine(ctx, Confined{
			Argv: argv, Env: append(baseEnvironment(os.Environ()), "HOME="+home, "TMPDIR="+home),
			Interpreters: []string{b.python.Executable}, Read: []string{dir}, Write: []string{home}, Line: func(string) {},
		})
		err = errors.Join(err, removeTree(home))
	}
	if errors.Is(err, errors.ErrUnsupported) {
		_, messages, err = run(ctx, command{path: argv[0], args: argv[1:], env: baseEnvironment(os.Environ()), held: held})
	}
	return messages, err
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
	stderr, err := b.importing(ctx, dir, program, held)
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
	return diskFailure(diag.New(diag.BuildFailed, "the environment of %s could not be built: %s", b.what(), how), b.store, err)
}

// diskFailure completes what is told of a file that could not be written.
func diskFailure(d *diag.Diagnostic, s *Store, err error) error {
	if noRoom(err) {
		return d.WithCause(err).WithHint("%s", fullHint(s.options.CacheDir))
	}
	return d.WithCause(err).WithHint("look at permissions in %s, or set ALINK_CACHE_DIR", s.options.CacheDir)
}

func noRoom(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

func fullHint(cacheDir string) string {
	return "the disk is full: make room (pyrunner env gc), or set ALINK_CACHE_DIR to a folder that has some instead of " + cacheDir
}

// what names the environment in a message: the user's own requirements.
func (b *build) what() string {
	const listed = 3
	var names []string
	for _, text := range b.spec.Requirements {
		names = append(names, strings.TrimSpace(text))
	}
	for _, w := range b.spec.Wheels {
		names = append(names, w.Name)
	}
	if b.spec.Lock.Name != "" {
		names = append(names, b.spec.Lock.Name)
	}
	if len(names) == 0 {
		return "the worker's own packages"
	}
	if more := len(names) - listed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:listed], ", "), more)
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
	if _, err := os.Stat(venvPython(dir)); err != nil {
		return false // the interpreter it was made from has been removed
	}
	return marked(dir)
}

// marked reports whether a directory is whole, and notes that it is being used.
func marked(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
		return false
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
	if err := removeTree(dir); err != nil {
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
	err = removeTree(dir)
	if strings.HasPrefix(key, scratchPrefix) { // nobody else waits for the lock of one
		err = errors.Join(err, removeIfThere(held.Name()))
	}
	return err
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
