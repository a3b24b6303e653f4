package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// flatTypes are the columns that flatColumn reads.
var flatTypes = []arrow.DataType{
	arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
	arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Time32ms, arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
	arrow.FixedWidthTypes.Timestamp_ms, arrow.FixedWidthTypes.Timestamp_us, &arrow.TimestampType{Unit: arrow.Nanosecond}, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary,
}

// flatRows makes a column of each of the types, with so many different
// values, NULL in stretches and here and there.
func flatRows(t *testing.T, types []arrow.DataType, rows, different int, nulls float64, nullable bool) arrow.RecordBatch {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	fields, columns := make([]arrow.Field, len(types)), make([]arrow.Array, len(types))
	for i, dt := range types {
		fields[i] = arrow.Field{Name: fmt.Sprint("c", i), Type: dt, Nullable: nullable}
		fixed, isFixed := dt.(arrow.FixedWidthDataType)
		width := arrow.Uint64SizeBytes
		if isFixed {
			width = fixed.Bytes()
		}
		values, text, ends := make([]byte, rows*width), []byte(nil), make([]int32, 1, rows+1)
		bits := make([]byte, (rows+7)/8)
		absent := 0
		for row, same := 0, 0; row < rows; row++ {
			if same == 0 && random.IntN(500) == 0 {
				same = random.IntN(300) // a run of one value, or of NULLs
			}
			value := uint64(random.IntN(different))
			if same > 0 {
				value, same = uint64(different/2), same-1
			}
			copy(values[row*width:], binary.LittleEndian.AppendUint64(nil, value)[:min(width, 8)])
			text = append(text, flatText(value)...)
			ends = append(ends, int32(len(text)))
			if nullable && (random.Float64() < nulls || nulls > 0 && same > 0) {
				absent++
			} else {
				bits[row/8] |= 1 << (row % 8)
			}
		}
		buffers := []*memory.Buffer{nil, memory.NewBufferBytes(values)}
		if nullable {
			buffers[0] = memory.NewBufferBytes(bits)
		}
		if !isFixed {
			buffers = []*memory.Buffer{buffers[0], memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(ends)), memory.NewBufferBytes(text)}
		}
		data := array.NewData(dt, rows, buffers, nil, absent, 0)
		columns[i] = array.MakeFromData(data)
		data.Release()
		defer columns[i].Release()
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(rows))
}

// flatText is a text for each value: empty, short or long.
func flatText(value uint64) string {
	if value%11 == 0 {
		return ""
	}
	return strings.Repeat("é", int(value%13)) + strconv.FormatUint(value, 10)
}

// writeWith writes a file as the properties say.
func writeWith(t *testing.T, path string, batch arrow.RecordBatch, options []pqarrow.WriterOption, properties ...parquet.WriterProperty) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(batch.Schema(), out, parquet.NewWriterProperties(properties...), pqarrow.NewArrowWriterProperties(options...))
	if err == nil {
		err = w.WriteBuffered(batch)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ours tells of each column of a file whether flatColumn reads it.
func ours(t *testing.T, path string) []bool {
	t.Helper()
	f, err := openParquet(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	is := make([]bool, f.raw.NumFields())
	for root := range is {
		is[root] = f.flatOf(root) != nil
	}
	return is
}

// Pages of both versions, plain, by a dictionary and by one that is given up in
// the middle, several to a batch and several batches to a page, over several row
// groups.
func TestFlatColumnsAreReadAsTheyWereWritten(t *testing.T) {
	const rows = readRowsMax + 4321
	for name, write := range map[string][]parquet.WriterProperty{
		"plain":               {parquet.WithDictionaryDefault(false)},
		"dictionary":          {parquet.WithDictionaryDefault(true), parquet.WithDataPageSize(1000)},
		"dictionary given up": {parquet.WithDictionaryDefault(true), parquet.WithDictionaryPageSizeLimit(2000), parquet.WithDataPageSize(3000)},
		"version 2":           {parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithDataPageSize(5000)},
		"version 2, packed":   {parquet.WithDataPageVersion(parquet.DataPageV2), parquet.WithCompression(compress.Codecs.Snappy)},
		"small row groups":    {parquet.WithMaxRowGroupLength(10_001), parquet.WithCompression(compress.Codecs.Zstd)},
		"one page":            {parquet.WithDictionaryDefault(false), parquet.WithDataPageSize(64 << 20), parquet.WithCompression(compress.Codecs.Gzip)},
	} {
		types := []arrow.DataType{arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String}
		if name == "plain" {
			types = flatTypes
		}
		for _, nulls := range []float64{-1, 0.2, 1} { // -1: the column has none
			for _, different := range []int{3, 70_000} {
				t.Run(fmt.Sprint(name, " ", nulls, " ", different), func(t *testing.T) {
					t.Parallel()
					path := filepath.Join(t.TempDir(), "t.parquet")
					written := flatRows(t, types, rows, different, nulls, nulls >= 0)
					defer written.Release()
					writeWith(t, path, written, nil, write...)
					if is := ours(t, path); slices.Contains(is, false) {
						t.Errorf("the library reads some of the columns: %v", is)
					}
					compareWith(t, path, written)
				})
			}
		}
	}
}

func TestWhatHasOtherBytesIsLeftToTheLibrary(t *testing.T) {
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint16,
		&arrow.TimestampType{Unit: arrow.Nanosecond},
	}
	const rows = readRowsMax + 99
	written := flatRows(t, types, rows, 100, 0.2, true)
	defer written.Release()
	path := filepath.Join(t.TempDir(), "t.parquet")
	writeWith(t, path, written, []pqarrow.WriterOption{pqarrow.WithDeprecatedInt96Timestamps(true)})
	if is := ours(t, path); slices.Contains(is, true) {
		t.Errorf("values that are converted are read as they lie: %v", is)
	}

	for encoding, dt := range map[parquet.Encoding]arrow.DataType{
		parquet.Encodings.DeltaBinaryPacked: arrow.PrimitiveTypes.Int64,
		parquet.Encodings.ByteStreamSplit:   arrow.PrimitiveTypes.Float64,
		parquet.Encodings.DeltaByteArray:    arrow.BinaryTypes.String,
	} {
		written := flatRows(t, []arrow.DataType{dt}, rows, 5000, 0.2, true)
		defer written.Release()
		writeWith(t, path, written, nil, parquet.WithDictionaryDefault(false), parquet.WithEncoding(encoding))
		if ours(t, path)[0] {
			t.Errorf("values written as %s are read as if they were plain", encoding)
		}
		compareWith(t, path, written)
	}
}

// A reader that is closed early, as below a limit, keeps nothing; nor does a
// batch that outlives it.
func TestFlatColumnsThatAreNotReadToTheirEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	written := flatRows(t, flatTypes, 3*readRowsMax, 5000, 0.2, true)
	defer written.Release()
	writeWith(t, path, written, nil)
	releases(t, func() {
		source, err := openPath(t, path)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := source.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		batch, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reader.Close()
		want := written.NewSlice(0, readRowsMax)
		defer want.Release()
		if !array.RecordEqual(batch, want) {
			t.Error("the batch has changed when its reader was closed")
		}
		batch.Release()
	})
}

