"""Evaluations of predictions: operators whose rows are metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from alink._algorithms._types import type_name
from alink._diag import quote
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._base import StreamOperator
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._define import build, one_of
from alink.operators._discretizers import check_numbers
from alink.operators._mapping import apply_step
from alink.operators._metrics import (
    BinaryClassMetrics,
    ClusterMetrics,
    MultiClassMetrics,
    MultiLabelMetrics,
    OutlierMetrics,
    RankingMetrics,
    RegressionMetrics,
    TimeSeriesMetrics,
)
from alink.operators._results import Evaluated
from alink.operators._training import Training
from alink.operators._vectors import check_vectors

Params = Mapping[str, Any]
#: Makes the table of the metrics: of the operator's name, its parameters and the rows.
Evaluate = Callable[[str, Params, Table], Table]

#: Between two points of a curve at least: of probabilities, or of the span of other scores.
_STEP = 0.001
_STREAM_STEP = 0.05  # metrics of streams are printed
_DISTANCES = ("EUCLIDEAN", "COSINE", "CITYBLOCK")
_NAMED = ("labelCol", "predictionCol", "predictionDetailCol", "vectorCol")


def evaluation(name: str, evaluate: Evaluate, metrics: type, doc: str) -> None:
    """Declare an operator that gives one row of metrics, and `metrics` as an object."""

    def link(self: Evaluated) -> Table:
        return evaluate(self._name, self._all(), self._inputs[0]._table())

    build(f"{name}BatchOp", Evaluated, doc, _read=metrics, _link=link)


def stream_evaluation(
    name: str, evaluate: Evaluate, doc: str, parameters: Mapping[str, Parameter] | None = None
) -> None:
    """Declare the same of a stream: metrics of each window and of all rows so far."""

    def link(self: StreamOperator) -> Table:
        table, params = self._inputs[0]._table(), self._all()
        if not params["timeInterval"] > 0:
            raise bad_option(self._name, f"{self._name}: 'timeInterval' is above 0, in seconds")
        if table.unbounded:
            raise bad_option(
                self._name,
                f"{self._name} evaluates streams that end",
                "window the stream, and evaluate what a window gives",
            )
        found = evaluate(self._name, params, table)
        column = found.columns[0]
        # A stream that ends has come before the first interval has passed: it is one window.
        return found._context.sql(
            f"""SELECT s AS "Statistics", "{column}" AS "Data"
            FROM a, (VALUES (1, 'window'), (2, 'all')) AS v(o, s) ORDER BY o""",
            tables={"a": found},
        )

    given = catalogue()[f"{name}StreamOp"].parameters if parameters is None else parameters
    # Predictions follow from details; PyAlink's own examples leave them out.
    given = {
        name: replace(p, required=False) if name == "predictionCol" and len(given) > 3 else p
        for name, p in given.items()
    }
    build(f"{name}StreamOp", StreamOperator, doc, _link=link, _parameters=given)


def _found(name: str, params: Params, table: Table) -> dict[str, Any]:
    """Give the parameters with the exact names of the columns."""
    given = dict(params)
    for parameter in _NAMED:
        if given.get(parameter) is not None:
            given[parameter] = find_column(name, table.schema, given[parameter])
    return given


def _check_texts(name: str, given: Params, schema: pa.Schema, *parameters: str) -> None:
    for parameter in parameters:
        column = given[parameter]
        kind = schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise bad_option(
                name,
                f"{name}: column {quote(column)} is {type_name(kind)}",
                f"{quote(parameter)} takes texts of JSON",
            )


def _computed(name: str, task: str, given: Params, table: Table, column: str) -> Table:
    """Make the metrics of all rows, which workers read."""
    columns = [given[parameter] for parameter in _NAMED if given.get(parameter) is not None]
    result = pa.schema([(column, pa.string())])
    params = {**given, "column": column}
    return table._train(Training(name, task, params, list(dict.fromkeys(columns)), result))


# --- scores ---

_SCORES = (
    ("labels", pa.string()),
    ("positive", pa.bool_()),
    ("score", pa.float64()),
    ("loss", pa.float64()),
    ("said", pa.bool_()),
)

# Rows of equal scores are one step of all curves, whose areas are those of trapezoids; so the
# area under the ROC curve is the share of pairs that are in the right order, with ties as halves
# (Hanley and McNeil 1982).
_CURVES = """WITH r AS MATERIALIZED (SELECT * FROM a WHERE score IS NOT NULL),
g AS (
    SELECT score, count(*) FILTER (positive) AS p, count(*) FILTER (NOT positive) AS n
    FROM r GROUP BY score
),
c AS (
    SELECT score, p, n, sum(p) OVER w AS tp, sum(n) OVER w AS fp FROM g
    WINDOW w AS (ORDER BY score DESC ROWS UNBOUNDED PRECEDING)
),
t AS (
    SELECT coalesce(sum(p), 0)::DOUBLE AS positives, coalesce(sum(n), 0)::DOUBLE AS negatives,
        min(score) AS low, max(score) AS high FROM g
),
d AS (
    SELECT score, p, n, tp, fp,
        CASE WHEN positives = 0 THEN 1 ELSE tp / positives END AS tpr,
        CASE WHEN negatives = 0 THEN 1 ELSE fp / negatives END AS fpr,
        CASE WHEN positives = 0 THEN 1 ELSE (tp - p) / positives END AS tpr0,
        (tp + fp)::DOUBLE AS said, (tp + fp - p - n)::DOUBLE AS said0,
        positives + negatives AS total
    FROM c, t
),
areas AS (
    SELECT coalesce(sum(n * (tp - p / 2.0)), 0)::DOUBLE AS area,
        max(abs(tpr - fpr))::DOUBLE AS ks,
        sum((tpr - tpr0) * (tp / said + CASE WHEN said0 = 0 THEN tp / said
            ELSE (tp - p) / said0 END) / 2)::DOUBLE AS prc,
        sum((said - said0) / total * (tpr + tpr0) / 2)::DOUBLE AS lorenz
    FROM d
),
points AS (
    SELECT min(score) AS score, max(tp)::BIGINT AS tp, max(fp)::BIGINT AS fp
    FROM c, t GROUP BY floor(score / {step})
),
curve AS (
    SELECT list(score ORDER BY score DESC) AS scores, list(tp ORDER BY score DESC) AS tp,
        list(fp ORDER BY score DESC) AS fp
    FROM points
),
rows AS (
    SELECT list(DISTINCT labels) AS labels, sum(loss)::DOUBLE AS loss,
        count(*) FILTER (positive AND said)::BIGINT AS true_positives,
        count(*) FILTER (NOT positive AND said)::BIGINT AS false_positives
    FROM r
)
SELECT labels, loss, true_positives, false_positives, positives::BIGINT AS positives,
    negatives::BIGINT AS negatives, area, ks, prc, lorenz, scores, tp, fp
