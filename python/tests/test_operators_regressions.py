"""Softmax, generalized linear models, survival times, isotonic regression: by their definitions."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

from alink._algorithms import _glm, _isotonic, _linear, _softmax, _stepwise, _survival
from alink._algorithms._families import Family
from alink._algorithms._models import (
    BadModel,
    Model,
    read_model,
    weights_of_labels,
    write_model,
)
from alink._algorithms._student import two_sided
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(3)
ROWS = 500
X = RANDOM.normal([0, 4], [1, 2], (ROWS, 2))
ETA = X @ [0.4, -0.2] + 0.5
DESIGN = np.column_stack([X, np.ones(ROWS)])

GLM = {
    "labelCol": "y",
    "featureCols": ["a", "b"],
    "family": "gaussian",
    "link": "identity",
    "variancePower": 0.0,
    "linkPower": 1.0,
    "fitIntercept": True,
    "regParam": 0.0,
    "maxIter": 50,
    "epsilon": 1e-10,
}
LABELS = {
    ("gaussian", "identity"): ETA + RANDOM.normal(size=ROWS),
    ("binomial", "logit"): (RANDOM.random(ROWS) < 1 / (1 + np.exp(-ETA))) * 1.0,
    ("binomial", "probit"): (RANDOM.normal(size=ROWS) < ETA) * 1.0,
    ("binomial", "cloglog"): (RANDOM.random(ROWS) < 1 - np.exp(-np.exp(ETA))) * 1.0,
    ("poisson", "log"): RANDOM.poisson(np.exp(ETA)) * 1.0,
    ("poisson", "sqrt"): RANDOM.poisson((X @ [0.1, 0.1] + 3) ** 2) * 1.0,
    ("gamma", "log"): RANDOM.gamma(2.0, np.exp(ETA) / 2),
    ("gamma", "inverse"): RANDOM.gamma(5.0, 1 / (X @ [0.05, 0.05] + 2) / 5),
}


def table(y, **more):
    return pa.table({"a": X[:, 0], "b": X[:, 1], "y": y, **more})


def glm(rows, size=1, **params):
    model = read_model(train(_glm.train({**GLM, **params}), rows, size, batch_rows=90))
    found = json.loads(model.data[0])
    return np.array([*found["coefficients"], found["intercept"]])


@pytest.mark.parametrize(("family", "link"), LABELS)
def test_glm_is_where_the_score_is_0(family: str, link: str) -> None:
    y = LABELS[family, link]
    at = glm(table(y), family=family, link=link)
    kind = Family(family, link)
    mean = kind.mean(DESIGN @ at)
    score = DESIGN.T @ ((y - mean) / (kind.link.slope(mean) * kind.variance(mean)))
    assert np.abs(score).max() < 1e-5 * ROWS
    together = glm(table(y), 3, family=family, link=link)
    assert together == pytest.approx(at, rel=1e-9)


def test_glm_of_tweedie_with_weights_offset_and_penalty() -> None:
    y = np.where(RANDOM.random(ROWS) < 0.3, 0.0, RANDOM.gamma(2.0, 1.0, ROWS))
    weight, offset = RANDOM.random(ROWS) + 0.5, RANDOM.normal(0, 0.1, ROWS)
    rows = table(y, w=weight, o=offset)
    given = {"family": "tweedie", "link": "power", "variancePower": 1.5, "linkPower": 0.0}
    at = glm(rows, weightCol="w", offsetCol="o", regParam=0.2, **given)
    mean = np.exp(DESIGN @ at + offset)
    score = DESIGN.T @ (weight * (y - mean) * mean**-0.5)
    score -= 0.2 * weight.sum() * np.array([*at[:2], 0.0])
    assert np.abs(score).max() < 1e-5 * ROWS


def test_links_are_inverse_to_their_means_and_have_their_slopes() -> None:
    mean = np.array([0.1, 0.4, 0.9])
    for link in ("identity", "log", "inverse", "sqrt", "logit", "probit", "cloglog"):
        found = Family("gaussian", link).link
        assert found.mean(found.eta(mean)) == pytest.approx(mean, rel=1e-9)
        differences = (found.eta(mean + 1e-6) - found.eta(mean - 1e-6)) / 2e-6
        assert found.slope(mean) == pytest.approx(differences, rel=1e-5)


def test_student() -> None:
    assert two_sided(1.0, 1) == pytest.approx(0.5)
    assert two_sided(2.0, 2) == pytest.approx(1 - 2 / math.sqrt(6))
    assert two_sided(2.228138852, 10) == pytest.approx(0.05, rel=1e-7)
    assert two_sided(1.959963985, math.inf) == pytest.approx(0.05, rel=1e-7)


def test_glm_refuses_labels_that_the_family_has_not() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        glm(table(ETA * 10), family="binomial", link="logit")
    with pytest.raises(ValueError, match="larger than 0"):
        glm(table(np.zeros(ROWS)), family="gamma", link="log")
    with pytest.raises(ValueError, match="no rows"):
        glm(table(ETA).slice(0, 0))


def test_evaluation_of_least_squares() -> None:
    y = LABELS["gaussian", "identity"]
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y}), "a double, b double, y double"
    )
    model = pyalink.GlmTrainBatchOp(featureCols=["a", "b"], labelCol="y").linkFrom(rows)
    summary = pyalink.GlmEvaluationBatchOp().linkFrom(model, rows).collectToDataframe()
    found = json.loads(str(summary["summary"][0]))
    at, residual = np.linalg.lstsq(DESIGN, y, rcond=None)[:2]
    errors = np.sqrt(np.diag(np.linalg.inv(DESIGN.T @ DESIGN)) * residual[0] / (ROWS - 3))
    assert found["coefficientStandardErrors"] == pytest.approx(errors)
    assert [*found["coefficients"], found["intercept"]] == pytest.approx(at)
    assert found["tValues"] == pytest.approx(at / errors)
    assert found["nullDeviance"] == pytest.approx(((y - y.mean()) ** 2).sum())
    log = math.log(2 * math.pi * residual[0] / ROWS)
    assert found["aic"] == pytest.approx(ROWS * (log + 1) + 2 + 2 * 3)
    predicted = pyalink.GlmPredictBatchOp(predictionCol="p", linkPredResultCol="l")
    given = predicted.linkFrom(model, rows).collectToDataframe()
    assert given["p"].to_numpy() == pytest.approx(DESIGN @ at)
    assert (given["p"] == given["l"]).all()
    with pytest.raises(Exception, match="family"):
        pyalink.GlmTrainBatchOp(featureCols=["a"], labelCol="y", family="x").linkFrom(
            rows
        ).collectToDataframe()


SOFTMAX = {
    "labelCol": "y",
    "featureCols": ["a", "b"],
    "withIntercept": True,
    "standardization": True,
    "maxIter": 300,
    "epsilon": 1e-9,
}


def test_softmax_is_where_the_gradient_is_0() -> None:
    y = np.array(["é", "b", "c"])[
        (X @ [[1.0, -1, 0], [0.3, 0, 0]] + RANDOM.gumbel(size=(ROWS, 3))).argmax(axis=1)
    ]
    found = []
    for size in (1, 3):
        model = train(_softmax.train(SOFTMAX), table(y), size, batch_rows=90)
        read = read_model(model)
        assert read.labels == ["é", "c", "b"]
        found.append(np.array(weights_of_labels(read)).T)
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-5)
    share = _softmax.probabilities(X @ found[0][1:] + found[0][0])
    wrong = share - (y[:, None] == np.array(read.labels))
    assert np.abs(DESIGN.T @ wrong).max() < 1e-4 * ROWS
    predict = _softmax.Predict({}, [pa.string(), pa.string()])
    predict.load(model)
    rows = pa.RecordBatch.from_pydict({"a": [0.0, None], "b": [1.0, 1.0]})
    label, detail = predict(rows)
    told = {name: float(p) for name, p in json.loads(detail[0].as_py()).items()}
    assert told[label[0].as_py()] == max(told.values())
    assert sum(told.values()) == pytest.approx(1)
    assert label[1].as_py() is None
    assert detail[1].as_py() is None
    sparse = {**SOFTMAX, "featureCols": None, "vectorCol": "v"}
    vectors = [f"$2$0:{a!r} 1:{b!r}" for a, b in X.tolist()]
    model = train(_softmax.train(sparse), table(y, v=vectors), batch_rows=90)
    of_vectors = weights_of_labels(read_model(model))
    assert pytest.approx(found[0], rel=1e-3) == np.array(of_vectors).T
    with pytest.raises(ValueError, match="1 value where 2"):
        train(_softmax.train(SOFTMAX), table(["a"] * ROWS))


@pytest.mark.parametrize("apart", [True, False])
def test_softmax_reads_both_forms_of_models(apart: bool) -> None:
    # PyAlink writes the weights of all labels one after the other.
    weights = [[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]]
    told: dict[str, Any] = {"featureColNames": ["a", "b"], "coefVector": None, "coefVectors": None}
    if apart:
        told["coefVectors"] = [{"data": one} for one in weights]
    else:
        told["coefVector"] = {"data": [*weights[0], *weights[1]]}
    meta = {"modelName": "softmax", "hasInterceptItem": True, "vectorCol": None}
    model = Model(meta, [json.dumps(told)], ["x", "y", "z"])
    predict = _softmax.Predict({}, [pa.string()])
    predict.load(write_model(model, pa.string()))
    rows = pa.RecordBatch.from_pydict({"a": [3.0, -1.0, -9.0], "b": [0.0, 1.0, -9.0]})
    assert predict(rows)[0].to_pylist() == ["x", "y", "z"]
    linear = _linear.Predict({}, [pa.string()])
    with pytest.raises(BadModel, match="not a linear one"):
        linear.load(write_model(model, pa.string()))
    if not apart:
        broken = Model(meta, [json.dumps(told)], ["w", "x", "y", "z", "é"])
        with pytest.raises(BadModel, match="6 weights for 4 labels"):
            predict.load(write_model(broken, pa.string()))


AFT = {**SOFTMAX, "censorCol": "c", "l1": 0.0, "l2": 0.0}


def test_survival_is_where_the_likelihood_is_flat() -> None:
    times = np.exp(ETA) * RANDOM.weibull(1 / 0.6, ROWS)
    limit = RANDOM.exponential(4.0, ROWS)
    rows = table(np.minimum(times, limit), c=(times <= limit) * 1.0)
    found = []
    for size in (1, 3):
        model = train(_survival.train(AFT), rows, size, batch_rows=90)
        found.append(np.array(json.loads(read_model(model).data[0])["coefVector"]["data"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    weights, scale = np.roll(found[0][:-1], -1), np.exp(found[0][-1])
    away = (np.log(rows["y"].to_numpy()) - DESIGN @ weights) / scale
    seen = rows["c"].to_numpy()
    assert np.abs(DESIGN.T @ (seen - np.exp(away))).max() < 1e-4 * ROWS
    assert abs(seen.sum() + (away * (seen - np.exp(away))).sum()) < 1e-3 * ROWS
    assert [*weights, scale] == pytest.approx([0.4, -0.2, 0.5, 0.6], abs=0.2)
    predict = _survival.Predict(
        {"quantileProbabilities": [0.5, 1 - math.exp(-1)]}, [pa.float64(), pa.string()]
    )
    predict.load(model)
    value, quantiles = predict(pa.RecordBatch.from_pydict({"a": [0.5, None], "b": [2.0, 2.0]}))
    median, same = map(float, quantiles[0].as_py().split(" "))
    assert same == pytest.approx(value[0].as_py())
    assert median == pytest.approx(value[0].as_py() * math.log(2) ** scale, rel=1e-3)
    assert value[1].as_py() is None
    assert quantiles[1].as_py() is None


def test_survival_refuses_what_are_no_times() -> None:
    good = np.ones(ROWS)
    for y, c, why in (
        (-good, good, "times of 0 or less"),
        (good, good * 2, "other than 0"),
        (good, good * 0, "in no row"),
    ):
        with pytest.raises(ValueError, match=why):
            train(_survival.train(AFT), table(y, c=c))


ISOTONIC = {"labelCol": "y", "featureCol": "a", "isotonic": True, "featureIndex": 0}


def isotonic(rows, given, size=1, **params):
    predict = _isotonic.Predict({}, [pa.float64()])
    predict.load(train(_isotonic.train({**ISOTONIC, **params}), rows, size, batch_rows=90))
    return predict(given)[0].to_pylist()


def test_isotonic_regression_by_the_largest_of_least_means() -> None:
    a = np.round(X[:60, 0], 1)
    y, w = a + RANDOM.normal(size=60), RANDOM.random(60) + 0.1
    rows = pa.table({"a": a, "y": y, "w": w})
    places = np.unique(a)
    mass = np.array([w[a == place].sum() for place in places])
    mean = np.array([(w * y)[a == place].sum() for place in places]) / mass
    n = len(places)
    expected = [
        max(
            min(np.average(mean[s : t + 1], weights=mass[s : t + 1]) for t in range(i, n))
            for s in range(i + 1)
        )
        for i in range(n)
    ]
    given = pa.RecordBatch.from_pydict({"a": [*places, None, -99.0, 99.0]})
    for size in (1, 3):
        found = isotonic(rows, given, size, weightCol="w")
        assert found[:n] == pytest.approx(expected)
        assert found[n:] == [None, pytest.approx(expected[0]), pytest.approx(expected[-1])]
    falling = isotonic(rows, given, isotonic=False)
    assert (np.diff(falling[:n]) <= 1e-12).all()


def test_isotonic_regression_interpolates_elements_of_vectors() -> None:
    rows = pa.table({"v": ["1 0", "1 2", "$2$0:5"], "y": [1.0, 3.0, 1.0]})
    given = pa.RecordBatch.from_pydict({"v": ["0 1", None, "$2$1:2"]})
    found = isotonic(rows, given, featureCol=None, vectorCol="v", featureIndex=1)
    assert found == [2.0, None, 3.0]
    with pytest.raises(ValueError, match="no rows"):
        isotonic(rows.slice(0, 0), given, featureCol=None, vectorCol="v", featureIndex=1)


def test_stages_and_streams_do_as_operators() -> None:
    given: dict[str, Any]
    frame = pd.DataFrame({"a": X[:50, 0], "y": X[:50, 0] > 0, "c": 1.0})
    frame["y"] = frame["y"].astype(float) + 1
    schema = "a double, y double, c double"
    batch = pyalink.BatchOperator.fromDataframe(frame, schema)
    cases: list[tuple[Any, str, dict[str, Any]]] = [
        (pyalink.Softmax, "Softmax", {"featureCols": ["a"]}),
        (pyalink.GeneralizedLinearRegression, "Glm", {"featureCols": ["a"]}),
        (pyalink.AftSurvivalRegression, "AftSurvivalReg", {"featureCols": ["a"], "censorCol": "c"}),
        (pyalink.IsotonicRegression, "IsotonicReg", {"featureCol": "a"}),
    ]
    for estimator, operators, given in cases:
        model = getattr(pyalink, f"{operators}TrainBatchOp")(labelCol="y", **given).linkFrom(batch)
        apply = getattr(pyalink, f"{operators}PredictBatchOp")(predictionCol="p")
        stage = estimator(labelCol="y", predictionCol="p", **given)
        expected = apply.linkFrom(model, batch).collectToDataframe()
        found = stage.fit(batch).transform(batch).collectToDataframe()
        pd.testing.assert_frame_equal(found, expected)


def test_info_of_softmax() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": np.arange(ROWS) % 3})
    rows = pyalink.BatchOperator.fromDataframe(frame, "a double, b double, y int")
    model = pyalink.SoftmaxTrainBatchOp(featureCols=["a", "b"], labelCol="y").linkFrom(rows)
    info = model.collectModelInfo()
    assert info.getLabelValues() == [2, 1, 0]
    assert [w.size() for w in info.getWeights()] == [3, 3]
    assert info.getWeight().getData() == info.getWeights()[0].getData()
    assert "intercept" in str(info)
    assert f"{info.getWeights()[1].getData()[2]:.8f}" in str(info)


def stepwise(method: str, x: Any, y: Any, size: int = 1) -> Any:
    names = [f"x{i}" for i in range(x.shape[1])]
    given = {"labelCol": "y", "featureCols": names, "method": method}
    rows = pa.table({**{n: x[:, i] for i, n in enumerate(names)}, "y": y})
    training = _stepwise.train({**given, "featureTypes": ["DOUBLE"] * len(names)})
    model = read_model(train(training, rows, size, batch_rows=60))
    return json.loads(model.data[0]), json.loads(model.data[1])


@pytest.mark.parametrize("method", ["Forward", "Backward", "Stepwise"])
def test_stepwise_finds_the_features_that_matter(method: str) -> None:
    random = np.random.default_rng(8)
    x = random.normal(size=(200, 6)) * [1, 10, 1, 1, 1, 0] + 5
    x[:, 4] = x[:, 0] - x[:, 1]  # says nothing new
    y = 2 * x[:, 0] - 0.3 * x[:, 1] + 4 + random.normal(size=200)
    data, summary = stepwise(method, x, y)
    assert {"x5"}.isdisjoint(data["featureColNames"])
    assert len({"x0", "x1", "x4"} & set(data["featureColNames"])) == 2
    places = [int(name[1:]) for name in data["featureColNames"]]
    design = np.column_stack([np.ones(200), x[:, places]])
    at, residual = np.linalg.lstsq(design, y, rcond=None)[:2]
    assert data["coefVector"]["data"] == pytest.approx(at)
    variance = residual[0] / (200 - design.shape[1])
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance)[1:]
    assert summary["standardErrors"] == pytest.approx(errors)
    assert summary["tValues"] == pytest.approx(at[1:] / errors)
    assert summary["rSquared"] == pytest.approx(1 - residual[0] / ((y - y.mean()) ** 2).sum())
    assert max(summary["pValues"]) <= 0.1
    again, _ = stepwise(method, x, y, 3)
    assert again["coefVector"]["data"] == pytest.approx(at)
    assert again["featureColNames"] == data["featureColNames"]


def test_stepwise_drops_what_later_features_explain() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(2, 300))
    x = np.column_stack([a + b + 0.3 * random.normal(size=300), a, b])
    y = a + b + 0.1 * random.normal(size=300)
    forward, _ = stepwise("Forward", x, y)
    both, summary = stepwise("Stepwise", x, y)
    assert forward["featureColNames"][0] == "x0"
    assert sorted(both["featureColNames"]) == ["x1", "x2"]
    assert ["-", "x0"] in summary["steps"]


def test_stepwise_without_features_that_matter_and_through_the_engine() -> None:
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4, 5, 6], "b": 1.0, "y": [1.0, -1, 1, 1, -1, 1]})
    rows = pyalink.BatchOperator.fromDataframe(frame, "a double, b double, y double")
    given = {"featureCols": ["a", "b"], "labelCol": "y", "predictionCol": "p"}
    fitted = pyalink.LinearRegStepwise({**given, "method": "stepwise"}).fit(rows)
    found = fitted.transform(rows).collectToDataframe()
    assert found["p"].to_numpy() == pytest.approx([1 / 3] * 6)
    train = pyalink.LinearRegStepwiseTrainBatchOp(featureCols=["a"], labelCol="a").linkFrom(rows)
    info = train.collectModelInfo()
    assert info.getSummary()["steps"] == [["+", "a"]]
    assert "stepwise info" in str(info)
    with pytest.raises(Exception, match="method"):
        pyalink.LinearRegStepwise({**given, "method": "x"}).fit(rows)


@pytest.mark.parametrize(("family", "link"), [("poisson", "log"), ("binomial", "probit")])
def test_null_deviance_with_offsets(family: str, link: str) -> None:
    random = np.random.default_rng(4)
    y, kind = LABELS[family, link], Family(family, link)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y, "o": random.normal(0, 0.7, ROWS)})
    rows = pyalink.BatchOperator.fromDataframe(frame, "a double, b double, y double, o double")
    given = {"featureCols": ["a", "b"], "labelCol": "y", "offsetCol": "o", "family": family}
    model = pyalink.GlmTrainBatchOp({**given, "link": link, "epsilon": 1e-9}).linkFrom(rows)
    summary = pyalink.GlmEvaluationBatchOp().linkFrom(model, rows).collectToDataframe()
    found = json.loads(str(summary["summary"][0]))["nullDeviance"]
    offset = frame["o"].to_numpy()

    def deviance(at: float) -> float:
        return float(kind.deviance(y, kind.mean(at + offset)).sum())

    grid = np.linspace(-4, 4, 4001)
    assert found == pytest.approx(min(map(deviance, grid)), rel=1e-5)
    # An intercept alone, fitted to the rows, has the same deviance.
    assert found < deviance(kind.link.eta(np.array([y.mean()]))[0]) - 0.1


def test_streams_predict_as_batches_do() -> None:
    frame = pd.DataFrame({"a": [*X[:50, 0], None], "y": [*ETA[:50], 1.0]})
    schema = "a double, y double"
    known = pyalink.BatchOperator.fromDataframe(frame.head(50), schema)
    batch = pyalink.BatchOperator.fromDataframe(frame, schema)
    for name, given in (("Glm", {"featureCols": ["a"]}), ("IsotonicReg", {"featureCol": "a"})):
        train_op = getattr(pyalink, f"{name}TrainBatchOp")({"labelCol": "y", **given})
        model = train_op.linkFrom(known)
        apply = getattr(pyalink, f"{name}PredictBatchOp")(predictionCol="p")
        stream = getattr(pyalink, f"{name}PredictStreamOp")(model, predictionCol="p")
        stream = stream.linkFrom(pyalink.StreamOperator.fromDataframe(frame, schema))
        found = stream._table().to_arrow()["p"].to_pylist()
        wanted = apply.linkFrom(model, batch)._table().to_arrow()["p"].to_pylist()
        assert found == wanted
        assert found[-1] is None


def test_survival_of_sparse_vectors_is_that_of_columns() -> None:
    time = np.exp(ETA / 4)
    censor = (np.arange(ROWS) % 5 > 0) * 1.0
    vectors = [f"$2$0:{a!r} 1:{b!r}" for a, b in X.tolist()]
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "v": vectors, "t": time, "c": censor})
    schema = "a double, b double, v string, t double, c double"
    rows = pyalink.BatchOperator.fromDataframe(frame, schema)
    found: list[Any] = []
    for features in ({"featureCols": ["a", "b"]}, {"vectorCol": "v"}):
        given = {"labelCol": "t", "censorCol": "c", "predictionCol": "p", **features}
        fitted = pyalink.AftSurvivalRegression(given).fit(rows)
        found.append(fitted.transform(rows).collectToDataframe()["p"].to_numpy())
    assert found[1] == pytest.approx(found[0], rel=1e-4)
