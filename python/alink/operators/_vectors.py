"""Operators on vectors that need no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._strings import Unreadable, parse_double, parse_vector
from alink._algorithms._types import VECTOR, is_kind, is_number, type_name
from alink._diag import quote
from alink._options import bad_option
from alink.operators._define import Mapper, mapper, one_of

Params = Mapping[str, Any]
Outputs = Sequence[tuple[str, pa.DataType]]
#: Checks an operator's parameters, and gives the type of its output.
Check = Callable[[str, Params, pa.Schema], pa.DataType]

FUNCTIONS = (
    "Max", "Min", "ArgMax", "ArgMin", "Scale", "NormL2", "NormL1", "NormL2Square", "Normalize",
)  # fmt: skip
BI_FUNCTIONS = (
    "Minus", "Plus", "ElementWiseMultiply", "Merge", "Dot", "EuclidDistance", "Cosine",
)  # fmt: skip


def check_vectors(name: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raise `PlanError` where a column holds neither vectors, nor texts, nor numbers."""
    for column in columns:
        kind = schema.field(column).type
        if not (is_kind(kind, VECTOR) or pa.types.is_string(kind) or is_number(kind)):
            raise bad_option(
                name,
                f"{name}: column {quote(column)} is {type_name(kind)}",
                "it takes vectors, their texts, and numbers",
            )


def one_column(
    name: str,
    task: str,
    check: Check,
    doc: str,
    stage: str = "",
) -> None:
    """Declare an operator of ``selectedCol``, whose place its output takes without a name."""

    def outputs(params: Params, schema: pa.Schema) -> Outputs:
        kind = check(name, params, schema)
        return [(params["outputCol"] or params["selectedCol"], kind)]

    mapper(Mapper(name, task, outputs, stage, columns=["selectedCol", "reservedCols"], doc=doc))


def several_columns(name: str, task: str, check: Check, doc: str) -> None:
    """Declare an operator of ``selectedCols`` with one output."""

    def outputs(params: Params, schema: pa.Schema) -> Outputs:
        return [(params["outputCol"], check(name, params, schema))]

    mapper(Mapper(name, task, outputs, columns=["selectedCols", "reservedCols"], doc=doc))


