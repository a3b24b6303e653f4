package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/apache/arrow-go/v18/arrow"
)

// Typer gives schemas that only other rooms know.
type Typer interface {
	// ScanSchema is the schema of a FileScan or ScanTable.
	ScanSchema(ctx context.Context, op Op) (*arrow.Schema, error)
	// Describe is the schema of a group of relational nodes.
	Describe(ctx context.Context, group *Relation) (*arrow.Schema, error)
	// WindowSchema is the schema of what windows give.
	WindowSchema(input *arrow.Schema, w *Windowing) (*arrow.Schema, error)
	// RowByRow reports whether a SQL expression looks at one row only. It may
	// say no to one that does.
	RowByRow(ctx context.Context, text string) (bool, error)
	// Conjuncts cuts a SQL expression at its outermost ANDs.
	Conjuncts(ctx context.Context, text string) ([]Conjunct, error)
	// Constant computes an expression without columns, as Constant.Value.
	Constant(ctx context.Context, e Expr) ([]byte, error)
}

// Physical is a plan as it runs: stages in topological order.
type Physical struct {
	Stages []*Stage
	// Results maps the nodes of the plan that end a stage to their stages.
	Results map[string]*Stage
}

// Stage is one vertex of the dataflow. Its Work is a FileScan, a ScanTable, one
// of the sinks, *Relation, *Application, *SideTable, *Arrangement, *Grouping,
// *Limiting or AtLeastOne.
type Stage struct {
	ID     string
	Name   string
	Origin *diag.Source
	Inputs []string
	// Schema is that of what the stage gives, or of what a sink takes.
	Schema *arrow.Schema
	Work   any
	// Detail says more of what the stage does than Name, for whoever looks at a
	// job; "" is nothing.
	Detail string
	// Stream is set if watermarks or barriers flow out of the stage, or its
	// output has no end.
	Stream bool
	// Apart is set if the stage only serves a table that a function gets whole,
	// and is run anew at each start of a job with checkpoints.
	Apart bool
}

// Relation is a connected group of relational nodes; the last is its result.
type Relation struct {
	ID     string
	Inputs []RelationInput
	Nodes  []Node
	// Rowwise is set on streams: each batch is worked on by itself, and what
	// flows between batches keeps its place.
	Rowwise bool
}

// RelationInput is a table from outside a group: the node and its schema.
type RelationInput struct {
	Node   string
	Schema *arrow.Schema
	// Columns are the places in Schema of the columns that come; the others are
	// not used. nil is all.
	Columns []int
}

// Application is the application of functions that cross to a worker together.
type Application struct {
	// Kind is that of the functions; RowFunction stands for all kinds that add
	// columns, and AggregateFunction for the states of the rows of a bundle,
	// of which MergeStates then makes results.
	Kind        FunctionKind
	Calls       []AppliedCall
	Environment string
	Retries     int
	Workers     int
	// Columns are the input columns that cross, Crossing their schema, Result
	// the schema of what comes back.
	Columns  []int
	Crossing *arrow.Schema
	Result   *arrow.Schema
	// Keys is the number of columns that an aggregate is grouped by: the first
	// of Crossing, or those behind the number of the group for MergeStates.
	Keys int
	// Kept are the input columns that stand before the results of functions that
	// add columns and of a flat_map; nil, of the latter, is none. Outer keeps
	// rows without results.
	Kept  []int
	Outer bool
	// RowsWanted is how many rows a limit behind the functions wants, with only
	// steps between that pass rows on as they come; 0 where there is none.
	RowsWanted int64
	// Tables are what the function gets whole, beside its input.
	Tables []AppliedTable
}

// Once reports whether a row may only be run once.
func (a *Application) Once() bool {
	return slices.ContainsFunc(a.Calls, func(c AppliedCall) bool { return c.Function.Options.Nondeterministic })
}

// AddsColumns reports whether the results stand beside the input's columns.
func (a *Application) AddsColumns() bool { return a.Kind == RowFunction }

// AppliedCall is one call of an Application. Args are indices into Crossing and,
// behind its columns, the results of the calls before.
type AppliedCall struct {
	FunctionID string
	Function   *Function
	Args       []int
	// Constants are the other arguments, by their places among all.
	Constants []Constant
	Operator  string
	Origin    *diag.Source
	// State is the schema of an aggregate function's state.
	State *arrow.Schema
}

