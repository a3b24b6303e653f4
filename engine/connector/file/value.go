package file

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/go-json-experiment/json/jsontext"
)

// writer appends the value of a row to a text. The row is not NULL.
type valueWriter func(dst []byte, row int) []byte

// form is what a text is written as.
type form uint8

const (
	formCSV  form = iota
	formJSON      // with quotes where JSON has them
)

// newValueWriter makes the writer of an array's values; the same text is read
// back to the same value by newAppender.
func newValueWriter(a arrow.Array, f form) (valueWriter, error) {
	quoted := func(w valueWriter) valueWriter {
		if f == formCSV {
			return w
		}
		return func(dst []byte, row int) []byte { return append(w(append(dst, '"'), row), '"') }
	}
	text := func(value func(int) string) valueWriter {
		if f == formCSV {
			return func(dst []byte, row int) []byte { return append(dst, value(row)...) }
		}
		return func(dst []byte, row int) []byte {
			dst, _ = jsontext.AppendQuote(dst, value(row)) // what is not UTF-8 becomes U+FFFD
			return dst
		}
	}
	switch a := a.(type) {
	case *array.Boolean:
		return func(dst []byte, row int) []byte { return strconv.AppendBool(dst, a.Value(row)) }, nil
	case *array.Int8:
		return ints(a), nil
	case *array.Int16:
		return ints(a), nil
	case *array.Int32:
		return ints(a), nil
	case *array.Int64:
		return ints(a), nil
	case *array.Uint8:
		return ints(a), nil
	case *array.Uint16:
		return ints(a), nil
	case *array.Uint32:
		return ints(a), nil
	case *array.Uint64:
		return func(dst []byte, row int) []byte { return strconv.AppendUint(dst, a.Value(row), 10) }, nil
	case *array.Float16:
		return func(dst []byte, row int) []byte { return appendFloat(dst, float64(a.Value(row).Float32()), 32, f) }, nil
	case *array.Float32:
		return func(dst []byte, row int) []byte { return appendFloat(dst, float64(a.Value(row)), 32, f) }, nil
	case *array.Float64:
		return func(dst []byte, row int) []byte { return appendFloat(dst, a.Value(row), 64, f) }, nil
	case *array.Decimal128:
		return func(dst []byte, row int) []byte {
			return append(dst, a.Value(row).ToString(a.DataType().(*arrow.Decimal128Type).Scale)...)
		}, nil
	case *array.String:
		return text(a.Value), nil
	case *array.LargeString:
		return text(a.Value), nil
	case *array.Binary:
		return quoted(func(dst []byte, row int) []byte { return base64.StdEncoding.AppendEncode(dst, a.Value(row)) }), nil
	case *array.LargeBinary:
		return quoted(func(dst []byte, row int) []byte { return base64.StdEncoding.AppendEncode(dst, a.Value(row)) }), nil
	case *array.FixedSizeBinary:
		return quoted(func(dst []byte, row int) []byte { return base64.StdEncoding.AppendEncode(dst, a.Value(row)) }), nil
	case *array.Date32:
		return quoted(func(dst []byte, row int) []byte { return appendDate(dst, int64(a.Value(row))) }), nil
	case *array.Date64:
		return quoted(func(dst []byte, row int) []byte { return appendDate(dst, int64(a.Value(row))/86_400_000) }), nil
	case *array.Time32:
		unit := a.DataType().(*arrow.Time32Type).Unit
		return quoted(func(dst []byte, row int) []byte { return appendClock(dst, int64(a.Value(row)), unit) }), nil
	case *array.Time64:
		unit := a.DataType().(*arrow.Time64Type).Unit
		return quoted(func(dst []byte, row int) []byte { return appendClock(dst, int64(a.Value(row)), unit) }), nil
	case *array.Timestamp:
		t := a.DataType().(*arrow.TimestampType)
		return quoted(func(dst []byte, row int) []byte { return appendTimestamp(dst, int64(a.Value(row)), t) }), nil
	case *array.MonthDayNanoInterval:
		return quoted(func(dst []byte, row int) []byte { return appendInterval(dst, a.Value(row)) }), nil
	case *array.Duration:
		unit := int64(a.DataType().(*arrow.DurationType).Unit.Multiplier())
		return quoted(func(dst []byte, row int) []byte {
			seconds, rest := floorDiv(int64(a.Value(row)), int64(1e9)/unit)
			return appendSeconds(append(dst, "PT"...), seconds, rest*unit)
		}), nil
	case *array.Null:
		return func(dst []byte, _ int) []byte { return dst }, nil
	}
	return newNestedWriter(a)
}

