// Package duck is the relational engine of a job: filters, projections,
// aggregates, joins, sorts and limits run in DuckDB, with Arrow batches going
// in and out. It implements exec.Relational, imports plan, exec and diag, and
// is the only package that imports DuckDB; it needs cgo.
//
// # Threads and deadlock
//
// A stage runs on the goroutine that called Run, which executes its own query
// and nobody else's; Options.Threads-1 further threads of the instance help
// whichever query has work. A reader that blocks holds the thread that asked
// it, and may hold all helpers, but never the goroutines of other stages. So
// stages that feed one another cannot deadlock, whatever Threads is, as long
// as every stage has a goroutine of its own and nothing makes one input of a
// stage wait for another input of the same stage to be read: a join reads one
// side to its end before it starts on the other.
//
// # Memory
//
// Batches that readers give belong to this package. Text and nested values are
// lent to DuckDB without a copy: what is exported holds a reference, and the
// batch is released when DuckDB lets go of it, at the latest when Run returns.
// (The Go runtime does not move memory, and the reference keeps it alive.)
// Batches given to emit are copies in memory of Options.Allocator and belong
// to emit.
package duck

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// Defaults of Options.
const (
	batchRowsDefault  = 65_536
	batchBytesDefault = 16 << 20
)

// Options are the settings of a Database.
type Options struct {
	// Threads is the number of threads that work on queries, the callers of
	// Run included; 0 means 1.
	Threads int
	// MemoryLimitBytes bounds what DuckDB holds, without the batches that are
	// lent to it; 0 leaves it to DuckDB (four fifths of the machine).
	MemoryLimitBytes int64
	// SpillDir is where a private folder for data beyond the memory limit is
	// made; empty means that nothing is spilled.
	SpillDir string
	// BatchRowsMax and BatchBytesMax bound the batches given to emit. A single
	// row may be larger than BatchBytesMax; it then is a batch of its own.
	BatchRowsMax  int
	BatchBytesMax int64
	// Allocator makes the batches given to emit; nil means
	// memory.DefaultAllocator.
	Allocator memory.Allocator
	// open is a Shell's: statements may read and write files and change
	// settings.
	open bool
}

func (o *Options) complete() error {
	switch {
	case o.Threads < 0:
		return diag.New(diag.BadOption, "the number of threads is %d, but must not be negative", o.Threads)
	case o.MemoryLimitBytes < 0:
		return diag.New(diag.BadOption, "the memory limit is %d bytes, but must not be negative", o.MemoryLimitBytes)
	case o.BatchRowsMax < 0 || o.BatchBytesMax < 0:
		return diag.New(diag.BadOption, "the limits of a batch are %d rows and %d bytes, but must not be negative", o.BatchRowsMax, o.BatchBytesMax)
	}
	o.Threads = max(o.Threads, 1)
	if o.BatchRowsMax == 0 {
		o.BatchRowsMax = batchRowsDefault
	}
	if o.BatchBytesMax == 0 {
		o.BatchBytesMax = batchBytesDefault
	}
	if o.Allocator == nil {
		o.Allocator = memory.DefaultAllocator
	}
	return nil
}

// Database is one in-memory DuckDB instance. It implements exec.Relational.
type Database struct {
	options  Options
	spillDir string
	db       duckdb.Database
	// planning is held while DuckDB plans a statement; see session.planned.
	planning sync.RWMutex

	mu     sync.Mutex
	closed bool
	// texts are the user's expressions that were found to be sound, by their
	// text; see parseText.
	texts map[string]parsedText
	// bound are statements' columns; see session.columns.
	bound bound
}

var _ exec.Relational = (*Database)(nil)

// Open starts a DuckDB instance for a job. It cannot read or write anything but its
// folder in SpillDir, loads no extensions, and its settings are locked.
func Open(options Options) (*Database, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	d := &Database{options: options, texts: map[string]parsedText{}}
	if options.SpillDir != "" {
		dir, err := os.MkdirTemp(options.SpillDir, "duckdb-")
		if err != nil {
			return nil, diag.New(diag.BadOption, "the spill directory %q cannot be used", options.SpillDir).WithCause(err).
				WithHint("name a folder that exists and can be written: spill_dir=")
		}
		d.spillDir = dir
	}
	if err := d.open(); err != nil {
		return nil, diag.New(diag.Internal, "the relational engine did not start").WithCause(errors.Join(err, d.Close()))
	}
	return d, nil
}

