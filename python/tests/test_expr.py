from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

import alink as al
from alink._expr import expr_json, into_expr, parse_order

X, Y = al.col("x"), al.col("y")
COLUMN_X, COLUMN_Y = {"column": "x"}, {"column": "y"}
ONE = {"literal": {"type": "bigint", "value": 1}}


def to_json(expr):
    return expr_json(expr, lambda function: f"<{function.name}>")


@pytest.mark.parametrize(
    ("expr", "expected", "text"),
    [
        (X, COLUMN_X, "x"),
        (al.col("a b"), {"column": "a b"}, '"a b"'),
        (X + 1, {"op": "+", "args": [COLUMN_X, ONE]}, "x + 1"),
        (1 - X, {"op": "-", "args": [ONE, COLUMN_X]}, "1 - x"),
        (X * Y, {"op": "*", "args": [COLUMN_X, COLUMN_Y]}, "x * y"),
        (1 / X, {"op": "/", "args": [ONE, COLUMN_X]}, "1 / x"),
        (1 % X, {"op": "%", "args": [ONE, COLUMN_X]}, "1 % x"),
        (-X, {"op": "neg", "args": [COLUMN_X]}, "-x"),
        (X == 1, {"op": "=", "args": [COLUMN_X, ONE]}, "x = 1"),
        (X != 1, {"op": "<>", "args": [COLUMN_X, ONE]}, "x <> 1"),
        (X < Y, {"op": "<", "args": [COLUMN_X, COLUMN_Y]}, "x < y"),
        (X >= Y, {"op": ">=", "args": [COLUMN_X, COLUMN_Y]}, "x >= y"),
        (~(X > 1), {"op": "not", "args": [{"op": ">", "args": [COLUMN_X, ONE]}]}, "not (x > 1)"),
        (X.is_null(), {"op": "is_null", "args": [COLUMN_X]}, "x is null"),
        (X.is_in([1, Y]), {"op": "in", "args": [COLUMN_X, ONE, COLUMN_Y]}, "x in (1, y)"),
        (X.cast("int"), {"op": "cast", "args": [COLUMN_X], "type": "integer"}, "x::integer"),
        (
            X.is_not_null() & (X > 1) | Y,
            {
                "op": "or",
                "args": [
                    {
                        "op": "and",
                        "args": [
                            {"op": "is_not_null", "args": [COLUMN_X]},
                            {"op": ">", "args": [COLUMN_X, ONE]},
                        ],
                    },
                    COLUMN_Y,
                ],
            },
            "((x is not null) and (x > 1)) or y",
        ),
        (into_expr(" x "), COLUMN_X, "x"),
        (into_expr("x + 1"), {"sql": "x + 1"}, "x + 1"),
        (into_expr("x + 1") * X, {"op": "*", "args": [{"sql": "x + 1"}, COLUMN_X]}, "(x + 1) * x"),
        (into_expr("NULL"), {"sql": "NULL"}, "NULL"),
        (al.lit("o'clock"), {"literal": {"type": "string", "value": "o'clock"}}, "'o''clock'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_expressions(expr, expected, text):
    assert to_json(expr) == expected
    assert str(expr) == text


@pytest.mark.parametrize(
    ("value", "type_", "json_value"),
    [
        (None, "null", None),
        (True, "boolean", True),
        (5, "bigint", 5),
        (2**53, "bigint", 2**53),
        (2**53 + 1, "bigint", str(2**53 + 1)),
        (-(2**63), "bigint", str(-(2**63))),
        (2**63, "ubigint", str(2**63)),
        (2**64, "decimal(20,0)", str(2**64)),
        (1.5, "double", 1.5),
        (float("nan"), "double", "NaN"),
        (float("-inf"), "double", "-Infinity"),
        ("a", "string", "a"),
        (b"\x00\xff", "binary", "00ff"),
        (decimal.Decimal("-12.30"), "decimal(4,2)", "-12.30"),
        (decimal.Decimal("0.001"), "decimal(3,3)", "0.001"),
        (decimal.Decimal("1E3"), "decimal(4,0)", "1000"),
        (datetime.date(2013, 1, 2), "date", "2013-01-02"),
        (datetime.time(5, 6, 7), "time", "05:06:07"),
        (datetime.datetime(2013, 1, 2, 3, 4, 5, 6), "timestamp", "2013-01-02 03:04:05.000006"),
        (
            datetime.datetime(
                2013, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=-5))
            ),
            "timestamptz",
            "2013-01-02 08:00:00+00:00",
        ),
        (np.int32(7), "bigint", 7),
        (np.float32(0.5), "double", 0.5),
        (np.bool_(False), "boolean", False),
        (pd.Timestamp("2013-01-02"), "timestamp", "2013-01-02 00:00:00"),
        (pd.NaT, "null", None),
    ],
    ids=repr,
)
def test_literals(value, type_, json_value):
    assert to_json(al.lit(value)) == {"literal": {"type": type_, "value": json_value}}


@pytest.mark.parametrize("value", [object(), [1], {}, decimal.Decimal("NaN"), 10**40, 1j])
def test_values_that_are_no_literal(value):
    with pytest.raises(al.PlanError, match="ALK1005: a literal cannot be made of"):
        al.lit(value)


def test_expressions_have_no_truth_value():
    with pytest.raises(al.PlanError, match=r"use & \| ~"):
        bool(X > 1)
    with pytest.raises(al.PlanError, match="no truth value"):
        _ = 0 < X < 5


@pytest.mark.parametrize("value", ["", "  ", 5, None, [1]])
def test_values_that_are_no_expression(value):
    with pytest.raises(al.PlanError, match="ALK1003"):
        into_expr(value)


@pytest.mark.parametrize(
    ("text", "expr", "descending", "nulls_first"),
    [
        ("x", "x", None, None),
        ("x DESC", "x", True, None),
        ("x asc nulls first", "x", False, True),
        ("x NULLS LAST", "x", None, False),
        ("x + 1 desc Nulls Last ", "x + 1", True, False),
        ("description", "description", None, None),
        ('"a desc"', '"a desc"', None, None),
        ("lower(x)\n desc", "lower(x)", True, None),
    ],
)
def test_sort_keys(text, expr, descending, nulls_first):
    parsed = parse_order(text)
    assert str(parsed.expr) == expr
    assert (parsed.descending, parsed.nulls_first) == (descending, nulls_first)


def test_functions_of_columns():
    @al.udf("double", on_null="skip")
    def made_up(dep, arr, scale=1.0):
        """Time made up in the air."""
        return (dep - arr) * scale

    expr = made_up("dep_delay", al.col("arr delay"), 2)
    assert to_json(expr) == {
        "call": "<made_up>",
        "args": [
            {"column": "dep_delay"},
            {"column": "arr delay"},
            {"literal": {"type": "bigint", "value": 2}},
        ],
    }
    assert str(expr) == 'made_up(dep_delay, "arr delay", 2)'
    assert (
        str(made_up("dep_delay - 1", made_up("a", "b"))) == "made_up(dep_delay - 1, made_up(a, b))"
    )
    assert made_up.local(10.0, 3.0) == 7.0
    assert made_up.__doc__ == "Time made up in the air."
    assert made_up.parameters == ("dep", "arr", "scale")
    for arguments in [("a",), ("a", "b", "c", "d")]:
        with pytest.raises(al.PlanError, match=r"made_up takes 2 to 3 arguments, but \d are given"):
            made_up(*arguments)


def test_the_ways_to_make_a_function():
    @al.udf
    def bare(x) -> float:
        return x

    @al.udf()
    def called(x) -> "varchar":  # noqa: F821, UP037  # pyright: ignore[reportUndefinedVariable]
        return x

    @al.udf(al_type := "integer", batch="numpy")
    def typed(x) -> str:
        return x

    assert (bare.kind, bare.result) == ("row", "double")
    assert (called.kind, called.result) == ("row", "string")
    assert (typed.kind, typed.result) == ("numpy", al_type)


def test_classes():
    made = []

    @al.udf("double")
    class Score:
        def setup(self):
            self.factor = 2.0
            made.append(self)

        def __call__(self, x):
            return x * self.factor

    assert Score.parameters == ("x",)
    assert Score.local(2.0) == 4.0
    assert Score.local(3.0) == 6.0
    assert len(made) == 1
    with pytest.raises(al.PlanError, match="the class NoCall has no method __call__"):

        @al.udf("double")
        class NoCall:
            pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": "dask"}, "batch must be one of None, 'numpy', 'pandas', 'polars', 'arrow', not"),
        ({"batch": "nunpy"}, "did you mean numpy?"),
        ({"on_null": "skp"}, "did you mean skip?"),
        ({"retrys": 1}, 'udf has no option "retrys"\n'),
        ({"retrys": 1}, "did you mean retries?"),
        ({"memroy": "1GiB"}, "did you mean memory?"),
        ({"retries": -1}, "retries must be a whole number of at least 0, not -1"),
        ({"workers": 0}, "workers must be a whole number of at least 1, not 0"),
        ({"batch_rows": True}, "batch_rows must be a whole number"),
        ({"env": "3.11"}, "env must be an al.Environment, not '3.11'"),
        ({"models": {"m": b"bytes"}}, "models['m'] must be an al.Model"),
    ],
)
def test_option_values_that_are_refused(options, words):
    with pytest.raises(al.PlanError, match="ALK1006") as caught:
        al.udf("double", **options)
    assert words in str(caught.value)


