// Package grant says what functions may be given of the machine that they run
// on: plans ask for it, and the sandbox hands it out. It imports nothing of
// ours.
package grant

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// MountsMax bounds the folders and files that a function may be given.
const MountsMax = 64

// Mount is a file or folder of the machine that a function sees.
type Mount struct {
	// Path is absolute and clean, the same inside as outside.
	Path string `json:"path"`
	// Write lets the function write there.
	Write bool `json:"write,omitempty"`
	// Exact says that no part of the path may be a link: where it leads was
	// checked, and must not change.
	Exact bool `json:"exact,omitempty"`
}

// Key is equal for equal mounts and differs otherwise.
func (m Mount) Key() string { return fmt.Sprintf("%q %t %t", m.Path, m.Write, m.Exact) }

// CheckMounts reports the first thing about a function's mounts that cannot be
// meant. They are sorted by path.
func CheckMounts(mounts []Mount) error {
	if len(mounts) > MountsMax {
		return fmt.Errorf("at most %d mounts are possible, not %d: mount a folder that holds them", MountsMax, len(mounts))
	}
	for i, m := range mounts {
		switch {
		case !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || strings.ContainsRune(m.Path, 0):
			return fmt.Errorf("the mount %q is not an absolute, clean path", m.Path)
		case m.Path == "/":
			return errors.New("the root of the file system cannot be mounted: name the folders that the function needs")
		case i > 0 && mounts[i-1].Path >= m.Path:
			return fmt.Errorf("the mounts are not sorted, or %q stands twice", m.Path)
		}
	}
	return nil
}
