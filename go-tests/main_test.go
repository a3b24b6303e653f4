package gotests_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/go-tests/fixture"
	"github.com/alink-runtime/alink/udfworker"
)

// TestMain makes this test program serve as the supervisor of workers too, as
// a Go program that embeds an engine may.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker-pool" {
		if err := udfworker.ServeSupervisor(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "stream-job" {
		if err := streamJob(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// fromEnv is a path that the environment names, or else one below the
// repository that `make build` has made.
func fromEnv(t *testing.T, variable, otherwise string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(root(t), otherwise)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build`, or set %s", err, variable)
	}
	return path
}

// testPython is the interpreter that stands for a client's.
func testPython(t *testing.T) string {
	t.Helper()
	return fromEnv(t, "ALINK_TEST_PYTHON", ".venv/bin/python")
}

// cacheDir is where environments are kept between runs.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("ALINK_CACHE_DIR"); dir != "" {
		return dir
	}
	return filepath.Join(root(t), ".cache", "alink")
}

// openEngine starts an engine in this process, closed at the test's end.
func openEngine(t *testing.T) *engine.Engine {
	t.Helper()
	return openEngineWith(t, func(*engine.Options) {})
}

// openEngineWith is openEngine with other options.
func openEngineWith(t *testing.T, change func(*engine.Options)) *engine.Engine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	options := engine.Options{
		RunDir: fixture.ShortDir(t), CacheDir: cacheDir(t), UV: fromEnv(t, "ALINK_UV", ".venv/bin/uv"),
		Parallelism: 2, WorkerPool: []string{self, "worker-pool"}, SpillDir: t.TempDir(),
	}
	change(&options)
	e, err := engine.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
