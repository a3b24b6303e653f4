package plan

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// Constant is an argument that is the same for every row. It crosses once, with
// the function.
type Constant struct {
	// Place is its place among the call's arguments.
	Place int
	// Value is a batch of one row and one column, as a stream of Arrow's IPC.
	Value []byte
}

// Bounds of what crosses once: a larger value stays a column, whose batches are
// cut by bytes. A function of whole columns gets a column of it all the same.
const (
	constantBytesMax       = 64 << 10
	columnConstantBytesMax = 1 << 10
)

// pushConstants gives the calls of functions of rows and columns their constant
// arguments, which extractCalls has made columns, as values.
func pushConstants(ctx context.Context, p *Plan, nodes []Node, typer Typer) ([]Node, error) {
	c := constants{typer: typer, exprs: map[string]Expr{}, values: map[string][]byte{}, taken: map[string]bool{}}
	for _, n := range nodes {
		if project, ok := n.Op.(Project); ok && project.Keep {
			for _, e := range project.Exprs {
				if strings.HasPrefix(e.Name, reservedPrefix) {
					c.exprs[e.Name] = e.Expr
				}
			}
		}
	}
	for i, n := range nodes {
		switch op := n.Op.(type) {
		case applyFunctions:
			op.calls = slices.Clone(op.calls)
			for k := range op.calls {
				if err := c.take(ctx, &op.calls[k], p.Functions[op.calls[k].function]); err != nil {
					return nil, located(err, n)
				}
			}
			nodes[i].Op = op
		case applyTable:
			if err := c.take(ctx, &op.call, p.Functions[op.call.function]); err != nil {
				return nil, located(err, n)
			}
			nodes[i].Op = op
		}
	}
	return c.without(nodes), nil
}

type constants struct {
	typer Typer
	// exprs are what lowering has made columns of, by their names.
	exprs map[string]Expr
	// values are those of the constant ones so far; nil is not constant.
	values map[string][]byte
	taken  map[string]bool
}

// take makes constants of the arguments of a call that are.
func (c *constants) take(ctx context.Context, call *call, f *Function) error {
	limit := columnConstantBytesMax
	if f.Kind == RowFunction || f.Kind == FlatMapFunction {
		limit = constantBytesMax
	}
	var columns []string
	for place, name := range call.args {
		value, err := c.value(ctx, name)
		if err != nil {
			return err
		}
		if value == nil || len(value) > limit {
			columns = append(columns, name)
			continue
		}
		call.constants = append(call.constants, Constant{place, value})
		c.taken[name] = true
	}
	call.args = columns
	return nil
}

func (c *constants) value(ctx context.Context, name string) ([]byte, error) {
	value, known := c.values[name]
	if known {
		return value, nil
	}
	if e, made := c.exprs[name]; made {
		constant, err := c.constant(ctx, e)
		if err != nil {
			return nil, err
		}
		if constant {
			// What cannot be computed stays a column: there need not be a row.
			value, _ = c.typer.Constant(ctx, e)
		}
	}
	c.values[name] = value
	return value, context.Cause(ctx)
}

// constant reports whether an expression is the same for every row.
func (c *constants) constant(ctx context.Context, e Expr) (bool, error) {
	if e.Column != nil || e.Call != "" {
		return false, nil
	}
	if e.SQL != "" {
		conjuncts, err := c.typer.Conjuncts(ctx, e.SQL)
		return err == nil && !slices.ContainsFunc(conjuncts, func(c Conjunct) bool { return !c.Movable || len(c.Columns) > 0 }), err
	}
	for _, arg := range e.Args {
		if ok, err := c.constant(ctx, arg); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// without leaves out the columns of constants. Each was made for one argument,
// so nobody reads them any more.
func (c *constants) without(nodes []Node) []Node {
	gone := map[string]string{}
	taken := func(name string) bool { return c.taken[name] }
	var out []Node
	for _, n := range nodes {
		n.Inputs = slices.Clone(n.Inputs)
		for i, id := range n.Inputs {
			n.Inputs[i] = cmp.Or(gone[id], id)
		}
		switch op := n.Op.(type) {
		case Project:
			left := slices.DeleteFunc(slices.Clone(op.Exprs), func(e NamedExpr) bool { return op.Keep && c.taken[e.Name] })
			if len(left) == 0 && len(op.Exprs) > 0 {
				gone[n.ID] = n.Inputs[0]
				continue
			}
			op.Exprs = left
			n.Op = op
		case Drop:
			op.Columns = slices.DeleteFunc(slices.Clone(op.Columns), taken)
			n.Op = op
		case arrange:
			op.drop = slices.DeleteFunc(slices.Clone(op.drop), taken)
			n.Op = op
		}
		out = append(out, n)
	}
	return out
}
