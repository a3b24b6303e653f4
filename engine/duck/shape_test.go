package duck

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

func n(rows int64) *int64          { return &rows }
func share(value float64) *float64 { return &value }

func TestUnion(t *testing.T) {
	a := newTable(t, "k:integer s:string", `[{"k":1,"s":"x"}]`, `[{"k":2,"s":null}]`)
	b := newTable(t, "K:bigint other:string", `[{"K":3,"other":"y"}]`)
	c := newTable(t, "s:string extra:boolean", `[{"s":"z","extra":true}]`)
	null := newTable(t, "k:null s:null", `[{"k":null,"s":null}]`)
	tests := []struct {
		name   string
		inputs []table
		byName bool
		schema string
		rows   []string
	}{
		{"by position", []table{a, b}, false, "k bigint, s string", []string{"k=1 s=x", "k=2 s=null", "k=3 s=y"}},
		{"of one", []table{a}, false, "k integer, s string", []string{"k=1 s=x", "k=2 s=null"}},
		{
			"by name",
			[]table{a, b, c},
			true, "k bigint, s string, other string, extra boolean",
			[]string{"k=1 s=x other=null extra=null", "k=2 s=null other=null extra=null", "k=3 s=null other=y extra=null", "k=null s=z other=null extra=true"},
		},
		{"with columns of NULL alone", []table{null, a, null}, false, "k integer, s string", []string{"k=null s=null", "k=1 s=x", "k=2 s=null", "k=null s=null"}},
		{"of NULL alone", []table{null, null}, true, "k null, s null", []string{"k=null s=null", "k=null s=null"}},
	}
	for _, threads := range []int{1, 2} {
		d, mem := open(t, Options{Threads: threads})
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				out, err := runStage(t, d, mem, stage(test.inputs, plan.Union{ByName: test.byName}), test.inputs...)
				if err != nil {
					t.Fatal(err)
				}
				equalRows(t, out.rows, test.rows...)
				if got := describe(out); got != test.schema {
					t.Errorf("schema is %s, want %s", got, test.schema)
				}
			})
		}
	}
}

// counted gives a table of many batches: id counts the rows, k repeats.
func counted(t *testing.T, batches, size int) table {
	t.Helper()
	var rows []string
	for b := range batches {
		var batch []string
		for i := range size {
			id := b*size + i
			batch = append(batch, fmt.Sprintf(`{"id":%d,"k":%d}`, id, id*7919%13))
		}
		rows = append(rows, "["+strings.Join(batch, ",")+"]")
	}
	return newTable(t, "id:bigint k:bigint", rows...)
}

func ids(t *testing.T, rows []string) []int {
	t.Helper()
	out := make([]int, len(rows))
	for i, row := range rows {
		if _, err := fmt.Sscanf(row, "id=%d", &out[i]); err != nil {
			t.Fatalf("row %q: %v", row, err)
		}
	}
	return out
}

func TestOrderOfShapes(t *testing.T) {
	in := counted(t, 40, 1000)
	all := make([]int, 40_000)
	for i := range all {
		all[i] = i
	}
	byKey := slices.Clone(all)
	slices.SortStableFunc(byKey, func(a, b int) int { return b*7919%13 - a*7919%13 })
	tests := []struct {
		name   string
		inputs []table
		op     plan.Op
		want   []int
	}{
		{"sort of equal keys", []table{in}, plan.Sort{By: []plan.SortKey{{Expr: plan.Column("k"), Descending: true}}}, byKey},
		{"union", []table{in, in}, plan.Union{}, append(slices.Clone(all), all...)},
		{"distinct", []table{in}, plan.Distinct{}, all},
		{"distinct on a key", []table{in}, plan.Distinct{On: []string{"K"}}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"whole sample", []table{in}, plan.Sample{Fraction: share(1)}, all},
		{"sample of more rows than there are", []table{in}, plan.Sample{N: n(1 << 40)}, all},
	}
	for _, threads := range []int{1, 4} {
		d, mem := open(t, Options{Threads: threads})
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/threads=%d", test.name, threads), func(t *testing.T) {
				out, err := runStage(t, d, mem, stage(test.inputs, test.op), test.inputs...)
				if err != nil {
					t.Fatal(err)
				}
				if got := ids(t, out.rows); !slices.Equal(got, test.want) {
					t.Errorf("the order is not kept: %d rows, %v …", len(got), got[:min(20, len(got))])
				}
			})
		}
	}
}

