package ops

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// Arrange passes on some columns of each batch, in another order or under
// other names. It copies nothing.
type Arrange struct {
	exec.PassThrough
	// Columns are the input columns that the output's columns are.
	Columns []int
	Schema  *arrow.Schema
}

// OnBatch implements exec.Handler.
func (a *Arrange) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	defer batch.Release()
	return out.EmitBatch(ctx, pick(batch, a.Columns, a.Schema))
}
