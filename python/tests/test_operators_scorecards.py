"""Scorecards: points of bins, their constraints and scales."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink.operators import _training
from alink.operators._stages import PipelineModel
from pyalink import alink as pyalink

ROWS = 300
SCHEMA = "id int, a double, b string, c double, w double, label string"


def frame() -> pd.DataFrame:
    random = np.random.default_rng(4)
    a, b = random.normal(size=ROWS), random.integers(0, 3, ROWS)
    score = a - 0.7 * b + random.logistic(size=ROWS)
    return pd.DataFrame(
        {
            "id": range(ROWS),
            "a": [None if i % 9 == 0 else x for i, x in enumerate(a.tolist())],
            "b": np.array(["p", "qü", "r"])[b],
            "c": random.normal(size=ROWS),
            "w": random.integers(1, 4, ROWS).astype(float),
            "label": np.where(score > -0.5, "good", "bad"),
        }
    )


FRAME = frame()
GIVEN: dict[str, Any] = {
    "selectedCols": ["a", "b"],
    "labelCol": "label",
    "positiveLabelValueString": "good",
}
OUT: dict[str, Any] = {
    "predictionScoreCol": "score",
    "predictionDetailCol": "detail",
    "calculateScorePerFeature": True,
}


def batch(rows: pd.DataFrame = FRAME) -> Any:
    return pyalink.BatchOperator.fromDataframe(rows, schemaStr=SCHEMA)


def binning(rows: pd.DataFrame = FRAME, **more: Any) -> Any:
    given: dict[str, Any] = {
        "labelCol": "label",
        "positiveLabelValueString": "good",
        "numBuckets": 4,
    }
    given |= {"selectedCols": ["a", "b", "c"], **more}
    return pyalink.BinningTrainBatchOp(**given).linkFrom(batch(rows))


def constraints(text: Any) -> Any:
    rows = pd.DataFrame({"constraint": [text if isinstance(text, str) else json.dumps(text)]})
    return pyalink.BatchOperator.fromDataframe(rows, schemaStr="constraint string")


def card(*others: Any, rows: pd.DataFrame = FRAME, **more: Any) -> Any:
    return pyalink.ScorecardTrainBatchOp(**{**GIVEN, **more}).linkFrom(batch(rows), *others)


def info(model: Any) -> Any:
    return model.collectModelInfo()


def scored(model: Any, rows: pd.DataFrame = FRAME, **more: Any) -> pd.DataFrame:
    predict = pyalink.ScorecardPredictBatchOp(**{**OUT, **more})
    return predict.linkFrom(model, batch(rows)).collectToDataframe()


def chances(found: pd.DataFrame) -> list[float]:
    return [float(json.loads(text)["good"]) for text in found["detail"]]


# --- models ---


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("column", ["a", "b"])
def test_a_bin_alone_has_the_share_of_its_rows(column, weight):
    model = card(binning(), selectedCols=[column], weightCol=weight)
    found = scored(model)
    keys = found["b"] if column == "b" else found["a_SCORE"].round(9)
    weights = FRAME["w"] if weight else pd.Series(1.0, FRAME.index)
    good = (FRAME["label"] == "good") * weights
    share = good.groupby(keys).sum() / weights.groupby(keys).sum()
    assert len(share) == (3 if column == "b" else 5)  # four intervals and NULL
    assert chances(found) == pytest.approx(keys.map(share).tolist(), abs=1e-4)
    points = info(model).getScores()[column]
    assert math.fsum(points) == pytest.approx(0, abs=1e-9)
    if column == "b":
        assert points[3:] == [0.0, 0.0]  # NULL and else, of which there are no rows


@pytest.mark.parametrize("kind", ["LR", "LinearReg"])
@pytest.mark.parametrize("encode", ["WOE", "NULL"])
def test_columns_are_weighed_as_linear_models_weigh_them(encode, kind):
    columns = ["a", "b"] if encode == "WOE" else ["c", "w"]
    rows = batch()
    if encode == "WOE":
        rows = pyalink.BinningPredictBatchOp(selectedCols=columns, encode="WOE").linkFrom(
            binning(), rows
        )
    given: dict[str, Any] = {"featureCols": columns, "labelCol": "label", "epsilon": 1e-9}
    if kind == "LR":
        linear = pyalink.LogisticRegressionTrainBatchOp(**given, l2=0.01)  # good is the larger
    else:
        rows = rows.select([*columns, "CASE WHEN label = 'good' THEN 1 ELSE 0 END AS label"])
        given["lambda"] = 0.01
        linear = pyalink.RidgeRegTrainBatchOp(**given)
    wanted = linear.linkFrom(rows).collectModelInfo().getWeight().getData()
    model = card(binning(), selectedCols=columns, encode=encode, linearModelType=kind, l2=0.01)
    found = info(model)
    weights = [own for (own,) in found.getScores().values()]
    assert [found.getIntercept(), *weights] == pytest.approx(list(wanted), abs=2e-4)


def test_without_a_binning_columns_are_numbers():
    model = card(selectedCols=["c", "w"])
    wanted = info(card(binning(), selectedCols=["c", "w"], encode="NULL"))
    assert info(model).getScores() == wanted.getScores()
    with pytest.raises(al.PlanError, match='column "b" is STRING'):
        card()


def test_a_row_of_weight_two_is_two_rows():
    twice = pd.DataFrame(FRAME.loc[FRAME.index.repeat(FRAME["w"].astype(int))])
    weighed, repeated = (
        info(card(binning(), rows=rows, weightCol=weight, l2=0.001)).getScores()
        for rows, weight in ((FRAME, "w"), (twice, None))
    )
    for column, points in weighed.items():
        assert points == pytest.approx(repeated[column], abs=1e-4)


def test_a_penalty_keeps_weights_small_and_an_absolute_one_makes_some_zero():
    free, squared, absolute = (
        info(card(binning(), selectedCols=["a", "b", "c"], l1=l1, l2=l2)).getScores()
        for l1, l2 in ((0.0, 0.0), (0.0, 0.1), (0.03, 0.0))
    )
    size = {k: max(map(abs, own)) for k, own in free.items()}
    assert all(max(map(abs, squared[k])) < size[k] for k in size)
    assert absolute["c"] == [0.0] * 5
    assert max(absolute["a"]) > 0


def test_scores_are_points_of_a_scale():
    plain, scaled = (
        scored(card(binning(), **more))
        for more in ({}, {"scaleInfo": True, "scaledValue": 600.0, "odds": 20.0, "pdo": 30.0})
    )
    assert plain["detail"].tolist() == scaled["detail"].tolist()
    odds = np.exp(plain["score"])
    assert scaled["score"].tolist() == pytest.approx(
        (600 + 30 * np.log2(odds / 20)).tolist(), abs=1e-9
    )
    assert chances(plain) == pytest.approx((odds / (1 + odds)).tolist())
    for found in (plain, scaled):
        rest = found["score"] - found["a_SCORE"] - found["b_SCORE"]
        assert rest.tolist() == pytest.approx([rest[0]] * ROWS)


def test_columns_are_chosen_step_by_step():
    given: dict[str, Any] = {"selectedCols": ["c", "b", "a"], "withSelector": True}
    assert list(info(card(binning(), **given)).getScores()) == ["b", "a"]
    model = card(binning(), **given, forceSelectedCols=["c"], alphaEntry=0.0)
    assert list(info(model).getScores()) == ["c"]
    found = scored(model)
    assert found["b_SCORE"].isna().all()
    assert found["c_SCORE"].notna().all()
    for encode in ("WOE", "NULL"):
        columns = ["c", "a", "b"] if encode == "WOE" else ["c", "w"]
        chosen = info(
            card(binning(), **{**given, "selectedCols": columns}, encode=encode)
        ).getScores()
        assert list(chosen) == (["a", "b"] if encode == "WOE" else [])


# --- constraints ---


def test_constraints_are_fulfilled():
    model = card(
        binning(),
        constraints(
            {
                "featureConstraint": [
                    {"name": "a", "=": [[1, 0.25]], "<": [[2, 0]], "LO": [[-1, 0.1]]},
                    {"name": "b", "%": [[0, 1, 3.0]], ">": [[2, 1, 0]], "UP": [[2, 0.4]]},
                ],
                "constraintBetweenFeatures": {">": [["a", 3, "b", 1]]},
            }
        ),
    )
    a, b = info(model).getScores().values()
    near = 1e-6
    assert a[1] == pytest.approx(0.25, abs=near)
    assert a[2] <= a[0] + near
    assert a[4] >= 0.1 - near
    assert b[0] == pytest.approx(3 * b[1], abs=near)
    assert b[2] + near >= b[1] >= b[0] - near
    assert b[2] <= 0.4 + near
    assert a[3] >= b[1] - near
    assert math.fsum(a) == pytest.approx(0, abs=near)
    assert math.fsum(b) == pytest.approx(0, abs=near)


def test_constraints_that_hold_anyhow_change_nothing():
    free = info(card(binning()))
    a = free.getScores()["a"]
    order = sorted(range(4), key=a.__getitem__)
    text = {"featureConstraint": [{"name": "A", "<": [order], "UP": [[0, 50]], "LO": [[0, -50]]}]}
    held = info(card(binning(), constraints(text)))
    assert held.getIntercept() == pytest.approx(free.getIntercept(), abs=1e-3)
    for name, points in free.getScores().items():
        assert held.getScores()[name] == pytest.approx(points, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"featureConstraint": [{"name": "a", "LO": [[0, 1]], "UP": [[0, 0]]}]}, "no weights"),
        ({"featureConstraint": [{"name": "a", "LO": [[4, 1]]}]}, "has no bin 4: it has 0 to 3"),
        ({"featureConstraint": [{"name": "a", "LO": [[-2, 1]]}]}, "has no bin -2"),
        ({"featureConstraint": [{"name": "z", "LO": [[0, 1]]}]}, "names 'z', which is none"),
        ({"featureConstraint": [{"name": "a", "LO": [[0]]}]}, "constraints cannot be read"),
        ("[", "constraints cannot be read"),
    ],
)
def test_constraints_that_cannot_be_are_refused(text, why):
    with pytest.raises(al.Error, match=why):
        card(binning(), constraints(text)).collectToDataframe()


# --- applying ---


def test_a_stage_gives_what_the_operators_give(tmp_path, monkeypatch):
    model = card(binning(), scaleInfo=True, scaledValue=600.0, odds=20.0, pdo=30.0)
    wanted = scored(model)
    columns = ["detail", "score", "a_SCORE", "b_SCORE"]
    assert list(wanted.columns[-4:]) == columns
    stage = pyalink.ScorecardModel(**OUT).setModelData(model)
    pd.testing.assert_frame_equal(stage.transform(batch()).collectToDataframe(), wanted)
    stream = pyalink.StreamOperator.fromDataframe(FRAME, schemaStr=SCHEMA)
    predict = pyalink.ScorecardPredictStreamOp(model, **OUT).linkFrom(stream)
    found = predict.collectToDataframe().sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted)
    path = str(tmp_path / "card.ak")
    PipelineModel(stage).save(path)
    pyalink.BatchOperator.execute()
    loaded = PipelineModel.load(path)
    pd.testing.assert_frame_equal(loaded.transform(batch()).collectToDataframe(), wanted)
    local = pyalink.LocalPredictor(path, SCHEMA)
    for i in (0, 1):
        row = [None if pd.isna(x) else x for x in FRAME.loc[i].tolist()]
        assert local.map(row)[-3:].tolist() == wanted.loc[i, columns[1:]].tolist()
    monkeypatch.setattr(_training, "WORKERS", 3)
    together = scored(card(binning(), scaleInfo=True, scaledValue=600.0, odds=20.0, pdo=30.0))
    assert together["score"].tolist() == pytest.approx(wanted["score"].tolist(), abs=1e-4)


def test_null_and_what_the_binning_had_not():
    rows = pd.DataFrame(
        [[0, None, None, None, None, None], [1, math.nan, "new", 0.0, 1.0, "bad"]],
        columns=FRAME.columns,
    )
    found = scored(card(binning(), l2=0.01), rows)
    points = info(card(binning(), l2=0.01)).getScores()
    assert found["a_SCORE"].tolist() == [points["a"][4]] * 2
    assert found["b_SCORE"].tolist() == [points["b"][3], points["b"][4]]
    plain = scored(card(selectedCols=["c", "w"]), rows)
    assert plain["score"].isna().tolist() == plain["detail"].isna().tolist() == [True, False]
    few = scored(
        card(binning()), predictionDetailCol=None, calculateScorePerFeature=False, reservedCols=[]
    )
    assert list(few.columns) == ["score"]


def test_it_says_its_points(capsys):
    card(binning(), selectedCols=["b"]).lazyPrintModelInfo("points")
    pyalink.BatchOperator.execute()
    shown = capsys.readouterr().out
    assert "points\n" in shown
    assert "encode: ASSEMBLED_VECTOR\n{intercept: " in shown


# --- refusals ---


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"linearModelType": "Divergence"}, "Divergence is not built yet"),
        ({"linearModelType": "Tree"}, '"linearModelType" cannot be'),
        ({"encode": "INDEX"}, '"encode" cannot be'),
        ({"constOptimMethod": "magic"}, '"constOptimMethod" cannot be'),
        ({"scaleInfo": True, "odds": 1.0, "pdo": 2.0}, '"scaledValue" is not set'),
        ({"scaleInfo": True, "scaledValue": 1.0, "odds": 0.0, "pdo": 2.0}, '"odds" cannot be 0'),
        ({"l2": -1.0}, '"l2" cannot be -1'),
        ({"forceSelectedCols": ["c"]}, "of 'forceSelectedCols' is none of 'selectedCols'"),
        ({"selectedCols": ["a", "label"]}, 'the label "label" is one of'),
        ({"selectedCols": ["a", "zz"]}, 'no column "zz"'),
    ],
)
def test_parameters_that_do_not_fit_are_refused(more, text):
    with pytest.raises(al.PlanError, match=text):
        card(binning(), **more)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"positiveLabelValueString": "1"}, "no row has the label '1'"),
        ({"selectedCols": ["a", "w"]}, "the model has no column 'w'"),
        ({"rows": FRAME.head(0)}, "there are no rows to train with"),
        ({"rows": FRAME.assign(label="good")}, "has 1 value where 2 are needed"),
        ({"rows": FRAME.assign(label=None)}, "is NULL in a row of the training"),
        ({"weightCol": "c"}, "are not numbers of 0 and more"),
    ],
)
def test_rows_that_do_not_fit_are_refused(more, text):
    model = binning()
    with pytest.raises(al.Error, match=text):
        card(model, **more).collectToDataframe()


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(al.PlanError, match="is no model of a binning"):
        card(batch())
    with pytest.raises(al.PlanError, match="constraints are one column of texts"):
        card(binning(), batch())
    with pytest.raises(al.PlanError, match="is no model of a scorecard"):
        scored(batch())
    bare = binning(labelCol=None)
    with pytest.raises(al.Error, match="has no weight of evidence"):
        card(bare, encode="WOE").collectToDataframe()
    given = {"encode": "WOE", "defaultWoe": 0.0}
    assert info(card(bare, **given)).getScores()["a"] == [0.0]


def test_constraints_without_bins_are_told(capfd):
    text = constraints({"featureConstraint": [{"name": "a", "LO": [[0, 1]]}]})
    held = info(card(binning(), text, encode="WOE")).getScores()
    assert held == info(card(binning(), encode="WOE")).getScores()
    assert "with encode WOE they change nothing" in capfd.readouterr().err
