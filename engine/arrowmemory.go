package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowMemory counts the bytes of Arrow buffers of this process that live:
// that were allocated, and neither released nor collected as garbage. Every
// room allocates with memory.DefaultAllocator, Arrow's own readers and Flight
// included; buffers that DuckDB made are its own and not counted.
//
// Garbage counts because Arrow's Parquet writer takes the buffers of its
// encoders from a sync.Pool, which forgets them without a release.
var arrowMemory = &countingAllocator{of: memory.DefaultAllocator}

// init comes before anything allocates: a buffer is released to the allocator
// that it was made with.
func init() { memory.DefaultAllocator = arrowMemory }

type countingAllocator struct {
	of    memory.Allocator
	bytes atomic.Int64
	// living are the allocations, by the address of their first byte.
	living sync.Map // uintptr to *allocation
}

type allocation struct {
	size    int64
	cleanup runtime.Cleanup
}

// live is the number of bytes that live, without garbage.
func (a *countingAllocator) live() int64 {
	runtime.GC() // what is in a pool lives for two more collections
	runtime.GC()
	return a.bytes.Load()
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func (a *countingAllocator) add(b []byte) []byte {
	if cap(b) == 0 {
		return b
	}
	first, at := unsafe.SliceData(b), address(b)
	one := &allocation{size: int64(len(b))}
	one.cleanup = runtime.AddCleanup(first, func(one *allocation) {
		a.bytes.Add(-one.size)
		a.living.CompareAndDelete(at, one) // the address may have a new owner
	}, one)
	a.bytes.Add(one.size)
	a.living.Store(at, one)
	return b
}

func (a *countingAllocator) remove(b []byte) {
	if cap(b) == 0 {
		return
	}
	if one, ok := a.living.LoadAndDelete(address(b)); ok {
		one := one.(*allocation)
		one.cleanup.Stop()
		a.bytes.Add(-one.size)
	}
	runtime.KeepAlive(b) // its cleanup must not run between the two
}

// Allocate implements memory.Allocator.
func (a *countingAllocator) Allocate(size int) []byte { return a.add(a.of.Allocate(size)) }

// Reallocate implements memory.Allocator.
func (a *countingAllocator) Reallocate(size int, b []byte) []byte {
	a.remove(b)
	return a.add(a.of.Reallocate(size, b))
}

// Free implements memory.Allocator.
func (a *countingAllocator) Free(b []byte) {
	a.remove(b)
	a.of.Free(b)
}
