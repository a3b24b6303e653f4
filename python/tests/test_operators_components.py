"""Principal components, scaling, collinearity, maps, rankings and quantiles by definition."""

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
from alink._algorithms import _pca, _quantiles, _som
from alink._algorithms._models import read_model
from alink._algorithms._vectors import Vectors
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(400, 5)) @ RANDOM.normal(size=(5, 5)) + [1e5, 0, -3, 1, 2]
X[:, 3] = 7  # a column of one value
NAMES = list("abcde")
WORKERS = pytest.mark.parametrize("workers", [1, 3])


def table(values=X, names=NAMES) -> pa.Table:
    return pa.table(dict(zip(names, np.asarray(values).T, strict=True)))


def content(training: Any, rows: pa.Table, workers: int = 1) -> dict[str, Any]:
    return json.loads(read_model(train(training, rows, workers, batch_rows=90)).data[0])


# --- principal components ---


@WORKERS
@pytest.mark.parametrize("kind", ["CORR", "COV"])
def test_components_are_eigenvectors(kind, workers):
    params = {"selectedCols": NAMES, "k": 3, "calculationType": kind}
    found = content(_pca.train(params), table(), workers)
    assert (found["idxNonEqual"], found["nx"]) == ([0, 1, 2, 4], 5)
    used = X[:, [0, 1, 2, 4]]
    matrix = (np.corrcoef if kind == "CORR" else np.cov)(used.T)
    vectors = np.array(found["coef"])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix @ vectors.T, vectors.T * found["lambda"], atol=1e-6)
    assert found["lambda"] == pytest.approx(np.linalg.eigvalsh(matrix)[:0:-1])
    assert all(vector[np.abs(vector).argmax()] > 0 for vector in vectors)
    np.testing.assert_allclose(found["means"], used.mean(axis=0))
    np.testing.assert_allclose(found["stddevs"], used.std(axis=0, ddof=1))


def test_what_components_are_not_made_of():
    params = {"selectedCols": NAMES, "k": 5, "calculationType": "CORR"}
    with pytest.raises(ValueError, match="k is 5, but 4 of 5 columns have more than one value"):
        train(_pca.train(params), table())
    with pytest.raises(ValueError, match="there are no rows to train on"):
        train(_pca.train(params), table().slice(0, 0))
    missing = X.copy()
    missing[5, 2] = math.inf
    with pytest.raises(ValueError, match="column 'c' has NULL, NaN or infinite values"):
        train(_pca.train(params), table(missing), 2)
    vectors = pa.table({"v": ["1 2", None]})
    with pytest.raises(ValueError, match="column 'v' has NULL"):
        train(_pca.train({**params, "selectedCols": None, "vectorCol": "v"}), vectors)


FRAME = pd.DataFrame(X, columns=NAMES)
FRAME["v"] = [" ".join(map(repr, row)) for row in X.tolist()]
FRAME["s"] = [f"$5${' '.join(f'{i}:{v!r}' for i, v in enumerate(row))}" for row in X.tolist()]
FRAME["n"] = range(400)
SCHEMA = "a double, b double, c double, d double, e double, v string, s string, n int"


@pytest.fixture(scope="module")
def source():
    return pyalink.BatchOperator.fromDataframe(FRAME, SCHEMA)


def scores(operator) -> np.ndarray:
    frame = operator.collectToDataframe().sort_values("n")
    parse = pyalink.VectorUtil.getVector
    return np.array([parse(str(text)).to_cell()["values"] for text in frame["p"]])


def test_scores_in_all_forms(source):
    made: dict[str, Any] = {"k": 2, "selectedCols": NAMES}
    given: dict[str, Any] = {"predictionCol": "p", "reservedCols": ["n"]}
    model = source.link(pyalink.PcaTrainBatchOp(**made))
    batch = scores(pyalink.PcaPredictBatchOp(**given).linkFrom(model, source))
    standard = (X - X.mean(axis=0)) / np.where(X.std(axis=0), X.std(axis=0, ddof=1), 1)
    _, _, axes = np.linalg.svd(standard)
    np.testing.assert_allclose(np.abs(batch), np.abs(standard @ axes[:2].T), atol=1e-8)
    stage = pyalink.PCA(**made, **given).fit(source)
    np.testing.assert_array_equal(scores(stage.transform(source)), batch)
    rows = pyalink.StreamOperator.fromDataframe(FRAME, SCHEMA)
    stream = rows.link(pyalink.PcaPredictStreamOp(model, **given))
    np.testing.assert_array_equal(scores(stream), batch)
    for column in ("v", "s"):
        stage = pyalink.PCA(k=2, vectorCol=column, **given).fit(source)
        np.testing.assert_allclose(scores(stage.transform(source)), batch, atol=1e-6)
    moved = pyalink.PCA(**made, **given, calculationType="COV").fit(source).transform(source)
    about = X - X.mean(axis=0)
    _, _, axes = np.linalg.svd(about)
    axes *= np.sign(axes[np.arange(5), np.abs(axes).argmax(axis=1)])[:, None]
    np.testing.assert_allclose(scores(moved), X @ axes[:2].T, rtol=1e-7)


