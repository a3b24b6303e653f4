package duck

import (
	"slices"
	"testing"

	"github.com/alink-runtime/alink/engine/plan"
)

func flights(t *testing.T) table {
	t.Helper()
	return newTable(t, "id:bigint carrier:string delay:double",
		`[{"id":1,"carrier":"AA","delay":5.5},{"id":2,"carrier":"BB","delay":null}]`,
		`[]`,
		`[{"id":3,"carrier":"AA","delay":-1},{"id":4,"carrier":null,"delay":7},{"id":5,"carrier":"BB","delay":2}]`)
}

func TestNodes(t *testing.T) {
	tests := []struct {
		name   string
		ops    []plan.Op
		schema string
		rows   []string
		sorted bool // the order of the rows is not given
	}{
		{
			name: "filter leaves out what is false or NULL",
			ops:  []plan.Op{plan.Filter{Predicate: plan.SQL("delay > 3 -- minutes")}},
			rows: []string{"id=1 carrier=AA delay=5.5", "id=4 carrier=null delay=7"},
		},
		{
			name: "filter by operators",
			ops: []plan.Op{plan.Filter{Predicate: plan.Apply("or",
				plan.Apply("in", plan.Column("ID"), plan.Lit(2), plan.Lit(5)),
				plan.Apply("is_null", plan.Column("carrier")))}},
			rows: []string{"id=2 carrier=BB delay=null", "id=4 carrier=null delay=7", "id=5 carrier=BB delay=2"},
		},
		{
			name: "select",
			ops: []plan.Op{plan.Project{Exprs: []plan.NamedExpr{
				named("half", plan.Apply("/", plan.Column("id"), plan.Lit(2))),
				named("rest", plan.Apply("%", plan.Column("id"), plan.Lit(2))),
				named("minus", plan.Apply("neg", plan.Apply("neg", plan.Column("id")))),
				named("not", plan.Apply("not", plan.Apply("<", plan.Column("id"), plan.Lit(2)))),
				named("text", plan.Cast(plan.Column("id"), "string")),
			}}, plan.Limit{N: 2, Offset: 2}},
			rows: []string{
				"half=1.5 rest=1 minus=3 not=true text=3",
				"half=2 rest=0 minus=4 not=true text=4",
			},
		},
		{
			name: "with_columns replaces in place and sees the table as it was",
			ops: []plan.Op{
				plan.Project{Keep: true, Exprs: []plan.NamedExpr{sqlExpr("twice", "delay * 2"), sqlExpr("DELAY", "coalesce(delay, 0) + 1"), sqlExpr("old", "delay")}},
				plan.Limit{N: 2},
			},
			rows: []string{"id=1 carrier=AA DELAY=6.5 twice=11 old=5.5", "id=2 carrier=BB DELAY=1 twice=null old=null"},
		},
		{
			name: "aggregate, sum of integers is a bigint",
			ops: []plan.Op{
				plan.Aggregate{
					Keys:       []plan.NamedExpr{named("carrier", plan.Column("carrier"))},
					Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)"), sqlExpr("s", "sum(id)"), sqlExpr("m", "max(delay)")},
				},
				plan.Sort{By: []plan.SortKey{{Expr: plan.Column("carrier"), NullsFirst: true}}},
			},
			schema: "carrier string, n bigint, s bigint, m double",
			rows:   []string{"carrier=null n=1 s=4 m=7", "carrier=AA n=2 s=4 m=5.5", "carrier=BB n=2 s=7 m=2"},
		},
		{
			name: "aggregate of the whole table by an operator of aggregates",
			ops: []plan.Op{plan.Aggregate{Aggregates: []plan.NamedExpr{
				named("mean", plan.Apply("/", plan.SQL("sum(delay)"), plan.SQL("count(delay)"))),
			}}},
			rows: []string{"mean=3.375"},
		},
		{
			name: "aggregate of nothing has one row without keys and none with",
			ops: []plan.Op{
				plan.Filter{Predicate: plan.Lit(false)},
				plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}},
				plan.Filter{Predicate: plan.SQL("n > 0")},
				plan.Aggregate{Keys: []plan.NamedExpr{named("one", plan.Lit(1))}, Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}},
			},
			rows: nil,
		},
		{
			name: "a number is a key, not a position",
			ops:  []plan.Op{plan.Aggregate{Keys: []plan.NamedExpr{sqlExpr("k", "2")}, Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}}},
			rows: []string{"k=2 n=5"},
		},
		{
			name: "sort, NULLs last, and a number orders nothing",
			ops:  []plan.Op{plan.Sort{By: []plan.SortKey{{Expr: plan.SQL("2")}, {Expr: plan.SQL("delay"), Descending: true}}}, plan.Project{Exprs: []plan.NamedExpr{sqlExpr("id", "id")}}},
			rows: []string{"id=4", "id=1", "id=5", "id=3", "id=2"},
		},
		{
			name: "sort and limit",
			ops:  []plan.Op{plan.Sort{By: []plan.SortKey{{Expr: plan.Column("id"), Descending: true}}}, plan.Limit{N: 1, Offset: 1}},
			rows: []string{"id=4 carrier=null delay=7"},
		},
		{
			name: "drop and rename, to each other's names too",
			ops: []plan.Op{
				plan.Drop{Columns: []string{"DELAY"}},
				plan.Rename{Columns: map[string]string{"id": "carrier", "Carrier": "id"}},
				plan.Limit{N: 2},
			},
			rows: []string{"carrier=1 id=AA", "carrier=2 id=BB"},
		},
		{
			name: "drop everything",
			ops:  []plan.Op{plan.Limit{N: 2}, plan.Drop{Columns: []string{"id", "delay", "carrier"}}},
			rows: []string{"", ""},
		},
		{
			name: "limit of nothing",
			ops:  []plan.Op{plan.Limit{N: 0}},
		},
		{
			name: "no columns",
			ops:  []plan.Op{plan.Project{}, plan.Limit{N: 3}},
			rows: []string{"", "", ""},
		},
		{
			name: "a subquery over the row's own list",
			ops:  []plan.Op{plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", "(SELECT max(u) FROM unnest([id, 3]) AS t(u))")}}},
			rows: []string{"x=3", "x=3", "x=3", "x=4", "x=5"}, sorted: true,
		},
		{
			name: "window functions",
			ops: []plan.Op{
				plan.Project{Exprs: []plan.NamedExpr{sqlExpr("id", "id"), sqlExpr("r", "row_number() OVER (PARTITION BY carrier ORDER BY id)")}},
				plan.Sort{By: []plan.SortKey{{Expr: plan.Column("id")}}},
			},
			rows: []string{"id=1 r=1", "id=2 r=1", "id=3 r=2", "id=4 r=1", "id=5 r=2"},
		},
	}
	d, mem := open(t, Options{Threads: 2})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := flights(t)
			out, err := runStage(t, d, mem, stage([]table{in}, test.ops...), in)
			if err != nil {
				t.Fatal(err)
			}
			if test.sorted {
				slices.Sort(out.rows)
			}
			equalRows(t, out.rows, test.rows...)
			if test.schema != "" {
				if got := describe(out); got != test.schema {
					t.Errorf("schema is %s, want %s", got, test.schema)
				}
			}
		})
	}
}

