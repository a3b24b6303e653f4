package main

import (
	"context"
	"io"
	"os"
)

// whileClientLives ends the context when the client has closed the pipe, which
// the end of its process does, or when watchClient sees that end itself.
func whileClientLives(ctx context.Context, options embedded, stdin *os.File) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // ends with the pipe
	}()
	if err := watchClient(options, cancel); err != nil {
		cancel()
		return nil, err
	}
	return ctx, nil
}
