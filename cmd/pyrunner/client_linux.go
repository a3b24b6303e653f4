package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// whileClientLives ends the context when the client's process has ended or has
// closed the pipe. The client hands over a pidfd of itself: a parent-death
// signal would come when the thread that started the engine ends, which a
// notebook's threads do.
func whileClientLives(ctx context.Context, options embedded, stdin *os.File) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // ends with the pipe
	}()
	if options.ClientPIDFD < 0 {
		return ctx, nil
	}
	unix.CloseOnExec(options.ClientPIDFD)
	fds := []unix.PollFd{{Fd: int32(options.ClientPIDFD), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil || fds[0].Revents&unix.POLLNVAL != 0 {
		cancel()
		return nil, fmt.Errorf("descriptor %d is not the client's pidfd", options.ClientPIDFD)
	}
	go func() {
		defer cancel()
		for {
			_, err := unix.Poll(fds, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ctx, nil
}
