package envmgr

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
)

// The helper process of the tests that need a second one.
const (
	helperCache = "ENVMGR_TEST_HELPER_CACHE"
	helperUV    = "ENVMGR_TEST_HELPER_UV"
	helperDisk  = "ENVMGR_TEST_HELPER_DISK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperCache); dir != "" {
		os.Exit(resolveAsHelper(dir, os.Getenv(helperUV)))
	}
	os.Exit(m.Run())
}

// resolveAsHelper resolves the requirement "colour" and prints its ID.
func resolveAsHelper(cache, uv string) int {
	if size := os.Getenv(helperDisk); size != "" {
		return resolveOnSmallDisk(cache, uv, size)
	}
	store, err := Open(Options{CacheDir: cache, UV: uv})
	if err == nil {
		var env *Environment
		if env, err = store.Resolve(context.Background(), Spec{Requirements: []string{"colour"}}, nil); err == nil {
			fmt.Println(env.ID)
			return 0
		}
	}
	fmt.Println(err)
	return 1
}

// realUV finds uv as make test sets it up.
func realUV(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("ALINK_UV"), "uv", filepath.Join("..", ".venv", "bin", "uv")} {
		if path == "" {
			continue
		}
		if found, err := exec.LookPath(path); err == nil {
			if found, err = filepath.Abs(found); err == nil {
				return found
			}
		}
	}
	t.Skip("uv is not here: run make test, or set ALINK_UV")
	return ""
}

// index is a package index with small wheels on this machine, so that the
// tests need no network.
type index struct {
	dir string
	// user and password are demanded where user is set.
	user, password string
	// extra are further files of the wheels that are made.
	extra map[string][]byte
}

func newIndex(t *testing.T) *index {
	t.Helper()
	x := &index{dir: t.TempDir()}
	x.add(t, "colour", "1.0")
	x.add(t, "colour", "2.0")
	x.add(t, "paint", "1.0", "colour<2")
	x.add(t, "harness-lib", "1.0")
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	t.Setenv("UV_DEFAULT_INDEX", server.URL+"/simple")
	t.Setenv("NO_PROXY", "127.0.0.1")
	t.Setenv("no_proxy", "127.0.0.1")
	t.Setenv("UV_CACHE_DIR", filepath.Join(t.TempDir(), "uv"))
	return x
}

// ServeHTTP answers as PEP 503 says.
func (x *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != x.user || password != x.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="packages"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if file, ok := strings.CutPrefix(r.URL.Path, "/files/"); ok {
		http.ServeFile(w, r, filepath.Join(x.dir, filepath.Base(file)))
		return
	}
	module := strings.ReplaceAll(strings.Trim(strings.TrimPrefix(r.URL.Path, "/simple/"), "/"), "-", "_")
	wheels, err := filepath.Glob(filepath.Join(x.dir, module+"-*"))
	if err != nil || len(wheels) == 0 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	for _, wheel := range wheels {
		content, err := os.ReadFile(wheel)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "<a href=\"/files/%s#sha256=%x\">%[1]s</a>\n", filepath.Base(wheel), sha256.Sum256(content))
	}
}

// add makes a wheel with one module that knows its version.
func (x *index) add(t *testing.T, name, version string, requires ...string) {
	t.Helper()
	module := strings.ReplaceAll(name, "-", "_")
	info := fmt.Sprintf("%s-%s.dist-info/", module, version)
	metadata := fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)
	for _, r := range requires {
		metadata += "Requires-Dist: " + r + "\n"
	}
	files := []struct{ path, text string }{
		{module + ".py", fmt.Sprintf("version = %q\n", version)},
		{info + "METADATA", metadata},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
	}
	for path, content := range x.extra {
		files = append(files, struct{ path, text string }{path, string(content)})
	}
	var record strings.Builder
	for _, f := range files {
		sum := sha256.Sum256([]byte(f.text))
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f.path, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.text))
	}
	record.WriteString(info + "RECORD,,\n")
	files = append(files, struct{ path, text string }{info + "RECORD", record.String()})

	var content bytes.Buffer
	archive := zip.NewWriter(&content)
	for _, f := range files {
		w, err := archive.Create(f.path)
		must(t, err)
		_, err = w.Write([]byte(f.text))
		must(t, err)
	}
	must(t, archive.Close())
	must(t, os.WriteFile(filepath.Join(x.dir, fmt.Sprintf("%s-%s-py3-none-any.whl", module, version)), content.Bytes(), 0o600))
}

