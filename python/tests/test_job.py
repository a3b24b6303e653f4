"""Jobs in a real engine with real workers."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import uv

import alink as al
from alink import _job
from alink._together import run_together

ROWS = 20_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A Parquet file of several row groups with NULLs, and the same in pandas."""
    rng = np.random.default_rng(7)
    table = pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "k": pa.array([None if i % 97 == 0 else f"k{i % 7}" for i in range(ROWS)]),
            "x": pa.array(rng.normal(size=ROWS), mask=rng.random(ROWS) < 0.1),
            "n": pa.array(rng.integers(-50, 50, ROWS), mask=rng.random(ROWS) < 0.1),
        }
    )
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    pq.write_table(table, path, row_group_size=3_000)
    return path, table


@pytest.fixture
def rows(shared_ctx, data):
    return shared_ctx.read_parquet(data[0])


@pytest.fixture
def expected(data):
    return data[1].to_pandas()


def by_id(table):
    return table.to_arrow().sort_by("id")


# --- relational work ---


@pytest.mark.anywhere
def test_schema_and_columns(rows, data):
    assert rows.schema == data[1].schema
    assert rows.filter("x > 0").select("id", y="x * 2").schema == pa.schema(
        [("id", pa.int64()), ("y", pa.float64())]
    )
    assert rows.drop("X").rename({"K": "key"}).columns == ["id", "key", "n"]


@pytest.mark.anywhere
def test_rows_come_back_in_order(rows, data):
    assert rows.to_arrow().equals(data[1])
    assert pa.table(rows).equals(data[1])
    assert pa.Table.from_batches(rows.iter_batches()).equals(data[1])
    assert rows.count() == ROWS
    assert rows.head(3).collect() == data[1].slice(0, 3).to_pylist()
    assert rows.limit(2, offset=5).to_arrow().column("id").to_pylist() == [5, 6]


def test_results_of_a_job_are_read_a_few_at_a_time(shared_ctx, monkeypatch):
    """An engine takes a bounded number of calls: the first must not wait for the others."""

    class Counted(_job._RowStream):
        open = most = 0

        def __init__(self, *given):
            Counted.open += 1
            Counted.most = max(Counted.most, Counted.open)
            super().__init__(*given)

        def next(self, check):
            batch = super().next(check)
            Counted.open -= batch is None
            return batch

    monkeypatch.setattr(_job, "_RowStream", Counted)
    monkeypatch.setattr(_job, "_STREAMS_MAX", 2)
    tables = [pa.table({"x": [i]}) for i in range(5)]
    assert run_together(shared_ctx, list(map(shared_ctx.from_arrow, tables)), []) == tables
    assert (Counted.open, Counted.most) == (0, 2)


@pytest.mark.anywhere
def test_filter_and_expressions(rows, expected):
    result = rows.filter((al.col("n") > 10) & al.col("k").is_in(["k1", "k2"])).to_pandas()
    want = expected[(expected.n > 10) & expected.k.isin(["k1", "k2"])]
    assert result.id.tolist() == want.id.tolist()
    assert rows.filter("n IS NULL").count() == expected.n.isna().sum()
    computed = rows.select(a=al.col("n") % 7, b=-al.col("x"), c=al.lit("it's")).head(1).collect()
    assert computed[0]["c"] == "it's"


def test_with_columns_sees_the_table_as_it_was(rows, expected):
    result = rows.with_columns(x="x + 1", y="x").head(10).to_pandas()
    assert result.columns.tolist() == ["id", "k", "x", "n", "y"]
    np.testing.assert_allclose(result.x, expected.x.head(10) + 1)
    np.testing.assert_allclose(result.y, expected.x.head(10))


@pytest.mark.anywhere
def test_join_group_sort(shared_ctx, rows, expected):
    names = pd.DataFrame({"key": ["k1", "k2", "k9"], "name": ["one", "two", "nine"]})
    result = (
        rows.join(shared_ctx.from_pandas(names), on={"k": "key"})
        .group_by("name")
        .agg({"mean x": "avg(x)"}, n="count(*)")
        .order_by("name DESC")
        .to_pandas()
    )
    merged = expected.merge(names, left_on="k", right_on="key")
    want = (
        merged.groupby("name").agg(mean=("x", "mean"), n=("id", "size")).sort_index(ascending=False)
    )
    assert result.name.tolist() == want.index.tolist()
    np.testing.assert_allclose(result["mean x"], want["mean"])
    assert result.n.tolist() == want.n.tolist()
    total = rows.agg(n="count(*)", s="sum(n)").collect()
    assert total == [{"n": ROWS, "s": expected.n.sum()}]


