"""Accelerated failure time: a regression of times until an event, some of which are censored.

The logarithm of a time is linear in the features, with an error of the extreme value distribution:
times follow Weibull's [Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data,
2002, chapter 3]. The likelihood is maximised by L-BFGS or OWL-QN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._blocks import Blocks, Scaling
from ._group import Group
from ._linear import importances
from ._margins import Margins
from ._models import BadModel, Model, read_model, write_model
from ._optimize import minimum
from ._strings import Unreadable, java_double

Array = npt.NDArray[np.float64]


def train(params: Mapping[str, Any]) -> Any:
    """Make the training; ``censorCol`` is 1 where the event was seen, 0 where not."""

    def run(group: Group) -> pa.Table:
        blocks = Blocks(group, params)
        blocks.require_rows()
        seen = _seen(group, params["censorCol"])
        if not group.sum(seen.sum())[0]:
            raise Unreadable(
                f"the event was seen in no row: {params['censorCol']!r} is 0 in all of them"
            )
        scaling = Scaling.standard(blocks, params["withIntercept"])
        weights, intercept, scale, course = _fit(blocks, scaling, seen, params)
        meta = {
            "hasInterceptItem": params["withIntercept"],
            "modelName": "AFTSurvivalRegTrainBatchOp",
            "labelCol": params["labelCol"],
            "linearModelType": "AFT",
            "vectorCol": params.get("vectorCol"),
            "featureCols": params.get("featureCols"),
            "vectorSize": blocks.size,
        }
        first = [intercept] if params["withIntercept"] else []
        # The logarithm of the scale comes last.
        coefficients = [*first, *weights.tolist(), float(np.log(scale))]
        data = {
            "featureColNames": params.get("featureCols"),
            "coefVector": {"data": coefficients},
            "convergenceInfo": course,
        }
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        matter = importances(blocks, weights, scaling)
        return write_model(Model(meta, [text, matter]))

    return run


def _seen(group: Group, name: str) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(group), np.bool_)
    start = 0
    for batch in group:
        values = numpy_of(batch.column(name).cast(pa.float64()))
        if not np.isin(values, (0.0, 1.0)).all():
            raise Unreadable(f"{name!r} has values other than 0 (censored) and 1 (seen)")
        found[start : start + len(values)] = values == 1
        start += len(values)
    return found


def _fit(
    blocks: Blocks, scaling: Scaling, seen: npt.NDArray[np.bool_], params: Mapping[str, Any]
) -> tuple[Array, float, float, list[float]]:
    """Find weights, intercept and scale, and how they were found."""
    free = 1 if params["withIntercept"] else 0
    l1, l2 = params.get("l1") or 0.0, params.get("l2") or 0.0
    size = blocks.size

    def objective(at: Array) -> tuple[float, Array]:
        weights, bias = scaling.weights(at[free:-1], at[0] if free else 0.0)
        log_scale = float(at[-1])
        value, slopes, of_scale, raw = 0.0, 0.0, 0.0, np.zeros(size)
        for block in blocks:
            times = blocks.target(block)
            if (times <= 0).any():
                raise Unreadable(f"the label {params['labelCol']!r} has times of 0 or less")
            away = (np.log(times) - block.features.times(weights) - bias) * np.exp(-log_scale)
            own = seen[block.rows]
            # Far beyond 700 a power overflows; the search turns back from an infinite value.
            power = np.exp(np.minimum(away, 700.0))
            value += float((power - np.where(own, away - log_scale, 0.0)) @ block.weight)
            slope = (own - power) * block.weight
            of_scale += float(slope @ away) + float(own @ block.weight)
            slope *= np.exp(-log_scale)
            slopes += float(slope.sum())
            raw += block.features.transposed(slope)
        together = blocks.group.sum(value, slopes, of_scale, raw)
        total, slopes_, of_scale_, raw = (part / blocks.total for part in together)
        own_weights = at[free:-1]
        gradient = scaling.gradient(raw, slopes_) + 2 * l2 * own_weights
        first = [slopes_] if free else []
        whole = np.concatenate([first, gradient, [of_scale_]])
        return float(total) + l2 * float(own_weights @ own_weights), whole

    start = np.zeros(size + free + 1)
    if free:
        logs = sum(float(np.log(np.maximum(blocks.target(b), 1e-300)).sum()) for b in blocks)
        start[0] = float(blocks.group.sum(logs)[0]) / blocks.total
    penalty = None
    if l1:
        penalty = np.concatenate([np.zeros(free), np.full(size, l1), [0.0]])
    found = minimum(objective, start, params, penalty)
    weights, bias = scaling.weights(found.at[free:-1], found.at[0] if free else 0.0)
    return weights, float(bias), float(np.exp(found.at[-1])), found.course


class Predict:
    """Gives the scale of each row's Weibull distribution and, if asked for, its quantiles."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._params = params
        self._types = types
        self._margins = Margins({}, np.empty(0), 0.0)
        self._factors: Array = np.empty(0)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        if model.get("linearModelType") != "AFT":
            raise BadModel("the model is not one of AftSurvivalReg")
        data = json.loads(model.data[0])
        coefficients = np.array(data["coefVector"]["data"], np.float64)
        begin = 1 if model.meta.get("hasInterceptItem", True) else 0
        vector = model.meta.get("vectorCol")
        if vector is not None:
            vector = self._params.get("vectorCol") or vector
        self._margins = Margins(
            {"vectorCol": vector, "featureCols": data.get("featureColNames")},
            coefficients[begin:-1],
            float(coefficients[0]) if begin else 0.0,
        )
        chances = np.array(self._params.get("quantileProbabilities") or [], np.float64)
        self._factors = (-np.log1p(-chances)) ** np.exp(coefficients[-1])

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the predictions, and quantiles as vectors; NULL where a feature is."""
        margins, missing = self._margins(batch)
        scale = np.exp(margins)
        columns = [pa.array(scale, pa.float64(), mask=missing)]
        if len(self._types) > 1:
            texts = [
                None if lost else " ".join(map(java_double, (one * self._factors).tolist()))
                for one, lost in zip(scale.tolist(), missing.tolist(), strict=True)
            ]
            columns.append(pa.array(texts, pa.string()))
        return columns
