"""What crosses to workers by shared memory, and by gRPC where that is asked for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import alink as al

ROWS = 2_000_000  # many batches that are too large for the socket
BATCH_ROWS = 20_000
SEGMENTS_MAX = 12  # of a worker


@pytest.fixture(scope="module")
def numbers():
    return pa.table({"x": np.arange(ROWS, dtype=np.float64)})


class KeepsArrays:
    """Keeps what it got, and checks at every call that nothing of it has changed."""

    def setup(self):
        self.kept = []

    def __call__(self, x):
        for first, piece in self.kept:
            assert piece[0] == first
            assert piece[-1] == first + len(piece) - 1
        self.kept.append((float(x[10]), x[10:]))
        return x * 2


class KeepsViews:
    """Keeps memoryviews of the arrays."""

    def setup(self):
        self.kept = []

    def __call__(self, x):
        for first, view in self.kept:
            assert view[0] == first
        view = memoryview(np.asarray(x))  # pyright: ignore[reportArgumentType]
        self.kept.append((view[0], view))
        return x * 2


class KeepsSeries:
    def setup(self):
        self.kept = []

    def __call__(self, x):
        for first, series in self.kept:
            assert series.iloc[0] == first
        self.kept.append((x.iloc[0], x))
        return x * 2


class KeepsCycles:
    """Keeps arrays in garbage that only the collector finds."""

    def __call__(self, x):
        knot = [x]
        knot.append(knot)
        return x * 2


class KeepsArrow:
    def setup(self):
        self.kept = []

    def __call__(self, x):
        for first, array in self.kept:
            assert array[0].as_py() == first
        self.kept.append((x[5].as_py(), x.slice(5)))
        return pa.array(x.to_numpy() * 2)


@pytest.mark.parametrize(
    ("keeps", "batch"),
    [
        (KeepsArrays, "numpy"),
        (KeepsViews, "numpy"),
        (KeepsCycles, "numpy"),
        (KeepsSeries, "pandas"),
        (KeepsArrow, "arrow"),
    ],
)
def test_what_a_function_keeps_stays_as_it_was(shared_ctx, numbers, keeps, batch):
    double = al.udf("double", batch=batch, batch_rows=BATCH_ROWS, workers=1)(keeps)
    got = shared_ctx.from_arrow(numbers).select(y=double("x")).to_arrow()
    assert np.array_equal(got["y"].to_numpy(), np.arange(ROWS) * 2.0)


def test_large_and_small_values(shared_ctx):
    texts = ["x" * n for n in (0, 1, 70_000, 5_000_000, 20_000_000, 3)]
    shout = al.udf("string")(lambda t: t.upper())
    got = shared_ctx.from_arrow(pa.table({"t": texts})).select(y=shout("t")).to_arrow()
    assert got["y"].to_pylist() == [t.upper() for t in texts]


def segments_of_engine(ctx):
    """Count the segments that the engine has open."""
    folder = f"/proc/{ctx.engine().pid}/fd"
    count = 0
    for descriptor in Path(folder).iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            count += "alink-slot" in str(descriptor.readlink())
    return count


def segments_of_worker(pid):
    """Count the segments that a worker has mapped."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended meanwhile
    return sum("alink-slot" in line for line in maps.splitlines())


def nothing_is_left(ctx, arrow_bytes):
    """Tell whether segments are those of the workers that live, and no rows are kept."""
    status = ctx.status()
    of_workers = [segments_of_worker(worker["pid"]) for worker in status["workers"]]
    counts = segments_of_engine(ctx), sum(of_workers), status["segments"]
    return (
        max(of_workers, default=0) <= SEGMENTS_MAX
        and len(set(counts)) == 1
        and status["arrow_bytes"] <= arrow_bytes
    )


def test_jobs_leave_no_memory_behind(ctx, eventually, tmp_path):
    """Segments are those of the workers that are kept warm, however jobs have ended."""
    table = ctx.from_arrow(pa.table({"x": np.arange(20_000.0)}))  # too large for the socket
    double = al.udf("double", batch="numpy")(lambda x: x * 2)
    table.select(y=double("x")).to_arrow()
    before = ctx.status()
    assert before["segments"] > 0
    arrow_bytes = before["arrow_bytes"] + 100_000

    for _ in range(1000):
        table.select(y=double("x")).to_arrow()
    assert eventually(lambda: nothing_is_left(ctx, arrow_bytes), timeout_s=30)

    @al.udf("double", batch="numpy", retries=0)
    def kills(x):
        import os

        os.kill(os.getpid(), 9)

    for _ in range(5):
        with pytest.raises(al.WorkerCrashed):
            table.select(y=kills("x")).to_arrow()
    assert eventually(lambda: nothing_is_left(ctx, arrow_bytes), timeout_s=30)

    many = ctx.from_arrow(pa.table({"x": np.arange(2_000_000.0)}))
    arrow_bytes += 17_000_000
    slow = al.udf("double", batch="numpy", batch_rows=20_000)(_slowly_doubled)
    for n in range(20):
        job = many.select(y=slow("x")).write_parquet(tmp_path / f"{n}.parquet", wait=False)
        time.sleep(0.01 * n)
        job.cancel()
        with pytest.raises(al.Cancelled):
            job.result()
    assert eventually(lambda: nothing_is_left(ctx, arrow_bytes), timeout_s=30)


def _slowly_doubled(x):
    time.sleep(0.05)
    return x * 2


def test_the_portable_lane_gives_the_same(script_environment, tmp_path):
    """All that crosses, crosses by gRPC too."""
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, sys
            import numpy as np, pyarrow as pa, alink as al

            @al.udf("bigint")
            def grpc_is_loaded(x):
                import sys
                return int("grpc" in sys.modules)

            @al.udf("double", batch="numpy")
            def double(x):
                print("doubling")
                return x * 2

            with al.connect() as ctx:
                t = ctx.from_arrow(pa.table({"x": np.arange(300_000.0)}))
                got = t.select(y=double("x"), g=grpc_is_loaded("x")).to_arrow()
                print(json.dumps([got["y"].to_numpy().sum(), got["g"].unique().to_pylist()]))
            """
        )
    )
    for lane, loaded in (("local", [0]), ("portable", [1])):
        done = subprocess.run(
            [sys.executable, str(script)], env=script_environment | {"ALINK_LANE": lane},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        total, seen = json.loads(done.stdout.splitlines()[-1])
        assert total == sum(range(300_000)) * 2
        assert seen == loaded, lane
