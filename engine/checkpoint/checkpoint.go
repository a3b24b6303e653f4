// Package checkpoint notes how far a job is, so that the same job goes on from
// there after its engine has ended, however that ended. A coordinator lets the
// sources begin a checkpoint every interval, gathers what the subtasks hand
// over when the barrier reaches them, and writes a folder that is complete or
// not there. The package implements exec.Keeper and imports exec, plan and
// diag.
package checkpoint

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// keptDefault is the number of complete checkpoints that are kept.
const keptDefault = 3

// Options configure a Coordinator.
type Options struct {
	// Dir is a folder for this job alone; it is made if it is not there.
	Dir string
	// Interval is the time from the end of a checkpoint to the next one's
	// beginning, at least.
	Interval time.Duration
	// Steps are the plan's. A checkpoint of other steps is refused.
	Steps []plan.Step
	// Log is told what the user should know although the job goes on.
	Log func(text string)
	// Allocator is for what is read back; nil means Arrow's default.
	Allocator memory.Allocator
	// files stands in for the file system in tests; nil is the real one.
	files files
}

// Stats are what a job's checkpoints have done since it was started.
type Stats struct {
	// Completed counts checkpoints; Last is the latest one's number.
	Completed int    `json:"completed"`
	Last      uint64 `json:"last"`
	// LastDurationMS is from its beginning to its being complete, LastBytes the
	// size of its files.
	LastDurationMS float64 `json:"last_duration_ms"`
	LastBytes      int64   `json:"last_bytes"`
	// Restored is the checkpoint that the job went on from; 0 if it started
	// afresh.
	Restored uint64 `json:"restored"`
}

// Coordinator runs the checkpoints of one job. Subtasks are registered before
// Run.
type Coordinator struct {
	options  Options
	folder   *folder
	restored *manifest // nil if the job starts afresh
	sources  []chan uint64
	subtasks map[subtask]bool
	complete []func(id uint64) error
	acks     chan ack
	stats    atomic.Pointer[Stats]
	endedBy  atomic.Pointer[string]
	// requests are those of Now; ended is closed when nobody takes them any
	// more.
	requests chan request
	ended    chan struct{}
	end      sync.Once

	// What follows belongs to Run, and then to Finish.
	next    uint64
	current *running
	final   []ack
	// asked are requests for a checkpoint that has not begun.
	asked []request
}

// request is of a checkpoint out of turn; it is sent the folder of it. The
// channel has room for one.
type request chan string

type subtask struct {
	vertex string
	index  int
}

// ack is what a subtask hands over.
type ack struct {
	subtask
	barrier  uint64
	snapshot exec.Snapshot
}

// running is a checkpoint that is not complete.
type running struct {
	id      uint64
	began   time.Time
	draft   *draft
	waiting map[subtask]bool
	asked   []request
}

// End is the barrier of what a subtask hands over at the end of its input.
const End uint64 = 0

// Open locks the folder and finds the newest checkpoint that is complete.
// Close must be called.
func Open(options Options) (_ *Coordinator, err error) {
	if options.Allocator == nil {
		options.Allocator = memory.DefaultAllocator
	}
	if options.files == nil {
		options.files = disk{}
	}
	f, err := openFolder(options)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{
		options: options, folder: f, subtasks: map[subtask]bool{}, next: 1,
		requests: make(chan request), ended: make(chan struct{}),
	}
	c.stats.Store(&Stats{})
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.restored, err = f.newest(); err != nil {
		return nil, err
	}
	if c.restored != nil {
		if difference := plan.Difference(c.restored.Steps, options.Steps); difference != "" {
			return nil, diag.New(diag.PlanChanged, "the checkpoint in %s was made by another plan: %s", options.Dir, difference).
				WithHint("put the plan back, or give this one another checkpoint folder and name")
		}
		c.next = c.restored.ID + 1
		c.stats.Store(&Stats{Restored: c.restored.ID})
	}
	return c, nil
}

// Finished reports whether the job had reached its end: then it need not run.
func (c *Coordinator) Finished() bool { return c.restored != nil && c.restored.Finished }

// EndedBy is what ended a finished job before its source had an end; "" where
// the source had one.
func (c *Coordinator) EndedBy() string {
	if c.restored == nil {
		return ""
	}
	return c.restored.EndedBy
}

// EndBy notes what ends the job before its source has an end. It may be called
// at any time before Finish.
func (c *Coordinator) EndBy(reason string) { c.endedBy.Store(&reason) }

// Stats may be called at any time.
func (c *Coordinator) Stats() Stats { return *c.stats.Load() }

// OnComplete has f called with the number of each checkpoint once it is
// complete, by one goroutine.
func (c *Coordinator) OnComplete(f func(id uint64) error) { c.complete = append(c.complete, f) }

// Keeper is the part of a subtask that remembers something.
func (c *Coordinator) Keeper(vertex string, index int) exec.Keeper {
	s := subtask{vertex, index}
	c.subtasks[s] = true
	return &keeper{coordinator: c, subtask: s}
}

// Source is Keeper for a source, which also begins checkpoints.
func (c *Coordinator) Source(vertex string) exec.Keeper {
	barriers := make(chan uint64, 1)
	c.sources = append(c.sources, barriers)
	s := subtask{vertex, 0}
	c.subtasks[s] = true
	return &keeper{c, s, barriers}
}

// keeper implements exec.Keeper.
type keeper struct {
	coordinator *Coordinator
	subtask     subtask
	barriers    chan uint64
}

func (k *keeper) Barriers() <-chan uint64 { return k.barriers }

func (k *keeper) Restored() ([]exec.Snapshot, error) {
	c := k.coordinator
	if c.restored == nil {
		return nil, nil
	}
	return c.folder.load(c.restored, k.subtask.vertex, c.options.Allocator)
}

