package engine

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

func zipOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, text := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestArtifacts(t *testing.T) {
	dir := t.TempDir()
	a, err := newArtifacts(filepath.Join(dir, "artifacts"), newSideTables(dir))
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Put(zipOf(t, map[string]string{"helpers/__init__.py": "x = 1\n", "top.py": "y = 2\n"}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		unpacked, err := a.Dir("", id)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(unpacked, "helpers", "__init__.py")); err != nil || string(text) != "x = 1\n" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if !a.Has(id) || a.Has(strings.Repeat("0", 64)) || a.Has("../engine.sock") {
		t.Error("what is there and what is not")
	}
	if _, err := a.File("", "../../etc/passwd"); diag.From(err).Code != diag.InvalidPlan {
		t.Errorf("a path is not a name: %v", err)
	}
	// Each domain sees what it uses and nothing else.
	mine, err := a.File("me", id)
	if err != nil {
		t.Fatal(err)
	}
	shelf, err := a.Folder("you")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(shelf); err != nil || len(left) != 0 || filepath.Dir(mine) == shelf {
		t.Errorf("%v %v on another's shelf than %s", left, err, mine)
	}
	a.EndDomain("me") // still in use
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	if err := a.Drop(id); err != nil {
		t.Error(err)
	}
	a.EndDomain("me")
	if left, _ := filepath.Glob(filepath.Join(dir, "artifacts", "*", "*", "*")); len(left) != 0 {
		t.Errorf("%v are left of what was dropped", left)
	}
	if _, err := os.Stat(filepath.Dir(mine)); err == nil {
		t.Error("the shelf of a domain that has ended is left")
	}
	out, err := a.Put(zipOf(t, map[string]string{"../outside.py": "z"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Dir("", out); err == nil {
		t.Error("an archive was unpacked outside its folder")
	}
	if _, err := os.Stat(filepath.Join(dir, "artifacts", "outside.py")); err == nil {
		t.Error("a file lies outside its folder")
	}
}

func TestTablesAreCutAndOutliveTheirName(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	const n = 3*tableBatchRowsMax + 5
	for i := range int64(n) {
		b.Append(i)
	}
	batch := array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, n)
	reader, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
	if err != nil {
		t.Fatal(err)
	}
	tables := newTables(exec.SpoolOptions{MemoryBytes: 1 << 20, Dir: t.TempDir()}, 0)
	if err := tables.put(t.Context(), "t", reader); err != nil {
		t.Fatal(err)
	}
	spool, release, err := tables.use("t")
	if err != nil {
		t.Fatal(err)
	}
	tables.drop("t")
	if _, _, err := tables.use("t"); err == nil {
		t.Error("a dropped table was given to a job")
	}
	r, err := spool.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var next int64
	for {
		piece, err := r.Next(t.Context())
		if err != nil {
			break
		}
		if piece.NumRows() > tableBatchRowsMax || piece.Column(0).(*array.Int64).Value(0) != next {
			t.Fatalf("a piece of %d rows from %d", piece.NumRows(), next)
		}
		next += piece.NumRows()
		piece.Release()
	}
	r.Close()
	if next != n {
		t.Errorf("%d rows of %d", next, n)
	}
	release()
	if _, err := spool.Open(t.Context()); err == nil {
		t.Error("the last job ended, and the dropped table is still there")
	}
}

func TestBudgetNeverGivesMoreThanThereIs(t *testing.T) {
	const total = 8 << 30
	b := &budget{freeBytes: total}
	var sum int64
	var back []func()
	for range 6 {
		bytes, giveBack := b.take()
		sum += bytes
		back = append(back, giveBack)
	}
	if sum > total {
		t.Errorf("%d of %d bytes were given", sum, int64(total))
	}
	for _, f := range back {
		f()
		f()
	}
	if b.freeBytes != total {
		t.Errorf("%d bytes came back", b.freeBytes)
	}
}

// TestLogIsBounded: the oldest lines give way, by number and by size, and each
// of several readers is told how many it has missed.
func TestLogIsBounded(t *testing.T) {
	for _, c := range []struct{ lines, length, kept int }{
		{logLinesMax + 3, 1, logLinesMax}, {20, logBytesMax / 10, 10},
	} {
		j := &Job{}
		for i := range c.lines {
			number := strconv.Itoa(i)
			j.log(exec.LogLine{Text: number + strings.Repeat("x", max(0, c.length-len(number)))})
		}
		for range 2 { // a reader takes nothing away from another
			got, next := j.Log(0)
			if len(got) != c.kept+1 || !strings.Contains(got[0].Text, strconv.Itoa(c.lines-c.kept)) || !strings.HasPrefix(got[c.kept].Text, strconv.Itoa(c.lines-1)) {
				t.Errorf("%d lines of %d bytes: %d were kept, the first is %.40q", c.lines, c.length, len(got), got[0].Text)
			}
			if again, at := j.Log(next); len(again) != 0 || at != c.lines {
				t.Errorf("%d lines were told twice, the next is %d", len(again), at)
			}
			if last, _ := j.Log(next - 1); len(last) != 1 || last[0].Level != "" {
				t.Errorf("the last line alone: %v", last)
			}
		}
		j.lines.shrink()
		if left, _ := j.Log(0); len(left) < 2 || j.lines.bytes > max(logBytesKept, logBytesMax/10+2) {
			t.Errorf("%d bytes are left of an ended job's log", j.lines.bytes)
		}
	}
}

func TestASandboxThatIsNoneIsRefused(t *testing.T) {
	for sandbox, message := range map[string]string{
		"": "", "auto": "", "off": "", "strict": "", "stict": `must be auto, strict or off, not "stict"`,
	} {
		err := Options{Sandbox: sandbox}.Validate()
		if (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v", sandbox, err)
		}
	}
}

func TestLettersOfTheOldestJobsAreForgotten(t *testing.T) {
	rows := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	e := &Engine{jobs: map[string]*Job{}}
	bytes := int64(0)
	for _, id := range []string{"j1", "j2", "j3"} {
		f := exec.NewFailures(exec.FunctionCall{Function: &plan.Function{Name: "f"}}, rows)
		b := array.NewRecordBuilder(memory.DefaultAllocator, rows)
		b.Field(0).(*array.Int64Builder).Append(1)
		if err := f.Add([]exec.FailedRow{{Kind: exec.FailedExit, Message: "why"}}, b.NewRecordBatch()); err != nil {
			t.Fatal(err)
		}
		b.Release()
		bytes = f.Bytes()
		e.jobs[id] = &Job{ID: id, done: make(chan struct{}), failures: []*exec.Failures{f}}
		e.order = append(e.order, id)
	}
	close(e.jobs["j1"].done)
	close(e.jobs["j2"].done) // j3 runs
	e.forgetLetters(bytes)
	for id, want := range map[string]int64{"j1": 0, "j2": bytes, "j3": bytes} {
		if got := e.jobs[id].lettersBytes(); got != want {
			t.Errorf("%s keeps %d bytes, want %d", id, got, want)
		}
	}
}