@pytest.mark.parametrize(("how", "count"), [("left", 3), ("semi", 1), ("anti", 2), ("full", 4)])
def test_kinds_of_join(shared_ctx, how, count):
    left = shared_ctx.from_arrow(pa.table({"a": [1, 2, None]}))
    right = shared_ctx.from_arrow(pa.table({"a": [1, 3], "b": ["x", "y"]}))
    assert left.join(right, on="a", how=how).count() == count


def test_order_by_puts_nulls_where_told(shared_ctx):
    table = shared_ctx.from_arrow(pa.table({"a": [2, None, 1]}))
    for keys, want in [
        (["a"], [1, 2, None]),
        (["a DESC"], [2, 1, None]),
        (["a NULLS FIRST"], [None, 1, 2]),
        ([al.col("a")], [1, 2, None]),
    ]:
        assert table.order_by(*keys).to_arrow().column("a").to_pylist() == want
    assert table.order_by("a", descending=True, nulls_first=True).collect()[0] == {"a": None}


@pytest.mark.anywhere
def test_show(rows, capsys):
    rows.select("id", "k").show(2)
    lines = capsys.readouterr().out.splitlines()
    assert "│  0 │ NULL" in lines[4] or "NULL" in lines[4]
    assert lines[-1] == "the first 2 rows, there are more"


@pytest.mark.anywhere
def test_tables_of_memory_can_be_used_more_than_once(shared_ctx):
    table = shared_ctx.from_arrow(
        pa.table({"a": [1, 2, 3], "d": pa.array(["x", "y", "x"]).dictionary_encode()})
    )
    joined = table.join(table.select("a", b="a * 2"), on="a")
    assert joined.order_by("a").to_arrow().column("b").to_pylist() == [2, 4, 6]
    assert table.to_arrow().column("d").to_pylist() == ["x", "y", "x"]


def test_empty_tables(shared_ctx, data):
    empty = shared_ctx.from_arrow(data[1].slice(0, 0))
    assert empty.to_arrow().schema == data[1].schema
    assert empty.count() == 0
    assert empty.agg(n="count(*)", s="sum(x)").collect() == [{"n": 0, "s": None}]


# --- Python functions ---


@al.udf("double")
def row_sum(x, n):
    return None if x is None or n is None else x + n


@al.udf("double", on_null="skip")
def row_sum_skip(x, n):
    return x + n


@al.udf("double", batch="numpy")
def numpy_sum(x, n):
    return x + n


@al.udf("double", batch="arrow")
def arrow_sum(x, n):
    import pyarrow.compute as pc

    return pc.add(x, n)


@al.udf("double")
class ClassSum:
    def setup(self):
        self.zero = 0.0

    def __call__(self, x, n):
        return None if x is None or n is None else self.zero + x + n


KINDS = [row_sum, row_sum_skip, numpy_sum, arrow_sum, ClassSum]


@pytest.mark.anywhere
@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.name)
def test_functions_and_nulls(rows, expected, function):
    table = rows.select("id", "x", "n").with_columns(y=function("x", "n"))
    assert table.schema.field("y").type == pa.float64()
    result = by_id(table)
    assert result.num_rows == ROWS
    want = (expected.x + expected.n).array
    missing = (expected.x.isna() | expected.n.isna()).to_numpy()
    got = result.column("y").combine_chunks()
    assert np.array_equal(got.is_null().to_numpy(zero_copy_only=False), missing)
    np.testing.assert_allclose(got.drop_null().to_numpy(), np.asarray(want)[~missing])
    assert result.column("id").to_pylist() == list(range(ROWS))


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.name)
def test_functions_of_no_rows(rows, function):
    result = rows.filter("id < 0").with_columns(y=function("x", "n")).to_arrow()
    assert result.num_rows == 0
    assert result.schema.field("y").type == pa.float64()


def test_functions_of_expressions_and_of_functions(rows, expected):
    @al.udf("double")
    def half(x):
        return x / 2

    table = rows.filter("x IS NOT NULL").select("id", y=half(half(al.col("x") * 4)), z="x")
    result = table.to_pandas()
    np.testing.assert_allclose(result.y, result.z)
    filtered = rows.filter("x IS NOT NULL").filter(half("x") > 0.5)
    assert filtered.count() == (expected.x > 1).sum()


