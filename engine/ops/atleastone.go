package ops

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/engine/exec"
)

// AtLeastOne passes its input on, and an empty batch where there is none: the
// aggregate of an empty table is a row too.
type AtLeastOne struct {
	exec.PassThrough
	Schema *arrow.Schema
	// Allocator is for the empty batch; nil means Arrow's default.
	Allocator memory.Allocator

	passed bool
}

// OnBatch implements exec.Handler.
func (a *AtLeastOne) OnBatch(ctx context.Context, batch arrow.RecordBatch, out *exec.Output) error {
	a.passed = true
	return out.EmitBatch(ctx, batch)
}

// OnEnd implements exec.Handler.
func (a *AtLeastOne) OnEnd(ctx context.Context, out *exec.Output) error {
	if a.passed {
		return nil
	}
	allocator := a.Allocator
	if allocator == nil {
		allocator = memory.DefaultAllocator
	}
	b := array.NewRecordBuilder(allocator, a.Schema)
	defer b.Release()
	return out.EmitBatch(ctx, b.NewRecordBatch())
}
