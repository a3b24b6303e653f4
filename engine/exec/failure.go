package exec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// ErrorColumn is the column in which a worker tells on which rows the function
// has failed; see FunctionStage.OnError.
const ErrorColumn = "__alink_error"

// FailureKind says in what way a function has failed.
type FailureKind string

// The kinds of failure.
const (
	// FailedException: it raised, or returned what it may not.
	FailedException FailureKind = "exception"
	// FailedTime: it was stopped at its time limit.
	FailedTime FailureKind = "time limit"
	// FailedMemory: its worker was ended at its limit of memory, or by the
	// kernel for want of it.
	FailedMemory FailureKind = "memory limit"
	// FailedSignal: a signal ended its worker; FailedExit: it ended itself.
	FailedSignal FailureKind = "signal"
	FailedExit   FailureKind = "exit"
	// FailedKilled: SIGKILL ended its worker, which neither the engine nor the
	// kernel had sent.
	FailedKilled FailureKind = "killed"
	// FailedLost: its worker hung up, or went with its supervisor.
	FailedLost FailureKind = "lost connection"
)

// BundleFailure is why a bundle has no result: what the user is told, and what
// a program needs to find the row.
type BundleFailure struct {
	*diag.Diagnostic
	Kind FailureKind
	// Row is the row within the bundle, or -1 where it is not known.
	Row int64
	// Sure says that the row alone is to blame. Otherwise it was the one that
	// ran when the worker died, and those before it may have had their part.
	Sure bool
	// Fatal says that no row is to blame, so that no part of the bundle is worth
	// a try.
	Fatal bool
	// Deaths are those of workers that the bundle is to blame for.
	Deaths []FailureKind
}

// Unwrap gives the diagnostic to those who look for one.
func (f *BundleFailure) Unwrap() error { return f.Diagnostic }

// Bounds of a function's failures in one job.
const (
	// breakerDeathsMax is how many deaths of workers that no row explains are
	// taken, each bundle that ends well making up for breakerForgiven of one: a
	// function that kills its worker now and then goes on, one whose workers
	// die again and again does not.
	breakerDeathsMax = 10
	breakerForgiven  = 0.1
	// breakerRowsMax is how many rows may be given up one after the other for
	// having killed their worker or held it up, deathRowsMax how many in all:
	// each costs starts of workers or the time limit.
	breakerRowsMax = 16
	deathRowsMax   = 1_000
	// lettersBytesMax bounds the memory of a function's dead letters.
	lettersBytesMax = 64 << 20
)

// FailedRow is a row that a function has failed on.
type FailedRow struct {
	// Index is the row's in the input of the function.
	Index int64
	Kind  FailureKind
	// Type and Message are those of the exception; of a death the message says
	// what happened.
	Type, Message string
	// Worker is what is known of the worker.
	Worker string
}

// Failures are the rows on which the function of a stage has failed, and a
// circuit breaker: where its workers die again and again, the job ends. The
// subtasks of a stage share it. What reaches it is final: bundles are run again
// below it.
type Failures struct {
	call FunctionCall
	rows *arrow.Schema
	// Letters is the schema of the dead letters, nil where there are none: the
	// columns of the row, then what is known of the failure.
	letters *arrow.Schema

	mu     sync.Mutex
	counts map[FailureKind]int64
	total  int64
	last   string // what the last failure was
	// deathRows are those given up for a death or the time limit, neighbours
	// those of them since a bundle has ended well.
	deathRows, neighbours int
	// causes are the deaths that no row explains, level is what the breaker
	// reckons with.
	causes  map[FailureKind]int64
	level   float64
	batches []arrow.RecordBatch
	bytes   int64
	// gone says that dead letters have been forgotten.
	gone bool
}

// NewFailures makes the failures of a call. rows is the schema of the columns
// of a row that is kept as a dead letter, nil where none are kept.
func NewFailures(call FunctionCall, rows *arrow.Schema) *Failures {
	f := &Failures{call: call, rows: rows, counts: map[FailureKind]int64{}, causes: map[FailureKind]int64{}}
	if rows != nil {
		f.letters = lettersSchema(rows)
	}
	return f
}

// errorFields are the columns of a dead letter behind those of the row.
var errorFields = []arrow.Field{
	{Name: "error_kind", Type: arrow.BinaryTypes.String},
	{Name: "error_type", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "error_message", Type: arrow.BinaryTypes.String},
	{Name: "error_function", Type: arrow.BinaryTypes.String},
	{Name: "error_row", Type: arrow.PrimitiveTypes.Int64},
	{Name: "error_worker", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "error_time", Type: arrow.FixedWidthTypes.Timestamp_us},
}

// lettersSchema gives a column of the failure another name where the row has
// one of its name.
func lettersSchema(rows *arrow.Schema) *arrow.Schema {
	taken := map[string]bool{}
	for _, field := range rows.Fields() {
		taken[plan.Fold(field.Name)] = true
	}
	fields := slices.Clone(rows.Fields())
	for _, field := range errorFields {
		name := field.Name
		for i := 1; taken[plan.Fold(field.Name)]; i++ {
			field.Name = fmt.Sprintf("%s_%d", name, i)
		}
		taken[plan.Fold(field.Name)] = true
		fields = append(fields, field)
	}
	return arrow.NewSchema(fields, nil)
}

// Function is the name of the function.
func (f *Failures) Function() string { return f.call.Function.Name }

// Rows is the schema of the columns of a row that Add wants; nil for none.
func (f *Failures) Rows() *arrow.Schema { return f.rows }

