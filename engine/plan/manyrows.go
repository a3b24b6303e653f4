package plan

import (
	"fmt"
	"slices"

	"github.com/alink-runtime/alink/diag"
)

// The operators of functions that see or give more than one row.
type (
	// FlatMap applies a function of kind flat_map to each row; each gives any
	// number of rows. With Keep they stand behind the columns of the row that
	// they are from; then Outer keeps a row without results once, with NULLs.
	FlatMap struct {
		Function string `json:"function"`
		Args     []Expr `json:"args,omitempty"`
		Keep     bool   `json:"keep,omitempty"`
		Outer    bool   `json:"outer,omitempty"`
	}
	// MapGroups applies a function of kind map_groups to the named columns
	// (nil: all) of each group of rows with equal keys (no keys: the table is
	// one group). The groups come in the order of their keys, and the rows of
	// a group in the order of the input.
	MapGroups struct {
		Keys     []NamedExpr `json:"keys,omitempty"`
		Function string      `json:"function"`
		Columns  []string    `json:"columns,omitempty"`
	}
)

// Name implements Op.
func (FlatMap) Name() string { return "flat_map" }

// Name implements Op.
func (MapGroups) Name() string { return "map_groups" }

func (FlatMap) inputCount() int   { return 1 }
func (MapGroups) inputCount() int { return 1 }

func (p *Plan) validateFlatMap(op FlatMap) error {
	if op.Outer && !op.Keep {
		return fmt.Errorf("outer is for a flat_map that keeps the input's columns")
	}
	return p.requireFunction(op.Function, FlatMapFunction)
}

func (p *Plan) validateMapGroups(op MapGroups) error {
	if err := validateColumns(op.Columns); err != nil {
		return err
	}
	return p.requireFunction(op.Function, MapGroupsFunction)
}

func validateAggregateFunction(f *Function) error {
	if len(f.State) == 0 {
		return fmt.Errorf("an aggregate function needs a state of one field or more")
	}
	if _, err := ParseSchema(f.State); err != nil {
		return fmt.Errorf("its state: %w", err)
	}
	_, err := ParseType(f.Result)
	return err
}

