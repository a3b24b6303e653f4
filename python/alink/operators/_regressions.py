"""Softmax, generalized linear models, survival, isotonic regression, factorization machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL
from alink._algorithms._types import is_number
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._define import BUILT, one_of, operator
from alink.operators._linear import with_features
from alink.operators._mapping import apply_step
from alink.operators._model_details import GlmModelInfo
from alink.operators._model_info import (
    FmClassifierModelInfo,
    FmClassifierModelTrainInfo,
    FmRegressorModelInfo,
    FmRegressorModelTrainInfo,
    LinearModelTrainInfo,
    SoftmaxModelInfo,
    StepwiseModelInfo,
)
from alink.operators._operator import AlgoOperator
from alink.operators._training import Columns, Trained, TrainedModel, Training, trained

Params = Mapping[str, Any]

#: The links of each family, its own one first.
_LINKS: dict[str, tuple[str, ...]] = {
    "gaussian": ("identity", "log", "inverse"),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log", "identity", "sqrt"),
    "gamma": ("inverse", "identity", "log"),
    "tweedie": ("power",),
}

#: The column that brings a model to its evaluation, in the first row of each batch.
_MODEL = "glm_model"


def _label_and_detail(params: Params, _rows: pa.Schema, model: pa.Schema) -> Columns:
    columns = [(params["predictionCol"], model.field("label_value").type)]
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def _label_or_number(params: Params, _rows: pa.Schema, model: pa.Schema) -> Columns:
    kind = model.field(LABEL).type if LABEL in model.names else pa.float64()
    columns = [(params["predictionCol"], kind)]
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def _with_factors(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters of factorization machines, checked."""
    given = with_features(name, params, schema)
    for parameter, least in (("numFactor", 1), ("numEpochs", 1), ("initStdev", 0)):
        if given[parameter] < least:
            raise bad_option(
                name,
                f"{name}: {quote(parameter)} cannot be {given[parameter]}",
                f"it is {least} or more",
            )
    for parameter in ("lambda0", "lambda1", "lambda2"):
        if (given[parameter] or 0.0) < 0:
            raise bad_option(
                name,
                f"{name}: {quote(parameter)} cannot be {given[parameter]}",
                "penalties are 0 or more",
            )
    return given


