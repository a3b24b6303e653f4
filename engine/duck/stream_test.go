package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// numbers is a reader of batches with a column x: 0, 1, 2 …
type numbers struct {
	mem     memory.Allocator
	rows    int // left
	size    int // of a batch
	at      int64
	reads   int
	blockAt int // before this read, wait for ctx; 0: never
	closed  bool
}

var numbersSchema = arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)

func (n *numbers) Next(ctx context.Context) (arrow.RecordBatch, error) {
	n.reads++
	if n.reads == n.blockAt {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.rows == 0 {
		return nil, io.EOF
	}
	size := min(n.rows, n.size)
	n.rows -= size
	b := array.NewInt64Builder(n.mem)
	defer b.Release()
	b.Reserve(size)
	for range size {
		b.UnsafeAppend(n.at)
		n.at++
	}
	column := b.NewArray()
	defer column.Release()
	return array.NewRecordBatch(numbersSchema, []arrow.Array{column}, int64(size)), nil
}

func (n *numbers) Close() { n.closed = true }

var numbersTable = table{schema: numbersSchema}

// within fails the test if f takes longer than a deadlock would be noticed.
func within(t *testing.T, limit time.Duration, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatalf("not done after %s", limit)
		return nil
	}
}

func discard(batch arrow.RecordBatch) error {
	batch.Release()
	return nil
}

// An error in mid-stream looks like the end of the result. With one thread, as
// a job has without aggregates, joins and sorts: with several, DuckDB now and
// then gives "Interrupted!" in the place of what a helper thread said.
func TestErrorInMidStream(t *testing.T) {
	d, mem := open(t, Options{Threads: 1, BatchRowsMax: 1000})
	s := stage([]table{numbersTable}, plan.Project{Exprs: []plan.NamedExpr{sqlExpr("y", "CASE WHEN x = 1900000 THEN error('boom') ELSE 1 END")}})
	rows := int64(0)
	err := d.Run(t.Context(), s, []exec.BatchReader{&numbers{mem: mem, rows: 2_000_000, size: 5000}}, func(batch arrow.RecordBatch) error {
		rows += batch.NumRows()
		return discard(batch)
	})
	problem := diag.From(err)
	if problem.Code != diag.QueryFailed || !strings.Contains(problem.Cause, "boom") || problem.Operator != "select" || problem.Source == nil {
		t.Errorf("got %v", err)
	}
	if rows == 0 {
		t.Error("nothing was emitted before the error")
	}
}

// A reader's error comes out as it is.
func TestReaderError(t *testing.T) {
	d, mem := open(t, Options{Threads: 2})
	broken := errors.New("the disk is on fire")
	for _, ops := range [][]plan.Op{
		{plan.Filter{Predicate: plan.SQL("x >= 0")}},
		{plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("n", "sum(x)")}}},
	} {
		for _, rows := range []string{`[]`, `[{"x":1}]`} {
			in := newTable(t, "x:bigint", rows, rows)
			r := in.reader(t, mem)
			r.err = broken
			err := d.Run(t.Context(), stage([]table{in}, ops...), []exec.BatchReader{r}, discard)
			if err != broken { //nolint:errorlint // it must be the very error
				t.Errorf("got %v", err)
			}
			if !r.closed.Load() {
				t.Error("the reader was not closed")
			}
		}
	}
}

func TestEmitError(t *testing.T) {
	d, mem := open(t, Options{Threads: 2, BatchRowsMax: 100})
	full := errors.New("the queue is closed")
	r := &numbers{mem: mem, rows: 1_000_000, size: 1000}
	calls := 0
	err := within(t, 10*time.Second, func() error {
		return d.Run(t.Context(), stage([]table{numbersTable}, plan.Filter{Predicate: plan.SQL("x > 5")}), []exec.BatchReader{r}, func(batch arrow.RecordBatch) error {
			batch.Release()
			if calls++; calls == 3 {
				return full
			}
			return nil
		})
	})
	if err != full || calls != 3 || !r.closed { //nolint:errorlint // it must be the very error
		t.Errorf("got %v after %d calls, closed %v", err, calls, r.closed)
	}
}

// A limit is done without the rest of its input.
func TestLimitEndsEarly(t *testing.T) {
	d, mem := open(t, Options{})
	r := &numbers{mem: mem, rows: 1 << 40, size: 1000}
	out := 0
	err := within(t, 10*time.Second, func() error {
		return d.Run(t.Context(), stage([]table{numbersTable}, plan.Limit{N: 2500}), []exec.BatchReader{r}, func(batch arrow.RecordBatch) error {
			out += int(batch.NumRows())
			return discard(batch)
		})
	})
	if err != nil || out != 2500 || !r.closed {
		t.Errorf("%d rows, %v, closed %v", out, err, r.closed)
	}
}

