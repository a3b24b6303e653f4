package exec

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/alink-runtime/alink/diag"
	"github.com/alink-runtime/alink/engine/plan"
)

func newFailures(errorsMax int64) *Failures {
	f := &plan.Function{Name: "f", Options: plan.FunctionOptions{ErrorsMax: errorsMax}}
	return NewFailures(FunctionCall{Function: f}, nil)
}

func TestBreaker(t *testing.T) {
	one := []FailureKind{FailedSignal}
	for name, test := range map[string]struct {
		bundles func(i int) []FailureKind
		trips   int // the bundle that trips it, -1 for none of 2,000
	}{
		"no death":             {func(int) []FailureKind { return nil }, -1},
		"each time":            {func(int) []FailureKind { return one }, breakerDeathsMax - 1},
		"twice each time":      {func(int) []FailureKind { return slices.Repeat(one, 2) }, breakerDeathsMax/2 - 1},
		"one bundle in twenty": {func(i int) []FailureKind { return one[:min(1, 1-min(1, i%20))] }, -1},
		"one bundle in three":  {func(i int) []FailureKind { return one[:min(1, 1-min(1, i%3))] }, 36},
	} {
		f := newFailures(0)
		tripped := -1
		for i := range 2_000 {
			if err := f.Settled(test.bundles(i)); err != nil {
				tripped = i
				if d := diag.From(err); d.Code != diag.DyingWorkers || !strings.Contains(strings.Join(d.Facts, ""), "signal") {
					t.Errorf("%s: %s", name, d.Render())
				}
				break
			}
		}
		if tripped != test.trips {
			t.Errorf("%s: it trips at bundle %d, want %d", name, tripped, test.trips)
		}
	}
	var none *Failures
	if err := none.Settled(one); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	add := func(f *Failures, kind FailureKind, rows int) (added int, code diag.Code) {
		for i := range rows {
			if err := f.Add([]FailedRow{{Index: int64(i), Kind: kind, Message: "why"}}, nil); err != nil {
				if !strings.Contains(err.Error(), "why") {
					t.Errorf("the last failure is not told: %v", err)
				}
				return i + 1, diag.From(err).Code
			}
		}
		return rows, ""
	}
	f := newFailures(20)
	if n, code := add(f, FailedException, 30); n != 21 || code != diag.TooManyErrors {
		t.Errorf("%d rows: %q", n, code)
	}
	f = newFailures(0)
	if n, code := add(f, FailedException, plan.ErrorsMaxDefault+2); n != plan.ErrorsMaxDefault+1 || code != diag.TooManyErrors {
		t.Errorf("%d rows: %q", n, code)
	}
	f = newFailures(0)
	if n, code := add(f, FailedTime, 100); n != breakerRowsMax+1 || code != diag.DyingWorkers {
		t.Errorf("%d rows that follow one another: %q", n, code)
	}
	f = newFailures(0)
	for i := range deathRowsMax + 1 {
		_, code := add(f, FailedMemory, 1)
		if (code != "") != (i == deathRowsMax) {
			t.Fatalf("row %d: %q", i, code)
		}
		if err := f.Settled(nil); err != nil {
			t.Fatal(err)
		}
	}
	if f.Total() != deathRowsMax+1 || !strings.Contains(f.Summary(), "gave NULL for 1001 rows") {
		t.Errorf("%d: %s", f.Total(), f.Summary())
	}
}

func TestLettersThatAreGone(t *testing.T) {
	rows := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	f := NewFailures(FunctionCall{Function: &plan.Function{Name: "f"}}, rows)
	b := array.NewRecordBuilder(memory.DefaultAllocator, rows)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(7)
	read := func() (rows int64, err error) {
		reader, err := f.Letters()
		if err != nil {
			return 0, err
		}
		defer reader.Release()
		for reader.Next() {
			rows += reader.RecordBatch().NumRows()
		}
		return rows, reader.Err()
	}
	if n, err := read(); n != 0 || err != nil {
		t.Errorf("%d rows: %v", n, err)
	}
	if err := f.Add([]FailedRow{{Index: 3, Kind: FailedExit, Message: "why"}}, b.NewRecordBatch()); err != nil {
		t.Fatal(err)
	}
	if n, err := read(); n != 1 || err != nil || f.Bytes() == 0 {
		t.Errorf("%d rows of %d bytes: %v", n, f.Bytes(), err)
	}
	f.Release()
	if _, err := read(); diag.From(err).Code != diag.UnknownJob || f.Bytes() != 0 {
		t.Errorf("after their release: %v", err)
	}
}

func TestColumnsOfDeadLetters(t *testing.T) {
	rows := arrow.NewSchema([]arrow.Field{
		{Name: "ERROR_Row", Type: arrow.PrimitiveTypes.Int64}, {Name: "error_row_1", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	schema := NewFailures(FunctionCall{Function: &plan.Function{}}, rows).letters
	var names []string
	for _, field := range schema.Fields() {
		names = append(names, field.Name)
	}
	if got := strings.Join(names, " "); got != "ERROR_Row error_row_1 error_kind error_type error_message error_function error_row_2 error_worker error_time" {
		t.Errorf("columns: %s", got)
	}
}
