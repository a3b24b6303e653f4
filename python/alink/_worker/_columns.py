"""Columns of Python values: what a row function returned, exactly.

What may come back stands in ``_exact``. Here is the way past it: where all values of a column
are of types that Arrow's own conversions take exactly, the column is converted in one go.
"""

from __future__ import annotations

import datetime
import math
import sys
from array import array as machine_array
from decimal import Decimal
from itertools import chain, repeat
from operator import attrgetter, is_not, itemgetter, sub
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from ._exact import EPOCH, EPOCH_UTC, Misfit, exact_of, numpy_types
from ._types import is_bytes, is_list, is_number, is_text
from ._views import bits, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Pack = Callable[[list[Any]], "pa.Array | None"]

_FLOAT32_MAX = 3.4028234663852886e38


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
            raise _too_long(array.nbytes, type_)
        array = array.chunk(0)
    return array


def joined(columns: list[pa.Array], type_: pa.DataType) -> pa.Array:
    """Put parts of a column together.

    Raises
    ------
    Misfit
        It has more bytes than a column can have.
    """
    try:
        return pa.concat_arrays(columns)
    except pa.ArrowInvalid:
        raise _too_long(sum(column.nbytes for column in columns), type_) from None


def _too_long(size: int, type_: pa.DataType) -> Misfit:
    return Misfit(f"{size} bytes in one batch", type_, "return less in one batch (batch_rows=)")


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
        self._quick = self._numbers if is_number(type_) else quick_of(type_)

    def quick(self, values: list[Any]) -> pa.Array | None:
        """Convert values of the usual kinds, or give up, which is always allowed."""
        if self._quick is None or not values or "numpy" not in sys.modules:
            return None
        try:
            return self._quick(values)
        except (*_REFUSED, KeyError, Misfit):
            return None  # which value it was is found where each is looked at

    def _numbers(self, values: list[Any]) -> pa.Array | None:
        """Convert numbers.

        The types of all values need not be looked at: of what pa.array takes for a float only
        a bool is none, and that is 0 or 1; ``array`` takes nothing but integers and bools.
        """
        if types.is_floating(self.type):
            array = pa.array(values, self.type)
        else:
            data = pa.py_buffer(machine_array(_MACHINE_CODES[self.type], values))
            array = pa.Array.from_buffers(self.type, len(values), [None, data])
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
    return (), None


def _all_strings(values: list[Any]) -> bool:
    try:
        "".join(values)
    except TypeError:
        return False
    return True


def _fits_float32(values: list[Any]) -> bool:
    return not any(map(_FLOAT32_MAX.__lt__, map(abs, filter(None, values))))


# Times and what is nested, in one go ---------------------------------------------------------

_NoneType = type(None)


def quick_of(type_: pa.DataType) -> Pack | None:
    """Give what makes a column of values of the usual kinds, if pa.array alone would not do.

    It gives None, or raises what ``to_array`` catches, for values that are to be looked at.
    """
    return next((make(type_) for is_type, make in _MAKERS if is_type(type_)), None)


def _pack_timestamps(type_: pa.DataType) -> Pack:
    epoch = EPOCH if type_.tz is None else EPOCH_UTC
    micros = pa.timestamp("us", type_.tz)

    def pack(values: list[Any]) -> pa.Array | None:
        kinds = set(map(type, values))
        if not kinds <= {datetime.datetime, _NoneType}:
            return None
        # With a zone where none is wanted, or without one, this is a TypeError.
        if _NoneType in kinds:
            since = [None if value is None else value - epoch for value in values]
        else:
            since = list(map(sub, values, repeat(epoch)))
        ticks = pa.array(since, pa.duration("us"))
        array = pa.Array.from_buffers(micros, len(ticks), ticks.buffers(), ticks.null_count)
        return array.cast(type_)

    return pack


def _pack_durations(type_: pa.DataType) -> Pack:
    def pack(values: list[Any]) -> pa.Array | None:
        if not set(map(type, values)) <= {datetime.timedelta, _NoneType}:
            return None
        return pa.array(values, pa.duration("us")).cast(type_)

    return pack


def _pack_times(type_: pa.DataType) -> Pack:
    zone_of = attrgetter("tzinfo")

    def pack(values: list[Any]) -> pa.Array | None:
        if not set(map(type, values)) <= {datetime.time, _NoneType}:
            return None
        if set(map(type, map(zone_of, filter(None, values)))) - {_NoneType}:
            return None
        return pa.array(values, pa.time64("us")).cast(type_)

    return pack


