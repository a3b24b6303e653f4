package duck

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// Bounds on what is kept and walked.
const (
	textsMax     = 4096 // sound texts that a Database remembers
	exprDepthMax = 256  // nesting of an expression, and of the parse tree of a text
)

// parsedText is what is known of an expression given as text.
type parsedText struct {
	// constant: it is a bare literal. ORDER BY would take a number for the
	// position of a column.
	constant bool
	// ordered: it aggregates, and the order of the rows shows in the result.
	ordered bool
	// shuffling: DuckDB gives rows in another order where it computes this.
	shuffling bool
	// depth is how deep it is nested.
	depth int
	// offset is the byte where an unsound text goes wrong; -1 is none.
	offset int
}

// treeDepthMax is in levels of JSON, of which an expression fills several.
const treeDepthMax = 16 * exprDepthMax

// tableFunctions are those that a subquery of an expression may use: the ones
// that read nothing but their arguments.
var tableFunctions = map[string]bool{"unnest": true, "range": true, "generate_series": true}

// parseText checks that a text is one SQL expression and nothing else, by the
// parse tree of SELECT text: it must be the tree of a SELECT of one item
// without an alias. So no text can change the shape of the statement that it
// is later put into (in parentheses, followed by a line feed, which ends a
// comment). What follows an expression without leaving a trace in the tree, a
// comma or a semicolon, is a syntax error there.
func (d *Database) parseText(s *session, text string) (parsedText, *diag.Diagnostic) {
	d.mu.Lock()
	parsed, ok := d.texts[text]
	d.mu.Unlock()
	if ok {
		return parsed, nil
	}
	if strings.ContainsRune(text, 0) {
		return parsedText{offset: -1}, diag.New(diag.BadExpression, "%s holds a NUL character", show(text))
	}
	const prefix = "SELECT "
	serialized, err := s.serialize(prefix + text)
	if err != nil {
		return parsed, diag.New(diag.Internal, "an expression could not be checked").WithCause(err)
	}
	parsed, problem := readTree(serialized, len(prefix), text)
	if problem != nil {
		return parsed, problem
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.texts) >= textsMax {
		clear(d.texts)
	}
	d.texts[text] = parsed
	return parsed, nil
}

// serialize gives the parse tree of a statement in DuckDB's JSON form.
func (s *session) serialize(statement string) (string, error) {
	return s.converted("json_serialize_sql($1::VARCHAR)", statement)
}

// converted gives what a function of DuckDB's makes of a text.
func (s *session) converted(call, text string) (string, error) {
	p, err := s.prepare("SELECT "+call, 0)
	if err != nil {
		return "", err
	}
	defer duckdb.DestroyPrepare(&p)
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.BindVarcharLength(p, 1, text, duckdb.IdxT(len(text))) == duckdb.StateError {
		return "", parseError(duckdb.PrepareError(p), duckdb.ErrorTypeInvalid)
	}
	if err := s.run(p, 0, false, &result); err != nil {
		return "", err
	}
	chunk := duckdb.FetchChunk(result)
	if chunk.Ptr == nil {
		return "", fmt.Errorf("%s gave no row", call)
	}
	defer duckdb.DestroyDataChunk(&chunk)
	values := appendStrings(nil, duckdb.DataChunkGetVector(chunk, 0), int(duckdb.DataChunkGetSize(chunk)))
	if len(values) != 1 {
		return "", fmt.Errorf("%s gave %d rows", call, len(values))
	}
	return values[0], nil
}

