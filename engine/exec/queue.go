package exec

import (
	"context"
	"errors"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"
)

// ErrStopped is what a producer gets when nobody downstream wants more, for
// example below a limit: from the next thing it emits, and as the cause with
// which its context ends when all that it writes to are closed. It is not a
// failure: an operator returns it and its subtask ends well.
var ErrStopped = errors.New("nobody downstream wants more")

// elementBytesMin is what an element counts for in a queue at least, so that
// the number of empty batches and marks is bounded too.
const elementBytesMin = 256

// size is what e counts for in bytes-bounded places.
func (e Element) size() int64 {
	if e.Batch == nil {
		return elementBytesMin
	}
	return max(elementBytesMin, BatchBytes(e.Batch))
}

// BatchBytes is the memory that a batch refers to. Slices count for the whole
// of what they keep alive.
func BatchBytes(batch arrow.RecordBatch) int64 { return util.TotalRecordSize(batch) }

// Queue is the bounded way from one subtask to the next: one producer, one
// consumer. A full queue is the back-pressure.
type Queue struct {
	bytesLimit int64

	mu       sync.Mutex
	elements []Element
	bytes    int64
	closed   bool
	onClose  func()

	// Each holds a token when the state may have changed for the side that
	// waits on it.
	readable chan struct{}
	writable chan struct{}
}

// NewQueue makes a queue of bytesLimit bytes. A single element larger than
// that passes when the queue is empty.
func NewQueue(bytesLimit int64) *Queue {
	return &Queue{bytesLimit: bytesLimit, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// Put appends e, which it takes over whatever the result, and waits while the
// queue is full. It returns ErrStopped once the consumer has closed the queue.
func (q *Queue) Put(ctx context.Context, e Element) error {
	size := e.size()
	for {
		added, err := q.tryPut(e, size)
		if added {
			return nil
		}
		if err == nil {
			select {
			case <-q.writable:
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		e.Release()
		return err
	}
}

func (q *Queue) tryPut(e Element, size int64) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, ErrStopped
	}
	if len(q.elements) > 0 && q.bytes+size > q.bytesLimit {
		return false, nil
	}
	q.elements = append(q.elements, e)
	q.bytes += size
	signal(q.readable)
	return true, nil
}

// Get removes the first element, whose ownership passes to the caller, and
// waits while the queue is empty. It returns ErrStopped once the queue is
// closed.
func (q *Queue) Get(ctx context.Context) (Element, error) {
	for {
		e, ok, err := q.tryGet()
		if ok || err != nil {
			return e, err
		}
		select {
		case <-q.readable:
		case <-ctx.Done():
			return Element{}, context.Cause(ctx)
		}
	}
}

func (q *Queue) tryGet() (Element, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return Element{}, false, ErrStopped
	}
	if len(q.elements) == 0 {
		return Element{}, false, nil
	}
	e := q.elements[0]
	q.elements[0] = Element{}
	q.elements = q.elements[1:]
	q.bytes -= e.size()
	signal(q.writable)
	return e, true, nil
}

// Close tells the producer that nothing more is wanted and releases what is
// in the queue. It may be called more than once and from any goroutine.
func (q *Queue) Close() {
	q.mu.Lock()
	dropped, tell := q.elements, q.onClose
	q.elements, q.bytes, q.closed, q.onClose = nil, 0, true, nil
	q.mu.Unlock()
	for _, e := range dropped {
		e.Release()
	}
	signal(q.writable)
	signal(q.readable)
	if tell != nil {
		tell()
	}
}

// OnClose has f called once when the queue is closed, at once if it is: a
// producer that is busy learns of it before its next Put. There is one such
// function; it must not block.
func (q *Queue) OnClose(f func()) {
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.onClose = f
	}
	q.mu.Unlock()
	if closed {
		f()
	}
}

// queued is the number of bytes that wait in the queue.
func (q *Queue) queued() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
