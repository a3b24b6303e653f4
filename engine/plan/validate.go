package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
)

// Limits of a plan.
const (
	nodesMax     = 100_000
	exprDepthMax = 200
	// workersMax is the largest number of workers that a function may ask for.
	workersMax = 32
	// timeoutMSMax is a year.
	timeoutMSMax = 366 * 24 * 3600 * 1000
)

// reservedPrefix begins the names of columns that lowering makes.
const reservedPrefix = "__alink_"

// Validate checks everything about the plan that needs no data and no schema.
// Its error is a diagnostic that names the node.
func (p *Plan) Validate() error {
	if p.Version != Version {
		return diag.New(diag.InvalidPlan, "the plan is of version %d; this engine reads version %d", p.Version, Version).
			WithHint("install the same version of client and engine")
	}
	if len(p.Nodes) > nodesMax {
		return diag.New(diag.InvalidPlan, "the plan has %d nodes; the limit is %d", len(p.Nodes), nodesMax)
	}
	for id, f := range p.Functions {
		if f == nil {
			return diag.New(diag.InvalidPlan, "function %q is null", id)
		}
		if err := p.validateFunction(f); err != nil {
			return invalid(f.Origin, "function", "function %q (%s): %v", f.Name, id, err)
		}
	}
	ops := make(map[string]Op, len(p.Nodes))
	sinks := 0
	for _, n := range p.Nodes {
		if err := p.validateNode(n, ops); err != nil {
			if d, ok := err.(*diag.Diagnostic); ok { //nolint:errorlint // made just below, never wrapped
				return d.At(opName(n.Op), n.Origin)
			}
			if n.Origin != nil { // a line of the user's says more than a name that a client made
				return invalid(n.Origin, opName(n.Op), "%s: %v", opName(n.Op), err)
			}
			return invalid(n.Origin, opName(n.Op), "node %q: %v", n.ID, err)
		}
		ops[n.ID] = n.Op
		if Sink(n.Op) {
			sinks++
		}
	}
	if sinks == 0 {
		return diag.New(diag.InvalidPlan, "the plan has no output").WithHint("end it with a collect or a write node")
	}
	return nil
}

func invalid(origin *diag.Source, operator, format string, args ...any) error {
	return diag.New(diag.InvalidPlan, format, args...).At(operator, origin)
}

func opName(op Op) string {
	if op == nil {
		return "plan"
	}
	return op.Name()
}

func (p *Plan) validateFunction(f *Function) error {
	kinds := []FunctionKind{
		RowFunction, NumpyFunction, ArrowFunction, PandasFunction, PolarsFunction,
		MapBatchesFunction, FitFunction, FlatMapFunction, AggregateFunction, MapGroupsFunction, MapTableFunction, TrainFunction,
	}
	if !slices.Contains(kinds, f.Kind) {
		return fmt.Errorf("unknown kind %q", f.Kind)
	}
	if f.Batch != "" && !slices.Contains(Batches, f.Batch) {
		return fmt.Errorf("unknown batch %q", f.Batch)
	}
	if p.Environments[f.Environment] == nil {
		return fmt.Errorf("environment %q is not in the plan", f.Environment)
	}
	sources := 0
	for _, s := range []string{f.Code.Artifact, f.Code.Source, f.Code.Attribute} {
		if s != "" {
			sources++
		}
	}
	if sources != 1 {
		return fmt.Errorf("code must be given in exactly one way, not %d", sources)
	}
	if f.Options.OnNull != "" && f.Options.OnNull != "call" && f.Options.OnNull != "skip" {
		return fmt.Errorf("on_null must be \"call\" or \"skip\", not %q", f.Options.OnNull)
	}
	if f.Options.Workers > workersMax {
		return fmt.Errorf("workers must be at most %d, not %d", workersMax, f.Options.Workers)
	}
	if f.Options.Workers < 0 || f.Options.ShareBytes < 0 || f.Options.BatchRows < 0 || f.Options.Retries != nil && *f.Options.Retries < 0 {
		return fmt.Errorf("workers, share_bytes, batch_rows and retries cannot be negative")
	}
	if t := f.Options.TimeoutMS; t != nil && (*t < 0 || *t > timeoutMSMax) {
		return fmt.Errorf("timeout_ms must be between 0 and %d, not %d", int64(timeoutMSMax), *t)
	}
	if m := f.Options.MemoryBytes; m != 0 && m < MemoryBytesMin {
		return fmt.Errorf("memory_bytes must be at least %d, not %d", MemoryBytesMin, m)
	}
	if err := p.validateConfinement(f); err != nil {
		return err
	}
	if err := f.validateFailures(); err != nil {
		return err
	}
	switch f.Kind {
	case AggregateFunction:
		return validateAggregateFunction(f)
	case MapBatchesFunction, FlatMapFunction, MapGroupsFunction, MapTableFunction, TrainFunction:
		for _, field := range f.Schema {
			if err := validateColumns([]string{field.Name}); err != nil {
				return err
			}
		}
		_, err := ParseSchema(f.Schema)
		return err
	case FitFunction:
		return nil
	}
	_, err := ParseType(f.Result)
	return err
}

