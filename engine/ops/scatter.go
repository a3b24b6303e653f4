package ops

import (
	"context"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// scatter brings rows to their places by writing each value where it belongs,
// in pieces of 1<<shift rows. Rows are read once, one behind the other; of the
// places as many are written to in turns as there are groups, whose lines stay
// in the processor's cache.
type scatter struct {
	// places are those of all rows, each once.
	places    []uint32
	shift     uint
	allocator memory.Allocator
}

// newScatter makes one with pieces of up to so many rows.
func newScatter(places []uint32, pieceRows int64, allocator memory.Allocator) scatter {
	return scatter{places, uint(bits.Len64(uint64(max(1, pieceRows))) - 1), allocator}
}

// columns gives some columns (nil: all) of batches in pieces, which the caller
// releases.
func (s scatter) columns(ctx context.Context, batches []arrow.RecordBatch, which []int) ([][]arrow.Array, error) {
	if which == nil {
		for i := range int(batches[0].NumCols()) {
			which = append(which, i)
		}
	}
	var columns [][]arrow.Array
	var rows []int64
	parts := make([]arrow.Array, len(batches))
	for _, c := range which {
		for k, batch := range batches {
			parts[k] = batch.Column(c)
		}
		if width := scatterWidth(parts[0].DataType()); width > 0 {
			columns = append(columns, s.column(parts, width))
			continue
		}
		if rows == nil {
			rows = s.rows()
		}
		pieces, err := s.taken(ctx, parts, rows)
		if err != nil {
			releasePieces(columns)
			return nil, err
		}
		columns = append(columns, pieces)
	}
	return columns, nil
}

// batches makes batches of columns in pieces, which it takes over.
func (s scatter) batches(schema *arrow.Schema, columns [][]arrow.Array) (batches []arrow.RecordBatch) {
	defer releasePieces(columns)
	for i := 0; i<<s.shift < len(s.places); i++ {
		pieces := make([]arrow.Array, len(columns))
		for k := range columns {
			pieces[k] = columns[k][i]
		}
		batches = append(batches, array.NewRecordBatch(schema, pieces, int64(s.rowsOf(i))))
	}
	return batches
}

// rowsOf is the number of rows of a piece.
func (s scatter) rowsOf(piece int) int { return min(1<<s.shift, len(s.places)-piece<<s.shift) }

func releasePieces(columns [][]arrow.Array) {
	for _, pieces := range columns {
		exec.ReleaseColumns(pieces)
	}
}

// taken is column for values of any type; rows are those of all places.
func (s scatter) taken(ctx context.Context, parts []arrow.Array, rows []int64) ([]arrow.Array, error) {
	whole, err := array.Concatenate(parts, s.allocator)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	var pieces []arrow.Array
	for some := range slices.Chunk(rows, 1<<s.shift) {
		piece, err := takeColumns(ctx, []arrow.Array{whole}, some, s.allocator)
		if err != nil {
			exec.ReleaseColumns(pieces)
			return nil, err
		}
		pieces = append(pieces, piece...)
	}
	return pieces, nil
}

// takeColumns gives rows of columns; the caller releases them.
func takeColumns(ctx context.Context, columns []arrow.Array, rows []int64, allocator memory.Allocator) ([]arrow.Array, error) {
	b := array.NewInt64Builder(allocator)
	defer b.Release()
	b.AppendValues(rows, nil)
	indices := b.NewArray()
	defer indices.Release()
	ctx = compute.WithAllocator(ctx, allocator)
	taken := make([]arrow.Array, 0, len(columns))
	for _, column := range columns {
		some, err := takeRows(ctx, column, indices)
		if err != nil {
			exec.ReleaseColumns(taken)
			return nil, err
		}
		taken = append(taken, some)
	}
	return taken, nil
}

// scatterWidth is the number of bytes of each value of a type whose values can
// be scattered: those of a fixed width that nothing else belongs to. 0 is none.
func scatterWidth(t arrow.DataType) int {
	if t.ID() == arrow.EXTENSION {
		return 0
	}
	layout := t.Layout()
	if layout.HasDict || len(layout.Buffers) != 2 || layout.Buffers[1].Kind != arrow.KindFixedWidth {
		return 0
	}
	if _, ok := t.(arrow.NestedType); ok {
		return 0
	}
	switch width := layout.Buffers[1].ByteWidth; width {
	case 1, 2, 4, 8, 16:
		return width
	}
	return 0
}

// column gives the values of a column, which comes in parts, in pieces; the
// caller releases them.
func (s scatter) column(parts []arrow.Array, width int) []arrow.Array {
	nulls := slices.ContainsFunc(parts, func(part arrow.Array) bool { return part.NullN() > 0 })
	var values, valid []*memory.Buffer
	for i := 0; i<<s.shift < len(s.places); i++ {
		n := s.rowsOf(i)
		values = append(values, s.buffer(n*width))
		if nulls {
			bitmap := s.buffer(int(bitutil.BytesForBits(int64(n))))
			clear(bitmap.Bytes())
			valid = append(valid, bitmap)
		} else {
			valid = append(valid, nil)
		}
	}
	defer func() {
		for i := range values {
			values[i].Release()
			if nulls {
				valid[i].Release()
			}
		}
	}()
	switch width {
	case 1:
		scatterValues[uint8](s, parts, values)
	case 2:
		scatterValues[uint16](s, parts, values)
	case 4:
		scatterValues[uint32](s, parts, values)
	case 8:
		scatterValues[uint64](s, parts, values)
	case 16:
		scatterValues[arrow.MonthDayNanoInterval](s, parts, values)
	}
	if nulls {
		s.validity(parts, valid)
	}
	pieces := make([]arrow.Array, len(values))
	for i := range values {
		unknown := 0
		if nulls {
			unknown = array.UnknownNullCount
		}
		data := array.NewData(parts[0].DataType(), values[i].Len()/width, []*memory.Buffer{valid[i], values[i]}, nil, unknown, 0)
		pieces[i] = array.MakeFromData(data)
		data.Release()
	}
	return pieces
}

// rows are the rows in the order of their places.
func (s scatter) rows() []int64 {
	rows := make([]int64, len(s.places))
	for row, place := range s.places {
		rows[place] = int64(row)
	}
	return rows
}

func (s scatter) buffer(bytes int) *memory.Buffer {
	b := memory.NewResizableBuffer(s.allocator)
	b.Resize(bytes)
	return b
}

func scatterValues[T arrow.FixedWidthType](s scatter, parts []arrow.Array, pieces []*memory.Buffer) {
	out := make([][]T, len(pieces))
	for i, piece := range pieces {
		out[i] = arrow.GetData[T](piece.Bytes())
	}
	places, shift, mask := s.places, s.shift, uint32(1)<<s.shift-1
	for _, part := range parts {
		n := part.Len()
		if n == 0 {
			continue
		}
		values := arrow.GetData[T](part.Data().Buffers()[1].Bytes())[part.Data().Offset():]
		for i, place := range places[:n] {
			out[place>>shift][place&mask] = values[i]
		}
		places = places[n:]
	}
}

// validity sets the bits of the rows that are not NULL.
func (s scatter) validity(parts []arrow.Array, pieces []*memory.Buffer) {
	places, mask := s.places, uint32(1)<<s.shift-1
	for _, part := range parts {
		for i, place := range places[:part.Len()] {
			if part.IsValid(i) {
				bitutil.SetBit(pieces[place>>s.shift].Bytes(), int(place&mask))
			}
		}
		places = places[part.Len():]
	}
}
