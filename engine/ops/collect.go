package ops

import (
	"context"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
)

// NewCollect makes an operator that hands its input to whoever reads queue,
// with the queue's back-pressure.
func NewCollect(queue *exec.Queue) exec.Operator { return &collect{queue: queue} }

type collect struct{ queue *exec.Queue }

// Run implements exec.Operator. It ends when the queue is closed, although
// nothing comes that could be put into it.
func (c *collect) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.queue.OnClose(func() { stop(exec.ErrStopped) })
	return exec.Handle(c).Run(ctx, in, out)
}

func (c *collect) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	defer out.Rest()()
	return c.queue.Put(ctx, exec.BatchElement(batch))
}

func (c *collect) OnElement(context.Context, exec.Element, *exec.Output) error { return nil }

func (c *collect) OnEnd(ctx context.Context, _ *exec.Output) error {
	return c.queue.Put(ctx, exec.Element{Kind: exec.KindEnd})
}

func (c *collect) OnFail(error) {}
