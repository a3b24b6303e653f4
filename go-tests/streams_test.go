package gotests_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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
	"github.com/apache/arrow-go/v18/arrow/memory"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/go-tests/fixture"
)

// events is a generator of user, n (some NULL) and ts, 10 ms apart and up to
// two seconds out of order.
func events(rows int64, batchRows int, rate float64) plan.Generate {
	g := plan.Generate{
		Columns: []plan.GeneratedColumn{
			{Name: "id", Kind: plan.GenerateSequence, Step: 1},
			{Name: "user", Kind: plan.GenerateInteger, High: 40, Nulls: 0.05},
			{Name: "n", Kind: plan.GenerateInteger, Low: -50, High: 1000, Nulls: 0.1},
			{Name: "word", Kind: plan.GenerateChoice, Values: []string{"a", "ü", "", "two words"}},
			{Name: "ts", Kind: plan.GenerateEventTime, Start: 1_700_000_000_000_000, Step: 10_000, Disorder: 2_000_000},
		},
		BatchRows: batchRows, RowsPerSecond: rate, Seed: 42,
	}
	if rows >= 0 {
		g.Rows = &rows
	}
	return g
}

func sqls(pairs ...string) (out []plan.NamedExpr) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, named(pairs[i], plan.SQL(pairs[i+1])))
	}
	return out
}

var windowAggregates = sqls("rows", "count(*)", "c", "count(n)", "s", "sum(n)", "lo", "min(n)", "hi", "max(n)", "m", "avg(n * 2.0)", "w", "max(word)")

func perMinute() plan.WindowAggregate {
	return plan.WindowAggregate{
		Kind: plan.Tumble, SizeUS: 60_000_000, On: "ts",
		Keys: []plan.NamedExpr{named("user", plan.Column("user")), named("parity", plan.SQL("id % 2"))}, Aggregates: windowAggregates,
	}
}

// lines gives the rows of a plan's output, as text and sorted.
func lines(t *testing.T, e *engine.Engine, nodes ...plan.Node) []string {
	t.Helper()
	var out []string
	run(t, e, &plan.Plan{Version: plan.Version, Nodes: nodes}, func(batch arrow.RecordBatch) { out = append(out, textOf(batch)...) })
	slices.Sort(out)
	return out
}

func textOf(batch arrow.RecordBatch) []string {
	out := make([]string, batch.NumRows())
	for row := range out {
		cells := make([]string, batch.NumCols())
		for i, c := range batch.Columns() {
			cells[i] = c.ValueStr(row)
		}
		out[row] = strings.Join(cells, "|")
	}
	return out
}

func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d rows instead of %d", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: got %s, want %s", what, got[i], want[i])
		}
	}
}

// TestWindowsEqualTheRelationalAnswer: windows over a table, with and without
// a watermark, in any batches and on any number of subtasks, give what SQL
// gives.
func TestWindowsEqualTheRelationalAnswer(t *testing.T) {
	const rows = 6_000
	var want []string
	for _, parallelism := range []int{1, 2, 4} {
		e := openEngineWith(t, func(o *engine.Options) { o.Parallelism = parallelism })
		if want == nil {
			want = lines(t, e,
				node("in", events(rows, 0, 0)),
				node("agg", plan.Aggregate{
					Keys: slices.Concat(sqls("window_start", "date_trunc('minute', ts)", "window_end", "date_trunc('minute', ts) + INTERVAL 1 MINUTE"),
						[]plan.NamedExpr{named("user", plan.Column("user"))}, sqls("parity", "id % 2")),
					Aggregates: windowAggregates,
				}, "in"),
				node("out", plan.Collect{}, "agg"))
		}
		for _, batchRows := range []int{1, 7, 8192} {
			n := int64(rows)
			expected := want
			if batchRows == 1 { // a query for each batch: fewer of them will do
				n = 400
				expected = lines(t, e, node("in", events(n, 0, 0)), node("w", perMinute(), "in"), node("out", plan.Collect{}, "w"))
			}
			got := lines(t, e, node("in", events(n, batchRows, 0)), node("w", perMinute(), "in"), node("out", plan.Collect{}, "w"))
			sameLines(t, fmt.Sprintf("%d subtasks, batches of %d", parallelism, batchRows), got, expected)
			got = lines(t, e,
				node("in", events(n, batchRows, 0)), node("wm", plan.WithWatermark{Column: "ts", DelayUS: 2_000_000}, "in"),
				node("w", perMinute(), "wm"), node("out", plan.Collect{}, "w"))
			sameLines(t, fmt.Sprintf("%d subtasks, batches of %d, watermarks", parallelism, batchRows), got, expected)
		}
	}
	if len(want) < 100 {
		t.Errorf("only %d rows", len(want))
	}
}

