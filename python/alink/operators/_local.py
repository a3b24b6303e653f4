"""Local predictors: trained pipelines that run in the client's process, without an engine.

Where a stage is SQL, or needs a library that only an engine's workers have, the rows go through
the whole pipeline in an engine instead.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._strings import Unreadable
from alink._algorithms._types import (
    MTABLE,
    TENSOR,
    VECTOR,
    flink_name,
    is_kind,
    shown_schema,
    type_name,
)
from alink._diag import quote
from alink._options import bad_option
from alink._plan import Node
from alink._table import Table
from alink.operators import _frame
from alink.operators._linalg import vector_cell
from alink.operators._mapping import Steps
from alink.operators._session import session
from alink.operators._stages import PipelineModel, Transformer
from alink.operators._tensor_values import Tensor
from alink.operators._values import MTable, of_cell

_BATCH_ROWS = 8192
_NAME = "LocalPredictor"


class _NeedsEngine(Exception):
    """A stage does what is not done in the client."""


class LocalTable(Table):
    """Rows in the client, and the steps that are done to them: what stands for a table here.

    Stages are applied to it as to any table; it writes down their steps. What only an engine
    can do raises `_NeedsEngine`.
    """

    __slots__ = ("models", "rows", "specs")

    def __init__(self, schema: pa.Schema, rows: pa.Table | None = None) -> None:
        self._node = Node("local", schema=schema)
        #: The rows, of a model.
        self.rows = rows
        #: The steps, as `alink._algorithms._chain.Step` takes them, and their models.
        self.specs: list[Mapping[str, Any]] = []
        self.models: list[pa.Table] = []

    @property
    def _context(self) -> Any:
        raise _NeedsEngine

    def _derive(self, op: str, args: Mapping[str, Any], *others: Node) -> Table:
        del op, args, others
        raise _NeedsEngine

    def cache(self) -> Table:
        """Give the same: the rows are here."""
        return self

    def map_batches(
        self, function: Any, *, tables: Mapping[str, Table] | None = None
    ) -> LocalTable:
        """Write down steps."""
        if not isinstance(function, Steps) or not function.computes_only:
            raise _NeedsEngine
        after = LocalTable(function.result)
        # As they would come to a worker.
        after.specs = [*self.specs, *json.loads(json.dumps(function.specs))]
        after.models = list(self.models)
        for name in function.tables:
            model = (tables or {})[name]
            assert isinstance(model, LocalTable)
            assert model.rows is not None
            after.models.append(model.rows)
        return after


class LocalPredictor:
    """A trained pipeline that maps rows in this process, without an engine.

    One of whose stages is SQL, or needs a library that the client has not, maps them in an engine,
    which takes milliseconds for each call.

    Parameters
    ----------
    model : str, path, or trained stage
        A file of `PipelineModel.save`, or a trained stage or pipeline.
    schemaStr : str
        The names and types of the columns of the rows, ``"x double, v vector"``.
    params : optional
        Not used; PyAlink has it for streams of models.

    Examples
    --------
    ``LocalPredictor("model.ak", "x double, y double").map([1.0, 2.0])``
    """

    def __init__(self, model: Any, schemaStr: str, params: Any = None) -> None:
        del params
        from alink.operators._base import read_schema
        from alink.operators._saved import load_model

        if importlib.util.find_spec("numpy") is None:
            raise bad_option(_NAME, f"{_NAME} needs numpy", "pip install numpy")
        if isinstance(model, (str, os.PathLike)):
            model = load_model(_NAME, model)
        if not isinstance(model, Transformer):
            raise bad_option(
                _NAME,
                f"{_NAME} takes a path or a trained stage, not {model!r:.60}",
                'write LocalPredictor("model.ak", "x double")',
            )
        self._input = read_schema(_NAME, schemaStr)
        stages = _with_models(model)
        self._engine: _InEngine | None = None
        self._specs: list[Mapping[str, Any]] = []
        self._models: list[pa.Table] = []
        try:
            applied = _applied(stages, self._input)
        except _NeedsEngine:
            self._engine = _InEngine(stages)
            self._output = self._engine.schema(self._input)
        else:
            self._output = applied.schema
            self._specs, self._models = applied.specs, applied.models
        self._readers = [_reader(field.type) for field in self._input]
        self._writers = [(i, w) for i, f in enumerate(self._output) if (w := _writer(f.type))]
        self._row: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        self._chain: Callable[..., pa.RecordBatch] | None = None

    # --- columns ---

    def getOutputColNames(self) -> list[str]:
        """Give the names of the columns of what `map` gives."""
        return list(self._output.names)

    def getOutputColTypes(self) -> list[str]:
        """Give the types of the columns of what `map` gives."""
        return [flink_name(kind) for kind in self._output.types]

    def getOutputSchemaStr(self) -> str:
        """Give the columns of what `map` gives as a string, ``"x DOUBLE, pred DOUBLE"``."""
        return shown_schema(self._output)

    # --- rows ---

    def map(self, values: Any) -> Any:
        """Map a row.

        Parameters
        ----------
        values : sequence or numpy.ndarray
            A value for each column of the schema; None is NULL. Vectors may be texts.

        Returns
        -------
        numpy.ndarray
            The values of the output's columns, as objects.
        """
        import numpy as np

        if (run := self._row) is None:
            run = self._row = self._row_chain()
        if hasattr(values, "ndim"):
            values = values.tolist()
        try:
            given = [
                None if value is None else read(value)
                for read, value in zip(self._readers, values, strict=True)
            ]
        except (TypeError, ValueError, AttributeError, ArithmeticError):
            raise self._misfit(values) from None
        try:
            found = run(given)
        except ValueError as error:
            raise _failed(error) from None
        if self._writers:
            written = list(found)
            for at, write in self._writers:
                written[at] = None if written[at] is None else write(written[at])
            found = written
        return np.fromiter(found, dtype=object, count=len(found))

    def predict(self, *values: Any) -> Any:
        """Map a row, as `map` does; its values may also be given one by one."""
        one = len(values) == 1 and not isinstance(values[0], str) and hasattr(values[0], "__len__")
        return self.map(values[0] if one else values)

    def mapBatch(self, rows: Any) -> Any:
        """Map many rows at once, which is faster for each of them.

        Parameters
        ----------
        rows : DataFrame, pyarrow.Table, or sequence of rows
            The columns are taken by position.

        Returns
        -------
        DataFrame, pyarrow.Table or list of numpy.ndarray
            The same kind of what was given. A DataFrame is as `collectToDataframe` gives one.
        """
        if isinstance(rows, (pa.Table, pa.RecordBatch)):
            table = pa.table(rows) if isinstance(rows, pa.RecordBatch) else rows
            if table.num_columns != len(self._input):
                raise self._misfit(table.column_names)
            return self._mapped(table.rename_columns(self._input.names).cast(self._input))
        if hasattr(rows, "iloc"):
            given = _frame.from_pandas(_NAME, rows, self._input)
            return _frame.to_pandas(self._mapped(given))
        return [self.map(row) for row in rows]

    def open(self) -> None:
        """Do nothing: PyAlink's programs may call it."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def __repr__(self) -> str:
        return f"<LocalPredictor {shown_schema(self._input)} -> {shown_schema(self._output)}>"

    def _row_chain(self) -> Callable[[Sequence[Any]], Sequence[Any]]:
        if self._engine is not None:
            return self._engine.row_step(self._input)
        from alink._algorithms._rows import RowChain

        return self._told(lambda: RowChain(self._input, self._specs, self._models))

    def _mapped(self, table: pa.Table) -> pa.Table:
        if self._engine is not None:
            return self._engine.mapped(table).cast(self._output)
        if self._chain is None:
            from alink._algorithms._chain import Chain

            self._chain = Chain(self._specs)
        chain = self._chain
        batches = self._told(lambda: [chain(batch, *self._models) for batch in _batches(table)])
        return pa.Table.from_batches(batches).cast(self._output)

    @staticmethod
    def _told(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except ValueError as error:
            raise _failed(error) from None

    def _misfit(self, values: Sequence[Any]) -> Exception:
        """Tell which value does not fit its column."""
        if len(values) != len(self._input):
            return bad_option(
                _NAME,
                f"{_NAME}: the row has {len(values)} values, the schema {len(self._input)} columns",
                f"they are: {shown_schema(self._input)}",
            )
        for field, read, value in zip(self._input, self._readers, values, strict=True):
            try:
                if value is not None:
                    read(value)
            except (TypeError, ValueError, AttributeError, ArithmeticError):
                return bad_option(
                    _NAME,
                    f"{_NAME}: {value!r:.60} is no value of column {quote(field.name)}",
                    f"it is of type {type_name(field.type)}",
                )
        raise AssertionError("a row that does not fit has a value that does not")


def _failed(error: ValueError) -> Exception:
    return bad_option(_NAME, f"{_NAME}: {error}")


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    if not table.num_rows:
        yield pa.RecordBatch.from_pylist([], schema=table.schema)
    yield from table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)


