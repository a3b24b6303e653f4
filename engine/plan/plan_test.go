package plan

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/diag"
)

var rewrite = flag.Bool("rewrite", false, "write what is got to the testdata files")

func TestTypeStrings(t *testing.T) {
	for text, canonical := range map[string]string{
		"DOUBLE": "double", "int": "integer", "varchar": "string", "decimal(10, 2)": "decimal(10,2)",
		"decimal": "decimal(18,3)", "bigint[]": "list<bigint>", "list<int[]>": "list<list<integer>>",
		"struct<a: int, \"b c\" string>": "struct<a: integer, \"b c\": string>",
		"map<string, double[]>":          "map<string, list<double>>", "timestamptz": "timestamptz",
		"timestamp_ns": "timestamp_ns", " bool ": "boolean", "struct<größe: double>": "struct<größe: double>",
	} {
		typ, err := ParseType(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := FormatType(typ); got != canonical {
			t.Errorf("%q is %q, not %q", text, got, canonical)
		}
		again, err := ParseType(canonical)
		if err != nil || !arrow.TypeEqual(typ, again) {
			t.Errorf("%q does not read back: %v", canonical, err)
		}
	}
	for _, text := range []string{
		"", "doubel", "decimal(39,2)", "decimal(2,3)", "list<int", "map<int>", "struct<int>", "int]", "int x",
		"struct<\"a: int>", strings.Repeat("list<", 40) + "int" + strings.Repeat(">", 40),
	} {
		if typ, err := ParseType(text); err == nil {
			t.Errorf("%q is read as %s", text, typ)
		}
	}
}

func FuzzParseType(f *testing.F) {
	for _, seed := range []string{"double", "list<struct<a: int>>", "decimal(10,2)", "map<string, int[]>", `struct<"a""b": int>`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		typ, err := ParseType(text)
		if err != nil {
			return
		}
		again, err := ParseType(FormatType(typ))
		if err != nil || !arrow.TypeEqual(typ, again) {
			t.Fatalf("%q is %s, which reads back as %v (%v)", text, FormatType(typ), again, err)
		}
	})
}

// fakeTyper knows the tables of the tests. A group's schema is a column "rel".
type fakeTyper struct{ described []string }

func (f *fakeTyper) ScanSchema(_ context.Context, op Op) (*arrow.Schema, error) {
	fields := []Field{{"carrier", "string"}, {"Dep", "double"}, {"arr", "double"}}
	switch scan := op.(type) {
	case ScanTable:
		switch scan.Table {
		case "flights":
			return ParseSchema(fields)
		case "odd":
			return ParseSchema([]Field{{"é", "double"}, {"É", "double"}, {"b", "double"}})
		case "twins":
			return ParseSchema([]Field{{"a", "double"}, {"A", "double"}, {"b", "double"}})
		case "reserved":
			return ParseSchema([]Field{{"__alink_1", "double"}})
		}
	case ScanParquet:
		return ParseSchema(slices.DeleteFunc(fields, func(f Field) bool {
			return scan.Columns != nil && !slices.Contains(scan.Columns, f.Name)
		}))
	}
	return nil, diag.New(diag.FileMissing, "there is no %v", op)
}

func (f *fakeTyper) WindowSchema(input *arrow.Schema, w *Windowing) (*arrow.Schema, error) {
	fields := []arrow.Field{{Name: "window_start", Type: input.Field(w.Time).Type}, {Name: "window_end", Type: input.Field(w.Time).Type}}
	for _, k := range w.Keys {
		fields = append(fields, arrow.Field{Name: k.Name, Type: input.Field(k.Column).Type})
	}
	for _, a := range w.Aggregates {
		fields = append(fields, arrow.Field{Name: a.Name, Type: arrow.PrimitiveTypes.Int64})
	}
	return arrow.NewSchema(fields, nil), nil
}

// Uses finds the names of columns in a group's nodes, unless all columns are
// passed on.
func (f *fakeTyper) Uses(_ context.Context, group *Relation) ([][]int, error) {
	text, _ := json.Marshal(group.Nodes)
	all := true
	for _, n := range group.Nodes {
		project, ok := n.Op.(Project)
		_, groups := n.Op.(Aggregate)
		if ok && !project.Keep || groups {
			all = false
		}
	}
	used := make([][]int, len(group.Inputs))
	for i, in := range group.Inputs {
		for c, field := range in.Schema.Fields() {
			if all || strings.Contains(string(text), field.Name) {
				used[i] = append(used[i], c)
			}
		}
	}
	return used, nil
}

// RowByRow takes texts with OVER for such as look at other rows.
func (f *fakeTyper) RowByRow(_ context.Context, text string) (bool, error) {
	return !strings.Contains(text, "OVER"), nil
}

// Conjuncts takes what stands between " AND " for conditions, words in it that
// are not numbers for columns, and texts with random for such as vary.
func (f *fakeTyper) Conjuncts(_ context.Context, text string) (parts []Conjunct, _ error) {
	for _, part := range strings.Split(text, " AND ") {
		c := Conjunct{Text: part, Movable: !strings.Contains(part, "OVER") && !strings.Contains(part, "random")}
		for _, word := range strings.Fields(part) {
			if unicode.IsLetter(rune(word[0])) {
				c.Columns = append(c.Columns, word)
			}
		}
		parts = append(parts, c)
	}
	return parts, nil
}

