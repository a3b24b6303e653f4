"""Scalers of columns and of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._types import VECTOR
from alink._options import bad_option, find_column
from alink.operators._encoder_info import (
    VectorMaxAbsScalarModelInfo,
    VectorMinMaxScalerModelInfo,
    VectorStandardScalerModelInfo,
)
from alink.operators._model_info import (
    MaxAbsScalarModelInfo,
    MinMaxScalerModelInfo,
    StandardScalerModelInfo,
)
from alink.operators._training import Columns, Trained, trained
from alink.operators._vectors import check_vectors


def _scaled(params: Mapping[str, Any], _schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the scaled columns: in the place of those of the model, or under other names."""
    names = model.names[2:]
    outputs = params.get("outputCols") or names
    return [(name, pa.float64()) for name in outputs]


def trained_column(params: Mapping[str, Any], schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the vectors that are made of those of the training's column, by default in its place."""
    if len(model) < 3:
        raise bad_option(
            "model",
            f"a table of the columns {', '.join(model.names)} is no model of a column of vectors",
            "link the model first, then the rows: op.linkFrom(model, rows)",
        )
    column = find_column(model.names[2], schema, model.names[2])
    return [(params["outputCol"] or column, VECTOR)]


def _check_vectors(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    check_vectors(name, schema, [find_column(name, schema, params["selectedCol"])])
    return dict(params)


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
    for name, kind, info, doc in (
        (
            "VectorStandardScaler",
            "standard",
            VectorStandardScalerModelInfo,
            "Scale vectors, index by index, to mean 0 and standard deviation 1. Sparse vectors "
            "stay sparse without withMean.",
        ),
        (
            "VectorMinMaxScaler",
            "min_max",
            VectorMinMaxScalerModelInfo,
            "Scale vectors, index by index, onto an interval, by default from 0 to 1. Sparse "
            "vectors stay sparse where 0 stays 0.",
        ),
        (
            "VectorMaxAbsScaler",
            "max_abs",
            VectorMaxAbsScalarModelInfo,
            "Scale vectors, index by index, by the largest absolute value.",
        ),
    ):
        trained(
            Trained(
                name,
                f"_vector_scalers.train_{kind}",
                f"_vector_scalers.{kind.title().replace('_', '')}",
                trained_column,
                ["selectedCol"],
                kept="selectedCol",
                prepare=_check_vectors,
                info=info,
                doc=doc,
            )
        )
