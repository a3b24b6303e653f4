"""Searches: what is tried, on which rows, and what comes of it."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _bayes
from alink.operators._tuning import Report, set_up
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(8)
N = 120
X = RANDOM.normal(size=N)
FRAME = pd.DataFrame(
    {
        "x": X,
        "z": RANDOM.normal(size=N),
        "y": np.where(X + RANDOM.normal(0, 0.3, N) > 0, "é", "b"),
        "t": 3 * X + 1,
    }
)
SCHEMA = "x double, z double, y string, t double"


def rows(frame: pd.DataFrame = FRAME) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, SCHEMA)


def neighbours() -> Any:
    return pyalink.KnnClassifier(
        featureCols=["x", "z"], labelCol="y", predictionCol="p", predictionDetailCol="d"
    )


def binary(**params: Any) -> Any:
    return pyalink.BinaryClassificationTuningEvaluator(
        labelCol="y", predictionDetailCol="d", **params
    )


def search(name: str, stage: Any, **params: Any) -> Any:
    made = getattr(pyalink, name)().setEstimator(stage).setTuningEvaluator(binary())
    for key, value in params.items():
        getattr(made, f"set{key[:1].upper()}{key[1:]}")(value)
    return made


def test_each_combination_by_folds(capsys):
    stage = neighbours()
    pipeline = pyalink.Pipeline(pyalink.StandardScaler(selectedCols=["x", "z"]), stage)
    grid = pyalink.ParamGrid().addGrid(stage, "K", [1, 15])
    grid.addGrid(stage, "DISTANCE_TYPE", ["EUCLIDEAN", "none"])
    cv = search("GridSearchCV", pipeline, numFolds=3, paramGrid=grid)
    model = cv.enableLazyPrintTrainInfo("tried").fit(rows())
    assert isinstance(model, pyalink.GridSearchCVModel)
    tried = model.report.elements
    assert len(tried) == 4
    metrics = [t.metric for t in tried]
    assert metrics[0] >= metrics[1]
    assert tried[0].settings[0][2] == 15
    assert all(math.isnan(m) for m in metrics[2:])
    assert all("cannot be 'none'" in (t.reason or "") for t in tried[2:])
    printed = capsys.readouterr().out
    assert printed.startswith(
        "tried\nMetric information:\n  Metric name: AUC\n  Larger is better: true\n"
        "Tuning information:\n  |"
    )
    assert "stage 2|" in printed
    assert "Failed reason:\n  ALK" in printed
    # The stages that were given stay as they are; the best is trained on all rows.
    assert stage.getK() == 10
    frame = model.transform(rows()).collectToDataframe()
    assert (frame["p"] == frame["y"]).mean() > 0.85
    assert len(json.loads(model.report.toPrettyJson())) == 4


def test_folds_divide_the_rows():
    table = rows()._table()
    cv = search("GridSearchCV", neighbours(), numFolds=5)
    parts = [(a.to_arrow(), b.to_arrow()) for a, b in cv._parts_of_rows(table)]
    assert [b.num_rows for _, b in parts] == [24] * 5
    assert [a.num_rows for a, _ in parts] == [96] * 5
    assert sorted(pa.concat_tables([b for _, b in parts])["x"].to_pylist()) == sorted(X)
    again = [b.to_arrow() for _, b in cv._parts_of_rows(table)]
    assert [b["x"] for b in again] == [b["x"] for _, b in parts]
    few = [b.to_arrow().num_rows for _, b in cv._parts_of_rows(rows(FRAME.head(3))._table())]
    assert few == [1, 1, 1]
    ((known, new),) = search("GridSearchTVSplit", neighbours(), trainRatio=0.75)._parts_of_rows(
        table
    )
    assert (known.count(), new.count()) == (90, 30)


def test_a_metric_is_the_mean_of_folds():
    stage = neighbours()
    grid = pyalink.ParamGrid().addGrid(stage, "k", [5])
    cv = search("GridSearchCV", stage, numFolds=2, paramGrid=grid)
    cv.setTuningEvaluator(binary(tuningBinaryClassMetric="LOG_LOSS"))
    model = cv.fit(rows())
    found = []
    for known, new in cv._parts_of_rows(rows()._table()):
        fitted = neighbours().setK(5)._fitted(known)
        frame = fitted._transformed(new).to_pandas()
        chance = [json.loads(d).get(y, 0.0) for d, y in zip(frame["d"], frame["y"], strict=True)]
        found.append(-np.log(np.clip(chance, 1e-15, 1 - 1e-15)).mean())
    assert model.report.elements[0].metric == pytest.approx(np.mean(found))


def test_what_is_drawn():
    stage = neighbours()
    dist = pyalink.ParamDist().addDist(stage, "K", pyalink.ValueDist.randInteger(3, 30))
    tv = search("RandomSearchTVSplit", stage, numIter=2, paramDist=dist)
    model = tv.fit(rows())
    assert isinstance(model, pyalink.RandomSearchTVSplitModel)
    drawn = {t.settings[0][2] for t in model.report.elements}
    assert len(model.report.elements) == 2
    assert all(3 <= k <= 30 for k in drawn)
    # Each time the same, and more of them begin with the same.
    more = [settings[0][2] for settings in tv.setNumIter(5)._candidates()]
    assert set(more[:2]) == drawn


def test_distributions():
    dist = pyalink.ValueDist
    assert [dist.randInteger(3, 1).get(p) for p in (0, 0.4, 1)] == [1, 2, 3]
    assert [dist.randArray("abc").get(p) for p in (0, 0.5, 1)] == ["a", "b", "c"]
    assert dist.uniform(2.0, 4.0).get(0.25) == 2.5
    assert dist.exponential(2.0).get(0.5) == pytest.approx(2 * math.log(2))
    assert dist.normal(1.0, 2.0).get(0.975) == pytest.approx(1 + 2 * 1.959963984540054)
    assert dist.stdNormal().get(1.0) == math.inf
    assert dist.chi2(3.0).get(0.95) == pytest.approx(7.814727903251179)
    assert dist.chi2(2.0).get(0.5) == pytest.approx(2 * math.log(2))


def test_other_evaluators():
    given = {"featureCols": ["x"], "labelCol": "t", "predictionCol": "p", "lambda": 0.1}
    linear = pyalink.RidgeRegression(given)
    grid = pyalink.ParamGrid().addGrid(linear, "LAMBDA", [100.0, 1e-6])
    judge = pyalink.RegressionTuningEvaluator(labelCol="t", predictionCol="p")
    tv = pyalink.GridSearchTVSplit().setEstimator(linear).setParamGrid(grid)
    model = tv.setTuningEvaluator(judge.setTuningRegressionMetric("rmse")).fit(rows())
    assert [t.settings[0][2] for t in model.report.elements] == [1e-6, 100.0]
    predicted = model.transform(rows())
    assert judge.evaluate(predicted) < 0.01
    assert not judge.isLargerBetter()
    assert judge.setTuningRegressionMetric("R2").isLargerBetter()
    multi = pyalink.MultiClassClassificationTuningEvaluator(labelCol="y", predictionCol="y")
    assert multi.setTuningMultiClassMetric("MACRO_F1").evaluate(rows()) == 1.0
    clusters = pyalink.ClusterTuningEvaluator(predictionCol="y", labelCol="y")
    assert clusters.setTuningClusterMetric("ARI").evaluate(rows()) == 1.0
    assert math.isnan(clusters.setTuningClusterMetric("DB").evaluate(rows()))


def test_searches_in_pipelines():
    stage = neighbours()
    grid = pyalink.ParamGrid().addGrid(stage, "k", [1, 9])
    tv = search("GridSearchTVSplit", stage, paramGrid=grid)
    fitted = pyalink.Pipeline(pyalink.StandardScaler(selectedCols=["x", "z"]), tv).fit(rows())
    local = fitted.collectLocalPredictor(SCHEMA)
    assert local.map([2.5, 0.0, "", 0.0])[-2] == "é"


def test_bad_searches():
    stage = neighbours()
    with pytest.raises(al.Error, match='KnnClassifier has no parameter "NUM_TREES"'):
        pyalink.ParamGrid().addGrid(stage, "NUM_TREES", [1])
    with pytest.raises(al.Error, match='there are no values of "K"'):
        pyalink.ParamGrid().addGrid(stage, "K", [])
    with pytest.raises(al.Error, match="is no distribution"):
        pyalink.ParamDist().addDist(stage, "K", cast("Any", 3))
    grid = pyalink.ParamGrid().addGrid(stage, "K", [0, -1])
    with pytest.raises(al.Error, match="no candidate could be evaluated") as told:
        search("GridSearchTVSplit", stage, paramGrid=grid).fit(rows())
    assert "'k' is 1 or more" in str(told.value)
    with pytest.raises(al.Error, match="'NumFolds' is 2 or more, not 1"):
        search("GridSearchCV", stage, paramGrid=grid, numFolds=1).fit(rows())
    with pytest.raises(al.Error, match="'trainRatio' is between 0 and 1"):
        search("GridSearchTVSplit", stage, paramGrid=grid, trainRatio=1.0).fit(rows())
    tv = search("GridSearchTVSplit", stage, paramGrid=grid)
    tv.setTuningEvaluator(binary(tuningBinaryClassMetric="AUCC"))
    with pytest.raises(al.Error, match="cannot be 'AUCC'"):
        tv.fit(rows())
    with pytest.raises(al.Error, match="is no stage of the pipeline"):
        set_up(pyalink.Pipeline(neighbours()), [(stage, "k", 1)])
    assert str(Report(binary(), [])) == ""


# --- searches that learn ---


def learned(strategy: str, metric: Any, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Let a search find the largest value of a function of two places."""
    params = {"strategy": strategy, "candidates": 40, "forgetting": 21, "seed": 3}
    points = np.random.default_rng(1).uniform(size=(5, 2))
    while len(points) < count:
        found = _bayes.search(points, metric(points), params, len(points))
        assert all(0 <= x <= 1 for x in found)
        points = np.vstack((points, found))
    return points, metric(points)


