package file

import (
	"slices"

	"github.com/alink-runtime/alink/diag"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// nullPartition is the value of a folder for NULL.
const nullPartition = "__HIVE_DEFAULT_PARTITION__"

// partitionFields gives the columns that the folders of files make: bigint if
// all values are whole numbers, date if all are dates, otherwise string. All
// files must have the same keys.
func partitionFields(files []dataFile, declared []arrow.Field) ([]arrow.Field, error) {
	keys := files[0].keys
	kinds := make([]kind, len(keys))
	for _, f := range files {
		if !slices.Equal(f.keys, keys) {
			return nil, diag.New(diag.SchemasDiffer, "%s lies in other folders key=value than %s", f.path, files[0].path).
				WithFact("the keys are %s and %s", keyList(f.keys), keyList(keys)).
				WithHint("partitions=False gives such folders no meaning")
		}
		for i, value := range f.values {
			if !value.null {
				kinds[i] = kinds[i].widen(kindOf([]byte(value.text)))
			}
		}
	}
	fields := make([]arrow.Field, len(keys))
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			return nil, diag.New(diag.FileUnreadable, "%s lies in two folders %s=…", files[0].path, key).
				WithHint("partitions=False gives such folders no meaning")
		}
		k := kinds[i]
		if k != kindBigint && k != kindDate {
			k = kindString
		}
		fields[i] = arrow.Field{Name: key, Type: k.arrow(), Nullable: true}
		for _, d := range declared {
			if d.Name == key {
				fields[i].Type = d.Type
			}
		}
	}
	return fields, nil
}

func keyList(keys []string) string {
	if len(keys) == 0 {
		return "none"
	}
	return listed(keys)
}

// constant makes a column of one partition value.
func constant(f dataFile, value partitionValue, column arrow.Field, rows int64) (arrow.Array, error) {
	b := array.NewBuilder(memory.DefaultAllocator, column.Type)
	defer b.Release()
	b.Reserve(int(rows))
	put, err := newAppender(b)
	if err != nil {
		return nil, diag.New(diag.TypeMismatch, "the column %q is made of folders and cannot have the type %s", column.Name, column.Type)
	}
	if value.null {
		b.AppendNulls(int(rows))
		return b.NewArray(), nil
	}
	for range rows {
		if err := put([]byte(value.text)); err != nil {
			return nil, badValue(f.path, 0, column.Name, []byte(value.text), column.Type, true, err)
		}
	}
	return b.NewArray(), nil
}
