"""What is moved below functions, so that they are called for fewer rows and get fewer columns."""

from __future__ import annotations

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
