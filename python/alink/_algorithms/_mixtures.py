"""Mixtures of normal distributions, by expectation and maximization.

Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977. The
start is that of k-means: means, shares and covariances of its clusters. What all rows have to say
of a distribution are sums: of their probabilities, of rows and of their products, weighted by them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ._group import Group
from ._kmeans import fit, spread
from ._models import BadModel, Model, read_model, write_model
from ._nearest import Array, Dense
from ._points import Points, Reader, points_of
from ._spaces import SPACES
from ._strings import Unreadable, format_dense

#: A covariance has d² numbers.
_SIZE_MAX = 2048
#: What is added to the variances, as a share of those of all rows: no distribution is a point.
_FLOOR = 1e-6
_ROWS = 4096


@dataclass
class Mixture:
    """Normal distributions and their shares.

    Attributes
    ----------
    shares : array, shape (k,)
    means : array, shape (k, d)
    covariances : array, shape (k, d, d)
    """

    shares: Array
    means: Array
    covariances: Array

    def factors(self) -> tuple[Array, Array]:
        """Give what whitens rows, shape (k, d, d), and the logarithms of the densities' peaks."""
        size = self.means.shape[1]
        inverse = np.empty_like(self.covariances)
        peaks = np.empty(len(self.shares))
        for i, covariance in enumerate(self.covariances):
            values, vectors = np.linalg.eigh(covariance)
            # Of a matrix that is singular, what is left is as good as 0.
            least = max(float(values[-1]), 1e-300) * 1e-14
            values = np.maximum(values, least)
            inverse[i] = vectors / np.sqrt(values)
            peaks[i] = -0.5 * (size * np.log(2 * np.pi) + np.log(values).sum())
        return inverse, peaks


def log_densities(rows: Array, mixture: Mixture, factors: tuple[Array, Array]) -> Array:
    """Give the logarithms of shares times densities, shape (n, k)."""
    inverse, peaks = factors
    result = np.empty((len(rows), len(mixture.shares)))
    with np.errstate(divide="ignore"):
        shares = np.log(mixture.shares)
    for i, mean in enumerate(mixture.means):
        white = (rows - mean) @ inverse[i]
        result[:, i] = shares[i] + peaks[i] - 0.5 * np.einsum("ij,ij->i", white, white)
    return result


def normalised(logs: Array) -> tuple[Array, Array]:
    """Give probabilities of logarithms that lack a factor, and the logarithm of their sum."""
    top = logs.max(axis=1, keepdims=True)
    powers = np.exp(logs - top)
    total = powers.sum(axis=1, keepdims=True)
    return powers / total, (top + np.log(total))[:, 0]


def train(params: Mapping[str, Any]) -> Any:
    """Make a training of ``vectorCol``."""

    def run(group: Group) -> pa.Table:
        points = points_of(group, params, SPACES["EUCLIDEAN"], dense=True)
        if points.size > _SIZE_MAX:
            raise Unreadable(
                f"the vectors of column {params['vectorCol']!r} have size {points.size}: a mixture "
                f"takes {_SIZE_MAX} at most; reduce them first, as PCA does"
            )
        mixture = _fitted(points, params)
        return write_model(_written(mixture, points.origin, params))

    return run


def _fitted(points: Points, params: Mapping[str, Any]) -> Mixture:
    start = fit(points, {**params, "epsilon": 0.0, "maxIter": 10}, warned=False)
    centres = start.centres - points.origin
    floor = np.zeros(points.size)
    mixture = _maximized(points, lambda rows: (_one_hot(rows, centres), 0.0), len(centres), floor)[
        0
    ]
    floor = _FLOOR * _spread(mixture)
    mixture.covariances += np.diag(floor)
    before, change = -np.inf, np.inf
    for _ in range(params["maxIter"]):
        factors = mixture.factors()
        current = mixture

        def expected(rows: Array) -> tuple[Array, float]:
            shares, logs = normalised(log_densities(rows, current, factors))  # noqa: B023
            return shares, float(logs.sum())

        mixture, total = _maximized(points, expected, len(centres), floor)
        change, before = total / points.count - before, total / points.count
        if abs(change) <= params["epsilon"]:
            return mixture
    print(
        f"warning: not converged after {params['maxIter']} iterations: the mean logarithm of the "
        f"likelihood is {before:.6g} and has changed by {change:.3g} in the last one",
        file=sys.stderr,
        flush=True,
    )
    return mixture


