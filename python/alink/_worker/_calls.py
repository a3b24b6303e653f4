"""One call: a function applied to columns, which gives a column.

What row functions and vectorised ones have in common (NULLs that are skipped, batches that are
cut) stands in ``Call``; the forms in which columns go in and come out stand in ``_forms``.
"""

from __future__ import annotations

import json
import operator
import sys
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _columns, _errors
from ._clock import CLOCK
from ._columns import joined
from ._constants import Constants, spread, values_of
from ._errors import Failure
from ._exact import Misfit
from ._forms import FORMS
from ._progress import PROGRESS

if TYPE_CHECKING:
    import contextlib
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
    careful
        The page is to tell the exact row that runs.
    """

    def __init__(
        self, spec: Mapping[str, Any], type_: pa.DataType, library: Library, careful: bool = False
    ) -> None:
        self.id: str = spec["id"]
        self.name: str = spec["name"]
        self.parameters: Sequence[str] = spec.get("parameters") or ()
        self._args: Sequence[int] = spec.get("args") or ()
        self._constants = Constants(spec)
        self._skips_null: bool = spec.get("on_null") == "skip"
        self._rows_max: int = spec.get("batch_rows") or 0
        self._type = type_
        self._spec = spec
        self._library = library
        self.careful = careful
        # Failures of rows are noted here, where they do not end the bundle.
        self.errors = Errors(spec) if spec.get("on_error") else None
        self.output_max: int = spec.get("output_bytes") or sys.maxsize
        # Where rows are left out, the places in the bundle of those that are not.
        self._places: Sequence[int] | None = None
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
            arrays = self._constants.among([columns[i] for i in self._args], rows)
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
        if self.careful or self.errors is not None:
            self._places = pc.add(pc.indices_nonzero(valid).cast(pa.int64()), row).to_pylist()
        try:
            return self._in_cuts(kept, len(kept[0]), 0, alone).take(places)
        except Failure as failure:
            if "row" in failure.details:
                failure.details["row"] = row + places.index(failure.details["row"]).as_py()
            raise
        finally:
            self._exact = True
            self._places = None

    def place(self, row: int) -> int:
        """Give the place in the bundle of a row that the function is called for."""
        return row if self._places is None else self._places[row]

    def note(self, row: int, failure: Failure) -> None:
        """Note that the function has failed on a row, which then is NULL."""
        assert self.errors is not None
        self.errors.note(self.place(row), failure)

    def in_halves(
        self,
        kind: _Row | _Vectorised,
        arrays: list[pa.Array],
        rows: int,
        type_: pa.DataType,
        row: int,
        failure: Failure,
    ) -> pa.Array:
        """Give the column of rows that have failed together: NULL where one does by itself."""
        if rows == 1:
            self.note(row, failure)
            return pa.nulls(1, type_)
        PROGRESS.step()
        half = rows // 2
        first = kind.tolerant([array.slice(0, half) for array in arrays], half, type_, row)
        second = kind.tolerant(
            [array.slice(half) for array in arrays], rows - half, type_, row + half
        )
        return pa.concat_arrays([first, second])

    def _in_cuts(self, arrays: list[pa.Array], rows: int, row: int, alone: bool) -> pa.Array:
        """Call the function for at most ``batch_rows`` rows at a time."""
        function = self._library.load(self._spec)
        cut = min(self._rows_max or rows, rows, ROWS_AT_ONCE if self._form is None else rows)
        if cut == rows:
            return self._one(function, arrays, rows, row, alone)
        columns = []
        for start in range(0, rows, cut):
            slices = [array.slice(start, cut) for array in arrays]
            size = min(cut, rows - start)
            columns.append(self._one(function, slices, size, row + start, False))
        try:
            return joined(columns, self._type)
        except Misfit as misfit:
            raise self.type_failure(misfit, arrays, row) from None

    def _one(
        self, function: Callable[..., Any], arrays: list[pa.Array], rows: int, row: int, alone: bool
    ) -> pa.Array:
        kind = (
            _Row(self, function, row)
            if self._form is None
            else _Vectorised(self, function, self._form)
        )
        PROGRESS.step()
        PROGRESS.rows_from(row if self._exact else None)
        if self.errors is not None:
            return kind.tolerant(arrays, rows, self._type, row)
        try:
            return kind.column(arrays, rows, self._type, alone)
        except Misfit as misfit:
            raise self.type_failure(misfit, arrays, row) from None
        except Failure as failure:
            if "row" in failure.details:
                failure.details["row"] += row
            raise

    def type_failure(self, misfit: Misfit, arrays: list[pa.Array], row: int) -> Failure:
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


class Errors:
    """The rows of a batch on which a function has failed, and how."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._name: str = spec["name"]
        self._max: int = spec.get("errors_max") or sys.maxsize
        self._count = 0
        self._texts: dict[int, str] = {}
        # How often the function is called again after an exception.
        self.retries: int = spec.get("exception_retries") or 0

    def note(self, row: int, failure: Failure) -> None:
        """Note a row of the bundle."""
        self._texts[row] = self.text(failure)

    def text(self, failure: Failure) -> str:
        """Give what the engine is told of a row, and count it."""
        self._count += 1
        if self._count > self._max:
            text = f"{self._name} failed on more than {self._max:,} rows"
            last = failure.details["message"]
            raise Failure("many", f"{text}, the last time like this: {last}")
        told = {key: failure.details.get(key) for key in ("message", "exception")}
        return json.dumps(told)

    def column(self, first: int, rows: int) -> pa.Array:
        """Give the column of a batch that begins at a row of the bundle, and forget its rows."""
        if not self._texts:
            return pa.nulls(rows, pa.string())
        texts = [self._texts.get(first + row) for row in range(rows)]
        self._texts.clear()
        return pa.array(texts, pa.string())

    def begin(self) -> None:
        """Count from the beginning: a bundle begins."""
        self._count = 0
        self._texts.clear()


