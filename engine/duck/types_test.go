package duck

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// samples are values of each type of the plan, as AppendValueFromString reads
// them.
var samples = []struct {
	typ    string
	values []string
}{
	{"boolean", []string{"true", "false"}},
	{"tinyint", []string{"-128", "127"}},
	{"smallint", []string{"-32768", "32767"}},
	{"integer", []string{"-2147483648", "2147483647"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"utinyint", []string{"0", "255"}},
	{"usmallint", []string{"0", "65535"}},
	{"uinteger", []string{"0", "4294967295"}},
	{"ubigint", []string{"0", "18446744073709551615"}},
	{"float", []string{"1.5", "NaN", "-Inf"}},
	{"double", []string{"0.1", "NaN", "+Inf", "-0"}},
	{"string", []string{"", "x", "exactly 12 b", "longer than twelve bytes", "naïve – 東京"}},
	{"large_string", []string{"", "also longer than twelve bytes"}},
	{"binary", []string{"", "AP8=", "AAECAwQFBgcICQoLDA0ODw=="}},
	{"large_binary", []string{"AP8=", "AAECAwQFBgcICQoLDA0ODw=="}},
	{"date", []string{"1970-01-01", "2024-02-29", "0001-01-01"}},
	{"time", []string{"00:00:00", "23:59:59.999999"}},
	{"timestamp", []string{"1969-12-31 23:59:59.999999", "2024-02-29 12:00:00.000001"}},
	{"timestamp_s", []string{"1969-12-31 23:59:59", "2024-02-29 12:00:00"}},
	{"timestamp_ms", []string{"1969-12-31 23:59:59.999", "2024-02-29 12:00:00.001"}},
	{"timestamp_ns", []string{"1969-12-31 23:59:59.999999999", "2024-02-29 12:00:00.000000001"}},
	{"timestamptz", []string{"2024-02-29 12:00:00.000001Z", "1900-01-01 00:00:00Z"}},
	{"interval", []string{`{"months":1,"days":-2,"nanoseconds":3000}`, `{"months":0,"days":0,"nanoseconds":0}`}},
	{"decimal(4,1)", []string{"-999.9", "0.1"}},
	{"decimal(9,2)", []string{"-9999999.99", "0.01"}},
	{"decimal(18,3)", []string{"-999999999999999.999", "0.001"}},
	{"decimal(38,10)", []string{"-1234567890123456789012345678.0123456789", "0.0000000001"}},
	{"list<bigint>", []string{"[]", "[1]", "[1,null,3]"}},
	{"list<list<string>>", []string{"[]", `[["a"],null,[],["b","longer than twelve bytes"]]`}},
	{"struct<a: bigint, b c: string>", nil}, // replaced below: the type string needs quotes
	{"map<string, double>", []string{`[]`, `[{"key":"a","value":1.5},{"key":"b","value":null}]`}},
	{"null", nil},
	{"list<null>", []string{"[]", "[null]"}},
}

// typesTable has a column of each type, and rows of every value and NULL.
func typesTable(t *testing.T, mem memory.Allocator, rows int) arrow.RecordBatch {
	t.Helper()
	fields := make([]plan.Field, len(samples)+1)
	fields[len(samples)] = plan.Field{Name: "n", Type: "bigint"}
	for i, s := range samples {
		if strings.HasPrefix(s.typ, "struct") {
			s.typ = `struct<a: bigint, "b c": struct<d: list<string>>>`
			samples[i].values = []string{`{"a":1,"b c":{"d":["x",null]}}`, `{"a":null,"b c":null}`, `{"a":3,"b c":{"d":null}}`}
		}
		fields[i] = plan.Field{Name: fmt.Sprintf("column %d \"é\"", i), Type: s.typ}
	}
	schema, err := plan.ParseSchema(fields)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for row := range rows {
		for i, s := range samples {
			if k := row % (len(s.values) + 1); k < len(s.values) {
				appendValue(t, b.Field(i), s.values[k])
			} else {
				b.Field(i).AppendNull()
			}
		}
		b.Field(len(samples)).(*array.Int64Builder).Append(int64(row))
	}
	batch := b.NewRecordBatch()
	exec.CountNulls(batch) // DuckDB's threads and the test read it at the same time
	return batch
}

func appendValue(t *testing.T, b array.Builder, value string) {
	t.Helper()
	var err error
	if interval, ok := b.(*array.MonthDayNanoIntervalBuilder); ok {
		err = interval.UnmarshalJSON([]byte("[" + value + "]"))
	} else {
		err = b.AppendValueFromString(value)
	}
	if err != nil {
		t.Fatalf("%s %q: %v", b.Type(), value, err)
	}
}

// Whatever goes through a query that changes nothing comes out as the same
// type and value: whole batches and slices of them, and through a stored
// table.
func TestTypesRoundTrip(t *testing.T) {
	d, mem := open(t, Options{Threads: 2, BatchRowsMax: 1000})
	whole := typesTable(t, mem, 5000)
	defer whole.Release()
	// Cutting a list of NULLs writes to what its cuts share: what is read meanwhile is another.
	wanted := typesTable(t, mem, 5000)
	defer wanted.Release()
	filter := plan.Filter{Predicate: plan.SQL("n >= 0")}
	sort := plan.Sort{By: []plan.SortKey{{Expr: plan.Column("n")}}}
	onN := []plan.JoinKey{{Left: "n", Right: "n"}}
	input := exec.RelationalInput{Node: "in", Schema: whole.Schema()}
	tests := []struct {
		name  string
		nodes []plan.Node
	}{
		{"filter", []plan.Node{{ID: "f", Inputs: []string{"in"}, Op: filter}}},
		{"sort", []plan.Node{
			{ID: "f", Inputs: []string{"in"}, Op: plan.Sort{By: []plan.SortKey{{Expr: plan.Column("n"), Descending: true}}}},
			{ID: "s", Inputs: []string{"f"}, Op: sort},
		}},
		{"stored and joined", []plan.Node{
			{ID: "f", Inputs: []string{"in"}, Op: filter},
			{ID: "j", Inputs: []string{"f", "f"}, Op: plan.Join{How: plan.Semi, On: onN}},
			{ID: "n", Inputs: []string{"f"}, Op: plan.Project{Exprs: []plan.NamedExpr{sqlExpr("n", "n")}}},
			{ID: "k", Inputs: []string{"j", "n"}, Op: plan.Join{How: plan.Left, On: onN}},
			{ID: "s", Inputs: []string{"k"}, Op: sort},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &exec.RelationalStage{ID: "s", Inputs: []exec.RelationalInput{input}, Nodes: test.nodes}
			r := &batchReader{batches: []arrow.RecordBatch{whole.NewSlice(0, 1), whole.NewSlice(1, 7), whole.NewSlice(7, 2500), whole.NewSlice(2500, 5000)}}
			at := int64(0)
			err := d.Run(t.Context(), s, []exec.BatchReader{r}, func(batch arrow.RecordBatch) error {
				defer batch.Release()
				want := wanted.NewSlice(at, at+batch.NumRows())
				defer want.Release()
				compareBatches(t, batch, want)
				at += batch.NumRows()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if at != whole.NumRows() {
				t.Errorf("%d rows came out", at)
			}
		})
	}
}

func compareBatches(t *testing.T, got, want arrow.RecordBatch) {
	t.Helper()
	for i, f := range want.Schema().Fields() {
		typ := f.Type
		switch typ.ID() {
		case arrow.LARGE_STRING:
			typ = arrow.BinaryTypes.String
		case arrow.LARGE_BINARY:
			typ = arrow.BinaryTypes.Binary
		}
		if !arrow.TypeEqual(got.Column(i).DataType(), typ) || got.Schema().Field(i).Name != f.Name {
			t.Errorf("column %d is %s, want %q %s", i, got.Schema().Field(i), f.Name, typ)
		}
		for row := range int(want.NumRows()) {
			g, w := got.Column(i).ValueStr(row), want.Column(i).ValueStr(row)
			if got.Column(i).IsNull(row) != want.Column(i).IsNull(row) || g != w {
				t.Fatalf("%s, row %d: got %s, want %s", f.Type, row, g, w)
			}
		}
	}
}

func TestTypesAreNormalised(t *testing.T) {
	tests := []struct{ sql, typ, value string }{
		{"sum(x)", "bigint", "6"},
		{"sum(x)::UHUGEINT", "ubigint", "6"},
		{"list(x::HUGEINT ORDER BY x)", "list<bigint>", "[1,2,3]"},
		{"{'a': sum(x), 'b': [sum(x)]}", "struct<a: bigint, b: list<bigint>>", `{"a":6,"b":[6]}`},
		{"map {'a': sum(x)}", "map<string, bigint>", `[{"key":"a","value":6}]`},
		{"row(1, 'a')", "struct<v1: integer, v2: string>", `{"v1":1,"v2":"a"}`},
		{"[1, 2]::INT[2]", "list<integer>", "[1,2]"},
		{"'a'::ENUM('a', 'b')", "string", "a"},
		{"'00000000-0000-0000-0000-000000000001'::UUID", "string", "00000000-0000-0000-0000-000000000001"},
		{"'101'::BIT", "string", "101"},
		{"'12:00:00+02'::TIMETZ", "string", "12:00:00+02"},
		{"'12:00:00.5'::TIME_NS", "time", "12:00:00.500000"},
		{`'{"a":1}'::JSON`, "string", `{"a":1}`},
		{"union_value(a := 1)", "string", "1"},
		{"123::BIGNUM", "string", "123"},
		{"'2024-01-01 02:00:00+02'::TIMESTAMPTZ", "timestamptz", "2024-01-01T00:00:00Z"},
		{"NULL", "integer", "null"},
		{"avg(x::DECIMAL(10,2))", "double", "2"},
		{"sum(x::DECIMAL(10,2))", "decimal(38,2)", "6"},
	}
	in := newTable(t, "x:integer", `[{"x":1},{"x":2},{"x":3}]`)
	d, mem := open(t, Options{})
	for _, test := range tests {
		t.Run(test.sql, func(t *testing.T) {
			s := stage([]table{in}, plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("v", test.sql)}})
			out, err := runStage(t, d, mem, s, in)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(out); got != "v "+test.typ {
				t.Errorf("type is %s, want %s", got, test.typ)
			}
			equalRows(t, out.rows, "v="+test.value)
		})
	}
}

// Vectors that are constants or dictionaries inside DuckDB come out flat.
func TestNestedConstants(t *testing.T) {
	in := newTable(t, "x:integer s:string", `[{"x":1,"s":"a"},{"x":2,"s":"b"},{"x":3,"s":null},{"x":4,"s":"d"}]`)
	d, mem := open(t, Options{})
	s := stage([]table{in}, plan.Filter{Predicate: plan.SQL("x % 2 = 0")}, plan.Project{Exprs: []plan.NamedExpr{
		sqlExpr("c", "'constant longer than twelve'"),
		sqlExpr("st", "{'k': 7, 's': s, 'l': [s, 'q'], 'n': {'z': x}}"),
		sqlExpr("l", "[{'k': 7, 's': s}]"),
		sqlExpr("r", "list_reverse(range(x))"),
		sqlExpr("none", "NULL::STRUCT(a INTEGER)"),
		sqlExpr("some", "CASE WHEN x = 2 THEN [x] END"),
	}})
	out, err := runStage(t, d, mem, s, in)
	if err != nil {
		t.Fatal(err)
	}
	equalRows(
		t, out.rows,
		`c=constant longer than twelve st={"k":7,"l":["b","q"],"n":{"z":2},"s":"b"} l=[{"k":7,"s":"b"}] r=[1,0] none=null some=[2]`,
		`c=constant longer than twelve st={"k":7,"l":["d","q"],"n":{"z":4},"s":"d"} l=[{"k":7,"s":"d"}] r=[3,2,1,0] none=null some=null`,
	)
}

// A filter leaves gaps between lists, whose elements stay where they were.
func TestListsWithGaps(t *testing.T) {
	in := newTable(t, "x:integer l:list<string> m:map<string,bigint>", `[
		{"x":1,"l":["a","b"],"m":[{"key":"a","value":1}]}, {"x":2,"l":["c"],"m":[]},
		{"x":3,"l":null,"m":null}, {"x":4,"l":["d",null],"m":[{"key":"d","value":4},{"key":"e","value":5}]},
		{"x":5,"l":["f"],"m":[{"key":"f","value":6}]}, {"x":6,"l":[],"m":null}, {"x":8,"l":["h"],"m":[{"key":"h","value":8}]}]`)
	d, mem := open(t, Options{})
	for _, ops := range [][]plan.Op{
		{plan.Filter{Predicate: plan.SQL("x % 2 = 0")}},
		{plan.Filter{Predicate: plan.SQL("x % 2 = 0")}, plan.Sort{By: []plan.SortKey{{Expr: plan.Column("x")}}}},
	} {
		out, err := runStage(t, d, mem, stage([]table{in}, ops...), in)
		if err != nil {
			t.Fatal(err)
		}
		equalRows(
			t, out.rows,
			`x=2 l=["c"] m=[]`,
			`x=4 l=["d",null] m=[{"key":"d","value":4},{"key":"e","value":5}]`,
			`x=6 l=[] m=null`,
			`x=8 l=["h"] m=[{"key":"h","value":8}]`,
		)
	}
}

// DuckDB may order and share the elements of lists as it likes, and does not
// say where a list that is NULL would be.
func TestListsOutOfOrder(t *testing.T) {
	element := duckdb.CreateLogicalType(duckdb.TypeBigInt)
	defer duckdb.DestroyLogicalType(&element)
	list := duckdb.CreateListType(element)
	defer duckdb.DestroyLogicalType(&list)
	chunk := duckdb.CreateDataChunk([]duckdb.LogicalType{list})
	defer duckdb.DestroyDataChunk(&chunk)
	vector := duckdb.DataChunkGetVector(chunk, 0)
	const elements = 6
	duckdb.ListVectorReserve(vector, elements)
	duckdb.ListVectorSetSize(vector, elements)
	values := unsafe.Slice((*int64)(duckdb.VectorGetData(duckdb.ListVectorGetChild(vector))), elements)
	for i := range values {
		values[i] = int64(i)
	}
	entries := []listEntry{{4, 2}, {0, 2}, {2, 1}, {1 << 40, 1 << 40}, {3, 1}, {0, 3}, {5, 0}, {5, 1}}
	copy(unsafe.Slice((*listEntry)(duckdb.VectorGetData(vector)), len(entries)), entries)
	duckdb.VectorEnsureValidityWritable(vector)
	duckdb.ValiditySetRowInvalid(duckdb.VectorGetValidity(vector), 3)
	duckdb.DataChunkSetSize(chunk, duckdb.IdxT(len(entries)))

	_, mem := open(t, Options{})
	columns := []column{{"l", sqlType{id: duckdb.TypeList, fields: []column{{"", sqlType{id: duckdb.TypeBigInt}}}}}}
	options := Options{Allocator: mem}
	if err := options.complete(); err != nil {
		t.Fatal(err)
	}
	var rows []string
	b := newBatcher(arrow.NewSchema(arrowFields(columns), nil), columns, options, func(batch arrow.RecordBatch) error {
		defer batch.Release()
		rows = rowsOf(t, batch)
		return nil
	})
	defer b.release()
	if err := errors.Join(b.add(chunk), b.flush()); err != nil {
		t.Fatal(err)
	}
	equalRows(t, rows, "l=[4,5]", "l=[0,1]", "l=[2]", "l=null", "l=[3]", "l=[0,1,2]", "l=[]", "l=[5]")
}

// Arrow types that plans do not name, as files and Python have them.
func TestForeignTypes(t *testing.T) {
	d, mem := open(t, Options{})
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	tests := []struct {
		typ    arrow.DataType
		values []string
		want   string // of plan.FormatType
	}{
		{dictionary, []string{"a", "b", "a"}, "string"},
		{arrow.BinaryTypes.StringView, []string{"a", "longer than twelve bytes"}, "string"},
		{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32), []string{"[1,2]", "[3,4]"}, "list<integer>"},
		{arrow.LargeListOf(arrow.PrimitiveTypes.Int32), []string{"[1,2]", "[]"}, "list<integer>"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, []string{"AP8=", "AAE="}, "binary"},
		{arrow.FixedWidthTypes.Date64, []string{"2024-01-01", "1969-12-31"}, "date"},
		{arrow.FixedWidthTypes.Time32ms, []string{"01:02:03.004", "00:00:00"}, "time"},
		{arrow.FixedWidthTypes.Time64ns, []string{"01:02:03.000004", "00:00:00"}, "time"},
		{&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}, []string{"2024-01-01 00:00:00Z"}, "timestamptz"},
		{&arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, []string{"2024-01-01 00:00:00Z"}, "timestamptz"},
		{arrow.FixedWidthTypes.Duration_ms, []string{"1500ms"}, "interval"},
		{extensions.NewUUIDType(), []string{"00000000-0000-0000-0000-000000000001"}, "string"},
	}
	for _, test := range tests {
		t.Run(test.typ.String(), func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "v", Type: test.typ, Nullable: true}}, nil)
			b := array.NewRecordBuilder(mem, schema)
			defer b.Release()
			for i, value := range test.values {
				b.Field(0).(*array.Int64Builder).Append(int64(i))
				appendValue(t, b.Field(1), value)
			}
			b.Field(0).(*array.Int64Builder).Append(-1)
			b.Field(1).AppendNull()
			batch := b.NewRecordBatch()
			s := &exec.RelationalStage{
				ID: "s", Inputs: []exec.RelationalInput{{Node: "in", Schema: schema}},
				Nodes: []plan.Node{{ID: "f", Inputs: []string{"in"}, Op: plan.Filter{Predicate: plan.SQL("n <> 99")}}},
			}
			var values []string
			err := d.Run(t.Context(), s, []exec.BatchReader{&batchReader{batches: []arrow.RecordBatch{batch}}}, func(out arrow.RecordBatch) error {
				defer out.Release()
				if got := plan.FormatType(out.Schema().Field(1).Type); got != test.want {
					t.Errorf("type is %s, want %s", got, test.want)
				}
				for i := range int(out.NumRows()) {
					values = append(values, out.Column(1).ValueStr(i))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(values) != len(test.values)+1 || values[len(values)-1] != array.NullValueStr {
				t.Fatalf("values are %q", values)
			}
			t.Logf("%s", values)
		})
	}
}

