package udfworker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Defaults of PoolOptions.
const (
	// WorkersMaxDefault is generous, since a job holds one worker for each of
	// its running stages and would wait for ever for one more than there are.
	WorkersMaxDefault = 64
	IdleMaxDefault    = 8
	IdleTimeDefault   = 5 * time.Minute
	// StartTimeDefault bounds the time from the start of a worker's process to
	// its hello; a cold disk may take seconds to import Arrow.
	StartTimeDefault = 60 * time.Second
	// PlaceTimeDefault is how long a place is waited for when WorkersMax
	// workers are leased. The bound keeps jobs that wait for each other's
	// workers from doing so for ever.
	PlaceTimeDefault = 60 * time.Second
)

// Host gives each worker an endpoint of its own to talk to. fnapi implements
// it.
type Host interface {
	// Listen makes the endpoint of worker id.
	Listen(id string) (Endpoint, error)
}

// Endpoint is where one worker, and no other, reaches the engine.
type Endpoint interface {
	// URL is "unix:" or "local:" and the path of a socket, Token what the worker has to
	// present there.
	URL() string
	Token() string
	// Page is the path of a file in which the worker says how far it is, or "".
	Page() string
	// Ready is closed when the worker has said hello.
	Ready() <-chan struct{}
	// Close forgets the worker. It may be called more than once.
	Close()
}

// Resolver finds or makes environments; envmgr.Store implements it. Its errors
// are diagnostics.
type Resolver interface {
	Resolve(ctx context.Context, spec envmgr.Spec, progress func(string)) (*envmgr.Environment, error)
}

// PoolOptions say how workers are made and how many are kept.
type PoolOptions struct {
	Supervisor SupervisorOptions
	Host       Host
	Resolver   Resolver
	// Harness is the folder of the worker's program, boot.py.
	Harness string

	// WorkersMax bounds the workers that run, IdleMax those of them that wait
	// for work, IdleTime how long they do. 0 means the default.
	WorkersMax int
	IdleMax    int
	IdleTime   time.Duration
	// MemoryBytesMax bounds the sum of the limits of the workers that run, and of
	// the zygotes that they were forked from; 0 is no bound. See admitLocked.
	MemoryBytesMax int64
	// Short is called, if it is not nil, when somebody begins to wait for memory:
	// whoever holds workers that it can do without gives them back. It must not
	// wait for the pool.
	Short func()
	// StartTime and PlaceTime bound what Acquire waits for; 0 means the
	// default.
	StartTime time.Duration
	PlaceTime time.Duration
}

// Validate reports the first option that cannot be used.
func (o PoolOptions) Validate() error {
	switch {
	case o.Host == nil || o.Resolver == nil:
		return diag.New(diag.BadOption, "a pool of workers needs a host and a resolver")
	case o.Harness == "":
		return diag.New(diag.BadOption, "a pool of workers needs the folder of the worker's program")
	case o.WorkersMax < 0 || o.IdleMax < 0 || o.IdleTime < 0 || o.StartTime < 0 || o.PlaceTime < 0 || o.MemoryBytesMax < 0:
		return diag.New(diag.BadOption, "bounds of the pool of workers cannot be negative")
	}
	return o.Supervisor.Validate()
}

