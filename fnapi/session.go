package fnapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/envmgr"
	"github.com/alink-runtime/alink/udfworker"
	"github.com/apache/arrow-go/v18/arrow"
)

// session runs the bundles of a stage's subtask on a worker that it has to
// itself while it has bundles on it, and on the next one where that has died or
// was given back; see crew. It implements exec.FunctionSession.
//
// One goroutine, run, owns the lease: it sends bundles in order, replaces a
// worker that died and gives one back that others wait for. The endpoint's goroutines settle bundles as the worker
// answers. Submit and Wait may be called by different goroutines. Stopping
// (Close, a context that ends, a failure that concerns all bundles) settles
// every bundle and interrupts the worker if it is in the middle of one; run
// then gives the worker back.
type session struct {
	runner *Runner
	stage  *exec.FunctionStage
	code   *stageCode
	// functions are the names of the stage's, each once.
	functions []string
	// environment is what the stage's workers run in.
	environment envmgr.Spec
	// ctx is done when the session stops.
	ctx    context.Context
	cancel context.CancelFunc
	// finished is closed when run has ended.
	finished chan struct{}
	// crew are the workers that it shares; nil where it has one of its own.
	crew *crew
	// lastWorker is the one that it had last. Only open and run use it, and the
	// crew on their behalf.
	lastWorker *udfworker.Worker

	decoding sync.Mutex
	decoder  *decoder

	mu sync.Mutex
	// changed is for whoever waits for room or for the worker to come to an end,
	// work for run; see stirLocked.
	changed, work *sync.Cond
	// lease is nil where a worker died or was given back while there was nothing
	// to do. Only open and run set it.
	lease *lease
	// bundles are those that are not settled, in the order of Submit; those
	// that are begun come first.
	bundles []*bundle
	// untaken are those that are settled, and their results not taken.
	untaken map[*bundle]struct{}
	// lastInput are the bytes of the input of the bundle that was done last, and
	// resultShare those of its result for each of them; see creditLocked.
	lastInput   int64
	resultShare float64
	// queuedSince is when a bundle began to wait for the worker; zero if none
	// does.
	queuedSince time.Time
	// stopped says why nothing is run any more, broken why that is to be so.
	stopped, broken error
}

// open checks a stage, leases its first worker and starts the session.
func (r *Runner) open(ctx context.Context, stage *exec.FunctionStage) (*session, error) {
	if len(stage.Calls) == 0 {
		return nil, diag.New(diag.Internal, "stage %s has no functions", stage.ID)
	}
	first := stage.Calls[0]
	for _, f := range stage.Input.Fields() {
		if hasDictionary(f.Type) {
			return nil, diag.New(diag.TypeMismatch, "column %q is dictionary-encoded, and cannot be handed to %s", f.Name, functionNames(stage)).
				WithHint("cast it to the type of its values").At(first.Operator, first.Origin)
		}
	}
	s := &session{runner: r, stage: stage, functions: functionsOf(stage.Calls), finished: make(chan struct{}), untaken: map[*bundle]struct{}{}}
	s.changed, s.work = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	var err error
	if s.decoder, err = newDecoder(stage.Output, inPlace(stage)); err != nil {
		return nil, diag.New(diag.TypeMismatch, "%s cannot return what it declares", functionNames(stage)).
			WithCause(err).WithHint("declare another type").At(first.Operator, first.Origin)
	}
	if s.code, err = newStageCode(stage, r.options.Artifacts); err != nil {
		return nil, err
	}
	if s.environment, err = environmentSpec(stage.Environment, r.options.Artifacts); err != nil {
		return nil, s.locate(err)
	}
	// The session outlives the call that opens it.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if stage.Crew != "" {
		s.crew = r.join(stage.Crew, stage.CrewWorkers)
	}
	// One of the crew that waits for a worker here could have had its
	// environment built by those that have one.
	began := time.Now()
	defer func() { stage.Meter.Queued(time.Since(began)) }()
	l, err := s.newLease(ctx, s.crew == nil)
	if err != nil {
		s.cancel()
		s.leave()
		return nil, s.locate(err)
	}
	s.hold(l)
	go s.run()
	return s, nil
}

// inPlace reports whether values of a stage's results may stay where the worker
// can change them: where they are nothing but values to the engine. Other kinds
// of stage give rows' numbers, states and keys too, by which it finds its way.
func inPlace(stage *exec.FunctionStage) bool {
	return (stage.Kind == exec.StageColumns || stage.Kind == exec.StageMapBatches) && !stage.OnError.Tolerant()
}

func (s *session) leave() {
	if s.crew != nil {
		s.crew.leave()
	}
}

