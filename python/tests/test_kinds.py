"""Every kind of function through the engine, compared with plain Python and pandas."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

import alink as al

KEYS = ["a", None, "b", "a", "ü b", None, "b", "a"]
VALUES = [1.0, 2.0, None, 4.0, 5.5, -6.0, 7.0, 8.0]
WORDS = ["one two", "", None, "three", "ünï cödé x", "a b", "one", " "]


@pytest.fixture(scope="module")
def t(shared_ctx):
    data = {"k": KEYS, "x": VALUES, "words": WORDS, "i": list(range(len(KEYS)))}
    return shared_ctx.from_arrow(pa.table(data))


def twice(values):
    return [None if x is None else 2 * x for x in values]


@al.udf("double")
def row(x):
    return None if x is None else 2 * x


@al.udf("double", batch="numpy")
def numpy_(x):
    return x * 2


@al.udf("double", batch="pandas")
def pandas_(x):
    return x * 2


@al.udf("double", batch="polars")
def polars_(x):
    return x * 2


@al.udf("double", batch="arrow")
def arrow_(x):
    import pyarrow.compute as pc

    return pc.multiply(x, 2.0)


COLUMN_FUNCTIONS = pytest.mark.parametrize(
    "f", [row, numpy_, pandas_, polars_, arrow_], ids=lambda f: f.name
)


@COLUMN_FUNCTIONS
def test_a_column_of_each_kind(t, f):
    out = t.with_columns(y=f("x"), z=f("x + i") - 1).order_by("i").to_arrow()
    assert out["y"].to_pylist() == twice(VALUES)
    sums = [None if x is None else 2 * (x + i) - 1 for i, x in enumerate(VALUES)]
    assert out["z"].to_pylist() == sums


@COLUMN_FUNCTIONS
def test_a_column_of_each_kind_on_empty_input(t, f):
    out = t.filter("i < 0").select(y=f("x")).to_arrow()
    assert out.schema.field("y").type == pa.float64()
    assert out.num_rows == 0


@al.map_batches("i bigint, y double", columns=["i", "x"])
def batches_arrow(batch):
    import pyarrow.compute as pc

    y = pc.multiply(batch["x"], 2.0)
    yield pa.RecordBatch.from_arrays([batch["i"], y], names=["i", "y"])


@al.map_batches("i bigint, y double", columns=["i", "x"], batch="pandas")
def batches_pandas(frame):
    return frame.assign(y=frame["x"] * 2)[["i", "y"]]


@pytest.mark.anywhere
@pytest.mark.parametrize("f", [batches_arrow, batches_pandas], ids=lambda f: f.name)
def test_map_batches(t, f):
    out = t.map_batches(f).order_by("i").to_arrow()
    assert out.to_pydict() == {"i": list(range(len(VALUES))), "y": twice(VALUES)}
    assert t.filter("i < 0").map_batches(f).to_arrow().num_rows == 0


@al.udtf("word string, n int")
def split(text):
    for word in (text or "").split():
        yield word, len(word)


def split_rows():
    return [(i, w, len(w)) for i, text in enumerate(WORDS) for w in (text or "").split()]


@pytest.mark.anywhere
def test_flat_map_gives_the_functions_columns(t):
    out = t.flat_map(split("words"))
    assert out.columns == ["word", "n"]
    rows = [(r["word"], r["n"]) for r in out.collect()]
    assert rows == [(word, n) for _, word, n in split_rows()]
    assert t.filter("i < 0").flat_map(split("words")).to_arrow().num_rows == 0


@pytest.mark.anywhere
@pytest.mark.parametrize("how", ["inner", "left"])
def test_join_lateral(t, how):
    out = t.select("i", "words").join_lateral(split("words"), how=how)
    expected = split_rows()
    if how == "left":
        without = set(range(len(WORDS))) - {i for i, _, _ in expected}
        expected = sorted([*expected, *((i, None, None) for i in without)], key=lambda r: r[0])
    assert out.columns == ["i", "words", "word", "n"]
    assert [(r["i"], r["word"], r["n"]) for r in out.collect()] == expected
    assert all(r["words"] == WORDS[r["i"]] for r in out.collect())


@al.udaf("double", state="sum double, n bigint", on_null="skip")
class Mean:
    def create(self):
        return 0.0, 0

    def add(self, state, x):
        return state[0] + sum(x.to_pylist()), state[1] + len(x)

    def merge(self, state, other):
        return state[0] + other[0], state[1] + other[1]

    def result(self, state):
        return state[0] / state[1] if state[1] else None


@pytest.mark.anywhere
def test_an_aggregate_with_keys_beside_builtins_and_in_an_expression(t):
    out = t.group_by("k").agg(m=Mean("x"), shifted=Mean("x * 2") + 1, n="count(*)", top="max(x)")
    rows = {r["k"]: r for r in out.collect()}
    frame = pd.DataFrame({"k": KEYS, "x": VALUES})
    grouped = frame.groupby("k", dropna=False)["x"]
    assert len(rows) == grouped.ngroups == 4
    for key, values in grouped:
        got = rows[key if isinstance(key, str) else None]
        assert got["m"] == pytest.approx(values.mean())
        assert got["shifted"] == pytest.approx(2 * values.mean() + 1)
        assert (got["n"], got["top"]) == (len(values), values.max())


def test_an_aggregate_of_the_whole_table(t):
    frame = pd.Series(VALUES, dtype="Float64")
    (got,) = t.agg(m=Mean("x"), n="count(x)").collect()
    assert got == {"m": pytest.approx(frame.mean()), "n": frame.count()}


def test_an_aggregate_of_nothing(t):
    empty = t.filter("i < 0")
    assert empty.agg(m=Mean("x"), n="count(*)").collect() == [{"m": None, "n": 0}]
    assert empty.group_by("k").agg(m=Mean("x")).to_arrow().num_rows == 0


@al.map_groups("k string, rows bigint, total double")
def total_arrow(group):
    import pyarrow.compute as pc

    total = pc.sum(group["x"]).as_py()
    rows = {"k": [group["k"][0].as_py()], "rows": [group.num_rows], "total": [total]}
    return pa.table(rows, schema=pa.schema({"k": "string", "rows": "int64", "total": "double"}))


@al.map_groups("k string, rows bigint, total double", batch="pandas")
def total_pandas(group):
    import pandas as pd

    return pd.DataFrame(
        {"k": group["k"].iloc[:1], "rows": [len(group)], "total": [group["x"].sum()]}
    )


@pytest.mark.anywhere
@pytest.mark.parametrize("f", [total_arrow, total_pandas], ids=lambda f: f.name)
def test_map_groups(t, f):
    rows = {r["k"]: (r["rows"], r["total"]) for r in t.group_by("k").map_groups(f).collect()}
    expected = {
        key: (
            KEYS.count(key),
            sum(x for k, x in zip(KEYS, VALUES, strict=True) if k == key and x is not None),
        )
        for key in KEYS
    }
    assert rows == expected
    assert t.filter("i < 0").group_by("k").map_groups(f).to_arrow().num_rows == 0
