package envmgr

import (
	"cmp"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// installer is one uv.
type installer struct {
	path    string
	version string // "0.13.9"
	env     []string
	offline bool
}

// major is the part of the version that changes with incompatible releases:
// the leading numbers up to the first that is not zero.
func (u installer) major() string {
	var parts []string
	for _, n := range numbers(u.version) {
		parts = append(parts, strconv.Itoa(n))
		if n != 0 {
			break
		}
	}
	return "uv " + strings.Join(parts, ".")
}

// installer finds uv and asks its version.
func (s *Store) installer(ctx context.Context, baseInterpreter string) (installer, error) {
	path, err := s.findUV(baseInterpreter)
	if err != nil {
		return installer{}, err
	}
	s.mu.Lock()
	u, ok := s.installers[path]
	s.mu.Unlock()
	if ok {
		return u, nil
	}
	env := s.installerEnvironment(os.Environ())
	stdout, stderr, err := run(ctx, command{path: path, args: []string{"--version"}, env: env})
	if ctx.Err() != nil {
		return installer{}, ctx.Err()
	}
	fields := strings.Fields(stdout)
	if err != nil || len(fields) < 2 || fields[0] != "uv" {
		d := diag.New(diag.NoInstaller, "%s does not answer as uv does", path).WithHint("pip install uv, or set ALINK_UV to its path")
		d.Cause = cmp.Or(tellingLines(stderr), strings.TrimSpace(stdout))
		return installer{}, d
	}
	u = installer{path: path, version: fields[1], env: env, offline: s.options.Offline}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.installers[path] = u
	return u, nil
}

// findUV finds uv's path: as it was given, beside the client's interpreter
// (uv is a dependency of the client), then on PATH and where its own
// installer puts it.
func (s *Store) findUV(baseInterpreter string) (string, error) {
	if given := cmp.Or(s.options.UV, os.Getenv("ALINK_UV")); given != "" {
		path, err := exec.LookPath(given)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return "", diag.New(diag.NoInstaller, "the installer uv is not at %s", given).WithCause(err).
				WithHint("correct ALINK_UV, or pip install uv")
		}
		return path, nil
	}
	var looked []string
	if baseInterpreter != "" {
		looked = append(looked, filepath.Join(filepath.Dir(baseInterpreter), "uv"))
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) {
			looked = append(looked, filepath.Join(dir, "uv"))
		}
	}
	if self, err := os.Executable(); err == nil { // a wheel puts both into one folder
		looked = append(looked, filepath.Join(filepath.Dir(self), "uv"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		looked = append(looked, filepath.Join(home, ".local", "bin", "uv"), filepath.Join(home, ".cargo", "bin", "uv"))
	}
	for _, path := range looked {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	d := diag.New(diag.NoInstaller, "the installer uv was not found")
	if baseInterpreter != "" {
		d = d.WithFact("looked beside the client's Python: %s", looked[0])
	}
	return "", d.WithFact("looked on PATH, beside pyrunner, in ~/.local/bin and in ~/.cargo/bin").
		WithHint("pip install uv, or set ALINK_UV to its path")
}

// compile turns requirements into a lock: exact versions with the hashes of
// their files.
func (u installer) compile(ctx context.Context, b *build, held *os.File) (string, error) {
	args := []string{
		"pip", "compile", "-", "--python", b.python.Executable, "--no-python-downloads",
		"--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate", "--quiet",
	}
	var input strings.Builder
	for _, r := range b.requirements {
		input.WriteString(r.text + "\n")
	}
	stdout, stderr, err := u.run(ctx, held, input.String(), args...)
	if err == nil {
		return stdout, nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	d := diag.New(diag.NotResolved, "no set of versions satisfies %s on Python %s", b.what(), b.python.Version)
	d.Cause = cmp.Or(tellingLines(stderr), err.Error())
	return "", d.WithHint("%s", b.resolveHint(stderr, exitCode(err)))
}

// resolveHint turns the way in which uv failed into advice.
func (b *build) resolveHint(stderr string, exit int) string {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(stderr, part) {
				return true
			}
		}
		return false
	}
	const syntaxExit = 2
	switch {
	case has("Couldn't parse requirement"):
		return `write requirements as "numpy==2.2.*" or "pandas[parquet]>=2"`
	case b.store.options.Offline, has("network was disabled"):
		return "the engine is offline and its cache does not hold what is needed: run it once with a network"
	case has("error sending request", "Failed to fetch", "dns error", "Connection refused", "tcp connect", "timed out"):
		return "the package index could not be reached: look at the network, HTTPS_PROXY and UV_DEFAULT_INDEX"
	case has("was not found in the package registry"):
		return "look at the spelling of the name, or name the index that has it: UV_INDEX"
	case has("no usable wheels", "no wheels with a matching") && !has("depends on"):
		return "only wheels are installed: choose a version that has one for Python " + b.python.Version
	case exit == syntaxExit:
		return "the installer could not begin; its own words are above"
	}
	hint := "loosen one of the requirements"
	if added := b.store.options.HarnessRequirements; len(added) > 0 {
		hint += "; for the worker were added: " + strings.Join(added, ", ")
	}
	return hint
}

// install makes dir/venv hold exactly what the lock lists.
func (u installer) install(ctx context.Context, b *build, dir, lockFile string, held *os.File) error {
	steps := [][]string{{
		"venv", "--relocatable", "--no-project", "--python", b.python.Executable, "--no-python-downloads", "--quiet",
		filepath.Join(dir, "venv"),
	}}
	if countPackages(b.lockText) > 0 {
		steps = append(steps, []string{
			"pip", "sync", "--python", venvPython(dir), "--no-python-downloads", "--require-hashes",
			"--only-binary", ":all:", "--compile-bytecode", "--quiet", lockFile,
		})
	}
	for _, args := range steps {
		_, stderr, err := u.run(ctx, held, "", args...)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := diag.New(diag.BuildFailed, "the environment of %s could not be installed", b.what())
		d.Cause = cmp.Or(tellingLines(stderr), err.Error())
		return d.WithHint("%s", installHint(stderr))
	}
	return nil
}

func installHint(stderr string) string {
	switch {
	case strings.Contains(stderr, "No space left"):
		return "the disk is full: make room, or set ALINK_CACHE_DIR to a folder that has some"
	case strings.Contains(stderr, "hash"):
		return "a file of the package index has changed since it was chosen; the next run chooses anew"
	}
	return "run the job again; versions are then chosen anew"
}

func (u installer) run(ctx context.Context, held *os.File, stdin string, args ...string) (stdout, stderr string, err error) {
	if u.offline {
		args = append(args, "--offline")
	}
	return run(ctx, command{path: u.path, args: args, env: u.env, stdin: stdin, held: held})
}

// choosing are the settings of uv on which the choice of versions depends.
var choosing = []string{
	"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
	"UV_INDEX_STRATEGY", "UV_EXCLUDE_NEWER", "UV_PRERELEASE", "UV_RESOLUTION", "UV_FORK_STRATEGY",
	"UV_TORCH_BACKEND", "UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_NO_SOURCES",
}

// resolutionSettings are the values of choosing, without the credentials that
// an index URL may carry: who asks does not change what is there.
func resolutionSettings(environ []string) map[string]string {
	settings := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		for _, c := range choosing {
			if name == c {
				settings[name] = withoutCredentials(value)
			}
		}
	}
	return settings
}

