"""What users of other libraries type first."""

from __future__ import annotations

import functools
import math
import traceback
from typing import Any

import pyarrow as pa
import pytest

import alink as al
from alink import _names


@pytest.fixture(scope="module")
def rows(shared_ctx) -> Any:  # names that do not exist are looked up in these tests
    return shared_ctx.from_arrow(
        pa.table({"a": [3, 1, None, 2], "s": ["x", "y", "x", None], "b c": [1.5, 2.5, 3.5, 4.5]})
    )


def test_a_star_stands_for_all_columns(rows):
    assert rows.select("*").columns == ["a", "s", "b c"]
    assert rows.select("a AS first", "*", n="a + 1").columns == ["first", "a", "s", "b c", "n"]
    with pytest.raises(al.PlanError, match="two columns would have the name"):
        rows.select("*", "a")


def test_sql_may_name_its_column(rows):
    table = rows.select("a + 1 AS n", 'upper(s) as "the s"', "CAST(a AS double) AS d", '"b c"')
    assert table.columns == ["n", "the s", "d", "b c"]
    assert table.collect()[0] == {"n": 4, "the s": "X", "d": 3.0, "b c": 1.5}
    assert rows.select(t="CAST(a AS double)").columns == ["t"]
    assert rows.select(t="'x AS y'").collect()[0] == {"t": "x AS y"}
    assert rows.group_by("s AS k").agg("count(*) AS n").columns == ["k", "n"]
    assert rows.with_columns("a * 2\n  as twice").columns[-1] == "twice"


def test_several_predicates_all_hold(rows):
    assert rows.filter("a > 1", al.col("s") == "x").collect() == [{"a": 3, "s": "x", "b c": 1.5}]


def test_sort_keys_with_methods(rows):
    def order(*keys, **options):
        return rows.order_by(*keys, **options).to_arrow()["a"].to_pylist()

    assert order(al.col("a").desc()) == [3, 2, 1, None]
    assert order(al.col("a").asc(nulls_first=True)) == [None, 1, 2, 3]
    assert order(al.col("a").asc(), descending=True) == [1, 2, 3, None]
    assert order(al.col("s").desc(), al.col("a").desc()) == [1, 3, None, 2]


def test_groups_are_counted(rows):
    counted = rows.group_by("s").count().order_by("s").collect()
    assert counted == [{"s": "x", "count": 2}, {"s": "y", "count": 1}, {"s": None, "count": 1}]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("withColumn", "'Table' object has no attribute 'withColumn'; here it is with_columns"),
        ("groupby", "here it is group_by"),
        ("to_panda", "did you mean to_pandas?"),
        ("s", "a column is al.col('s'), in select or with_columns"),
        ("nothing_like_it", "'Table' object has no attribute 'nothing_like_it'"),
    ],
)
def test_names_of_other_libraries_are_translated(rows, name, says):
    assert rows.columns == ["a", "s", "b c"]
    with pytest.raises(AttributeError) as caught:
        getattr(rows, name)
    assert says in str(caught.value)
    assert not hasattr(rows, name)
    # What is hinted at is so once, since Python adds a hint of its own to what it prints.
    printed = "".join(traceback.format_exception_only(caught.value))
    assert printed == f"AttributeError: {caught.value}\n"


def test_what_names_are_translated_to_exists():
    owners = (al.Table, _names.TABLE), (al.GroupBy, _names.GROUPS), (al.Expr, _names.EXPR)
    for owner, foreign in owners:
        assert not [name for name in foreign if hasattr(owner, name)]
    methods = {text.split("(")[0].split(",")[0].split(" ")[0] for text in _names.TABLE.values()}
    for method in methods - {"the", "ctx.sql", "ctx.register"}:
        assert hasattr(al.Table, method), method


@pytest.mark.parametrize("name", sorted(_names.EXPR))
def test_methods_of_expressions_are_translated(rows, name):
    text = _names.EXPR[name]
    with pytest.raises(AttributeError) as caught:
        getattr(al.col("x"), name)
    assert f"'Expr' object has no attribute {name!r}; here it is {text}" in str(caught.value)
    if not text.startswith('SQL text: "'):
        assert text == "==" or text.startswith("a function") or hasattr(al.Expr, text)
        return
    sql = text.removeprefix('SQL text: "').removesuffix('"')
    x = {"dt": "date '2024-01-01'"}.get(name, '"b c"')
    if name in ("contains", "like", "startswith", "str", "substr"):
        x = "s"
    table = rows.select(x=x, y="a")
    assert table.select(r=sql).count() in (1, 4)


def test_a_function_that_was_not_made_with_udf(rows):
    with pytest.raises(al.PlanError, match=r"hint: a function is made with @al.udf"):
        rows.with_columns(n=lambda row: row)


def test_groups_and_rows(rows):
    with pytest.raises(AttributeError, match=r'here it is agg\(x="avg\(x\)"\)'):
        rows.group_by("s").mean()
    for work in (lambda: rows["a"], lambda: len(rows), lambda: list(rows), lambda: bool(rows)):
        with pytest.raises(TypeError, match=r"a table "):
            work()


@al.udf("double")
def line(x, y=2.0, z=0.0):
    return None if x is None else x * y + z


def test_arguments_by_name(rows):
    table = rows.select(a=line("a", y=10.0), b=line(x="a"), c=line(y=1.0, x="a", z=al.col("b c")))
    assert table.collect()[0] == {"a": 30.0, "b": 6.0, "c": 4.5}
    for work, says in [
        (lambda: line("a", w=1), 'line has no parameter "w"'),
        (lambda: line("a", x=1), 'line is given "x" twice'),
        (lambda: line("a", z=1), 'line is given "z" but not "y"'),
        (lambda: line(y=1), 'line is given "y" but not "x"'),
    ]:
        with pytest.raises(al.PlanError) as caught:
            work()
        assert says in str(caught.value)


def test_functions_that_give_no_value_are_refused_at_once():
    with pytest.raises(al.PlanError, match="waits is an async function"):

        @al.udf("double")
        async def waits(x):
            return x

    with pytest.raises(al.PlanError, match="yields is a generator"):

        @al.udf("double")
        def yields(x):
            yield x

    with pytest.raises(al.PlanError, match="Waits is an async function"):

        @al.udf("double")
        class Waits:
            async def __call__(self, x):
                return x


def test_none_where_a_function_did_not_expect_it(rows):
    root = al.udf("double")(math.sqrt)
    with pytest.raises(al.UdfError) as caught:
        rows.select(y=root("a")).collect()
    (parameter,) = root.parameters or ("argument 1",)
    hint = f'{parameter} is NULL in this row: expect None, or on_null="skip" gives NULL'
    assert caught.value.diagnostic.hint == hint
    assert al.udf("double", on_null="skip")(math.sqrt)
    skipping = al.udf("double", on_null="skip")(functools.partial(math.pow, 2.0))
    assert rows.select(y=skipping("a")).to_arrow()["y"].to_pylist() == [8.0, 2.0, None, 4.0]


def test_a_function_of_rows_among_aggregates(rows):
    with pytest.raises(al.PlanError) as caught:
        rows.agg(r=line("a")).collect()
    assert caught.value.diagnostic.message == "an argument of a Python function cannot be evaluated"
    assert rows.agg(r=line("sum(a)")).collect() == [{"r": 12.0}]
