package fnapi

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"
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
	meta := payload.Meta()
	defer meta.Release()
	return &element{payload, messageBytes(meta.Bytes())}, nil
}

// messageBytes is the size of the IPC message with such metadata, which are our
// own: a prefix of 8 bytes, the metadata on a multiple of 8 bytes, the body.
func messageBytes(meta []byte) int {
	const prefix = 8
	message := flatbuffers.Table{Bytes: meta, Pos: flatbuffers.GetUOffsetT(meta)}
	body := message.GetInt64Slot(messageBodyLength, 0)
	return (prefix+len(meta)+ipcAlignLeast-1)/ipcAlignLeast*ipcAlignLeast + int(body)
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