// placeAggregates refuses aggregate functions anywhere but in the aggregates
// of an Aggregate, and within one another.
func (p *Plan) placeAggregates(n Node) error {
	refuse := func(e Expr, where string) error {
		if f := p.findAggregate(e); f != nil {
			return diag.New(diag.InvalidPlan, "%s is an aggregate function and cannot stand %s", f.Name, where).
				WithHint("use it in agg(…): t.group_by(…).agg(y=%s(…))", f.Name).At(n.Op.Name(), n.Origin)
		}
		return nil
	}
	aggregate, ok := n.Op.(Aggregate)
	if !ok {
		for _, e := range expressions(n.Op) {
			if err := refuse(e, "in "+n.Op.Name()); err != nil {
				return err
			}
		}
		return nil
	}
	for _, key := range aggregate.Keys {
		if err := refuse(key.Expr, "in a key of a group"); err != nil {
			return err
		}
	}
	for _, e := range aggregate.Aggregates {
		for _, call := range p.aggregateCalls(e.Expr) {
			for _, arg := range call.Args {
				if err := refuse(arg, "within another one"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// isAggregate reports whether e itself calls an aggregate function.
func (p *Plan) isAggregate(e Expr) bool {
	return e.Call != "" && p.Functions[e.Call].Kind == AggregateFunction
}

// aggregateCalls are the outermost calls of aggregate functions in e.
func (p *Plan) aggregateCalls(e Expr) []Expr {
	if p.isAggregate(e) {
		return []Expr{e}
	}
	var calls []Expr
	for _, arg := range e.Args {
		calls = append(calls, p.aggregateCalls(arg)...)
	}
	return calls
}

func (p *Plan) findAggregate(e Expr) *Function {
	if calls := p.aggregateCalls(e); len(calls) > 0 {
		return p.Functions[calls[0].Call]
	}
	return nil
}

// applyTable applies a flat_map function to columns; see FlatMap. Lower makes
// it; it has no JSON form, and neither have those that follow.
type applyTable struct {
	call        call
	keep, outer bool
}

// applyPartial makes the states of aggregate functions for the rows of each
// bundle that agree in the columns keys. Its result has the keys, under the
// names that keyNames gives them, and the states.
type applyPartial struct {
	keys, keyNames []string
	calls          []call
}

// applyMerge makes results of the states that applyPartial has made, once
// they are sorted and grouped.
type applyMerge struct {
	keys  int
	calls []call
}

// applyGroups applies a map_groups function to what groupRows gives.
type applyGroups struct{ function string }

// groupRows brings the rows that agree in the columns keys together, in the
// order of the keys, and numbers these groups; its result has the number, then
// columns (nil: all of the input's).
type groupRows struct {
	keys, columns []string
	operator      string
	// few is set where the function may take long for one group.
	few bool
}

// atLeastOne gives an empty batch for an input without rows.
type atLeastOne struct{}

// Name implements Op.
func (applyTable) Name() string { return FlatMap{}.Name() }

// Name implements Op.
func (applyPartial) Name() string { return Aggregate{}.Name() }

// Name implements Op.
func (applyMerge) Name() string { return Aggregate{}.Name() }

// Name implements Op.
func (applyGroups) Name() string { return MapGroups{}.Name() }

// Name implements Op.
func (g groupRows) Name() string { return g.operator }

// Name implements Op.
func (atLeastOne) Name() string { return Aggregate{}.Name() }

func (applyTable) inputCount() int   { return 1 }
func (applyPartial) inputCount() int { return 1 }
func (applyMerge) inputCount() int   { return 1 }
func (applyGroups) inputCount() int  { return 1 }
func (groupRows) inputCount() int    { return 1 }
func (atLeastOne) inputCount() int   { return 1 }

// computed collects expressions that have to be columns for what follows.
type computed struct {
	x     *extraction
	exprs []NamedExpr
}

// column gives the name of the column that e is, or will be.
func (c *computed) column(e Expr) string {
	if e.Column != nil {
		return *e.Column
	}
	name := c.x.name()
	c.exprs = append(c.exprs, NamedExpr{name, e})
	return name
}

// add appends a node that computes the expressions, if there are any.
func (c *computed) add(n Node, input string) string {
	if len(c.exprs) == 0 {
		return input
	}
	return c.x.add(n, input, Project{Keep: true, Exprs: c.exprs, operator: n.Op.Name()})
}

// flatMap appends the nodes of a FlatMap whose arguments hold no calls.
func (x *extraction) flatMap(n Node, op FlatMap, input string) {
	columns := computed{x: x}
	c := call{function: op.Function}
	for _, arg := range op.Args {
		c.args = append(c.args, columns.column(arg))
	}
	input = columns.add(n, input)
	x.nodes = append(x.nodes, Node{ID: n.ID, Inputs: []string{input}, Origin: n.Origin, Op: applyTable{c, op.Keep, op.Outer}})
}

// mapGroups appends the nodes of a MapGroups whose keys hold no calls.
func (x *extraction) mapGroups(n Node, op MapGroups, input string) {
	columns := computed{x: x}
	keys := make([]string, len(op.Keys))
	for i, key := range op.Keys {
		keys[i] = columns.column(key.Expr)
	}
	input = columns.add(n, input)
	if len(keys) > 0 && op.Columns != nil {
		input = x.add(n, input, selectColumns(slices.Concat(keys, op.Columns), n.Op.Name()))
	}
	input = x.add(n, input, groupRows{keys: keys, columns: op.Columns, operator: n.Op.Name(), few: true})
	x.nodes = append(x.nodes, Node{ID: n.ID, Inputs: []string{input}, Origin: n.Origin, Op: applyGroups{op.Function}})
}

// selectColumns picks columns by name, each once.
func selectColumns(names []string, operator string) Project {
	p := Project{operator: operator}
	seen := map[string]bool{}
	for _, name := range names {
		if !seen[Fold(name)] {
			seen[Fold(name)] = true
			p.Exprs = append(p.Exprs, NamedExpr{name, Column(name)})
		}
	}
	return p
}

func sortBy(columns []string) Sort {
	s := Sort{}
	for _, name := range columns {
		s.By = append(s.By, SortKey{Expr: Column(name)})
	}
	return s
}
