"""Table functions: a row of arguments gives any number of rows.

What the function yields is gathered in chunks of a bounded number of rows, and of about so many
bytes, so that a generator may go on for as long as it likes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from . import _columns, _errors
from ._calls import Errors, fatal, too_large
from ._clock import CLOCK
from ._constants import Constants, values_of
from ._errors import Failure
from ._exact import Misfit, by_name, type_name
from ._gather import gathered
from ._progress import PROGRESS
from ._types import is_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._task import Task

# A chunk costs some 10 µs a column, and what is in it is only measured once it is complete.
CHUNK_ROWS_MAX = 512
CHUNK_ROWS_FIRST = 32
CHUNK_BYTES_GOAL = 4 << 20


class FlatMap:
    """The stage of one table function; the first output column tells each row's input row."""

    def __init__(self, task: Task) -> None:
        self._spec = spec = task.only_call()
        self._name: str = spec["name"]
        self._args: Sequence[int] = spec.get("args") or ()
        self._constants = Constants(spec)
        self._parameters: Sequence[str] = spec.get("parameters") or ()
        self._skips_null: bool = spec.get("on_null") == "skip"
        self._output = task.output
        self._rows = _RowShape(
            self._name,
            [task.output.field(i) for i in range(1, len(task.output) - bool(spec.get("on_error")))],
        )
        # Failures of rows are told in the last column, where they do not end the bundle.
        self._errors = Errors(spec) if spec.get("on_error") else None
        self._output_max: int = spec.get("output_bytes") or sys.maxsize
        self._library = task.library
        self._enter = task.enter
        self._chunk_rows = CHUNK_ROWS_FIRST

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give the bundle's output."""
        self._enter(self._name)
        if self._errors is not None:
            self._errors.begin()
        first = 0
        try:
            function = self._library.load(self._spec)
            for batch in batches:
                yield from gathered(self._chunks(function, batch, first), self._output)
                first += batch.num_rows
        except Failure as failure:
            failure.details.setdefault("function", self._spec["id"])
            failure.details.setdefault("name", self._name)
            raise

    def _chunks(
        self, function: Callable[..., Any], batch: pa.RecordBatch, first: int
    ) -> Iterator[pa.RecordBatch]:
        arrays = self._constants.among([batch.column(i) for i in self._args], batch.num_rows)
        arguments = self._arguments(arrays, batch.num_rows, first)
        skips = self._skips_null and any(array.null_count for array in arrays)
        made = _Made()
        CLOCK.python()
        for row, values in enumerate(arguments):
            if skips and any(value is None for value in values):
                continue
            PROGRESS.step()
            PROGRESS.exact(first + row)
            for tried in range(1 + (self._errors.retries if self._errors else 0)):
                made.begin(row)
                try:
                    yield from self._row(function, values, made, first, arguments)
                    break
                except Failure as failure:
                    raised = self._failure(failure, first + row, values)
                except BaseException as exception:
                    raised = self._failure(
                        _errors.raised(exception, f"{self._name} raised"), first + row, values
                    )
                if self._errors is None or fatal(raised):
                    raise raised from None
                again = tried < self._errors.retries and not made.begun
                if again and raised.details["error"] == "raised":
                    made.drop(row)
                    continue
                made.fail(row, self._errors.text(raised))
                break
        PROGRESS.rows_end()
        if made.rows:
            yield self._chunk(made, first, arguments)
        CLOCK.convert()

    def _row(
        self,
        function: Callable[..., Any],
        values: tuple[Any, ...],
        made: _Made,
        first: int,
        arguments: list[tuple[Any, ...]],
    ) -> Iterator[pa.RecordBatch]:
        """Gather what one row gives, and yield each chunk that is full."""
        results = self._iterate(function(*values))
        size = 0
        while True:
            before = len(made.rows)
            try:
                made.rows.extend(islice(results, self._chunk_rows - before))
            finally:
                made.origins.extend(repeat(made.row, len(made.rows) - before))
            if len(made.rows) < self._chunk_rows:
                return
            mine = len(made.rows) - made.origins.index(made.row)
            chunk = self._chunk(made, first, arguments)
            failed = made.failed == made.row
            size += chunk.nbytes * mine // max(chunk.num_rows, 1)
            made.clear()
            yield chunk
            if failed:
                return  # its last result was refused
            if size > self._output_max:
                raise too_large(self._name, size, self._output_max)

    def _arguments(self, arrays: list[pa.Array], rows: int, first: int) -> list[tuple[Any, ...]]:
        """Give the arguments of each row."""
        if not arrays:
            return [()] * rows
        try:
            columns = list(map(values_of, arrays))
        except Misfit as misfit:
            text = f"{self._name} cannot be given {misfit.value}, {misfit.argument}"
            row = None if misfit.row is None else first + misfit.row
            raise Failure("type", text, hint=misfit.hint, row=row) from None
        return list(zip(*columns, strict=True))

    def _iterate(self, result: Any) -> Iterator[Any]:
        if result is None:
            return iter(())
        if isinstance(result, (str, bytes, Mapping)) or not hasattr(result, "__iter__"):
            raise _Refused(
                f"{self._name} returned {type_name(result)} where rows are expected",
                "yield each row, or return a list of rows",
                got=type_name(result),
            )
        return iter(result)

    def _chunk(self, made: _Made, first: int, arguments: list[tuple[Any, ...]]) -> pa.RecordBatch:
        before = CLOCK.convert()
        try:
            return self._converted(made, first, arguments)
        finally:
            CLOCK.to(before)

    def _converted(
        self, made: _Made, first: int, arguments: list[tuple[Any, ...]]
    ) -> pa.RecordBatch:
        while True:
            try:
                columns = self._rows.columns(made.values(self._rows.nothing))
                break
            except _Refused as refused:
                row = made.origins[refused.at]
                failure = self._failure(refused, first + row, arguments[row])
                if self._errors is None:
                    raise failure from None
                made.fail(row, self._errors.text(failure))
        columns = [pa.array(made.origins, pa.int64()), *columns]
        if self._errors is not None:
            columns.append(made.errors())
        chunk = pa.RecordBatch.from_arrays(columns, schema=self._output)
        if chunk.nbytes > self._output_max:
            self._check_rows(made, chunk, first, arguments)
        wanted = CHUNK_BYTES_GOAL * chunk.num_rows // max(chunk.nbytes, 1)
        self._chunk_rows = max(1, min(wanted, 4 * self._chunk_rows, CHUNK_ROWS_MAX))
        return chunk

    def _check_rows(
        self, made: _Made, chunk: pa.RecordBatch, first: int, arguments: list[tuple[Any, ...]]
    ) -> None:
        """Refuse a single result that is larger than all of a row may be."""
        for at, row in enumerate(made.origins):
            size = chunk.slice(at, 1).nbytes
            if size > self._output_max:
                failure = too_large(self._name, size, self._output_max)
                raise self._failure(failure, first + row, arguments[row])

    def _failure(self, failure: Failure, row: int, values: Sequence[Any]) -> Failure:
        if "row" not in failure.details:
            failure.details["row"] = row
            failure.details["values"] = _errors.values_of(self._parameters, values)
        return failure


