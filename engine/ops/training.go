package ops

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// Training runs a function in workers that share its rows: each has a part of
// them and runs the whole function, and what they have to know of all rows, the
// engine makes of what each of them gives. The rows lie in a file that all of
// them map into their memory and read as often as they like.
//
// Where a worker is lost all begin again: they would have to wait for it anyway,
// and what they have done is not kept twice. Since totals are added up in the
// order of the ranks, the result is the same.
type Training struct {
	Runner  exec.FunctionRunner
	Stage   *exec.FunctionStage
	Columns []int
	// Rows is the schema of the file, File is empty. The operator closes it;
	// whoever made it removes it.
	Rows *arrow.Schema
	File *os.File
	// Retries is how often the function may begin again after a worker died of
	// what it did. The stage's own is 0.
	Retries int
	// WorkersMax is how many workers there are at most, ShareBytes how many
	// bytes of rows make one more worthwhile; 0 that there are so many.
	WorkersMax int
	ShareBytes int64
}

// trainKillsMax is how often a training begins again after a worker was ended
// by something else than what it did, as far as one can tell.
const trainKillsMax = 8

// TrainShareBytes is the ShareBytes that pays for a worker's start.
const TrainShareBytes = 8 << 20

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (t *Training) OwnTime() {}

// Run implements exec.Operator.
func (t *Training) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	bytes, err := writeTable(ctx, in[0], t.Columns, t.Rows, t.File, t.unwritable)
	if err = errors.Join(err, t.File.Close()); err != nil {
		return err
	}
	size := t.WorkersMax
	if t.ShareBytes > 0 {
		size = int(max(1, min(int64(size), bytes/t.ShareBytes)))
	}
	deaths, kills := 0, 0
	for {
		results, err := t.attempt(ctx, size)
		if err == nil {
			return emitAll(ctx, results, out)
		}
		switch kind := diedOf(err); {
		case kind == "" || ctx.Err() != nil:
			return err
		case kind == exec.FailedKilled || kind == exec.FailedLost:
			kills++
		default:
			deaths++
		}
		if t.Retries == 0 || deaths > t.Retries || kills > trainKillsMax {
			return err
		}
	}
}

func (t *Training) unwritable(err error) error {
	call := t.Stage.Calls[0]
	return diag.New(diag.OutputUnwritable, "the rows for %s could not be written to the spill directory", call.Function.Name).
		WithCause(err).WithHint("free space on the disk, or name another folder with al.connect(spill_dir=...)").At(call.Operator, call.Origin)
}

// errLost is the end of an attempt whose worker was replaced between two steps.
var errLost = errors.New("a worker of the training was lost")

// diedOf is how the worker died that ended an attempt; "" where none did.
func diedOf(err error) exec.FailureKind {
	if errors.Is(err, errLost) {
		return exec.FailedLost
	}
	if failure, ok := errors.AsType[*exec.BundleFailure](err); ok {
		switch failure.Kind {
		case exec.FailedMemory, exec.FailedSignal, exec.FailedExit, exec.FailedKilled, exec.FailedLost:
			return failure.Kind
		}
	}
	return ""
}

// attempt runs the function once, from its beginning.
func (t *Training) attempt(ctx context.Context, size int) (results []arrow.RecordBatch, err error) {
	leases := make([]*lease, size)
	for i := range leases {
		leases[i] = &lease{runner: t.Runner, stage: t.Stage}
	}
	defer func() {
		for _, l := range leases {
			if err != nil {
				leaveTraining(ctx, l)
			}
			err = errors.Join(err, l.close())
		}
		if err != nil {
			releaseAll(results)
			results = nil
		}
	}()
	if err := each(ctx, size, func(ctx context.Context, rank int) error { return leases[rank].open(ctx) }); err != nil {
		return nil, err
	}
	bodies := make([][]byte, size)
	for rank := range bodies {
		// Half of what a worker may hold is left for what it computes with.
		start := exec.TrainStart{Rank: rank, Size: size, CacheBytes: t.Stage.MemoryBytes / 2}
		if bodies[rank], err = json.Marshal(start); err != nil {
			return nil, err
		}
	}
	for step := int64(0); bodies != nil && err == nil; step++ {
		results, bodies, err = t.round(ctx, leases, step, bodies)
	}
	return results, err
}

// round takes all workers a step further. It gives the result, or what they are
// to be told next.
func (t *Training) round(ctx context.Context, leases []*lease, step int64, bodies [][]byte) (results []arrow.RecordBatch, next [][]byte, err error) {
	answers := make([]answer, len(leases))
	err = each(ctx, len(leases), func(ctx context.Context, rank int) (err error) {
		answers[rank], err = t.step(ctx, leases[rank].session, step, bodies[rank])
		return err
	})
	if err == nil {
		err = t.agree(answers)
	}
	switch {
	case err != nil:
	case answers[0].kind == exec.TrainDone:
		results, answers = answers[0].result, answers[1:]
	default:
		next, err = t.total(answers)
	}
	for _, a := range answers {
		releaseAll(a.result)
	}
	return results, next, err
}

// leaveTrainingMax is how long a worker may take to end a function that waits.
const leaveTrainingMax = time.Second

// leaveTraining has a worker end a function that waits for what the others have.
// One that does not wait is ended with its worker, by the end of its bundle.
func leaveTraining(ctx context.Context, l *lease) {
	if l.session == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), leaveTrainingMax)
	defer stop()
	if bundle, err := l.session.Submit(ctx, trainStep(-1, nil), 0); err == nil {
		if results, err := bundle.Wait(ctx); err == nil {
			releaseAll(results)
		}
	}
}