// watchedUV is a uv that notes the subcommands it is given in a file, and,
// where slow names one, writes its process id and sleeps after doing it.
type watchedUV struct{ path, log, pid string }

func newWatchedUV(t *testing.T, slow string) watchedUV {
	t.Helper()
	dir := t.TempDir()
	w := watchedUV{filepath.Join(dir, "uv"), filepath.Join(dir, "log"), filepath.Join(dir, "pid")}
	script := fmt.Sprintf(`#!/bin/sh
echo "$1 $2" >> %q
%q "$@" || exit $?
if [ "$1 $2" = %q ]; then
	sleep 600 &
	echo $! > %q.new && mv %q.new %q
	wait
fi
`, w.log, realUV(t), slow, w.pid, w.pid, w.pid)
	must(t, os.WriteFile(w.path, []byte(script), 0o700))
	return w
}

func (w watchedUV) count(t *testing.T, subcommand string) int {
	t.Helper()
	text, err := os.ReadFile(w.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasPrefix(line, subcommand) {
			n++
		}
	}
	return n
}

// sleeper waits until the slow step has been reached and returns the process
// that then sleeps.
func (w watchedUV) sleeper(t *testing.T) int {
	t.Helper()
	var pid int
	eventually(t, "the slow step", func() bool {
		text, err := os.ReadFile(w.pid)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(text), &pid)
		return err == nil
	})
	return pid
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, options Options) *Store {
	t.Helper()
	if options.CacheDir == "" {
		options.CacheDir = t.TempDir()
	}
	if options.UV == "" {
		options.UV = realUV(t)
	}
	s, err := Open(options)
	must(t, err)
	return s
}

func resolve(t *testing.T, s *Store, spec Spec) *Environment {
	t.Helper()
	env, err := s.Resolve(t.Context(), spec, nil)
	must(t, err)
	return env
}

// python runs a program in an environment and returns what it prints.
func python(t *testing.T, env *Environment, program string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), env.Interpreter, "-I", "-c", program).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantDiagnostic checks an error's code and that its rendering holds parts.
func wantDiagnostic(t *testing.T, err error, code diag.Code, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	d := diag.From(err)
	text := d.Render()
	if d.Code != code {
		t.Fatalf("got:\n%s\nwant the code %s", text, code)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got:\n%s\nwant in it: %s", text, part)
		}
	}
	t.Logf("\n%s", text)
}

// leftovers lists what is in envs but is not a whole environment.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.envs)
	must(t, err)
	var names []string
	for _, entry := range entries {
		if _, err := os.Stat(filepath.Join(s.envs, entry.Name(), marker)); err != nil {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestBuildAndReuse(t *testing.T) {
	newIndex(t)
	uv := newWatchedUV(t, "")
	s := open(t, Options{UV: uv.path, HarnessRequirements: []string{"harness-lib"}})
	var lines []string
	spec := Spec{Requirements: []string{" Colour >= 1 ; python_version >= '3' "}}
	first, err := s.Resolve(t.Context(), spec, func(line string) { lines = append(lines, line) })
	must(t, err)
	want := []string{"resolving Colour >= 1 ; python_version >= '3'…", "installing 2 packages…"}
	if !slices.Equal(lines, want) {
		t.Errorf("progress %q, want %q", lines, want)
	}
	if got := python(t, first, "import colour, harness_lib, sys; print(colour.version, sys.prefix)"); got != "2.0 "+filepath.Join(s.envs, first.ID, "venv") {
		t.Errorf("the environment says %q", got)
	}
	cached := python(t, first, "import importlib.util as u; print(u.cache_from_source(u.find_spec('colour').origin))")
	if _, err := os.Stat(cached); err != nil {
		t.Errorf("no byte code was compiled: %v", err)
	}
	dir := filepath.Join(s.envs, first.ID)
	for _, name := range []string{"lock.txt", "meta.json", marker} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, marker), old, old))

	// Another store of the same directory, as the next engine has it.
	again := resolve(t, open(t, Options{CacheDir: s.options.CacheDir, UV: uv.path, HarnessRequirements: []string{"harness-lib"}}), spec)
	if again.ID != first.ID || again.Interpreter != first.Interpreter || again.PythonVersion != first.PythonVersion {
		t.Errorf("got %+v, then %+v", first, again)
	}
	for _, subcommand := range []string{"pip compile", "venv", "pip sync"} {
		if n := uv.count(t, subcommand); n != 1 {
			t.Errorf("uv %s ran %d times, want once", subcommand, n)
		}
	}
	info, err := os.Stat(filepath.Join(dir, marker))
	must(t, err)
	if !info.ModTime().After(old.Add(time.Minute)) {
		t.Error("the time of the last use was not noted")
	}
}

