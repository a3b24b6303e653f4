package fnapi

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// receiver gets what a worker sends while it is leased. Its methods must not
// block, and are not called any more when detach has returned.
type receiver interface {
	// data takes the piece over.
	data(data)
	response(*fnpb.InstructionResponse)
	log(*fnpb.LogEntry)
	// hungUp says that nothing more will come.
	hungUp()
}

// data is a piece of a bundle's data stream: the bundle's instruction, the
// transform that it is from, and whether it is the last one.
type data struct {
	piece
	instruction, transform string
	last                   bool
}

// lane carries the messages of the Fn API between an endpoint and its worker.
// There are two: the portable one is Beam's gRPC services, the local one frames
// on a unix socket and shared memory. What comes goes to the endpoint's
// heard… methods. One goroutine sends at a time.
type lane interface {
	// url is what the worker is told.
	url() string
	// process asks the worker to run a bundle; soon says that its input follows
	// at once, so the request may go out with that.
	process(instruction, descriptor string, soon bool) error
	// awaitData waits until the worker can be sent data.
	awaitData(ctx context.Context) error
	// sendBatch sends a batch of a bundle's input, which stays the caller's;
	// last says that it is the bundle's last. It blocks while the worker does
	// not read. sent is called before each piece goes out, with its size, and
	// may stop the sending.
	sendBatch(instruction string, batch arrow.RecordBatch, last bool, sent func(bytes int) error) error
	// sendEnd ends a bundle's input without a batch.
	sendEnd(instruction string) error
	// close ends the lane, and returns when nothing comes from it any more.
	close()
}

// endpoint is where one worker reaches the engine. It implements
// udfworker.Endpoint and lives as long as its worker; leases come and go.
type endpoint struct {
	id, token, dir string
	page           *page
	lane           lane
	closing        sync.Once

	// hello is closed when the worker is there.
	hello     chan struct{}
	helloOnce sync.Once
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

func newEndpoint(id, token, dir string) *endpoint {
	return &endpoint{
		id: id, token: token, dir: dir,
		hello: make(chan struct{}), lost: make(chan struct{}),
		descriptors: map[string]*fnpb.ProcessBundleDescriptor{}, logGrown: make(chan struct{}),
	}
}

// URL implements udfworker.Endpoint.
func (e *endpoint) URL() string { return e.lane.url() }

// Token implements udfworker.Endpoint.
func (e *endpoint) Token() string { return e.token }

// Page implements udfworker.Endpoint.
func (e *endpoint) Page() string { return e.page.path }

// Ready implements udfworker.Endpoint.
func (e *endpoint) Ready() <-chan struct{} { return e.hello }

// Close implements udfworker.Endpoint. It waits until nothing comes any more.
func (e *endpoint) Close() {
	e.closing.Do(func() {
		e.lane.close()
		e.lose()
		e.page.close()
		_ = os.RemoveAll(e.dir)
	})
}

// heardHello is called when the worker is there.
func (e *endpoint) heardHello() { e.helloOnce.Do(func() { close(e.hello) }) }

// heardResponse is called with each answer of the worker's; ctx ends with the
// lane.
func (e *endpoint) heardResponse(ctx context.Context, r *fnpb.InstructionResponse) {
	e.awaitLog(ctx, r.GetProcessBundle().GetMonitoringData()[loggedKey])
	e.toReceiver(func(to receiver) { to.response(r) })
}

// heardData is called with each piece of data, and takes it over.
func (e *endpoint) heardData(d data) {
	e.deliver.RLock()
	defer e.deliver.RUnlock()
	if e.receiver == nil {
		d.release()
		return
	}
	e.receiver.data(d)
}

// heardLog is called with each list of log entries.
func (e *endpoint) heardLog(list *fnpb.LogEntry_List) {
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

// descriptor is what a worker may ask for; nil where there is none.
func (e *endpoint) descriptor(id string) *fnpb.ProcessBundleDescriptor {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.descriptors[id]
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
