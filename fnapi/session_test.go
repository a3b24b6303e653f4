package fnapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var (
	xSchema     = arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	ySchema     = arrow.NewSchema([]arrow.Field{{Name: "y", Type: arrow.PrimitiveTypes.Float64, Nullable: true}}, nil)
	modelSchema = arrow.NewSchema([]arrow.Field{{Name: "model", Type: arrow.BinaryTypes.LargeBinary, Nullable: true}}, nil)
)

// selfResolver gives the test binary as the interpreter, which is the fake
// worker.
type selfResolver struct{}

func (selfResolver) Resolve(_ context.Context, spec envmgr.Spec, progress func(string)) (*envmgr.Environment, error) {
	progress("building")
	self, err := os.Executable()
	return &envmgr.Environment{ID: "fake" + spec.Python, Interpreter: self, PythonVersion: "3.11.0"}, err
}

// files are artifacts that are their own paths.
type files struct{}

func (files) Folder(string) (string, error) { return "/nowhere", nil }

func (files) Tables(string) (string, error) { return "/nowhere", nil }

func (files) Blob(id string) (string, error) {
	if id == "missing" {
		return "", diag.New(diag.InvalidPlan, "artifact missing has not been sent")
	}
	return id, nil
}
func (f files) File(_, id string) (string, error) { return f.Blob(id) }
func (files) Dir(_, id string) (string, error)    { return id, nil }

