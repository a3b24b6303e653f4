"""What models say of themselves: objects with PyAlink's methods, printed as PyAlink prints them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from alink._algorithms._models import BadModel, Model, read_model, weights_of_labels
from alink._errors import without_our_frames
from alink._options import bad_option
from alink.operators._base import BatchOperator, TableBatch
from alink.operators._drawing import Drawn, draw_tree, save_image
from alink.operators._linalg import DenseVector
from alink.operators._operator import AlgoOperator, collect
from alink.operators._session import Waiting, session
from alink.operators._summaries import format_number, format_table

W = TypeVar("W", bound="WithModelInfo")

_LINE_CHARS = 75
_ENDS_SHOWN = 3  # of a list, so many values at each end
_WEIGHTS_SHOWN = 10
_STEPS_SHOWN = 10  # of a training, at each end

#: Reads what a model says of itself, of its rows.
ReadInfo = Callable[[pa.Table], Any]


class ModelInfo:
    """What a model says of itself: the parameters that it keeps.

    Parameters
    ----------
    rows : pyarrow.Table
        The model.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        try:
            model = read_model(rows)
        except BadModel:  # of a form of its own
            self._meta, self._data, self._labels = {}, list[str](), list[Any]()
        else:
            self._meta, self._data, self._labels = model.meta, model.data, model.labels

    def getMeta(self) -> dict[str, Any]:
        """Give the parameters that the model keeps."""
        return dict(self._meta)

    def __str__(self) -> str:
        return headline("model meta info", "-") + mapped(
            {**self._meta, "rows": self._rows.num_rows}
        )


class LinearRegressorModelInfo(ModelInfo):
    """A linear model: its weights."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])

    def hasInterceptItem(self) -> bool:
        """Tell whether the first weight is the intercept."""
        return bool(self._meta.get("hasInterceptItem", True))

    def getFeatureNames(self) -> list[str] | None:
        """Give the columns of the features; None where they are a vector."""
        return self._content.get("featureColNames")

    def getVectorColName(self) -> str | None:
        """Give the column of the vectors; None where the features are columns."""
        return self._meta.get("vectorCol")

    def getWeight(self) -> DenseVector:
        """Give the weights, the intercept first where there is one."""
        return DenseVector(self._content["coefVector"]["data"])

    def getVectorSize(self) -> int:
        """Give the number of features."""
        return int(self._meta.get("vectorSize") or 0)

    def getModelName(self) -> str:
        """Give the name of the kind of model."""
        return self._meta["modelName"]

    def __str__(self) -> str:
        meta: dict[str, Any] = {
            "model name": self.getModelName(),
            "num feature": self.getVectorSize(),
        }
        if (vector := self.getVectorColName()) is not None:
            meta["vector colName"] = vector
        meta["hasInterception"] = self.hasInterceptItem()
        text = headline("model meta info", "-") + mapped(meta) + "\n"
        if len(self._labels) > 1:
            text += headline("model label values", "-") + listed(self._labels) + "\n"
        return text + headline("model weight info", "-") + self._weights() + "\n"

    def _weights(self) -> str:
        values = self.getWeight().getData()
        begin = 1 if self.hasInterceptItem() else 0
        names = self.getFeatureNames()
        heads = ["intercept"][:begin]
        cells: list[Any] = values[:begin]
        cut = len(values) >= _WEIGHTS_SHOWN
        for i in range(begin, _WEIGHTS_SHOWN - 1 if cut else len(values)):
            heads.append(str(i) if names is None else names[i - begin])
            cells.append(f"{values[i]:.8f}")
        if cut:
            heads.append("... ...")
            cells.append("... ...")
        return format_table([cells], heads)


class LinearClassifierModelInfo(LinearRegressorModelInfo):
    """A linear model of a label with two values: its weights and the label's values."""

    def getLabelValues(self) -> list[Any]:
        """Give the values of the label; the first is the one that weights speak for."""
        return list(self._labels)


