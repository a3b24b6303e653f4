package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/checkpoint"
	"github.com/alink-runtime/alink/engine/exec"
)

// State is what has become of a job.
type State string

// The states.
const (
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Job is a plan that runs or has run.
type Job struct {
	// ID is the job's name within its engine.
	ID string

	graph   *exec.Graph
	ctx     context.Context //nolint:containedctx // the job's own life, not a call's
	cancel  context.CancelCauseFunc
	done    chan struct{}
	began   time.Time
	elapsed atomic.Int64 // nanoseconds, once done
	err     error        // set before done is closed
	results map[string]*result
	endedBy atomic.Pointer[string]
	// checkpoints is nil for a job without them.
	checkpoints *checkpoint.Coordinator
	// output is what functions print and log on its way to log.
	output *output
	// failures are those of its functions.
	failures []*exec.Failures
	profile  exec.Profile

	lines jobLog
}

// result is what a collect node hands over.
type result struct {
	queue  *exec.Queue
	schema *arrow.Schema
	taken  atomic.Bool
}

var errCancelled = diag.New(diag.Cancelled, "the job was cancelled")

func newJob(e *Engine) *Job {
	ctx, cancel := context.WithCancelCause(context.Background())
	j := &Job{
		graph: exec.NewGraph(exec.Options{
			SpillDir: e.options.SpillDir, SpoolBytes: e.shares().spoolBytes, QueuesBytes: e.shares().queuesBytes,
		}), ctx: ctx, cancel: cancel,
		done: make(chan struct{}), results: map[string]*result{},
	}
	j.output = newOutput(j.log)
	return j
}

// start runs the job; release gives back what it was built from.
func (j *Job) start(release func()) {
	j.began = time.Now()
	go func() {
		defer close(j.done)
		j.err = j.run()
		j.elapsed.Store(int64(time.Since(j.began)))
		release()
		j.output.end()
		j.tellFailures()
		if j.err != nil {
			j.cancel(j.err) // ends the readers of results
			j.drop()
		}
	}()
}

// run executes the dataflow, with checkpoints beside it if there are any.
func (j *Job) run() error {
	if j.checkpoints == nil {
		return j.graph.Run(j.ctx)
	}
	if j.checkpoints.Finished() {
		end := "its end"
		if by := j.checkpoints.EndedBy(); by != "" {
			end = "the end of its " + by
			j.endedBy.Store(&by)
		}
		j.log(exec.LogLine{Level: "INFO", Text: "the job had reached " + end + " before; there is nothing left to do"})
		return nil
	}
	j.checkpoints.Start()
	ctx, stop := context.WithCancelCause(j.ctx)
	defer stop(nil)
	until, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() {
		err := j.checkpoints.Run(until)
		if err != nil {
			stop(err)
		}
		ended <- err
	}()
	err := j.graph.Run(ctx)
	end()
	if failure := <-ended; failure != nil {
		return failure
	}
	if err != nil {
		return err
	}
	return j.checkpoints.Finish()
}

// endBy notes what has ended a stream before its source did.
func (j *Job) endBy(reason string) {
	j.endedBy.Store(&reason)
	if j.checkpoints != nil {
		j.checkpoints.EndBy(reason)
	}
}

// EndedBy is what has ended the job's stream before its source had an end, a
// limit for example; "" is nothing.
func (j *Job) EndedBy() string {
	if by := j.endedBy.Load(); by != nil {
		return *by
	}
	return ""
}

// Checkpoints is what the job's checkpoints have done; nil for a job without.
func (j *Job) Checkpoints() *checkpoint.Stats {
	if j.checkpoints == nil {
		return nil
	}
	stats := j.checkpoints.Stats()
	return &stats
}

// Savepoint makes a checkpoint now and gives its folder once it is complete.
// It is kept as long as the regular ones are.
func (j *Job) Savepoint(ctx context.Context) (string, error) {
	if j.ended() {
		return "", diag.New(diag.BadOption, "job %s has ended: there is nothing to save", j.ID)
	}
	if j.checkpoints == nil {
		return "", diag.New(diag.NotCheckpointed, "job %s makes no checkpoints", j.ID).
			WithHint("only a stream that is written with checkpoint= can be saved")
	}
	return j.checkpoints.Now(ctx)
}

// Cancel asks the job to end; Wait tells when it has.
func (j *Job) Cancel() { j.cancel(errCancelled) }

// CancelBecause is Cancel with a reason, which Wait gives.
func (j *Job) CancelBecause(format string, args ...any) {
	j.cancel(diag.New(diag.Cancelled, format, args...))
}

// Wait returns when the job has ended, with its failure. A job whose result is
// not read does not end when the result is large.
func (j *Job) Wait(ctx context.Context) error {
	if j.ended() {
		return j.err
	}
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Failure is why the job failed; nil while it runs.
func (j *Job) Failure() error {
	if !j.ended() {
		return nil
	}
	return j.err
}

// Done is closed when the job has ended.
func (j *Job) Done() <-chan struct{} { return j.done }

func (j *Job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// State is what has become of the job so far.
func (j *Job) State() State {
	if !j.ended() {
		return Running
	}
	switch {
	case j.err == nil:
		return Succeeded
	case diag.From(j.err).Code == diag.Cancelled:
		return Cancelled
	}
	return Failed
}

// Progress is how far each operator is.
func (j *Job) Progress() []exec.Progress { return j.graph.Progress() }

// Profile is what samples of its functions tell: microseconds by stack, where
// the plan asks for it.
func (j *Job) Profile() map[string]int64 { return j.profile.Stacks() }

// Began is when the job was started.
func (j *Job) Began() time.Time { return j.began }

// Elapsed is the time since the start, or that the job has taken.
func (j *Job) Elapsed() time.Duration {
	if j.ended() {
		return time.Duration(j.elapsed.Load())
	}
	return time.Since(j.began)
}

func (j *Job) log(line exec.LogLine) { j.lines.add(line) }

// Log gives what functions have printed and logged: the lines from number
// `from` on, counted from 0, and the number to go on with. Several readers may
// follow a job, each at its own pace; one that has fallen behind what is kept
// is told how many lines it has missed.
func (j *Job) Log(from int) (lines []exec.LogLine, next int) { return j.lines.after(from) }

// tellFailures says on how many rows functions have failed, for those who did
// not ask.
func (j *Job) tellFailures() {
	for _, f := range j.failures {
		if text := f.Summary(); text != "" {
			j.log(exec.LogLine{Function: f.Function(), Level: "WARNING", Text: text})
		}
	}
}

// DeadLetters are the rows that have been left out of the job's results since a
// function failed on them, one table for each call of such a function. They can
// be read while the job runs and after it has failed, until it is forgotten.
func (j *Job) DeadLetters() []*exec.Failures {
	var kept []*exec.Failures
	for _, f := range j.failures {
		if f.Rows() != nil {
			kept = append(kept, f)
		}
	}
	return kept
}

// forget gives up what is kept of an ended job for those who ask.
func (j *Job) forget() {
	j.drop()
	j.releaseLetters()
}

// releaseLetters gives up the dead letters.
func (j *Job) releaseLetters() {
	for _, f := range j.failures {
		f.Release()
	}
}

// lettersBytes are those of the dead letters.
func (j *Job) lettersBytes() (bytes int64) {
	for _, f := range j.failures {
		bytes += f.Bytes()
	}
	return bytes
}

// drop releases results that nobody has read.
func (j *Job) drop() {
	for _, r := range j.results {
		r.queue.Close()
	}
}

// Result reads the rows of a collect node, once. Reading is what lets the job
// go on when the result is large; closing the reader (Release) before the end
// stops what only serves it.
func (j *Job) Result(node string) (array.RecordReader, error) {
	r := j.results[node]
	if r == nil {
		return nil, diag.New(diag.InvalidPlan, "job %s has no output %q", j.ID, node)
	}
	if !r.taken.CompareAndSwap(false, true) {
		return nil, diag.New(diag.InvalidPlan, "output %q of job %s has been read already", node, j.ID)
	}
	reader := &resultReader{job: j, result: r}
	reader.references.Store(1)
	return reader, nil
}

// resultReader implements array.RecordReader on a job's result.
type resultReader struct {
	job        *Job
	result     *result
	batch      arrow.RecordBatch
	ended      bool
	err        error
	references atomic.Int64
}

// Retain implements array.RecordReader.
func (r *resultReader) Retain() { r.references.Add(1) }

// Release implements array.RecordReader.
func (r *resultReader) Release() {
	if r.references.Add(-1) > 0 {
		return
	}
	r.clear()
	r.result.queue.Close()
}

func (r *resultReader) clear() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// Schema implements array.RecordReader.
func (r *resultReader) Schema() *arrow.Schema { return r.result.schema }

// Next implements array.RecordReader.
func (r *resultReader) Next() bool {
	r.clear()
	if r.ended || r.err != nil {
		return false
	}
	e, err := r.result.queue.Get(r.job.ctx)
	switch {
	case errors.Is(err, exec.ErrStopped):
		if r.err = context.Cause(r.job.ctx); r.err == nil {
			r.err = diag.New(diag.InvalidPlan, "the rows of job %s are gone: they were not read in time", r.job.ID)
		}
		return false
	case err != nil:
		r.err = err
		return false
	case e.Kind == exec.KindEnd:
		r.ended = true
		return false
	}
	r.batch = e.Batch
	return true
}

// RecordBatch implements array.RecordReader; the batch lives until Next.
func (r *resultReader) RecordBatch() arrow.RecordBatch { return r.batch }

// Record implements array.RecordReader under its old name.
func (r *resultReader) Record() arrow.RecordBatch { return r.batch }

// Err implements array.RecordReader.
func (r *resultReader) Err() error { return r.err }
