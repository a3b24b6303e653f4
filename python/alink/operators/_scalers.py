"""Scalers of columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink.operators._model_info import (
    MaxAbsScalarModelInfo,
    MinMaxScalerModelInfo,
    StandardScalerModelInfo,
)
from alink.operators._training import Columns, Trained, trained


def _scaled(params: Mapping[str, Any], _schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the scaled columns: in the place of those of the model, or under other names."""
    names = model.names[2:]
    outputs = params.get("outputCols") or names
    return [(name, pa.float64()) for name in outputs]


def declare() -> None:
    """Declare the operators of this module."""
    for name, train, predict, info, doc in (
        (
            "StandardScaler",
            "_scalers.train_standard",
            "_scalers.Standard",
            StandardScalerModelInfo,
            "Scale columns to mean 0 and standard deviation 1.",
        ),
        (
            "MinMaxScaler",
            "_scalers.train_min_max",
            "_scalers.MinMax",
            MinMaxScalerModelInfo,
            "Scale columns onto an interval, by default from 0 to 1.",
        ),
        (
            "MaxAbsScaler",
            "_scalers.train_max_abs",
            "_scalers.MaxAbs",
            MaxAbsScalarModelInfo,
            "Scale columns by their largest absolute value.",
        ),
    ):
        trained(
            Trained(
                name,
                train,
                predict,
                _scaled,
                ["selectedCols"],
                kept="selectedCols",
                info=info,
                doc=doc,
            )
        )
