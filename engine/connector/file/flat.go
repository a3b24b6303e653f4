package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// flatColumn reads a column whose values are the same bytes in Parquet and in
// Arrow: numbers, times, text. The library finds, decrypts and decompresses its
// pages; what is in them is put here at its place in the batch, in memory of just
// the size of that.
type flatColumn struct {
	file     *parquetFile
	leaf     int
	dataType arrow.DataType
	width    int  // bytes of a value; 0: text, whose values tell their lengths
	nullable bool // there are levels, which tell what is NULL

	// left are the rows of the file that are still to be read, group is the row
	// group at hand, groupLeft the rows of it that no page has brought yet.
	left, groupLeft int64
	group           int
	pages           parquetfile.PageReader // of the group; nil: none
	dictionary      dictionary             // of the group
	page            flatPage
	// places are where the values of text lie that are put into a batch; it is
	// used again and again.
	places []uint32
}

// dictionary are the values that pages refer to.
type dictionary struct {
	values []byte   // nil: there is none
	starts []uint32 // of text: where each value begins, behind its length
}

// flatPage is what is still to be read of a page: its values are plain or, where
// indexed is set, places in the dictionary.
type flatPage struct {
	rows    int
	levels  runs
	indexed bool
	indices runs
	plain   []byte
}

// flatOf makes a reader of the column, which is the field of a schema; nil
// where the library has to read it: because its values are converted, it is
// nested, or some row group has it in an encoding that is not known here.
func (f *parquetFile) flatOf(root int) *flatColumn {
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
	c := &flatColumn{file: f, leaf: leaf, dataType: t, nullable: column.MaxDefinitionLevel() == 1, left: f.file.NumRows(), group: -1}
	if fixed, ok := t.(arrow.FixedWidthDataType); ok {
		c.width = fixed.Bytes()
	}
	return c
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
	case arrow.STRING, arrow.BINARY:
		return physical == parquet.Types.ByteArray
	}
	return false
}

