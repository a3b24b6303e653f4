"""Classifiers that are neither linear nor trees: Bayes, neighbours, perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from alink._algorithms._models import LABEL
from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._define import one_of
from alink.operators._linalg import DenseVector, SparseVector, VectorUtil
from alink.operators._linear import with_features
from alink.operators._model_details import NaiveBayesModelInfo, NaiveBayesTextModelInfo
from alink.operators._training import Columns, Trained, trained
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]

_LAYERS_MIN = 2
_DISTANCES = ("EUCLIDEAN", "COSINE", "CITYBLOCK", "HAVERSINE", "PEARSON")


def labelled(params: Params, _schema: pa.Schema, model: pa.Schema) -> Columns:
    """Give the columns of a prediction: a label, and perhaps the probabilities of all."""
    if LABEL not in model.names:
        raise bad_option(
            "Predict",
            f"a table of the columns {', '.join(model.names)[:80]} is no model of a classifier",
            "link it from the model first, then from the rows: op.linkFrom(model, rows)",
        )
    columns = [(params["predictionCol"], model.field(LABEL).type)]
    if params.get("predictionDetailCol") is not None:
        columns.append((params["predictionDetailCol"], pa.string()))
    return columns


def _bayes(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    """Tell categories from numbers: texts and booleans are categories, whole numbers may be."""
    given = dict(params)
    label = find_column(name, schema, given["labelCol"])
    columns = [find_column(name, schema, column) for column in given["featureCols"]]
    given["featureCols"] = columns = [column for column in columns if column != label]
    if not columns:
        raise bad_option(name, f"{name} has no features", "set featureCols")
    asked = {find_column(name, schema, column) for column in given["categoricalCols"] or []}
    kinds = {column: schema.field(column).type for column in columns}
    for column, kind in kinds.items():
        if not is_number(kind) and not _is_category(kind):
            raise bad_option(
                name,
                f"{name}: the feature {quote(column)} is of type {type_name(kind)}",
                "features are numbers, texts or booleans",
            )
        if column in asked and pa.types.is_floating(kind):
            raise bad_option(
                name,
                f"{name}: {quote(column)} of categoricalCols is of type {type_name(kind)}",
                "categories are texts, booleans or whole numbers",
            )
    _check_smoothing(name, given)
    given["isCate"] = [_is_category(kind) or column in asked for column, kind in kinds.items()]
    return given


def _is_category(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)


def _check_smoothing(name: str, given: Params) -> None:
    if not given["smoothing"] >= 0:
        raise bad_option(name, f"{name}: 'smoothing' is 0 or more, not {given['smoothing']}")


def _bayes_text(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    given = dict(params)
    check_vectors(name, schema, [find_column(name, schema, given["vectorCol"])])
    _check_smoothing(name, given)
    given["modelType"] = one_of(name, "modelType", given["modelType"], ("Multinomial", "Bernoulli"))
    return given


def _neighbours(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    given = with_features(name, params, schema)
    given["distanceType"] = one_of(name, "distanceType", given["distanceType"], _DISTANCES)
    if given["distanceType"] == "HAVERSINE" and len(given.get("featureCols") or [0, 0]) != 2:
        raise bad_option(name, f"{name}: HAVERSINE takes two features, latitude and longitude")
    return given


def _some_neighbours(params: Params, schema: pa.Schema, model: pa.Schema) -> Columns:
    if params["k"] < 1:
        raise bad_option("KnnPredict", f"KnnPredict: 'k' is 1 or more, not {params['k']}")
    return labelled(params, schema, model)


def _network(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    given = with_features(name, params, schema)
    layers = given["layers"]
    if len(layers) < _LAYERS_MIN or min(layers) < 1:
        raise bad_option(
            name,
            f"{name}: 'layers' cannot be {layers!r:.60}",
            "it has the number of features, sizes of layers, and the number of labels",
        )
    features = given.get("featureCols")
    if features is not None and len(features) != layers[0]:
        raise bad_option(
            name,
            f"{name}: 'layers' begins with {layers[0]}, but there are {len(features)} features",
        )
    if given["blockSize"] < 1:
        raise bad_option(name, f"{name}: 'blockSize' is 1 or more, not {given['blockSize']}")
    weights = given["initialWeights"]
    if weights is not None:
        given["initialWeights"] = values = _numbers(weights)
        count = sum((a + 1) * b for a, b in itertools.pairwise(layers))
        if len(values) != count:
            raise bad_option(
                name,
                f"{name}: 'initialWeights' has {len(values)} numbers, but layers of these sizes "
                f"have {count} weights",
            )
    return given


def _numbers(weights: Any) -> list[float]:
    """Give the numbers of a vector, its text, or a list."""
    if isinstance(weights, str):
        weights = VectorUtil.getVector(weights)
    if isinstance(weights, (DenseVector, SparseVector)):
        return [float(weights.get(i)) for i in range(weights.size())]
    return [float(value) for value in weights]


def declare() -> None:
    """Declare the operators of this module."""
    trained(
        Trained(
            "NaiveBayes",
            "_naive_bayes.train",
            "_naive_bayes.Predict",
            labelled,
            ["labelCol", "featureCols", "weightCol"],
            label="labelCol",
            prepare=_bayes,
            info=NaiveBayesModelInfo,
            doc="Naive Bayes of categories and of normally distributed numbers.",
        )
    )
    trained(
        Trained(
            "NaiveBayesText",
            "_naive_bayes_text.train",
            "_naive_bayes_text.Predict",
            labelled,
            ["labelCol", "vectorCol", "weightCol"],
            label="labelCol",
            applied=["vectorCol"],
            estimator="NaiveBayesTextClassifier",
            model="NaiveBayesTextModel",
            prepare=_bayes_text,
            info=NaiveBayesTextModelInfo,
            doc="Naive Bayes of vectors: counts of words, or whether they are there.",
        )
    )
    trained(
        Trained(
            "Knn",
            "_knn.train",
            "_knn.Predict",
            _some_neighbours,
            ["labelCol", "featureCols", "vectorCol"],
            label="labelCol",
            applied=["vectorCol"],
            estimator="KnnClassifier",
            model="KnnClassificationModel",
            prepare=_neighbours,
            doc="The label that most of the k nearest rows have, by exact distances.",
        )
    )
    trained(
        Trained(
            "MultilayerPerceptron",
            "_perceptrons.train",
            "_perceptrons.Predict",
            labelled,
            ["labelCol", "featureCols", "vectorCol"],
            label="labelCol",
            applied=["vectorCol"],
            estimator="MultilayerPerceptronClassifier",
            model="MultilayerPerceptronClassificationModel",
            prepare=_network,
            doc="A network of layers of sigmoids with a softmax on top, trained by L-BFGS.",
        )
    )
