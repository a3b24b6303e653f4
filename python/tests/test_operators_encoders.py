"""Operators that encode categories."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink.operators import SparseVector
from pyalink import alink as pyalink

FRAME = pd.DataFrame(
    {
        "a": ["x", "y", "x", None, "z", "x", "y"],
        "n": [1, 2, 2, 2, 3, None, 1],
        "t": [1.0, 0.0, 1.0, 5.0, None, 0.0, 2.0],
    }
)
SCHEMA = "a string, n int, t double"
NEW = pd.DataFrame({"a": ["y", "new", None], "n": [9, 2, None], "t": [0.0, 0.0, 0.0]})


def batch(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def stream(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.StreamOperator.fromDataframe(frame, schemaStr=schema)


def shown(operator: Any, name: str) -> list[Any]:
    """Give a column as it is printed: vectors as texts."""
    values = operator.collectToDataframe()[name].tolist()
    return [None if value is None or value is pd.NA else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, (str, SparseVector)) else value


def encoded(name: str, rows: Any = None, train: Any = None, **params: Any) -> Any:
    """Train and apply by batch operators; stream and pipeline must give the same."""
    estimator = {"OneHot": "OneHotEncoder", "MultiHot": "MultiHotEncoder"}.get(name, name)
    rows = FRAME if rows is None else rows
    train = FRAME if train is None else train
    trains = getattr(pyalink, f"{name}TrainBatchOp")
    given = {k: v for k, v in params.items() if k in trains._parameters}
    model = trains(**given).linkFrom(batch(train))
    predicts = getattr(pyalink, f"{name}PredictBatchOp")
    told = {k: v for k, v in params.items() if k in predicts._parameters}
    result = predicts(**told).linkFrom(model, batch(rows))
    frame = result.collectToDataframe().astype(str)
    if f"{name}PredictStreamOp" in dir(pyalink):
        streamed = getattr(pyalink, f"{name}PredictStreamOp")(model, **told).linkFrom(stream(rows))
        pd.testing.assert_frame_equal(streamed.collectToDataframe().astype(str), frame)
    if estimator in dir(pyalink):
        fitted = getattr(pyalink, estimator)(**params).fit(batch(train))
        pd.testing.assert_frame_equal(
            fitted.transform(batch(rows)).collectToDataframe().astype(str), frame
        )
    return result


def test_one_hot_numbers():
    result = encoded("OneHot", selectedCols=["a", "n"], encode="INDEX", outputCols=["i", "j"])
    assert result.getSchemaStr() == "a VARCHAR, n INT, t DOUBLE, i BIGINT, j BIGINT"
    assert shown(result, "i") == [0, 1, 0, 3, 2, 0, 1]
    assert shown(result, "j") == [0, 1, 1, 1, 2, 3, 0]
    result = encoded("OneHot", NEW, selectedCols=["A", "n"], encode="INDEX")
    assert shown(result, "a") == [1, 3, 3]  # in the place of the columns
    assert shown(result, "n") == [3, 1, 3]


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, ["$3$1:1.0", "$3$2:1.0", "$3$2:1.0"]),
        ({"dropLast": False}, ["$4$1:1.0", "$4$3:1.0", "$4$3:1.0"]),
        ({"handleInvalid": "SKIP"}, ["$2$1:1.0", None, None]),
        ({"handleInvalid": "SKIP", "dropLast": False}, ["$3$1:1.0", None, None]),
        ({"encode": "ASSEMBLED_VECTOR"}, ["$3$1:1.0", "$3$2:1.0", "$3$2:1.0"]),
    ],
)
def test_one_hot_vectors(params, wanted):
    given: dict[str, Any] = {"encode": "VECTOR", **params}
    result = encoded("OneHot", NEW, selectedCols=["a"], outputCols=["v"], **given)
    assert shown(result, "v") == wanted


def test_one_hot_vectors_are_put_together():
    result = encoded(
        "OneHot", selectedCols=["a", "n"], outputCols=["v"], reservedCols=["n"], dropLast=False
    )
    assert result.getColNames() == ["n", "v"]
    first = pd.Series([0, 1, 0, 3, 2, 0, 1])
    second = pd.Series([0, 1, 1, 1, 2, 3, 0]) + 4
    assert shown(result, "v") == [f"$8${i}:1.0 {j}:1.0" for i, j in zip(first, second, strict=True)]
    result = encoded("OneHot", selectedCols=["a", "n"], outputCols=["v"], handleInvalid="SKIP")
    assert shown(result, "v") == [
"$4$0:1.0 2:1.0", "$4$1:1.0 3:1.0", "$4$0:1.0 3:1.0", None, "$4$", None, "$4$1:1.0 2:1.0",
    ]  # fmt: skip


def test_rare_values_share_a_category():
    given: dict[str, Any] = {"selectedCols": ["a", "n"], "encode": "INDEX"}
    result = encoded("OneHot", NEW, **given, discreteThresholds=2)
    assert shown(result, "a") == [1, 3, 2]  # y, one of the rest, NULL
    assert shown(result, "n") == [3, 1, 2]
    result = encoded("OneHot", NEW, **given, discreteThresholdsArray=[3, 99])
    assert shown(result, "a") == [2, 2, 1]
    assert shown(result, "n") == [1, 1, 0]
    result = encoded("OneHot", NEW, **given, discreteThresholds=2, handleInvalid="SKIP")
    assert shown(result, "a") == [1, 2, None]
    given = {"selectedCols": ["a"], "outputCols": ["v"], "discreteThresholds": 2}
    result = encoded("OneHot", NEW, **given, dropLast=False)
    assert shown(result, "v") == ["$4$1:1.0", "$4$3:1.0", "$4$2:1.0"]
    result = encoded("OneHot", NEW, **given, handleInvalid="SKIP")
    assert shown(result, "v") == ["$2$", "$2$1:1.0", None]


def test_what_is_refused():
    model = pyalink.OneHotTrainBatchOp(selectedCols=["a"]).linkFrom(batch())
    strict = pyalink.OneHotPredictBatchOp(
        selectedCols=["a"], outputCols=["v"], handleInvalid="ERROR"
    )
    with pytest.raises(al.Error, match="column 'a' has 'new', which the model does not know"):
        strict.linkFrom(model, batch(NEW)).collectToDataframe()
    with pytest.raises(al.Error, match="with encode ASSEMBLED_VECTOR it names 1"):
        pyalink.OneHotPredictBatchOp(selectedCols=["a"]).linkFrom(model, batch())
    with pytest.raises(al.Error, match="the model knows no column 'n'"):
        pyalink.OneHotPredictBatchOp(selectedCols=["n"], outputCols=["v"]).linkFrom(
            model, batch()
        ).collectToDataframe()
    with pytest.raises(al.Error, match="has 1 numbers for 2 columns"):
        pyalink.OneHotTrainBatchOp(selectedCols=["a", "n"], discreteThresholdsArray=[1]).linkFrom(
            batch()
        )
    with pytest.raises(al.Error, match='"handleInvalid" cannot be'):
        pyalink.MultiHotPredictBatchOp(
            selectedCols=["a"], outputCols=["v"], handleInvalid="?"
        ).linkFrom(model, batch())
    with pytest.raises(al.Error, match='the label "a" is STRING'):
        pyalink.TargetEncoderTrainBatchOp(labelCol="a").linkFrom(batch())


# --- several in a text ---

PARTS = pd.DataFrame({"a": ["b, a", "a,c,a,", None, " ä", ""], "n": [1, 22, 2, 1, None]})
PARTS["t"] = 0.0


@pytest.mark.parametrize(
    ("invalid", "wanted"),
    [
        ("KEEP", ["$5$0:1.0 1:1.0", "$5$0:1.0 4:1.0", None, "$5$"]),
        ("SKIP", ["$5$0:1.0 1:1.0", "$5$0:1.0", None, "$5$"]),
    ],
)
def test_parts_of_texts(invalid, wanted):
    rows = pd.DataFrame({"a": ["b,a", "a,new,q", None, " , "], "n": [0] * 4, "t": [0.0] * 4})
    result = encoded(
        "MultiHot", rows, PARTS, selectedCols=["a"], outputCols=["v"], delimiter=",",
        handleInvalid=invalid,
    )  # fmt: skip
    assert shown(result, "v") == wanted
    with pytest.raises(al.Error, match="column 'a' has 'new'"):
        encoded(
            "MultiHot", rows, PARTS, selectedCols=["a"], outputCols=["v"], delimiter=",",
            handleInvalid="error",
        )  # fmt: skip


def test_parts_of_texts_of_several_columns():
    model = pyalink.MultiHotTrainBatchOp(
        selectedCols=["a", "n"], delimiter=",", discreteThresholdsArray=[2, 0]
    ).linkFrom(batch(PARTS))
    lines = [row["model_info"] for row in model.toTable().collect()]
    assert json.loads(lines[0])["delimiter"] == '","'
    assert sorted(map(json.loads, lines[1:]), key=str) == [
        ["a", "a", 0, 3], ["n", "1", 0, 2], ["n", "2", 1, 1], ["n", "22", 2, 1],
    ]  # fmt: skip
    predict = pyalink.MultiHotPredictBatchOp(
        selectedCols=["n", "a"], outputCols=["u", "v"], encode="VECTOR", handleInvalid="SKIP"
    ).linkFrom(model, batch(PARTS))
    assert shown(predict, "u") == ["$4$0:1.0", "$4$2:1.0", "$4$1:1.0", "$4$0:1.0", None]
    assert shown(predict, "v") == ["$2$0:1.0", "$2$0:1.0", None, "$2$", "$2$"]


# --- together ---


def test_crossed_columns_have_a_place_for_each_combination():
    result = encoded("CrossFeature", selectedCols=["a", "n"], outputCol="v")
    places = {"x": 0, "y": 1, "z": 2, None: 3}
    pairs = [tuple(row) for row in FRAME[["a", "n"]].astype(object).replace({np.nan: None}).values]
    wanted = [f"$16${places[a] + 4 * (3 if n is None else int(n) - 1)}:1.0" for a, n in pairs]
    assert shown(result, "v") == wanted
    result = encoded("CrossFeature", NEW, selectedCols=["a", "n"], outputCol="v")
    assert shown(result, "v") == ["$16$", "$16$", "$16$15:1.0"]
    model = pyalink.CrossFeatureTrainBatchOp(selectedCols=["a"]).linkFrom(batch())
    other = batch(pd.DataFrame({"b": ["x"]}), "b string")
    with pytest.raises(al.Error, match="trained on the column 'a', the rows have b"):
        pyalink.CrossFeaturePredictBatchOp(outputCol="v").linkFrom(
            model, other
        ).collectToDataframe()


def test_too_many_combinations_are_refused():
    rows = al.sql("SELECT i AS a, i AS b, i AS c FROM range(2000) AS r(i)")
    rows = pyalink.BatchOperator.fromTable(rows)
    model = pyalink.CrossFeatureTrainBatchOp(selectedCols=["a", "b", "c"]).linkFrom(rows)
    predict = pyalink.CrossFeaturePredictBatchOp(outputCol="v").linkFrom(model, rows)
    with pytest.raises(al.Error, match="2000 x 2000 x 2000 values together"):
        predict.collectToDataframe()


# --- means ---


def mean(label: Any, where: Any = True) -> float:
    """Give the mean of a label over the rows that have one."""
    return float(np.mean([x for x in np.asarray(label, float)[where].ravel() if x == x]))


def test_means_of_the_label():
    result = encoded(
        "TargetEncoder", NEW, labelCol="t", selectedCols=["a", "n"], outputCols=["u", "v"]
    )
    overall = mean(FRAME["t"])
    of_y, of_2 = mean(FRAME["t"], FRAME["a"] == "y"), mean(FRAME["t"], FRAME["n"] == 2)
    np.testing.assert_allclose(shown(result, "u"), [of_y, overall, overall])
    np.testing.assert_allclose(shown(result, "v"), [overall, of_2, overall])


@pytest.mark.parametrize("positive", ["1.0", "1"])
def test_shares_of_a_positive_label(positive):
    result = encoded(
        "TargetEncoder", NEW, labelCol="t", positiveLabelValueString=positive,
        selectedCols=["n"], outputCols=["v"],
    )  # fmt: skip
    is_one = (FRAME["t"] == 1).where(FRAME["t"].notna(), np.nan)
    overall, of_2 = mean(is_one), mean(is_one, FRAME["n"] == 2)
    np.testing.assert_allclose(shown(result, "v"), [overall, of_2, overall])
    by_text = encoded(
        "TargetEncoder", NEW, labelCol="a", positiveLabelValueString="x",
        selectedCols=["n"], outputCols=["v"],
    )  # fmt: skip
    is_x = (FRAME["a"] == "x").where(FRAME["a"].notna(), np.nan)
    np.testing.assert_allclose(shown(by_text, "v")[1], mean(is_x, FRAME["n"] == 2))


def test_means_of_all_columns_but_the_label():
    model = pyalink.TargetEncoderTrainBatchOp(labelCol="t").linkFrom(batch())
    predict = pyalink.TargetEncoderPredictBatchOp(outputCols=["u", "v"], reservedCols=[])
    result = predict.linkFrom(model, batch(NEW))
    assert result.getColNames() == ["u", "v"]
    assert shown(result, "u")[0] == 1.0
    wrong = pyalink.TargetEncoderPredictBatchOp(outputCols=["u"]).linkFrom(model, batch(NEW))
    with pytest.raises(al.Error, match="'outputCols' names 1 columns for a, n"):
        wrong.collectToDataframe()


def test_no_rows_to_learn_from():
    none = FRAME.iloc[:0]
    result = encoded("TargetEncoder", NEW, none, labelCol="t", selectedCols=["a"], outputCols=["v"])
    assert np.isnan(shown(result, "v")).all()
    result = encoded("OneHot", NEW, none, selectedCols=["a"], outputCols=["v"])
    assert shown(result, "v") == ["$1$0:1.0"] * 3
    result = encoded("CrossFeature", NEW, none, selectedCols=["a"], outputCol="v")
    assert shown(result, "v") == ["$0$"] * 3
    result = encoded("MultiHot", NEW, none, selectedCols=["a"], outputCols=["v"])
    assert shown(result, "v") == ["$1$0:1.0", "$1$0:1.0", None]


# --- named features ---

FEATURES = pd.DataFrame({"f": ["a:1,b:2.5", "b:1, ü:3", None, "b:2,a:7,c:c:4", ""]})


def sparse(rows: pd.DataFrame, predict: dict[str, Any] | None = None, **params: Any) -> list[Any]:
    model = pyalink.SparseFeatureIndexerTrainBatchOp(selectedCol="f", **params)
    model.linkFrom(batch(FEATURES, "f string"))
    given = {"selectedCol": "f", "outputCol": "v", **(predict or {})}
    op = pyalink.SparseFeatureIndexerPredictBatchOp(**given)
    return shown(op.linkFrom(model, batch(rows, "f string")), "v")


def test_named_features():
    assert sparse(FEATURES) == [
        "$4$0:2.5 1:1.0", "$4$0:1.0 3:3.0", None, "$4$0:2.0 1:7.0 2:4.0", "$4$",
    ]  # fmt: skip
    rows = pd.DataFrame({"f": ["q:1,ü:2", "c:c:1"]})
    assert sparse(rows) == ["$4$3:2.0", "$4$2:1.0"]
    assert sparse(rows, topN=2) == ["$2$", "$2$"]
    assert sparse(FEATURES, minFrequency=2)[3] == "$2$0:2.0 1:7.0"
    assert sparse(FEATURES, minPercent=0.5)[3] == "$1$0:2.0"
    assert sparse(FEATURES, candidateTags=["a", "nowhere"])[3] == "$1$0:7.0"


def test_named_features_without_values():
    rows = pd.DataFrame({"f": ["b:1,b:1", "a:1"]})
    assert sparse(rows, hasValue=False, minFrequency=1)[0] == "$7$2:1.0"


def test_features_that_are_there_twice():
    rows = pd.DataFrame({"f": ["a:1,b:2,a:3"]})
    assert sparse(rows) == ["$4$0:2.0 1:1.0"]
    assert sparse(rows, {"handleDuplicate": "last"}) == ["$4$0:2.0 1:3.0"]
    with pytest.raises(al.Error, match="has a feature twice in a row"):
        sparse(rows, {"handleDuplicate": "ERROR"})
    with pytest.raises(al.Error, match="has 'a:x': 'x' is not a number"):
        sparse(pd.DataFrame({"f": ["a:x"]}))
    with pytest.raises(al.Error, match="column 'f' has 'a', which has no ':'"):
        sparse(pd.DataFrame({"f": ["a"]}))
    with pytest.raises(al.Error, match="a feature has no value behind '='"):
        sparse(FEATURES, kvValDelimiter="=")


# --- what models say ---


def test_encoders_tell_what_they_know(capsys):
    info = pyalink.OneHotTrainBatchOp(selectedCols=["n", "a"]).linkFrom(batch()).collectModelInfo()
    assert info.getSelectedColsInModel() == ["n", "a"]
    assert info.getTokens("a") == ["x", "y", "z"]
    assert info.getDistinctTokenNumber("n") == 3
    assert str(info).splitlines()[1] == "OneHotModelInfo on 2 features: [n, a]"
    with pytest.raises(al.Error, match="the model has no column 'q'"):
        info.getTokens("q")
    train = pyalink.MultiHotTrainBatchOp(selectedCols=["a"], delimiter=",").linkFrom(batch(PARTS))
    info = train.collectModelInfo()
    assert info.getTokens("a") == ["a", "b", "c", "ä"]
    pyalink.OneHotModelInfoBatchOp().linkFrom(
        pyalink.OneHotTrainBatchOp(selectedCols=["a"]).linkFrom(batch())
    ).lazyPrintModelInfo("told")
    pyalink.BatchOperator.execute()
    assert capsys.readouterr().out.splitlines()[0] == "told"


# --- saved, and in the client ---


def test_encoders_in_a_saved_pipeline_and_in_a_local_predictor(tmp_path):
    words = batch(pd.DataFrame({"k": ["x", "y"], "w": [1.5, 2.5]}), "k string, w double")
    look = pyalink.Lookup(selectedCols=["a"], outputCols=["w"], mapKeyCols=["k"])
    model = pyalink.Pipeline(
        pyalink.StringIndexer(selectedCol="a", outputCol="i", modelName="saved"),
        pyalink.IndexToString(modelName="saved", selectedCol="i", outputCol="b"),
        pyalink.OneHotEncoder(selectedCols=["a"], outputCols=["v"], dropLast=False),
        pyalink.CrossFeature(selectedCols=["a", "n"], outputCol="c"),
        pyalink.TargetEncoder(selectedCols=["a"], labelCol="t", outputCols=["m"]),
        pyalink.Imputer(selectedCols=["n"], strategy="MAX"),
        look.setModelData(words),
    ).fit(batch())
    path = str(tmp_path / "model.ak")
    model.save(path)
    pyalink.BatchOperator.execute()
    wanted = model.transform(batch(NEW)).collectToDataframe().astype(str)
    pyalink.resetEnv()
    loaded = pyalink.PipelineModel.load(path)
    given = loaded.transform(batch(NEW)).collectToDataframe().astype(str)
    pd.testing.assert_frame_equal(given, wanted)
    local: Any = pyalink.LocalPredictor(path, SCHEMA)
    lines: list[list[Any]] = NEW.astype(object).replace({np.nan: None}).to_numpy().tolist()
    assert local.getOutputColNames() == list(wanted.columns)
    shown_rows = wanted.to_numpy().tolist()
    for line, shown_row in zip(lines, shown_rows, strict=True):
        row = [
            "nan" if value is None or value != value else str(value) for value in local.map(line)
        ]
        assert row == ["nan" if str(x) in ("nan", "None", "<NA>") else x for x in shown_row]
