"""Naive Bayes of vectors of counts, or of zeros and ones: texts by their words.

The model is Alink's: logarithms of the labels' shares and of the features' within each label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Dense
from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._posteriors import predictions, softmax
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors

Array = npt.NDArray[np.float64]


def train(params: Mapping[str, Any]) -> Any:
    """Make the training, multinomial or Bernoulli [McCallum and Nigam, 1998]."""

    def run(rows: Group) -> pa.Table:
        blocks = Blocks(rows, params)
        labels = blocks.labels()
        if not labels:
            raise Unreadable("there are no rows to train with")
        codes = blocks.codes(labels)
        sums, weights = np.zeros((blocks.size, len(labels))), np.zeros(len(labels))
        for block in blocks:
            features = block.features
            values = features.values if isinstance(features, Dense) else features.vectors.values
            _check(values, params["modelType"], params["vectorCol"])
            of = np.zeros((len(block.features), len(labels)))
            of[np.arange(len(of)), codes[block.rows]] = block.weight
            sums += block.features.transposed(of)
            weights += of.sum(axis=0)
        sums, weights = rows.sum(sums, weights)
        return _write(params, rows, labels, sums.T, weights)

    return run


def _check(values: Array, kind: str, column: str) -> None:
    if kind == "Bernoulli" and not ((values == 0) | (values == 1)).all():
        raise Unreadable(f"the vectors in {column!r} have other values than 0 and 1: {_HINT}")
    if not (values >= 0).all():
        raise Unreadable(f"the vectors in {column!r} have values below 0: counts have none")


_HINT = "modelType Bernoulli needs them, Multinomial takes counts"


def _write(
    params: Mapping[str, Any], rows: Group, labels: Sequence[Any], sums: Array, weights: Array
) -> pa.Table:
    smoothing: float = params["smoothing"]
    bernoulli = params["modelType"] == "Bernoulli"
    size = sums.shape[1]
    every = weights + 2 * smoothing if bernoulli else sums.sum(axis=1) + size * smoothing
    with np.errstate(divide="ignore"):
        pi = np.log(weights + smoothing) - np.log(weights.sum() + len(labels) * smoothing)
        logs = np.log(sums + smoothing)
        theta = np.where(every[:, None] > 0, logs - np.log(every)[:, None], -np.inf)
    # Alink's matrices stand column by column.
    matrix = {"m": len(labels), "n": size, "data": theta.T.ravel().tolist()}
    content = {"piArray": pi.tolist(), "theta": matrix, "vectorSize": size}
    meta = {"modelType": params["modelType"].upper(), "vectorCol": params["vectorCol"]}
    kind = rows.schema.field(params["labelCol"]).type
    return write_model(Model(meta, [json.dumps(content)], list(labels)), kind)


def read_content(model: Model) -> tuple[Array, Array]:
    """Give the logarithms of the labels' shares, and of the features', shape (labels, d)."""
    content = json.loads(model.data[0]) if model.data else {}
    if "piArray" not in content:
        raise BadModel("the model is not one of naive Bayes of texts")
    matrix = content["theta"]
    theta = np.array(matrix["data"], np.float64).reshape(matrix["n"], matrix["m"]).T
    return np.array(content["piArray"], np.float64), theta


class Predict:
    """Applies the model; features that the training had not are left out."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._vector: str = params["vectorCol"]
        self._types = types
        self._labels: pa.Array = pa.nulls(0)
        self._kind = ""
        self._base: Array = np.empty(0)
        self._weights: Array = np.empty((0, 0))

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        self._base, self._weights = read_content(model)
        self._kind = str(model.get("modelType")).capitalize()
        self._labels = pa.array(model.labels, self._types[0])
        if self._kind == "Bernoulli":
            # A word that is not there tells something too.
            with np.errstate(divide="ignore"):
                absent = np.log1p(-np.minimum(np.exp(self._weights), 1.0))
            self._base = self._base + absent.sum(axis=1)
            self._weights = self._weights - absent

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the label of each row, and if asked for the probabilities."""
        vectors = read_vectors(batch, self._vector)
        _check(vectors.values, self._kind, self._vector)
        missing = np.zeros(len(vectors), np.bool_) if vectors.valid is None else ~vectors.valid
        return predictions(
            softmax(self._scores(vectors)), self._labels, missing, len(self._types) > 1
        )

    def _scores(self, vectors: Vectors) -> Array:
        of, at = vectors.rows_of_values, vectors.indices_of_values
        # What is 0 tells nothing, not even of a label for which it would be impossible.
        used = (at < self._weights.shape[1]) & (vectors.values != 0)
        of, at, values = of[used], at[used], vectors.values[used]
        columns = [
            base + np.bincount(of, values * row[at], len(vectors))
            for base, row in zip(self._base, self._weights, strict=True)
        ]
        return np.column_stack(columns).astype(np.float64, copy=False)
