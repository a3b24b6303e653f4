package exec

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
)

// Source is a table outside the engine, read by a connector. Schema is known
// before anything runs; what is read has that schema.
type Source interface {
	BatchSource
	Schema() *arrow.Schema
}

// Sink is a place outside the engine that a connector writes to. Open checks
// what can be checked beforehand.
type Sink interface {
	Open(ctx context.Context, schema *arrow.Schema) (SinkWriter, error)
}

// SinkWriter writes one output. What it has written appears with Commit, all
// of it or nothing; after Abort, or when the process dies, nothing is left.
// Exactly one of Commit and Abort is called, once.
type SinkWriter interface {
	// Write does not take the batch over.
	Write(ctx context.Context, batch arrow.RecordBatch) error
	Commit(ctx context.Context) error
	Abort()
}
