"""What a row function may return for a declared type, one value at a time.

What a row function returns is converted where nothing is lost and is an error otherwise:

===================== ==================================================================
declared              accepted
===================== ==================================================================
boolean               bool
tinyint … ubigint     int in range, float without a fraction
double, float         float (float: rounded, but not to infinity), int that fits exactly
string                str
binary                bytes, bytearray, memoryview
date                  date, datetime at midnight
time                  time without a zone
timestamp             datetime without a zone, date
timestamptz           datetime with a zone
decimal(p,s)          Decimal that needs no rounding, int
interval              MonthDayNano, timedelta
list<T>               list, tuple, range, numpy array
struct<…>             dict (a missing key is NULL, an unknown one an error), named
                      tuple, dataclass
map<K, V>             dict, list of pairs
===================== ==================================================================

None, pandas' ``NA`` and ``NaT`` and numpy's ``NaT`` are NULL; NaN is a value. numpy scalars
count as the Python values that they stand for. A bool never counts as a number.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from ._types import is_bytes, is_list, is_text, name_of, scale_of

if TYPE_CHECKING:
    from collections.abc import Callable

# A float from here on is rounded up to infinity, not down to the largest float32.
_FLOAT_OVERFLOW = {32: 3.4028235677973366e38, 64: math.inf}
_FLOAT_EXACT_INT_MAX = {32: 1 << 24, 64: 1 << 53}
EPOCH = datetime.datetime(1970, 1, 1)
EPOCH_UTC = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Misfit(Exception):
    """A value that a type cannot hold.

    Attributes
    ----------
    value
        The value.
    expected
        The type's name.
    got
        The name of the value's type.
    hint
        How to mend it; may be empty.
    row
        The value's index in its column, once that is known.
    argument
        Of a value that a function was to be given, not one that it returned: what is wrong
        with it.
    """

    def __init__(self, value: Any, expected: pa.DataType, hint: str = "") -> None:
        super().__init__()
        self.value = value
        self.expected = name_of(expected)
        self.got = type_name(value)
        self.hint = hint
        self.row: int | None = None
        self.argument = ""


class ColumnMisfit(Exception):
    """A column of a data frame that cannot become what is declared.

    Attributes
    ----------
    column
        Its name.
    misfit
        Why.
    """

    def __init__(self, column: str, misfit: Misfit) -> None:
        super().__init__(column)
        self.column = column
        self.misfit = misfit


def type_name(value: Any) -> str:
    """Give the name of a value's type as its users write it."""
    kind = type(value)
    module = kind.__module__.split(".")[0]
    prefix = {"numpy": "np.", "pandas": "pd.", "pyarrow": "pa."}.get(module, "")
    return prefix + kind.__qualname__


def by_name(value: Any) -> Mapping[str, Any] | None:
    """Give a value that has members by name (a dict, a named tuple, a dataclass) as a dict."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "_asdict"):
        return value._asdict()
    if is_dataclass(value):
        import dataclasses

        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def is_dataclass(value: Any) -> bool:
    """Tell whether a value is of a dataclass; the module is slow to import."""
    return hasattr(type(value), "__dataclass_fields__")


def exact_of(type_: pa.DataType) -> Callable[[Any], Any]:
    """Give the function that checks a type's values.

    It returns what ``pa.array`` is to be given for a value, or raises Misfit.
    """
    for is_type, make in _MAKERS:
        if is_type(type_):
            return _none_or(make(type_))
    return _none_or(_exact_never(type_))


def _exact_never(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        raise Misfit(value, type_, f"a Python value cannot become {name_of(type_)}")

    return exact


def numpy_types(*names: str) -> tuple[type, ...]:
    """Give scalar types of numpy, if anything has imported it (pyarrow does where it can)."""
    numpy = sys.modules.get("numpy")
    return tuple(getattr(numpy, name) for name in names) if numpy else ()


def _none_or(exact: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Add what holds for every type: NULLs, and numpy's scalars."""
    numpy = sys.modules.get("numpy")
    generic: type | tuple[()] = numpy.generic if numpy else ()

    def convert(value: Any) -> Any:
        if value is None or _is_null(value):
            return None
        if not isinstance(value, generic):
            return exact(value)
        try:
            return exact(_unwrap(value))
        except Misfit as misfit:
            misfit.value, misfit.got = value, type_name(value)
            raise

    return convert


def _is_null(value: Any) -> bool:
    kind = type(value)
    if kind.__name__ in ("NAType", "NaTType"):
        return kind.__module__.startswith("pandas.")
    if kind.__name__ == "MaskedConstant":
        return kind.__module__.startswith("numpy.")
    if kind.__name__ in ("datetime64", "timedelta64") and kind.__module__ == "numpy":
        return value != value  # NaT
    return False


class Ticks:
    """A number of time units since the epoch, or of a duration: numpy's times, exactly."""

    def __init__(self, number: int, unit: str, duration: bool) -> None:
        self.number = number
        self.unit = unit
        self.duration = duration


