package exec

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// Shell runs SQL for its user and with the user's rights: statements may read
// and write files, attach databases, and change settings. What they make lives
// as long as the shell. It is used by one goroutine at a time.
type Shell interface {
	// Run runs the statements of a script, one after the other, and stops at
	// the first that fails. Nothing has run where the script cannot be read.
	// Its error is a diagnostic that shows the place in the script, the error
	// of ctx, or that of out.
	Run(ctx context.Context, script Script, out Results) error
	// Complete reports whether a text ends with a whole statement.
	Complete(text string) bool
	// Parameters are the names of the parameters that a text seems to have,
	// each once.
	Parameters(text string) []string
	// Words are the keywords, and the names of tables and columns, that a
	// statement may use now.
	Words(ctx context.Context) ([]string, error)
	// Close ends the shell; further calls do nothing.
	Close() error
}

// Script is a text of SQL statements.
type Script struct {
	// Name is what the user calls it: the name of its file, for example.
	Name string
	Text string
	// Params are the values of its parameters, and of others that it does not
	// have. Each is a text, which takes on the type that its place in a
	// statement asks for. Names are compared without regard to case.
	Params map[string]string
}

// Statement is a statement of a script.
type Statement struct {
	// Number counts from 1 to Of.
	Number, Of int
	// Line is the line of the script on which it begins; 0 is not known.
	Line int
	// Kind is its first word, as SQL has it: "SELECT", "CREATE".
	Kind string
	// Rows are the rows of its result, Changed those that it has changed.
	Rows, Changed int64
	Elapsed       time.Duration
}

// Results gets what the statements of a script give.
type Results interface {
	// Begin is told of each statement that has a result, before its first
	// batch.
	Begin(s Statement, schema *arrow.Schema) error
	// Write gets a batch of the result, which stays the caller's.
	Write(batch arrow.RecordBatch) error
	// End is told of each statement that has succeeded.
	End(s Statement) error
}
