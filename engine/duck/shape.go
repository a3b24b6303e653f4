package duck

import (
	"fmt"
	"math"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// rowNumber numbers the rows of a relation in their order. DuckDB computes it
// while rows pass, and keeps their order for it.
const rowNumber = "row_number() OVER ()"

// numberName is the name of a column of row numbers within a node.
const numberName = "alink number"

// list gives the quoted names of columns for SELECT; a table without columns
// has one that stands for them.
func list(columns []column) string {
	if len(columns) == 0 {
		return "NULL::BOOLEAN"
	}
	return sqlNames(columns)
}

// numbered is the input with the numbers of its rows, as a table of SQL.
func (g *generator) numbered() string {
	return "(SELECT *, " + rowNumber + " AS " + quote(numberName) + " FROM " + quote(g.input.name) + ")"
}

func (g *generator) union(op plan.Union, inputs []*relation) ([]column, *diag.Diagnostic) {
	columns, places, problem := unionColumns(op, inputs)
	if problem != nil {
		return nil, problem
	}
	for i, in := range inputs {
		if i > 0 {
			g.out.write(" UNION ALL ")
		}
		g.out.write("SELECT ")
		for j, col := range columns {
			if j > 0 {
				g.out.write(", ")
			}
			start := g.out.len()
			if at := places[i][j]; at < 0 {
				g.out.write("NULL")
			} else {
				g.out.write(quote(in.columns[at].name))
			}
			g.out.mark(start, columnSubject(col.name))
		}
		if len(columns) == 0 {
			g.out.write("NULL::BOOLEAN")
		}
		g.out.write(" FROM " + quote(in.name))
	}
	return columns, nil
}

// unionColumns gives the columns of a union and, for each input, the place
// there of each of them; -1 is none.
func unionColumns(op plan.Union, inputs []*relation) ([]column, [][]int, *diag.Diagnostic) {
	columns := append([]column(nil), inputs[0].columns...)
	known := map[string]int{}
	for i, c := range columns {
		known[plan.Fold(c.name)] = i
	}
	places := make([][]int, len(inputs))
	for i, in := range inputs {
		if !op.ByName && len(in.columns) != len(columns) {
			return nil, nil, diag.New(diag.InvalidPlan, "the tables of the union have %d and %d columns", len(columns), len(in.columns)).
				WithHint("union(…, by_name=True) puts columns together by name and fills what is missing with NULL")
		}
		for j, c := range in.columns {
			at := j
			if op.ByName {
				var ok bool
				if at, ok = known[plan.Fold(c.name)]; !ok {
					at = len(columns)
					known[plan.Fold(c.name)] = at
					columns = append(columns, c)
				}
			}
			for len(places[i]) <= at {
				places[i] = append(places[i], -1)
			}
			places[i][at] = j
			typ, problem := unionType(columns[at], c)
			if problem != nil {
				return nil, nil, problem
			}
			columns[at].typ = typ
		}
	}
	for i := range places {
		for len(places[i]) < len(columns) {
			places[i] = append(places[i], -1)
		}
	}
	return columns, places, nil
}

// unionType refuses what SQL would turn into text or numbers unasked. Where
// the types differ it gives no type: DuckDB finds the common one.
func unionType(a, b column) (sqlType, *diag.Diagnostic) {
	switch {
	case a.typ.equal(b.typ), b.typ.id == duckdb.TypeSQLNull:
		return a.typ, nil
	case a.typ.id == duckdb.TypeSQLNull:
		return b.typ, nil
	case a.typ.kind() != b.typ.kind():
		return sqlType{}, diag.New(diag.TypeMismatch, "the union puts %q, a %s, below %q, a %s",
			b.name, plan.FormatType(b.typ.arrow()), a.name, plan.FormatType(a.typ.arrow())).
			WithHint("cast one of them before the union: with_columns(%s=al.col(%q).cast(…))", a.name, a.name)
	}
	return sqlType{id: a.typ.id}, nil
}

// equal reports whether the types are the same, aliases apart.
func (t sqlType) equal(other sqlType) bool {
	if t.id != other.id || t.width != other.width || t.scale != other.scale || len(t.fields) != len(other.fields) {
		return false
	}
	for i, f := range t.fields {
		if f.name != other.fields[i].name || !f.typ.equal(other.fields[i].typ) {
			return false
		}
	}
	return true
}

// kind groups the types that are converted to each other without a word.
func (t sqlType) kind() duckdb.Type {
	switch t.id {
	case duckdb.TypeTinyInt, duckdb.TypeSmallInt, duckdb.TypeInteger, duckdb.TypeBigInt,
		duckdb.TypeUTinyInt, duckdb.TypeUSmallInt, duckdb.TypeUInteger, duckdb.TypeUBigInt,
		duckdb.TypeFloat, duckdb.TypeDouble, duckdb.TypeDecimal:
		return duckdb.TypeDouble
	case duckdb.TypeDate, duckdb.TypeTimestamp, duckdb.TypeTimestampS, duckdb.TypeTimestampMS, duckdb.TypeTimestampNS, duckdb.TypeTimestampTZ:
		return duckdb.TypeTimestamp
	}
	return t.id
}

// distinct takes for each group the row with the smallest number, and then
// puts the rows back into their order.
func (g *generator) distinct(op plan.Distinct) ([]column, *diag.Diagnostic) {
	columns := g.input.columns
	number := quote(numberName)
	if len(columns) == 0 {
		g.out.write("SELECT NULL::BOOLEAN FROM " + quote(g.input.name) + " LIMIT 1")
		return columns, nil
	}
	if op.On == nil {
		names := sqlNames(columns)
		g.out.write("SELECT " + names + " FROM (SELECT " + names + ", min(" + number + ") AS " + number +
			" FROM " + g.numbered() + " GROUP BY " + names + ") ORDER BY " + number)
		return columns, nil
	}
	keys := make([]string, len(op.On))
	for i, name := range op.On {
		at, found := g.input.find(name)
		if !found {
			return nil, unknownColumn(name, g.input, "")
		}
		keys[i] = quote(columns[at].name)
	}
	packed, unpacked := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		packed[i] = fmt.Sprintf(`"c%d" := %s`, i, quote(c.name))
		unpacked[i] = fmt.Sprintf(`struct_extract("alink first", 'c%d')`, i)
	}
	g.out.write("SELECT " + strings.Join(unpacked, ", ") + " FROM (SELECT arg_min(struct_pack(" + strings.Join(packed, ", ") + "), " + number +
		`) AS "alink first", min(` + number + ") AS " + number + " FROM " + g.numbered() + " GROUP BY " + strings.Join(keys, ", ") + ") ORDER BY " + number)
	return columns, nil
}