func (o PoolOptions) withDefaults() PoolOptions {
	setDefault(&o.WorkersMax, WorkersMaxDefault)
	setDefault(&o.IdleMax, IdleMaxDefault)
	setDefault(&o.IdleTime, IdleTimeDefault)
	setDefault(&o.StartTime, StartTimeDefault)
	setDefault(&o.PlaceTime, PlaceTimeDefault)
	return o
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Pool leases workers. The supervisor is started with the first worker, and
// again if it has died.
type Pool struct {
	options PoolOptions

	// starting orders starts of the supervisor; supervisor is guarded by it.
	starting   sync.Mutex
	supervisor *Supervisor

	mu     sync.Mutex
	closed bool
	next   int
	// places counts the workers that run or are being started, without those
	// that were told to end.
	places int
	// memoryBytes are the limits of those workers together, waiting the calls of
	// Acquire that wait for some of it, and leases the workers that each job has
	// or is starting.
	memoryBytes int64
	waiting     int
	// zygoteBytes are the limits of the zygotes, and forks says that there has
	// been one.
	zygoteBytes int64
	forks       bool
	leases      map[string]int
	// started and deaths count workers since the pool was made: those that
	// ran, and those that died without being told to end.
	started, deaths int64
	// workers are those that run, also those that were told to end.
	workers map[string]*Worker
	// idle are those that can be leased; the longest idle comes first.
	idle []*Worker
	// freed is closed and replaced when a place or an idle worker may be had.
	freed chan struct{}
	// warming are the workers that Warm starts and nobody has asked for yet, by
	// Spec.key.
	warming map[string]*warmStart
	// watching counts a goroutine for each worker, and one for each request to
	// the supervisor to end one. None is started when closed is set.
	watching sync.WaitGroup
}

// Spec says what worker is wanted.
type Spec struct {
	Environment envmgr.Spec
	// MemoryBytes is what the worker may hold with all its processes; 0 is no
	// limit.
	MemoryBytes int64
	// Policy is what the worker may do beyond computing.
	Policy sandbox.Policy
	// Visible are folders that the worker reads besides those of its environment.
	// They follow from Domain.
	Visible []string
	// Variables are set in the worker's environment. They may be secrets, and
	// are not shown.
	Variables map[string]string
	// Isolation names the only functions that the worker may run; "" is all of
	// the domain's.
	Isolation string
	// Domain is whose functions the worker runs; it runs no other's.
	Domain string
	// Job names what the worker is for: see admitLocked.
	Job string
	// Spare says that the job gets on without the worker, more slowly.
	Spare bool
	// Progress is told of the steps of building the environment; nil is legal.
	Progress func(string)
}

// Worker is a leased worker.
type Worker struct {
	id          string
	key         string
	environment *envmgr.Environment
	memoryBytes int64
	policy      sandbox.Policy
	visible     []string
	variables   map[string]string
	domain      string
	endpoint    Endpoint
	supervisor  *Supervisor
	process     *Process
	used        atomic.Bool

	// The pool's mu guards these.
	leased bool
	ending bool
	// job is what a leased worker is for.
	job    string
	expire *time.Timer
}

// ID is unique within the pool, and never used again.
func (w *Worker) ID() string { return w.id }

// FirstUse reports whether it is asked for the first time of the worker: whoever
// asks is the first to use it.
func (w *Worker) FirstUse() bool { return w.used.CompareAndSwap(false, true) }

// PID is the number of the worker's process.
func (w *Worker) PID() int { return w.process.pid }

// Level is how far the worker is shut in.
func (w *Worker) Level() sandbox.Level { return w.process.level }

// MemoryBytes is what the worker and its processes held when the watch last
// told; 0 before it has, and where the worker has no limit.
func (w *Worker) MemoryBytes() int64 { return w.process.memoryBytes.Load() }

// Near counts how often the worker was asked to give memory back, because it
// was near its limit.
func (w *Worker) Near() int64 { return w.process.near.Load() }

// Environment is what the worker runs in.
func (w *Worker) Environment() *envmgr.Environment { return w.environment }

// Endpoint is what the pool's Host made for the worker.
func (w *Worker) Endpoint() Endpoint { return w.endpoint }

// Dead is closed when the worker is dead.
func (w *Worker) Dead() <-chan struct{} { return w.process.dead }

// Death says how it died; it may be called when Dead is closed.
func (w *Worker) Death() Death { return w.process.death }

// WorkerStatus is what can be told of a worker from outside.
type WorkerStatus struct {
	ID            string `json:"id"`
	PID           int    `json:"pid"`
	Environment   string `json:"environment"`
	Interpreter   string `json:"interpreter"`
	PythonVersion string `json:"python_version"`
	Busy          bool   `json:"busy"`
	// Level is how far the worker is shut in.
	Level string `json:"level"`
	// Forked says that a zygote has forked it.
	Forked bool `json:"forked"`
}

// NewPool makes a pool without workers.
func NewPool(options PoolOptions) (*Pool, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{
		options: options.withDefaults(),
		workers: map[string]*Worker{},
		freed:   make(chan struct{}),
		warming: map[string]*warmStart{},
		leases:  map[string]int{},
	}
	tell := p.options.Supervisor.OnEvent
	p.options.Supervisor.OnEvent = func(e Event) {
		if e.Kind == EventZygotes {
			p.countZygotes(e)
		}
		if tell != nil {
			tell(e)
		}
	}
	return p, nil
}

// countZygotes takes what zygotes may hold.
func (p *Pool) countZygotes(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fewer := e.ZygoteBytes < p.zygoteBytes
	p.zygoteBytes, p.forks = e.ZygoteBytes, p.forks || e.Zygotes > 0
	if fewer {
		p.freedLocked()
	}
}

// keyOf is what workers must agree in to stand in for each other: environment
// and policy, the limit of memory included, and what lies at the paths that they
// see: a worker goes on seeing a file that another one has replaced.
func keyOf(e *envmgr.Environment, spec Spec) string {
	variables := variables(e, spec)
	key := []string{e.ID, e.Interpreter, spec.Domain, spec.Isolation, strconv.FormatInt(spec.MemoryBytes, 10), spec.Policy.Key()}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		key = append(key, name+"="+variables[name])
	}
	for _, m := range spec.Policy.Mounts {
		key = append(key, identity(m.Path))
	}
	return strings.Join(append(key, e.Paths...), "\x00")
}

