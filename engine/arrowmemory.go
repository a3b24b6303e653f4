package engine

import (
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowMemory counts the bytes of Arrow buffers that this process has
// allocated and not released. Every room allocates with
// memory.DefaultAllocator, Arrow's own readers and Flight included; buffers
// that DuckDB made are its own and not counted.
var arrowMemory = &countingAllocator{of: memory.DefaultAllocator}

// init comes before anything allocates: a buffer is released to the allocator
// that it was made with.
func init() { memory.DefaultAllocator = arrowMemory }

type countingAllocator struct {
	of    memory.Allocator
	bytes atomic.Int64
}

// Allocate implements memory.Allocator.
func (a *countingAllocator) Allocate(size int) []byte {
	a.bytes.Add(int64(size))
	return a.of.Allocate(size)
}

// Reallocate implements memory.Allocator.
func (a *countingAllocator) Reallocate(size int, b []byte) []byte {
	a.bytes.Add(int64(size - len(b)))
	return a.of.Reallocate(size, b)
}

// Free implements memory.Allocator.
func (a *countingAllocator) Free(b []byte) {
	a.bytes.Add(-int64(len(b)))
	a.of.Free(b)
}
