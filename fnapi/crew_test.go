package fnapi

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// crewStage makes a stage that shares workers.
func crewStage(source string, workers int) *exec.FunctionStage {
	s := newStage(exec.StageColumns, source)
	s.Crew, s.CrewWorkers = "crew", workers
	return s
}

// oneRow runs one bundle of a row.
func oneRow(t *testing.T, s exec.FunctionSession) error {
	t.Helper()
	b, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 1), 0)
	if err != nil {
		return err
	}
	batches, err := b.Wait(t.Context())
	releaseAll(batches)
	return err
}

// TestSessionsShareWorkers in turns: none has all its results before each has
// some.
func TestSessionsShareWorkers(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	const sessions, workers = 6, 2
	var mu sync.Mutex
	begun, ended, behind := 0, 0, 0
	var running sync.WaitGroup
	for range sessions {
		running.Go(func() {
			s, err := r.Open(t.Context(), crewStage("nap@0", workers))
			if err != nil {
				t.Error(err)
				return
			}
			if err := oneRow(t, s); err != nil {
				t.Error(err)
			}
			mu.Lock()
			begun++
			if ended > 0 {
				behind++
			}
			mu.Unlock()
			for range 30 {
				if err := oneRow(t, s); err != nil {
					t.Error(err)
				}
			}
			mu.Lock()
			ended++
			mu.Unlock()
			runAll(t, s, mem, 20, 100)
			_ = s.Close()
		})
	}
	running.Wait()
	if begun != sessions || behind > 0 {
		t.Errorf("%d of %d sessions began, %d of them when another had ended", begun, sessions, behind)
	}
	if n := len(r.Workers()); n != workers {
		t.Errorf("%d workers for a crew of %d", n, workers)
	}
	if len(r.crews) != 0 {
		t.Errorf("%d crews are left", len(r.crews))
	}
}

// TestAnIdleSessionGivesItsWorkerUp, and gets it again.
func TestAnIdleSessionGivesItsWorkerUp(t *testing.T) {
	r := newRunner(t, nil)
	first := open(t, r, crewStage("", 1))
	second := open(t, r, crewStage("", 1))
	for range 3 {
		for _, s := range []exec.FunctionSession{first, second} {
			if err := oneRow(t, s); err != nil {
				t.Error(err)
			}
		}
	}
	_ = first.Close()
	if err := oneRow(t, second); err != nil {
		t.Error(err)
	}
	_ = second.Close()
	if n := len(r.Workers()); n != 1 {
		t.Errorf("%d workers", n)
	}
}

// TestWaitingForATurnEnds with the context, and with the session; the turn goes
// to the next.
func TestWaitingForATurnEnds(t *testing.T) {
	r := newRunner(t, nil)
	busy := open(t, r, crewStage("hang", 1))
	in := newSource(memory.DefaultAllocator, 0, 1)
	if _, err := busy.Submit(t.Context(), in, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is busy", func() bool { return in.opened.Load() > 0 })
	impatient, closed, patient := open(t, r, crewStage("", 1)), open(t, r, crewStage("", 1)), open(t, r, crewStage("", 1))
	b, err := impatient.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if _, err := b.Wait(ctx); !errors.Is(err, cause) {
		t.Errorf("wait: %v", err)
	}
	if _, err := closed.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 1), 0); err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	done := make(chan error)
	go func() { done <- oneRow(t, patient) }()
	time.Sleep(20 * time.Millisecond)
	_ = busy.Close() // its worker is ended, and its place goes on
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = patient.Close()
	_ = impatient.Close()
}

// TestDeathsInACrew: the bundles of each session are run again, whoever killed
// the worker.
func TestDeathsInACrew(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	dir := t.TempDir()
	var running sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		running.Go(func() {
			s, err := r.Open(t.Context(), crewStage("dieonce@150:"+filepath.Join(dir, name), 1))
			if err != nil {
				t.Error(err)
				return
			}
			runAll(t, s, mem, 30, 10)
			_ = s.Close()
		})
	}
	running.Wait()
}

