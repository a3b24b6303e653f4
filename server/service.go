package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Protocol is the version of what client and server say to one another.
const Protocol = 1

// versionBytesMax is what is told of a client's version.
const versionBytesMax = 64

// watchInterval is the time between two reports of a job's progress.
const watchInterval = 100 * time.Millisecond

// service is the Flight service of a server.
type service struct {
	flight.BaseFlightServer
	server *Server
}

// sender is the part of a stream of results that actions need.
type sender interface {
	Send(*flight.Result) error
	Context() context.Context
}

// DoAction implements the Flight service.
func (s *service) DoAction(action *flight.Action, stream flight.FlightService_DoActionServer) error {
	var err error
	switch action.GetType() {
	case "attach":
		err = s.attach(action.GetBody(), stream)
	case "watch":
		err = s.watch(action.GetBody(), stream)
	case "job-log":
		err = s.jobLog(action.GetBody(), stream)
	default:
		var answer any
		if answer, err = s.act(stream.Context(), action.GetType(), action.GetBody()); err == nil {
			err = send(stream, map[string]any{"ok": answer})
		}
	}
	if d, ok := errors.AsType[*diag.Diagnostic](err); ok || err != nil && status.Code(err) == codes.Unknown && stream.Context().Err() == nil {
		if d == nil {
			d = diag.From(err)
		}
		return send(stream, map[string]any{"error": s.explained(d)})
	}
	if err == nil && action.GetType() == "shutdown" {
		s.server.stop()
	}
	return err
}

func send(stream sender, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	return stream.Send(&flight.Result{Body: body})
}

// explained adds what a client on another machine could not know.
func (s *service) explained(d *diag.Diagnostic) *diag.Diagnostic {
	if s.server.options.Embedded || d.Code != diag.FileMissing {
		return d
	}
	host, err := os.Hostname()
	if err != nil {
		host = "the server"
	}
	more := *d
	more.Facts = append([]string{"paths are of the disk of the server, " + host}, d.Facts...)
	return &more
}

// act carries out an action that has one answer.
func (s *service) act(ctx context.Context, name string, body []byte) (any, error) {
	switch name {
	case "jobs":
		return infos(s.server.jobs.list(nil)), nil
	case "job", "cancel-job", "savepoint":
		return s.actOnJob(ctx, name, body)
	case "shutdown":
		if !s.server.options.Embedded {
			return nil, diag.New(diag.InvalidPlan, "a server is ended by a signal, not by its clients")
		}
		return true, nil
	}
	session, err := s.server.sessions.of(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.actIn(ctx, session, name, body)
	return answer, session.unowned(err)
}

// actIn carries out an action of a session.
func (s *service) actIn(ctx context.Context, session *session, name string, body []byte) (any, error) {
	sessions := s.server.sessions
	switch name {
	case "put-artifact":
		id, err := sessions.putArtifact(session, body)
		return map[string]string{"artifact": id}, err
	case "has-artifact":
		request, err := decode[struct{ Artifact string }](body)
		return sessions.hasArtifact(session, request.Artifact), err
	case "drop-table":
		request, err := decode[struct{ Table string }](body)
		sessions.drop(session, request.Table)
		return true, err
	case "describe":
		return s.describe(ctx, session, body)
	case "query-names":
		request, err := decode[struct {
			Query  string
			Origin *diag.Source
		}](body)
		if err != nil {
			return nil, err
		}
		return s.server.engine.QueryNames(ctx, request.Query, request.Origin)
	case "submit":
		return s.submit(ctx, session, body)
	case "cancel":
		request, err := decode[struct{ Job string }](body)
		if err != nil {
			return nil, err
		}
		one, err := s.server.jobs.findOf(session, request.Job)
		if err != nil {
			return nil, err
		}
		one.job.Cancel()
		return true, nil
	case "dead-letters":
		request, err := decode[struct{ Job string }](body)
		if err != nil {
			return nil, err
		}
		return s.deadLetters(session, request.Job)
	case "status":
		return s.status(session), nil
	case "detach":
		if sessions.embedded != nil {
			return nil, diag.New(diag.InvalidPlan, "the client of an embedded engine ends it")
		}
		return true, sessions.detach(ctx, session)
	}
	return nil, diag.New(diag.InvalidPlan, "the engine knows no action %q", name).
		WithHint("install the same version of client and engine")
}

// keptLetters is what is told of the dead letters of a function's call.
type keptLetters struct {
	Function string `json:"function"`
	Rows     int64  `json:"rows"`
}

// deadLetters tells which functions of a job keep dead letters, in the order in
// which a ticket numbers them.
func (s *service) deadLetters(session *session, job string) ([]keptLetters, error) {
	one, err := s.server.jobs.findOf(session, job)
	if err != nil {
		return nil, err
	}
	kept := []keptLetters{}
	for _, f := range one.job.DeadLetters() {
		kept = append(kept, keptLetters{f.Function(), f.Total()})
	}
	return kept, nil
}

// sendLetters sends the dead letters of a function's call.
func sendLetters(job *engine.Job, index int, stream flight.FlightService_DoGetServer) error {
	kept := job.DeadLetters()
	if index < 0 || index >= len(kept) {
		return status.Errorf(codes.NotFound, "job %s has no dead letters of number %d", job.ID, index)
	}
	reader, err := kept[index].Letters()
	if err != nil {
		return status.Error(codes.NotFound, string(diag.From(err).JSON()))
	}
	defer reader.Release()
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(reader.Schema()))
	for reader.Next() && err == nil {
		err = writer.Write(reader.RecordBatch())
	}
	return errors.Join(err, reader.Err(), writer.Close())
}

