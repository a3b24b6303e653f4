package ops

import (
	"context"
	"errors"

	"github.com/alink-runtime/alink/engine/exec"
	"golang.org/x/sync/errgroup"
)

// MapTable runs a function over its whole input as one bundle: one that is
// fitted, or that makes a table of a table. The input is kept in a spool until
// the result is there, so that a worker that dies can be replaced; the worker
// reads it while it is still being written.
type MapTable struct {
	Runner  exec.FunctionRunner
	Stage   *exec.FunctionStage
	Columns []int
	Spool   exec.SpoolOptions
	// Tables are what the function gets whole, beside its input.
	Tables []*SideTable
}

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (m *MapTable) OwnTime() {}

// Run implements exec.Operator.
func (m *MapTable) Run(ctx context.Context, in []*exec.Input, out *exec.Output) (err error) {
	defer leaveTables(m.Tables)
	spool, err := exec.NewSpool(m.Stage.Input, m.Spool)
	if err != nil {
		return err
	}
	defer spool.Close()
	lease := &lease{runner: m.Runner, stage: m.Stage}
	defer func() { err = errors.Join(err, lease.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.fill(ctx, in[0], spool) })
	group.Go(func() error { return m.apply(ctx, lease, spool, out) })
	return group.Wait()
}

func (m *MapTable) fill(ctx context.Context, in *exec.Input, spool *exec.Spool) error {
	for {
		e, err := in.Next(ctx)
		if err != nil {
			return err
		}
		switch e.Kind {
		case exec.KindEnd:
			return spool.Put(ctx, e)
		case exec.KindBatch:
			picked := pick(e.Batch, m.Columns, m.Stage.Input)
			e.Release()
			if err := spool.Put(ctx, exec.BatchElement(picked)); err != nil {
				return err
			}
		}
	}
}

func (m *MapTable) apply(ctx context.Context, lease *lease, spool *exec.Spool, out *exec.Output) error {
	if err := lease.open(ctx); err != nil {
		return err
	}
	if err := awaitTables(ctx, m.Tables); err != nil {
		return err
	}
	bundle, err := lease.session.Submit(ctx, spool, 0)
	if err != nil {
		return err
	}
	results, err := bundle.Wait(ctx)
	if err != nil {
		return err
	}
	return emitAll(ctx, results, out)
}
