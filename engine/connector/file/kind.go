package file

import (
	"bytes"
	"math"
	"strconv"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
)

// kind is what a column of text is taken for. The order is that of
// recognition only.
type kind uint8

const (
	kindNull kind = iota // no value yet
	kindBoolean
	kindBigint
	kindDouble
	kindDate
	kindTime
	kindTimestamp
	kindTimestampNano
	kindTimestampTZ
	kindTimestampTZNano
	kindString
)

// arrow is the type of a column of a kind. A column without values is text,
// which takes whatever comes after the sample.
func (k kind) arrow() arrow.DataType {
	switch k {
	case kindBoolean:
		return arrow.FixedWidthTypes.Boolean
	case kindBigint:
		return arrow.PrimitiveTypes.Int64
	case kindDouble:
		return arrow.PrimitiveTypes.Float64
	case kindDate:
		return arrow.FixedWidthTypes.Date32
	case kindTime:
		return arrow.FixedWidthTypes.Time64us
	case kindTimestamp:
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	case kindTimestampNano:
		return &arrow.TimestampType{Unit: arrow.Nanosecond}
	case kindTimestampTZ:
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	case kindTimestampTZNano:
		return &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	}
	return arrow.BinaryTypes.String
}

// widen is the kind that holds values of both: whole numbers become double
// beside fractions, dates timestamps beside timestamps, microseconds
// nanoseconds; anything else text.
func (k kind) widen(other kind) kind {
	low, high := min(k, other), max(k, other)
	switch {
	case low == kindNull, low == high:
		return high
	case low == kindBigint && high == kindDouble:
		return kindDouble
	case low == kindDate && (high == kindTimestamp || high == kindTimestampNano):
		return high
	case low == kindTimestamp && high == kindTimestampNano, low == kindTimestampTZ && high == kindTimestampTZNano:
		return high
	}
	return kindString
}

// kindOf recognises a text. Numbers are what a program writes: those with
// leading zeros or a plus (post codes, telephone numbers) are text, and so are
// whole numbers beyond 64 bits and numbers beyond a double.
func kindOf(text []byte) kind {
	text = trim(text)
	if len(text) == 0 {
		return kindString
	}
	switch c := text[0]; {
	case c >= '0' && c <= '9' || c == '-' || c == '.':
		if k := numberKind(text); k != kindString {
			return k
		}
		return timeKind(text)
	case c == 't' || c == 'T' || c == 'f' || c == 'F':
		if bytes.EqualFold(text, []byte("true")) || bytes.EqualFold(text, []byte("false")) {
			return kindBoolean
		}
	case specialFloat(text):
		return kindDouble
	}
	return kindString
}

// specialFloat reports whether text is NaN or infinite. A bare "inf" or
// "Infinity" in a column of words makes no difference: the words decide.
func specialFloat(text []byte) bool {
	for _, special := range []string{"nan", "inf", "infinity"} {
		if len(text) == len(special) && bytes.EqualFold(text, []byte(special)) {
			return true
		}
	}
	return false
}

// numberKind is kindBigint, kindDouble, or kindString if text is no number.
func numberKind(text []byte) kind {
	digits := text
	if digits[0] == '-' {
		if digits = digits[1:]; specialFloat(digits) {
			return kindDouble
		}
	}
	whole := 0
	for whole < len(digits) && digits[whole] >= '0' && digits[whole] <= '9' {
		whole++
	}
	if whole > 1 && digits[0] == '0' {
		return kindString
	}
	if whole == len(digits) {
		if _, ok := parseInt(text, math.MinInt64, math.MaxInt64); ok {
			return kindBigint
		}
		return kindString
	}
	if _, ok := parseFloat(text, 64); ok {
		return kindDouble
	}
	return kindString
}

