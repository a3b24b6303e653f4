"""User functions of PyAlink's programs: all forms, operators, SQL."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink.operators._session import session
from alink.operators._sql_functions import _tokens
from pyalink import alink as pyalink
from pyalink.alink import AlinkDataTypes, DataTypes

SCHEMA = "x double, y double, s string"
FRAME = pd.DataFrame([[1.0, 2.0, "ä b"], [3.0, 4.5, None], [5.0, 0.5, "c"]])


def source(kind: Any = pyalink.BatchOperator) -> Any:
    return kind.fromDataframe(FRAME, schemaStr=SCHEMA)


class PlusTen(pyalink.ScalarFunction):
    def eval(self, a, b):
        return a + b + 10


class Parts(pyalink.TableFunction):
    def eval(self, *args):
        yield from enumerate(args)


class Sum:
    def eval(self, *args):
        return sum(args)


def _plus(a, b):
    return a + b + 10


DOUBLE = DataTypes.DOUBLE()
DECORATED = pyalink.udf(input_types=[DOUBLE, DOUBLE], result_type=DOUBLE)(_plus)
FORMS: dict[str, Any] = {
    "object": pyalink.udf(PlusTen(), input_types=[DOUBLE, DOUBLE], result_type=DOUBLE),
    "class": pyalink.udf(PlusTen, result_type="double"),
    "decorated": DECORATED,
    "function": pyalink.udf(_plus, [DOUBLE, DOUBLE], DOUBLE),
    "lambda": pyalink.udf(lambda a, b: a + b + 10, result_type=DOUBLE, deterministic=True),
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("kind", [pyalink.BatchOperator, pyalink.StreamOperator])
def test_all_forms_of_functions(form, kind):
    result = source(kind).udf(FORMS[form], ["x", "y"], "x")
    frame = result.collectToDataframe()
    assert frame.columns.tolist() == ["y", "s", "x"]  # an output goes behind what stays
    assert frame["x"].tolist() == [13.0, 17.5, 15.5]


def test_functions_without_types_get_them_of_the_operator():
    op = pyalink.UDFBatchOp().setFunc(lambda x: x * 100).setResultType("DOUBLE")
    op = op.setSelectedCols(["y"]).setOutputCol("z").setReservedCols(["x"]).linkFrom(source())
    assert op.getColNames() == ["x", "z"]
    assert op.collectToDataframe()["z"].tolist() == [200.0, 450.0, 50.0]
    op = pyalink.UDTFBatchOp().setFunc(Parts()).setResultTypes(["LONG", "DOUBLE"])
    op = op.setSelectedCols(["x", "y"]).setOutputCols(["i", "x"]).linkFrom(source())
    frame = op.collectToDataframe()
    assert frame.columns.tolist() == ["y", "s", "i", "x"]
    assert [str(kind) for kind in frame.dtypes[2:]] == ["Int64", "float64"]
    assert frame["x"].tolist() == [1.0, 2.0, 3.0, 4.5, 5.0, 0.5]


def test_rows_of_functions():
    words = pyalink.udtf(
        lambda text: [(w, len(w)) for w in (text or "").split()],
        [DataTypes.STRING()],
        [DataTypes.STRING(), DataTypes.INT()],
    )
    for kind in (pyalink.BatchOperator, pyalink.StreamOperator):
        frame = source(kind).udtf(words, ["s"], ["w", "n"], ["x"]).collectToDataframe()
        assert frame.to_numpy().tolist() == [[1.0, "ä", 1], [1.0, "b", 1], [5.0, "c", 1]]
    single = pyalink.udtf(lambda x: [x, -x], DOUBLE, DOUBLE)
    assert source().udtf(single, ["x"], ["z"], []).collectToDataframe()["z"].tolist() == [
        1.0, -1.0, 3.0, -3.0, 5.0, -5.0,
    ]  # fmt: skip


def test_nulls_come_to_functions_as_none():
    length = pyalink.udf(lambda s: None if s is None else len(s), result_type=DataTypes.INT())
    frame = source().udf(length, ["s"], "n").collectToDataframe()
    assert frame["n"].tolist() == [3, pd.NA, 1]


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (DataTypes.BOOLEAN(), True, True),
        (DataTypes.TINYINT(), 7, 7),
        (DataTypes.SMALLINT(), 7, 7),
        (DataTypes.BIGINT(), 2**40, 2**40),
        (DataTypes.FLOAT(), 1.5, 1.5),
        (DataTypes.DOUBLE(), np.float64(1.5), 1.5),
        (DataTypes.VARCHAR(10), "ü", "ü"),
        (DataTypes.DATE(), datetime.date(2024, 5, 6), datetime.date(2024, 5, 6)),
        (DataTypes.TIME(), datetime.time(7, 8, 9), datetime.time(7, 8, 9)),
        (
            DataTypes.TIMESTAMP(precision=3),
            datetime.datetime(2024, 5, 6, 7, 8, 9),
            pd.Timestamp("2024-05-06 07:08:09"),
        ),
    ],
)
def test_types_of_results(kind, value, shown):
    made = pyalink.udf(lambda _: value, result_type=kind)
    assert source().udf(made, ["x"], "z").collectToDataframe()["z"].tolist() == [shown] * 3


def test_vectors_and_tensors_are_arrays():
    rows = pyalink.BatchOperator.fromDataframe(
        pd.DataFrame([["1.0 2.0", "FLOAT#2,1#1.0 2.0 "], [None, None]]), "v vector, t tensor"
    )
    twice = pyalink.udf(lambda v: None if v is None else v * 2, result_type=AlinkDataTypes.VECTOR())
    assert rows.udf(twice, ["v"], "v").collectToDataframe()["v"].tolist() == ["2.0 4.0", None]
    shape = pyalink.udf(
        lambda t: None if t is None else str((t.shape, t.dtype)), result_type=DataTypes.STRING()
    )
    found = rows.udf(shape, ["t"], "s").collectToDataframe()["s"].tolist()
    assert found == ["((2, 1), dtype('float32'))", pd.NA]

    class Ones(pyalink.ScalarFunction):
        def eval(self, x, y):
            return np.ones([2, 3], dtype="<i4")

    tensor = pyalink.udf(Ones(), result_type=AlinkDataTypes.TENSOR())
    frame = rows.udf(tensor, ["t", "t"], "u").collectToDataframe()
    assert "1 1 1" in frame["u"][0].replace(",", "")
    pairs = pyalink.udtf(
        lambda v: [] if v is None else [(v[:1], 1), (v[1:], 2)],
        result_types=[AlinkDataTypes.VECTOR(), DataTypes.INT()],
    )
    frame = rows.udtf(pairs, ["v"], ["w", "i"], []).collectToDataframe()
    assert frame.to_numpy().tolist() == [["1.0", 1], ["2.0", 2]]


def test_a_function_is_called_here_too():
    assert FORMS["object"](1, 2) == 13
    assert "PlusTen -> DOUBLE" in repr(FORMS["object"])
    assert repr(DataTypes.DECIMAL(38, 18)) == "DECIMAL"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pyalink.udf(_plus), "the type of the result is not known"),
        (lambda: pyalink.udf(_plus, result_type="dubble"), "no type 'dubble'"),
        (lambda: pyalink.udf(_plus, result_type=3), "3 is no type"),
        (lambda: pyalink.udf(3, result_type=DOUBLE), "a method eval, not 3"),
        (lambda: pyalink.udf(_plus, [7], DOUBLE), "7 is no type"),
        (lambda: source().udf(_plus, ["x", "y"], "z"), "UDFBatchOp.*not known.*setResultType"),
        (lambda: source().udf(DECORATED, ["x", "yy"], "z"), "no column .?yy"),
        (lambda: source().udtf(DECORATED, ["x"], ["z"]), "takes a function made with udtf"),
        (lambda: source().udf(DECORATED, ["x"], "z"), "takes 2 arguments, but 1 are given"),
        (
            lambda: source().udtf(pyalink.udtf(Parts(), None, [DOUBLE]), ["x"], ["a", "b"]),
            "2 names for the 1 columns",
        ),
        (
            lambda: pyalink.BatchOperator.registerFunction("f", _plus),
            "takes what udf or udtf gives",
        ),
    ],
)
def test_what_is_wrong_is_told(make, text):
    with pytest.raises(al.Error, match=f"(?s){text}"):
        make()


def test_an_error_of_a_function_names_it():
    broken = pyalink.udf(lambda x: 1 / (x - 1), result_type=DOUBLE, name="broken")
    with pytest.raises(al.UdfError, match="broken raised ZeroDivisionError"):
        source().udf(broken, ["x"], "z").collectToDataframe()


# --- SQL ---


@pytest.fixture
def registered():
    source().registerTableName("A")
    other = pd.DataFrame([[1.0, "one"], [3.0, "three"]])
    pyalink.BatchOperator.fromDataframe(other, "x double, name string").registerTableName("B")
    register = pyalink.BatchOperator.registerFunction
    register("plus", FORMS["object"])
    register("Neg", pyalink.udf(lambda x: -x, result_type=DOUBLE))
    register("risky", pyalink.udf(lambda x: 1 / (x - 1), result_type=DOUBLE))
    register("parts", pyalink.udtf(Parts(), None, [DataTypes.INT(), DOUBLE]))
    register("few", pyalink.udtf(lambda x: [x] if x > 2 else [], None, DOUBLE))
    yield
    session().functions.clear()
    session().named.clear()


@pytest.mark.parametrize(
    ("query", "columns", "rows"),
    [
        ("select plus(x, y) as t, y from A where x > 2", ["t", "y"], [[17.5, 4.5], [15.5, 0.5]]),
        ("SELECT x, NEG(x) FROM A WHERE neg(x) < -2", ["x", "EXPR$1"], [[3, -3], [5, -5]]),
        ("select neg(plus(x, neg(y)) + 1) * 2 as t from A", ["t"], [[-20], [-19], [-31]]),
        ("select risky(x) as r from A where x > 1", ["r"], [[0.5], [0.25]]),
        ("select *, neg(`x`) as n from A where s is not null", ["x", "y", "s", "n"], [
            [1, 2, "ä b", -1], [5, 0.5, "c", -5]]),
        ("select max(neg(x)) as m, count(*) as n from A", ["m", "n"], [[-1, 3]]),
        ("select q.t from (select neg(x) as t from A) q where q.t < -1", ["t"], [[-3], [-5]]),
        ("select x from A where x in (select -neg(x) from B)", ["x"], [[1], [3]]),
        ("with q as (select neg(x) as t from A) select sum(t) as t from q", ["t"], [[-9]]),
        ("select neg(x) as t from A union all select x from B order by t", ["t"], [
            [-5], [-3], [-1], [1], [3]]),
        ("select a.x, b.name, plus(a.y, a.x) as t from A a join B b on a.x = b.x",
            ["x", "name", "t"], [[1, "one", 13], [3, "three", 17.5]]),
        ("select a.*, neg(b.x) as t from A a left join B b on a.x = b.x", ["x", "y", "s", "t"], [
            [1, 2, "ä b", -1], [3, 4.5, None, -3], [5, 0.5, "c", None]]),
        ("select 'neg(x)' as t, x -- neg(x)\n from A /* plus(1) */ where x = 1", ["t", "x"], [
            ["neg(x)", 1]]),
        ("select x, i, v from A, LATERAL TABLE(parts(x, y)) as T(i, v) where x > 2",
            ["x", "i", "v"], [[3, 0, 3], [3, 1, 4.5], [5, 0, 5], [5, 1, 0.5]]),
        ("select A.x, T.x as v from A, LATERAL TABLE(few(y)) as T(x)", ["x", "v"], [[3, 4.5]]),
        ("select x, v from A left join lateral table(few(x)) as T(v) on true", ["x", "v"], [
            [1, None], [3, 3], [5, 5]]),
        ("select x, neg(v) as n from A cross join lateral table(few(x)) T(v)", ["x", "n"], [
            [3, -3], [5, -5]]),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("registered")
def test_queries_that_call_functions(query, columns, rows):
    frame = pyalink.BatchOperator.sqlQuery(query).collectToDataframe()
    assert frame.columns.tolist() == columns
    found = [[None if pd.isna(v) else v for v in row] for row in frame.to_numpy().tolist()]
    key = repr if "order by" not in query else (lambda _: 0)
    assert sorted(found, key=key) == sorted(rows, key=key)


@pytest.mark.usefixtures("registered")
def test_functions_in_clauses_and_streams():
    frame = source().select("neg(x) as n, y").where("neg(n) > 2").collectToDataframe()
    assert frame.to_numpy().tolist() == [[-3.0, 4.5], [-5.0, 0.5]]
    source(pyalink.StreamOperator).registerTableName("S")
    pyalink.StreamOperator.registerFunction("plus", FORMS["lambda"])  # again: it is replaced
    stream = pyalink.StreamOperator.sqlQuery("select plus(x, 1) as t from S")
    assert stream.collectToDataframe()["t"].tolist() == [12.0, 14.0, 16.0]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("select neg(1) as x", "called without a table"),
        ("select plus(a.y, b.x) as t from A a, B b", "is of 2 tables.*in a query within"),
        ("select neg(1) as t from A a, B b", "is of no tables"),
        ("select parts(x, y) from A", "gives rows.*LATERAL TABLE"),
        ("select * from A, LATERAL TABLE(neg(x)) as T(v)", "made with udtf, not .?neg"),
        ("select * from A, LATERAL TABLE(parts(x, y)) as T(v)", "T names 1 columns.* gives 2"),
        ("select neg(x from A", "a bracket is not closed"),
        ("select neg(x) from Nowhere", "no table .?Nowhere"),
        ("select neg(zz) from A", "zz"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_queries_that_cannot_be(query, text):
    with pytest.raises(al.Error, match=f"(?s){text}"):
        pyalink.BatchOperator.sqlQuery(query)


def test_a_query_is_cut_into_words():
    assert _tokens("select a.`b c`,'it''s' -- x\nfrom \"t\"\"u\" where a<>1.5e3") == [
        "select", "a", ".", "`b c`", ",", "'it''s'", "from", '"t""u"', "where", "a", "<>", "1.5e3",
    ]  # fmt: skip
