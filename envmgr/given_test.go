package envmgr

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/klauspost/compress/zstd"
)

// given is a file as a client sends it: its content under another name.
func given(t *testing.T, name string, content []byte) File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "artifact")
	must(t, os.WriteFile(path, content, 0o600))
	return File{Name: name, SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), Path: path}
}

// wheel makes a local wheel, which is in no index.
func wheel(t *testing.T, name, version string, requires ...string) File {
	t.Helper()
	x := &index{dir: t.TempDir()}
	x.add(t, name, version, requires...)
	file := fmt.Sprintf("%s-%s-py3-none-any.whl", name, version)
	content, err := os.ReadFile(filepath.Join(x.dir, file))
	must(t, err)
	return given(t, file, content)
}

func TestLocalWheels(t *testing.T) {
	newIndex(t)
	s := open(t, Options{CacheDir: filepath.Join(t.TempDir(), "with a space"), HarnessRequirements: []string{"harness-lib"}})
	spec := Spec{Requirements: []string{"colour"}, Wheels: []File{wheel(t, "mine", "1.0+local", "colour<2")}}
	env := resolve(t, s, spec)
	if got := python(t, env, "import mine, colour, harness_lib; print(mine.version, colour.version)"); got != "1.0+local 1.0" {
		t.Errorf("the environment says %q", got)
	}
	list, err := s.List()
	must(t, err)
	if !slices.Contains(list[0].Requirements, "mine-1.0+local-py3-none-any.whl") {
		t.Errorf("listed as %q", list[0].Requirements)
	}
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	// The same content in another place is the same environment; other content
	// under the same name is another.
	spec.Wheels = []File{wheel(t, "mine", "1.0+local", "colour<2")}
	if again := resolve(t, s, spec); again.ID != env.ID {
		t.Error("the folder of the wheel has a part in the environment's name")
	}
	spec.Wheels = []File{wheel(t, "mine", "1.0+local", "colour<=2")}
	other := resolve(t, s, spec)
	if got := python(t, other, "import colour; print(colour.version)"); other.ID == env.ID || got != "2.0" {
		t.Errorf("another wheel gave environment %s of colour %s", other.ID, got)
	}
	// A wheel stands for what the worker needs.
	env = resolve(t, s, Spec{Wheels: []File{wheel(t, "harness_lib", "7.0")}})
	if got := python(t, env, "import harness_lib; print(harness_lib.version)"); got != "7.0" {
		t.Errorf("harness-lib %s", got)
	}
}

func TestWheelsThatCannotBeUsed(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	good := wheel(t, "mine", "1.0")
	renamed := good
	renamed.Name = "mine-1.0-cp27-cp27m-win_amd64.whl"
	var empty bytes.Buffer
	must(t, zip.NewWriter(&empty).Close())
	tests := []struct {
		name   string
		wheels []File
		code   diag.Code
		parts  []string
	}{
		{"no wheel's name", []File{given(t, "mine.whl", nil)}, diag.BadFile, []string{`"mine.whl" is not the name of a wheel`, "name-1.0-py3-none-any.whl"}},
		{"a source distribution", []File{given(t, "mine-1.0.tar.gz", nil)}, diag.BadFile, []string{"is not the name of a wheel"}},
		{"no zip", []File{given(t, "mine-1.0-py3-none-any.whl", []byte("text"))}, diag.BadFile, []string{"mine-1.0-py3-none-any.whl is not a wheel", "not a valid zip file"}},
		{"no metadata", []File{given(t, "mine-1.0-py3-none-any.whl", empty.Bytes())}, diag.BadFile, []string{"it holds no METADATA"}},
		{"twice", []File{good, wheel(t, "mine", "2.0")}, diag.BadFile, []string{"two wheels are of the package mine"}},
		{"another platform", []File{renamed}, diag.NotResolved, []string{"mine==1.0", "hint: the wheel is for another Python or another kind of machine"}},
		{"what it needs is missing", []File{wheel(t, "mine", "1.0", "no-such-package-here")}, diag.NotResolved, []string{"no-such-package-here"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), Spec{Wheels: test.wheels}, nil)
			wantDiagnostic(t, err, test.code, test.parts...)
		})
	}
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// lockLine is a line of a lock for a wheel of the index.
func lockLine(t *testing.T, x *index, name, version string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(x.dir, fmt.Sprintf("%s-%s-py3-none-any.whl", strings.ReplaceAll(name, "-", "_"), version)))
	must(t, err)
	return fmt.Sprintf("%s==%s --hash=sha256:%x\n", name, version, sha256.Sum256(content))
}

