package envmgr

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// requirementsMax bounds the requirements of one environment.
const requirementsMax = 1_000

// requirement is one PEP 508 requirement.
type requirement struct {
	name string // normalised as PEP 503 says
	text string // as the user wrote it, without outer space
	// wheel is the name of the local wheel that it stands for; text then has
	// that and the hash of its content.
	wheel string
}

var (
	namePattern = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)$`)
	separators  = regexp.MustCompile(`[-_.]+`)
)

// normalise gives the one spelling of a package's name (PEP 503).
func normalise(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

// parseRequirement finds a requirement's name and refuses what is not a
// requirement but would mean something in a requirements file: options, other
// files, variables that uv would expand, and what would put a credential into
// the lock. The rest of the syntax is uv's to judge.
func parseRequirement(text string) (requirement, error) {
	text = strings.TrimSpace(text)
	if strings.ContainsAny(text, "\n\r") {
		return requirement{}, errors.New("a requirement is one line")
	}
	match := namePattern.FindStringSubmatch(text)
	if match == nil {
		return requirement{}, errors.New("a requirement begins with the name of a package")
	}
	rest := match[2]
	if strings.ContainsAny(rest, "#$\\") {
		return requirement{}, errors.New("comments, variables and backslashes have no place in a requirement")
	}
	if reference, ok := strings.CutPrefix(rest, "@"); ok {
		if err := checkReference(strings.TrimSpace(reference)); err != nil {
			return requirement{}, err
		}
	} else if strings.Contains(rest, " --") || strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/") {
		return requirement{}, errors.New("options and paths have no place in a requirement")
	}
	return requirement{name: normalise(match[1]), text: text}, nil
}

// checkReference judges the URL of a direct reference. Its text is not
// repeated in the error: it may hold a password.
func checkReference(reference string) error {
	text, _, _ := strings.Cut(reference, " ")
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("what follows the @ is not a URL")
	case u.User != nil:
		return errors.New("its URL carries a user name or password: give the index with index=, or use a netrc file")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("it refers to %q: only http and https are supported", u.Scheme+":")
	}
	return nil
}

// requirements are what has to be chosen: the user's, sorted, with the local
// wheels, and those of the harness that are named in neither, nor in the lock,
// whose packages come apart.
func (s *Store) requirements(spec Spec) ([]requirement, []pinned, error) {
	if len(spec.Requirements) > requirementsMax {
		return nil, nil, diag.New(diag.NotResolved, "an environment has %d requirements, at most %d are allowed", len(spec.Requirements), requirementsMax)
	}
	all, err := wheelRequirements(spec.Wheels)
	if err != nil {
		return nil, nil, err
	}
	for i, text := range spec.Requirements {
		r, err := parseRequirement(text)
		if err != nil {
			return nil, nil, diag.New(diag.NotResolved, "requirement %d of the environment cannot be used: %v", i+1, err).
				WithHint(`write requirements as "numpy==2.2.*" or "pandas[parquet]>=2"; local wheels are given with wheels=`)
		}
		all = append(all, r)
	}
	var locked []pinned
	if spec.Lock.Name != "" {
		if len(spec.Requirements) > 0 {
			return nil, nil, diag.New(diag.BadOption, "an environment has requirements and the lock file %s", spec.Lock.Name).
				WithHint("a lock file says all that is installed: leave the requirements out, or lock them too")
		}
		if locked, err = spec.Lock.read(); err != nil {
			return nil, nil, err
		}
	}
	named := map[string]bool{}
	for _, r := range all {
		named[r.name] = true
	}
	for _, p := range locked {
		named[p.name] = true
	}
	for _, r := range s.harness {
		if !named[r.name] {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b requirement) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(all, func(a, b requirement) bool { return a.text == b.text }), locked, nil
}

func requirementTexts(requirements []requirement) []string {
	texts := make([]string, len(requirements))
	for i, r := range requirements {
		texts[i] = r.text
	}
	return texts
}

// hashJSON is the hash of v's JSON form, which is canonical: the fields of
// structs come in their order, the keys of maps sorted. 128 bits are enough to
// name environments and keep paths short.
func hashJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only structs of strings and numbers are given
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