// newRunner makes a runner, and checks at the end that it leaves no process,
// no goroutine and no file.
func newRunner(tb testing.TB, change func(*Options)) *Runner {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "f")
	if err != nil {
		tb.Fatal(err)
	}
	options := Options{
		Pool: udfworker.PoolOptions{
			Supervisor: udfworker.SupervisorOptions{Command: []string{self}, RunDir: dir, Stderr: os.Stderr},
			Resolver:   selfResolver{}, Harness: filepath.Join(dir, "harness"),
		},
		Artifacts: files{}, Lane: Lane(os.Getenv(laneVariable)),
		Sandbox: sandbox.Off, // fake workers count their deaths in files
	}
	if change != nil {
		change(&options)
	}
	goroutines := runtime.NumGoroutine()
	r, err := NewRunner(options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		pids := []int{r.SupervisorPID()}
		for _, w := range r.Workers() {
			if w.Busy {
				tb.Errorf("worker %s is still leased", w.ID)
			}
			pids = append(pids, w.PID)
		}
		r.Close()
		for _, pid := range pids {
			if pid != 0 && syscall.Kill(pid, 0) == nil {
				tb.Errorf("process %d outlived the runner", pid)
			}
		}
		for _, pattern := range []string{"fn/*", "scratch/*", "supervisor/*"} {
			if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
				tb.Errorf("left behind: %v", left)
			}
		}
		eventually(tb, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
		os.RemoveAll(dir)
	})
	return r
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			tb.Fatalf("not yet: %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

var stages atomic.Int64

// newStage makes a stage of one function with the given text.
func newStage(kind exec.StageKind, source string) *exec.FunctionStage {
	s := &exec.FunctionStage{
		ID: fmt.Sprintf("stage%d", stages.Add(1)), Kind: kind, Input: xSchema, Output: ySchema, Retries: 2,
		Environment: &plan.Environment{},
		Calls: []exec.FunctionCall{{
			Function:   &plan.Function{Name: "made_up", Kind: plan.RowFunction, Parameters: []string{"x"}, Code: plan.Code{Source: source, Name: "made_up"}},
			FunctionID: "f1", Args: []int{0}, Operator: "with_columns",
			Origin: &diag.Source{File: "job.py", Line: 7, Text: `t.with_columns(y=made_up("x"))`},
		}},
	}
	if kind == exec.StageFit {
		s.Output = modelSchema
	}
	return s
}

// source gives batches of the numbers from first on; it counts its openings.
type source struct {
	mem         memory.Allocator
	first       int
	rows        []int // of each batch
	opened      atomic.Int32
	failAt      int // the batch before which Next fails; 0 is none
	blockForNil bool
}

func newSource(mem memory.Allocator, first int, rows ...int) *source {
	return &source{mem: mem, first: first, rows: rows}
}

func (s *source) Open(context.Context) (exec.BatchReader, error) {
	s.opened.Add(1)
	return &sourceReader{source: s}, nil
}

type sourceReader struct {
	source *source
	next   int
	rows   int
}

var errSource = errors.New("the source is broken")

func (r *sourceReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	s := r.source
	if s.failAt != 0 && r.next == s.failAt {
		return nil, errSource
	}
	if r.next == len(s.rows) {
		if s.blockForNil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, io.EOF
	}
	b := array.NewFloat64Builder(s.mem)
	defer b.Release()
	for range s.rows[r.next] {
		b.Append(float64(s.first + r.rows))
		r.rows++
	}
	r.next++
	column := b.NewArray()
	defer column.Release()
	return array.NewRecordBatch(xSchema, []arrow.Array{column}, int64(column.Len())), nil
}

func (r *sourceReader) Close() {}

func open(tb testing.TB, r *Runner, stage *exec.FunctionStage) exec.FunctionSession {
	tb.Helper()
	s, err := r.Open(tb.Context(), stage)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// runAll submits bundles of rows numbers each and compares what comes back
// with the doubled numbers.
func runAll(tb testing.TB, s exec.FunctionSession, mem memory.Allocator, bundles, rows int) {
	tb.Helper()
	ctx := tb.Context()
	waiting := make(chan exec.Bundle, bundles)
	var submitting sync.WaitGroup
	submitting.Go(func() {
		defer close(waiting)
		for i := range bundles {
			b, err := s.Submit(ctx, newSource(mem, i*rows, rows), int64(i*rows))
			if err != nil {
				tb.Errorf("submit bundle %d: %v", i, err)
				return
			}
			waiting <- b
		}
	})
	next := 0.0
	for b := range waiting {
		batches, err := b.Wait(ctx)
		if err != nil {
			tb.Errorf("bundle: %v", err)
			continue
		}
		for _, batch := range batches {
			for _, v := range batch.Column(0).(*array.Float64).Float64Values() {
				if v != 2*next {
					tb.Errorf("row %v: got %v", next, v)
				}
				next++
			}
		}
		releaseAll(batches)
	}
	submitting.Wait()
	if int(next) != bundles*rows {
		tb.Errorf("%v rows came back, want %d", next, bundles*rows)
	}
}

func TestBundles(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	var told sync.Map
	r := newRunner(t, func(o *Options) { o.Progress = func(stage, text string) { told.Store(stage, text) } })
	stage := newStage(exec.StageColumns, "")
	s := open(t, r, stage)
	if text, _ := told.Load(stage.ID); text != "building" {
		t.Errorf("progress: %v", text)
	}
	if w := r.Workers(); len(w) != 1 || !w[0].Busy || w[0].Environment != "fake" {
		t.Errorf("workers: %+v", w)
	}
	runAll(t, s, mem, 40, 1000)
	pid := r.Workers()[0].PID
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The next session gets the warm worker, and a batch larger than a piece.
	s = open(t, r, newStage(exec.StageColumns, ""))
	if w := r.Workers(); len(w) != 1 || w[0].PID != pid {
		t.Errorf("workers: %+v", w)
	}
	runAll(t, s, mem, 1, pieceBytesMax/8+1000)
	runAll(t, s, mem, 1, 0)
	_ = s.Close()
}

func TestSeveralBatchesInABundle(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	s := open(t, newRunner(t, nil), newStage(exec.StageColumns, ""))
	defer s.Close()
	for _, rows := range [][]int{{}, {5}, {5, 0, 7}} {
		b, err := s.Submit(t.Context(), newSource(mem, 0, rows...), 0)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := b.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, batch := range batches {
			got = append(got, int(batch.NumRows()))
		}
		if !slices.Equal(got, rows) && len(got)+len(rows) > 0 {
			t.Errorf("batches of %v rows came back as %v", rows, got)
		}
		releaseAll(batches)
	}
}

// A worker that dies in the middle changes nothing in the rows.
func TestDeathInTheMiddle(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, value := range []string{"0", "5", "150", "399"} {
		t.Run(value, func(t *testing.T) {
			r := newRunner(t, nil)
			mark := filepath.Join(t.TempDir(), "died")
			s := open(t, r, newStage(exec.StageColumns, "dieonce@"+value+":"+mark))
			defer s.Close()
			before := r.Workers()[0].PID
			runAll(t, s, mem, 40, 10)
			if _, err := os.Stat(mark); err != nil {
				t.Error("no worker died")
			}
			if w := r.Workers(); len(w) != 1 || w[0].PID == before {
				t.Errorf("workers: %+v, the first was %d", w, before)
			}
		})
	}
}

func TestWorkerKilledEachTime(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, test := range []struct {
		command string
		retries int
		message string
		hint    string
	}{
		// It could be something outside that ends them.
		{"die@25", 2, "function made_up killed its Python worker 9 times (signal 9, SIGKILL)", "memory"},
		{"die@25", 0, "function made_up killed its Python worker once (signal 9, SIGKILL)", "memory"},
		{"exit@25", 1, "function made_up ended its Python worker 2 times (exit status 3)", "os._exit"},
	} {
		t.Run(fmt.Sprint(test.command, test.retries), func(t *testing.T) {
			r := newRunner(t, nil)
			stage := newStage(exec.StageColumns, test.command)
			stage.Retries = test.retries
			s := open(t, r, stage)
			defer s.Close()
			inputs := []*source{newSource(mem, 0, 10), newSource(mem, 10, 10), newSource(mem, 20, 10)}
			var bundles []exec.Bundle
			for i, in := range inputs {
				b, err := s.Submit(t.Context(), in, int64(100+10*i))
				if err != nil {
					t.Fatal(err)
				}
				bundles = append(bundles, b)
			}
			for _, b := range bundles[:2] {
				batches, err := b.Wait(t.Context())
				if err != nil && test.retries > 0 {
					t.Fatalf("a bundle that killed nobody: %v", err)
				}
				releaseAll(batches)
			}
			_, err := bundles[2].Wait(t.Context())
			d := diag.From(err)
			if d.Code != diag.WorkerDied || d.Message != test.message || !strings.Contains(d.Hint, test.hint) {
				t.Errorf("%s", d.Render())
			}
			facts := strings.Join(d.Facts, "\n")
			if d.Function != "made_up" || d.Operator != "with_columns" || d.Source == nil || d.Source.Line != 7 ||
				!strings.Contains(facts, "to 129 of its input") || test.retries > 0 && !strings.Contains(facts, "rows 120 to") || !strings.Contains(facts, "environment fake") || !strings.Contains(facts, "peak memory") {
				t.Errorf("%+v", d)
			}
			if strings.HasPrefix(test.command, "die") && d.Cause != "dying at 25" {
				t.Errorf("last output: %q", d.Cause)
			}
			// One time more where the first death was put down to a bundle whose
			// result died with the worker.
			runs := test.retries
			if test.retries > 0 && strings.HasPrefix(test.command, "die") {
				runs = killsMax
			}
			if got := inputs[2].opened.Load() - int32(runs+1); got != 0 && (got != 1 || test.retries == 0) {
				t.Errorf("the input was read %d times more than it should", got)
			}
			if _, err := s.Submit(t.Context(), newSource(mem, 0, 1), 0); diag.From(err).Code != diag.WorkerDied {
				t.Errorf("submit after that: %v", err)
			}
		})
	}
}

// A worker that hangs up but lives is ended, and replaced like a dead one.
func TestWorkerHangsUp(t *testing.T) {
	stage := newStage(exec.StageColumns, "hangup@3")
	stage.Retries = 0
	s := open(t, newRunner(t, nil), stage)
	defer s.Close()
	b, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 5), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context()); diag.From(err).Code != diag.WorkerDied {
		t.Error(err)
	}
}

