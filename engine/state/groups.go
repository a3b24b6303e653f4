package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// slotsMin is the size of a new table: most windows of a sparse stream hold
// few keys.
const slotsMin = 8

// groups numbers distinct keys from 0 on, in the order in which they come.
// Its table is open addressing with linear probing, at most half full; keys
// are kept in columns.
type groups struct {
	columns []keyColumn
	hashes  []uint64 // of each group
	slots   []uint32 // group + 1; 0 is free
}

// bound is a column of the batch that is being worked on, for all windows.
type bound struct {
	column arrow.Array
	nulls  int
	// value gives the values of a column that is not kept in words.
	value  func(row int) []byte
	values []uint64
	filled bool
}

func (b *bound) set(column arrow.Array) {
	b.column, b.nulls, b.filled, b.value = column, column.NullN(), false, nil
	if keptInBytes(column.DataType()) {
		b.value = bytesOf(column)
	}
}

// words are the values as words, made when they are first wanted.
func (b *bound) words() []uint64 {
	if b.filled {
		return b.values
	}
	n := b.column.Len()
	if cap(b.values) < n {
		b.values = make([]uint64, n)
	}
	b.values, b.filled = b.values[:n], true
	fillWords(b.column, b.values)
	return b.values
}

func keptInBytes(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.STRING, arrow.LARGE_STRING, arrow.BINARY, arrow.LARGE_BINARY, arrow.FIXED_SIZE_BINARY, arrow.DECIMAL128:
		return true
	}
	return false
}

// keyColumn is one column of the keys of a window.
type keyColumn interface {
	equal(group uint32, row int) bool
	add(row int)
	// appendTo appends the keys of all groups.
	appendTo(b array.Builder)
	reset()
}

// newGroups makes groups of keys of types, which are read from batch.
func newGroups(types []arrow.DataType, batch []*bound) *groups {
	g := &groups{slots: make([]uint32, slotsMin)}
	for i, t := range types {
		if keptInBytes(t) {
			g.columns = append(g.columns, &bytesColumn{batch: batch[i]})
		} else {
			g.columns = append(g.columns, &wordColumn{batch: batch[i]})
		}
	}
	return g
}

func (g *groups) len() int { return len(g.hashes) }

// reset forgets all keys and keeps the memory.
func (g *groups) reset() {
	clear(g.slots)
	g.hashes = g.hashes[:0]
	for _, c := range g.columns {
		c.reset()
	}
}

// find gives the group of each of some rows (nil: all) of the batch that is
// bound, making groups of new keys. hashes are those of all rows.
func (g *groups) find(hashes []uint64, rows []int32, out []uint32) {
	if len(g.columns) == 1 && rows == nil {
		switch column := g.columns[0].(type) {
		case *wordColumn:
			if column.batch.nulls == 0 {
				g.findWords(column, hashes, out)
				return
			}
		case *bytesColumn:
			if column.batch.nulls == 0 {
				g.findBytes(column, hashes, out)
				return
			}
		}
	}
	for i := range out {
		row := i
		if rows != nil {
			row = int(rows[i])
		}
		out[i] = g.findRow(hashes[row], row)
	}
}

// findWords is find for a single column of words without NULL.
func (g *groups) findWords(column *wordColumn, hashes []uint64, out []uint32) {
	mask := uint64(len(g.slots) - 1)
	for i, word := range column.batch.words() {
		slot := hashes[i] & mask
		for {
			group := g.slots[slot]
			if group == 0 {
				out[i] = g.insert(hashes[i], i, slot)
				mask = uint64(len(g.slots) - 1)
				break
			}
			if column.words[group-1] == word && !column.null[group-1] {
				out[i] = group - 1
				break
			}
			slot = (slot + 1) & mask
		}
	}
}

// findBytes is find for a single column of bytes without NULL.
func (g *groups) findBytes(column *bytesColumn, hashes []uint64, out []uint32) {
	value := column.batch.value
	mask := uint64(len(g.slots) - 1)
	for i := range out {
		hash, key := hashes[i], value(i)
		slot := hash & mask
		for {
			group := g.slots[slot]
			if group == 0 {
				out[i] = g.insert(hash, i, slot)
				mask = uint64(len(g.slots) - 1)
				break
			}
			if g.hashes[group-1] == hash && !column.null[group-1] && bytes.Equal(column.key(int(group-1)), key) {
				out[i] = group - 1
				break
			}
			slot = (slot + 1) & mask
		}
	}
}

