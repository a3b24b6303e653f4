"""Lloyd's iterations over a block of dense points that are measured only where they may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._nearest import ROUNDING, Array, Dense, Labels, Step
from ._threads import ALONE, threads


class Course:
    """The clusters of a block's points from one iteration to the next.

    For each point there is a bound of the distance from its own centre and one of that from all
    others. Centres that have moved a little move the bounds a little; a point whose bounds do not
    meet stays where it is and is not measured (Hamerly, Making k-means even faster, 2010). The
    clusters are those that `Dense.sweep` gives.

    Parameters
    ----------
    block : Dense
    """

    def __init__(self, block: Dense) -> None:
        self._block = block
        self._centres: Array | None = None
        self._labels: npt.NDArray[Any] = np.empty(0, np.int64)
        self._upper: Array = np.empty(0)
        self._lower: Array = np.empty(0)
        self._totals: Array = np.empty((0, 0))
        self._error = 0.0

    def sweep(self, centres: Array) -> tuple[Array, Array]:
        """Give, for each centre, the sum and the number of the points nearest to it."""
        before, self._centres = self._centres, centres
        self._error = 4 * ROUNDING * float(np.einsum("ij,ij->i", centres, centres).max())
        with threads(ALONE):
            if before is None or before.shape != centres.shape:
                self._begin(centres)
            else:
                self._move(before, centres)
        return self._totals[:, :-1], self._totals[:, -1]

    def _begin(self, centres: Array) -> None:
        count = len(self._block)
        # There is one for each row of a training: no more bytes than are needed.
        self._labels = np.zeros(count, np.min_scalar_type(len(centres) - 1))
        self._upper, self._lower = np.empty(count), np.empty(count)
        self._totals = np.zeros((len(centres), self._block.size + 1))
        at = 0
        for found in self._block.steps(centres):
            end = at + len(found.part)
            self._totals += found.hits @ found.part
            self._labels[at:end] = self._numbers(found.hits)
            self._bound(slice(at, end), found)
            at = end

    def _move(self, before: Array, centres: Array) -> None:
        steps = np.sqrt(((centres - before) ** 2).sum(axis=1))
        self._upper += steps[self._labels]
        # The centre that has moved most is not among the others of its own points.
        first = int(steps.argmax())
        rest = float(np.delete(steps, first).max(initial=0.0))
        self._lower -= np.where(self._labels == first, rest, steps[first])
        reach = np.maximum(self._lower, _half_gaps(centres)[self._labels])
        suspects = np.flatnonzero(self._upper >= reach * (1 - 1e-12))
        at = 0
        for found in self._block.steps(centres, suspects):
            places = suspects[at : at + len(found.part)]
            at += len(places)
            labels = self._numbers(found.hits)
            self._bound(places, found)
            changed = np.flatnonzero(labels != self._labels[places])
            if len(changed):
                rows = found.part[changed]
                old = self._labels[places[changed]] == np.arange(len(centres))[:, None]
                self._totals += (found.hits[:, changed] - old) @ rows
                self._labels[places] = labels

    def _bound(self, places: slice | Labels, found: Step) -> None:
        """Set the bounds of points of a step; its values are changed."""
        own = self._block.squares_of(found.part, places)
        error = ROUNDING * own + self._error
        self._upper[places] = np.sqrt(np.maximum(found.least + own, 0) + error)
        self._lower[places] = np.sqrt(np.maximum(_second(found) + own - error, 0))

    def _numbers(self, hits: Array) -> npt.NDArray[Any]:
        return (np.arange(len(hits), dtype=np.float64) @ hits).astype(self._labels.dtype)


def _second(found: Step) -> Array:
    """Give the second least of each point's values, which are changed."""
    if len(found.values) == 1:
        return np.full(len(found.part), np.inf)
    np.copyto(found.values, np.inf, where=found.flags)
    return np.minimum.reduce(found.values, axis=0)


def _half_gaps(centres: Array) -> Array:
    """Give half the distance of each centre from the nearest other one, a little less."""
    lengths = np.einsum("ij,ij->i", centres, centres)
    squares = lengths[:, None] + lengths - 2 * (centres @ centres.T)
    squares -= ROUNDING * (lengths[:, None] + lengths)
    np.fill_diagonal(squares, np.inf)
    return np.sqrt(np.maximum(squares.min(axis=1), 0)) / 2
