"""Self-organizing maps: neurons on a grid that come to stand where vectors do.

T. Kohonen, "Essentials of the self-organizing map", Neural Networks 37, 2013: the batch form, in
which each pass moves every neuron towards the mean of the vectors, weighed by how near their best
neurons are on the grid. The order of rows does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._group import Group
from ._moments import Array
from ._random import uniform
from ._schemas import MAP
from ._strings import Unreadable, java_float
from ._vectors import Vectors, read_vectors

Params = Mapping[str, Any]
_SEED = 0
_PULL_MIN = 1e-12  # below it no vector is near to a neuron
_CELLS_MAX = 2**22  # of a matrix of distances, 32 MiB

#: The columns of a map: each row is a neuron, with how many vectors it is the nearest of.


def train(params: Params) -> Any:
    """Make the training of a map."""
    xdim, ydim, size = params["xdim"], params["ydim"], params["vdim"]
    neurons = xdim * ydim

    def run(rows: Group) -> pa.Table:
        matrices = _Matrices(rows, params)
        weights = _drawn(rows, matrices, params, neurons)
        for step in range(params["numIters"]):
            decay = 1 / (1 + 2 * step / params["numIters"])
            near = [_bells(count, params["sigma"] * decay) for count in (xdim, ydim)]
            sums, counts = _pass(rows, matrices, weights)
            pull = _spread(near, counts[:, None])
            target = _spread(near, sums) / np.maximum(pull, _PULL_MIN)
            # A neuron that no vector is near to stays.
            rate = min(params["learnRate"] * decay, 1.0) * (pull > _PULL_MIN)
            weights += rate * (target - weights)
        _, counts = _pass(rows, matrices, weights)
        at = np.arange(neurons)
        texts = [",".join(map(java_float, w)) for w in weights.astype(np.float32).tolist()]
        columns = [
            [f"{xdim},{ydim},{size},r"] * neurons,
            at // ydim,
            at % ydim,
            texts,
            counts.astype(int).tolist(),
        ]
        return pa.table(columns, schema=MAP)

    return run


def _bells(count: int, width: float) -> Array:
    """Give how near neurons in a line are to one another: a Gaussian of their distance."""
    at = np.arange(count, dtype=np.float64)
    return np.exp(-((at[:, None] - at) ** 2) / (2 * width**2))


def _spread(near: Sequence[Array], values: Array) -> Array:
    """Add up the values of neurons, weighed by how near they are: first in one direction."""
    x, y = (len(side) for side in near)
    along = np.tensordot(near[0], values.reshape(x, y, -1), 1)
    return np.einsum("ij,xjd->xid", near[1], along).reshape(values.shape)


class _Matrices:
    """The vectors of a worker as matrices; they are kept if there is room for them."""

    def __init__(self, rows: Group, params: Params) -> None:
        self._rows = rows
        self._name, self._size = params["vectorCol"], params["vdim"]
        self._kept: list[tuple[int, Array]] | None = None
        if len(rows) * self._size * 8 <= rows.cache_bytes:
            self._kept = list(self._read())

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        """Give the matrices, with the number of the first vector of each among all rows."""
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[tuple[int, Array]]:
        for start, batch in self._rows.numbered():
            yield start, matrix_of(read_vectors(batch, self._name), self._name, self._size)


def matrix_of(vectors: Vectors, name: str, size: int) -> Array:
    """Give vectors as a matrix; one of another size, NULL and NaN are refused."""
    try:
        values = vectors.matrix(size)
    except Unreadable as error:
        raise Unreadable(f"column {name!r}: {error}") from None
    if vectors.valid is not None or not np.isfinite(values).all():
        raise Unreadable(f"column {name!r} has NULL, NaN or infinite values: leave out the rows")
    return values


def _drawn(rows: Group, matrices: _Matrices, params: Params, count: int) -> Array:
    """Draw vectors to begin with: those of the rows with the least random numbers."""
    best: list[tuple[float, int, list[float]]] = []
    total = 0
    for start, values in matrices:
        total += len(values)
        numbers = np.arange(start, start + len(values))
        keys = uniform(_SEED, 0, numbers)
        first = np.argsort(keys, kind="stable")[:count]
        best += [(float(keys[i]), int(numbers[i]), values[i].tolist()) for i in first]
        best = sorted(best)[:count]
    every = [item for part in rows.gather(json.dumps(best).encode()) for item in json.loads(part)]
    if len(every) < count:
        total = int(rows.sum(total)[0])
        raise Unreadable(
            f"the map has {params['xdim']} · {params['ydim']} neurons, but there are {total} rows: "
            "take a smaller one"
        )
    return np.array([values for _, _, values in sorted(every)[:count]])


def _pass(rows: Group, matrices: _Matrices, weights: Array) -> tuple[Array, Array]:
    """Give, for each neuron, the sum of the vectors that it is nearest to and their count."""
    sums, counts = np.zeros(weights.shape), np.zeros(len(weights))
    for _, values in matrices:
        at = nearest(values, weights)
        np.add.at(sums, at, values)
        counts += np.bincount(at, minlength=len(weights))
    sums, counts = rows.sum(sums, counts)
    return sums, counts


def nearest(values: Array, weights: Array) -> npt.NDArray[np.int64]:
    """Give the neuron that each vector is nearest to."""
    own = (weights**2).sum(axis=1)
    step = max(_CELLS_MAX // len(weights), 1)
    # |v - w|² less |v|², which is the same for all neurons
    parts = [
        (own - 2 * values[begin : begin + step] @ weights.T).argmin(axis=1)
        for begin in range(0, len(values), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


class Predict:
    """Gives the place on the grid of the neuron that each vector is nearest to."""

    def __init__(self, params: Params, types: Sequence[pa.DataType]) -> None:
        self._name: str = params["vectorCol"]
        self._types = types
        self._weights: Array = np.empty((0, 0))
        self._grid: list[Any] = []

    def load(self, table: pa.Table) -> None:
        """Take the map."""
        texts = table.column("weights").to_pylist()
        self._weights = np.array([[float(part) for part in text.split(",")] for text in texts])
        self._grid = [numpy_of(table.column(name)) for name in ("xidx", "yidx")]

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the places."""
        values = matrix_of(read_vectors(batch, self._name), self._name, self._weights.shape[1])
        at = nearest(values, self._weights)
        return [pa.array(g[at], kind) for g, kind in zip(self._grid, self._types, strict=True)]
