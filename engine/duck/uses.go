package duck

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/exec"
)

// usesTimeMax bounds finding out what a query reads: it may compute a lot that
// its inputs have no part in.
const usesTimeMax = 500 * time.Millisecond

// Uses implements exec.Relational. DuckDB tells a table function which columns
// it wants when it begins to read, so the query is run on inputs without rows,
// until it has begun to read all of them. One that it does not begin to read
// counts as read whole.
func (d *Database) Uses(ctx context.Context, stage *exec.RelationalStage) ([][]int, error) {
	s, q, err := d.compiled(stage)
	if err != nil {
		return nil, err
	}
	defer s.close()
	defer q.close()
	inputs := make([]exec.BatchReader, len(stage.Inputs))
	for i := range inputs {
		inputs[i] = &oneBatch{}
	}
	bounded, cancel := context.WithTimeout(ctx, usesTimeMax)
	defer cancel()
	r := newRun(bounded, d, s, q, inputs)
	defer r.end()
	var waiting atomic.Int64
	waiting.Store(int64(len(r.streams)))
	for _, in := range r.streams {
		in.begun = func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		}
	}
	err = r.run(func(batch arrow.RecordBatch) error { // a count, for example
		batch.Release()
		return nil
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	failed := err != nil && bounded.Err() == nil
	used := make([][]int, len(stage.Inputs))
	for i, in := range r.streams {
		used[i] = in.usedColumns(failed)
	}
	return used, nil
}
