package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Level says how far a worker is shut in. Each has all of those below.
type Level int

// The levels.
const (
	// L0 is a plain process: a clean environment, limits, a process group.
	L0 Level = iota
	// L1 adds no_new_privs, Landlock and a filter of system calls.
	L1
	// L2 adds namespaces and a root of its own.
	L2
	// L3 adds a control group of its own (cgroup v2).
	L3
	// External is a site's own launcher; what it confines is not known here.
	External
)

var levelNames = []string{"L0", "L1", "L2", "L3", "external"}

// String is the level's name: L0 to L3, external.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// ParseLevel reads a level's name.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames, name); i >= 0 {
		return Level(i), nil
	}
	return L0, fmt.Errorf("%q is no level of the sandbox; there are L0 to L3", name)
}

// MarshalJSON implements json.Marshaler.
func (l Level) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (l *Level) UnmarshalJSON(text []byte) error {
	var name string
	err := json.Unmarshal(text, &name)
	if err == nil {
		*l, err = ParseLevel(name)
	}
	return err
}
