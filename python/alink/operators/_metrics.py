"""Metrics of evaluations, with PyAlink's methods."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from alink._diag import did_you_mean, no_attribute, quote
from alink._options import bad_option
from alink.operators._drawing import save_image
from alink.operators._model_info import headline, listed
from alink.operators._summaries import ends, format_number, format_table

M = TypeVar("M", bound="Metrics")

_LABELS_SHOWN = 3  # at each end of a confusion matrix
_CLUSTERS_SHOWN = 10
_HEAD = headline("Metrics:", "-")


class Metrics:
    """Metrics of an evaluation: each has a method, ``getAuc()`` of AUC.

    ``dir(metrics)`` lists them.
    """

    #: Methods whose names are not those of their metrics.
    _renamed: ClassVar[dict[str, str]] = {}
    #: What is printed: what stands before a metric, and its name.
    _shown: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self, rows: pa.Table) -> None:
        text = rows.column(rows.num_columns - 1)[0].as_py()
        self._json: str = text
        self._values: dict[str, Any] = {k: json.loads(v) for k, v in json.loads(text).items()}
        self._getters = {_method(name): name for name in self._values}
        known = {method: name for method, name in self._renamed.items() if name in self._values}
        self._getters |= known

    def __getattr__(self, method: str) -> Any:
        if method.startswith("__"):  # which Python itself looks for, as copying does
            raise AttributeError(method)
        found = self.__dict__.get("_getters", {}).get(method)
        if found is None:
            kind = type(self).__name__
            hint = did_you_mean(method, "methods", list(self.__dict__.get("_getters", {})))
            raise no_attribute(method, f"{kind} has no {method}: {hint}")
        return lambda: self._values[found]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._getters]

    def clone(self: M) -> M:
        """Give a copy."""
        return copy.copy(self)

    def serialize(self) -> str:
        """Give the metrics as JSON."""
        return self._json

    def value(self, name: str) -> Any:
        """Give a metric by its name, ``"AUC"``; None where there is none."""
        return self._values.get(name)

    def _at(self, name: str, index: int) -> float:
        values: list[float] = self._values[name]
        return values[index]

    def __str__(self) -> str:
        return _HEAD + self._line(self._shown) + "\n"

    def _line(self, shown: Sequence[tuple[str, str]]) -> str:
        return "\t".join(f"{head}:{format_number(self.value(name))}" for head, name in shown)


def _method(name: str) -> str:
    """Give the method of a metric: getKs of K-S, getMicroF1 of microF1, getAuc of AUC."""
    plain = name.replace("-", "").replace(" ", "")
    if plain.isupper():
        plain = plain.capitalize()
    return f"get{plain[:1].upper()}{plain[1:]}"


class ClassMetrics(Metrics):
    """Metrics of a confusion matrix."""

    def _matrix(self, labels: Sequence[str], corner: str = "Pred\\Real") -> str:
        matrix = self.value("ConfusionMatrix")
        return format_matrix(matrix, labels, labels, corner, _LABELS_SHOWN)


class BinaryClassMetrics(ClassMetrics):
    """Metrics of a classifier of two labels; precision, recall and F1 are of the positive one."""

    _renamed: ClassVar[dict[str, str]] = {"getLorenzeCurve": "LorenzCurve"}
    _shown = (
        ("Auc", "AUC"),
        ("Accuracy", "Accuracy"),
        ("Precision", "Precision"),
        ("Recall", "Recall"),
        ("F1", "F1"),
        ("LogLoss", "LogLoss"),
    )

    def __getattr__(self, method: str) -> Any:
        if method.startswith("get") and method.endswith("ByThreshold"):
            name = f"{method[3 : -len('ByThreshold')]}Array"
            values = self.__dict__.get("_values", {})
            if name in values:
                return lambda: (values["ThresholdArray"], values[name])
        return super().__getattr__(method)

    def saveRocCurveAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw the ROC curve, with matplotlib."""
        curve = self.getRocCurve()
        axes = ("False Positive Rate", "True Positive Rate")
        _draw(path, isOverwrite, f"ROC (AUC {self.getAuc():.4f})", axes, {"": curve})

    def saveKSAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw both rates by the threshold, with matplotlib."""
        thresholds, hits = self.getSensitivityByThreshold()
        misses = [1 - x for x in self.getSpecificityByThreshold()[1]]
        curves = {"True Positive Rate": (thresholds, hits)}
        curves["False Positive Rate"] = (thresholds, misses)
        _draw(path, isOverwrite, f"K-S ({self.getKs():.4f})", ("Threshold", "Rate"), curves)

    def saveLiftChartAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw the lift chart, with matplotlib."""
        axes = ("Positive Rate", "True Positive")
        _draw(path, isOverwrite, "Lift Chart", axes, {"": self.getLiftChart()})

    def savePrecisionRecallCurveAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw the precisions by the recall, with matplotlib."""
        curve = self.getPrecisionRecallCurve()
        axes = ("Recall", "Precision")
        _draw(path, isOverwrite, f"PRC ({self.getPrc():.4f})", axes, {"": curve})

    def saveLorenzCurveAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw the Lorenz curve, with matplotlib."""
        axes = ("Positive Rate", "True Positive Rate")
        title = f"Lorenz (Gini {self.getGini():.4f})"
        _draw(path, isOverwrite, title, axes, {"": self.getLorenzeCurve()})

    def __str__(self) -> str:
        return super().__str__() + self._matrix(self.value("LabelArray"))


