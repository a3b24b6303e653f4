"""Decorators of all kinds of functions: spellings of types, options, plans; no engine."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
from typing import Any, NamedTuple, Optional, TypedDict

import numpy as np
import pyarrow as pa
import pytest

import alink as al
from alink._plan import build_plan


class Word(NamedTuple):
    word: str
    n: int


@dataclasses.dataclass
class Point:
    x: float
    y: Optional[float]  # noqa: UP045
    tags: list[str]


class Counted(TypedDict):
    word: str
    counts: dict[str, int]


@pytest.fixture
def table():
    return al.connect().from_arrow(pa.table({"k": ["a", "b"], "x": [1.0, 2.0]}))


def planned(table):
    return build_plan(table._node).json


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, "double"),
        (bool, "boolean"),
        ("decimal(10,2)", "decimal(10,2)"),
        (pa.int8(), "tinyint"),
        (list[int], "list<bigint>"),
        (dict[str, float], "map<string, double>"),
        (Optional[str], "string"),  # noqa: UP045
        (datetime.datetime | None, "timestamp"),
        (datetime.timedelta, "interval"),
        (np.float32, "float"),
        (np.uint8, "utinyint"),
        (np.bool_, "boolean"),
        (Word, "struct<word: string, n: bigint>"),
        (list[Point], "list<struct<x: double, y: double, tags: list<string>>>"),
        (Counted, "struct<word: string, counts: map<string, bigint>>"),
    ],
)
def test_a_type_is_the_same_in_every_place(annotation, expected):
    def annotated(x): ...

    # This file has postponed annotations: a string in one stands in quotes.
    quoted = repr(annotation) if isinstance(annotation, str) else annotation
    annotated.__annotations__["return"] = quoted
    assert al.udf(annotated).result == expected
    assert al.udf(annotation)(lambda x: x).result == expected
    assert al.udtf({"y": annotation})(lambda x: x).schema == [{"name": "y", "type": expected}]


@pytest.mark.parametrize(
    ("annotation", "hint"),
    [
        (decimal.Decimal, 'say how many digits: -> "decimal(18,2)"'),
        (list, "say of what: -> list[float]"),
        (dict, "say of what"),
        (np.ndarray, "give the type of the values"),
        (object, "give a type string"),
    ],
)
def test_an_annotation_that_says_too_little(annotation, hint):
    def annotated(x): ...

    annotated.__annotations__["return"] = annotation
    with pytest.raises(al.PlanError) as caught:
        al.udf(annotated)
    assert hint in caught.value.diagnostic.hint


@pytest.mark.parametrize(
    "schema",
    [
        "word string, n int64",
        {"word": str, "n": "bigint"},
        Word,
        pa.schema([("word", pa.string()), ("n", pa.int64())]),
    ],
)
def test_a_schema_in_every_spelling(schema):
    expected = [{"name": "word", "type": "string"}, {"name": "n", "type": "bigint"}]
    assert al.udtf(schema)(lambda x: x).schema == expected
    assert al.map_groups(schema)(lambda t: t).schema == expected
    assert al.map_batches(schema)(lambda t: t).schema == expected


class Mean:
    def create(self):
        return 0.0, 0

    def add(self, state, x, weight=None):
        return state[0] + sum(x.to_pylist()), state[1] + len(x)

    def merge(self, state, other):
        return state[0] + other[0], state[1] + other[1]

    def result(self, state):
        return state[0] / state[1]


def test_an_aggregate_in_a_plan(table):
    mean = al.udaf("double", state="sum double, n bigint", batch="pandas", on_null="skip")(Mean)
    assert mean.parameters == ("x", "weight")
    plan = planned(table.group_by("k").agg(m=mean("x"), n="count(*)"))
    function = plan["functions"]["f1"]
    assert function["kind"] == "aggregate"
    assert function["batch"] == "pandas"
    assert function["result"] == "double"
    assert function["state"] == [{"name": "sum", "type": "double"}, {"name": "n", "type": "bigint"}]
    assert function["options"]["on_null"] == "skip"
    aggregates = plan["nodes"][-1]["args"]["aggregates"]
    assert aggregates[0] == {"name": "m", "expr": {"call": "f1", "args": [{"column": "x"}]}}


def test_an_aggregate_can_be_computed_here():
    mean = al.udaf(float, state="sum double, n bigint")(Mean)
    assert mean.local([1.0, 2.0, 6.0]) == 3.0
    assert mean.local(pa.array([4.0])) == 4.0


@pytest.mark.parametrize("method", ["create", "add", "merge", "result"])
def test_an_aggregate_without_a_method(method):
    members = {name: value for name, value in vars(Mean).items() if name != method}
    incomplete = type("Incomplete", (), members)
    with pytest.raises(al.PlanError, match=f"the class Incomplete has no method {method}"):
        al.udaf("double", state="s double")(incomplete)


def test_a_table_function_in_a_plan(table):
    words = al.udtf(Word, on_null="skip")(lambda text, sep=" ": [])
    plan = planned(table.flat_map(words("k || 'x'", al.lit(","))))
    node = plan["nodes"][-1]
    literal = {"literal": {"type": "string", "value": ","}}
    assert node["op"] == "flat_map"
    assert node["args"] == {
        "function": "f1", "args": [{"sql": "k || 'x'"}, literal], "keep": False, "outer": False
    }  # fmt: skip
    assert plan["functions"]["f1"]["schema"][1] == {"name": "n", "type": "bigint"}
    left = table.join_lateral(words("k"), how="left")
    assert planned(left)["nodes"][-1]["args"]["outer"] is True
    assert left.explain().startswith("flat_map <lambda>(k) left")


@pytest.mark.parametrize("wrong", ["words(k)", al.col("k"), lambda x: x, None])
def test_flat_map_takes_an_applied_table_function(table, wrong):
    with pytest.raises(al.PlanError, match="flat_map takes a table function applied to columns"):
        table.flat_map(wrong)


def test_a_function_of_groups_in_a_plan(table):
    largest = al.map_groups("k string, x double", columns=["k", "x"], batch="polars")(lambda t: t)
    plan = planned(table.group_by("k").map_groups(largest))
    node = plan["nodes"][-1]
    assert node["op"] == "map_groups"
    assert node["args"]["columns"] == ["k", "x"]
    assert node["args"]["keys"] == [{"name": "k", "expr": {"column": "k"}}]
    assert plan["functions"]["f1"]["batch"] == "polars"
    with pytest.raises(al.PlanError, match="takes a function made with @al"):
        table.group_by("k").map_groups(lambda t: t)


@pytest.mark.parametrize("batch", ["pandas", "polars", "numpy"])
def test_an_environment_gets_the_library_that_a_function_needs(table, batch):
    env = al.Environment(requirements=["Requests>=2"])
    own = al.Environment(requirements=[f"{batch}==1.*"])
    functions = [
        al.udf("double", batch=batch, env=env)(lambda x: x),
        al.udf("double", batch=batch, env=own)(lambda x: x),
        al.udf("double", env=env)(lambda x: x),
    ]
    plan = planned(table.select({f"c{i}": f("x") for i, f in enumerate(functions)}))
    needed = [
        plan["environments"][plan["functions"][f"f{i + 1}"]["environment"]]["requirements"]
        for i in range(3)
    ]
    assert needed == [["Requests>=2", batch], [f"{batch}==1.*"], ["Requests>=2"]]


REFUSED = [
    ("udaf", {"on_error": "null"}, "on_error cannot be 'null'", "filter them before"),
    ("udaf", {"on_error": "dead_letter"}, "on_error cannot be 'dead_letter'", "filter them"),
    ("map_groups", {"on_error": "dead_letter"}, "depends on all rows", "catch the exception"),
    ("map_batches", {"on_error": "null"}, "rows do not belong", "dead_letter"),
    ("map_batches", {"on_error": "dead_letter", "deterministic": False}, "again", "rows"),
    ("udf", {"on_error": "ignore"}, "on_error must be one of", ""),
    ("udf", {"on_error": "nul"}, "on_error must be one of", "null"),
    ("udf", {"errors_max": 3}, "errors_max does nothing", "goes on"),
    ("udf", {"errors_max": 0, "on_error": "null"}, "errors_max must be a whole number", ""),
    ("udf", {"deterministic": "no"}, "deterministic must be True or False", ""),
    ("udf", {"retries": {"exceptions": 1}}, '"death" and "exception"', "exception"),
    ("udf", {"retries": {"exception": -1}}, "at least 0", ""),
    ("udf", {"retries": {"exception": 1}, "deterministic": False}, "forbids to run it twice", ""),
    ("udf", {"batch": "numpy", "on_error": "null", "deterministic": False}, "again", "rows"),
    ("udtf", {"output_max": "3GiB"}, "output_max must be at most", ""),
    ("udtf", {"output_max": "much"}, "output_max must be a number of bytes", ""),
]


@pytest.mark.parametrize(("decorator", "options", "message", "hint"), REFUSED)
def test_policies_that_cannot_be(decorator, options, message, hint):
    more = {"state": "s double"} if decorator == "udaf" else {}
    what = "double" if decorator in ("udf", "udaf") else "y double"
    with pytest.raises(al.PlanError, match=message) as caught:
        getattr(al, decorator)(what, **more, **options)(lambda x: x)
    assert caught.value.diagnostic.message.startswith(f"{decorator}: ")
    assert hint in caught.value.diagnostic.hint


def test_what_holds_today_may_be_said():
    today: Any = {"on_error": "fail", "deterministic": True}
    f = al.udf("double", **today)(lambda x: x)
    assert f.options.to_json() == {}


def test_an_option_that_is_misspelt():
    misspelt: Any = {"on_nul": "skip"}
    with pytest.raises(al.PlanError) as caught:
        al.udtf("y double", **misspelt)
    assert "on_null" in caught.value.diagnostic.hint
