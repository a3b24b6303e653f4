package duck

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// openTestShell opens a shell whose batches must all be given back.
func openTestShell(tb testing.TB, options Options) *Shell {
	tb.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	options.Allocator = checked
	s, err := OpenShell(options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		checked.AssertSize(tb, 0)
	})
	return s
}

// log is a record of what a script gives.
type log struct {
	lines []string
	// fail is what Write answers.
	fail error
	// wrote is called with each batch.
	wrote func()
}

func (l *log) Begin(s exec.Statement, schema *arrow.Schema) error {
	var names []string
	for _, f := range schema.Fields() {
		names = append(names, f.Name+" "+f.Type.String())
	}
	l.lines = append(l.lines, fmt.Sprintf("%d/%d line %d %s: %s", s.Number, s.Of, s.Line, s.Kind, strings.Join(names, ", ")))
	return nil
}

func (l *log) Write(batch arrow.RecordBatch) error {
	if l.wrote != nil {
		l.wrote()
		return l.fail
	}
	var b strings.Builder
	err := array.RecordToJSON(batch, &b)
	l.lines = append(l.lines, strings.TrimSpace(b.String()))
	return errors.Join(err, l.fail)
}

func (l *log) End(s exec.Statement) error {
	l.lines = append(l.lines, fmt.Sprintf("%d %s: %d rows, %d changed", s.Number, s.Kind, s.Rows, s.Changed))
	return nil
}

func runScript(t *testing.T, s *Shell, text string) (*log, error) {
	t.Helper()
	l := &log{}
	err := s.Run(t.Context(), exec.Script{Name: "script", Text: text}, l)
	return l, err
}

func TestScript(t *testing.T) {
	s := openTestShell(t, Options{Threads: 2})
	l, err := runScript(t, s, `
-- a comment; with a semicolon
CREATE TABLE t(a bigint, b varchar);
INSERT INTO t VALUES (1, 'x;y'), (2, $$;$$);;
SELECT b FROM t WHERE a = 2; /* ; /* ; */ */ UPDATE t SET a = 7;

INSERT INTO t VALUES (3, NULL) RETURNING a; DELETE FROM t WHERE a = 3; SELECT 'é' AS "ü";
SELECT 1 WHERE false`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"1 CREATE: 0 rows, 0 changed",
		"2 INSERT: 0 rows, 2 changed",
		"3/8 line 5 SELECT: b utf8", `{"b":";"}`, "3 SELECT: 1 rows, 0 changed",
		"4 UPDATE: 0 rows, 2 changed",
		"5/8 line 7 INSERT: a int64", `{"a":3}`, "5 INSERT: 1 rows, 0 changed",
		"6 DELETE: 0 rows, 1 changed",
		"7/8 line 7 SELECT: ü utf8", `{"ü":"é"}`, "7 SELECT: 1 rows, 0 changed",
		"8/8 line 8 SELECT: 1 int32", "8 SELECT: 0 rows, 0 changed",
	}
	if got := strings.Join(l.lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s", got)
	}
	for _, empty := range []string{"", " \n", "-- nothing", ";;", "/* ; */ ;"} {
		if l, err := runScript(t, s, empty); err != nil || len(l.lines) > 0 {
			t.Errorf("%q gives %q, %v", empty, l.lines, err)
		}
	}
}

// TestStatementsOfOurOwnMaking: a PIVOT is two statements to DuckDB, and what
// follows it is still found at its place.
func TestStatementsOfOurOwnMaking(t *testing.T) {
	s := openTestShell(t, Options{})
	l, err := runScript(t, s, "CREATE TABLE t AS SELECT * FROM (VALUES ('a', 1), ('b', 2)) v(k, n);\nPIVOT t ON k USING sum(n);\nSELECT 1 AS x")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(l.lines, "\n"); !strings.Contains(text, `{"a":1,"b":2}`) || !strings.Contains(text, "line 3 SELECT: x int32") {
		t.Error(text)
	}
}

