package duck

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// queryFunctions are the table functions that a query may use: those that read
// nothing but their arguments.
var queryFunctions = map[string]bool{
	"unnest": true, "range": true, "generate_series": true, "repeat": true, "json_each": true, "json_tree": true,
}

// queryTree is what the parse tree of a query says.
type queryTree struct {
	// tables are the names that it leaves to its surroundings, in order, and
	// reads how often each is read, by its folded name.
	tables []string
	reads  map[string]int
	// parameters are counted by their folded names.
	parameters map[string]int
	names      []string // of the parameters, in order
	// again: a table that it reads once may be scanned more than once.
	again bool
	// depth is how deep its expressions are nested.
	depth int
	// problem is why it is refused.
	problem *diag.Diagnostic
	text    string
}

// readQuery checks that a text is one query that reads nothing but tables
// which its surroundings give it, by DuckDB's own parse tree.
func (s *session) readQuery(text string) (*queryTree, *diag.Diagnostic) {
	if strings.ContainsRune(text, 0) {
		return nil, badQuery(text, "it holds a NUL character", -1)
	}
	serialized, err := s.serialize(text)
	if err != nil {
		return nil, diag.New(diag.Internal, "a query could not be checked").WithCause(err)
	}
	var tree struct {
		Error      bool   `json:"error"`
		ErrorType  string `json:"error_type"`
		Message    string `json:"error_message"`
		Position   string `json:"position"`
		Statements []any  `json:"statements"`
	}
	if err := json.Unmarshal([]byte(serialized), &tree); err != nil {
		return nil, diag.New(diag.Internal, "the parse tree of a query could not be read").WithCause(err)
	}
	switch {
	case tree.Error && tree.ErrorType == "parser":
		return nil, badQuery(text, tree.Message, offsetIn(text, tree.Position, 0))
	case tree.Error:
		return nil, badQuery(text, "it is a statement, not a query", -1).
			WithHint("sql takes SELECT, WITH, VALUES and FROM; files are read with read_parquet and the like and written with write_…")
	case len(tree.Statements) != 1:
		return nil, badQuery(text, fmt.Sprintf("it holds %d statements instead of one", len(tree.Statements)), -1)
	}
	q := &queryTree{reads: map[string]int{}, parameters: map[string]int{}, text: text}
	q.walk(tree.Statements[0], nil, 0)
	if q.problem != nil {
		return nil, q.problem
	}
	q.depth = exprDepth(tree.Statements[0])
	return q, nil
}

// walk reads a part of the tree. scope holds the folded names that the query
// itself defines around that part.
func (q *queryTree) walk(part any, scope []string, depth int) {
	if q.problem != nil {
		return
	}
	if depth > treeDepthMax {
		q.problem = badQuery(q.text, fmt.Sprintf("it is nested deeper than %d levels", exprDepthMax), -1)
		return
	}
	switch part := part.(type) {
	case []any:
		for _, item := range part {
			q.walk(item, scope, depth+1)
		}
	case map[string]any:
		scope = q.definitions(part, scope, depth)
		q.node(part, scope)
		for _, key := range slices.Sorted(maps.Keys(part)) { // the same plan each time
			if key != "cte_map" {
				q.walk(part[key], scope, depth+1)
			}
		}
	}
}

// definitions reads the WITH clause of a query, where it has one, and gives
// the scope of the query itself. A definition sees those before it, and itself
// if it is recursive.
func (q *queryTree) definitions(part map[string]any, scope []string, depth int) []string {
	entries, _ := part["cte_map"].(map[string]any)
	list, _ := entries["map"].([]any)
	for _, item := range list {
		q.again = true // DuckDB may compute a definition wherever it is used
		entry, _ := item.(map[string]any)
		name, _ := entry["key"].(string)
		inner := scope
		if definesItself(entry) {
			inner = append(slices.Clone(scope), plan.Fold(name))
		}
		q.walk(entry["value"], inner, depth+1)
		scope = append(slices.Clone(scope), plan.Fold(name))
	}
	return scope
}

func definesItself(entry map[string]any) bool {
	value, _ := entry["value"].(map[string]any)
	query, _ := value["query"].(map[string]any)
	node, _ := query["node"].(map[string]any)
	return node["type"] == "RECURSIVE_CTE_NODE"
}

