"""What is moved below functions, so that they are called for fewer rows and get fewer columns."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

import alink as al

TABLE = {"a": [1, 2, 3, 4], "b": ["1", "2", "x", "4"], "c": [0.5, 1.5, 2.5, None]}


@al.udf("bigint")
def below_three(a: int) -> int:
    """Fail on what a filter is to leave out."""
    if a > 2:
        raise ValueError(f"called with {a}")
    return a * 10


def test_a_function_is_not_called_for_rows_that_a_filter_drops(shared_ctx):
    t = shared_ctx.from_arrow(pa.table(TABLE)).with_columns(y=below_three("a"))
    for filtered in (
        t.filter("a < 3"),
        t.filter(al.col("a") < 3),
        t.filter("a < 3 AND y > 0"),
        t.filter("y > 0 AND a < 3"),
        t.filter("y > 0").filter("a < 3"),
        t.rename({"a": "A2"}).filter(al.col("A2") < 3).rename({"A2": "a"}),
        t.select("y", "a", z="c + 1").filter("a < 3"),
        t.filter("c < 2").filter("a < 3"),
    ):
        assert filtered.select("a", "y").to_arrow().to_pydict() == {"a": [1, 2], "y": [10, 20]}
        assert "moved before functions: " in filtered.explain(analyze=True)
    chained = t.with_columns(z=below_three(al.col("y") - 18)).filter("a < 3 AND z IS NOT NULL")
    assert chained.to_arrow()["z"].to_pylist() == [-80, 20]
    with pytest.raises(al.UdfError, match="called with 3"):
        t.filter("y > 0").to_arrow()


def test_a_filter_fails_on_no_more_rows_than_where_it_was_written(shared_ctx):
    """The second condition relies on the first, which needs the function."""

    @al.udf("boolean")
    def is_number(b: str) -> bool:
        return b.isdigit()

    t = shared_ctx.from_arrow(pa.table(TABLE)).with_columns(ok=is_number("b"))
    guarded = t.filter("ok AND b::int > 1")
    assert guarded.to_arrow()["a"].to_pylist() == [2, 4]
    assert t.filter("ok").filter("b::int > 1").to_arrow()["a"].to_pylist() == [2, 4]
    # Where it fails on a row that is wanted, it still says so.
    for failing in (t.filter("NOT ok AND b::int > 1"), t.filter("b::int > 1 AND ok")):
        with pytest.raises(al.Error, match="Could not convert string 'x'"):
            failing.to_arrow()


def test_a_mistake_in_a_moved_filter_is_told_as_it_was_written(shared_ctx):
    t = shared_ctx.from_arrow(pa.table(TABLE)).with_columns(gain=below_three("a"))
    with pytest.raises(al.PlanError) as caught:
        t.filter("gian > 3 AND a < 3").to_arrow()
    assert "did you mean gain?" in str(caught.value)
    assert "__alink" not in str(caught.value)


def test_filters_stay_behind_functions_whose_calls_show(shared_ctx, tmp_path):
    @al.udf("bigint", deterministic=False)
    def once(a: int) -> int:
        return below_three.local(a)

    @al.udf("bigint", on_error="dead_letter")
    def kept_aside(a: int) -> int:
        return below_three.local(a)

    t = shared_ctx.from_arrow(pa.table(TABLE))
    with pytest.raises(al.UdfError, match="called with 3"):
        t.with_columns(y=once("a")).filter("a < 3").to_arrow()
    job = t.with_columns(y=kept_aside("a")).filter("a < 3").write_parquet(tmp_path / "t")
    assert job.dead_letters().to_arrow().column("a").to_pylist() == [3, 4]


SCALARS = [
    True, 7, 2.5, "it's\x00é", b"\x00\xff", None, datetime.date(2024, 2, 29),
    decimal.Decimal("1.50"), datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.time(1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_a_constant_is_the_same_value_as_a_column_of_it(shared_ctx, scalar):
    @al.udf("string")
    def both(constant, a: int, same) -> str:
        return f"{constant!r} {a} {same!r}"

    @al.udf("boolean", batch="arrow")
    def equal(a: pa.Array, constant: pa.Array, same: pa.Array) -> pa.Array:
        assert constant.type == same.type
        assert constant.to_pylist() == same.to_pylist()
        return a.is_valid()

    @al.udtf("c string")
    def rows(a, constant):
        yield (f"{constant!r} {a}",)

    t = shared_ctx.from_arrow(pa.table({"a": [1, 2, 3]})).with_columns(same=al.lit(scalar))
    got = t.with_columns(x=both(al.lit(scalar), "a", "same"), y=equal("a", al.lit(scalar), "same"))
    got = got.join_lateral(rows("a", al.lit(scalar))).to_arrow()
    assert got["x"].to_pylist() == [f"{scalar!r} {a} {scalar!r}" for a in (1, 2, 3)]
    assert got["y"].to_pylist() == [True] * 3
    assert got["c"].to_pylist() == [f"{scalar!r} {a}" for a in (1, 2, 3)]


def test_constants_do_not_cross_with_every_row(shared_ctx):
    @al.udf("bigint", batch_rows=100)
    def plus(a: int, text: str, b: int) -> int:
        return a + len(text) + b

    @al.udf("bigint", batch="numpy", on_null="skip")
    def times(a, b, c):
        return a * b * c

    @al.udf("bigint")
    def nothing(b: int) -> int:
        return b

    numbers = shared_ctx.read_generator({"n": al.generate.sequence()}, rows=100_000)
    t = numbers.with_columns(
        x=plus("n", al.lit("y" * 10_000), "3 + 4"),
        y=times("n", al.lit(2), "CASE WHEN n % 2 = 0 THEN 3 END"),
        z=times(al.lit(None).cast("bigint"), "n", "n"),
        w=nothing(al.lit(5)),
    )
    sums = t.agg(x="sum(x)", y="sum(y)", z="count(z)", w="sum(w)")
    n = 100_000
    assert sums.collect() == [
        {"x": n * (n - 1) // 2 + n * 10_007, "y": 6 * sum(range(0, n, 2)), "z": 0, "w": 5 * n}
    ]


def test_an_error_shows_constants_among_the_arguments(shared_ctx):
    @al.udf("double")
    def divided(a: float, by: int, b: float) -> float:
        return a / by / b

    @al.udf("bigint", timeout="1s")
    def hangs(a: int, seconds: int) -> int:
        import time

        time.sleep(seconds if a == 2 else 0)
        return a

    t = shared_ctx.from_arrow(pa.table({"a": [1, 2, 3]}))
    with pytest.raises(al.UdfError) as raised:
        t.with_columns(y=divided("a", al.lit(0), "a + 0.5")).to_arrow()
    assert raised.value.diagnostic.row is not None
    values = dict(raised.value.diagnostic.row.values)
    assert values == {"a": "1", "by": "0", "b": "Decimal('1.5')"}
    with pytest.raises(al.WorkerTimeout) as late:
        t.with_columns(y=hangs("a", al.lit(30))).to_arrow()
    assert late.value.diagnostic.row is not None
    assert dict(late.value.diagnostic.row.values) == {"a": "2", "seconds": "30"}


def test_a_constant_that_cannot_be_computed_fails_where_there_is_a_row(shared_ctx):
    t = shared_ctx.from_arrow(pa.table({"a": [1, 2, 3]})).with_columns(y=below_three("'x'::bigint"))
    with pytest.raises(al.Error, match="Could not convert string 'x'"):
        t.to_arrow()
    assert t.filter("a > 5").count() == 0
