package ops

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// newSideTable makes a table for some operators, and gives the path of its file.
func newSideTable(t *testing.T, users int, bytesMax int64) (*SideTable, string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "1.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	return NewSideTable(SideTableOptions{
		Name: "model", Function: "predict", Schema: oneColumn, File: file, Users: users, BytesMax: bytesMax,
	}), file.Name()
}

// runBeside sends rows through an operator into sink, and what makes the table
// into it.
func runBeside(t *testing.T, source, makes exec.Operator, table *SideTable, operator func(int) exec.Operator, parallelism int, sink exec.Operator) error {
	t.Helper()
	g := exec.NewGraph(exec.Options{SpillDir: t.TempDir(), QueueBytes: 1})
	once := func(o exec.Operator) func(int) exec.Operator { return func(int) exec.Operator { return o } }
	from := "in"
	vertices := []*exec.Vertex{{ID: "in", Parallelism: 1, New: once(source), Schema: oneColumn}}
	if makes != nil {
		from = "beside"
		vertices = append(vertices, &exec.Vertex{ID: from, Parallelism: 1, New: once(makes), Schema: oneColumn})
	}
	vertices = append(vertices,
		&exec.Vertex{ID: "table", Parallelism: 1, New: once(table), Inputs: []string{from}},
		&exec.Vertex{ID: "f", Parallelism: parallelism, New: operator, Inputs: []string{"in"}, Schema: twoColumns},
		&exec.Vertex{ID: "out", Parallelism: 1, New: once(sink), Inputs: []string{"f"}},
	)
	for _, v := range vertices {
		if err := g.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return g.Run(t.Context())
}

func readTable(t *testing.T, path string) (values []int64) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := ipc.NewFileReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !r.Schema().Equal(oneColumn) {
		t.Errorf("the file has the schema %s", r.Schema())
	}
	for i := range r.NumRecords() {
		batch, err := r.RecordBatch(i)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, batch.Column(0).(*array.Int64).Int64Values()...)
	}
	return values
}

// besideRunner fails where a bundle comes before the table is whole.
type besideRunner struct {
	*fakeRunner
	table *SideTable
}

func (r besideRunner) Open(ctx context.Context, stage *exec.FunctionStage) (exec.FunctionSession, error) {
	s, err := r.fakeRunner.Open(ctx, stage)
	return besideSession{s, r.table}, err
}

type besideSession struct {
	exec.FunctionSession
	table *SideTable
}

func (s besideSession) Submit(ctx context.Context, input exec.BatchSource, firstRow int64) (exec.Bundle, error) {
	select {
	case <-s.table.complete:
		return s.FunctionSession.Submit(ctx, input, firstRow)
	default:
		return nil, errors.New("a bundle came before the table")
	}
}

// slowly passes rows on, one batch in a while.
type slowly struct{ batches }

func (s slowly) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	for i := int64(0); i < s.n; i += 2 {
		time.Sleep(time.Millisecond)
		if err := out.EmitBatch(ctx, numbers(s.alloc, oneColumn, i, i+1)); err != nil {
			return err
		}
	}
	return nil
}

func withTable(r exec.FunctionRunner, table *SideTable, whole bool) func(int) exec.Operator {
	return func(int) exec.Operator {
		stage := &exec.FunctionStage{ID: "s", Kind: exec.StageMapBatches, Input: oneColumn, Output: result}
		if whole {
			stage.Kind = exec.StageMapTable
			return &MapTable{Runner: r, Stage: stage, Columns: []int{0}, Tables: []*SideTable{table}}
		}
		return &Function{Runner: r, Stage: stage, Columns: []int{0}, Schema: result, Tables: []*SideTable{table}, Eager: true}
	}
}

// The table is whole before the first bundle, also where it is made of the
// input itself; watermarks keep their places.
func TestTableComesBeforeBundles(t *testing.T) {
	for _, c := range []struct {
		own, whole  bool
		parallelism int
	}{{false, false, 1}, {false, false, 3}, {true, false, 3}, {false, true, 1}, {true, true, 1}} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		table, path := newSideTable(t, c.parallelism, 0)
		r := besideRunner{&fakeRunner{alloc: alloc, failAt: -1}, table}
		var makes exec.Operator
		if !c.own {
			makes = slowly{batches{alloc, 60}}
		}
		sink := &keep{}
		if err := runBeside(t, batches{alloc, 60}, makes, table, withTable(r, table, c.whole), c.parallelism, exec.Handle(sink)); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if values := readTable(t, path); len(values) != 60 || !slices.IsSorted(values) {
			t.Errorf("%+v: the table holds %v", c, values)
		}
		if len(sink.rows) != 60 || sink.rows[59][0] != 118 || !c.whole && len(sink.watermarks) != 30 {
			t.Errorf("%+v: %d rows, %d watermarks", c, len(sink.rows), len(sink.watermarks))
		}
		if r.opened != r.closed {
			t.Errorf("%+v: %d sessions opened, %d closed", c, r.opened, r.closed)
		}
		alloc.AssertSize(t, 0)
	}
}

