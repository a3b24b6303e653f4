package fnapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/python"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// pythonVariable names the interpreter of these tests; it has pyarrow, numpy
// and grpcio.
const pythonVariable = "ALINK_TEST_PYTHON"

// interpreter finds a Python that can run the real harness.
var interpreter = sync.OnceValues(func() (string, error) {
	name := os.Getenv(pythonVariable)
	if name == "" {
		name = "python3"
	}
	path, err := osexec.LookPath(name)
	if err != nil {
		return "", err
	}
	out, err := osexec.Command(path, "-I", "-c", "import pyarrow, numpy, grpc, sys; print(sys.executable)").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s cannot import pyarrow, numpy and grpc: %s", path, lastLine(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
})

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

type pythonResolver struct{ path string }

func (p pythonResolver) Resolve(context.Context, envmgr.Spec, func(string)) (*envmgr.Environment, error) {
	return &envmgr.Environment{ID: "real", Interpreter: p.path, PythonVersion: "3"}, nil
}

// newPythonRunner makes a runner of the real harness.
func newPythonRunner(tb testing.TB) *Runner {
	tb.Helper()
	path, err := interpreter()
	if err != nil {
		tb.Skipf("no Python for the real harness (%s names one): %v", pythonVariable, err)
	}
	return newRunner(tb, func(o *Options) {
		o.Pool.Resolver = pythonResolver{path}
		if err := python.WriteHarness(o.Pool.Harness); err != nil {
			tb.Fatal(err)
		}
	})
}

// function makes a call of a Python function f that is given as text.
func function(id, name string, kind plan.FunctionKind, source string, args []int, output int) exec.FunctionCall {
	return exec.FunctionCall{
		Function: &plan.Function{
			Name: name, Kind: kind, Parameters: []string{"x", "z"}[:len(args)], Code: plan.Code{Source: source, Name: name},
		},
		FunctionID: id, Args: args, Output: output, Operator: "with_columns", Origin: &diag.Source{File: "job.py", Line: 7},
	}
}

func pythonStage(kind exec.StageKind, output *arrow.Schema, calls ...exec.FunctionCall) *exec.FunctionStage {
	s := newStage(kind, "")
	s.Output, s.Calls = output, calls
	return s
}

// one runs one bundle of the numbers from 0 on.
func one(s exec.FunctionSession, in exec.BatchSource, firstRow int64) ([]arrow.RecordBatch, error) {
	b, err := s.Submit(context.Background(), in, firstRow)
	if err != nil {
		return nil, err
	}
	return b.Wait(context.Background())
}

