package duck

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// queryError is an error of DuckDB.
type queryError struct {
	kind    string // "Binder", "Conversion", "Out of Memory" …
	subtype string // "COLUMN_NOT_FOUND" …
	message string
	// name is what was not found, and entry what it was looked for as: "Scalar
	// Function", "Type" …
	name, entry string
	// position is a byte of the statement; -1 is none.
	position int
}

func (e *queryError) Error() string { return e.message }

func asQueryError(err error) *queryError {
	if q, ok := errors.AsType[*queryError](err); ok {
		return q
	}
	return &queryError{kind: "Internal", message: err.Error(), position: -1}
}

func resultError(result *duckdb.Result) *queryError {
	return parseError(duckdb.ResultError(result), duckdb.ResultErrorType(result))
}

// parseError reads an error in the JSON form that errors_as_json asks for.
// Where DuckDB does not keep to it, the text is taken as it is.
func parseError(text string, typ duckdb.ErrorType) *queryError {
	var fields struct {
		Kind     string `json:"exception_type"`
		Message  string `json:"exception_message"`
		Subtype  string `json:"error_subtype"`
		Name     string `json:"name"`
		Entry    string `json:"type"`
		Position string `json:"position"`
	}
	e := &queryError{kind: "Internal", message: text, position: -1}
	// A parser error has "Parser Error: " in front of the object.
	if start := strings.Index(text, `{"exception_type"`); start >= 0 && json.Unmarshal([]byte(text[start:]), &fields) == nil {
		e = &queryError{
			kind: fields.Kind, subtype: fields.Subtype, message: fields.Message,
			name: fields.Name, entry: fields.Entry, position: -1,
		}
		if position, err := strconv.Atoi(fields.Position); err == nil {
			e.position = position
		}
	}
	switch typ {
	case duckdb.ErrorTypeOutOfMemory:
		e.kind = kindOutOfMemory
	case duckdb.ErrorTypeInterrupt:
		e.kind = kindInterrupt
	}
	return e
}

// Kinds of queryError.
const (
	kindOutOfMemory = "Out of Memory"
	kindInterrupt   = "INTERRUPT"
	kindInternal    = "INTERNAL"
	kindFatal       = "FATAL"
	kindParser      = "Parser"
	kindPermission  = "Permission"
)

// causeLinesMax bounds the lines of DuckDB's own text in a diagnostic.
const causeLinesMax = 4

// cause is the message, without empty lines, cut to a few.
func (e *queryError) cause() string {
	var lines []string
	for line := range strings.SplitSeq(e.message, "\n") {
		if line = strings.TrimRight(line, " \t\r"); line == "" {
			continue
		}
		if strings.HasPrefix(line, "LINE ") { // our statement, and a caret below it
			break
		}
		if lines = append(lines, strings.ReplaceAll(line, "\t", "  ")); len(lines) == causeLinesMax {
			break
		}
	}
	return strings.Join(lines, "\n")
}

// diagnose explains why a node could not be bound.
func (c *compiler) diagnose(node plan.Node, inputs []*relation, body *fragment, e *queryError) *diag.Diagnostic {
	at := body.locate(e.position)
	if at.text == "" {
		if single, ok := body.only(); ok {
			at = single
		} else if at.subject == "" {
			at, e = c.culprit(node.Op, inputs, e)
		}
	}
	d := c.explain(e, at, inputs)
	return withCaret(d, node.Origin, at, e.name)
}

// culprit finds the expression that cannot be bound where DuckDB gave no
// position: by binding each alone. Without one it gives e back.
func (c *compiler) culprit(op plan.Op, inputs []*relation, e *queryError) (place, *queryError) {
	for _, single := range singles(op) {
		body, columns, problem := c.generate(single, inputs)
		if problem != nil {
			continue
		}
		if _, err := c.types(standIns(inputs), body, columns); err != nil {
			if at, ok := body.only(); ok {
				return at, asQueryError(err)
			}
		}
	}
	return place{node: -1, offset: -1}, e
}

// singles are the operators of one expression each that op is made of. An
// aggregate that uses a key keeps it and so is not among them.
func singles(op plan.Op) []plan.Op {
	var out []plan.Op
	switch op := op.(type) {
	case plan.Project:
		for _, e := range op.Exprs {
			out = append(out, plan.Project{Exprs: []plan.NamedExpr{e}})
		}
	case plan.Aggregate:
		for _, e := range op.Keys {
			out = append(out, plan.Aggregate{Keys: []plan.NamedExpr{e}})
		}
		for _, e := range op.Aggregates {
			out = append(out, plan.Aggregate{Aggregates: []plan.NamedExpr{e}})
		}
	case plan.Sort:
		for _, key := range op.By {
			out = append(out, plan.Sort{By: []plan.SortKey{key}})
		}
	}
	return out
}

