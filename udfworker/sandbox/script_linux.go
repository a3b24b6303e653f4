//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A script is a list of system calls that a new process makes before it becomes
// a worker. The process shares the memory of this one, whose thread waits
// meanwhile (CLONE_VM, CLONE_VFORK), as it is when Go itself starts a program:
// nothing is copied, no program is loaded but the worker's, and what came of the
// calls can be read here. It must make bare system calls only, since the threads
// of Go's runtime are not there; so all that needs thought, or memory, is done
// before, when the script is written.
type script struct {
	steps []step
	// labels say what each step is about.
	labels []label
	parts  []part
	// kept holds what the arguments of steps point to.
	kept []unsafe.Pointer
	// layer is what the next steps belong to.
	layer string

	// What came of it: whether it was run, the step that was begun last, the error
	// that ended it, the numbers of the processes that it has started.
	ran           bool
	at            int32
	failed        syscall.Errno
	first, worker int32
}

// step is a system call.
type step struct {
	number uintptr
	args   [6]uintptr
	// from takes the place of the first argument: a result of a step before.
	from *int32
	// unless passes the step over where it is negative.
	unless *int32
	// into gets the result, or the negative number of the error.
	into *int32
	// may is an error that is none, mayAny says that all are.
	may    syscall.Errno
	mayAny bool
	// expected says that another result than want is the error otherwise.
	expected  bool
	want      uintptr
	otherwise syscall.Errno
}

// label is what an error of a step says.
type label struct {
	layer, path string
	// doing comes before the error's own text.
	doing string
	// meaning are other texts for some errors.
	meaning map[syscall.Errno]string
}

// part is a range of steps that one process makes.
type part struct {
	from, to int
	// pid gets the number of a process of the part's own, which ends with it;
	// nil is the process that runs the script.
	pid *int32
	// stack is the stack pointer of that process.
	stack uintptr
}

const (
	// stackWords is a stack's size, which the linker bounds: below run nothing
	// may ask for more (nosplit).
	stackWords = 1024
	// scriptTime bounds how long the calls may take: one may wait for a file
	// system that does not answer.
	scriptTime = 10 * time.Second
	// signalWords is the size of a set of signals.
	signalWords = 8
)

// pointer gives an argument that points to what must stay where it is.
func (s *script) pointer(to unsafe.Pointer) uintptr {
	s.kept = append(s.kept, to)
	return uintptr(to)
}

// text gives an argument that is a string.
func (s *script) text(t string) uintptr {
	return s.pointer(unsafe.Pointer(unsafe.SliceData(append([]byte(t), 0))))
}

// texts gives an argument that is a list of strings, as execve takes it.
func (s *script) texts(list []string) uintptr {
	pointers := make([]uintptr, len(list)+1)
	for i, t := range list {
		pointers[i] = s.text(t)
	}
	return s.pointer(unsafe.Pointer(&pointers[0]))
}

// add appends a call to the part; the step may be refined until the next one.
func (s *script) add(about label, number uintptr, args ...uintptr) *step {
	about.layer = s.layer
	s.labels = append(s.labels, about)
	p := step{number: number}
	copy(p.args[:], args)
	s.steps = append(s.steps, p)
	return &s.steps[len(s.steps)-1]
}

// endInTime has a process ended that hangs. A program that it becomes has no
// timer any more.
func (s *script) endInTime() {
	timer, event := new(int32), &struct {
		value          uint64
		signal, notify int32
		_              [6]uint64
	}{signal: int32(unix.SIGKILL)}
	s.add(label{}, unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, s.pointer(unsafe.Pointer(event)), s.pointer(unsafe.Pointer(timer)))
	limit := &[2]unix.Timespec{1: unix.NsecToTimespec(scriptTime.Nanoseconds())}
	s.add(label{}, unix.SYS_TIMER_SETTIME, 0, 0, s.pointer(unsafe.Pointer(limit)), 0).from = timer
}

// process ends the part that was being written and begins one for a process of
// its own, whose number goes to pid, or, with nil, the script's own next.
func (s *script) process(pid *int32) {
	s.end()
	s.parts = append(s.parts, part{from: len(s.steps), pid: pid})
}

func (s *script) end() {
	if n := len(s.parts); n > 0 {
		s.parts[n-1].to = len(s.steps)
	}
}

// stack makes a stack for a new process, with enter's arguments on it.
func (s *script) stack(at int) (top uintptr, words int) {
	stack := make([]uintptr, stackWords)
	base := s.pointer(unsafe.Pointer(&stack[0]))
	// The stack pointer is a multiple of 16 at the call; on amd64 the new process
	// goes over one word first.
	words = stackWords - 8
	words -= int(base / 8 % 2)
	if runtime.GOARCH == "amd64" {
		words--
	}
	stack[words+1], stack[words+2] = uintptr(unsafe.Pointer(s)), uintptr(at)
	return base + uintptr(8*words), words
}

// cloneOn makes a clone (SYS_CLONE or SYS_CLONE3, with the call's first three
// arguments) that runs enter on the stack that the arguments name. It gives the
// number of the new process, or the negative number of an error.
func cloneOn(number, a, b, c uintptr) int

// childFlags are of the processes that a script starts. The number is known
// before the process runs: it may have to be ended.
const childFlags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID

// scriptItself stands for the process that runs the script, among parts.
const scriptItself = -1

var _ = enter // which is called by cloneOn

