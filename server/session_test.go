package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

// attached is a client with a session.
type attached struct {
	flight.Client
	ctx    context.Context
	detach func()
}

// attach connects a client as session n.
func (s *served) attach(t *testing.T, n int) *attached {
	t.Helper()
	a, err := s.tryAttach(t, fmt.Sprintf("%032x", n), fmt.Sprintf(`{"protocol":%d,"version":"test"}`, Protocol))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *served) tryAttach(t *testing.T, id, body string) (*attached, error) {
	t.Helper()
	return attachTo(t, s.dial(t), id, body)
}

func attachTo(t *testing.T, client flight.Client, id, body string) (*attached, error) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(authorized(t.Context()), sessionHeader, id)
	held, detach := context.WithCancel(ctx)
	t.Cleanup(detach)
	stream, err := client.DoAction(held, &flight.Action{Type: "attach", Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	result, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var greeting answer
	if err := json.Unmarshal(result.Body, &greeting); err != nil {
		t.Fatal(err)
	}
	if greeting.Error != nil {
		return nil, greeting.Error
	}
	return &attached{client, ctx, detach}, nil
}

func (a *attached) act(t *testing.T, name, body string) answer {
	t.Helper()
	return oneAs(a.ctx, t, a.Client, name, body)
}

// submit starts a job and gives its name.
func (a *attached) submit(t *testing.T, plan, more string) string {
	t.Helper()
	told := a.act(t, "submit", `{"plan":`+plan+more+`}`)
	var job struct{ Job string }
	if told.Error != nil || json.Unmarshal(told.OK, &job) != nil {
		t.Fatalf("submit: %s %v", told.OK, told.Error)
	}
	return job.Job
}

// rows reads all rows of a job.
func (a *attached) rows(t *testing.T, job string) (rows int64, err error) {
	t.Helper()
	stream, err := a.DoGet(a.ctx, &flight.Ticket{Ticket: []byte(`{"job":"` + job + `","output":"out"}`)})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return 0, err
	}
	defer reader.Release()
	for reader.Next() {
		rows += reader.RecordBatch().NumRows()
	}
	return rows, reader.Err()
}

// generated is a plan of rows at a rate, which ends in a sink.
func generated(rows, rate int, sink string) string {
	bound := ""
	if rows > 0 {
		bound = fmt.Sprintf(`"rows":%d,`, rows)
	}
	return fmt.Sprintf(`{"version":1,"nodes":[{"id":"g","op":"read_generator","args":{"columns":[{"name":"id","kind":"sequence","step":1}],%s"rows_per_second":%d,"batch_rows":10}},%s]}`, bound, rate, sink)
}

const collected = `{"id":"out","op":"collect","inputs":["g"],"args":{"endless":true}}`

