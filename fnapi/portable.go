package fnapi

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// portable is the lane of Beam's gRPC services, the four that a worker needs.
type portable struct {
	fnpb.UnimplementedBeamFnControlServer
	fnpb.UnimplementedBeamFnDataServer
	fnpb.UnimplementedBeamFnLoggingServer
	fnpb.UnimplementedProvisionServiceServer

	endpoint *endpoint
	address  string
	server   *grpc.Server
	serving  sync.WaitGroup

	control, data streamSlot
}

// newPortable serves an endpoint's worker on a listener.
func newPortable(e *endpoint, listener net.Listener, path string) *portable {
	p := &portable{endpoint: e, address: "unix:" + path, control: newStreamSlot(), data: newStreamSlot()}
	p.server = grpc.NewServer(
		grpc.MaxRecvMsgSize(messageBytesMax),
		grpc.MaxSendMsgSize(messageBytesMax),
		grpc.InitialWindowSize(streamWindowBytes),
		grpc.InitialConnWindowSize(connectionWindowBytes),
		grpc.UnaryInterceptor(p.authorizeCall),
		grpc.StreamInterceptor(p.authorizeStream),
		grpc.WaitForHandlers(true),
	)
	fnpb.RegisterBeamFnControlServer(p.server, p)
	fnpb.RegisterBeamFnDataServer(p.server, p)
	fnpb.RegisterBeamFnLoggingServer(p.server, p)
	fnpb.RegisterProvisionServiceServer(p.server, p)
	p.serving.Go(func() {
		_ = p.server.Serve(listener) // ends with close
	})
	return p
}

// streamSlot is the one stream of a kind that a worker may open.
type streamSlot struct {
	mu     sync.Mutex
	stream grpc.ServerStream
	// opened and ended are closed when the stream is.
	opened, ended chan struct{}
}