func describe(out outcome) string {
	text := ""
	for i, f := range out.schema.Fields() {
		if i > 0 {
			text += ", "
		}
		text += f.Name + " " + plan.FormatType(f.Type)
	}
	return text
}

func TestJoins(t *testing.T) {
	left := newTable(t, "k:bigint a:string", `[{"k":1,"a":"x"},{"k":2,"a":"y"},{"k":null,"a":"z"}]`)
	right := newTable(t, "K:integer other:bigint b:double", `[{"K":2,"other":2,"b":0.5},{"K":3,"other":1,"b":1.5}]`)
	same := []plan.JoinKey{{Left: "k", Right: "K"}}
	tests := []struct {
		name   string
		join   plan.Join
		schema string
		rows   []string
	}{
		{"inner", plan.Join{On: same, How: plan.Inner}, "k bigint, a string, other bigint, b double", []string{"k=2 a=y other=2 b=0.5"}},
		{
			"left",
			plan.Join{On: same, How: plan.Left},
			"k bigint, a string, other bigint, b double",
			[]string{"k=1 a=x other=null b=null", "k=2 a=y other=2 b=0.5", "k=null a=z other=null b=null"},
		},
		{
			"right",
			plan.Join{On: same, How: plan.Right},
			"k bigint, a string, other bigint, b double",
			[]string{"k=2 a=y other=2 b=0.5", "k=3 a=null other=1 b=1.5"},
		},
		{
			"full",
			plan.Join{On: same, How: plan.Full},
			"k bigint, a string, other bigint, b double",
			[]string{"k=1 a=x other=null b=null", "k=2 a=y other=2 b=0.5", "k=3 a=null other=1 b=1.5", "k=null a=z other=null b=null"},
		},
		{"semi", plan.Join{On: same, How: plan.Semi}, "k bigint, a string", []string{"k=2 a=y"}},
		{"anti", plan.Join{On: same, How: plan.Anti}, "k bigint, a string", []string{"k=1 a=x", "k=null a=z"}},
		{
			"different names stay",
			plan.Join{On: []plan.JoinKey{{Left: "k", Right: "other"}}, How: plan.Semi},
			"k bigint, a string",
			[]string{"k=1 a=x", "k=2 a=y"},
		},
		{
			"two keys",
			plan.Join{On: []plan.JoinKey{{Left: "k", Right: "K"}, {Left: "k", Right: "other"}}, How: plan.Inner},
			"k bigint, a string, other bigint, b double",
			[]string{"k=2 a=y other=2 b=0.5"},
		},
	}
	d, mem := open(t, Options{Threads: 2})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inputs := []table{left, right}
			out, err := runStage(t, d, mem, stage(inputs, test.join), inputs...)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(out.rows)
			equalRows(t, out.rows, test.rows...)
			if got := describe(out); got != test.schema {
				t.Errorf("schema is %s, want %s", got, test.schema)
			}
		})
	}
}

