package fnapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// localScheme begins the address of a local lane.
const localScheme = "local:"

// The connections that a worker makes, each once.
const (
	bundlesConnection = "bundles"
	logConnection     = "log"
)

// Bounds of a local lane.
const (
	// helloBytesMax and helloTime bound what somebody may say who is not known
	// yet, and how long that may take; strangersMax how many may be at it.
	helloBytesMax = 4 << 10
	helloTime     = 30 * time.Second
	// frameTime is how long a worker may take to write a frame that it has begun.
	frameTime    = 20 * time.Second
	strangersMax = 8
	// oddsMax bounds the answers that wait to be sent.
	oddsMax = 64
	// readBytes is the buffer that headers and small frames are read through.
	readBytes = 64 << 10
)

// local is the lane of frames on a unix socket, with slots of shared memory for
// what is large. A worker makes two connections: one for bundles, in both
// directions, and one for its log.
//
// Frames are sent by the session's goroutine, and by one of the lane's own for
// what the reading goroutine has to say: it must never wait for a worker that
// itself waits to be read. Whoever sends holds the write lock; the memory of
// slots is used under it, or by the reading goroutine, and unmapped when both
// have ended.
type local struct {
	endpoint *endpoint
	path     string
	listener net.Listener
	// done is closed by close, and ended by ctx.
	ctx    context.Context
	cancel context.CancelFunc
	// running counts the goroutines that accept and read.
	running sync.WaitGroup

	mu     sync.Mutex
	taken  map[string]bool
	closed bool
	conns  map[net.Conn]struct{}

	// write is held while a frame is sent; conn is nil until the worker is
	// there. unsent are frames that go out with the next one, in memory that is
	// used again.
	write  sync.Mutex
	conn   *net.UnixConn
	unsent []byte
	// asked is the stage that the worker was asked for last, request the message
	// that did but for its instruction, which stands first.
	asked   string
	request []byte

	input, output slots
	// lending guards owed, the output slots that go to the worker with the next
	// frame: it needs them for what it is asked next, and a frame of their own
	// could come after that.
	lending sync.Mutex
	owed    []owedSlot
	// odds are the frames that wait to be sent by the lane's own goroutine.
	odds chan oddFrame
}

// owedSlot is a slot that is lent; made says that the worker does not have it.
type owedSlot struct {
	*slot
	made bool
}

// oddFrame is a frame that the reading goroutine wants to be sent.
type oddFrame struct {
	frame
	payload []byte
}

// hello is the payload of a frameHello.
type hello struct {
	Worker     string `json:"worker"`
	Token      string `json:"token"`
	Protocol   string `json:"protocol"`
	Connection string `json:"connection"`
}

// newLocal serves an endpoint's worker on a listener; its slots are counted in
// segments.
func newLocal(e *endpoint, listener net.Listener, path string, segments *atomic.Int64) *local {
	l := &local{
		endpoint: e, path: path, listener: listener, taken: map[string]bool{}, conns: map[net.Conn]struct{}{},
		input:  slots{input: true, lentMax: inputSlotsMax, live: segments},
		output: slots{lentMax: outputSlotsMax, heldMax: heldSlotsMax, first: inputSlotsMax, live: segments},
		odds:   make(chan oddFrame, oddsMax),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.running.Go(l.accept)
	return l
}

// url implements lane.
func (l *local) url() string { return localScheme + l.path }

// accept takes connections until the lane is closed.
func (l *local) accept() {
	places := make(chan struct{}, strangersMax)
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			_ = conn.Close()
			return
		}
		l.conns[conn] = struct{}{}
		l.mu.Unlock()
		select {
		case places <- struct{}{}:
		case <-l.ctx.Done():
		}
		l.running.Go(func() {
			connection, err := l.greet(conn)
			<-places
			if err == nil {
				l.serve(connection, conn.(*net.UnixConn))
			}
			l.forget(conn)
		})
	}
}

func (l *local) forget(conn net.Conn) {
	l.mu.Lock()
	delete(l.conns, conn)
	l.mu.Unlock()
	_ = conn.Close()
}