class OutlierMetrics(BinaryClassMetrics):
    """Metrics of a detector of outliers, which are the positive ones."""

    _shown = BinaryClassMetrics._shown[:-1]

    def __str__(self) -> str:
        outliers = self.value("OutlierValueArray")
        others = [label for label in self.value("LabelArray") if label not in outliers]
        return (
            f"{_HEAD}Outlier values: {listed(outliers)}\t\tNormal values: "
            f"{listed(others)}\n{self._line(self._shown)}\n{self._matrix(['Outlier', 'Normal'])}"
        )


class MultiClassMetrics(ClassMetrics):
    """Metrics of a classifier; some methods take a label."""

    _shown = (
        ("Accuracy", "Accuracy"),
        ("Macro F1", "MacroF1"),
        ("Micro F1", "MicroF1"),
        ("Kappa", "Kappa"),
    )

    def _of(self, name: str, label: Any) -> float:
        labels: list[str] = self.value("LabelArray")
        if str(label) not in labels:
            raise bad_option(
                "MultiClassMetrics",
                f"there is no label {quote(str(label))}",
                did_you_mean(str(label), "labels", labels),
            )
        return self._at(f"{name}Array", labels.index(str(label)))

    def getPrecision(self, label: Any) -> float:
        """Give the precision of a label."""
        return self._of("Precision", label)

    def getRecall(self, label: Any) -> float:
        """Give the recall of a label."""
        return self._of("Recall", label)

    def getF1(self, label: Any) -> float:
        """Give the F1 of a label."""
        return self._of("F1", label)

    def getTruePositiveRate(self, label: Any) -> float:
        """Give the true positive rate of a label."""
        return self._of("TruePositiveRate", label)

    def getTrueNegativeRate(self, label: Any) -> float:
        """Give the true negative rate of a label."""
        return self._of("TrueNegativeRate", label)

    def getFalsePositiveRate(self, label: Any) -> float:
        """Give the false positive rate of a label."""
        return self._of("FalsePositiveRate", label)

    def getFalseNegativeRate(self, label: Any) -> float:
        """Give the false negative rate of a label."""
        return self._of("FalseNegativeRate", label)

    def getSpecificity(self, label: Any) -> float:
        """Give the specificity of a label."""
        return self._of("Specificity", label)

    def getSensitivity(self, label: Any) -> float:
        """Give the sensitivity of a label."""
        return self._of("Sensitivity", label)

    def getAccuracy(self, label: Any = None) -> float:
        """Give the accuracy, of all labels or of one against the others."""
        return self.value("Accuracy") if label is None else self._of("Accuracy", label)

    def getKappa(self, label: Any = None) -> float:
        """Give Cohen's kappa, of all labels or of one against the others."""
        return self.value("Kappa") if label is None else self._of("Kappa", label)

    def getLogLoss(self) -> float | None:
        """Give the logarithmic loss; None without predictionDetailCol."""
        return self.value("LogLoss")

    def __str__(self) -> str:
        line = self._line(self._shown) + "\t"
        if self.value("LogLoss") is not None:
            line += self._line([("LogLoss", "LogLoss")])
        return f"{_HEAD}{line}\n{self._matrix(self.value('LabelArray'))}"


