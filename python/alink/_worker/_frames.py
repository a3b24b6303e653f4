"""Arrow to pandas and back, so that NULL and NaN stay apart and nothing is lost.

==================================== ==============================================
column                               dtype of the Series
==================================== ==============================================
boolean                              ``boolean``
integers                             ``Int8`` … ``UInt64``
float, double                        ``Float32``, ``Float64``
string                               ``string[pyarrow]``
timestamp, timestamptz               ``datetime64[unit]``, with its zone
durations                            ``timedelta64[unit]``
all others                           ``ArrowDtype``
==================================== ==============================================

These are chosen so that pandas' own methods work as its users know them; Arrow's dtypes hold
every type, but know no ``%`` and fail at ``//`` by zero, and are slower at arithmetic
(36 ms against 19 for ``x * 2 + x`` on a million rows). Times have no NaN, so that NaT can stand
for NULL. The dtype never depends on whether there are NULLs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import types

from . import _arrays
from ._columns import to_array
from ._exact import ColumnMisfit, Misfit
from ._types import is_text
from ._views import bits, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_DISTINGUISH = "future.distinguish_nan_and_na"  # since pandas 3


@contextlib.contextmanager
def keeping_nan() -> Generator[None]:
    """Let pandas tell NaN from NULL where its nullable types do arithmetic.

    By default pandas 3 makes 0/0 a NULL; before, it was NaN, as it is in SQL and in numpy.
    """
    try:
        before = pd.get_option(_DISTINGUISH)
    except KeyError:
        yield
        return
    if before:
        yield
        return
    pd.set_option(_DISTINGUISH, True)
    try:
        yield
    finally:
        pd.set_option(_DISTINGUISH, before)


# Arrow to pandas ---------------------------------------------------------------------------


def to_series(array: pa.Array) -> pd.Series:
    """Give a column as a Series."""
    return pd.Series(_extension(array), copy=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Give a table as a data frame."""
    columns = {
        name: to_series(_arrays.one_chunk(table.column(i)))
        for i, name in enumerate(table.column_names)
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=False)


def cutter(table: pa.Table) -> Callable[[int, int], pd.DataFrame]:
    """Give what gives a range of a table's rows as a data frame.

    A frame is made of the whole table, and cut: for few rows, making one takes most of the time.
    """
    whole = to_frame(table)

    def cut(start: int, end: int) -> pd.DataFrame:
        # A copy that shares its values: before pandas 3 a slice warns when it is changed.
        frame = whole.iloc[start:end].copy(deep=False)
        frame.index = pd.RangeIndex(end - start)
        return frame

    return cut


def _extension(array: pa.Array) -> Any:
    type_ = array.type
    if types.is_boolean(type_):
        values = bits(array.buffers()[1], array) if len(array) else np.empty(0, np.bool_)
        return pd.arrays.BooleanArray(values, _nulls(array))
    if types.is_integer(type_):
        return pd.arrays.IntegerArray(_numbers(array), _nulls(array))
    if types.is_float32(type_) or types.is_float64(type_):
        return pd.arrays.FloatingArray(_numbers(array), _nulls(array))
    if is_text(type_):
        return pd.array(array, dtype=pd.StringDtype("pyarrow"))
    if types.is_timestamp(type_):
        return _datetimes(array)
    if types.is_duration(type_):
        return _with_nat(array)
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([array]))


def _numbers(array: pa.Array) -> Any:
    """Show the numbers; what lies under a NULL is the same on every run."""
    values = numbers(array)
    if array.null_count:
        values = values.copy()
        values[_nulls(array)] = 0
    return values


def _nulls(array: pa.Array) -> Any:
    if array.null_count == 0:
        return np.zeros(len(array), np.bool_)
    return ~bits(array.buffers()[0], array)


def _with_nat(array: pa.Array) -> Any:
    values = numbers(array)
    if array.null_count:
        values = values.copy()
        values[_nulls(array)] = "NaT"
    return values


