"""Functions that get tables whole, and functions of whole tables."""

from __future__ import annotations

import datetime
import decimal
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import alink as al
from alink import generate

ROWS = 20_000


@pytest.fixture(scope="module")
def ctx(pyrunner):
    with al.connect(parallelism=2) as ctx:
        yield ctx


def kept_files(folder):
    """List the tables that lie in a spill folder."""
    return list(folder.glob(".alink-tables.*/*/*"))


@al.map_table("mean double, rows bigint", columns=["x"])
def train(batches):
    total = rows = 0
    for batch in batches:
        total += pc.sum(batch["x"]).as_py() or 0
        rows += batch.num_rows
    yield pa.record_batch({"mean": [total / rows if rows else None], "rows": [rows]})


@al.map_batches("x double, above boolean", columns=["x"])
def predict(batch, model):
    mean = model["mean"][0]
    return pa.table({"x": batch["x"], "above": pc.greater(batch["x"], mean)})


@al.map_batches("n bigint", columns=["x"])
def count_beside(batch, beside):
    return pa.table({"n": pa.array([beside.num_rows] * batch.num_rows, pa.int64())})


def numbers(rows=ROWS):
    return pa.table({"x": np.arange(rows, dtype=np.float64), "name": ["größe"] * rows})


# --- what a function gets ---

EVERY_TYPE = pa.table(
    {
        "größe": pa.array([1, None, 3], pa.int32()),
        "text 🙂": pa.array(["ä", None, "日本"]),
        "list": pa.array([[1.5, None], None, []], pa.list_(pa.float64())),
        "row": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "é"}]),
        "when": pa.array([datetime.datetime(2024, 2, 29), None, None], pa.timestamp("us")),
        "money": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(10, 2)),
        "flag": pa.array([True, None, False]),
        "bytes": pa.array([b"\x00\xff", None, b""], pa.binary()),
    }
)


@pytest.mark.anywhere
@pytest.mark.parametrize("rows", [3, 0])
def test_a_table_comes_whole(shared_ctx, rows):
    given = EVERY_TYPE.slice(0, rows)

    def give_back(batch, beside):
        if not isinstance(beside, pa.Table) or beside.num_rows != rows:
            raise TypeError(beside)
        return beside

    one_row = shared_ctx.from_arrow(pa.table({"i": [1]}))
    beside = shared_ctx.from_arrow(given)
    whole = al.map_batches(beside.schema)(give_back)
    out = one_row.map_batches(whole, tables={"beside": beside}).to_arrow()
    assert out.equals(beside.to_arrow())

    as_input = al.map_table(beside.schema)(lambda batches: batches)
    assert beside.map_table(as_input).to_arrow().equals(beside.to_arrow())


@pytest.mark.anywhere
def test_train_and_predict_in_one_job(shared_ctx, tmp_path):
    """The model is the result of a function, of the same rows that it is applied to."""
    expected = [x > (ROWS - 1) / 2 for x in range(ROWS)]
    pq.write_table(numbers(), tmp_path / "x.parquet", row_group_size=1000)
    for t in (
        shared_ctx.from_arrow(numbers()),
        shared_ctx.read_parquet(tmp_path / "x.parquet"),
        shared_ctx.from_arrow(numbers()).filter("x >= 0").with_columns(z="x * 2"),
    ):
        result = t.map_batches(predict, tables={"model": t.map_table(train)})
        before = len(shared_ctx.status()["jobs"])
        out = result.to_arrow()
        assert len(shared_ctx.status()["jobs"]) == before + 1
        assert out["above"].to_pylist() == expected
        assert out["x"].to_pylist() == list(range(ROWS))


