"""Clusterings of vectors: what is found is what the definitions say, however the rows lie."""

from __future__ import annotations

import json
from typing import Any

import groups
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._chain import _task
from alink._algorithms._models import read_model
from alink._algorithms._vectors import Vectors
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(3)
MIDDLES = np.array([[0.0, 0, 0], [8, 8, 0], [-8, 8, 4], [0, -9, 20]])
LABEL = RANDOM.integers(4, size=900)
X = MIDDLES[LABEL] + RANDOM.normal(size=(900, 3)) + 1e6

BASE: dict[str, Any] = {
    "vectorCol": "v",
    "distanceType": "EUCLIDEAN",
    "k": 4,
    "maxIter": 50,
    "epsilon": 1e-9,
    "randomSeed": 0,
}


def column(rows: np.ndarray) -> pa.Table:
    return pa.table({"v": Vectors.of_matrix(np.asarray(rows, float)).to_arrow()})


def sparse(rows: np.ndarray) -> pa.Table:
    size = rows.shape[1]
    texts = [f"${size}$" + " ".join(f"{i}:{v}" for i, v in enumerate(r) if v) for r in rows]
    return pa.table({"v": texts})


def model(
    task: str, table: pa.Table, size: int = 1, **params: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train; give the model's meta and its texts."""
    more = {key: params.pop(key) for key in ("batch_rows", "cache_bytes") if key in params}
    made = groups.train(_task(task)({**BASE, **params}), table, size, **more)
    found = read_model(made)
    return found.meta, [json.loads(text) for text in found.data]


def centres(clusters: list[dict[str, Any]]) -> np.ndarray:
    return np.array([cluster["vec"]["data"] for cluster in clusters])


def is_fixed(rows: np.ndarray, clusters: list[dict[str, Any]]) -> None:
    """Check that each centre is the mean of the rows that are nearest to it."""
    found = centres(clusters)
    labels = ((rows[:, None] - found) ** 2).sum(axis=2).argmin(axis=1)
    for number, centre in enumerate(found):
        np.testing.assert_allclose(rows[labels == number].mean(axis=0), centre, rtol=1e-10)
        assert clusters[number]["weight"] == (labels == number).sum()
        assert clusters[number]["clusterId"] == number


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kept", [1 << 30, 0])
def test_k_means_rests_whoever_has_the_rows(size, kept):
    meta, clusters = model(
        "_kmeans.train", column(X), size, batch_rows=140, cache_bytes=kept, epsilon=0.0
    )
    assert meta["k"] == 4
    assert meta["vectorSize"] == 3
    is_fixed(X, clusters)
    weights = [cluster["weight"] for cluster in clusters]
    assert weights == sorted(np.bincount(LABEL).tolist(), reverse=True)
    one = model("_kmeans.train", column(X))[1]
    np.testing.assert_allclose(centres(clusters), centres(one), rtol=1e-12)


def test_many_clusters_that_overlap_rest_too():
    rows = RANDOM.normal(size=(3000, 2))
    is_fixed(rows, model("_kmeans.train", column(rows), 2, k=17, maxIter=500, epsilon=0.0)[1])


def test_sparse_vectors_give_what_dense_ones_do():
    rows = np.zeros((300, 40))
    rows[np.arange(300), RANDOM.integers(40, size=300)] = RANDOM.integers(1, 9, size=300)
    rows[:, 0] = 20 * (np.arange(300) % 2)
    params = {"k": 3, "epsilon": 0.0, "maxIter": 100}
    found = model("_kmeans.train", sparse(rows), 2, **params)[1]
    is_fixed(rows, found)
    np.testing.assert_allclose(
        centres(found), centres(model("_kmeans.train", column(rows), **params)[1]), atol=1e-12
    )


def test_dense_and_sparse_vectors_may_be_mixed_but_sizes_not():
    texts = ["1 0 0", "$3$0:1.0", "0:1.0 2:9.0", "1 0 9", None]
    found = model("_kmeans.train", pa.table({"v": texts}), k=2)[1]
    assert centres(found).tolist() == [[1, 0, 9], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"'v'.*size 2.*size 3"):
        model("_kmeans.train", pa.table({"v": ["1 0 0", "1 0"]}), k=1)
    with pytest.raises(ValueError, match="'v' has NaN or infinite values"):
        model("_kmeans.train", pa.table({"v": ["1 0", "NaN 0"]}), k=1)
    with pytest.raises(ValueError, match="no rows to train with"):
        model("_kmeans.train", pa.table({"v": pa.array([None, None], pa.string())}), 2, k=1)


def test_there_are_not_more_clusters_than_different_rows(capfd):
    rows = np.repeat([[1.0, 2], [3, 4], [-5, 0]], 4, axis=0)
    meta, clusters = model("_kmeans.train", column(rows), 2, k=7)
    assert meta["k"] == 3
    assert sorted(centres(clusters).tolist()) == [[-5, 0], [1, 2], [3, 4]]
    assert "3 different points" in capfd.readouterr().err


def test_what_has_not_come_to_rest_is_told(capfd):
    model("_kmeans.train", column(RANDOM.random((70_000, 3))), k=9, maxIter=1, epsilon=0.0)
    assert "not converged after 1 iterations" in capfd.readouterr().err


def test_cosines_look_at_directions():
    angle = np.concatenate((RANDOM.normal(0, 0.05, 60), RANDOM.normal(2, 0.05, 40)))
    rows = np.column_stack((np.cos(angle), np.sin(angle))) * RANDOM.uniform(0.1, 50, (100, 1))
    rows = np.concatenate((rows, np.zeros((1, 2))))
    clusters = model("_kmeans.train", column(rows), k=2, distanceType="COSINE")[1]
    for cluster, part in zip(clusters, (rows[:60], rows[60:100]), strict=True):
        unit = (part / np.linalg.norm(part, axis=1, keepdims=True)).sum(axis=0)
        wanted = unit / np.linalg.norm(unit)
        # Zeros are as far from all: they are in the first cluster, and draw it nowhere.
        np.testing.assert_allclose(cluster["vec"]["data"], wanted, rtol=1e-9)


def test_places_may_lie_across_the_180th_meridian():
    table = pa.table({"lat": [10.0, 12, 14, -40], "lon": [179.0, -179, -177, 20]})
    params = {"vectorCol": None, "latitudeCol": "lat", "longitudeCol": "lon"}
    clusters = model("_kmeans.train", table, 2, k=2, distanceType="HAVERSINE", **params)[1]
    np.testing.assert_allclose(centres(clusters), [[12, -179], [-40, 20]], rtol=1e-12)
    wrong = pa.table({"lat": [100.0], "lon": [0.0]})
    with pytest.raises(ValueError, match="latitude 100 is beyond 90 degrees"):
        model("_kmeans.train", wrong, k=1, distanceType="HAVERSINE", **params)


# --- bisecting ---


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("make", [column, sparse])
def test_bisecting_makes_a_tree_whose_nodes_are_means(size, make):
    # Two groups of two: clusters are divided level by level.
    rows = X - 1e6 - MIDDLES[LABEL] + np.outer(np.array([1, 10, 101, 110])[LABEL], [1, 0, 0])
    params = {"minDivisibleClusterSize": 1, "maxIter": 30}
    _, nodes = model("_bisecting.train", make(rows), size, batch_rows=200, **params)
    tree = {node["clusterId"]: node for node in nodes}
    leaves = [n for n in tree if 2 * n not in tree]
    assert len(leaves) == 4
    np.testing.assert_allclose(tree[1]["center"]["data"], rows.mean(axis=0), rtol=1e-9, atol=1e-9)
    cost = ((rows - rows.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(tree[1]["cost"], cost, rtol=1e-6)
    sizes = sorted(tree[n]["size"] for n in leaves)
    assert sizes == sorted(np.bincount(LABEL).tolist())
    for number in leaves:
        here = np.array(tree[number]["center"]["data"])
        assert min(np.abs(rows[n == LABEL].mean(axis=0) - here).max() for n in range(4)) < 1e-9
    for number in set(tree) - set(leaves):
        assert tree[number]["size"] == tree[2 * number]["size"] + tree[2 * number + 1]["size"]


@pytest.mark.parametrize("make", [column, sparse])
def test_bisecting_starts_along_the_direction_that_varies_most(make):
    label = RANDOM.integers(0, 2, 400)
    # Apart along a diagonal; the coordinate that varies most by itself says nothing of it.
    rows = RANDOM.normal(size=(400, 16)) + np.where(label, 1.0, -1.0)[:, None] - 1e3
    rows[:, 0] = RANDOM.normal(-1e3, 2.0, 400)
    params = {"k": 2, "maxIter": 1, "minDivisibleClusterSize": 1}
    _, nodes = model("_bisecting.train", make(rows), 2, batch_rows=90, **params)
    assert sorted(node["size"] for node in nodes[1:]) == sorted(np.bincount(label).tolist())
    found = sorted(node["center"]["data"] for node in nodes[1:])
    wanted = sorted(rows[label == n].mean(axis=0).tolist() for n in (0, 1))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_one_point_is_not_divided():
    rows = np.repeat([[1.0, 1], [2, 2]], 5, axis=0)
    _, nodes = model("_bisecting.train", column(rows), k=4, minDivisibleClusterSize=1)
    assert [node["clusterId"] for node in nodes] == [1, 2, 3]
    assert [node["cost"] for node in nodes[1:]] == [0, 0]


# --- k-modes ---


def test_k_modes_are_the_most_frequent_values():
    a = ["x", "x", "x", "y", "y", None, None]
    table = pa.table({"a": a, "b": [1, 1, 2, 7, 7, 9, 9], "ü": ["é"] * 3 + ["q"] * 4})
    params = {"featureCols": ["a", "b", "ü"], "numIter": 10, "k": 3}
    meta, clusters = model("_kmodes.train", table, 2, **params)
    assert meta["featureCols"] == ["a", "b", "ü"]
    found = {tuple(json.loads(c["center"])): c["weight"] for c in clusters}
    assert found == {("x", "1", "é"): 3, ("y", "7", "q"): 2, ("null", "9", "q"): 2}
    _, fewer = model("_kmodes.train", table.slice(0, 2), **params)
    assert len(fewer) == 1


# --- mixtures ---


def likelihood(rows: np.ndarray, clusters: list[dict[str, Any]]) -> float:
    total = np.zeros(len(rows))
    for cluster in clusters:
        mean = np.array(cluster["mean"]["data"])
        size = len(mean)
        covariance = np.zeros((size, size))
        at = 0
        for j in range(size):
            for i in range(j + 1):
                covariance[i, j] = covariance[j, i] = cluster["cov"]["data"][at]
                at += 1
        apart = rows - mean
        square = np.einsum("ij,jk,ik->i", apart, np.linalg.inv(covariance), apart)
        scale = np.sqrt((2 * np.pi) ** size * np.linalg.det(covariance))
        total += cluster["weight"] * np.exp(-square / 2) / scale
    return float(np.log(total).mean())


def test_mixtures_find_what_rows_were_drawn_of():
    first = RANDOM.multivariate_normal([0, 0], [[4, 1.5], [1.5, 1]], 3000)
    second = RANDOM.multivariate_normal([5, 3], [[0.5, -0.2], [-0.2, 1]], 1000)
    rows = np.concatenate((first, second)) + 1e5
    params = {"k": 2, "epsilon": 1e-7, "maxIter": 500, "initMode": "RANDOM"}
    meta, clusters = model("_mixtures.train", column(rows), 3, **params)
    assert (meta["k"], meta["numFeatures"]) == (2, 2)
    np.testing.assert_allclose([c["weight"] for c in clusters], [0.75, 0.25], atol=0.02)
    np.testing.assert_allclose(clusters[0]["cov"]["data"], [4, 1.5, 1], rtol=0.15)
    best = likelihood(rows, clusters)
    for step in (1e-2, -1e-2):  # whatever is changed, the rows are less likely
        for cluster in clusters:
            for part, at in (("mean", 0), ("mean", 1), ("cov", 0), ("cov", 1)):
                cluster[part]["data"][at] += step
                assert likelihood(rows, clusters) < best + 1e-9
                cluster[part]["data"][at] -= step
    constant = np.column_stack((rows[:, 0], np.ones(len(rows))))
    found = model("_mixtures.train", column(constant), **params)[1]
    assert np.isfinite([c["mean"]["data"] for c in found]).all()


# --- operators ---

VECTORS = [" ".join(map(str, row)) for row in (X[:40] - 1e6).tolist()]
FRAME = pd.DataFrame({"id": range(42), "v": [*VECTORS, None, "NaN 1 2"], "n": 1.5})
SCHEMA = "id int, v string, n double"


def rows(kind: Any = pyalink.BatchOperator, count: int = 42) -> Any:
    return kind.fromDataframe(FRAME[:count], schemaStr=SCHEMA)


@pytest.mark.parametrize(
    ("name", "estimator", "params", "detailed"),
    [
        ("KMeans", "KMeans", {"k": 4}, True),
        ("KMeans", "KMeans", {"k": 4, "distanceType": "cosine"}, True),
        ("BisectingKMeans", "BisectingKMeans", {"k": 4}, True),
        ("Gmm", "GaussianMixture", {"k": 2}, True),
    ],
)
def test_batch_stream_and_pipeline_agree(name, estimator, params, detailed):
    out = {"predictionCol": "p", "predictionDetailCol": "d"}
    train = getattr(pyalink, f"{name}TrainBatchOp")(vectorCol="v", **params)
    train = train.linkFrom(rows(count=41))
    applied = {**out, "vectorCol": "v"} if name == "Gmm" else out
    predict = getattr(pyalink, f"{name}PredictBatchOp")(**applied).linkFrom(train, rows())
    wanted = predict.collectToDataframe()
    assert wanted.columns.tolist() == ["id", "v", "n", "p", "d"]
    assert [str(kind) for kind in wanted.dtypes[3:]] == ["Int64", "string"]
    assert wanted["p"].isna().tolist() == [False] * 40 + [True] * 2
    assert wanted["d"].isna().tolist() == [False] * 40 + [True] * 2
    shares = np.array([[float(x) for x in text.split()] for text in wanted["d"][:40]])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    labels = wanted["p"][:40].astype(int).to_numpy()
    assert (shares.argmax(axis=1) == labels).all()
    stream = getattr(pyalink, f"{name}PredictStreamOp")(train, **applied)
    stream = stream.linkFrom(rows(pyalink.StreamOperator))
    pd.testing.assert_frame_equal(stream.collectToDataframe(), wanted)
    stage = getattr(pyalink, estimator)(vectorCol="v", **params, **out)
    piped = pyalink.Pipeline(stage).fit(rows(count=41)).transform(rows())
    pd.testing.assert_frame_equal(piped.collectToDataframe(), wanted)


def test_distances_and_shares_are_those_of_the_model():
    stage = pyalink.KMeans(vectorCol="v", k=4, predictionCol="p")
    stage.setPredictionDetailCol("d").setPredictionDistanceCol("far").setReservedCols(["id"])
    fitted = stage.fit(rows(count=41))
    found = fitted.transform(rows(count=40)).collectToDataframe()
    assert found.columns.tolist() == ["id", "p", "d", "far"]
    texts = fitted.getModelData().collectToDataframe()["model_info"][1:]
    middles = np.array([json.loads(text)["vec"]["data"] for text in texts])
    apart = np.linalg.norm((X[:40] - 1e6)[:, None] - middles, axis=2)
    assert found["p"].tolist() == apart.argmin(axis=1).tolist()
    np.testing.assert_allclose(found["far"].astype(float), apart.min(axis=1), rtol=1e-6)
    shares = np.array([[float(x) for x in text.split()] for text in found["d"]])
    wanted = (1 - apart / apart.sum(axis=1, keepdims=True)) / 3
    np.testing.assert_allclose(shares, wanted, rtol=1e-6)


def test_places_are_predicted_in_kilometres():
    frame = pd.DataFrame([[0.0, 0.0], [0.0, 1.0], [50.0, 10.0], [None, 3.0]], columns=["a", "b"])
    op = pyalink.BatchOperator.fromDataframe(frame, schemaStr="lat double, lon double")
    stage = pyalink.GeoKMeans(latitudeCol="lat", longitudeCol="lon", k=2, predictionCol="p")
    found = stage.setPredictionDistanceCol("km").fit(op).transform(op).collectToDataframe()
    assert found["p"].tolist()[:3] == [0, 0, 1]
    assert found["p"].isna().tolist()[3]
    wanted = 6371 * np.radians(0.5)
    np.testing.assert_allclose(found["km"][:3].astype(float), [wanted, wanted, 0], atol=1e-6)


@pytest.mark.parametrize("distance", ["EUCLIDEAN", "COSINE"])
def test_single_rows_are_predicted_as_batches_are(distance):
    stage = pyalink.KMeans(vectorCol="v", k=4, distanceType=distance, predictionCol="p")
    stage.setPredictionDetailCol("d").setPredictionDistanceCol("far").setReservedCols([])
    fitted = stage.fit(rows(count=41))
    texts = [*VECTORS, None, "NaN 1 2", "0 0 0", "$3$", "$3$1:8.0 0:8.0"]
    frame = pd.DataFrame({"v": texts})
    given = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string")
    wanted = fitted.transform(given).collectToDataframe()
    vectors = pyalink.VectorNormalizer(selectedCol="v", p=2.0) if distance == "COSINE" else None
    for model in [fitted] if vectors is None else [fitted, pyalink.PipelineModel(vectors, fitted)]:
        predictor = model.collectLocalPredictor("v string")
        for text, line in zip(texts, wanted.itertuples(index=False), strict=True):
            if model is not fitted and (text is None or "NaN" in text or text in ("0 0 0", "$3$")):
                continue
            found = predictor.map([text])[-3:]
            if text is None or "NaN" in text:
                assert list(found) == [None] * 3
                continue
            assert found[0] == line.p
            np.testing.assert_allclose(found[2], line.far, rtol=1e-6, atol=1e-9)
            shares = [[float(x) for x in t.split()] for t in (found[1], line.d)]
            np.testing.assert_allclose(*shares, rtol=1e-6, atol=1e-9)


def test_categories_are_predicted_with_how_many_differ():
    frame = pd.DataFrame({"a": ["x", "x", "y", "z", None], "b": [1, 1, 2, 3, 9]})
    op = pyalink.BatchOperator.fromDataframe(frame, schemaStr="a string, b int")
    stage = pyalink.KModes(featureCols=["a", "b"], k=2, predictionCol="p")
    found = stage.setPredictionDetailCol("d").fit(op).transform(op).collectToDataframe()
    assert found["d"].tolist()[:2] == [0.0, 0.0]
    assert found["p"].tolist()[:2] == [0, 0]
    assert set(found["d"]) <= {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pyalink.KMeansTrainBatchOp(vectorCol="v", k=0), "'?k.*cannot be 0"),
        (lambda: pyalink.KMeansTrainBatchOp(vectorCol="w"), 'no column "w".*did you mean v'),
        (
            lambda: pyalink.KMeansTrainBatchOp(vectorCol="v", distanceType="EUKLID"),
            "distanceType.*EUCLIDEAN",
        ),
        (lambda: pyalink.GmmTrainBatchOp(vectorCol="v", maxIter=0), "maxIter"),
        (
            lambda: pyalink.GeoKMeansTrainBatchOp(latitudeCol="v", longitudeCol="n"),
            "takes numbers",
        ),
        (lambda: pyalink.KModesTrainBatchOp(featureCols=[]), "names no column"),
    ],
)
def test_mistakes_are_told_when_operators_are_linked(make, text):
    with pytest.raises(al.PlanError, match="(?s)" + text):
        make().linkFrom(rows())


def test_a_model_of_another_kind_or_size_is_refused():
    modes = pyalink.KModesTrainBatchOp(featureCols=["v"]).linkFrom(rows())
    with pytest.raises(al.Error, match=r"not one of k-means|has no 'distanceType'"):
        pyalink.KMeansPredictBatchOp(predictionCol="p").linkFrom(modes, rows()).collectToDataframe()
    means = pyalink.KMeansTrainBatchOp(vectorCol="v").linkFrom(rows(count=41))
    frame = pd.DataFrame({"v": ["1.0 2.0"]})
    other = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string")
    with pytest.raises(al.Error, match=r"'v'.*size 2.*size 3"):
        pyalink.KMeansPredictBatchOp(predictionCol="p").linkFrom(means, other).collectToDataframe()