// each calls f for each rank at once, and gives the first error.
func each(ctx context.Context, size int, f func(ctx context.Context, rank int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for rank := range size {
		group.Go(func() error { return f(ctx, rank) })
	}
	return group.Wait()
}

// answer is what a worker gives at a step: its body, or the result.
type answer struct {
	kind   exec.TrainKind
	body   []byte
	result []arrow.RecordBatch
}

// step takes one worker a step further.
func (t *Training) step(ctx context.Context, session exec.FunctionSession, step int64, body []byte) (a answer, err error) {
	bundle, err := session.Submit(ctx, trainStep(step, body), 0)
	if err != nil {
		return a, err
	}
	results, err := bundle.Wait(ctx)
	if err != nil {
		return a, err
	}
	return t.read(results)
}

// trainStep is the input of a bundle. Its batch is made when it is read: where
// nobody wants the training any more, nobody waits for the bundle either, which
// may still be on its way to the worker.
func trainStep(step int64, body []byte) oneBatch {
	return func() arrow.RecordBatch { return trainBatch(step, body) }
}

func trainBatch(step int64, body []byte) arrow.RecordBatch {
	steps := array.NewInt64Builder(memory.DefaultAllocator)
	defer steps.Release()
	steps.Append(step)
	bodies := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.LargeBinary)
	defer bodies.Release()
	bodies.Append(body)
	columns := []arrow.Array{steps.NewArray(), bodies.NewArray()}
	defer columns[0].Release()
	defer columns[1].Release()
	return array.NewRecordBatch(exec.TrainInput, columns, 1)
}

// read takes a worker's answer apart, and over.
func (t *Training) read(batches []arrow.RecordBatch) (a answer, err error) {
	a.kind = exec.TrainDone
	defer func() {
		if err != nil {
			releaseAll(a.result)
			a.result = nil
		}
	}()
	for i, batch := range batches {
		kinds, ok := batch.Column(0).(*array.String)
		bodies, alike := batch.Column(1).(*array.LargeBinary)
		if !ok || !alike || kinds.NullN() > 0 {
			err = errors.Join(err, t.strange("an answer has no kind"))
		} else if err == nil && batch.NumRows() > 0 {
			kind := exec.TrainKind(kinds.Value(0))
			switch {
			case kind == exec.TrainDone:
				columns := make([]int, batch.NumCols()-2)
				fields := batch.Schema().Fields()[2:]
				for c := range columns {
					columns[c] = c + 2
				}
				a.result = append(a.result, pick(batch, columns, arrow.NewSchema(fields, nil)))
			case len(batches) > 1 || i > 0 || batch.NumRows() > 1:
				err = t.strange("an answer has several rows")
			case kind == exec.TrainLost:
				err = errLost
			default:
				a.kind, a.body = kind, append([]byte(nil), bodies.Value(0)...)
			}
		}
		batch.Release()
	}
	return a, err
}

// agree reports workers that do not wait for the same.
func (t *Training) agree(answers []answer) error {
	for rank, a := range answers {
		if a.kind != answers[0].kind {
			return t.strange(fmt.Sprintf("worker %d of %d is at %q, the first at %q", rank+1, len(answers), a.kind, answers[0].kind))
		}
	}
	return nil
}

func (t *Training) strange(cause string) error {
	call := t.Stage.Calls[0]
	return diag.New(diag.Internal, "the workers of %s went apart", call.Function.Name).
		WithCause(errors.New(cause)).At(call.Operator, call.Origin)
}

// total makes of what each worker has what all together have, and gives it to
// each of them.
func (t *Training) total(answers []answer) (bodies [][]byte, err error) {
	var total []byte
	switch kind := answers[0].kind; kind {
	case exec.TrainSum:
		total, err = t.reduce(answers, func(a, b float64) float64 { return a + b })
	case exec.TrainLeast:
		total, err = t.reduce(answers, math.Min)
	case exec.TrainLargest:
		total, err = t.reduce(answers, math.Max)
	case exec.TrainGather:
		total = gathered(answers)
	default:
		err = t.strange(fmt.Sprintf("a worker waits for %q", kind))
	}
	return slices.Repeat([][]byte{total}, len(answers)), err
}

// reduce puts numbers together, in the order of the ranks.
func (t *Training) reduce(answers []answer, two func(a, b float64) float64) ([]byte, error) {
	total := answers[0].body
	for _, a := range answers {
		if len(a.body) != len(total) || len(a.body)%8 != 0 {
			return nil, t.strange(fmt.Sprintf("one worker gives %d bytes of numbers, another one %d", len(total), len(a.body)))
		}
	}
	for _, a := range answers[1:] {
		for at := 0; at < len(total); at += 8 {
			x := math.Float64frombits(binary.LittleEndian.Uint64(total[at:]))
			y := math.Float64frombits(binary.LittleEndian.Uint64(a.body[at:]))
			binary.LittleEndian.PutUint64(total[at:], math.Float64bits(two(x, y)))
		}
	}
	return total, nil
}

func gathered(answers []answer) []byte {
	var all []byte
	for _, a := range answers {
		all = binary.LittleEndian.AppendUint64(all, uint64(len(a.body)))
		all = append(all, a.body...)
	}
	return all
}