// identity tells files and folders apart that lie at a path one after the other.
func identity(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// kindOf names the workers of a key, secrets in which it does not show.
func kindOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// variables are those that a worker sets before anything of the user's runs:
// its environment's, the folder of that one's files, and its functions' own.
// They travel with the launch line and not in the process's environment, which
// others can read and which programs obey that run before the worker does.
func variables(e *envmgr.Environment, spec Spec) map[string]string {
	all := map[string]string{}
	maps.Copy(all, e.Variables)
	if e.Files != "" {
		all[envmgr.FilesVariable] = e.Files
	}
	maps.Copy(all, spec.Variables)
	return all
}

// errClosed is returned where a pool is used after Close.
var errClosed = diag.New(diag.ConnectionLost, "the engine is shutting down")

// Acquire leases a worker: a warm one, or a fresh one; or none, where a spare
// one is asked for and memory is short. The caller gives it back with Release.
// Its errors are diagnostics or the context's.
func (p *Pool) Acquire(ctx context.Context, spec Spec) (*Worker, error) {
	if w, err := p.adopt(ctx, spec); w != nil || err != nil {
		return w, err
	}
	return p.acquire(ctx, spec)
}

func (p *Pool) acquire(ctx context.Context, spec Spec) (*Worker, error) {
	progress := spec.Progress
	if progress == nil {
		progress = func(string) {}
	}
	environment, err := p.options.Resolver.Resolve(ctx, spec.Environment, progress)
	if err != nil {
		return nil, err
	}
	key := keyOf(environment, spec)
	timeout := time.NewTimer(p.options.PlaceTime)
	defer timeout.Stop()
	waits := false // for memory
	defer func() {
		if waits {
			p.addWaiting(-1)
		}
	}()
	for starts := 1; ; {
		c, err := p.claim(key, spec)
		if c.worker != nil || c.refused || err != nil {
			return c.worker, err
		}
		if c.id != "" {
			w, err := p.startWorker(ctx, &Worker{id: c.id, key: key, environment: environment, memoryBytes: spec.MemoryBytes, policy: spec.Policy, visible: spec.Visible, variables: variables(environment, spec), domain: spec.Domain, job: spec.Job, leased: true})
			if killed, ok := errors.AsType[killedAtStart](err); !ok || starts >= killed.startsMax {
				return w, err
			}
			starts++
			continue
		}
		expired := timeout.C
		if c.memory {
			expired = nil // others end, or give back what they can do without
			if !waits {
				waits = true
				p.addWaiting(1)
				progress("waiting for memory: other jobs have all that workers may hold, " + FormatBytes(p.options.MemoryBytesMax))
				if p.options.Short != nil {
					p.options.Short()
				}
			}
		}
		select {
		case <-c.freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-expired:
			return nil, diag.New(diag.WorkerNotStarted, "no worker came free within %s: all %d are in use", p.options.PlaceTime, p.options.WorkersMax).
				WithHint("run fewer jobs at once, or jobs with fewer Python stages")
		}
	}
}

func (p *Pool) addWaiting(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += n
}

// claim is what Pool.claim gives: a warm worker, or the id of one to start, for
// which a place and memory have been taken, or a channel to wait on, with
// whether it is memory that is waited for, or a refusal.
type claim struct {
	worker  *Worker
	id      string
	freed   <-chan struct{}
	memory  bool
	refused bool
}

func (p *Pool) claim(key string, spec Spec) (claim, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return claim{}, errClosed
	}
	// The worker used last is the likeliest to have its memory still at hand.
	for i, w := range slices.Backward(p.idle) {
		if w.key == key {
			p.idle = slices.Delete(p.idle, i, i+1)
			w.expire.Stop()
			w.leased = true
			p.leaseLocked(w, spec.Job)
			return claim{worker: w}, nil
		}
	}
	if !p.admitLocked(key, spec) {
		return claim{freed: p.freed, memory: true, refused: spec.Spare}, nil
	}
	if p.places >= p.options.WorkersMax && len(p.idle) > 0 {
		p.endIdleLocked(p.idle[0])
	}
	if p.places >= p.options.WorkersMax {
		return claim{freed: p.freed}, nil
	}
	p.places++
	p.memoryBytes += spec.MemoryBytes
	p.addLeaseLocked(spec.Job, 1)
	p.next++
	return claim{id: fmt.Sprintf("w%d", p.next)}, nil
}

