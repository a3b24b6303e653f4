package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// applyFunctions adds, behind the columns of its input, a column for each
// call. Lower makes it; it has no JSON form.
type applyFunctions struct {
	calls    []call
	operator string
	// drops says that rows on which a function fails are left out.
	drops bool
}

// call is a function applied to columns, with constants between, and the name
// of the result.
type call struct {
	function  string
	args      []string
	constants []Constant
	output    string
}

// Name implements Op.
func (a applyFunctions) Name() string  { return a.operator }
func (applyFunctions) inputCount() int { return 1 }

// arrange puts columns in another order or under other names. Lower makes it
// of projections that compute nothing; it costs nothing per row.
type arrange struct {
	// keep passes on all columns but those in drop; columns then replace
	// those of the same name in their place, or come behind.
	keep     bool
	drop     []string
	rename   map[string]string
	columns  []column
	operator string
}

type column struct{ name, of string }

// Name implements Op.
func (a arrange) Name() string  { return a.operator }
func (arrange) inputCount() int { return 1 }

// extraction takes the calls of Python functions out of expressions: each
// becomes a column that a node before computes, so that what is left of the
// expression is relational.
type extraction struct {
	plan  *Plan
	nodes []Node
	// columns counts the columns made.
	columns int
}

func extractCalls(p *Plan) []Node {
	x := extraction{plan: p}
	for _, n := range p.Nodes {
		x.node(n)
	}
	return x.nodes
}

func (x *extraction) name() string {
	x.columns++
	return fmt.Sprintf("%s%d", reservedPrefix, x.columns)
}

// add appends a node that reads the result of input and returns its ID.
func (x *extraction) add(origin Node, input string, op Op) string {
	id := fmt.Sprintf("%s.%d", origin.ID, len(x.nodes))
	x.nodes = append(x.nodes, Node{ID: id, Inputs: []string{input}, Origin: origin.Origin, Op: op})
	return id
}

func (x *extraction) node(n Node) {
	if op, ok := n.Op.(Aggregate); ok && slices.ContainsFunc(op.Aggregates, func(e NamedExpr) bool { return e.Expr.HasCall() }) {
		x.aggregate(n, op)
		return
	}
	op, before := n.Op, x.columns
	var input string
	for {
		ready := readyCalls(expressions(op))
		if len(ready) == 0 {
			break
		}
		if input == "" {
			input = n.Inputs[0]
		}
		input = x.level(n, input, ready)
		op = mapExpressions(op, func(e Expr) Expr { return replaceCalls(e, ready) })
	}
	switch op := op.(type) {
	case FlatMap:
		x.flatMap(n, op, cmp.Or(input, n.Inputs[0]))
		return
	case MapGroups:
		x.mapGroups(n, op, cmp.Or(input, n.Inputs[0]))
		return
	}
	if input == "" {
		x.nodes = append(x.nodes, n)
		return
	}
	made := make([]string, 0, x.columns-before)
	for i := before + 1; i <= x.columns; i++ {
		made = append(made, fmt.Sprintf("%s%d", reservedPrefix, i))
	}
	x.rest(n, op, input, made)
}

// rest appends what is left of a node once its calls are columns.
func (x *extraction) rest(n Node, op Op, input string, made []string) {
	last := func(op Op, input string) {
		x.nodes = append(x.nodes, Node{ID: n.ID, Inputs: []string{input}, Origin: n.Origin, Op: op})
	}
	project, isProject := op.(Project)
	columns, plain := plainColumns(project)
	switch {
	case isProject && plain:
		drop := made
		if !project.Keep {
			drop = nil
		}
		last(arrange{keep: project.Keep, drop: drop, columns: columns, operator: op.Name()}, input)
	case isProject && project.Keep, isRowwise(op):
		last(Drop{Columns: made}, x.add(n, input, op))
	default:
		last(op, input)
	}
}

// isRowwise reports whether op passes on all columns of its input.
func isRowwise(op Op) bool {
	switch op.(type) {
	case Filter, Sort:
		return true
	}
	return false
}

// plainColumns gives a projection's expressions if all of them are columns.
func plainColumns(p Project) ([]column, bool) {
	columns := make([]column, len(p.Exprs))
	for i, e := range p.Exprs {
		if e.Expr.Column == nil {
			return nil, false
		}
		columns[i] = column{e.Name, *e.Expr.Column}
	}
	return columns, true
}

// level makes nodes for calls whose arguments hold no calls, notes the column
// that each becomes, and returns the last node made.
func (x *extraction) level(n Node, input string, ready map[string]*readyCall) string {
	var computed []NamedExpr
	byEnvironment := map[string][]call{}
	for _, key := range slices.Sorted(maps.Keys(ready)) {
		r := ready[key]
		c := call{function: r.expr.Call}
		for _, arg := range r.expr.Args {
			if arg.Column != nil {
				c.args = append(c.args, *arg.Column)
				continue
			}
			name := x.name()
			computed = append(computed, NamedExpr{name, arg})
			c.args = append(c.args, name)
		}
		c.output = x.name()
		r.output = c.output
		group := x.group(r.expr.Call, key)
		byEnvironment[group] = append(byEnvironment[group], c)
	}
	if len(computed) > 0 {
		input = x.add(n, input, Project{Keep: true, Exprs: computed, operator: n.Op.Name()})
	}
	for _, group := range slices.Sorted(maps.Keys(byEnvironment)) {
		calls := byEnvironment[group]
		drops := x.plan.Functions[calls[0].function].Options.OnError == OnErrorDeadLetter
		input = x.add(n, input, applyFunctions{calls, n.Op.Name(), drops})
	}
	return input
}

// group names what the calls of one node must have in common: they cross to
// the same worker, run as often after a failure and on as many workers. A call that may fail on a row, or must not be made
// twice for one, is by itself: what happens to it is no other's business.
func (x *extraction) group(function, call string) string {
	f := x.plan.Functions[function]
	group := fmt.Sprintf("%s/%d/%d/%d/%s", f.Environment, f.retries(), f.Options.ExceptionRetries, f.Options.Workers, f.WorkerKey())
	if f.alone() {
		group += "/" + call
	}
	return group
}

// alone reports whether the function crosses to workers without others.
func (f *Function) alone() bool { return f.Options.OnError.Tolerant() || f.Options.Nondeterministic }

func (f *Function) retries() int {
	if f.Options.Retries == nil {
		return RetriesDefault
	}
	return *f.Options.Retries
}

// readyCall is a call whose arguments hold no calls, by its JSON form: equal
// calls are made once.
type readyCall struct {
	expr   Expr
	output string
}

func callKey(e Expr) string {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an Expr was read from JSON or made of strings
	}
	return string(b)
}

func isReady(e Expr) bool {
	return e.Call != "" && !slices.ContainsFunc(e.Args, Expr.HasCall)
}

func readyCalls(exprs []Expr) map[string]*readyCall {
	ready := map[string]*readyCall{}
	var visit func(e Expr)
	visit = func(e Expr) {
		if isReady(e) {
			ready[callKey(e)] = &readyCall{expr: e}
			return
		}
		for _, arg := range e.Args {
			visit(arg)
		}
	}
	for _, e := range exprs {
		visit(e)
	}
	return ready
}

// replaceCalls gives e with the columns of ready in the place of their calls.
func replaceCalls(e Expr, ready map[string]*readyCall) Expr {
	if isReady(e) {
		return Column(ready[callKey(e)].output)
	}
	e.Args = slices.Clone(e.Args)
	for i := range e.Args {
		e.Args[i] = replaceCalls(e.Args[i], ready)
	}
	return e
}
