"""Functions of one group at a time.

The input is sorted by a first column that numbers the groups. A group never spans two bundles,
but may span batches of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _errors, _values
from ._errors import Failure
from ._exact import Misfit
from ._gather import gathered
from ._progress import PROGRESS
from ._views import numbers
from ._whole import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
            for parts in groups_of(batches):
                PROGRESS.step()
                yield from self._group(function, parts)

        return gathered(results(), self._output)

    def _group(
        self, function: Callable[..., Any], parts: list[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        chosen = [
            pa.RecordBatch.from_arrays([part.column(i) for i in self._args], schema=self._schema)
            for part in parts
        ]
        table = pa.Table.from_batches(chosen, self._schema)
        try:
            yield from self._results(function, self._given(self._form.table, table))
        except Failure as failure:
            _tell_group(failure, self._name, f"that begins with {_first_row(chosen[0])}")
            raise


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


def groups_of(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Give the slices of batches that make one group, group by group."""
    waiting: list[pa.RecordBatch] = []
    current: int | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        bounds, numbers_ = boundaries(batch)
        for i, number in enumerate(numbers_):
            part = batch.slice(bounds[i], bounds[i + 1] - bounds[i])
            if waiting and number != current:
                yield waiting
                waiting = []
            waiting.append(part)
            current = number
    if waiting:
        yield waiting


def boundaries(batch: pa.RecordBatch) -> tuple[list[int], list[int]]:
    """Give where the groups of a batch begin, with its end, and their numbers."""
    import numpy as np

    group = numbers(batch.column(0))
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    return [*starts.tolist(), batch.num_rows], group[starts].tolist()
