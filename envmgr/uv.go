package envmgr

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	// indexes are told to uv through a pipe; none leaves it to uv's settings.
	indexes []Index
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
// their files. constraints, where it is not "", is a file of versions that may
// not be others.
func (u installer) compile(ctx context.Context, b *build, constraints string, held *os.File) (string, error) {
	args := []string{
		"pip", "compile", "-", "--python", b.python.Executable, "--no-python-downloads",
		"--generate-hashes", "--no-header", "--no-annotate",
	}
	if constraints != "" {
		args = append(args, "--constraints", constraints)
	}
	args = append(args, b.kinds()...)
	stdout, stderr, err := u.confined(ctx, b, "", args...)
	if errors.Is(err, errors.ErrUnsupported) {
		stdout, stderr, err = u.run(ctx, b, held, b.input(), args...)
	}
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

// kinds say what uv may install.
func (b *build) kinds() []string {
	if b.spec.SourceBuilds {
		return nil
	}
	return []string{"--only-binary", ":all:"}
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
	case noSpace(stderr):
		return fullHint(b.store.options.CacheDir)
	case unauthorized(stderr):
		return loginHint(stderr)
	case has("Failed to build", "build backend"):
		return "it was built from source, which failed: choose a version that has a wheel, or look at what its build needs"
	case b.store.options.Offline, has("network was disabled"):
		return "the engine is offline and its cache does not hold what is needed: run it once with a network"
	case has("error sending request", "Failed to fetch", "dns error", "Connection refused", "tcp connect", "timed out"):
		return "the package index could not be reached: look at the network, HTTPS_PROXY, index= and UV_DEFAULT_INDEX"
	case has("was not found in the package registry", "was not found in the provided package locations"):
		return "look at the spelling of the name, or name the index that has it: index="
	case has("no usable wheels", "no wheels with a matching") && !has("depends on"):
		if match := localWheel.FindStringSubmatch(stderr); match != nil && b.hasWheel(match[1], match[2]) {
			return "the wheel is for another Python or another kind of machine: give one for Python " + b.python.Version + " on " + b.python.Platform
		}
		return "only wheels are installed: choose a version that has one for Python " + b.python.Version + ", or allow source_builds=True"
	case exit == syntaxExit:
		return "the installer could not begin; its own words are above"
	}
	hint := "loosen one of the requirements"
	if len(b.locked) > 0 {
		hint = "lock them together with what the worker needs"
	}
	if added := b.store.options.HarnessRequirements; len(added) > 0 {
		hint += "; for the worker were added: " + strings.Join(added, ", ")
	}
	return hint
}

// localWheel is how uv speaks of a package that has only wheels for others.
var localWheel = regexp.MustCompile(`and (\S+?)==(\S+) has no (?:wheels with a matching|usable wheels)`)

// hasWheel reports whether one of the user's wheels is this version of a
// package.
func (b *build) hasWheel(name, version string) bool {
	return slices.ContainsFunc(b.spec.Wheels, func(w File) bool {
		match := wheelName.FindStringSubmatch(w.Name)
		return match != nil && normalise(match[1]) == name && match[2] == version
	})
}

func noSpace(stderr string) bool {
	return strings.Contains(stderr, "No space left") || strings.Contains(stderr, "os error 28") || strings.Contains(stderr, "quota exceeded")
}

func unauthorized(stderr string) bool {
	return strings.Contains(stderr, "401 Unauthorized") || strings.Contains(stderr, "403 Forbidden")
}

var urlText = regexp.MustCompile(`https?://[^\s)]+`)

func loginHint(stderr string) string {
	where := "the package index"
	for line := range strings.SplitSeq(stderr, "\n") {
		if found := urlText.FindString(line); found != "" && unauthorized(line) {
			where = found
		}
	}
	return where + ` does not let us in: give the right credentials, index="https://user:${PASSWORD}@host/simple", or a netrc file`
}