// readTree judges the parse tree of a text that has prefixLen bytes of the
// statement in front of it.
func readTree(serialized string, prefixLen int, text string) (parsedText, *diag.Diagnostic) {
	var tree struct {
		Error      bool   `json:"error"`
		ErrorType  string `json:"error_type"`
		Message    string `json:"error_message"`
		Position   string `json:"position"`
		Statements []struct {
			Node map[string]json.RawMessage `json:"node"`
		} `json:"statements"`
	}
	if err := json.Unmarshal([]byte(serialized), &tree); err != nil {
		return parsedText{}, diag.New(diag.Internal, "the parse tree of an expression could not be read").WithCause(err)
	}
	bad := func(reason string, offset int) (parsedText, *diag.Diagnostic) {
		return parsedText{offset: offset}, badText(text, reason, offset)
	}
	if tree.Error {
		if tree.ErrorType != "parser" {
			return bad("it is a statement, not an expression", -1)
		}
		return bad(tree.Message, offsetIn(text, tree.Position, prefixLen))
	}
	if len(tree.Statements) != 1 {
		return bad("it holds more than one statement", -1)
	}
	node := tree.Statements[0].Node
	var items []struct {
		Class string `json:"class"`
		Alias string `json:"alias"`
	}
	if err := json.Unmarshal(node["select_list"], &items); err != nil || len(items) == 0 {
		return bad("it is not an expression", -1)
	}
	switch {
	case len(items) > 1:
		return bad("it is a list of expressions", -1)
	case items[0].Alias != "":
		return bad(fmt.Sprintf("it gives itself the name %q; a column's name is set where the expression is used", items[0].Alias), -1)
	}
	for key, want := range bareSelect {
		if got := string(node[key]); got != want && !(key == "from_table" && strings.HasPrefix(got, want)) {
			return bad("it holds more than an expression: "+strings.ReplaceAll(key, "_", " "), -1)
		}
	}
	if len(node) != len(bareSelect)+1 {
		return bad("it holds more than an expression", -1)
	}
	var list any
	if err := json.Unmarshal(node["select_list"], &list); err != nil {
		return bad(err.Error(), -1)
	}
	if reason := forbidden(list, 0); reason != "" {
		return bad(reason, -1)
	}
	return parsedText{constant: items[0].Class == "CONSTANT", ordered: aggregatesInOrder(list), shuffling: shuffles(list), depth: exprDepth(list)}, nil
}

// orderedAggregates are the aggregate functions whose result depends on the
// order of the rows, be it for equal ones alone.
var orderedAggregates = map[string]bool{
	"first": true, "last": true, "arbitrary": true, "any_value": true, "mode": true,
	"list": true, "array_agg": true, "string_agg": true, "group_concat": true, "listagg": true,
	"arg_min": true, "argmin": true, "min_by": true, "arg_min_null": true, "arg_min_nulls_last": true,
	"arg_max": true, "argmax": true, "max_by": true, "arg_max_null": true, "arg_max_nulls_last": true,
	"json_group_array": true, "json_group_object": true,
}

// aggregatesInOrder looks for one of orderedAggregates in a parse tree whose
// depth has been checked.
func aggregatesInOrder(tree any) bool {
	switch tree := tree.(type) {
	case []any:
		return slices.ContainsFunc(tree, aggregatesInOrder)
	case map[string]any:
		if name, _ := tree["function_name"].(string); tree["class"] == "FUNCTION" && orderedAggregates[strings.ToLower(name)] {
			return true
		}
		for _, item := range tree {
			if aggregatesInOrder(item) {
				return true
			}
		}
	}
	return false
}

// shuffles looks for what loses the order of rows: windows, which sort them,
// and subqueries, which become joins. Only numbers are given as rows pass.
func shuffles(tree any) bool {
	switch tree := tree.(type) {
	case []any:
		return slices.ContainsFunc(tree, shuffles)
	case map[string]any:
		switch tree["class"] {
		case "SUBQUERY":
			return true
		case "WINDOW":
			partitions, _ := tree["partitions"].([]any)
			orders, _ := tree["orders"].([]any)
			if tree["type"] != "WINDOW_ROW_NUMBER" || len(partitions)+len(orders) > 0 {
				return true
			}
		}
		for _, item := range tree {
			if shuffles(item) {
				return true
			}
		}
	}
	return false
}

// bareSelect is the parse tree of SELECT x without its select_list.
var bareSelect = map[string]string{
	"type": `"SELECT_NODE"`, "modifiers": `[]`, "cte_map": `{"map":[]}`,
	"from_table": `{"type":"EMPTY",`, "where_clause": `null`, "group_expressions": `[]`, "group_sets": `[]`,
	"aggregate_handling": `"STANDARD_HANDLING"`, "having": `null`, "sample": `null`, "qualify": `null`,
}

// forbidden looks for what an expression may not hold, and says what it is.
func forbidden(tree any, depth int) string {
	if depth > treeDepthMax {
		return fmt.Sprintf("it is nested deeper than %d levels", exprDepthMax)
	}
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			if reason := forbidden(item, depth+1); reason != "" {
				return reason
			}
		}
	case map[string]any:
		if reason := forbiddenNode(tree); reason != "" {
			return reason
		}
		for _, item := range tree {
			if reason := forbidden(item, depth+1); reason != "" {
				return reason
			}
		}
	}
	return ""
}

