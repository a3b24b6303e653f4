"""Alink's operators, with PyAlink's names, parameters and results."""

from __future__ import annotations

from typing import NoReturn

from alink._diag import did_you_mean, quote
from alink.operators import (
    _bundles,
    _catalogs,
    _classifiers,
    _clustering,
    _components,
    _conversions,
    _crosses,
    _densities,
    _discretizers,
    _encoders,
    _evaluation,
    _features,
    _formats,
    _generated_features,
    _imputers,
    _indexers,
    _kmeans_streams,
    _linear,
    _lookups,
    _networks,
    _one_vs_rest,
    _rankings,
    _recent_days,
    _regressions,
    _relational,
    _sampling,
    _scalers,
    _scorecards,
    _sinks,
    _sources,
    _statistics,
    _time_windows,
    _timed_files,
    _topics,
    _trees,
    _tuning,
    _udf,
    _vectors,
)
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._catalogs import CatalogObject, ObjectPath, SqliteCatalog
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT
from alink.operators._environment import (
    AlinkGlobalConfiguration,
    FilePath,
    LocalFileSystem,
    MLEnv,
    Params,
    collectToDataframes,
    dataframeToOperator,
    getMLEnv,
    useCustomEnv,
    useLocalEnv,
    useRemoteEnv,
)
from alink.operators._local import LocalPredictor
from alink.operators._session import resetEnv
from alink.operators._stages import Pipeline, PipelineModel
from alink.operators._udf import (
    AlinkDataTypes,
    DataTypes,
    ScalarFunction,
    TableFunction,
    udf,
    udtf,
)
from alink.operators._unbuilt import unbuilt
from alink.operators._values import (
    DenseMatrix,
    DenseVector,
    MTable,
    SparseVector,
    Tensor,
    VectorUtil,
)

_relational.declare()
_formats.declare()
_scalers.declare()
_linear.declare()
_regressions.declare()
_discretizers.declare()
_clustering.declare()
_densities.declare()
_topics.declare()
_trees.declare()
_kmeans_streams.declare()
_vectors.declare()
_features.declare()
_conversions.declare()
_sources.declare()
_sinks.declare()
_sampling.declare()
_udf.declare()
_indexers.declare()
_encoders.declare()
_crosses.declare()
_bundles.declare()
_scorecards.declare()
_statistics.declare()
_lookups.declare()
_imputers.declare()
_rankings.declare()
_components.declare()
_evaluation.declare()
_classifiers.declare()
_networks.declare()
_one_vs_rest.declare()
_tuning.declare()
_time_windows.declare()
_generated_features.declare()
_catalogs.declare()
_timed_files.declare()
_recent_days.declare()

__all__ = [  # noqa: PLE0604 # pyright: ignore[reportUnsupportedDunderAll]
    "AlinkDataTypes",
    "AlinkGlobalConfiguration",
    "BatchOperator",
    "CatalogObject",
    "DenseMatrix",
    "DataTypes",
    "DenseVector",
    "FilePath",
    "LocalFileSystem",
    "LocalPredictor",
    "MLEnv",
    "MTable",
    "ObjectPath",
    "Params",
    "Pipeline",
    "PipelineModel",
    "ScalarFunction",
    "SparseVector",
    "SqliteCatalog",
    "StreamOperator",
    "TableFunction",
    "Tensor",
    "VectorUtil",
    "collectToDataframes",
    "dataframeToOperator",
    "getMLEnv",
    "resetEnv",
    "udf",
    "udtf",
    "useCustomEnv",
    "useLocalEnv",
    "useRemoteEnv",
    *catalogue(),
]
for _name in catalogue():
    globals()[_name] = BUILT.get(_name) or unbuilt(_name)


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):  # which Python itself looks for, as "import *" does
        raise AttributeError(name)
    hint = did_you_mean(name, "operators", __all__)
    raise AttributeError(f"Alink has no operator {quote(name)}: {hint}")
