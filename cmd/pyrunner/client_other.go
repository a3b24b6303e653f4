//go:build !linux

package main

import (
	"context"
	"io"
	"os"
)

// whileClientLives ends the context when the client has closed the pipe, which
// the end of its process does.
func whileClientLives(ctx context.Context, _ embedded, stdin *os.File) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // ends with the pipe
	}()
	return ctx, nil
}