// Workers that are killed at any moment change nothing in the rows.
func TestKilledAtAnyMoment(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	const kills = 12
	stage := newStage(exec.StageColumns, "")
	stage.Retries = kills
	s := open(t, newRunner(t, nil), stage)
	defer s.Close()
	done := make(chan struct{})
	var killing sync.WaitGroup
	killed := 0
	killing.Go(func() {
		for pause := time.Millisecond; killed < kills; pause += 7 * time.Millisecond {
			select {
			case <-done:
				return
			case <-time.After(pause):
			}
			inner := s.(*session)
			inner.mu.Lock() // not one that is being started: that is another story
			if l := inner.lease; l != nil && !isDead(l.worker) && syscall.Kill(l.worker.PID(), syscall.SIGKILL) == nil {
				killed++
			}
			inner.mu.Unlock()
		}
	})
	for range 20 {
		runAll(t, s, mem, 30, 2000)
	}
	close(done)
	killing.Wait()
	t.Logf("%d workers were killed", killed)
	if killed == 0 {
		t.Error("no worker was killed")
	}
}

// A worker that is lost in the moment in which a session gets it is replaced.
func TestLostWhileItIsLeased(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	stage := newStage(exec.StageColumns, "")
	stage.Retries = 0
	for range 10 {
		s := open(t, r, stage) // leaves its worker to the next session
		leased := s.(*session).lease
		s.Close()
		var losing sync.WaitGroup
		losing.Go(func() {
			attached := func() (yes bool) {
				leased.endpoint.toReceiver(func(receiver) { yes = true })
				return yes
			}
			for !attached() && t.Context().Err() == nil {
				runtime.Gosched()
			}
			leased.endpoint.lose()
			_ = syscall.Kill(leased.worker.PID(), syscall.SIGKILL)
		})
		s = open(t, r, stage)
		losing.Wait()
		runAll(t, s, mem, 2, 10)
		s.Close()
	}
}

