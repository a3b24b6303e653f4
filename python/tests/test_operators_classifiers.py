"""Naive Bayes, nearest neighbours and perceptrons, against their definitions."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _knn, _naive_bayes, _naive_bayes_text, _perceptrons
from alink._algorithms._blocks import Blocks, Scaling
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(3)
WORKERS = pytest.mark.parametrize("workers", [1, 3])
approx = pytest.approx
TYPES = [pa.string(), pa.string()]


def predicted(module: Any, model: pa.Table, rows: pa.Table, **params: Any) -> Any:
    """Give the labels and the probabilities that a model gives rows."""
    task = module.Predict({"k": 10, "vectorCol": None, **params}, TYPES)
    task.load(model)
    labels, details = task(rows.combine_chunks().to_batches()[0])
    given = [None if d is None else json.loads(d) for d in details.to_pylist()]
    return labels.to_pylist(), given


def source(rows: pa.Table) -> Any:
    return pyalink.BatchOperator.fromTable(al.from_arrow(rows))


def told(problem: str) -> Any:
    return pytest.raises(al.Error, match=problem)


# --- naive Bayes of columns ---


def bayes(rows: pa.Table, features: list[str], workers: int = 1, **params: Any) -> pa.Table:
    is_text = [not pa.types.is_floating(rows.schema.field(f).type) for f in features]
    given = {"featureCols": features, "isCate": is_text, "labelCol": "y", "smoothing": 1.0}
    return train(_naive_bayes.train({**given, **params}), rows, workers, batch_rows=7)


@WORKERS
def test_bayes_of_numbers_and_categories(workers):
    labels = RANDOM.choice(["é", "b"], 60)
    colours = RANDOM.choice(["red", "green", "blue"], 60)
    heights = RANDOM.normal(1e6, 1.0, 60) + (labels == "é")
    weights = RANDOM.integers(1, 4, 60).astype(float)
    rows = pa.table({"y": labels, "c": colours, "h": heights, "w": weights})
    model = bayes(rows, ["c", "h"], workers, weightCol="w")
    found, details = predicted(_naive_bayes, model, rows)
    scores = []
    for label in ("é", "b"):
        own = labels == label
        total = weights[own].sum()
        mean = (weights * heights)[own].sum() / total
        variance = (weights * (heights - mean) ** 2)[own].sum() / total
        share = {
            c: (weights[own & (colours == c)].sum() + 1) / (total + 3)
            for c in ("red", "green", "blue")
        }
        # Alink counts a label's weight once for each feature.
        prior = (2 * total + 1) / (2 * weights.sum() + 2)
        density = np.exp(-((heights - mean) ** 2) / 2 / variance) / np.sqrt(variance)
        scores.append(prior * np.array([share[c] for c in colours]) * density)
    wanted = scores[0] / (scores[0] + scores[1])
    assert np.allclose([d["é"] for d in details], wanted)
    assert found == ["é" if p >= 0.5 else "b" for p in wanted]


def test_bayes_without_some_values():
    rows = pa.table(
        {
            "y": ["a", "a", "b", "b", "b"],
            "c": ["x", None, "z", "z", "x"],
            "h": pa.array([1.0, 1.0, None, 5.0, math.nan]),
        }
    )
    model = bayes(rows, ["c", "h"])
    new = pa.table({"c": ["x", "unknown", None], "h": pa.array([None, None, 1.0])})
    found, details = predicted(_naive_bayes, model, new)
    prior = (3 + 1) / (7 + 2), (4 + 1) / (7 + 2)
    a, b = prior[0] * (1 + 1) / (1 + 2), prior[1] * (1 + 1) / (3 + 2)
    assert details[0]["a"] == approx(a / (a + b))
    assert details[1]["a"] == approx(prior[0])  # nothing is known but how frequent labels are
    assert (found[2], details[2]["a"]) == ("a", approx(1.0))  # the one value that a has


def test_bayes_of_impossible_rows():
    rows = pa.table({"y": ["a", "b"], "c": ["x", "z"], "d": ["x", "z"]})
    model = bayes(rows, ["c", "d"], smoothing=0.0)
    found, details = predicted(_naive_bayes, model, pa.table({"c": ["x", "x"], "d": ["x", "z"]}))
    assert found == ["a", None]
    assert details == [{"b": 0.0, "a": 1.0}, None]


def test_bayes_as_operators():
    rows = pa.table(
        {"y": [1, 1, 0, 0], "n": [1, 1, 2, 2], "t": ["p", "q", "q", "r"], "h": [0.1, 0.3, 2.0, 2.5]}
    )
    stage = pyalink.NaiveBayes(
        featureCols=["N", "t", "h"], categoricalCols=["n"], labelCol="y", predictionCol="p"
    )
    model = stage.setSmoothing(0.5).setPredictionDetailCol("d").fit(source(rows))
    frame = model.transform(source(rows)).collectToDataframe()
    assert frame["p"].tolist() == [1, 1, 0, 0]
    assert str(frame["p"].dtype) == "Int64"
    local = model.collectLocalPredictor("y long, n long, t string, h double")
    assert local.map([1, 2, "r", 2.2])[-2] == 0
    op = pyalink.NaiveBayesTrainBatchOp(featureCols=["h"], labelCol="y")
    trained = op.linkFrom(source(rows))
    stream = pyalink.StreamOperator.fromTable(al.from_arrow(rows))
    streamed = pyalink.NaiveBayesPredictStreamOp(trained, predictionCol="p").linkFrom(stream)
    assert streamed.collectToDataframe()["p"].tolist() == [1, 1, 0, 0]


def test_bad_bayes():
    rows = source(pa.table({"y": ["a", None], "h": [1.0, 2.0], "v": ["1 0", "0 2"]}))
    with told('"h" of categoricalCols is of type DOUBLE'):
        pyalink.NaiveBayesTrainBatchOp(
            featureCols=["h"], categoricalCols=["h"], labelCol="y"
        ).linkFrom(rows)
    with told("the label 'y' is NULL"):
        op = pyalink.NaiveBayesTrainBatchOp(featureCols=["h"], labelCol="y")
        op.linkFrom(rows).collectToDataframe()
    with told("'smoothing' is 0 or more"):
        pyalink.NaiveBayesTextTrainBatchOp(vectorCol="v", labelCol="h", smoothing=-1.0).linkFrom(
            rows
        )
    with told("other values than 0 and 1"):
        op = pyalink.NaiveBayesTextTrainBatchOp(vectorCol="v", labelCol="h")
        op.setModelType("bernoulli").linkFrom(rows).collectToDataframe()


# --- naive Bayes of vectors ---


@WORKERS
@pytest.mark.parametrize("kind", ["Multinomial", "Bernoulli"])
@pytest.mark.parametrize("sparse", [False, True])
def test_bayes_of_vectors(workers, kind, sparse):
    counts = RANDOM.integers(0, 2 if kind == "Bernoulli" else 4, (40, 5))
    labels = RANDOM.choice(["a", "b", "c"], 40)
    weights = RANDOM.integers(1, 3, 40)
    if sparse:
        texts = [
            "$5$" + " ".join(f"{i}:{float(v)}" for i, v in enumerate(row) if v) for row in counts
        ]
    else:
        texts = [" ".join(map(str, row)) for row in counts.astype(float)]
    rows = pa.table({"y": labels, "v": texts, "w": weights})
    given = {"vectorCol": "v", "labelCol": "y", "weightCol": "w", "smoothing": 0.7}
    run = _naive_bayes_text.train({**given, "modelType": kind})
    model = train(run, rows, workers, batch_rows=9)
    beyond = [*texts, "$9$8:1.0"] if sparse else texts  # a word that the training had not
    found, details = predicted(_naive_bayes_text, model, pa.table({"v": beyond}), vectorCol="v")
    logs = []
    for label in ("c", "b", "a"):
        own = labels == label
        sums = (counts * weights[:, None])[own].sum(axis=0)
        prior = np.log((weights[own].sum() + 0.7) / (weights.sum() + 3 * 0.7))
        if kind == "Bernoulli":
            p = (sums + 0.7) / (weights[own].sum() + 1.4)
            logs.append(prior + counts @ np.log(p) + (1 - counts) @ np.log(1 - p))
        else:
            logs.append(prior + counts @ np.log((sums + 0.7) / (sums.sum() + 5 * 0.7)))
    wanted = np.exp(logs) / np.exp(logs).sum(axis=0)
    assert np.allclose([[d[k] for k in "cba"] for d in details[:40]], wanted.T)
    assert found[:40] == ["cba"[i] for i in wanted.argmax(axis=0)]


# --- neighbours ---


def distances(name: str, a: Any, b: Any) -> Any:
    if name == "EUCLIDEAN":
        return np.sqrt(((a[:, None] - b) ** 2).sum(axis=2))
    if name == "CITYBLOCK":
        return np.abs(a[:, None] - b).sum(axis=2)
    if name == "PEARSON":
        return 1 - np.corrcoef(a, b)[: len(a), len(a) :]
    if name == "COSINE":
        lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        return 1 - a @ b.T / lengths
    la, lb = np.radians(a[:, :1]), np.radians(b[:, 0])
    flat = np.sin((la - lb) / 2) ** 2
    turn = np.sin(np.radians(a[:, 1:2] - b[:, 1]) / 2) ** 2
    return np.arcsin(np.sqrt(flat + np.cos(la) * np.cos(lb) * turn))


@WORKERS
@pytest.mark.parametrize("name", ["EUCLIDEAN", "COSINE", "CITYBLOCK", "HAVERSINE", "PEARSON"])
@pytest.mark.parametrize("sparse", [False, True])
def test_neighbours(workers, name, sparse, monkeypatch):
    if sparse and name not in ("EUCLIDEAN", "COSINE"):
        return
    monkeypatch.setattr(_knn, "_CHUNK_ROWS", 16)
    size = 2 if name == "HAVERSINE" else 4
    points = RANDOM.normal(20, 10, (120, size))
    labels = RANDOM.choice(["a", "b", "c"], 120)
    if sparse:
        texts = [
            f"${size}$" + " ".join(f"{i}:{v!r}" for i, v in enumerate(p.tolist())) for p in points
        ]
    else:
        texts = [" ".join(map(repr, p.tolist())) for p in points]
    known, new = slice(0, 90), slice(90, 120)
    given = {"vectorCol": "v", "labelCol": "y", "distanceType": name}
    rows = pa.table({"y": labels[known], "v": texts[known]})
    model = train(_knn.train(given), rows, workers, batch_rows=11)
    found, details = predicted(_knn, model, pa.table({"v": [*texts[new], None]}), k=5)
    order = np.argsort(distances(name, points[new], points[known]), axis=1)[:, :5]
    near = labels[known][order]
    for label, shares, row in zip(found, details, near, strict=False):
        counts = {k: int((row == k).sum()) for k in ("a", "b", "c")}
        assert shares == approx({k: v / 5 for k, v in counts.items()})
        best = max(counts.values())
        assert label == next(k for k in row if counts[k] == best)  # of equal ones the nearest
    assert (found[-1], details[-1]) == (None, None)


def test_near_points_far_from_zero():
    # By products alone nothing would be left of differences that are so small.
    values = [1e8 + i * 1e-3 for i in range(8)]
    rows = pa.table({"y": [str(i) for i in range(8)], "x": values})
    given = {"featureCols": ["x"], "labelCol": "y", "distanceType": "EUCLIDEAN"}
    model = train(_knn.train(given), rows)
    found, _ = predicted(_knn, model, rows, k=1)
    assert found == [str(i) for i in range(8)]


def test_more_neighbours_than_rows():
    rows = pa.table({"y": [2, 2, 1], "x": [0.0, 1.0, 9.0]})
    op = pyalink.KnnTrainBatchOp(featureCols=["x"], labelCol="y").linkFrom(source(rows))
    predict = pyalink.KnnPredictBatchOp(predictionCol="p", k=10, predictionDetailCol="d")
    frame = predict.linkFrom(op, source(rows)).collectToDataframe()
    assert frame["p"].tolist() == [2, 2, 2]
    assert json.loads(frame["d"].tolist()[0]) == {"2": approx(2 / 3), "1": approx(1 / 3)}
    with told("'k' is 1 or more"):
        pyalink.KnnPredictBatchOp(predictionCol="p", k=0).linkFrom(op, source(rows))
    with told("'distanceType' cannot be 'JACCARD'|\"distanceType\" cannot be 'JACCARD'"):
        pyalink.KnnTrainBatchOp(featureCols=["x"], labelCol="y", distanceType="JACCARD").linkFrom(
            source(rows)
        )
    with told("HAVERSINE takes two features"):
        pyalink.KnnTrainBatchOp(featureCols=["x"], labelCol="y", distanceType="HAVERSINE").linkFrom(
            source(rows)
        )
    wrong = pa.table({"y": ["a"], "v": ["1 2"]})
    with told("there are no rows to train with"):
        empty = pyalink.KnnTrainBatchOp(vectorCol="v", labelCol="y").linkFrom(
            source(wrong.slice(0, 0))
        )
        empty.collectToDataframe()


# --- perceptrons ---


def network(rows: pa.Table, workers: int = 1, **params: Any) -> pa.Table:
    given = {
        "labelCol": "y",
        "featureCols": ["x", "z"],
        "layers": [2, 5, 2],
        "maxIter": 100,
        "epsilon": 1e-6,
        **params,
    }
    return train(_perceptrons.train(given), rows, workers, batch_rows=13)


def spiral() -> pa.Table:
    x, z = RANDOM.normal(0, 30, 200), RANDOM.normal(0, 1, 200)
    return pa.table({"y": np.where((x > 0) == (z > 0), "in", "out"), "x": x, "z": z})


@WORKERS
def test_what_no_line_divides(workers):
    rows = spiral()
    model = network(rows, workers, maxIter=300)
    found, details = predicted(_perceptrons, model, rows)
    assert np.mean(np.array(found) == rows["y"].to_numpy()) > 0.97
    assert all(sum(d.values()) == approx(1.0) for d in details)


def test_workers_come_to_the_same_network():
    rows = spiral()
    one, three = (network(rows, workers, maxIter=15) for workers in (1, 3))
    weights = [json.loads(m["model_info"][1].as_py())["data"] for m in (one, three)]
    assert np.allclose(*weights, rtol=1e-5)


@pytest.mark.parametrize("vector", [False, True])
def test_gradient(vector):
    rows = spiral().slice(0, 30)
    if vector:
        pairs = zip(rows["x"].to_pylist(), rows["z"].to_pylist(), strict=True)
        rows = rows.append_column("v", pa.array([f"$2$0:{x!r} 1:{z!r}" for x, z in pairs]))
    seen: list[float] = []

    def check(group: Any) -> None:
        names = {"vectorCol": "v"} if vector else {"featureCols": ["x", "z"]}
        blocks = Blocks(group, {**names, "labelCol": "y"})
        codes = blocks.codes(blocks.labels())
        scaling = Scaling(np.zeros(2), np.array([40.0, 3.0]))
        layers = [2, 4, 3, 2]
        at = RANDOM.normal(0, 1, _perceptrons.weight_count(layers))
        _, gradient = _perceptrons._pass(blocks, codes, scaling, at, layers)
        for i in range(len(at)):
            step = np.zeros(len(at))
            step[i] = 1e-5
            high, low = (
                _perceptrons._pass(blocks, codes, scaling, at + s, layers)[0] for s in (step, -step)
            )
            seen.append(abs((high - low) / 2e-5 - gradient[i]))

    train(check, rows)
    assert len(seen) == 35
    assert max(seen) < 1e-7


def test_networks_as_operators():
    rows = spiral().append_column("n", pa.array([None] * 200, pa.float64()))
    op = pyalink.MultilayerPerceptronTrainBatchOp(
        featureCols=["x", "z"], labelCol="y", layers=[2, 4, 2], maxIter=5
    )
    model = op.linkFrom(source(rows))
    predict = pyalink.MultilayerPerceptronPredictBatchOp(predictionCol="p")
    frame = predict.linkFrom(model, source(rows)).collectToDataframe()
    again = predict.linkFrom(op.linkFrom(source(rows)), source(rows)).collectToDataframe()
    assert frame["p"].tolist() == again["p"].tolist()
    start = op.setInitialWeights([0.0] * 22).setMaxIter(0).linkFrom(source(rows))
    zeros = json.loads(start.collectToDataframe()["model_info"].tolist()[1])["data"]
    assert zeros == [0.0] * 22
    with told("'initialWeights' has 3 numbers, but layers of these sizes have 22 weights"):
        op.setInitialWeights("1 2 3").linkFrom(source(rows))


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([3, 2], "'layers' begins with 3, but there are 2 features"),
        ([2], "'layers' cannot be"),
        ([2, 3], "layers ends with 3, but the label 'y' has 2 values"),
    ],
)
def test_bad_layers(layers, problem):
    op = pyalink.MultilayerPerceptronTrainBatchOp(
        featureCols=["x", "z"], labelCol="y", layers=layers
    )
    with told(problem):
        op.linkFrom(source(spiral())).collectToDataframe()
