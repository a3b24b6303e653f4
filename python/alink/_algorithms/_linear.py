"""Linear models: logistic regression, support vectors, softmax, least squares.

Features are centred and scaled to standard deviation 1 while a model is trained, without a copy of
them; coefficients are those of the features as they come. Penalties are on the coefficients of the
scaled features, the intercept left out: mean loss + ``l1`` · Σ|w| + ``l2`` · Σw².
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._models import BadModel, Model, read_model, write_model
from ._optimize import Array, minimize
from ._scalers import numbers
from ._strings import Unreadable, java_double
from ._vectors import Vectors

#: Features beyond it are no matter of a matrix of products.
_PRODUCTS_MAX = 2048


class Rows:
    """The features of many rows, dense or sparse, centred and scaled without a copy.

    Parameters
    ----------
    dense : array, shape (n, d), or None
    sparse : Vectors or None
    size : int
        d.
    """

    def __init__(self, dense: Array | None, sparse: Vectors | None, size: int) -> None:
        self.dense = dense
        self.sparse = sparse
        self.size = size
        self.centre = np.zeros(size)
        self.scale = np.ones(size)
        if sparse is not None:
            self._of = sparse.rows_of_values
            assert sparse.indices is not None

    def __len__(self) -> int:
        return len(self.dense) if self.dense is not None else len(self._sparse)

    @property
    def _sparse(self) -> Vectors:
        assert self.sparse is not None
        return self.sparse

    def standardize(self, weight: Array, centred: bool) -> None:
        """Find centres and scales of the features; one that is constant is left out."""
        total = weight.sum()
        mean = self.times_transposed(weight) / total
        if self.dense is not None:
            squares = weight @ (self.dense - mean) ** 2 / total
        else:
            values = self._sparse.values
            squares = self._collect(weight[self._of] * values**2) / total - mean**2
        deviation = np.sqrt(np.maximum(squares, 0))
        constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        # An infinite scale takes a feature out: its coefficient stays 0.
        self.scale = np.where(constant, np.inf, deviation)
        self.centre = mean if centred else np.zeros(self.size)

    def _collect(self, values: Array) -> Array:
        indices = self._sparse.indices
        assert indices is not None
        return sums(indices, values, self.size)

    def times(self, weights: Array) -> Array:
        """Multiply the features as they come by weights, shape (d,) or (d, k)."""
        if self.dense is not None:
            return self.dense @ weights
        indices = self._sparse.indices
        assert indices is not None
        if weights.ndim == 1:
            return sums(self._of, self._sparse.values * weights[indices], len(self))
        columns = [self.times(weights[:, j]) for j in range(weights.shape[1])]
        return np.column_stack(columns)

    def times_transposed(self, values: Array) -> Array:
        """Multiply the transposed features as they come by values, shape (n,) or (n, k)."""
        if self.dense is not None:
            return self.dense.T @ values
        if values.ndim == 1:
            return self._collect(self._sparse.values * values[self._of])
        return np.column_stack([self.times_transposed(v) for v in values.T])

    def margins(self, weights: Array, intercept: Any) -> Array:
        """Give what scaled features times weights are, and the intercept."""
        scaled = (weights.T / self.scale).T
        return self.times(scaled) + (intercept - self.centre @ scaled)

    def gradient(self, values: Array) -> Array:
        """Give what transposed scaled features times values are."""
        raw = self.times_transposed(values)
        total = values.sum(axis=0)
        centred = (
            raw - np.multiply.outer(self.centre, total)
            if raw.ndim > 1
            else (raw - self.centre * total)
        )
        return (centred.T / self.scale).T

    def unscaled(self, weights: Array, intercept: Any) -> tuple[Array, Any]:
        """Give weights and intercept of the features as they come."""
        scaled = (weights.T / self.scale).T
        return scaled, intercept - self.centre @ scaled


def sums(places: npt.NDArray[Any], values: Array, count: int) -> Array:
    """Add up values by their places, of which there are `count`."""
    return np.bincount(places, values, count).astype(np.float64, copy=False)


class Gathered:
    """What a training has read: features, labels and weights of its rows.

    Rows with a NULL or NaN are refused, or left out where ``skip``.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._vector: str | None = params.get("vectorCol")
        self._names: list[str] = params.get("featureCols") or []
        self._label: str = params["labelCol"]
        self._weight: str | None = params.get("weightCol")
        self._dense: list[Array] = []
        self._vectors: list[Vectors] = []
        self._labels: list[pa.Array] = []
        self._weights: list[Array] = []

    def read(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Read all rows."""
        for batch in batches:
            if batch.num_rows == 0:
                continue
            label = batch.column(self._label)
            if label.null_count:
                raise Unreadable(f"the label {self._label!r} is NULL in a row of the training")
            self._labels.append(label)
            if self._weight is not None:
                self._weights.append(numbers(batch, [self._weight])[:, 0])
            if self._vector is None:
                values = numbers(batch, self._names)
                _refuse_missing(values, self._names)
                self._dense.append(values)
            else:
                vectors = Vectors.of(batch.column(self._vector))
                if vectors.valid is not None:
                    raise Unreadable(f"the vector {self._vector!r} is NULL in a row")
                _refuse_missing(vectors.values, [self._vector])
                self._vectors.append(vectors)

    def rows(self) -> Rows:
        """Give the features together; what was read is given up."""
        if self._vector is None:
            dense = np.concatenate(self._dense) if self._dense else np.empty((0, len(self._names)))
            self._dense = []
            return Rows(dense, None, dense.shape[1])
        size = max((vectors.known_size for vectors in self._vectors), default=0)
        if all(vectors.indices is None for vectors in self._vectors):
            parts = [vectors.matrix(size) for vectors in self._vectors]
            self._vectors = []
            return Rows(np.concatenate(parts) if parts else np.empty((0, 0)), None, size)
        rows = _joined(self._vectors)
        self._vectors = []
        return Rows(None, rows, size)

    def labels(self) -> pa.ChunkedArray:
        """Give the labels."""
        return pa.chunked_array(self._labels) if self._labels else pa.chunked_array([], pa.string())

    def weights(self, count: int) -> Array:
        """Give the weights of the rows: 1 where no column has them."""
        if self._weight is None:
            return np.ones(count)
        weights = np.concatenate(self._weights) if self._weights else np.empty(0)
        if np.isnan(weights).any() or (weights < 0).any() or (count and weights.sum() == 0):
            raise Unreadable(f"the weights in {self._weight!r} are not numbers of 0 and more")
        return weights


def _refuse_missing(values: Array, names: Sequence[str]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        column = (
            names[0] if values.ndim == 1 else names[int(np.flatnonzero(~finite.all(axis=0))[0])]
        )
        raise Unreadable(f"{column!r} has NULL, NaN or infinite values: fill or leave out the rows")


def _joined(parts: Sequence[Vectors]) -> Vectors:
    """Put columns of vectors together, all as sparse ones."""
    offsets, base = [np.zeros(1, np.int64)], 0
    indices: list[npt.NDArray[np.int32]] = []
    for part in parts:
        offsets.append(part.offsets[1:] + base)
        base += len(part.values)
        at = part.indices
        if at is None:
            lengths = np.diff(part.offsets)
            at = np.arange(len(part.values)) - np.repeat(part.offsets[:-1], lengths)
        indices.append(at.astype(np.int32))
    return Vectors(
        np.concatenate(offsets),
        np.concatenate([part.values for part in parts]),
        np.concatenate(indices),
        np.concatenate([part.sizes for part in parts]),
        np.zeros(sum(map(len, parts)), np.bool_),
    )


# --- losses ---


def _log_loss(margin: Array) -> tuple[Array, Array]:
    """Give log(1 + exp(-m)) and its derivative."""
    value = np.logaddexp(0, -margin)
    return value, -np.exp(-margin - value)


def _hinge(margin: Array) -> tuple[Array, Array]:
    """Give the hinge loss, smooth between 0 and 1 [Rennie and Srebro 2005], and its derivative."""
    value = np.where(margin <= 0, 0.5 - margin, np.where(margin < 1, 0.5 * (1 - margin) ** 2, 0.0))
    return value, np.where(margin <= 0, -1.0, np.where(margin < 1, margin - 1, 0.0))


_LOSSES = {"LR": _log_loss, "SVM": _hinge}


def _fit_binary(
    rows: Rows, sign: Array, weight: Array, params: Mapping[str, Any], kind: str
) -> tuple[Array, float]:
    """Find weights and intercept by which the margins of rows have the sign of their labels."""
    loss = _LOSSES[kind]
    l2 = params.get("l2") or 0.0
    share = weight / weight.sum()
    intercept = 1 if params["withIntercept"] else 0

    def objective(at: Array) -> tuple[float, Array]:
        w, b = at[intercept:], at[0] if intercept else 0.0
        value, slope = loss(sign * rows.margins(w, b))
        slopes = share * sign * slope
        gradient = rows.gradient(slopes) + 2 * l2 * w
        full = np.concatenate(([slopes.sum()], gradient)) if intercept else gradient
        return float(share @ value) + l2 * float(w @ w), full

    found = _minimum(objective, rows.size + intercept, intercept, params)
    return rows.unscaled(found[intercept:], float(found[0]) if intercept else 0.0)


def _minimum(objective: Any, size: int, free: int, params: Mapping[str, Any]) -> Array:
    """Minimise an objective with the penalties of the parameters; `free` have none."""
    l1 = None
    if params.get("l1"):
        l1 = np.concatenate((np.zeros(free), np.full(size - free, params["l1"])))
    most, epsilon = params.get("maxIter") or 100, params.get("epsilon") or 1e-6
    found = minimize(
        objective, np.zeros(size), l1=l1, iterations_max=most, tolerance=min(epsilon, 1e-6)
    )
    if not found.converged:
        print(
            f"warning: not converged after {found.iterations} iterations: the objective is "
            f"{found.value:.6g}, the largest component of its gradient {found.slope:.3g}",
            file=sys.stderr,
            flush=True,
        )
    return found.at


def _sorted_labels(labels: pa.ChunkedArray) -> list[Any]:
    """Give the distinct labels, the largest first."""
    return sorted(labels.unique().to_pylist(), reverse=True)


def _codes(labels: pa.ChunkedArray, values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Give for each label its place among the values."""
    encoded = labels.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    places = {value: place for place, value in enumerate(values)}
    table = np.array([places[value] for value in encoded.dictionary.to_pylist()], np.int64)
    return table[encoded.indices.to_numpy()]


def train_binary(params: Mapping[str, Any]) -> Any:
    """Make the training of a classifier with two labels; ``linearModelType`` is LR or SVM."""

    def train(group: Group) -> pa.Table:
        gathered = Gathered(params)
        gathered.read(group)
        labels = gathered.labels()
        values = _sorted_labels(labels)
        if len(values) != 2:
            shown = ", ".join(map(repr, values[:5]))
            raise Unreadable(
                f"the label {params['labelCol']!r} has {len(values)} values where 2 are needed"
                + (f": {shown}" if values else "")
            )
        rows = gathered.rows()
        positive = params.get("positiveLabelValueString")
        if positive is not None and str(values[1]) == positive:
            values.reverse()
        sign = np.where(_codes(labels, values) == 0, 1.0, -1.0)
        weight = gathered.weights(len(rows))
        if params["standardization"]:
            rows.standardize(weight, params["withIntercept"])
        weights, intercept = _fit_binary(rows, sign, weight, params, params["linearModelType"])
        coefficients = [intercept, *weights] if params["withIntercept"] else list(weights)
        return _write(params, rows.size, coefficients, labels.type, values)

    return train


def _write(
    params: Mapping[str, Any],
    size: int,
    coefficients: Sequence[float],
    label: pa.DataType | None,
    labels: Sequence[Any],
    **more: Any,
) -> pa.Table:
    meta = {
        "hasInterceptItem": params["withIntercept"],
        "modelName": params["modelName"],
        "labelCol": params["labelCol"],
        "linearModelType": params["linearModelType"],
        "vectorCol": params.get("vectorCol"),
        "featureCols": params.get("featureCols"),
        "vectorSize": size,
        **more,
    }
    names = params.get("featureCols")
    data = {
        "featureColNames": names,
        "featureColTypes": None if names is None else params.get("featureTypes"),
        "coefVector": {"data": [float(c) for c in coefficients]},
        "coefVectors": None,
        "convergenceInfo": None,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return write_model(Model(meta, [text], list(labels)), label)


# --- least squares ---


def train_squares(params: Mapping[str, Any]) -> Any:
    """Make the training of least squares: in one pass, by products of features.

    ``lambda`` penalises |w| of ``LASSO`` and w² of ``Ridge``.
    """

    def train(group: Group) -> pa.Table:
        gathered = Gathered(params)
        gathered.read(group)
        rows = gathered.rows()
        target = _targets(gathered.labels(), params["labelCol"])
        if len(rows) == 0:
            raise Unreadable("there are no rows to train with")
        weight = gathered.weights(len(rows))
        if params["standardization"]:
            rows.standardize(weight, params["withIntercept"])
        weights, intercept = _fit_squares(rows, target, weight, params)
        coefficients = [intercept, *weights] if params["withIntercept"] else list(weights)
        return _write(params, rows.size, coefficients, None, ())

    return train


def _targets(labels: pa.ChunkedArray, name: str) -> Array:
    values = labels.cast(pa.float64()).to_numpy().astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        raise Unreadable(f"the label {name!r} has NaN or infinite values")
    return values


def _fit_squares(
    rows: Rows, target: Array, weight: Array, params: Mapping[str, Any]
) -> tuple[Array, float]:
    kind, penalty = params["linearModelType"], params.get("lambda") or 0.0
    l1 = penalty if kind == "LASSO" else params.get("l1") or 0.0
    l2 = penalty if kind == "Ridge" else params.get("l2") or 0.0
    share = weight / weight.sum()
    centred = params["withIntercept"]
    middle = float(share @ target) if centred else 0.0
    if not params["standardization"] and centred:
        rows.centre = rows.times_transposed(share)
    rest = target - middle
    size = rows.size
    if size <= _PRODUCTS_MAX and l1 == 0:
        weights = _by_products(rows, rest, share, l2)
    else:

        def objective(at: Array) -> tuple[float, Array]:
            error = rows.margins(at, 0.0) - rest
            gradient = rows.gradient(share * error) + 2 * l2 * at
            return 0.5 * float(share @ error**2) + l2 * float(at @ at), gradient

        weights = _minimum(objective, size, 0, {**params, "l1": l1})
    return rows.unscaled(weights, middle)


def _by_products(rows: Rows, rest: Array, share: Array, l2: float) -> Array:
    """Solve the normal equations; of features that depend on one another the shortest solution."""
    size = rows.size
    products = np.empty((size, size))
    for j in range(size):
        column = rows.margins(np.eye(1, size, j)[0], 0.0)
        products[j] = rows.gradient(share * column)
    products += 2 * l2 * np.eye(size)
    found = np.linalg.lstsq(products, rows.gradient(share * rest), rcond=1e-12)[0]
    return found.astype(np.float64, copy=False)


# --- predicting ---


class Predict:
    """Applies a linear model: a label, or a number."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._model = Model()
        self._weights: Array = np.empty(0)
        self._intercept = 0.0
        self._vector: str | None = None
        self._names: list[str] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._model = model = read_model(table)
        data = json.loads(model.data[0]) if model.data else {}
        if "coefVector" not in data:
            raise BadModel("the model is not a linear one")
        coefficients = np.array(data["coefVector"]["data"], float)
        begin = 1 if model.get("hasInterceptItem") else 0
        self._weights = coefficients[begin:]
        self._intercept = float(coefficients[0]) if begin else 0.0
        self._vector = self._params.get("vectorCol") or model.get("vectorCol")
        self._names = data.get("featureColNames") or []

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the prediction and, if asked for, its detail; NULL where a feature is."""
        margin, missing = self._margins(batch)
        if not self._model.labels:
            return [pa.array(margin, pa.float64(), mask=missing)]
        first, second = self._model.labels
        labels = pa.array([first, second], self._types[0])
        code = pa.array((margin < 0).astype(np.int8), mask=missing)
        columns = [labels.take(code)]
        if len(self._types) > 1:
            probability = _logistic(margin)
            columns.append(_details(first, second, probability, missing))
        return columns

    def _margins(self, batch: pa.RecordBatch) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._vector is None:
            values = numbers(batch, self._names)
            missing = np.asarray(np.isnan(values).any(axis=1), np.bool_)
            margin = values @ self._weights + self._intercept
            return np.where(missing, 0.0, margin).astype(np.float64, copy=False), missing
        vectors = Vectors.of(batch.column(self._vector))
        missing = np.zeros(len(vectors), np.bool_) if vectors.valid is None else ~vectors.valid
        size = len(self._weights)
        if vectors.indices is None:
            return vectors.matrix(size) @ self._weights + self._intercept, missing
        if len(vectors.indices) and int(vectors.indices.max()) >= size:
            raise Unreadable(
                f"a vector has index {int(vectors.indices.max())}, the model {size} features"
            )
        values = vectors.values * self._weights[vectors.indices]
        of = vectors.rows_of_values
        return sums(of, values, len(vectors)) + self._intercept, missing


def _logistic(margin: Array) -> Array:
    return np.exp(-np.logaddexp(0, -margin)).astype(np.float64, copy=False)


def _details(
    first: Any, second: Any, probability: Array, missing: npt.NDArray[np.bool_]
) -> pa.Array:
    """Give the probabilities of both labels as JSON, as Alink writes it."""
    a, b = json.dumps(str(first), ensure_ascii=False), json.dumps(str(second), ensure_ascii=False)
    texts = [
        None if lost else f'{{{a}:"{java_double(p)}",{b}:"{java_double(1 - p)}"}}'
        for p, lost in zip(probability.tolist(), missing.tolist(), strict=True)
    ]
    return pa.array(texts, pa.string())
