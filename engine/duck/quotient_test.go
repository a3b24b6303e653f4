package duck

import (
	"math/big"
	"slices"
	"testing"

	"github.com/alink-runtime/alink/engine/plan"
)

func TestQuotients(t *testing.T) {
	tests := []struct{ sql, typ, value string }{
		{"alink_quotient(7, 2)", "integer", "3"},
		{"alink_quotient(-7, 2)", "integer", "-3"},
		{"alink_quotient(x, 2)", "integer", "3"},
		{"alink_quotient(x::TINYINT, 2::TINYINT)", "tinyint", "3"},
		{"alink_quotient((-128)::TINYINT, (-1)::TINYINT)", "tinyint", "-128"},
		{"alink_quotient(x::SMALLINT, 2::TINYINT)", "smallint", "3"},
		{"alink_quotient(x, 2::BIGINT)", "bigint", "3"},
		{"alink_quotient(x::BIGINT, -2)", "bigint", "-3"},
		{"alink_quotient(x::UBIGINT, 2)", "bigint", "3"},
		{"alink_quotient(sum(x), count(x))", "bigint", "7"},
		{"alink_quotient(sum(x) OVER (), 2)", "bigint", "3"},
		{"alink_quotient(170141183460469231731687303715884105727, 18446744073709551616)", "bigint", "9223372036854775807"},
		{"alink_quotient((-170141183460469231731687303715884105727)::HUGEINT, 36893488147419103232)", "bigint", "-4611686018427387903"},
		{"alink_quotient((-9223372036854775808)::HUGEINT, -1::HUGEINT)::VARCHAR", "string", "9223372036854775808"},
		{"alink_quotient(x, 0)", "integer", "null"},
		{"alink_quotient(sum(x), 0)", "bigint", "null"},
		{"alink_quotient(x, NULL)", "integer", "null"},
		{"alink_quotient(NULL::BIGINT, x)", "bigint", "null"},
		{"alink_quotient(x, 2.0)", "double", "3.5"},
		{"alink_quotient(7.5::DECIMAL(10,2), 2)", "double", "3.75"},
		{"alink_quotient(x, 2::DOUBLE)", "double", "3.5"},
		{"alink_quotient(x::FLOAT, 2)", "float", "3.5"},
		{"alink_quotient(x::FLOAT, 2::DOUBLE)", "double", "3.5"},
		{"alink_quotient(-1.0::DOUBLE, 0)::VARCHAR", "string", "-inf"},
		{"isnan(alink_quotient(0.0::DOUBLE, 0))", "boolean", "true"},
		{"alink_quotient(INTERVAL '3 days', 2)::VARCHAR", "string", "1 day 12:00:00"},
		{"alink_quotient(INTERVAL '1 month 1 hour', -2)::VARCHAR", "string", "-15 days -00:30:00"},
		{"alink_quotient(INTERVAL '1 month', 0)::VARCHAR", "string", "null"},
	}
	in := newTable(t, "x:integer", `[{"x":7}]`)
	d, mem := open(t, Options{})
	for _, test := range tests {
		t.Run(test.sql, func(t *testing.T) {
			var op plan.Op = plan.Project{Exprs: []plan.NamedExpr{sqlExpr("v", test.sql)}}
			if test.sql == "alink_quotient(sum(x), count(x))" || test.sql == "alink_quotient(sum(x), 0)" {
				op = plan.Aggregate{Aggregates: []plan.NamedExpr{sqlExpr("v", test.sql)}}
			}
			out, err := runStage(t, d, mem, stage([]table{in}, op), in)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(out); got != "v "+test.typ {
				t.Errorf("type is %s, want %s", got, test.typ)
			}
			equalRows(t, out.rows, "v="+test.value)
		})
	}
}

// Rows with NULL and rows divided by 0 leave their neighbours as they are, in
// vectors of many rows, in a filter, and behind a choice.
func TestQuotientsOfManyRows(t *testing.T) {
	in := newTable(t, "x:integer", `[{"x":0},{"x":7},{"x":null},{"x":-2},{"x":0}]`)
	d, mem := open(t, Options{Threads: 2})
	s := stage([]table{in}, plan.Project{Exprs: []plan.NamedExpr{
		sqlExpr("x", "x"),
		sqlExpr("q", "alink_quotient(14, x)"),
		sqlExpr("c", "CASE WHEN x <> 0 THEN alink_quotient(14, x) ELSE -1 END"),
		sqlExpr("n", "alink_quotient(x, alink_quotient(x, 7))"),
		// What lies beneath a NULL is not 0 here.
		sqlExpr("w", "alink_quotient(nullif(x + 5, 5), 2)"),
		sqlExpr("f", "alink_quotient(x + 0.5::DOUBLE, nullif(x + 2, 9))"),
		sqlExpr("h", "alink_quotient(sum(x) OVER (PARTITION BY x), 2)"),
	}}, plan.Filter{Predicate: plan.SQL("x IS NULL OR q IS NULL OR alink_quotient(x, 2) <> 0")})
	out, err := runStage(t, d, mem, s, in)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out.rows)
	equalRows(t, out.rows,
		"x=-2 q=-7 c=-7 n=null w=1 f=-Inf h=-1",
		"x=0 q=null c=-1 n=null w=null f=0.25 h=0",
		"x=0 q=null c=-1 n=null w=null f=0.25 h=0",
		"x=7 q=2 c=2 n=7 w=6 f=null h=3",
		"x=null q=null c=-1 n=null w=null f=null h=null")
}

// The quotients of sums beyond 64 bits, at the edges of what the parts hold.
func TestHugeQuotients(t *testing.T) {
	edges := []uint64{0, 1, 2, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1}
	var all []hugeInt
	for _, high := range edges {
		for _, low := range edges {
			all = append(all, hugeInt{low, high})
		}
	}
	for _, h := range all {
		if hugeIntOf(h.signed()) != h || h.signed().String() != h.text(true) {
			t.Errorf("%v is read as %s and written as %v", h, h.signed(), hugeIntOf(h.signed()))
		}
	}
	for _, a := range all {
		for _, b := range all {
			if b == (hugeInt{}) {
				continue
			}
			want := new(big.Int).Quo(a.signed(), b.signed())
			if got := hugeQuotient(a, b); want.BitLen() < 128 && got.signed().Cmp(want) != 0 {
				t.Errorf("%s / %s is %s, want %s", a.signed(), b.signed(), got.signed(), want)
			}
		}
	}
}
