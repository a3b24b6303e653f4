package duck

import (
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// drop passes on all columns but those named.
func (g *generator) drop(op plan.Drop) ([]column, *diag.Diagnostic) {
	gone := map[int]bool{}
	for _, name := range op.Columns {
		i, found := g.input.find(name)
		if !found {
			return nil, unknownColumn(name, g.input, "")
		}
		gone[i] = true
	}
	var kept []column
	for i, c := range g.input.columns {
		if !gone[i] {
			kept = append(kept, c)
		}
	}
	g.pass(kept)
	return kept, nil
}

// rename passes on all columns, some under other names.
func (g *generator) rename(op plan.Rename) ([]column, *diag.Diagnostic) {
	g.pass(g.input.columns)
	columns := append([]column(nil), g.input.columns...)
	for from, to := range op.Columns {
		i, found := g.input.find(from)
		if !found {
			return nil, unknownColumn(from, g.input, "")
		}
		columns[i].name = to
	}
	named := make([]plan.NamedExpr, len(columns))
	for i, c := range columns {
		named[i].Name = c.name
	}
	return columns, checkUnique(named)
}

// pass selects columns of the input as they are.
func (g *generator) pass(columns []column) {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(c.name)
	}
	if len(names) == 0 {
		names = []string{"NULL::BOOLEAN"}
	}
	g.out.write("SELECT " + strings.Join(names, ", "))
	g.from()
}
