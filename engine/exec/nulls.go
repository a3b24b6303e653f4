package exec

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Nulls makes an array of NULLs. Arrow's own function panics where a nested
// type holds the type null, as that of a struct with a field of NULLs alone.
func Nulls(allocator memory.Allocator, t arrow.DataType, n int) arrow.Array {
	b := array.NewBuilder(allocator, t)
	defer b.Release()
	b.AppendNulls(n)
	return b.NewArray()
}
