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

// closeOnExecAll marks every open descriptor from first on.
func closeOnExecAll(dir string, first int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= first {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
