"""k-means: the start, Lloyd's iterations, models in Alink's form, and predictions.

Rows are read in blocks and summed by clusters; workers that share the rows add up their sums
(Lloyd, Least squares quantization in PCM, 1982). The start is found on a sample of rows that all
workers know, and improved there before all rows are looked at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ._course import Course
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._nearest import ROUNDING, Array, Block, Labels
from ._points import Points, Reader, Sample, distinct, points_of, taken
from ._random import uniform
from ._spaces import SPACES, Space
from ._strings import Unreadable, format_dense
from ._types import VECTOR
from ._vectors import Vectors

#: Iterations on the sample, before those on all rows.
_SAMPLE_ITERATIONS_MAX = 30
#: Candidates that k-means++ takes the best of, for each centre, are this many and log k.
_TRIALS = 2
_SHOWN_DIGITS = 9
_DETAILS_STEP = 2**20


@dataclass
class Clusters:
    """What was found.

    Attributes
    ----------
    centres : array, shape (k, d)
    counts : array, shape (k,)
        How many rows are nearest to each.
    """

    centres: Array
    counts: Array


def train(params: Mapping[str, Any]) -> Any:
    """Make a training: of ``vectorCol``, or of ``latitudeCol`` and ``longitudeCol``."""

    def run(group: Group) -> pa.Table:
        space = SPACES[params["distanceType"]]
        points = points_of(group, params, space)
        found = fit(points, params)
        return write_model(written(found, points.size, params))

    return run


def fit(points: Points, params: Mapping[str, Any], warned: bool = True) -> Clusters:
    """Find clusters, the largest first, of ``k``, ``maxIter``, ``epsilon``, ``randomSeed``.

    With `warned` it tells of clusters that are missing or have not come to rest.
    """
    if points.count == 0:
        raise Unreadable("there are no rows to train with")
    centres = _start(points, params)
    found = _iterated(points, centres, params["maxIter"], params["epsilon"], warned)
    if warned and len(found.centres) < params["k"]:
        _warn(
            f"the rows have {len(found.centres)} different points, so there are not more clusters"
        )
    found.centres = found.centres + points.origin
    return _ordered(found)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _start(points: Points, params: Mapping[str, Any]) -> Array:
    count, seed = params["k"], params["randomSeed"] or 0
    sample = points.sample(seed, 20 * count)
    centres = _plus_plus(sample, count, seed)
    if not sample.whole:
        centres = _improved(sample, centres, params["epsilon"])
    # Rounding may differ between machines: the first worker's are everyone's.
    agreed = np.frombuffer(points.group.gather(centres.tobytes())[0])
    centres = agreed.reshape(-1, points.size)
    while len(centres) < count:
        more = points.farthest(centres, count - len(centres))
        if not len(more):
            break
        centres = np.concatenate((centres, more))
    return centres


def _plus_plus(sample: Sample, count: int, seed: int) -> Array:
    """Give rows of the sample by k-means++, the best of a few candidates for each.

    Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, 2007. A row is taken
    by its squared distance from those that are there.
    """
    trials = _TRIALS + int(np.log(count))
    draws = uniform(seed, 1, np.arange(1 + trials * count))
    first = int(draws[0] * len(sample))
    chosen = [sample.block.rows(np.array([first]))]
    squares = sample.apart(chosen[0])[0]
    for number in range(1, count):
        if (total := float(squares.sum())) <= 0:
            break
        wanted = draws[1 + (number - 1) * trials : 1 + number * trials] * total
        places = np.searchsorted(np.cumsum(squares), wanted, side="right")
        places = np.unique(np.minimum(places, len(sample) - 1))
        rows = sample.block.rows(places)
        options = np.minimum(squares, sample.apart(rows))
        best = int(options.sum(axis=1).argmin())
        squares = options[best]
        chosen.append(rows[best : best + 1])
    return distinct(np.concatenate(chosen), count)


def _improved(sample: Sample, centres: Array, epsilon: float) -> Array:
    course = sample.course()
    for _ in range(_SAMPLE_ITERATIONS_MAX):
        if course is not None:
            sums, counts = course.sweep(sample.space.places(centres))
        else:
            sums, counts = sample.space.sweep(sample.block, centres)
        after = sample.space.settled(sums, counts, centres)
        moved = sample.space.moved(centres, after)
        centres = after
        if moved <= epsilon:
            break
    return centres


def _iterated(points: Points, centres: Array, most: int, epsilon: float, warned: bool) -> Clusters:
    """Move centres to the middle of what is nearest to them until they rest."""
    space = points.space
    moved = np.inf
    counts = np.zeros(len(centres))
    courses = points.courses()
    for number in range(most):
        sums, counts = _swept(points, courses, centres)
        after = space.settled(sums, counts, centres)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            # A cluster without rows begins anew where rows are worst off.
            others = after[counts > 0]
            more = points.farthest(others, len(empty)) if number + 1 < most else others[:0]
            centres, moved = np.concatenate((others, more)), np.inf
            counts = np.concatenate((counts[counts > 0], np.zeros(len(more))))
            if len(more):
                continue
            after = centres
        else:
            moved, centres = space.moved(centres, after), after
        if moved <= epsilon:
            break
    if warned and moved > epsilon and np.isfinite(moved):
        _warn(
            f"not converged after {most} iterations: a centre has moved by {moved:.3g} in the last"
            f" one, where epsilon is {epsilon:g}"
        )
    return Clusters(centres, counts)


def _swept(points: Points, courses: list[Course] | None, centres: Array) -> tuple[Array, Array]:
    """Give sums and numbers of all workers' points nearest to each centre."""
    sums, counts = np.zeros(centres.shape), np.zeros(len(centres))
    if courses is not None:
        for course in courses:
            more = course.sweep(points.space.places(centres))
            sums += more[0]
            counts += more[1]
    else:
        for item in points:
            more = points.space.sweep(item.block, centres)
            sums += more[0]
            counts += more[1]
    total, number = points.group.sum(sums, counts)
    return total, number


