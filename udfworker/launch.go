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
	// Control, where it is set, is its standard input instead, and stays the
	// caller's; Input is not written then.
	Control *os.File
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
	// Input is the writing end of its standard input, nil where that is the
	// command's Control, Output the reading end of its standard output and
	// error. Whoever launched the child closes both.
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
	stdin, child := c.Control, &Child{}
	if stdin == nil {
		inputReader, input, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer inputReader.Close()
		stdin, child.Input = inputReader, input
		if err := writeInput(input, c.Input); err != nil {
			return nil, errors.Join(err, input.Close())
		}
	}
	output, outputWriter, err := os.Pipe()
	if err == nil {
		child.Output = output
		err = errors.Join(l.start(child, c, stdin, outputWriter), outputWriter.Close())
	}
	if err != nil {
		_ = child.Input.Close() // ends of pipes, or nil
		_ = child.Output.Close()
		return nil, err
	}
	return child, nil
}

// writeInput writes what a process reads first into the pipe of its standard
// input.
func writeInput(input *os.File, line []byte) error {
	if len(line) > inputBytesMax {
		return fmt.Errorf("the launch line has %d bytes, at most %d are possible", len(line), inputBytesMax)
	}
	if err := input.SetWriteDeadline(time.Now().Add(inputTime)); err != nil {
		return err
	}
	_, err := input.Write(line)
	return err
}

func (l *threadLauncher) start(child *Child, c Command, stdin, stdout *os.File) error {
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
	// Kind is equal for workers that may stand in for each other and may be
	// forked from one zygote; "" has the worker started by itself.
	Kind string `json:"kind,omitempty"`
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
	name := p.WorkerID
	if name == "" {
		name = id
	}
	line, err := launchLine{
		WorkerID: name, Endpoint: endpoint, Token: p.Token, Paths: p.Paths, Page: p.Page,
		Logging: p.Logging, Provision: p.Provision, Variables: p.Variables,
	}.text()
	if err != nil {
		return Command{}, err
	}
	command := Command{
		Argv:  []string{p.Interpreter, "-I", filepath.Join(p.Harness, "boot.py")},
		Env:   append(ownVariables(id, scratch), commonEnv(environ)...),
		Dir:   scratch,
		Input: line,
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

// zygoteCommand is the process of a zygote, in a sandbox that is made for its
// workers: of them it knows nothing but what all have in common.
func (p launchParams) zygoteCommand(scratch string, environ []string, level sandbox.Level) (Command, error) {
	line, err := launchLine{Zygote: true, Paths: p.Paths, Variables: p.Variables}.text()
	if err != nil {
		return Command{}, err
	}
	p.Page = "" // each worker gets its own
	command := Command{
		Argv:    []string{p.Interpreter, "-I", filepath.Join(p.Harness, "boot.py")},
		Env:     append(homeVariables(scratch), commonEnv(environ)...),
		Dir:     scratch,
		Input:   line,
		Sandbox: p.confine(level, "", scratch, environ),
	}
	p.share(&command.Sandbox.Limits)
	return command, nil
}

// forkLine is the launch line of a worker that is forked; its connections are
// passed to it.
func (p launchParams) forkLine(id, scratch string) ([]byte, error) {
	environ := map[string]string{}
	for _, variable := range ownVariables(id, scratch) {
		name, value, _ := strings.Cut(variable, "=")
		environ[name] = value
	}
	return launchLine{WorkerID: id, Endpoint: localScheme, Token: p.Token, Environ: environ}.text()
}

// launchLine is what a process of the harness reads first, as JSON.
type launchLine struct {
	WorkerID  string   `json:"worker_id,omitempty"`
	Endpoint  string   `json:"endpoint,omitempty"`
	Token     string   `json:"token,omitempty"`
	Paths     []string `json:"paths,omitempty"`
	Page      string   `json:"page,omitempty"`
	Logging   string   `json:"logging,omitempty"`
	Provision string   `json:"provision,omitempty"`

	Variables map[string]string `json:"variables,omitempty"`
	// Zygote asks it to fork workers, Environ is what one of them changes in the
	// environment that it has from there.
	Zygote  bool              `json:"zygote,omitempty"`
	Environ map[string]string `json:"environ,omitempty"`
}

func (l launchLine) text() ([]byte, error) {
	line, err := json.Marshal(l)
	return append(line, '\n'), err
}

// localScheme begins the address of an endpoint whose connections can be handed
// over.
const localScheme = "local:"

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

// ownVariables are those that each worker has its own of, homeVariables those
// of them that say where its files are.
func ownVariables(id, scratch string) []string {
	return append([]string{workerVariable + "=" + id}, homeVariables(scratch)...)
}

func homeVariables(scratch string) []string { return []string{"HOME=" + scratch, "TMPDIR=" + scratch} }

// commonEnv is what workers have of the supervisor's environment.
func commonEnv(environ []string) (env []string) {
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains(inherited, name) || strings.HasPrefix(name, "LC_") {
			env = append(env, variable)
		}
	}
	return env
}
