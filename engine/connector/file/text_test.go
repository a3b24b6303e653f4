package file

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// tempFile writes a file of a test's own.
func tempFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readAll gives a scan's schema and rows as text, or its error.
func readAll(t *testing.T, scan plan.FileScan) (schema, rows string, err error) {
	t.Helper()
	releases(t, func() {
		var source *Source
		if source, err = Open(t.Context(), scan); err != nil {
			return
		}
		schema = types(source.Schema())
		reader, openErr := source.Open(t.Context())
		if openErr != nil {
			err = openErr
			return
		}
		defer reader.Close()
		var text strings.Builder
		for {
			batch, nextErr := reader.Next(t.Context())
			if errors.Is(nextErr, io.EOF) {
				break
			}
			if nextErr != nil {
				err = nextErr
				return
			}
			for row := range int(batch.NumRows()) {
				for i, column := range batch.Columns() {
					if i > 0 {
						text.WriteByte('|')
					}
					text.WriteString(column.ValueStr(row))
				}
				text.WriteByte('\n')
			}
			batch.Release()
		}
		rows = text.String()
	})
	return schema, rows, err
}

func types(schema *arrow.Schema) string {
	fields := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = f.Name + " " + plan.FormatType(f.Type)
	}
	return strings.Join(fields, ", ")
}

func csvScan(path string, change ...func(*plan.ScanCSV)) plan.ScanCSV {
	scan := plan.ScanCSV{Files: plan.Files{Path: path}}
	for _, f := range change {
		f(&scan)
	}
	return scan
}

func TestTypesOfText(t *testing.T) {
	for text, want := range map[string]string{
		"1": "bigint", "-12": "bigint", "0": "bigint", "-0": "bigint", "9223372036854775807": "bigint", " 7 ": "bigint",
		"9223372036854775808": "string", "007": "string", "+1": "string", "1_000": "string", "0x10": "string", "1.": "double",
		"1.5": "double", "-.5": "double", "1e5": "double", "1e400": "string", "NaN": "double", "-inf": "double", "00.5": "string",
		"true": "boolean", "FALSE": "boolean", "t": "string", "yes": "string",
		"2024-02-29": "date", "2023-02-29": "string", "2024-13-01": "string", "0000-01-01": "string", "2024-1-2": "string", "20240102": "bigint",
		"12:34:56": "time", "12:34:56.5": "time", "12:34": "string", "24:00:00": "string",
		"2024-01-02 03:04": "timestamp", "2024-01-02T03:04:05": "timestamp", "2024-01-02 03:04:05.123456": "timestamp",
		"2024-01-02 03:04:05.1234567": "timestamp_ns", "0001-01-02 03:04:05.123456789": "string",
		"2024-01-02T03:04:05Z": "timestamptz", "2024-01-02 03:04:05+02": "timestamptz", "2024-01-02 03:04:05 -0330": "timestamptz",
		"2024-01-02 03:04:05 UTC": "timestamptz", "2024-01-02 03:04:05 CET": "string", "2024-01-02 25:04:05": "string", "-": "string", ".": "string", "x": "string",
	} {
		if got := plan.FormatType(kindOf([]byte(text)).arrow()); got != want {
			t.Errorf("%q is a %s, not a %s", text, got, want)
		}
	}
}

func TestColumnsWiden(t *testing.T) {
	for values, want := range map[string]string{
		"1,2.5": "double", "2.5,1": "double", "1,x": "string", "true,1": "string", "2024-01-02,2024-01-02 03:04:05": "timestamp",
		"2024-01-02 03:04:05,2024-01-02 03:04:05.000000001": "timestamp_ns", "2024-01-02 03:04:05Z,2024-01-02 03:04:05": "string",
		",": "string", ",1": "bigint", "2024-01-02,1": "string", "true,false": "boolean", "12:00:00,2024-01-02": "string",
	} {
		path := tempFile(t, "t.csv", "a,b\n"+strings.ReplaceAll(values, ",", ",\n")+",\n")
		schema, _, err := readAll(t, csvScan(path))
		if err != nil || schema != "a "+want+", b string" {
			t.Errorf("%s: %s, %v", values, schema, err)
		}
	}
}

