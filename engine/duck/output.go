package duck

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// stringWidth is the size of DuckDB's string_t: a length, and 12 bytes that
// are the string itself or, if it is longer, 4 bytes of it and a pointer.
const (
	stringWidth     = 16
	stringInlineMax = 12
)

type stringHead struct {
	length uint32
	inline [4]byte
	data   unsafe.Pointer
}

// listEntry is DuckDB's list_entry_t.
type listEntry struct{ offset, length uint64 }

// vector is a flat DuckDB vector: values and a validity mask, which is nil if
// all rows are valid. Both are DuckDB's memory and live as long as the chunk.
type vector struct {
	handle   duckdb.Vector
	data     unsafe.Pointer
	validity unsafe.Pointer
}

func readVector(handle duckdb.Vector) vector {
	return vector{handle, duckdb.VectorGetData(handle), duckdb.VectorGetValidity(handle)}
}

func (v *vector) valid(row int) bool {
	if v.validity == nil {
		return true
	}
	word := *(*uint64)(unsafe.Add(v.validity, row/64*8))
	return word>>(row%64)&1 != 0
}

// bytesOf gives the string of a row, in DuckDB's memory.
func (v *vector) bytesOf(row int) []byte {
	head := (*stringHead)(unsafe.Add(v.data, row*stringWidth))
	if head.length <= stringInlineMax {
		return unsafe.Slice((*byte)(unsafe.Pointer(&head.inline)), head.length)
	}
	return unsafe.Slice((*byte)(head.data), head.length)
}

func (v *vector) entry(row int) listEntry {
	return *(*listEntry)(unsafe.Add(v.data, row*int(unsafe.Sizeof(listEntry{}))))
}

// appendStrings copies the strings of a vector; NULLs are left out.
func appendStrings(values []string, handle duckdb.Vector, rows int) []string {
	v := readVector(handle)
	for row := range rows {
		if v.valid(row) {
			values = append(values, string(v.bytesOf(row)))
		}
	}
	return values
}

// writer gathers the values of a column from vectors, for one Arrow array at a
// time.
type writer interface {
	// size is about the number of bytes that the rows will take.
	size(v vector, from, rows int) int64
	// append copies rows. After an error only release may be called.
	append(v vector, from, rows int) error
	// finish gives what was gathered, which the caller releases, and begins
	// anew.
	finish() arrow.ArrayData
	// release gives up what was gathered.
	release()
}

// newWriter makes a writer for a normal type, or for one that is readable. The
// arrays are of the normal type.
func newWriter(t sqlType, mem memory.Allocator) writer {
	normal, _ := t.normal()
	base := base{typ: normal.arrow(), values: buffer{mem: mem}, bits: buffer{mem: mem}}
	switch t.id {
	case duckdb.TypeHugeInt, duckdb.TypeUHugeInt:
		return &hugeWriter{base, t.id == duckdb.TypeHugeInt}
	case duckdb.TypeUUID, duckdb.TypeEnum, duckdb.TypeTimeTZ:
		return &textWriter{stringWriter{base: base, data: buffer{mem: mem}}, textOf(t)}
	case duckdb.TypeArray:
		return &arrayWriter{listWriter{base: base, child: newWriter(t.fields[0].typ, mem)}, t.size}
	case duckdb.TypeSQLNull:
		return &nullWriter{base}
	case duckdb.TypeBoolean:
		return &booleanWriter{base}
	case duckdb.TypeVarchar, duckdb.TypeBlob:
		return &stringWriter{base: base, data: buffer{mem: mem}}
	case duckdb.TypeInterval:
		return &intervalWriter{fixedWriter{base, scalars[t.id].width}}
	case duckdb.TypeDecimal:
		return &decimalWriter{base: base, width: decimalWidth(t.width)}
	case duckdb.TypeList:
		return &listWriter{base: base, child: newWriter(t.fields[0].typ, mem)}
	case duckdb.TypeMap: // stored as a list of structs
		entries := sqlType{id: duckdb.TypeStruct, fields: t.fields}
		child := newWriter(entries, mem).(*structWriter)
		child.typ = base.typ.(*arrow.MapType).Elem()
		return &listWriter{base: base, child: child}
	case duckdb.TypeStruct:
		w := &structWriter{base: base}
		for _, f := range t.fields {
			w.children = append(w.children, newWriter(f.typ, mem))
		}
		return w
	}
	return &fixedWriter{base, scalars[t.id].width}
}

