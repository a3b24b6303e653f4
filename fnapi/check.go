package fnapi

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	flatbuffers "github.com/google/flatbuffers/go"
)

// layout is what the metadata of a record batch of a schema must contain. The
// metadata is checked before arrow-go reads it, because arrow-go allocates
// what some of its numbers say (counts of view buffers, of key-value pairs,
// sizes of compressed buffers), and memory that does not exist cannot be
// recovered from.
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

// check reports metadata that does not describe a plain record batch of the
// layout, in a body of bodyBytes.
func (l *layout) check(meta []byte, bodyBytes int) (err error) {
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
	if err := eachPair(&batch, field(&batch, batchNodes), l.nodes, func(rows, nulls int64) error {
		if rows < 0 || rows > rowsMax || nulls < 0 || nulls > rows {
			return malformed("an array of %d rows, %d of them NULL", rows, nulls)
		}
		return nil
	}); err != nil {
		return err
	}
	return eachPair(&batch, field(&batch, batchBuffers), l.buffers, func(offset, length int64) error {
		if offset < 0 || length < 0 || offset%ipcAlignLeast != 0 || offset > int64(bodyBytes) || length > int64(bodyBytes)-offset {
			return malformed("a buffer of %d bytes at %d in a body of %d", length, offset, bodyBytes)
		}
		return nil
	})
}

// eachPair calls visit for each element of a vector of pairs of int64.
func eachPair(t *flatbuffers.Table, at flatbuffers.UOffsetT, want int, visit func(a, b int64) error) error {
	have := 0
	if at != 0 {
		have = t.VectorLen(at)
	}
	if have != want {
		return malformed("an IPC message with %d parts where the schema has %d", have, want)
	}
	if have == 0 {
		return nil
	}
	pairs := t.Bytes[t.Vector(at):]
	for i := range have {
		pair := pairs[i*structBytes : (i+1)*structBytes]
		if err := visit(flatbuffers.GetInt64(pair), flatbuffers.GetInt64(pair[8:])); err != nil {
			return err
		}
	}
	return nil
}

// validate checks every array of a batch as a whole: buffers as long as the
// arrays need, offsets that rise within bounds, counts of NULLs, UTF-8.
func validate(batch arrow.RecordBatch) (err error) {
	// arrow-go's own checks index by offsets that they have not yet compared.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("offsets out of bounds: %v", p)
		}
	}()
	for i, column := range batch.Columns() {
		if column.DataType().ID() == arrow.NULL {
			continue // has no buffers, which arrow-go does not expect
		}
		if err := array.ValidateFull(column); err != nil {
			return fmt.Errorf("column %d (%s): %w", i, batch.ColumnName(i), err)
		}
	}
	return nil
}
