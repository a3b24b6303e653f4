package gotests_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine"
	"github.com/alink-runtime/alink/engine/plan"
)

// metamorphicCase is a plan over the tables "t" and "u" whose result must not
// depend on where batches begin, on the number of subtasks, or on workers that
// die.
type metamorphicCase struct {
	name string
	// nodes are JSON; the last one is the result. Where it writes, then are the
	// nodes that read what was written. %DIR% stands for a folder of the run's
	// own.
	nodes, then string
	// unordered says that the operator promises no order of its rows.
	unordered bool
}

// setting is one way to run a case.
type setting struct {
	batchRows, parallelism int
	kill                   bool
}

func (s setting) String() string {
	return fmt.Sprintf("batches of %d rows, %d subtasks, kill=%t", s.batchRows, s.parallelism, s.kill)
}

// metamorphicRows is small because batches of one row cost a message each.
const (
	metamorphicRows = 90
	killsMax        = 2 // in a run
)

// TestMetamorphic runs every operator under many settings, which must agree.
func TestMetamorphic(t *testing.T) {
	settings := []setting{
		{8192, 1, false},
		{7, 1, false},
		{1, 1, false},
		{8192, 4, false},
		{7, 4, false},
		{1, 4, false},
		{7, 1, true},
		{1, 4, true},
	}
	want := make([][]string, len(metamorphicCases))
	var killed atomic.Int64
	for _, s := range settings {
		e := openEngineWith(t, func(o *engine.Options) { o.BatchRows, o.Parallelism = s.batchRows, s.parallelism })
		metamorphicTables(t, e)
		for i, c := range metamorphicCases {
			dir := t.TempDir()
			p := metamorphicPlan(t, strings.ReplaceAll(c.nodes, "%DIR%", dir))
			if s.kill && len(p.Functions) == 0 {
				continue // no workers
			}
			got := runMetamorphic(t, e, p, s, &killed)
			if c.then != "" {
				got = runMetamorphic(t, e, metamorphicPlan(t, strings.ReplaceAll(c.then, "%DIR%", dir)), setting{}, nil)
			}
			if t.Failed() {
				t.Fatalf("%s: %s", c.name, s)
			}
			if c.unordered {
				slices.Sort(got)
			}
			if want[i] == nil {
				if want[i] = got; len(got) == 0 {
					t.Errorf("%s gives no rows, and so shows nothing", c.name)
				}
			}
			if !slices.Equal(got, want[i]) {
				t.Errorf("%s: %s: %s", c.name, s, firstDifference(want[i], got))
			}
		}
	}
	if killed.Load() == 0 {
		t.Error("no worker was killed")
	}
	t.Logf("%d workers were killed", killed.Load())
}

func firstDifference(want, got []string) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("row %d is\n%s\ninstead of\n%s", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d rows instead of %d", len(got), len(want))
}

// metamorphicPlan adds the tables, the output and the functions that a case's
// nodes name.
func metamorphicPlan(t *testing.T, text string) *plan.Plan {
	t.Helper()
	var nodes []json.RawMessage
	if err := json.Unmarshal([]byte("["+text+"]"), &nodes); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var last struct{ ID, Op string }
	if err := json.Unmarshal(nodes[len(nodes)-1], &last); err != nil {
		t.Fatal(err)
	}
	all := append([]json.RawMessage{
		json.RawMessage(`{"id": "t", "op": "table", "args": {"table": "t"}}`),
		json.RawMessage(`{"id": "u", "op": "table", "args": {"table": "u"}}`),
	}, nodes...)
	if !strings.HasPrefix(last.Op, "write_") && last.Op != "keep_table" {
		all = append(all, json.RawMessage(fmt.Sprintf(`{"id": "out", "op": "collect", "inputs": [%q]}`, last.ID)))
	}
	encoded, err := json.Marshal(map[string]any{"version": plan.Version, "nodes": all})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Decode(encoded)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	// A worker that was killed when a run had just ended may be met by the next.
	retries := killsMax + 1
	p.Functions = map[string]*plan.Function{}
	for name, f := range metamorphicFunctions() {
		if strings.Contains(text, fmt.Sprintf("%q", name)) {
			f.Options.Retries = &retries
			p.Functions[name] = f
		}
	}
	if len(p.Functions) > 0 {
		p.Environments = map[string]*plan.Environment{"here": {Interpreter: testPython(t)}}
	}
	return p
}

