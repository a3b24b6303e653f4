package ops

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// trainers are workers that add up the rows of a file: first the sum, then the
// least and the largest, and then each tells its rank. The result is a row of
// each of these.
type trainers struct {
	t     *testing.T
	alloc memory.Allocator
	path  string
	// goes is asked before each step; an attempt is a round of sessions.
	goes func(attempt, rank int, step int64) (exec.TrainKind, error)

	size int
	// none says that the result has no rows.
	none bool

	mu     sync.Mutex
	opened int
	left   int
}

func (r *trainers) attempts() int { return r.opened / r.size }

func (r *trainers) Open(context.Context, *exec.FunctionStage) (exec.FunctionSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened++
	return &trainer{trainers: r, attempt: (r.opened-1)/r.size + 1}, nil
}

// trainer is one worker in one attempt. Its bundles are done when they are
// submitted.
type trainer struct {
	*trainers
	attempt int
	start   exec.TrainStart
	known   []float64
	bundles []*fakeBundle
}

func (w *trainer) Probe(context.Context, exec.BatchSource, int64) (exec.Bundle, error) {
	return nil, errors.New("a training is not narrowed down")
}

func (w *trainer) Close() error {
	for _, b := range w.bundles {
		releaseAll(b.results)
	}
	return nil
}

func (w *trainer) Submit(ctx context.Context, input exec.BatchSource, _ int64) (exec.Bundle, error) {
	reader, err := input.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	batch, err := reader.Next(ctx)
	if err != nil {
		return nil, err
	}
	defer batch.Release()
	step := batch.Column(0).(*array.Int64).Value(0)
	body := slices.Clone(batch.Column(1).(*array.LargeBinary).Value(0))
	b := &fakeBundle{done: make(chan struct{})}
	close(b.done)
	b.results, b.err = w.step(step, body)
	w.bundles = append(w.bundles, b)
	return b, nil
}

func (w *trainer) step(step int64, body []byte) ([]arrow.RecordBatch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if step < 0 {
		w.left++
		return nil, nil
	}
	if step == 0 {
		if err := json.Unmarshal(body, &w.start); err != nil {
			return nil, err
		}
	}
	if w.goes != nil {
		if kind, err := w.goes(w.attempt, w.start.Rank, step); kind != "" || err != nil {
			return w.answer(kind, nil), err
		}
	}
	if step > 0 && step < 4 {
		w.known = append(w.known, math.Float64frombits(binary.LittleEndian.Uint64(body)))
	}
	switch step {
	case 0:
		sum := 0.0
		for _, x := range w.rows() {
			sum += x
		}
		return w.answer(exec.TrainSum, float(sum)), nil
	case 1:
		return w.answer(exec.TrainLeast, float(slices.Min(w.rows()))), nil
	case 2:
		return w.answer(exec.TrainLargest, float(slices.Max(w.rows()))), nil
	case 3:
		return w.answer(exec.TrainGather, fmt.Appendf(nil, "%d", w.start.Rank)), nil
	}
	return w.result(body), nil
}

// rows are those of the worker's share.
func (w *trainer) rows() (rows []float64) {
	all := readTable(w.t, w.path)
	from, to := len(all)*w.start.Rank/w.start.Size, len(all)*(w.start.Rank+1)/w.start.Size
	for _, x := range all[from:to] {
		rows = append(rows, float64(x))
	}
	return rows
}

func float(x float64) []byte {
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))
}

var trainAnswers = arrow.NewSchema(append(slices.Clone(exec.TrainOutput), result.Fields()...), nil)

func (w *trainer) answer(kind exec.TrainKind, body []byte) []arrow.RecordBatch {
	if kind == "" {
		return nil
	}
	b := array.NewRecordBuilder(w.alloc, trainAnswers)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append(string(kind))
	b.Field(1).(*array.BinaryBuilder).Append(body)
	b.Field(2).AppendNull()
	return []arrow.RecordBatch{b.NewRecordBatch()}
}