// A worker that dies between bundles costs nobody an attempt.
func TestDeathBetweenBundles(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	stage := newStage(exec.StageColumns, "")
	stage.Retries = 0
	s := open(t, r, stage)
	defer s.Close()
	for range 3 {
		runAll(t, s, mem, 2, 10)
		pid := r.Workers()[0].PID
		_ = syscall.Kill(pid, syscall.SIGKILL)
		eventually(t, "the death is known", func() bool { return len(r.Workers()) == 0 })
	}
	runAll(t, s, mem, 2, 10)
}

func TestExceptions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	s := open(t, r, newStage(exec.StageColumns, "raise@25"))
	defer s.Close()
	pid := r.Workers()[0].PID
	in := newSource(mem, 20, 10)
	b, err := s.Submit(t.Context(), in, 1020)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Wait(t.Context())
	d := diag.From(err)
	if d.Code != diag.FunctionRaised || d.Message != "made_up raised ValueError: no" || d.Function != "made_up" ||
		d.Row == nil || d.Row.Index != 1025 || len(d.Row.Values) != 1 || d.Row.Values[0].Repr != "25" ||
		len(d.Frames) != 1 || d.Frames[0].Line != 3 || d.Exception.Type != "ValueError" ||
		d.Operator != "with_columns" || d.Source.Line != 7 || d.Hint == "" {
		t.Errorf("%s\n%+v", d.Render(), d)
	}
	if in.opened.Load() != 1 {
		t.Error("an exception was retried")
	}
	// The worker lives, and the session too.
	runAll(t, s, mem, 1, 10)
	if w := r.Workers(); len(w) != 1 || w[0].PID != pid {
		t.Errorf("workers: %+v", w)
	}
}

