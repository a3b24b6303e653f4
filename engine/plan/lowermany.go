package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/apache/arrow-go/v18/arrow"
)

// Columns that lowering makes for functions that see or give more than one
// row.
const (
	// RowColumn is the row of the input that a row of a flat_map's result is
	// from, counted within the bundle.
	RowColumn = reservedPrefix + "row"
	// GroupColumn is the number of a row's group.
	GroupColumn = reservedPrefix + "group"
)

// GroupNumber is the type of GroupColumn: a group takes a run, whatever rows it
// has, and the worker finds the groups without a look at each row.
var GroupNumber = arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64)

// MergeStates is the Kind of an Application that makes results of the states
// of aggregate functions. No function of a plan is of this kind.
const MergeStates FunctionKind = "merge"

// Grouping numbers the groups of neighbouring rows that agree in Keys, columns
// of the input. The number stands before Columns of the input. Few is set where
// few groups should go together, because the function may take long for one.
// With Sort equal keys need not be neighbours: the groups come in the order of
// their keys, the rows of each in the order of the input.
type Grouping struct {
	Keys    []int
	Columns []int
	Few     bool
	Sort    bool
}

// AtLeastOne gives an empty batch for an input without rows.
type AtLeastOne struct{}

// manyRows makes the stages of functions that see or give more than one row.
func (l *lowering) manyRows(ctx context.Context, n Node) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	switch op := n.Op.(type) {
	case applyTable:
		return l.applyTable(n, op, input.Schema)
	case applyPartial:
		return l.applyPartial(n, op, input.Schema)
	case applyMerge:
		return l.applyMerge(n, op, input.Schema)
	case applyGroups:
		return l.applyGroups(n, op, input.Schema)
	case groupRows:
		return l.groupRows(ctx, n, op, input.Schema)
	}
	l.stage(n, input.Schema, AtLeastOne{})
	return nil
}

func (l *lowering) applyTable(n Node, op applyTable, input *arrow.Schema) error {
	a := &Application{Kind: FlatMapFunction, Outer: op.outer, RowsWanted: l.wanted[n.ID]}
	cross := crossing{from: input}
	applied, err := l.call(n, op.call, &cross)
	if err != nil {
		return err
	}
	a.Calls = []AppliedCall{applied}
	schema, err := ParseSchema(applied.Function.Schema)
	if err != nil {
		return err
	}
	a.complete(cross, slices.Concat([]arrow.Field{{Name: RowColumn, Type: arrow.PrimitiveTypes.Int64}}, schema.Fields()))
	var fields []arrow.Field
	if op.keep {
		a.Kept, fields = visibleColumns(input)
	}
	for _, f := range schema.Fields() {
		if slices.ContainsFunc(fields, func(kept arrow.Field) bool { return Fold(kept.Name) == Fold(f.Name) }) {
			return diag.New(diag.InvalidPlan, "both the table and the results of %s have a column %q", applied.Function.Name, f.Name).
				WithHint("rename the table's column before, or let the function give another name")
		}
	}
	l.stage(n, arrow.NewSchema(slices.Concat(fields, schema.Fields()), nil), a)
	l.out.Results[n.ID].Name = applicationName(a)
	return nil
}

// VisibleColumns are the columns of a stage's result that lowering has not made,
// and their schema.
func VisibleColumns(schema *arrow.Schema) (columns []int, visible *arrow.Schema) {
	columns, fields := visibleColumns(schema)
	return columns, arrow.NewSchema(fields, nil)
}

// visibleColumns are the columns that lowering has not made.
func visibleColumns(schema *arrow.Schema) (columns []int, fields []arrow.Field) {
	for i, f := range schema.Fields() {
		if !strings.HasPrefix(f.Name, reservedPrefix) {
			columns, fields = append(columns, i), append(fields, f)
		}
	}
	return columns, fields
}

