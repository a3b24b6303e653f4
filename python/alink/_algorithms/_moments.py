"""Moments of columns and of pairs of columns, in one pass over rows that workers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._group import Group
from ._strings import Unreadable
from ._vectors import Vectors

Array = npt.NDArray[np.float64]


class Moments:
    """Counts, means, squares and extremes of columns, NULL and NaN left out.

    Means and squares are kept about the mean of what has come, batch by batch (Chan, Golub and
    LeVeque 1983), so that large means lose nothing.
    """

    def __init__(self, size: int) -> None:
        self.count = np.zeros(size)
        self.mean = np.zeros(size)
        self.squares = np.zeros(size)
        self.low = np.full(size, np.inf)
        self.high = np.full(size, -np.inf)

    def add(self, values: Array) -> None:
        """Take in rows, shape (rows, size)."""
        size = self.count.shape
        known = ~np.isnan(values)
        if known.all():
            count = np.full(size, float(len(values)))
            mean, filled = values.sum(axis=0) / max(len(values), 1), values
            low, high = (filled.min(axis=0, initial=np.inf), filled.max(axis=0, initial=-np.inf))
        else:
            count = known.sum(axis=0).astype(np.float64)
            mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
            filled = np.where(known, values, mean)
            low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
            high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
        with np.errstate(invalid="ignore"):  # infinite values have no squares about their mean
            about = filled - mean
            squares = np.einsum("ij,ij->j", about, about)
        self.merge(count, mean, squares, low, high)

    def merge(self, count: Array, mean: Array, squares: Array, low: Array, high: Array) -> None:
        """Take in the moments of other rows."""
        total = self.count + count
        safe = np.maximum(total, 1)
        with np.errstate(invalid="ignore"):
            delta = mean - self.mean
            self.squares += squares + delta**2 * self.count * count / safe
            self.mean += delta * count / safe
        self.count = total
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def together(self, group: Group) -> None:
        """Take in what the other workers of a group have."""
        with np.errstate(invalid="ignore"):
            total, sums = group.sum(self.count, self.mean * self.count)
            mean = sums / np.maximum(total, 1)
            (self.squares,) = group.sum(self.squares + self.count * (self.mean - mean) ** 2)
        self.count, self.mean = total, mean
        self.low, self.high = group.least(self.low), group.largest(self.high)

    @property
    def variance(self) -> Array:
        """The variance of each column, of a sample: n - 1 in the denominator."""
        return self.squares / np.maximum(self.count - 1, 1)

    @property
    def deviation(self) -> Array:
        """The standard deviation of each column, of a sample: n - 1 in the denominator."""
        return np.sqrt(self.variance)


class VectorMoments:
    """Moments of vectors, index by index; what sparse vectors do not name is 0.

    Parameters
    ----------
    name : str
        The column.
    nan_missing : bool, default False
        Whether NaN is left out, as NULL is of columns. Else it is in all that it is part of.

    Attributes
    ----------
    rows : int
        How many vectors there are; NULL is none.
    size : int
        Of the largest one.
    sparse : bool
        Whether one of them is sparse.
    moments : Moments
    """

    def __init__(self, name: str, nan_missing: bool = False) -> None:
        self.name = name
        self.rows = 0
        self.size = 0
        self.sparse = False
        self.moments = Moments(0)
        self._dense = -1  # the size of dense vectors
        self._nan_missing = nan_missing

    def add(self, vectors: Vectors) -> None:
        """Take in vectors."""
        valid = np.ones(len(vectors), bool) if vectors.valid is None else vectors.valid
        count = int(valid.sum())
        if not count:
            return
        self.sparse = self.sparse or not vectors.dense[valid].all()
        self.grow(max(self.size, int(vectors.spans[valid].max())))
        dense = vectors.dense & valid
        if dense.any():
            lengths = vectors.lengths[dense]
            known = self._dense if self._dense >= 0 else int(lengths[0])
            self._dense = max(known, int(lengths.max()))
            self._refuse(min(known, int(lengths.min())), self._dense)
        if self._nan_missing and vectors.width == self.size:
            self.moments.add(vectors.values.reshape(count, self.size))
        else:
            self._add_named(vectors, count)
        self.rows += count

    def _add_named(self, vectors: Vectors, rows: int) -> None:
        at, values = vectors.indices_of_values, vectors.values
        count = np.full(self.size, float(rows))
        if self._nan_missing:
            missing = np.isnan(values)
            count -= np.bincount(at[missing], minlength=self.size)
            at, values = at[~missing], values[~missing]
        zeros = count - np.bincount(at, minlength=self.size)
        mean = np.bincount(at, values, self.size) / np.maximum(count, 1)
        squares = np.bincount(at, (values - mean[at]) ** 2, self.size) + zeros * mean**2
        low, high = np.where(zeros > 0, [[0.0], [0.0]], [[np.inf], [-np.inf]])
        np.minimum.at(low, at, values)
        np.maximum.at(high, at, values)
        self.moments.merge(count, mean, squares, low, high)

    def grow(self, size: int) -> None:
        """Take in that further indices were 0 in all rows so far."""
        if size == self.size:
            return
        grown, old = Moments(size), self.moments
        if self.rows:
            grown.count[:] = self.rows
            grown.low[:], grown.high[:] = 0.0, 0.0
        for name in ("count", "mean", "squares", "low", "high"):
            getattr(grown, name)[: self.size] = getattr(old, name)
        self.moments, self.size = grown, size

    def together(self, rows: Group) -> None:
        """Take in what the other workers have."""
        size, sparse, dense = rows.largest([self.size, self.sparse, self._dense])
        least = rows.least(self._dense if self._dense >= 0 else np.inf)
        if dense >= 0:
            self._refuse(int(least), int(size))
        self.grow(int(size))
        self.sparse = bool(sparse)
        self.moments.together(rows)
        (count,) = rows.sum(self.rows)
        self.rows = int(count)

    def _refuse(self, size: int, expected: int) -> None:
        """Raise `Unreadable` where a dense vector is of another size."""
        if size != expected:
            raise Unreadable(
                f"column {self.name!r}: a vector of size {size} stands where size {expected} is "
                "expected"
            )


class Products:
    """Products of pairs of columns about their means, over the rows that have both.

    Attributes
    ----------
    count, mean, squares, products : arrays, shape (size, size)
        At [i, j], of the rows in which neither i nor j is missing: how many there are, the mean
        of i, the sum of its squares about that mean, and that of the products of i and j about
        their means. They are merged batch by batch, as `Moments` are.
    """

    def __init__(self, size: int) -> None:
        self.count = np.zeros((size, size))
        self.mean = np.zeros((size, size))
        self.squares = np.zeros((size, size))
        self.products = np.zeros((size, size))

    def add(self, values: Array) -> None:
        """Take in rows, shape (rows, size); NaN is missing."""
        if not len(values):
            return
        known = ~np.isnan(values)
        if known.all():
            centre = values.mean(axis=0)
            about = values - centre
            products = about.T @ about
            mean = np.repeat(centre[:, None], len(centre), axis=1)
            squares = np.repeat(np.diag(products)[:, None], len(centre), axis=1)
            self._merge(np.full(products.shape, float(len(values))), mean, squares, products)
            return
        here = known.astype(np.float64)
        count = here.T @ here
        safe = np.maximum(count, 1)
        centre = np.where(known, values, 0.0).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
        about = np.where(known, values - centre, 0.0)
        shift = about.T @ here / safe  # from a column's mean to that of the rows of a pair
        squares = (about**2).T @ here - count * shift**2
        products = about.T @ about - count * shift * shift.T
        self._merge(count, shift + centre[:, None], squares, products)

    def _merge(self, count: Array, mean: Array, squares: Array, products: Array) -> None:
        total = self.count + count
        safe = np.maximum(total, 1)
        delta = mean - self.mean
        weight = self.count * count / safe
        self.squares += squares + delta**2 * weight
        self.products += products + delta * delta.T * weight
        self.mean += delta * count / safe
        self.count = total

    def together(self, group: Group) -> None:
        """Take in what the other workers of a group have."""
        total, sums = group.sum(self.count, self.mean * self.count)
        mean = sums / np.maximum(total, 1)
        delta = self.mean - mean
        self.squares, self.products = group.sum(
            self.squares + self.count * delta**2,
            self.products + self.count * delta * delta.T,
        )
        self.count, self.mean = total, mean

    @property
    def flat(self) -> npt.NDArray[np.bool_]:
        """Where a column has one value: what is left of its squares is rounding."""
        return self.squares <= (self.count * self.mean * np.finfo(np.float64).eps) ** 2

    @property
    def covariance(self) -> Array:
        """The covariances, of a sample: n - 1 in the denominator."""
        return self.products / np.maximum(self.count - 1, 1)

    @property
    def correlation(self) -> Array:
        """Pearson's correlations; NaN with a column of one value, and 1 with itself."""
        scale = np.sqrt(self.squares) * np.sqrt(self.squares.T)
        flat = self.flat | self.flat.T
        result = np.where(flat, np.nan, self.products / np.where(flat, 1.0, scale))
        np.fill_diagonal(result, 1.0)
        return np.clip(result, -1.0, 1.0)


#: Rows of a block: so that what is computed of it stays in the processor's cache.
BLOCK_ROWS = 8192


def blocks(rows: Group, names: Sequence[str]) -> Iterator[Array]:
    """Give a worker's columns of numbers as matrices of some rows each; NULL is NaN."""
    for batch in rows:
        for begin in range(0, batch.num_rows, BLOCK_ROWS):
            yield numbers(batch.slice(begin, BLOCK_ROWS), names)


def numbers(batch: pa.RecordBatch, names: Sequence[str]) -> Array:
    """Give columns of numbers as a matrix, shape (rows, columns); NULL is NaN."""
    columns = [numpy_of(batch.column(name).cast(pa.float64(), safe=False)) for name in names]
    if not columns:
        return np.empty((batch.num_rows, 0))
    return np.column_stack(columns)