// Queues go by what batches say that they hold. The library's readers took twice
// as much where a page ended within a batch.
func TestBatchesHoldWhatTheyCountFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	written := flatRows(t, flatTypes, 3*readRowsMax, 5000, 0.2, true)
	defer written.Release()
	writeWith(t, path, written, nil, parquet.WithDictionaryDefault(false), parquet.WithDataPageSize(100_000))
	f, err := openParquet(path)
	if err != nil {
		t.Fatal(err)
	}
	counted := &held{Allocator: memory.NewGoAllocator()}
	f.memory.of = counted
	says := int64(0)
	for root := range f.raw.NumFields() {
		column := f.flatOf(root)
		for range 3 {
			values, err := column.next()
			if err != nil {
				t.Fatal(err)
			}
			defer values.Release()
			says += util.TotalArraySize(values)
		}
		column.release()
	}
	f.close()
	if got, most := counted.bytes.Load(), says*9/8; got > most {
		t.Errorf("batches that count for %d bytes hold %d, more than %d", says, got, most)
	}
}

// What a page says of itself is not believed: every byte of a file is changed in
// turn, and reading it must end, without a fault and without keeping memory.
func TestDamagedFlatColumns(t *testing.T) {
	for name, test := range map[string]struct {
		change     byte
		properties []parquet.WriterProperty
	}{
		"dictionary": {0x01, []parquet.WriterProperty{parquet.WithDictionaryDefault(true)}},
		"version 2":  {0x80, []parquet.WriterProperty{parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(parquet.DataPageV2)}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.parquet")
			written := flatRows(t, []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float32, arrow.BinaryTypes.String}, 60, 20, 0.2, true)
			defer written.Release()
			writeWith(t, path, written, nil, append(test.properties, parquet.WithStats(false))...)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			put := func(at int, b byte) {
				if _, err := file.WriteAt([]byte{b}, int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			opened, failed := 0, 0
			for at, right := range whole {
				put(at, right^test.change)
				f, err := openParquet(path)
				if err != nil {
					put(at, right)
					continue
				}
				opened++
				counted := &held{Allocator: memory.NewGoAllocator()}
				f.memory.of = counted
				if readFlat(f) != nil {
					failed++
				}
				f.close()
				put(at, right)
				if kept := counted.bytes.Load(); kept != 0 {
					t.Errorf("byte %d changed by %#x: %d bytes of Arrow buffers were not released", at, test.change, kept)
				}
			}
			if failed == 0 || failed == opened {
				t.Errorf("of %d damaged files %d were refused", opened, failed)
			}
		})
	}
}

