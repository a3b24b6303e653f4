package fnapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// An element on the data stream is a windowed value of the Arrow coder:
//
//	8 bytes  event time, big endian, shifted so that bytes compare as times do
//	4 bytes  number of windows: one, the global window, which has no bytes
//	1 byte   pane: the only one, first and last, on time unknown
//	varint   n
//	n bytes  1 byte p, p zero bytes, one encapsulated Arrow IPC record batch
//	         without dictionaries or compression; the schema is in the
//	         bundle's descriptor
//
// p puts the IPC message at a multiple of ipcAlign from the start of the
// serialized gRPC message, so that Python can use the bytes where they are.
const (
	elementHeaderBytes = 13
	ipcAlign           = 64
	// ipcAlignLeast is what Arrow's own readers need.
	ipcAlignLeast = 8
)

// globalHeader is the header of every element: the earliest time there is, in
// milliseconds, the global window, the pane without information.
var globalHeader = func() (h [elementHeaderBytes]byte) {
	timeMin := int64(math.MinInt64 / 1000)
	binary.BigEndian.PutUint64(h[:], uint64(timeMin-math.MinInt64))
	binary.BigEndian.PutUint32(h[8:], 1)
	h[12] = 0x0F
	return h
}()

// pieceBytesMax is how much of a logical byte stream one Data message carries;
// gRPC's messages are bounded, and smaller ones let control messages through.
const pieceBytesMax = 16 << 20

// element is a batch on its way to the data stream.
type element struct {
	payload ipc.Payload
	// messageBytes is the size of the IPC message.
	messageBytes int
}

// newElement does not take batch over. The caller releases the element.
func newElement(batch arrow.RecordBatch) (*element, error) {
	payload, err := ipc.GetRecordBatchPayload(batch)
	if err != nil {
		return nil, err
	}
	e := &element{payload: payload}
	var size countWriter
	if _, err := payload.WritePayload(&size); err != nil {
		payload.Release()
		return nil, err
	}
	e.messageBytes = int(size)
	return e, nil
}

func (e *element) release() { e.payload.Release() }

// bytes is the element's size with the padding that pad gives for a message of
// its size.
func (e *element) bytes(pad func(size int) int) int {
	n := 1 + pad(e.messageBytes) + e.messageBytes
	return elementHeaderBytes + varintBytes(n) + n
}

// write appends the element to b, which grows where it has no room.
func (e *element) write(b []byte, pad func(size int) int) ([]byte, error) {
	padding := pad(e.messageBytes)
	n := 1 + padding + e.messageBytes
	out := &sliceWriter{slices.Grow(b, elementHeaderBytes+varintBytes(n)+n)}
	out.b = append(out.b, globalHeader[:]...)
	out.b = binary.AppendUvarint(out.b, uint64(n))
	out.b = append(out.b, byte(padding))
	out.b = append(out.b, zeros[:padding]...)
	if _, err := e.payload.WritePayload(out); err != nil {
		return nil, err
	}
	return out.b, nil
}

var zeros [ipcAlign]byte

// encodeBatch writes a batch as an element; where names what the Data message
// says beside the bytes, which decides the alignment. It does not take batch
// over.
func encodeBatch(batch arrow.RecordBatch, where dataNames) ([]byte, error) {
	e, err := newElement(batch)
	if err != nil {
		return nil, err
	}
	defer e.release()
	return e.write(nil, where.pad)
}

type countWriter int