// wake has run look again at what there is to do.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stirLocked()
}

// stirLocked wakes those whom a change may concern. run is woken only where it
// has something to do: it would take turns with whoever waits for a result, once
// for each.
func (s *session) stirLocked() {
	s.changed.Broadcast()
	if _, ok := s.stepLocked(); ok {
		s.work.Signal()
	}
}

// locate adds where the user called the stage's functions.
func (s *session) locate(err error) error {
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok {
		copied := *d
		return copied.At(s.stage.Calls[0].Operator, s.stage.Calls[0].Origin)
	}
	return err
}

// spec is what worker the stage wants.
func (s *session) spec() udfworker.Spec {
	spec := s.runner.newSpec(s.environment, s.stage.MemoryBytes, s.stage.Domain)
	spec.Policy, spec.Variables, spec.Isolation = s.runner.confine(s.stage.Confinement)
	spec.Job = s.stage.Job
	spec.Environment.AskedBy = askedBy(s.stage.Calls)
	if s.runner.options.Progress != nil {
		spec.Progress = func(text string) { s.runner.options.Progress(s.stage.ID, text) }
	}
	return spec
}

// environmentSpec is what a plan's environment asks for. Its errors may be
// diagnostics.
func environmentSpec(e *plan.Environment, artifacts Artifacts) (envmgr.Spec, error) {
	if e == nil {
		return envmgr.Spec{}, nil
	}
	spec := envmgr.Spec{
		Interpreter: e.Interpreter, Paths: e.Paths, Python: e.Python,
		BaseInterpreter: e.BaseInterpreter, Requirements: e.Requirements, SourceBuilds: e.SourceBuilds,
	}
	if e.Lock != nil {
		spec.Lock = envmgr.Lock{Name: e.Lock.Name, Text: e.Lock.Text}
	}
	for _, x := range e.Indexes {
		spec.Indexes = append(spec.Indexes, envmgr.Index{URL: x.URL, Username: x.Username.Reveal(), Password: x.Password.Reveal()})
	}
	for name, value := range e.Variables {
		if spec.Variables == nil {
			spec.Variables = map[string]string{}
		}
		spec.Variables[name] = value.Reveal()
	}
	for _, kind := range []struct {
		from []plan.EnvironmentFile
		to   *[]envmgr.File
	}{{e.Wheels, &spec.Wheels}, {e.Files, &spec.Files}, {e.Archives, &spec.Archives}} {
		for _, file := range kind.from {
			path, err := artifacts.Blob(file.Artifact)
			if err != nil {
				return spec, err
			}
			*kind.to = append(*kind.to, envmgr.File{Name: file.Name, SHA256: file.Artifact, Path: path})
		}
	}
	return spec, nil
}

// askedBy names the functions of a stage and where the first is used.
func askedBy(calls []exec.FunctionCall) string {
	text := strings.Join(functionsOf(calls), ", ")
	if len(calls) > 0 && calls[0].Origin != nil {
		text += " (" + calls[0].Origin.File + ")"
	}
	return text
}