@pytest.mark.parametrize("strategy", ["GP", "TPE"])
def test_a_search_learns_where_to_look(strategy):
    def metric(points: np.ndarray) -> np.ndarray:
        return 5 - 3 * (points[:, 0] - 0.2) ** 2 - 2 * np.abs(points[:, 1] - 0.9)

    points, values = learned(strategy, metric)
    drawn = metric(np.random.default_rng(2).uniform(size=(30, 2)))
    assert np.median(values[-10:]) > np.median(drawn) + 0.5
    assert values.max() > 4.85
    again, _ = learned(strategy, metric)
    assert (again == points).all()


def test_a_process_goes_through_what_is_known():
    random = np.random.default_rng(6)
    points, values = random.uniform(size=(6, 2)), random.normal(size=6)
    process = _bayes.Process(points, values, 0.3, 1e-8)
    mean, deviation = process.predict(points)
    np.testing.assert_allclose(mean, values, atol=1e-5)
    assert deviation.max() < 1e-3
    far = process.predict(np.array([[50.0, 50.0]]))
    assert far[0] == pytest.approx(0)
    assert far[1] == pytest.approx(1)
    covariance = np.linalg.inv(process._kernel(points) + 1e-8 * np.eye(6))
    wanted = -0.5 * values @ covariance @ values + 0.5 * np.linalg.slogdet(covariance)[1]
    assert process.likelihood == pytest.approx(wanted, rel=1e-4)


