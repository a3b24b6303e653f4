"""Discretizers and binning: cuts are exact quantiles, however many workers share the rows."""

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
from alink._algorithms import _binning, _discretizers, _quantiles
from alink._algorithms._models import read_model
from pyalink import alink as pyalink

RANDOM = np.random.default_rng(3)
NAN, INF = math.nan, math.inf


def cuts(rows: pa.Table, buckets: int, method: str = "quantile", workers: int = 1) -> list[Any]:
    names = rows.column_names
    params = {
        "selectedCols": names,
        "buckets": [buckets] * len(names),
        "leftOpen": True,
        "method": method,
        "types": ["DOUBLE"] * len(names),
    }
    model = read_model(train(_discretizers.train(params), rows, workers, batch_rows=999))
    return [json.loads(text)[0]["splitsArray"] for text in model.data]


def quantiles(values: Any, buckets: int) -> list[Any]:
    """Take the values at ranks round((n - 1) k / buckets), each once."""
    ordered = np.sort(np.asarray(values))
    ranks = [math.floor((len(ordered) - 1) * k * (1 / buckets) + 0.5) for k in range(1, buckets)]
    return sorted({ordered[rank].item() for rank in ranks})


COLUMNS = {
    "normal": RANDOM.normal(size=5000),
    "few values": RANDOM.integers(0, 4, 5000).astype(float),
    "one value": np.full(5000, 2.5),
    "signs": np.concatenate([RANDOM.normal(size=4000) * 1e-300, [-0.0] * 500, [0.0] * 500]),
    "infinite": np.concatenate([RANDOM.normal(size=4998), [INF, -INF]]),
    "long": RANDOM.integers(-(2**62), 2**62, 5000),
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("gathered", [10, 10**6])
@pytest.mark.parametrize("name", COLUMNS)
def test_cuts_are_exact_quantiles(name, gathered, workers, monkeypatch):
    # With few that may be gathered, all that is left to count are the bits of the values.
    monkeypatch.setattr(_quantiles, "_GATHERED_MAX", gathered)
    values = COLUMNS[name]
    table = pa.table({"x": values, "y": values[::-1]})
    for buckets in (2, 7, 300):
        assert cuts(table, buckets, workers=workers) == [quantiles(values, buckets)] * 2


def test_the_table_of_counts_stays_small(monkeypatch):
    monkeypatch.setattr(_quantiles, "_GATHERED_MAX", 10)
    monkeypatch.setattr(_quantiles, "_COUNTS_MAX", 64)  # so that bits are read four at a time
    values = RANDOM.normal(size=3000)
    assert cuts(pa.table({"x": values}), 100) == [quantiles(values, 100)]


def test_missing_values_are_no_values():
    values = pa.array([3.0, None, 1.0, NAN, 2.0, None])
    assert cuts(pa.table({"x": values}), 2) == [[2.0]]
    assert cuts(pa.table({"x": pa.array([None, NAN], pa.float64())}), 4) == [[]]
    assert cuts(pa.table({"x": pa.array([], pa.float64())}), 4) == [[]]
    for empty in (pa.array([None, NAN], pa.float64()), pa.array([], pa.float64())):
        assert cuts(pa.table({"x": empty}), 4, "width") == [[]]


@pytest.mark.parametrize("workers", [1, 3])
def test_equal_width(workers):
    table = pa.table({"x": [0.0, 10.0, 2.5, None, NAN], "y": [7.0] * 5})
    assert cuts(table, 4, "width", workers) == [[2.5, 5.0, 7.5], []]
    with pytest.raises(ValueError, match="column 'x' has no finite width"):
        cuts(pa.table({"x": [0.0, INF]}), 4, "width", workers)


# --- through operators ---


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(
        {
            "id": range(8),
            "x": [1.0, 2.0, 3.0, 4.0, None, 5.0, 6.0, 7.0],
            "n": pd.array([2**53 + i for i in range(7)] + [None], "Int64"),
            "s": ["ä", "b", "ä", None, "c", "b", "ä", "d"],
            "y": ["yes", "no", "yes", "no", "no", "no", "yes", "no"],
        }
    )


SCHEMA = "id int, x double, n bigint, s string, y string"


def source(frame):
    return pyalink.BatchOperator.fromDataframe(frame, SCHEMA)


def rows(operator) -> list[Any]:
    frame = operator.collectToDataframe().sort_values("id")
    return [[None if pd.isna(v) else v for v in row] for row in frame.to_numpy(object).tolist()]


def quantile(**params):
    return pyalink.QuantileDiscretizer(selectedCols=["x", "n"], numBuckets=3, **params)


def test_the_forms_agree_and_the_sides_of_cuts_differ(frame):
    data = source(frame)
    params: dict[str, Any] = {"selectedCols": ["X", "n"]}
    model = data.link(pyalink.QuantileDiscretizerTrainBatchOp(**params, numBuckets=3))
    predict = pyalink.QuantileDiscretizerPredictBatchOp(**params, reservedCols=["id"])
    batch = rows(predict.linkFrom(model, data))
    # 1 … 7 is cut at its values of ranks 2 and 4: 3 and 5; longs are exact beyond 2^53.
    assert [row[1] for row in batch] == [0, 0, 0, 1, 3, 1, 2, 2]
    assert [row[2] for row in batch] == [0, 0, 0, 1, 1, 2, 2, 3]
    stage = quantile(reservedCols=["id"]).fit(data)
    assert rows(stage.transform(data)) == batch
    stream = pyalink.QuantileDiscretizerPredictStreamOp(model, **params, reservedCols=["id"])
    stream_rows = pyalink.StreamOperator.fromDataframe(frame, SCHEMA).link(stream)
    assert rows(stream_rows) == batch
    right = rows(quantile(reservedCols=["id"], leftOpen=False).fit(data).transform(data))
    assert [row[1] for row in right] == [0, 0, 1, 1, 3, 2, 2, 2]


def test_vectors_of_intervals(frame):
    data = source(frame)
    made: dict[str, Any] = {
        "outputCols": ["v"],
        "encode": "ASSEMBLED_VECTOR",
        "reservedCols": ["id"],
    }
    found = rows(quantile(**made).fit(data).transform(data))
    # Of each column 3 intervals and one of NULL, without the last interval.
    assert [str(row[1]) for row in found][4:] == [
        "$6$2:1.0 4:1.0",
        "$6$1:1.0",
        "$6$",
        "$6$5:1.0",
    ]
    found = rows(quantile(**made, dropLast=False, handleInvalid="skip").fit(data).transform(data))
    assert [str(row[1]) for row in found][4:] == [
        "None",
        "$6$1:1.0 5:1.0",
        "$6$2:1.0 5:1.0",
        "None",
    ]


def test_what_is_refused(frame):
    data = source(frame)
    with pytest.raises(al.Error, match="column 'x' has a value in no interval: NULL or NaN"):
        quantile(handleInvalid="error").fit(data).transform(data).collectToDataframe()
    with pytest.raises(al.PlanError, match='column "s" is STRING'):
        pyalink.QuantileDiscretizer(selectedCols=["s"]).fit(data)
    with pytest.raises(al.PlanError, match='"numBucketsArray" has 1 numbers for 2 columns'):
        quantile(numBucketsArray=[3]).fit(data)
    with pytest.raises(al.PlanError, match="there cannot be 0 buckets"):
        pyalink.EqualWidthDiscretizer(selectedCols=["x"], numBuckets=0).fit(data)
    with pytest.raises(al.PlanError, match=r'^ALK1001: .*there is no column "xx"'):
        pyalink.EqualWidthDiscretizer(selectedCols=["xx"]).fit(data)
    model = data.link(pyalink.QuantileDiscretizerTrainBatchOp(selectedCols=["x"]))
    predict = pyalink.QuantileDiscretizerPredictBatchOp(selectedCols=["n"])
    with pytest.raises(al.Error, match="the model has no column 'n'"):
        predict.linkFrom(model, data).collectToDataframe()


# --- binning ---


def binning(**params):
    return pyalink.Binning(
        selectedCols=["x", "s"], labelCol="y", positiveLabelValueString="yes", **params
    )


def bins(frame, **params) -> dict[str, Any]:
    model = binning(**params).fit(source(frame)).getModelData().collectToDataframe()
    items = [json.loads(text)[0] for text in model["FeatureBordersJson"]]
    return {item["featureName"]: item for item in items}


def test_what_is_counted_in_bins(frame):
    found = bins(frame)
    assert found["x"]["splitsArray"] == [4.0]
    norm = found["s"]["bin"]["NORM"]
    # The most frequent value comes first.
    assert [(item["values"], item["total"], item["positive"]) for item in norm] == [
        (["ä"], 3, 3),
        (["b"], 2, 0),
        (["c"], 1, 0),
        (["d"], 1, 0),
    ]
    woe = math.log((3.5 / 3) / (0.5 / 5))
    assert norm[0]["woe"] == pytest.approx(woe, abs=6e-4)
    assert norm[0]["iv"] == pytest.approx(woe, abs=6e-4)
    assert found["s"]["bin"]["NULL"]["total"] == 1
    assert found["x"]["bin"]["NULL"]["total"] == 1
    assert found["s"]["iv"] == pytest.approx(
        sum(item["iv"] for item in [*norm, *map(found["s"]["bin"].get, ("NULL", "ELSE"))])
    )


def test_rare_values_are_in_the_bin_else(frame):
    data = source(frame)
    made: dict[str, Any] = {
        "discreteThresholds": 2,
        "outputCols": ["a", "b"],
        "reservedCols": ["id"],
    }
    found = rows(binning(encode="INDEX", **made).fit(data).transform(data))
    assert [row[2] for row in found] == [0, 1, 0, 2, 3, 1, 0, 3]  # 2 is NULL's, 3 of the rest
    skipped = rows(binning(encode="INDEX", handleInvalid="SKIP", **made).fit(data).transform(data))
    assert [row[2] for row in skipped] == [0, 1, 0, None, 2, 1, 0, 2]
    mapped: dict[str, Any] = {**made, "discreteThresholdsMap": "s:3"}
    found = rows(binning(encode="INDEX", **mapped).fit(data).transform(data))
    assert [row[2] for row in found] == [0, 2, 0, 1, 2, 2, 0, 2]


def test_weights_of_evidence_and_vectors(frame):
    data = source(frame)
    found = rows(binning(encode="WOE", reservedCols=["id"]).fit(data).transform(data))
    norm = bins(frame)["s"]["bin"]["NORM"]
    assert [row[2] for row in found][:2] == [norm[0]["woe"], norm[1]["woe"]]
    made: dict[str, Any] = {"outputCols": ["v"], "reservedCols": ["id"], "dropLast": False}
    found = rows(binning(**made).fit(data).transform(data))
    # Two intervals and NULL's; four values, NULL's and else.
    assert [str(row[1]) for row in found][2:5] == [
        "$9$0:1.0 3:1.0",
        "$9$0:1.0 7:1.0",
        "$9$2:1.0 5:1.0",
    ]
    unlabelled = pyalink.Binning(selectedCols=["x"], encode="WOE").fit(data).transform(data)
    with pytest.raises(al.Error, match="a bin of column 'x' has no weight of evidence"):
        unlabelled.collectToDataframe()
    weighed = pyalink.Binning(selectedCols=["x"], encode="WOE", defaultWoe=0.5).fit(data)
    assert {row[1] for row in rows(weighed.transform(data))} == {0.5}


def test_bins_that_the_user_describes(frame):
    described = json.dumps(
        [
            {"featureName": "x", "splitsArray": [2.5, 6], "isLeftOpen": False},
            {
                "featureName": "s",
                "bin": {
                    "NORM": [{"index": 0, "values": ["ä", "b"]}, {"index": 1, "values": ["c"]}]
                },
            },
        ]
    )
    data = source(frame)
    made: dict[str, Any] = {"fromUserDefined": True, "userDefinedBin": described, "encode": "INDEX"}
    found = rows(binning(**made).fit(data).transform(data))
    assert [row[1] for row in found] == [0, 0, 1, 1, 3, 1, 2, 2]
    assert [row[3] for row in found] == [0, 0, 0, 2, 1, 0, 0, 3]
    assert bins(frame, **made)["s"]["bin"]["NORM"][0]["total"] == 5
    for text, message in (
        ("[", "'userDefinedBin' is not JSON"),
        ('[{"featureName": "s", "splitsArray": [1]}]', 'does not fit column "s"'),
        ('[{"featureName": "s"}]', "the bins of a column lack 'bin'"),
    ):
        with pytest.raises(al.PlanError, match=message):
            binning(fromUserDefined=True, userDefinedBin=text).fit(data)


def test_workers_count_together():
    table = pa.table(
        {
            "x": RANDOM.normal(size=900),
            "s": RANDOM.choice(["a", "b", "ü"], 900),
            "y": RANDOM.integers(0, 2, 900),
        }
    )
    params = {
        "selectedCols": ["x", "s"],
        "types": ["DOUBLE", "STRING"],
        "labelCol": "y",
        "positiveLabelValueString": "1",
        "binningMethod": "QUANTILE",
        "leftOpen": True,
        "buckets": {"x": 5},
        "thresholds": {"s": 0},
        "userBins": [],
    }
    alone = train(_binning.train(params), table)
    assert train(_binning.train(params), table, 3, batch_rows=100).equals(alone)
    item = json.loads(alone.column(0)[0].as_py())[0]
    place = np.searchsorted(quantiles(table["x"], 5), table["x"].to_numpy())
    assert [bin_["total"] for bin_ in item["bin"]["NORM"]] == np.bincount(place).tolist()
    positive = np.bincount(place, table["y"].to_numpy())
    assert [bin_["positive"] for bin_ in item["bin"]["NORM"]] == positive.tolist()
