package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOrder(t *testing.T) {
	dir := folder(t, map[string]string{
		"alink.toml":     "memory = \"1GiB\"\nparallelism = 3\nspill_dir = 'spill'\n",
		"pyproject.toml": "[tool.alink]\nsandbox = \"off\"\n",
	})
	s, err := Load(dir, []string{"ALINK_PARALLELISM=5", "ALINK_OFFLINE=yes", "ALINK_UV=", "HOME=/x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set("offline", "false", "--offline"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Value{
		"memory":      {"1GiB", "alink.toml:1"},
		"parallelism": {"5", "ALINK_PARALLELISM"},
		"spill_dir":   {filepath.Join(dir, "spill"), "alink.toml:3"},
		"offline":     {"false", "--offline"},
		"sandbox":     {"auto", DefaultOrigin}, // alink.toml is the file, not the other
		"uv":          {"", DefaultOrigin},     // an empty variable is not set
	} {
		if got := s.Value(name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	if s.Number("memory") != 1<<30 || s.Number("parallelism") != 5 || s.Number("grace") != 30 || s.Switch("offline") {
		t.Error(s.Number("memory"), s.Number("parallelism"), s.Number("grace"), s.Switch("offline"))
	}
}

func TestProjectFile(t *testing.T) {
	for name, c := range map[string]struct{ text, origin string }{
		"a table":         {"[project]\nname = \"x\"\n\n[tool.alink]\nmemory = 1024\n", "pyproject.toml:5"},
		"dotted":          {"tool.alink.memory = 1024\n[tool.ruff]\nline-length = 1\n", "pyproject.toml:1"},
		"inline":          {"[tool]\nalink = { memory = 1024 }\n", "pyproject.toml:2"},
		"within a table":  {"[tool]\nalink.memory = 1024\n", "pyproject.toml:2"},
		"no table of us":  {"[tool.ruff]\nmemory = 1024\n", DefaultOrigin},
		"an empty table":  {"[tool.alink]\n", DefaultOrigin},
		"a quoted header": {"[ \"tool\" . 'alink' ]\n\n\"memory\" = 1024", "pyproject.toml:3"},
	} {
		s, err := Load(folder(t, map[string]string{"pyproject.toml": c.text}), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.Value("memory"); got.Origin != c.origin {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		line    int
		message string
		hint    string
	}{
		"unknown":         {"memory = 1\nparalelism = 4\n", 2, `there is no setting "paralelism"`, "did you mean parallelism?"},
		"unknown table":   {"\n[serve]\nlisten = 'x'\n", 2, `there is no setting "serve"`, ""},
		"a wrong type":    {"# hello\nmemory = true", 2, "memory must be a number of bytes, not true", `write it as "512MiB"`},
		"a bad size":      {`memory = "lots"`, 1, `memory must be a number of bytes, not "lots"`, ""},
		"no bytes":        {`memory = 0`, 1, "memory must be a number of bytes, not 0", ""},
		"a bad count":     {`parallelism = 0`, 1, "parallelism must be a whole number from 1 to 256, not 0", ""},
		"too many":        {`parallelism = 100000`, 1, "parallelism must be a whole number from 1 to 256", ""},
		"a number":        {`cache_dir = 4`, 1, "cache_dir must be a path, not 4", ""},
		"a bad choice":    {`sandbox = "stict"`, 1, `sandbox must be auto, strict or off, not "stict"`, ""},
		"a bad switch":    {`offline = "perhaps"`, 1, `offline must be true or false, not "perhaps"`, ""},
		"not TOML":        {"memory = \n", 1, "alink.toml is not valid TOML", ""},
		"twice":           {"memory = 1\nmemory = 2\n", 2, "alink.toml is not valid TOML", ""},
		"the first is it": {"b = 1\na = 1\n", 1, `there is no setting "b"`, ""},
	} {
		_, err := Load(folder(t, map[string]string{"alink.toml": c.text}), nil)
		d := diag.From(err)
		if err == nil || d.Code != diag.BadSetting || !strings.Contains(d.Message, c.message) || !strings.Contains(d.Hint, c.hint) {
			t.Errorf("%s: %v, hint %q", name, err, d.Hint)
			continue
		}
		if d.Source == nil || d.Source.Line != c.line || filepath.Base(d.Source.File) != "alink.toml" {
			t.Errorf("%s: %+v", name, d.Source)
		}
	}
	_, err := Load(t.TempDir(), []string{"ALINK_SANDBOX=stict"})
	if d := diag.From(err); err == nil || d.Message != `ALINK_SANDBOX must be auto, strict or off, not "stict"` {
		t.Error(err)
	}
	if err := (&Settings{}).Set("memori", "1", "--memori"); err == nil || diag.From(err).Hint != "did you mean memory?" {
		t.Error(err)
	}
}

func TestAFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "alink.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, nil); err == nil || diag.From(err).Code != diag.BadSetting {
		t.Error(err)
	}
	large := folder(t, map[string]string{"alink.toml": strings.Repeat("#\n", fileBytesMax)})
	if _, err := Load(large, nil); err == nil || diag.From(err).Code != diag.BadSetting {
		t.Error(err)
	}
}

func TestStrangers(t *testing.T) {
	got := Strangers([]string{"ALINK_MEMRY=1", "ALINK_MEMORY=1", "ALINK_PYRUNNER=x", "PATH=y", "ALINK_A=2"})
	if strings.Join(got, " ") != "ALINK_A ALINK_MEMRY" {
		t.Error(got)
	}
}

// TestKeys: each default and each name can be what it says.
func TestKeys(t *testing.T) {
	for _, k := range Keys {
		if k.Default != "" {
			if _, err := k.read(k.Default, ""); err != nil {
				t.Errorf("%s: its default %q is none", k.Name, k.Default)
			}
		}
		if want := "ALINK_" + strings.ToUpper(k.Name); k.Variable != want || k.Summary == "" || (k.Default == "") == (k.Automatic == "") {
			t.Errorf("%+v", k)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[tool.alink]\nmemory = 1\n")
	f.Add("tool = { alink = { x = [1, {y = 2}] } }")
	f.Add("[[tool]]\n[tool.alink]\nmemory=1")
	f.Fuzz(func(t *testing.T, text string) {
		entries, found, err := parse("pyproject.toml", []byte(text), []string{"tool", "alink"})
		if err == nil && found {
			for _, e := range entries {
				if e.line == 0 {
					t.Errorf("%q has no line in %q", e.name, text)
				}
			}
		}
	})
}
