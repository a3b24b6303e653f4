package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/go-tests/fixture"
)

const token = "the token of this test"

// served is a server of a test. Jobs without Python functions run; there is no
// supervisor of workers.
type served struct {
	*Server
	address string
	engine  *engine.Engine
	ended   <-chan error
}

// serveWith starts a server on a unix socket, which ends with the test.
func serveWith(t *testing.T, options Options, engineOptions engine.Options) *served {
	t.Helper()
	runDir := fixture.ShortDir(t)
	engineOptions.RunDir, engineOptions.CacheDir, engineOptions.SpillDir = runDir, t.TempDir(), t.TempDir()
	engineOptions.WorkerPool, engineOptions.Log = []string{"/bin/false"}, io.Discard
	e, err := engine.Open(t.Context(), engineOptions)
	if err != nil {
		t.Fatal(err)
	}
	options.Engine = e
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen(t.Context(), "unix:"+filepath.Join(runDir, "engine.sock"), Security{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		done <- s.Serve(ctx, listener)
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return &served{s, listener.Address, e, done}
}

// dial makes a Flight client.
func (s *served) dial(t *testing.T) flight.Client {
	t.Helper()
	client, err := flight.NewClientWithMiddleware(strings.Replace(s.address, "grpc+unix://", "unix:", 1), nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// serve starts the server of an embedded engine and gives a client of it.
func serve(t *testing.T) (client flight.Client, e *engine.Engine, ended <-chan error) {
	t.Helper()
	s := serveWith(t, Options{Token: token, Embedded: true}, engine.Options{})
	return s.dial(t), s.engine, s.ended
}

func authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

type answer struct {
	OK    json.RawMessage
	Error *diag.Diagnostic
	End   *endEvent
	Log   *logEvent
}

// act carries out an action and gives its answers.
func act(ctx context.Context, client flight.Client, name, body string) ([]answer, error) {
	stream, err := client.DoAction(ctx, &flight.Action{Type: name, Body: []byte(body)})
	if err != nil {
		return nil, err
	}
	var answers []answer
	for {
		result, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return nil, err
		}
		var a answer
		if err := json.Unmarshal(result.Body, &a); err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
}

func one(t *testing.T, client flight.Client, name, body string) answer {
	t.Helper()
	return oneAs(authorized(t.Context()), t, client, name, body)
}

func oneAs(ctx context.Context, t *testing.T, client flight.Client, name, body string) answer {
	t.Helper()
	answers, err := act(ctx, client, name, body)
	if err != nil || len(answers) != 1 {
		t.Fatalf("%s: %d answers, %v", name, len(answers), err)
	}
	return answers[0]
}

func put(t *testing.T, client flight.Client, rows int64, path ...string) error {
	t.Helper()
	return putAs(authorized(t.Context()), t, client, rows, path...)
}

func putAs(ctx context.Context, t *testing.T, client flight.Client, rows int64, path ...string) error {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	for i := range rows {
		b.Append(i)
	}
	batch := array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, rows)
	stream, err := client.DoPut(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: path})
	// Of a server that has refused already a write tells the end alone, and Recv why.
	if err := w.Write(batch); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return err
}

const plans = `{"version":1,"nodes":[{"id":"t","op":"table","args":{"table":"numbers"}},` +
	`{"id":"f","op":"filter","inputs":["t"],"args":{"predicate":{"sql":"id >= 10"}}},{"id":"out","op":"collect","inputs":["f"]}]}`

func TestATableGoesInAndRowsComeOut(t *testing.T) {
	client, _, _ := serve(t)
	if err := put(t, client, 1000, "table", "numbers"); err != nil {
		t.Fatal(err)
	}
	submitted := one(t, client, "submit", `{"plan":`+plans+`}`)
	if string(submitted.OK) != `{"job":"j1"}` {
		t.Fatalf("%s %v", submitted.OK, submitted.Error)
	}
	stream, err := client.DoGet(authorized(t.Context()), &flight.Ticket{Ticket: []byte(`{"job":"j1","output":"out"}`)})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	var rows int64
	for reader.Next() {
		rows += reader.RecordBatch().NumRows()
	}
	if reader.Err() != nil || rows != 990 {
		t.Errorf("%d rows, %v", rows, reader.Err())
	}
	events, err := act(authorized(t.Context()), client, "watch", `{"job":"j1"}`)
	if err != nil || len(events) == 0 {
		t.Fatal(len(events), err)
	}
	end := events[len(events)-1].End
	if end == nil || end.State != engine.Succeeded || end.Error != nil || len(end.Metrics.Operators) != 3 {
		t.Errorf("the end is %+v", end)
	}
}

func TestRefusals(t *testing.T) {
	client, _, _ := serve(t)
	for _, name := range []string{"", "Bearer wrong", "the token of this test"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", name)
		if _, err := act(ctx, client, "status", "{}"); status.Code(err) != codes.Unauthenticated {
			t.Errorf("authorization %q: %v", name, err)
		}
	}
	for _, c := range []struct {
		action, body string
		code         diag.Code
	}{
		{"fly", "{}", diag.InvalidPlan},
		{"submit", "not json", diag.InvalidPlan},
		{"submit", `{"plan":{"version":1,"nodes":[]}}`, diag.InvalidPlan},
		{"submit", `{"plan":` + plans + `}`, diag.InvalidPlan}, // no such table
		{"describe", `{"plan":` + plans + `,"node":"nothing"}`, diag.InvalidPlan},
		{"cancel", `{"job":"j7"}`, diag.UnknownJob},
		{"watch", `{"job":"j7"}`, diag.UnknownJob},
	} {
		if a := one(t, client, c.action, c.body); a.Error == nil || a.Error.Code != c.code {
			t.Errorf("%s %s: %s %v", c.action, c.body, a.OK, a.Error)
		}
	}
	if err := put(t, client, 1, "elsewhere"); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("a wrong path: %v", err)
	}
	for _, ticket := range []string{"x", `{"job":"j7","output":"out"}`} {
		stream, err := client.DoGet(authorized(t.Context()), &flight.Ticket{Ticket: []byte(ticket)})
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil {
			t.Errorf("ticket %s was honoured", ticket)
		}
	}
}

// TestAClientThatLeavesCancelsItsJob: nobody will read the rest.
func TestAClientThatLeavesCancelsItsJob(t *testing.T) {
	client, e, _ := serve(t)
	const rows = 20_000_000 // more than queues and transport hold
	if err := put(t, client, rows, "table", "numbers"); err != nil {
		t.Fatal(err)
	}
	one(t, client, "submit", `{"plan":`+plans+`}`)
	ctx, leave := context.WithCancel(authorized(t.Context()))
	stream, err := client.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"job":"j1","output":"out"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	leave()
	job, err := e.Job("j1")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-job.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the job goes on")
	}
	if job.State() != engine.Cancelled {
		t.Errorf("the job is %s", job.State())
	}
}

func TestShutdown(t *testing.T) {
	client, _, ended := serve(t)
	// The server may cut the connection before the answer's end is read.
	if _, err := act(authorized(t.Context()), client, "shutdown", "{}"); err != nil && status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on")
	}
}

func TestAServerNeedsAToken(t *testing.T) {
	if _, err := New(Options{Embedded: true}); err == nil {
		t.Error("a server of an embedded engine was made without a token")
	}
}
