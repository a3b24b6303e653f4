package udfworker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker/sandbox"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

const (
	// supervisorStartTime is how long the supervisor may take to answer.
	supervisorStartTime = 20 * time.Second
	// supervisorEndTime is how long it may take to end before it is killed;
	// its workers die with it.
	supervisorEndTime = shutdownTime + time.Second
	// callTime bounds a call to the supervisor: it answers at once, or is
	// stuck. The start of a worker may wait for a zygote.
	callTime  = 10 * time.Second
	startTime = callTime + zygoteTime
)

// SocketPathBytesMax is the longest path of a unix socket that is used; the
// systems' own limits are 104 and 108 with the final zero.
const SocketPathBytesMax = 100

// CheckSocketPath reports a path that is too long for a unix socket.
func CheckSocketPath(path string) error {
	if len(path) <= SocketPathBytesMax {
		return nil
	}
	return diag.New(diag.WorkerNotStarted, "the path of a worker's socket is too long: %s has %d bytes, at most %d are possible",
		path, len(path), SocketPathBytesMax).
		WithHint("give the engine a run directory with a shorter path; TMPDIR decides the default")
}

// SupervisorOptions say how the supervisor is started.
type SupervisorOptions struct {
	// Command is the argument list that starts it: the engine's binary and
	// "worker-pool".
	Command []string
	// Env are variables that are added to the engine's own.
	Env []string
	// Launcher is a site's own launcher of workers, as ParseTemplate reads it;
	// "" is the sandbox.
	Launcher string
	// RunDir is an existing private directory of the engine's. The supervisor's
	// socket and the workers' scratch directories are made in it.
	RunDir string
	// Stderr gets what the supervisor has to say; nil drops it.
	Stderr io.Writer
	// OnEvent, where it is set, is told of every event; it must not block.
	OnEvent func(Event)
}

// Validate reports the first option that cannot be used.
func (o SupervisorOptions) Validate() error {
	switch {
	case len(o.Command) == 0:
		return diag.New(diag.BadOption, "the supervisor of workers has no command")
	case !filepath.IsAbs(o.RunDir):
		return diag.New(diag.BadOption, "the run directory %q is not an absolute path", o.RunDir)
	}
	if _, err := ParseTemplate(o.Launcher); err != nil {
		return err
	}
	const longestName = "plugin4294967295" // go-plugin's name, as os.CreateTemp makes it
	return CheckSocketPath(filepath.Join(o.RunDir, supervisorDir, longestName))
}

// The supervisor's folders in the run directory.
const (
	supervisorDir = "supervisor"
	scratchDir    = "scratch"
)

// Supervisor is the engine's end of a running supervisor.
type Supervisor struct {
	options SupervisorOptions
	command *exec.Cmd
	client  *plugin.Client
	pid     int
	control MemoryControl
	pool    fnpb.BeamFnExternalWorkerPoolClient
	life    lifeClient

	// stopEvents ends the goroutine that reads events; listening is closed
	// when it has.
	stopEvents context.CancelFunc
	listening  chan struct{}
	// lost is closed when the supervisor cannot be heard any more.
	lost      chan struct{}
	closeOnce sync.Once

	mu        sync.Mutex
	processes map[string]*Process
	// zygotes is how many there are.
	zygotes int
	// sandbox is what the machine offers to confine workers with, once the
	// supervisor has told.
	sandbox *sandbox.Report
}

// Process is a worker's process.
type Process struct {
	id string
	// pid, level and forked may be read when started is closed, death when dead
	// is.
	pid     int
	level   sandbox.Level
	forked  bool
	started chan struct{}
	dead    chan struct{}
	death   Death
	// memoryBytes is what was last heard.
	memoryBytes atomic.Int64
	// near counts how often it was asked to give memory back.
	near atomic.Int64
}

// PID is the process's number.
func (p *Process) PID() int { return p.pid }

// Level is how far it is shut in.
func (p *Process) Level() sandbox.Level { return p.level }

// Dead is closed when the process is dead.
func (p *Process) Dead() <-chan struct{} { return p.dead }

// Death says how it died; it may be called when Dead is closed.
func (p *Process) Death() Death { return p.death }