def _with_method(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters with the name of the method as it is written here."""
    given = with_features(name, params, schema)
    methods = ("Forward", "Backward", "Stepwise")
    given["method"] = one_of(name, "method", given.get("method") or methods[0], methods)
    return given


def _number(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    return [(params["predictionCol"], pa.float64())]


def _number_and_detail(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    columns = [(params["predictionCol"], pa.float64())]
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def _mean_and_link(params: Params, _rows: pa.Schema, _model: pa.Schema) -> Columns:
    names = [params["predictionCol"], params.get("linkPredResultCol")]
    return [(name, pa.float64()) for name in names if name is not None]


def _with_family(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters with family and link as their names are written here."""
    given = with_features(name, params, schema)
    family = one_of(name, "family", given.get("family") or "gaussian", tuple(_LINKS))
    link = given.get("link")
    links = _LINKS[family]
    given["family"] = family
    # Tweedie's link is always a power.
    given["link"] = links[0] if link is None else one_of(name, "link", link, links)
    power = given.get("variancePower") or 0.0
    if family == "tweedie" and 0 < power < 1:
        raise bad_option(
            name,
            f"{name}: there is no distribution with variancePower {power:g}",
            "it is 0, or 1 or more",
        )
    return given


def _with_survival(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters with the features: the column of censoring is none."""
    censor = find_column(name, schema, params["censorCol"])
    if params.get("featureCols") is None and params.get("vectorCol") is None:
        schema = schema.remove(schema.get_field_index(censor))
    chances = params.get("quantileProbabilities") or []
    if not all(0 < chance < 1 for chance in chances):
        raise bad_option(name, f"{name}: quantileProbabilities are between 0 and 1, both left out")
    return with_features(name, {**params, "censorCol": censor}, schema)


def _with_one_feature(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters, of which either featureCol or vectorCol is set."""
    del schema
    if (params.get("featureCol") is None) == (params.get("vectorCol") is None):
        raise bad_option(
            name,
            f"{name} needs one feature",
            "set featureCol, or vectorCol and featureIndex, but not both",
        )
    return dict(params)


def _evaluated(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Say how well a generalized linear model, the first input, fits rows, the second one."""
    model, rows = inputs
    numbers = [field.name for field in rows.schema if is_number(field.type)]
    step = "_glm.Attach"
    brought = apply_step(rows, name, step, {}, [(_MODEL, pa.string())], numbers, model)
    result = pa.schema([("summary", pa.string())])
    training = Training(name, "_glm.evaluate", {"modelCol": _MODEL}, [*numbers, _MODEL], result)
    del params  # the model says what it was trained with
    return brought._train(training)


def _evaluate(self: TrainedModel, data: AlgoOperator) -> Any:
    """Say how well the model fits the rows of a batch operator."""
    return BUILT["GlmEvaluationBatchOp"]().linkFrom(self.getModelData(), data)


def declare() -> None:
    """Declare the operators of this module."""
    features = ["labelCol", "featureCols", "vectorCol", "weightCol"]
    trained(
        Trained(
            "Softmax",
            "_softmax.train",
            "_softmax.Predict",
            _label_and_detail,
            features,
            label="labelCol",
            applied=["vectorCol"],
            prepare=with_features,
            info=SoftmaxModelInfo,
            train_info=LinearModelTrainInfo,
            doc="Logistic regression of a label with two values or more, by L-BFGS or OWL-QN.",
        )
    )
    trained(
        Trained(
            "Glm",
            "_glm.train",
            "_glm.Predict",
            _mean_and_link,
            [*features, "offsetCol"],
            estimator="GeneralizedLinearRegression",
            prepare=_with_family,
            info=GlmModelInfo,
            doc="A generalized linear model, by iteratively reweighted least squares.",
        )
    )
    operator("GlmEvaluationBatchOp", _evaluated, 2)
    BUILT["GeneralizedLinearRegressionModel"].evaluate = _evaluate
    trained(
        Trained(
            "AftSurvivalReg",
            "_survival.train",
            "_survival.Predict",
            _number_and_detail,
            [*features, "censorCol"],
            estimator="AftSurvivalRegression",
            applied=["vectorCol"],
            prepare=_with_survival,
            train_info=LinearModelTrainInfo,
            doc="A regression of times until an event, of which some are censored.",
        )
    )
    trained(
        Trained(
            "IsotonicReg",
            "_isotonic.train",
            "_isotonic.Predict",
            _number,
            ["labelCol", "featureCol", "vectorCol", "weightCol"],
            estimator="IsotonicRegression",
            prepare=_with_one_feature,
            doc="The monotone function of a feature that is nearest to the labels.",
        )
    )
    for name, task, model, info, train_info in (
        (
            "FmClassifier",
            "_factorization.train_classifier",
            "FmClassificationModel",
            FmClassifierModelInfo,
            FmClassifierModelTrainInfo,
        ),
        (
            "FmRegressor",
            "_factorization.train_regressor",
            "FmRegressionModel",
            FmRegressorModelInfo,
            FmRegressorModelTrainInfo,
        ),
    ):
        trained(
            Trained(
                name,
                task,
                "_factorization.Predict",
                _label_or_number,
                features,
                label="labelCol" if name == "FmClassifier" else "",
                applied=["vectorCol"],
                model=model,
                prepare=_with_factors,
                info=info,
                train_info=train_info,
                doc="A factorization machine: weights of features and of their pairs, by L-BFGS.",
            )
        )
    trained(
        Trained(
            "LinearRegStepwise",
            "_stepwise.train",
            "_linear.Predict",
            _number,
            ["labelCol", "featureCols"],
            prepare=_with_method,
            info=StepwiseModelInfo,
            doc="Least squares of features that are chosen step by step, by F tests.",
        )
    )