class SoftmaxModelInfo(LinearClassifierModelInfo):
    """A linear model of a label with two values or more: weights of all of them but the last."""

    def getWeight(self) -> DenseVector:
        """Give the weights of the first label, the intercept first where there is one."""
        return self.getWeights()[0]

    def getWeights(self) -> list[DenseVector]:
        """Give the weights of each label but the last, whose weights are 0."""
        known = weights_of_labels(Model(self._meta, self._data, self._labels))
        return [DenseVector(weights) for weights in known or []]

    def _weights(self) -> str:
        begin = 1 if self.hasInterceptItem() else 0
        count = self.getWeight().size() - begin
        names = self.getFeatureNames() or [str(i) for i in range(count)]
        cut = begin + count >= _WEIGHTS_SHOWN
        heads = [*["intercept"][:begin], *names][: _WEIGHTS_SHOWN - 1 if cut else None]
        cells: list[list[Any]] = []
        for label, weights in zip(self._labels, self.getWeights(), strict=False):
            shown = [f"{value:.8f}" for value in weights.getData()[: len(heads)]]
            cells.append([format_number(label), *shown, *["... ..."][: int(cut)]])
        return format_table(cells, ["label", *heads, *["... ..."][: int(cut)]])


class StepwiseModelInfo(LinearRegressorModelInfo):
    """Least squares of chosen features: their weights, and the tests that they passed."""

    def getSummary(self) -> dict[str, Any]:
        """Give the steps, and of the last one errors, tests and how much is explained."""
        return json.loads(self._data[1])

    def __str__(self) -> str:
        found = self.getSummary()
        weights = self.getWeight().getData()[1:]
        columns = [found[name] for name in ("standardErrors", "tValues", "pValues")]
        cells = [
            [name, f"{weight:.8f}", *("" if x is None else f"{x:.6g}" for x in tests)]
            for name, weight, *tests in zip(
                self.getFeatureNames() or [], weights, *columns, strict=True
            )
        ]
        steps = " ".join(f"{sign}{name}" for sign, name in found["steps"])
        whole = {"steps": steps, "rSquared": found["rSquared"], "fValue": found["fValue"]}
        text = super().__str__() + headline("stepwise info", "-") + mapped(whole) + "\n"
        heads = ["feature", "weight", "stdError", "tValue", "pValue"]
        return text + format_table(cells, heads) + "\n"


class LinearModelTrainInfo(ModelInfo):
    """How a linear model was trained: weights, what features matter, the course of the objective.

    Of 10,000 features or more there are those that matter most and those that matter least, as
    many of each.
    """

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(rows)
        self._content: dict[str, Any] = json.loads(self._data[0])
        # Models that PyAlink has written, and those of softmax, have no importances.
        known = json.loads(self._data[1]) if len(self._data) > 1 else {}
        self._importance: list[float] | None = known.get("importance")
        self._features: list[int] | None = known.get("features")

    def getColNames(self) -> list[str]:
        """Give the names of the features; of a vector their numbers."""
        names = self._content.get("featureColNames")
        if self._features is not None:
            return [str(i) if names is None else names[i] for i in self._features]
        return names or [str(i) for i in range(int(self._meta.get("vectorSize") or 0))]

    def getWeight(self) -> list[float]:
        """Give the weights, the intercept first where there is one and all features are there."""
        if self._meta.get("modelName") == "softmax":
            raise self._lacking("one weight of a feature", "collectModelInfo().getWeights()")
        values = list(self._content["coefVector"]["data"])
        if self._features is None:
            return values
        begin = 1 if self._meta.get("hasInterceptItem", True) else 0
        return [values[begin + i] for i in self._features]

    def getImportance(self) -> list[float]:
        """Give each feature's importance: the magnitude of its weight times its deviation.

        The deviation is the standard deviation of the feature in the training, of a sample.
        """
        if self._importance is None:
            raise self._lacking("the importance of features", "train it anew for them")
        return list(self._importance)

    def getConvInfo(self) -> list[str]:
        """Give a line for each iteration; none where the weights are found in one step."""
        return course_lines(self._content.get("convergenceInfo"))

    def _lacking(self, what: str, hint: str) -> Exception:
        name = self._meta.get("modelName")
        return bad_option("LinearModelTrainInfo", f"the model {name!r} does not keep {what}", hint)

    def __str__(self) -> str:
        meta = {
            "model name": self._meta["modelName"],
            "num feature": self._meta.get("vectorSize") or 0,
        }
        text = headline("train meta info", "-") + mapped(meta) + "\n"
        if self._importance is not None:
            heads = ["colName", "importanceValue", "colName", "weightValue"]
            shown = format_table(self._ranked(), heads)
            text += headline("train importance info", "-") + shown + "\n"
        return text + _course_shown(self.getConvInfo())

    def _ranked(self) -> list[list[str]]:
        """Give importances and weights, the largest first; of many those at both ends."""
        names, weights = self.getColNames(), self.getWeight()
        begin = 1 if self._features is None and self._meta.get("hasInterceptItem", True) else 0
        columns = [
            sorted(zip(names, values, strict=False), key=lambda pair: -pair[1])
            for values in (self.getImportance(), weights[begin:])
        ]
        cells = [
            [name, f"{importance:.8f}", other, f"{weight:.8f}"]
            for (name, importance), (other, weight) in zip(*columns, strict=True)
        ]
        if len(cells) < 2 * _ENDS_SHOWN:
            return cells
        return [*cells[:_ENDS_SHOWN], ["... ..."] * 4, *cells[-_ENDS_SHOWN:]]


