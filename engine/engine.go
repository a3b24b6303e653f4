// Package engine runs jobs in this process. It wires the rooms below it
// (plans, the dataflow, DuckDB, connectors, workers, environments) and is what
// the server, the command line and Go programs use.
//
//	e, err := engine.Open(ctx, engine.Options{})
//	job, err := e.Submit(ctx, p)       // p is a *plan.Plan
//	reader, err := job.Result("out")   // of the plan's collect node "out"
//	…
//	err = job.Wait(ctx)
//	err = e.Close()
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/fnapi"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// Limits of an engine.
const (
	// jobsRunningMax is the number of jobs that run at the same time.
	jobsRunningMax = 64
	// jobsKeptMax is the number of ended jobs whose outcome can be asked for.
	jobsKeptMax = 64
	// lettersBytesMax bounds the dead letters of ended jobs, all together; those
	// of the oldest are given up first.
	lettersBytesMax = 256 << 20
	// parserMemoryBytes is what reading a query may take.
	parserMemoryBytes = 64 << 20
)

// Options configure an engine. The zero value is usable from a program whose
// directory holds the pyrunner binary.
type Options struct {
	// RunDir is an empty, private folder for sockets and artifacts; "" makes
	// one, which Close removes. Its path must be short: sockets live in it.
	RunDir string
	// CacheDir holds environments; "" means the user's cache directory.
	CacheDir string
	// UV is the path of uv; "" looks for it where it usually is.
	UV string
	// Offline forbids building environments from an index.
	Offline bool
	// SourceBuilds allows environments to have packages built from source,
	// which runs their code; without it there are wheels only.
	SourceBuilds bool
	// Sandbox is how workers are confined where their functions do not say:
	// "auto" or "", as far as this machine can; "off"; or "strict", at least
	// with namespaces of their own, and then no function may want less.
	Sandbox string
	// MemoryLimitBytes bounds what the engine's jobs hold; see shares. 0 means
	// half of the machine's memory.
	MemoryLimitBytes int64
	// WorkerMemoryBytes bounds the memory that all workers together may hold,
	// by their limits; see udfworker.PoolOptions. 0 means the machine's memory.
	WorkerMemoryBytes int64
	// Parallelism is the number of subtasks and workers of a stage and of
	// DuckDB's threads; 0 means the number of processors.
	Parallelism int
	// BatchRows is the largest number of rows in a batch that a source or a
	// relational step gives; 0 leaves it to them.
	BatchRows int
	// SpillDir is the folder for data beyond memory; "" means one in RunDir.
	SpillDir string
	// Launcher is the command of a site's own launcher of workers, which is used
	// instead of the sandbox: see udfworker.Template. "" is none.
	Launcher string
	// Lane is how workers are reached: "local" or "", by frames and shared
	// memory; "portable", by Beam's gRPC services, for which their environments
	// need grpcio.
	Lane string
	// Policy is what functions may ask for; nil is everything.
	Policy *Policy
	// RestrictFiles lets plans read and write in Folders alone.
	RestrictFiles bool
	Folders       []string
	// TableBytesMax bounds the tables that clients have sent and those that
	// jobs keep, all together, in memory and on disk; 0 is no bound.
	TableBytesMax int64
	// Warm is an environment that a worker is started in ahead of the first
	// job; nil means none.
	Warm *plan.Environment
	// WorkerPool is the command that starts the supervisor of workers; nil
	// means `pyrunner worker-pool`, pyrunner being this program or found
	// beside it or on PATH.
	WorkerPool []string
	// Log receives what the supervisor writes to its standard error; nil
	// means os.Stderr.
	Log io.Writer
}

