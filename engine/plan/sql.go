package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// SQLQuery is one SQL query over its inputs, which it knows under the names of
// Tables, in the order of the node's inputs. Params are the values of its
// parameters ($name), by their names. Params may be lists: an array of values
// under a type list<…>.
type SQLQuery struct {
	Query  string             `json:"query"`
	Tables []string           `json:"tables,omitempty"`
	Params map[string]Literal `json:"params,omitempty"`
}

// QueryNames are the names that a query leaves to its surroundings: the tables
// that it reads and the parameters that it has, each once, as first written.
type QueryNames struct {
	Tables     []string `json:"tables"`
	Parameters []string `json:"parameters"`
}

// Name implements Op.
func (SQLQuery) Name() string    { return "sql" }
func (SQLQuery) inputCount() int { return noOrMoreInputs }

func validateQuery(n Node, op SQLQuery) error {
	if len(op.Tables) != len(n.Inputs) {
		return fmt.Errorf("sql names %d tables and has %d inputs", len(op.Tables), len(n.Inputs))
	}
	seen := map[string]bool{}
	for _, name := range op.Tables {
		if seen[Fold(name)] {
			return fmt.Errorf("two tables of the query are named %q", name)
		}
		seen[Fold(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(op.Params)) {
		if _, err := ParseType(op.Params[name].Type); err != nil {
			return fmt.Errorf("parameter $%s: %w", name, err)
		}
	}
	return required("query", op.Query)
}

// Decoded is the literal's value: nil, bool, json.Number, string, or []any of
// these for a list.
func (l Literal) Decoded() (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(l.Value))
	decoder.UseNumber() // a float64 would lose integers beyond 2^53
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("the value %s is not valid JSON: %w", l.Value, err)
	}
	return value, nil
}
