"""Naive Bayes of columns: counts of categories, and normal distributions of numbers.

The model is Alink's: of each label the logarithm of its share, and of each feature the logarithms
of the shares of its categories, or mean and variance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._blocks import codes_of, labels_of
from ._group import Group
from ._metrics import texts
from ._models import BadModel, Model, read_model, write_model
from ._moments import numbers
from ._posteriors import predictions, softmax
from ._strings import Unreadable

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

# The density of a value that is, or is not, the only one that a label has.
_CERTAIN, _IMPOSSIBLE = math.log(np.finfo(float).max), math.log(5e-324)
_SAME = 1e-5  # so near to the only value it is that one
_TEXTS_BEFORE_TOKENS = 3  # in the model: probabilities, weights, counts


def train(params: Mapping[str, Any]) -> Any:
    """Make the training [Mitchell, Machine Learning, 1997, chapter 6]; NULL and NaN tell nothing.

    ``smoothing`` is added to the weight of each category, and of each label.
    """
    names: Sequence[str] = params["featureCols"]
    label: str = params["labelCol"]
    categorical: Sequence[bool] = params["isCate"]

    def run(rows: Group) -> pa.Table:
        if any(batch.column(label).null_count for batch in rows):
            raise Unreadable(f"the label {label!r} is NULL in a row of the training")
        labels = labels_of(rows, label)
        if not labels:
            raise Unreadable("there are no rows to train with")
        of = [n for n, c in zip(names, categorical, strict=True) if c]
        counts, tokens = _counted(rows, params, of, labels)
        gaussian = _gaussian(rows, params, [n for n in names if n not in of], labels)
        return _write(params, rows, labels, counts | gaussian, tokens)

    return run


def _weights(batch: pa.RecordBatch, column: str | None) -> Array:
    if column is None:
        return np.ones(batch.num_rows)
    weights = numbers(batch, [column])[:, 0]
    if not (weights >= 0).all():  # NaN is not
        raise Unreadable(f"the weights in {column!r} are not numbers of 0 and more")
    return weights


def _counted(
    rows: Group, params: Mapping[str, Any], names: Sequence[str], labels: Sequence[Any]
) -> tuple[dict[str, Array], dict[str, list[str]]]:
    """Give the weights of categories, shape (labels, categories), and the categories."""
    own: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for batch in rows:
        codes = codes_of(batch.column(params["labelCol"]), labels)
        weights = _weights(batch, params.get("weightCol"))
        for name in names:
            _count(own[name], batch.column(name), codes, weights, len(labels))
    parts = [json.loads(part) for part in rows.gather(json.dumps(own).encode())]
    tokens = {name: sorted({token for part in parts for token in part[name]}) for name in names}
    none = [0.0] * len(labels)
    counts = {
        name: np.array(
            [[part[name].get(t, none) for t in tokens[name]] for part in parts], np.float64
        )
        .reshape(len(parts), len(tokens[name]), len(labels))
        .sum(axis=0)
        .T
        for name in names
    }
    return counts, tokens


def _count(
    into: dict[str, list[float]], column: pa.Array, codes: Codes, weights: Array, labels: int
) -> None:
    encoded = column.dictionary_encode()
    places = numpy_of(encoded.indices.fill_null(-1))
    known = texts(encoded.dictionary)
    some = places >= 0
    sums = np.bincount(
        places[some] * labels + codes[some], weights[some], len(known) * labels
    ).reshape(len(known), labels)
    for token, row in zip(known, sums, strict=True):
        if token is not None:
            into[token] = (row + into.get(token, 0.0)).tolist()


def _gaussian(
    rows: Group, params: Mapping[str, Any], names: Sequence[str], labels: Sequence[Any]
) -> dict[str, Array]:
    """Give of each label's values weight, mean and variance, shape (labels, 3)."""
    shape = len(labels), len(names)
    weight, sums, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(into: Array, power: int, about: Array | None = None) -> None:
        for batch in rows:
            values = numbers(batch, names)
            codes = codes_of(batch.column(params["labelCol"]), labels)
            if about is not None:
                values = values - about[codes]
            if np.isinf(values).any():
                raise Unreadable(f"{', '.join(map(repr, names))}: a value is infinite")
            factor = _weights(batch, params.get("weightCol"))[:, None] * ~np.isnan(values)
            parts = np.nan_to_num(values) ** power * factor
            for place in range(len(labels)):
                into[place] += parts[codes == place].sum(axis=0)

    add(weight, 0)
    add(sums, 1)
    weight, sums = rows.sum(weight, sums)
    mean = np.where(weight > 0, sums / np.where(weight > 0, weight, 1.0), np.nan)
    add(squares, 2, mean)
    (squares,) = rows.sum(squares)
    variance = squares / np.where(weight > 0, weight, 1.0)
    found = np.stack([weight, mean, variance], axis=2)
    return {name: found[:, i] for i, name in enumerate(names)}


