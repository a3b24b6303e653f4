package file

import (
	"strings"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
	"github.com/apache/arrow-go/v18/arrow"
)

// sampleBytesMax bounds the text of the sample of each file.
const sampleBytesMax = 32 << 20

// sample bounds the rows that are looked at for the types of columns; -1 means
// all of them.
type sample struct{ rows int }

func newSample(s plan.TypeSample) sample {
	if s.SampleRows == 0 {
		return sample{plan.SampleRowsDefault}
	}
	return sample{s.SampleRows}
}

// columns gathers the columns of several files of text.
type columns struct {
	format string
	union  bool
	first  string // the file that the others are compared with
	names  []string
	kinds  []kind
	places map[string]int // by name
}

func newColumns(format string, union bool) *columns {
	return &columns{format: format, union: union, places: map[string]int{}}
}

// add takes in the names of a file and gives their places. A file without any
// column is empty and fits.
func (c *columns) add(path string, names []string) ([]int, error) {
	if c.first != "" && !c.union && len(names) > 0 {
		if err := compareNames(c.first, c.names, path, names); err != nil {
			return nil, err
		}
	}
	places := make([]int, len(names))
	for i, name := range names {
		at, ok := c.places[name]
		if !ok {
			at = len(c.names)
			c.places[name] = at
			c.names, c.kinds = append(c.names, name), append(c.kinds, kindNull)
		}
		places[i] = at
	}
	if c.first == "" && len(names) > 0 {
		c.first = path
	}
	return places, nil
}

// compareNames refuses a file that has other columns than the first.
func compareNames(first string, want []string, path string, got []string) error {
	has := func(names []string) map[string]bool {
		set := make(map[string]bool, len(names))
		for _, name := range names {
			set[name] = true
		}
		return set
	}
	lacking, added := without(want, has(got)), without(got, has(want))
	if len(lacking) == 0 && len(added) == 0 {
		return nil
	}
	d := diag.New(diag.SchemasDiffer, "%s does not have the columns of %s", path, first)
	if len(lacking) > 0 {
		d.WithFact("it has no %s", listed(lacking))
	}
	if len(added) > 0 {
		d.WithFact("it also has %s", listed(added))
	}
	return d.WithHint("union_by_name=True gives NULL for columns that a file does not have")
}

func without(names []string, set map[string]bool) []string {
	var out []string
	for _, name := range names {
		if !set[name] {
			out = append(out, name)
		}
	}
	return out
}

// listed shows some names.
func listed(names []string) string {
	const shown = 8
	text := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		text += ", …"
	}
	return text
}

// schema gives the table's columns, with declared types in place of what was
// found.
func (c *columns) schema(declared []arrow.Field) (*arrow.Schema, error) {
	fields := make([]arrow.Field, len(c.names))
	for i, name := range c.names {
		fields[i] = arrow.Field{Name: name, Type: c.kinds[i].arrow(), Nullable: true}
	}
	return declare(c.first, fields, declared)
}

// declare puts declared types in their columns.
func declare(path string, fields, declared []arrow.Field) (*arrow.Schema, error) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	for _, d := range declared {
		at := indexOf(names, d.Name)
		if at < 0 {
			return nil, noColumn(path, d.Name, names)
		}
		fields[at].Type = d.Type
	}
	return arrow.NewSchema(fields, nil), nil
}

func noColumn(path, name string, names []string) error {
	if path == "" {
		path = "the table"
	}
	return diag.New(diag.UnknownColumn, "%s has no column %q", path, name).
		WithHint("%s", diag.DidYouMean(name, "its columns", names))
}

// indexOf finds a name, an exact one before one of another case; -1 if there
// is none.
func indexOf(names []string, name string) int {
	folded := -1
	for i, n := range names {
		if n == name {
			return i
		}
		if folded < 0 && plan.Fold(n) == plan.Fold(name) {
			folded = i
		}
	}
	return folded
}

func isDeclared(declared []arrow.Field, name string) bool {
	for _, d := range declared {
		if plan.Fold(d.Name) == plan.Fold(name) {
			return true
		}
	}
	return false
}
