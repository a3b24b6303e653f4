"""Correlations of columns, or of the values of vectors: Pearson's and Spearman's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._models import Model, write_model
from ._moments import BLOCK_ROWS, Array, Products, numbers
from ._strings import Unreadable
from ._vectors import read_vectors

Params = Mapping[str, Any]

#: The size of vectors that a matrix is made for: 8 GiB for a matrix of this many rows.
SIZE_MAX = 32 * 1024
_CELLS_MAX = 2**20  # of a block of rows, 8 MiB


class Matrices:
    """The rows of a worker as matrices, of columns of numbers or of a column of vectors.

    Parameters
    ----------
    rows : Group
    params : mapping
        ``selectedCols``, or ``vectorCol``. NULL among numbers is NaN; rows whose vector is NULL
        are left out.
    complete : bool, default False
        Whether rows with NULL, NaN or infinite values are refused.
    """

    def __init__(self, rows: Group, params: Params, complete: bool = False) -> None:
        self._rows = rows
        self._complete = complete
        self._names: Sequence[str] = params.get("selectedCols") or ()
        self._vector: str | None = params.get("vectorCol")
        self.size = len(self._names)
        if self._vector is not None:
            own = 0
            for batch in rows:
                vectors = read_vectors(batch, self._vector)
                valid = slice(None) if vectors.valid is None else vectors.valid
                own = max(own, int(vectors.spans[valid].max(initial=0)))
            self.size = int(rows.largest(own))
        if self.size > SIZE_MAX:
            raise Unreadable(
                f"column {self._vector!r} has vectors of size {self.size}: their matrix of pairs "
                f"is too large, at most {SIZE_MAX}"
            )

    def __iter__(self) -> Iterator[Array]:
        rows = min(BLOCK_ROWS, max(_CELLS_MAX // max(self.size, 1), 1))
        for batch in self._rows:
            for begin in range(0, batch.num_rows, rows):
                yield self._checked(batch.slice(begin, rows))

    def _checked(self, batch: pa.RecordBatch) -> Array:
        values = self._matrix(batch)
        if self._complete and not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
            self._refuse(self._vector or self._names[at])
        return values

    def _matrix(self, batch: pa.RecordBatch) -> Array:
        if self._vector is None:
            return numbers(batch, self._names)
        vectors = read_vectors(batch, self._vector)
        try:
            matrix = vectors.matrix(self.size)
        except Unreadable as error:
            raise Unreadable(f"column {self._vector!r}: {error}") from None
        if vectors.valid is None:
            return matrix
        if self._complete:
            self._refuse(self._vector)
        return matrix[vectors.valid]

    @staticmethod
    def _refuse(column: str) -> None:
        raise Unreadable(
            f"column {column!r} has NULL, NaN or infinite values: fill or leave out the rows"
        )


def products(rows: Group, matrices: Matrices) -> Products:
    """Give the products of pairs of columns over all rows."""
    found = Products(matrices.size)
    for values in matrices:
        found.add(values)
    found.together(rows)
    return found


def train(params: Params) -> Any:
    """Make the correlations: ``method`` says whether of values or of their ranks.

    Pearson's are of the rows that have both values, pair by pair; Spearman's of those that have
    all of them. Values that are equal share the mean of their ranks.
    """

    def run(rows: Group) -> pa.Table:
        matrices = Matrices(rows, params)
        if params["method"] == "PEARSON":
            found = products(rows, matrices)
        else:
            found = Products(matrices.size)
            found.add(_ranks(rows, matrices))
            found.together(rows)
        meta = {"selectedCols": params.get("selectedCols")}
        matrix = [json.dumps(row) for row in found.correlation.tolist()]
        return write_model(Model(meta, matrix))

    return run


def _ranks(rows: Group, matrices: Matrices) -> Array:
    """Give the ranks, among those of all workers, of the values of the worker's whole rows."""
    own = [values[~np.isnan(values).any(axis=1)] for values in matrices]
    values = np.concatenate(own) if own else np.empty((0, matrices.size))
    ranks = np.empty(values.shape)
    for i in range(matrices.size):
        order = np.argsort(values[:, i])
        rising = values[order, i]
        new = np.ones(len(rising), np.bool_)
        new[1:] = rising[1:] != rising[:-1]
        starts = np.flatnonzero(new)
        counts = np.diff(np.append(starts, len(rising)))
        mean = _mean_ranks(rows, rising[starts], counts)
        ranks[order, i] = np.repeat(mean, counts)
    return ranks


def _mean_ranks(rows: Group, distinct: Array, counts: npt.NDArray[np.int64]) -> Array:
    """Give the mean rank of each distinct value of a worker, among the values of all workers."""
    if rows.size == 1:
        return np.cumsum(counts) - (counts - 1) / 2
    parts = rows.gather(np.stack([distinct, counts.astype(np.float64)]).tobytes())
    every = [np.frombuffer(part).reshape(2, -1) for part in parts]
    known, where = np.unique(np.concatenate([part[0] for part in every]), return_inverse=True)
    total = np.bincount(where, np.concatenate([part[1] for part in every]), len(known))
    mean = np.cumsum(total) - (total - 1) / 2
    return mean[np.searchsorted(known, distinct)]
