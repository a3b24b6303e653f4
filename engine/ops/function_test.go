package ops

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

var (
	oneColumn  = arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	result     = arrow.NewSchema([]arrow.Field{{Name: "y", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	twoColumns = arrow.NewSchema(slices.Concat(oneColumn.Fields(), result.Fields()), nil)
	errBoom    = errors.New("boom")
)

func numbers(alloc memory.Allocator, schema *arrow.Schema, values ...int64) arrow.RecordBatch {
	b := array.NewInt64Builder(alloc)
	defer b.Release()
	b.AppendValues(values, nil)
	column := b.NewArray()
	defer column.Release()
	return array.NewRecordBatch(schema, []arrow.Array{column}, int64(len(values)))
}

// fakeRunner doubles the first column, each bundle in a goroutine of its own,
// later bundles sooner. It stands in for workers so that failures can be made
// at will.
type fakeRunner struct {
	alloc memory.Allocator
	// failAt is the first row of the bundle that fails; -1 for none.
	failAt int64

	mu     sync.Mutex
	opened int
	closed int
}

func (r *fakeRunner) Open(context.Context, *exec.FunctionStage) (exec.FunctionSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	return &fakeSession{runner: r}, nil
}

type fakeSession struct {
	runner  *fakeRunner
	pending sync.WaitGroup
	bundles []*fakeBundle
}

func (s *fakeSession) Submit(ctx context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	b := &fakeBundle{done: make(chan struct{})}
	s.bundles = append(s.bundles, b)
	s.pending.Go(func() {
		defer close(b.done)
		time.Sleep(time.Duration(max(0, 10-firstRow)) * time.Millisecond)
		if firstRow == s.runner.failAt {
			b.err = errBoom
			return
		}
		b.results, b.err = s.runner.double(ctx, input)
	})
	return b, nil
}

// double reads the whole input into one batch of doubled values.
func (s *fakeSession) Probe(ctx context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	return s.Submit(ctx, input, firstRow)
}

func (r *fakeRunner) double(ctx context.Context, input exec.BatchSource) ([]arrow.RecordBatch, error) {
	reader, err := input.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var values []int64
	for {
		batch, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			return []arrow.RecordBatch{numbers(r.alloc, result, values...)}, nil
		}
		if err != nil {
			return nil, err
		}
		for _, v := range batch.Column(0).(*array.Int64).Int64Values() {
			values = append(values, 2*v)
		}
		batch.Release()
	}
}

func (s *fakeSession) Close() error {
	s.pending.Wait()
	for _, b := range s.bundles {
		for _, r := range b.results {
			r.Release()
		}
	}
	s.runner.mu.Lock()
	defer s.runner.mu.Unlock()
	s.runner.closed++
	return nil
}

type fakeBundle struct {
	done    chan struct{}
	results []arrow.RecordBatch
	err     error
}

// Held implements exec.Bundle.
func (b *fakeBundle) Held() int64 { return 0 }

func (b *fakeBundle) Wait(ctx context.Context) ([]arrow.RecordBatch, error) {
	select {
	case <-b.done:
		results := b.results
		b.results = nil
		return results, b.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// batches is a source of ids 0…n-1 in batches of two, a watermark after each.
type batches struct {
	alloc memory.Allocator
	n     int64
}

func (b batches) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	for i := int64(0); i < b.n; i += 2 {
		if err := out.EmitBatch(ctx, numbers(b.alloc, oneColumn, i, i+1)); err != nil {
			return err
		}
		if err := out.Emit(ctx, exec.Element{Kind: exec.KindWatermark, Watermark: time.Unix(i, 0)}); err != nil {
			return err
		}
	}
	return nil
}

// keep notes what reaches it.
type keep struct {
	exec.PassThrough
	rows       [][]int64
	watermarks []int64
	failAfter  int
}

func (k *keep) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	if k.failAfter > 0 && len(k.rows) == k.failAfter {
		return errBoom
	}
	for i := range int(batch.NumRows()) {
		var row []int64
		for _, c := range batch.Columns() {
			row = append(row, c.(*array.Int64).Value(i))
		}
		k.rows = append(k.rows, row)
	}
	return nil
}

func (k *keep) OnElement(_ context.Context, e exec.Element, _ *exec.Output) error {
	k.watermarks = append(k.watermarks, e.Watermark.Unix())
	return nil
}

// runThrough sends rows through an operator into sink.
func runThrough(t *testing.T, alloc memory.Allocator, rows int64, operator func(int) exec.Operator, parallelism int, sink *keep) error {
	t.Helper()
	g := exec.NewGraph(exec.Options{SpillDir: t.TempDir()})
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return batches{alloc, rows} }, Schema: oneColumn},
		{ID: "f", Parallelism: parallelism, New: operator, Inputs: []string{"in"}, Schema: twoColumns},
		{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return exec.Handle(sink) }, Inputs: []string{"f"}},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return g.Run(t.Context())
}