// timeKind is the kind of a date, time or timestamp in the form of ISO 8601;
// kindString if it is none.
func timeKind(text []byte) kind {
	if _, ok := parseDate(text); ok {
		return kindDate
	}
	if _, ok := parseTime(text, arrow.Microsecond); ok {
		return kindTime
	}
	t, ok := parseTimestamp(text)
	if !ok {
		return kindString
	}
	k := kindTimestamp
	if t.zoned {
		k = kindTimestampTZ
	}
	if t.nanos%1000 != 0 {
		if _, fits := t.in(arrow.Nanosecond); !fits {
			return kindString
		}
		k++
	}
	return k
}

// trim takes blanks away from both ends.
func trim(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		text = text[1:]
	}
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] == '\t') {
		text = text[:len(text)-1]
	}
	return text
}

// textOf lends bytes as a string; it is not kept.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func parseInt(text []byte, low, high int64) (int64, bool) {
	const digitsMax = 18 // of which none overflows
	digits := text
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	var n int64
	if len(digits) == 0 || len(digits) > digitsMax {
		parsed, err := strconv.ParseInt(textOf(text), 10, 64)
		return parsed, err == nil && parsed >= low && parsed <= high
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if text[0] == '-' {
		n = -n
	}
	return n, n >= low && n <= high
}

func parseUint(text []byte, high uint64) (uint64, bool) {
	n, err := strconv.ParseUint(textOf(text), 10, 64)
	return n, err == nil && n <= high
}