def test_the_expected_improvement_is_that_of_the_process():
    random = np.random.default_rng(7)
    points = random.uniform(size=(8, 1))
    metric = np.sin(5 * points[:, 0])
    wanted = np.linspace(0, 1, 5)[:, None]
    found = _bayes.expected_improvement(points, metric, wanted)
    values = (metric - metric.mean()) / metric.std()
    fits = [_bayes.Process(points, values, a, b) for a in _bayes._LENGTHS for b in _bayes._NOISES]
    mean, deviation = max(fits, key=lambda fit: fit.likelihood).predict(wanted)
    draws = mean + deviation * random.normal(size=(200_000, 1))
    better = np.maximum(draws - values.max(), 0).mean(axis=0)
    np.testing.assert_allclose(found, better, atol=5e-3)
    level = _bayes.expected_improvement(points, np.full(8, 2.0), wanted)
    assert np.isfinite(level).all()


def test_a_density_is_one_and_is_drawn_of():
    points, weights = np.array([0.9, 0.1, 0.85, 1.0]), np.array([1.0, 0.2, 1.0, 0.5])
    parzen = _bayes.Parzen(points, weights)
    grid = (np.arange(20_000) + 0.5) / 20_000
    density = parzen.density(grid)
    assert density.mean() == pytest.approx(1, abs=1e-6)
    random = np.random.default_rng(9)
    drawn = parzen.draw(random.uniform(size=4000), random.uniform(size=4000))
    assert drawn.mean() == pytest.approx((grid * density).mean(), abs=0.015)
    assert (drawn > 0.8).mean() == pytest.approx(density[grid > 0.8].sum() / 20_000, abs=0.025)
    assert _bayes.forgetful(3, 21).tolist() == [1, 1, 1]
    assert _bayes.forgetful(4, 2) == pytest.approx([0.25, 0.625, 1, 1])


