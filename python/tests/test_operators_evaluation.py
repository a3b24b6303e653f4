"""Evaluations: metrics against their definitions, computed the long way."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _cluster_quality, _confusion, _label_sets, _residuals
from alink.operators._metrics import (
    ClusterMetrics,
    MultiClassMetrics,
    MultiLabelMetrics,
    RankingMetrics,
    RegressionMetrics,
    TimeSeriesMetrics,
)
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
WORKERS = pytest.mark.parametrize("workers", [1, 3])
approx = pytest.approx


def source(columns: dict[str, Any]) -> Any:
    return pyalink.BatchOperator.fromTable(al.from_arrow(pa.table(columns)))


def details(scores: Any, names: tuple[str, str] = ("yes", "no")) -> list[str]:
    return [json.dumps({names[0]: str(p), names[1]: str(1 - p)}) for p in scores]


def binary(labels: Any, scores: Any, **params: Any) -> Any:
    rows = source({"y": labels, "d": details(scores)})
    op = pyalink.EvalBinaryClassBatchOp(labelCol="Y", predictionDetailCol="d", **params)
    return op.linkFrom(rows).collectMetrics()


LABELS = [["yes", "no"], ["a.b|(", 'x "y"\\'], ["né", "日本"], ["1", "0"], ["a b", "c", "d:e"]]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("quoted", [True, False])
def test_details_of_a_column_are_read_as_one_by_one(labels, compact, quoted):
    chances = RANDOM.dirichlet(np.ones(len(labels)), 200)
    chances[0], chances[1] = np.eye(len(labels))[:2]
    between = (",", ":") if compact else (", ", " : ")
    texts = [
        json.dumps(
            dict(zip(labels, map(str, row) if quoted else row, strict=True)),
            ensure_ascii=False,
            separators=between,
        )
        for row in chances.tolist()
    ]
    found = _confusion.read_details(pa.array(texts), "STRING")
    assert found is not None
    assert found[0] == labels
    one_by_one = [_confusion.read_detail(text, "STRING") for text in texts]
    assert found[1].tolist() == [[row[label] for label in labels] for row in one_by_one]


@pytest.mark.parametrize(
    "text",
    [
        '{"no":"0.5","yes":"0.5"}',
        '{"yes":"0.5","no":"0.6"}',
        '{"yes":"-0.5","no":"1.5"}',
        '{"yes":"nan","no":"0.5"}',
        '{"yes":"x","no":"0.5"}',
        '{"yes":"0.5"}',
        '{"yes":"0.5","no":"0.5","z":"0"}',
        '{"yes":"0.5","no":"0.5"} x',
        "",
        "{}",
    ],
)
def test_details_that_differ_are_left_to_be_read_one_by_one(text):
    column = pa.array(['{"yes":"0.25","no":"0.75"}', text])
    assert _confusion.read_details(column, "STRING") is None
    assert _confusion.read_details(pa.array([text] * 2), "STRING") is None or text.startswith(
        ('{"no"', '{"yes":"0.5","no":"0.5","z"')
    )


def test_details_in_any_order_are_evaluated_alike():
    scores = RANDOM.random(300)
    labels = np.where(RANDOM.random(300) < scores, "yes", "no").tolist()
    alike = details(scores)
    mixed = [
        t if i % 2 else json.dumps(dict(reversed(json.loads(t).items())))
        for i, t in enumerate(alike)
    ]
    for op in (pyalink.EvalBinaryClassBatchOp, pyalink.EvalMultiClassBatchOp):
        one, other = (
            op(labelCol="y", predictionDetailCol="d")
            .linkFrom(source({"y": [*labels, None], "d": [*given, given[0]]}))
            .collectMetrics()
            for given in (alike, mixed)
        )
        assert one.getLogLoss() == approx(other.getLogLoss(), rel=1e-12)
        assert one.getConfusionMatrix() == other.getConfusionMatrix()
        assert one.getTotalSamples() == other.getTotalSamples() == 300


def test_scores_with_ties():
    # Few distinct scores, many rows of each: the order of equal scores must not matter.
    scores = RANDOM.integers(1, 10, 400) / 10
    labels = np.where(RANDOM.random(400) < scores, "yes", "no")
    found = binary(labels.tolist(), scores)
    positive, negative = scores[labels == "yes"], scores[labels == "no"]
    pairs = positive[:, None] - negative
    assert found.getAuc() == approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    steps = np.unique(scores)[::-1]
    tpr = np.array([0, *((positive >= s).mean() for s in steps)])
    fpr = np.array([0, *((negative >= s).mean() for s in steps)])
    share = np.array([0, *((scores >= s).mean() for s in steps)])
    precision = np.array([(labels[scores >= s] == "yes").mean() for s in steps])
    precision = np.concatenate(([precision[0]], precision))
    assert found.getKs() == approx(np.abs(tpr - fpr).max())
    assert found.getPrc() == approx(np.sum(np.diff(tpr) * (precision[1:] + precision[:-1]) / 2))
    lorenz = np.sum(np.diff(share) * (tpr[1:] + tpr[:-1]) / 2)
    assert found.getGini() == approx(2 * lorenz - 1)
    likely = np.where(labels == "yes", scores, 1 - scores)
    assert found.getLogLoss() == approx(-np.log(likely).mean())
    said = scores >= 0.5
    tp, fp = (said & (labels == "yes")).sum(), (said & (labels == "no")).sum()
    assert found.getConfusionMatrix() == [[tp, fp], [len(positive) - tp, len(negative) - fp]]
    assert found.getPrecision() == approx(tp / (tp + fp))
    assert found.getRecall() == approx(tp / len(positive))
    assert found.getF1() == approx(2 * tp / (tp + fp + len(positive)))
    assert np.allclose(found.getRocCurve(), [fpr, tpr])
    assert np.allclose(found.getThresholdArray(), [1.0, *steps])
    thresholds, recall = found.getRecallByThreshold()
    assert len(thresholds) == len(recall) == len(steps) + 1
    assert np.allclose(recall, tpr)


def test_many_scores_have_few_points():
    scores = RANDOM.random(20_000)
    labels = np.where(RANDOM.random(20_000) < scores, "yes", "no")
    found = binary(labels.tolist(), scores)
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    p = (labels == "yes").sum()
    wanted = (ranks[labels == "yes"].sum() - p * (p + 1) / 2) / p / (len(scores) - p)
    assert found.getAuc() == approx(wanted, rel=1e-12)
    assert 900 < len(found.getThresholdArray()) <= 1002


def test_the_positive_label():
    assert binary(["yes", "no"], [0.9, 0.2]).getLabelArray() == ["yes", "no"]
    found = binary(["yes", "no"], [0.9, 0.2], positiveLabelValueString="no")
    assert found.getLabelArray() == ["no", "yes"]
    assert found.getAuc() == 1.0
    rows = source({"y": [2, 10], "d": details([0.1, 0.2], ("10", "2"))})
    op = pyalink.EvalBinaryClassBatchOp(labelCol="y", predictionDetailCol="d")
    assert op.linkFrom(rows).collectMetrics().getLabelArray() == ["10", "2"]  # by their values


def test_one_class_has_no_area():
    found = binary(["yes", "yes", None], [0.9, 0.2, 0.5])
    assert math.isnan(found.getAuc())
    assert found.getTotalSamples() == 2
    assert "Auc:NaN\t" in str(found)


@pytest.mark.parametrize(
    ("labels", "given", "told"),
    [
        (["maybe"], ['{"yes":"0.5","no":"0.5"}'], "the label 'maybe' of 'y' is none of"),
        (["yes"], ['{"yes":"1.0"}'], "probabilities of 1 labels where 2 are needed"),
        (["yes"], ['{"yes":"0.5","no":"0.1"}'], "do not add up to 1"),
        (["yes"], ["yes"], "gives no probabilities of labels as JSON"),
        ([None], ["{}"], "no row has both a label and a predictionDetail"),
        (["a", "c"], ['{"a":"1","b":"0"}', '{"c":"1","b":"0"}'], "are of different labels"),
    ],
)
def test_bad_details(labels, given, told):
    rows = source({"y": pa.array(labels, pa.string()), "d": given})
    op = pyalink.EvalBinaryClassBatchOp(labelCol="y", predictionDetailCol="d")
    with pytest.raises(al.Error, match=told):
        op.linkFrom(rows).collectMetrics()


def test_bad_columns():
    rows = source({"y": ["a"], "n": [1.0]})
    with pytest.raises(al.Error, match='column "n" is DOUBLE'):
        pyalink.EvalBinaryClassBatchOp(labelCol="y", predictionDetailCol="n").linkFrom(rows)
    with pytest.raises(al.Error, match='column "y" is STRING'):
        pyalink.EvalRegressionBatchOp(labelCol="n", predictionCol="y").linkFrom(rows)
    with pytest.raises(al.Error, match="has no predictions"):
        pyalink.EvalMultiClassBatchOp(labelCol="y").linkFrom(rows)
    with pytest.raises(al.Error, match="needs the parameter 'outlierValueStrings'"):
        pyalink.EvalOutlierBatchOp(labelCol="y", predictionDetailCol="y").linkFrom(rows)
    with pytest.raises(al.Error, match='there is no column "z"'):
        pyalink.EvalClusterBatchOp(predictionCol="z").linkFrom(rows)


# --- several labels ---


def classified(rows: pa.Table, workers: int = 1, **params: Any) -> MultiClassMetrics:
    kind = "INT" if pa.types.is_integer(rows.schema.field("y").type) else "STRING"
    given = {"labelCol": "y", "labelType": kind, "column": "Data", **params}
    run = _confusion.multi_class(given)
    return MultiClassMetrics(train(run, rows, workers, batch_rows=50))


@WORKERS
def test_predicted_labels(workers):
    real, said = RANDOM.integers(8, 12, 300), RANDOM.integers(8, 12, 300)
    rows = pa.table({"y": [*real.tolist(), None, 8], "p": [*said.tolist(), 8, None]})
    found = classified(rows, workers, predictionCol="p")
    assert found.getLabelArray() == ["11", "10", "9", "8"]
    labels = [11, 10, 9, 8]
    matrix = [[int(((said == p) & (real == r)).sum()) for r in labels] for p in labels]
    assert found.getConfusionMatrix() == matrix
    agreed = (real == said).mean()
    chance = sum((real == v).mean() * (said == v).mean() for v in labels)
    assert found.getAccuracy() == approx(agreed)
    assert found.getKappa() == approx((agreed - chance) / (1 - chance))
    precisions = [(real[said == v] == v).mean() for v in labels]
    recalls = [(said[real == v] == v).mean() for v in labels]
    f1 = [2 * p * r / (p + r) for p, r in zip(precisions, recalls, strict=True)]
    share = [(real == v).mean() for v in labels]
    assert found.getPrecision(9) == approx(precisions[2])
    assert found.getMacroF1() == approx(np.mean(f1))
    assert found.getWeightedF1() == approx(np.dot(f1, share))
    assert found.getMicroF1() == approx(agreed)
    assert found.getAccuracy("8") == approx(((real == 8) == (said == 8)).mean())
    assert found.getLogLoss() is None
    with pytest.raises(al.Error, match='there is no label "7"'):
        found.getRecall(7)


@WORKERS
def test_details_of_several_labels(workers):
    given = ['{"a":0.5,"b":0.3,"c":0.2}', '{"a":0.4,"b":0.2,"c":0.4}', '{"a":0,"b":1,"c":0}']
    rows = pa.table({"y": ["a", "c", "d"], "d": given})
    found = classified(rows, workers, predictionDetailCol="d")
    assert found.getLabelArray() == ["d", "c", "b", "a"]
    assert found.getConfusionMatrix()[3] == [0, 1, 0, 1]  # of equal ones the least is predicted
    assert found.getLogLoss() == approx(-np.log([0.5, 0.4, 1e-15]).mean())


def test_printed_as_pyalink_prints():
    found = classified(pa.table({"y": ["a", "b", "b"], "p": ["a", "b", "a"]}), predictionCol="p")
    assert str(found) == (
        "-------------------------------- Metrics: --------------------------------\n"
        "Accuracy:0.6667\tMacro F1:0.6667\tMicro F1:0.6667\tKappa:0.4\t\n"
        "|Pred\\Real|  b|  a|\n"
        "|---------|---|---|\n"
        "|        b|  1|  0|\n"
        "|        a|  1|  1|\n"
    )
    labels = [str(i) for i in range(8)]
    found = classified(pa.table({"y": labels, "p": labels}), predictionCol="p")
    assert "|Pred\\Real|  7|  6|  5|...|  2|  1|  0|\n" in str(found)
    assert "|      ...|...|...|...|...|...|...|...|\n" in str(found)
    with pytest.raises(AttributeError, match=r"has no getMacroF2: did you mean .*getMacroF1"):
        found.getMacroF2()


# --- numbers ---


@WORKERS
def test_numbers(workers):
    real, said = RANDOM.normal(1e6, 3, 200), RANDOM.normal(1e6, 3, 200)
    rows = pa.table({"y": [*real, None, 1.0], "p": [*said, 1.0, math.nan]})
    params = {"labelCol": "y", "predictionCol": "p", "column": "x"}
    run = _residuals.evaluate({**params, "series": False})
    found = RegressionMetrics(train(run, rows, workers, batch_rows=30))
    error = real - said
    sst = ((real - real.mean()) ** 2).sum()
    wanted = {
        "getCount": 200,
        "getSse": (error**2).sum(),
        "getMse": (error**2).mean(),
        "getRmse": math.sqrt((error**2).mean()),
        "getMae": np.abs(error).mean(),
        "getSae": np.abs(error).sum(),
        "getMape": np.abs(error / real).mean() * 100,
        "getSst": sst,
        "getSsr": ((said - real.mean()) ** 2).sum(),
        "getR2": 1 - (error**2).sum() / sst,
        "getYMean": real.mean(),
        "getPredictionMean": said.mean(),
        "getExplainedVariance": ((said - real.mean()) ** 2).mean(),
    }
    for method, value in wanted.items():
        assert getattr(found, method)() == approx(value, rel=1e-9), method
    run = _residuals.evaluate({**params, "series": True})
    series = TimeSeriesMetrics(train(run, rows, workers, batch_rows=30))
    smape = (np.abs(error) / (np.abs(real) + np.abs(said))).mean() * 200
    assert series.getSmape() == approx(smape)
    assert series.getND() == approx(np.abs(error).sum() / np.abs(real).sum())


# --- clusters ---


def quality(rows: pa.Table, workers: int = 1, **params: Any) -> ClusterMetrics:
    given = {"predictionCol": "c", "distanceType": "EUCLIDEAN", "column": "x", **params}
    return ClusterMetrics(train(_cluster_quality.evaluate(given), rows, workers, batch_rows=20))


@WORKERS
@pytest.mark.parametrize("distance", ["EUCLIDEAN", "COSINE", "CITYBLOCK"])
@pytest.mark.parametrize("sparse", [False, True])
def test_shapes_of_clusters(workers, distance, sparse):
    points = RANDOM.random((90, 3)) + 0.1
    clusters = RANDOM.integers(0, 3, 90)
    if sparse:
        texts = [f"$3${' '.join(f'{i}:{v!r}' for i, v in enumerate(p.tolist()))}" for p in points]
    else:
        texts = [" ".join(map(repr, p.tolist())) for p in points]
    rows = pa.table({"c": [*clusters.tolist(), None], "v": [*texts, None]})
    found = quality(rows, workers, vectorCol="v", distanceType=distance)
    if distance == "COSINE":
        points = points / np.linalg.norm(points, axis=1, keepdims=True)

    def far(a: Any, b: Any) -> float:
        if distance == "EUCLIDEAN":
            return float(np.linalg.norm(a - b))
        if distance == "CITYBLOCK":
            return float(np.abs(a - b).sum())
        return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))

    own = [points[clusters == k] for k in range(3)]
    centres = [part.mean(axis=0) for part in own]
    near = [np.mean([far(p, c) for p in part]) for part, c in zip(own, centres, strict=True)]
    ssw = sum(far(p, centres[k]) ** 2 for p, k in zip(points, clusters, strict=True))
    ssb = sum(
        len(part) * far(c, points.mean(axis=0)) ** 2 for part, c in zip(own, centres, strict=True)
    )
    db = np.mean(
        [
            max((near[i] + near[j]) / far(centres[i], centres[j]) for j in range(3) if j != i)
            for i in range(3)
        ]
    )
    assert found.getSsw() == approx(ssw)
    assert found.getSsb() == approx(ssb)
    assert found.getVrc() == approx(ssb * (90 - 3) / ssw / 2)
    assert found.getCp() == approx(np.mean(near))
    assert found.getDb() == approx(db)
    assert (found.getK(), found.getCount(), found.getClusterArray()) == (3, 90, ["0", "1", "2"])
    if distance == "CITYBLOCK":
        assert found.getSilhouetteCoefficient() is None
        return

    def apart(a: Any, b: Any) -> float:
        return far(a, b) ** 2 if distance == "EUCLIDEAN" else far(a, b)

    silhouettes = []
    for p, k in zip(points, clusters, strict=True):
        a = sum(apart(p, q) for q in own[k]) / (len(own[k]) - 1)
        b = min(np.mean([apart(p, q) for q in own[j]]) for j in range(3) if j != k)
        silhouettes.append((b - a) / max(a, b))
    assert found.getSilhouetteCoefficient() == approx(np.mean(silhouettes))


@WORKERS
def test_clusters_against_labels(workers):
    clusters, labels = RANDOM.integers(0, 3, 60), RANDOM.integers(0, 4, 60)
    rows = pa.table({"c": clusters, "l": [f"é{v}" for v in labels]})
    found = quality(rows, workers, labelCol="l")
    i, j = np.triu_indices(60, 1)
    same, alike = clusters[i] == clusters[j], labels[i] == labels[j]
    assert found.getRi() == approx((same == alike).mean())
    both, chance = (same & alike).sum(), same.sum() * alike.sum() / len(i)
    assert found.getAri() == approx((both - chance) / ((same.sum() + alike.sum()) / 2 - chance))
    purity = sum(np.bincount(labels[clusters == k]).max() for k in range(3)) / 60
    assert found.getPurity() == approx(purity)
    joint = np.histogram2d(clusters, labels, (3, 4))[0] / 60
    entropies = [-(p * np.log2(p)).sum() for p in (joint.sum(axis=0), joint.sum(axis=1))]
    seen = joint > 0
    outer = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    information = (joint[seen] * np.log2(joint[seen] / outer[seen])).sum()
    assert found.getNmi() == approx(2 * information / sum(entropies))
    assert found.getSsw() is None
    assert "|Label\\Cluster|  2|  1|  0|\n" in str(found)


def test_one_cluster_and_none():
    found = quality(pa.table({"c": [1, 1], "v": ["0 1", "1 0"]}), vectorCol="v")
    assert found.getSsw() == approx(1.0)
    assert math.isnan(found.getVrc())
    assert found.getSilhouetteCoefficient() is None
    with pytest.raises(ValueError, match="no row has a cluster in 'c'"):
        quality(pa.table({"c": pa.array([None], pa.int64())}))
    with pytest.raises(ValueError, match="NaN or infinite values"):
        quality(pa.table({"c": [1], "v": ["NaN 1"]}), vectorCol="v")


# --- sets of labels ---


@WORKERS
def test_sets_of_labels(workers):
    sets = [([0, 1], [0, 2]), ([0, 2], [0, 1]), ([], [0]), ([2], [2]), ([2, 0], [2, 0])]
    sets += [([0, 1, 1], [0, 1]), ([1], [1, 2])]
    text = [[json.dumps({"object": json.dumps(s)}) for s in part] for part in zip(*sets)]  # noqa: B905
    rows = pa.table({"p": [*text[0], None], "y": [*text[1], text[1][0]]})
    given = {"labelCol": "y", "predictionCol": "p", "column": "data", "ranking": False}
    given |= {"labelRankingInfo": "object", "predictionRankingInfo": "object"}
    found = MultiLabelMetrics(train(_label_sets.evaluate(given), rows, workers, batch_rows=2))
    said, real = ([set(s) for s in part] for part in zip(*sets))  # noqa: B905
    both = [len(p & r) for p, r in zip(said, real, strict=True)]
    every = [len(p | r) for p, r in zip(said, real, strict=True)]
    lengths = sum(map(len, said)), sum(map(len, real))
    assert found.getMicroPrecision() == approx(sum(both) / lengths[0])
    assert found.getMicroRecall() == approx(sum(both) / lengths[1])
    assert found.getMicroF1() == approx(2 * sum(both) / sum(lengths))
    assert found.getAccuracy() == approx(np.mean(np.divide(both, every)))
    assert found.getHammingLoss() == approx(sum(np.subtract(every, both)) / 7 / 3)
    assert found.getSubsetAccuracy() == approx(3 / 7)


@WORKERS
def test_rankings(workers):
    said = ["[1,6,2,7,8,3,9,10,4,5]", "[4,1,5,6,2,7,3,8,9,10]", "[1,2,3]", "[8]"]
    real = ['{"object":"[1,2,3,4,5]"}', '{"object":"[1,2,3]"}', '{"object":"[]"}', "[9, 8]"]
    rows = pa.table({"p": said, "y": real})
    given = {"labelCol": "y", "predictionCol": "p", "column": "data", "ranking": True}
    given |= {"labelRankingInfo": "object", "predictionRankingInfo": "object"}
    found = RankingMetrics(train(_label_sets.evaluate(given), rows, workers, batch_rows=1))
    first = (1 / 1 + 2 / 3 + 3 / 6 + 4 / 9 + 5 / 10) / 5
    second = (1 / 2 + 2 / 5 + 3 / 7) / 3
    assert found.getMap() == approx((first + second + 0 + 1 / 2) / 4)
    assert found.getPrecisionAtK(2) == approx((1 / 2 + 1 / 2 + 0 + 1 / 2) / 4)
    assert found.getRecallAtK(1) == approx((1 / 5 + 0 + 0 + 1 / 2) / 4)
    gains = 1 / np.log2(np.arange(2, 12))
    at3 = (gains[0] + gains[2]) / gains[:3].sum(), gains[1] / gains[:3].sum(), 0
    assert found.getNdcg(3) == approx(sum(at3) / 4)  # the last row has two places
    assert found.getHitRate() == approx(2 / 4)
    assert found.getArHr() == approx((1 + 1 / 2) / 4)
    with pytest.raises(al.Error, match="k is from 1 to 10"):
        found.getNdcg(11)


# --- outliers, streams, printing ---


def test_outliers_are_what_the_detector_says():
    scores, said = [3.0, 0.2, 2.5, 1.0], [True, False, False, True]
    given = [
        json.dumps({"outlier_score": str(s), "is_outlier": str(o).lower()})
        for s, o in zip(scores, said, strict=True)
    ]
    rows = source({"y": [1, 0, 1, 0], "d": given})
    op = pyalink.EvalOutlierBatchOp(
        labelCol="y", predictionDetailCol="d", outlierValueStrings=["1"]
    )
    found = op.linkFrom(rows).collectMetrics()
    assert found.getAuc() == 1.0
    assert found.getConfusionMatrix() == [[1, 1], [1, 1]]
    assert "Outlier values: [1]\t\tNormal values: [0]\nAuc:1\tAccuracy:0.5\t" in str(found)


def test_streams_have_a_window_and_all():
    frame = pd.DataFrame({"y": ["yes", "no", "yes"], "d": details([0.8, 0.6, 0.4])})
    stream = pyalink.StreamOperator.fromDataframe(frame, "y string, d string")
    rows: list[Any] = []
    for name in ("EvalBinaryClass", "EvalMultiClass"):
        op = getattr(pyalink, f"{name}StreamOp")(labelCol="y", predictionDetailCol="d")
        found = op.linkFrom(stream)
        assert found.getColNames() == ["Statistics", "Data"]
        found.lazyCollectToDataframe(rows.append)
    pyalink.StreamOperator.execute()
    for found in rows:
        assert found["Statistics"].tolist() == ["window", "all"]
        data = json.loads(found["Data"][1])
        assert json.loads(data["Accuracy"]) == approx(1 / 3)
    assert json.loads(json.loads(rows[0]["Data"][0])["AUC"]) == 0.5


def test_lazily(capsys):
    rows = source({"y": [1.0, 2.0], "p": [1.0, 3.0]})
    seen: list[Any] = []
    op = pyalink.EvalRegressionBatchOp(labelCol="y", predictionCol="p").linkFrom(rows)
    op.lazyPrintMetrics("numbers").lazyCollectMetrics(seen.append)
    assert not seen
    pyalink.BatchOperator.execute()
    assert seen[0].getMae() == 0.5
    assert capsys.readouterr().out.startswith("numbers\n-------")
