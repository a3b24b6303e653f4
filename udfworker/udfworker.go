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
// Where it can, the supervisor forks workers from a zygote, a process that has
// imported what they need (zygote.go).
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
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Event is a turn in a worker's life, as the supervisor saw it.
type Event struct {
	// Worker is the worker's id; "" in EventReady.
	Worker string    `json:"worker,omitempty"`
	Kind   EventKind `json:"kind"`
	PID    int       `json:"pid,omitempty"`
	// Level is how far a started worker is shut in; Sandbox, in EventSandbox, is
	// what the machine offers.
	Level   sandbox.Level   `json:"level,omitempty"`
	Sandbox *sandbox.Report `json:"sandbox,omitempty"`
	// ExitCode is the exit status, or -1 where a signal ended the process.
	ExitCode int `json:"exit_code"`
	// Signal ended the process, unless it is 0.
	Signal int `json:"signal,omitempty"`
	// Stopped says that the engine had asked for the end.
	Stopped bool `json:"stopped,omitempty"`
	// Forked says, in EventStarted, that a zygote has forked the worker.
	Forked bool `json:"forked,omitempty"`
	// Zygotes is how many there are, in EventZygotes, and ZygoteBytes what they
	// may hold, those included that are dead and have workers.
	Zygotes     int   `json:"zygotes,omitempty"`
	ZygoteBytes int64 `json:"zygote_bytes,omitempty"`
	// PeakBytes is the most memory that was seen: of the process alone as the
	// kernel counted it, or of all its processes together as the watch did.
	PeakBytes int64 `json:"peak_bytes,omitempty"`
	// MemoryBytes is what all the worker's processes hold, in EventMemory.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// Near says, in EventMemory, that the worker was asked to give memory back.
	Near bool `json:"near,omitempty"`
	// LimitBytes is the worker's limit of memory, 0 where it has none.
	LimitBytes int64 `json:"limit_bytes,omitempty"`
	// MemoryControl is by what limits are kept, in EventReady.
	MemoryControl *MemoryControl `json:"memory_control,omitempty"`
	// OverLimit says that the watch, or the kernel for the worker's control
	// group, ended it for passing the limit; KernelOOM that the kernel ended it
	// for want of memory elsewhere.
	OverLimit bool `json:"over_limit,omitempty"`
	// OverScratch says what made the supervisor end it for its temporary files.
	OverScratch string        `json:"over_scratch,omitempty"`
	KernelOOM   bool          `json:"kernel_oom,omitempty"`
	CPUTime     time.Duration `json:"cpu_time_ns,omitempty"`
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
	// EventMemory tells what a worker holds now, where that has changed.
	EventMemory EventKind = "memory"
	// EventSandbox comes once, soon after EventReady.
	EventSandbox EventKind = "sandbox"
	// EventZygotes tells how many zygotes there are, and what they may hold, when
	// that has changed.
	EventZygotes EventKind = "zygotes"
)

// Death says how a worker ended.
type Death struct {
	Kind DeathKind
	// ExitCode, Signal, PeakBytes, LimitBytes, CPUTime and Output are the
	// Event's; they are not known after SupervisorLost.
	ExitCode   int
	Signal     int
	PeakBytes  int64
	LimitBytes int64
	CPUTime    time.Duration
	Output     string
	When       time.Time
	// Scratch says how much a worker wrote that died of OverScratch.
	Scratch string
}

// DeathKind classifies a Death.
type DeathKind string

// The kinds of death.
const (
	// Stopped: the engine ended the worker.
	Stopped DeathKind = "stopped"
	// OverLimit: it was ended since it held more than its limit, or, in a
	// control group, asked for more.
	OverLimit DeathKind = "memory limit"
	// OverScratch: it wrote more temporary files than it may.
	OverScratch DeathKind = "scratch limit"
	// KernelOOM: the kernel ended it for want of memory.
	KernelOOM DeathKind = "kernel out of memory"
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
		PeakBytes: e.PeakBytes, LimitBytes: e.LimitBytes, CPUTime: e.CPUTime, Output: e.Output, When: e.When,
	}
	switch {
	case e.OverLimit: // also where the engine had asked for the end meanwhile
		d.Kind = OverLimit
	case e.OverScratch != "":
		d.Kind, d.Scratch = OverScratch, e.OverScratch
	case e.KernelOOM:
		d.Kind = KernelOOM
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
	case d.Kind == OverLimit:
		return fmt.Sprintf("it held more than its limit of %s", FormatBytes(d.LimitBytes))
	case d.Kind == OverScratch:
		return "it wrote " + d.Scratch
	case d.Kind == KernelOOM:
		return "the kernel ended it, since the machine or its control group was out of memory"
	case d.ProbablyKernel():
		return d.SignalText() + ", probably the kernel's for want of memory"
	case d.Signal != 0:
		return d.SignalText()
	default:
		return fmt.Sprintf("exit status %d", d.ExitCode)
	}
}

// SignalText names the signal that ended the worker.
func (d Death) SignalText() string {
	if name := unix.SignalName(syscall.Signal(d.Signal)); name != "" {
		return fmt.Sprintf("signal %d, %s", d.Signal, name)
	}
	return fmt.Sprintf("signal %d", d.Signal)
}

// Facts are what was measured of the worker, one line each.
func (d Death) Facts() []string {
	if d.Kind == SupervisorLost {
		return nil
	}
	memory := "peak memory " + FormatBytes(d.PeakBytes)
	if d.LimitBytes > 0 {
		memory += ", limit " + FormatBytes(d.LimitBytes)
	}
	return []string{fmt.Sprintf("%s, CPU time %s", memory, d.CPUTime.Round(time.Millisecond))}
}

// ProbablyKernel reports whether a death by signal 9 looks like the kernel's
// doing although it did not say so: the worker held most of the machine.
func (d Death) ProbablyKernel() bool {
	machine := machineBytes()
	return d.Kind == Signalled && d.Signal == int(syscall.SIGKILL) && machine > 0 && d.PeakBytes > machine/2
}

// What Python's faulthandler writes when native code fails: a line of its own,
// then the stacks of all threads, each with the most recent call first.
const (
	fatalError    = "Fatal Python error:"
	currentThread = "Current thread "
	stackFrame    = "  File "
)

// harnessFile is a frame of the worker's own program, which says nothing to its
// user.
var harnessFile = regexp.MustCompile(`/harness/([0-9a-f]{16}/)?(_\w+|boot)\.py"`)

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
				if !harnessFile.MatchString(line) {
					lines = append(lines, line)
				}
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

// FormatBytes writes a number of bytes in a unit that people read.
func FormatBytes(n int64) string {
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
