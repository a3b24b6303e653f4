"""ctx.sql in a real engine: names, parameters, what is refused."""

from __future__ import annotations

import datetime as dt
import decimal

import pandas as pd
import pyarrow as pa
import pytest

import alink as al

variable_of_the_module = pa.table({"m": [7]})


@pytest.fixture(scope="module")
def rows(shared_ctx):
    return shared_ctx.from_arrow(pa.table({"a": [1, 2, 3, None], "s": ["x", "y", "z", None]}))


def refused(code, function):
    with pytest.raises(al.PlanError) as caught:
        function()
    assert caught.value.code == code
    assert len(str(caught.value).splitlines()) <= 15
    return caught.value.diagnostic


@pytest.mark.anywhere
def test_names_are_found_in_order(shared_ctx, rows):
    t = pa.table({"a": [10]})
    frame = pd.DataFrame({"a": [20]})
    reader = pa.RecordBatchReader.from_batches(t.schema, t.to_batches())
    assert shared_ctx.sql("FROM t").collect() == [{"a": 10}]
    assert shared_ctx.sql('SELECT * FROM "FRAME"').collect() == [{"a": 20}]
    assert reader.schema == t.schema
    assert shared_ctx.sql("FROM reader").collect() == [{"a": 10}]
    assert shared_ctx.sql("FROM rows SELECT count(*) AS n").collect() == [{"n": 4}]
    assert shared_ctx.sql("FROM variable_of_the_module").collect() == [{"m": 7}]
    shared_ctx.register("T", pa.table({"a": [30]}))
    assert shared_ctx.sql("FROM t").collect() == [{"a": 30}]
    shared_ctx.register("t", rows)
    assert shared_ctx.sql("SELECT sum(a) AS a FROM t").collect() == [{"a": 6}]
    assert shared_ctx.sql("FROM t", tables={"T": frame}).collect() == [{"a": 20}]
    assert shared_ctx.sql('FROM "two words"', {"Two Words": frame}).collect() == [{"a": 20}]
    del shared_ctx._registered["t"]


def test_unknown_and_ambiguous_names(shared_ctx, rows):
    frame, Frame, number = pa.table({"a": [1]}), pa.table({"a": [2]}), 3
    problem = refused("ALK1010", lambda: (frame, Frame, shared_ctx.sql("FROM frame")))
    assert "could be the variable" in problem.message
    problem = refused("ALK1010", lambda: (number, shared_ctx.sql("SELECT * FROM number")))
    assert "the variable number is of type int" in problem.facts
    problem = refused("ALK1010", lambda: shared_ctx.sql("FROM tt", tables={"t": rows}))
    assert problem.message == 'there is no table "tt"'
    assert problem.facts[0].startswith("looked for in tables=: t; registered tables: none;")
    assert problem.hint == "did you mean t?"
    assert problem.source is not None
    assert problem.source.text.strip().startswith("problem = refused")
    hint = refused("ALK1010", lambda: shared_ctx.sql("FROM 'data/x.parquet'")).hint
    assert "ctx.read_parquet" in hint
    refused("ALK1006", lambda: shared_ctx.sql("FROM t", tables={"t": rows, "T": rows}))
    refused("ALK1005", lambda: shared_ctx.sql("FROM t", tables={"t": 3}))
    with al.connect() as elsewhere:
        stranger = elsewhere.from_arrow(pa.table({"a": [1]}))
        refused("ALK1004", lambda: shared_ctx.sql("FROM t", tables={"t": stranger}))
        refused("ALK1006", lambda: shared_ctx.register("t", stranger))
    assert "not known to SQL" in refused("ALK1006", lambda: shared_ctx.register(len)).hint


