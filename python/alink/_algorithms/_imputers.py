"""Imputers: what stands for missing values, in columns and in vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._encoders import column_of
from ._fill import fill_value
from ._group import Group
from ._models import Model, meta_of, read_model, write_model
from ._moments import VectorMoments
from ._scalers import read_numbers, write_numbers
from ._strings import Unreadable
from ._vectors import Vectors, read_vectors


class Impute:
    """Fills NULL and NaN."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._names: list[str] = []
        self._fills: list[pa.Scalar] = []

    def load(self, table: pa.Table) -> None:
        """Take the model: a JSON list of a text for each column."""
        model = read_model(table)
        self._names = model.get("selectedCols")
        fills: list[str | None] = json.loads(model.data[0])
        self._fills = []
        for name, text, kind in zip(self._names, fills, self._types, strict=True):
            try:
                self._fills.append(fill_value(text, kind))
            except Unreadable as error:
                raise Unreadable(f"column {name!r}: {error}") from None

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the columns without what is missing."""
        return [
            self._filled(column_of(batch, name), fill)
            for name, fill in zip(self._names, self._fills, strict=True)
        ]

    @staticmethod
    def _filled(column: pa.Array, fill: pa.Scalar) -> pa.Array:
        missing = column.is_null()
        if pa.types.is_floating(column.type):
            missing = pc.is_null(column, nan_is_null=True)
        if not fill.is_valid or not pc.any(missing).as_py():
            return column
        return pc.if_else(missing, fill, column)


def train_vectors(params: Mapping[str, Any]) -> Any:
    """Make the training of what vectors are filled with, index by index."""
    name, strategy = params["selectedCol"], params["strategy"].upper()

    def train(rows: Group) -> pa.Table:
        data: list[str] = []
        if strategy != "VALUE":
            known = VectorMoments(name, nan_missing=True)
            for batch in rows:
                known.add(read_vectors(batch, name))
            known.together(rows)
            moments = known.moments
            fills = {"MEAN": moments.mean, "MIN": moments.low, "MAX": moments.high}[strategy]
            # There is nothing to fill with where all is missing.
            data = [write_numbers(np.where(moments.count > 0, fills, np.nan))]
        meta = meta_of(params, ["selectedCol", "strategy", "fillValue"])
        return write_model(Model(meta, data), columns=[(name, pa.float64())])

    return train


class ImputeVectors:
    """Fills the NaN of vectors."""

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._model = Model()
        self._name = ""
        self._fills: np.ndarray[Any, np.dtype[np.float64]] = np.empty(0)

    def load(self, table: pa.Table) -> None:
        """Take the model: a number for each index, if it is not one for all."""
        self._model = model = read_model(table)
        self._name = table.schema.names[2]
        self._fills = read_numbers(model.data[0]) if model.data else np.empty(0)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors without NaN; NULL stays NULL."""
        vectors = vectors_of(batch, self._name)
        missing = np.isnan(vectors.values)
        if not missing.any():
            return [vectors.to_arrow()]
        values = vectors.values.copy()
        if not self._model.data:
            values[missing] = self._model.get("fillValue")
            return [vectors.with_values(values).to_arrow()]
        at = vectors.indices_of_values[missing]
        last, size = int(at.max()), len(self._fills)
        if last >= size:
            raise Unreadable(
                f"column {self._name!r} has NaN at index {last}, the vectors of the training had "
                f"size {size}"
            )
        values[missing] = self._fills[at]
        return [vectors.with_values(values).to_arrow()]


def vectors_of(batch: pa.RecordBatch, name: str) -> Vectors:
    """Read the vectors of the column that a model was trained on."""
    try:
        return Vectors.of(column_of(batch, name))
    except Unreadable as error:
        raise Unreadable(f"column {name!r}: {error}") from None