// engineFunctions tell of the engine or write to its log: paths of its folders,
// the statement that it has made.
var engineFunctions = map[string]bool{"current_setting": true, "current_query": true, "getvariable": true, "write_log": true}

// aboutEngine says what is wrong with a call of one of engineFunctions, and
// nothing of other expressions.
func aboutEngine(expression map[string]any) string {
	name, _ := expression["function_name"].(string)
	if expression["class"] != "FUNCTION" || !engineFunctions[strings.ToLower(name)] {
		return ""
	}
	return fmt.Sprintf("%s(…) is about the engine, not about tables", strings.ToLower(name))
}

func forbiddenNode(node map[string]any) string {
	class, isExpression := node["class"].(string)
	if isExpression {
		switch class {
		case "STAR":
			return "* and COLUMNS(…) stand for several columns"
		case "PARAMETER":
			return "it has a parameter without a value"
		case "POSITIONAL_REFERENCE", "DEFAULT":
			return "it does not name what it refers to"
		}
		return aboutEngine(node)
	}
	// Of what has no class, only references to tables have an alias and a
	// sample: types have just an alias, and queries just a sample.
	_, hasAlias := node["alias"]
	_, hasSample := node["sample"]
	if !hasAlias || !hasSample {
		return ""
	}
	switch kind, _ := node["type"].(string); kind {
	case "EMPTY", "SUBQUERY", "JOIN", "EXPRESSION_LIST":
		return ""
	case "TABLE_FUNCTION":
		function, _ := node["function"].(map[string]any)
		name, _ := function["function_name"].(string)
		if tableFunctions[strings.ToLower(name)] {
			return ""
		}
		return fmt.Sprintf("an expression cannot read a table: %s(…)", name)
	case "BASE_TABLE":
		name, _ := node["table_name"].(string)
		return fmt.Sprintf("an expression cannot read a table: %s", name)
	}
	return "an expression cannot read a table"
}

// generator writes the SQL of one node's expressions. Its errors are
// diagnostics without a place.
type generator struct {
	db      *Database
	session *session
	// input is the relation whose columns expressions may use.
	input *relation
	// origin is where the user wrote the node.
	origin *diag.Source
	out    fragment
}

// parse is parseText with a diagnostic that points to the user's line.
func (g *generator) parse(text string) (parsedText, *diag.Diagnostic) {
	parsed, problem := g.db.parseText(g.session, text)
	if problem != nil {
		problem = withCaret(problem, g.origin, place{text: text, offset: parsed.offset}, "")
		if _, ok := g.input.find(text); ok {
			problem.WithHint("the column of this name is written %s in SQL, or al.col(%s)", quote(text), strconv.Quote(text))
		} else if word := g.reserved(text); word != "" {
			problem.WithHint("%s is a word of SQL: the column of this name is written %s", word, quote(word))
		}
	}
	return parsed, problem
}

// reserved finds the column of the input whose name, written bare, keeps a
// text from being an expression; "" is none.
func (g *generator) reserved(text string) string {
	const lengthMax, triesMax = 10_000, 8
	tried := map[string]bool{}
	for at := 0; at < len(text) && len(text) <= lengthMax && len(tried) < triesMax; {
		t := tokenAt(text, at)
		at = t.end
		word := text[t.start:t.end]
		if _, ok := g.input.find(word); t.kind != tokenWord || !ok || tried[plan.Fold(word)] {
			continue
		}
		tried[plan.Fold(word)] = true
		if _, problem := g.db.parseText(g.session, quoteWord(text, word)); problem == nil {
			return word
		}
	}
	return ""
}

// quoteWord puts a word of a text in quotes wherever it stands bare.
func quoteWord(text, word string) string {
	var out strings.Builder
	for at := 0; at < len(text); {
		t := tokenAt(text, at)
		at = t.end
		if token := text[t.start:t.end]; t.kind == tokenWord && plan.Fold(token) == plan.Fold(word) {
			out.WriteString(quote(token))
		} else {
			out.WriteString(token)
		}
	}
	return out.String()
}

