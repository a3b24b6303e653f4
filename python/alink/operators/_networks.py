"""Networks of Keras's layers: classifiers and regressions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._layers import LAYER, MEASURES, OPTIMIZER, parse_call
from alink._algorithms._models import LABEL
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import TENSOR, VECTOR, is_kind, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._classifiers import labelled
from alink.operators._define import one_of
from alink.operators._mapping import apply_step
from alink.operators._training import Columns, Trained, trained

Params = Mapping[str, Any]

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batchSize": (lambda value: value >= 1, "it is 1 or more"),
    "numEpochs": (lambda value: value >= 1, "it is 1 or more"),
    "learningRate": (lambda value: 0 < value < math.inf, "it is larger than 0"),
    "saveCheckpointsEpochs": (lambda value: 0 < value < math.inf, "it is larger than 0"),
    "validationSplit": (lambda value: 0 <= value < 1, "it is a share of the rows, below 1"),
}


class _OfTensors(Trained):
    """An algorithm on a column of tensors, which may come as vectors, numbers or texts."""

    def fit(self, name: str, params: Params, inputs: Sequence[Table]) -> Table:
        """Make the table of the model."""
        table = inputs[0]
        schema = table.schema
        column = find_column(name, schema, params["tensorCol"])
        label = find_column(name, schema, params["labelCol"])
        kind = schema.field(column).type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (text or is_number(kind) or any(is_kind(kind, known) for known in (TENSOR, VECTOR))):
            raise bad_option(
                name,
                f"{name}: the column {quote(column)} is of type {type_name(kind)}",
                "tensorCol has tensors, vectors or numbers, or their texts",
            )
        if column == label:
            raise bad_option(name, f"{name}: {quote(column)} is both tensorCol and labelCol")
        if not is_kind(kind, TENSOR):
            read = {
                "selectedCol": column,
                "tensorDataType": "FLOAT",
                "tensorShape": None,
                "handleInvalidMethod": "ERROR",
            }
            outputs = [(column, TENSOR)]
            table = apply_step(table, name, "_tensor_tasks.to_tensor", read, outputs, [label])
        return super().fit(name, params, [table])


def _checked(of: Sequence[str]) -> Callable[[str, Params, pa.Schema], dict[str, Any]]:
    """Give what checks the parameters of a training; `of` are the kinds of labels it may have."""

    def prepare(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
        given = dict(params)
        for parameter, (fits, hint) in _RANGES.items():
            if not fits(given[parameter]):
                raise bad_option(
                    name, f"{name}: {quote(parameter)} cannot be {given[parameter]}", hint
                )
        try:
            for layer in given["layers"]:
                parse_call(layer, LAYER)
            parse_call(given["optimizer"], OPTIMIZER)
        except Unreadable as error:
            hint = "layers are calls of Keras's, and so is the optimizer, with literal arguments"
            raise bad_option(name, f"{name}: {error}", hint) from None
        if given["removeCheckpointBeforeTraining"] is False:
            raise bad_option(
                name,
                f"{name}: 'removeCheckpointBeforeTraining' cannot be False",
                "a training begins anew: it leaves no checkpoints to go on from",
            )
        metrics = ["loss", *(metric for kind in of for metric in MEASURES[kind])]
        given["bestMetric"] = one_of(name, "bestMetric", given["bestMetric"], metrics)
        label = find_column(name, schema, given["labelCol"])
        kind = schema.field(label).type
        if of == ["numbers"] and not is_number(kind):
            raise bad_option(
                name,
                f"{name}: the label {quote(label)} is of type {type_name(kind)}",
                "a regression's label is a number; a classifier takes any",
            )
        return given

    return prepare


def predicted(kin: str, classifier: bool) -> Callable[[Params, pa.Schema, pa.Schema], Columns]:
    """Give what gives the columns of a prediction; `kin` begins the names of the operators."""

    def outputs(params: Params, schema: pa.Schema, model: pa.Schema) -> Columns:
        if params["inferBatchSize"] < 1:
            raise bad_option(kin, f"'inferBatchSize' is 1 or more, not {params['inferBatchSize']}")
        if classifier:
            return labelled(params, schema, model)
        if LABEL in model.names:
            raise bad_option(
                f"{kin}RegressorPredict",
                "the model is a classifier's, not a regression's",
                f"{kin}ClassifierPredictBatchOp applies it",
            )
        return [(params["predictionCol"], pa.float64())]

    return outputs


def declare() -> None:
    """Declare the operators of this module."""
    common: dict[str, Any] = {
        "train": "_networks.train",
        "predict": "_networks.Predict",
        "columns": ["tensorCol", "labelCol"],
        "library": "keras",
        "predict_library": "keras",
        "alone": True,
    }
    doc = "A network of Keras's layers on tensors, to which a dense one is added"
    trained(
        _OfTensors(
            "KerasSequentialClassifier",
            outputs=predicted("KerasSequential", True),
            label="labelCol",
            estimator="KerasSequentialClassifier",
            model="KerasSequentialClassificationModel",
            settings={"classifier": True},
            prepare=_checked(["two", "more"]),
            doc=f"{doc} that tells labels apart, by a softmax.",
            **common,
        )
    )
    trained(
        _OfTensors(
            "KerasSequentialRegressor",
            outputs=predicted("KerasSequential", False),
            estimator="KerasSequentialRegressor",
            model="KerasSequentialRegressionModel",
            settings={"classifier": False},
            prepare=_checked(["numbers"]),
            doc=f"{doc} that gives a number.",
            **common,
        )
    )
