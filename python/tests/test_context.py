"""Contexts and their engines: threads, their end, odd surroundings."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

import alink as al
from alink._engine import EmbeddedEngine


def test_a_context_serves_many_threads_at_once(pyrunner):
    with al.connect() as ctx:
        barrier = threading.Barrier(8)
        shared = ctx.from_arrow(pa.table({"x": range(1_000)}))

        def work(i):
            barrier.wait()  # the engine starts in one of them
            own = ctx.from_arrow(pa.table({"x": [i]}))
            both = ctx.sql(
                "SELECT sum(x) AS s FROM (FROM a UNION ALL FROM b)", {"a": shared, "b": own}
            )
            return both.collect()[0]["s"]

        with ThreadPoolExecutor(8) as pool:
            sums = list(pool.map(work, range(8)))
        assert sums == [499_500 + i for i in range(8)]


def test_a_background_job_outlives_its_context(pyrunner, tmp_path):
    target = tmp_path / "out.parquet"
    table = al.connect().from_arrow(pa.table({"x": range(200_000)}))
    engine = table._context.engine()
    job = table.order_by("x % 7", "x DESC").write_parquet(target, wait=False)
    del table
    gc.collect()
    assert engine.usable
    job.result()
    assert job.state == "succeeded"
    assert target.exists()
    del job
    gc.collect()
    assert isinstance(engine, EmbeddedEngine)
    assert engine._process is not None
    engine._process.wait(30)


SCRIPTS = {
    "registered before alink is imported": """
        import atexit
        atexit.register(lambda: print(al.sql("SELECT 2 AS n").count()))
        import alink as al
        """,
    "registered after": """
        import atexit
        import alink as al
        atexit.register(lambda: print(al.sql("SELECT 2 AS n").count()))
        """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_first_use_at_exit_ends(pyrunner, script_environment, script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=script_environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_a_temporary_folder_with_a_space(pyrunner, script_environment, tmp_path):
    folder = tmp_path / "with space, and ü"
    folder.mkdir()
    script = "import alink as al; print(al.sql('SELECT 1 AS x').collect())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**script_environment, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "[{'x': 1}]", done.stderr


def test_parallelism_has_a_bound():
    with pytest.raises(al.PlanError, match="parallelism must be at most 256, not 257"):
        al.connect(parallelism=257)


def test_decimals_with_zeros_left_out(pyrunner):
    with al.connect() as ctx:
        hundreds = pa.array([100, None], pa.decimal128(10, -2))
        out = ctx.from_arrow(pa.table({"d": hundreds})).filter("d = 100").to_arrow()
    assert out.schema.field("d").type == pa.decimal128(12, 0)
    assert out.num_rows == 1