// install makes dir/venv hold exactly what the lock lists.
func (u installer) install(ctx context.Context, b *build, dir, lockFile string, held *os.File) error {
	steps := [][]string{{
		"venv", "--relocatable", "--no-project", "--python", b.python.Executable, "--no-python-downloads", "--quiet",
		filepath.Join(dir, "venv"),
	}}
	if countPackages(b.lockText) > 0 {
		steps = append(steps, append([]string{
			"pip", "sync", "--python", venvPython(dir), "--no-python-downloads", "--require-hashes", lockFile,
		}, b.kinds()...))
	}
	for _, args := range steps {
		stderr, err := "", errors.ErrUnsupported
		if args[0] != "venv" {
			_, stderr, err = u.confined(ctx, b, dir, args...)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			_, stderr, err = u.run(ctx, b, held, "", args...)
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d := diag.New(diag.BuildFailed, "the environment of %s could not be installed", b.what())
		d.Cause = cmp.Or(tellingLines(stderr), err.Error())
		return d.WithHint("%s", b.installHint(stderr))
	}
	return nil
}

func (b *build) installHint(stderr string) string {
	locked := len(b.locked) > 0
	has := func(part string) bool { return strings.Contains(stderr, part) }
	switch {
	case noSpace(stderr):
		return fullHint(b.store.options.CacheDir)
	case unauthorized(stderr):
		return loginHint(stderr)
	case has("Failed to build"), has("build backend"):
		return "it was built from source, which failed: choose a version that has a wheel, or look at what its build needs"
	case has("no usable wheels"), has("no wheels with a matching"), has("is incompatible with"):
		return "the lock file holds no wheel of it for Python " + b.python.Version + " on " + b.python.Platform + ": lock for those too, or allow source_builds=True"
	case has("ash mismatch") && locked:
		return "the index has another file than the one that was locked: lock anew, or name the index that it was locked from"
	case has("ash"):
		return "a file of the package index has changed since it was chosen; the next run chooses anew"
	case b.store.options.Offline, has("network was disabled"):
		return "the engine is offline and its cache does not hold what is needed: run it once with a network"
	case locked:
		return "the index must have every file that the lock file names: look at index="
	}
	return "run the job again; versions are then chosen anew"
}

// run runs uv. Its messages are free of credentials.
func (u installer) run(ctx context.Context, b *build, held *os.File, stdin string, args ...string) (stdout, stderr string, err error) {
	if u.offline {
		args = append(args, "--offline")
	}
	c := command{path: u.path, args: args, env: b.environment(), stdin: stdin, held: held, line: b.tell}
	if len(u.indexes) > 0 {
		c.config = indexConfig(u.indexes)
	}
	stdout, stderr, err = run(ctx, c)
	return stdout, b.secrets.without(stderr), err
}

// confined is run for a uv that builds from source, where that can be shut in;
// otherwise its error wraps errors.ErrUnsupported. It takes the requirements
// from a file and writes the lock to one, since its standard input is the
// pipe with the indexes and its output is one with its messages. dir, where it
// is not "", is the folder of the environment.
func (u installer) confined(ctx context.Context, b *build, dir string, args ...string) (stdout, messages string, err error) {
	if b.store.options.Confine == nil || !b.spec.SourceBuilds {
		return "", "", errors.ErrUnsupported
	}
	c := Confined{
		Env: b.environment(), Stdin: indexConfig(u.indexes), Interpreters: []string{b.python.Executable}, Read: []string{u.path},
		Write: []string{b.scratch}, Network: !u.offline, Line: b.tell,
	}
	input, output := filepath.Join(b.scratch, "input.txt"), filepath.Join(b.scratch, "chosen.txt")
	compiles := dir == ""
	if compiles {
		args = slices.Clone(args)
		args[slices.Index(args, "-")] = input
		args = append(args, "--output-file", output)
		if err := os.WriteFile(input, []byte(b.input()), 0o600); err != nil {
			return "", "", err
		}
	} else {
		c.Write = append(c.Write, dir)
	}
	if u.offline {
		args = append(args, "--offline")
	}
	c.Argv = append(append([]string{u.path}, args...), "--config-file", "/dev/stdin")
	messages, err = b.store.options.Confine(ctx, c)
	messages = b.secrets.without(messages)
	if err != nil || !compiles {
		return "", messages, err
	}
	text, err := os.ReadFile(output)
	return string(text), messages, err
}

// tell passes on what uv says while it works, of what takes long.
func (b *build) tell(line string) {
	line = strings.TrimSpace(line)
	for _, word := range []string{"Downloading ", "Building "} {
		if rest, ok := strings.CutPrefix(line, word); ok {
			b.progress(b.secrets.without(strings.ToLower(word) + rest))
		}
	}
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

// step is a line in which uv says how far it is.
var step = regexp.MustCompile(`^(Resolved|Prepared|Installed|Uninstalled|Audited|Downloading|Downloaded|Building|Built|Using|Bytecode|Updating|Updated) `)

// tellingLines cuts the messages of uv to the lines that tell what
// went wrong: no warnings, no advice about uv's own options, no decoration,
// long lines folded, of long explanations the beginning and the end.
func tellingLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(strings.Trim(strings.TrimSpace(line), "×╰─▶│├"))
		line = strings.TrimPrefix(strings.TrimPrefix(line, "error: "), "cause: ")
		if strings.Trim(line, "^") == "" || strings.HasPrefix(line, "warning:") || strings.HasPrefix(line, "hint:") || step.MatchString(line) {
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
