// Package plan says what a job is: operators, expressions, functions,
// environments, in the JSON form that clients send and in Go types that
// programs build. It validates plans and lowers them to the stages that
// engine/exec runs. It imports Arrow, grant and diag only.
package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/grant"
)

// Version is the version of the JSON form. A plan of another version is
// refused.
const Version = 1

// Plan is a job: a graph of nodes, each of which refers to nodes before it.
type Plan struct {
	Version      int                     `json:"version"`
	Nodes        []Node                  `json:"nodes"`
	Functions    map[string]*Function    `json:"functions,omitempty"`
	Environments map[string]*Environment `json:"environments,omitempty"`
	// Secrets are values that functions name in their options.
	Secrets map[string]Secret `json:"secrets,omitempty"`
	// Profile asks for samples of what the functions do.
	Profile bool `json:"profile,omitempty"`
}

// Node is one step of a plan. Its JSON form is
// {"id": …, "op": …, "inputs": […], "origin": {…}, "args": {…}}.
type Node struct {
	ID     string
	Inputs []string
	// Origin is the line of the user's program that made the node.
	Origin *diag.Source
	Op     Op
}

// Op is what a node does; its dynamic type is one of the structs below or, after
// Lower, one of the package's own.
type Op interface {
	// Name is the op's name in JSON and in diagnostics.
	Name() string
	// inputCount is the number of inputs it takes.
	inputCount() int
}

// The operators, those of files apart (files.go). Everything relational
// (Filter to Limit) runs in DuckDB.
type (
	// ScanTable reads a table that the client has uploaded.
	ScanTable struct {
		Table string `json:"table"`
	}
	// KeepTable keeps its input in the engine as a table for ScanTable, which is
	// there once the job has ended well.
	KeepTable struct {
		Table string `json:"table"`
	}
	// Discard lets its input pass and keeps nothing: a plan that is only run to
	// see what it costs.
	Discard struct{}
	// Filter keeps the rows for which Predicate is true.
	Filter struct {
		Predicate Expr `json:"predicate"`
		// moved says that lowering has put it below functions.
		moved bool
	}
	// Project computes expressions. With Keep the input's columns stay, and an
	// expression of an existing name replaces that column in its place.
	Project struct {
		Keep  bool        `json:"keep,omitempty"`
		Exprs []NamedExpr `json:"exprs"`
		// operator is the name of the user's step where lowering has made this
		// of another one.
		operator string
	}
	// Drop removes columns.
	Drop struct {
		Columns []string `json:"columns"`
	}
	// Rename gives columns other names: old name to new name.
	Rename struct {
		Columns map[string]string `json:"columns"`
	}
	// Aggregate groups by Keys (none: the whole table is one group).
	Aggregate struct {
		Keys       []NamedExpr `json:"keys,omitempty"`
		Aggregates []NamedExpr `json:"aggregates"`
	}
	// Join joins its two inputs on equality of columns. The result has the
	// left columns, then the right ones without those that are joined on under
	// the same name. Another name that both sides have is refused, or gets
	// Suffix on the right. NULL equals nothing, or NULL with NullsEqual.
	Join struct {
		On         []JoinKey `json:"on,omitempty"`
		How        JoinKind  `json:"how"`
		Suffix     string    `json:"suffix,omitempty"`
		NullsEqual bool      `json:"nulls_equal,omitempty"`
	}
	// Sort orders by keys. Rows with equal keys keep their order.
	Sort struct {
		By []SortKey `json:"by"`
	}
	// Limit passes N rows after the first Offset.
	Limit struct {
		N      int64 `json:"n"`
		Offset int64 `json:"offset,omitempty"`
	}
	// MapBatches applies a function of kind map_batches to the named columns
	// (nil: all). Tables name the inputs behind the first, each of which the
	// function gets whole, as the keyword argument of that name.
	MapBatches struct {
		Function string   `json:"function"`
		Columns  []string `json:"columns,omitempty"`
		Tables   []string `json:"tables,omitempty"`
	}
	// Fit runs a function of kind fit over the whole input in one worker; its
	// result is one row with one column "model" of opaque bytes.
	Fit struct {
		Function string   `json:"function"`
		Columns  []string `json:"columns,omitempty"`
	}
	// Collect hands the rows to the client. Endless says that it reads them as
	// they come, so that there need not be an end.
	Collect struct {
		Endless bool `json:"endless,omitempty"`
	}
)

