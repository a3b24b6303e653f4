package envmgr

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
)

// secret has a character that URLs write in another way.
const secret = "s3cr3t@word"

// privateIndex is an index that demands a login; uv's variables name another
// one, which has nothing.
func privateIndex(t *testing.T) (*index, Index) {
	t.Helper()
	x := newIndex(t)
	x.user, x.password = "reader", secret
	url := os.Getenv("UV_DEFAULT_INDEX")
	server := httptest.NewServer(&index{dir: t.TempDir()})
	t.Cleanup(server.Close)
	t.Setenv("UV_DEFAULT_INDEX", server.URL+"/simple")
	t.Setenv("HOME", t.TempDir())
	return x, Index{URL: url, Username: x.user, Password: secret}
}

// holdsNoSecret looks into every file of a folder.
func holdsNoSecret(t *testing.T, dir string) {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		n++
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("s3cr3t")) {
			t.Errorf("%s holds a password", path)
		}
		return err
	}))
	if n == 0 {
		t.Errorf("%s is empty", dir)
	}
}

// spyUV is a uv that writes down the command line and the variables that it is
// given, and what it finds open.
func spyUV(t *testing.T) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	path, log = filepath.Join(dir, "uv"), filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\n{ echo \"$@\"; env; } >> %q\nexec %q \"$@\"\n", log, realUV(t))
	must(t, os.WriteFile(path, []byte(script), 0o700))
	return path, log
}

func TestPrivateIndex(t *testing.T) {
	_, private := privateIndex(t)
	uv, log := spyUV(t)
	s := open(t, Options{UV: uv})
	t.Setenv("UV_CACHE_DIR", filepath.Join(s.options.CacheDir, "uv")) // searched below
	s.installers = map[string]installer{}
	var lines []string
	env, err := s.Resolve(t.Context(), Spec{Requirements: []string{"colour"}, Indexes: []Index{private}}, func(line string) { lines = append(lines, line) })
	must(t, err)
	if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
		t.Errorf("colour %s", got)
	}
	holdsNoSecret(t, s.options.CacheDir)
	holdsNoSecret(t, filepath.Dir(log))
	if strings.Contains(strings.Join(lines, ""), "s3cr3t") || strings.Contains(fmt.Sprintf("%+v %#v %s", Spec{Indexes: []Index{private}}, private, private), "s3cr3t") {
		t.Error("a password is told")
	}
	list, err := s.List()
	must(t, err)
	if len(list) != 1 || list[0].Indexes[0] != private.URL {
		t.Errorf("%+v", list)
	}
	// Who asks does not change what is there; which index is asked does.
	must(t, s.Close())
	if again := resolve(t, s, Spec{Requirements: []string{"colour"}, Indexes: []Index{{URL: private.URL}}}); again.ID != env.ID {
		t.Error("the credentials have a part in the environment's name")
	}
	_, err = s.Resolve(t.Context(), Spec{Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "colour was not found", "hint: look at the spelling of the name, or name the index that has it: index=")
}

// A netrc file of the machine that builds is read as uv reads it.
func TestIndexWithNetrc(t *testing.T) {
	x, private := privateIndex(t)
	s := open(t, Options{})
	must(t, os.WriteFile(filepath.Join(os.Getenv("HOME"), ".netrc"), []byte("machine 127.0.0.1\n login "+x.user+"\n password "+x.password+"\n"), 0o600))
	resolve(t, s, Spec{Requirements: []string{"colour"}, Indexes: []Index{{URL: private.URL}}})
	holdsNoSecret(t, s.options.CacheDir)
}

