package duck

import (
	"slices"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

func TestParameterMarks(t *testing.T) {
	tests := map[string][]string{
		"SELECT $a, $B_2":                       {"a", "B_2"},
		"SELECT '$a', \"$b\", 'it''s $c', $d":   {"d"},
		`SELECT e'\' $a', E'\\', $b, file'$c'`:  {"b"},
		"SELECT $$ $a $$, $x$ $b $$ $x$, $c":    {"c"},
		"-- $a\nSELECT $b -- $c":                {"b"},
		"/* $a /* $b */ $c */ SELECT $d /* $e":  {"d"},
		"SELECT x$a, $größe, $ , $1":            {"größe", "1"},
		"SELECT a-$b,a/$c,$d::int,'unfinished$": {"b", "c", "d"},
	}
	for text, want := range tests {
		var got []string
		for _, m := range parameterMarks(text) {
			got = append(got, m.name)
			if text[m.start:m.end] != "$"+m.name {
				t.Errorf("%s: the place of $%s is %q", text, m.name, text[m.start:m.end])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: parameters %q, want %q", text, got, want)
		}
	}
}

func asked(text string, tables ...string) plan.SQLQuery {
	return plan.SQLQuery{Query: text, Tables: tables, Params: map[string]plan.Literal{
		"low":  {Type: "bigint", Value: []byte("1")},
		"text": {Type: "string", Value: []byte(`"it's ' $low"`)},
		"list": {Type: "list<bigint>", Value: []byte(`[1,null,3]`)},
		"blob": {Type: "binary", Value: []byte(`"00ff"`)},
		"none": {Type: "null", Value: []byte("null")},
	}}
}

func TestQueries(t *testing.T) {
	a := newTable(t, "id:bigint s:string", `[{"id":1,"s":"x"},{"id":2,"s":"y"}]`, `[{"id":3,"s":null}]`)
	b := newTable(t, "id:bigint v:double", `[{"id":2,"v":0.5},{"id":3,"v":1.5}]`)
	tests := []struct {
		query plan.SQLQuery
		rows  []string
	}{
		{asked("SELECT * FROM a WHERE id > $low ORDER BY id DESC;", "a"), []string{"id=3 s=null", "id=2 s=y"}},
		{asked("FROM A SELECT id WHERE id IN $LIST", "a"), []string{"id=1", "id=3"}},
		{asked("SELECT $text AS t, $none AS n, octet_length($blob) AS b, '$low' AS l"), []string{"t=it's ' $low n=null b=2 l=$low"}},
		{asked("WITH a AS (SELECT * FROM a WHERE id > 1), c AS (FROM a) SELECT a.id, c.id AS c FROM a, c ORDER BY ALL", "a"), []string{"id=2 c=2", "id=2 c=3", "id=3 c=2", "id=3 c=3"}},
		{asked("SELECT x.id, y.id FROM a x JOIN a y ON x.id = y.id + $low ORDER BY 1", "a"), []string{"id=2 id_1=1", "id=3 id_1=2"}},
		{asked(`SELECT id, (SELECT max(v) FROM "B" WHERE "B".id <= a.id) AS m FROM a ORDER BY id`, "a", "B"), []string{"id=1 m=null", "id=2 m=0.5", "id=3 m=1.5"}},
		{asked("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, a WHERE n = id) SELECT max(n) AS n FROM r", "a"), []string{"n=4"}},
		{asked("VALUES (1, $text), (2, NULL)"), []string{"col0=1 col1=it's ' $low", "col0=2 col1=null"}},
		{asked("SELECT count(*) + $low FROM a -- $low", "a"), []string{"(count_star() + $low)=4"}},
		{asked("SELECT * FROM a SEMI JOIN b USING (id) UNION ALL SELECT * FROM a WHERE s = 'x'", "a", "b"), []string{"id=2 s=y", "id=3 s=null", "id=1 s=x"}},
		{asked("SELECT sum(x)::bigint AS s FROM range(5) AS r(x), unnest([1, 2]) AS u(y)"), []string{"s=20"}},
	}
	d, mem := open(t, Options{Threads: 2})
	for _, test := range tests {
		t.Run(test.query.Query, func(t *testing.T) {
			var inputs []table
			for _, name := range test.query.Tables {
				inputs = append(inputs, map[string]table{"a": a, "b": b}[strings.ToLower(name)])
			}
			out, err := runStage(t, d, mem, stage(inputs, test.query), inputs...)
			if err != nil {
				t.Fatal(err)
			}
			equalRows(t, out.rows, test.rows...)
		})
	}
}

// Two queries of one stage have parameters and tables of the same names.
func TestQueryOverQuery(t *testing.T) {
	in := newTable(t, "x:bigint", `[{"x":1},{"x":2},{"x":3}]`)
	one := plan.SQLQuery{Query: "SELECT x + $n AS x FROM t", Tables: []string{"t"}, Params: map[string]plan.Literal{"n": {Type: "bigint", Value: []byte("10")}}}
	two := one
	two.Params = map[string]plan.Literal{"n": {Type: "double", Value: []byte("0.5")}}
	s := stage([]table{in}, one, two, plan.Filter{Predicate: plan.SQL("x > 12")})
	d, mem := open(t, Options{})
	out, err := runStage(t, d, mem, s, in)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, out.rows, "x=12.5", "x=13.5")
	both := &exec.RelationalStage{ID: "s", Inputs: s.Inputs, Nodes: []plan.Node{
		{ID: "a", Inputs: []string{"in0"}, Op: one},
		{ID: "b", Inputs: []string{"in0"}, Op: two},
		{ID: "u", Inputs: []string{"a", "b"}, Op: plan.Union{}},
	}}
	if out, err = runStage(t, d, mem, both, in); err != nil {
		t.Fatal(err)
	}
	equalRows(t, out.rows, "x=11", "x=12", "x=13", "x=1.5", "x=2.5", "x=3.5")
}

func TestRefusedQueries(t *testing.T) {
	tests := []struct {
		query string
		code  diag.Code
		cause string
	}{
		{"SELECT 1; SELECT 2", diag.BadQuery, "it holds 2 statements instead of one"},
		{"SELECT 1) AS x, (SELECT 2", diag.BadQuery, "syntax error"},
		{"", diag.BadQuery, "it holds 0 statements"},
		{"-- nothing", diag.BadQuery, "it holds 0 statements"},
		{"SELECT\x00 1", diag.BadQuery, "NUL"},
		{"CREATE TABLE x AS SELECT 1", diag.BadQuery, "it is a statement, not a query"},
		{"INSERT INTO a VALUES (1)", diag.BadQuery, "it is a statement, not a query"},
		{"DELETE FROM a", diag.BadQuery, "it is a statement, not a query"},
		{"COPY a TO '/tmp/x'", diag.BadQuery, "it is a statement, not a query"},
		{"COPY (SELECT 1) TO '/tmp/x'", diag.BadQuery, "it is a statement, not a query"},
		{"ATTACH 'x'", diag.BadQuery, "it is a statement, not a query"},
		{"SET threads = 1", diag.BadQuery, "it is a statement, not a query"},
		{"PRAGMA version", diag.BadQuery, "it is a statement, not a query"},
		{"INSTALL httpfs", diag.BadQuery, "it is a statement, not a query"},
		{"LOAD httpfs", diag.BadQuery, "it is a statement, not a query"},
		{"CALL pragma_version()", diag.BadQuery, "it is a statement, not a query"},
		{"EXPLAIN SELECT 1", diag.BadQuery, "it is a statement, not a query"},
		{"FROM read_csv('/etc/passwd')", diag.BadQuery, "the table function read_csv(…)"},
		{"SELECT (SELECT content FROM read_text('/etc/passwd'))", diag.BadQuery, "the table function read_text(…)"},
		{"WITH x AS (FROM glob('/*')) SELECT 1", diag.BadQuery, "the table function glob(…)"},
		{"FROM query('SELECT 1')", diag.BadQuery, "the table function query(…)"},
		{"FROM duckdb_settings()", diag.BadQuery, "the table function duckdb_settings(…)"},
		{"SELECT current_setting('temp_directory')", diag.BadQuery, "current_setting(…) is about the engine"},
		{"FROM range(2) WHERE Current_Query() LIKE '%x'", diag.BadQuery, "current_query(…) is about the engine"},
		{"FROM information_schema.tables", diag.BadQuery, `there is no schema or catalog "information_schema"`},
		{"FROM (DESCRIBE SELECT 1)", diag.BadQuery, "DESCRIBE, SHOW and SUMMARIZE"},
		{"SELECT ?", diag.BadQuery, "? (number 1) has no value"},
		{"SELECT $1", diag.BadQuery, "? (number 1) has no value"},
		{"SELECT $missing", diag.BadQuery, "its parameter $missing has no value"},
		{"FROM '/etc/passwd'", diag.UnknownTable, ""},
		{"FROM nowhere", diag.UnknownTable, ""},
		{"FROM sqlite_master", diag.UnknownTable, ""},
		{"WITH x AS (SELECT 1) FROM y, x", diag.UnknownTable, ""},
		{"SELECT x.nope FROM (SELECT 1 AS one) x", diag.UnknownColumn, `there is no column "nope" in the tables of the query`},
		{"FROM \"alink scan\"(1::UBIGINT)", diag.BadQuery, "the table function alink scan(…)"},
	}
	d, _ := open(t, Options{})
	for _, test := range tests {
		_, err := d.Describe(t.Context(), stage(nil, asked(test.query)))
		got := diag.From(err)
		if got == nil || got.Code != test.code || !strings.Contains(got.Error(), test.cause) {
			t.Errorf("%s: the error is %v, want %s with %q", test.query, err, test.code, test.cause)
		}
	}
}

func TestQueryNames(t *testing.T) {
	d, _ := open(t, Options{})
	got, err := d.QueryNames(t.Context(), `WITH c AS (SELECT * FROM a), a AS (FROM "Two words") SELECT $x, $y FROM c, a, B WHERE z IN (SELECT $X FROM d, b)`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"Two words", "a", "B", "d"}; !slices.Equal(slices.Sorted(slices.Values(got.Tables)), slices.Sorted(slices.Values(want))) {
		t.Errorf("tables are %q, want %q", got.Tables, want)
	}
	if len(got.Parameters) != 2 {
		t.Errorf("parameters are %q", got.Parameters)
	}
}

// Whatever a query's text is, it is refused with a diagnostic or runs; it
// never reads the engine's files.
func FuzzQuery(f *testing.F) {
	for _, text := range []string{"SELECT $low", "SELECT e'\\'$low' || $text", "FROM a", "$$ $low $$", "SELECT 1 /* $low"} {
		f.Add(text)
	}
	d, err := Open(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = d.Close() })
	f.Fuzz(func(t *testing.T, text string) {
		_, err := d.Describe(t.Context(), stage(nil, asked(text)))
		if err != nil && diag.From(err).Code == diag.Internal {
			t.Errorf("%q: %v", text, err)
		}
	})
}
