package duck

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// rowByRowClasses are the classes of expressions in a parse tree that look at
// one row, if all within them does. A function is looked up.
var rowByRowClasses = map[string]bool{
	"COLUMN_REF": true, "CONSTANT": true, "COMPARISON": true, "CONJUNCTION": true, "CAST": true, "CASE": true,
	"BETWEEN": true, "OPERATOR": true, "COLLATE": true, "LAMBDA": true, "LAMBDA_REF": true, "FUNCTION": true,
}

// macroDepthMax bounds macros within macros.
const macroDepthMax = 8

// RowByRow implements exec.Relational. A function that gives another value each
// time it is called, random() for example, counts as looking at its row: which
// value a row gets is promised to nobody.
func (d *Database) RowByRow(ctx context.Context, text string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, context.Cause(ctx)
	}
	s, err := d.connect()
	if err != nil {
		return false, err
	}
	defer s.close()
	if _, problem := d.parseText(s, text); problem != nil {
		return false, nil // whoever types the expression says what is wrong with it
	}
	return s.rowByRow(text, 0)
}

func (s *session) rowByRow(text string, depth int) (bool, error) {
	if depth > macroDepthMax {
		return false, nil
	}
	serialized, err := s.serialize("SELECT " + text)
	if err != nil {
		return false, err
	}
	var tree struct {
		Statements []struct {
			Node struct {
				List []any `json:"select_list"`
			} `json:"node"`
		} `json:"statements"`
	}
	if err := json.Unmarshal([]byte(serialized), &tree); err != nil || len(tree.Statements) != 1 {
		return false, nil //nolint:nilerr // what cannot be read is not known to look at one row
	}
	functions := map[string]bool{}
	if !collectFunctions(tree.Statements[0].Node.List, functions) {
		return false, nil
	}
	for name := range functions {
		if rowwise, err := s.functionRowByRow(name, depth); !rowwise || err != nil {
			return false, err
		}
	}
	return true, nil
}

// collectFunctions notes the functions in a parse tree; it is false where
// something is not of rowByRowClasses.
func collectFunctions(tree any, functions map[string]bool) bool {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			if !collectFunctions(item, functions) {
				return false
			}
		}
	case map[string]any:
		if class, ok := tree["class"].(string); ok {
			if !rowByRowClasses[class] {
				return false
			}
			if class == "FUNCTION" {
				name, _ := tree["function_name"].(string)
				functions[strings.ToLower(name)] = true
			}
		}
		for _, item := range tree {
			if !collectFunctions(item, functions) {
				return false
			}
		}
	}
	return true
}

// functionRowByRow reports whether all that a name may stand for are functions
// of one row: scalar ones, and macros that are made of such.
func (s *session) functionRowByRow(name string, depth int) (bool, error) {
	const overloadsMax = 256
	known, err := s.strings(fmt.Sprintf(`SELECT DISTINCT function_type || ':' || coalesce(macro_definition, '')
		FROM duckdb_functions() WHERE lower(function_name) = %s`, quoteString(name)), overloadsMax)
	if err != nil || len(known) == 0 || len(known) == overloadsMax {
		return false, err
	}
	for _, function := range known {
		kind, definition, _ := strings.Cut(function, ":")
		switch kind {
		case "scalar":
		case "macro":
			if rowwise, err := s.rowByRow(definition, depth+1); !rowwise || err != nil {
				return false, err
			}
		default:
			return false, nil
		}
	}
	return true, nil
}