// TestReadableTypes: what is copied out of DuckDB's vectors is what DuckDB
// itself makes of it.
func TestReadableTypes(t *testing.T) {
	s := openTestShell(t, Options{})
	for name, c := range map[string]struct{ values, casts string }{
		"hugeint":  {"(0::hugeint), (-1), (9223372036854775807), (-9223372036854775808), (NULL)", "bigint"},
		"uhugeint": {"(0::uhugeint), (18446744073709551615), (NULL)", "ubigint"},
		"uuid":     {"('00000000-0000-0000-0000-000000000000'::uuid), ('ffffffff-ffff-ffff-ffff-ffffffffffff'), ('0123abcd-89ef-4bcd-8fed-0123456789ab'), (NULL)", "varchar"},
		"enum":     {"('b'::enum('a', 'b', 'long enough not to be inline')), ('long enough not to be inline'), (NULL), ('a')", "varchar"},
		"array":    {"([1, NULL, 3]::integer[3]), (NULL), ([4, 5, 6])", "integer[]"},
		"nested":   {"([{'u': '00000000-0000-0000-0000-000000000001'::uuid, 'h': [1::hugeint, NULL]}]), (NULL), ([])", "struct(u varchar, h bigint[])[]"},
		"map":      {"(map {'k': 5::hugeint}), (NULL), (map {})", "map(varchar, bigint)"},
		"timetz":   {"('01:02:03.000004+05:30'::timetz), ('23:59:59-15:59:59'), ('00:00:00+15:59:59'), (NULL)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cast := "CAST(v AS " + c.casts + ")"
			if c.casts == "" { // DuckDB shortens an offset of whole hours, and does not write one of its own
				cast = "regexp_replace(v::varchar, '([+-]\\d\\d)$', '\\1:00')"
			}
			got, err := runScript(t, s, "SELECT v FROM (VALUES "+c.values+") t(v)")
			if err != nil {
				t.Fatal(err)
			}
			want, err := runScript(t, s, "SELECT "+cast+" AS v FROM (VALUES "+c.values+") t(v)")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got.lines, "\n") != strings.Join(want.lines, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got.lines, "\n"), strings.Join(want.lines, "\n"))
			}
		})
	}
}

// TestReadableTypesInManyRows crosses chunks and batches.
func TestReadableTypesInManyRows(t *testing.T) {
	s := openTestShell(t, Options{BatchRowsMax: 1000})
	const query = `SELECT CASE WHEN range % 7 = 0 THEN NULL ELSE range::hugeint END AS h,
		CAST(CASE WHEN range % 5 = 0 THEN NULL ELSE [range, range + 1] END AS bigint[2]) AS a,
		CASE WHEN range % 3 = 0 THEN NULL ELSE (['x', 'yy', 'zzzzzzzzzzzzzzzzz'])[1 + range % 3]::enum('x', 'yy', 'zzzzzzzzzzzzzzzzz') END AS e
		FROM range(10000)`
	got, err := runScript(t, s, query)
	if err != nil {
		t.Fatal(err)
	}
	want, err := runScript(t, s, "SELECT h::bigint AS h, a::bigint[] AS a, e::varchar AS e FROM ("+query+")")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.lines, "\n") != strings.Join(want.lines, "\n") {
		t.Error("they differ")
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	s := openTestShell(t, Options{})
	for sql, want := range map[string]string{
		"SELECT 9223372036854775808::hugeint AS h":                         `column "h": the integer 9223372036854775808 does not fit`,
		"SELECT -9223372036854775809::hugeint AS h":                        "the integer -9223372036854775809 does not fit",
		"SELECT -170141183460469231731687303715884105728 AS h":             "the integer -170141183460469231731687303715884105728 does not fit",
		"SELECT 18446744073709551616::uhugeint AS h":                       "the integer 18446744073709551616 does not fit",
		"SELECT [1::hugeint, 2::hugeint << 100] AS h":                      "does not fit",
		"SELECT '101'::bit AS b":                                           `the column "b" has the type BIT`,
		"SELECT [union_value(k := 1)] AS b":                                `the column "b" has the type UNION`,
		"SELECT interval 1000000 years + interval '5000000000 hours' AS i": "interval",
	} {
		l, err := runScript(t, s, sql)
		d := diag.From(err)
		if err == nil || d.Code == diag.Internal || !strings.Contains(d.Error(), want) || d.Hint == "" && !strings.Contains(sql, "interval") {
			t.Errorf("%s: %v, hint %v, %q", sql, err, d, l.lines)
		}
	}
}

// TestARefusedTypeChangesNothing: it is known before the statement runs.
func TestARefusedTypeChangesNothing(t *testing.T) {
	s := openTestShell(t, Options{})
	if _, err := runScript(t, s, "CREATE TABLE t(b bit); INSERT INTO t VALUES ('1') RETURNING b"); err == nil {
		t.Fatal("it was not refused")
	}
	if l, err := runScript(t, s, "SELECT count(*) AS n FROM t"); err != nil || l.lines[1] != `{"n":0}` {
		t.Error(l.lines, err)
	}
}

