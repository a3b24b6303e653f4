"""Linear models: logistic regression, support vectors, softmax, least squares.

Features are centred and scaled to standard deviation 1 while a model is trained, without a copy of
them; coefficients are those of the features as they come. Penalties are on the coefficients of the
scaled features, the intercept left out: mean loss + ``l1`` · Σ|w| + ``l2`` · Σw².
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Scaling, deviations, weighted_mean
from ._details import details
from ._group import Group
from ._margins import Margins
from ._models import BadModel, Model, read_model, write_model
from ._optimize import Array, Minimum, minimum
from ._strings import java_double
from ._types import VECTOR

#: Features beyond it are no matter of a matrix of products.
_PRODUCTS_MAX = 2048


# --- losses ---


def log_loss(margin: Array) -> tuple[Array, Array]:
    """Give log(1 + exp(-m)) and its derivative."""
    small = np.exp(-np.abs(margin))
    sum_ = 1 + small
    # Of a small value the logarithm's absolute error is what counts in a sum.
    value = np.log(sum_) - np.minimum(margin, 0)
    return value, -np.where(margin >= 0, small, 1.0) / sum_


def _hinge(margin: Array) -> tuple[Array, Array]:
    """Give the hinge loss, smooth between 0 and 1 [Rennie and Srebro 2005], and its derivative."""
    value = np.where(margin <= 0, 0.5 - margin, np.where(margin < 1, 0.5 * (1 - margin) ** 2, 0.0))
    return value, np.where(margin <= 0, -1.0, np.where(margin < 1, margin - 1, 0.0))


_LOSSES = {"LR": log_loss, "SVM": _hinge}


def _fit_binary(
    blocks: Blocks, scaling: Scaling, codes: npt.NDArray[Any], params: Mapping[str, Any]
) -> tuple[Array, float, Minimum]:
    """Find weights and intercept by which the margins of rows have the sign of their labels.

    The label with code 0 is the positive one.
    """
    loss = _LOSSES[params["linearModelType"]]
    l2 = params.get("l2") or 0.0
    intercept = 1 if params["withIntercept"] else 0

    def objective(at: Array) -> tuple[float, Array]:
        weights, bias = scaling.weights(at[intercept:], at[0] if intercept else 0.0)
        value, slopes = 0.0, 0.0
        raw = np.zeros(blocks.size)
        for block in blocks:
            sign = 1.0 - 2.0 * codes[block.rows]
            margin = block.features.times(weights)
            margin += bias
            margin *= sign
            losses, slope = loss(margin)
            slope *= sign
            slope *= block.weight
            value += float(block.weight @ losses)
            slopes += float(slope.sum())
            block.features.add_transposed(slope, raw)
        together = blocks.group.sum(value, slopes, raw)
        total, slopes_, raw = (part / blocks.total for part in together)
        w = at[intercept:]
        gradient = scaling.gradient(raw, slopes_)
        if l2:
            gradient += 2 * l2 * w
        full = np.concatenate(([slopes_], gradient)) if intercept else gradient
        return float(total) + l2 * float(w @ w), full

    found = _minimum(objective, blocks.size + intercept, intercept, params)
    bias = float(found.at[0]) if intercept else 0.0
    return *scaling.weights(found.at[intercept:], bias), found


def _scaling(blocks: Blocks, params: Mapping[str, Any]) -> Scaling:
    if params["standardization"]:
        return Scaling.standard(blocks, params["withIntercept"])
    return Scaling.none(blocks.size)


def _minimum(objective: Any, size: int, free: int, params: Mapping[str, Any]) -> Minimum:
    """Minimise an objective with the penalties of the parameters; `free` have none."""
    l1 = None
    if params.get("l1"):
        l1 = np.concatenate((np.zeros(free), np.full(size - free, params["l1"])))
    return minimum(objective, np.zeros(size), params, l1)


def train_binary(params: Mapping[str, Any]) -> Any:
    """Make the training of a classifier with two labels; ``linearModelType`` is LR or SVM."""

    def train(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        values = blocks.pair()
        positive = params.get("positiveLabelValueString")
        if positive is not None and str(values[1]) == positive:
            values.reverse()
        codes = blocks.codes(values)
        scaling = _scaling(blocks, params)
        weights, intercept, found = _fit_binary(blocks, scaling, codes, params)
        matter = importances(blocks, weights, scaling if params["standardization"] else None)
        coefficients = [intercept, *weights] if params["withIntercept"] else list(weights)
        label = group.schema.field(params["labelCol"]).type
        return _write(params, blocks.size, coefficients, matter, found.course, label, values)

    return train


#: Of so many features or more a model has the importance of some.
IMPORTANCES_MAX = 10_000


def importances(blocks: Blocks, weights: Array, standard: Scaling | None) -> str:
    """Write how much features matter: the magnitude of their weights times their deviation.

    The text is JSON: ``importance`` and, where there are `IMPORTANCES_MAX` features or more,
    ``features``, the places of those that matter most and of those that matter least, as many of
    each, in the order of their importance.

    Parameters
    ----------
    blocks : Blocks
    weights : array, shape (d,)
    standard : Scaling, optional
        What `Scaling.standard` gives, if it is known.
    """
    found = np.abs(weights) * deviations(blocks, standard)
    features = None
    if len(found) >= IMPORTANCES_MAX:
        ranked, half = np.argsort(-found, kind="stable"), IMPORTANCES_MAX // 2
        features = np.concatenate([ranked[:half], ranked[-half:]])
        found, features = found[features], features.tolist()
    return json.dumps({"importance": found.tolist(), "features": features})


def _write(
    params: Mapping[str, Any],
    size: int,
    coefficients: Sequence[float],
    importances: str,
    course: Sequence[float] | None,
    label: pa.DataType | None = None,
    labels: Sequence[Any] = (),
) -> pa.Table:
    meta = {
        "hasInterceptItem": params["withIntercept"],
        "modelName": params["modelName"],
        "labelCol": params["labelCol"],
        "linearModelType": params["linearModelType"],
        "vectorCol": params.get("vectorCol"),
        "featureCols": params.get("featureCols"),
        "vectorSize": size,
    }
    names = params.get("featureCols")
    data = {
        "featureColNames": names,
        "featureColTypes": None if names is None else params.get("featureTypes"),
        "coefVector": {"data": [float(c) for c in coefficients]},
        "coefVectors": None,
        "convergenceInfo": course,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return write_model(Model(meta, [text, importances], list(labels)), label)


# --- least squares ---


def train_squares(params: Mapping[str, Any]) -> Any:
    """Make the training of least squares: of products of features, or by passes if they are many.

    ``lambda`` penalises |w| of ``LASSO`` and w² of ``Ridge``.
    """

    def train(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        blocks.require_rows()
        scaling = _scaling(blocks, params)
        weights, intercept, found = _fit_squares(blocks, scaling, params)
        matter = importances(blocks, weights, scaling if params["standardization"] else None)
        coefficients = [intercept, *weights] if params["withIntercept"] else list(weights)
        course = None if found is None else found.course
        return _write(params, blocks.size, coefficients, matter, course)

    return train


def _fit_squares(
    blocks: Blocks, scaling: Scaling, params: Mapping[str, Any]
) -> tuple[Array, float, Minimum | None]:
    kind, penalty = params["linearModelType"], params.get("lambda") or 0.0
    l1 = penalty if kind == "LASSO" else params.get("l1") or 0.0
    l2 = penalty if kind == "Ridge" else params.get("l2") or 0.0
    size = blocks.size
    middle = 0.0
    if params["withIntercept"]:
        mine = sum(float(block.weight @ blocks.target(block)) for block in blocks)
        middle = float(blocks.group.sum(mine)[0]) / blocks.total
        if not params["standardization"]:
            scaling = Scaling(weighted_mean(blocks), np.ones(size))
    squares = _products if size <= _PRODUCTS_MAX else _residuals
    objective, solve = squares(blocks, scaling, middle)
    found: Minimum | None = None
    if solve is not None and l1 == 0:
        weights = solve(l2)
    else:

        def penalised(at: Array) -> tuple[float, Array]:
            value, gradient = objective(at)
            return value + l2 * float(at @ at), gradient + 2 * l2 * at

        found = _minimum(penalised, size, 0, {**params, "l1": l1})
        weights = found.at
    return *scaling.weights(weights, middle), found


_Objective = Callable[[Array], tuple[float, Array]]


def _residuals(blocks: Blocks, scaling: Scaling, middle: float) -> tuple[_Objective, None]:
    """Give half the mean of the squared residuals and its gradient, of a pass for each."""

    def objective(at: Array) -> tuple[float, Array]:
        weights, bias = scaling.weights(at, middle)
        value, slopes = 0.0, 0.0
        raw = np.zeros(blocks.size)
        for block in blocks:
            error = block.features.times(weights) + bias - blocks.target(block)
            slope = block.weight * error
            value += 0.5 * float(slope @ error)
            slopes += float(slope.sum())
            block.features.add_transposed(slope, raw)
        together = blocks.group.sum(value, slopes, raw)
        total, slopes_, raw = (part / blocks.total for part in together)
        return float(total), scaling.gradient(raw, slopes_)

    return objective, None


def _products(
    blocks: Blocks, scaling: Scaling, middle: float
) -> tuple[_Objective, Callable[[float], Array]]:
    """Give the same of products of features, for which one pass is enough, and its minimum."""
    size = blocks.size
    products, sides, square = np.zeros((size, size)), np.zeros(size), 0.0
    for block in blocks:
        rest = blocks.target(block) - middle
        square += float(block.weight @ rest**2)
        for rows, matrix in block.features.matrices():
            seen = ((matrix - scaling.centre) / scaling.scale).T
            weighted = seen * block.weight[rows]
            products += weighted @ seen.T
            sides += weighted @ rest[rows]
    together = blocks.group.sum(products, sides, square)
    products, sides, half = (part / blocks.total for part in together)

    def objective(at: Array) -> tuple[float, Array]:
        along = products @ at
        return 0.5 * float(half + at @ along) - float(sides @ at), along - sides

    def solve(l2: float) -> Array:
        # Of features that depend on one another it is the shortest solution.
        found = np.linalg.lstsq(products + 2 * l2 * np.eye(size), sides, rcond=1e-12)[0]
        return found.astype(np.float64, copy=False)

    return objective, solve


# --- support vectors of a number ---


def train_support(params: Mapping[str, Any]) -> Any:
    """Make the training of support vector regression.

    It minimises ``½ Σw² + C Σ max(0, |error| - tau)²`` [Ho and Lin, Large-scale linear support
    vector regression, JMLR 2012], whose loss is smooth.
    """

    def train(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        blocks.require_rows()
        scaling = _scaling(blocks, params)
        weights, intercept, found = _fit_support(blocks, scaling, params)
        matter = importances(blocks, weights, scaling if params["standardization"] else None)
        coefficients = [intercept, *weights] if params["withIntercept"] else list(weights)
        return _write(params, blocks.size, coefficients, matter, found.course)

    return train


def _fit_support(
    blocks: Blocks, scaling: Scaling, params: Mapping[str, Any]
) -> tuple[Array, float, Minimum]:
    l2 = 0.5 / (params["C"] * blocks.total)
    tau, intercept = params["tau"], 1 if params["withIntercept"] else 0

    def objective(at: Array) -> tuple[float, Array]:
        weights, bias = scaling.weights(at[intercept:], at[0] if intercept else 0.0)
        value, slopes, raw = 0.0, 0.0, np.zeros(blocks.size)
        for block in blocks:
            error = block.features.times(weights) + bias - blocks.target(block)
            beyond = np.maximum(np.abs(error) - tau, 0.0)
            slope = 2 * block.weight * np.copysign(beyond, error)
            value += float(block.weight @ beyond**2)
            slopes += float(slope.sum())
            block.features.add_transposed(slope, raw)
        together = blocks.group.sum(value, slopes, raw)
        total, slopes_, raw = (part / blocks.total for part in together)
        own = at[intercept:]
        gradient = scaling.gradient(raw, slopes_) + 2 * l2 * own
        full = np.concatenate(([slopes_], gradient)) if intercept else gradient
        return float(total) + l2 * float(own @ own), full

    found = _minimum(objective, blocks.size + intercept, intercept, {**params, "l1": None})
    bias = float(found.at[0]) if intercept else 0.0
    return *scaling.weights(found.at[intercept:], bias), found


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
        self._margins = Margins({}, np.empty(0), 0.0)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._model = model = read_model(table)
        data = json.loads(model.data[0]) if model.data else {}
        if not data.get("coefVector") or model.meta.get("modelName") == "softmax":
            raise BadModel("the model is not a linear one")
        coefficients = np.array(data["coefVector"]["data"], float)
        begin = 1 if model.meta.get("hasInterceptItem", True) else 0
        self._weights = coefficients[begin:]
        self._intercept = float(coefficients[0]) if begin else 0.0
        self._vector = self._params.get("vectorCol") or model.meta.get("vectorCol")
        self._names = data.get("featureColNames") or []
        features = {"vectorCol": self._vector, "featureCols": self._names}
        self._margins = Margins(features, self._weights, self._intercept)

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
            shares = [probability, 1 - probability]
            columns.append(details(self._model.labels, shares, missing, quoted=True))
        return columns

    def row(self, names: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Give what computes the outputs of one row."""
        margin = self._row_margin(names)
        if not self._model.labels:
            return lambda values: (margin(values),)
        first, second = pa.array(self._model.labels, self._types[0]).to_pylist()
        detailed = len(self._types) > 1
        a, b = _quoted(first), _quoted(second)

        def outcome(values: Sequence[Any]) -> Sequence[Any]:
            found = margin(values)
            if found is None:
                return (None, None) if detailed else (None,)
            label = second if found < 0 else first
            return (label, _detail(a, b, float(_logistic(found)))) if detailed else (label,)

        return outcome

    def _row_margin(self, names: Sequence[str]) -> Callable[[Sequence[Any]], float | None]:
        weights, intercept, size = self._weights, self._intercept, len(self._weights)
        if self._vector is not None:
            place = names.index(self._vector)

            def of_vector(values: Sequence[Any]) -> float | None:
                vector = values[place]
                if vector is None:
                    return None
                if isinstance(vector, dict):
                    entries, indices = vector["values"], vector["indices"]
                    if indices is None and len(entries) == size:
                        return float(np.dot(entries, weights)) + intercept
                    one = pa.array([vector], VECTOR)
                else:
                    one = pa.array([vector])
                return float(self._margins(pa.record_batch([one], names=[self._vector]))[0][0])

            return of_vector
        places = [names.index(name) for name in self._names]
        pick = operator.itemgetter(*places) if len(places) > 1 else None

        def of_columns(values: Sequence[Any]) -> float | None:
            given = [values[places[0]]] if pick is None else pick(values)
            found = float(np.dot(np.array(given, np.float64), weights)) + intercept  # None: NaN
            return None if found != found else found

        return of_columns


def _logistic(margin: Any) -> Array:
    return np.exp(-np.logaddexp(0, -margin)).astype(np.float64, copy=False)


def _quoted(label: Any) -> str:
    return json.dumps(str(label), ensure_ascii=False)


def _detail(first: str, second: str, probability: float) -> str:
    return f'{{{first}:"{java_double(probability)}",{second}:"{java_double(1 - probability)}"}}'
