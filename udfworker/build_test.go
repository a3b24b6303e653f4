package udfworker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// curious is a build that looks around, and puts what it has found into the
// wheel that it makes.
const curious = `
import os, sys, zipfile
def found():
    for path in (%[1]q, "/proc/1/environ", "/etc/shadow", "/dev/stdin", "/proc/%%d/fd/0" %% os.getppid()):
        try:
            yield "read %%s: %%r" %% (path, open(path, "rb", buffering=0).read(4096))
        except OSError as error:
            yield "not read: %%s" %% error
    try:
        open(%[1]q + ".new", "w").close()
        yield "written"
    except OSError as error:
        yield "not written"
    yield repr(dict(os.environ))
def build_wheel(directory, config_settings=None, metadata_directory=None):
    if %[2]q == "sleep":
        import time
        print("asleep", file=sys.stderr, flush=True)
        open(os.path.join(os.environ["HOME"], "asleep"), "w").close()
        time.sleep(600)
    with zipfile.ZipFile(os.path.join(directory, "curious-1.0-py3-none-any.whl"), "w") as z:
        z.writestr("curious.py", "found = %%r" %% "\n".join(found()))
        z.writestr("curious-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: curious\nVersion: 1.0\n")
        z.writestr("curious-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("curious-1.0.dist-info/RECORD", "")
    return "curious-1.0-py3-none-any.whl"
`

// curiousIndex serves the source distribution to whoever has the password.
func curiousIndex(t *testing.T, password, precious, mode string) string {
	t.Helper()
	var sdist bytes.Buffer
	zipped := gzip.NewWriter(&sdist)
	archive := tar.NewWriter(zipped)
	for name, text := range map[string]string{
		"PKG-INFO":       "Metadata-Version: 2.1\nName: curious\nVersion: 1.0\n",
		"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n[project]\nname = \"curious\"\nversion = \"1.0\"\n",
		"backend.py":     fmt.Sprintf(curious, precious, mode),
	} {
		if err := archive.WriteHeader(&tar.Header{Name: "curious-1.0/" + name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="packages"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".tar.gz") {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(sdist.Bytes()))
			return
		}
		fmt.Fprintf(w, "<a href=\"/curious-1.0.tar.gz#sha256=%x\">curious-1.0.tar.gz</a>\n", sha256.Sum256(sdist.Bytes()))
	}))
	t.Cleanup(server.Close)
	t.Setenv("NO_PROXY", "127.0.0.1")
	return server.URL + "/simple"
}

func buildStore(t *testing.T) *envmgr.Store {
	t.Helper()
	if probedSandbox().Level < sandbox.L1 {
		t.Skip("this machine has no sandbox")
	}
	uv, err := exec.LookPath(os.Getenv("ALINK_UV"))
	if err != nil {
		t.Skip("uv is not here: run make test, or set ALINK_UV")
	}
	store, err := envmgr.Open(envmgr.Options{CacheDir: t.TempDir(), UV: uv, SourceBuilds: true, Confine: RunConfined})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// What is built from source sees no credential, none of the user's files, and
// writes nowhere but in its own folders.
func TestSourceBuildsAreShutIn(t *testing.T) {
	const password = "s3cr3t-of-the-index"
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("the user's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := buildStore(t)
	var lines []string
	env, err := store.Resolve(t.Context(), envmgr.Spec{
		Requirements: []string{"curious"}, SourceBuilds: true,
		Indexes: []envmgr.Index{{URL: curiousIndex(t, password, precious, ""), Username: "me", Password: password}},
	}, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), env.Interpreter, "-I", "-c", "import curious; print(curious.found)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := string(out)
	for _, part := range []string{password, "the user's own", "root:", "\nwritten"} {
		if strings.Contains(found, part) {
			t.Errorf("the build found %q:\n%s", part, found)
		}
	}
	if !strings.Contains(found, "not read") || !strings.Contains(found, "not written") {
		t.Errorf("the build did not look:\n%s", found)
	}
	if !strings.Contains(strings.Join(lines, "\n"), "building curious==1.0") {
		t.Errorf("progress: %q", lines)
	}
}

// A build that is cancelled is ended with all that it has started.
func TestAShutInBuildIsCancelled(t *testing.T) {
	store := buildStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	index := curiousIndex(t, "", "/nowhere", "sleep")
	go func() {
		_, err := store.Resolve(ctx, envmgr.Spec{Requirements: []string{"curious"}, SourceBuilds: true, Indexes: []envmgr.Index{{URL: index}}}, nil)
		result <- err
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if asleep, _ := filepath.Glob(filepath.Join(store.CacheDir(), "envs", ".build-*", "home", "asleep")); len(asleep) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the build did not begin")
		}
	}
	cancel()
	select {
	case err := <-result:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the build goes on")
	}
	left, err := os.ReadDir(filepath.Join(store.CacheDir(), "envs"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
