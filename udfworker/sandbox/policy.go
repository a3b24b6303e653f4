// Package sandbox shuts workers in. What the kernel lets a process take off is
// written down as a list of system calls (script_linux.go), layer by layer; a
// new process makes them and then becomes Python. What a machine offers is found
// by doing it once; see Level.
//
// The package imports x/sys and grant only: what is trusted to confine stays small.
package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/grant"
)

// Mode says how much of a sandbox is asked for.
type Mode string

// The modes.
const (
	// Auto takes the best level that the machine offers; it is what "" means.
	Auto Mode = "auto"
	// Strict starts no worker below L2.
	Strict Mode = "strict"
	// Off starts plain processes, with a clean environment and limits.
	Off Mode = "off"
)

// Modes are the modes that can be asked for, the default first.
var Modes = []Mode{Auto, Strict, Off}

// Policy is what a worker may do beyond computing. The zero value is the
// strictest that the machine offers.
type Policy struct {
	Mode Mode `json:"mode,omitempty"`
	// Network leaves the worker the machine's network.
	Network bool `json:"network,omitempty"`
	// Mounts are sorted by path.
	Mounts []grant.Mount `json:"mounts,omitempty"`
}

// Validate reports the first thing that cannot be meant.
func (p Policy) Validate() error {
	if p.Mode != "" && !slices.Contains(Modes, p.Mode) {
		return fmt.Errorf("sandbox must be one of auto, strict, off, not %q", p.Mode)
	}
	return grant.CheckMounts(p.Mounts)
}

// Key is equal for equal policies and differs otherwise.
func (p Policy) Key() string {
	var b strings.Builder
	mode := p.Mode
	if mode == "" {
		mode = Auto
	}
	b.WriteString(string(mode))
	if p.Network {
		b.WriteString(",network")
	}
	for _, m := range p.Mounts {
		b.WriteString(" " + m.Key())
	}
	return b.String()
}