// result is what the first worker knows at the end: the totals, and the ranks
// that were gathered; the others have nothing to give.
func (w *trainer) result(gathered []byte) []arrow.RecordBatch {
	if w.start.Rank > 0 || w.none {
		return nil
	}
	values := []int64{}
	for _, x := range w.known {
		values = append(values, int64(x))
	}
	for len(gathered) > 0 {
		size := binary.LittleEndian.Uint64(gathered)
		values = append(values, int64(gathered[8]-'0'))
		gathered = gathered[8+size:]
	}
	b := array.NewRecordBuilder(w.alloc, trainAnswers)
	defer b.Release()
	for _, v := range values {
		b.Field(0).(*array.StringBuilder).Append(string(exec.TrainDone))
		b.Field(1).AppendNull()
		b.Field(2).(*array.Int64Builder).Append(v)
	}
	return []arrow.RecordBatch{b.NewRecordBatch()}
}

// trained runs a training over the ids below 60.
func trained(t *testing.T, r *trainers, size, retries int, share int64) ([]int64, error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "rows.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	r.t, r.path = t, file.Name()
	r.size = size
	if share > 0 {
		r.size = 1
	}
	call := exec.FunctionCall{Function: &plan.Function{Name: "f", Kind: plan.TrainFunction}}
	stage := &exec.FunctionStage{ID: "f", Kind: exec.StageTrain, Calls: []exec.FunctionCall{call}, Input: exec.TrainInput, Output: trainAnswers}
	training := &Training{
		Runner: r, Stage: stage, Columns: []int{0}, Rows: oneColumn, File: file, Retries: retries, WorkersMax: size, ShareBytes: share,
	}
	sink := &keep{}
	err = runThrough(t, r.alloc, 60, func(int) exec.Operator { return training }, 1, sink)
	var values []int64
	for _, row := range sink.rows {
		values = append(values, row...)
	}
	return values, err
}

func TestTrainingTogether(t *testing.T) {
	for _, c := range []struct {
		size  int
		share int64
		want  []int64
	}{
		{1, 0, []int64{1770, 0, 59, 0}},
		{4, 0, []int64{1770, 0, 59, 0, 1, 2, 3}},
		{4, 1 << 20, []int64{1770, 0, 59, 0}}, // so few bytes are not worth a second worker
	} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		r := &trainers{alloc: alloc}
		got, err := trained(t, r, c.size, 2, c.share)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%d workers: %v, %v", c.size, got, err)
		}
		if workers := len(c.want) - 3; r.opened != workers || r.attempts() != 1 || r.left != 0 {
			t.Errorf("%d workers: %d sessions, %d attempts, %d left", c.size, r.opened, r.attempts(), r.left)
		}
		alloc.AssertSize(t, 0)
	}
}

func died(kind exec.FailureKind) error {
	return &exec.BundleFailure{Diagnostic: diag.New(diag.WorkerDied, "a worker died"), Kind: kind, Row: -1, Deaths: []exec.FailureKind{kind}}
}

// Where a worker is lost, all begin again, as often as they may; the result is
// the same.
func TestTrainingBeginsAgain(t *testing.T) {
	raised := &exec.BundleFailure{Diagnostic: diag.New(diag.FunctionRaised, "f raised"), Kind: exec.FailedException, Row: -1}
	for _, c := range []struct {
		name string
		// failures are how many attempts fail at all.
		failures int
		err      error
		kind     exec.TrainKind
		retries  int
		want     string // "" means the result
	}{
		{"once", 1, died(exec.FailedMemory), "", 2, ""},
		{"twice", 2, died(exec.FailedSignal), "", 2, ""},
		{"too often", 3, died(exec.FailedExit), "", 2, "a worker died"},
		{"never again", 1, died(exec.FailedMemory), "", 0, "a worker died"},
		{"kills from outside", trainKillsMax, died(exec.FailedKilled), "", 2, ""},
		{"too many kills", trainKillsMax + 1, died(exec.FailedKilled), "", 2, "a worker died"},
		{"replaced between steps", 3, nil, exec.TrainLost, 2, ""},
		{"an exception", 1, raised, "", 2, "f raised"},
		{"another kind", 1, nil, exec.TrainGather, 2, "the workers of f went apart"},
		{"an end too early", 1, nil, exec.TrainDone, 2, "the workers of f went apart"},
		{"nonsense", 1, nil, "median", 2, "the workers of f went apart"},
	} {
		for rank := range 3 {
			alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
			r := &trainers{alloc: alloc}
			r.goes = func(attempt, at int, step int64) (exec.TrainKind, error) {
				if attempt <= c.failures && at == rank && step == int64(attempt%3) {
					return c.kind, c.err
				}
				return "", nil
			}
			got, err := trained(t, r, 3, c.retries, 0)
			switch {
			case c.want == "" && (err != nil || !slices.Equal(got, []int64{1770, 0, 59, 0, 1, 2})):
				t.Errorf("%s, rank %d: %v, %v", c.name, rank, got, err)
			case c.want == "" && r.attempts() != c.failures+1:
				t.Errorf("%s, rank %d: %d attempts", c.name, rank, r.attempts())
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%s, rank %d: %v", c.name, rank, err)
			}
			alloc.AssertSize(t, 0)
		}
	}
}