func TestRememberedVersionsStay(t *testing.T) {
	x := newIndex(t)
	s := open(t, Options{})
	first := resolve(t, s, Spec{Requirements: []string{"colour"}})
	x.add(t, "colour", "3.0")
	if again := resolve(t, s, Spec{Requirements: []string{"colour"}}); again.ID != first.ID {
		t.Error("a specification that was resolved before was resolved anew")
	}
	fresh := resolve(t, open(t, Options{}), Spec{Requirements: []string{"colour"}})
	if got := python(t, fresh, "import colour; print(colour.version)"); got != "3.0" {
		t.Errorf("a new cache chose colour %s", got)
	}
}

func TestConflictingVersionsSideBySide(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	specs := []struct {
		requirements []string
		version      string
	}{
		{[]string{"colour==1.0"}, "1.0"},
		{[]string{"colour==2.0"}, "2.0"},
		{[]string{"paint"}, "1.0"},
	}
	ids := map[string]bool{}
	for _, spec := range specs {
		env := resolve(t, s, Spec{Requirements: spec.requirements})
		if got := python(t, env, "import colour; print(colour.version)"); got != spec.version {
			t.Errorf("%v: colour %s, want %s", spec.requirements, got, spec.version)
		}
		ids[env.ID] = true
	}
	if len(ids) != len(specs) {
		t.Errorf("%d environments for %d specifications", len(ids), len(specs))
	}
}

// A write to a file of an environment must not show in another one.
func TestFilesAreNotShared(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	one := resolve(t, s, Spec{Requirements: []string{"colour==1.0"}})
	two := resolve(t, s, Spec{Requirements: []string{"colour==1.0", "harness-lib"}})
	python(t, one, "import colour, os; os.chmod(colour.__file__, 0o600); open(colour.__file__, 'a').write('version = \"changed\"\\n')")
	if got := python(t, two, "import colour; print(colour.version)"); got != "1.0" {
		t.Errorf("a write in one environment reached another: %s", got)
	}
}

func TestHarnessRequirements(t *testing.T) {
	newIndex(t)
	s := open(t, Options{HarnessRequirements: []string{"colour", "harness-lib"}})
	tests := []struct {
		name         string
		requirements []string
		version      string
	}{
		{"none of the user's own", nil, "2.0"},
		{"the user pins one", []string{"Colour==1.0"}, "1.0"},
		{"other spellings are the same package", []string{"harness_lib==1.0", "HARNESS.LIB"}, "2.0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := resolve(t, s, Spec{Requirements: test.requirements})
			if got := python(t, env, "import colour, harness_lib; print(colour.version)"); got != test.version {
				t.Errorf("colour %s, want %s", got, test.version)
			}
		})
	}
	// A package that is named but not installed here is found by the import.
	_, err := s.Resolve(t.Context(), Spec{Requirements: []string{`harness-lib; python_version < "3"`}}, nil)
	wantDiagnostic(t, err, diag.BuildFailed, "No module named 'harness_lib'", "hint: a worker needs colour and harness-lib")
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestEmptyEnvironment(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	if got := python(t, resolve(t, s, Spec{}), "print(1)"); got != "1" {
		t.Errorf("got %q", got)
	}
}

func TestNotResolved(t *testing.T) {
	newIndex(t)
	tests := []struct {
		name         string
		requirements []string
		parts        []string
	}{
		{"conflict", []string{"paint", "colour==2.0"}, []string{"no set of versions satisfies paint, colour==2.0", "colour<2", "hint: loosen"}},
		{"no such package", []string{"no-such-package-here"}, []string{"no-such-package-here"}},
		{"no such version", []string{"colour==9.9"}, []string{"colour==9.9"}},
		{"syntax", []string{"colour=1.0"}, []string{"colour=1.0", `hint: write requirements as`}},
		{"option", []string{"--index-url https://example.invalid"}, []string{"requirement 1 of the environment cannot be used"}},
		{"option behind", []string{"colour --hash=sha256:00"}, []string{"options and paths"}},
		{"path", []string{"./colour.whl"}, []string{"begins with the name of a package"}},
		{"file", []string{"colour @ file:///colour.whl"}, []string{"only http and https"}},
		{"variable", []string{"colour", "colour @ https://${TOKEN}.invalid/c.whl"}, []string{"requirement 2", "variables"}},
		{"two lines", []string{"colour\npaint"}, []string{"one line"}},
	}
	uv := newWatchedUV(t, "")
	s := open(t, Options{UV: uv.path})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), Spec{Requirements: test.requirements}, nil)
			wantDiagnostic(t, err, diag.NotResolved, test.parts...)
		})
	}
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if n := uv.count(t, "venv"); n != 0 {
		t.Errorf("%d environments were begun", n)
	}
}

