"""Operators that train models: models as tables, scalers, pipelines."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms._models import SLICE_CHARS_MAX, BadModel, Model, read_model, write_model
from alink._algorithms._moments import Moments
from pyalink import alink as pyalink


@pytest.mark.parametrize("label", [None, pa.string(), pa.int64()])
def test_a_model_is_read_back_whatever_the_order_of_its_rows(label):
    labels = [] if label is None else (["ü", "b"] if pa.types.is_string(label) else [7, -1])
    texts = ["", "x" * SLICE_CHARS_MAX, "日本" * SLICE_CHARS_MAX, '{"a":1}']
    model = Model({"k": 3, "cols": ["ä", "b"], "none": None, "text": "t"}, texts, labels)
    table = write_model(model, label, [("x", pa.float64())])
    assert table.schema.names[:2] == ["model_id", "model_info"]
    assert max(map(len, filter(None, table.column(1).to_pylist()))) == SLICE_CHARS_MAX
    rows = list(range(table.num_rows))
    random.Random(1).shuffle(rows)
    assert read_model(table.take(pa.array(rows))) == model
    meta = json.loads(table.column(1)[0].as_py())
    assert meta == {"k": "3", "cols": '["ä","b"]', "none": None, "text": '"t"'}  # as Alink has it


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pa.table({"a": [1]}), "a table of the columns a is no model"),
        (write_model(Model()).slice(0, 0), "no rows"),
        (write_model(Model({}, ["x" * (2 * SLICE_CHARS_MAX)])).take([0, 2]), "lacks slice 0"),
        (write_model(Model({}, ["a", "b"])).take([0, 2]), "lacks some of its rows"),
        (
            pa.table({"model_id": [0], "model_info": ["nonsense"]}),
            "what the model says of itself is not JSON",
        ),
    ],
)
def test_what_is_no_model_is_refused(table, text):
    with pytest.raises(BadModel, match=text):
        read_model(table)


def test_moments_are_those_of_the_whole_however_it_is_cut():
    numbers = np.random.default_rng(1).normal(1e9, 3, (5000, 3))
    numbers[::7, 1] = np.nan
    moments = Moments(3)
    for part in np.array_split(numbers, [0, 1, 2, 10, 4000]):
        moments.add(part)
    assert moments.count.tolist() == (~np.isnan(numbers)).sum(axis=0).tolist()
    np.testing.assert_allclose(moments.mean, np.nanmean(numbers, axis=0), rtol=1e-15)
    np.testing.assert_allclose(moments.deviation, np.nanstd(numbers, axis=0, ddof=1), rtol=1e-7)
    np.testing.assert_array_equal(moments.low, np.nanmin(numbers, axis=0))
    np.testing.assert_array_equal(moments.high, np.nanmax(numbers, axis=0))


FRAME = pd.DataFrame(
    {"a": [1.0, 2.0, None, 5.0], "b": [3, 3, 3, 3], "c": [None] * 4, "d": ["x", None, "ü", "z"]}
)
SCHEMA = "a double, b int, c double, d string"


def rows(kind: Any = pyalink.BatchOperator) -> Any:
    return kind.fromDataframe(FRAME, schemaStr=SCHEMA)


def scaled(name, **params):
    train = getattr(pyalink, f"{name}TrainBatchOp")(selectedCols=["a", "b", "c"], **params)
    model = train.linkFrom(rows())
    predict = getattr(pyalink, f"{name}PredictBatchOp")().linkFrom(model, rows())
    return predict.collectToDataframe()


@pytest.mark.parametrize(
    ("name", "params", "a", "b"),
    [
        ("StandardScaler", {}, [-0.800641, -0.320256, None, 1.120897], 0.0),
        ("StandardScaler", {"withMean": False}, [0.480384, 0.960769, None, 2.401922], 3.0),
        ("StandardScaler", {"withStd": False}, [-1.666667, -0.666667, None, 2.333333], 0.0),
        ("MinMaxScaler", {}, [0.0, 0.25, None, 1.0], 0.5),
        ("MinMaxScaler", {"min": -1.0, "max": 3.0}, [-1.0, 0.0, None, 3.0], 1.0),
        ("MaxAbsScaler", {}, [0.2, 0.4, None, 1.0], 1.0),
    ],
)
def test_scalers(name, params, a, b):
    frame = scaled(name, **params)
    assert frame.columns.tolist() == ["a", "b", "c", "d"]
    assert [str(t) for t in frame.dtypes] == ["float64"] * 3 + ["string"]
    np.testing.assert_allclose(frame["a"].astype(float), np.array(a, float), rtol=1e-6)
    assert frame["b"].tolist() == [b] * 4
    assert frame["c"].isna().all()
    assert frame["d"].fillna("").tolist() == ["x", "", "ü", "z"]


def test_batch_stream_and_pipeline_agree():
    stage = pyalink.StandardScaler(selectedCols=["a", "b"])
    model = stage.fit(rows())
    wanted = model.transform(rows()).collectToDataframe()
    stream = model.transform(rows(pyalink.StreamOperator))
    pd.testing.assert_frame_equal(stream.collectToDataframe(), wanted)
    train = pyalink.StandardScalerTrainBatchOp(selectedCols=["a", "b"]).linkFrom(rows())
    predict = pyalink.StandardScalerPredictStreamOp(train).linkFrom(rows(pyalink.StreamOperator))
    pd.testing.assert_frame_equal(predict.collectToDataframe(), wanted)
    again = pyalink.StandardScalerModel().setModelData(model.getModelData())
    pd.testing.assert_frame_equal(again.transform(rows()).collectToDataframe(), wanted)


def test_a_pipeline_trains_each_stage_on_what_those_before_it_give():
    pipeline = pyalink.Pipeline(
        pyalink.MinMaxScaler(selectedCols=["a", "b"]),
        pyalink.StandardScaler(selectedCols=["a"]),
        pyalink.ColumnsToVector(selectedCols=["a", "b"], vectorCol="v", reservedCols=["d"]),
    )
    frame = pipeline.fit(rows()).transform(rows()).collectToDataframe()
    assert frame.columns.tolist() == ["d", "v"]
    first = [float(part) for part in frame["v"][0].split()]
    np.testing.assert_allclose(first, [-0.800641, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pyalink.StandardScalerTrainBatchOp().linkFrom(rows()), "selectedCols"),
        (
            lambda: pyalink.StandardScalerTrainBatchOp(selectedCols=["aa"]).linkFrom(rows()),
            'no column "aa".*did you mean a',
        ),
        (lambda: pyalink.StandardScalerPredictBatchOp().linkFrom(rows()), "takes 2 inputs"),
        (lambda: pyalink.StandardScalerPredictStreamOp().linkFrom(stream()), "has no model"),
        (lambda: pyalink.StandardScalerModel().transform(rows()), "has no model"),
        (lambda: pyalink.StandardScaler(selectedCols=["a"]).fit(stream()), "a batch operator"),
        (
            lambda: (
                pyalink.StandardScalerTrainBatchOp(selectedCols=["d"])
                .linkFrom(rows())
                .collectToDataframe()
            ),
            "StandardScalerTrainBatchOp",
        ),
        (
            lambda: (
                pyalink.StandardScalerPredictBatchOp().linkFrom(rows(), rows()).collectToDataframe()
            ),
            "is no model",
        ),
    ],
)
def test_what_is_wrong_is_told(make, text):
    with pytest.raises(al.Error, match=f"(?s){text}"):
        make()


def stream():
    return rows(pyalink.StreamOperator)


def test_scaling_an_empty_table():
    empty = pyalink.BatchOperator.fromDataframe(FRAME.iloc[:0], schemaStr=SCHEMA)
    train = pyalink.MinMaxScalerTrainBatchOp(selectedCols=["a"]).linkFrom(empty)
    predict = pyalink.MinMaxScalerPredictBatchOp().linkFrom(train, empty)
    assert predict.collectToDataframe().shape == (0, 4)
