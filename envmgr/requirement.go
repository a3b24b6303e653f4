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
		return errors.New("its URL carries a user name or password: set UV_INDEX_URL or use a netrc file instead")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("it refers to %q: only http and https are supported", u.Scheme+":")
	}
	return nil
}

// requirements are the user's, sorted, and those of the harness that the user
// does not name.
func (s *Store) requirements(texts []string) ([]requirement, error) {
	if len(texts) > requirementsMax {
		return nil, diag.New(diag.NotResolved, "an environment has %d requirements, at most %d are allowed", len(texts), requirementsMax)
	}
	var all []requirement
	named := map[string]bool{}
	for i, text := range texts {
		r, err := parseRequirement(text)
		if err != nil {
			return nil, diag.New(diag.NotResolved, "requirement %d of the environment cannot be used: %v", i+1, err).
				WithHint(`write requirements as "numpy==2.2.*" or "pandas[parquet]>=2"`)
		}
		named[r.name] = true
		all = append(all, r)
	}
	for _, r := range s.harness {
		if !named[r.name] {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b requirement) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(all, func(a, b requirement) bool { return a.text == b.text }), nil
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
