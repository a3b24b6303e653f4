"""Machine learning in scikit-learn's style: the same stages as PyAlink's, under other names."""

from __future__ import annotations

import keyword
import sys

import numpy as np
import pyarrow as pa
import pytest

import alink as al
from alink import ml
from alink.operators._define import BUILT
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(2)
X = RANDOM.normal([0, 10], [1, 3], (300, 2))
Y = np.where(X @ [1.0, 0.5] - 5 + RANDOM.logistic(size=300) > 0, "yes", "no")
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "y": Y})


@pytest.fixture(scope="module")
def table():
    return al.from_arrow(TABLE)


def test_each_stage_has_a_class_whose_parameters_are_told_apart():
    assert {"LogisticRegression", "StandardScaler", "FeatureHasher"} <= set(dir(ml))
    for name in set(dir(ml)) - {"Pipeline", "Stage", "load"}:
        parameters = getattr(ml, name)._parameters
        assert len(parameters) == len(BUILT[name]._parameters)
        assert all(n.isidentifier() and not keyword.iskeyword(n) for n in parameters)


def test_it_does_what_the_operators_do(table):
    model = ml.LogisticRegression(features=["a", "b"], label="y", l2=0.01).fit(table)
    found = model.predict(table)
    assert found.columns == ["a", "b", "y", "prediction"]
    rows = pyalink.BatchOperator.fromTable(table)
    stage = pyalink.LogisticRegression(
        featureCols=["a", "b"], labelCol="y", l2=0.01, predictionCol="prediction"
    )
    wanted = stage.fit(rows).transform(rows).toTable()
    assert found.to_arrow() == wanted.to_arrow()
    right = (found.to_arrow()["prediction"].to_numpy() == Y).mean()
    assert right > 0.7
    assert model.fit_predict(table).to_arrow() == wanted.to_arrow()
    assert model.model_ is not None
    assert model.model_.columns == ["model_id", "model_info", "label_value"]


def test_fitting_computes_and_predicting_waits(table):
    rows = table.with_columns(y="CASE WHEN a > 100 THEN 1 ELSE 0 END")
    estimator = ml.LogisticRegression(features=["a"], label="y")
    with pytest.raises(al.UdfError, match="the label 'y' has 1 value where 2 are needed"):
        estimator.fit(rows)
    with pytest.raises(al.PlanError, match="this LogisticRegression is not fitted"):
        estimator.predict(rows)


def test_a_transformer_is_fitted_like_the_others(table):
    hashed = ml.FeatureHasher(columns=["a", "y"], output="v", num_features=16)
    assert hashed.fit_transform(table).columns == ["a", "b", "y", "v"]
    assert hashed.model_ is None


def test_parameters(table):
    estimator = ml.LinearRegression(features=["a"], label="b")
    assert repr(estimator) == "LinearRegression(features=['a'], label='b')"
    assert estimator.get_params()["max_iter"] == 100
    assert estimator.get_params()["prediction"] == "prediction"
    estimator.fit(table)
    copy = estimator.clone().set_params(max_iter=7)
    assert (copy.get_params()["max_iter"], estimator.get_params()["max_iter"]) == (7, 100)
    with pytest.raises(al.PlanError, match="not fitted"):
        copy.transform(table)
    with pytest.raises(al.PlanError, match='has no parameter "max_iters"') as caught:
        ml.LinearRegression(max_iters=3)  # pyright: ignore[reportCallIssue]
    assert "max_iter" in str(caught.value)
    with pytest.raises(al.PlanError, match="\"max_iter\" cannot be 'many'"):
        ml.LinearRegression(max_iter="many")  # pyright: ignore[reportArgumentType]
    with pytest.raises(al.PlanError, match=r"fit takes a table, not \w*Table"):
        ml.LinearRegression(features=["a"], label="b").fit(TABLE)
    with pytest.raises(AttributeError, match="LogisticRegression"):
        _ = ml.LogisticRegresion


def steps():
    scaler = ml.StandardScaler(columns=["a", "b"])
    return [scaler, ("fit", ml.LogisticRegression(features=["a", "b"], label="y"))]


def test_a_pipeline_is_saved_read_and_applied_to_single_rows(table, tmp_path):
    pipeline = ml.Pipeline(steps()).fit(table)
    found = pipeline.predict(table).to_arrow()
    path = tmp_path / "pipeline.ak"
    pipeline.save(path)
    with pytest.raises(al.PlanError, match="is there already"):
        pipeline.save(path)
    pipeline.save(path, overwrite=True)
    again = ml.load(path)
    assert again.predict(table).to_arrow() == found
    local = again.local("a double, b double")
    rows = [local.map([a, b])[-1] for a, b in X[:20].tolist()]
    assert rows == found["prediction"].to_pylist()[:20]
    with pytest.raises(al.PlanError, match="is fitted already"):
        again.fit(table)


def test_a_pipeline_has_the_parameters_of_its_stages(table):
    pipeline = ml.Pipeline(steps())
    assert list(dict(pipeline.steps)) == ["standardscaler", "fit"]
    assert pipeline.set_params(fit__l1=0.5).get_params()["fit__l1"] == 0.5
    other = pipeline.clone()
    other.set_params(fit__l1=0.25)
    assert pipeline.get_params()["fit__l1"] == 0.5
    with pytest.raises(al.PlanError, match='LogisticRegression has no parameter "l3"'):
        pipeline.set_params(fit__l3=1)
    with pytest.raises(al.PlanError, match='no parameter "fitt__l1"'):
        pipeline.set_params(fitt__l1=1)
    with pytest.raises(al.PlanError, match='two stages are called "standardscaler"'):
        ml.Pipeline([ml.StandardScaler(), ml.StandardScaler()])
    with pytest.raises(al.PlanError, match="a pipeline consists of stages"):
        ml.Pipeline(["scale"])  # pyright: ignore[reportArgumentType]
    assert pipeline.fit(table).fit_transform(table).columns[-1] == "prediction"


def test_importing_alink_imports_no_operators():
    import subprocess

    source = "import sys, alink; print([m for m in sys.modules if 'alink.operators' in m])"
    printed = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    assert printed.stdout.strip() == b"[]"
