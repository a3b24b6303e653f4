package plan

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
)

// Files says which files a scan reads and how they become one table.
type Files struct {
	// Path is a file, a folder or a pattern with *, ?, [ ] and **; Paths are
	// several of these. One of the two is set.
	Path  string   `json:"path,omitempty"`
	Paths []string `json:"paths,omitempty"`
	// Columns are the columns to read; nil means all of them.
	Columns []string `json:"columns,omitempty"`
	// Schema declares the types of columns; those of others are the files' own
	// or are found by looking at a sample. A CSV file without a header takes
	// all its names from it.
	Schema []Field `json:"schema,omitempty"`
	// NoPartitions leaves folders named key=value without meaning; otherwise
	// each is a column.
	NoPartitions bool `json:"no_partitions,omitempty"`
	// UnionByName gives NULL for columns that a file does not have; otherwise
	// that is an error.
	UnionByName bool `json:"union_by_name,omitempty"`
}

// List gives the paths of a scan.
func (f Files) List() []string {
	if f.Path != "" {
		return []string{f.Path}
	}
	return f.Paths
}

func (f Files) validate() error {
	if (f.Path == "") == (len(f.Paths) == 0) {
		return fmt.Errorf("path is missing")
	}
	if slices.Contains(f.Paths, "") {
		return fmt.Errorf("a path is empty")
	}
	seen := map[string]bool{}
	for _, field := range f.Schema {
		if seen[Fold(field.Name)] {
			return fmt.Errorf("the schema has two columns %q", field.Name)
		}
		seen[Fold(field.Name)] = true
	}
	_, err := ParseSchema(f.Schema)
	return err
}

// SampleRowsDefault is the number of rows whose values decide the types of a
// table of text.
const SampleRowsDefault = 10_000

// TypeSample bounds the rows that are looked at for the types of columns: 0 means
// SampleRowsDefault, -1 all rows.
type TypeSample struct {
	SampleRows int `json:"sample_rows,omitempty"`
}

func (s TypeSample) validate() error {
	if s.SampleRows < -1 {
		return fmt.Errorf("sample_rows cannot be %d", s.SampleRows)
	}
	return nil
}

// CSVFormat is how a CSV file is written.
type CSVFormat struct {
	// Delimiter is one character; "" means a comma.
	Delimiter string `json:"delimiter,omitempty"`
	// Quote is one character, "" means the double quote; NoQuote gives it no
	// meaning.
	Quote   string `json:"quote,omitempty"`
	NoQuote bool   `json:"no_quote,omitempty"`
	// Escape stands before a quote within quotes; "" means that a quote is
	// doubled.
	Escape string `json:"escape,omitempty"`
	// NoHeader says that the first line is a row like the others.
	NoHeader bool `json:"no_header,omitempty"`
	// NullValues are the texts, not in quotes, that stand for NULL; nil means
	// the empty text.
	NullValues []string `json:"null_values,omitempty"`
	// SkipRows lines are left out at the beginning.
	SkipRows int `json:"skip_rows,omitempty"`
	// Comment begins lines that are left out; "" means that there are none.
	Comment string `json:"comment,omitempty"`
}

func (f CSVFormat) validate() error {
	marks := map[string]string{}
	for _, mark := range []struct{ name, value, byDefault string }{
		{"delimiter", f.Delimiter, ","},
		{"quote", f.Quote, `"`},
		{"escape", f.Escape, ""},
		{"comment", f.Comment, ""},
	} {
		value := mark.value
		if value == "" {
			value = mark.byDefault
		}
		if value == "" || mark.name == "quote" && f.NoQuote {
			continue
		}
		if len(value) != 1 || value[0] >= utf8.RuneSelf || value == "\n" || value == "\r" {
			return diag.New(diag.BadOption, "%s must be one ASCII character, not %q", mark.name, value)
		}
		if mark.name == "escape" && value == marks["quote"] {
			continue // the default, spelled out
		}
		for name, other := range marks {
			if other == value {
				return diag.New(diag.BadOption, "%s and %s are both %q", name, mark.name, value)
			}
		}
		marks[mark.name] = value
	}
	if f.SkipRows < 0 {
		return fmt.Errorf("skip_rows cannot be negative")
	}
	return nil
}

// Output is where and how a table is written. Without Folder and PartitionBy
// it is one file, which is written out of sight and appears when it is whole;
// otherwise it is a folder of files. Each output of a plan appears by itself:
// when a later one fails, an earlier one stays.
type Output struct {
	Path   string    `json:"path"`
	Mode   WriteMode `json:"mode"`
	Folder bool      `json:"folder,omitempty"`
	// PartitionBy are the columns whose values become folders key=value.
	PartitionBy []string `json:"partition_by,omitempty"`
	// Compression is a codec of the format; "" means its default.
	Compression string `json:"compression,omitempty"`
}

