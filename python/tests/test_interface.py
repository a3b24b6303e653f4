"""What the client promises, from the first table to the last row: runnable examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al

FLIGHTS = pa.table(
    {
        "carrier": ["AA", "B6", "AA", "DL", None],
        "dep_delay": [30.0, 5.0, 50.0, None, 40.0],
        "arr_delay": [10.0, 1.0, 20.0, 3.0, None],
        "distance": [500, 90, 700, 800, 900],
        "air_time": [60.0, 30.0, 70.0, 100.0, 90.0],
    }
)


@al.udf("double", memory="256MiB")
def made_up(dep: float | None, arr: float | None) -> float | None:
    return None if dep is None or arr is None else dep - arr


@al.udf(batch="numpy")
def kmh(distance, minutes) -> "double":  # noqa: F821, UP037  # pyright: ignore[reportUndefinedVariable]
    return distance / minutes * 60


@al.udf("double", batch="pandas")
class Score:
    def setup(self):
        self.weight = 3.0

    def __call__(self, x):
        return x * self.weight


@pytest.fixture
def flights(shared_ctx):
    return shared_ctx.from_arrow(FLIGHTS)


@pytest.fixture
def result(flights):
    return (
        flights.with_columns(
            gain=made_up("dep_delay", "arr_delay"), speed=kmh("distance", "air_time")
        )
        .filter(al.col("gain") > 10)
        .group_by("carrier")
        .agg({"mean gain": "avg(gain)"}, speed="max(speed)", n="count(*)")
        .order_by('"mean gain" DESC')
        .limit(10)
    )


EXPECTED = [{"carrier": "AA", "mean gain": 25.0, "speed": 600.0, "n": 2}]


def test_the_options_of_connect(pyrunner, tmp_path):
    with al.connect(memory="512MiB", parallelism=1, spill_dir=tmp_path) as ctx:
        assert ctx.from_arrow(FLIGHTS).count() == 5


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_is_written_is_read(flights, shared_ctx, tmp_path, form):
    path = tmp_path / f"a b.{form}"
    getattr(flights, f"write_{form}")(path)
    back = getattr(shared_ctx, f"read_{form}")(path)
    assert back.select(*FLIGHTS.column_names).collect() == FLIGHTS.to_pylist()


def test_tables_of_other_libraries(shared_ctx):
    polars = pytest.importorskip("polars")
    data = {"x": [1, 2, None], "s": ["a", None, "ü"]}
    arrow = pa.table(data)
    for table in (
        shared_ctx.from_arrow(arrow),
        shared_ctx.from_pandas(arrow.to_pandas(types_mapper=pd.ArrowDtype)),
        shared_ctx.from_polars(polars.DataFrame(data)),
        shared_ctx.from_any(arrow),
    ):
        assert table.to_arrow().to_pydict() == data


def test_sql_with_tables_and_params(shared_ctx, flights):
    query = "SELECT carrier FROM t WHERE arr_delay IS NOT NULL AND distance > $km"
    got = shared_ctx.sql(query, tables={"t": flights}, params={"km": 600}).collect()
    assert [row["carrier"] for row in got] == ["AA", "DL"]


def test_a_chain_of_steps_in_every_form_of_result(result, capsys):
    assert result.collect() == EXPECTED
    assert result.to_arrow().to_pylist() == EXPECTED
    assert result.to_pandas().to_dict("records") == EXPECTED
    assert result.to_polars().to_dicts() == EXPECTED
    assert [r for b in result.iter_batches() for r in b.to_pylist()] == EXPECTED
    result.show()
    shown = capsys.readouterr().out
    assert "mean gain" in shown
    assert "AA" in shown
    plan = result.explain()
    assert "made_up" in plan
    assert "kmh" in plan


def test_a_written_result_is_replaced_only_when_asked(result, tmp_path):
    path = tmp_path / "out.parquet"
    result.write_parquet(path)
    with pytest.raises(al.Error):
        result.write_parquet(path)
    result.write_parquet(path, mode="overwrite")
    assert pq.read_table(path).to_pylist() == EXPECTED


def test_a_class_is_set_up_in_its_worker(flights):
    got = flights.select(s=Score("arr_delay")).to_arrow()["s"].to_pylist()
    assert got == [30.0, 3.0, 60.0, 9.0, None]


def test_plain_functions_are_called_here():
    assert made_up.local(10.0, 3.0) == 7.0
    assert kmh.local(np.array([30.0]), np.array([60.0])).tolist() == [30.0]


def test_a_function_is_tried_here_and_in_a_worker(flights):
    report = made_up.test(flights.head(100))
    assert report.ok
    assert report.null_arguments == report.null_passed_on == 2


def test_a_cached_table_gives_the_same_rows(result):
    kept = result.cache()
    assert kept.collect() == kept.collect() == EXPECTED


def test_a_function_has_the_python_packages_of_its_environment(flights):
    @al.udf("string", env=al.Environment(requirements=["numpy==2.2.*"]))
    def version(x):
        import numpy

        return numpy.__version__

    (row,) = flights.limit(1).select(v=version("distance")).collect()
    assert row["v"].startswith("2.2.")


def test_a_job_in_the_background(flights, tmp_path):
    path = tmp_path / "out.parquet"
    job = flights.with_columns(g=made_up("dep_delay", "arr_delay")).write_parquet(path, wait=False)
    job.result()
    assert job.state == "succeeded"
    assert job.progress().operators
    assert job.progress().elapsed_s > 0
    assert job.metrics()["operators"]
    assert pq.read_table(path)["g"].to_pylist() == [20.0, 4.0, 30.0, None, None]


def test_a_cancelled_job_leaves_no_file(flights, tmp_path):
    @al.udf("double", timeout=None)
    def forever(x):
        import threading

        threading.Event().wait()

    path = tmp_path / "out.parquet"
    job = flights.select(y=forever("distance")).write_parquet(path, wait=False)
    job.cancel()
    with pytest.raises(al.Cancelled):
        job.result()
    assert job.state == "cancelled"
    assert not path.exists()
