package fnapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// receiver gets what a worker sends while it is leased. Its methods must not
// block, and are not called any more when detach has returned.
type receiver interface {
	data(*fnpb.Elements_Data)
	response(*fnpb.InstructionResponse)
	log(*fnpb.LogEntry)
	// hungUp says that nothing more will come.
	hungUp()
}

// endpoint is where one worker reaches the engine: the four services of the
// Fn API that a worker needs, on a socket of its own. It implements
// udfworker.Endpoint and lives as long as its worker; leases come and go.
type endpoint struct {
	fnpb.UnimplementedBeamFnControlServer
	fnpb.UnimplementedBeamFnDataServer
	fnpb.UnimplementedBeamFnLoggingServer
	fnpb.UnimplementedProvisionServiceServer

	id, token, dir, url string
	page                *page
	server              *grpc.Server
	serving             sync.WaitGroup
	closing             sync.Once

	control, data streamSlot
	// lost is closed when the worker has hung up and all it sent is delivered.
	lost     chan struct{}
	loseOnce sync.Once

	// deliver is held for reading while the receiver is called, and for
	// writing while it is exchanged.
	deliver  sync.RWMutex
	receiver receiver

	mu           sync.Mutex
	descriptors  map[string]*fnpb.ProcessBundleDescriptor
	instructions uint64
	// logged counts the log entries that have come; logGrown is closed and
	// replaced when more have.
	logged   int
	logGrown chan struct{}
}

// streamSlot is the one stream of a kind that a worker may open.
type streamSlot struct {
	mu     sync.Mutex
	stream grpc.ServerStream
	// opened and ended are closed when the stream is.
	opened, ended chan struct{}
}

func newSlot() streamSlot {
	return streamSlot{opened: make(chan struct{}), ended: make(chan struct{})}
}

// open takes the slot for a stream.
func (s *streamSlot) open(stream grpc.ServerStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream != nil {
		return status.Error(codes.AlreadyExists, "a worker opens each stream once")
	}
	s.stream = stream
	close(s.opened)
	return nil
}

// isOpened reports whether the stream was opened, now or once.
func (s *streamSlot) isOpened() bool {
	select {
	case <-s.opened:
		return true
	default:
		return false
	}
}

func newEndpoint(id, token, dir, url string) *endpoint {
	return &endpoint{
		id: id, token: token, dir: dir, url: url,
		control: newSlot(), data: newSlot(), lost: make(chan struct{}),
		descriptors: map[string]*fnpb.ProcessBundleDescriptor{}, logGrown: make(chan struct{}),
	}
}

// URL implements udfworker.Endpoint.
func (e *endpoint) URL() string { return e.url }

// Token implements udfworker.Endpoint.
func (e *endpoint) Token() string { return e.token }

// Page implements udfworker.Endpoint.
func (e *endpoint) Page() string { return e.page.path }

// Ready implements udfworker.Endpoint: the worker has opened its control
// stream.
func (e *endpoint) Ready() <-chan struct{} { return e.control.opened }

// Close implements udfworker.Endpoint. It waits until all handlers have ended.
func (e *endpoint) Close() {
	e.closing.Do(func() {
		e.server.Stop()
		e.serving.Wait()
		e.lose()
		e.page.close()
		_ = os.RemoveAll(e.dir)
	})
}

// authorize refuses callers that do not know the worker's secret.
func (e *endpoint) authorize(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	id, authorization := md.Get("worker_id"), md.Get("authorization")
	if len(id) != 1 || len(authorization) != 1 || id[0] != e.id || !sameSecret(authorization[0], "Bearer "+e.token) {
		return status.Error(codes.Unauthenticated, "this endpoint belongs to another worker")
	}
	return nil
}