func function(r *fakeRunner, eager bool) func(int) exec.Operator {
	return func(int) exec.Operator {
		return &Function{
			Runner: r, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageColumns, Input: oneColumn, Output: result},
			Columns: []int{0}, KeepInput: true, Schema: twoColumns, Eager: eager,
		}
	}
}

func TestFunctionKeepsOrderAndOtherElements(t *testing.T) {
	for _, parallelism := range []int{1, 3} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		r := &fakeRunner{alloc: alloc, failAt: -1}
		sink := &keep{}
		if err := runThrough(t, alloc, 40, function(r, false), parallelism, sink); err != nil {
			t.Fatal(err)
		}
		for i, row := range sink.rows {
			if !slices.Equal(row, []int64{int64(i), 2 * int64(i)}) {
				t.Fatalf("row %d is %v", i, row)
			}
		}
		if len(sink.rows) != 40 || len(sink.watermarks) != 20 || !slices.IsSorted(sink.watermarks) {
			t.Errorf("%d rows, watermarks %v", len(sink.rows), sink.watermarks)
		}
		if r.opened == 0 || r.opened > parallelism || r.closed != r.opened {
			t.Errorf("%d sessions opened, %d closed", r.opened, r.closed)
		}
		alloc.AssertSize(t, 0)
	}
}

func TestFunctionOpensItsSessionWhenNeeded(t *testing.T) {
	for eager, want := range map[bool]int{true: 1, false: 0} {
		r := &fakeRunner{alloc: memory.DefaultAllocator, failAt: -1}
		if err := runThrough(t, memory.DefaultAllocator, 0, function(r, eager), 1, &keep{}); err != nil {
			t.Fatal(err)
		}
		if r.opened != want || r.closed != want {
			t.Errorf("eager %v: %d sessions opened, %d closed", eager, r.opened, r.closed)
		}
	}
}

// large is a source of a batch of ids 0…n-1 and one of two more.
type large struct {
	alloc memory.Allocator
	n     int64
}

func (l large) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	values := make([]int64, l.n)
	for i := range values {
		values[i] = int64(i)
	}
	if err := out.EmitBatch(ctx, numbers(l.alloc, oneColumn, values...)); err != nil {
		return err
	}
	return out.EmitBatch(ctx, numbers(l.alloc, oneColumn, l.n, l.n+1))
}

// TestFirstBundlesBelowALimitAreSmall, and then grow until they are whole
// batches; the rows are the same.
func TestFirstBundlesBelowALimitAreSmall(t *testing.T) {
	for wanted, sizes := range map[int64][]int64{
		0: {100_000, 2}, 10: {64, 256, 1024, 4096, 16384, 78176, 2}, 1000: {1000, 4000, 16000, 64000, 15000, 2}, 1 << 40: {100_000, 2},
	} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		r := &fakeRunner{alloc: alloc, failAt: -1}
		f := function(r, false)(0).(*Function)
		f.RowsWanted = wanted
		got := sizesThrough(t, f, large{alloc, 100_000})
		if !slices.Equal(got.sizes, sizes) || got.next != 100_002 {
			t.Errorf("%d rows wanted: batches of %v, %d rows in order", wanted, got.sizes, got.next)
		}
		alloc.AssertSize(t, 0)
	}
}

// sizesOf notes the sizes of batches, and counts the rows that are in order and
// doubled.
type sizesOf struct {
	exec.PassThrough
	sizes []int64
	next  int64
}

func (s *sizesOf) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	s.sizes = append(s.sizes, batch.NumRows())
	ids, doubled := batch.Column(0).(*array.Int64), batch.Column(1).(*array.Int64)
	for i := range int(batch.NumRows()) {
		if ids.Value(i) == s.next && doubled.Value(i) == 2*s.next {
			s.next++
		}
	}
	return nil
}

// sizesThrough runs a function on what a source gives.
func sizesThrough(t *testing.T, f *Function, source large) *sizesOf {
	t.Helper()
	got := &sizesOf{}
	g := exec.NewGraph(exec.Options{})
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return source }, Schema: oneColumn},
		{ID: "f", Parallelism: 1, New: func(int) exec.Operator { return f }, Inputs: []string{"in"}, Schema: twoColumns},
		{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return exec.Handle(got) }, Inputs: []string{"f"}},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBundlesAreWithinTheCredit: a batch whose rows are too many for a bundle is
// cut, a row that is too large goes alone.
func TestBundlesAreWithinTheCredit(t *testing.T) {
	for credit, sizes := range map[int64][]int64{
		0: {1000, 2}, 4 * 8 * 1000: {1000, 2}, 4 * 8 * 300: {300, 300, 300, 100, 2}, 1: slices.Repeat([]int64{1}, 1002),
	} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		f := function(&fakeRunner{alloc: alloc, failAt: -1}, false)(0).(*Function)
		f.Stage.CreditBytes = credit
		got := sizesThrough(t, f, large{alloc, 1000})
		if !slices.Equal(got.sizes, sizes) || got.next != 1002 {
			t.Errorf("credit of %d: batches of %v, %d rows in order", credit, got.sizes, got.next)
		}
		alloc.AssertSize(t, 0)
	}
}

