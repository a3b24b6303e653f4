package file

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// appender puts a text into a column. It never loses anything: a text that
// the type cannot hold exactly is refused, with the reason. Only strings keep
// blanks around them.
type appender func(text []byte) error

var errDoesNotFit = fmt.Errorf("it does not fit")

// newAppender makes the appender of a scalar type for its builder.
func newAppender(b array.Builder) (appender, error) {
	switch b := b.(type) {
	case *array.StringBuilder:
		return func(text []byte) error { return appendText(text, b.BinaryBuilder) }, nil
	case *array.LargeStringBuilder:
		return func(text []byte) error { return appendText(text, b.BinaryBuilder) }, nil
	case *array.BinaryBuilder:
		return func(text []byte) error { return appendBase64(text, b) }, nil
	case *array.BooleanBuilder:
		return of(parseBoolean, b.Append), nil
	case *array.Float32Builder:
		return of(func(text []byte) (float64, bool) { return parseFloat(text, 32) }, func(f float64) { b.Append(float32(f)) }), nil
	case *array.Float64Builder:
		return of(func(text []byte) (float64, bool) { return parseFloat(text, 64) }, b.Append), nil
	case *array.Decimal128Builder:
		t := b.Type().(*arrow.Decimal128Type)
		return of(func(text []byte) (decimal128.Num, bool) { return parseDecimal(text, t) }, b.Append), nil
	case *array.NullBuilder:
		return func([]byte) error { return errDoesNotFit }, nil
	}
	if a := newIntAppender(b); a != nil {
		return a, nil
	}
	if a := newTimeAppender(b); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("values of type %s cannot be read from text", b.Type())
}

// of makes an appender of a parser.
func of[T any](parse func([]byte) (T, bool), put func(T)) appender {
	return func(text []byte) error {
		value, ok := parse(trim(text))
		if !ok {
			return errDoesNotFit
		}
		put(value)
		return nil
	}
}

func appendText(text []byte, b *array.BinaryBuilder) error {
	if !utf8.Valid(text) {
		return errNotUTF8
	}
	b.Append(text)
	return nil
}

var errNotUTF8 = fmt.Errorf("it is not UTF-8")

func appendBase64(text []byte, b *array.BinaryBuilder) error {
	value, err := base64.StdEncoding.AppendDecode(nil, trim(text))
	if err != nil {
		return fmt.Errorf("it is not base64: %w", err)
	}
	b.Append(value)
	return nil
}

func newIntAppender(b array.Builder) appender {
	signed := func(low, high int64, put func(int64)) appender {
		return of(func(text []byte) (int64, bool) { return parseInt(text, low, high) }, put)
	}
	unsigned := func(high uint64, put func(uint64)) appender {
		return of(func(text []byte) (uint64, bool) { return parseUint(text, high) }, put)
	}
	switch b := b.(type) {
	case *array.Int8Builder:
		return signed(math.MinInt8, math.MaxInt8, func(n int64) { b.Append(int8(n)) })
	case *array.Int16Builder:
		return signed(math.MinInt16, math.MaxInt16, func(n int64) { b.Append(int16(n)) })
	case *array.Int32Builder:
		return signed(math.MinInt32, math.MaxInt32, func(n int64) { b.Append(int32(n)) })
	case *array.Int64Builder:
		return signed(math.MinInt64, math.MaxInt64, b.Append)
	case *array.Uint8Builder:
		return unsigned(math.MaxUint8, func(n uint64) { b.Append(uint8(n)) })
	case *array.Uint16Builder:
		return unsigned(math.MaxUint16, func(n uint64) { b.Append(uint16(n)) })
	case *array.Uint32Builder:
		return unsigned(math.MaxUint32, func(n uint64) { b.Append(uint32(n)) })
	case *array.Uint64Builder:
		return unsigned(math.MaxUint64, b.Append)
	}
	return nil
}

