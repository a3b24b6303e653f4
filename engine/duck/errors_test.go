package duck

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// with is the line of the user's program that holds the text.
func with(s *exec.RelationalStage, node int, line string) *exec.RelationalStage {
	s.Nodes[node].Origin.Text = line
	return s
}

// The texts are what users see; a change of one is a change of the interface.
func TestDiagnostics(t *testing.T) {
	in := newTable(t, `dep_delay:double arr_delay:double carrier:string day:date s:struct<a:bigint>`)
	other := newTable(t, "carrier:bigint arr_delay:double name:string")
	filter := func(text string) plan.Op { return plan.Filter{Predicate: plan.SQL(text)} }
	add := func(exprs ...plan.NamedExpr) plan.Op { return plan.Project{Keep: true, Exprs: exprs} }
	agg := func(text string) plan.Op {
		return plan.Aggregate{Keys: []plan.NamedExpr{sqlExpr("carrier", "carrier")}, Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)"), sqlExpr("v", text)}}
	}
	tests := []struct {
		name  string
		stage *exec.RelationalStage
		want  string
	}{
		{"unknown column in a text", with(stage([]table{in}, plan.Limit{N: 3}, filter("arr_delya > 3")), 1, `t.filter("arr_delya > 3")`), `
ALK1001: there is no column "arr_delya"
  File "job.py", line 2
    t.filter("arr_delya > 3")
              ^^^^^^^^^
  hint: did you mean arr_delay?`},
		{"unknown column by name", stage([]table{in}, add(named("x", plan.Apply("+", plan.Column("zzz"), plan.Lit(1))))), `
ALK1001: there is no column "zzz"
  File "job.py", line 1
  hint: the columns are: dep_delay, arr_delay, carrier, day, s`},
		{"a column of the same call", with(stage([]table{in}, add(sqlExpr("gain", "dep_delay - arr_delay"), sqlExpr("twice", "gain * 2"))), 0, `t.with_columns(gain=…, twice="gain * 2")`), `
ALK1001: there is no column "gain"
  File "job.py", line 1
    t.with_columns(gain=…, twice="gain * 2")
                                  ^^^^
  hint: the columns are: dep_delay, arr_delay, carrier, day, s`},
		{"unknown table", stage([]table{in}, filter("flights.carrier = 'AA'")), `
ALK1001: there is no column "flights"
  File "job.py", line 1
  hint: the columns are: dep_delay, arr_delay, carrier, day, s`},
		{"unknown column in an aggregate", stage([]table{in}, agg("sum(delay)")), `
ALK1001: there is no column "delay"
  File "job.py", line 1
  hint: the columns are: dep_delay, arr_delay, carrier, day, s`},
		{"unknown column of a join", stage([]table{in, other}, plan.Join{On: []plan.JoinKey{{Left: "carrier", Right: "carier"}}, How: plan.Inner}), `
ALK1001: there is no column "carier" in the right table of the join
  File "job.py", line 1
  hint: did you mean carrier?`},
		{"unknown function", with(stage([]table{in}, add(sqlExpr("x", "1 + substrng(carrier, 1)"))), 0, `t.with_columns(x="1 + substrng(carrier, 1)")`), `
ALK1002: there is no function "substrng"
  File "job.py", line 1
    t.with_columns(x="1 + substrng(carrier, 1)")
                          ^^^^^^^^
  hint: did you mean substring or substr?`},
		{"unknown function like no other", stage([]table{in}, add(sqlExpr("x", "qqqqqqqqq(carrier)"))), `
ALK1002: there is no function "qqqqqqqqq"
  File "job.py", line 1
  hint: SQL functions are DuckDB's; a Python function is used by calling it: with_columns(y=f("x"))`},
		{"wrong types of a function", stage([]table{in}, agg("sum(carrier)")), `
ALK1005: the types in "sum(carrier)" do not fit
  File "job.py", line 1
  because: No function matches the given name and argument types 'sum(VARCHAR)'. You might need to add explicit type casts.
      Candidate functions:
      sum(DECIMAL) -> DECIMAL
      sum(BOOLEAN) -> HUGEINT
  hint: cast explicitly where types differ: x::double`},
		{"wrong types of an operator", stage([]table{in}, add(named("x", plan.Apply("+", plan.Column("day"), plan.Column("carrier"))))), `
ALK1005: the types in column "x" do not fit
  File "job.py", line 1
  because: No function matches the given name and argument types '+(DATE, VARCHAR)'. You might need to add explicit type casts.
      Candidate functions:
      +(TINYINT) -> TINYINT
      +(TINYINT, TINYINT) -> TINYINT
  hint: cast explicitly where types differ: x::double`},
		{"wrong types of a comparison", stage([]table{in}, filter("carrier < day")), `
ALK1005: the types in "carrier < day" do not fit
  File "job.py", line 1
  because: Cannot compare values of type VARCHAR and type DATE - an explicit cast is required
  hint: cast explicitly where types differ: x::double`},
		{"wrong types of a join", stage([]table{in, other}, plan.Join{On: []plan.JoinKey{{Left: "carrier", Right: "carrier"}}, How: plan.Semi}), `
ALK1005: the join compares "carrier", a string, with "carrier", a bigint
  File "job.py", line 1
  hint: cast one of them before the join: with_columns(carrier=al.col("carrier").cast(…))`},
		{"unknown type", stage([]table{in}, add(sqlExpr("x", "carrier::strng"))), `
ALK1005: there is no type "strng"
  File "job.py", line 1
  hint: types are named as in SQL: bigint, double, string, date, timestamp …`},
		{"not grouped", stage([]table{in}, agg("dep_delay")), `
ALK1003: "dep_delay" cannot be evaluated
  File "job.py", line 1
  because: column "dep_delay" must appear in the GROUP BY clause or must be part of an aggregate function.
    Either add it to the GROUP BY list, or use "ANY_VALUE(dep_delay)" if the exact value of "dep_delay" is not important.
  hint: put the column into an aggregate function: max(x), any_value(x), list(x) …`},
		{"an aggregate in a filter", stage([]table{in}, filter("count(*) > 1")), `
ALK1003: "count(*) > 1" cannot be evaluated
  File "job.py", line 1
  because: WHERE clause cannot contain aggregates!`},
		{"unknown field", stage([]table{in}, add(sqlExpr("ok", "1"), sqlExpr("x", "s.b"))), `
ALK1003: "s.b" cannot be evaluated
  File "job.py", line 1
  because: Could not find key "b" in struct
    Candidate Entries: "a"`},
		{"syntax", with(stage([]table{in}, filter("dep_delay >> > 3")), 0, `t.filter("dep_delay >> > 3")`), `
ALK1003: "dep_delay >> > 3" is not one SQL expression
  File "job.py", line 1
    t.filter("dep_delay >> > 3")
                        ^^
  because: there is no operator ">>" like this
    dep_delay >> > 3
              ^
  hint: columns are written bare or in double quotes, strings in single quotes: "my column" = 'text'`},
		{"a word too many", with(stage([]table{in}, add(sqlExpr("x", "dep_delay FORM day"))), 0, `t.with_columns(x="dep_delay FORM day")`), `
ALK1003: "dep_delay FORM day" is not one SQL expression
  File "job.py", line 1
    t.with_columns(x="dep_delay FORM day")
                                     ^^^
  because: syntax error at or near "day"
    dep_delay FORM day
                   ^
  hint: columns are written bare or in double quotes, strings in single quotes: "my column" = 'text'`},
		{"syntax at the end", stage([]table{in}, filter("dep_delay >")), `
ALK1003: "dep_delay >" is not one SQL expression
  File "job.py", line 1
  because: syntax error at end of input
    dep_delay >
               ^
  hint: columns are written bare or in double quotes, strings in single quotes: "my column" = 'text'`},
		{"a column named like a word of SQL", stage([]table{newTable(t, "at:double end:double")}, filter(`max(at) - min(At) > length('at')`)), `
ALK1003: "max(at) - min(At) > length('at')" is not one SQL expression
  File "job.py", line 1
  because: syntax error at or near ")"
    max(at) - min(At) > length('at')
          ^
  hint: at is a word of SQL: the column of this name is written "at"`},
		{"a column's name with a blank", stage([]table{{arrow.NewSchema([]arrow.Field{{Name: "my col", Type: arrow.PrimitiveTypes.Int64}}, nil), nil}}, add(sqlExpr("x", "my col"))), `
ALK1003: "my col" is not one SQL expression
  File "job.py", line 1
  because: it gives itself the name "col"; a column's name is set where the expression is used
  hint: the column of this name is written "my col" in SQL, or al.col("my col")`},
		{"a name", stage([]table{in}, add(sqlExpr("x", "dep_delay AS gain"))), `
ALK1003: "dep_delay AS gain" is not one SQL expression
  File "job.py", line 1
  because: it gives itself the name "gain"; a column's name is set where the expression is used
  hint: columns are written bare or in double quotes, strings in single quotes: "my column" = 'text'`},
		{"a name of both tables", stage([]table{in, other}, plan.Join{On: []plan.JoinKey{{Left: "carrier", Right: "name"}}, How: plan.Left}), `
ALK1004: both tables of the join have a column "carrier" that is not joined on
  File "job.py", line 1
  hint: give the right one another name, join(…, suffix="_right"), or join on it too`},
		{"a name twice", stage([]table{in}, add(sqlExpr("x", "1"), sqlExpr("X", "2"))), `
ALK1004: the column "X" is defined twice
  File "job.py", line 1
  hint: names are compared without regard to case; give one of the two another name`},
		{"columns that differ in case", stage([]table{newTable(t, "a:bigint A:bigint")}, plan.Limit{N: 1}), `
ALK1004: the table has columns "a" and "A", whose names differ in case at most
  File "job.py", line 1
  hint: SQL does not tell them apart; rename one of them where the table is made`},
		{"a column to drop", stage([]table{in}, plan.Drop{Columns: []string{"dya"}}), `
ALK1001: there is no column "dya"
  File "job.py", line 1
  hint: did you mean day?`},
		{"a new name that exists", stage([]table{in}, plan.Rename{Columns: map[string]string{"day": "Carrier"}}), `
ALK1004: the column "Carrier" is defined twice
  File "job.py", line 1
  hint: names are compared without regard to case; give one of the two another name`},
		{"a type that is none", stage([]table{in}, add(named("x", plan.Cast(plan.Column("day"), "nonsense")))), `
ALK1005: there is no type "nonsense" to cast to
  File "job.py", line 1
  because: type "nonsense": there is no type "nonsense"`},
		{"several columns", stage([]table{in}, add(sqlExpr("x", "unnest(s, recursive := true)"), sqlExpr("y", "unnest({'a': 1, 'b': 2})"))), `
ALK1003: "unnest({'a': 1, 'b': 2})" cannot be evaluated
  File "job.py", line 1
  because: the expressions give 2 columns instead of 1`},
	}
	d, _ := open(t, Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := d.Describe(t.Context(), test.stage)
			if err == nil {
				t.Fatal("no error")
			}
			if got := diag.From(err).Render(); got != strings.TrimPrefix(test.want, "\n") {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
		})
	}
}

