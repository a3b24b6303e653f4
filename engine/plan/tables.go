package plan

import (
	"context"
	"fmt"
	"slices"
	"unicode"

	"github.com/alink-runtime/alink/diag"
)

// MapTable runs a function of kind map_table over the named columns (nil: all)
// of its whole first input, in one worker. Tables are as in MapBatches.
type MapTable struct {
	Function string   `json:"function"`
	Columns  []string `json:"columns,omitempty"`
	Tables   []string `json:"tables,omitempty"`
}

// Name implements Op.
func (MapTable) Name() string { return "map_table" }

func (m MapTable) inputCount() int { return 1 + len(m.Tables) }

// Train runs a function of kind train over the named columns (nil: all) of its
// whole input, in workers that share the rows.
type Train struct {
	Function string   `json:"function"`
	Columns  []string `json:"columns,omitempty"`
}

// Name implements Op.
func (Train) Name() string { return "train" }

func (Train) inputCount() int { return 1 }

// tablesMax is the largest number of tables that a function gets whole.
const tablesMax = 16

// sideTable reads its input to the end for the function of a node, which gets
// it whole under a name. Lower puts it before the node.
type sideTable struct{ name, function, operator string }

// Name implements Op: it is part of the user's step.
func (s sideTable) Name() string { return s.operator }

func (sideTable) inputCount() int { return 1 }

// SideTable is the work of a stage that keeps its input for the functions of
// the stages which name it; see Application.Tables.
type SideTable struct{ Name, Function string }

// AppliedTable is a table that a function gets whole, as the keyword argument
// Name: what the stage of that ID has kept.
type AppliedTable struct{ Name, Stage string }

// tablesOf are the names of the tables that the function of op gets whole; they
// are the inputs of its node behind the first.
func tablesOf(op Op) (names []string, function string) {
	switch op := op.(type) {
	case MapBatches:
		return op.Tables, op.Function
	case MapTable:
		return op.Tables, op.Function
	}
	return nil, ""
}

// validateTables checks the names under which a function gets tables.
func (p *Plan) validateTables(op Op) error {
	names, id := tablesOf(op)
	f := p.Functions[id]
	if len(names) > tablesMax {
		return fmt.Errorf("%s cannot get %d tables; the limit is %d", f.Name, len(names), tablesMax)
	}
	for i, name := range names {
		_, model := f.Models[name]
		switch {
		case !isIdentifier(name):
			return fmt.Errorf("a table of %s is named %q, which cannot be a parameter", f.Name, name)
		case slices.Contains(names[:i], name):
			return fmt.Errorf("two tables of %s are named %q", f.Name, name)
		case model:
			return fmt.Errorf("%s has a model and a table that are both named %q", f.Name, name)
		case len(f.Parameters) > 0 && f.Parameters[0] == name:
			return fmt.Errorf("the parameter %q of %s gets the rows of the input, and no table", name, f.Name)
		}
	}
	return nil
}

// isIdentifier reports whether a text can be the name of a Python parameter.
func isIdentifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r) && !unicode.IsMark(r)) {
			return false
		}
	}
	return name != ""
}

// separateTables puts a sideTable before each table that a function gets whole.
//
// Such a table is complete before the function's first batch, so where both
// come from one stream, whose readers must not wait for each other, the steps
// below the table are there twice. So they are in a job with checkpoints, which
// reads such tables anew at each start: apart gives the nodes that only do that.
func separateTables(nodes []Node) (out []Node, apart map[string]bool, err error) {
	again := checkpointed(nodes)
	apart = map[string]bool{}
	for _, n := range nodes {
		names, function := tablesOf(n.Op)
		n.Inputs = slices.Clone(n.Inputs)
		for i, name := range names {
			side := Node{
				ID: n.ID + ".table." + name, Inputs: []string{n.Inputs[i+1]}, Origin: n.Origin,
				Op: sideTable{name, function, n.Op.Name()},
			}
			below := feeding(out, side)
			if again || slices.ContainsFunc(below, startsStream) {
				for _, b := range below {
					b.ID = side.ID + "." + b.ID
					b.Inputs = slices.Clone(b.Inputs)
					for j := range b.Inputs {
						b.Inputs[j] = side.ID + "." + b.Inputs[j]
					}
					apart[b.ID] = true
					out = append(out, b)
				}
				side.Inputs = []string{side.ID + "." + side.Inputs[0]}
			}
			out = append(out, side)
			n.Inputs[i+1] = side.ID
		}
		out = append(out, n)
		if len(out) > nodesMax {
			return nil, nil, diag.New(diag.InvalidPlan, "with the tables of its functions the plan has more than %d nodes", nodesMax)
		}
	}
	return out, apart, nil
}

// feeding are the nodes that n depends on, in their order.
func feeding(nodes []Node, n Node) []Node {
	needed := map[string]bool{}
	for _, id := range n.Inputs {
		needed[id] = true
	}
	var out []Node
	for _, before := range slices.Backward(nodes) {
		if !needed[before.ID] {
			continue
		}
		for _, id := range before.Inputs {
			needed[id] = true
		}
		out = append(out, before)
	}
	slices.Reverse(out)
	return out
}

// startsStream reports whether watermarks flow out of a node, or no end.
func startsStream(n Node) bool {
	switch op := n.Op.(type) {
	case Generate:
		return op.Rows == nil
	case WithWatermark:
		return true
	}
	return false
}

// flowOfTable is what flows out of a sideTable: nothing, at the end of its
// input.
func (l *lowering) flowOfTable(op sideTable, in flow) (flow, error) {
	if in.endless == "" {
		return flow{}, nil
	}
	return in, diag.New(diag.NeedsEnd, "%s gets its table %s whole, but the stream of %s has no end",
		l.plan.Functions[op.function].Name, op.name, in.endless).
		WithHint("put limit(n) before it")
}

// keepTable makes the stage of a table that a function gets whole.
func (l *lowering) keepTable(ctx context.Context, n Node, op sideTable) error {
	input, err := l.result(ctx, n.Inputs[0])
	if err != nil {
		return err
	}
	l.stage(n, input.Schema, &SideTable{Name: op.name, Function: l.plan.Functions[op.function].Name})
	kept := l.out.Results[n.ID]
	kept.Name, kept.Detail = "table "+op.name, "for "+l.plan.Functions[op.function].Name
	return nil
}