func streamed(dir string) string {
	return fmt.Sprintf(`{"id":"out","op":"write_parquet","inputs":["g"],"args":{"path":%q,"mode":"error","folder":true,"checkpoint":{"dir":%q,"name":"s","interval_ms":3600000}}}`,
		filepath.Join(dir, "out")+"/", filepath.Join(dir, "state"))
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

// TestSessionsAreApart: equal names are different tables, and what belongs to
// one client is refused to another.
func TestSessionsAreApart(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	mine, yours := s.attach(t, 1), s.attach(t, 2)
	for a, rows := range map[*attached]int64{mine: 100, yours: 1000} {
		if err := putAs(a.ctx, t, a.Client, rows, "table", "numbers"); err != nil {
			t.Fatal(err)
		}
	}
	first, second := mine.submit(t, plans, ""), yours.submit(t, plans, `,"name":"theirs"`)
	if n, err := yours.rows(t, first); err == nil || !strings.Contains(err.Error(), string(diag.NotYours)) {
		t.Errorf("another's rows: %d, %v", n, err)
	}
	for a, c := range map[*attached]struct {
		job  string
		rows int64
	}{mine: {first, 90}, yours: {second, 990}} {
		if n, err := a.rows(t, c.job); n != c.rows || err != nil {
			t.Errorf("%d rows of %s, %v", n, c.job, err)
		}
	}
	for _, action := range []string{"cancel", "watch"} {
		if told := yours.act(t, action, `{"job":"`+first+`"}`); told.Error == nil || told.Error.Code != diag.NotYours {
			t.Errorf("%s of another's job: %+v", action, told)
		}
	}
	var status engine.Status
	if err := json.Unmarshal(yours.act(t, "status", "{}").OK, &status); err != nil || len(status.Jobs) != 1 || status.Jobs[0].ID != second {
		t.Errorf("the status shows %+v, %v", status.Jobs, err)
	}
	yours.act(t, "drop-table", `{"table":"numbers"}`)
	told := yours.act(t, "submit", `{"plan":`+plans+`}`)
	if told.Error == nil || told.Error.Message != `there is no table "numbers"` {
		t.Errorf("a dropped table: %+v", told.Error)
	}
	if n, err := mine.rows(t, mine.submit(t, plans, "")); n != 90 || err != nil {
		t.Errorf("after another has dropped its table: %d rows, %v", n, err)
	}
	var all []JobInfo
	if err := json.Unmarshal(one(t, mine.Client, "jobs", "{}").OK, &all); err != nil || len(all) != 3 || all[1].Name != "theirs" || all[0].Name != "collect" || all[1].Rows != 990 {
		t.Errorf("all jobs: %+v, %v", all, err)
	}
}

// TestTheEndOfASession: what a client waits for ends with it, what it has sent
// is dropped, and what is detached or used by others stays.
func TestTheEndOfASession(t *testing.T) {
	var log syncWriter
	s := serveWith(t, Options{Token: token, Log: slog.New(slog.NewTextHandler(&log, nil))}, engine.Options{})
	leaving, staying := s.attach(t, 1), s.attach(t, 2)
	if err := putAs(leaving.ctx, t, leaving.Client, 100, "table", "numbers"); err != nil {
		t.Fatal(err)
	}
	artifact := func(a *attached, content string) string {
		var put struct{ Artifact string }
		if told := a.act(t, "put-artifact", content); told.Error != nil || json.Unmarshal(told.OK, &put) != nil {
			t.Fatal(told.Error)
		}
		return put.Artifact
	}
	own, shared := artifact(leaving, "own"), artifact(leaving, "shared")
	if told := staying.act(t, "has-artifact", `{"artifact":"`+shared+`"}`); string(told.OK) != "true" {
		t.Fatalf("has-artifact: %s", told.OK)
	}
	waited := leaving.submit(t, generated(0, 100, collected), `,"detached":true`) // its rows go to the client: it cannot be
	detached := leaving.submit(t, generated(0, 100, streamed(t.TempDir())), `,"detached":true`)
	leaving.detach()
	waitFor(t, "the end of the job that was waited for", func() bool {
		job, err := s.engine.Job(waited)
		return err == nil && job.State() == engine.Cancelled && strings.Contains(job.Failure().Error(), "its client's connection ended")
	})
	waitFor(t, "the artifact's end", func() bool { return !s.engine.HasArtifact(own) })
	waitFor(t, "the session's end", func() bool { return s.sessions.count() == 1 })
	if !s.engine.HasArtifact(shared) {
		t.Error("an artifact of another session was dropped")
	}
	if _, uploads := s.sessions.heldBytes(); uploads != 0 {
		t.Errorf("%d bytes of tables are counted", uploads)
	}
	job, err := s.engine.Job(detached)
	if err != nil || job.State() != engine.Running {
		t.Fatalf("the detached job: %v, %v", job, err)
	}
	if told := leaving.act(t, "status", "{}"); told.Error == nil || told.Error.Code != diag.ConnectionLost {
		t.Errorf("a call after the end: %+v", told)
	}
	again := s.attach(t, 1)
	if told := again.act(t, "submit", `{"plan":`+plans+`}`); told.Error == nil || told.Error.Message != `there is no table "numbers"` {
		t.Errorf("a table has outlived its session: %+v", told)
	}
	if told := staying.act(t, "cancel-job", `{"job":"`+detached+`"}`); told.Error != nil {
		t.Error(told.Error)
	}
	<-job.Done()
	staying.detach()
	waitFor(t, "the shared artifact's end", func() bool { return !s.engine.HasArtifact(shared) })
	for _, line := range []string{
		`msg="client attached" session=000000 version=test`, `msg="job started" job=` + detached + " name=write_parquet session=000000 detached=true",
		`msg="job ended" job=` + waited + ` state=cancelled elapsed=`, `error="ALK5002: job ` + waited + " was cancelled because", `msg="client left" session=000000`,
	} {
		waitFor(t, "in the log: "+line, func() bool { return strings.Contains(log.text(), line) })
	}
}

// syncWriter keeps what several goroutines write.
type syncWriter struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *syncWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// deafConn hears nothing once it is deaf, as when a cable has been pulled.
type deafConn struct {
	net.Conn
	deaf, closed chan struct{}
	once         sync.Once
}

func (c *deafConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.deaf:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestAClientThatVanishesWithoutAWord is found by pings.
func TestAClientThatVanishesWithoutAWord(t *testing.T) {
	s := serveWith(t, Options{Token: token, ping: time.Second}, engine.Options{})
	conn := &deafConn{deaf: make(chan struct{}), closed: make(chan struct{})}
	client, err := flight.NewClientWithMiddleware("passthrough:///", nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (_ net.Conn, err error) {
			conn.Conn, err = (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(s.address, "grpc+unix://"))
			return conn, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	a, err := attachTo(t, client, fmt.Sprintf("%032x", 1), fmt.Sprintf(`{"protocol":%d}`, Protocol))
	if err != nil {
		t.Fatal(err)
	}
	job, err := s.engine.Job(a.submit(t, generated(0, 100, collected), ""))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // a client that answers is left alone
	if s.sessions.count() != 1 || job.State() != engine.Running {
		t.Fatalf("a client that lives was dropped; its job is %s", job.State())
	}
	close(conn.deaf)
	waitFor(t, "the session's end", func() bool { return s.sessions.count() == 0 })
	if <-job.Done(); job.State() != engine.Cancelled {
		t.Errorf("its job is %s", job.State())
	}
}

// TestAJobKeepsItsArtifacts until it ends, whatever its client does.
func TestAJobKeepsItsArtifacts(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	a := s.attach(t, 1)
	var put struct{ Artifact string }
	if err := json.Unmarshal(a.act(t, "put-artifact", "modules").OK, &put); err != nil {
		t.Fatal(err)
	}
	// The function is not called: there are no workers here.
	functions := `"functions":{"f":{"name":"f","kind":"row","result":"bigint","environment":"e","code":{"artifact":"` + put.Artifact + `"},"options":{}}},` +
		`"environments":{"e":{"interpreter":"/nowhere/python"}},`
	plan := strings.Replace(generated(0, 100, streamed(t.TempDir())), `"nodes"`, functions+`"nodes"`, 1)
	job := a.submit(t, plan, `,"detached":true`)
	if told := s.attach(t, 2).act(t, "submit", `{"plan":`+plan+`}`); told.Error == nil || !strings.Contains(told.Error.Message, "has not been sent") {
		t.Errorf("another session used an artifact that it has not sent: %+v", told)
	}
	a.detach()
	waitFor(t, "the session's end", func() bool { return s.sessions.count() <= 1 })
	if !s.engine.HasArtifact(put.Artifact) {
		t.Fatal("the artifact of a running job was dropped")
	}
	running, err := s.engine.Job(job)
	if err != nil {
		t.Fatal(err)
	}
	running.Cancel()
	<-running.Done()
	waitFor(t, "the artifact's end", func() bool { return !s.engine.HasArtifact(put.Artifact) })
	if held, _ := s.sessions.heldBytes(); s.engine.HasArtifact(put.Artifact) || held != 0 {
		t.Errorf("the artifact of an ended job stays, %d bytes", held)
	}
}

func TestLimits(t *testing.T) {
	limits := Limits{Sessions: 1, SessionJobs: 1, UploadBytes: 10_000, ArtifactBytes: 10}
	policy := &engine.Policy{Interpreters: []string{"/nowhere"}, MemoryBytes: 100 << 20}
	s := serveWith(t, Options{Token: token, Limits: limits}, engine.Options{Policy: policy})
	a := s.attach(t, 1)
	if _, err := s.tryAttach(t, fmt.Sprintf("%032x", 2), fmt.Sprintf(`{"protocol":%d}`, Protocol)); diag.From(err).Code != diag.ServerFull {
		t.Errorf("a second session: %v", err)
	}
	if err := putAs(a.ctx, t, a.Client, 1000, "table", "a"); err != nil {
		t.Fatal(err)
	}
	if err := putAs(a.ctx, t, a.Client, 1000, "table", "b"); err == nil || !strings.Contains(err.Error(), "which is its limit") || !strings.Contains(err.Error(), string(diag.ServerFull)) {
		t.Errorf("a second table: %v", err)
	}
	a.act(t, "drop-table", `{"table":"a"}`)
	if err := putAs(a.ctx, t, a.Client, 1000, "table", "b"); err != nil {
		t.Errorf("after the first table was dropped: %v", err)
	}
	if told := a.act(t, "put-artifact", "eleven bytes"); told.Error == nil || told.Error.Code != diag.ServerFull {
		t.Errorf("a large artifact: %+v", told)
	}
	if told := a.act(t, "put-artifact", "ten bytes!"); told.Error != nil {
		t.Error(told.Error)
	}
	if told := a.act(t, "put-artifact", "x"); told.Error == nil || told.Error.Code != diag.ServerFull {
		t.Errorf("artifacts beyond the limit: %+v", told)
	}
	a.submit(t, generated(0, 100, collected), "")
	if told := a.act(t, "submit", `{"plan":`+generated(0, 100, collected)+`}`); told.Error == nil || told.Error.Code != diag.ServerFull {
		t.Errorf("a second job: %+v", told)
	}
	function := func(options string) string {
		return strings.Replace(generated(1, 100, collected), `"nodes"`, `"functions":{"f":{"name":"big","kind":"row","result":"bigint","environment":"e","code":{"source":"def f(): pass","name":"f"},"options":`+options+`}},"environments":{"e":{"interpreter":"/nowhere/python"}},"nodes"`, 1)
	}
	a.act(t, "cancel", `{"job":"j1"}`)
	waitFor(t, "the first job's end", func() bool { return s.jobs.runningOf(s.sessions.byID[fmt.Sprintf("%032x", 1)]) == 0 })
	if told := a.act(t, "submit", `{"plan":`+function(`{"memory_bytes":209715200}`)+`}`); told.Error == nil || !strings.Contains(told.Error.Message, "big asks for 200 MiB of memory") {
		t.Errorf("a function of much memory: %+v", told)
	}
	a.submit(t, function(`{}`), "") // the default is lowered
}

func TestAttachRefuses(t *testing.T) {
	s := serveWith(t, Options{Token: token, Version: "1.2.3"}, engine.Options{})
	s.attach(t, 1)
	hello := fmt.Sprintf(`{"protocol":%d}`, Protocol)
	for _, c := range []struct {
		id, body string
		code     diag.Code
	}{
		{"", hello, diag.InvalidPlan},
		{"short", hello, diag.InvalidPlan},
		{strings.Repeat("../", 12), hello, diag.InvalidPlan},
		{fmt.Sprintf("%032x", 1), hello, diag.InvalidPlan}, // it is there already
		{fmt.Sprintf("%032x", 2), `{"protocol":99,"version":"0.9"}`, diag.WrongVersion},
		{fmt.Sprintf("%032x", 2), "no json", diag.InvalidPlan},
	} {
		if _, err := s.tryAttach(t, c.id, c.body); diag.From(err).Code != c.code {
			t.Errorf("%q %s: %v", c.id, c.body, err)
		}
	}
	for _, action := range []string{"submit", "status", "describe", "put-artifact", "watch"} {
		if told := one(t, s.dial(t), action, "{}"); told.Error == nil || told.Error.Code != diag.ConnectionLost {
			t.Errorf("%s without a session: %+v", action, told)
		}
	}
	if err := put(t, s.dial(t), 1, "table", "x"); err == nil || !strings.Contains(err.Error(), string(diag.ConnectionLost)) {
		t.Errorf("a table without a session: %v", err)
	}
	if told := one(t, s.dial(t), "shutdown", "{}"); told.Error == nil {
		t.Error("a client may end the server")
	}
}

// TestDrain: what runs may end and be read, what is new is refused, and what
// takes too long is told why it was cancelled.
func TestDrain(t *testing.T) {
	s := serveWith(t, Options{Token: token}, engine.Options{})
	a := s.attach(t, 1)
	short, endless := a.submit(t, generated(100, 200, collected), ""), a.submit(t, generated(0, 100, collected), "")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Drain(context.Background(), 3*time.Second)
	}()
	waitFor(t, "draining", s.Draining)
	if told := a.act(t, "submit", `{"plan":`+generated(1, 1, collected)+`}`); told.Error == nil || told.Error.Code != diag.ServerEnding || told.Error.Hint == "" {
		t.Errorf("a new job: %+v", told)
	}
	if _, err := s.tryAttach(t, fmt.Sprintf("%032x", 2), fmt.Sprintf(`{"protocol":%d}`, Protocol)); diag.From(err).Code != diag.ServerEnding {
		t.Errorf("a new client: %v", err)
	}
	if n, err := a.rows(t, short); n != 100 || err != nil {
		t.Errorf("the job that had the time: %d rows, %v", n, err)
	}
	events, err := act(a.ctx, a.Client, "watch", `{"job":"`+endless+`"}`)
	if err != nil || len(events) == 0 {
		t.Fatal(len(events), err)
	}
	if end := events[len(events)-1].End; end == nil || end.State != engine.Cancelled || !strings.Contains(end.Error.Message, "the server was ended") {
		t.Errorf("the job that had not: %+v", end)
	}
	select {
	case <-drained:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on draining")
	}
}

// TestFilesOfTheServer: a plan that names other files is refused, and a client
// is told whose disk is meant.
func TestFilesOfTheServer(t *testing.T) {
	dir := t.TempDir()
	s := serveWith(t, Options{Token: token}, engine.Options{RestrictFiles: true, Folders: []string{dir}})
	a := s.attach(t, 1)
	read := func(path string) answer {
		return a.act(t, "describe", fmt.Sprintf(`{"node":"r","plan":{"version":1,"nodes":[{"id":"r","op":"read_csv","args":{"path":%q}}]}}`, path))
	}
	if told := read("/etc/passwd"); told.Error == nil || told.Error.Code != diag.FileNotAllowed || !strings.Contains(told.Error.Facts[0], dir) {
		t.Errorf("another file: %+v", told)
	}
	if told := read(filepath.Join(dir, "none.csv")); told.Error == nil || told.Error.Code != diag.FileMissing || !strings.Contains(told.Error.Facts[0], "paths are of the disk of the server") {
		t.Errorf("a file that is missing: %+v", told.Error)
	}
	query := a.act(t, "describe", `{"node":"q","plan":{"version":1,"nodes":[{"id":"q","op":"sql","args":{"query":"SELECT * FROM read_csv('/etc/passwd')"}}]}}`)
	if query.Error == nil {
		t.Errorf("a query read a file of the server: %s", query.OK)
	}
}
