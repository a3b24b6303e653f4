"""How tight and how far apart clusters are, and how well they agree with labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._metrics import descending, metrics_row, texts
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_VALUES_MAX = 1 << 22  # of a matrix of some of the rows


def evaluate(params: Mapping[str, Any]) -> Any:
    """Make the evaluation of clusters; rows without a cluster are left out."""
    prediction, label = params["predictionCol"], params.get("labelCol")
    vector: str | None = params.get("vectorCol")

    def run(rows: Group) -> pa.Table:
        counts = _counted(rows, prediction)
        clusters = descending(counts)[::-1]
        if not clusters:
            raise Unreadable(f"no row has a cluster in {prediction!r}")
        found: dict[str, Any] = {
            "k": len(clusters),
            "count": sum(counts.values()),
            "clusterArray": clusters,
            "countArray": [float(counts[name]) for name in clusters],
        }
        if label is not None:
            found |= _agreement(rows, prediction, label)
        if vector is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                found |= _Shape(rows, prediction, vector, params["distanceType"], clusters).found
        return metrics_row(found, params["column"])

    return run


def _counted(rows: Group, column: str) -> dict[str, int]:
    own: dict[str, int] = {}
    for batch in rows:
        for text in texts(batch.column(column)):
            if text is not None:
                own[text] = own.get(text, 0) + 1
    return _added(rows, own)


def _added(rows: Group, own: Mapping[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in rows.gather(json.dumps(own).encode()):
        for name, number in json.loads(part).items():
            counts[name] = counts.get(name, 0) + number
    return counts


def _agreement(rows: Group, prediction: str, label: str) -> dict[str, Any]:
    """Give what a table of clusters and labels says [Hubert and Arabie 1985; Strehl 2002]."""
    own: dict[str, int] = {}
    for batch in rows:
        pairs = zip(texts(batch.column(prediction)), texts(batch.column(label)), strict=True)
        for said, real in pairs:
            if said is not None and real is not None:
                key = json.dumps([said, real])
                own[key] = own.get(key, 0) + 1
    counts = {tuple(json.loads(key)): number for key, number in _added(rows, own).items()}
    if not counts:
        raise Unreadable(f"no row has both a cluster in {prediction!r} and a label in {label!r}")
    said = descending(pair[0] for pair in counts)
    real = descending(pair[1] for pair in counts)
    matrix = np.array([[counts.get((p, r), 0) for r in real] for p in said], np.float64)
    total = matrix.sum()
    clusters, labels = matrix.sum(axis=1), matrix.sum(axis=0)
    share = matrix / total
    expected = np.outer(clusters, labels) / total**2
    information = float((share * np.log2(np.where(share > 0, share / expected, 1.0))).sum())
    entropy = _entropy(clusters / total) + _entropy(labels / total)
    together, same, alike, every = (
        float((part * (part - 1) / 2).sum()) for part in (matrix, clusters, labels, total)
    )
    chance = same * alike / every if every else 0.0
    most = (same + alike) / 2
    return {
        "nmi": 2 * information / entropy if entropy else 1.0,
        "purity": float(matrix.max(axis=1).sum() / total),
        "ri": (every + 2 * together - same - alike) / every if every else 1.0,
        "ari": (together - chance) / (most - chance) if most != chance else 1.0,
        "ConfusionMatrix": matrix.astype(np.int64),
        "LabelArray": real,
        "PredArray": said,
    }


def _entropy(share: Array) -> float:
    return -float((share * np.log2(np.where(share > 0, share, 1.0))).sum())


class _Shape:
    """What clusters' vectors say, by three passes: sizes and sums, distances, silhouettes."""

    def __init__(
        self, rows: Group, prediction: str, vector: str, distance: str, clusters: list[str]
    ) -> None:
        self._rows, self._prediction, self._vector = rows, prediction, vector
        self._distance = distance
        self._places = {name: i for i, name in enumerate(clusters)}
        self._size = self._width()
        k = len(clusters)
        counts, sums, norms = np.zeros(k), np.zeros((k, self._size)), np.zeros(k)
        for places, points in self._blocks():
            counts += np.bincount(places, minlength=k)
            norms += np.bincount(places, (points**2).sum(axis=1), minlength=k)
            for place in np.unique(places):
                sums[place] += points[places == place].sum(axis=0)
        counts, sums, norms = rows.sum(counts, sums, norms)
        if not (counts > 0).all():
            name = clusters[int(np.flatnonzero(counts == 0)[0])]
            raise Unreadable(f"the cluster {name!r:.40} has no row with a vector in {vector!r}")
        self._counts, self._norms = counts, norms
        self._centres = sums / counts[:, None]
        self.found = self._metrics(sums.sum(axis=0) / counts.sum())

    def _width(self) -> int:
        size = 0
        for batch in self._rows:
            size = max(size, read_vectors(batch, self._vector).known_size)
        return int(self._rows.largest([size])[0])

    def _blocks(self) -> Iterator[tuple[Places, Array]]:
        """Give the clusters' places and the vectors of some of the rows, as a matrix."""
        step = max(1, _VALUES_MAX // max(self._size, 1))
        for batch in self._rows:
            for begin in range(0, batch.num_rows, step):
                part = batch.slice(begin, step)
                names = texts(part.column(self._prediction))
                places = np.array([self._places.get(n, -1) if n else -1 for n in names], np.int64)
                vectors: Vectors = read_vectors(part, self._vector)
                if vectors.valid is not None:
                    places[~vectors.valid] = -1
                points = vectors.matrix(self._size)[places >= 0]
                if not np.isfinite(points).all():
                    raise Unreadable(f"a vector in {self._vector!r} has NaN or infinite values")
                yield places[places >= 0], self._scaled(points)

    def _scaled(self, points: Array) -> Array:
        if self._distance != "COSINE":
            return points
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        if not norms.all():
            raise Unreadable(f"a vector in {self._vector!r} is 0: its cosines are not defined")
        return points / norms

    def _distances(self, points: Array, centre: Array) -> Array:
        """Give the distances of points, shape (n, d), to one point, or to one each."""
        if self._distance == "EUCLIDEAN":
            return np.sqrt(((points - centre) ** 2).sum(axis=-1))
        if self._distance == "CITYBLOCK":
            return np.abs(points - centre).sum(axis=-1).astype(np.float64, copy=False)
        product = (points * centre).sum(axis=-1)
        return 1 - product / np.linalg.norm(points, axis=-1) / np.linalg.norm(centre, axis=-1)

    def _metrics(self, middle: Array) -> dict[str, Any]:
        k, total = len(self._counts), float(self._counts.sum())
        near, squares, silhouette = np.zeros(k), np.zeros(k), 0.0
        for places, points in self._blocks():
            distances = self._distances(points, self._centres[places])
            near += np.bincount(places, distances, minlength=k)
            squares += np.bincount(places, distances**2, minlength=k)
            if self._distance != "CITYBLOCK" and k > 1:
                silhouette += float(self._silhouettes(places, points).sum())
        near, squares, sums = self._rows.sum(near, squares, silhouette)
        compact = near / self._counts
        ssb = float(self._counts @ self._distances(self._centres, middle) ** 2)
        ssw = float(squares.sum())
        apart = np.array([self._distances(self._centres, centre) for centre in self._centres])
        pairs = (compact[:, None] + compact) / apart
        np.fill_diagonal(pairs, 0.0)
        found = {
            "ssb": ssb,
            "ssw": ssw,
            "cp": float(compact.mean()),
            "sp": float(np.float64(np.triu(apart, 1).sum()) * 2 / (k * k - k)),
            "db": float(pairs.max(axis=1).mean()),
            "vrc": float(np.float64(ssb) * (total - k) / ssw / np.float64(k - 1)),
        }
        if k == 1:
            found |= {"sp": math.nan, "db": math.nan, "vrc": math.nan}
        elif self._distance != "CITYBLOCK":
            found["silhouetteCoefficient"] = float(sums) / total
        return found

    def _silhouettes(self, places: Places, points: Array) -> Array:
        """Give silhouettes of mean squared distances, or mean cosine distances, to clusters.

        They follow from the clusters' sums, without the distances of pairs, as Spark has them.
        A point alone in its cluster has distance 0 within it.
        """
        counts = self._counts
        products = points @ self._centres.T
        if self._distance == "EUCLIDEAN":
            squares = (points**2).sum(axis=1)
            mean = np.maximum(squares[:, None] - 2 * products + self._norms / counts, 0.0)
        else:
            mean = 1 - products
        rows = np.arange(len(places))
        own = counts[places]
        within = np.where(own > 1, mean[rows, places] * own / np.maximum(own - 1, 1), 0.0)
        mean[rows, places] = np.inf
        other = mean.min(axis=1)
        larger = np.maximum(within, other)
        return np.where(larger > 0, (other - within) / np.where(larger > 0, larger, 1.0), 0.0)