# --- stages ---


def leaves(stage: Transformer) -> Iterator[Transformer]:
    """Give the stages that a trained pipeline consists of, and those of pipelines within it."""
    if not isinstance(stage, PipelineModel):
        yield stage
        return
    for part in stage._parts():
        yield from leaves(part)


def _with_models(model: Transformer) -> list[Transformer]:
    """Give the stages of a trained pipeline; those that have models have their rows here."""
    from alink.operators._training import TrainedModel, collected

    stages = list(leaves(model))
    models = collected([s for s in stages if isinstance(s, TrainedModel)])
    return [
        copy.copy(s)._with_rows(models[id(s)]) if isinstance(s, TrainedModel) else s for s in stages
    ]


def _applied(stages: Sequence[Transformer], schema: pa.Schema) -> LocalTable:
    """Write down the steps of trained stages."""
    from alink.operators._training import TrainedModel

    table = LocalTable(schema)
    for stage in stages:
        here = stage
        if isinstance(stage, TrainedModel):
            rows = stage._rows
            assert rows is not None
            here = copy.copy(stage)
            here._with(LocalTable(rows.schema, rows))
        after = here._transformed(table)
        assert isinstance(after, LocalTable)
        table = after
    return table


class _InEngine:
    """Trained stages that are applied in the engine of the session, which starts if need be."""

    def __init__(self, stages: Sequence[Transformer]) -> None:
        self._stages = stages

    def _table(self, rows: pa.Table) -> Table:
        table: Table = session().context.from_arrow(rows)
        for stage in self._stages:
            table = stage._transformed(table)
        return table

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the columns of what the stages give for rows of these."""
        return self._table(given.empty_table()).schema

    def mapped(self, rows: pa.Table) -> pa.Table:
        """Apply the stages."""
        return self._table(rows).to_arrow()

    def row_step(self, given: pa.Schema) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Give what applies the stages to a row."""

        def run(values: Sequence[Any]) -> Sequence[Any]:
            arrays = [pa.array([v], kind) for v, kind in zip(values, given.types, strict=True)]
            found = self.mapped(pa.Table.from_arrays(arrays, schema=given))
            if found.num_rows != 1:
                raise bad_option(
                    _NAME,
                    f"{_NAME}: the pipeline gives {found.num_rows} rows for one",
                    "map rows with mapBatch instead",
                )
            return [column[0].as_py() for column in found.columns]

        return run


