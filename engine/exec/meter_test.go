package exec

import (
	"math"
	"testing"
	"time"
)

// Bundles of one size that crowd a worker halve those to come once, not once
// for each of them.
func TestCrowded(t *testing.T) {
	m := &Meter{}
	if m.RowsMax(0) != math.MaxInt64 || (*Meter)(nil).RowsMax(0) != math.MaxInt64 {
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
		if got := m.RowsMax(0); got != step.max {
			t.Errorf("after %d rows: %d, want %d", step.rows, got, step.max)
		}
	}
}

// Bundles of slow functions get smaller, until they take bundleTime or, where a
// call costs something whatever it gets, until smaller ones would cost more.
func TestBundlesFollowTheCostOfTheFunction(t *testing.T) {
	const whole = 65_536
	for name, test := range map[string]struct {
		call, row time.Duration
		callRows  int64
		min, max  int64
	}{
		"quick":              {call: 100 * time.Microsecond, row: 10 * time.Nanosecond, min: whole, max: whole},
		"a row loop":         {call: 100 * time.Microsecond, row: 200 * time.Nanosecond, min: whole, max: whole},
		"slow":               {row: 10 * time.Microsecond, min: 4000, max: 6000},
		"very slow":          {row: time.Second, min: 1, max: 1},
		"a request":          {call: 20 * time.Millisecond, row: 100 * time.Microsecond, min: 700, max: 900},
		"a call that costs":  {call: 100 * time.Millisecond, min: whole / 2, max: whole},
		"slow, in thousands": {row: 100 * time.Microsecond, callRows: 1000, min: 1000, max: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			m, rows := &Meter{}, int64(whole)
			for range 30 {
				m.Took(rows, test.call+time.Duration(rows)*test.row)
				rows = min(whole, m.RowsMax(test.callRows))
			}
			if rows < test.min || rows > test.max {
				t.Errorf("bundles have %d rows, want %d to %d", rows, test.min, test.max)
			}
		})
	}
	m := &Meter{}
	m.Took(1000, 10*time.Second)
	m.Crowded(6)
	if got := m.RowsMax(1000); got != 3 {
		t.Errorf("bundles that must be small for want of memory have %d rows", got)
	}
	(*Meter)(nil).Took(1, time.Second)
}
