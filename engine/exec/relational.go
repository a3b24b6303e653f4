package exec

import (
	"context"
	"time"

	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
)

// Relational is the relational engine of a job. It is implemented by
// engine/duck. All methods may be called from several goroutines.
type Relational interface {
	// Describe gives the schema of a stage's result, or a diagnostic that
	// names what is wrong with which node. It reads no data.
	Describe(ctx context.Context, stage *RelationalStage) (*arrow.Schema, error)
	// Uses gives, for each input of the stage, the places of the columns that
	// its query reads. It reads no data.
	Uses(ctx context.Context, stage *RelationalStage) ([][]int, error)
	// Run executes the stage: it reads inputs (one reader for each input of
	// the stage, in order) as it needs them, in any order and from any
	// goroutine, and calls emit from one goroutine at a time with batches that
	// emit takes over. The result keeps the order of the input where the
	// operators do. Run returns when the result is complete, failed or ctx is
	// done; then no reader is in use any more. It closes the readers.
	Run(ctx context.Context, stage *RelationalStage, inputs []BatchReader, emit func(arrow.RecordBatch) error) error
	// OpenRowwise prepares a stage whose nodes work row by row for batches of
	// a stream. Its error is a diagnostic, also where a node looks beyond a row.
	OpenRowwise(ctx context.Context, stage *RelationalStage) (RowwiseStage, error)
	// RowByRow reports whether a SQL expression is one that looks at one row
	// only: no aggregate, no window, no subquery. It may say no to one that does.
	RowByRow(ctx context.Context, text string) (bool, error)
	// Conjuncts cuts a SQL expression at its outermost ANDs.
	Conjuncts(ctx context.Context, text string) ([]plan.Conjunct, error)
	// Close releases everything. No Run is under way any more.
	Close() error
}

// RowwiseStage is a relational stage that is run on batch after batch. One
// goroutine at a time uses it.
type RowwiseStage interface {
	// Apply runs the stage on a batch, which it takes over. emit takes what it
	// gets over.
	Apply(ctx context.Context, batch arrow.RecordBatch, emit func(arrow.RecordBatch) error) error
	Close()
}

// RelationalStage is a connected group of relational nodes that run as one
// query.
type RelationalStage struct {
	// ID is unique within the job.
	ID string
	// Inputs are the tables from outside the stage, by the node that makes
	// them, and their schemas.
	Inputs []RelationalInput
	// Nodes are the stage's nodes in topological order; the last one is its
	// result. Their expressions hold no calls of Python functions.
	Nodes []plan.Node
	// Waited is told how long the query waits for input; nil is legal.
	Waited func(time.Duration)
}

// RelationalInput is a table that a stage reads.
type RelationalInput struct {
	Node   string
	Schema *arrow.Schema
	// Columns are the places in Schema of the columns that the reader's batches
	// have; the query does not look at the others. nil is all.
	Columns []int
}