// Checkpoint says where and how often a job notes how far it is, so that the
// same job goes on from there after its engine has ended.
type Checkpoint struct {
	// Dir is a folder for this job alone.
	Dir string `json:"dir"`
	// Name is the job's; the names of its files begin with it.
	Name string `json:"name"`
	// IntervalMS is the time between two checkpoints.
	IntervalMS int64 `json:"interval_ms"`
}

// JoinKey is a pair of columns that must be equal.
type JoinKey struct {
	Left  string `json:"left"`
	Right string `json:"right"`
}

// SortKey is one key of a Sort. NULLs come last unless NullsFirst.
type SortKey struct {
	Expr       Expr `json:"expr"`
	Descending bool `json:"descending,omitempty"`
	NullsFirst bool `json:"nulls_first,omitempty"`
}

// NamedExpr is an expression and the name of its column.
type NamedExpr struct {
	Name string `json:"name"`
	Expr Expr   `json:"expr"`
}

// JoinKind is one of the constants below.
type JoinKind string

// The kinds of join.
const (
	Inner JoinKind = "inner"
	Left  JoinKind = "left"
	Right JoinKind = "right"
	Full  JoinKind = "full"
	Semi  JoinKind = "semi"
	Anti  JoinKind = "anti"
)

// WriteMode says what to do when the output exists.
type WriteMode string

// The write modes.
const (
	ErrorIfExists WriteMode = "error"
	Overwrite     WriteMode = "overwrite"
	// Append adds files to a folder.
	Append WriteMode = "append"
)

// Function is a Python function as a job carries it.
type Function struct {
	// Name is the user's name of it.
	Name string       `json:"name"`
	Kind FunctionKind `json:"kind"`
	// Parameters are the names of its positional parameters, for diagnostics.
	Parameters []string `json:"parameters,omitempty"`
	// Result is the type of the result of a function that gives one value for
	// each row or, for an aggregate, group, as a type string; Schema that of a
	// function that gives rows: map_batches, flat_map, map_groups, map_table, train.
	Result string  `json:"result,omitempty"`
	Schema []Field `json:"schema,omitempty"`
	// State are the fields of an aggregate function's state.
	State []Field `json:"state,omitempty"`
	// Batch is the form in which a function of whole batches or groups gets
	// its rows: one of Batches, or empty for Arrow. The vectorised functions
	// of columns have it in their Kind.
	Batch string `json:"batch,omitempty"`
	Code  Code   `json:"code"`
	// Environment names an entry of Plan.Environments.
	Environment string `json:"environment"`
	// Modules are artifacts: zip archives whose root is put on the worker's
	// module path.
	Modules []string `json:"modules,omitempty"`
	// Models are artifacts (pickles made by a fit function), each handed to
	// the function as the keyword argument of its name.
	Models  map[string]string `json:"models,omitempty"`
	Options FunctionOptions   `json:"options"`
	Origin  *diag.Source      `json:"origin,omitempty"`
}

// Batches are the values of Function.Batch.
var Batches = []string{"arrow", "numpy", "pandas", "polars"}

