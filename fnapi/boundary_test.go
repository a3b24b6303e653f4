package fnapi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// boundaryColumns of float64 make 40 bytes a row.
const boundaryColumns = 5

// BenchmarkBoundary measures what it costs to get rows into a worker and back,
// with a function that gives what it gets, beside a copy of the same bytes in
// this process; how long one row takes; and the processor time of this process
// and of the worker for each bundle, which tells more than the clock where the machine is shared.
// bench/boundary.py reads what it prints.
func BenchmarkBoundary(b *testing.B) {
	for _, rows := range []int{1024, 8192, 65536} {
		b.Run("rows="+strconv.Itoa(rows), func(b *testing.B) {
			batch := floats(rows, boundaryColumns)
			s := identity(b, batch.Schema())
			defer s.Close()
			cross(b, s, batch, 2*bundlesInFlightMax) // the function is loaded, the slots are there
			spent, worked := cpuTime(), workerTime(b, s)
			began := time.Now()
			b.ResetTimer()
			cross(b, s, batch, b.N)
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-spent).Nanoseconds())/1e3/float64(b.N), "engine-cpu-µs")
			b.ReportMetric(float64((workerTime(b, s)-worked).Nanoseconds())/1e3/float64(b.N), "worker-cpu-µs")
			crossed := time.Since(began).Seconds() / float64(b.N)
			copied := copyTime(batch, b.N).Seconds() / float64(b.N)
			b.ReportMetric(float64(rows)/crossed/1e6, "Mrows/s")
			b.ReportMetric(float64(rows)/copied/1e6, "copied-Mrows/s")
			b.ReportMetric(copied/crossed, "of-a-copy")
		})
	}
	b.Run("one-row", func(b *testing.B) {
		batch := floats(1, boundaryColumns)
		s := identity(b, batch.Schema())
		defer s.Close()
		cross(b, s, batch, 100)
		var times []time.Duration
		spent, worked := cpuTime(), workerTime(b, s)
		for b.Loop() {
			began := time.Now()
			cross(b, s, batch, 1)
			times = append(times, time.Since(began))
		}
		b.ReportMetric(float64((cpuTime()-spent).Nanoseconds())/1e3/float64(b.N), "engine-cpu-µs")
		b.ReportMetric(float64((workerTime(b, s)-worked).Nanoseconds())/1e3/float64(b.N), "worker-cpu-µs")
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e3, "median-µs")
	})
}

// cpuTime is what this process has used of processors.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A worker and its engine use next to no processor while there is nothing to
// do, right behind a bundle that had numpy compute with all cores too.
func TestHarnessIdle(t *testing.T) {
	s := open(t, newPythonRunner(t), pythonStage(exec.StageColumns, ySchema,
		function("f1", "multiply", plan.NumpyFunction, `
import numpy as np
def multiply(x):
    square = np.ones((500, 500))
    return x + (square @ square)[0, 0]
`, []int{0}, 0)))
	defer s.Close()
	const idle, usedMax = 200 * time.Millisecond, 20 * time.Millisecond
	var engine, worker time.Duration
	for range 3 { // what the machine does meanwhile may be counted too
		batches, err := one(s, newSource(memory.DefaultAllocator, 0, 10), 0)
		if err != nil {
			t.Fatal(err)
		}
		releaseAll(batches)
		engine, worker = cpuTime(), workerTime(t, s)
		time.Sleep(idle)
		if engine, worker = cpuTime()-engine, workerTime(t, s)-worker; max(engine, worker) < usedMax {
			return
		}
	}
	t.Errorf("idle for %v, the engine used %v of a processor and the worker %v", idle, engine, worker)
}

// workerTime is what all threads of a session's worker have used of processors.
func workerTime(tb testing.TB, s exec.FunctionSession) (spent time.Duration) {
	tb.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.(*session).lastWorker.PID()))
	if err != nil {
		tb.Fatal(err)
	}
	for _, path := range paths {
		var nanoseconds int64
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := fmt.Sscan(string(text), &nanoseconds); err != nil {
			tb.Fatal(err)
		}
		spent += time.Duration(nanoseconds)
	}
	return spent
}

// identity opens a session of a function that gives the batches it gets.
func identity(b *testing.B, schema *arrow.Schema) exec.FunctionSession {
	b.Helper()
	stage := pythonStage(exec.StageMapBatches, schema, function("f1", "same", plan.MapBatchesFunction, "def same(batch):\n    return batch\n", nil, 0))
	stage.Input = schema
	return open(b, newPythonRunner(b), stage)
}

// cross sends a batch so many times, several of them at once, and takes it back.
func cross(b *testing.B, s exec.FunctionSession, batch arrow.RecordBatch, times int) {
	b.Helper()
	var waiting []exec.Bundle
	for sent := 0; sent < times || len(waiting) > 0; {
		if sent < times && len(waiting) < bundlesInFlightMax {
			bundle, err := s.Submit(b.Context(), fixed{batch}, 0)
			if err != nil {
				b.Fatal(err)
			}
			waiting = append(waiting, bundle)
			sent++
			continue
		}
		batches, err := waiting[0].Wait(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(batches) != 1 || batches[0].NumRows() != batch.NumRows() {
			b.Fatalf("%d batches came back", len(batches))
		}
		releaseAll(batches)
		waiting = waiting[1:]
	}
}

// copyTime is how long it takes to copy the values of a batch so many times.
func copyTime(batch arrow.RecordBatch, times int) time.Duration {
	var from, to [][]byte
	for _, c := range batch.Columns() {
		from = append(from, c.Data().Buffers()[1].Bytes())
		to = append(to, make([]byte, len(from[len(from)-1])))
	}
	began := time.Now()
	for range times {
		for i := range from {
			copy(to[i], from[i])
		}
	}
	return time.Since(began)
}