func TestWrongBatchIsRefused(t *testing.T) {
	d, mem := open(t, Options{})
	declared := newTable(t, "x:string")
	r := &numbers{mem: mem, rows: 10, size: 10}
	err := d.Run(t.Context(), stage([]table{declared}, plan.Limit{N: 1}), []exec.BatchReader{r}, discard)
	if problem := diag.From(err); problem.Code != diag.Internal || !strings.Contains(problem.Message, "int64") {
		t.Errorf("got %v", err)
	}
}

func TestOrderIsKept(t *testing.T) {
	for _, threads := range []int{1, 2, 4} {
		d, mem := open(t, Options{Threads: threads, BatchRowsMax: 3000})
		s := stage([]table{numbersTable},
			plan.Filter{Predicate: plan.SQL("x % 3 <> 0")},
			plan.Project{Exprs: []plan.NamedExpr{sqlExpr("y", "x * 2"), sqlExpr("text", "'number ' || x")}},
			plan.Filter{Predicate: plan.SQL("y > 1000")})
		want := int64(1000)
		err := d.Run(t.Context(), s, []exec.BatchReader{&numbers{mem: mem, rows: 500_000, size: 7001}}, func(batch arrow.RecordBatch) error {
			defer batch.Release()
			for i, y := range batch.Column(0).(*array.Int64).Int64Values() {
				for want += 2; want/2%3 == 0; want += 2 {
				}
				if y != want || batch.Column(1).(*array.String).Value(i) != "number "+strconv.FormatInt(y/2, 10) {
					return fmt.Errorf("got %d instead of %d", y, want)
				}
			}
			return nil
		})
		if err != nil || want != 999_998-2 && want != 999_998 {
			t.Errorf("%d threads: %v, last %d", threads, err, want)
		}
	}
}

// residentKiB is the memory of the process, and its peak if it can be reset.
func residentKiB(t *testing.T, field string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("the memory of a process cannot be read here")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no %s", field)
	return 0
}

// A result is never held as a whole: 30 million rows of 16 bytes come out
// while less than half of their 480 MB is held, the first at once.
func TestResultStreams(t *testing.T) {
	const perRow, wanted, growthKiBMax = 30_000, 30_000_000, 200 << 10
	d, mem := open(t, Options{Threads: 2})
	s := stage([]table{numbersTable}, plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", "x"), sqlExpr("i", "unnest(range("+strconv.Itoa(perRow)+"))")}})
	before := residentKiB(t, "VmRSS")
	peak, rows := 0, int64(0)
	start := time.Now()
	var first, last time.Duration
	err := d.Run(t.Context(), s, []exec.BatchReader{&numbers{mem: mem, rows: wanted / perRow, size: 10}}, func(batch arrow.RecordBatch) error {
		if rows == 0 {
			first = time.Since(start)
		}
		rows += batch.NumRows()
		peak = max(peak, residentKiB(t, "VmRSS"))
		return discard(batch)
	})
	last = time.Since(start)
	if err != nil || rows != wanted {
		t.Fatalf("%d rows, %v", rows, err)
	}
	t.Logf("first batch after %s, all after %s, %d MiB more than before", first, last, (peak-before)>>10)
	if peak-before > growthKiBMax {
		t.Errorf("memory grew by %d MiB", (peak-before)>>10)
	}
	if first > last/4 {
		t.Errorf("the first batch came after %s of %s", first, last)
	}
}

// pipe is a queue between two stages: what one emits, the other reads.
type pipe chan arrow.RecordBatch

func (p pipe) emit(ctx context.Context) func(arrow.RecordBatch) error {
	return func(batch arrow.RecordBatch) error {
		select {
		case p <- batch:
			return nil
		case <-ctx.Done():
			batch.Release()
			return ctx.Err()
		}
	}
}

func (p pipe) Next(ctx context.Context) (arrow.RecordBatch, error) {
	select {
	case batch, ok := <-p:
		if !ok {
			return nil, io.EOF
		}
		return batch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipe) Close() {}

// forward stands for a Python function: a goroutine that takes batches and
// hands them on.
func forward(ctx context.Context, from, to pipe) error {
	defer close(to)
	for {
		batch, err := from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = to.emit(ctx)(batch)
		}
		if err != nil {
			return err
		}
	}
}

// Stages of one database that feed one another through functions do not block
// one another, even if there is a single thread: scan → filter → function →
// aggregate → function → join with another scan → function → sort.
func TestStagesFeedOneAnother(t *testing.T) {
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d threads", threads), func(t *testing.T) {
			d, mem := open(t, Options{Threads: threads, BatchRowsMax: 500})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			pipes := make([]pipe, 6)
			for i := range pipes {
				pipes[i] = make(pipe) // no room at all
			}
			filtered := stage([]table{numbersTable}, plan.Filter{Predicate: plan.SQL("x >= 0")})
			aggregated := stage([]table{numbersTable}, plan.Aggregate{
				Keys:       []plan.NamedExpr{sqlExpr("x", "x % 1000")},
				Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")},
			})
			joined := stage([]table{numbersTable, newTable(t, "x:bigint n:bigint")}, plan.Join{On: []plan.JoinKey{{Left: "x", Right: "x"}}, How: plan.Inner})
			sorted := stage([]table{newTable(t, "x:bigint n:bigint")}, plan.Sort{By: []plan.SortKey{{Expr: plan.Column("x")}}})
			run := func(s *exec.RelationalStage, out pipe, in ...exec.BatchReader) func() error {
				return func() error {
					defer close(out)
					return d.Run(ctx, s, in, out.emit(ctx))
				}
			}
			left := &numbers{mem: mem, rows: 100_000, size: 300}
			tasks := []func() error{
				run(filtered, pipes[0], &numbers{mem: mem, rows: 100_000, size: 300}),
				func() error { return forward(ctx, pipes[0], pipes[1]) },
				run(aggregated, pipes[2], pipes[1]),
				func() error { return forward(ctx, pipes[2], pipes[3]) },
				run(joined, pipes[4], left, pipes[3]),
				run(sorted, pipes[5], pipes[4]),
			}
			errs := make(chan error, len(tasks))
			for _, task := range tasks {
				go func() { errs <- task() }()
			}
			rows := 0
			for batch := range pipes[5] {
				for i, x := range batch.Column(0).(*array.Int64).Int64Values() {
					if int(x) != rows || batch.Column(1).(*array.Int64).Value(i) != 100 {
						t.Fatalf("row %d is %d, %d", rows, x, batch.Column(1).(*array.Int64).Value(i))
					}
					rows++
				}
				batch.Release()
			}
			for range tasks {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if rows != 1000 {
				t.Errorf("there are %d rows", rows)
			}
		})
	}
}

