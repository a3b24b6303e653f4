//go:build linux || darwin

package file

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockedFolder makes a hidden folder whose lock tells that its process lives.
func lockedFolder(parent, prefix string) (string, *os.File, error) {
	for {
		folder, err := os.MkdirTemp(parent, prefix+"*"+stagingSuffix)
		if err != nil {
			return "", nil, err
		}
		lock, err := os.Open(folder)
		if os.IsNotExist(err) {
			continue // swept before it was locked
		}
		if err != nil {
			return "", nil, err
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if _, err := os.Stat(folder); err == nil {
				return folder, lock, nil
			}
		}
		_ = lock.Close() // swept
	}
}

// sweep removes what killed processes have left in a folder.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // it is told when something is written there
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !strings.Contains(e.Name(), stagingSuffix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		lock, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path) // tried again by the next write
		}
		_ = lock.Close()
	}
}

// diskSpace is what is free and what there is of a disk.
func diskSpace(path string) (free, whole uint64, ok bool) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, 0, false
	}
	return stat.Bavail * uint64(stat.Bsize), stat.Blocks * uint64(stat.Bsize), true
}