class _Failed:
    """Stands in the place of the results of a row on which the function has failed."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Made:
    """What has been gathered for a chunk: results, and the rows of the batch they are from."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.origins: list[int] = []
        # The row that runs, whether a chunk with results of it has been given, and the last
        # row that has failed.
        self.row = -1
        self.begun = False
        self.failed = -1

    def begin(self, row: int) -> None:
        """Note that a row runs from now on."""
        self.row = row
        self.begun = False

    def clear(self) -> None:
        """Begin a chunk in the middle of a row."""
        self.rows, self.origins = [], []
        self.begun = True

    def drop(self, row: int) -> None:
        """Forget the results of a row."""
        at = self.origins.index(row) if row in self.origins else len(self.rows)
        end = at + self.origins.count(row)
        del self.rows[at:end]
        del self.origins[at:end]

    def fail(self, row: int, text: str) -> None:
        """Put a failure in the place of the results of a row."""
        at = self.origins.index(row) if row in self.origins else len(self.rows)
        self.drop(row)
        self.rows.insert(at, _Failed(text))
        self.origins.insert(at, row)
        self.failed = row

    def values(self, nothing: Any) -> list[Any]:
        """Give the results, with one that is all NULL for each failure."""
        if self.failed < 0:
            return self.rows
        return [nothing if isinstance(row, _Failed) else row for row in self.rows]

    def errors(self) -> pa.Array:
        """Give the column that tells of failures."""
        texts = [row.text if isinstance(row, _Failed) else None for row in self.rows]
        return pa.array(texts, pa.string())


