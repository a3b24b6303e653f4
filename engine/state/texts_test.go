package state

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestShortTexts numbers texts of all lengths around those that are compared as
// words, which differ in one byte or in zeros at their end, in parts of a
// column and in whole ones, as a map would.
func TestShortTexts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []string
	for size := range shortMax + 4 {
		zeros := strings.Repeat("\x00", size)
		all = append(all, zeros)
		for at := range size {
			all = append(all, zeros[:at]+"\xff"+zeros[at+1:])
		}
	}
	for range 500 {
		all = append(all, strings.Repeat("k", random.IntN(shortMax))+string(rune('a'+random.IntN(26))))
	}
	keys, want := NewKeys([]arrow.DataType{arrow.BinaryTypes.String}), map[string]uint32{}
	var texts []string
	for round := range 40 {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		var values []string
		for range 300 {
			value := all[random.IntN(1+len(all)*(round+1)/40)%len(all)]
			values = append(values, value)
			b.Append(value)
		}
		if round%10 == 9 { // keys with NULL go another way to the same table
			b.AppendNull()
		}
		column := b.NewArray()
		begin := random.IntN(300)
		part := array.NewSlice(column, int64(begin), int64(column.Len()))
		out := make([]uint32, part.Len())
		if err := keys.Find([]arrow.Array{part}, out); err != nil {
			t.Fatal(err)
		}
		for i, key := range out {
			value := "NULL"
			if begin+i < len(values) {
				value = values[begin+i]
			}
			if _, ok := want[value]; !ok {
				want[value] = uint32(len(want))
				texts = append(texts, value)
			}
			if key != want[value] {
				t.Fatalf("round %d: %q is %d, not %d", round, value, key, want[value])
			}
		}
	}
	got := keys.Columns(memory.DefaultAllocator)[0].(*array.String)
	for i, text := range texts {
		if text != "NULL" && got.Value(i) != text {
			t.Errorf("key %d is %q, not %q", i, got.Value(i), text)
		}
	}
	if got.Len() != len(texts) || len(texts) < 400 || slices.Index(texts, "NULL") < 0 {
		t.Errorf("%d keys of %d", got.Len(), len(texts))
	}
	if err := keys.Find([]arrow.Array{array.NewSlice(got, 0, 0)}, nil); err != nil {
		t.Error(err)
	}
}
