"""Summaries of columns and of vectors: counts, sums, moments, norms and extremes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._group import Group
from ._models import Model, write_model
from ._moments import Moments, VectorMoments, blocks
from ._types import is_number
from ._vectors import Vectors, read_vectors

Params = Mapping[str, Any]


def train(params: Params) -> Any:
    """Make the summary of columns; of those without numbers what is missing alone is counted."""
    names: Sequence[str] = params["selectedCols"]

    def run(rows: Group) -> pa.Table:
        numeric = [name for name in names if is_number(rows.schema.field(name).type)]
        moments = Moments(len(numeric))
        missing = dict.fromkeys(names, 0)
        for values in blocks(rows, numeric):
            moments.add(values)
        for batch in rows:
            for name in names:
                missing[name] += batch.column(name).null_count
        moments.together(rows)
        total, *nulls = np.concatenate(rows.sum(len(rows), [*missing.values()]), axis=None)
        found = dict(zip(names, nulls, strict=True))
        if numeric:
            # A NaN is missing too.
            found |= dict(zip(numeric, total - moments.count, strict=True))
        columns = {name: {"missing": int(found[name])} for name in names}
        for name, values in zip(numeric, _values(rows, numeric, moments), strict=True):
            columns[name] |= values
        data = json.dumps({"count": int(total), "columns": columns}, ensure_ascii=False)
        return write_model(Model({"selectedCols": list(names)}, [data]))

    return run


def _values(rows: Group, names: Sequence[str], moments: Moments) -> list[dict[str, Any]]:
    """Give what is known of columns of numbers; a second pass adds up powers about the means."""
    sums = np.zeros((5, len(names)))
    for values in blocks(rows, names):
        missing = np.isnan(values)
        # What is missing is 0, and the mean where powers about it are taken.
        given = np.where(missing, 0.0, values) if missing.any() else values
        with np.errstate(invalid="ignore", over="ignore"):
            about = values - moments.mean
            about[missing] = 0.0
            square = about * about
            sums[0] += given.sum(axis=0)
            sums[1] += np.abs(given).sum(axis=0)
            sums[2] += np.einsum("ij,ij->j", given, given)
            sums[3] += np.einsum("ij,ij->j", square, about)
            sums[4] += np.einsum("ij,ij->j", square, square)
    (sums,) = rows.sum(sums)
    extremes = _extremes(rows, names, moments)
    return [
        {
            "sum": float(sums[0, i]),
            "normL1": float(sums[1, i]),
            "squareSum": float(sums[2, i]),
            "mean": float(moments.mean[i]),
            "moment2": float(moments.squares[i]),
            "moment3": float(sums[3, i]),
            "moment4": float(sums[4, i]),
            "min": extremes[i][0],
            "max": extremes[i][1],
        }
        for i in range(len(names))
    ]


def _extremes(rows: Group, names: Sequence[str], moments: Moments) -> list[tuple[Any, Any]]:
    """Give the least and the largest value of each column, those of whole numbers exactly."""
    whole = [name for name in names if pa.types.is_integer(rows.schema.field(name).type)]
    own: dict[str, list[int]] = {}
    for batch in rows:
        for name in whole:
            extremes = pc.min_max(batch.column(name))
            both = [extremes["min"].as_py(), extremes["max"].as_py()]
            if both[0] is not None:
                own[name] = _wider(own.get(name, both), both)
    found: dict[str, tuple[Any, Any]] = {
        name: (low, high)
        for name, low, high in zip(names, moments.low.tolist(), moments.high.tolist(), strict=True)
    }
    parts: list[dict[str, list[int]]] = [
        json.loads(part) for part in rows.gather(json.dumps(own).encode())
    ]
    for name in whole:
        both = [part[name] for part in parts if name in part]
        if both:
            found[name] = min(low for low, _ in both), max(high for _, high in both)
    return [found[name] for name in names]


def _wider(one: list[int], other: list[int]) -> list[int]:
    return [min(one[0], other[0]), max(one[1], other[1])]


# --- vectors ---


def train_vector(params: Params) -> Any:
    """Make the summary of vectors, at each of their indices; rows of NULL are left out."""
    name: str = params["selectedCol"]

    def run(rows: Group) -> pa.Table:
        own = _Sums(name)
        for batch in rows:
            own.add(read_vectors(batch, name))
        own.together(rows)
        data = {
            "sparse": own.sparse,
            "count": own.rows,
            "sum": own.sums[0].tolist(),
            "normL1": own.sums[1].tolist(),
            "squareSum": own.sums[2].tolist(),
            "numNonZero": own.sums[3].astype(int).tolist(),
            "mean": own.moments.mean.tolist(),
            "moment2": own.moments.squares.tolist(),
            "min": own.moments.low.tolist(),
            "max": own.moments.high.tolist(),
        }
        return write_model(Model({"selectedCol": name}, [json.dumps(data)]))

    return run


class _Sums(VectorMoments):
    """Moments of vectors, and sums.

    Attributes
    ----------
    sums : array, shape (4, size)
        Values, absolute values, squares, and how many are not 0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sums = np.zeros((4, 0))

    def add(self, vectors: Vectors) -> None:
        """Take in vectors."""
        super().add(vectors)
        at, values = vectors.indices_of_values, vectors.values
        for i, part in enumerate((values, abs(values), values**2, values != 0)):
            self.sums[i] += np.bincount(at, part, self.size)

    def grow(self, size: int) -> None:
        """Take in that further indices were 0 in all rows so far."""
        self.sums = np.pad(self.sums, ((0, 0), (0, size - self.size)))
        super().grow(size)

    def together(self, rows: Group) -> None:
        """Take in what the other workers have."""
        super().together(rows)
        (self.sums,) = rows.sum(self.sums)
