"""Table functions: a row of arguments gives any number of rows.

What the function yields is gathered in chunks of a bounded number of rows, and of about so many
bytes, so that a generator may go on for as long as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from . import _errors, _values
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
        self._parameters: Sequence[str] = spec.get("parameters") or ()
        self._skips_null: bool = spec.get("on_null") == "skip"
        self._output = task.output
        self._rows = _RowShape(
            self._name, [task.output.field(i) for i in range(1, len(task.output))]
        )
        self._library = task.library
        self._enter = task.enter
        self._chunk_rows = CHUNK_ROWS_FIRST

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give the bundle's output."""
        self._enter(self._name)
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
        arguments = self._arguments(batch, first)
        skips = self._skips_null and any(batch.column(i).null_count for i in self._args)
        rows: list[Any] = []
        origins: list[int] = []
        for row, values in enumerate(arguments):
            if skips and any(value is None for value in values):
                continue
            PROGRESS.step()
            try:
                results = self._iterate(function(*values))
                while True:
                    before = len(rows)
                    try:
                        rows.extend(islice(results, self._chunk_rows - before))
                    finally:
                        origins.extend(repeat(row, len(rows) - before))
                    if len(rows) < self._chunk_rows:
                        break
                    yield self._chunk(rows, origins, first, arguments)
                    rows, origins = [], []
            except Failure as failure:
                raise self._failure(failure, first + row, values) from None
            except BaseException as exception:
                raise self._failure(
                    _errors.raised(exception, f"{self._name} raised"), first + row, values
                ) from None
        if rows:
            yield self._chunk(rows, origins, first, arguments)

    def _arguments(self, batch: pa.RecordBatch, first: int) -> list[tuple[Any, ...]]:
        """Give the arguments of each row."""
        if not self._args:
            return [()] * batch.num_rows
        try:
            columns = [_values.to_values(batch.column(i)) for i in self._args]
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

    def _chunk(
        self,
        rows: list[Any],
        origins: list[int],
        first: int,
        arguments: list[tuple[Any, ...]],
    ) -> pa.RecordBatch:
        try:
            columns = self._rows.columns(rows)
        except _Refused as refused:
            row = origins[refused.at]
            raise self._failure(refused, first + row, arguments[row]) from None
        chunk = pa.RecordBatch.from_arrays(
            [pa.array(origins, pa.int64()), *columns], schema=self._output
        )
        wanted = CHUNK_BYTES_GOAL * len(rows) // max(chunk.nbytes, 1)
        self._chunk_rows = max(1, min(wanted, 4 * self._chunk_rows, CHUNK_ROWS_MAX))
        return chunk

    def _failure(self, failure: Failure, row: int, values: Sequence[Any]) -> Failure:
        if "row" not in failure.details:
            failure.details["row"] = row
            failure.details["values"] = _errors.values_of(self._parameters, values)
        return failure


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
            return _values.to_array(values, field.type)
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