func TestLockFiles(t *testing.T) {
	x := newIndex(t)
	s := open(t, Options{HarnessRequirements: []string{"harness-lib"}})
	colour := lockLine(t, x, "colour", "1.0")
	hash := colour[strings.Index(colour, "sha256:")+len("sha256:") : len(colour)-1]
	pylock := fmt.Sprintf("lock-version = \"1.0\"\ncreated-by = \"test\"\n[[packages]]\nname = \"colour\"\nversion = \"1.0\"\nwheels = [{url = \"https://example.invalid/colour-1.0-py3-none-any.whl\", hashes = {sha256 = %q}}]\n", hash)
	ids := map[string]bool{}
	for name, lock := range map[string]Lock{
		"hashes":       {"requirements.lock", "# made by a test\n" + strings.Replace(colour, " --hash", " \\\n    --hash", 1) + "    # via nothing\n"},
		"a marker":     {"requirements.txt", strings.Replace(colour, " --hash", " ; python_version >= '3' --hash", 1)},
		"pylock":       {"pylock.toml", pylock},
		"named pylock": {"pylock.dev.toml", pylock},
	} {
		env := resolve(t, s, Spec{Lock: lock})
		ids[env.ID] = true
		if got := python(t, env, "import colour, harness_lib; print(colour.version)"); got != "1.0" {
			t.Errorf("%s: colour %s", name, got)
		}
	}
	if len(ids) != 2 { // the marker is a difference, the format is none
		t.Errorf("%d environments, want 2", len(ids))
	}
	// A lock that has all that the worker needs is installed as it is, and
	// nothing is resolved.
	uv := newWatchedUV(t, "")
	s = open(t, Options{UV: uv.path, HarnessRequirements: []string{"harness-lib"}})
	whole := Lock{"requirements.txt", colour + lockLine(t, x, "harness-lib", "1.0")}
	env := resolve(t, s, Spec{Lock: whole, Wheels: nil})
	if got := python(t, env, "import colour, harness_lib; print(colour.version)"); got != "1.0" || uv.count(t, "pip compile") != 0 {
		t.Errorf("colour %s, resolved %d times", got, uv.count(t, "pip compile"))
	}
	// Local wheels come on top, in versions that go with the lock.
	_, err := s.Resolve(t.Context(), Spec{Lock: whole, Wheels: []File{wheel(t, "mine", "1.0", "colour>1")}}, nil)
	wantDiagnostic(t, err, diag.NotResolved, "colour", "hint: lock them together")
}