// A result without rows is one.
func TestTrainingWithoutRows(t *testing.T) {
	r := &trainers{alloc: memory.DefaultAllocator, none: true}
	if got, err := trained(t, r, 2, 2, 0); err != nil || len(got) != 0 || r.attempts() != 1 {
		t.Errorf("%v, %v after %d attempts", got, err, r.attempts())
	}
}

// The workers that wait for another one that has failed are told to stop.
func TestTrainingIsLeft(t *testing.T) {
	r := &trainers{alloc: memory.DefaultAllocator}
	r.goes = func(_, rank int, step int64) (exec.TrainKind, error) {
		if rank == 1 && step == 2 {
			return "", errBoom
		}
		return "", nil
	}
	if _, err := trained(t, r, 3, 2, 0); !errors.Is(err, errBoom) {
		t.Errorf("the training ended with %v", err)
	}
	if r.left != 3 {
		t.Errorf("%d of 3 workers were told to stop", r.left)
	}
}

// lateTrainers read a bundle's input when nobody waits for the bundle any more, as
// a session does that is sending when its operator is told to stop.
type lateTrainers struct {
	submitted chan struct{}
	read      []int64
}

func (r *lateTrainers) Open(context.Context, *exec.FunctionStage) (exec.FunctionSession, error) {
	return &lateTrainer{lateTrainers: r}, nil
}

type lateTrainer struct {
	*lateTrainers
	inputs []exec.BatchSource
}

func (w *lateTrainer) Probe(context.Context, exec.BatchSource, int64) (exec.Bundle, error) {
	return nil, errors.New("a training is not narrowed down")
}

func (w *lateTrainer) Submit(ctx context.Context, input exec.BatchSource, _ int64) (exec.Bundle, error) {
	if ctx.Err() == nil {
		w.inputs = append(w.inputs, input)
	}
	select {
	case <-w.submitted:
		return nil, errDroppedLate // the session has stopped
	default:
		close(w.submitted)
	}
	return &fakeBundle{done: make(chan struct{})}, nil // never done
}

func (w *lateTrainer) Close() error {
	for _, input := range w.inputs {
		reader, err := input.Open(context.Background())
		if err != nil {
			return err
		}
		batch, err := reader.Next(context.Background())
		if err != nil {
			return err
		}
		w.read = append(w.read, batch.Column(0).(*array.Int64).Value(0))
		batch.Release()
		reader.Close()
	}
	return nil
}

var errDroppedLate = errors.New("the session was closed")

// A step that is still on its way when the training is given up stays whole.
func TestTrainingIsGivenUpWhileAStepIsSent(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "rows.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	r := &lateTrainers{submitted: make(chan struct{})}
	call := exec.FunctionCall{Function: &plan.Function{Name: "f", Kind: plan.TrainFunction}}
	stage := &exec.FunctionStage{ID: "f", Kind: exec.StageTrain, Calls: []exec.FunctionCall{call}, Input: exec.TrainInput, Output: trainAnswers}
	training := &Training{Runner: r, Stage: stage, Columns: []int{0}, Rows: oneColumn, File: file, Retries: 2, WorkersMax: 1}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		<-r.submitted
		stop()
	}()
	if _, err := training.attempt(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("the training ended with %v", err)
	}
	if !slices.Equal(r.read, []int64{0, -1}) {
		t.Errorf("the steps that were sent were %v", r.read)
	}
}
