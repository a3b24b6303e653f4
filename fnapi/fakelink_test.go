package fnapi

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// laneVariable names the lane of this package's tests; the default is the local
// one.
const laneVariable = "ALINK_TEST_LANE"

// TestOnThePortableLane runs all tests of the package once more.
func TestOnThePortableLane(t *testing.T) {
	if os.Getenv(laneVariable) != "" || testing.Short() {
		t.Skip("a lane is chosen already")
	}
	command := exec.Command(os.Args[0], "-test.run=^Test", "-test.count=1", "-test.timeout=10m")
	command.Env = append(os.Environ(), laneVariable+"="+string(Portable))
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// fakeLink is a fake worker's side of a lane.
type fakeLink interface {
	// request waits for the next request; an error is the end.
	request() (*fnpb.InstructionRequest, error)
	respond(*fnpb.InstructionResponse) error
	// data waits for the next piece of data.
	data() (*fnpb.Elements_Data, error)
	put(*fnpb.Elements_Data) error
	descriptor(id string) (*fnpb.ProcessBundleDescriptor, error)
	log(*fnpb.LogEntry_List) error
	hangUp()
}

// launchLine is what the supervisor writes to a worker.
type launchLine struct {
	WorkerID string `json:"worker_id"`
	Endpoint string `json:"endpoint"`
	Token    string `json:"token"`
}

func dialFake(launch launchLine) (fakeLink, error) {
	if path, ok := strings.CutPrefix(launch.Endpoint, localScheme); ok {
		return dialLocal(path, launch)
	}
	return dialPortable(launch)
}

// portableLink speaks gRPC.
type portableLink struct {
	conn     *grpc.ClientConn
	ctx      context.Context
	control  fnpb.BeamFnControl_ControlClient
	elements fnpb.BeamFnData_DataClient
	logging  fnpb.BeamFnLogging_LoggingClient
	waiting  []*fnpb.Elements_Data
}

func dialPortable(launch launchLine) (*portableLink, error) {
	conn, err := grpc.NewClient(launch.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)))
	if err != nil {
		return nil, err
	}
	l := &portableLink{conn: conn}
	l.ctx = metadata.AppendToOutgoingContext(context.Background(), "worker_id", launch.WorkerID, "authorization", "Bearer "+launch.Token)
	info, err := fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(l.ctx, &fnpb.GetProvisionInfoRequest{})
	if err != nil {
		return nil, err
	}
	if info.GetInfo().GetMetadata()[protocolKey] != protocolVersion {
		return nil, fmt.Errorf("metadata %v", info.GetInfo().GetMetadata())
	}
	if l.logging, err = fnpb.NewBeamFnLoggingClient(conn).Logging(l.ctx); err != nil {
		return nil, err
	}
	if l.elements, err = fnpb.NewBeamFnDataClient(conn).Data(l.ctx); err != nil {
		return nil, err
	}
	l.control, err = fnpb.NewBeamFnControlClient(conn).Control(l.ctx)
	return l, err
}

func (l *portableLink) request() (*fnpb.InstructionRequest, error) { return l.control.Recv() }
func (l *portableLink) respond(r *fnpb.InstructionResponse) error  { return l.control.Send(r) }
func (l *portableLink) log(list *fnpb.LogEntry_List) error         { return l.logging.Send(list) }
func (l *portableLink) hangUp()                                    { _ = l.conn.Close() }
func (l *portableLink) put(d *fnpb.Elements_Data) error {
	return l.elements.Send(&fnpb.Elements{Data: []*fnpb.Elements_Data{d}})
}

func (l *portableLink) data() (*fnpb.Elements_Data, error) {
	for len(l.waiting) == 0 {
		elements, err := l.elements.Recv()
		if err != nil {
			return nil, err
		}
		l.waiting = elements.GetData()
	}
	d := l.waiting[0]
	l.waiting = l.waiting[1:]
	return d, nil
}

func (l *portableLink) descriptor(id string) (*fnpb.ProcessBundleDescriptor, error) {
	return fnpb.NewBeamFnControlClient(l.conn).GetProcessBundleDescriptor(l.ctx, &fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: id})
}

// localLink speaks frames. It uses the slots that it is lent.
type localLink struct {
	bundles, logs *net.UnixConn
	reader        *bufio.Reader
	requests      chan *fnpb.InstructionRequest
	pieces        chan *fnpb.Elements_Data
	descriptors   chan *fnpb.ProcessBundleDescriptor
	// passed are the descriptors of slots that have come.
	passed []int
	input  map[uint16][]byte

	mu     sync.Mutex
	output map[uint16][]byte
	free   []uint16
}

func dialLocal(path string, launch launchLine) (*localLink, error) {
	l := &localLink{
		requests: make(chan *fnpb.InstructionRequest, 64), pieces: make(chan *fnpb.Elements_Data, 1024),
		descriptors: make(chan *fnpb.ProcessBundleDescriptor, 1), input: map[uint16][]byte{}, output: map[uint16][]byte{},
	}
	var err error
	if l.logs, err = helloTo(path, hello{launch.WorkerID, launch.Token, protocolVersion, logConnection}); err != nil {
		return nil, err
	}
	if l.bundles, err = helloTo(path, hello{launch.WorkerID, launch.Token, protocolVersion, bundlesConnection}); err != nil {
		return nil, err
	}
	l.reader = bufio.NewReaderSize(rightsReader{l}, readBytes)
	go l.read()
	return l, nil
}

