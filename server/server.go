// Package server is a job's front door: an Arrow Flight service over which a
// client uploads tables and code, submits plans, watches jobs and reads
// results. The embedded engine of a Python client serves it on a private unix
// socket with a token. The package imports engine and what lies below; no room
// of the engine imports it.
//
// Actions take and give JSON: each result is {"ok": …} or {"error": a
// diagnostic}. Only what breaks the connection itself is a gRPC error.
package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/alink-runtime/alink/engine"
)

// Server serves one engine.
type Server struct {
	engine *engine.Engine
	token  string
	grpc   *grpc.Server
	// shutdown is closed when a client has asked for the end.
	shutdown chan struct{}
	once     sync.Once
}

// New makes a server for an engine. Every call must bear the token, which must
// not be empty.
func New(e *engine.Engine, token string) (*Server, error) {
	if token == "" {
		return nil, errors.New("a server needs a token")
	}
	s := &Server{engine: e, token: token, shutdown: make(chan struct{})}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(math.MaxInt32), // a batch is one message
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(s.checkUnary),
		grpc.StreamInterceptor(s.checkStream),
	)
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
	s.grpc.Stop()
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (s *Server) stop() { s.once.Do(func() { close(s.shutdown) }) }

func (s *Server) check(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		token, ok := strings.CutPrefix(value, "Bearer ")
		if ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "the token is missing or wrong")
}

func (s *Server) checkUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
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

func (s *Server) checkStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.check(stream.Context()); err != nil {
		return err
	}
	_, err := guarded(func() (any, error) { return nil, next(srv, stream) })
	return err
}
