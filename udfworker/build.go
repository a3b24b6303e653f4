package udfworker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

const (
	// buildOutputBytesMax bounds what is kept of what a build writes.
	buildOutputBytesMax = 256 << 10
	// buildEndTime bounds the wait for what a build has left running.
	buildEndTime = 5 * time.Second
)

var probedSandbox = sync.OnceValue(sandbox.Probe)

// RunConfined runs the installer of an environment that builds packages from
// source, shut in as far as this machine can: with the network, which it needs
// to fetch packages, and with nothing of the user's. It implements
// envmgr.Options.Confine.
func RunConfined(ctx context.Context, c envmgr.Confined) (output string, err error) {
	level := probedSandbox().Level
	if level < sandbox.L1 {
		return "", fmt.Errorf("a sandbox: %w", errors.ErrUnsupported)
	}
	spec := sandbox.Spec{
		Level: level, Argv: c.Argv, Env: c.Env, Dir: c.Write[0], Visible: c.Read, Writable: c.Write, Network: c.Network,
		Limits: sandbox.Limits{OpenFiles: openFilesMax, Processes: processesMax, ScratchFiles: scratchFilesMax, ScratchBytes: scratchBytesMax},
	}
	for _, python := range c.Interpreters {
		spec.Visible = append(spec.Visible, sandbox.InterpreterPaths(python)...)
	}
	stdin, stdinWriter, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	_, err = stdinWriter.Write(c.Stdin) // a pipe takes it at once
	if err = errors.Join(err, stdinWriter.Close()); err != nil {
		return "", err
	}
	out, outWriter, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	read := make(chan string, 1)
	go func() { read <- readLines(out, c.Line) }()
	err = runShutIn(ctx, spec, stdin, outWriter)
	_ = outWriter.Close()
	_ = out.SetReadDeadline(time.Now().Add(buildEndTime)) // for what the build has left running
	output = <-read
	if ctx.Err() != nil {
		return output, context.Cause(ctx)
	}
	return output, err
}

// runShutIn runs a process to its end. It is started and waited for on one
// thread, whose end would be the process's.
func runShutIn(ctx context.Context, spec sandbox.Spec, stdin, out *os.File) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, outFD := stdin.Fd(), out.Fd()
	if err := errors.Join(syscall.SetNonblock(int(in), false), syscall.SetNonblock(int(outFD), false)); err != nil {
		return err
	}
	process, err := sandbox.Start(spec, in, outFD, func(_ *syscall.SysProcAttr, fork func() error) error { return fork() })
	runtime.KeepAlive(stdin)
	runtime.KeepAlive(out)
	if err != nil {
		return err
	}
	var ending sync.Mutex
	ended := false
	end := func() {
		ending.Lock()
		defer ending.Unlock()
		if ended {
			return // its number may be another's
		}
		_ = syscall.Kill(-process.PID, syscall.SIGKILL)
		_ = syscall.Kill(process.PID, syscall.SIGKILL)
	}
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(process.PID, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	ending.Lock()
	ended = true
	ending.Unlock()
	_ = syscall.Kill(-process.PID, syscall.SIGKILL) // children that it has left, where it led a group
	if process.End != nil {
		_ = process.End.Close()
	}
	if process.Reaper != 0 {
		for {
			if _, err := syscall.Wait4(process.Reaper, nil, 0, nil); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
	switch {
	case err != nil:
		return err
	case status.Signaled():
		return fmt.Errorf("%s was ended by signal %d", filepath.Base(spec.Argv[0]), status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("%s ended with exit status %d", filepath.Base(spec.Argv[0]), status.ExitStatus())
	}
	return nil
}

// readLines reads to the end and keeps the beginning; line is told each line.
func readLines(in *os.File, line func(string)) string {
	var kept, begun strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := in.Read(buffer)
		for text := range strings.Lines(string(buffer[:n])) {
			if room := buildOutputBytesMax - kept.Len(); room > 0 {
				kept.WriteString(text[:min(room, len(text))])
			}
			if begun.Len() < buildOutputBytesMax {
				begun.WriteString(text)
			}
			if strings.HasSuffix(text, "\n") {
				line(strings.TrimRight(begun.String(), "\r\n"))
				begun.Reset()
			}
		}
		if err != nil {
			return kept.String()
		}
	}
}
