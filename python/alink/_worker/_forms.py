"""The forms in which a function gets columns and tables, and gives them back.

======== ============================================ =========================
form     columns                                      tables
======== ============================================ =========================
arrow    ``pyarrow.Array``                            RecordBatch or Table
numpy    ``numpy.ndarray``, masked where there is NULL (none)
pandas   ``pandas.Series`` of nullable types          ``pandas.DataFrame``
polars   ``polars.Series``                            ``polars.DataFrame``
======== ============================================ =========================

The form of a column depends on its type alone, but for numpy's masks: never on whether a batch
has NULLs. Each library is imported when a function first needs it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _arrays
from ._exact import Misfit, type_name
from ._types import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Arrow:
    """Arrow's own arrays."""

    name = "arrow"

    def columns(self, arrays: Sequence[pa.Array]) -> list[Any]:
        """Give columns as the function gets them."""
        return list(arrays)

    def cutter(self, arrays: Sequence[pa.Array]) -> Callable[[int, int], list[Any]]:
        """Give what gives a range of rows of columns as the function gets it."""
        return lambda start, end: self.columns([a.slice(start, end - start) for a in arrays])

    def column(self, result: Any, type_: pa.DataType, copy: bool) -> pa.Array:
        """Make a column of what a function returned.

        Parameters
        ----------
        copy
            It may be changed before the column has been used.

        Raises
        ------
        Misfit
            Without a row if it is no column of the type, otherwise with the first row that
            the type cannot hold.
        """
        del copy  # Arrow arrays do not change
        array = _foreign_array(result)
        if array is None:
            raise no_column(result, type_, "a pyarrow.Array")
        return _arrays.exact_cast(array, type_)

    def table(self, table: pa.Table) -> Any:
        """Give a table as the function gets it."""
        return table

    def table_cutter(self, table: pa.Table) -> Callable[[int, int], Any]:
        """Give what gives a range of rows of a table as the function gets it."""
        return lambda start, end: self.table(table.slice(start, end - start))

    def batch(self, batch: pa.RecordBatch) -> Any:
        """Give a batch as the function gets it."""
        return batch

    def again(self, table: Any) -> Any:
        """Give what `table` has given for one more call, whose columns are its own."""
        return table

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """Give what must hold while the function runs."""
        return contextlib.nullcontext()


class Numpy(Arrow):
    """numpy arrays."""

    name = "numpy"

    def columns(self, arrays: Sequence[pa.Array]) -> list[Any]:
        return [_arrays.to_numpy(array) for array in arrays]

    def cutter(self, arrays: Sequence[pa.Array]) -> Callable[[int, int], list[Any]]:
        if any(array.null_count for array in arrays):
            return super().cutter(arrays)  # a range without NULLs is not masked
        try:
            whole = self.columns(arrays)
        except Misfit:
            return super().cutter(arrays)
        return lambda start, end: [column[start:end] for column in whole]

    def column(self, result: Any, type_: pa.DataType, copy: bool) -> pa.Array:
        return _arrays.from_numpy(result, type_, copy)


class Pandas(Arrow):
    """pandas' Series and data frames."""

    name = "pandas"

    def columns(self, arrays: Sequence[pa.Array]) -> list[Any]:
        from . import _frames

        return [_frames.to_series(array) for array in arrays]

    def column(self, result: Any, type_: pa.DataType, copy: bool) -> pa.Array:
        from . import _frames

        if _frames.is_series(result):
            return _frames.from_series(result, type_, copy)
        if _frames.is_frame(result):
            raise no_column(result, type_, "a pandas.Series")
        return _arrays.from_numpy(result, type_, copy)

    def table(self, table: pa.Table) -> Any:
        from . import _frames

        return _frames.to_frame(table)

    def table_cutter(self, table: pa.Table) -> Callable[[int, int], Any]:
        try:
            from . import _frames

            return _frames.cutter(table)
        except (ImportError, Misfit, ValueError):
            return super().table_cutter(table)  # which fails where a range cannot be given

    def batch(self, batch: pa.RecordBatch) -> Any:
        return self.table(pa.Table.from_batches([batch]))

    def again(self, table: Any) -> Any:
        return table.copy(deep=False)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        from . import _frames

        return _frames.keeping_nan()


class Polars(Arrow):
    """polars' Series and data frames."""

    name = "polars"

    def columns(self, arrays: Sequence[pa.Array]) -> list[Any]:
        from . import _polars

        return [_polars.to_series(array) for array in arrays]

    def column(self, result: Any, type_: pa.DataType, copy: bool) -> pa.Array:
        from . import _polars

        if not _polars.is_series(result):
            raise no_column(result, type_, "a polars.Series")
        return _arrays.exact_cast(_polars.from_series(result, type_), type_)

    def table(self, table: pa.Table) -> Any:
        from . import _polars

        return _polars.to_frame(table)

    def batch(self, batch: pa.RecordBatch) -> Any:
        return self.table(pa.Table.from_batches([batch]))

    def again(self, table: Any) -> Any:
        return table.clone()


FORMS = {form.name: form for form in (Arrow(), Numpy(), Pandas(), Polars())}


def no_column(result: Any, type_: pa.DataType, wanted: str) -> Misfit:
    """Make the misfit of something that is no column at all."""
    misfit = Misfit(None, type_, f"return {wanted}, with a value for each row")
    misfit.got = type_name(result)
    misfit.expected = f"{wanted} of {name_of(type_)}"
    return misfit


def _foreign_array(result: Any) -> pa.Array | None:
    """Give a column of Arrow's, or of another library that speaks its C interface."""
    if not isinstance(result, (pa.Array, pa.ChunkedArray)):
        if hasattr(result, "__arrow_c_array__"):
            result = pa.array(result)  # nothing is inferred
        elif hasattr(result, "__arrow_c_stream__") and not hasattr(result, "columns"):
            result = pa.chunked_array(result)
        else:
            return None
    return _arrays.one_chunk(result)


def as_table(value: Any, schema: pa.Schema) -> pa.Table | pa.RecordBatch | None:
    """Give what a function returned as a table or batch, if it is one.

    Parameters
    ----------
    schema
        What is declared; columns of a data frame are converted to its types.

    Raises
    ------
    ColumnMisfit
        A column of a data frame cannot be converted.
    """
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        return value
    library = type(value).__module__.partition(".")[0]
    if library == "pandas" and type(value).__name__ == "DataFrame":
        from . import _frames

        return _frames.from_frame(value, schema)
    if library == "polars" and type(value).__name__ == "DataFrame":
        from . import _polars

        return _polars.from_frame(value, schema)
    if hasattr(value, "__arrow_c_stream__"):
        try:
            return pa.table(value)
        except (pa.ArrowException, TypeError, ValueError):
            return None  # a stream of arrays, for example
    return None