// Validate reports the first option that cannot be used.
func (o Options) Validate() error {
	if o.MemoryLimitBytes < 0 {
		return diag.New(diag.BadOption, "memory must be positive, not %d bytes", o.MemoryLimitBytes)
	}
	if o.WorkerMemoryBytes < 0 {
		return diag.New(diag.BadOption, "worker_memory must be positive, not %d bytes", o.WorkerMemoryBytes)
	}
	if o.TableBytesMax < 0 {
		return diag.New(diag.BadOption, "the bytes of tables must be positive, not %d", o.TableBytesMax)
	}
	if o.BatchRows < 0 {
		return diag.New(diag.BadOption, "the rows of a batch must be positive, not %d", o.BatchRows)
	}
	if o.Parallelism < 0 {
		return diag.New(diag.BadOption, "parallelism must be positive, not %d", o.Parallelism)
	}
	if err := o.Policy.Validate(); err != nil {
		return err
	}
	switch o.Sandbox {
	case "", "auto", "off", "strict":
	default:
		return diag.New(diag.BadOption, "sandbox must be auto, strict or off, not %q", o.Sandbox)
	}
	if _, err := udfworker.ParseTemplate(o.Launcher); err != nil {
		return err
	}
	if o.Lane != "" && o.Lane != string(fnapi.Local) && o.Lane != string(fnapi.Portable) {
		return diag.New(diag.BadOption, "lane must be local or portable, not %q", o.Lane)
	}
	if o.SpillDir == "" {
		return nil
	}
	if info, err := os.Stat(o.SpillDir); err != nil || !info.IsDir() {
		return diag.New(diag.BadOption, "spill_dir %q is not a folder", o.SpillDir).WithCause(err)
	}
	return nil
}

// Engine runs jobs. Its methods may be called from several goroutines.
type Engine struct {
	options   Options
	ownsDir   bool
	artifacts *artifacts
	folders   *folders
	tables    *tables
	budget    *budget
	// relationals are where jobs get their DuckDB from.
	relationals *relationals
	// sideTables are those that functions get whole.
	sideTables *sideTables
	// stopGuard ends the guard of the engine's memory.
	stopGuard func()
	workers   *workers

	mu      sync.Mutex
	jobs    map[string]*Job
	order   []string // the jobs' names, oldest first
	started int
	closed  bool
}

