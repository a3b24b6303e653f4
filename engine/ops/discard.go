package ops

import (
	"context"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
)

// Discard takes its input and keeps nothing.
type Discard struct{}

// OnBatch implements exec.Handler.
func (Discard) OnBatch(_ context.Context, batch arrow.RecordBatch, _ *exec.Output) error {
	batch.Release()
	return nil
}

// OnElement implements exec.Handler.
func (Discard) OnElement(context.Context, exec.Element, *exec.Output) error { return nil }

// OnEnd implements exec.Handler.
func (Discard) OnEnd(context.Context, *exec.Output) error { return nil }

// OnFail implements exec.Handler.
func (Discard) OnFail(error) {}
