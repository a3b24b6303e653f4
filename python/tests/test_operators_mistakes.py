"""What a beginner gets wrong in a notebook, and the sentence that says how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
    (lambda: _ANY.SelectBatchOp().linkFrom(_ANY.WhereBatchOp), "linked from the class WhereBatchO"),
    (lambda: _ANY.SelectBatchOp(clause="x").linkFrom(), "takes 1 input, none are linked"),
    (lambda: _ANY.WhereBatchOp().linkFrom(_rows(), _rows()), "takes 1 input, 2 are linked"),
    (lambda: _ANY.UnionBatchOp().linkFrom(_rows()), "takes 2 or more inputs, 1 is linked"),
    (lambda: _ANY.KMeansPredictBatchOp().linkFrom(_rows()), "2 inputs, 1 is linked.*model comes"),
    (lambda: _rows().linkFrom(_rows()), "BatchOperator is a source, which is linked from nothing"),
    (lambda: _rows().link(3), "BatchOperator is linked to 3, which is no operator"),
    (lambda: _rows().link(_ANY.SelectBatchOp), "is linked to the class SelectBatchOp, which is no"),
    (lambda: _ANY.Pipeline(1), "1 is no stage of a pipeline"),
    (lambda: _ANY.Pipeline([_scaler(), None]), "None is no stage of a pipeline"),
    (lambda: _ANY.Pipeline(_ANY.Binarizer), "the class Binarizer is no stage.*with parentheses"),
    (lambda: _ANY.Pipeline(_ANY.SelectBatchOp()), "SelectBatchOp is no stage of a pipeline"),
    (lambda: _ANY.Pipeline(stages=[_scaler()]), 'no option "stages".*Pipeline\\(a, b\\)'),
    (lambda: _ANY.Pipeline().add(), "takes one stage, not 0"),
    (lambda: _ANY.Pipeline().add(_scaler(), _scaler()), "cannot stand at StandardScaler of 0"),
    (lambda: _ANY.Pipeline().add(1, _scaler()), "cannot stand at 1 of 0"),
    (lambda: _ANY.Pipeline(_scaler()).get(1), "there is no stage 1, the pipeline has 1"),
    (lambda: _ANY.Pipeline().remove(0), "there is no stage 0, the pipeline has 0"),
    (lambda: _ANY.PipelineModel(_FRAME), "a DataFrame is no trained stage"),
    (lambda: _ANY.PipelineModel(_scaler()), "StandardScaler is no trained stage"),
    (lambda: _rows().select(3), "select takes columns, not 3"),
    (lambda: _rows().select("xx"), 'ALK1001: there is no column "xx".*did you mean x'),
    (lambda: _rows().select(["y", "xx"]), 'ALK1001: there is no column "xx".*did you mean x'),
    (lambda: _rows().where("`y y` > 1"), 'ALK1001: there is no column "y y"'),
    (lambda: _rows().filter("x > 0").filter("yy = 1"), 'ALK1001: there is no column "yy"'),
    (lambda: _rows().groupBy("y", "y, sum(xx) as s"), 'ALK1001: there is no column "xx"'),
    (lambda: _rows().orderBy("yy", 3), 'ALK1001: there is no column "yy"'),
    (lambda: _stream().select("xx"), 'ALK1001: there is no column "xx"'),
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


def _asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the list of the tables whose schema the engine is asked for."""
    asked: list[Any] = []
    ask = al.Table._describe

    def describe(table: al.Table, node: Any) -> Any:
        asked.append(node)
        return ask(table, node)

    monkeypatch.setattr(al.Table, "_describe", describe)
    return asked


_CLAUSES = [
    "*",
    "X, `y` as `a b`, x + 1 as z",
    "case when y > 0 then 'no column' else null end as k, cast(x as varchar) as t",
    "sum(x) over (partition by y order by x rows between 1 preceding and current row) as s",
    "x between 1 and 2 and y is not null or not x in (1, 2) as b",
]


def test_columns_that_are_there_cost_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _asked(monkeypatch)
    rows = _rows()
    for clause in _CLAUSES:
        rows.where("x < 3 and y = 0").orderBy("x", order="desc").select(clause)
    assert asked == []


def test_a_word_that_is_no_column_may_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows()
    asked = _asked(monkeypatch)
    right = rows.select("list_sum(list_transform([x], v -> v + 1)) as z")
    assert len(asked) == 1
    assert right.collectToDataframe()["z"].tolist() == [2.0, 3.0]


def test_what_is_known_of_columns_is_what_the_engine_says(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1,ü,2024-01-02 03:04:05,true,1.5\n")
    schema = "a long, s string, t timestamp, b boolean, f float"
    source = _ANY.CsvSourceBatchOp(filePath=str(path), schemaStr=schema)
    for made in (source, source.filter("a > 0"), source.orderBy("s", 1)):
        table = made.toTable()
        assert table._node.schema == table._describe(table._node)
    with pytest.raises(al.PlanError, match='ALK1001: there is no column "tt"'):
        source.where("tt is not null").select("a")
    source.registerTableName("known")
    with pytest.raises(al.PlanError, match='ALK1001: there is no column "aa"'):
        _ANY.BatchOperator.sqlQuery("SELECT k.aa FROM known AS k")


def test_arguments_have_the_names_of_pyalink() -> None:
    rows = _rows().firstN(n=2).sampleWithSize(numSamples=2).orderBy(field="x", limit=1)
    assert rows.link(op=_ANY.SelectBatchOp(clause="y")).collectToDataframe()["y"].tolist() == [0]
    model = _scaler().fit(op=_rows())
    assert model.transform(op=_rows()).getColNames() == ["x", "y"]


def test_a_cell_may_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        rows = _rows()
        rows.registerTableName("again")
        counted: Any = pyalink.BatchOperator.sqlQuery("SELECT count(*) AS n FROM again")
        assert counted.print() is None, "a cell would show it"
    shown = capsys.readouterr().out.split()
    assert shown == ["n", "0", "2"] * 2
