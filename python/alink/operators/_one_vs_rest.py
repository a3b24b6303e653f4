"""OneVsRest: a classifier of two labels makes one of many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._schemas import CLASS_ID, CLASS_VALUE, OWN, REST
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._define import BUILT, build
from alink.operators._dialect import quoted
from alink.operators._mapping import with_columns_found
from alink.operators._stages import PipelineStage
from alink.operators._training import Columns, Trained, TrainedModel, TrainStage

_CLASSIFIER = "classifier"
_CLASSES_MIN = 2
_OF_OUTPUTS = {"predictionCol", "predictionDetailCol", "reservedCols"}
_DOC = (
    "A classifier of labels of any number, of one classifier of two labels for each: the surest "
    "decides [Rifkin and Klautau, 2004]."
)


class OneVsRest(TrainStage):
    """A classifier of many labels, of classifiers of two."""

    def _set(self, name: str, value: Any) -> Any:
        return super()._set(name, _described(value) if name == _CLASSIFIER else value)

    def _get(self, name: str) -> Any:
        value = super()._get(name)
        return _stage(value) if name == _CLASSIFIER else value

    def _fitted(self, table: Table) -> TrainedModel:
        classifier, count = self._get(_CLASSIFIER), self._get("numClass")
        if count < _CLASSES_MIN:
            raise bad_option(
                self._name, f'{self._name}: "numClass" cannot be {count}', "it is 2 or more"
            )
        base = classifier._trained
        label = find_column(self._name, table.schema, classifier._get("labelCol"))
        kind = table.schema.field(label).type
        context, rows = table._context, table.cache()
        labels = context.sql(_labels(self._name, label, count), tables={"a": rows}).cache()
        own = f"CASE WHEN a.{quoted(label)} = l.label THEN {OWN} ELSE {REST} END"
        own = f"CASE WHEN a.{quoted(label)} IS NOT NULL THEN {own} END::BIGINT"
        tables: dict[str, Table] = {"l": labels}
        models: list[Table] = []
        selects: list[str] = []
        for number in range(count):
            query = (
                f"SELECT a.* REPLACE ({own} AS {quoted(label)}) FROM a, l WHERE l.number = {number}"
            )
            marked = context.sql(query, tables={"a": rows, "l": labels})
            models.append(classifier._fitted(marked)._data())
            tables[f"m{number}"] = models[-1]
            selects.append(
                f"SELECT {number}::BIGINT AS {CLASS_ID}, l.label AS {CLASS_VALUE}, m.* "
                f"FROM m{number} AS m, l WHERE l.number = {number}"
            )
        params = {
            name: classifier._get(name)
            for name in classifier._model_class._parameters
            if name in classifier._parameters and name not in _OF_OUTPUTS
        }
        params = with_columns_found(self._name, table.schema, params, base.applied)
        meta = {"numClass": count, "task": base.predict, "params": params}
        told = {CLASS_ID: -1, CLASS_VALUE: None, "model_id": 0, "model_info": json.dumps(meta)}
        fields = [pa.field(CLASS_ID, pa.int64()), pa.field(CLASS_VALUE, kind), *models[0].schema]
        tables["t"] = context.from_arrow(pa.Table.from_pylist([told], schema=pa.schema(fields)))
        whole = context.sql(" UNION ALL ".join(["SELECT * FROM t", *selects]), tables=tables)
        model = self._model_stage()._with(whole.cache())
        self._print_trained(model)
        return model

    def _model_stage(self) -> TrainedModel:
        """Give the stage of the model; columns that are set of the classifier alone are its own."""
        made = super()._model_stage()
        theirs = self._get(_CLASSIFIER)._values
        made._values = {k: v for k, v in theirs.items() if k in _OF_OUTPUTS} | made._values
        return made


def _labels(name: str, label: str, count: int) -> str:
    """Write the query of the labels with their numbers, in their order."""
    column = quoted(label)
    shown = label.replace("'", "''")
    message = f"'{name}: numClass is {count}, but the label \"{shown}\" has ' || count(*) OVER ()"
    return (
        f"SELECT label, CASE WHEN count(*) OVER () <> {count} THEN "
        f"error({message} || ' values') ELSE row_number() OVER (ORDER BY label) - 1 END AS number "
        f"FROM (SELECT DISTINCT {column} AS label FROM a WHERE {column} IS NOT NULL)"
    )


def _described(value: Any) -> Mapping[str, Any]:
    """Give what says which classifier a stage is, in numbers and texts."""
    if isinstance(value, Mapping):
        return value
    beneath = getattr(value, "_beneath", None)  # of alink.ml
    stage = beneath(value._params) if beneath is not None else value
    is_classifier = (
        isinstance(stage, TrainStage)
        and not isinstance(stage, OneVsRest)
        and catalogue()[stage._name].category == "classification"
    )
    if not is_classifier:
        raise bad_option(
            "OneVsRest",
            f"OneVsRest: {value!r:.60} is no classifier",
            "setClassifier(LogisticRegression()…) takes a stage that is trained on two labels",
        )
    if stage._trained.predict_library:
        raise bad_option(
            "OneVsRest",
            f"OneVsRest: {stage._name} predicts with a library of its own environment",
            f"{stage._name} tells any number of labels apart by itself",
        )
    return {"stage": stage._name, "params": dict(stage._values)}


def _stage(value: Mapping[str, Any]) -> Any:
    """Give the classifier of what `_described` gives."""
    made = BUILT.get(str(value.get("stage")))
    if made is None or not issubclass(made, PipelineStage):
        raise bad_option("OneVsRest", f"OneVsRest: there is no classifier {quote(str(value))}")
    return made(value.get("params") or {})


def _outputs(params: Mapping[str, Any], rows: pa.Schema, model: pa.Schema) -> Columns:
    del rows
    columns = [(params["predictionCol"], model.field(CLASS_VALUE).type)]
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def declare() -> None:
    """Declare the stages of this module."""
    definition = Trained("OneVsRest", "", "_one_vs_rest.Predict", _outputs, [_CLASSIFIER], doc=_DOC)
    build("OneVsRestModel", TrainedModel, _DOC, _trained=definition)
    build("OneVsRest", OneVsRest, _DOC, _trained=definition, _model_class=BUILT["OneVsRestModel"])
    BUILT["OneVsRest"]._parameters = {
        _CLASSIFIER: Parameter(_CLASSIFIER, "Estimator", None, True),
        **catalogue()["OneVsRest"].parameters,
    }
