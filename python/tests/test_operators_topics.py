"""Topics of documents, and k-means on streams."""

from __future__ import annotations

import json
import math
from typing import Any

import groups
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _topics
from alink._algorithms._models import read_model
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
WORDS = [f"w{i}" for i in range(30)]
#: Three topics of ten words each; a document has words of one or two of them.
MIX = RANDOM.dirichlet([0.15] * 3, size=150)
DOCS = [
    " ".join(WORDS[10 * topic + RANDOM.integers(10)] for topic in RANDOM.choice(3, size=60, p=mix))
    for mix in MIX
]
BASE: dict[str, Any] = {
    "selectedCol": "doc",
    "topicNum": 3,
    "alpha": 0.3,
    "beta": 0.1,
    "learningDecay": 0.51,
    "method": "Online",
    "numIter": 30,
    "onlineLearningOffset": 1.0,
    "optimizeDocConcentration": True,
    "randomSeed": 0,
    "subsamplingRate": 1.0,
    "vocabSize": 1000,
}


def trained(
    docs: Any, size: int = 1, **params: Any
) -> tuple[dict[str, Any], np.ndarray, list[Any]]:
    """Train; give the model's meta, its counts by words and topics, and its words."""
    table = pa.table({"doc": pa.array(docs, pa.string())})
    model = read_model(groups.train(_topics.train({**BASE, **params}), table, size, batch_rows=70))
    words = [json.loads(text) for text in model.data[1:]]
    matrix = json.loads(model.data[0])
    flat = np.array(matrix["data"])
    if model.meta["method"] == "EM":
        counts = flat.reshape(matrix["n"], matrix["m"]).T[:-1]
    else:
        counts = flat.reshape(matrix["n"], matrix["m"])
    return model.meta, counts, words


def test_functions_of_gamma():
    x = np.array([1e-3, 0.1, 0.5, 1, 2.5, 7, 100, 1e6])
    np.testing.assert_allclose(
        _topics.log_gamma(x), [math.lgamma(v) for v in x], rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(
        _topics.digamma(np.array([1.0, 0.5])),
        [-np.euler_gamma, -np.euler_gamma - 2 * np.log(2)],
        rtol=1e-9,
    )
    np.testing.assert_allclose(_topics.digamma(x + 1) - _topics.digamma(x), 1 / x, rtol=1e-8)
    np.testing.assert_allclose(
        _topics.trigamma(np.array([1.0, 0.5])), [np.pi**2 / 6, np.pi**2 / 2], rtol=1e-9
    )
    np.testing.assert_allclose(_topics.trigamma(x) - _topics.trigamma(x + 1), 1 / x**2, rtol=1e-6)


@pytest.mark.parametrize("method", ["Online", "EM"])
@pytest.mark.parametrize("size", [1, 3])
def test_planted_topics_are_found(method, size):
    meta, counts, words = trained(DOCS, size, method=method, numIter=25)
    assert meta["topicNum"] == 3
    assert sorted(word["f0"] for word in words) == sorted(WORDS)
    order = [word["f0"] for word in words]
    groups_ = {
        frozenset(w for w, top in zip(order, counts.argmax(axis=1), strict=True) if top == k)
        for k in range(3)
    }
    assert groups_ == {frozenset(WORDS[10 * k : 10 * k + 10]) for k in range(3)}
    again = trained(DOCS, 1, method=method, numIter=25)[1]
    np.testing.assert_allclose(counts, again, rtol=1e-6, atol=1e-6)
    # As likely as the topics that the documents were made of, or nearly so.
    best = np.mean(
        [
            np.log(mix[int(w[1:]) // 10] / 10)
            for mix, doc in zip(MIX, DOCS, strict=True)
            for w in doc.split()
        ]
    )
    assert -best - 0.1 < meta["logPerplexity"] < -best + 0.5


def test_the_vocabulary_is_the_most_frequent_words(capfd):
    _, counts, words = trained(["ü a b", "a  b\tb", None, "  ", "日 a"], vocabSize=2, topicNum=2)
    assert [word["f0"] for word in words] == ["a", "b"]
    assert counts.shape == (2, 2)
    np.testing.assert_allclose(words[0]["f1"], np.log(5 / 4))
    with pytest.raises(ValueError, match="'doc' has no words"):
        trained([None, " "], 2)


FRAME = pd.DataFrame({"n": range(43), "doc": [*DOCS[:40], None, "", "unknown words"]})


def documents(kind: Any = pyalink.BatchOperator, count: int = 43) -> Any:
    return kind.fromDataframe(FRAME[:count], schemaStr="n int, doc string")


def test_batch_stream_and_pipeline_agree():
    settings: dict[str, Any] = {"topicNum": 3, "numIter": 15, "alpha": 0.3, "beta": 0.1}
    out: dict[str, Any] = {"selectedCol": "doc", "predictionCol": "p", "predictionDetailCol": "d"}
    train = pyalink.LdaTrainBatchOp(selectedCol="doc", **settings).linkFrom(documents(count=41))
    wanted = pyalink.LdaPredictBatchOp(**out).linkFrom(train, documents()).collectToDataframe()
    assert wanted.columns.tolist() == ["n", "doc", "p", "d"]
    shares = [[float(x) for x in text.split()] for text in wanted["d"].drop(index=40)]
    np.testing.assert_allclose(np.sum(shares, axis=1), 1)
    np.testing.assert_allclose(shares[-2:], 1 / 3)
    assert np.isnan(wanted["p"].astype(float)[40])
    sure = MIX[:40].max(axis=1) > 0.8
    pairs = set(zip(wanted["p"][:40][sure], MIX[:40][sure].argmax(axis=1), strict=True))
    assert len(pairs) == 3
    stream = pyalink.LdaPredictStreamOp(train, **out).linkFrom(documents(pyalink.StreamOperator))
    pd.testing.assert_frame_equal(stream.collectToDataframe(), wanted)
    piped = pyalink.Pipeline(pyalink.Lda(**out, **settings)).fit(documents(count=41))
    pd.testing.assert_frame_equal(piped.transform(documents()).collectToDataframe(), wanted)
    words = train.getSideOutput(0).collectToDataframe()
    assert words.columns.tolist() == ["word", "topic_0", "topic_1", "topic_2"]
    np.testing.assert_allclose(words.iloc[:, 1:].sum(axis=1), 1)
    measures = train.getSideOutput(1).collectToDataframe()
    assert measures.columns.tolist() == ["logPerplexity", "logLikelihood"]
    assert measures["logLikelihood"][0] < 0 < measures["logPerplexity"][0]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"selectedCol": "n"}, "it takes texts of words"),
        ({"method": "gibbs"}, "method.*EM.*Online"),
        ({"alpha": 0.0}, "alpha.*above 0, or -1"),
        ({"subsamplingRate": 2.0}, "subsamplingRate.*at most 1"),
        ({"topicNum": 0}, "topicNum"),
    ],
)
def test_mistakes_are_told_when_operators_are_linked(params, text):
    given = {"selectedCol": "doc", "topicNum": 2, **params}
    with pytest.raises(al.PlanError, match="(?s)" + text):
        pyalink.LdaTrainBatchOp(**given).linkFrom(documents())