func TestSample(t *testing.T) {
	in := counted(t, 20, 1000)
	sample := func(threads int, op plan.Sample) []int {
		d, mem := open(t, Options{Threads: threads})
		out, err := runStage(t, d, mem, stage([]table{in}, op), in)
		if err != nil {
			t.Fatal(err)
		}
		return ids(t, out.rows)
	}
	for _, op := range []plan.Sample{{N: n(2000), Seed: 1}, {Fraction: share(0.1), Seed: 1}} {
		first, again := sample(1, op), sample(4, op)
		if !slices.Equal(first, again) {
			t.Errorf("%+v: the same seed gives another sample with more threads", op)
		}
		if !slices.IsSorted(first) {
			t.Errorf("%+v: the order is not kept", op)
		}
		if op.N != nil && len(first) != 2000 || len(first) < 1800 || len(first) > 2200 {
			t.Errorf("%+v: %d rows", op, len(first))
		}
		op.Seed = 2
		common := 0
		for _, id := range sample(1, op) {
			if _, found := slices.BinarySearch(first, id); found {
				common++
			}
		}
		if common < 120 || common > 280 { // a tenth of a tenth, within six deviations
			t.Errorf("%+v: samples of two seeds have %d of 2000 rows in common", op, common)
		}
	}
	if got := sample(1, plan.Sample{N: n(0)}); len(got) != 0 {
		t.Errorf("a sample of no rows has %d", len(got))
	}
	if got := sample(1, plan.Sample{Fraction: share(0)}); len(got) != 0 {
		t.Errorf("a sample of nothing has %d rows", len(got))
	}
}

func TestDistinct(t *testing.T) {
	in := newTable(t, "a:double s:string l:list<int> z:null",
		`[{"a":1,"s":"x","l":[1,null]},{"a":null,"s":null,"l":null},{"a":1,"s":"x","l":[1,null]}]`,
		`[{"a":null,"s":null,"l":null},{"a":1,"s":"y","l":[1,null]},{"a":null,"s":"y","l":[]}]`)
	d, mem := open(t, Options{Threads: 2})
	for _, test := range []struct {
		on   []string
		rows []string
	}{
		{nil, []string{"a=1 s=x l=[1,null] z=null", "a=null s=null l=null z=null", "a=1 s=y l=[1,null] z=null", "a=null s=y l=[] z=null"}},
		{[]string{"A"}, []string{"a=1 s=x l=[1,null] z=null", "a=null s=null l=null z=null"}},
		{[]string{"s", "l"}, []string{"a=1 s=x l=[1,null] z=null", "a=null s=null l=null z=null", "a=1 s=y l=[1,null] z=null", "a=null s=y l=[] z=null"}},
	} {
		out, err := runStage(t, d, mem, stage([]table{in}, plan.Distinct{On: test.on}), in)
		if err != nil {
			t.Fatal(err)
		}
		equalRows(t, out.rows, test.rows...)
		if got, want := describe(out), "a double, s string, l list<integer>, z null"; got != want {
			t.Errorf("schema is %s, want %s", got, want)
		}
	}
	out, err := runStage(t, d, mem, stage([]table{in}, plan.Drop{Columns: []string{"a", "s", "l", "z"}}, plan.Distinct{}), in)
	if err != nil || len(out.rows) != 1 {
		t.Errorf("distinct of a table without columns gives %d rows, %v", len(out.rows), err)
	}
}

func TestUnnest(t *testing.T) {
	in := newTable(t, `id:bigint l:list<int> m:map<string,double> s:struct<x:int,y:string>`,
		`[{"id":1,"l":[1,2],"m":[{"key":"a","value":0.5}],"s":{"x":1,"y":"p"}},
		  {"id":2,"l":[],"m":[],"s":null},
		  {"id":3,"l":null,"m":null,"s":{"x":null,"y":"q"}},
		  {"id":4,"l":[null],"m":[{"key":"b","value":null},{"key":"c","value":1}],"s":{"x":2,"y":null}}]`)
	pick := func(columns ...string) plan.Project {
		var p plan.Project
		for _, c := range columns {
			p.Exprs = append(p.Exprs, named(c, plan.Column(c)))
		}
		return p
	}
	d, mem := open(t, Options{Threads: 2})
	for _, test := range []struct {
		columns []string
		op      plan.Unnest
		schema  string
		rows    []string
	}{
		{[]string{"id", "l"}, plan.Unnest{Column: "L"}, "id bigint, l integer", []string{"id=1 l=1", "id=1 l=2", "id=4 l=null"}},
		{
			[]string{"l", "id"},
			plan.Unnest{Column: "l", KeepEmpty: true},
			"l integer, id bigint",
			[]string{"l=1 id=1", "l=2 id=1", "l=null id=2", "l=null id=3", "l=null id=4"},
		},
		{
			[]string{"id", "m"},
			plan.Unnest{Column: "m"},
			`id bigint, m struct<key: string, value: double>`,
			[]string{`id=1 m={"key":"a","value":0.5}`, `id=4 m={"key":"b","value":null}`, `id=4 m={"key":"c","value":1}`},
		},
		{
			[]string{"s", "id"},
			plan.Unnest{Column: "s"},
			`x integer, y string, id bigint`,
			[]string{"x=1 y=p id=1", "x=null y=null id=2", "x=null y=q id=3", "x=2 y=null id=4"},
		},
	} {
		out, err := runStage(t, d, mem, stage([]table{in}, pick(test.columns...), test.op), in)
		if err != nil {
			t.Fatal(err)
		}
		equalRows(t, out.rows, test.rows...)
		if got := describe(out); got != test.schema {
			t.Errorf("schema is %s, want %s", got, test.schema)
		}
	}
}

