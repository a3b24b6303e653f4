"""Discretizers: columns of numbers cut into intervals, at quantiles or of equal width."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._features import Encoding
from ._group import Group
from ._models import Model, meta_of, read_model, write_model
from ._moments import numbers
from ._quantiles import cut_points
from ._strings import Unreadable
from ._types import is_number, type_name

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]

# Below this distance of its extremes a column is not cut.
_WIDTH_MIN = 1e-15


@dataclass(frozen=True)
class Intervals:
    """Where a column is cut.

    Attributes
    ----------
    points : array of float64 or int64
        Rising; an interval lies between two of them, before the first and behind the last.
    left_open : bool
        Whether a point belongs to the interval that it ends; else to the one that it begins.
    """

    points: npt.NDArray[Any]
    left_open: bool = True

    @classmethod
    def of(cls, points: Sequence[float], left_open: bool) -> Intervals:
        """Make intervals of points in any order; those that are equal are one."""
        return cls(np.unique(np.array(points, None if points else np.float64)), left_open)

    @property
    def count(self) -> int:
        """How many intervals there are."""
        return len(self.points) + 1

    def place(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Give the interval that each value is in, from 0; `count` stands for NULL and NaN."""
        missing = numpy_of(column.is_null())
        if pa.types.is_integer(column.type) and self.points.dtype.kind == "i":
            values = numpy_of(column.fill_null(0))  # exact beyond 2^53
        else:
            values = numpy_of(column.cast(pa.float64(), safe=False))
            missing = missing | np.isnan(values)
        places = np.searchsorted(self.points, values, "left" if self.left_open else "right")
        return np.where(missing, self.count, places)


def quantile_intervals(
    rows: Group, names: Sequence[str], buckets: Sequence[int], left_open: bool
) -> list[Intervals]:
    """Cut columns so that each interval has about as many values; equal points are one."""
    found = cut_points(rows, names, buckets)
    return [Intervals(points, left_open) for points in found]


def equal_intervals(
    rows: Group, names: Sequence[str], buckets: Sequence[int], left_open: bool
) -> list[Intervals]:
    """Cut columns between their extremes into intervals of the same width."""
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for batch in rows:
        values = numbers(batch, names)
        low = np.fmin(low, np.fmin.reduce(values, axis=0, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(values, axis=0, initial=-np.inf))
    result: list[Intervals] = []
    extremes = zip(names, rows.least(low), rows.largest(high), buckets, strict=True)
    for name, least, largest, count in extremes:
        if np.isinf([least, largest]).any() and least <= largest:
            raise Unreadable(f"column {name!r} has no finite width: it has infinite values")
        width = largest - least  # below 0 where there are no values
        cuts = np.arange(1, count) if width >= _WIDTH_MIN else np.empty(0)
        start, step = (least, width / count) if width >= _WIDTH_MIN else (0.0, 0.0)
        result.append(Intervals(np.unique(start + step * cuts), left_open))
    return result


_METHODS = {"quantile": quantile_intervals, "width": equal_intervals}


def train(params: Params) -> Any:
    """Make the training of a discretizer: ``method`` says which."""
    names, cut = params["selectedCols"], _METHODS[params["method"]]

    def run(rows: Group) -> pa.Table:
        found = cut(rows, names, params["buckets"], params["leftOpen"])
        meta = {**meta_of(params, ["selectedCols", "numBuckets"]), "version": "v2"}
        data = [
            json.dumps(
                [
                    {
                        "featureName": name,
                        "featureType": kind,
                        "splitsArray": intervals.points.tolist(),
                        "isLeftOpen": intervals.left_open,
                    }
                ],
                ensure_ascii=False,
            )
            for name, kind, intervals in zip(names, params["types"], found, strict=True)
        ]
        return write_model(Model(meta, data))

    return run


class Predict:
    """Gives the interval of each number, or vectors with a 1 there."""

    def __init__(self, params: Params, types: Types) -> None:
        self._names: Sequence[str] = params["selectedCols"]
        self._params = params
        self._types = types
        self._intervals: list[Intervals] = []

    def load(self, table: pa.Table) -> None:
        """Take the model."""
        found: dict[str, Intervals] = {}
        for text in read_model(table).data:
            for item in json.loads(text):
                cuts = Intervals.of(item["splitsArray"], item["isLeftOpen"])
                found[item["featureName"].lower()] = cuts
        for name in self._names:
            if name.lower() not in found:
                raise Unreadable(f"the model has no column {name!r}: it was not trained on it")
        self._intervals = [found[name.lower()] for name in self._names]

    def __call__(self, batch: pa.RecordBatch) -> Sequence[pa.Array]:
        """Give the columns of intervals."""
        encoding = Encoding(self._params, [cuts.count + 1 for cuts in self._intervals], True)
        columns: list[npt.NDArray[np.int64]] = []
        for name, cuts in zip(self._names, self._intervals, strict=True):
            column = batch.column(name)
            if not is_number(column.type):
                raise Unreadable(f"column {name!r} is {type_name(column.type)}, not a number")
            places = cuts.place(column)
            if encoding.refuses and (places == cuts.count).any():
                raise Unreadable(f"column {name!r} has a value in no interval: NULL or NaN")
            columns.append(places)
        return encoding(columns, [cuts.count - 1 for cuts in self._intervals], self._types)
