"""Decision trees, forests, boosted trees, and encoders by the leaves of trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL
from alink._algorithms._types import VECTOR, is_number, type_name
from alink._diag import quote
from alink._options import bad_option
from alink._table import Table
from alink.operators._catalogue import catalogue
from alink.operators._define import batch_and_stream, one_of
from alink.operators._mapping import apply_step, find_column
from alink.operators._model_info import TreeModelInfo
from alink.operators._training import Columns, Trained, trained

_EVERY = 2**31 - 1
_COLUMNS = ("labelCol", "featureCols", "vectorCol", "weightCol", "categoricalCols")
_CRITERIA = ("GINI", "INFOGAIN", "INFOGAINRATIO")

Prepare = Callable[[str, Mapping[str, Any], pa.Schema], dict[str, Any]]

#: What trainings run on.
_LIBRARIES = {"_boosting.train_boosted": "lightgbm"}

#: Parameters of XGBoost that have to keep their defaults.
_FIXED = (
    "colSampleByLevel",
    "colSampleByNode",
    "growPolicy",
    "interactionConstraints",
    "maxDeltaStep",
    "monotoneConstraints",
    "processType",
    "refreshLeaf",
    "samplingMethod",
    "tweedieVariancePower",
    "updater",
)


def _usable(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return is_number(kind) or pa.types.is_boolean(kind) or text


def _with_features(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters with the features: by default all columns but label and weight."""
    given = dict(params)
    label, weight, columns = (given.get(p) for p in ("labelCol", "weightCol", "featureCols"))
    if given.get("vectorCol") is not None:
        if columns is not None:
            raise bad_option(
                name, f"{name}: both featureCols and vectorCol are set", "leave one out"
            )
        return given
    others = [find_column(name, schema, column) for column in (label, weight) if column is not None]
    if columns is None:
        columns = [f.name for f in schema if _usable(f.type) and f.name not in others]
    if not columns:
        raise bad_option(name, f"{name} has no features", "set featureCols")
    given["featureCols"] = [find_column(name, schema, column) for column in columns]
    for column in given["featureCols"]:
        kind = schema.field(column).type
        if not _usable(kind):
            raise bad_option(
                name,
                f"{name}: the feature {quote(column)} is of type {type_name(kind)}",
                "features are numbers, truths or strings",
            )
    return given


def _positive(name: str, params: Mapping[str, Any], least: Mapping[str, float]) -> None:
    for parameter, low in least.items():
        value = params.get(parameter)
        if value is not None and not value >= low:
            raise bad_option(name, f"{name}: {parameter} is {value}", f"it is {low} or more")


_LEAST = {
    "maxDepth": 1,
    "maxBins": 2,
    "maxLeaves": 2,
    "minSamplesPerLeaf": 1,
    "minSampleRatioPerChild": 0,
    "numTrees": 1,
    "learningRate": 0,
    "lambda": 0,
    "alpha": 0,
    "gamma": 0,
    "minSumHessianPerLeaf": 0,
}


def _shares(name: str, params: Mapping[str, Any], names: Sequence[str], most: float) -> None:
    for parameter in names:
        value = params.get(parameter)
        if value is not None and not 0 < value <= most:
            raise bad_option(
                name, f"{name}: {parameter} is {value}", f"it is above 0 and at most {most:g}"
            )


def _checked(
    name: str, params: Mapping[str, Any], schema: pa.Schema, numeric: bool
) -> dict[str, Any]:
    given = _with_features(name, params, schema)
    label = find_column(name, schema, given["labelCol"])
    if numeric and not is_number(schema.field(label).type):
        raise bad_option(
            name,
            f"{name}: the label {quote(label)} is of type {type_name(schema.field(label).type)}",
            "a regression's label is a number; a classifier takes any",
        )
    _positive(name, given, _LEAST)
    _shares(name, given, ["featureSubsamplingRatio"], 1)
    given["maxBins"] = min(given["maxBins"], 65_000)
    return given


