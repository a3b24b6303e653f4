package file

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// asNobody does work with files as a user who owns none. Only root can become
// somebody else; other users are somebody already, for whom closed files are
// closed too.
func asNobody(t *testing.T, work func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		work()
		return
	}
	const nobody = 65534
	// The user of files is the thread's own, and so is what it may override.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	work()
}

func TestWhatMayNotBeReadOrWritten(t *testing.T) {
	dir := t.TempDir()
	open := func(path string) string { // for everybody, the test's own folders too
		for at := path; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	closedFile := filepath.Join(open(dir), "closed.csv")
	closedDir := filepath.Join(dir, "closed")
	inside := filepath.Join(closedDir, "a.csv")
	if err := errors.Join(
		os.WriteFile(closedFile, []byte("a\n1\n"), 0o600), os.Mkdir(closedDir, 0o700),
		os.WriteFile(inside, []byte("a\n1\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0)
	if err := errors.Join(os.Chmod(closedFile, mode), os.Chmod(closedDir, mode)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closedDir, 0o700) })
	asNobody(t, func() {
		for name, c := range map[string]struct {
			err  error
			code diag.Code
			want string
		}{
			"a closed file":             {openError(t, closedFile), diag.FileUnreadable, "may not read it"},
			"a file in a closed folder": {openError(t, inside), diag.FileUnreadable, "may not read it"},
			"a closed folder":           {openError(t, closedDir), diag.FileUnreadable, "may not read it"},
			"an output":                 {write(t, filepath.Join(closedDir, "t.parquet"), plan.ErrorIfExists), diag.OutputUnwritable, "may not write there"},
			"a folder of outputs":       {writeTo(t, plan.WriteCSV{Output: plan.Output{Path: filepath.Join(closedDir, "out"), Folder: true, Mode: plan.ErrorIfExists}}, testSchema, true), diag.OutputUnwritable, "may not write there"},
		} {
			d := diag.From(c.err)
			if d == nil || d.Code != c.code || !strings.Contains(d.Hint, c.want) || !strings.Contains(d.Render(), "permission denied") {
				t.Errorf("%s: %v", name, d)
			}
		}
	})
}

func openError(t *testing.T, path string) error {
	t.Helper()
	_, err := Open(t.Context(), plan.ScanCSV{Files: plan.Files{Path: path}})
	return err
}