// withoutCredentials drops user and password from the URLs of a setting, which
// is a list, each entry perhaps with a name and an equals sign before it.
func withoutCredentials(value string) string {
	entries := strings.Fields(value)
	for i, entry := range entries {
		scheme := strings.Index(entry, "://")
		if scheme < 0 {
			continue
		}
		start := strings.LastIndexAny(entry[:scheme], "=") + 1
		u, err := url.Parse(entry[start:])
		if err != nil {
			entries[i] = entry[:start] // nothing of what cannot be read
			continue
		}
		u.User = nil
		entries[i] = entry[:start] + u.String()
	}
	return strings.Join(entries, " ")
}

// Limits of what is shown of another program's words.
const (
	tellingLinesMax = 4
	tellingWidth    = 160
)

// tellingLines cuts the messages of uv to the lines that tell what
// went wrong: no warnings, no advice about uv's own options, no decoration,
// long lines folded, of long explanations the beginning and the end.
func tellingLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(strings.Trim(strings.TrimSpace(line), "×╰─▶│├"))
		line = strings.TrimPrefix(strings.TrimPrefix(line, "error: "), "cause: ")
		if strings.Trim(line, "^") == "" || strings.HasPrefix(line, "warning:") || strings.HasPrefix(line, "hint:") {
			continue
		}
		lines = append(lines, fold(line)...)
	}
	if len(lines) > tellingLinesMax {
		half := tellingLinesMax / 2
		lines = append(append(lines[:half-1:half-1], lines[half-1]+" …"), lines[len(lines)-half:]...)
	}
	return strings.Join(lines, "\n")
}

// lastLine is where a Python traceback names the exception.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndex(text, "\n")+1:])
}

// fold breaks a line between words.
func fold(line string) []string {
	var lines []string
	current := ""
	for word := range strings.FieldsSeq(line) {
		if current != "" && len(current)+1+len(word) > tellingWidth {
			lines = append(lines, current)
			current = ""
		}
		if current != "" {
			current += " "
		}
		current += word
	}
	return append(lines, current)
}
