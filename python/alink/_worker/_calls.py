"""One call: a function applied to columns, which gives a column.

What row functions and vectorised ones have in common (NULLs that are skipped, batches that are
cut) stands in ``Call``; the forms in which columns go in and come out stand in ``_forms``.
"""

from __future__ import annotations

import operator
import sys
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _errors, _values
from ._errors import Failure
from ._exact import Misfit
from ._forms import FORMS
from ._progress import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._forms import Arrow
    from ._functions import Library


class Call:
    """A function applied to columns of a batch.

    Parameters
    ----------
    spec
        An entry of the payload's "calls".
    type_
        The type of the column that it makes.
    library
        Where the function's code is loaded, at the first batch.
    """

    def __init__(self, spec: Mapping[str, Any], type_: pa.DataType, library: Library) -> None:
        self.id: str = spec["id"]
        self.name: str = spec["name"]
        self.parameters: Sequence[str] = spec.get("parameters") or ()
        self._args: Sequence[int] = spec.get("args") or ()
        self._skips_null: bool = spec.get("on_null") == "skip"
        self._rows_max: int = spec.get("batch_rows") or 0
        self._type = type_
        self._spec = spec
        self._library = library
        # Rows that are counted are those of the batch.
        self._exact = True
        self._form = FORMS.get(spec["kind"])
        if self._form is None and spec["kind"] != "row":
            raise Failure("protocol", f"a function of kind {spec['kind']!r} makes no column")

    def column(self, columns: Sequence[pa.Array], rows: int, row: int, alone: bool) -> pa.Array:
        """Compute the column for a batch.

        Parameters
        ----------
        columns, rows
            The columns that the arguments are among, and their length.
        row
            The index of the batch's first row in its bundle, for errors.
        alone
            The column is used before any other function is called.

        Raises
        ------
        Failure
            With the function's name, and the row if it is known.
        """
        try:
            arrays = [columns[i] for i in self._args]
            if rows == 0:
                return pa.array([], self._type)
            if self._skips_null and any(array.null_count for array in arrays):
                return self._without_nulls(arrays, row, alone)
            return self._in_cuts(arrays, rows, row, alone)
        except Failure as failure:
            failure.details.setdefault("function", self.id)
            failure.details.setdefault("name", self.name)
            raise

    def _without_nulls(self, arrays: list[pa.Array], row: int, alone: bool) -> pa.Array:
        """Call the function for the rows without a NULL; the others give NULL."""
        import pyarrow.compute as pc

        valid = arrays[0].is_valid()
        for array in arrays[1:]:
            valid = pc.and_(valid, array.is_valid())
        kept = [array.filter(valid) for array in arrays]
        # Where each row finds its value: the number of valid rows before it, or nowhere.
        count = pc.cumulative_sum(valid.cast(pa.int32()))
        places = pc.if_else(
            valid, pc.subtract(count, pa.scalar(1, pa.int32())), pa.scalar(None, pa.int32())
        )
        if len(kept[0]) == 0:
            return pa.nulls(len(valid), self._type)
        self._exact = False
        try:
            return self._in_cuts(kept, len(kept[0]), 0, alone).take(places)
        except Failure as failure:
            if "row" in failure.details:
                failure.details["row"] = row + places.index(failure.details["row"]).as_py()
            raise
        finally:
            self._exact = True

    def _in_cuts(self, arrays: list[pa.Array], rows: int, row: int, alone: bool) -> pa.Array:
        """Call the function for at most ``batch_rows`` rows at a time."""
        function = self._library.load(self._spec)
        cut = self._rows_max if 0 < self._rows_max < rows else rows
        if cut == rows:
            return self._one(function, arrays, rows, row, alone)
        columns = []
        for start in range(0, rows, cut):
            slices = [array.slice(start, cut) for array in arrays]
            size = min(cut, rows - start)
            columns.append(self._one(function, slices, size, row + start, False))
        return pa.concat_arrays(columns)

    def _one(
        self, function: Callable[..., Any], arrays: list[pa.Array], rows: int, row: int, alone: bool
    ) -> pa.Array:
        kind = (
            _Row(self, function) if self._form is None else _Vectorised(self, function, self._form)
        )
        PROGRESS.step()
        PROGRESS.rows_from(row if self._exact else None)
        try:
            return kind.column(arrays, rows, self._type, alone)
        except Misfit as misfit:
            raise self._type_failure(misfit, arrays, row) from None
        except Failure as failure:
            if "row" in failure.details:
                failure.details["row"] += row
            raise

    def _type_failure(self, misfit: Misfit, arrays: list[pa.Array], row: int) -> Failure:
        if misfit.argument:
            what = f"{self.name} cannot be given {misfit.value}, {misfit.argument}"
        elif misfit.row is None:
            what = f"{self.name} returned {misfit.got} where {misfit.expected} is declared"
        else:
            value = _errors.short_repr(misfit.value)
            what = (
                f"{self.name} returned {value} ({misfit.got}), which {misfit.expected} cannot hold"
            )
        failure = Failure("type", what, hint=misfit.hint or None)
        if not misfit.argument:
            failure.details.update(expected=misfit.expected, got=misfit.got)
        if misfit.row is not None:
            failure.details["row"] = row + misfit.row
            failure.details["values"] = self.arguments(arrays, misfit.row)
        return failure

    def arguments(self, arrays: list[pa.Array], row: int) -> list[dict[str, str]]:
        """Show the arguments of one row."""
        return _errors.values_of(self.parameters, [_value_at(array, row) for array in arrays])


