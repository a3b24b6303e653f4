package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// watchClient calls ended when the client's process has ended: a child that it
// forked may hold the pipe open. The client hands over a pidfd of itself: a
// parent-death signal would come when the thread that started the engine ends,
// which a notebook's threads do.
func watchClient(options embedded, ended context.CancelFunc) error {
	if options.ClientPIDFD < 0 {
		return nil
	}
	unix.CloseOnExec(options.ClientPIDFD)
	fds := []unix.PollFd{{Fd: int32(options.ClientPIDFD), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil || fds[0].Revents&unix.POLLNVAL != 0 {
		return fmt.Errorf("descriptor %d is not the client's pidfd", options.ClientPIDFD)
	}
	go func() {
		defer ended()
		for {
			_, err := unix.Poll(fds, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return nil
}
