"""Operators that fill missing values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._fill import fill_value
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import one_of
from alink.operators._dialect import quoted
from alink.operators._encoder_info import VectorImputerModelInfo
from alink.operators._indexers import outputs_of
from alink.operators._model_details import ImputerModelInfo
from alink.operators._scalers import trained_column
from alink.operators._tokens import literal, selected
from alink.operators._training import Columns, Trained, trained
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]

STRATEGIES = ("MEAN", "MIN", "MAX", "VALUE")


def _train(name: str, params: Params, table: Table) -> Table:
    """Compute what columns are filled with, in one pass of the engine, exact in whole numbers."""
    columns, schema = selected(name, params), table.schema
    strategy = one_of(name, "strategy", params["strategy"], STRATEGIES)
    fills = [_fill(name, params, strategy, schema.field(column)) for column in columns]
    meta = {"selectedCols": columns, "strategy": strategy, "fillValue": params["fillValue"]}
    about = {key: json.dumps(value, ensure_ascii=False) for key, value in meta.items()}
    kept = "".join(f", NULL::DOUBLE AS {quoted(column)}" for column in columns)
    rows = "" if strategy == "VALUE" else "FROM a"
    return table._context.sql(
        f"""SELECT 0::BIGINT AS model_id, {literal(json.dumps(about, ensure_ascii=False))}
            AS model_info{kept}
        UNION ALL SELECT 1048576, json_array({", ".join(fills)})::VARCHAR{kept} {rows}""",
        tables={"a": table},
    )


def _fill(name: str, params: Params, strategy: str, field: pa.Field) -> str:
    """Write the expression of what a column is filled with, as text."""
    if strategy == "VALUE":
        if params["fillValue"] is None:
            raise bad_option(
                name, f"{name} needs the parameter 'fillValue'", "it is what VALUE fills with"
            )
        try:
            fill_value(params["fillValue"], field.type)
        except Unreadable as error:
            raise bad_option(name, f"{name}: column {quote(field.name)}: {error}") from None
        return literal(params["fillValue"])
    if not is_number(field.type):
        raise bad_option(
            name,
            f"{name}: column {quote(field.name)} is {type_name(field.type)}",
            f"{strategy} takes numbers; VALUE fills any column with fillValue",
        )
    column = quoted(field.name)
    if pa.types.is_floating(field.type):
        column = f"CASE WHEN NOT isnan({column}) THEN {column} END"
    function = {"MEAN": "avg", "MIN": "min", "MAX": "max"}[strategy]
    return f"{function}({column})::VARCHAR"


def _imputed(params: Params, schema: pa.Schema, model: pa.Schema) -> Columns:
    columns = [find_column("Imputer", schema, column) for column in model.names[2:]]
    outputs = outputs_of("Imputer", params, columns)
    kinds = [schema.field(column).type for column in columns]
    return list(zip(outputs, kinds, strict=True))


def _check_vectors(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    strategy = one_of(name, "strategy", params["strategy"], STRATEGIES)
    if strategy == "VALUE" and params["fillValue"] is None:
        raise bad_option(
            name, f"{name} needs the parameter 'fillValue'", "it is what VALUE fills with"
        )
    check_vectors(name, schema, [find_column(name, schema, params["selectedCol"])])
    return dict(params)


def declare() -> None:
    """Declare the operators of this module."""
    trained(
        Trained(
            "Imputer",
            "",
            "_imputers.Impute",
            _imputed,
            ["selectedCols"],
            query=_train,
            info=ImputerModelInfo,
            doc="Fill NULL and NaN with a column's mean, smallest or largest value, or with "
            "fillValue. The mean loses its fraction in a column of whole numbers. A column "
            "without a value stays as it is.",
        )
    )
    trained(
        Trained(
            "VectorImputer",
            "_imputers.train_vectors",
            "_imputers.ImputeVectors",
            trained_column,
            ["selectedCol"],
            kept="selectedCol",
            prepare=_check_vectors,
            info=VectorImputerModelInfo,
            doc="Fill the NaN of vectors with the mean, smallest or largest value at their index, "
            "or with fillValue. What a sparse vector does not name is 0, and not filled.",
        )
    )
