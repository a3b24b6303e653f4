"""Searches for the parameters with which a pipeline does best on rows that it has not seen."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeVar

import pyarrow as pa

from alink._algorithms._schemas import METRIC
from alink._algorithms._strings import text_of
from alink._errors import Error, without_our_frames
from alink._options import bad_option
from alink._table import Table
from alink._together import run_together
from alink.operators._base import BatchOperator, TableBatch
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._define import BUILT, one_of
from alink.operators._operator import AlgoOperator
from alink.operators._params import WithParams
from alink.operators._search_spaces import ParamDist, ParamGrid, Setting, ValueDist
from alink.operators._session import session
from alink.operators._stages import (
    Estimator,
    Model,
    Pipeline,
    PipelineModel,
    PipelineStage,
    Transformer,
)
from alink.operators._summaries import format_table
from alink.operators._training import Training

S = TypeVar("S", bound="Search")

_SEED = 1  # of folds and of what is drawn
_FOLDS_MIN = 2
_STARTUP_MAX = 20  # candidates that are drawn before a search learns
_CLASS_METRICS = ("ACCURACY", "KAPPA", "PRECISION", "RECALL", "F1", "SENSITIVITY", "SPECIFICITY")
_AVERAGES = ("MACRO", "MICRO", "WEIGHTED")
_AVERAGED = tuple(f"{a}_{m}" for a in _AVERAGES for m in _CLASS_METRICS)
_LESS_IS_BETTER = frozenset(
    "LOG_LOSS MSE RMSE MAE SAE MAPE EXPLAINED_VARIANCE SSW CP DB".split()  # noqa: SIM905
)


class TuningEvaluator(WithParams):
    """Tells how good predictions are, by one metric of an evaluation."""

    _operator: ClassVar[str]
    _metric: ClassVar[str]
    _metrics: ClassVar[Sequence[str]]

    def metric(self) -> str:
        """Give the name of the metric."""
        return one_of(self._name, self._metric, self._get(self._metric), self._metrics)

    def isLargerBetter(self) -> bool:
        """Tell whether a larger metric is a better one."""
        return self.metric() not in _LESS_IS_BETTER

    def rows(self, predicted: Table) -> Any:
        """Give the operator that evaluates predictions."""
        given = {n: v for n, v in self._all().items() if n != self._metric}
        return BUILT[self._operator](given).linkFrom(TableBatch(predicted))

    def read(self, operator: Any, rows: Any) -> float:
        """Give the metric of the rows of that operator; NaN where there is none."""
        plain = self.metric().replace("_", "").lower()
        metrics = type(operator)._read(rows)
        for name, value in metrics._values.items():
            if name.replace("-", "").replace(" ", "").lower() == plain:
                return math.nan if value is None else float(value)
        return math.nan

    def getMetricParamInfo(self) -> str:
        """Give the name of the metric."""
        return self.metric()

    @without_our_frames
    def evaluate(self, op: BatchOperator) -> float:
        """Evaluate predictions."""
        operator = self.rows(op._table())
        return self.read(operator, operator._table().to_arrow())


@dataclass(frozen=True)
class Tried:
    """A candidate: its settings, the mean of its metric, and why it failed, if it has."""

    settings: Sequence[Setting]
    metric: float
    reason: str | None


class Report:
    """What a search has found, the best first."""

    def __init__(self, evaluator: TuningEvaluator, tried: Iterable[Tried]) -> None:
        self._metric, self._larger = evaluator.metric(), evaluator.isLargerBetter()
        sign = -1 if self._larger else 1
        self.elements = sorted(
            tried,
            key=lambda t: (math.isnan(t.metric), 0 if math.isnan(t.metric) else sign * t.metric),
        )

    def toPrettyJson(self) -> str:
        """Give the candidates as JSON."""
        found: list[dict[str, Any]] = []
        for item in self.elements:
            params = [
                {"stage": s._name, "paramName": n, "paramValue": v} for s, n, v in item.settings
            ]
            row = {"param": params, self._metric: item.metric}
            found.append(row if item.reason is None else {**row, "reason": item.reason})
        return json.dumps(found, indent=2, ensure_ascii=False, default=str)

    def __str__(self) -> str:
        if not self.elements:
            return ""
        text = (
            f"Metric information:\n  Metric name: {self._metric}\n"
            f"  Larger is better: {text_of(self._larger)}\nTuning information:\n"
            + _indented(self._table(self.elements))
        )
        for item in self.elements:
            if item.reason is not None:
                text += f"\nParam information:\n{_indented(self._table([item]))}\n"
                text += f"Failed reason:\n{_indented(item.reason)}"
        return text

    def _table(self, items: Sequence[Tried]) -> str:
        heads = [self._metric]
        for number in range(1, len(items[0].settings) + 1):
            after = f" {number}" if number > 1 else ""
            heads += [f"stage{after}", f"param{after}", f"value{after}"]
        cells = [
            [
                text_of(item.metric),
                *(x for s, n, v in item.settings for x in (s._name, n, text_of(v))),
            ]
            for item in items
        ]
        return format_table(cells, heads, edge=max(len(cells), len(heads)))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


class SearchModel(Model):
    """The best pipeline of a search, trained on all rows."""

    def __init__(self, model: PipelineModel | None = None, report: Report | None = None) -> None:
        super().__init__()
        self._model = model
        self._report = report

    @property
    def report(self) -> Report:
        """What was tried."""
        if self._report is None:
            raise bad_option(self._name, f"{self._name} has no model", "a search's fit gives it")
        return self._report

    @property
    def _best(self) -> PipelineModel:
        if self._model is None:
            raise bad_option(self._name, f"{self._name} has no model", "a search's fit gives it")
        return self._model

    def getModelData(self) -> Any:
        """Give the trained pipeline as rows, as `save` does."""
        return self._best.getModelData()

    def setModelData(self, model_data: AlgoOperator) -> NoReturn:
        """Refuse: the rows of a pipeline make another one."""
        self._best.setModelData(model_data)

    def getPipelineModel(self) -> PipelineModel:
        """Give the trained pipeline."""
        return self._best

    def save(self, *args: Any, **params: Any) -> Any:
        """Save the trained pipeline, to be read by ``PipelineModel.load``."""
        return self._best.save(*args, **params)

    @without_our_frames
    def collectLocalPredictor(self, inputSchemaStr: str) -> Any:
        """Compute the model and give what maps rows with it in this process."""
        return self._best.collectLocalPredictor(inputSchemaStr)

    def _transformed(self, table: Table) -> Table:
        return self._best._transformed(table)


class Search(Estimator):
    """Tries candidates, and trains the best of them on all rows.

    A candidate that fails is reported with the reason, and the others go on.
    """

    _model_class: ClassVar[type[SearchModel]]
    _writes_models = True

    @without_our_frames
    def fit(self, op: AlgoOperator) -> SearchModel:
        """Search, on the rows of a batch operator.

        With ``modelFilePath`` the next ``execute`` writes the best pipeline to that file.
        """
        model, report = self._search(self._rows_of(op))
        if (path := self._get("modelFilePath")) is not None:
            model.save(path, bool(self._get("overwriteSink")))
        return self._model_class(model, report)

    def enableLazyPrintTrainInfo(self: S, title: str | None = None) -> S:
        """Print what was tried when the search has ended."""
        return self._lazy("TrainInfo", title)

    def _fitted(self, table: Table) -> Transformer:
        return self._search(table)[0]

    def _search(self, table: Table) -> tuple[PipelineModel, Report]:
        evaluator: Any = self._get("TuningEvaluator")
        if not isinstance(evaluator, TuningEvaluator):
            raise bad_option(self._name, f"{self._name}: {evaluator!r:.60} is no TuningEvaluator")
        evaluator.metric()
        pipeline = self._pipeline()
        parts = list(self._parts_of_rows(table))
        tried = self._tried(lambda s: self._try(pipeline, s, evaluator, parts))
        report = Report(evaluator, tried)
        if self._lazily.get("lazyPrintTrainInfoEnabled"):
            if (title := self._lazily.get("lazyPrintTrainInfoTitle")) is not None:
                print(title)
            print(report, flush=True)
        if not tried:
            raise bad_option(self._name, f"{self._name}: there is nothing to try")
        best = report.elements[0]
        if math.isnan(best.metric):
            raise bad_option(
                self._name, f"{self._name}: no candidate could be evaluated", f"{best.reason}"
            )
        return set_up(pipeline, best.settings)._fitted(table), report

    def _pipeline(self) -> Pipeline:
        estimator: Any = self._get("Estimator")
        if not isinstance(estimator, PipelineStage):
            raise bad_option(
                self._name, f"{self._name}: {estimator!r:.60} is no stage and no pipeline"
            )
        return estimator if isinstance(estimator, Pipeline) else Pipeline(estimator)

    def _tried(self, attempt: Callable[[list[Setting]], Tried]) -> list[Tried]:
        """Try all candidates."""
        return [attempt(settings) for settings in self._candidates()]

    def _candidates(self) -> Iterator[list[Setting]]:
        if "ParamGrid" in self._parameters:
            grid: Any = self._get("ParamGrid")
            if not isinstance(grid, ParamGrid):
                raise bad_option(self._name, f"{self._name}: {grid!r:.60} is no ParamGrid")
            return grid.candidates()
        return self._distribution().candidates(self._get("numIter"), _SEED)

    def _distribution(self) -> ParamDist:
        dist: Any = self._get("ParamDist")
        if not isinstance(dist, ParamDist):
            raise bad_option(self._name, f"{self._name}: {dist!r:.60} is no ParamDist")
        self._check_least("numIter", 1)
        return dist

    def _check_least(self, name: str, least: int) -> None:
        if (value := self._get(name)) < least:
            raise bad_option(self._name, f"{self._name}: '{name}' is {least} or more, not {value}")

    def _parts_of_rows(self, table: Table) -> Iterator[tuple[Table, Table]]:
        """Give the rows to train with and those to evaluate with, once or for each fold."""
        columns = ", ".join(f'"{c}"' for c in (c.replace('"', '""') for c in table.columns))
        # The order of the folds' rows is that of hashes of their numbers: it is random, and the
        # same in each run.
        ranked = table._context.sql(
            f"""SELECT {columns}, row_number() OVER (ORDER BY hash(__row, {_SEED}), __row) - 1
                AS __rank, count(*) OVER () AS __count
            FROM (SELECT *, row_number() OVER () AS __row FROM a)""",
            tables={"a": table},
        ).cache()

        def part(condition: str) -> Table:
            return ranked._context.sql(
                f"SELECT {columns} FROM a WHERE {condition}", tables={"a": ranked}
            )

        if "NumFolds" not in self._parameters:
            ratio = self._get("trainRatio")
            if not 0 < ratio < 1:
                raise bad_option(
                    self._name, f"{self._name}: 'trainRatio' is between 0 and 1, not {ratio}"
                )
            known = f"__rank < greatest(1, least(__count - 1, round(__count * {ratio!r})))"
            yield part(known), part(f"NOT ({known})")
            return
        folds = self._get("NumFolds")
        if folds < _FOLDS_MIN:
            raise bad_option(self._name, f"{self._name}: 'NumFolds' is 2 or more, not {folds}")
        for fold in range(min(folds, max(_FOLDS_MIN, ranked.count()))):
            yield part(f"__rank % {folds} <> {fold}"), part(f"__rank % {folds} = {fold}")

    @staticmethod
    def _try(
        pipeline: Pipeline,
        settings: Sequence[Setting],
        evaluator: TuningEvaluator,
        parts: Sequence[tuple[Table, Table]],
    ) -> Tried:
        """Train and evaluate a candidate; all of its folds are one job."""
        try:
            candidate = set_up(pipeline, settings)
            operators = [
                evaluator.rows(candidate._fitted(known)._transformed(new)) for known, new in parts
            ]
            tables = [operator._table() for operator in operators]
            rows = run_together(tables[0]._context, tables, [])
            found = [evaluator.read(o, r) for o, r in zip(operators, rows, strict=True)]
        except Error as error:
            return Tried(settings, math.nan, str(error))
        metric = math.fsum(found) / len(found)
        return Tried(settings, metric, "Metric is nan." if math.isnan(metric) else None)


class BayesSearch(Search):
    """Tries values where those that were tried say that better ones may be.

    The first candidates are those of a search that draws them.
    """

    def _tried(self, attempt: Callable[[list[Setting]], Tried]) -> list[Tried]:
        dist, count = self._distribution(), self._get("numIter")
        strategy = one_of(self._name, "bayesStrategy", self._get("bayesStrategy"), ("GP", "TPE"))
        self._check_least("bayesNumCandidates", 1)
        self._check_least("bayesTpeLinearForgetting", 1)
        startup = self._get("bayesNumStartup")
        if startup is None:
            startup = min(_STARTUP_MAX, max(1, count // 2))
        else:
            self._check_least("bayesNumStartup", 1)
        params = {
            "strategy": strategy,
            "candidates": self._get("bayesNumCandidates"),
            "forgetting": self._get("bayesTpeLinearForgetting"),
            "seed": _SEED,
        }
        sign = 1.0 if self._get("TuningEvaluator").isLargerBetter() else -1.0
        places: list[list[float]] = []
        tried: list[Tried] = []
        for number in range(count):
            if number < startup or not dist.getItems():
                place = dist.drawn(number, _SEED)
            else:
                place = self._proposed(params, places, [sign * item.metric for item in tried])
            places.append(place)
            tried.append(attempt(dist.settings(place)))
        return tried

    def _proposed(
        self, params: Mapping[str, Any], places: Sequence[list[float]], metrics: Sequence[float]
    ) -> list[float]:
        """Ask a worker where to look next."""
        columns = [pa.array(column, pa.float64()) for column in zip(*places, strict=True)]
        names = [f"p{i}" for i in range(len(columns))]
        rows = pa.table([*columns, pa.array(metrics, pa.float64())], names=[*names, METRIC])
        result = pa.schema([(name, pa.float64()) for name in names])
        task = Training(self._name, "_bayes.propose", params, rows.schema.names, result, alone=True)
        found = session().context.from_arrow(rows)._train(task).to_arrow()
        return [column[0].as_py() for column in found.columns]


def set_up(pipeline: Pipeline, settings: Sequence[Setting]) -> Pipeline:
    """Give a copy of a pipeline with other values of parameters."""
    copies: dict[int, PipelineStage] = {}

    def copied(stage: PipelineStage) -> PipelineStage:
        made = copy.copy(stage)
        made._values, made._lazily = dict(stage._values), {}
        copies[id(stage)] = made
        if isinstance(made, (Pipeline, PipelineModel)):
            made._stages = [copied(part) for part in made._stages]  # type: ignore[misc]
        return made

    whole = copied(pipeline)
    assert isinstance(whole, Pipeline)
    for stage, name, value in settings:
        if id(stage) not in copies:
            raise bad_option(
                stage._name,
                f"{stage._name}, whose {name} is tuned, is no stage of the pipeline",
                "give the search the pipeline that has this very stage",
            )
        copies[id(stage)]._set(name, value)
    return whole


# --- declarations ---


def _texts(*names: str, **defaults: str) -> dict[str, Parameter]:
    optional = {name: Parameter(name, "String", value, False) for name, value in defaults.items()}
    return {**{name: Parameter(name, "String", None, False) for name in names}, **optional}


_EVALUATORS: Mapping[str, tuple[str, str, Sequence[str], Mapping[str, Parameter]]] = {
    "BinaryClassificationTuningEvaluator": (
        "EvalBinaryClassBatchOp",
        "tuningBinaryClassMetric",
        ("AUC", "KS", "PRC", "LOG_LOSS", *_CLASS_METRICS[:5], *_AVERAGED),
        _texts(
            "labelCol",
            "predictionDetailCol",
            "positiveLabelValueString",
            tuningBinaryClassMetric="AUC",
        ),
    ),
    "MultiClassClassificationTuningEvaluator": (
        "EvalMultiClassBatchOp",
        "tuningMultiClassMetric",
        ("LOG_LOSS", "ACCURACY", "KAPPA", *_AVERAGED),
        _texts(
            "labelCol", "predictionCol", "predictionDetailCol", tuningMultiClassMetric="ACCURACY"
        ),
    ),
    "RegressionTuningEvaluator": (
        "EvalRegressionBatchOp",
        "tuningRegressionMetric",
        ("MSE", "RMSE", "MAE", "SAE", "MAPE", "EXPLAINED_VARIANCE", "R2"),
        _texts("labelCol", "predictionCol", tuningRegressionMetric="RMSE"),
    ),
    "ClusterTuningEvaluator": (
        "EvalClusterBatchOp",
        "tuningClusterMetric",
        tuple("SSB SSW VRC SP CP DB NMI PURITY RI ARI SILHOUETTE_COEFFICIENT".split()),  # noqa: SIM905
        _texts(
            "predictionCol",
            "labelCol",
            "vectorCol",
            distanceType="EUCLIDEAN",
            tuningClusterMetric="SILHOUETTE_COEFFICIENT",
        ),
    ),
}


def declare() -> None:
    """Declare the stages of this module."""
    for made in (ParamGrid, ParamDist, ValueDist):
        BUILT[made.__name__] = made
    for name, (operator, metric, metrics, parameters) in _EVALUATORS.items():
        members = {
            "__doc__": f"Evaluates candidates by one of the metrics of {operator}.",
            "__module__": "alink.operators",
            "_name": name,
            "_parameters": parameters,
            "_operator": operator,
            "_metric": metric,
            "_metrics": metrics,
        }
        BUILT[name] = type(name, (TuningEvaluator,), members)
    more = {"parallelTuningMode": Parameter("parallelTuningMode", "Boolean", False, False)}
    number = {"numIter": Parameter("numIter", "Integer", 10, False)}
    learning = {
        **number,
        "bayesStrategy": Parameter("bayesStrategy", "String", "GP", False),
        "bayesNumStartup": Parameter("bayesNumStartup", "Integer", None, False),
        "bayesNumCandidates": Parameter("bayesNumCandidates", "Integer", 20, False),
        "bayesTpeLinearForgetting": Parameter("bayesTpeLinearForgetting", "Integer", 21, False),
    }
    for kind, base, own, tells in (
        ("Grid", Search, {}, "all combinations of values"),
        ("Random", Search, number, "values that are drawn"),
        ("Bayes", BayesSearch, learning, "values where better ones are likely, GP or TPE,"),
    ):
        for split, by in (("CV", "cross validation"), ("TVSplit", "a part of the rows")):
            name = f"{kind}Search{split}"
            given = {**catalogue()[name].parameters, **more, **own}
            model = type(
                f"{name}Model",
                (SearchModel,),
                {
                    "__doc__": f"The best pipeline that {name} has found, trained on all rows.",
                    "__module__": "alink.operators",
                    "_name": f"{name}Model",
                    "_parameters": catalogue()[f"{name}Model"].parameters,
                },
            )
            search = type(
                name,
                (base,),
                {
                    "__doc__": f"Tries {tells}, evaluated by {by}.",
                    "__module__": "alink.operators",
                    "_name": name,
                    "_parameters": given,
                    "_model_class": model,
                },
            )
            BUILT.update({name: search, f"{name}Model": model})
