package duck

import (
	"fmt"
	"strconv"
	"strings"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

// generate writes the SELECT of an operator and gives the names of its
// columns. A type is set where an input's column is passed on.
// Expressions get no aliases, and columns their names only outside:
// SQL would let an expression use the alias of another one, while ours are
// evaluated against the table as it was before.
func (c *compiler) generate(op plan.Op, inputs []*relation) (*fragment, []column, *diag.Diagnostic) {
	if problem := checkInputs(op, len(inputs)); problem != nil {
		return nil, nil, problem
	}
	g := &generator{db: c.db, session: c.session, input: inputs[0], origin: c.origin}
	columns := inputs[0].columns
	var problem *diag.Diagnostic
	switch op := op.(type) {
	case plan.Filter:
		problem = g.filter(op)
	case plan.Project:
		columns, problem = g.project(op)
	case plan.Drop:
		columns, problem = g.drop(op)
	case plan.Rename:
		columns, problem = g.rename(op)
	case plan.Aggregate:
		columns, problem = g.aggregate(op)
	case plan.Join:
		columns, problem = g.join(op, inputs[0], inputs[1])
	case plan.Sort:
		problem = g.sort(op)
	case plan.Limit:
		problem = g.limit(op)
	case plan.Union:
		columns, problem = g.union(op, inputs)
	case plan.Distinct:
		columns, problem = g.distinct(op)
	case plan.Sample:
		columns = g.sample(op)
	case plan.Unnest:
		columns, problem = g.unnest(op)
	default:
		problem = diag.New(diag.InvalidPlan, "%s is not a relational step", op.Name())
	}
	if problem != nil {
		return nil, nil, problem
	}
	return &g.out, append([]column(nil), columns...), nil
}

func checkInputs(op plan.Op, got int) *diag.Diagnostic {
	wanted := 1
	switch op.(type) {
	case plan.Join:
		wanted = 2
	case plan.Union:
		wanted = max(got, 1)
	}
	if got != wanted {
		return diag.New(diag.InvalidPlan, "%s has %d inputs instead of %d", op.Name(), got, wanted)
	}
	return nil
}

func (g *generator) from() { g.out.write(" FROM " + quote(g.input.name)) }

// item writes an expression that is for subject.
func (g *generator) item(e plan.Expr, subject string) *diag.Diagnostic {
	start := g.out.len()
	problem := g.expression(e, 0)
	g.out.mark(start, subject)
	return problem
}

func (g *generator) filter(op plan.Filter) *diag.Diagnostic {
	g.out.write("SELECT *")
	g.from()
	g.out.write(" WHERE ")
	return g.item(op.Predicate, "the predicate")
}

func (g *generator) project(op plan.Project) ([]column, *diag.Diagnostic) {
	if problem := checkUnique(op.Exprs); problem != nil {
		return nil, problem
	}
	var columns []column
	replaced := map[int]plan.NamedExpr{}
	added := op.Exprs
	if op.Keep {
		columns = append(columns, g.input.columns...)
		added = nil
		for _, e := range op.Exprs {
			if i, ok := g.input.find(e.Name); ok {
				replaced[i] = e
				columns[i] = g.computed(e)
			} else {
				added = append(added, e)
			}
		}
	}
	g.out.write("SELECT ")
	for i, kept := range columns {
		if i > 0 {
			g.out.write(", ")
		}
		e, ok := replaced[i]
		if !ok {
			g.out.write(quote(kept.name))
			continue
		}
		if problem := g.item(e.Expr, columnSubject(e.Name)); problem != nil {
			return nil, problem
		}
	}
	for _, e := range added {
		if len(columns) > 0 {
			g.out.write(", ")
		}
		if problem := g.item(e.Expr, columnSubject(e.Name)); problem != nil {
			return nil, problem
		}
		columns = append(columns, g.computed(e))
	}
	if len(columns) == 0 {
		g.out.write("NULL::BOOLEAN")
	}
	shuffling, problem := g.anyText(op.Exprs, func(text parsedText) bool { return text.shuffling })
	if problem != nil {
		return nil, problem
	}
	if shuffling {
		g.out.write(" FROM " + g.numbered() + " ORDER BY " + quote(numberName))
	} else {
		g.from()
	}
	return columns, nil
}

// computed is the column of an expression. Its type is known only where NULL's
// is in it (see sqlType.visible): in a column of the input, or a literal.
func (g *generator) computed(e plan.NamedExpr) column {
	out := column{name: e.Name}
	switch {
	case e.Expr.Column != nil:
		if i, ok := g.input.find(*e.Expr.Column); ok {
			out.typ = g.input.columns[i].typ
		}
	case e.Expr.Literal != nil && strings.EqualFold(e.Expr.Literal.Type, "null"):
		out.typ = sqlType{id: duckdb.TypeSQLNull}
	}
	return out
}

// aggregate groups by the positions of the keys in the result, which works for
// every expression; GROUP BY 1 on its own would not be a constant.
func (g *generator) aggregate(op plan.Aggregate) ([]column, *diag.Diagnostic) {
	all := append(append([]plan.NamedExpr(nil), op.Keys...), op.Aggregates...)
	if len(all) == 0 {
		return nil, diag.New(diag.InvalidPlan, "an aggregate needs a key or an aggregate at least")
	}
	if problem := checkUnique(all); problem != nil {
		return nil, problem
	}
	columns := make([]column, len(all))
	g.out.write("SELECT ")
	for i, e := range all {
		if i > 0 {
			g.out.write(", ")
		}
		if problem := g.item(e.Expr, columnSubject(e.Name)); problem != nil {
			return nil, problem
		}
		columns[i] = g.computed(e)
	}
	ordered, problem := g.anyText(op.Aggregates, func(text parsedText) bool { return text.ordered })
	if problem != nil {
		return nil, problem
	}
	if ordered {
		// Rows that are numbered while they pass come by one thread, in their
		// order. No row has the number 0, but the optimizer does not know it.
		g.out.write(" FROM " + g.numbered() + " WHERE " + quote(numberName) + " > 0")
	} else {
		g.from()
	}
	if len(op.Keys) == 0 {
		g.out.write(" GROUP BY ()") // one row, even if nothing is aggregated
	}
	for i := range op.Keys {
		g.out.write([]string{" GROUP BY ", ", "}[min(i, 1)] + strconv.Itoa(i+1))
	}
	return columns, nil
}

// anyText reports whether something holds of one of the texts in expressions.
func (g *generator) anyText(exprs []plan.NamedExpr, holds func(parsedText) bool) (bool, *diag.Diagnostic) {
	rest := make([]plan.Expr, len(exprs))
	for i, e := range exprs {
		rest[i] = e.Expr
	}
	for len(rest) > 0 {
		e := rest[0]
		rest = append(rest[1:], e.Args...)
		if e.SQL == "" {
			continue
		}
		if parsed, problem := g.parse(e.SQL); problem != nil || holds(parsed) {
			return problem == nil, problem
		}
	}
	return false, nil
}

func checkUnique(exprs []plan.NamedExpr) *diag.Diagnostic {
	seen := map[string]bool{}
	for _, e := range exprs {
		if strings.ContainsRune(e.Name, 0) {
			return diag.New(diag.InvalidPlan, "the name of the column %q holds a NUL character", e.Name)
		}
		if seen[plan.Fold(e.Name)] {
			return diag.New(diag.InvalidPlan, "the column %q is defined twice", e.Name).
				WithHint("names are compared without regard to case; give one of the two another name")
		}
		seen[plan.Fold(e.Name)] = true
	}
	return nil
}

var joinKeywords = map[plan.JoinKind]string{
	plan.Inner: "INNER", plan.Left: "LEFT", plan.Right: "RIGHT",
	plan.Full: "FULL", plan.Semi: "SEMI", plan.Anti: "ANTI", plan.Cross: "CROSS",
}

func (g *generator) join(op plan.Join, left, right *relation) ([]column, *diag.Diagnostic) {
	keyword, ok := joinKeywords[op.How]
	if !ok {
		return nil, diag.New(diag.InvalidPlan, "there is no join %q", op.How)
	}
	if (len(op.On) == 0) != (op.How == plan.Cross) {
		return nil, diag.New(diag.InvalidPlan, "a %s join cannot be on %d columns", op.How, len(op.On))
	}
	merged := map[int]int{} // columns of left to those of right that they are joined with under the same name
	dropped := map[int]bool{}
	for _, key := range op.On {
		l, found := left.find(key.Left)
		if !found {
			return nil, unknownColumn(key.Left, left, " in the left table of the join")
		}
		r, found := right.find(key.Right)
		if !found {
			return nil, unknownColumn(key.Right, right, " in the right table of the join")
		}
		if problem := checkJoinTypes(left.columns[l], right.columns[r]); problem != nil {
			return nil, problem
		}
		if plan.Fold(key.Left) == plan.Fold(key.Right) {
			merged[l] = r
			dropped[r] = true
		}
	}
	filtering := op.How == plan.Semi || op.How == plan.Anti
	columns := append([]column(nil), left.columns...)
	g.out.write("SELECT ")
	for i, col := range left.columns {
		if i > 0 {
			g.out.write(", ")
		}
		sql := quote(leftName) + "." + quote(col.name)
		if r, ok := merged[i]; ok && (op.How == plan.Right || op.How == plan.Full) {
			sql = "COALESCE(" + sql + ", " + quote(rightName) + "." + quote(right.columns[r].name) + ")"
			columns[i].typ = sqlType{}
		}
		g.out.write(sql)
	}
	for i, col := range right.columns {
		if filtering || dropped[i] {
			continue
		}
		if l, both := left.find(col.name); both && op.Suffix == "" {
			return nil, diag.New(diag.InvalidPlan, "both tables of the join have a column %q that is not joined on", left.columns[l].name).
				WithHint("give the right one another name, join(…, suffix=\"_right\"), or join on it too")
		}
		if len(columns) > 0 {
			g.out.write(", ")
		}
		g.out.write(quote(rightName) + "." + quote(col.name))
		if _, both := left.find(col.name); both {
			col.name += op.Suffix
		}
		columns = append(columns, col)
	}
	if len(columns) == 0 {
		g.out.write("NULL::BOOLEAN")
	}
	if problem := checkSuffixed(op, columns); problem != nil {
		return nil, problem
	}
	g.out.write(" FROM " + quote(left.name) + " AS " + quote(leftName) + " " + keyword + " JOIN " +
		quote(right.name) + " AS " + quote(rightName))
	comparison := map[bool]string{false: " = ", true: " IS NOT DISTINCT FROM "}[op.NullsEqual]
	for i, key := range op.On {
		g.out.write([]string{" ON ", " AND "}[min(i, 1)])
		start := g.out.len()
		g.out.write(quote(leftName) + "." + quote(key.Left) + comparison + quote(rightName) + "." + quote(key.Right))
		g.out.mark(start, joinSubject(key))
	}
	return columns, nil
}

// checkSuffixed refuses names that the suffix has made equal to others.
func checkSuffixed(op plan.Join, columns []column) *diag.Diagnostic {
	if op.Suffix == "" {
		return nil
	}
	seen := map[string]bool{}
	for _, c := range columns {
		if seen[plan.Fold(c.name)] {
			return diag.New(diag.InvalidPlan, "the join would give two columns the name %q, one of them with the suffix %q", c.name, op.Suffix).
				WithHint("choose another suffix, or rename one of them before the join")
		}
		seen[plan.Fold(c.name)] = true
	}
	return nil
}

// checkJoinTypes refuses to compare text with something else. DuckDB would
// read the text as the other type, and fail at the first that is none.
func checkJoinTypes(left, right column) *diag.Diagnostic {
	l, r := left.typ, right.typ
	if l.id == duckdb.TypeSQLNull || r.id == duckdb.TypeSQLNull || (l.id == duckdb.TypeVarchar) == (r.id == duckdb.TypeVarchar) {
		return nil
	}
	return diag.New(diag.TypeMismatch, "the join compares %q, a %s, with %q, a %s",
		left.name, plan.FormatType(l.arrow()), right.name, plan.FormatType(r.arrow())).
		WithHint("cast one of them before the join: with_columns(%s=al.col(%q).cast(…))", left.name, left.name)
}

func joinSubject(key plan.JoinKey) string {
	if plan.Fold(key.Left) == plan.Fold(key.Right) {
		return fmt.Sprintf("the join on %q", key.Left)
	}
	return fmt.Sprintf("the join of %q with %q", key.Left, key.Right)
}

// sort leaves out keys that are bare literals: they order nothing, but SQL
// would take a number for the position of a column.
func (g *generator) sort(op plan.Sort) *diag.Diagnostic {
	if len(op.By) == 0 {
		return diag.New(diag.InvalidPlan, "a sort needs a key")
	}
	g.out.write("SELECT *")
	g.from()
	separator := " ORDER BY "
	for i, key := range op.By {
		if key.Expr.SQL != "" {
			parsed, problem := g.parse(key.Expr.SQL)
			if problem != nil {
				return problem
			}
			if parsed.constant {
				continue
			}
		}
		g.out.write(separator)
		separator = ", "
		if problem := g.item(key.Expr, fmt.Sprintf("sort key %d", i+1)); problem != nil {
			return problem
		}
		g.out.write(map[bool]string{true: " DESC", false: " ASC"}[key.Descending])
		g.out.write(map[bool]string{true: " NULLS FIRST", false: " NULLS LAST"}[key.NullsFirst])
	}
	if separator == ", " { // DuckDB's sort is not stable
		g.out.write(", " + rowNumber)
	}
	return nil
}

func (g *generator) limit(op plan.Limit) *diag.Diagnostic {
	if op.N < 0 || op.Offset < 0 {
		return diag.New(diag.InvalidPlan, "a limit of %d rows after %d is negative", op.N, op.Offset)
	}
	g.out.write("SELECT *")
	g.from()
	g.out.write(fmt.Sprintf(" LIMIT %d OFFSET %d", op.N, op.Offset))
	return nil
}
