package envmgr

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseRequirement(t *testing.T) {
	tests := []struct{ text, name string }{
		{"numpy", "numpy"},
		{"Zope.Interface_x>=1,<2", "zope-interface-x"},
		{"pandas[parquet, excel] ~= 2.2 ; python_version < '3.12'", "pandas"},
		{"x@https://example.invalid/x-1-py3-none-any.whl", "x"},
		{"x (>=1)", "x"},
		{"", ""},
		{"-e .", ""},
		{"/wheels/x.whl", ""},
		{"wheels/x.whl", ""},
		{"x # comment", ""},
		{"x @ git+https://example.invalid/x", ""},
		{"x @ https://user@example.invalid/x.whl", ""},
	}
	for _, test := range tests {
		r, err := parseRequirement(test.text)
		if (err != nil) != (test.name == "") || r.name != test.name {
			t.Errorf("%q: name %q, error %v; want %q", test.text, r.name, err, test.name)
		}
	}
}

func TestTellingLines(t *testing.T) {
	long := "Because " + strings.Repeat("package==1.0 depends on other==2.0 and ", 40) + "you require both, the requirements are unsatisfiable."
	tests := []struct{ name, text, want string }{
		{"uv of today", "warning: slow\nerror: No solution found\n  cause: Because a was not found.\n\nhint: try b\n", "No solution found\nBecause a was not found."},
		{"uv of old", "  × No solution found:\n  ╰─▶ Because a was not found.\n", "No solution found:\nBecause a was not found."},
		{"a caret", "error: bad\n   x=1\n    ^\n", "bad\nx=1"},
		{"nothing", "\n", ""},
	}
	for _, test := range tests {
		if got := tellingLines(test.text); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	lines := strings.Split(tellingLines(long), "\n")
	if len(lines) != tellingLinesMax || !strings.HasPrefix(lines[0], "Because package") || !strings.HasSuffix(lines[3], "are unsatisfiable.") {
		t.Errorf("a long explanation became %q", lines)
	}
	for _, line := range lines {
		if len(line) > tellingWidth+len(" …") {
			t.Errorf("%d characters in %q", len(line), line)
		}
	}
}

func TestInstallerEnvironment(t *testing.T) {
	s := &Store{options: Options{CacheDir: "/cache"}}
	got := s.installerEnvironment([]string{
		"HOME=/h", "PATH=/bin", "https_proxy=http://p", "SSL_CERT_FILE=/c", "UV_INDEX_URL=https://i",
		"UV_PYTHON=3.6", "UV_CONSTRAINT=/x", "VIRTUAL_ENV=/v", "PYTHONPATH=/p", "AWS_SECRET_ACCESS_KEY=s", "ALINK_TOKEN=t",
	})
	want := []string{
		"HOME=/h", "PATH=/bin", "https_proxy=http://p", "SSL_CERT_FILE=/c", "UV_INDEX_URL=https://i",
		"UV_CACHE_DIR=" + filepath.Join("/cache", "uv"), "UV_LINK_MODE=copy", "UV_PYTHON_DOWNLOADS=never", "UV_NO_PROGRESS=1", "NO_COLOR=1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = s.installerEnvironment([]string{"UV_CACHE_DIR=/u", "UV_LINK_MODE=hardlink"})
	want = []string{"UV_CACHE_DIR=/u", "UV_LINK_MODE=hardlink", "UV_PYTHON_DOWNLOADS=never", "UV_NO_PROGRESS=1", "NO_COLOR=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWithoutCredentials(t *testing.T) {
	tests := []struct{ value, want string }{
		{"https://u:p@h/simple", "https://h/simple"},
		{"own=https://u@h/simple  https://i/simple", "own=https://h/simple https://i/simple"},
		{"/wheels", "/wheels"},
		{"https://u:p@h:port/", ""},
	}
	for _, test := range tests {
		if got := withoutCredentials(test.value); got != test.want {
			t.Errorf("%q: got %q, want %q", test.value, got, test.want)
		}
	}
}

func TestMajor(t *testing.T) {
	for version, want := range map[string]string{"0.13.9": "uv 0.13", "1.4.0": "uv 1", "0.0.7": "uv 0.0.7"} {
		if got := (installer{version: version}).major(); got != want {
			t.Errorf("%s: got %q, want %q", version, got, want)
		}
	}
}