func TestUnreadableType(t *testing.T) {
	d, _ := open(t, Options{})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "fine", Type: arrow.PrimitiveTypes.Int64},
		{Name: "huge", Type: &arrow.Decimal256Type{Precision: 60, Scale: 2}},
	}, nil)
	_, err := d.Describe(t.Context(), stage([]table{{schema: schema}}, plan.Limit{N: 1}))
	problem := diag.From(err)
	if problem.Code != diag.TypeMismatch || !strings.Contains(problem.Message, `"huge"`) || problem.Operator != "limit" {
		t.Errorf("got %s", problem.Render())
	}
}

func TestOverflowIsAnError(t *testing.T) {
	in := newTable(t, "x:bigint", `[{"x":9223372036854775807},{"x":1}]`)
	d, mem := open(t, Options{})
	_, err := runStage(t, d, mem, stage([]table{in}, plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("total", "sum(x)")}}), in)
	problem := diag.From(err)
	if problem.Code != diag.QueryFailed || !strings.Contains(problem.Cause, "9223372036854775808") || problem.Operator != "agg" || problem.Source == nil {
		t.Errorf("got %s", problem.Render())
	}
}

func TestWideTable(t *testing.T) {
	const width = 2000
	fields := make([]string, width)
	row := make([]string, width)
	for i := range fields {
		fields[i] = fmt.Sprintf("c%d:bigint", i)
		row[i] = fmt.Sprintf(`"c%d":%d`, i, i)
	}
	in := newTable(t, strings.Join(fields, " "), "[{"+strings.Join(row, ",")+"}]")
	d, mem := open(t, Options{})
	out, err := runStage(t, d, mem, stage([]table{in},
		plan.Project{Keep: true, Exprs: []plan.NamedExpr{sqlExpr("C1999", "c0 + c1999 + 1")}},
		plan.Filter{Predicate: plan.SQL("c1 = 1")}), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.rows) != 1 || !strings.HasPrefix(out.rows[0], "c0=0 c1=1 ") || !strings.HasSuffix(out.rows[0], " c1998=1998 C1999=2000") {
		t.Errorf("row is %.40s…", out.rows)
	}
}