// Launch is a worker to start.
type Launch struct {
	// ID is unique within the supervisor: lower-case letters and digits.
	ID          string
	Interpreter string
	// Harness is the folder of boot.py.
	Harness string
	// Endpoint is where the worker finds the engine, Token what it has to say
	// there.
	Endpoint string
	Token    string
	Paths    []string
	// Page is the file in which it says how far it is, MemoryBytes what it may
	// hold with all its processes; either may be left out.
	Page        string
	MemoryBytes int64
	// Variables are set in its Python before anything is loaded.
	Variables map[string]string
	// Policy is what it may do, Visible what it reads besides its environment.
	Policy  sandbox.Policy
	Visible []string
	// Kind is equal for workers that may be forked from one zygote; "" has the
	// worker started by itself.
	Kind string
}

// Start starts a supervisor and waits until it listens. Its errors are
// diagnostics.
func Start(ctx context.Context, options SupervisorOptions) (*Supervisor, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	s := &Supervisor{
		options:   options,
		listening: make(chan struct{}),
		lost:      make(chan struct{}),
		processes: map[string]*Process{},
	}
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, diag.New(diag.WorkerNotStarted, "the supervisor of Python workers did not start").WithCause(err).
			WithFact("command %q", options.Command).
			WithHint("the engine starts its own binary for this; check that it can be executed, and that the run directory %s can be written to", options.RunDir)
	}
	return s, nil
}

func (s *Supervisor) start(ctx context.Context) error {
	socketDir := filepath.Join(s.options.RunDir, supervisorDir)
	for _, dir := range []string{socketDir, filepath.Join(s.options.RunDir, scratchDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	s.command = exec.CommandContext(context.WithoutCancel(ctx), s.options.Command[0], s.options.Command[1:]...)
	s.command.SysProcAttr = ownSession()
	// os/exec lets the last of equal names win, so go-plugin's and ours do.
	s.command.Env = append(append(os.Environ(), s.options.Env...),
		fmt.Sprintf("%s=%d", enginePIDVariable, os.Getpid()),
		plugin.EnvUnixSocketDir+"="+socketDir,
		launcherVariable+"="+s.options.Launcher,
	)
	s.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          plugin.PluginSet{pluginName: &supervisorPlugin{}},
		Cmd:              s.command,
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     supervisorStartTime,
		Logger:           hclog.NewNullLogger(),
		Stderr:           s.options.Stderr,
	})
	err := s.connect(ctx)
	if err != nil {
		s.end()
	}
	return err
}

func (s *Supervisor) connect(ctx context.Context) error {
	protocol, err := s.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(pluginName)
	if err != nil {
		return err
	}
	conn := raw.(*grpc.ClientConn)
	s.pool = fnpb.NewBeamFnExternalWorkerPoolClient(conn)
	s.life = lifeClient{conn}
	// The stream lives as long as the Supervisor, not as long as ctx.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	receive, err := s.life.events(streamCtx)
	if err != nil {
		cancel()
		return err
	}
	stop := context.AfterFunc(ctx, cancel)
	first, err := receive()
	if !stop() || err != nil {
		cancel()
		return errors.Join(err, ctx.Err())
	}
	if first.Kind != EventReady {
		cancel()
		return fmt.Errorf("the first event is %q", first.Kind)
	}
	s.pid = first.PID
	if first.MemoryControl != nil {
		s.control = *first.MemoryControl
	}
	s.stopEvents = cancel
	go s.listen(receive)
	return nil
}

// listen is the goroutine that handles events. Its end means that the
// supervisor is lost, and with it every worker.
func (s *Supervisor) listen(receive func() (Event, error)) {
	defer close(s.listening)
	for {
		e, err := receive()
		if err != nil {
			break
		}
		s.handle(e)
	}
	s.handle(Event{Kind: EventZygotes, When: time.Now()}) // none is left
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.lost)
	for id, p := range s.processes {
		p.death = Death{Kind: SupervisorLost, When: time.Now()}
		close(p.dead)
		delete(s.processes, id)
	}
}

