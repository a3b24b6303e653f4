"""Isotonic regression: the monotone function of one feature that is nearest to the labels.

By pooling adjacent violators [Barlow, Bartholomew, Bremner and Brunk, 1972]. Rows with the same
feature count as one with their mean label. Between the features of the model it interpolates
linearly, beyond them it is constant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._group import Group
from ._models import BadModel, Model, meta_of, read_model, write_model
from ._moments import numbers
from ._strings import Unreadable
from ._vectors import read_vectors

Array = npt.NDArray[np.float64]


def train(params: Mapping[str, Any]) -> Any:
    """Make the training; ``isotonic`` is false of functions that fall."""

    def run(group: Group) -> pa.Table:
        places, sums, weights = _together(group, _collected(group, params))
        if not len(places):
            raise Unreadable("there are no rows to train with")
        sign = 1.0 if params["isotonic"] else -1.0
        ends, values = _pooled(sign * sums / weights, weights)
        # Of each level its first and its last feature are enough.
        begins = np.concatenate(([0], ends[:-1]))
        kept = np.column_stack([begins, ends - 1]).ravel()
        kept, first = np.unique(kept, return_index=True)
        levels = np.repeat(sign * values, 2)[first]
        data = {"boundaries": places[kept].tolist(), "values": levels.tolist()}
        meta = meta_of(params, ("featureCol", "vectorCol", "featureIndex", "isotonic"))
        return write_model(Model(meta, [json.dumps(data)]))

    return run


def _feature(batch: pa.RecordBatch, features: Mapping[str, Any]) -> Array:
    """Give the feature of rows; NaN where it is missing."""
    if features.get("vectorCol") is None:
        return numbers(batch, [features["featureCol"]])[:, 0]
    vectors = read_vectors(batch, features["vectorCol"])
    index = features["featureIndex"]
    found = np.zeros(len(vectors))
    at = np.asarray(vectors.indices_of_values) == index
    found[vectors.rows_of_values[at]] = vectors.values[at]
    short = vectors.dense & (vectors.lengths <= index)
    if vectors.valid is not None:
        short &= vectors.valid
        found[~vectors.valid] = np.nan
    if short.any():
        raise Unreadable(f"a vector in {features['vectorCol']!r} has no element {index}")
    return found


def _collected(group: Group, params: Mapping[str, Any]) -> Array:
    """Give distinct features of the worker's rows with sums of labels and weights."""
    parts = [np.empty((0, 3))]
    for batch in group:
        feature = _feature(batch, params)
        label = numbers(batch, [params["labelCol"]])[:, 0]
        weight = np.ones(len(label))
        if params.get("weightCol") is not None:
            weight = numbers(batch, [params["weightCol"]])[:, 0]
            if not (weight >= 0).all():
                raise Unreadable(
                    f"the weights in {params['weightCol']!r} are not numbers of 0 and more"
                )
        for what, values in (("feature", feature), ("label", label), ("weight", weight)):
            if not np.isfinite(values).all():
                raise Unreadable(f"a {what} is NULL, NaN or infinite: fill or leave out the rows")
        parts.append(_summed(np.column_stack([feature, label * weight, weight])[weight > 0]))
    return _summed(np.concatenate(parts))


def _summed(rows: Array) -> Array:
    places, of = np.unique(rows[:, 0], return_inverse=True)
    sums = [np.bincount(of, rows[:, i], len(places)) for i in (1, 2)]
    return np.column_stack([places, *sums]).astype(np.float64, copy=False)


def _together(group: Group, mine: Array) -> tuple[Array, Array, Array]:
    parts = [np.frombuffer(part).reshape(-1, 3) for part in group.gather(mine.tobytes())]
    whole = _summed(np.concatenate(parts))
    return whole[:, 0], whole[:, 1], whole[:, 2]


def _pooled(values: Array, weights: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """Give where the levels of the nearest rising sequence end, and the levels."""
    levels: list[float] = []
    masses: list[float] = []
    ends: list[int] = []
    for end, pair in enumerate(zip(values.tolist(), weights.tolist(), strict=True), 1):
        value, mass = pair
        while levels and levels[-1] >= value:
            before = masses.pop()
            ends.pop()
            value = (levels.pop() * before + value * mass) / (before + mass)
            mass += before
        levels.append(value)
        masses.append(mass)
        ends.append(end)
    return np.array(ends, np.int64), np.array(levels)


class Predict:
    """Gives the function's values."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        del params, types
        self._meta: Mapping[str, Any] = {}
        self._boundaries: Array = np.empty(0)
        self._values: Array = np.empty(0)

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        model = read_model(table)
        data = json.loads(model.data[0]) if model.data else {}
        if "boundaries" not in data:
            raise BadModel("the model is not one of IsotonicReg")
        self._meta = model.meta
        self._boundaries = np.array(data["boundaries"], np.float64)
        self._values = np.array(data["values"], np.float64)

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the predictions; NULL where the feature is."""
        feature = _feature(batch, self._meta)
        found = np.interp(feature, self._boundaries, self._values)
        return [pa.array(found, pa.float64(), mask=np.isnan(feature))]