// What does not fit into memory goes to disk, into a folder that is gone
// afterwards: a sort, and a table that is stored because it is read twice.
// Nothing of it is left in the instance, which the next job may get.
func TestSpill(t *testing.T) {
	dir := t.TempDir()
	d, mem := open(t, Options{Threads: 2, MemoryLimitBytes: 120 << 20, SpillDir: dir})
	const rows = 4_000_000
	sorted := stage([]table{numbersTable},
		plan.Project{Exprs: []plan.NamedExpr{sqlExpr("h", "hash(x)"), sqlExpr("x", "x"), sqlExpr("t", "'padding of some length ' || x")}},
		plan.Sort{By: []plan.SortKey{{Expr: plan.Column("h")}}})
	stored := stage([]table{numbersTable})
	stored.Nodes = []plan.Node{
		{ID: "p", Inputs: []string{"in0"}, Op: sorted.Nodes[0].Op},
		{ID: "j", Inputs: []string{"p", "p"}, Op: plan.Join{How: plan.Semi, On: []plan.JoinKey{{Left: "x", Right: "x"}}}},
	}
	for name, s := range map[string]*exec.RelationalStage{"sort": sorted, "stored": stored} {
		t.Run(name, func(t *testing.T) {
			count, spilled := 0, false
			last := uint64(0)
			err := d.Run(t.Context(), s, []exec.BatchReader{&numbers{mem: mem, rows: rows, size: 65_536}}, func(batch arrow.RecordBatch) error {
				if files, err := filepath.Glob(filepath.Join(dir, "duckdb-*", "*")); err == nil && len(files) > 0 {
					spilled = true
				}
				values := batch.Column(0).(*array.Uint64).Uint64Values()
				if name == "sort" && (values[0] < last || !slices.IsSorted(values)) {
					t.Error("the result is not sorted")
				}
				last = values[len(values)-1]
				count += len(values)
				return discard(batch)
			})
			if err != nil || count != rows {
				t.Errorf("%d rows, %v", count, err)
			}
			if !spilled {
				t.Error("nothing was spilled")
			}
			isEmpty(t, d)
		})
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

// isEmpty checks that nothing is left of what an instance has run.
func isEmpty(t *testing.T, d *Database) {
	t.Helper()
	s, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	left, err := s.strings(`SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal
		UNION ALL SELECT path FROM duckdb_temporary_files()
		UNION ALL SELECT tag || ': ' || memory_usage_bytes || ' bytes' FROM duckdb_memory()
			WHERE memory_usage_bytes + temporary_storage_bytes > 0 AND tag <> 'ALLOCATOR' -- this query's own`, 10)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, left)
}

func TestOutOfMemory(t *testing.T) {
	d, mem := open(t, Options{MemoryLimitBytes: 30 << 20})
	s := stage([]table{numbersTable}, plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("l", "list(x || ' and some text')")}})
	err := d.Run(t.Context(), s, []exec.BatchReader{&numbers{mem: mem, rows: 5_000_000, size: 65_536}}, discard)
	problem := diag.From(err)
	if problem.Code != diag.OutOfMemory || problem.Operator != "agg" || !strings.Contains(problem.Message, "30 MiB") {
		t.Errorf("got %s", problem.Render())
	}
}