// runMetamorphic gives the rows of a plan as text. With s.kill it kills workers
// at random moments.
func runMetamorphic(t *testing.T, e *engine.Engine, p *plan.Plan, s setting, killed *atomic.Int64) []string {
	t.Helper()
	if s.kill {
		stop := make(chan struct{})
		var killing sync.WaitGroup
		killing.Go(func() { killed.Add(killAtRandom(e, stop)) })
		defer func() { close(stop); killing.Wait() }()
	}
	job, err := e.Submit(t.Context(), p)
	if err != nil {
		t.Errorf("%v", err)
		return nil
	}
	if _, collects := p.Nodes[len(p.Nodes)-1].Op.(plan.Collect); !collects {
		if err := job.Wait(t.Context()); err != nil {
			t.Errorf("%v", err)
		}
		return nil
	}
	reader, err := job.Result("out")
	if err != nil {
		t.Errorf("%v", err)
		return nil
	}
	defer reader.Release()
	var rows []string
	for reader.Next() {
		batch := reader.RecordBatch()
		for i := range int(batch.NumRows()) {
			var row strings.Builder
			for j, column := range batch.Columns() {
				fmt.Fprintf(&row, "%s=%s ", batch.ColumnName(j), column.ValueStr(i))
			}
			rows = append(rows, row.String())
		}
	}
	if err := reader.Err(); err != nil {
		t.Errorf("%v", err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	return rows
}

// killAtRandom kills busy workers until it has killed enough or is stopped.
func killAtRandom(e *engine.Engine, stop <-chan struct{}) (killed int64) {
	for killed < killsMax {
		select {
		case <-stop:
			return killed
		case <-time.After(time.Duration(rand.IntN(8)) * time.Millisecond):
		}
		for _, w := range e.Status().Workers {
			if w.Busy && syscall.Kill(w.PID, syscall.SIGKILL) == nil {
				killed++
				break
			}
		}
	}
	return killed
}

// metamorphicTables uploads t (id, k, x, s, l) with NULLs, NaN, equal keys and
// unicode, and u (k, w).
func metamorphicTables(t *testing.T, e *engine.Engine) {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "k", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	words := []string{"", "naïve", "日本", "a b", `q"uote`}
	for i := range metamorphicRows {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if k := b.Field(1).(*array.StringBuilder); i%11 == 3 {
			k.AppendNull()
		} else {
			k.Append(fmt.Sprintf("k%d", i*i%5))
		}
		switch x := b.Field(2).(*array.Float64Builder); {
		case i%7 == 2:
			x.AppendNull()
		case i%13 == 5:
			x.Append(math.NaN())
		default:
			x.Append(float64(i%17) / 4)
		}
		if s := b.Field(3).(*array.StringBuilder); i%6 == 4 {
			s.AppendNull()
		} else {
			s.Append(words[i%len(words)])
		}
		if l := b.Field(4).(*array.ListBuilder); i%5 == 1 {
			l.AppendNull()
		} else {
			l.Append(true)
			for j := range i % 4 {
				l.ValueBuilder().(*array.Int64Builder).Append(int64(i * j))
			}
		}
		b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(int64(i) * 7_000_000))
	}
	putBatch(t, e, "t", b.NewRecordBatch())
	other := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "w", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil))
	defer other.Release()
	for i, k := range []string{"k0", "k1", "k1", "k9"} {
		other.Field(0).(*array.StringBuilder).Append(k)
		other.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	other.Field(0).AppendNull()
	other.Field(1).AppendNull()
	putBatch(t, e, "u", other.NewRecordBatch())
}

