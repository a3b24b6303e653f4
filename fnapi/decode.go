package fnapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// inPlaceBytesMin is what is worth keeping a slot for: what is smaller is copied.
const inPlaceBytesMin = 4 << 10

// piece is a part of a bundle's data stream as it came.
type piece struct {
	bytes []byte
	// held is the slot that the bytes lie in, where the worker can change them;
	// nil: they are nobody else's.
	held *hold
}

func (p piece) release() {
	if p.held != nil {
		p.held.release()
	}
}

func releasePieces(pieces []piece) {
	for _, p := range pieces {
		p.release()
	}
}

// decoder reads elements of one schema. A worker is not trusted: what it sends
// is checked before it is used, and what the worker can still change is copied
// before it is checked. It is not safe for concurrent use.
//
// With inPlace the values of numbers stay in the slot that they came in. A
// number may be any bits, so one that changes is as good as one that was
// another from the start, for whoever reads it; all else that is read of a batch
// says where something lies or how much there is of it. Text is copied too: it
// is checked for UTF-8 once, and DuckDB and Arrow's kernels read it without
// looking again, past its end where it is not.
type decoder struct {
	schema  *arrow.Schema
	fields  []arrow.Field
	inPlace bool
	layout  layout
	parts   parts
}

func newDecoder(schema *arrow.Schema, inPlace bool) (*decoder, error) {
	d := &decoder{schema: schema, fields: schema.Fields(), inPlace: inPlace}
	return d, d.layout.add(d.fields)
}

// errMalformed is in the chain of errors about bytes that are not what they
// should be.
var errMalformed = errors.New("the worker's answer is malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// decode reads all elements of a stream, and releases its pieces. The caller
// releases the batches; they refer to the pieces where they can.
func (d *decoder) decode(pieces []piece) ([]arrow.RecordBatch, error) {
	defer releasePieces(pieces)
	stream := pieceReader{pieces: pieces}
	var batches []arrow.RecordBatch
	for !stream.done() {
		batch, err := d.next(&stream)
		if err != nil {
			releaseAll(batches)
			return nil, err
		}
		batches = append(batches, batch)
	}
	return batches, nil
}

func releaseAll(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}

// next reads an element. What lies in a slot is read once.
func (d *decoder) next(stream *pieceReader) (arrow.RecordBatch, error) {
	header, _, err := stream.take(elementHeaderBytes)
	if err != nil {
		return nil, err
	}
	if windows, pane := binary.BigEndian.Uint32(header[8:]), header[12]; windows != 1 || pane != globalHeader[12] {
		return nil, malformed("an element has %d windows and pane %#x", windows, pane)
	}
	n, err := stream.varint()
	if err != nil {
		return nil, err
	}
	element, held, err := stream.take(n)
	if err != nil {
		return nil, err
	}
	padding := 0
	if len(element) > 0 {
		padding = 1 + int(element[0])
	}
	if len(element) == 0 || len(element) < padding {
		return nil, malformed("an element of %d bytes has no record batch", len(element))
	}
	message := element[padding:]
	if !isAligned(message) {
		message, held = moved(message), nil
	}
	return d.message(message, held)
}

// message reads one encapsulated IPC message.
func (d *decoder) message(message []byte, held *hold) (batch arrow.RecordBatch, err error) {
	meta, body, err := split(message)
	if err != nil {
		return nil, err
	}
	if held != nil {
		meta = bytes.Clone(meta)
	}
	if err := d.layout.read(meta, len(body), &d.parts); err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, 0, len(d.fields))
	defer func() {
		if p := recover(); p != nil { // arrow-go indexes by what it has not yet compared
			batch, err = nil, malformed("%v", p)
		}
		for _, c := range columns {
			c.Release()
		}
	}()
	r := bodyReader{parts: &d.parts, body: body, held: held, inPlace: d.inPlace}
	for i, f := range d.fields {
		column, err := r.column(f.Type)
		if err == nil {
			columns = append(columns, column)
			if int64(column.Len()) != d.parts.rows {
				err = fmt.Errorf("%d rows in a batch of %d", column.Len(), d.parts.rows)
			}
		}
		if err != nil {
			return nil, malformed("column %d (%s): %v", i, f.Name, err)
		}
	}
	return array.NewRecordBatch(d.schema, columns, d.parts.rows), nil
}

// bodyReader makes arrays of a message's body, in the order of their fields.
type bodyReader struct {
	parts   *parts
	body    []byte
	held    *hold
	inPlace bool
	// node and buffer are the next of each.
	node, buffer int
}

