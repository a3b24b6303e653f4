package ops

import (
	"context"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
)

// Relational runs a relational stage. It works on bounded inputs: watermarks,
// barriers and control elements end here.
type Relational struct {
	Engine exec.Relational
	Stage  *exec.RelationalStage
}

// Run implements exec.Operator.
func (r *Relational) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	readers := make([]exec.BatchReader, len(in))
	for i, input := range in {
		readers[i] = input.Batches()
	}
	return r.Engine.Run(ctx, r.Stage, readers, func(batch arrow.RecordBatch) error {
		return out.EmitBatch(ctx, batch)
	})
}