// Open starts an engine. The supervisor of workers is started on the side.
func Open(_ context.Context, options Options) (*Engine, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	if options.Parallelism == 0 {
		options.Parallelism = runtime.NumCPU()
	}
	if options.MemoryLimitBytes == 0 {
		options.MemoryLimitBytes = machineMemoryBytes() / 2
	}
	if options.WorkerMemoryBytes == 0 {
		options.WorkerMemoryBytes = machineMemoryBytes()
	}
	if options.Log == nil {
		options.Log = os.Stderr
	}
	e := &Engine{options: options, jobs: map[string]*Job{}, budget: &budget{freeBytes: sharesOf(options.MemoryLimitBytes).relationalBytes}}
	if options.RunDir == "" {
		dir, err := os.MkdirTemp("", "alink-")
		if err != nil {
			return nil, fmt.Errorf("make a run directory: %w", err)
		}
		e.options.RunDir, e.ownsDir = dir, true
	}
	if err := e.open(); err != nil {
		if e.sideTables != nil {
			err = errors.Join(err, e.sideTables.Close())
		}
		return nil, errors.Join(err, e.removeDir())
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	if e.options.SpillDir == "" {
		e.options.SpillDir = filepath.Join(e.options.RunDir, "spill")
		if err := os.MkdirAll(e.options.SpillDir, 0o700); err != nil {
			return fmt.Errorf("make the spill folder: %w", err)
		}
	}
	e.sideTables = newSideTables(e.options.SpillDir)
	if e.artifacts, err = newArtifacts(filepath.Join(e.options.RunDir, "artifacts"), e.sideTables); err != nil {
		return fmt.Errorf("make the artifacts' folder: %w", err)
	}
	if e.folders, err = openFolders(e.options); err != nil {
		return err
	}
	e.tables = newTables(exec.SpoolOptions{Memory: exec.NewAllowance(e.shares().tableBytes), Dir: e.options.SpillDir}, e.options.TableBytesMax)
	if e.workers, err = openWorkers(e.options, e.artifacts); err != nil {
		return err
	}
	e.relationals = &relationals{options: e.options, foreign: foreignBytes}
	e.stopGuard = newGuard(e).start()
	return nil
}

func (e *Engine) shares() shares { return sharesOf(e.options.MemoryLimitBytes) }

// MemoryLimitBytes is the limit in force.
func (e *Engine) MemoryLimitBytes() int64 { return e.options.MemoryLimitBytes }

// RunDir is the engine's private folder.
func (e *Engine) RunDir() string { return e.options.RunDir }

// PutArtifact keeps what functions refer to: a pickle, a zip of modules, a
// model. The name is the SHA-256 of the content.
func (e *Engine) PutArtifact(data []byte) (string, error) { return e.artifacts.Put(data) }

// HasArtifact reports whether an artifact is there.
func (e *Engine) HasArtifact(id string) bool { return e.artifacts.Has(id) }

// DropArtifact forgets an artifact that no job refers to any more.
func (e *Engine) DropArtifact(id string) error { return e.artifacts.Drop(id) }

// PutTable reads a table to its end and keeps it under a name for ScanTable.
// The caller releases the reader.
func (e *Engine) PutTable(ctx context.Context, name string, reader array.RecordReader) error {
	return e.tables.put(ctx, name, reader)
}

// DropTable forgets a table. Jobs that read it go on.
func (e *Engine) DropTable(name string) { e.tables.drop(name) }

// DropTables forgets the tables whose names begin with a prefix.
func (e *Engine) DropTables(prefix string) { e.tables.dropAll(prefix) }

// Describe gives the schema of a node's result. It reads no data.
func (e *Engine) Describe(ctx context.Context, p *plan.Plan, node string) (*arrow.Schema, error) {
	const probe = "described"
	described := *p
	described.Nodes = append(slices.Clone(p.Nodes), plan.Node{ID: probe, Inputs: []string{node}, Op: plan.Collect{}})
	b, err := e.newBuild(&described)
	if err != nil {
		return nil, err
	}
	defer b.close()
	physical, err := plan.Lower(ctx, &described, b)
	if err != nil {
		return nil, err
	}
	b.well = true
	return physical.Results[probe].Schema, nil
}

// QueryNames tells which tables and parameters a SQL query leaves to its
// surroundings. origin is where the user wrote it.
func (e *Engine) QueryNames(ctx context.Context, query string, origin *diag.Source) (_ *plan.QueryNames, err error) {
	opened, err := e.relationals.open(relationalUse{threads: 1, memoryBytes: parserMemoryBytes})
	if err != nil {
		return nil, err
	}
	defer func() { e.relationals.giveBack(opened, err == nil) }()
	reader, ok := opened.Relational.(queryReader)
	if !ok {
		return nil, diag.New(diag.NoRelational, "this engine reads no SQL")
	}
	return reader.QueryNames(ctx, query, origin)
}

// queryReader is a relational engine that knows SQL.
type queryReader interface {
	QueryNames(ctx context.Context, query string, origin *diag.Source) (*plan.QueryNames, error)
}

// Submit checks and types a plan and starts it. Errors that can be known
// before anything runs are returned here.
func (e *Engine) Submit(ctx context.Context, p *plan.Plan) (*Job, error) {
	return e.SubmitIn(ctx, p, "")
}

// SubmitIn is Submit for a client among several: a worker that has run one
// domain's functions runs no other's.
func (e *Engine) SubmitIn(ctx context.Context, p *plan.Plan, domain string) (*Job, error) {
	b, err := e.newBuild(p)
	if err != nil {
		return nil, err
	}
	b.domain = domain
	job := newJob(e)
	if err := b.graph(ctx, job); err != nil {
		b.close()
		return nil, err
	}
	if err := e.register(job); err != nil {
		b.close()
		return nil, err
	}
	job.start(func() {
		b.well = job.err == nil
		b.close()
	})
	return job, nil
}

func (e *Engine) register(job *Job) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return diag.New(diag.ConnectionLost, "the engine has been closed")
	}
	running := 0
	for _, id := range e.order {
		if !e.jobs[id].ended() {
			running++
		}
	}
	if running >= jobsRunningMax {
		return diag.New(diag.BadOption, "%d jobs are running; the limit is %d", running, jobsRunningMax).
			WithHint("wait for one of them to end")
	}
	e.started++
	job.ID = fmt.Sprintf("j%d", e.started)
	e.jobs[job.ID] = job
	e.order = append(e.order, job.ID)
	e.forget()
	return nil
}