// status is the engine's, with the jobs of the session alone.
func (s *service) status(session *session) engine.Status {
	status := s.server.engine.Status()
	status.Jobs = []engine.JobStatus{}
	for _, one := range s.server.jobs.list(session) {
		status.Jobs = append(status.Jobs, engine.JobStatus{ID: one.job.ID, State: one.job.State()})
	}
	return status
}

// actOnJob carries out an action on any job of the server.
func (s *service) actOnJob(ctx context.Context, name string, body []byte) (any, error) {
	request, err := decode[struct{ Job string }](body)
	if err != nil {
		return nil, err
	}
	one, err := s.server.jobs.find(request.Job)
	if err != nil {
		return nil, err
	}
	switch name {
	case "cancel-job":
		one.job.Cancel()
		return one.info(), nil
	case "savepoint":
		path, err := one.job.Savepoint(ctx)
		return map[string]string{"path": path}, err
	}
	return one.details(), nil
}

func decode[T any](body []byte) (T, error) {
	var request T
	if err := json.Unmarshal(body, &request); err != nil {
		return request, diag.New(diag.InvalidPlan, "a request is not valid JSON").WithCause(err)
	}
	return request, nil
}

// Greeting is what client and server tell each other of themselves.
type Greeting struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	PID      int    `json:"pid,omitempty"`
}

// attach begins a session, which lives as long as this stream.
func (s *service) attach(body []byte, stream sender) error {
	request, err := decode[Greeting](body)
	if err != nil {
		return err
	}
	if request.Protocol != Protocol {
		return diag.New(diag.WrongVersion, "the client speaks protocol %d, the server protocol %d", request.Protocol, Protocol).
			WithFact("client %s, server %s", request.Version, s.server.options.Version).
			WithHint("install the same version of client and server")
	}
	if s.server.Draining() {
		return ending("takes no new connections")
	}
	session, err := s.server.sessions.attach(stream.Context())
	if err != nil {
		return err
	}
	log := s.server.options.Log.With("session", session.shown())
	log.Info("client attached", "version", request.Version[:min(len(request.Version), versionBytesMax)])
	defer log.Info("client left")
	defer s.server.held()()
	defer s.server.sessions.end(session)
	if err := send(stream, map[string]any{"ok": Greeting{Protocol, s.server.options.Version, os.Getpid()}}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return nil
	case <-session.leave:
		return nil
	case <-s.server.detach:
		return send(stream, map[string]any{"error": diag.New(diag.ConnectionLost, "the server was ended").
			WithHint("connect again once it has been started anew")})
	}
}

func ending(what string) error {
	return diag.New(diag.ServerEnding, "the server is being ended and %s", what).
		WithHint("connect again once it has been started anew")
}

func (s *service) describe(ctx context.Context, session *session, body []byte) (any, error) {
	request, err := decode[struct {
		Plan json.RawMessage
		Node string
	}](body)
	if err != nil {
		return nil, err
	}
	p, err := plan.Decode(request.Plan)
	if err != nil {
		return nil, err
	}
	owned, _ := session.owned(p)
	schema, err := s.server.engine.Describe(ctx, owned, request.Node)
	if err != nil {
		return nil, err
	}
	message := flight.SerializeSchema(schema, memory.DefaultAllocator)
	return map[string]string{"schema": base64.StdEncoding.EncodeToString(message)}, nil
}

