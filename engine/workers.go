package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/fnapi"
	"github.com/alink-runtime/alink/python"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// binary is the name of the engine's binary, and poolCommand the subcommand
// that is the supervisor.
const (
	binary      = "pyrunner"
	poolCommand = "worker-pool"
)

// harnessRequirements are what the worker's program needs in an environment.
// numpy is what vectorised functions get and makes the row loop faster.
func harnessRequirements(o Options) []string {
	if fnapi.Lane(o.Lane) == fnapi.Portable {
		return []string{"pyarrow", "numpy", "grpcio"}
	}
	return []string{"pyarrow", "numpy"}
}

// workers are an engine's Python side: environments, the supervisor, the pool.
type workers struct {
	runner       *fnapi.Runner
	environments *envmgr.Store
	// starting is done when the supervisor and a warm worker have started, or
	// could not; a failure is met again by whoever needs a worker.
	starting sync.WaitGroup
	cancel   context.CancelFunc
	stages   atomic.Int64
	jobs     atomic.Int64

	mu    sync.Mutex
	notes map[string]func(string) // by stage
}

func openWorkers(options Options, artifacts *artifacts) (*workers, error) {
	runDir, err := filepath.Abs(options.RunDir)
	if err != nil {
		return nil, fmt.Errorf("find the run directory: %w", err)
	}
	environments, err := OpenEnvironments(options)
	if err != nil {
		return nil, err
	}
	harness, err := python.SharedHarness(environments.CacheDir())
	if err != nil {
		return nil, err
	}
	command := options.WorkerPool
	if command == nil {
		if command, err = findWorkerPool(); err != nil {
			return nil, err
		}
	}
	w := &workers{environments: environments, notes: map[string]func(string){}}
	w.runner, err = fnapi.NewRunner(fnapi.Options{
		Pool: udfworker.PoolOptions{
			Supervisor: udfworker.SupervisorOptions{Command: command, RunDir: runDir, Stderr: options.Log, Launcher: options.Launcher},
			Resolver:   environments,
			Harness:    harness,

			MemoryBytesMax: options.WorkerMemoryBytes,
		},
		Artifacts: artifacts,
		Progress:  w.note,
		Sandbox:   sandbox.Mode(options.Sandbox),
		Lane:      fnapi.Lane(options.Lane),
	})
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	start := func(ctx context.Context) { _ = w.runner.Start(ctx) } // met again by whoever needs a worker
	if options.Warm != nil {
		start = w.runner.Warm(options.Warm) // before the first job can ask for one
	}
	w.starting.Go(func() { start(ctx) })
	return w, nil
}

// findWorkerPool looks for the engine's binary: this program itself, beside
// it, where ALINK_PYRUNNER says, and on PATH.
func findWorkerPool() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's path: %w", err)
	}
	if filepath.Base(self) == binary {
		return []string{self, poolCommand}, nil
	}
	tried := []string{filepath.Join(filepath.Dir(self), binary)}
	if named := os.Getenv("ALINK_PYRUNNER"); named != "" {
		tried = append([]string{named}, tried...)
	}
	for _, path := range tried {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return []string{path, poolCommand}, nil
		}
	}
	if path, err := exec.LookPath(binary); err == nil {
		return []string{path, poolCommand}, nil
	}
	return nil, diag.New(diag.EngineNotFound, "the binary %s, which supervises workers, was not found", binary).
		WithFact("looked at %s and on PATH", strings.Join(tried, ", ")).
		WithHint("set ALINK_PYRUNNER or Options.WorkerPool to its path")
}

// stageID names a stage of functions within the engine.
func (w *workers) stageID() string { return fmt.Sprintf("stage%d", w.stages.Add(1)) }

// jobName tells the jobs that have workers apart.
func (w *workers) jobName() string { return fmt.Sprintf("job%d", w.jobs.Add(1)) }

// onNote passes what is told about a stage to f until the returned function is
// called.
func (w *workers) onNote(stage string, f func(string)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[stage] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.notes, stage)
	}
}

func (w *workers) note(stage, text string) {
	w.mu.Lock()
	f := w.notes[stage]
	w.mu.Unlock()
	if f != nil {
		f(text)
	}
}

func (w *workers) supervisorPID() int { return w.runner.SupervisorPID() }

func (w *workers) status() []WorkerStatus {
	out := []WorkerStatus{}
	for _, s := range w.runner.Workers() {
		out = append(out, WorkerStatus{ID: s.ID, PID: s.PID, Environment: s.Environment, Busy: s.Busy, Forked: s.Forked, Sandbox: s.Level})
	}
	return out
}

func (w *workers) counts() WorkerCounts {
	var c WorkerCounts
	c.Started, c.Deaths = w.runner.WorkerCounts()
	c.Zygotes = w.runner.Zygotes()
	c.Segments = w.runner.Segments()
	for _, s := range w.runner.Workers() {
		c.Running++
		if s.Busy {
			c.Busy++
		}
	}
	return c
}

// idle counts the workers that nobody uses.
func (w *workers) idle() int {
	c := w.counts()
	return c.Running - c.Busy
}

func (w *workers) close() {
	w.cancel()
	w.starting.Wait()
	w.runner.Close()
	_ = w.environments.Close() // locks, which the end of the process gives up too
}
