package file

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// held counts the bytes that are allocated and not released. Encoders of
// Parquet are left out: the library forgets their buffers (see
// TestReadersReleaseTheirMemory).
type held struct {
	memory.Allocator
	bytes atomic.Int64
}

func (h *held) Allocate(size int) []byte {
	h.bytes.Add(int64(size))
	return h.Allocator.Allocate(size)
}

func (h *held) Reallocate(size int, b []byte) []byte {
	h.bytes.Add(int64(size - len(b)))
	return h.Allocator.Reallocate(size, b)
}

func (h *held) Free(b []byte) {
	h.bytes.Add(-int64(len(b)))
	h.Allocator.Free(b)
}

var heap = &held{Allocator: memory.NewGoAllocator()}

func TestMain(m *testing.M) {
	memory.DefaultAllocator = heap
	scrawl = true
	code := m.Run()
	if code != 0 {
		fmt.Println("bytes of Arrow buffers that are held:", heap.bytes.Load())
	}
	os.Exit(code)
}

// releases runs f and fails if it keeps Arrow memory.
func releases(t *testing.T, f func()) {
	t.Helper()
	before := heap.bytes.Load()
	f()
	if kept := heap.bytes.Load() - before; kept != 0 {
		t.Errorf("%d bytes of Arrow buffers were not released", kept)
	}
}
