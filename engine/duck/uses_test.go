package duck

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

func TestUses(t *testing.T) {
	a := newTable(t, "id:bigint s:string x:double k:bigint", `[{"id":1,"s":"a","x":0.5,"k":7}]`)
	b := newTable(t, "k:bigint v:double w:double", `[{"k":7,"v":0.5,"w":1}]`)
	columns := func(names ...string) plan.Project {
		p := plan.Project{}
		for _, name := range names {
			p.Exprs = append(p.Exprs, named(name, plan.Column(name)))
		}
		return p
	}
	d, mem := open(t, Options{})
	for name, c := range map[string]struct {
		inputs []table
		ops    []plan.Op
		want   string
	}{
		"a filter and one column": {[]table{a}, []plan.Op{plan.Filter{Predicate: plan.SQL("x > 0")}, columns("s")}, "[[1 2]]"},
		"everything":              {[]table{a}, []plan.Op{plan.Filter{Predicate: plan.SQL("x > 0")}}, "[[0 1 2 3]]"},
		"a count":                 {[]table{a}, []plan.Op{plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}}}, "[[]]"},
		"a join":                  {[]table{a, b}, []plan.Op{plan.Join{On: []plan.JoinKey{{Left: "k", Right: "k"}}, How: plan.Inner}, columns("id", "w")}, "[[0 3] [0 2]]"},
		"a computed column that nobody wants": {[]table{a}, []plan.Op{
			plan.Project{Keep: true, Exprs: []plan.NamedExpr{sqlExpr("y", "x * 2")}}, columns("id"),
		}, "[[0]]"},
		"a union by position":        {[]table{a, a}, []plan.Op{plan.Union{}, columns("s")}, "[[1] [1]]"},
		"no columns at all":          {[]table{a}, []plan.Op{plan.Project{}}, "[[]]"},
		"an input that is not read":  {[]table{a}, []plan.Op{plan.Filter{Predicate: plan.SQL("false")}, columns("s")}, "[[0 1 2 3]]"},
		"a sort":                     {[]table{a}, []plan.Op{plan.Sort{By: []plan.SortKey{{Expr: plan.Column("x")}}}, columns("id")}, "[[0 2]]"},
		"a table that is read twice": {[]table{a}, []plan.Op{plan.SQLQuery{Query: "SELECT p.id FROM a p JOIN a q ON p.id = q.k", Tables: []string{"a"}}}, "[[0 1 2 3]]"},
	} {
		s := stage(c.inputs, c.ops...)
		used, err := d.Uses(t.Context(), s)
		if err != nil || fmt.Sprint(used) != c.want {
			t.Errorf("%s: %v instead of %s, %v", name, used, c.want, err)
		}
		if _, err := runStage(t, d, mem, s, c.inputs...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUsesDoesNotComputeForLong what the inputs have no part in.
func TestUsesDoesNotComputeForLong(t *testing.T) {
	a := newTable(t, "id:bigint s:string", `[{"id":1,"s":"a"}]`)
	d, _ := open(t, Options{})
	s := stage([]table{a}, plan.SQLQuery{
		Query: "SELECT id FROM a WHERE id < (SELECT sum(sqrt(x)) FROM range(100000000000) AS r(x))", Tables: []string{"a"},
	})
	began := time.Now()
	used, err := d.Uses(t.Context(), s)
	if err != nil || len(used) != 1 || len(used[0]) == 0 {
		t.Errorf("%v, %v", used, err)
	}
	if took := time.Since(began); took > 20*usesTimeMax {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Uses(ctx, s); err == nil {
		t.Error("a context that has ended went unnoticed")
	}
}

// TestAColumnThatIsMissingIsAFault, and gives no wrong rows.
func TestAColumnThatIsMissingIsAFault(t *testing.T) {
	a := newTable(t, "id:bigint s:string", `[{"id":1,"s":"a"}]`)
	d, mem := open(t, Options{})
	s := stage([]table{a}, plan.Filter{Predicate: plan.SQL("id > 0")})
	s.Inputs[0].Columns = []int{0}
	reader := a.reader(t, mem)
	whole := reader.batches[0]
	reader.batches[0] = pickColumns(whole, []int{0})
	whole.Release()
	err := d.Run(t.Context(), s, []exec.BatchReader{reader}, func(batch arrow.RecordBatch) error {
		batch.Release()
		t.Error("rows came")
		return nil
	})
	if err == nil || diag.From(err).Code != diag.Internal {
		t.Errorf("got %v", err)
	}
}