func (s *Supervisor) handle(e Event) {
	if s.options.OnEvent != nil {
		s.options.OnEvent(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case EventSandbox:
		s.sandbox = e.Sandbox
	case EventZygotes:
		s.zygotes = e.Zygotes
	}
	p := s.processes[e.Worker]
	if p == nil {
		return
	}
	switch e.Kind {
	case EventStarted:
		p.pid, p.level, p.forked = e.PID, e.Level, e.Forked
		close(p.started)
	case EventMemory:
		p.memoryBytes.Store(e.MemoryBytes)
		if e.Near {
			p.near.Add(1)
		}
	case EventExited:
		p.death = deathOf(e)
		close(p.dead)
		delete(s.processes, e.Worker)
	}
}

// PID is the number of the supervisor's process.
func (s *Supervisor) PID() int { return s.pid }

// MemoryControl says by what it keeps limits of memory.
func (s *Supervisor) MemoryControl() MemoryControl { return s.control }

// Zygotes is how many zygotes there are, which workers are forked from.
func (s *Supervisor) Zygotes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.zygotes
}

// Sandbox is what the machine offers to confine workers with; ok is false where
// the supervisor has not told yet.
func (s *Supervisor) Sandbox() (report sandbox.Report, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sandbox == nil {
		return sandbox.Report{}, false
	}
	return *s.sandbox, true
}

// Lost is closed when the supervisor died or was closed.
func (s *Supervisor) Lost() <-chan struct{} { return s.lost }

// errLost is returned by calls to a supervisor that is gone.
var errLost = errors.New("the supervisor of workers is gone")

// StartWorker starts a worker's process.
func (s *Supervisor) StartWorker(ctx context.Context, l Launch) (*Process, error) {
	params, err := json.Marshal(launchParams{
		Interpreter: l.Interpreter, Harness: l.Harness, Token: l.Token, Paths: l.Paths,
		Page: l.Page, MemoryBytes: l.MemoryBytes, Policy: l.Policy, Visible: l.Visible, Variables: l.Variables, Kind: l.Kind,
		ScratchDir: filepath.Join(s.options.RunDir, scratchDir),
	})
	if err != nil {
		return nil, err
	}
	p := &Process{id: l.ID, started: make(chan struct{}), dead: make(chan struct{})}
	if err := s.register(p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	endpoint := &pipepb.ApiServiceDescriptor{Url: l.Endpoint}
	r, err := s.pool.StartWorker(ctx, &fnpb.StartWorkerRequest{
		WorkerId: l.ID, ControlEndpoint: endpoint, LoggingEndpoint: endpoint, ProvisionEndpoint: endpoint,
		Params: map[string]string{launchParamsKey: string(params)},
	})
	if err == nil && r.GetError() != "" {
		err = errorOf(r.GetError())
	}
	if err == nil {
		select {
		case <-p.started:
			return p, nil
		case <-s.lost:
			err = errLost
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	s.mu.Lock()
	delete(s.processes, l.ID)
	s.mu.Unlock()
	// It may have been started all the same.
	_ = s.StopWorker(context.WithoutCancel(ctx), l.ID)
	return nil, err
}

func (s *Supervisor) register(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.lost:
		return errLost
	default:
	}
	if s.processes[p.id] != nil {
		return fmt.Errorf("worker %s runs already", p.id)
	}
	s.processes[p.id] = p
	return nil
}

// StopWorker interrupts a worker: SIGINT, and SIGKILL a second later. It does
// not wait for the death. A worker that is dead already is no error.
func (s *Supervisor) StopWorker(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := s.pool.StopWorker(ctx, &fnpb.StopWorkerRequest{WorkerId: id})
	return err
}

// EndWorker lets an idle worker go: its standard input ends, and SIGKILL
// follows a second later. It does not wait for the death.
func (s *Supervisor) EndWorker(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.life.end(ctx, id)
}

// Close ends the supervisor, which kills its workers, and waits until it is
// gone. It may be called more than once.
func (s *Supervisor) Close() {
	s.closeOnce.Do(s.end)
}

// end also cleans up after a supervisor that did not start.
func (s *Supervisor) end() {
	kill := time.AfterFunc(supervisorEndTime, func() {
		if s.command.Process != nil {
			_ = s.command.Process.Kill()
		}
	})
	// go-plugin asks it to end, kills it two seconds later, and waits for it.
	s.client.Kill()
	kill.Stop()
	if s.stopEvents != nil {
		s.stopEvents()
		<-s.listening
	}
	// Remains only where the supervisor had to be killed.
	_ = os.RemoveAll(filepath.Join(s.options.RunDir, scratchDir))
	_ = os.RemoveAll(filepath.Join(s.options.RunDir, supervisorDir))
}