func TestMisbehaviour(t *testing.T) {
	for _, command := range []string{"garbage@3", "rows@3", "wrongsink@3", "nonsense@3"} {
		t.Run(command, func(t *testing.T) {
			r := newRunner(t, nil)
			s := open(t, r, newStage(exec.StageColumns, command))
			defer s.Close()
			b, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 10), 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Wait(t.Context())
			if d := diag.From(err); d.Code != diag.Internal || d.Cause == "" || !strings.Contains(d.Message, "made_up") {
				t.Errorf("%v", err)
			}
			runAll(t, s, memory.DefaultAllocator, 1, 2) // by the same worker or the next
		})
	}
}

func TestFit(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	many := slices.Repeat([]int{65_536}, 64)
	mark := filepath.Join(t.TempDir(), "died")
	for _, test := range []struct {
		name, source string
		rows         []int
		want         string
		opened       int32
	}{
		{"sum", "", []int{3, 0, 4}, "21", 1},
		{"nothing", "", nil, "0", 1},
		{"after a death", "dieonce@5:" + mark, []int{3, 4}, "21", 2},
		{"without reading", "early", many, "0", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRunner(t, nil)
			s := open(t, r, newStage(exec.StageFit, test.source))
			defer s.Close()
			for range 2 {
				in := newSource(mem, 0, test.rows...)
				b, err := s.Submit(t.Context(), in, 0)
				if err != nil {
					t.Fatal(err)
				}
				batches, err := b.Wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(batches) != 1 || string(batches[0].Column(0).(*array.LargeBinary).Value(0)) != test.want {
					t.Errorf("result %v, want %s", batches, test.want)
				}
				if got := in.opened.Load(); got > test.opened || got == 0 && test.source != "early" {
					t.Errorf("the input was read %d times", got)
				}
				releaseAll(batches)
			}
		})
	}
}

func TestInputFails(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	s := open(t, newRunner(t, nil), newStage(exec.StageFit, ""))
	defer s.Close()
	in := newSource(mem, 0, 1, 1, 1)
	in.failAt = 2
	b, err := s.Submit(t.Context(), in, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context()); !errors.Is(err, errSource) {
		t.Errorf("%v", err)
	}
}

// A context that ends interrupts the worker that is in the middle of a bundle,
// and that worker is not used again.
func TestCancel(t *testing.T) {
	for _, test := range []string{"wait", "submit", "close", "runner"} {
		t.Run(test, func(t *testing.T) {
			r := newRunner(t, nil)
			s := open(t, r, newStage(exec.StageColumns, "hang"))
			pid := r.Workers()[0].PID
			var bundles []exec.Bundle
			in := newSource(memory.DefaultAllocator, 0, 5)
			for range bundlesInFlightMax {
				b, err := s.Submit(t.Context(), in, 0)
				if err != nil {
					t.Fatal(err)
				}
				bundles = append(bundles, b)
			}
			eventually(t, "the worker is busy", func() bool { return in.opened.Load() > 0 })
			cause := errors.New("the user gave up")
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
			defer stop.Stop()
			switch test {
			case "wait":
				if _, err := bundles[0].Wait(ctx); !errors.Is(err, cause) {
					t.Errorf("wait: %v", err)
				}
			case "submit":
				if _, err := s.Submit(ctx, newSource(memory.DefaultAllocator, 0, 5), 0); !errors.Is(err, cause) {
					t.Errorf("submit: %v", err)
				}
			case "runner":
				r.Close()
				if _, err := bundles[0].Wait(t.Context()); diag.From(err).Code != diag.ConnectionLost {
					t.Errorf("after the runner's end: %v", err)
				}
				if _, err := r.Open(t.Context(), newStage(exec.StageColumns, "")); diag.From(err).Code != diag.ConnectionLost {
					t.Errorf("open after the runner's end: %v", err)
				}
			}
			start := time.Now()
			_ = s.Close()
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("close took %s", took)
			}
			if _, err := bundles[2].Wait(t.Context()); err == nil {
				t.Error("a dropped bundle gave a result")
			}
			eventually(t, "the worker is dead", func() bool { return syscall.Kill(pid, 0) != nil })
		})
	}
}

