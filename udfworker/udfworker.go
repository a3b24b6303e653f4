// Package udfworker is a worker's life. A worker is a Python process that runs
// user functions; it is started, watched and ended by the supervisor, a
// process of the engine's own binary (`pyrunner worker-pool`, a go-plugin
// plugin, one for an engine) that is trusted and outside every sandbox.
// Nothing that is said from inside a worker is taken as evidence of how it
// died: the supervisor has the wait status.
//
//	engine                               supervisor                 worker
//	Pool ── Supervisor ── gRPC, mTLS ──► StartWorker, StopWorker ──► process
//	  └──── Host's endpoint ◄──────────── Fn API on a unix socket ─────┘
//
// The Pool leases workers by environment and keeps some warm. Nothing outlives
// the engine: the supervisor watches it and ends every worker when it is gone,
// and workers die with the supervisor.
//
// The package imports envmgr and diag; it knows nothing of what crosses
// between engine and worker (fnapi does).
package udfworker

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Event is a turn in a worker's life, as the supervisor saw it.
type Event struct {
	// Worker is the worker's id; "" in EventReady.
	Worker string    `json:"worker,omitempty"`
	Kind   EventKind `json:"kind"`
	PID    int       `json:"pid,omitempty"`
	// ExitCode is the exit status, or -1 where a signal ended the process.
	ExitCode int `json:"exit_code"`
	// Signal ended the process, unless it is 0.
	Signal int `json:"signal,omitempty"`
	// Stopped says that the engine had asked for the end.
	Stopped bool `json:"stopped,omitempty"`
	// PeakRSSBytes is the largest resident memory that the process itself had;
	// its children are not in it.
	PeakRSSBytes int64         `json:"peak_rss_bytes,omitempty"`
	CPUTime      time.Duration `json:"cpu_time_ns,omitempty"`
	// Output is the end of what the process wrote to its standard output and
	// error, at most outputBytesMax.
	Output string    `json:"output,omitempty"`
	When   time.Time `json:"when"`
}

// EventKind says what an Event tells.
type EventKind string

// The kinds of event.
const (
	// EventReady is the first of a stream: the supervisor listens.
	EventReady   EventKind = "ready"
	EventStarted EventKind = "started"
	EventExited  EventKind = "exited"
)

// Death says how a worker ended.
type Death struct {
	Kind DeathKind
	// ExitCode, Signal, PeakRSSBytes, CPUTime and Output are the Event's; they
	// are not known after SupervisorLost.
	ExitCode     int
	Signal       int
	PeakRSSBytes int64
	CPUTime      time.Duration
	Output       string
	When         time.Time
}

// DeathKind classifies a Death.
type DeathKind string

// The kinds of death.
const (
	// Stopped: the engine ended the worker.
	Stopped DeathKind = "stopped"
	// Signalled: a signal ended it that the engine had not asked for.
	Signalled DeathKind = "signalled"
	// Exited: it ended itself.
	Exited DeathKind = "exited"
	// SupervisorLost: the supervisor died, and the worker with it.
	SupervisorLost DeathKind = "supervisor lost"
)

func deathOf(e Event) Death {
	d := Death{
		Kind: Exited, ExitCode: e.ExitCode, Signal: e.Signal,
		PeakRSSBytes: e.PeakRSSBytes, CPUTime: e.CPUTime, Output: e.Output, When: e.When,
	}
	switch {
	case e.Stopped:
		d.Kind = Stopped
	case e.Signal != 0:
		d.Kind = Signalled
	}
	return d
}

// String is the death in a few words: "signal 9, SIGKILL", "exit status 1".
func (d Death) String() string {
	switch {
	case d.Kind == SupervisorLost:
		return "the supervisor of workers died"
	case d.Signal != 0:
		if name := unix.SignalName(syscall.Signal(d.Signal)); name != "" {
			return fmt.Sprintf("signal %d, %s", d.Signal, name)
		}
		return fmt.Sprintf("signal %d", d.Signal)
	default:
		return fmt.Sprintf("exit status %d", d.ExitCode)
	}
}

// Facts are what was measured of the worker, one line each.
func (d Death) Facts() []string {
	if d.Kind == SupervisorLost {
		return nil
	}
	return []string{fmt.Sprintf("peak memory %s, CPU time %s", formatBytes(d.PeakRSSBytes), d.CPUTime.Round(time.Millisecond))}
}

// What Python's faulthandler writes when native code fails: a line of its own,
// then the stacks of all threads, each with the most recent call first.
const (
	fatalError    = "Fatal Python error:"
	currentThread = "Current thread "
	stackFrame    = "  File "
)

// LastWords are the n lines of the worker's output that tell most of its
// death, without empty ones: Python's word on a fatal error with the innermost
// frames, or else the last lines.
func (d Death) LastWords(n int) string {
	var lines []string
	if at := strings.LastIndex(d.Output, fatalError); at >= 0 {
		lines = append(lines, firstLine(d.Output[at:]))
		_, stack, _ := strings.Cut(d.Output[at:], currentThread)
		for line := range strings.SplitSeq(stack, "\n") {
			if strings.HasPrefix(line, stackFrame) {
				lines = append(lines, line)
			} else if len(lines) > 1 {
				break
			}
		}
		return strings.Join(lines[:min(n, len(lines))], "\n")
	}
	for line := range strings.SplitSeq(d.Output, "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimRight(line, " \t\r"))
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func formatBytes(n int64) string {
	const unit = 1024
	switch {
	case n >= unit*unit*unit:
		return fmt.Sprintf("%.1f GiB", float64(n)/(unit*unit*unit))
	case n >= unit*unit:
		return fmt.Sprintf("%d MiB", n/(unit*unit))
	default:
		return fmt.Sprintf("%d KiB", n/unit)
	}
}
