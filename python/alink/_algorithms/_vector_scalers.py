"""Scalers of vectors: as those of columns, index by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import _scalers
from ._group import Group
from ._imputers import vectors_of
from ._models import Model, meta_of, read_model, write_model
from ._moments import Moments, VectorMoments
from ._scalers import read_numbers, write_numbers
from ._vectors import Vectors, read_vectors

_Array = npt.NDArray[np.float64]
Params = Mapping[str, Any]


def _train(
    params: Params, rows: Group, settings: list[str], data: Callable[[Moments], list[_Array]]
) -> pa.Table:
    """Make a model of some of the moments of vectors, NaN left out."""
    name = params["selectedCol"]
    known = VectorMoments(name, nan_missing=True)
    for batch in rows:
        known.add(read_vectors(batch, name))
    known.together(rows)
    some = known.moments.count > 0  # what no value is known of counts as 0
    parts = [write_numbers(np.where(some, part, 0.0)) for part in data(known.moments)]
    meta = meta_of(params, ["selectedCol", *settings])
    return write_model(Model(meta, parts), columns=[(name, pa.float64())])


def train_standard(params: Params) -> Any:
    """Make the training of a standard scaler: mean and standard deviation at each index."""

    def train(rows: Group) -> pa.Table:
        return _train(params, rows, ["withMean", "withStd"], lambda m: [m.mean, m.deviation])

    return train


def train_min_max(params: Params) -> Any:
    """Make the training of a min-max scaler: the extremes at each index."""

    def train(rows: Group) -> pa.Table:
        return _train(params, rows, ["min", "max"], lambda m: [m.low, m.high])

    return train


def train_max_abs(params: Params) -> Any:
    """Make the training of a scaler by the largest absolute value at each index."""

    def train(rows: Group) -> pa.Table:
        return _train(params, rows, [], lambda m: [np.maximum(np.abs(m.low), np.abs(m.high))])

    return train


class _ScaleVectors:
    """Scales vectors by a line for each index: ``value * factor + offset``.

    Sparse vectors stay sparse where 0 stays 0 at all indices; else the result is dense.
    """

    def __init__(self, params: Params, types: Any) -> None:
        del params, types
        self._name = ""
        self._factor: _Array = np.empty(0)
        self._offset: _Array = np.empty(0)

    #: Gives factors and offsets of a model.
    line: Callable[[Model], tuple[_Array, _Array]]

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._name = table.schema.names[2]
        self._factor, self._offset = self.line(model)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the scaled vectors; NULL stays NULL, and NaN NaN."""
        vectors = vectors_of(batch, self._name)
        size = len(self._factor)
        wrong = np.where(vectors.dense, vectors.lengths != size, vectors.spans > size)
        vectors.refuse(wrong, f"is not of size {size}, as those of the training of {self._name!r}")
        if self._offset.any():
            vectors = self._dense(vectors)
        at = vectors.indices_of_values
        values = vectors.values * self._factor[at] + self._offset[at]
        return [vectors.with_values(values).to_arrow()]

    def _dense(self, vectors: Vectors) -> Vectors:
        if vectors.indices is None:
            return vectors
        count, size = len(vectors), len(self._factor)
        return Vectors.of_entries(
            vectors.rows_of_values,
            vectors.indices_of_values,
            vectors.values,
            np.full(count, size),
            np.ones(count, np.bool_),
            vectors.valid,
        )


class Standard(_ScaleVectors):
    """By mean and standard deviation; what is always one value becomes 0."""

    line = staticmethod(_scalers.standard_line)


def _min_max_line(model: Model) -> tuple[_Array, _Array]:
    factor, offset = _scalers.min_max_line(model)
    low, high = map(read_numbers, model.data)
    if model.get("min") <= 0 <= model.get("max"):
        offset = np.where((low == 0) & (high == 0), 0.0, offset)
    return factor, offset


class MinMax(_ScaleVectors):
    """Onto an interval; what is always one value goes to its middle.

    What is always 0 stays 0 where the interval has 0: it is what sparse vectors do not name.
    """

    line = staticmethod(_min_max_line)


class MaxAbs(_ScaleVectors):
    """By the largest absolute value; what is always 0 stays 0."""

    line = staticmethod(_scalers.max_abs_line)
