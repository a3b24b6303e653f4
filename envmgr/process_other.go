//go:build !linux

package envmgr

import (
	"io/fs"
	"path/filepath"
	"syscall"
)

// processAttributes put a program in a group of its own. When this process
// dies the program runs to its end; the file lock that it holds keeps others
// from what it writes.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// syncTree makes everything below dir survive a loss of power.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		return syncFile(path)
	})
}
