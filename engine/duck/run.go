package duck

import (
	"context"
	"errors"
	"runtime/cgo"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
)

// interruptEvery is how often a query that is to end is told so: DuckDB
// forgets an interrupt that comes just before a query begins.
const interruptEvery = 5 * time.Millisecond

// compiled compiles a stage in a session of its own. The caller closes the
// query, then the session.
func (d *Database) compiled(stage *exec.RelationalStage) (*session, *query, error) {
	s, err := d.connect()
	if err != nil {
		return nil, nil, err
	}
	q, err := d.compile(s, stage)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, q, nil
}

// Describe implements exec.Relational.
func (d *Database) Describe(ctx context.Context, stage *exec.RelationalStage) (*arrow.Schema, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, q, err := d.compiled(stage)
	if err != nil {
		return nil, err
	}
	defer s.close()
	defer q.close()
	return q.schema(), nil
}

// Run implements exec.Relational. Batches that the readers give are released
// here; batches given to emit are emit's. A result without rows has no
// batches.
func (d *Database) Run(ctx context.Context, stage *exec.RelationalStage, inputs []exec.BatchReader, emit func(arrow.RecordBatch) error) error {
	closeReaders := func() {
		for _, reader := range inputs {
			reader.Close()
		}
	}
	if len(inputs) != len(stage.Inputs) {
		closeReaders()
		return diag.New(diag.Internal, "a stage of %d inputs got %d readers", len(stage.Inputs), len(inputs))
	}
	s, q, err := d.compiled(stage)
	if err != nil {
		closeReaders()
		return err
	}
	defer s.close()
	defer q.close()
	r := newRun(ctx, d, s, q, inputs)
	defer r.end()
	return r.result(r.run(emit))
}

// run is one execution of a query.
type run struct {
	db      *Database
	session *session
	query   *query
	// outer is the caller's context; ctx, made from it, also ends with the run.
	outer   context.Context
	ctx     context.Context
	cancel  context.CancelFunc
	streams []*stream
	arrived chan struct{}
	wait    sync.WaitGroup
}

