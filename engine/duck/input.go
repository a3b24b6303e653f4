package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/cgo"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// feeder reads an input in a goroutine of its own, one batch ahead of DuckDB.
// So a reader has one caller, DuckDB's threads wait for a batch in a way that
// can be cancelled, and a query need not be started before there is something
// to read.
type feeder struct {
	reader exec.BatchReader
	items  chan feederItem // closed at the end of the input
}

type feederItem struct {
	batch arrow.RecordBatch
	err   error
}

// run reads until the end, an error, or ctx is done, and closes the reader. It
// signals arrived (which has room for one) when it has something.
func (f *feeder) run(ctx context.Context, arrived chan<- struct{}) {
	defer f.reader.Close()
	defer close(f.items)
	for {
		batch, err := f.reader.Next(ctx)
		select {
		case arrived <- struct{}{}:
		default:
		}
		if errors.Is(err, io.EOF) {
			return
		}
		select {
		case f.items <- feederItem{batch, err}:
		case <-ctx.Done():
			if batch != nil {
				batch.Release()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// stream is an input as DuckDB reads it, through scanFunction: each thread
// takes a batch at a time.
type stream struct {
	ctx     context.Context
	session *session // for conversions
	feeder  *feeder
	schema  *arrow.Schema // that the query's columns have
	columns []*scanColumn // the query's
	// places are, for each of schema's columns, its place in the batches; -1 is
	// one that they lack. nil means that they have all.
	places []int
	// used notes the columns that the query asks for, begun is told when it has
	// done so; nil is legal.
	used  map[int]bool
	begun func()
	// present is what batchSchema has made.
	present *arrow.Schema
	threads int
	// waited is told how long a batch was waited for, or nil.
	waited func(time.Duration)
	handle cgo.Handle

	mu      sync.Mutex // held while a batch is waited for
	started bool
	ended   bool
	// failed is why the stream ended, if not at its end: the reader's own
	// error, for whoever runs the query.
	failed error
}

// sql is the stream as a table of SQL.
func (s *stream) sql() string {
	return fmt.Sprintf("%s(%d::UBIGINT)", quote(scanFunction), uint64(s.handle))
}

// start begins a scan. There can be only one: a second would find what the
// first has left, which is nothing.
func (s *stream) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		s.failed = diag.New(diag.Internal, "an input was to be read twice")
		return s.failed
	}
	s.started = true
	return nil
}

// next gives a batch with rows, which the caller releases, or nil at the end.
func (s *stream) next() (arrow.RecordBatch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended {
		batch, err := s.receive()
		if err != nil {
			s.ended, s.failed = true, err
			return nil, err
		}
		if batch == nil {
			s.ended = true
			return nil, nil
		}
		if batch.NumRows() > 0 {
			return batch, nil
		}
		batch.Release()
	}
	return nil, s.failed
}

// receive gives the next batch, with the columns that DuckDB sees, or nil at
// the end.
func (s *stream) receive() (arrow.RecordBatch, error) {
	if s.waited != nil {
		began := time.Now()
		defer func() { s.waited(time.Since(began)) }()
	}
	select {
	case item, ok := <-s.feeder.items:
		switch {
		case !ok:
			return nil, s.ctx.Err() // nil at the end
		case item.err != nil:
			return nil, item.err
		}
		defer item.batch.Release()
		if err := checkSchema(item.batch.Schema(), s.batchSchema()); err != nil {
			return nil, err
		}
		return s.storage(item.batch), nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// place is where a column of the schema stands in the batches; -1: nowhere.
func (s *stream) place(column int) int {
	if s.places == nil {
		return column
	}
	return s.places[column]
}

// batchSchema is the schema that the batches must have.
func (s *stream) batchSchema() *arrow.Schema {
	if s.places == nil {
		return s.schema
	}
	if s.present == nil {
		var fields []arrow.Field
		for i, f := range s.schema.Fields() {
			if s.places[i] >= 0 {
				fields = append(fields, f)
			}
		}
		s.present = arrow.NewSchema(fields, nil)
	}
	return s.present
}

// use notes that the query reads a column, which must be there.
func (s *stream) use(column int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil {
		s.used = map[int]bool{}
	}
	s.used[column] = true
	if s.schema.NumFields() > 0 && s.place(column) < 0 {
		s.failed = diag.New(diag.Internal, "the column %q was left out, and is used all the same", s.schema.Field(column).Name)
		return s.failed
	}
	return nil
}

// usedColumns are the columns that the query asked for; all of them where it
// did not come to that, or whole is set.
func (s *stream) usedColumns(whole bool) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	columns := []int{}
	for column := range s.schema.NumFields() {
		if whole || !s.started || s.used[column] {
			columns = append(columns, column)
		}
	}
	return columns
}

// placesOf turns the columns that come into the place of each that is declared.
func placesOf(input exec.RelationalInput) []int {
	if input.Columns == nil {
		return nil
	}
	places := make([]int, input.Schema.NumFields())
	for i := range places {
		places[i] = slices.Index(input.Columns, i)
	}
	return places
}

// checkSchema guards memory: DuckDB reads the buffers of a batch by the
// declared types.
func checkSchema(got, declared *arrow.Schema) error {
	if got == declared {
		return nil
	}
	if got.NumFields() != declared.NumFields() {
		return diag.New(diag.Internal, "a batch has %d columns, but its table %d", got.NumFields(), declared.NumFields())
	}
	for i, f := range declared.Fields() {
		if !arrow.TypeEqual(got.Field(i).Type, f.Type) {
			return diag.New(diag.Internal, "a batch has the type %s in the column %q, but its table %s", got.Field(i).Type, f.Name, f.Type)
		}
	}
	return nil
}

// storage gives a batch's columns as s.columns describe them; the caller
// releases it. batch stays the caller's.
func (s *stream) storage(batch arrow.RecordBatch) arrow.RecordBatch {
	fields := make([]arrow.Field, len(s.columns))
	columns := make([]arrow.Array, len(s.columns))
	for i, c := range s.columns {
		fields[i] = c.field
		if s.schema.NumFields() == 0 {
			columns[i] = noColumnArray(int(batch.NumRows()))
			continue
		}
		if s.place(i) < 0 {
			fields[i] = arrow.Field{Name: c.field.Name, Type: arrow.Null, Nullable: true}
			columns[i] = array.NewNull(int(batch.NumRows()))
			continue
		}
		columns[i] = batch.Column(s.place(i))
		for {
			extension, ok := columns[i].(array.ExtensionArray)
			if !ok {
				break
			}
			columns[i] = extension.Storage()
		}
		columns[i].Retain()
	}
	out := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
	for _, c := range columns {
		c.Release()
	}
	return out
}

// storage is the type that an extension type is stored as.
func storage(t arrow.DataType) arrow.DataType {
	if extension, ok := t.(arrow.ExtensionType); ok {
		return storage(extension.StorageType())
	}
	return t
}

// noColumnField and noColumnArray stand for the columns of a table that has
// none.
var noColumnField = arrow.Field{Name: noColumn, Type: arrow.FixedWidthTypes.Boolean, Nullable: true}

func noColumnArray(rows int) arrow.Array {
	bits := memory.NewBufferBytes(make([]byte, bitutil.BytesForBits(int64(rows))))
	data := array.NewData(noColumnField.Type, rows, []*memory.Buffer{bits, bits}, nil, rows, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// close releases what the stream holds, and waits for the feeder, whose
// context must be done. No query uses the stream any more.
func (s *stream) close() {
	for item := range s.feeder.items {
		if item.batch != nil {
			item.batch.Release()
		}
	}
	s.handle.Delete()
}

// inputError is why the stream ended, if not at its end.
func (s *stream) inputError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}
