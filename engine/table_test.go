package engine

import (
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// TestTablesShareTheirMemory: what all of them keep in memory stays within one
// bound, what does not fit goes to the disk, and a table that is dropped gives
// its part back.
func TestTablesShareTheirMemory(t *testing.T) {
	allocator := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer allocator.AssertSize(t, 0)
	const rows, bound = 1000, 20_000
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	put := func(tables *tables, name string) error {
		b := array.NewInt64Builder(allocator)
		defer b.Release()
		for i := range rows {
			b.Append(int64(i))
		}
		column := b.NewArray()
		defer column.Release()
		batch := array.NewRecordBatch(schema, []arrow.Array{column}, rows)
		defer batch.Release()
		reader, err := array.NewRecordReader(schema, []arrow.RecordBatch{batch})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Release()
		return tables.put(t.Context(), name, reader)
	}
	count := func(tables *tables, name string) (n int64) {
		spool, release, err := tables.use(name)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		reader, err := spool.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		for {
			batch, err := reader.Next(t.Context())
			if err != nil || batch == nil {
				return n
			}
			n += batch.NumRows()
			batch.Release()
		}
	}
	allowance := exec.NewAllowance(bound)
	tables := newTables(exec.SpoolOptions{Memory: allowance, Dir: t.TempDir(), Allocator: allocator}, 4*bound)
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := put(tables, name); err != nil {
			t.Fatal(err)
		}
		if allowance.Free() < 0 {
			t.Fatalf("%d bytes are free after %s", allowance.Free(), name)
		}
	}
	full := allowance.Free()
	if full >= bound/2 {
		t.Errorf("%d of %d bytes are free: nothing was kept in memory", full, bound)
	}
	for _, name := range []string{"a", "d"} {
		if n := count(tables, name); n != rows {
			t.Errorf("%s has %d rows", name, n)
		}
	}
	one := tables.bytes() / 4
	if one < 8*rows {
		t.Errorf("a table counts for %d bytes", one)
	}
	var err error
	for n := 5; err == nil; n++ {
		if err = put(tables, strconv.Itoa(n)); n > int(4*bound/one)+1 {
			t.Fatalf("%d tables of %d bytes were taken", n, one)
		}
	}
	if d := diag.From(err); d.Code != diag.ServerFull || d.Hint == "" || tables.bytes() > 4*bound || tables.bytes()%one != 0 {
		t.Errorf("beyond the limit, with %d bytes: %v", tables.bytes(), err)
	}
	tables.drop("5")
	if err := put(tables, "again"); err != nil {
		t.Errorf("where a table has given its room: %v", err)
	}
	tables.drop("a")
	if allowance.Free() <= full {
		t.Error("a dropped table keeps its memory")
	}
	if err := tables.close(); err != nil || allowance.Free() != bound || tables.bytes() != 0 {
		t.Errorf("%d bytes of memory are free at the end, %d bytes held, %v", allowance.Free(), tables.bytes(), err)
	}
}