func TestParameters(t *testing.T) {
	s := openTestShell(t, Options{})
	run := func(text string, params map[string]string) (string, error) {
		l := &log{}
		err := s.Run(t.Context(), exec.Script{Name: "script", Text: text, Params: params}, l)
		return strings.Join(l.lines, "\n"), err
	}
	got, err := run("SELECT range AS i FROM range(10) WHERE range > $Low AND range < $high; SELECT date '2024-01-02' = $day AS d, $s AS s, '$none' AS n",
		map[string]string{"low": "5", "HIGH": "7", "day": "2024-01-02", "s": "it's"})
	for _, want := range []string{`{"i":6}`, `{"d":true,"n":"$none","s":"it's"}`} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s lacks %s: %v", got, want, err)
		}
	}
	if got, err = run("SELECT ? AS q", map[string]string{"1": "first"}); err != nil || !strings.Contains(got, `{"q":"first"}`) {
		t.Error(got, err)
	}
	if got := s.Parameters("SELECT $low, '$text', $Low, $1 -- $comment\n+ $low"); strings.Join(got, " ") != "low Low 1" {
		t.Error(got)
	}
	_, err = run("SELECT 1;\nSELECT 2 + $x", nil)
	if d := diag.From(err); d.Message != "the parameter $x has no value" || d.Source == nil || d.Source.Line != 2 || d.Source.Column != 12 || d.Source.EndColumn != 14 {
		t.Errorf("%v %+v", err, d.Source)
	}
	if _, err = run("SELECT 1 + $x::integer", map[string]string{"x": "many"}); err == nil || !strings.Contains(err.Error(), "many") {
		t.Error(err)
	}
}