func (l *lowering) applyPartial(n Node, op applyPartial, input *arrow.Schema) error {
	a := &Application{Kind: AggregateFunction, Keys: len(op.keys)}
	cross := crossing{from: input}
	keys, err := findColumns(input, op.keys)
	if err != nil {
		return err
	}
	var results []arrow.Field
	for i, key := range keys {
		cross.append(key) // two keys may be the same column
		f := input.Field(key)
		f.Name = op.keyNames[i]
		results = append(results, f)
	}
	for i, c := range op.calls {
		applied, err := l.call(n, c, &cross)
		if err != nil {
			return err
		}
		if applied.State, err = ParseSchema(applied.Function.State); err != nil {
			return err
		}
		for j, f := range applied.State.Fields() {
			f.Name = fmt.Sprintf("%ss%d_%d", reservedPrefix, i, j)
			results = append(results, f)
		}
		a.Calls = append(a.Calls, applied)
	}
	a.complete(cross, results)
	l.stage(n, a.Result, a)
	l.out.Results[n.ID].Name = applicationName(a)
	return nil
}

// applyMerge reads the number of the group, the keys and the states.
func (l *lowering) applyMerge(n Node, op applyMerge, input *arrow.Schema) error {
	a := &Application{Kind: MergeStates, Keys: op.keys}
	cross := crossing{from: input}
	for column := range input.NumFields() {
		cross.append(column)
	}
	results := slices.Clone(input.Fields()[1 : 1+op.keys])
	state := 1 + op.keys
	for _, c := range op.calls {
		applied := AppliedCall{FunctionID: c.function, Function: l.plan.Functions[c.function], Operator: n.Op.Name(), Origin: n.Origin}
		var err error
		if applied.State, err = ParseSchema(applied.Function.State); err != nil {
			return err
		}
		for range applied.State.NumFields() {
			applied.Args = append(applied.Args, state)
			state++
		}
		result, err := ParseType(applied.Function.Result)
		if err != nil {
			return err
		}
		results = append(results, arrow.Field{Name: c.output, Type: result, Nullable: true})
		a.Calls = append(a.Calls, applied)
	}
	a.complete(cross, results)
	l.stage(n, a.Result, a)
	l.out.Results[n.ID].Name = applicationName(a) + " (merge)"
	return nil
}

func (l *lowering) applyGroups(n Node, op applyGroups, input *arrow.Schema) error {
	f := l.plan.Functions[op.function]
	a := &Application{Kind: MapGroupsFunction}
	cross := crossing{from: input}
	applied := AppliedCall{FunctionID: op.function, Function: f, Operator: n.Op.Name(), Origin: n.Origin}
	cross.append(0)
	for column := 1; column < input.NumFields(); column++ {
		applied.Args = append(applied.Args, cross.append(column))
	}
	a.Calls = []AppliedCall{applied}
	schema, err := ParseSchema(f.Schema)
	if err != nil {
		return err
	}
	a.complete(cross, schema.Fields())
	l.stage(n, a.Result, a)
	l.out.Results[n.ID].Name = f.Name
	return nil
}

func (l *lowering) groupRows(ctx context.Context, n Node, op groupRows, input *arrow.Schema) error {
	g := &Grouping{Few: op.few, Sort: len(op.keys) > 0}
	var err error
	if g.Sort {
		// The relational engine may have to sort all rows, so it says what they
		// are then, or what is wrong with them.
		sorted := Node{ID: n.ID, Inputs: n.Inputs, Origin: n.Origin, Op: sortBy(op.keys)}
		if input, err = l.typer.Describe(ctx, &Relation{ID: n.ID, Inputs: []RelationInput{{Node: n.Inputs[0], Schema: input}}, Nodes: []Node{sorted}}); err != nil {
			return err
		}
	}
	if g.Keys, err = findColumns(input, op.keys); err != nil {
		return err
	}
	switch {
	case op.columns != nil:
		g.Columns, err = findColumns(input, op.columns)
	case op.few:
		g.Columns, _ = visibleColumns(input)
	default:
		for column := range input.NumFields() {
			g.Columns = append(g.Columns, column)
		}
	}
	if err != nil {
		return err
	}
	fields := []arrow.Field{{Name: GroupColumn, Type: GroupNumber}}
	for _, column := range g.Columns {
		fields = append(fields, input.Field(column))
	}
	l.stage(n, arrow.NewSchema(fields, nil), g)
	l.out.Results[n.ID].Name = "groups"
	return nil
}
