package duck

import (
	"context"
	"testing"
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