// Cancelling takes hold wherever the query is, long before its end. On a quiet
// machine that takes a tenth of a second; a sort that has spilled frees its
// memory first, which takes seconds where the disk is busy.
func TestCancel(t *testing.T) {
	const limit = 10 * time.Second
	heavy := []plan.Op{
		plan.Project{Exprs: []plan.NamedExpr{sqlExpr("x", "x"), sqlExpr("i", "unnest(range(100000))")}},
		plan.Project{Exprs: []plan.NamedExpr{sqlExpr("h", "hash(x, i)"), sqlExpr("i", "i")}},
	}
	tests := []struct {
		name    string
		ops     []plan.Op
		blockAt int
		after   time.Duration
	}{
		{"before the first batch", []plan.Op{plan.Filter{Predicate: plan.SQL("x > 0")}}, 1, 50 * time.Millisecond},
		{"while a reader blocks", []plan.Op{plan.Filter{Predicate: plan.SQL("x > 0")}}, 3, 50 * time.Millisecond},
		{"while an aggregate reads", []plan.Op{plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("n", "sum(x)")}}}, 3, 50 * time.Millisecond},
		{"in an aggregate", append(slices.Clone(heavy), plan.Aggregate{Keys: []plan.NamedExpr{sqlExpr("h", "h")}, Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}}), 0, 700 * time.Millisecond},
		{"in a sort", append(slices.Clone(heavy), plan.Sort{By: []plan.SortKey{{Expr: plan.Column("h")}}}), 0, 700 * time.Millisecond},
		{"in a result", heavy, 0, 200 * time.Millisecond},
	}
	for _, threads := range []int{1, 2} {
		d, mem := open(t, Options{Threads: threads, MemoryLimitBytes: 2 << 30, SpillDir: t.TempDir()})
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, %d threads", test.name, threads), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := &numbers{mem: mem, rows: 1000, size: 100, blockAt: test.blockAt}
				var cancelled time.Time
				timer := time.AfterFunc(test.after, func() {
					cancelled = time.Now()
					cancel()
				})
				defer timer.Stop()
				err := within(t, 20*time.Second, func() error {
					return d.Run(ctx, stage([]table{numbersTable}, test.ops...), []exec.BatchReader{r}, discard)
				})
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(cancelled); took > limit {
					t.Errorf("it took %s", took)
				}
				if !r.closed {
					t.Error("the reader was not closed")
				}
			})
		}
	}
}

func TestContextIsDone(t *testing.T) {
	d, mem := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &numbers{mem: mem, rows: 10, size: 10}
	s := stage([]table{numbersTable}, plan.Limit{N: 1})
	if err := d.Run(ctx, s, []exec.BatchReader{r}, discard); !errors.Is(err, context.Canceled) || !r.closed {
		t.Errorf("Run: %v, closed %v", err, r.closed)
	}
	if _, err := d.Describe(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("Describe: %v", err)
	}
}

// The guard against a second scan, which no query that compile makes needs.
func TestSecondScanIsAnError(t *testing.T) {
	d, mem := open(t, Options{})
	s, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	q, err := d.compile(s, stage([]table{numbersTable}, plan.Limit{N: 1}))
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	r := newRun(t.Context(), d, s, q, []exec.BatchReader{&numbers{mem: mem, rows: 10, size: 10}})
	defer r.end()
	in := r.streams[0].sql()
	if err := s.execute("SELECT * FROM " + in + " AS a JOIN " + in + " AS b USING (x)"); err == nil || !strings.Contains(err.Error(), "read twice") {
		t.Errorf("got %v", err)
	}
}
