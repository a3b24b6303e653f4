package plan

import (
	"fmt"
	"math"
)

// Further relational operators.
type (
	// Union puts the rows of its inputs one after the other: the first's, then
	// the second's. Columns go together by position and keep the first input's
	// names; with ByName they go together by name, and a column that an input
	// lacks is NULL in its rows.
	Union struct {
		ByName bool `json:"by_name,omitempty"`
	}
	// Distinct keeps the first of the rows that agree in On (nil: in every
	// column), in their order. NULLs agree with each other.
	Distinct struct {
		On []string `json:"on,omitempty"`
	}
	// Sample picks rows at random and keeps their order: N of them, or each
	// with the probability Fraction. The same rows in the same order give the
	// same sample for the same Seed.
	Sample struct {
		N        *int64   `json:"n,omitempty"`
		Fraction *float64 `json:"fraction,omitempty"`
		Seed     int64    `json:"seed"`
	}
	// Unnest makes one row of each element of a list, or of each entry of a
	// map; a struct's fields become columns in its place. A list that is empty
	// or NULL gives no row, with KeepEmpty one with NULL.
	Unnest struct {
		Column    string `json:"column"`
		KeepEmpty bool   `json:"keep_empty,omitempty"`
	}
)

// Cross joins every row with every row; it has no keys.
const Cross JoinKind = "cross"

// anyInputs is the inputCount of an op that takes one input or more, and
// noOrMoreInputs that of one that takes any number.
const (
	anyInputs      = -1
	noOrMoreInputs = -2
)

// Name implements Op.
func (Union) Name() string { return "union" }

// Name implements Op.
func (Distinct) Name() string { return "distinct" }

// Name implements Op.
func (Sample) Name() string { return "sample" }

// Name implements Op.
func (Unnest) Name() string { return "unnest" }

func (Union) inputCount() int    { return anyInputs }
func (Distinct) inputCount() int { return 1 }
func (Sample) inputCount() int   { return 1 }
func (Unnest) inputCount() int   { return 1 }

func validateInputs(n Node) error {
	got, want := len(n.Inputs), n.Op.inputCount()
	switch {
	case want == noOrMoreInputs:
	case want == anyInputs && got == 0:
		return fmt.Errorf("%s takes one input at least", n.Op.Name())
	case want >= 0 && got != want:
		return fmt.Errorf("%s takes %d inputs, not %d", n.Op.Name(), want, got)
	}
	return nil
}

func validateJoin(op Join) error {
	switch op.How {
	case Inner, Left, Right, Full, Semi, Anti:
		if len(op.On) == 0 {
			return fmt.Errorf("a join needs at least one pair of columns")
		}
	case Cross:
		if len(op.On) > 0 {
			return fmt.Errorf("a cross join has no columns to join on")
		}
	default:
		return fmt.Errorf("unknown kind of join %q", op.How)
	}
	return nil
}

func validateSample(op Sample) error {
	switch {
	case (op.N == nil) == (op.Fraction == nil):
		return fmt.Errorf("a sample is of n rows or of a fraction of the rows")
	case op.N != nil && *op.N < 0:
		return fmt.Errorf("a sample of %d rows is negative", *op.N)
	case op.Fraction != nil && (math.IsNaN(*op.Fraction) || *op.Fraction < 0 || *op.Fraction > 1):
		return fmt.Errorf("the fraction of a sample must be between 0 and 1, not %v", *op.Fraction)
	}
	return nil
}
