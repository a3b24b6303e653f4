//go:build !linux

package sandbox

import (
	"errors"
	"runtime"
	"syscall"
)

// Start is of Linux alone.
func Start(Spec, uintptr, uintptr, func(*syscall.SysProcAttr, func() error) error) (*Process, error) {
	return nil, &Error{Layer: layerHelper, Text: errors.ErrUnsupported.Error()}
}

// Probe finds L0: what confines is the kernel of Linux.
func Probe() Report {
	reason := "there is none for " + runtime.GOOS
	return Report{Layers: []Layer{
		{Name: layerLandlock, Level: L1, Reason: reason},
		{Name: layerSeccomp, Level: L1, Reason: reason},
		{Name: layerUser, Level: L2, Reason: reason},
	}}
}