var (
	missingTable = regexp.MustCompile(`^Referenced table "((?:[^"]|"")*)" not found`)
	functionName = regexp.MustCompile(`^[\pL_]`)
	notGrouped   = "must appear in the GROUP BY clause"
	aboutTypes   = regexp.MustCompile(`(?i)\btypes?\b|\bcast\b`)
)

// explain turns an error of binding into a diagnostic.
func (c *compiler) explain(e *queryError, at place, inputs []*relation) *diag.Diagnostic {
	what := at.what()
	switch {
	case e.subtype == "COLUMN_NOT_FOUND" && e.name != "":
		return unknownColumn(e.name, inputs[0], "")
	case e.subtype == "MISSING_ENTRY" && strings.Contains(e.entry, "Function"):
		if operator := strings.TrimSuffix(e.name, "__postfix"); !functionName.MatchString(operator) {
			return badText(at.text, fmt.Sprintf("there is no operator %q like this", operator), at.offset)
		}
		return c.unknownFunction(e.name)
	case e.subtype == "MISSING_ENTRY" && e.entry == "Type":
		return diag.New(diag.TypeMismatch, "there is no type %q", e.name).
			WithHint("types are named as in SQL: bigint, double, string, date, timestamp …")
	case e.subtype == "NO_MATCHING_FUNCTION":
		return diag.New(diag.TypeMismatch, "the types in %s do not fit", what).WithCause(errors.New(e.cause())).
			WithHint("cast explicitly where types differ: x::double")
	case e.kind == kindPermission:
		return diag.New(diag.BadExpression, "%s reads something outside the job", what).WithCause(errors.New(e.cause()))
	case e.kind == kindParser:
		if at.text != "" {
			return badText(at.text, e.cause(), at.offset)
		}
		return diag.New(diag.BadExpression, "%s is not one SQL expression", what).WithCause(errors.New(e.cause()))
	case e.kind == kindOutOfMemory, strings.EqualFold(e.kind, kindInternal), strings.EqualFold(e.kind, kindFatal), strings.EqualFold(e.kind, kindInterrupt):
		return c.db.failure(e)
	}
	if table := missingTable.FindStringSubmatch(e.message); table != nil {
		return unknownColumn(strings.ReplaceAll(table[1], `""`, `"`), inputs[0], "")
	}
	if e.kind == "Conversion" || e.kind == "Mismatch Type" || aboutTypes.MatchString(e.message) {
		return diag.New(diag.TypeMismatch, "the types in %s do not fit", what).WithCause(errors.New(e.cause())).
			WithHint("cast explicitly where types differ: x::double")
	}
	problem := diag.New(diag.BadExpression, "%s cannot be evaluated", what).WithCause(errors.New(e.cause()))
	if strings.Contains(e.message, notGrouped) {
		problem.WithHint("put the column into an aggregate function: max(x), any_value(x), list(x) …")
	}
	return problem
}

// failure is the diagnostic of an error while a query runs.
func (d *Database) failure(e *queryError) *diag.Diagnostic {
	switch {
	case strings.EqualFold(e.kind, kindInterrupt):
		// Nobody has interrupted it: a run that is to end has another error.
		// DuckDB says so, rarely, where one of its helper threads has failed.
		return diag.New(diag.QueryFailed, "a relational step failed in one of several threads, and what it said was lost").
			WithHint("run it with al.connect(parallelism=1) to read the cause")
	case e.kind == kindOutOfMemory:
		limit := "the engine's memory limit"
		if d.options.MemoryLimitBytes > 0 {
			limit += fmt.Sprintf(" of %d MiB", d.options.MemoryLimitBytes>>20)
		}
		problem := diag.New(diag.OutOfMemory, "a relational step needs more than %s", limit).WithCause(errors.New(e.cause()))
		if d.spillDir == "" {
			return problem.WithHint("raise memory= at al.connect, or name a spill_dir= with room")
		}
		return problem.WithHint("raise memory= at al.connect")
	case strings.EqualFold(e.kind, kindInternal), strings.EqualFold(e.kind, kindFatal):
		return diag.New(diag.Internal, "the relational engine failed").WithCause(errors.New(e.cause()))
	}
	return diag.New(diag.QueryFailed, "a relational step failed while it ran").WithCause(errors.New(e.cause()))
}