// Submit implements exec.FunctionSession.
func (s *session) Submit(ctx context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	s.mu.Lock()
	s.awaitRoomLocked(ctx)
	if s.stopped != nil {
		defer s.mu.Unlock()
		return nil, s.stopped
	}
	if ctx.Err() != nil {
		s.mu.Unlock()
		s.stop(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
	defer s.mu.Unlock()
	b := newBundle(s, input, firstRow)
	s.bundles = append(s.bundles, b)
	s.queueLocked()
	s.stirLocked()
	return b, nil
}

// awaitRoomLocked waits until one more bundle may be submitted, the session has
// stopped or ctx is done; mu is released meanwhile.
func (s *session) awaitRoomLocked(ctx context.Context) {
	if s.stopped != nil || !s.fullLocked() {
		return
	}
	wake := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer wake()
	for s.stopped == nil && ctx.Err() == nil && s.fullLocked() {
		s.changed.Wait()
	}
}

// Probe implements exec.FunctionSession.
func (s *session) Probe(_ context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		return nil, s.stopped
	}
	b := newBundle(s, input, firstRow)
	b.alone, b.careful, b.probe = true, true, true
	s.bundles = slices.Insert(s.bundles, len(s.begunLocked()), b)
	s.queueLocked()
	s.stirLocked()
	return b, nil
}

// fullLocked reports whether the worker has as much to do as it may. Bundles
// that are settled do not count, so a caller may submit without waiting.
func (s *session) fullLocked() bool {
	return len(s.bundles) >= bundlesInFlightMax
}

// creditLocked reports whether one more bundle may be begun: whether its input
// fits into the credit towards the worker, and what all will give into the
// credit back. Nothing can be taken back once it is begun, and nobody may have
// to wait with a result in hand, so both are reckoned beforehand: a bundle like
// the one before it, and as many bytes back for each as that has given.
func (s *session) creditLocked() bool {
	sent, expected := s.lastInput, s.resultOf(s.lastInput)
	for _, b := range s.begunLocked() {
		sent += b.inputBytes
		expected += max(b.resultBytes, s.resultOf(b.inputBytes))
	}
	credit := s.stage.Credit()
	return sent <= credit && expected <= credit
}

// resultOf is what an input is reckoned to give; mu is held.
func (s *session) resultOf(inputBytes int64) int64 {
	return int64(s.resultShare * float64(inputBytes))
}

// learnLocked notes what a bundle has given of its input.
func (s *session) learnLocked(b *bundle) {
	if b.inputBytes > 0 {
		s.lastInput, s.resultShare = b.inputBytes, float64(b.resultBytes)/float64(b.inputBytes)
	}
}

// queueLocked notes whether a bundle waits for the worker: one that it was not
// asked to run, or that it runs after another.
func (s *session) queueLocked() {
	waits := len(s.bundles) > 1 || len(s.bundles) == 1 && s.bundles[0].instruction == ""
	switch {
	case waits && s.queuedSince.IsZero():
		s.queuedSince = time.Now()
	case !waits && !s.queuedSince.IsZero():
		s.stage.Meter.Queued(time.Since(s.queuedSince))
		s.queuedSince = time.Time{}
	}
}

// Close implements exec.FunctionSession.
func (s *session) Close() error {
	s.stop(errDropped)
	<-s.finished
	s.mu.Lock()
	for b := range s.untaken {
		b.drop()
		b.err = errDropped
	}
	clear(s.untaken)
	s.mu.Unlock()
	s.leave()
	s.runner.closed(s)
	return nil
}

// stop settles all bundles with err; the first call decides.
func (s *session) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		return
	}
	s.stopped = err
	begun := false
	for len(s.bundles) > 0 {
		begun = begun || s.bundles[0].instruction != ""
		s.settleLocked(s.bundles[0], err)
	}
	// Where nobody wants more the worker may have done what it has begun in no
	// time, and then be of use to others: see drain.
	wanted := !errors.Is(err, exec.ErrStopped) && !errors.Is(err, errDropped)
	if s.lease != nil && !s.lease.lost && (begun && wanted || s.lease.sending) {
		s.lease.dirty = true
		s.runner.pool.Interrupt(s.lease.worker)
	}
	s.cancel()
	s.stirLocked()
}

// settleLocked decides a bundle's outcome: err, or what has come back.
func (s *session) settleLocked(b *bundle, err error) {
	if b.settled {
		return
	}
	b.settled, b.err = true, err
	if err != nil {
		b.drop()
	} else {
		s.untaken[b] = struct{}{}
	}
	for i, o := range s.bundles {
		if o == b {
			s.bundles = append(s.bundles[:i:i], s.bundles[i+1:]...)
			break
		}
	}
	if s.lease != nil && b.instruction != "" {
		delete(s.lease.bundles, b.instruction)
		if s.stopped == nil {
			if err == nil {
				s.praiseLocked(b)
			}
			s.learnLocked(b)
			if s.lease.worker.Near() > b.near {
				s.stage.Meter.Crowded(b.rows)
			}
			worked := s.lease.workedLocked(b)
			s.stage.Meter.Bundle(b.workLocked(worked))
			if err == nil && !b.probe {
				s.stage.Meter.Took(b.rows, worked)
			}
		}
	}
	s.queueLocked()
	s.stirLocked()
	if b.sending {
		b.stopReading()
	} else {
		close(b.done) // last: who is woken last runs first
	}
}

// decode reads a result; see decoder.decode.
func (s *session) decode(pieces []piece) ([]arrow.RecordBatch, error) {
	s.decoding.Lock()
	defer s.decoding.Unlock()
	return s.decoder.decode(pieces)
}

// run is the session's goroutine.
func (s *session) run() {
	defer close(s.finished)
	for {
		todo := s.next()
		b, l := todo.bundle, todo.lease
		switch {
		case todo.over:
			s.breakOff()
			s.finish()
			return
		case b == nil && !s.isLost(l):
			s.yield()
		case b == nil:
			s.bury(l)
		case l == nil:
			fresh, err := s.newLease(s.ctx, true)
			if err != nil {
				s.stop(s.locate(err))
				continue
			}
			s.hold(fresh)
		default:
			s.send(l, b)
		}
	}
}