def test_the_same_table_twice(ctx):
    """All comes of one source, which is read once and goes to three readers."""

    @al.udf("double")
    def once(x):
        return x + 1

    t = ctx.from_arrow(numbers()).select(x=once("x"))

    @al.map_batches("x double, a bigint, b double")
    def both(batch, a, b):
        rows = batch.num_rows
        return pa.table(
            {"x": batch["x"], "a": [a.num_rows] * rows, "b": [pc.max(b["x"]).as_py()] * rows}
        )

    out = t.map_batches(both, tables={"a": t, "b": t.limit(10)}).to_arrow()
    assert out["x"].to_pylist() == [x + 1.0 for x in range(ROWS)]
    assert set(out["a"].to_pylist()) == {ROWS}
    assert set(out["b"].to_pylist()) == {10.0}


def test_input_without_rows(ctx, tmp_path):
    nothing = ctx.from_arrow(numbers(0))
    model = nothing.map_table(train)
    assert model.collect() == [{"mean": None, "rows": 0}]
    out = nothing.map_batches(predict, tables={"model": model}).to_arrow()
    assert (out.num_rows, out.schema.names) == (0, ["x", "above"])
    rows = ctx.from_arrow(numbers(3))
    out = rows.map_batches(count_beside, tables={"beside": nothing})
    assert out.collect() == [{"n": 0}] * 3


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(ctx, library):
    pytest.importorskip(library)
    given = pa.table({"k": ["a", "b", None], "größe": [1, None, 3]})

    class Frames:
        def setup(self):
            self.calls = 0

        def __call__(self, batch, beside):
            self.calls += 1
            assert type(beside).__module__.startswith(library)
            assert list(beside.columns) == ["k", "größe"]
            total = int(beside["größe"].sum())
            # A column of its own, which the next call does not see.
            if library == "pandas":
                beside["new"] = 1
                return batch.assign(total=total)
            beside.insert_column(0, batch["x"].head(1).extend_constant(1.0, 2).rename("new"))
            return batch.with_columns(total=total)

    frames = al.map_batches(
        "x double, total bigint", columns=["x"], batch=library, batch_rows=1000
    )(Frames)
    t = ctx.from_arrow(numbers()).map_batches(frames, tables={"beside": ctx.from_arrow(given)})
    out = t.to_arrow()
    assert out["x"].to_pylist() == list(range(ROWS))
    assert set(out["total"].to_pylist()) == {4}

    @al.map_table("rows bigint, most bigint", batch=library, columns=["x"])
    def shape(frames, beside):
        rows = 0
        for frame in frames:
            assert type(frame).__module__.startswith(library)
            rows += len(frame)
        return pa.table({"rows": [rows], "most": [int(beside["größe"].max())]})

    t = ctx.from_arrow(numbers())
    out = t.map_table(shape, tables={"beside": ctx.from_arrow(given)})
    assert out.collect() == [{"rows": ROWS, "most": 3}]


def test_tables_and_models(ctx):
    model = ctx.from_arrow(numbers(10)).fit(lambda batches: sum(b.num_rows for b in batches))

    @al.map_batches("y double", columns=["x"], models={"m": model})
    def use(batch, *, m, beside):
        return pa.table({"y": pc.add(batch["x"], m + beside.num_rows)})

    t = ctx.from_arrow(numbers(3))
    assert t.map_batches(use, tables={"beside": t}).collect() == [{"y": 13.0 + i} for i in range(3)]
    with pytest.raises(al.PlanError, match='use has a model and a table named "m"'):
        t.map_batches(use, tables={"m": t, "beside": t})


# --- functions of whole tables ---


def test_batches_come_in_order_and_as_they_are_made(ctx):
    """The first are read before the last are there."""

    @al.udf("double", batch="numpy", batch_rows=1000)
    def slow(x):
        time.sleep(0.02)
        return x

    @al.map_table("first double, at double")
    def firsts(batches):
        for batch in batches:
            yield pa.table({"first": [batch["x"][0].as_py()], "at": [time.time()]})
        yield pa.table({"first": [-1.0], "at": [time.time()]})

    parts = [numbers().select(["x"]).slice(i, 1000) for i in range(0, ROWS, 1000)]
    t = ctx.from_arrow(pa.concat_tables(parts)).select(x=slow("x"))
    out = t.map_table(firsts).to_arrow()
    first, at = out["first"].to_pylist(), out["at"].to_pylist()
    assert first[:-1] == sorted(first[:-1])
    assert first[0] == 0
    assert at[-1] - at[0] > 0.05