// newRun prepares a query; end must be called.
func newRun(ctx context.Context, d *Database, s *session, q *query, inputs []exec.BatchReader) *run {
	r := &run{db: d, session: s, query: q, outer: ctx, arrived: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	for i, reader := range inputs {
		f := &feeder{reader: reader, items: make(chan feederItem)}
		in := &stream{
			ctx: r.ctx, session: s, feeder: f, threads: d.options.Threads,
			schema: q.stage.Inputs[i].Schema, columns: q.inputs[i], places: placesOf(q.stage.Inputs[i]), waited: q.stage.Waited,
		}
		in.handle = cgo.NewHandle(in)
		r.streams = append(r.streams, in)
		r.wait.Go(func() { f.run(r.ctx, r.arrived) })
	}
	return r
}

// end releases everything; after it no reader is in use. No query is running.
func (r *run) end() {
	r.cancel()
	for _, s := range r.streams {
		s.close()
	}
	r.wait.Wait()
}

// result is the error of Run: being cancelled comes before a reader's own
// error, which comes before what DuckDB makes of it.
func (r *run) result(err error) error {
	if err == nil {
		return nil
	}
	if r.outer.Err() != nil {
		return context.Cause(r.outer)
	}
	for _, s := range r.streams {
		if inputErr := s.inputError(); inputErr != nil {
			return inputErr
		}
	}
	return err
}

func (r *run) run(emit func(arrow.RecordBatch) error) error {
	// The query would hold a thread while it waits for its first batch.
	if len(r.streams) > 0 {
		began := time.Now()
		select {
		case <-r.arrived:
		case <-r.ctx.Done():
		}
		if r.query.stage.Waited != nil {
			r.query.stage.Waited(time.Since(began))
		}
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	sources := make([]string, len(r.streams))
	for i, s := range r.streams {
		sources[i] = s.sql()
	}
	statements := r.query.statements(sources)
	for _, statement := range statements[:len(statements)-1] {
		if err := r.guard(func() error { return r.store(statement) }); err != nil {
			return err
		}
	}
	return r.guard(func() error { return r.stream(statements[len(statements)-1], emit) })
}

// guard runs f, which uses the session, and interrupts it when the run is to
// end. It returns when both are over.
func (r *run) guard(f func() error) error { return r.session.guard(r.ctx, f) }

// guard runs f, which uses the session, and interrupts it when ctx ends. It
// returns when both are over.
func (s *session) guard(ctx context.Context, f func() error) error {
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		ticker := time.NewTicker(interruptEvery)
		defer ticker.Stop()
		for {
			s.interrupt()
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	})
	err := f()
	close(done)
	watch.Wait()
	return err
}

func (r *run) store(statement *fragment) error {
	if err := r.execute(statement); err != nil {
		return r.query.runError(r.db, statement, asQueryError(err))
	}
	return nil
}

func (r *run) execute(statement *fragment) error {
	p, err := r.session.prepare(statement.String(), statement.depth)
	if err != nil {
		return err
	}
	defer duckdb.DestroyPrepare(&p)
	if err := r.query.bindAll(p); err != nil {
		return err
	}
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	return r.session.run(p, statement.depth, false, &result)
}

// stream executes the last statement and emits its result as it is made.
func (r *run) stream(statement *fragment, emit func(arrow.RecordBatch) error) error {
	p, err := r.session.prepare(statement.String(), statement.depth)
	if err != nil {
		return r.query.runError(r.db, statement, asQueryError(err))
	}
	defer duckdb.DestroyPrepare(&p)
	if err := r.query.bindAll(p); err != nil {
		return r.query.runError(r.db, statement, asQueryError(err))
	}
	columns := r.query.result().columns
	if err := checkResult(p, columns); err != nil {
		return err
	}
	var result duckdb.Result
	defer func() {
		// A result that was not read to its end still runs: a reader that
		// blocks must let go of it first.
		if err != nil {
			r.cancel()
		}
		duckdb.DestroyResult(&result)
	}()
	if err = r.session.run(p, statement.depth, true, &result); err != nil {
		err = r.query.runError(r.db, statement, asQueryError(err))
		return err
	}
	out := newBatcher(r.query.schema(), columns, r.db.options, emit)
	defer out.release()
	err = r.fetch(&result, statement, out)
	return err
}

func (r *run) fetch(result *duckdb.Result, statement *fragment, out *batcher) error {
	err := fetch(r.ctx, result, out)
	if e, ok := errors.AsType[*queryError](err); ok && out.emitErr == nil {
		return r.query.runError(r.db, statement, e)
	}
	return err
}

// fetch gives a result to out as it is made. Its error is ctx's, that of out's
// emit, or a *queryError.
func fetch(ctx context.Context, result *duckdb.Result, out *batcher) error {
	for {
		chunk := duckdb.FetchChunk(*result)
		if chunk.Ptr == nil {
			break
		}
		err := out.add(chunk)
		duckdb.DestroyDataChunk(&chunk)
		switch {
		case err == nil:
		case out.emitErr != nil:
			return err
		default: // the values cannot be had as Arrow
			return &queryError{kind: "Conversion", message: err.Error(), position: -1}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	// An error in the middle looks like the end of the result.
	if duckdb.ResultError(result) != "" {
		return resultError(result)
	}
	return out.flush()
}

// checkResult guards memory: the chunks are read by the types that compile
// found.
func checkResult(p duckdb.PreparedStatement, columns []column) error {
	if got, want := int(duckdb.PreparedStatementColumnCount(p)), max(len(columns), 1); got != want {
		return diag.New(diag.Internal, "a relational step gave %d columns instead of %d", got, want)
	}
	for i, c := range columns {
		logical := duckdb.PreparedStatementColumnLogicalType(p, duckdb.IdxT(i))
		got := readType(logical)
		duckdb.DestroyLogicalType(&logical)
		if want, _ := c.typ.visible(); !arrow.TypeEqual(got.arrow(), want.arrow()) {
			return diag.New(diag.Internal, "a relational step gave the type %s instead of %s in the column %q", got.sql(), want.sql(), c.name)
		}
	}
	return nil
}
