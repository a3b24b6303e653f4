"""Decision trees, forests, boosted trees, and encoders by the leaves of trees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL
from alink._algorithms._types import VECTOR, is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._catalogue import catalogue
from alink.operators._define import batch_and_stream, one_of
from alink.operators._mapping import apply_step
from alink.operators._model_info import (
    DecisionTreeModelInfo,
    GbdtModelInfo,
    MultiTreeModelInfo,
    RandomForestModelInfo,
)
from alink.operators._training import Columns, Trained, trained

_COLUMNS = ("labelCol", "featureCols", "vectorCol", "weightCol", "categoricalCols")
_CRITERIA = ("GINI", "INFOGAIN", "INFOGAINRATIO")
#: By how many of the features a node of a forest may be split.
_FEATURES_SHARE = 0.2
_EVERY = 2**31 - 1

Prepare = Callable[[str, Mapping[str, Any], pa.Schema], dict[str, Any]]

#: What trainings run on.
_LIBRARIES = {"_boosting.train_boosted": "lightgbm", "_xgboost.train": "xgboost"}

#: XGBoost's own names of parameters.
_XGBOOST = {
    "eta": "eta",
    "gamma": "gamma",
    "maxDepth": "max_depth",
    "maxLeaves": "max_leaves",
    "maxBin": "max_bin",
    "minChildWeight": "min_child_weight",
    "maxDeltaStep": "max_delta_step",
    "subSample": "subsample",
    "colSampleByTree": "colsample_bytree",
    "colSampleByLevel": "colsample_bylevel",
    "colSampleByNode": "colsample_bynode",
    "lambda": "lambda",
    "alpha": "alpha",
    "scalePosWeight": "scale_pos_weight",
    "monotoneConstraints": "monotone_constraints",
    "interactionConstraints": "interaction_constraints",
    "tweedieVariancePower": "tweedie_variance_power",
}

#: Values that XGBoost calls otherwise.
_XGBOOST_VALUES = {
    "growPolicy": ("grow_policy", {"DEPTH_WISE": "depthwise", "LOSS_GUIDE": "lossguide"}),
    "samplingMethod": (
        "sampling_method",
        {"UNIFORM": "uniform", "GRADIENT_BASED": "gradient_based"},
    ),
    "treeMethod": (
        "tree_method",
        {"AUTO": "auto", "EXACT": "exact", "APPROX": "approx", "HIST": "hist"},
    ),
}

#: XGBoost's objectives, and what the margins of their trees are (see `_tree_models`).
_CLASS_OBJECTIVES = {
    "BINARY_LOGISTIC": ("binary:logistic", "logistic"),
    "BINARY_LOGITRAW": ("binary:logitraw", "sum"),
    "BINARY_HINGE": ("binary:hinge", "hinge"),
    "MULTI_SOFTMAX": ("multi:softprob", "largest"),
    "MULTI_SOFTPROB": ("multi:softprob", "softmax"),
}
_NUMBER_OBJECTIVES = {
    "REG_SQUAREDERROR": ("reg:squarederror", "sum"),
    "REG_SQUAREDLOGERROR": ("reg:squaredlogerror", "sum"),
    "REG_PSEUDOHUBERERROR": ("reg:pseudohubererror", "sum"),
    "REG_LOGISTIC": ("reg:logistic", "share"),
    "COUNT_POISSON": ("count:poisson", "exp"),
    "REG_GAMMA": ("reg:gamma", "exp"),
    "REG_TWEEDIE": ("reg:tweedie", "exp"),
}


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


def _with_label(
    name: str, params: Mapping[str, Any], schema: pa.Schema, numeric: bool
) -> dict[str, Any]:
    """Give the parameters with the features; the label is looked at."""
    given = _with_features(name, params, schema)
    label = find_column(name, schema, given["labelCol"])
    if numeric and not is_number(schema.field(label).type):
        raise bad_option(
            name,
            f"{name}: the label {quote(label)} is of type {type_name(schema.field(label).type)}",
            "a regression's label is a number; a classifier takes any",
        )
    return given


def _checked(
    name: str, params: Mapping[str, Any], schema: pa.Schema, numeric: bool
) -> dict[str, Any]:
    given = _with_label(name, params, schema, numeric)
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
        if "numTrees" in given and given["numSubsetFeatures"] == _EVERY:
            # Regressions have no such parameter: without it all trees would be the same.
            given.setdefault("featureSubsamplingRatio", _FEATURES_SHARE)
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


_XGBOOST_LEAST = {
    "numRound": 1,
    "eta": 0,
    "gamma": 0,
    "lambda": 0,
    "alpha": 0,
    "minChildWeight": 0,
    "maxDeltaStep": 0,
    "maxDepth": 0,
    "maxLeaves": 0,
    "maxBin": 2,
    "numClass": 0,
}
#: Of XGBoost 1.5: so many bins, divided by sketchEps, are what APPROX cuts a feature into.
_SKETCH_RATIO = 2.0
_XGBOOST_SHARES = (
    "sketchEps",
    "subSample",
    "colSampleByTree",
    "colSampleByLevel",
    "colSampleByNode",
)


def _xgboost(objectives: Mapping[str, tuple[str, str]]) -> Prepare:
    """Give what checks XGBoost's parameters, and calls them as the library does."""
    classes = objectives is _CLASS_OBJECTIVES
    train = f"XGBoost{'' if classes else 'Reg'}TrainBatchOp"

    def prepare(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
        given = _with_label(name, params, schema, not classes)
        _positive(name, given, _XGBOOST_LEAST)
        _shares(name, given, _XGBOOST_SHARES, 1)
        one_of(name, "processType", params["processType"], ("DEFAULT",))
        chosen = one_of(name, "objective", params["objective"], tuple(objectives))
        objective, outcome = objectives[chosen]
        settings: dict[str, Any] = {"objective": objective, "base_score": params["baseScore"]}
        settings |= {theirs: given.get(ours) for ours, theirs in _XGBOOST.items()}
        for ours, (theirs, values) in _XGBOOST_VALUES.items():
            settings[theirs] = values[one_of(name, ours, params[ours], tuple(values))]
        if params["updater"] != catalogue()[train].parameters["updater"].default:
            settings["updater"] = params["updater"]
            settings["refresh_leaf"] = params["refreshLeaf"]
        if settings["tree_method"] == "approx":
            settings["max_bin"] = max(2, math.ceil(_SKETCH_RATIO / params["sketchEps"]))
        if settings["tree_method"] == "exact":
            _exact(name, given, schema)
        if chosen == "BINARY_LOGITRAW":
            given["raw"] = True
        given["settings"] = {k: value for k, value in settings.items() if value is not None}
        given["outcome"], given["base"] = outcome, _margin(name, objective, params["baseScore"])
        return given

    return prepare


def _exact(name: str, params: Mapping[str, Any], schema: pa.Schema) -> None:
    """Refuse what the exact method has not."""
    for column in params.get("featureCols") or []:
        if not is_number(schema.field(column).type):
            raise bad_option(
                name,
                f"{name}: the feature {quote(column)} has categories, and treeMethod is EXACT",
                "HIST and APPROX split categories; or encode the column as numbers",
            )
    if not params["maxDepth"]:
        raise bad_option(
            name, f"{name}: maxDepth is 0, and treeMethod is EXACT", "HIST grows without a limit"
        )


def _margin(name: str, objective: str, base: float) -> float:
    """Give the margin that a score to begin with stands for."""
    if objective in ("binary:logistic", "reg:logistic"):
        if not 0 < base < 1:
            raise bad_option(name, f"{name}: baseScore is {base}", "it is a probability")
        return math.log(base / (1 - base))
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        if not base > 0:
            raise bad_option(name, f"{name}: baseScore is {base}", "it is a mean, above 0")
        return math.log(base)
    return base


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
    xgboost = "_xgboost.train"
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
            xgboost,
            True,
            _xgboost(_CLASS_OBJECTIVES),
            "Boosted trees with penalties [Chen and Guestrin 2016].",
        ),
        (
            "XGBoostReg",
            "XGBoostRegressor",
            "XGBoostRegressionModel",
            xgboost,
            False,
            _xgboost(_NUMBER_OBJECTIVES),
            "Boosted regression trees with penalties [Chen and Guestrin 2016].",
        ),
    ]
    return rows


_INFO = {
    "RandomForest": RandomForestModelInfo,
    "Gbdt": GbdtModelInfo,
    "XGBoost": MultiTreeModelInfo,
}


def declare() -> None:
    """Declare the operators of this module."""
    for name, estimator, model, train, classes, prepare, doc in _algorithms():
        common: dict[str, Any] = {
            "train": train,
            "columns": _COLUMNS,
            "label": "labelCol" if classes else "",
            "applied": ["vectorCol"],
            "library": _LIBRARIES.get(train, ""),
            "alone": train == "_xgboost.train",
            "settings": {"modelName": name, "classifier": classes},
            "prepare": prepare,
            "info": _INFO.get(name.removesuffix("Reg"), DecisionTreeModelInfo),
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