func TestLockFilesThatCannotBeUsed(t *testing.T) {
	x := newIndex(t)
	s := open(t, Options{})
	wrong := "colour==1.0 --hash=sha256:" + strings.Repeat("0", 64) + "\n"
	vcs := "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nvcs = {type = \"git\", url = \"https://example.invalid\"}\n"
	tests := []struct {
		name  string
		lock  Lock
		code  diag.Code
		parts []string
	}{
		{"no hash", Lock{"r.txt", "colour==1.0\n"}, diag.BadLock, []string{"the lock file r.txt cannot be used: colour has no --hash", "hint: make one with: uv export"}},
		{"no version", Lock{"r.txt", "colour>=1.0 --hash=sha256:00\n"}, diag.BadLock, []string{`"colour>=1.0" is not one version`}},
		{"a bad hash", Lock{"r.txt", "colour==1.0 --hash=md5:00\n"}, diag.BadLock, []string{"a hash that is none"}},
		{"an option behind", Lock{"r.txt", lockLine(t, x, "colour", "1.0")[:90] + " --pre\n"}, diag.BadLock, []string{"a hash that is none, or an option"}},
		{"an index", Lock{"r.txt", "--index-url https://user:s3cr3t@example.invalid\n"}, diag.BadLock, []string{"it has the option --index-url"}},
		{"a password", Lock{"r.txt", "a @ https://u:s3cr3t@example.invalid/a.whl --hash=sha256:00\n"}, diag.BadLock, []string{"carries a user name or password"}},
		{"a file", Lock{"r.txt", "a @ file:///a.whl --hash=sha256:00\n"}, diag.BadLock, []string{"only http and https"}},
		{"uv.lock", Lock{"uv.lock", "version = 1\n"}, diag.BadLock, []string{"only together with its project", "uv export"}},
		{"poetry.lock", Lock{"poetry.lock", ""}, diag.BadLock, []string{"not a format that uv installs from"}},
		{"no TOML", Lock{"pylock.toml", "= 1"}, diag.BadLock, []string{"it is not TOML"}},
		{"of the future", Lock{"pylock.toml", "lock-version = \"2.0\""}, diag.BadLock, []string{`its lock-version is "2.0"`}},
		{"a repository", Lock{"pylock.toml", vcs}, diag.BadLock, []string{"a: it comes from a repository or a folder"}},
		{"another file", Lock{"r.txt", wrong}, diag.BuildFailed, []string{"Hash mismatch", "hint: the index has another file than the one that was locked"}},
		{"a version that has gone", Lock{"r.txt", strings.Replace(wrong, "1.0", "9.0", 1)}, diag.BuildFailed, []string{"colour==9.0", "hint: the index must have every file"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), Spec{Lock: test.lock}, nil)
			wantDiagnostic(t, err, test.code, test.parts...)
			if strings.Contains(diag.From(err).Render(), "s3cr3t") {
				t.Error("the error repeats a password")
			}
		})
	}
	_, err := s.Resolve(t.Context(), Spec{Lock: Lock{"r.txt", lockLine(t, x, "colour", "1.0")}, Requirements: []string{"paint"}}, nil)
	wantDiagnostic(t, err, diag.BadOption, "requirements and the lock file r.txt")
	if names := leftovers(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// member is an entry of an archive.
type member struct {
	name, text, link string
	kind             byte // of tar
}

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if m.kind == 0 {
			m.kind = tar.TypeReg
		}
		must(t, w.WriteHeader(&tar.Header{Name: m.name, Typeflag: m.kind, Linkname: m.link, Size: int64(len(m.text)), Mode: 0o755}))
		_, err := w.Write([]byte(m.text))
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

func zipOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name}
		text := m.text
		if m.link != "" {
			h.SetMode(fs.ModeSymlink | 0o777)
			text = m.link
		}
		f, err := w.CreateHeader(h)
		must(t, err)
		_, err = f.Write([]byte(text))
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	must(t, errors.Join(err, w.Close()))
	return out.Bytes()
}

func zstdOf(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	must(t, err)
	return w.EncodeAll(data, nil)
}

// anyPython is an interpreter that files can be given to without a build.
func anyPython(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here")
	}
	return path
}

