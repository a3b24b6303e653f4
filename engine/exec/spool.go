package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/alink-runtime/alink/diag"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// segmentBytesMax is the size at which a spool begins a new file, so that what
// every reader has passed can be given back to the disk.
const segmentBytesMax = 64 << 20

// SpoolOptions are a spool's limits.
type SpoolOptions struct {
	// MemoryBytes is what is kept in memory; the rest goes to files in Dir.
	MemoryBytes int64
	// Memory, if it is set, stands in the place of MemoryBytes: what several
	// spools keep together.
	Memory *Allowance
	// Total, if it is set, bounds what several spools that keep everything hold
	// in memory and in files: a batch beyond it is refused.
	Total *Allowance
	Dir   string
	// Readers is the number of readers. An element is dropped when all of them
	// have passed it. 0 keeps everything, for any number of readers made by
	// Open.
	Readers int
	// Allocator is for what is read back from files; nil means Arrow's default.
	Allocator memory.Allocator
}

// ErrFull is returned by Put where the spool's Total has no room.
var ErrFull = errors.New("there is no room for more")

// Spool holds a sequence of elements for readers that go at their own pace, in
// memory up to a limit and then in unlinked files, so that a writer never
// waits for a reader and nothing is left behind when the process is killed.
// One goroutine writes, one goroutine uses each reader.
type Spool struct {
	schema  *arrow.Schema
	options SpoolOptions

	mu      sync.Mutex
	entries []spoolEntry
	base    int // the index of entries[0] in the sequence
	memory  int64
	charged int64 // of the options' Total
	readers []*spoolReader
	last    *segment
	closed  bool
	// stopped is called once when the last of options.Readers is closed.
	stopped func()
}

// spoolEntry is an element in memory, or the place of a batch in a file.
type spoolEntry struct {
	element Element
	size    int64 // what it counts for in memory; 0 in a file
	segment *segment
	offset  int64
	length  int64
}

// segment is an unlinked file; entries counts those that are still wanted.
type segment struct {
	file    *os.File
	size    int64
	entries int
}

// NewSpool makes an empty spool for batches of a schema.
func NewSpool(schema *arrow.Schema, options SpoolOptions) (*Spool, error) {
	if schema == nil {
		return nil, errors.New("a spool needs the schema of its batches")
	}
	if options.Allocator == nil {
		options.Allocator = memory.DefaultAllocator
	}
	s := &Spool{schema: schema, options: options}
	for range options.Readers {
		s.readers = append(s.readers, &spoolReader{spool: s, readable: make(chan struct{}, 1)})
	}
	return s, nil
}

// Schema is the schema of the spool's batches.
func (s *Spool) Schema() *arrow.Schema { return s.schema }

// Put appends e, which it takes over whatever the result. It never waits for a
// reader. It returns ErrStopped when every reader has been closed.
func (s *Spool) Put(_ context.Context, e Element) error {
	size := e.size()
	s.mu.Lock()
	stopped := s.closed || s.options.Readers > 0 && s.openReaders() == 0
	full := !stopped && e.Kind == KindBatch && !s.charge(size)
	inMemory := e.Kind != KindBatch || !stopped && !full && s.fits(size)
	s.mu.Unlock()
	if stopped {
		e.Release()
		return ErrStopped
	}
	if full {
		e.Release()
		return ErrFull
	}
	entry := spoolEntry{element: e, size: size}
	if !inMemory {
		var err error
		entry, err = s.write(e.Batch)
		e.Release()
		if err != nil {
			return diag.New(diag.OutputUnwritable, "intermediate data could not be written to the spill directory").
				WithCause(err).WithHint("free space on the disk, or name another folder with al.connect(spill_dir=...)")
		}
	}
	s.append(entry)
	return nil
}

// charge counts a batch against what several spools hold together, and reports
// whether there is room for it; mu is held.
func (s *Spool) charge(size int64) bool {
	if s.options.Total == nil {
		return true
	}
	if !s.options.Total.take(size) {
		return false
	}
	s.charged += size
	return true
}

// fits reports whether a batch may stay in memory, for which the allowance has
// then been charged; mu is held.
func (s *Spool) fits(size int64) bool {
	if s.options.Memory != nil {
		return s.options.Memory.take(size)
	}
	return s.memory+size <= s.options.MemoryBytes
}

func (s *Spool) put(ctx context.Context, e Element) error { return s.Put(ctx, e) }

func (s *Spool) onStop(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = f
}

func (s *Spool) append(entry spoolEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, entry)
	s.memory += entry.size
	if entry.segment != nil {
		entry.segment.entries++
	}
	for _, r := range s.readers {
		signal(r.readable)
	}
	s.trim()
}

