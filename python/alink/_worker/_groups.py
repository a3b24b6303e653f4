"""Functions of one group at a time.

The input is sorted by a first column that numbers the groups, run-end encoded. A group never
spans two bundles, but may span batches of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from . import _errors, _values
from ._errors import Failure
from ._exact import Misfit
from ._gather import gathered
from ._progress import PROGRESS
from ._views import numbers
from ._whole import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ._forms import Arrow
    from ._task import Task

# Of a group's first row so many values are shown when the function fails.
_SHOWN_MAX = 4


class MapGroups(Whole):
    """Each group gives a table."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._args: Sequence[int] = self._spec.get("args") or ()
        self._schema = pa.schema([task.input.field(i) for i in self._args])

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        def results() -> Iterator[pa.RecordBatch]:
            # What must hold while the function runs takes pandas longer to set than to find set.
            with self._given(lambda form: form.context(), self._form):
                for parts in groups_of(self._source(batch) for batch in batches):
                    PROGRESS.step()
                    yield from self._group(function, parts)

        return gathered(results(), self._output)

    def _source(self, batch: pa.RecordBatch) -> _Source:
        columns = [batch.column(i) for i in self._args]
        return _Source(batch, pa.RecordBatch.from_arrays(columns, schema=self._schema), self._form)

    def _group(self, function: Callable[..., Any], parts: list[_Part]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._results(function, self._given(_rows_of, parts))
        except Failure as failure:
            _tell_group(failure, self._name, f"that begins with {_first_row(parts[0].batch())}")
            raise


class _Source:
    """A batch with whole groups, or parts of them.

    Parameters
    ----------
    batch
        The numbers of the groups are its first column.
    given
        The columns that the function gets.
    """

    def __init__(self, batch: pa.RecordBatch, given: pa.RecordBatch, form: Arrow) -> None:
        self.batch = batch
        self.given = given
        self.form = form
        self._cut: Callable[[int, int], Any] | None = None

    def cut(self, start: int, end: int) -> Any:
        """Give a range of rows as the function gets it."""
        if self._cut is None:
            self._cut = self.form.table_cutter(pa.Table.from_batches([self.given]))
        return self._cut(start, end)


class _Part(NamedTuple):
    """The rows of a group that are in one batch."""

    source: _Source
    start: int
    end: int

    def batch(self) -> pa.RecordBatch:
        """Give the rows as Arrow's."""
        return self.source.given.slice(self.start, self.end - self.start)


def _rows_of(parts: list[_Part]) -> Any:
    """Give a group as the function gets it."""
    first = parts[0]
    if len(parts) == 1:
        return first.source.cut(first.start, first.end)
    table = pa.Table.from_batches([part.batch() for part in parts])
    return first.source.form.table(table)


def _tell_group(failure: Failure, name: str, group: str) -> None:
    """Say in a failure's message on which group the function was called."""
    message = failure.details["message"]
    if message.startswith(name):
        failure.details["message"] = f"{name}, on the group {group},{message[len(name) :]}"


def _first_row(batch: pa.RecordBatch) -> str:
    shown = [show_value(batch, i, 0) for i in range(min(batch.num_columns, _SHOWN_MAX))]
    return ", ".join(shown) or "nothing"


def show_value(batch: pa.RecordBatch, column: int, row: int) -> str:
    """Show a value of a row as ``name = value``."""
    try:
        value = _values.to_values(batch.column(column).slice(row, 1))[0]
    except Misfit as misfit:
        value = misfit.value
    return f"{batch.schema.field(column).name} = {_errors.short_repr(value)}"


def groups_of(sources: Iterable[_Source]) -> Iterator[list[_Part]]:
    """Give the parts of batches that make one group, group by group."""
    waiting: list[_Part] = []
    current: int | None = None
    for source in sources:
        if source.batch.num_rows == 0:
            continue
        bounds, numbers_ = boundaries(source.batch)
        for i, number in enumerate(numbers_):
            if waiting and number != current:
                yield waiting
                waiting = []
            waiting.append(_Part(source, bounds[i], bounds[i + 1]))
            current = number
    if waiting:
        yield waiting


def boundaries(batch: pa.RecordBatch) -> tuple[list[int], list[int]]:
    """Give where the groups of a batch begin, with its end, and their numbers."""
    group = batch.column(0)
    return [0, *numbers(group.run_ends).tolist()], numbers(group.values).tolist()