def test_small_batches_give_the_same(rows):
    @al.udf("double", batch="numpy", batch_rows=7, workers=2)
    def in_sevens(x):
        assert len(x) <= 7
        return x * 2

    table = rows.limit(1000).select("id", y=in_sevens("x"), z="x * 2")
    assert by_id(table).column("y").equals(by_id(table).column("z"))


def test_types_through_functions(shared_ctx):
    import datetime
    import decimal

    columns = {
        "b": (pa.bool_(), [True, None]),
        "i": (pa.int8(), [-128, 127]),
        "s": (pa.string(), ["größe", ""]),
        "y": (pa.binary(), [b"\x00", b""]),
        "d": (pa.date32(), [datetime.date(2013, 1, 1), None]),
        "t": (pa.timestamp("us"), [datetime.datetime(2013, 1, 1, 5, 0, 0, 1), None]),
        "z": (
            pa.timestamp("us", tz="UTC"),
            [datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc), None],
        ),
        "m": (pa.decimal128(10, 2), [decimal.Decimal("1.50"), None]),
        "l": (pa.list_(pa.int32()), [[1, None], []]),
        "r": (pa.struct([("a", pa.int32())]), [{"a": 1}, None]),
    }
    data = pa.table({name: pa.array(v, t) for name, (t, v) in columns.items()})

    def same(x):
        return x

    table = shared_ctx.from_arrow(data)
    functions = {name: al.udf(type_)(same) for name, (type_, _) in columns.items()}
    result = table.with_columns({name: f(al.col(name)) for name, f in functions.items()}).to_arrow()
    assert result.to_pylist() == data.to_pylist()


@pytest.mark.anywhere
def test_map_batches(rows, expected):
    @al.map_batches("k string, length bigint", columns=["k"])
    def lengths(batch):
        kept = batch.filter(pc.is_valid(batch.column("k")))
        if kept.num_rows == 0:
            return
        yield pa.record_batch(
            {
                "k": kept.column("k"),
                "length": pa.array([len(k) for k in kept.column("k").to_pylist()]),
            }
        )

    result = rows.map_batches(lengths)
    assert result.schema == pa.schema([("k", pa.string()), ("length", pa.int64())])
    assert result.agg(n="count(*)", s="sum(length)").collect() == [
        {"n": expected.k.notna().sum(), "s": 2 * expected.k.notna().sum()}
    ]
    assert rows.filter("id < 0").map_batches(lengths).count() == 0


@pytest.mark.anywhere
def test_fit_and_use_a_model(rows, expected, tmp_path):
    def means(batches):
        total = rows_seen = 0
        for batch in batches:
            total += pc.sum(batch.column("x")).as_py() or 0
            rows_seen += batch.num_rows
        return {"mean": total / rows_seen, "rows": rows_seen}

    model = rows.fit(means, columns=["x"])
    assert model.nbytes > 0
    model.save(tmp_path / "m")

    @al.udf("double", models={"m": al.Model.load(tmp_path / "m")})
    def centred(x, m):
        return None if x is None else x - m["mean"]

    @al.udf("bigint", batch="numpy", models={"m": model})
    def seen(x, *, m):
        return np.full(len(x), m["rows"])

    result = rows.select("x", y=centred("x"), rows=seen("x")).limit(100).to_pandas()
    np.testing.assert_allclose(result.y, result.x - expected.x.sum() / ROWS)
    assert set(result["rows"]) == {ROWS}


@pytest.mark.anywhere
def test_prints_are_shown(rows, capfd):
    @al.udf("bigint")
    def says(n):
        print("hello from a worker")
        return n

    rows.limit(1).with_columns(y=says("n")).to_arrow()
    captured = capfd.readouterr()
    assert "[says] hello from a worker\n" in captured.err
    assert captured.out == ""


def test_a_gigabyte_of_prints_does_not_hide_what_others_say(shared_ctx, capfd):
    @al.udf("double", workers=1)
    def noisy(x):
        for _ in range(10):
            print("y" * 10_000_000)
        return x

    @al.udf("double", workers=1)
    def quiet(x):
        if x == 9.0:
            print("the end")
        return x

    rows = shared_ctx.from_arrow(pa.table({"x": [float(i) for i in range(10)]}))
    assert len(rows.with_columns(y=noisy("x"), z=quiet("x")).to_arrow()) == 10
    err = capfd.readouterr().err
    assert "[quiet] the end\n" in err
    assert len(err) < 2_000_000
    lines = [line for line in err.splitlines() if line.startswith("[noisy]")]
    assert all(len(line) > 4_000 for line in lines if "were left out" not in line)


