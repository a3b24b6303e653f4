package main

import (
	"os"
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
