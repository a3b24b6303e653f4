"""Searches that learn from what they have tried: where to look next for a larger metric.

A point is a place between 0 and 1 in each dimension: the probability below which a parameter's
value lies. A Gaussian process (GP) with a Matérn kernel of smoothness 5/2, whose length and noise
are those of the largest likelihood on a grid, gives the point with the largest expected
improvement [Snoek, Larochelle and Adams, Practical Bayesian optimization of machine learning
algorithms, NIPS 2012]. A tree-structured Parzen estimator (TPE) draws, dimension by dimension, of
a density of the best quarter of the points and takes what is most likelier in it than in that of
the others [Bergstra et al., Algorithms for hyper-parameter optimization, NIPS 2011]; points
before the last ``forgetting`` weigh less, the first one least.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._group import Group
from ._random import uniform

Array = npt.NDArray[np.float64]

_LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_NOISES = (1e-6, 1e-4, 1e-2, 1e-1, 0.5)  # as shares of the variance
_BEST = 0.25  # of the points
_NARROW_MAX = 100  # how many times narrower than the whole a kernel may be


def propose(params: Mapping[str, Any]) -> Any:
    """Make the proposal of a point; the rows are those that were tried, in their order.

    The columns are places, and the metric last. NaN is a point that could not be evaluated.
    """

    def run(group: Group) -> pa.Table:
        table = pa.Table.from_batches(list(group), group.schema)
        columns = [numpy_of(column) for column in table.columns]
        metric = columns.pop()
        known = np.isfinite(metric)
        points = np.stack(columns, axis=1)[known]
        found = search(points, metric[known], params, len(metric))
        names = table.schema.names[:-1]
        return pa.table({name: pa.array([x]) for name, x in zip(names, found, strict=True)})

    return run


def search(points: Array, metric: Array, params: Mapping[str, Any], number: int) -> list[float]:
    """Give the next point.

    Parameters
    ----------
    points : array, shape (n, d)
    metric : array, shape (n,)
        The larger, the better.
    params : mapping
        ``strategy`` GP or TPE, ``candidates``, ``forgetting`` and ``seed``.
    number : int
        How many points were tried before.
    """
    count, size = params["candidates"], points.shape[1]
    rows = np.arange(count)
    drawn = np.stack([uniform(params["seed"] + number, 2 * k, rows) for k in range(size)], axis=1)
    if not len(points):
        return drawn[0].tolist()
    if params["strategy"] == "GP":
        best = int(expected_improvement(points, metric, drawn).argmax())
        return drawn[best].tolist()
    picks = [uniform(params["seed"] + number, 2 * k + 1, rows) for k in range(size)]
    ranked = np.argsort(-metric, kind="stable")
    good = np.zeros(len(metric), np.bool_)
    good[ranked[: max(1, math.ceil(_BEST * len(metric)))]] = True
    weights = forgetful(len(metric), params["forgetting"])
    found: list[float] = []
    for k in range(size):
        near = Parzen(points[good, k], weights[good])
        far = Parzen(points[~good, k], weights[~good])
        tried = near.draw(drawn[:, k], picks[k])
        found.append(float(tried[int((near.density(tried) / far.density(tried)).argmax())]))
    return found


# --- Gaussian processes ---


def expected_improvement(points: Array, metric: Array, wanted: Array) -> Array:
    """Give how much points are expected to be better than the best one that is known."""
    spread = float(metric.std()) or 1.0
    values = (metric - metric.mean()) / spread
    fits = (Process(points, values, *how) for how in itertools.product(_LENGTHS, _NOISES))
    process = max(fits, key=lambda fit: fit.likelihood)
    mean, deviation = process.predict(wanted)
    ahead = mean - values.max()
    away = ahead / deviation
    below = 0.5 * np.array([math.erfc(-x / math.sqrt(2)) for x in away.tolist()])
    return ahead * below + deviation * np.exp(-0.5 * away**2) / math.sqrt(2 * math.pi)


class Process:
    """A Gaussian process with variance 1 that has taken values at some points.

    Attributes
    ----------
    likelihood : float
        The logarithm of the values' density.
    """

    def __init__(self, points: Array, values: Array, length: float, noise: float) -> None:
        self._points, self._length, self._noise = points, length, noise
        inner = self._kernel(points) + noise * np.eye(len(points))
        self._root = np.linalg.cholesky(inner)
        self._solved = np.linalg.solve(inner, values)
        self.likelihood = -0.5 * float(values @ self._solved) - float(
            np.log(np.diag(self._root)).sum()
        )

    def _kernel(self, wanted: Array) -> Array:
        apart = wanted[:, None, :] - self._points[None, :, :]
        distance = math.sqrt(5) * np.sqrt((apart**2).sum(axis=2)) / self._length
        return (1 + distance + distance**2 / 3) * np.exp(-distance)

    def predict(self, wanted: Array) -> tuple[Array, Array]:
        """Give means and standard deviations at points."""
        across = self._kernel(wanted)
        inner = np.linalg.solve(self._root, across.T)
        variance = np.maximum(1 - (inner**2).sum(axis=0), 1e-12)
        return across @ self._solved, np.sqrt(variance)


# --- Parzen's densities ---


def forgetful(count: int, kept: int) -> Array:
    """Give weights that rise evenly from 1/n to 1, which the last `kept` have."""
    rising = max(count - kept, 0)
    return np.concatenate((np.linspace(1 / max(count, 1), 1, rising + 1)[:-1], np.ones(count)))[
        :count
    ]


class Parzen:
    """A density on 0 to 1: the uniform one and normal kernels at points, cut off at the ends.

    A kernel is as wide as the larger distance to the next point on either side, the ends being
    points too, but not wider than the whole and not narrower than a share of it.
    """

    def __init__(self, points: Array, weights: Array) -> None:
        order = np.argsort(points, kind="stable")
        self._centres = points[order]
        fence = np.concatenate(([0.0], self._centres, [1.0]))
        gaps = np.diff(fence)
        narrow = 1 / min(_NARROW_MAX, len(points) + 1)
        self._widths = np.clip(np.maximum(gaps[:-1], gaps[1:]), narrow, 1.0)
        total = float(weights.sum()) + 1.0
        self._weights, self._rest = weights[order] / total, 1.0 / total
        self._low = self._share((0 - self._centres) / self._widths)
        self._high = self._share((1 - self._centres) / self._widths)

    @staticmethod
    def _share(away: Array) -> Array:
        """Give the standard normal distribution function."""
        return 0.5 * np.array([math.erfc(-x / math.sqrt(2)) for x in away.tolist()])

    def density(self, at: Array) -> Array:
        """Give the density at places."""
        away = (at[:, None] - self._centres) / self._widths
        height = self._weights / (self._widths * (self._high - self._low))
        kernels = np.exp(-0.5 * away**2) / math.sqrt(2 * math.pi)
        return self._rest + (kernels * height).sum(axis=1)

    def draw(self, places: Array, picks: Array) -> Array:
        """Draw: `picks` choose a kernel, `places` a quantile of it; both from 0 to 1."""
        edges = np.cumsum(np.concatenate(([self._rest], self._weights)))
        chosen = np.minimum(np.searchsorted(edges, picks, side="right"), len(self._weights)) - 1
        result = places.copy()
        for i in np.flatnonzero(chosen >= 0).tolist():
            k = int(chosen[i])
            low, high = 0.0, 1.0
            wanted = self._low[k] + places[i] * (self._high[k] - self._low[k])
            for _ in range(50):  # halves the interval to the precision of a number
                middle = (low + high) / 2
                away = (middle - self._centres[k]) / self._widths[k]
                if 0.5 * math.erfc(-away / math.sqrt(2)) < wanted:
                    low = middle
                else:
                    high = middle
            result[i] = high
        return result
