package file

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// checkAppended refuses rows that do not go with the Parquet files of the
// folder that they are to be added to: nobody could read them together. Files
// of text say too little about their columns to be asked.
func checkAppended(c codec, out plan.Output, schema *arrow.Schema) error {
	if out.Mode != plan.Append || c.extension != parquetExtension {
		return nil
	}
	first, err := firstFile(out.Path, c.extension)
	if first == "" || err != nil {
		return err
	}
	file, err := openParquet(first)
	if err != nil {
		return err
	}
	file.close()
	names := func(schema *arrow.Schema) (out []string) {
		for _, f := range schema.Fields() {
			out = append(out, f.Name)
		}
		return out
	}
	const hint = "write to another folder, or make the columns those of the folder with select and cast"
	if err := compareNames(first, names(file.normal), "the table that is to be added", names(schema)); err != nil {
		return diag.From(err).WithHint(hint)
	}
	for _, have := range file.normal.Fields() {
		at := slices.Index(names(schema), have.Name)
		if added := schema.Field(at).Type; widerType(have.Type, added) == nil {
			return diag.New(diag.SchemasDiffer, "the column %q is %s in %s, but %s in the table that is to be added",
				have.Name, plan.FormatType(have.Type), first, plan.FormatType(added)).WithHint(hint)
		}
	}
	return nil
}

// firstFile is one of the files of a kind in a folder and the folders within;
// "" if there is none.
func firstFile(folder, extension string) (first string, err error) {
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return unwritable(folder, err)
		case path != folder && hidden(entry.Name()) && entry.IsDir():
			return filepath.SkipDir
		case !entry.IsDir() && !hidden(entry.Name()) && filepath.Ext(path) == extension:
			first = path
			return filepath.SkipAll
		}
		return nil
	})
	return first, err
}
