package gotests_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/plan"
)

const (
	repeatX = "def f(id, x):\n    if x is not None and id % 100 == 1:\n        for i in range(3):\n            yield i, f'{id}.{i}'\n"
	meanOf  = `class mean:
    def create(self):
        return 0.0, 0
    def add(self, state, x):
        return state[0] + sum(v for v in x.to_pylist() if v is not None), state[1] + len(x) - x.null_count
    def merge(self, a, b):
        return a[0] + b[0], a[1] + b[1]
    def result(self, state):
        return state[0] / state[1] if state[1] else -1.0
`
	countRows = "def g(t):\n    import pyarrow as pa\n    ids = t.column(1)\n    return pa.table({'id': ids[:1], 'n': pa.array([len(t)], pa.int64())})\n"
)

// manyRows is a plan of one step behind the table, with the functions of this
// file: "f" gives rows, "mean" aggregates, "g" is of groups, "half" of rows.
func manyRows(t *testing.T, table string, op plan.Op) *plan.Plan {
	t.Helper()
	f := source("f", repeatX, plan.FlatMapFunction, "", "here")
	f.Schema = []plan.Field{{Name: "i", Type: "bigint"}, {Name: "text", Type: "string"}}
	mean := source("mean", meanOf, plan.AggregateFunction, "double", "here")
	mean.State = []plan.Field{{Name: "sum", Type: "double"}, {Name: "n", Type: "bigint"}}
	g := source("g", countRows, plan.MapGroupsFunction, "", "here")
	g.Schema = []plan.Field{{Name: "id", Type: "bigint"}, {Name: "n", Type: "bigint"}}
	return &plan.Plan{
		Version: plan.Version,
		Nodes: []plan.Node{
			node("in", plan.ScanTable{Table: table}),
			node("step", op, "in"),
			node("out", plan.Collect{}, "step"),
		},
		Functions: map[string]*plan.Function{
			"f": f, "mean": mean, "g": g,
			"half": source("half", "def half(x):\n    return x / 2\n", plan.RowFunction, "double", "here"),
		},
		Environments: map[string]*plan.Environment{"here": {Interpreter: testPython(t)}},
	}
}

// rowsOf runs a plan and gives its rows as text, sorted unless ordered.
func rowsOf(t *testing.T, p *plan.Plan, ordered bool) []string {
	t.Helper()
	e := openEngine(t)
	numbers(t, e, "some", 1000) // x is NULL where id % 5 == 0, and id otherwise
	numbers(t, e, "none", 0)
	var rows []string
	run(t, e, p, func(batch arrow.RecordBatch) {
		for i := range int(batch.NumRows()) {
			var cells []string
			for _, c := range batch.Columns() {
				cells = append(cells, c.ValueStr(i))
			}
			rows = append(rows, strings.Join(cells, " "))
		}
	})
	if !ordered {
		slices.Sort(rows)
	}
	return rows
}

func expectRows(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFlatMapFunction(t *testing.T) {
	op := plan.FlatMap{Function: "f", Args: []plan.Expr{plan.Column("id"), plan.SQL("x + 0")}}
	var results []string
	for id := 1; id < 1000; id += 100 {
		for i := range 3 {
			results = append(results, fmt.Sprintf("%d %d.%d", i, id, i))
		}
	}
	expectRows(t, rowsOf(t, manyRows(t, "some", op), true), results...)
	expectRows(t, rowsOf(t, manyRows(t, "none", op), true))
	op.Keep, op.Outer = true, true
	var joined []string
	for id := range 1000 {
		x := fmt.Sprint(id)
		if id%5 == 0 {
			x = "(null)"
		}
		if id%100 != 1 {
			joined = append(joined, fmt.Sprintf("%d %s (null) (null)", id, x))
			continue
		}
		for i := range 3 {
			joined = append(joined, fmt.Sprintf("%d %s %d %d.%d", id, x, i, id, i))
		}
	}
	expectRows(t, rowsOf(t, manyRows(t, "some", op), true), joined...)
}

func TestAggregateFunction(t *testing.T) {
	mean := plan.Call("mean", plan.Column("x"))
	grouped := plan.Aggregate{
		// NULL, false and true; a group has NULLs only where the key is NULL.
		Keys: []plan.NamedExpr{named("k", plan.SQL("x >= 500"))},
		Aggregates: []plan.NamedExpr{
			named("m", mean), named("n", plan.SQL("count(*)")),
			named("more", plan.Apply("+", plan.Call("mean", plan.Call("half", plan.SQL("coalesce(x, 0)"))), plan.SQL("count(x)"))),
			named("h", plan.Call("half", plan.SQL("count(*)"))),
		},
	}
	expectRows(t, rowsOf(t, manyRows(t, "some", grouped), false),
		"(null) -1 200 0 100", "false 250 400 525 200", "true 750 400 775 200")
	expectRows(t, rowsOf(t, manyRows(t, "none", grouped), false))
	whole := plan.Aggregate{Aggregates: []plan.NamedExpr{named("m", mean), named("n", plan.SQL("count(*)"))}}
	expectRows(t, rowsOf(t, manyRows(t, "some", whole), false), "500 1000")
	expectRows(t, rowsOf(t, manyRows(t, "none", whole), false), "-1 0")
}

func TestMapGroupsFunction(t *testing.T) {
	op := plan.MapGroups{Function: "g", Keys: []plan.NamedExpr{named("k", plan.SQL("id % 3"))}, Columns: []string{"x", "id"}}
	// The groups in the order of their keys, the rows in that of the input.
	expectRows(t, rowsOf(t, manyRows(t, "some", op), true), "0 334", "1 333", "2 333")
	expectRows(t, rowsOf(t, manyRows(t, "none", op), true))
}