func TestRunDiagnostics(t *testing.T) {
	in := newTable(t, "x:string", `[{"x":"1"},{"x":"b"}]`)
	tests := []struct {
		name string
		ops  []plan.Op
		line string
		want string
	}{
		{"a cast in a chain", []plan.Op{
			plan.Filter{Predicate: plan.SQL("x <> ''")},
			plan.Project{Keep: true, Exprs: []plan.NamedExpr{sqlExpr("ok", "upper(x)"), sqlExpr("y", "1 + x::integer")}},
			plan.Limit{N: 10},
		}, `t.with_columns(ok=…, y="1 + x::integer")`, `
ALK1007: "1 + x::integer" failed while it ran
  File "job.py", line 2
    t.with_columns(ok=…, y="1 + x::integer")
                                 ^^
  because: Could not convert string 'b' to INT32 when casting from source column x`},
		{"one step", []plan.Op{
			plan.Project{Exprs: []plan.NamedExpr{sqlExpr("y", "error('no ' || x)")}},
		}, "", `
ALK1007: "error('no ' || x)" failed while it ran
  File "job.py", line 1
  because: no 1`},
		{"some step", []plan.Op{
			plan.Filter{Predicate: plan.SQL("x <> ''")},
			plan.Project{Exprs: []plan.NamedExpr{sqlExpr("y", "error('no ' || x)")}},
		}, "", `
ALK1007: a relational step failed while it ran
  File "job.py", line 2
  in one of the steps filter (line 1), select (line 2)
  because: no 1`},
		{"an interval that Arrow does not have", []plan.Op{
			plan.Project{Exprs: []plan.NamedExpr{sqlExpr("y", "to_microseconds(9223372036854775807)")}},
		}, "", `
ALK1007: "to_microseconds(9223372036854775807)" failed while it ran
  File "job.py", line 1
  because: an interval of 9223372036854775807 microseconds does not fit into 64 bits of nanoseconds`},
	}
	d, mem := open(t, Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := stage([]table{in}, test.ops...)
			if test.line != "" {
				with(s, 1, test.line)
			}
			_, err := runStage(t, d, mem, s, in)
			if err == nil {
				t.Fatal("no error")
			}
			if got := diag.From(err).Render(); got != strings.TrimPrefix(test.want, "\n") {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
		})
	}
}

