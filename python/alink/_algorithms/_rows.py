"""Steps on single rows, one after the other: what a local predictor does with a row.

A row is a list of Python's values, a vector among them as a column has it: a dict of ``size``,
``indices`` and ``values``. A task that has a method ``row`` computes its outputs of such a list,
without a batch. ``row(names)`` is given the names of the columns, after the model, and gives a
function from the values to those of the outputs, or None where it has none for these columns.
Steps whose tasks have no such method get a batch of one row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._chain import Step
from ._strings import Unreadable

#: Gives the values of a row's next form.
RowStep = Callable[[Sequence[Any]], Sequence[Any]]


class Rowwise:
    """A task of a function of batches and one of rows.

    Parameters
    ----------
    run : callable
        Gives the outputs of a batch.
    row : callable
        Makes, of the names of the columns, the function of a row's values.
    """

    def __init__(
        self,
        run: Callable[[pa.RecordBatch], Sequence[pa.Array]],
        row: Callable[[Sequence[str]], RowStep | None],
    ) -> None:
        self._run = run
        self.row = row

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs of a batch."""
        return self._run(batch)


class RowChain:
    """Steps on rows.

    Parameters
    ----------
    schema : pyarrow.Schema
        The columns of the rows.
    specs : sequence of mapping
        As `alink._algorithms._chain.Step` takes them.
    models : sequence of Table
        Those of the steps that have one, in their order.
    """

    def __init__(
        self, schema: pa.Schema, specs: Sequence[Mapping[str, Any]], models: Sequence[pa.Table]
    ) -> None:
        self._steps: list[RowStep] = []
        given = iter(models)
        first, together = schema, list[Step]()
        for spec in specs:
            step = Step(spec)
            if step.has_model:
                step.load(next(given))
            single = _row_step(step, schema)
            if single is None:
                together.append(step)
            else:
                if together:
                    self._steps.append(_batch_of_one(first, together))
                    together = []
                self._steps.append(single)
            schema = step.schema(schema)
            if not together:
                first = schema
        if together:
            self._steps.append(_batch_of_one(first, together))

    def __call__(self, values: Sequence[Any]) -> Sequence[Any]:
        """Give the values of the last step's result."""
        for step in self._steps:
            values = step(values)
        return values


def _row_step(step: Step, schema: pa.Schema) -> RowStep | None:
    make = getattr(step.task, "row", None)
    compute: RowStep | None = None if make is None else make(schema.names)
    if compute is None:
        return None
    places = {name: i for i, name in enumerate(schema.names)}
    places |= {name: len(schema) + i for i, name in enumerate(step.outputs)}
    wanted = [places[name] for name in step.result]
    if wanted == list(range(len(schema) + len(step.outputs))):

        def append(values: Sequence[Any]) -> Sequence[Any]:
            try:
                return [*values, *compute(values)]
            except Unreadable as error:
                raise Unreadable(f"{step.operator}: {error}") from None

        return append
    pick: Callable[[list[Any]], Any] = operator.itemgetter(*wanted)

    def run(values: Sequence[Any]) -> Sequence[Any]:
        try:
            picked = pick([*values, *compute(values)])
        except Unreadable as error:
            raise Unreadable(f"{step.operator}: {error}") from None
        return picked if len(wanted) > 1 else (picked,)

    return run


def _batch_of_one(schema: pa.Schema, steps: Sequence[Step]) -> RowStep:
    kinds = schema.types
    name = steps[-1].operator

    def run(values: Sequence[Any]) -> Sequence[Any]:
        arrays = [pa.array([value], kind) for value, kind in zip(values, kinds, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        for step in steps:
            batch = step(batch)
        if batch.num_rows != 1:
            raise Unreadable(f"{name} gives {batch.num_rows} rows for one: map a batch instead")
        return [column[0].as_py() for column in batch.columns]

    return run