def _forest(kind: str) -> Prepare:
    """Give what prepares trees of one criterion, or of several in turn."""

    def prepare(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
        given = _checked(name, params, schema, kind == "MSE")
        _shares(name, given, ["subsamplingRatio"], float("inf"))
        _positive(name, given, {"numSubsetFeatures": 1})
        count = given.get("numTrees", 1)
        if kind == "treeType":
            given["kinds"] = [one_of(name, kind, given[kind], _CRITERIA)]
        elif kind:
            given["kinds"] = [kind] * count
        else:
            told = [
                given.get(f"numTreesOf{what}") for what in ("Gini", "InfoGain", "InfoGainRatio")
            ]
            kinds = [k for k, n in zip(_CRITERIA, told, strict=True) for _ in range(n or 0)]
            given["kinds"] = kinds or [_CRITERIA[i % 3] for i in range(count)]
        return given

    return prepare


def _boosted(classes: bool) -> Prepare:
    """Give what prepares boosting, of a classifier or a regression."""

    def prepare(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
        given = _checked(name, params, schema, not classes)
        _shares(name, given, ["subsamplingRatio"], 1)
        if given["minSampleRatioPerChild"]:
            raise bad_option(
                name,
                f"{name}: minSampleRatioPerChild is not supported",
                "set minSamplesPerLeaf, a number of rows",
            )
        one_of(name, "criteria", given["criteria"], ("PAI", "XGBOOST"))
        one_of(name, "featureImportanceType", given["featureImportanceType"], ("GAIN",))
        return given

    return prepare


def _xgboost(objectives: Sequence[str]) -> Prepare:
    """Give what brings XGBoost's parameters to those of boosting."""

    def prepare(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
        train = "XGBoostTrainBatchOp" if len(objectives) > 1 else "XGBoostRegTrainBatchOp"
        defaults = {p: known.default for p, known in catalogue()[train].parameters.items()}
        for parameter in _FIXED:
            if parameter in defaults and params.get(parameter) != defaults[parameter]:
                raise bad_option(
                    name,
                    f"{name}: {parameter} is {params.get(parameter)!r}, which is not supported",
                    f"leave it out: its default is {defaults[parameter]!r}",
                )
        one_of(name, "objective", params["objective"], objectives)
        base = params["baseScore"]
        if len(objectives) > 1 and not 0 < base < 1:
            raise bad_option(name, f"{name}: baseScore is {base}", "it is a probability")
        given = {
            **params,
            "numTrees": params["numRound"],
            "learningRate": params["eta"],
            "maxDepth": params["maxDepth"] or _EVERY,
            "maxLeaves": params["maxLeaves"] or _EVERY,
            "maxBins": params["maxBin"],
            "minSamplesPerLeaf": 1,
            "minSampleRatioPerChild": 0.0,
            "minSumHessianPerLeaf": params["minChildWeight"],
            "minInfoGain": 0.0,
            "subsamplingRatio": params["subSample"],
            "featureSubsamplingRatio": params["colSampleByTree"],
            "gammaFactor": 2.0,  # its gains are halved
        }
        _shares(name, given, ["subsamplingRatio"], 1)
        return _checked(name, given, schema, len(objectives) == 1)

    return prepare


def _predicted(params: Mapping[str, Any], _schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the columns of a prediction: of the label's type, or a number."""
    kind = model.field(LABEL).type if LABEL in model.names else pa.float64()
    columns = [(params["predictionCol"], kind)]
    if LABEL in model.names and params.get("predictionDetailCol"):
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def _encoded(params: Mapping[str, Any], _schema: pa.Schema, _model: pa.Schema) -> Columns:
    return [(params["predictionCol"], VECTOR)]


def _tree_model_encoder(name: str, params: Mapping[str, Any], inputs: Sequence[Table]) -> Table:
    """Give the leaves of a model of trees, the first input, as sparse vectors of ones."""
    model, rows = inputs
    columns = [(params["predictionCol"], VECTOR)]
    reserved = params.get("reservedCols")
    return apply_step(rows, name, "_tree_models.Encode", {}, columns, reserved, model)


#: Name, estimator, its model, training, whether labels are classes, preparation, what it is.
_Row = tuple[str, str, str, str, bool, Prepare, str]


def _algorithms() -> list[_Row]:
    forest, boosted = "_trees.train_forest", "_boosting.train_boosted"
    tree = "A decision tree"
    rows: list[_Row] = [
        (
            "C45",
            "C45",
            "C45Model",
            forest,
            True,
            _forest("INFOGAINRATIO"),
            f"{tree} by the ratio of information that splits gain [Quinlan 1993].",
        ),
        (
            "Id3",
            "Id3",
            "Id3Model",
            forest,
            True,
            _forest("INFOGAIN"),
            f"{tree} by the information that splits gain [Quinlan 1986].",
        ),
        (
            "Cart",
            "Cart",
            "CartModel",
            forest,
            True,
            _forest("GINI"),
            f"{tree} of splits in two by Gini's impurity [Breiman et al. 1984].",
        ),
        (
            "CartReg",
            "CartReg",
            "CartRegModel",
            forest,
            False,
            _forest("MSE"),
            "A regression tree by squared errors [Breiman et al. 1984].",
        ),
        (
            "DecisionTree",
            "DecisionTreeClassifier",
            "DecisionTreeClassificationModel",
            forest,
            True,
            _forest("treeType"),
            f"{tree} by a criterion of choice.",
        ),
        (
            "DecisionTreeReg",
            "DecisionTreeRegressor",
            "DecisionTreeRegressionModel",
            forest,
            False,
            _forest("MSE"),
            "A regression tree by squared errors.",
        ),
        (
            "RandomForest",
            "RandomForestClassifier",
            "RandomForestClassificationModel",
            forest,
            True,
            _forest(""),
            "A forest of decision trees [Breiman 2001].",
        ),
        (
            "RandomForestReg",
            "RandomForestRegressor",
            "RandomForestRegressionModel",
            forest,
            False,
            _forest("MSE"),
            "A forest of regression trees [Breiman 2001].",
        ),
        (
            "Gbdt",
            "GbdtClassifier",
            "GbdtClassificationModel",
            boosted,
            True,
            _boosted(True),
            "Boosted trees of a classifier [Friedman 2001], by Newton's steps.",
        ),
        (
            "GbdtReg",
            "GbdtRegressor",
            "GbdtRegressionModel",
            boosted,
            False,
            _boosted(False),
            "Boosted regression trees [Friedman 2001].",
        ),
        (
            "XGBoost",
            "XGBoostClassifier",
            "XGBoostClassificationModel",
            boosted,
            True,
            _xgboost(("BINARY_LOGISTIC", "MULTI_SOFTMAX", "MULTI_SOFTPROB")),
            "Boosted trees with penalties [Chen and Guestrin 2016].",
        ),
        (
            "XGBoostReg",
            "XGBoostRegressor",
            "XGBoostRegressionModel",
            boosted,
            False,
            _xgboost(("REG_SQUAREDERROR",)),
            "Boosted regression trees with penalties [Chen and Guestrin 2016].",
        ),
    ]
    return rows


def declare() -> None:
    """Declare the operators of this module."""
    for name, estimator, model, train, classes, prepare, doc in _algorithms():
        common: dict[str, Any] = {
            "train": train,
            "columns": _COLUMNS,
            "label": "labelCol" if classes else "",
            "applied": ["vectorCol"],
            "library": _LIBRARIES.get(train, ""),
            "settings": {"modelName": name, "classifier": classes},
            "prepare": prepare,
            "info": TreeModelInfo,
        }
        trained(
            Trained(
                name=name,
                predict="_tree_models.Predict",
                outputs=_predicted,
                estimator=estimator,
                model=model,
                doc=doc,
                **common,
            )
        )
        if f"{name}Encoder" in catalogue():
            leaves = f"{doc} Rows become sparse vectors of the leaves that they come to."
            trained(
                Trained(
                    name=f"{name}Encoder",
                    predict="_tree_models.Encode",
                    outputs=_encoded,
                    doc=leaves,
                    **common,
                )
            )
    batch_and_stream("TreeModelEncoder", _tree_model_encoder, 2)