def _value_at(array: pa.Array, row: int) -> Any:
    try:
        return _values.to_values(array.slice(row, 1))[0]
    except Misfit as misfit:
        return misfit.value


# Since 3.11 a comprehension calls a Python function of one argument faster than map does (by 3
# to 10 ns of 40); one of more arguments, or another callable, is faster in map.
_COMPREHENDS = sys.version_info >= (3, 11)


_ROWS_A_STEP = 1024


class _Row:
    """A function of scalars."""

    def __init__(self, call: Call, function: Callable[..., Any]) -> None:
        self._call = call
        self._function = function

    def column(
        self, arrays: list[pa.Array], rows: int, type_: pa.DataType, alone: bool
    ) -> pa.Array:
        del alone  # values are copied
        columns = [_values.to_values(array) for array in arrays] or [[None] * rows]
        if not arrays:
            out = self._each(lambda _: self._function(), columns[0], arrays)
        elif len(columns) == 1 and _COMPREHENDS and isinstance(self._function, FunctionType):
            out = self._each(self._function, columns[0], arrays)
        else:
            out = self._map(columns, arrays)
        return _values.to_array(out, type_)

    def _map(self, columns: list[list[Any]], arrays: list[pa.Array]) -> list[Any]:
        """Call the function in a loop that runs in C.

        When a call raises, the number of results so far is the row: counting costs nothing.
        """
        out: list[Any] = []
        iterators = [iter(column) for column in columns]
        PROGRESS.rows_begin(out.__len__)
        try:
            # A function of native code lets no other thread run, not even the one that counts.
            for done in range(0, len(columns[0]), _ROWS_A_STEP):
                out.extend(map(self._function, *(islice(it, _ROWS_A_STEP) for it in iterators)))
                if len(out) < min(done + _ROWS_A_STEP, len(columns[0])):
                    # list.extend takes a StopIteration that the function raised for the end.
                    raise StopIteration
                PROGRESS.step()
        except BaseException as exception:
            raise self._raised(exception, arrays, len(out)) from None
        finally:
            PROGRESS.rows_end()
        return out

    def _each(
        self, function: Callable[[Any], Any], column: list[Any], arrays: list[pa.Array]
    ) -> list[Any]:
        """Call a function of one argument in a comprehension, into which Python inlines it.

        What the iterator has left tells the row.
        """
        values = iter(column)
        last = len(column) - 1
        PROGRESS.rows_begin(lambda: last - operator.length_hint(values))
        try:
            return [function(value) for value in values]
        except BaseException as exception:
            row = last - operator.length_hint(values)
            raise self._raised(exception, arrays, row) from None
        finally:
            PROGRESS.rows_end()

    def _raised(self, exception: BaseException, arrays: list[pa.Array], row: int) -> Failure:
        failure = _errors.raised(
            exception,
            f"{self._call.name} raised",
            row=row,
            values=self._call.arguments(arrays, row),
        )
        if isinstance(exception, (TypeError, AttributeError)):
            for i, array in enumerate(arrays):
                if not array[row].is_valid:
                    failure.details.setdefault("hint", self._about_null(i))
                    break
        return failure

    def _about_null(self, i: int) -> str:
        names = self._call.parameters
        name = names[i] if i < len(names) else f"argument {i + 1}"
        return f'{name} is NULL in this row: expect None, or on_null="skip" gives NULL'


class _Vectorised:
    """A function of whole columns, in one of the forms."""

    def __init__(self, call: Call, function: Callable[..., Any], form: Arrow) -> None:
        self._call = call
        self._function = function
        self._form = form

    def column(
        self, arrays: list[pa.Array], rows: int, type_: pa.DataType, alone: bool
    ) -> pa.Array:
        arguments = given(self._call.name, self._form, arrays)
        result = called(self._call.name, self._form, self._function, arguments)
        column = self._form.column(result, type_, copy=not alone)
        if len(column) != rows:
            raise _wrong_length(self._call, len(column), rows)
        return column


def given(name: str, form: Arrow, arrays: Sequence[pa.Array]) -> list[Any]:
    """Give columns in the form that a function takes."""
    try:
        return form.columns(arrays)
    except ImportError as exception:
        raise _errors.raised(exception, f"{name} takes {form.name} columns:") from None


def called(name: str, form: Arrow, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call a function of whole columns."""
    try:
        with form.context():
            return function(*arguments)
    except BaseException as exception:
        failure = _errors.raised(exception, f"{name} raised")
        if isinstance(exception, ValueError) and "read-only" in str(exception):
            failure.details["hint"] = "the arrays are views of the input: copy one to change it"
        raise failure from None


def _wrong_length(call: Call, got: int, rows: int) -> Failure:
    return Failure(
        "length",
        f"{call.name} returned {got} values for {rows} rows",
        expected=str(rows),
        got=str(got),
        hint="return one value for each row, in order; map_batches may change the number of rows",
    )