class FmRegressorModelInfo(ModelInfo):
    """A factorization machine: what it consists of."""

    def getTask(self) -> str:
        """Give what it is for: BINARY_CLASSIFICATION or REGRESSION."""
        return self._meta["task"]

    def hasIntercept(self) -> bool:
        """Tell whether it has an intercept."""
        return bool(self._meta["hasInterceptItem"])

    def hasLinearItem(self) -> bool:
        """Tell whether it has weights of single features."""
        return bool(self._meta["hasLinearItem"])

    def getNumFactor(self) -> int:
        """Give the number of factors of a feature."""
        return int(self._meta["numFactor"])

    def getNumFeature(self) -> int:
        """Give the number of features."""
        return int(self._meta["vectorSize"])

    def getFeatureColNames(self) -> list[str] | None:
        """Give the columns of the features; None where they are a vector."""
        return self._meta.get("featureCols")

    def getFactors(self) -> list[list[float]]:
        """Give the factors of each feature."""
        return json.loads(self._data[0])["factors"]

    def __str__(self) -> str:
        meta = {
            "task": self.getTask(),
            "num feature": self.getNumFeature(),
            "num factor": self.getNumFactor(),
            "hasIntercept": self.hasIntercept(),
            "hasLinearItem": self.hasLinearItem(),
        }
        text = headline("model meta info", "-") + mapped(meta) + "\n"
        if self._labels:
            text += headline("model label values", "-") + listed(self._labels) + "\n"
        return text


class FmClassifierModelInfo(FmRegressorModelInfo):
    """A factorization machine of a label with two values."""

    def getLabelValues(self) -> list[Any]:
        """Give the values of the label; the first is the one that outcomes speak for."""
        return list(self._labels)


class FmRegressorModelTrainInfo(FmRegressorModelInfo):
    """How a factorization machine was trained."""

    def getConvInfo(self) -> list[str]:
        """Give a line for each iteration."""
        return course_lines(json.loads(self._data[0]).get("convergenceInfo"))

    def __str__(self) -> str:
        return super().__str__() + _course_shown(self.getConvInfo())


class FmClassifierModelTrainInfo(FmRegressorModelTrainInfo):
    """How a factorization machine of a label with two values was trained."""


class TreeModelInfo(ModelInfo):
    """A model of trees: how many there are, and what its features matter."""

    def getNumTrees(self) -> int:
        """Give the number of trees."""
        return len(self._data) - 1

    def getFeatures(self) -> list[str]:
        """Give the columns of the features; of a vector their numbers."""
        known = self._meta.get("featureCols")
        return known if known is not None else [str(i) for i in range(len(self._importance()))]

    def _importance(self) -> list[float]:
        return self._meta["importance"]

    def getFeatureImportance(self) -> dict[str, float]:
        """Give the share of each feature in all that splits gained."""
        return dict(zip(self.getFeatures(), self._importance(), strict=True))

    def getCategoricalFeatures(self) -> list[str]:
        """Give the columns of the features that are categories."""
        known = json.loads(self._data[0])
        return [n for n, one in zip(self.getFeatures(), known, strict=True) if one is not None]

    def getCategoricalValues(self, categoricalCol: str) -> list[str]:
        """Give the categories of a feature."""
        known = dict(zip(self.getFeatures(), json.loads(self._data[0]), strict=True))
        if known.get(categoricalCol) is None:
            raise bad_option(
                type(self).__name__,
                f"the model has no categories of {categoricalCol!r:.60}",
                f"it has those of {', '.join(self.getCategoricalFeatures()) or 'no feature'}",
            )
        return list(known[categoricalCol])

    def getLabels(self) -> list[Any]:
        """Give the values of the label, of a classifier."""
        return list(self._labels)

    def _tree(self, treeId: int) -> Mapping[str, Any]:
        if not 0 <= treeId < self.getNumTrees():
            raise bad_option(
                type(self).__name__, f"there is no tree {treeId!r:.20} among {self.getNumTrees()}"
            )
        return json.loads(self._data[1 + treeId])

    def _rule(self, treeId: int) -> str:
        """Write a tree as an expression of SQL."""
        return _Rule(self._tree(treeId), self).text(0)

    def _draw(self, treeId: int, path: str, overwrite: bool, instead: str) -> None:
        """Draw a tree into a file."""
        root = _Rule(self._tree(treeId), self).drawn(0)
        owner, rule = type(self).__name__, f"{instead} gives a tree as an expression of SQL"
        save_image(owner, "trees", rule, path, overwrite, lambda figure: draw_tree(figure, root))

    def __str__(self) -> str:
        meta: dict[str, Any] = {
            "model name": self._meta.get("modelName"),
            "num trees": self.getNumTrees(),
            "num feature": len(self._importance()),
        }
        text = headline("model meta info", "-") + mapped(meta) + "\n"
        if self._labels:
            text += headline("model label values", "-") + listed(self._labels) + "\n"
        ranked = sorted(self.getFeatureImportance().items(), key=lambda item: -item[1])
        rows = [[name, f"{share:.6f}"] for name, share in ranked]
        shown = format_table(rows, ["feature", "importance"])
        return text + headline("feature importance", "-") + shown + "\n"


