package exec

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// FunctionRunner runs Python functions in workers. It is implemented by fnapi.
type FunctionRunner interface {
	// Open makes a session, which runs its bundles on one worker at a time, in
	// the environment of the stage. It blocks while the environment is built.
	// Its errors are diagnostics.
	Open(ctx context.Context, stage *FunctionStage) (FunctionSession, error)
}

// FunctionStage is what crosses to a worker together: calls that share an
// environment and limits, or one function of whole batches, groups or tables.
type FunctionStage struct {
	// ID is unique within the engine; it names the stage's bundle descriptor.
	ID   string
	Kind StageKind
	// Calls are several for StageColumns, where one may use the results of those
	// before it, and for StageAggregate and StageMerge; otherwise there is
	// exactly one.
	Calls       []FunctionCall
	Environment *plan.Environment
	// Input is the schema of what crosses to the worker; Output of what comes
	// back; see the kinds of stage.
	Input  *arrow.Schema
	Output *arrow.Schema
	// Keys is the number of key columns of StageAggregate and StageMerge.
	Keys int
	// Tables are what the stage's one function gets whole, beside its input.
	Tables []StageTable
	// Retries is how often a bundle is run again after a worker died on it,
	// ExceptionRetries after an exception.
	Retries          int
	ExceptionRetries int
	// Once says that no row may be run twice: a bundle that a worker may have
	// begun when it died fails.
	Once bool
	// OnError says what becomes of a row on which the function fails. Unless it
	// is to fail, the stage has one call; and for StageColumns and StageFlatMap
	// the last column of Output is ErrorColumn: NULL, or the JSON that tells how
	// the function failed on the row, whose other columns are then NULL.
	OnError plan.OnError
	// Narrows says that whoever submits a bundle finds the row that it failed
	// on with FunctionSession.Probe, so a failure is the bundle's alone.
	Narrows bool
	// Failures counts the stage's failures; nil is legal.
	Failures *Failures
	// MemoryBytes is what a worker may hold with all its processes; 0 is no
	// limit.
	MemoryBytes int64
	// Confinement is what the functions may do beyond computing.
	Confinement plan.Confinement
	// Job names whose stage it is. A job that has a worker never waits for
	// others to give back the memory of theirs.
	Job string
	// Crew names the workers that the stage shares with other stages, which then
	// agree with it in domain, environment and limits, and CrewWorkers is how
	// many there are at most. "" gives each session one of its own.
	Crew        string
	CrewWorkers int
	// Domain is whose functions they are. Workers are not shared between
	// domains.
	Domain string
	// CreditBytes bounds what a session has in flight to its worker, and as much
	// in flight from it, unless that is one bundle; 0 means CreditBytesDefault.
	CreditBytes int64
	// Meter counts what the stage's workers do; nil is legal.
	Meter *Meter
	// Profile gathers samples of what the functions do; nil takes none.
	Profile *Profile
	// Log receives what the functions print and log; it must not block.
	Log func(LogLine)
}

// CreditBytesDefault is the CreditBytes of a stage that says nothing.
const CreditBytesDefault = 64 << 20

// Credit is the stage's CreditBytes, or the default.
func (s *FunctionStage) Credit() int64 {
	if s.CreditBytes == 0 {
		return CreditBytesDefault
	}
	return s.CreditBytes
}

// StageKind says how a worker treats a stage's batches.
type StageKind string

// The kinds of stage.
const (
	// StageColumns gives for each batch one with a column for each call, in
	// order.
	StageColumns StageKind = "columns"
	// StageMapBatches gives any batches of the function's schema.
	StageMapBatches StageKind = "map_batches"
	// StageFit makes of one bundle of all batches one row {model: large_binary}.
	StageFit StageKind = "fit"
	// StageMapTable makes of one bundle of all batches any batches of the
	// function's schema.
	StageMapTable StageKind = "map_table"
	// StageTrain takes a function one step further that runs in several workers
	// at once: see TrainInput and TrainOutput.
	StageTrain StageKind = "train"
	// StageFlatMap gives any number of rows for each row: its index in the
	// bundle's one batch, rising, then the columns of the function's schema.
	StageFlatMap StageKind = "flat_map"
	// StageAggregate gives one row for each group in the bundle, without Keys
	// exactly one: the keys, which are the first columns of the input, then
	// the fields of each call's state.
	StageAggregate StageKind = "aggregate"
	// StageMerge gives one row for each group, in order. The input is the
	// number of the group, run-end encoded, which a bundle holds all rows of,
	// the keys, and the states; the output the keys, then a column for each call.
	StageMerge StageKind = "merge"
	// StageMapGroups gives any batches of the function's schema, in the order
	// of the groups. The first column of the input is the number of the group,
	// run-end encoded, which a bundle holds all rows of.
	StageMapGroups StageKind = "map_groups"
)