func (w *countWriter) Write(p []byte) (int, error) {
	*w += countWriter(len(p))
	return len(p), nil
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// dataNames are the identifiers in a Data message.
type dataNames struct{ instruction, transform string }

// pad is the padding before an IPC message of size bytes.
func (d dataNames) pad(size int) int {
	// The lengths in front of the data depend on the padding, though hardly
	// ever; the first try nearly always fits.
	pad := (ipcAlign - d.ipcAt(0, size)%ipcAlign) % ipcAlign
	for range ipcAlign {
		at := d.ipcAt(pad, size)
		if at%ipcAlign == 0 {
			return pad
		}
		pad = (pad + ipcAlign - at%ipcAlign) % ipcAlign
	}
	return (ipcAlignLeast - d.ipcAt(0, size)%ipcAlignLeast) % ipcAlignLeast
}

// ipcAt is where the IPC message begins in Elements{data: Data{instruction_id,
// transform_id, data, is_last}} as it is serialized. The reader never relies
// on it.
func (d dataNames) ipcAt(pad, size int) int {
	n := 1 + pad + size
	element := elementHeaderBytes + varintBytes(n) + n
	piece := min(element, pieceBytesMax)
	names := 1 + varintBytes(len(d.instruction)) + len(d.instruction) + 1 + varintBytes(len(d.transform)) + len(d.transform)
	data := names + 1 + varintBytes(piece) + piece
	if piece == element {
		data += 2 // is_last, as a bundle's only element nearly always is
	}
	return 1 + varintBytes(data) + names + 1 + varintBytes(piece) + element - size
}

func varintBytes(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// encodeSchema writes a schema as an encapsulated IPC message.
func encodeSchema(schema *arrow.Schema) ([]byte, error) {
	payload := ipc.GetSchemaPayload(schema, memory.DefaultAllocator)
	defer payload.Release()
	var out bytes.Buffer
	_, err := payload.WritePayload(&out)
	return out.Bytes(), err
}

// decoder reads elements of one schema. A worker is not trusted: what it sends
// is checked before it is used. It is not safe for concurrent use.
type decoder struct {
	schema *arrow.Schema
	layout layout
	reader *ipc.Reader
	feed   messageFeed
}

func newDecoder(schema *arrow.Schema) (*decoder, error) {
	d := &decoder{schema: schema}
	return d, d.layout.add(schema.Fields())
}

// errMalformed is in the chain of errors about bytes that are not what they
// should be.
var errMalformed = errors.New("the worker's answer is malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// decode reads all elements of a stream, which is cut into pieces. The caller
// releases the batches; they refer to the pieces where they can.
func (d *decoder) decode(pieces [][]byte) ([]arrow.RecordBatch, error) {
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

func (d *decoder) next(stream *pieceReader) (arrow.RecordBatch, error) {
	header, err := stream.take(elementHeaderBytes)
	if err != nil {
		return nil, err
	}
	if windows := binary.BigEndian.Uint32(header[8:]); windows != 1 || header[12] != globalHeader[12] {
		return nil, malformed("an element has %d windows and pane %#x", windows, header[12])
	}
	n, err := stream.varint()
	if err != nil {
		return nil, err
	}
	element, err := stream.take(n)
	if err != nil {
		return nil, err
	}
	if len(element) == 0 || len(element) < 1+int(element[0]) {
		return nil, malformed("an element of %d bytes has no record batch", len(element))
	}
	return d.message(aligned(element[1+element[0]:]))
}

// message reads one encapsulated IPC message.
func (d *decoder) message(message []byte) (batch arrow.RecordBatch, err error) {
	meta, body, err := split(message)
	if err != nil {
		return nil, err
	}
	if err := d.layout.check(meta, len(body)); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			batch, err = nil, malformed("%v", p)
		}
		if err != nil && d.reader != nil {
			d.reader.Release() // it remembers its error
			d.reader = nil
		}
	}()
	if d.reader == nil {
		if d.reader, err = d.newReader(); err != nil {
			return nil, err
		}
	}
	d.feed.message = ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(body))
	read, err := d.reader.Read()
	if err != nil {
		return nil, malformed("%v", err)
	}
	if err := validate(read); err != nil {
		return nil, malformed("%v", err)
	}
	// The reader releases its batch at the next Read, and its schema is a copy.
	return array.NewRecordBatch(d.schema, read.Columns(), read.NumRows()), nil
}

func (d *decoder) newReader() (*ipc.Reader, error) {
	payload := ipc.GetSchemaPayload(d.schema, memory.DefaultAllocator)
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	message := ipc.NewMessage(meta, memory.NewBufferBytes(nil))
	defer message.Release()
	d.feed.message = message
	return ipc.NewReaderFromMessageReader(&d.feed)
}

// close releases what the decoder holds; batches stay as they are.
func (d *decoder) close() {
	if d.reader != nil {
		d.reader.Release()
		d.reader = nil
	}
}

// messageFeed hands one message after the other to an ipc.Reader.
type messageFeed struct{ message *ipc.Message }

func (f *messageFeed) Message() (*ipc.Message, error) { return f.message, nil }
func (f *messageFeed) Retain()                        {}
func (f *messageFeed) Release()                       {}

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

// aligned is b itself, or a copy where it does not begin at a multiple of what
// Arrow's readers need.
func aligned(b []byte) []byte {
	if len(b) == 0 || uintptr(unsafe.Pointer(&b[0]))%ipcAlignLeast == 0 {
		return b
	}
	// Go aligns memory of 8-byte words.
	words := make([]uint64, (len(b)+7)/8)
	moved := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(moved, b)
	return moved
}

// pieceReader reads a stream that is cut into pieces.
type pieceReader struct {
	pieces [][]byte
}

// done reports whether the stream is at its end; it drops empty pieces.
func (r *pieceReader) done() bool {
	for len(r.pieces) > 0 && len(r.pieces[0]) == 0 {
		r.pieces = r.pieces[1:]
	}
	return len(r.pieces) == 0
}

// take gives the next n bytes: a part of a piece, or a copy where they are
// spread over several.
func (r *pieceReader) take(n int) ([]byte, error) {
	if r.done() {
		return nil, malformed("the data is cut off")
	}
	if n <= len(r.pieces[0]) {
		taken := r.pieces[0][:n:n]
		r.pieces[0] = r.pieces[0][n:]
		return taken, nil
	}
	have := 0
	for _, piece := range r.pieces {
		have += len(piece)
	}
	if n > have {
		return nil, malformed("the data is cut off: %d bytes of %d", have, n)
	}
	taken := make([]byte, 0, n)
	for len(taken) < n {
		part := min(n-len(taken), len(r.pieces[0]))
		taken = append(taken, r.pieces[0][:part]...)
		r.pieces[0] = r.pieces[0][part:]
		r.done()
	}
	return taken, nil
}

func (r *pieceReader) varint() (int, error) {
	const bitsMax = 35 // enough for any element that can be
	n := 0
	for shift := 0; shift < bitsMax; shift += 7 {
		b, err := r.take(1)
		if err != nil {
			return 0, err
		}
		n |= int(b[0]&0x7F) << shift
		if b[0] < 0x80 {
			return n, nil
		}
	}
	return 0, malformed("the length of an element is longer than %d bits", bitsMax)
}
