package ops

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// remember hands over what a subtask remembers, then passes the barrier on: the
// order in which a barrier may be seen.
func remember(ctx context.Context, keeper exec.Keeper, e exec.Element, meta any, batch arrow.RecordBatch, out *exec.Output) error {
	encoded, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("encode what a step remembers: %w", err)
	}
	if err := keeper.Keep(ctx, e.Barrier, exec.Snapshot{Meta: encoded, Batch: batch}); err != nil {
		return err
	}
	return out.Emit(ctx, e)
}

// restore calls f with each part of what the subtasks of a vertex remembered.
func restore[T any](keeper exec.Keeper, f func(meta T, batch arrow.RecordBatch) error) error {
	snapshots, err := keeper.Restored()
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		defer s.Release()
	}
	for _, s := range snapshots {
		var meta T
		if err := json.Unmarshal(s.Meta, &meta); err != nil {
			return fmt.Errorf("decode what a step remembered: %w", err)
		}
		if err := f(meta, s.Batch); err != nil {
			return err
		}
	}
	return nil
}
