package duck

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// sqlType is a type of DuckDB.
type sqlType struct {
	id duckdb.Type
	// alias is the name of a type that is stored as id, "JSON" for example.
	alias string
	// width and scale are those of a DECIMAL.
	width, scale uint8
	// fields are the element of a LIST or ARRAY, the key and value of a MAP,
	// the fields of a STRUCT.
	fields []column
	// size is the number of elements of an ARRAY.
	size int
	// labels are the values of an ENUM, and code the type in which a vector
	// numbers them.
	labels []string
	code   duckdb.Type
}

// column is a column of a relation, or a field of a type.
type column struct {
	name string
	typ  sqlType
}

// scalar describes a type that has no parameters: its name in SQL, its Arrow
// type, and the size in bytes of a value in a DuckDB vector.
type scalar struct {
	sql   string
	arrow arrow.DataType
	width int
}

var scalars = map[duckdb.Type]scalar{
	duckdb.TypeSQLNull:     {`"NULL"`, arrow.Null, 0},
	duckdb.TypeBoolean:     {"BOOLEAN", arrow.FixedWidthTypes.Boolean, 1},
	duckdb.TypeTinyInt:     {"TINYINT", arrow.PrimitiveTypes.Int8, 1},
	duckdb.TypeSmallInt:    {"SMALLINT", arrow.PrimitiveTypes.Int16, 2},
	duckdb.TypeInteger:     {"INTEGER", arrow.PrimitiveTypes.Int32, 4},
	duckdb.TypeBigInt:      {"BIGINT", arrow.PrimitiveTypes.Int64, 8},
	duckdb.TypeUTinyInt:    {"UTINYINT", arrow.PrimitiveTypes.Uint8, 1},
	duckdb.TypeUSmallInt:   {"USMALLINT", arrow.PrimitiveTypes.Uint16, 2},
	duckdb.TypeUInteger:    {"UINTEGER", arrow.PrimitiveTypes.Uint32, 4},
	duckdb.TypeUBigInt:     {"UBIGINT", arrow.PrimitiveTypes.Uint64, 8},
	duckdb.TypeFloat:       {"FLOAT", arrow.PrimitiveTypes.Float32, 4},
	duckdb.TypeDouble:      {"DOUBLE", arrow.PrimitiveTypes.Float64, 8},
	duckdb.TypeVarchar:     {"VARCHAR", arrow.BinaryTypes.String, stringWidth},
	duckdb.TypeBlob:        {"BLOB", arrow.BinaryTypes.Binary, stringWidth},
	duckdb.TypeDate:        {"DATE", arrow.FixedWidthTypes.Date32, 4},
	duckdb.TypeTime:        {"TIME", arrow.FixedWidthTypes.Time64us, 8},
	duckdb.TypeTimestamp:   {"TIMESTAMP", &arrow.TimestampType{Unit: arrow.Microsecond}, 8},
	duckdb.TypeTimestampS:  {"TIMESTAMP_S", &arrow.TimestampType{Unit: arrow.Second}, 8},
	duckdb.TypeTimestampMS: {"TIMESTAMP_MS", &arrow.TimestampType{Unit: arrow.Millisecond}, 8},
	duckdb.TypeTimestampNS: {"TIMESTAMP_NS", &arrow.TimestampType{Unit: arrow.Nanosecond}, 8},
	duckdb.TypeTimestampTZ: {"TIMESTAMP WITH TIME ZONE", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, 8},
	duckdb.TypeInterval:    {"INTERVAL", arrow.FixedWidthTypes.MonthDayNanoInterval, 16},
}

// readType reads a logical type, which stays the caller's.
func readType(t duckdb.LogicalType) sqlType {
	out := sqlType{id: duckdb.GetTypeId(t), alias: duckdb.LogicalTypeGetAlias(t)}
	child := func(name string, t duckdb.LogicalType) {
		out.fields = append(out.fields, column{name, readType(t)})
		duckdb.DestroyLogicalType(&t)
	}
	switch out.id {
	case duckdb.TypeDecimal:
		out.width, out.scale = duckdb.DecimalWidth(t), duckdb.DecimalScale(t)
	case duckdb.TypeList:
		child("", duckdb.ListTypeChildType(t))
	case duckdb.TypeArray:
		out.size = int(duckdb.ArrayTypeArraySize(t))
		child("", duckdb.ArrayTypeChildType(t))
	case duckdb.TypeEnum:
		out.code = duckdb.EnumInternalType(t)
		for i := range duckdb.EnumDictionarySize(t) {
			out.labels = append(out.labels, duckdb.EnumDictionaryValue(t, duckdb.IdxT(i)))
		}
	case duckdb.TypeMap:
		child("key", duckdb.MapTypeKeyType(t))
		child("value", duckdb.MapTypeValueType(t))
	case duckdb.TypeStruct:
		for i := range duckdb.StructTypeChildCount(t) {
			child(duckdb.StructTypeChildName(t, i), duckdb.StructTypeChildType(t, i))
		}
	}
	return out
}