def _vector(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_vectors(name, schema, [params["selectedCol"]])
    return VECTOR


def _check_norm(name: str, p: float, parameter: str) -> None:
    if not p > 0:
        raise bad_option(name, f"{name}: {quote(parameter)} cannot be {p}", "it is above 0")


def _normalize(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    _check_norm(name, params["p"], "p")
    return _vector(name, params, schema)


def _slice(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    if params["indices"] is None:
        raise bad_option(name, f"{name} needs the parameter 'indices'", "set it: setIndices([0])")
    if any(index < 0 for index in params["indices"]):
        raise bad_option(name, f"{name}: an index is {min(params['indices'])}", "they count from 0")
    return _vector(name, params, schema)


def _product(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    try:
        parse_vector(params["scalingVector"])
    except Unreadable as error:
        raise bad_option(name, f"{name}: 'scalingVector': {error}") from None
    return _vector(name, params, schema)


def _size_hint(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_invalid(name, params)
    if params["size"] < 0:
        raise bad_option(name, f"{name}: 'size' cannot be {params['size']}", "it is 0 or more")
    return _vector(name, params, schema)


def check_invalid(name: str, params: Params) -> None:
    """Raise `PlanError` where ``handleInvalidMethod`` is neither ERROR nor SKIP."""
    method = params["handleInvalidMethod"]
    one_of(name, "handleInvalidMethod", method, ("ERROR", "SKIP"))


def _polynomial(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    if params["degree"] < 1:
        raise bad_option(name, f"{name}: 'degree' cannot be {params['degree']}", "it is 1 or more")
    return _vector(name, params, schema)


def _function(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    function = one_of(name, "funcName", params["funcName"], FUNCTIONS)
    check_vectors(name, schema, [params["selectedCol"]])
    if function in ("Scale", "Normalize"):
        try:
            variable = parse_double(params["WithVariable"] or "")
        except Unreadable:
            raise bad_option(
                name,
                f"{name}: {function} needs a number, not {params['WithVariable']!r:.40}",
                "set it with setWithVariable(…)",
            ) from None
        if function == "Normalize":
            _check_norm(name, variable, "WithVariable")
        return VECTOR
    return pa.float64() if function.startswith("Norm") else pa.string()


def _two(name: str, params: Params, schema: pa.Schema) -> None:
    columns = params["selectedCols"]
    if len(columns) != 2:
        raise bad_option(name, f"{name}: 'selectedCols' are two columns, not {len(columns)}")
    check_vectors(name, schema, columns)


def _bi_function(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    function = one_of(name, "biFuncName", params["biFuncName"], BI_FUNCTIONS)
    _two(name, params, schema)
    return pa.float64() if function in ("Dot", "EuclidDistance", "Cosine") else VECTOR


def _interaction(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    _two(name, params, schema)
    return VECTOR


def _assembler(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_invalid(name, params)
    if not params["selectedCols"]:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    check_vectors(name, schema, params["selectedCols"])
    return VECTOR


def _to_vector(name: str, params: Params, schema: pa.Schema) -> pa.DataType:
    check_invalid(name, params)
    if params["vectorType"] is not None:
        one_of(name, "vectorType", params["vectorType"], ("DENSE", "SPARSE"))
    return _vector(name, params, schema)


def declare() -> None:
    """Declare the operators of this module."""
    several_columns(
        "VectorAssembler",
        "_vector_tasks.assemble",
        _assembler,
        "Put numbers and vectors of columns together into one vector, in the order of "
        "selectedCols. It is sparse where less than two thirds of its values are given. NULL "
        "fails the job, or with handleInvalidMethod SKIP makes the vector NULL.",
    )
    one_column(
        "VectorNormalize",
        "_vector_tasks.normalize",
        _normalize,
        "Divide vectors by their p-norm. A vector of zeros stays as it is.",
        "VectorNormalizer",
    )
    one_column(
        "VectorSlice",
        "_vector_tasks.slice_",
        _slice,
        "Keep the values at indices, in the order of the indices.",
        "VectorSlicer",
    )
    one_column(
        "VectorElementwiseProduct",
        "_vector_tasks.elementwise_product",
        _product,
        "Multiply each value of a vector with the one of scalingVector at its index.",
    )
    one_column(
        "VectorSizeHint",
        "_vector_tasks.size_hint",
        _size_hint,
        "Fail the job where a vector is NULL or not of a size; with handleInvalidMethod SKIP "
        "let all through.",
    )
    one_column(
        "VectorPolynomialExpand",
        "_vector_tasks.polynomial_expand",
        _polynomial,
        "Give all products of up to degree values of a vector, a value any number of times: "
        "x, x², y, xy, y² of (x, y). There is no constant.",
    )
    one_column(
        "VectorFunction",
        "_vector_tasks.function",
        _function,
        f"Apply a function to vectors: one of {', '.join(FUNCTIONS)}. Scale multiplies by "
        "WithVariable, Normalize divides by that norm. Max, Min and their indices are texts; what "
        "a sparse vector does not name is 0.",
    )
    several_columns(
        "VectorBiFunction",
        "_vector_tasks.bi_function",
        _bi_function,
        f"Apply a function to the vectors of two columns: one of {', '.join(BI_FUNCTIONS)}.",
    )
    several_columns(
        "VectorInteraction",
        "_vector_tasks.interaction",
        _interaction,
        "Multiply each value of a vector with each of another one. The product of those at i "
        "and j stands at i + size·j, where size is the first vector's.",
    )
    one_column(
        "ToVector",
        "_vector_tasks.to_vector",
        _to_vector,
        "Read vectors from texts, dense or sparse as vectorType says. What is none fails the "
        "job, or with handleInvalidMethod SKIP becomes NULL.",
    )
