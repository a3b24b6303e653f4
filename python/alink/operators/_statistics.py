"""Statistics of whole tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._algorithms._schemas import TESTS
from alink._algorithms._types import type_name
from alink._diag import quote
from alink._options import bad_option
from alink._table import Table
from alink.operators._base import BatchOperator
from alink.operators._define import build, one_of
from alink.operators._discretizers import check_numbers
from alink.operators._mapping import with_columns_found
from alink.operators._model_details import ChisqSelectorModelInfo
from alink.operators._model_info import ReadModel, WithModelInfo
from alink.operators._results import ChiSquareTested, Correlated, Summarized, VectorSummarized
from alink.operators._training import Training
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]
Check = Callable[[str, dict[str, Any], pa.Schema], None]
_MODEL = model_schema()
_PARTS_MAX = 100_000
_COLUMNS = ("selectedCols", "selectedCol", "vectorCol", "labelCol")


class ChiSquareSelected(WithModelInfo):
    """Chooses by chi-square tests."""

    _info = ChisqSelectorModelInfo
    _train_info = ChisqSelectorModelInfo


def statistic(
    name: str,
    task: str,
    check: Check,
    doc: str,
    base: type[BatchOperator] = BatchOperator,
    result: pa.Schema | Callable[[Params, pa.Schema], pa.Schema] = _MODEL,
) -> None:
    """Declare an operator that workers compute of all rows together.

    Parameters
    ----------
    name : str
        Without "BatchOp".
    task : str
        What workers do, as a training.
    check : callable
        Checks the operator's parameters, given its name and the schema of the rows, and completes
        them.
    doc : str
    base : type, optional
        The class that it is derived from.
    result : Schema or callable
        The columns of the result, or what gives them of the parameters and the schema.
    """

    def link(self: BatchOperator) -> Table:
        table = self._inputs[0]._table()
        return compute(self._name, self._all(), table, task, check, result)

    build(f"{name}BatchOp", base, doc, _link=link)


def compute(
    name: str,
    params: Params,
    table: Table,
    task: str,
    check: Check,
    result: pa.Schema | Callable[[Params, pa.Schema], pa.Schema] = _MODEL,
) -> Table:
    """Make the table of what workers compute of all rows together."""
    schema = table.schema
    given = with_columns_found(name, schema, params, _COLUMNS)
    check(name, given, schema)
    read: list[str] = []
    for value in map(given.get, _COLUMNS):
        read += [value] if isinstance(value, str) else value or []
    columns = result if isinstance(result, pa.Schema) else result(given, schema)
    return table._train(Training(name, task, given, list(dict.fromkeys(read)), columns))


def _all_columns(_name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    if given["selectedCols"] is None:
        given["selectedCols"] = schema.names


def check_some(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    """Take columns of numbers, by default all."""
    _all_columns(name, given, schema)
    if not given["selectedCols"]:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    check_numbers(name, schema, given["selectedCols"])


def _vector(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    check_vectors(name, schema, [given["selectedCol"]])


def _correlated(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    given["method"] = one_of(name, "method", given["method"], ("PEARSON", "SPEARMAN"))
    if "selectedCol" in given:
        _vector(name, given, schema)
        given["vectorCol"] = given["selectedCol"]
    else:
        check_some(name, given, schema)


_SELECTORS = ("NumTopFeatures", "PERCENTILE", "FPR", "FDR", "FWE")


def _tested(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    if "selectorType" in given:
        given["selectorType"] = one_of(name, "selectorType", given["selectorType"], _SELECTORS)
        if given["numTopFeatures"] < 0:
            raise bad_option(name, f"{name}: 'numTopFeatures' cannot be below 0")
    if "selectedCol" in given:
        _vector(name, given, schema)
        given["vectorCol"] = given["selectedCol"]
    elif not given["selectedCols"]:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")


def _quantile(name: str, given: dict[str, Any], schema: pa.Schema) -> None:
    kind = schema.field(given["selectedCol"]).type
    given["roundMode"] = one_of(name, "roundMode", given["roundMode"], ("ROUND", "FLOOR", "CEIL"))
    check_parts(name, given["quantileNum"])
    ordered = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not ordered and not pa.types.is_temporal(kind):
        raise bad_option(
            name,
            f"{name}: column {quote(given['selectedCol'])} is {type_name(kind)}",
            "it takes numbers, dates and times; cast the column to one of them",
        )


def check_parts(name: str, parts: int) -> None:
    """Refuse a number of quantiles that is too small or too large."""
    if not 1 <= parts <= _PARTS_MAX:
        raise bad_option(
            name, f"{name}: 'quantileNum' cannot be {parts}", f"it is from 1 to {_PARTS_MAX:,}"
        )


def _quantile_columns(given: Params, schema: pa.Schema) -> pa.Schema:
    return pa.schema([schema.field(given["selectedCol"]), ("quantile", pa.int64())])


def declare() -> None:
    """Declare the operators of this module."""
    statistic(
        "Summarizer",
        "_summaries.train",
        _all_columns,
        "Summarize columns: counts, sums, moments, norms and extremes.",
        Summarized,
    )
    statistic(
        "VectorSummarizer",
        "_summaries.train_vector",
        _vector,
        "Summarize vectors, index by index: sums, moments, norms and extremes.",
        VectorSummarized,
    )
    for prefix in ("", "Vector"):
        of = "the values of vectors" if prefix else "columns"
        statistic(
            f"{prefix}Correlation",
            "_correlations.train",
            _correlated,
            f"Give the correlations of {of}: Pearson's, or Spearman's of mean ranks.",
            Correlated,
        )
        statistic(
            f"{prefix}ChiSquareTest",
            "_chi_square.train",
            _tested,
            f"Test whether {of} and a label are independent, with Pearson's chi-square.",
            ChiSquareTested,
            TESTS,
        )
        statistic(
            f"{prefix}ChiSqSelector",
            "_chi_square.select",
            _tested,
            f"Select those of {of} that depend most on a label, by chi-square tests.",
            ChiSquareSelected,
        )
    build(
        "ChisqSelectorModelInfoBatchOp",
        ReadModel,
        "Say what the model of ChiSqSelectorBatchOp says of itself.",
        _info=ChisqSelectorModelInfo,
        _train_info=ChisqSelectorModelInfo,
    )
    statistic(
        "Quantile",
        "_quantiles.train",
        _quantile,
        "Give the values that cut a column in quantileNum parts, with the least, which is "
        "quantile 0, and the largest: exactly the values at ranks (n - 1) k / quantileNum, rounded "
        "as roundMode says. NULL and NaN are left out.",
        result=_quantile_columns,
    )
