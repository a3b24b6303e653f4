"""A function that holds garbage near its limit is asked to collect it before it is ended."""

from __future__ import annotations

import pyarrow as pa
import pytest

import alink as al

ROWS = 400
LIMIT = "256MiB"


@al.udf("bigint", memory=LIMIT, retries=0, workers=1)
def cycles(x):
    """Leave 1 MiB in a cycle, which only the collector finds, and that never runs by itself."""
    import gc
    import time

    import numpy as np

    gc.disable()
    node: dict[str, object] = {"bytes": np.ones(1 << 20, np.uint8)}
    node["self"] = node
    time.sleep(0.002)
    return x + len(node)


def run(ctx):
    table = ctx.from_arrow(pa.table({"x": range(ROWS)}))
    return table.select(y=cycles("x")).to_arrow().column("y").to_pylist()


@pytest.mark.parametrize("control", ["", "watch"])
def test_garbage_is_collected_in_time(pyrunner, monkeypatch, control):
    monkeypatch.setenv("ALINK_MEMORY_CONTROL", control)
    with al.connect(parallelism=1) as ctx:
        assert run(ctx) == [x + 2 for x in range(ROWS)]
    monkeypatch.setenv("ALINK_MEMORY_NO_SOFT_LEVEL", "1")
    with al.connect(parallelism=1) as ctx, pytest.raises(al.WorkerMemoryExceeded) as caught:
        run(ctx)
    assert "limit 256 MiB" in str(caught.value)


@al.map_batches("rows bigint", memory=LIMIT, retries=0, workers=1)
def squared(batch):
    """Need memory for each row of a batch: 200 MiB for 65,536 of them."""
    import time

    import numpy as np

    room = np.ones(batch.num_rows * 3_200, np.uint8)
    time.sleep(0.3)
    return pa.record_batch({"rows": [batch.num_rows + 0 * int(room[-1])]})


def test_batches_get_smaller_near_the_limit(pyrunner, monkeypatch):
    with al.connect(parallelism=1) as ctx:
        table = ctx.from_arrow(pa.table({"x": range(65_536 * 6)}))
        rows = table.map_batches(squared).to_arrow().column("rows").to_pylist()
    assert sum(rows) == 65_536 * 6
    assert rows[0] == 65_536
    assert rows[-1] <= 65_536 // 2, rows
