package plan

import (
	"context"
	"maps"
	"slices"
)

// Conjunct is one of the conditions that a SQL expression joins by AND.
type Conjunct struct {
	Text string
	// Columns are the names in it that may be columns.
	Columns []string
	// Movable says that it looks at one row only and is the same each time that
	// it is computed. Then Columns are all that it depends on.
	Movable bool
}

// Perhaps is the operator that is true unless its operand is known not to be:
// where that cannot be computed the row stays, for whoever computes it again to
// fail on. It has no JSON form.
const Perhaps = "perhaps"

// condition is a part of a filter's predicate on its way down.
type condition struct {
	expr    Expr
	columns []string
	// texts says that it has texts, in which columns cannot be renamed.
	texts bool
	// shallow says that another condition is looked at before this one as the
	// user wrote it, but would not be where this is moved to: there it must not
	// fail, and it stays where it was as well.
	shallow bool
}

// filters moves what filters look at below functions; see pushFilters.
type filters struct {
	plan      *Plan
	typer     Typer
	nodes     []Node
	at        map[string]int
	consumers map[string]int
	// below are the conditions that go right below a node, above those of
	// before.
	below map[string][]*moved
	gone  map[string]string
}

// moved is a filter that is made of parts of another.
type moved struct {
	origin    Node
	condition Expr
}

// pushFilters moves what filters look at below the functions of columns that
// stand before them, as far as it does not depend on these: so the functions are
// not called for rows that are dropped anyway. What a function is called for
// shows where it is not deterministic, and where rows on which it fails are kept
// aside; filters stay above these.
//
// Errors disappear by that, but none appears: a condition that the user wrote
// behind another one, which it may rely on, goes down as one that cannot fail,
// and stays where it was besides.
func pushFilters(ctx context.Context, p *Plan, nodes []Node, typer Typer) ([]Node, error) {
	f := &filters{plan: p, typer: typer, nodes: nodes, at: map[string]int{}, consumers: map[string]int{}, below: map[string][]*moved{}, gone: map[string]string{}}
	for i, n := range nodes {
		f.at[n.ID] = i
		for _, id := range n.Inputs {
			f.consumers[id]++
		}
	}
	for i := range nodes {
		if filter, ok := nodes[i].Op.(Filter); ok {
			if err := f.push(ctx, i, filter.Predicate); err != nil {
				return nil, located(err, nodes[i])
			}
		}
	}
	return f.rebuilt(), nil
}

// push moves parts of the predicate of the filter at i.
func (f *filters) push(ctx context.Context, i int, predicate Expr) error {
	if f.consumers[f.nodes[i].Inputs[0]] != 1 || !f.belowFunctions(i) {
		return nil
	}
	parts, err := f.conditions(ctx, predicate)
	if err != nil {
		return err
	}
	var rest []Expr
	deepest := 0 // how far all conditions so far have gone
	for k, part := range parts {
		place, depth := "", 0
		sunk := part
		if part.columns != nil {
			if place, depth, sunk, err = f.sink(ctx, i, part); err != nil {
				return err
			}
		}
		if k == 0 || depth < deepest {
			deepest = depth
		}
		if place == "" {
			rest = append(rest, part.expr)
			continue
		}
		if depth > deepest || sunk.shallow {
			rest = append(rest, part.expr)
			sunk.expr = Apply(Perhaps, sunk.expr)
		}
		f.below[place] = append(f.below[place], &moved{f.nodes[i], sunk.expr})
	}
	n := &f.nodes[i]
	switch {
	case len(rest) == len(parts):
	case len(rest) == 0:
		f.gone[n.ID] = n.Inputs[0]
	default:
		n.Op = Filter{Predicate: all(rest)}
	}
	return nil
}

// belowFunctions reports whether a function of columns stands somewhere before
// the node at i, with nothing between but what a filter might pass.
func (f *filters) belowFunctions(i int) bool {
	for id := f.nodes[i].Inputs[0]; f.consumers[id] == 1; id = f.nodes[f.at[id]].Inputs[0] {
		switch f.nodes[f.at[id]].Op.(type) {
		case applyFunctions:
			return true
		case arrange, Drop, Rename, Project, Filter:
		default:
			return false
		}
	}
	return false
}

// conditions cuts a predicate at its ANDs. Those that must stay have no columns.
func (f *filters) conditions(ctx context.Context, e Expr) (parts []condition, err error) {
	if e.Op == "and" {
		for _, arg := range e.Args {
			more, err := f.conditions(ctx, arg)
			if err != nil {
				return nil, err
			}
			parts = append(parts, more...)
		}
		return parts, nil
	}
	if e.SQL != "" {
		conjuncts, err := f.typer.Conjuncts(ctx, e.SQL)
		for _, c := range conjuncts {
			part := condition{expr: SQL(c.Text), texts: true}
			if c.Movable {
				part.columns = c.Columns
			}
			parts = append(parts, part)
		}
		return parts, err
	}
	part := condition{expr: e}
	movable := true
	var visit func(e Expr) error
	visit = func(e Expr) error {
		if e.Column != nil {
			part.columns = append(part.columns, *e.Column)
		}
		if e.SQL != "" {
			conjuncts, err := f.typer.Conjuncts(ctx, e.SQL)
			if err != nil {
				return err
			}
			for _, c := range conjuncts {
				part.columns, part.texts, movable = append(part.columns, c.Columns...), true, movable && c.Movable
			}
		}
		for _, arg := range e.Args {
			if err := visit(arg); err != nil {
				return err
			}
		}
		return nil
	}
	err = visit(e)
	if !movable {
		part.columns = nil
	}
	return []condition{part}, err
}

