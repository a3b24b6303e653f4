package sandbox

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// architectures are those that there is a filter for, by Go's names.
var architectures = map[string]arch{"amd64": amd64, "arm64": arm64}

func ownArchitecture() (arch, error) {
	a, ok := architectures[runtime.GOARCH]
	if !ok {
		return arch{}, errors.New("there is no sandbox for the processor " + runtime.GOARCH)
	}
	return a, nil
}

// install puts a filter on the calling thread and on what it starts.
func install(o filterOptions) error {
	a, err := ownArchitecture()
	if err != nil {
		return err
	}
	program := a.filter(o)
	filters := make([]unix.SockFilter, len(program))
	for i, f := range program {
		filters[i] = unix.SockFilter{Code: f.code, Jt: f.jt, Jf: f.jf, K: f.k}
	}
	arguments := unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&arguments)))
	if errno != 0 {
		return errno
	}
	return nil
}