// greet reads who comes and for what, and answers.
func (l *local) greet(conn net.Conn) (connection string, err error) {
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return "", err
	}
	f, err := readFrame(conn)
	if err == nil && (f.kind != frameHello || f.payloadBytes > helloBytesMax) {
		err = malformed("a frame of kind %d is no hello", f.kind)
	}
	var text []byte
	if err == nil {
		text, err = f.payload(conn)
	}
	if err != nil {
		return "", err
	}
	var h hello
	if err = json.Unmarshal(text, &h); err == nil {
		err = l.admit(h)
	}
	answer, said := frame{kind: frameWelcome, slot: noSlot}, ""
	if err != nil {
		answer.kind, said = frameRefused, err.Error()
	}
	answer.payloadBytes = len(said)
	if _, writeErr := conn.Write(append(answer.append(nil), said...)); writeErr != nil || err != nil {
		return "", errors.Join(err, writeErr)
	}
	return h.Connection, conn.SetDeadline(time.Time{})
}

// admit takes a connection for a worker that knows its secret.
func (l *local) admit(h hello) error {
	if !sameSecret(h.Token, l.endpoint.token) || h.Worker != l.endpoint.id {
		return errors.New("this endpoint belongs to another worker")
	}
	if h.Protocol != protocolVersion {
		return fmt.Errorf("the engine speaks protocol %s, this worker %s", protocolVersion, h.Protocol)
	}
	if h.Connection != bundlesConnection && h.Connection != logConnection {
		return fmt.Errorf("there is no connection %q", h.Connection)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[h.Connection] {
		return errors.New("a worker makes each connection once")
	}
	l.taken[h.Connection] = true
	return nil
}

// serve reads a connection to its end.
func (l *local) serve(connection string, conn *net.UnixConn) {
	if connection == logConnection {
		l.readLog(conn)
		return
	}
	l.write.Lock()
	l.conn = conn
	l.write.Unlock()
	l.running.Go(l.sendOdds)
	l.endpoint.heardHello()
	_ = l.readBundles(conn) // the worker has hung up, however it did
	l.endpoint.lose()
}

func (l *local) readLog(conn net.Conn) {
	r := bufio.NewReaderSize(conn, readBytes)
	for {
		f, text, err := nextFrame(conn, r)
		if err != nil || f.kind != frameLog {
			return
		}
		list := &fnpb.LogEntry_List{}
		if proto.Unmarshal(text, list) != nil {
			return
		}
		l.endpoint.heardLog(list)
	}
}

// nextFrame waits for a frame, however long, and reads it, which must not take
// longer than frameTime: a worker writes each in one go. One that has begun a
// frame waits for nothing else, so no other limit of time would end it.
func nextFrame(conn net.Conn, r *bufio.Reader) (f frame, payload []byte, err error) {
	if _, err := r.Peek(1); err != nil {
		return f, nil, err
	}
	bounded := false
	bound := func(bytes int) error {
		if bounded || r.Buffered() >= bytes {
			return nil
		}
		bounded = true
		return conn.SetReadDeadline(time.Now().Add(frameTime))
	}
	if err := bound(frameHeaderBytes); err != nil {
		return f, nil, err
	}
	if f, err = readFrame(r); err != nil {
		return f, nil, err
	}
	if err := bound(f.payloadBytes); err != nil {
		return f, nil, err
	}
	if payload, err = f.payload(r); err == nil && bounded {
		err = conn.SetReadDeadline(time.Time{})
	}
	return f, payload, err
}

// readBundles reads what the worker sends. It never waits for the worker.
func (l *local) readBundles(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, readBytes)
	for {
		f, text, err := nextFrame(conn, r)
		if err == nil {
			err = l.heard(f, text)
		}
		if err != nil {
			return err
		}
	}
}

// heard handles a frame; the payload is its own.
func (l *local) heard(f frame, payload []byte) error {
	switch f.kind {
	case frameResponse:
		r := &fnpb.InstructionResponse{}
		if err := proto.Unmarshal(payload, r); err != nil {
			return malformed("an answer: %v", err)
		}
		l.endpoint.heardResponse(l.ctx, r)
	case frameData:
		text, err := l.pieceOf(f, payload)
		if err != nil {
			return err
		}
		l.endpoint.heardData(data{piece: text, instruction: instructionID(f.instruction), transform: sinkTransform, last: f.last})
	case frameAsk:
		r := &fnpb.GetProcessBundleDescriptorRequest{}
		if err := proto.Unmarshal(payload, r); err != nil {
			return malformed("a request of a descriptor: %v", err)
		}
		return l.answer(r.GetProcessBundleDescriptorId())
	case frameFree:
		for ; len(payload) >= 2; payload = payload[2:] {
			if !l.input.give(binary.LittleEndian.Uint16(payload)) {
				return malformed("a slot comes back that the worker does not have")
			}
		}
	default:
		return malformed("a worker sends no frames of kind %d", f.kind)
	}
	return nil
}

