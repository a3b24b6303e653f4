package plan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/grant"
)

// Bounds of what a function may be given.
const (
	secretBytesMax  = 8 << 10
	isolationShared = "shared"
	isolationOwn    = "own"
)

// Sandboxes are the values of FunctionOptions.Sandbox, the weakest first.
var Sandboxes = []string{"off", "auto", "strict"}

// Secret is a value that is not shown: it can be read from JSON, and is never
// written to it or printed.
type Secret string

// hidden is what stands for a secret.
const hidden = "(secret)"

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// Reveal is the value.
func (s Secret) Reveal() string { return string(s) }

// Confinement is what a function may do beyond computing.
type Confinement struct {
	// Sandbox is one of Sandboxes, or "" where the engine's holds.
	Sandbox string
	Network bool
	Mounts  []grant.Mount
	// Secrets are variables of the worker's environment.
	Secrets map[string]Secret
	// Isolation is "" where any function of the same client may run in the same
	// worker, or else names those that may.
	Isolation string
}

// Confinement gives what f may do.
func (p *Plan) Confinement(f *Function) Confinement {
	c := Confinement{Sandbox: f.Options.Sandbox, Network: f.Options.Network, Mounts: f.Options.Mounts, Isolation: f.isolation()}
	for _, name := range f.Options.Secrets {
		if c.Secrets == nil {
			c.Secrets = map[string]Secret{}
		}
		c.Secrets[name] = p.Secrets[name]
	}
	return c
}

// isolation names the code of a function that wants workers of its own, so
// that its workers are found again by the next job that uses it.
func (f *Function) isolation() string {
	if f.Options.Isolation != isolationOwn {
		return ""
	}
	code := strings.Join(append([]string{f.Code.Artifact, f.Code.Source, f.Code.Name, f.Code.Attribute}, f.Modules...), "\x00")
	return fmt.Sprintf("%x", sha256.Sum256([]byte(code)))
}

// WorkerKey is equal for functions that may run in one worker, as far as their
// options say.
func (f *Function) WorkerKey() string {
	o := f.Options
	key := fmt.Sprintf("%d %s %t %s", f.MemoryBytes(), o.Sandbox, o.Network, f.isolation())
	for _, m := range o.Mounts {
		key += " " + m.Key()
	}
	return key + fmt.Sprintf(" %q", o.Secrets)
}

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// validateConfinement checks the options that say what f may do.
func (p *Plan) validateConfinement(f *Function) error {
	o := f.Options
	if o.Sandbox != "" && !slices.Contains(Sandboxes, o.Sandbox) {
		return fmt.Errorf("sandbox must be auto, strict or off, not %q", o.Sandbox)
	}
	if o.Isolation != "" && o.Isolation != isolationShared && o.Isolation != isolationOwn {
		return fmt.Errorf("isolation must be shared or own, not %q", o.Isolation)
	}
	if err := grant.CheckMounts(o.Mounts); err != nil {
		return err
	}
	bytes := 0
	for _, name := range o.Secrets {
		value, ok := p.Secrets[name]
		switch {
		case !secretName.MatchString(name):
			return fmt.Errorf("the secret %q is not the name of a variable", name)
		case !ok:
			return fmt.Errorf("the secret %q is not in the plan", name)
		case strings.ContainsRune(string(value), 0):
			return fmt.Errorf("the secret %s holds a zero byte", name)
		}
		if bytes += len(name) + len(value); bytes > secretBytesMax {
			return fmt.Errorf("its secrets hold more than %d bytes: mount a file that holds them", secretBytesMax)
		}
	}
	return nil
}
