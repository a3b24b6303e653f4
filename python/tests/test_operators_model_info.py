"""What models say of themselves, and what is printed of trainings."""

from __future__ import annotations

import json
import types
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink._algorithms._blocks import Scaling
from alink._algorithms._linear import importances
from alink._algorithms._models import Model, write_model
from alink.operators._model_info import (
    LinearModelTrainInfo,
    _java_order,
    headline,
    listed,
    mapped,
)
from pyalink import alink as pyalink

FRAME = pd.DataFrame(
    [[2, 1, 1], [3, 2, 1], [4, 3, 2], [2, 4, 1], [2, 2, 1], [4, 3, 2], [1, 2, 1], [5, 3, 2]],
    columns=["f0", "f1", "label"],
)


def source():
    return pyalink.BatchOperator.fromDataframe(FRAME, "f0 int, f1 int, label int")


def train(name, **params):
    return getattr(pyalink, f"{name}TrainBatchOp")(**params).linkFrom(source())


def test_linear_models_tell_their_weights():
    info = train("LinearReg", featureCols=["f0", "f1"], labelCol="label").collectModelInfo()
    found = np.linalg.lstsq(
        np.column_stack([np.ones(8), FRAME[["f0", "f1"]]]), FRAME["label"], rcond=None
    )[0]
    np.testing.assert_allclose(info.getWeight().getData(), found, rtol=1e-6)
    assert info.getFeatureNames() == ["f0", "f1"]
    assert info.hasInterceptItem() is True
    assert (info.getVectorSize(), info.getVectorColName()) == (2, None)
    assert info.getModelName() == "Linear Regression"
    assert str(info).splitlines() == [
        "----------------------------- model meta info -----------------------------",
        "{hasInterception: true, model name: Linear Regression, num feature: 2}",
        "---------------------------- model weight info ----------------------------",
        "|intercept|        f0|        f1|",
        "|---------|----------|----------|",
        f"|{found[0]:9.4f}|{found[1]:.8f}|{found[2]:.8f}|",
    ]


def test_classifiers_tell_their_labels(capsys):
    vectors = pyalink.VectorAssemblerBatchOp(selectedCols=["f0", "f1"], outputCol="v")
    op = pyalink.LogisticRegressionTrainBatchOp(vectorCol="v", labelCol="label")
    op.linkFrom(vectors.linkFrom(source())).lazyPrintModelInfo("title")
    assert capsys.readouterr().out == ""
    pyalink.BatchOperator.execute()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert "vector colName: v" in lines[2]
    assert lines[3:5] == [headline("model label values", "-").rstrip("\n"), "[2, 1]"]


@pytest.mark.parametrize("intercept", [True, False])
def test_of_many_weights_the_first_are_shown(intercept):
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(40, 12)))
    names = [f"c{i}" for i in range(12)]
    rows = pyalink.BatchOperator.fromDataframe(frame, ", ".join(f"{n} double" for n in names))
    op = pyalink.LinearRegTrainBatchOp(
        featureCols=names[:11], labelCol="c11", withIntercept=intercept
    )
    last = str(op.linkFrom(rows).collectModelInfo()).splitlines()[-3]
    heads = [head.strip() for head in last.strip("|").split("|")]
    first = ["intercept"] if intercept else []
    assert heads == [*first, *names[: 9 - len(first)], "... ..."]


def test_scalers():
    info = train("StandardScaler", selectedCols=["f0", "f1"]).collectModelInfo()
    assert info.getMeans() == [2.875, 2.5]
    np.testing.assert_allclose(info.getStdDevs(), FRAME[["f0", "f1"]].std(ddof=1))
    assert (info.isWithMeans(), info.isWithStdDevs()) == (True, True)
    assert "[2.875, 2.5]" in str(info)
    without = train("StandardScaler", selectedCols=["f0"], withMean=False).collectModelInfo()
    assert "The mean values are not calculated." in str(without)
    info = train("MinMaxScaler", selectedCols=["f0", "f1"]).collectModelInfo()
    assert (info.getMins(), info.getMaxs()) == ([1, 1], [5, 4])
    assert str(info).split("\n")[2:] == [
        "========================= lower bound information =========================",
        "",
        "[1, 1]",
        "========================= upper bound information =========================",
        "",
        "[5, 4]",
        "",
    ]
    info = train("MaxAbsScaler", selectedCols=["f0", "f1"]).collectModelInfo()
    assert info.getMaxAbs() == [5, 4]
    assert "[5, 4]" in str(info)