// exceptionRetriesMax bounds ExceptionRetries.
const exceptionRetriesMax = 100

// validateFailures checks the options that say what happens when a function
// fails, and which kinds of function can have them.
func (f *Function) validateFailures() error {
	o := f.Options
	switch o.OnError {
	case "", OnErrorFail, OnErrorNull, OnErrorDeadLetter:
	default:
		return fmt.Errorf("on_error must be \"fail\", \"null\" or \"dead_letter\", not %q", o.OnError)
	}
	if o.ErrorsMax < 0 || o.OutputBytes < 0 || o.OutputBytes > OutputBytesMax {
		return fmt.Errorf("errors_max and output_bytes cannot be negative, nor output_bytes more than %d", int64(OutputBytesMax))
	}
	if o.ExceptionRetries < 0 || o.ExceptionRetries > exceptionRetriesMax {
		return fmt.Errorf("exception_retries must be between 0 and %d, not %d", exceptionRetriesMax, o.ExceptionRetries)
	}
	if o.Nondeterministic && o.ExceptionRetries > 0 {
		return fmt.Errorf("a function that is not deterministic is not run twice, so exceptions cannot be retried")
	}
	if !o.OnError.Tolerant() {
		return nil
	}
	switch f.Kind {
	case AggregateFunction, FitFunction, MapGroupsFunction, MapTableFunction, TrainFunction:
		return fmt.Errorf("on_error of a function of the kind %s can only be \"fail\": what it gives depends on all rows", f.Kind)
	case MapBatchesFunction:
		if o.OnError == OnErrorNull {
			return fmt.Errorf("on_error of a map_batches function can only be \"fail\" or \"dead_letter\": its rows do not belong to rows of the input")
		}
	}
	if o.Nondeterministic && f.Kind != RowFunction && f.Kind != FlatMapFunction {
		return fmt.Errorf("which row a function of batches fails on is found by running it again, which one that is not deterministic forbids: its on_error can only be \"fail\"")
	}
	return nil
}

func (p *Plan) validateNode(n Node, before map[string]Op) error {
	if n.Op == nil {
		return fmt.Errorf("it has no op")
	}
	if n.ID == "" || before[n.ID] != nil {
		return fmt.Errorf("node names must be unique and not empty")
	}
	if err := validateInputs(n); err != nil {
		return err
	}
	for _, id := range n.Inputs {
		op := before[id]
		if op == nil {
			return fmt.Errorf("its input %q is not a node before it", id)
		}
		if Sink(op) {
			return fmt.Errorf("its input %q is an output", id)
		}
	}
	for _, e := range expressions(n.Op) {
		if err := p.validateExpr(e, 0); err != nil {
			return err
		}
	}
	if err := p.placeAggregates(n); err != nil {
		return err
	}
	if op, isQuery := n.Op.(SQLQuery); isQuery {
		return validateQuery(n, op)
	}
	return p.validateOp(n.Op)
}

func (p *Plan) validateOp(op Op) error {
	switch op := op.(type) {
	case ScanParquet, ScanCSV, ScanJSON, WriteParquet, WriteCSV, WriteJSON:
		return validateFiles(op)
	case Generate:
		return op.validate()
	case WithWatermark:
		if op.DelayUS < 0 {
			return fmt.Errorf("the delay cannot be negative")
		}
		return required("column", op.Column)
	case WindowAggregate:
		return op.validate()
	case ScanTable:
		return required("table", op.Table)
	case KeepTable:
		return required("table", op.Table)
	case Project:
		return validateNames(op.Exprs)
	case Drop:
		return validateColumns(op.Columns)
	case Rename:
		return validateColumns(slices.Collect(maps.Values(op.Columns)))
	case Aggregate:
		if len(op.Keys)+len(op.Aggregates) == 0 {
			return fmt.Errorf("nothing is aggregated")
		}
		return validateNames(slices.Concat(op.Keys, op.Aggregates))
	case Join:
		return validateJoin(op)
	case Sample:
		return validateSample(op)
	case Unnest:
		return required("column", op.Column)
	case Sort:
		if len(op.By) == 0 {
			return fmt.Errorf("a sort needs at least one key")
		}
	case Limit:
		if op.N < 0 || op.Offset < 0 {
			return fmt.Errorf("limit and offset cannot be negative")
		}
	case MapBatches:
		if err := p.requireFunction(op.Function, MapBatchesFunction); err != nil {
			return err
		}
		return p.validateTables(op)
	case MapTable:
		if err := p.requireFunction(op.Function, MapTableFunction); err != nil {
			return err
		}
		return p.validateTables(op)
	case Train:
		return p.requireFunction(op.Function, TrainFunction)
	case Fit:
		return p.requireFunction(op.Function, FitFunction)
	case FlatMap:
		return p.validateFlatMap(op)
	case MapGroups:
		return p.validateMapGroups(op)
	}
	return nil
}

