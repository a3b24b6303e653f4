"""Factorization machines: linear models with products of pairs of features.

The weight of a pair is the scalar product of two vectors, one for each feature [Rendle,
Factorization Machines, ICDM 2010]. All rows count in each step of L-BFGS: the mean loss, plus half
of ``lambda0``, ``lambda1`` and ``lambda2`` times the squares of the intercept, of the weights and
of the factors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Dense, Sparse
from ._details import details
from ._group import Group
from ._margins import features_of
from ._models import BadModel, Model, read_model, write_model
from ._optimize import minimize
from ._random import normal
from ._strings import java_double

Array = npt.NDArray[np.float64]

_SEED = 1
_STEPS = 10  # of L-BFGS for an epoch


class Machine:
    """What a model knows.

    Attributes
    ----------
    intercept : float
    weights : array, shape (d,)
    factors : array, shape (d, k)
    """

    def __init__(self, intercept: float, weights: Array, factors: Array) -> None:
        self.intercept = intercept
        self.weights = weights
        self.factors = factors
        self._squares = (factors**2).sum(axis=1)

    def margins(self, features: Dense | Sparse) -> tuple[Array, Array]:
        """Give the outcomes of rows, and the features times the factors, shape (n, k)."""
        along = features.times(self.factors)
        pairs = (along**2).sum(axis=1) - features.times_squared(self._squares)
        return features.times(self.weights) + self.intercept + 0.5 * pairs, along

    def gradient(self, features: Dense | Sparse, slope: Array, along: Array) -> tuple[Array, Array]:
        """Give the gradients by weights and factors, of those by the outcomes."""
        factors = features.transposed(slope[:, None] * along)
        factors -= features.squared(slope)[:, None] * self.factors
        return features.transposed(slope), factors


def _logistic_loss(margin: Array, sign: Array) -> tuple[Array, Array]:
    signed = margin * sign
    return np.logaddexp(0, -signed), -sign * np.exp(-np.logaddexp(0, signed))


def _squared_loss(margin: Array, label: Array) -> tuple[Array, Array]:
    error = margin - label
    return 0.5 * error**2, error


def train_classifier(params: Mapping[str, Any]) -> Any:
    """Make the training for a label with two values, by the logistic loss."""

    def run(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        labels = blocks.pair()
        signs = 1.0 - 2.0 * blocks.codes(labels)
        kind = group.schema.field(params["labelCol"]).type
        return _write(*_fit(blocks, params, signs), blocks, params, kind, labels)

    return run


def train_regressor(params: Mapping[str, Any]) -> Any:
    """Make the training for a number, by half the squared error."""

    def run(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        blocks.require_rows()
        return _write(*_fit(blocks, params, None), blocks, params, None, [])

    return run


class _Shape:
    """How a machine lies in one array: of features whose largest magnitude is 1.

    The scales are for the steps alone: they make them alike for all features. Penalties are on
    weights and factors of the features as they come.
    """

    def __init__(self, blocks: Blocks, params: Mapping[str, Any]) -> None:
        self.size, self.count = blocks.size, params["numFactor"]
        self.intercept, self.linear = params["withIntercept"], params["withLinearItem"]
        largest = np.zeros(self.size)
        for block in blocks:
            largest = np.maximum(largest, block.features.largest())
        largest = blocks.group.largest(largest)
        self.scale = np.where(largest > 0, largest, 1.0)
        self.deviation = params["initStdev"]

    def start(self) -> Array:
        """Give random factors, and weights of 0."""
        cells = np.arange(self.size * self.count)
        factors = self.deviation * normal(_SEED, 0, cells).reshape(self.size, self.count)
        return self.pack(0.0, np.zeros(self.size), factors)

    def pack(self, intercept: float, weights: Array, factors: Array) -> Array:
        """Put parts together, without those that the model leaves out."""
        parts = [np.array([intercept])] if self.intercept else []
        parts += [weights] if self.linear else []
        return np.concatenate([*parts, factors.ravel()])

    def machine(self, at: Array) -> Machine:
        """Give the machine of an array, for the features as they come."""
        begin = int(self.intercept)
        end = begin + (self.size if self.linear else 0)
        weights = at[begin:end] / self.scale if self.linear else np.zeros(self.size)
        factors = at[end:].reshape(self.size, self.count) / self.scale[:, None]
        return Machine(float(at[0]) if self.intercept else 0.0, weights, factors)


def _fit(
    blocks: Blocks, params: Mapping[str, Any], signs: Array | None
) -> tuple[Machine, Sequence[float]]:
    shape = _Shape(blocks, params)
    of_intercept, of_weights, of_factors = (params[f"lambda{i}"] or 0.0 for i in range(3))

    def objective(at: Array) -> tuple[float, Array]:
        machine = shape.machine(at)
        value, slopes = 0.0, 0.0
        weights, factors = np.zeros(shape.size), np.zeros((shape.size, shape.count))
        for block in blocks:
            margin, along = machine.margins(block.features)
            if signs is None:
                losses, slope = _squared_loss(margin, blocks.target(block))
            else:
                losses, slope = _logistic_loss(margin, signs[block.rows])
            slope = slope * block.weight
            value += float(block.weight @ losses)
            slopes += float(slope.sum())
            more, of_pairs = machine.gradient(block.features, slope, along)
            weights += more
            factors += of_pairs
        together = blocks.group.sum(value, slopes, weights, factors)
        total, slopes_, weights, factors = (part / blocks.total for part in together)
        penalty = of_intercept * machine.intercept**2
        penalty += of_weights * float((machine.weights**2).sum())
        penalty += of_factors * float((machine.factors**2).sum())
        gradient = shape.pack(
            float(slopes_) + of_intercept * machine.intercept,
            (weights + of_weights * machine.weights) / shape.scale,
            (factors + of_factors * machine.factors) / shape.scale[:, None],
        )
        return float(total) + 0.5 * penalty, gradient

    found = minimize(
        objective,
        shape.start(),
        iterations_max=_STEPS * params["numEpochs"],
        tolerance=params["epsilon"] or 1e-6,
    )
    if not found.converged:
        print(
            f"warning: not converged after {found.iterations} iterations ({params['numEpochs']} "
            f"epochs): the objective is {found.value:.6g}, the largest component of its gradient "
            f"{found.slope:.3g}",
            file=sys.stderr,
            flush=True,
        )
    return shape.machine(found.at), found.course


def _write(
    machine: Machine,
    course: Sequence[float],
    blocks: Blocks,
    params: Mapping[str, Any],
    label: pa.DataType | None,
    labels: Sequence[Any],
) -> pa.Table:
    meta = {
        "task": "REGRESSION" if label is None else "BINARY_CLASSIFICATION",
        "vectorCol": params.get("vectorCol"),
        "featureCols": params.get("featureCols"),
        "labelCol": params["labelCol"],
        "vectorSize": blocks.size,
        "numFactor": params["numFactor"],
        "hasInterceptItem": params["withIntercept"],
        "hasLinearItem": params["withLinearItem"],
    }
    data = {
        "bias": machine.intercept,
        "weights": machine.weights.tolist(),
        "factors": machine.factors.tolist(),
        "convergenceInfo": course,
    }
    return write_model(Model(meta, [json.dumps(data)], list(labels)), label)


class Predict:
    """Gives the more probable label, or a number, and if asked for a detail as JSON."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._model = Model()
        self._machine = Machine(0.0, np.empty(0), np.empty((0, 0)))

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        self._model = model = read_model(table)
        data = json.loads(model.data[0]) if model.data else {}
        if "factors" not in data:
            raise BadModel("the model is not one of a factorization machine")
        weights = np.array(data["weights"], np.float64)
        shape = len(weights), model.get("numFactor")
        factors = np.array(data["factors"], np.float64).reshape(shape)
        self._machine = Machine(data["bias"], weights, factors)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the prediction; NULL where a feature is."""
        meta, machine = self._model.meta, self._machine
        vector = meta.get("vectorCol")
        if vector is not None:
            vector = self._params.get("vectorCol") or vector
        names = meta.get("featureCols") or []
        features, missing = features_of(batch, vector, names, len(machine.weights))
        with np.errstate(invalid="ignore"):
            margins, _ = machine.margins(features)
        margins[missing] = 0.0
        detailed = len(self._types) > 1
        if not self._model.labels:
            columns = [pa.array(margins, pa.float64(), mask=missing)]
            if detailed:
                texts = [f'{{"label":"{java_double(value)}"}}' for value in margins.tolist()]
                columns.append(pa.array(texts, pa.string(), mask=missing))
            return columns
        labels = pa.array(self._model.labels, self._types[0])
        columns = [labels.take(pa.array((margins < 0).astype(np.int8), mask=missing))]
        if detailed:
            first = np.exp(-np.logaddexp(0, -margins))
            columns.append(details(self._model.labels, [first, 1 - first], missing, quoted=True))
        return columns