func (s *service) submit(ctx context.Context, session *session, body []byte) (_ any, err error) {
	request, err := decode[struct {
		Plan json.RawMessage
		// Name is what the client calls the job.
		Name string
		// Detached jobs go on when the client leaves.
		Detached bool
	}](body)
	if err != nil {
		return nil, err
	}
	if s.server.Draining() {
		return nil, ending("takes no new jobs")
	}
	p, err := plan.Decode(request.Plan)
	if err != nil {
		return nil, err
	}
	sessions, jobs := s.server.sessions, s.server.jobs
	jobs.sweep()
	if n := jobs.runningOf(session); sessions.embedded == nil && n >= sessions.limits.SessionJobs {
		return nil, full("%d jobs of this connection are running, which is its limit on the server", n).WithHint("wait for one of them to end")
	}
	owned, handsOver := session.owned(p)
	one := &entry{name: nameOf(request.Name, p), session: session, detached: request.Detached && !handsOver, artifacts: p.Artifacts()}
	if err := sessions.useArtifacts(session, one.artifacts); err != nil {
		return nil, err
	}
	if one.job, err = s.server.engine.SubmitIn(ctx, owned, session.id); err != nil {
		sessions.releaseArtifacts(one.artifacts)
		return nil, err
	}
	jobs.add(one, func() bool {
		sessions.mu.Lock()
		defer sessions.mu.Unlock()
		return session.ended
	})
	return map[string]string{"job": one.job.ID}, nil
}

