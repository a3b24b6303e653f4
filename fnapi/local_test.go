package fnapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/proto"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/go-tests/fixture"
)

// heard is a receiver that keeps what it gets.
type heard struct {
	mu        sync.Mutex
	pieces    []data
	responses []*fnpb.InstructionResponse
	gone      bool
}

func (h *heard) data(d data) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pieces = append(h.pieces, d)
}

func (h *heard) response(r *fnpb.InstructionResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.responses = append(h.responses, r)
}

func (h *heard) log(*fnpb.LogEntry) {}

func (h *heard) hungUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
}

func (h *heard) pieceCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pieces)
}

// listen makes a local lane without a worker.
func listen(t *testing.T) (*endpoint, *heard) {
	t.Helper()
	made, err := (&host{dir: fixture.ShortDir(t)}).Listen("w1")
	if err != nil {
		t.Fatal(err)
	}
	e, to := made.(*endpoint), &heard{}
	t.Cleanup(e.Close)
	e.attach(to, []*fnpb.ProcessBundleDescriptor{{Id: "stage"}})
	return e, to
}

func pathOf(e *endpoint) string { return strings.TrimPrefix(e.URL(), localScheme) }

// dialAs makes the worker's connections.
func dialAs(t *testing.T, e *endpoint) *localLink {
	t.Helper()
	l, err := dialLocal(pathOf(e), launchLine{WorkerID: e.id, Token: e.token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.hangUp)
	return l
}

func TestStrangersAreRefusedByTheLocalLane(t *testing.T) {
	e, _ := listen(t)
	good := hello{e.id, e.token, protocolVersion, bundlesConnection}
	for name, change := range map[string]func(*hello){
		"no token":     func(h *hello) { h.Token = "" },
		"wrong token":  func(h *hello) { h.Token = newToken() },
		"wrong worker": func(h *hello) { h.Worker = "w99" },
		"old":          func(h *hello) { h.Protocol = "0" },
		"odd":          func(h *hello) { h.Connection = "door" },
	} {
		h := good
		change(&h)
		if conn, err := helloTo(pathOf(e), h); err == nil {
			t.Errorf("%s is let in", name)
			_ = conn.Close()
		}
	}
	select {
	case <-e.Ready():
		t.Error("a stranger counts as the worker")
	default:
	}
	for _, connection := range []string{bundlesConnection, logConnection} {
		good.Connection = connection
		conn, err := helloTo(pathOf(e), good)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := helloTo(pathOf(e), good); err == nil || !strings.Contains(err.Error(), "each connection once") {
			t.Errorf("twice: %v", err)
		}
	}
	<-e.Ready()
	info, err := os.Stat(e.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
}

// Who says nothing, or nonsense, keeps nobody out.
func TestStrangersDoNotHoldTheDoor(t *testing.T) {
	e, _ := listen(t)
	for _, said := range []string{"", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", 100)} {
		for range strangersMax / 3 {
			conn, err := net.Dial("unix", pathOf(e))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dialAs(t, e)
}

// TestHostileWorkers: what a worker may send at all ends in a lane that is cut
// off, or is handed on to be checked; the engine lives.
func TestHostileWorkers(t *testing.T) {
	request := func(m proto.Message) []byte {
		text, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	with := func(f frame, payload string) []byte {
		f.payloadBytes = len(payload)
		return append(f.append(nil), payload...)
	}
	for name, bytes := range map[string][]byte{
		"a slot that it was not lent":  with(frame{kind: frameData, slot: 3, slotBytes: 10, instruction: 1}, ""),
		"an input slot as output":      with(frame{kind: frameData, slot: 0, slotBytes: 10, instruction: 1}, ""),
		"a slot that there is not":     with(frame{kind: frameData, slot: 999, slotBytes: 10, instruction: 1}, ""),
		"giving back what it has not":  with(frame{kind: frameFree, slot: noSlot}, "\x00\x00"),
		"an answer that is none":       with(frame{kind: frameResponse, slot: noSlot}, "\xff\xff\xff"),
		"a question that is none":      with(frame{kind: frameAsk, slot: noSlot}, "\xff\xff\xff"),
		"a request":                    with(frame{kind: frameRequest, slot: noSlot}, "x"),
		"a hello":                      with(frame{kind: frameHello, slot: noSlot}, "{}"),
		"a log entry among bundles":    with(frame{kind: frameLog, slot: noSlot}, ""),
		"a kind that there is not":     with(frame{kind: 99, slot: noSlot}, ""),
		"no kind":                      make([]byte, frameHeaderBytes),
		"more than a message may have": frame{kind: frameData, slot: noSlot, payloadBytes: messageBytesMax + 1}.append(nil),
		"a flag that there is not":     append(with(frame{kind: frameData, slot: noSlot}, "")[:19], 2, 0, 0, 0, 0),
		"text instead of frames":       []byte(strings.Repeat("hello, engine! ", 10)),
		"a thousand questions at once": []byte(strings.Repeat(string(with(frame{kind: frameAsk, slot: noSlot}, string(request(&fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: strings.Repeat("x", 100)})))), 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			e, to := listen(t)
			conn, err := helloTo(pathOf(e), hello{e.id, e.token, protocolVersion, bundlesConnection})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if name == "a thousand questions at once" { // with an answer that fills the socket
				big := &fnpb.ProcessBundleDescriptor{Id: strings.Repeat("x", 100)}
				big.StateApiServiceDescriptor = nil
				e.attach(to, []*fnpb.ProcessBundleDescriptor{big})
			}
			_, err = conn.Write(bytes)
			if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			if name == "a thousand questions at once" {
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				_, _ = io.Copy(io.Discard, conn)
				return // it was answered, or cut off; either way the engine did not wait for it
			}
			select {
			case <-e.lost:
			case <-time.After(5 * time.Second):
				t.Fatal("the worker is still served")
			}
			if to.pieceCount() > 0 {
				t.Error("something was handed on")
			}
			if err := e.lane.process("b1", "stage", false); !errors.Is(err, errSend) && err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// A frame that is cut off is the end of the worker, and not of a bundle.
func TestFrameCutOff(t *testing.T) {
	e, to := listen(t)
	l := dialAs(t, e)
	f := frame{kind: frameData, slot: noSlot, instruction: 1, payloadBytes: 100, last: true}
	if _, err := l.bundles.Write(append(f.append(nil), "only this"...)); err != nil {
		t.Fatal(err)
	}
	l.hangUp()
	<-e.lost
	if to.pieceCount() > 0 {
		t.Error("part of a frame was handed on")
	}
}

// sentInSlots has a worker send an element of numbers, of text and of truths as
// bundles b1, b2 …, each in a slot of its own, and gives them as they came.
func sentInSlots(t *testing.T, e *endpoint, to *heard, l *localLink, element []byte, times int) []data {
	t.Helper()
	put := func(id string) {
		t.Helper()
		before := to.pieceCount()
		if err := l.put(&fnpb.Elements_Data{InstructionId: id, TransformId: sinkTransform, Data: element, IsLast: true}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the piece has come", func() bool { return to.pieceCount() > before })
		// A slot goes to the worker with what it is asked next.
		if err := e.lane.process("b1", "stage", false); err != nil {
			t.Fatal(err)
		}
		if _, err := l.request(); err != nil {
			t.Fatal(err)
		}
	}
	put("b99") // inline: no slot has been lent yet
	to.mu.Lock()
	to.pieces = nil
	to.mu.Unlock()
	for i := range times {
		l.mu.Lock()
		lent := len(l.free)
		l.mu.Unlock()
		if lent == 0 {
			t.Fatal("a request came without a slot for what it gives")
		}
		put(instructionID(uint64(i + 1)))
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	return to.pieces
}

// outputs are the worker's output slots.
func (l *localLink) outputs() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.output))
}

// mixedBatch has numbers, which may stay in a slot, and columns that may not.
func mixedBatch(t *testing.T) (arrow.RecordBatch, []byte) {
	t.Helper()
	const rows = 20_000
	number, truth, text := array.NewInt64Builder(memory.DefaultAllocator), array.NewBooleanBuilder(memory.DefaultAllocator), array.NewStringBuilder(memory.DefaultAllocator)
	for i := range rows {
		number.Append(int64(i))
		truth.Append(i%3 == 0)
		if i%7 == 0 {
			text.AppendNull()
			continue
		}
		text.Append("größer")
	}
	batch := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{
		{Name: "number", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "truth", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil), []arrow.Array{number.NewArray(), truth.NewArray(), text.NewArray()}, rows)
	element, err := newElement(batch)
	if err != nil {
		t.Fatal(err)
	}
	defer element.release()
	bytes, err := element.write(nil, localPad)
	if err != nil {
		t.Fatal(err)
	}
	return batch, bytes
}

// A worker that goes on writing into a slot that the engine holds changes
// numbers, which may be any, and nothing by which the engine finds its way.
func TestWorkerChangesASlotThatIsHeld(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		e, to := listen(t)
		l := dialAs(t, e)
		want, element := mixedBatch(t)
		d, err := newDecoder(want.Schema(), inPlace)
		if err != nil {
			t.Fatal(err)
		}
		sent := sentInSlots(t, e, to, l, element, 1)
		if sent[0].held == nil {
			t.Fatal("what is in a slot was copied at once")
		}
		got, err := d.decode([]piece{sent[0].piece})
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(got[0], want) {
			t.Fatal("other values came")
		}
		for _, slot := range l.outputs() {
			for i := range slot {
				slot[i] = 0xFF
			}
		}
		for i, name := range []string{"number", "truth", "text"} {
			changed := !array.Equal(got[0].Column(i), want.Column(i))
			if stays := name == "number" && inPlace; changed != stays {
				t.Errorf("in place %v, %s: changed %v", inPlace, name, changed)
			}
			if err := array.ValidateFull(got[0].Column(i)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		releaseAll(got)
	}
}

// Whatever a worker writes while the engine reads, the engine gets a batch that
// is sound or says what is wrong.
func TestWorkerWritesWhileTheEngineReads(t *testing.T) {
	e, to := listen(t)
	l := dialAs(t, e)
	batch, element := mixedBatch(t)
	d, err := newDecoder(batch.Schema(), true)
	if err != nil {
		t.Fatal(err)
	}
	sent := sentInSlots(t, e, to, l, element, 1)[0]
	defer sent.release()
	slots := l.outputs()
	stop, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		for n := uint64(1); ; n++ {
			for _, slot := range slots {
				at := n * 0x9E3779B97F4A7C15 % uint64(len(element))
				if n%3 > 0 { // where the metadata and the offsets are
					at %= 512
				}
				slot[at] ^= byte(n)
				if n%64 == 0 {
					copy(slot, element)
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	read, refused := 0, 0
	for began := time.Now(); (read == 0 || refused == 0 || time.Since(began) < 200*time.Millisecond) && time.Since(began) < 20*time.Second; {
		sent.held.retain() // decode takes the piece over
		got, err := d.decode([]piece{sent.piece})
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			refused++
			continue
		}
		read++
		for _, b := range got {
			for _, c := range b.Columns() {
				if err := array.ValidateFull(c); err != nil {
					t.Fatal(err)
				}
			}
		}
		releaseAll(got)
	}
	close(stop)
	<-written
	if read == 0 || refused == 0 {
		t.Errorf("%d batches read, %d refused", read, refused)
	}
}

// A slot is lent again when nothing refers to it any more, and not before; a
// worker whose results are kept goes on, in the slots that are left.
func TestSlotsThatAreHeld(t *testing.T) {
	e, to := listen(t)
	l := dialAs(t, e)
	want, element := mixedBatch(t)
	d, err := newDecoder(want.Schema(), true)
	if err != nil {
		t.Fatal(err)
	}
	output := &e.lane.(*local).output
	const times = heldSlotsMax + 2*outputSlotsMax
	var kept [][]arrow.RecordBatch
	for i, one := range sentInSlots(t, e, to, l, element, times) {
		if held := one.held != nil; held != (i < heldSlotsMax) {
			t.Errorf("bundle %d is held where it came: %v", i, held)
		}
		got, err := d.decode([]piece{one.piece})
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, got)
	}
	counts := func() (held, all int) {
		output.mu.Lock()
		defer output.mu.Unlock()
		return output.held, len(output.all)
	}
	if held, all := counts(); held != heldSlotsMax || all > heldSlotsMax+outputSlotsMax {
		t.Errorf("%d slots are held, of %d", held, all)
	}
	for _, got := range kept {
		if !array.RecordEqual(got[0], want) {
			t.Error("a slot was lent again while something refers to it")
		}
	}
	column := kept[0][0].Column(0)
	column.Retain()
	releaseAll(kept[0])
	if held, _ := counts(); held != heldSlotsMax {
		t.Error("a slot was let go while a column refers to it")
	}
	column.Release()
	if held, _ := counts(); held != heldSlotsMax-1 {
		t.Error("a slot was not let go")
	}

	// What is held outlives its worker.
	l.hangUp()
	e.Close()
	if n := output.live.Load(); n != heldSlotsMax-1 {
		t.Errorf("%d slots live", n)
	}
	for _, got := range kept[1:] {
		if !array.RecordEqual(got[0], want) {
			t.Error("values are gone with their worker")
		}
		releaseAll(got)
	}
	if n := output.live.Load(); n != 0 {
		t.Errorf("%d slots outlive what referred to them", n)
	}
}

// What nobody takes of a worker's results is let go.
func TestResultsThatNobodyTakes(t *testing.T) {
	r := newRunner(t, func(o *Options) { o.Lane = Local })
	for _, source := range []string{"", "raise@70001", "die@70001"} {
		stage := newStage(exec.StageColumns, source)
		stage.Retries = 0
		s := open(t, r, stage)
		for range 2 {
			b, err := s.Submit(t.Context(), rowsOf(100_000), 0)
			if err != nil {
				break // the one before has failed
			}
			<-b.(*bundle).done
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	r.Close()
	if n := r.Segments(); n != 0 {
		t.Errorf("%d slots are left", n)
	}
}

// TestSlotsAreLentAgain: batches of every size arrive whole, in slots and
// beside them, and a worker that keeps its slots is sent what it needs inline.
func TestSlotsAreLentAgain(t *testing.T) {
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer allocator.AssertSize(t, 0)
	e, _ := listen(t)
	l := dialAs(t, e)
	<-e.Ready()
	d, err := newDecoder(xSchema, true)
	if err != nil {
		t.Fatal(err)
	}
	for round, rows := range []int{1, 100, 8_190, 8_192, 65_536, 520_000, 600_000, 3_000_000, 65_536, 65_536, 0} {
		batch := numbers(allocator, rows)
		var sent int
		var pieces [][]byte
		done := make(chan error, 1)
		go func() {
			done <- e.lane.sendBatch(instructionID(uint64(round+1)), batch, true, func(n int) error {
				sent += n
				return nil
			})
		}()
		for {
			piece, err := l.data()
			if err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, piece.GetData())
			if piece.GetIsLast() {
				break
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if total := len(strings.Join(texts(pieces), "")); sent != total {
			t.Errorf("%d bytes were told, %d came", sent, total)
		}
		got, err := d.decode(asPieces(pieces))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || !array.RecordEqual(got[0], batch) {
			t.Errorf("%d rows came as %v", rows, got)
		}
		releaseAll(got)
		batch.Release()
	}
	local := e.lane.(*local)
	if n := len(local.input.all); n == 0 || n > inputSlotsMax {
		t.Errorf("%d input slots", n)
	}
}

func texts(pieces [][]byte) (all []string) {
	for _, p := range pieces {
		all = append(all, string(p))
	}
	return all
}

func numbers(allocator memory.Allocator, rows int) arrow.RecordBatch {
	b := array.NewFloat64Builder(allocator)
	defer b.Release()
	for i := range rows {
		b.Append(float64(i))
	}
	column := b.NewArray()
	defer column.Release()
	return array.NewRecordBatch(xSchema, []arrow.Array{column}, int64(rows))
}

// The engine reads what a worker sends also where an output slot is on its way to
// a worker that reads nothing: otherwise each would wait for the other.
func TestResultsAreReadWhileASlotIsOnItsWay(t *testing.T) {
	e, to := listen(t)
	conn, err := helloTo(pathOf(e), hello{e.id, e.token, protocolVersion, bundlesConnection})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-e.Ready()
	local := e.lane.(*local)
	fill(t, local.conn)
	result := frame{kind: frameData, slot: noSlot, instruction: 1, payloadBytes: inlineBytesMax + 1}.append(nil)
	result = append(result, make([]byte, inlineBytesMax+1)...)
	put := func() {
		t.Helper()
		before := to.pieceCount()
		if err := conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(result); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the result is read", func() bool { return to.pieceCount() > before })
	}
	put() // for which a slot is lent
	sent := make(chan error, 1)
	go func() { sent <- e.lane.process("b1", "stage", false) }()
	eventually(t, "the slot is being sent", func() bool {
		sending := !local.write.TryLock()
		if !sending {
			local.write.Unlock()
		}
		return sending
	})
	for range 2 * outputSlotsMax {
		put()
	}
	_ = conn.Close()
	if err := <-sent; !errors.Is(err, errSend) {
		t.Errorf("the request was sent all the same: %v", err)
	}
}

// fill sends on a connection until it takes no more.
func fill(t *testing.T, conn *net.UnixConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		if failed := raw.Write(func(fd uintptr) bool {
			_, err = syscall.Write(int(fd), make([]byte, inlineBytesMax))
			return true
		}); failed != nil {
			t.Fatal(failed)
		}
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
}

// TestSlotsAreGivenBack: nothing of a worker's shared memory outlives it.
func TestSlotsAreGivenBack(t *testing.T) {
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("there is no /proc")
		}
		for _, entry := range entries {
			if target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); strings.Contains(target, "alink-slot") {
				n++
			}
		}
		return n
	}
	before := count()
	r := newRunner(t, func(o *Options) { o.Lane = Local })
	for range 5 {
		for _, source := range []string{"die@70001", ""} {
			stage := newStage(exec.StageColumns, source)
			stage.Retries = 0
			s := open(t, r, stage)
			got, err := one(s, rowsOf(100_000), 0)
			releaseAll(got)
			if (err == nil) != (source == "") {
				t.Errorf("%q: %v", source, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if n := count() - before; n < 1 || n > inputSlotsMax+outputSlotsMax+heldSlotsMax {
		t.Errorf("%d slots while one worker is kept warm", n)
	}
	r.Close()
	eventually(t, "all slots are gone", func() bool { return count() == before })
}

// rowsOf gives the numbers from 0 on, in one batch.
type rowsOf int

func (n rowsOf) Open(context.Context) (exec.BatchReader, error) {
	return &rowsReader{batch: numbers(memory.DefaultAllocator, int(n))}, nil
}

type rowsReader struct{ batch arrow.RecordBatch }

func (r *rowsReader) Close() {}
func (r *rowsReader) Next(context.Context) (arrow.RecordBatch, error) {
	if r.batch == nil {
		return nil, io.EOF
	}
	batch := r.batch
	r.batch = nil
	return batch, nil
}

// FuzzFrames: whatever bytes come, reading frames gives frames or an error, and
// no more than was there.
func FuzzFrames(f *testing.F) {
	f.Add(frame{kind: frameData, slot: noSlot, instruction: 7, last: true}.append(nil))
	f.Add(append(frame{kind: frameFree, slot: noSlot, payloadBytes: 4}.append(nil), 0, 0, 1, 0))
	f.Add(frame{kind: frameData, slot: 3, slotBytes: slotBytes + 1}.append(nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		r := strings.NewReader(string(b))
		l := &local{
			endpoint: newEndpoint("w", "t", ""), odds: make(chan oddFrame, oddsMax), conns: map[net.Conn]struct{}{},
			input: slots{input: true, lentMax: 2, live: new(atomic.Int64)}, output: slots{lentMax: 2, heldMax: 1, first: 2, live: new(atomic.Int64)},
		}
		defer l.input.close()
		defer l.output.close()
		for {
			header, err := readFrame(r)
			if err != nil {
				return
			}
			if header.payloadBytes > 1<<20 {
				return // what is not there is not worth the memory here
			}
			payload, err := header.payload(r)
			if err != nil || l.heard(header, payload) != nil {
				return
			}
		}
	})
}

// A worker that begins a frame and never ends it is found out: its job would
// have no end, since nothing else is waited for.
func TestFrameWithoutAnEnd(t *testing.T) {
	for name, begun := range map[string][]byte{
		"header":  frame{kind: frameLog}.append(nil)[:5],
		"payload": frame{kind: frameLog, payloadBytes: 1 << 20}.append(nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer ours.Close()
				defer theirs.Close()
				whole := append(frame{kind: frameLog, payloadBytes: 2}.append(nil), "ok"...)
				go func() {
					time.Sleep(time.Hour) // between frames there is no limit
					_, _ = theirs.Write(whole)
					_, _ = theirs.Write(begun)
				}()
				r := bufio.NewReader(ours)
				if _, text, err := nextFrame(ours, r); err != nil || string(text) != "ok" {
					t.Fatalf("%q, %v", text, err)
				}
				began := time.Now()
				if _, _, err := nextFrame(ours, r); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != frameTime {
					t.Errorf("%v after %s", err, time.Since(began))
				}
			})
		})
	}
}
