//go:build amd64 || arm64

package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// ownArchitecture is this processor's.
var ownArchitecture = map[string]arch{"amd64": amd64, "arm64": arm64}[runtime.GOARCH]

// kernelFilter is a filter as the kernel takes it.
func kernelFilter(o filterOptions) []unix.SockFilter {
	program := ownArchitecture.filter(o)
	filters := make([]unix.SockFilter, len(program))
	for i, f := range program {
		filters[i] = unix.SockFilter{Code: f.code, Jt: f.jt, Jf: f.jf, K: f.k}
	}
	return filters
}
