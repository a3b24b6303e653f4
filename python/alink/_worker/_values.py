"""Python values of a column: out of Arrow for a row function, and back, exactly.

What may come back stands in ``_exact``. Here is the way past it: where all values of a column
are of types that pyarrow itself converts exactly, the column is converted in one go.
"""

from __future__ import annotations

import datetime
import math
import sys
from array import array as machine_array
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from ._exact import Misfit, exact_of, numpy_types
from ._types import is_bytes, is_text, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

_FLOAT32_MAX = 3.4028234663852886e38


# Out of Arrow ------------------------------------------------------------------------------


def to_values(array: pa.Array) -> list[Any]:
    """Give a column's values as Python objects, NULL as None.

    Raises
    ------
    Misfit
        A time has a part below a microsecond, or a date lies after the year 9999, which
        Python's types cannot hold.
    """
    type_ = array.type
    if _is_number(type_) and array.null_count == 0 and "numpy" in sys.modules:
        return numbers(array).tolist()  # to_pylist takes 1.2 times as long
    wanted = _in_microseconds(type_)
    if wanted != type_:
        array = _cast_times(array, wanted)
    try:
        return array.to_pylist()
    except (OverflowError, ValueError):
        raise _beyond_python(array) from None


def _is_number(type_: pa.DataType) -> bool:
    return types.is_integer(type_) or types.is_float32(type_) or types.is_float64(type_)


def has_numpy_type(type_: pa.DataType) -> bool:
    """Tell whether ``numbers`` can show a column of the type."""
    return (
        types.is_integer(type_)
        or types.is_floating(type_)
        or types.is_date32(type_)
        or types.is_timestamp(type_)
        or types.is_duration(type_)
    )


def numbers(array: pa.Array) -> np.ndarray[Any, Any]:
    """Show a column of numbers or times as a numpy array, without a copy but for dates.

    The array is read-only; what lies under a NULL may be anything.
    """
    import numpy as np

    type_ = array.type
    if types.is_timestamp(type_) or types.is_duration(type_):
        dtype = f"{'M' if types.is_timestamp(type_) else 'm'}8[{type_.unit}]"
    else:
        kind = "f" if types.is_floating(type_) else "u" if types.is_unsigned_integer(type_) else "i"
        dtype = f"{kind}{type_.bit_width // 8}"
    data = array.buffers()[1]
    if data is None:
        return np.empty(0, dtype)
    values = np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]
    if types.is_date32(type_):
        return values.astype("M8[D]")
    values.flags.writeable = False
    return values


def _in_microseconds(type_: pa.DataType) -> pa.DataType:
    """Give the type with nanoseconds replaced by microseconds.

    pyarrow makes a pandas Timestamp of a nanosecond one if pandas is imported and a datetime
    otherwise: what a function gets must not depend on that.
    """
    if types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    if types.is_duration(type_) and type_.unit == "ns":
        return pa.duration("us")
    if types.is_time64(type_) and type_.unit == "ns":
        return pa.time64("us")
    if types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_in_microseconds(type_.value_type)))
    if types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_in_microseconds(type_.value_type)))
    if types.is_map(type_):
        return pa.map_(_in_microseconds(type_.key_type), _in_microseconds(type_.item_type))
    if types.is_struct(type_):
        fields = [type_.field(i) for i in range(type_.num_fields)]
        return pa.struct([f.with_type(_in_microseconds(f.type)) for f in fields])
    return type_


def _beyond_python(array: pa.Array) -> Misfit:
    """Find the first value that Python has no object for: a date after the year 9999."""
    for row in range(len(array)):
        try:
            array[row].as_py()
        except (OverflowError, ValueError):
            hint = "Python's dates end with the year 9999: a function with batch= gets any"
            misfit = Misfit(_shown(array.slice(row, 1)), array.type, hint)
            misfit.got = name_of(array.type)
            misfit.row = row
            misfit.argument = "which Python's dates cannot hold"
            return misfit
    raise AssertionError("every value can be converted, but not the column")


def _shown(value: pa.Array) -> str:
    """Write a value that Python has no object for, as far as Arrow can."""
    try:
        return value.cast(pa.string())[0].as_py()
    except pa.ArrowException:  # a nested one
        return "a value"


def _cast_times(array: pa.Array, type_: pa.DataType) -> pa.Array:
    try:
        return array.cast(type_)
    except pa.ArrowInvalid:
        pass
    for row in range(len(array)):
        try:
            array.slice(row, 1).cast(type_)
        except pa.ArrowInvalid:
            misfit = Misfit(str(array[row]), type_, "cast the column to timestamp first")
            misfit.got = name_of(array.type)
            misfit.row = row
            misfit.argument = "which Python's times cannot hold"
            raise misfit from None
    raise AssertionError("every value can be cast, but not the column")


