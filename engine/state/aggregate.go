package state

import (
	"bytes"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// The functions that can be computed as rows come.
const (
	Count = "count"
	Sum   = "sum"
	Min   = "min"
	Max   = "max"
	Avg   = "avg"
)

// decimalDigitsMax is the precision of a sum of decimals.
const decimalDigitsMax = 38

// ResultType is the type of an aggregate over values of a type; nil stands
// for count(*). The types are those of the relational engine, so that a
// window's aggregate has the type of a table's.
func ResultType(function string, t arrow.DataType) (arrow.DataType, error) {
	switch function {
	case Count:
		return arrow.PrimitiveTypes.Int64, nil
	case Min, Max:
		if t != nil && Keyable(t) && t.ID() != arrow.FIXED_SIZE_BINARY {
			return t, nil
		}
	case Sum:
		switch {
		case t == nil:
		case arrow.IsInteger(t.ID()):
			return arrow.PrimitiveTypes.Int64, nil
		case t.ID() == arrow.FLOAT32, t.ID() == arrow.FLOAT64:
			return arrow.PrimitiveTypes.Float64, nil
		case t.ID() == arrow.DECIMAL128:
			return &arrow.Decimal128Type{Precision: decimalDigitsMax, Scale: t.(*arrow.Decimal128Type).Scale}, nil
		}
	case Avg:
		if t != nil && (arrow.IsInteger(t.ID()) || t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64 || t.ID() == arrow.DECIMAL128) {
			return arrow.PrimitiveTypes.Float64, nil
		}
	}
	if t == nil {
		return nil, fmt.Errorf("%s needs an argument", function)
	}
	return nil, fmt.Errorf("%s is not defined for values of type %s", function, t)
}

// aggregate is one aggregate of all groups of a window. It keeps its values
// by group; rows (nil: all) are those of a column (nil: of count(*)) that
// groups belong to, in order. Values are added in the order of the rows, so that sums of floating
// point numbers do not depend on where batches begin.
type aggregate interface {
	grow(groups int)
	add(column *bound, groups []uint32, rows []int32)
	// result appends the values of all groups. It fails where one has no place
	// in the result's type.
	result(b array.Builder) error
	// stateTypes are the columns of save and load.
	stateTypes() []arrow.DataType
	save(b []array.Builder)
	// load sets the values of groups.
	load(columns []arrow.Array, groups []uint32, rows []int32)
	reset()
}

func newAggregate(function string, t arrow.DataType) (aggregate, error) {
	if _, err := ResultType(function, t); err != nil {
		return nil, err
	}
	switch function {
	case Count:
		return &counter{}, nil
	case Sum, Avg:
		mean := function == Avg
		switch t.ID() {
		case arrow.FLOAT32, arrow.FLOAT64:
			return &floatSum{mean: mean}, nil
		case arrow.DECIMAL128:
			return &wideSum{mean: mean, scale: t.(*arrow.Decimal128Type).Scale, decimal: true}, nil
		}
		return &wideSum{mean: mean}, nil
	}
	largest := function == Max
	switch t.ID() {
	case arrow.STRING, arrow.LARGE_STRING, arrow.BINARY, arrow.LARGE_BINARY:
		return &extremeBytes{typ: t, largest: largest}, nil
	case arrow.DECIMAL128:
		return &extremeDecimal{typ: t, largest: largest}, nil
	}
	return &extremeWord{typ: t, largest: largest, less: wordOrder(t)}, nil
}

// each calls f for each row that is not NULL, with its group.
func each(column *bound, groups []uint32, rows []int32, f func(group uint32, row int)) {
	for i, group := range groups {
		row := i
		if rows != nil {
			row = int(rows[i])
		}
		if column == nil || column.nulls == 0 || column.column.IsValid(row) {
			f(group, row)
		}
	}
}

func bind(column arrow.Array) *bound {
	b := &bound{}
	b.set(column)
	return b
}

// enlarged gives values a length, and what is new the zero value.
func enlarged[T any](values []T, n int) []T {
	if n <= cap(values) {
		old := len(values)
		values = values[:n]
		clear(values[min(old, n):])
		return values
	}
	return append(values, make([]T, n-len(values))...)
}

// counter is count(*) and count(x).
type counter struct{ counts []int64 }

func (c *counter) grow(n int) { c.counts = enlarged(c.counts, n) }
func (c *counter) reset()     { c.counts = c.counts[:0] }

func (c *counter) add(column *bound, groups []uint32, rows []int32) {
	if column == nil || column.nulls == 0 {
		for _, group := range groups {
			c.counts[group]++
		}
		return
	}
	each(column, groups, rows, func(group uint32, _ int) { c.counts[group]++ })
}

func (c *counter) result(b array.Builder) error {
	b.(*array.Int64Builder).AppendValues(c.counts, nil)
	return nil
}

func (c *counter) stateTypes() []arrow.DataType {
	return []arrow.DataType{arrow.PrimitiveTypes.Int64}
}

func (c *counter) save(b []array.Builder) { b[0].(*array.Int64Builder).AppendValues(c.counts, nil) }

func (c *counter) load(columns []arrow.Array, groups []uint32, rows []int32) {
	counts := columns[0].(*array.Int64)
	each(nil, groups, rows, func(group uint32, row int) { c.counts[group] = counts.Value(row) })
}

// wideSum is sum and avg of integers and decimals, in 128 bits: the sum of
// integers cannot leave them.
type wideSum struct {
	mean    bool
	decimal bool
	scale   int32
	sums    []wide
}

type wide struct {
	low   uint64
	high  int64
	count int64
	// overflowed is set where decimals have left 128 bits.
	overflowed bool
}

func (w *wide) add(low uint64, high int64) {
	var carry uint64
	before := w.high
	w.low, carry = bits.Add64(w.low, low, 0)
	w.high += high + int64(carry)
	// Summands of one sign whose sum has the other.
	w.overflowed = w.overflowed || (before < 0) == (high < 0) && (w.high < 0) != (high < 0)
	w.count++
}

func (s *wideSum) grow(n int) { s.sums = enlarged(s.sums, n) }
func (s *wideSum) reset()     { s.sums = s.sums[:0] }

func (s *wideSum) add(column *bound, groups []uint32, rows []int32) {
	switch c := column.column.(type) {
	case *array.Int64:
		if rows == nil && column.nulls == 0 {
			values := c.Int64Values()
			for i, group := range groups {
				v := values[i]
				sum := &s.sums[group]
				var carry uint64
				sum.low, carry = bits.Add64(sum.low, uint64(v), 0)
				sum.high += v>>63 + int64(carry)
				sum.count++
			}
			return
		}
		addIntegers(s, column, c.Int64Values(), groups, rows)
	case *array.Int32:
		addIntegers(s, column, c.Int32Values(), groups, rows)
	case *array.Int16:
		addIntegers(s, column, c.Int16Values(), groups, rows)
	case *array.Int8:
		addIntegers(s, column, c.Int8Values(), groups, rows)
	case *array.Uint64:
		each(column, groups, rows, func(group uint32, row int) { s.sums[group].add(c.Value(row), 0) })
	case *array.Uint32:
		addIntegers(s, column, c.Uint32Values(), groups, rows)
	case *array.Uint16:
		addIntegers(s, column, c.Uint16Values(), groups, rows)
	case *array.Uint8:
		addIntegers(s, column, c.Uint8Values(), groups, rows)
	case *array.Decimal128:
		each(column, groups, rows, func(group uint32, row int) {
			v := c.Value(row)
			s.sums[group].add(v.LowBits(), v.HighBits())
		})
	default:
		panic(fmt.Sprintf("state: sum of %s", column.column.DataType()))
	}
}

func addIntegers[T integer](s *wideSum, column *bound, values []T, groups []uint32, rows []int32) {
	each(column, groups, rows, func(group uint32, row int) {
		v := int64(values[row])
		s.sums[group].add(uint64(v), v>>63)
	})
}

func (s *wideSum) result(b array.Builder) error {
	for i := range s.sums {
		sum := &s.sums[i]
		value := decimal128.New(sum.high, sum.low)
		switch {
		case sum.count == 0:
			b.AppendNull()
		case sum.overflowed:
			return fmt.Errorf("a sum of decimals has more than %d digits", decimalDigitsMax)
		case s.mean:
			b.(*array.Float64Builder).Append(value.ToFloat64(s.scale) / float64(sum.count))
		case s.decimal:
			if !value.FitsInPrecision(decimalDigitsMax) {
				return fmt.Errorf("a sum of decimals has more than %d digits", decimalDigitsMax)
			}
			b.(*array.Decimal128Builder).Append(value)
		case sum.high != int64(sum.low)>>63:
			return fmt.Errorf("the sum %s does not fit into bigint", value.BigInt())
		default:
			b.(*array.Int64Builder).Append(int64(sum.low))
		}
	}
	return nil
}

func (s *wideSum) stateTypes() []arrow.DataType {
	return []arrow.DataType{arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Boolean}
}

func (s *wideSum) save(b []array.Builder) {
	for _, sum := range s.sums {
		b[0].(*array.Uint64Builder).Append(sum.low)
		b[1].(*array.Int64Builder).Append(sum.high)
		b[2].(*array.Int64Builder).Append(sum.count)
		b[3].(*array.BooleanBuilder).Append(sum.overflowed)
	}
}

func (s *wideSum) load(columns []arrow.Array, groups []uint32, rows []int32) {
	low, high, count := columns[0].(*array.Uint64), columns[1].(*array.Int64), columns[2].(*array.Int64)
	overflowed := columns[3].(*array.Boolean)
	each(nil, groups, rows, func(group uint32, row int) {
		s.sums[group] = wide{low.Value(row), high.Value(row), count.Value(row), overflowed.Value(row)}
	})
}

// floatSum is sum and avg of floating point numbers.
type floatSum struct {
	mean   bool
	sums   []float64
	counts []int64
}

func (s *floatSum) grow(n int) { s.sums, s.counts = enlarged(s.sums, n), enlarged(s.counts, n) }
func (s *floatSum) reset()     { s.sums, s.counts = s.sums[:0], s.counts[:0] }

func (s *floatSum) add(column *bound, groups []uint32, rows []int32) {
	value := func(int) float64 { return 0 }
	switch c := column.column.(type) {
	case *array.Float64:
		value = c.Value
	case *array.Float32:
		value = func(row int) float64 { return float64(c.Value(row)) }
	}
	each(column, groups, rows, func(group uint32, row int) {
		s.sums[group] += value(row)
		s.counts[group]++
	})
}

func (s *floatSum) result(b array.Builder) error {
	for i, sum := range s.sums {
		switch {
		case s.counts[i] == 0:
			b.AppendNull()
		case s.mean:
			b.(*array.Float64Builder).Append(sum / float64(s.counts[i]))
		default:
			b.(*array.Float64Builder).Append(sum)
		}
	}
	return nil
}

func (s *floatSum) stateTypes() []arrow.DataType {
	return []arrow.DataType{arrow.PrimitiveTypes.Float64, arrow.PrimitiveTypes.Int64}
}

func (s *floatSum) save(b []array.Builder) {
	b[0].(*array.Float64Builder).AppendValues(s.sums, nil)
	b[1].(*array.Int64Builder).AppendValues(s.counts, nil)
}

func (s *floatSum) load(columns []arrow.Array, groups []uint32, rows []int32) {
	sums, counts := columns[0].(*array.Float64), columns[1].(*array.Int64)
	each(nil, groups, rows, func(group uint32, row int) {
		s.sums[group], s.counts[group] = sums.Value(row), counts.Value(row)
	})
}

// extremeWord is min and max of what fits into a word.
type extremeWord struct {
	typ     arrow.DataType
	largest bool
	less    func(a, b uint64) bool
	words   []uint64
	seen    []bool
}

// wordOrder is the order of a type's words. NaN comes last, as in SQL.
func wordOrder(t arrow.DataType) func(a, b uint64) bool {
	switch {
	case t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64:
		return floatWordLess
	case arrow.IsUnsignedInteger(t.ID()) || t.ID() == arrow.BOOL:
		return func(a, b uint64) bool { return a < b }
	}
	return func(a, b uint64) bool { return int64(a) < int64(b) }
}

func (e *extremeWord) grow(n int) { e.words, e.seen = enlarged(e.words, n), enlarged(e.seen, n) }
func (e *extremeWord) reset()     { e.words, e.seen = e.words[:0], e.seen[:0] }

func (e *extremeWord) add(column *bound, groups []uint32, rows []int32) {
	words := column.words()
	each(column, groups, rows, func(group uint32, row int) {
		word := words[row]
		if !e.seen[group] || e.largest && e.less(e.words[group], word) || !e.largest && e.less(word, e.words[group]) {
			e.words[group], e.seen[group] = word, true
		}
	})
}

func (e *extremeWord) result(b array.Builder) error {
	for i, word := range e.words {
		if !e.seen[i] {
			b.AppendNull()
			continue
		}
		appendWord(b, word)
	}
	return nil
}

func (e *extremeWord) stateTypes() []arrow.DataType { return []arrow.DataType{e.typ} }
func (e *extremeWord) save(b []array.Builder)       { _ = e.result(b[0]) } // never fails
func (e *extremeWord) load(columns []arrow.Array, groups []uint32, rows []int32) {
	e.add(bind(columns[0]), groups, rows)
}

// extremeBytes is min and max of text and binary, in the order of their bytes.
type extremeBytes struct {
	typ     arrow.DataType
	largest bool
	values  [][]byte // nil: none yet
}

func (e *extremeBytes) grow(n int) { e.values = enlarged(e.values, n) }
func (e *extremeBytes) reset()     { e.values = e.values[:0] }

func (e *extremeBytes) add(column *bound, groups []uint32, rows []int32) {
	value := column.value
	each(column, groups, rows, func(group uint32, row int) {
		v, have := value(row), e.values[group]
		if have == nil || e.largest && bytes.Compare(have, v) < 0 || !e.largest && bytes.Compare(v, have) < 0 {
			e.values[group] = append(make([]byte, 0, max(len(v), 1)), v...)
		}
	})
}

func (e *extremeBytes) result(b array.Builder) error {
	for _, v := range e.values {
		if v == nil {
			b.AppendNull()
			continue
		}
		appendBytes(b, v)
	}
	return nil
}

func (e *extremeBytes) stateTypes() []arrow.DataType { return []arrow.DataType{e.typ} }
func (e *extremeBytes) save(b []array.Builder)       { _ = e.result(b[0]) } // never fails
func (e *extremeBytes) load(columns []arrow.Array, groups []uint32, rows []int32) {
	e.add(bind(columns[0]), groups, rows)
}

// extremeDecimal is min and max of decimals.
type extremeDecimal struct {
	typ     arrow.DataType
	largest bool
	values  []decimal128.Num
	seen    []bool
}

func (e *extremeDecimal) grow(n int) { e.values, e.seen = enlarged(e.values, n), enlarged(e.seen, n) }
func (e *extremeDecimal) reset()     { e.values, e.seen = e.values[:0], e.seen[:0] }

func (e *extremeDecimal) add(column *bound, groups []uint32, rows []int32) {
	c := column.column.(*array.Decimal128)
	each(column, groups, rows, func(group uint32, row int) {
		v, have := c.Value(row), e.values[group]
		if !e.seen[group] || e.largest && have.Less(v) || !e.largest && v.Less(have) {
			e.values[group], e.seen[group] = v, true
		}
	})
}

func (e *extremeDecimal) result(b array.Builder) error {
	for i, v := range e.values {
		if !e.seen[i] {
			b.AppendNull()
			continue
		}
		b.(*array.Decimal128Builder).Append(v)
	}
	return nil
}

func (e *extremeDecimal) stateTypes() []arrow.DataType { return []arrow.DataType{e.typ} }
func (e *extremeDecimal) save(b []array.Builder)       { _ = e.result(b[0]) } // never fails
func (e *extremeDecimal) load(columns []arrow.Array, groups []uint32, rows []int32) {
	e.add(bind(columns[0]), groups, rows)
}