FROM rows, t, areas, curve"""


def _curves(name: str, table: Table, given: Params, task: str) -> Table:
    step = str(_STREAM_STEP if name.endswith("StreamOp") else _STEP)
    if given.get("outlierValueStrings") is not None:
        step = f"greatest((high - low) * {step}, 1e-300)"
    scores = apply_step(table, name, f"_score_curves.{task}", given, _SCORES, [])
    row = scores._context.sql(_CURVES.replace("{step}", step), tables={"a": scores})
    output = [("Data", pa.string())]
    return apply_step(row, name, "_score_curves.Curves", given, output, [])


def binary(name: str, params: Params, table: Table) -> Table:
    """Evaluate the probabilities of two labels."""
    given = _found(name, params, table)
    _check_texts(name, given, table.schema, "predictionDetailCol")
    given["labelType"] = type_name(table.schema.field(given["labelCol"]).type)
    return _curves(name, table, given, "Scores")


def outliers(name: str, params: Params, table: Table) -> Table:
    """Evaluate the scores of a detector of outliers."""
    given = _found(name, params, table)
    _check_texts(name, given, table.schema, "predictionDetailCol")
    if not given["outlierValueStrings"]:
        raise bad_option(
            name,
            f"{name} needs the parameter 'outlierValueStrings'",
            "it is a list of the labels, as strings, that outliers have",
        )
    return _curves(name, table, given, "OutlierScores")


# --- all rows ---


def multi_class(name: str, params: Params, table: Table) -> Table:
    """Evaluate predicted labels, or the probabilities of labels."""
    given = _found(name, params, table)
    if given["predictionDetailCol"] is not None:
        _check_texts(name, given, table.schema, "predictionDetailCol")
        given["predictionCol"] = None
    elif given["predictionCol"] is None:
        raise bad_option(
            name, f"{name} has no predictions", "set predictionCol or predictionDetailCol"
        )
    given["labelType"] = type_name(table.schema.field(given["labelCol"]).type)
    return _computed(name, "_confusion.multi_class", given, table, "Data")


def _residuals(series: bool) -> Evaluate:
    def evaluate(name: str, params: Params, table: Table) -> Table:
        given = _found(name, params, table)
        check_numbers(name, table.schema, [given["labelCol"], given["predictionCol"]])
        given["series"] = series
        return _computed(name, "_residuals.evaluate", given, table, "regression_eval_result")

    return evaluate


def _label_sets(ranking: bool) -> Evaluate:
    def evaluate(name: str, params: Params, table: Table) -> Table:
        given = _found(name, params, table)
        _check_texts(name, given, table.schema, "labelCol", "predictionCol")
        given["ranking"] = ranking
        return _computed(name, "_label_sets.evaluate", given, table, "data")

    return evaluate


def clusters(name: str, params: Params, table: Table) -> Table:
    """Evaluate clusters, against vectors and labels where they are given."""
    given = _found(name, params, table)
    given["distanceType"] = one_of(name, "distanceType", given["distanceType"], _DISTANCES)
    if given["vectorCol"] is not None:
        check_vectors(name, table.schema, [given["vectorCol"]])
    return _computed(name, "_cluster_quality.evaluate", given, table, "cluster_eval_result")


def declare() -> None:
    """Declare the operators of this module."""
    for name, evaluate, metrics, doc in (
        (
            "EvalBinaryClass",
            binary,
            BinaryClassMetrics,
            "Evaluate a classifier of two labels: exact AUC, K-S, PRC, curves, and counts at 0.5.",
        ),
        (
            "EvalMultiClass",
            multi_class,
            MultiClassMetrics,
            "Evaluate a classifier: confusion matrix and metrics of each label and of all.",
        ),
        (
            "EvalOutlier",
            outliers,
            OutlierMetrics,
            "Evaluate a detector of outliers: curves of its scores, counts of what it says.",
        ),
        (
            "EvalRegression",
            _residuals(False),
            RegressionMetrics,
            "Evaluate predictions of numbers: MSE, MAE, MAPE, R2 and others.",
        ),
        (
            "EvalTimeSeries",
            _residuals(True),
            TimeSeriesMetrics,
            "Evaluate forecasts: MSE, MAE, MAPE, SMAPE, ND and others.",
        ),
        (
            "EvalCluster",
            clusters,
            ClusterMetrics,
            "Evaluate clusters: Calinski-Harabasz, Davies-Bouldin, silhouette; NMI, Rand indices.",
        ),
        (
            "EvalMultiLabel",
            _label_sets(False),
            MultiLabelMetrics,
            "Evaluate sets of labels: precision, recall and F1 of sets, Hamming loss.",
        ),
        (
            "EvalRanking",
            _label_sets(True),
            RankingMetrics,
            "Evaluate ranked labels: MAP, NDCG, precision and recall at k, hit rate.",
        ),
    ):
        evaluation(name, evaluate, metrics, doc)
    windows = "with each window of the stream, and of all its rows."
    stream_evaluation("EvalBinaryClass", binary, f"Evaluate a classifier of two labels {windows}")
    stream_evaluation("EvalMultiClass", multi_class, f"Evaluate a classifier {windows}")
    stream_evaluation("EvalOutlier", outliers, f"Evaluate a detector of outliers {windows}")
    interval = catalogue()["EvalMultiClassStreamOp"].parameters["timeInterval"]
    stream_evaluation(
        "EvalRegression",
        _residuals(False),
        f"Evaluate predictions of numbers {windows}",
        {**catalogue()["EvalRegressionBatchOp"].parameters, "timeInterval": interval},
    )
