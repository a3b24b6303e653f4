package fnapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/proto"
)

// everyType has a column of each type that a plan can name, and rows that make
// their edges.
const everyTypeRows = `[
 {"b": true, "i8": -1, "i16": 300, "i32": -70000, "i64": 9007199254740993, "u8": 255, "u64": 18446744073709551615,
  "f32": 1.5, "f64": 0.1, "s": "grüße", "ls": "", "bin": "AAE=", "d": "1969-12-31", "t": "23:59:59.999999",
  "ts": "2001-02-03 04:05:06.000007", "dec": "-123.45", "l": [1, null, 3], "st": {"x": 1, "y": "a"}, "m": [{"key": "k", "value": 1.5}], "n": null},
 {"b": null, "i8": null, "i16": null, "i32": null, "i64": null, "u8": null, "u64": null, "f32": null, "f64": null, "s": null,
  "ls": null, "bin": null, "d": null, "t": null, "ts": null, "dec": null, "l": null, "st": null, "m": null, "n": null},
 {"b": false, "i8": 0, "i16": 0, "i32": 0, "i64": 0, "u8": 0, "u64": 0, "f32": 0, "f64": -0.5, "s": "x", "ls": "large", "bin": "",
  "d": "2024-02-29", "t": "00:00:00", "ts": "1970-01-01 00:00:00", "dec": "0.00", "l": [], "st": {"x": null, "y": null}, "m": [], "n": null}]`

