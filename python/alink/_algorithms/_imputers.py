"""Imputers: what stands for missing values, in columns and in vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._encoders import column_of
from ._models import read_model
from ._strings import Unreadable


def fill_value(text: str | None, kind: pa.DataType) -> pa.Scalar:
    """Read what a column of a type is filled with; a real number loses its fraction in whole ones.

    Raises
    ------
    Unreadable
        If it cannot stand in such a column.
    """
    if text is None:
        return pa.scalar(None, kind)
    try:
        if pa.types.is_integer(kind):
            try:
                return pc.cast(pa.scalar(text), kind)
            except pa.ArrowInvalid:
                real = np.trunc(float(text))
                return pc.cast(pa.scalar(int(real)), kind)
        return pc.cast(pa.scalar(text), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError):
        raise Unreadable(f"{text!r:.80} is no value of type {kind}") from None


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