// forever gives rows until somebody stops it.
type forever struct{ alloc memory.Allocator }

func (f forever) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	for i := int64(0); ; i++ {
		if err := out.EmitBatch(ctx, numbers(f.alloc, oneColumn, i)); err != nil {
			return err
		}
	}
}

// A table that no operator waits for any more is not read to its end.
func TestTableThatNobodyWants(t *testing.T) {
	for _, parallelism := range []int{1, 3} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		table, _ := newSideTable(t, parallelism, 0)
		r := &fakeRunner{alloc: alloc, failAt: -1}
		// The input is empty, so nothing has to be computed.
		if err := runBeside(t, batches{alloc, 0}, forever{alloc}, table, withTable(r, table, false), parallelism, exec.Handle(&keep{})); err != nil {
			t.Fatal(err)
		}
		alloc.AssertSize(t, 0)
	}
}

func TestTableBeyondItsLimit(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	table, _ := newSideTable(t, 1, 3<<20)
	r := &fakeRunner{alloc: alloc, failAt: -1}
	err := runBeside(t, batches{alloc, 10}, forever{alloc}, table, withTable(r, table, true), 1, exec.Handle(&keep{}))
	d := diag.From(err)
	if d.Code != diag.OutputTooLarge || !strings.Contains(d.Render(), "the table model of predict has more than 3 MiB") {
		t.Errorf("got %v", err)
	}
	alloc.AssertSize(t, 0)
}

// failing gives some rows and fails.
type failing struct{ alloc memory.Allocator }

func (f failing) Run(ctx context.Context, _ []*exec.Input, out *exec.Output) error {
	if err := out.EmitBatch(ctx, numbers(f.alloc, oneColumn, 1)); err != nil {
		return err
	}
	return errBoom
}

func TestTableThatFails(t *testing.T) {
	for _, whole := range []bool{false, true} {
		alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
		table, _ := newSideTable(t, 1, 0)
		r := &fakeRunner{alloc: alloc, failAt: -1}
		if err := runBeside(t, batches{alloc, 100}, failing{alloc}, table, withTable(r, table, whole), 1, exec.Handle(&keep{})); !errors.Is(err, errBoom) {
			t.Errorf("got %v", err)
		}
		if r.opened != r.closed {
			t.Errorf("%d sessions opened, %d closed", r.opened, r.closed)
		}
		alloc.AssertSize(t, 0)
	}
}

// A disk that is full is told of by the table's name.
func TestTableThatCannotBeWritten(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	table := NewSideTable(SideTableOptions{Name: "model", Function: "predict", Schema: oneColumn, File: full, Users: 1})
	r := &fakeRunner{alloc: alloc, failAt: -1}
	err = runBeside(t, batches{alloc, 10}, batches{alloc, 10}, table, withTable(r, table, false), 1, exec.Handle(&keep{}))
	if d := diag.From(err); d.Code != diag.OutputUnwritable || !strings.Contains(d.Message, "model of predict") {
		t.Errorf("got %v", err)
	}
	alloc.AssertSize(t, 0)
}

// What a schema says besides names and types, and other batches do not, keeps
// nothing from being written.
func TestTableOfAnySchema(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	metadata := arrow.NewMetadata([]string{"pandas"}, []string{"{}"})
	table, path := newSideTable(t, 1, 0)
	table.schema = NewSideTable(SideTableOptions{Schema: arrow.NewSchema(oneColumn.Fields(), &metadata)}).schema
	r := &fakeRunner{alloc: alloc, failAt: -1}
	if err := runBeside(t, batches{alloc, 10}, nil, table, withTable(r, table, false), 1, exec.Handle(&keep{})); err != nil {
		t.Fatal(err)
	}
	if values := readTable(t, path); len(values) != 10 {
		t.Errorf("the table holds %v", values)
	}
	alloc.AssertSize(t, 0)
}