// next implements columnReader.
func (c *flatColumn) next() (_ arrow.Array, err error) {
	rows := int(min(c.left, readRowsMax))
	if rows == 0 {
		return nil, nil
	}
	part := newFlatPart(rows, c.width, c.file.memory)
	defer part.release()
	for part.done < rows {
		for c.page.rows == 0 {
			if err := c.turn(); err != nil {
				return nil, err
			}
		}
		if err := part.fill(c, min(rows-part.done, c.page.rows)); err != nil {
			return nil, err
		}
	}
	c.left -= int64(rows)
	buffers := []*memory.Buffer{part.validity, part.values}
	if c.width == 0 {
		buffers = append(buffers, part.text)
	}
	data := array.NewData(c.dataType, rows, buffers, nil, part.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// turn goes to the next page, and at the end of a row group to the next one.
func (c *flatColumn) turn() error {
	if c.groupLeft == 0 {
		return c.turnGroup()
	}
	if !c.pages.Next() {
		if err := c.pages.Err(); err != nil {
			return err
		}
		return fmt.Errorf("row group %d lacks %d rows of a column", c.group+1, c.groupLeft)
	}
	switch page := c.pages.Page().(type) {
	case *parquetfile.DictionaryPage:
		return c.beginDictionary(page)
	case *parquetfile.DataPageV1:
		levels, values, err := c.divideV1(page)
		if err != nil {
			return err
		}
		return c.begin(page, levels, values)
	case *parquetfile.DataPageV2:
		data, before := page.Data(), int(page.RepetitionLevelByteLen())
		end := before + int(page.DefinitionLevelByteLen())
		if end > len(data) {
			return errors.New("a page is shorter than its levels")
		}
		return c.begin(page, data[before:end], data[end:])
	}
	return nil // not one with values
}

// beginDictionary makes a page the dictionary, whose memory stays as it is until
// the reader of the pages is closed.
func (c *flatColumn) beginDictionary(page *parquetfile.DictionaryPage) error {
	if c.dictionary.values != nil {
		return errors.New("a row group has two dictionaries of a column")
	}
	count, values := int(page.NumValues()), page.Data()
	if c.width == 0 {
		if count > len(values)/lengthBytes {
			return errShortDictionary
		}
		starts := slices.Grow(c.dictionary.starts[:0], count)[:count]
		if _, err := textPlaces(starts, values); err != nil {
			return err
		}
		c.dictionary = dictionary{values: values, starts: starts}
		return nil
	}
	if len(values) < count*c.width {
		return errShortDictionary
	}
	c.dictionary.values = values[:count*c.width]
	return nil
}

var errShortDictionary = errors.New("a dictionary has fewer values than it is said to have")

// lengthBytes are the bytes of a length: that of levels, or of text.
const lengthBytes = 4

// divideV1 tells the levels of a page from its values.
func (c *flatColumn) divideV1(page *parquetfile.DataPageV1) (levels, values []byte, err error) {
	data := page.Data()
	if !c.nullable {
		return nil, data, nil
	}
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
func (c *flatColumn) begin(page parquetfile.DataPage, levels, values []byte) error {
	rows := int64(page.NumValues())
	if rows > c.groupLeft {
		return fmt.Errorf("row group %d has more rows of a column than it is said to have", c.group+1)
	}
	c.groupLeft -= rows
	c.page = flatPage{rows: int(rows)}
	if c.nullable {
		c.page.levels = runs{rest: levels, width: 1}
	}
	switch encoding := parquet.Encoding(page.Encoding()); encoding {
	case parquet.Encodings.Plain:
		c.page.plain = values
	case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
		c.page.indexed = true
		if len(values) == 0 { // all rows are NULL
			return nil
		}
		if values[0] > indexBitsMax {
			return fmt.Errorf("places in a dictionary have %d bits", values[0])
		}
		c.page.indices = runs{rest: values[1:], width: int(values[0])}
	default:
		return fmt.Errorf("a page is written as %s, which the column is not said to have", encoding)
	}
	return nil
}

// turnGroup goes to the next row group.
func (c *flatColumn) turnGroup() error {
	c.release()
	if c.group++; c.group == c.file.file.NumRowGroups() {
		return fmt.Errorf("the row groups have %d rows less than the file is said to have", c.left)
	}
	group := c.file.file.RowGroup(c.group)
	chunk, err := group.MetaData().ColumnChunk(c.leaf)
	if err != nil {
		return err
	}
	if chunk.NumValues() != group.NumRows() {
		return fmt.Errorf("row group %d has %d rows, but %d of a column", c.group+1, group.NumRows(), chunk.NumValues())
	}
	c.groupLeft = group.NumRows()
	c.pages, err = group.GetColumnPageReader(c.leaf)
	return err
}

// release implements columnReader.
func (c *flatColumn) release() {
	c.page = flatPage{}
	c.dictionary.values, c.dictionary.starts = nil, c.dictionary.starts[:0]
	if c.pages != nil {
		_ = c.pages.Close() // only read
		c.pages = nil
	}
}

// flatPart is a batch of a column that is being read.
type flatPart struct {
	rows, done int
	width      int
	memory     memory.Allocator
	validity   *memory.Buffer // nil as long as nothing is NULL
	nulls      int
	// values are those of a fixed size or, of text, where it ends in text.
	values *memory.Buffer
	text   *memory.Buffer
}

func newFlatPart(rows, width int, allocator memory.Allocator) *flatPart {
	p := &flatPart{rows: rows, width: width, memory: allocator, values: memory.NewResizableBuffer(allocator)}
	if width > 0 {
		p.values.Resize(rows * width)
		return p
	}
	p.text = memory.NewResizableBuffer(allocator)
	p.values.Resize((1 + rows) * arrow.Int32SizeBytes)
	p.ends()[0] = 0
	return p
}

// ends are Arrow's offsets: that of a row is where its text ends, behind one of 0.
func (p *flatPart) ends() []int32 { return arrow.Int32Traits.CastFromBytes(p.values.Bytes()) }

// release gives up the memory, which whoever has got it keeps.
func (p *flatPart) release() {
	for _, buffer := range []*memory.Buffer{p.validity, p.values, p.text} {
		if buffer != nil {
			buffer.Release()
		}
	}
}

// fill reads the next rows of a column's page.
func (p *flatPart) fill(c *flatColumn, rows int) error {
	nulls := 0
	if c.nullable {
		var err error
		if nulls, err = p.readLevels(&c.page.levels, rows); err != nil {
			return err
		}
	}
	var err error
	switch p.width {
	case 0:
		err = p.fillText(c, rows, rows-nulls)
	case arrow.Uint64SizeBytes:
		err = fillNumbers(p, arrow.Uint64Traits.CastFromBytes, c, rows, rows-nulls)
	default:
		err = fillNumbers(p, arrow.Uint32Traits.CastFromBytes, c, rows, rows-nulls)
	}
	p.done, p.nulls, c.page.rows = p.done+rows, p.nulls+nulls, c.page.rows-rows
	return err
}

// fillNumbers reads the next rows of values of one size, of which so many are
// present.
func fillNumbers[T uint32 | uint64](p *flatPart, cast func([]byte) []T, c *flatColumn, rows, present int) error {
	out := p.values.Bytes()[p.done*p.width : (p.done+rows)*p.width]
	if c.page.indexed {
		if err := lookUp(cast(out)[:present], cast(c.dictionary.values), &c.page.indices); err != nil {
			return err
		}
	} else {
		if len(c.page.plain) < present*p.width {
			return errShortRun
		}
		c.page.plain = c.page.plain[copy(out[:present*p.width], c.page.plain):]
	}
	if present < rows {
		spread(cast(out), present, p.validity.Bytes(), p.done)
	}
	return nil
}

// fillText reads the next rows of text, of which so many are present.
func (p *flatPart) fillText(c *flatColumn, rows, present int) error {
	c.places = slices.Grow(c.places[:0], present)[:present]
	from := c.dictionary.values
	if c.page.indexed {
		if err := lookUp(c.places, c.dictionary.starts, &c.page.indices); err != nil {
			return err
		}
	} else {
		from = c.page.plain
		end, err := textPlaces(c.places, from)
		if err != nil {
			return err
		}
		c.page.plain = from[end:]
	}
	at := p.text.Len()
	bytes := at
	for _, place := range c.places {
		bytes += textLength(from, place)
	}
	if bytes > math.MaxInt32 {
		return fmt.Errorf("%d rows have more than 2 GiB of text", p.rows)
	}
	p.text.Resize(bytes)
	const shortBytes = 16 // are copied at once, with what is behind them
	out, ends := p.text.Bytes(), p.ends()[p.done:p.done+1+rows]
	for i, place := range c.places {
		n := textLength(from, place)
		if n <= shortBytes && at+shortBytes <= len(out) && int(place)+shortBytes <= len(from) {
			copy(out[at:at+shortBytes], from[place:place+shortBytes])
		} else {
			copy(out[at:at+n], from[place:])
		}
		at += n
		ends[1+i] = int32(at)
	}
	for row := rows; present < row; row-- { // a NULL ends where what is before it does
		ends[row] = ends[present]
		if bitutil.BitIsSet(p.validity.Bytes(), p.done+row-1) {
			present--
		}
	}
	return nil
}

// textPlaces finds values of text that lie one behind the other: where each
// begins, and where the last one ends.
func textPlaces(places []uint32, from []byte) (end int, err error) {
	for i := range places {
		if end+lengthBytes > len(from) {
			return 0, errShortRun
		}
		end += lengthBytes
		places[i] = uint32(end)
		n := textLength(from, uint32(end))
		if n > len(from)-end {
			return 0, errShortRun
		}
		end += n
	}
	return end, nil
}

// textLength is the length of the value of text that begins at a place.
func textLength(from []byte, place uint32) int {
	return int(binary.LittleEndian.Uint32(from[place-lengthBytes:]))
}

// readLevels reads which of the next rows are NULL.
func (p *flatPart) readLevels(levels *runs, rows int) (nulls int, err error) {
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