def fatal(failure: BaseException) -> bool:
    """Tell whether a failure ends the bundle although the function may fail on rows.

    The engine has interrupted it, memory is short, or the function cannot run at all.
    """
    if not isinstance(failure, Failure):
        return isinstance(
            failure, (KeyboardInterrupt, ModuleNotFoundError)
        ) or _errors.out_of_memory(failure)
    details = failure.details
    exception = (details.get("exception") or {}).get("type", "")
    return (
        details["error"] in ("many", "load", "module", "protocol")
        or "loading" in details
        or exception == "KeyboardInterrupt"
        or "out_of_memory" in details
    )


def too_large(name: str, size: int, limit: int, what: str = "row") -> Failure:
    """Make the failure of a function that gives more than it may."""
    size_mib, limit_mib = max(1, size >> 20), limit / (1 << 20)
    text = f"{name} gave {size_mib:,} MiB for one {what}, more than its limit of {limit_mib:,.4g}"
    return Failure("output", f"{text} MiB")


def _value_at(array: pa.Array, row: int) -> Any:
    try:
        return values_of(array.slice(row, 1))[0]
    except Misfit as misfit:
        return misfit.value


# Since 3.11 a comprehension calls a Python function of one argument faster than map does (by 3
# to 10 ns of 40); one of more arguments, or another callable, is faster in map.
_COMPREHENDS = sys.version_info >= (3, 11)


_ROWS_A_STEP = 1024
# So many rows of a row function are made Python values at once: these, and what the function
# makes of them, then stay in the processor's cache. Of 512 to 65,536 rows this was the fastest,
# by 13 % (numbers) and 18 % (strings) faster than 65,536.
ROWS_AT_ONCE = 8192