func TestIndexThatCannotBeReached(t *testing.T) {
	newIndex(t)
	t.Setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
	t.Setenv("UV_HTTP_RETRIES", "0")
	_, err := open(t, Options{}).Resolve(t.Context(), Spec{Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "http://127.0.0.1:1/simple/colour/", "hint: the package index could not be reached")

	_, err = open(t, Options{Offline: true}).Resolve(t.Context(), Spec{Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "hint: the engine is offline")
}

// Once built, an environment needs neither the index nor uv's cache.
func TestOfflineReuse(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	env := resolve(t, s, Spec{Requirements: []string{"colour"}})
	must(t, os.RemoveAll(os.Getenv("UV_CACHE_DIR")))
	offline := open(t, Options{CacheDir: s.options.CacheDir, Offline: true})
	if again := resolve(t, offline, Spec{Requirements: []string{"colour"}}); again.ID != env.ID {
		t.Error("offline there is another environment")
	}
}

func TestDirectoryWithoutMarkerIsRebuilt(t *testing.T) {
	newIndex(t)
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"no marker", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Remove(filepath.Join(dir, marker)))
			must(t, os.Remove(venvPython(dir)))
		}},
		{"its interpreter has gone", func(t *testing.T, dir string) {
			t.Helper()
			must(t, os.Remove(venvPython(dir)))
			must(t, os.Symlink(filepath.Join(dir, "gone"), venvPython(dir)))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			uv := newWatchedUV(t, "")
			s := open(t, Options{UV: uv.path})
			spec := Spec{Requirements: []string{"colour"}}
			env := resolve(t, s, spec)
			test.damage(t, filepath.Join(s.envs, env.ID))
			again := resolve(t, s, spec)
			if again.ID != env.ID {
				t.Errorf("the rebuilt environment is another one")
			}
			if got := python(t, again, "import colour; print(colour.version)"); got != "2.0" {
				t.Errorf("colour %s", got)
			}
			if compiled, built := uv.count(t, "pip compile"), uv.count(t, "pip sync"); compiled != 1 || built != 2 {
				t.Errorf("resolved %d times and built %d times, want 1 and 2", compiled, built)
			}
		})
	}
}

func TestConcurrentResolveBuildsOnce(t *testing.T) {
	newIndex(t)
	uv := newWatchedUV(t, "")
	cache := t.TempDir()
	s := open(t, Options{CacheDir: cache, UV: uv.path})
	const each = 3
	ids := make(chan string, 2*each)
	var wg sync.WaitGroup
	for range each {
		wg.Go(func() { // in this process
			env, err := s.Resolve(context.Background(), Spec{Requirements: []string{"colour"}}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			ids <- env.ID
		})
		wg.Go(func() { // in others
			helper := exec.Command(os.Args[0])
			helper.Env = append(os.Environ(), helperCache+"="+cache, helperUV+"="+uv.path)
			out, err := helper.CombinedOutput()
			if err != nil {
				t.Errorf("helper: %v\n%s", err, out)
				return
			}
			ids <- strings.TrimSpace(string(out))
		})
	}
	wg.Wait()
	close(ids)
	seen := map[string]int{}
	for id := range ids {
		seen[id]++
	}
	if len(seen) != 1 {
		t.Errorf("environments: %v, want one", seen)
	}
	for _, subcommand := range []string{"pip compile", "venv", "pip sync"} {
		if n := uv.count(t, subcommand); n != 1 {
			t.Errorf("uv %s ran %d times, want once", subcommand, n)
		}
	}
}

func TestCancelKillsAndRemoves(t *testing.T) {
	newIndex(t)
	for _, step := range []string{"pip compile", "venv --relocatable", "pip sync"} {
		t.Run(step, func(t *testing.T) {
			uv := newWatchedUV(t, step)
			s := open(t, Options{UV: uv.path})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() {
				_, err := s.Resolve(ctx, Spec{Requirements: []string{"colour"}}, nil)
				result <- err
			}()
			pid := uv.sleeper(t)
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want it to be Canceled", err)
			}
			eventually(t, "the end of uv's child", func() bool { return ended(pid) })
			if names := leftovers(t, s); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
			env := resolve(t, open(t, Options{CacheDir: s.options.CacheDir}), Spec{Requirements: []string{"colour"}})
			if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
				t.Errorf("colour %s", got)
			}
		})
	}
}

