"""Whole columns: Arrow to numpy and back, and casts that lose nothing.

A function that takes arrays gets them without a copy where the column has no NULLs and its
type is numpy's too; such an array is read-only. What it returns is converted by the rules of
``_values``, a column at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from ._columns import to_array
from ._exact import Misfit, type_name
from ._types import is_bytes, is_list, is_text, name_of
from ._values import to_values
from ._views import bits, ends, has_numpy_type, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


# Arrow to Arrow ----------------------------------------------------------------------------


def exact_cast(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Cast a column, if no value changes its meaning.

    Raises
    ------
    Misfit
        Without a row if the types have nothing to do with one another, otherwise with the
        first row that the type cannot hold.
    """
    if array.type == type_:
        return array
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not _akin(array.type, type_):
        raise _column_misfit(name_of(array.type), type_)
    try:
        cast = _cast(array, type_)
    except pa.ArrowNotImplementedError:
        raise _column_misfit(name_of(array.type), type_) from None
    if cast is None:
        raise _locate(array, type_)
    return cast


def _column_misfit(got: str, type_: pa.DataType) -> Misfit:
    misfit = Misfit(None, type_, f"return {name_of(type_)}, or declare the type that is returned")
    misfit.got = got
    return misfit


def _akin(have: pa.DataType, want: pa.DataType) -> bool:
    """Tell whether values of one type may become values of the other at all."""
    if types.is_null(have) or have == want:
        return True
    if is_list(have):
        return is_list(want) and _akin(have.value_type, want.value_type)
    if types.is_map(have):
        return (
            types.is_map(want)
            and _akin(have.key_type, want.key_type)
            and _akin(have.item_type, want.item_type)
        )
    if types.is_struct(have):
        return types.is_struct(want) and _akin_members(have, want)
    if types.is_timestamp(have) and types.is_timestamp(want):
        return (have.tz is None) == (want.tz is None)
    return any(is_have(have) and is_want(want) for is_have, is_want in _KIN)


_KIN: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], bool]], ...] = (
    (types.is_integer, types.is_integer),
    (types.is_integer, types.is_floating),
    (types.is_integer, types.is_decimal),
    (types.is_floating, types.is_integer),
    (types.is_floating, types.is_floating),
    (types.is_decimal, types.is_decimal),
    (types.is_decimal, types.is_integer),
    (is_text, is_text),
    (is_bytes, is_bytes),
    (types.is_date, types.is_date),
    (types.is_date, lambda want: types.is_timestamp(want) and want.tz is None),
    (lambda have: types.is_timestamp(have) and have.tz is None, types.is_date),
    (types.is_time, types.is_time),
    (types.is_duration, types.is_duration),
    (types.is_interval, types.is_interval),
)


def _akin_members(have: pa.DataType, want: pa.DataType) -> bool:
    """Tell whether two structs have the same members; older pyarrow knows no other casts."""
    if have.num_fields != want.num_fields:
        return False
    pairs = [(have.field(i), want.field(i)) for i in range(have.num_fields)]
    return all(f.name == w.name and _akin(f.type, w.type) for f, w in pairs)


def _cast(array: pa.Array, type_: pa.DataType) -> pa.Array | None:
    """Cast a column; None if a value does not fit."""
    if types.is_integer(array.type) and types.is_decimal(type_):
        # Arrow demands room for every value of the integer type; what counts is these values.
        return _cast_by_value(array, type_)
    try:
        cast = array.cast(type_)
    except pa.ArrowNotImplementedError:
        raise
    except pa.ArrowInvalid:
        if not types.is_nested(array.type):
            return None
        # Arrow casts all elements of the array that a slice is of: try with those in it.
        try:
            cast = array.take(pa.array(range(len(array)), pa.int64())).cast(type_)
        except pa.ArrowInvalid:
            return None
    if _silently_lossy(array.type, type_) and not _same(array, cast):
        return None
    return cast


def _cast_by_value(array: pa.Array, type_: pa.DataType) -> pa.Array | None:
    try:
        return to_array(array.to_pylist(), type_)
    except Misfit:
        return None


def _silently_lossy(have: pa.DataType, want: pa.DataType) -> bool:
    """Tell whether Arrow's checked cast lets values through that it changes."""
    if types.is_date(want) and not types.is_date32(have):
        return True  # the time of day
    return types.is_floating(have) and types.is_floating(want) and want.bit_width < have.bit_width


def _same(array: pa.Array, cast: pa.Array) -> bool:
    if types.is_date(cast.type):
        return bool(cast.cast(array.type).equals(array))
    # A narrower float: rounding is the nature of the type, a new infinity is not.
    return _infinities(array) == _infinities(cast)


def _infinities(array: pa.Array) -> int:
    import pyarrow.compute as pc

    return pc.sum(pc.is_inf(array)).as_py() or 0


def _locate(array: pa.Array, type_: pa.DataType) -> Misfit:
    """Find the first value that cannot be cast, by halves."""
    start, end = 0, len(array)
    while end - start > 1:
        middle = (start + end) // 2
        if _cast(array.slice(start, middle - start), type_) is None:
            end = middle
        else:
            start = middle
    try:
        value = array[start].as_py()
    except ValueError:
        value = str(array[start])
    misfit = Misfit(value, type_, _loss_hint(array.type, type_))
    misfit.got = name_of(array.type)
    misfit.row = start
    return misfit


def _loss_hint(have: pa.DataType, want: pa.DataType) -> str:
    if types.is_floating(have) and types.is_integer(want):
        return "round it and cast it to an integer type, or declare double"
    return ""


# Arrow to numpy ----------------------------------------------------------------------------


