package duck

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/exec"
	"github.com/alink-runtime/alink/engine/plan"
)

// Shell runs scripts of statements in an instance of its own. It implements
// exec.Shell.
type Shell struct {
	db      *Database
	session *session
}

var _ exec.Shell = (*Shell)(nil)

// OpenShell starts an instance whose statements may read and write files and
// change settings. Extensions are loaded only where a statement asks for it.
func OpenShell(options Options) (*Shell, error) {
	options.open = true
	db, err := Open(options)
	if err != nil {
		return nil, err
	}
	s, err := db.connect()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Shell{db: db, session: s}, nil
}

// Close implements exec.Shell.
func (s *Shell) Close() error {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
	return s.db.Close()
}

// Complete implements exec.Shell.
func (s *Shell) Complete(text string) bool { return complete(text) }

// wordsMax bounds the words that are offered for completion.
const wordsMax = 20_000

// Words implements exec.Shell.
func (s *Shell) Words(ctx context.Context) (words []string, err error) {
	err = s.session.guard(ctx, func() error {
		words, err = s.session.strings(`SELECT upper(keyword_name) FROM duckdb_keywords()
			UNION SELECT DISTINCT table_name FROM duckdb_tables() WHERE NOT internal
			UNION SELECT DISTINCT view_name FROM duckdb_views() WHERE NOT internal
			UNION SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal
			ORDER BY 1`, wordsMax)
		return err
	})
	return words, err
}

