package ops

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/alink-runtime/alink/engine/exec"
	"github.com/apache/arrow-go/v18/arrow"
)

// Relational runs a relational stage. It works on bounded inputs: watermarks,
// barriers and control elements end here.
type Relational struct {
	Engine exec.Relational
	Stage  *exec.RelationalStage
}

// OwnTime implements exec.OwnTime: the query reads ahead, in goroutines of its
// own.
func (r *Relational) OwnTime() {}

// Run implements exec.Operator.
func (r *Relational) Run(ctx context.Context, in []*exec.Input, out *exec.Output) error {
	readers := make([]exec.BatchReader, len(in))
	for i, input := range in {
		readers[i] = input.Batches()
	}
	return relate(ctx, r.Engine, r.Stage, readers, out, func(batch arrow.RecordBatch) error { return out.EmitBatch(ctx, batch) })
}

// relate runs a stage and hands what it gives to emit, whose time does not
// count as the operator's.
func relate(ctx context.Context, engine exec.Relational, s *exec.RelationalStage, readers []exec.BatchReader, out *exec.Output, emit func(arrow.RecordBatch) error) error {
	var waited atomic.Int64
	stage := *s
	stage.Waited = func(d time.Duration) { waited.Add(int64(d)) }
	began := time.Now()
	worked := func() {
		out.Worked(max(0, time.Since(began)-time.Duration(waited.Swap(0))))
	}
	defer worked()
	return engine.Run(ctx, &stage, readers, func(batch arrow.RecordBatch) error {
		worked()
		err := emit(batch)
		began = time.Now()
		return err
	})
}
