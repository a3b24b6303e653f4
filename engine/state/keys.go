package state

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Keys numbers the distinct keys of a table from 0 on, in the order in which
// they come. Keys are equal as Hash says.
type Keys struct {
	types  []arrow.DataType
	batch  []*bound
	groups *groups
	hashes []uint64
	short  shortTexts
}

// NewKeys makes an empty one for keys of Keyable types, one or more.
func NewKeys(types []arrow.DataType) *Keys {
	k := &Keys{types: types}
	for range types {
		k.batch = append(k.batch, &bound{})
	}
	k.groups = newGroups(types, k.batch)
	return k
}

// Len is the number of keys so far.
func (k *Keys) Len() int { return k.groups.len() }

// Find puts the number of each row's key into out, whose length is the number
// of rows.
func (k *Keys) Find(columns []arrow.Array, out []uint32) error {
	for i, column := range columns {
		k.batch[i].set(column)
	}
	if texts, ok := columns[0].(*array.String); ok && len(columns) == 1 && texts.NullN() == 0 {
		k.findTexts(texts, out)
		return nil
	}
	if cap(k.hashes) < len(out) {
		k.hashes = make([]uint64, len(out))
	}
	hashes := k.hashes[:len(out)]
	if err := Hash(columns, hashes); err != nil {
		return err
	}
	k.groups.find(hashes, nil, out)
	return nil
}

// Columns gives the keys in the order of their numbers; the caller releases the
// columns. Of numbers that are equal one form is given: 0.0, and one NaN.
func (k *Keys) Columns(allocator memory.Allocator) []arrow.Array {
	columns := make([]arrow.Array, len(k.types))
	for i, t := range k.types {
		b := array.NewBuilder(allocator, t)
		k.groups.columns[i].appendTo(b)
		columns[i] = b.NewArray()
		b.Release()
	}
	return columns
}
