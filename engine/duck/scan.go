package duck

/*
#include <stdint.h>
#include <stdlib.h>

// The bindings have these functions only under a build tag of theirs; the
// library that they link always has them.
void *duckdb_schema_from_arrow(void *connection, void *schema, void **out_converted);
void *duckdb_data_chunk_from_arrow(void *connection, void *array, void *converted, void **out_chunk);
void duckdb_destroy_arrow_converted_schema(void **converted);
void *duckdb_data_chunk_get_vector(void *chunk, uint64_t column);
void duckdb_destroy_data_chunk(void **chunk);
void duckdb_destroy_error_data(void **error);
const char *duckdb_error_data_message(void *error);

void alinkScanBind(void *info);
void alinkScanInit(void *info);
void alinkScanInitLocal(void *info);
void alinkScanNext(void *info, void *output);
void alinkScanEnd(void *local);
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/cdata"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/engine/exec"
)

// scanFunction is the table function that reads an input. Its one parameter is
// a cgo.Handle of the stream.
//
// DuckDB's own function for the purpose, duckdb_arrow_scan, cannot be used: it
// promises DuckDB that filters and the choice of columns are left to the
// stream, and then does not tell the stream about them. A query gets rows that
// it filtered out, and the values of the wrong columns.
const scanFunction = "alink scan"

// vectorRowsMax is the number of rows of a chunk of DuckDB.
const vectorRowsMax = 2048

// registerScan makes scanFunction known to the instance.
func (s *session) registerScan() error {
	f := duckdb.CreateTableFunction()
	defer duckdb.DestroyTableFunction(&f)
	handle := duckdb.CreateLogicalType(duckdb.TypeUBigInt)
	defer duckdb.DestroyLogicalType(&handle)
	duckdb.TableFunctionSetName(f, scanFunction)
	duckdb.TableFunctionAddParameter(f, handle)
	duckdb.TableFunctionSetBind(f, C.alinkScanBind)
	duckdb.TableFunctionSetInit(f, C.alinkScanInit)
	duckdb.TableFunctionSetLocalInit(f, C.alinkScanInitLocal)
	duckdb.TableFunctionSetFunction(f, C.alinkScanNext)
	duckdb.TableFunctionSupportsProjectionPushdown(f, true)
	if duckdb.RegisterTableFunction(s.conn, f) == duckdb.StateError {
		return errors.New("the function that reads inputs was refused")
	}
	return nil
}

// scanColumn is how a column of an input gets into DuckDB.
type scanColumn struct {
	field arrow.Field // of the storage type
	// logical is the column's type in DuckDB.
	logical duckdb.LogicalType
	// width is the size of a value that is the same bytes in both; 0: the
	// column is converted by DuckDB, with converted.
	width     int
	converted unsafe.Pointer
}

func (c *scanColumn) close() {
	if c.converted != nil {
		C.duckdb_destroy_arrow_converted_schema(&c.converted)
	}
	duckdb.DestroyLogicalType(&c.logical)
}

// newScanColumn finds out how a field gets into DuckDB. The caller closes the
// column.
func (s *session) newScanColumn(field arrow.Field) (*scanColumn, error) {
	// Metadata are left out: DuckDB would read names of types out of them.
	c := &scanColumn{field: arrow.Field{Name: field.Name, Type: storage(field.Type), Nullable: true}}
	schema := (*cdata.CArrowSchema)(C.calloc(1, C.size_t(unsafe.Sizeof(cdata.CArrowSchema{}))))
	defer C.free(unsafe.Pointer(schema))
	exported := c.field
	if extension, ok := field.Type.(*extensions.UUIDType); ok {
		exported.Type = extension // DuckDB has a type for it
	}
	cdata.ExportArrowSchema(arrow.NewSchema([]arrow.Field{exported}, nil), schema)
	defer cdata.ReleaseCArrowSchema(schema)
	if err := takeError(C.duckdb_schema_from_arrow(s.conn.Ptr, unsafe.Pointer(schema), &c.converted)); err != nil {
		c.close()
		return nil, err
	}
	null := exec.Nulls(memory.DefaultAllocator, c.field.Type, 1)
	defer null.Release()
	chunk, err := s.convert(c, null)
	if err != nil {
		c.close()
		return nil, err
	}
	defer C.duckdb_destroy_data_chunk(&chunk)
	c.logical = duckdb.VectorGetColumnType(duckdb.Vector{Ptr: C.duckdb_data_chunk_get_vector(chunk, 0)})
	c.width = commonWidth(c.field.Type, duckdb.GetTypeId(c.logical))
	return c, nil
}

// commonWidth is the size of a value of a type that is the same bytes in Arrow
// and in DuckDB, and else 0.
func commonWidth(t arrow.DataType, id duckdb.Type) int {
	s := scalars[id]
	fixed, ok := s.arrow.(arrow.FixedWidthDataType)
	if !ok || id == duckdb.TypeBoolean || id == duckdb.TypeInterval || t.ID() != fixed.ID() {
		return 0
	}
	if timestamp, ok := t.(*arrow.TimestampType); ok && timestamp.Unit != fixed.(*arrow.TimestampType).Unit {
		return 0
	}
	if time, ok := t.(*arrow.Time64Type); ok && time.Unit != fixed.(*arrow.Time64Type).Unit {
		return 0
	}
	return s.width
}

// takeError makes an error of a duckdb_error_data, which it destroys.
func takeError(data unsafe.Pointer) error {
	if data == nil {
		return nil
	}
	defer C.duckdb_destroy_error_data(&data)
	return errors.New(C.GoString(C.duckdb_error_data_message(data)))
}

// convert makes a chunk of one column of an array, which stays the caller's;
// the chunk holds a reference. Its column must be referred to as long as its
// values are used: so each column gets a chunk of its own, since of several
// only the first would keep the memory of all alive.
func (s *session) convert(c *scanColumn, values arrow.Array) (unsafe.Pointer, error) {
	values = rebase(values)
	defer values.Release()
	batch := array.NewRecordBatch(arrow.NewSchema([]arrow.Field{c.field}, nil), []arrow.Array{values}, int64(values.Len()))
	defer batch.Release()
	out := (*cdata.CArrowArray)(C.calloc(1, C.size_t(unsafe.Sizeof(cdata.CArrowArray{}))))
	defer C.free(unsafe.Pointer(out))
	cdata.ExportArrowRecordBatch(batch, out, nil)
	defer cdata.ReleaseCArrowArray(out) // what DuckDB did not take over
	var chunk unsafe.Pointer
	if err := takeError(C.duckdb_data_chunk_from_arrow(s.conn.Ptr, unsafe.Pointer(out), c.converted, &chunk)); err != nil {
		return nil, err
	}
	return chunk, nil
}

// rebase gives the same values with structs that begin at offset 0; the caller
// releases them. An array of structs is exported with its offset and with
// children that have that offset already, and would be read from twice as far.
func rebase(values arrow.Array) arrow.Array {
	structs, ok := values.(*array.Struct)
	if !ok {
		values.Retain()
		return values
	}
	children := make([]arrow.ArrayData, structs.NumField())
	for i := range children {
		child := rebase(structs.Field(i))
		defer child.Release()
		children[i] = child.Data()
	}
	var validity *memory.Buffer
	if structs.NullN() > 0 {
		bits := make([]byte, bitutil.BytesForBits(int64(structs.Len())))
		bitutil.CopyBitmap(structs.NullBitmapBytes(), structs.Data().Offset(), structs.Len(), bits, 0)
		validity = memory.NewBufferBytes(bits)
	}
	data := array.NewData(structs.DataType(), structs.Len(), []*memory.Buffer{validity}, children, structs.NullN(), 0)
	defer data.Release()
	return array.NewStructData(data)
}

// scanner is a thread that reads a stream.
type scanner struct {
	stream  *stream
	columns []int // of the stream, by column of the output; -1: none
	batch   arrow.RecordBatch
	at      int // the next row of batch
}

// next fills a chunk. The result has no rows at the end.
func (s *scanner) next(output duckdb.DataChunk) error {
	for s.batch == nil || s.at == int(s.batch.NumRows()) {
		s.release()
		batch, err := s.stream.next()
		if err != nil {
			return err
		}
		if batch == nil {
			duckdb.DataChunkSetSize(output, 0)
			return nil
		}
		s.batch, s.at = batch, 0
	}
	rows := min(int(s.batch.NumRows())-s.at, vectorRowsMax)
	for i, column := range s.columns {
		if column < 0 {
			continue
		}
		vector := duckdb.DataChunkGetVector(output, duckdb.IdxT(i))
		if err := s.fill(vector, s.stream.columns[column], s.batch.Column(column), rows); err != nil {
			return fmt.Errorf("column %q: %w", s.stream.columns[column].field.Name, err)
		}
	}
	duckdb.DataChunkSetSize(output, duckdb.IdxT(rows))
	s.at += rows
	return nil
}

func (s *scanner) fill(out duckdb.Vector, c *scanColumn, values arrow.Array, rows int) error {
	if c.width == 0 {
		part := array.NewSlice(values, int64(s.at), int64(s.at+rows))
		defer part.Release()
		if err := checkExact(part); err != nil {
			return err
		}
		chunk, err := s.stream.session.convert(c, part)
		if err != nil {
			return err
		}
		defer C.duckdb_destroy_data_chunk(&chunk)
		duckdb.VectorReferenceVector(out, duckdb.Vector{Ptr: C.duckdb_data_chunk_get_vector(chunk, 0)})
		return nil
	}
	data := values.Data()
	from := data.Offset() + s.at
	bytes := rows * c.width
	copy(unsafe.Slice((*byte)(duckdb.VectorGetData(out)), bytes), data.Buffers()[1].Bytes()[from*c.width:])
	if values.NullN() == 0 {
		return nil
	}
	duckdb.VectorEnsureValidityWritable(out)
	mask := unsafe.Slice((*byte)(duckdb.VectorGetValidity(out)), vectorRowsMax/8)
	bitutil.CopyBitmap(data.Buffers()[0].Bytes(), from, rows, mask, 0)
	return nil
}

func (s *scanner) release() {
	if s.batch != nil {
		s.batch.Release()
		s.batch = nil
	}
}

// The callbacks. DuckDB calls them on any thread. A panic must not get into
// its stack frames: it becomes an error of the query.

func recovered(report func(string)) {
	if r := recover(); r != nil {
		report(fmt.Sprintf("a fault of the engine: %v", r))
	}
}

//export alinkScanBind
func alinkScanBind(info unsafe.Pointer) {
	bind := duckdb.BindInfo{Ptr: info}
	defer recovered(func(message string) { duckdb.BindSetError(bind, message) })
	value := duckdb.BindGetParameter(bind, 0)
	defer duckdb.DestroyValue(&value)
	handle := duckdb.GetUInt64(value)
	in := cgo.Handle(handle).Value().(*stream)
	rows := duckdb.CreateLogicalType(duckdb.TypeBoolean)
	defer duckdb.DestroyLogicalType(&rows)
	duckdb.BindAddResultColumn(bind, rowsColumn, rows)
	for _, c := range in.columns {
		duckdb.BindAddResultColumn(bind, c.field.Name, c.logical)
	}
	// Freed by DuckDB, as often as it makes such a thing, with free.
	data := (*C.uint64_t)(C.malloc(C.sizeof_uint64_t))
	*data = C.uint64_t(handle)
	duckdb.BindSetBindData(bind, unsafe.Pointer(data), C.free)
}

// rowsColumn stands before a stream's columns. Nobody names it: it is what
// DuckDB asks for, as the first one, where it needs rows but none of their
// columns.
const rowsColumn = "alink rows"

// wanted gives the column of the stream that is the i-th of a scan; -1: none.
func wanted(init duckdb.InitInfo, i duckdb.IdxT, in *stream) int {
	index := duckdb.InitGetColumnIndex(init, i)
	if index == 0 || index > duckdb.IdxT(len(in.columns)) {
		return -1
	}
	return int(index) - 1
}

func streamOf(init duckdb.InitInfo) *stream {
	return cgo.Handle(*(*C.uint64_t)(duckdb.InitGetBindData(init))).Value().(*stream)
}

//export alinkScanInit
func alinkScanInit(info unsafe.Pointer) {
	init := duckdb.InitInfo{Ptr: info}
	defer recovered(func(message string) { duckdb.InitSetError(init, message) })
	in := streamOf(init)
	if err := in.start(); err != nil {
		duckdb.InitSetError(init, err.Error())
		return
	}
	for i := range duckdb.InitGetColumnCount(init) {
		if column := wanted(init, i, in); column >= 0 {
			if err := in.use(column); err != nil {
				duckdb.InitSetError(init, err.Error())
				return
			}
		}
	}
	if in.begun != nil {
		in.begun()
	}
	duckdb.InitSetMaxThreads(init, duckdb.IdxT(in.threads))
}

//export alinkScanInitLocal
func alinkScanInitLocal(info unsafe.Pointer) {
	init := duckdb.InitInfo{Ptr: info}
	defer recovered(func(message string) { duckdb.InitSetError(init, message) })
	s := &scanner{stream: streamOf(init)}
	for i := range duckdb.InitGetColumnCount(init) {
		s.columns = append(s.columns, wanted(init, i, s.stream))
	}
	local := (*C.uintptr_t)(C.malloc(C.sizeof_uintptr_t))
	*local = C.uintptr_t(cgo.NewHandle(s))
	duckdb.InitSetInitData(init, unsafe.Pointer(local), C.alinkScanEnd)
}

//export alinkScanNext
func alinkScanNext(info, output unsafe.Pointer) {
	function := duckdb.FunctionInfo{Ptr: info}
	defer recovered(func(message string) { duckdb.FunctionSetError(function, message) })
	local := (*C.uintptr_t)(duckdb.FunctionGetLocalInitData(function))
	s := cgo.Handle(*local).Value().(*scanner)
	if err := s.next(duckdb.DataChunk{Ptr: output}); err != nil {
		duckdb.FunctionSetError(function, err.Error())
	}
}

//export alinkScanEnd
func alinkScanEnd(local unsafe.Pointer) {
	handle := cgo.Handle(*(*C.uintptr_t)(local))
	handle.Value().(*scanner).release()
	handle.Delete()
	C.free(local)
}
