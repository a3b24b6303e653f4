// Package server is a job's front door: an Arrow Flight service over which a
// client uploads tables and code, submits plans, watches jobs and reads
// results, and an HTTP service of health, metrics and a dashboard. The embedded
// engine of a Python client serves the first on a private unix socket;
// `pyrunner serve` serves many clients on a unix socket or over TLS. The
// package also holds the Go client of it that the command line uses. It imports
// engine and what lies below; no room of the engine imports it.
//
// Actions take and give JSON: each result is {"ok": …} or {"error": a
// diagnostic}. Only what breaks the connection itself is a gRPC error.
package server

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine"
)

const (
	// pingInterval and pingTimeout bound the time until a client that has
	// vanished without a word is noticed. Clients may ping as often.
	pingInterval = 10 * time.Second
	pingTimeout  = 5 * time.Second
	// quietTime is how long nobody may have called before a drained server
	// ends, and lingerMax the time that it waits for that.
	quietTime = 500 * time.Millisecond
	lingerMax = 5 * time.Second
	// callsMax is the number of calls that one connection has under way.
	callsMax = 256
)

// Options configure a Server.
type Options struct {
	Engine *engine.Engine
	// Token must be borne by every call. "" lets in whoever reaches the
	// listener, which then must be a private socket.
	Token string
	// Embedded is for one client whose engine it is: calls name no session,
	// and one of them ends the server.
	Embedded bool
	// TLS secures the connections; nil leaves them plain.
	TLS *tls.Config
	// Limits bound what clients may hold; those that are 0 are the defaults.
	Limits Limits
	// Version is told to clients.
	Version string
	// Log is told of clients and jobs that come and go; nil is told nothing.
	Log *slog.Logger
	// ping is pingInterval and pingTimeout in one for tests that cannot wait; 0
	// is those.
	ping time.Duration
}

// Server serves one engine.
type Server struct {
	options  Options
	engine   *engine.Engine
	began    time.Time
	grpc     *grpc.Server
	sessions *sessions
	jobs     *jobs
	// draining is closed when no job is taken any more, detach when clients
	// are to let go, shutdown when a client has asked for the end.
	draining, detach, shutdown chan struct{}
	drainOnce, detachOnce      sync.Once
	shutdownOnce               sync.Once
	// calls counts those under way, without streams that are held open;
	// lastCall is when the last of them ended, in nanoseconds.
	calls, lastCall atomic.Int64
}

// New makes a server for an engine.
func New(options Options) (*Server, error) {
	if options.Embedded && options.Token == "" {
		return nil, errors.New("the server of an embedded engine needs a token")
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		options: options, engine: options.Engine, began: time.Now(),
		draining: make(chan struct{}), detach: make(chan struct{}), shutdown: make(chan struct{}),
	}
	s.jobs = newJobs(options.Engine, options.Log)
	s.sessions = newSessions(options.Engine, s.jobs, options.Limits.withDefaults(), options.Embedded)
	s.jobs.release = s.sessions.releaseArtifacts
	pings := keepalive.ServerParameters{Time: cmp.Or(options.ping, pingInterval), Timeout: cmp.Or(options.ping, pingTimeout)}
	grpcOptions := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(math.MaxInt32), // a batch is one message
		grpc.MaxConcurrentStreams(callsMax),
		grpc.WaitForHandlers(true),
		// Before a message is read: who may not call may not send either.
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			return ctx, s.check(info.Header)
		}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.KeepaliveParams(pings),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTimeout / 2, PermitWithoutStream: true}),
	}
	if options.TLS != nil {
		grpcOptions = append(grpcOptions, grpc.Creds(credentials.NewTLS(options.TLS)))
	}
	s.grpc = grpc.NewServer(grpcOptions...)
	flight.RegisterFlightServiceServer(s.grpc, &service{server: s})
	return s, nil
}

// Serve answers on a listener until the context ends or a client asks for the
// end. Calls under way are cut off then.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.grpc.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	case <-s.shutdown:
	}
	s.detachOnce.Do(func() { close(s.detach) })
	s.grpc.Stop()
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Close waits until the ends of all jobs have been noted. The engine has been
// closed before it.
func (s *Server) Close() { s.jobs.watching.Wait() }

func (s *Server) stop() { s.shutdownOnce.Do(func() { close(s.shutdown) }) }

// Draining reports whether the server takes no new jobs.
func (s *Server) Draining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Drain takes no new jobs from now on and waits until those that run have
// ended and their clients have been told. Jobs that still run after the grace,
// or when the context ends, are cancelled. Serve's context is ended after it.
func (s *Server) Drain(ctx context.Context, grace time.Duration) {
	s.drainOnce.Do(func() { close(s.draining) })
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	running := s.jobs.running()
	for _, job := range running {
		select {
		case <-job.Done():
		case <-ctx.Done():
			job.CancelBecause("the server was ended, and job %s had not ended within %s", job.ID, grace)
		}
	}
	for _, job := range running {
		<-job.Done()
	}
	s.linger()
	s.detachOnce.Do(func() { close(s.detach) })
}

// linger gives clients the time to hear of their jobs' end and to fetch rows.
func (s *Server) linger() {
	deadline := time.Now().Add(lingerMax)
	s.lastCall.Store(time.Now().UnixNano())
	for time.Now().Before(deadline) {
		if s.calls.Load() == 0 && time.Since(time.Unix(0, s.lastCall.Load())) > quietTime {
			return
		}
		time.Sleep(quietTime / 10)
	}
}

// check refuses calls without the token.
func (s *Server) check(md metadata.MD) error {
	if s.options.Token == "" {
		return nil
	}
	given := "no token was given"
	for _, value := range md.Get("authorization") {
		token, ok := strings.CutPrefix(value, "Bearer ")
		if ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.options.Token)) == 1 {
			return nil
		}
		given = "the token is not the server's"
	}
	return status.Error(codes.Unauthenticated, string(diag.New(diag.NotAuthorized, "the server refuses the connection: %s", given).
		WithHint("pass the content of the server's token file: al.connect(…, token=…), ALINK_TOKEN or ALINK_TOKEN_FILE").JSON()))
}

func (s *Server) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return guarded(func() (any, error) { return next(ctx, req) })
}

// guarded keeps a fault in one call from ending the engine and every job.
func guarded(call func() (any, error)) (answer any, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = status.Errorf(codes.Internal, "the call stopped by a fault: %v\n%s", fault, debug.Stack())
		}
	}()
	return call()
}

func (s *Server) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	s.calls.Add(1)
	defer func() {
		s.lastCall.Store(time.Now().UnixNano())
		s.calls.Add(-1)
	}()
	_, err := guarded(func() (any, error) { return nil, next(srv, stream) })
	return err
}

// held takes a stream that stays open out of the calls under way.
func (s *Server) held() (done func()) {
	s.calls.Add(-1)
	return func() { s.calls.Add(1) }
}
