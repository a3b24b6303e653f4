package gotests_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// numbers uploads a table (id bigint, x double, NULL where id divides by 5).
func numbers(t *testing.T, e *engine.Engine, name string, rows int64) {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int64Builder).Append(i)
		if i%5 == 0 {
			b.Field(1).(*array.Float64Builder).AppendNull()
		} else {
			b.Field(1).(*array.Float64Builder).Append(float64(i))
		}
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	reader, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	if err := e.PutTable(t.Context(), name, reader); err != nil {
		t.Fatal(err)
	}
}

// applied is a plan that adds y = f(x), f being source text, to a table.
func applied(t *testing.T, table string, kind plan.FunctionKind, text string) *plan.Plan {
	t.Helper()
	f := source("f", text, kind, "double", "here")
	f.Parameters = []string{"x"}
	return &plan.Plan{
		Version: plan.Version,
		Nodes: []plan.Node{
			node("in", plan.ScanTable{Table: table}),
			node("y", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("y", plan.Call("f", plan.Column("x")))}}, "in"),
			node("out", plan.Collect{}, "y"),
		},
		Functions:    map[string]*plan.Function{"f": f},
		Environments: map[string]*plan.Environment{"here": {Interpreter: testPython(t)}},
	}
}

const (
	doubleOrMinusOne      = "def f(x):\n    return -1.0 if x is None else x * 2\n"
	doubleOrMinusOneNumpy = "import numpy as np\ndef f(x):\n    return np.ma.filled(x * 2, -1.0)\n"
)

// expectDoubled checks y and that the order was kept; it returns what to feed
// batches to and what says how many rows there were.
func expectDoubled(t *testing.T) (feed func(arrow.RecordBatch), rows func() int64) {
	t.Helper()
	var next int64
	return func(batch arrow.RecordBatch) {
		id, y := batch.Column(0).(*array.Int64), batch.Column(2).(*array.Float64)
		for i := range int(batch.NumRows()) {
			want := float64(next) * 2
			if next%5 == 0 {
				want = -1
			}
			if id.Value(i) != next || y.IsNull(i) || y.Value(i) != want {
				t.Fatalf("row %d: id %d, y %v; want %v", next, id.Value(i), y.Value(i), want)
			}
			next++
		}
	}, func() int64 { return next }
}

func TestNullsAndEmptyInput(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "some", 100)
	numbers(t, e, "none", 0)
	for kind, text := range map[plan.FunctionKind]string{
		plan.RowFunction: doubleOrMinusOne, plan.NumpyFunction: doubleOrMinusOneNumpy,
	} {
		for table, want := range map[string]int64{"some": 100, "none": 0} {
			feed, rows := expectDoubled(t)
			run(t, e, applied(t, table, kind, text), feed)
			if rows() != want {
				t.Errorf("%s function over %s rows: %d rows", kind, table, rows())
			}
		}
	}
}

// TestKilledWorkersGiveTheSameRows kills whatever worker runs, again and
// again, while a job goes on.
func TestKilledWorkersGiveTheSameRows(t *testing.T) {
	e := openEngine(t)
	const rows = 40 * 8192
	numbers(t, e, "t", rows)
	p := applied(t, "t", plan.RowFunction, "import time\ndef f(x):\n    if x is None:\n        time.sleep(0.00002)\n        return -1.0\n    return x * 2\n")
	many := 50
	p.Functions["f"].Options.Retries = &many
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	kills := killWorkers(t, e, job, 5)
	feed, count := expectDoubled(t)
	if err := read(job, feed); err != nil {
		t.Fatal(err)
	}
	n := <-kills
	if n == 0 || count() != rows {
		t.Errorf("%d kills, %d rows of %d", n, count(), rows)
	}
	expectMetered(t, job, rows, int64(n))
}

