package fnapi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/alink-runtime/alink/udfworker"
)

// turnTime is how long a session that shares workers may keep one while others
// wait and it has bundles left: a switch costs the worker a round trip.
const turnTime = 100 * time.Millisecond

// crew are the workers that several sessions share: those of the stages of one
// job that agree in trust domain, environment and limits. A session has a
// worker to itself while it has bundles on it. It gives the worker back when
// others wait and it has nothing to do or has had its turn; they wait in the
// order in which they came.
//
// Nobody waits for ever. What a session sends is complete, and what comes back
// is taken into memory, so a worker that is held needs nobody else to get on:
// the session behind that waits for these results, or the one before that waits
// for room, may wait for a worker meanwhile without keeping this one. So a crew
// gets on with one worker: the others are started as far as there is memory for
// them, and given back when other jobs wait for some.
type crew struct {
	runner     *Runner
	name       string
	workersMax int

	mu sync.Mutex
	// sessions counts those that are open.
	sessions int
	// held counts the workers that the crew has or is starting.
	held int
	// parked are those that no session has.
	parked []*udfworker.Worker
	// waiting are the sessions that want one, the first first; holders those
	// that have one.
	waiting []chan *udfworker.Worker
	holders map[*session]struct{}
}

// join opens a session's crew; the first of its sessions makes it.
func (r *Runner) join(name string, workersMax int) *crew {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.crews[name]
	if c == nil {
		c = &crew{runner: r, name: name, workersMax: max(1, workersMax), holders: map[*session]struct{}{}}
		r.crews[name] = c
	}
	c.mu.Lock()
	c.sessions++
	c.mu.Unlock()
	return c
}

// leave ends a session's part. The last one gives the workers back.
func (c *crew) leave() {
	c.runner.mu.Lock()
	c.mu.Lock()
	c.sessions--
	var parked []*udfworker.Worker
	if c.sessions == 0 {
		delete(c.runner.crews, c.name)
		parked, c.parked = c.parked, nil
		c.held -= len(parked)
	}
	c.mu.Unlock()
	c.runner.mu.Unlock()
	for _, w := range parked {
		c.runner.pool.Release(w, true)
	}
}

// acquire gives s a worker. Where all are in use it waits for its turn or,
// without wait, gives nil.
func (c *crew) acquire(ctx context.Context, s *session, wait bool) (*udfworker.Worker, error) {
	for refused := false; ; {
		c.mu.Lock()
		w, dead := c.unparkLocked(s)
		spare := c.held > 0
		start := w == nil && c.held < c.workersMax && !(spare && refused)
		if start {
			c.held++
		}
		if w == nil && !start && wait {
			return c.await(ctx, s, dead) // which unlocks
		}
		c.mu.Unlock()
		c.discard(dead)
		if !start {
			return w, nil
		}
		if w, err := c.start(ctx, s, spare); w != nil || err != nil {
			return w, err
		}
		refused = true
	}
}

// discard gives dead workers to the pool.
func (c *crew) discard(dead []*udfworker.Worker) {
	for _, w := range dead {
		c.runner.pool.Release(w, false)
	}
}

// await waits for a turn, for somebody has a worker or is starting one. c.mu is
// held, and released.
func (c *crew) await(ctx context.Context, s *session, dead []*udfworker.Worker) (*udfworker.Worker, error) {
	turn := make(chan *udfworker.Worker, 1)
	c.waiting = append(c.waiting, turn)
	holders := slices.Collect(maps.Keys(c.holders))
	c.mu.Unlock()
	c.discard(dead)
	for _, holder := range holders {
		holder.wake() // one may have nothing to do
	}
	select {
	case w := <-turn:
		return c.take(ctx, s, w)
	case <-ctx.Done():
	}
	c.mu.Lock()
	if i := slices.Index(c.waiting, turn); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		c.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	c.mu.Unlock()
	// The turn has come meanwhile: it goes to the next one.
	c.pass(<-turn)
	return nil, context.Cause(ctx)
}

// unparkLocked gives a worker that nobody has, the one that s had before if it
// can be, and those that have died meanwhile.
func (c *crew) unparkLocked(s *session) (w *udfworker.Worker, dead []*udfworker.Worker) {
	c.parked = slices.DeleteFunc(c.parked, func(w *udfworker.Worker) bool {
		if isDead(w) {
			c.held--
			dead = append(dead, w)
			return true
		}
		return false
	})
	if len(c.parked) == 0 {
		return nil, dead
	}
	i := max(0, slices.Index(c.parked, s.lastWorker))
	w = c.parked[i]
	c.parked = slices.Delete(c.parked, i, i+1)
	c.holders[s] = struct{}{}
	return w, dead
}

// take gives s the worker that its turn has brought; nil is the place of one.
func (c *crew) take(ctx context.Context, s *session, w *udfworker.Worker) (*udfworker.Worker, error) {
	if w == nil {
		return c.start(ctx, s, false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders[s] = struct{}{}
	return w, nil
}

// start starts a worker, for which there is a place. It gives none where a
// spare one is refused for want of memory.
func (c *crew) start(ctx context.Context, s *session, spare bool) (*udfworker.Worker, error) {
	spec := s.spec()
	spec.Spare = spare
	w, err := c.runner.pool.Acquire(ctx, spec)
	if err != nil {
		c.pass(nil)
		return nil, err
	}
	if w == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held--
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders[s] = struct{}{}
	return w, nil
}

// release takes a worker back from s.
func (c *crew) release(s *session, w *udfworker.Worker, reusable bool) {
	c.mu.Lock()
	delete(c.holders, s)
	c.mu.Unlock()
	if !reusable || isDead(w) {
		c.runner.pool.Release(w, false)
		w = nil
	}
	c.pass(w)
}

// pass gives a worker, or with nil the place of one, to whoever waits first; a
// worker that the crew can do without goes back to the pool when other jobs wait
// for its memory.
func (c *crew) pass(w *udfworker.Worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case w != nil && c.sparesLocked():
		c.held--
		c.runner.pool.Release(w, true)
	case len(c.waiting) > 0:
		turn := c.waiting[0]
		c.waiting = c.waiting[1:]
		turn <- w
	case w != nil:
		c.parked = append(c.parked, w)
	default:
		c.held--
	}
}

// contended reports whether somebody waits for a worker.
func (c *crew) contended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0 || c.sparesLocked()
}

// sparesLocked reports whether the crew is to give a worker back to the pool.
func (c *crew) sparesLocked() bool {
	return c.held > 1 && c.runner.pool.Memory().Waiting > 0
}

// spare gives back what workers the crew can do without that nobody has, and
// has those look that have the others.
func (c *crew) spare() {
	c.mu.Lock()
	var back []*udfworker.Worker
	for len(c.parked) > 0 && c.sparesLocked() {
		back = append(back, c.parked[0])
		c.parked = c.parked[1:]
		c.held--
	}
	holders := slices.Collect(maps.Keys(c.holders))
	c.mu.Unlock()
	for _, w := range back {
		c.runner.pool.Release(w, true)
	}
	for _, holder := range holders {
		holder.wake()
	}
}