// decimalWidth is the size of a DECIMAL's value in a vector.
func decimalWidth(digits uint8) int {
	switch {
	case digits <= 4:
		return 2
	case digits <= 9:
		return 4
	case digits <= 18:
		return 8
	}
	return 16
}

// buffer is memory that grows.
type buffer struct {
	mem memory.Allocator
	buf *memory.Buffer
	// expected is the size at which it was taken last, and so the size to
	// begin with: growing step by step copies everything about once more.
	expected int
}

// extend makes room for n more bytes and returns it.
func (b *buffer) extend(n int) []byte {
	if b.buf == nil {
		b.buf = memory.NewResizableBuffer(b.mem)
		b.buf.Reserve(max(n, b.expected))
	}
	old := b.buf.Len()
	if need := old + n; need > b.buf.Cap() {
		b.buf.Reserve(max(need, 2*b.buf.Cap()))
	}
	b.buf.ResizeNoShrink(old + n)
	return b.buf.Bytes()[old:]
}

func (b *buffer) len() int {
	if b.buf == nil {
		return 0
	}
	return b.buf.Len()
}

// take gives the memory away; nil if there is none.
func (b *buffer) take() *memory.Buffer {
	buf := b.buf
	b.expected = b.len()
	b.buf = nil
	return buf
}

func (b *buffer) release() {
	if buf := b.take(); buf != nil {
		buf.Release()
	}
}

// base is what all writers have: a number of rows and their validity.
type base struct {
	typ    arrow.DataType
	rows   int
	nulls  int
	bits   buffer // validity; empty until the first NULL
	values buffer
}

// addValidity notes which of the rows are NULL.
func (b *base) addValidity(v vector, from, rows int) {
	nulls := 0
	var mask []byte
	if v.validity != nil {
		mask = unsafe.Slice((*byte)(v.validity), bitutil.BytesForBits(int64(from+rows)))
		nulls = rows - bitutil.CountSetBits(mask, from, rows)
	}
	started := b.bits.len() > 0
	if started || nulls > 0 {
		growBits(&b.bits, b.rows+rows)
		bits := b.bits.buf.Bytes()
		if !started {
			bitutil.SetBitsTo(bits, 0, int64(b.rows), true)
		}
		if nulls > 0 {
			bitutil.CopyBitmap(mask, from, rows, bits, b.rows)
		} else {
			bitutil.SetBitsTo(bits, int64(b.rows), int64(rows), true)
		}
	}
	b.rows += rows
	b.nulls += nulls
}

// growBits makes a bitmap hold so many bits; new ones are zero.
func growBits(bits *buffer, rows int) {
	if more := int(bitutil.BytesForBits(int64(rows))) - bits.len(); more > 0 {
		clear(bits.extend(more))
	}
}