def test_functions_without_a_result_type():
    with pytest.raises(al.PlanError, match="the type of untyped's result is not known"):

        @al.udf
        def untyped(x):
            return x


def test_models_need_a_parameter():
    model = al.Model(b"pickle")
    with pytest.raises(
        al.PlanError, match='score has no parameter "modle" for the model'
    ) as caught:

        @al.udf("double", models={"modle": model})
        def score(x, *, model):
            return x

    assert "did you mean model?" in str(caught.value)

    @al.udf("double", models={"model": model})
    def right(x, model):
        return x

    assert right.parameters == ("x",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"python": "python3"}, "python must be a version"),
        ({"python": 3.11}, "python must be a version"),
        ({"requirements": "numpy"}, "requirements must be a list of strings"),
        ({"requirments": []}, "did you mean requirements?"),
    ],
)
def test_environments_that_are_refused(options, words):
    with pytest.raises(al.PlanError, match="ALK1006") as caught:
        al.Environment(**options)
    assert words in str(caught.value)


def test_environments_are_values():
    first = al.Environment(python="3.12", requirements=["numpy==2.2.* "])
    assert first == al.Environment(python="3.12", requirements=("numpy==2.2.*",))
    assert len({first, al.Environment(python="3.12", requirements=["numpy==2.2.*"])}) == 1
    assert first != al.Environment(requirements=["numpy==2.2.*"])
    assert repr(first) == "alink.Environment(python='3.12', requirements=['numpy==2.2.*'])"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": "much"}, "memory must be a number of bytes"),
        ({"memory": "4 GX"}, "memory must be a number of bytes"),
        ({"memory": 0}, "memory must be a number of bytes"),
        ({"parallelism": 0}, "parallelism must be a whole number"),
        ({"paralelism": 2}, "did you mean parallelism?"),
        ({"spill_dir": 7}, "is not a path"),
    ],
)
def test_connections_that_are_refused(options, words):
    with pytest.raises(al.PlanError, match="ALK1006") as caught:
        al.connect(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("misuse", "message", "hint"),
    [
        (lambda x: x == None, "with None is never true", "is_null()"),  # noqa: E711
        (lambda x: x >= None, "with None is never true", "is_null()"),
        (lambda x: 1 in x, "in cannot ask the expression x", "is_in"),
        (list, "x has no values before the job runs", "collect()"),
        (lambda x: x and x, "no truth value", "& | ~"),
        (lambda x: 1 < x < 2, "no truth value", "& | ~"),
        (lambda x: x.is_in("ab"), "is_in takes a list of values, not 'ab'", "is_in"),
        (lambda x: x.is_in(3), "is_in takes a list of values, not 3", "is_in"),
        (lambda x: sum([x] * 300), "nested deeper than 190 operators", "with_columns"),
    ],
)
def test_misuse_is_told_from_use(misuse, message, hint):
    with pytest.raises(al.PlanError) as caught:
        misuse(al.col("x"))
    assert message in caught.value.diagnostic.message
    assert hint in caught.value.diagnostic.hint


def test_small_conditions():
    x = al.col("x")
    assert str(x.is_in([])) == "False"
    assert str(x.between(1, 2)) == "(x >= 1) and (x <= 2)"
    assert str(+x) == "x"
