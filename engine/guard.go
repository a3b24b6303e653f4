package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker"
)

// Bounds of the guard.
const (
	// guardPeriod is how often the engine looks at its own memory.
	guardPeriod = 250 * time.Millisecond
	// guardSettle is what an attempt to get memory back may take until the next.
	guardSettle = time.Second
	// The guard acts when the machine has less left than a part of its memory,
	// within these bounds.
	reserveShare    = 32
	reserveBytesMin = 64 << 20
	reserveBytesMax = 512 << 20
)

// guard keeps the engine from taking down the machine, or its own container:
// the kernel would end the engine, and every job with it. The shares of the
// limit bound what is kept between steps, but not the batches in the hands of
// operators, rows of any size, or what a library allocates for itself. Where
// the engine is over its limit and there is next to nothing left for anybody,
// the guard has garbage collected and, if that does not help, fails the job
// that moves most.
type guard struct {
	limitBytes, reserveBytes int64
	// held is what the engine's process holds, room what it may still get.
	held, room func() int64
	collect    func()
	jobs       func() []*Job
	// idle counts the workers that nobody uses, and endIdle ends them.
	idle    func() int
	endIdle func()

	// moved are the bytes that each job had written by the last look.
	moved map[*Job]int64
	// short counts the looks at which memory was short and something was done;
	// next is when something may be done again.
	short int
	next  time.Time
}

func newGuard(e *Engine) *guard {
	return &guard{
		limitBytes:   e.options.MemoryLimitBytes,
		reserveBytes: min(max(machineMemoryBytes()/reserveShare, reserveBytesMin), reserveBytesMax),
		held:         heldBytes, room: roomBytes, collect: debug.FreeOSMemory, jobs: e.Jobs,
		idle: e.workers.idle, endIdle: e.workers.runner.EndAllIdle,
	}
}

// start runs the guard until the returned function is called, which waits for
// it.
func (g *guard) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(guardPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				g.look(now)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// look acts if memory is short.
func (g *guard) look(now time.Time) {
	if g.idle() > 0 && g.room() < g.reserveBytes {
		g.endIdle() // whoever is short, they are kept for speed alone
	}
	most := g.mostMoving()
	held := g.held()
	if held <= g.limitBytes {
		g.short = 0
		return
	}
	room := g.room()
	if room >= g.reserveBytes {
		g.short = 0
		return
	}
	if now.Before(g.next) {
		return
	}
	g.next = now.Add(guardSettle)
	if g.short++; g.short == 1 {
		g.collect()
		return
	}
	if most != nil {
		most.cancel(g.failure(held, room))
	}
}

// mostMoving is the running job that has written most bytes since the last
// look, from step to step; of those that have written none, the one that wrote
// most before.
func (g *guard) mostMoving() (most *Job) {
	var lately, before int64
	moved := map[*Job]int64{}
	for _, job := range g.jobs() {
		if job.ended() {
			continue
		}
		for _, p := range job.Progress() {
			moved[job] += p.BytesOut
		}
		grown, sum := moved[job]-g.moved[job], moved[job]
		if most == nil || grown > lately || grown == lately && sum > before {
			most, lately, before = job, grown, sum
		}
	}
	g.moved = moved
	return most
}

func (g *guard) failure(held, room int64) error {
	return diag.New(diag.OutOfMemory, "the job was ended to keep the engine alive: memory ran out").
		WithFact("the engine held %s, its limit is %s; %s were left on the machine or in its container",
			udfworker.FormatBytes(held), udfworker.FormatBytes(g.limitBytes), udfworker.FormatBytes(room)).
		WithFact("of the jobs that ran, %s, this one moved most data", fmt.Sprint(len(g.moved))).
		WithHint("run fewer jobs at once, give workers less (memory=, workers=), or the engine a lower memory=, so that it spills earlier")
}
