"""Multilayer perceptrons: layers of sigmoids, and a softmax on top.

The model is Alink's: the sizes of the layers, and all weights in one vector, layer by layer: the
matrix from a layer to the next, row by row, then the biases.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Scaling, counted
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._moments import numbers
from ._optimize import minimize
from ._posteriors import predictions, softmax
from ._random import uniform
from ._strings import Unreadable
from ._vectors import read_vectors

Array = npt.NDArray[np.float64]

_SEED = 1


def weight_count(layers: Sequence[int]) -> int:
    """Tell how many weights a network has."""
    return sum((a + 1) * b for a, b in itertools.pairwise(layers))


def _layers_of(weights: Array, layers: Sequence[int]) -> Iterator[tuple[Array, Array]]:
    """Give the matrix and the biases of each layer, as views."""
    at = 0
    for size, following in itertools.pairwise(layers):
        end = at + size * following
        yield weights[at:end].reshape(size, following), weights[end : end + following]
        at = end + following


def _initial(layers: Sequence[int]) -> Array:
    """Draw the weights that training begins with [Glorot and Bengio, 2010]; biases are 0."""
    weights = uniform(_SEED, 0, np.arange(weight_count(layers))) * 2 - 1
    for matrix, bias in _layers_of(weights, layers):
        matrix[:] *= np.sqrt(6.0 / sum(matrix.shape))
        bias[:] = 0.0
    return weights


def _sigmoid(values: Array) -> Array:
    return (np.tanh(values / 2) + 1) / 2


def train(params: Mapping[str, Any]) -> Any:
    """Make the training: the mean cross-entropy is minimised by L-BFGS, by backpropagation.

    Features are divided by their largest absolute values while it trains, as Alink does, so
    ``initialWeights`` are of those. Rows are taken in blocks of a size of their own:
    ``blockSize`` changes nothing but that.
    """
    layers: Sequence[int] = params["layers"]

    def run(rows: Group) -> pa.Table:
        blocks = Blocks(rows, params)
        labels = blocks.labels()
        if not labels:
            raise Unreadable("there are no rows to train with")
        if blocks.size != layers[0]:
            raise Unreadable(
                f"layers begins with {layers[0]}, but there are {blocks.size} features"
            )
        if len(labels) != layers[-1]:
            raise Unreadable(
                f"layers ends with {layers[-1]}, but the label {params['labelCol']!r} has "
                f"{counted(labels)}"
            )
        weights = _fitted(blocks, blocks.codes(labels), params)
        meta = {
            "isVectorInput": params.get("vectorCol") is not None,
            "layers": list(layers),
            "vectorCol": params.get("vectorCol"),
            "featureCols": params.get("featureCols"),
        }
        kind = rows.schema.field(params["labelCol"]).type
        text = json.dumps({"data": weights.tolist()})
        return write_model(Model(meta, [text], labels), kind)

    return run


def _fitted(blocks: Blocks, codes: Any, params: Mapping[str, Any]) -> Array:
    layers: Sequence[int] = params["layers"]
    most = np.zeros(blocks.size)
    for block in blocks:
        for _, matrix in block.features.matrices():
            most = np.maximum(most, np.abs(matrix).max(axis=0, initial=0.0))
    most = blocks.group.largest(most)
    scaling = Scaling(np.zeros(blocks.size), np.where(most > 0, most, 1.0))
    given = params.get("initialWeights")
    start = _initial(layers) if given is None else np.array(given, np.float64)
    # Biases are not penalised.
    free = np.zeros(len(start))
    for matrix, _ in _layers_of(free, layers):
        matrix[:] = 1.0
    l1, l2 = params.get("l1") or 0.0, params.get("l2") or 0.0

    def objective(at: Array) -> tuple[float, Array]:
        value, gradient = _pass(blocks, codes, scaling, at, layers)
        return value + l2 * float(free @ at**2), gradient + 2 * l2 * free * at

    found = minimize(
        objective,
        start,
        l1=l1 * free if l1 else None,
        iterations_max=params["maxIter"],
        tolerance=params["epsilon"],
    )
    found.warn()
    matrix, _ = next(_layers_of(found.at, layers))
    matrix /= scaling.scale[:, None]
    return found.at


def _pass(
    blocks: Blocks, codes: Any, scaling: Scaling, at: Array, layers: Sequence[int]
) -> tuple[float, Array]:
    """Give the mean cross-entropy over all rows, and its gradient."""
    parts = list(_layers_of(at, layers))
    first = parts[0][0] / scaling.scale[:, None]
    total, gradient = 0.0, np.zeros_like(at)
    slopes = list(_layers_of(gradient, layers))
    for block in blocks:
        rows = np.arange(len(block.features))
        outputs = [block.features.times(first) + parts[0][1]]
        for matrix, bias in parts[1:]:
            outputs[-1] = _sigmoid(outputs[-1])
            outputs.append(outputs[-1] @ matrix + bias)
        said = softmax(outputs[-1])
        real = codes[block.rows]
        total -= float(block.weight @ np.log(np.maximum(said[rows, real], 1e-300)))
        delta = said
        delta[rows, real] -= 1.0
        delta *= block.weight[:, None]
        for place in range(len(parts) - 1, 0, -1):
            below = outputs[place - 1]
            slopes[place][0][:] += below.T @ delta
            slopes[place][1][:] += delta.sum(axis=0)
            delta = (delta @ parts[place][0].T) * below * (1 - below)
        slopes[0][0][:] += block.features.transposed(delta)
        slopes[0][1][:] += delta.sum(axis=0)
    value, gradient = blocks.group.sum(total, gradient)
    gradient /= blocks.total
    matrix, _ = next(_layers_of(gradient, layers))
    matrix /= scaling.scale[:, None]
    return float(value) / blocks.total, gradient


class Predict:
    """Applies a network: a label, and the probabilities of all; NULL where a feature is."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._labels: pa.Array = pa.nulls(0)
        self._layers: Sequence[int] = []
        self._weights: list[tuple[Array, Array]] = []
        self._vector: str | None = None
        self._names: list[str] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._layers = model.get("layers")
        weights = np.array(json.loads(model.data[0])["data"], np.float64)
        if len(weights) != weight_count(self._layers):
            raise BadModel(f"the model has {len(weights)} weights, not those of its layers")
        self._weights = list(_layers_of(weights, self._layers))
        self._labels = pa.array(model.labels, self._types[0])
        if model.get("isVectorInput"):
            self._vector = self._params.get("vectorCol") or model.get("vectorCol")
        else:
            self._names = model.get("featureCols")

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the label of each row, and if asked for the probabilities."""
        values, missing = self._features(batch)
        for place, (matrix, bias) in enumerate(self._weights):
            values = (_sigmoid(values) if place else values) @ matrix + bias
        return predictions(softmax(values), self._labels, missing, len(self._types) > 1)

    def _features(self, batch: pa.RecordBatch) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._vector is not None:
            vectors = read_vectors(batch, self._vector)
            lost = np.zeros(len(vectors), np.bool_) if vectors.valid is None else ~vectors.valid
            return vectors.matrix(self._layers[0]), lost
        values = numbers(batch, self._names)
        missing = np.zeros(batch.num_rows, np.bool_)
        missing |= np.isnan(values).any(axis=1)
        return np.nan_to_num(values), missing
