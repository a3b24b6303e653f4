package fnapi

import (
	"encoding/json"
	"slices"
	"syscall"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/alink-runtime/alink/udfworker/sandbox"
)

// killsMax is how often a bundle is run again after its worker was ended by
// something that is not the function's doing, as far as one can tell: SIGKILL
// from outside, the end of the supervisor. It is far more than chance brings,
// and bounds what a function can do that kills itself in this way.
// probeKillsMax is that of a part of a bundle that has failed, which is then run
// in parts itself; a single row is only given up after killsMax.
const (
	killsMax      = 8
	probeKillsMax = 2
)

// record is what has happened to a bundle that is not settled.
type record struct {
	// deaths are those of workers that it is to blame for, kills counts those
	// that came from outside, exceptions the exceptions that were retried.
	deaths     []exec.FailureKind
	kills      int
	exceptions int
	// row is the row that the last worker was at when it died, -1 where it is
	// not known, and call the call.
	row  int64
	call int
}

// blameLocked finds the bundle that a dead worker was at: the one that its page
// names or, where it names none, the first that is not settled, since bundles
// run in order. It is blamed, unless the worker was ended
// for what it did on another; and from then on the bundles that were begun run
// alone, so that a second death has one cause, and carefully, so that it has a
// row. A bundle that has killed as many workers as it may fails, and where
// nobody looks further into it, the session with it: then the failure is
// returned.
func (s *session) blameLocked(l *lease, death udfworker.Death, at progress) error {
	begun := s.begunLocked()
	if l.overdue != nil {
		for _, b := range begun {
			if b == l.overdue.bundle {
				return s.failLocked(b, l.timedOut(nil))
			}
		}
	}
	if len(begun) == 0 {
		return nil
	}
	if s.stage.Once && (at.unread || instructionNumber(begun[0].instruction) <= at.begun) {
		return s.failLocked(begun[0], s.notAgain(begun, l, death))
	}
	if l.dirty {
		return nil
	}
	s.stage.Meter.Restart()
	b := begun[0]
	if i := slices.IndexFunc(begun, func(o *bundle) bool { return instructionNumber(o.instruction) == at.begun }); i > 0 {
		b, begun = begun[i], begun[i:i+1] // it took the results of those before with it
	}
	row := b.rowOf(at)
	kind := killedBy(l, death)
	if death.Kind == udfworker.OverLimit {
		s.stage.Meter.Crowded(b.rows)
	}
	// A kill from outside hits another row each time, where there are others.
	outside := kind == exec.FailedKilled && (row < 0 || row != b.row || b.rows == 1) || death.Kind == udfworker.SupervisorLost
	if b.row = row; row >= 0 {
		b.call = at.call
	}
	if outside {
		b.kills++
	} else {
		b.deaths = append(b.deaths, kind)
	}
	if len(b.deaths) > s.retriesOf(b, kind) || b.kills > s.killsOf(b) {
		return s.failLocked(b, &exec.BundleFailure{
			Diagnostic: workerDied(s.stage, begun, l, death), Kind: kind, Row: row, Sure: kind == exec.FailedKilled && !outside,
			Fatal: at.loading && at.instruction == instructionNumber(b.instruction), Deaths: b.deaths,
		})
	}
	for _, b := range s.begunLocked() {
		b.alone, b.careful = true, true
	}
	return nil
}

// killsOf is how often b may be run again after kills from outside.
func (s *session) killsOf(b *bundle) int {
	switch {
	case s.stage.Retries == 0:
		return 0
	case b.probe && b.rows > 1:
		return probeKillsMax
	}
	return killsMax
}

// rowOf is the row of b that a page is at, if it says so exactly, or else -1. A
// bundle of one row need not ask.
func (b *bundle) rowOf(at progress) int64 {
	switch {
	case at.loading:
		return -1
	case b.rows == 1 && b.sentAll && b.session.stage.Narrows:
		return 0
	case at.instruction == instructionNumber(b.instruction) && at.exact && at.row >= 0 && at.row < b.rows:
		return at.row
	}
	return -1
}

// retriesOf is how often b may be run again after a death of a kind. Whoever
// narrows bundles down runs parts of it next, and need not see the same death
// once more; but one could have been chance.
func (s *session) retriesOf(b *bundle, kind exec.FailureKind) int {
	switch {
	case kind == exec.FailedKilled: // the row says that it was not from outside
		return s.stage.Retries
	case b.probe:
		return 0
	case s.stage.OnError.Tolerant() && b.row >= 0:
		return 0
	case s.stage.OnError.Tolerant():
		return min(1, s.stage.Retries)
	}
	return s.stage.Retries
}