// TestLateRowsDoNotDependOnBatches: with a delay that is too short some rows
// are late, and always the same ones.
func TestLateRowsDoNotDependOnBatches(t *testing.T) {
	var want []string
	var wantLate int64
	for _, parallelism := range []int{1, 3} {
		e := openEngineWith(t, func(o *engine.Options) { o.Parallelism = parallelism })
		for _, batchRows := range []int{7, 100, 8192} {
			p := &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
				node("in", events(4_000, batchRows, 0)),
				node("wm", plan.WithWatermark{Column: "ts", DelayUS: 100_000}, "in"),
				node("some", plan.Filter{Predicate: plan.SQL("coalesce(n, 0) % 7 <> 3")}, "wm"),
				node("w", plan.WindowAggregate{
					Kind: plan.Tumble, SizeUS: 1_000_000, On: "ts", Keys: []plan.NamedExpr{named("who", plan.Column("user"))}, Aggregates: windowAggregates,
				}, "some"),
				node("h", plan.WindowAggregate{Kind: plan.Tumble, SizeUS: 10_000_000, On: "window_start", Aggregates: sqls("rows", "sum(rows)", "s", "sum(s)")}, "w"),
				node("out", plan.Collect{}, "h"),
			}}
			job, err := e.Submit(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := read(job, func(batch arrow.RecordBatch) { got = append(got, textOf(batch)...) }); err != nil {
				t.Fatal(err)
			}
			if err := job.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			var late int64
			for _, o := range job.Progress() {
				late += o.LateRows
			}
			if want == nil {
				want, wantLate = got, late
				if late == 0 || len(got) < 4 {
					t.Fatalf("%d late rows, %d windows", late, len(got))
				}
			}
			sameLines(t, fmt.Sprintf("%d subtasks, batches of %d", parallelism, batchRows), got, want)
			if late != wantLate {
				t.Errorf("%d subtasks, batches of %d: %d late rows instead of %d", parallelism, batchRows, late, wantLate)
			}
		}
	}
}