// hold makes a lease the session's, or none. The worker may have hung up already.
func (s *session) hold(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = l
}

// step is what run is to do: give up a lost worker or give one back, which come
// without a bundle, or send a bundle, for which there may be no worker yet.
type step struct {
	bundle *bundle
	lease  *lease
	// over says that the session stops.
	over bool
}

// next waits for something to do.
func (s *session) next() step {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if todo, ok := s.stepLocked(); ok {
			return todo
		}
		s.work.Wait()
	}
}

// stepLocked is what there is to do now; ok is false where that is nothing.
func (s *session) stepLocked() (todo step, ok bool) {
	l := s.lease
	switch {
	case s.stopped != nil || s.broken != nil:
		return step{over: true}, true
	case l != nil && l.lost:
		return step{lease: l}, true
	case l != nil && (isDead(l.worker) || l.dirty):
		return step{}, false // it will be lost when what it sent has been read
	}
	b := s.sendableLocked()
	if s.turnIsOverLocked(b) {
		// Not before the worker has nothing of the session's.
		return step{lease: l}, len(s.begunLocked()) == 0
	}
	return step{bundle: b, lease: l}, b != nil
}

// breakOff stops a session that is broken.
func (s *session) breakOff() {
	s.mu.Lock()
	err := s.broken
	s.mu.Unlock()
	if err != nil {
		s.stop(err)
	}
}

// turnIsOverLocked reports whether the worker is to go to others, b being what
// is to be sent next, if anything.
func (s *session) turnIsOverLocked(b *bundle) bool {
	if s.crew == nil || s.lease == nil || !s.crew.contended() {
		return false
	}
	return b == nil || time.Since(s.lease.begun) >= turnTime
}

func (s *session) isLost(l *lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.lost
}

// yield gives the worker back, which has nothing of the session's.
func (s *session) yield() {
	s.mu.Lock()
	l := s.lease
	s.lease = nil
	reusable := !l.dirty
	s.mu.Unlock()
	l.end(reusable)
}

// sendableLocked is the first bundle that is not begun, if the worker may have
// it now.
func (s *session) sendableLocked() *bundle {
	for i, b := range s.bundles {
		switch {
		case b.instruction != "":
		case i == 0:
			return b
		case b.alone || s.bundles[0].alone || !s.creditLocked():
			return nil
		default:
			return b
		}
	}
	return nil
}

// finish gives the worker back.
func (s *session) finish() {
	s.mu.Lock()
	s.drainLocked()
	l := s.lease
	s.lease = nil
	reusable := l != nil && !l.dirty && !l.lost
	s.mu.Unlock()
	if l != nil {
		l.end(reusable)
	}
}

