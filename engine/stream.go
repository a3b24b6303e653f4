package engine

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/checkpoint"
	"github.com/alink-runtime/alink/engine/connector/file"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/ops"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/engine/state"
)

// placed says where the user wrote a stage, unless the error knows already.
func placed(err error, stage *plan.Stage) error {
	d := diag.From(err)
	if d.Code == diag.Internal {
		return err
	}
	return d.At(stage.Name, stage.Origin)
}

// WindowSchema implements plan.Typer.
func (b *build) WindowSchema(input *arrow.Schema, w *plan.Windowing) (*arrow.Schema, error) {
	windows, err := state.NewWindows(ops.WindowOptions(w, input))
	if err != nil {
		return nil, err
	}
	return windows.Schema(), nil
}

// window makes the vertex of windows: a subtask for each core, which gets the
// rows of its keys.
func (b *build) window(v *exec.Vertex, stage *plan.Stage, work *plan.Windowing) error {
	input := b.schemas[stage.Inputs[0]]
	if len(work.Keys) > 0 {
		v.Parallelism, v.Keyed = b.engine.options.Parallelism, true
		for _, k := range work.Keys {
			v.Keys = append(v.Keys, k.Column)
		}
	}
	operators := make([]exec.Operator, v.Parallelism)
	for i := range operators {
		windows, err := state.NewWindows(ops.WindowOptions(work, input))
		if err != nil {
			return err
		}
		operators[i] = &ops.Window{
			Windows: windows, Unit: input.Field(work.Time).Type.(*arrow.TimestampType).Unit,
			Keeper: b.keeper(v, i), Subtask: i, Subtasks: v.Parallelism, Late: v.CountLate,
		}
	}
	v.New = func(subtask int) exec.Operator { return located{operators[subtask], stage} }
	return nil
}

// rowwise makes the vertex of relational nodes on a stream.
func (b *build) rowwise(ctx context.Context, v *exec.Vertex, group *plan.Relation) error {
	stage, err := b.relational.OpenRowwise(ctx, relationalStage(group))
	if err != nil {
		return err
	}
	b.release = append(b.release, stage.Close)
	v.New = func(int) exec.Operator { return exec.Handle(&ops.Rowwise{Stage: stage}) }
	return nil
}

// openCheckpoints opens the folder that the plan's output names, if it does.
func (b *build) openCheckpoints(job *Job) (err error) {
	for _, n := range b.plan.Nodes {
		w, ok := n.Op.(plan.WriteParquet)
		if !ok || w.Checkpoint == nil {
			continue
		}
		b.checkpoints, err = checkpoint.Open(checkpoint.Options{
			Dir: w.Checkpoint.Dir, Interval: time.Duration(w.Checkpoint.IntervalMS) * time.Millisecond,
			Steps: plan.Steps(b.plan),
			Log:   func(text string) { job.log(exec.LogLine{Level: "WARNING", Text: text}) },
		})
		if err != nil {
			return diag.From(err).At(n.Op.Name(), n.Origin)
		}
		b.release = append(b.release, b.checkpoints.Close)
		job.checkpoints = b.checkpoints
	}
	return nil
}

// keeper is the part of a subtask in the job's checkpoints.
func (b *build) keeper(v *exec.Vertex, subtask int) exec.Keeper {
	if b.checkpoints == nil || b.apart[v.ID] {
		return exec.NoKeeper{}
	}
	return b.checkpoints.Keeper(v.ID, subtask)
}

// source is keeper for a source, which begins checkpoints.
func (b *build) source(v *exec.Vertex) exec.Keeper {
	if b.checkpoints == nil || b.apart[v.ID] {
		return exec.NoKeeper{}
	}
	return b.checkpoints.Source(v.ID)
}

// streamSink makes the vertex of an output that grows with each checkpoint.
func (b *build) streamSink(v *exec.Vertex, stage *plan.Stage, work plan.WriteParquet) error {
	sink, err := file.OpenParts(file.PartsOptions{
		Name: work.Checkpoint.Name, Output: work.Output, Schema: stage.Schema, Keeper: b.checkpoints.Keeper(v.ID, 0),
	})
	if err != nil {
		return err
	}
	b.checkpoints.OnComplete(sink.Completed)
	v.New = func(int) exec.Operator { return located{ops.NewParts(sink), stage} }
	return nil
}
