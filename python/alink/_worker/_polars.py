"""Arrow to polars and back.

polars carries NULLs, and its types are Arrow's with few exceptions: seconds become milliseconds
and times nanoseconds, which lose nothing. For an interval it has no type: it is a struct of
months, days and nanoseconds. A map is a list of structs before polars 2.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import types

from . import _arrays
from ._columns import to_array
from ._exact import ColumnMisfit, Misfit
from ._types import is_list, name_of

_INTERVAL = pa.month_day_nano_interval()
_INTERVAL_PARTS = pa.struct(
    [("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())]
)


def to_series(array: pa.Array, name: str = "") -> pl.Series:
    """Give a column as a Series."""
    if array.type == _INTERVAL:
        array = _interval_parts(array)
    try:
        return pl.Series(name, pl.from_arrow(array))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a panic of polars is no Exception
        misfit = Misfit(f"a column of {name_of(array.type)}", array.type)
        misfit.argument = "for which polars has no type"
        raise misfit from None


def to_frame(table: pa.Table) -> pl.DataFrame:
    """Give a table as a data frame."""
    return pl.DataFrame(
        [
            to_series(_arrays.one_chunk(table.column(i)), name)
            for i, name in enumerate(table.column_names)
        ]
    )


def _interval_parts(array: pa.Array) -> pa.Array:
    values = array.to_pylist()
    parts = [
        None if value is None else {"months": value[0], "days": value[1], "nanoseconds": value[2]}
        for value in values
    ]
    return pa.array(parts, _INTERVAL_PARTS)


def is_series(value: Any) -> bool:
    """Tell whether it is one of polars' columns."""
    return isinstance(value, pl.Series)


def from_series(series: pl.Series, type_: pa.DataType) -> pa.Array:
    """Make a column of a Series, of the type that polars gives it or of the one that is wanted."""
    array = _arrays.one_chunk(series.to_arrow())
    if type_ == _INTERVAL and types.is_struct(array.type):
        return _interval(array)
    return _arrays.exact_cast(_with_maps(array, type_), type_)


def from_frame(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Make a table of a data frame, its columns of the types that are declared."""
    arrays = []
    for name in frame.columns:
        at = schema.get_field_index(name)
        if at < 0:
            arrays.append(pa.nulls(len(frame)))
            continue
        try:
            arrays.append(from_series(frame.get_column(name), schema.field(at).type))
        except Misfit as misfit:
            raise ColumnMisfit(name, misfit) from None
    return pa.Table.from_arrays(arrays, frame.columns) if arrays else pa.table({})


def _interval(array: pa.Array) -> pa.Array:
    values = [
        None if v is None else pa.MonthDayNano([v["months"], v["days"], v["nanoseconds"]])
        for v in array.cast(_INTERVAL_PARTS).to_pylist()
    ]
    return pa.array(values, _INTERVAL)


def _with_maps(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Make maps of lists of pairs where a map is wanted."""
    if not (types.is_map(type_) and is_list(array.type)):
        return array
    lists = array.to_pylist()
    return to_array(
        [None if pairs is None else [tuple(pair.values()) for pair in pairs] for pairs in lists],
        type_,
    )