// watch reports a job's progress and output until it ends.
func (s *service) watch(body []byte, stream sender) error {
	request, err := decode[struct{ Job string }](body)
	if err != nil {
		return err
	}
	session, err := s.server.sessions.of(stream.Context())
	if err != nil {
		return err
	}
	one, err := s.server.jobs.findOf(session, request.Job)
	if err != nil {
		return err
	}
	job := one.job
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	logged := 0
	for {
		select {
		case <-job.Done():
			return s.sendEnd(stream, job, logged)
		case <-ticker.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if logged, err = sendProgress(stream, job, logged); err != nil {
			return err
		}
	}
}

// jobLog tells what a job has printed and logged, and with follow what it will
// until it ends.
func (s *service) jobLog(body []byte, stream sender) error {
	request, err := decode[struct {
		Job    string
		Follow bool
	}](body)
	if err != nil {
		return err
	}
	one, err := s.server.jobs.find(request.Job)
	if err != nil {
		return err
	}
	defer s.server.held()()
	if err := send(stream, map[string]any{"ok": one.info()}); err != nil {
		return err
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	logged := 0
	for {
		ended := one.job.State() != engine.Running
		if logged, err = sendLog(stream, one.job, logged); err != nil {
			return err
		}
		if ended || !request.Follow {
			return send(stream, map[string]any{"ok": one.info()})
		}
		select {
		case <-ticker.C:
		case <-s.server.detach:
			return ending("tells no more")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// progressEvent is how far a job is.
type progressEvent struct {
	Operators []exec.Progress `json:"operators"`
	ElapsedS  float64         `json:"elapsed_s"`
	// Checkpoints is null for a job without them.
	Checkpoints any `json:"checkpoints,omitempty"`
}

// logEvent is a line that a function has printed or logged.
type logEvent struct {
	Function string `json:"function"`
	Level    string `json:"level"`
	Text     string `json:"text"`
}

// endEvent is the outcome of a job.
type endEvent struct {
	State   engine.State     `json:"state"`
	Error   *diag.Diagnostic `json:"error"`
	Metrics progressEvent    `json:"metrics"`
	// Profile are samples of what the functions did, where the plan asks for it.
	Profile map[string]int64 `json:"profile,omitempty"`
	// EndedBy is what has ended a stream before its source had an end.
	EndedBy string `json:"ended_by,omitempty"`
}

func progressOf(job *engine.Job) progressEvent {
	event := progressEvent{Operators: job.Progress(), ElapsedS: job.Elapsed().Seconds()}
	if stats := job.Checkpoints(); stats != nil {
		event.Checkpoints = stats
	}
	return event
}

// sendProgress sends the lines from number logged on, and how far the job is.
// It gives the number of the next line.
func sendProgress(stream sender, job *engine.Job, logged int) (int, error) {
	next, err := sendLog(stream, job, logged)
	if err != nil {
		return next, err
	}
	return next, send(stream, map[string]any{"progress": progressOf(job)})
}

func sendLog(stream sender, job *engine.Job, logged int) (int, error) {
	lines, next := job.Log(logged)
	for _, line := range lines {
		if err := send(stream, map[string]any{"log": logEvent{line.Function, line.Level, line.Text}}); err != nil {
			return next, err
		}
	}
	return next, nil
}

func (s *service) sendEnd(stream sender, job *engine.Job, logged int) error {
	if _, err := sendProgress(stream, job, logged); err != nil {
		return err
	}
	end := endEvent{State: job.State(), Error: diag.From(job.Failure()), Metrics: progressOf(job), EndedBy: job.EndedBy(), Profile: job.Profile()}
	if end.Error != nil {
		end.Error = s.explained(end.Error)
	}
	return send(stream, map[string]any{"end": end})
}

// DoPut implements the Flight service: a table is uploaded under the name
// that its descriptor's path ("table", name) gives.
func (s *service) DoPut(stream flight.FlightService_DoPutServer) error {
	session, err := s.server.sessions.of(stream.Context())
	if err != nil {
		return status.Error(codes.FailedPrecondition, string(diag.From(err).JSON()))
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	defer reader.Release()
	path := reader.LatestFlightDescriptor().GetPath()
	if len(path) != 2 || path[0] != "table" || path[1] == "" {
		return status.Errorf(codes.InvalidArgument, "a table is put under the path (\"table\", name), not %q", path)
	}
	charged := &chargedReader{RecordReader: reader, sessions: s.server.sessions, session: session}
	err = s.server.engine.PutTable(stream.Context(), session.table(path[1]), charged)
	if charged.err != nil {
		err = charged.err
	}
	if err = s.server.sessions.sent(session, path[1], charged.bytes, err); err != nil {
		return status.Error(codes.Aborted, string(diag.From(session.unowned(err)).JSON()))
	}
	return stream.Send(&flight.PutResult{})
}

// chargedReader counts what a session sends, and ends where it may send no
// more.
type chargedReader struct {
	array.RecordReader
	sessions *sessions
	session  *session
	bytes    int64
	err      error
}

// Next implements array.RecordReader.
func (r *chargedReader) Next() bool {
	if r.err != nil || !r.RecordReader.Next() {
		return false
	}
	bytes := exec.BatchBytes(r.RecordBatch())
	if r.err = r.sessions.charge(r.session, bytes); r.err != nil {
		return false
	}
	r.bytes += bytes
	return true
}

// Err implements array.RecordReader.
func (r *chargedReader) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.RecordReader.Err()
}

// DoGet implements the Flight service: the ticket is {"job": …, "output": …}.
// A client that goes away before the end cancels the job.
func (s *service) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	request, err := decode[struct {
		Job, Output string
		// Letters is the number of the dead letters that are wanted in place of
		// an output.
		Letters *int
	}](ticket.GetTicket())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	session, err := s.server.sessions.of(stream.Context())
	if err != nil {
		return status.Error(codes.FailedPrecondition, string(diag.From(err).JSON()))
	}
	one, err := s.server.jobs.findOf(session, request.Job)
	if err != nil {
		return status.Error(codes.NotFound, string(diag.From(err).JSON()))
	}
	job := one.job
	if request.Letters != nil {
		return sendLetters(job, *request.Letters, stream)
	}
	reader, err := job.Result(request.Output)
	if err != nil {
		return status.Error(codes.NotFound, string(diag.From(err).JSON()))
	}
	defer reader.Release()
	stop := context.AfterFunc(stream.Context(), job.Cancel)
	defer func() {
		if !stop() {
			// Before the reader is released: a result that nobody wants any more
			// would let the job end well.
			job.Cancel()
			<-job.Done()
		}
	}()
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(reader.Schema()))
	for reader.Next() {
		if err := writer.Write(reader.RecordBatch()); err != nil {
			job.Cancel()
			<-job.Done() // as above
			return errors.Join(err, writer.Close())
		}
	}
	if err := errors.Join(reader.Err(), writer.Close()); err != nil {
		return status.Error(codes.Aborted, string(diag.From(err).JSON()))
	}
	return nil
}
