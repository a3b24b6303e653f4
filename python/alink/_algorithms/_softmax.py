"""Softmax, or multinomial logistic regression.

Of k labels the last one is the reference, whose margin is 0; the others have weights and an
intercept each [Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.4].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._blocks import Blocks, Scaling, counted
from ._details import details
from ._group import Group
from ._margins import Margins
from ._models import BadModel, Model, read_model, weights_of_labels, write_model
from ._optimize import minimum
from ._strings import Unreadable

Array = npt.NDArray[np.float64]


def train(params: Mapping[str, Any]) -> Any:
    """Make the training of a classifier with two labels or more, by L-BFGS or OWL-QN."""

    def run(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        labels = blocks.labels()
        if len(labels) < 2:
            raise Unreadable(
                f"the label {params['labelCol']!r} has {counted(labels)} where 2 are needed"
            )
        codes = blocks.codes(labels)
        weights, intercepts, course = _fit(blocks, codes, len(labels), params)
        meta = {
            "hasInterceptItem": params["withIntercept"],
            "modelName": "softmax",
            "labelCol": params["labelCol"],
            "linearModelType": "Softmax",
            "vectorCol": params.get("vectorCol"),
            "featureCols": params.get("featureCols"),
            "vectorSize": blocks.size,
        }
        of_labels = np.vstack([intercepts, weights]) if params["withIntercept"] else weights
        data = {
            "featureColNames": params.get("featureCols"),
            "featureColTypes": params.get("featureTypes"),
            "coefVector": {"data": of_labels.T.ravel().tolist()},
            "coefVectors": None,
            "convergenceInfo": course,
        }
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        label = group.schema.field(params["labelCol"]).type
        return write_model(Model(meta, [text], labels), label)

    return run


def _fit(
    blocks: Blocks, codes: npt.NDArray[Any], count: int, params: Mapping[str, Any]
) -> tuple[Array, Array, list[float]]:
    """Find weights, shape (d, k - 1), and intercepts, shape (k - 1), and how they were found."""
    size, others = blocks.size, count - 1
    free = others if params["withIntercept"] else 0
    l1, l2 = params.get("l1") or 0.0, params.get("l2") or 0.0
    scaling = Scaling.none(size)
    if params["standardization"]:
        scaling = Scaling.standard(blocks, params["withIntercept"])

    def parts(at: Array) -> tuple[Array, Array]:
        intercepts = at[:free] if free else np.zeros(others)
        return at[free:].reshape(size, others), intercepts

    def objective(at: Array) -> tuple[float, Array]:
        own, intercepts = parts(at)
        weights, bias = scaling.weights(own, intercepts)
        value, slopes, raw = 0.0, np.zeros(others), np.zeros((size, others))
        for block in blocks:
            losses, slope = _losses(block.features.times(weights) + bias, codes[block.rows])
            value += float(block.weight @ losses)
            slope *= block.weight[:, None]
            slopes += slope.sum(axis=0)
            raw += block.features.transposed(slope)
        total, slopes, raw = (p / blocks.total for p in blocks.group.sum(value, slopes, raw))
        gradient = scaling.gradient(raw, slopes) + 2 * l2 * own
        whole = np.concatenate([slopes if free else np.empty(0), gradient.ravel()])
        return float(total) + l2 * float((own**2).sum()), whole

    penalty = np.concatenate([np.zeros(free), np.full(size * others, l1)]) if l1 else None
    found = minimum(objective, np.zeros(free + size * others), params, penalty)
    weights, bias = scaling.weights(*parts(found.at))
    return weights, np.asarray(bias, np.float64), found.course


def _losses(margins: Array, codes: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Give the losses of rows, and their derivatives by the margins."""
    last = margins.shape[1]
    top = np.maximum(margins.max(axis=1), 0.0)
    powers = np.exp(margins - top[:, None])
    total = powers.sum(axis=1) + np.exp(-top)
    named = np.flatnonzero(codes < last)
    losses = np.log(total) + top
    losses[named] -= margins[named, codes[named]]
    slope = powers / total[:, None]
    slope[named, codes[named]] -= 1.0
    return losses, slope


def probabilities(margins: Array) -> Array:
    """Give the probabilities of k labels of the margins of all but the last."""
    whole = np.column_stack([margins, np.zeros(len(margins))])
    powers = np.exp(whole - whole.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float64, copy=False)


class Predict:
    """Gives the most probable label, and the probabilities of all as JSON."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._labels: list[Any] = []
        self._margins = Margins({}, np.empty((0, 0)), 0.0)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        of_labels = weights_of_labels(model)
        if of_labels is None:
            raise BadModel("the model is not one of Softmax")
        names = json.loads(model.data[0]).get("featureColNames")
        weights = np.array(of_labels, np.float64).T
        intercepts: Any = 0.0
        if model.meta.get("hasInterceptItem", True):
            intercepts, weights = weights[0], weights[1:]
        vector = model.meta.get("vectorCol")
        if vector is not None:
            vector = self._params.get("vectorCol") or vector
        features = {"vectorCol": vector, "featureCols": names}
        self._margins = Margins(features, weights, intercepts)
        self._labels = model.labels

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the labels and, if asked for, the details; NULL where a feature is."""
        margins, missing = self._margins(batch)
        shares = probabilities(margins)
        labels = pa.array(self._labels, self._types[0])
        columns = [labels.take(pa.array(shares.argmax(axis=1), mask=missing))]
        if len(self._types) > 1:
            columns.append(details(self._labels, list(shares.T), missing, quoted=True))
        return columns