// parseFloat reads a decimal number, nan or inf. A number beyond the type is
// refused.
func parseFloat(text []byte, bits int) (float64, bool) {
	for _, c := range text {
		if c == '_' || c == 'x' || c == 'X' { // Go's own notations
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(textOf(text), bits)
	return f, err == nil
}

func parseBoolean(text []byte) (value, ok bool) {
	switch len(text) {
	case 1:
		switch text[0] {
		case '1', 't', 'T', 'y', 'Y':
			return true, true
		case '0', 'f', 'F', 'n', 'N':
			return false, true
		}
	case 2:
		return false, bytes.EqualFold(text, []byte("no"))
	case 3:
		return true, bytes.EqualFold(text, []byte("yes"))
	case 4:
		return true, bytes.EqualFold(text, []byte("true"))
	case 5:
		return false, bytes.EqualFold(text, []byte("false"))
	}
	return false, false
}

// digits reads a number of exactly n digits at the beginning of text.
func digits(text []byte, n int) (value int, rest []byte, ok bool) {
	if len(text) < n {
		return 0, text, false
	}
	for _, c := range text[:n] {
		if c < '0' || c > '9' {
			return 0, text, false
		}
		value = value*10 + int(c-'0')
	}
	return value, text[n:], true
}

// marked reads a mark and a number of two digits.
func marked(text []byte, mark byte) (value int, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != mark {
		return 0, text, false
	}
	return digits(text[1:], 2)
}

// leadingDate reads YYYY-MM-DD as days since 1970.
func leadingDate(text []byte) (days int64, rest []byte, ok bool) {
	year, rest, ok := digits(text, 4)
	if !ok {
		return 0, text, false
	}
	month, rest, ok := marked(rest, '-')
	if !ok {
		return 0, text, false
	}
	day, rest, ok := marked(rest, '-')
	if !ok || year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, text, false
	}
	return civilDays(year, month, day), rest, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// civilDays counts the days since 1970 in the proleptic Gregorian calendar:
// years begin in March, so that the leap day is their last, and 400 of them
// have 146,097 days.
func civilDays(year, month, day int) int64 {
	y, m := int64(year), int64(month)
	if m <= 2 {
		y--
		m += 12
	}
	dayOfYear := (153*(m-3)+2)/5 + int64(day) - 1
	return 365*y + y/4 - y/100 + y/400 + dayOfYear - 719_468
}

func parseDate(text []byte) (arrow.Date32, bool) {
	days, rest, ok := leadingDate(text)
	return arrow.Date32(days), ok && len(rest) == 0
}

// leadingClock reads HH:MM[:SS[.fffffffff]].
func leadingClock(text []byte) (seconds, nanos int64, hasSeconds bool, rest []byte, ok bool) {
	hour, rest, ok := digits(text, 2)
	if !ok || hour > 23 {
		return 0, 0, false, text, false
	}
	minute, rest, ok := marked(rest, ':')
	if !ok || minute > 59 {
		return 0, 0, false, text, false
	}
	seconds = int64(hour)*3600 + int64(minute)*60
	second, after, ok := marked(rest, ':')
	if !ok {
		return seconds, 0, false, rest, len(rest) == 0 || rest[0] != ':'
	}
	if second > 59 {
		return 0, 0, false, text, false
	}
	nanos, after, ok = leadingFraction(after)
	return seconds + int64(second), nanos, true, after, ok
}

func leadingFraction(text []byte) (nanos int64, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '.' {
		return 0, text, true
	}
	const digitsMax = 9
	n := 1
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		if n <= digitsMax {
			nanos = nanos*10 + int64(text[n]-'0')
		} else if text[n] != '0' {
			return 0, text, false // finer than a nanosecond
		}
		n++
	}
	if n == 1 {
		return 0, text, false
	}
	for i := n - 1; i < digitsMax; i++ {
		nanos *= 10
	}
	return nanos, text[n:], true
}

// parseTime reads HH:MM:SS[.f] in units; what a unit cannot hold is refused.
func parseTime(text []byte, unit arrow.TimeUnit) (int64, bool) {
	seconds, nanos, hasSeconds, rest, ok := leadingClock(text)
	if !ok || !hasSeconds || len(rest) > 0 {
		return 0, false
	}
	return instant{seconds: seconds, nanos: nanos}.in(unit)
}

// instant is a point in time: seconds since 1970 and nanoseconds after that.
type instant struct {
	seconds, nanos int64
	// zoned says that the text had a zone; then the seconds are UTC's.
	zoned bool
}

// in gives the instant in units; false if it cannot be held exactly.
func (t instant) in(unit arrow.TimeUnit) (int64, bool) {
	perSecond := int64(1e9) / int64(unit.Multiplier())
	nanosPerUnit := int64(unit.Multiplier())
	if t.nanos%nanosPerUnit != 0 {
		return 0, false
	}
	fraction := t.nanos / nanosPerUnit
	if t.seconds > (math.MaxInt64-fraction)/perSecond || t.seconds < math.MinInt64/perSecond {
		return 0, false
	}
	return t.seconds*perSecond + fraction, true
}

// parseTimestamp reads a date, a T or a blank, a time, and perhaps a zone: Z
// or ±HH[[:]MM]. A date alone is its midnight.
func parseTimestamp(text []byte) (t instant, ok bool) {
	days, rest, ok := leadingDate(text)
	if !ok {
		return instant{}, false
	}
	t.seconds = days * 86_400
	if len(rest) == 0 {
		return t, true
	}
	if rest[0] != 'T' && rest[0] != ' ' && rest[0] != 't' {
		return instant{}, false
	}
	seconds, nanos, _, rest, ok := leadingClock(rest[1:])
	if !ok {
		return instant{}, false
	}
	t.seconds, t.nanos = t.seconds+seconds, nanos
	if len(rest) == 0 {
		return t, true
	}
	offset, ok := parseZone(trim(rest))
	t.seconds, t.zoned = t.seconds-offset, true
	return t, ok
}

// parseZone reads a zone as seconds east of UTC.
func parseZone(text []byte) (offset int64, ok bool) {
	if len(text) == 0 {
		return 0, false
	}
	switch text[0] {
	case 'Z', 'z':
		return 0, len(text) == 1
	case '+', '-':
	default:
		return 0, textOf(text) == "UTC"
	}
	hours, rest, ok := digits(text[1:], 2)
	if !ok || hours > 18 {
		return 0, false
	}
	minutes := 0
	if len(rest) > 0 {
		if rest[0] == ':' {
			rest = rest[1:]
		}
		if minutes, rest, ok = digits(rest, 2); !ok || minutes > 59 || len(rest) > 0 {
			return 0, false
		}
	}
	offset = int64(hours)*3600 + int64(minutes)*60
	if text[0] == '-' {
		offset = -offset
	}
	return offset, true
}