// A table without columns keeps its number of rows.
func TestNoColumns(t *testing.T) {
	d, mem := open(t, Options{})
	schema := arrow.NewSchema(nil, nil)
	s := stage([]table{{schema: schema}}, plan.Limit{N: 3000}, plan.Filter{Predicate: plan.Lit(true)})
	batch := array.NewRecordBatch(schema, nil, 5000)
	var rows int64
	err := d.Run(t.Context(), s, []exec.BatchReader{&batchReader{batches: []arrow.RecordBatch{batch}}}, func(out arrow.RecordBatch) error {
		defer out.Release()
		if out.NumCols() != 0 {
			t.Errorf("there are %d columns", out.NumCols())
		}
		rows += out.NumRows()
		return nil
	})
	if err != nil || rows != 3000 {
		t.Errorf("%d rows, %v", rows, err)
	}
	counted := newTable(t, "x:bigint", `[]`)
	counted.schema = schema
	out, err := runStage(t, d, mem, stage([]table{{schema: schema}}, plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("n", "count(*)")}}), table{schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	equalRows(t, out.rows, "n=0")
}

func TestBatchLimits(t *testing.T) {
	in := newTable(t, "x:bigint", `[{"x":1}]`)
	text := plan.Project{Exprs: []plan.NamedExpr{sqlExpr("t", "repeat('x', 1000)"), sqlExpr("i", "i")}}
	many := plan.Project{Exprs: []plan.NamedExpr{sqlExpr("i", "unnest(range(10000))")}}
	tests := []struct {
		name    string
		options Options
		rowsMax int64
		batches int
	}{
		{"rows", Options{BatchRowsMax: 3000}, 3000, 4},
		{"bytes", Options{BatchBytesMax: 100_000}, 99, 0},
		{"one row is more than the limit", Options{BatchBytesMax: 10}, 1, 10_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, mem := open(t, test.options)
			out, err := runStage(t, d, mem, stage([]table{in}, many, text), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range out.sizes {
				if size > test.rowsMax {
					t.Fatalf("a batch has %d rows", size)
				}
			}
			if test.batches != 0 && len(out.sizes) != test.batches {
				t.Errorf("there are %d batches", len(out.sizes))
			}
			for i, row := range out.rows {
				if !strings.HasSuffix(row, fmt.Sprintf("x i=%d", i)) {
					t.Fatalf("row %d is %q", i, row)
				}
			}
			if len(out.rows) != 10_000 {
				t.Errorf("there are %d rows", len(out.rows))
			}
		})
	}
}

