package ops

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// poisonous are workers that die on some values and tell of others that the
// function raised on them.
type poisonous struct {
	alloc memory.Allocator
	// deadly and raising are values; tells says that a death has a row.
	deadly, raising []int64
	tells           bool
	// together is how many rows kill a worker whatever they are; 0 is none.
	together int64
	tried    int
}

func (p *poisonous) apply(input []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	p.tried++ // bundles are waited for one by one here
	values := input[0].Column(0).(*array.Int64).Int64Values()
	failure := &exec.BundleFailure{Diagnostic: diag.New(diag.WorkerDied, "died"), Kind: exec.FailedSignal, Row: -1, Deaths: []exec.FailureKind{exec.FailedSignal}}
	for i, v := range values {
		if slices.Contains(p.deadly, v) {
			if p.tells {
				failure.Row = int64(i)
			}
			failure.Diagnostic.Row = &diag.Row{Index: v}
			return nil, failure
		}
	}
	if p.together > 0 && int64(len(values)) >= p.together {
		return nil, failure
	}
	y := array.NewInt64Builder(p.alloc)
	defer y.Release()
	told := array.NewStringBuilder(p.alloc)
	defer told.Release()
	for _, v := range values {
		if slices.Contains(p.raising, v) {
			y.AppendNull()
			told.Append(`{"message":"f raised ValueError: no","exception":{"module":"builtins","type":"ValueError","message":"no"}}`)
			continue
		}
		y.Append(2 * v)
		told.AppendNull()
	}
	columns := []arrow.Array{y.NewArray(), told.NewArray()}
	defer exec.ReleaseColumns(columns)
	schema := arrow.NewSchema([]arrow.Field{result.Field(0), {Name: exec.ErrorColumn, Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	return []arrow.RecordBatch{array.NewRecordBatch(schema, columns, int64(len(values)))}, nil
}

// narrowed runs rows through a function that fails on some.
func narrowed(t *testing.T, p *poisonous, onError plan.OnError, rows int64) (*keep, *exec.Failures, error) {
	t.Helper()
	call := exec.FunctionCall{Function: &plan.Function{Name: "f", Kind: plan.NumpyFunction, Options: plan.FunctionOptions{OnError: onError}}}
	var kept *arrow.Schema
	if onError == plan.OnErrorDeadLetter {
		kept = oneColumn
	}
	failures := exec.NewFailures(call, kept)
	stage := &exec.FunctionStage{
		ID: "f", Kind: exec.StageColumns, Calls: []exec.FunctionCall{call}, Input: oneColumn, Output: result,
		Retries: 2, OnError: onError, Narrows: true, Failures: failures,
	}
	sink := &keep{}
	f := &Function{
		Runner: &pureRunner{apply: p.apply}, Stage: stage, Columns: []int{0}, KeepInput: true, Letters: []int{0}, Schema: twoColumns, Allocator: p.alloc,
	}
	g := exec.NewGraph(exec.Options{SpillDir: t.TempDir()})
	ids := make([]int64, rows)
	for i := range ids {
		ids[i] = int64(i)
	}
	source := fromBatches{func() []arrow.RecordBatch { return []arrow.RecordBatch{numbers(p.alloc, oneColumn, ids...)} }}
	for _, v := range []*exec.Vertex{
		{ID: "in", Parallelism: 1, New: func(int) exec.Operator { return source }, Schema: oneColumn},
		{ID: "f", Parallelism: 1, New: func(int) exec.Operator { return f }, Inputs: []string{"in"}, Schema: twoColumns},
		{ID: "out", Parallelism: 1, New: func(int) exec.Operator { return exec.Handle(sink) }, Inputs: []string{"f"}},
	} {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return sink, failures, g.Run(t.Context())
}

func TestNarrowing(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		rows := 1 + random.Int64N(60)
		p := &poisonous{alloc: memory.NewCheckedAllocator(memory.DefaultAllocator), tells: seed%2 == 0}
		if seed%5 == 0 {
			p.together = 2 + random.Int64N(20)
		}
		for range random.IntN(5) {
			p.deadly = append(p.deadly, random.Int64N(rows))
			p.raising = append(p.raising, random.Int64N(rows))
		}
		onError := plan.OnErrorNull
		if seed%4 < 2 {
			onError = plan.OnErrorDeadLetter
		}
		sink, failures, err := narrowed(t, p, onError, rows)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var ids, letters []int64
		for id := range rows {
			if slices.Contains(p.deadly, id) || slices.Contains(p.raising, id) {
				letters = append(letters, id)
				if onError == plan.OnErrorDeadLetter {
					continue
				}
			}
			ids = append(ids, id)
		}
		var got []int64
		for _, row := range sink.rows {
			got = append(got, row[0])
		}
		if !slices.Equal(got, ids) {
			t.Errorf("seed %d: rows %v, want %v", seed, got, ids)
		}
		if failures.Total() != int64(len(letters)) {
			t.Errorf("seed %d: failed on %d rows, want %v", seed, failures.Total(), letters)
		}
		if onError == plan.OnErrorDeadLetter {
			checkLetters(t, failures, letters, p)
		}
		failures.Release()
		p.alloc.(*memory.CheckedAllocator).AssertSize(t, 0)
	}
}

func checkLetters(t *testing.T, failures *exec.Failures, want []int64, p *poisonous) {
	t.Helper()
	reader, err := failures.Letters()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	var got []int64
	for reader.Next() {
		batch := reader.RecordBatch()
		for i, id := range batch.Column(0).(*array.Int64).Int64Values() {
			got = append(got, id)
			kind, row := batch.Column(1).ValueStr(i), batch.Column(5).(*array.Int64).Value(i)
			wanted := exec.FailedException
			if slices.Contains(p.deadly, id) {
				wanted = exec.FailedSignal
			}
			if row != id || kind != string(wanted) {
				t.Errorf("row %d: kind %s, row %d", id, kind, row)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
}

func TestTheTriesOfARowAreBounded(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	const rows, depth = 50, 6 // log2(50), rounded up
	for _, tells := range []bool{true, false} {
		p := &poisonous{alloc: alloc, deadly: []int64{37}, tells: tells}
		_, failures, err := narrowed(t, p, plan.OnErrorDeadLetter, rows)
		if err != nil {
			t.Fatal(err)
		}
		failures.Release()
		// A bundle that does well is run twice here.
		most := 1 + 2*2*depth
		if tells {
			most = 1 + 2 + 1 + 2
		}
		if p.tried > rows+most {
			t.Errorf("tells %v: %d tries", tells, p.tried)
		}
	}
}

func TestTheRowThatFailsAJobIsFound(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	p := &poisonous{alloc: alloc, deadly: []int64{0}}
	_, _, err := narrowed(t, p, plan.OnErrorFail, 1)
	failure, ok := errors.AsType[*exec.BundleFailure](err)
	if !ok || failure.Diagnostic.Row == nil || failure.Diagnostic.Row.Index != 0 {
		t.Errorf("%v", err)
	}
	if diag.From(err).Code != diag.WorkerDied {
		t.Errorf("%v", err)
	}
}

func TestFatalFailuresAreNotNarrowedDown(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	tried := 0
	runner := &pureRunner{apply: func([]arrow.RecordBatch) ([]arrow.RecordBatch, error) {
		tried++
		return nil, &exec.BundleFailure{Diagnostic: diag.New(diag.FunctionRaised, "no model"), Kind: exec.FailedException, Row: -1, Fatal: true}
	}}
	b := newBundler(runner, &exec.FunctionStage{Input: oneColumn, OnError: plan.OnErrorNull})
	input := numbers(alloc, oneColumn, 1, 2, 3)
	whole := piece{input: input, columns: []int{0}}
	source := newOneBatch(input, whole.columns, oneColumn)
	task := &task{release: input.Release, fail: b.recovery(whole, func(context.Context, piece, []arrow.RecordBatch, *exec.Output) error {
		t.Error("something was emitted")
		return nil
	})}
	err := b.run(t.Context(), false, func(ctx context.Context) error { return b.submit(ctx, source, 0, task) }, nil)
	if err == nil || !strings.Contains(err.Error(), "no model") || tried != 1 {
		t.Errorf("%d tries: %v", tried, err)
	}
}
