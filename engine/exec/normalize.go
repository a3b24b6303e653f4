package exec

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
)

// NormalSchema is the schema in which a source's columns flow: dictionaries
// and views are replaced by plain columns of their values, extension types by
// their storage, the zones of timestamps by UTC (the instants stay), every
// field may be NULL, and metadata is dropped.
func NormalSchema(schema *arrow.Schema) *arrow.Schema {
	return arrow.NewSchema(normalFields(schema.Fields()), nil)
}

func normalFields(fields []arrow.Field) []arrow.Field {
	out := make([]arrow.Field, len(fields))
	for i, f := range fields {
		out[i] = arrow.Field{Name: f.Name, Type: normalType(f.Type), Nullable: true}
	}
	return out
}

func normalType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return normalType(t.ValueType)
	case arrow.ExtensionType:
		return normalType(t.StorageType())
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return &arrow.TimestampType{Unit: t.Unit, TimeZone: "UTC"}
		}
	case *arrow.StringViewType:
		return arrow.BinaryTypes.String
	case *arrow.BinaryViewType:
		return arrow.BinaryTypes.Binary
	case *arrow.ListType:
		return arrow.ListOf(normalType(t.Elem()))
	case *arrow.LargeListType:
		return arrow.LargeListOf(normalType(t.Elem()))
	case *arrow.FixedSizeListType:
		return arrow.FixedSizeListOf(t.Len(), normalType(t.Elem()))
	case *arrow.MapType:
		return arrow.MapOf(normalType(t.KeyType()), normalType(t.ItemType()))
	case *arrow.StructType:
		return arrow.StructOf(normalFields(t.Fields())...)
	}
	return t
}

// Normalize gives batch in the form of NormalSchema. It takes batch over and
// returns a batch that the caller releases.
func Normalize(ctx context.Context, batch arrow.RecordBatch, normal *arrow.Schema) (arrow.RecordBatch, error) {
	defer batch.Release()
	columns := make([]arrow.Array, 0, batch.NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i, column := range batch.Columns() {
		converted, err := normalArray(ctx, column, normal.Field(i).Type)
		if err != nil {
			return nil, fmt.Errorf("column %q of type %s: %w", batch.ColumnName(i), column.DataType(), err)
		}
		columns = append(columns, converted)
	}
	return array.NewRecordBatch(normal, columns, batch.NumRows()), nil
}

// normalArray converts an array, which it does not take over; the caller
// releases the result. Nested arrays keep their validity and offsets, and only
// their leaves are cast: Arrow's own casts of nested types are wrong for
// slices and stop the process for lists of dictionaries.
func normalArray(ctx context.Context, a arrow.Array, want arrow.DataType) (arrow.Array, error) {
	if arrow.TypeEqual(a.DataType(), want) {
		a.Retain()
		return a, nil
	}
	if extension, ok := a.(array.ExtensionArray); ok {
		return normalArray(ctx, extension.Storage(), want)
	}
	children := nestedTypes(want)
	if children == nil {
		return compute.CastArray(ctx, a, compute.SafeCastOptions(want))
	}
	data := a.Data()
	if len(data.Children()) != len(children) {
		return nil, fmt.Errorf("it cannot be read as %s", want)
	}
	converted := make([]arrow.ArrayData, 0, len(children))
	defer func() {
		for _, c := range converted {
			c.Release()
		}
	}()
	for i, child := range data.Children() {
		whole := array.MakeFromData(child)
		normal, err := normalArray(ctx, whole, children[i])
		whole.Release()
		if err != nil {
			return nil, err
		}
		normal.Data().Retain()
		converted = append(converted, normal.Data())
		normal.Release()
	}
	out := array.NewData(want, data.Len(), data.Buffers(), converted, data.NullN(), data.Offset())
	defer out.Release()
	return array.MakeFromData(out), nil
}

// nestedTypes are the types of a nested type's children; nil for a leaf.
func nestedTypes(t arrow.DataType) []arrow.DataType {
	nested, ok := t.(arrow.NestedType)
	if !ok {
		return nil
	}
	types := make([]arrow.DataType, 0, nested.NumFields())
	for _, f := range nested.Fields() {
		types = append(types, f.Type)
	}
	if m, ok := t.(*arrow.MapType); ok {
		return []arrow.DataType{m.Elem()} // a map's one child holds structs
	}
	return types
}