# --- k-means on streams ---

ROWS = ["0 0", "2 0", "10 10", "12 10"]
LATER = ["1 3", "11 13", None, "100 100", "101 100"]


def stream(texts: list[Any]) -> Any:
    frame = pd.DataFrame({"id": range(len(texts)), "v": texts})
    return pyalink.StreamOperator.fromDataframe(frame, schemaStr="id int, v string")


def k_means(**params: Any) -> Any:
    frame = pd.DataFrame({"v": ROWS})
    op = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string")
    return pyalink.KMeansTrainBatchOp(vectorCol="v", k=2, **params).linkFrom(op)


def clusters(frame: Any) -> list[tuple[float, list[float]]]:
    texts = [json.loads(text) for text in frame["model_info"]]
    return [(text["weight"], text["vec"]["data"]) for text in texts if "weight" in text]


def test_rows_move_centres_one_by_one():
    op = pyalink.OnePassClusterStreamOp(k_means(), predictionCol="p", predictionDetailCol="far")
    op.setEpsilon(20.0).setModelOutputInterval(2).linkFrom(stream(LATER))
    found = op.collectToDataframe()
    assert found.columns.tolist() == ["id", "v", "p", "far"]
    # The larger centre of clusters of one size is the first.
    assert found["p"].fillna(-1).tolist() == [1, 0, -1, 2, 2]
    assert found["far"].fillna(-1).tolist() == [3, 3, -1, 0, 1]
    models = op.getSideOutput(0).collectToDataframe()
    assert models.columns.tolist()[:2] == ["alinkmodelstreamtimestamp", "alinkmodelstreamcount"]
    assert models["alinkmodelstreamcount"].tolist() == [3] * 3 + [4] * 4
    assert clusters(models) == [
        (3.0, [11, 11]), (3.0, [1, 1]), (3.0, [11, 11]), (3.0, [1, 1]), (2.0, [100.5, 100]),
    ]  # fmt: skip


def test_centres_decay_by_half_in_a_half_life():
    op = pyalink.StreamingKMeansStreamOp(k_means(), halfLife=10, timeInterval=10)
    op.setPredictionClusterCol("c").setPredictionDistanceCol("far").setReservedCols(["id"])
    op.linkFrom(stream(LATER[:3]))
    found = op.collectToDataframe()
    assert found.columns.tolist() == ["id", "cluster_id", "c", "far"]
    assert found["cluster_id"].fillna(-1).tolist() == [1, 0, -1]
    assert found["c"].fillna("").tolist() == ["1.0 0.0", "11.0 10.0", ""]
    # Two rows weigh half; the one that came weighs 1.
    assert clusters(op.getSideOutput(0).collectToDataframe()) == [
        (2.0, [11, 11.5]),
        (2.0, [1, 1.5]),
    ]
    both = pyalink.StreamingKMeansStreamOp(k_means(), halfLife=10, timeInterval=10)
    both.setPredictionDistanceCol("far").linkFrom(stream(LATER[:3]), stream(["1 0"]))
    assert both.collectToDataframe()["far"].tolist() == [1.5]
    with pytest.raises(al.PlanError, match="has no model"):
        pyalink.StreamingKMeansStreamOp(halfLife=1, timeInterval=1).linkFrom(stream(LATER))
