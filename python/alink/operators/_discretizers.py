"""Discretizers of columns: at quantiles, of equal width, and binning with its statistics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._schemas import BORDERS
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._define import one_of, operator
from alink.operators._features import encoded
from alink.operators._model_details import (
    EqualWidthDiscretizerModelInfo,
    QuantileDiscretizerModelInfo,
)
from alink.operators._training import Columns, Trained, trained

Params = Mapping[str, Any]


def check_numbers(name: str, schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Give the names of the types of columns, which hold numbers.

    Raises
    ------
    PlanError
        If one does not.
    """
    kinds: list[str] = []
    for column in columns:
        kind = schema.field(find_column(name, schema, column)).type
        if not is_number(kind):
            raise bad_option(
                name, f"{name}: column {quote(column)} is {type_name(kind)}", "it takes numbers"
            )
        kinds.append(type_name(kind))
    return kinds


def for_each(name: str, params: Params, one: str, many: str, columns: Sequence[str]) -> list[int]:
    """Give a whole number for each column: of the parameter with a list, or the one for all."""
    if params.get(many) is None:
        return [params[one]] * len(columns)
    if len(params[many]) != len(columns):
        raise bad_option(
            name,
            f"{name}: {quote(many)} has {len(params[many])} numbers for {len(columns)} columns",
        )
    return list(params[many])


def check_buckets(name: str, buckets: Sequence[int]) -> None:
    """Refuse numbers of buckets below 1."""
    for count in buckets:
        if count < 1:
            raise bad_option(name, f"{name}: there cannot be {count} buckets", "1 or more")


def _discretizer(method: str) -> Callable[[str, Params, pa.Schema], dict[str, Any]]:
    def prepare(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
        columns = params["selectedCols"]
        if not columns:
            raise bad_option(name, f"{name}: 'selectedCols' names no column")
        buckets = for_each(name, params, "numBuckets", "numBucketsArray", columns)
        check_buckets(name, buckets)
        kinds = check_numbers(name, schema, columns)
        return {**params, "method": method, "buckets": buckets, "types": kinds}

    return prepare


# --- binning ---


def _binned(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    """Give the columns of bins."""
    if (params["encode"] or "").upper() != "WOE":
        return encoded("Binning", params)
    names = params["outputCols"] or params["selectedCols"]
    if len(names) != len(params["selectedCols"]):
        raise bad_option(
            "Binning",
            f"Binning: 'outputCols' names {len(names)} columns",
            f"with encode WOE it names {len(params['selectedCols'])}",
        )
    return [(name, pa.float64()) for name in names]


def _with_map(
    name: str, params: Params, one: str, columns: Sequence[str], all_columns: Sequence[str]
) -> dict[str, int]:
    """Give a whole number for each column: of a list, of one for all, or of ``"a:3,b:4"``."""
    found = dict(zip(columns, for_each(name, params, one, f"{one}Array", columns), strict=True))
    for part in (params[f"{one}Map"] or "").split(","):
        if not part.strip():
            continue
        column, colon, count = part.rpartition(":")
        if not colon or not count.strip().lstrip("-").isdigit():
            raise bad_option(
                name, f"{name}: {quote(one + 'Map')} cannot be {part!r:.60}", 'write "a:3,b:4"'
            )
        by_name = {known.lower(): known for known in all_columns}
        known = by_name.get(column.strip().lower())
        if known is None:
            raise bad_option(
                name,
                f"{name}: {quote(one + 'Map')} names {quote(column.strip())}",
                "which is none of selectedCols",
            )
        if known in found:
            found[known] = int(count)
    return found


def _binning(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Check the parameters of a binning."""
    columns = [find_column(name, schema, column) for column in params["selectedCols"]]
    if not columns:
        raise bad_option(name, f"{name}: 'selectedCols' names no column")
    label = params["labelCol"]
    if label is not None and find_column(name, schema, label) in columns:
        raise bad_option(name, f"{name}: the label {quote(label)} is one of 'selectedCols'")
    kinds = [schema.field(column).type for column in columns]
    for column, kind in zip(columns, kinds, strict=True):
        if pa.types.is_nested(kind):
            raise bad_option(name, f"{name}: column {quote(column)} is {type_name(kind)}")
    numeric = [c for c, kind in zip(columns, kinds, strict=True) if is_number(kind)]
    others = [c for c in columns if c not in numeric]
    buckets = _with_map(name, params, "numBuckets", numeric, columns)
    check_buckets(name, list(buckets.values()))
    return {
        **params,
        "selectedCols": columns,
        "types": [type_name(kind) for kind in kinds],
        "binningMethod": one_of(
            name, "binningMethod", params["binningMethod"], ("QUANTILE", "BUCKET")
        ),
        "buckets": buckets,
        "thresholds": _with_map(name, params, "discreteThresholds", others, columns),
        "userBins": _user_bins(name, params, numeric) if params["fromUserDefined"] else [],
    }


def _user_bins(name: str, params: Params, numeric: Sequence[str]) -> list[Any]:
    """Read the bins that the user describes, in the form of a model's rows."""
    from alink._algorithms._binning import read_feature  # which needs numpy

    hint = 'write [{"featureName": "a", "splitsArray": [1, 2], "isLeftOpen": true}, …]'
    try:
        found = json.loads(params["userDefinedBin"] or "")
    except ValueError as error:
        raise bad_option(name, f"{name}: 'userDefinedBin' is not JSON: {error}", hint) from None
    try:
        features = [read_feature(item) for item in found]
    except Unreadable as error:
        raise bad_option(name, f"{name}: 'userDefinedBin': {error}", hint) from None
    for feature in features:
        fits = (feature.intervals is not None) == (feature.name in numeric)
        if feature.name in params["selectedCols"] and not fits:
            wanted = "splitsArray" if feature.name in numeric else "bins of values"
            raise bad_option(
                name,
                f"{name}: 'userDefinedBin' does not fit column {quote(feature.name)}",
                f"give it {wanted}",
            )
    return found


def declare() -> None:
    """Declare the operators of this module."""
    binning = Trained(
        "Binning",
        "_binning.train",
        "_binning.Predict",
        _binned,
        ["selectedCols", "labelCol"],
        applied=["selectedCols"],
        schema=BORDERS,
        prepare=_binning,
        doc="Put values into bins: numbers into intervals, others into one bin each, with how "
        "many rows each bin has and, with a label, its weight of evidence.",
    )
    trained(binning)
    operator("BinningTrainForScorecardBatchOp", binning.fit)
    for name, method, info, doc in (
        (
            "QuantileDiscretizer",
            "quantile",
            QuantileDiscretizerModelInfo,
            "Cut columns of numbers into intervals with about as many values each, at exact "
            "quantiles: the k-th cut is the value at rank round((n - 1) k / numBuckets).",
        ),
        (
            "EqualWidthDiscretizer",
            "width",
            EqualWidthDiscretizerModelInfo,
            "Cut columns of numbers into intervals of the same width between their extremes.",
        ),
    ):

        def outputs(
            params: Params, _rows: pa.Schema, _model: pa.Schema, name: str = name
        ) -> Columns:
            return encoded(name, params)

        trained(
            Trained(
                name,
                "_discretizers.train",
                "_discretizers.Predict",
                outputs,
                ["selectedCols"],
                applied=["selectedCols"],
                prepare=_discretizer(method),
                info=info,
                doc=doc,
            )
        )
