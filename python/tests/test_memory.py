"""Memory that does not grow with the data: a job of 10 million rows under a limit of 400 MB."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al

ROWS = 10_000_000
LIMIT = 400_000_000
GROUPS = 1_000_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "rows.parquet"
    random = np.random.default_rng(1)
    piece = 1_000_000
    schema = pa.schema([("id", pa.int64()), ("a", pa.float64()), ("b", pa.float64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, ROWS, piece):
            ids = np.arange(start, start + piece)
            values = [ids, random.random(piece), random.random(piece)]
            writer.write_table(pa.table(values, schema=schema))
    return path


class Watch:
    """The largest proportional set size that the engine and its workers had together."""

    def __init__(self, ctx):
        self._ctx = ctx
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.05):
            status = self._ctx.status()
            pids = [status["engine_pid"], *(w["pid"] for w in status["workers"])]
            self.peak = max(self.peak, sum(map(pss_bytes, pids)))


def pss_bytes(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@al.udf("double", workers=1)
def line(a, b):
    return a * 2 + b


@al.udf("double", workers=1, batch="numpy")
def line_numpy(a, b):
    return a * 2 + b


def total(table):
    return table.agg(total="sum(y)", n="count(*)").collect()[0]


def test_functions(rows):
    with al.connect(memory=LIMIT) as ctx, Watch(ctx) as watch:
        table = ctx.read_parquet(rows)
        by_row = total(table.with_columns(y=line("a", "b")))
        by_batch = total(table.with_columns(y=line_numpy("a", "b")))
    assert by_row["n"] == by_batch["n"] == ROWS
    assert by_row["total"] == pytest.approx(by_batch["total"])
    assert 0 < watch.peak <= LIMIT


def test_relational_steps_spill(rows):
    with al.connect(memory=LIMIT) as ctx, Watch(ctx) as watch:
        table = ctx.read_parquet(rows)
        ordered = table.order_by("a").with_columns(late="a < lag(a) OVER ()")
        assert ordered.filter("late").count() == 0
        groups = table.group_by(k=f"id % {GROUPS}").agg(m="max(b)", n="count(*)")
        assert groups.agg(n="sum(n)", g="count(*)").collect() == [{"n": ROWS, "g": GROUPS}]
    assert 0 < watch.peak <= LIMIT


def test_rows_wait_for_a_reader_that_is_slow(rows):
    with al.connect(memory=LIMIT) as ctx, Watch(ctx) as watch:
        seen = 0
        for batch in ctx.read_parquet(rows).iter_batches():
            if seen == 0:
                watch.peak = 0
                threading.Event().wait(1)  # what the engine reads ahead meanwhile is bounded
            seen += batch.num_rows
    assert seen == ROWS
    assert 0 < watch.peak <= LIMIT


def test_an_output_that_is_written(rows, tmp_path):
    with al.connect(memory=LIMIT) as ctx, Watch(ctx) as watch:
        ctx.read_parquet(rows).with_columns(c="a + b").write_parquet(tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_rows == ROWS
    assert 0 < watch.peak <= LIMIT
