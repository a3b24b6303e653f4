package duck

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/alink-runtime/alink/engine/plan"
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
	s, ok, err := d.reading(ctx, text)
	if err != nil {
		return false, err
	}
	defer s.close()
	if !ok {
		return false, nil
	}
	n, err := s.nature(text, 0)
	return n.rowwise, err
}

// Conjuncts implements exec.Relational.
func (d *Database) Conjuncts(ctx context.Context, text string) ([]plan.Conjunct, error) {
	s, ok, err := d.reading(ctx, text)
	if err != nil {
		return nil, err
	}
	defer s.close()
	texts := []string{text}
	if ok {
		if texts, err = s.cut(text); err != nil {
			return nil, err
		}
	}
	conjuncts := make([]plan.Conjunct, len(texts))
	for i, text := range texts {
		conjuncts[i].Text = text
		if !ok {
			continue
		}
		n, err := s.nature(text, 0)
		if err != nil {
			return nil, err
		}
		conjuncts[i].Columns, conjuncts[i].Movable = n.columns, n.rowwise && !n.varying
	}
	return conjuncts, nil
}

// reading opens a session to look at an expression. Where that is not sound, ok
// is false: whoever types it says what is wrong with it.
func (d *Database) reading(ctx context.Context, text string) (s *session, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, context.Cause(ctx)
	}
	if s, err = d.connect(); err != nil {
		return nil, false, err
	}
	_, problem := d.parseText(s, text)
	return s, problem == nil, nil
}

// nature is what a parse tree tells of an expression.
type nature struct {
	// rowwise: it looks at one row; varying: it may give another value each time.
	rowwise, varying bool
	// columns are the names in it that may be columns, functions those of
	// functions.
	columns   []string
	functions map[string]bool
}

func (s *session) nature(text string, depth int) (nature, error) {
	n := nature{functions: map[string]bool{}}
	if depth > macroDepthMax {
		return n, nil
	}
	_, list, err := s.selected(text)
	if err != nil || len(list) == 0 {
		return n, err
	}
	n.rowwise = n.collect(list)
	for name := range n.functions {
		if err := s.lookUp(&n, name, depth); !n.rowwise || err != nil {
			return n, err
		}
	}
	return n, nil
}

// selected gives the parse tree of SELECT text, and in it the list of what is
// selected, which is empty where it cannot be read.
func (s *session) selected(text string) (tree map[string]any, list []any, err error) {
	serialized, err := s.serialize("SELECT " + text)
	if err != nil {
		return nil, nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(serialized))
	decoder.UseNumber() // to be written back as it is
	if err := decoder.Decode(&tree); err != nil {
		return nil, nil, nil //nolint:nilerr // nothing is known of what cannot be read
	}
	statements, _ := tree["statements"].([]any)
	if len(statements) == 1 {
		list, _ = selection(tree)["select_list"].([]any)
	}
	return tree, list, nil
}

// selection is the SELECT in the parse tree of one statement.
func selection(tree map[string]any) map[string]any {
	statement, _ := tree["statements"].([]any)[0].(map[string]any)
	node, _ := statement["node"].(map[string]any)
	return node
}

// cut gives the conditions that an expression joins by AND, in their order.
func (s *session) cut(text string) ([]string, error) {
	tree, list, err := s.selected(text)
	if err != nil || len(list) != 1 {
		return []string{text}, err
	}
	parts := conjuncts(list[0])
	if len(parts) == 1 {
		return []string{text}, nil
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		selection(tree)["select_list"] = []any{part}
		serialized, err := json.Marshal(tree)
		if err != nil {
			return nil, err
		}
		statement, err := s.converted("json_deserialize_sql($1::JSON)", string(serialized))
		if err != nil {
			return nil, err
		}
		expression, ok := strings.CutPrefix(statement, "SELECT ")
		if !ok {
			return []string{text}, nil
		}
		texts[i] = expression
	}
	return texts, nil
}

func conjuncts(tree any) []any {
	node, _ := tree.(map[string]any)
	children, _ := node["children"].([]any)
	if node["type"] != "CONJUNCTION_AND" {
		return []any{tree}
	}
	var parts []any
	for _, child := range children {
		parts = append(parts, conjuncts(child)...)
	}
	return parts
}

// collect notes the columns and functions in a parse tree; it is false where
// something is not of rowByRowClasses.
func (n *nature) collect(tree any) bool {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			if !n.collect(item) {
				return false
			}
		}
	case map[string]any:
		class, ok := tree["class"].(string)
		if ok && !rowByRowClasses[class] {
			return false
		}
		switch class {
		case "FUNCTION":
			name, _ := tree["function_name"].(string)
			n.functions[strings.ToLower(name)] = true
		case "COLUMN_REF": // a.b is a field of a
			names, _ := tree["column_names"].([]any)
			for _, name := range names[:min(1, len(names))] {
				name, _ := name.(string)
				n.columns = append(n.columns, name)
			}
		}
		for _, item := range tree {
			if !n.collect(item) {
				return false
			}
		}
	}
	return true
}

// lookUp notes what all that a name may stand for have in common: functions of
// one row, which scalar ones are, and macros that are made of such.
func (s *session) lookUp(n *nature, name string, depth int) error {
	const overloadsMax = 256
	n.rowwise = false
	known, err := s.strings(fmt.Sprintf(`SELECT DISTINCT function_type || ':' || coalesce(stability, '') || ':' || coalesce(macro_definition, '')
		FROM duckdb_functions() WHERE lower(function_name) = %s`, quoteString(name)), overloadsMax)
	if err != nil || len(known) == 0 || len(known) == overloadsMax {
		return err
	}
	for _, function := range known {
		kind, rest, _ := strings.Cut(function, ":")
		stability, definition, _ := strings.Cut(rest, ":")
		switch kind {
		case "scalar":
			n.varying = n.varying || stability == "VOLATILE"
		case "macro":
			of, err := s.nature(definition, depth+1)
			if err != nil || !of.rowwise {
				return err
			}
			n.varying = n.varying || of.varying
		default:
			return nil
		}
	}
	n.rowwise = true
	return nil
}