// Closing a session whose sender waits for an input or for a worker that does
// not read ends both.
func TestCloseWhileSending(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	s := open(t, r, newStage(exec.StageFit, ""))
	in := newSource(mem, 0, 1, 1)
	in.blockForNil = true
	if _, err := s.Submit(t.Context(), in, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the input is being read", func() bool { return in.opened.Load() == 1 })
	_ = s.Close()

	s = open(t, r, newStage(exec.StageFit, ""))
	pid := slices.MaxFunc(r.Workers(), func(a, b udfworker.WorkerStatus) int { return strings.Compare(a.ID, b.ID) }).PID
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	if _, err := s.Submit(t.Context(), newSource(mem, 0, slices.Repeat([]int{1 << 20}, 16)...), 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the socket's buffers and windows are full
	_ = s.Close()
}

func TestSubmitBlocksWhenFull(t *testing.T) {
	s := open(t, newRunner(t, nil), newStage(exec.StageColumns, "hang"))
	defer s.Close()
	for range bundlesInFlightMax {
		if _, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Submit(ctx, newSource(memory.DefaultAllocator, 0, 1), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one bundle more than may be in flight: %v", err)
	}
}

// TestCreditBoundsWhatIsInFlight: bundles wait for those before them where the
// bytes that they are reckoned to send or give would be too many; one alone may
// always go.
func TestCreditBoundsWhatIsInFlight(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	const rows = 1000 // 8 kB, and some bytes of Arrow's own
	for credit, most := range map[int64]int{1: 1, 20_000: 2, 0: bundlesInFlightMax} {
		stage := newStage(exec.StageColumns, "nap@5000 nap@7000 nap@9000")
		stage.CreditBytes = credit
		s := open(t, r, stage)
		inner := s.(*session)
		runAll(t, s, mem, 3, rows) // it learns how large bundles are
		done, seen := make(chan struct{}), make(chan int)
		go func() {
			begun := 0
			for {
				select {
				case <-done:
					seen <- begun
					return
				case <-time.After(time.Millisecond):
					inner.mu.Lock()
					begun = max(begun, len(inner.begunLocked()))
					inner.mu.Unlock()
				}
			}
		}()
		runAll(t, s, mem, 20, rows)
		close(done)
		if begun := <-seen; begun != most {
			t.Errorf("a credit of %d bytes: %d bundles were in flight at most, not %d", credit, begun, most)
		}
		_ = s.Close()
	}
}

func TestSeveralSessions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newRunner(t, nil)
	stage := newStage(exec.StageColumns, "") // the subtasks of a stage share it
	var sessions sync.WaitGroup
	for range 4 {
		sessions.Go(func() {
			for range 3 {
				s, err := r.Open(t.Context(), stage)
				if err != nil {
					t.Error(err)
					return
				}
				runAll(t, s, mem, 10, 100)
				_ = s.Close()
			}
		})
	}
	sessions.Wait()
	if n := len(r.Workers()); n > 4 {
		t.Errorf("%d workers for four sessions", n)
	}
}

func TestLog(t *testing.T) {
	stage := newStage(exec.StageColumns, "print")
	var mu sync.Mutex
	var lines []exec.LogLine
	stage.Log = func(line exec.LogLine) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	}
	s := open(t, newRunner(t, nil), stage)
	defer s.Close()
	runAll(t, s, memory.DefaultAllocator, 1, 2)
	eventually(t, "two lines are there", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(lines) == 2
	})
	if want := (exec.LogLine{Function: "made_up", Level: "print", Text: "value 1"}); lines[1] != want {
		t.Errorf("%+v, want %+v", lines[1], want)
	}
}