func TestIndexThatRefuses(t *testing.T) {
	_, private := privateIndex(t)
	s := open(t, Options{})
	wrong := private
	wrong.Password = "s3cr3t-and-wrong"
	tests := []struct {
		name  string
		index Index
		code  diag.Code
		parts []string
	}{
		{"bad credentials", wrong, diag.NotResolved, []string{"hint: " + private.URL, "does not let us in: give the right credentials"}},
		{"none", Index{URL: private.URL}, diag.NotResolved, []string{"does not let us in"}},
		{"credentials in the URL", Index{URL: "https://u:s3cr3t@example.invalid"}, diag.BadOption, []string{"package index 1 of the environment cannot be used: user name and password must be given apart"}},
		{"a folder", Index{URL: "/srv/wheels"}, diag.BadOption, []string{"only http and https"}},
		{"no host", Index{URL: "https:///simple"}, diag.BadOption, []string{"names no host"}},
		{"no URL", Index{URL: "https://s3cr3t:x y@h\x7f"}, diag.BadOption, []string{"it is not a URL"}},
		{"too long", Index{URL: "https://" + strings.Repeat("a", indexURLBytesMax)}, diag.BadOption, []string{"more than 2000 bytes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), Spec{Requirements: []string{"colour"}, Indexes: []Index{test.index}}, nil)
			wantDiagnostic(t, err, test.code, test.parts...)
			if strings.Contains(diag.From(err).Render(), "s3cr3t") {
				t.Error("the error repeats a password")
			}
		})
	}
	t.Setenv("UV_HTTP_RETRIES", "0")
	_, err := open(t, Options{}).Resolve(t.Context(), Spec{Requirements: []string{"colour"}, Indexes: []Index{{URL: "http://127.0.0.1:1/simple", Username: "u", Password: "s3cr3t"}}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "http://127.0.0.1:1/simple/colour/", "hint: the package index could not be reached")
	if strings.Contains(diag.From(err).Render(), "s3cr3t") {
		t.Error("the error repeats a password")
	}
}

// What uv's own variables say reaches uv and nothing else.
func TestCredentialsAreNotKept(t *testing.T) {
	_, private := privateIndex(t)
	t.Setenv("UV_DEFAULT_INDEX", private.withCredentials())
	s := open(t, Options{})
	t.Setenv("UV_CACHE_DIR", filepath.Join(s.options.CacheDir, "uv")) // searched below
	_, err := s.Resolve(t.Context(), Spec{Requirements: []string{"colour @ https://user:s3cr3t@example.invalid/c.whl"}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "carries a user name or password")
	if strings.Contains(diag.From(err).Render(), "s3cr3t") {
		t.Error("the error repeats a password")
	}
	env := resolve(t, s, Spec{Requirements: []string{"colour"}})
	if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
		t.Errorf("colour %s", got)
	}
	holdsNoSecret(t, s.options.CacheDir)
}

// nosy is a build backend that looks for credentials and puts what it has
// found into the wheel that it makes.
const nosy = `
import os, zipfile
def found():
    yield repr(dict(os.environ))
    pid = os.getpid()
    while pid > 1 and os.path.exists("/proc/%d" % pid):
        try:
            for name in ("environ", "cmdline"):
                yield open("/proc/%d/%s" % (pid, name)).read()
            fds = os.listdir("/proc/%d/fd" % pid)
        except PermissionError:
            break  # of another user
        for fd in fds:
            path = "/proc/%d/fd/%s" % (pid, fd)
            if os.readlink(path).startswith("pipe:") and fd not in ("0", "1", "2"):
                try:
                    yield repr(os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 65536))
                except OSError:
                    pass
        pid = int(open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[1])
    for folder in (os.path.expanduser("~"), os.environ.get("XDG_CONFIG_HOME") or "/nowhere"):
        for base, _, names in os.walk(folder):
            for name in names:
                yield open(os.path.join(base, name), errors="replace").read()
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "nosy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as z:
        z.writestr("nosy.py", "found = %r" % "\n".join(found()))
        z.writestr("nosy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nosy\nVersion: 1.0\n")
        z.writestr("nosy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("nosy-1.0.dist-info/RECORD", "nosy.py,,\nnosy-1.0.dist-info/METADATA,,\nnosy-1.0.dist-info/WHEEL,,\nnosy-1.0.dist-info/RECORD,,\n")
    return name
`

const nosyProject = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n[project]\nname = \"nosy\"\nversion = \"1.0\"\n"

// addSource puts a source distribution into the index.
func (x *index) addSource(t *testing.T, backend string) {
	t.Helper()
	content := gzipped(t, tarOf(
		t, member{name: "nosy-1.0/PKG-INFO", text: "Metadata-Version: 2.1\nName: nosy\nVersion: 1.0\n"},
		member{name: "nosy-1.0/pyproject.toml", text: nosyProject}, member{name: "nosy-1.0/backend.py", text: backend},
	))
	must(t, os.WriteFile(filepath.Join(x.dir, "nosy-1.0.tar.gz"), content, 0o600))
}

func TestSourceBuilds(t *testing.T) {
	x, private := privateIndex(t)
	x.addSource(t, nosy)
	spec := Spec{Requirements: []string{"nosy"}, Indexes: []Index{private}}

	_, err := open(t, Options{}).Resolve(t.Context(), spec, nil)
	wantDiagnostic(t, err, diag.NotResolved, "nosy", "hint: only wheels are installed", "source_builds=True")
	spec.SourceBuilds = true
	_, err = open(t, Options{}).Resolve(t.Context(), spec, nil)
	wantDiagnostic(t, err, diag.EnvironmentDenied, "the environment of nosy asks for source builds, which this engine does not allow")

	must(t, os.RemoveAll(os.Getenv("UV_CACHE_DIR")))
	s := open(t, Options{SourceBuilds: true})
	if found := python(t, resolve(t, s, spec), "import nosy; print(nosy.found)"); strings.Contains(found, "s3cr3t") || !strings.Contains(found, "UV_CACHE_DIR") {
		t.Errorf("the build found %s", found)
	}
	holdsNoSecret(t, s.options.CacheDir)
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if _, err := os.Stat(os.Getenv("UV_CACHE_DIR")); err == nil {
		t.Error("the build had uv's cache, which others read")
	}

	// The variables of uv are told in the same way, named indexes and all.
	t.Setenv("UV_INDEX", "mine="+private.URL)
	t.Setenv("UV_INDEX_MINE_USERNAME", private.Username)
	t.Setenv("UV_INDEX_MINE_PASSWORD", private.Password)
	// This process's own variables are what the build finds above uv.
	if found := python(t, resolve(t, open(t, Options{SourceBuilds: true}), Spec{Requirements: []string{"nosy"}, SourceBuilds: true}), "import nosy; print(nosy.found.split('\\n')[0])"); strings.Contains(found, "s3cr3t") {
		t.Errorf("the build found %s", found)
	}
}

func TestSourceBuildThatFails(t *testing.T) {
	x := newIndex(t)
	x.addSource(t, "def build_wheel(*args):\n    raise RuntimeError('no compiler here')\n")
	s := open(t, Options{SourceBuilds: true})
	_, err := s.Resolve(t.Context(), Spec{Requirements: []string{"nosy"}, SourceBuilds: true}, nil)
	wantDiagnostic(t, err, diag.BuildFailed, "no compiler here", "hint: it was built from source, which failed")
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestNetrcLogin(t *testing.T) {
	text := "machine other login a password b\n# not a comment\nmachine h\n\tlogin me\n\tpassword p account x\ndefault login d password e\n"
	for host, want := range map[string]string{"h": "me p", "other": "a b", "elsewhere": "d e"} {
		if login, password := netrcLogin(text, host); login+" "+password != want {
			t.Errorf("%s: %s %s", host, login, password)
		}
	}
	if login, password := netrcLogin("machine h login me", "x"); login+password != "" {
		t.Error(login, password)
	}
}

func TestParseIndex(t *testing.T) {
	variables := map[string]string{"T": "to:ken@", "WHOLE": "https://me:p%40ss@host/simple", "BAD": "nonsense s3cr3t", "EMPTY": ""}
	lookup := func(name string) (string, bool) { text, ok := variables[name]; return text, ok }
	for text, want := range map[string]Index{
		"https://host/simple":          {URL: "https://host/simple"},
		"http://host:80":               {URL: "http://host:80"},
		"https://me:${T}@host/s":       {URL: "https://host/s", Username: "me", Password: "to:ken@"},
		"https://${T}@host/s":          {URL: "https://host/s", Username: "to:ken@"},
		"https://m%40e:x${T}y@[::1]:8": {URL: "https://[::1]:8", Username: "m@e", Password: "xto:ken@y"},
		"${WHOLE}":                     {URL: "https://host/simple", Username: "me", Password: "p@ss"},
	} {
		if got, err := ParseIndex(text, lookup); err != nil || got != want {
			t.Errorf("%s: %s, %q, %q, %v", text, got.URL, got.Username, got.Password, err)
		}
	}
	for text, part := range map[string]string{
		"https://me:s3cr3t@host": "has a password that is written out", "https://s3cr3t@host": "written out",
		"https://me:${GONE}@host": "needs the variable GONE", "${EMPTY}": "needs the variable EMPTY",
		"${BAD}": "has no scheme", "": "has no scheme", "s3cr3t": "has no scheme", "ftp://host": "only http and https",
		"https://": "names no host", "https://:${T}@host": "a password without a user name",
	} {
		_, err := ParseIndex(text, lookup)
		if err == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		if d := diag.From(err).Render(); !strings.Contains(d, part) || strings.Contains(d, "s3cr3t") {
			t.Errorf("%s: %s", text, d)
		}
	}
}
