package ops

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Limit passes on N rows after the first Offset, and ends. Unlike the limit of
// a relational stage it lets watermarks and barriers pass.
type Limit struct {
	Work   plan.Limiting
	Keeper exec.Keeper
	// Reached is told when all rows are through; nil is legal.
	Reached func()

	seen int64
}

// limited is what a Limit remembers.
type limited struct {
	Seen int64 `json:"seen"`
}

// Run implements exec.Operator.
func (l *Limit) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	err := restore(l.Keeper, func(meta limited, _ arrow.RecordBatch) error {
		l.seen = meta.Seen
		return nil
	})
	if err == nil && l.left() == 0 {
		l.reached()
	}
	if err != nil || l.left() == 0 {
		return err
	}
	return exec.Handle(limitHandler{Limit: l}).Run(ctx, in, out)
}

func (l *Limit) reached() {
	if l.Reached != nil {
		l.Reached()
	}
}

// left is the number of rows until the end.
func (l *Limit) left() int64 { return max(0, l.Work.Offset+l.Work.N-l.seen) }

type limitHandler struct {
	exec.PassThrough
	*Limit
}

// OnBatch implements exec.Handler.
func (l limitHandler) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	defer batch.Release()
	n := batch.NumRows()
	from, to := min(n, max(0, l.Work.Offset-l.seen)), min(n, l.left())
	l.seen += n
	if from < to {
		if err := out.EmitBatch(ctx, batch.NewSlice(from, to)); err != nil {
			return err
		}
	}
	if l.left() == 0 {
		l.reached()
		return exec.ErrStopped
	}
	return nil
}

// OnElement implements exec.Handler.
func (l limitHandler) OnElement(ctx context.Context, e exec.Element, out *exec.Output) error {
	if e.Kind == exec.KindBarrier {
		return remember(ctx, l.Keeper, e, limited{l.seen}, nil, out)
	}
	return out.Emit(ctx, e)
}
