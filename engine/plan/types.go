package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
)

// Type strings are SQL's names, without regard to case; `T[]` and list<T>
// are lists, struct<a: T, b: T> structs, map<K, V> maps. FormatType gives the
// canonical form, which ParseType reads back.
var scalarTypes = []struct {
	names []string // the first is canonical
	typ   arrow.DataType
}{
	{[]string{"null"}, arrow.Null},
	{[]string{"boolean", "bool"}, arrow.FixedWidthTypes.Boolean},
	{[]string{"tinyint", "int8", "byte"}, arrow.PrimitiveTypes.Int8},
	{[]string{"smallint", "int16", "short"}, arrow.PrimitiveTypes.Int16},
	{[]string{"integer", "int", "int32"}, arrow.PrimitiveTypes.Int32},
	{[]string{"bigint", "int64", "long"}, arrow.PrimitiveTypes.Int64},
	{[]string{"utinyint", "uint8"}, arrow.PrimitiveTypes.Uint8},
	{[]string{"usmallint", "uint16"}, arrow.PrimitiveTypes.Uint16},
	{[]string{"uinteger", "uint32"}, arrow.PrimitiveTypes.Uint32},
	{[]string{"ubigint", "uint64"}, arrow.PrimitiveTypes.Uint64},
	{[]string{"float", "real", "float32"}, arrow.PrimitiveTypes.Float32},
	{[]string{"double", "float64"}, arrow.PrimitiveTypes.Float64},
	{[]string{"string", "varchar", "text", "utf8"}, arrow.BinaryTypes.String},
	{[]string{"large_string"}, arrow.BinaryTypes.LargeString},
	{[]string{"binary", "blob", "varbinary", "bytes"}, arrow.BinaryTypes.Binary},
	{[]string{"large_binary"}, arrow.BinaryTypes.LargeBinary},
	{[]string{"date"}, arrow.FixedWidthTypes.Date32},
	{[]string{"time"}, arrow.FixedWidthTypes.Time64us},
	{[]string{"timestamp", "datetime"}, &arrow.TimestampType{Unit: arrow.Microsecond}},
	{[]string{"timestamp_s"}, &arrow.TimestampType{Unit: arrow.Second}},
	{[]string{"timestamp_ms"}, &arrow.TimestampType{Unit: arrow.Millisecond}},
	{[]string{"timestamp_ns"}, &arrow.TimestampType{Unit: arrow.Nanosecond}},
	{[]string{"timestamptz"}, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
	{[]string{"interval"}, arrow.FixedWidthTypes.MonthDayNanoInterval},
}

// FormatType gives the type string of an Arrow type.
func FormatType(t arrow.DataType) string {
	for _, s := range scalarTypes {
		if arrow.TypeEqual(s.typ, t) {
			return s.names[0]
		}
	}
	switch t := t.(type) {
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "timestamptz"
		}
	case *arrow.Decimal128Type:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	case *arrow.ListType:
		return "list<" + FormatType(t.Elem()) + ">"
	case *arrow.LargeListType:
		return "list<" + FormatType(t.Elem()) + ">"
	case *arrow.StructType:
		fields := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			fields[i] = quoteField(f.Name) + ": " + FormatType(f.Type)
		}
		return "struct<" + strings.Join(fields, ", ") + ">"
	case *arrow.MapType:
		return "map<" + FormatType(t.KeyType()) + ", " + FormatType(t.ItemType()) + ">"
	}
	return t.String()
}