// enter is where a new process starts: the script's, or that of one of its parts.
//
//go:norace
//go:nosplit
func enter(s *script, at int) {
	status := uintptr(0)
	switch {
	case at != scriptItself:
		s.run(&s.parts[at])
		status = 1 // it should have become a program
	default:
		for i := range s.parts {
			p := &s.parts[i]
			if p.pid == nil {
				s.run(p)
			} else if pid := cloneOn(unix.SYS_CLONE, childFlags, p.stack, uintptr(unsafe.Pointer(p.pid))); pid < 0 {
				s.at, s.failed = int32(p.from), syscall.Errno(-pid)
			}
			if s.failed != 0 {
				status = 1
				break
			}
		}
	}
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, status, 0, 0)
	}
}

// run makes the calls of a part.
//
//go:norace
//go:nosplit
func (s *script) run(p *part) {
	for i := p.from; i < p.to; i++ {
		c := &s.steps[i]
		if c.unless != nil && *c.unless < 0 {
			continue
		}
		s.at = int32(i)
		first := c.args[0]
		if c.from != nil {
			first = uintptr(*c.from)
		}
		result, _, errno := syscall.RawSyscall6(c.number, first, c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if c.into != nil {
			*c.into = int32(result)
			if errno != 0 {
				*c.into = -int32(errno)
			}
		}
		if errno == 0 && c.expected && result != c.want {
			errno = c.otherwise
		}
		if errno != 0 && errno != c.may && !c.mayAny {
			s.failed = errno
			return
		}
	}
}

// cloneArgs is struct clone_args of clone3.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// launch runs the script in a process of its own with the namespaces that flags
// name, in the control group that attributes may name. It gives that process's
// number if the process has become a program, or 0. All processes that it has
// started otherwise, and that have not become programs, are reaped.
func (s *script) launch(flags uintptr, attributes *syscall.SysProcAttr) (pid int, err error) {
	s.end()
	for i := range s.parts {
		if s.parts[i].pid != nil {
			s.parts[i].stack, _ = s.stack(i)
		}
	}
	top, words := s.stack(scriptItself)
	flags |= unix.CLONE_VM | unix.CLONE_VFORK
	number, a, b := uintptr(unix.SYS_CLONE), flags, top
	if attributes.UseCgroupFD {
		size := uint64(8 * words)
		arguments := &cloneArgs{
			flags: uint64(flags) | unix.CLONE_INTO_CGROUP, stack: uint64(top) - size, stackSize: size, cgroup: uint64(attributes.CgroupFD),
		}
		number, a, b = unix.SYS_CLONE3, s.pointer(unsafe.Pointer(arguments)), unsafe.Sizeof(*arguments)
	}
	result := s.clone(number, a, b)
	s.ran = result >= 0
	if !s.ran {
		return 0, &Error{Layer: cloneLayer(flags, syscall.Errno(-result)), Text: syscall.Errno(-result).Error()}
	}
	// The process tells nobody of its end, so nobody else reaps it; once it is
	// a program it does, and is found no more.
	found, status, _ := reapSilent(result, 0)
	ended := found == result
	killed := ended && status.Signaled()
	for _, child := range []int32{s.first, s.worker} {
		if child != 0 && endSilent(int(child)) {
			killed = true
		}
	}
	runtime.KeepAlive(s) // nobody runs on it any more
	switch {
	case s.failed != 0:
		return 0, s.fault()
	case killed:
		s.failed = unix.ETIMEDOUT
		return 0, s.because(fmt.Sprintf("its process was ended, by somebody or after %s", scriptTime))
	case ended:
		return 0, nil
	}
	return result, nil
}

// clone makes the first process, with all signals held back: it must not run
// this process's handlers. The threads of Go's runtime that start programs wait,
// so that no descriptor is inherited that is not meant to be.
func (s *script) clone(number, a, b uintptr) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, before := ^uint64(0), new(uint64)
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(before)), signalWords, 0, 0)
	result := cloneOn(number, a, b, 0)
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(before)), 0, signalWords, 0, 0)
	return result
}

// reapSilent waits for a child that tells nobody of its end; there is none if it
// has become a program.
func reapSilent(pid, options int) (found int, status syscall.WaitStatus, err error) {
	for {
		found, err = syscall.Wait4(pid, &status, unix.WCLONE|options, nil)
		if !errors.Is(err, unix.EINTR) {
			return found, status, err
		}
	}
}

// endSilent ends a child unless it has become a program, and says whether it has
// not. It may still be running, on this process's memory, where the process that
// has started it was ended.
func endSilent(pid int) bool {
	found, _, err := reapSilent(pid, unix.WNOHANG)
	if err != nil {
		return false
	}
	if found == 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _, _ = reapSilent(pid, 0)
	}
	return true
}

// fault describes the step that failed.
func (s *script) fault() *Error {
	about := s.labels[s.at]
	text, ok := about.meaning[s.failed]
	if !ok {
		text = s.failed.Error()
	}
	if about.doing != "" {
		text = about.doing + ": " + text
	}
	e := s.because(text)
	e.Missing = errors.Is(s.failed, unix.ENOENT)
	return e
}

func (s *script) because(text string) *Error {
	about := s.labels[s.at]
	return &Error{Layer: about.layer, Path: about.path, Text: text}
}

// done lists the layers that are on, of a script that may have failed.
func (s *script) done() (layers []string) {
	left := s.labels
	switch {
	case !s.ran:
		return nil
	case s.failed != 0:
		left = s.labels[:s.at]
	}
	for _, l := range left {
		pending := slices.ContainsFunc(s.labels[len(left):], func(o label) bool { return o.layer == l.layer })
		if !pending && !slices.Contains(layers, l.layer) {
			layers = append(layers, l.layer)
		}
	}
	return layers
}

// cloneLayer is the layer that failed when the first process was not made.
func cloneLayer(flags uintptr, errno syscall.Errno) string {
	if flags&unix.CLONE_NEWUSER != 0 && errno != unix.ENOMEM && errno != unix.EAGAIN {
		return layerUser
	}
	return layerHelper
}
