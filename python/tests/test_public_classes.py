"""What PyAlink's programs can name is here: classes, what they are derived from, methods."""

from __future__ import annotations

import csv
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import alink.pyalink as pyalink
from alink import PlanError
from alink.operators._unbuilt import Unbuilt

TYPES = Path(__file__).with_name("pyalink_types.tsv")

#: Methods that the classes of PyAlink have which its operators and stages are derived from.
MIXINS = {
    "EvaluationMetricsCollector": "collectMetrics lazyCollectMetrics lazyPrintMetrics",
    "ExtractModelInfoBatchOp": "collectModelInfo lazyCollectModelInfo lazyPrintModelInfo",
    "HasLazyPrintModelInfo": "enableLazyPrintModelInfo",
    "HasLazyPrintTrainInfo": "enableLazyPrintTrainInfo",
    "WithModelInfoBatchOp": "getModelInfoBatchOp collectModelInfo lazyCollectModelInfo "
    "lazyPrintModelInfo",
    "WithTrainInfo": "getTrainInfoBatchOp collectTrainInfo lazyCollectTrainInfo lazyPrintTrainInfo",
}

_JAVA = "it takes or gives an object of Java, and there is no JVM"
_FLINK = "it is of Flink's file systems: paths are strings of this machine"
_FLINKS = (
    "createRecoverableWriter",
    "get",
    "getDefaultBlockSize",
    "getDefaultFsUri",
    "getFileBlockLocations",
    "getFileStatus",
    "getKind",
    "getLocalFileSystem",
    "getUnguardedFileSystem",
    "getUri",
    "initOutPathDistFS",
    "initOutPathLocalFS",
    "initialize",
    "isFileSystem",
    "of",
)
_DATABASE = "there are catalogs of SQLite alone, and the class says so when it is made"
#: What is not here, and why; methods of all classes stand under "*".
ABSENT = {
    ("*", "get_j_obj"): _JAVA,
    ("*", "wrap_estimator"): _JAVA,
    ("*", "wrap_model"): _JAVA,
    ("*", "wrap_transformer"): _JAVA,
    ("FullStats", ""): "it is for charts in a browser, which lazyVizStatistics prints",
    ("Path", ""): "the name is that of pathlib in most programs",
    ("Word2VecTrainInfo", ""): "Word2VecTrainBatchOp is not built",
    ("FilePath", "download"): _FLINK,
    ("ScalarFunction", "eval"): "programs define it",
    ("TableFunction", "eval"): "programs define it",
    ("PluginDownloader", "localJarsPluginPath"): "there are no plugins",
    ("PluginDownloader", "localResourcePluginPath"): "there are no plugins",
    ("CatalogObject", "serialize"): _JAVA,
    ("CatalogObject", "deserialize"): _JAVA,
    **{
        (name, method): _DATABASE
        for name in ("BaseCatalog", "DerbyCatalog", "HiveCatalog", "MySqlCatalog", "OdpsCatalog")
        for method in ("close", "getParams", "of", "open")
    },
    ("SqliteCatalog", "getParams"): _JAVA,
    ("SqliteCatalog", "of"): _JAVA,
    **{
        ("LocalFileSystem", method): _FLINK
        for method in [
            "createRecoverableWriter",
            "get",
            "getDefaultBlockSize",
            "getDefaultFsUri",
            "getFileBlockLocations",
            "getFileStatus",
            "getKind",
            "getLocalFileSystem",
            "getUnguardedFileSystem",
            "getUri",
            "initOutPathDistFS",
            "initOutPathLocalFS",
            "initialize",
            "isFileSystem",
            "of",
        ]
    },
}
_ELSEWHERE = (
    "FlinkFileSystem",
    "HadoopFileSystem",
    "OssFileSystem",
    "S3HadoopFileSystem",
    "S3PrestoFileSystem",
)
#: Classes that say in a sentence, when they are made, that they cannot be.
REFUSED = {
    **dict.fromkeys(["DerbyCatalog", "HiveCatalog", "MySqlCatalog", "OdpsCatalog"], _DATABASE),
    **dict.fromkeys(
        [
            "FlinkFileSystem",
            "HadoopFileSystem",
            "OssFileSystem",
            "S3HadoopFileSystem",
            "S3PrestoFileSystem",
        ],
        _FLINK,
    ),
}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _classes() -> list[dict[str, str]]:
    folder = os.environ.get("ALINK_CASES")
    path = Path(folder).parent if folder else Path(__file__).parents[3] / "shared/alink"
    if not path.is_dir():
        pytest.skip("the recorded facts about Alink are not here")
    return _rows(path / "classes.tsv")