// Arrangement gives, for each output column, the input column it is.
type Arrangement struct{ Columns []int }

// ModelColumn is the one column of what a fit function gives.
const ModelColumn = "model"

// Lower types a validated plan and cuts it into stages. Nodes that no sink
// needs are left out. Its errors are diagnostics that name the user's step.
func Lower(ctx context.Context, p *Plan, typer Typer) (*Physical, error) {
	physical, err := lower(ctx, p, typer, true)
	if err != nil && ctx.Err() == nil {
		// What is wrong is told of the steps as the user wrote them.
		return lower(ctx, p, typer, false)
	}
	return physical, err
}

// lower is Lower; without pushing every step stays where the user wrote it.
func lower(ctx context.Context, p *Plan, typer Typer, pushing bool) (*Physical, error) {
	nodes, err := expandWindows(extractCalls(p))
	if err != nil {
		return nil, err
	}
	nodes, apart, err := separateTables(nodes)
	if err != nil {
		return nil, err
	}
	nodes = neededNodes(nodes)
	if pushing {
		if nodes, err = push(ctx, p, nodes, typer); err != nil {
			return nil, err
		}
	}
	l := lowering{
		wanted: rowsWanted(nodes), apart: apart,
		plan: p, typer: typer, nodes: map[string]Node{}, consumers: map[string]int{},
		open: map[string]*Relation{}, out: &Physical{Results: map[string]*Stage{}},
	}
	for _, n := range nodes {
		l.nodes[n.ID] = n
		for _, id := range n.Inputs {
			l.consumers[id]++
		}
	}
	if err := l.flows(nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if err := l.node(ctx, n); err != nil {
			return nil, located(err, n)
		}
	}
	return l.out, nil
}

// located says where the user wrote the node, unless the error knows already.
func located(err error, n Node) error {
	d := diag.From(err)
	if d.Code == diag.Internal {
		return err
	}
	return d.At(n.Op.Name(), n.Origin)
}

// neededNodes keeps the nodes that a sink depends on.
func neededNodes(nodes []Node) []Node {
	needed := map[string]bool{}
	var out []Node
	for _, n := range slices.Backward(nodes) {
		if !Sink(n.Op) && !needed[n.ID] {
			continue
		}
		for _, id := range n.Inputs {
			needed[id] = true
		}
		out = append(out, n)
	}
	slices.Reverse(out)
	return out
}

type lowering struct {
	plan      *Plan
	typer     Typer
	nodes     map[string]Node
	consumers map[string]int
	// wanted is, by node, what limits behind functions want; see rowsWanted.
	wanted map[string]int64
	// open holds the groups that may still grow, by their last node.
	open map[string]*Relation
	// flow is what flows out of each node; steps are, by node, those of
	// Watermarking in microseconds.
	flow  map[string]flow
	steps map[string]int64
	// apart are the nodes that only serve tables; see Stage.Apart.
	apart map[string]bool
	out   *Physical
}

func (l *lowering) node(ctx context.Context, n Node) error {
	switch op := n.Op.(type) {
	case ScanParquet, ScanCSV, ScanJSON, ScanTable:
		schema, err := l.typer.ScanSchema(ctx, op)
		if err == nil {
			err = refuseReserved(schema)
		}
		if err != nil {
			return err
		}
		l.stage(n, schema, op)
		return nil
	case Generate:
		l.stage(n, op.Schema(), op)
		return nil
	case WithWatermark:
		input, err := l.result(ctx, n.Inputs[0])
		if err != nil {
			return err
		}
		return l.watermark(n, op, input)
	case windowed:
		input, err := l.result(ctx, n.Inputs[0])
		if err != nil {
			return err
		}
		return l.window(n, op, input)
	case Filter, Project, Drop, Rename, Aggregate, Join, Sort, Limit, Union, Distinct, Sample, Unnest, SQLQuery:
		if limit, ok := op.(Limit); ok && l.flow[n.Inputs[0]].elements {
			return l.limit(ctx, n, limit)
		}
		if l.arrangeable(n) {
			return l.arrange(ctx, n, asArrange(op))
		}
		return l.relate(ctx, n)
	case limitRows:
		if inner := l.open[n.Inputs[0]]; inner != nil && l.consumers[n.Inputs[0]] == 1 && !l.flow[n.Inputs[0]].elements {
			n.Op = op.Limit
			return l.relate(ctx, n)
		}
		return l.limit(ctx, n, op.Limit)
	case arrange:
		return l.arrange(ctx, n, op)
	case applyFunctions:
		return l.apply(ctx, n, op)
	case applyTable, applyPartial, applyMerge, applyGroups, groupRows, atLeastOne:
		return l.manyRows(ctx, n)
	case sideTable:
		return l.keepTable(ctx, n, op)
	case MapBatches:
		return l.wholeBatches(ctx, n, op.Function, op.Columns)
	case MapTable:
		return l.wholeBatches(ctx, n, op.Function, op.Columns)
	case Train:
		return l.wholeBatches(ctx, n, op.Function, op.Columns)
	case Fit:
		return l.wholeBatches(ctx, n, op.Function, op.Columns)
	case WriteParquet, WriteCSV, WriteJSON, KeepTable, Discard, Collect:
		input, err := l.result(ctx, n.Inputs[0])
		if err != nil {
			return err
		}
		l.stage(n, input.Schema, op)
		return nil
	}
	return fmt.Errorf("op %T is not lowered", n.Op)
}