func TestHarnessColumns(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	out := arrow.NewSchema([]arrow.Field{
		{Name: "twice", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "square", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	s := open(t, newPythonRunner(t), pythonStage(exec.StageColumns, out,
		function("f1", "twice", plan.RowFunction, "def twice(x):\n    return x * 2\n", []int{0}, 0),
		function("f2", "text", plan.RowFunction, "def text(x):\n    return None if x % 2 else f'Ω{x:.0f}'\n", []int{0}, 1),
		function("f3", "square", plan.NumpyFunction, "import numpy as np\ndef square(x):\n    return np.square(x)\n", []int{0}, 2),
	))
	defer s.Close()
	for _, rows := range [][]int{{5}, {1, 0, 70_000}, {pieceBytesMax/8 + 5}} {
		batches, err := one(s, newSource(mem, 0, rows...), 0)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, b := range batches {
			for row := range int(b.NumRows()) {
				twice, square := b.Column(0).(*array.Float64).Value(row), b.Column(2).(*array.Float64).Value(row)
				text := b.Column(1).(*array.String)
				if twice != float64(2*i) || square != float64(i*i) || text.IsNull(row) != (i%2 == 1) || i%2 == 0 && text.Value(row) != fmt.Sprintf("Ω%d", i) {
					t.Fatalf("row %d: %v %v %q", i, twice, square, text.ValueStr(row))
				}
				i++
			}
		}
		if len(batches) != len(rows) {
			t.Errorf("%d batches for %d", len(batches), len(rows))
		}
		releaseAll(batches)
	}
}

func TestHarnessMapBatches(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	s := open(t, newPythonRunner(t), pythonStage(exec.StageMapBatches, ySchema, function("f1", "pick", plan.MapBatchesFunction, `
import pyarrow as pa
def pick(batch):
    x = batch.column("x").to_pylist()
    for part in (x[:2], x[2:4]):
        yield pa.record_batch({"y": pa.array(part, pa.float64())})
`, nil, 0)))
	defer s.Close()
	batches, err := one(s, newSource(mem, 0, 10), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []float64
	for _, b := range batches {
		got = append(got, b.Column(0).(*array.Float64).Float64Values()...)
	}
	if !slices.Equal(got, []float64{0, 1, 2, 3}) {
		t.Errorf("got %v", got)
	}
	releaseAll(batches)
}

// A model that one stage makes is used by the next.
func TestHarnessFit(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newPythonRunner(t)
	fit := open(t, r, pythonStage(exec.StageFit, modelSchema, function("f1", "train", plan.FitFunction, `
def train(batches):
    rows = total = 0
    for batch in batches:
        rows += batch.num_rows
        total += sum(batch.column("x").to_pylist())
    return {"rows": rows, "mean": total / rows}
`, nil, 0)))
	batches, err := one(fit, newSource(mem, 0, slices.Repeat([]int{10_000}, 30)...), 0)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model")
	if err := os.WriteFile(model, batches[0].Column(0).(*array.LargeBinary).Value(0), 0o600); err != nil {
		t.Fatal(err)
	}
	releaseAll(batches)
	_ = fit.Close()

	use := pythonStage(exec.StageColumns, ySchema, function("f2", "score", plan.RowFunction, "def score(x, *, m):\n    return x + m['mean'] + m['rows']\n", []int{0}, 0))
	use.Calls[0].Function.Models = map[string]string{"m": model}
	s := open(t, r, use)
	defer s.Close()
	batches, err = one(s, newSource(mem, 1, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := batches[0].Column(0).(*array.Float64).Value(0), 1+149_999.5+300_000; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	releaseAll(batches)
}

// fitWithoutReading must not leave the engine waiting to send.
func TestHarnessFitWithoutReading(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	s := open(t, newPythonRunner(t), pythonStage(exec.StageFit, modelSchema,
		function("f1", "lazy", plan.FitFunction, "def lazy(batches):\n    return 1\n", nil, 0)))
	for range 2 {
		batches, err := one(s, newSource(mem, 0, slices.Repeat([]int{1 << 20}, 40)...), 0)
		if err != nil {
			t.Fatal(err)
		}
		releaseAll(batches)
	}
	_ = s.Close()
}

// A worker that is killed in the middle changes nothing in the rows.
func TestHarnessDeathInTheMiddle(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	mark := filepath.Join(t.TempDir(), "died")
	s := open(t, newPythonRunner(t), pythonStage(exec.StageColumns, ySchema, function("f1", "made_up", plan.RowFunction, fmt.Sprintf(`
import os
def made_up(x):
    if x == 2500 and not os.path.exists(%q):
        open(%q, "w").close()
        os.kill(os.getpid(), 9)
    return 2 * x
`, mark, mark), []int{0}, 0)))
	defer s.Close()
	runAll(t, s, mem, 20, 200)
	if _, err := os.Stat(mark); err != nil {
		t.Error("no worker died")
	}
}

func TestHarnessKilledEachTime(t *testing.T) {
	s := open(t, newPythonRunner(t), pythonStage(exec.StageColumns, ySchema, function("f1", "made_up", plan.RowFunction, `
import ctypes, os
def made_up(x):
    os.write(2, b"about to fail\n")
    return ctypes.string_at(1)
`, []int{0}, 0)))
	defer s.Close()
	_, err := one(s, newSource(memory.DefaultAllocator, 0, 10), 50)
	d := diag.From(err)
	if d.Code != diag.WorkerDied || d.Message != "function made_up killed its Python worker 3 times (signal 11, SIGSEGV)" ||
		d.Row == nil || d.Row.Index != 50 || !strings.Contains(d.Cause, "line 5 in made_up") || !strings.Contains(d.Hint, "native code") {
		t.Errorf("%s", d.Render())
	}
	t.Logf("\n%s", d.Render())
}

func TestHarnessFailures(t *testing.T) {
	r := newPythonRunner(t)
	for _, test := range []struct {
		name, source string
		kind         plan.FunctionKind
		code         diag.Code
		row          int64
		text         string
	}{
		{"ratio", "def ratio(x):\n    return 1 / (x - 7)\n", plan.RowFunction, diag.FunctionRaised, 107, "ZeroDivisionError"},
		{"wrong", "def wrong(x):\n    return 'a' if x == 4 else x\n", plan.RowFunction, diag.WrongResultType, 104, "str"},
		{"short", "def short(x):\n    return x[1:]\n", plan.NumpyFunction, diag.WrongResultLength, -1, "9"},
		{"lacking", "import no_such_module\ndef lacking(x):\n    return x\n", plan.RowFunction, diag.ModuleMissing, -1, "no_such_module"},
		{"leaving", "import sys\ndef leaving(x):\n    sys.exit(4)\n", plan.RowFunction, diag.FunctionRaised, 100, "SystemExit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, r, pythonStage(exec.StageColumns, ySchema, function("f1", test.name, test.kind, test.source, []int{0}, 0)))
			defer s.Close()
			_, err := one(s, newSource(memory.DefaultAllocator, 0, 10), 100)
			d := diag.From(err)
			if d.Code != test.code || !strings.Contains(d.Message, test.name) || !strings.Contains(d.Message, test.text) || d.Function != test.name || d.Source.Line != 7 {
				t.Errorf("%s", d.Render())
			}
			if test.row >= 0 && (d.Row == nil || d.Row.Index != test.row || len(d.Row.Values) != 1 || d.Row.Values[0].Name != "x") {
				t.Errorf("row: %+v", d.Row)
			}
		})
	}
	if w := r.Workers(); len(w) != 1 {
		t.Errorf("an exception ended a worker: %+v", w)
	}
}

// What a function prints arrives before the session's end.
func TestHarnessLog(t *testing.T) {
	r := newPythonRunner(t)
	const times = 50
	var mu sync.Mutex
	lines := map[exec.LogLine]int{}
	for range times {
		stage := pythonStage(exec.StageColumns, ySchema, function("f1", "talk", plan.RowFunction, `
import logging
def talk(x):
    print("x is", x)
    logging.getLogger("job").warning("careful")
    return x
`, []int{0}, 0))
		stage.Log = func(line exec.LogLine) {
			mu.Lock()
			defer mu.Unlock()
			lines[line]++
		}
		s := open(t, r, stage)
		batches, err := one(s, newSource(memory.DefaultAllocator, 3, 1), 0)
		if err != nil {
			t.Fatal(err)
		}
		releaseAll(batches)
		_ = s.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []exec.LogLine{
		{Function: "talk", Level: "print", Text: "x is 3.0"},
		{Function: "talk", Level: "WARNING", Text: "careful"},
	} {
		if lines[want] != times {
			t.Errorf("%+v came %d times of %d; all: %v", want, lines[want], times, lines)
		}
	}
}

// Cancelling raises KeyboardInterrupt in the function, which may clean up.
func TestHarnessCancel(t *testing.T) {
	dir := t.TempDir()
	r := newPythonRunner(t)
	s := open(t, r, pythonStage(exec.StageColumns, ySchema, function("f1", "wait", plan.RowFunction, fmt.Sprintf(`
import os, time
def wait(x):
    try:
        open(os.path.join(%q, "begun"), "w").close()
        time.sleep(60)
    finally:
        open(os.path.join(%q, "cleaned"), "w").close()
`, dir, dir), []int{0}, 0)))
	pid := r.Workers()[0].PID
	b, err := s.Submit(t.Context(), newSource(memory.DefaultAllocator, 0, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	exists := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	}
	eventually(t, "the function runs", exists("begun"))
	cause := errors.New("the user gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := b.Wait(ctx); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	_ = s.Close()
	eventually(t, "the function has cleaned up", exists("cleaned"))
	eventually(t, "the worker is dead", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestHarnessManySessions(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newPythonRunner(t)
	for i := range 20 {
		s := open(t, r, pythonStage(exec.StageColumns, ySchema, function("f1", "twice", plan.RowFunction, "def twice(x):\n    return 2 * x\n", []int{0}, 0)))
		runAll(t, s, mem, 5, 100)
		if i%5 == 4 { // a dead worker now and then
			_ = syscall.Kill(r.Workers()[0].PID, syscall.SIGKILL)
		}
		_ = s.Close()
	}
}

// An interpreter without the harness's packages says what it lacks.
func TestHarnessWithoutPackages(t *testing.T) {
	r := newPythonRunner(t)
	path, _ := interpreter()
	bare := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(bare, []byte("#!/bin/sh\nexec '"+path+"' -S \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = newRunner(t, func(o *Options) {
		o.Pool.Resolver = pythonResolver{bare}
		if err := python.WriteHarness(o.Pool.Harness); err != nil {
			t.Fatal(err)
		}
	})
	_, err := r.Open(t.Context(), newStage(exec.StageColumns, ""))
	d := diag.From(err)
	if d.Code != diag.WorkerNotStarted || !strings.Contains(d.Cause, "No module named") || !strings.Contains(d.Hint, "a worker needs") || d.Source.Line != 7 {
		t.Errorf("%s", d.Render())
	}
	t.Logf("\n%s", d.Render())
}

// BenchmarkHarness measures the way through the real harness and back.
func BenchmarkHarness(b *testing.B) {
	two := arrow.NewSchema([]arrow.Field{
		{Name: "c0", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "c1", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	for _, test := range []struct {
		name   string
		rows   int
		kind   plan.FunctionKind
		source string
	}{
		{"latency/1", 1, plan.NumpyFunction, "def f(x, z):\n    return x * 2 + z\n"},
		{"numpy/8192", 8192, plan.NumpyFunction, "def f(x, z):\n    return x * 2 + z\n"},
		{"numpy/65536", 65536, plan.NumpyFunction, "def f(x, z):\n    return x * 2 + z\n"},
		{"row/65536", 65536, plan.RowFunction, "def f(x, z):\n    return x * 2 + z\n"},
	} {
		b.Run(test.name, func(b *testing.B) {
			r := newPythonRunner(b)
			stage := pythonStage(exec.StageColumns, ySchema, function("f1", "f", test.kind, test.source, []int{0, 1}, 0))
			stage.Input = two
			s := open(b, r, stage)
			defer s.Close()
			batch := floats(test.rows, 2)
			inFlight := bundlesInFlightMax
			if test.rows == 1 {
				inFlight = 1
			}
			var waiting []exec.Bundle
			finish := func() {
				batches, err := waiting[0].Wait(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				releaseAll(batches)
				waiting = waiting[1:]
			}
			submit := func() {
				bundle, err := s.Submit(b.Context(), fixed{batch}, 0)
				if err != nil {
					b.Fatal(err)
				}
				waiting = append(waiting, bundle)
			}
			submit()
			finish() // the function is loaded
			start := time.Now()
			for b.Loop() {
				submit()
				if len(waiting) == inFlight {
					finish()
				}
			}
			for len(waiting) > 0 {
				finish()
			}
			b.ReportMetric(float64(b.N*test.rows)/time.Since(start).Seconds()/1e6, "Mrows/s")
		})
	}
}

// fixed gives one batch, again and again.
type fixed struct{ batch arrow.RecordBatch }

func (f fixed) Open(context.Context) (exec.BatchReader, error) { return &fixedReader{fixed: f}, nil }

type fixedReader struct {
	fixed
	done bool
}

func (f *fixedReader) Next(context.Context) (arrow.RecordBatch, error) {
	if f.done {
		return nil, io.EOF
	}
	f.done = true
	f.batch.Retain()
	return f.batch, nil
}
func (f *fixedReader) Close() {}