def _excused(name: str, method: str) -> bool:
    return (name, method) in ABSENT or ("*", method) in ABSENT


def _faults(row: dict[str, str]) -> Iterator[str]:
    """Tell what a class of PyAlink has, and the one that is here has not."""
    name = row["class"]
    made: Any = vars(pyalink).get(name)
    if name not in pyalink.__all__ or made is None:
        yield f"{name} is not there"
        return
    if issubclass(made, Unbuilt):
        return
    parameters = getattr(made, "_parameters", {})
    known = {f"set{p[:1].upper()}{p[1:]}" for p in parameters}
    for setter in row["setters"].split():
        if setter not in known and not callable(getattr(made, setter, None)):
            yield f"{name}.{setter}"
    methods = row["methods"].split()
    for base in row["bases"].split(","):
        methods += MIXINS.get(base, "").split()
        kind = getattr(pyalink, base) if base in pyalink.__all__ else object
        if not issubclass(kind, Unbuilt) and not issubclass(made, kind):
            yield f"{name} is no {base}"
    for method in methods:
        if not callable(getattr(made, method, None)) and not _excused(name, method):
            yield f"{name}.{method}"


def test_operators_and_stages() -> None:
    rows = _classes()
    assert len(rows) > 1000
    assert [fault for row in rows for fault in _faults(row)] == []


def test_setters_take_one_value_and_give_their_operator() -> None:
    for name in ("KMeansTrainBatchOp", "KMeans", "KMeansPredictStreamOp"):
        made = getattr(pyalink, name)()
        assert made.setPredictionCol("p") is made if hasattr(made, "setPredictionCol") else True
        assert made.getParams() == ({"predictionCol": "p"} if "Train" not in name else {})
    with pytest.raises(AttributeError, match="has no object of Java"):
        pyalink.KMeans().get_j_obj()


# --- other classes ---


@functools.cache
def _metrics() -> dict[str, Any]:
    """Give metrics of each kind, which know their methods when they have been made."""
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame(
            {
                "l": ["a", "b", "a"],
                "d": ['{"a":0.9,"b":0.1}', '{"a":0.2,"b":0.8}', '{"a":0.4,"b":0.6}'],
                "p": ["a", "b", "b"],
                "x": [1.0, 2.0, 4.0],
                "y": [1.5, 2.0, 3.0],
                "s": ['{"object":"[1,2]"}', '{"object":"[2]"}', '{"object":"[3]"}'],
                "v": ["0 0", "1 1", "0 1"],
            }
        ),
        "l string, d string, p string, x double, y double, s string, v string",
    )
    asked = {
        "BinaryClassMetrics": pyalink.EvalBinaryClassBatchOp(labelCol="l", predictionDetailCol="d"),
        "MultiClassMetrics": pyalink.EvalMultiClassBatchOp(labelCol="l", predictionCol="p"),
        "RegressionMetrics": pyalink.EvalRegressionBatchOp(labelCol="x", predictionCol="y"),
        "TimeSeriesMetrics": pyalink.EvalTimeSeriesBatchOp(labelCol="x", predictionCol="y"),
        "MultiLabelMetrics": pyalink.EvalMultiLabelBatchOp(labelCol="s", predictionCol="s"),
        "RankingMetrics": pyalink.EvalRankingBatchOp(labelCol="s", predictionCol="s"),
        "ClusterMetrics": pyalink.EvalClusterBatchOp(predictionCol="p", vectorCol="v"),
    }
    return {name: rows.link(op).collectMetrics() for name, op in asked.items()}


