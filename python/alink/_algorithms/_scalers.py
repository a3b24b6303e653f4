"""Scalers of columns and of vectors: moments and extremes in one pass, a line for each column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._group import Group
from ._models import Model, meta_of, read_model, write_model
from ._moments import Moments, blocks

_Array = npt.NDArray[np.float64]


def _trained(params: Mapping[str, Any], group: Group) -> Moments:
    names = params["selectedCols"]
    moments = Moments(len(names))
    for values in blocks(group, names):
        moments.add(values)
    moments.together(group)
    return moments


def _columns(params: Mapping[str, Any]) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.float64()) for name in params["selectedCols"]]


def train_standard(params: Mapping[str, Any]) -> Any:
    """Make the training of a standard scaler: mean and standard deviation of each column."""

    def train(rows: Group) -> pa.Table:
        moments = _trained(params, rows)
        meta = meta_of(params, ["selectedCols", "withMean", "withStd"])
        data = [moments.mean.tolist(), moments.deviation.tolist()]
        model = Model(meta, [json.dumps(part) for part in data])
        return write_model(model, columns=_columns(params))

    return train


def train_min_max(params: Mapping[str, Any]) -> Any:
    """Make the training of a min-max scaler: the extremes of each column."""

    def train(rows: Group) -> pa.Table:
        moments = _trained(params, rows)
        meta = meta_of(params, ["selectedCols", "min", "max"])
        none = moments.count == 0
        low, high = np.where(none, 0.0, moments.low), np.where(none, 0.0, moments.high)
        model = Model(meta, [json.dumps(low.tolist()), json.dumps(high.tolist())])
        return write_model(model, columns=_columns(params))

    return train


def train_max_abs(params: Mapping[str, Any]) -> Any:
    """Make the training of a scaler by the largest absolute value of each column."""

    def train(rows: Group) -> pa.Table:
        moments = _trained(params, rows)
        none = moments.count == 0
        largest = np.where(none, 0.0, np.maximum(np.abs(moments.low), np.abs(moments.high)))
        meta = meta_of(params, ["selectedCols"])
        model = Model(meta, [json.dumps(largest.tolist())])
        return write_model(model, columns=_columns(params))

    return train


class _Scale:
    """Scales columns by a line each: ``value * factor + offset``."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._names: list[str] = []
        self._factor: _Array = np.empty(0)
        self._offset: _Array = np.empty(0)

    #: Gives factors and offsets of a model.
    line: Callable[[Model], tuple[_Array, _Array]]

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._names = table.schema.names[2:]  # Alink's models name them nowhere else
        self._factor, self._offset = self.line(model)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the scaled columns; NULL stays NULL, and NaN NaN."""
        return [
            self._column(batch.column(name), factor, offset)
            for name, factor, offset in zip(self._names, self._factor, self._offset, strict=True)
        ]

    def row(self, names: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Give what computes the scaled values of one row."""
        places = [names.index(name) for name in self._names]
        lines = list(zip(places, self._factor.tolist(), self._offset.tolist(), strict=True))

        def scaled(values: Sequence[Any]) -> Sequence[Any]:
            return [
                None if (value := values[at]) is None else value * factor + offset
                for at, factor, offset in lines
            ]

        return scaled

    @staticmethod
    def _column(column: pa.Array, factor: float, offset: float) -> pa.Array:
        values = numpy_of(column.cast(pa.float64())) * factor + offset
        mask = numpy_of(column.is_null()) if column.null_count else None
        return pa.array(values, pa.float64(), mask=mask)


def write_numbers(values: _Array) -> str:
    """Write numbers as a list, or, where most of them are 0, as the others with their places."""
    some = np.flatnonzero(values)
    if 2 * len(some) >= len(values):
        return json.dumps(values.tolist())
    sparse = {"size": len(values), "indices": some.tolist(), "values": values[some].tolist()}
    return json.dumps(sparse)


def read_numbers(text: str) -> _Array:
    """Read what `write_numbers` has written."""
    given = json.loads(text)
    if not isinstance(given, dict):
        return np.array(given, np.float64)
    values = np.zeros(given["size"])
    values[given["indices"]] = given["values"]
    return values


def standard_line(model: Model) -> tuple[_Array, _Array]:
    """Give factors and offsets by mean and standard deviation."""
    mean, deviation = map(read_numbers, model.data)
    constant = deviation == 0
    factor = np.ones(len(mean))
    if model.get("withStd"):
        factor = np.where(constant, 1.0, 1 / np.where(constant, 1.0, deviation))
    return factor, -mean * factor if model.get("withMean") else np.zeros(len(mean))


def min_max_line(model: Model) -> tuple[_Array, _Array]:
    """Give factors and offsets onto an interval."""
    low, high = map(read_numbers, model.data)
    smallest, largest = model.get("min"), model.get("max")
    constant = high == low
    factor = np.where(constant, 0.0, (largest - smallest) / np.where(constant, 1.0, high - low))
    middle = (largest + smallest) / 2
    return factor, np.where(constant, middle, smallest - low * factor)


def max_abs_line(model: Model) -> tuple[_Array, _Array]:
    """Give factors and offsets by the largest absolute value."""
    largest = read_numbers(model.data[0])
    return 1 / np.where(largest == 0, 1.0, largest), np.zeros(len(largest))


class Standard(_Scale):
    """By mean and standard deviation; a column of one value becomes 0."""

    line = staticmethod(standard_line)


class MinMax(_Scale):
    """Onto an interval; a column of one value goes to its middle."""

    line = staticmethod(min_max_line)


class MaxAbs(_Scale):
    """By the largest absolute value; a column of zeros stays as it is."""

    line = staticmethod(max_abs_line)