def test_lines_beyond_the_limit_are_counted(shared_ctx, capfd):
    @al.udf("bigint", workers=1)
    def counts(n):
        print(n)
        return n

    rows = shared_ctx.read_generator({"n": al.generate.sequence()}, rows=1_500, batch_rows=100)
    assert len(rows.select(m=counts("n")).to_arrow()) == 1_500
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[counts]")]
    assert lines[:2] == ["[counts] 0", "[counts] 1"]
    assert len(lines) == 1_001
    assert lines[-1].startswith("[counts] 500 more lines (0.0 MiB) were left out: a function may")


@pytest.mark.anywhere
def test_a_redefined_function_is_not_served_by_old_code(rows):
    for factor in (1, 2):

        @al.udf("bigint")
        def times(x):
            return x * factor  # noqa: B023

        assert rows.filter("id = 5").select(y=times("id")).collect() == [{"y": 5 * factor}]


# --- files ---


@pytest.mark.anywhere
def test_write_parquet(rows, data, tmp_path):
    path = tmp_path / "out.parquet"
    job = rows.write_parquet(path)
    assert job.state == "succeeded"
    assert pq.read_table(path).equals(data[1])
    with pytest.raises(al.DataError, match="ALK4003") as caught:
        rows.write_parquet(path)
    assert "out.parquet" in str(caught.value)
    rows.limit(5).write_parquet(path, mode="overwrite")
    assert pq.read_table(path).num_rows == 5
    assert os.listdir(tmp_path) == ["out.parquet"]  # noqa: PTH208


@pytest.mark.anywhere
def test_failed_write_leaves_the_old_file(rows, tmp_path):
    path = tmp_path / "out.parquet"
    rows.limit(5).write_parquet(path)

    @al.udf("bigint")
    def fails_late(id):
        return 1 // (15_000 - id)

    with pytest.raises(al.UdfError):
        rows.with_columns(y=fails_late("id")).write_parquet(path, mode="overwrite")
    assert pq.read_table(path).num_rows == 5
    assert os.listdir(tmp_path) == ["out.parquet"]  # noqa: PTH208


def test_write_into_a_missing_folder(rows, tmp_path):
    with pytest.raises(al.DataError, match="ALK4004"):
        rows.write_parquet(tmp_path / "missing" / "out.parquet")


@pytest.mark.anywhere
def test_job_in_the_background(rows, tmp_path):
    @al.udf("bigint")
    def slow(id):
        time.sleep(0.01)
        return id

    job = rows.with_columns(y=slow("id")).write_parquet(tmp_path / "out.parquet", wait=False)
    assert job.state == "running"
    job.cancel()
    with pytest.raises(al.Cancelled, match="ALK5002"):
        job.result(timeout_s=10)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


# --- errors as the user sees them ---


@pytest.mark.anywhere
def test_missing_file(shared_ctx, tmp_path):
    with pytest.raises(al.DataError, match="ALK4001") as caught:
        shared_ctx.read_parquet(tmp_path / "missing.parquet").show()
    assert "missing.parquet" in str(caught.value)
    assert "test_job.py" in str(caught.value)


def test_file_that_is_no_parquet(shared_ctx):
    with pytest.raises(al.DataError, match="ALK4002"):
        shared_ctx.read_parquet(__file__).show()


@pytest.mark.anywhere
def test_unknown_column(rows):
    with pytest.raises(al.PlanError, match="ALK1001") as caught:
        rows.filter("xx > 3").show()
    text = str(caught.value)
    assert "did you mean" in text
    assert 'rows.filter("xx > 3").show()' in text, "the user's line"
    if sys.version_info >= (3, 11):
        lines = text.splitlines()
        at = next(i for i, line in enumerate(lines) if "rows.filter" in line)
        start = lines[at].index("filter")
        marked = lines[at][lines[at + 1].index("^") : lines[at + 1].rindex("^") + 1]
        assert marked in ("xx", 'filter("xx > 3")'), text
        assert lines[at + 1].index("^") >= start


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda t: t.filter("x >"), "ALK1003"),
        (lambda t: t.with_columns(y="nosuchfunction(x)"), "ALK1002"),
        (lambda t: t.filter("x > 'a' AND"), "ALK1003"),
        (lambda t: t.join(t, on="id"), "ALK1004"),
        (lambda t: t.select(y=row_sum("x", "nn")), "ALK1001"),
    ],
)
def test_plans_that_are_refused_before_they_run(rows, make, code):
    with pytest.raises(al.PlanError) as caught:
        make(rows).to_arrow()
    assert caught.value.code == code, str(caught.value)


