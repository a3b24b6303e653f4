package duck

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Names of relations have a space, so that no name that a user writes without
// quotes can be one of them: SQL takes the name of a table for its whole row.
const (
	rowName   = "alink row"
	leftName  = "alink left"
	rightName = "alink right"
	// noColumn stands for the columns of a table that has none, which SQL does
	// not know.
	noColumn = "alink none"
)

// relation is a table of a stage: one of its inputs or the result of a node.
type relation struct {
	// name is its name in SQL.
	name string
	// columns are what it holds, in normal types.
	columns []column
	index   map[string]int
	// body is the SELECT that makes it. That of an input lacks FROM.
	body fragment
	// reads are the relations it is made from, as indices in query.relations.
	reads []int
	// uses is the number of times that others read it.
	uses int
}

func (r *relation) setColumns(columns []column) {
	r.columns = columns
	r.index = make(map[string]int, len(columns))
	for i, c := range columns {
		r.index[plan.Fold(c.name)] = i
	}
}

// find looks a column up as SQL does, without regard to case.
func (r *relation) find(name string) (int, bool) {
	i, ok := r.index[plan.Fold(name)]
	return i, ok
}

// sqlNames are the quoted names of the columns that the relation has in SQL.
func sqlNames(columns []column) string {
	if len(columns) == 0 {
		return quote(noColumn)
	}
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = quote(c.name)
	}
	return strings.Join(quoted, ", ")
}

// query is a stage in SQL.
type query struct {
	stage *exec.RelationalStage
	// relations are the stage's inputs, in order, and then its nodes'.
	relations []*relation
	// inputs say how the columns of the stage's inputs get into DuckDB.
	inputs [][]*scanColumn
	// params are the values of the statements' parameters, by name.
	params map[string]boundValue
}

// close gives up what the query holds of DuckDB.
func (q *query) close() {
	for _, columns := range q.inputs {
		for _, c := range columns {
			c.close()
		}
	}
}

func (q *query) result() *relation { return q.relations[len(q.relations)-1] }

func (q *query) schema() *arrow.Schema {
	return arrow.NewSchema(arrowFields(q.result().columns), nil)
}

// compiler turns a stage into a query, node by node: each node is bound by
// itself, against typed stand-ins for its inputs, so an error is laid to the
// node it is in.
type compiler struct {
	db      *Database
	session *session
	query   *query
	byNode  map[string]int // relations by the plan's name of their node
	origin  *diag.Source   // of the node that is being compiled
}

// compile makes a query of a stage, which the caller closes. Its error is a
// diagnostic.
func (d *Database) compile(s *session, stage *exec.RelationalStage) (_ *query, err error) {
	if len(stage.Nodes) == 0 {
		return nil, diag.New(diag.InvalidPlan, "the relational stage %q has no nodes", stage.ID)
	}
	c := &compiler{db: d, session: s, query: &query{stage: stage, params: map[string]boundValue{}}, byNode: map[string]int{}}
	defer func() {
		if err != nil {
			c.query.close()
		}
	}()
	for i, input := range stage.Inputs {
		r, problem := c.input(i, input)
		if problem != nil {
			if reader, ok := readerOf(stage, input.Node); ok {
				problem = problem.At(reader.Op.Name(), reader.Origin)
			}
			return nil, problem
		}
		c.add(input.Node, r)
	}
	for i, node := range stage.Nodes {
		r, problem := c.node(i, node)
		if problem != nil {
			return nil, problem.At(node.Op.Name(), node.Origin)
		}
		c.add(node.ID, r)
	}
	return c.query, nil
}

func readerOf(stage *exec.RelationalStage, input string) (plan.Node, bool) {
	for _, node := range stage.Nodes {
		for _, id := range node.Inputs {
			if id == input {
				return node, true
			}
		}
	}
	return plan.Node{}, false
}

func (c *compiler) add(id string, r *relation) {
	c.byNode[id] = len(c.query.relations)
	c.query.relations = append(c.query.relations, r)
}

