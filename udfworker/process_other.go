//go:build unix && !linux

package udfworker

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// rssUnitBytes is the unit of rusage's maxrss.
const rssUnitBytes = 1

// processAttributes has no death signal to offer here: a worker notices the
// end of its standard input instead.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ownSession makes a process that a terminal's signals do not reach.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// prepareSupervisor lets no descriptor that this process inherited reach a
// worker, and forbids core files.
func prepareSupervisor() error {
	return errors.Join(
		closeOnExecAll("/dev/fd"),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
}

// prefer does nothing here: there is no watch.
func prefer() {}

func preferVictim(int) {}

// died holds what nextDead has reaped already: these systems cannot wait
// without reaping through x/sys. Only the reaper's goroutine uses it.
var died struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

// nextDead waits for a child to die. ECHILD says that there is no child.
func nextDead() (int, error) {
	for {
		pid, err := syscall.Wait4(-1, &died.status, 0, &died.usage)
		if !errors.Is(err, syscall.EINTR) {
			return pid, err
		}
	}
}

// reap gives the status of the child that nextDead gave last.
func reap(int) (syscall.WaitStatus, syscall.Rusage, error) {
	return died.status, died.usage, nil
}

// children cannot be listed here; orphans are not ours without a subreaper.
func children() []int { return nil }

func workerOf(int) string { return "" }

// watchParent returns a channel that is closed when process pid, which must
// be this process's parent, has ended.
func watchParent(pid int) (<-chan struct{}, error) {
	if os.Getppid() != pid {
		gone := make(chan struct{})
		close(gone)
		return gone, nil
	}
	return pollParent(pid), nil
}
