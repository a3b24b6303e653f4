package ops

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// Rowwise runs a relational stage that works row by row, on each batch by
// itself, so that what flows between the batches keeps its place.
type Rowwise struct {
	exec.PassThrough
	Stage exec.RowwiseStage
}

// OnBatch implements exec.Handler.
func (r *Rowwise) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	return r.Stage.Apply(ctx, batch, emitter(ctx, out))
}
