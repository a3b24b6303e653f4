package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/alink-runtime/alink/config"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

var update = flag.Bool("update", false, "write docs/cli.md and the golden files anew")

// TestMain lets the test binary be what commands start it as.
func TestMain(m *testing.M) {
	if os.Getenv("PYRUNNER_TEST_MAIN") != "" {
		main()
	}
	for _, key := range config.Keys {
		if key.Name != "cache_dir" && key.Name != "uv" {
			os.Unsetenv(key.Variable)
		}
	}
	os.Exit(m.Run())
}

// TestReference: docs/cli.md shows the help of every command, as it is.
func TestReference(t *testing.T) {
	const path = "../../docs/cli.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- help begins -->\n", "<!-- help ends -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks around its reference", path)
	}
	var b strings.Builder
	b.WriteString(before + begin)
	root := newRoot(&cli{stdout: os.Stdout, stderr: os.Stderr})
	walk(root, func(command *cobra.Command) {
		b.WriteString("\n## " + command.CommandPath() + "\n\n```text\n" + help(t, command) + "\n```\n")
	})
	b.WriteString("\n" + end + after)
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != string(text) {
		t.Errorf("%s does not show the commands as they are; run: go test ./cmd/pyrunner -run TestReference -update", path)
	}
}

func walk(command *cobra.Command, visit func(*cobra.Command)) {
	visit(command)
	for _, sub := range command.Commands() {
		if sub.IsAvailableCommand() {
			walk(sub, visit)
		}
	}
}

func help(t *testing.T, command *cobra.Command) string {
	t.Helper()
	args := strings.Fields(command.CommandPath() + " --help")[1:]
	code, stdout, stderr := run1(t, args...)
	if code != exitDone || stderr != "" {
		t.Errorf("%v: exit %d, %q", args, code, stderr)
	}
	return strings.TrimSpace(stdout)
}

func run1(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return command(t, "", args...)
}

// TestEveryCommandRefusesWhatItDoesNotKnow, with the name of the command and a
// hint, and prints nothing on standard output.
func TestEveryCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	root := newRoot(&cli{stdout: os.Stdout, stderr: os.Stderr})
	walk(root, func(command *cobra.Command) {
		args := strings.Fields(command.CommandPath() + " --hlp")[1:]
		code, stdout, stderr := run1(t, args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, command.CommandPath()+" has no flag --hlp") || !strings.Contains(stderr, "did you mean --help?") {
			t.Errorf("%v: exit %d\n%s\n%s", args, code, stdout, stderr)
		}
	})
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args    string
		message string
		hint    string
	}{
		{"evn", `pyrunner has no command "evn"`, "did you mean env?"},
		{"env lst", `pyrunner env has no command "lst"`, "did you mean ls?"},
		{"env gc --dry", "pyrunner env gc has no flag --dry", "did you mean --dry-run?"},
		{"env gc -x", "pyrunner env gc has no flag -x", "flags are: --unused-for"},
		{"env gc extra", "pyrunner env gc: unknown command", "usage: pyrunner env gc"},
		{"env show", "pyrunner env show: accepts 1 arg(s), received 0", "usage: pyrunner env show ENVIRONMENT"},
		{"env gc --cache-limit much", `--cache-limit must be a number of bytes, not "much"`, `write it as "512MiB"`},
		{"env gc --unused-for soon", "pyrunner env gc: invalid argument", "--help"},
		{"env gc --unused-for -1h", "--unused-for must not be negative", ""},
		{"completion tcsh", `invalid argument "tcsh"`, "usage: pyrunner completion bash|zsh|fish"},
		{"error ALK20001", "there is no code ALK20001", "did you mean ALK2001"},
		{"config --sandbox stict", `--sandbox must be auto, strict or off, not "stict"`, ""},
	} {
		code, stdout, stderr := run1(t, strings.Fields(c.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.message) || !strings.Contains(stderr, c.hint) {
			t.Errorf("%s: exit %d\n%s\n%s", c.args, code, stdout, stderr)
		}
		if n := strings.Count(stderr, "\n"); n > 15 {
			t.Errorf("%s: %d lines", c.args, n)
		}
	}
}