// TestRightsOfAShell: it reads and writes files and changes settings, and
// loads no extension unasked.
func TestRightsOfAShell(t *testing.T) {
	s := openTestShell(t, Options{Threads: 2, MemoryLimitBytes: 512 << 20, SpillDir: t.TempDir()})
	t.Chdir(t.TempDir())
	l, err := runScript(t, s, `COPY (SELECT 1 AS a) TO 'a.parquet'; COPY (SELECT 2 AS a) TO 'b.csv'; COPY (SELECT 3 AS a) TO 'c.json';
		ATTACH 'd.duckdb' AS d; CREATE TABLE d.t AS FROM 'a.parquet'; FROM d.t UNION ALL FROM 'b.csv' UNION ALL FROM 'c.json';
		SELECT current_setting('threads') AS threads, current_setting('memory_limit') AS memory, current_setting('TimeZone') AS zone;
		SET threads = 1`)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(l.lines, "\n")
	for _, want := range []string{"{\"a\":1}\n{\"a\":2}\n{\"a\":3}", `{"memory":"512.0 MiB","threads":2,"zone":"UTC"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
	_, err = runScript(t, s, "FROM 'https://example.org/x.parquet'")
	if d := diag.From(err); !strings.Contains(d.Hint, "INSTALL httpfs") {
		t.Errorf("%v, %s", err, d.Hint)
	}
}

// TestAShellIsInterrupted at whatever it does, and goes on with the next
// script.
func TestAShellIsInterrupted(t *testing.T) {
	s := openTestShell(t, Options{Threads: 2})
	for name, text := range map[string]string{
		"a result":     "SELECT * FROM range(10000000000000)",
		"an aggregate": "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range + b.range = 3",
		"a table":      "CREATE TABLE t AS SELECT sum(a.range) AS x FROM range(10000000000) a",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := s.Run(ctx, exec.Script{Text: text}, &log{wrote: func() {}})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if l, err := runScript(t, s, "SELECT 1 AS x"); err != nil || len(l.lines) != 3 {
				t.Error(l.lines, err)
			}
		})
	}
}

// TestResultsMayRefuse: their error comes back as it is, and the statement ends.
func TestResultsMayRefuse(t *testing.T) {
	s := openTestShell(t, Options{})
	refused := errors.New("no more")
	batches := 0
	err := s.Run(t.Context(), exec.Script{Text: "SELECT range FROM range(10000000); CREATE TABLE t(a int)"}, &log{fail: refused, wrote: func() { batches++ }})
	if !errors.Is(err, refused) || batches != 1 {
		t.Errorf("%v after %d batches", err, batches)
	}
	if _, err := runScript(t, s, "SELECT * FROM t"); err == nil || diag.From(err).Code != diag.UnknownTable {
		t.Errorf("the statement after it has run: %v", err)
	}
}

func TestWords(t *testing.T) {
	s := openTestShell(t, Options{})
	if _, err := runScript(t, s, `CREATE TABLE flights(carrier text); CREATE VIEW late AS FROM flights`); err != nil {
		t.Fatal(err)
	}
	words, err := s.Words(t.Context())
	text := "\n" + strings.Join(words, "\n") + "\n"
	for _, want := range []string{"SELECT", "flights", "carrier", "late"} {
		if err != nil || !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s is missing: %v", want, err)
		}
	}
	if strings.Contains(text, "pg_class") {
		t.Error("internal tables are offered")
	}
}

func TestComplete(t *testing.T) {
	s := openTestShell(t, Options{})
	for text, want := range map[string]bool{
		"": false, "SELECT 1": false, "SELECT 1;": true, "SELECT 1; ": true, "SELECT 1; -- done": true, "SELECT 1; SELECT 2": false,
		"SELECT ';": false, "SELECT ';'": false, "SELECT ';';": true, "SELECT 'it''s;": false, `SELECT ";`: false,
		"SELECT $$;": false, "SELECT $a$; $a$;": true, "SELECT $a$; $b$;": false, "/* ;": false, "/* /* */ ;": false, "/* */ ;": true,
		"-- ;": false, "-- a\n;": true, "SELECT e'\\';": false, "SELECT e'\\'';": true, "SELECT 1;;": true, "SELECT 'a';\n\n": true,
	} {
		if got := s.Complete(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// FuzzPieces: where DuckDB reads a text, our pieces agree with what it finds
// between semicolons, and each piece is a text that it reads alone.
func FuzzPieces(f *testing.F) {
	for _, seed := range []string{
		"SELECT 1; SELECT 2", "SELECT ';'; -- ;\nSELECT $$ ; $$", "/* ; /* ; */ */ SELECT e'\\';'; SELECT 1", `SELECT ";" FROM (SELECT 1 AS ";")`,
		"SELECT $a$ ; $b$ ; $a$;;", "SELECT 1--x\r;SELECT 2", "SELECT 'é;ü';SELECT x'00';", "SELECT b'1;'", "SELECT u&'\\0041;'", "SELECT a$b$ FROM (SELECT 1 AS a$b$)",
		"SELECT 1e';'", "SELECT $1;", "SELECT 1 /*;*/;", "SELECT 'a' -- ;\n 'b;'", "select 5$$;$$",
	} {
		f.Add(seed)
	}
	s := openTestShell(f, Options{})
	count := func(text string) (int, string) {
		var extracted duckdb.ExtractedStatements
		n := duckdb.ExtractStatements(s.session.conn, text, &extracted)
		defer duckdb.DestroyExtracted(&extracted)
		return int(n), duckdb.ExtractStatementsError(extracted)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			return
		}
		whole, message := count(text)
		if message != "" {
			return
		}
		sum, end := 0, 0
		for _, p := range pieces(text) {
			if p.start < end || p.end <= p.start {
				t.Fatalf("%q: pieces %+v", text, pieces(text))
			}
			end = p.end
			n, message := count(text[p.start:p.end])
			if message != "" {
				t.Errorf("%q: the piece %q is not read: %s", text, text[p.start:p.end], message)
			}
			sum += n
		}
		if sum != whole {
			t.Errorf("%q has %d statements, its pieces %d", text, whole, sum)
		}
		if !complete(text + "\n;") {
			t.Errorf("%q is not complete with a semicolon", text)
		}
	})
}

// FuzzTokens: together the tokens are the text.
func FuzzTokens(f *testing.F) {
	f.Add("SELECT 'a' $b$c$b$ /* */ -- x")
	f.Fuzz(func(t *testing.T, text string) {
		for at := 0; at < len(text); {
			token := tokenAt(text, at)
			if token.start != at || token.end <= at || token.end > len(text) || token.open && token.end != len(text) {
				t.Fatalf("%q at %d: %+v", text, at, token)
			}
			at = token.end
		}
	})
}

// FuzzPlace: whatever the script and the place, what is shown of it is a short
// line, and the caret is below it.
func FuzzPlace(f *testing.F) {
	f.Add("SELECT 1;\nSELECT 'é' FROM t", 20, "t")
	f.Add("SELECT (1\n\n", 11, "")
	f.Add("\x00\t\x1b[31m", 1, "")
	f.Add(strings.Repeat("ä", 300)+"x.nope"+strings.Repeat("b", 300), 600, "nope")
	f.Fuzz(func(t *testing.T, text string, at int, name string) {
		c := &script{Script: exec.Script{Name: "script", Text: text}}
		d := c.problem(diag.New(diag.BadQuery, "wrong"), at, name)
		if at < 0 || at > len(text) {
			if d.Source != nil {
				t.Errorf("a place outside of the script is shown: %+v", d.Source)
			}
			return
		}
		s := d.Source
		if shown := utf8.RuneCountInString(s.Text); shown > shownBeforeMax+shownBehindMax+2 || s.Column < 1 || s.EndColumn <= s.Column || s.Column > shown+1 || s.EndColumn > shown+2 {
			t.Errorf("%q at %d: %+v", text, at, s)
		}
		if s.Line < 1 || s.Line > strings.Count(text, "\n")+1 || strings.ContainsFunc(s.Text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q at %d: %+v", text, at, s)
		}
		if n := strings.Count(d.Render(), "\n"); n > 14 {
			t.Errorf("%d lines", n)
		}
	})
}