// integer is an array of integers of at most 64 bits.
type integers[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32] interface{ Value(int) T }

func ints[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](a integers[T]) valueWriter {
	return func(dst []byte, row int) []byte { return strconv.AppendInt(dst, int64(a.Value(row)), 10) }
}

// newNestedWriter writes nested values as JSON, in CSV too.
func newNestedWriter(a arrow.Array) (valueWriter, error) {
	switch a := a.(type) {
	case *array.Struct:
		return newStructWriter(a)
	case *array.Map:
		return newMapWriter(a)
	case array.ListLike:
		values := a.ListValues()
		element, err := newMemberWriter(values)
		if err != nil {
			return nil, err
		}
		return func(dst []byte, row int) []byte {
			dst = append(dst, '[')
			from, to := a.ValueOffsets(row)
			for i := from; i < to; i++ {
				if i > from {
					dst = append(dst, ',')
				}
				dst = element(dst, int(i))
			}
			return append(dst, ']')
		}, nil
	}
	return nil, fmt.Errorf("values of type %s have no text", a.DataType())
}

// isNull is IsNull, which is false for arrays of the type null.
func isNull(a arrow.Array, row int) bool {
	return a.DataType().ID() == arrow.NULL || a.IsNull(row)
}

// newMemberWriter writes values within a nested one, NULLs included.
func newMemberWriter(a arrow.Array) (valueWriter, error) {
	w, err := newValueWriter(a, formJSON)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, row int) []byte {
		if isNull(a, row) {
			return append(dst, "null"...)
		}
		return w(dst, row)
	}, nil
}

func newStructWriter(a *array.Struct) (valueWriter, error) {
	t := a.DataType().(*arrow.StructType)
	names, members := make([][]byte, t.NumFields()), make([]valueWriter, t.NumFields())
	for i, f := range t.Fields() {
		var err error
		if members[i], err = newMemberWriter(a.Field(i)); err != nil {
			return nil, err
		}
		if names[i], err = jsontext.AppendQuote(nil, f.Name); err != nil {
			return nil, err
		}
	}
	return func(dst []byte, row int) []byte {
		dst = append(dst, '{')
		for i, member := range members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = member(append(append(dst, names[i]...), ':'), row)
		}
		return append(dst, '}')
	}, nil
}

// newMapWriter writes a map as an object whose keys are the texts of its keys.
func newMapWriter(a *array.Map) (valueWriter, error) {
	key, err := newValueWriter(a.Keys(), formCSV)
	if err != nil {
		return nil, err
	}
	item, err := newMemberWriter(a.Items())
	if err != nil {
		return nil, err
	}
	return func(dst []byte, row int) []byte {
		dst = append(dst, '{')
		from, to := a.ValueOffsets(row)
		var name []byte
		for i := from; i < to; i++ {
			if i > from {
				dst = append(dst, ',')
			}
			name = key(name[:0], int(i))
			dst, _ = jsontext.AppendQuote(dst, name)
			dst = item(append(dst, ':'), int(i))
		}
		return append(dst, '}')
	}, nil
}