def _ordered(found: Clusters) -> Clusters:
    """Give clusters their numbers: the largest first, of equal ones that with the larger centre."""
    shown = [[float(f"{v:.{_SHOWN_DIGITS}g}") for v in row] for row in found.centres[:, :64]]
    keys = [(-count, [-v for v in row]) for count, row in zip(found.counts, shown, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return Clusters(found.centres[order], found.counts[order])


def written(found: Clusters, size: int, params: Mapping[str, Any]) -> Model:
    """Give a model in Alink's form."""
    meta = {
        "vectorCol": params.get("vectorCol"),
        "latitudeCol": params.get("latitudeCol"),
        "longitudeCol": params.get("longitudeCol"),
        "distanceType": params["distanceType"],
        "k": len(found.centres),
        "vectorSize": size,
    }
    data = [
        json.dumps(
            {"clusterId": number, "weight": float(count), "vec": {"data": centre.tolist()}},
            separators=(",", ":"),
        )
        for number, (centre, count) in enumerate(zip(found.centres, found.counts, strict=True))
    ]
    return Model(meta, data)


class Fitted:
    """The clusters of a model, and what is nearest to them.

    Attributes
    ----------
    ids : array of int64
        The numbers of the clusters.
    weights : array
    centres : array, shape (k, d)
    space : Space
    reader : Reader
        Of the rows that the model is applied to.
    """

    def __init__(self, model: Model) -> None:
        kind = model.get("distanceType")
        if kind not in SPACES or not model.data or '"vec"' not in model.data[0]:
            raise BadModel("the model is not one of k-means")
        self.space: Space = SPACES[kind]
        clusters = [json.loads(text) for text in model.data]
        self.ids: Labels = np.array([c["clusterId"] for c in clusters], np.int64)
        self.weights: Array = np.array([c["weight"] for c in clusters], np.float64)
        self.centres: Array = np.array([c["vec"]["data"] for c in clusters], np.float64)
        vector = model.meta.get("vectorCol")
        columns = (
            [] if vector is not None else [model.get("latitudeCol"), model.get("longitudeCol")]
        )
        self.reader = Reader(vector, columns)
        self.model = model

    @property
    def size(self) -> int:
        """The size of the vectors."""
        return self.centres.shape[1]

    def nearest(self, rows: Array | Vectors) -> tuple[Labels, Array]:
        """Give the place of each row's nearest cluster, and the distance from it."""
        block, places = self._blocks(rows)
        labels, squares = block.nearest(places)
        return labels, self.space.distances(squares)

    def distances(self, rows: Array | Vectors) -> Array:
        """Give the distances of rows from all centres, shape (n, k)."""
        block, places = self._blocks(rows)
        own = block.squared()[:, None] + np.einsum("ij,ij->i", places, places)
        squares = own - 2 * block.products(places)
        return self.space.distances(np.where(squares <= ROUNDING * own, 0.0, squares))

    def _blocks(self, rows: Array | Vectors) -> tuple[Block, Array]:
        """Give rows as a block, and what they are compared with for the centres."""
        if isinstance(rows, Vectors) and rows.indices is not None:
            return self.space.sparse(self._fitting(rows), self.size), self.space.places(
                self.centres
            )
        matrix = self.reader.matrix(rows, self.size)
        if not self.space.centred:
            return self.space.dense(matrix), self.space.places(self.centres)
        # Near the origin squares lose nothing.
        origin = self.centres.mean(axis=0)
        return self.space.dense(matrix, origin), self.centres - origin

    def _fitting(self, rows: Vectors) -> Vectors:
        wrong = np.where(rows.dense, rows.lengths != self.size, rows.spans > self.size)
        rows.refuse(
            wrong, f"of column {self.reader.vector!r} does not fit the model's size {self.size}"
        )
        return rows


class Predict:
    """Applies a model: the nearest cluster, and if asked for shares of all and the distance."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del types
        self._detail = params.get("predictionDetailCol") is not None
        self._distance = params.get("predictionDistanceCol") is not None
        self._fitted: Fitted | None = None

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._fitted = Fitted(read_model(table))

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the outputs; NULL where the vector is NULL or has NaN."""
        fitted = self._fitted
        assert fitted is not None
        rows, places = fitted.reader.sound(batch)
        labels, least = fitted.nearest(rows)
        columns = [pa.array(fitted.ids[labels])]
        if self._detail:
            columns.append(_details(fitted, rows))
        if self._distance:
            columns.append(pa.array(least))
        return [spread(column, places, batch.num_rows) for column in columns]

    def row(self, names: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Give what computes the outputs of one row."""
        fitted = self._fitted
        assert fitted is not None
        reader, space, size = fitted.reader, fitted.space, fitted.size
        columns = reader.columns if reader.vector is None else [reader.vector]
        places = [names.index(name) for name in columns]
        middles, order = space.places(fitted.centres), np.argsort(fitted.ids)
        nothing = (None,) * (1 + self._detail + self._distance)

        def of_batch(vector: Any) -> Sequence[Any]:
            kind = VECTOR if isinstance(vector, dict) else None
            batch = pa.RecordBatch.from_arrays([pa.array([vector], kind)], names=columns)
            return [column[0].as_py() for column in self(batch)]

        def outcome(values: Sequence[Any]) -> Sequence[Any]:
            given: Any = [values[place] for place in places]
            if any(value is None for value in given):
                return nothing
            if reader.vector is not None:
                vector = given[0]
                if not isinstance(vector, dict) or vector["indices"] is not None:
                    return of_batch(vector)
                given = vector["values"]
                if len(given) != size:
                    return of_batch(vector)
            point = np.array(given, np.float64)
            if not np.isfinite(point).all():
                return nothing
            squares = space.apart(point, middles)
            at = int(squares.argmin())
            result: list[Any] = [int(fitted.ids[at])]
            if self._detail or self._distance:
                distances = space.distances(squares)
                if self._detail:
                    result.append(format_dense(nearness(distances[None])[0][order].tolist()))
                if self._distance:
                    result.append(float(distances[at]))
            return result

        return outcome


def _details(fitted: Fitted, rows: Array | Vectors) -> pa.Array:
    """Give the shares of the clusters in each row, as texts of vectors."""
    order = np.argsort(fitted.ids)
    texts: list[str] = []
    step = max(1, _DETAILS_STEP // len(order))
    for at in range(0, len(rows), step):
        some = taken(rows, np.arange(at, min(at + step, len(rows))))
        shares = nearness(fitted.distances(some))[:, order]
        texts += map(format_dense, shares.tolist())
    return pa.array(texts, pa.string())


def spread(values: pa.Array, places: Any, count: int) -> pa.Array:
    """Put values at their places among so many rows; the others are NULL."""
    if len(values) == count:
        return values
    at = np.full(count, -1, np.int64)
    at[places] = np.arange(len(values))
    return values.take(pa.array(at, mask=at < 0))


def nearness(distances: Array) -> Array:
    """Give shares of clusters by distances, shape (n, k), as Alink does: they add up to 1.

    A cluster has (1 − its distance / the sum of distances) / (k − 1).
    """
    count = distances.shape[1]
    if count == 1:
        return np.ones_like(distances)
    total = distances.sum(axis=1, keepdims=True)
    share = np.divide(distances, total, out=np.full_like(distances, 1 / count), where=total > 0)
    return (1 - share) / (count - 1)
