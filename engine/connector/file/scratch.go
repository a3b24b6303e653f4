package file

import (
	"errors"
	"os"
)

// Scratch makes a folder for what is of use only while this process lives, and
// removes those of processes that were killed. The caller removes it.
func Scratch(parent, prefix string) (folder string, remove func() error, err error) {
	sweep(parent, prefix)
	folder, lock, err := lockedFolder(parent, prefix)
	if err != nil {
		return "", nil, err
	}
	return folder, func() error { return errors.Join(os.RemoveAll(folder), lock.Close()) }, nil
}
