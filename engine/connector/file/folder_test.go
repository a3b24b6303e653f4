package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

var partSchema = arrow.NewSchema([]arrow.Field{
	{Name: "k", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
}, nil)

func partRows(t *testing.T, text string) arrow.RecordBatch {
	t.Helper()
	batch, _, err := array.RecordFromJSON(memory.NewGoAllocator(), partSchema, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

const fourRows = `[{"k": "b", "x": 1}, {"k": "a", "x": 2, "m": [{"key": "y", "value": 1}]}, {"k": "b", "x": 3}, {"k": null, "x": 4}]`

// writeTo writes batches, or aborts after them.
func writeTo(t *testing.T, op plan.Op, schema *arrow.Schema, commit bool, batches ...arrow.RecordBatch) error {
	t.Helper()
	sink, err := NewSink(op)
	if err != nil {
		return err
	}
	w, err := sink.Open(t.Context(), schema)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := w.Write(t.Context(), b); err != nil {
			w.Abort()
			return err
		}
	}
	if !commit {
		w.Abort()
		return nil
	}
	return w.Commit(t.Context())
}

// tree lists the files below a folder, hidden ones too.
func tree(t *testing.T, root string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() || strings.Contains(path, stagingSuffix) {
			name, _ := filepath.Rel(root, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestFoldersOfPartitions(t *testing.T) {
	for _, format := range []string{"parquet", "csv", "json"} {
		dir := t.TempDir()
		out := plan.Output{Path: filepath.Join(dir, "out"), Mode: plan.ErrorIfExists, PartitionBy: []string{"k"}}
		ops := map[string]func() plan.Op{
			"parquet": func() plan.Op { return plan.WriteParquet{Output: out} },
			"csv":     func() plan.Op { return plan.WriteCSV{Output: out} },
			"json":    func() plan.Op { return plan.WriteJSON{Output: out} },
		}
		op := ops[format]
		extension := map[string]string{"parquet": "parquet", "csv": "csv", "json": "jsonl"}[format]
		parts := func(numbers ...int) string {
			var names []string
			for _, k := range []string{"__HIVE_DEFAULT_PARTITION__", "a", "b"} {
				for _, n := range numbers {
					names = append(names, fmt.Sprintf("out/k=%s/part-%05d.%s", k, n, extension))
				}
			}
			return strings.Join(names, " ")
		}
		rows := partRows(t, fourRows)
		defer rows.Release()
		if err := writeTo(t, op(), partSchema, false, rows); err != nil || tree(t, dir) != "" {
			t.Errorf("%s: after an abort: %v, %s", format, err, tree(t, dir))
		}
		if err := writeTo(t, op(), partSchema, true, rows); err != nil || tree(t, dir) != parts(0) {
			t.Errorf("%s: %v, %s", format, err, tree(t, dir))
		}
		if d := diag.From(writeTo(t, op(), partSchema, true, rows)); d == nil || d.Code != diag.OutputExists {
			t.Errorf("%s: a second time: %v", format, d)
		}
		out.Mode = plan.Append
		if err := writeTo(t, op(), partSchema, true, rows); err != nil || tree(t, dir) != parts(0, 1) {
			t.Errorf("%s: appended: %v, %s", format, err, tree(t, dir))
		}
		if err := writeTo(t, op(), partSchema, false, rows); err != nil || tree(t, dir) != parts(0, 1) {
			t.Errorf("%s: append aborted: %v, %s", format, err, tree(t, dir))
		}
		var scan plan.FileScan = plan.ScanParquet{Files: plan.Files{Path: out.Path, Columns: []string{"x", "k"}}}
		switch format {
		case "csv":
			scan = plan.ScanCSV{Files: scan.Scanned()}
		case "json":
			scan = plan.ScanJSON{Files: scan.Scanned()}
		}
		schema, got, err := readAll(t, scan)
		want := "4|(null)\n4|(null)\n2|a\n2|a\n1|b\n3|b\n1|b\n3|b\n"
		if err != nil || schema != "x bigint, k string" || got != want {
			t.Errorf("%s: %v, %s\n%q", format, err, schema, got)
		}
		out.Mode = plan.Overwrite
		if err := writeTo(t, op(), partSchema, true, rows); err != nil || tree(t, dir) != parts(0) {
			t.Errorf("%s: overwritten: %v, %s", format, err, tree(t, dir))
		}
	}
}

func TestAFolderOfOtherThingsIsNotDeleted(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "home")
	if err := errors.Join(os.MkdirAll(filepath.Join(target, "sub"), 0o755), os.WriteFile(filepath.Join(target, "sub", "thesis.doc"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	op := plan.WriteParquet{Output: plan.Output{Path: target, Mode: plan.Overwrite}}
	d := diag.From(writeTo(t, op, partSchema, true))
	if d == nil || d.Code != diag.UnexpectedFiles || !slices.Contains(d.Facts, "such as sub/thesis.doc") || tree(t, dir) != "home/sub/thesis.doc" {
		t.Errorf("%+v; %s", d, tree(t, dir))
	}
	// A reader takes .txt for a table, but nobody's notes are removed as one.
	notes := filepath.Join(dir, "notes")
	if err := errors.Join(os.Mkdir(notes, 0o755), os.WriteFile(filepath.Join(notes, "todo.txt"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	op.Path = notes
	if d := diag.From(writeTo(t, op, partSchema, true)); d == nil || d.Code != diag.UnexpectedFiles {
		t.Errorf("notes: %+v; %s", d, tree(t, dir))
	}
	if err := os.RemoveAll(notes); err != nil {
		t.Fatal(err)
	}
	// Nor is what comes while the output is made.
	target = filepath.Join(dir, "out")
	op.Path = target
	if err := writeTo(t, op, partSchema, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	sink, err := NewSink(op)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sink.Open(t.Context(), partSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target, "notes.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := diag.From(w.Commit(t.Context())); d == nil || d.Code != diag.UnexpectedFiles || tree(t, dir) != "home/sub/thesis.doc out/notes.md" {
		t.Errorf("%+v; %s", d, tree(t, dir))
	}
}

func TestWhatWasKilledIsSwept(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "out")
	sink, err := NewSink(plan.WriteCSV{Output: plan.Output{Path: target, Folder: true, Mode: plan.ErrorIfExists}})
	if err != nil {
		t.Fatal(err)
	}
	alive, err := sink.Open(t.Context(), partSchema)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, ".out.123"+stagingSuffix)
	if err := errors.Join(os.Mkdir(dead, 0o700), os.WriteFile(filepath.Join(dead, "part-00000.csv"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	other, err := sink.Open(t.Context(), partSchema)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what a killed process has left is still there")
	}
	if err := alive.Commit(t.Context()); err != nil {
		t.Errorf("a living one was swept: %v", err)
	}
	if d := diag.From(other.Commit(t.Context())); d == nil || d.Code != diag.OutputExists {
		t.Errorf("the second of two: %v", d)
	}
	if got := tree(t, dir); got != "out/part-00000.csv" {
		t.Errorf("left: %s", got)
	}
}

func TestManyPartitionsHaveFewOpenFiles(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	for i := range 3 * partsOpenMax {
		fmt.Fprintf(&text, `%c{"k": "%03d", "x": %d}`, ",["[min(1, 1-min(i, 1))], i, i)
	}
	rows := partRows(t, text.String()+"]")
	defer rows.Release()
	op := plan.WriteJSON{Output: plan.Output{Path: dir, Mode: plan.Append, PartitionBy: []string{"K"}}}
	before := openFiles(t)
	sink, _ := NewSink(op)
	w, err := sink.Open(t.Context(), partSchema)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Write(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	if now := openFiles(t); now-before > partsOpenMax+2 {
		t.Errorf("%d files are open", now-before)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := openFiles(t); now != before {
		t.Errorf("%d files stay open", now-before)
	}
	if n := len(strings.Fields(tree(t, dir))); n != 2*3*partsOpenMax {
		t.Errorf("%d files", n)
	}
	_, got, err := readAll(t, plan.ScanJSON{Files: plan.Files{Path: dir, Columns: []string{"x"}}})
	if err != nil || strings.Count(got, "\n") != 2*3*partsOpenMax {
		t.Errorf("%d rows, %v", strings.Count(got, "\n"), err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

func TestBadOutputs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "t.csv")
	if err := os.WriteFile(file, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := func(o plan.Output) plan.WriteCSV { return plan.WriteCSV{Output: o} }
	for name, c := range map[string]struct {
		op   plan.Op
		code diag.Code
		text string
	}{
		"append to a file":    {out(plan.Output{Path: file, Mode: plan.Append}), diag.BadOption, "is a file"},
		"folder is a file":    {out(plan.Output{Path: file, Mode: plan.Overwrite, Folder: true}), diag.OutputUnwritable, "cannot be written"},
		"no such column":      {out(plan.Output{Path: dir + "/o", Mode: plan.Overwrite, PartitionBy: []string{"kk"}}), diag.UnknownColumn, `no column "kk"`},
		"all columns":         {out(plan.Output{Path: dir + "/o", Mode: plan.Overwrite, PartitionBy: []string{"k", "x", "m"}}), diag.TypeMismatch, "cannot name folders"},
		"name without ending": {out(plan.Output{Path: dir + "/o.csv", Mode: plan.Overwrite, Compression: "gzip"}), diag.BadOption, "does not say"},
		"null with a comma":   {plan.WriteCSV{Output: plan.Output{Path: dir + "/o.csv", Mode: plan.Overwrite}, NullValue: "a,b"}, diag.BadOption, "null_value"},
	} {
		d := diag.From(writeTo(t, c.op, partSchema, true))
		if d == nil || d.Code != c.code || !strings.Contains(d.Message, c.text) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if got := tree(t, dir); got != "t.csv" {
		t.Errorf("left: %s", got)
	}
}

func TestFilesOfATable(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("y=2023/m=01/b.csv", "x\n2\n")
	put("y=2023/m=01/a.csv", "x\n1\n")
	put("y=2024/m=12/a.csv", "x\n3.5\n")
	put("y=2024/m=12/_SUCCESS", "")
	put("y=2024/m=12/.hidden.csv", "x,y\n")
	for name, c := range map[string]struct {
		files        plan.Files
		schema, rows string
	}{
		"folder":        {plan.Files{Path: dir}, "x double, y bigint, m string", "1|2023|01\n2|2023|01\n3.5|2024|12\n"},
		"pattern":       {plan.Files{Path: dir + "/y=*/*/a.csv"}, "x double, y bigint, m string", "1|2023|01\n3.5|2024|12\n"},
		"any depth":     {plan.Files{Path: dir + "/**/b.csv"}, "x bigint, y bigint, m string", "2|2023|01\n"},
		"folders":       {plan.Files{Path: dir + "/y=202[34]"}, "x double, y bigint, m string", "1|2023|01\n2|2023|01\n3.5|2024|12\n"},
		"one file":      {plan.Files{Path: dir + "/y=2023/m=01/b.csv"}, "x bigint", "2\n"},
		"below":         {plan.Files{Path: dir + "/y=2023"}, "x bigint, m string", "1|01\n2|01\n"},
		"list":          {plan.Files{Paths: []string{dir + "/y=2024/m=12/a.csv", dir + "/y=2023/m=01/a.csv"}}, "x double", "3.5\n1\n"},
		"no partitions": {plan.Files{Path: dir, NoPartitions: true}, "x double", "1\n2\n3.5\n"},
		"declared":      {plan.Files{Path: dir, Schema: []plan.Field{{Name: "m", Type: "int"}}}, "x double, y bigint, m integer", "1|2023|1\n2|2023|1\n3.5|2024|12\n"},
		"only theirs":   {plan.Files{Path: dir, Columns: []string{"y"}}, "y bigint", "2023\n2023\n2024\n"},
	} {
		schema, rows, err := readAll(t, plan.ScanCSV{Files: c.files})
		if err != nil || schema != c.schema || rows != c.rows {
			t.Errorf("%s: %v\n%s\n%q", name, err, schema, rows)
		}
	}
	put("y=2024/m=12/notes.md", "")
	put("z/other.csv", "x\n1\n")
	put("w/a.csv", "x,y\n1,2\n")
	put("w/b.csv", "y,z\n3,4\n")
	for name, c := range map[string]struct {
		files plan.Files
		code  diag.Code
		text  string
	}{
		"another kind":  {plan.Files{Path: dir + "/y=2024"}, diag.UnexpectedFiles, "such as m=12/notes.md"},
		"other keys":    {plan.Files{Path: dir + "/**/*.csv"}, diag.SchemasDiffer, "the keys are y, m and none"},
		"other columns": {plan.Files{Path: dir + "/w"}, diag.SchemasDiffer, "it has no x it also has z"},
		"no match":      {plan.Files{Path: dir + "/w/*.tsv"}, diag.FileMissing, dir + "/w holds a.csv, b.csv"},
		"no folder":     {plan.Files{Path: dir + "/ww/*.csv"}, diag.FileMissing, "did you mean " + dir + "/w?"},
		"no file":       {plan.Files{Path: dir + "/w/aa.csv"}, diag.FileMissing, "did you mean " + dir + "/w/a.csv?"},
	} {
		_, _, err := readAll(t, plan.ScanCSV{Files: c.files})
		d := diag.From(err)
		if d == nil || d.Code != c.code || !strings.Contains(strings.Join(append(d.Facts, d.Hint), " "), c.text) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	schema, rows, err := readAll(t, plan.ScanCSV{Files: plan.Files{Path: dir + "/w", UnionByName: true}})
	if err != nil || schema != "x bigint, y bigint, z bigint" || rows != "1|2|(null)\n(null)|3|4\n" {
		t.Errorf("by name: %v, %s, %q", err, schema, rows)
	}
}

func TestParquetFilesWiden(t *testing.T) {
	dir := t.TempDir()
	for i, typ := range []arrow.DataType{arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ, Nullable: true}}, nil)
		batch, _, err := array.RecordFromJSON(memory.NewGoAllocator(), schema, strings.NewReader(fmt.Sprintf(`[{"x": %d}, {"x": null}]`, i)))
		if err != nil {
			t.Fatal(err)
		}
		defer batch.Release()
		op := plan.WriteParquet{Output: plan.Output{Path: fmt.Sprintf("%s/%d.parquet", dir, i), Mode: plan.Overwrite}}
		if err := writeTo(t, op, schema, true, batch); err != nil {
			t.Fatal(err)
		}
	}
	schema, rows, err := readAll(t, plan.ScanParquet{Files: plan.Files{Path: dir}})
	if err != nil || schema != "x bigint" || rows != "0\n(null)\n1\n(null)\n" {
		t.Errorf("%v, %s, %q", err, schema, rows)
	}
	schema, rows, err = readAll(t, plan.ScanParquet{Files: plan.Files{Path: dir, Schema: []plan.Field{{Name: "X", Type: "double"}}}})
	if err != nil || schema != "x double" || rows != "0\n(null)\n1\n(null)\n" {
		t.Errorf("declared: %v, %s, %q", err, schema, rows)
	}
}

// What is added to a folder of Parquet files must be readable with them.
func TestOtherColumnsAreNotAppended(t *testing.T) {
	schema := func(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }
	of := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	x, y := of("x", arrow.PrimitiveTypes.Int64), of("y", arrow.BinaryTypes.String)
	for name, partition := range map[string][]string{"plain": nil, "partitioned": {"y"}} {
		dir := filepath.Join(t.TempDir(), "out")
		write := func(schema *arrow.Schema) error {
			b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			defer b.Release()
			for i, f := range schema.Fields() {
				if err := b.Field(i).AppendValueFromString(map[bool]string{true: "1", false: "true"}[f.Type.ID() != arrow.BOOL]); err != nil {
					t.Fatal(err)
				}
			}
			batch := b.NewRecordBatch()
			defer batch.Release()
			return writeTo(t, plan.WriteParquet{Output: plan.Output{Path: dir, Folder: true, Mode: plan.Append, PartitionBy: partition}}, schema, true, batch)
		}
		if err := errors.Join(write(schema(x, y)), write(schema(y, x)), write(schema(of("x", arrow.PrimitiveTypes.Int16), y))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		before := tree(t, dir)
		for _, c := range []struct {
			schema *arrow.Schema
			says   string
		}{
			{schema(x, y, of("z", arrow.PrimitiveTypes.Int64)), "it also has z"},
			{schema(of("X1", arrow.PrimitiveTypes.Int64), y), "it has no x"},
			{schema(of("x", arrow.FixedWidthTypes.Boolean), y), `the column "x" is bigint in`},
		} {
			d := diag.From(write(c.schema))
			if d == nil || d.Code != diag.SchemasDiffer || !strings.Contains(d.Render(), c.says) || !strings.Contains(d.Hint, "another folder") {
				t.Errorf("%s: %v", name, d)
			}
		}
		if got := tree(t, dir); got != before {
			t.Errorf("%s: left %s", name, got)
		}
	}
}
