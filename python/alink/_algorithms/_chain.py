"""Steps on batches of rows, one after the other, as one function of a worker."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from ._group import Group, Share
from ._models import BadModel
from ._strings import Unreadable
from ._threads import threads
from ._types import parse_type


class Task(Protocol):
    """What a step does to a batch.

    A task with a model has ``load`` too, called with its table. One that is asked for single
    rows often may have ``row``: see `alink._algorithms._rows`.
    """

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array] | Expansion:
        """Give the columns of its outputs, as long as the batch, or an expansion."""
        ...


class Expansion:
    """Outputs of a step that gives any number of rows for a row.

    Parameters
    ----------
    rows : array of integers
        The row of the batch that each row of the outputs is from.
    columns : sequence of arrays
    """

    __slots__ = ("columns", "rows")

    def __init__(self, rows: pa.Array, columns: Sequence[pa.Array]) -> None:
        self.rows = rows
        self.columns = columns


def _task(name: str) -> Callable[..., Any]:
    """Find what "module.name" of this package names."""
    module, _, attribute = name.partition(".")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)


def training(operator: str, task: str, params: Mapping[str, Any]) -> Callable[[Share], pa.Table]:
    """Make a training: a function of a worker's share that gives the table of a model."""
    train = _task(task)(params)

    def run(share: Share) -> pa.Table:
        with threads(share.size), named(operator):
            return train(Group(share))

    return run


@contextlib.contextmanager
def named(operator: str) -> Generator[None, None, None]:
    """Begin what is refused with the name of the operator."""
    try:
        yield
    except (BadModel, Unreadable) as error:
        raise type(error)(f"{operator}: {error}") from None


class Step:
    """A task with its place among the columns.

    Parameters
    ----------
    spec : mapping
        ``operator`` is the name for messages, ``task`` "module.name" of this package, called
        with ``params`` and the types of ``outputs``, a list of [name, type]; ``result`` names
        the columns that the step's result has, outputs and columns of its input. With ``model``
        the task is given a table.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.operator: str = spec["operator"]
        self.outputs: list[str] = [name for name, _ in spec["outputs"]]
        self.result: list[str] = spec["result"]
        self._types = [parse_type(kind) for _, kind in spec["outputs"]]
        self.task: Task = _task(spec["task"])(spec["params"], self._types)
        self.has_model: bool = spec.get("model", False)
        self._loaded: pa.Table | None = None

    def load(self, model: pa.Table) -> None:
        """Give the task its model, unless it has it."""
        if self._loaded is not model:
            with named(self.operator):
                self.task.load(model)  # type: ignore[attr-defined]
            self._loaded = model

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the columns of the step's result, of those that it is given."""
        kinds = dict(zip(self.outputs, self._types, strict=True))
        fields = [
            pa.field(name, kinds[name]) if name in kinds else given.field(name)
            for name in self.result
        ]
        return pa.schema(fields)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the step's result."""
        with named(self.operator):
            given = self.task(batch)
        columns = given.columns if isinstance(given, Expansion) else given
        outputs = dict(zip(self.outputs, columns, strict=True))
        kept = [name for name in self.result if name not in outputs]
        if isinstance(given, Expansion):
            taken = batch.select(kept).take(given.rows) if kept else None
        else:
            taken = batch
        arrays = [
            outputs[name] if name in outputs else taken.column(name)  # type: ignore[union-attr]
            for name in self.result
        ]
        return pa.RecordBatch.from_arrays(arrays, names=self.result)


class Chain:
    """Steps one after the other; called with a batch and the models of the steps that have one."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self._steps = [Step(spec) for spec in specs]

    def __call__(self, batch: pa.RecordBatch, *models: pa.Table) -> pa.RecordBatch:
        """Give the last step's result."""
        given = iter(models)
        for step in self._steps:
            if step.has_model:
                step.load(next(given))
            batch = step(batch)
        return batch