// pieceOf gives a piece of data: where it lies, or a copy where the engine keeps
// as many slots as it may, so that the worker always has some.
func (l *local) pieceOf(f frame, payload []byte) (piece, error) {
	if f.slot == noSlot {
		if len(payload) > inlineBytesMax {
			l.lendOutput()
		}
		return piece{bytes: payload}, nil
	}
	lent := l.output.find(f.slot)
	if lent == nil || f.slotBytes > len(lent.memory) || len(payload) > 0 {
		return piece{}, malformed("data in a slot that the worker does not have, or more than that holds")
	}
	text := piece{bytes: lent.memory[:f.slotBytes:f.slotBytes]}
	if text.held = l.output.hold(lent); text.held == nil {
		text.bytes = bytes.Clone(text.bytes) // is not cleared before
		l.output.give(f.slot)
	}
	l.lendOutput()
	return text, nil
}

// lendOutput lends the worker an output slot, unless it has all of them.
func (l *local) lendOutput() {
	lent, made := l.output.take()
	if lent == nil {
		return
	}
	l.lending.Lock()
	defer l.lending.Unlock()
	l.owed = append(l.owed, owedSlot{lent, made})
}

// sendOwedLocked sends the slots that are owed, or has them go out with the next
// frame. The write lock is held, but not the lock of what is owed, for which the
// reading goroutine would wait until the worker reads.
func (l *local) sendOwedLocked() error {
	l.lending.Lock()
	owed := l.owed
	l.owed = nil
	l.lending.Unlock()
	for _, o := range owed {
		if !o.made {
			l.unsent = frame{kind: frameFree, slot: noSlot, payloadBytes: 2}.append(l.unsent)
			l.unsent = binary.LittleEndian.AppendUint16(l.unsent, o.number)
			continue
		}
		if err := l.handLocked(frameOutputSlot, o.slot); err != nil {
			return err
		}
	}
	return nil
}

// handLocked sends a slot that the worker does not have, with its descriptor and
// what else waits. The write lock is held.
func (l *local) handLocked(kind frameKind, made *slot) error {
	l.unsent = frame{kind: kind, slot: made.number, slotBytes: len(made.memory)}.append(l.unsent)
	_, _, err := l.conn.WriteMsgUnix(l.unsent, made.rights(), nil)
	return l.flushedLocked(err)
}

// answer sends the descriptor that a worker asks for.
func (l *local) answer(id string) error {
	var text []byte
	if d := l.endpoint.descriptor(id); d != nil {
		var err error
		if text, err = proto.Marshal(d); err != nil {
			return fmt.Errorf("write a descriptor: %w", err)
		}
	}
	l.say(oddFrame{frame: frame{kind: frameDescriptor, slot: noSlot, payloadBytes: len(text)}, payload: text})
	return nil
}

// say has a frame sent by the lane's own goroutine. A worker for which more wait
// than there is room asks without reading, and is of no use.
func (l *local) say(odd oddFrame) {
	select {
	case l.odds <- odd:
	default:
		l.cutOff()
	}
}

// cutOff ends the worker's connection.
func (l *local) cutOff() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// sendOdds is the lane's goroutine that sends.
func (l *local) sendOdds() {
	for {
		select {
		case odd := <-l.odds:
			l.write.Lock()
			err := l.sendLocked(odd.frame, odd.payload)
			l.write.Unlock()
			if err != nil {
				return
			}
		case <-l.ctx.Done():
			return
		case <-l.endpoint.lost:
			return
		}
	}
}

// sendLocked sends a frame, with what waits to be sent. The write lock is held.
func (l *local) sendLocked(f frame, payload []byte) error {
	if l.conn == nil {
		return errSend
	}
	l.unsent = f.append(l.unsent)
	if len(payload) <= inlineBytesMax {
		l.unsent = append(l.unsent, payload...)
		return l.flushLocked()
	}
	buffers := net.Buffers{l.unsent, payload}
	_, err := buffers.WriteTo(l.conn)
	return l.flushedLocked(err)
}

// flushLocked sends what waits to be sent.
func (l *local) flushLocked() error {
	_, err := l.conn.Write(l.unsent)
	return l.flushedLocked(err)
}

func (l *local) flushedLocked(err error) error {
	l.unsent = l.unsent[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", errSend, err)
	}
	return nil
}

