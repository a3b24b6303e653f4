package plan

import "context"

// limitRows is a Limit that lowering has moved below functions. Where nothing
// relational stands before it, it needs no query.
type limitRows struct{ Limit }

// push moves below functions what makes them run for fewer rows, and into them
// what is the same for every row.
func push(ctx context.Context, p *Plan, nodes []Node, typer Typer) ([]Node, error) {
	nodes, err := pushConstants(ctx, p, nodes, typer)
	if err == nil {
		nodes, err = pushFilters(ctx, p, nodes, typer)
	}
	if err != nil {
		return nil, err
	}
	return pushLimits(ctx, nodes, typer)
}

// pushLimits moves each limit below the functions of columns that stand right
// before it, and the steps between, as far as these work row by row: so the
// functions are called for the rows that are wanted, and for no others. Filters,
// sorts and whatever gives more or fewer rows stay where they are.
func pushLimits(ctx context.Context, nodes []Node, typer Typer) ([]Node, error) {
	at, consumers := map[string]int{}, map[string]int{}
	for i, n := range nodes {
		at[n.ID] = i
		for _, id := range n.Inputs {
			consumers[id]++
		}
	}
	for i, n := range nodes {
		limit, ok := n.Op.(Limit)
		if !ok {
			continue
		}
		// The nodes from the limit down to the last function, by their places.
		chain, functions := []int{i}, 0
		for id := n.Inputs[0]; consumers[id] == 1; id = nodes[at[id]].Inputs[0] {
			before := nodes[at[id]]
			rowwise, err := rowByRow(ctx, before.Op, typer)
			if err != nil {
				return nil, located(err, before)
			}
			if !rowwise {
				break
			}
			chain = append(chain, at[id])
			if _, ok := before.Op.(applyFunctions); ok {
				functions = len(chain)
			}
		}
		if functions == 0 {
			continue
		}
		// The nodes keep their places and names; what they do moves up by one.
		for k, place := range chain[:functions-1] {
			before := nodes[chain[k+1]]
			nodes[place].Op, nodes[place].Origin = before.Op, before.Origin
		}
		last := &nodes[chain[functions-1]]
		last.Op, last.Origin = limitRows{limit}, n.Origin
	}
	return nodes, nil
}

// rowByRow reports whether op gives one row for each row, which depends on that
// row alone.
func rowByRow(ctx context.Context, op Op, typer Typer) (bool, error) {
	switch op := op.(type) {
	case applyFunctions:
		return !op.drops, nil
	case arrange, Drop, Rename:
		return true, nil
	case Project:
		for _, text := range sqlTexts(op) {
			rowwise, err := typer.RowByRow(ctx, text)
			if !rowwise || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

// sqlTexts are the texts in an op's expressions.
func sqlTexts(op Op) (texts []string) {
	rest := expressions(op)
	for len(rest) > 0 {
		e := rest[0]
		rest = append(rest[1:], e.Args...)
		if e.SQL != "" {
			texts = append(texts, e.SQL)
		}
	}
	return texts
}

// rowsWanted tells, for the functions that are called above a limit with only
// steps between that pass rows on as they come, how many rows the limit wants.
func rowsWanted(nodes []Node) map[string]int64 {
	byID, consumers := map[string]Node{}, map[string]int{}
	for _, n := range nodes {
		byID[n.ID] = n
		for _, id := range n.Inputs {
			consumers[id]++
		}
	}
	wanted := map[string]int64{}
	for _, n := range nodes {
		var rows int64
		switch op := n.Op.(type) {
		case Limit:
			rows = op.N + op.Offset
		case limitRows:
			rows = op.N + op.Offset
		default:
			continue
		}
		for id := n.Inputs[0]; consumers[id] == 1 && passesOn(byID[id].Op); id = byID[id].Inputs[0] {
			wanted[id] = rows
		}
	}
	return wanted
}

// passesOn reports whether op gives rows before it has seen the end.
func passesOn(op Op) bool {
	switch op.(type) {
	case applyFunctions, applyTable, MapBatches, arrange, Drop, Rename, Project, Filter, Unnest:
		return true
	}
	return false
}
