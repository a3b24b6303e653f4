package gotests_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// chained is a plan of n functions, each of the result of the one before: z is x
// with 1 added so often. A step of SQL stands between them.
func chained(t *testing.T, n int, options plan.FunctionOptions) *plan.Plan {
	t.Helper()
	p := applied(t, "t", plan.RowFunction, doubleOrMinusOne)
	p.Nodes = p.Nodes[:1]
	last := "in"
	for i := range n {
		id := fmt.Sprintf("f%d", i)
		p.Functions[id] = source(id, fmt.Sprintf("def %s(x):\n    return x + 1\n", id), plan.RowFunction, "double", "here")
		p.Functions[id].Options = options
		argument := plan.SQL("coalesce(x, -1)")
		p.Nodes = append(p.Nodes, node(id, plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("x", plan.Call(id, argument))}}, last))
		last = id
	}
	delete(p.Functions, "f")
	p.Nodes = append(p.Nodes, node("out", plan.Collect{}, last))
	return p
}

// TestFunctionsOfOneWorkerCrossTogether: a chain of them is one operator, which
// gives the same rows, and a failure is laid to the step that it is in.
func TestFunctionsOfOneWorkerCrossTogether(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 1000)
	chain := func(third plan.Expr) *plan.Plan {
		p := applied(t, "t", plan.RowFunction, doubleOrMinusOne)
		p.Functions["g"] = source("g", "def g(y, i):\n    assert y < 2990 or i < 999\n    return y + i\n", plan.RowFunction, "double", "here")
		p.Functions["h"] = source("h", "def h(z):\n    return z * 10\n", plan.NumpyFunction, "double", "here")
		at := func(n plan.Node, line int) plan.Node {
			n.Origin = &diag.Source{File: "job.py", Line: line}
			return n
		}
		p.Nodes = append(p.Nodes[:2],
			at(node("z", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("z", plan.Call("g", plan.Column("y"), plan.Column("id")))}}, "y"), 3),
			node("r", plan.Rename{Columns: map[string]string{"z": "w"}}, "z"),
			at(node("v", plan.Project{Exprs: []plan.NamedExpr{named("id", plan.Column("id")), named("w", plan.Column("w")), named("v", third)}}, "r"), 5),
			node("out", plan.Collect{}, "v"))
		return p
	}
	job, err := e.Submit(t.Context(), chain(plan.Call("h", plan.Column("w"))))
	if err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	err = read(job, func(b arrow.RecordBatch) {
		for i := range int(b.NumRows()) {
			w := float64(next)*2 + float64(next)
			if next%5 == 0 {
				w = float64(next) - 1
			}
			if id, got, v := b.Column(0).(*array.Int64).Value(i), b.Column(1).(*array.Float64).Value(i), b.Column(2).(*array.Float64).Value(i); id != next || got != w || v != 10*w {
				t.Fatalf("row %d: id %d, w %v instead of %v, v %v", next, id, got, w, v)
			}
			next++
		}
	})
	if err != nil || next != 1000 {
		t.Errorf("%d rows, %v", next, err)
	}
	var names []string
	for _, p := range job.Progress() {
		if p.Bundles > 0 {
			names = append(names, p.Name)
		}
	}
	if !slices.Equal(names, []string{"f, g, h"}) {
		t.Errorf("the operators with functions are %q", names)
	}
	// The second call of g, which stands in another step, fails at the last row.
	job, err = e.Submit(t.Context(), chain(plan.Call("g", plan.Column("w"), plan.Column("id"))))
	if err != nil {
		t.Fatal(err)
	}
	d := diag.From(read(job, func(arrow.RecordBatch) {}))
	if d.Code != diag.FunctionRaised || d.Source == nil || d.Source.Line != 5 || d.Row == nil || d.Row.Index != 999 {
		t.Errorf("got %v at %+v, row %+v", d, d.Source, d.Row)
	}
}

// mostWorkers watches how many workers there are at most until stop is called.
func mostWorkers(e *engine.Engine) (stop func() int) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	most := 0
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
				most = max(most, len(e.Status().Workers))
			}
		}
	})
	return func() int {
		close(done)
		watching.Wait()
		return most
	}
}

// TestStagesShareTheirWorkers: as many stages as there may be, each of two
// subtasks, get by with two workers, and with one.
func TestStagesShareTheirWorkers(t *testing.T) {
	const stages, rows = 15, 60_000
	for _, parallelism := range []int{1, 2} {
		e := openEngineWith(t, func(o *engine.Options) { o.Parallelism, o.BatchRows = parallelism, 3000 })
		numbers(t, e, "t", rows)
		stop := mostWorkers(e)
		next := int64(0)
		run(t, e, chained(t, stages, plan.FunctionOptions{}), func(b arrow.RecordBatch) {
			ids, x := b.Column(0).(*array.Int64), b.Column(1).(*array.Float64)
			for i := range int(b.NumRows()) {
				want := float64(next) + stages
				if next%5 == 0 {
					want = stages - 1
				}
				if ids.Value(i) != next || x.Value(i) != want {
					t.Fatalf("row %d: id %d, x %v instead of %v", next, ids.Value(i), x.Value(i), want)
				}
				next++
			}
		})
		if most := stop(); next != rows || most != parallelism {
			t.Errorf("%d rows, at most %d workers with %d subtasks", next, most, parallelism)
		}
	}
}

