"""AutoCross: the search for crossings, and the vectors that come of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink._algorithms import _crosses
from alink._algorithms._fields import Rows
from pyalink import alink as pyalink

ROWS = 400
SCHEMA = "a string, b int, c string, x double, label string"


def frame() -> pd.DataFrame:
    """Give rows whose label hangs on a and b together, and on neither alone."""
    random = np.random.default_rng(2)
    a, b, c = (random.integers(0, 3, ROWS) for _ in range(3))
    x = random.normal(size=ROWS)
    score = np.where((a + b) % 2 == 0, 2.0, -2.0) + x + random.logistic(size=ROWS)
    return pd.DataFrame(
        {
            "a": np.array(["x", "ÿ", "z"])[a],
            "b": b,
            "c": np.array(["p", "q", "r"])[c],
            "x": 1e6 + 1e3 * x,
            "label": np.where(score > 0, "yes", "no"),
        }
    )


FRAME = frame()
GIVEN: dict[str, Any] = {
    "selectedCols": ["a", "x", "b", "c"],
    "categoricalCols": ["b"],
    "labelCol": "label",
}
SMALL = pd.DataFrame(
    [["x", 1, "p", 0.5, "yes"], [None, 2, "new", -1.0, "no"], ["z", None, "q", None, "no"]],
    columns=["a", "b", "c", "x", "label"],
)


def batch(rows: pd.DataFrame = FRAME) -> Any:
    return pyalink.BatchOperator.fromDataframe(rows, schemaStr=SCHEMA)


def meta(operator: Any) -> dict[str, Any]:
    rows = operator.collectToDataframe().sort_values("model_id")
    return {k: json.loads(v) for k, v in json.loads(rows["model_info"].iloc[0]).items()}


def model_of(**more: Any) -> Any:
    return pyalink.AutoCrossTrainBatchOp(**{**GIVEN, **more}).linkFrom(batch())


# --- regression ---


def rows_of_regression(count: int = 60) -> Rows:
    random = np.random.default_rng(5)
    fields = [random.integers(0, 3, count), random.integers(0, 4, count)]
    signs = np.where(random.uniform(size=count) < 0.4, 1.0, -1.0)
    return Rows(random.normal(size=(count, 1)), fields, [3, 5], signs)


def test_a_regression_is_the_minimum_of_its_objective():
    rows = rows_of_regression()
    count = len(rows.signs)
    design = np.hstack(
        [
            np.ones((count, 1)),
            rows.numbers,
            *(np.eye(size)[f] for f, size in zip(rows.fields, rows.sizes, strict=True)),
        ]
    )
    prior = np.diag([0.0, *[1.0] * 9])
    wanted = np.zeros(10)
    for _ in range(30):  # Newton's method, of the matrix
        chance = 1 / (1 + np.exp(-rows.signs * (design @ wanted)))
        gradient = prior @ wanted - design.T @ (rows.signs * (1 - chance))
        curvature = prior + (design.T * (chance * (1 - chance))) @ design
        wanted -= np.linalg.solve(curvature, gradient)
    for start in (np.zeros(10), np.full(10, 3.0)):
        np.testing.assert_allclose(_crosses.regress(rows, start), wanted, atol=1e-4)
    np.testing.assert_allclose(rows.margins(wanted), design @ wanted)


@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0])
def test_a_field_alone_has_no_slope_left(scale):
    rows = rows_of_regression()
    codes, size = rows.fields[1], 6
    margins = scale * rows.numbers[:, 0]
    found = _crosses.regress_field(margins, rows.signs, codes, size)
    with np.errstate(over="ignore"):
        slopes = -rows.signs / (1 + np.exp(rows.signs * (margins + found[codes])))
    np.testing.assert_allclose(np.bincount(codes, slopes, size) + found, 0, atol=1e-8)
    assert found[4] == found[5] == 0  # of which there is no row


def test_the_area_counts_pairs():
    random = np.random.default_rng(1)
    scores = random.integers(0, 6, 40).astype(float)
    positive = random.uniform(size=40) < 0.3
    pairs = np.subtract.outer(scores[positive], scores[~positive])
    wanted = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert _crosses.area_under_curve(scores, positive) == pytest.approx(wanted)


@pytest.mark.parametrize("fraction", [0.001, 0.8, 0.999])
def test_both_parts_of_a_division_have_both_labels(fraction):
    signs = np.where(np.arange(50) % 10 < 3, 1.0, -1.0)
    known, held = _crosses.split(signs, fraction, 1)
    assert sorted([*known, *held]) == list(range(50))
    for part in (known, held):
        assert set(signs[part]) == {1.0, -1.0}
    if fraction == 0.8:
        assert (signs[known] > 0).sum() == 12
        assert known.tolist() != _crosses.split(signs, fraction, 2)[0].tolist()


# --- search ---


@pytest.mark.parametrize("more", [{}, {"fixCoefs": True}, {"kCross": 2, "fraction": 0.6}])
def test_what_the_label_hangs_on_is_crossed_first(more):
    said = meta(model_of(**more))
    assert said["numericalCols"] == ["x"]
    assert said["categoricalCols"] == ["a", "b", "c"]
    assert said["crosses"][0] == [0, 1]
    assert len(said["crosses"]) == len(said["scores"]) == 2
    assert said["scores"][0] > 0.85
    alone = pyalink.CrossCandidateSelectorTrainBatchOp(
        **GIVEN, featureCandidates=["b, c", "a,C"], crossFeatureNumber=2, **more
    ).linkFrom(batch())
    assert max(meta(alone)["scores"]) < 0.8
    assert meta(alone)["scores"] == sorted(meta(alone)["scores"], reverse=True)


def test_the_search_goes_on_until_all_is_crossed():
    said = meta(model_of(maxSearchStep=9))
    assert sorted(said["crosses"]) == [[0, 1], [0, 1, 2], [0, 2], [1, 2]]
    said = meta(model_of(selectedCols=["a", "x"], categoricalCols=None))
    assert said["crosses"] == []


def test_names_of_values_and_the_order_of_columns_do_not_matter():
    names = {"x": "9", "ÿ": "8", "z": "7"}
    renamed = pd.DataFrame(FRAME.assign(a=FRAME["a"].map(names))[list(FRAME.columns[::-1])])
    schema = ", ".join(reversed(SCHEMA.split(", ")))
    other = pyalink.AutoCrossTrainBatchOp(**GIVEN).linkFrom(
        pyalink.BatchOperator.fromDataframe(renamed, schemaStr=schema)
    )
    mine, its = meta(model_of()), meta(other)
    assert mine["crosses"] == its["crosses"]
    assert mine["scores"] == pytest.approx(its["scores"], abs=1e-3)
    algo = pyalink.AutoCrossAlgoTrainBatchOp(**GIVEN).linkFrom(batch())
    assert meta(algo) == mine


# --- vectors ---


def vectors(model: Any, rows: pd.DataFrame = SMALL, name: str = "AutoCross", **more: Any) -> Any:
    predict = getattr(pyalink, f"{name}PredictBatchOp")(outputCol="v", reservedCols=[], **more)
    found = predict.linkFrom(model, batch(rows)).collectToDataframe()["v"].tolist()
    return [None if pd.isna(v) else str(v) for v in found]


def test_vectors_have_numbers_categories_and_crossings():
    model = model_of(maxSearchStep=1)
    size = 1 + 4 + 4 + 4 + 16
    # x, then a: x z ÿ NULL, b: 0 1 2 NULL, c: p q r NULL, then a and b.
    assert vectors(model) == [
        f"${size}$0:0.5 1:1.0 6:1.0 9:1.0 17:1.0",
        f"${size}$0:-1.0 4:1.0 7:1.0 12:1.0 24:1.0",
        None,
    ]
    assert vectors(model, outputFormat="DENSE") == [
        "0.5 0.0 5.0 8.0 16.0",
        "-1.0 3.0 6.0 11.0 23.0",
        None,
    ]


def test_a_selector_may_give_crossings_alone():
    model = pyalink.CrossCandidateSelectorTrainBatchOp(
        **GIVEN, featureCandidates=["c, a", "b,a", "a,b"], crossFeatureNumber=2
    ).linkFrom(batch())
    assert meta(model)["crosses"] == [[0, 1], [0, 2]]
    name = "CrossCandidateSelector"
    alone: dict[str, Any] = {"appendOriginalData": False}
    assert vectors(model, name=name, **alone) == [
        "$32$4:1.0 16:1.0",
        "$32$11:1.0 31:1.0",
        "$32$13:1.0 21:1.0",  # which has no number in it
    ]
    assert vectors(model, name=name, outputFormat="Dense", **alone)[0] == "4.0 16.0"
    assert vectors(model, name=name)[0] == "$45$0:0.5 1:1.0 6:1.0 9:1.0 17:1.0 29:1.0"


@pytest.mark.parametrize("more", [{}, {"discreteThresholdsArray": [0, 140, 0]}])
def test_the_side_output_says_what_stands_where(more):
    model = model_of(**more)
    listed = model.getSideOutput(0).collectToDataframe()
    assert listed["index"].tolist() == list(range(1, 1 + len(listed)))
    names = dict(zip(listed["index"], listed["feature"] + "=" + listed["value"], strict=True))
    known = FRAME["b"].value_counts()
    crosses = meta(model)["crosses"]
    rows = FRAME.head(5).assign(a=["x", None, "other", "z", "ÿ"])
    for row, text in zip(rows.itertuples(), vectors(model, rows), strict=True):
        values = [row.a, row.b, row.c]
        shown = ["null" if pd.isna(v) else str(v) for v in values]
        if more:
            shown[1] = shown[1] if known[row.b] >= 140 else "lowFrequencyValue"
        if row.a == "other":
            shown[0] = "lowFrequencyValue" if more else "null"
        wanted = {f"{n}={v}" for n, v in zip("abc", shown, strict=True)}
        for cross in crosses:
            column = " and ".join("abc"[i] for i in cross)
            wanted.add(f"{column}={', '.join(shown[i] for i in cross)}")
        ones = [int(part.split(":")[0]) for part in text.split("$")[2].split()[1:]]
        assert {names[i] for i in ones} == wanted


# --- refusals ---


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("AutoCross", {"selectedCols": ["x"], "categoricalCols": None}, "has only numbers"),
        ("AutoCross", {"selectedCols": ["a", "label"]}, "'selectedCols'"),
        ("AutoCross", {"categoricalCols": ["label"]}, "is none of 'selectedCols'"),
        ("AutoCross", {"fraction": 1.0}, '"fraction" cannot be 1.0'),
        ("AutoCross", {"kCross": 0}, '"kCross" cannot be 0'),
        ("AutoCross", {"maxSearchStep": 0}, '"maxSearchStep" cannot be 0'),
        ("AutoCross", {"discreteThresholdsArray": [1]}, "has 1 numbers for 3 columns"),
        ("CrossCandidateSelector", {"featureCandidates": ["a,d"]}, "no categorical column"),
        ("CrossCandidateSelector", {"featureCandidates": ["a,a"]}, "which is no crossing"),
        ("CrossCandidateSelector", {"crossFeatureNumber": 2}, "cannot be 2 of 1 different"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name, more, text):
    given: dict[str, Any] = {**GIVEN}
    if name == "CrossCandidateSelector":
        given |= {"featureCandidates": ["a,b"], "crossFeatureNumber": 1}
    with pytest.raises(al.PlanError, match=text):
        getattr(pyalink, f"{name}TrainBatchOp")(**{**given, **more}).linkFrom(batch())


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (FRAME.assign(label="yes"), "has 1 value where 2 are needed"),
        (FRAME.head(9).assign(label=["yes"] + ["no"] * 8), "only one row has the label 'yes'"),
        (FRAME.assign(x=[None, *FRAME["x"][1:]]), "'x' has NULL, NaN or infinite values"),
        (FRAME.head(0), "has 0 values where 2 are needed"),
    ],
)
def test_rows_that_cannot_be_searched_are_refused(rows, text):
    with pytest.raises(al.Error, match=text):
        pyalink.AutoCrossTrainBatchOp(**GIVEN).linkFrom(batch(rows)).collectToDataframe()


def test_what_applying_refuses():
    with pytest.raises(al.PlanError, match="\"outputFormat\" cannot be 'Word'"):
        vectors(model_of(), outputFormat="Word")
    columns = pd.DataFrame(SMALL[["a", "b"]])
    narrow = pyalink.BatchOperator.fromDataframe(columns, schemaStr="a string, b int")
    predict = pyalink.AutoCrossPredictBatchOp(outputCol="v").linkFrom(model_of(), narrow)
    with pytest.raises(al.Error, match="was trained on the column 'c', the rows have a, b"):
        predict.collectToDataframe()
    layout = _crosses.Layout([], ["a", "b"], [["v"] * 50_000] * 2, False, [(0, 1)])
    with pytest.raises(ValueError, match="a vector has at most"):
        layout.check()