// No text can be more than one expression.
func TestInjection(t *testing.T) {
	in := newTable(t, "a:bigint b:bigint", `[{"a":1,"b":2}]`)
	texts := []string{
		"1) , (SELECT 2", "a), (b", "a) FROM x WHERE (b", "a) OR (b", "a; DROP TABLE x", "a; SELECT 1", "a;", "a,", "a, b", "",
		"a AS b", "a b", "y: a", "ALL a", "DISTINCT a", "*", "COLUMNS(*)", "COLUMNS('a') + 1", "a + COLUMNS('b')", "?", "$1", "$x", "#1", "DEFAULT",
		"a FROM (VALUES (1)) t(a)", "a WHERE true", "a GROUP BY 1", "a ORDER BY 1", "a LIMIT 1", "a HAVING true", "a QUALIFY true", "a USING SAMPLE 1", "a WINDOW w AS ()",
		"1 UNION SELECT 2", "a /* ", "a */", "'a", `"a`, "$$a", "a\x00b", "a) -- ", "a /* x", "(a", "a)",
		"(SELECT 1 FROM x)", "(SELECT * FROM 'file.csv')", "EXISTS (FROM x)", "a IN (FROM x)", "(FROM read_csv('/etc/passwd'))",
		"(SELECT content FROM read_text('/etc/passwd'))", "(SELECT count(*) FROM duckdb_settings())", "(SELECT 1 FROM query('SELECT 1'))",
		`(SELECT 1 FROM "alink input 0")`, `(SELECT 1 FROM "alink scan"(1::UBIGINT))`, "(WITH t AS (SELECT 1) FROM t)", "(SELECT (SELECT 1 FROM x))",
		"(SELECT 1 FROM (SELECT 2 FROM x))", "(SELECT 1 FROM unnest([1]) JOIN x ON true)", "(SELECT 1 UNION SELECT 2 FROM x)", "[y FOR y IN (SELECT 1 FROM x)]",
		"PIVOT", "SELECT 1", "SET threads = 1", "PRAGMA version", "COPY x TO 'y'", "CREATE TABLE x(a INT)", "INSTALL httpfs", "ATTACH 'x' AS y",
		strings.Repeat("a+", 5000) + "a",
	}
	d, mem := open(t, Options{})
	nodes := map[string]func(text string) plan.Op{
		"filter": func(text string) plan.Op { return plan.Filter{Predicate: plan.SQL(text)} },
		"not":    func(text string) plan.Op { return plan.Filter{Predicate: plan.Apply("not", plan.SQL(text))} },
		"select": func(text string) plan.Op { return plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", text)}} },
		"agg":    func(text string) plan.Op { return plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("x", text)}} },
		"sort":   func(text string) plan.Op { return plan.Sort{By: []plan.SortKey{{Expr: plan.SQL(text)}}} },
	}
	for name, node := range nodes {
		for _, text := range texts {
			_, err := d.Describe(t.Context(), stage([]table{in}, node(text)))
			if err == nil {
				t.Errorf("%s: %.60q was accepted", name, text)
			} else if code := diag.From(err).Code; code != diag.BadExpression {
				t.Errorf("%s: %.60q: got %v", name, text, err)
			}
		}
	}
	// Odd, but one expression.
	for text, want := range map[string]string{
		"a -- b":                         "x=1",
		"a /* ) */":                      "x=1",
		"\n a \n":                        "x=1",
		"(a)":                            "x=1",
		"'); DROP TABLE x; --'":          "x=); DROP TABLE x; --",
		"$$it's$$":                       "x=it's",
		"list_sum([v * 2 for v in [a]])": "x=2",
		"list_sum(list_transform([a], lambda v: v + 1))": "x=2",
		"(SELECT sum(i) FROM range(b + 1) r(i))":         "x=3",
		"a IN (SELECT unnest([1, 2]))":                   "x=true",
	} {
		out, err := runStage(t, d, mem, stage([]table{in}, nodes["select"](text)), in)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		equalRows(t, out.rows, want)
	}
}