// Run implements exec.Shell.
func (s *Shell) Run(ctx context.Context, given exec.Script, out exec.Results) error {
	c, err := s.read(given)
	if err != nil {
		return err
	}
	defer c.close()
	for i := range c.count {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.session.guard(ctx, func() error { return c.statement(ctx, i, out) })
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		if e, ok := errors.AsType[*queryError](err); ok {
			return c.explain(i, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// script is a script as DuckDB reads it.
type script struct {
	exec.Script
	shell     *Shell
	extracted duckdb.ExtractedStatements
	count     int
	// starts are the bytes at which the statements begin, and lines the lines.
	// Where our cuts do not agree with what DuckDB has found, there are none.
	starts, lines []int
}

// read reads a script, all of it before anything runs.
func (s *Shell) read(given exec.Script) (*script, error) {
	c := &script{Script: given, shell: s}
	if at := strings.IndexByte(given.Text, 0); at >= 0 { // DuckDB would not see what follows
		return nil, c.problem(diag.New(diag.BadQuery, "the script holds a NUL character"), at, "")
	}
	if !utf8.ValidString(given.Text) {
		at := strings.IndexRune(given.Text, utf8.RuneError)
		return nil, c.problem(diag.New(diag.BadQuery, "the script is not UTF-8"), at, "")
	}
	c.count = int(duckdb.ExtractStatements(s.session.conn, given.Text, &c.extracted))
	if message := duckdb.ExtractStatementsError(c.extracted); message != "" {
		defer c.close()
		return nil, c.explain(-1, parseError(message, duckdb.ErrorTypeInvalid))
	}
	c.locate()
	return c, nil
}

func (c *script) close() { duckdb.DestroyExtracted(&c.extracted) }

// Parameters implements exec.Shell.
func (s *Shell) Parameters(text string) []string {
	var names []string
	for _, m := range parameterMarks(text) {
		if !slices.Contains(names, m.name) {
			names = append(names, m.name)
		}
	}
	return names
}

// locate finds where the statements begin: pieces between semicolons, in each
// of which DuckDB finds so many (a PIVOT is two).
func (c *script) locate() {
	line, counted := 1, 0
	for _, p := range pieces(c.Text) {
		line += strings.Count(c.Text[counted:p.start], "\n")
		counted = p.start
		var part duckdb.ExtractedStatements
		n := duckdb.ExtractStatements(c.shell.session.conn, c.Text[p.start:p.end], &part)
		duckdb.DestroyExtracted(&part)
		for range n {
			c.starts, c.lines = append(c.starts, p.start), append(c.lines, line)
		}
	}
	if len(c.starts) != c.count {
		c.starts = nil
	}
}

// start is the byte at which a statement begins; -1 is not known.
func (c *script) start(i int) int {
	if i < 0 || i >= len(c.starts) {
		return -1
	}
	return c.starts[i]
}

// statement runs a statement. An error of DuckDB's is a *queryError.
func (c *script) statement(ctx context.Context, i int, out exec.Results) error {
	began := time.Now()
	var p duckdb.PreparedStatement
	if duckdb.PrepareExtractedStatement(c.shell.session.conn, c.extracted, duckdb.IdxT(i), &p) == duckdb.StateError {
		defer duckdb.DestroyPrepare(&p)
		return parseError(duckdb.PrepareError(p), duckdb.ErrorTypeInvalid)
	}
	defer duckdb.DestroyPrepare(&p)
	told := exec.Statement{Number: i + 1, Of: c.count, Kind: statementKinds[duckdb.PreparedStatementType(p)]}
	if i < len(c.starts) {
		told.Line = c.lines[i]
	}
	// Before it has changed anything; see columns.
	if err := c.checkReadable(i, preparedColumns(p)); err != nil {
		return err
	}
	if err := c.bind(i, p); err != nil {
		return err
	}
	if err := c.execute(ctx, i, p, &told, out); err != nil {
		return err
	}
	told.Elapsed = time.Since(began)
	return out.End(told)
}

// statementKinds are the names of what a statement may be.
var statementKinds = map[duckdb.StatementType]string{
	duckdb.StatementTypeSelect: "SELECT", duckdb.StatementTypeInsert: "INSERT", duckdb.StatementTypeUpdate: "UPDATE",
	duckdb.StatementTypeExplain: "EXPLAIN", duckdb.StatementTypeDelete: "DELETE", duckdb.StatementTypePrepare: "PREPARE",
	duckdb.StatementTypeCreate: "CREATE", duckdb.StatementTypeExecute: "EXECUTE", duckdb.StatementTypeAlter: "ALTER",
	duckdb.StatementTypeTransaction: "TRANSACTION", duckdb.StatementTypeCopy: "COPY", duckdb.StatementTypeAnalyze: "ANALYZE",
	duckdb.StatementTypeVariableSet: "SET", duckdb.StatementTypeCreateFunc: "CREATE", duckdb.StatementTypeDrop: "DROP",
	duckdb.StatementTypeExport: "EXPORT", duckdb.StatementTypePragma: "PRAGMA", duckdb.StatementTypeVacuum: "VACUUM",
	duckdb.StatementTypeCall: "CALL", duckdb.StatementTypeSet: "SET", duckdb.StatementTypeLoad: "LOAD",
	duckdb.StatementTypeAttach: "ATTACH", duckdb.StatementTypeDetach: "DETACH", duckdb.StatementTypeCopyDatabase: "COPY",
	duckdb.StatementTypeUpdateExtensions: "UPDATE", duckdb.StatementTypeMergeInto: "MERGE",
}

// bind gives the parameters of a statement their values.
func (c *script) bind(i int, p duckdb.PreparedStatement) error {
	for n := range duckdb.NParams(p) {
		name := duckdb.ParameterName(p, n+1)
		value, given := c.param(name)
		if !given {
			at := c.start(i)
			for _, m := range parameterMarks(c.Text) {
				if m.start >= at && plan.Fold(m.name) == plan.Fold(name) {
					at = m.start
					break
				}
			}
			return c.problem(diag.New(diag.BadQuery, "the parameter %s has no value", parameterName(name)), at, "$"+name).
				WithHint("give it one: --param %s=…", name)
		}
		v := createValue(value)
		state := duckdb.BindValue(p, n+1, v)
		duckdb.DestroyValue(&v)
		if state == duckdb.StateError {
			return parseError(duckdb.PrepareError(p), duckdb.ErrorTypeInvalid)
		}
	}
	return nil
}

func (c *script) param(name string) (string, bool) {
	for key, value := range c.Params {
		if plan.Fold(key) == plan.Fold(name) {
			return value, true
		}
	}
	return "", false
}

// execute executes a statement and gives its result to out as it is made.
func (c *script) execute(ctx context.Context, i int, p duckdb.PreparedStatement, told *exec.Statement, out exec.Results) error {
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.ExecutePreparedStreaming(p, &result) == duckdb.StateError {
		return resultError(&result)
	}
	kind := duckdb.ResultReturnType(result)
	columns := resultColumns(&result)
	if err := c.checkReadable(i, columns); err != nil {
		return err
	}
	normal, _ := normalColumns(columns)
	schema := arrow.NewSchema(arrowFields(normal), nil)
	emit := func(batch arrow.RecordBatch) error {
		batch.Release()
		return nil
	}
	if kind == duckdb.ResultTypeQueryResult {
		if err := out.Begin(*told, schema); err != nil {
			return err
		}
		emit = func(batch arrow.RecordBatch) error {
			defer batch.Release()
			told.Rows += batch.NumRows()
			return out.Write(batch)
		}
	}
	b := newBatcher(schema, columns, c.shell.db.options, emit)
	b.named = true
	defer b.release()
	if err := fetch(ctx, &result, b); err != nil {
		return err
	}
	if kind == duckdb.ResultTypeChangedRows {
		told.Changed = int64(duckdb.RowsChanged(&result))
	}
	return nil
}

// preparedColumns are the columns of a statement's result, as far as they are
// known before its parameters are bound.
func preparedColumns(p duckdb.PreparedStatement) []column {
	columns := make([]column, int(duckdb.PreparedStatementColumnCount(p)))
	for i := range columns {
		logical := duckdb.PreparedStatementColumnLogicalType(p, duckdb.IdxT(i))
		columns[i] = column{duckdb.PreparedStatementColumnName(p, duckdb.IdxT(i)), readType(logical)}
		duckdb.DestroyLogicalType(&logical)
		if columns[i].typ.id == duckdb.TypeInvalid {
			return nil
		}
	}
	return columns
}

func resultColumns(result *duckdb.Result) []column {
	columns := make([]column, int(duckdb.ColumnCount(result)))
	for i := range columns {
		logical := duckdb.ColumnLogicalType(result, duckdb.IdxT(i))
		columns[i] = column{duckdb.ColumnName(result, duckdb.IdxT(i)), readType(logical)}
		duckdb.DestroyLogicalType(&logical)
	}
	return columns
}

// checkReadable refuses columns of types that only DuckDB itself knows.
func (c *script) checkReadable(i int, columns []column) error {
	for _, col := range columns {
		if name := col.typ.readable(); name != "" {
			return c.problem(diag.New(diag.TypeMismatch, "the column %q has the type %s, which nothing but DuckDB can read", col.name, name), c.start(i), "").
				WithHint("make it a text: CAST(… AS VARCHAR)")
		}
	}
	return nil
}