// runError explains an error while the query of q ran: statement is what ran.
func (q *query) runError(d *Database, statement *fragment, e *queryError) *diag.Diagnostic {
	switch e.kind {
	case "Binder", "Catalog", kindParser: // every node could be bound by itself
		e.kind = kindInternal
	}
	problem := d.failure(e)
	at := statement.locate(e.position)
	nodes := q.stage.Nodes
	if at.node < 0 && len(nodes) == 1 {
		if single, ok := statement.only(); ok {
			at = single
		}
		at.node = 0
	}
	if at.node < 0 { // which of the nodes it was is not known
		steps := make([]string, len(nodes))
		for i, node := range nodes {
			steps[i] = node.Op.Name()
			if node.Origin != nil {
				steps[i] += fmt.Sprintf(" (line %d)", node.Origin.Line)
			}
		}
		last := nodes[len(nodes)-1]
		return problem.WithFact("in one of the steps %s", strings.Join(steps, ", ")).At(last.Op.Name(), last.Origin)
	}
	if problem.Code == diag.QueryFailed && (at.text != "" || at.subject != "") {
		problem.Message = at.what() + " failed while it ran"
	}
	node := nodes[at.node]
	return withCaret(problem, node.Origin, at, "").At(node.Op.Name(), node.Origin)
}

// what names the place in a sentence.
func (p place) what() string {
	switch {
	case p.text != "":
		return show(p.text)
	case p.subject != "":
		return p.subject
	}
	return "the step"
}

func unknownColumn(name string, r *relation, where string) *diag.Diagnostic {
	return diag.New(diag.UnknownColumn, "there is no column %q%s", name, where).
		WithHint("%s", diag.DidYouMean(name, "the columns", names(r.columns)))
}

func names(columns []column) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.name
	}
	return out
}

// functionsMax bounds the names that are compared for a suggestion.
const functionsMax = 5000

func (c *compiler) unknownFunction(name string) *diag.Diagnostic {
	problem := diag.New(diag.UnknownFunction, "there is no function %q", name).
		WithHint(`SQL functions are DuckDB's; a Python function is used by calling it: with_columns(y=f("x"))`)
	if near := diag.Suggest(name, c.session.functions("Scalar Function")); len(near) > 0 {
		problem.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return problem
}

// badText is the diagnostic of a text that is not one expression. offset is
// the byte of text where it goes wrong; -1 is none.
func badText(text, reason string, offset int) *diag.Diagnostic {
	d := diag.New(diag.BadExpression, "%s is not one SQL expression", show(text)).
		WithCause(errors.New(strings.Join(append([]string{reason}, caretLines(text, offset)...), "\n")))
	return d.WithHint(`columns are written bare or in double quotes, strings in single quotes: "my column" = 'text'`)
}

// offsetIn turns DuckDB's position in a statement, where text has prefixLen
// bytes in front of it, into an offset in text; -1 is none.
func offsetIn(text, position string, prefixLen int) int {
	at, err := strconv.Atoi(position)
	if err != nil || at < prefixLen || at-prefixLen > len(text) {
		return -1
	}
	return at - prefixLen
}

// caretLines shows where in a text something is, if that can be shown.
func caretLines(text string, offset int) []string {
	if offset < 0 || offset > len(text) || strings.ContainsAny(text, "\n\t") || utf8.RuneCountInString(text) > showMax {
		return nil
	}
	return []string{text, strings.Repeat(" ", utf8.RuneCountInString(text[:offset])) + "^"}
}

// withCaret points to the place in the user's own line if the text stands
// there exactly once.
func withCaret(d *diag.Diagnostic, origin *diag.Source, at place, name string) *diag.Diagnostic {
	if at.text == "" || at.offset < 0 || origin == nil || strings.Count(origin.Text, at.text) != 1 {
		return d
	}
	source := *origin
	start := strings.Index(source.Text, at.text) + at.offset
	end := start + tokenLen(at.text[at.offset:], name)
	source.Column = utf8.RuneCountInString(source.Text[:start]) + 1
	source.EndColumn = utf8.RuneCountInString(source.Text[:end]) + 1
	d.Source = &source
	return d
}

// tokenLen is the length of what a caret should underline at the beginning of
// text: the name, if it is there, or a word.
func tokenLen(text, name string) int {
	for _, candidate := range []string{quote(name), name} {
		if name != "" && len(candidate) <= len(text) && plan.Fold(text[:len(candidate)]) == plan.Fold(candidate) {
			return len(candidate)
		}
	}
	for _, class := range []func(byte) bool{wordByte, operatorByte} {
		n := 0
		for n < len(text) && class(text[n]) {
			n++
		}
		if n > 0 {
			return n
		}
	}
	_, n := utf8.DecodeRuneInString(text)
	return n
}

func wordByte(c byte) bool {
	return c == '_' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func operatorByte(c byte) bool { return strings.IndexByte("<>=!:|&~^+-*/%@", c) >= 0 }

// showMax bounds the characters of a user's text in a message.
const showMax = 80

// show quotes a text of the user on one line.
func show(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > showMax {
		text = string(runes[:showMax-1]) + "…"
	}
	if strings.Contains(text, `"`) {
		return "`" + text + "`"
	}
	return `"` + text + `"`
}