// FunctionOptions are the options of `al.udf` that the engine acts on.
type FunctionOptions struct {
	// OnNull is "call" (the default) or "skip": not called, the result is NULL.
	OnNull string `json:"on_null,omitempty"`
	// OnError says what becomes of a row on which the function fails; "" is
	// OnErrorFail.
	OnError OnError `json:"on_error,omitempty"`
	// ErrorsMax is on how many rows it may fail where OnError lets the job go
	// on; 0 means ErrorsMaxDefault.
	ErrorsMax int64 `json:"errors_max,omitempty"`
	// Retries is how often a batch is run again after a worker died on it; nil
	// means RetriesDefault.
	Retries *int `json:"retries,omitempty"`
	// ExceptionRetries is how often what the function raised on is run again.
	ExceptionRetries int `json:"exception_retries,omitempty"`
	// Nondeterministic functions are never run twice for a row.
	Nondeterministic bool `json:"nondeterministic,omitempty"`
	// OutputBytes bounds what the function gives for one row or, of a function
	// of batches or groups, for one call; 0 means the default of its kind.
	OutputBytes int64 `json:"output_bytes,omitempty"`
	// Workers is the number of workers of the stage; 0 leaves it to the engine.
	Workers int `json:"workers,omitempty"`
	// ShareBytes is how many bytes of rows make one more worker of a train
	// function worthwhile, where Workers is 0; 0 leaves it to the engine.
	ShareBytes int64 `json:"share_bytes,omitempty"`
	// BatchRows is the largest number of rows in one call; 0 leaves it to the
	// engine.
	BatchRows int `json:"batch_rows,omitempty"`
	// TimeoutMS is how long the function may be without progress (a row of a
	// row function, a call of another), in milliseconds: 0 means for ever, nil
	// TimeoutDefault, and for a fit, map_table or train function for ever.
	TimeoutMS *int64 `json:"timeout_ms,omitempty"`
	// MemoryBytes is what a worker may hold; 0 means MemoryBytesDefault.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// Sandbox is "auto", "strict" or "off"; "" leaves it to the engine.
	Sandbox string `json:"sandbox,omitempty"`
	// Network leaves the function the machine's network.
	Network bool `json:"network,omitempty"`
	// Mounts are the machine's files and folders that the function sees, sorted
	// by path.
	Mounts []grant.Mount `json:"mounts,omitempty"`
	// Secrets are entries of Plan.Secrets, which the function finds as
	// variables of its environment.
	Secrets []string `json:"secrets,omitempty"`
	// Isolation is "shared" (the default), or "own": no other function runs in
	// its workers.
	Isolation string `json:"isolation,omitempty"`
}

// Defaults of a function's limits.
const (
	TimeoutDefault     = 60 * time.Second
	MemoryBytesDefault = 1 << 30
	// MemoryBytesMin is little more than a worker needs before it has loaded
	// a function.
	MemoryBytesMin = 64 << 20
)

// Timeout is how long the function may be without progress; 0 means for ever.
func (f *Function) Timeout() time.Duration {
	switch {
	case f.Options.TimeoutMS != nil:
		return time.Duration(*f.Options.TimeoutMS) * time.Millisecond
	case f.Kind.WholeInput():
		return 0
	}
	return TimeoutDefault
}

// MemoryBytes is what a worker of the function may hold.
func (f *Function) MemoryBytes() int64 {
	if f.Options.MemoryBytes == 0 {
		return MemoryBytesDefault
	}
	return f.Options.MemoryBytes
}

// RetriesDefault is how often a batch is run again after deaths.
const RetriesDefault = 2

// OnError is what becomes of a row on which a function fails, whether it raises
// or its worker dies.
type OnError string

// The values of OnError.
const (
	// OnErrorFail fails the job.
	OnErrorFail OnError = "fail"
	// OnErrorNull gives NULL, of a table function no rows.
	OnErrorNull OnError = "null"
	// OnErrorDeadLetter leaves the row out of the result and keeps it aside.
	OnErrorDeadLetter OnError = "dead_letter"
)

// Tolerant reports whether the job goes on when the function fails on a row.
func (o OnError) Tolerant() bool { return o == OnErrorNull || o == OnErrorDeadLetter }

// Bounds of a function's failures and output.
const (
	// ErrorsMaxDefault is on how many rows a function may fail before its job
	// does: one that fails on most rows is wrong itself.
	ErrorsMaxDefault = 10_000
	// OutputRowBytesDefault bounds what a function gives for one row,
	// OutputCallBytesDefault what one gives for one call.
	OutputRowBytesDefault  = 256 << 20
	OutputCallBytesDefault = 1 << 30
	// OutputBytesMax is the largest OutputBytes.
	OutputBytesMax = 2 << 30
)