// process implements lane.
func (l *local) process(instruction, descriptor string, soon bool) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.conn == nil {
		return errSend
	}
	if err := l.sendOwedLocked(); err != nil {
		return err
	}
	if l.asked != descriptor {
		text, err := proto.Marshal(processRequest("", descriptor))
		if err != nil {
			return err
		}
		l.asked, l.request = descriptor, text
	}
	id := 1 + varintBytes(len(instruction)) + len(instruction)
	l.unsent = frame{kind: frameRequest, slot: noSlot, payloadBytes: id + len(l.request)}.append(l.unsent)
	l.unsent = protowire.AppendTag(l.unsent, instructionField, protowire.BytesType)
	l.unsent = append(protowire.AppendString(l.unsent, instruction), l.request...)
	if soon {
		return nil
	}
	return l.flushLocked()
}

// instructionField is InstructionRequest.instruction_id's number.
const instructionField = 1

// awaitData implements lane: data travels where requests do.
func (l *local) awaitData(context.Context) error { return nil }

// sendEnd implements lane.
func (l *local) sendEnd(instruction string) error {
	l.write.Lock()
	defer l.write.Unlock()
	return l.sendLocked(frame{kind: frameData, slot: noSlot, instruction: instructionNumber(instruction), last: true}, nil)
}

// sendBatch implements lane. A batch goes inline where it is small, or where
// no slot is free, and else in a slot; what does not fit into one goes in
// pieces.
func (l *local) sendBatch(instruction string, batch arrow.RecordBatch, last bool, sent func(int) error) error {
	element, err := newElement(batch)
	if err != nil {
		return err
	}
	defer element.release()
	f := frame{kind: frameData, slot: noSlot, instruction: instructionNumber(instruction)}
	size := element.bytes(localPad)
	if size > slotBytes {
		return l.sendPieces(f, element, last, sent)
	}
	if err := sent(size); err != nil {
		return err
	}
	f.last = last
	l.write.Lock()
	defer l.write.Unlock()
	if l.conn == nil {
		return errSend
	}
	if err := l.sendOwedLocked(); err != nil {
		return err
	}
	if size > inlineBytesMax {
		if done, err := l.sendInSlotLocked(f, element, size); done || err != nil {
			return err
		}
	}
	return l.sendInlineLocked(f, element, size)
}

// localPad puts an IPC message at a multiple of ipcAlign from the start of the
// piece.
func localPad(size int) int {
	for lengthBytes := 1; lengthBytes < 10; lengthBytes++ {
		at := elementHeaderBytes + lengthBytes + 1
		pad := (ipcAlign - at%ipcAlign) % ipcAlign
		if varintBytes(1+pad+size) == lengthBytes {
			return pad
		}
	}
	return 0
}

// sendInSlotLocked sends an element in a slot, if one is free. The write lock is
// held.
func (l *local) sendInSlotLocked(f frame, element *element, size int) (done bool, err error) {
	lent, made := l.input.take()
	if lent == nil {
		return false, nil
	}
	if made {
		if err := l.handLocked(frameInputSlot, lent); err != nil {
			return false, err
		}
	}
	if _, err := element.write(lent.memory[:0], localPad); err != nil {
		return false, err
	}
	f.slot, f.slotBytes = lent.number, size
	return true, l.sendLocked(f, nil)
}

// sendInlineLocked sends an element in the frame itself. The write lock is held.
func (l *local) sendInlineLocked(f frame, element *element, size int) error {
	f.payloadBytes = size
	if size > inlineBytesMax {
		data, err := element.write(nil, localPad)
		if err != nil {
			return err
		}
		return l.sendLocked(f, data)
	}
	frames, err := element.write(f.append(l.unsent), localPad)
	if err != nil {
		return err
	}
	l.unsent = frames
	return l.flushLocked()
}

// sendPieces sends an element that is too large for a slot.
func (l *local) sendPieces(f frame, element *element, last bool, sent func(int) error) error {
	data, err := element.write(nil, localPad)
	if err != nil {
		return err
	}
	for {
		piece := data[:min(len(data), pieceBytesMax)]
		data = data[len(piece):]
		if err := sent(len(piece)); err != nil {
			return err
		}
		f.last, f.payloadBytes = last && len(data) == 0, len(piece)
		l.write.Lock()
		err := l.sendLocked(f, piece)
		l.write.Unlock()
		if err != nil || len(data) == 0 {
			return err
		}
	}
}

// close implements lane. Connections are closed first, so that whoever sends
// or reads comes to an end; then the memory of the slots goes.
func (l *local) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	_ = l.listener.Close()
	l.cutOff()
	l.running.Wait()
	l.write.Lock()
	defer l.write.Unlock()
	l.conn = nil
	l.input.close()
	l.output.close()
	_ = os.Remove(l.path) // the listener has removed it already, or its folder goes
}
