package gotests_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/server"
)

// flightClient is one client of a server, on a connection of its own.
type flightClient struct {
	flight.Client
	ctx    context.Context //nolint:containedctx // the client's own life
	vanish func()
}

// joinServer connects client n, which holds a session open until it vanishes.
func joinServer(ctx context.Context, address string, n int) (*flightClient, error) {
	conn, err := grpc.NewClient("unix:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c := flight.NewClientFromConn(conn, nil)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "alink-session", fmt.Sprintf("%032x", n)))
	client := &flightClient{c, ctx, sync.OnceFunc(func() { cancel(); _ = conn.Close() })} // it says no more than a killed one
	stream, err := c.DoAction(ctx, &flight.Action{Type: "attach", Body: fmt.Appendf(nil, `{"protocol":%d}`, server.Protocol)})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		client.vanish()
		return nil, err
	}
	return client, nil
}

// call carries out an action and decodes its answer.
func (c *flightClient) call(action string, body []byte, answer any) error {
	stream, err := c.DoAction(c.ctx, &flight.Action{Type: action, Body: body})
	if err != nil {
		return err
	}
	result, err := stream.Recv()
	if err != nil {
		return err
	}
	var told struct{ OK, Error json.RawMessage }
	if err := json.Unmarshal(result.GetBody(), &told); err != nil {
		return err
	}
	if told.Error != nil {
		return errors.New(string(told.Error))
	}
	return json.Unmarshal(told.OK, answer)
}

// send uploads the table "numbers": rows numbers from first on.
func (c *flightClient) send(first, rows int) error {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	for i := range rows {
		b.Append(int64(first + i))
	}
	column := b.NewArray()
	defer column.Release()
	batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(rows))
	defer batch.Release()
	stream, err := c.DoPut(c.ctx)
	if err != nil {
		return err
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"table", "numbers"}})
	if err := errors.Join(w.Write(batch), w.Close(), stream.CloseSend()); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// doubled runs a Python function on the table and gives the sum of its rows.
func (c *flightClient) doubled(python string, n int) (sum int64, err error) {
	source := fmt.Sprintf("def double(x):\n    return 2 * x  # of client %d\n", n)
	plan := fmt.Sprintf(`{"version":1,"nodes":[{"id":"t","op":"table","args":{"table":"numbers"}},`+
		`{"id":"f","op":"select","inputs":["t"],"args":{"exprs":[{"name":"y","expr":{"call":"f","args":[{"sql":"x"}]}}]}},`+
		`{"id":"out","op":"collect","inputs":["f"]}],"functions":{"f":{"name":"double","kind":"row","parameters":["x"],"result":"bigint","environment":"e",`+
		`"code":{"source":%q,"name":"double"},"options":{"workers":1}}},"environments":{"e":{"interpreter":%q}}}`, source, python)
	var submitted struct{ Job string }
	if err := c.call("submit", []byte(`{"plan":`+plan+`}`), &submitted); err != nil {
		return 0, err
	}
	stream, err := c.DoGet(c.ctx, &flight.Ticket{Ticket: fmt.Appendf(nil, `{"job":%q,"output":"out"}`, submitted.Job)})
	if err != nil {
		return 0, err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return 0, err
	}
	defer reader.Release()
	for reader.Next() {
		for _, value := range reader.RecordBatch().Column(0).(*array.Int64).Int64Values() {
			sum += value
		}
	}
	return sum, reader.Err()
}

// TestManyClientsComeAndVanish: each gets the rows of its own table through its
// own function although all use the same names; some vanish in the middle of a
// job; and when all have gone the server holds nothing of them.
func TestManyClientsComeAndVanish(t *testing.T) {
	const clients, rows = 8, 5000
	e := openEngine(t)
	s, err := server.New(server.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(e.RunDir(), "server.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, e.Close()); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	python := testPython(t)
	var group sync.WaitGroup
	for n := 1; n <= clients; n++ {
		group.Go(func() {
			client, err := joinServer(t.Context(), address, n)
			if err != nil {
				t.Errorf("client %d: %v", n, err)
				return
			}
			defer client.vanish()
			if err := client.send(n*rows, rows); err != nil {
				t.Errorf("client %d sends its table: %v", n, err)
				return
			}
			if n%4 == 0 { // it vanishes while its job runs
				time.AfterFunc(time.Duration(n)*20*time.Millisecond, client.vanish)
				_, _ = client.doubled(python, n)
				return
			}
			sum, err := client.doubled(python, n)
			if want := int64(2*n*rows*rows + rows*(rows-1)); err != nil || sum != want {
				t.Errorf("client %d: %d instead of %d, %v", n, sum, want, err)
			}
		})
	}
	group.Wait()
	last, err := joinServer(t.Context(), address, clients+1)
	if err != nil {
		t.Fatal(err)
	}
	defer last.vanish()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		running := 0
		for _, job := range e.Jobs() {
			if job.State() == engine.Running {
				running++
			}
		}
		if bytes := e.Status().ArrowBytes; running == 0 && bytes == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d jobs run and %d bytes are held when the clients have gone", running, bytes)
		}
	}
	var status engine.Status
	if err := last.call("status", []byte("{}"), &status); err != nil || len(status.Jobs) != 0 {
		t.Errorf("a new client sees %+v, %v", status.Jobs, err)
	}
	if err := last.call("watch", []byte(`{"job":"j1"}`), &struct{}{}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a new client may watch another's job: %v", err)
	}
}
