"""What a beginner gets wrong in a notebook, and the sentence that says how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import alink as al
from alink import pyalink

_FRAME = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})


def _rows() -> Any:
    return pyalink.BatchOperator.fromDataframe(_FRAME, "x double, y int")


def _stream() -> Any:
    return pyalink.StreamOperator.fromDataframe(_FRAME, "x double, y int")


def _scaler() -> Any:
    return pyalink.StandardScaler().setSelectedCols(["x"])


_ANY: Any = pyalink

_MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: _ANY.KMeans().setK("three"), "\"k\" cannot be 'three'"),
    (lambda: _ANY.KMeans().setK(), '"k" is given no value'),
    (lambda: _ANY.KMeans().setVectorCl("x"), "did you mean vectorCol"),
    (lambda: _ANY.KMeans(vectorcol="x"), "did you mean vectorCol"),
    (lambda: _scaler().setSelectedCols(["xx"]).fit(_rows()), "ALK1001: .*did you mean x"),
    (lambda: _scaler().fit(_stream()), "takes a batch operator, not StreamOperator"),
    (lambda: _ANY.Pipeline(_scaler()).fit(_FRAME), "takes a batch operator, not DataFrame"),
    (lambda: _scaler().transform(_rows()), "is not trained"),
    (lambda: _ANY.Pipeline(_scaler()).transform(_rows()), "is not trained"),
    (lambda: _ANY.SelectBatchOp(clause="x").linkFrom(_stream()), "is linked from StreamOperator"),
    (lambda: _ANY.SelectBatchOp(clause="x").linkFrom(_FRAME), "is linked from a DataFrame"),
    (lambda: _rows().link(_ANY.SelectBatchOp), "is linked to SelectBatchOp, which is no operator"),
    (lambda: _rows().link(_scaler()), "is linked to StandardScaler, which is no operator"),
    (lambda: _rows().print("5"), "the number of rows cannot be '5'"),
    (lambda: _rows().registerTableName(3), "3 is no name"),
    (lambda: _rows().collectToDataFrame(), "did you mean collectToDataframe"),
    (lambda: _ANY.useLocalEnv("two"), "parallelism cannot be 'two'"),
    (lambda: _ANY.useLocalEnv(0), "parallelism cannot be 0"),
]


@pytest.mark.parametrize(("act", "sentence"), _MISTAKES)
def test_a_mistake_is_told_in_a_sentence(act: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((al.PlanError, AttributeError), match=f"(?s){sentence}"):
        act()


def test_a_cell_may_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        rows = _rows()
        rows.registerTableName("again")
        pyalink.BatchOperator.sqlQuery("SELECT count(*) AS n FROM again").print()
    shown = capsys.readouterr().out.split()
    assert shown == ["n", "0", "2"] * 2