// Grouped reports whether a bundle holds whole groups, numbered in the first
// column of the input.
func (k StageKind) Grouped() bool { return k == StageMerge || k == StageMapGroups }

// WholeInput reports whether a bundle is the whole input, which the function
// reads as it comes.
func (k StageKind) WholeInput() bool { return k == StageFit || k == StageMapTable }

// TrainInput and TrainOutput are what crosses to the worker of a StageTrain, and
// what comes back with the columns of the function's result behind it. A bundle
// is one row each way, until the result comes. The worker runs the function until
// it needs what only all workers together have: it gives a TrainKind and what is
// its own, and goes on when the next bundle brings what is theirs. The first
// bundle, of step 0, brings a TrainStart as JSON.
var (
	TrainInput = arrow.NewSchema([]arrow.Field{
		{Name: "step", Type: arrow.PrimitiveTypes.Int64},
		{Name: "body", Type: arrow.BinaryTypes.LargeBinary},
	}, nil)
	TrainOutput = []arrow.Field{
		{Name: "kind", Type: arrow.BinaryTypes.String},
		{Name: "body", Type: arrow.BinaryTypes.LargeBinary, Nullable: true},
	}
)

// TrainRows is the name of the StageTable that the workers share.
const TrainRows = "rows"

// TrainStart tells a worker which part of the rows is its own: those from
// Rank/Size of them on, up to (Rank+1)/Size. CacheBytes is how much of them it
// may keep in memory.
type TrainStart struct {
	Rank       int   `json:"rank"`
	Size       int   `json:"size"`
	CacheBytes int64 `json:"cache_bytes"`
}

// TrainKind is what a worker of a StageTrain waits for, or that it does not.
type TrainKind string

// The kinds. Numbers are 64-bit floats, little-endian.
const (
	TrainSum     TrainKind = "sum"
	TrainLeast   TrainKind = "least"
	TrainLargest TrainKind = "largest"
	// TrainGather waits for the bodies of all, each behind its length in 8
	// bytes, in the order of the ranks.
	TrainGather TrainKind = "gather"
	// TrainDone stands in each row of the function's result, which is the first
	// rank's; of the others it has no row. No row at all means done, too.
	TrainDone TrainKind = "done"
	// TrainLost says that the worker is another one than that of the steps
	// before.
	TrainLost TrainKind = "lost"
)

// StageTable is a table that a function gets whole, as the keyword argument
// Name. It is a file of Arrow's at Path, in the folder that the workers of the
// stage's domain see, complete before a bundle is submitted and there until the
// last session of the stage is closed.
type StageTable struct{ Name, Path string }

// FunctionCall is one function applied to columns of the stage's input.
type FunctionCall struct {
	Function *plan.Function
	// FunctionID is the function's key in the plan.
	FunctionID string
	// Args are indices into the stage's Input and, behind its columns, into the
	// results of the calls before. StageMapBatches, StageFit and
	// StageMapTable have none.
	Args []int
	// Constants are the other arguments, by their places among all.
	Constants []plan.Constant
	// Output is the place of the call's result among those of the calls.
	Output int
	// State is the schema of the state of an aggregate function.
	State *arrow.Schema
	// Operator and Origin say where the user wrote the call.
	Operator string
	Origin   *diag.Source
}

// LogLine is a line that user code printed or logged.
type LogLine struct {
	Function string
	Level    string // "print", or a level of Python's logging: "WARNING"
	Text     string
}

// FunctionSession runs bundles of a stage. Its methods are called by one
// goroutine.
type FunctionSession interface {
	// Submit hands over a bundle. It returns before the bundle is done, but
	// blocks while the worker has as much in flight as it may. The session
	// opens input once, and again for each time the bundle has to be run
	// again; where the stage shares workers (Crew), input must not wait for what
	// other stages do. firstRow is the index of the bundle's first row in the stage's
	// input, for diagnostics.
	Submit(ctx context.Context, input BatchSource, firstRow int64) (Bundle, error)
	// Probe hands over a part of a bundle that has failed. It is run next, by
	// itself, so that the worker tells the row that it is at, and is not run
	// again where it has killed its worker. Another goroutine may call it, while
	// none waits for another probe.
	Probe(ctx context.Context, input BatchSource, firstRow int64) (Bundle, error)
	// Close gives the worker back. Bundles that were not waited for are
	// dropped and their memory released. It is called exactly once.
	Close() error
}

// Bundle is a unit of work whose result becomes visible only when all of it
// has succeeded.
type Bundle interface {
	// Wait returns the whole result; the caller releases the batches. It is
	// called at most once. A failure of the function is a *BundleFailure.
	Wait(ctx context.Context) ([]arrow.RecordBatch, error)
	// Held is the memory, in bytes, of what has come back and waits for Wait.
	Held() int64
}