def test_what_a_function_of_a_table_gives(ctx):
    t = ctx.from_arrow(numbers(10))
    for give, rows in (
        (lambda batches: None, 0),
        (lambda batches: [], 0),
        (lambda batches: [pa.table({"y": [1.0]}), pa.record_batch({"y": [2.0, 3.0]})], 3),
        (lambda batches: (b.select(["x"]).rename_columns(["y"]) for b in batches), 10),
    ):
        assert t.map_table(al.map_table("y double")(give)).count() == rows
    with pytest.raises(al.UdfError, match="returned a table of the columns z where y is expected"):
        t.map_table(al.map_table("y double")(lambda b: pa.table({"z": [1.0]}))).collect()
    with pytest.raises(al.UdfError, match="returned int where a RecordBatch, a Table or"):
        t.map_table(al.map_table("y double")(lambda b: 1)).collect()
    huge = al.map_table("y double", output_max="1MiB")(
        lambda b: pa.table({"y": np.zeros(1_000_000)})
    )
    with pytest.raises(al.UdfError, match="more than its limit of 1 MiB"):
        t.map_table(huge).collect()

    def wrong(batches):
        next(batches)
        raise ValueError("no such thing")

    with pytest.raises(al.UdfError, match="no such thing"):
        t.map_table(al.map_table("y double")(wrong)).collect()


def test_a_function_of_a_table_has_a_time_limit_where_it_asks_for_one(ctx):
    @al.map_table("y double", timeout=0.5)
    def forever(batches):
        threading.Event().wait()

    with pytest.raises(al.WorkerTimeout):
        ctx.from_arrow(numbers(10)).map_table(forever).collect()


def test_mistakes_in_options_of_functions_of_tables(ctx):
    with pytest.raises(al.PlanError, match="on_error"):
        al.map_table("y double", on_error="dead_letter")
    with pytest.raises(al.PlanError, match="workers"):
        al.map_table("y double", workers=2)  # pyright: ignore[reportCallIssue]
    with pytest.raises(al.PlanError, match=r"map_table takes a function made with @al.map_table"):
        ctx.from_arrow(numbers(1)).map_table(predict)


# --- names ---


def test_names_of_tables(ctx):
    t = ctx.from_arrow(numbers(3))
    with pytest.raises(al.PlanError, match='no parameter "modle" for the table') as caught:
        t.map_batches(predict, tables={"modle": t})
    assert "did you mean model?" in str(caught.value)
    with pytest.raises(al.PlanError, match='the parameter "batch" of predict gets its own rows'):
        t.map_batches(predict, tables={"batch": t, "model": t})
    with pytest.raises(al.PlanError, match='predict needs a value for its parameter "model"'):
        t.map_batches(predict)
    with pytest.raises(al.PlanError, match="must be a dict of names to tables"):
        t.map_batches(predict, tables=[t])
    with pytest.raises(al.PlanError, match=r"tables\['model'\] takes a table, not Table"):
        t.map_batches(predict, tables={"model": numbers()})
    with al.connect() as other, pytest.raises(al.PlanError, match="different connections"):
        t.map_batches(predict, tables={"model": other.from_arrow(numbers(1))})
    with pytest.raises(al.PlanError, match='train has no parameter "init"'):
        t.map_table(train, tables={"init": t})

    @al.map_batches("n bigint", columns=["x"])
    def any_names(batch, optional=None, **tables):
        return pa.table({"n": [len(tables)] * batch.num_rows})

    assert t.map_batches(any_names).collect() == [{"n": 0}] * 3
    assert t.map_batches(any_names, tables={"größe": t, "b": t}).collect() == [{"n": 2}] * 3


# --- plans ---