# --- values ---


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int | None:
    if value != value:  # NaN, where an array of numbers has no value
        return None
    number = int(value)
    if number != value or isinstance(value, str):
        raise ValueError
    return number


def _vector(value: Any) -> Any:
    try:
        return vector_cell(value)
    except Unreadable:
        raise ValueError from None


def _cell(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: (parse(value) if isinstance(value, str) else value).to_cell()


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    """Give what makes of a program's value the one that a row has."""
    if pa.types.is_float64(kind):
        return float
    if pa.types.is_float32(kind):
        return lambda value: pa.scalar(float(value), pa.float32()).as_py()
    if pa.types.is_integer(kind):
        return _whole
    if pa.types.is_boolean(kind):
        return bool
    if pa.types.is_string(kind):
        return _text
    if is_kind(kind, VECTOR):
        return _vector
    if is_kind(kind, TENSOR):
        return _cell(Tensor.parse)
    if is_kind(kind, MTABLE):
        return _cell(MTable.fromJson)
    return lambda value: pa.scalar(value, kind).as_py()


def _writer(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Give what makes of a row's value the one that a program gets; None leaves it."""
    if any(is_kind(kind, special) for special in (VECTOR, TENSOR, MTABLE)):
        return lambda value: of_cell(kind, value)
    return None
