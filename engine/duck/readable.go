package duck

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// readable gives the type within t whose values cannot be copied into the
// normal type of t; "" if all can. Within a plan DuckDB casts to normal types;
// of a user's own statement the result is read as it is.
func (t sqlType) readable() (unreadable string) {
	switch t.id {
	case duckdb.TypeHugeInt, duckdb.TypeUHugeInt, duckdb.TypeUUID, duckdb.TypeEnum, duckdb.TypeTimeTZ,
		duckdb.TypeDecimal:
		return ""
	case duckdb.TypeList, duckdb.TypeArray, duckdb.TypeMap, duckdb.TypeStruct:
		for _, f := range t.fields {
			if name := f.typ.readable(); name != "" {
				return name
			}
		}
		return ""
	}
	if _, ok := scalars[t.id]; ok {
		return ""
	}
	if name, ok := unreadableNames[t.id]; ok {
		return name
	}
	return fmt.Sprintf("number %d", t.id)
}

var unreadableNames = map[duckdb.Type]string{
	duckdb.TypeBit: "BIT", duckdb.TypeUnion: "UNION", duckdb.TypeBigNum: "BIGNUM", duckdb.TypeTimeNS: "TIME_NS",
	duckdb.TypeGeometry: "GEOMETRY", duckdb.TypeVariant: "VARIANT",
}

// hugeWriter writes integers of 128 bits with 64; others are refused.
type hugeWriter struct {
	base
	signed bool
}

// hugeInt is DuckDB's hugeint_t and uhugeint_t.
type hugeInt struct {
	low, high uint64
}

func (h hugeInt) fits(signed bool) bool {
	if signed {
		return h.high == uint64(int64(h.low)>>63)
	}
	return h.high == 0
}

func (h hugeInt) String() string {
	n := new(big.Int).SetUint64(h.high)
	return n.Or(n.Lsh(n, 64), new(big.Int).SetUint64(h.low)).String()
}

// text is the number as it is written.
func (h hugeInt) text(signed bool) string {
	if !signed || h.high>>63 == 0 {
		return h.String()
	}
	negated := hugeInt{-h.low, ^h.high}
	if h.low == 0 {
		negated.high++
	}
	return "-" + negated.String()
}

func (w *hugeWriter) size(_ vector, _, rows int) int64 {
	return int64(rows*arrow.Int64SizeBytes) + validityBytes(rows)
}

func (w *hugeWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	out := arrow.Uint64Traits.CastFromBytes(w.values.extend(rows * arrow.Int64SizeBytes))
	for i, value := range unsafe.Slice((*hugeInt)(v.data), from+rows)[from:] {
		if !v.valid(from + i) {
			out[i] = 0
			continue
		}
		if !value.fits(w.signed) {
			return fmt.Errorf("the integer %s does not fit into 64 bits", value.text(w.signed))
		}
		out[i] = value.low
	}
	return nil
}

func (w *hugeWriter) finish() arrow.ArrayData {
	return w.data([]*memory.Buffer{taken(&w.values)})
}

// textWriter writes values that have no Arrow type of their own as text.
type textWriter struct {
	stringWriter
	text func(v vector, row int) string
}

// textOf gives the text of a type's values.
func textOf(t sqlType) func(v vector, row int) string {
	switch t.id {
	case duckdb.TypeUUID:
		return func(v vector, row int) string {
			return uuidText(*(*hugeInt)(unsafe.Add(v.data, row*int(unsafe.Sizeof(hugeInt{})))))
		}
	case duckdb.TypeTimeTZ:
		return func(v vector, row int) string { return zonedTimeText(*(*uint64)(unsafe.Add(v.data, row*8))) }
	}
	labels := t.labels
	switch t.code {
	case duckdb.TypeUTinyInt:
		return func(v vector, row int) string { return labels[*(*uint8)(unsafe.Add(v.data, row))] }
	case duckdb.TypeUSmallInt:
		return func(v vector, row int) string { return labels[*(*uint16)(unsafe.Add(v.data, row*2))] }
	}
	return func(v vector, row int) string { return labels[*(*uint32)(unsafe.Add(v.data, row*4))] }
}

// uuidText writes a UUID, which DuckDB keeps as a number of 128 bits with its
// sign turned, so that it sorts like its text.
func uuidText(value hugeInt) string {
	var raw [16]byte
	for i := range 8 {
		raw[i] = byte((value.high ^ 1<<63) >> (56 - 8*i))
		raw[8+i] = byte(value.low >> (56 - 8*i))
	}
	h := hex.EncodeToString(raw[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// zonedTimeText writes a time with its offset from UTC: microseconds, and in
// 24 bits the offset in seconds, counted down from the largest.
func zonedTimeText(bits uint64) string {
	const offsetBits, offsetMax = 24, 16*3600 - 1
	micros, offset := bits>>offsetBits, offsetMax-int64(bits&(1<<offsetBits-1))
	text := fmt.Sprintf("%02d:%02d:%02d", micros/3_600_000_000, micros/60_000_000%60, micros/1_000_000%60)
	if fraction := micros % 1_000_000; fraction > 0 {
		text += fmt.Sprintf(".%06d", fraction)
	}
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	text += fmt.Sprintf("%c%02d:%02d", sign, offset/3600, offset/60%60)
	if seconds := offset % 60; seconds > 0 {
		text += fmt.Sprintf(":%02d", seconds)
	}
	return text
}

func (w *textWriter) size(v vector, from, rows int) int64 {
	size := int64(rows*arrow.Int32SizeBytes) + validityBytes(rows)
	for row := from; row < from+rows; row++ {
		if v.valid(row) {
			size += int64(len(w.text(v, row)))
		}
	}
	return size
}

func (w *textWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	offsets, last := w.offsets(rows)
	for i := range offsets {
		if v.valid(from + i) {
			text := w.text(v, from+i)
			last += int32(copy(w.data.extend(len(text)), text))
		}
		offsets[i] = last
	}
	return nil
}

// arrayWriter writes arrays, whose lists all have one length, as lists.
type arrayWriter struct {
	listWriter
	length int
}

func (w *arrayWriter) child(v vector) vector { return readVector(duckdb.ArrayVectorGetChild(v.handle)) }

func (w *arrayWriter) size(v vector, from, rows int) int64 {
	return int64(rows*arrow.Int32SizeBytes) + validityBytes(rows) +
		w.listWriter.child.size(w.child(v), from*w.length, rows*w.length)
}

func (w *arrayWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	offsets, last := w.offsets(rows)
	child := w.child(v)
	for i := range offsets {
		if v.valid(from + i) {
			if err := w.listWriter.child.append(child, (from+i)*w.length, w.length); err != nil {
				return err
			}
			last += int32(w.length)
		}
		offsets[i] = last
	}
	return nil
}