def test_plans_tell_of_tables(ctx, tmp_path):
    pq.write_table(numbers(), tmp_path / "x.parquet")
    pq.write_table(EVERY_TYPE, tmp_path / "beside.parquet")
    t = ctx.read_parquet(tmp_path / "x.parquet")
    beside = ctx.read_parquet(tmp_path / "beside.parquet")

    @al.map_batches("n bigint", columns=["x"])
    def columns_beside(batch, beside):
        return pa.table({"n": [beside.num_columns] * batch.num_rows})

    result = t.map_batches(columns_beside, tables={"beside": beside})
    lines = result.explain().splitlines()
    assert lines[0] == "map_batches columns_beside(x) tables=beside"
    assert [line.split()[0] for line in lines[1:]] == ["read_parquet", "read_parquet"]
    assert result.schema == pa.schema([("n", pa.int64())])
    # The function's own input is read as far as it needs it, the other whole.
    assert result.limit(1).collect() == [{"n": EVERY_TYPE.num_columns}]
    costs = result.explain(analyze=True)
    assert "1 of 2 columns: x" in costs
    assert "table beside" in costs
    assert "for columns_beside" in costs


def test_nothing_is_read_for_nobody(ctx):
    """Once a limit has what it wants nobody waits for what else might come."""
    endless = ctx.read_generator({"x": generate.sequence()}, rows=10**9, rows_per_second=1000)
    nothing = ctx.from_arrow(numbers(0))
    begun = time.monotonic()
    out = nothing.map_batches(count_beside, tables={"beside": endless.select("x")})
    assert out.count() == 0
    assert time.monotonic() - begun < 30


# --- workers ---


@pytest.mark.parametrize("whole", [False, True])
def test_a_worker_that_is_killed_in_the_middle(ctx, tmp_path, whole):
    """The one in its place gets the tables too, and the result is the same."""
    folder, rows = str(tmp_path), ROWS

    def killed_once(at):
        mark = f"{folder}/{at}"
        if not os.path.exists(mark):  # noqa: PTH110
            open(mark, "w").close()  # noqa: PTH123
            os.kill(os.getpid(), signal.SIGKILL)

    @al.map_batches("y double", columns=["x"], batch_rows=500, mounts={folder: "rw"})
    def add(batch, beside):
        if batch["x"][0].as_py() >= rows / 2:
            killed_once("add")
        return pa.table({"y": pc.add(batch["x"], float(beside.num_rows))})

    @al.map_table("y double", columns=["x"], mounts={folder: "rw"})
    def add_all(batches, beside):
        for batch in batches:
            yield pa.table({"y": pc.add(batch["x"], float(beside.num_rows))})
            if batch["x"][-1].as_py() >= rows / 2:
                killed_once("add_all")

    parts = [numbers().slice(i, 1000) for i in range(0, rows, 1000)]
    t = ctx.from_arrow(pa.concat_tables(parts))
    beside = t.filter("x < 100")
    if whole:
        out = t.map_table(add_all, tables={"beside": beside})
    else:
        out = t.map_batches(add, tables={"beside": beside})
    assert out.to_arrow()["y"].to_pylist() == [x + 100.0 for x in range(rows)]
    assert len(list(tmp_path.iterdir())) == 1, "no worker was killed"


def test_rows_that_fail_beside_a_table(ctx):
    """Whichever part of a batch is tried again, on whichever worker, the table is there."""

    @al.map_batches("y double", columns=["x"], on_error="dead_letter")
    def picky(batch, beside):
        x = batch["x"].to_pylist()
        if 77.0 in x:
            raise ValueError("no 77")
        if 99.0 in x:
            os._exit(7)
        return pa.table({"y": [value + beside.num_rows for value in x]})

    t = ctx.from_arrow(numbers(200))
    out = t.map_batches(picky, tables={"beside": t.limit(5)})
    assert out.to_arrow()["y"].to_pylist() == [x + 5.0 for x in range(200) if x not in (77, 99)]
    assert sorted(row["x"] for row in ctx.dead_letters().collect()) == [77.0, 99.0]


