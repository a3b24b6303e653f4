"""Tables that the engine keeps."""

from __future__ import annotations

import gc
import threading
import time

import pyarrow as pa
import pytest

import alink as al


@pytest.fixture
def calls(tmp_path):
    """Give a function of columns that leaves a line for each call, and its number of calls."""
    path = str(tmp_path / "calls")

    @al.udf("bigint", workers=1, mounts={tmp_path: "rw"})
    def counted(x):
        with open(path, "a") as file:  # noqa: PTH123 for workers of any Python
            file.write("x\n")
        return None if x is None else x + 1

    def number():
        try:
            with open(path) as file:  # noqa: PTH123
                return len(file.readlines())
        except FileNotFoundError:
            return 0

    return counted, number


ROWS = pa.table({"x": [3, None, 1], "s": ["c", "é\U0001f600", None]})


def test_rows_are_computed_once(ctx, calls):
    counted, number = calls
    kept = ctx.from_arrow(ROWS).with_columns(y=counted("x")).cache()
    assert kept.columns == ["x", "s", "y"]
    assert kept.select("y").schema == pa.schema([("y", pa.int64())])
    assert number() == 0
    expected = [{**row, "y": y} for row, y in zip(ROWS.to_pylist(), [4, None, 2], strict=True)]
    assert kept.collect() == expected
    assert number() == 3
    assert kept.filter("y > 2").count() == 1
    assert kept.union(kept).count() == 6
    assert kept.limit(1).collect() == expected[:1]
    assert number() == 3
    twice = kept.with_columns(z=counted("y")).cache()
    assert twice.select("z").to_arrow()["z"].to_pylist() == [5, None, 3]
    assert twice.count() == 3
    assert number() == 6
    assert "cache\n  with_columns y = counted(x)" in kept.explain()


def test_a_limit_of_the_first_job_does_not_cut_what_is_kept(ctx):
    kept = ctx.read_generator({"n": al.generate.sequence()}, rows=100_000).cache()
    assert kept.limit(2).count() == 2
    assert kept.select(s="sum(n)").collect() == [{"s": 99_999 * 50_000}]


def test_empty_tables_are_kept(ctx, calls):
    counted, number = calls
    kept = ctx.from_arrow(ROWS.slice(0, 0)).with_columns(y=counted("x")).cache()
    assert kept.collect() == kept.collect() == []
    assert kept.columns == ["x", "s", "y"]
    assert number() == 0


def test_a_failure_keeps_nothing_and_the_next_use_computes_anew(ctx, tmp_path):
    path = str(tmp_path / "ready")

    @al.udf("bigint", mounts={tmp_path: "ro"})
    def fails(x):
        with open(path):  # noqa: PTH123
            return x

    kept = ctx.from_arrow(ROWS).with_columns(y=fails("x")).cache()
    with pytest.raises(al.UdfError, match="fails"):
        kept.count()
    (tmp_path / "ready").touch()
    assert kept.count() == 3
    (tmp_path / "ready").unlink()
    assert kept.count() == 3


def test_a_stream_without_end_is_refused(ctx):
    endless = ctx.read_generator({"n": al.generate.sequence()})
    with pytest.raises(al.PlanError, match="cache needs the end") as caught:
        endless.cache()
    assert caught.value.code == "ALK1030"


def test_threads_that_need_it_at_once_wait_for_one_job(ctx, calls):
    counted, number = calls
    kept = ctx.from_arrow(ROWS).with_columns(y=counted("x")).cache()
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(kept.count())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [3] * 4
    assert number() == 3


def test_what_nothing_refers_to_is_given_up(ctx):
    before = ctx.from_arrow(ROWS).count() and ctx.status()["arrow_bytes"]
    kept = ctx.read_generator({"n": al.generate.sequence()}, rows=1_000_000).cache()
    assert kept.count() == 1_000_000
    assert ctx.status()["arrow_bytes"] - before > 4_000_000
    del kept
    gc.collect()
    deadline = time.monotonic() + 20
    while ctx.status()["arrow_bytes"] - before > 1_000_000:
        assert time.monotonic() < deadline, ctx.status()
        time.sleep(0.05)
