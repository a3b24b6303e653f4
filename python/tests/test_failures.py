"""What becomes of a job when a function fails on some of its rows."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

import pyarrow as pa
import pytest

import alink as al

ROWS = 100_000
SEGFAULT, BOMB, LOOP = 12_345, 56_789, 90_001


@pytest.fixture(scope="module")
def ctx(pyrunner):
    with al.connect(parallelism=2) as ctx:
        yield ctx


@pytest.fixture(scope="module")
def table(ctx):
    return ctx.from_arrow(pa.table({"x": range(100), "s": [f"row {i}" for i in range(100)]}))


@pytest.fixture(scope="module")
def poisoned(ctx):
    return ctx.from_arrow(pa.table({"id": [f"r{i}" for i in range(ROWS)], "x": range(ROWS)}))


def poison(on_error: Any, bad=(SEGFAULT, BOMB, LOOP)):
    segfault, bomb, loop = bad

    # Of the time a busy machine takes most for the memory to fill.
    @al.udf("bigint", on_error=on_error, memory="256MiB", timeout="4s")
    def doubled(x):
        if x == segfault:
            import ctypes

            ctypes.string_at(0)
        if x == bomb:
            kept = []
            while True:
                kept.append(b"x" * (1 << 20))
        while x == loop:
            pass
        return x * 2

    return doubled


def kinds(letters):
    return {row["x"]: row["error_kind"] for row in letters.to_arrow().to_pylist()}


def test_three_rows_of_poison_are_dead_letters(ctx, poisoned, tmp_path):
    @al.udf("bigint")
    def slowly(x):
        time.sleep(0.0001)
        return x

    job = poisoned.with_columns(y=poison("dead_letter")("x")).write_parquet(
        tmp_path / "out.parquet", wait=False
    )
    beside = poisoned.limit(20_000).with_columns(y=slowly("x")).agg(s="sum(y)").collect()
    job.result()
    assert [o.failed_rows for o in job.progress().operators if o.name == "doubled"] == [3]
    assert beside == [{"s": 20_000 * 19_999 // 2}], "a job beside it"
    result = ctx.read_parquet(tmp_path / "out.parquet").to_arrow()
    bad = {SEGFAULT, BOMB, LOOP}
    good = [x for x in range(ROWS) if x not in bad]
    assert result.column("x").to_pylist() == good
    assert result.column("y").to_pylist() == [2 * x for x in good]
    letters = job.dead_letters().to_arrow()
    assert letters.column_names[:2] == ["id", "x"]
    rows = letters.to_pylist()
    assert [(row["id"], row["x"], row["error_kind"], row["error_row"]) for row in rows] == [
        (f"r{SEGFAULT}", SEGFAULT, "signal", SEGFAULT),
        (f"r{BOMB}", BOMB, "memory limit", BOMB),
        (f"r{LOOP}", LOOP, "time limit", LOOP),
    ]
    assert "SIGSEGV" in rows[0]["error_message"]
    assert "limit of 256 MiB" in rows[1]["error_message"]
    assert "peak memory" in rows[1]["error_worker"]
    assert "more than 4 s for one row" in rows[2]["error_message"]
    assert {row["error_function"] for row in rows} == {"doubled"}


def test_three_rows_of_poison_are_null(ctx, poisoned):
    result = poisoned.select(y=poison("null")("x")).to_arrow().column("y").to_pylist()
    bad = {SEGFAULT, BOMB, LOOP}
    assert result == [None if x in bad else 2 * x for x in range(ROWS)]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ((SEGFAULT, -1, -1), al.WorkerCrashed),
        ((-1, BOMB, -1), al.WorkerMemoryExceeded),
        ((-1, -1, LOOP), al.WorkerTimeout),
    ],
)
def test_the_row_that_fails_the_job_is_named(poisoned, bad, kind):
    with pytest.raises(kind) as caught:
        poisoned.select(y=poison("fail", bad)("x")).to_arrow()
    row = caught.value.diagnostic.row
    assert row is not None
    assert row.index == max(bad)
    assert f"row {max(bad)}: x={max(bad)}" in str(caught.value)


@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
def test_a_row_that_lets_no_other_thread_run(ctx, table, on_error):
    """Rows are counted by a thread, which a hang in native code may stop: then nobody is blamed
    before the batch has been run once more, telling each row."""

    @al.udf("bigint", on_error=on_error, timeout="500ms")
    def parsed(x):
        import re

        if x == 42:
            re.match(r"(a|aa)+$", "a" * 60 + "b")
        return x

    if on_error == "fail":
        with pytest.raises(al.WorkerTimeout, match="row 42: x=42"):
            table.select(y=parsed("x")).to_arrow()
        return
    result = table.select(y=parsed("x")).to_arrow().column("y").to_pylist()
    assert result == [x for x in range(100) if x != 42]
    assert kinds(ctx.dead_letters()) == {42: "time limit"}


@pytest.mark.parametrize(
    ("batch", "how"),
    [("numpy", "raises"), ("arrow", "raises"), ("numpy", "short"), ("numpy", "leaves")],
)
def test_a_vectorised_function_is_narrowed_down(ctx, table, batch, how):
    @al.udf("bigint", batch=batch, on_error="dead_letter")
    def picky(x):
        values = x.tolist()
        if 3 in values or 13 in values:
            if how == "raises":
                raise ValueError("no thirteens")
            if how == "leaves":
                os._exit(7)
            return x[1:]
        return x

    result = table.limit(16).with_columns(y=picky("x")).to_arrow()
    assert result.column("x").to_pylist() == [x for x in range(16) if x not in (3, 13)]
    assert result.column("y") == result.column("x")
    kind = "exit" if how == "leaves" else "exception"
    assert kinds(ctx.dead_letters()) == {3: kind, 13: kind}
    if how == "raises":
        row = ctx.dead_letters().to_arrow().to_pylist()[0]
        assert (row["error_type"], row["error_message"]) == ("ValueError", "no thirteens")


def test_a_vectorised_function_names_the_row_that_killed(table):
    @al.udf("bigint", batch="numpy", retries=1)
    def picky(x, s):
        if 77 in x:
            os._exit(7)
        return x

    with pytest.raises(al.WorkerCrashed, match="ended its Python worker 2 times") as caught:
        table.select(y=picky("x", "s")).to_arrow()
    assert "row 77: x=77, s='row 77'" in str(caught.value)
    assert "rows 0 to" not in str(caught.value)


def test_rows_that_are_too_much_together_are_nobodys_fault(ctx, table):
    """Halves of a batch do well where the whole does not: no row is given up."""

    @al.udf("bigint", batch="numpy", on_error="dead_letter")
    def small(x):
        if len(x) > 60:
            os._exit(7)
        return x

    assert table.select(y=small("x")).to_arrow().num_rows == 100
    assert ctx.dead_letters().count() == 0

    @al.udf("bigint", batch="numpy", retries=0)
    def strict(x):
        if len(x) > 60:
            os._exit(7)
        return x

    with pytest.raises(al.WorkerCrashed, match="rows 0 to 99"):
        table.select(y=strict("x")).to_arrow()


@pytest.mark.parametrize("on_error", ["null", "dead_letter"])
@pytest.mark.parametrize("on_null", ["call", "skip"])
@pytest.mark.parametrize("batch", [None, "pandas"])
def test_exceptions(ctx, on_error, on_null, batch):
    """Row by row, with NULLs and small calls, whichever way a row fails."""
    values = [None if x % 5 == 0 else x for x in range(1_000)]
    table = ctx.from_arrow(pa.table({"x": pa.array(values, pa.int64())}))

    @al.udf("smallint", on_error=on_error, on_null=on_null, batch=batch, batch_rows=64)
    def picky(x):
        if batch is None:
            if x is None:
                return -1
            if x % 100 == 7:
                raise KeyError(x)
            if x % 100 == 8:
                return 100_000
            if x % 100 == 9:
                raise StopIteration
            return x
        if ((x % 100 >= 7) & (x % 100 <= 9)).any():
            raise KeyError
        return x.fillna(-1)

    def expected(x):
        if x is None:
            return None if on_null == "skip" else -1
        return None if x % 100 in (7, 8, 9) else x

    result = table.with_columns(y=picky("x")).to_arrow()
    bad = [x for x in values if x is not None and x % 100 in (7, 8, 9)]
    if on_error == "null":
        assert result.column("x").to_pylist() == values
        assert result.column("y").to_pylist() == [expected(x) for x in values]
        return
    good = [x for x in values if x not in bad]
    assert result.column("x").to_pylist() == good
    assert result.column("y").to_pylist() == [expected(x) for x in good]
    assert list(kinds(ctx.dead_letters())) == bad


@pytest.mark.parametrize("on_error", ["null", "dead_letter"])
@pytest.mark.parametrize("outer", [False, True])
def test_table_functions(ctx, table, on_error, outer):
    @al.udtf("n bigint", on_error=on_error)
    def times(x):
        if x == 3:
            return
        for n in range(x):
            if x == 50 and n == 20:
                raise ValueError("half way")
            if x == 60 and n == 10:
                os._exit(1)
            yield "no number" if x == 70 and n == 60 else n

    result = table.join_lateral(times("x"), how="left" if outer else "inner").to_arrow()
    bad = (50, 60, 70)
    expected = []
    for x in range(100):
        rows = [] if x in (*bad, 3) else list(range(x))
        if outer and not rows and (x not in bad or on_error == "null"):
            rows = [None]
        expected += [(x, n) for n in rows]
    pairs = zip(result.column("x").to_pylist(), result.column("n").to_pylist(), strict=True)
    assert list(pairs) == expected
    if on_error == "dead_letter":
        assert kinds(ctx.dead_letters()) == {50: "exception", 60: "exit", 70: "exception"}


def test_map_batches(ctx, table):
    @al.map_batches("x bigint", on_error="dead_letter")
    def odd(batch):
        if 51 in batch.column("x").to_pylist():
            raise ValueError("not this one")
        return batch.select(["x"])

    result = table.map_batches(odd).to_arrow()
    assert result.column("x").to_pylist() == [x for x in range(100) if x != 51]
    assert ctx.dead_letters().select("x", "s").collect() == [{"x": 51, "s": "row 51"}]


def test_exceptions_are_retried_where_that_is_asked_for(table, tmp_path):
    @al.udf("bigint", retries={"exception": 2}, mounts={tmp_path: "rw"})
    def flaky(x):
        tried = tmp_path / f"{x}"
        before = tried.stat().st_size if tried.exists() else 0
        if x == 57 and before < 2:
            tried.write_bytes(b"x" * (before + 1))
            raise ConnectionError
        return x

    result = table.select(y=flaky("x")).to_arrow()
    assert result.column("y").to_pylist() == list(range(100))

    @al.udf(
        "bigint",
        retries={"death": 0, "exception": 2},
        on_error="dead_letter",
        mounts={tmp_path: "rw"},
    )
    def patient(x):
        tried = tmp_path / f"row{x}"
        before = tried.stat().st_size if tried.exists() else 0
        if x == 7 or (x == 8 and before < 2):
            tried.write_bytes(b"x" * (before + 1))
            raise ConnectionError
        return x

    assert table.select(y=patient("x")).to_arrow().num_rows == 99
    assert (tmp_path / "row7").stat().st_size == 3, "three tries, and no more"

    @al.udf("bigint", mounts={tmp_path: "rw"})
    def once(x):
        with (tmp_path / "once").open("a") as file:
            file.write("x")
        raise ConnectionError

    with pytest.raises(al.UdfError):
        table.limit(1).select(y=once("x")).to_arrow()
    assert (tmp_path / "once").read_text() == "x"


def test_what_is_not_deterministic_runs_once(ctx, table, tmp_path):
    """No row twice, whatever happens; what has not begun is run on another worker."""

    @al.udf("bigint", deterministic=False, batch_rows=10, mounts={tmp_path: "rw"})
    def noted(x):
        with (tmp_path / "noted").open("a") as file:
            file.write(f"{x}\n")
        if x == 70:
            os._exit(3)
        return x

    few = table.limit(20).with_columns(y=noted("x"))
    twice = few.union(few).join(few.select("x", z="y"), on="x").agg(n="count(*)", z="sum(y - z)")
    assert twice.collect() == [{"n": 40, "z": 0}]
    lines = (tmp_path / "noted").read_text().split()
    assert sorted(map(int, lines)) == list(range(20)), "a step that is read twice runs once"
    (tmp_path / "noted").unlink()

    with pytest.raises(al.WorkerCrashed, match="deterministic=False") as caught:
        table.select(y=noted("x")).to_arrow()
    assert caught.value.diagnostic.code == "ALK2033"
    lines = (tmp_path / "noted").read_text().split()
    assert sorted(map(int, lines)) == sorted(set(map(int, lines))), "a row ran twice"
    assert "70" in lines

    @al.udf("bigint", deterministic=False, on_error="dead_letter")
    def raises(x):
        if x == 70:
            raise ValueError
        return x

    assert table.select(y=raises("x")).to_arrow().num_rows == 99
    assert kinds(ctx.dead_letters()) == {70: "exception"}


def test_too_many_errors_fail_the_job(ctx, table):
    @al.udf("bigint", on_error="dead_letter", errors_max=20)
    def never(x):
        raise ValueError(f"no {x}")

    with pytest.raises(al.UdfError, match="never failed on more than 20 rows") as caught:
        table.select(y=never("x")).to_arrow()
    assert caught.value.diagnostic.code == "ALK2031"
    assert "errors_max" in str(caught.value)

    @al.udf("bigint", on_error="dead_letter", errors_max=20, batch_rows=10)
    def late(x):
        if x >= 50:
            raise ValueError
        return x

    job = table.with_columns(y=late("x")).write_parquet("/nonexistent/out", wait=False)
    with pytest.raises(al.Error):
        job.result()
    assert job.dead_letters("late").columns[:2] == ["x", "s"], "also of a job that failed"


def test_workers_that_die_on_every_row_end_the_job(table):
    @al.udf("bigint", on_error="dead_letter", retries=0)
    def dies(x):
        os._exit(1)

    with pytest.raises(al.WorkerCrashed, match="die again and again") as caught:
        table.select(y=dies("x")).to_arrow()
    assert caught.value.diagnostic.code == "ALK2030"
    assert "17 exit" in str(caught.value)


def test_a_function_that_now_and_then_dies_ends_its_job(ctx, tmp_path):
    """Each batch goes well at its second try; ten of them are enough."""
    table = ctx.from_arrow(pa.table({"x": range(40)}))

    @al.udtf("y bigint", workers=1, mounts={tmp_path: "rw"})
    def dies_once(x):
        mark = tmp_path / str(x)
        if not mark.exists():
            mark.touch()
            os._exit(1)
        yield x

    small = al.connect(parallelism=1)
    with small:
        table = small.from_arrow(
            pa.Table.from_batches([pa.record_batch({"x": [x]}) for x in range(40)])
        )
        with pytest.raises(al.WorkerCrashed, match="workers of function dies_once die again"):
            table.flat_map(dies_once("x")).to_arrow()


def test_letters_of_several_functions_and_jobs(ctx, table):
    def fails(on, how: Any = "dead_letter"):
        @al.udf("bigint", on_error=how)
        def f(x):
            if x == on:
                raise ValueError
            return x

        return f

    first, second = fails(3), fails(4)
    second.name = "g"
    job = table.with_columns(y=first("x")).with_columns(z=second("y")).cache()
    assert job.count() == 98, "rows are left out also where nobody wants the result"
    letters = ctx.dead_letters()
    assert letters.select("x", "y", "error_function").collect() == [
        {"x": 3, "y": None, "error_function": "f"},
        {"x": 4, "y": 4, "error_function": "g"},
    ]
    assert ctx.dead_letters("g").columns[:3] == ["x", "s", "y"]
    with pytest.raises(al.PlanError, match="no function 'h'"):
        ctx.dead_letters("h")
    assert table.limit(5).with_columns(y=fails(2)("x")).count() == 4
    assert table.with_columns(y=fails(2)("x")).limit(5).to_arrow().column("x").to_pylist() == [
        0, 1, 3, 4, 5,
    ]  # fmt: skip


def test_letters_keep_a_column_of_their_name(ctx):
    table = ctx.from_arrow(pa.table({"error_kind": ["mine"], "x": [1]}))

    @al.udf("bigint", on_error="dead_letter")
    def fails(x):
        raise ValueError

    assert table.select("error_kind", y=fails("x")).count() == 0
    [row] = ctx.dead_letters().collect()
    assert (row["error_kind"], row["error_kind_1"]) == ("mine", "exception")


def test_a_trial_reports_what_a_job_would_pass_over(table):
    @al.udf("bigint", on_error="dead_letter")
    def picky(x: int) -> int:
        if x == 3:
            raise ValueError("no threes")
        return x

    report = picky.test(table)
    assert not report
    assert "no threes" in str(report)


def test_letters_of_a_server(server, tmp_path):
    with server.connect() as ctx, server.connect() as other:
        table = ctx.from_arrow(pa.table({"x": range(10)}))
        fails = al.udf("bigint", on_error="dead_letter")(lambda x: 1 // (x - 3))
        job = table.with_columns(y=fails("x")).write_parquet(tmp_path / "out", wait=False)
        job.result()
        assert job.dead_letters().select("x", "error_type").collect() == [
            {"x": 3, "error_type": "ZeroDivisionError"}
        ]
        with pytest.raises(al.PlanError, match="belongs to another connection"):
            other.engine().call("dead-letters", {"job": job.id})


def test_a_checkpoint_holds_no_letters(ctx, tmp_path):
    stream = ctx.read_generator({"x": al.generate.integer(0, 10)}, rows=100)

    def fails(how: Any):
        return al.udf("bigint", on_error=how)(lambda x: 1 // (x - 3))

    def write(how):
        stream.select(y=fails(how)("x")).write_parquet(
            tmp_path / "out", name="job", checkpoint=tmp_path / "state"
        )

    with pytest.raises(al.PlanError, match="keeps dead letters, which a job with checkpoints"):
        write("dead_letter")
    write("null")
    rows = ctx.read_parquet(tmp_path / "out").agg(n="count(*)", y="count(y)").collect()
    assert rows[0]["n"] == 100 > rows[0]["y"]


def test_setting_up_is_nobodys_row(table):
    @al.udf("bigint", on_error="dead_letter", batch="numpy")
    class Broken:
        def setup(self):
            raise RuntimeError("no model")

        def __call__(self, x):
            return x

    with pytest.raises(al.UdfError, match="no model"):
        table.select(y=Broken("x")).to_arrow()

    @al.udf("bigint", on_error="dead_letter", timeout=0.3, batch="numpy")
    class Slow:
        def setup(self):
            time.sleep(100)

        def __call__(self, x):
            return x

    with pytest.raises(al.WorkerTimeout):
        table.select(y=Slow("x")).to_arrow()


def test_output_is_bounded(ctx, table):
    @al.udf("string", output_max="1MiB")
    def long(x):
        return "x" * (x * 20_000)

    with pytest.raises(al.UdfError, match="long gave 1 MiB for one row, more than") as caught:
        table.select(y=long("x")).to_arrow()
    assert caught.value.diagnostic.code == "ALK2032"
    assert "row 53: x=53" in str(caught.value)

    @al.udtf("n bigint", output_max="4MiB")
    def endless(x):
        while True:
            yield x

    with pytest.raises(al.UdfError, match="endless gave 4 MiB for one row") as caught:
        table.flat_map(endless("x")).to_arrow()
    assert "row 0: x=0" in str(caught.value)

    @al.udf("string", output_max="1MiB", on_error="dead_letter")
    def sometimes(x):
        return "x" * ((x == 9) * 2_000_000)

    assert table.select(y=sometimes("x")).to_arrow().num_rows == 99
    assert list(kinds(ctx.dead_letters())) == [9]

    @al.map_batches("n bigint", output_max="1MiB")
    def forever(batch):
        while True:
            yield pa.record_batch({"n": range(10_000)})

    with pytest.raises(al.UdfError, match="forever gave 1 MiB for one call"):
        table.map_batches(forever).to_arrow()


def test_kills_from_outside_are_nobodys_fault(pyrunner):
    """``make soak-kills`` is the long form: two minutes without the kills."""
    kills = int(os.environ.get("ALINK_WORKER_KILLS", "5"))
    killed = random_kills(seconds=120 if kills >= 100 else 2, kills=kills)
    print(f"{killed} workers were killed")
    assert killed >= kills * 4 // 5  # chance says how many


def random_kills(seconds: float, kills: int) -> int:
    """Compare the rows of a job whose workers are ended at random with those that it must give.

    Without the kills it takes `seconds`; a kill comes about every five times that four rows take.
    Where a worker takes longer than that to be replaced, both take as much longer: otherwise no
    worker would live for four rows.
    """
    import random

    with al.connect(parallelism=1) as ctx:
        job = ctx.from_arrow(pa.table({"x": [1]})).select(y=al.udf("bigint")(lambda x: x)("x"))
        job.to_arrow()
        for worker in ctx.status()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        begun = time.monotonic()
        job.to_arrow()
        seconds = max(seconds, 3 * kills * (time.monotonic() - begun))
    batch_s = seconds / kills / 5
    rows = 4 * round(2 * seconds / batch_s)

    @al.udf("bigint", batch="numpy")
    def slow(x):
        time.sleep(batch_s / 4 * len(x))
        return x * 3

    @al.udf("string")
    def named(x):
        return f"row {x}"

    result: list[pa.Table] = []
    chance = random.Random(5)
    killed = 0
    with al.connect(parallelism=2) as ctx:
        batches = [pa.record_batch({"x": range(i, i + 4)}) for i in range(0, rows, 4)]
        table = ctx.from_arrow(pa.Table.from_batches(batches)).select(
            "x", y=slow("x"), z=named("x")
        )
        reader = threading.Thread(target=lambda: result.append(table.to_arrow()))
        reader.start()
        while reader.is_alive():
            time.sleep(chance.expovariate(kills / seconds))
            busy = [w["pid"] for w in ctx.status()["workers"] if w["busy"]]
            if busy and reader.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(busy), signal.SIGKILL)
                    killed += 1
        reader.join()
    assert result, "the job has failed"
    assert result[0].column("x").to_pylist() == list(range(rows))
    assert result[0].column("y").to_pylist() == [3 * x for x in range(rows)]
    assert result[0].column("z").to_pylist() == [f"row {x}" for x in range(rows)]
    return killed