// expectMetered checks what a job with one stage of functions says of its
// workers once it has ended. A kill may hit a worker that has nothing to do.
func expectMetered(t *testing.T, job *engine.Job, rows, killsMax int64) {
	t.Helper()
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range job.Progress() {
		if p.Workers == 0 {
			continue
		}
		if p.RowsIn != rows || p.RowsOut != rows || p.Bundles == 0 || p.Bundles > rows || p.Workers > 2 ||
			p.Restarts == 0 || p.Restarts > killsMax {
			t.Errorf("%+v", p)
		}
		// Half of the time, so that it fails where the wrong thing is measured.
		if slept := 0.00002 * float64(rows) / 5; p.TimeS < slept/2 || p.TimeS > 2*2*job.Elapsed().Seconds() {
			t.Errorf("workers worked for %v s, slept for %v of it, in a job of %s", p.TimeS, slept, job.Elapsed())
		}
		// Python and Arrow are the zygote's; what a worker has written to is its own.
		const ownPages = 4 << 20
		if p.MemoryBytes < ownPages || p.MemoryBytes > 2*plan.MemoryBytesDefault {
			t.Errorf("workers held %d bytes", p.MemoryBytes)
		}
		return
	}
	t.Errorf("no operator has workers: %+v", job.Progress())
}

// killWorkers sends SIGKILL to a busy worker up to n times, and says how often
// it did. After each kill it waits until the job has got on, so that it is not
// always a worker at its start that is hit.
func killWorkers(t *testing.T, e *engine.Engine, job *engine.Job, n int) <-chan int {
	t.Helper()
	done := make(chan int, 1)
	go func() {
		killed, seen := 0, int64(0)
		for killed < n && job.State() == engine.Running {
			time.Sleep(10 * time.Millisecond)
			now := rowsOut(job)
			if now == seen {
				continue
			}
			for _, w := range e.Status().Workers {
				if w.Busy && syscall.Kill(w.PID, syscall.SIGKILL) == nil {
					killed++
					seen = rowsOut(job)
					break
				}
			}
		}
		done <- killed
	}()
	return done
}

// rowsOut counts the rows that a job's operators have passed on.
func rowsOut(job *engine.Job) (n int64) {
	for _, p := range job.Progress() {
		n += p.RowsOut
	}
	return n
}

func TestFunctionThatKillsItsWorkersIsNamed(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 100)
	p := applied(t, "t", plan.RowFunction, "import os, signal\ndef f(x):\n    print('about to go')\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	d := diag.From(job.Wait(t.Context()))
	if d == nil || d.Code != diag.WorkerDied || d.Function != "f" || !strings.Contains(d.Message, "3 times") || !strings.Contains(d.Render(), "SIGSEGV") {
		t.Errorf("got %v", d)
	}
}