class _Refused(Failure):
    """A row that the function may not give; ``at`` is its index in the chunk."""

    def __init__(self, text: str, hint: str, at: int = 0, **details: Any) -> None:
        super().__init__("type", text, hint=hint or None, **details)
        self.at = at


class _RowShape:
    """How rows that a function gives become columns.

    A row is a tuple or a list with a value for each column, or a dict, a named tuple or a
    dataclass with its columns by name, of which those that are missing are NULL. Where there is
    one column, a value that is none of these is the row; so is a list if the column's type is a
    list, and a dict if it is a struct or a map.
    """

    def __init__(self, name: str, fields: list[pa.Field]) -> None:
        self._name = name
        self._fields = fields
        self._names = [field.name for field in fields]
        self._width = len(fields)
        # A row of NULLs.
        self.nothing: Any = None if len(fields) == 1 else (None,) * len(fields)
        one = fields[0].type if len(fields) == 1 else None
        self._one = one is not None
        self._dict_is_value = one is not None and (types.is_struct(one) or types.is_map(one))
        self._list_is_value = one is not None
        self._list_type = one is not None and is_list(one)

    def columns(self, rows: list[Any]) -> list[pa.Array]:
        """Make columns of rows.

        Raises
        ------
        _Refused
            For the first row that does not fit.
        """
        columns = self._split(rows)
        return [
            self._column(values, field) for values, field in zip(columns, self._fields, strict=True)
        ]

    def _column(self, values: list[Any], field: pa.Field) -> pa.Array:
        try:
            return _columns.to_array(values, field.type)
        except Misfit as misfit:
            value = _errors.short_repr(misfit.value)
            text = f"{self._name} yielded {value} ({misfit.got}) in its column {field.name}, "
            text += f"which is {misfit.expected}"
            raise _Refused(
                text, misfit.hint, misfit.row or 0, expected=misfit.expected, got=misfit.got
            ) from None

    def _split(self, rows: list[Any]) -> list[list[Any]]:
        kinds = set(map(type, rows))
        if kinds == {tuple} and set(map(len, rows)) == {self._width}:
            return [list(column) for column in zip(*rows, strict=True)]
        if self._one and kinds <= _PLAIN:
            return [rows]
        split = [self._row(row, at) for at, row in enumerate(rows)]
        return [list(column) for column in zip(*split, strict=True)]

    def _row(self, row: Any, at: int) -> Sequence[Any]:
        if self._one and isinstance(row, pa.MonthDayNano):
            return (row,)  # a value, although it is a tuple
        named = by_name(row)
        if named is not None and not (self._dict_is_value and isinstance(row, Mapping)):
            unknown = [key for key in named if key not in self._names]
            if unknown:
                text = f"{self._name} yielded a row with {unknown[0]!r}, which is not declared"
                hint = f"the columns are {', '.join(self._names)}"
                raise _Refused(text, hint, at, got=type_name(row))
            return [named.get(name) for name in self._names]
        if isinstance(row, tuple) or (isinstance(row, list) and not self._one):
            if len(row) == self._width:
                return row
            raise self._refuse(f"a {type_name(row)} of {len(row)}", at)
        if self._one:
            return (row,)
        raise self._refuse(type_name(row), at)

    def _refuse(self, got: str, at: int) -> _Refused:
        columns = "1 column" if self._one else f"{self._width} columns"
        text = f"{self._name} yielded {got} where a row of {columns} is expected"
        hint = f"yield a tuple ({', '.join(self._names)}{',' if self._one else ''}) or a dict"
        return _Refused(text, hint, at, got=got)


# Types of values that are never a row of several columns.
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