func TestJoinForms(t *testing.T) {
	left := newTable(t, "k:bigint v:string", `[{"k":1,"v":"x"},{"k":null,"v":"y"}]`)
	right := newTable(t, "K:bigint V:string", `[{"K":null,"V":"p"},{"K":1,"V":"q"}]`)
	on := []plan.JoinKey{{Left: "k", Right: "K"}}
	tests := []struct {
		name string
		join plan.Join
		rows []string
	}{
		{"suffix", plan.Join{On: on, How: plan.Inner, Suffix: "_r"}, []string{"k=1 v=x V_r=q"}},
		{"NULL equals NULL", plan.Join{On: on, How: plan.Full, Suffix: "_r", NullsEqual: true}, []string{"k=1 v=x V_r=q", "k=null v=y V_r=p"}},
		{"NULL equals nothing", plan.Join{On: on, How: plan.Full, Suffix: "_r"}, []string{"k=1 v=x V_r=q", "k=null v=null V_r=p", "k=null v=y V_r=null"}},
		{"anti with NULL", plan.Join{On: on, How: plan.Anti}, []string{"k=null v=y"}},
		{
			"cross",
			plan.Join{How: plan.Cross, Suffix: " 2"},
			[]string{"k=1 v=x K 2=1 V 2=q", "k=1 v=x K 2=null V 2=p", "k=null v=y K 2=1 V 2=q", "k=null v=y K 2=null V 2=p"},
		},
	}
	for _, threads := range []int{1, 2} {
		d, mem := open(t, Options{Threads: threads})
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				inputs := []table{left, right}
				out, err := runStage(t, d, mem, stage(inputs, test.join), inputs...)
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(out.rows)
				equalRows(t, out.rows, test.rows...)
			})
		}
		out, err := runStage(t, d, mem, selfCross(left), left)
		if err != nil || len(out.rows) != 4 {
			t.Errorf("a table crossed with itself gives %q, %v", out.rows, err)
		}
	}
}

func selfCross(in table) *exec.RelationalStage {
	s := stage([]table{in})
	s.Nodes = []plan.Node{{ID: "j", Inputs: []string{"in0", "in0"}, Op: plan.Join{How: plan.Cross, Suffix: "_2"}}}
	return s
}

func TestShapeErrors(t *testing.T) {
	a := newTable(t, "k:bigint s:string")
	b := newTable(t, "k:string")
	one := []plan.JoinKey{{Left: "k", Right: "k"}}
	tests := []struct {
		inputs []table
		op     plan.Op
		code   diag.Code
		text   string
	}{
		{[]table{a, b}, plan.Union{}, diag.InvalidPlan, "the tables of the union have 2 and 1 columns"},
		{[]table{a, b}, plan.Union{ByName: true}, diag.TypeMismatch, `the union puts "k", a string, below "k", a bigint`},
		{[]table{a}, plan.Distinct{On: []string{"x"}}, diag.UnknownColumn, `there is no column "x"`},
		{[]table{a}, plan.Unnest{Column: "x"}, diag.UnknownColumn, `there is no column "x"`},
		{[]table{a}, plan.Unnest{Column: "s"}, diag.TypeMismatch, `the column "s" is a string, not a list, map or struct`},
		{[]table{newTable(t, "id:int s:struct<ID:int>")}, plan.Unnest{Column: "s"}, diag.InvalidPlan, `the column "ID" is defined twice`},
		{[]table{a, a}, plan.Join{How: plan.Cross}, diag.InvalidPlan, `both tables of the join have a column "k" that is not joined on`},
		{[]table{newTable(t, "k:int v:int v_r:int"), newTable(t, "k:int v:int")}, plan.Join{On: one, How: plan.Inner, Suffix: "_r"}, diag.InvalidPlan, `the join would give two columns the name "v_r"`},
	}
	d, _ := open(t, Options{})
	for _, test := range tests {
		_, err := d.Describe(t.Context(), stage(test.inputs, test.op))
		if got := diag.From(err); got == nil || got.Code != test.code || !strings.Contains(got.Message, test.text) {
			t.Errorf("%s: the error is %v, want %s: %s", test.op.Name(), err, test.code, test.text)
		}
	}
}