// admitLocked reports whether a worker may be started as far as memory is
// concerned, and ends idle workers to make room for it. Where the workers that
// are in use leave too little for it, a spare one is refused, and a job that has
// no worker waits for those that have, which do not need it to get on. A job
// that has one may be waiting with it for what the new one is to give, and a
// worker must be had where nobody has any: those are started beyond the bound.
//
// The first worker of a kind brings a zygote. Where zygotes alone are in the
// way, idle workers are ended, whose zygotes end soon after them.
func (p *Pool) admitLocked(key string, spec Spec) bool {
	bytesMax := p.options.MemoryBytesMax
	if bytesMax == 0 || spec.MemoryBytes == 0 {
		return true
	}
	zygotes := p.zygoteBytes
	if p.forks && !p.hasLocked(key) {
		zygotes += zygoteBytesMax
	}
	inUse := p.memoryBytes
	for _, w := range p.idle {
		inUse -= w.memoryBytes
	}
	beyond := inUse+zygotes+spec.MemoryBytes > bytesMax
	if beyond && inUse+spec.MemoryBytes <= bytesMax {
		for len(p.idle) > 0 {
			p.endIdleLocked(p.idle[0])
		}
	}
	if spec.Spare && (beyond || p.waiting > 0) || beyond && p.leases[spec.Job] == 0 && len(p.leases) > 0 {
		return false
	}
	for len(p.idle) > 0 && p.memoryBytes+zygotes+spec.MemoryBytes > bytesMax {
		p.endIdleLocked(p.idle[0])
	}
	return true
}

// hasLocked reports whether a worker of a key runs that is not told to end.
func (p *Pool) hasLocked(key string) bool {
	for _, w := range p.workers {
		if w.key == key && !w.ending {
			return true
		}
	}
	return false
}

// leaseLocked notes for which job a worker is, unleaseLocked that it is for none.
func (p *Pool) leaseLocked(w *Worker, job string) {
	w.job = job
	p.addLeaseLocked(job, 1)
}

func (p *Pool) unleaseLocked(w *Worker) { p.addLeaseLocked(w.job, -1) }

func (p *Pool) addLeaseLocked(job string, n int) {
	if p.leases[job] += n; p.leases[job] == 0 {
		delete(p.leases, job)
	}
	p.freedLocked() // whoever waits for memory, or is about to, may not have to any more
}

// leaveLocked gives up the place and the memory of a worker.
func (p *Pool) leaveLocked(w *Worker) {
	p.places--
	p.memoryBytes -= w.memoryBytes
	p.freedLocked()
}

