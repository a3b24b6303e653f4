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
// their storage, and metadata is dropped.
func NormalSchema(schema *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = arrow.Field{Name: f.Name, Type: normalType(f.Type), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

func normalType(t arrow.DataType) arrow.DataType {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return normalType(t.ValueType)
	case arrow.ExtensionType:
		return normalType(t.StorageType())
	case *arrow.StringViewType:
		return arrow.BinaryTypes.String
	case *arrow.BinaryViewType:
		return arrow.BinaryTypes.Binary
	case *arrow.ListType:
		return arrow.ListOf(normalType(t.Elem()))
	case *arrow.MapType:
		return arrow.MapOf(normalType(t.KeyType()), normalType(t.ItemType()))
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i, f := range t.Fields() {
			fields[i] = arrow.Field{Name: f.Name, Type: normalType(f.Type), Nullable: true}
		}
		return arrow.StructOf(fields...)
	}
	return t
}

// Normalize gives batch in the form of NormalSchema. It takes batch over and
// returns a batch that the caller releases.
func Normalize(ctx context.Context, batch arrow.RecordBatch, normal *arrow.Schema) (arrow.RecordBatch, error) {
	defer batch.Release()
	columns := make([]arrow.Array, batch.NumCols())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, column := range batch.Columns() {
		want := normal.Field(i).Type
		if extension, ok := column.(array.ExtensionArray); ok {
			column = extension.Storage()
		}
		if arrow.TypeEqual(column.DataType(), want) {
			column.Retain()
			columns[i] = column
			continue
		}
		converted, err := compute.CastArray(ctx, column, compute.SafeCastOptions(want))
		if err != nil {
			return nil, fmt.Errorf("column %q of type %s: %w", batch.ColumnName(i), column.DataType(), err)
		}
		columns[i] = converted
	}
	return array.NewRecordBatch(normal, columns, batch.NumRows()), nil
}