def test_trainings_tell_their_course():
    given = {"featureCols": ["f0", "f1"], "labelCol": "label"}
    info = train("LogisticRegression", l2=0.1, **given).collectTrainInfo()
    losses = [float(line.split("loss:")[1].split()[0]) for line in info.getConvInfo()]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-6)
    assert losses == sorted(losses, reverse=True)
    assert len(losses) > 2
    assert info.getColNames() == ["f0", "f1"]
    assert len(info.getWeight()) == 3
    assert str(info).count("step:") == len(losses)
    assert "gradNorm" in str(info)
    info = train("LinearReg", **given).collectTrainInfo()
    assert info.getConvInfo() == []
    info = train("LassoReg", **{"lambda": 0.01, **given}).collectTrainInfo()
    assert len(info.getConvInfo()) > 1


def test_linear_trainings_tell_what_features_matter() -> None:
    x = np.random.default_rng(2).normal(size=(60, 3)) * [1, 20, 0] + [0, 100, 3]
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["y"] = np.where(x[:, 0] + x[:, 1] / 40 > 2.5, 1, 2)
    frame["v"] = [f"$9$0:{a} 7:{b}" for a, b in x[:, :2]]
    frame["e"] = np.arange(60) % 2
    rows = pyalink.BatchOperator.fromDataframe(
        frame, "a double, b double, c double, y int, v string, e double"
    )
    for name, more in (
        ("LogisticRegression", {}),
        ("LogisticRegression", {"standardization": False, "l2": 0.1}),
        ("LinearSvm", {"withIntercept": False}),
        ("LinearReg", {}),
        ("LassoReg", {"lambda": 0.01}),
        ("LinearSvr", {"C": 1.0, "standardization": False}),
        ("AftSurvivalReg", {"censorCol": "e"}),
    ):
        given = {"featureCols": ["a", "b", "c"], "labelCol": "y", **more}
        op = getattr(pyalink, f"{name}TrainBatchOp")(given).linkFrom(rows)
        info = op.collectTrainInfo()
        begin = 1 if more.get("withIntercept", True) else 0
        weights = np.array(info.getWeight()[begin : begin + 3])
        deviations = frame[["a", "b", "c"]].std(ddof=1)
        assert info.getColNames() == ["a", "b", "c"]
        np.testing.assert_allclose(info.getImportance(), np.abs(weights) * deviations, atol=1e-12)
        assert info.getImportance()[0] > 0, name
    vectors = pyalink.RidgeRegTrainBatchOp({"lambda": 0.1}, vectorCol="v", labelCol="y")
    info = vectors.linkFrom(rows).collectTrainInfo()
    assert info.getColNames() == [str(i) for i in range(9)]
    expected = np.zeros(9)
    expected[[0, 7]] = np.abs(info.getWeight())[[1, 8]] * frame[["a", "b"]].std(ddof=1)
    np.testing.assert_allclose(info.getImportance(), expected, atol=1e-12)
    lines = str(info).splitlines()
    assert "train importance info" in lines[2]
    assert lines[3].split("|")[1:5] == ["colName", "importanceValue", "colName", "weightValue"]
    assert [line.split("|")[1].strip() for line in lines[5:12]][3] == "... ..."
    assert len(lines) == 13


def test_of_very_many_features_those_at_both_ends_are_told() -> None:
    blocks: Any = types.SimpleNamespace(rows=3.0)
    weights = np.arange(-5_000, 5_000, dtype=np.float64)
    known = json.loads(importances(blocks, weights, Scaling.none(10_000)))
    assert (len(known["features"]), known["features"][0]) == (10_000, 0)
    data = {"featureColNames": None, "coefVector": {"data": [7.0, *weights.tolist()]}}
    known = {"importance": [3.0, 1.0], "features": [9_999, 5_001]}
    meta = {"modelName": "LASSO", "vectorSize": 10_000, "hasInterceptItem": True}
    model = Model(meta, [json.dumps(data), json.dumps(known)])
    info = LinearModelTrainInfo(write_model(model))
    assert (info.getColNames(), info.getWeight()) == (["9999", "5001"], [4_999.0, 1.0])
    assert (info.getImportance(), len(str(info).splitlines())) == ([3.0, 1.0], 8)
    info = LinearModelTrainInfo(write_model(Model(meta, [json.dumps(data)])))
    assert "importance" not in str(info)
    with pytest.raises(al.PlanError, match="does not keep the importance of features"):
        info.getImportance()