class DecisionTreeModelInfo(TreeModelInfo):
    """A tree."""

    def getCaseWhenRule(self) -> str:
        """Give the tree as an expression of SQL."""
        return self._rule(0)

    def saveTreeAsImage(self, path: str, isOverwrite: bool = False) -> None:
        """Draw the tree, with matplotlib; of a large one the levels next to the root."""
        self._draw(0, path, isOverwrite, "getCaseWhenRule()")


class MultiTreeModelInfo(TreeModelInfo):
    """Trees."""

    def getCaseWhenRule(self, treeId: int) -> str:
        """Give a tree, counted from 0, as an expression of SQL."""
        return self._rule(treeId)

    def saveTreeAsImage(self, path: str, treeId: int, isOverwrite: bool = False) -> None:
        """Draw a tree, counted from 0, as that of a decision tree is drawn."""
        self._draw(treeId, path, isOverwrite, "getCaseWhenRule(treeId)")


class RandomForestModelInfo(MultiTreeModelInfo):
    """A forest."""


class GbdtModelInfo(MultiTreeModelInfo):
    """Boosted trees."""


class _Rule:
    """A tree as an expression of SQL, or to be drawn; its form is that of `_tree_models`."""

    def __init__(self, tree: Mapping[str, Any], info: TreeModelInfo) -> None:
        self._tree = tree
        self._names = info.getFeatures()
        self._categories = json.loads(info._data[0])
        self._labels = info.getLabels()

    def text(self, node: int) -> str:
        """Write a node with those below it."""
        feature = self._tree["feature"][node]
        if feature < 0:
            return self._leaf(self._tree["value"][node])
        branches = self._tree["branches"].get(str(node))
        parts = self._by_number(node) if branches is None else self._by_category(node, branches)
        first = self._tree["child"][node]
        last = max(parts)
        whens = [
            f"WHEN {' OR '.join(tests)} THEN {self.text(first + child)}"
            for child, tests in sorted(parts.items())
            if child != last
        ]
        return f"CASE {' '.join(whens)} ELSE {self.text(first + last)} END"

    def _by_number(self, node: int) -> dict[int, list[str]]:
        name = self._name(node)
        test = f"{name} <= {self._tree['threshold'][node]!r}"
        missing = [f"{name} IS NULL"] if self._tree["missing"][node] == 0 else []
        return {0: [test, *missing], 1: []}

    def _by_category(self, node: int, branches: Sequence[int]) -> dict[int, list[str]]:
        name, known = self._name(node), self._categories[self._tree["feature"][node]]
        children = _by_branch(known, branches)
        parts = {
            child: [f"{name} IN ({', '.join(map(_literal, c))})"] for child, c in children.items()
        }
        # What is not known goes with what is missing.
        missing = self._tree["missing"][node]
        every = ", ".join(map(_literal, known))
        parts.setdefault(missing, []).append(f"{name} IS NULL OR {name} NOT IN ({every})")
        return parts

    def _name(self, node: int) -> str:
        name = self._names[self._tree["feature"][node]]
        return '"' + name.replace('"', '""') + '"'

    def _leaf(self, value: Any) -> str:
        return _literal(self._said(value))

    def _said(self, value: Any) -> Any:
        """Give the label of a leaf, or its number."""
        values = value if isinstance(value, list) else [value]
        if len(self._labels) == len(values):
            return self._labels[max(range(len(values)), key=values.__getitem__)]
        return float(values[0])

    def drawn(self, node: int) -> Drawn:
        """Give a node to be drawn, and how those below it are given."""
        feature, first = self._tree["feature"][node], self._tree["child"][node]
        if feature < 0:
            said = self._said(self._tree["value"][node])
            return Drawn(f"{said:.6g}" if isinstance(said, float) else str(said))
        branches = self._tree["branches"].get(str(node))
        if branches is None:
            cut = f"{self._tree['threshold'][node]:.6g}"
            labels = {0: f"<= {cut}", 1: f"> {cut}"}
        else:
            found = _by_branch(self._categories[feature], branches)
            labels = {child: ", ".join(names) for child, names in found.items()}
            labels.setdefault(self._tree["missing"][node], "NULL")
        return Drawn(
            self._names[feature],
            [(labels[at], partial(self.drawn, first + at)) for at in sorted(labels)],
        )