// forget drops the oldest ended jobs above the number that is kept; mu is
// held.
func (e *Engine) forget() {
	for _, job := range e.jobs {
		if job.ended() {
			job.lines.shrink()
		}
	}
	excess := len(e.order) - jobsKeptMax
	e.order = slices.DeleteFunc(e.order, func(id string) bool {
		job := e.jobs[id]
		if excess <= 0 || !job.ended() {
			return false
		}
		excess--
		job.forget()
		delete(e.jobs, id)
		return true
	})
	e.forgetLetters(lettersBytesMax)
}

// forgetLetters gives up the dead letters of the oldest ended jobs; mu is held.
func (e *Engine) forgetLetters(bytesMax int64) {
	bytes := int64(0)
	for _, id := range slices.Backward(e.order) {
		if job := e.jobs[id]; job.ended() {
			if bytes += job.lettersBytes(); bytes > bytesMax {
				job.releaseLetters()
			}
		}
	}
}

// Job finds a job by its name.
func (e *Engine) Job(id string) (*Job, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	job := e.jobs[id]
	if job == nil {
		return nil, diag.New(diag.UnknownJob, "there is no job %q", id).WithHint("%s", diag.DidYouMean(id, "jobs", e.order))
	}
	return job, nil
}

// Jobs are those that run, and the ended ones whose outcome is kept, in the
// order in which they were started.
func (e *Engine) Jobs() []*Job {
	e.mu.Lock()
	defer e.mu.Unlock()
	jobs := make([]*Job, len(e.order))
	for i, id := range e.order {
		jobs[i] = e.jobs[id]
	}
	return jobs
}

// ArrowBytes are held by Arrow buffers of this process, garbage that has not
// been collected yet included.
func (e *Engine) ArrowBytes() int64 { return arrowMemory.bytes.Load() }

// EndDomain ends the idle workers of a domain of SubmitIn: no job of it will be
// submitted any more.
func (e *Engine) EndDomain(domain string) {
	e.workers.runner.EndIdle(domain)
	e.artifacts.EndDomain(domain)
	e.relationals.endDomain(domain)
}

// TableBytes are those of the tables that clients have sent and that jobs keep,
// in memory and on disk.
func (e *Engine) TableBytes() int64 { return e.tables.bytes() }

// MemoryControl says by what the limits of workers' memory are kept: "cgroup2",
// "cgroup1", "watch" or "none", and why not by something better. It is empty
// as long as no supervisor of workers runs.
type MemoryControl = udfworker.MemoryControl

// MemoryControl says by what the limits of workers' memory are kept.
func (e *Engine) MemoryControl() MemoryControl { return e.workers.runner.MemoryControl() }

// ProbeMemoryControl finds by what limits would be kept on this machine.
func ProbeMemoryControl() MemoryControl { return udfworker.ProbeMemoryControl() }

// WorkerMemory tells how much of the memory that workers may hold together has
// been given out.
type WorkerMemory = udfworker.MemoryShare

// WorkerMemory tells how much memory workers may hold.
func (e *Engine) WorkerMemory() WorkerMemory { return e.workers.runner.WorkerMemory() }