func TestFilesAndArchives(t *testing.T) {
	s := open(t, Options{UV: "not-needed"})
	tree := tarOf(t, member{name: "lib/", kind: tar.TypeDir}, member{name: "lib/a", text: "a"}, member{name: "b", link: "lib/a", kind: tar.TypeSymlink}, member{name: "c", link: "lib/a", kind: tar.TypeLink})
	spec := Spec{
		Interpreter: anyPython(t),
		Files:       []File{given(t, "model.bin", []byte("weights")), given(t, "conf/x.json", []byte("{}"))},
		Archives: []File{
			given(t, "plain.tar", tree), given(t, "small.tar.gz", gzipped(t, tree)), given(t, "sub/other.tgz", gzipped(t, tree)),
			given(t, "fast.tar.zst", zstdOf(t, tree)), given(t, "z.zip", zipOf(t, member{name: "lib/a", text: "a"}, member{name: "b", link: "lib/a"})),
		},
		AskedBy: "f (job.py)",
	}
	env := resolve(t, s, spec)
	for path, want := range map[string]string{
		"model.bin": "weights", "conf/x.json": "{}", "plain/lib/a": "a", "plain/b": "a", "plain/c": "a",
		"small/b": "a", "sub/other/lib/a": "a", "fast/lib/a": "a", "z/lib/a": "a", "z/b": "a",
	} {
		text, err := os.ReadFile(filepath.Join(env.Files, path))
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
		info, err := os.Stat(filepath.Join(env.Files, path))
		if err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s can be written to: %v", path, info.Mode())
		}
	}
	plain := resolve(t, s, Spec{Interpreter: spec.Interpreter})
	if plain.ID == env.ID || plain.Files != "" {
		t.Errorf("without files it is %+v, with them %+v", plain, env)
	}
	if again := resolve(t, s, spec); again.ID != env.ID || again.Files != env.Files {
		t.Errorf("got %+v, then %+v", env, again)
	}
	list, err := s.List()
	must(t, err)
	if len(list) != 1 || list[0].Kind != kindFiles || !slices.Contains(list[0].Files, "sub/other.tgz") || !list[0].InUse || !slices.Equal(list[0].AskedBy, []string{"f (job.py)"}) {
		t.Fatalf("%+v", list)
	}
	must(t, s.Close())
	gone, _, err := s.Collect(t.Context(), Collection{BytesMax: 0})
	if err != nil || len(gone) != 1 {
		t.Errorf("collected %v, %v", gone, err)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	outside := t.TempDir()
	s := open(t, Options{UV: "not-needed"})
	changed := given(t, "a", []byte("a"))
	must(t, os.WriteFile(changed.Path, []byte("b"), 0o600))
	missing := given(t, "a", nil)
	must(t, os.Remove(missing.Path))
	ok := member{name: "ok", text: "x"}
	archive := func(name string, data []byte) Spec { return Spec{Archives: []File{given(t, name, data)}} }
	tests := []struct {
		name  string
		spec  Spec
		code  diag.Code
		parts []string
	}{
		{"above", Spec{Files: []File{given(t, "../a", nil)}}, diag.BadFile, []string{`cannot be called "../a"`}},
		{"absolute", Spec{Files: []File{given(t, "/a", nil)}}, diag.BadFile, []string{`cannot be called "/a"`}},
		{"no name", Spec{Files: []File{given(t, "", nil)}}, diag.BadFile, []string{`cannot be called ""`}},
		{"twice", Spec{Files: []File{given(t, "a", nil), given(t, "a", nil)}}, diag.BadFile, []string{"would lie at a"}},
		{"below a file", Spec{Files: []File{given(t, "a", nil), given(t, "a/b", nil)}}, diag.BadFile, []string{"would lie at a/b"}},
		{"where an archive goes", Spec{Files: []File{given(t, "a/b", nil)}, Archives: []File{given(t, "a.zip", nil)}}, diag.BadFile, []string{"would lie at a"}},
		{"has changed", Spec{Files: []File{changed}}, diag.BuildFailed, []string{"it has changed"}},
		{"is missing", Spec{Files: []File{missing}}, diag.BuildFailed, []string{"no such file"}},
		{"no archive", archive("a.rar", nil), diag.BadFile, []string{"a.rar is not an archive that can be unpacked", ".tar.zst"}},
		{"no zip", archive("a.zip", []byte("x")), diag.BadFile, []string{"the archive a.zip cannot be unpacked", "not a valid zip"}},
		{"no tar", archive("a.tar.gz", []byte("x")), diag.BadFile, []string{"the archive a.tar.gz cannot be unpacked"}},
		{"cut short", archive("a.tar.gz", gzipped(t, tarOf(t, ok))[:30]), diag.BadFile, []string{"unexpected EOF"}},
		{"zip: ..", archive("a.zip", zipOf(t, ok, member{name: "../../x"})), diag.BadFile, []string{`"../../x" lies outside`}},
		{"zip: absolute", archive("a.zip", zipOf(t, member{name: "/x"})), diag.BadFile, []string{`"/x" lies outside`}},
		{"zip: a link", archive("a.zip", zipOf(t, member{name: "l", link: outside})), diag.BadFile, []string{"outside of the archive's folder"}},
		{"tar: ..", archive("a.tar", tarOf(t, ok, member{name: "../x", text: "x"})), diag.BadFile, []string{`"../x" lies outside`}},
		{"tar: a link outside", archive("a.tar", tarOf(t, ok, member{name: "l", link: "../..", kind: tar.TypeSymlink})), diag.BadFile, []string{`the link "l" leads to "../.."`}},
		{"tar: through a link", archive("a.tar", tarOf(t, member{name: "l", link: outside, kind: tar.TypeSymlink}, member{name: "l/x", text: "x"})), diag.BadFile, nil},
		{"tar: links that lead outside together", archive("a.tar", tarOf(t, member{name: "d/l", link: "..", kind: tar.TypeSymlink}, member{name: "m", link: "d/l/../..", kind: tar.TypeSymlink})), diag.BadFile, []string{`the link "m"`}},
		{"tar: a link to nothing", archive("a.tar", tarOf(t, member{name: "l", link: "gone", kind: tar.TypeSymlink})), diag.BadFile, []string{`the link "l" leads to "gone"`}},
		{"tar: a hard link outside", archive("a.tar", tarOf(t, member{name: "l", link: "../../etc/passwd", kind: tar.TypeLink})), diag.BadFile, []string{"lies outside"}},
		{"tar: a device", archive("a.tar", tarOf(t, member{name: "d", kind: tar.TypeChar})), diag.BadFile, []string{"d is neither a file nor a folder nor a link"}},
		{"tar: twice", archive("a.tar", tarOf(t, ok, ok)), diag.BadFile, []string{"it holds ok twice"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Interpreter = anyPython(t)
			_, err := s.Resolve(t.Context(), test.spec, nil)
			wantDiagnostic(t, err, test.code, test.parts...)
			if names := leftovers(t, s); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) > 0 {
		t.Errorf("something was written outside: %v, %v", entries, err)
	}
}

func TestVariables(t *testing.T) {
	s := open(t, Options{UV: "not-needed"})
	spec := Spec{Interpreter: anyPython(t), Variables: map[string]string{"OMP_NUM_THREADS": "2"}}
	env := resolve(t, s, spec)
	if env.Variables["OMP_NUM_THREADS"] != "2" || env.ID != resolve(t, s, Spec{Interpreter: spec.Interpreter}).ID {
		t.Errorf("%+v", env)
	}
	for name, value := range map[string]string{
		"LD_PRELOAD": "x", "PYTHONPATH": "x", "HOME": "x", "ALINK_FILES": "x", "DYLD_INSERT_LIBRARIES": "x",
		"A=B": "x", "": "x", "A B": "x", "ZERO": "s3cr3t\x00", "LARGE": strings.Repeat("s3cr3t", 2000),
	} {
		_, err := s.Resolve(t.Context(), Spec{Interpreter: spec.Interpreter, Variables: map[string]string{name: value}}, nil)
		if d := diag.From(err); err == nil || d.Code != diag.BadOption || strings.Contains(d.Render(), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrebuiltEnvironment(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	built := resolve(t, s, Spec{Requirements: []string{"colour"}})
	folder := filepath.Dir(filepath.Dir(built.Interpreter))
	env := resolve(t, s, Spec{Interpreter: folder})
	if got := python(t, env, "import colour; print(colour.version)"); got != "2.0" {
		t.Errorf("colour %s", got)
	}
	resolve(t, s, Spec{Interpreter: folder, Python: env.PythonVersion})
	_, err := s.Resolve(t.Context(), Spec{Interpreter: folder, Python: "3.99"}, nil)
	wantDiagnostic(t, err, diag.NoInterpreter, "has version "+env.PythonVersion+", not 3.99")
	_, err = s.Resolve(t.Context(), Spec{Interpreter: folder, Requirements: []string{"colour"}}, nil)
	wantDiagnostic(t, err, diag.BadOption, "nothing can be installed into it")
}

// A worker that means no harm cannot write to the files of an environment.
func TestEnvironmentsAreReadOnly(t *testing.T) {
	newIndex(t)
	s := open(t, Options{})
	env := resolve(t, s, Spec{Requirements: []string{"colour"}, Files: []File{given(t, "d/f", nil)}})
	n := 0
	for _, dir := range []string{filepath.Dir(filepath.Dir(env.Interpreter)), env.Files} {
		must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			n++
			info, err := entry.Info()
			if err == nil && info.Mode().Perm()&0o222 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		}))
	}
	if n < 10 {
		t.Errorf("only %d files were looked at", n)
	}
	must(t, s.Close())
	gone, stay, err := s.Collect(context.Background(), Collection{BytesMax: 0})
	if err != nil || len(gone) != 2 || len(stay) != 0 {
		t.Errorf("went %v, stayed %v, %v", gone, stay, err)
	}
}

// What a build has left in a folder that cannot be written to is removed too.
func TestRemoveTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "a", "b", "f"), nil, 0o400))
	must(t, os.Chmod(filepath.Join(dir, "a", "b"), 0o100))
	must(t, os.Chmod(filepath.Join(dir, "a"), 0o500))
	must(t, removeTree(dir))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, removeTree(dir)) // there is nothing
}

// A build that was killed leaves a scratch folder and its lock; both go.
func TestScratchIsSwept(t *testing.T) {
	s := open(t, Options{UV: "not-needed"})
	dir := filepath.Join(s.envs, buildPrefix+scratchPrefix+"abc-")
	must(t, os.Mkdir(dir, 0o700))
	held, err := s.lock(t.Context(), scratchPrefix+"abc", func() {})
	must(t, err)
	must(t, s.sweep())
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("it was swept while it was in use: %v", err)
	}
	must(t, held.Close())
	must(t, s.sweep())
	for _, path := range []string{dir, held.Name()} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
}