// helloTo connects to a lane and says who comes.
func helloTo(path string, h hello) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	text, _ := json.Marshal(h)
	if _, err := conn.Write(append(frame{kind: frameHello, slot: noSlot, payloadBytes: len(text)}.append(nil), text...)); err != nil {
		return nil, err
	}
	f, err := readFrame(conn)
	if err != nil {
		return nil, err
	}
	said, err := f.payload(conn)
	if err == nil && f.kind != frameWelcome {
		err = errors.New(string(said))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// rightsReader reads the connection and keeps the descriptors that come with
// the bytes.
type rightsReader struct{ *localLink }

func (r rightsReader) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobN, _, _, err := r.bundles.ReadMsgUnix(b, oob)
	if n <= 0 {
		return 0, errors.Join(io.EOF, err)
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:oobN])
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			r.passed = append(r.passed, fds...)
		}
	}
	return n, err
}

// read sorts what comes, to the end.
func (l *localLink) read() {
	for {
		f, err := readFrame(l.reader)
		var payload []byte
		if err == nil {
			payload, err = f.payload(l.reader)
		}
		if err == nil {
			err = l.heard(f, payload)
		}
		if err != nil {
			close(l.requests)
			close(l.pieces)
			close(l.descriptors)
			return
		}
	}
}

// next gives what comes through a channel, until it is closed.
func next[T any](from chan T) (T, error) {
	value, ok := <-from
	if !ok {
		return value, io.EOF
	}
	return value, nil
}

func (l *localLink) heard(f frame, payload []byte) error {
	switch f.kind {
	case frameRequest:
		r := &fnpb.InstructionRequest{}
		if err := proto.Unmarshal(payload, r); err != nil {
			return err
		}
		l.requests <- r
	case frameDescriptor:
		d := &fnpb.ProcessBundleDescriptor{}
		if err := proto.Unmarshal(payload, d); err != nil {
			return err
		}
		l.descriptors <- d
	case frameData:
		if f.slot != noSlot {
			payload = append([]byte(nil), l.input[f.slot][:f.slotBytes]...)
			if err := l.send(frame{kind: frameFree, slot: noSlot}, binary.LittleEndian.AppendUint16(nil, f.slot)); err != nil {
				return err
			}
		}
		l.pieces <- &fnpb.Elements_Data{InstructionId: instructionID(f.instruction), TransformId: sourceTransform, Data: payload, IsLast: f.last}
	case frameInputSlot, frameOutputSlot:
		return l.mapSlot(f)
	case frameFree:
		l.mu.Lock()
		defer l.mu.Unlock()
		for ; len(payload) >= 2; payload = payload[2:] {
			l.free = append(l.free, binary.LittleEndian.Uint16(payload))
		}
	}
	return nil
}

func (l *localLink) mapSlot(f frame) error {
	fd := l.passed[0]
	l.passed = l.passed[1:]
	if f.kind == frameInputSlot {
		if _, err := unix.Mmap(fd, 0, f.slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, syscall.EPERM) {
			return fmt.Errorf("an input slot can be written: %w", err)
		}
		memory, err := unix.Mmap(fd, 0, f.slotBytes, unix.PROT_READ, unix.MAP_SHARED)
		l.input[f.slot] = memory
		return err
	}
	memory, err := unix.Mmap(fd, 0, f.slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.output[f.slot] = memory
	l.free = append(l.free, f.slot)
	return err
}

func (l *localLink) send(f frame, payload []byte) error {
	f.payloadBytes = len(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.bundles.Write(append(f.append(nil), payload...))
	return err
}

func (l *localLink) request() (*fnpb.InstructionRequest, error) { return next(l.requests) }
func (l *localLink) data() (*fnpb.Elements_Data, error)         { return next(l.pieces) }
func (l *localLink) hangUp()                                    { _ = errors.Join(l.bundles.Close(), l.logs.Close()) }

func (l *localLink) respond(r *fnpb.InstructionResponse) error {
	text, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	return l.send(frame{kind: frameResponse, slot: noSlot}, text)
}

func (l *localLink) put(d *fnpb.Elements_Data) error {
	f := frame{kind: frameData, slot: noSlot, instruction: instructionNumber(d.GetInstructionId()), last: d.GetIsLast()}
	if d.GetTransformId() != sinkTransform { // frames name none: send after the end instead
		f.last = true
		if err := l.send(f, d.GetData()); err != nil {
			return err
		}
	}
	l.mu.Lock()
	if n := len(l.free); n > 0 && len(d.GetData()) > inlineBytesMax/2 {
		f.slot, f.slotBytes = l.free[n-1], len(d.GetData())
		l.free = l.free[:n-1]
		copy(l.output[f.slot], d.GetData())
	}
	l.mu.Unlock()
	if f.slot != noSlot {
		return l.send(f, nil)
	}
	return l.send(f, d.GetData())
}

func (l *localLink) descriptor(id string) (*fnpb.ProcessBundleDescriptor, error) {
	text, err := proto.Marshal(&fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: id})
	if err != nil {
		return nil, err
	}
	if err := l.send(frame{kind: frameAsk, slot: noSlot}, text); err != nil {
		return nil, err
	}
	return next(l.descriptors)
}

func (l *localLink) log(list *fnpb.LogEntry_List) error {
	text, err := proto.Marshal(list)
	if err != nil {
		return err
	}
	_, err = l.logs.Write(append(frame{kind: frameLog, slot: noSlot, payloadBytes: len(text)}.append(nil), text...))
	return err
}
