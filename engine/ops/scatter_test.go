package ops

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestScatter brings rows of each width, with NULLs and without, to random
// places, from parts of columns.
func TestScatter(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, kind := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Int64,
		arrow.FixedWidthTypes.Timestamp_us, &arrow.Decimal128Type{Precision: 20}, arrow.FixedWidthTypes.MonthDayNanoInterval,
		&arrow.FixedSizeBinaryType{ByteWidth: 4},
	} {
		for _, nulls := range []bool{false, true} {
			alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
			var parts []arrow.Array
			var texts []string
			for part := range 4 {
				b := array.NewBuilder(alloc, kind)
				for i := range 1 + 30*part {
					if nulls && part != 1 && random.IntN(3) == 0 {
						b.AppendNull()
					} else if err := b.AppendValueFromString(exampleOf(kind, part*i)); err != nil {
						b.AppendEmptyValue()
					}
				}
				whole := b.NewArray()
				b.Release()
				parts = append(parts, array.NewSlice(whole, int64(part/2), int64(whole.Len())))
				whole.Release()
				for i := range parts[part].Len() {
					texts = append(texts, parts[part].ValueStr(i))
				}
			}
			s := scatter{shift: 5, allocator: alloc}
			for _, place := range random.Perm(len(texts)) {
				s.places = append(s.places, uint32(place))
			}
			pieces := s.column(parts, scatterWidth(kind))
			for row, place := range s.places {
				piece := pieces[place>>5]
				if got := piece.ValueStr(int(place & 31)); got != texts[row] || !arrow.TypeEqual(piece.DataType(), kind) {
					t.Fatalf("%s: row %d is %s at its place, not %s", kind, row, got, texts[row])
				}
			}
			for row, at := range s.rows() {
				if s.places[at] != uint32(row) {
					t.Fatalf("%d stands at %d", at, row)
				}
			}
			for _, columns := range [][]arrow.Array{parts, pieces} {
				for _, column := range columns {
					column.Release()
				}
			}
			alloc.AssertSize(t, 0)
		}
	}
	for _, kind := range []arrow.DataType{
		arrow.BinaryTypes.String, arrow.FixedWidthTypes.Boolean, arrow.ListOf(arrow.PrimitiveTypes.Int8), arrow.Null,
		arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8), arrow.StructOf(), &arrow.FixedSizeBinaryType{ByteWidth: 3},
	} {
		if width := scatterWidth(kind); width != 0 {
			t.Errorf("%s has the width %d", kind, width)
		}
	}
}

// exampleOf is a value of a type, as text.
func exampleOf(kind arrow.DataType, i int) string {
	switch kind.ID() {
	case arrow.TIMESTAMP:
		return fmt.Sprintf("2020-01-01 00:00:%02d", i%60)
	case arrow.FIXED_SIZE_BINARY:
		return "AAEC" + string(rune('A'+i%26)) + "w=="
	case arrow.INTERVAL_MONTH_DAY_NANO:
		return fmt.Sprintf(`{"months": %d, "days": 2, "nanoseconds": 3}`, i%100)
	}
	return fmt.Sprint(i % 100)
}
