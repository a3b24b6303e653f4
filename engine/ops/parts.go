package ops

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// Parts is an output that is cut at barriers.
type Parts interface {
	// Write does not take the batch over.
	Write(ctx context.Context, batch arrow.RecordBatch) error
	// Barrier makes what was written belong to a checkpoint, and hands over
	// what must be remembered; with end set, to the end of the job.
	Barrier(ctx context.Context, barrier uint64, end bool) error
	Abort()
}

// NewParts makes an operator that writes its input to parts.
func NewParts(parts Parts) exec.Operator { return exec.Handle(&partsHandler{parts}) }

type partsHandler struct{ parts Parts }

func (h *partsHandler) OnBatch(ctx context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	defer batch.Release()
	return h.parts.Write(ctx, batch)
}

func (h *partsHandler) OnElement(ctx context.Context, e exec.Element, _ *exec.Output) error {
	if e.Kind != exec.KindBarrier {
		return nil
	}
	return h.parts.Barrier(ctx, e.Barrier, false)
}

func (h *partsHandler) OnEnd(ctx context.Context, _ *exec.Output) error {
	return h.parts.Barrier(ctx, 0, true)
}

func (h *partsHandler) OnFail(error) { h.parts.Abort() }