// Constant writes the expression, but for texts that fail.
func (f *fakeTyper) Constant(_ context.Context, e Expr) ([]byte, error) {
	text := e.String()
	if strings.Contains(text, "1/0") {
		return nil, diag.New(diag.BadExpression, "%s cannot be computed", text)
	}
	return []byte(text), nil
}

func (f *fakeTyper) Describe(_ context.Context, group *Relation) (*arrow.Schema, error) {
	f.described = append(f.described, relationName(group))
	keeps := func(n Node) bool {
		switch n.Op.(type) {
		case Sort, Filter, Limit:
			return true
		}
		return false
	}
	if len(group.Inputs) == 1 && !slices.ContainsFunc(group.Nodes, func(n Node) bool { return !keeps(n) }) {
		return group.Inputs[0].Schema, nil
	}
	fields := []Field{{"carrier", "string"}, {"Dep", "double"}, {"arr", "double"}}
	add := func(name, typ string) {
		if !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == name }) {
			fields = append(fields, Field{name, typ})
		}
	}
	for _, in := range group.Inputs {
		for _, f := range in.Schema.Fields() {
			if !isDropped(group, f.Name) && strings.HasPrefix(f.Name, reservedPrefix) {
				add(f.Name, FormatType(f.Type))
			}
		}
	}
	for _, n := range group.Nodes {
		switch op := n.Op.(type) {
		case Project:
			for _, e := range op.Exprs {
				add(e.Name, "double")
			}
		case Aggregate:
			for _, e := range slices.Concat(op.Keys, op.Aggregates) {
				if strings.HasPrefix(e.Name, reservedPrefix) {
					add(e.Name, "double")
				}
			}
		}
	}
	return ParseSchema(fields)
}

// isDropped reports whether a group's result is without a column of its input.
func isDropped(group *Relation, name string) bool {
	return slices.ContainsFunc(group.Nodes, func(n Node) bool {
		switch op := n.Op.(type) {
		case Drop:
			return slices.Contains(op.Columns, name)
		case Aggregate:
			return true
		case Project:
			return !op.Keep
		}
		return false
	})
}

// TestLower compares the stages of the plans in testdata with what stands
// beside them; `go test ./engine/plan -rewrite` writes them anew.
func TestLower(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no plans in testdata", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := lowered(t, text)
			golden := strings.TrimSuffix(path, ".json") + ".txt"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func lowered(t *testing.T, text []byte) string {
	t.Helper()
	p, err := Decode(text)
	if err == nil {
		err = p.Validate()
	}
	if err != nil {
		return diag.From(err).Render() + "\n"
	}
	again, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if q, err := Decode(again); err != nil || !reflect.DeepEqual(p, q) {
		t.Errorf("the plan does not read back from its own JSON: %v", err)
	}
	physical, err := Lower(t.Context(), p, &fakeTyper{})
	if err == nil {
		err = Prune(t.Context(), physical, &fakeTyper{})
	}
	if err == nil {
		Fuse(physical)
	}
	if err != nil {
		return diag.From(err).Render() + "\n"
	}
	var out strings.Builder
	for _, s := range physical.Stages {
		describeStage(&out, s)
	}
	return out.String()
}

func describeStage(out *strings.Builder, s *Stage) {
	columns := make([]string, s.Schema.NumFields())
	for i, f := range s.Schema.Fields() {
		columns[i] = f.Name
	}
	fmt.Fprintf(out, "%s %q reads %v gives %v\n", s.ID, s.Name, s.Inputs, columns)
	if s.Detail != "" {
		fmt.Fprintf(out, "  %s\n", s.Detail)
	}
	if s.Stream || s.Apart {
		fmt.Fprintf(out, "  stream %t, apart %t\n", s.Stream, s.Apart)
	}
	switch work := s.Work.(type) {
	case *Relation:
		for _, in := range work.Inputs {
			if in.Columns != nil {
				fmt.Fprintf(out, "  of %s comes %v\n", in.Node, in.Columns)
			}
		}
		for _, n := range work.Nodes {
			b, _ := json.Marshal(n)
			fmt.Fprintf(out, "  relational %s\n", b)
		}
	case *Arrangement:
		fmt.Fprintf(out, "  columns %v\n", work.Columns)
	case *Application:
		fmt.Fprintf(out, "  crossing %v of environment %s, %d retries\n", work.Columns, work.Environment, work.Retries)
		if len(work.Kept) != s.Schema.NumFields()-len(work.Calls) && work.AddsColumns() {
			fmt.Fprintf(out, "  keeps %v, but gives more\n", work.Kept)
		}
		if work.RowsWanted > 0 {
			fmt.Fprintf(out, "  %d rows wanted\n", work.RowsWanted)
		}
		for _, table := range work.Tables {
			fmt.Fprintf(out, "  gets %s of %s\n", table.Name, table.Stage)
		}
		for _, c := range work.Calls {
			fmt.Fprintf(out, "  %s%v in %s\n", c.Function.Name, c.Args, c.Operator)
			for _, constant := range c.Constants {
				fmt.Fprintf(out, "    argument %d is %s\n", constant.Place, constant.Value)
			}
		}
	default:
		b, _ := json.Marshal(work)
		fmt.Fprintf(out, "  %T %s\n", work, b)
	}
}

func TestLitRefusesWhatJSONCannotCarry(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a literal was made of a channel")
		}
	}()
	Lit(make(chan int))
}
