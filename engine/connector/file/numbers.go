package file

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// numbers reads a column whose values are the same bytes in Parquet and in
// Arrow. The library finds, decrypts and decompresses its pages; what is in them
// is put here at its place in the batch, in memory of just the size of that.
type numbers struct {
	file     *parquetFile
	leaf     int
	dataType arrow.DataType
	width    int  // bytes of a value
	nullable bool // there are levels, which tell what is NULL

	// left are the rows of the file that are still to be read, group is the row
	// group at hand, groupLeft the rows of it that no page has brought yet.
	left, groupLeft int64
	group           int
	pages           parquetfile.PageReader // of the group; nil: none
	dictionary      []byte                 // of the group; nil: none
	page            numberPage
}

// numberPage is what is still to be read of a page: its values are plain or, where
// indexed is set, places in the dictionary.
type numberPage struct {
	rows    int
	levels  runs
	indexed bool
	indices runs
	plain   []byte
}

// numbersOf makes a reader of the column, which is the field of a schema; nil
// where the library has to read it: because its values are converted, it is
// nested, or some row group has it in an encoding that is not known here.
func (f *parquetFile) numbersOf(root int) *numbers {
	t := f.raw.Field(root).Type
	meta := f.file.MetaData()
	node, ok := meta.Schema.Root().Field(root).(*schema.PrimitiveNode)
	if !ok || !sameBytes(node.PhysicalType(), t) {
		return nil
	}
	leaf := f.leavesOf([]int{root})[0]
	column := meta.Schema.Column(leaf)
	if column.MaxRepetitionLevel() > 0 || column.MaxDefinitionLevel() > 1 {
		return nil
	}
	for _, group := range meta.RowGroups {
		chunk := group.Columns[leaf].MetaData
		if chunk == nil { // encrypted
			return nil
		}
		for _, encoding := range chunk.Encodings {
			switch parquet.Encoding(encoding) {
			case parquet.Encodings.Plain, parquet.Encodings.PlainDict, parquet.Encodings.RLEDict, parquet.Encodings.RLE:
			default:
				return nil
			}
		}
	}
	return &numbers{
		file: f, leaf: leaf, dataType: t, width: t.(arrow.FixedWidthDataType).Bytes(), nullable: column.MaxDefinitionLevel() == 1,
		left: f.file.NumRows(), group: -1,
	}
}

// sameBytes reports whether the values of a type lie in Parquet as in Arrow.
func sameBytes(physical parquet.Type, t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT32, arrow.UINT32, arrow.DATE32, arrow.TIME32:
		return physical == parquet.Types.Int32
	case arrow.INT64, arrow.UINT64, arrow.TIME64:
		return physical == parquet.Types.Int64
	case arrow.TIMESTAMP:
		return physical == parquet.Types.Int64 && t.(*arrow.TimestampType).Unit != arrow.Second // Parquet has no seconds
	case arrow.FLOAT32:
		return physical == parquet.Types.Float
	case arrow.FLOAT64:
		return physical == parquet.Types.Double
	}
	return false
}

