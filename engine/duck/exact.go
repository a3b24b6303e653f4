package duck

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// microsecond is the number of nanoseconds below which DuckDB would cut times
// off without a word.
const microsecond = 1000

// checkExact refuses values with nanoseconds of types that DuckDB has in
// microseconds only: zoned timestamps, times, durations and intervals, also
// within lists, structs and maps.
func checkExact(values arrow.Array) error {
	switch values := values.(type) {
	case *array.Timestamp:
		t := values.DataType().(*arrow.TimestampType)
		if t.Unit == arrow.Nanosecond && t.TimeZone != "" {
			return checkMicroseconds(values, func(i int) int64 { return int64(values.Value(i)) })
		}
	case *array.Time64:
		if values.DataType().(*arrow.Time64Type).Unit == arrow.Nanosecond {
			return checkMicroseconds(values, func(i int) int64 { return int64(values.Value(i)) })
		}
	case *array.Duration:
		if values.DataType().(*arrow.DurationType).Unit == arrow.Nanosecond {
			return checkMicroseconds(values, func(i int) int64 { return int64(values.Value(i)) })
		}
	case *array.MonthDayNanoInterval:
		return checkMicroseconds(values, func(i int) int64 { return values.Value(i).Nanoseconds })
	case *array.Struct:
		for i := range values.NumField() {
			if err := checkExact(values.Field(i)); err != nil {
				return err
			}
		}
	case array.ListLike: // maps too
		if values.Len() == 0 {
			return nil
		}
		from, _ := values.ValueOffsets(0)
		_, to := values.ValueOffsets(values.Len() - 1)
		part := array.NewSlice(values.ListValues(), from, max(from, to))
		defer part.Release()
		return checkExact(part)
	}
	return nil
}

func checkMicroseconds(values arrow.Array, nanoseconds func(int) int64) error {
	for i := range values.Len() {
		if values.IsValid(i) && nanoseconds(i)%microsecond != 0 {
			return fmt.Errorf("the value %s, a %s, has nanoseconds, which relational steps keep of timestamps without a zone only: round it to microseconds first, or convert it to timestamp[ns]", values.ValueStr(i), values.DataType())
		}
	}
	return nil
}