def _write(
    params: Mapping[str, Any],
    rows: Group,
    labels: Sequence[Any],
    found: Mapping[str, Array],
    tokens: Mapping[str, list[str]],
) -> pa.Table:
    smoothing: float = params["smoothing"]
    names: Sequence[str] = params["featureCols"]
    weights = np.column_stack(
        [found[n].sum(axis=1) if n in tokens else found[n][:, 0] for n in names]
    )
    label_weights = weights.sum(axis=1)
    with np.errstate(divide="ignore"):
        total = np.log(label_weights.sum() + smoothing * len(labels))
        pi = np.log(label_weights + smoothing) - total
        theta: list[list[list[float]]] = [[] for _ in labels]
        counts: list[list[Any]] = [[] for _ in labels]
        for j, name in enumerate(names):
            for i in range(len(labels)):
                row = found[name][i]
                kept = row if name in tokens else row[1:]
                counts[i].append(
                    {"n": -1, "indices": list(range(len(kept))), "values": kept.tolist()}
                )
                if name in tokens:
                    every = np.log(weights[i, j] + smoothing * len(row))
                    kept = np.where(row + smoothing > 0, np.log(row + smoothing) - every, -np.inf)
                theta[i].append(kept.tolist())
    columns = list(tokens)
    indexed: list[list[Any]] = [[-1, json.dumps({"selectedCols": json.dumps(columns)}), None]]
    indexed += [[c, t, i] for c, n in enumerate(columns) for i, t in enumerate(tokens[n])]
    data = [{"pi": pi.tolist(), "theta": theta}, weights.tolist(), counts, *indexed]
    meta = {
        "featureCols": list(names),
        "isCate": list(params["isCate"]),
        "labelWeights": label_weights.tolist(),
        "stringIndexerModelSize": len(data),
    }
    kind = rows.schema.field(params["labelCol"]).type
    lines = [json.dumps(part, ensure_ascii=False) for part in data]
    return write_model(Model(meta, lines, list(labels)), kind)


class Predict:
    """Applies the model: a label, and the probabilities of all.

    A value that is missing or a category that the training had not tells nothing.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._labels: pa.Array = pa.nulls(0)
        self._pi: Array = np.empty(0)
        self._tables: dict[str, Array] = {}
        self._tokens: dict[str, dict[str, int]] = {}
        del params

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        names: Sequence[str] = model.get("featureCols")
        categorical: Sequence[bool] = model.get("isCate")
        content = json.loads(model.data[0]) if model.data else {}
        if "theta" not in content:
            raise BadModel("the model is not one of naive Bayes")
        self._labels = pa.array(model.labels, self._types[0])
        self._pi = np.array(content["pi"], np.float64)
        columns = [n for n, c in zip(names, categorical, strict=True) if c]
        self._tokens = {name: {} for name in columns}
        for text in model.data[_TEXTS_BEFORE_TOKENS:]:
            column, token, place = json.loads(text)
            if column >= 0:
                self._tokens[columns[column]][token] = int(place)
        self._tables = {
            name: np.array([row[j] for row in content["theta"]], np.float64)
            for j, name in enumerate(names)
        }

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the label of each row, and if asked for the probabilities."""
        scores = np.repeat(self._pi[None, :], batch.num_rows, axis=0)
        for name, table in self._tables.items():
            if name in self._tokens:
                scores += self._category(batch.column(name), name, table)
            else:
                scores += _density(numbers(batch, [name])[:, 0], table)
        missing = np.zeros(batch.num_rows, np.bool_)
        return predictions(softmax(scores), self._labels, missing, len(self._types) > 1)

    def _category(self, column: pa.Array, name: str, table: Array) -> Array:
        """Give logarithms of shares; the last row of what is looked up is of what is not known."""
        places = self._tokens[name]
        encoded = column.dictionary_encode()
        known = [places.get(t or "", -1) for t in texts(encoded.dictionary)]
        lookup = np.vstack([table.T, np.zeros(len(table))])
        at = np.array([*known, -1])[numpy_of(encoded.indices.fill_null(len(known)))]
        return lookup[at]


def _density(values: Array, table: Array) -> Array:
    """Give logarithms of normal densities, shape (rows, labels)."""
    mean, variance = table[:, 0], table[:, 1]
    apart = values[:, None] - mean
    safe = np.where(variance > 0, variance, 1.0)
    normal = -(apart**2) / (2 * safe) - 0.5 * np.log(2 * np.pi * safe)
    single = np.where(np.abs(apart) <= _SAME, _CERTAIN, _IMPOSSIBLE)
    found = np.where(variance > 0, normal, single)
    return np.where(np.isnan(apart), 0.0, found)  # neither a value that is missing nor no values