// Names are never anything but names.
func TestOddNames(t *testing.T) {
	in := newTable(t, `a:bigint`, `[{"a":1}]`)
	d, mem := open(t, Options{})
	names := []string{`"; DROP TABLE x; --`, `a b`, `select`, `A"b""c`, `naïve 東京`, ` `, `'`, `x\y`, "tab\tnew\nline", `alink none`, `alink row`, `?`, `$1`}
	var exprs []plan.NamedExpr
	for _, name := range names {
		exprs = append(exprs, sqlExpr(name, "a"))
	}
	out, err := runStage(t, d, mem, stage([]table{in},
		plan.Project{Exprs: exprs},
		plan.Filter{Predicate: plan.Apply("=", plan.Column(names[0]), plan.Lit(1))},
		plan.Aggregate{Keys: []plan.NamedExpr{named(names[0], plan.Column(names[1]))}, Aggregates: []plan.NamedExpr{sqlExpr(names[2], "sum(\"naïve 東京\")")}},
		plan.Sort{By: []plan.SortKey{{Expr: plan.Column(names[2])}}},
	), in)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, out.rows, `"; DROP TABLE x; --=1 select=1`)
}

func TestSettings(t *testing.T) {
	d, _ := open(t, Options{Threads: 3, MemoryLimitBytes: 100 << 20})
	s, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	got, err := s.strings(`SELECT name || '=' || value FROM duckdb_settings() WHERE name IN ('threads', 'memory_limit', 'enable_external_access',
		'lock_configuration', 'autoload_known_extensions', 'autoinstall_known_extensions', 'preserve_insertion_order', 'TimeZone') ORDER BY name`, 20)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, got, "TimeZone=UTC", "autoinstall_known_extensions=false", "autoload_known_extensions=false", "enable_external_access=false",
		"lock_configuration=true", "memory_limit=100.0 MiB", "preserve_insertion_order=true", "threads=3")
	for _, statement := range []string{"SET threads = 1", "FROM '/etc/passwd.csv'", "FROM read_text('/etc/passwd')", "COPY (SELECT 1) TO 'x.csv'", "ATTACH 'x.db'", "LOAD httpfs", "INSTALL httpfs"} {
		if err := s.execute(statement); err == nil {
			t.Errorf("%s was done", statement)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []Options{{Threads: -1}, {MemoryLimitBytes: -1}, {BatchRowsMax: -1}, {BatchBytesMax: -1}, {SpillDir: "/does/not/exist"}} {
		d, err := Open(options)
		if diag.From(err) == nil || diag.From(err).Code != diag.BadOption {
			t.Errorf("%+v: got %v", options, err)
		}
		if d != nil {
			t.Errorf("%+v: a database was made", options)
		}
	}
}

// Describing is for interactive use.
func TestDescribeIsFast(t *testing.T) {
	in := newTable(t, "a:bigint b:double c:string")
	ops := []plan.Op{}
	for range 5 {
		ops = append(ops, plan.Project{Keep: true, Exprs: []plan.NamedExpr{sqlExpr("d", "a * 2 + b"), sqlExpr("e", "upper(c)")}}, plan.Filter{Predicate: plan.SQL("d > 3 AND e <> ''")})
	}
	d, _ := open(t, Options{})
	start := time.Now()
	const rounds = 10
	for range rounds {
		if _, err := d.Describe(t.Context(), stage([]table{in}, ops...)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ten nodes are described in %s", time.Since(start)/rounds)
}
