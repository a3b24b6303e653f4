package plan

import (
	"fmt"
	"maps"
	"slices"
)

// An Aggregate whose aggregates call Python functions becomes several nodes:
//
//	input ─ arguments and keys as columns ─┬─ builtin aggregates (DuckDB) ──────────────────────────────────┐
//	                                       ├─ partial states (workers) ─ groups by keys ─ merge (workers) ───┤
//	                                       └─ … the same for the functions of another environment ──────────┤
//	                                                     join on the keys ─ what is computed of the results ┘
//
// Within an aggregate function's arguments a row function is applied to rows;
// outside of them it is applied to what has been aggregated, as in SQL.
type aggregation struct {
	x    *extraction
	node Node
	// keys are the columns that are grouped by, keyNames their names in every
	// branch.
	keys, keyNames []string
	// functions are the calls of aggregate functions, by their JSON form, and
	// builtins the parts of the expressions without calls.
	functions map[string]*readyCall
	builtins  map[string]*NamedExpr
	order     []string // of builtins
}

// aggregate appends the nodes of an Aggregate.
func (x *extraction) aggregate(n Node, op Aggregate) {
	a := &aggregation{x: x, node: n, functions: map[string]*readyCall{}, builtins: map[string]*NamedExpr{}}
	final := Project{operator: n.Op.Name()}
	results := make([]NamedExpr, len(op.Aggregates))
	for i, e := range op.Aggregates {
		results[i] = NamedExpr{e.Name, a.split(e.Expr)}
	}
	input, keys := a.prepare(op.Keys)
	for i, key := range op.Keys {
		final.Exprs = append(final.Exprs, NamedExpr{key.Name, Column(keys[i])})
	}
	final.Exprs = append(final.Exprs, results...)
	x.node(Node{ID: n.ID, Inputs: []string{a.branches(input)}, Origin: n.Origin, Op: final})
}

// split gives e with columns in the place of what is aggregated.
func (a *aggregation) split(e Expr) Expr {
	switch {
	case a.x.plan.isAggregate(e):
		key := callKey(e)
		if a.functions[key] == nil {
			a.functions[key] = &readyCall{expr: e, output: a.x.name()}
		}
		return Column(a.functions[key].output)
	case e.Literal != nil:
		return e
	case !e.HasCall():
		key := callKey(e)
		if a.builtins[key] == nil {
			a.builtins[key] = &NamedExpr{a.x.name(), e}
			a.order = append(a.order, key)
		}
		return Column(a.builtins[key].Name)
	}
	e.Args = slices.Clone(e.Args)
	for i := range e.Args {
		e.Args[i] = a.split(e.Args[i])
	}
	return e
}

// prepare makes columns of the keys and of the arguments of the aggregate
// functions, and gives the node with them and the names of the keys.
func (a *aggregation) prepare(keys []NamedExpr) (input string, names []string) {
	var exprs []*Expr
	for _, key := range keys {
		e := key.Expr
		exprs = append(exprs, &e)
	}
	ordered := slices.Sorted(maps.Keys(a.functions))
	for _, id := range ordered {
		f := a.functions[id]
		f.expr.Args = slices.Clone(f.expr.Args)
		for i := range f.expr.Args {
			exprs = append(exprs, &f.expr.Args[i])
		}
	}
	input = a.x.levels(a.node, a.node.Inputs[0], exprs)
	columns := computed{x: a.x}
	for i, e := range exprs {
		name := columns.column(*e)
		*e = Column(name)
		if i < len(keys) {
			a.keys = append(a.keys, name)
			a.keyNames = append(a.keyNames, a.x.name())
		}
	}
	return columns.add(a.node, input), a.keyNames
}

// levels takes the calls out of expressions, the innermost first, and gives
// the last node that computes them.
func (x *extraction) levels(n Node, input string, exprs []*Expr) string {
	for {
		plain := make([]Expr, len(exprs))
		for i, e := range exprs {
			plain[i] = *e
		}
		ready := readyCalls(plain)
		if len(ready) == 0 {
			return input
		}
		input = x.level(n, input, ready)
		for _, e := range exprs {
			*e = replaceCalls(*e, ready)
		}
	}
}

// branches appends the nodes that aggregate, and gives the one that joins
// their results.
func (a *aggregation) branches(input string) string {
	groups := map[string][]call{}
	for _, id := range slices.Sorted(maps.Keys(a.functions)) {
		f := a.functions[id]
		c := call{function: f.expr.Call, output: f.output}
		for _, arg := range f.expr.Args {
			c.args = append(c.args, *arg.Column)
		}
		group := a.x.group(c.function, id)
		groups[group] = append(groups[group], c)
	}
	var branches []string
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		branches = append(branches, a.functionBranch(input, groups[group]))
	}
	if len(branches)+len(a.order)+len(a.keys) == 0 { // one row, of nothing but constants
		a.split(SQL("count(*)"))
	}
	if len(a.order) > 0 || len(branches) == 0 {
		branches = append(branches, a.builtinBranch(input))
	}
	join := Join{How: Cross}
	for _, name := range a.keyNames {
		join.On = append(join.On, JoinKey{name, name})
		join.How, join.NullsEqual = Inner, true
	}
	whole := branches[0]
	for _, branch := range branches[1:] {
		whole = a.join(whole, branch, join)
	}
	return whole
}

func (a *aggregation) join(left, right string, op Join) string {
	id := fmt.Sprintf("%s.%d", a.node.ID, len(a.x.nodes))
	a.x.nodes = append(a.x.nodes, Node{ID: id, Inputs: []string{left, right}, Origin: a.node.Origin, Op: op})
	return id
}

func (a *aggregation) builtinBranch(input string) string {
	op := Aggregate{}
	for i, name := range a.keyNames {
		op.Keys = append(op.Keys, NamedExpr{name, Column(a.keys[i])})
	}
	for _, key := range a.order {
		op.Aggregates = append(op.Aggregates, *a.builtins[key])
	}
	return a.x.add(a.node, input, op)
}

// functionBranch appends the nodes of aggregate functions that cross together.
func (a *aggregation) functionBranch(input string, calls []call) string {
	if len(a.keys) == 0 {
		input = a.x.add(a.node, input, atLeastOne{})
	}
	input = a.x.add(a.node, input, applyPartial{a.keys, a.keyNames, calls})
	input = a.x.add(a.node, input, groupRows{keys: a.keyNames, operator: a.node.Op.Name()})
	return a.x.add(a.node, input, applyMerge{len(a.keys), calls})
}