// TestSharedWorkersThatDie take with them what several stages had on them, and
// all of it is run again.
func TestSharedWorkersThatDie(t *testing.T) {
	e := openEngineWith(t, func(o *engine.Options) { o.BatchRows = 500 })
	const stages, rows = 6, 100_000
	numbers(t, e, "t", rows)
	many := 50
	job, err := e.Submit(t.Context(), chained(t, stages, plan.FunctionOptions{Retries: &many}))
	if err != nil {
		t.Fatal(err)
	}
	kills := killWorkers(t, e, job, 6)
	next := int64(0)
	err = read(job, func(b arrow.RecordBatch) {
		for i := range int(b.NumRows()) {
			want := float64(next) + stages
			if next%5 == 0 {
				want = stages - 1
			}
			if id, x := b.Column(0).(*array.Int64).Value(i), b.Column(1).(*array.Float64).Value(i); id != next || x != want {
				t.Fatalf("row %d: id %d, x %v instead of %v", next, id, x, want)
			}
			next++
		}
	})
	if n := <-kills; err != nil || n == 0 || next != rows {
		t.Errorf("%d kills, %d rows of %d, %v", n, next, rows, err)
	}
}

// TestSharedWorkersOfEveryKind: a function that sees groups, one that gives many
// rows, an aggregate and one that is fitted stand in one line, with one worker
// to share, and a worker for the fit.
func TestSharedWorkersOfEveryKind(t *testing.T) {
	e := openEngineWith(t, func(o *engine.Options) { o.Parallelism, o.BatchRows = 1, 50 })
	numbers(t, e, "t", 2000)
	p := chained(t, 2, plan.FunctionOptions{})
	rows := func(name string, kind plan.FunctionKind, text string) {
		p.Functions[name] = source(name, text, kind, "", "here")
		p.Functions[name].Schema = []plan.Field{{Name: "g", Type: "bigint"}, {Name: "v", Type: "double"}}
	}
	rows("twice", plan.FlatMapFunction, "def twice(i, x):\n    yield i % 3, x\n    yield i % 3, -x\n")
	rows("whole", plan.MapGroupsFunction, "def whole(group):\n    return group\n")
	p.Functions["mean"] = metamorphicFunctions()["mean"]
	p.Functions["train"] = metamorphicFunctions()["total"]
	p.Nodes = append(p.Nodes[:len(p.Nodes)-1],
		node("two", plan.FlatMap{Function: "twice", Args: []plan.Expr{plan.Column("id"), plan.Column("x")}}, "f1"),
		// One group is larger than a batch, and is gathered from several.
		node("groups", plan.MapGroups{Function: "whole", Keys: []plan.NamedExpr{named("g", plan.Column("g"))}}, "two"),
		node("means", plan.Aggregate{Keys: []plan.NamedExpr{named("g", plan.Column("g"))}, Aggregates: []plan.NamedExpr{
			named("m", plan.Call("mean", plan.Column("v"))), named("n", plan.SQL("count(*)")),
		}}, "groups"),
		node("fitted", plan.Fit{Function: "train"}, "f1"),
		node("models", plan.Aggregate{Aggregates: []plan.NamedExpr{named("n", plan.SQL("count(*)"))}}, "fitted"),
		node("all", plan.Join{How: plan.Cross, Suffix: "_models"}, "means", "models"),
		node("out", plan.Collect{}, "all"))
	stop := mostWorkers(e)
	count, groups := int64(0), 0
	run(t, e, p, func(b arrow.RecordBatch) {
		for i := range int(b.NumRows()) {
			count += b.Column(2).(*array.Int64).Value(i)
			groups++
			if m := b.Column(1).(*array.Float64).Value(i); m != 0 {
				t.Errorf("the mean of a group is %v", m)
			}
		}
	})
	if most := stop(); count != 4000 || groups != 3 || most > 2 {
		t.Errorf("%d rows in %d groups, at most %d workers", count, groups, most)
	}
}

// TestFunctionsThatDifferInWhatAWorkerIsDoNotShare one.
func TestFunctionsThatDifferInWhatAWorkerIsDoNotShare(t *testing.T) {
	e := openEngineWith(t, func(o *engine.Options) { o.Parallelism = 1 })
	numbers(t, e, "t", 1000)
	p := chained(t, 3, plan.FunctionOptions{})
	p.Functions["f1"].Options.MemoryBytes = 512 << 20
	p.Functions["f2"].Options.Workers = 1
	run(t, e, p, func(arrow.RecordBatch) {})
	// The third may have got the first one's when that had done its part.
	if n := len(e.Status().Workers); n < 2 || n > 3 {
		t.Errorf("%d workers", n)
	}
}