// next implements columnReader.
func (n *numbers) next() (_ arrow.Array, err error) {
	rows := int(min(n.left, readRowsMax))
	if rows == 0 {
		return nil, nil
	}
	part := &numberPart{rows: rows, width: n.width, memory: n.file.memory, values: memory.NewResizableBuffer(n.file.memory)}
	defer part.release()
	part.values.Resize(rows * n.width)
	for part.done < rows {
		for n.page.rows == 0 {
			if err := n.turn(); err != nil {
				return nil, err
			}
		}
		if err := part.fill(&n.page, min(rows-part.done, n.page.rows), n.dictionary); err != nil {
			return nil, err
		}
	}
	n.left -= int64(rows)
	data := array.NewData(n.dataType, rows, []*memory.Buffer{part.validity, part.values}, nil, part.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// turn goes to the next page, and at the end of a row group to the next one.
func (n *numbers) turn() error {
	if n.groupLeft == 0 {
		return n.turnGroup()
	}
	if !n.pages.Next() {
		if err := n.pages.Err(); err != nil {
			return err
		}
		return fmt.Errorf("row group %d lacks %d rows of a column", n.group+1, n.groupLeft)
	}
	switch page := n.pages.Page().(type) {
	case *parquetfile.DictionaryPage:
		if n.dictionary != nil {
			return errors.New("a row group has two dictionaries of a column")
		}
		if need := int(page.NumValues()) * n.width; len(page.Data()) < need {
			return fmt.Errorf("a dictionary has %d bytes, and should have %d", len(page.Data()), need)
		}
		n.dictionary = page.Data()[:int(page.NumValues())*n.width] // the reader of the pages keeps it
		return nil
	case *parquetfile.DataPageV1:
		levels, values, err := n.divideV1(page)
		if err != nil {
			return err
		}
		return n.begin(page, levels, values)
	case *parquetfile.DataPageV2:
		data, before := page.Data(), int(page.RepetitionLevelByteLen())
		end := before + int(page.DefinitionLevelByteLen())
		if end > len(data) {
			return errors.New("a page is shorter than its levels")
		}
		return n.begin(page, data[before:end], data[end:])
	}
	return nil // not one with values
}

// divideV1 tells the levels of a page from its values.
func (n *numbers) divideV1(page *parquetfile.DataPageV1) (levels, values []byte, err error) {
	data := page.Data()
	if !n.nullable {
		return nil, data, nil
	}
	const lengthBytes = 4
	if page.DefinitionLevelEncoding() != parquet.Encodings.RLE {
		return nil, nil, fmt.Errorf("levels are written as %s, which the column is not said to have", page.DefinitionLevelEncoding())
	}
	if len(data) < lengthBytes || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-lengthBytes) {
		return nil, nil, errors.New("a page is shorter than its levels")
	}
	end := lengthBytes + int(binary.LittleEndian.Uint32(data))
	return data[lengthBytes:end], data[end:], nil
}

// begin makes a page the one at hand.
func (n *numbers) begin(page parquetfile.DataPage, levels, values []byte) error {
	rows := int64(page.NumValues())
	if rows > n.groupLeft {
		return fmt.Errorf("row group %d has more rows of a column than it is said to have", n.group+1)
	}
	n.groupLeft -= rows
	n.page = numberPage{rows: int(rows)}
	if n.nullable {
		n.page.levels = runs{rest: levels, width: 1}
	}
	switch encoding := parquet.Encoding(page.Encoding()); encoding {
	case parquet.Encodings.Plain:
		n.page.plain = values
	case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
		n.page.indexed = true
		if len(values) == 0 { // all rows are NULL
			return nil
		}
		if values[0] > indexBitsMax {
			return fmt.Errorf("places in a dictionary have %d bits", values[0])
		}
		n.page.indices = runs{rest: values[1:], width: int(values[0])}
	default:
		return fmt.Errorf("a page is written as %s, which the column is not said to have", encoding)
	}
	return nil
}

// turnGroup goes to the next row group.
func (n *numbers) turnGroup() error {
	n.release()
	if n.group++; n.group == n.file.file.NumRowGroups() {
		return fmt.Errorf("the row groups have %d rows less than the file is said to have", n.left)
	}
	group := n.file.file.RowGroup(n.group)
	chunk, err := group.MetaData().ColumnChunk(n.leaf)
	if err != nil {
		return err
	}
	if chunk.NumValues() != group.NumRows() {
		return fmt.Errorf("row group %d has %d rows, but %d of a column", n.group+1, group.NumRows(), chunk.NumValues())
	}
	n.groupLeft = group.NumRows()
	n.pages, err = group.GetColumnPageReader(n.leaf)
	return err
}

// release implements columnReader.
func (n *numbers) release() {
	n.page, n.dictionary = numberPage{}, nil
	if n.pages != nil {
		_ = n.pages.Close() // only read
		n.pages = nil
	}
}

// numberPart is a batch of a column that is being read.
type numberPart struct {
	rows, done int
	width      int
	memory     memory.Allocator
	values     *memory.Buffer
	validity   *memory.Buffer // nil as long as nothing is NULL
	nulls      int
}

// release gives up the memory, which whoever has got it keeps.
func (p *numberPart) release() {
	p.values.Release()
	if p.validity != nil {
		p.validity.Release()
	}
}

// fill reads the next rows of a page.
func (p *numberPart) fill(page *numberPage, rows int, dictionary []byte) error {
	nulls := 0
	if page.levels.width > 0 {
		var err error
		if nulls, err = p.readLevels(&page.levels, rows); err != nil {
			return err
		}
	}
	out := p.values.Bytes()[p.done*p.width : (p.done+rows)*p.width]
	present := out[:(rows-nulls)*p.width]
	switch {
	case !page.indexed:
		if len(page.plain) < len(present) {
			return errors.New("a page has fewer values than rows")
		}
		copy(present, page.plain)
		page.plain = page.plain[len(present):]
	case p.width == arrow.Uint64SizeBytes:
		if err := lookUp(arrow.Uint64Traits.CastFromBytes(present), arrow.Uint64Traits.CastFromBytes(dictionary), &page.indices); err != nil {
			return err
		}
	default:
		if err := lookUp(arrow.Uint32Traits.CastFromBytes(present), arrow.Uint32Traits.CastFromBytes(dictionary), &page.indices); err != nil {
			return err
		}
	}
	if nulls > 0 {
		if p.width == arrow.Uint64SizeBytes {
			spread(arrow.Uint64Traits.CastFromBytes(out), rows-nulls, p.validity.Bytes(), p.done)
		} else {
			spread(arrow.Uint32Traits.CastFromBytes(out), rows-nulls, p.validity.Bytes(), p.done)
		}
	}
	p.done, p.nulls, page.rows = p.done+rows, p.nulls+nulls, page.rows-rows
	return nil
}

// readLevels reads which of the next rows are NULL.
func (p *numberPart) readLevels(levels *runs, rows int) (nulls int, err error) {
	for at, end := p.done, p.done+rows; at < end; {
		if err := levels.open(); err != nil {
			return 0, err
		}
		n := min(levels.left, end-at)
		valid := n
		switch {
		case levels.packed:
			if levels.bit+n > 8*len(levels.data) {
				return 0, errShortRun
			}
			valid = bitutil.CountSetBits(levels.data, levels.bit, n)
		case levels.value == 0:
			valid = 0
		}
		if valid < n && p.validity == nil {
			p.validity = memory.NewResizableBuffer(p.memory)
			p.validity.Resize(int(bitutil.BytesForBits(int64(p.rows))))
			clear(p.validity.Bytes())
			bitutil.SetBitsTo(p.validity.Bytes(), 0, int64(at), true)
		}
		switch {
		case p.validity == nil:
		case levels.packed:
			bitutil.CopyBitmap(levels.data, levels.bit, n, p.validity.Bytes(), at)
		default:
			bitutil.SetBitsTo(p.validity.Bytes(), int64(at), int64(n), valid > 0)
		}
		levels.skip(n)
		at, nulls = at+n, nulls+n-valid
	}
	return nulls, nil
}

// spread moves values, of which the first present ones are there, to the rows
// that are not NULL; bits tell which these are, from a place on.
func spread[T uint32 | uint64](values []T, present int, bits []byte, from int) {
	for row := len(values) - 1; present <= row; row-- {
		if bitutil.BitIsSet(bits, from+row) {
			present--
			values[row] = values[present]
		}
	}
}

// indexBitsMax bounds the size of a place in a dictionary.
const indexBitsMax = 32

// runs are numbers of few bits, as Parquet writes them: of each run either its
// value and how often that comes, or one value after the other.
type runs struct {
	rest  []byte // the runs behind the one at hand
	width int    // bits of a number

	// left is what is left of the run at hand: of value, or of what is in data
	// from a bit on.
	left   int
	packed bool
	value  uint32
	data   []byte
	bit    int
}

var errShortRun = errors.New("a page is shorter than its values")

// open goes to the next run where nothing is left of the one at hand.
func (r *runs) open() error {
	const (
		packedMark  = 1
		packedGroup = 8
		lengthMax   = 1 << 31
	)
	for r.left == 0 {
		header, n := binary.Uvarint(r.rest)
		if n <= 0 || header>>1 >= lengthMax {
			return errShortRun
		}
		r.rest, r.left, r.bit = r.rest[n:], int(header>>1), 0
		r.packed = header&packedMark != 0
		bytes := r.left * r.width // of as many groups of eight
		if !r.packed {
			bytes = (r.width + 7) / 8
			if bytes > len(r.rest) {
				return errShortRun
			}
			var value [8]byte
			copy(value[:], r.rest[:bytes])
			r.value = binary.LittleEndian.Uint32(value[:])
		} else {
			r.left *= packedGroup
			bytes = min(bytes, len(r.rest)) // the last group may be cut off
		}
		r.data, r.rest = r.rest[:bytes], r.rest[bytes:]
	}
	return nil
}

// skip goes behind the next numbers of the run at hand.
func (r *runs) skip(n int) {
	r.left -= n
	r.bit += n * r.width
}

// lookUp reads values by their places in a dictionary.
func lookUp[T uint32 | uint64](out, dictionary []T, r *runs) error {
	for len(out) > 0 {
		if err := r.open(); err != nil {
			return err
		}
		n := min(len(out), r.left)
		if r.packed {
			if err := lookUpPacked(out[:n], dictionary, r); err != nil {
				return err
			}
		} else {
			if int(r.value) >= len(dictionary) {
				return errNotInDictionary
			}
			value := dictionary[r.value]
			for i := range out[:n] {
				out[i] = value
			}
		}
		r.skip(n)
		out = out[n:]
	}
	return nil
}

var errNotInDictionary = errors.New("a page refers to a value that is not in its dictionary")

// lookUpPacked is lookUp within a run of packed numbers.
func lookUpPacked[T uint32 | uint64](out, dictionary []T, r *runs) error {
	const wordBytes = 8 // which hold a number wherever in their first byte it begins
	if r.bit+len(out)*r.width > 8*len(r.data) {
		return errShortRun
	}
	// What is behind the run belongs to the page, or to its buffer.
	data, bit, mask := r.data[:min(cap(r.data), len(r.data)+wordBytes)], r.bit, uint64(1)<<r.width-1
	for i := range out {
		at := bit / 8
		if at+wordBytes > len(data) {
			var last [wordBytes]byte
			copy(last[:], data[at:])
			data, bit, at = last[:], bit%8, 0
		}
		place := binary.LittleEndian.Uint64(data[at:]) >> (bit % 8) & mask
		if place >= uint64(len(dictionary)) {
			return errNotInDictionary
		}
		out[i] = dictionary[place]
		bit += r.width
	}
	return nil
}
