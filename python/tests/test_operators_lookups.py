"""Operators that look values up in a table."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alink as al
from pyalink import alink as pyalink

ROWS = pd.DataFrame({"f": ["b", "ü", None, "zz", "b"], "n": [2, 7, 1, None, 9]})
ROWS_SCHEMA = "f string, n bigint"
MAP = pd.DataFrame(
    {
        "k": ["b", "ü", None, "c", "b"],
        "m": [9, 7, 1, 5, 2],
        "v": ["1 2", None, "3", "$4$1:2.0", "5 6"],
        "d": [0.5, None, 2.5, np.inf, 4.5],
    }
)
MAP_SCHEMA = "k string, m int, v vector, d double"


def batch(frame: pd.DataFrame = ROWS, schema: str = ROWS_SCHEMA) -> Any:
    return pyalink.BatchOperator.fromDataframe(frame, schemaStr=schema)


def stream() -> Any:
    return pyalink.StreamOperator.fromDataframe(ROWS, schemaStr=ROWS_SCHEMA)


def table() -> Any:
    return batch(MAP, MAP_SCHEMA)


def everywhere(rows: Any = None, model: Any = None, **params: Any) -> list[dict[str, Any]]:
    """Look up in batch, stream, pipeline and by a join; all give the same."""
    model = table() if model is None else model
    found = pyalink.LookupBatchOp(**params).linkFrom(model, batch() if rows is None else rows)
    result = found.toTable().collect()
    huge = pyalink.HugeLookupBatchOp(**params).linkFrom(model, batch() if rows is None else rows)
    assert huge.getSchemaStr() == found.getSchemaStr()
    assert Counter(map(str, huge.toTable().collect())) == Counter(map(str, result))
    if rows is None:
        streamed = pyalink.LookupStreamOp(model, **params).linkFrom(stream())
        assert streamed.toTable().collect() == result
    stage = pyalink.Lookup(**params).setModelData(model)
    assert stage.transform(batch() if rows is None else rows).toTable().collect() == result
    return result


def test_one_key():
    given = everywhere(
        selectedCols=["F"], mapKeyCols=["K"], mapValueCols=["d", "m"], outputCols=["x", "n"]
    )
    assert given == [  # of two rows for b the last one; n is replaced, and is an int then
        {"f": "b", "n": 2, "x": 4.5}, {"f": "ü", "n": 7, "x": None},
        {"f": None, "n": None, "x": None}, {"f": "zz", "n": None, "x": None},
        {"f": "b", "n": 2, "x": 4.5},
    ]  # fmt: skip


def test_several_keys_of_other_kinds_of_numbers():
    given = everywhere(
        selectedCols=["n", "f"], mapKeyCols=["m", "k"], mapValueCols=["d"], reservedCols=["n"]
    )
    assert given == [
        {"n": 2, "d": 4.5}, {"n": 7, "d": None}, {"n": 1, "d": None}, {"n": None, "d": None},
        {"n": 9, "d": 0.5},
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["int", "double", "decimal", "smallint"])
def test_numbers_are_equal_whatever_their_types(kind):
    rows = batch(pd.DataFrame({"x": [9, 5, None, 4, -1]}), f"x {kind}")
    given = everywhere(rows, selectedCols=["x"], mapKeyCols=["m"], mapValueCols=["k"])
    assert [row["k"] for row in given] == ["b", "c", None, None, None]
    model = batch(
        pd.DataFrame({"x": [9, 5, None], "y": [True, False, True]}), f"x {kind}, y boolean"
    )
    given = everywhere(model=model, selectedCols=["n"])
    assert [row["y"] for row in given] == [None, None, None, None, True]


def test_other_types():
    day = datetime.date(2020, 2, 29)
    model = batch(pd.DataFrame({"k": [day, None], "w": [1.5, 2.5]}), "k date, w double")
    rows = batch(pd.DataFrame({"g": [day, None, datetime.date(1970, 1, 1)]}), "g date")
    assert [r["w"] for r in everywhere(rows, model, selectedCols=["g"])] == [1.5, None, None]
    given = everywhere(selectedCols=["f"], mapKeyCols=["k"], mapValueCols=["v"])
    assert [row["v"] and row["v"]["values"] for row in given] == [
        [5.0, 6.0], None, None, None, [5.0, 6.0],
    ]  # fmt: skip
    halves = batch(pd.DataFrame({"x": [0.5, 4.5, np.inf, np.nan]}), "x double")
    given = everywhere(halves, selectedCols=["x"], mapKeyCols=["d"], mapValueCols=["k"])
    assert [row["k"] for row in given] == ["b", "b", "c", None]


def test_an_empty_table():
    none = batch(MAP.iloc[:0], MAP_SCHEMA)
    for column, key in (("f", "k"), ("n", "m")):
        given = everywhere(model=none, selectedCols=[column], mapKeyCols=[key], mapValueCols=["d"])
        assert [row["d"] for row in given] == [None] * len(ROWS)
    assert everywhere(
        batch(ROWS.iloc[:0]), selectedCols=["f"], mapKeyCols=["k"], mapValueCols=["d"]
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"selectedCols": ["f"]}, "needs the parameter 'mapKeyCols'"),
        ({"selectedCols": ["f"], "mapKeyCols": ["q"]}, 'there is no column "q"'),
        ({"selectedCols": ["q"], "mapKeyCols": ["k"]}, 'there is no column "q"'),
        ({"selectedCols": ["f", "n"], "mapKeyCols": ["k"]}, "names 2 columns for 1 keys"),
        (
            {"selectedCols": ["f"], "mapKeyCols": ["m"]},
            'column "f" is STRING, the key "m" is INT',
        ),
        ({"selectedCols": ["f"], "mapKeyCols": ["v"]}, 'the key "v" is VECTOR'),
        (
            {"selectedCols": ["f"], "mapKeyCols": ["k"], "outputCols": ["x"]},
            "'outputCols' names 1 columns for 3",
        ),
    ],
)
def test_what_is_refused(params, text):
    for operator in (pyalink.LookupBatchOp, pyalink.HugeLookupBatchOp):
        with pytest.raises(al.Error, match=text):
            operator(**params).linkFrom(table(), batch())


def test_a_stage_needs_its_table():
    with pytest.raises(al.Error, match="Lookup has no model"):
        pyalink.Lookup(selectedCols=["f"]).transform(batch())
    with pytest.raises(al.Error, match="LookupStreamOp has no model"):
        pyalink.LookupStreamOp(selectedCols=["f"]).linkFrom(stream())


# --- words ---

WORDS = {"a": [1.0, 2.0], "b": [3.0, -4.0], "ü": [0.5, 8.0]}
TEXTS = ["a b", "ü, a a", None, "nothing", "b ü b a", ""]


def words() -> Any:
    lines = [*WORDS, "without", None]
    vectors = [" ".join(map(str, v)) for v in WORDS.values()]
    frame = pd.DataFrame({"w": lines, "v": [*vectors, None, "1 1"]})
    return batch(frame, "w string, v string")


def texts(kind: Any) -> Any:
    frame = pd.DataFrame({"t": TEXTS, "u": [(text or "x").replace(" ", ",") for text in TEXTS]})
    return kind.fromDataframe(frame, schemaStr="t string, u string")


def vectors(operator: Any, name: str) -> list[Any]:
    column = operator.toTable().to_arrow().column(name).to_pylist()
    return [None if value is None else value["values"] for value in column]


def test_vectors_of_words():
    clause = (
        "AVG(t) as mean, sum(t) AS total, MAX(t) high, MIN(t) as `low`,"
        "CONCAT(t,2) as two, CONCAT(T) as t"
    )
    op = pyalink.AggLookupBatchOp(clause=clause).linkFrom(words(), texts(pyalink.BatchOperator))
    assert op.getColNames() == ["t", "u", "mean", "total", "high", "low", "two"]
    found = [[WORDS[w] for w in (text or "").split() if w in WORDS] for text in TEXTS]
    found[1] = [WORDS["a"], WORDS["a"]]  # "ü," is another word
    for name, function in (("mean", np.mean), ("total", np.sum), ("high", np.max), ("low", np.min)):
        wanted = [None if not f else function(f, axis=0).tolist() for f in found]
        assert vectors(op, name) == wanted
    flat = [None if not f else np.concatenate(f).tolist() for f in found]
    assert vectors(op, "t") == flat
    assert vectors(op, "two") == [f and [*f, 0.0, 0.0][:4] if f != [] else f for f in flat]
    given = {"clause": clause, "reservedCols": []}
    streamed = pyalink.AggLookupStreamOp(words(), **given).linkFrom(texts(pyalink.StreamOperator))
    stage = pyalink.AggLookup(**given).setModelData(words())
    for other in (streamed, stage.transform(texts(pyalink.BatchOperator))):
        assert other.getColNames() == ["t", "mean", "total", "high", "low", "two"]
        assert vectors(other, "mean") == vectors(op, "mean")


def test_fewer_words_than_are_put_together():
    op = pyalink.AggLookupBatchOp(clause="CONCAT(u, 3) AS x", delimiter=",", reservedCols=[])
    op.linkFrom(words(), texts(pyalink.BatchOperator))
    assert vectors(op, "x")[:2] == [
        [*WORDS["a"], *WORDS["b"], 0.0, 0.0], [*WORDS["ü"], *WORDS["a"], *WORDS["a"]],
    ]  # fmt: skip
    assert vectors(op, "x")[4] == [*WORDS["b"], *WORDS["ü"], *WORDS["b"]]


@pytest.mark.parametrize(
    "clause", ["", "AVG", "MEDIAN(t) as x", "AVG(t, 2) as x", "AVG(t) as x; SUM(t)"]
)
def test_a_clause_that_is_none(clause):
    op = pyalink.AggLookupBatchOp(clause=clause)
    with pytest.raises(al.Error, match="in 'clause' is no call of a function"):
        op.linkFrom(words(), texts(pyalink.BatchOperator))
