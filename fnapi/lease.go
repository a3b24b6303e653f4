package fnapi

import (
	"context"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/udfworker"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// lease is a worker while it belongs to a session. It implements receiver.
type lease struct {
	session  *session
	worker   *udfworker.Worker
	endpoint *endpoint
	// ctx is done when the worker is lost or the session stops.
	ctx    context.Context
	cancel context.CancelFunc
	// watched is closed when the goroutine that waits for the worker's death
	// has ended.
	watched chan struct{}
	// begun is when the session got the worker.
	begun time.Time
	// timed is closed when the goroutine that watches the time has ended.
	timed chan struct{}

	// unmeter ends the counting of the worker for the stage.
	unmeter func()

	// The session's mu guards these.

	// freeAt is when the worker was done with the bundle before.
	freeAt time.Time
	// lost says that the worker has hung up.
	lost bool
	// sending says that run is in the middle of sending a bundle.
	sending bool
	// dirty says that the worker may be in the middle of something, and cannot
	// be leased again.
	dirty bool
	// running are the instructions that the worker has not answered.
	running map[string]struct{}
	// bundles are those that the worker was asked to run and that are not
	// settled, by instruction.
	bundles map[string]*bundle
	// overdue is set when the worker was interrupted for taking too long.
	overdue *overdue
	// silent says that the worker hung up and yet lived on.
	silent bool
}

// newLease gets a worker. Where the crew has none to spare it waits or, without
// wait, gives nil. Its errors are diagnostics or the context's.
func (s *session) newLease(ctx context.Context, wait bool) (*lease, error) {
	worker, err := s.acquire(ctx, wait)
	if err != nil || worker == nil {
		return nil, err
	}
	s.lastWorker = worker
	if worker.FirstUse() {
		s.stage.Meter.Started()
	}
	l := &lease{
		session: s, worker: worker, begun: time.Now(), endpoint: worker.Endpoint().(*endpoint),
		watched: make(chan struct{}), timed: make(chan struct{}), bundles: map[string]*bundle{}, running: map[string]struct{}{},
	}
	descriptors, err := s.code.descriptors(l.endpoint.URL())
	if err != nil {
		s.giveBack(worker, true)
		return nil, err
	}
	l.unmeter = s.stage.Meter.Hold(worker.MemoryBytes)
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	go l.watch()
	l.endpoint.attach(l, descriptors)
	go l.watchTime()
	return l, nil
}

// watch sees to it that a worker's death is noticed although another process
// holds its connection open.
func (l *lease) watch() {
	defer close(l.watched)
	select {
	case <-l.worker.Dead():
	case <-l.ctx.Done():
		return
	}
	select {
	case <-l.endpoint.lost:
	case <-time.After(drainTime):
		l.endpoint.Close()
	}
}

// workedLocked is how long the worker has been at a bundle, without what it
// waited for the bundle's input. Bundles are run one after the other.
func (l *lease) workedLocked(b *bundle) time.Duration {
	begun := b.begunAt
	if l.freeAt.After(begun) {
		begun = l.freeAt
	}
	l.freeAt = time.Now()
	return max(0, l.freeAt.Sub(begun)-b.inputWaited)
}

func isDead(w *udfworker.Worker) bool {
	select {
	case <-w.Dead():
		return true
	default:
		return false
	}
}

// end gives the worker back. The session's mu is not held.
func (l *lease) end(reusable bool) {
	l.cancel()
	l.endpoint.detach(l.session.stage.ID)
	<-l.watched
	<-l.timed
	l.unmeter()
	l.session.giveBack(l.worker, reusable)
}

// acquire gets a worker: of the crew, or the session's own.
func (s *session) acquire(ctx context.Context, wait bool) (*udfworker.Worker, error) {
	if s.crew == nil {
		return s.runner.pool.Acquire(ctx, s.spec())
	}
	return s.crew.acquire(ctx, s, wait)
}

func (s *session) giveBack(w *udfworker.Worker, reusable bool) {
	if s.crew == nil {
		s.runner.pool.Release(w, reusable)
		return
	}
	s.crew.release(s, w, reusable)
}

// awaitDeath waits for the death of a worker that has hung up, and interrupts
// one that lives on.
func (l *lease) awaitDeath() udfworker.Death {
	for _, wait := range []time.Duration{hangUp, deathTime} {
		select {
		case <-l.worker.Dead():
			return l.worker.Death()
		case <-time.After(wait):
			l.silent = true
			l.session.runner.pool.Interrupt(l.worker)
		}
	}
	return udfworker.Death{Kind: udfworker.SupervisorLost}
}

// hungUp implements receiver.
func (l *lease) hungUp() {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	l.lost = true
	l.cancel()
	s.stirLocked()
}

// data implements receiver.
func (l *lease) data(d data) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	b := l.bundles[d.instruction]
	if b == nil {
		d.release()
		return // late: the bundle has failed already
	}
	if d.transform != sinkTransform || b.resultEnded {
		d.release()
		l.breakLocked(b, strange(s.stage, "data that no transform of the bundle sends"))
		return
	}
	b.result = append(b.result, d.piece)
	b.resultBytes += int64(len(d.bytes))
	if b.resultBytes > resultBytesMax {
		l.breakLocked(b, errTooLarge(s.stage))
		return
	}
	b.resultEnded = d.last
	if b.resultEnded && b.responded {
		s.settleLocked(b, nil)
	}
}

// response implements receiver.
func (l *lease) response(r *fnpb.InstructionResponse) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(l.running, r.GetInstructionId()); len(l.running) == 0 {
		s.stirLocked() // it may be drained
	}
	b := l.bundles[r.GetInstructionId()]
	if b == nil {
		return
	}
	b.spent = readSpent(s.functions, r.GetProcessBundle().GetMonitoringData())
	if s.stage.Profile != nil {
		s.stage.Profile.Add(readProfile(r.GetProcessBundle().GetMonitoringData()[profileKey]))
	}
	if r.GetError() != "" {
		l.failedLocked(b, r.GetError())
		return
	}
	b.responded = true
	if b.resultEnded { // otherwise its data is still on the way
		s.settleLocked(b, nil)
	}
}

// breakLocked fails a bundle on which the worker does what it should not.
func (l *lease) breakLocked(b *bundle, err error) {
	l.dirty = true
	l.session.settleLocked(b, err)
	l.session.runner.pool.Interrupt(l.worker)
}

// log implements receiver.
func (l *lease) log(entry *fnpb.LogEntry) {
	if l.session.stage.Log == nil {
		return
	}
	l.session.stage.Log(exec.LogLine{
		Function: cut(entry.GetLogLocation()), Level: levels[entry.GetSeverity()], Text: cut(entry.GetMessage()),
	})
}

// levels are the names of severities: Python's, and "print" for what was
// printed.
var levels = map[fnpb.LogEntry_Severity_Enum]string{
	fnpb.LogEntry_Severity_UNSPECIFIED: "INFO",
	fnpb.LogEntry_Severity_TRACE:       "DEBUG",
	fnpb.LogEntry_Severity_DEBUG:       "DEBUG",
	fnpb.LogEntry_Severity_INFO:        "INFO",
	fnpb.LogEntry_Severity_NOTICE:      "print",
	fnpb.LogEntry_Severity_WARN:        "WARNING",
	fnpb.LogEntry_Severity_ERROR:       "ERROR",
	fnpb.LogEntry_Severity_CRITICAL:    "CRITICAL",
}