// SandboxStatus says how far workers are shut in, and why not further.
type SandboxStatus = udfworker.SandboxStatus

// Sandbox says how far workers are shut in where their functions leave it to
// the engine. It is empty as long as no supervisor of workers has told.
func (e *Engine) Sandbox() SandboxStatus { return e.workers.runner.Sandbox() }

// ProbeSandbox finds how far workers would be shut in on this machine, and what
// each layer needs.
func ProbeSandbox() (SandboxStatus, []sandbox.Layer) {
	status, report := udfworker.ProbeSandbox()
	return status, report.Layers
}

// WorkerCounts is what the pool of workers has been through.
func (e *Engine) WorkerCounts() WorkerCounts { return e.workers.counts() }

// WorkerCounts count workers since the engine was opened, and the segments of
// shared memory that those which live have.
type WorkerCounts struct {
	Running, Busy   int
	Started, Deaths int64
	Segments        int64
	// Zygotes are no workers: processes that live, which workers are forked from.
	Zygotes int
}

// Lane is how workers are reached.
func (e *Engine) Lane() string { return string(e.workers.runner.Lane()) }

// Status is what the engine is doing.
type Status struct {
	EnginePID     int            `json:"engine_pid"`
	SupervisorPID int            `json:"supervisor_pid"`
	Workers       []WorkerStatus `json:"workers"`
	// Zygotes is how many processes there are that workers are forked from.
	Zygotes int `json:"zygotes"`
	// MemoryControl is by what the limits of workers' memory are kept.
	MemoryControl MemoryControl `json:"memory_control"`
	// WorkerMemory is what workers may hold together, and what has been given out.
	WorkerMemory WorkerMemory `json:"worker_memory"`
	// Sandbox is how far workers are shut in where functions do not say.
	Sandbox SandboxStatus `json:"sandbox"`
	// ArrowBytes are held by Arrow buffers of the engine's process.
	ArrowBytes int64 `json:"arrow_bytes"`
	// Segments are those of memory that is shared with workers.
	Segments int64       `json:"segments"`
	Jobs     []JobStatus `json:"jobs"`
}

// WorkerStatus is one worker.
type WorkerStatus struct {
	ID          string `json:"id"`
	PID         int    `json:"pid"`
	Environment string `json:"environment"`
	Busy        bool   `json:"busy"`
	// Forked says that it was forked from a zygote.
	Forked bool `json:"forked"`
	// Sandbox is the level at which it is shut in.
	Sandbox string `json:"sandbox"`
}

// JobStatus is one job.
type JobStatus struct {
	ID    string `json:"id"`
	State State  `json:"state"`
}

// Status reports processes and jobs.
func (e *Engine) Status() Status {
	s := Status{
		EnginePID: os.Getpid(), SupervisorPID: e.workers.supervisorPID(), Workers: e.workers.status(), Zygotes: e.workers.counts().Zygotes,
		MemoryControl: e.MemoryControl(), WorkerMemory: e.WorkerMemory(), Sandbox: e.Sandbox(), ArrowBytes: arrowMemory.live(),
		Segments: e.workers.runner.Segments(), Jobs: []JobStatus{},
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range e.order {
		s.Jobs = append(s.Jobs, JobStatus{id, e.jobs[id].State()})
	}
	return s
}

// Close cancels the jobs, waits for them and ends every worker. The engine's
// own folder is removed.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	jobs := slices.Collect(maps.Values(e.jobs))
	e.mu.Unlock()
	for _, job := range jobs {
		job.Cancel()
	}
	for _, job := range jobs {
		<-job.done
		job.forget()
	}
	e.stopGuard()
	e.workers.close()
	e.relationals.close()
	return errors.Join(e.tables.close(), e.sideTables.Close(), e.removeDir())
}

func (e *Engine) removeDir() error {
	if !e.ownsDir {
		return nil
	}
	return os.RemoveAll(e.options.RunDir)
}
