package udfworker

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The service of life events stands beside Beam's BeamFnExternalWorkerPool on
// the supervisor's connection. Its messages are well-known wrappers that carry
// JSON, so it needs no generated code.
const (
	lifeService  = "alink.worker.v1.Life"
	eventsMethod = "/" + lifeService + "/Events"
	endMethod    = "/" + lifeService + "/End"
)

// lifeServer is the supervisor's side.
type lifeServer interface {
	// events sends what happens, from the beginning, until ctx is done.
	events(ctx context.Context, send func(Event) error) error
	// end lets an idle worker go.
	end(worker string)
}

var lifeServiceDesc = grpc.ServiceDesc{
	ServiceName: lifeService,
	HandlerType: (*lifeServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "End",
		Handler: func(server any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var worker wrapperspb.StringValue
			if err := decode(&worker); err != nil {
				return nil, err
			}
			server.(lifeServer).end(worker.GetValue())
			return &emptypb.Empty{}, nil
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Events",
		ServerStreams: true,
		Handler: func(server any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
				return err
			}
			return server.(lifeServer).events(stream.Context(), func(e Event) error {
				text, err := json.Marshal(e)
				if err != nil {
					return err
				}
				return stream.SendMsg(wrapperspb.Bytes(text))
			})
		},
	}},
}

// lifeClient is the engine's side.
type lifeClient struct{ conn *grpc.ClientConn }

// events opens the stream of events; receive blocks for the next one.
func (c lifeClient) events(ctx context.Context) (receive func() (Event, error), err error) {
	stream, err := c.conn.NewStream(ctx, &lifeServiceDesc.Streams[0], eventsMethod)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return func() (Event, error) {
		var message wrapperspb.BytesValue
		var e Event
		if err := stream.RecvMsg(&message); err != nil {
			return e, err
		}
		return e, json.Unmarshal(message.GetValue(), &e)
	}, nil
}

func (c lifeClient) end(ctx context.Context, worker string) error {
	return c.conn.Invoke(ctx, endMethod, wrapperspb.String(worker), &emptypb.Empty{})
}
