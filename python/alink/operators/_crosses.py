"""AutoCross: operators that search for crossings of categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import model_schema
from alink._algorithms._types import VECTOR, is_number, type_name
from alink._diag import did_you_mean, quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import build, one_of
from alink.operators._tokens import selected, thresholds_of
from alink.operators._training import Columns, TrainBatch, Trained, Training, trained

Params = Mapping[str, Any]

_PLACES = pa.schema([("index", pa.int32()), ("feature", pa.string()), ("value", pa.string())])
_DOC = (
    "Search for crossings of categories with which a logistic regression of the label, which has "
    "two values, ranks rows best that were held out, and write numbers, categories and crossings "
    "as a vector [Luo et al., AutoCross, KDD 2019]. Texts, truths and categoricalCols are "
    "categories; NULL is one, and what the model does not know. With fixCoefs the regression is "
    "that paper's field-wise one. outputFormat Dense gives the place of each 1 instead. The vector "
    "is NULL where a number is."
)
_SELECTOR_DOC = (
    "Choose the crossFeatureNumber of the crossings featureCandidates, as 'a, b', with each of "
    "which a logistic regression of the label ranks rows best that were held out, and write "
    "numbers, categories and crossings as a vector, or without appendOriginalData the crossings "
    "alone. maxSearchStep changes nothing."
)


def _prepared(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Tell categories from numbers, and check the parameters of a search."""
    columns = [find_column(name, schema, column) for column in selected(name, params)]
    label = find_column(name, schema, params["labelCol"])
    if label in columns:
        raise bad_option(name, f"{name}: the label {quote(label)} is one of 'selectedCols'")
    asked = [find_column(name, schema, column) for column in params["categoricalCols"] or ()]
    for column in asked:
        if column not in columns:
            raise bad_option(
                name, f"{name}: categorical column {quote(column)} is none of 'selectedCols'"
            )
    categories: list[str] = []
    for column in columns:
        kind = schema.field(column).type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if column in asked or text or pa.types.is_boolean(kind):
            categories.append(column)
        elif not is_number(kind):
            raise bad_option(
                name,
                f"{name}: column {quote(column)} is {type_name(kind)}",
                "it takes numbers, texts and truths; others are named in categoricalCols",
            )
        if pa.types.is_nested(kind):
            raise bad_option(name, f"{name}: {quote(column)}, a {type_name(kind)}, is no category")
    if not categories:
        raise bad_option(
            name,
            f"{name} crosses categories, but 'selectedCols' has only numbers",
            "name those that are categories in categoricalCols",
        )
    for parameter, fits, hint in (
        ("fraction", 0 < params["fraction"] < 1, "it is between 0 and 1"),
        ("kCross", params["kCross"] >= 1, "it is 1 or more"),
        ("maxSearchStep", params["maxSearchStep"] >= 1, "it is 1 or more"),
    ):
        if not fits:
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {params[parameter]}", hint
            )
    return {
        **params,
        "selectedCols": columns,
        "categoricalCols": categories,
        "numericalCols": [column for column in columns if column not in categories],
        "thresholds": thresholds_of(name, params, categories),
    }


def _with_candidates(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Check the parameters of a choice."""
    given = _prepared(name, params, schema)
    known = {column.lower(): i for i, column in enumerate(given["categoricalCols"])}
    candidates: list[list[int]] = []
    for text in params["featureCandidates"]:
        names = [part.strip() for part in text.split(",")]
        for column in names:
            if column.lower() not in known:
                raise bad_option(
                    name,
                    f"{name}: 'featureCandidates' has {quote(column)}, which is no categorical "
                    "column",
                    did_you_mean(column, "they are", given["categoricalCols"]),
                )
        cross = sorted({known[column.lower()] for column in names})
        if len(cross) < len(names) or len(cross) == 1:
            raise bad_option(
                name,
                f"{name}: 'featureCandidates' has {text!r:.60}, which is no crossing",
                "a crossing is of two or more different columns, as 'a, b'",
            )
        if cross not in candidates:
            candidates.append(cross)
    wanted = params["crossFeatureNumber"]
    if not 1 <= wanted <= len(candidates):
        raise bad_option(
            name,
            f"{name}: 'crossFeatureNumber' cannot be {wanted} of {len(candidates)} different "
            "'featureCandidates'",
        )
    return {**given, "candidates": candidates}


def _vector(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
    one_of("AutoCross", "outputFormat", params["outputFormat"], ("Sparse", "Dense"))
    return [(params["outputCol"], VECTOR)]


class _Train(TrainBatch):
    """Searches; what the places of vectors stand for is side output 0."""

    def _link(self) -> Table:
        model = self._trained.fit(self._name, self._all(), [self._inputs[0]._table()])
        names = model_schema().names
        listing = Training(self._name, "_crosses.places", {}, names, _PLACES, alone=True)
        self._side_outputs = [model._train(listing)]
        return model


def declare() -> None:
    """Declare the operators of this module."""
    columns = ["selectedCols", "labelCol"]
    search = Trained(
        "AutoCross",
        "_crosses.train",
        "_crosses.Predict",
        _vector,
        columns,
        prepare=_prepared,
        doc=_DOC,
    )
    trained(search)
    for name in ("AutoCrossTrainBatchOp", "AutoCrossAlgoTrainBatchOp"):
        build(name, _Train, _DOC, _trained=search)
    trained(
        Trained(
            "CrossCandidateSelector",
            "_crosses.select",
            "_crosses.Predict",
            _vector,
            columns,
            prepare=_with_candidates,
            doc=_SELECTOR_DOC,
        )
    )