func TestCSVForms(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		change  func(*plan.ScanCSV)
		schema  string
		rows    string
	}{
		"plain":          {"a,b\n1,x\n2,y\n", nil, "a bigint, b string", "1|x\n2|y\n"},
		"no last line":   {"a,b\n1,x", nil, "a bigint, b string", "1|x\n"},
		"windows":        {"\xef\xbb\xbfa,b\r\n1,\"x\r\ny\"\r\n", nil, "a bigint, b string", "1|x\r\ny\n"},
		"old mac":        {"a,b\r1,x\r2,y\r", nil, "a bigint, b string", "1|x\n2|y\n"},
		"quotes":         {"a,b\n\"1\",\"say \"\"hi\"\", ok\"\n", nil, "a bigint, b string", "1|say \"hi\", ok\n"},
		"null and empty": {"a,b\n,\n\"\",\"\"\n", nil, "a string, b string", "(null)|(null)\n|\n"},
		"quoted null":    {"a,b\n1,x\n\"\",y\n", nil, "a bigint, b string", "1|x\n(null)|y\n"},
		"blank lines":    {"\na,b\n\n1,x\n\n", nil, "a bigint, b string", "1|x\n"},
		"one column":     {"a\n1\n\n3\n", nil, "a bigint", "1\n(null)\n3\n"},
		"escape":         {"a,b\n1,\"x\\\"y\\\\\"\n", func(s *plan.ScanCSV) { s.Escape = `\` }, "a bigint, b string", "1|x\"y\\\n"},
		"other marks":    {"a;b\n1;'x;y'\n", func(s *plan.ScanCSV) { s.Delimiter, s.Quote = ";", "'" }, "a bigint, b string", "1|x;y\n"},
		"no quotes":      {"a,b\n1,\"x\n", func(s *plan.ScanCSV) { s.NoQuote = true }, "a bigint, b string", "1|\"x\n"},
		"no header":      {"1,x\n2,y\n", func(s *plan.ScanCSV) { s.NoHeader = true }, "column1 bigint, column2 string", "1|x\n2|y\n"},
		"named": {"1,x\n", func(s *plan.ScanCSV) {
			s.NoHeader, s.Schema = true, []plan.Field{{Name: "n", Type: "int"}, {Name: "s", Type: "string"}}
		}, "n integer, s string", "1|x\n"},
		"skipped":      {"made today\n\na,b\n1,x\n", func(s *plan.ScanCSV) { s.SkipRows = 2 }, "a bigint, b string", "1|x\n"},
		"comments":     {"# c\na,b\n#1,2\n1,x\n# end", func(s *plan.ScanCSV) { s.Comment = "#" }, "a bigint, b string", "1|x\n"},
		"null texts":   {"a,b\n1,NA\nNA,\"NA\"\n-,\n", func(s *plan.ScanCSV) { s.NullValues = []string{"NA", "-"} }, "a bigint, b string", "1|(null)\n(null)|NA\n(null)|\n"},
		"some columns": {"a,b,c\n1,x,2\n", func(s *plan.ScanCSV) { s.Columns = []string{"c", "a"} }, "a bigint, c bigint", "1|2\n"},
		"declared": {"a,b\n007,1.10\n", func(s *plan.ScanCSV) {
			s.Schema = []plan.Field{{Name: "A", Type: "int"}, {Name: "b", Type: "decimal(5,2)"}}
		}, "a integer, b decimal(5,2)", "7|1.1\n"},
		"empty":       {"", nil, "", ""},
		"only header": {"a,b\n", nil, "a string, b string", ""},
		"nameless":    {",b\n1,2\n", nil, "column1 bigint, b bigint", "1|2\n"},
	} {
		change := c.change
		if change == nil {
			change = func(*plan.ScanCSV) {}
		}
		schema, rows, err := readAll(t, csvScan(tempFile(t, "t.csv", c.content), change))
		if err != nil || schema != c.schema || rows != c.rows {
			t.Errorf("%s: %v\n%s\n%q\nwant\n%s\n%q", name, err, schema, rows, c.schema, c.rows)
		}
	}
}

// TestCSVLosesNothing: what a type cannot hold exactly is an error, wherever
// it comes.
func TestCSVLosesNothing(t *testing.T) {
	for _, c := range []struct{ typ, value string }{
		{"bigint", "1.5"},
		{"tinyint", "128"},
		{"utinyint", "-1"},
		{"double", "1e400"},
		{"float", "1e39"},
		{"decimal(4,1)", "1.25"},
		{"decimal(4,1)", "12345"},
		{"date", "2024-01-02 03:04"},
		{"timestamp", "2024-01-02T03:04:05Z"},
		{"timestamp_s", "2024-01-02 03:04:05.5"},
		{"timestamp", "2024-01-02 03:04:05.0000001"},
		{"time", "03:04:05.0000001"},
		{"boolean", "maybe"},
		{"binary", "%%%"},
		{"string", "\xff"},
	} {
		path := tempFile(t, "t.csv", "k,x\n1,\n2,"+c.value+"\n")
		_, _, err := readAll(t, csvScan(path, func(s *plan.ScanCSV) { s.Schema = []plan.Field{{Name: "x", Type: c.typ}} }))
		d := diag.From(err)
		if d == nil || d.Code != diag.ValueUnreadable || !strings.HasPrefix(d.Message, path+", line 3: the value ") {
			t.Errorf("%s %q: %v", c.typ, c.value, d)
		}
	}
}

func TestCSVProblemsSayWhere(t *testing.T) {
	for name, c := range map[string]struct{ content, message, cause string }{
		"more fields":     {"a,b\n1,2\n\n1,2,3\n", ", line 4 has 3 fields instead of 2", ""},
		"fewer fields":    {"a,b\n\"x\ny\",2\n1\n", ", line 4 has 1 field instead of 2", ""},
		"open quote":      {"a,b\n1,2\n1,\"x\n", " cannot be read as CSV", "line 3: field 2 begins with a quote that is not closed"},
		"text after":      {"a,b\n1,2\n\"x\" y,2\n", " cannot be read as CSV", `line 3: after the quote that closes field 1 comes " y,2\n" instead of ','`},
		"two names":       {"a,A\n1,2\n", ` has two columns "A"`, ""},
		"UTF-16":          {"\xff\xfea\x00,\x00", " cannot be read as CSV", "it is UTF-16; only UTF-8 is read"},
		"name not UTF-8":  {"a\xff,b\n", " cannot be read as CSV", `line 1: the name of column 1, "a\xff", is not UTF-8`},
		"zeros":           {"a\x00,b\n", " cannot be read as CSV", "line 1: the name of column 1 holds a zero byte; it may be UTF-16 or no text at all"},
		"not compressed":  {"a,b\n1,2\n3,4\n", " cannot be read as CSV", "gzip: invalid header"},
		"late bad number": {"a,b\n" + strings.Repeat("1,2\n", plan.SampleRowsDefault) + "1,\"2,5\"\n", `, line 10002: the value "2,5" of column "b" does not fit its type bigint`, ""},
	} {
		file := "t.csv"
		if name == "not compressed" {
			file += ".gz"
		}
		path := tempFile(t, file, c.content)
		_, _, err := readAll(t, csvScan(path))
		if d := diag.From(err); d == nil || d.Message != path+c.message || d.Cause != c.cause || d.Hint == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestCompressedTexts(t *testing.T) {
	dir := t.TempDir()
	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"t.csv.gz":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"u.csv.zst": func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w := open(f)
		_, err = io.WriteString(w, "a,b\n1,x\n")
		if err := errors.Join(err, w.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	before := runtime.NumGoroutine()
	schema, rows, err := readAll(t, csvScan(dir))
	if err != nil || schema != "a bigint, b string" || rows != "1|x\n1|x\n" {
		t.Errorf("%s %q %v", schema, rows, err)
	}
	if after := runtime.NumGoroutine(); after != before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

// TestCSVAgainstAnotherReader compares random files with what Go's own package
// reads, at buffers that cut records anywhere.
func TestCSVAgainstAnotherReader(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", `"`, ",", "\n", "é", " ", "\\", "日本", "'", ";", "#", strings.Repeat("x", 40)}
	for round := range 300 {
		var want [][]string
		columns := 1 + random.IntN(4)
		for range 1 + random.IntN(20) {
			record := make([]string, columns)
			for i := range record {
				for range random.IntN(5) {
					record[i] += pieces[random.IntN(len(pieces))]
				}
			}
			if columns == 1 && record[0] == "" {
				record[0] = "-"
			}
			want = append(want, record)
		}
		var text strings.Builder
		w := csv.NewWriter(&text)
		if err := w.WriteAll(want); err != nil {
			t.Fatal(err)
		}
		s := newCSVScanner(&slowReader{strings.NewReader(text.String()), random}, newDialect(plan.CSVFormat{}))
		s.buffer = make([]byte, 1+random.IntN(16))
		s.blanks = columns == 1
		for i, record := range want {
			if err := s.next(); err != nil || len(s.fields) != columns {
				t.Fatalf("round %d, record %d: %v, %d fields of\n%s", round, i, err, len(s.fields), text.String())
			}
			for j, f := range s.fields {
				if got := string(s.text(f)); got != record[j] {
					t.Fatalf("round %d: %q, not %q", round, got, record[j])
				}
			}
		}
		if err := s.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("round %d: %v after the end", round, err)
		}
	}
}

// slowReader gives a few bytes at a time.
type slowReader struct {
	io.Reader
	random *rand.Rand
}

func (r *slowReader) Read(p []byte) (int, error) {
	return r.Reader.Read(p[:min(len(p), 1+r.random.IntN(5))])
}

func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "a\n\"x\"\"y\"\n", "\"", "a,b\r1", "\xef\xbb\xbf", "a,\"b\n", "#\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		path := tempFile(t, "t.csv", content)
		schema, rows, err := readAll(t, csvScan(path, func(s *plan.ScanCSV) { s.SampleRows = -1 }))
		if err != nil && diag.From(err).Code == diag.Internal {
			t.Fatalf("%q: %v", content, err)
		}
		_, _ = schema, rows
	})
}