def test_softmax_tells_its_course() -> None:
    info = train("Softmax", featureCols=["f0", "f1"], labelCol="label", l2=0.1).collectTrainInfo()
    assert len(info.getConvInfo()) > 2
    assert info.getColNames() == ["f0", "f1"]
    assert "train convergence info" in str(info)
    with pytest.raises(al.PlanError, match="'softmax' does not keep one weight"):
        info.getWeight()


def test_clusters():
    vectors = pyalink.VectorAssemblerBatchOp(selectedCols=["f0", "f1"], outputCol="v")
    op = pyalink.KMeansTrainBatchOp(vectorCol="v", k=2).linkFrom(vectors.linkFrom(source()))
    info = op.collectModelInfo()
    assert info.getClusterNumber() == 2
    weights = [info.getClusterWeight(i) for i in range(2)]
    assert sum(weights) == 8
    whole = sum(w * np.array(info.getClusterCenter(i).getData()) for i, w in enumerate(weights))
    np.testing.assert_allclose(whole / 8, [2.875, 2.5])
    assert "with 2 clusters. Clustering on 8 samples of 2 dimension" in str(info)


def test_other_models_tell_what_they_keep():
    op = pyalink.BucketizerBatchOp  # has no model
    assert not hasattr(op, "collectModelInfo")
    info = train("QuantileDiscretizer", selectedCols=["f0"], numBuckets=2).collectModelInfo()
    assert info.getSelectedColsInModel() == ["f0"]
    assert info.getCutsArray("f0") == [3.0]
    info = train("KModes", featureCols=["f0"]).collectModelInfo()
    assert "rows: " in str(info)
    assert isinstance(info.getMeta(), dict)


def test_stages_print_when_they_are_trained(capsys):
    stage = pyalink.StandardScaler(selectedCols=["f0"]).enableLazyPrintModelInfo("model")
    stage.enableLazyPrintTrainInfo().enableLazyPrintTransformData(1, "rows")
    model = pyalink.Pipeline(stage).fit(source())
    pyalink.BatchOperator.execute()
    out = capsys.readouterr().out
    assert out.startswith("model\n")
    assert out.count("StandardScalerModelInfo") == 2
    assert "rows" not in out
    model.getTransformers()[0].transform(source()).collectToDataframe()
    assert capsys.readouterr().out.startswith("rows\n")
    assert stage.fitAndTransform(source()).collectToDataframe().shape == (8, 3)


def test_an_operator_that_reads_models(capsys):
    model = train("StandardScaler", selectedCols=["f0"])
    model.link(pyalink.StandardScalerModelInfoBatchOp()).lazyPrintModelInfo()
    found = []
    model.lazyCollectModelInfo(found.append)
    pyalink.BatchOperator.execute()
    assert "StandardScalerModelInfo" in capsys.readouterr().out
    assert found[0].getMeans() == [2.875]
    assert model.getModelInfoBatchOp().getColNames()[:2] == ["model_id", "model_info"]
    with pytest.raises(al.Error, match="which are no model"):
        source().link(pyalink.StandardScalerModelInfoBatchOp())


def test_forms():
    assert listed([1.0, 2.5, None, "a"]) == "[1, 2.5, null, a]"
    assert listed(list(range(9))) == "[0, 1, 2, ..., 6, 7, 8]"
    assert mapped({"a": True, "b": [0.12344]}) == "{a: true, b: [0.1234]}"
    # As java.util.HashMap gives them, of 16 and of 32 places.
    given = ["model name", "num feature", "hasInterception"]
    assert _java_order(given) == ["hasInterception", "model name", "num feature"]
    assert _java_order([chr(97 + i) for i in range(13)]) == list("abcdefghijklm")


@pytest.fixture(scope="module")
def numbers() -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60)})
    frame["c"] = np.where(rng.random(60) < 0.5, "a", "b'c")
    frame["l"] = np.where(frame.x + (frame.c == "a") > 0.4, "p", "q")
    frame["z"] = 2 * frame.x - frame.y + rng.normal(size=60)
    frame["v"] = [f"{x} {y}" for x, y in zip(frame.x, frame.y, strict=True)]
    schema = "x double, y double, c string, l string, z double, v string"
    return frame, pyalink.BatchOperator.fromDataframe(frame, schema)


