"""Trainings, which go one step further with each bundle, in a real worker."""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pytest

from .conftest import BundleFailed, stage
from .test_functions import call

ANSWER = pa.schema([("kind", pa.string()), ("body", pa.large_binary()), ("y", pa.int64())])
ADDS = """
    import pyarrow as pa
    def f(share):
        print("rank", share.rank)
        mine = bytes([share.rank + 1])
        first = share.exchange("sum", mine)
        second = share.exchange("gather", first + mine)
        return pa.table({"y": list(second)})
"""
RAISES = """
    def f(share):
        share.exchange("sum", b"")
        raise ValueError("no minimum")
"""


def step(number, body=b""):
    columns = {"step": [number], "body": pa.array([body], pa.large_binary())}
    return pa.table(columns)


def start(rank, size):
    return step(0, json.dumps({"rank": rank, "size": size, "cache_bytes": 7}).encode())


@pytest.fixture
def run(shared_engine, tmp_path):
    path = tmp_path / "1.arrow"
    rows = pa.table({"x": [1]})
    with pa.ipc.new_file(str(path), rows.schema) as file:
        file.write_table(rows)

    made = {}

    def run(source, table):
        if source not in made:  # a stage keeps what runs between its bundles
            spec = call(source, "train", tables={"rows": str(path)})
            made[source] = stage("train", [spec], table.schema, ANSWER)
        id_ = shared_engine.submit(made[source], table.to_batches())
        batches = shared_engine.output(id_, ANSWER)
        found = pa.Table.from_batches(batches, ANSWER).to_pylist()
        return [(row["kind"], row["body"], row["y"]) for row in found]

    return run


def test_a_function_goes_on_from_bundle_to_bundle(run):
    assert run(ADDS, start(0, 3)) == [("sum", b"\1", None)]
    assert run(ADDS, step(1, b"\6")) == [("gather", b"\6\1", None)]
    assert run(ADDS, step(2, b"\7\10")) == [("done", None, 7), ("done", None, 8)]
    assert run(ADDS, step(3)) == [("lost", b"", None)]


def test_only_the_first_worker_gives_a_result_and_prints(run, shared_engine):
    assert run(ADDS, start(1, 3)) == [("sum", b"\2", None)]
    run(ADDS, step(1, b"\6"))
    assert run(ADDS, step(2, b"\7")) == []
    with shared_engine.logged:
        assert not any("rank 1" in str(entry) for entry in shared_engine.logs)


def test_another_worker_knows_nothing_of_the_steps_before(run):
    assert run(ADDS, step(2, b"\7")) == [("lost", b"", None)]


def test_it_begins_anew_or_is_left_where_it_stands(run):
    before = threading.active_count()
    run(ADDS, start(0, 2))
    assert run(ADDS, start(2, 3)) == [("sum", b"\3", None)]
    assert run(ADDS, step(-1)) == []
    assert run(ADDS, step(1, b"\6")) == [("lost", b"", None)]
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [1, 2])
def test_what_it_raises_is_told_with_its_line(run, size):
    source = RAISES if size > 1 else RAISES.replace('share.exchange("sum", b"")', "pass")
    if size > 1:
        assert run(source, start(1, size))[0][0] == "sum"
    with pytest.raises(BundleFailed) as caught:
        run(source, step(1) if size > 1 else start(0, size))
    details = caught.value.details
    assert details["error"] == "raised"
    assert details["message"] == "f raised ValueError: no minimum"
    assert details["frames"][-1]["text"].strip() == 'raise ValueError("no minimum")'


def test_a_result_that_is_none(run):
    with pytest.raises(BundleFailed, match="returned int where"):
        run("def f(share): return 7", start(0, 1))
    with pytest.raises(BundleFailed, match="z"):
        run("import pyarrow as pa\ndef f(share): return pa.table({'z': [1]})", start(0, 1))
    assert run("def f(share): return None", start(0, 1)) == []