func TestLiterals(t *testing.T) {
	tests := []struct{ typ, value, want string }{
		{"bigint", "-9223372036854775808", "-9223372036854775808"},
		{"bigint", `"9223372036854775807"`, "9223372036854775807"},
		{"ubigint", `"18446744073709551615"`, "18446744073709551615"},
		{"tinyint", "-128", "-128"},
		{"boolean", "false", "false"},
		{"double", "0.1", "0.1"},
		{"double", "1e300", "1e+300"},
		{"double", `"NaN"`, "NaN"},
		{"double", `"-Infinity"`, "-Inf"},
		{"float", "0.1", "0.1"},
		{"string", `"it's \"quoted\" -- and /* more */"`, `it's "quoted" -- and /* more */`},
		{"string", `"a\u0000b"`, "a\x00b"},
		{"string", `"\u0000"`, "\x00"},
		{"large_string", `"x"`, "x"},
		{"binary", `"00FF"`, "AP8="},
		{"decimal(10,2)", `"-12345678.90"`, "-12345678.9"},
		{"date", `"2024-02-29"`, "2024-02-29"},
		{"time", `"12:00:00.000001"`, "12:00:00.000001"},
		{"timestamp", `"2024-02-29 12:00:00"`, "2024-02-29T12:00:00"},
		{"timestamp_ns", `"2024-02-29 12:00:00.000000001"`, "2024-02-29T12:00:00.000000001"},
		{"timestamptz", `"2024-02-29 12:00:00"`, "2024-02-29T12:00:00Z"},
		{"timestamptz", `"2024-02-29 12:00:00+02"`, "2024-02-29T10:00:00Z"},
		{"interval", `"1 month"`, `{"months":1,"days":0,"nanoseconds":0}`},
		{"null", "null", "null"},
		{"list<bigint>", "null", "null"},
		{`struct<"a b": string>`, "null", "null"},
	}
	in := newTable(t, "x:bigint", `[{"x":1}]`)
	d, mem := open(t, Options{})
	for _, test := range tests {
		t.Run(test.typ+" "+test.value, func(t *testing.T) {
			out, err := runStage(t, d, mem, stage([]table{in}, plan.Project{Exprs: []plan.NamedExpr{named("v", lit(test.typ, test.value))}}), in)
			if err != nil {
				t.Fatal(err)
			}
			equalRows(t, out.rows, "v="+test.want)
			wantType := strings.TrimPrefix(test.typ, "large_")
			if got := describe(out); got != "v "+wantType {
				t.Errorf("type is %s", got)
			}
		})
	}
	for _, test := range []struct{ typ, value string }{
		{"bigint", "1.5"},
		{"bigint", "9223372036854775808"},
		{"bigint", `"1; DROP TABLE x"`},
		{"utinyint", "-1"},
		{"double", `"x"`},
		{"decimal(4,1)", `"1.25"`},
		{"decimal(4,1)", `"1000.0"`},
		{"decimal(4,1)", `"1' OR '1'='1"`},
		{"binary", `"0x"`},
		{"string", "1"},
		{"boolean", "1"},
		{"list<bigint>", `"[1]"`},
		{"nonsense", "1"},
		{"date", `"2024\u0000"`},
	} {
		_, err := d.Describe(t.Context(), stage([]table{in}, plan.Project{Exprs: []plan.NamedExpr{named("v", lit(test.typ, test.value))}}))
		if diag.From(err) == nil || diag.From(err).Code != diag.InvalidPlan {
			t.Errorf("%s %s: got %v", test.typ, test.value, err)
		}
	}
}

func TestWidenedDecimals(t *testing.T) {
	out := make([]byte, 32)
	widen(out, []int16{-5, 7})
	values := arrow.Decimal128Traits.CastFromBytes(out)
	if values[0] != decimal128.FromI64(-5) || values[1] != decimal128.FromI64(7) {
		t.Errorf("got %v", values)
	}
}