func newStreamSlot() streamSlot {
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

// authorize refuses callers that do not know the worker's secret.
func (p *portable) authorize(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	id, authorization := md.Get("worker_id"), md.Get("authorization")
	if len(id) != 1 || len(authorization) != 1 || id[0] != p.endpoint.id || !sameSecret(authorization[0], "Bearer "+p.endpoint.token) {
		return status.Error(codes.Unauthenticated, "this endpoint belongs to another worker")
	}
	return nil
}

func (p *portable) authorizeCall(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := p.authorize(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (p *portable) authorizeStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := p.authorize(stream.Context()); err != nil {
		return err
	}
	return handle(server, stream)
}

// GetProvisionInfo implements Beam's provision service.
func (p *portable) GetProvisionInfo(context.Context, *fnpb.GetProvisionInfoRequest) (*fnpb.GetProvisionInfoResponse, error) {
	here := &pipepb.ApiServiceDescriptor{Url: p.address}
	return &fnpb.GetProvisionInfoResponse{Info: &fnpb.ProvisionInfo{
		ControlEndpoint: here, LoggingEndpoint: here,
		Metadata: map[string]string{protocolKey: protocolVersion},
	}}, nil
}

// GetProcessBundleDescriptor implements Beam's control service.
func (p *portable) GetProcessBundleDescriptor(_ context.Context, r *fnpb.GetProcessBundleDescriptorRequest) (*fnpb.ProcessBundleDescriptor, error) {
	d := p.endpoint.descriptor(r.GetProcessBundleDescriptorId())
	if d == nil {
		return nil, status.Errorf(codes.NotFound, "no bundle descriptor %q", r.GetProcessBundleDescriptorId())
	}
	return d, nil
}

// Control implements Beam's control service.
func (p *portable) Control(stream fnpb.BeamFnControl_ControlServer) error {
	if err := p.control.open(stream); err != nil {
		return err
	}
	p.endpoint.heardHello()
	defer p.ended(&p.control, &p.data)
	r, err := stream.Recv()
	for ; err == nil; r, err = stream.Recv() {
		p.endpoint.heardResponse(stream.Context(), r)
	}
	return nil // the worker has hung up, however it did
}

// Data implements Beam's data service.
func (p *portable) Data(stream fnpb.BeamFnData_DataServer) error {
	if err := p.data.open(stream); err != nil {
		return err
	}
	defer p.ended(&p.data, &p.control)
	elements, err := stream.Recv()
	for ; err == nil; elements, err = stream.Recv() {
		for _, d := range elements.GetData() {
			p.endpoint.heardData(data{
				piece: piece{bytes: d.GetData()}, instruction: d.GetInstructionId(), transform: d.GetTransformId(), last: d.GetIsLast(),
			})
		}
	}
	return nil
}

// Logging implements Beam's logging service.
func (p *portable) Logging(stream fnpb.BeamFnLogging_LoggingServer) error {
	list, err := stream.Recv()
	for ; err == nil; list, err = stream.Recv() {
		p.endpoint.heardLog(list)
	}
	return nil
}

// ended says that a stream has ended. The worker is of no use without either
// stream; but what is still to be read of the other comes first, since a
// bundle may have been finished before the worker died.
func (p *portable) ended(slot, other *streamSlot) {
	close(slot.ended)
	if other.isOpened() {
		select {
		case <-other.ended:
		case <-time.After(drainTime):
		}
	}
	p.endpoint.lose()
}

// url implements lane.
func (p *portable) url() string { return p.address }

// close implements lane. It waits until all handlers have ended.
func (p *portable) close() {
	p.server.Stop()
	p.serving.Wait()
}

// process implements lane.
func (p *portable) process(instruction, descriptor string, _ bool) error {
	return p.control.stream.SendMsg(processRequest(instruction, descriptor))
}

// processRequest asks a worker to run a bundle.
func processRequest(instruction, descriptor string) *fnpb.InstructionRequest {
	return &fnpb.InstructionRequest{
		InstructionId: instruction,
		Request: &fnpb.InstructionRequest_ProcessBundle{ProcessBundle: &fnpb.ProcessBundleRequest{
			ProcessBundleDescriptorId: descriptor,
		}},
	}
}

// awaitData implements lane: it waits until the worker has opened its data
// stream.
func (p *portable) awaitData(ctx context.Context) error {
	if p.data.isOpened() {
		return nil
	}
	timeout := time.NewTimer(connectTime)
	defer timeout.Stop()
	select {
	case <-p.data.opened:
		return nil
	case <-p.endpoint.lost:
		return errHungUp
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timeout.C:
		return fmt.Errorf("the worker opened no data stream within %s", connectTime)
	}
}

// sendBatch implements lane. The batch is cut into pieces.
func (p *portable) sendBatch(instruction string, batch arrow.RecordBatch, last bool, sent func(int) error) error {
	data, err := encodeBatch(batch, dataNames{instruction, sourceTransform})
	if err != nil {
		return err
	}
	for {
		piece := data[:min(len(data), pieceBytesMax)]
		data = data[len(piece):]
		if err := sent(len(piece)); err != nil {
			return err
		}
		if err := p.send(instruction, piece, last && len(data) == 0); err != nil || len(data) == 0 {
			return err
		}
	}
}

// sendEnd implements lane. A worker that was never sent data waits for none.
func (p *portable) sendEnd(instruction string) error {
	if !p.data.isOpened() {
		return nil
	}
	return p.send(instruction, nil, true)
}

// send sends a piece of a bundle's input.
func (p *portable) send(instruction string, piece []byte, last bool) error {
	err := p.data.stream.SendMsg(&fnpb.Elements{Data: []*fnpb.Elements_Data{{
		InstructionId: instruction, TransformId: sourceTransform, Data: piece, IsLast: last,
	}}})
	if err != nil {
		return fmt.Errorf("%w: %w", errSend, err)
	}
	return nil
}