func newTimeAppender(b array.Builder) appender {
	switch b := b.(type) {
	case *array.Date32Builder:
		return of(parseDate, b.Append)
	case *array.Time32Builder:
		unit := b.Type().(*arrow.Time32Type).Unit
		return of(func(text []byte) (int64, bool) { return parseTime(text, unit) }, func(n int64) { b.Append(arrow.Time32(n)) })
	case *array.Time64Builder:
		unit := b.Type().(*arrow.Time64Type).Unit
		return of(func(text []byte) (int64, bool) { return parseTime(text, unit) }, func(n int64) { b.Append(arrow.Time64(n)) })
	case *array.TimestampBuilder:
		t := b.Type().(*arrow.TimestampType)
		return func(text []byte) error {
			at, ok := parseTimestamp(trim(text))
			if !ok {
				return errDoesNotFit
			}
			if at.zoned && t.TimeZone == "" {
				return fmt.Errorf("it has a zone, which the type cannot keep")
			}
			value, ok := at.in(t.Unit)
			if !ok {
				return errDoesNotFit
			}
			b.Append(arrow.Timestamp(value))
			return nil
		}
	case *array.MonthDayNanoIntervalBuilder:
		return of(parseInterval, b.Append)
	}
	return nil
}

// parseDecimal reads a decimal number without an exponent. Digits beyond the
// scale must be zeros.
func parseDecimal(text []byte, t *arrow.Decimal128Type) (decimal128.Num, bool) {
	var zero decimal128.Num
	if len(text) == 0 {
		return zero, false
	}
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	unscaled := make([]byte, 0, 48)
	fraction, point := 0, false
	for _, c := range text {
		switch {
		case c == '.' && !point:
			point = true
		case c < '0' || c > '9':
			return zero, false
		case point && fraction == int(t.Scale):
			if c != '0' {
				return zero, false
			}
		default:
			unscaled = append(unscaled, c)
			if point {
				fraction++
			}
		}
	}
	if len(unscaled) == 0 {
		return zero, false
	}
	for ; fraction < int(t.Scale); fraction++ {
		unscaled = append(unscaled, '0')
	}
	for len(unscaled) > 1 && unscaled[0] == '0' {
		unscaled = unscaled[1:]
	}
	if len(unscaled) > int(t.Precision) {
		return zero, false
	}
	var number decimal128.Num
	if len(unscaled) <= 18 {
		n, _ := strconv.ParseInt(textOf(unscaled), 10, 64)
		number = decimal128.FromI64(n)
	} else {
		n, _ := new(big.Int).SetString(textOf(unscaled), 10)
		number = decimal128.FromBigInt(n)
	}
	if negative {
		number = number.Negate()
	}
	return number, true
}

// parseInterval reads what appendInterval writes: P[nM][nD][TnS], each number
// with its sign and the seconds with a fraction.
func parseInterval(text []byte) (out arrow.MonthDayNanoInterval, ok bool) {
	if len(text) < 3 || text[0] != 'P' {
		return out, false
	}
	rest := text[1:]
	inTime := false
	for len(rest) > 0 {
		if rest[0] == 'T' && !inTime {
			inTime, rest = true, rest[1:]
			continue
		}
		n := 0
		for n < len(rest) && (rest[n] == '-' || rest[n] == '.' || rest[n] >= '0' && rest[n] <= '9') {
			n++
		}
		if n == len(rest) {
			return out, false
		}
		number, unit := rest[:n], rest[n]
		rest = rest[n+1:]
		switch {
		case unit == 'S' && inTime:
			nanos, fits := parseDecimal(number, &arrow.Decimal128Type{Precision: 19, Scale: 9})
			out.Nanoseconds = int64(nanos.LowBits())
			ok = fits && decimal128.FromI64(out.Nanoseconds) == nanos
		case unit == 'M' && !inTime:
			out.Months, ok = smallInt(number)
		case unit == 'D' && !inTime:
			out.Days, ok = smallInt(number)
		default:
			ok = false
		}
		if !ok {
			return out, false
		}
	}
	return out, ok
}

func smallInt(text []byte) (int32, bool) {
	n, ok := parseInt(text, math.MinInt32, math.MaxInt32)
	return int32(n), ok
}
