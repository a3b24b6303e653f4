//go:build !linux && !darwin

package file

import "os"

// lockedFolder makes a hidden folder.
func lockedFolder(parent, prefix string) (string, *os.File, error) {
	folder, err := os.MkdirTemp(parent, prefix+"*"+stagingSuffix)
	if err != nil {
		return "", nil, err
	}
	lock, err := os.Open(folder)
	return folder, lock, err
}

// sweep cannot tell here whose folders are left.
func sweep(string, string) {}

func diskSpace(string) (free, whole uint64, ok bool) { return 0, 0, false }
