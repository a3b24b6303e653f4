"""Python values of a column: what a row function gets.

They are what ``Array.to_pylist`` gives, of the same types, but for times in nanoseconds, which
are not left to pyarrow: it makes a pandas Timestamp of one if pandas is imported and a datetime
otherwise. pyarrow calls Python for each time and decimal (and before its version 26 for every
value), which takes a microsecond or more; numpy makes numbers, dates and times of a whole column
in C, and what is nested is put together from columns of what is in it. ``make bench`` shows what
a value of each type costs.
"""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from ._exact import EPOCH, Misfit
from ._types import is_bytes, is_list, is_number, is_text, name_of, scale_of
from ._views import bits, ends, fixed, nulls, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    Unpack = Callable[[pa.Array], "list[Any] | None"]


def to_values(array: pa.Array) -> list[Any]:
    """Give a column's values as Python objects, NULL as None.

    Raises
    ------
    Misfit
        A time has a part below a microsecond, or a date lies after the year 9999, which
        Python's types cannot hold.
    """
    values = _unpacking(array.type)(array) if "numpy" in sys.modules else None
    return _one_by_one(array) if values is None else values


def _one_by_one(array: pa.Array) -> list[Any]:
    """Leave it to pyarrow, which makes most values one by one, and find the one it refuses."""
    wanted = _in_microseconds(array.type)
    if wanted != array.type:
        array = _cast_times(array, wanted)
    try:
        return array.to_pylist()
    except (OverflowError, ValueError):
        raise _beyond_python(array) from None


# Since its version 26 pyarrow makes numbers, strings, bytes and what is nested of them in C++.
IN_C = int(pa.__version__.partition(".")[0]) >= 26

_UNPACKINGS_MAX = 256
_unpackings: dict[pa.DataType, Unpack] = {}


def _unpacking(type_: pa.DataType) -> Unpack:
    """Give what makes the values of a type, or None where it cannot, which is always allowed."""
    unpack = _unpackings.get(type_)
    if unpack is None:
        if len(_unpackings) == _UNPACKINGS_MAX:
            _unpackings.clear()
        unpack = next((make(type_) for is_type, make in _MAKERS if is_type(type_)), _leave)
        _unpackings[type_] = unpack
    return unpack


def _leave(array: pa.Array) -> None:
    del array


# Numbers and times -------------------------------------------------------------------------


def _of_numbers(type_: pa.DataType) -> Unpack:
    def unpack(array: pa.Array) -> list[Any] | None:
        if array.null_count and IN_C:
            return None  # to_pylist takes 1.2 times as long as tolist, but knows NULLs
        return _with_nulls(numbers(array).tolist(), array)

    del type_
    return unpack


def _of_booleans(type_: pa.DataType) -> Unpack:
    def unpack(array: pa.Array) -> list[Any] | None:
        if len(array) == 0 or (array.null_count and IN_C):
            return None
        return _with_nulls(bits(array.buffers()[1], array).tolist(), array)

    del type_
    return unpack


_DAYS = ((datetime.datetime.min - EPOCH).days, (datetime.datetime.max - EPOCH).days)
_DAY_S = 86_400
_TIMEDELTA_DAYS_MAX = 999_999_999  # timedelta.max.days


def _of_dates(type_: pa.DataType) -> Unpack:
    del type_
    return lambda array: _ticks(array, "i4", _DAYS, "M8[D]")


def _of_timestamps(type_: pa.DataType) -> Unpack:
    bounds = _bounds(type_.unit)
    if type_.tz is None:
        return lambda array: _ticks(array, "i8", bounds, f"M8[{array.type.unit}]")
    if type_.tz != "UTC":
        return _leave
    # Which object pyarrow takes for UTC depends on its version and on what is installed.
    add = pa.array([0], pa.timestamp("us", "UTC")).to_pylist()[0].__add__

    def unpack(array: pa.Array) -> list[Any] | None:
        since = _ticks(array, "i8", bounds, f"m8[{array.type.unit}]", 0)
        return None if since is None else _with_nulls(list(map(add, since)), array)

    return unpack


def _of_durations(type_: pa.DataType) -> Unpack:
    limit = min(_TIMEDELTA_DAYS_MAX * _DAY_S * scale_of(type_.unit), (1 << 63) - 1)
    return lambda array: _ticks(array, "i8", (-limit, limit), f"m8[{array.type.unit}]")


def _of_times(type_: pa.DataType) -> Unpack:
    last = _DAY_S * scale_of(type_.unit) - 1
    time_of = datetime.datetime.time

    def unpack(array: pa.Array) -> list[Any] | None:
        width = array.type.bit_width // 8
        moments = _ticks(array, f"i{width}", (0, last), f"M8[{array.type.unit}]", 0)
        return None if moments is None else _with_nulls(list(map(time_of, moments)), array)

    return unpack


def _bounds(unit: str) -> tuple[int, int]:
    """Give the first and the last moment that a datetime holds, in a unit since the epoch."""
    first, end = _DAYS[0] * _DAY_S * scale_of(unit), (_DAYS[1] + 1) * _DAY_S * scale_of(unit)
    return max(first, -(1 << 63)), min(end, 1 << 63) - 1


