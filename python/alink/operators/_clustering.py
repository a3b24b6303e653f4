"""Clusterings that are trained: k-means and its kin, mixtures, topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import is_number, type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink.operators._define import one_of
from alink.operators._model_details import BisectingKMeansModelInfo, GmmModelInfo, KMeansModelInfo
from alink.operators._training import Columns, Trained, trained
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]
#: The types of the columns of a prediction: of the parameters that name them.
Kinds = Mapping[str, pa.DataType]

_COUNTS = ("k", "maxIter", "numIter", "topicNum", "vocabSize", "minDivisibleClusterSize")


def check_counts(name: str, params: Params, names: Sequence[str] = _COUNTS) -> None:
    """Raise `PlanError` where a parameter that counts something is below 1."""
    for parameter in names:
        value = params.get(parameter)
        if value is not None and value < 1:
            raise bad_option(
                name, f"{name}: {quote(parameter)} cannot be {value}", "it is 1 or more"
            )


def check_numbers(name: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raise `PlanError` where a column does not hold numbers."""
    for column in columns:
        kind = schema.field(find_column(name, schema, column)).type
        if not is_number(kind):
            raise bad_option(
                name, f"{name}: column {quote(column)} is {type_name(kind)}", "it takes numbers"
            )


def of_vectors(distances: Sequence[str]) -> Callable[[str, Params, pa.Schema], dict[str, Any]]:
    """Give what checks the parameters of a training on vectors, with one of some distances."""

    def prepare(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
        given = dict(params)
        check_counts(name, given)
        check_vectors(name, schema, [find_column(name, schema, given["vectorCol"])])
        if distances:
            given["distanceType"] = one_of(name, "distanceType", given["distanceType"], distances)
        if "initMode" in given:
            given["initMode"] = _init_mode(name, given)
        return given

    return prepare


def _init_mode(name: str, params: Params) -> str:
    return one_of(name, "initMode", params["initMode"], ("RANDOM", "K_MEANS_PARALLEL"))


def _of_places(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    check_counts(name, params)
    check_numbers(name, schema, [params["latitudeCol"], params["longitudeCol"]])
    return {**params, "initMode": _init_mode(name, params)}


def _of_categories(name: str, params: Params, schema: pa.Schema) -> dict[str, Any]:
    check_counts(name, params)
    if not params["featureCols"]:
        raise bad_option(name, f"{name}: 'featureCols' names no column")
    for column in params["featureCols"]:
        find_column(name, schema, column)
    return dict(params)


def predicted(**kinds: pa.DataType) -> Callable[[Params, pa.Schema, pa.Schema], Columns]:
    """Give what names the columns of a prediction: a cluster, and those that are asked for."""

    def outputs(params: Params, _schema: pa.Schema, _model: pa.Schema) -> Columns:
        given = [("predictionCol", pa.int64()), *kinds.items()]
        return [(params[name], kind) for name, kind in given if params.get(name) is not None]

    return outputs


def declare() -> None:
    """Declare the operators of this module."""
    shares, distance = pa.string(), pa.float64()
    nearest = predicted(predictionDetailCol=shares, predictionDistanceCol=distance)
    trained(
        Trained(
            "KMeans",
            "_kmeans.train",
            "_kmeans.Predict",
            nearest,
            ["vectorCol"],
            prepare=of_vectors(("EUCLIDEAN", "COSINE", "HAVERSINE")),
            info=KMeansModelInfo,
            doc="k-means, by Lloyd's iterations from a start that is found on a sample by "
            "k-means++, whichever initMode is set. Clusters are numbered by size, "
            "the largest first. Rows whose vector is NULL are left out, and predicted as NULL.",
        )
    )
    trained(
        Trained(
            "GeoKMeans",
            "_kmeans.train",
            "_kmeans.Predict",
            nearest,
            ["latitudeCol", "longitudeCol"],
            settings={"distanceType": "HAVERSINE"},
            prepare=_of_places,
            doc="k-means of places on the Earth, latitudes and longitudes in degrees, by their "
            "distance in kilometres.",
        )
    )
    trained(
        Trained(
            "BisectingKMeans",
            "_bisecting.train",
            "_bisecting.Predict",
            predicted(predictionDetailCol=shares),
            ["vectorCol"],
            prepare=of_vectors(("EUCLIDEAN", "COSINE")),
            info=BisectingKMeansModelInfo,
            doc="Bisecting k-means: clusters are divided in two, the largest first, until there "
            "are k. No random numbers are drawn.",
        )
    )
    trained(
        Trained(
            "KModes",
            "_kmodes.train",
            "_kmodes.Predict",
            predicted(predictionDetailCol=distance),
            ["featureCols"],
            prepare=_of_categories,
            doc="k-modes: clusters of rows of categories, by the number of columns in which rows "
            "differ. NULL is a category. No random numbers are drawn.",
        )
    )
    trained(
        Trained(
            "Gmm",
            "_mixtures.train",
            "_mixtures.Predict",
            predicted(predictionDetailCol=shares),
            ["vectorCol"],
            estimator="GaussianMixture",
            prepare=of_vectors(()),
            info=GmmModelInfo,
            doc="A mixture of normal distributions, by expectation and maximization from the "
            "clusters of k-means. epsilon is the change of the mean logarithm of the likelihood "
            "that ends it.",
        )
    )
