package envmgr

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/pelletier/go-toml/v2"
)

const (
	// lockBytesMax bounds the text of a lock file.
	lockBytesMax = 8 << 20
	// lockPackagesMax bounds its packages.
	lockPackagesMax = 5_000
)

// Lock is a lock file that the user has given: exactly what is installed.
type Lock struct {
	// Name is the file's name, which tells its format: pylock.toml and
	// pylock.*.toml are PEP 751's, others requirements with hashes.
	Name string
	Text string
}

// pinned is a package of a lock.
type pinned struct {
	name string
	// reference is "name==1.0" or "name @ https://…", with its marker.
	reference string
	hashes    []string // "sha256:…"
}

func (p pinned) write(out *strings.Builder) {
	out.WriteString(p.reference)
	for _, hash := range p.hashes {
		out.WriteString(" \\\n    --hash=" + hash)
	}
	out.WriteString("\n")
}

func lockText(packages []pinned) string {
	var out strings.Builder
	for _, p := range packages {
		p.write(&out)
	}
	return out.String()
}

// read gives the packages of a lock, sorted. Its error is a diagnostic.
func (l Lock) read() ([]pinned, error) {
	refuse := func(err error, hint string) error {
		return diag.New(diag.BadLock, "the lock file %s cannot be used: %v", l.Name, err).WithHint("%s", hint)
	}
	const export = "make one with: uv export --format requirements.txt --no-emit-project -o requirements.lock"
	base := path.Base(l.Name)
	if len(l.Text) > lockBytesMax {
		return nil, refuse(fmt.Errorf("it has %d bytes, at most %d are possible", len(l.Text), lockBytesMax), "")
	}
	var packages []pinned
	var err error
	switch {
	case strings.HasPrefix(base, "pylock.") && strings.HasSuffix(base, ".toml"):
		packages, err = readPylock(l.Text)
	case base == "uv.lock":
		err = errors.New("a uv.lock says what to install only together with its project")
	case base == "poetry.lock", base == "Pipfile.lock", base == "pdm.lock", strings.HasPrefix(base, "conda-lock"), strings.HasSuffix(base, ".toml"):
		err = errors.New("it is not a format that uv installs from")
	default:
		packages, err = readHashed(l.Text)
	}
	if err == nil && len(packages) > lockPackagesMax {
		err = fmt.Errorf("it has %d packages, at most %d are possible", len(packages), lockPackagesMax)
	}
	if err != nil {
		return nil, refuse(err, export)
	}
	slices.SortFunc(packages, func(a, b pinned) int { return strings.Compare(a.reference, b.reference) })
	return packages, nil
}

