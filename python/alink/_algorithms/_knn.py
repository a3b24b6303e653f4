"""The nearest of the rows that were trained with, and what most of them say.

The model has all rows: after the meta texts of JSON with some rows each, ``labels`` (places among
the model's labels), ``sizes`` and ``values``, and of sparse vectors ``indices``, all as bytes in
base 64, little-endian.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Dense, codes_of
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._moments import numbers
from ._posteriors import predictions
from ._spaces import on_sphere, to_unit
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_CHUNK_ROWS = 4096  # of the model that are compared at the same time
_VALUES_MAX = 1 << 22  # of a matrix that comparing makes
_SPARE = 16  # nearest ones by products, beyond k, whose distances are computed anew


def train(params: Mapping[str, Any]) -> Any:
    """Make the training [Cover and Hart, 1967]: the rows are kept."""

    def run(rows: Group) -> pa.Table:
        blocks = Blocks(rows, params)
        labels = blocks.labels()
        if not labels:
            raise Unreadable("there are no rows to train with")
        if not blocks.dense and params["distanceType"] not in ("EUCLIDEAN", "COSINE"):
            raise Unreadable(
                f"{params['distanceType']} is not for sparse vectors: make them dense first"
            )
        own: list[str] = []
        for block in blocks:
            codes = codes_of(block.label, labels)
            for begin in range(0, len(codes), _CHUNK_ROWS):
                part = slice(begin, begin + _CHUNK_ROWS)
                own.append(_chunk(block.features, part, codes[part]))
        texts = [t for part in rows.gather(json.dumps(own).encode()) for t in json.loads(part)]
        meta = {
            "distanceType": params["distanceType"],
            "vectorCol": params.get("vectorCol"),
            "featureCols": params.get("featureCols"),
            "vectorSize": blocks.size,
        }
        kind = rows.schema.field(params["labelCol"]).type
        return write_model(Model(meta, texts, labels), kind)

    return run


def _chunk(features: Any, part: slice, codes: Places) -> str:
    if isinstance(features, Dense):
        rows = features.values[part]
        found = {"labels": _packed(codes, "<i4"), "values": _packed(rows, "<f8")}
        return json.dumps(found)
    vectors: Vectors = features.vectors
    begin, end = int(vectors.offsets[part.start]), int(vectors.offsets[part.start + len(codes)])
    lengths = vectors.lengths[part.start : part.start + len(codes)]
    found = {
        "labels": _packed(codes, "<i4"),
        "sizes": _packed(lengths, "<i4"),
        "indices": _packed(features.indices[begin:end], "<i4"),
        "values": _packed(vectors.values[begin:end], "<f8"),
    }
    return json.dumps(found)


def _packed(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


class _Chunk:
    """Some rows of the model, as points of a space."""

    def __init__(self, text: str, size: int, distance: str) -> None:
        content = json.loads(text)
        self.labels: Places = _unpacked(content["labels"], "<i4").astype(np.int64)
        values = _unpacked(content["values"], "<f8").astype(np.float64)
        self.sparse = "indices" in content
        unit = distance in ("COSINE", "PEARSON")
        if not self.sparse:
            self.points = points_of(values.reshape(len(self.labels), size), distance)
            self.squares = np.einsum("ij,ij->i", self.points, self.points)
            if unit:  # of zeros too: they are at a right angle to all others
                self.squares = np.ones(len(self.labels))
            return
        lengths = _unpacked(content["sizes"], "<i4")
        self._of = np.repeat(np.arange(len(lengths)), lengths)
        self._at = _unpacked(content["indices"], "<i4").astype(np.intp)
        self.squares = np.bincount(self._of, values**2, len(lengths)).astype(np.float64)
        if unit:
            norms = np.sqrt(self.squares)
            values = values / np.where(norms > 0, norms, 1.0)[self._of]
            self.squares = np.ones(len(lengths))
        self._values = values

    def products(self, points: Array) -> Array:
        """Multiply by points, shape (n, d): a matrix of (n, rows)."""
        if not self.sparse:
            return points @ self.points.T
        rows = [
            np.bincount(self._of, self._values * point[self._at], len(self.labels))
            for point in points
        ]
        return np.array(rows, np.float64).reshape(len(points), len(self.labels))


def points_of(rows: Array, distance: str) -> Array:
    """Give points whose Euclidean distances are in the order of a distance."""
    if distance == "PEARSON":
        rows = rows - rows.mean(axis=1, keepdims=True)
    if distance in ("COSINE", "PEARSON"):
        return to_unit(rows)
    return on_sphere(rows) if distance == "HAVERSINE" else rows


class Predict:
    """Applies the model: the label that most of the nearest have; NULL where a feature is.

    Of rows as near as the k-th the first are taken; of labels as frequent the one that a nearer
    row has.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._k: int = params["k"]
        self._labels: pa.Array = pa.nulls(0)
        self._chunks: list[_Chunk] = []
        self._distance = "EUCLIDEAN"
        self._size = 0
        self._vector: str | None = None
        self._names: list[str] = []
        self._origin: Array = np.empty(0)
        self._sparse = False

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._distance, self._size = model.get("distanceType"), model.get("vectorSize")
        if not model.data or "labels" not in json.loads(model.data[0]):
            raise BadModel("the model is not one of nearest neighbours")
        self._labels = pa.array(model.labels, self._types[0])
        self._chunks = [_Chunk(text, self._size, self._distance) for text in model.data]
        self._vector = self._params.get("vectorCol") or model.get("vectorCol")
        self._names = model.get("featureCols") or []
        self._move()

    def _move(self) -> None:
        """Move dense points near the origin, where little is lost by products."""
        self._sparse = any(chunk.sparse for chunk in self._chunks)
        if self._distance != "EUCLIDEAN" or self._sparse:
            self._origin = np.zeros(self._size)
            return
        count = sum(len(chunk.labels) for chunk in self._chunks)
        self._origin = np.sum([chunk.points.sum(axis=0) for chunk in self._chunks], axis=0) / count
        for chunk in self._chunks:
            chunk.points = chunk.points - self._origin
            chunk.squares = np.einsum("ij,ij->i", chunk.points, chunk.points)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the label of each row, and if asked for the shares of the nearest."""
        shares = np.zeros((batch.num_rows, len(self._labels)))
        best = np.zeros(batch.num_rows, np.int64)
        missing = np.zeros(batch.num_rows, np.bool_)
        step = max(1, _VALUES_MAX // max(self._size, _CHUNK_ROWS))
        for begin in range(0, batch.num_rows, step):
            rows, lost = self._features(batch.slice(begin, step))
            part = slice(begin, begin + len(rows))
            missing[part] = lost
            shares[part], best[part] = self._shares(rows)
        return predictions(shares, self._labels, missing, len(self._types) > 1, best)

    def _features(self, batch: pa.RecordBatch) -> tuple[Array, npt.NDArray[np.bool_]]:
        lost = np.zeros(batch.num_rows, np.bool_)
        if self._vector is None:
            values = numbers(batch, self._names)
        else:
            vectors = read_vectors(batch, self._vector)
            values = vectors.matrix(self._size)
            if vectors.valid is not None:
                lost |= ~vectors.valid
        lost |= np.isnan(values).any(axis=1)
        return np.where(lost[:, None], 0.0, values), lost

    def _shares(self, rows: Array) -> tuple[Array, Places]:
        points = points_of(rows, self._distance)
        if self._distance == "EUCLIDEAN":
            points = points - self._origin
        distances, labels = self._nearest(points)
        k = distances.shape[1]
        each = np.arange(len(rows))
        counts = np.zeros((len(rows), len(self._labels)))
        for place in range(k):
            counts[each, labels[:, place]] += 1
        best = counts.argmax(axis=1)
        for place in range(k - 1, -1, -1):  # the nearest last: it says what wins
            label = labels[:, place]
            best = np.where(counts[each, label] == counts[each, best], label, best)
        return counts / k, best

    def _nearest(self, points: Array) -> tuple[Array, Places]:
        """Give the distances of the k nearest rows, the nearest first, and their labels."""
        keep = self._k + _SPARE
        best = np.empty((len(points), 0))
        found = np.empty((len(points), 0), np.int64)  # numbers of rows, chunk by chunk
        start = 0
        for distances, chunk in self._compared(points):
            best = np.concatenate((best, distances), axis=1)
            own = np.broadcast_to(np.arange(start, start + len(chunk.labels)), distances.shape)
            found = np.concatenate((found, own), axis=1)
            start += len(chunk.labels)
            if best.shape[1] > keep:
                order = np.sort(np.argpartition(best, keep - 1, axis=1)[:, :keep], axis=1)
                best = np.take_along_axis(best, order, axis=1)
                found = np.take_along_axis(found, order, axis=1)
        best = self._exact(points, best, found)
        order = np.lexsort((found, best), axis=1)[:, : self._k]
        labels = np.concatenate([chunk.labels for chunk in self._chunks])
        return (
            np.take_along_axis(best, order, axis=1),
            labels[np.take_along_axis(found, order, axis=1)],
        )

    def _compared(self, points: Array) -> Iterator[tuple[Array, _Chunk]]:
        """Give distances, or their squares, from the rows of each chunk: (points, rows)."""
        squares = np.einsum("ij,ij->i", points, points)
        for chunk in self._chunks:
            if self._distance != "CITYBLOCK":
                yield squares[:, None] - 2 * chunk.products(points) + chunk.squares, chunk
                continue
            distances = np.empty((len(points), len(chunk.labels)))
            for place, point in enumerate(points):
                distances[place] = np.abs(chunk.points - point).sum(axis=1)
            yield distances, chunk

    def _exact(self, points: Array, best: Array, found: Places) -> Array:
        """Compute the distances of the nearest anew, from differences: products round."""
        if self._distance not in ("EUCLIDEAN", "HAVERSINE") or self._sparse:
            return best
        result = np.empty_like(best)
        start = 0
        for chunk in self._chunks:
            row, column = np.nonzero((found >= start) & (found < start + len(chunk.labels)))
            apart = points[row] - chunk.points[found[row, column] - start]
            result[row, column] = np.einsum("ij,ij->i", apart, apart)
            start += len(chunk.labels)
        return result
