package ops

import (
	"context"
	"errors"

	"github.com/alink-runtime/alink/engine/exec"
	"golang.org/x/sync/errgroup"
)

// Fit runs a function over its whole input as one bundle. The input is kept in
// a spool until the result is there, so that a worker that dies can be
// replaced; the worker reads it while it is still being written.
type Fit struct {
	Runner  exec.FunctionRunner
	Stage   *exec.FunctionStage
	Columns []int
	Spool   exec.SpoolOptions
}

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (f *Fit) OwnTime() {}

// Run implements exec.Operator.
func (f *Fit) Run(ctx context.Context, in []*exec.Input, out *exec.Output) (err error) {
	spool, err := exec.NewSpool(f.Stage.Input, f.Spool)
	if err != nil {
		return err
	}
	defer spool.Close()
	lease := &lease{runner: f.Runner, stage: f.Stage}
	defer func() { err = errors.Join(err, lease.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.fill(ctx, in[0], spool) })
	group.Go(func() error { return f.train(ctx, lease, spool, out) })
	return group.Wait()
}

func (f *Fit) fill(ctx context.Context, in *exec.Input, spool *exec.Spool) error {
	for {
		e, err := in.Next(ctx)
		if err != nil {
			return err
		}
		switch e.Kind {
		case exec.KindEnd:
			return spool.Put(ctx, e)
		case exec.KindBatch:
			picked := pick(e.Batch, f.Columns, f.Stage.Input)
			e.Release()
			if err := spool.Put(ctx, exec.BatchElement(picked)); err != nil {
				return err
			}
		}
	}
}

func (f *Fit) train(ctx context.Context, lease *lease, spool *exec.Spool, out *exec.Output) error {
	if err := lease.open(ctx); err != nil {
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
