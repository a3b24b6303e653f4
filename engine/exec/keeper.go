package exec

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
)

// Snapshot is what a subtask remembers at a barrier.
type Snapshot struct {
	// Meta is JSON.
	Meta []byte
	// Batch may be nil. Whoever gets the snapshot releases it.
	Batch arrow.RecordBatch
}

// Release gives up the snapshot's batch, if it has one.
func (s Snapshot) Release() {
	if s.Batch != nil {
		s.Batch.Release()
	}
}

// Keeper is a subtask's part in the checkpoints of its job. It is implemented
// by engine/checkpoint. A source begins each checkpoint by a barrier, which
// passes through the dataflow in its place among the rows; every subtask that
// remembers something hands that over when the barrier reaches it.
type Keeper interface {
	// Barriers gives a source the checkpoints that it is to begin.
	Barriers() <-chan uint64
	// Restored is what the vertex's subtasks remembered, in any number of
	// parts, in the checkpoint that the job goes on from; nothing if it starts
	// afresh. The caller releases the snapshots.
	Restored() ([]Snapshot, error)
	// Keep hands over what the subtask remembers at a barrier. It takes the
	// snapshot over and does not wait until it is written.
	Keep(ctx context.Context, barrier uint64, s Snapshot) error
}

// NoKeeper is the Keeper of a job without checkpoints.
type NoKeeper struct{}

// Barriers implements Keeper: none come.
func (NoKeeper) Barriers() <-chan uint64 { return nil }

// Restored implements Keeper.
func (NoKeeper) Restored() ([]Snapshot, error) { return nil, nil }

// Keep implements Keeper.
func (NoKeeper) Keep(_ context.Context, _ uint64, s Snapshot) error {
	s.Release()
	return nil
}