func required(name, value string) error {
	if value == "" {
		return fmt.Errorf("%s is missing", name)
	}
	return nil
}

func validateColumns(names []string) error {
	for _, name := range names {
		if strings.HasPrefix(Fold(name), reservedPrefix) {
			return fmt.Errorf("column names that begin with %s are reserved", reservedPrefix)
		}
	}
	return nil
}

func validateNames(exprs []NamedExpr) error {
	seen := map[string]bool{}
	for _, e := range exprs {
		if err := validateColumns([]string{e.Name}); err != nil {
			return err
		}
		name := Fold(e.Name)
		if seen[name] {
			return fmt.Errorf("two columns are named %q (names are compared without regard to case)", e.Name)
		}
		seen[name] = true
	}
	return nil
}

func (p *Plan) requireFunction(id string, kind FunctionKind) error {
	f := p.Functions[id]
	if f == nil {
		return fmt.Errorf("function %q is not in the plan", id)
	}
	if f.Kind != kind {
		return fmt.Errorf("function %q is of kind %s; %s is needed", f.Name, f.Kind, kind)
	}
	return nil
}

func (p *Plan) validateExpr(e Expr, depth int) error {
	if depth > exprDepthMax {
		return fmt.Errorf("an expression is nested deeper than %d", exprDepthMax)
	}
	forms := 0
	for _, set := range []bool{e.Column != nil, e.Literal != nil, e.SQL != "", e.Op != "", e.Call != ""} {
		if set {
			forms++
		}
	}
	if forms != 1 {
		return fmt.Errorf("an expression must be exactly one of column, literal, sql, op and call")
	}
	switch {
	case e.Column != nil:
		return validateColumns([]string{*e.Column})
	case e.Literal != nil:
		_, err := ParseType(e.Literal.Type)
		return err
	case e.Op != "":
		if err := validateOperator(e); err != nil {
			return err
		}
	case e.Call != "":
		if err := p.validateCall(e); err != nil {
			return err
		}
	}
	for _, arg := range e.Args {
		if err := p.validateExpr(arg, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func validateOperator(e Expr) error {
	count, known := Operators[e.Op]
	if !known {
		return fmt.Errorf("unknown operator %q", e.Op)
	}
	if count >= 0 && len(e.Args) != count || count < 0 && len(e.Args) < 1 {
		return fmt.Errorf("operator %q cannot have %d operands", e.Op, len(e.Args))
	}
	if e.Op == "cast" {
		_, err := ParseType(e.Type)
		return err
	}
	return nil
}

func (p *Plan) validateCall(e Expr) error {
	f := p.Functions[e.Call]
	if f == nil {
		return fmt.Errorf("function %q is not in the plan", e.Call)
	}
	switch f.Kind {
	case RowFunction, NumpyFunction, ArrowFunction, PandasFunction, PolarsFunction:
		return nil
	case AggregateFunction:
		return nil // placeAggregates knows where
	case FlatMapFunction:
		return fmt.Errorf("function %q gives rows and cannot stand in an expression; use t.flat_map or t.join_lateral", f.Name)
	}
	return fmt.Errorf("function %q is of kind %s and cannot stand in an expression", f.Name, f.Kind)
}

// expressions are op's expressions.
func expressions(op Op) []Expr {
	var out []Expr
	mapExpressions(op, func(e Expr) Expr {
		out = append(out, e)
		return e
	})
	return out
}

// mapExpressions gives op with f applied to each of its expressions.
func mapExpressions(op Op, f func(Expr) Expr) Op {
	named := func(list []NamedExpr) []NamedExpr {
		out := slices.Clone(list)
		for i := range out {
			out[i].Expr = f(out[i].Expr)
		}
		return out
	}
	switch op := op.(type) {
	case Filter:
		op.Predicate = f(op.Predicate)
		return op
	case Project:
		op.Exprs = named(op.Exprs)
		return op
	case Aggregate:
		op.Keys, op.Aggregates = named(op.Keys), named(op.Aggregates)
		return op
	case WindowAggregate:
		op.Keys, op.Aggregates = named(op.Keys), named(op.Aggregates)
		return op
	case FlatMap:
		op.Args = slices.Clone(op.Args)
		for i := range op.Args {
			op.Args[i] = f(op.Args[i])
		}
		return op
	case MapGroups:
		op.Keys = named(op.Keys)
		return op
	case Sort:
		op.By = slices.Clone(op.By)
		for i := range op.By {
			op.By[i].Expr = f(op.By[i].Expr)
		}
		return op
	}
	return op
}
