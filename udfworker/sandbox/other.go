//go:build !linux || (!amd64 && !arm64)

package sandbox

import (
	"errors"
	"runtime"
	"syscall"
)

// Start is of Linux alone, on processors that there is a filter of system calls for.
func Start(Spec, uintptr, uintptr, func(*syscall.SysProcAttr, func() error) error) (*Process, error) {
	return nil, &Error{Layer: layerHelper, Text: errors.ErrUnsupported.Error()}
}

// Door leads nowhere, since there are no namespaces.
type Door struct{}

// OpenDoor finds none.
func OpenDoor(int) (*Door, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Door) Close() {}

// MakeRoom makes none.
func (*Door) MakeRoom(string, int64, int64) error { return errors.ErrUnsupported }

// ClearRoom finds none.
func (*Door) ClearRoom(string) error { return errors.ErrUnsupported }

// Probe finds L0.
func Probe() Report {
	reason := "there is none for " + runtime.GOOS + " on " + runtime.GOARCH
	return Report{Layers: []Layer{
		{Name: layerLandlock, Level: L1, Reason: reason},
		{Name: layerSeccomp, Level: L1, Reason: reason},
		{Name: layerUser, Level: L2, Reason: reason},
	}}
}
