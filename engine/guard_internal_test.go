package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// guarded is a job of a guard's test that has not been started.
func guarded() *Job {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Job{graph: exec.NewGraph(exec.Options{}), ctx: ctx, cancel: cancel, done: make(chan struct{})}
}

func TestGuard(t *testing.T) {
	held, room, collected := int64(50), int64(1000), 0
	idle := 2
	first, second := guarded(), guarded()
	g := &guard{
		limitBytes: 100, reserveBytes: 64,
		held: func() int64 { return held }, room: func() int64 { return room }, collect: func() { collected++ },
		jobs: func() []*Job { return []*Job{first, second} },
		idle: func() int { return idle }, endIdle: func() { idle = 0 },
	}
	now := time.Now()
	expect := func(what string, looks, wantCollected int, wantEnded bool) {
		t.Helper()
		for range looks {
			now = now.Add(guardPeriod)
			g.look(now)
		}
		if ended := first.ctx.Err() != nil; collected != wantCollected || ended != wantEnded {
			t.Errorf("%s: %d collections, ended %t", what, collected, ended)
		}
	}
	expect("below its limit", 8, 0, false)
	held = 200
	expect("over it, on a machine with room", 8, 0, false)
	if idle != 2 {
		t.Error("idle workers were ended on a machine with room")
	}
	held, room = 50, 10
	expect("others have taken all", 8, 0, false)
	if idle != 0 {
		t.Error("idle workers are kept on a machine without room")
	}
	held = 200
	expect("short", 1, 1, false)
	room = 1000
	expect("a collection has helped", 8, 1, false)
	room = 10
	expect("short again", 4, 2, false)
	expect("nothing helps", 1, 2, true)
	if second.ctx.Err() != nil {
		t.Error("both jobs were ended at once")
	}
	d, ok := errors.AsType[*diag.Diagnostic](context.Cause(first.ctx))
	if !ok || d.Code != diag.OutOfMemory || len(d.Facts) != 2 || d.Hint == "" {
		t.Errorf("%v", context.Cause(first.ctx))
	}
	close(first.done)
	expect("the next one", 4, 2, true)
	if second.ctx.Err() == nil {
		t.Error("memory is still short, and the other job goes on")
	}
}

// TestGuardSeesTheMachine: an engine with a job holds something, and there is
// room.
func TestGuardSeesTheMachine(t *testing.T) {
	if heldBytes() == 0 {
		t.Skip("this system does not tell")
	}
	if held, room := heldBytes(), roomBytes(); held < 1<<20 || held > 8<<30 || room < 1<<20 {
		t.Errorf("held %d, room %d", held, room)
	}
}