@pytest.mark.anywhere
def test_cast_that_fails_while_running(rows):
    with pytest.raises(al.PlanError, match="ALK1007"):
        rows.select(y="k::bigint").to_arrow()


@pytest.mark.anywhere
@pytest.mark.parametrize("batch", [None, "numpy"])
def test_function_that_raises(rows, batch):
    @al.udf("double", batch=batch)
    def inverse(id):
        if batch is None:
            return 1 / (12_345 - id)
        raise ValueError("not today")

    with pytest.raises(al.UdfError, match="ALK2001") as caught:
        rows.with_columns(y=inverse("id")).to_arrow()
    text = str(caught.value)
    assert "inverse" in text
    if batch is None:
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert "return 1 / (12_345 - id)" in text, "the user's line"
        assert "row 12345: id=12345" in text
    else:
        assert isinstance(caught.value.__cause__, ValueError)
        assert str(caught.value.__cause__) == "not today"
    assert len(text.splitlines()) <= 15


def test_exception_that_is_not_builtin(rows):
    @al.udf("double")
    def fails(id):
        class MyError(Exception):
            pass

        raise MyError("special")

    with pytest.raises(al.UdfError) as caught:
        rows.with_columns(y=fails("id")).to_arrow()
    assert isinstance(caught.value.__cause__, al.RemoteException)
    assert caught.value.__cause__.message == "special"


@pytest.mark.parametrize(
    ("batch", "make", "code"),
    [
        (None, lambda x: "text", "ALK2002"),
        (None, lambda x: 1.5, "ALK2002"),
        ("numpy", lambda x: np.array(["a"] * len(x)), "ALK2002"),
        ("numpy", lambda x: x[:-1], "ALK2003"),
        ("numpy", lambda x: 7, "ALK2002"),
        ("arrow", lambda x: x.cast("string"), "ALK2002"),
    ],
)
def test_wrong_results(rows, batch, make, code):
    wrong = al.udf("bigint", batch=batch)(make)
    with pytest.raises(al.UdfError) as caught:
        rows.with_columns(y=wrong("id")).to_arrow()
    assert caught.value.code == code, str(caught.value)
    assert "bigint" in str(caught.value) or code == "ALK2003"


def test_function_that_kills_its_worker(ctx, data):
    @al.udf("bigint", retries=1)
    def deadly(id):
        import os
        import signal

        if id == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return id

    table = ctx.read_parquet(data[0])
    with pytest.raises(al.WorkerCrashed, match="ALK2004") as caught:
        table.with_columns(y=deadly("id")).to_arrow()
    text = str(caught.value)
    assert "deadly" in text
    assert "signal 9" in text
    assert table.count() == ROWS, "the engine goes on"


def test_module_that_is_missing(rows):
    @al.udf("bigint")
    def needs(id):
        import there_is_no_such_module  # noqa: F401  # pyright: ignore

        return id

    with pytest.raises(al.UdfError, match="there_is_no_such_module"):
        rows.with_columns(y=needs("id")).to_arrow()


@pytest.mark.anywhere
def test_environment_that_cannot_be_resolved(rows):
    environment = al.Environment(requirements=["numpy==1.26.4", "numpy==2.2.*"])
    function = al.udf("bigint", env=environment)(lambda x: x)
    with pytest.raises(al.EnvironmentBuildError, match="ALK3001") as caught:
        rows.with_columns(y=function("id")).to_arrow()
    assert "numpy" in str(caught.value)


# --- deaths, interrupts, leftovers ---


@pytest.mark.parametrize("batch", [None, "numpy"])
def test_killed_worker_gives_the_same_rows(ctx, tmp_path, eventually, batch):
    rows = 600_000  # several bundles for each worker

    @al.udf("bigint", batch=batch, batch_rows=5_000)
    def slow(id):
        import time

        if batch is None:
            for _ in range(60):
                pass
        else:
            time.sleep(0.03)
        return id * 2

    path = tmp_path / "out.parquet"
    table = ctx.from_arrow(pa.table({"id": range(rows)})).select("id", y=slow("id"))
    job = table.write_parquet(path, wait=False)

    def in_the_middle():
        return any(0 < o.rows_out < rows for o in job.progress().operators if o.name == "slow")

    assert eventually(in_the_middle, 60), job.progress()
    busy = [worker["pid"] for worker in ctx.status()["workers"] if worker["busy"]]
    assert busy
    os.kill(busy[0], signal.SIGKILL)
    assert job.state == "running"
    job.result()
    result = pq.read_table(path)
    assert result.column("id").equals(pa.chunked_array([range(rows)]))
    assert result.column("y").equals(pa.chunked_array([range(0, 2 * rows, 2)]))