def _pack_lists(type_: pa.DataType) -> Pack:
    size = type_.list_size if types.is_fixed_size_list(type_) else None
    hole = (None,) * (size or 0)

    def pack(values: list[Any]) -> pa.Array | None:
        kinds = set(map(type, values))
        if kinds <= {list, tuple, _NoneType}:
            rows = _filled(values, kinds, hole)
            elements = list(chain.from_iterable(rows))
        elif kinds == set(numpy_types("ndarray")):
            rows, elements = values, _joined(values)
        else:
            return None
        if elements is None or (size is not None and set(map(len, rows)) != {size}):
            return None
        below = to_array(elements, type_.value_type)
        ends = None if size is not None else _ends(rows)
        return _nested(type_, len(rows), _valid(values, kinds), ends, below)

    return pack


def _joined(arrays: list[Any]) -> list[Any] | None:
    """Give the elements of numpy arrays of numbers, all of one type."""
    import numpy as np

    first = arrays[0].dtype
    if first.kind not in "biuf" or any(a.dtype != first or a.ndim != 1 for a in arrays):
        return None
    return np.concatenate(arrays).tolist()


def _pack_structs(type_: pa.DataType) -> Pack:
    fields = [type_.field(i) for i in range(type_.num_fields)]
    names = {field.name for field in fields}
    nothing = dict.fromkeys(names)

    def pack(values: list[Any]) -> pa.Array | None:
        kinds = set(map(type, values))
        if not kinds <= {dict, _NoneType} or len(names) < len(fields):
            return None
        rows = _filled(values, kinds, nothing)
        if set(map(len, rows)) != {len(names)}:
            return None  # a key is missing, or one is unknown, which a KeyError tells otherwise
        members = [to_array(list(map(itemgetter(f.name), rows)), f.type) for f in fields]
        return _nested(type_, len(rows), _valid(values, kinds), None, *members)

    return pack


def _pack_maps(type_: pa.DataType) -> Pack:
    entry = pa.struct([type_.key_field, type_.item_field])

    def pack(values: list[Any]) -> pa.Array | None:
        kinds = set(map(type, values))
        rows = _filled(values, kinds, ())
        if kinds <= {dict, _NoneType}:
            keys = list(chain.from_iterable(rows))
            items = [item for row in rows for item in (row.values() if row else ())]
        elif kinds <= {list, _NoneType}:
            pairs = list(chain.from_iterable(rows))
            if not set(map(type, pairs)) <= {tuple} or not set(map(len, pairs)) <= {2}:
                return None
            keys, items = (list(map(itemgetter(i), pairs)) for i in (0, 1))
        else:
            return None
        columns = [to_array(keys, type_.key_type), to_array(items, type_.item_type)]
        if columns[0].null_count:
            return None
        entries = pa.Array.from_buffers(entry, len(keys), [None], children=columns)
        return _nested(type_, len(rows), _valid(values, kinds), _ends(rows), entries)

    return pack


def _ends(rows: list[Any]) -> np.ndarray[Any, Any]:
    """Give where the first of a number of lists begins, and where each ends."""
    import numpy as np

    ends = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=ends[1:])
    return ends


def _filled(values: list[Any], kinds: set[type], hole: Any) -> list[Any]:
    """Give values with something in the place of each None."""
    if _NoneType not in kinds:
        return values
    return [hole if value is None else value for value in values]


def _valid(values: list[Any], kinds: set[type]) -> pa.Buffer | None:
    """Give the bitmap of the values that are not None, if one is."""
    import numpy as np

    if _NoneType not in kinds:
        return None
    valid = np.fromiter(map(is_not, values, repeat(None)), np.bool_, len(values))
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def _nested(
    type_: pa.DataType,
    size: int,
    valid: pa.Buffer | None,
    ends: np.ndarray[Any, Any] | None,
    *below: pa.Array,
) -> pa.Array | None:
    """Put together a column of what is nested."""
    import numpy as np

    buffers = [valid]
    if ends is not None:
        kind = np.int64 if types.is_large_list(type_) else np.int32
        if ends[-1] > np.iinfo(kind).max:
            return None
        buffers.append(pa.py_buffer(ends.astype(kind)))
    return pa.Array.from_buffers(type_, size, buffers, children=list(below))


_MAKERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Pack]], ...] = (
    (types.is_timestamp, _pack_timestamps),
    (types.is_duration, _pack_durations),
    (types.is_time, _pack_times),
    (is_list, _pack_lists),
    (types.is_struct, _pack_structs),
    (types.is_map, _pack_maps),
)