func TestWhatNeedsTheEndIsRefused(t *testing.T) {
	e := openEngine(t)
	endless := node("in", events(-1, 0, 0))
	collect := node("out", plan.Collect{}, "x")
	one := plan.Aggregate{Aggregates: sqls("n", "count(*)")}
	folder := t.TempDir()
	for name, c := range map[string]struct {
		nodes []plan.Node
		code  diag.Code
		text  string
	}{
		"collect":           {[]plan.Node{endless, node("out", plan.Collect{}, "in")}, diag.NeedsEnd, "collect needs the end of its input, but the stream of read_generator has none"},
		"order_by":          {[]plan.Node{endless, node("x", plan.Sort{By: []plan.SortKey{{Expr: plan.Column("id")}}}, "in"), collect}, diag.NeedsEnd, "order_by needs the end"},
		"agg":               {[]plan.Node{endless, node("x", one, "in"), collect}, diag.NeedsEnd, "agg needs the end"},
		"agg behind filter": {[]plan.Node{endless, node("f", plan.Filter{Predicate: plan.SQL("n > 3")}, "in"), node("x", one, "f"), collect}, diag.NeedsEnd, "agg needs the end"},
		"join":              {[]plan.Node{endless, node("l", plan.Limit{N: 3}, "in"), node("x", plan.Join{How: plan.Inner, On: []plan.JoinKey{{Left: "id", Right: "id"}}}, "in", "l"), collect}, diag.NeedsEnd, "join needs the end"},
		"one file":          {[]plan.Node{endless, node("out", plan.WriteParquet{Output: plan.Output{Path: "/tmp/x", Mode: plan.Overwrite}}, "in")}, diag.NeedsEnd, "write_parquet would never show its file"},
		"function over":     {[]plan.Node{endless, node("x", plan.Project{Keep: true, Exprs: sqls("r", "row_number() OVER ()")}, "in"), node("out", plan.Collect{Endless: true}, "x")}, diag.NeedsEnd, "a function OVER"},
		"no watermark":      {[]plan.Node{endless, node("x", perMinute(), "in"), node("out", plan.Collect{Endless: true}, "x")}, diag.InvalidPlan, "it has no watermark"},
		"other watermark":   {[]plan.Node{endless, node("p", plan.Project{Keep: true, Exprs: sqls("t2", "ts")}, "in"), node("wm", plan.WithWatermark{Column: "t2"}, "p"), node("x", perMinute(), "wm"), node("out", plan.Collect{Endless: true}, "x")}, diag.InvalidPlan, `on "ts", but the watermark is that of "t2"`},
		"time of a text":    {[]plan.Node{endless, node("x", plan.WithWatermark{Column: "word"}, "in"), node("out", plan.Collect{Endless: true}, "x")}, diag.TypeMismatch, `"word" has the type string, but must be a timestamp`},
		"no such time":      {[]plan.Node{endless, node("x", plan.WithWatermark{Column: "tss"}, "in"), node("out", plan.Collect{Endless: true}, "x")}, diag.UnknownColumn, `no column "tss"`},
		"other aggregate":   {[]plan.Node{endless, node("wm", plan.WithWatermark{Column: "ts"}, "in"), node("x", plan.WindowAggregate{Kind: plan.Tumble, SizeUS: 1000, On: "ts", Aggregates: sqls("m", "median(n)")}, "wm"), collect}, diag.BadExpression, "median(n)"},
		"two in one":        {[]plan.Node{endless, node("wm", plan.WithWatermark{Column: "ts"}, "in"), node("x", plan.WindowAggregate{Kind: plan.Tumble, SizeUS: 1000, On: "ts", Aggregates: sqls("m", "sum(n) / count(n)")}, "wm"), collect}, diag.BadExpression, "sum(n) / count(n)"},
		"sum of a text":     {[]plan.Node{endless, node("wm", plan.WithWatermark{Column: "ts"}, "in"), node("x", plan.WindowAggregate{Kind: plan.Tumble, SizeUS: 1000, On: "ts", Aggregates: sqls("m", "sum(word)")}, "wm"), node("out", plan.Collect{Endless: true}, "x")}, diag.TypeMismatch, `"m" cannot be computed`},
		"checkpointed sort": {[]plan.Node{node("in", events(10, 0, 0)), node("x", plan.Sort{By: []plan.SortKey{{Expr: plan.Column("id")}}}, "in"), node("out", toParts(folder, "x"), "x")}, diag.NotCheckpointed, "order_by cannot be part of a job with checkpoints"},
		"checkpointed scan": {[]plan.Node{node("in", plan.ScanParquet{Files: plan.Files{Path: filepath.Join(root(t), "examples/data/airlines.parquet")}}), node("out", toParts(folder, "x"), "in")}, diag.NotCheckpointed, "read_parquet cannot be part of a job with checkpoints"},
	} {
		_, err := e.Submit(t.Context(), &plan.Plan{Version: plan.Version, Nodes: c.nodes})
		d := diag.From(err)
		if d == nil || d.Code != c.code || !strings.Contains(d.Message, c.text) || d.Hint == "" {
			t.Errorf("%s: %v", name, d)
		}
	}
	if left := filesBelow(t, folder); left != "" {
		t.Errorf("refused jobs left %s", left)
	}
}

func toParts(dir, name string) plan.WriteParquet {
	return plan.WriteParquet{
		Output:     plan.Output{Path: filepath.Join(dir, "out"), Mode: plan.ErrorIfExists},
		Checkpoint: &plan.Checkpoint{Dir: filepath.Join(dir, "state"), Name: name, IntervalMS: 50},
	}
}