// What a limit takes is decided before a join behind it looks at the rows.
func TestJoinOfLimit(t *testing.T) {
	in := newTable(t, "f:boolean", `[{"f":null},{"f":false},{"f":true}]`)
	d, mem := open(t, Options{Threads: 2})
	s := stage([]table{in})
	s.Nodes = []plan.Node{
		{ID: "u", Inputs: []string{"in0", "in0"}, Op: plan.Union{}},
		{ID: "c", Inputs: []string{"u"}, Op: plan.Limit{N: 16}},
		{ID: "l", Inputs: []string{"c"}, Op: plan.Limit{N: 10, Offset: 5}},
		{ID: "x", Inputs: []string{"l"}, Op: plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", "f")}}},
		{ID: "j", Inputs: []string{"x", "u"}, Op: plan.Join{On: []plan.JoinKey{{Left: "x", Right: "f"}}, How: plan.Inner}},
	}
	for range 20 { // rows were lost in most runs, not in all
		out, err := runStage(t, d, mem, s, in)
		if err != nil {
			t.Fatal(err)
		}
		equalRows(t, out.rows, "x=true f=true", "x=true f=true")
	}
}

// A stream can be scanned once; a second scan would silently find nothing.
func TestReadTwice(t *testing.T) {
	in := newTable(t, "id:bigint boss:bigint", `[{"id":1,"boss":2},{"id":2,"boss":3}]`, `[{"id":3,"boss":null}]`)
	ids := plan.Project{Exprs: []plan.NamedExpr{sqlExpr("id", "id"), sqlExpr("x", "boss * 10")}}
	big := plan.Filter{Predicate: plan.SQL("id > 1")}
	on := func(l, r string) plan.Join {
		return plan.Join{On: []plan.JoinKey{{Left: l, Right: r}}, How: plan.Inner}
	}
	tests := []struct {
		name  string
		nodes []plan.Node
		rows  []string
	}{
		{
			"self-join",
			[]plan.Node{{ID: "j", Inputs: []string{"in0", "in0"}, Op: on("id", "id")}},
			nil,
		}, // refused: both have boss
		{"two nodes over an input", []plan.Node{
			{ID: "a", Inputs: []string{"in0"}, Op: ids},
			{ID: "b", Inputs: []string{"in0"}, Op: big},
			{ID: "j", Inputs: []string{"a", "b"}, Op: on("id", "id")},
		}, []string{"id=2 x=30 boss=3", "id=3 x=null boss=null"}},
		{"two nodes over a node over an input", []plan.Node{
			{ID: "f", Inputs: []string{"in0"}, Op: big},
			{ID: "a", Inputs: []string{"f"}, Op: ids},
			{ID: "b", Inputs: []string{"f"}, Op: plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("id", "max(id)"), sqlExpr("n", "count(*)")}}},
			{ID: "j", Inputs: []string{"a", "b"}, Op: on("id", "id")},
		}, []string{"id=3 x=null n=2"}},
		{"a node joined with its own input, and that again", []plan.Node{
			{ID: "f", Inputs: []string{"in0"}, Op: plan.Project{Exprs: []plan.NamedExpr{sqlExpr("id", "id")}}},
			{ID: "j", Inputs: []string{"f", "in0"}, Op: on("id", "boss")},
		}, nil}, // refused: both have id
		{"semi-join with itself", []plan.Node{
			{ID: "j", Inputs: []string{"in0", "in0"}, Op: plan.Join{On: []plan.JoinKey{{Left: "id", Right: "boss"}}, How: plan.Semi}},
		}, []string{"id=2 boss=3", "id=3 boss=null"}},
	}
	for _, threads := range []int{1, 2} {
		d, mem := open(t, Options{Threads: threads})
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				s := stage([]table{in})
				s.Nodes = test.nodes
				out, err := runStage(t, d, mem, s, in)
				if test.rows == nil {
					if err == nil {
						t.Error("no error for a name that both sides have")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(out.rows)
				equalRows(t, out.rows, test.rows...)
			})
		}
	}
}