// putBatch uploads a batch, which it takes over.
func putBatch(t *testing.T, e *engine.Engine, name string, batch arrow.RecordBatch) {
	t.Helper()
	defer batch.Release()
	reader, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	if err := e.PutTable(t.Context(), name, reader); err != nil {
		t.Fatal(err)
	}
}

// metamorphicFunctions are those that the cases name.
func metamorphicFunctions() map[string]*plan.Function {
	columns := func(name string, kind plan.FunctionKind, text string) *plan.Function {
		return source(name, text, kind, "double", "here")
	}
	whole := func(name string, kind plan.FunctionKind, schema []plan.Field, text string) *plan.Function {
		f := source(name, text, kind, "", "here")
		f.Schema = schema
		if kind == plan.TrainFunction {
			f.Options.Workers = 3 // so few rows would have one
		}
		return f
	}
	mean := source("mean", meanOf, plan.AggregateFunction, "double", "here")
	mean.State = []plan.Field{{Name: "sum", Type: "double"}, {Name: "n", Type: "bigint"}}
	word := []plan.Field{{Name: "word", Type: "string"}, {Name: "n", Type: "bigint"}}
	return map[string]*plan.Function{
		"by_row":    columns("by_row", plan.RowFunction, "def by_row(x):\n    return None if x is None else x * 2 + 1\n"),
		"two":       columns("two", plan.RowFunction, "def two(i, x):\n    return float(i) if x is None else i + x\n"),
		"by_numpy":  columns("by_numpy", plan.NumpyFunction, "def by_numpy(x):\n    return x * 2 + 1\n"),
		"by_arrow":  columns("by_arrow", plan.ArrowFunction, "import pyarrow.compute as pc\ndef by_arrow(x):\n    return pc.add(x, x)\n"),
		"by_pandas": columns("by_pandas", plan.PandasFunction, "def by_pandas(x):\n    return x * 2\n"),
		"by_polars": columns("by_polars", plan.PolarsFunction, "def by_polars(x):\n    return x * 2\n"),
		"mean":      mean,
		"letters": whole("letters", plan.FlatMapFunction, word, `
def letters(s, i):
    for n, c in enumerate(s or ""):
        yield c, n * i
`),
		"smallest": whole("smallest", plan.MapGroupsFunction, word, `
import pyarrow as pa
def smallest(group):
    ids = group.column("id").to_pylist()
    return pa.table({"word": pa.array([group.column("k")[0].as_py()], pa.string()), "n": pa.array([min(ids) * 1000 + len(ids)], pa.int64())})
`),
		"positive": whole("positive", plan.MapBatchesFunction, word, `
import pyarrow as pa, pyarrow.compute as pc
def positive(batch):
    kept = batch.filter(pc.greater(batch["x"], 1))
    return pa.RecordBatch.from_arrays([kept["s"], kept["id"]], names=["word", "n"])
`),
		"running": whole("running", plan.MapTableFunction, word, `
import pyarrow as pa
def running(batches):
    n = 0
    for batch in batches:
        for s, i in zip(batch["s"].to_pylist(), batch["id"].to_pylist()):
            n += i
            yield pa.table({"word": pa.array([s], pa.string()), "n": [n]})
`),
		"beside": whole("beside", plan.MapBatchesFunction, word, `
import pyarrow as pa, pyarrow.compute as pc
def beside(batch, totals, *, u):
    n = pc.add(batch["id"], totals["n"][totals.num_rows - 1].as_py() * u.num_rows)
    return pa.table({"word": batch["s"], "n": n})
`),
		"shared": whole("shared", plan.TrainFunction, word, `
import struct
import pyarrow as pa
def shared(share):
    ids = pa.ipc.open_file(pa.memory_map(share.path)).read_all()["id"].to_pylist()
    begin, end = (len(ids) * r // share.size for r in (share.rank, share.rank + 1))
    mine = struct.pack("<d", sum(ids[begin:end]))
    total = share.exchange("sum", mine) if share.size > 1 else mine
    return pa.table({"word": ["total"], "n": [int(struct.unpack("<d", total)[0])]})
`),
		"total": source("total", `
def total(batches):
    return sum(v for b in batches for v in b["id"].to_pylist())
`, plan.FitFunction, "", "here"),
	}
}