func (q *queryTree) node(part map[string]any, scope []string) {
	if class, isExpression := part["class"].(string); isExpression {
		switch class {
		case "SUBQUERY":
			q.again = true
		case "PARAMETER":
			name, _ := part["identifier"].(string)
			if q.parameters[plan.Fold(name)]++; q.parameters[plan.Fold(name)] == 1 {
				q.names = append(q.names, name)
			}
		case "FUNCTION":
			if reason := aboutEngine(part); reason != "" {
				q.problem = badQuery(q.text, reason, location(part))
			}
		}
		return
	}
	switch part["type"] {
	case "BASE_TABLE":
		q.table(part, scope)
	case "TABLE_FUNCTION":
		function, _ := part["function"].(map[string]any)
		name, _ := function["function_name"].(string)
		if !queryFunctions[strings.ToLower(name)] {
			q.problem = badQuery(q.text, fmt.Sprintf("a query cannot use the table function %s(…)", name), location(part)).
				WithHint("files are read with ctx.read_parquet and the like, and named as tables: sql(…, tables={\"t\": …})")
		}
	case "SHOW_REF":
		q.problem = badQuery(q.text, "DESCRIBE, SHOW and SUMMARIZE are not queries", -1).
			WithHint("a table has .schema and .describe()")
	}
}

func (q *queryTree) table(part map[string]any, scope []string) {
	name, isTable := part["table_name"].(string)
	if !isTable {
		return
	}
	for _, key := range []string{"schema_name", "catalog_name"} {
		if qualifier, _ := part[key].(string); qualifier != "" {
			q.problem = badQuery(q.text, fmt.Sprintf("there is no schema or catalog %q: tables have plain names", qualifier), location(part))
			return
		}
	}
	folded := plan.Fold(name)
	if slices.Contains(scope, folded) {
		return
	}
	if q.reads[folded]++; q.reads[folded] == 1 {
		q.tables = append(q.tables, name)
	}
}

// location is the byte of the query where a part of its tree begins; -1 if it
// is not known.
func location(part map[string]any) int {
	at, ok := part["query_location"].(float64)
	if !ok || at > 1<<53 {
		return -1
	}
	return int(at)
}

// QueryNames tells which tables and parameters a query leaves to its
// surroundings. Its error is a diagnostic.
func (d *Database) QueryNames(_ context.Context, text string, origin *diag.Source) (*plan.QueryNames, error) {
	s, err := d.connect()
	if err != nil {
		return nil, err
	}
	defer s.close()
	tree, problem := s.readQuery(text)
	if problem != nil {
		return nil, problem.At(plan.SQLQuery{}.Name(), origin)
	}
	return &plan.QueryNames{Tables: append([]string{}, tree.tables...), Parameters: append([]string{}, tree.names...)}, nil
}

// sqlQuery writes a query with its tables as definitions in front. Its
// parameters become those of the whole statement, with names of our own: two
// queries of a stage may have parameters of the same name.
func (c *compiler) sqlQuery(op plan.SQLQuery, inputs []*relation, index int) (*fragment, []column, *diag.Diagnostic) {
	tree, problem := c.session.readQuery(op.Query)
	if problem != nil {
		return nil, nil, problem
	}
	out := &fragment{depth: tree.depth}
	out.write("SELECT * FROM (")
	keyword := "WITH "
	for i, name := range op.Tables {
		out.write(keyword + quote(name) + " AS NOT MATERIALIZED (SELECT * FROM " + quote(inputs[i].name) + ") ")
		keyword = ", "
		if tree.again || tree.reads[plan.Fold(name)] > 1 {
			inputs[i].uses++
		}
		delete(tree.reads, plan.Fold(name))
	}
	for _, name := range tree.tables {
		if tree.reads[plan.Fold(name)] > 0 {
			return nil, nil, diag.New(diag.UnknownTable, "there is no table %q", name).
				WithHint("%s", diag.DidYouMean(name, "the query's tables", op.Tables))
		}
	}
	out.write("SELECT * FROM (\n")
	if problem := c.queryText(out, op, tree, index); problem != nil {
		return nil, nil, problem
	}
	out.write("\n))")
	given, err := c.session.columns(standIns(inputs)+out.String(), out.depth)
	if err != nil {
		e := asQueryError(err)
		if e.position >= 0 {
			e.position = max(e.position-len(standIns(inputs)), -1)
		}
		return nil, nil, c.explainQuery(e, op, inputs, out.locate(e.position))
	}
	columns := make([]column, len(given))
	named := make([]plan.NamedExpr, len(columns))
	for i := range columns {
		// A column without a name is called by its expression: as it was written.
		columns[i].name = boundParameter.ReplaceAllString(given[i].name, "$$$1")
		named[i].Name = columns[i].name
	}
	return out, columns, checkUnique(named)
}

// boundParameter is what bind makes of a parameter, in DuckDB's spelling.
var boundParameter = regexp.MustCompile(`CAST\(\$alink_\d+_(\w+) AS (?:[^()]|\([^()]*\))*\)`)