func TestJSONForms(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		schema  []plan.Field
		want    string
		rows    string
	}{
		"lines":         {"{\"a\":1,\"b\":\"x\"}\n\n{\"b\":null}\n", nil, "a bigint, b string", "1|x\n(null)|(null)\n"},
		"an array":      {`[{"a":1}, {"a":2.5}]`, nil, "a double", "1\n2.5\n"},
		"nothing":       {"", nil, "", ""},
		"other order":   {"{\"a\":1,\"b\":2}\n{\"b\":3,\"a\":4}", nil, "a bigint, b bigint", "1|2\n4|3\n"},
		"nested":        {`{"s":{"a":1,"l":[{"x":true},null]}}` + "\n" + `{"s":{"b":"y"}}`, nil, "s struct<a: bigint, l: list<struct<x: boolean>>, b: string>", `{"a":1,"b":null,"l":[{"x":true},null]}` + "\n" + `{"a":null,"b":"y","l":null}` + "\n"},
		"mixed":         {`{"a":1}{"a":"x"}{"a":[1, 2]}{"a":{"b":null}}`, nil, "a string", "1\nx\n[1, 2]\n{\"b\":null}\n"},
		"times":         {`{"d":"2024-01-02","t":"2024-01-02T03:04:05Z"}`, nil, "d date, t timestamptz", "2024-01-02|2024-01-02T03:04:05Z\n"},
		"special":       {`{"x":1.5}{"x":"NaN"}{"x":"-Infinity"}`, nil, "x double", "1.5\nNaN\n-Inf\n"},
		"large number":  {`{"x":123456789012345678901}`, nil, "x string", "123456789012345678901\n"},
		"empty values":  {`{"l":[],"o":{},"n":null}`, nil, "l list<string>, o string, n string", "[]|{}|(null)\n"},
		"escapes":       {`{"é\"":"a\u00e9\n\ud83d\ude00"}`, nil, "é\" string", "aé\n😀\n"},
		"declared":      {`{"a":1.0,"b":1.50}`, []plan.Field{{Name: "a", Type: "int"}, {Name: "b", Type: "decimal(5,2)"}, {Name: "c", Type: "string"}}, "a integer, b decimal(5,2), c string", "1|1.5|(null)\n"},
		"a map":         {`{"m":{"x":1,"y":null}}`, []plan.Field{{Name: "m", Type: "map<string, int>"}}, "m map<string, integer>", `[{"key":"x","value":1},{"key":"y","value":null}]` + "\n"},
		"raw as string": {`{"a":{"b":[1]},"c":1}`, []plan.Field{{Name: "a", Type: "string"}, {Name: "c", Type: "string"}}, "a string, c string", `{"b":[1]}|1` + "\n"},
	} {
		scan := plan.ScanJSON{Files: plan.Files{Path: tempFile(t, "t.jsonl", c.content), Schema: c.schema}}
		schema, rows, err := readAll(t, scan)
		if err != nil || schema != c.want || rows != c.rows {
			t.Errorf("%s: %v\n%s\n%q\nwant\n%s\n%q", name, err, schema, rows, c.want, c.rows)
		}
	}
}

