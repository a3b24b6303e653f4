package exec

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// kindMark ends what an operator makes of one element that a rebalance
// exchange has handed out. Operators pass marks on in their place among the
// other elements; the merge that restores the order consumes them.
const kindMark Kind = 255

// port is the reading side of an edge.
type port interface {
	get(ctx context.Context) (Element, error)
	// close tells the producers that nothing more is wanted.
	close()
}

// edge is the writing side. put takes e over whatever the result.
type edge interface {
	put(ctx context.Context, e Element) error
	// onStop has f called once when nobody wants what is put any more. It is
	// called once, before the first put; f must not block.
	onStop(f func())
}

type queuePort struct{ *Queue }

func (p queuePort) get(ctx context.Context) (Element, error) { return p.Get(ctx) }
func (p queuePort) put(ctx context.Context, e Element) error { return p.Put(ctx, e) }
func (p queuePort) onStop(f func())                          { p.OnClose(f) }
func (p queuePort) close()                                   { p.Close() }

// onAllClosed has f called once when the last of several queues is closed.
func onAllClosed(queues []*Queue, f func()) {
	var open atomic.Int64
	open.Store(int64(len(queues)))
	for _, q := range queues {
		q.OnClose(func() {
			if open.Add(-1) == 0 {
				f()
			}
		})
	}
}

// route is the record that a rebalance keeps for the merge which restores the
// order: for each element, the subtask that got it, or all of them. Its length
// is bounded by what the queues and operators between the two can hold.
type route struct {
	mu      sync.Mutex
	entries []int
	waiting chan struct{}
}

// toAll is the route of an element that every subtask gets.
const toAll = -1

func newRoute() *route { return &route{waiting: make(chan struct{}, 1)} }

func (r *route) push(subtask int) {
	r.mu.Lock()
	r.entries = append(r.entries, subtask)
	r.mu.Unlock()
	signal(r.waiting)
}

func (r *route) pop(ctx context.Context) (int, error) {
	for {
		r.mu.Lock()
		if len(r.entries) > 0 {
			subtask := r.entries[0]
			r.entries = r.entries[1:]
			r.mu.Unlock()
			return subtask, nil
		}
		r.mu.Unlock()
		select {
		case <-r.waiting:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// rebalance hands each batch to the subtask with the least in its queue, and
// everything else to all of them.
type rebalance struct {
	queues []*Queue
	route  *route
	next   int
	rows   int64
	// last is the subtask that got the last batch, more says that the next one
	// belongs to it.
	last int
	more bool
}

func (r *rebalance) put(ctx context.Context, e Element) error {
	if e.Kind != KindBatch {
		r.route.push(toAll)
		var failure error
		for _, q := range r.queues {
			// A subtask that has stopped keeps nothing from the others: they
			// wait for what ends their input.
			if err := q.Put(ctx, e); err != nil && failure == nil {
				failure = err
			}
		}
		return failure
	}
	e.FirstRow = r.rows
	r.rows += e.Batch.NumRows()
	subtask := r.last
	if !r.more {
		subtask = r.choose()
	}
	r.last, r.more = subtask, e.More
	r.route.push(subtask)
	if err := r.queues[subtask].Put(ctx, e); err != nil {
		return err
	}
	return r.queues[subtask].Put(ctx, Element{Kind: kindMark})
}

func (r *rebalance) onStop(f func()) { onAllClosed(r.queues, f) }

// choose takes the emptiest queue, beginning after the last choice so that
// equals take turns.
func (r *rebalance) choose() int {
	best, bestBytes := -1, int64(0)
	for i := range r.queues {
		subtask := (r.next + i) % len(r.queues)
		if bytes := r.queues[subtask].queued(); best < 0 || bytes < bestBytes {
			best, bestBytes = subtask, bytes
		}
	}
	r.next = best + 1
	return best
}

// merge reads the outputs of subtasks that stand behind a rebalance, in the
// order in which their inputs were handed out.
type merge struct {
	ports []port
	route *route
	// current is the subtask that is being read; broadcast counts, while an
	// element that all got is being collected, the subtasks that are through.
	current   int
	broadcast int
	reading   bool
}

func (m *merge) get(ctx context.Context) (Element, error) {
	for {
		if !m.reading {
			subtask, err := m.route.pop(ctx)
			if err != nil {
				return Element{}, err
			}
			m.reading, m.current, m.broadcast = true, subtask, -1
			if subtask == toAll {
				m.current, m.broadcast = 0, 0
			}
		}
		e, err := m.ports[m.current].get(ctx)
		if err != nil {
			return Element{}, err
		}
		switch {
		case e.Kind == KindBatch:
			return e, nil
		case e.Kind == kindMark && m.broadcast < 0:
			m.reading = false
		case e.Kind != kindMark && m.broadcast >= 0:
			if m.broadcast++; m.broadcast < len(m.ports) {
				m.current = m.broadcast
				continue
			}
			m.reading = false
			return e, nil
		default:
			return Element{}, fmt.Errorf("exchange out of step: element of kind %d from subtask %d", e.Kind, m.current)
		}
	}
}

func (m *merge) close() {
	for _, p := range m.ports {
		p.close()
	}
}
