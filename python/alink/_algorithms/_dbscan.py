"""DBSCAN: clusters of rows that lie close together, and noise.

Ester, Kriegel, Sander and Xu, A density-based algorithm for discovering clusters in large spatial
databases with noise, 1996. A row is a core where at least ``minPoints`` rows, itself among them,
are within ``epsilon``; cores that near each other are in one cluster. Another row with a core that
near belongs to the nearest one's cluster, so that results do not hang on the order of rows and a
row is predicted as what it was in the training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._kmeans import spread
from ._models import BadModel, Model, read_model, write_model
from ._nearest import Array
from ._neighbours import Metric, Nearest, Neighbours, Places
from ._points import Reader, all_rows
from ._strings import format_dense, parse_vector

#: The cluster of noise, as in Alink.
NOISE = -(2**31)


def clusters(points: Array, metric: Metric, epsilon: float, least: int) -> tuple[Places, Any]:
    """Find clusters.

    Returns
    -------
    labels : array of int64
        Numbers of clusters, in the order of their first cores, or `NOISE`.
    core : array of bool
    """
    if not len(points):  # which have no size either
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    near = Neighbours(points, metric, epsilon)
    counts = np.zeros(len(points), np.int64)
    for rows, _, apart in near.around(points):
        counts[rows] += np.count_nonzero(apart <= near.reach, axis=1)
    core = counts >= least
    labels = np.full(len(points), NOISE, np.int64)
    labels[core] = _joined(points[core], metric, epsilon)
    rest = np.flatnonzero(~core)
    labels[rest] = Nearest(points[core], labels[core], metric, epsilon).of(points[rest], NOISE)[0]
    return labels, core


def _joined(points: Array, metric: Metric, epsilon: float) -> Places:
    """Give the clusters of cores: those that are connected by ways of near ones."""
    above = np.arange(len(points))
    near = Neighbours(points, metric, epsilon)
    for rows, candidates, apart in near.around(points):
        places, others = np.nonzero(apart <= near.reach)
        # A candidate hangs on its first row; rows hang together by what they have in common.
        first = np.zeros(len(candidates), np.int64)
        first[others[::-1]] = places[::-1]
        hanging = np.unique(others)
        shared = np.unique(places * len(rows) + first[others])
        one = np.concatenate((rows[first[hanging]], rows[shared // len(rows)]))
        other = np.concatenate((candidates[hanging], rows[shared % len(rows)]))
        _unite(above, one, other)
    roots = _roots(above, np.arange(len(points)))
    _, numbers = np.unique(roots, return_inverse=True)
    return numbers.astype(np.int64)


def _roots(above: Places, of: Places) -> Places:
    roots = above[of]
    while True:
        higher = above[roots]
        if np.array_equal(higher, roots):
            break
        roots = higher
    above[of] = roots
    return roots


def _unite(above: Places, one: Places, other: Places) -> None:
    """Put pairs together: the root of both is the one with the lower number."""
    first, second = _roots(above, one), _roots(above, other)
    differ = first != second
    pairs = np.unique(np.stack((first[differ], second[differ]), axis=1), axis=0)
    for a, b in pairs.tolist():
        while above[a] != a:
            a = int(above[a])  # noqa: PLW2901
        while above[b] != b:
            b = int(above[b])  # noqa: PLW2901
        if a != b:
            above[max(a, b)] = min(a, b)


def train(params: Mapping[str, Any]) -> Any:
    """Make a training of ``vectorCol``; the model is the cores and their clusters."""

    def run(group: Group) -> pa.Table:
        _, rows = all_rows(group, Reader(params["vectorCol"]))
        metric = Metric(params["distanceType"])
        labels, core = clusters(metric.points(rows), metric, params["epsilon"], params["minPoints"])
        _, first = np.unique(np.column_stack((labels[core], rows[core])), axis=0, return_index=True)
        kept = np.flatnonzero(core)[np.sort(first)]  # of equal cores one
        data = [
            json.dumps(
                {"center": format_dense(row), "clusterId": label, "type": "CORE"},
                separators=(",", ":"),
            )
            for row, label in zip(rows[kept].tolist(), labels[kept].tolist(), strict=True)
        ]
        meta = {name: params[name] for name in ("vectorCol", "epsilon", "distanceType")}
        return write_model(Model({**meta, "vectorSize": rows.shape[1]}, data))

    return run


class _Fitted:
    """What a model says of rows."""

    def __init__(self, table: pa.Table) -> None:
        model = read_model(table)
        self.epsilon: float = model.get("epsilon")
        cores = [json.loads(text) for text in model.data]
        if cores and "center" not in cores[0]:
            raise BadModel("the model is not one of DBSCAN")
        vectors = [parse_vector(core["center"])[2] for core in cores]
        self._size = len(vectors[0]) if vectors else model.meta.get("vectorSize")
        self._reader = Reader(model.get("vectorCol"))
        self._metric = Metric(model.get("distanceType"))
        rows = np.array(vectors, np.float64).reshape(len(vectors), self._size or 0)
        labels = np.array([core["clusterId"] for core in cores], np.int64)
        points = self._metric.points(rows) if len(rows) else rows
        self._nearest = Nearest(points, labels, self._metric, self.epsilon) if len(rows) else None

    def __call__(self, batch: pa.RecordBatch) -> tuple[Places, Array, npt.NDArray[Any]]:
        """Give clusters, how far the nearest core is, and which rows these are."""
        rows, places = self._reader.sound(batch)
        if self._nearest is None or not len(places):
            return np.full(len(places), NOISE), np.full(len(places), np.inf), places
        matrix = self._reader.matrix(rows, int(self._size or 0))
        labels, apart = self._nearest.of(self._metric.points(matrix), NOISE)
        return labels, apart, places

    def distances(self, apart: Array) -> Array:
        """Give the distances of what is so far apart."""
        return self._metric.distance(apart)

    def same(self, apart: Array) -> npt.NDArray[np.bool_]:
        """Tell what is so near a core that it is its equal, but for rounding."""
        return apart <= 1e-12 * self._metric.reach(self.epsilon)


class Predict:
    """Applies a model: the cluster of the nearest core, or noise.

    If asked for, the distance from it is there too: NULL where none is near enough.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._fitted: _Fitted | None = None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._fitted = _Fitted(table)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where the vector is NULL or has NaN."""
        assert self._fitted is not None
        labels, apart, places = self._fitted(batch)
        columns = [spread(pa.array(labels), places, batch.num_rows)]
        if self._detail:
            far = pa.array(self._fitted.distances(apart), mask=labels == NOISE)
            columns.append(spread(far, places, batch.num_rows))
        return columns


class Classify(Predict):
    """Tells of the rows of a training whether they are cores, linked to one, or noise."""

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give types and clusters."""
        assert self._fitted is not None
        labels, apart, places = self._fitted(batch)
        types = types_of(labels, self._fitted.same(apart))
        columns = (types, pa.array(labels))
        return [spread(column, places, batch.num_rows) for column in columns]


def types_of(labels: Places, core: npt.NDArray[np.bool_]) -> pa.Array:
    """Write what rows are: CORE, LINKED or NOISE."""
    codes = np.where(labels == NOISE, 2, np.where(core, 0, 1))
    return pa.array(["CORE", "LINKED", "NOISE"], pa.string()).take(pa.array(codes))