func (p *Pool) freedLocked() {
	close(p.freed)
	p.freed = make(chan struct{})
}

// startWorker starts a worker, whose place is taken, and waits for its hello.
func (p *Pool) startWorker(ctx context.Context, w *Worker) (*Worker, error) {
	if err := p.launch(ctx, w); err != nil {
		p.mu.Lock()
		p.leaveLocked(w)
		p.unleaseLocked(w)
		p.mu.Unlock()
		return nil, err
	}
	if err := p.awaitHello(ctx, w); err != nil {
		p.Release(w, false)
		if p.isClosed() {
			return nil, errClosed
		}
		return nil, err
	}
	return w, nil
}

func (p *Pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// launch makes w's endpoint and process, and the goroutine that watches it.
func (p *Pool) launch(ctx context.Context, w *Worker) error {
	supervisor, err := p.running(ctx)
	if err != nil {
		return err
	}
	if w.endpoint, err = p.options.Host.Listen(w.id); err != nil {
		return err
	}
	w.supervisor = supervisor
	w.process, err = supervisor.StartWorker(ctx, Launch{
		ID: w.id, Interpreter: w.environment.Interpreter, Harness: p.options.Harness,
		Endpoint: w.endpoint.URL(), Token: w.endpoint.Token(), Paths: w.environment.Paths,
		Page: w.endpoint.Page(), MemoryBytes: w.memoryBytes, Policy: w.policy, Visible: append(slices.Clone(w.visible), filesOf(w.environment)...), Variables: w.variables,
		Kind: kindOf(w.key),
	})
	if err != nil {
		w.endpoint.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, ok := errors.AsType[*diag.Diagnostic](err); ok {
			return err
		}
		return notStarted(w.environment).WithCause(err).
			WithHint("check that the interpreter exists and can be executed")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed { // Close has seen to it, or will, that the process is killed
		w.endpoint.Close()
		return errClosed
	}
	p.workers[w.id] = w
	p.started++
	p.watching.Go(func() { p.watch(w) })
	return nil
}

// filesOf is the folder of an environment's files, if it has any.
func filesOf(e *envmgr.Environment) []string {
	if e.Files == "" {
		return nil
	}
	return []string{e.Files}
}

// Start starts the supervisor ahead of the first worker, which then starts
// sooner.
func (p *Pool) Start(ctx context.Context) error {
	_, err := p.running(ctx)
	return err
}

// SupervisorPID is the number of the supervisor's process, or 0 where none
// runs.
func (p *Pool) SupervisorPID() int {
	if s := p.livingSupervisor(); s != nil {
		return s.PID()
	}
	return 0
}

// MemoryControl says by what limits of workers' memory are kept; it is empty
// where no supervisor runs.
func (p *Pool) MemoryControl() MemoryControl {
	if s := p.livingSupervisor(); s != nil {
		return s.MemoryControl()
	}
	return MemoryControl{}
}

// Zygotes is how many zygotes there are, which workers are forked from.
func (p *Pool) Zygotes() int {
	if s := p.livingSupervisor(); s != nil {
		return s.Zygotes()
	}
	return 0
}

// Sandbox says how far workers are shut in where their functions leave it to
// the engine. It is empty where no supervisor runs, or has not told yet.
func (p *Pool) Sandbox() SandboxStatus {
	if s := p.livingSupervisor(); s != nil {
		if report, ok := s.Sandbox(); ok {
			return sandboxStatus(report, s.MemoryControl())
		}
	}
	return SandboxStatus{}
}

// livingSupervisor is the supervisor that runs, or nil.
func (p *Pool) livingSupervisor() *Supervisor {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.supervisor == nil {
		return nil
	}
	select {
	case <-p.supervisor.Lost():
		return nil
	default:
		return p.supervisor
	}
}

// running gives the supervisor; it starts one where none runs.
func (p *Pool) running(ctx context.Context) (*Supervisor, error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.isClosed() {
		return nil, errClosed
	}
	if p.supervisor != nil {
		select {
		case <-p.supervisor.Lost():
			p.supervisor.Close()
			p.supervisor = nil
		default:
			return p.supervisor, nil
		}
	}
	var err error
	p.supervisor, err = Start(ctx, p.options.Supervisor)
	return p.supervisor, err
}

// awaitHello waits until the worker has connected.
func (p *Pool) awaitHello(ctx context.Context, w *Worker) error {
	timeout := time.NewTimer(p.options.StartTime)
	defer timeout.Stop()
	select {
	case <-w.endpoint.Ready():
		return nil
	case <-w.Dead():
		select {
		case <-w.endpoint.Ready():
			return nil // it did say hello: how it died is its lease's business
		default:
		}
		return diedAtStart(w.environment, w.Death())
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timeout.C:
		return notStarted(w.environment).
			WithFact("process %d said nothing for %s", w.PID(), p.options.StartTime).
			WithHint("a start file (sitecustomize.py, a .pth file) of the environment may be waiting for something")
	}
}

func notStarted(e *envmgr.Environment) *diag.Diagnostic {
	return diag.New(diag.WorkerNotStarted, "a Python worker could not be started with %s", e.Interpreter)
}

// startLinesMax is how much of a worker's output a diagnostic shows.
const startLinesMax = 4

var missingModule = regexp.MustCompile(`No module named '([^'.]+)`)

// packages are the distributions of modules that the harness imports, where
// the names differ.
var packages = map[string]string{"grpc": "grpcio"}

// How often a worker is started that a signal ends before it says hello, which
// is somebody else's doing: another one may live. SIGKILL is nothing that native
// code does to itself, and comes as often to a worker that starts as to one that
// runs, of which a bundle outlives as many.
const (
	startsMax       = 3
	killedStartsMax = 9
)

// killedAtStart is the error of a worker that a signal ended before its hello,
// with how often it may have been started.
type killedAtStart struct {
	error
	startsMax int
}

// Unwrap gives the diagnostic.
func (k killedAtStart) Unwrap() error { return k.error }

// diedAtStart says why a worker ended before it said hello.
func diedAtStart(e *envmgr.Environment, death Death) error {
	d := notStarted(e).WithFact("%s", death)
	if death.Kind == SupervisorLost {
		return killedAtStart{d.WithHint("something ended the engine's worker-pool process; the system's log may say what"), startsMax}
	}
	if death.Kind == Signalled {
		d.Cause = death.LastWords(startLinesMax)
		d = d.WithHint("if nobody killed it, look at the kernel's log: the machine may be short of memory")
		if death.Signal == int(syscall.SIGKILL) {
			return killedAtStart{d, killedStartsMax}
		}
		return killedAtStart{d, startsMax}
	}
	d.Cause = death.LastWords(startLinesMax)
	if m := missingModule.FindStringSubmatch(death.Output); m != nil {
		name := m[1]
		if known, ok := packages[name]; ok {
			name = known
		}
		return d.WithHint("a worker needs %s: install it in that environment", name)
	}
	return d.WithHint("run %s -c \"import pyarrow\" to see whether the environment is whole", e.Interpreter)
}

// watch waits for w's death and forgets it. The endpoint of a leased worker
// stays until Release, so that what the worker sent can still be read.
func (p *Pool) watch(w *Worker) {
	<-w.Dead()
	p.mu.Lock()
	delete(p.workers, w.id)
	if i := slices.Index(p.idle, w); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		w.expire.Stop()
	}
	if !w.ending {
		w.ending = true
		p.deaths++
		p.leaveLocked(w)
	}
	leased := w.leased
	p.mu.Unlock()
	if !leased {
		w.endpoint.Close()
	}
}

// Interrupt stops a leased worker that is in the middle of something: SIGINT,
// and SIGKILL a second later. It does not wait. The caller still calls
// Release.
func (p *Pool) Interrupt(w *Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(w, (*Supervisor).StopWorker)
}

// Release gives a leased worker back. A worker that may be in the middle of
// something is not reusable, and is interrupted.
func (p *Pool) Release(w *Worker, reusable bool) {
	dead := false
	p.mu.Lock()
	w.leased = false
	p.unleaseLocked(w)
	select {
	case <-w.Dead():
		dead = true
	default:
		if reusable && !w.ending && !p.closed {
			p.keepLocked(w)
		} else {
			p.endLocked(w, (*Supervisor).StopWorker)
		}
	}
	p.mu.Unlock()
	if dead {
		w.endpoint.Close()
	}
}

// keepLocked makes w idle, at the cost of the one that has been idle longest
// where there are too many.
func (p *Pool) keepLocked(w *Worker) {
	p.idle = append(p.idle, w)
	w.expire = time.AfterFunc(p.options.IdleTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.Contains(p.idle, w) {
			p.endIdleLocked(w)
		}
	})
	if len(p.idle) > p.options.IdleMax {
		p.endIdleLocked(p.idle[0])
	}
	p.freedLocked()
}