// Settled notes that a bundle has ended well, after some deaths which no row
// explains. Its error ends the job.
func (f *Failures) Settled(deaths []FailureKind) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.neighbours = 0
	if len(deaths) == 0 {
		f.level = max(0, f.level-breakerForgiven)
		return nil
	}
	for _, kind := range deaths {
		f.causes[kind]++
		f.level++
	}
	if f.level < breakerDeathsMax {
		return nil
	}
	return f.broken("%s; with another try each batch went well", listed(f.causes))
}

// broken is the diagnostic of the breaker.
func (f *Failures) broken(format string, args ...any) error {
	name := f.Function()
	d := diag.New(diag.DyingWorkers, "the workers of function %s die again and again, so its job was stopped", name).
		WithFact(format, args...).
		WithHint("call %s.local(…) with some rows; if it needs more memory than it has, raise memory= or lower batch_rows=", name)
	d.Function, d.Cause = name, f.last
	return d.At(f.call.Operator, f.call.Origin)
}

// listed tells counts: "3 memory limit, 1 signal".
func listed(counts map[FailureKind]int64) string {
	parts := make([]string, 0, len(counts))
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[kind], kind))
	}
	return strings.Join(parts, ", ")
}

// Add notes rows that are given up; rows holds their columns, in the order of
// failed, where dead letters are kept, and is taken over. Its error ends the
// job.
func (f *Failures) Add(failed []FailedRow, rows arrow.RecordBatch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range failed {
		f.counts[row.Kind]++
		f.last = row.Message
		if row.Kind != FailedException {
			f.deathRows++
			f.neighbours++
		}
	}
	f.total += int64(len(failed))
	if rows != nil {
		f.keep(failed, rows)
	}
	switch {
	case f.total > f.call.Function.ErrorsMax():
		return f.tooMany("on more than %d rows", f.call.Function.ErrorsMax())
	case f.bytes > lettersBytesMax:
		return f.tooMany("on %d rows, whose dead letters take more than %d MiB", f.total, lettersBytesMax>>20)
	case f.neighbours > breakerRowsMax:
		return f.broken("each of %d rows that follow one another ended its worker (%s in all)", f.neighbours, listed(f.counts))
	case f.deathRows > deathRowsMax:
		return f.broken("%s: more than %d rows", listed(f.counts), deathRowsMax)
	}
	return nil
}

// tooMany is the diagnostic of a function that has failed on more rows than it
// may.
func (f *Failures) tooMany(format string, args ...any) error {
	name := f.Function()
	d := diag.New(diag.TooManyErrors, "function %s failed %s", name, fmt.Sprintf(format, args...)).
		WithFact("%s", listed(f.counts)).
		WithHint("mend the function, or allow more: errors_max=100_000")
	d.Function, d.Cause = name, f.last
	return d.At(f.call.Operator, f.call.Origin)
}

// keep makes dead letters of rows; mu is held.
func (f *Failures) keep(failed []FailedRow, rows arrow.RecordBatch) {
	defer rows.Release()
	text := func(get func(FailedRow) string, null bool) arrow.Array {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		defer b.Release()
		for _, row := range failed {
			if value := get(row); value == "" && null {
				b.AppendNull()
			} else {
				b.Append(value)
			}
		}
		return b.NewArray()
	}
	index := array.NewInt64Builder(memory.DefaultAllocator)
	defer index.Release()
	when := array.NewTimestampBuilder(memory.DefaultAllocator, arrow.FixedWidthTypes.Timestamp_us.(*arrow.TimestampType))
	defer when.Release()
	now := arrow.Timestamp(time.Now().UnixMicro())
	for _, row := range failed {
		index.Append(row.Index)
		when.Append(now)
	}
	made := []arrow.Array{
		text(func(r FailedRow) string { return string(r.Kind) }, false),
		text(func(r FailedRow) string { return r.Type }, true),
		text(func(r FailedRow) string { return r.Message }, false),
		text(func(FailedRow) string { return f.Function() }, false),
		index.NewArray(),
		text(func(r FailedRow) string { return r.Worker }, true),
		when.NewArray(),
	}
	batch := array.NewRecordBatch(f.letters, slices.Concat(rows.Columns(), made), rows.NumRows())
	for _, column := range made {
		column.Release()
	}
	f.batches = append(f.batches, batch)
	f.bytes += BatchBytes(batch)
}

// Summary says in a sentence on how many rows the function has failed; "" is on
// none.
func (f *Failures) Summary() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.total == 0 {
		return ""
	}
	what := "gave NULL for"
	if f.letters != nil {
		what = "left out"
	}
	rows := "rows"
	if f.total == 1 {
		rows = "row"
	}
	text := fmt.Sprintf("%s %d %s, on which it failed: %s", what, f.total, rows, listed(f.counts))
	if f.letters != nil {
		text += "; dead_letters() has them"
	}
	return text
}

// Total is on how many rows the function has failed.
func (f *Failures) Total() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Letters reads the dead letters so far; nil where none are kept. The caller
// releases the reader.
func (f *Failures) Letters() (array.RecordReader, error) {
	if f.letters == nil {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil, diag.New(diag.UnknownJob, "the dead letters of function %s have been given up for those of later jobs", f.Function()).
			WithHint("write them to a file when their job has ended: job.dead_letters().write_parquet(…)")
	}
	return array.NewRecordReader(f.letters, f.batches)
}

// Bytes are those of the dead letters.
func (f *Failures) Bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// Release forgets the dead letters.
func (f *Failures) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, batch := range f.batches {
		batch.Release()
	}
	f.gone = f.gone || len(f.batches) > 0
	f.batches, f.bytes = nil, 0
}