func (o Output) validate(format string, compressions []string) error {
	if !slices.Contains([]WriteMode{ErrorIfExists, Overwrite, Append}, o.Mode) {
		return fmt.Errorf("mode must be %q, %q or %q, not %q", ErrorIfExists, Overwrite, Append, o.Mode)
	}
	if o.Compression != "" && !slices.Contains(compressions, o.Compression) {
		return diag.New(diag.BadOption, "compression of %s cannot be %q", format, o.Compression).
			WithHint("%s", diag.DidYouMean(o.Compression, "codecs", compressions))
	}
	seen := map[string]bool{}
	for _, name := range o.PartitionBy {
		if name == "" || seen[Fold(name)] {
			return diag.New(diag.BadOption, "partition_by names %q twice or not at all", name)
		}
		seen[Fold(name)] = true
	}
	return required("path", o.Path)
}

// The codecs of the formats.
var (
	ParquetCompressions = []string{"zstd", "snappy", "gzip", "brotli", "lz4", "none"}
	TextCompressions    = []string{"none", "gzip", "zstd"}
)

// The scans of files.
type (
	// ScanParquet reads Parquet files.
	ScanParquet struct{ Files }
	// ScanCSV reads files of delimited text.
	ScanCSV struct {
		Files
		CSVFormat
		TypeSample
	}
	// ScanJSON reads files of JSON objects: one after the other, or all in one
	// array.
	ScanJSON struct {
		Files
		TypeSample
	}
)

// The sinks that are files.
type (
	// WriteParquet writes Parquet files. Checkpoint makes Path a folder that
	// gets files, exactly once, as the job goes on.
	WriteParquet struct {
		Output
		Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	}
	// WriteCSV writes files of delimited text.
	WriteCSV struct {
		Output
		// Delimiter and Quote are one character each; "" means a comma and the
		// double quote.
		Delimiter string `json:"delimiter,omitempty"`
		Quote     string `json:"quote,omitempty"`
		NoHeader  bool   `json:"no_header,omitempty"`
		// NullValue is what is written for NULL; a text that equals it is put
		// into quotes.
		NullValue string `json:"null_value,omitempty"`
	}
	// WriteJSON writes one JSON object a line.
	WriteJSON struct{ Output }
)

// Name implements Op.
func (ScanParquet) Name() string { return "read_parquet" }

// Name implements Op.
func (ScanCSV) Name() string { return "read_csv" }

// Name implements Op.
func (ScanJSON) Name() string { return "read_json" }

// Name implements Op.
func (WriteParquet) Name() string { return "write_parquet" }

// Name implements Op.
func (WriteCSV) Name() string { return "write_csv" }

// Name implements Op.
func (WriteJSON) Name() string { return "write_json" }

func (ScanParquet) inputCount() int  { return 0 }
func (ScanCSV) inputCount() int      { return 0 }
func (ScanJSON) inputCount() int     { return 0 }
func (WriteParquet) inputCount() int { return 1 }
func (WriteCSV) inputCount() int     { return 1 }
func (WriteJSON) inputCount() int    { return 1 }

// FileScan is the scan of files of any format.
type FileScan interface {
	Op
	// Scanned are the files and columns to read.
	Scanned() Files
	// WithColumns gives the same scan of other columns.
	WithColumns(names []string) FileScan
}

// Scanned implements FileScan.
func (f Files) Scanned() Files { return f }

// WithColumns implements FileScan.
func (s ScanParquet) WithColumns(names []string) FileScan {
	s.Columns = names
	return s
}

// WithColumns implements FileScan.
func (s ScanCSV) WithColumns(names []string) FileScan {
	s.Columns = names
	return s
}

// WithColumns implements FileScan.
func (s ScanJSON) WithColumns(names []string) FileScan {
	s.Columns = names
	return s
}

// validateFiles checks a scan or a sink of files.
func validateFiles(op Op) error {
	switch op := op.(type) {
	case ScanParquet:
		return op.validate()
	case ScanCSV:
		if err := op.CSVFormat.validate(); err != nil {
			return err
		}
		if err := op.TypeSample.validate(); err != nil {
			return err
		}
		return op.Files.validate()
	case ScanJSON:
		if err := op.TypeSample.validate(); err != nil {
			return err
		}
		return op.Files.validate()
	case WriteParquet:
		if c := op.Checkpoint; c != nil {
			if err := c.validate(op.Output); err != nil {
				return err
			}
		}
		return op.validate("Parquet", ParquetCompressions)
	case WriteCSV:
		if err := (CSVFormat{Delimiter: op.Delimiter, Quote: op.Quote}).validate(); err != nil {
			return err
		}
		return op.validate("CSV", TextCompressions)
	case WriteJSON:
		return op.validate("JSON", TextCompressions)
	}
	return nil
}
