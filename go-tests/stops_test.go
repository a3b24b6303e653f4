package gotests_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/grant"
)

// stopTime is far less than the work takes that is to be stopped, and far more
// than stopping takes.
const stopTime = 20 * time.Second

// slowFrom is a function that takes a minute for each row from 3,000 on.
const slowFrom = "import time\ndef f(x):\n    if x is not None and x >= 3000:\n        time.sleep(60)\n    return x\n"

// TestALimitEndsBundlesInFlight: the first bundle has the rows that are wanted,
// and the others, which are with the workers by then, would take for ever.
func TestALimitEndsBundlesInFlight(t *testing.T) {
	e := openEngineWith(t, func(o *engine.Options) { o.BatchRows = 3000 })
	numbers(t, e, "t", 30_000)
	p := applied(t, "t", plan.RowFunction, slowFrom)
	forEver := int64(0)
	p.Functions["f"].Options.TimeoutMS = &forEver
	p.Nodes = append(p.Nodes[:2],
		node("some", plan.Filter{Predicate: plan.SQL("y >= 0")}, "y"),
		node("few", plan.Limit{N: 2}, "some"), node("out", plan.Collect{}, "few"))
	began, rows := time.Now(), int64(0)
	run(t, e, p, func(b arrow.RecordBatch) { rows += b.NumRows() })
	if rows != 2 || time.Since(began) > stopTime {
		t.Errorf("%d rows after %s", rows, time.Since(began))
	}
}

// TestALimitCallsFunctionsForItsRowsOnly: it goes below the functions of
// columns, and what is computed of their results.
func TestALimitCallsFunctionsForItsRowsOnly(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 10_000)
	calls := filepath.Join(t.TempDir(), "calls")
	p := applied(t, "t", plan.RowFunction, fmt.Sprintf("import time\ndef f(x):\n    time.sleep(0.05)\n    open(%q, 'a').write('.')\n    return -1.0 if x is None else 2 * x\n", calls))
	p.Functions["f"].Options.Mounts = []grant.Mount{{Path: filepath.Dir(calls), Write: true}}
	p.Functions["g"] = source("g", "def g(y):\n    return y + 1\n", plan.NumpyFunction, "double", "here")
	p.Nodes = append(p.Nodes[:2],
		node("z", plan.Project{Keep: true, Exprs: []plan.NamedExpr{
			named("z", plan.Apply("*", plan.Call("g", plan.Column("y")), plan.SQL("CASE WHEN id >= 0 THEN 10 END"))),
		}}, "y"),
		node("few", plan.Limit{N: 7, Offset: 3}, "z"), node("out", plan.Collect{}, "few"))
	next := int64(3)
	run(t, e, p, func(b arrow.RecordBatch) {
		for i := range int(b.NumRows()) {
			want := 2*float64(next)*10 + 10
			if next%5 == 0 {
				want = 0
			}
			if id, z := b.Column(0).(*array.Int64).Value(i), b.Column(3).(*array.Float64).Value(i); id != next || z != want {
				t.Errorf("row %d: id %d, z %v instead of %v", next, id, z, want)
			}
			next++
		}
	})
	written, err := os.ReadFile(calls)
	if err != nil || len(written) != 7 || next != 10 {
		t.Errorf("%d calls, rows up to %d: %v", len(written), next, err)
	}
}

// TestAReaderThatGoesAwayEndsTheWork of functions, of queries, and of what
// several steps read.
func TestAReaderThatGoesAwayEndsTheWork(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 100_000)
	slow := applied(t, "t", plan.RowFunction, slowFrom)
	query := &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
		node("t", plan.ScanTable{Table: "t"}),
		node("all", plan.Join{How: plan.Cross, Suffix: "_2"}, "t", "t"),
		node("sum", plan.Aggregate{Aggregates: []plan.NamedExpr{named("s", plan.SQL("sum(id * id_2 % 7)"))}}, "all"),
		node("out", plan.Collect{}, "sum"),
	}}
	for name, p := range map[string]*plan.Plan{"a function": slow, "a query": query} {
		job, err := e.Submit(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := job.Result("out")
		if err != nil {
			t.Fatal(err)
		}
		awaitBusy(t, job)
		began := time.Now()
		reader.Release()
		if err := job.Wait(t.Context()); err != nil || job.State() != engine.Succeeded {
			t.Errorf("%s: %s, %v", name, job.State(), err)
		}
		if waited := time.Since(began); waited > stopTime {
			t.Errorf("%s went on for %s", name, waited)
		}
	}
}

// awaitBusy waits until a job's first rows have been read.
func awaitBusy(t *testing.T, job *engine.Job) {
	t.Helper()
	for range 1000 {
		for _, p := range job.Progress() {
			if p.RowsIn > 0 {
				time.Sleep(100 * time.Millisecond)
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nothing happens: %+v", job.Progress())
}
