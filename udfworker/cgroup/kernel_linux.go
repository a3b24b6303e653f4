package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel says of groups.
const (
	// errBusy: a group has processes, or groups within.
	errBusy = syscall.EBUSY
	// errGone: there is no such process any more.
	errGone = syscall.ESRCH
)

// kernel is the kernel's tree.
type kernel struct{}

func system() tree { return kernel{} }

// Read implements tree.
func (kernel) Read(file string) (string, error) {
	text, err := os.ReadFile(file)
	return string(text), err
}

// Write implements tree.
func (kernel) Write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Mkdir implements tree.
func (kernel) Mkdir(dir string) error { return os.Mkdir(dir, 0o755) }

// Rmdir implements tree.
func (kernel) Rmdir(dir string) error {
	if err := syscall.Rmdir(dir); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// Dirs implements tree.
func (kernel) Dirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Lock implements tree.
func (kernel) Lock(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Delegated implements tree.
func (kernel) Delegated(dir string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		var value [1]byte
		if n, err := unix.Lgetxattr(dir, name, value[:]); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// Kill implements tree.
func (kernel) Kill(pid int) error { return unix.Kill(pid, unix.SIGKILL) }

// Try implements tree. The program does not exist: the error that says so
// comes from within the group.
func (kernel) Try(g *Group) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		attributes := &syscall.SysProcAttr{}
		done <- g.Fork(attributes, func() error {
			const nowhere = "/proc/self/no such program"
			_, err := syscall.ForkExec(nowhere, []string{nowhere}, &syscall.ProcAttr{Sys: attributes})
			if errors.Is(err, syscall.ENOENT) {
				return nil
			}
			return err
		})
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("no process can be started in a group of %s: %w", g.control.pool, err)
	}
	return nil
}

// Open implements tree.
func (kernel) Open(dir string) (io.Closer, int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, -1, err
	}
	return f, int(f.Fd()), nil
}

// OnLimit has f called, on a goroutine of its own, each time when version 1 is
// about to kill a process of the group for its limit or that of a group around
// it: it kills that process alone, and the rest should not find it dead and go
// on. It is called once more when the group is removed. Version 2 kills all.
func (g *Group) OnLimit(f func()) error {
	if g.control.kind == V2 {
		return nil
	}
	counter, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(counter), "eventfd")
	state, err := os.Open(path.Join(g.dir, "memory.oom_control"))
	if err == nil {
		err = g.control.tree.Write(path.Join(g.dir, "cgroup.event_control"), fmt.Sprintf("%d %d", counter, state.Fd()))
		err = errors.Join(err, state.Close())
	}
	if err != nil {
		return errors.Join(err, events.Close())
	}
	g.handle = events // closed by Remove, which ends the goroutine
	go func() {
		var count [8]byte
		for {
			if _, err := events.Read(count[:]); err != nil {
				return
			}
			f()
		}
	}()
	return nil
}

// Fork calls fork, which starts a process with the attributes, so that the
// process is in the group from the beginning. The caller's goroutine must be
// locked to its thread: in version 1 the thread itself is in the group
// meanwhile, and what it starts stays there.
func (g *Group) Fork(attributes *syscall.SysProcAttr, fork func() error) error {
	if g.control.kind == V2 {
		attributes.UseCgroupFD, attributes.CgroupFD = true, g.fd
		return fork()
	}
	const myself = "0"
	write := func(dir string) error { return g.control.tree.Write(path.Join(dir, "tasks"), myself) }
	err := write(g.dir)
	if err == nil && g.tasks != "" {
		err = write(g.tasks)
	}
	if err == nil {
		err = fork()
	}
	if g.tasks != "" {
		err = errors.Join(err, write(g.control.tasksHome))
	}
	return errors.Join(err, write(g.control.home))
}

var pools atomic.Int64

// uniqueName is of this process and moment.
func uniqueName() string {
	return strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(pools.Add(1), 10) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}
