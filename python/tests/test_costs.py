"""What a job has cost: explain(analyze=True) and metrics."""

from __future__ import annotations

import re
import time

import pytest

import alink as al

# What a worker holds is looked at ten times a second: a job that ends sooner has not been seen.
SEEN_S = 0.3


@al.udf("double", workers=1)
def by_row(n):
    if n == 99_999:
        time.sleep(SEEN_S)
    return n + 0.5


@al.udf("double", batch="numpy", memory="512MiB", workers=1)
def by_batch(n):
    time.sleep(SEEN_S)
    return n + 0.5


@pytest.fixture
def numbers(shared_ctx):
    return shared_ctx.read_generator({"n": al.generate.sequence()}, rows=100_000)


def test_explain_runs_the_plan_when_asked(numbers):
    table = numbers.with_columns(y=by_row("n"), z=by_batch("n")).filter("y > 10").agg(n="sum(z)")
    plan, costs = table.explain(analyze=True).split("\n\n")
    assert plan == table.explain()
    first, header, *rows = costs.split("\n")
    assert re.fullmatch(r"ran in \d+\.\d\d s", first)
    titles = ["operator", "rows in", "rows out", "MiB out", "time", "workers", "memory", "bundles"]
    assert re.split(r"\s{2,}", header) == titles
    cells = {row.split()[0]: re.split(r"\s{2,}", row) for row in rows}
    assert cells["by_row"][1:3] == ["100,000", "100,000"]
    for name in ("by_row", "by_batch"):
        assert float(cells[name][4].removesuffix(" s")) > 0
        assert cells[name][5] == "1"
        assert re.fullmatch(r"[\d,]+ MiB", cells[name][6])
    assert rows[-1].split()[0] == "discard"
    assert rows[-1].split()[1] == "1"


def test_what_nobody_uses_is_not_computed(shared_ctx, numbers, tmp_path):
    numbers.limit(50).with_columns(a="n + 1", b="n + 2").write_parquet(tmp_path / "t.parquet")
    table = shared_ctx.read_parquet(tmp_path / "t.parquet")
    table = table.with_columns(y=by_row("n"), z=by_batch("a")).filter("y > 10").agg(n="count(*)")
    costs = table.explain(analyze=True)
    assert "\n  1 of 3 columns: n\n" in costs
    operators = [line.split()[0] for line in costs.split("\n\n")[1].split("\n")]
    assert "by_row" in operators
    assert "by_batch" not in operators
    assert table.to_arrow().column("n").to_pylist() == [40]


def test_metrics_of_a_job_that_has_ended(numbers, tmp_path):
    job = numbers.select(y=by_row("n")).write_parquet(tmp_path / "t.parquet")
    (function,) = [o for o in job.progress().operators if o.name == "by_row"]
    assert function.state == "done"
    assert (function.rows_in, function.rows_out, function.workers) == (100_000, 100_000, 1)
    assert function.bundles >= 1
    assert function.restarts == 0
    assert function.time_s > 0
    assert function.memory_bytes > 0  # a worker's own, without what its zygote has imported
    raw = {o["name"]: o for o in job.metrics()["operators"]}
    assert raw["by_row"]["time_s"] == function.time_s


def test_a_worker_that_was_replaced_is_counted(shared_ctx, tmp_path):
    path = str(tmp_path / "died")

    @al.udf("bigint", workers=1, mounts={tmp_path: "rw"})
    def dies_once(n):
        import os

        if n == 50 and not os.path.exists(path):  # noqa: PTH110
            open(path, "w").close()  # noqa: PTH123
            os.kill(os.getpid(), 9)
        return n

    numbers = shared_ctx.read_generator({"n": al.generate.sequence()}, rows=100, batch_rows=10)
    costs = numbers.select(m=dies_once("n")).explain(analyze=True)
    assert "restarts" in costs
    (row,) = [line for line in costs.split("\n") if line.startswith("dies_once ")]
    assert row.split()[-1] == "1"


def test_a_stream_without_end_is_not_run(shared_ctx):
    endless = shared_ctx.read_generator({"n": al.generate.sequence()})
    assert endless.explain() == "read_generator endless [n]"
    with pytest.raises(al.PlanError, match="explain needs the end"):
        endless.explain(analyze=True)


def test_a_failure_is_the_jobs_own(numbers):
    @al.udf("bigint")
    def fails(n):
        return 1 // 0

    with pytest.raises(al.UdfError, match="fails raised ZeroDivisionError"):
        numbers.select(m=fails("n")).explain(analyze=True)
