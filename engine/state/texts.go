package state

import (
	"encoding/binary"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// shortMax is how many bytes a text may have to be compared as two words.
const shortMax = 16

// shortTexts finds the numbers of texts of up to shortMax bytes: two loads and
// a product for each row stand in the place of a hash of any length and a
// comparison of bytes. Its table is open addressing with linear probing, at
// most half full.
type shortTexts struct {
	slots []shortSlot
	used  int
}

// shortSlot is a text in two words, zeros behind its end, and the number of its
// key. size is one more than its length; 0 is free.
type shortSlot struct {
	low, high uint64
	size, key uint32
}

// short gives the text at data[begin:end], of at most shortMax bytes, as words.
func short(data []byte, begin, end int) (low, high uint64) {
	var text []byte
	if begin+shortMax <= len(data) {
		text = data[begin : begin+shortMax : begin+shortMax]
	} else {
		var copied [shortMax]byte
		copy(copied[:], data[begin:end])
		text = copied[:]
	}
	low, high = binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[8:])
	// A shift by 64 leaves no bit, so that of whole words all are kept.
	bits := 8 * uint(end-begin)
	if bits <= 64 {
		return low & (1<<bits - 1), 0
	}
	return low, high & (1<<(bits-64) - 1)
}

// slot is the slot of a text, or the free one where it belongs.
func (s *shortTexts) slot(low, high uint64, size uint32) *shortSlot {
	mask := uint64(len(s.slots) - 1)
	hi, lo := bits.Mul64(low^hashSeed, high^hashMix^uint64(size))
	for at := (hi ^ lo) & mask; ; at = (at + 1) & mask {
		slot := &s.slots[at]
		if slot.low == low && slot.high == high && slot.size == size || slot.size == 0 {
			return slot
		}
	}
}

// add notes a text that has no slot yet.
func (s *shortTexts) add(added shortSlot) {
	if s.used++; 2*s.used > len(s.slots) {
		before := s.slots
		s.slots = make([]shortSlot, max(slotsMin, 2*len(before)))
		for _, old := range before {
			if old.size > 0 {
				*s.slot(old.low, old.high, old.size) = old
			}
		}
	}
	*s.slot(added.low, added.high, added.size) = added
}

// findTexts is Find for a single column of texts without NULL.
func (k *Keys) findTexts(column *array.String, out []uint32) {
	if len(out) == 0 {
		return
	}
	if k.short.slots == nil {
		k.short.slots = make([]shortSlot, slotsMin)
	}
	var data []byte
	if buffer := column.Data().Buffers()[2]; buffer != nil {
		data = buffer.Bytes()
	}
	ends := column.ValueOffsets()
	for row := range out {
		begin, end := int(ends[row]), int(ends[row+1])
		if end-begin > shortMax {
			out[row] = k.findText(column, row)
			continue
		}
		low, high := short(data, begin, end)
		size := uint32(end-begin) + 1
		slot := k.short.slot(low, high, size)
		if slot.size == 0 {
			key := k.findText(column, row)
			k.short.add(shortSlot{low, high, size, key})
			out[row] = key
			continue
		}
		out[row] = slot.key
	}
}

// findText looks one text up among all keys.
func (k *Keys) findText(column *array.String, row int) uint32 {
	return k.groups.findRow(textHash(column.Value(row)), row)
}
