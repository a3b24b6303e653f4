"""OneVsRest: classifiers of two labels that make one of many."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink.operators._stages import Pipeline
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(5)
COUNT = 240
LABELS = np.array(["é'a", "b", "c"])[np.arange(COUNT) % 3]
MIDDLES = np.array([[0.0, 4.0], [4.0, -2.0], [-4.0, -2.0]])
POINTS = MIDDLES[np.arange(COUNT) % 3] + RANDOM.normal(size=(COUNT, 2))
FRAME = pd.DataFrame(
    {
        "id": range(COUNT),
        "x": POINTS[:, 0],
        "y": POINTS[:, 1],
        "v": [" ".join(map(repr, p)) for p in POINTS.tolist()],
        "l": LABELS,
        "n": np.arange(COUNT) % 3 + 7,
    }
)
SCHEMA = "id bigint, x double, y double, v string, l string, n bigint"


def rows(frame: pd.DataFrame = FRAME) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame.astype(object), schemaStr=SCHEMA)


def stage(classifier: Any = None, **given: Any) -> Any:
    made = pyalink.LogisticRegression(featureCols=["x", "y"], labelCol="l")
    params = {"numClass": 3, "predictionCol": "p", **given}
    return pyalink.OneVsRest(classifier=classifier or made, **params)


def test_the_surest_classifier_decides() -> None:
    found = stage(predictionDetailCol="d").fit(rows()).transform(rows()).collectToDataframe()
    assert (found["p"] == FRAME["l"]).mean() > 0.97
    details = [json.loads(text) for text in found["d"]]
    for name, detail in zip(found["p"], details, strict=True):
        assert detail.keys() == set(LABELS)
        assert sum(detail.values()) == pytest.approx(1)
        assert max(detail, key=detail.__getitem__) == name
    # As one classifier after the other says it.
    sure: dict[str, Any] = {}
    for label in set(LABELS):
        own = FRAME.assign(l=np.where(label == LABELS, "1", "0"))
        one = pyalink.LogisticRegression(
            featureCols=["x", "y"], labelCol="l", predictionCol="p", predictionDetailCol="d"
        )
        told = one.fit(rows(own)).transform(rows()).collectToDataframe()["d"]
        sure[label] = np.array([float(json.loads(text)["1"]) for text in told])
    total = sum(sure.values())
    for label, chance in sure.items():
        shares = np.array([detail[label] for detail in details])
        np.testing.assert_allclose(shares, chance / total, rtol=1e-9)


@pytest.mark.parametrize(
    "classifier",
    [
        pyalink.LinearSvm(vectorCol="v", labelCol="n"),
        pyalink.DecisionTreeClassifier(featureCols=["x", "y"], labelCol="n"),
        pyalink.RandomForestClassifier(featureCols=["x", "y"], labelCol="n", numTrees=3),
        pyalink.NaiveBayes(featureCols=["x", "y"], labelCol="n"),
        pyalink.KnnClassifier(featureCols=["x", "y"], labelCol="n", k=3),
        pyalink.FmClassifier(featureCols=["x", "y"], labelCol="n", numEpochs=3),
        pyalink.Softmax(vectorCol="v", labelCol="n"),
    ],
    ids=lambda stage: stage._name,
)
def test_any_classifier_will_do(classifier: Any, tmp_path: Any) -> None:
    model = stage(classifier).fit(rows())
    found = model.transform(rows()).collectToDataframe()
    assert found["p"].dtype == "Int64"
    assert (found["p"] == FRAME["n"]).mean() > 0.9
    path = str(tmp_path / "m.ak")
    pyalink.PipelineModel(model).save(path)
    pyalink.BatchOperator.execute()
    local = pyalink.LocalPredictor(path, SCHEMA)
    assert [local.map(row)[-1] for row in FRAME.head(9).to_numpy().tolist()] == found["p"][
        :9
    ].tolist()


def test_it_is_a_stage_among_others(tmp_path: Any) -> None:
    scaler = pyalink.StandardScaler(selectedCols=["x", "y"])
    pipeline = Pipeline(scaler, stage())
    wanted = pipeline.fit(rows()).transform(rows()).collectToDataframe()
    path = str(tmp_path / "p.ak")
    pipeline.save(path)
    pyalink.BatchOperator.execute()
    again = Pipeline.load(path).fit(rows()).transform(rows()).collectToDataframe()
    pd.testing.assert_frame_equal(again, wanted)
    stream = pyalink.StreamOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    found = pipeline.fit(rows()).transform(stream).collectToDataframe()
    assert sorted(found["p"]) == sorted(wanted["p"])


def test_setters_take_what_the_constructor_takes() -> None:
    made = pyalink.OneVsRest().setClassifier(pyalink.LinearSvm(vectorCol="v", labelCol="n"))
    made.setNumClass(3).setPredictionCol("p")
    assert made.getClassifier()._name == "LinearSvm"
    assert made.getClassifier().getVectorCol() == "v"
    found = made.fit(rows()).transform(rows()).collectToDataframe()
    assert (found["p"] == FRAME["n"]).mean() > 0.97


@pytest.mark.parametrize(
    "kind", ["LogisticRegression", "GbdtClassifier", "NaiveBayesTextClassifier"]
)
def test_columns_that_are_set_are_its_own_others_the_classifiers(kind: str) -> None:
    classifier = getattr(pyalink, kind)(
        labelCol="n", predictionCol="a", predictionDetailCol="d", reservedCols=["x"]
    )
    made = pyalink.OneVsRest(numClass=3).setClassifier(classifier)
    theirs = {"predictionCol": "a", "predictionDetailCol": "d", "reservedCols": ["x"]}
    assert made._model_stage().getParams() == theirs
    made.setPredictionCol("p").setReservedCols(["id"])
    own = {"predictionCol": "p", "predictionDetailCol": "d", "reservedCols": ["id"]}
    assert made._model_stage().getParams() == own


def test_columns_of_the_classifier_are_saved(tmp_path: Any, capsys: Any) -> None:
    classifier = pyalink.LinearSvm(
        vectorCol="v", labelCol="l", predictionCol="p", predictionDetailCol="d", reservedCols=["l"]
    )
    made = pyalink.OneVsRest().setClassifier(classifier).setNumClass(3)
    made.enableLazyPrintTransformData(1, "first").enableLazyPrintModelInfo("model")
    model = made.fit(rows())
    path = str(tmp_path / "m.ak")
    pyalink.PipelineModel(model).save(path)
    found = model.transform(rows(FRAME.head(9))).collectToDataframe()
    printed = capsys.readouterr().out
    assert "first\n" in printed
    assert "model\n" in printed
    assert found.columns.tolist() == ["l", "p", "d"]
    assert (found["p"] == found["l"]).all()
    wanted = found.to_numpy().tolist()
    local = pyalink.LocalPredictor(path, SCHEMA)
    for row, (*labels, detail) in zip(FRAME.head(3).to_numpy().tolist(), wanted, strict=False):
        *mine, text = local.map(row)
        assert mine == labels
        assert json.loads(text) == pytest.approx(json.loads(detail))
    stream = pyalink.StreamOperator.fromDataframe(FRAME.head(9), schemaStr=SCHEMA)
    again = pyalink.PipelineModel.load(path).transform(stream).collectToDataframe()
    assert again.columns.tolist() == ["l", "p", "d"]
    assert sorted(again["p"]) == sorted(found["p"])


def test_in_scikit_learns_style() -> None:
    base = al.ml.LogisticRegression(features=["x", "y"], label="l")
    model = al.ml.OneVsRest(classifier=base, num_class=3, prediction="p")
    found = model.fit(rows().toTable()).predict(rows().toTable()).to_arrow()
    assert np.mean(np.array(found["p"].to_pylist()) == LABELS) > 0.97


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(al.Error, match='numClass is 4, but the label "l" has 3 values'):
        stage(numClass=4).fit(rows()).transform(rows()).collectToDataframe()
    with pytest.raises(al.PlanError, match='"numClass" cannot be 1'):
        stage(numClass=1).fit(rows())
    with pytest.raises(al.PlanError, match=r"OneVsRest: .* is no classifier"):
        pyalink.OneVsRest().setClassifier(pyalink.KMeans())
    with pytest.raises(al.PlanError, match=r"OneVsRest: .* is no classifier"):
        pyalink.OneVsRest(classifier="LogisticRegression")
    with pytest.raises(al.PlanError, match="OneVsRest: KerasSequentialClassifier predicts with"):
        pyalink.OneVsRest().setClassifier(pyalink.KerasSequentialClassifier())
    with pytest.raises(al.PlanError, match='needs the parameter "classifier"'):
        pyalink.OneVsRest(numClass=3, predictionCol="p").fit(rows())
    lacking = pd.concat([FRAME, FRAME.head(1).assign(l=None)])
    with pytest.raises(al.Error, match="the label 'l' is NULL"):
        stage().fit(rows(lacking)).transform(rows()).collectToDataframe()
    with pytest.raises(al.Error, match=r"no column .*colour"):
        stage(pyalink.LogisticRegression(featureCols=["x"], labelCol="colour")).fit(rows())
    with pytest.raises(al.Error, match="the label 'l' has 0 values where 2 are needed"):
        stage().fit(rows(FRAME.head(0))).transform(rows()).collectToDataframe()


def test_a_row_that_lacks_a_feature_is_given_null() -> None:
    model = stage(predictionDetailCol="d").fit(rows())
    lacking = FRAME.head(2).astype(object)
    lacking.loc[1, "x"] = None
    found = model.transform(rows(lacking)).collectToDataframe()
    assert found["p"].isna().tolist() == found["d"].isna().tolist() == [False, True]
