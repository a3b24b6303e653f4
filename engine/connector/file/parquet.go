// Package file reads and writes tables in files. It implements exec.Source and
// exec.Sink and knows nothing of workers or SQL.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	parquetfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

const (
	// readRowsMax is the number of rows in a batch that is read.
	readRowsMax = 65536
	// rowGroupRowsMax bounds what a writer holds in memory before it writes.
	rowGroupRowsMax = 1 << 18
	// pageBufferBytes is what is read ahead of each column.
	pageBufferBytes = 1 << 20
)

// ParquetSource is one Parquet file.
type ParquetSource struct {
	path    string
	columns []int
	raw     *arrow.Schema
	schema  *arrow.Schema
}

// OpenParquet reads the file's schema. columns nil means all of them.
func OpenParquet(path string, columns []string) (_ *ParquetSource, err error) {
	defer recovered(path, &err)
	file, err := openParquetFile(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	reader, err := arrowReader(file)
	if err != nil {
		return nil, unreadable(path, err)
	}
	raw, err := reader.Schema()
	if err != nil {
		return nil, unreadable(path, err)
	}
	s := &ParquetSource{path: path, raw: raw}
	if columns != nil {
		if err := s.pickColumns(columns, file); err != nil {
			return nil, err
		}
	}
	s.schema = exec.NormalSchema(s.raw)
	return s, nil
}

// pickColumns resolves column names to the leaves that they consist of.
func (s *ParquetSource) pickColumns(names []string, file *parquetfile.Reader) error {
	fields := make([]arrow.Field, 0, len(names))
	all := make([]string, s.raw.NumFields())
	for i, f := range s.raw.Fields() {
		all[i] = f.Name
	}
	wanted := map[string]bool{}
	for _, name := range names {
		index := s.raw.FieldIndices(name)
		if len(index) == 0 {
			return diag.New(diag.UnknownColumn, "%s has no column %q", s.path, name).
				WithHint("%s", diag.DidYouMean(name, "its columns", all))
		}
		wanted[name] = true
	}
	for _, f := range s.raw.Fields() {
		if wanted[f.Name] {
			fields = append(fields, f)
		}
	}
	leaves := file.MetaData().Schema
	s.columns = []int{}
	for i := range leaves.NumColumns() {
		if wanted[leaves.ColumnRoot(i).Name()] {
			s.columns = append(s.columns, i)
		}
	}
	s.raw = arrow.NewSchema(fields, nil)
	return nil
}

// Schema implements exec.Source.
func (s *ParquetSource) Schema() *arrow.Schema { return s.schema }

// Open implements exec.Source. The file is read row group by row group, page
// by page, so that memory does not grow with the file.
func (s *ParquetSource) Open(ctx context.Context) (_ exec.BatchReader, err error) {
	defer recovered(s.path, &err)
	file, err := openParquetFile(s.path)
	if err != nil {
		return nil, err
	}
	reader, err := arrowReader(file)
	if err != nil {
		return nil, errors.Join(unreadable(s.path, err), file.Close())
	}
	records, err := reader.GetRecordReader(ctx, s.columns, nil)
	if err != nil {
		return nil, errors.Join(unreadable(s.path, err), file.Close())
	}
	return &parquetReader{source: s, file: file, records: records}, nil
}

// recovered makes an error of a fault in the library, which trusts some of
// what a file says. It is deferred.
func recovered(path string, err *error) {
	if fault := recover(); fault != nil {
		*err = unreadable(path, fmt.Errorf("its content is damaged: %v", fault))
	}
}

func arrowReader(file *parquetfile.Reader) (*pqarrow.FileReader, error) {
	// Columns are read one after the other by the goroutine that recovers from
	// faults: in goroutines of the library a damaged file would end the engine.
	return pqarrow.NewFileReader(file, pqarrow.ArrowReadProperties{BatchSize: readRowsMax}, memory.DefaultAllocator)
}

func openParquetFile(path string) (*parquetfile.Reader, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(path)
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		return nil, unreadable(path, errors.New("it is a folder, not a file"))
	}
	properties := parquet.NewReaderProperties(memory.DefaultAllocator)
	properties.BufferSize = pageBufferBytes
	properties.BufferedStreamEnabled = true
	file, err := parquetfile.OpenParquetFile(path, false, parquetfile.WithReadProps(properties))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return file, nil
}