// sink finds the lowest function that a condition of the filter at i can be
// looked at before. place is its node, "" where there is none, depth the number
// of functions that are passed, sunk the condition in terms of the columns there.
func (f *filters) sink(ctx context.Context, i int, c condition) (place string, depth int, sunk condition, err error) {
	for id := f.nodes[i].Inputs[0]; f.consumers[id] == 1; id = f.nodes[f.at[id]].Inputs[0] {
		n := f.nodes[f.at[id]]
		ok := true
		switch op := n.Op.(type) {
		case applyFunctions:
			if ok = f.passes(op, c); ok {
				depth++
				place, sunk = id, c
				c.shallow = c.shallow || len(f.below[id]) > 0
			}
		case Filter:
			if f.gone[id] == "" {
				c.shallow = true
			}
		case arrange:
			c, ok = op.before(c)
		case Drop, Rename:
			c, ok = asArrange(op).before(c)
		case Project:
			if ok, err = rowByRow(ctx, op, f.typer); ok {
				c, ok = op.before(c)
			}
		default:
			ok = false
		}
		if !ok || err != nil {
			break
		}
	}
	return place, depth, sunk, err
}

// passes reports whether nobody can tell whether the condition is looked at
// before the functions or after.
func (f *filters) passes(op applyFunctions, c condition) bool {
	if op.drops {
		return false
	}
	for _, call := range op.calls {
		if f.plan.Functions[call.function].Options.Nondeterministic || slices.ContainsFunc(c.columns, named(call.output)) {
			return false
		}
	}
	return true
}

func named(name string) func(string) bool {
	folded := Fold(name)
	return func(other string) bool { return Fold(other) == folded }
}

// before gives the condition in terms of the columns that a puts in order; ok is
// false if it cannot be said in them.
func (a arrange) before(c condition) (_ condition, ok bool) {
	return c.in(func(name string) (string, bool) {
		is := named(name)
		for _, column := range slices.Backward(a.columns) {
			if is(column.name) {
				return column.of, true
			}
		}
		for from, to := range a.rename {
			if is(to) {
				return from, true
			}
		}
		return name, a.keep && !slices.ContainsFunc(slices.Collect(maps.Keys(a.rename)), is) && !slices.ContainsFunc(a.drop, is)
	})
}

// before is as that of arrange; ok is also false where the condition depends on
// what p computes.
func (p Project) before(c condition) (_ condition, ok bool) {
	return c.in(func(name string) (string, bool) {
		is := named(name)
		for _, e := range slices.Backward(p.Exprs) {
			switch {
			case !is(e.Name):
			case e.Expr.Column == nil:
				return "", false
			default:
				return *e.Expr.Column, true
			}
		}
		return name, p.Keep
	})
}

// in gives the condition with other names for its columns; ok is false where a
// column has none, or stands in a text under another.
func (c condition) in(source func(string) (string, bool)) (_ condition, ok bool) {
	names := map[string]string{}
	columns := make([]string, len(c.columns))
	for i, name := range c.columns {
		of, ok := source(name)
		if !ok || c.texts && Fold(of) != Fold(name) {
			return c, false
		}
		columns[i], names[name] = of, of
	}
	c.columns, c.expr = columns, c.expr.renamed(names)
	return c, true
}

// renamed gives e with other names for its columns.
func (e Expr) renamed(names map[string]string) Expr {
	if e.Column != nil {
		return Column(names[*e.Column])
	}
	e.Args = slices.Clone(e.Args)
	for i := range e.Args {
		e.Args[i] = e.Args[i].renamed(names)
	}
	return e
}

// all joins conditions by AND.
func all(conditions []Expr) Expr {
	whole := conditions[0]
	for _, c := range conditions[1:] {
		whole = Apply("and", whole, c)
	}
	return whole
}

// rebuilt are the nodes with the filters in their new places.
func (f *filters) rebuilt() []Node {
	out := make([]Node, 0, len(f.nodes)+len(f.below))
	for _, n := range f.nodes {
		if f.gone[n.ID] != "" {
			continue
		}
		n.Inputs = slices.Clone(n.Inputs)
		for i, id := range n.Inputs {
			for f.gone[id] != "" {
				id = f.gone[id]
			}
			n.Inputs[i] = id
		}
		if parts := f.below[n.ID]; len(parts) > 0 {
			exprs := make([]Expr, len(parts))
			for i, part := range parts {
				exprs[i] = part.condition
			}
			filter := Node{ID: n.ID + ".filter", Inputs: n.Inputs, Origin: parts[0].origin.Origin, Op: Filter{Predicate: all(exprs), moved: true}}
			out = append(out, filter)
			n.Inputs = []string{filter.ID}
		}
		out = append(out, n)
	}
	return out
}