// normal gives the type in which values of t leave a node, and whether that is
// another type. The types of plan.FormatType stay. Integers of 128 bits become
// those of 64 (a value that does not fit is an error), arrays lists, and
// whatever has no Arrow type of its own (ENUM, UUID, BIT, TIMETZ, UNION …)
// text.
func (t sqlType) normal() (sqlType, bool) {
	changed := t.alias != ""
	out := sqlType{id: t.id, width: t.width, scale: t.scale}
	switch t.id {
	case duckdb.TypeDecimal:
	case duckdb.TypeHugeInt:
		return sqlType{id: duckdb.TypeBigInt}, true
	case duckdb.TypeUHugeInt:
		return sqlType{id: duckdb.TypeUBigInt}, true
	case duckdb.TypeTimeNS:
		return sqlType{id: duckdb.TypeTime}, true
	case duckdb.TypeList, duckdb.TypeArray, duckdb.TypeMap, duckdb.TypeStruct:
		if t.id == duckdb.TypeArray {
			out.id, changed = duckdb.TypeList, true
		}
		for i, f := range t.fields {
			typ, fieldChanged := f.typ.normal()
			if t.id == duckdb.TypeStruct && f.name == "" { // a row(…) has no names
				f.name, fieldChanged = fmt.Sprintf("v%d", i+1), true
			}
			out.fields = append(out.fields, column{f.name, typ})
			changed = changed || fieldChanged
		}
	default:
		if _, ok := scalars[t.id]; !ok {
			return sqlType{id: duckdb.TypeVarchar}, true
		}
	}
	return out, changed
}

// visible gives the type that values of t have in the result of a SELECT, and
// whether that is another one: DuckDB shows the type NULL, of what is NULL and
// nothing else, as INTEGER. So we keep account of it ourselves.
func (t sqlType) visible() (sqlType, bool) {
	if t.id == duckdb.TypeSQLNull {
		return sqlType{id: duckdb.TypeInteger}, true
	}
	changed := false
	fields := make([]column, len(t.fields))
	for i, f := range t.fields {
		typ, fieldChanged := f.typ.visible()
		fields[i] = column{f.name, typ}
		changed = changed || fieldChanged
	}
	t.fields = fields
	return t, changed
}

// sql is t's name in SQL. It is defined for normal types and what they are
// made of.
func (t sqlType) sql() string {
	switch t.id {
	case duckdb.TypeDecimal:
		return fmt.Sprintf("DECIMAL(%d, %d)", t.width, t.scale)
	case duckdb.TypeList:
		return t.fields[0].typ.sql() + "[]"
	case duckdb.TypeMap:
		return "MAP(" + t.fields[0].typ.sql() + ", " + t.fields[1].typ.sql() + ")"
	case duckdb.TypeStruct:
		fields := make([]string, len(t.fields))
		for i, f := range t.fields {
			fields[i] = quote(f.name) + " " + f.typ.sql()
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	}
	return scalars[t.id].sql
}

// arrow is the Arrow type of a normal type.
func (t sqlType) arrow() arrow.DataType {
	switch t.id {
	case duckdb.TypeDecimal:
		return &arrow.Decimal128Type{Precision: int32(t.width), Scale: int32(t.scale)}
	case duckdb.TypeList:
		return arrow.ListOf(t.fields[0].typ.arrow())
	case duckdb.TypeMap:
		return arrow.MapOf(t.fields[0].typ.arrow(), t.fields[1].typ.arrow())
	case duckdb.TypeStruct:
		return arrow.StructOf(arrowFields(t.fields)...)
	}
	return scalars[t.id].arrow
}

func arrowFields(columns []column) []arrow.Field {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.name, Type: c.typ.arrow(), Nullable: true}
	}
	return fields
}

// fromArrow gives the type that a value of a type of the plan (a cast's
// target, a literal's type) has in DuckDB.
func fromArrow(t arrow.DataType) (sqlType, error) {
	for id, s := range scalars {
		if arrow.TypeEqual(s.arrow, t) {
			return sqlType{id: id}, nil
		}
	}
	nested := func(id duckdb.Type, fields ...arrow.Field) (sqlType, error) {
		out := sqlType{id: id}
		for _, f := range fields {
			typ, err := fromArrow(f.Type)
			if err != nil {
				return sqlType{}, err
			}
			out.fields = append(out.fields, column{f.Name, typ})
		}
		return out, nil
	}
	switch t := t.(type) {
	case *arrow.LargeStringType:
		return sqlType{id: duckdb.TypeVarchar}, nil
	case *arrow.LargeBinaryType:
		return sqlType{id: duckdb.TypeBlob}, nil
	case *arrow.Decimal128Type:
		return sqlType{id: duckdb.TypeDecimal, width: uint8(t.Precision), scale: uint8(t.Scale)}, nil
	case *arrow.ListType:
		return nested(duckdb.TypeList, t.ElemField())
	case *arrow.MapType:
		return nested(duckdb.TypeMap, t.KeyField(), t.ItemField())
	case *arrow.StructType:
		return nested(duckdb.TypeStruct, t.Fields()...)
	}
	return sqlType{}, fmt.Errorf("type %s is not one that SQL has", t)
}

// quote makes a name an identifier of SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteString makes a text a string literal of SQL. It may not hold NUL.
func quoteString(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
