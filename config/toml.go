package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/alink-runtime/alink/diag"
)

// parse reads the settings of a TOML file that stand in the given table. found
// tells whether the table is there.
func parse(path string, data []byte, table []string) (entries []entry, found bool, err error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, false, notTOML(path, data, err)
	}
	for _, name := range table {
		inner, ok := tree[name].(map[string]any)
		if !ok {
			return nil, false, nil
		}
		tree = inner
	}
	lines := keyLines(data, table)
	for name, value := range tree {
		line := lines[name]
		entries = append(entries, entry{file: path, line: line, text: lineOf(data, line), name: name, value: value})
	}
	// The first fault of the file is the one that is told.
	slices.SortFunc(entries, func(a, b entry) int { return a.line - b.line })
	return entries, true, nil
}

func notTOML(path string, data []byte, err error) error {
	d := diag.New(diag.BadSetting, "%s is not valid TOML", path).WithCause(err)
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := at.Position()
		d.Source = &diag.Source{File: path, Line: line, Text: lineOf(data, line), Column: column, EndColumn: column + 1}
	}
	return d
}

// keyLines finds the lines on which the names within a table are first
// written: as keys ("memory = 1"), as tables ("[tool.alink.memory]"), or within
// an inline table. The data is valid TOML.
func keyLines(data []byte, table []string) map[string]int {
	lines := map[string]int{}
	note := func(path []string, line int) {
		if len(path) <= len(table) || !slices.Equal(path[:len(table)], table) {
			return
		}
		if name := path[len(table)]; lines[name] == 0 {
			lines[name] = line
		}
	}
	var parser unstable.Parser
	parser.Reset(data)
	var current []string
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			path, line := keyPath(&parser, e, nil)
			current = path
			note(path, line)
		case unstable.KeyValue:
			noteKeys(&parser, e, current, note)
		}
	}
	return lines
}

func noteKeys(parser *unstable.Parser, e *unstable.Node, parent []string, note func([]string, int)) {
	path, line := keyPath(parser, e, parent)
	note(path, line)
	if value := e.Value(); value.Kind == unstable.InlineTable {
		for it := value.Children(); it.Next(); {
			noteKeys(parser, it.Node(), path, note)
		}
	}
}

func keyPath(parser *unstable.Parser, e *unstable.Node, parent []string) (path []string, line int) {
	path = slices.Clone(parent)
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = parser.Shape(it.Node().Raw).Start.Line
		}
		path = append(path, string(it.Node().Data))
	}
	return path, line
}

func lineOf(data []byte, line int) string {
	lines := strings.Split(string(data), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	return strings.TrimSpace(lines[line-1])
}
