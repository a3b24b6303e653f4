"""Blocks of points, dense or sparse: their nearest centres, and the sums of what is near each.

Squared distances are those of points and centres as they are given; who calls moves both near the
origin first, where nothing is lost by ``|x|² − 2xc + |c|²``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._threads import ALONE, threads
from ._vectors import Vectors

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

#: Values that a step works on at a time: they stay in the processor's cache.
_STEP_VALUES = 2**17
_SPARSE_STEP_VALUES = 2**20
#: What is left of a squared distance by rounding, as a share of the squares it is made of.
ROUNDING = 4e-15


class Block(Protocol):
    """Points whose distances from centres can be had."""

    def __len__(self) -> int:
        """Tell how many points there are."""
        ...

    def nearest(self, centres: Array) -> tuple[Labels, Array]:
        """Give the number of each point's nearest centre, of equal ones the first.

        Returns
        -------
        labels, squares : arrays, shape (n,)
            Numbers, and squared distances.
        """
        ...

    def sweep(self, centres: Array) -> tuple[Array, Array]:
        """Give, for each centre, the sum and the number of the points that are nearest to it.

        Returns
        -------
        sums : array, shape (k, d)
        counts : array, shape (k,)
        """
        ...

    def products(self, directions: Array) -> Array:
        """Multiply points by directions, shape (j, d): a matrix of (n, j)."""
        ...

    def sums(self, labels: Labels, count: int, power: int = 1) -> tuple[Array, Array]:
        """Add up the points, or powers of their numbers, by labels below `count`; count them."""
        ...

    def weighted(self, weights: Array, labels: Labels, count: int) -> Array:
        """Add up the points times their weights, by labels below `count`."""
        ...

    def squared(self) -> Array:
        """Give the squared length of each point."""
        ...

    def rows(self, which: npt.NDArray[Any]) -> Array:
        """Give some of the points as a dense matrix."""
        ...


@dataclass
class Step:
    """Some points compared with centres.

    Attributes
    ----------
    part : array, shape (m, d + 1)
        The points, and a column of ones.
    values : array, shape (k, m)
        Squared distances without the squares of the points.
    least : array, shape (m,)
        The least of each point.
    flags, hits : arrays, shape (k, m)
        True, and 1, where it stands, the first of several; else False, and 0.
    """

    part: Array
    values: Array
    least: Array
    flags: npt.NDArray[np.bool_]
    hits: Array


class Dense:
    """Dense points, which stay where they lie: they may be in a file that is mapped into memory.

    Parameters
    ----------
    rows : array, shape (n, d)
    origin : array, shape (d,), optional
        Where the points have their zero; it is taken from rows whenever they are read.
    squares : array, shape (n,), optional
        What distances take for the points' squared lengths.

    Attributes
    ----------
    size : int
        d.
    """

    def __init__(
        self, rows: Array, origin: Array | None = None, squares: Array | None = None
    ) -> None:
        self._rows = rows
        self._origin = 0.0 if origin is None else origin
        self._squares = squares
        self.size = rows.shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def parts(self, count: int, which: Labels | None = None) -> Iterator[tuple[slice, Array]]:
        """Give the points, some at a time; the array is used again.

        Parameters
        ----------
        count : int
            How many at a time.
        which : array, optional
            The points, by their places; all by default.

        Yields
        ------
        span : slice
            Where they stand among all, or among `which`.
        part : array, shape (m, d + 1)
            The points, and a column of ones: products then add the squares of the centres, and
            count.
        """
        total = len(self) if which is None else len(which)
        room = np.ones((min(count, total), self.size + 1))
        for at in range(0, total, count):
            span = slice(at, min(at + count, total))
            rows = self._rows[span] if which is None else self._rows[which[span]]
            part = room[: len(rows)]
            np.subtract(rows, self._origin, out=part[:, :-1])
            yield span, part

    def squared(self) -> Array:
        """Give the squared length of each point."""
        if self._squares is not None:
            return self._squares
        squares = np.empty(len(self))
        for span, part in self.parts(_step(self.size)):
            squares[span] = self.squares_of(part, span)
        return squares

    def squares_of(self, part: Array, places: slice | Labels) -> Array:
        """Give the squared lengths of points that have been read, of their places."""
        if self._squares is not None:
            return self._squares[places]
        points = part[:, :-1]
        return np.einsum("ij,ij->i", points, points)

    def products(self, directions: Array) -> Array:
        """Multiply points by directions, shape (j, d): a matrix of (n, j)."""
        result = np.empty((len(self), len(directions)))
        for span, part in self.parts(_step(self.size + len(directions))):
            np.matmul(part[:, :-1], directions.T, out=result[span])
        return result

    def rows(self, which: npt.NDArray[Any]) -> Array:
        """Give some of the points as a dense matrix."""
        return self._rows[which] - self._origin

    def sums(self, labels: Labels, count: int, power: int = 1) -> tuple[Array, Array]:
        """Add up the points, or powers of their numbers, by labels below `count`; count them."""
        total = np.zeros((count, self.size + 1))
        places = np.arange(count)[:, None]
        for span, part in self.parts(_step(count + self.size)):
            hits = (labels[span] == places).astype(np.float64)
            total += hits @ (part if power == 1 else part**power)
        return total[:, :-1], total[:, -1]

    def weighted(self, weights: Array, labels: Labels, count: int) -> Array:
        """Add up the points times their weights, by labels below `count`."""
        total = np.zeros((count, self.size))
        places = np.arange(count)[:, None]
        for span, part in self.parts(_step(count + self.size)):
            total += np.where(labels[span] == places, weights[span], 0.0) @ part[:, :-1]
        return total

    def nearest(self, centres: Array) -> tuple[Labels, Array]:
        """Give the number of each point's nearest centre and its squared distance."""
        labels = np.empty(len(self), np.int64)
        squares = np.empty(len(self))
        numbers = np.arange(len(centres), dtype=np.float64)
        at = 0
        with threads(ALONE):
            for found in self.steps(centres):
                end = at + len(found.part)
                labels[at:end] = numbers @ found.hits
                squares[at:end] = found.least
                at = end
        return labels, _without_rounding(squares, self.squared(), centres, labels)

    def sweep(self, centres: Array) -> tuple[Array, Array]:
        """Give, for each centre, the sum and the number of the points nearest to it."""
        total = np.zeros((len(centres), self.size + 1))
        with threads(ALONE):
            for found in self.steps(centres):
                total += found.hits @ found.part
        return total[:, :-1], total[:, -1]

    def steps(self, centres: Array, which: Labels | None = None) -> Iterator[Step]:
        """Compare points with centres, some points at a time; the arrays are used again.

        Products are small: who calls has them done in one thread, as others would wait for one
        another more than they work.

        Parameters
        ----------
        centres : array, shape (k, d)
        which : array, optional
            The points, by their places; all by default.
        """
        against = np.column_stack((-2 * centres, np.einsum("ij,ij->i", centres, centres)))
        count = len(centres)
        step = _step(2 * count + self.size + 1)
        values, ones = np.empty(count * step), np.empty(count * step)
        flags, least = np.empty(count * step, np.bool_), np.empty(step)
        for _, part in self.parts(step, which):
            size = len(part)
            value = np.matmul(against, part.T, out=values[: count * size].reshape(count, size))
            best = np.minimum.reduce(value, axis=0, out=least[:size])
            flag = np.equal(value, best, out=flags[: count * size].reshape(count, size))
            hits = ones[: count * size].reshape(count, size)
            if np.count_nonzero(flag) > size:
                _keep_first(flag)
            np.copyto(hits, flag)
            yield Step(part, value, best, flag, hits)


