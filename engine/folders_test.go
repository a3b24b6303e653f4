package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/connector/file"
	"github.com/alink-runtime/alink/engine/plan"
)

// TestFoldersHoldPlansBack: what a path leads to counts, for files that exist
// and for those that will.
func TestFoldersHoldPlansBack(t *testing.T) {
	base := t.TempDir()
	open, secret := filepath.Join(base, "open"), filepath.Join(base, "secret")
	for _, dir := range []string{open, secret, filepath.Join(open, "sub"), filepath.Join(base, "open-not")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"out": secret, "back": filepath.Join(open, "sub"), "file": filepath.Join(secret, "a.csv"), "dangling": filepath.Join(secret, "none"), "loop": filepath.Join(open, "loop"),
	} {
		if err := os.Symlink(target, filepath.Join(open, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(secret, "a.csv"), filepath.Join(open, "a.csv"), filepath.Join(open, "sub", "a.csv")} {
		if err := os.WriteFile(path, []byte("x\n1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	linked := filepath.Join(base, "linked") // the folder may itself be named by a link
	if err := os.Symlink(open, linked); err != nil {
		t.Fatal(err)
	}
	f, err := openFolders(Options{RestrictFiles: true, Folders: []string{linked}})
	if err != nil {
		t.Fatal(err)
	}
	for path, allowed := range map[string]bool{
		"open": true, "open/a.csv": true, "open/sub/new/deep.csv": true, "open/back/a.csv": true, "linked/a.csv": true, "open/..a": true,
		"secret/a.csv": false, "open/file": false, "open/out/a.csv": false, "open/out/new.csv": false, "open/dangling": false,
		"open/loop": false, "open-not/a.csv": false, "open/../secret/a.csv": false, "open/sub/../a.csv": false, "": false,
	} {
		err := f.check(base + "/" + path)
		if (err == nil) != allowed {
			t.Errorf("%s: %v", path, err)
		}
		if d := diag.From(err); d != nil && (d.Code != diag.FileNotAllowed || !strings.Contains(d.Message, path) || d.Hint == "" || !strings.Contains(strings.Join(d.Facts, " "), linked)) {
			t.Errorf("%s: %s", path, d.Render())
		}
	}
	if err := f.check("a.csv"); err == nil {
		t.Error("a relative path was allowed")
	}
	if none, err := openFolders(Options{RestrictFiles: true}); err != nil || none.check(open) == nil {
		t.Error("without folders a file was allowed")
	}
	if all, err := openFolders(Options{}); err != nil || all.check("/etc/passwd") != nil {
		t.Error("an engine without restrictions refused a file")
	}
	if _, err := openFolders(Options{Folders: []string{filepath.Join(open, "a.csv")}}); diag.From(err).Code != diag.BadOption {
		t.Errorf("a file as a folder: %v", err)
	}

	scan := func(path string) plan.Op { return plan.ScanCSV{Files: plan.Files{Paths: []string{path}}} }
	for _, c := range []struct {
		op      plan.Op
		allowed bool
	}{
		{scan(open + "/*.csv"), true},
		{scan(base + "/*/*.csv"), false},
		{scan(open + "/{a,../secret/a}.csv"), false},
		{scan(open + "/*/../../secret/*.csv"), false},
		{plan.WriteCSV{Output: plan.Output{Path: open + "/new.csv"}}, true},
		{plan.WriteJSON{Output: plan.Output{Path: secret + "/new.json"}}, false},
		{plan.WriteParquet{Output: plan.Output{Path: open + "/t/"}, Checkpoint: &plan.Checkpoint{Dir: secret}}, false},
	} {
		err := f.checkPlan(&plan.Plan{Nodes: []plan.Node{{ID: "n", Op: c.op}}})
		if (err == nil) != c.allowed {
			t.Errorf("%+v: %v", c.op, err)
		}
	}
	// What a pattern and a folder stand for is checked before it is read.
	for pattern, allowed := range map[string]bool{"/sub/*.csv": true, "/b*/*.csv": true, "/o*/*.csv": false, "/f*e": false} {
		_, err := file.OpenWithin(t.Context(), plan.ScanCSV{Files: plan.Files{Path: open + pattern}}, f.check)
		if allowed != (err == nil) || !allowed && diag.From(err).Code != diag.FileNotAllowed {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
