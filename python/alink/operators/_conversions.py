"""Operators between types: tensors, tables in cells, JSON, and casts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._json import BadPath, parse_path
from alink._algorithms._tensors import TENSOR_KINDS
from alink._algorithms._types import (
    MTABLE,
    TENSOR,
    TYPE_NAMES,
    VECTOR,
    BadSchema,
    is_kind,
    is_number,
    parse_type,
    type_name,
)
from alink._diag import did_you_mean, quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._base import read_schema
from alink.operators._define import Mapper, batch_and_stream, mapper, one_of
from alink.operators._mapping import apply_step
from alink.operators._vectors import check_invalid, one_column

Params = Mapping[str, Any]
Outputs = Sequence[tuple[str, pa.DataType]]

_TARGETS = (
    "STRING", "VARCHAR", "FLOAT", "DOUBLE", "INT", "BIGINT", "LONG", "BOOLEAN", "DECIMAL",
)  # fmt: skip


def _check_kind(name: str, schema: pa.Schema, column: str, *kinds: pa.DataType) -> None:
    kind = schema.field(column).type
    if pa.types.is_string(kind) or any(is_kind(kind, known) for known in kinds):
        return
    if VECTOR in kinds and is_number(kind):
        return
    words = ", ".join(map(type_name, kinds))
    raise bad_option(
        name, f"{name}: column {quote(column)} is {type_name(kind)}", f"it takes STRING, {words}"
    )


def _to_tensor(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_invalid(name, params)
    if params["tensorDataType"]:
        one_of(name, "tensorDataType", params["tensorDataType"], TENSOR_KINDS)
    _check_shape(name, "tensorShape", params["tensorShape"])
    _check_kind(name, schema, params["selectedCol"], TENSOR, VECTOR)
    return TENSOR


def _check_shape(name: str, parameter: str, shape: Sequence[int] | None) -> None:
    if shape is not None and (list(shape).count(-1) > 1 or any(size < -1 for size in shape)):
        raise bad_option(
            name,
            f"{name}: {quote(parameter)} cannot be {list(shape)}",
            "sizes are 0 or more; one may be -1, which is what is left for it",
        )


def _reshape(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    _check_shape(name, "size", params["size"])
    _check_kind(name, schema, params["selectedCol"], TENSOR, VECTOR)
    return TENSOR


def _to_vector(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    methods = ("FLATTEN", "SUM", "MEAN", "MAX", "MIN")
    one_of(name, "convertMethod", params["convertMethod"], methods)
    _check_kind(name, schema, params["selectedCol"], TENSOR, VECTOR)
    return VECTOR


def _to_table(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_invalid(name, params)
    _check_kind(name, schema, params["selectedCol"], MTABLE)
    return MTABLE


def _json_values(params: Params, schema: pa.Schema) -> Outputs:
    name = "JsonValue"
    for path in params["jsonPath"]:
        try:
            parse_path(path)
        except BadPath as error:
            raise bad_option(name, f"{name}: {error}", "write $.name, $.list[0]") from None
    outputs, kinds = params["outputCols"], params["outputColTypes"]
    if kinds is None:
        kinds = ["STRING"] * len(outputs)
    if not len(params["jsonPath"]) == len(outputs) == len(kinds):
        raise bad_option(
            name,
            f"{name}: {len(params['jsonPath'])} paths, {len(outputs)} columns and "
            f"{len(kinds)} types",
            "give as many of each",
        )
    column = params["selectedCol"]
    if not pa.types.is_string(schema.field(column).type):
        kind = type_name(schema.field(column).type)
        raise bad_option(name, f"{name}: column {quote(column)} is {kind}", "it takes STRING")
    return [
        (output.strip(), _type(name, kind)) for output, kind in zip(outputs, kinds, strict=True)
    ]


def _type(name: str, text: str) -> pa.DataType:
    try:
        return parse_type(text.strip())
    except BadSchema as error:
        raise bad_option(
            name, f"{name}: {error}", did_you_mean(text, "types", TYPE_NAMES)
        ) from None


def _convert(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give columns another type, all of them without selectedCols."""
    table = inputs[0]
    schema = table.schema
    target = parse_type(one_of(name, "targetType", params["targetType"], _TARGETS))
    columns = params["selectedCols"] or schema.names
    found = list(dict.fromkeys(find_column(name, schema, column) for column in columns))
    for column in found:
        kind = schema.field(column).type
        if is_kind(kind, TENSOR) or is_kind(kind, MTABLE):
            raise bad_option(name, f"{name}: column {quote(column)} is {type_name(kind)}")
    outputs = [(column, target) for column in found]
    return apply_step(table, name, "_casts.convert_types", {"selectedCols": found}, outputs, None)


def _flatten(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Give a row for each row of the tables in a column, with the columns of schemaStr.

    NULL gives one row of NULLs, a table without rows none. A value that cannot be cast, or a
    column that a table lacks, fails the job, or with handleInvalidMethod SKIP is NULL.
    """
    table = inputs[0]
    schema = table.schema
    check_invalid(name, params)
    column = find_column(name, schema, params["selectedCol"])
    _check_kind(name, schema, column, MTABLE)
    outputs = [(field.name, field.type) for field in read_schema(name, params["schemaStr"])]
    settings = {
        "selectedCol": column,
        "names": [output for output, _ in outputs],
        "handleInvalidMethod": params["handleInvalidMethod"],
    }
    return apply_step(
        table, name, "_casts.flatten_table", settings, outputs, params["reservedCols"]
    )


def declare() -> None:
    """Declare the operators of this module."""
    tensors = (
        "with a type (tensorDataType) and a shape (tensorShape). What is none fails the job, or "
        "with handleInvalidMethod SKIP becomes NULL."
    )
    one_column(
        "ToTensor",
        "_tensor_tasks.to_tensor",
        _to_tensor,
        f"Read tensors from texts, vectors and numbers, {tensors}",
    )
    one_column(
        "VectorToTensor",
        "_tensor_tasks.to_tensor",
        _to_tensor,
        f"Make tensors of vectors, {tensors}",
    )
    one_column(
        "TensorToVector",
        "_tensor_tasks.to_vector",
        _to_vector,
        "Give the values of tensors as vectors, or along the first dimension their SUM, MEAN, "
        "MAX or MIN.",
    )
    one_column("TensorReshape", "_tensor_tasks.reshape", _reshape, "Give tensors another shape.")
    one_column(
        "ToMTable",
        "_tables.to_table",
        _to_table,
        "Read tables within cells from texts of JSON. What is none fails the job, or with "
        "handleInvalidMethod SKIP becomes NULL.",
    )
    mapper(
        Mapper(
            "JsonValue",
            "_json_values.json_values",
            _json_values,
            columns=["selectedCol", "reservedCols"],
            doc="Give the values at paths within texts of JSON, as texts or as outputColTypes. "
            "Text without quotes is read too. What is not there fails the job, or with "
            "skipFailed is NULL.",
        )
    )
    batch_and_stream("TypeConvert", _convert)
    batch_and_stream("FlattenMTable", _flatten)