// limit makes the stage of a limit that needs no query.
func (l *lowering) limit(ctx context.Context, n Node, limit Limit) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	l.stage(n, input.Schema, &Limiting{limit.N, limit.Offset})
	return nil
}

// refuseReserved refuses a table with columns that could be taken for those
// that lowering makes.
func refuseReserved(schema *arrow.Schema) error {
	for i, f := range schema.Fields() {
		if f.Name == "" {
			return diag.New(diag.InvalidPlan, "column %d of the table has no name", i+1).
				WithHint("give it one before it comes in: no expression could refer to it")
		}
		if err := validateColumns([]string{f.Name}); err != nil {
			return diag.New(diag.InvalidPlan, "the table has a column %q", f.Name).WithCause(err).
				WithHint("give it another name before it comes in")
		}
	}
	return nil
}

func (l *lowering) stage(n Node, schema *arrow.Schema, work any) {
	s := &Stage{ID: n.ID, Name: n.Op.Name(), Origin: n.Origin, Inputs: n.Inputs, Schema: schema, Work: work, Stream: l.flow[n.ID].elements, Apart: l.apart[n.ID]}
	l.out.Stages = append(l.out.Stages, s)
	l.out.Results[n.ID] = s
}

// result gives the stage that ends with a node, closing the node's group if it
// is open.
func (l *lowering) result(ctx context.Context, id string) (*Stage, error) {
	group := l.open[id]
	if group == nil {
		return l.out.Results[id], nil
	}
	delete(l.open, id)
	group.Rowwise = len(group.Inputs) == 1 && l.flow[group.Inputs[0].Node].elements && l.flow[id].elements
	schema, err := l.typer.Describe(ctx, group)
	if err != nil {
		return nil, located(err, l.nodes[id])
	}
	n := l.nodes[id]
	inputs := make([]string, len(group.Inputs))
	for i, in := range group.Inputs {
		inputs[i] = in.Node
	}
	l.stage(Node{ID: id, Inputs: inputs, Origin: n.Origin, Op: n.Op}, schema, group)
	l.out.Results[id].Name, l.out.Results[id].Detail = relationName(group), movedFilters(group)
	return l.out.Results[id], nil
}

// relationName lists a group's operators, for progress.
func relationName(group *Relation) string {
	const listed = 3
	names := make([]string, 0, listed+1)
	for i, n := range group.Nodes {
		if i == listed {
			names = append(names, "…")
			break
		}
		names = append(names, n.Op.Name())
	}
	return strings.Join(names, ", ")
}

