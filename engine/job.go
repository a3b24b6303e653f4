package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/checkpoint"
	"github.com/alink-runtime/alink/engine/exec"
)

// Limits of the user output that waits for a reader; what comes on top is
// counted and dropped.
const (
	logLinesMax = 10_000
	logBytesMax = 16 << 20
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
	// checkpoints is nil for a job without them.
	checkpoints *checkpoint.Coordinator

	mu        sync.Mutex
	lines     []exec.LogLine
	lineBytes int // of the lines' texts
	dropped   int
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
	return &Job{
		graph: exec.NewGraph(exec.Options{
			SpillDir: e.options.SpillDir, SpoolBytes: e.shares().spoolBytes, QueuesBytes: e.shares().queuesBytes,
		}), ctx: ctx, cancel: cancel,
		done: make(chan struct{}), results: map[string]*result{},
	}
}

// start runs the job; release gives back what it was built from.
func (j *Job) start(release func()) {
	j.began = time.Now()
	go func() {
		defer close(j.done)
		j.err = j.run()
		j.elapsed.Store(int64(time.Since(j.began)))
		release()
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
		j.log(exec.LogLine{Level: "INFO", Text: "the job had reached its end before; there is nothing left to do"})
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

// Checkpoints is what the job's checkpoints have done; nil for a job without.
func (j *Job) Checkpoints() *checkpoint.Stats {
	if j.checkpoints == nil {
		return nil
	}
	stats := j.checkpoints.Stats()
	return &stats
}

// Cancel asks the job to end; Wait tells when it has.
func (j *Job) Cancel() { j.cancel(errCancelled) }

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

// Elapsed is the time since the start, or that the job has taken.
func (j *Job) Elapsed() time.Duration {
	if j.ended() {
		return time.Duration(j.elapsed.Load())
	}
	return time.Since(j.began)
}

func (j *Job) log(line exec.LogLine) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) == logLinesMax || j.lineBytes+len(line.Text) > logBytesMax {
		j.dropped++
		return
	}
	j.lines = append(j.lines, line)
	j.lineBytes += len(line.Text)
}

// TakeLog gives the lines that functions have printed and logged since the
// last call.
func (j *Job) TakeLog() []exec.LogLine {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	if j.dropped > 0 {
		lines = append(lines, exec.LogLine{Level: "WARNING", Text: fmt.Sprintf("%d lines of output were dropped", j.dropped)})
	}
	j.lines, j.lineBytes, j.dropped = nil, 0, 0
	return lines
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