def test_rows_that_have_no_scores(source):
    stage = pyalink.PCA(k=1, selectedCols=["a", "b"], predictionCol="p").fit(source)
    some = pd.DataFrame({"a": [1.0, None], "b": [2.0, 2.0]})
    rows = pyalink.BatchOperator.fromDataframe(some, "a double, b double")
    assert stage.transform(rows).collectToDataframe()["p"].isna().tolist() == [False, True]
    lacking = pyalink.BatchOperator.fromDataframe(some.drop(columns="b"), "a double")
    with pytest.raises(al.Error, match="there is no column 'b', which the model was made of"):
        stage.transform(lacking).collectToDataframe()
    stage = pyalink.PCA(k=1, vectorCol="v", predictionCol="p").fit(source)
    texts = pd.DataFrame({"v": ["1 2 3"]})
    rows = pyalink.BatchOperator.fromDataframe(texts, "v string")
    with pytest.raises(al.Error, match="column 'v' does not fit: the model is of size 5"):
        stage.transform(rows).collectToDataframe()
    with pytest.raises(al.PlanError, match="both selectedCols and vectorCol are set"):
        pyalink.PCA(k=1, vectorCol="v", selectedCols=["a"], predictionCol="p").fit(source)
    with pytest.raises(al.PlanError, match="'k' cannot be 0"):
        pyalink.PCA(k=0, predictionCol="p").fit(source)


def test_stages_are_saved_and_map_single_rows(source, tmp_path):
    stages = pyalink.Pipeline(
        pyalink.PCA(k=2, selectedCols=["a", "b", "c"], predictionCol="p"),
        pyalink.QuantileDiscretizer(selectedCols=["a"], numBuckets=4),
        pyalink.Binning(selectedCols=["b", "s"], encode="INDEX", discreteThresholds=2),
    )
    model = stages.fit(source)
    wanted = model.transform(source).collectToDataframe().sort_values("n")
    path = str(tmp_path / "model.ak")
    model.save(path)
    pyalink.BatchOperator.execute()
    loaded = pyalink.PipelineModel.load(path)
    found = loaded.transform(source).collectToDataframe().sort_values("n")
    assert found.astype(str).equals(wanted.astype(str))
    row = loaded.collectLocalPredictor(SCHEMA).map(FRAME.iloc[3].tolist())
    assert [str(value) for value in row] == [str(value) for value in wanted.iloc[3].tolist()]


# --- scaling and collinearity ---


def test_scaling_keeps_distances(source):
    found = pyalink.MdsBatchOp(selectedCols=["b", "c"], reservedCols=["n"]).linkFrom(source)
    assert found.getColNames() == ["coord0", "coord1", "n"]
    frame = found.collectToDataframe().sort_values("n")
    points = frame[["coord0", "coord1"]].to_numpy(float)

    def distances(values):
        return np.sqrt(((values[:, None] - values) ** 2).sum(axis=2))

    np.testing.assert_allclose(distances(points), distances(X[:, [1, 2]]), atol=1e-8)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-9)
    more = pyalink.MdsBatchOp(selectedCols=["b"], dim=2, outputColPrefix="m").linkFrom(source)
    assert (more.collectToDataframe()["m1"] == 0).all()
    rows = pa.table({"ä b": [1.0, 3.0]})
    spaced = pyalink.BatchOperator.fromTable(al.from_arrow(rows)).link(pyalink.MdsBatchOp(dim=1))
    assert spaced.getColNames() == ["coord0", "ä b"]
    assert sorted(spaced.collectToDataframe()["coord0"]) == [-1, 1]


