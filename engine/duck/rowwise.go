package duck

import (
	"context"
	"encoding/json"
	"io"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// rowwise is a stage that runs on batch after batch. The SQL is bound once;
// each batch is a query of its own, because a running query cannot be made to
// give what it has, and what flows between two batches must stay there.
type rowwise struct {
	db      *Database
	session *session
	query   *query
}

// OpenRowwise implements exec.Relational.
func (d *Database) OpenRowwise(_ context.Context, stage *exec.RelationalStage) (_ exec.RowwiseStage, err error) {
	s, err := d.connect()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if len(stage.Inputs) != 1 {
		return nil, diag.New(diag.Internal, "a step of %d inputs was to work row by row", len(stage.Inputs))
	}
	for _, n := range stage.Nodes {
		if err := s.checkRowwise(n); err != nil {
			return nil, err
		}
	}
	q, err := d.compile(s, stage)
	if err != nil {
		return nil, err
	}
	return &rowwise{d, s, q}, nil
}

// Apply implements exec.RowwiseStage.
func (r *rowwise) Apply(ctx context.Context, batch arrow.RecordBatch, emit func(arrow.RecordBatch) error) error {
	run := newRun(ctx, r.db, r.session, r.query, []exec.BatchReader{&oneBatch{batch}})
	defer run.end()
	return run.result(run.run(emit))
}

// Close implements exec.RowwiseStage.
func (r *rowwise) Close() {
	r.query.close()
	r.session.close()
}

// oneBatch reads a batch, which it owns.
type oneBatch struct{ batch arrow.RecordBatch }

func (o *oneBatch) Next(context.Context) (arrow.RecordBatch, error) {
	if o.batch == nil {
		return nil, io.EOF
	}
	batch := o.batch
	o.batch = nil
	return batch, nil
}

func (o *oneBatch) Close() {
	if o.batch != nil {
		o.batch.Release()
		o.batch = nil
	}
}

// checkRowwise refuses what would look beyond a row: on a stream it would see
// no more than a batch.
func (s *session) checkRowwise(n plan.Node) error {
	var exprs []plan.Expr
	switch op := n.Op.(type) {
	case plan.Filter:
		exprs = append(exprs, op.Predicate)
	case plan.Project:
		for _, e := range op.Exprs {
			exprs = append(exprs, e.Expr)
		}
	}
	for len(exprs) > 0 {
		e := exprs[0]
		exprs = append(exprs[1:], e.Args...)
		if e.SQL == "" {
			continue
		}
		serialized, err := s.serialize("SELECT " + e.SQL)
		if err != nil {
			return diag.New(diag.Internal, "an expression could not be checked").WithCause(err)
		}
		var tree any
		if json.Unmarshal([]byte(serialized), &tree) == nil && hasWindow(tree) {
			return diag.New(diag.NeedsEnd, "a function OVER (…) looks at other rows, of which a stream never has all: %s", e.SQL).
				WithHint("aggregate by windows of time: .window(\"tumble\", \"1 minute\", on=\"ts\")").At(n.Op.Name(), n.Origin)
		}
	}
	return nil
}

// hasWindow looks for a window function in a parse tree.
func hasWindow(tree any) bool {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			if hasWindow(item) {
				return true
			}
		}
	case map[string]any:
		if tree["class"] == "WINDOW" {
			return true
		}
		for _, item := range tree {
			if hasWindow(item) {
				return true
			}
		}
	}
	return false
}