def test_principal_components_and_mixtures_tell_matrices(numbers: Any) -> None:
    frame, rows = numbers
    pca = rows.link(pyalink.PcaTrainBatchOp(k=2, selectedCols=["x", "y"])).collectModelInfo()
    matrix = np.corrcoef(frame.x, frame.y)
    for value, vector in zip(pca.getEigenValues(), pca.getEigenVectors(), strict=True):
        assert np.allclose(matrix @ vector, value * np.array(vector))
    assert pca.getCumulatives()[-1] == pytest.approx(1)
    one = rows.link(pyalink.GmmTrainBatchOp(k=1, vectorCol="v")).collectModelInfo()
    found = one.getClusterCovarianceMatrix(0).getArrayCopy2D()
    assert np.allclose(found, np.cov(frame.x, frame.y, bias=True), atol=1e-3)
    assert np.allclose(one.getClusterCenter(0).getData(), [frame.x.mean(), frame.y.mean()])


def test_bisected_clusters_have_the_numbers_of_predictions(numbers: Any) -> None:
    _, rows = numbers
    model = rows.link(pyalink.BisectingKMeansTrainBatchOp(k=3, vectorCol="v"))
    info = model.collectModelInfo()
    assert info.getClusterNumber() == 3
    centres = pd.DataFrame({"v": [str(info.getClusterCenter(i)) for i in range(3)]})
    asked = pyalink.BatchOperator.fromDataframe(centres, "v string")
    predict = pyalink.BisectingKMeansPredictBatchOp(predictionCol="p").linkFrom(model, asked)
    assert predict.collectToDataframe()["p"].tolist() == [0, 1, 2]


def test_a_generalized_linear_model_tells_how_it_fits(numbers: Any) -> None:
    frame, rows = numbers
    given = {"featureCols": ["x", "y"], "labelCol": "z"}
    info = rows.link(pyalink.GlmTrainBatchOp(given)).collectModelInfo()
    design = np.column_stack((frame.x, frame.y, np.ones(60)))
    at, residual, _, _ = np.linalg.lstsq(design, frame.z, rcond=None)
    assert np.allclose([*info.getCoefficients(), info.getIntercept()], at)
    assert info.getDeviance() == pytest.approx(residual[0])
    assert info.getDegreeOfFreedom() == 57
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * residual[0] / 57)
    assert np.allclose(info.getStdErrors(), errors)
    assert np.allclose(info.getTValues(), at / errors)
    model = pyalink.GeneralizedLinearRegression(given).fit(rows)
    again = json.loads(model.evaluate(rows).collectToDataframe().iloc[0, 0])
    assert again["deviance"] == pytest.approx(info.getDeviance())


def test_naive_bayes_tells_shares_and_moments(numbers: Any) -> None:
    frame, rows = numbers
    train = pyalink.NaiveBayesTrainBatchOp(featureCols=["x", "c"], labelCol="l")
    info = rows.link(train).collectModelInfo()
    shares = frame.groupby("c").l.value_counts(normalize=True)
    for token in ("a", "b'c"):
        assert info.getCategoryFeatureInfo()["c"]["p"][token] == pytest.approx(shares[token]["p"])
    mean, variance = info.getGaussFeatureInfo()["x"]["q"]
    part = frame[frame.l == "q"].x
    assert (mean, variance) == pytest.approx((part.mean(), part.var(ddof=0)))
    assert dict(zip(info.getLabelList(), info.getLabelProportion(), strict=True)) == (
        pytest.approx(frame.l.value_counts(normalize=True).to_dict())
    )


def test_a_tree_is_an_expression_of_sql_that_says_what_it_predicts(numbers: Any) -> None:
    _, rows = numbers
    train = pyalink.C45TrainBatchOp(featureCols=["x", "c"], labelCol="l", maxDepth=3)
    model = rows.link(train)
    rule = model.collectModelInfo().getCaseWhenRule()
    predicted = pyalink.C45PredictBatchOp(predictionCol="p").linkFrom(model, rows)
    frame = predicted.toTable().select("p", r=rule).to_pandas()
    assert (frame["p"] == frame["r"]).all()