def to_numpy(array: pa.Array) -> np.ndarray[Any, Any]:
    """Give a column as a numpy array: a masked one if it has NULLs.

    Strings, bytes, decimals, times, structs and maps become arrays of Python objects, lists
    arrays of numpy arrays. A timestamptz becomes datetime64 in UTC. ``Array.to_numpy`` is not
    used, since it imports pandas (see ``_pandas``).
    """
    import numpy as np

    if types.is_boolean(array.type):
        values = bits(array.buffers()[1], array)
    elif has_numpy_type(array.type):
        values = numbers(array)
    elif is_list(array.type):
        values = _lists(array)
    else:
        values = np.fromiter(to_values(array), dtype=object, count=len(array))
    if array.null_count == 0:
        return values
    from ._masked import NullableArray

    if types.is_null(array.type):
        return NullableArray(values, mask=True)
    mask = ~bits(array.buffers()[0], array)
    if values.dtype.kind != "O":
        # What lies under a NULL may be anything; let it be the same on every run.
        values = values.copy()
        values[mask] = "NaT" if values.dtype.kind in "mM" else 0
    return NullableArray(values, mask=mask)


def _lists(array: pa.Array) -> np.ndarray[Any, Any]:
    import numpy as np

    size = len(array)
    at = ends(array)
    first, last = int(at[0]), int(at[-1])
    elements = to_numpy(array.values.slice(first, last - first))
    places = (at - first).tolist()
    lists = np.empty(size, dtype=object)
    for row in range(size):
        lists[row] = elements[places[row] : places[row + 1]]
    return lists


# numpy to Arrow ----------------------------------------------------------------------------


def from_numpy(result: Any, type_: pa.DataType, copy: bool) -> pa.Array:
    """Make a column of what a function returned: an array, a list, or what numpy makes one of.

    Parameters
    ----------
    copy
        The array may be changed before the column has been used.

    Raises
    ------
    Misfit
        As ``exact_cast``; also for something that is no array of one dimension.
    """
    import numpy as np

    if isinstance(result, (pa.Array, pa.ChunkedArray)):
        return exact_cast(one_chunk(result), type_)
    if isinstance(result, (list, tuple)):
        return to_array(list(result), type_)
    if not isinstance(result, np.ndarray):
        if isinstance(result, np.generic) or not hasattr(result, "__array__"):
            raise _no_array(type_name(result), type_)
        result = np.asarray(result)
    if result.ndim == 2 and is_list(type_):
        return _from_rows(result, type_, copy)
    if result.ndim != 1:
        raise _no_array(f"an array of {result.ndim} dimensions", type_)
    mask = np.ma.getmaskarray(result) if isinstance(result, np.ma.MaskedArray) else None
    data = np.ma.getdata(result)
    return _from_data(data.copy() if copy else data, mask, type_)


def _no_array(got: str, type_: pa.DataType) -> Misfit:
    misfit = Misfit(
        None, type_, "return one numpy array of one dimension, with a value for each row"
    )
    misfit.got = got
    misfit.expected = f"array of {misfit.expected}"
    return misfit


def _from_data(data: np.ndarray[Any, Any], mask: Any, type_: pa.DataType) -> pa.Array:
    kind = data.dtype.kind
    if kind == "O":
        values = data.tolist()
        if mask is not None:
            pairs = zip(values, mask.tolist(), strict=True)
            values = [None if hidden else value for value, hidden in pairs]
        return to_array(values, type_)
    if kind == "M":
        return _from_datetimes(data, mask, type_)
    if kind == "m":
        data = _known_unit(data, "timedelta64")
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    try:
        # from_pandas=False: NaN is a value, not NULL.
        array = pa.array(data, mask=mask, from_pandas=False)
    except (pa.ArrowException, TypeError, ValueError):
        raise _column_misfit(f"array of {data.dtype}", type_) from None
    try:
        return exact_cast(one_chunk(array), type_)
    except Misfit as misfit:
        misfit.got = f"array of {data.dtype}"
        raise


def _from_datetimes(data: np.ndarray[Any, Any], mask: Any, type_: pa.DataType) -> pa.Array:
    data = _known_unit(data, "datetime64")
    array = pa.array(data, mask=mask, from_pandas=False)
    if types.is_timestamp(type_) and type_.tz is not None:
        # numpy knows no zones: as everywhere, what it holds for an instant is UTC.
        unit = array.type.unit if types.is_timestamp(array.type) else "s"
        array = exact_cast(array, pa.timestamp(unit)).cast(pa.timestamp(unit, "UTC"))
    return exact_cast(array, type_)


def _known_unit(data: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Change a time unit that Arrow lacks to the next finer one that it has."""
    import numpy as np

    unit, _ = np.datetime_data(data.dtype)
    if unit in ("Y", "M", "W"):
        unit = "D"
    if unit in ("h", "m") or (unit == "D" and kind == "timedelta64"):
        unit = "s"
    return data.astype(f"{kind}[{unit}]")


def _from_rows(data: np.ndarray[Any, Any], type_: pa.DataType, copy: bool) -> pa.Array:
    """Make lists of the rows of a matrix: embeddings, for example."""
    flat = _from_data(data.flatten() if copy else data.reshape(-1), None, type_.value_type)
    size = data.shape[1]
    if types.is_fixed_size_list(type_) and type_.list_size != size:
        raise _no_array(f"lists of {size} values", type_)
    return pa.FixedSizeListArray.from_arrays(flat, size).cast(type_)


def one_chunk(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Give a column as one array; copies if it has several chunks."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    if array.num_chunks == 1:
        return array.chunk(0)
    combined = array.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):  # pyarrow before 7 and columns beyond 2 GiB
        return pa.concat_arrays(combined.chunks)
    return combined