class RegressionMetrics(Metrics):
    """Metrics of predictions of numbers."""

    _shown = (("MSE", "MSE"), ("RMSE", "RMSE"), ("MAE", "MAE"), ("MAPE", "MAPE"), ("R2", "R2"))


class TimeSeriesMetrics(Metrics):
    """Metrics of forecasts."""

    _renamed: ClassVar[dict[str, str]] = {"getND": "ND"}
    _shown = (*RegressionMetrics._shown[:-1], ("SMAPE", "SMAPE"), ("ND", "ND"))

    def __str__(self) -> str:
        return f"{_HEAD}{self._line(self._shown)}\t"


_CLUSTER_METRICS = (
    "vrc",
    "cp",
    "sp",
    "db",
    "ssw",
    "ssb",
    "nmi",
    "purity",
    "ri",
    "ari",
    "silhouetteCoefficient",
    "ConfusionMatrix",
)


class ClusterMetrics(Metrics):
    """Metrics of clusters: what needs vectors or labels is None where there are none."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        for name in _CLUSTER_METRICS:
            self._values.setdefault(name, None)
            self._getters[_method(name)] = name

    def __str__(self) -> str:
        text = f"{_HEAD}k:{self.value('k')}\n"
        if self.value("vrc") is not None:
            silhouette = ("SilhouetteCoefficient", "silhouetteCoefficient")
            shown = [("VRC", "vrc"), ("DB", "db"), silhouette]
            text += self._line(shown) + "\n"
        if self.value("ari") is not None:
            text += self._line([("ARI", "ari"), ("NMI", "nmi"), ("Purity", "purity")]) + "\n"
            turned = [list(row) for row in zip(*self.value("ConfusionMatrix"), strict=True)]
            names = self.value("LabelArray"), self.value("PredArray")
            text += "\n" + format_matrix(turned, *names, "Label\\Cluster", _CLUSTERS_SHOWN)
        return text


class MultiLabelMetrics(Metrics):
    """Metrics of sets of labels."""

    _shown = (
        ("microPrecision", "microPrecision"),
        ("microRecall", "microRecall"),
        ("microF1", "microF1"),
        ("accuracy", "accuracy"),
        ("hammingLoss", "hammingLoss"),
        ("subsetAccuracy", "subsetAccuracy"),
    )


class RankingMetrics(MultiLabelMetrics):
    """Metrics of ranked labels."""

    _renamed: ClassVar[dict[str, str]] = {"getArHr": "averageReciprocalHitRank"}
    _shown = (("map", "map"), ("hitRate", "hitRate"), *MultiLabelMetrics._shown)

    def _at_k(self, name: str, k: int) -> float:
        values = self.value(name)
        if not 1 <= k <= len(values):
            raise bad_option("RankingMetrics", f"k is from 1 to {len(values)}, not {k}")
        return self._at(name, k - 1)

    def getNdcg(self, k: int) -> float:
        """Give the normalized discounted cumulative gain of the first k."""
        return self._at_k("ndcgArray", k)

    def getPrecisionAtK(self, k: int) -> float:
        """Give the precision of the first k."""
        return self._at_k("precisionArray", k)

    def getRecallAtK(self, k: int) -> float:
        """Give the recall of the first k."""
        return self._at_k("RecallArray", k)


def _draw(
    path: str, overwrite: bool, title: str, axes: tuple[str, str], curves: Mapping[str, Any]
) -> None:
    """Draw curves, each a list of x and one of y, into a file."""

    def draw(figure: Any) -> None:
        plot = figure.subplots()
        for name, (x, y) in curves.items():
            plot.plot(x, y, label=name)
        plot.set(title=title, xlabel=axes[0], ylabel=axes[1])
        if len(curves) > 1:
            plot.legend()

    instead = "getRocCurve() and its like give the points"
    save_image("BinaryClassMetrics", "curves", instead, path, overwrite, draw)


def format_matrix(
    matrix: Sequence[Sequence[int]],
    names: Sequence[str],
    heads: Sequence[str],
    corner: str,
    edge: int,
) -> str:
    """Write a matrix of counts; of many rows or columns so many at each end."""
    rows, columns = ends(len(names), edge), ends(len(heads), edge)
    cells = [["..." if min(i, j) < 0 else str(matrix[i][j]) for j in columns] for i in rows]
    before = ["..." if i < 0 else names[i] for i in rows]
    above = ["..." if j < 0 else heads[j] for j in columns]
    return format_table(cells, above, before, corner, edge=len(rows) + len(columns)) + "\n"
