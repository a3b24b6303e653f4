"""Operators that make features of columns without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._strings import Unreadable, cut_points
from alink._algorithms._types import MTABLE, TENSOR, VECTOR, is_kind, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._define import Mapper, mapper, one_of
from alink.operators._vectors import check_vectors, one_column, several_columns

Params = Mapping[str, Any]
Outputs = Sequence[tuple[str, pa.DataType]]


def encoded(name: str, params: Params) -> Outputs:
    """Give the outputs of an operator that writes categories as ``encode`` says."""
    encode = one_of(name, "encode", params["encode"], ("INDEX", "VECTOR", "ASSEMBLED_VECTOR"))
    one_of(name, "handleInvalid", params["handleInvalid"], ("KEEP", "ERROR", "SKIP"))
    names = params["outputCols"]
    if not params["selectedCols"]:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    wanted = 1 if encode == "ASSEMBLED_VECTOR" else len(params["selectedCols"])
    if encode != "ASSEMBLED_VECTOR":
        names = names or params["selectedCols"]
    if not names or len(names) != wanted:
        raise bad_option(
            name,
            f"{name}: 'outputCols' names {len(names or ())} columns",
            f"with encode {encode} it names {wanted}",
        )
    return [(output, pa.int64() if encode == "INDEX" else VECTOR) for output in names]


def _check_numbers(name: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    for column in columns:
        kind = schema.field(column).type
        if not is_number(kind):
            raise bad_option(
                name, f"{name}: column {quote(column)} is {type_name(kind)}", "it takes numbers"
            )


def _bucketizer(params: Params, schema: pa.Schema) -> Outputs:
    name = "Bucketizer"
    columns = params["selectedCols"]
    try:
        cuts = cut_points(params)
    except Unreadable as error:
        raise bad_option(name, f"{name}: 'cutsArrayStr': {error}") from None
    if cuts is None or len(cuts) != len(columns):
        raise bad_option(
            name,
            f"{name}: 'cutsArray' has {len(cuts or ())} lists for {len(columns)} columns",
            "give a list of cut points for each of selectedCols",
        )
    if any(cut != cut for points in cuts for cut in points):
        raise bad_option(name, f"{name}: a cut point is NaN")
    _check_numbers(name, schema, columns)
    return encoded(name, params)


def _binarizer(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    column = params["selectedCol"]
    check_vectors(name, schema, [column])
    kind = schema.field(column).type
    return kind if is_number(kind) else VECTOR


def _cosine(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_vectors(name, schema, [params["selectedCol"]])
    return pa.string()


def _check_hashed(name: str, params: Params, schema: pa.Schema) -> None:
    if params["numFeatures"] < 1:
        raise bad_option(
            name, f"{name}: 'numFeatures' cannot be {params['numFeatures']}", "it is 1 or more"
        )
    if not params["selectedCols"]:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    for column in params["selectedCols"]:
        kind = schema.field(column).type
        if is_kind(kind, TENSOR) or is_kind(kind, MTABLE):
            raise bad_option(name, f"{name}: column {quote(column)} is {type_name(kind)}")


def _hasher(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    _check_hashed(name, params, schema)
    for column in params["categoricalCols"] or ():
        if find_column(name, schema, column) not in params["selectedCols"]:
            raise bad_option(
                name,
                f"{name}: categorical column {quote(column)} is none of 'selectedCols'",
            )
    return VECTOR


def _hash_cross(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    _check_hashed(name, params, schema)
    return VECTOR


def declare() -> None:
    """Declare the operators of this module."""
    one_column(
        "Binarizer",
        "_features.binarize",
        _binarizer,
        "Make 1 of numbers above a threshold and 0 of the rest, in a column of numbers or in "
        "vectors.",
    )
    mapper(
        Mapper(
            "Bucketizer",
            "_features.bucketize",
            _bucketizer,
            columns=["selectedCols", "reservedCols"],
            doc="Give the number of the bucket between cut points that each number is in. NULL "
            "and NaN have a bucket of their own behind the others, or with handleInvalid SKIP "
            "give NULL, with ERROR fail the job.",
        )
    )
    one_column(
        "DCT",
        "_features.cosine_transform",
        _cosine,
        "Give the discrete cosine transform of vectors, of type II and orthonormal, or its "
        "inverse, as texts.",
    )
    several_columns(
        "FeatureHasher",
        "_features.hash_features",
        _hasher,
        "Hash columns into one sparse vector: a number is added where its column's name is "
        "hashed to, and 1 where column=value is, of texts, truths and categoricalCols.",
    )
    several_columns(
        "HashCrossFeature",
        "_features.hash_cross",
        _hash_cross,
        "Hash the values of columns together into a sparse vector with one 1; it is empty "
        "where one of them is NULL.",
    )
