"""Alink's operators, with PyAlink's names, parameters and results."""

from __future__ import annotations

from typing import NoReturn

from alink._diag import did_you_mean, quote
from alink.operators import (
    _bert,
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
    _redis,
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
from alink.operators._catalogs import (
    BaseCatalog,
    CatalogObject,
    DerbyCatalog,
    HiveCatalog,
    MySqlCatalog,
    ObjectPath,
    OdpsCatalog,
    SqliteCatalog,
)
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT
from alink.operators._encoder_info import (
    OneHotModelInfo,
    VectorMaxAbsScalarModelInfo,
    VectorMinMaxScalerModelInfo,
    VectorStandardScalerModelInfo,
)
from alink.operators._environment import (
    AlinkGlobalConfiguration,
    FilePath,
    FlinkFileSystem,
    HadoopFileSystem,
    LocalFileSystem,
    MLEnv,
    OssFileSystem,
    Params,
    PluginDownloader,
    S3HadoopFileSystem,
    S3PrestoFileSystem,
    collectToDataframes,
    dataframeToOperator,
    getMLEnv,
    useCustomEnv,
    useLocalEnv,
    useRemoteEnv,
)
from alink.operators._linalg import DenseMatrix, DenseVector, SparseVector, Vector, VectorUtil
from alink.operators._local import LocalPredictor
from alink.operators._metrics import (
    BinaryClassMetrics,
    ClusterMetrics,
    MultiClassMetrics,
    MultiLabelMetrics,
    RankingMetrics,
    RegressionMetrics,
    TimeSeriesMetrics,
)
from alink.operators._model_details import (
    BisectingKMeansModelInfo,
    ChisqSelectorModelInfo,
    ClusteringModelInfo,
    EqualWidthDiscretizerModelInfo,
    GlmModelInfo,
    GmmModelInfo,
    ImputerModelInfo,
    KMeansModelInfo,
    LdaModelInfo,
    NaiveBayesModelInfo,
    NaiveBayesTextModelInfo,
    PcaModelData,
    QuantileDiscretizerModelInfo,
)
from alink.operators._model_info import (
    DecisionTreeModelInfo,
    FmClassifierModelInfo,
    FmClassifierModelTrainInfo,
    FmRegressorModelInfo,
    FmRegressorModelTrainInfo,
    GbdtModelInfo,
    LinearClassifierModelInfo,
    LinearModelTrainInfo,
    LinearRegressorModelInfo,
    MaxAbsScalarModelInfo,
    MinMaxScalerModelInfo,
    MultiTreeModelInfo,
    RandomForestModelInfo,
    SoftmaxModelInfo,
    StandardScalerModelInfo,
    TreeModelInfo,
)
from alink.operators._session import resetEnv
from alink.operators._stages import (
    Estimator,
    LocalPredictable,
    Model,
    Pipeline,
    PipelineModel,
    Transformer,
)
from alink.operators._summaries import (
    ChiSquareTestResult,
    ChiSquareTestResults,
    CorrelationResult,
    DenseVectorSummary,
    SparseVectorSummary,
    TableSummary,
)
from alink.operators._tensor_values import (
    BoolTensor,
    ByteTensor,
    DoubleTensor,
    FloatTensor,
    IntTensor,
    LongTensor,
    StringTensor,
    Tensor,
    UByteTensor,
)
from alink.operators._tuning import Report, TuningEvaluator
from alink.operators._udf import (
    AlinkDataTypes,
    DataTypes,
    ScalarFunction,
    TableFunction,
    udf,
    udtf,
)
from alink.operators._unbuilt import unbuilt
from alink.operators._values import MTable

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
_bert.declare()
_one_vs_rest.declare()
_tuning.declare()
_time_windows.declare()
_generated_features.declare()
_catalogs.declare()
_timed_files.declare()
_recent_days.declare()
_redis.declare()

__all__ = [  # noqa: PLE0604 # pyright: ignore[reportUnsupportedDunderAll]
    "AlinkDataTypes",
    "AlinkGlobalConfiguration",
    "BaseCatalog",
    "BatchOperator",
    "BinaryClassMetrics",
    "BisectingKMeansModelInfo",
    "BoolTensor",
    "ByteTensor",
    "CatalogObject",
    "ChiSquareTestResult",
    "ChiSquareTestResults",
    "ChisqSelectorModelInfo",
    "ClusteringModelInfo",
    "ClusterMetrics",
    "collectToDataframes",
    "CorrelationResult",
    "dataframeToOperator",
    "DataTypes",
    "DecisionTreeModelInfo",
    "DenseMatrix",
    "DenseVector",
    "DenseVectorSummary",
    "DerbyCatalog",
    "DoubleTensor",
    "EqualWidthDiscretizerModelInfo",
    "Estimator",
    "FilePath",
    "FlinkFileSystem",
    "FloatTensor",
    "FmClassifierModelInfo",
    "FmClassifierModelTrainInfo",
    "FmRegressorModelInfo",
    "FmRegressorModelTrainInfo",
    "GbdtModelInfo",
    "getMLEnv",
    "GlmModelInfo",
    "GmmModelInfo",
    "HadoopFileSystem",
    "HiveCatalog",
    "ImputerModelInfo",
    "IntTensor",
    "KMeansModelInfo",
    "LdaModelInfo",
    "LinearClassifierModelInfo",
    "LinearModelTrainInfo",
    "LinearRegressorModelInfo",
    "LocalFileSystem",
    "LocalPredictable",
    "LocalPredictor",
    "LongTensor",
    "MaxAbsScalarModelInfo",
    "MinMaxScalerModelInfo",
    "MLEnv",
    "Model",
    "MTable",
    "MultiClassMetrics",
    "MultiLabelMetrics",
    "MultiTreeModelInfo",
    "MySqlCatalog",
    "NaiveBayesModelInfo",
    "NaiveBayesTextModelInfo",
    "ObjectPath",
    "OdpsCatalog",
    "OneHotModelInfo",
    "OssFileSystem",
    "Params",
    "PcaModelData",
    "Pipeline",
    "PipelineModel",
    "PluginDownloader",
    "QuantileDiscretizerModelInfo",
    "RandomForestModelInfo",
    "RankingMetrics",
    "RegressionMetrics",
    "Report",
    "resetEnv",
    "S3HadoopFileSystem",
    "S3PrestoFileSystem",
    "ScalarFunction",
    "SoftmaxModelInfo",
    "SparseVector",
    "SparseVectorSummary",
    "SqliteCatalog",
    "StandardScalerModelInfo",
    "StreamOperator",
    "StringTensor",
    "TableFunction",
    "TableSummary",
    "Tensor",
    "TimeSeriesMetrics",
    "Transformer",
    "TreeModelInfo",
    "TuningEvaluator",
    "UByteTensor",
    "udf",
    "udtf",
    "useCustomEnv",
    "useLocalEnv",
    "useRemoteEnv",
    "Vector",
    "VectorMaxAbsScalarModelInfo",
    "VectorMinMaxScalerModelInfo",
    "VectorStandardScalerModelInfo",
    "VectorUtil",
    *catalogue(),
]
for _name in catalogue():
    globals()[_name] = BUILT.get(_name) or unbuilt(_name)


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):  # which Python itself looks for, as "import *" does
        raise AttributeError(name)
    hint = did_you_mean(name, "operators", __all__)
    raise AttributeError(f"Alink has no operator {quote(name)}: {hint}")