func TestFailuresReleaseEverything(t *testing.T) {
	for name, c := range map[string]struct {
		failAt int64
		sink   *keep
	}{
		"a bundle fails":     {8, &keep{}},
		"downstream fails":   {-1, &keep{failAfter: 6}},
		"the first one does": {0, &keep{}},
	} {
		for _, parallelism := range []int{1, 3} {
			alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
			r := &fakeRunner{alloc: alloc, failAt: c.failAt}
			if err := runThrough(t, alloc, 100, function(r, true), parallelism, c.sink); !errors.Is(err, errBoom) {
				t.Errorf("%s: %v", name, err)
			}
			if r.closed != r.opened {
				t.Errorf("%s: %d sessions opened, %d closed", name, r.opened, r.closed)
			}
			alloc.AssertSize(t, 0)
		}
	}
}

func TestFitSeesTheWholeInput(t *testing.T) {
	for _, memoryBytes := range []int64{0, 1 << 20} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		r := &fakeRunner{alloc: alloc, failAt: -1}
		fit := func(int) exec.Operator {
			return &MapTable{
				Runner: r, Stage: &exec.FunctionStage{ID: "s", Kind: exec.StageFit, Input: oneColumn, Output: result},
				Columns: []int{0}, Spool: exec.SpoolOptions{MemoryBytes: memoryBytes, Dir: t.TempDir(), Allocator: alloc},
			}
		}
		sink := &keep{}
		if err := runThrough(t, alloc, 100, fit, 1, sink); err != nil {
			t.Fatal(err)
		}
		if len(sink.rows) != 100 || sink.rows[99][0] != 198 {
			t.Errorf("%d rows reached the function", len(sink.rows))
		}
		alloc.AssertSize(t, 0)
	}
}

func TestArrange(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	swapped := arrow.NewSchema([]arrow.Field{{Name: "b", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	sink := &keep{}
	arrange := func(int) exec.Operator {
		return exec.Handle(&Arrange{Columns: []int{0, 0}, Schema: swapped})
	}
	if err := runThrough(t, alloc, 4, arrange, 1, sink); err != nil {
		t.Fatal(err)
	}
	if len(sink.rows) != 4 || !slices.Equal(sink.rows[3], []int64{3, 3}) || len(sink.watermarks) != 2 {
		t.Errorf("got %v, %v", sink.rows, sink.watermarks)
	}
	alloc.AssertSize(t, 0)
}

// fakeSink counts what becomes of its writer.
type fakeSink struct {
	openErr, writeErr, commitErr error
	written                      int64
	committed, aborted           int
}

func (s *fakeSink) Open(context.Context, *arrow.Schema) (exec.SinkWriter, error) {
	return s, s.openErr
}

func (s *fakeSink) Write(_ context.Context, batch arrow.RecordBatch) error {
	s.written += batch.NumRows()
	return s.writeErr
}

func (s *fakeSink) Commit(context.Context) error { s.committed++; return s.commitErr }
func (s *fakeSink) Abort()                       { s.aborted++ }

func TestSinkCommitsOrAbortsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		sink               fakeSink
		committed, aborted int
	}{
		"all is well":   {fakeSink{}, 1, 0},
		"write fails":   {fakeSink{writeErr: errBoom}, 0, 1},
		"commit fails":  {fakeSink{commitErr: errBoom}, 1, 0},
		"opening fails": {fakeSink{openErr: errBoom}, 0, 0},
	} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		g := exec.NewGraph(exec.Options{})
		for _, v := range []*exec.Vertex{
			{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return batches{alloc, 10} }, Schema: oneColumn},
			{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return NewSink(&c.sink, oneColumn) }, Inputs: []string{"in"}},
		} {
			if err := g.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		err := g.Run(t.Context())
		failing := c.sink.openErr != nil || c.sink.writeErr != nil || c.sink.commitErr != nil
		if failing != errors.Is(err, errBoom) || c.sink.committed != c.committed || c.sink.aborted != c.aborted {
			t.Errorf("%s: %v, %d commits, %d aborts", name, err, c.sink.committed, c.sink.aborted)
		}
		if !failing && c.sink.written != 10 {
			t.Errorf("%s: %d rows written", name, c.sink.written)
		}
		alloc.AssertSize(t, 0)
	}
}

func TestCollectEndsItsQueue(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	queue := exec.NewQueue(1 << 20)
	g := exec.NewGraph(exec.Options{})
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return batches{alloc, 10} }, Schema: oneColumn},
		{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return NewCollect(queue) }, Inputs: []string{"in"}},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows int64
	for {
		e, err := queue.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == exec.KindEnd {
			break
		}
		rows += e.Batch.NumRows()
		e.Release()
	}
	if rows != 10 {
		t.Errorf("%d rows", rows)
	}
	alloc.AssertSize(t, 0)
}