def _one_hot(rows: Array, centres: Array) -> Array:
    labels = Dense(rows).nearest(centres)[0]
    return (labels[:, None] == np.arange(len(centres))).astype(np.float64)


def _spread(mixture: Mixture) -> Array:
    """Give the variances of all rows; of a constant column 1."""
    mean = mixture.shares @ mixture.means
    within = np.einsum("k,kii->i", mixture.shares, mixture.covariances)
    between = mixture.shares @ (mixture.means - mean) ** 2
    total = within + between
    return np.where(total > 1e-12 * np.maximum(mean**2, 1e-300), total, 1.0)


def _maximized(points: Points, expected: Any, count: int, floor: Array) -> tuple[Mixture, float]:
    """Give the mixture that probabilities of the rows make likeliest, and what they add up to."""
    size = points.size
    weights, sums, likelihood = np.zeros(count), np.zeros((count, size)), 0.0
    products = np.zeros((count, size, size))
    for item in points:
        for rows in _cut(item.block):
            shares, logs = expected(rows)
            likelihood += logs
            weights += shares.sum(axis=0)
            sums += shares.T @ rows
            for i in range(count):
                products[i] += (rows * shares[:, i : i + 1]).T @ rows
    weights, sums, products, total = points.group.sum(weights, sums, products, likelihood)
    safe = np.maximum(weights, 1e-10)
    means = sums / safe[:, None]
    covariances = products / safe[:, None, None] - means[:, :, None] * means[:, None, :]
    covariances = (covariances + covariances.transpose(0, 2, 1)) / 2 + np.diag(floor)
    return Mixture(weights / weights.sum(), means, covariances), float(total)


def _cut(block: Any) -> Iterator[Array]:
    assert isinstance(block, Dense)
    for _, part in block.parts(_ROWS):
        yield part[:, :-1]


def _written(mixture: Mixture, origin: Array, params: Mapping[str, Any]) -> Model:
    """Give a model in Alink's form: covariances by their upper triangles, column by column."""
    order = np.lexsort((np.arange(len(mixture.shares)), -mixture.shares.round(9)))
    size = len(origin)
    upper = [(i, j) for j in range(size) for i in range(j + 1)]
    data = [
        json.dumps(
            {
                "clusterId": number,
                "weight": float(mixture.shares[at]),
                "mean": {"data": (mixture.means[at] + origin).tolist()},
                "cov": {"data": [float(mixture.covariances[at][i, j]) for i, j in upper]},
            },
            separators=(",", ":"),
        )
        for number, at in enumerate(order.tolist())
    ]
    meta = {"numFeatures": size, "k": len(order), "vectorCol": params["vectorCol"]}
    return Model(meta, data)


class Predict:
    """Applies a model: the likeliest distribution, and if asked for the probabilities of all."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._vector: str | None = params.get("vectorCol")
        self._reader = Reader(self._vector)
        self._mixture = Mixture(np.empty(0), np.empty((0, 0)), np.empty((0, 0, 0)))
        self._factors: tuple[Array, Array] = (np.empty(0), np.empty(0))

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        clusters = [json.loads(text) for text in model.data]
        if not clusters or "cov" not in clusters[0]:
            raise BadModel("the model is not a mixture")
        clusters.sort(key=lambda cluster: cluster["clusterId"])
        self._reader = Reader(self._vector or model.get("vectorCol"))
        means = np.array([cluster["mean"]["data"] for cluster in clusters], np.float64)
        size = means.shape[1]
        covariances = np.empty((len(clusters), size, size))
        columns, rows = np.tril_indices(size)
        for i, cluster in enumerate(clusters):
            covariances[i][rows, columns] = covariances[i][columns, rows] = cluster["cov"]["data"]
        shares = np.array([cluster["weight"] for cluster in clusters], np.float64)
        self._mixture = Mixture(shares, means, covariances)
        self._factors = self._mixture.factors()

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where the vector is NULL or has NaN."""
        rows, places = self._reader.sound(batch)
        matrix = self._reader.matrix(rows, self._mixture.means.shape[1])
        shares = normalised(log_densities(matrix, self._mixture, self._factors))[0]
        columns = [pa.array(shares.argmax(axis=1))]
        if self._detail:
            columns.append(pa.array([format_dense(row) for row in shares.tolist()], pa.string()))
        return [spread(column, places, batch.num_rows) for column in columns]