// sample picks rows by a hash of their number and the seed. DuckDB's own
// sampling loses the order of rows and gives other rows with more threads.
func (g *generator) sample(op plan.Sample) []column {
	columns := g.input.columns
	number := quote(numberName)
	hash := fmt.Sprintf("hash(xor(hash(%s), %d::UBIGINT))", number, scramble(uint64(op.Seed)))
	g.out.write("SELECT " + list(columns) + " FROM ")
	switch {
	case op.N != nil:
		g.out.write(fmt.Sprintf("(SELECT * FROM %s ORDER BY %s, %s LIMIT %d) ORDER BY %s", g.numbered(), hash, number, *op.N, number))
	case *op.Fraction >= 1:
		g.out.write(quote(g.input.name))
	default:
		g.out.write(fmt.Sprintf("%s WHERE %s < %d::UBIGINT", g.numbered(), hash, uint64(*op.Fraction*math.Exp2(64))))
	}
	return columns
}

// scramble spreads the bits of a seed (the finalizer of splitmix64), so that
// neighbouring seeds give samples that have nothing in common.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (g *generator) unnest(op plan.Unnest) ([]column, *diag.Diagnostic) {
	at, found := g.input.find(op.Column)
	if !found {
		return nil, unknownColumn(op.Column, g.input, "")
	}
	unnested := g.input.columns[at]
	name := quote(unnested.name)
	var made []column
	var items []string
	switch unnested.typ.id {
	case duckdb.TypeStruct:
		for _, f := range unnested.typ.fields {
			made = append(made, f)
			items = append(items, "struct_extract("+name+", "+quoteString(f.name)+")")
		}
	case duckdb.TypeList, duckdb.TypeMap:
		element := column{unnested.name, sqlType{id: duckdb.TypeStruct, fields: unnested.typ.fields}}
		if unnested.typ.id == duckdb.TypeList {
			element.typ = unnested.typ.fields[0].typ
		} else {
			name = "map_entries(" + name + ")"
		}
		if op.KeepEmpty {
			name = "CASE WHEN len(" + name + ") > 0 THEN " + name + " ELSE [NULL] END"
		}
		made, items = []column{element}, []string{"unnest(" + name + ")"}
	default:
		return nil, diag.New(diag.TypeMismatch, "the column %q is a %s, not a list, map or struct", unnested.name, plan.FormatType(unnested.typ.arrow()))
	}
	before, after := g.input.columns[:at], g.input.columns[at+1:]
	columns := append(append(append([]column(nil), before...), made...), after...)
	named := make([]plan.NamedExpr, len(columns))
	for i, c := range columns {
		named[i].Name = c.name
	}
	if problem := checkUnique(named); problem != nil {
		return nil, problem
	}
	selected := make([]string, 0, len(columns))
	for _, c := range before {
		selected = append(selected, quote(c.name))
	}
	selected = append(selected, items...)
	for _, c := range after {
		selected = append(selected, quote(c.name))
	}
	if len(selected) == 0 {
		selected = []string{"NULL::BOOLEAN"}
	}
	g.out.write("SELECT " + strings.Join(selected, ", "))
	g.from()
	return columns, nil
}