// ErrorsMax is on how many rows the function may fail.
func (f *Function) ErrorsMax() int64 {
	if f.Options.ErrorsMax == 0 {
		return ErrorsMaxDefault
	}
	return f.Options.ErrorsMax
}

// OutputBytes is what the function may give for a row or a call.
func (f *Function) OutputBytes() int64 {
	switch {
	case f.Options.OutputBytes != 0:
		return f.Options.OutputBytes
	case f.Kind == RowFunction || f.Kind == FlatMapFunction:
		return OutputRowBytesDefault
	case f.Kind == FitFunction:
		return OutputBytesMax
	}
	return OutputCallBytesDefault
}

// FunctionKind is one of the constants below.
type FunctionKind string

// The kinds of function.
const (
	RowFunction        FunctionKind = "row"         // scalars in, a scalar out
	NumpyFunction      FunctionKind = "numpy"       // numpy arrays in, one array out
	ArrowFunction      FunctionKind = "arrow"       // Arrow arrays in, one array out
	PandasFunction     FunctionKind = "pandas"      // pandas Series in, one out
	PolarsFunction     FunctionKind = "polars"      // polars Series in, one out
	MapBatchesFunction FunctionKind = "map_batches" // RecordBatch in, RecordBatch(es) out
	FitFunction        FunctionKind = "fit"         // iterator of RecordBatch in, a model out
	FlatMapFunction    FunctionKind = "flat_map"    // scalars in, any number of rows out
	AggregateFunction  FunctionKind = "aggregate"   // the rows of a group in, a scalar out
	MapGroupsFunction  FunctionKind = "map_groups"  // the rows of a group in, rows out
	MapTableFunction   FunctionKind = "map_table"   // iterator of RecordBatch in, RecordBatch(es) out
	TrainFunction      FunctionKind = "train"       // a group of workers that share the rows in, a Table out
)

// WholeInput reports whether a function is called once, with an iterator of its
// whole input.
func (k FunctionKind) WholeInput() bool {
	return k == FitFunction || k == MapTableFunction || k == TrainFunction
}

// Code is where a function's code comes from: exactly one field is set, but
// for Name, which says which function of Source is meant.
type Code struct {
	// Artifact is a cloudpickle of the function.
	Artifact string `json:"artifact,omitempty"`
	// Source is Python source text that defines a function Name.
	Source string `json:"source,omitempty"`
	Name   string `json:"name,omitempty"`
	// Attribute is "module:attribute".
	Attribute string `json:"attribute,omitempty"`
}

// Environment is a dependency environment. Either Interpreter names an
// existing Python whose packages are used as they are, or the environment is
// built from Requirements, or from Lock, with Wheels.
type Environment struct {
	// Interpreter is the absolute path of a Python executable, or of the folder
	// of a virtual environment.
	Interpreter string `json:"interpreter,omitempty"`
	// Paths are folders of packages that Interpreter does not find by itself
	// (a user site, for example).
	Paths []string `json:"paths,omitempty"`
	// Python is the wanted version, "3.11"; empty means the client's.
	Python string `json:"python,omitempty"`
	// BaseInterpreter is the client's interpreter: used for Python "" and
	// where the version agrees.
	BaseInterpreter string   `json:"base_interpreter,omitempty"`
	Requirements    []string `json:"requirements,omitempty"`
	// Lock is a lock file: what is installed, with hashes.
	Lock *LockFile `json:"lock,omitempty"`
	// Wheels are installed; Files are placed in a folder that functions may
	// read, and Archives unpacked there.
	Wheels   []EnvironmentFile `json:"wheels,omitempty"`
	Files    []EnvironmentFile `json:"files,omitempty"`
	Archives []EnvironmentFile `json:"archives,omitempty"`
	// Variables are set in the environment's workers.
	Variables map[string]Secret `json:"variables,omitempty"`
	// Indexes are the package indexes that are asked, in this order.
	Indexes []PackageIndex `json:"indexes,omitempty"`
	// SourceBuilds lets packages be built that have no wheel.
	SourceBuilds bool `json:"source_builds,omitempty"`
}

