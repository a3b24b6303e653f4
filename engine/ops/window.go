package ops

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/alink-runtime/alink/engine/state"
)

// Window aggregates by windows of event time. A window's rows of results come
// when the watermark passes its end, before the watermark itself; rows that
// come after that are late and left out. At the end of the input all windows
// end.
type Window struct {
	Windows *state.Windows
	Unit    arrow.TimeUnit
	Keeper  exec.Keeper
	// Subtask of Subtasks is which one it is.
	Subtask, Subtasks int
	// Late is told of rows that are late.
	Late func(rows int64)

	watermark int64
	late      int64
}

// windowed is what a Window remembers besides its windows.
type windowed struct {
	Watermark int64 `json:"watermark"`
	Late      int64 `json:"late"`
}

// WindowOptions are the options of windows over batches of a schema.
func WindowOptions(work *plan.Windowing, input *arrow.Schema) state.WindowOptions {
	o := state.WindowOptions{Size: work.Size, Time: work.Time, Input: input}
	for _, k := range work.Keys {
		o.Keys = append(o.Keys, state.Key{Name: k.Name, Column: k.Column})
	}
	for _, a := range work.Aggregates {
		o.Aggregates = append(o.Aggregates, state.Aggregate{Name: a.Name, Function: a.Function, Column: a.Column})
	}
	return o
}

// Run implements exec.Operator.
func (w *Window) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	w.watermark = state.NoWatermark
	first := true
	err := restore(w.Keeper, func(meta windowed, batch arrow.RecordBatch) error {
		if first || meta.Watermark < w.watermark {
			w.watermark = meta.Watermark
		}
		first = false
		if w.Subtask == 0 {
			w.late += meta.Late
		}
		if batch == nil {
			return fmt.Errorf("the windows are missing")
		}
		return w.Windows.Restore(batch, w.Subtask, w.Subtasks)
	})
	if err != nil {
		return err
	}
	w.Late(w.late)
	return exec.Handle(windowHandler{Window: w}).Run(ctx, in, out)
}

type windowHandler struct {
	exec.PassThrough
	*Window
}

// OnBatch implements exec.Handler.
func (w windowHandler) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	late, err := w.Windows.Add(batch, w.watermark)
	if late > 0 {
		w.late += late
		w.Late(late)
	}
	return err
}

// OnElement implements exec.Handler.
func (w windowHandler) OnElement(ctx context.Context, e exec.Element, out *exec.Output) error {
	switch {
	case e.Kind == exec.KindBarrier:
		return remember(ctx, w.Keeper, e, windowed{w.watermark, w.late}, w.Windows.Snapshot(), out)
	case e.Kind == exec.KindWatermark && !e.Idle:
		if at := inUnit(e.Watermark, w.Unit); at > w.watermark {
			w.watermark = at
			if err := w.Windows.Fire(at, emitter(ctx, out)); err != nil {
				return err
			}
		}
	}
	return out.Emit(ctx, e)
}

// OnEnd implements exec.Handler.
func (w windowHandler) OnEnd(ctx context.Context, out *exec.Output) error {
	return w.Windows.FireAll(emitter(ctx, out))
}

func emitter(ctx context.Context, out *exec.Output) func(arrow.RecordBatch) error {
	return func(batch arrow.RecordBatch) error { return out.EmitBatch(ctx, batch) }
}