// operatorForms are the SQL of plan.Operators; "in" and "cast" have code of
// their own. Operands are in parentheses, so precedence never matters.
var operatorForms = map[string]string{
	"+": "(? + ?)", "-": "(? - ?)", "*": "(? * ?)", "/": "(? / ?)", "%": "(? % ?)", "neg": "(- ?)",
	"=": "(? = ?)", "<>": "(? <> ?)", "<": "(? < ?)", "<=": "(? <= ?)", ">": "(? > ?)", ">=": "(? >= ?)",
	"and": "(? AND ?)", "or": "(? OR ?)", "not": "(NOT ?)",
	"is_null": "(? IS NULL)", "is_not_null": "(? IS NOT NULL)",
	plan.Perhaps: "(coalesce(TRY(CASE WHEN ? THEN 1 ELSE 0 END), 1) = 1)",
}

// expression writes e, which stands so deep in others, in parentheses.
func (g *generator) expression(e plan.Expr, depth int) *diag.Diagnostic {
	g.out.depth = max(g.out.depth, depth)
	switch {
	case depth > exprDepthMax:
		return diag.New(diag.BadExpression, "an expression is nested deeper than %d levels", exprDepthMax)
	case e.Column != nil:
		if _, ok := g.input.find(*e.Column); !ok {
			return unknownColumn(*e.Column, g.input, "")
		}
		g.out.write("(" + quote(*e.Column) + ")")
		return nil
	case e.Literal != nil:
		sql, err := renderLiteral(e.Literal)
		if err != nil {
			return diag.New(diag.InvalidPlan, "a literal of type %q is not valid", e.Literal.Type).WithCause(err)
		}
		g.out.write("(" + sql + ")")
		return nil
	case e.SQL != "":
		parsed, problem := g.parse(e.SQL)
		if problem != nil {
			return problem
		}
		g.out.depth = max(g.out.depth, depth+parsed.depth)
		g.out.write("(")
		g.out.writeText(e.SQL)
		g.out.write("\n)")
		return nil
	case e.Call != "":
		return diag.New(diag.InvalidPlan, "the Python function %q is called inside a relational step", e.Call)
	case e.Op != "":
		return g.operator(e, depth)
	}
	return diag.New(diag.BadExpression, "an expression is empty")
}

func (g *generator) operator(e plan.Expr, depth int) *diag.Diagnostic {
	count, known := plan.Operators[e.Op]
	if e.Op == plan.Perhaps {
		count, known = 1, true
	}
	if !known {
		return diag.New(diag.InvalidPlan, "there is no operator %q", e.Op)
	}
	if count >= 0 && len(e.Args) != count || count < 0 && len(e.Args) < -count+1 {
		return diag.New(diag.InvalidPlan, "the operator %q cannot have %d operands", e.Op, len(e.Args))
	}
	switch e.Op {
	case "cast":
		return g.cast(e, depth)
	case "in":
		return g.in(e, depth)
	}
	parts := strings.Split(operatorForms[e.Op], "?")
	for i, arg := range e.Args {
		g.out.write(parts[i])
		if problem := g.expression(arg, depth+1); problem != nil {
			return problem
		}
	}
	g.out.write(parts[len(parts)-1])
	return nil
}

func (g *generator) cast(e plan.Expr, depth int) *diag.Diagnostic {
	typ, err := plan.ParseType(e.Type)
	if err != nil {
		return diag.New(diag.TypeMismatch, "there is no type %q to cast to", e.Type).WithCause(err)
	}
	target, err := fromArrow(typ)
	if err != nil {
		return diag.New(diag.TypeMismatch, "nothing can be cast to %q", e.Type).WithCause(err)
	}
	g.out.write("CAST(")
	if problem := g.expression(e.Args[0], depth+1); problem != nil {
		return problem
	}
	g.out.write(" AS " + target.sql() + ")")
	return nil
}

func (g *generator) in(e plan.Expr, depth int) *diag.Diagnostic {
	g.out.write("(")
	for i, arg := range e.Args {
		switch i {
		case 0:
		case 1:
			g.out.write(" IN (")
		default:
			g.out.write(", ")
		}
		if problem := g.expression(arg, depth+1); problem != nil {
			return problem
		}
	}
	g.out.write("))")
	return nil
}