// failLocked settles a bundle with its failure. Where nobody looks further into
// it, that is the session's.
func (s *session) failLocked(b *bundle, failure *exec.BundleFailure) error {
	if !s.stage.Narrows {
		return failure
	}
	s.settleLocked(b, failure)
	return nil
}

// notAgain is the failure of the first of the bundles that were begun, which
// must not be run twice.
func (s *session) notAgain(begun []*bundle, l *lease, death udfworker.Death) *exec.BundleFailure {
	b := begun[0]
	kind := killedBy(l, death)
	b.deaths = append(b.deaths, kind)
	died := workerDied(s.stage, begun[:1], l, death)
	d := *died
	d.Code, d.Cause = diag.NotRunAgain, died.Message
	d.Message = functionNames(s.stage) + " had begun a batch when its worker died, and deterministic=False forbids to run it again"
	d.Hint = died.Hint + "; a function that may run twice for a row needs no deterministic=False"
	return &exec.BundleFailure{Diagnostic: &d, Kind: kind, Row: -1, Fatal: true, Deaths: b.deaths}
}

// killedBy classifies a death.
func killedBy(l *lease, death udfworker.Death) exec.FailureKind {
	switch {
	case death.Kind == udfworker.OverLimit, death.Kind == udfworker.KernelOOM, death.ProbablyKernel():
		return exec.FailedMemory
	case death.Kind == udfworker.SupervisorLost, l.silent:
		return exec.FailedLost
	case death.Kind == udfworker.Signalled && death.Signal == int(syscall.SIGKILL):
		return exec.FailedKilled
	case death.Signal != 0:
		return exec.FailedSignal
	}
	return exec.FailedExit
}

// failedLocked takes a worker's word on a bundle that it could not do.
func (l *lease) failedLocked(b *bundle, text string) {
	s := l.session
	d := failureOf(s.stage, text, b.firstRow, l.worker.Level() > sandbox.L0)
	if l.overdue != nil && l.overdue.bundle == b {
		s.settleLocked(b, l.timedOut(d))
		return
	}
	failure := &exec.BundleFailure{Diagnostic: d, Kind: exec.FailedException, Row: -1, Sure: true, Deaths: b.deaths}
	if d.Row != nil {
		failure.Row = d.Row.Index - b.firstRow
	}
	ofARow, outOfMemory := readVerdict(text)
	failure.Fatal = !ofARow
	// A worker that had no memory left is not used again.
	if outOfMemory {
		l.dirty = true
		s.runner.pool.Interrupt(l.worker)
	}
	if d.Exception == nil || failure.Fatal || s.stage.Once || b.exceptions >= s.stage.ExceptionRetries || b.probe && b.rows > 1 {
		s.settleLocked(b, failure)
		return
	}
	b.exceptions++
	if b.sending {
		b.again = true // when nothing is sent of it any more
		b.stopReading()
		return
	}
	s.againLocked(l, b)
}

// readVerdict reads off what a worker tells of a failure whether it may be due
// to a row (the function was called, could run at all, and has not failed too
// often) and whether the worker had no memory left.
func readVerdict(text string) (ofARow, outOfMemory bool) {
	var f struct {
		Error       string `json:"error"`
		Loading     bool   `json:"loading"`
		OutOfMemory bool   `json:"out_of_memory"`
	}
	if json.Unmarshal([]byte(text), &f) != nil {
		return false, false
	}
	return !f.Loading && slices.Contains([]string{"raised", "refused", "type", "length", "output"}, f.Error), f.OutOfMemory
}

// againLocked has a bundle that the worker has answered run again, behind those
// that are begun.
func (s *session) againLocked(l *lease, b *bundle) {
	delete(l.bundles, b.instruction)
	b.drop()
	b.attempt = attempt{}
	s.bundles = slices.DeleteFunc(slices.Clone(s.bundles), func(o *bundle) bool { return o == b })
	s.bundles = slices.Insert(s.bundles, len(s.begunLocked()), b)
	s.stirLocked()
}

// praiseLocked notes that a bundle has ended well. Where its workers have died
// too often on the way, run stops the session.
func (s *session) praiseLocked(b *bundle) {
	if err := s.stage.Failures.Settled(b.deaths); err != nil && s.broken == nil {
		s.broken = err
		s.stirLocked()
	}
}
