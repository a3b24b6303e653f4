package fnapi

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Options configure a Runner.
type Options struct {
	// Pool says how workers are made and kept. Its Host is the runner's own.
	Pool udfworker.PoolOptions
	// Artifacts finds what functions are made of.
	Artifacts Artifacts
	// Progress is told of the steps of building the environment of a stage; nil
	// is legal. It must not block.
	Progress func(stageID, text string)
	// Lane is what workers are reached by; "" is Local.
	Lane Lane
	// Sandbox holds for functions that say nothing; "" is sandbox.Auto.
	Sandbox sandbox.Mode
}

// Lane is a way of the Fn API's messages to a worker.
type Lane string

// The lanes.
const (
	// Local is frames on a unix socket and shared memory.
	Local Lane = "local"
	// Portable is Beam's gRPC services.
	Portable Lane = "portable"
)

// endpointsDir is the folder of the workers' sockets in the run directory. It
// is short because paths of sockets are bounded.
const endpointsDir = "fn"

// Runner runs functions in workers. It implements exec.FunctionRunner.
type Runner struct {
	options Options
	pool    *udfworker.Pool
	host    *host
	// closing is done when Close is called.
	closing context.Context
	shutOff context.CancelFunc

	mu       sync.Mutex
	shut     bool
	sessions map[*session]struct{}
	crews    map[string]*crew
	// drainTime is how long a worker is waited for that is at something which
	// nobody wants any more, before it is ended.
	drainTime time.Duration
	// opening counts calls of Open.
	opening sync.WaitGroup
}

// NewRunner makes a runner without workers. Close ends it.
func NewRunner(options Options) (*Runner, error) {
	if options.Artifacts == nil {
		return nil, diag.New(diag.BadOption, "a runner of functions needs artifacts")
	}
	workers := &host{dir: filepath.Join(options.Pool.Supervisor.RunDir, endpointsDir), lane: options.Lane}
	options.Pool.Host = workers
	r := &Runner{host: workers, sessions: map[*session]struct{}{}, crews: map[string]*crew{}, drainTime: stopTime}
	options.Pool.Short = r.spare
	pool, err := udfworker.NewPool(options.Pool)
	if err != nil {
		return nil, err
	}
	r.options, r.pool = options, pool
	r.closing, r.shutOff = context.WithCancel(context.Background())
	return r, nil
}

// spare gives back the workers that crews can do without, since somebody waits
// for memory.
func (r *Runner) spare() {
	r.mu.Lock()
	crews := slices.Collect(maps.Values(r.crews))
	r.mu.Unlock()
	for _, c := range crews {
		c.spare()
	}
}

// Lane is what workers are reached by.
func (r *Runner) Lane() Lane { return cmp.Or(r.options.Lane, Local) }

// Start starts the supervisor of workers ahead of the first of them.
func (r *Runner) Start(ctx context.Context) error { return r.pool.Start(ctx) }

// Warm says that a worker of an environment is started ahead of its first
// stage, which waits for it, and gives what starts it, which returns when it is
// there or cannot be had. It has the limits that functions have where they say
// nothing.
func (r *Runner) Warm(environment *plan.Environment) (start func(context.Context)) {
	wanted, err := environmentSpec(environment, r.options.Artifacts)
	if err != nil {
		return func(context.Context) {} // the stage that needs it says why
	}
	spec := r.newSpec(wanted, plan.MemoryBytesDefault, "")
	spec.Policy, _, _ = r.confine(plan.Confinement{})
	return r.pool.Warm(spec)
}

// newSpec is a worker of a domain, which sees that domain's artifacts and
// tables.
func (r *Runner) newSpec(environment envmgr.Spec, memoryBytes int64, domain string) udfworker.Spec {
	spec := udfworker.Spec{Environment: environment, MemoryBytes: memoryBytes, Domain: domain}
	if folder, err := r.options.Artifacts.Folder(domain); err == nil { // else the first artifact meets the error
		spec.Visible = append(spec.Visible, folder)
	}
	if folder, err := r.options.Artifacts.Tables(domain); err == nil { // else the first table does
		spec.Visible = append(spec.Visible, folder)
	}
	return spec
}

// SupervisorPID is the number of the supervisor's process, or 0.
func (r *Runner) SupervisorPID() int { return r.pool.SupervisorPID() }

// MemoryControl says by what limits of workers' memory are kept; it is empty
// where no supervisor runs.
func (r *Runner) MemoryControl() udfworker.MemoryControl { return r.pool.MemoryControl() }

// Sandbox says how far workers are shut in where their functions leave it to
// the engine; it is empty where no supervisor has told.
func (r *Runner) Sandbox() udfworker.SandboxStatus { return r.pool.Sandbox() }

// Workers lists the workers that run.
func (r *Runner) Workers() []udfworker.WorkerStatus { return r.pool.Workers() }

// Zygotes is how many zygotes there are, which workers are forked from.
func (r *Runner) Zygotes() int { return r.pool.Zygotes() }

// EndIdle ends the idle workers of a domain, which nobody will ask for any
// more.
func (r *Runner) EndIdle(domain string) { r.pool.EndIdle(domain) }

// EndAllIdle ends all idle workers.
func (r *Runner) EndAllIdle() { r.pool.EndAllIdle() }

// WorkerMemory tells how much of their memory has been given out to workers.
func (r *Runner) WorkerMemory() udfworker.MemoryShare { return r.pool.Memory() }

// WorkerCounts are the workers that ran, and those of them that died by
// themselves.
func (r *Runner) WorkerCounts() (started, deaths int64) { return r.pool.Counts() }

// Segments is the number of segments of shared memory that workers have.
func (r *Runner) Segments() int64 { return r.host.segments.Load() }

// Open implements exec.FunctionRunner. ctx bounds the opening only; the
// session ends with Close, or when the context of a Submit or Wait does.
func (r *Runner) Open(ctx context.Context, stage *exec.FunctionStage) (exec.FunctionSession, error) {
	r.mu.Lock()
	if r.shut {
		r.mu.Unlock()
		return nil, errShut()
	}
	r.opening.Add(1)
	r.mu.Unlock()
	defer r.opening.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.closing, func() { cancel(errShut()) })()
	s, err := r.open(ctx, stage)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.sessions[s] = struct{}{}
	shut := r.shut
	r.mu.Unlock()
	if shut {
		_ = s.Close()
		return nil, errShut()
	}
	return s, nil
}

func errShut() error { return diag.New(diag.ConnectionLost, "the engine is shutting down") }

// closed forgets a session.
func (r *Runner) closed(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}

// Close stops the sessions that are open, kills all workers, ends their
// supervisor and waits until nothing is left. The sessions' owners still close
// them. It may be called more than once.
func (r *Runner) Close() {
	r.mu.Lock()
	r.shut = true
	r.shutOff()
	sessions := make([]*session, 0, len(r.sessions))
	for s := range r.sessions {
		sessions = append(sessions, s)
	}
	r.mu.Unlock()
	for _, s := range sessions {
		s.stop(errShut())
	}
	// Before the sessions are waited for: a worker that does not listen would
	// keep them for its grace.
	r.pool.Close()
	for _, s := range sessions {
		<-s.finished
	}
	r.opening.Wait()
}