// LockFile is a lock file and the name that tells its format.
type LockFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// EnvironmentFile is an artifact and the name that the environment has it
// under.
type EnvironmentFile struct {
	Name     string `json:"name"`
	Artifact string `json:"artifact"`
}

// PackageIndex is a package index and how to log in there.
type PackageIndex struct {
	URL      string `json:"url"`
	Username Secret `json:"username,omitempty"`
	Password Secret `json:"password,omitempty"`
}

// Artifacts are those that the plan refers to, each once.
func (p *Plan) Artifacts() []string {
	var ids []string
	for _, f := range p.Functions {
		ids = append(ids, f.Modules...)
		if f.Code.Artifact != "" {
			ids = append(ids, f.Code.Artifact)
		}
		for _, id := range f.Models {
			ids = append(ids, id)
		}
	}
	for _, e := range p.Environments {
		if e == nil {
			continue
		}
		for _, file := range slices.Concat(e.Wheels, e.Files, e.Archives) {
			ids = append(ids, file.Artifact)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Field is a column: its name and type string.
type Field struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Name implements Op.
func (ScanTable) Name() string { return "table" }

// Name implements Op.
func (KeepTable) Name() string { return "keep_table" }

// Name implements Op.
func (Discard) Name() string { return "discard" }

// Name implements Op.
func (Filter) Name() string { return "filter" }

// Name implements Op.
func (Drop) Name() string { return "drop" }

// Name implements Op.
func (Rename) Name() string { return "rename" }

// Name implements Op.
func (Aggregate) Name() string { return "agg" }

// Name implements Op.
func (Join) Name() string { return "join" }

// Name implements Op.
func (Sort) Name() string { return "order_by" }

// Name implements Op.
func (Limit) Name() string { return "limit" }

// Name implements Op.
func (MapBatches) Name() string { return "map_batches" }

// Name implements Op.
func (Fit) Name() string { return "fit" }

// Name implements Op.
func (Collect) Name() string { return "collect" }

// Name implements Op.
func (p Project) Name() string {
	if p.operator != "" {
		return p.operator
	}
	return projectName(p.Keep)
}

func (ScanTable) inputCount() int    { return 0 }
func (KeepTable) inputCount() int    { return 1 }
func (Discard) inputCount() int      { return 1 }
func (Filter) inputCount() int       { return 1 }
func (Drop) inputCount() int         { return 1 }
func (Rename) inputCount() int       { return 1 }
func (Aggregate) inputCount() int    { return 1 }
func (Join) inputCount() int         { return 2 }
func (Sort) inputCount() int         { return 1 }
func (Limit) inputCount() int        { return 1 }
func (m MapBatches) inputCount() int { return 1 + len(m.Tables) }
func (Fit) inputCount() int          { return 1 }
func (Collect) inputCount() int      { return 1 }
func (Project) inputCount() int      { return 1 }

func projectName(keep bool) string {
	if keep {
		return "with_columns"
	}
	return "select"
}

// Relational reports whether op runs in DuckDB.
func Relational(op Op) bool {
	switch op.(type) {
	case Filter, Project, Drop, Rename, Aggregate, Join, Sort, Limit, Union, Distinct, Sample, Unnest, SQLQuery:
		return true
	}
	return false
}

// Sink reports whether op ends a plan's branch.
func Sink(op Op) bool {
	switch op.(type) {
	case WriteParquet, WriteCSV, WriteJSON, KeepTable, Discard, Collect:
		return true
	}
	return false
}

type nodeJSON struct {
	ID     string          `json:"id"`
	Op     string          `json:"op"`
	Inputs []string        `json:"inputs,omitempty"`
	Origin *diag.Source    `json:"origin,omitempty"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (n Node) MarshalJSON() ([]byte, error) {
	args, err := json.Marshal(n.Op)
	if err != nil {
		return nil, err
	}
	return json.Marshal(nodeJSON{n.ID, n.Op.Name(), n.Inputs, n.Origin, args})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown fields are errors.
func (n *Node) UnmarshalJSON(b []byte) error {
	var raw nodeJSON
	if err := strictUnmarshal(b, &raw); err != nil {
		return err
	}
	op, err := decodeOp(raw.Op, raw.Args)
	if err != nil {
		return fmt.Errorf("node %q: %w", raw.ID, err)
	}
	*n = Node{ID: raw.ID, Inputs: raw.Inputs, Origin: raw.Origin, Op: op}
	return nil
}

func decodeOp(name string, args json.RawMessage) (Op, error) {
	switch name {
	case ScanParquet{}.Name():
		return decodeArgs[ScanParquet](args)
	case ScanCSV{}.Name():
		return decodeArgs[ScanCSV](args)
	case ScanJSON{}.Name():
		return decodeArgs[ScanJSON](args)
	case ScanTable{}.Name():
		return decodeArgs[ScanTable](args)
	case KeepTable{}.Name():
		return decodeArgs[KeepTable](args)
	case Discard{}.Name():
		return decodeArgs[Discard](args)
	case Filter{}.Name():
		return decodeArgs[Filter](args)
	case projectName(true), projectName(false):
		return decodeArgs[Project](args)
	case Drop{}.Name():
		return decodeArgs[Drop](args)
	case Rename{}.Name():
		return decodeArgs[Rename](args)
	case Aggregate{}.Name():
		return decodeArgs[Aggregate](args)
	case Join{}.Name():
		return decodeArgs[Join](args)
	case Sort{}.Name():
		return decodeArgs[Sort](args)
	case Limit{}.Name():
		return decodeArgs[Limit](args)
	case SQLQuery{}.Name():
		return decodeArgs[SQLQuery](args)
	case Union{}.Name():
		return decodeArgs[Union](args)
	case Distinct{}.Name():
		return decodeArgs[Distinct](args)
	case Sample{}.Name():
		return decodeArgs[Sample](args)
	case Unnest{}.Name():
		return decodeArgs[Unnest](args)
	case MapBatches{}.Name():
		return decodeArgs[MapBatches](args)
	case MapTable{}.Name():
		return decodeArgs[MapTable](args)
	case Train{}.Name():
		return decodeArgs[Train](args)
	case Fit{}.Name():
		return decodeArgs[Fit](args)
	case FlatMap{}.Name():
		return decodeArgs[FlatMap](args)
	case MapGroups{}.Name():
		return decodeArgs[MapGroups](args)
	case WriteParquet{}.Name():
		return decodeArgs[WriteParquet](args)
	case WriteCSV{}.Name():
		return decodeArgs[WriteCSV](args)
	case WriteJSON{}.Name():
		return decodeArgs[WriteJSON](args)
	case Collect{}.Name():
		return decodeArgs[Collect](args)
	case Generate{}.Name():
		return decodeArgs[Generate](args)
	case WithWatermark{}.Name():
		return decodeArgs[WithWatermark](args)
	case WindowAggregate{}.Name():
		return decodeArgs[WindowAggregate](args)
	}
	return nil, fmt.Errorf("unknown op %q", name)
}

func decodeArgs[T Op](args json.RawMessage) (Op, error) {
	var op T
	if len(args) == 0 {
		return op, nil
	}
	err := strictUnmarshal(args, &op)
	return op, err
}

func strictUnmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Decode reads a plan's JSON form without validating it: whoever runs it
// does. Its error is a diag.Diagnostic.
func Decode(b []byte) (*Plan, error) {
	var p Plan
	if err := strictUnmarshal(b, &p); err != nil {
		return nil, diag.New(diag.InvalidPlan, "the plan is not valid JSON of version %d", Version).WithCause(err)
	}
	return &p, nil
}
