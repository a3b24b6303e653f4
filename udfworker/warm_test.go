package udfworker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alink-runtime/alink/envmgr"
)

// heldResolver resolves nothing until it is let go.
type heldResolver struct {
	Resolver
	asked   chan struct{}
	release chan struct{}
	fail    error
}

func (r *heldResolver) Resolve(ctx context.Context, spec envmgr.Spec, progress func(string)) (*envmgr.Environment, error) {
	r.asked <- struct{}{}
	<-r.release
	if r.fail != nil {
		return nil, r.fail
	}
	return r.Resolver.Resolve(ctx, spec, progress)
}

func hold(o *PoolOptions, fail error) *heldResolver {
	r := &heldResolver{Resolver: o.Resolver, asked: make(chan struct{}, 8), release: make(chan struct{}), fail: fail}
	o.Resolver = r
	return r
}

var specA = Spec{Environment: envmgr.Spec{Python: "a"}}

func TestWarmWorkerIsLeasedFirst(t *testing.T) {
	p, _ := newPool(t, "idle", nil)
	p.Warm(specA)(t.Context())
	status := p.Workers()
	if len(status) != 1 || status[0].Busy {
		t.Fatalf("after Warm: %+v", status)
	}
	asked := specA // who asks makes no difference
	asked.Environment.AskedBy, asked.Progress = "f (job.py)", func(string) {}
	if asked.key() != specA.key() {
		t.Error("a spec's key depends on who asks")
	}
	if w := acquire(t, p, "a"); w.ID() != status[0].ID {
		t.Errorf("got worker %s instead of the warm %s", w.ID(), status[0].ID)
	} else {
		p.Release(w, true)
	}
}

func TestAcquireAdoptsWhatWarmIsStarting(t *testing.T) {
	var held *heldResolver
	p, _ := newPool(t, "idle", func(o *PoolOptions) { held = hold(o, nil) })
	warmed := make(chan struct{})
	go func() { defer close(warmed); p.Warm(specA)(t.Context()) }()
	<-held.asked
	p.Warm(specA)(t.Context()) // a second one has nothing to do
	leased := make(chan *Worker, 1)
	go func() { leased <- acquire(t, p, "a") }()
	eventually(t, "the start is adopted", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.warming) == 0
	})
	close(held.release)
	w := <-leased
	<-warmed
	if got := p.Workers(); len(got) != 1 || !got[0].Busy || got[0].ID != w.ID() {
		t.Errorf("workers: %+v", got)
	}
	p.Release(w, true)
}

// The first job may ask before the start has begun: it must not start another
// worker beside it.
func TestAcquireWaitsForAStartThatWasAnnounced(t *testing.T) {
	p, _ := newPool(t, "idle", nil)
	start := p.Warm(specA)
	leased := make(chan *Worker, 1)
	go func() { leased <- acquire(t, p, "a") }()
	eventually(t, "the start is adopted", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.warming) == 0
	})
	start(t.Context())
	w := <-leased
	if got := p.Workers(); len(got) != 1 || !got[0].Busy || got[0].ID != w.ID() {
		t.Errorf("workers: %+v", got)
	}
	p.Release(w, true)
}

func TestAnAdoptedWorkerThatNobodyWaitsForIsKept(t *testing.T) {
	var held *heldResolver
	p, _ := newPool(t, "idle", func(o *PoolOptions) { held = hold(o, nil) })
	warmed := make(chan struct{})
	go func() { defer close(warmed); p.Warm(specA)(t.Context()) }()
	<-held.asked
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user gave up")
	cancel(cause)
	if _, err := p.Acquire(ctx, specA); !errors.Is(err, cause) {
		t.Fatalf("cancelled: %v", err)
	}
	close(held.release)
	<-warmed
	if got := p.Workers(); len(got) != 1 || got[0].Busy {
		t.Errorf("workers: %+v", got)
	}
}

func TestAWarmStartThatFailsIsMetByAcquire(t *testing.T) {
	broken := errors.New("no such environment")
	var held *heldResolver
	p, _ := newPool(t, "idle", func(o *PoolOptions) { held = hold(o, broken) })
	close(held.release)
	p.Warm(specA)(t.Context())
	if _, err := p.Acquire(t.Context(), specA); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// A job that has all the memory may wait for the very worker: one that nobody can
// start ahead is started by the job itself.
func TestAWarmStartWaitsForNobodysMemory(t *testing.T) {
	const share = 512 << 20
	p, _ := newPool(t, "idle", func(o *PoolOptions) { o.MemoryBytesMax = share })
	lease := func(python string) *Worker {
		w, err := p.Acquire(t.Context(), Spec{Job: "one", Environment: envmgr.Spec{Python: python}, MemoryBytes: share})
		if err != nil {
			t.Error(err)
		}
		return w
	}
	start := p.Warm(Spec{Environment: envmgr.Spec{Python: "a"}, MemoryBytes: share})
	whole := lease("b")
	leased := make(chan *Worker, 1)
	go func() { leased <- lease("a") }()
	eventually(t, "the start is adopted", 5*time.Second, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.warming) == 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	start(ctx)
	if ctx.Err() != nil {
		t.Error("it waits for the memory of the job that waits for it")
	}
	p.Release(<-leased, true)
	p.Release(whole, true)
}