@WORKERS
def test_collinearity(workers):
    names = ["a", "b", "c", "e"]
    params = {"selectedCols": names}
    rows = table(X[:, [0, 1, 2, 4]], names)
    found = train(_pca.collinearity(params), rows, workers, batch_rows=90).to_pandas()
    matrix = np.corrcoef(X[:, [0, 1, 2, 4]].T)
    np.testing.assert_allclose(found["vif"], np.diag(np.linalg.inv(matrix)))
    np.testing.assert_allclose(found["tof"] * found["vif"], 1)
    values = np.linalg.eigvalsh(matrix)[::-1]
    np.testing.assert_allclose(found["eigenvalue"], values)
    np.testing.assert_allclose(found["condition_index"], np.sqrt(values[0] / values))
    np.testing.assert_allclose(found[names].sum(), 1)


def test_columns_that_determine_one_another():
    values = np.column_stack([X[:, 0], X[:, 0] * 2 - 5, X[:, 1]])
    params = {"selectedCols": ["a", "b", "c"]}
    found = train(_pca.collinearity(params), table(values, ["a", "b", "c"])).to_pandas()
    assert np.isinf(found["vif"]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="column 'd' has one value only"):
        train(_pca.collinearity({"selectedCols": ["a", "d"]}), table())


# --- maps ---


@WORKERS
def test_a_map_spreads_over_clusters(workers):
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    random = np.random.default_rng(1)  # of some drawn rows a map comes out folded
    values = (centres[:, None] + random.normal(0, 0.1, (4, 50, 2))).reshape(-1, 2)
    params: dict[str, Any] = {
        "vectorCol": "v",
        "vdim": 2,
        "xdim": 2,
        "ydim": 2,
        "numIters": 60,
        "learnRate": 0.9,
        "sigma": 1.5,
    }
    rows = pa.table({"v": Vectors.of_matrix(values[random.permutation(200)]).to_arrow()})
    found = train(_som.train(params), rows, workers, batch_rows=30)
    assert found.column("cnt").to_pylist() == [50] * 4
    weights = np.array([[float(w) for w in t.split(",")] for t in found["weights"].to_pylist()])
    near = np.abs(weights[:, None] - centres).max(axis=2).argmin(axis=1)
    assert sorted(near) == [0, 1, 2, 3]
    # Neighbours on the grid are neighbours among the clusters.
    assert abs(centres[near[0]] - centres[near[1]]).sum() == 10
    assert abs(centres[near[0]] - centres[near[2]]).sum() == 10
    kept = train(_som.train(params), rows, workers, batch_rows=30, cache_bytes=0)
    assert kept.equals(found)
    with pytest.raises(ValueError, match="the map has 20 · 20 neurons, but there are 200 rows"):
        train(_som.train({**params, "xdim": 20, "ydim": 20}), rows, workers)
    with pytest.raises(ValueError, match="column 'v': a vector of size 2 stands where size 3"):
        train(_som.train({**params, "vdim": 3}), rows, workers)


def test_rows_are_placed_on_the_map(source):
    made = pyalink.SomBatchOp(vectorCol="v", vdim=5, xdim=2, ydim=1, numIters=5)
    neurons = made.linkFrom(source).collectToDataframe()
    placed = made.getSideOutput(0).collectToDataframe()
    counts = placed.groupby(["xidx", "yidx"]).size()
    for _, row in neurons.iterrows():
        assert counts.get((row["xidx"], row["yidx"]), 0) == row["cnt"]
    with pytest.raises(al.PlanError, match='"sigma" cannot be 0'):
        pyalink.SomBatchOp(vectorCol="v", vdim=5, xdim=2, ydim=1, sigma=0.0).linkFrom(source)


# --- quantiles and rankings ---


@WORKERS
@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "CEIL"])
def test_quantiles_of_a_column(mode, workers):
    values = RANDOM.normal(size=101)
    params = {"selectedCol": "x", "quantileNum": 7, "roundMode": mode}
    rows = pa.table({"x": [*values, math.nan, None]})
    found = train(_quantiles.train(params), rows, workers, batch_rows=10)
    method: Any = {"ROUND": "nearest", "FLOOR": "lower", "CEIL": "higher"}[mode]
    wanted = np.quantile(values, np.arange(8) / 7, method=method)
    assert found.column("x").to_pylist() == wanted.tolist()
    assert found.column("quantile").to_pylist() == list(range(8))


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.int64(),
        pa.float32(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us"),
        pa.time64("us"),
    ],
    ids=str,
)
def test_quantiles_have_the_type_of_their_column(kind):
    column = pa.array([1, 0, None, 1], pa.int32() if pa.types.is_date(kind) else pa.int64())
    rows = pa.table({"x": column.cast(kind)})
    params = {"selectedCol": "x", "quantileNum": 2, "roundMode": "ROUND"}
    found = train(_quantiles.train(params), rows)
    assert found.schema.field("x").type == kind
    assert found.column("x").cast(rows.column("x").type).equals(rows.column("x").take([1, 0, 0]))
    assert train(_quantiles.train(params), rows.slice(0, 0)).num_rows == 0