// TestAWorkerThatIsDoneInTimeIsKept when nobody wants its results any more; one
// that is not is ended.
func TestAWorkerThatIsDoneInTimeIsKept(t *testing.T) {
	for source, kept := range map[string]bool{"nap": true, "hang": false} {
		t.Run(source, func(t *testing.T) {
			r := newRunner(t, nil)
			s := open(t, r, newStage(exec.StageColumns, source))
			pid := r.Workers()[0].PID
			if kept {
				r.drainTime = 10 * time.Second
			}
			b, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 50), 0) // naps for a second
			if err != nil {
				t.Fatal(err)
			}
			inner := s.(*session)
			eventually(t, "the bundle is sent", func() bool {
				inner.mu.Lock()
				defer inner.mu.Unlock()
				return inner.lease != nil && len(inner.lease.running) == 1 && !inner.lease.sending
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(exec.ErrStopped)
			if _, err := b.Wait(ctx); !errors.Is(err, exec.ErrStopped) {
				t.Errorf("wait: %v", err)
			}
			_ = s.Close()
			if !kept {
				eventually(t, "the worker is dead", func() bool { return syscall.Kill(pid, 0) != nil })
				return
			}
			next := open(t, r, newStage(exec.StageColumns, ""))
			defer next.Close()
			if w := r.Workers(); len(w) != 1 || w[0].PID != pid {
				t.Errorf("workers: %+v", w)
			}
			if err := oneRow(t, next); err != nil {
				t.Error(err)
			}
		})
	}
}

// memoryShare is the limit of each worker in tests of what all may hold.
const memoryShare = 512 << 20

// memoryStage is crewStage for a job of its own.
func memoryStage(job, source string, workers int) *exec.FunctionStage {
	s := crewStage(source, workers)
	s.Job, s.Crew, s.MemoryBytes = job, job, memoryShare
	return s
}

// TestACrewGetsOnWithOneWorker where there is no memory for another.
func TestACrewGetsOnWithOneWorker(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, func(o *Options) { o.Pool.MemoryBytesMax = memoryShare })
	// The crew is there as long as one of them is open.
	var sessions []exec.FunctionSession
	for range 4 {
		sessions = append(sessions, open(t, r, memoryStage("one", "nap@0", 3)))
	}
	var running sync.WaitGroup
	for _, s := range sessions {
		running.Go(func() { runAll(t, s, mem, 20, 100) })
	}
	running.Wait()
	for _, s := range sessions {
		_ = s.Close()
	}
	if started, _ := r.WorkerCounts(); started != 1 {
		t.Errorf("%d workers were started", started)
	}
}

// TestACrewGivesWorkersUpForAnotherJob: one that it has no use for now, and one
// that is in the middle of its work.
func TestACrewGivesWorkersUpForAnotherJob(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			r := newRunner(t, func(o *Options) { o.Pool.MemoryBytesMax = 2 * memoryShare })
			first, second := open(t, r, memoryStage("one", "nap@0", 2)), open(t, r, memoryStage("one", "nap@0", 2))
			defer first.Close()
			defer second.Close()
			if n := len(r.Workers()); n != 2 {
				t.Fatalf("%d workers", n)
			}
			stop, stopped := make(chan struct{}), sync.WaitGroup{}
			for _, s := range []exec.FunctionSession{first, second} {
				if !busy {
					continue
				}
				stopped.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if err := oneRow(t, s); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			other := open(t, r, memoryStage("two", "", 2))
			if err := oneRow(t, other); err != nil {
				t.Error(err)
			}
			if m := r.WorkerMemory(); m.Bytes != 2*memoryShare || m.Waiting != 0 {
				t.Errorf("%+v", m)
			}
			close(stop)
			stopped.Wait()
			_ = other.Close()
			for _, s := range []exec.FunctionSession{first, second} {
				if err := oneRow(t, s); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
