// Package sandbox shuts workers in. What the kernel lets a process take off is
// written down as a list of system calls (script_linux.go), layer by layer; a
// new process makes them and then becomes Python. What a machine offers is found
// by doing it once; see Level.
//
// The package imports x/sys only: what is trusted to confine stays small.
package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
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

// MountsMax bounds the folders and files that a function may be given.
const MountsMax = 64

// Mount is a file or folder of the machine that a worker sees.
type Mount struct {
	// Path is absolute and clean, the same inside as outside.
	Path string `json:"path"`
	// Write lets the worker write there.
	Write bool `json:"write,omitempty"`
	// Exact says that no part of the path may be a link: where it leads was
	// checked, and must not change.
	Exact bool `json:"exact,omitempty"`
}

// Policy is what a worker may do beyond computing. The zero value is the
// strictest that the machine offers.
type Policy struct {
	Mode Mode `json:"mode,omitempty"`
	// Network leaves the worker the machine's network.
	Network bool `json:"network,omitempty"`
	// Mounts are sorted by path.
	Mounts []Mount `json:"mounts,omitempty"`
}

// Validate reports the first thing that cannot be meant.
func (p Policy) Validate() error {
	if p.Mode != "" && !slices.Contains(Modes, p.Mode) {
		return fmt.Errorf("sandbox must be one of auto, strict, off, not %q", p.Mode)
	}
	if len(p.Mounts) > MountsMax {
		return fmt.Errorf("a function may be given %d mounts at most, not %d; mount a folder that holds them", MountsMax, len(p.Mounts))
	}
	for i, m := range p.Mounts {
		switch {
		case !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || strings.ContainsRune(m.Path, 0):
			return fmt.Errorf("the mount %q is not an absolute, clean path", m.Path)
		case m.Path == "/":
			return errors.New("the root of the file system cannot be mounted; name the folders that the function needs")
		case i > 0 && p.Mounts[i-1].Path >= m.Path:
			return fmt.Errorf("the mounts are not sorted, or %q stands twice", m.Path)
		}
	}
	return nil
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
		b.WriteString("\x01" + m.Path)
		if m.Write {
			b.WriteString("\x02")
		}
	}
	return b.String()
}
