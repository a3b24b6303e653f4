package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
)

// command runs a command line with text on its standard input.
func command(t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	target, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	var errors bytes.Buffer
	code = run(args, stdin, target, &errors)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text), errors.String()
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{nil, exitUsage, "", "error "},
		{[]string{"help"}, exitDone, "error ", ""},
		{[]string{"--help"}, exitDone, "error ", ""},
		{[]string{"help", "error"}, exitDone, "pyrunner error CODE", ""},
		{[]string{"version"}, exitDone, "pyrunner " + version, ""},
		{[]string{"version", "--json"}, exitDone, `"protocol": 1`, ""},
		{[]string{"--version"}, exitDone, "pyrunner " + version, ""},
		{[]string{"versio"}, exitUsage, "", "did you mean version?"},
		{[]string{"error", "alk2001"}, exitDone, "ALK2001 (alink.UdfError): A Python function raised an exception.", ""},
		{[]string{"error", "ALK2001", "--json"}, exitDone, `"class": "UdfError"`, ""},
		{[]string{"error"}, exitUsage, "", "usage: pyrunner error CODE"},
	} {
		code, stdout, stderr := command(t, "", c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v: exit %d\n%s\n%s", c.args, code, stdout, stderr)
		}
	}
}

// TestEngineRefusesWhatIsNotAClient: whoever starts it gets one line of JSON
// with the reason, and no engine is left.
func TestEngineRefusesWhatIsNotAClient(t *testing.T) {
	for name, input := range map[string]string{
		"nothing": "", "no JSON": "hello\n", "no token": `{"run_dir": "/tmp"}` + "\n",
		"no pidfd":   `{"run_dir": "/tmp/x", "token": "t", "client_pidfd": 99}` + "\n",
		"bad option": `{"run_dir": "` + t.TempDir() + `", "token": "t", "client_pidfd": -1, "spill_dir": "/not/there"}` + "\n",
	} {
		code, stdout, stderr := command(t, input, "engine")
		var answer ready
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
			t.Errorf("%s: %q is no answer: %v", name, stdout, err)
		}
		if code != exitFailed || answer.Ready || answer.Error == nil || answer.Error.Message == "" || stderr == "" {
			t.Errorf("%s: exit %d, %+v, %q", name, code, answer, stderr)
		}
	}
}

func TestDuckDBVersion(t *testing.T) {
	for binding, want := range map[string]string{"v0.10506.0": "1.5.6", "v0.20012.3": "2.0.12", "": "none", "v1.2.3": "none"} {
		if got := duckdbVersion(binding); got != want {
			t.Errorf("%q is DuckDB %s, not %s", binding, got, want)
		}
	}
}

func TestEveryCodeIsExplained(t *testing.T) {
	for _, entry := range diag.Entries {
		if code, stdout, _ := command(t, "", "error", string(entry.Code)); code != exitDone || !strings.Contains(stdout, entry.Text) || entry.Summary == "" || entry.Text == "" {
			t.Errorf("%s: exit %d, %q", entry.Code, code, stdout)
		}
	}
}
