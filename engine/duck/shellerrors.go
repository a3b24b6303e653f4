package duck

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alink-runtime/alink/diag"
)

// noFiles is DuckDB's message where a pattern has no files.
var noFiles = regexp.MustCompile(`^No files found that match the pattern "(.*)"`)

// missingOf is DuckDB's message of a column that a table lacks.
var missingOf = regexp.MustCompile(`does not have a column named "([^"]+)"`)

// plainError is an error where a statement has turned errors_as_json off.
var plainError = regexp.MustCompile(`(?s)^([A-Z][A-Za-z ]*) Error: (.*)$`)

// candidatesOf are the names that DuckDB lists in a message.
var candidatesOf = regexp.MustCompile(`(?m)^Candidate (?:bindings|tables): :? ?(.*)$`)

// explain is the diagnostic of an error of DuckDB's. i is the statement; -1 is
// the script as a whole, which could not be read.
func (c *script) explain(i int, e *queryError) *diag.Diagnostic {
	if plain := plainError.FindStringSubmatch(e.message); plain != nil && e.kind == "Internal" {
		e.kind, e.message = plain[1], plain[2]
	}
	at := e.position
	if at < 0 && i >= 0 {
		at = c.find(i, e)
	}
	d := c.diagnose(e, at >= 0 && at < len(c.Text) && c.Text[at] == '\'')
	if at < 0 {
		return c.problem(d, c.start(i), "")
	}
	return c.problem(d, at, e.name)
}

// find looks in a statement for the name that an error without a position is
// about; -1 is nowhere, or twice.
func (c *script) find(i int, e *queryError) int {
	start := c.start(i)
	if start < 0 {
		return -1
	}
	text, name := c.Text[start:], e.name
	if i+1 < len(c.starts) {
		text = c.Text[start:c.starts[i+1]]
	}
	if files := noFiles.FindStringSubmatch(e.message); files != nil {
		name = quoteString(files[1])
	}
	if name == "" || strings.Count(text, name) != 1 {
		return -1
	}
	return start + strings.Index(text, name)
}

// diagnose explains an error of DuckDB's; inQuotes tells that what it is about
// stands in single quotes, as names of files do.
func (c *script) diagnose(e *queryError, inQuotes bool) *diag.Diagnostic {
	files := noFiles.FindStringSubmatch(e.message)
	column := missingOf.FindStringSubmatch(e.message)
	switch {
	case files != nil:
		return missingFiles(files[1])
	case column != nil:
		e.name = column[1]
		return unknownName(diag.UnknownColumn, "column", column[1], "the columns", e)
	case e.subtype == "COLUMN_NOT_FOUND" && e.name != "":
		return unknownName(diag.UnknownColumn, "column", e.name, "the columns", e)
	case e.subtype == "MISSING_ENTRY" && e.entry == "Table" && inQuotes:
		return missingFiles(e.name)
	case e.subtype == "MISSING_ENTRY" && e.entry == "Table":
		return c.unknownTable(e.name)
	case e.subtype == "MISSING_ENTRY" && strings.Contains(e.entry, "Function") && functionName.MatchString(e.name):
		d := diag.New(diag.UnknownFunction, "there is no function %q", e.name)
		if near := diag.Suggest(e.name, c.shell.session.functions(e.entry)); len(near) > 0 {
			d.WithHint("did you mean %s?", strings.Join(near, " or "))
		}
		return d
	}
	return c.otherwise(e)
}

// otherwise is the diagnostic of an error that has no name of ours.
func (c *script) otherwise(e *queryError) *diag.Diagnostic {
	cause := errors.New(e.cause())
	if e.kind == kindParser { // further lines are those of the script
		first, _, _ := strings.Cut(e.message, "\n")
		cause = errors.New(first)
	}
	switch {
	case e.kind == kindOutOfMemory:
		d := c.shell.db.failure(e)
		d.Message = strings.Replace(d.Message, "a relational step", "the statement", 1)
		d.Message = strings.Replace(d.Message, "the engine's", "the", 1)
		return d.WithHint("raise --memory, or name a --spill-dir with room")
	case strings.EqualFold(e.kind, kindInterrupt), strings.EqualFold(e.kind, kindInternal), strings.EqualFold(e.kind, kindFatal):
		d := c.shell.db.failure(e)
		if d.Hint != "" {
			d.WithHint("run it with --parallelism 1 to read the cause")
		}
		return d
	case e.kind == "Missing Extension":
		d := diag.New(diag.BadQuery, "the statement needs an extension of DuckDB").WithCause(cause)
		if name := regexp.MustCompile(`(?m)^LOAD (\w+);`).FindStringSubmatch(e.message); name != nil {
			d.Cause = ""
			d.Message += ": " + name[1]
			d.WithHint("extensions are not loaded unasked; begin with: INSTALL %[1]s; LOAD %[1]s;", name[1])
		}
		return d
	case e.kind == "Binder", e.kind == "Catalog", e.kind == kindParser, e.kind == "Parameter Not Resolved":
		d := diag.New(diag.BadQuery, "the statement cannot be run").WithCause(cause)
		if strings.Contains(e.message, notGrouped) {
			d.WithHint("put the column into an aggregate function: max(x), any_value(x), list(x) …")
		} else if strings.Contains(e.message, "explicit type cast") && len(c.Params) > 0 {
			d.WithHint("a parameter is a text where nothing else tells its type: CAST($name AS BIGINT)")
		}
		return d
	case strings.Contains(e.message, "does not fit into 64 bits"):
		return diag.New(diag.QueryFailed, "the statement failed while it ran").WithCause(cause).
			WithHint("cast the column to double, or to VARCHAR for all of its digits")
	}
	return diag.New(diag.QueryFailed, "the statement failed while it ran").WithCause(cause)
}