def test_a_worker_that_dies_each_time(ctx):
    @al.map_table("y double", retries=1)
    def dies(batches):
        next(batches)
        os._exit(7)

    with pytest.raises(al.WorkerCrashed):
        ctx.from_arrow(numbers(10)).map_table(dies).collect()


def test_stages_with_tables_share_workers():
    """Each gets its own table, whichever worker it is on."""

    @al.map_batches("x double")
    def add(batch, beside):
        return pa.table({"x": pc.add(batch["x"], float(beside.num_rows))})

    with al.connect(parallelism=1) as ctx:
        parts = [numbers().select(["x"]).slice(i, 1000) for i in range(0, ROWS, 1000)]
        t = ctx.from_arrow(pa.concat_tables(parts))
        out = t
        for rows in (1, 10, 100):
            out = out.map_batches(add, tables={"beside": t.limit(rows)})
        assert out.to_arrow()["x"].to_pylist() == [x + 111.0 for x in range(ROWS)]
        assert len(ctx.status()["workers"]) == 1


def test_a_large_table_is_not_copied_for_each_worker(pyrunner, tmp_path):
    """It is mapped into memory: 200 MB beside two workers of 192 MiB each, and a small engine."""
    rows = 25_000_000
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"v": np.arange(rows, dtype=np.float64)}), path)

    @al.map_batches("y double", columns=["x"], batch_rows=1000, memory="192MiB")
    def pick(batch, beside):
        assert beside.nbytes >= 200_000_000
        if batch["x"][0].as_py() % 5000 == 0:  # all of it is looked at
            assert pc.sum(beside["v"]).as_py() > 0
        # Not take, for which Arrow puts all chunks together.
        return pa.table({"y": [beside["v"][int(x)].as_py() for x in batch["x"].to_pylist()]})

    parts = [numbers().slice(i, 1000) for i in range(0, ROWS, 1000)]
    with al.connect(parallelism=2, memory="256MiB", spill_dir=tmp_path) as ctx:
        t = ctx.from_arrow(pa.concat_tables(parts))
        out = t.map_batches(pick, tables={"beside": ctx.read_parquet(path)})
        assert out.to_arrow()["y"].to_pylist() == list(range(ROWS))
        assert not kept_files(tmp_path)


# --- what is left behind ---


def test_files_go_with_their_job(pyrunner, tmp_path, eventually):
    @al.map_batches("y double", columns=["x"])
    def fails(batch, beside):
        raise ValueError("no")

    @al.map_batches("y double", columns=["x"], timeout=None)
    def forever(batch, beside):
        threading.Event().wait()

    with al.connect(spill_dir=tmp_path) as ctx:
        t = ctx.from_arrow(numbers(10))
        t.map_batches(count_beside, tables={"beside": t}).collect()
        assert not kept_files(tmp_path)
        with pytest.raises(al.UdfError):
            t.map_batches(fails, tables={"beside": t}).collect()
        assert not kept_files(tmp_path)
        with pytest.raises(al.PlanError):
            t.map_batches(count_beside, tables={"beside": t}).select("nothing").collect()
        assert not kept_files(tmp_path)
        job = t.map_batches(forever, tables={"beside": t}).write_parquet(
            tmp_path / "out.parquet", wait=False
        )
        assert eventually(lambda: any(f.stat().st_size for f in kept_files(tmp_path)), 30)
        job.cancel()
        with pytest.raises(al.Cancelled):
            job.result(30)
        assert not kept_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys, threading
import pyarrow as pa
import alink as al

@al.map_batches("y double", timeout=None)
def forever(batch, beside):
    threading.Event().wait()