// movedFilters says what a group filters by that the user wrote behind functions.
func movedFilters(group *Relation) string {
	var texts []string
	for _, n := range group.Nodes {
		if filter, ok := n.Op.(Filter); ok && filter.moved {
			texts = append(texts, filter.Predicate.String())
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return "moved before functions: " + strings.Join(texts, " and ")
}

// relate puts a node into a group: that of its inputs where they are in open
// groups which nobody else reads, otherwise one of its own.
func (l *lowering) relate(ctx context.Context, n Node) error {
	group := &Relation{ID: n.ID}
	for _, id := range n.Inputs {
		if inner := l.open[id]; inner != nil && l.consumers[id] == 1 {
			delete(l.open, id)
			group.Nodes = append(group.Nodes, inner.Nodes...)
			for _, in := range inner.Inputs {
				group.read(in)
			}
			continue
		}
		stage, err := l.result(ctx, id)
		if err != nil {
			return err
		}
		group.read(RelationInput{Node: id, Schema: stage.Schema})
	}
	group.Nodes = append(group.Nodes, n)
	l.open[n.ID] = group
	return nil
}

func (r *Relation) read(in RelationInput) {
	if !slices.ContainsFunc(r.Inputs, func(x RelationInput) bool { return x.Node == in.Node }) {
		r.Inputs = append(r.Inputs, in)
	}
}

// arrangeable reports whether n only selects, orders or renames columns of
// something that is not relational: then DuckDB is not needed for it.
func (l *lowering) arrangeable(n Node) bool {
	switch op := n.Op.(type) {
	case Project:
		if _, plain := plainColumns(op); !plain {
			return false
		}
	case Drop, Rename:
	default:
		return false
	}
	return l.open[n.Inputs[0]] == nil
}

func asArrange(op Op) arrange {
	switch op := op.(type) {
	case Project:
		columns, _ := plainColumns(op)
		return arrange{keep: op.Keep, columns: columns, operator: op.Name()}
	case Drop:
		return arrange{keep: true, drop: op.Columns, operator: op.Name()}
	case Rename:
		return arrange{keep: true, rename: op.Columns, operator: op.Name()}
	}
	panic(fmt.Sprintf("plan: %T does not arrange columns", op))
}

func (l *lowering) arrange(ctx context.Context, n Node, op arrange) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	fields, columns, err := op.resolve(input.Schema)
	if err != nil {
		return err
	}
	l.stage(n, arrow.NewSchema(fields, nil), &Arrangement{columns})
	return nil
}

// resolve gives the fields of the result and the input column of each.
func (a arrange) resolve(schema *arrow.Schema) (fields []arrow.Field, columns []int, err error) {
	place := map[string]int{} // by folded name, for what replaces
	add := func(name string, from int) {
		field := schema.Field(from)
		field.Name = name
		place[Fold(name)] = len(fields)
		fields, columns = append(fields, field), append(columns, from)
	}
	dropped, err := findColumns(schema, a.drop)
	if err != nil {
		return nil, nil, err
	}
	names, err := a.newNames(schema)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; a.keep && i < schema.NumFields(); i++ {
		if !slices.Contains(dropped, i) {
			add(names[i], i)
		}
	}
	for _, c := range a.columns {
		from, err := findColumn(schema, c.of)
		if err != nil {
			return nil, nil, err
		}
		at, replaces := place[Fold(c.name)]
		if !replaces {
			add(c.name, from)
			continue
		}
		fields[at], columns[at] = schema.Field(from), from
		fields[at].Name = c.name
	}
	return fields, columns, nil
}

// newNames are the names of the input's columns after renaming.
func (a arrange) newNames(schema *arrow.Schema) ([]string, error) {
	names := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		names[i] = f.Name
	}
	renamed := map[int]bool{}
	for from, to := range a.rename {
		i, err := findColumn(schema, from)
		if err != nil {
			return nil, err
		}
		if renamed[i] {
			return nil, diag.New(diag.InvalidPlan, "the column %q is renamed twice", schema.Field(i).Name)
		}
		renamed[i] = true
		names[i] = to
	}
	seen := map[string]bool{}
	for _, name := range names {
		if seen[Fold(name)] {
			return nil, diag.New(diag.InvalidPlan, "two columns are named %q (names are compared without regard to case)", name).
				WithHint("rename or select before")
		}
		seen[Fold(name)] = true
	}
	return names, nil
}

