package ops

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/state"
)

// regroupedRowsMax is how many rows a batch has at most.
const regroupedRowsMax = 1 << 19

// Regroup brings the rows of some batches to their groups before an aggregate
// function makes partial states of them: many rows at a time, so that a group
// has few states, and by the same counting as a Collate. A worker is told the
// groups by the runs of the keys, which are run-end encoded, and has nothing
// to look for. Where a batch ends within a group, the group has two states.
type Regroup struct {
	// keys and columns are those of the input, schema is what is made of it:
	// the keys, then the columns.
	keys, columns []int
	schema        *arrow.Schema
	arguments     *arrow.Schema // of the columns
	bytesMax      int64
	allocator     memory.Allocator

	types []arrow.DataType
	codes []uint32
}

// NewRegroup makes a Regroup for an aggregate function's columns of the input,
// the first of which are its keys, whose schema is crossing. Its batches have
// about so many bytes at most. It is nil where there are no keys, or none that
// a hash can tell.
func NewRegroup(crossing *arrow.Schema, columns []int, keys int, bytesMax int64, allocator memory.Allocator) *Regroup {
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	r := &Regroup{keys: columns[:keys], columns: columns[keys:], bytesMax: bytesMax, allocator: allocator}
	fields := slices.Clone(crossing.Fields())
	for i := range keys {
		if !state.Keyable(fields[i].Type) {
			return nil
		}
		r.types = append(r.types, fields[i].Type)
		fields[i].Type = arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, fields[i].Type)
		fields[i].Nullable = false // of runs: their values may be NULL
	}
	if keys == 0 {
		return nil
	}
	r.schema, r.arguments = arrow.NewSchema(fields, nil), arrow.NewSchema(fields[keys:], nil)
	return r
}

// Schema is that of the batches that Join makes.
func (r *Regroup) Schema() *arrow.Schema { return r.schema }

// Join makes batches of the rows of others, which it does not take over, in the
// order of their groups; those of a group stay in their order.
func (r *Regroup) Join(ctx context.Context, batches []arrow.RecordBatch) ([]arrow.RecordBatch, error) {
	keys, err := r.number(batches)
	if err != nil || len(r.codes) == 0 {
		return nil, err
	}
	ends := r.places(keys.Len())
	bytes := int64(1)
	for _, batch := range batches {
		arguments := pick(batch, r.columns, r.arguments)
		bytes += exec.SliceBytes(arguments)
		arguments.Release()
	}
	order := newScatter(r.codes, min(regroupedRowsMax, r.bytesMax*int64(len(r.codes))/bytes), r.allocator)
	columns, err := order.columns(ctx, batches, r.columns)
	if err != nil {
		return nil, err
	}
	distinct := keys.Columns(r.allocator)
	defer exec.ReleaseColumns(distinct)
	return order.batches(r.schema, append(order.runs(distinct, ends), columns...)), nil
}

// number gives each row the number of its key. Keys are forgotten with their
// rows, so that they need no bound of their own.
func (r *Regroup) number(batches []arrow.RecordBatch) (*state.Keys, error) {
	rows := 0
	for _, batch := range batches {
		rows += int(batch.NumRows())
	}
	r.codes = slices.Grow(r.codes[:0], rows)[:rows]
	numbers, left := state.NewKeys(r.types), r.codes
	keys := make([]arrow.Array, len(r.keys))
	for _, batch := range batches {
		for i, k := range r.keys {
			keys[i] = batch.Column(k)
		}
		n := batch.NumRows()
		if err := numbers.Find(keys, left[:n]); err != nil {
			return nil, err
		}
		left = left[n:]
	}
	return numbers, nil
}

// places gives where the rows of each of so many keys end, and puts the place of
// each row where its number was.
func (r *Regroup) places(keys int) []int32 {
	next, ends := make([]uint32, keys), make([]int32, keys)
	for _, key := range r.codes {
		ends[key]++
	}
	end := int32(0)
	for key, rows := range ends {
		next[key], end = uint32(end), end+rows
		ends[key] = end
	}
	for row, key := range r.codes {
		r.codes[row] = next[key]
		next[key]++
	}
	return ends
}

// runs gives keys in pieces, each key for the rows up to its end.
func (s scatter) runs(keys []arrow.Array, ends []int32) [][]arrow.Array {
	columns := make([][]arrow.Array, len(keys))
	first := 0
	for i := 0; i<<s.shift < len(s.places); i++ {
		begin, rows := int32(i<<s.shift), int32(s.rowsOf(i))
		b := array.NewInt32Builder(s.allocator)
		last := first
		for ; ends[last]-begin < rows; last++ {
			b.Append(ends[last] - begin)
		}
		b.Append(rows)
		of := b.NewArray()
		b.Release()
		for k, column := range keys {
			values := array.NewSlice(column, int64(first), int64(last)+1)
			columns[k] = append(columns[k], array.NewRunEndEncodedArray(of, values, int(rows), 0))
			values.Release()
		}
		of.Release()
		if first = last; ends[last]-begin == rows {
			first++
		}
	}
	return columns
}