@al.udf("bigint")
def very_slow(id):
    import time

    time.sleep(0.01)
    return id


def test_killed_engine(pyrunner, data, eventually, is_running):
    with al.connect() as ctx:
        table = ctx.read_parquet(data[0]).with_columns(y=very_slow("id"))
        died_at = []

        def kill():
            eventually(lambda: any(w["busy"] for w in ctx.status()["workers"]), 20)
            status = ctx.status()
            pids.extend([status["supervisor_pid"], *(w["pid"] for w in status["workers"])])
            died_at.append(time.monotonic())
            os.kill(ctx.engine().pid, signal.SIGKILL)

        pids = []
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(al.ConnectionLost, match="ALK5001") as caught:
            table.to_arrow()
        assert time.monotonic() - died_at[0] < 2
        assert "SIGKILL" in str(caught.value)
        killer.join()
        assert len(pids) >= 2
        assert eventually(lambda: not any(map(is_running, pids)), 3)


SCRIPT = """
    import sys
    import alink as al

    @al.udf("bigint")
    def very_slow(id):
        import time
        time.sleep(0.01)
        if id == 10:  # not of the first job
            print("begun")
        return id

    with al.connect() as ctx:
        t = ctx.read_parquet(sys.argv[1])
        t.limit(10).with_columns(y=very_slow("id")).to_arrow()
        status = ctx.status()
        pids = [status["engine_pid"], status["supervisor_pid"]]
        print(*pids, *(w["pid"] for w in status["workers"]), flush=True)
        t.with_columns(y=very_slow("id")).to_arrow()
"""


@pytest.fixture
def short_tmp():
    """A folder for TMPDIR whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="al", dir="/tmp") as folder:
        yield Path(folder)


def processes_of(mark):
    """Find processes by a variable of their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if mark.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("how", ["interrupt", "interrupt twice", "terminate", "kill"])
def test_ended_client_leaves_nothing(
    pyrunner, data, script_environment, short_tmp, eventually, is_running, how
):
    mark = f"ALINK_TEST_MARK={uuid.uuid4().hex}"
    environment = dict(script_environment, TMPDIR=str(short_tmp))
    environment["ALINK_TEST_MARK"] = mark.partition("=")[2]
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(data[0])],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    pids = [int(pid) for pid in client.stdout.readline().split()]
    assert len(pids) >= 3, "engine, supervisor and a worker"
    assert all(map(is_running, pids))
    assert client.stderr is not None
    while "begun" not in client.stderr.readline():
        assert client.poll() is None
    signals = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}
    start = time.monotonic()
    for name in how.replace(" twice", f" {how.split()[0]}").split():
        client.send_signal(signals[name])
        time.sleep(0.1)
    _, stderr = client.communicate(timeout=20)
    if how.startswith("interrupt"):
        assert time.monotonic() - start < 6
        assert "KeyboardInterrupt" in stderr
        assert client.returncode in (-signal.SIGINT, 1, 130)
    assert eventually(lambda: not any(map(is_running, pids)), 5), "processes are left"
    assert eventually(lambda: not processes_of(mark), 5), "processes are left"
    if how == "interrupt":
        assert list(short_tmp.iterdir()) == []
    assert eventually(lambda: list(short_tmp.iterdir()) == [], 5), "files are left"


