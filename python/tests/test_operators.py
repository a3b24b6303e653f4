"""The frame of Alink's operators: parameters, linking, rows, names."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

import alink as al
from alink.operators._catalogue import catalogue
from pyalink import alink as pyalink


def rows(schema: str = "a int, b string") -> pyalink.BatchOperator:
    frame = pd.DataFrame([[1, "x"], [2, None], [None, "ü"]])
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def test_all_names_exist_and_say_what_is_not_built() -> None:
    documented = [e for e in catalogue().values() if e.category != "undocumented"]
    assert len(documented) == 979
    for name in catalogue():
        assert getattr(pyalink, name).__name__ == name
    unbuilt = [n for n in catalogue() if issubclass(getattr(pyalink, n), pyalink_unbuilt())]
    for name in unbuilt[:20]:
        with pytest.raises(al.PlanError, match=f"{name} is not built yet"):
            getattr(pyalink, name)()


def test_what_stands_for_an_operator_that_is_not_built_is_told() -> None:
    from alink.operators._unbuilt import _INSTEAD

    for kin, way in _INSTEAD.items():
        named = [name for name in catalogue() if name.startswith(kin)]
        assert named
        for name in named:
            with pytest.raises(al.PlanError, match=f"{name} is not built yet") as error:
                getattr(pyalink, name)()
            assert error.value.diagnostic.hint == way


def pyalink_unbuilt() -> type:
    from alink.operators._unbuilt import Unbuilt

    return Unbuilt


def test_an_unknown_operator_gets_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="did you mean SelectBatchOp"):
        _ = pyalink.SelctBatchOp


def test_parameters_by_setters_keywords_and_dicts() -> None:
    for op in (
        pyalink.VectorToKvBatchOp().setVectorCol("v").setKvCol("k").setReservedCols(["a"]),
        pyalink.VectorToKvBatchOp(vectorCol="v", kvCol="k", reservedCols=["a"]),
        pyalink.VectorToKvBatchOp({"vectorCol": "v"}, kvCol="k", reservedCols="a"),
    ):
        assert op.getParams() == {"vectorCol": "v", "kvCol": "k", "reservedCols": ["a"]}
        assert (op.getVectorCol(), op.getKvColDelimiter()) == ("v", ",")
    assert "setVectorCol" in dir(pyalink.VectorToKvBatchOp())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pyalink.OrderByBatchOp({"claus": "a"}), 'has no parameter "claus".*clause'),
        (lambda: pyalink.OrderByBatchOp({"limit": "3"}), '"limit" cannot be .3.*a whole number'),
        (lambda: pyalink.OrderByBatchOp(limit=True), "a whole number"),
        (lambda: pyalink.OrderByBatchOp(clause=None), "a string"),
        (
            lambda: pyalink.OrderByBatchOp([7]),  # type: ignore[arg-type]
            "parameters are given by keyword",
        ),
        (lambda: pyalink.SelectBatchOp().linkFrom(rows()), 'needs the parameter "clause"'),
        (lambda: pyalink.SelectBatchOp(clause="a").linkFrom(rows(), rows()), "takes 1 inputs"),
        (lambda: pyalink.SelectBatchOp(clause="a").linkFrom("rows"), "which is no operator"),
        (lambda: pyalink.SelectBatchOp(clause="a").collectToDataframe(), "is not linked"),
        (lambda: rows().link(pyalink.SelectStreamOp(clause="a")), "a batch operator"),
        (lambda: rows().select("nope").getColNames(), "nope"),
        (lambda: rows("a int, b wrong"), "there is no type 'wrong'"),
        (lambda: rows("a int"), "1 columns, the DataFrame 2"),
        (lambda: rows("a int, b double"), 'column "b" cannot be read as DOUBLE'),
        (lambda: rows().getSideOutput(0), "0 side outputs"),
    ],
)
def test_what_is_wrong_is_told_when_it_is_linked(make: object, text: str) -> None:
    with pytest.raises(al.Error, match=f"(?s){text}"):
        make()  # type: ignore[operator]


def test_a_setter_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="did you mean vectorCol"):
        pyalink.VectorToKvBatchOp().setVectrCol("v")


def test_rows_come_with_the_types_of_pyalink() -> None:
    frame = rows().collectToDataframe()
    assert [str(t) for t in frame.dtypes] == ["Int32", "string"]
    assert frame["b"].isna().tolist() == [False, True, False]


def test_sql_over_named_operators() -> None:
    rows().registerTableName("people")
    rows().registerTableName("people")  # again: it is replaced
    found = pyalink.BatchOperator.sqlQuery("SELECT `a`, '`' AS q FROM people WHERE a > 1")
    assert found.collectToDataframe().values.tolist() == [[2, "`"]]


def test_execute_is_one_job(capsys: pytest.CaptureFixture[str]) -> None:
    op = rows()
    op.lazyPrint(1, "first")
    op.select("a").lazyPrint(-1, "second")
    assert capsys.readouterr().out == ""
    pyalink.BatchOperator.execute()
    out = capsys.readouterr().out
    assert out.index("first") < out.index("second")
    assert "<NA>" in out
    pyalink.BatchOperator.execute()  # nothing waits any more
    assert capsys.readouterr().out == ""


def test_links_lead_on() -> None:
    source = rows()
    last = pyalink.SelectBatchOp(clause="b")
    assert source.link(pyalink.WhereBatchOp(clause="a > 0")).link(last) is last
    assert source.linkTo(pyalink.DistinctBatchOp()).getColNames() == ["a", "b"]
    assert last.getSchemaStr() == "b VARCHAR"
    assert len(last.collectToDataframe()) == 2


def test_the_client_imports_no_algorithm_library() -> None:
    code = (
        "import sys\nfrom pyalink.alink import *\n"
        "bad = {'sklearn', 'lightgbm', 'xgboost', 'scipy', 'statsmodels', 'pandas', 'numba'}\n"
        "print(sorted(bad & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["modelFilePath", "modelStreamFilePath"])
def test_a_file_of_a_model_is_refused_where_it_would_be_ignored(name: str) -> None:
    with pytest.raises(al.PlanError, match=f'reads no model from "{name}"'):
        pyalink.StandardScalerModel({name: "m.ak"})
    assert pyalink.StandardScalerModel({name: None}).getParams() == {name: None}
