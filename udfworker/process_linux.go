package udfworker

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rssUnitBytes is the unit of rusage's maxrss.
const rssUnitBytes = 1024

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// ownSession makes a process that a terminal's signals do not reach.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// prepareSupervisor lets no descriptor that this process inherited reach a
// worker, makes orphaned grandchildren its children, and forbids core files.
func prepareSupervisor() error {
	if err := unix.CloseRange(firstInherited, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		if err := closeOnExecAll("/proc/self/fd"); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
}

// prefer has this thread scheduled before those of workers, as far as this
// process may ask for it.
func prefer() {
	const nice = -10
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice) // root may
}

// preferVictim makes the kernel, short of memory, end a worker before an
// engine, which holds the data of all jobs.
func preferVictim(pid int) {
	const score = "500"
	_ = os.WriteFile(procFile(pid, "oom_score_adj"), []byte(score), 0) // a wish
}

// nextDead waits for a child to die and gives its number, without reaping it:
// as long as it is not reaped, number and process group are its own. ECHILD
// says that there is no child.
func nextDead() (int, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		// x/sys has no field for it: si_pid is the first word of the union that
		// follows three 32-bit words, aligned as a pointer is.
		const align = unsafe.Sizeof(uintptr(0))
		const at = (3*4 + align - 1) / align * align
		return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), at))), nil
	}
}

// reap takes the status of a child that nextDead gave.
func reap(pid int) (syscall.WaitStatus, syscall.Rusage, error) {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		_, err := syscall.Wait4(pid, &status, 0, &usage)
		if !errors.Is(err, syscall.EINTR) {
			return status, usage, err
		}
	}
}

// children lists the children of this process.
func children() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	self := os.Getpid()
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // gone
		}
		// The second field is the name in parentheses and may hold anything.
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 && fields[1] == strconv.Itoa(self) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// workerOf says which worker started process pid, as far as its environment
// tells; "" where it does not.
func workerOf(pid int) string {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for variable := range strings.SplitSeq(string(environ), "\x00") {
		if id, ok := strings.CutPrefix(variable, workerVariable+"="); ok {
			return id
		}
	}
	return ""
}

// watchParent returns a channel that is closed when process pid, which must
// be this process's parent, has ended.
func watchParent(pid int) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return pollParent(pid), nil // before Linux 5.3, or forbidden by a filter
	}
	gone := make(chan struct{})
	if errors.Is(err, unix.ESRCH) {
		close(gone)
		return gone, nil
	}
	if err != nil {
		return nil, err
	}
	// The parent may have ended, and its number gone to another process, before
	// the descriptor was opened; but then this process has another parent.
	if os.Getppid() != pid {
		unix.Close(fd)
		close(gone)
		return gone, nil
	}
	go func() {
		defer close(gone)
		defer unix.Close(fd)
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return gone, nil
}
