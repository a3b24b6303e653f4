package fnapi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// writeTable writes the numbers from first on to a file of Arrow's.
func writeTable(t *testing.T, mem memory.Allocator, first int, rows ...int) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "table.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := ipc.NewFileWriter(file, ipc.WithSchema(xSchema))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := newSource(mem, first, rows...).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for range rows {
		batch, err := reader.Next(t.Context())
		if err == nil {
			err = w.Write(batch)
			batch.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// A function gets tables beside its batches: whole, opened once by a worker and
// again by the one that takes its place.
func TestHarnessTables(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	mark := filepath.Join(t.TempDir(), "died")
	stage := pythonStage(exec.StageMapBatches, ySchema, function("f1", "add", plan.MapBatchesFunction, fmt.Sprintf(`
import os
import pyarrow as pa
import pyarrow.compute as pc
seen = set()
def add(batch, *, most, none):
    seen.add(id(most))
    assert len(seen) == 1 and isinstance(most, pa.Table)
    assert none.num_rows == 0 and none.schema.names == ["x"], none
    if batch["x"][0].as_py() >= 40 and not os.path.exists(%q):
        open(%q, "w").close()
        os.kill(os.getpid(), 9)
    y = pc.add(batch["x"], float(pc.max(most["x"]).as_py()))
    return pa.table({"y": y})
`, mark, mark), nil, 0))
	stage.Tables = []exec.StageTable{
		{Name: "most", Path: writeTable(t, mem, 0, 500, 0, 501)}, {Name: "none", Path: writeTable(t, mem, 0)},
	}
	s := open(t, newPythonRunner(t), stage)
	defer s.Close()
	for first := range 10 {
		batches, err := one(s, newSource(mem, 10*first, 10), int64(10*first))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range batches[0].Column(0).(*array.Float64).Float64Values() {
			if v != float64(10*first+i+1000) {
				t.Fatalf("row %d is %v", 10*first+i, v)
			}
		}
		releaseAll(batches)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("no worker died")
	}
}

// A function of a whole table reads its batches as they come, gives what it
// likes, and is run anew where its worker dies.
func TestHarnessMapTable(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	mark := filepath.Join(t.TempDir(), "died")
	stage := pythonStage(exec.StageMapTable, ySchema, function("f1", "sums", plan.MapTableFunction, fmt.Sprintf(`
import os
import pyarrow as pa
import pyarrow.compute as pc
def sums(batches, start):
    total = pc.sum(start["x"]).as_py()
    yield pa.record_batch({"y": [float(total)]})
    for n, batch in enumerate(batches):
        if n == 20 and not os.path.exists(%q):
            open(%q, "w").close()
            os.kill(os.getpid(), 9)
        total += pc.sum(batch["x"]).as_py()
        yield pa.record_batch({"y": [float(total)]})
`, mark, mark), nil, 0))
	stage.Tables = []exec.StageTable{{Name: "start", Path: writeTable(t, mem, 0, 5)}}
	s := open(t, newPythonRunner(t), stage)
	defer s.Close()
	for _, batches := range []int{40, 0} {
		got, err := one(s, newSource(mem, 0, slices.Repeat([]int{10_000}, batches)...), 0)
		if err != nil {
			t.Fatal(err)
		}
		rows := float64(10_000 * batches)
		if last := got[len(got)-1].Column(0).(*array.Float64).Value(0); len(got) != batches+1 || last != rows*(rows-1)/2+10 {
			t.Errorf("%d batches gave %d, the last of %v", batches, len(got), last)
		}
		releaseAll(got)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("no worker died")
	}
}

// One that does not read, and one that only passes on.
func TestHarnessMapTableThatReadsLittle(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	r := newPythonRunner(t)
	for source, rows := range map[string]int64{
		"def f(batches):\n    return None\n": 0,
		"def f(batches):\n    import pyarrow as pa\n    return pa.table({'y': [next(batches)['x'][0].as_py()]})\n": 1,
		"def f(batches):\n    return (b.rename_columns(['y']) for b in batches)\n":                                 40 << 18,
	} {
		s := open(t, r, pythonStage(exec.StageMapTable, ySchema, function("f1", "f", plan.MapTableFunction, source, nil, 0)))
		for range 2 {
			batches, err := one(s, newSource(mem, 0, slices.Repeat([]int{1 << 18}, 40)...), 0)
			if err != nil {
				t.Fatal(err)
			}
			got := int64(0)
			for _, b := range batches {
				got += b.NumRows()
			}
			if got != rows {
				t.Errorf("%s gave %d rows, not %d", source, got, rows)
			}
			releaseAll(batches)
		}
		_ = s.Close()
	}
}
