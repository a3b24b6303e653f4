//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinement writes the script of a worker.
type confinement struct {
	Spec
	*script
	// stdin, stdout and end are what the worker, and process 1, get.
	stdin, stdout, endPipe uintptr
	// trial puts on all layers and runs nothing of anybody's.
	trial bool
	// shows is what the worker sees, links are folders of the system that are
	// links, with what they lead to.
	shows []wanted
	links map[string]string
	// mountedProc is negative where process 1 could not mount a private /proc.
	mountedProc int32
	// notes are layers that are missing without being needed.
	notes []Error
}

// insideID is what the worker sees itself as. Outside it is the engine's user.
const insideID = 1000

// write writes the script. At L1 its process becomes the worker. At L2 it starts
// two processes in a new pid namespace, of which it is no member, and ends: the
// reaper, process 1 there, and the worker. Both are made children of its
// parent's (CLONE_PARENT), so that the supervisor has the worker's own wait
// status and its number in its own namespace. They get all layers that were put
// on by then.
func (c *confinement) write() error {
	c.links = systemLinks()
	c.shows = c.wants()
	c.layer = layerHelper
	c.process(nil)
	c.prepare()
	if c.Level >= L2 {
		c.layer = layerMounts
		if err := c.ownRoot(); err != nil {
			return err
		}
	}
	c.layer = layerCapabilities
	c.dropCapabilities()
	c.layer = layerPrivileges
	c.add(label{}, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	c.layer = layerLandlock
	if err := c.landlock(); err != nil {
		return err
	}
	c.layer = layerLimits // the last that may need descriptors has them
	c.limit()
	c.layer = layerSeccomp
	c.seccomp()
	c.become()
	return nil
}

// prepare readies the process.
func (c *confinement) prepare() {
	c.dieWithParent()
	c.add(label{}, unix.SYS_SETPGID, 0, 0)
	c.endInTime()
	// Of this process's descriptors the program gets the first three.
	c.add(label{}, unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC).mayAny = true // most are so anyway
	// Short of memory the kernel ends workers before engines. It is a wish.
	c.file("/proc/self/oom_score_adj", unix.O_WRONLY, 0, "500", true)
	// A program starts with no signal held back; handlers are this process's own
	// until then.
	for signal := uintptr(1); signal <= signalsMax; signal++ {
		if caught(signal) {
			c.action(signal, 0)
		}
	}
}

// dieWithParent has the kernel end this process with the supervisor.
func (c *confinement) dieWithParent() {
	c.add(label{}, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	// Not "is it 1?": an engine in a container is process 1.
	p := c.add(label{meaning: map[syscall.Errno]string{unix.ESRCH: "the supervisor is gone"}}, unix.SYS_GETPPID)
	p.expected, p.want, p.otherwise = true, uintptr(os.Getpid()), unix.ESRCH
}

// signalsMax is the number of signals.
const signalsMax = 64

// signalAction is struct sigaction of the kernel, large enough for each
// architecture.
type signalAction struct {
	handler uintptr
	_       [3]uint64
}

// signalIgnored is the handler SIG_IGN.
const signalIgnored = 1

// caught says whether this process handles a signal.
func caught(signal uintptr) bool {
	var action signalAction
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, signal, 0, uintptr(unsafe.Pointer(&action)), signalWords, 0, 0)
	return errno == 0 && action.handler > signalIgnored
}

// action sets what a signal does.
func (c *confinement) action(signal, handler uintptr) {
	c.add(label{}, unix.SYS_RT_SIGACTION, signal, c.pointer(unsafe.Pointer(&signalAction{handler: handler})), 0, signalWords)
}

// file writes a file.
func (c *confinement) file(path string, flags, mode uintptr, text string, optional bool) {
	fd, at := new(int32), label{doing: "write " + path}
	open := c.add(at, unix.SYS_OPENAT, c.here(), c.text(path), flags|unix.O_CLOEXEC, mode)
	open.into, open.mayAny = fd, optional
	write := c.add(at, unix.SYS_WRITE, 0, c.text(text), uintptr(len(text)))
	write.from, write.unless, write.mayAny = fd, fd, optional
	shut := c.add(at, unix.SYS_CLOSE)
	shut.from, shut.unless = fd, fd
}

// here is the folder that paths of calls start from: the working directory.
func (s *script) here() uintptr {
	at := unix.AT_FDCWD
	return uintptr(at)
}

// limit sets limits that nobody in the sandbox can raise again.
func (c *confinement) limit() {
	limits := []struct {
		resource int
		value    int64
	}{
		{unix.RLIMIT_FSIZE, c.Limits.FileBytes},
		{unix.RLIMIT_NOFILE, c.Limits.OpenFiles},
		{unix.RLIMIT_DATA, c.Limits.DataBytes},
	}
	if c.Level >= L2 {
		limits = append(limits, struct {
			resource int
			value    int64
		}{unix.RLIMIT_NPROC, c.Limits.Processes})
	}
	set := func(resource int, value uint64) {
		limit := &unix.Rlimit{Cur: value, Max: value}
		c.add(label{}, unix.SYS_PRLIMIT64, 0, uintptr(resource), c.pointer(unsafe.Pointer(limit)), 0)
	}
	for _, l := range limits {
		var now unix.Rlimit
		if l.value == 0 || unix.Getrlimit(l.resource, &now) == nil && now.Max <= uint64(l.value) {
			continue
		}
		set(l.resource, uint64(l.value))
	}
	set(unix.RLIMIT_CORE, 0)
}

// dropCapabilities gives up all, those that a program could bring included. In
// a user namespace of its own, or as root, the thread has the right to.
func (c *confinement) dropCapabilities() {
	const capabilitiesMax = 64
	for n := range uintptr(capabilitiesMax) {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, n, 0, 0, 0); err != nil {
			break // the kernel has no more
		}
		// An ordinary user may not; to him no_new_privs does the same.
		c.add(label{}, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n).may = unix.EPERM
	}
	c.add(label{}, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	header, none := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, new([2]unix.CapUserData)
	c.add(label{}, unix.SYS_CAPSET, c.pointer(unsafe.Pointer(header)), c.pointer(unsafe.Pointer(none)))
}

// seccomp puts the filter on the process.
func (c *confinement) seccomp() {
	program := kernelFilter(filterOptions{
		network: c.Network, denyUnmapped: c.DenyUnmapped, ownIPC: c.Level >= L2, ownProcesses: c.Level >= L2,
	})
	arguments := &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	c.add(label{}, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, c.pointer(unsafe.Pointer(arguments)))
}

// become starts the program.
func (c *confinement) become() {
	argv, env, dir := c.Argv, c.Env, c.Dir
	if c.trial {
		if c.Level < L2 {
			return
		}
		argv, env, dir = []string{reaperPath}, nil, "/"
	}
	if c.Level < L2 {
		// Changing credentials has cleared the wish to die with the supervisor.
		c.layer = layerHelper
		c.dieWithParent()
		c.layer = LayerProgram
	} else {
		c.layer = LayerProgram
		c.process(&c.worker)
		c.add(label{}, unix.SYS_SETPGID, 0, 0)
	}
	c.add(label{path: dir}, unix.SYS_CHDIR, c.text(dir))
	c.execute(argv, env, c.stdin, c.stdout, c.stdout)
}

// execute makes a process a program with the given first descriptors.
func (c *confinement) execute(argv, env []string, files ...uintptr) {
	for i, fd := range files {
		c.add(label{}, unix.SYS_DUP3, fd, uintptr(i), 0)
	}
	c.add(label{}, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, c.pointer(unsafe.Pointer(new(uint64))), 0, signalWords)
	c.add(label{path: argv[0]}, unix.SYS_EXECVE, c.text(argv[0]), c.texts(argv), c.texts(env))
}

// ownUser gives the user of the engine a number in the user namespace.
func (c *confinement) ownUser() {
	c.file("/proc/self/uid_map", unix.O_WRONLY, 0, fmt.Sprintf("%d %d 1", insideID, os.Geteuid()), false)
	c.file("/proc/self/setgroups", unix.O_WRONLY, 0, "deny", false)
	c.file("/proc/self/gid_map", unix.O_WRONLY, 0, fmt.Sprintf("%d %d 1", insideID, os.Getegid()), false)
}

// ownProcesses makes a pid namespace and, in the new root, which is the working
// directory, process 1 in it, which mounts a private /proc before it becomes the
// reaper: the kernel lets nobody else. Where /proc of the machine is masked, as
// in containers, that is refused, and the worker has none; Python and its
// libraries live without.
func (c *confinement) ownProcesses() {
	c.add(label{}, unix.SYS_UNSHARE, unix.CLONE_NEWPID)
	c.process(&c.first)
	c.layer = layerProc
	mount := c.add(label{}, unix.SYS_MOUNT, c.text("proc"), c.text("proc"), c.text("proc"),
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, 0)
	mount.into, mount.mayAny = &c.mountedProc, true
	c.layer = layerProcesses
	// It reaps nobody, which is kept over the execution. Its capabilities are not.
	c.action(uintptr(unix.SIGCHLD), signalIgnored)
	c.add(label{}, unix.SYS_CLOSE, 1)
	c.add(label{}, unix.SYS_CLOSE, 2)
	c.execute([]string{"." + reaperPath}, nil, c.endPipe)
	c.process(nil)
}
