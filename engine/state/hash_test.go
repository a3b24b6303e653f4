package state

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// allocator fails the test if Arrow memory is left at its end.
func allocator(t *testing.T) memory.Allocator {
	t.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { checked.AssertSize(t, 0) })
	return checked
}

// fromJSON makes an array that lives as long as the test.
func fromJSON(t *testing.T, alloc memory.Allocator, typ arrow.DataType, json string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(alloc, typ, strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Release)
	return a
}

func hashes(t *testing.T, columns ...arrow.Array) []uint64 {
	t.Helper()
	out := make([]uint64, columns[0].Len())
	if err := Hash(columns, out); err != nil {
		t.Fatal(err)
	}
	return out
}

var keyTypes = []struct {
	typ  arrow.DataType
	json string // a, NULL, b, a, NULL
}{
	{arrow.FixedWidthTypes.Boolean, `[true,null,false,true,null]`},
	{arrow.PrimitiveTypes.Int8, `[1,null,-1,1,null]`},
	{arrow.PrimitiveTypes.Int16, `[1,null,-1,1,null]`},
	{arrow.PrimitiveTypes.Int32, `[1,null,-1,1,null]`},
	{arrow.PrimitiveTypes.Int64, `[1,null,-1,1,null]`},
	{arrow.PrimitiveTypes.Uint8, `[1,null,255,1,null]`},
	{arrow.PrimitiveTypes.Uint16, `[1,null,2,1,null]`},
	{arrow.PrimitiveTypes.Uint32, `[1,null,2,1,null]`},
	{arrow.PrimitiveTypes.Uint64, `[1,null,18446744073709551615,1,null]`},
	{arrow.PrimitiveTypes.Float32, `[1.5,null,-2,1.5,null]`},
	{arrow.PrimitiveTypes.Float64, `[1.5,null,-2,1.5,null]`},
	{arrow.BinaryTypes.String, `["x",null,"",  "x",null]`},
	{arrow.BinaryTypes.LargeString, `["ü",null,"y","ü",null]`},
	{arrow.BinaryTypes.Binary, `["eA==",null,"eQ==","eA==",null]`},
	{arrow.BinaryTypes.LargeBinary, `["eA==",null,"eQ==","eA==",null]`},
	{&arrow.FixedSizeBinaryType{ByteWidth: 1}, `["eA==",null,"eQ==","eA==",null]`},
	{arrow.FixedWidthTypes.Date32, `["2024-01-01",null,"1960-01-01","2024-01-01",null]`},
	{arrow.FixedWidthTypes.Date64, `["2024-01-01",null,"1960-01-01","2024-01-01",null]`},
	{arrow.FixedWidthTypes.Time32s, `["01:02:03",null,"00:00:00","01:02:03",null]`},
	{arrow.FixedWidthTypes.Time64us, `["01:02:03",null,"00:00:00","01:02:03",null]`},
	{arrow.FixedWidthTypes.Timestamp_us, `[17,null,-5,17,null]`},
	{arrow.FixedWidthTypes.Duration_s, `[1,null,2,1,null]`},
	{&arrow.Decimal128Type{Precision: 38, Scale: 2}, `["1.50",null,"-99999999999999999999999999999999999.25","1.50",null]`},
}

func TestEqualKeysHaveEqualHashes(t *testing.T) {
	for _, c := range keyTypes {
		a := fromJSON(t, allocator(t), c.typ, c.json)
		if !Keyable(c.typ) {
			t.Errorf("%s is not keyable", c.typ)
		}
		h := hashes(t, a)
		if h[0] != h[3] || h[1] != h[4] || h[0] == h[1] || h[0] == h[2] || h[1] == h[2] {
			t.Errorf("%s: hashes %x", c.typ, h)
		}
		part := array.NewSlice(a, 1, 4)
		if got := hashes(t, part); !slices.Equal(got, h[1:4]) {
			t.Errorf("%s: a slice has other hashes", c.typ)
		}
		part.Release()
	}
	if list := arrow.ListOf(arrow.PrimitiveTypes.Int8); Keyable(list) {
		t.Error("lists are keyable")
	} else if err := Hash([]arrow.Array{fromJSON(t, allocator(t), list, `[[1]]`)}, make([]uint64, 1)); err == nil {
		t.Error("a list has a hash")
	}
}

func TestNumbersThatAreEqualHaveOneHash(t *testing.T) {
	b := array.NewFloat64Builder(allocator(t))
	defer b.Release()
	otherNaN := math.Float64frombits(math.Float64bits(math.NaN()) ^ 1<<63 ^ 2)
	b.AppendValues([]float64{0, math.Copysign(0, -1), math.NaN(), otherNaN, math.Inf(1), math.Inf(-1)}, nil)
	a := b.NewArray()
	defer a.Release()
	h := hashes(t, a)
	if h[0] != h[1] || h[2] != h[3] || h[4] == h[5] || h[0] == h[2] {
		t.Errorf("hashes %x", h)
	}
}

func TestOrderOfColumnsCounts(t *testing.T) {
	alloc := allocator(t)
	a := fromJSON(t, alloc, arrow.PrimitiveTypes.Int64, `[1,null]`)
	b := fromJSON(t, alloc, arrow.PrimitiveTypes.Int64, `[2,3]`)
	if x, y := hashes(t, a, b), hashes(t, b, a); x[0] == y[0] || x[1] == y[1] {
		t.Error("(a, b) and (b, a) have one hash")
	}
}

// TestHashesStayTheSame holds what checkpoints rely on.
func TestHashesStayTheSame(t *testing.T) {
	alloc := allocator(t)
	got := hashes(t,
		fromJSON(t, alloc, arrow.PrimitiveTypes.Int64, `[42,null]`),
		fromJSON(t, alloc, arrow.BinaryTypes.String, `["a key",""]`))
	if want := []uint64{0xbc31b0b2d8566e28, 0xfe3286ae155b90fa}; !slices.Equal(got, want) {
		t.Errorf("got %#x, want %#x", got, want)
	}
}

func TestSubtasksShareKeysFairly(t *testing.T) {
	b := array.NewInt64Builder(allocator(t))
	defer b.Release()
	const keys = 100_000
	for i := range int64(keys) {
		b.Append(i * 1000)
	}
	a := b.NewArray()
	defer a.Release()
	counts := make([]int, 7)
	for _, h := range hashes(t, a) {
		counts[Subtask(h, len(counts))]++
	}
	for i, n := range counts {
		if n < keys/len(counts)*9/10 || n > keys/len(counts)*11/10 {
			t.Errorf("subtask %d has %d of %d keys", i, n, keys)
		}
	}
}