def test_quantiles_through_operators(source):
    found = pyalink.QuantileBatchOp(selectedCol="N", quantileNum=4).linkFrom(source)
    assert found.getSchemaStr() == "n INT, quantile BIGINT"
    assert found.collectToDataframe()["n"].tolist() == [0, 100, 200, 299, 399]
    with pytest.raises(al.PlanError, match='column "v" is STRING'):
        pyalink.QuantileBatchOp(selectedCol="v", quantileNum=4).linkFrom(source)
    with pytest.raises(al.PlanError, match="'quantileNum' cannot be 0"):
        pyalink.QuantileBatchOp(selectedCol="a", quantileNum=0).linkFrom(source)


def test_quantiles_of_windows():
    frame = pd.DataFrame({"t": [0, 1000, 2999, 3000, 9500], "x": [5.0, 1.0, None, 2.0, 3.0]})
    rows = pyalink.StreamOperator.fromDataframe(frame, "t long, x double")
    windows = pyalink.QuantileStreamOp(timeCol="t", quantileNum=2, timeInterval=3.0)
    found = rows.link(windows).collectToDataframe()
    assert found["starttime"].str[-8:].tolist() == ["00:00:00", "00:00:03", "00:00:09"]
    assert found["endtime"].tolist()[0] == "1970/01/01 00:00:03"
    wanted = [[1.0, 5.0, 5.0], [2.0] * 3, [3.0] * 3]
    assert [json.loads(text) for text in found["quantile"]] == wanted
    assert found["colname"].tolist() == ["x"] * 3
    with pytest.raises(al.PlanError, match="QuantileStreamOp has no timeCol"):
        rows.link(pyalink.QuantileStreamOp(quantileNum=2))


@pytest.fixture(scope="module")
def sales():
    frame = pd.DataFrame(
        {
            "g": ["x", "x", "x", "y", "y", "z'"],
            "o": ["a", "b", "a", "b", "c", "a"],
            "v": [1.0, 5.0, 2.0, None, 4.0, 9.0],
            "w": [1, 2, 3, 4, 5, 6],
        }
    )
    return pyalink.BatchOperator.fromDataframe(frame, "g string, o string, v double, w int")


def ranked(sales, **params):
    found = pyalink.RankingListBatchOp(objectCol="o", **params).linkFrom(sales)
    return [list(row) for row in found.collectToDataframe().to_numpy(object)]


def test_rankings(sales):
    found = ranked(sales, statCol="v", statType="sum", isDescending=True, topN=2)
    assert found == [["a", 12.0, 1], ["b", 5.0, 2]]
    found = ranked(sales, groupCol="g", groupValues=["y", "z'"], statCol="v", statType="MEAN")
    assert found == [["y", "b", 0.0, 1], ["y", "c", 4.0, 2], ["z'", "a", 9.0, 1]]
    added: dict[str, Any] = {"addedCols": ["w", "g"], "addedStatTypes": ["variance", "countTotal"]}
    found = ranked(sales, statCol="v", **added)
    # b and c have the same sum: they are in their own order.
    assert [row[0] for row in found] == ["b", "c", "a"]
    assert [row[1:] for row in found] == [
        [1.0, 2.0, 2.0, 1],
        [1.0, 0.0, 1.0, 2],
        [3.0, pytest.approx(19 / 3), 3.0, 3],
    ]


def test_rankings_that_are_refused(sales):
    for params, message in (
        ({"statType": "sum"}, "sum needs a column"),
        ({"statCol": "g", "statType": "max"}, 'column "g" is STRING, which has no max'),
        ({"addedCols": ["w"]}, "'addedStatTypes' has 0 names for 1 columns"),
        ({"statCol": "v", "addedCols": ["v"], "addedStatTypes": ["sum"]}, 'have "v" twice'),
        ({"statCol": "u"}, 'there is no column "u"'),
    ):
        with pytest.raises(al.PlanError, match=message):
            ranked(sales, **params)