// appendFloat writes the shortest text that is read back as the same number.
func appendFloat(dst []byte, v float64, bits int, f form) []byte {
	special := ""
	switch {
	case math.IsNaN(v):
		special = "NaN"
	case math.IsInf(v, 1):
		special = "Infinity"
	case math.IsInf(v, -1):
		special = "-Infinity"
	}
	if special != "" {
		if f == formJSON {
			return append(append(append(dst, '"'), special...), '"')
		}
		return append(dst, special...)
	}
	before := len(dst)
	const plainMin, plainMax = 1e-6, 1e16
	if size := math.Abs(v); size != 0 && (size < plainMin || size >= plainMax) {
		return strconv.AppendFloat(dst, v, 'e', -1, bits)
	}
	dst = strconv.AppendFloat(dst, v, 'f', -1, bits)
	for _, c := range dst[before:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...) // so that it stays a double
}

// floorDiv divides so that the remainder is not negative.
func floorDiv(n, by int64) (quotient, rest int64) {
	quotient, rest = n/by, n%by
	if rest < 0 {
		quotient, rest = quotient-1, rest+by
	}
	return quotient, rest
}

func appendDate(dst []byte, days int64) []byte {
	return time.Unix(days*86_400, 0).UTC().AppendFormat(dst, "2006-01-02")
}

// appendClock writes a time of day.
func appendClock(dst []byte, value int64, unit arrow.TimeUnit) []byte {
	seconds, rest := floorDiv(value, int64(1e9)/int64(unit.Multiplier()))
	dst = time.Unix(seconds, 0).UTC().AppendFormat(dst, "15:04:05")
	return appendFraction(dst, rest*int64(unit.Multiplier()))
}

func appendTimestamp(dst []byte, value int64, t *arrow.TimestampType) []byte {
	seconds, rest := floorDiv(value, int64(1e9)/int64(t.Unit.Multiplier()))
	dst = time.Unix(seconds, 0).UTC().AppendFormat(dst, "2006-01-02T15:04:05")
	dst = appendFraction(dst, rest*int64(t.Unit.Multiplier()))
	if t.TimeZone != "" {
		dst = append(dst, 'Z')
	}
	return dst
}

// appendFraction writes nanoseconds as a fraction of 3, 6 or 9 digits; nothing
// if there are none.
func appendFraction(dst []byte, nanos int64) []byte {
	switch {
	case nanos == 0:
		return dst
	case nanos%1_000_000 == 0:
		return fmt.Appendf(dst, ".%03d", nanos/1_000_000)
	case nanos%1_000 == 0:
		return fmt.Appendf(dst, ".%06d", nanos/1_000)
	}
	return fmt.Appendf(dst, ".%09d", nanos)
}

// appendInterval writes months, days and seconds apart, as ISO 8601 does.
func appendInterval(dst []byte, v arrow.MonthDayNanoInterval) []byte {
	dst = append(dst, 'P')
	if v.Months != 0 {
		dst = append(strconv.AppendInt(dst, int64(v.Months), 10), 'M')
	}
	if v.Days != 0 {
		dst = append(strconv.AppendInt(dst, int64(v.Days), 10), 'D')
	}
	if v.Nanoseconds == 0 && (v.Months != 0 || v.Days != 0) {
		return dst
	}
	const perSecond = 1e9
	return appendSeconds(append(dst, 'T'), v.Nanoseconds/perSecond, v.Nanoseconds%perSecond)
}

// appendSeconds writes seconds with a fraction. The parts may have either
// sign.
func appendSeconds(dst []byte, seconds, nanos int64) []byte {
	const perSecond = 1e9
	if seconds < 0 && nanos > 0 {
		seconds, nanos = seconds+1, nanos-perSecond
	}
	if seconds < 0 || nanos < 0 {
		dst = append(dst, '-')
		seconds, nanos = -seconds, -nanos
	}
	dst = strconv.AppendInt(dst, seconds, 10)
	return append(appendFraction(dst, nanos), 'S')
}
