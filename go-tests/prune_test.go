package gotests_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// TestAColumnIsTheSameByItself: whatever an operator gives, each of its columns
// alone has the values that it has among the others, and their number is that
// of the rows. What is left out on the way must make no difference.
func TestAColumnIsTheSameByItself(t *testing.T) {
	e := openEngineWith(t, func(o *engine.Options) { o.BatchRows = 20 })
	metamorphicTables(t, e)
	dir := t.TempDir()
	for _, table := range []string{"t", "u"} {
		job, err := e.Submit(t.Context(), &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
			node("in", plan.ScanTable{Table: table}),
			node("out", plan.WriteParquet{Output: plan.Output{Path: filepath.Join(dir, table+".parquet"), Mode: plan.ErrorIfExists}}, "in"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range metamorphicCases {
		if strings.Contains(c.nodes, "%DIR%") || c.then != "" {
			continue
		}
		p := metamorphicPlan(t, c.nodes)
		for i, table := range []string{"t", "u"} {
			p.Nodes[i].Op = plan.ScanParquet{Files: plan.Files{Path: filepath.Join(dir, table+".parquet")}}
		}
		whole, rows := valuesOf(t, e, p)
		if rows == 0 || len(whole) == 0 {
			t.Errorf("%s gives nothing", c.name)
		}
		result := p.Nodes[len(p.Nodes)-2].ID
		for name, values := range whole {
			alone, _ := valuesOf(t, e, ending(p, plan.Project{Exprs: []plan.NamedExpr{named("alone", plan.Column(name))}}, result))
			if c.unordered {
				slices.Sort(values)
				slices.Sort(alone["alone"])
			}
			if !slices.Equal(values, alone["alone"]) {
				t.Errorf("%s: the column %q is %q among others, and %q alone", c.name, name, values, alone["alone"])
			}
		}
		counted, _ := valuesOf(t, e, ending(p, plan.Aggregate{Aggregates: []plan.NamedExpr{named("n", plan.SQL("count(*)"))}}, result))
		if !slices.Equal(counted["n"], []string{fmt.Sprint(rows)}) {
			t.Errorf("%s: %v rows are counted of %d", c.name, counted["n"], rows)
		}
	}
}

// ending is a plan with a further step before its output.
func ending(p *plan.Plan, op plan.Op, input string) *plan.Plan {
	ended := *p
	ended.Nodes = append(slices.Clone(p.Nodes[:len(p.Nodes)-1]), node("last", op, input), node("out", plan.Collect{}, "last"))
	return &ended
}

// valuesOf gives the values of a plan's result as text, by column.
func valuesOf(t *testing.T, e *engine.Engine, p *plan.Plan) (columns map[string][]string, rows int64) {
	t.Helper()
	columns = map[string][]string{}
	run(t, e, p, func(b arrow.RecordBatch) {
		rows += b.NumRows()
		for j, column := range b.Columns() {
			for i := range int(b.NumRows()) {
				columns[b.ColumnName(j)] = append(columns[b.ColumnName(j)], column.ValueStr(i))
			}
		}
	})
	return columns, rows
}

// TestAFunctionThatNobodyUsesIsNotRun: not even its environment is looked for.
func TestAFunctionThatNobodyUsesIsNotRun(t *testing.T) {
	e := openEngine(t)
	numbers(t, e, "t", 1000)
	p := applied(t, "t", plan.RowFunction, doubleOrMinusOne)
	p.Functions["g"] = source("g", "def g(x):\n    raise ValueError(x)\n", plan.RowFunction, "double", "nowhere")
	p.Environments["nowhere"] = &plan.Environment{Interpreter: "/nowhere/python"}
	p.Nodes = append(p.Nodes[:2],
		node("z", plan.Project{Keep: true, Exprs: []plan.NamedExpr{
			named("z", plan.Apply("+", plan.Call("g", plan.Column("y")), plan.Lit(1.0))),
		}}, "y"),
		node("some", plan.Filter{Predicate: plan.SQL("id < 10")}, "z"),
		node("sum", plan.Aggregate{Aggregates: []plan.NamedExpr{named("sum", plan.SQL("sum(y)"))}}, "some"),
		node("out", plan.Collect{}, "sum"))
	columns, _ := valuesOf(t, e, p)
	if !slices.Equal(columns["sum"], []string{"78"}) { // 2·(1+…+9) without 0 and 5, which give -1
		t.Errorf("the sum is %v", columns["sum"])
	}
	p.Nodes[4].Op = plan.Aggregate{Aggregates: []plan.NamedExpr{named("sum", plan.SQL("sum(z)"))}}
	job, err := e.Submit(t.Context(), p)
	if err == nil {
		err = job.Wait(t.Context())
	}
	if err == nil || diag.From(err).Code == diag.Internal {
		t.Errorf("a function that is used was not run: %v", err)
	}
}

// TestFilesAreReadByTheirUsedColumns, and progress says which those are.
func TestFilesAreReadByTheirUsedColumns(t *testing.T) {
	e := openEngine(t)
	dir := t.TempDir()
	metamorphicTables(t, e)
	path := filepath.Join(dir, "t.parquet")
	run := func(nodes ...plan.Node) *engine.Job {
		job, err := e.Submit(t.Context(), &plan.Plan{Version: plan.Version, Nodes: nodes})
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		return job
	}
	run(node("in", plan.ScanTable{Table: "t"}), node("out", plan.WriteParquet{Output: plan.Output{Path: path, Mode: plan.ErrorIfExists}}, "in"))
	for name, want := range map[string]string{
		"x > 1 AND k = 'k1'": "2 of 6 columns: k, x",
		"true":               "1 of 6 columns: id",
	} {
		job := run(
			node("in", plan.ScanParquet{Files: plan.Files{Path: path}}),
			node("some", plan.Filter{Predicate: plan.SQL(name)}, "in"),
			node("n", plan.Aggregate{Aggregates: []plan.NamedExpr{named("n", plan.SQL("count(*)"))}}, "some"),
			node("out", plan.Collect{}, "n"))
		if got := job.Progress()[0].Detail; got != want {
			t.Errorf("%s: %q instead of %q", name, got, want)
		}
	}
}
