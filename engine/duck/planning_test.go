package duck

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// chain writes an expression as deep as it has terms: first op term(1) op …
func chain(terms int, first, op string, term func(int) string) string {
	var out strings.Builder
	out.WriteString(first)
	for i := 1; i < terms; i++ {
		out.WriteString(op + term(i))
	}
	return out.String()
}

// With all of DuckDB's optimizers this would take minutes.
func TestDeepExpressions(t *testing.T) {
	const terms = 250
	in := newTable(t, "a:bigint s:string", `[{"a":1,"s":"x"},{"a":null,"s":"y"}]`)
	same := chain(terms, "a", "+", func(int) string { return "a" })
	numbers := chain(terms, "a", "+", func(i int) string { return fmt.Sprint(i) })
	text := chain(terms, "s", "||", func(int) string { return "s" })
	cases := strings.Repeat("CASE WHEN a = 0 THEN 0 ELSE ", terms) + "a" + strings.Repeat(" END", terms)
	whole := plan.Column("a")
	for range 100 {
		whole = plan.Apply("+", whole, plan.Column("a"))
	}
	const sum = terms * (terms - 1) / 2
	d, mem := open(t, Options{})
	for _, test := range []struct {
		name string
		op   plan.Op
		rows []string
	}{
		{
			"select",
			plan.Project{Exprs: []plan.NamedExpr{sqlExpr("same", same), sqlExpr("numbers", numbers), sqlExpr("cases", cases), named("operators", whole)}},
			[]string{fmt.Sprintf("same=%d numbers=%d cases=1 operators=101", terms, sum+1), "same=null numbers=null cases=null operators=null"},
		},
		{"texts", plan.Project{Exprs: []plan.NamedExpr{sqlExpr("n", "length("+text+")")}}, []string{"n=250", "n=250"}},
		{"filter", plan.Filter{Predicate: plan.SQL(numbers + fmt.Sprintf(" = %d", sum+1))}, []string{"a=1 s=x"}},
		{"aggregate", plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("s", "sum("+numbers+")"), sqlExpr("m", "max("+same+")")}}, []string{fmt.Sprintf("s=%d m=%d", sum+1, terms)}},
		{"sort", plan.Sort{By: []plan.SortKey{{Expr: plan.SQL(same), NullsFirst: true}}}, []string{"a=null s=y", "a=1 s=x"}},
		{
			"query with a parameter",
			plan.SQLQuery{Query: "SELECT " + same + " + $p AS x FROM t WHERE " + same + " > 0", Tables: []string{"t"}, Params: map[string]plan.Literal{"p": {Type: "bigint", Value: []byte("5")}}},
			[]string{fmt.Sprintf("x=%d", terms+5)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := runStage(t, d, mem, stage([]table{in}, test.op), in)
			if err != nil {
				t.Fatal(err)
			}
			equalRows(t, out.rows, test.rows...)
		})
	}
}

// Statements of all depths are planned at the same time, the deep ones alone
// without the two optimizers.
func TestPlanning(t *testing.T) {
	d, mem := open(t, Options{Threads: 2})
	in := newTable(t, "a:bigint", `[{"a":1}]`)
	disabled := func(depth int) string {
		s, err := d.connect()
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		var result duckdb.Result
		defer duckdb.DestroyResult(&result)
		if _, err := s.planned(depth, func() duckdb.State {
			return duckdb.Query(s.conn, "SELECT current_setting('disabled_optimizers')", &result)
		}); err != nil {
			t.Fatal(err)
		}
		chunk := duckdb.FetchChunk(result)
		defer duckdb.DestroyDataChunk(&chunk)
		return appendStrings(nil, duckdb.DataChunkGetVector(chunk, 0), 1)[0]
	}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			terms := []int{2, 2 * planDepthMax}[i%2]
			op := plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", chain(terms, "a", "+", func(int) string { return "a" }))}}
			out, err := runStage(t, d, mem, stage([]table{in}, op), in)
			if err != nil {
				t.Error(err)
			}
			equalRows(t, out.rows, fmt.Sprintf("x=%d", terms))
		})
	}
	wait.Wait()
	if got := disabled(planDepthMax); got != neverOptimizers {
		t.Errorf("shallow statements are planned without %s", got)
	}
	if got := disabled(planDepthMax + 1); !strings.Contains(got, "common_subexpressions") || !strings.Contains(got, "expression_rewriter") || !strings.Contains(got, neverOptimizers) {
		t.Errorf("deep statements are planned without %s", got)
	}
	s, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.execute("SET GLOBAL allowed_configs = ['threads']"); err == nil {
		t.Error("settings are not locked")
	}
}

func TestExprDepth(t *testing.T) {
	d, _ := open(t, Options{})
	s, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for text, want := range map[string]int{
		"a": 1, "a + 1": 2, "a + 1 + 2": 3, "(((a)))": 1, "f(a, g(b))": 3, "a AND b AND c": 2, "a IN (1, 2, 3)": 2,
		"CASE WHEN a THEN 1 WHEN b THEN 2 ELSE 3 END": 2, "list_transform(l, x -> x + 1)": 4,
		"(SELECT max(i + 1) FROM range(3) r(i))": 4,
	} {
		parsed, problem := d.parseText(s, text)
		if problem != nil {
			t.Fatal(problem)
		}
		if parsed.depth != want {
			t.Errorf("%s: depth %d, want %d", text, parsed.depth, want)
		}
	}
}

// What is nested too deep is refused, not walked until the stack ends; what is
// long but not deep is computed.
func TestTenThousandTerms(t *testing.T) {
	const terms = 10_000
	d, mem := open(t, Options{})
	in := newTable(t, "a:bigint", `[{"a":1}]`)
	for name, text := range map[string]string{
		"sum":         chain(terms, "a", "+", func(int) string { return "a" }),
		"parentheses": strings.Repeat("(", terms) + "a" + strings.Repeat(")", terms),
		"right":       strings.Repeat("a+(", terms) + "a" + strings.Repeat(")", terms),
		"not":         strings.Repeat("NOT ", terms) + "a",
		"calls":       strings.Repeat("abs(", terms) + "a" + strings.Repeat(")", terms),
	} {
		_, err := d.Describe(t.Context(), stage([]table{in}, plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", text)}}))
		if problem := diag.From(err); problem == nil || problem.Code != diag.BadExpression {
			t.Errorf("%s: got %v", name, err)
		}
		_, err = d.Describe(t.Context(), stage([]table{in}, asked("SELECT "+text+" FROM t", "t")))
		if problem := diag.From(err); problem == nil || problem.Code != diag.BadQuery {
			t.Errorf("a query, %s: got %v", name, err)
		}
	}
	listed := chain(terms, "0", ",", func(i int) string { return fmt.Sprint(i) })
	out, err := runStage(t, d, mem, stage([]table{in}, plan.Filter{Predicate: plan.SQL("a IN (" + listed + ")")}), in)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, out.rows, "a=1")
}
