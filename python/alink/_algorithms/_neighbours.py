"""Points within a distance of others, without comparing all with all.

Points are sorted into strips along the axis on which they vary most, and along the next one within
a strip. A few that lie together are compared with those of three strips that are near enough along
the second axis: some at a time, so that no matrix of all pairs is ever made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ._nearest import ROUNDING, Array
from ._spaces import RADIUS_KM, on_sphere, to_unit

Places = npt.NDArray[np.int64]

_ROWS = 64  # that are compared together
_CANDIDATES = 2**15
_STRIPS_MAX = 2**20
_DIRECT_SIZE_MAX = 8  # of points whose differences are taken one by one


class Metric:
    """A distance, as one between points that have axes.

    Parameters
    ----------
    name : str
        EUCLIDEAN, COSINE, CITYBLOCK or HAVERSINE.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: Distances are sums of differences, not roots of their squares' sums.
        self.summed = name == "CITYBLOCK"

    def points(self, rows: Array) -> Array:
        """Give the points of rows."""
        if self.name == "HAVERSINE":
            return on_sphere(rows)
        if self.name == "COSINE":
            # Zeros have a direction of their own, at a right angle to all others.
            zero = ~rows.any(axis=1)
            return np.column_stack((to_unit(rows), zero.astype(np.float64)))
        return rows

    def reach(self, distance: float) -> float:
        """Give how far points are apart that have a distance."""
        if self.name == "HAVERSINE":
            return 2.0 * float(np.sin(min(distance / (2 * RADIUS_KM), np.pi / 2)))
        return float(np.sqrt(2 * distance)) if self.name == "COSINE" else distance

    def distance(self, apart: Array) -> Array:
        """Give the distances of points that are so far apart."""
        if self.name == "HAVERSINE":
            return 2 * RADIUS_KM * np.arcsin(np.minimum(apart / 2, 1.0))
        return apart**2 / 2 if self.name == "COSINE" else apart

    def between(self, one: Array, other: Array) -> Array:
        """Give how far points are apart, shape (n, m)."""
        if self.summed or one.shape[1] <= _DIRECT_SIZE_MAX:
            total = np.zeros((len(one), len(other)))
            for axis in range(one.shape[1]):
                difference = np.subtract.outer(one[:, axis], other[:, axis])
                total += np.abs(difference) if self.summed else difference**2
            return total if self.summed else np.sqrt(total)
        middle = one.mean(axis=0)
        one, other = one - middle, other - middle
        lengths = np.einsum("ij,ij->i", one, one)[:, None] + np.einsum("ij,ij->i", other, other)
        squares = lengths - 2 * (one @ other.T)
        near, far = np.nonzero(squares <= 1e6 * ROUNDING * lengths)
        # What little is left of large squares is no distance: differences are taken.
        squares[near, far] = ((one[near] - other[far]) ** 2).sum(axis=1)
        return np.sqrt(np.maximum(squares, 0))


class Neighbours:
    """Points that are looked for around others.

    Parameters
    ----------
    points : array, shape (n, d)
        As `Metric.points` gives them.
    metric : Metric
    distance : float
        How near they have to be.
    """

    def __init__(self, points: Array, metric: Metric, distance: float) -> None:
        self._metric = metric
        # A little more, since what is on the edge belongs to it.
        self.reach = metric.reach(distance) * (1 + 1e-12)
        spread = points.var(axis=0) if len(points) else np.zeros(points.shape[1])
        axes = np.argsort(-spread, kind="stable")
        self._first = int(axes[0]) if len(axes) else 0
        self._second = int(axes[min(1, len(axes) - 1)]) if len(axes) else 0
        along = points[:, self._first]
        self._low = float(along.min()) if len(points) else 0.0
        extent = float(along.max()) - self._low if len(points) else 0.0
        self._width = max(self.reach, extent / _STRIPS_MAX) or 1.0
        strips = self._strips(points)
        self._order = np.lexsort((points[:, self._second], strips))
        self._points = points[self._order]
        self._across = self._points[:, self._second]
        self._ends = np.searchsorted(strips[self._order], np.arange(strips.max(initial=-1) + 2))

    def _strips(self, points: Array) -> Places:
        along = (points[:, self._first] - self._low) / self._width
        most = float(_STRIPS_MAX + 2)
        return np.floor(np.clip(along, -2.0, most)).astype(np.int64)

    def around(self, points: Array) -> Iterator[tuple[Places, Places, Array]]:
        """Give, for some of other points at a time, what may be near, and how far it is.

        Yields
        ------
        rows, candidates, apart
            Places of points that are asked about, of those that are looked for, and how far they
            are apart, shape (rows, candidates). Rows come again with further candidates.
        """
        strips = self._strips(points)
        order = np.lexsort((points[:, self._second], strips))
        sorted_strips = strips[order]
        bounds = np.flatnonzero(np.diff(sorted_strips, prepend=-3, append=_STRIPS_MAX + 9))
        for begin, end in itertools.pairwise(bounds):
            strip = int(sorted_strips[begin])
            for at in range(int(begin), int(end), _ROWS):
                rows = order[at : min(at + _ROWS, int(end))]
                yield from self._compared(rows, points[rows], strip)

    def _compared(
        self, rows: Places, points: Array, strip: int
    ) -> Iterator[tuple[Places, Places, Array]]:
        across = points[:, self._second]
        low, high = float(across.min()) - self.reach, float(across.max()) + self.reach
        found: list[Places] = []
        for near in range(max(strip - 1, 0), min(strip + 2, len(self._ends) - 1)):
            begin, end = int(self._ends[near]), int(self._ends[near + 1])
            span = self._across[begin:end]
            first = begin + int(np.searchsorted(span, low, side="left"))
            last = begin + int(np.searchsorted(span, high, side="right"))
            found.append(np.arange(first, last))
        candidates = np.concatenate(found) if found else np.empty(0, np.int64)
        for at in range(0, len(candidates), _CANDIDATES):
            some = candidates[at : at + _CANDIDATES]
            apart = self._metric.between(points, self._points[some])
            yield rows, self._order[some], apart


class Nearest:
    """The nearest of points within a distance, and their labels.

    Parameters
    ----------
    points : array, shape (n, d)
    labels : array of int64, shape (n,)
    metric : Metric
    distance : float
    """

    def __init__(self, points: Array, labels: Places, metric: Metric, distance: float) -> None:
        self._neighbours = Neighbours(points, metric, distance)
        self._labels = labels

    def of(self, points: Array, nothing: int) -> tuple[Places, Array]:
        """Give the label of the nearest point, of equal ones the least, and how far it is.

        Where none is near enough the label is `nothing`, and how far it is infinite.
        """
        labels = np.full(len(points), nothing, np.int64)
        least: npt.NDArray[Any] = np.full(len(points), np.inf)
        for rows, candidates, apart in self._neighbours.around(points):
            best = apart.min(axis=1)
            known = self._labels[candidates]
            label = np.where(apart == best[:, None], known, np.iinfo(np.int64).max).min(axis=1)
            near = best <= self._neighbours.reach
            better = near & (
                (best < least[rows]) | ((best == least[rows]) & (label < labels[rows]))
            )
            labels[rows[better]] = label[better]
            least[rows[better]] = best[better]
        return labels, least
