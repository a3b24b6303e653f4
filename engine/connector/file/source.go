// Package file reads and writes tables in files: Parquet, CSV and JSON. It
// implements exec.Source and exec.Sink and knows nothing of workers or SQL.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// format reads files of one kind.
type format interface {
	// label is its name in messages.
	label() string
	// extensions are the endings of its files, the usual one first.
	extensions() []string
	// schema gives the columns that the files have as one table.
	schema(ctx context.Context, paths []string) (*arrow.Schema, error)
	// open reads columns of that table, at least one, from a file of it.
	open(ctx context.Context, path string, table *arrow.Schema, wanted []int) (exec.BatchReader, error)
}

// Source is a table in files. It implements exec.Source.
type Source struct {
	format format
	files  []dataFile
	// table are the columns of the files, partitions those of their folders.
	table      *arrow.Schema
	partitions []arrow.Field
	// wanted are the columns of table that are read, picked for each column of
	// the result its place: in wanted, or behind it in partitions.
	wanted []int
	picked []int
	schema *arrow.Schema
}

// Open finds the files of a scan and what their columns are. The list of files
// is that of this moment.
func Open(ctx context.Context, scan plan.FileScan) (*Source, error) {
	return OpenWithin(ctx, scan, func(string) error { return nil })
}

// OpenWithin is Open for a caller that does not allow every file: allowed is
// asked for each that was found, before any is read.
func OpenWithin(ctx context.Context, scan plan.FileScan, allowed func(path string) error) (*Source, error) {
	set := scan.Scanned()
	declared, err := plan.ParseSchema(set.Schema)
	if err != nil {
		return nil, diag.New(diag.BadOption, "schema= cannot be used").WithCause(err)
	}
	var f format
	switch scan := scan.(type) {
	case plan.ScanParquet:
		f = &parquetFormat{declared: declared.Fields(), union: set.UnionByName}
	case plan.ScanCSV:
		f = &csvFormat{dialect: newDialect(scan.CSVFormat), sample: newSample(scan.TypeSample), declared: declared.Fields(), union: set.UnionByName}
	case plan.ScanJSON:
		f = &jsonFormat{sample: newSample(scan.TypeSample), declared: declared.Fields()}
	default:
		return nil, fmt.Errorf("%s does not read files", scan.Name())
	}
	s := &Source{format: f}
	if s.files, err = findFiles(set.List(), f, !set.NoPartitions); err != nil {
		return nil, err
	}
	for _, f := range s.files {
		if err := allowed(f.path); err != nil {
			return nil, err
		}
	}
	if s.partitions, err = partitionFields(s.files, declared.Fields()); err != nil {
		return nil, err
	}
	if err := s.describe(ctx, declared.Fields()); err != nil {
		return nil, err
	}
	return s, s.pick(set.Columns)
}

// describe finds the columns of the files. Declared columns that are made of
// folders are not looked for in them.
func (s *Source) describe(ctx context.Context, declared []arrow.Field) (err error) {
	var inFiles []arrow.Field
	for _, d := range declared {
		if !isDeclared(s.partitions, d.Name) {
			inFiles = append(inFiles, d)
		}
	}
	switch f := s.format.(type) {
	case *parquetFormat:
		f.declared = inFiles
	case *csvFormat:
		f.declared = inFiles
	case *jsonFormat:
		f.declared = inFiles
	}
	paths := make([]string, len(s.files))
	for i, f := range s.files {
		paths[i] = f.path
	}
	s.table, err = s.format.schema(ctx, paths)
	return err
}

// pick chooses columns by name (nil: all), in the order that the files have
// them, those of folders last. A column that is also a folder's is the
// folder's.
func (s *Source) pick(names []string) error {
	var all []string
	var fields []arrow.Field
	for _, f := range s.table.Fields() {
		if !isDeclared(s.partitions, f.Name) {
			all, fields = append(all, f.Name), append(fields, f)
		} else {
			all, fields = append(all, ""), append(fields, f)
		}
	}
	for _, f := range s.partitions {
		all, fields = append(all, f.Name), append(fields, f)
	}
	chosen := make([]bool, len(all))
	for i := range all {
		chosen[i] = names == nil && all[i] != ""
	}
	for _, name := range names {
		at := indexOf(all, name)
		if at < 0 || name == "" {
			return noColumn(s.files[0].path, name, all)
		}
		chosen[at] = true
	}
	var out []arrow.Field
	inFiles := s.table.NumFields()
	for i, field := range fields {
		switch {
		case !chosen[i]:
			continue
		case i < inFiles:
			s.picked = append(s.picked, len(s.wanted))
			s.wanted = append(s.wanted, i)
		default:
			s.picked = append(s.picked, -1-(i-inFiles))
		}
		out = append(out, field)
	}
	if len(s.wanted) == 0 && inFiles > 0 {
		s.wanted = []int{0} // for the number of rows
	}
	s.schema = arrow.NewSchema(out, nil)
	return nil
}

// Schema implements exec.Source.
func (s *Source) Schema() *arrow.Schema { return s.schema }

// Open implements exec.Source. Files are read one after the other, each in
// batches, so that memory does not grow with them.
func (s *Source) Open(context.Context) (exec.BatchReader, error) {
	return &sourceReader{source: s}, nil
}

// sourceReader reads the files of a source.
type sourceReader struct {
	source *Source
	at     int
	reader exec.BatchReader // of the file before at; nil between files
}

// Next implements exec.BatchReader.
func (r *sourceReader) Next(ctx context.Context) (arrow.RecordBatch, error) {
	s := r.source
	if len(s.wanted) == 0 {
		return nil, io.EOF // files without columns have no rows
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.reader == nil {
			if r.at == len(s.files) {
				return nil, io.EOF
			}
			reader, err := s.format.open(ctx, s.files[r.at].path, s.table, s.wanted)
			if err != nil {
				return nil, err
			}
			r.reader, r.at = reader, r.at+1
		}
		batch, err := r.reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			r.reader.Close()
			r.reader = nil
			continue
		}
		if err != nil {
			return nil, err
		}
		return s.arrange(batch, s.files[r.at-1])
	}
}

// arrange makes a batch of the result of one of a file, which it takes over.
func (s *Source) arrange(batch arrow.RecordBatch, f dataFile) (arrow.RecordBatch, error) {
	defer batch.Release()
	columns := make([]arrow.Array, len(s.picked))
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, from := range s.picked {
		if from >= 0 {
			columns[i] = batch.Column(from)
			columns[i].Retain()
			continue
		}
		column, err := constant(f, f.values[-1-from], s.schema.Field(i), batch.NumRows())
		if err != nil {
			return nil, err
		}
		columns[i] = column
	}
	return array.NewRecordBatch(s.schema, columns, batch.NumRows()), nil
}

// Close implements exec.BatchReader.
func (r *sourceReader) Close() {
	if r.reader != nil {
		r.reader.Close()
		r.reader = nil
	}
	r.at = len(r.source.files)
}