// missing says which file is not there and which names near it are.
func missing(path string) error {
	d := diag.New(diag.FileMissing, "there is no file %s", path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return d.WithHint("the folder %s does not exist either; relative paths are taken from the client's working directory", filepath.Dir(path))
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if near := diag.Suggest(filepath.Base(path), names); len(near) > 0 {
		return d.WithHint("did you mean %s?", filepath.Join(filepath.Dir(path), near[0]))
	}
	return d.WithHint("relative paths are taken from the client's working directory")
}

func unreadable(path string, err error) error {
	return diag.New(diag.FileUnreadable, "%s cannot be read as Parquet", path).WithCause(err).
		WithHint("check that the file is whole and that it may be read")
}

type parquetReader struct {
	source  *ParquetSource
	file    *parquetfile.Reader
	records pqarrow.RecordReader
	closed  bool
}

func (r *parquetReader) Next(ctx context.Context) (_ arrow.RecordBatch, err error) {
	if r.closed {
		return nil, io.EOF
	}
	defer recovered(r.source.path, &err)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if !r.records.Next() {
		if err := r.records.Err(); err != nil && !errors.Is(err, io.EOF) {
			return nil, unreadable(r.source.path, err)
		}
		return nil, io.EOF
	}
	batch := r.records.RecordBatch()
	batch.Retain()
	normal, err := exec.Normalize(ctx, batch, r.source.schema)
	if err != nil {
		return nil, unreadable(r.source.path, err)
	}
	return normal, nil
}

func (r *parquetReader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.records.Release()
	_ = r.file.Close() // only read
}

// ParquetSink writes one Parquet file.
type ParquetSink struct {
	Path string
	Mode plan.WriteMode
}

// Open implements exec.Sink.
func (s ParquetSink) Open(_ context.Context, schema *arrow.Schema) (exec.SinkWriter, error) {
	target, err := createBeside(s.Path, s.Mode)
	if err != nil {
		return nil, err
	}
	properties := parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithMaxRowGroupLength(rowGroupRowsMax),
		parquet.WithCreatedBy("alink"),
	)
	// The writer closes what it is given; the file is still needed then.
	writer, err := pqarrow.NewFileWriter(schema, notClosed{target}, properties, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		target.discard()
		return nil, diag.New(diag.TypeMismatch, "%s cannot be written as Parquet", s.Path).WithCause(err).
			WithHint("cast or drop the column that Parquet has no type for")
	}
	return &parquetWriter{path: s.Path, target: target, writer: writer}, nil
}

type notClosed struct{ io.Writer }

type parquetWriter struct {
	path   string
	target *beside
	writer *pqarrow.FileWriter
}

func (w *parquetWriter) Write(_ context.Context, batch arrow.RecordBatch) error {
	if batch.NumRows() == 0 {
		return nil
	}
	if err := w.writer.WriteBuffered(batch); err != nil {
		return w.unwritable(err)
	}
	return nil
}

func (w *parquetWriter) Commit(context.Context) error {
	if err := w.writer.Close(); err != nil {
		w.target.discard()
		return w.unwritable(err)
	}
	if err := w.target.publish(); err != nil {
		w.target.discard()
		if d := diag.From(err); d.Code != diag.Internal {
			return d
		}
		return w.unwritable(err)
	}
	return nil
}

func (w *parquetWriter) Abort() { w.target.discard() }

func (w *parquetWriter) unwritable(err error) error { return unwritable(w.path, err) }

func unwritable(path string, err error) error {
	return diag.New(diag.OutputUnwritable, "%s cannot be written", path).WithCause(fmt.Errorf("%w", err)).
		WithHint("check that the folder exists, that it may be written to and that the disk has room")
}
