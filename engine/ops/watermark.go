package ops

import (
	"context"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Watermark makes watermarks of the times in a column: the highest time so far
// less the delay. A watermark stands right behind the row that makes it pass a
// multiple of the step, and batches are cut there: so which rows are late for
// a window does not depend on where batches begin.
type Watermark struct {
	Work   *plan.Watermarking
	Keeper exec.Keeper

	unit        arrow.TimeUnit
	delay, step int64 // in the column's unit
	highest     int64
	met         bool // a time, so that highest is one
}

// watermarked is what a Watermark remembers.
type watermarked struct {
	Highest int64 `json:"highest"`
	Met     bool  `json:"met"`
}

// NewWatermark makes the operator for a column of schema, a timestamp.
func NewWatermark(work *plan.Watermarking, schema *arrow.Schema, keeper exec.Keeper) *Watermark {
	w := &Watermark{Work: work, Keeper: keeper, unit: schema.Field(work.Column).Type.(*arrow.TimestampType).Unit}
	w.delay = int64(work.Delay / w.unit.Multiplier())
	w.step = int64(work.Step / w.unit.Multiplier())
	return w
}

// Run implements exec.Operator.
func (w *Watermark) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	err := restore(w.Keeper, func(meta watermarked, _ arrow.RecordBatch) error {
		w.highest, w.met = meta.Highest, meta.Met
		return nil
	})
	if err != nil {
		return err
	}
	return exec.Handle(watermarkHandler{Watermark: w}).Run(ctx, in, out)
}

type watermarkHandler struct {
	exec.PassThrough
	*Watermark
}

// OnBatch implements exec.Handler.
func (w watermarkHandler) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	defer batch.Release()
	column := batch.Column(w.Work.Column).(*array.Timestamp)
	if column.NullN() > 0 {
		name := batch.ColumnName(w.Work.Column)
		return diag.New(diag.NullEventTime, "the event time %q is NULL in a row", name).
			WithHint("leave such rows out before: .filter(\"%s IS NOT NULL\")", name)
	}
	from, advanced := 0, false
	for row, t := range column.TimestampValues() {
		if w.met && int64(t) <= w.highest {
			continue
		}
		passes := !w.met || w.step > 0 && multiples(w.below(int64(t)), w.step) > multiples(w.below(w.highest), w.step)
		w.highest, w.met, advanced = int64(t), true, true
		if w.step == 0 || !passes {
			continue
		}
		if err := w.emit(ctx, batch.NewSlice(int64(from), int64(row)+1), out); err != nil {
			return err
		}
		from, advanced = row+1, false
	}
	rest := batch.NewSlice(int64(from), batch.NumRows())
	if advanced && w.step == 0 {
		return w.emit(ctx, rest, out)
	}
	if rest.NumRows() == 0 {
		rest.Release()
		return nil
	}
	return out.EmitBatch(ctx, rest)
}

// emit passes rows on, which it takes over, and then the watermark.
func (w *Watermark) emit(ctx context.Context, rows arrow.RecordBatch, out *exec.Output) error {
	if err := out.EmitBatch(ctx, rows); err != nil {
		return err
	}
	at := arrow.Timestamp(w.below(w.highest)).ToTime(w.unit)
	return out.Emit(ctx, exec.Element{Kind: exec.KindWatermark, Watermark: at})
}

// below is a time less the delay.
func (w *Watermark) below(t int64) int64 {
	if t < math.MinInt64+w.delay {
		return math.MinInt64
	}
	return t - w.delay
}

// multiples counts the multiples of step up to t.
func multiples(t, step int64) int64 {
	n := t / step
	if t%step < 0 {
		n--
	}
	return n
}

// OnElement implements exec.Handler. Watermarks from before are about another
// column and end here.
func (w watermarkHandler) OnElement(ctx context.Context, e exec.Element, out *exec.Output) error {
	switch e.Kind {
	case exec.KindWatermark:
		return nil
	case exec.KindBarrier:
		return remember(ctx, w.Keeper, e, watermarked{w.highest, w.met}, nil, out)
	}
	return out.Emit(ctx, e)
}

// inUnit is a time in a column's unit, rounded down.
func inUnit(t time.Time, unit arrow.TimeUnit) int64 {
	switch unit {
	case arrow.Second:
		return t.Unix()
	case arrow.Millisecond:
		return t.UnixMilli()
	case arrow.Microsecond:
		return t.UnixMicro()
	}
	return t.UnixNano()
}
