package ops

import (
	"context"
	"errors"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sync/errgroup"

	"github.com/alink-runtime/alink/engine/exec"
)

// pendingMax bounds what waits for its turn in the order of a function
// operator: inputs that are kept, and results that have come back. Their bytes
// are bounded by the stage's credit, and the session bounds those in flight.
const pendingMax = 16

// task is something on its way through a function operator, in its place in
// the order: a bundle, or an element to be passed on.
type task struct {
	element exec.Element // if bundle is nil
	bundle  exec.Bundle
	// emit passes on what the bundle has made, which it takes over.
	emit func(ctx context.Context, results []arrow.RecordBatch, out *exec.Output) error
	// fail is asked what becomes of a bundle on which the function has failed;
	// nil fails the job.
	fail func(ctx context.Context, failure *exec.BundleFailure, out *exec.Output) error
	// release gives up what the bundle was made of, inputBytes is the memory
	// that this keeps.
	release    func()
	inputBytes int64
}

func (t *task) close() {
	if t.bundle == nil {
		t.element.Release()
		return
	}
	t.release()
}

// pending are the tasks of a function operator, oldest first. One goroutine
// adds, another takes; whoever waits is woken through a channel that holds one
// token.
type pending struct {
	bytesMax int64
	mu       sync.Mutex
	tasks    []*task
	ended    bool
	readable chan struct{}
	writable chan struct{}
}

func newPending(bytesMax int64) *pending {
	return &pending{bytesMax: bytesMax, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// awaitRoom waits until another task may be added.
func (p *pending) awaitRoom(ctx context.Context) error {
	for !p.hasRoom() {
		select {
		case <-p.writable:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *pending) hasRoom() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tasks) >= pendingMax {
		return false
	}
	bytes := int64(0)
	for _, t := range p.tasks {
		if t.bundle != nil {
			bytes += t.inputBytes + t.bundle.Held()
		}
	}
	return len(p.tasks) == 0 || bytes < p.bytesMax
}

func (p *pending) add(t *task) {
	p.mu.Lock()
	p.tasks = append(p.tasks, t)
	p.mu.Unlock()
	wake(p.readable)
}

func (p *pending) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	wake(p.readable)
}

// first waits for the oldest task, which stays in its place until drop; nil is
// the end.
func (p *pending) first(ctx context.Context) (*task, error) {
	for {
		p.mu.Lock()
		ended := p.ended
		var t *task
		if len(p.tasks) > 0 {
			t = p.tasks[0]
		}
		p.mu.Unlock()
		if t != nil || ended {
			return t, nil
		}
		select {
		case <-p.readable:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// drop removes the oldest task.
func (p *pending) drop() {
	p.mu.Lock()
	p.tasks[0] = nil
	p.tasks = p.tasks[1:]
	p.mu.Unlock()
	wake(p.writable)
}

func wake(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// bundler is what function operators have in common: one goroutine reads the
// input and submits bundles, another waits for the results in order, so that a
// result is passed on although no further input comes.
type bundler struct {
	lease   *lease
	pending *pending
	// unsent releases what could not be submitted, later what was run again, once
	// the session is closed.
	unsent func()
	later  []func()
}

func newBundler(runner exec.FunctionRunner, stage *exec.FunctionStage) *bundler {
	return &bundler{lease: &lease{runner: runner, stage: stage}, pending: newPending(stage.Credit())}
}

// run calls produce, which submits bundles and passes elements on, until it
// returns, and emits what they give. With eager it leases the worker at once.
func (b *bundler) run(ctx context.Context, eager bool, produce func(ctx context.Context) error, out *exec.Output) error {
	if eager {
		if err := b.lease.open(ctx); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer b.pending.end()
		return produce(ctx)
	})
	group.Go(func() error { return b.emit(ctx, out) })
	// A session may use what its bundles are made of until it is closed.
	err := errors.Join(group.Wait(), b.lease.close())
	for _, t := range b.pending.tasks {
		t.close()
	}
	if b.unsent != nil {
		b.unsent()
	}
	for _, release := range b.later {
		release()
	}
	return err
}

// pass adds an element to be passed on, which it takes over.
func (b *bundler) pass(ctx context.Context, e exec.Element) error {
	if err := b.pending.awaitRoom(ctx); err != nil {
		e.Release()
		return err
	}
	b.pending.add(&task{element: e})
	return nil
}

// submit makes a bundle of source, which t's release belongs to; it takes t
// over. After a failure nothing more is submitted.
func (b *bundler) submit(ctx context.Context, source exec.BatchSource, firstRow int64, t *task) error {
	err := b.pending.awaitRoom(ctx)
	if err == nil {
		err = b.lease.open(ctx)
	}
	if err == nil {
		t.bundle, err = b.lease.session.Submit(ctx, source, firstRow)
	}
	if err != nil {
		t.bundle = nil
		b.unsent = t.release
		return err
	}
	b.lease.stage.Meter.Submitted()
	b.pending.add(t)
	return nil
}

// finish passes on what the bundle gives.
func (t *task) finish(ctx context.Context, meter *exec.Meter, out *exec.Output) error {
	results, err := t.bundle.Wait(ctx)
	meter.Answered()
	if failure, ok := errors.AsType[*exec.BundleFailure](err); ok && t.fail != nil {
		return t.fail(ctx, failure, out)
	}
	if err != nil {
		return err
	}
	return t.emit(ctx, results, out)
}

// emit passes results on in the order of their input. A task whose bundle has
// failed stays where it is.
func (b *bundler) emit(ctx context.Context, out *exec.Output) error {
	for {
		t, err := b.pending.first(ctx)
		if err != nil || t == nil {
			return err
		}
		if t.bundle == nil {
			err = out.Emit(ctx, t.element)
			t.element = exec.Element{}
		} else {
			if err = t.finish(ctx, b.lease.stage.Meter, out); err != nil {
				return err // the session may still use what it is made of
			}
			t.release()
		}
		b.pending.drop()
		if err != nil {
			return err
		}
	}
}
