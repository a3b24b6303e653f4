package exec

import (
	"math"
	"testing"
)

// Bundles of one size that crowd a worker halve those to come once, not once
// for each of them.
func TestCrowded(t *testing.T) {
	m := &Meter{}
	if m.RowsMax() != math.MaxInt64 || (*Meter)(nil).RowsMax() != math.MaxInt64 {
		t.Error("there is a bound before anything happened")
	}
	(*Meter)(nil).Crowded(10)
	for _, step := range []struct{ rows, max int64 }{
		{1000, 500},
		{1000, 500},
		{500, 250},
		{900, 250},
		{3, 1},
		{1, 1}, // one row cannot be made less
		{0, 1},
	} {
		m.Crowded(step.rows)
		if got := m.RowsMax(); got != step.max {
			t.Errorf("after %d rows: %d, want %d", step.rows, got, step.max)
		}
	}
}