// drainLocked waits a moment for a worker to do what it has begun and nobody
// wants any more, so that it need not be ended; mu is released meanwhile.
func (s *session) drainLocked() {
	l := s.lease
	if l == nil || l.dirty || l.lost {
		return
	}
	over := false
	timer := time.AfterFunc(s.runner.drainTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	for len(l.running) > 0 && !over && !l.lost {
		s.changed.Wait()
	}
	l.dirty = l.dirty || len(l.running) > 0
}

// bury gives up a lost worker and has all bundles run again that are not to
// blame for its death; see blameLocked.
func (s *session) bury(l *lease) {
	death := l.awaitDeath()
	at := l.endpoint.page.read()
	s.mu.Lock()
	s.lease = nil
	l.bundles = nil
	err := s.blameLocked(l, death, at)
	for _, b := range s.bundles {
		b.drop()
		b.attempt = attempt{}
	}
	s.queueLocked()
	s.mu.Unlock()
	l.end(false)
	if err != nil {
		s.stop(err)
	}
}

// begunLocked are the bundles that the worker was asked to run and that are
// not settled.
func (s *session) begunLocked() []*bundle {
	n := 0
	for n < len(s.bundles) && s.bundles[n].instruction != "" {
		n++
	}
	return s.bundles[:n]
}

// send sends a bundle to the worker. Where the worker is lost meanwhile it
// returns, and run sees to it.
func (s *session) send(l *lease, b *bundle) {
	ctx, ok := s.begin(l, b)
	if !ok {
		return
	}
	err := s.sendInput(ctx, l, b)
	s.mu.Lock()
	early := b.settled && !b.sentAll && s.stopped == nil && !l.lost
	s.mu.Unlock()
	if early {
		// The worker has answered without reading all; it need not wait for
		// the rest.
		_ = l.endpoint.lane.sendEnd(b.instruction)
	}
	s.mu.Lock()
	b.sending, l.sending = false, false
	b.stopReading()
	settled, lost := b.settled, l.lost
	if settled {
		close(b.done)
	} else if b.again {
		s.againLocked(l, b)
	}
	again := b.instruction == ""
	s.mu.Unlock()
	switch {
	case err == nil || lost || settled || again:
	case errors.Is(err, errSend):
		// The stream has broken: the worker is gone, or as good as.
		l.hungUp()
	default:
		s.stop(err)
	}
}

// begin gives b to the worker; ok is false if b or the worker is done with.
func (s *session) begin(l *lease, b *bundle) (ctx context.Context, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.settled || l.lost {
		return nil, false
	}
	b.instruction = l.endpoint.newInstruction()
	b.sending, l.sending = true, true
	b.begunAt = time.Now()
	b.near = l.worker.Near()
	ctx, b.stopReading = context.WithCancel(l.ctx)
	s.queueLocked()
	l.bundles[b.instruction] = b
	l.running[b.instruction] = struct{}{}
	return ctx, true
}

// errSend is in the chain of errors of the worker's streams.
var errSend = errors.New("the worker cannot be reached")

// sendInput asks the worker to run b and sends its input. ctx is done when
// nobody needs it any more.
func (s *session) sendInput(ctx context.Context, l *lease, b *bundle) error {
	descriptor := s.stage.ID
	if b.careful {
		descriptor += carefulSuffix
	}
	// What a function of its whole input reads may be long in coming.
	if err := l.endpoint.lane.process(b.instruction, descriptor, !s.stage.Kind.WholeInput()); err != nil {
		return fmt.Errorf("%w: %w", errSend, err)
	}
	if err := l.endpoint.lane.awaitData(ctx); err != nil {
		return fmt.Errorf("%w: %w", errSend, err)
	}
	reader, err := b.input.Open(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	// One batch is read ahead, so that the last one can say that it is.
	batch, err := readBatch(ctx, reader)
	if err != nil {
		return err
	}
	if batch == nil {
		s.mu.Lock()
		b.sentAll = true
		s.mu.Unlock()
		return l.endpoint.lane.sendEnd(b.instruction)
	}
	for batch != nil {
		began := time.Now()
		following, err := readBatch(ctx, reader)
		s.mu.Lock()
		b.inputWaited += time.Since(began)
		s.mu.Unlock()
		if err == nil {
			err = s.sendBatch(ctx, l, b, batch, following == nil)
		}
		batch.Release()
		if err != nil && following != nil {
			following.Release()
		}
		if err != nil {
			return err
		}
		batch = following
	}
	return nil
}

// readBatch gives the next batch, which the caller releases, or nil at the
// end.
func readBatch(ctx context.Context, reader exec.BatchReader) (arrow.RecordBatch, error) {
	batch, err := reader.Next(ctx)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return batch, err
}

// sendBatch sends a batch, which stays the caller's. It blocks while the worker
// does not read.
func (s *session) sendBatch(ctx context.Context, l *lease, b *bundle, batch arrow.RecordBatch, last bool) error {
	if err := s.checkInput(batch); err != nil {
		return err
	}
	s.mu.Lock()
	b.rows += batch.NumRows()
	b.batchRows = append(b.batchRows, batch.NumRows())
	b.sentAll = last
	s.mu.Unlock()
	err := l.endpoint.lane.sendBatch(b.instruction, batch, last, func(bytes int) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// What a function of its whole input reads is not held here: what is on
		// its way is bounded by the lane.
		s.mu.Lock()
		defer s.mu.Unlock()
		b.sentBytes += int64(bytes)
		if !s.stage.Kind.WholeInput() {
			b.inputBytes += int64(bytes)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSend) && ctx.Err() == nil {
		return diag.From(fmt.Errorf("write a batch for %s: %w", functionNames(s.stage), err))
	}
	return err
}

// checkInput compares a batch with what the worker was told to expect.
func (s *session) checkInput(batch arrow.RecordBatch) error {
	have, want := batch.Schema(), s.stage.Input
	if have.NumFields() != want.NumFields() {
		return diag.From(fmt.Errorf("stage %s: a batch of %d columns where %d are expected", s.stage.ID, have.NumFields(), want.NumFields()))
	}
	for i := range have.NumFields() {
		if !arrow.TypeEqual(have.Field(i).Type, want.Field(i).Type) {
			return diag.From(fmt.Errorf("stage %s: column %d has type %s where %s is expected", s.stage.ID, i, have.Field(i).Type, want.Field(i).Type))
		}
	}
	return nil
}