@pytest.mark.parametrize("strategy", ["GP", "tpe"])
def test_bayesian_searches_begin_with_what_is_drawn(strategy):
    stage = neighbours()
    dist = pyalink.ParamDist().addDist(stage, "K", pyalink.ValueDist.randInteger(3, 30))
    dist.addDist(stage, "DISTANCE_TYPE", pyalink.ValueDist.randArray(["EUCLIDEAN", "none"]))
    name = "BayesSearchTVSplit"
    tv = search(name, stage, paramDist=dist, numIter=5, bayesStrategy=strategy, bayesNumStartup=3)
    model = tv.fit(rows())
    assert isinstance(model, pyalink.BayesSearchTVSplitModel)
    drawn = [[s[2] for s in settings] for settings in dist.candidates(3, 1)]
    found = [[s[2] for s in t.settings] for t in model.report.elements]
    assert len(found) == 5
    assert all(one in found for one in drawn)
    assert math.isnan(model.report.elements[-1].metric) == any("none" in one for one in found)
    assert [t.metric for t in tv.fit(rows()).report.elements][:2] == [
        t.metric for t in model.report.elements
    ][:2]
    assert "p" in model.transform(rows()).getColNames()


def test_bayesian_searches_by_folds():
    stage = neighbours()
    dist = pyalink.ParamDist().addDist(stage, "K", pyalink.ValueDist.randInteger(3, 30))
    cv = search("BayesSearchCV", stage, paramDist=dist, numIter=2, numFolds=2)
    assert len(cv.fit(rows()).report.elements) == 2
    for name, value in (("NumIter", 0), ("BayesNumStartup", 0), ("BayesNumCandidates", 0)):
        bad = search("BayesSearchCV", stage, paramDist=dist, numFolds=2)
        getattr(bad, f"set{name}")(value)
        with pytest.raises(al.Error, match=f"'{name[0].lower()}{name[1:]}' is 1 or more, not 0"):
            bad.fit(rows())
    with pytest.raises(al.Error, match="\"bayesStrategy\" cannot be 'magic'"):
        search("BayesSearchCV", stage, paramDist=dist, bayesStrategy="magic").fit(rows())
    with pytest.raises(al.Error, match="is no ParamDist"):
        search("BayesSearchCV", stage, paramDist=pyalink.ParamGrid()).fit(rows())
