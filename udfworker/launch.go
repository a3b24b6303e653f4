package udfworker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/udfworker/cgroup"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Command is a process to start.
type Command struct {
	// Argv[0] is the absolute path of the program.
	Argv []string
	// Env is its whole environment.
	Env []string
	Dir string
	// Group is the control group that it is in from its beginning; nil is its
	// parent's.
	Group *cgroup.Group
	// Input is written to its standard input, which then stays open: the end
	// of that file tells the process that the supervisor is gone.
	Input []byte
	// Sandbox says what it is shut in with; at sandbox.L0 it is a plain process.
	// Its Argv, Env and Dir are the command's.
	Sandbox sandbox.Spec
	// External says that the program is a site's launcher, and the worker a
	// process below it.
	External bool
}

// level is how far the process is shut in.
func (c Command) level() sandbox.Level {
	if c.External {
		return sandbox.External
	}
	return c.Sandbox.Level
}

// Child is a process that was started.
type Child struct {
	PID int
	// Input is the writing end of its standard input, Output the reading end
	// of its standard output and error. Whoever launched the child closes
	// both.
	Input  *os.File
	Output *os.File
	// Reaper is process 1 of the child's pid namespace, a child of the caller's
	// too, and End what ends that namespace when it is closed; 0 and nil where
	// the child has none. Whoever launched the child closes End.
	Reaper int
	End    *os.File
}

// Launcher starts processes. The process is a direct child of the caller's,
// leads a process group of its own, and dies when the caller's process dies,
// where the system can do that.
type Launcher interface {
	Launch(Command) (*Child, error)
}

const (
	// inputBytesMax is what a pipe surely takes before the process reads.
	inputBytesMax = 16 << 10
	inputTime     = 5 * time.Second
)

// threadLauncher starts processes from a thread of its own, in a sandbox or
// without one.
type threadLauncher struct {
	requests chan func()
}

// newLauncher makes a launcher and its thread, which ends with the
// process: the death signal of a child follows the *thread* that started it,
// so all are started from one thread that never ends.
func newLauncher() *threadLauncher {
	l := &threadLauncher{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for request := range l.requests {
			request()
		}
	}()
	return l
}

// Launch implements Launcher.
func (l *threadLauncher) Launch(c Command) (*Child, error) {
	if len(c.Input) > inputBytesMax {
		return nil, fmt.Errorf("the launch line has %d bytes, at most %d are possible", len(c.Input), inputBytesMax)
	}
	inputReader, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inputReader.Close()
	output, outputWriter, err := os.Pipe()
	if err != nil {
		input.Close()
		return nil, err
	}
	defer outputWriter.Close()
	child := &Child{Input: input, Output: output}
	if err = l.start(child, c, inputReader, outputWriter); err != nil {
		input.Close()
		output.Close()
		return nil, err
	}
	return child, nil
}

func (l *threadLauncher) start(child *Child, c Command, stdin, stdout *os.File) error {
	if err := child.Input.SetWriteDeadline(time.Now().Add(inputTime)); err != nil {
		return err
	}
	if _, err := child.Input.Write(c.Input); err != nil {
		return err
	}
	// The two ends that the child gets must block, as programs expect.
	in, out := stdin.Fd(), stdout.Fd()
	if err := errors.Join(syscall.SetNonblock(int(in), false), syscall.SetNonblock(int(out), false)); err != nil {
		return err
	}
	var err error
	done := make(chan struct{})
	l.requests <- func() {
		defer close(done)
		err = fork(child, c, in, out)
	}
	<-done
	runtime.KeepAlive(stdin)
	runtime.KeepAlive(stdout)
	return err
}

// fork starts the process on the launcher's thread.
func fork(child *Child, c Command, in, out uintptr) error {
	within := func(_ *syscall.SysProcAttr, fork func() error) error { return fork() }
	if c.Group != nil {
		within = c.Group.Fork
	}
	if c.Sandbox.Level >= sandbox.L1 {
		spec := c.Sandbox
		spec.Argv, spec.Env, spec.Dir = c.Argv, c.Env, c.Dir
		process, err := sandbox.Start(spec, in, out, within)
		if err != nil {
			return err
		}
		child.PID, child.Reaper, child.End = process.PID, process.Reaper, process.End
		return nil
	}
	attributes := processAttributes()
	err := within(attributes, func() (err error) {
		child.PID, err = syscall.ForkExec(c.Argv[0], c.Argv, &syscall.ProcAttr{
			Dir: c.Dir, Env: c.Env, Files: []uintptr{in, out, out}, Sys: attributes,
		})
		return err
	})
	if err != nil {
		if child.PID > 0 {
			_ = syscall.Kill(child.PID, syscall.SIGKILL)
		}
		return fmt.Errorf("%s: %w", c.Argv[0], err)
	}
	preferVictim(child.PID) // in a sandbox it does so itself
	return nil
}

