"""Clusterings of each group of rows by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._dbscan import NOISE, clusters, types_of
from ._group import Group
from ._kmeans import Fitted, fit, written
from ._kmodes import texts
from ._nearest import Array
from ._neighbours import Metric, Nearest
from ._points import Points, Reader
from ._random import uniform
from ._spaces import SPACES
from ._strings import format_dense

Task = Callable[[pa.Table], pa.Table]
_CACHE_BYTES = 2**30


def _features(table: pa.Table, columns: Sequence[str]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Give the features of the rows that have all of them, and which rows these are."""
    batch = table.combine_chunks().to_batches()[0]
    values, known = Reader(None, columns).values(batch)
    assert isinstance(values, np.ndarray)
    fine = np.isfinite(values).all(axis=1)
    places = np.flatnonzero(fine if known is None else fine & known)
    return values[places], places


def _spread(values: Any, places: npt.NDArray[np.int64], count: int) -> pa.Array:
    """Put values at their places among so many rows; the others are NULL."""
    at = np.full(count, -1, np.int64)
    at[places] = np.arange(len(places))
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return column.take(pa.array(at, mask=at < 0))


class _Alone(Group):
    """A worker that has all rows, in memory."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.rank = 0
        self.size = 1
        self.cache_bytes = _CACHE_BYTES
        self._batch = batch

    def numbered(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Give the rows."""
        yield 0, self._batch


def k_means(params: Mapping[str, Any]) -> Task:
    """Make k-means of a group: its keys, ids and clusters; the features too with ``features``.

    A row without all features has no cluster.
    """
    space = SPACES[params["distanceType"]]
    columns, keys = params["featureCols"], params["groupCols"]
    settings = {**params, "randomSeed": 0}

    def run(table: pa.Table) -> pa.Table:
        values, places = _features(table, columns)
        labels = np.empty(0, np.int64)
        if len(places):
            batch = pa.RecordBatch.from_arrays(list(map(pa.array, values.T)), names=columns)
            points = Points(_Alone(batch), Reader(None, columns), space)
            found = fit(points, settings, warned=False)
            names = dict(zip(("latitudeCol", "longitudeCol"), columns, strict=False))
            model = written(found, points.size, {**params, **names})
            labels = Fitted(model).nearest(values)[0]
        result = {name: _key(table, name, params) for name in [*keys, params["idCol"]]}
        result[params["predictionCol"]] = _spread(labels, places, table.num_rows)
        if params["features"]:
            result.update((name, table.column(name).cast(pa.float64())) for name in columns)
        return pa.table(result)

    return run


def _key(table: pa.Table, name: str, params: Mapping[str, Any]) -> pa.Array:
    """Give a column of keys or ids; as text, where the operator has them so."""
    column = table.column(name).combine_chunks()
    if not params["texts"]:
        return column
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return pc.if_else(column.is_valid(), texts(column), pa.scalar(None, pa.string()))


class _Group:
    """A group of rows with their clusters, by DBSCAN."""

    def __init__(self, table: pa.Table, params: Mapping[str, Any]) -> None:
        self.rows, self.places = _features(table, params["featureCols"])
        metric = Metric(params["distanceType"])
        points = metric.points(self.rows) if len(self.rows) else self.rows
        epsilon, most = params["epsilon"], params["groupMaxSamples"]
        picked: npt.NDArray[np.int64] = np.arange(len(points))
        #: Whether the group is too large, and none of its rows is wanted.
        self.skipped = len(points) > most and bool(params["skip"])
        if self.skipped:
            return
        if len(points) > most:
            picked = np.sort(np.argsort(uniform(0, 0, picked), kind="stable")[:most])
        self.labels = np.full(len(points), NOISE, np.int64)
        self.core = np.zeros(len(points), np.bool_)
        if not len(points):
            return
        some = points[picked]
        found, core = clusters(some, metric, epsilon, params["minPoints"])
        self.labels[picked], self.core[picked] = found, core
        rest = np.setdiff1d(np.arange(len(points)), picked)
        if len(rest) and core.any():
            nearest = Nearest(some[core], found[core], metric, epsilon)
            self.labels[rest] = nearest.of(points[rest], NOISE)[0]


def dbscan(params: Mapping[str, Any]) -> Task:
    """Make DBSCAN of a group: ``result`` names the columns and how each is made.

    Of a group of more than ``groupMaxSamples`` rows so many are clustered, picked at random, and
    the others belong to the nearest core; with ``skip`` such a group gives no rows. A row without
    all features has no type and no cluster.
    """
    columns: list[str] = params["featureCols"]

    def run(table: pa.Table) -> pa.Table:
        group = _Group(table, params)
        result: dict[str, Any] = {}
        for kind, name in params["result"]:
            if kind == "key":
                result[name] = _key(table, name, params)
            elif kind == "kept":
                result[name] = table.column(name)
            elif kind == "feature":
                result[name] = table.column(name).cast(pa.float64())
            elif group.skipped:
                result[name] = pa.nulls(table.num_rows)
            elif kind == "type":
                types = types_of(group.labels, group.core)
                result[name] = _spread(types, group.places, table.num_rows)
            elif kind == "cluster":
                result[name] = _spread(group.labels, group.places, table.num_rows)
            else:
                matrix = np.column_stack([table.column(c).cast(pa.float64()) for c in columns])
                result[name] = pa.array([format_dense(row) for row in matrix.tolist()], pa.string())
        made = pa.table(result)
        return made.slice(0, 0) if group.skipped else made

    return run


def dbscan_model(params: Mapping[str, Any]) -> Task:
    """Make the clusters of a group: its keys, numbers, counts and means; noise is left out."""

    def run(table: pa.Table) -> pa.Table:
        group = _Group(table, params)
        labels = np.empty(0, np.int64) if group.skipped else group.labels
        kept = labels != NOISE
        rows, labels = (group.rows[: len(labels)])[kept], labels[kept]
        count = int(labels.max(initial=-1)) + 1
        sizes = np.bincount(labels, minlength=count)
        result: dict[str, Any] = {}
        for kind, name in params["result"]:
            if kind == "key":
                first = table.column(name).combine_chunks().slice(0, 1)
                result[name] = first.take(pa.array(np.zeros(count, np.int64)))
            elif kind == "cluster":
                result[name] = pa.array(np.arange(count))
            elif kind == "count":
                result[name] = pa.array(sizes.astype(np.int64))
            else:
                at = params["featureCols"].index(name)
                sums = np.bincount(labels, rows[:, at], count)
                result[name] = pa.array(sums / np.maximum(sizes, 1))
        return pa.table(result)

    return run