// column makes a column and checks it: buffers as long as the array needs,
// offsets that rise within bounds, counts of NULLs, UTF-8.
func (r *bodyReader) column(t arrow.DataType) (arrow.Array, error) {
	switch t.ID() {
	case arrow.NULL:
		return array.NewNull(r.rows()), nil
	case arrow.STRING, arrow.BINARY:
		return text[int32](r, t)
	case arrow.LARGE_STRING, arrow.LARGE_BINARY:
		return text[int64](r, t)
	}
	if isNumber(t) {
		return r.numbers(t)
	}
	data := r.copied(t)
	defer data.Release()
	column := array.MakeFromData(data)
	if err := array.ValidateFull(column); err != nil {
		column.Release()
		return nil, err
	}
	return column, nil
}

// isNumber says of which types any bits are a value.
func isNumber(t arrow.DataType) bool {
	return arrow.IsInteger(t.ID()) || t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64
}

// rows takes the next node, and gives its length alone.
func (r *bodyReader) rows() int {
	r.node++
	return int(r.parts.nodes[r.node-1].first)
}

// numbers makes a column of numbers, whose values may stay where they are.
func (r *bodyReader) numbers(t arrow.DataType) (arrow.Array, error) {
	rows, nulls, validity, err := r.validity()
	if err != nil {
		return nil, err
	}
	values := r.next()
	if width := t.(arrow.FixedWidthDataType).Bytes(); len(values)/width < rows {
		return nil, fmt.Errorf("%d bytes of values for %d rows", len(values), rows)
	}
	var buffer *memory.Buffer
	if r.held != nil && r.inPlace && len(values) >= inPlaceBytesMin {
		r.held.retain()
		buffer = memory.NewBufferWithAllocator(values, r.held)
		defer buffer.Release()
	} else {
		buffer = r.own(values)
	}
	return arrayOf(t, rows, nulls, validity, buffer), nil
}

// text makes a column of text or of bytes.
func text[offset int32 | int64](r *bodyReader, t arrow.DataType) (arrow.Array, error) {
	rows, nulls, validity, err := r.validity()
	if err != nil {
		return nil, err
	}
	places, values := r.own(r.next()), r.own(r.next())
	if err := checkText[offset](places.Bytes(), values.Bytes(), rows, t.ID() == arrow.STRING || t.ID() == arrow.LARGE_STRING); err != nil {
		return nil, err
	}
	return arrayOf(t, rows, nulls, validity, places, values), nil
}