func (g *groups) findRow(hash uint64, row int) uint32 {
	mask := uint64(len(g.slots) - 1)
	for slot := hash & mask; ; slot = (slot + 1) & mask {
		group := g.slots[slot]
		if group == 0 {
			return g.insert(hash, row, slot)
		}
		if g.hashes[group-1] == hash && g.equal(group-1, row) {
			return group - 1
		}
	}
}

func (g *groups) equal(group uint32, row int) bool {
	for _, c := range g.columns {
		if !c.equal(group, row) {
			return false
		}
	}
	return true
}

func (g *groups) insert(hash uint64, row int, slot uint64) uint32 {
	group := uint32(len(g.hashes))
	g.hashes = append(g.hashes, hash)
	for _, c := range g.columns {
		c.add(row)
	}
	g.slots[slot] = group + 1
	if 2*len(g.hashes) > len(g.slots) {
		g.enlarge()
	}
	return group
}

func (g *groups) enlarge() {
	g.slots = make([]uint32, 2*len(g.slots))
	mask := uint64(len(g.slots) - 1)
	for group, hash := range g.hashes {
		slot := hash & mask
		for g.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		g.slots[slot] = uint32(group) + 1
	}
}

// wordColumn holds keys that fit into 64 bits: numbers, times, booleans.
type wordColumn struct {
	batch *bound
	words []uint64
	null  []bool
}

func (c *wordColumn) equal(group uint32, row int) bool {
	if c.batch.nulls > 0 && c.batch.column.IsNull(row) {
		return c.null[group]
	}
	return !c.null[group] && c.words[group] == c.batch.words()[row]
}

func (c *wordColumn) add(row int) {
	c.null = append(c.null, c.batch.column.IsNull(row))
	c.words = append(c.words, c.batch.words()[row])
}

func (c *wordColumn) reset() { c.words, c.null = c.words[:0], c.null[:0] }

func (c *wordColumn) appendTo(b array.Builder) {
	b.Reserve(len(c.words))
	for i, word := range c.words {
		if c.null[i] {
			b.AppendNull()
			continue
		}
		appendWord(b, word)
	}
}

// fillWords gives the values of a column as words, equal ones alike. Those of
// NULLs are arbitrary.
func fillWords(column arrow.Array, out []uint64) {
	switch c := column.(type) {
	case *array.Boolean:
		for i := range out {
			out[i] = boolWord(c.Value(i))
		}
	case *array.Int8:
		integerWords(c.Int8Values(), out)
	case *array.Int16:
		integerWords(c.Int16Values(), out)
	case *array.Int32:
		integerWords(c.Int32Values(), out)
	case *array.Int64:
		integerWords(c.Int64Values(), out)
	case *array.Uint8:
		integerWords(c.Uint8Values(), out)
	case *array.Uint16:
		integerWords(c.Uint16Values(), out)
	case *array.Uint32:
		integerWords(c.Uint32Values(), out)
	case *array.Uint64:
		integerWords(c.Uint64Values(), out)
	case *array.Date32:
		integerWords(c.Date32Values(), out)
	case *array.Date64:
		integerWords(c.Date64Values(), out)
	case *array.Time32:
		integerWords(c.Time32Values(), out)
	case *array.Time64:
		integerWords(c.Time64Values(), out)
	case *array.Timestamp:
		integerWords(c.TimestampValues(), out)
	case *array.Duration:
		integerWords(c.DurationValues(), out)
	case *array.Float32:
		for i, v := range c.Float32Values() {
			out[i] = floatWord(float64(v))
		}
	case *array.Float64:
		for i, v := range c.Float64Values() {
			out[i] = floatWord(v)
		}
	default:
		panic(fmt.Sprintf("state: %s is not kept in words", column.DataType()))
	}
}

func integerWords[T integer](values []T, out []uint64) {
	for i, v := range values {
		out[i] = uint64(v)
	}
}