// metamorphicCases has every operator at least once.
var metamorphicCases = []metamorphicCase{
	{"filter", `{"id": "a", "op": "filter", "inputs": ["t"], "args": {"predicate": {"sql": "id % 3 = 0"}}}`, "", false},
	{"select", `{"id": "a", "op": "select", "inputs": ["t"], "args": {"exprs": [{"name": "y", "expr": {"sql": "x * 2"}}, {"name": "s", "expr": {"column": "s"}}]}}`, "", false},
	{"with_columns", `{"id": "a", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "x", "expr": {"sql": "coalesce(x, -1)"}}]}}`, "", false},
	{"arrangement", `{"id": "a", "op": "select", "inputs": ["t"], "args": {"exprs": [{"name": "x", "expr": {"column": "s"}}, {"name": "s", "expr": {"column": "x"}}]}}`, "", false},
	{"drop", `{"id": "a", "op": "drop", "inputs": ["t"], "args": {"columns": ["s", "l"]}}`, "", false},
	{"rename", `{"id": "a", "op": "rename", "inputs": ["t"], "args": {"columns": {"id": "number"}}}`, "", false},
	{"agg", `{"id": "a", "op": "agg", "inputs": ["t"], "args": {"keys": [{"name": "k", "expr": {"column": "k"}}], "aggregates": [{"name": "n", "expr": {"sql": "count(x)"}}, {"name": "m", "expr": {"sql": "max(id)"}}]}}`, "", true},
	{"agg of the whole", `{"id": "a", "op": "agg", "inputs": ["t"], "args": {"aggregates": [{"name": "n", "expr": {"sql": "count(*)"}}]}}`, "", false},
	{"join inner", joinNode("inner"), "", true},
	{"join left", joinNode("left"), "", true},
	{"join right", joinNode("right"), "", true},
	{"join full", joinNode("full"), "", true},
	{"join semi", joinNode("semi"), "", true},
	{"join anti", joinNode("anti"), "", true},
	{"join of a function's results", `
		{"id": "f", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "by_row", "args": [{"column": "x"}]}}]}},
		{"id": "g", "op": "agg", "inputs": ["f"], "args": {"keys": [{"name": "k", "expr": {"column": "k"}}], "aggregates": [{"name": "m", "expr": {"sql": "max(y)"}}]}},
		{"id": "a", "op": "join", "inputs": ["f", "g"], "args": {"on": [{"left": "k", "right": "k"}], "how": "inner"}}`, "", true},
	{"order_by", `{"id": "a", "op": "order_by", "inputs": ["t"], "args": {"by": [{"expr": {"column": "k"}, "descending": true, "nulls_first": true}]}}`, "", false},
	{"limit", `{"id": "a", "op": "limit", "inputs": ["t"], "args": {"n": 13, "offset": 5}}`, "", false},
	{"limit after a function", `
		{"id": "f", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "by_row", "args": [{"column": "x"}]}}]}},
		{"id": "a", "op": "limit", "inputs": ["f"], "args": {"n": 13}}`, "", false},
	{"row function", callNode("by_row", "x"), "", false},
	{"row function of two", `{"id": "a", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "two", "args": [{"column": "id"}, {"sql": "x + 1"}]}}]}}`, "", false},
	{"nested calls", `{"id": "a", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "by_numpy", "args": [{"call": "by_row", "args": [{"column": "x"}]}]}}]}}`, "", false},
	{"numpy function", callNode("by_numpy", "x"), "", false},
	{"arrow function", callNode("by_arrow", "x"), "", false},
	{"union", `
		{"id": "v", "op": "filter", "inputs": ["t"], "args": {"predicate": {"sql": "id < 20"}}},
		{"id": "a", "op": "union", "inputs": ["v", "t"]}`, "", false},
	{"union by name", `{"id": "a", "op": "union", "inputs": ["t", "u"], "args": {"by_name": true}}`, "", false},
	{"distinct", `
		{"id": "v", "op": "select", "inputs": ["t"], "args": {"exprs": [{"name": "k", "expr": {"column": "k"}}]}},
		{"id": "a", "op": "distinct", "inputs": ["v"]}`, "", false},
	{"distinct on", `{"id": "a", "op": "distinct", "inputs": ["t"], "args": {"on": ["k"]}}`, "", false},
	{"sample n", `{"id": "a", "op": "sample", "inputs": ["t"], "args": {"n": 10, "seed": 3}}`, "", false},
	{"sample fraction", `{"id": "a", "op": "sample", "inputs": ["t"], "args": {"fraction": 0.3, "seed": 3}}`, "", false},
	{"unnest", `{"id": "a", "op": "unnest", "inputs": ["t"], "args": {"column": "l", "keep_empty": true}}`, "", false},
	{"join cross", `{"id": "a", "op": "join", "inputs": ["t", "u"], "args": {"how": "cross", "suffix": "_r"}}`, "", true},
	{"filter by a function", `{"id": "a", "op": "filter", "inputs": ["t"], "args": {"predicate": {"op": ">", "args": [{"call": "by_row", "args": [{"column": "x"}]}, {"literal": {"type": "double", "value": 3}}]}}}`, "", false},
	{"map_batches", `{"id": "a", "op": "map_batches", "inputs": ["t"], "args": {"function": "positive"}}`, "", false},
	{"write_parquet", writeNode("parquet", "out.parquet", ""), readNode("parquet", "out.parquet"), false},
	{"write_csv", writeNode("csv", "out.csv", ""), readNode("csv", "out.csv"), false},
	{"write_json", writeNode("json", "out.jsonl", ""), readNode("json", "out.jsonl"), false},
	{"keep_table", `{"id": "a", "op": "filter", "inputs": ["t"], "args": {"predicate": {"sql": "x > 1"}}}, {"id": "w", "op": "keep_table", "inputs": ["a"], "args": {"table": "kept"}}`, `{"id": "k", "op": "table", "args": {"table": "kept"}}`, false},
	{"write_parquet by partition", writeNode("parquet", "out", `, "folder": true, "partition_by": ["k"]`), readNode("parquet", "out"), true},
	{"write_json to a folder", writeNode("json", "out", `, "folder": true`), readNode("json", "out"), false},
	{"pandas function", callNode("by_pandas", "x"), "", false},
	{"polars function", callNode("by_polars", "x"), "", false},
	{"flat_map", `{"id": "a", "op": "flat_map", "inputs": ["t"], "args": {"function": "letters", "args": [{"column": "s"}, {"column": "id"}]}}`, "", false},
	{"join_lateral left", `{"id": "a", "op": "flat_map", "inputs": ["t"], "args": {"function": "letters", "args": [{"column": "s"}, {"column": "id"}], "keep": true, "outer": true}}`, "", false},
	{"aggregate function", `{"id": "a", "op": "agg", "inputs": ["t"], "args": {"keys": [{"name": "k", "expr": {"column": "k"}}], "aggregates": [{"name": "m", "expr": {"call": "mean", "args": [{"column": "id"}]}}, {"name": "n", "expr": {"sql": "count(*)"}}]}}`, "", true},
	{"aggregate function of the whole", `{"id": "a", "op": "agg", "inputs": ["t"], "args": {"aggregates": [{"name": "m", "expr": {"call": "mean", "args": [{"column": "id"}]}}]}}`, "", false},
	{"map_groups", `{"id": "a", "op": "map_groups", "inputs": ["t"], "args": {"keys": [{"name": "k", "expr": {"column": "k"}}], "function": "smallest", "columns": ["k", "id"]}}`, "", false},
	{"sql", `{"id": "a", "op": "sql", "inputs": ["t", "u"], "args": {"query": "SELECT t.id, u.w FROM t JOIN u USING (k) WHERE t.id > $least", "tables": ["t", "u"], "params": {"least": {"type": "bigint", "value": 9}}}}`, "", true},
	{"window", `
		{"id": "w", "op": "with_watermark", "inputs": ["t"], "args": {"column": "ts", "delay_us": 5000000}},
		{"id": "a", "op": "window", "inputs": ["w"], "args": {"kind": "tumble", "size_us": 60000000, "on": "ts", "keys": [{"name": "k", "expr": {"column": "k"}}], "aggregates": [{"name": "n", "expr": {"sql": "count(*)"}}, {"name": "s", "expr": {"sql": "sum(id)"}}]}}`, "", true},
	{"window of a function's results", `
		{"id": "f", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "by_row", "args": [{"column": "x"}]}}]}},
		{"id": "w", "op": "with_watermark", "inputs": ["f"], "args": {"column": "ts", "delay_us": 0}},
		{"id": "a", "op": "window", "inputs": ["w"], "args": {"kind": "tumble", "size_us": 60000000, "on": "ts", "aggregates": [{"name": "m", "expr": {"sql": "max(y)"}}]}}`, "", true},
	{"map_table", `{"id": "a", "op": "map_table", "inputs": ["t"], "args": {"function": "running", "columns": ["id", "s"]}}`, "", false},
	{"tables of map_batches", `
		{"id": "v", "op": "filter", "inputs": ["t"], "args": {"predicate": {"sql": "x > 1"}}},
		{"id": "r", "op": "map_table", "inputs": ["v"], "args": {"function": "running"}},
		{"id": "a", "op": "map_batches", "inputs": ["t", "r", "u"], "args": {"function": "beside", "tables": ["totals", "u"]}}`, "", false},
	{"tables behind a watermark", `
		{"id": "w", "op": "with_watermark", "inputs": ["t"], "args": {"column": "ts", "delay_us": 5000000}},
		{"id": "l", "op": "limit", "inputs": ["w"], "args": {"n": 20}},
		{"id": "r", "op": "map_table", "inputs": ["l"], "args": {"function": "running"}},
		{"id": "a", "op": "map_batches", "inputs": ["w", "r", "u"], "args": {"function": "beside", "tables": ["totals", "u"]}}`, "", false},
	{"train", `{"id": "a", "op": "train", "inputs": ["t"], "args": {"function": "shared", "columns": ["id"]}}`, "", false},
	{"fit", `{"id": "a", "op": "fit", "inputs": ["t"], "args": {"function": "total"}}`, "", false},
}

func joinNode(how string) string {
	return fmt.Sprintf(`{"id": "a", "op": "join", "inputs": ["t", "u"], "args": {"on": [{"left": "k", "right": "k"}], "how": %q}}`, how)
}

// writeNode writes t, and what a function makes of it, without its list, which
// CSV cannot hold.
func writeNode(format, name, options string) string {
	return fmt.Sprintf(`
		{"id": "v", "op": "drop", "inputs": ["t"], "args": {"columns": ["l"]}},
		{"id": "f", "op": "with_columns", "inputs": ["v"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": "by_row", "args": [{"column": "x"}]}}]}},
		{"id": "a", "op": "write_%s", "inputs": ["f"], "args": {"path": "%%DIR%%/%s", "mode": "error"%s}}`, format, name, options)
}

func readNode(format, name string) string {
	return fmt.Sprintf(`{"id": "a", "op": "read_%s", "args": {"path": "%%DIR%%/%s"}}`, format, name)
}

func callNode(function, column string) string {
	return fmt.Sprintf(`{"id": "a", "op": "with_columns", "inputs": ["t"], "args": {"keep": true, "exprs": [{"name": "y", "expr": {"call": %q, "args": [{"column": %q}]}}]}}`, function, column)
}
