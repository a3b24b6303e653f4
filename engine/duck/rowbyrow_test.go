package duck

import (
	"context"
	"reflect"
	"testing"

	"github.com/alink-runtime/alink/engine/plan"
)

// TestRowByRow: a limit may go before what looks at one row, and only that.
func TestRowByRow(t *testing.T) {
	db, _ := open(t, Options{})
	for text, want := range map[string]bool{
		"a + 1": true, "upper(s) LIKE 'A%'": true, "CASE WHEN a > 1 THEN b END": true, "a BETWEEN 1 AND 2": true,
		"s::int": true, "a IS NULL OR b IN (1, 2)": true, "l[1]": true, "{'x': a}": true, "[x + 1 for x in l]": true,
		"list_transform(l, lambda x: x + a)": true, "random()": true, "coalesce(a, b)": true, "s COLLATE nocase": true,
		"nullif(a, 0)": true, "split_part(s, ',', 1)": true, "list_sum(l)": true,
		"sum(a)": false, "row_number() OVER ()": false, "sum(a) OVER (ORDER BY b)": false, "unnest(l)": false,
		"(SELECT 1)": false, "a IN (SELECT unnest(l))": false, "EXISTS (SELECT 1)": false, "list(a)": false,
		"1 + max(a)": false, "geomean(a)": false, "no_such_function(a)": false, "a +": false, "generate_subscripts(l, 1)": false,
	} {
		got, err := db.RowByRow(t.Context(), text)
		if err != nil || got != want {
			t.Errorf("%s: %t, %v", text, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.RowByRow(ctx, "a"); err == nil {
		t.Error("a context that has ended went unnoticed")
	}
}

// TestConjuncts: conditions are cut apart with the columns that each needs.
func TestConjuncts(t *testing.T) {
	db, _ := open(t, Options{})
	part := func(text string, columns ...string) plan.Conjunct {
		return plan.Conjunct{Text: text, Columns: columns, Movable: true}
	}
	for text, want := range map[string][]plan.Conjunct{
		"a > 1": {part("a > 1", "a")},
		"a > 1.50 AND (b = 'it''s' AND upper(\"c d\") LIKE 'x%') -- all": {
			part("(a > 1.50)", "a"), part("(b = 'it''s')", "b"), part("(upper(\"c d\") ~~ 'x%')", "c d"),
		},
		"a > 1 OR b > 2 AND c > 3":                {part("a > 1 OR b > 2 AND c > 3", "a", "b", "c")},
		"s.x > 1":                                 {part("s.x > 1", "s")},
		"random() < 0.5 AND now() > ts":           {{Text: "(random() < 0.5)"}, part("(now() > ts)", "ts")},
		"a > (SELECT 1) AND b":                    {{Text: "(a > (SELECT 1))"}, part("b", "b")},
		"row_number() OVER () < 3 AND a IN (1,2)": {{Text: "(row_number() OVER () < 3)"}, part("(a IN (1, 2))", "a")},
		"a >":             {{Text: "a >"}},
		"a > 1; SELECT 2": {{Text: "a > 1; SELECT 2"}},
	} {
		got, err := db.Conjuncts(t.Context(), text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for i := range got {
			if !got[i].Movable {
				got[i].Columns = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", text, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Conjuncts(ctx, "a"); err == nil {
		t.Error("a context that has ended went unnoticed")
	}
}