def _datetimes(array: pa.Array) -> Any:
    values = pd.DatetimeIndex(_with_nat(array))
    zone = array.type.tz
    return (values if zone is None else values.tz_localize("UTC").tz_convert(zone)).array


# pandas to Arrow ---------------------------------------------------------------------------


def is_series(value: Any) -> bool:
    """Tell whether it is one of pandas' columns."""
    return isinstance(value, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray))


def is_frame(value: Any) -> bool:
    """Tell whether it is a data frame."""
    return isinstance(value, pd.DataFrame)


def from_frame(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table | pa.RecordBatch:
    """Make a table of a data frame; its index is left out.

    Columns that are not declared are kept out of the conversion: they are an error anyway. Where
    all are as they are declared, it is a batch of the schema.
    """
    columns = [(str(label), series) for label, series in frame.items()]
    names = [name for name, _ in columns]
    declared = names == schema.names
    arrays = []
    for i, (name, series) in enumerate(columns):
        at = i if declared else schema.get_field_index(name)
        if at < 0 or names.count(name) > 1:
            arrays.append(pa.nulls(len(frame)))
            continue
        try:
            arrays.append(from_series(series, schema.field(at).type, copy=True))
        except Misfit as misfit:
            raise ColumnMisfit(name, misfit) from None
    if declared and names:
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    return pa.Table.from_arrays(arrays, names) if names else pa.table({})


def from_series(series: Any, type_: pa.DataType, copy: bool) -> pa.Array:
    """Make a column of a Series; its index does not matter."""
    values = series if isinstance(series, pd.api.extensions.ExtensionArray) else series.array
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _from_zoned(values, type_, str(dtype))
    if isinstance(dtype, np.dtype):
        return _from_numpy(np.asarray(values), type_, copy)
    try:
        array = _arrays.one_chunk(_as_arrow(series, values, copy))
    except (pa.ArrowException, AttributeError, TypeError, ValueError):
        return to_array(list(values), type_)
    if isinstance(array, pa.ExtensionArray):
        return to_array(list(values), type_)
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        return _arrays.exact_cast(array, type_)
    except Misfit as misfit:
        if misfit.row is None:
            misfit.got = f"a Series of {dtype}"
        raise


def _as_arrow(series: Any, values: Any, copy: bool) -> pa.Array | pa.ChunkedArray:
    """Give the values of a column in the Arrow type that is nearest."""
    if isinstance(series, pd.Series):
        dtype = series.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
            # pyarrow takes several times as long to look into pandas' own array of numbers.
            plain = series.to_numpy()
            return pa.array(plain.copy() if copy else plain, from_pandas=False)
    return pa.array(values.copy() if copy else values)


def _from_numpy(data: Any, type_: pa.DataType, copy: bool) -> pa.Array:
    kind = data.dtype.kind
    if kind == "O":
        return to_array(_without_nan(data.tolist(), type_), type_)
    if kind == "M" and types.is_timestamp(type_) and type_.tz is not None and len(data):
        misfit = Misfit(None, type_, "use Series.dt.tz_localize, or declare timestamp")
        misfit.got = f"a Series of {data.dtype}, which has no zone"
        raise misfit
    return _arrays.from_numpy(data, type_, copy)


def _without_nan(values: list[Any], type_: pa.DataType) -> list[Any]:
    """Take NaN, which among Python objects is how pandas writes a missing value, for NULL."""
    if types.is_floating(type_):
        return values
    return [None if type(value) is float and value != value else value for value in values]


def _from_zoned(values: Any, type_: pa.DataType, got: str) -> pa.Array:
    if not (types.is_timestamp(type_) and type_.tz is not None):
        hint = "return Series.dt.tz_localize(None), or declare timestamptz"
        misfit = Misfit(None, type_, hint)
        misfit.got = f"a Series of {got}"
        raise misfit
    naive = values.tz_convert("UTC").tz_localize(None)
    return _arrays.from_numpy(np.asarray(naive), type_, copy=False)