class _Row:
    """A function of scalars."""

    def __init__(self, call: Call, function: Callable[..., Any], first: int) -> None:
        self._call = call
        self._function = function
        self._first = first

    def column(
        self, arrays: list[pa.Array], rows: int, type_: pa.DataType, alone: bool
    ) -> pa.Array:
        del alone  # values are copied
        columns = [values_of(array) for array in arrays] or [[None] * rows]
        function = self._function if arrays else lambda _: self._function()
        before = CLOCK.python()
        if self._call.careful:
            out = self._carefully(function, columns, arrays)
        elif len(columns) == 1 and _COMPREHENDS and isinstance(function, FunctionType):
            out = self._each(function, columns[0], arrays)
        else:
            out = self._map(columns, arrays)
        CLOCK.to(before)
        column = _columns.to_array(out, type_)
        if column.nbytes > self._call.output_max and (row := self._too_large(column)) is not None:
            failure = too_large(self._call.name, column.slice(row, 1).nbytes, self._call.output_max)
            failure.details.update(row=row, values=self._call.arguments(arrays, row))
            raise failure
        return column

    def _too_large(self, column: pa.Array) -> int | None:
        """Give the first row that has more than a row may."""
        sizes = (column.slice(row, 1).nbytes for row in range(len(column)))
        return next((row for row, size in enumerate(sizes) if size > self._call.output_max), None)

    def tolerant(self, arrays: list[pa.Array], rows: int, type_: pa.DataType, row: int) -> pa.Array:
        """Give the column with NULL for the rows that the function fails on, which are noted."""
        try:
            columns = [values_of(array) for array in arrays] or [[None] * rows]
        except Misfit as misfit:
            return self._call.in_halves(
                self, arrays, rows, type_, row, self._call.type_failure(misfit, arrays, row)
            )
        before = CLOCK.python()
        out = self._all(columns, arrays, row)
        CLOCK.to(before)
        try:
            column = _columns.to_array(out, type_)
        except Misfit:
            column = None
        if column is None or column.nbytes > self._call.output_max:
            self._drop_misfits(out, type_, arrays, row)
            column = _columns.to_array(out, type_)
        return column

    def _all(self, columns: list[list[Any]], arrays: list[pa.Array], row: int) -> list[Any]:
        """Call the function for all rows, and go on behind those that it raises on."""
        function = self._function if arrays else lambda _: self._function()
        rows = len(columns[0])
        out: list[Any] = []
        iterators = [iter(column) for column in columns]
        if not self._call.careful:
            PROGRESS.rows_begin(out.__len__)
        try:
            while (done := len(out)) < rows:
                try:
                    if self._call.careful:
                        PROGRESS.exact(self._call.place(row + done))
                        out.append(function(*(next(it) for it in iterators)))
                        continue
                    out.extend(map(function, *(islice(it, _ROWS_A_STEP) for it in iterators)))
                    if len(out) < min(done + _ROWS_A_STEP, rows):
                        raise StopIteration  # which list.extend takes for the end
                    PROGRESS.step()
                except BaseException as exception:
                    self._go_on(function, exception, columns, out, arrays, row)
        finally:
            PROGRESS.rows_end()
        return out

    def _go_on(
        self,
        function: Callable[..., Any],
        exception: BaseException,
        columns: list[list[Any]],
        out: list[Any],
        arrays: list[pa.Array],
        row: int,
    ) -> None:
        """Try the row that follows the results once more, if that is asked for, or note it."""
        assert self._call.errors is not None
        at = len(out)
        for _ in range(self._call.errors.retries):
            if fatal(exception):
                break
            try:
                out.append(function(*(column[at] for column in columns)))
                return
            except BaseException as another:
                exception = another
        failure = self._raised(exception, arrays, at)
        if fatal(exception):
            failure.details["row"] += row
            raise failure from None
        self._call.note(row + at, failure)
        out.append(None)

    def _drop_misfits(
        self, out: list[Any], type_: pa.DataType, arrays: list[pa.Array], row: int
    ) -> None:
        """Note the rows whose results the type cannot hold, or are too large."""
        for at, value in enumerate(out):
            try:
                size = _columns.to_array([value], type_).nbytes
                if size <= self._call.output_max:
                    continue
                failure = too_large(self._call.name, size, self._call.output_max)
            except Misfit as misfit:
                misfit.row = at
                failure = self._call.type_failure(misfit, arrays, row)
            self._call.note(row + at, failure)
            out[at] = None

    def _carefully(
        self, function: Callable[..., Any], columns: list[list[Any]], arrays: list[pa.Array]
    ) -> list[Any]:
        """Call the function in a loop that tells the row before each call."""
        out: list[Any] = []
        try:
            for values in zip(*columns, strict=True):
                PROGRESS.exact(self._call.place(self._first + len(out)))
                out.append(function(*values))
        except BaseException as exception:
            raise self._raised(exception, arrays, len(out)) from None
        finally:
            PROGRESS.rows_end()
        return out

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
        # Before the first value is taken none is done, not one less than that.
        PROGRESS.rows_begin(lambda: max(0, last - operator.length_hint(values)))
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
        arguments = given(self._call.name, self._form, list(map(spread, arrays)))
        result = called(self._call.name, self._form, self._function, arguments)
        column = self._form.column(result, type_, copy=not alone)
        if len(column) != rows:
            raise _wrong_length(self._call, len(column), rows)
        if column.nbytes > self._call.output_max:
            raise too_large(self._call.name, column.nbytes, self._call.output_max, "call")
        return column

    def tolerant(self, arrays: list[pa.Array], rows: int, type_: pa.DataType, row: int) -> pa.Array:
        """Give the column with NULL for the rows that the function fails on, which are noted.

        Which ones they are is found by calling the function for one half after the other.
        """
        assert self._call.errors is not None
        tries = 1 + self._call.errors.retries
        while True:
            tries -= 1
            try:
                return self.column(arrays, rows, type_, False)
            except Misfit as misfit:
                failure = self._call.type_failure(misfit, arrays, row)
                break
            except Failure as raised:
                failure = raised
                if fatal(failure):
                    raise
                if tries == 0 or failure.details["error"] != "raised":
                    break
        return self._call.in_halves(self, arrays, rows, type_, row, failure)


def given(name: str, form: Arrow, arrays: Sequence[pa.Array]) -> list[Any]:
    """Give columns in the form that a function takes."""
    try:
        return form.columns(arrays)
    except ImportError as exception:
        raise without_library(name, form, exception) from None


def around(name: str, form: Arrow) -> contextlib.AbstractContextManager[Any]:
    """Give what must hold while functions of whole columns run."""
    try:
        return form.context()
    except ImportError as exception:
        raise without_library(name, form, exception) from None


def without_library(name: str, form: Arrow, exception: ImportError) -> Failure:
    """Make the failure of a function whose form's library is not in its environment."""
    return _errors.raised(exception, f"{name} takes {form.name} columns:")


def called(name: str, form: Arrow, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Call a function of whole columns."""
    try:
        with form.context():
            before = CLOCK.python()
            try:
                return function(*arguments)
            finally:
                CLOCK.to(before)
    except Failure:
        raise  # of the input, which the function was reading
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