// queryText writes the query itself, its parameters replaced.
func (c *compiler) queryText(out *fragment, op plan.SQLQuery, tree *queryTree, index int) *diag.Diagnostic {
	text := strings.TrimRight(op.Query, " \t\r\n;")
	found := map[string]int{}
	marks := parameterMarks(text)
	for _, m := range marks {
		found[plan.Fold(m.name)]++
	}
	for _, name := range tree.names {
		if _, given := parameter(op.Params, name); !given {
			return badQuery(op.Query, fmt.Sprintf("its parameter %s has no value", parameterName(name)), -1).
				WithHint("%s", parameterHint(name))
		}
		// DuckDB's tree has the parameters, but not their places. What we take
		// for one in a string, say, would be missing there.
		if found[plan.Fold(name)] != tree.parameters[plan.Fold(name)] {
			return badQuery(op.Query, fmt.Sprintf("its parameter $%s could not be found in its text", name), -1)
		}
	}
	at := 0
	for _, m := range marks {
		literal, given := parameter(op.Params, m.name)
		if !given { // not one in DuckDB's eyes
			continue
		}
		sql, problem := c.bind(literal, fmt.Sprintf("alink_%d_%s", index, plan.Fold(m.name)), m.name)
		if problem != nil {
			return problem
		}
		out.writePart(op.Query, at, m.start)
		out.write(sql)
		at = m.end
	}
	out.writePart(op.Query, at, len(text))
	return nil
}

func parameter(params map[string]plan.Literal, name string) (plan.Literal, bool) {
	for key, literal := range params {
		if plan.Fold(key) == plan.Fold(name) {
			return literal, true
		}
	}
	return plan.Literal{}, false
}

func parameterName(name string) string {
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return "? (number " + name + ")"
	}
	return "$" + name
}

func parameterHint(name string) string {
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		return `name the parameters: "… > $low" with params={"low": …}`
	}
	return fmt.Sprintf("give it one: sql(…, params={%q: …})", name)
}

// bind notes the value of a parameter under a name of our own and gives the
// SQL that stands for it.
func (c *compiler) bind(literal plan.Literal, name, shown string) (string, *diag.Diagnostic) {
	value, typ, err := literalValue(literal)
	if err != nil {
		return "", diag.New(diag.TypeMismatch, "the value of the parameter $%s is not valid", shown).WithCause(err)
	}
	c.query.params[name] = value
	return "CAST($" + name + " AS " + typ.sql() + ")", nil
}

// explainQuery turns an error of binding a query into a diagnostic.
func (c *compiler) explainQuery(e *queryError, op plan.SQLQuery, inputs []*relation, at place) *diag.Diagnostic {
	all := &relation{}
	for _, in := range inputs {
		all.columns = append(all.columns, in.columns...)
	}
	offset := -1
	if at.text != "" {
		offset = at.offset
	}
	var problem *diag.Diagnostic
	table := missingTable.FindStringSubmatch(e.message)
	column := missingOf.FindStringSubmatch(e.message) // t.x, of a table that is there
	switch {
	case column != nil:
		e.name = column[1]
		problem = unknownColumn(e.name, all, " in the tables of the query")
	case e.subtype == "COLUMN_NOT_FOUND" && e.name != "":
		problem = unknownColumn(e.name, all, " in the tables of the query")
	case table != nil:
		name := strings.ReplaceAll(table[1], `""`, `"`)
		problem = diag.New(diag.UnknownTable, "the query has no table %q", name).WithHint("%s", diag.DidYouMean(name, "its tables", op.Tables))
	case e.subtype == "MISSING_ENTRY" && strings.Contains(e.entry, "Function") && functionName.MatchString(e.name):
		problem = c.unknownFunction(e.name)
	case e.kind == kindOutOfMemory, strings.EqualFold(e.kind, kindInternal), strings.EqualFold(e.kind, kindFatal), strings.EqualFold(e.kind, kindInterrupt):
		return c.db.failure(e)
	default:
		problem = badQuery(op.Query, e.cause(), offset)
		problem.Message = "the query cannot be run"
		if strings.Contains(e.message, notGrouped) {
			problem.WithHint("put the column into an aggregate function: max(x), any_value(x), list(x) …")
		}
		return withCaret(problem, c.origin, place{text: op.Query, offset: offset}, e.name)
	}
	if lines := queryLines(op.Query, offset); len(lines) > 0 {
		problem.WithCause(errors.New(strings.Join(lines, "\n")))
	}
	return withCaret(problem, c.origin, place{text: op.Query, offset: offset}, e.name)
}

// reasonLinesMax bounds the lines of a reason, so that those of the query
// below it are not cut off.
const reasonLinesMax = 2

