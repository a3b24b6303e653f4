package engine

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// TestCutKeepsTheRows: batches become small, and rows stay what they were.
func TestCutKeepsTheRows(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	spool, err := exec.NewSpool(schema, exec.SpoolOptions{MemoryBytes: 1 << 20, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	next := int64(0)
	for _, n := range []int{10, 0, 3, 4} {
		b := array.NewInt64Builder(memory.DefaultAllocator)
		for range n {
			b.Append(next)
			next++
		}
		column := b.NewArray()
		batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(n))
		column.Release()
		b.Release()
		if err := spool.Put(t.Context(), exec.BatchElement(batch)); err != nil {
			t.Fatal(err)
		}
	}
	if err := spool.Put(t.Context(), exec.Element{Kind: exec.KindEnd}); err != nil {
		t.Fatal(err)
	}
	for _, closedEarly := range []bool{true, false} {
		reader, err := cut(spool, 4).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		for {
			batch, err := reader.Next(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if batch.NumRows() > 4 {
				t.Errorf("a batch of %d rows", batch.NumRows())
			}
			for _, v := range batch.Column(0).(*array.Int64).Int64Values() {
				if v != want {
					t.Fatalf("row %d is %d", want, v)
				}
				want++
			}
			batch.Release()
			if closedEarly {
				break
			}
		}
		reader.Close()
		if !closedEarly && want != next {
			t.Errorf("%d rows of %d", want, next)
		}
	}
}