def _by_branch(known: Sequence[str], branches: Sequence[int]) -> dict[int, list[str]]:
    """Give the categories of each branch."""
    children: dict[int, list[str]] = {}
    for category, child in zip(known, branches[1:], strict=True):
        children.setdefault(child, []).append(category)
    return children


def _literal(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, (int, float))
        else "'" + str(value).replace("'", "''") + "'"
    )


class StandardScalerModelInfo(ModelInfo):
    """Means and standard deviations of columns."""

    def getMeans(self) -> list[float]:
        """Give the means."""
        return json.loads(self._data[0])

    def getStdDevs(self) -> list[float]:
        """Give the standard deviations."""
        return json.loads(self._data[1])

    def isWithMeans(self) -> bool:
        """Tell whether means are taken off."""
        return bool(self._meta["withMean"])

    def isWithStdDevs(self) -> bool:
        """Tell whether columns are divided by their standard deviations."""
        return bool(self._meta["withStd"])

    def __str__(self) -> str:
        text = headline("StandardScalerModelInfo", "-") + "\n"
        for what, kept, values, words in (
            ("means information", self.isWithMeans(), self.getMeans(), "mean"),
            (
                "standard deviation information",
                self.isWithStdDevs(),
                self.getStdDevs(),
                "standard deviation",
            ),
        ):
            text += headline(what, "=") + "\n"
            text += (listed(values) if kept else f"The {words} values are not calculated.") + "\n"
        return text


class MinMaxScalerModelInfo(ModelInfo):
    """The extremes of columns."""

    def getMins(self) -> list[float]:
        """Give the least values."""
        return json.loads(self._data[0])

    def getMaxs(self) -> list[float]:
        """Give the largest values."""
        return json.loads(self._data[1])

    def __str__(self) -> str:
        text = headline("MinMaxScalerModelInfo", "-") + "\n"
        text += headline("lower bound information", "=") + f"\n{listed(self.getMins())}\n"
        return text + headline("upper bound information", "=") + f"\n{listed(self.getMaxs())}\n"


class MaxAbsScalarModelInfo(ModelInfo):
    """The largest absolute values of columns."""

    def getMaxAbs(self) -> list[float]:
        """Give the largest absolute values."""
        return json.loads(self._data[0])

    def __str__(self) -> str:
        text = headline("MaxAbsScalarModelInfo", "-") + "\n"
        return text + headline("max abs information", "=") + f"\n{listed(self.getMaxAbs())}\n"


def course_lines(course: Sequence[float] | None) -> list[str]:
    """Write the course of an objective, three numbers for each iteration."""
    given = course or []
    return [
        f"step:{i} loss:{loss:.8f} gradNorm:{slope:.8f} learnRate:{length:.8f}"
        for i, (loss, slope, length) in enumerate(
            zip(given[::3], given[1::3], given[2::3], strict=True)
        )
    ]


def _course_shown(lines: Sequence[str]) -> str:
    shown = list(lines)
    if len(shown) >= 2 * _STEPS_SHOWN:
        shown = [*shown[:_STEPS_SHOWN], "... ... ... ...", *shown[-_STEPS_SHOWN:]]
    return headline("train convergence info", "-") + "".join(f"{line}\n" for line in shown)


# --- printing ---