func TestStagesThatAreRefused(t *testing.T) {
	r := newRunner(t, nil)
	dictionary := newStage(exec.StageColumns, "")
	dictionary.Input = arrow.NewSchema([]arrow.Field{{Name: "carrier", Type: arrow.ListOf(&arrow.DictionaryType{
		IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String,
	})}}, nil)
	result := newStage(exec.StageColumns, "")
	result.Output = arrow.NewSchema([]arrow.Field{{Name: "odd", Type: arrow.BinaryTypes.StringView}}, nil)
	artifact := newStage(exec.StageColumns, "")
	artifact.Calls[0].Function.Code = plan.Code{Artifact: "missing"}
	for _, test := range []struct {
		stage *exec.FunctionStage
		code  diag.Code
		text  string
	}{
		{dictionary, diag.TypeMismatch, `"carrier"`},
		{result, diag.TypeMismatch, `"odd"`},
		{artifact, diag.InvalidPlan, "artifact missing"},
	} {
		_, err := r.Open(t.Context(), test.stage)
		d := diag.From(err)
		if d.Code != test.code || !strings.Contains(d.Error(), test.text) || d.Operator != "with_columns" || d.Source.Line != 7 {
			t.Errorf("%s: %+v", d.Render(), d)
		}
	}
	s := open(t, r, newStage(exec.StageColumns, ""))
	defer s.Close()
	b, err := s.Submit(t.Context(), wrongSchema{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context()); diag.From(err).Code != diag.Internal || !strings.Contains(err.Error(), "2 columns where 1") {
		t.Errorf("%v", err)
	}
}

// wrongSchema gives a batch of two columns.
type wrongSchema struct{ done bool }

func (w wrongSchema) Open(context.Context) (exec.BatchReader, error) { return &w, nil }
func (w *wrongSchema) Close()                                        {}
func (w *wrongSchema) Next(context.Context) (arrow.RecordBatch, error) {
	if w.done {
		return nil, io.EOF
	}
	w.done = true
	return floats(1, 2), nil
}

// Only the worker that an endpoint was made for is let in.
func TestStrangersAreRefusedByThePortableLane(t *testing.T) {
	r := newRunner(t, func(o *Options) { o.Lane = Portable })
	s := open(t, r, newStage(exec.StageColumns, ""))
	defer s.Close()
	e := s.(*session).lease.endpoint
	conn, err := grpc.NewClient(e.URL(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, test := range map[string]struct {
		pairs []string
		want  codes.Code
	}{
		"nothing":     {nil, codes.Unauthenticated},
		"no token":    {[]string{"worker_id", e.id}, codes.Unauthenticated},
		"wrong token": {[]string{"worker_id", e.id, "authorization", "Bearer " + newToken()}, codes.Unauthenticated},
		"wrong id":    {[]string{"worker_id", "w99", "authorization", "Bearer " + e.token}, codes.Unauthenticated},
		"twice":       {[]string{"worker_id", e.id, "worker_id", "w99", "authorization", "Bearer " + e.token}, codes.Unauthenticated},
		"the worker":  {[]string{"worker_id", e.id, "authorization", "Bearer " + e.token}, codes.OK},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), test.pairs...)
		_, err := fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(ctx, &fnpb.GetProvisionInfoRequest{})
		if status.Code(err) != test.want {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := fnpb.NewBeamFnControlClient(conn).Control(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := test.want
		if want == codes.OK {
			want = codes.AlreadyExists // each stream is opened once
		}
		if _, err := stream.Recv(); status.Code(err) != want {
			t.Errorf("%s, control: %v", name, err)
		}
	}
	info, err := os.Stat(e.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
	runAll(t, s, memory.DefaultAllocator, 1, 1) // the worker was not disturbed
}

func TestLongRunDirectory(t *testing.T) {
	h := &host{dir: filepath.Join(t.TempDir(), strings.Repeat("d", 90))}
	if _, err := h.Listen("w1"); diag.From(err).Code != diag.WorkerNotStarted {
		t.Errorf("%v", err)
	}
}
