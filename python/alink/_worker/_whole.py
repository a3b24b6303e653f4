"""Functions of whole batches and tables, and what they have in common with those of groups."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _arrays, _errors
from ._calls import called, too_large
from ._clock import CLOCK
from ._errors import Failure
from ._exact import ColumnMisfit, Misfit, type_name
from ._forms import FORMS, as_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._task import Task


class Whole:
    """A stage of one function that gets rows as batches or tables."""

    def __init__(self, task: Task) -> None:
        self._spec = spec = task.only_call()
        self._id: str = spec["id"]
        self._name: str = spec["name"]
        self._rows_max: int = spec.get("batch_rows") or 0
        self._form = FORMS[spec.get("batch") or "arrow"]
        self._tables: Mapping[str, str] = spec.get("tables") or {}
        self._output = task.output
        self._output_max: int = spec.get("output_bytes") or sys.maxsize
        self._library = task.library
        self._enter = task.enter

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Give the bundle's output."""
        self._enter(self._name)
        try:
            yield from self._outputs(self._library.load(self._spec), batches)
        except Failure as failure:
            failure.details.setdefault("function", self._id)
            failure.details.setdefault("name", self._name)
            raise

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _cuts(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Leave out empty batches and cut large ones to ``batch_rows``."""
        for batch in batches:
            cut = self._rows_max or batch.num_rows
            for start in range(0, batch.num_rows, cut or 1):
                yield batch if cut >= batch.num_rows else batch.slice(start, cut)

    def _given(self, give: Callable[[Any], Any], rows: Any) -> Any:
        """Give rows in the form that the function takes."""
        try:
            return give(rows)
        except ImportError as exception:
            what = f"{self._name} takes {self._form.name} data frames:"
            raise _errors.raised(exception, what) from None
        except Misfit as misfit:
            text = f"{self._name} cannot be given {misfit.value}, {misfit.argument}"
            raise Failure("type", text, hint=misfit.hint or None) from None

    def _with_tables(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Bind the tables that the function gets whole, for one call."""
        if not self._tables:
            return function
        form = self._form
        tables = {
            name: form.again(self._library.table(path, form.name, self._read_table))
            for name, path in self._tables.items()
        }
        return functools.partial(function, **tables)

    def _read_table(self, path: str) -> Any:
        # Mapped into memory, which all workers that read the file share.
        try:
            with pa.memory_map(path) as file:
                table = pa.ipc.open_file(file).read_all()
            return self._given(self._form.table, table)
        except Failure as failure:
            failure.details["loading"] = True  # no row is to blame
            raise
        except (OSError, pa.ArrowException) as exception:
            what = f"a table for {self._name} could not be read:"
            raise _errors.raised(exception, what, "load") from None

    def _results(self, function: Callable[..., Any], rows: Any) -> Iterator[pa.RecordBatch]:
        """Call the function and give what it returned as batches of the output's schema."""
        result = called(self._name, self._form, function, (rows,))
        size = 0
        for table in self._tables_of(result):
            declared = table.schema == self._output
            if not declared:
                self._check_columns(table)
            for part in [table] if isinstance(table, pa.RecordBatch) else table.to_batches():
                batch = part if declared else self._as_declared(part)
                # What crosses, and rows also where they take no memory.
                size += pa.ipc.get_record_batch_size(batch) + batch.num_rows
                if size > self._output_max:
                    raise too_large(self._name, size, self._output_max, "call")
                yield batch

    def _as_declared(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [self._cast(batch, field) for field in self._output]
        return pa.RecordBatch.from_arrays(columns, schema=self._output)

    def _tables_of(self, result: Any) -> Iterator[pa.Table | pa.RecordBatch]:
        if result is None:
            return
        table = self._as_table(result)
        if table is not None:
            yield table
            return
        if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
            raise self._type_failure(
                type_name(result), "a RecordBatch, a Table or an iterator of them"
            )
        for item in self._items(result):
            table = self._as_table(item)
            if table is None:
                raise self._type_failure(
                    f"an iterator of {type_name(item)}", "one of RecordBatch or Table"
                )
            yield table

    def _as_table(self, value: Any) -> pa.Table | pa.RecordBatch | None:
        try:
            return as_table(value, self._output)
        except ColumnMisfit as error:
            raise self._column_failure(error.column, error.misfit) from None

    def _items(self, result: Any) -> Iterator[Any]:
        """Iterate what the function returned; a generator runs user code at every step."""
        try:
            items = iter(result)
        except BaseException as exception:
            raise _errors.raised(exception, f"{self._name} raised") from None
        while True:
            try:
                with self._form.context():
                    before = CLOCK.python()
                    try:
                        item = next(items)
                    finally:
                        CLOCK.to(before)
            except StopIteration:
                return
            except Failure:
                raise  # of the input, which the function was reading
            except BaseException as exception:
                raise _errors.raised(exception, f"{self._name} raised") from None
            yield item

    def _check_columns(self, table: pa.Table | pa.RecordBatch) -> None:
        given, wanted = table.schema.names, self._output.names
        missing = [name for name in wanted if name not in given]
        if missing or sorted(given) != sorted(wanted):
            extra = [name for name in given if name not in wanted]
            hint = f"missing: {', '.join(missing)}" if missing else ""
            if extra:
                hint += ("; " if hint else "") + f"not declared: {', '.join(extra)}"
            hint = hint or "a column's name stands twice"
            columns = f"a table of the columns {', '.join(given) or '(none)'}"
            raise self._type_failure(columns, ", ".join(wanted), hint)

    def _cast(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        try:
            return _arrays.exact_cast(batch.column(field.name), field.type)
        except Misfit as misfit:
            raise self._column_failure(field.name, misfit) from None

    def _type_failure(self, got: str, expected: str, hint: str = "", **details: Any) -> Failure:
        text = f"{self._name} returned {got} where {expected} is expected"
        return Failure("type", text, got=got, expected=expected, hint=hint or None, **details)

    def _column_failure(self, column: str, misfit: Misfit) -> Failure:
        got = misfit.got
        if misfit.row is not None:
            got = f"{_errors.short_repr(misfit.value)} ({got})"
        text = f"{self._name} returned {got} in its column {column}, which is {misfit.expected}"
        return Failure(
            "type", text, got=misfit.got, expected=misfit.expected, hint=misfit.hint or None
        )


class MapBatches(Whole):
    """Each batch gives any number of batches."""

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        for batch in self._cuts(batches):
            yield from self._results(
                self._with_tables(function), self._given(self._form.batch, batch)
            )


class MapTable(Whole):
    """All batches, in one call, give any number of batches."""

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        yield from self._results(self._with_tables(function), self._forms_of(batches))

    def _forms_of(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Any]:
        for batch in self._cuts(batches):
            before = CLOCK.convert()
            given = self._given(self._form.batch, batch)
            CLOCK.to(before)
            yield given


class Fit(Whole):
    """All batches give one object, which is pickled."""

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        try:
            CLOCK.python()
            model = function(self._cuts(batches))
            CLOCK.convert()
        except Failure:
            raise  # of the input, which the function was reading
        except BaseException as exception:
            raise _errors.raised(exception, f"{self._name} raised") from None
        try:
            pickled = self._library.dump(model)
        except BaseException as exception:
            failure = _errors.raised(
                exception, f"what {self._name} returned cannot be pickled:", "type"
            )
            failure.details.update(got=type_name(model), expected="an object that can be pickled")
            raise failure from None
        yield pa.RecordBatch.from_arrays(
            [pa.array([pickled], self._output.field(0).type)], schema=self._output
        )