// unknownName names the nearest of the names that DuckDB's message lists.
func unknownName(code diag.Code, what, name, list string, e *queryError) *diag.Diagnostic {
	var known []string
	if candidates := candidatesOf.FindStringSubmatch(e.message); candidates != nil {
		for candidate := range strings.SplitSeq(candidates[1], ", ") {
			parts := strings.Split(strings.Trim(candidate, `"`), ".")
			known = append(known, strings.Trim(parts[len(parts)-1], `"`))
		}
	}
	d := diag.New(code, "there is no %s %q", what, name)
	if len(known) == 0 {
		return d
	}
	return d.WithHint("%s", diag.DidYouMean(name, list, known))
}

func (c *script) unknownTable(name string) *diag.Diagnostic {
	d := diag.New(diag.UnknownTable, "there is no table %q", name)
	known, err := c.shell.session.strings(`SELECT table_name FROM duckdb_tables() WHERE NOT internal
		UNION SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1`, functionsMax)
	if err != nil || len(known) == 0 {
		return d.WithHint("a file is read by its name in quotes: FROM 'flights.parquet'")
	}
	return d.WithHint("%s", diag.DidYouMean(name, "tables", known))
}

// functions are the names of functions of a kind, as far as they can be had:
// a suggestion is a courtesy.
func (s *session) functions(kind string) []string {
	types := "'scalar', 'aggregate', 'macro'"
	if strings.HasPrefix(kind, "Table") {
		types = "'table', 'table_macro'"
	}
	known, err := s.strings(`SELECT DISTINCT function_name FROM duckdb_functions()
		WHERE function_type IN (`+types+`) AND regexp_matches(function_name, '^[a-z]')
		ORDER BY function_name`, functionsMax)
	if err != nil {
		return nil
	}
	return known
}

// filesComparedMax bounds the files that are compared for a suggestion.
const filesComparedMax = 1000

func missingFiles(pattern string) *diag.Diagnostic {
	if info, err := os.Stat(pattern); err == nil {
		d := diag.New(diag.BadQuery, "what %s holds cannot be told from its name", pattern)
		if info.IsDir() {
			return d.WithHint("it is a folder; name the files in it: '%s'", filepath.Join(pattern, "*.parquet"))
		}
		return d.WithHint("call what reads it: read_csv, read_parquet or read_json")
	}
	if strings.ContainsAny(pattern, "*?[") {
		return diag.New(diag.FileMissing, "no file matches %s", pattern).
			WithHint("paths start at the working directory; ** stands for folders of any depth")
	}
	d := diag.New(diag.FileMissing, "there is no file %s", pattern).WithHint("paths start at the working directory")
	folder, err := os.Open(filepath.Dir(pattern))
	if err != nil {
		return d
	}
	defer folder.Close()
	files, _ := folder.Readdirnames(filesComparedMax)
	slices.Sort(files)
	if near := diag.Suggest(filepath.Base(pattern), files); len(near) > 0 {
		d.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return d
}

// Limits of what is shown of a line of a script: characters before the place
// and behind it.
const (
	shownBeforeMax = 70
	shownBehindMax = 70
)

// problem says where in the script a diagnostic has its cause: at a byte of its
// text, -1 being unknown, and with a caret below the name there, or the word;
// a place that is the beginning of a statement gets none.
func (c *script) problem(d *diag.Diagnostic, at int, name string) *diag.Diagnostic {
	if at < 0 || at > len(c.Text) {
		return d
	}
	pointed := !slices.Contains(c.starts, at) || name != ""
	at = min(at, len(strings.TrimRight(c.Text, "\t\n\v\f\r "))) // at the end: behind what is last
	start := strings.LastIndexByte(c.Text[:at], '\n') + 1
	rest, _, _ := strings.Cut(c.Text[at:], "\n")
	before, behind := []rune(c.Text[start:at]), []rune(strings.TrimRight(rest, "\r"))
	length := 1
	switch {
	case rest != "" && (name == "" || rest[0] == '\'') && tokenAt(rest, 0).kind == tokenQuoted:
		length = utf8.RuneCountInString(rest[:tokenAt(rest, 0).end])
	case rest != "":
		length = utf8.RuneCountInString(rest[:qualified(rest, name)+tokenLen(rest[qualified(rest, name):], name)])
	}
	if len(before) > shownBeforeMax {
		before = append([]rune("…"), before[len(before)-shownBeforeMax:]...)
	}
	if len(behind) > shownBehindMax {
		behind = append(behind[:shownBehindMax:shownBehindMax], '…')
	}
	source := &diag.Source{
		File: c.Name, Line: strings.Count(c.Text[:start], "\n") + 1,
		Text: strings.Map(printable, string(before)+string(behind)),
	}
	if pointed {
		source.Column = len(before) + 1
		source.EndColumn = source.Column + min(length, max(len(behind), 1))
	}
	d.Source = source
	return d
}

// qualified is the length of what stands in front of a name in "table.name".
func qualified(text, name string) int {
	table, rest, ok := strings.Cut(text, ".")
	if name == "" || !ok || !strings.HasPrefix(rest, name) || strings.ContainsFunc(table, func(r rune) bool { return r < utf8.RuneSelf && !wordByte(byte(r)) }) {
		return 0
	}
	return len(table) + 1
}

// printable keeps control characters from the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