def bits(bitmap: pa.Buffer, array: pa.Array) -> np.ndarray[Any, Any]:
    """Show one of a column's bitmaps as an array of booleans."""
    import numpy as np

    end = array.offset + len(array)
    packed = np.frombuffer(bitmap, np.uint8)[: (end + 7) // 8]
    return np.unpackbits(packed, bitorder="little")[array.offset : end].view(np.bool_)


# Into Arrow --------------------------------------------------------------------------------


def to_array(values: list[Any], type_: pa.DataType) -> pa.Array:
    """Make a column of Python objects.

    Raises
    ------
    Misfit
        A value that the type cannot hold, with its row.
    """
    conversion = _conversion(type_)
    array = conversion.quick(values)
    if array is not None:
        return array
    exact = values if conversion.takes(values) else conversion.exact_all(values)
    try:
        array = pa.array(exact, type_)
    except _REFUSED:
        raise _locate(values, conversion) from None
    if isinstance(array, pa.ChunkedArray):
        if array.num_chunks != 1:
            hint = "return less in one batch (batch_rows=)"
            raise Misfit(f"{array.nbytes} bytes in one batch", type_, hint)
        array = array.chunk(0)
    return array


# What pa.array raises for a value that it does not take.
_REFUSED = (pa.ArrowException, TypeError, ValueError, OverflowError)


def _locate(values: list[Any], conversion: _Conversion) -> Misfit:
    """Find the value that made the conversion of a whole column fail."""
    for row, value in enumerate(values):
        try:
            pa.array([conversion.exact(value)], conversion.type)
        except Misfit as misfit:
            misfit.row = row
            return misfit
        except _REFUSED:
            misfit = Misfit(value, conversion.type)
            misfit.row = row
            return misfit
    return Misfit(values, conversion.type)


class _Conversion:
    """How the values of one type are converted.

    Parameters
    ----------
    kinds
        The Python types of values that ``pa.array`` converts exactly, or refuses, by itself.
        The first is the usual one. Without any every value is looked at.
    guard
        What must hold beyond that of values that are all of these kinds.
    """

    def __init__(
        self,
        type_: pa.DataType,
        kinds: tuple[type, ...] = (),
        guard: Callable[[list[Any]], bool] | None = None,
    ) -> None:
        self.type = type_
        self.exact = exact_of(type_)
        self._usual = kinds[0] if kinds else None
        self._kinds = frozenset((*kinds, type(None)))
        self._guard = guard

    def quick(self, values: list[Any]) -> pa.Array | None:
        """Convert numbers, which are what most functions return, or give up.

        The types of all values need not be looked at: of what pa.array takes for a float only
        a bool is none, and that is 0 or 1; ``array`` takes nothing but integers and bools.
        """
        if not _is_number(self.type) or "numpy" not in sys.modules:
            return None
        try:
            if types.is_floating(self.type):
                array = pa.array(values, self.type)
            else:
                data = pa.py_buffer(machine_array(_MACHINE_CODES[self.type], values))
                array = pa.Array.from_buffers(self.type, len(values), [None, data])
        except _REFUSED:
            return None
        shown = numbers(array)
        suspect = (shown == 0) | (shown == 1)
        if types.is_float32(self.type):
            suspect |= abs(shown) == math.inf
        if array.null_count:
            suspect &= bits(array.buffers()[0], array)
        return None if suspect.any() and not self.takes(values) else array

    def takes(self, values: list[Any]) -> bool:
        """Tell whether ``pa.array`` may be given the values as they are."""
        if self._usual is None:
            return False
        # pa.array takes True for 1 and 2.5 for 2. Looking at the types of all values costs
        # 7 ns a row if all are of the usual one, against 10 for pa.array itself; joining
        # strings, which refuses all else, costs 3.
        if self._usual is str and _all_strings(values):
            return True
        kinds = list(map(type, values))
        usual = kinds.count(self._usual)
        same = usual == len(kinds) or usual + kinds.count(type(None)) == len(kinds)
        if not same and not self._kinds.issuperset(kinds):
            return False
        return self._guard is None or self._guard(values)

    def exact_all(self, values: list[Any]) -> list[Any]:
        converted: list[Any] = []
        try:
            converted.extend(map(self.exact, values))
        except Misfit as misfit:
            misfit.row = len(converted)
            raise
        return converted


_CONVERSIONS_MAX = 256
_conversions: dict[pa.DataType, _Conversion] = {}


def _conversion(type_: pa.DataType) -> _Conversion:
    conversion = _conversions.get(type_)
    if conversion is None:
        if len(_conversions) == _CONVERSIONS_MAX:
            _conversions.clear()
        conversion = _conversions[type_] = _Conversion(type_, *_direct(type_))
    return conversion


_MACHINE_CODES = {
    pa.int8(): "b",
    pa.int16(): "h",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint8(): "B",
    pa.uint16(): "H",
    pa.uint32(): "I",
    pa.uint64(): "Q",
}
_NUMPY_INTS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")


def _direct(type_: pa.DataType) -> tuple[tuple[type, ...], Callable[[list[Any]], bool] | None]:
    """Give the kinds and the guard of a type."""
    if types.is_boolean(type_):
        return (bool, *numpy_types("bool_")), None
    if types.is_integer(type_):
        return (int, *numpy_types(*_NUMPY_INTS)), None
    if types.is_float64(type_):
        return (float, int, *numpy_types("float64", "float32")), None
    if types.is_float32(type_):
        return (float, int, *numpy_types("float64")), _fits_float32
    if is_text(type_):
        return (str, *numpy_types("str_")), None
    if is_bytes(type_):
        return (bytes, bytearray, *numpy_types("bytes_")), None
    if types.is_date32(type_):
        return (datetime.date,), None
    if types.is_decimal(type_):
        return (Decimal, int), None
    if types.is_timestamp(type_) and type_.unit == "us":
        return (datetime.datetime,), _all_naive if type_.tz is None else _all_aware
    return (), None


def _all_strings(values: list[Any]) -> bool:
    try:
        "".join(values)
    except TypeError:
        return False
    return True


def _fits_float32(values: list[Any]) -> bool:
    return not any(map(_FLOAT32_MAX.__lt__, map(abs, filter(None, values))))


def _all_naive(values: list[Any]) -> bool:
    return all(value is None or value.tzinfo is None for value in values)


def _all_aware(values: list[Any]) -> bool:
    return all(value is None or value.utcoffset() is not None for value in values)