// input finds out how DuckDB sees an input.
func (c *compiler) input(i int, input exec.RelationalInput) (*relation, *diag.Diagnostic) {
	fields := input.Schema.Fields()
	if problem := checkNames(fields); problem != nil {
		return nil, problem
	}
	scan := fields
	if len(fields) == 0 {
		scan = []arrow.Field{noColumnField}
	}
	r := &relation{name: "alink input " + strconv.Itoa(i)}
	c.query.inputs = append(c.query.inputs, nil)
	var columns []column
	for _, f := range scan {
		sc, err := c.session.newScanColumn(f)
		if err != nil {
			return nil, diag.New(diag.TypeMismatch, "the column %q has the type %s, which the relational engine cannot read", f.Name, f.Type).
				WithCause(err).WithHint("convert it where the table is made, or leave it out")
		}
		c.query.inputs[i] = append(c.query.inputs[i], sc)
		columns = append(columns, column{f.Name, readType(sc.logical)})
	}
	columns = columns[:len(fields)]
	normal, _ := normalColumns(columns)
	writeCasts(&r.body, columns, normal)
	r.setColumns(normal)
	return r, nil
}

func checkNames(fields []arrow.Field) *diag.Diagnostic {
	seen := map[string]string{}
	for _, f := range fields {
		if strings.ContainsRune(f.Name, 0) {
			return diag.New(diag.InvalidPlan, "the name of the column %q holds a NUL character", f.Name).
				WithHint("rename it where the table is made")
		}
		if earlier, twice := seen[plan.Fold(f.Name)]; twice {
			return diag.New(diag.InvalidPlan, "the table has columns %q and %q, whose names differ in case at most", earlier, f.Name).
				WithHint("SQL does not tell them apart; rename one of them where the table is made")
		}
		seen[plan.Fold(f.Name)] = f.Name
	}
	return nil
}

// types gives the types of the columns of body, a SELECT. The error is a
// *queryError whose position is in body.
func (c *compiler) types(with string, body *fragment, columns []column) ([]sqlType, error) {
	given, err := c.session.columns(with+body.String(), body.depth)
	if err != nil {
		if q := asQueryError(err); q.position >= 0 {
			q.position = max(q.position-len(with), -1)
		}
		return nil, err
	}
	if got, want := len(given), max(len(columns), 1); got != want {
		return nil, &queryError{
			kind: "Binder", position: -1,
			message: fmt.Sprintf("the expressions give %d columns instead of %d", got, want),
		}
	}
	types := make([]sqlType, len(columns))
	for i, col := range columns {
		types[i] = given[i].typ
		if _, hasNull := col.typ.visible(); hasNull {
			types[i] = col.typ
		}
	}
	return types, nil
}

// node binds a node and makes its relation.
func (c *compiler) node(i int, node plan.Node) (*relation, *diag.Diagnostic) {
	c.origin = node.Origin
	r := &relation{name: "alink node " + strconv.Itoa(i)}
	inputs := make([]*relation, len(node.Inputs))
	for j, id := range node.Inputs {
		at, ok := c.byNode[id]
		if !ok {
			return nil, diag.New(diag.InvalidPlan, "the node %q reads %q, which is neither an input nor an earlier node of its stage", node.ID, id)
		}
		r.reads = append(r.reads, at)
		inputs[j] = c.query.relations[at]
		inputs[j].uses++
	}
	var body *fragment
	var columns []column
	var problem *diag.Diagnostic
	if op, isQuery := node.Op.(plan.SQLQuery); isQuery {
		body, columns, problem = c.sqlQuery(op, inputs, i)
	} else {
		body, columns, problem = c.generate(node.Op, inputs)
	}
	if problem != nil {
		return nil, problem
	}
	types, err := c.types(standIns(inputs), body, columns)
	if err != nil {
		return nil, c.diagnose(node, inputs, body, asQueryError(err))
	}
	for i, t := range types {
		columns[i].typ = t
	}
	normal, changed := normalColumns(columns)
	if changed {
		writeCasts(&r.body, columns, normal)
		r.body.write(" FROM (")
		r.body.add(body)
		r.body.write(") AS " + quote(rowName) + "(" + sqlNames(columns) + ")")
	} else {
		r.body.add(body)
	}
	r.body.setNode(i)
	r.setColumns(normal)
	return r, nil
}

