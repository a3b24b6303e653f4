// Command pyrunner is the engine's one binary: the engine of a Python client,
// the supervisor of its workers, a server, and the command line. Commands turn
// flags into options and options into calls; what they do lives in the rooms.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 128 + int(syscall.SIGINT)
	exitPipe        = 128 + int(syscall.SIGPIPE)
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin *os.File, stdout *os.File, stderr io.Writer) int {
	// What clients and engines start does not wait for a command line.
	if len(args) == 1 {
		switch args[0] {
		case "engine":
			return runEngine(stdin, stdout, stderr)
		case "worker-pool":
			return report(stderr, udfworker.ServeSupervisor())
		}
	}
	return runCommand(args, &cli{stdin: stdin, stdout: stdout, stderr: stderr})
}

// runCommand runs one of the commands that people type. Ctrl-C ends its
// context; a second one ends the process. Writing to a pipe that nobody reads
// is an error of the write, so that what a command has made is cleaned up.
func runCommand(args []string, c *cli) int {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	root := newRoot(c)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && isCancelled(err) {
		return exitInterrupted
	}
	return report(c.stderr, err)
}

func isCancelled(err error) bool {
	d, ok := errors.AsType[*diag.Diagnostic](err)
	return errors.Is(err, context.Canceled) || ok && d.Code == diag.Cancelled
}

// usageError is a command line that cannot be carried out.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func badUsage(format string, args ...any) *diag.Diagnostic {
	return diag.New(diag.BadOption, format, args...)
}

// exitError ends the process with a status and says nothing: what there was to
// say has been said.
type exitError struct{ status int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// report prints a failure as the user is to read it.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.status
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitPipe
	}
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		fmt.Fprintln(stderr, d.Render())
	} else {
		fmt.Fprintln(stderr, "pyrunner:", err)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}