def test_selections_tell_their_tests(capsys: Any) -> None:
    frame = pd.DataFrame({"é": list("aabbaabb"), "c": list("abababab"), "l": [1, 1, 2, 2] * 2})
    frame["v"] = ["$3$0:1" if x == "a" else "$3$2:1" for x in frame["é"]]
    rows = pyalink.BatchOperator.fromDataframe(frame, "é string, c string, l int, v string")
    op = pyalink.ChiSqSelectorBatchOp(selectedCols=["c", "é"], labelCol="l", numTopFeatures=1)
    rows.link(op.lazyPrintModelInfo("< Selector >")).link(pyalink.ChisqSelectorModelInfoBatchOp())
    found: list[Any] = []
    op.lazyCollectModelInfo(found.append)
    pyalink.BatchOperator.execute()
    assert capsys.readouterr().out.splitlines() == [
        "< Selector >",
        headline("ChisqSelectorModelInfo", "-").strip(),
        "Number of Selector Features: 1",
        "Number of Features: 2",
        "Type of Selector: NumTopFeatures",
        "Number of Top Features: 1",
        "Selector Indices: ",
        "    |ColName|ChiSquare|PValue| DF|Selected|",
        "    |-------|---------|------|---|--------|",
        "    |      é|        8|0.0047|  1|    true|",
        "    |      c|        0|     1|  1|   false|",
    ]
    (info,) = found
    assert (info.chisq("é"), info.pValue("c")) == (8, 1)
    assert (info.getColNames(), info.getSiftOutColNames()) == (["c", "é"], ["é"])
    assert (info.getSelectorType(), info.getSelectorNum()) == ("NumTopFeatures", 1)
    assert (info.getNumTopFeatures(), info.getPercentile()) == (1, 0.1)
    assert info.getFpr() == info.getFdr() == info.getFwe() == 0.05
    with pytest.raises(al.PlanError, match='there is no test of "d"'):
        info.chisq("d")
    of_vectors = pyalink.VectorChiSqSelectorBatchOp(selectedCol="v", labelCol="l")
    info = rows.link(of_vectors.setSelectorType("fpr").setFpr(0.01)).collectModelInfo()
    assert (info.getColNames(), info.getSiftOutColNames()) == (None, ["0", "2"])
    assert (info.chisq("2"), info.getSelectorType()) == (8, "FPR")
    assert "|VectorIndex|" in str(info)
    assert "FPR of Features: 0.01" in str(info)


def test_clusters_of_neighbours_tell_their_rows(capsys: Any) -> None:
    frame = pd.DataFrame({"id": list("abcdefg"), "v": ["0", "1", "2", "3.9", "10", "30", None]})
    rows = pyalink.BatchOperator.fromDataframe(frame, "id string, v string")
    given = {"idCol": "id", "vectorCol": "v", "predictionCol": "p"}
    dbscan = rows.link(pyalink.DbscanBatchOp(given, epsilon=2.0, minPoints=3))
    info = dbscan.collectModelInfo()
    assert info.getClusterNumber() == 1
    assert (info.getCorePoints(0), info.getLinkedPoints(0)) == (["a", "b", "c"], ["d"])
    assert str(info).splitlines() == [
        headline("DbscanModelInfo", "-").strip(),
        "Dbscan clustering with 1 clusters on 6 samples.",
        headline("CorePoints", "=").strip(),
        "{0: [a, b, c]}",
        headline("LinkedPoints", "=").strip(),
        "{0: [d]}",
        headline("NoisePoints", "=").strip(),
        "[e, f]",
    ]
    with pytest.raises(al.PlanError, match="there is no cluster 1 among 1"):
        info.getCorePoints(1)
    agnes = rows.link(pyalink.AgnesBatchOp(given, k=3))
    agnes.link(pyalink.AgnesModelInfoBatchOp().lazyPrintModelInfo("title"))
    info = agnes.collectModelInfo()
    assert info.getClusterNumber() == 3
    assert sorted(info.getPoints(i) for i in range(3)) == [["a", "b", "c", "d"], ["e"], ["f"]]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "title"
    assert printed[2] == "Agnes clustering with 3 clusters on 6 samples."
    for op in (pyalink.AgnesModelInfoBatchOp, pyalink.DbscanModelInfoBatchOp):
        with pytest.raises(al.PlanError, match="which are no model"):
            source().link(op())
    none = rows.filter("v = 'x'").link(pyalink.DbscanBatchOp(given, epsilon=1.0, minPoints=1))
    assert "with 0 clusters on 0 samples" in str(none.collectModelInfo())