// launchParams are what StartWorkerRequest.params carries, as JSON under
// launchParamsKey.
type launchParams struct {
	Interpreter string   `json:"interpreter"`
	Harness     string   `json:"harness"`
	Token       string   `json:"token"`
	Paths       []string `json:"paths"`
	ScratchDir  string   `json:"scratch_dir"`
	// Page is the file in which the worker says how far it is.
	Page string `json:"page,omitempty"`
	// MemoryBytes is what the worker may hold; 0 is no limit.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// Variables are set in Python, out of sight of who lists processes.
	Variables map[string]string `json:"variables,omitempty"`
	// Policy is what the worker may do, Visible what it reads besides its
	// environment.
	Policy  sandbox.Policy `json:"policy"`
	Visible []string       `json:"visible,omitempty"`
	// WorkerID is what the worker calls itself where that is not its id here,
	// Logging and Provision are endpoints of their own. Only runners other
	// than the engine have these.
	WorkerID  string `json:"-"`
	Logging   string `json:"-"`
	Provision string `json:"-"`
}

const launchParamsKey = "alink:launch:v1"

// command is the process of a worker at a level; scratch is its private
// directory, launcher the site's own for sandbox.External.
func (p launchParams) command(id, endpoint, scratch string, environ []string, level sandbox.Level, launcher *Template) (Command, error) {
	for what, path := range map[string]string{"interpreter": p.Interpreter, "harness": p.Harness} {
		if !filepath.IsAbs(path) {
			return Command{}, fmt.Errorf("the %s %q is not an absolute path", what, path)
		}
	}
	if p.Paths == nil {
		p.Paths = []string{}
	}
	name := p.WorkerID
	if name == "" {
		name = id
	}
	line, err := json.Marshal(struct {
		WorkerID  string   `json:"worker_id"`
		Endpoint  string   `json:"endpoint"`
		Token     string   `json:"token"`
		Paths     []string `json:"paths"`
		Page      string   `json:"page,omitempty"`
		Logging   string   `json:"logging,omitempty"`
		Provision string   `json:"provision,omitempty"`

		Variables map[string]string `json:"variables,omitempty"`
	}{name, endpoint, p.Token, p.Paths, p.Page, p.Logging, p.Provision, p.Variables})
	if err != nil {
		return Command{}, err
	}
	command := Command{
		Argv:  []string{p.Interpreter, "-I", filepath.Join(p.Harness, "boot.py")},
		Env:   workerEnv(environ, id, scratch),
		Dir:   scratch,
		Input: append(line, '\n'),
	}
	if level == sandbox.External {
		command.External = true
		command.Argv = launcher.argv(command.Argv, scratch, p.confine(sandbox.L1, endpoint, scratch, environ))
		if command.Argv[0], err = exec.LookPath(command.Argv[0]); err != nil {
			return Command{}, err
		}
		return command, nil
	}
	command.Sandbox = p.confine(level, endpoint, scratch, environ)
	return command, nil
}

// workerVariable names a worker in its environment, so that a process that
// left its worker's process group can still be told to be its.
const workerVariable = "ALINK_WORKER_ID"

// inherited are the variables that a worker gets from the engine: where
// programs and libraries are, the language, the time zone, and how many
// threads numeric libraries may use. Everything else stays behind, since it
// may hold credentials. HOME and TMPDIR are the worker's scratch directory.
var inherited = []string{
	"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LANGUAGE", "TZ", "TZDIR",
	"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
	"VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS",
}

// workerEnv is the environment of worker id, made from the supervisor's.
func workerEnv(environ []string, id, scratch string) []string {
	env := []string{workerVariable + "=" + id, "HOME=" + scratch, "TMPDIR=" + scratch}
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains(inherited, name) || strings.HasPrefix(name, "LC_") {
			env = append(env, variable)
		}
	}
	return env
}
