package udfworker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/udfworker/sandbox"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// ExternalOptions are of a pool that other runners than the engine use.
type ExternalOptions struct {
	// Listen is where it is found: "unix:PATH", or a host and port, of this
	// machine's loopback unless there is TLS. Port 0 takes a free one.
	Listen string
	// TLS, where it is set, must demand certificates of those who come.
	TLS *tls.Config
	// Interpreter is the Python of its workers, Harness the folder of boot.py;
	// both are absolute.
	Interpreter string
	Harness     string
	// MemoryBytes is what a worker may hold; 0 is no limit.
	MemoryBytes int64
	// Policy is what its workers may do.
	Policy sandbox.Policy
	// Listening is told the address when it listens; nil is legal.
	Listening func(address string)
	// Log gets a line for each worker that starts or ends.
	Log io.Writer
}

// listenAt makes the listener of a pool. Whoever reaches it can run programs as
// this user. A file is reached by this user alone, a port of the loopback by any
// user of this machine; from other machines it is reached only by those who show
// a certificate.
func listenAt(ctx context.Context, address string, mutual *tls.Config) (net.Listener, error) {
	var config net.ListenConfig
	if mutual != nil && mutual.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, diag.New(diag.BadOption, "worker-pool takes TLS only where it demands certificates of those who come")
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if err := CheckSocketPath(path); err != nil {
			return nil, err
		}
		// The mode is the socket's from the first moment on.
		before := unix.Umask(0o177)
		listener, err := config.Listen(ctx, "unix", path)
		unix.Umask(before)
		if err != nil {
			return nil, cannotListen(address, err)
		}
		return listener, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, diag.New(diag.BadOption, "worker-pool cannot listen on %q", address).WithCause(err).
			WithHint("give it unix:PATH or localhost:PORT")
	}
	if ip, err := netip.ParseAddr(host); mutual == nil && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, diag.New(diag.BadOption, "worker-pool does not listen on %q, which other machines may reach, without mutual TLS", address).
			WithHint("whoever reaches it can run programs here: give --tls-cert, --tls-key and --client-ca, or use unix:PATH or localhost:PORT")
	}
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, cannotListen(address, err)
	}
	return listener, nil
}

func cannotListen(address string, err error) error {
	return diag.New(diag.BadOption, "worker-pool cannot listen on %q", address).WithCause(err).
		WithHint("the address may be in use, or its folder missing")
}

// externalPool is Beam's external worker pool for runners of Beam: the workers
// that they ask for run our harness, and speak with whatever endpoints the
// request names.
type externalPool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	options ExternalOptions
	server  *server
	scratch string

	mu   sync.Mutex
	next int
	// ids are the supervisor's names of workers, by the runner's, which may
	// hold any character.
	ids map[string]string
}

// StartWorker implements Beam's external worker pool.
func (p *externalPool) StartWorker(ctx context.Context, r *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	response := &fnpb.StartWorkerResponse{}
	if err := p.start(ctx, r); err != nil {
		response.Error = err.Error()
	}
	return response, nil
}

func (p *externalPool) start(ctx context.Context, r *fnpb.StartWorkerRequest) error {
	if r.GetWorkerId() == "" || r.GetControlEndpoint().GetUrl() == "" {
		return errors.New("a worker needs an id and a control endpoint")
	}
	if r.GetControlEndpoint().GetAuthentication() != nil {
		return errors.New("endpoints that ask for authentication are not supported")
	}
	p.mu.Lock()
	p.next++
	id := fmt.Sprintf("x%d", p.next)
	_, known := p.ids[r.GetWorkerId()]
	if !known {
		p.ids[r.GetWorkerId()] = id
	}
	p.mu.Unlock()
	if known {
		return fmt.Errorf("worker %q runs already", r.GetWorkerId())
	}
	err := p.server.startWith(ctx, id, r.GetControlEndpoint().GetUrl(), launchParams{
		Interpreter: p.options.Interpreter, Harness: p.options.Harness, ScratchDir: p.scratch, MemoryBytes: p.options.MemoryBytes, Policy: p.options.Policy,
		WorkerID: r.GetWorkerId(), Logging: r.GetLoggingEndpoint().GetUrl(), Provision: r.GetProvisionEndpoint().GetUrl(),
	})
	if err != nil {
		p.forget(id)
	}
	return err
}

// StopWorker implements Beam's external worker pool; a worker that is not known
// has ended already.
func (p *externalPool) StopWorker(_ context.Context, r *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.mu.Lock()
	id := p.ids[r.GetWorkerId()]
	p.mu.Unlock()
	p.server.end(id)
	return &fnpb.StopWorkerResponse{}, nil
}

// forget gives the runner's name of a worker, and frees it.
func (p *externalPool) forget(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, known := range p.ids {
		if known == id {
			delete(p.ids, name)
			return name
		}
	}
	return ""
}

// tell writes what happens to workers, and forgets those that have ended.
func (p *externalPool) tell(e Event) error {
	switch e.Kind {
	case EventStarted:
		fmt.Fprintf(p.options.Log, "worker %s: process %d started\n", e.Worker, e.PID)
	case EventExited:
		name, death := p.forget(e.Worker), deathOf(e)
		fmt.Fprintf(p.options.Log, "worker %s (%q) ended: %s, %s\n", e.Worker, name, death, death.Kind)
		if words := death.LastWords(startLinesMax); words != "" && death.Kind != Stopped {
			fmt.Fprintln(p.options.Log, words)
		}
	}
	return nil
}

// ServeExternal serves Beam's external worker pool until ctx is done; then it
// ends all workers and waits for them.
func ServeExternal(ctx context.Context, options ExternalOptions) error {
	if options.Log == nil {
		options.Log = io.Discard
	}
	if !filepath.IsAbs(options.Interpreter) || !filepath.IsAbs(options.Harness) {
		return diag.New(diag.BadOption, "worker-pool needs the absolute paths of an interpreter and of the worker's program")
	}
	if err := options.Policy.Validate(); err != nil {
		return diag.New(diag.BadOption, "worker-pool: what workers may do cannot be meant").WithCause(err)
	}
	listener, err := listenAt(ctx, options.Listen, options.TLS)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "alink-pool-")
	if err != nil {
		return errors.Join(fmt.Errorf("make the scratch directory: %w", err), listener.Close())
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := prepareSupervisor(); err != nil {
		return errors.Join(fmt.Errorf("prepare to supervise: %w", err), listener.Close())
	}
	pool := &externalPool{
		options: options, scratch: scratch, ids: map[string]string{},
		server: newServer(newLauncher(), nil, os.Environ(), options.Log),
	}
	told, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	var telling sync.WaitGroup
	telling.Go(func() { _ = pool.server.events(told, pool.tell) })
	var transport []grpc.ServerOption
	if options.TLS != nil {
		transport = append(transport, grpc.Creds(credentials.NewTLS(options.TLS)))
	}
	s := grpc.NewServer(transport...)
	fnpb.RegisterBeamFnExternalWorkerPoolServer(s, pool)
	defer context.AfterFunc(ctx, s.Stop)()
	if options.Listening != nil {
		options.Listening(addressOf(listener))
	}
	err = s.Serve(listener)
	pool.server.shutdown()
	stopTelling()
	telling.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func addressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}
