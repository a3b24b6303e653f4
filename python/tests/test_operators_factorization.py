"""Factorization machines: outcomes by their definition, and minima of their objective."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from groups import train

import alink as al
from alink._algorithms import _factorization
from alink._algorithms._models import read_model
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(300, 4)) * [1, 1, 1, 100]
PAIRS = 0.5 + X[:, 0] * X[:, 1] - 2 * X[:, 1] * X[:, 2] + 0.01 * X[:, 3]
NAMES = ["a", "b", "c", "d"]
DENSE = [" ".join(map(repr, row)) for row in X.tolist()]
SPARSE = ["$4$" + " ".join(f"{i}:{x!r}" for i, x in enumerate(r)) for r in X.tolist()]

GIVEN: dict[str, Any] = {
    "labelCol": "y",
    "featureCols": NAMES,
    "numFactor": 3,
    "numEpochs": 60,
    "withIntercept": True,
    "withLinearItem": True,
    "initStdev": 0.05,
    "epsilon": 1e-7,
    "lambda0": 0.0,
    "lambda1": 0.0,
    "lambda2": 0.0,
}


def table(y: Any, **more: Any) -> pa.Table:
    return pa.table({**{n: X[:, i] for i, n in enumerate(NAMES)}, "y": y, **more})


def machine(training: Any, rows: pa.Table, size: int = 1, **params: Any) -> Any:
    model = read_model(train(training({**GIVEN, **params}), rows, size, batch_rows=70))
    data = json.loads(model.data[0])
    return data["bias"], np.array(data["weights"]), np.array(data["factors"]), model.labels


def outcomes(x: Any, bias: float, weights: Any, factors: Any) -> Any:
    """Sum over all pairs, as the definition has it."""
    result = bias + x @ weights
    for i in range(x.shape[1]):
        for j in range(i + 1, x.shape[1]):
            result = result + (factors[i] @ factors[j]) * x[:, i] * x[:, j]
    return result


def test_regression_finds_products_of_features() -> None:
    bias, weights, factors, _ = machine(_factorization.train_regressor, table(PAIRS))
    assert outcomes(X, bias, weights, factors) == pytest.approx(PAIRS, abs=0.01)


def test_the_gradient_of_the_penalised_objective_is_0() -> None:
    weight = RANDOM.uniform(0.5, 2, len(X))
    label = np.where(RANDOM.logistic(size=len(X)) < PAIRS, "yes", "no")
    penalties: dict[str, Any] = {"lambda0": 0.1, "lambda1": 0.02, "lambda2": 0.05}
    rows = table(label, w=weight)
    bias, weights, factors, labels = machine(
        _factorization.train_classifier, rows, weightCol="w", **penalties
    )
    assert labels == ["yes", "no"]

    def objective(at: Any) -> float:
        v = at[5:].reshape(4, 3)
        signed = outcomes(X, at[0], at[1:5], v) * np.where(label == "yes", 1, -1)
        loss = weight @ np.logaddexp(0, -signed) / weight.sum()
        return loss + 0.05 * at[0] ** 2 + 0.01 * (at[1:5] ** 2).sum() + 0.025 * (v**2).sum()

    at = np.concatenate([[bias], weights, factors.ravel()])
    for step in np.eye(len(at)) * 1e-5:
        assert abs(objective(at + step) - objective(at - step)) / 2e-5 < 1e-4


@pytest.mark.parametrize("form", ["columns", "dense", "sparse"])
def test_workers_and_forms_of_features_do_not_matter(form: str) -> None:
    given: dict[str, Any] = {} if form == "columns" else {"vectorCol": form, "featureCols": None}
    rows = table(PAIRS, dense=DENSE, sparse=SPARSE)
    one = machine(_factorization.train_regressor, table(PAIRS), numEpochs=1)
    many = machine(_factorization.train_regressor, rows, 3, numEpochs=1, **given)
    for a, b in zip(one[:3], many[:3], strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-7)


def test_parts_that_are_left_out_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    left_out: dict[str, Any] = {"withIntercept": False, "withLinearItem": False, "numEpochs": 1}
    bias, weights, factors, _ = machine(_factorization.train_regressor, table(PAIRS), **left_out)
    assert bias == 0
    assert not weights.any()
    assert factors.any()
    assert "not converged after 10 iterations (1 epochs)" in capsys.readouterr().err


def test_training_refuses_what_it_cannot_take() -> None:
    for y, why in ((["a"] * 300, "has 1 value "), (list(range(300)), "has 300 values")):
        with pytest.raises(ValueError, match=why):
            machine(_factorization.train_classifier, table(y))
    with pytest.raises(ValueError, match="no rows"):
        machine(_factorization.train_regressor, table(PAIRS).slice(0, 0))


def test_operators_streams_and_stages() -> None:
    frame = pd.DataFrame(X, columns=NAMES).assign(
        sparse=SPARSE, y=np.where(PAIRS > 0, "yes", "nö"), t=PAIRS
    )
    frame.loc[0, "sparse"] = None
    schema = "a double, b double, c double, d double, sparse string, y string, t double"
    rows = pyalink.BatchOperator.fromDataframe(frame, schema)
    known = pyalink.BatchOperator.fromDataframe(frame.drop(index=0), schema)
    for name, label, model in (
        ("FmClassifier", "y", "FmClassificationModel"),
        ("FmRegressor", "t", "FmRegressionModel"),
    ):
        given = {"vectorCol": "sparse", "labelCol": label, "numFactor": 2, "numEpochs": 5}
        out = {"predictionCol": "p", "predictionDetailCol": "q"}
        trained = getattr(pyalink, f"{name}TrainBatchOp")(given).linkFrom(known)
        apply = getattr(pyalink, f"{name}PredictBatchOp")(out)
        expected = apply.linkFrom(trained, rows).collectToDataframe()
        assert expected["p"].isna().tolist() == [True] + [False] * 299
        assert pd.isna(expected["q"][0])
        detail = json.loads(expected["q"][1])
        if name == "FmClassifier":
            assert (expected["p"] == frame["y"]).mean() > 0.95
            assert max(detail, key=lambda key: float(detail[key])) == expected["p"][1]
            assert sum(map(float, detail.values())) == pytest.approx(1)
        else:
            assert np.corrcoef(expected["p"][1:], PAIRS[1:])[0, 1] > 0.95
            assert float(detail["label"]) == expected["p"][1]
        fitted = getattr(pyalink, name)({**given, **out}).fit(known)
        assert type(fitted).__name__ == model
        again = fitted.transform(rows).collectToDataframe()
        pd.testing.assert_frame_equal(again, expected)
        source = pyalink.StreamOperator.fromDataframe(frame, schema)
        stream = getattr(pyalink, f"{name}PredictStreamOp")(trained, out).linkFrom(source)
        found = stream._table().to_arrow()
        assert found["p"].to_pylist()[1:] == expected["p"].tolist()[1:]
        assert found["q"].to_pylist()[1:] == expected["q"].tolist()[1:]
        assert found["p"][0].as_py() is None
        info = trained.collectModelInfo()
        assert info.getNumFactor() == 2
        assert info.getNumFeature() == 4
        assert "num factor" in str(info)


def test_bad_parameters_are_refused() -> None:
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]}), "x double, y double"
    )
    for given, why in (({"numFactor": 0}, "numFactor"), ({"lambda1": -1.0}, "penalties")):
        trained = pyalink.FmRegressorTrainBatchOp({"featureCols": ["x"], "labelCol": "y", **given})
        with pytest.raises(al.Error, match=why):
            trained.linkFrom(rows).collectToDataframe()