// EndIdle ends the idle workers of a domain, which nobody will ask for any
// more. It does not wait.
func (p *Pool) EndIdle(domain string) {
	p.endIdle(func(w *Worker) bool { return w.domain == domain })
}

// EndAllIdle ends all idle workers. It does not wait.
func (p *Pool) EndAllIdle() { p.endIdle(func(*Worker) bool { return true }) }

func (p *Pool) endIdle(which func(*Worker) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range slices.Clone(p.idle) {
		if which(w) {
			p.endIdleLocked(w)
		}
	}
}

// MemoryShare is how much of the memory that workers may hold together has
// been given out.
type MemoryShare struct {
	// LimitBytes is PoolOptions.MemoryBytesMax, Bytes the sum of the limits of
	// the workers that run and of their zygotes, and Waiting how many workers are
	// waited for.
	LimitBytes int64 `json:"limit_bytes"`
	Bytes      int64 `json:"bytes"`
	Waiting    int   `json:"waiting"`
}

// Memory tells how much of their memory has been given out to workers.
func (p *Pool) Memory() MemoryShare {
	p.mu.Lock()
	defer p.mu.Unlock()
	return MemoryShare{LimitBytes: p.options.MemoryBytesMax, Bytes: p.memoryBytes + p.zygoteBytes, Waiting: p.waiting}
}