// data makes the array's data of validity and further buffers, whose
// references it takes over, and begins anew.
func (b *base) data(buffers []*memory.Buffer, children ...arrow.ArrayData) arrow.ArrayData {
	buffers = append([]*memory.Buffer{b.bits.take()}, buffers...)
	data := array.NewData(b.typ, b.rows, buffers, children, b.nulls, 0)
	for _, buf := range buffers {
		if buf != nil {
			buf.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	b.rows, b.nulls = 0, 0
	return data
}

func (b *base) release() {
	b.bits.release()
	b.values.release()
}

// taken is take, with an empty buffer instead of none.
func taken(b *buffer) *memory.Buffer {
	if buf := b.take(); buf != nil {
		return buf
	}
	return memory.NewBufferBytes(nil)
}

// validityBytes is about what validity takes.
func validityBytes(rows int) int64 { return int64(rows+7) / 8 }

type nullWriter struct{ base }

func (w *nullWriter) size(vector, int, int) int64 { return 0 }

func (w *nullWriter) append(_ vector, _, rows int) error {
	w.rows += rows
	return nil
}

func (w *nullWriter) finish() arrow.ArrayData {
	data := array.NewData(w.typ, w.rows, []*memory.Buffer{nil}, nil, w.rows, 0)
	w.rows = 0
	return data
}

// fixedWriter is for values that are the same bytes in DuckDB and Arrow.
type fixedWriter struct {
	base
	width int
}

func (w *fixedWriter) size(_ vector, _, rows int) int64 {
	return int64(rows*w.width) + validityBytes(rows)
}

func (w *fixedWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	copy(w.values.extend(rows*w.width), unsafe.Slice((*byte)(unsafe.Add(v.data, from*w.width)), rows*w.width))
	return nil
}

func (w *fixedWriter) finish() arrow.ArrayData {
	return w.data([]*memory.Buffer{taken(&w.values)})
}

// intervalWriter turns months, days and microseconds into months, days and
// nanoseconds.
type intervalWriter struct{ fixedWriter }

func (w *intervalWriter) append(v vector, from, rows int) error {
	start := w.values.len()
	if err := w.fixedWriter.append(v, from, rows); err != nil {
		return err
	}
	intervals := arrow.MonthDayNanoIntervalTraits.CastFromBytes(w.values.buf.Bytes()[start:])
	const micro = 1000
	for i := range intervals {
		n := &intervals[i].Nanoseconds
		if !v.valid(from + i) {
			*n = 0
			continue
		}
		if *n > math.MaxInt64/micro || *n < math.MinInt64/micro {
			return fmt.Errorf("an interval of %d microseconds does not fit into 64 bits of nanoseconds", *n)
		}
		*n *= micro
	}
	return nil
}

type booleanWriter struct{ base }

func (w *booleanWriter) size(_ vector, _, rows int) int64 { return 2 * validityBytes(rows) }

func (w *booleanWriter) append(v vector, from, rows int) error {
	growBits(&w.values, w.rows+rows)
	bits := w.values.buf
	for i, b := range unsafe.Slice((*byte)(unsafe.Add(v.data, from)), rows) {
		if b != 0 {
			bitutil.SetBit(bits.Bytes(), w.rows+i)
		}
	}
	w.addValidity(v, from, rows)
	return nil
}

func (w *booleanWriter) finish() arrow.ArrayData {
	return w.data([]*memory.Buffer{taken(&w.values)})
}

// decimalWriter widens values of width bytes to 128 bits.
type decimalWriter struct {
	base
	width int
}

func (w *decimalWriter) size(_ vector, _, rows int) int64 {
	return int64(rows*arrow.Decimal128SizeBytes) + validityBytes(rows)
}

func (w *decimalWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	out := w.values.extend(rows * arrow.Decimal128SizeBytes)
	at := unsafe.Add(v.data, from*w.width)
	switch w.width {
	case 2:
		widen(out, unsafe.Slice((*int16)(at), rows))
	case 4:
		widen(out, unsafe.Slice((*int32)(at), rows))
	case 8:
		widen(out, unsafe.Slice((*int64)(at), rows))
	default:
		copy(out, unsafe.Slice((*byte)(at), len(out)))
	}
	return nil
}

func widen[T int16 | int32 | int64](out []byte, values []T) {
	words := arrow.Int64Traits.CastFromBytes(out) // low and high word in turn
	for i, value := range values {
		words[2*i] = int64(value)
		words[2*i+1] = int64(value) >> 63
	}
}

func (w *decimalWriter) finish() arrow.ArrayData {
	return w.data([]*memory.Buffer{taken(&w.values)})
}

// offsets are the 32-bit offsets of strings and lists, kept in base.values.
// They begin with a zero.
func (b *base) offsets(rows int) (out []int32, last int32) {
	if b.values.len() == 0 {
		clear(b.values.extend(arrow.Int32SizeBytes))
	}
	before := arrow.Int32Traits.CastFromBytes(b.values.buf.Bytes())
	last = before[len(before)-1]
	return arrow.Int32Traits.CastFromBytes(b.values.extend(rows * arrow.Int32SizeBytes)), last
}

func (b *base) takeOffsets() *memory.Buffer {
	if b.values.len() == 0 {
		clear(b.values.extend(arrow.Int32SizeBytes))
	}
	return b.values.take()
}

type stringWriter struct {
	base
	data buffer
}

// total is the number of bytes of the rows' strings.
func (w *stringWriter) total(v vector, from, rows int) int64 {
	var total int64
	for row := from; row < from+rows; row++ {
		if v.valid(row) {
			total += int64((*stringHead)(unsafe.Add(v.data, row*stringWidth)).length)
		}
	}
	return total
}

func (w *stringWriter) size(v vector, from, rows int) int64 {
	return w.total(v, from, rows) + int64(rows*arrow.Int32SizeBytes) + validityBytes(rows)
}

func (w *stringWriter) append(v vector, from, rows int) error {
	total := w.total(v, from, rows)
	if int64(w.data.len())+total > math.MaxInt32 {
		return fmt.Errorf("%d bytes of text in %d rows do not fit into one batch", total, rows)
	}
	w.addValidity(v, from, rows)
	offsets, last := w.offsets(rows)
	data := w.data.extend(int(total))
	at := 0
	for i := range offsets {
		if v.valid(from + i) {
			at += copy(data[at:], v.bytesOf(from+i))
		}
		offsets[i] = last + int32(at)
	}
	return nil
}

func (w *stringWriter) finish() arrow.ArrayData {
	return w.base.data([]*memory.Buffer{w.takeOffsets(), taken(&w.data)})
}

func (w *stringWriter) release() {
	w.base.release()
	w.data.release()
}

// listWriter is for lists and maps.
type listWriter struct {
	base
	child writer
}

// ranges calls f with runs of rows of the child vector that lists from on
// refer to: neighbours in DuckDB's order are joined to one run.
func (w *listWriter) ranges(v vector, from, rows int, f func(from, rows int) error) error {
	start, end := 0, 0
	for row := from; row < from+rows; row++ {
		if !v.valid(row) {
			continue // its entry is not defined
		}
		entry := v.entry(row)
		if int(entry.offset) == end {
			end += int(entry.length)
			continue
		}
		if end > start {
			if err := f(start, end-start); err != nil {
				return err
			}
		}
		start, end = int(entry.offset), int(entry.offset+entry.length)
	}
	if end > start {
		return f(start, end-start)
	}
	return nil
}

func (w *listWriter) size(v vector, from, rows int) int64 {
	size := int64(rows*arrow.Int32SizeBytes) + validityBytes(rows)
	child := readVector(duckdb.ListVectorGetChild(v.handle))
	_ = w.ranges(v, from, rows, func(from, rows int) error { // f never fails
		size += w.child.size(child, from, rows)
		return nil
	})
	return size
}

func (w *listWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	offsets, last := w.offsets(rows)
	at := int64(last)
	for i := range offsets {
		if v.valid(from + i) {
			at += int64(v.entry(from + i).length)
		}
		if at > math.MaxInt32 {
			return fmt.Errorf("the elements of %d lists do not fit into one batch", rows)
		}
		offsets[i] = int32(at)
	}
	child := readVector(duckdb.ListVectorGetChild(v.handle))
	return w.ranges(v, from, rows, func(from, rows int) error {
		return w.child.append(child, from, rows)
	})
}

func (w *listWriter) finish() arrow.ArrayData {
	return w.data([]*memory.Buffer{w.takeOffsets()}, w.child.finish())
}

func (w *listWriter) release() {
	w.base.release()
	w.child.release()
}

type structWriter struct {
	base
	children []writer
}

func (w *structWriter) child(v vector, i int) vector {
	return readVector(duckdb.StructVectorGetChild(v.handle, duckdb.IdxT(i)))
}

func (w *structWriter) size(v vector, from, rows int) int64 {
	size := validityBytes(rows)
	for i, child := range w.children {
		size += child.size(w.child(v, i), from, rows)
	}
	return size
}

func (w *structWriter) append(v vector, from, rows int) error {
	w.addValidity(v, from, rows)
	for i, child := range w.children {
		if err := child.append(w.child(v, i), from, rows); err != nil {
			return err
		}
	}
	return nil
}

func (w *structWriter) finish() arrow.ArrayData {
	children := make([]arrow.ArrayData, len(w.children))
	for i, child := range w.children {
		children[i] = child.finish()
	}
	return w.data(nil, children...)
}

func (w *structWriter) release() {
	w.base.release()
	for _, child := range w.children {
		child.release()
	}
}

// batcher joins DuckDB's chunks of 2,048 rows to batches of the size that
// Options asks for.
type batcher struct {
	schema   *arrow.Schema
	writers  []writer
	rows     int
	bytes    int64
	rowsMax  int
	bytesMax int64
	// named: errors name the column, as no step of a plan does.
	named bool
	// emit takes over the batch.
	emit func(arrow.RecordBatch) error
	// emitErr is emit's error.
	emitErr error
}

func newBatcher(schema *arrow.Schema, columns []column, options Options, emit func(arrow.RecordBatch) error) *batcher {
	b := &batcher{schema: schema, rowsMax: options.BatchRowsMax, bytesMax: options.BatchBytesMax, emit: emit}
	for _, c := range columns {
		b.writers = append(b.writers, newWriter(c.typ, options.Allocator))
	}
	return b
}

// add copies a chunk, which stays the caller's.
func (b *batcher) add(chunk duckdb.DataChunk) error {
	vectors := make([]vector, len(b.writers))
	for i := range vectors {
		vectors[i] = readVector(duckdb.DataChunkGetVector(chunk, duckdb.IdxT(i)))
	}
	total := int(duckdb.DataChunkGetSize(chunk))
	for from := 0; from < total; {
		rows := min(total-from, b.rowsMax-b.rows)
		size := b.size(vectors, from, rows)
		if b.rows > 0 && b.bytes+size > b.bytesMax {
			if err := b.flush(); err != nil {
				return err
			}
			continue
		}
		for rows > 1 && size > b.bytesMax {
			rows /= 2
			size = b.size(vectors, from, rows)
		}
		for i, w := range b.writers {
			if err := w.append(vectors[i], from, rows); err != nil {
				if b.named {
					err = fmt.Errorf("column %q: %w", b.schema.Field(i).Name, err)
				}
				return err
			}
		}
		from += rows
		b.rows += rows
		b.bytes += size
		if b.rows == b.rowsMax {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batcher) size(vectors []vector, from, rows int) int64 {
	var size int64
	for i, w := range b.writers {
		size += w.size(vectors[i], from, rows)
	}
	return size
}

// flush emits what was gathered, if there is any.
func (b *batcher) flush() error {
	if b.rows == 0 {
		return nil
	}
	columns := make([]arrow.Array, len(b.writers))
	for i, w := range b.writers {
		data := w.finish()
		columns[i] = array.MakeFromData(data)
		data.Release()
	}
	batch := array.NewRecordBatch(b.schema, columns, int64(b.rows))
	for _, c := range columns {
		c.Release()
	}
	b.rows, b.bytes = 0, 0
	b.emitErr = b.emit(batch)
	return b.emitErr
}

func (b *batcher) release() {
	for _, w := range b.writers {
		w.release()
	}
}
