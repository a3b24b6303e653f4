package udfworker

import (
	"os"
	"strconv"
	"syscall"
	"time"
)

// parentPoll is how often the engine is looked for where the system cannot
// tell that it ended.
const parentPoll = 200 * time.Millisecond

// pollParent watches the parent by its number.
func pollParent(pid int) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for os.Getppid() == pid {
			time.Sleep(parentPoll)
		}
	}()
	return gone
}

// firstInherited is the first descriptor after standard input, output and
// error.
const firstInherited = 3

// closeOnExecAll marks the other descriptors that dir lists as open.
func closeOnExecAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= firstInherited {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
