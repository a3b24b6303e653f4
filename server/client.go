package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/alink-runtime/alink/diag"
)

// dialTime bounds the wait for a server's first answer.
const dialTime = 10 * time.Second

// ClientOptions say which server is meant.
type ClientOptions struct {
	// Address is as Listener's: grpc+unix:///path, grpc://host:port or
	// grpc+tls://host:port.
	Address string
	Token   string
	// TLSCA is a file of certificates (PEM) that the server's is checked with;
	// "" means the system's.
	TLSCA string
}

// Client asks a server about its jobs.
type Client struct {
	options ClientOptions
	flight  flight.Client
}

// Dial makes a client. The first call connects.
func Dial(options ClientOptions) (*Client, error) {
	target, secured, err := target(options.Address)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if secured {
		config, err := checkedBy(options.TLSCA)
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	c, err := flight.NewClientWithMiddleware(target, nil, nil,
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}))
	if err != nil {
		return nil, diag.New(diag.NoServer, "%s is not the address of a server", options.Address).WithCause(err)
	}
	return &Client{options: options, flight: c}, nil
}

// target is an address as gRPC writes it.
func target(address string) (target string, secured bool, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	switch scheme {
	case "grpc+unix":
		if strings.HasPrefix(rest, "/") {
			return "unix:" + rest, false, nil
		}
	case "grpc", "grpc+tls":
		if _, port, err := net.SplitHostPort(rest); err == nil && port != "" {
			return "dns:///" + rest, scheme == "grpc+tls", nil
		}
	}
	return "", false, diag.New(diag.BadSetting, "%q is not the address of a server", address).
		WithHint("write it as the server printed it: grpc+unix:///path, grpc://127.0.0.1:PORT or grpc+tls://HOST:PORT")
}

func checkedBy(path string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if path == "" {
		return config, nil
	}
	data, err := os.ReadFile(path)
	config.RootCAs = x509.NewCertPool()
	if err == nil && !config.RootCAs.AppendCertsFromPEM(data) {
		err = errors.New("it holds no certificate (PEM)")
	}
	if err != nil {
		return nil, diag.New(diag.BadSetting, "the certificates in %s cannot be used", path).WithCause(err)
	}
	return config, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.flight.Close() }

// event is one result of an action.
type event struct {
	OK    json.RawMessage
	Error *diag.Diagnostic
	Log   *logEvent
}

// stream calls an action and gives its results to take, until an error.
func (c *Client) stream(ctx context.Context, action string, body any, take func(event) error) error {
	request, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Only the first answer is bounded: a log may be followed for ever.
	patience := time.AfterFunc(dialTime, func() { cancel(fmt.Errorf("no answer within %s", dialTime)) })
	defer patience.Stop()
	if action == "savepoint" {
		patience.Stop() // it answers when it is done
	}
	if c.options.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.options.Token)
	}
	results, err := c.flight.DoAction(ctx, &flight.Action{Type: action, Body: request})
	if err != nil {
		return c.failed(ctx, err)
	}
	for {
		result, err := results.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failed(ctx, err)
		}
		patience.Stop()
		var e event
		if err := json.Unmarshal(result.GetBody(), &e); err != nil {
			return diag.New(diag.WrongVersion, "what answers at %s is no server of alink", c.options.Address).WithCause(err)
		}
		if e.Error != nil {
			return e.Error
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// failed says why a call has failed.
func (c *Client) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) {
			return cause
		}
		err = cause
	}
	var d diag.Diagnostic
	if s, ok := status.FromError(err); ok {
		if json.Unmarshal([]byte(s.Message()), &d) == nil && d.Code != "" {
			return &d
		}
		if s.Code() != codes.Unavailable {
			return diag.New(diag.ConnectionLost, "the call to the server at %s failed", c.options.Address).WithCause(errors.New(s.Message()))
		}
		err = errors.New(s.Message())
	}
	return diag.New(diag.NoServer, "no server answers at %s", c.options.Address).WithCause(err).
		WithHint("check the address that `pyrunner serve` printed, and tls_ca for a certificate of your own")
}

func call[T any](ctx context.Context, c *Client, action string, body any) (answer T, err error) {
	err = c.stream(ctx, action, body, func(e event) error { return json.Unmarshal(e.OK, &answer) })
	return answer, err
}

type jobRequest struct {
	Job    string `json:"job,omitempty"`
	Follow bool   `json:"follow,omitempty"`
}

// Jobs lists the server's jobs, the oldest first.
func (c *Client) Jobs(ctx context.Context) ([]JobInfo, error) {
	return call[[]JobInfo](ctx, c, "jobs", jobRequest{})
}

// Job tells all of a job.
func (c *Client) Job(ctx context.Context, id string) (JobInfo, error) {
	return call[JobInfo](ctx, c, "job", jobRequest{Job: id})
}

// Cancel asks for the end of a job.
func (c *Client) Cancel(ctx context.Context, id string) (JobInfo, error) {
	return call[JobInfo](ctx, c, "cancel-job", jobRequest{Job: id})
}

// Savepoint makes a checkpoint of a job and gives its folder, on the server's
// disk, when it is complete.
func (c *Client) Savepoint(ctx context.Context, id string) (string, error) {
	answer, err := call[map[string]string](ctx, c, "savepoint", jobRequest{Job: id})
	return answer["path"], err
}

// Log gives the lines that a job has printed and logged; with follow it goes
// on until the job ends.
func (c *Client) Log(ctx context.Context, id string, follow bool, line func(function, level, text string) error) error {
	return c.stream(ctx, "job-log", jobRequest{id, follow}, func(e event) error {
		if e.Log == nil {
			return nil
		}
		return line(e.Log.Function, e.Log.Level, e.Log.Text)
	})
}
