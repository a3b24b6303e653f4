package exec

import (
	"context"
	"fmt"
	"time"
)

// pollable is a port that several are read of by turns.
type pollable interface {
	port
	tryGet() (Element, bool, error)
	// wakes makes the port signal token when it has something.
	wakes(token chan struct{})
}

func (q *Queue) wakes(token chan struct{})         { q.readable = token }
func (p queuePort) tryGet() (Element, bool, error) { return p.Queue.tryGet() }

// gather reads several ports as one input, batches as they come.
//
// Its watermark is the lowest of those of the ports that have not ended and
// are not idle. Barriers are aligned: a port that has delivered its barrier is
// held until all have delivered theirs, so that what was read before the
// barrier is exactly what belongs to the checkpoint. A port that has ended
// counts as having delivered. The elements that the producers of a hash
// exchange got in common, control elements too, come out once (copies).
//
// Nothing can block for ever: whoever fills a held port has put the barrier
// into all others before.
type gather struct {
	ports  []pollable
	copies bool
	token  chan struct{}
	states []gathered
	next   int
	// watermark is the one that was passed on last, idle whether all ports
	// were said to be idle.
	watermark time.Time
	idle      bool
	// aligning is the element that some ports have delivered.
	aligning *Element
	// ending is set when a port has ended while something else was passed on.
	ending bool
}

// gathered is what is known of one port.
type gathered struct {
	watermark         time.Time
	idle, held, ended bool
}

func newGather(ports []pollable, copies bool) *gather {
	g := &gather{ports: ports, copies: copies, token: make(chan struct{}, 1), states: make([]gathered, len(ports))}
	for _, p := range ports {
		p.wakes(g.token)
	}
	return g
}

func (g *gather) get(ctx context.Context) (Element, error) {
	for {
		e, ok, err := g.poll()
		if ok || err != nil {
			return e, err
		}
		select {
		case <-g.token:
		case <-ctx.Done():
			return Element{}, context.Cause(ctx)
		}
	}
}

// poll reads what is there until something is to be passed on. It begins after
// the port that was read last, so that no port waits for ever.
func (g *gather) poll() (Element, bool, error) {
	if g.ending {
		g.ending = false
		if out, pass := g.advance(); pass {
			return out, true, nil
		}
	}
	for misses := 0; misses < len(g.ports); {
		i := g.next
		g.next = (g.next + 1) % len(g.ports)
		if s := g.states[i]; s.ended || s.held {
			misses++
			continue
		}
		e, ok, err := g.ports[i].tryGet()
		if err != nil {
			return Element{}, false, err
		}
		if !ok {
			misses++
			continue
		}
		misses = 0
		out, pass, err := g.take(i, e)
		if pass || err != nil {
			return out, pass, err
		}
	}
	return Element{}, false, nil
}

// take notes an element of port i and tells what is to be passed on.
func (g *gather) take(i int, e Element) (Element, bool, error) {
	s := &g.states[i]
	switch e.Kind {
	case KindBatch:
		s.idle, g.idle = false, false
		return e, true, nil
	case KindWatermark:
		s.idle = e.Idle
		if e.Watermark.After(s.watermark) {
			s.watermark = e.Watermark
		}
		out, pass := g.advance()
		return out, pass, nil
	case KindEnd:
		s.ended = true
		if g.all(func(s gathered) bool { return s.ended }) {
			return e, true, nil
		}
		if out, pass := g.align(); pass {
			g.ending = true
			return out, true, nil
		}
		out, pass := g.advance()
		return out, pass, nil
	case KindControl:
		if !g.copies {
			return e, true, nil
		}
	case KindBarrier:
	default:
		return Element{}, false, fmt.Errorf("element of kind %d in an exchange that keeps no order", e.Kind)
	}
	if g.aligning != nil && (g.aligning.Kind != e.Kind || g.aligning.Barrier != e.Barrier) {
		return Element{}, false, fmt.Errorf("barrier %d came while barrier %d was waited for", e.Barrier, g.aligning.Barrier)
	}
	s.held, g.aligning = true, &e
	out, pass := g.align()
	return out, pass, nil
}

func (g *gather) all(holds func(gathered) bool) bool {
	for _, s := range g.states {
		if !holds(s) {
			return false
		}
	}
	return true
}

// align passes on what all ports have delivered.
func (g *gather) align() (Element, bool) {
	if g.aligning == nil || !g.all(func(s gathered) bool { return s.held || s.ended }) {
		return Element{}, false
	}
	out := *g.aligning
	g.aligning = nil
	for i := range g.states {
		g.states[i].held = false
	}
	return out, true
}

// advance gives the watermark if it has advanced, or that all ports are idle.
func (g *gather) advance() (Element, bool) {
	var lowest time.Time
	active := false
	for _, s := range g.states {
		if s.ended || s.idle {
			continue
		}
		if !active || s.watermark.Before(lowest) {
			lowest = s.watermark
		}
		active = true
	}
	switch {
	case !active && !g.idle:
		g.idle = true
		return Element{Kind: KindWatermark, Watermark: g.watermark, Idle: true}, true
	case active && lowest.After(g.watermark):
		g.watermark, g.idle = lowest, false
		return Element{Kind: KindWatermark, Watermark: lowest}, true
	}
	return Element{}, false
}

func (g *gather) close() {
	for _, p := range g.ports {
		p.close()
	}
}