ctx = al.connect(spill_dir=sys.argv[1])
t = ctx.from_arrow(pa.table({"x": [1.0]}))
print("begun", flush=True)
t.map_batches(forever, tables={"beside": t}).collect()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_is_ended_leaves_no_tables(pyrunner, tmp_path, eventually, how):
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert client.stdout is not None
    client.stdout.readline()
    assert eventually(lambda: any(f.stat().st_size for f in kept_files(tmp_path)), 30)
    client.send_signal(how)
    client.communicate(timeout=30)
    assert eventually(lambda: list(tmp_path.iterdir()) == [], 10), "files are left"


def test_tables_of_an_engine_that_was_killed(pyrunner, tmp_path, eventually):
    """The next engine with the same folder removes them, and those of one that lives stay."""
    with al.connect(spill_dir=tmp_path) as ctx:
        ctx.from_arrow(numbers(1)).count()
        (kept,) = tmp_path.glob(".alink-tables.*")
        left = tmp_path / ".alink-tables.left.alink-part" / "domain"
        left.mkdir(parents=True)
        (left / "1.arrow").touch()
        others = tmp_path / "tables-of-others"
        others.mkdir()
        with al.connect(spill_dir=tmp_path) as other:
            assert other.from_arrow(numbers(1)).count() == 1
            assert not left.parent.exists()
            assert kept.exists()
        assert {kept, others} <= set(tmp_path.iterdir())


# --- streams ---


def test_an_endless_input_with_a_table(ctx):
    stream = ctx.read_generator({"x": generate.sequence()}, batch_rows=100)
    for beside in (ctx.from_arrow(numbers(7)), stream.limit(7), stream.limit(1_000_000)):
        rows = stream.with_columns(x="x::double").map_batches(
            count_beside, tables={"beside": beside}
        )
        assert rows.unbounded
        expected = 7 if beside.explain().startswith(("table", "limit 7")) else 1_000_000
        for batch in itertools.islice(rows.iter_batches(), 3):
            assert set(batch["n"].to_pylist()) == {expected}
    with pytest.raises(al.PlanError, match="count_beside gets its table beside whole, but a str"):
        ctx.from_arrow(numbers(7)).map_batches(count_beside, tables={"beside": stream})
    with pytest.raises(al.PlanError, match="map_table needs the end of its input"):
        stream.map_table(train)


def test_a_table_of_a_job_with_checkpoints_is_read_anew(ctx, tmp_path, eventually):
    """A restored job goes on with its own rows, and reads the table as it is then."""
    pq.write_table(numbers(3), tmp_path / "beside.parquet")

    def start(rate, wait):
        stream = ctx.read_generator(
            {"n": generate.sequence()}, rows=2000, rows_per_second=rate, batch_rows=10
        )
        beside = ctx.read_parquet(tmp_path / "beside.parquet").order_by("x")
        rows = stream.select("n", x="n::double").map_batches(
            with_count, tables={"beside": beside, "own": stream.limit(5)}
        )
        return rows.write_parquet(
            tmp_path / "out", name="j", checkpoint=tmp_path / "state",
            checkpoint_interval="50 ms", wait=wait,
        )  # fmt: skip

    @al.map_batches("x double, beside bigint, own bigint")
    def with_count(batch, beside, own):
        rows = batch.num_rows
        return pa.table(
            {"x": batch["x"], "beside": [beside.num_rows] * rows, "own": [own.num_rows] * rows}
        )

    job = start(500, False)
    assert eventually(lambda: job.metrics().get("checkpoints", {}).get("completed", 0) >= 3, 60)
    job.cancel()
    with pytest.raises(al.Cancelled):
        job.result(60)
    pq.write_table(numbers(4), tmp_path / "beside.parquet")
    assert start(None, True).metrics()["checkpoints"]["restored"] >= 3
    files = sorted((tmp_path / "out").iterdir())
    got = pa.concat_tables(pq.read_table(f) for f in files)
    assert got["x"].to_pylist() == [float(n) for n in range(2000)]
    assert set(got["own"].to_pylist()) == {5}
    counts = got["beside"].to_pylist()
    assert counts == sorted(counts)
    assert set(counts) == {3, 4}