// readFlat reads the columns of a file that flatColumn reads.
func readFlat(f *parquetFile) (err error) {
	defer recovered(f.path, &err)
	for root := range f.raw.NumFields() {
		n := f.flatOf(root)
		if n == nil {
			continue
		}
		defer n.release()
		for {
			values, err := n.next()
			if err != nil {
				return err
			}
			if values == nil {
				break
			}
			values.Release()
		}
	}
	return nil
}

// Arrow's text has offsets of 32 bits.
func TestTooMuchTextForABatch(t *testing.T) {
	const rows, valueBytes = 33, 64 << 20
	value := binary.LittleEndian.AppendUint32(make([]byte, 0, lengthBytes+valueBytes), valueBytes)
	c := &flatColumn{
		page:       flatPage{rows: rows, indexed: true, indices: runs{rest: appendRepeated(nil, 0, rows, 1), width: 1}},
		dictionary: dictionary{values: value[:cap(value)], starts: []uint32{lengthBytes}},
	}
	releases(t, func() {
		part := newFlatPart(rows, 0, heap)
		defer part.release()
		if err := part.fill(c, rows); err == nil || !strings.Contains(err.Error(), "33 rows have more than 2 GiB of text") {
			t.Errorf("got the error %v", err)
		}
	})
}

// appendPacked writes numbers one after the other, in whole groups of eight.
func appendPacked(b []byte, numbers []uint32, width int) []byte {
	groups := (len(numbers) + 7) / 8
	b = binary.AppendUvarint(b, uint64(groups)<<1|1)
	packed := make([]byte, groups*width)
	for i, number := range numbers {
		for bit := range width {
			if number>>bit&1 != 0 {
				packed[(i*width+bit)/8] |= 1 << ((i*width + bit) % 8)
			}
		}
	}
	return append(b, packed...)
}

func appendRepeated(b []byte, number uint32, times, width int) []byte {
	b = binary.AppendUvarint(b, uint64(times)<<1)
	return append(b, binary.LittleEndian.AppendUint32(nil, number)[:(width+7)/8]...)
}

func TestPlacesInADictionary(t *testing.T) {
	const places = 1 << 17
	dictionary := make([]uint64, places)
	for i := range dictionary {
		dictionary[i] = uint64(i) * 3
	}
	random := rand.New(rand.NewPCG(5, 6))
	for width := range indexBitsMax + 1 {
		var written []byte
		var want []uint64
		for range 20 {
			numbers := make([]uint32, 8*(1+random.IntN(80)))
			for i := range numbers {
				numbers[i] = uint32(random.IntN(min(places, 1<<width)))
				want = append(want, dictionary[numbers[i]])
			}
			written = appendPacked(written, numbers, width)
			times := 1 + random.IntN(300)
			for range times {
				want = append(want, dictionary[numbers[0]])
			}
			written = appendRepeated(written, numbers[0], times, width)
		}
		written = slices.Clip(written) // nothing may be read behind it
		r, got := &runs{rest: written, width: width}, make([]uint64, len(want))
		for at := 0; at < len(got); {
			n := min(len(got)-at, 1+random.IntN(1000))
			if err := lookUp(got[at:at+n], dictionary, r); err != nil {
				t.Fatalf("width %d: %v", width, err)
			}
			at += n
		}
		if !slices.Equal(got, want) {
			t.Errorf("numbers of %d bits are not what was written", width)
		}
		if err := lookUp(make([]uint64, 1), dictionary, r); !errors.Is(err, errShortRun) {
			t.Errorf("width %d: a number behind the end gives the error %v", width, err)
		}
	}
}

func TestPlacesThatAreNotThere(t *testing.T) {
	dictionary := []uint32{1, 2, 3}
	for name, test := range map[string]struct {
		r    *runs
		want error
	}{
		"packed, outside":    {&runs{rest: appendPacked(nil, []uint32{0, 3}, 2), width: 2}, errNotInDictionary},
		"repeated, outside":  {&runs{rest: appendRepeated(nil, 3, 2, 2), width: 2}, errNotInDictionary},
		"packed, cut off":    {&runs{rest: slices.Clip(appendPacked(nil, make([]uint32, 8), 16)[:3]), width: 16}, errShortRun},
		"repeated, cut off":  {&runs{rest: []byte{4}, width: 2}, errShortRun},
		"endless header":     {&runs{rest: bytes.Repeat([]byte{0xff}, 12), width: 2}, errShortRun},
		"runs of no numbers": {&runs{rest: make([]byte, 100), width: 2}, errShortRun},
		"nothing":            {&runs{}, errShortRun},
	} {
		if err := lookUp(make([]uint32, 2), dictionary, test.r); !errors.Is(err, test.want) {
			t.Errorf("%s: got the error %v, want %v", name, err, test.want)
		}
	}
	out := make([]uint32, 2) // of a group of eight, the rest is cut off
	if err := lookUp(out, dictionary, &runs{rest: appendPacked(nil, []uint32{2, 1}, 8)[:3], width: 8}); err != nil || out[0] != 3 || out[1] != 2 {
		t.Errorf("a group that is cut off behind the last value gives %v, %v", out, err)
	}
}
