package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// tableBatchRowsMax is the number of rows above which a batch of an uploaded
// table is cut, so that queues and workers get pieces of a bounded size.
const tableBatchRowsMax = 65_536

// tables keeps what clients have uploaded: all together in memory up to a
// limit, then in unlinked files.
type tables struct {
	options exec.SpoolOptions
	// bytesMax bounds what all of them hold, in memory and in files.
	bytesMax int64

	mu     sync.Mutex
	byName map[string]*exec.Spool
	// using counts the jobs that read a table; one that is dropped meanwhile
	// is closed when the last of them ends.
	using   map[*exec.Spool]int
	dropped map[*exec.Spool]bool
}

// newTables makes an empty one; bytesMax 0 is no bound.
func newTables(options exec.SpoolOptions, bytesMax int64) *tables {
	if bytesMax == 0 {
		bytesMax = math.MaxInt64
	}
	options.Total = exec.NewAllowance(bytesMax)
	return &tables{
		options: options, bytesMax: bytesMax, byName: map[string]*exec.Spool{},
		using: map[*exec.Spool]int{}, dropped: map[*exec.Spool]bool{},
	}
}

// bytes are what all tables hold.
func (t *tables) bytes() int64 { return t.bytesMax - t.options.Total.Free() }

// put reads a table to its end and keeps it under a name that must be free. It
// does not take the reader over.
func (t *tables) put(ctx context.Context, name string, reader array.RecordReader) error {
	schema := exec.NormalSchema(reader.Schema())
	spool, err := exec.NewSpool(schema, t.options)
	if err != nil {
		return err
	}
	if err := t.fill(ctx, spool, reader); err != nil {
		spool.Close()
		return err
	}
	return t.keep(ctx, name, spool)
}

// keep ends a table, which it takes over whatever the result, and gives it a
// name that must be free.
func (t *tables) keep(ctx context.Context, name string, spool *exec.Spool) error {
	if err := spool.Put(ctx, exec.Element{Kind: exec.KindEnd}); err != nil {
		spool.Close()
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName[name] != nil {
		spool.Close()
		return diag.New(diag.InvalidPlan, "there is a table %q already", name)
	}
	t.byName[name] = spool
	return nil
}

// keptTable is the sink of plan.KeepTable.
type keptTable struct {
	tables *tables
	name   string
}

// Open implements exec.Sink.
func (k keptTable) Open(_ context.Context, schema *arrow.Schema) (exec.SinkWriter, error) {
	spool, err := exec.NewSpool(schema, k.tables.options)
	if err != nil {
		return nil, err
	}
	return &tableWriter{keptTable: k, spool: spool}, nil
}

// tableWriter implements exec.SinkWriter.
type tableWriter struct {
	keptTable
	spool *exec.Spool
}

func (w *tableWriter) Write(ctx context.Context, batch arrow.RecordBatch) error {
	return w.tables.putPieces(ctx, w.spool, batch)
}

func (w *tableWriter) Commit(ctx context.Context) error { return w.tables.keep(ctx, w.name, w.spool) }

func (w *tableWriter) Abort() { w.spool.Close() }

func (t *tables) fill(ctx context.Context, spool *exec.Spool, reader array.RecordReader) error {
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		normal, err := exec.Normalize(ctx, batch, spool.Schema())
		if err != nil {
			return err
		}
		err = t.putPieces(ctx, spool, normal)
		normal.Release()
		if err != nil {
			return err
		}
	}
	if err := reader.Err(); err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	return nil
}

// putPieces cuts a large batch. Each piece is a copy, so that it keeps alive
// no more than itself.
func (t *tables) putPieces(ctx context.Context, spool *exec.Spool, batch arrow.RecordBatch) error {
	if batch.NumRows() <= tableBatchRowsMax {
		batch.Retain()
		return t.putPiece(ctx, spool, batch)
	}
	for from := int64(0); from < batch.NumRows(); from += tableBatchRowsMax {
		piece, err := copyRows(batch, from, min(from+tableBatchRowsMax, batch.NumRows()))
		if err != nil {
			return err
		}
		if err := t.putPiece(ctx, spool, piece); err != nil {
			return err
		}
	}
	return nil
}

// putPiece takes the batch over.
func (t *tables) putPiece(ctx context.Context, spool *exec.Spool, batch arrow.RecordBatch) error {
	err := spool.Put(ctx, exec.BatchElement(batch))
	if errors.Is(err, exec.ErrFull) {
		return diag.New(diag.ServerFull, "the tables of all connections would hold more than %d bytes, which is the engine's limit", t.bytesMax).
			WithHint("give up tables and caches that are not needed, or have the server started with a larger --table-limit")
	}
	return err
}

func copyRows(batch arrow.RecordBatch, from, to int64) (arrow.RecordBatch, error) {
	columns := make([]arrow.Array, 0, batch.NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, column := range batch.Columns() {
		slice := array.NewSlice(column, from, to)
		copied, err := array.Concatenate([]arrow.Array{slice}, memory.DefaultAllocator)
		slice.Release()
		if err != nil {
			return nil, err
		}
		columns = append(columns, copied)
	}
	return array.NewRecordBatch(batch.Schema(), columns, to-from), nil
}

// use gives a table to a job; release gives it back.
func (t *tables) use(name string) (spool *exec.Spool, release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if spool = t.byName[name]; spool == nil {
		return nil, nil, diag.New(diag.InvalidPlan, "there is no table %q", name).
			WithHint("a table lives as long as the connection it was made with")
	}
	t.using[spool]++
	return spool, sync.OnceFunc(func() { t.release(spool) }), nil
}

func (t *tables) release(spool *exec.Spool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.using[spool]--; t.using[spool] > 0 {
		return
	}
	delete(t.using, spool)
	if t.dropped[spool] {
		delete(t.dropped, spool)
		spool.Close()
	}
}

// drop forgets a table; jobs that read it go on.
func (t *tables) drop(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(name)
}

// dropAll forgets the tables whose names begin with a prefix.
func (t *tables) dropAll(prefix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.byName {
		if strings.HasPrefix(name, prefix) {
			t.forget(name)
		}
	}
}

// forget is drop with mu held.
func (t *tables) forget(name string) {
	spool := t.byName[name]
	if spool == nil {
		return
	}
	delete(t.byName, name)
	if t.using[spool] > 0 {
		t.dropped[spool] = true
		return
	}
	spool.Close()
}

func (t *tables) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, spool := range t.byName {
		delete(t.byName, name)
		spool.Close()
	}
	if len(t.using) > 0 {
		return errors.New("tables are still being read")
	}
	return nil
}
