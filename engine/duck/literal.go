package duck

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/alink-runtime/alink/engine/plan"
)

var (
	integerForm = regexp.MustCompile(`^-?[0-9]{1,20}$`)
	decimalForm = regexp.MustCompile(`^[+-]?([0-9]{1,38})(?:\.([0-9]{0,38}))?$`)
)

// renderLiteral gives the SQL of a constant. Every value but a boolean is
// written as text that is cast to its type, so that DuckDB never guesses a
// type from the form of a number, and no value can be anything but a value.
func renderLiteral(l *plan.Literal) (string, error) {
	typ, err := plan.ParseType(l.Type)
	if err != nil {
		return "", err
	}
	target, err := fromArrow(typ)
	if err != nil {
		return "", err
	}
	decoder := json.NewDecoder(bytes.NewReader(l.Value))
	decoder.UseNumber() // a float64 would lose integers beyond 2^53
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", fmt.Errorf("the value %s is not valid JSON: %w", l.Value, err)
	}
	if value == nil {
		return "CAST(NULL AS " + target.sql() + ")", nil
	}
	text, err := literalText(typ, value)
	if err != nil {
		return "", fmt.Errorf("the value %s is not a %s: %w", l.Value, plan.FormatType(typ), err)
	}
	return "CAST(" + text + " AS " + target.sql() + ")", nil
}

// literalText gives an SQL expression whose cast to typ is the value.
func literalText(typ arrow.DataType, value any) (string, error) {
	switch typ.ID() {
	case arrow.BOOL:
		if b, ok := value.(bool); ok {
			return strconv.FormatBool(b), nil
		}
		return "", fmt.Errorf("true or false is expected")
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		return integerText(typ, value)
	case arrow.FLOAT32, arrow.FLOAT64:
		return floatText(typ, value)
	}
	text, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("a string is expected")
	}
	switch typ := typ.(type) {
	case *arrow.StringType, *arrow.LargeStringType:
		return stringText(text), nil
	case *arrow.BinaryType, *arrow.LargeBinaryType:
		if _, err := hex.DecodeString(text); err != nil {
			return "", err
		}
		return "unhex('" + text + "')", nil
	case *arrow.Decimal128Type:
		return decimalText(typ, text)
	case *arrow.Date32Type, *arrow.Time64Type, *arrow.TimestampType, *arrow.MonthDayNanoIntervalType:
		if strings.ContainsRune(text, 0) {
			return "", fmt.Errorf("it holds a NUL character")
		}
		return quoteString(text), nil
	}
	return "", fmt.Errorf("there are no literals of this type but null")
}

func integerText(typ arrow.DataType, value any) (string, error) {
	text := numberText(value)
	if !integerForm.MatchString(text) {
		return "", fmt.Errorf("an integer is expected")
	}
	bits := typ.(arrow.FixedWidthDataType).BitWidth()
	var err error
	if arrow.IsUnsignedInteger(typ.ID()) {
		_, err = strconv.ParseUint(text, 10, bits)
	} else {
		_, err = strconv.ParseInt(text, 10, bits)
	}
	if err != nil {
		return "", fmt.Errorf("it is out of range")
	}
	return quoteString(text), nil
}

func floatText(typ arrow.DataType, value any) (string, error) {
	bits := typ.(arrow.FixedWidthDataType).BitWidth()
	f, err := strconv.ParseFloat(numberText(value), bits)
	switch {
	case err != nil:
		return "", fmt.Errorf("a number is expected")
	case math.IsNaN(f):
		return "'NaN'", nil
	case math.IsInf(f, 0):
		return quoteString(map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]), nil
	}
	return quoteString(strconv.FormatFloat(f, 'g', -1, bits)), nil
}

// decimalText refuses digits that the type would round away.
func decimalText(typ *arrow.Decimal128Type, text string) (string, error) {
	parts := decimalForm.FindStringSubmatch(text)
	if parts == nil {
		return "", fmt.Errorf("a decimal number is expected")
	}
	if len(strings.TrimRight(parts[2], "0")) > int(typ.Scale) {
		return "", fmt.Errorf("it has more than %d digits after the point", typ.Scale)
	}
	if len(strings.TrimLeft(parts[1], "0")) > int(typ.Precision-typ.Scale) {
		return "", fmt.Errorf("it has more than %d digits before the point", typ.Precision-typ.Scale)
	}
	return quoteString(text), nil
}

func numberText(value any) string {
	switch v := value.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	}
	return ""
}

// stringText writes a string with its NUL characters, which would end the
// query's text, as chr(0).
func stringText(text string) string {
	parts := strings.Split(text, "\x00")
	for i, part := range parts {
		parts[i] = quoteString(part)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, " || chr(0) || ") + ")"
}