func (k *keeper) Keep(ctx context.Context, barrier uint64, s exec.Snapshot) error {
	select {
	case k.coordinator.acks <- ack{k.subtask, barrier, s}:
		return nil
	case <-ctx.Done():
		s.Release()
		return context.Cause(ctx)
	}
}

// Start is called once when all subtasks are registered, before any of them
// runs.
func (c *Coordinator) Start() {
	// Each subtask hands over one thing for a checkpoint and one at its end.
	c.acks = make(chan ack, 2*len(c.subtasks))
}

// Run makes checkpoints until ctx ends, which is not an error, or one cannot
// be written, which ends the job: an output that has silently stopped to
// appear helps nobody.
func (c *Coordinator) Run(ctx context.Context) error {
	timer := time.NewTimer(c.options.Interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			if c.current != nil {
				continue // one that was asked for; the timer is set at its end
			}
			if err := c.begin(); err != nil {
				return err
			}
		case r := <-c.requests:
			// What is under way has begun before it was asked for.
			c.asked = append(c.asked, r)
			if c.current != nil {
				continue
			}
			if err := c.begin(); err != nil {
				return err
			}
		case a := <-c.acks:
			done, err := c.take(a)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			timer.Reset(c.options.Interval)
			if len(c.asked) == 0 {
				continue
			}
			if err := c.begin(); err != nil {
				return err
			}
		}
	}
}

// Now makes a checkpoint that begins after this call, and gives its folder
// once it is complete. The end of the job is one too.
func (c *Coordinator) Now(ctx context.Context) (string, error) {
	r := make(request, 1)
	ended := diag.New(diag.CheckpointFailed, "the job ended before the checkpoint was complete")
	select {
	case c.requests <- r:
	case <-c.ended:
		return "", ended
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	select {
	case dir := <-r:
		return dir, nil
	case <-c.ended:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	select {
	case dir := <-r: // it was complete before the end
		return dir, nil
	default:
		return "", ended
	}
}

func (c *Coordinator) begin() error {
	d, err := c.folder.begin(c.next)
	if err != nil {
		return c.failed(err)
	}
	c.current = &running{id: c.next, began: time.Now(), draft: d, waiting: map[subtask]bool{}, asked: c.asked}
	c.asked = nil
	for s := range c.subtasks {
		c.current.waiting[s] = true
	}
	c.next++
	for _, source := range c.sources {
		source <- c.current.id // it took the one before
	}
	return nil
}

// take writes what a subtask has handed over; done says that this has
// completed the checkpoint.
func (c *Coordinator) take(a ack) (done bool, err error) {
	if a.barrier == End {
		c.final = append(c.final, a)
		return false, nil
	}
	defer a.snapshot.Release()
	if c.current == nil || a.barrier != c.current.id || !c.current.waiting[a.subtask] {
		return false, diag.New(diag.Internal, "subtask %d of %s answered to checkpoint %d, which does not run", a.index, a.vertex, a.barrier)
	}
	if err := c.current.draft.add(a); err != nil {
		return false, c.failed(err)
	}
	delete(c.current.waiting, a.subtask)
	if len(c.current.waiting) > 0 {
		return false, nil
	}
	return true, c.commit(false)
}

// commit makes the current checkpoint the newest.
func (c *Coordinator) commit(finished bool) error {
	r := c.current
	c.current = nil
	endedBy := ""
	if text := c.endedBy.Load(); finished && text != nil {
		endedBy = *text
	}
	if err := r.draft.commit(finished, endedBy, c.options.Steps); err != nil {
		return c.failed(err)
	}
	before := c.Stats()
	c.stats.Store(&Stats{
		Completed: before.Completed + 1, Last: r.id, LastBytes: r.draft.bytes, Restored: before.Restored,
		LastDurationMS: float64(time.Since(r.began).Microseconds()) / 1000,
	})
	id := r.id
	if finished {
		id = math.MaxUint64
	}
	for _, f := range c.complete {
		if err := f(id); err != nil {
			return err
		}
	}
	for _, asked := range r.asked {
		asked <- c.folder.path(completePrefix, r.id)
	}
	c.folder.forget(r.id, keptDefault)
	return nil
}

// Finish notes that the job has reached its end. Run has returned.
func (c *Coordinator) Finish() error {
	for len(c.acks) > 0 {
		if a := <-c.acks; a.barrier == End {
			c.final = append(c.final, a)
		} else {
			a.snapshot.Release() // of a checkpoint that the end has overtaken
		}
	}
	asked := c.asked
	if c.current != nil {
		c.current.draft.discard()
		asked = append(asked, c.current.asked...)
	}
	d, err := c.folder.begin(c.next)
	if err != nil {
		return c.failed(err)
	}
	c.current = &running{id: c.next, began: time.Now(), draft: d, asked: asked}
	for _, a := range c.final {
		if err := d.add(a); err != nil {
			return c.failed(err)
		}
	}
	return c.commit(true)
}

func (c *Coordinator) failed(err error) error {
	return diag.New(diag.CheckpointFailed, "a checkpoint could not be written to %s", c.options.Dir).WithCause(err).
		WithHint("check that the disk has room and that the folder may be written to; started again, the job goes on from the last checkpoint")
}

// Close gives the folder free. No subtask runs any more. It may be called more
// than once.
func (c *Coordinator) Close() {
	c.end.Do(func() { close(c.ended) })
	if c.current != nil && c.current.draft != nil {
		c.current.draft.discard()
	}
	for _, a := range c.final {
		a.snapshot.Release()
	}
	c.final = nil
	for len(c.acks) > 0 {
		(<-c.acks).snapshot.Release()
	}
	c.folder.close()
}