def headline(text: str, pad: str) -> str:
    """Write a line with a text in its middle."""
    inner = f" {text} "
    side = pad * ((_LINE_CHARS - len(inner)) // 2)
    return f"{side}{inner}{side}\n"


def listed(values: Sequence[Any]) -> str:
    """Write a list; of a long one the first and the last values."""
    shown = [displayed(value) for value in values]
    if len(shown) > 2 * _ENDS_SHOWN:
        shown = [*shown[:_ENDS_SHOWN], "...", *shown[-_ENDS_SHOWN:]]
    return f"[{', '.join(shown)}]"


def mapped(values: Mapping[Any, Any], lines: bool = False, edge: int = 10) -> str:
    """Write a map, in the order that Java gives it; of a long one the first and the last."""
    shown = [
        f"{displayed(k)}: {displayed(values[k])}"
        for k in (_java_order(values) if not lines else values)
    ]
    if len(shown) > 2 * edge:
        shown = [*shown[:edge], "...", *shown[-edge:]]
    return "{" + (",\n " if lines else ", ").join(shown) + "}"


def displayed(value: Any) -> str:
    """Write a value as Alink prints models: numbers with at most four digits behind the point."""
    if isinstance(value, (list, tuple)):
        return listed(value)
    if isinstance(value, Mapping):
        return mapped(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_number(value)


def _java_order(keys: Iterable[str]) -> list[str]:
    """Order texts as a HashMap of Java does."""
    given = list(keys)
    size = 16
    while len(given) > size * 3 // 4:
        size *= 2

    def place(text: str) -> int:
        code = 0
        for unit in str(text):
            code = (31 * code + ord(unit)) & 0xFFFFFFFF
        return (code ^ code >> 16) & (size - 1)

    return sorted(given, key=place)


# --- operators ---


def later(rows: AlgoOperator, read: ReadInfo, callbacks: Iterable[Callable[[Any], Any]]) -> None:
    """Call functions with what a model's rows say, with the next ``execute``."""
    called = list(callbacks)

    def done(table: pa.Table) -> None:
        info = read(table)
        for callback in called:
            callback(info)

    session().waiting.setdefault(rows._kind, []).append(Waiting(rows, done))


def printing(title: str | None) -> Callable[[Any], None]:
    """Give the function that prints an object, below a title."""

    def show(info: Any) -> None:
        if title is not None:
            print(title)
        print(info, flush=True)

    return show


class WithModelInfo(BatchOperator):
    """An operator that gives a model, which says something of itself."""

    _info: ClassVar[ReadInfo] = ModelInfo
    _train_info: ClassVar[ReadInfo] = ModelInfo

    @without_our_frames
    def collectModelInfo(self) -> Any:
        """Train the model and give what it says of itself."""
        return type(self)._info(collect([self])[0])

    def lazyCollectModelInfo(self: W, *callbacks: Callable[[Any], Any]) -> W:
        """Call functions with what the model says of itself, with the next ``execute``."""
        later(self, type(self)._info, callbacks)
        return self

    def lazyPrintModelInfo(self: W, title: str | None = None) -> W:
        """Print what the model says of itself, with the next ``execute``."""
        return self.lazyCollectModelInfo(printing(title))

    def getModelInfoBatchOp(self) -> BatchOperator:
        """Give the rows of the model, as an operator."""
        return TableBatch(self._table())

    def getTrainInfoBatchOp(self) -> BatchOperator:
        """Give the rows of the model, which tell of the training too, as an operator."""
        return TableBatch(self._table())

    @without_our_frames
    def collectTrainInfo(self) -> Any:
        """Train the model and give what is known of the training."""
        return type(self)._train_info(collect([self])[0])

    def lazyCollectTrainInfo(self: W, *callbacks: Callable[[Any], Any]) -> W:
        """Call functions with what is known of the training, with the next ``execute``."""
        later(self, type(self)._train_info, callbacks)
        return self

    def lazyPrintTrainInfo(self: W, title: str | None = None) -> W:
        """Print what is known of the training, with the next ``execute``."""
        return self.lazyCollectTrainInfo(printing(title))


class ReadModel(WithModelInfo):
    """Says what the model that it is linked from says of itself."""

    @staticmethod
    def _is_model(schema: pa.Schema) -> bool:
        return bool({"model_id", "column_index"} & {*schema.names})

    def _link(self) -> Any:
        table = self._inputs[0]._table()
        if not self._is_model(table.schema):
            raise bad_option(
                self._name,
                f"{self._name} is linked from rows of {', '.join(table.schema.names)[:60]}, "
                "which are no model",
                "link it from a training: train.link(info)",
            )
        return table