# Of numpy's units those that are a whole number of seconds.
_SECONDS = {"m": 60, "h": 3_600, "D": 86_400, "W": 7 * 86_400}


def _unwrap(value: Any) -> Any:
    """Give the Python value of a numpy scalar."""
    if value.dtype.kind not in "mM":
        item = value.item()
        return item if type(item) is not type(value) else object()  # a longdouble stays one
    import numpy as np

    unit, count = np.datetime_data(value.dtype)
    duration = value.dtype.kind == "m"
    if unit in ("Y", "M") and not duration:
        value, unit, count = value.astype("datetime64[D]"), "D", 1
    number = int(value.astype("int64")) * count
    if unit in _SECONDS:
        return Ticks(number * _SECONDS[unit], "s", duration)
    return Ticks(number, unit, duration)


def _exact_bool(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        raise Misfit(value, type_, "return bool(...) or declare the type that is returned")

    return exact


def _number_hint(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return f"return {what}(...) or declare boolean"
    if isinstance(value, str):
        return f"return {what}(...) or declare string"
    return ""


def _exact_int(type_: pa.DataType) -> Callable[[Any], Any]:
    bits = type_.bit_width
    signed = types.is_signed_integer(type_)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)

    def exact(value: Any) -> Any:
        number = value
        if isinstance(value, float):
            if not value.is_integer():
                raise Misfit(value, type_, "return round(...) or declare double")
            number = int(value)
        if isinstance(value, bool) or not isinstance(number, int):
            raise Misfit(value, type_, _number_hint(value, "int"))
        if not low <= number < high:
            raise Misfit(value, type_, f"{name_of(type_)} holds {low} to {high - 1}")
        return number

    return exact


def _exact_float(type_: pa.DataType) -> Callable[[Any], Any]:
    bits = type_.bit_width
    exact_int_max = _FLOAT_EXACT_INT_MAX[bits]
    overflow = _FLOAT_OVERFLOW[bits]

    def exact(value: Any) -> Any:
        if isinstance(value, float):
            if overflow <= abs(value) < math.inf:
                raise Misfit(value, type_, "declare double")
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise Misfit(value, type_, _number_hint(value, "float"))
        if abs(value) > exact_int_max:
            hint = f"an int beyond {exact_int_max} may lose digits: return float(...)"
            raise Misfit(value, type_, hint)
        return float(value)

    return exact


def _exact_text(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if not isinstance(value, str):
            hint = "return text.decode()" if isinstance(value, bytes) else "return str(...)"
            raise Misfit(value, type_, f"{hint} or declare the type that is returned")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(value, type_, "the string has half of a surrogate pair") from None
        return value

    return exact


def _exact_bytes(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        hint = "return text.encode() or declare string" if isinstance(value, str) else ""
        raise Misfit(value, type_, hint)

    return exact


def _exact_decimal(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
            try:
                pa.array([value], type_)
            except (pa.ArrowException, ValueError):
                hint = f"{name_of(type_)} has {type_.scale} digits after the point and "
                hint += f"{type_.precision} in all: use Decimal.quantize"
                raise Misfit(value, type_, hint) from None
            return value
        hint = "return Decimal(str(...)) or declare double" if isinstance(value, float) else ""
        raise Misfit(value, type_, hint)

    return exact


def _exact_date(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if isinstance(value, Ticks) and not value.duration:
            days, rest = divmod(value.number, 86_400 * _ticks_a_second(value, type_))
            if rest == 0:
                return days
        elif isinstance(value, datetime.datetime):
            if value.tzinfo is None and value.time() == datetime.time():
                return value.date()
            raise Misfit(value, type_, "return value.date() or declare timestamp")
        elif isinstance(value, datetime.date):
            return value
        raise Misfit(value, type_)

    return exact


def _exact_time(type_: pa.DataType) -> Callable[[Any], Any]:
    scale = scale_of(type_.unit)

    def exact(value: Any) -> Any:
        if not isinstance(value, datetime.time):
            raise Misfit(value, type_)
        if value.tzinfo is not None:
            raise Misfit(value, type_, "time has no zone: return value.replace(tzinfo=None)")
        seconds = value.hour * 3_600 + value.minute * 60 + value.second
        return _in_unit(seconds * 1_000_000 + value.microsecond, 1_000_000, scale, value, type_)

    return exact


def _exact_timestamp(type_: pa.DataType) -> Callable[[Any], Any]:
    scale = scale_of(type_.unit)
    aware = type_.tz is not None

    def exact(value: Any) -> Any:
        if isinstance(value, Ticks) and not value.duration:
            return _in_unit(value.number, _ticks_a_second(value, type_), scale, value, type_)
        if type(value) is datetime.date and not aware:
            value = datetime.datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime.datetime):
            raise Misfit(value, type_)
        if (value.utcoffset() is not None) != aware:
            raise Misfit(value, type_, _ZONE_HINTS[aware])
        micros = _microseconds(value - (EPOCH_UTC if aware else EPOCH))
        nanos = micros * 1_000 + getattr(value, "nanosecond", 0)  # a pandas Timestamp has them
        return _in_unit(nanos, 1_000_000_000, scale, value, type_)

    return exact


_ZONE_HINTS = {
    False: "timestamp has no zone: return value.replace(tzinfo=None) or declare timestamptz",
    True: "timestamptz needs a zone: give value.replace(tzinfo=timezone.utc) or declare timestamp",
}


def _exact_duration(type_: pa.DataType) -> Callable[[Any], Any]:
    scale = scale_of(type_.unit)

    def exact(value: Any) -> Any:
        if isinstance(value, Ticks) and value.duration:
            return _in_unit(value.number, _ticks_a_second(value, type_), scale, value, type_)
        if not isinstance(value, datetime.timedelta):
            raise Misfit(value, type_)
        nanos = _microseconds(value) * 1_000 + getattr(value, "nanoseconds", 0)
        return _in_unit(nanos, 1_000_000_000, scale, value, type_)

    return exact


def _exact_interval(type_: pa.DataType) -> Callable[[Any], Any]:
    def exact(value: Any) -> Any:
        if isinstance(value, pa.MonthDayNano):
            return value
        if isinstance(value, datetime.timedelta):
            nanos = (value.seconds * 1_000_000 + value.microseconds) * 1_000
            return pa.MonthDayNano([0, value.days, nanos])
        raise Misfit(value, type_)

    return exact


def _microseconds(delta: datetime.timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _ticks_a_second(ticks: Ticks, type_: pa.DataType) -> int:
    """Give how many of the ticks make a second; units that Arrow lacks are a misfit."""
    try:
        return scale_of(ticks.unit)
    except KeyError:
        raise Misfit(ticks, type_) from None


def _in_unit(number: int, have: int, want: int, value: Any, type_: pa.DataType) -> int:
    """Change a time from ``have`` to ``want`` units a second without loss."""
    converted, rest = divmod(number * want, have)
    if rest:
        raise Misfit(value, type_, f"it has a part that is smaller than {name_of(type_)} holds")
    if not -(1 << 63) <= converted < 1 << 63:
        raise Misfit(value, type_, f"it is out of the range of {name_of(type_)}")
    return converted


def _exact_list(type_: pa.DataType) -> Callable[[Any], Any]:
    element = exact_of(type_.value_type)
    size = type_.list_size if types.is_fixed_size_list(type_) else None
    arrays = numpy_types("ndarray")

    def exact(value: Any) -> Any:
        sequence = isinstance(value, (list, tuple, range, pa.Array, *arrays))
        if not sequence or getattr(value, "ndim", 1) == 0:
            raise Misfit(value, type_, "return list(...)" if isinstance(value, set) else "")
        if isinstance(value, pa.Array):
            value = value.to_pylist()
        if size is not None and len(value) != size:
            raise Misfit(value, type_, f"a list of {size} values is expected, not of {len(value)}")
        return [element(item) for item in value]

    return exact


def _exact_struct(type_: pa.DataType) -> Callable[[Any], Any]:
    fields = [type_.field(i) for i in range(type_.num_fields)]
    members = {f.name: exact_of(f.type) for f in fields}

    def exact(value: Any) -> Any:
        given = by_name(value)
        if given is None:
            raise Misfit(value, type_, "return a dict")
        unknown = [key for key in given if key not in members]
        if unknown:
            raise Misfit(value, type_, f"there is no field {unknown[0]!r}: {', '.join(members)}")
        return {name: member(given.get(name)) for name, member in members.items()}

    return exact


def _exact_map(type_: pa.DataType) -> Callable[[Any], Any]:
    key_of = exact_of(type_.key_type)
    item_of = exact_of(type_.item_type)

    def exact(value: Any) -> Any:
        pairs = value.items() if isinstance(value, Mapping) else value
        if not isinstance(value, (Mapping, list, tuple)):
            raise Misfit(value, type_, "return a dict")
        converted = []
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise Misfit(value, type_, "return a dict or a list of pairs")
            key = key_of(pair[0])
            if key is None:
                raise Misfit(value, type_, "a key must not be NULL")
            converted.append((key, item_of(pair[1])))
        return converted

    return exact


_MAKERS: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Callable[[Any], Any]]], ...
] = (
    (types.is_boolean, _exact_bool),
    (types.is_integer, _exact_int),
    (lambda type_: types.is_float32(type_) or types.is_float64(type_), _exact_float),
    (is_text, _exact_text),
    (is_bytes, _exact_bytes),
    (types.is_decimal, _exact_decimal),
    (types.is_date, _exact_date),
    (types.is_time, _exact_time),
    (types.is_timestamp, _exact_timestamp),
    (types.is_duration, _exact_duration),
    (types.is_interval, _exact_interval),
    (is_list, _exact_list),
    (types.is_struct, _exact_struct),
    (types.is_map, _exact_map),
)