func arrayOf(t arrow.DataType, rows, nulls int, buffers ...*memory.Buffer) arrow.Array {
	data := array.NewData(t, rows, buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// checkText checks offsets, and with utf8 each value. The values lie one behind
// the other, so they are all valid where the whole is and each begins with a
// character's first byte.
func checkText[offset int32 | int64](places, values []byte, rows int, isText bool) error {
	if rows == 0 {
		return nil
	}
	offsets := unsafe.Slice((*offset)(unsafe.Pointer(unsafe.SliceData(places))), len(places)/int(unsafe.Sizeof(offset(0))))
	if len(offsets) < rows+1 {
		return fmt.Errorf("%d offsets for %d rows", len(offsets), rows)
	}
	last := offsets[0]
	if last < 0 {
		return fmt.Errorf("the first offset is negative: %d", last)
	}
	for i, o := range offsets[1 : rows+1] {
		if o < last {
			return fmt.Errorf("offsets are not monotonically rising at row %d: %d < %d", i, o, last)
		}
		last = o
	}
	if int64(last) > int64(len(values)) {
		return fmt.Errorf("the last offset is out of bounds: %d of %d bytes", last, len(values))
	}
	if !isText {
		return nil
	}
	if whole := values[offsets[0]:last]; !utf8.Valid(whole) {
		return errors.New("text is not valid utf8")
	}
	for i, o := range offsets[1:rows] {
		if o < last && !utf8.RuneStart(values[o]) {
			return fmt.Errorf("text is not valid utf8: row %d begins within a character", i+1)
		}
	}
	return nil
}

// validity takes the next node and what says which of its rows are valid.
func (r *bodyReader) validity() (rows, nulls int, validity *memory.Buffer, err error) {
	rows, nulls, validity = r.common()
	if validity == nil {
		return rows, nulls, nil, nil
	}
	if validity.Len() < int(bitutil.BytesForBits(int64(rows))) {
		return 0, 0, nil, fmt.Errorf("%d bytes say which of %d rows are valid", validity.Len(), rows)
	}
	if have := rows - bitutil.CountSetBits(validity.Bytes(), 0, rows); have != nulls {
		return 0, 0, nil, fmt.Errorf("%d rows are NULL where %d should be", have, nulls)
	}
	return rows, nulls, validity, nil
}

// common takes the next node and its validity, which is not checked; nil where
// all are valid.
func (r *bodyReader) common() (rows, nulls int, validity *memory.Buffer) {
	node := r.parts.nodes[r.node]
	r.node++
	bits := r.next()
	if node.second != 0 {
		validity = r.own(bits)
	}
	return int(node.first), int(node.second), validity
}

// next gives the next buffer, where it lies.
func (r *bodyReader) next() []byte {
	at := r.parts.buffers[r.buffer]
	r.buffer++
	return r.body[at.first : at.first+at.second : at.first+at.second]
}

// own is a buffer that nobody changes.
func (r *bodyReader) own(b []byte) *memory.Buffer {
	if r.held != nil {
		b = bytes.Clone(b)
	}
	return memory.NewBufferBytes(b)
}

// copied takes an array of any type with all that is below it, which the caller
// checks and releases.
func (r *bodyReader) copied(t arrow.DataType) arrow.ArrayData {
	var children []arrow.ArrayData
	defer func() {
		for _, c := range children {
			c.Release()
		}
	}()
	rows, nulls, validity := r.common()
	buffers := []*memory.Buffer{validity}
	switch t := t.(type) {
	case *arrow.StringType, *arrow.LargeStringType, *arrow.BinaryType, *arrow.LargeBinaryType:
		buffers = append(buffers, r.own(r.next()), r.own(r.next()))
	case *arrow.ListType, *arrow.LargeListType, *arrow.MapType:
		buffers = append(buffers, r.own(r.next()))
		children = append(children, r.copied(t.(arrow.ListLikeType).Elem()))
	case *arrow.FixedSizeListType:
		children = append(children, r.copied(t.Elem()))
	case *arrow.StructType:
		for _, f := range t.Fields() {
			children = append(children, r.copied(f.Type))
		}
	default: // of a fixed width
		values := r.own(r.next())
		if rows == 0 {
			values = nil
		}
		buffers = append(buffers, values)
	}
	return array.NewData(t, rows, buffers, children, nulls, 0)
}

// split takes an encapsulated message apart.
func split(message []byte) (meta, body []byte, err error) {
	const prefix = 8 // the continuation marker and the metadata's length
	if len(message) < prefix || binary.LittleEndian.Uint32(message) != math.MaxUint32 {
		return nil, nil, malformed("no IPC message begins where one should")
	}
	n := int64(binary.LittleEndian.Uint32(message[4:]))
	if n%ipcAlignLeast != 0 || n > int64(len(message)-prefix) {
		return nil, nil, malformed("IPC metadata of %d bytes in a message of %d", n, len(message))
	}
	return message[prefix : prefix+n], message[prefix+n:], nil
}

// isAligned says whether b begins at a multiple of what Arrow's readers need.
func isAligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%ipcAlignLeast == 0
}

// moved is a copy of b that is aligned.
func moved(b []byte) []byte {
	// Go aligns memory of 8-byte words.
	words := make([]uint64, (len(b)+7)/8)
	to := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(b))
	copy(to, b)
	return to
}

// pieceReader reads a stream that is cut into pieces.
type pieceReader struct {
	pieces []piece
	// at is where the first piece goes on.
	at int
}

// done reports whether the stream is at its end; it drops pieces that are read.
func (r *pieceReader) done() bool {
	for len(r.pieces) > 0 && r.at == len(r.pieces[0].bytes) {
		r.pieces, r.at = r.pieces[1:], 0
	}
	return len(r.pieces) == 0
}

// take gives the next n bytes: a part of a piece, with the slot that it lies in,
// or a copy where they are spread over several.
func (r *pieceReader) take(n int) ([]byte, *hold, error) {
	if r.done() {
		return nil, nil, malformed("the data is cut off")
	}
	if end := r.at + n; end <= len(r.pieces[0].bytes) {
		taken := r.pieces[0].bytes[r.at:end:end]
		r.at = end
		return taken, r.pieces[0].held, nil
	}
	have := -r.at
	for _, p := range r.pieces {
		have += len(p.bytes)
	}
	if n > have {
		return nil, nil, malformed("the data is cut off: %d bytes of %d", have, n)
	}
	taken := make([]byte, 0, n)
	for len(taken) < n {
		rest := r.pieces[0].bytes[r.at:]
		part := min(n-len(taken), len(rest))
		taken = append(taken, rest[:part]...)
		r.at += part
		r.done()
	}
	return taken, nil, nil
}

func (r *pieceReader) varint() (int, error) {
	const bitsMax = 35 // enough for any element that can be
	n := 0
	for shift := 0; shift < bitsMax; shift += 7 {
		taken, _, err := r.take(1)
		if err != nil {
			return 0, err
		}
		b := taken[0]
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, malformed("the length of an element is longer than %d bits", bitsMax)
}
