package duck

/*
void alinkQuotient(void *info, void *input, void *output);
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"unsafe"

	duckdb "github.com/duckdb/duckdb-go-bindings"
)

// quotientFunction divides as Java, Calcite and Flink do, which DuckDB has no
// operator for: the quotient of whole numbers is a whole number of their type,
// cut toward zero, and NULL where the divisor is 0; that of other numbers is
// IEEE 754's.
const quotientFunction = "alink_quotient"

// registerQuotient makes quotientFunction known to the instance.
func (s *session) registerQuotient() error {
	set := duckdb.CreateScalarFunctionSet(quotientFunction)
	defer duckdb.DestroyScalarFunctionSet(&set)
	add := func(dividend, divisor duckdb.Type) {
		first, second := duckdb.CreateLogicalType(dividend), duckdb.CreateLogicalType(divisor)
		defer duckdb.DestroyLogicalType(&first)
		defer duckdb.DestroyLogicalType(&second)
		f := duckdb.CreateScalarFunction()
		defer duckdb.DestroyScalarFunction(&f)
		duckdb.ScalarFunctionSetName(f, quotientFunction)
		duckdb.ScalarFunctionAddParameter(f, first)
		duckdb.ScalarFunctionAddParameter(f, second)
		duckdb.ScalarFunctionSetReturnType(f, first)
		duckdb.ScalarFunctionSetFunction(f, C.alinkQuotient)
		duckdb.AddScalarFunctionToSet(set, f)
	}
	for _, t := range []duckdb.Type{
		duckdb.TypeTinyInt, duckdb.TypeSmallInt, duckdb.TypeInteger, duckdb.TypeBigInt, duckdb.TypeHugeInt,
		duckdb.TypeFloat, duckdb.TypeDouble,
	} {
		add(t, t)
	}
	add(duckdb.TypeInterval, duckdb.TypeDouble)
	if duckdb.RegisterScalarFunctionSet(s.conn, set) == duckdb.StateError {
		return errors.New("the function " + quotientFunction + " was refused")
	}
	return nil
}

//export alinkQuotient
func alinkQuotient(info, input, output unsafe.Pointer) {
	function := duckdb.FunctionInfo{Ptr: info}
	defer recovered(func(message string) { duckdb.ScalarFunctionSetError(function, message) })
	chunk, out := duckdb.DataChunk{Ptr: input}, duckdb.Vector{Ptr: output}
	q := quotients{
		rows: int(duckdb.DataChunkGetSize(chunk)),
		a:    readVector(duckdb.DataChunkGetVector(chunk, 0)),
		b:    readVector(duckdb.DataChunkGetVector(chunk, 1)),
		out:  out,
	}
	t := duckdb.VectorGetColumnType(out)
	defer duckdb.DestroyLogicalType(&t)
	switch id := duckdb.GetTypeId(t); id {
	case duckdb.TypeTinyInt:
		wholeQuotients[int8](&q)
	case duckdb.TypeSmallInt:
		wholeQuotients[int16](&q)
	case duckdb.TypeInteger:
		wholeQuotients[int32](&q)
	case duckdb.TypeBigInt:
		wholeQuotients[int64](&q)
	case duckdb.TypeHugeInt:
		q.hugeInts()
	case duckdb.TypeFloat:
		ieeeQuotients[float32](&q)
	case duckdb.TypeDouble:
		ieeeQuotients[float64](&q)
	case duckdb.TypeInterval:
		q.intervals()
	default:
		panic(fmt.Sprintf("a quotient of type %d", id))
	}
	q.nulls()
}

// quotients is a chunk of divisions. Rows of a or b that are NULL hold
// anything.
type quotients struct {
	rows int
	a, b vector
	out  duckdb.Vector
	// validity has a bit for each row of out; nil as long as none is NULL.
	validity []uint64
}

func (q *quotients) null(row int) {
	q.writeValidity()
	q.validity[row/64] &^= 1 << (row % 64)
}

// nulls makes the rows NULL in which a value is.
func (q *quotients) nulls() {
	for _, v := range []vector{q.a, q.b} {
		if v.validity == nil {
			continue
		}
		q.writeValidity()
		for i, word := range unsafe.Slice((*uint64)(v.validity), len(q.validity)) {
			q.validity[i] &= word
		}
	}
}

func (q *quotients) writeValidity() {
	if q.validity == nil {
		duckdb.VectorEnsureValidityWritable(q.out)
		q.validity = unsafe.Slice((*uint64)(duckdb.VectorGetValidity(q.out)), (q.rows+63)/64)
	}
}

func valuesOf[T any](q *quotients) (a, b, out []T) {
	return dataOf[T](q.a.data, q.rows), dataOf[T](q.b.data, q.rows), dataOf[T](duckdb.VectorGetData(q.out), q.rows)
}

func dataOf[T any](data unsafe.Pointer, rows int) []T { return unsafe.Slice((*T)(data), rows) }

func wholeQuotients[T int8 | int16 | int32 | int64](q *quotients) {
	a, b, out := valuesOf[T](q)
	for i, divisor := range b {
		if divisor == 0 {
			q.null(i)
			continue
		}
		out[i] = a[i] / divisor
	}
}

func ieeeQuotients[T float32 | float64](q *quotients) {
	a, b, out := valuesOf[T](q)
	for i, divisor := range b {
		out[i] = a[i] / divisor
	}
}

// hugeInts divides sums of whole numbers.
func (q *quotients) hugeInts() {
	a, b, out := valuesOf[hugeInt](q)
	for i, divisor := range b {
		if divisor == (hugeInt{}) {
			q.null(i)
			continue
		}
		out[i] = hugeQuotient(a[i], divisor)
	}
}

// hugeQuotient divides numbers that mostly fit into 64 bits.
func hugeQuotient(a, b hugeInt) hugeInt {
	if a.fits(true) && b.fits(true) && int64(b.low) != -1 {
		quotient := int64(a.low) / int64(b.low)
		return hugeInt{uint64(quotient), uint64(quotient >> 63)}
	}
	return hugeIntOf(new(big.Int).Quo(a.signed(), b.signed()))
}

// signed is the number that a hugeint_t holds.
func (h hugeInt) signed() *big.Int {
	n := big.NewInt(int64(h.high))
	return n.Add(n.Lsh(n, 64), new(big.Int).SetUint64(h.low))
}

// hugeIntOf gives the lowest 128 bits of a number.
func hugeIntOf(n *big.Int) hugeInt {
	low := new(big.Int).And(n, new(big.Int).SetUint64(math.MaxUint64))
	return hugeInt{low.Uint64(), uint64(new(big.Int).Rsh(n, 64).Int64())}
}

// Days of a month and microseconds of a day, where parts of these are carried.
const (
	daysOfMonth = 30
	microsOfDay = 24 * 60 * 60 * 1_000_000
)

type interval struct {
	months, days int32
	micros       int64
}

// intervals carries what remains of months to days, and of days to
// microseconds.
func (q *quotients) intervals() {
	a, out := dataOf[interval](q.a.data, q.rows), dataOf[interval](duckdb.VectorGetData(q.out), q.rows)
	for i, divisor := range dataOf[float64](q.b.data, q.rows) {
		if divisor == 0 {
			q.null(i)
			continue
		}
		months := float64(a[i].months) / divisor
		days := float64(a[i].days)/divisor + (months-float64(int32(months)))*daysOfMonth
		micros := float64(a[i].micros)/divisor + (days-float64(int32(days)))*microsOfDay
		out[i] = interval{int32(months), int32(days), int64(micros)}
	}
}
