"""Local predictors: the same as pipelines, row by row, and no engine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink as al
from pyalink import alink as pyalink

SCHEMA = "a double, b int, v vector, s string, y int"


def _frame(count: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(count, 3)).round(3)
    vectors = [f"{x} {y}" if i % 3 else f"$2$1:{x}" for i, (x, y, _) in enumerate(numbers)]
    return pd.DataFrame(
        {
            "a": numbers[:, 0],
            "b": rng.integers(0, 9, count),
            "v": vectors,
            "s": [f"{x},{y}" for x, y, _ in numbers],
            "y": (numbers[:, 0] + numbers[:, 2] > 0).astype(int),
        }
    )


FRAME = _frame()


def source(frame: pd.DataFrame = FRAME) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=SCHEMA)


def _linear(name: str, **params: Any) -> Any:
    return getattr(pyalink, name)(labelCol="y", predictionCol="p", **params)


CHAINS: dict[str, Any] = {
    "logistic": lambda: _linear(
        "LogisticRegression", featureCols=["a", "b"], predictionDetailCol="d"
    ),
    "vector": lambda: _linear("LogisticRegression", vectorCol="v", reservedCols=["y"]),
    "one feature": lambda: _linear("LinearRegression", featureCols=["a"]),
    "scaled": lambda: pyalink.Pipeline(
        pyalink.StandardScaler(selectedCols=["a", "b"]),
        pyalink.MinMaxScaler(selectedCols=["a"], outputCols=["c"]),
        pyalink.VectorAssembler(selectedCols=["c", "a", "b"], outputCol="w", reservedCols=["y"]),
        _linear("LinearSvm", vectorCol="w"),
    ),
    "assembled": lambda: pyalink.Pipeline(
        pyalink.VectorAssembler(
            selectedCols=["a", "v", "b"], outputCol="w", handleInvalidMethod="SKIP"
        ),
        pyalink.VectorNormalizer(selectedCol="w"),
    ),
    "others": lambda: pyalink.Pipeline(
        pyalink.Binarizer(selectedCol="a", outputCol="c", threshold=0.1),
        pyalink.CsvToColumns(csvCol="s", schemaStr="m double, n double"),
        pyalink.MaxAbsScaler(selectedCols=["m", "n"]),
        pyalink.ColumnsToVector(selectedCols=["m", "n"], vectorCol="w", reservedCols=["c", "y"]),
    ),
}


@pytest.mark.parametrize("name", list(CHAINS))
def test_a_predictor_gives_what_the_pipeline_gives(name):
    model = CHAINS[name]()
    model = model.fit(source()) if hasattr(model, "fit") else model
    wanted = model.transform(source()).collectToDataframe()
    predictor = model.collectLocalPredictor(SCHEMA)
    assert predictor.getOutputColNames() == wanted.columns.tolist()
    pd.testing.assert_frame_equal(predictor.mapBatch(FRAME), wanted, rtol=1e-12)
    rows = [predictor.map(list(row)) for row in FRAME.itertuples(index=False)]
    assert all(isinstance(row, np.ndarray) and row.dtype == object for row in rows)
    for row, other in zip(rows, wanted.itertuples(index=False), strict=True):
        _same(row, other)


def _same(row: Any, other: Any) -> None:
    for value, wanted in zip(row, other, strict=True):
        if isinstance(wanted, str) and isinstance(value, pyalink.DenseVector):
            parts = [float(part) for part in wanted.split()]
            np.testing.assert_allclose(value.getData(), parts, rtol=1e-12)
        elif isinstance(wanted, float):
            assert value == pytest.approx(wanted, rel=1e-12)
        elif str(wanted).startswith("{"):  # sums differ in the last digit
            found = {k: float(v) for k, v in json.loads(value).items()}
            other_ = {k: float(v) for k, v in json.loads(wanted).items()}
            assert found == pytest.approx(other_, rel=1e-12)
        else:
            assert str(value) == str(wanted)


def test_nulls_go_as_in_the_pipeline():
    frame = FRAME.copy()
    frame["a"] = frame["a"].astype(object)
    frame.loc[0, "a"] = None
    frame.loc[1, "v"] = None
    for name in ("logistic", "vector", "one feature", "assembled", "scaled"):
        if name == "scaled":
            model = pyalink.StandardScaler(selectedCols=["a", "b"]).fit(source())
        else:
            model = CHAINS[name]().fit(source())
        wanted = model.transform(source(frame)).collectToDataframe()
        predictor = model.collectLocalPredictor(SCHEMA)
        pd.testing.assert_frame_equal(predictor.mapBatch(frame), wanted)
        for i in (0, 1):
            row = predictor.map(frame.iloc[i].tolist())
            nulls = [value is None for value in row]
            assert nulls == [bool(pd.isna(value)) for value in wanted.iloc[i]]


def test_values_of_all_kinds_are_taken_and_given():
    schema = "x float, n long, t boolean, v vector, s string, when timestamp, k tensor"
    predictor = pyalink.Binarizer(selectedCol="x").collectLocalPredictor(schema)
    when = pd.Timestamp("2024-05-06 07:08:09").to_pydatetime()
    tensor = pyalink.Tensor.parse("INT#2#1 2 ")
    row = predictor.map(np.array([1, 2.0, 1, [1, 2], "ü", when, tensor], dtype=object))
    assert row[0] == 1.0
    assert (row[1], row[2], row[4], row[5]) == (2, True, "ü", when)
    assert type(row[1]) is int
    assert row[3] == pyalink.DenseVector([1.0, 2.0])
    assert row[6] == tensor
    assert predictor.map([1, 2, True, "$3$1:2.0", None, None, None])[3].getIndices() == [1]
    types = ["FLOAT", "BIGINT", "BOOLEAN", "VECTOR", "VARCHAR", "TIMESTAMP", "TENSOR"]
    assert predictor.getOutputColTypes() == types
    assert predictor.getOutputSchemaStr().startswith("x FLOAT, n BIGINT")


def test_batches_of_arrow_and_without_rows():
    model = _linear("LinearRegression", featureCols=["a", "b"]).fit(source())
    predictor = model.collectLocalPredictor("a double, b int")
    table = pa.table({"i": [1.0, 2.0], "j": [3, 4]})
    out = predictor.mapBatch(table)
    assert out.schema.names == ["a", "b", "p"]
    assert out["p"].to_pylist() == [predictor.map([1, 3])[2], predictor.map([2, 4])[2]]
    assert predictor.mapBatch(table.slice(0, 0)).num_rows == 0
    assert predictor.mapBatch(FRAME[["a", "b"]].iloc[:0]).shape == (0, 3)
    rows = predictor.mapBatch([[1, 3], (2, 4)])
    assert [row[2] for row in rows] == out["p"].to_pylist()
    assert predictor.predict([1.0, 3])[2] == predictor.predict(1.0, 3)[2] == rows[0][2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: p.map([1.0]), "the row has 1 values, the schema 2 columns"),
        (lambda p: p.map([1.0, 2, 3]), "the row has 3 values"),
        (lambda p: p.map(["x", 2]), r"'x' is no value of column .?a.?.*of type DOUBLE"),
        (lambda p: p.map([1.0, 2.5]), r"2.5 is no value of column .?b"),
        (lambda p: p.mapBatch(pa.table({"a": [1.0]})), "1 values, the schema 2"),
        (lambda _: pyalink.LocalPredictor("nowhere.ak", "a double"), "nowhere.ak does not exist"),
        (lambda _: pyalink.LocalPredictor(3, "a double"), "a path or a trained stage, not 3"),
        (
            lambda _: pyalink.Binarizer(selectedCol="a").collectLocalPredictor("a dubble"),
            "no type 'dubble'",
        ),
        (
            lambda _: pyalink.Binarizer(selectedCol="aa").collectLocalPredictor("a double"),
            "no column .?aa.*did you mean a",
        ),
        (
            lambda _: pyalink.StandardScalerModel().collectLocalPredictor("a double"),
            "StandardScalerModel has no model",
        ),
    ],
)
def test_what_is_wrong_is_told(make, text):
    model = _linear("LinearRegression", featureCols=["a", "b"]).fit(source())
    predictor = model.collectLocalPredictor("a double, b int")
    with pytest.raises(al.Error, match=f"(?s){text}"):
        make(predictor)


@pytest.fixture(scope="module")
def with_sql():
    stages = (
        pyalink.Select().setClause("y, a, 2 * a AS a2, v"),
        _linear("LinearRegression", featureCols=["a", "a2"], reservedCols=["a2", "v"]),
        pyalink.Select().setClause("v, p > a2 AS more, p"),
    )
    return pyalink.Pipeline(*stages).fit(source())


def test_a_column_that_sql_does_not_find_is_told_when_the_predictor_is_made(with_sql):
    with pytest.raises(al.Error, match=r"no column .?v"):
        with_sql.collectLocalPredictor("y long, a double")


def test_stages_of_sql_are_applied_in_an_engine(with_sql, tmp_path):
    with_sql.save(tmp_path / "m.ak")
    wanted = with_sql.transform(source()).collectToDataframe()
    predictor = pyalink.LocalPredictor(tmp_path / "m.ak", SCHEMA)
    assert predictor.getOutputSchemaStr() == "v VECTOR, more BOOLEAN, p DOUBLE"
    pd.testing.assert_frame_equal(predictor.mapBatch(FRAME), wanted, rtol=1e-12)
    assert predictor.mapBatch(FRAME.iloc[:0]).shape == (0, 3)
    for i in (0, 1):
        _same(predictor.map(FRAME.iloc[i].tolist()), wanted.iloc[i])
    assert predictor.map([None] * len(FRAME.columns)).tolist() == [None, None, None]
    with pytest.raises(al.Error, match="the row has 1 values"):
        predictor.map([1.0])
    pyalink.useLocalEnv(1)  # another engine than the predictor has used
    try:
        _same(predictor.map(FRAME.iloc[1].tolist()), wanted.iloc[1])
    finally:
        pyalink.resetEnv()


def test_a_file_is_enough_and_no_engine_starts(tmp_path):
    path = tmp_path / "m.ak"
    model = CHAINS["scaled"]().fit(source())
    model.save(path)
    wanted = model.transform(source()).collectToDataframe()["p"].tolist()[0]
    code = (
        "import sys\n"
        "import alink._engine as e\n"
        "def never(*a, **k): raise AssertionError('an engine was started')\n"
        "e.Engine.__init__ = never\n"
        "from pyalink.alink import *\n"
        f"p = LocalPredictor({str(path)!r}, {SCHEMA!r})\n"
        f"assert p.map({json.loads(FRAME.iloc[0].to_json(orient='values'))!r})[-1] == {wanted}\n"
        "algorithms = {'sklearn', 'scipy', 'lightgbm', 'xgboost', 'statsmodels', 'numba'}\n"
        "assert not algorithms & set(sys.modules), algorithms & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
