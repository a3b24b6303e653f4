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

_Array = npt.NDArray[np.float64]


class Moments:
    """Counts, sums, squares and extremes of columns, NULL and NaN left out.

    Means and squares are kept about the mean of what has come, batch by batch (Chan, Golub and
    LeVeque 1983), so that large means lose nothing.
    """

    def __init__(self, size: int) -> None:
        self.count = np.zeros(size)
        self.mean = np.zeros(size)
        self.squares = np.zeros(size)
        self.low = np.full(size, np.inf)
        self.high = np.full(size, -np.inf)

    def add(self, values: _Array) -> None:
        """Take in rows, shape (rows, size)."""
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        some = np.maximum(count, 1)
        filled = np.where(known, values, 0.0)
        mean = filled.sum(axis=0) / some
        squares = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0)
        total = self.count + count
        safe = np.maximum(total, 1)
        delta = mean - self.mean
        self.squares += squares + delta**2 * self.count * count / safe
        self.mean += delta * count / safe
        self.count = total
        self.low = np.minimum(self.low, np.where(known, values, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(
            self.high, np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
        )

    def together(self, group: Group) -> None:
        """Take in what the other workers of a group have."""
        total, sums = group.sum(self.count, self.mean * self.count)
        mean = sums / np.maximum(total, 1)
        (self.squares,) = group.sum(self.squares + self.count * (self.mean - mean) ** 2)
        self.count, self.mean = total, mean
        self.low, self.high = group.least(self.low), group.largest(self.high)

    @property
    def deviation(self) -> _Array:
        """The standard deviation of each column, of a sample: n - 1 in the denominator."""
        return np.sqrt(self.squares / np.maximum(self.count - 1, 1))


def numbers(batch: pa.RecordBatch, names: Sequence[str]) -> _Array:
    """Give columns of numbers as a matrix, shape (rows, columns); NULL is NaN."""
    columns = [
        batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names
    ]
    if not columns:
        return np.empty((batch.num_rows, 0))
    return np.column_stack(columns)


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
