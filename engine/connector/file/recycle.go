package file

import (
	"math/bits"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Bounds of a recycler.
const (
	// recycledBytesMin is what is worth keeping. Smaller memory, that of nearly
	// all bitmaps among it, is cleared by whoever makes it.
	recycledBytesMin = 64 << 10
	// recycledBytesMax is what one keeps at most.
	recycledBytesMax = 16 << 20
)

// recycler is an allocator that gives released memory out again, as it was
// left: clearing it, and collecting it as garbage, would cost a fast reader a
// third of its time. Each reader has one of its own, so that what lies under a
// NULL comes from columns that the same job reads of the same files.
//
// It may be used by several goroutines. Memory may be released after close.
type recycler struct {
	of memory.Allocator

	mu     sync.Mutex
	kept   map[int][][]byte // by size, one of recycledSize
	bytes  int              // that are kept
	closed bool
}

func newRecycler(of memory.Allocator) *recycler {
	return &recycler{of: of, kept: map[int][][]byte{}}
}

// scrawl is set by tests: what is kept is overwritten, so that whoever relies on
// cleared memory, or goes on using it, gets wrong values.
var scrawl bool

// recycledSize is the size in which memory for so many bytes is made: one of
// few, so that it fits again, and at most an eighth more. Pages are a little
// larger than the power of two that their writer has been told.
func recycledSize(size int) int {
	if size < recycledBytesMin {
		return size
	}
	step := 1 << (bits.Len(uint(size-1)) - 4)
	return (size + step - 1) / step * step
}

// Allocate implements memory.Allocator.
func (r *recycler) Allocate(size int) []byte {
	whole := recycledSize(size)
	if whole >= recycledBytesMin {
		if b := r.take(whole); b != nil {
			return b[:size]
		}
	}
	return r.of.Allocate(whole)[:size]
}

func (r *recycler) take(whole int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.kept[whole]
	if len(kept) == 0 {
		return nil
	}
	b := kept[len(kept)-1] // the last one is still at hand
	kept[len(kept)-1] = nil
	r.kept[whole] = kept[:len(kept)-1]
	r.bytes -= whole
	return b
}

// Reallocate implements memory.Allocator.
func (r *recycler) Reallocate(size int, b []byte) []byte {
	if cap(b) >= size && cap(b) > 0 {
		return b[:size]
	}
	moved := r.Allocate(size)
	copy(moved, b)
	r.Free(b)
	return moved
}

// Free implements memory.Allocator.
func (r *recycler) Free(b []byte) {
	whole := b[:cap(b)]
	if !r.keep(whole) {
		r.of.Free(whole)
	}
}

func (r *recycler) keep(whole []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(whole) < recycledBytesMin || r.bytes+len(whole) > recycledBytesMax {
		return false
	}
	if scrawl {
		for i := range whole {
			whole[i] = 0xA5
		}
	}
	r.kept[len(whole)] = append(r.kept[len(whole)], whole)
	r.bytes += len(whole)
	return true
}

// close gives up what is kept, and what is released later.
func (r *recycler) close() {
	r.mu.Lock()
	kept := r.kept
	r.kept, r.bytes, r.closed = nil, 0, true
	r.mu.Unlock()
	for _, same := range kept {
		for _, b := range same {
			r.of.Free(b)
		}
	}
}