def _step(width: int) -> int:
    return int(min(max(_STEP_VALUES // max(width, 1), 256), 8192))


def _keep_first(flags: npt.NDArray[np.bool_]) -> None:
    """Keep the first that is true in each column."""
    several = np.flatnonzero(np.count_nonzero(flags, axis=0) > 1)
    first = flags[:, several].argmax(axis=0)
    flags[:, several] = False
    flags[first, several] = True


def _without_rounding(squares: Array, own: Array, centres: Array, labels: Labels) -> Array:
    """Give squared distances of what a step gives; what rounding alone may have made is 0."""
    lengths = np.einsum("ij,ij->i", centres, centres)[labels] if len(centres) else 0.0
    result = squares + own
    return np.where(result <= ROUNDING * (own + lengths), 0.0, result)


class Sparse:
    """Sparse points.

    Parameters
    ----------
    vectors : Vectors
        Without NULL.
    size : int
        d.
    squares : array, shape (n,), optional
        What distances take for their squared lengths.
    """

    def __init__(self, vectors: Vectors, size: int, squares: Array | None = None) -> None:
        self._offsets = vectors.offsets
        self._values = vectors.values
        self._indices = vectors.indices_of_values
        self._squares = squares
        self.size = size

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def squared(self) -> Array:
        """Give the squared length of each point."""
        if self._squares is None:
            self._squares = self._by_rows(self._values**2, 0, len(self))
        return self._squares

    def _by_rows(self, values: Array, begin: int, end: int) -> Array:
        """Add up values, shape (v,) or (v, j), that begin with those of a row, by their rows."""
        starts = self._offsets[begin : end + 1] - self._offsets[begin]
        result = np.zeros((end - begin, *values.shape[1:]))
        filled = np.diff(starts) > 0
        if filled.any():
            result[filled] = np.add.reduceat(values, starts[:-1][filled], axis=0)
        return result

    def products(self, directions: Array) -> Array:
        """Multiply points by directions, shape (j, d): a matrix of (n, j)."""
        columns = np.ascontiguousarray(directions.T)
        result = np.empty((len(self), len(directions)))
        each = max(1, _SPARSE_STEP_VALUES // max(len(directions), 1))
        begin = 0
        while begin < len(self):
            limit = self._offsets[begin] + each
            end = max(begin + 1, int(np.searchsorted(self._offsets, limit, side="right")) - 1)
            span = slice(self._offsets[begin], self._offsets[end])
            parts = columns[self._indices[span]] * self._values[span, None]
            result[begin:end] = self._by_rows(parts, begin, end)
            begin = end
        return result

    def rows(self, which: npt.NDArray[Any]) -> Array:
        """Give some of the points as a dense matrix."""
        result = np.zeros((len(which), self.size))
        for place, row in enumerate(which):
            span = slice(self._offsets[row], self._offsets[row + 1])
            result[place, self._indices[span]] = self._values[span]
        return result

    def sums(self, labels: Labels, count: int, power: int = 1) -> tuple[Array, Array]:
        """Add up the points, or powers of their numbers, by labels below `count`; count them."""
        of = np.repeat(labels, np.diff(self._offsets)) * self.size + self._indices
        flat = np.bincount(of, self._values**power, count * self.size)
        counts = np.bincount(labels, minlength=count).astype(np.float64)
        return flat.astype(np.float64, copy=False).reshape(count, self.size), counts

    def weighted(self, weights: Array, labels: Labels, count: int) -> Array:
        """Add up the points times their weights, by labels below `count`."""
        lengths = np.diff(self._offsets)
        of = np.repeat(labels, lengths) * self.size + self._indices
        flat = np.bincount(of, self._values * np.repeat(weights, lengths), count * self.size)
        return flat.astype(np.float64, copy=False).reshape(count, self.size)

    def nearest(self, centres: Array) -> tuple[Labels, Array]:
        """Give the number of each point's nearest centre and its squared distance."""
        values = np.einsum("ij,ij->i", centres, centres) - 2 * self.products(centres)
        labels = values.argmin(axis=1)
        squares = values[np.arange(len(self)), labels]
        return labels, _without_rounding(squares, self.squared(), centres, labels)

    def sweep(self, centres: Array) -> tuple[Array, Array]:
        """Give, for each centre, the sum and the number of the points nearest to it."""
        return self.sums(self.nearest(centres)[0], len(centres))