// badQuery is the diagnostic of a text that is not a query which can be run.
func badQuery(text, reason string, offset int) *diag.Diagnostic {
	lines := strings.Split(reason, "\n")
	lines = append(lines[:min(len(lines), reasonLinesMax)], queryLines(text, offset)...)
	return diag.New(diag.BadQuery, "the SQL cannot be run").WithCause(errors.New(strings.Join(lines, "\n")))
}

// queryLines shows the line of a query that an offset is in, cut to a width,
// with a caret below it.
func queryLines(text string, offset int) []string {
	if offset < 0 || offset > len(text) {
		return nil
	}
	start := strings.LastIndexByte(text[:offset], '\n') + 1
	end := len(text)
	if n := strings.IndexByte(text[offset:], '\n'); n >= 0 {
		end = offset + n
	}
	before, after := []rune(text[start:offset]), []rune(text[offset:end])
	const beforeMax, afterMax = 60, 40
	if len(before) > beforeMax {
		before = append([]rune("…"), before[len(before)-beforeMax:]...)
	}
	if len(after) > afterMax {
		after = append(after[:afterMax:afterMax], '…')
	}
	number := fmt.Sprintf("line %d: ", strings.Count(text[:start], "\n")+1)
	line := strings.NewReplacer("\t", " ", "\r", " ").Replace(string(before) + string(after))
	return []string{number + line, strings.Repeat(" ", utf8.RuneCountInString(number)+len(before)) + "^"}
}

// boundValue is the value of a parameter: nil, a string that is cast to its
// type, []byte, or []any of these.
type boundValue any

// literalValue checks a literal and gives the value to bind and its type.
func literalValue(l plan.Literal) (boundValue, sqlType, error) {
	typ, err := plan.ParseType(l.Type)
	if err != nil {
		return nil, sqlType{}, err
	}
	target, err := fromArrow(typ)
	if err != nil {
		return nil, sqlType{}, err
	}
	value, err := l.Decoded()
	if err != nil {
		return nil, sqlType{}, err
	}
	bound, err := boundLiteral(typ, value)
	return bound, target, err
}

func boundLiteral(typ arrow.DataType, value any) (boundValue, error) {
	if value == nil {
		return nil, nil
	}
	if list, ok := typ.(*arrow.ListType); ok {
		items, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("a list is expected")
		}
		out := make([]any, len(items))
		for i, item := range items {
			bound, err := boundLiteral(list.Elem(), item)
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			out[i] = bound
		}
		return out, nil
	}
	if _, err := literalText(typ, value); err != nil {
		return nil, err
	}
	switch value := value.(type) {
	case bool:
		return fmt.Sprint(value), nil
	case json.Number:
		return value.String(), nil
	case string:
		if arrow.IsBaseBinary(typ.ID()) && typ.ID() != arrow.STRING && typ.ID() != arrow.LARGE_STRING {
			return hex.DecodeString(value)
		}
		return value, nil
	}
	return nil, fmt.Errorf("there are no parameters of this form")
}

// bindAll gives a prepared statement the values of the parameters that it has.
func (q *query) bindAll(p duckdb.PreparedStatement) error {
	for name, value := range q.params {
		var index duckdb.IdxT
		if duckdb.BindParameterIndex(p, &index, name) == duckdb.StateError {
			continue // of another statement of the query
		}
		v := createValue(value)
		state := duckdb.BindValue(p, index, v)
		duckdb.DestroyValue(&v)
		if state == duckdb.StateError {
			return parseError(duckdb.PrepareError(p), duckdb.ErrorTypeInvalid)
		}
	}
	return nil
}

func createValue(value boundValue) duckdb.Value {
	switch value := value.(type) {
	case string:
		return duckdb.CreateVarcharLength(value, duckdb.IdxT(len(value)))
	case []byte:
		return duckdb.CreateBlob(value)
	case []any:
		items := make([]duckdb.Value, len(value))
		for i, item := range value {
			items[i] = createValue(item)
			defer duckdb.DestroyValue(&items[i])
		}
		element := elementType(value)
		defer duckdb.DestroyLogicalType(&element)
		return duckdb.CreateListValue(element, items)
	}
	return duckdb.CreateNullValue()
}

// elementType is the type of the elements of a list as they are bound.
func elementType(items []any) duckdb.LogicalType {
	for _, item := range items {
		switch item := item.(type) {
		case []byte:
			return duckdb.CreateLogicalType(duckdb.TypeBlob)
		case []any:
			inner := elementType(item)
			defer duckdb.DestroyLogicalType(&inner)
			return duckdb.CreateListType(inner)
		case string:
			return duckdb.CreateLogicalType(duckdb.TypeVarchar)
		}
	}
	return duckdb.CreateLogicalType(duckdb.TypeVarchar)
}
