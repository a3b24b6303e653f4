//go:build unix && !linux

package udfworker

import (
	"errors"
	"net"
	"os"

	"github.com/alink-runtime/alink/udfworker/cgroup"
)

// There are no zygotes here, since there are no control groups.

func controlPair() (*net.UnixConn, *os.File, error) { return nil, nil, errors.ErrUnsupported }

func (z *zygote) hear() (int, error) { return 0, errors.ErrUnsupported }

func (z *zygote) settleLocked() error { return errors.ErrUnsupported }

type passed []int

func (passed) close() {}

func dial(string, string) (passed, error) { return nil, errors.ErrUnsupported }

func (z *zygote) fork(*cgroup.Group, []byte, passed, func(int) bool) (*Child, error) {
	return nil, errors.ErrUnsupported
}
