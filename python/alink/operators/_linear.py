"""Linear models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL
from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._model_info import (
    LinearClassifierModelInfo,
    LinearModelTrainInfo,
    LinearRegressorModelInfo,
)
from alink.operators._training import Columns, Trained, trained


def with_features(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters with the features: by default all numbers but label and weight."""
    given = dict(params)
    label, weight = given["labelCol"], given.get("weightCol")
    if given.get("vectorCol") is None:
        others = [find_column(name, schema, c) for c in (label, weight) if c is not None]
        columns = given.get("featureCols")
        if columns is None:
            columns = [f.name for f in schema if is_number(f.type) and f.name not in others]
        given["featureCols"] = [find_column(name, schema, column) for column in columns]
        if not columns:
            raise bad_option(
                name, f"{name} has no features", "set featureCols, or vectorCol for a vector"
            )
        kinds = [schema.field(column).type for column in given["featureCols"]]
        for column, kind in zip(given["featureCols"], kinds, strict=True):
            if not is_number(kind) and not pa.types.is_boolean(kind):
                raise bad_option(
                    name,
                    f"{name}: the feature {quote(column)} is of type {type_name(kind)}",
                    "features are numbers: encode it first, as OneHotEncoder or StringIndexer do",
                )
        given["featureTypes"] = [type_name(kind) for kind in kinds]
    elif given.get("featureCols") is not None:
        raise bad_option(name, f"{name}: both featureCols and vectorCol are set", "leave one out")
    return given


def _with_support(name: str, params: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Give the parameters of support vector regression, checked."""
    given = with_features(name, params, schema)
    given["C"] = 1.0 if given.get("C") is None else given["C"]
    for parameter, fits, hint in (
        ("C", given["C"] > 0, "it is larger than 0"),
        ("tau", given["tau"] >= 0, "it is 0 or more"),
    ):
        if not fits:
            raise bad_option(name, f"{name}: {quote(parameter)} cannot be {given[parameter]}", hint)
    return given


def predicted(params: Mapping[str, Any], _schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the columns of a prediction: of the label's type, or a number."""
    kind = model.field(LABEL).type if LABEL in model.names else pa.float64()
    columns = [(params["predictionCol"], kind)]
    if LABEL in model.names and params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def declare() -> None:
    """Declare the operators of this module."""
    columns = ["labelCol", "featureCols", "vectorCol", "weightCol"]
    for name, estimator, kind, model, train, label, doc in (
        (
            "LogisticRegression",
            "",
            "LR",
            "Logistic Regression",
            "_linear.train_binary",
            "labelCol",
            "Logistic regression of a label with two values, by L-BFGS or OWL-QN.",
        ),
        (
            "LinearSvm",
            "",
            "SVM",
            "Linear SVM",
            "_linear.train_binary",
            "labelCol",
            "A linear support vector machine with a smooth hinge loss, by L-BFGS or OWL-QN.",
        ),
        (
            "LinearReg",
            "LinearRegression",
            "LinearReg",
            "Linear Regression",
            "_linear.train_squares",
            "",
            "Least squares.",
        ),
        (
            "RidgeReg",
            "RidgeRegression",
            "Ridge",
            "Ridge Regression",
            "_linear.train_squares",
            "",
            "Least squares with a penalty on the squares of the coefficients.",
        ),
        (
            "LassoReg",
            "LassoRegression",
            "LASSO",
            "LASSO",
            "_linear.train_squares",
            "",
            "Least squares with a penalty on the coefficients, by OWL-QN.",
        ),
    ):
        trained(
            Trained(
                name,
                train,
                "_linear.Predict",
                predicted,
                columns,
                label=label,
                estimator=estimator,
                settings={"linearModelType": kind, "modelName": model},
                prepare=with_features,
                info=LinearClassifierModelInfo if label else LinearRegressorModelInfo,
                train_info=LinearModelTrainInfo,
                doc=doc,
            )
        )
    trained(
        Trained(
            "LinearSvr",
            "_linear.train_support",
            "_linear.Predict",
            predicted,
            columns,
            settings={"linearModelType": "SVR", "modelName": "Linear SVR"},
            prepare=_with_support,
            info=LinearRegressorModelInfo,
            train_info=LinearModelTrainInfo,
            doc="Support vector regression with squared errors beyond tau, by L-BFGS.",
        )
    )