// standIns is a WITH clause that defines empty tables of the relations' names
// and types.
func standIns(inputs []*relation) string {
	var with strings.Builder
	seen := map[*relation]bool{}
	for _, r := range inputs {
		if seen[r] {
			continue
		}
		with.WriteString([]string{"WITH ", ", "}[min(len(seen), 1)])
		seen[r] = true
		with.WriteString(quote(r.name) + "(" + sqlNames(r.columns) + ") AS (SELECT ")
		for i, col := range r.columns {
			if i > 0 {
				with.WriteString(", ")
			}
			with.WriteString("NULL::" + col.typ.sql())
		}
		if len(r.columns) == 0 {
			with.WriteString("NULL::BOOLEAN")
		}
		with.WriteString(") ")
	}
	return with.String()
}

func normalColumns(columns []column) (normal []column, changed bool) {
	normal = make([]column, len(columns))
	for i, c := range columns {
		typ, castNeeded := c.typ.normal()
		normal[i] = column{c.name, typ}
		changed = changed || castNeeded
	}
	return normal, changed
}

// writeCasts writes SELECT and the columns, cast to their normal types.
func writeCasts(f *fragment, columns, normal []column) {
	f.write("SELECT ")
	for i, c := range columns {
		if i > 0 {
			f.write(", ")
		}
		if _, changed := c.typ.normal(); !changed {
			f.write(quote(c.name))
			continue
		}
		start := f.len()
		f.write("CAST(" + quote(c.name) + " AS " + normal[i].typ.sql() + ")")
		f.mark(start, columnSubject(c.name))
	}
	if len(columns) == 0 {
		f.write(quote(noColumn))
	}
}

func columnSubject(name string) string {
	if strings.HasPrefix(name, "__alink_") { // made by lowering
		return "an argument of a Python function"
	}
	return fmt.Sprintf("column %q", name)
}

// statements gives the statements that compute the query, in order; sources
// are the inputs as tables of SQL. All but the last fill a
// temporary table with a relation that is read more than once: a stream can
// be scanned only once (a second scan finds nothing, and says nothing), so
// that what depends on one may be computed only once.
func (q *query) statements(sources []string) []*fragment {
	var out []*fragment
	stored := make([]bool, len(q.relations))
	for i, r := range q.relations {
		if r.uses > 1 {
			f := &fragment{}
			f.write("CREATE TEMP TABLE " + quote(r.name) + "(" + sqlNames(r.columns) + ") AS ")
			q.selectAll(f, i, sources, stored)
			out = append(out, f)
			stored[i] = true
		}
	}
	last := &fragment{}
	q.selectAll(last, len(q.relations)-1, sources, stored)
	return append(out, last)
}

// selectAll writes the SELECT of all rows of a relation, with what it is made
// from, back to inputs and stored relations, in a WITH clause.
func (q *query) selectAll(f *fragment, target int, sources []string, stored []bool) {
	needed := make([]bool, len(q.relations))
	needed[target] = true
	for i := target; i >= 0; i-- {
		if needed[i] && !stored[i] {
			for _, read := range q.relations[i].reads {
				needed[read] = true
			}
		}
	}
	keyword := "WITH "
	for i, r := range q.relations[:target+1] {
		if !needed[i] || stored[i] {
			continue
		}
		f.write(keyword + quote(r.name) + "(" + sqlNames(r.columns) + ") AS NOT MATERIALIZED (")
		f.add(&r.body)
		if i < len(sources) {
			f.write(" FROM " + sources[i])
		}
		f.write(")")
		keyword = ", "
	}
	f.write(" FROM " + quote(q.relations[target].name))
}
