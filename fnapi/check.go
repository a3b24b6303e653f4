package fnapi

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	flatbuffers "github.com/google/flatbuffers/go"
)

// layout is what the metadata of a record batch of a schema must contain. They
// are read here and not by arrow-go, which allocates what some of their numbers
// say (counts of view buffers, of key-value pairs, sizes of compressed buffers),
// and memory that does not exist cannot be recovered from.
type layout struct {
	// nodes and buffers are the numbers of field nodes and of buffers.
	nodes, buffers int
}

// add counts fields and what is below them. An error names a column that
// cannot come from a worker.
func (l *layout) add(fields []arrow.Field) error {
	for _, f := range fields {
		if err := l.addType(f.Type); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return nil
}

func (l *layout) addType(t arrow.DataType) error {
	l.nodes++
	switch t := t.(type) {
	case *arrow.NullType:
		return nil
	case *arrow.StringType, *arrow.LargeStringType, *arrow.BinaryType, *arrow.LargeBinaryType:
		l.buffers += 3
		return nil
	case *arrow.ListType, *arrow.LargeListType, *arrow.MapType:
		l.buffers += 2
		return l.addNested(t.(arrow.NestedType).Fields())
	case *arrow.StructType, *arrow.FixedSizeListType:
		l.buffers++
		return l.addNested(t.(arrow.NestedType).Fields())
	case *arrow.FixedSizeBinaryType:
		l.buffers += 2
		return nil
	case *arrow.DictionaryType, arrow.ExtensionType:
		return fmt.Errorf("type %s is not carried between engine and worker", t)
	case arrow.FixedWidthDataType:
		l.buffers += 2
		return nil
	}
	return fmt.Errorf("type %s is not carried between engine and worker", t)
}

// addNested counts what is below a nested type. arrow-go cannot check NULLs
// without a type there.
func (l *layout) addNested(fields []arrow.Field) error {
	for _, f := range fields {
		if f.Type.ID() == arrow.NULL {
			return fmt.Errorf("type null within another is not carried between engine and worker")
		}
	}
	return l.add(fields)
}

// hasDictionary reports whether t is dictionary-encoded anywhere.
func hasDictionary(t arrow.DataType) bool {
	if t.ID() == arrow.DICTIONARY {
		return true
	}
	if nested, ok := t.(arrow.NestedType); ok {
		for _, f := range nested.Fields() {
			if hasDictionary(f.Type) {
				return true
			}
		}
	}
	return false
}

// Slots of the tables in Arrow's Message.fbs, and values of their enums.
const (
	messageVersion    = 4
	messageHeaderType = 6
	messageHeader     = 8
	messageBodyLength = 10
	messageMetadata   = 12

	batchLength      = 4
	batchNodes       = 6
	batchBuffers     = 8
	batchCompression = 10

	metadataV5        = 4
	headerRecordBatch = 3
	// structBytes is the size of a FieldNode and of a Buffer: two int64.
	structBytes = 16
)

// rowsMax bounds the length of every array in a message: Arrow's own
// recommendation, and small enough that sums do not overflow.
const rowsMax = math.MaxInt32

// pair is a FieldNode, rows and those of them that are NULL, or a Buffer, where
// it begins in the body and how long it is.
type pair struct{ first, second int64 }

// parts is what the metadata of a record batch says.
type parts struct {
	rows           int64
	nodes, buffers []pair
}

// read reads metadata, and reports what does not describe a plain record batch
// of the layout, in a body of bodyBytes.
func (l *layout) read(meta []byte, bodyBytes int, to *parts) (err error) {
	// The generated accessors index the bytes they are given; what points
	// outside panics.
	defer func() {
		if p := recover(); p != nil {
			err = malformed("IPC metadata: %v", p)
		}
	}()
	message := flatbuffers.Table{Bytes: meta, Pos: flatbuffers.GetUOffsetT(meta)}
	field := func(t *flatbuffers.Table, slot flatbuffers.VOffsetT) flatbuffers.UOffsetT {
		return flatbuffers.UOffsetT(t.Offset(slot))
	}
	version, kind, length := int16(0), byte(0), int64(0)
	if o := field(&message, messageVersion); o != 0 {
		version = message.GetInt16(o + message.Pos)
	}
	if o := field(&message, messageHeaderType); o != 0 {
		kind = message.GetByte(o + message.Pos)
	}
	if o := field(&message, messageBodyLength); o != 0 {
		length = message.GetInt64(o + message.Pos)
	}
	header := field(&message, messageHeader)
	switch {
	case version != metadataV5 || kind != headerRecordBatch || header == 0:
		return malformed("an IPC message of version %d and kind %d", version, kind)
	case length != int64(bodyBytes):
		return malformed("an IPC body of %d bytes that should have %d", bodyBytes, length)
	case field(&message, messageMetadata) != 0:
		return malformed("an IPC message with metadata of its own")
	}
	var batch flatbuffers.Table
	message.Union(&batch, header)
	if field(&batch, batchCompression) != 0 {
		return malformed("a compressed IPC message")
	}
	to.rows = 0
	if o := field(&batch, batchLength); o != 0 {
		to.rows = batch.GetInt64(o + batch.Pos)
	}
	if to.rows < 0 || to.rows > rowsMax {
		return malformed("a batch of %d rows", to.rows)
	}
	if to.nodes, err = pairs(&batch, field(&batch, batchNodes), l.nodes, to.nodes[:0]); err != nil {
		return err
	}
	for _, n := range to.nodes {
		if rows, nulls := n.first, n.second; rows < 0 || rows > rowsMax || nulls < 0 || nulls > rows {
			return malformed("an array of %d rows, %d of them NULL", rows, nulls)
		}
	}
	if to.buffers, err = pairs(&batch, field(&batch, batchBuffers), l.buffers, to.buffers[:0]); err != nil {
		return err
	}
	for _, b := range to.buffers {
		if offset, length := b.first, b.second; offset < 0 || length < 0 || offset%ipcAlignLeast != 0 || offset > int64(bodyBytes) || length > int64(bodyBytes)-offset {
			return malformed("a buffer of %d bytes at %d in a body of %d", length, offset, bodyBytes)
		}
	}
	return nil
}

// pairs appends the elements of a vector of pairs of int64 to to.
func pairs(t *flatbuffers.Table, at flatbuffers.UOffsetT, want int, to []pair) ([]pair, error) {
	have := 0
	if at != 0 {
		have = t.VectorLen(at)
	}
	if have != want {
		return to, malformed("an IPC message with %d parts where the schema has %d", have, want)
	}
	if have == 0 {
		return to, nil
	}
	vector := t.Bytes[t.Vector(at):]
	for i := range have {
		one := vector[i*structBytes : (i+1)*structBytes]
		to = append(to, pair{flatbuffers.GetInt64(one), flatbuffers.GetInt64(one[8:])})
	}
	return to, nil
}