// ParseType reads a type string.
func ParseType(text string) (arrow.DataType, error) {
	p := typeParser{text: text}
	t, err := p.parse()
	if err == nil {
		p.space()
		if p.at < len(p.text) {
			err = fmt.Errorf("%q is left over", p.text[p.at:])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("type %q: %w", text, err)
	}
	return t, nil
}

// ParseSchema reads the fields of a plan as an Arrow schema; every column may
// be NULL.
func ParseSchema(fields []Field) (*arrow.Schema, error) {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		t, err := ParseType(f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		out[i] = arrow.Field{Name: f.Name, Type: t, Nullable: true}
	}
	return arrow.NewSchema(out, nil), nil
}

// typeDepthMax bounds the nesting of a type string.
const typeDepthMax = 32

type typeParser struct {
	text  string
	at    int
	depth int
}

func (p *typeParser) parse() (arrow.DataType, error) {
	if p.depth++; p.depth > typeDepthMax {
		return nil, fmt.Errorf("types are nested deeper than %d", typeDepthMax)
	}
	defer func() { p.depth-- }()
	t, err := p.parseElement()
	if err != nil {
		return nil, err
	}
	for p.accept("[]") {
		t = arrow.ListOf(t)
	}
	return t, nil
}

func (p *typeParser) parseElement() (arrow.DataType, error) {
	name := strings.ToLower(p.word())
	switch name {
	case "":
		return nil, fmt.Errorf("a type is expected at %q", p.text[p.at:])
	case "decimal", "numeric":
		return p.parseDecimal()
	case "list", "array":
		args, err := p.parseArgs(1)
		if err != nil {
			return nil, err
		}
		return arrow.ListOf(args[0]), nil
	case "map":
		args, err := p.parseArgs(2)
		if err != nil {
			return nil, err
		}
		return arrow.MapOf(args[0], args[1]), nil
	case "struct":
		return p.parseStruct()
	}
	for _, s := range scalarTypes {
		for _, n := range s.names {
			if n == name {
				return s.typ, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no type %q", name)
}

func (p *typeParser) parseDecimal() (arrow.DataType, error) {
	const precisionMax = 38
	precision, scale := 18, 3
	if p.accept("(") {
		digits, err := strconv.Atoi(p.word())
		if err != nil {
			return nil, fmt.Errorf("decimal's precision: %w", err)
		}
		precision, scale = digits, 0
		if p.accept(",") {
			if scale, err = strconv.Atoi(p.word()); err != nil {
				return nil, fmt.Errorf("decimal's scale: %w", err)
			}
		}
		if !p.accept(")") {
			return nil, fmt.Errorf("decimal( lacks its )")
		}
	}
	if precision < 1 || precision > precisionMax || scale < 0 || scale > precision {
		return nil, fmt.Errorf("decimal(%d,%d) is out of range: 1 ≤ precision ≤ %d, 0 ≤ scale ≤ precision", precision, scale, precisionMax)
	}
	return &arrow.Decimal128Type{Precision: int32(precision), Scale: int32(scale)}, nil
}

func (p *typeParser) parseArgs(n int) ([]arrow.DataType, error) {
	if !p.accept("<") {
		return nil, fmt.Errorf("< is expected at %q", p.text[p.at:])
	}
	args := make([]arrow.DataType, n)
	for i := range args {
		if i > 0 && !p.accept(",") {
			return nil, fmt.Errorf("a comma is expected at %q", p.text[p.at:])
		}
		var err error
		if args[i], err = p.parse(); err != nil {
			return nil, err
		}
	}
	if !p.accept(">") {
		return nil, fmt.Errorf("> is expected at %q", p.text[p.at:])
	}
	return args, nil
}

func (p *typeParser) parseStruct() (arrow.DataType, error) {
	if !p.accept("<") {
		return nil, fmt.Errorf("< is expected at %q", p.text[p.at:])
	}
	var fields []arrow.Field
	for !p.accept(">") {
		if len(fields) > 0 && !p.accept(",") {
			return nil, fmt.Errorf("a comma or > is expected at %q", p.text[p.at:])
		}
		name := p.word()
		if name == "" {
			return nil, fmt.Errorf("a field name is expected at %q", p.text[p.at:])
		}
		p.accept(":")
		t, err := p.parse()
		if err != nil {
			return nil, err
		}
		fields = append(fields, arrow.Field{Name: name, Type: t, Nullable: true})
	}
	return arrow.StructOf(fields...), nil
}

func (p *typeParser) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

func (p *typeParser) accept(token string) bool {
	p.space()
	if strings.HasPrefix(p.text[p.at:], token) {
		p.at += len(token)
		return true
	}
	return false
}

// word reads a name: letters, digits and underscores, or anything in double
// quotes, a quote inside doubled.
func (p *typeParser) word() string {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == '"' {
		var name strings.Builder
		for i := p.at + 1; i < len(p.text); i++ {
			if p.text[i] != '"' {
				name.WriteByte(p.text[i])
				continue
			}
			if i+1 < len(p.text) && p.text[i+1] == '"' {
				name.WriteByte('"')
				i++
				continue
			}
			p.at = i + 1
			return name.String()
		}
		return ""
	}
	start := p.at
	for p.at < len(p.text) && wordByte(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func quoteField(name string) string {
	for i := range len(name) {
		if !wordByte(name[i]) {
			return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
	}
	if name == "" {
		return `""`
	}
	return name
}
