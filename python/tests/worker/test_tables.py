"""Tables that functions get whole, and functions of whole tables, in a real worker."""

from __future__ import annotations

import pyarrow as pa
import pytest

from .conftest import BundleFailed
from .test_functions import call

Y = pa.schema([("y", pa.float64())])
X = pa.table({"x": [1.0, 2.0]})
COUNT = """
    import pyarrow as pa
    def f(batch, t):
        return pa.table({"y": [float(t.num_rows)] * batch.num_rows})
"""


def write(path, table):
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    return str(path)


def test_a_table_is_opened_once_and_forgotten_when_its_job_has_ended(shared_engine, tmp_path):
    path = write(tmp_path / "1.arrow", pa.table({"a": [1, 2, 3]}))
    spec = call(COUNT, "map_batches", tables={"t": path})
    assert shared_engine.run("map_batches", [spec], X, Y)["y"].to_pylist() == [3.0, 3.0]
    open_files = """
        def f(x):
            return sum("1.arrow" in line for line in open("/proc/self/maps"))
    """
    mapped = [call(open_files)]
    assert shared_engine.run("columns", mapped, X, Y)["y"].to_pylist() != [0.0, 0.0]
    (tmp_path / "1.arrow").unlink()
    # The next function that is loaded finds nothing of it.
    mapped = [call(open_files + "\n")]
    assert shared_engine.run("columns", mapped, X, Y)["y"].to_pylist() == [0.0, 0.0]


def test_tables_that_cannot_be_read(shared_engine, tmp_path):
    broken = tmp_path / "broken.arrow"
    broken.write_bytes(b"nothing of Arrow's")
    for path in (tmp_path / "missing.arrow", broken):
        spec = call(COUNT, "map_batches", tables={"t": str(path)}, on_error="dead_letter")
        with pytest.raises(BundleFailed) as caught:
            shared_engine.run("map_batches", [spec], X, Y)
        assert caught.value.details["error"] == "load"
        assert "a table for f could not be read" in caught.value.details["message"]


def test_a_table_that_a_library_has_no_type_for(shared_engine, tmp_path):
    pytest.importorskip("polars")
    odd = pa.table({"a": pa.array([1], pa.decimal256(70, 3))})
    text = "def f(batch, t): return batch.rename({'x': 'y'})"
    tables = {"t": write(tmp_path / "1.arrow", odd)}
    spec = call(text, "map_batches", tables=tables, batch="polars")
    with pytest.raises(BundleFailed) as caught:
        shared_engine.run("map_batches", [spec], X, Y)
    assert caught.value.details["loading"], "no row is to blame"


def test_a_failure_of_the_input_is_not_the_functions(shared_engine):
    """A function of a whole table is reading when a batch cannot be given to it."""
    pytest.importorskip("polars")
    odd = pa.table({"x": pa.array([1], pa.decimal256(70, 3))})
    for text in (
        "def f(frames): return list(frames)",
        "def f(frames):\n    for frame in frames: yield frame",
    ):
        spec = call(text, "map_table", batch="polars")
        with pytest.raises(BundleFailed) as caught:
            shared_engine.run("map_table", [spec], odd, Y)
        assert caught.value.details["error"] == "type"
        assert "f cannot be given a column of decimal" in caught.value.details["message"]


@pytest.mark.parametrize("rows", [0, 5])
def test_a_function_of_a_table_is_called_once(shared_engine, rows):
    text = """
        import pyarrow as pa
        calls = 0
        def f(batches):
            global calls
            calls += 1
            rows = sum(b.num_rows for b in batches)
            yield pa.table({"y": [float(calls), float(rows)]})
    """
    table = pa.table({"x": pa.array(range(rows), pa.float64())})
    spec = call(f"{text}        # {rows}", "map_table")
    assert shared_engine.run("map_table", [spec], table, Y)["y"].to_pylist() == [1.0, rows]