var everyType = arrow.NewSchema([]arrow.Field{
	{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "i8", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "i16", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
	{Name: "i32", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "i64", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "u8", Type: arrow.PrimitiveTypes.Uint8, Nullable: true},
	{Name: "u64", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
	{Name: "f32", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "f64", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "ls", Type: arrow.BinaryTypes.LargeString, Nullable: true},
	{Name: "bin", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "t", Type: arrow.FixedWidthTypes.Time64us, Nullable: true},
	{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	{Name: "dec", Type: &arrow.Decimal128Type{Precision: 9, Scale: 2}, Nullable: true},
	{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
	{Name: "st", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
	{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64), Nullable: true},
	{Name: "n", Type: arrow.Null, Nullable: true},
}, nil)

func everyTypeBatch(tb testing.TB, mem memory.Allocator) arrow.RecordBatch {
	tb.Helper()
	batch, _, err := array.RecordFromJSON(mem, everyType, strings.NewReader(everyTypeRows))
	if err != nil {
		tb.Fatal(err)
	}
	return batch
}

var testNames = dataNames{"b12", sourceTransform}

// decodeAll decodes elements that are cut into pieces.
func decodeAll(tb testing.TB, schema *arrow.Schema, pieces ...[]byte) ([]arrow.RecordBatch, error) {
	tb.Helper()
	d, err := newDecoder(schema, true)
	if err != nil {
		tb.Fatal(err)
	}
	return d.decode(asPieces(pieces))
}

// asPieces are pieces that came beside slots.
func asPieces(texts [][]byte) (pieces []piece) {
	for _, text := range texts {
		pieces = append(pieces, piece{bytes: text})
	}
	return pieces
}

func TestRoundTrip(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	whole := everyTypeBatch(t, mem)
	defer whole.Release()
	for _, bounds := range [][2]int64{{0, 3}, {0, 0}, {1, 2}, {2, 3}, {1, 3}} {
		batch := whole.NewSlice(bounds[0], bounds[1])
		data, err := encodeBatch(batch, testNames)
		if err != nil {
			t.Fatal(err)
		}
		double := append(slices.Clone(data), data...)
		for _, cuts := range [][]int{{}, {1}, {14, 15}, {0, 100, 100, 700}, {len(data)}, {len(data) + 3}} {
			var pieces [][]byte
			rest := slices.Clone(double)
			for i, c := range cuts {
				if i > 0 {
					c -= cuts[i-1]
				}
				pieces = append(pieces, rest[:c])
				rest = rest[c:]
			}
			got, err := decodeAll(t, everyType, append(pieces, rest)...)
			if err != nil {
				t.Fatalf("rows %v, cut at %v: %v", bounds, cuts, err)
			}
			if len(got) != 2 || !array.RecordEqual(got[0], batch) || !array.RecordEqual(got[1], batch) || got[0].Schema() != everyType {
				t.Fatalf("rows %v, cut at %v: %d batches, the first %v\nwant %v", bounds, cuts, len(got), got[0], batch)
			}
			releaseAll(got)
		}
		batch.Release()
	}
	if got, err := decodeAll(t, everyType); err != nil || len(got) != 0 {
		t.Errorf("an empty stream: %v, %v", got, err)
	}
}

func TestRowsWithoutColumns(t *testing.T) {
	schema := arrow.NewSchema(nil, nil)
	batch := array.NewRecordBatch(schema, nil, 5)
	data, err := encodeBatch(batch, testNames)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeAll(t, schema, data)
	if err != nil || len(got) != 1 || got[0].NumRows() != 5 {
		t.Fatalf("%v, %v", got, err)
	}
}

// What Python gets is the serialized message; the IPC message in it must begin
// where Arrow wants it, whatever the sizes in front of it.
func TestAlignment(t *testing.T) {
	for _, rows := range []int{0, 1, 2, 5, 9, 14, 15, 16, 100, 1000, 2020, 2040, 2048, 3_000_000} {
		for _, instruction := range []string{"b1", "b12345", strings.Repeat("b", 200)} {
			batch := floats(rows, 1)
			data, err := encodeBatch(batch, dataNames{instruction, sourceTransform})
			if err != nil {
				t.Fatal(err)
			}
			piece := data[:min(len(data), pieceBytesMax)]
			message, err := proto.Marshal(&fnpb.Elements{Data: []*fnpb.Elements_Data{{
				InstructionId: instruction, TransformId: sourceTransform, Data: piece, IsLast: len(piece) == len(data),
			}}})
			if err != nil {
				t.Fatal(err)
			}
			_, lengthBytes := binary.Uvarint(data[elementHeaderBytes:])
			at := elementHeaderBytes + lengthBytes
			start := at + 1 + int(data[at])
			if binary.LittleEndian.Uint32(data[start:]) != math.MaxUint32 {
				t.Fatalf("%d rows: no IPC message at %d", rows, start)
			}
			inMessage := strings.Index(string(message), string(piece[:start])) + start
			if inMessage%ipcAlign != 0 {
				t.Errorf("%d rows, instruction of %d bytes: the IPC message is at %d", rows, len(instruction), inMessage)
			}
		}
	}
}

// The header is what Beam's own coders write for the earliest time, the global
// window and the pane that says nothing.
func TestGlobalHeader(t *testing.T) {
	want := []byte{0x7F, 0xDF, 0x3B, 0x64, 0x5A, 0x1C, 0xAC, 0x09, 0, 0, 0, 1, 0x0F}
	if !slices.Equal(globalHeader[:], want) {
		t.Errorf("header % x, want % x", globalHeader, want)
	}
}

func floats(rows, columns int) arrow.RecordBatch {
	fields := make([]arrow.Field, columns)
	arrays := make([]arrow.Array, columns)
	for c := range columns {
		b := array.NewFloat64Builder(memory.DefaultAllocator)
		for i := range rows {
			b.Append(float64(i + c))
		}
		fields[c] = arrow.Field{Name: fmt.Sprintf("c%d", c), Type: arrow.PrimitiveTypes.Float64, Nullable: true}
		arrays[c] = b.NewArray()
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(rows))
}

// A worker is not trusted: whatever it sends, the engine reads a batch or says
// what is wrong. Every value of a batch that was accepted can be read.
func TestHostileBytes(t *testing.T) {
	batch := everyTypeBatch(t, memory.DefaultAllocator)
	data, err := encodeBatch(batch, testNames)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for at := range data {
		for _, value := range []byte{0, 0x7F, 0xFF, data[at] ^ 1, data[at] ^ 0x80} {
			if value == data[at] {
				continue
			}
			hostile := slices.Clone(data)
			hostile[at] = value
			if readEverything(t, everyType, hostile) {
				accepted++
			}
		}
		if readEverything(t, everyType, data[:at:at]) && at != 0 {
			t.Errorf("data that is cut off after %d bytes was accepted", at)
		}
	}
	if accepted == 0 {
		t.Error("a change of a value alone should be accepted: the test does not reach the values")
	}
	t.Logf("%d bytes, %d changes accepted", len(data), accepted)
}

func readEverything(tb testing.TB, schema *arrow.Schema, data []byte) bool {
	tb.Helper()
	batches, err := decodeAll(tb, schema, slices.Clone(data))
	if err != nil {
		if !errors.Is(err, errMalformed) {
			tb.Fatalf("not an error about malformed data: %v", err)
		}
		return false
	}
	for _, b := range batches {
		for _, c := range b.Columns() {
			for i := range c.Len() {
				_ = c.ValueStr(i)
			}
		}
	}
	releaseAll(batches)
	return true
}

func TestHostileMessages(t *testing.T) {
	text := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	str := func(change func(offsets []int32, values []byte)) []byte {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.AppendValues([]string{"one", "two", "three"}, nil)
		data, err := encodeBatch(array.NewRecordBatch(text, []arrow.Array{b.NewStringArray()}, 3), testNames)
		if err != nil {
			t.Fatal(err)
		}
		offsets := arrow.Int32Traits.CastToBytes([]int32{0, 3, 6, 11})
		at := strings.LastIndex(string(data), string(offsets))
		values := strings.LastIndex(string(data), "onetwothree")
		change(arrow.Int32Traits.CastFromBytes(data[at:at+len(offsets)]), data[values:])
		return data
	}
	written := func(batch arrow.RecordBatch, options ...ipc.Option) []byte {
		payload, err := ipc.GetRecordBatchPayload(batch, options...)
		if err != nil {
			t.Fatal(err)
		}
		w := &sliceWriter{}
		if _, err := payload.WritePayload(w); err != nil {
			t.Fatal(err)
		}
		element := append([]byte{0}, w.b...)
		data := binary.AppendUvarint(slices.Clone(globalHeader[:]), uint64(len(element)))
		return append(data, element...)
	}
	one := floats(1000, 1)
	withMetadata := array.NewRecordBatchWithMetadata(one.Schema(), one.Columns(), 1000, arrow.NewMetadata([]string{"k"}, []string{"v"}))
	mapType := arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64)
	for name, test := range map[string]struct {
		schema *arrow.Schema
		data   []byte
		want   string
	}{
		"as it should be":        {text, str(func([]int32, []byte) {}), ""},
		"offsets that jump out":  {text, str(func(o []int32, _ []byte) { o[3] = 1 << 30 }), "out of bounds"},
		"offsets that go back":   {text, str(func(o []int32, _ []byte) { o[1], o[2] = 6, 3 }), "monotonically"},
		"offsets below zero":     {text, str(func(o []int32, _ []byte) { o[0] = -5 }), "negative"},
		"text that is not UTF-8": {text, str(func(_ []int32, v []byte) { v[4] = 0xFF }), "utf8"},
		"compressed":             {one.Schema(), written(one, ipc.WithZstd()), "compressed"},
		"metadata":               {one.Schema(), written(withMetadata), "metadata"},
		"another schema":         {everyType, written(one), "1 parts where the schema has"},
		"a pane":                 {text, append(slices.Repeat([]byte{0}, elementHeaderBytes), 1, 0), "windows"},
		"an endless length":      {text, append(slices.Clone(globalHeader[:]), slices.Repeat([]byte{0xFF}, 12)...), "length"},
		"a key that is NULL":     {mapSchema(mapType), written(nullKey()), "key"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeAll(t, test.schema, test.data)
			if test.want == "" {
				if err != nil || len(got) != 1 {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err == nil || !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}

func mapSchema(m *arrow.MapType) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: "m", Type: m, Nullable: true}}, nil)
}

// nullKey is a list of one pair whose key is NULL; a map lies in memory as such
// a list does.
func nullKey() arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{{Name: "m", Type: arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "value", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	))}}, nil)
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"m": [{"key": null, "value": 1}]}]`))
	if err != nil {
		panic(err)
	}
	return batch
}

func TestUnsupportedTypes(t *testing.T) {
	for _, typ := range []arrow.DataType{
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
		arrow.BinaryTypes.StringView,
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int32),
		arrow.ListOf(arrow.BinaryTypes.BinaryView),
		arrow.ListOf(arrow.Null),
		arrow.DenseUnionOf([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8}}, []arrow.UnionTypeCode{0}),
	} {
		if _, err := newDecoder(arrow.NewSchema([]arrow.Field{{Name: "odd", Type: typ}}, nil), false); err == nil || !strings.Contains(err.Error(), `"odd"`) {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

func TestAligned(t *testing.T) {
	b := make([]byte, 64)
	for at := range 16 {
		if there := at%ipcAlignLeast == 0; isAligned(b[at:at+9]) != there {
			t.Errorf("at %d: aligned: %v", at, !there)
		}
		if copied := moved(b[at : at+9]); len(copied) != 9 || !isAligned(copied) {
			t.Errorf("at %d: the copy is not aligned", at)
		}
	}
}

// The corpus is what workers send, whole, in part, and out of place; what a run
// finds wrong is kept in testdata.
func FuzzDecode(f *testing.F) {
	encoded := func(batch arrow.RecordBatch) []byte {
		data, err := encodeBatch(batch, testNames)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	batch := everyTypeBatch(f, memory.DefaultAllocator)
	whole := encoded(batch)
	f.Add([]byte{})
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(append(slices.Clone(whole), whole...))
	for rows := range min(batch.NumRows(), 3) {
		f.Add(encoded(batch.NewSlice(0, rows)))
		f.Add(encoded(batch.NewSlice(rows, batch.NumRows())))
	}
	f.Add(encoded(floats(3, 1)))
	f.Fuzz(func(t *testing.T, data []byte) { readEverything(t, everyType, data) })
}

func BenchmarkCoder(b *testing.B) {
	for _, rows := range []int{1, 1024, 65536} {
		batch := floats(rows, 2)
		data, err := encodeBatch(batch, testNames)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("encode/%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := encodeBatch(batch, testNames); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decode/%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			d, err := newDecoder(batch.Schema(), true)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				batches, err := d.decode([]piece{{bytes: data}})
				if err != nil {
					b.Fatal(err)
				}
				releaseAll(batches)
			}
		})
	}
}