UTC = dt.timezone.utc
PARAMETERS = [
    (1, pa.int64(), 1),
    (2**63, pa.uint64(), 2**63),
    (1.5, pa.float64(), 1.5),
    (True, pa.bool_(), True),
    ("it's; DROP TABLE t --\0", pa.string(), "it's; DROP TABLE t --\0"),
    (b"\0\xff", pa.binary(), b"\0\xff"),
    (decimal.Decimal("-1.50"), pa.decimal128(3, 2), decimal.Decimal("-1.50")),
    (dt.date(2024, 2, 29), pa.date32(), dt.date(2024, 2, 29)),
    (dt.datetime(2024, 1, 1, 2, 3, 4, 5), pa.timestamp("us"), dt.datetime(2024, 1, 1, 2, 3, 4, 5)),
    (
        dt.datetime(2024, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        pa.timestamp("us", "UTC"),
        dt.datetime(2024, 1, 1, tzinfo=UTC),
    ),
    ([1, None, 3], pa.list_(pa.int64()), [1, None, 3]),
    ([1, 2.5], pa.list_(pa.float64()), [1.0, 2.5]),
    ([2**63, -1], pa.list_(pa.decimal128(20, 0)), [decimal.Decimal(2**63), decimal.Decimal(-1)]),
    ((["a"], []), pa.list_(pa.list_(pa.string())), [["a"], []]),
    ([b"\0", None], pa.list_(pa.binary()), [b"\0", None]),
]


@pytest.mark.parametrize(("value", "kind", "expected"), PARAMETERS, ids=repr)
def test_parameters(shared_ctx, value, kind, expected):
    out = shared_ctx.sql("SELECT $p AS v, '$p' AS t", params={"P": value}).to_arrow()
    if not (isinstance(value, tuple)):  # of nested lists, the inner ones need one type
        assert out.schema.field("v").type.equals(kind)
    assert out.to_pylist() == [{"v": expected, "t": "$p"}]


def test_parameters_of_several_queries(shared_ctx, rows):
    query = "SELECT * FROM rows WHERE a > $low"
    both = shared_ctx.sql(query, params={"low": 2}).union(shared_ctx.sql(query, params={"low": 1}))
    assert both.to_arrow().column("a").to_pylist() == [3, 2, 3]
    assert shared_ctx.sql(query, params={"low": None}).count() == 0
    assert shared_ctx.sql("FROM rows WHERE a IN $l", params={"l": []}).count() == 0
    assert rows.count() == 4
    missing = refused("ALK1011", lambda: shared_ctx.sql(query, {"rows": rows}).count())
    assert missing.cause == "its parameter $low has no value"
    unused = refused("ALK1006", lambda: shared_ctx.sql(query, params={"low": 1, "lw": 1}))
    assert unused.hint == "did you mean $low?"
    refused("ALK1005", lambda: shared_ctx.sql(query, params={"low": [1, "x"]}))
    refused("ALK1005", lambda: shared_ctx.sql(query, params={"low": object()}))


@pytest.mark.anywhere
def test_it_composes(shared_ctx, rows):
    @al.udf("bigint")
    def twice(x):
        return None if x is None else 2 * x

    doubled = rows.with_columns(b=twice("a"))
    assert doubled.columns == ["a", "s", "b"]
    query = shared_ctx.sql("SELECT b, s FROM doubled WHERE b > 2 ORDER BY b DESC")
    assert query.columns == ["b", "s"]
    out = query.with_columns(c=twice("b")).filter("c < 12").collect()
    assert out == [{"b": 4, "s": "y", "c": 8}]
    again = shared_ctx.sql("SELECT max(c) AS c FROM q", tables={"q": query.with_columns(c="b + 1")})
    assert again.collect() == [{"c": 7}]
    assert again.explain().startswith("sql SELECT max(c) AS c FROM q")


def test_errors_point_into_the_query(shared_ctx, rows):
    problem = refused("ALK1011", lambda: shared_ctx.sql("SELECT a\nFRM rows\nWHERE a > 1"))
    assert problem.cause == 'syntax error at or near "rows"\nline 2: FRM rows\n            ^'
    assert problem.source is not None
    assert "lambda" in problem.source.text
    problem = refused(
        "ALK1001", lambda: shared_ctx.sql("SELECT\n  aa FROM q", tables={"q": rows}).columns
    )
    assert problem.hint == "did you mean a?"
    assert problem.cause == "line 2:   aa FROM q\n          ^"
    problem = refused("ALK1010", lambda: shared_ctx.sql("SELECT q.a FROM r", {"r": rows}).columns)
    assert problem.message == 'the query has no table "q"'
    problem = refused(
        "ALK1002", lambda: shared_ctx.sql("SELECT summ(a) FROM r", {"r": rows}).columns
    )
    assert "sum" in problem.hint
    for statement in (
        "DROP TABLE rows",
        "COPY rows TO 'x.csv'",
        "SET threads = 1",
        "SELECT 1;;SELECT 2",
    ):
        refused("ALK1011", lambda s=statement: shared_ctx.sql(s))
    refused("ALK1011", lambda: shared_ctx.sql("FROM read_csv('/etc/passwd')"))
    refused("ALK1006", lambda: shared_ctx.sql(""))
    refused("ALK1006", lambda: shared_ctx.sql("SELECT 1", params=[1]))


def test_a_very_long_query(shared_ctx):
    terms = " + ".join(["x"] * 500)
    listed = ", ".join(map(str, range(20_000)))
    query = f"SELECT {terms} AS s FROM (SELECT 1 AS x) WHERE x IN ({listed})"
    assert shared_ctx.sql(query).collect() == [{"s": 500}]


def test_the_default_context(pyrunner):
    assert al.sql("SELECT $x + 1 AS y", params={"x": 1}).collect() == [{"y": 2}]
