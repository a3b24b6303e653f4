package exec

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestNulls(t *testing.T) {
	null := arrow.Field{Name: "a", Type: arrow.Null, Nullable: true}
	for _, typ := range []arrow.DataType{
		arrow.Null, arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String, arrow.StructOf(null), arrow.ListOf(arrow.Null),
		arrow.MapOf(arrow.BinaryTypes.String, arrow.Null), arrow.FixedSizeListOf(2, arrow.StructOf(null)),
		&arrow.Decimal128Type{Precision: 38, Scale: 2}, arrow.FixedWidthTypes.MonthDayNanoInterval,
	} {
		allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
		for _, n := range []int{0, 1, 100} {
			a := Nulls(allocator, typ, n)
			if a.Len() != n || !arrow.TypeEqual(a.DataType(), typ) {
				t.Errorf("%s: %d of %s", typ, a.Len(), a.DataType())
			}
			for i := range n {
				if typ != arrow.Null && !a.IsNull(i) {
					t.Errorf("%s: value %d is not NULL", typ, i)
				}
			}
			a.Release()
		}
		allocator.AssertSize(t, 0)
	}
}