// write appends a batch to the last segment. Only the writer calls it.
func (s *Spool) write(batch arrow.RecordBatch) (spoolEntry, error) {
	if s.last == nil || s.last.size >= segmentBytesMax {
		file, err := os.CreateTemp(s.options.Dir, "spool-*")
		if err != nil {
			return spoolEntry{}, err
		}
		if err := os.Remove(file.Name()); err != nil {
			return spoolEntry{}, errors.Join(err, file.Close())
		}
		s.startSegment(file)
	}
	seg := s.last
	target := io.NewOffsetWriter(seg.file, seg.size)
	w := ipc.NewWriter(target, ipc.WithSchema(s.schema), ipc.WithAllocator(s.options.Allocator))
	if err := errors.Join(w.Write(batch), w.Close()); err != nil {
		return spoolEntry{}, err
	}
	end, err := target.Seek(0, io.SeekCurrent)
	if err != nil {
		return spoolEntry{}, err
	}
	entry := spoolEntry{segment: seg, offset: seg.size, length: end}
	s.mu.Lock()
	seg.size += end
	s.mu.Unlock()
	return entry, nil
}

// startSegment makes file the one that is written to.
func (s *Spool) startSegment(file *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && s.last.entries == 0 {
		_ = s.last.file.Close() // every reader has passed all of it
	}
	s.last = &segment{file: file}
}

// openReaders counts the readers that still want something; mu is held.
func (s *Spool) openReaders() int {
	n := 0
	for _, r := range s.readers {
		if !r.closed {
			n++
		}
	}
	return n
}

// trim drops what every open reader has passed; mu is held.
func (s *Spool) trim() {
	if s.options.Readers == 0 && !s.closed {
		return
	}
	first := s.base + len(s.entries)
	for _, r := range s.readers {
		if !r.closed && !s.closed {
			first = min(first, r.position)
		}
	}
	for s.base < first {
		entry := s.entries[0]
		s.entries[0] = spoolEntry{}
		s.entries = s.entries[1:]
		s.base++
		s.memory -= entry.size
		if s.options.Memory != nil && entry.element.Kind == KindBatch && entry.segment == nil {
			s.options.Memory.give(entry.size)
		}
		if entry.segment == nil {
			entry.element.Release()
			continue
		}
		entry.segment.entries--
		if entry.segment.entries == 0 && entry.segment != s.last {
			_ = entry.segment.file.Close() // an unlinked file that was only read since
		}
	}
}

// Close drops everything. No reader may be in use any more.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.trim()
	if s.options.Total != nil {
		s.options.Total.give(s.charged)
	}
	if s.last != nil {
		_ = s.last.file.Close() // unlinked: its content is of no more use
	}
}

// Open gives a reader from the beginning, for a spool that keeps everything.
// It reads up to the end element, and waits for what has not been written yet.
func (s *Spool) Open(context.Context) (BatchReader, error) {
	if s.options.Readers > 0 {
		return nil, errors.New("the spool drops what its readers have passed")
	}
	r := &spoolReader{spool: s, readable: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the spool is closed")
	}
	s.readers = append(s.readers, r)
	return (&Input{port: r, stats: &Stats{}}).Batches(), nil
}

func (s *Spool) reader(i int) port { return s.readers[i] }

// spoolReader is a place in a spool.
type spoolReader struct {
	spool    *Spool
	readable chan struct{}
	// position and closed are guarded by the spool's mu.
	position int
	closed   bool
}

func (r *spoolReader) get(ctx context.Context) (Element, error) {
	for {
		e, ok, err := r.tryGet()
		if ok || err != nil {
			return e, err
		}
		select {
		case <-r.readable:
		case <-ctx.Done():
			return Element{}, context.Cause(ctx)
		}
	}
}

func (r *spoolReader) tryGet() (Element, bool, error) {
	s := r.spool
	s.mu.Lock()
	if r.closed || r.position >= s.base+len(s.entries) {
		s.mu.Unlock()
		return Element{}, false, nil
	}
	entry := s.entries[r.position-s.base]
	if entry.segment == nil {
		defer s.mu.Unlock()
		e := entry.element
		if e.Batch != nil {
			e.Batch.Retain()
		}
		r.advance()
		return e, true, nil
	}
	// The file stays open while this reader has not passed the entry.
	s.mu.Unlock()
	batch, err := entry.load(s.options.Allocator)
	if err != nil {
		return Element{}, false, fmt.Errorf("read back intermediate data: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.advance()
	return BatchElement(batch), true, nil
}

func (r *spoolReader) advance() {
	r.position++
	r.spool.trim()
}

func (r *spoolReader) close() {
	s := r.spool
	var tell func()
	defer func() {
		if tell != nil {
			tell()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	s.trim()
	if s.options.Readers > 0 {
		if s.openReaders() == 0 {
			tell, s.stopped = s.stopped, nil
		}
		return
	}
	for i, other := range s.readers {
		if other == r {
			s.readers = append(s.readers[:i], s.readers[i+1:]...)
			return
		}
	}
}

// load reads a batch back; the caller releases it.
func (e spoolEntry) load(allocator memory.Allocator) (arrow.RecordBatch, error) {
	reader, err := ipc.NewReader(io.NewSectionReader(e.segment.file, e.offset, e.length), ipc.WithAllocator(allocator))
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	if !reader.Next() {
		return nil, errors.Join(io.ErrUnexpectedEOF, reader.Err())
	}
	batch := reader.RecordBatch()
	batch.Retain()
	return batch, nil
}