// TestStreamsCanBeLimited: limit makes a stream a table, and what it does not
// need is not waited for.
func TestStreamsCanBeLimited(t *testing.T) {
	e := openEngine(t)
	got := lines(t, e,
		node("in", events(-1, 100, 0)), node("f", plan.Filter{Predicate: plan.SQL("id % 2 = 1")}, "in"),
		node("l", plan.Limit{N: 150, Offset: 75}, "f"),
		node("s", plan.Sort{By: []plan.SortKey{{Expr: plan.Column("id"), Descending: true}}}, "l"),
		node("x", plan.Aggregate{Aggregates: sqls("n", "count(*)", "lo", "min(id)", "hi", "max(id)")}, "s"),
		node("out", plan.Collect{}, "x"))
	sameLines(t, "limit", got, []string{"150|151|449"})
	job, err := e.Submit(t.Context(), &plan.Plan{Version: plan.Version, Nodes: []plan.Node{node("in", events(-1, 10, 0)), node("out", plan.Collect{Endless: true}, "in")}})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := job.Result("out")
	if err != nil {
		t.Fatal(err)
	}
	if !reader.Next() || reader.RecordBatch().NumRows() != 10 {
		t.Error("no batch came")
	}
	reader.Release()
	if err := job.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// readParts gives the rows of the visible parts of a folder, sorted; every
// other file but lets the test fail.
func readParts(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s was left", entry.Name())
			continue
		}
		file, err := parquetfile.OpenParquetFile(filepath.Join(dir, entry.Name()), false)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := pqarrow.NewFileReader(file, pqarrow.ArrowReadProperties{BatchSize: 8192}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		records, err := reader.GetRecordReader(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for records.Next() {
			out = append(out, textOf(records.RecordBatch())...)
		}
		records.Release()
		file.Close()
	}
	slices.Sort(out)
	return out
}

// streamJob is what a child process runs: a plan of a file, until its end. It
// says when the job has started and how it went.
func streamJob(args []string) error {
	var options struct {
		Plan                    string
		RunDir, CacheDir, Spill string
		Parallelism             int
		KillWorkers             bool
	}
	if err := json.Unmarshal([]byte(args[0]), &options); err != nil {
		return err
	}
	text, err := os.ReadFile(options.Plan)
	if err != nil {
		return err
	}
	p, err := plan.Decode(text)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	e, err := engine.Open(context.Background(), engine.Options{
		RunDir: options.RunDir, CacheDir: options.CacheDir, UV: os.Getenv("ALINK_UV"), SpillDir: options.Spill,
		Parallelism: options.Parallelism, WorkerPool: []string{self, "worker-pool"},
	})
	if err != nil {
		return err
	}
	job, err := e.Submit(context.Background(), p)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	fmt.Println("started", job.Checkpoints().Restored)
	if options.KillWorkers {
		go killBusyWorkers(e, job)
	}
	go tellCheckpoints(job)
	err = job.Wait(context.Background())
	lines, _ := job.Log(0)
	for _, line := range lines {
		fmt.Println("log", line.Text)
	}
	if err == nil {
		fmt.Println("ended", job.Checkpoints().Completed)
	}
	return errors.Join(err, e.Close())
}

// tellCheckpoints prints a line for each checkpoint.
func tellCheckpoints(job *engine.Job) {
	told := 0
	for job.State() == engine.Running {
		for ; told < job.Checkpoints().Completed; told++ {
			fmt.Println("checkpoint")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// killBusyWorkers kills one worker after the other, each once it has a batch.
func killBusyWorkers(e *engine.Engine, job *engine.Job) {
	killed := map[int]bool{}
	for job.State() == engine.Running {
		for _, w := range e.Status().Workers {
			if w.Busy && len(killed) < 2 && !killed[w.PID] && syscall.Kill(w.PID, syscall.SIGKILL) == nil {
				killed[w.PID] = true
				fmt.Println("killed worker")
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// child starts streamJob in a process of its own.
type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func startStreamJob(t *testing.T, p *plan.Plan, parallelism int, killWorkers bool) *child {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := json.Marshal(map[string]any{
		"Plan": file, "RunDir": fixture.ShortDir(t), "CacheDir": cacheDir(t), "Spill": t.TempDir(), "Parallelism": parallelism, "KillWorkers": killWorkers,
	})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self, "stream-job", string(options)), lines: make(chan string, 1000)}
	c.cmd.Env = append(os.Environ(), "ALINK_UV="+fromEnv(t, "ALINK_UV", ".venv/bin/uv"))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			c.lines <- scanner.Text()
		}
	}()
	return c
}

// until waits for a line that begins with a word and gives the rest of it;
// false if the process ended before.
func (c *child) until(word string) (string, bool) {
	for line := range c.lines {
		if rest, ok := strings.CutPrefix(line, word); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// lifeMax bounds a life, so that a slow machine does not end the job before
// the last kill.
const lifeMax = 2 * time.Second

// live returns after some checkpoints and a while, or after lifeMax.
func (c *child) live(checkpoints int, while time.Duration) {
	deadline := time.After(lifeMax)
	for checkpoints > 0 {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return
			}
			if line == "checkpoint" {
				checkpoints--
			}
		case <-deadline:
			return
		}
	}
	time.Sleep(while)
}

// kill ends the process without warning.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	for range c.lines { // to the end of its output
		continue
	}
	_ = c.cmd.Wait()
}

// streamPlan is a job with late rows, a filter, two kinds of state and an
// output in parts.
func streamPlan(dir string, rows int64, rate float64) *plan.Plan {
	return &plan.Plan{Version: plan.Version, Nodes: []plan.Node{
		node("in", events(rows, 500, rate)),
		node("wm", plan.WithWatermark{Column: "ts", DelayUS: 1_000_000}, "in"),
		node("some", plan.Filter{Predicate: plan.SQL("coalesce(n, 0) % 7 <> 3")}, "wm"),
		node("w", plan.WindowAggregate{
			Kind: plan.Tumble, SizeUS: 10_000_000, On: "ts", Keys: []plan.NamedExpr{named("user", plan.Column("user"))}, Aggregates: windowAggregates,
		}, "some"),
		node("out", toParts(dir, "job"), "w"),
	}}
}

// killedAndResumed kills the job of a plan some times, at random moments, each
// time with another number of subtasks, and lets it end. It returns how often
// the job went on from a checkpoint.
func killedAndResumed(t *testing.T, kills int, makePlan func(rate float64) *plan.Plan, rate float64, killWorkers bool) (resumed int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	done := 0
	workersKilled := 0
	for i := range kills {
		c := startStreamJob(t, makePlan(rate), 1+i%3, killWorkers)
		restored, started := c.until("started")
		if !started {
			c.kill()
			t.Fatal("the job did not start again")
		}
		if restored != "0" {
			resumed++
		}
		if killWorkers {
			if _, ok := c.until("killed worker"); ok {
				workersKilled++
			}
		}
		c.live(random.IntN(4), time.Duration(random.IntN(200))*time.Millisecond)
		if c.cmd.Process.Signal(syscall.Signal(0)) == nil {
			done++
		}
		c.kill()
	}
	c := startStreamJob(t, makePlan(0), 2, false)
	if _, ok := c.until("ended"); !ok {
		c.kill()
		t.Fatal("the job did not reach its end")
	}
	if err := c.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if done != kills || killWorkers && workersKilled != kills {
		t.Errorf("%d of %d engines were killed while they worked, %d workers", done, kills, workersKilled)
	}
	return resumed
}

// soakKills is the number of kills of the long form (make soak).
func soakKills(t *testing.T, short int) int {
	t.Helper()
	if text := os.Getenv("ALINK_SOAK_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return short
}

// TestKilledEnginesResume: SIGKILL at ten random moments changes nothing of
// the output.
func TestKilledEnginesResume(t *testing.T) {
	const rate = 8000
	kills := soakKills(t, 10)
	// More than the longest lives of all engines make.
	rows := int64(kills) * rate * int64(lifeMax/time.Second+1)
	quiet, killed := t.TempDir(), t.TempDir()
	e := openEngine(t)
	job, err := e.Submit(t.Context(), streamPlan(quiet, rows, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	resumed := killedAndResumed(t, kills, func(rate float64) *plan.Plan { return streamPlan(killed, rows, rate) }, rate, false)
	want := readParts(t, filepath.Join(quiet, "out"))
	sameLines(t, "after the kills", readParts(t, filepath.Join(killed, "out")), want)
	t.Logf("%d rows, %d of %d starts went on from a checkpoint", len(want), resumed, kills)
	if resumed == 0 || len(want) < 1000 {
		t.Errorf("%d starts went on from a checkpoint, %d rows", resumed, len(want))
	}
}

// TestKilledEnginesAndWorkersResume: the same with a Python function in the
// stream, whose workers are killed too.
func TestKilledEnginesAndWorkersResume(t *testing.T) {
	const rate = 1000
	kills := soakKills(t, 3)
	rows := int64(kills) * rate * 20
	text := "import time\ndef f(n):\n    time.sleep(0.00002)\n    return None if n is None else n * 2 + 1\n"
	makePlan := func(dir string, rate float64) *plan.Plan {
		p := streamPlan(dir, rows, rate)
		f := source("f", text, plan.RowFunction, "bigint", "here")
		f.Parameters = []string{"n"}
		many := 50
		f.Options.Retries = &many
		p.Functions = map[string]*plan.Function{"f": f}
		p.Environments = map[string]*plan.Environment{"here": {Interpreter: testPython(t)}}
		p.Nodes = slices.Insert(p.Nodes, 2, node("y", plan.Project{Keep: true, Exprs: []plan.NamedExpr{named("n", plan.Call("f", plan.Column("n")))}}, "wm"))
		p.Nodes[3].Inputs = []string{"y"}
		return p
	}
	quiet, killed := t.TempDir(), t.TempDir()
	e := openEngine(t)
	job, err := e.Submit(t.Context(), makePlan(quiet, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	killedAndResumed(t, kills, func(rate float64) *plan.Plan { return makePlan(killed, rate) }, rate, true)
	want := readParts(t, filepath.Join(quiet, "out"))
	sameLines(t, "after the kills", readParts(t, filepath.Join(killed, "out")), want)
	if len(want) < 100 {
		t.Errorf("%d rows", len(want))
	}
}

// TestCheckpointsAreGuarded: a changed plan, a second job, a damaged
// checkpoint, an output of unknown origin.
func TestCheckpointsAreGuarded(t *testing.T) {
	e := openEngine(t)
	dir := t.TempDir()
	submit := func(p *plan.Plan) (*engine.Job, *diag.Diagnostic) {
		job, err := e.Submit(t.Context(), p)
		return job, diag.From(err)
	}
	endless := streamPlan(dir, -1, 20_000)
	job, problem := submit(endless)
	if problem != nil {
		t.Fatal(problem)
	}
	if _, d := submit(endless); d == nil || d.Code != diag.CheckpointInUse {
		t.Errorf("a second job on the folder: %v", d)
	}
	for job.Checkpoints().Completed < 3 && job.State() == engine.Running {
		time.Sleep(10 * time.Millisecond)
	}
	for _, o := range job.Progress() {
		if o.ID == "w" && (o.Watermark == nil || o.LagS == nil) {
			t.Errorf("windows have no watermark: %+v", o)
		}
	}
	job.Cancel()
	if err := job.Wait(t.Context()); diag.From(err).Code != diag.Cancelled {
		t.Fatalf("%v", err)
	}
	stats := *job.Checkpoints()
	if stats.Last < 3 || stats.LastBytes == 0 || stats.LastDurationMS <= 0 || stats.Restored != 0 {
		t.Errorf("metrics %+v", stats)
	}

	changed := streamPlan(dir, -1, 20_000)
	w := changed.Nodes[3].Op.(plan.WindowAggregate)
	w.SizeUS = 5_000_000
	changed.Nodes[3].Op = w
	if _, d := submit(changed); d == nil || d.Code != diag.PlanChanged || !strings.Contains(d.Message, "step 4, window: size_us was 10000000, is 5000000") {
		t.Errorf("a changed plan: %v", d)
	}
	if _, d := submit(&plan.Plan{Version: plan.Version, Nodes: slices.Concat(endless.Nodes[:1], []plan.Node{node("out", toParts(dir, "job"), "in")})}); d == nil || d.Code != diag.PlanChanged || !strings.Contains(d.Message, "step 2 was with_watermark, is write_parquet") {
		t.Errorf("a shorter plan: %v", d)
	}

	// The newest checkpoint is damaged: the one before it serves, with a word.
	newest := filepath.Join(dir, "state", fmt.Sprintf("checkpoint-%08d", stats.Last))
	states, err := filepath.Glob(filepath.Join(newest, "*.arrow"))
	if err != nil || len(states) == 0 {
		t.Fatalf("no state in %s: %v", newest, err)
	}
	damage(t, states[0])
	job, problem = submit(endless)
	if problem != nil {
		t.Fatal(problem)
	}
	if got := job.Checkpoints().Restored; got != stats.Last-1 {
		t.Errorf("went on from %d instead of %d", got, stats.Last-1)
	}
	if log, _ := job.Log(0); len(log) != 1 || !strings.Contains(log[0].Text, fmt.Sprintf("checkpoint %d in", stats.Last)) {
		t.Errorf("log %v", log)
	}
	job.Cancel()
	_ = job.Wait(t.Context())

	manifests, err := filepath.Glob(filepath.Join(dir, "state", "checkpoint-*", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests {
		if err := os.Truncate(m, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, d := submit(endless); d == nil || d.Code != diag.CheckpointDamaged || d.Hint == "" {
		t.Errorf("no checkpoint can be read: %v", d)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	if _, d := submit(endless); d == nil || d.Code != diag.OutputExists {
		t.Errorf("output without checkpoints: %v", d)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := streamPlan(dir, -1, 0)
	sink := nowhere.Nodes[4].Op.(plan.WriteParquet)
	sink.Checkpoint.Dir = filepath.Join(dir, "file", "state")
	if _, d := submit(nowhere); d == nil || d.Code != diag.CheckpointFailed || d.Hint == "" {
		t.Errorf("a folder that cannot be made: %v", d)
	}
}

// damage changes a byte in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAFinishedJobHasNothingLeftToDo: the same call again changes nothing.
func TestAFinishedJobHasNothingLeftToDo(t *testing.T) {
	e := openEngine(t)
	dir := t.TempDir()
	files := map[string]time.Time{}
	for i := range 2 {
		job, err := e.Submit(t.Context(), streamPlan(dir, 5000, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		now := map[string]time.Time{}
		entries, err := os.ReadDir(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			now[entry.Name()] = info.ModTime()
		}
		if i > 0 && !maps.Equal(files, now) || len(now) == 0 {
			t.Errorf("first %v, then %v", files, now)
		}
		files = now
	}
}

// TestAJobThatALimitEndedSaysSo, also when it is started again.
func TestAJobThatALimitEndedSaysSo(t *testing.T) {
	e := openEngine(t)
	dir := t.TempDir()
	for _, limit := range []bool{true, false} {
		p := &plan.Plan{Version: plan.Version, Nodes: []plan.Node{node("in", events(5000, 500, 0))}}
		last, want := "in", ""
		if limit {
			p.Nodes = append(p.Nodes, node("few", plan.Limit{N: 1500}, "in"))
			last, want = "few", "limit of 1500 rows"
		}
		p.Nodes = append(p.Nodes, node("out", toParts(filepath.Join(dir, fmt.Sprint(limit)), "job"), last))
		for range 2 {
			job, err := e.Submit(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if err := job.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := job.EndedBy(); got != want || job.State() != engine.Succeeded {
				t.Errorf("limit %t: the job %s, ended by %q", limit, job.State(), got)
			}
		}
	}
}