func TestConfigCommand(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("ALINK_SANDBOX", "off")
	t.Setenv("ALINK_MEMRY", "1GB")
	if err := os.WriteFile(filepath.Join(dir, "pyproject.toml"), []byte("[tool.alink]\nparallelism = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run1(t, "config", "--memory", "2GiB", "--json")
	var got struct {
		Settings []struct{ Name, Value, Origin string }
		Unknown  []string `json:"unknown_variables"`
	}
	if err := json.Unmarshal([]byte(stdout), &got); code != exitDone || err != nil {
		t.Fatal(code, err, stderr)
	}
	found := map[string]string{}
	for _, s := range got.Settings {
		found[s.Name] = s.Value + " " + s.Origin
	}
	for name, want := range map[string]string{
		"memory": "2GiB --memory", "sandbox": "off ALINK_SANDBOX", "parallelism": "3 pyproject.toml:2",
		"progress": "auto default", "spill_dir": " default",
	} {
		if found[name] != want {
			t.Errorf("%s: %q, not %q", name, found[name], want)
		}
	}
	if len(got.Unknown) != 1 || got.Unknown[0] != "ALINK_MEMRY" {
		t.Error(got.Unknown)
	}
	if _, stdout, _ := run1(t, "config"); !strings.Contains(stdout, "ALINK_MEMRY is no setting; did you mean ALINK_MEMORY?") {
		t.Error(stdout)
	}

	if err := os.WriteFile(filepath.Join(dir, "alink.toml"), []byte("\nparalelism = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = run1(t, "config")
	want := "ALK5030: alink.toml: there is no setting \"paralelism\"\n"
	if code != exitUsage || !strings.HasPrefix(stderr, want) || !strings.Contains(stderr, "line 2") && !strings.Contains(stderr, ":2") || !strings.Contains(stderr, "did you mean parallelism?") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
}

// TestDoctor: each finding has a value or a reason, and the program says what
// it enforces.
func TestDoctor(t *testing.T) {
	t.Setenv("ALINK_CACHE_DIR", t.TempDir())
	code, stdout, stderr := run1(t, "doctor", "--json")
	var got checkup
	if err := json.Unmarshal([]byte(stdout), &got); code != exitDone || err != nil {
		t.Fatal(code, err, stderr)
	}
	if level, err := sandbox.ParseLevel(got.Isolation); err != nil || level < sandbox.L3 && got.Reason == "" {
		t.Errorf("it does not say what workers get: %q, %q", got.Isolation, got.Reason)
	}
	first := slices.IndexFunc(got.Memory, func(f finding) bool { return f.OK })
	if first >= 0 && got.MemoryControl != got.Memory[first].Name {
		t.Errorf("memory control %q of %v", got.MemoryControl, got.Memory)
	}
	for part, list := range map[string][]finding{"machine": got.Machine, "sandbox": got.Sandbox, "memory": got.Memory, "python": got.Python, "disk": got.Disk} {
		if len(list) == 0 {
			t.Errorf("nothing about %s", part)
		}
		for _, f := range list {
			if f.Name == "" || f.Value == "" && f.Reason == "" || !f.OK && f.Reason == "" {
				t.Errorf("%s: %+v", part, f)
			}
		}
	}
	code, text, _ := run1(t, "doctor")
	if code != exitDone || !strings.Contains(text, "Landlock") || !strings.HasPrefix(text, "sandbox of workers: L") {
		t.Errorf("exit %d\n%s", code, text)
	}
}

func TestDoctorWithoutACache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run1(t, "doctor", "--cache-dir", filepath.Join(file, "cache"))
	if code != exitDone || !strings.Contains(stdout, "cannot be used") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

func TestEnvironmentsOfAnEmptyCache(t *testing.T) {
	t.Setenv("ALINK_CACHE_DIR", t.TempDir())
	for args, want := range map[string]string{
		"env ls":        "0 environments, 0 B\n",
		"env ls --json": "[]\n",
		"env gc":        "removed 0 environments, 0 B; 0 B of 0 environments stay\n",
	} {
		code, stdout, stderr := run1(t, strings.Fields(args)...)
		if code != exitDone || !strings.HasSuffix(stdout, want) {
			t.Errorf("%s: exit %d %q %q", args, code, stdout, stderr)
		}
	}
	code, _, stderr := run1(t, "env", "show", "beef")
	if code != exitFailed || !strings.Contains(stderr, `there is no environment "beef"`) {
		t.Errorf("exit %d %s", code, stderr)
	}
}

// TestCompletion: the scripts are there, and what they ask the program for.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, stdout, _ := run1(t, "completion", shell)
		if code != exitDone || !strings.Contains(stdout, "pyrunner") || len(stdout) < 1000 {
			t.Errorf("%s: exit %d, %d bytes", shell, code, len(stdout))
		}
	}
	for args, want := range map[string]string{
		"en":                      "env\t",
		"env ":                    "gc\t",
		"error ALK2":              "ALK2001\t",
		"config --sandbox ":       "strict",
		"completion ":             "zsh",
		"env gc --dry":            "--dry-run",
		"config --parallelism 1 ": ":",
	} {
		fields := strings.Split(args, " ")
		_, stdout, _ := run1(t, append([]string{"__complete"}, fields...)...)
		if !strings.Contains(stdout, want) {
			t.Errorf("%q completes to %q", args, stdout)
		}
	}
}

func TestSizesAndTimes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1023 * 1024: "1.0 MiB", 5 << 30: "5.0 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %s, not %s", n, got, want)
		}
	}
	if got := cut("日本語のテキスト", 7); got != "日本語…" {
		t.Error(got)
	}
}
