//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// findings are what the start of a process has shown.
type findings struct {
	// layers are on.
	layers []string
	// notes are layers that are missing without being needed.
	notes []Error
}

// Start starts a process with stdin and stdout as its standard input and output,
// and stdout as its standard error too. It must be called on a thread that lives
// as long as the process may: the kernel ends the process when that thread is
// gone. within calls the function that it is given, which forks, and takes from
// the attributes which control group the process is to be in: all that comes of
// it is there from the beginning. An *Error says which layer failed.
func Start(spec Spec, stdin, stdout uintptr, within func(*syscall.SysProcAttr, func() error) error) (*Process, error) {
	process, _, err := start(confinement{Spec: spec, stdin: stdin, stdout: stdout}, within)
	return process, err
}

// alone forks as Start's within does where there is no control group.
func alone(_ *syscall.SysProcAttr, fork func() error) error { return fork() }

func start(c confinement, within func(*syscall.SysProcAttr, func() error) error) (process *Process, told findings, err error) {
	var ends pipes
	defer ends.close()
	endReader, endWriter, err := ends.pipe()
	if err != nil {
		return nil, told, err
	}
	c.endPipe = endReader.Fd()
	// Taking the place of a worker's first descriptors one must not be
	// overwritten by another.
	for _, fd := range []*uintptr{&c.stdin, &c.stdout} {
		copied, err := unix.FcntlInt(*fd, unix.F_DUPFD_CLOEXEC, firstFree)
		if err != nil {
			return nil, told, err
		}
		defer unix.Close(copied)
		*fd = uintptr(copied)
	}
	c.script = &script{}
	if err := c.write(); err != nil {
		return nil, told, err
	}
	var flags uintptr
	if c.Level >= L2 {
		flags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		if !c.Network {
			flags |= unix.CLONE_NEWNET
		}
	}
	process = &Process{}
	attributes := &syscall.SysProcAttr{}
	err = within(attributes, func() (err error) {
		process.PID, err = c.launch(flags, attributes)
		return err
	})
	runtime.KeepAlive(endReader)
	told.notes, told.layers = c.notes, c.done()
	if c.ran && c.Level >= L2 {
		told.layers = append(told.layers, layerUser)
	}
	if c.mountedProc < 0 {
		told.notes = append(told.notes, Error{Layer: layerProc, Text: "the machine's /proc is masked, so that no other can be mounted: workers have none"})
	}
	if err != nil {
		c.abandon(process.PID, endWriter)
		return nil, told, err
	}
	if c.Level >= L2 {
		process.PID, process.Reaper, process.End = int(c.worker), int(c.first), endWriter
		ends.keep(endWriter)
	}
	return process, told, nil
}

// firstFree is the first descriptor that is not standard input, output or error.
const firstFree = 3

// abandon ends what was started of a process that cannot be.
func (c *confinement) abandon(pid int, end *os.File) {
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = end.Close() // ends the namespace
	for _, pid := range []int{pid, int(c.first), int(c.worker)} {
		for pid != 0 {
			if _, err := syscall.Wait4(pid, nil, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
				break // whoever reaps children may have been first
			}
		}
	}
}

// pipes closes what is not kept.
type pipes []*os.File

func (p *pipes) pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err == nil {
		*p = append(*p, r, w)
	}
	return r, w, err
}

func (p *pipes) keep(file *os.File) {
	*p = slices.DeleteFunc(*p, func(f *os.File) bool { return f == file })
}

func (p *pipes) close() {
	for _, f := range *p {
		_ = f.Close() // a pipe's end
	}
}