func (p *Pool) endIdleLocked(w *Worker) {
	p.idle = slices.DeleteFunc(p.idle, func(o *Worker) bool { return o == w })
	w.expire.Stop()
	p.endLocked(w, (*Supervisor).EndWorker)
}

// endLocked gives w's place free and has the supervisor end it, in a goroutine
// since mu is held. Where the request fails the supervisor is lost, and w dead.
func (p *Pool) endLocked(w *Worker, ask func(*Supervisor, context.Context, string) error) {
	if w.ending {
		return
	}
	w.ending = true
	p.leaveLocked(w)
	if p.closed {
		return // Close has the supervisor kill all
	}
	p.watching.Go(func() { _ = ask(w.supervisor, context.Background(), w.id) })
}

// Workers lists the workers that run, in the order of their starts.
func (p *Pool) Workers() []WorkerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	workers := make([]*Worker, 0, len(p.workers))
	for _, w := range p.workers {
		workers = append(workers, w)
	}
	slices.SortFunc(workers, func(a, b *Worker) int { return cmp.Or(len(a.id)-len(b.id), strings.Compare(a.id, b.id)) })
	list := make([]WorkerStatus, len(workers))
	for i, w := range workers {
		list[i] = WorkerStatus{
			ID: w.id, PID: w.PID(), Busy: w.leased, Environment: w.environment.ID,
			Interpreter: w.environment.Interpreter, PythonVersion: w.environment.PythonVersion, Level: w.process.Level().String(),
			Forked: w.process.forked,
		}
	}
	return list
}

// Counts are the workers that ran since the pool was made, and those of them
// that died without being told to end.
func (p *Pool) Counts() (started, deaths int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started, p.deaths
}

// Close kills all workers, ends the supervisor and waits until nothing is
// left. Workers that are still leased die; their holders still call Release,
// which closes their endpoints.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		w.expire.Stop()
	}
	p.idle = nil
	p.freedLocked()
	p.mu.Unlock()

	p.starting.Lock()
	if p.supervisor != nil {
		p.supervisor.Close()
	}
	p.starting.Unlock()
	p.watching.Wait()
}
