package file

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/plan"
)

// manySchema has a column for each way in which the library builds columns.
var manySchema = arrow.NewSchema([]arrow.Field{
	{Name: "number", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "whole", Type: arrow.PrimitiveTypes.Int32},
	{Name: "small", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "same", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "price", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}, Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
	{Name: "flags", Type: arrow.ListOf(arrow.FixedWidthTypes.Boolean), Nullable: true},
	{Name: "parts", Type: arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	), Nullable: true},
}, nil)

// manyRows makes rows with random values, of which a share is NULL: the same ones
// again and again, though never at the same place of a batch that is read.
func manyRows(t *testing.T, rows int, nulls float64) arrow.RecordBatch {
	t.Helper()
	const different = 4099
	random := rand.New(rand.NewPCG(1, 2))
	b := array.NewRecordBuilder(memory.DefaultAllocator, manySchema)
	defer b.Release()
	for range different {
		for i := range manySchema.NumFields() {
			appendRandom(random, b.Field(i), nulls, manySchema.Field(i).Nullable)
		}
	}
	block := b.NewRecordBatch()
	defer block.Release()
	columns := make([]arrow.Array, block.NumCols())
	for i := range columns {
		whole, err := array.Concatenate(slices.Repeat([]arrow.Array{block.Column(i)}, 1+rows/different), memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Release()
		columns[i] = array.NewSlice(whole, 0, int64(rows))
		defer columns[i].Release()
	}
	return array.NewRecordBatch(manySchema, columns, int64(rows))
}

func appendRandom(random *rand.Rand, to array.Builder, nulls float64, nullable bool) {
	if nullable && random.Float64() < nulls {
		to.AppendNull()
		return
	}
	switch to := to.(type) {
	case *array.Float64Builder:
		to.Append(random.Float64())
	case *array.Int32Builder:
		to.Append(random.Int32())
	case *array.Int8Builder:
		to.Append(int8(random.IntN(100)))
	case *array.BooleanBuilder:
		to.Append(random.IntN(2) == 0)
	case *array.StringBuilder:
		to.Append(fmt.Sprint("row ", random.IntN(1+random.IntN(1_000_000))))
	case *array.Decimal128Builder:
		to.Append(decimal128.FromI64(random.Int64()))
	case *array.TimestampBuilder:
		to.Append(arrow.Timestamp(random.Int64N(1 << 50)))
	case *array.ListBuilder:
		to.Append(true)
		for range random.IntN(6) {
			appendRandom(random, to.ValueBuilder(), nulls, true)
		}
	case *array.StructBuilder:
		to.Append(true)
		for i := range to.NumField() {
			appendRandom(random, to.FieldBuilder(i), nulls, true)
		}
	}
}

// What is released is overwritten in these tests: a batch that is still used
// must not lie there, nor may a reader rely on memory being cleared.
func TestRecycledMemoryHoldsTheRightValues(t *testing.T) {
	const rows = 3*readRowsMax + 17
	for _, nulls := range []float64{0, 0.3} {
		t.Run(fmt.Sprint(nulls), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.parquet")
			written := manyRows(t, rows, nulls)
			defer written.Release()
			sink, err := NewSink(plan.WriteParquet{Output: plan.Output{Path: path}})
			if err != nil {
				t.Fatal(err)
			}
			w, err := sink.Open(t.Context(), manySchema)
			if err != nil {
				t.Fatal(err)
			}
			for at := int64(0); at < rows; at += 50_000 {
				part := written.NewSlice(at, min(at+50_000, rows))
				defer part.Release()
				if err := w.Write(t.Context(), part); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			releases(t, func() { compareWith(t, path, written) })
		})
	}
}

// compareWith reads a file, keeps every other batch while it reads on, and
// compares each when it lets go of it.
func compareWith(t *testing.T, path string, written arrow.RecordBatch) {
	t.Helper()
	source, err := openPath(t, path)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type read struct {
		batch arrow.RecordBatch
		at    int64
	}
	var kept []read
	compare := func(r read) {
		defer r.batch.Release()
		want := written.NewSlice(r.at, r.at+r.batch.NumRows())
		defer want.Release()
		for i, c := range r.batch.Columns() {
			if !array.Equal(c, want.Column(i)) {
				t.Errorf("column %q from row %d on is not what was written", r.batch.ColumnName(i), r.at)
			}
		}
	}
	at := int64(0)
	for n := 0; ; n++ {
		batch, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		one := read{batch, at}
		at += batch.NumRows()
		if n%2 == 0 {
			kept = append(kept, one)
			continue
		}
		compare(one)
	}
	reader.Close()
	for _, one := range kept { // also when the reader is closed
		compare(one)
	}
	if at != written.NumRows() {
		t.Errorf("%d of %d rows were read", at, written.NumRows())
	}
}

func TestRecyclerKeepsWhatIsLargeWithinItsBound(t *testing.T) {
	of := &held{Allocator: memory.NewGoAllocator()}
	r := newRecycler(of)
	small, large := r.Allocate(100), r.Allocate(recycledBytesMin+1)
	if len(small) != 100 || len(large) != recycledBytesMin+1 {
		t.Fatalf("got %d and %d bytes", len(small), len(large))
	}
	first := &large[0]
	r.Free(small)
	r.Free(large)
	if again := r.Allocate(recycledBytesMin + 100); &again[0] != first {
		t.Error("what was released was not given out again")
	} else {
		r.Free(again)
	}
	var many [][]byte
	for range 2 * recycledBytesMax / (1 << 20) {
		many = append(many, r.Allocate(1<<20))
	}
	for _, b := range many[1:] {
		r.Free(b)
	}
	if most := int64(recycledBytesMax + 1<<20); of.bytes.Load() > most {
		t.Errorf("%d bytes are held, more than %d", of.bytes.Load(), most)
	}
	r.close()
	r.Free(many[0])
	if of.bytes.Load() != 0 {
		t.Errorf("%d bytes are held after the end", of.bytes.Load())
	}
}
