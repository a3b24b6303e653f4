package sandbox

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstProcess is what process 1 of a pid namespace needs to start. It is
// prepared beforehand: between fork and execution nothing may be allocated.
type firstProcess struct {
	path, proc, target *byte
	flags              uintptr
	argv, envp         [2]*byte
}

func cString(text string) *byte { return &append([]byte(text), 0)[0] }

// start forks process 1. The child shares no memory with this process, whose
// thread waits (CLONE_VFORK) until the child has mounted /proc and executed the
// reaper. Only bare system calls are made in the child: the threads of Go's
// runtime are not there.
//
//go:norace
//go:nosplit
func (f *firstProcess) start() (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD)|unix.CLONE_PARENT|unix.CLONE_VFORK, 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	// sealRoot looks whether this worked.
	_, _, _ = syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(f.proc)), uintptr(unsafe.Pointer(f.target)),
		uintptr(unsafe.Pointer(f.proc)), f.flags, 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_DUP3, endFD, 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, 1, 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, 2, 0, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(f.path)), uintptr(unsafe.Pointer(&f.argv)), uintptr(unsafe.Pointer(&f.envp)))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
