"""Scorecards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL, model_schema
from alink._algorithms._schemas import BORDERS
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import build, one_of
from alink.operators._discretizers import check_numbers
from alink.operators._mapping import apply_step
from alink.operators._model_info import ModelInfo, headline, mapped
from alink.operators._tokens import selected
from alink.operators._training import Columns, TrainBatch, Trained, trained

Params = Mapping[str, Any]

#: The columns that bring the binning and the constraints along with the rows.
_BINS, _CONSTRAINTS = "__bins", "__constraints"
_DOC = (
    "A linear model of binned columns, whose weights are points. Inputs are the rows, then the "
    "model of a binning, without which columns are numbers as they are, then constraints of bins "
    "[N. Siddiqi, Credit Risk Scorecards, 2006]. The label has two values; constOptimMethod "
    "changes nothing. withSelector chooses columns by likelihood-ratio tests."
)


def _prepared(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Check the parameters of a training."""
    columns = [find_column(name, schema, column) for column in selected(name, params)]
    label = find_column(name, schema, params["labelCol"])
    if label in columns:
        raise bad_option(name, f"{name}: the label {quote(label)} is one of 'selectedCols'")
    encode = one_of(name, "encode", params["encode"], ("ASSEMBLED_VECTOR", "WOE", "NULL"))
    if _BINS not in schema.names:
        encode = "NULL"
    if encode == "NULL":
        check_numbers(name, schema, columns)
    kinds = ("LR", "LinearReg", "Divergence")
    kind = one_of(name, "linearModelType", params["linearModelType"], kinds)
    if kind == "Divergence":
        raise bad_option(
            name, f"{name}: 'linearModelType' Divergence is not built yet", "use LR or LinearReg"
        )
    if params["constOptimMethod"] is not None:
        methods = ("SQP", "Barrier", "LBFGS", "Newton", "ALM")
        one_of(name, "constOptimMethod", params["constOptimMethod"], methods)
    forced = [find_column(name, schema, c) for c in params["forceSelectedCols"] or ()]
    for column in forced:
        if column not in columns:
            raise bad_option(
                name, f"{name}: {quote(column)} of 'forceSelectedCols' is none of 'selectedCols'"
            )
    if params["scaleInfo"]:
        for parameter in ("scaledValue", "odds", "pdo"):
            value = params[parameter]
            if value is None or (parameter != "scaledValue" and not value > 0):
                shown = "is not set" if value is None else f"cannot be {value}"
                hint = "scaleInfo needs scaledValue, odds and pdo, the latter two above 0"
                raise bad_option(name, f"{name}: {quote(parameter)} {shown}", hint)
    for parameter in ("l1", "l2", "alphaEntry", "alphaStay"):
        if not params[parameter] >= 0:
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {params[parameter]}", "it is 0 or more"
            )
    return {
        **params,
        "selectedCols": columns,
        "forceSelectedCols": forced,
        "encode": encode,
        "linearModelType": kind,
        "binsCol": _BINS if _BINS in schema.names else None,
        "constraintCol": _CONSTRAINTS if _CONSTRAINTS in schema.names else None,
    }


def _scores(params: Params, _rows: pa.Schema, model: pa.Schema) -> Columns:
    first = [*model_schema().names, LABEL]
    if model.names[: len(first)] != first:
        raise bad_option(
            "Scorecard",
            f"a table of the columns {', '.join(model.names)[:80]} is no model of a scorecard",
            "link it from the model first, then from the rows: op.linkFrom(model, rows)",
        )
    columns: list[tuple[str, pa.DataType]] = []
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    columns.append((params["predictionScoreCol"], pa.float64()))
    if params["calculateScorePerFeature"]:
        columns += [(f"{name}_SCORE", pa.float64()) for name in model.names[len(first) :]]
    return columns


class ScorecardModelInfo(ModelInfo):
    """A scorecard: the points of bins, or of columns."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])

    def _scale(self) -> tuple[float, float]:
        from alink._algorithms._scorecard import scale_of  # which needs numpy

        return scale_of(self._meta)

    def getIntercept(self) -> float:
        """Give the points that each row has."""
        a, b = self._scale()
        return (self._content["intercept"] - b) / a

    def getScores(self) -> dict[str, list[float]]:
        """Give the points of each column: of its bins by their numbers, NULL behind them."""
        a, _ = self._scale()
        return {name: [w / a for w in own] for name, own in self._content["weights"].items()}

    def __str__(self) -> str:
        shown = {"intercept": self.getIntercept(), **self.getScores()}
        text = headline("ScorecardModelInfo", "-")
        return text + f"encode: {self._meta['encode']}\n" + mapped(shown, lines=True) + "\n"


class _Train(TrainBatch):
    """Trains a scorecard on rows, perhaps their binning, perhaps constraints."""

    _inputs_max = 3

    def _link(self) -> Table:
        rows, *others = (item._table() for item in self._inputs)
        if others and others[0].schema.names != BORDERS.names:
            raise bad_option(
                self._name,
                f"{self._name}: a table of the columns {', '.join(others[0].columns)[:80]} is no "
                "model of a binning",
                "its second input is that of BinningTrainBatchOp",
            )
        if len(others) > 1 and not (
            len(others[1].schema) == 1 and pa.types.is_string(others[1].schema.field(0).type)
        ):
            raise bad_option(
                self._name,
                f"{self._name}: constraints are one column of texts, not the columns "
                f"{', '.join(others[1].columns)[:80]}",
            )
        for column, table in zip((_BINS, _CONSTRAINTS), others, strict=False):
            outputs = [(column, pa.string())]
            rows = apply_step(rows, self._name, "_brought.Attach", {}, outputs, None, table)
        return self._trained.fit(self._name, self._all(), [rows])


def declare() -> None:
    """Declare the operators of this module."""
    card = Trained(
        "Scorecard",
        "_scorecard.train",
        "_scorecard.Predict",
        _scores,
        ["selectedCols", "labelCol", "weightCol", "binsCol", "constraintCol"],
        label="labelCol",
        kept="selectedCols",
        prepare=_prepared,
        info=ScorecardModelInfo,
        doc=_DOC,
    )
    trained(card)
    read = staticmethod(ScorecardModelInfo)
    build("ScorecardTrainBatchOp", _Train, _DOC, _trained=card, _info=read, _train_info=read)
