// Package ops holds the engine's operators, one file each. They implement
// exec.Operator on Arrow batches and import nothing beside engine/exec: what
// runs Python or SQL, reads or writes reaches them through exec's interfaces.
package ops

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sync/errgroup"
)

// pendingMax is the number of elements that may wait behind the oldest bundle
// of a function operator; the session bounds the bundles themselves, in bytes.
const pendingMax = 16

// Function applies a stage of Python functions to each batch. Only the columns
// that the functions need cross to the worker; with KeepInput their results
// are put behind the columns of the input. Several bundles are in flight; the
// order of the input is kept.
type Function struct {
	Runner exec.FunctionRunner
	Stage  *exec.FunctionStage
	// Columns are the columns of the input that make the stage's input.
	Columns []int
	// KeepInput is set for functions that add columns.
	KeepInput bool
	// Schema is the operator's output.
	Schema *arrow.Schema
	// Eager opens the session at once instead of at the first batch.
	Eager bool
}

// pendingElement is an element on its way through a function operator: a
// bundle with the batch that it was made of, or something to be passed on.
type pendingElement struct {
	element exec.Element
	bundle  exec.Bundle
}

// Run implements exec.Operator. A second goroutine waits for the results, so
// that a result is passed on although no further input comes.
func (f *Function) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	lease := &lease{runner: f.Runner, stage: f.Stage}
	if f.Eager {
		if err := lease.open(ctx); err != nil {
			return err
		}
	}
	pending := make(chan pendingElement, pendingMax)
	unread, unsent := exec.Element{}, exec.Element{}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(pending)
		unsent, err = f.submit(ctx, in[0], lease, pending)
		return err
	})
	group.Go(func() (err error) {
		unread, err = f.emit(ctx, pending, out)
		return err
	})
	err := errors.Join(group.Wait(), lease.close())
	// A session may use the batches of its bundles until it is closed.
	unsent.Release()
	unread.Release()
	for p := range pending {
		p.element.Release()
	}
	return err
}

// submit reads the input and hands its batches to the worker. If it fails, it
// returns the element that it could not pass on.
func (f *Function) submit(ctx context.Context, in *exec.Input, lease *lease, pending chan<- pendingElement) (exec.Element, error) {
	for {
		e, err := in.Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return e, err
		}
		p := pendingElement{element: e}
		if e.Kind == exec.KindBatch {
			if p.bundle, err = f.submitBatch(ctx, lease, e); err != nil {
				return e, err
			}
		}
		select {
		case pending <- p:
		case <-ctx.Done():
			return e, context.Cause(ctx)
		}
	}
}

func (f *Function) submitBatch(ctx context.Context, lease *lease, e exec.Element) (exec.Bundle, error) {
	if err := lease.open(ctx); err != nil {
		return nil, err
	}
	return lease.session.Submit(ctx, newOneBatch(e.Batch, f.Columns, f.Stage.Input), e.FirstRow)
}

// emit passes results on in the order of their input. If a bundle fails, it
// returns the bundle's element.
func (f *Function) emit(ctx context.Context, pending <-chan pendingElement, out *exec.Output) (exec.Element, error) {
	for p := range pending {
		if p.bundle == nil {
			if err := out.Emit(ctx, p.element); err != nil {
				return exec.Element{}, err
			}
			continue
		}
		results, err := p.bundle.Wait(ctx)
		if err != nil {
			return p.element, err
		}
		if err := f.emitResults(ctx, p.element.Batch, results, out); err != nil {
			return exec.Element{}, err
		}
	}
	return exec.Element{}, nil
}

// emitResults passes on what a bundle has made; it releases input and takes
// results over.
func (f *Function) emitResults(ctx context.Context, input arrow.RecordBatch, results []arrow.RecordBatch, out *exec.Output) error {
	defer input.Release()
	if f.KeepInput {
		joined, err := f.join(input, results)
		if err != nil {
			return err
		}
		return out.EmitBatch(ctx, joined)
	}
	return emitAll(ctx, results, out)
}

// emitAll passes on batches, all of which it takes over.
func emitAll(ctx context.Context, batches []arrow.RecordBatch, out *exec.Output) error {
	var failure error
	for _, batch := range batches {
		if failure != nil {
			batch.Release()
			continue
		}
		failure = out.EmitBatch(ctx, batch)
	}
	return failure
}

// join puts the result's columns behind those of the input; it takes results
// over.
func (f *Function) join(input arrow.RecordBatch, results []arrow.RecordBatch) (arrow.RecordBatch, error) {
	defer func() {
		for _, r := range results {
			r.Release()
		}
	}()
	if len(results) != 1 || results[0].NumRows() != input.NumRows() {
		return nil, fmt.Errorf("stage %s: %d batches came back for one of %d rows", f.Stage.ID, len(results), input.NumRows())
	}
	columns := append(append([]arrow.Array{}, input.Columns()...), results[0].Columns()...)
	return array.NewRecordBatch(f.Schema, columns, input.NumRows()), nil
}

// lease opens its session once, when it is first needed.
type lease struct {
	runner  exec.FunctionRunner
	stage   *exec.FunctionStage
	session exec.FunctionSession
}

func (l *lease) open(ctx context.Context) (err error) {
	if l.session == nil {
		l.session, err = l.runner.Open(ctx, l.stage)
	}
	return err
}

func (l *lease) close() error {
	if l.session == nil {
		return nil
	}
	return l.session.Close()
}

// oneBatch is the input of a bundle that is made of one batch. It does not own
// the batch: whoever submits it keeps the batch until the bundle is done.
type oneBatch struct {
	batch   arrow.RecordBatch
	columns []int
	schema  *arrow.Schema
}

func newOneBatch(batch arrow.RecordBatch, columns []int, schema *arrow.Schema) oneBatch {
	return oneBatch{batch, columns, schema}
}

func (o oneBatch) Open(context.Context) (exec.BatchReader, error) {
	return &oneBatchReader{source: o}, nil
}

type oneBatchReader struct {
	source oneBatch
	read   bool
}

func (r *oneBatchReader) Next(context.Context) (arrow.RecordBatch, error) {
	if r.read {
		return nil, io.EOF
	}
	r.read = true
	return pick(r.source.batch, r.source.columns, r.source.schema), nil
}

func (r *oneBatchReader) Close() {}

// pick makes a batch of some columns of another, which it does not take over.
// A function without arguments gets a batch of rows without columns.
func pick(batch arrow.RecordBatch, columns []int, schema *arrow.Schema) arrow.RecordBatch {
	picked := make([]arrow.Array, len(columns))
	for i, c := range columns {
		picked[i] = batch.Column(c)
	}
	return array.NewRecordBatch(schema, picked, batch.NumRows())
}