var (
	pin       = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*==\s*([A-Za-z0-9.!+_-]+)$`)
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hashText  = regexp.MustCompile(`^(sha256|sha384|sha512):[0-9a-f]{64,128}$`)
)

// readHashed reads requirements with hashes, as pip-compile and uv write them.
func readHashed(text string) ([]pinned, error) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\\\n", " ")
	var packages []pinned
	for line := range strings.SplitSeq(text, "\n") {
		if i := strings.Index(" "+line, " #"); i >= 0 {
			line = line[:i]
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "-") {
			option, _, _ := strings.Cut(line, " ")
			option, _, _ = strings.Cut(option, "=")
			return nil, fmt.Errorf("it has the option %s; indexes are given with index=, other files not at all", option)
		}
		p, err := readPin(line)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func readPin(line string) (pinned, error) {
	reference, rest, found := strings.Cut(line, "--hash=")
	reference = strings.TrimSpace(reference)
	r, err := parseRequirement(reference)
	if err != nil {
		name := "a line of it" // not its text, which may hold a password
		if match := namePattern.FindStringSubmatch(reference); match != nil {
			name = match[1]
		}
		return pinned{}, fmt.Errorf("%s: %w", name, err)
	}
	p := pinned{name: r.name, reference: reference}
	before, _, _ := strings.Cut(reference, ";")
	if !strings.Contains(before, "@") && !pin.MatchString(strings.TrimSpace(before)) {
		return pinned{}, fmt.Errorf("%q is not one version; a lock has name==version", strings.TrimSpace(before)) // no URL: those have an @
	}
	if !found {
		return pinned{}, fmt.Errorf("%s has no --hash", r.name)
	}
	for field := range strings.FieldsSeq("--hash=" + rest) {
		hash, ok := strings.CutPrefix(field, "--hash=")
		if !ok || !hashText.MatchString(hash) {
			return pinned{}, fmt.Errorf("%s has a hash that is none, or an option", r.name)
		}
		p.hashes = append(p.hashes, hash)
	}
	return p, nil
}

// pylock is what is read of a pylock.toml (PEP 751).
type pylock struct {
	LockVersion string          `toml:"lock-version"`
	Packages    []pylockPackage `toml:"packages"`
}

type pylockPackage struct {
	Name      string         `toml:"name"`
	Version   string         `toml:"version"`
	Marker    string         `toml:"marker"`
	Wheels    []pylockFile   `toml:"wheels"`
	Sdist     *pylockFile    `toml:"sdist"`
	Archive   *pylockFile    `toml:"archive"`
	VCS       map[string]any `toml:"vcs"`
	Directory map[string]any `toml:"directory"`
}

type pylockFile struct {
	URL    string            `toml:"url"`
	Path   string            `toml:"path"`
	Hashes map[string]string `toml:"hashes"`
}

// readPylock reads a pylock.toml. Files are told apart by their hashes; which
// index they come from is the environment's to say.
func readPylock(text string) ([]pinned, error) {
	var l pylock
	if err := toml.Unmarshal([]byte(text), &l); err != nil {
		return nil, fmt.Errorf("it is not TOML: %w", err)
	}
	if l.LockVersion != "1.0" {
		return nil, fmt.Errorf("its lock-version is %q; only 1.0 is known", l.LockVersion)
	}
	packages := make([]pinned, 0, len(l.Packages))
	for _, entry := range l.Packages {
		p, err := entry.pinned()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name, err)
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func (e pylockPackage) pinned() (pinned, error) {
	switch {
	case len(e.VCS) > 0 || len(e.Directory) > 0:
		return pinned{}, errors.New("it comes from a repository or a folder; build a wheel of it and give that with wheels=")
	case strings.Contains(e.Marker, "dependency_groups") || strings.Contains(e.Marker, "extras"):
		return pinned{}, errors.New("it depends on extras or groups; export the lock for the ones that you want")
	}
	reference := fmt.Sprintf("%s==%s", e.Name, e.Version)
	files := e.Wheels
	if e.Sdist != nil {
		files = append(slices.Clone(files), *e.Sdist)
	}
	if e.Archive != nil {
		if e.Archive.URL == "" {
			return pinned{}, errors.New("it is a file of another machine; give it with wheels=")
		}
		reference, files = e.Name+" @ "+e.Archive.URL, []pylockFile{*e.Archive}
	}
	if e.Marker != "" {
		reference += " ; " + e.Marker
	}
	var hashes []string
	for _, f := range files {
		if u, err := url.Parse(f.URL); err != nil || u.User != nil {
			return pinned{}, errors.New("a URL of it cannot be read or holds a user name")
		}
		if hash := f.Hashes["sha256"]; sha256Hex.MatchString(hash) {
			hashes = append(hashes, "--hash=sha256:"+hash)
		}
	}
	slices.Sort(hashes)
	return readPin(strings.Join(append([]string{reference}, slices.Compact(hashes)...), " "))
}

// lockedText completes a lock with what is not in it: the worker's own packages
// and the local wheels, which added lists as uv has chosen them.
func lockedText(packages []pinned, added string) string {
	named := map[string]bool{}
	for _, p := range packages {
		named[p.name] = true
	}
	var out strings.Builder
	out.WriteString(lockText(packages))
	keep := false
	for line := range strings.Lines(added) {
		if !strings.HasPrefix(line, " ") {
			match := namePattern.FindStringSubmatch(strings.TrimSpace(line))
			keep = match != nil && !named[normalise(match[1])]
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

// pins are the versions of a lock as constraints, which have no hashes.
func pins(packages []pinned) string {
	var out strings.Builder
	for _, p := range packages {
		out.WriteString(p.reference + "\n")
	}
	return out.String()
}