func TestJSONProblemsSayWhere(t *testing.T) {
	many := strings.Repeat("{\"a\":1,\"s\":{\"b\":1}}\n", plan.SampleRowsDefault)
	for name, c := range map[string]struct{ content, message, cause string }{
		"cut":           {"{\"a\":1}\n{\"a\":", ", line 2 is not JSON", "the file ends in the middle of a value"},
		"a bad letter":  {"{\"a\":1}\n{\"a\":x}\n", ", line 2 is not JSON", "invalid character 'x' at start of value"},
		"twice":         {"{\"a\":1,\"a\":2}\n", ", line 1 is not JSON", "duplicate object member name"},
		"not UTF-8":     {"{\"a\":\"\xff\"}", ", line 1 is not JSON", "invalid UTF-8"},
		"no object":     {"1\n2\n", ", line 1 cannot be read as a table", `an object is expected, not "1"`},
		"array of text": {`["x"]`, ", line 1 cannot be read as a table", `an object is expected, not "\"x\""`},
		"two arrays":    {"[{\"a\":1}]\n[{\"a\":1}]", ", line 2 cannot be read as a table", "the array is followed by something else"},
		"late type":     {many + "{\"a\":1.5}\n", `, line 10001: the value "1.5" of column "a" does not fit its type bigint`, ""},
		"late string":   {many + "{\"a\":\"7\"}\n", `, line 10001: the value "\"7\"" of column "a" does not fit its type bigint`, ""},
		"late key":      {many + "\n\n{\"a\":1,\"z\":2}\n", `, line 10003: the key "z" is not among the columns`, ""},
		"late member":   {many + "{\"s\":{\"c\":2}}\n", `, line 10001: the key "s.c" is not among the columns`, ""},
		"late nested":   {many + "{\"s\":{\"b\":[]}}\n", `, line 10001: the value "[]" of column "s.b" does not fit its type bigint`, ""},
	} {
		path := tempFile(t, "t.jsonl", c.content)
		_, _, err := readAll(t, plan.ScanJSON{Files: plan.Files{Path: path}})
		if d := diag.From(err); d == nil || d.Message != path+c.message || d.Cause != c.cause || d.Hint == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	path := tempFile(t, "t.jsonl", many+"{\"a\":1.5}\n")
	schema, _, err := readAll(t, plan.ScanJSON{Files: plan.Files{Path: path}, TypeSample: plan.TypeSample{SampleRows: -1}})
	if err != nil || !strings.HasPrefix(schema, "a double") {
		t.Errorf("with all rows looked at: %s, %v", schema, err)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[{"a":[1,{"b":null}]}]`, "{", `{"a":"\u12"}`, `{"a":1}{"a":"x"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		path := tempFile(t, "t.jsonl", content)
		_, _, err := readAll(t, plan.ScanJSON{Files: plan.Files{Path: path}, TypeSample: plan.TypeSample{SampleRows: -1}})
		if err != nil && diag.From(err).Code == diag.Internal {
			t.Fatalf("%q: %v", content, err)
		}
	})
}

func TestReadersEndWhenTheyAreTold(t *testing.T) {
	text := tempFile(t, "t.csv", "a\n"+strings.Repeat("1\n", 200_000))
	lines := tempFile(t, "t.jsonl", strings.Repeat("{\"a\":1}\n", 200_000))
	for _, scan := range []plan.FileScan{csvScan(text), plan.ScanJSON{Files: plan.Files{Path: lines}}} {
		releases(t, func() {
			source, err := Open(t.Context(), scan)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			reader, err := source.Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			batch, err := reader.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			batch.Release()
			cause := errors.New("enough")
			cancel(cause)
			if _, err := reader.Next(ctx); !errors.Is(err, cause) {
				t.Errorf("%s: %v", scan.Name(), err)
			}
		})
	}
}

func TestManyColumnsAndLargeCells(t *testing.T) {
	var names, values []string
	for i := range 2_000 {
		names, values = append(names, fmt.Sprintf("c%d", i)), append(values, fmt.Sprint(i))
	}
	line := strings.Join(values, ",") + "\n"
	schema, rows, err := readAll(t, csvScan(tempFile(t, "t.csv", strings.Join(names, ",")+"\n"+line)))
	if err != nil || strings.Count(schema, "bigint") != 2_000 || rows != strings.ReplaceAll(line, ",", "|") {
		t.Errorf("2,000 columns: %v", err)
	}
	cell := strings.Repeat("x\n", 1<<20)
	_, rows, err = readAll(t, csvScan(tempFile(t, "t.csv", "a,b\n1,\""+cell+"\"\n2,y\n")))
	if err != nil || rows != "1|"+cell+"\n2|y\n" {
		t.Errorf("a large cell: %d bytes, %v", len(rows), err)
	}
}
