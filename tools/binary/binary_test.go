package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestGlibcMinor(t *testing.T) {
	for _, test := range []struct {
		versions []string
		want     int
		problem  string
	}{
		{[]string{"GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9", "GCC_4.2.0"}, 34, ""},
		{[]string{"GLIBC_2.17", "GLIBC_PRIVATE"}, 0, "needs GLIBC_PRIVATE"},
		{[]string{"GLIBC_3.1"}, 0, "needs GLIBC_3.1"},
		{[]string{"GCC_3.0"}, 0, "needs no glibc"},
	} {
		got, err := glibcMinor(test.versions)
		if got != test.want || (err == nil) != (test.problem == "") ||
			(err != nil && !strings.Contains(err.Error(), test.problem)) {
			t.Errorf("%v: got %d, %v; want %d, %q", test.versions, got, err, test.want, test.problem)
		}
	}
}

func TestAPartWithoutLicenceIsRefused(t *testing.T) {
	root := t.TempDir()
	inner := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"NOTICE.txt": "notice", "a/license_test.go": "package a"} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := part{name: "example.org/m", files: map[string][]byte{}}
	if err := p.collect(root, inner); err != nil {
		t.Fatal(err)
	}
	if err := unlicensed([]part{p}); err == nil || !strings.Contains(err.Error(), "example.org/m") {
		t.Errorf("a part with nothing but a notice: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(inner, "LICENSE-MIT"), []byte("MIT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.collect(root, inner); err != nil {
		t.Fatal(err)
	}
	if err := unlicensed([]part{p}); err != nil {
		t.Errorf("a part with a licence below its root: got %v", err)
	}
	if string(p.files["a/b/LICENSE-MIT"]) != "MIT" || string(p.files["NOTICE.txt"]) != "notice" {
		t.Errorf("got %v", p.files)
	}
}

func TestNoticeNamesEveryModule(t *testing.T) {
	parts := []part{
		{name: "golang.org/x/net"},
		{name: "github.com/some/module/v2"},
		{name: "github.com/some/other"},
		{name: "Go's standard library"},
	}
	err := unnamed(parts, "golang.org/x, https://github.com/some/module   Copyright")
	if err == nil || err.Error() != "NOTICE does not name: github.com/some/other" {
		t.Errorf("got %v", err)
	}
}

// TestCommit: of a checkout, a linked worktree too, and not of a folder within
// one: an archive may have been unpacked there.
func TestCommit(t *testing.T) {
	for _, name := range []string{"GIT_DIR", "GIT_WORK_TREE"} {
		t.Setenv(name, "") // for its restoration
		os.Unsetenv(name)
	}
	root := t.TempDir()
	t.Chdir(root)
	if got := commitHere(); got != "" {
		t.Errorf("a folder without a repository has the commit %q", got)
	}
	git := func(arguments ...string) string {
		printed, err := exec.Command("git", arguments...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", arguments, err, printed)
		}
		return strings.TrimSpace(string(printed))
	}
	git("init", "--quiet")
	git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--allow-empty", "--message", "first")
	want := git("rev-parse", "HEAD")
	if got := commitHere(); got != want {
		t.Errorf("a checkout has the commit %q, not %q", got, want)
	}
	linked := filepath.Join(t.TempDir(), "linked")
	git("worktree", "add", "--quiet", linked)
	t.Chdir(linked)
	if got := commitHere(); got != want {
		t.Errorf("a linked worktree has the commit %q, not %q", got, want)
	}
	if err := os.MkdirAll("inner", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("inner/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := commitHere(); got != want+"+changes" {
		t.Errorf("a changed worktree has the commit %q", got)
	}
	t.Chdir(filepath.Join(linked, "inner"))
	if got := commitHere(); got != "" {
		t.Errorf("a folder within a repository has the commit %q", got)
	}
}
