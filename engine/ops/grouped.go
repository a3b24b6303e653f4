package ops

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/engine/exec"
)

// Grouped applies a stage of functions to whole groups, as Group has numbered
// and cut them. A group that is larger than a batch is gathered in a spool,
// which is kept until its result is there, so that a worker that dies can be
// replaced. It goes to a worker when it is whole: a worker that waited for the
// rest might be the one that makes it. The order of the groups is kept.
type Grouped struct {
	Runner exec.FunctionRunner
	// Stage is of the kind StageMerge or StageMapGroups. Its input is that of
	// the operator, its output the operator's.
	Stage *exec.FunctionStage
	Spool exec.SpoolOptions
}

// OwnTime implements exec.OwnTime: workers do the work, and Stage.Meter counts
// it.
func (g *Grouped) OwnTime() {}

// Run implements exec.Operator.
func (g *Grouped) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	run := &groupedRun{Grouped: g, bundler: newBundler(g.Runner, g.Stage)}
	defer func() {
		if run.open != nil {
			run.open.spool.Close()
		}
	}()
	return run.run(ctx, false, func(ctx context.Context) error { return run.submitAll(ctx, in[0]) }, out)
}

// groupedRun is a Grouped at work.
type groupedRun struct {
	*Grouped
	*bundler
	// open is the bundle that the next batch belongs to; nil between bundles.
	open *groupBundle
}

// groupBundle is a bundle of several batches.
type groupBundle struct {
	spool *exec.Spool
	// first and last are the numbers of its groups, firstRow that of its row.
	first, last, firstRow int64
}

func (g *groupedRun) submitAll(ctx context.Context, in *exec.Input) error {
	for {
		e, err := in.Next(ctx)
		if err != nil || e.Kind == exec.KindEnd {
			return err
		}
		switch {
		case e.Kind != exec.KindBatch:
			err = g.pass(ctx, e)
		case g.open == nil && !e.More:
			err = g.submitWhole(ctx, e)
		default:
			err = g.continueBundle(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// submitWhole makes a bundle of one batch.
func (g *groupedRun) submitWhole(ctx context.Context, e exec.Element) error {
	batch := e.Batch
	first, last := groupsOf(batch)
	return g.submit(ctx, wholeBatch{batch}, e.FirstRow, &task{
		release: batch.Release, inputBytes: exec.BatchBytes(batch),
		emit: func(ctx context.Context, results []arrow.RecordBatch, out *exec.Output) error {
			return g.emitResults(ctx, last-first+1, results, out)
		},
	})
}

// continueBundle adds a batch to the open bundle, which it begins if need be,
// and submits it with the last one.
func (g *groupedRun) continueBundle(ctx context.Context, e exec.Element) error {
	first, last := groupsOf(e.Batch)
	if g.open == nil {
		spool, err := exec.NewSpool(g.Stage.Input, g.Spool)
		if err != nil {
			e.Release()
			return err
		}
		g.open = &groupBundle{spool: spool, first: first, firstRow: e.FirstRow}
	}
	b := g.open
	b.last = last
	if err := b.spool.Put(ctx, exec.BatchElement(e.Batch)); err != nil || e.More {
		return err
	}
	if err := b.spool.Put(ctx, exec.Element{Kind: exec.KindEnd}); err != nil {
		return err
	}
	g.open = nil
	return g.submit(ctx, b.spool, b.firstRow, &task{
		release: b.spool.Close, // what it keeps in memory is bounded by itself
		emit: func(ctx context.Context, results []arrow.RecordBatch, out *exec.Output) error {
			return g.emitResults(ctx, b.last-b.first+1, results, out)
		},
	})
}

// emitResults passes on what a bundle of groups has given; it takes results
// over.
func (g *groupedRun) emitResults(ctx context.Context, groups int64, results []arrow.RecordBatch, out *exec.Output) error {
	if g.Stage.Kind == exec.StageMerge {
		rows := int64(0)
		for _, r := range results {
			rows += r.NumRows()
		}
		if rows != groups {
			releaseAll(results)
			return fmt.Errorf("stage %s: %d rows came back for %d groups", g.Stage.ID, rows, groups)
		}
	}
	return emitAll(ctx, results, out)
}

// groupsOf are the numbers of a batch's first and last group.
func groupsOf(batch arrow.RecordBatch) (first, last int64) {
	runs := batch.Column(0).(*array.RunEndEncoded)
	numbers := runs.Values().(*array.Int64)
	return numbers.Value(runs.GetPhysicalIndex(0)), numbers.Value(runs.GetPhysicalIndex(runs.Len() - 1))
}

// wholeBatch is the input of a bundle that is one batch, which it does not own.
type wholeBatch struct{ batch arrow.RecordBatch }

func (w wholeBatch) Open(context.Context) (exec.BatchReader, error) {
	columns := make([]int, w.batch.NumCols())
	for i := range columns {
		columns[i] = i
	}
	return &oneBatchReader{source: newOneBatch(w.batch, columns, w.batch.Schema())}, nil
}
