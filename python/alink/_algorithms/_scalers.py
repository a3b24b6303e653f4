"""Scalers of columns and of vectors: moments and extremes in one pass, a line for each column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._models import Model, meta_of, read_model, write_model
from ._moments import Moments, numbers

_Array = npt.NDArray[np.float64]


def _trained(params: Mapping[str, Any], group: Group) -> Moments:
    names = params["selectedCols"]
    moments = Moments(len(names))
    for batch in group:
        moments.add(numbers(batch, names))
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

    def line(self, model: Model) -> tuple[_Array, _Array]:
        """Give factors and offsets."""
        raise NotImplementedError

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
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False) * factor + offset
        mask = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        return pa.array(values, pa.float64(), mask=mask)


class Standard(_Scale):
    """By mean and standard deviation; a column of one value becomes 0."""

    def line(self, model: Model) -> tuple[_Array, _Array]:
        """Give factors and offsets."""
        mean, deviation = (np.array(json.loads(part), float) for part in model.data)
        constant = deviation == 0
        factor = np.ones(len(mean))
        if model.get("withStd"):
            factor = np.where(constant, 1.0, 1 / np.where(constant, 1.0, deviation))
        return factor, -mean * factor if model.get("withMean") else np.zeros(len(mean))


class MinMax(_Scale):
    """Onto an interval; a column of one value goes to its middle."""

    def line(self, model: Model) -> tuple[_Array, _Array]:
        """Give factors and offsets."""
        low, high = (np.array(json.loads(part), float) for part in model.data)
        smallest, largest = model.get("min"), model.get("max")
        constant = high == low
        factor = np.where(constant, 0.0, (largest - smallest) / np.where(constant, 1.0, high - low))
        middle = (largest + smallest) / 2
        return factor, np.where(constant, middle, smallest - low * factor)


class MaxAbs(_Scale):
    """By the largest absolute value; a column of zeros stays as it is."""

    def line(self, model: Model) -> tuple[_Array, _Array]:
        """Give factors and offsets."""
        largest = np.array(json.loads(model.data[0]), float)
        return np.where(largest == 0, 1.0, 1 / np.where(largest == 0, 1.0, largest)), np.zeros(
            len(largest)
        )
