package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
	if action.GetType() == "watch" {
		return s.watch(action.GetBody(), stream)
	}
	answer, err := s.act(stream.Context(), action.GetType(), action.GetBody())
	if err != nil {
		return send(stream, map[string]any{"error": diag.From(err)})
	}
	if err := send(stream, map[string]any{"ok": answer}); err != nil {
		return err
	}
	if action.GetType() == "shutdown" {
		s.server.stop()
	}
	return nil
}

func send(stream sender, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	return stream.Send(&flight.Result{Body: body})
}

// act carries out an action that has one answer.
func (s *service) act(ctx context.Context, name string, body []byte) (any, error) {
	e := s.server.engine
	switch name {
	case "put-artifact":
		id, err := e.PutArtifact(body)
		return map[string]string{"artifact": id}, err
	case "has-artifact":
		request, err := decode[struct{ Artifact string }](body)
		return e.HasArtifact(request.Artifact), err
	case "drop-table":
		request, err := decode[struct{ Table string }](body)
		e.DropTable(request.Table)
		return true, err
	case "describe":
		return s.describe(ctx, body)
	case "query-names":
		request, err := decode[struct {
			Query  string
			Origin *diag.Source
		}](body)
		if err != nil {
			return nil, err
		}
		return e.QueryNames(ctx, request.Query, request.Origin)
	case "submit":
		return s.submit(ctx, body)
	case "cancel":
		request, err := decode[struct{ Job string }](body)
		if err != nil {
			return nil, err
		}
		job, err := e.Job(request.Job)
		if err != nil {
			return nil, err
		}
		job.Cancel()
		return true, nil
	case "status":
		return e.Status(), nil
	case "shutdown":
		return true, nil
	}
	return nil, diag.New(diag.InvalidPlan, "the engine knows no action %q", name).
		WithHint("install the same version of client and engine")
}

func decode[T any](body []byte) (T, error) {
	var request T
	if err := json.Unmarshal(body, &request); err != nil {
		return request, diag.New(diag.InvalidPlan, "a request is not valid JSON").WithCause(err)
	}
	return request, nil
}

func (s *service) describe(ctx context.Context, body []byte) (any, error) {
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
	schema, err := s.server.engine.Describe(ctx, p, request.Node)
	if err != nil {
		return nil, err
	}
	message := flight.SerializeSchema(schema, memory.DefaultAllocator)
	return map[string]string{"schema": base64.StdEncoding.EncodeToString(message)}, nil
}

func (s *service) submit(ctx context.Context, body []byte) (any, error) {
	request, err := decode[struct{ Plan json.RawMessage }](body)
	if err != nil {
		return nil, err
	}
	p, err := plan.Decode(request.Plan)
	if err != nil {
		return nil, err
	}
	job, err := s.server.engine.Submit(ctx, p)
	if err != nil {
		return nil, err
	}
	return map[string]string{"job": job.ID}, nil
}

// watch reports a job's progress and output until it ends.
func (s *service) watch(body []byte, stream sender) error {
	request, err := decode[struct{ Job string }](body)
	if err != nil {
		return send(stream, map[string]any{"error": diag.From(err)})
	}
	job, err := s.server.engine.Job(request.Job)
	if err != nil {
		return send(stream, map[string]any{"error": diag.From(err)})
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	logged := 0
	for {
		select {
		case <-job.Done():
			return sendEnd(stream, job, logged)
		case <-ticker.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if logged, err = sendProgress(stream, job, logged); err != nil {
			return err
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
	lines, next := job.Log(logged)
	for _, line := range lines {
		if err := send(stream, map[string]any{"log": logEvent{line.Function, line.Level, line.Text}}); err != nil {
			return next, err
		}
	}
	return next, send(stream, map[string]any{"progress": progressOf(job)})
}

func sendEnd(stream sender, job *engine.Job, logged int) error {
	if _, err := sendProgress(stream, job, logged); err != nil {
		return err
	}
	return send(stream, map[string]any{"end": endEvent{
		State: job.State(), Error: diag.From(job.Wait(stream.Context())), Metrics: progressOf(job),
	}})
}

// DoPut implements the Flight service: a table is uploaded under the name
// that its descriptor's path ("table", name) gives.
func (s *service) DoPut(stream flight.FlightService_DoPutServer) error {
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	defer reader.Release()
	path := reader.LatestFlightDescriptor().GetPath()
	if len(path) != 2 || path[0] != "table" || path[1] == "" {
		return status.Errorf(codes.InvalidArgument, "a table is put under the path (\"table\", name), not %q", path)
	}
	if err := s.server.engine.PutTable(stream.Context(), path[1], reader); err != nil {
		return status.Error(codes.Internal, string(diag.From(err).JSON()))
	}
	return stream.Send(&flight.PutResult{})
}

// DoGet implements the Flight service: the ticket is {"job": …, "output": …}.
// A client that goes away before the end cancels the job.
func (s *service) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	request, err := decode[struct{ Job, Output string }](ticket.GetTicket())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	job, err := s.server.engine.Job(request.Job)
	if err != nil {
		return status.Error(codes.NotFound, string(diag.From(err).JSON()))
	}
	reader, err := job.Result(request.Output)
	if err != nil {
		return status.Error(codes.NotFound, string(diag.From(err).JSON()))
	}
	defer reader.Release()
	stop := context.AfterFunc(stream.Context(), job.Cancel)
	defer stop()
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(reader.Schema()))
	for reader.Next() {
		if err := writer.Write(reader.RecordBatch()); err != nil {
			return errors.Join(err, writer.Close())
		}
	}
	if err := errors.Join(reader.Err(), writer.Close()); err != nil {
		return status.Error(codes.Aborted, string(diag.From(err).JSON()))
	}
	return nil
}
