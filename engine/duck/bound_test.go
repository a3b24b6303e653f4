package duck

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alink-runtime/alink/engine/plan"
)

// What a statement gives is found once, and is the same when it is known.
func TestKnownStatements(t *testing.T) {
	in := newTable(t, "a:bigint s:string", `[{"a":1,"s":"x"}]`)
	d, mem := open(t, Options{})
	ops := []plan.Op{
		plan.SQLQuery{Query: "SELECT a + $p AS b, s, a FROM t", Tables: []string{"t"}, Params: map[string]plan.Literal{"p": {Type: "bigint", Value: []byte("5")}}},
		plan.Filter{Predicate: plan.SQL("b > 0")},
	}
	var known int
	for i := range 3 {
		out, err := runStage(t, d, mem, stage([]table{in}, ops...), in)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(out); !strings.Contains(got, "b=6 s=x a=1") {
			t.Fatal(got)
		}
		if i > 0 && len(d.bound.columns) != known {
			t.Errorf("%d statements are known after run %d, and %d were", len(d.bound.columns), i, known)
		}
		known = len(d.bound.columns)
	}
	if known == 0 {
		t.Error("no statement is known")
	}
	// The same text over a table of other types is another statement.
	text := newTable(t, "a:double s:string", `[{"a":1.5,"s":"x"}]`)
	out, err := runStage(t, d, mem, stage([]table{text}, ops...), text)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(out); !strings.Contains(got, "b=6.5") {
		t.Error(got)
	}
	// One that fails is not known, and fails again.
	for range 2 {
		if _, err := runStage(t, d, mem, stage([]table{in}, plan.Filter{Predicate: plan.SQL("c > 0")}), in); err == nil {
			t.Error("a column that is not there was found")
		}
	}
}

// Statements that are known are bounded.
func TestKnownStatementsAreBounded(t *testing.T) {
	var b bound
	for i := range 200 {
		b.keep(fmt.Sprintf("%d%s", i, strings.Repeat("x", boundBytesMax/64)), nil)
		if b.bytes > boundBytesMax {
			t.Fatalf("%d bytes are kept", b.bytes)
		}
		if _, ok := b.find(fmt.Sprintf("%d%s", i, strings.Repeat("x", boundBytesMax/64))); !ok {
			t.Fatal("the last one is not known")
		}
	}
	b.keep(strings.Repeat("x", boundBytesMax), nil)
	if len(b.columns) > 64 {
		t.Errorf("%d statements are kept", len(b.columns))
	}
	if _, ok := b.find(strings.Repeat("x", boundBytesMax)); ok {
		t.Error("a statement is kept that has no room")
	}
}
