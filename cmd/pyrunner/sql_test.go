package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// sqlFolder is a working directory with files for statements.
func sqlFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("COLUMNS", "")
	for name, text := range map[string]string{
		"people.csv": "name,age,town\nAda,36,London\nÅsa,,\n\"Li, Wei\",29,\"\"\n",
		"script.sql": "\ufeffCREATE TABLE t AS\n  SELECT range AS i FROM range(5);\r\nSELECT count(*) AS n FROM t;\r\n\r\n-- the parameter\nSELECT i\nFROM t\nWHERE i >= $low\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSQL runs the cases of testdata/sql.txt.
func TestSQL(t *testing.T) {
	const path = "testdata/sql.txt"
	golden, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	head, cases, _ := strings.Cut(string(text), "\n\n=== ")
	written := head + "\n"
	for c := range strings.SplitSeq(cases, "\n\n=== ") {
		asked, want, _ := strings.Cut(c+"\n", "\n---\n")
		name, _, _ := strings.Cut(asked, "\n")
		got := ""
		t.Run(name, func(t *testing.T) {
			sqlFolder(t)
			got = sqlCase(t, asked)
			if !*update && got != strings.TrimRight(want, "\n")+"\n" {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
		written += "\n=== " + asked + "\n---\n" + got
	}
	if *update {
		if err := os.WriteFile(golden, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sqlCase runs a case and gives what it prints.
func sqlCase(t *testing.T, asked string) string {
	t.Helper()
	args := []string{"sql"}
	var input strings.Builder
	for line := range strings.SplitSeq(asked, "\n") {
		switch {
		case strings.HasPrefix(line, "> "):
			arg := line[2:]
			if unquoted, err := strconv.Unquote(arg); err == nil {
				arg = unquoted
			}
			args = append(args, arg)
		case strings.HasPrefix(line, "<"):
			input.WriteString(strings.TrimPrefix(line[1:], " ") + "\n")
		case strings.HasPrefix(line, "$"):
			name, value, _ := strings.Cut(line[1:], "=")
			t.Setenv(name, value)
		}
	}
	code, stdout, stderr := command(t, input.String(), args...)
	got := fmt.Sprintf("exit %d\n%s", code, stdout)
	for line := range strings.Lines(stderr) {
		got += "! " + line
	}
	if n := strings.Count(stderr, "\n"); n > 15 {
		t.Errorf("%d lines of standard error", n)
	}
	return got
}

func sql(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := run1(t, append([]string{"sql"}, args...)...)
	if code != exitDone {
		t.Errorf("%q: exit %d\n%s", args, code, stderr)
	}
	return stdout, stderr
}

// TestFormatsOfFiles: what is written is read back, and appears under its name
// with nothing beside it.
func TestFormatsOfFiles(t *testing.T) {
	sqlFolder(t)
	const query = `SELECT range AS i, CASE WHEN range % 3 = 0 THEN NULL ELSE 'ä' || range END AS s, range / 4 AS d FROM range(100000)`
	const check = `SELECT count(*) AS n, sum(i) AS i, count(s) AS s, max(s) AS x, sum(d) AS d FROM `
	want, _ := sql(t, "-c", check+"("+query+")")
	for name, read := range map[string]string{
		"x.csv": "'x.csv'", "x.csv.gz": "'x.csv.gz'", "x.json": "'x.json'", "x.jsonl.zst": "read_json('x.jsonl.zst')", "x.parquet": "'x.parquet'",
	} {
		sql(t, "-c", query, "-o", name)
		if got, _ := sql(t, "-c", check+read); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	sql(t, "-c", query, "-o", "x.arrow")
	f, err := os.Open("x.arrow")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows := int64(0)
	for i := range reader.NumRecords() {
		batch, err := reader.RecordBatch(i)
		if err != nil {
			t.Fatal(err)
		}
		rows += batch.NumRows()
	}
	if rows != 100_000 || reader.Schema().Field(1).Type.ID() != arrow.STRING {
		t.Errorf("%d rows, %v", rows, reader.Schema())
	}
	entries, err := os.ReadDir(".")
	if err != nil || len(entries) != 2+6 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestArrowOnStandardOutput(t *testing.T) {
	sqlFolder(t)
	out, _ := sql(t, "--format", "arrow", "-c", "SELECT range AS i FROM range(100000); SELECT 1 AS a, 2 AS a WHERE false")
	stream := strings.NewReader(out)
	for i, want := range []int64{100_000, 0} {
		reader, err := ipc.NewReader(stream)
		if err != nil {
			t.Fatalf("result %d: %v", i, err)
		}
		rows := int64(0)
		for reader.Next() {
			rows += reader.RecordBatch().NumRows()
		}
		if reader.Err() != nil || rows != want || reader.Schema().NumFields() != i+1 {
			t.Errorf("result %d: %d rows, %v", i, rows, reader.Err())
		}
		reader.Release()
	}
}

// TestAnOutputIsWholeOrNotThere: what fails leaves the folder as it was.
func TestAnOutputIsWholeOrNotThere(t *testing.T) {
	for _, statements := range []string{
		"SELECT range AS a FROM range(200000); SELECT nope",
		"SELECT range AS a, CASE WHEN range = 190000 THEN error('stop') END AS b FROM range(200000)",
		"SELECT 1 AS a; SELECT 2 AS a", "CREATE TABLE t(a int)", "SELEC",
	} {
		for _, name := range []string{"new.parquet", "old.parquet", "new.csv", "old.csv", "new.arrow"} {
			sqlFolder(t)
			if err := os.WriteFile("old"+filepath.Ext(name), []byte("as it was"), 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadDir(".")
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := run1(t, "sql", "-c", statements, "-o", name, "--overwrite")
			if code != exitFailed || stdout != "" || stderr == "" {
				t.Errorf("%s: exit %d, %q, %q", statements, code, stdout, stderr)
			}
			after, err := os.ReadDir(".")
			if err != nil || len(after) != len(before) {
				t.Errorf("%s to %s left %v, %v", statements, name, after, err)
			}
			if text, err := os.ReadFile("old" + filepath.Ext(name)); err != nil || string(text) != "as it was" {
				t.Errorf("%s to %s has changed the file to %.20q, %v", statements, name, text, err)
			}
		}
	}
}

func TestOverwrite(t *testing.T) {
	sqlFolder(t)
	sql(t, "-c", "FROM 'people.csv' WHERE age > 30", "-o", "people.csv", "--overwrite") // it reads what it replaces
	if text, err := os.ReadFile("people.csv"); err != nil || string(text) != "name,age,town\nAda,36,London\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestManyColumns(t *testing.T) {
	sqlFolder(t)
	columns := make([]string, 2000)
	for i := range columns {
		columns[i] = fmt.Sprintf("%d AS c%d", i, i)
	}
	query := "SELECT " + strings.Join(columns, ", ")
	for _, name := range []string{"x.csv", "x.json", "x.parquet", "x.arrow"} {
		sql(t, "-c", query, "-o", name)
	}
	if got, _ := sql(t, "-c", "SELECT c0, c1999 FROM 'x.parquet' UNION ALL SELECT c0, c1999 FROM 'x.csv'"); got != "c0,c1999\n0,1999\n0,1999\n" {
		t.Error(got)
	}
	t.Setenv("COLUMNS", "80")
	out, _ := sql(t, "--format", "table", "-c", query)
	for line := range strings.Lines(out) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("a line has %d characters: %s", n, line)
		}
	}
	if !strings.Contains(out, "c0") || !strings.Contains(out, "c1999") || !strings.Contains(out, "…") {
		t.Error(out)
	}
}

func TestWideCells(t *testing.T) {
	sqlFolder(t)
	const query = "SELECT repeat('ä', 2000000) AS s, list_transform(range(100000), x -> 'y') AS l"
	out, _ := sql(t, "--format", "table", "-c", query)
	if len(out) > 40_000 || !strings.Contains(out, "ää…") {
		t.Errorf("%d bytes: %.200s", len(out), out)
	}
	out, _ = sql(t, "-c", query)
	if len(out) < 4_400_000 {
		t.Errorf("%d bytes of CSV", len(out))
	}
}

func TestSQLDefaultsToSettings(t *testing.T) {
	sqlFolder(t)
	if err := os.WriteFile("alink.toml", []byte("parallelism = 3\nmemory = \"300MiB\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const query = "SELECT current_setting('threads') AS t, current_setting('memory_limit') AS m"
	if got, _ := sql(t, "-c", query); got != "t,m\n3,300.0 MiB\n" {
		t.Error(got)
	}
	if got, _ := sql(t, "-c", query, "--parallelism", "1"); got != "t,m\n1,300.0 MiB\n" {
		t.Error(got)
	}
	code, _, stderr := run1(t, "sql", "-c", "SELECT 1", "--spill-dir", "nowhere")
	if code != exitFailed || !strings.Contains(stderr, "nowhere") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

// self is a process of this program.
func self(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(path, args...)
	child.Env = append(os.Environ(), "PYRUNNER_TEST_MAIN=1")
	child.WaitDelay = 10 * time.Second
	return child
}

// TestResultsAreStreamed: the memory that a result of 1,000,000 rows and 200 MB
// takes does not depend on its size.
func TestResultsAreStreamed(t *testing.T) {
	peak := func(format string, rows int) int64 {
		child := self(t, "sql", "--parallelism", "2", "--memory", "256MiB", "--format", format, "-c",
			fmt.Sprintf("SELECT range AS i, repeat('x', 200) || range AS s FROM range(%d)", rows))
		var stderr bytes.Buffer
		child.Stderr = &stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		size := int64(0)
		for buffer := make([]byte, 1<<20); ; {
			n, err := out.Read(buffer)
			if size += int64(n); err != nil {
				break
			}
		}
		if err := child.Wait(); err != nil || format != formatTable && size < int64(rows)*200 {
			t.Fatalf("%v, %d bytes, %s", err, size, stderr.String())
		}
		return child.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
	}
	const allowed = 128 << 20
	for _, format := range []string{formatTable, formatCSV, formatArrow} {
		// Both have full batches.
		if few, many := peak(format, 100_000), peak(format, 1_000_000); many > few+allowed {
			t.Errorf("%s: %d MiB for many rows, %d for few", format, many>>20, few>>20)
		}
	}
}

// TestAReaderThatLeaves ends the program silently, as a shell's commands end.
func TestAReaderThatLeaves(t *testing.T) {
	for _, format := range []string{formatCSV, formatJSON, formatArrow} {
		child := self(t, "sql", "--format", format, "-c", "SELECT range AS i FROM range(1000000000)")
		var stderr bytes.Buffer
		child.Stderr = &stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // its status is looked at
		if code := child.ProcessState.ExitCode(); code != exitPipe || stderr.Len() > 0 {
			t.Errorf("%s: exit %d, %s", format, code, stderr.String())
		}
	}
}

// TestCtrlC ends statements, says nothing, and leaves nothing.
func TestCtrlC(t *testing.T) {
	sqlFolder(t)
	const long = "COPY (SELECT 1) TO 'begun.csv'; SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range = 3"
	if err := os.WriteFile("long.sql", []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"sql", "long.sql"}, {"sql", "long.sql", "-o", "x.csv"}, {"sql"}, {"run", "long.sql"}, {"run", "long.sql", "--json"},
	} {
		child := self(t, args...)
		var stdout, stderr bytes.Buffer
		child.Stdout, child.Stderr = &stdout, &stderr
		input, toInput, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		child.Stdin = input
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if len(args) > 1 {
			waitFor(t, func() bool { return os.Remove("begun.csv") == nil })
		} else if _, err := toInput.WriteString("SELECT 1; --" + strings.Repeat(" ", 1<<20)); err != nil {
			t.Fatal(err) // more than a pipe holds, so that it was read; what follows never comes
		}
		began := time.Now()
		if err := child.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // its status is looked at
		_, _ = input.Close(), toInput.Close()
		if code := child.ProcessState.ExitCode(); code != exitInterrupted || stderr.Len() > 0 || time.Since(began) > 10*time.Second {
			t.Errorf("%v: exit %d after %v\n%s", args, code, time.Since(began), stderr.String())
		}
		if slices.Contains(args, "--json") {
			var got summary
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || got.State != "cancelled" || got.Exit != exitInterrupted || got.Jobs[0].State != "cancelled" {
				t.Errorf("%v, %s", err, stdout.String())
			}
		}
	}
	if entries, err := os.ReadDir("."); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestAKilledShellLeavesNothingForLong: the next one removes what it has left.
func TestAKilledShellLeavesNothingForLong(t *testing.T) {
	sqlFolder(t)
	left := func() int {
		entries, err := os.ReadDir("spill")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if err := os.Mkdir("spill", 0o700); err != nil {
		t.Fatal(err)
	}
	child := self(t, "sql", "--spill-dir", "spill", "-c", "COPY (SELECT 1) TO 'begun.csv'; SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range = 3")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return os.Remove("begun.csv") == nil })
	sql(t, "--spill-dir", "spill", "-c", "SELECT 1") // what lives is left alone
	if n := left(); n != 1 {
		t.Errorf("%d folders while it runs", n)
	}
	_ = child.Process.Kill() // it runs
	_ = child.Wait()         // it was killed
	if n := left(); n != 1 {
		t.Errorf("a killed shell has left %d folders", n)
	}
	sql(t, "--spill-dir", "spill", "-c", "SELECT 1")
	if n := left(); n != 0 {
		t.Errorf("%d folders are left", n)
	}
}

func waitFor(t *testing.T, come func() bool) {
	t.Helper()
	for began := time.Now(); !come(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it does not come")
		}
	}
}

func TestRunSQL(t *testing.T) {
	sqlFolder(t)
	code, stdout, stderr := run1(t, "run", "script.sql", "--param", "low=3")
	want := "┌────────┐\n│      i │\n│ bigint │\n├────────┤\n│      3 │\n│      4 │\n└────────┘\n2 rows\n"
	if code != exitDone || stdout != want || stderr != "" {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, stderr = run1(t, "run", "script.sql", "--param", "low=3", "--json")
	var got summary
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitDone || stderr != want {
		t.Fatalf("exit %d, %v\n%s\n%s", code, err, stdout, stderr)
	}
	job := got.Jobs[0]
	if got.State != "succeeded" || got.Exit != 0 || job.State != "succeeded" || job.Rows != 2 || job.Error != nil || job.ElapsedS <= 0 {
		t.Errorf("%+v", got)
	}
	var told []string
	for _, s := range job.Statements {
		told = append(told, fmt.Sprintf("%d %s %d", s.Line, s.Kind, s.Rows))
	}
	if text := strings.Join(told, ", "); text != "1 CREATE 0, 3 SELECT 1, 6 SELECT 2" {
		t.Error(text)
	}
}

func TestRunSQLThatFails(t *testing.T) {
	sqlFolder(t)
	code, stdout, stderr := run1(t, "run", "script.sql", "--json")
	var got summary
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitFailed {
		t.Fatalf("exit %d, %v\n%s", code, err, stdout)
	}
	job := got.Jobs[0]
	if got.State != "failed" || got.Exit != 1 || job.State != "failed" || len(job.Statements) != 2 || job.Error == nil || job.Error.Source.Line != 8 {
		t.Errorf("%s", stdout)
	}
	if !strings.Contains(stderr, "the parameter $low has no value") || !strings.Contains(stderr, `File "script.sql", line 8`) {
		t.Error(stderr)
	}
	for _, args := range [][]string{{"run", "script.sql", "more"}, {"run", "script.sql", "--param", "low"}} {
		if code, _, stderr := run1(t, args...); code != exitUsage || stderr == "" {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	code, stdout, stderr = run1(t, "run", "script.sql", "--param", "low=1", "--param", "hihg=2")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "no parameter $hihg") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

// TestAPlansRowsAreNotDropped: with --json they are printed where a script's
// output is, and counted by result.
func TestAPlansRowsAreNotDropped(t *testing.T) {
	sqlFolder(t)
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALINK_PYRUNNER", path) // for its supervisor of workers
	t.Setenv("PYRUNNER_TEST_MAIN", "1")
	plan := `{"version": 1, "nodes": [
		{"id": "t", "op": "read_csv", "args": {"path": "people.csv"}},
		{"id": "old", "op": "filter", "args": {"predicate": {"sql": "age > 30"}}, "inputs": ["t"]},
		{"id": "all", "op": "collect", "inputs": ["t"]},
		{"id": "some", "op": "collect", "inputs": ["old"]}]}`
	if err := os.WriteFile("plan.json", []byte(plan), 0o600); err != nil {
		t.Fatal(err)
	}
	const rows = `{"name":"Ada","age":36,"town":"London"}` + "\n" + `{"name":"Åsa","age":null,"town":null}` + "\n" +
		`{"name":"Li, Wei","age":29,"town":""}` + "\n" + `{"name":"Ada","age":36,"town":"London"}` + "\n"
	code, stdout, stderr := run1(t, "run", "plan.json")
	if code != exitDone || stdout != rows || stderr != "" {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	code, stdout, stderr = run1(t, "run", "plan.json", "--json")
	var got summary
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitDone || stderr != rows {
		t.Fatalf("exit %d, %v\n%s\n%s", code, err, stdout, stderr)
	}
	if results := got.Jobs[0].Results; !slices.Equal(results, []resultSummary{{"all", 3}, {"some", 1}}) {
		t.Errorf("%+v", results)
	}
}
