"""Operators that scale vectors, and that fill what is missing in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import groups
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _imputers, _vector_scalers
from alink._algorithms._moments import VectorMoments
from alink._algorithms._scalers import read_numbers
from alink._algorithms._vectors import Vectors
from pyalink import alink as pyalink

NAN = float("nan")
DENSE = ["1.0 -4 7", None, "3.0 0 7", "NaN 2 7", "8.0 NaN 7"]
SPARSE = ["$6$0:1.0 3:-4.0", "$6$", None, "0:3.0 5:8.0", "$6$3:NaN"]
SIZE = {"DENSE": 3, "SPARSE": 6}
ROWS = {"DENSE": DENSE, "SPARSE": SPARSE}


def matrix(texts: Sequence[str | None], size: int) -> Any:
    """Give vectors as a matrix, written down by hand; rows of NULL are left out."""
    rows = []
    for text in texts:
        if text is None:
            continue
        body = text.split("$")[-1]
        if ":" in text or "$" in text:
            row = [0.0] * size
            for part in body.split():
                index, value = part.split(":")
                row[int(index)] = float(value)
        else:
            row = [float(part) for part in body.split()]
        rows.append(row)
    return np.array(rows)


def scaled(name: str, texts: Sequence[str | None], **params: Any) -> list[Any]:
    """Train and apply by batch operators; of defaults stream and pipeline must give the same."""
    frame = pd.DataFrame({"v": texts})
    rows = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string")
    model = getattr(pyalink, f"{name}TrainBatchOp")(selectedCol="V", **params).linkFrom(rows)
    assert model.getColNames() == ["model_id", "model_info", "v"]
    op = getattr(pyalink, f"{name}PredictBatchOp")(outputCol="w").linkFrom(model, rows)
    assert op.getSchemaStr() == "v VARCHAR, w VECTOR"
    column = op.toTable().to_arrow().column("w").to_pylist()
    if params:
        return column
    stream = pyalink.StreamOperator.fromDataframe(frame, schemaStr="v vector")
    streamed = getattr(pyalink, f"{name}PredictStreamOp")(model).linkFrom(stream)
    assert streamed.getSchemaStr() == "v VECTOR"
    assert str(streamed.toTable().to_arrow().column("v").to_pylist()) == str(column)
    stage = getattr(pyalink, name)(selectedCol="v", outputCol="w", **params).fit(rows)
    assert str(stage.transform(rows).toTable().to_arrow().column("w").to_pylist()) == str(column)
    return column


def dense(column: list[Any], size: int) -> Any:
    rows = []
    for value in column:
        if value is not None:
            row = np.zeros(size)
            indices = range(size) if value["indices"] is None else value["indices"]
            row[list(indices)] = value["values"]
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    "params", [{}, {"withMean": False}, {"withStd": False}, {"withMean": False, "withStd": False}]
)
def test_standard(kind, params):
    texts, size = ROWS[kind], SIZE[kind]
    column = scaled("VectorStandardScaler", texts, **params)
    mean, std = params.get("withMean", True), params.get("withStd", True)
    x = matrix(texts, size)
    deviation = np.nanstd(x, axis=0, ddof=1)
    wanted = x - np.nanmean(x, axis=0) if mean else x
    wanted = wanted / np.where(deviation == 0, 1, deviation) if std else wanted
    np.testing.assert_allclose(dense(column, size), wanted, rtol=1e-12, atol=1e-15)
    assert [value is None for value in column] == [text is None for text in texts]
    is_sparse = [value["indices"] is not None for value in column if value]
    assert set(is_sparse) == {kind == "SPARSE" and not mean}


@pytest.mark.parametrize("params", [{}, {"min": -2.0, "max": 4.0}, {"min": 1.0, "max": 3.0}])
@pytest.mark.parametrize("kind", ROWS)
def test_min_max(kind, params):
    texts, size = ROWS[kind], SIZE[kind]
    column = scaled("VectorMinMaxScaler", texts, **params)
    low, high = params.get("min", 0.0), params.get("max", 1.0)
    x = matrix(texts, size)
    least, most = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    some = most > least
    wanted = (x - least) / np.where(some, most - least, 1) * (high - low) + low
    constant = np.where((least == 0) & (low <= 0 <= high), 0.0, (low + high) / 2)
    wanted = np.where(some, wanted, constant)
    np.testing.assert_allclose(dense(column, size), wanted, rtol=1e-12, atol=1e-15)


def test_sparse_vectors_stay_sparse_where_zero_stays_zero():
    texts = ["$1000000$7:2.0", "$1000000$999999:8.0", "$1000000$7:4.0"]
    column = scaled("VectorMinMaxScaler", texts)
    assert [(v["indices"], v["values"]) for v in column] == [
        ([7], [0.5]), ([999999], [1.0]), ([7], [1.0]),
    ]  # fmt: skip
    assert [v["size"] for v in column] == [1000000] * 3


@pytest.mark.parametrize("kind", ROWS)
def test_max_abs(kind):
    texts, size = ROWS[kind], SIZE[kind]
    column = scaled("VectorMaxAbsScaler", texts)
    x = matrix(texts, size)
    largest = np.nanmax(np.abs(x), axis=0)
    wanted = x / np.where(largest == 0, 1, largest)
    np.testing.assert_allclose(dense(column, size), wanted, rtol=1e-12)
    assert (kind == "SPARSE") == (column[0]["indices"] is not None)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("strategy", ["MEAN", "min", "MAX", "VALUE"])
def test_imputers(kind, strategy):
    texts, size = ROWS[kind], SIZE[kind]
    params: dict[str, Any] = {} if strategy == "MEAN" else {"strategy": strategy}
    if strategy == "VALUE":
        params["fillValue"] = -9.5
    column = scaled("VectorImputer", texts, **params)
    x = matrix(texts, size)
    fills = {
        "MEAN": np.nanmean(x, axis=0),
        "MIN": np.nanmin(x, axis=0),
        "MAX": np.nanmax(x, axis=0),
        "VALUE": np.full(size, -9.5),
    }[strategy.upper()]
    wanted = np.where(np.isnan(x), fills, x)
    np.testing.assert_allclose(dense(column, size), wanted, rtol=1e-12)
    if kind == "SPARSE":
        assert column[4] == {"size": 6, "indices": [3], "values": [fills[3]]}


def test_an_index_without_any_value():
    column = scaled("VectorImputer", ["NaN 1", "NaN 3"])
    assert str([v["values"] for v in column]) == str([[NAN, 1.0], [NAN, 3.0]])
    column = scaled("VectorStandardScaler", ["NaN 1", "NaN 3"])
    assert np.isnan([v["values"][0] for v in column]).all()


def test_no_rows():
    for texts in ((), (None,)):
        assert scaled("VectorMaxAbsScaler", texts) == list(texts)
        assert scaled("VectorImputer", texts) == list(texts)


def refused(text: str, train: list[str], apply: list[str], name: str) -> None:
    frames = [pd.DataFrame({"v": texts}) for texts in (train, apply)]
    rows = [pyalink.BatchOperator.fromDataframe(f, schemaStr="v string") for f in frames]
    model = getattr(pyalink, f"{name}TrainBatchOp")(selectedCol="v").linkFrom(rows[0])
    op = getattr(pyalink, f"{name}PredictBatchOp")().linkFrom(model, rows[1])
    with pytest.raises(al.Error, match=text):
        op.collectToDataframe()


def test_what_is_refused():
    refused("vector '1.0' is not of size 2", ["1 2"], ["1"], "VectorStandardScaler")
    refused("vector '5:1.0' is not of size 2", ["1 2"], ["5:1"], "VectorMaxAbsScaler")
    refused("of size 3 stands where size 2|of size 2 stands where size 3",
            ["1 2", "1 2 3"], ["1"], "VectorMinMaxScaler")  # fmt: skip
    refused("has NaN at index 5, the vectors of the training had size 2",
            ["1 2"], ["5:NaN"], "VectorImputer")  # fmt: skip
    refused("column 'v': 'x' is not a number", ["x"], ["1"], "VectorImputer")
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame({"v": ["1 2"], "b": [True]}), schemaStr="v string, b boolean"
    )
    with pytest.raises(al.Error, match='column "b" is BOOLEAN'):
        pyalink.VectorMaxAbsScalerTrainBatchOp(selectedCol="b").linkFrom(rows)
    with pytest.raises(al.Error, match="needs the parameter 'fillValue'"):
        pyalink.VectorImputerTrainBatchOp(selectedCol="v", strategy="VALUE").linkFrom(rows)
    with pytest.raises(al.Error, match="is no model of a column of vectors"):
        pyalink.VectorImputerPredictBatchOp().linkFrom(rows, rows)


def test_what_models_say():
    frame = pd.DataFrame({"v": ["$5$3:2.0", "$5$3:-4.0", "$5$"]})
    rows = pyalink.BatchOperator.fromDataframe(frame, schemaStr="v string")

    def info(name: str, **params: Any) -> Any:
        train = getattr(pyalink, f"{name}TrainBatchOp")(selectedCol="v", **params)
        return train.linkFrom(rows).collectModelInfo()

    standard = info("VectorStandardScaler")
    np.testing.assert_allclose(standard.getMeans(), [0, 0, 0, -2 / 3, 0])
    np.testing.assert_allclose(standard.getStdDevs()[3], np.std([2, -4, 0], ddof=1))
    assert standard.isWithMeans()
    assert info("VectorMinMaxScaler").getMaxs() == [0.0, 0.0, 0.0, 2.0, 0.0]
    assert info("VectorMaxAbsScaler").getMaxAbs() == [0.0, 0.0, 0.0, 4.0, 0.0]
    imputer = info("VectorImputer", strategy="min")
    assert [imputer.getStrategy(), imputer.getFillValues()[3]] == ["MIN", -4.0]
    for told in (standard, imputer, info("VectorImputer", strategy="VALUE", fillValue=1.5)):
        assert "ModelInfo" in str(told).splitlines()[0]


# --- however the rows are cut ---


@pytest.mark.parametrize("missing", [True, False])
def test_moments_of_vectors_however_they_are_cut(missing):
    random = np.random.default_rng(5)
    x = np.where(random.random((300, 8)) < 0.6, 0.0, random.normal(1e6, 2, (300, 8)))
    if missing:
        x[random.random(x.shape) < 0.1] = NAN
    x[:200, 7] = 0  # an index that is named late
    at = [np.flatnonzero(row) for row in x]
    rows = [(-1, i, row[i]) for i, row in zip(at, x, strict=True)]
    known = VectorMoments("v", nan_missing=missing)
    for cut in np.split(np.arange(300), [0, 1, 3, 150]):
        known.add(Vectors.of_rows([rows[i] for i in cut]))
    moments = known.moments
    assert known.rows == 300
    assert known.sparse
    np.testing.assert_array_equal(moments.count, (~np.isnan(x)).sum(axis=0))
    np.testing.assert_allclose(moments.mean, np.nanmean(x, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, np.nanstd(x, axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_array_equal(moments.low, np.nanmin(x, axis=0))
    np.testing.assert_array_equal(moments.high, np.nanmax(x, axis=0))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    "training",
    [
        _vector_scalers.train_standard({"selectedCol": "v", "withMean": True, "withStd": True}),
        _vector_scalers.train_min_max({"selectedCol": "v", "min": 0.0, "max": 1.0}),
        _vector_scalers.train_max_abs({"selectedCol": "v"}),
        _imputers.train_vectors({"selectedCol": "v", "strategy": "MEAN", "fillValue": None}),
    ],
)
def test_workers_that_share_the_rows_learn_the_same(kind, training):
    rows = pa.table({"v": pa.array(ROWS[kind], pa.string())})
    alone = groups.train(training, rows).column("model_info").to_pylist()
    for size, batch in ((2, 2), (3, 1), (7, 5)):
        model = groups.train(training, rows, size, batch_rows=batch)
        assert model.schema.names == ["model_id", "model_info", "v"]
        shared = model.column("model_info").to_pylist()
        assert shared[0] == alone[0]
        for text, wanted in zip(shared[1:], alone[1:], strict=True):
            np.testing.assert_allclose(
                read_numbers(text), read_numbers(wanted), rtol=1e-12, atol=1e-15
            )