func (d *Database) open() error {
	settings := [][2]string{
		{"threads", strconv.Itoa(d.options.Threads)},
		{"temp_directory", d.spillDir},
		{"preserve_insertion_order", "true"},
		{"errors_as_json", "true"},
		{"autoinstall_known_extensions", "false"},
		{"autoload_known_extensions", "false"},
		{disabledOptimizers, neverOptimizers},
	}
	if !d.options.open {
		settings = append(settings, [2]string{"allow_community_extensions", "false"})
	}
	if d.options.MemoryLimitBytes > 0 {
		settings = append(settings, [2]string{"memory_limit", strconv.FormatInt(d.options.MemoryLimitBytes, 10) + "B"})
	}
	var config duckdb.Config
	if duckdb.CreateConfig(&config) == duckdb.StateError {
		return errors.New("no configuration could be made")
	}
	defer duckdb.DestroyConfig(&config)
	for _, s := range settings {
		if duckdb.SetConfig(config, s[0], s[1]) == duckdb.StateError {
			return fmt.Errorf("setting %s = %q was refused", s[0], s[1])
		}
	}
	var message string
	if duckdb.OpenExt("", &d.db, config, &message) == duckdb.StateError {
		return errors.New(message)
	}
	s, err := d.connect()
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(s.registerScan(), s.registerQuotient()); err != nil {
		return err
	}
	// In this order: the time zone is a setting of an extension, which exists
	// only now, and the lock comes last.
	statements := []string{"SET GLOBAL TimeZone = 'UTC'"}
	if !d.options.open {
		statements = append(statements, "SET GLOBAL allowed_configs = ['"+disabledOptimizers+"']",
			"SET GLOBAL enable_external_access = false", "SET GLOBAL lock_configuration = true")
	}
	for _, statement := range statements {
		if err := s.execute(statement); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the instance and removes its spilled data. It implements
// exec.Relational; further calls do nothing.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	duckdb.Close(&d.db)
	if d.spillDir == "" {
		return nil
	}
	if err := os.RemoveAll(d.spillDir); err != nil {
		return fmt.Errorf("spilled data could not be removed: %w", err)
	}
	return nil
}

// Version is DuckDB's version, "v1.5.6".
func Version() string { return duckdb.LibraryVersion() }

// session is a connection to the instance. It is used by one goroutine at a
// time, but for interrupt.
type session struct {
	db   *Database
	conn duckdb.Connection
}

func (d *Database) connect() (*session, error) {
	s := &session{db: d}
	if duckdb.Connect(d.db, &s.conn) == duckdb.StateError {
		return nil, diag.New(diag.Internal, "the relational engine gave no connection")
	}
	return s, nil
}

func (s *session) close() { duckdb.Disconnect(&s.conn) }

// interrupt makes the query that is running on the session fail. It has no
// effect on one that starts later.
func (s *session) interrupt() { duckdb.Interrupt(s.conn) }

// execute runs a statement to its end, which must not wait for rows. Its error
// is a *queryError.
func (s *session) execute(statement string) error {
	s.db.planning.RLock()
	defer s.db.planning.RUnlock()
	return s.query(statement)
}

// query is execute for who holds the session's planning.
func (s *session) query(statement string) error {
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.Query(s.conn, statement, &result) == duckdb.StateError {
		return resultError(&result)
	}
	return nil
}

// strings runs a query whose result is one column of strings, and returns at
// most the given number of them.
func (s *session) strings(query string, limit int) ([]string, error) {
	s.db.planning.RLock()
	defer s.db.planning.RUnlock()
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.Query(s.conn, query, &result) == duckdb.StateError {
		return nil, resultError(&result)
	}
	var values []string
	for {
		chunk := duckdb.FetchChunk(result)
		if chunk.Ptr == nil {
			return values, nil
		}
		values = appendStrings(values, duckdb.DataChunkGetVector(chunk, 0), int(duckdb.DataChunkGetSize(chunk)))
		duckdb.DestroyDataChunk(&chunk)
		if len(values) >= limit {
			return values[:limit], nil
		}
	}
}
