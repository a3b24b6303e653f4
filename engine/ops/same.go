package ops

import (
	"bytes"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// sameAsBefore says of each row of a batch whether it has the keys of the row
// before it; before the first row stands the last one of before, if that is
// not nil. Keys are equal as DuckDB groups and sorts by them: NULL equals
// NULL, also within nested values, NaN equals NaN, 0.0 equals -0.0, and a
// month is 30 days.
func sameAsBefore(batch, before arrow.RecordBatch, keys []int) []bool {
	same := make([]bool, batch.NumRows())
	for row := range same {
		same[row] = row > 0 || before != nil && before.NumRows() > 0
	}
	for _, key := range keys {
		column := batch.Column(key)
		equal := equality(column, column)
		for row := 1; row < len(same); row++ {
			same[row] = same[row] && equal(row-1, row)
		}
		if len(same) > 0 && same[0] {
			last := before.Column(key)
			same[0] = equality(last, column)(last.Len()-1, 0)
		}
	}
	return same
}

// equality compares values of two arrays of one type, by their places.
func equality(a, b arrow.Array) func(i, j int) bool {
	values := valueEquality(a, b)
	if a.NullN() == 0 && b.NullN() == 0 && a.DataType().ID() != arrow.NULL {
		return values
	}
	return func(i, j int) bool {
		if a.IsNull(i) || b.IsNull(j) {
			return a.IsNull(i) && b.IsNull(j)
		}
		return values(i, j)
	}
}

// valueEquality compares values that are not NULL.
func valueEquality(a, b arrow.Array) func(i, j int) bool {
	switch a := a.(type) {
	case *array.Null:
		return func(int, int) bool { return true }
	case *array.Boolean:
		b := b.(*array.Boolean)
		return func(i, j int) bool { return a.Value(i) == b.Value(j) }
	case *array.Float64:
		x, y := a.Float64Values(), b.(*array.Float64).Float64Values()
		return func(i, j int) bool { return sameFloat(x[i], y[j]) }
	case *array.Float32:
		x, y := a.Float32Values(), b.(*array.Float32).Float32Values()
		return func(i, j int) bool { return sameFloat(float64(x[i]), float64(y[j])) }
	case *array.MonthDayNanoInterval:
		b := b.(*array.MonthDayNanoInterval)
		return func(i, j int) bool { return normalInterval(a.Value(i)) == normalInterval(b.Value(j)) }
	case *array.Int64:
		x, y := a.Int64Values(), b.(*array.Int64).Int64Values()
		return func(i, j int) bool { return x[i] == y[j] }
	case *array.Struct:
		return structEquality(a, b.(*array.Struct))
	case array.ListLike: // also maps, which DuckDB compares as lists of entries
		return listEquality(a, b.(array.ListLike))
	case textLike:
		b := b.(textLike)
		x, y := a.ValueBytes(), b.ValueBytes()
		return func(i, j int) bool {
			return bytes.Equal(x[a.ValueOffset64(i)-a.ValueOffset64(0):][:a.ValueLen(i)], y[b.ValueOffset64(j)-b.ValueOffset64(0):][:b.ValueLen(j)])
		}
	}
	return fixedEquality(a, b)
}

// textLike are arrays of strings and bytes.
type textLike interface {
	arrow.Array
	ValueLen(i int) int
	ValueBytes() []byte
	ValueOffset64(i int) int64
}

func sameFloat(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }

// normalInterval moves whole months and days up, as DuckDB does to compare
// intervals.
func normalInterval(v arrow.MonthDayNanoInterval) [3]int64 {
	const monthDays, dayNanos = 30, 24 * 60 * 60 * 1_000_000_000
	days := int64(v.Days) + v.Nanoseconds/dayNanos
	months := int64(v.Months) + days/monthDays
	return [3]int64{months, days % monthDays, v.Nanoseconds % dayNanos}
}

func structEquality(a, b *array.Struct) func(i, j int) bool {
	fields := make([]func(i, j int) bool, a.NumField())
	for f := range fields {
		fields[f] = equality(a.Field(f), b.Field(f))
	}
	return func(i, j int) bool {
		for _, equal := range fields {
			if !equal(i, j) {
				return false
			}
		}
		return true
	}
}

func listEquality(a, b array.ListLike) func(i, j int) bool {
	equal := equality(a.ListValues(), b.ListValues())
	return func(i, j int) bool {
		begin, end := a.ValueOffsets(i)
		other, otherEnd := b.ValueOffsets(j)
		if end-begin != otherEnd-other {
			return false
		}
		for k := range end - begin {
			if !equal(int(begin+k), int(other+k)) {
				return false
			}
		}
		return true
	}
}

// fixedEquality compares the bytes of values of fixed width: numbers, dates,
// decimals of one scale.
func fixedEquality(a, b arrow.Array) func(i, j int) bool {
	if a.NullN() == a.Len() || b.NullN() == b.Len() {
		return func(int, int) bool { return false } // there are no values, and perhaps no bytes
	}
	width := a.DataType().(arrow.FixedWidthDataType).Bytes()
	x, y := a.Data().Buffers()[1].Bytes()[a.Data().Offset()*width:], b.Data().Buffers()[1].Bytes()[b.Data().Offset()*width:]
	return func(i, j int) bool {
		return bytes.Equal(x[i*width:(i+1)*width], y[j*width:(j+1)*width])
	}
}