def _callable_as(owner: Any, text: str) -> bool:
    """Tell whether a method takes the arguments of ``name(a,b?,*c)``."""
    name, _, inner = text.rstrip(")").partition("(")
    method = getattr(owner, name, None)
    if not callable(method):
        parameters = getattr(owner, "_parameters", {})
        return name[:3] == "set" and name[3:4].lower() + name[4:] in parameters
    names = [part for part in inner.split(",") if part]
    most = [None for _ in names]  # one of many, too
    least = [None for part in names if not part.endswith("?")]
    plain = inspect.getattr_static(owner, name, None)
    if isinstance(owner, type) and not isinstance(plain, (staticmethod, classmethod)):
        most, least = [None, *most], [None, *least]
    try:
        signature = inspect.signature(method)
        for given in (least, most):
            signature.bind(*given)
    except TypeError:
        return False
    except ValueError:  # of a method of Python's own dict
        return True
    return True


@pytest.mark.parametrize("row", _rows(TYPES), ids=lambda row: row["class"])
def test_types(row: dict[str, str]) -> None:
    """PyAlink's other classes: names, methods with their arguments, and bases."""
    name = row["class"]
    if (name, "") in ABSENT:
        assert name not in pyalink.__all__, "what is here is no longer excused"
        return
    made: Any = getattr(pyalink, name)
    if name in REFUSED:
        with pytest.raises(PlanError, match=f"^ALK1006: {name}: "):
            made()
        return
    owner = _metrics()[name] if name.endswith("Metrics") else made
    faults = [
        text
        for text in row["methods"].split()
        if not _callable_as(owner, text) and not _excused(name, text.partition("(")[0])
    ]
    assert faults == []
    for base in filter(None, row["bases"].split(",")):
        assert issubclass(made, getattr(pyalink, base))


@pytest.mark.parametrize(
    "name", ["BatchOperator", "StreamOperator", "Pipeline", "PipelineModel", "Params", "Estimator"]
)
def test_arguments_are_called_as_in_pyalink(name: str) -> None:
    (row,) = (row for row in _rows(TYPES) if row["class"] == name)
    for text in row["methods"].split():
        method, _, wanted = text.rstrip(")").partition("(")
        made = getattr(getattr(pyalink, name), method, None)
        if _excused(name, method) or "*" in wanted or wanted == "args":
            continue
        if made is None or inspect.ismethoddescriptor(made):  # a setter, or of Python's dict
            continue
        known = list(inspect.signature(made).parameters)
        arguments = [text.rstrip("?") for text in wanted.split(",") if text]
        assert set(arguments) <= {*known}, method


def test_what_is_excused_is_not_here() -> None:
    for name, method in ABSENT:
        if name != "*":
            assert not hasattr(getattr(pyalink, name, None), method or "nothing")


def test_curves_are_drawn_by_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    class Figure:
        """Stands for matplotlib's, which need not be installed."""

        def subplots(self) -> Any:
            return self

        def plot(self, x: list[float], y: list[float], label: str) -> None:
            assert len(x) == len(y) > 1
            drawn.append(label)

        def set(self, **_: str) -> None: ...

        def legend(self) -> None: ...

        def savefig(self, path: str) -> None:
            Path(path).write_bytes(b"")

    metrics = _metrics()["BinaryClassMetrics"]
    module = types.ModuleType("matplotlib.figure")
    module.Figure = Figure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", types.ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", module)
    for curve in ("RocCurve", "KS", "LiftChart", "PrecisionRecallCurve", "LorenzCurve"):
        getattr(metrics, f"save{curve}AsImage")(str(tmp_path / curve), False)
    assert drawn == ["", "True Positive Rate", "False Positive Rate", "", "", ""]
    with pytest.raises(PlanError, match="is there already"):
        metrics.saveKSAsImage(str(tmp_path / "KS"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlanError, match="pip install matplotlib"):
        metrics.saveKSAsImage(str(tmp_path / "other"))