def test_client_killed_while_a_statement_is_planned(
    pyrunner, script_environment, short_tmp, eventually, is_running
):
    terms = 20_000  # planned for minutes: DuckDB looks at each pair of them
    script = f"""
        import sys
        import alink as al

        with al.connect() as ctx:
            t = ctx.sql("select 1 as x")
            print(ctx.status()["engine_pid"], flush=True)
            t.filter(" and ".join(f"x != {{i + 5}}" for i in range({terms}))).to_arrow()
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=dict(script_environment, TMPDIR=str(short_tmp)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    engine = int(client.stdout.readline())
    time.sleep(3)
    assert client.poll() is None, client.communicate()
    client.kill()
    client.communicate(timeout=20)
    time.sleep(1)
    assert is_running(engine), "the statement is planned too fast for the test to show anything"
    assert eventually(lambda: not is_running(engine), 14), "the engine is left"
    assert eventually(lambda: list(short_tmp.iterdir()) == [], 2), "files are left"


@pytest.mark.parametrize(
    ("ending", "status", "last_line"),
    [
        ("sys.exit(3)", 3, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("next(t.iter_batches()); sys.exit(3)", 3, ""),
    ],
)
def test_client_that_ends_while_a_job_runs(
    pyrunner, data, script_environment, short_tmp, tmp_path, ending, status, last_line
):
    script = f"""
        import sys
        import alink as al

        @al.udf("bigint")
        def slow(id):
            import time
            time.sleep(0.01)
            return id

        t = al.read_parquet({str(data[0])!r})
        job = t.with_columns(y=slow("id")).write_parquet({str(tmp_path / "out")!r}, wait=False)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=dict(script_environment, TMPDIR=str(short_tmp)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert (done.stderr.splitlines() or [""])[-1] == last_line
    assert list(short_tmp.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@al.udf("double", retries=0)
def ends_its_worker(x):
    os._exit(3)


def test_fifty_jobs_leave_nothing(pyrunner, data, short_tmp, monkeypatch, eventually, is_running):
    monkeypatch.setenv("TMPDIR", str(short_tmp))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with al.connect() as ctx:
        engine = ctx.engine()

        def job(i):
            table = ctx.from_arrow(data[1].slice(i, 1000))
            result = (
                table.with_columns(y=row_sum("x", "n")).group_by("k").agg(s="sum(y)").to_arrow()
            )
            assert result.num_rows == 8

        def failing_job():
            with pytest.raises(al.WorkerCrashed):
                ctx.from_arrow(data[1]).with_columns(y=ends_its_worker("x")).to_arrow()

        def held():
            # Without those of workers, of which one may wait for work or two.
            files = sum(
                len(files) for folder, _, files in os.walk(short_tmp) if "/fn/" not in folder
            )
            status = ctx.status()
            processes = [status["supervisor_pid"], *(w["pid"] for w in status["workers"])]
            descriptors = len(list(Path(f"/proc/{engine.pid}/fd").iterdir()))
            return status["arrow_bytes"], files, sorted(processes), descriptors

        job(0)
        failing_job()  # its function is kept too
        job(1)
        assert eventually(lambda: held()[0] == 0), ctx.status()
        before = held()
        for i in range(50):
            if i % 10 == 5:
                failing_job()
            job(i)
        assert eventually(lambda: held()[0] == 0), ctx.status()
        after = held()
        assert after[1] <= before[1]
        assert len(after[2]) <= 1 + (os.cpu_count() or 1)  # the supervisor, and idle workers
        more = max(0, len(after[2]) - len(before[2]))
        assert after[3] <= before[3] + 2 + 6 * more
        assert not any(j.get("state") == "running" for j in ctx.status()["jobs"])
        pids = [engine.pid, *after[2]]
    assert eventually(lambda: not any(map(is_running, pids)), 3)
    assert list(short_tmp.iterdir()) == []


def test_two_engines_at_once(data):
    with al.connect() as first, al.connect() as second:
        assert first.engine().pid != second.engine().pid
        assert first.read_parquet(data[0]).count() == second.read_parquet(data[0]).count()


@pytest.mark.anywhere
def test_jobs_from_several_threads(rows):
    results = []

    def work(i):
        table = rows.filter(al.col("id") < 100 * (i + 1)).with_columns(y=row_sum("x", "n"))
        results.append((i, table.count()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(i, 100 * (i + 1)) for i in range(4)]


# --- modules that travel ---


def run_script(folder, environment, script, python=sys.executable):
    (folder / "script.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [python, "script.py"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_module_beside_the_script(pyrunner, tmp_path, script_environment):
    (tmp_path / "beside.py").write_text(
        "from deeper.part import SCALE\ndef scaled(x): return x * SCALE\n"
    )
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "part.py").write_text("SCALE = 21\n")
    (tmp_path / "udfs.py").write_text(
        "import alink as al\nfrom beside import scaled\n"
        "@al.udf('bigint')\ndef by_module(x): return scaled(x)\n"
    )
    out = run_script(tmp_path, script_environment, """
        import alink as al
        import pyarrow as pa
        import beside
        from udfs import by_module

        @al.udf("bigint")
        def in_script(x):
            return beside.scaled(x) + helper(x)

        def helper(x):
            return 0

        t = al.from_arrow(pa.table({"x": [1, 2]}))
        print(t.with_columns(y=in_script("x"), z=by_module("x")).collect())
    """)  # fmt: skip
    assert eval(out) == [{"x": 1, "y": 21, "z": 21}, {"x": 2, "y": 42, "z": 42}]


def test_an_edited_module_is_not_served_by_old_code(pyrunner, tmp_path, script_environment):
    out = run_script(tmp_path, script_environment, """
        import importlib, pathlib, sys
        import alink as al
        import pyarrow as pa
        sys.dont_write_bytecode = True

        t = al.from_arrow(pa.table({"x": [1, 2]}))

        @al.udf("bigint")
        def by_module(x):
            import edited_lazily
            return edited.number() * x + edited_lazily.NUMBER

        for number in (1, 2, 1):  # the third time, the first folder again
            pathlib.Path("edited.py").write_text(f"def number(): return {number}")
            pathlib.Path("edited_lazily.py").write_text(f"NUMBER = {number * 10}")
            importlib.invalidate_caches()
            import edited, edited_lazily
            importlib.reload(edited)
            importlib.reload(edited_lazily)
            print([row["y"] for row in t.with_columns(y=by_module("x")).collect()])
    """)  # fmt: skip
    assert out.split("\n")[:3] == ["[11, 12]", "[22, 24]", "[11, 12]"]


def test_child_of_a_function_ends(rows):
    @al.udf("bigint")
    def forks(id):
        import os
        import sys

        child = os.fork()
        if child == 0:
            sys.exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    table = rows.limit(3).select(y=forks("id")).to_arrow()
    assert table.column("y").to_pylist() == [7, 7, 7]


def test_rows_that_are_given_up_end_their_job(ctx, eventually):
    table = ctx.from_arrow(pa.table({"x": range(3_000_000)}))
    iterator = table.iter_batches()
    del iterator
    assert eventually(lambda: [job["state"] for job in ctx.status()["jobs"]] == ["cancelled"], 10)


@pytest.mark.parametrize("kind", ["path", "finder"])
def test_editable_install(pyrunner, tmp_path, script_environment, kind):
    """A package that pip has installed in editable mode, in both of the ways it knows."""
    project = tmp_path / "project"
    source = project / "src" / "editable_package"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("from .inner import triple\n")
    (source / "inner.py").write_text("def triple(x): return 3 * x\n")
    # A whole source folder goes on the path; a single package gets an import finder.
    where = '"" = "src"' if kind == "path" else '"editable_package" = "src/editable_package"'
    (project / "pyproject.toml").write_text(textwrap.dedent(f"""
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "editable-package"
        version = "1"
        [tool.setuptools]
        packages = ["editable_package"]
        package-dir = {{ {where} }}
    """))  # fmt: skip
    # An environment of the test's own, which sees this one's packages.
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "outer.pth").write_text("\n".join(packages))
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "--editable", project], check=True)
    finders = [path.name for path in site.glob("__editable__*finder.py")]
    assert bool(finders) == (kind == "finder")
    environment = script_environment
    (tmp_path / "elsewhere").mkdir()
    out = run_script(tmp_path / "elsewhere", environment, python=python, script="""
        import alink as al
        import pyarrow as pa
        from editable_package import triple

        @al.udf("bigint")
        def here(x):
            return triple(x)

        @al.udf("bigint", env=al.Environment(requirements=[]))
        def there(x):
            import importlib.util
            assert importlib.util.find_spec("pandas") is None
            return triple(x)

        t = al.from_arrow(pa.table({"x": [1, 2]}))
        print(t.with_columns(y=here("x"), z=there("x")).collect())
    """)  # fmt: skip
    assert eval(out) == [{"x": 1, "y": 3, "z": 3}, {"x": 2, "y": 6, "z": 6}]


def test_another_python(rows):
    """Source text is sent to a Python of another minor version."""
    minor = 12 if sys.version_info.minor != 12 else 11
    environment = al.Environment(python=f"3.{minor}")

    @al.udf("double", env=environment)
    def version_and_root(x):
        import sys

        return sys.version_info.minor + math.sqrt(x)

    try:
        result = rows.filter("id = 4").select(y=version_and_root("id")).collect()
    except al.EnvironmentBuildError as error:
        if error.code == "ALK3003":
            pytest.skip(f"there is no Python 3.{minor} on this machine")
        raise
    assert result == [{"y": minor + 2.0}]
