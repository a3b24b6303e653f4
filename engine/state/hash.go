// Package state holds what streaming operators remember between batches: keys
// in open-addressing tables, aggregates in columns, windows by their end. All
// of it is in memory; it leaves and comes back as Arrow batches, for
// checkpoints. The package imports Arrow and diag only.
package state

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"
)

// The hash is part of what a checkpoint means: a key that is restored must
// find the subtask that gets its rows. It has no random seed, and a change of
// it needs a new version of the checkpoint's format.
const (
	hashSeed   = 0x9e3779b97f4a7c15
	hashMix    = 0xd6e8feb86659fd93
	nullWord   = 0xa0761d6478bd642f
	canonicNaN = 0x7ff8000000000000
)

// mix adds a word to a hash: a 64×64 bit product whose halves are joined.
func mix(hash, word uint64) uint64 {
	hi, lo := bits.Mul64(hash^word^hashSeed, hashMix)
	return hi ^ lo
}

// Keyable reports whether values of a type can be keys: whether they have one
// form when they are equal.
func Keyable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64,
		arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64, arrow.FLOAT32, arrow.FLOAT64,
		arrow.DATE32, arrow.DATE64, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP, arrow.DURATION,
		arrow.STRING, arrow.LARGE_STRING, arrow.BINARY, arrow.LARGE_BINARY, arrow.FIXED_SIZE_BINARY,
		arrow.DECIMAL128:
		return true
	}
	return false
}

// Hash computes the hash of each row of some columns, of Keyable types, into
// out, whose length is the number of rows. Equal keys have equal hashes: NULL
// equals NULL, every NaN every other, and -0.0 equals 0.0. Without columns all
// rows are equal.
func Hash(columns []arrow.Array, out []uint64) error {
	for i := range out {
		out[i] = hashSeed
	}
	for _, column := range columns {
		if err := hashColumn(column, out); err != nil {
			return err
		}
	}
	return nil
}

// Subtask is the subtask, of n, that gets the rows of a hash. It uses the high
// bits; tables use the low ones.
func Subtask(hash uint64, n int) int { return int((hash >> 32) * uint64(n) >> 32) }

func hashColumn(column arrow.Array, out []uint64) error {
	switch c := column.(type) {
	case *array.Boolean:
		hashEach(c, out, func(i int) uint64 { return boolWord(c.Value(i)) })
	case *array.Int8:
		hashIntegers(c, c.Int8Values(), out)
	case *array.Int16:
		hashIntegers(c, c.Int16Values(), out)
	case *array.Int32:
		hashIntegers(c, c.Int32Values(), out)
	case *array.Int64:
		hashIntegers(c, c.Int64Values(), out)
	case *array.Uint8:
		hashIntegers(c, c.Uint8Values(), out)
	case *array.Uint16:
		hashIntegers(c, c.Uint16Values(), out)
	case *array.Uint32:
		hashIntegers(c, c.Uint32Values(), out)
	case *array.Uint64:
		hashIntegers(c, c.Uint64Values(), out)
	case *array.Date32:
		hashIntegers(c, c.Date32Values(), out)
	case *array.Date64:
		hashIntegers(c, c.Date64Values(), out)
	case *array.Time32:
		hashIntegers(c, c.Time32Values(), out)
	case *array.Time64:
		hashIntegers(c, c.Time64Values(), out)
	case *array.Timestamp:
		hashIntegers(c, c.TimestampValues(), out)
	case *array.Duration:
		hashIntegers(c, c.DurationValues(), out)
	case *array.Float32:
		hashEach(c, out, func(i int) uint64 { return floatWord(float64(c.Value(i))) })
	case *array.Float64:
		hashEach(c, out, func(i int) uint64 { return floatWord(c.Value(i)) })
	case *array.Decimal128:
		hashEach(c, out, func(i int) uint64 {
			v := c.Value(i)
			return mix(uint64(v.HighBits()), v.LowBits())
		})
	case *array.String:
		hashEach(c, out, func(i int) uint64 { return xxh3.HashString(c.Value(i)) })
	case *array.LargeString:
		hashEach(c, out, func(i int) uint64 { return xxh3.HashString(c.Value(i)) })
	case *array.Binary:
		hashEach(c, out, func(i int) uint64 { return xxh3.Hash(c.Value(i)) })
	case *array.LargeBinary:
		hashEach(c, out, func(i int) uint64 { return xxh3.Hash(c.Value(i)) })
	case *array.FixedSizeBinary:
		hashEach(c, out, func(i int) uint64 { return xxh3.Hash(c.Value(i)) })
	default:
		return fmt.Errorf("values of type %s cannot be keys", column.DataType())
	}
	return nil
}

type integer interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// textHash is the hash of a key that is one text.
func textHash(text string) uint64 { return mix(hashSeed, xxh3.HashString(text)) }

func hashIntegers[T integer](column arrow.Array, values []T, out []uint64) {
	if column.NullN() == 0 {
		for i, v := range values {
			out[i] = mix(out[i], uint64(v))
		}
		return
	}
	for i, v := range values {
		word := uint64(v)
		if column.IsNull(i) {
			word = nullWord
		}
		out[i] = mix(out[i], word)
	}
}

func hashEach(column arrow.Array, out []uint64, word func(i int) uint64) {
	if column.NullN() == 0 {
		for i := range out {
			out[i] = mix(out[i], word(i))
		}
		return
	}
	for i := range out {
		if column.IsNull(i) {
			out[i] = mix(out[i], nullWord)
			continue
		}
		out[i] = mix(out[i], word(i))
	}
}

// textBytes are the bytes of a text, which must not be written to.
func textBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func boolWord(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// floatWord gives equal numbers one form.
func floatWord(v float64) uint64 {
	switch {
	case v == 0:
		return 0
	case v != v: // NaN alone differs from itself
		return canonicNaN
	}
	return math.Float64bits(v)
}

// floatWordLess orders the words of floatWord as SQL orders numbers: NaN is
// the largest.
func floatWordLess(a, b uint64) bool {
	x, y := math.Float64frombits(a), math.Float64frombits(b)
	return x < y || y != y && x == x // NaN alone differs from itself
}
