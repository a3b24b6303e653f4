"""k-means whose centres move while rows come."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ._kmeans import Clusters, Fitted, Predict, spread, written
from ._models import read_model, write_model
from ._nearest import Array
from ._schemas import COUNT, TIMESTAMP
from ._spaces import to_unit
from ._strings import Unreadable
from ._vectors import Vectors


def _as_stream(model: pa.Table) -> pa.Table:
    """Give a model as rows of a stream of models: with its time, and how many rows it has."""
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    count = model.num_rows
    times = pa.array([now] * count, pa.timestamp("us"))
    counts = pa.array([count] * count, pa.int64())
    return pa.table([times, counts, *model.columns], names=[TIMESTAMP, COUNT, *model.column_names])


def _matrix(fitted: Fitted, batch: pa.RecordBatch) -> tuple[Array, Any]:
    """Give the rows of a batch that have no NULL or NaN as a matrix, and their places."""
    rows, places = fitted.reader.sound(batch)
    return fitted.reader.matrix(rows, fitted.size), places


def _model(fitted: Fitted, centres: Array, weights: Array) -> pa.Table:
    meta = {**fitted.model.meta, "distanceType": fitted.space.name}
    return write_model(written(Clusters(centres, weights), fitted.size, meta))


class _Passing:
    """Rows that come one by one, each of which moves the centre that it is near.

    A row farther than `epsilon` from all centres begins a cluster of its own.
    """

    def __init__(self, model: pa.Table, epsilon: float) -> None:
        self.fitted = fitted = Fitted(read_model(model))
        order = np.argsort(fitted.ids)
        if fitted.ids[order].tolist() != list(range(len(order))):
            raise Unreadable("the clusters of the model are not numbered from 0 on")
        self.centres = list(fitted.centres[order])
        self.weights = fitted.weights[order].tolist()
        self._epsilon = epsilon

    def take(self, rows: Array) -> tuple[list[int], list[float]]:
        """Take rows; give their clusters, and how far these were."""
        space, labels, distances = self.fitted.space, list[int](), list[float]()
        centres = np.array(self.centres)
        points = space.places(rows) if len(rows) else rows
        places = space.places(centres)
        for row, point in zip(rows, points, strict=True):
            squares = ((places - point) ** 2).sum(axis=1)
            if space.name == "COSINE" and not point.any():
                squares = np.full(len(places), 2.0)
            near = int(squares.argmin())
            distance = float(space.distances(squares[near : near + 1])[0])
            if distance <= self._epsilon:
                weight = self.weights[near]
                target = point if space.name == "COSINE" else row
                sums = (weight * centres[near] + target)[None]
                if space.name == "HAVERSINE":
                    turn = (row[1] - centres[near, 1] + 180) % 360 - 180
                    sums[0, 1] = (weight + 1) * centres[near, 1] + turn
                counts = np.array([weight + 1.0])
                centres[near] = space.settled(sums, counts, centres[near : near + 1])[0]
                self.weights[near] = weight + 1
            else:
                near, distance = len(centres), 0.0
                centres = np.vstack((centres, row))
                places = np.vstack((places, point))
                self.weights.append(1.0)
            places[near] = space.places(centres[near : near + 1])[0]
            labels.append(near)
            distances.append(distance)
        self.centres = list(centres)
        return labels, distances

    def model(self) -> pa.Table:
        """Give the model as it is now."""
        return _model(self.fitted, np.array(self.centres), np.array(self.weights))


def one_pass(params: Mapping[str, Any]) -> Any:
    """Make a function of rows and a model that gives the rows with their clusters."""

    def run(batches: Iterable[pa.RecordBatch], model: pa.Table) -> Iterator[pa.RecordBatch]:
        passing = _Passing(model, params["epsilon"])
        for batch in batches:
            rows, places = _matrix(passing.fitted, batch)
            labels, distances = passing.take(rows)
            made = {
                params["predictionCol"]: spread(
                    pa.array(labels, pa.int64()), places, batch.num_rows
                ),
                params["predictionDetailCol"]: spread(
                    pa.array(distances, pa.float64()), places, batch.num_rows
                ),
            }
            columns = [
                made[name] if name in made else batch.column(name) for name in params["result"]
            ]
            yield pa.RecordBatch.from_arrays(columns, names=params["result"])

    return run


def one_pass_models(params: Mapping[str, Any]) -> Any:
    """Make a function of rows and a model that gives models: each interval, and at the end."""
    interval = params["modelOutputInterval"]

    def run(batches: Iterable[pa.RecordBatch], model: pa.Table) -> Iterator[pa.Table]:
        passing = _Passing(model, params["epsilon"])
        since = 0
        for batch in batches:
            rows, _ = _matrix(passing.fitted, batch)
            at = 0
            while at < len(rows):
                end = len(rows) if interval is None else min(len(rows), at + interval - since)
                passing.take(rows[at:end])
                since, at = since + end - at, end
                if since == interval:
                    since = 0
                    yield _as_stream(passing.model())
        if interval is None or since:
            yield _as_stream(passing.model())

    return run


def updated(params: Mapping[str, Any]) -> Any:
    """Make a function of rows and a model that gives the model moved by the rows.

    What the clusters weigh decays first, by half in ``halfLife`` seconds of the ``timeInterval``
    that the rows stand for.
    """
    decay = 0.5 ** (params["timeInterval"] / params["halfLife"])

    def run(batches: Iterable[pa.RecordBatch], model: pa.Table) -> Iterator[pa.Table]:
        fitted = Fitted(read_model(model))
        sums, counts = np.zeros(fitted.centres.shape), np.zeros(len(fitted.ids))
        for batch in batches:
            rows, _ = _matrix(fitted, batch)
            if len(rows):
                block = fitted.space.dense(rows)
                more = fitted.space.sweep(block, fitted.centres)
                sums, counts = sums + more[0], counts + more[1]
        before = fitted.weights * decay
        base = fitted.centres
        if fitted.space.name == "COSINE":
            base = to_unit(base)
        total = sums + before[:, None] * base
        centres = fitted.space.settled(total, before + counts, fitted.centres)
        order = np.argsort(fitted.ids)
        yield _as_stream(_model(fitted, centres[order], (before + counts)[order]))

    return run


class Follow(Predict):
    """Applies a model, or one of a stream: the cluster, its centre and how far it is."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        super().__init__({}, types)
        self._centre = params.get("predictionClusterCol") is not None
        self._far = params.get("predictionDistanceCol") is not None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        names = [name for name in table.column_names if name not in (TIMESTAMP, COUNT)]
        super().load(table.select(names))

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where the vector is NULL or has NaN."""
        fitted = self._fitted
        assert fitted is not None
        rows, places = _matrix(fitted, batch)
        labels, distances = fitted.nearest(rows)
        columns = [pa.array(fitted.ids[labels])]
        if self._centre:
            columns.append(Vectors.of_matrix(fitted.centres).to_arrow().take(pa.array(labels)))
        if self._far:
            columns.append(pa.array(distances))
        return [spread(column, places, batch.num_rows) for column in columns]