// appendWord is the way back from fillWords.
func appendWord(b array.Builder, word uint64) {
	switch b := b.(type) {
	case *array.BooleanBuilder:
		b.Append(word != 0)
	case *array.Int8Builder:
		b.Append(int8(word))
	case *array.Int16Builder:
		b.Append(int16(word))
	case *array.Int32Builder:
		b.Append(int32(word))
	case *array.Int64Builder:
		b.Append(int64(word))
	case *array.Uint8Builder:
		b.Append(uint8(word))
	case *array.Uint16Builder:
		b.Append(uint16(word))
	case *array.Uint32Builder:
		b.Append(uint32(word))
	case *array.Uint64Builder:
		b.Append(word)
	case *array.Date32Builder:
		b.Append(arrow.Date32(word))
	case *array.Date64Builder:
		b.Append(arrow.Date64(word))
	case *array.Time32Builder:
		b.Append(arrow.Time32(word))
	case *array.Time64Builder:
		b.Append(arrow.Time64(word))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(word))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(word))
	case *array.Float32Builder:
		b.Append(float32(math.Float64frombits(word)))
	case *array.Float64Builder:
		b.Append(math.Float64frombits(word))
	default:
		panic(fmt.Sprintf("state: %s is not kept in words", b.Type()))
	}
}

// bytesColumn holds keys of any length, one behind the other.
type bytesColumn struct {
	batch *bound
	data  []byte
	ends  []int // of each group's key in data
	null  []bool
}

// bytesOf gives the values of a column as bytes, which live as long as it
// does or, of decimals, until the next call.
func bytesOf(column arrow.Array) func(row int) []byte {
	switch column := column.(type) {
	case *array.String:
		return func(row int) []byte { return textBytes(column.Value(row)) }
	case *array.LargeString:
		return func(row int) []byte { return textBytes(column.Value(row)) }
	case *array.Binary:
		return column.Value
	case *array.LargeBinary:
		return column.Value
	case *array.FixedSizeBinary:
		return column.Value
	case *array.Decimal128:
		var scratch [16]byte
		return func(row int) []byte {
			v := column.Value(row)
			binary.LittleEndian.PutUint64(scratch[:8], v.LowBits())
			binary.LittleEndian.PutUint64(scratch[8:], uint64(v.HighBits()))
			return scratch[:]
		}
	}
	panic(fmt.Sprintf("state: %s is not kept in bytes", column.DataType()))
}

func (c *bytesColumn) key(group int) []byte {
	start := 0
	if group > 0 {
		start = c.ends[group-1]
	}
	return c.data[start:c.ends[group]]
}

func (c *bytesColumn) equal(group uint32, row int) bool {
	if null := c.batch.column.IsNull(row); null || c.null[group] {
		return null && c.null[group]
	}
	return bytes.Equal(c.key(int(group)), c.batch.value(row))
}

func (c *bytesColumn) add(row int) {
	null := c.batch.column.IsNull(row)
	if !null {
		c.data = append(c.data, c.batch.value(row)...)
	}
	c.null, c.ends = append(c.null, null), append(c.ends, len(c.data))
}

func (c *bytesColumn) reset() { c.data, c.ends, c.null = c.data[:0], c.ends[:0], c.null[:0] }

func (c *bytesColumn) appendTo(b array.Builder) {
	for i := range c.ends {
		if c.null[i] {
			b.AppendNull()
			continue
		}
		appendBytes(b, c.key(i))
	}
}

// appendBytes is the way back from bytesOf.
func appendBytes(b array.Builder, key []byte) {
	switch b := b.(type) {
	case *array.StringBuilder:
		b.BinaryBuilder.Append(key)
	case *array.LargeStringBuilder:
		b.BinaryBuilder.Append(key)
	case *array.BinaryBuilder:
		b.Append(key)
	case *array.FixedSizeBinaryBuilder:
		b.Append(key)
	case *array.Decimal128Builder:
		b.Append(decimal128.New(int64(binary.LittleEndian.Uint64(key[8:])), binary.LittleEndian.Uint64(key)))
	default:
		panic(fmt.Sprintf("state: %s is not kept in bytes", b.Type()))
	}
}