def _ticks(
    array: pa.Array, dtype: str, bounds: tuple[int, int], shown: str, null: int | None = None
) -> list[Any] | None:
    """Make the values of a column of ticks, or give up if one is not Python's.

    Parameters
    ----------
    bounds
        The least and the greatest number that numpy makes an object of, and not an int.
    shown
        The type of numpy's that makes the objects.
    null
        What stands for NULL among the ticks; None makes a NULL of it.
    """
    import numpy as np

    ticks = fixed(array, dtype)
    if array.null_count:
        ticks = ticks.copy()
        ticks[nulls(array)] = 0
    if len(ticks) and not (bounds[0] <= ticks.min() and ticks.max() <= bounds[1]):
        return None
    if "[ns]" in shown:
        micros = ticks // 1_000
        if not np.array_equal(micros * 1_000, ticks):
            return None
        ticks, shown = micros, shown.replace("[ns]", "[us]")
    values = ticks.astype("i8", copy=False).view(shown).tolist()
    return _with_nulls(values, array) if null is None else values


def _with_nulls(values: list[Any], array: pa.Array) -> list[Any]:
    import numpy as np

    if array.null_count:
        for row in np.flatnonzero(nulls(array)).tolist():
            values[row] = None
    return values


def _of_decimals(type_: pa.DataType) -> Unpack:
    del type_

    def unpack(array: pa.Array) -> list[Any] | None:
        try:
            texts = array.cast(pa.string()).to_pylist()
        except pa.ArrowNotImplementedError:
            return None
        if array.null_count:
            return [None if text is None else Decimal(text) for text in texts]
        return list(map(Decimal, texts))

    return unpack


# What is nested ----------------------------------------------------------------------------


def _left(type_: pa.DataType) -> bool:
    """Tell whether values are left to pyarrow, which is the fastest where it needs no Python."""
    below = [type_.field(i).type for i in range(type_.num_fields)]
    return IN_C and (all(map(_left, below)) if below else _direct(type_))


def _direct(type_: pa.DataType) -> bool:
    return is_number(type_) or types.is_boolean(type_) or is_text(type_) or is_bytes(type_)


def _of_lists(type_: pa.DataType) -> Unpack:
    if _left(type_):
        return _leave
    return lambda array: _listed(array, lambda first, size: _below(array.values, first, size))


def _of_maps(type_: pa.DataType) -> Unpack:
    if _left(type_):
        return _leave

    def unpack(array: pa.Array) -> list[Any] | None:
        def pairs(first: int, size: int) -> list[Any] | None:
            keys, items = _below(array.keys, first, size), _below(array.items, first, size)
            return None if keys is None or items is None else list(zip(keys, items, strict=True))

        return _listed(array, pairs)

    return unpack


def _listed(array: pa.Array, elements_of: Callable[[int, int], list[Any] | None]) -> Any:
    """Cut the elements of all lists into lists."""
    places = ends(array)
    first = int(places[0])
    elements = elements_of(first, int(places[-1]) - first)
    if elements is None:
        return None
    at = (places - first).tolist()
    return _with_nulls([elements[i:j] for i, j in pairwise(at)], array)


def _below(array: pa.Array, first: int, size: int) -> list[Any] | None:
    """Give the values of a part of the array below a nested one."""
    try:
        return to_values(array.slice(first, size))
    except Misfit:
        return None  # it may lie under a NULL; otherwise it is found where values are made singly


def _of_structs(type_: pa.DataType) -> Unpack:
    names = [type_.field(i).name for i in range(type_.num_fields)]
    if _left(type_) or not names or len(set(names)) < len(names):
        return _leave
    # A dict display takes a third of the time of dict(zip(names, values)).
    arguments = [f"v{i}" for i in range(len(names))]
    pairs = (f"{name!r}: {argument}" for name, argument in zip(names, arguments, strict=True))
    make: Callable[..., dict[str, Any]] = eval(
        f"lambda {', '.join(arguments)}: {{{', '.join(pairs)}}}", {"__builtins__": {}}
    )

    def unpack(array: pa.Array) -> list[Any] | None:
        columns = [_below(array.field(i), 0, len(array)) for i in range(len(names))]
        if any(column is None for column in columns):
            return None
        return _with_nulls(list(map(make, *columns)), array)  # type: ignore[arg-type]

    return unpack


_MAKERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Unpack]], ...] = (
    (is_number, _of_numbers),
    (types.is_boolean, _of_booleans),
    (types.is_date32, _of_dates),
    (types.is_timestamp, _of_timestamps),
    (types.is_duration, _of_durations),
    (types.is_time, _of_times),
    (types.is_decimal, _of_decimals),
    (is_list, _of_lists),
    (types.is_map, _of_maps),
    (types.is_struct, _of_structs),
)


# What Python cannot hold -------------------------------------------------------------------


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
    if types.is_fixed_size_list(type_):
        element = type_.value_field.with_type(_in_microseconds(type_.value_type))
        return pa.list_(element, type_.list_size)
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
    try:
        # Taken anew, a nested column has nothing under its NULLs or outside of a slice.
        return array.take(pa.array(range(len(array)), pa.int64())).cast(type_)
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
