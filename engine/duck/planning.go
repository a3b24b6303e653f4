package duck

import (
	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// Two of DuckDB's optimizers take a time that grows with the third power of the
// depth of an expression, and a + b + c … is as deep as it has terms: with 800
// of them one statement is planned for seconds up to a minute. Statements with
// expressions that are nested deeper than planDepthMax are planned without the
// two, in a time that grows with the square.
const planDepthMax = 32

// neverOptimizers lose rows: join_filter_pushdown filters what is below a LIMIT
// (duckdb/duckdb#22924), and below grouped inputs (#22075).
const neverOptimizers = "join_filter_pushdown"

// Which optimizers are disabled is a setting of the instance, so that nothing
// else is planned there meanwhile.
const (
	disabledOptimizers = "disabled_optimizers"
	planDeep           = "SET GLOBAL " + disabledOptimizers + " = '" + neverOptimizers + ",common_subexpressions,expression_rewriter'"
	planShallow        = "SET GLOBAL " + disabledOptimizers + " = '" + neverOptimizers + "'"
)

// planned calls f, in which DuckDB plans a statement whose expressions are
// nested so deep. f must not wait for rows.
func (s *session) planned(depth int, f func() duckdb.State) (duckdb.State, error) {
	if depth <= planDepthMax {
		s.db.planning.RLock()
		defer s.db.planning.RUnlock()
		return f(), nil
	}
	s.db.planning.Lock()
	defer s.db.planning.Unlock()
	settings, err := s.db.connect() // a statement here would end what f has begun
	if err != nil {
		return duckdb.StateError, err
	}
	defer settings.close()
	if err := settings.query(planDeep); err != nil {
		return duckdb.StateError, err
	}
	state := f()
	return state, settings.query(planShallow)
}

// prepare binds and plans a statement whose expressions are nested so deep. Its
// error is a *queryError. The caller destroys the statement.
func (s *session) prepare(statement string, depth int) (duckdb.PreparedStatement, error) {
	var p duckdb.PreparedStatement
	state, err := s.planned(depth, func() duckdb.State { return duckdb.Prepare(s.conn, statement, &p) })
	if err == nil && state == duckdb.StateError {
		err = parseError(duckdb.PrepareError(p), duckdb.ErrorTypeInvalid)
	}
	if err != nil {
		duckdb.DestroyPrepare(&p)
	}
	return p, err
}

// run executes a prepared statement, which DuckDB may plan once more for the
// values of its parameters, to its end or, where it is streamed, until it has
// rows. Its error is a *queryError. The caller destroys the result.
func (s *session) run(p duckdb.PreparedStatement, depth int, streamed bool, result *duckdb.Result) error {
	var pending duckdb.PendingResult
	defer duckdb.DestroyPending(&pending)
	state, err := s.planned(depth, func() duckdb.State {
		if streamed {
			return duckdb.PendingPreparedStreaming(p, &pending)
		}
		return duckdb.PendingPrepared(p, &pending)
	})
	switch {
	case err != nil:
		return err
	case state == duckdb.StateError:
		return parseError(duckdb.PendingError(pending), duckdb.ErrorTypeInvalid)
	case duckdb.ExecutePending(pending, result) == duckdb.StateError:
		return resultError(result)
	}
	return nil
}

// exprDepth is how deep expressions are nested in a parse tree, whose own depth
// has been checked.
func exprDepth(tree any) int {
	depth := 0
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			depth = max(depth, exprDepth(item))
		}
	case map[string]any:
		for _, item := range tree {
			depth = max(depth, exprDepth(item))
		}
		if _, isExpression := tree["class"]; isExpression {
			depth++
		}
	}
	return depth
}