func (e *endpoint) authorizeCall(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := e.authorize(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (e *endpoint) authorizeStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := e.authorize(stream.Context()); err != nil {
		return err
	}
	return handle(server, stream)
}

// GetProvisionInfo implements Beam's provision service.
func (e *endpoint) GetProvisionInfo(context.Context, *fnpb.GetProvisionInfoRequest) (*fnpb.GetProvisionInfoResponse, error) {
	here := &pipepb.ApiServiceDescriptor{Url: e.url}
	return &fnpb.GetProvisionInfoResponse{Info: &fnpb.ProvisionInfo{
		ControlEndpoint: here, LoggingEndpoint: here,
		Metadata: map[string]string{protocolKey: protocolVersion},
	}}, nil
}

// GetProcessBundleDescriptor implements Beam's control service.
func (e *endpoint) GetProcessBundleDescriptor(_ context.Context, r *fnpb.GetProcessBundleDescriptorRequest) (*fnpb.ProcessBundleDescriptor, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.descriptors[r.GetProcessBundleDescriptorId()]
	if d == nil {
		return nil, status.Errorf(codes.NotFound, "no bundle descriptor %q", r.GetProcessBundleDescriptorId())
	}
	return d, nil
}

// Control implements Beam's control service.
func (e *endpoint) Control(stream fnpb.BeamFnControl_ControlServer) error {
	if err := e.control.open(stream); err != nil {
		return err
	}
	defer e.ended(&e.control, &e.data)
	r, err := stream.Recv()
	for ; err == nil; r, err = stream.Recv() {
		e.awaitLog(stream.Context(), r.GetProcessBundle().GetMonitoringData()[loggedKey])
		e.toReceiver(func(to receiver) { to.response(r) })
	}
	return nil // the worker has hung up, however it did
}

// Data implements Beam's data service.
func (e *endpoint) Data(stream fnpb.BeamFnData_DataServer) error {
	if err := e.data.open(stream); err != nil {
		return err
	}
	defer e.ended(&e.data, &e.control)
	elements, err := stream.Recv()
	for ; err == nil; elements, err = stream.Recv() {
		e.toReceiver(func(to receiver) {
			for _, d := range elements.GetData() {
				to.data(d)
			}
		})
	}
	return nil
}

// Logging implements Beam's logging service.
func (e *endpoint) Logging(stream fnpb.BeamFnLogging_LoggingServer) error {
	list, err := stream.Recv()
	for ; err == nil; list, err = stream.Recv() {
		e.toReceiver(func(to receiver) {
			for _, entry := range list.GetLogEntries() {
				to.log(entry)
			}
		})
		e.mu.Lock()
		e.logged += len(list.GetLogEntries())
		close(e.logGrown)
		e.logGrown = make(chan struct{})
		e.mu.Unlock()
	}
	return nil
}

// awaitLog waits until as many log entries have come as the worker says that
// it had sent before a bundle's answer: streams overtake each other, and a
// session that ends with the answer would lose the last lines. It waits a
// bounded time, since the number is the worker's word.
func (e *endpoint) awaitLog(ctx context.Context, said []byte) {
	want, err := strconv.Atoi(string(said))
	if err != nil {
		return // not all workers say
	}
	var timeout <-chan time.Time
	for {
		e.mu.Lock()
		have, grown := e.logged, e.logGrown
		e.mu.Unlock()
		if have >= want {
			return
		}
		if timeout == nil {
			timeout = time.After(logTime)
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return
		case <-timeout:
			return
		}
	}
}

// ended says that a stream has ended. The worker is of no use without either
// stream; but what is still to be read of the other comes first, since a
// bundle may have been finished before the worker died.
func (e *endpoint) ended(slot, other *streamSlot) {
	close(slot.ended)
	if other.isOpened() {
		select {
		case <-other.ended:
		case <-time.After(drainTime):
		}
	}
	e.lose()
}

func (e *endpoint) lose() {
	e.loseOnce.Do(func() {
		close(e.lost)
		e.toReceiver(receiver.hungUp)
	})
}

func (e *endpoint) toReceiver(call func(receiver)) {
	e.deliver.RLock()
	defer e.deliver.RUnlock()
	if e.receiver != nil {
		call(e.receiver)
	}
}

// attach starts a lease: to gets what the worker sends, and the worker may ask
// for the descriptors. hungUp is called at once where the worker is gone.
func (e *endpoint) attach(to receiver, descriptors []*fnpb.ProcessBundleDescriptor) {
	e.mu.Lock()
	for _, d := range descriptors {
		e.descriptors[d.GetId()] = d
	}
	e.mu.Unlock()
	e.deliver.Lock()
	e.receiver = to
	e.deliver.Unlock()
	select {
	case <-e.lost:
		to.hungUp()
	default:
	}
}

// detach ends a lease. The caller holds nothing that the receiver's methods
// lock.
func (e *endpoint) detach(stage string) {
	e.deliver.Lock()
	e.receiver = nil
	e.deliver.Unlock()
	e.mu.Lock()
	delete(e.descriptors, stage)
	delete(e.descriptors, stage+carefulSuffix)
	e.mu.Unlock()
}

// newInstruction makes an id that this worker has not heard yet.
func (e *endpoint) newInstruction() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instructions++
	return instructionID(e.instructions)
}

var errHungUp = errors.New("the worker has hung up")

// process asks the worker to run a bundle. One goroutine sends at a time.
func (e *endpoint) process(instruction, descriptor string) error {
	return e.control.stream.SendMsg(&fnpb.InstructionRequest{
		InstructionId: instruction,
		Request: &fnpb.InstructionRequest_ProcessBundle{ProcessBundle: &fnpb.ProcessBundleRequest{
			ProcessBundleDescriptorId: descriptor,
		}},
	})
}

// awaitData waits until the worker has opened its data stream.
func (e *endpoint) awaitData(ctx context.Context) error {
	if e.data.isOpened() {
		return nil
	}
	timeout := time.NewTimer(connectTime)
	defer timeout.Stop()
	select {
	case <-e.data.opened:
		return nil
	case <-e.lost:
		return errHungUp
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timeout.C:
		return fmt.Errorf("the worker opened no data stream within %s", connectTime)
	}
}

// send sends a piece of a bundle's input. It blocks while the worker does not
// read. One goroutine sends at a time, after awaitData.
func (e *endpoint) send(instruction string, piece []byte, last bool) error {
	return e.data.stream.SendMsg(&fnpb.Elements{Data: []*fnpb.Elements_Data{{
		InstructionId: instruction, TransformId: sourceTransform, Data: piece, IsLast: last,
	}}})
}
