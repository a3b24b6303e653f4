package udfworker

import (
	"context"
	"fmt"
)

// warmStart is a worker that Warm is starting. The first Acquire of its kind
// adopts it instead of starting another one.
type warmStart struct {
	// done is closed when worker is final; it is nil where the start failed, or
	// memory is short.
	done   chan struct{}
	worker *Worker
	// adopted says that an Acquire waits for the worker. The pool's mu guards
	// it and worker.
	adopted bool
}

// key tells specs apart that cannot share a worker.
func (s Spec) key() string {
	s.Progress, s.Environment.AskedBy, s.Job, s.Spare = nil, "", "", false
	return fmt.Sprintf("%+v", s)
}

// Warm says that a worker is started ahead of the first Acquire of an equal
// spec, and gives what starts it, which must be called and returns when it is
// there. An Acquire that comes between the two waits for that worker. Why a
// start fails is for that Acquire to find out.
func (p *Pool) Warm(spec Spec) (start func(context.Context)) {
	key := spec.key()
	warm := &warmStart{done: make(chan struct{})}
	p.mu.Lock()
	taken := p.closed || p.warming[key] != nil
	if !taken {
		p.warming[key] = warm
	}
	p.mu.Unlock()
	if taken {
		return func(context.Context) {}
	}
	return func(ctx context.Context) { p.startWarm(ctx, spec, warm) }
}

func (p *Pool) startWarm(ctx context.Context, spec Spec, start *warmStart) {
	key := spec.key()
	spec.Spare = true // it must not wait for the memory of a job that waits for it
	w, err := p.acquire(ctx, spec)
	if err != nil {
		w = nil
	}
	p.mu.Lock()
	if p.warming[key] == start {
		delete(p.warming, key)
	}
	start.worker = w
	adopted := start.adopted
	p.mu.Unlock()
	close(start.done)
	if w != nil && !adopted {
		p.Release(w, true)
	}
}

// adopt waits for the worker that is being started for spec, if there is one.
// It gives neither a worker nor an error where the caller has to start one.
func (p *Pool) adopt(ctx context.Context, spec Spec) (*Worker, error) {
	key := spec.key()
	p.mu.Lock()
	start := p.warming[key]
	if start != nil {
		delete(p.warming, key)
		start.adopted = true
	}
	p.mu.Unlock()
	if start == nil {
		return nil, nil
	}
	select {
	case <-start.done:
		if w := start.worker; w != nil {
			p.mu.Lock()
			p.unleaseLocked(w)
			p.leaseLocked(w, spec.Job)
			p.mu.Unlock()
		}
		return start.worker, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	start.adopted = false
	w := start.worker
	p.mu.Unlock()
	if w != nil { // it has come meanwhile, and been left to us
		p.Release(w, true)
	}
	return nil, context.Cause(ctx)
}