// ended reports whether a process is gone or only waits to be reaped.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// An engine that is killed while uv installs: uv ends with it or keeps the
// lock until it has ended; what it wrote is never used and swept later.
func TestKilledBuildIsNotUsed(t *testing.T) {
	newIndex(t)
	uv := newWatchedUV(t, "pip sync")
	cache := t.TempDir()
	helper := exec.CommandContext(t.Context(), os.Args[0])
	helper.Env = append(os.Environ(), helperCache+"="+cache, helperUV+"="+uv.path)
	must(t, helper.Start())
	pid := uv.sleeper(t)
	must(t, helper.Process.Kill())
	_ = helper.Wait() // killed

	// uv's child outlives both and still holds the lock: its files stay.
	s := open(t, Options{CacheDir: cache})
	names := leftovers(t, s)
	if len(names) != 1 || !strings.HasPrefix(names[0], buildPrefix) {
		t.Fatalf("the killed build left %v", names)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var lines []string
	if _, err := s.Resolve(ctx, Spec{Requirements: []string{"colour"}}, func(line string) { lines = append(lines, line) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v while the installer's child was alive, want to wait", err)
	}
	if want := []string{"waiting for another job to install colour"}; !slices.Equal(lines, want) {
		t.Errorf("progress %q, want %q", lines, want)
	}

	must(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "the end of uv's child", func() bool { return ended(pid) })
	s = open(t, Options{CacheDir: cache})
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("not swept: %v", names)
	}
	if got := python(t, resolve(t, s, Spec{Requirements: []string{"colour"}}), "import colour; print(colour.version)"); got != "2.0" {
		t.Errorf("colour %s", got)
	}
}

// Versions whose files have gone from the index are chosen anew.
func TestStaleChoiceIsForgotten(t *testing.T) {
	x := newIndex(t)
	s := open(t, Options{})
	spec := Spec{Requirements: []string{"colour"}}
	env := resolve(t, s, spec)
	must(t, os.RemoveAll(filepath.Join(s.envs, env.ID)))
	must(t, os.RemoveAll(os.Getenv("UV_CACHE_DIR")))
	must(t, os.Remove(filepath.Join(x.dir, "colour-2.0-py3-none-any.whl")))
	_, err := s.Resolve(t.Context(), spec, nil)
	wantDiagnostic(t, err, diag.BuildFailed, "the environment of colour could not be installed", "hint: run the job again")
	if got := python(t, resolve(t, s, spec), "import colour; print(colour.version)"); got != "1.0" {
		t.Errorf("colour %s, want the version that is left", got)
	}
}

func TestNoInstaller(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "uv")
	s := open(t, Options{UV: missing})
	_, err := s.Resolve(t.Context(), Spec{Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.NoInstaller, missing)

	other := filepath.Join(t.TempDir(), "uv")
	must(t, os.WriteFile(other, []byte("#!/bin/sh\necho something else\n"), 0o700))
	s = open(t, Options{UV: other})
	_, err = s.Resolve(t.Context(), Spec{Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.NoInstaller, "does not answer as uv does", "something else")
}

func TestUVBesideTheClient(t *testing.T) {
	t.Setenv("ALINK_UV", "")
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	s := &Store{}
	_, err := s.findUV(filepath.Join(dir, "python"))
	wantDiagnostic(t, err, diag.NoInstaller, "client's Python: "+filepath.Join(dir, "uv"))
	beside := filepath.Join(dir, "uv")
	must(t, os.WriteFile(beside, nil, 0o700))
	got, err := s.findUV(filepath.Join(dir, "python"))
	must(t, err)
	if got != beside {
		t.Errorf("found %s, want %s", got, beside)
	}
}

func TestCacheThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(Options{CacheDir: filepath.Join(file, "cache")})
	wantDiagnostic(t, err, diag.BuildFailed, "not a directory", "hint: set ALINK_CACHE_DIR")
}

// BenchmarkSecondResolve is what a job waits for whose environment is built: a
// store as a new engine opens it asks interpreter and uv what they are, and
// finds what was chosen and built.
func BenchmarkSecondResolve(b *testing.B) {
	uv := os.Getenv("ALINK_UV")
	if uv == "" {
		b.Skip("set ALINK_UV")
	}
	cache := b.TempDir()
	resolve := func() {
		s, err := Open(Options{CacheDir: cache, UV: uv})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Resolve(b.Context(), Spec{}, nil); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	resolve()
	for b.Loop() {
		resolve()
	}
}
