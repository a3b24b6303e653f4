//go:build !linux

package file

import (
	"errors"
	"os"
)

// createUnnamed is not possible here; the file gets a temporary name instead.
func createUnnamed(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func (b *beside) link(string) error { return errors.ErrUnsupported }

// exchange is not possible here.
func exchange(string, string) error { return errors.ErrUnsupported }