func TestCancelEndsAJobAndItsFunction(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 10)
	job, err := e.Submit(t.Context(), applied(t, "t", plan.RowFunction, "import time\ndef f(x):\n    time.sleep(600)\n"))
	if err != nil {
		t.Fatal(err)
	}
	for len(e.Status().Workers) == 0 || !e.Status().Workers[0].Busy {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	job.Cancel()
	if d := diag.From(job.Wait(t.Context())); d == nil || d.Code != diag.Cancelled || job.State() != engine.Cancelled {
		t.Errorf("got %v, %s", d, job.State())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestUserErrorsFromGo(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 100)
	for name, c := range map[string]struct {
		text string
		code diag.Code
		says string
	}{
		"raises":     {"def f(x):\n    return 1 / (x - 7 if x else 1)\n", diag.FunctionRaised, "row 7: x=7.0"},
		"wrong type": {"def f(x):\n    return 'seven'\n", diag.WrongResultType, "str"},
		"no module":  {"import not_there\ndef f(x):\n    return x\n", diag.ModuleMissing, "not_there"},
	} {
		job, err := e.Submit(t.Context(), applied(t, "t", plan.RowFunction, c.text))
		if err != nil {
			t.Fatal(err)
		}
		d := diag.From(job.Wait(t.Context()))
		if d == nil || d.Code != c.code || !strings.Contains(d.Render(), c.says) {
			t.Errorf("%s: %s", name, d.Render())
		}
	}
}

// TestFiftyJobsLeaveNothing runs jobs of every kind, some of which fail or kill
// their workers, and looks for what they left: processes, goroutines, files,
// Arrow memory.
func TestFiftyJobsLeaveNothing(t *testing.T) {
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	before, allocator := runtime.NumGoroutine(), memory.DefaultAllocator
	memory.DefaultAllocator = checked
	defer func() { memory.DefaultAllocator = allocator }()
	runDir, err := os.MkdirTemp("", "alink-")
	if err != nil {
		t.Fatal(err)
	}
	spill := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(t.Context(), engine.Options{
		RunDir: runDir, CacheDir: cacheDir(t), Parallelism: 2, WorkerPool: []string{self, "worker-pool"}, SpillDir: spill,
	})
	if err != nil {
		t.Fatal(err)
	}
	numbers(t, e, "t", 20_000)
	for i := range 50 {
		leaveNothing(t, e, i)
	}
	pids := []int{e.Status().SupervisorPID}
	for _, w := range e.Status().Workers {
		pids = append(pids, w.PID)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	if left := filesBelow(t, spill); left != "" {
		t.Errorf("spill files are left: %s", left)
	}
	if left := filesBelow(t, filepath.Join(runDir, "scratch")) + filesBelow(t, filepath.Join(runDir, "fn")); left != "" {
		t.Errorf("files of workers are left: %s", left)
	}
	if err := os.RemoveAll(runDir); err != nil {
		t.Error(err)
	}
	checked.AssertSize(t, 0)
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func leaveNothing(t *testing.T, e *engine.Engine, i int) {
	t.Helper()
	text := doubleOrMinusOne
	if i%4 == 3 {
		text = "def f(x):\n    return 1 / 0\n"
	}
	if i%20 == 7 { // also fails, after three workers
		text = "import os\ndef f(x):\n    os._exit(3)\n"
	}
	p := applied(t, "t", plan.RowFunction, text)
	if i%2 == 1 {
		p.Nodes = append(p.Nodes[:2], node("sum", plan.Aggregate{Aggregates: []plan.NamedExpr{named("n", plan.SQL("sum(y)"))}}, "y"),
			node("out", plan.Collect{}, "sum"))
	}
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if i == 18 { // one whose result nobody reads
		return
	}
	err = read(job, func(arrow.RecordBatch) {})
	if failed := i%4 == 3; failed != (err != nil) {
		t.Errorf("job %d: %v", i, err)
	}
}

func filesBelow(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestJobsSideBySide runs jobs that do not disturb one another, one of which
// fails.
func TestJobsSideBySide(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 50_000)
	var failed atomic.Int32
	var group sync.WaitGroup
	for i := range 4 {
		text := doubleOrMinusOne
		if i == 2 {
			text = "def f(x):\n    raise ValueError(x)\n"
		}
		p := applied(t, "t", plan.RowFunction, text)
		group.Go(func() {
			job, err := e.Submit(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			var rows int64
			if err := read(job, func(b arrow.RecordBatch) { rows += b.NumRows() }); err != nil {
				failed.Add(1)
			} else if rows != 50_000 {
				t.Errorf("job %d: %d rows", i, rows)
			}
		})
	}
	group.Wait()
	if failed.Load() != 1 {
		t.Errorf("%d jobs failed", failed.Load())
	}
}

// TestDescribeReadsNoData types a plan with functions without running them.
func TestDescribeReadsNoData(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 10)
	p := applied(t, "t", plan.RowFunction, "def f(x): raise SystemExit\n")
	schema, err := e.Describe(context.Background(), p, "y")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(schema.Fields()); got != "[id: type=int64, nullable x: type=float64, nullable y: type=float64, nullable]" {
		t.Errorf("got %s", got)
	}
}

// TestRowsThatNobodyRead: old jobs are forgotten, and whoever comes too late
// is told so.
func TestRowsThatNobodyRead(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 10)
	var first array.RecordReader
	for i := range 70 {
		job, err := e.Submit(t.Context(), &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
			node("t", plan.ScanTable{Table: "t"}), node("out", plan.Collect{}, "t"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if first, err = job.Result("out"); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer first.Release()
	if first.Next() || first.Err() == nil {
		t.Errorf("rows of a forgotten job: %v", first.Err())
	}
}

// TestLimitAboveParallelFunctions ends although workers still wait for input.
func TestLimitAboveParallelFunctions(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 400_000)
	p := applied(t, "t", plan.RowFunction, doubleOrMinusOne)
	p.Functions["g"] = source("g", "def g(x):\n    return x\n", plan.NumpyFunction, "double", "here")
	p.Functions["g"].Options.Workers = 4
	p.Nodes = append(p.Nodes[:2],
		node("z", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("z", plan.Call("g", plan.Column("y")))}}, "y"),
		node("few", plan.Limit{N: 5}, "z"), node("out", plan.Collect{}, "few"))
	for range 3 {
		var rows int64
		run(t, e, p, func(b arrow.RecordBatch) { rows += b.NumRows() })
		if rows != 5 {
			t.Errorf("%d rows", rows)
		}
	}
}
