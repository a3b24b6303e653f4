package duck

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// TestMain checks that every handle of DuckDB was given back. The bindings
// count them only when built with -tags debug_bindings.
func TestMain(m *testing.M) {
	code := m.Run()
	if counts := duckdb.GetAllocationCounts(); counts != "" {
		fmt.Fprintf(os.Stderr, "handles of DuckDB were not given back:\n%s", counts)
		code = 1
	}
	os.Exit(code)
}

// open gives a database whose result batches, and the memory for inputs, are
// checked for leaks when the test ends.
func open(t *testing.T, options Options) (*Database, memory.Allocator) {
	t.Helper()
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	options.Allocator = checked
	d, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		checked.AssertSize(t, 0)
	})
	return d, checked
}

// batchReader gives batches, which it owns, and then err or the end.
type batchReader struct {
	batches []arrow.RecordBatch
	err     error
	closed  atomic.Bool
}

func (r *batchReader) Next(context.Context) (arrow.RecordBatch, error) {
	if len(r.batches) == 0 {
		if r.err != nil {
			return nil, r.err
		}
		return nil, io.EOF
	}
	batch := r.batches[0]
	r.batches = r.batches[1:]
	return batch, nil
}

func (r *batchReader) Close() {
	r.closed.Store(true)
	for _, batch := range r.batches {
		batch.Release()
	}
	r.batches = nil
}

// table is an input in memory, given as JSON rows.
type table struct {
	schema *arrow.Schema
	rows   []string // JSON arrays of rows, one for each batch
}

func newTable(t *testing.T, fields string, batches ...string) table {
	t.Helper()
	var parsed []plan.Field
	for _, f := range strings.Fields(fields) {
		name, typ, _ := strings.Cut(f, ":")
		parsed = append(parsed, plan.Field{Name: name, Type: typ})
	}
	schema, err := plan.ParseSchema(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return table{schema, batches}
}

func (tab table) reader(t *testing.T, mem memory.Allocator) *batchReader {
	t.Helper()
	r := &batchReader{}
	for _, rows := range tab.rows {
		batch, _, err := array.RecordFromJSON(mem, tab.schema, strings.NewReader(rows))
		if err != nil {
			t.Fatal(err)
		}
		r.batches = append(r.batches, batch)
	}
	return r
}

// stage makes a stage of a chain of operators over the inputs: the first
// operator reads all inputs, each further one the one before.
func stage(inputs []table, ops ...plan.Op) *exec.RelationalStage {
	s := &exec.RelationalStage{ID: "s"}
	var previous []string
	for i, in := range inputs {
		id := fmt.Sprintf("in%d", i)
		s.Inputs = append(s.Inputs, exec.RelationalInput{Node: id, Schema: in.schema})
		previous = append(previous, id)
	}
	for i, op := range ops {
		node := plan.Node{
			ID: fmt.Sprintf("n%d", i), Inputs: previous, Op: op,
			Origin: &diag.Source{File: "job.py", Line: i + 1},
		}
		s.Nodes = append(s.Nodes, node)
		previous = []string{node.ID}
	}
	return s
}

// outcome is what a stage gave.
type outcome struct {
	schema *arrow.Schema
	rows   []string // each a JSON object
	sizes  []int64  // rows of each batch
}

// runStage describes and runs a stage, and checks that the two agree.
func runStage(t *testing.T, d *Database, mem memory.Allocator, s *exec.RelationalStage, inputs ...table) (outcome, error) {
	t.Helper()
	schema, err := d.Describe(t.Context(), s)
	if err != nil {
		return outcome{}, err
	}
	out := outcome{schema: schema}
	var readers []exec.BatchReader
	for _, in := range inputs {
		readers = append(readers, in.reader(t, mem))
	}
	err = d.Run(t.Context(), s, readers, func(batch arrow.RecordBatch) error {
		defer batch.Release()
		if !batch.Schema().Equal(schema) {
			t.Errorf("Run's schema is %s, Describe's %s", batch.Schema(), schema)
		}
		out.sizes = append(out.sizes, batch.NumRows())
		out.rows = append(out.rows, rowsOf(t, batch)...)
		return nil
	})
	for i, reader := range readers {
		if !reader.(*batchReader).closed.Load() {
			t.Errorf("the reader of input %d was not closed", i)
		}
	}
	if err == nil {
		runNarrow(t, d, mem, s, out, inputs)
	}
	return out, err
}

// runNarrow runs a stage once more with nothing but the columns that it is
// said to use, which must give the same.
func runNarrow(t *testing.T, d *Database, mem memory.Allocator, s *exec.RelationalStage, want outcome, inputs []table) {
	t.Helper()
	used, err := d.Uses(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	narrow := *s
	narrow.Inputs = slices.Clone(s.Inputs)
	var readers []exec.BatchReader
	for i, in := range inputs {
		narrow.Inputs[i].Columns = used[i]
		reader := in.reader(t, mem)
		for j, batch := range reader.batches {
			reader.batches[j] = pickColumns(batch, used[i])
			batch.Release()
		}
		readers = append(readers, reader)
	}
	var rows []string
	err = d.Run(t.Context(), &narrow, readers, func(batch arrow.RecordBatch) error {
		defer batch.Release()
		rows = append(rows, rowsOf(t, batch)...)
		return nil
	})
	if err != nil {
		t.Errorf("with the columns %v alone: %v", used, err)
	}
	if !slices.Equal(rows, want.rows) && !slices.Equal(slices.Sorted(slices.Values(rows)), slices.Sorted(slices.Values(want.rows))) {
		t.Errorf("with the columns %v alone the rows are\n%s\ninstead of\n%s", used, strings.Join(rows, "\n"), strings.Join(want.rows, "\n"))
	}
}

func pickColumns(batch arrow.RecordBatch, columns []int) arrow.RecordBatch {
	var fields []arrow.Field
	var picked []arrow.Array
	for _, c := range columns {
		fields, picked = append(fields, batch.Schema().Field(c)), append(picked, batch.Column(c))
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), picked, batch.NumRows())
}

func rowsOf(t *testing.T, batch arrow.RecordBatch) []string {
	t.Helper()
	if batch.NumCols() == 0 {
		return make([]string, batch.NumRows())
	}
	structs := array.RecordToStructArray(batch)
	defer structs.Release()
	rows := make([]string, structs.Len())
	for i := range rows {
		var parts []string
		for j, f := range batch.Schema().Fields() {
			value := "null"
			if col := batch.Column(j); col.IsValid(i) && col.DataType().ID() != arrow.NULL {
				value = col.ValueStr(i)
			}
			parts = append(parts, f.Name+"="+value)
		}
		rows[i] = strings.Join(parts, " ")
	}
	return rows
}

func lit(typ, value string) plan.Expr {
	return plan.Expr{Literal: &plan.Literal{Type: typ, Value: []byte(value)}}
}

func named(name string, e plan.Expr) plan.NamedExpr { return plan.NamedExpr{Name: name, Expr: e} }

func sqlExpr(name, text string) plan.NamedExpr { return named(name, plan.SQL(text)) }

func equalRows(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
