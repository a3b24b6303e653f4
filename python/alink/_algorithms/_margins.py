"""Features of batches times the weights of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Dense, Sparse, floats
from ._moments import numbers
from ._strings import Unreadable
from ._vectors import read_vectors

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Rows that are brought together at a time: at 20 features 1.3 MB, which a cache holds.
_ROWS = 8192


def features_of(
    batch: pa.RecordBatch, vector: str | None, names: Sequence[str], size: int
) -> tuple[Dense | Sparse, Flags]:
    """Give the features of a batch, and in which rows one is missing."""
    if vector is None:
        values = numbers(batch, names)
        return Dense(values), np.asarray(np.isnan(values).any(axis=1), np.bool_)
    vectors = read_vectors(batch, vector)
    known = vectors.valid
    missing = np.zeros(len(vectors), np.bool_) if known is None else ~known
    if vectors.known_size > size:
        raise Unreadable(
            f"a vector in {vector!r} has size {vectors.known_size}, the model {size} features"
        )
    if vectors.indices is None:
        return Dense(vectors.matrix(size)), missing
    return Sparse(vectors, size), missing


class Margins:
    """Weights of some columns, or of a column of vectors, and an intercept.

    Parameters
    ----------
    features : mapping
        ``vectorCol`` or ``featureCols``.
    weights : array, shape (d,) or (d, k)
    intercept : float or array of shape (k,)
    """

    def __init__(self, features: Mapping[str, Any], weights: Array, intercept: Any) -> None:
        self._vector: str | None = features.get("vectorCol")
        self._names: Sequence[str] = features.get("featureCols") or []
        self._weights = weights
        self._intercept = intercept
        # Of a feature without weight a NaN need not show in the margin.
        unseen = weights == 0
        self._unseen = np.flatnonzero(unseen if weights.ndim == 1 else unseen.any(axis=1))
        self._matrix = np.empty((0, 0))

    def __call__(self, batch: pa.RecordBatch) -> tuple[Array, Flags]:
        """Give a margin for each row (0 where one is missing), and whether it is missing."""
        if self._vector is None:
            margins, missing = self._of_columns(batch)
        else:
            features, missing = features_of(batch, self._vector, (), len(self._weights))
            margins = features.times(self._weights) + self._intercept
        margins[missing] = 0.0
        return margins, missing

    def _of_columns(self, batch: pa.RecordBatch) -> tuple[Array, Flags]:
        """Multiply columns by the weights, some rows at a time, in memory that is kept."""
        columns = [floats(batch.column(name), name) for name in self._names]
        rows = batch.num_rows
        margins = np.empty((rows, *self._weights.shape[1:]))
        missing = np.zeros(rows, np.bool_)
        if not self._matrix.size and columns:
            self._matrix = np.empty((len(columns), _ROWS))
        for begin in range(0, rows, _ROWS):
            part = slice(begin, min(begin + _ROWS, rows))
            matrix = self._matrix[:, : part.stop - begin]
            for place, column in enumerate(columns):
                matrix[place] = column[part]
            with np.errstate(invalid="ignore"):  # of infinite features
                found = matrix.T @ self._weights if columns else np.zeros_like(margins[part])
                found += self._intercept
            margins[part] = found
            lost = np.isnan(found if found.ndim == 1 else found.sum(axis=1))
            if lost.any():  # of a NaN, or of infinite ones that cancel out
                lost[lost] = np.isnan(matrix[:, lost]).any(axis=0)
            for place in self._unseen:
                lost |= np.isnan(matrix[place])
            missing[part] = lost
        return margins, missing