func findColumns(schema *arrow.Schema, names []string) ([]int, error) {
	columns := make([]int, len(names))
	for i, name := range names {
		var err error
		if columns[i], err = findColumn(schema, name); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// findColumn finds a column by its exact name, or else without regard to case.
func findColumn(schema *arrow.Schema, name string) (int, error) {
	if exact := schema.FieldIndices(name); len(exact) > 0 {
		return exact[0], nil
	}
	names := make([]string, 0, schema.NumFields())
	for i, f := range schema.Fields() {
		if Fold(f.Name) == Fold(name) {
			return i, nil
		}
		if !strings.HasPrefix(f.Name, reservedPrefix) {
			names = append(names, f.Name)
		}
	}
	return 0, diag.New(diag.UnknownColumn, "there is no column %q", name).
		WithHint("%s", diag.DidYouMean(name, "columns", names))
}

// apply makes the stage of functions that add columns.
func (l *lowering) apply(ctx context.Context, n Node, op applyFunctions) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	a := &Application{Kind: RowFunction, RowsWanted: l.wanted[n.ID]}
	var results []arrow.Field
	cross := crossing{from: input.Schema}
	for _, c := range op.calls {
		applied, err := l.call(n, c, &cross)
		if err != nil {
			return err
		}
		result, err := ParseType(applied.Function.Result)
		if err != nil {
			return err
		}
		results = append(results, arrow.Field{Name: c.output, Type: result, Nullable: true})
		a.Calls = append(a.Calls, applied)
	}
	a.complete(cross, results)
	a.Kept = everything(input.Schema.NumFields())
	l.stage(n, arrow.NewSchema(slices.Concat(input.Schema.Fields(), results), nil), a)
	l.out.Results[n.ID].Name = applicationName(a)
	return nil
}

// crossing collects the columns of a stage's input that cross to a worker,
// each once.
type crossing struct {
	from    *arrow.Schema
	columns []int
	fields  []arrow.Field
}

// place gives the place of an input's column among those that cross.
func (c *crossing) place(column int) int {
	if at := slices.Index(c.columns, column); at >= 0 {
		return at
	}
	return c.append(column)
}

// append lets a column cross, once more if it does already.
func (c *crossing) append(column int) int {
	c.columns = append(c.columns, column)
	c.fields = append(c.fields, c.from.Field(column))
	return len(c.columns) - 1
}

// call finds the arguments of a call.
func (l *lowering) call(n Node, c call, cross *crossing) (AppliedCall, error) {
	applied := AppliedCall{FunctionID: c.function, Function: l.plan.Functions[c.function], Constants: c.constants, Operator: n.Op.Name(), Origin: n.Origin}
	columns, err := findColumns(cross.from, c.args)
	if err != nil {
		return applied, err
	}
	for _, column := range columns {
		applied.Args = append(applied.Args, cross.place(column))
	}
	return applied, nil
}

// complete sets what follows from a stage's calls.
func (a *Application) complete(cross crossing, results []arrow.Field) {
	first := a.Calls[0].Function
	a.Environment, a.Retries, a.Workers = first.Environment, first.retries(), first.Options.Workers
	a.Columns, a.Crossing = cross.columns, arrow.NewSchema(cross.fields, nil)
	a.Result = arrow.NewSchema(results, nil)
}

// applicationName lists the functions of a stage, for progress.
func applicationName(a *Application) string {
	names := make([]string, len(a.Calls))
	for i, c := range a.Calls {
		names[i] = c.Function.Name
	}
	return strings.Join(names, ", ")
}

// wholeBatches makes the stage of a map_batches, map_table, train or fit function.
func (l *lowering) wholeBatches(ctx context.Context, n Node, id string, names []string) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	f := l.plan.Functions[id]
	a := &Application{
		RowsWanted: l.wanted[n.ID],
		Kind:       f.Kind, Environment: f.Environment, Retries: f.retries(), Workers: f.Options.Workers,
		Calls: []AppliedCall{{FunctionID: id, Function: f, Operator: n.Op.Name(), Origin: n.Origin}},
	}
	tables, _ := tablesOf(n.Op)
	for i, name := range tables {
		a.Tables = append(a.Tables, AppliedTable{name, n.Inputs[i+1]})
	}
	n.Inputs = n.Inputs[:1]
	if names == nil {
		for i := range input.Schema.NumFields() {
			a.Columns = append(a.Columns, i)
		}
	} else if a.Columns, err = findColumns(input.Schema, names); err != nil {
		return err
	}
	crossing := make([]arrow.Field, len(a.Columns))
	for i, c := range a.Columns {
		crossing[i] = input.Schema.Field(c)
	}
	a.Crossing = arrow.NewSchema(crossing, nil)
	a.Result = arrow.NewSchema([]arrow.Field{{Name: ModelColumn, Type: arrow.BinaryTypes.LargeBinary}}, nil)
	if f.Kind != FitFunction {
		if a.Result, err = ParseSchema(f.Schema); err != nil {
			return err
		}
	}
	l.stage(n, a.Result, a)
	l.out.Results[n.ID].Name = f.Name
	return nil
}
