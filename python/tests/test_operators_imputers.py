"""Operators that fill missing values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from pyalink import alink as pyalink

BIG = 2**60 + 1  # no double is this number
FRAME = pd.DataFrame(
    {
        "d": [1.5, None, 8.0, -2.0, np.nan],
        "n": pd.Series([-7, None, 2, BIG, 4], dtype=object),
        "s": ["x", None, "", "ü", None],
        "o": [None] * 5,
        "m": [None, Decimal("1.25"), Decimal("2.50"), None, Decimal(-1)],
    }
)
SCHEMA = "d double, n bigint, s string, o float, m decimal"


def batch(frame: pd.DataFrame = FRAME, schema: str = SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def filled(columns: list[str], **params: Any) -> list[dict[str, Any]]:
    """Fill by batch operators; stream and pipeline must give the same."""
    predict = {k: v for k, v in params.items() if k == "outputCols"}
    train = {k: v for k, v in params.items() if k != "outputCols"}
    model = pyalink.ImputerTrainBatchOp(selectedCols=columns, **train).linkFrom(batch())
    result = pyalink.ImputerPredictBatchOp(**predict).linkFrom(model, batch())
    rows = result.toTable().collect()
    stream = pyalink.StreamOperator.fromTable(batch().toTable())
    streamed = pyalink.ImputerPredictStreamOp(model, **predict).linkFrom(stream)
    assert str(streamed.toTable().collect()) == str(rows)
    stage = pyalink.Imputer(selectedCols=columns, **params).fit(batch())
    assert str(stage.transform(batch()).toTable().collect()) == str(rows)
    return rows


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_means():
    rows = filled(["d", "o", "M"], outputCols=["d", "p", "q"])
    assert column(rows, "d") == [1.5, 2.5, 8.0, -2.0, 2.5]
    assert column(rows, "p") == [None] * 5  # there is nothing to take a mean of
    assert column(rows, "m")[0] is None
    np.testing.assert_allclose(
        np.array(column(rows, "q"), float), [2.75 / 3, 1.25, 2.5, 2.75 / 3, -1]
    )


@pytest.mark.parametrize(
    ("strategy", "d", "n"), [("MIN", -2.0, -7), ("max", 8.0, BIG), ("Mean", 2.5, None)]
)
def test_extremes_of_whole_numbers_are_exact(strategy, d, n):
    rows = filled(["n", "d"], strategy=strategy)
    assert column(rows, "d") == [1.5, d, 8.0, -2.0, d]
    wanted = (BIG - 1) // 4 if n is None else n
    assert column(rows, "n")[1] == pytest.approx(wanted, rel=1e-15) if n is None else n
    assert isinstance(column(rows, "n")[1], int)
    assert column(rows, "n")[3] == BIG


@pytest.mark.parametrize(("numbers", "mean"), [([1, 2, None], 1), ([-1, -2, None], -1)])
def test_a_mean_of_whole_numbers_loses_its_fraction(numbers, mean):
    rows = batch(pd.DataFrame({"x": numbers}), "x int")
    stage = pyalink.Imputer(selectedCols=["x"]).fit(rows)
    assert column(stage.transform(rows).toTable().collect(), "x") == [*numbers[:2], mean]


def test_a_value():
    rows = filled(["s"], strategy="VALUE", fillValue="it's ü")
    assert column(rows, "s") == ["x", "it's ü", "", "ü", "it's ü"]
    rows = filled(["d", "n", "o", "m"], strategy="value", fillValue="-3")
    assert [column(rows, name)[1] for name in "dno"] == [-3.0, -3, -3.0]
    assert column(rows, "m")[0] == -3
    days = batch(pd.DataFrame({"x": [None, "a"], "b": [None, True]}), "x string, b boolean")
    given: dict[str, Any] = {"strategy": "VALUE", "fillValue": "true"}
    stage = pyalink.Imputer(selectedCols=["b"], **given).fit(days)
    assert column(stage.transform(days).toTable().collect(), "b") == [True, True]


def test_new_rows_are_filled_with_what_was_learned():
    model = pyalink.ImputerTrainBatchOp(selectedCols=["n", "d"]).linkFrom(batch())
    new = batch(
        pd.DataFrame({"D": [None, 7.0], "x": [1, 2], "n": [3, 3]}), "D float, x int, n bigint"
    )
    result = pyalink.ImputerPredictBatchOp().linkFrom(model, new)
    assert result.getSchemaStr() == "D FLOAT, x INT, n BIGINT"
    assert column(result.toTable().collect(), "D") == [2.5, 7.0]
    none = batch(FRAME.iloc[:0])
    empty = pyalink.ImputerTrainBatchOp(selectedCols=["d"], strategy="MAX").linkFrom(none)
    rows = pyalink.ImputerPredictBatchOp().linkFrom(empty, batch()).toTable().collect()
    assert str(column(rows, "d")) == str(column(batch().toTable().collect(), "d"))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"selectedCols": ["s"]}, 'column "s" is STRING'),
        ({"selectedCols": ["d"], "strategy": "MEDIAN"}, '"strategy" cannot be'),
        ({"selectedCols": ["d"], "strategy": "VALUE"}, "needs the parameter 'fillValue'"),
        (
            {"selectedCols": ["n"], "strategy": "VALUE", "fillValue": "x"},
            "column \"n\": 'x' is no value of type int64",
        ),
        ({"selectedCols": ["q"]}, 'there is no column "q"'),
    ],
)
def test_what_is_refused(params, text):
    with pytest.raises(al.Error, match=text):
        pyalink.ImputerTrainBatchOp(**params).linkFrom(batch())


def test_rows_that_lack_a_column():
    model = pyalink.ImputerTrainBatchOp(selectedCols=["d"]).linkFrom(batch())
    other = batch(pd.DataFrame({"x": [1]}), "x int")
    with pytest.raises(al.Error, match='there is no column "d"'):
        pyalink.ImputerPredictBatchOp().linkFrom(model, other)
