"""The example of the README, compared with pandas."""

from __future__ import annotations

import datetime
import importlib.util
import os
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import alink as al

from .conftest import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "flight_delays.py"

# The federal holidays of 2013 and their neighbours, from the United States Office of
# Personnel Management's list.
HOLIDAYS = [
    "2013-01-01", "2013-01-21", "2013-02-18", "2013-05-27", "2013-07-04", "2013-09-02",
    "2013-10-14", "2013-11-11", "2013-11-28", "2013-12-25", "2014-01-01",
]  # fmt: skip


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("flight_delays", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["flight_delays"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["flight_delays"]


@pytest.fixture(scope="module")
def job(pyrunner, example, tmp_path_factory):
    """Run the job once; the table and the scored flights."""
    scored = tmp_path_factory.mktemp("example") / "scored.parquet"
    with al.connect() as ctx:
        table = example.carrier_table(ctx, scored)
    return table.to_pandas(), pq.read_table(scored).to_pandas()


@pytest.fixture(scope="module")
def flights(example):
    """The same joins in pandas."""
    flights = pd.read_parquet(example.DATA / "flights.parquet")
    airlines = pd.read_parquet(example.DATA / "airlines.parquet").rename(
        columns={"name": "airline"}
    )
    weather = pd.read_parquet(
        example.DATA / "weather.parquet",
        columns=["origin", "time_hour", "wind_dir", "wind_speed", "precip", "visib"],
    )
    joined = flights.merge(airlines, on="carrier").merge(
        weather, on=["origin", "time_hour"], how="left"
    )
    near = {
        datetime.date.fromisoformat(day) + datetime.timedelta(days=d)
        for day in HOLIDAYS
        for d in (-1, 0, 1)
    }
    joined["date"] = pd.to_datetime(joined[["year", "month", "day"]]).dt.date
    joined["near_holiday"] = joined.date.isin(near)
    return joined


def test_carrier_table(job, flights):
    table, _ = job
    known = flights.arr_delay.notna()
    flights = flights.assign(late=(flights.arr_delay > 15).where(known).astype("Float64"))
    want = flights.groupby(["carrier", "airline"]).agg(
        flights=("flight", "size"),
        mean_delay=("arr_delay", "mean"),
        late=("late", "mean"),
        near_holiday=("near_holiday", "mean"),
    )
    want = want.sort_values("late", ascending=False).reset_index()
    assert table.columns.tolist() == [
        "carrier", "airline", "flights", "mean_delay", "late", "late_predicted", "near_holiday",
    ]  # fmt: skip
    assert table.carrier.tolist() == want.carrier.tolist()
    assert table.airline.tolist() == want.airline.tolist()
    assert table.flights.tolist() == want.flights.tolist()
    for column in ("mean_delay", "late", "near_holiday"):
        np.testing.assert_allclose(
            table[column].to_numpy(float), want[column].to_numpy(float), err_msg=column
        )


def in_order(scored):
    """A join promises no order of rows."""
    keys = ["time_hour", "carrier", "flight", "origin"]
    return scored.sort_values(keys).reset_index(drop=True)


def test_killed_workers_give_the_same_rows(pyrunner, example, job, tmp_path):
    """The whole job, while two of its workers are killed in the middle of their work."""
    scored = tmp_path / "scored.parquet"
    killed = set()
    with al.connect() as ctx:
        done = threading.Event()

        def kill():
            while not done.wait(0.05) and len(killed) < 2:
                for worker in ctx.status()["workers"]:
                    if worker["busy"] and worker["environment"] not in killed:
                        os.kill(worker["pid"], signal.SIGKILL)
                        killed.add(worker["environment"])
                        break

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            table = example.carrier_table(ctx, scored).to_pandas()
        finally:
            done.set()
            killer.join()
    assert len(killed) == 2
    pd.testing.assert_frame_equal(table, job[0])
    pd.testing.assert_frame_equal(
        in_order(pq.read_table(scored).to_pandas()),
        in_order(job[1]),
    )


def test_scored_flights(job, flights):
    _, scored = job
    scored, flights = in_order(scored), in_order(flights)
    keys = ["time_hour", "carrier", "flight", "origin"]
    assert len(scored) == 336_776
    assert (scored[keys] == flights[keys]).all().all()
    assert (scored.near_holiday == flights.near_holiday).all()
    runways = {"EWR": (26, 95), "LGA": (31, 121), "JFK": (31, 121)}
    headings = np.array([runways[airport] for airport in flights.origin], float)
    angles = np.radians(flights.wind_dir.to_numpy(float)[:, None] - headings)
    want = flights.wind_speed.to_numpy(float) * np.abs(np.sin(angles)).min(axis=1)
    np.testing.assert_allclose(scored.crosswind.to_numpy(float), want, atol=1e-9)


def test_predictions(job):
    """The model has learnt something, and its mean is the share of late flights."""
    table, scored = job
    assert scored.late_probability.between(0, 1).all()
    known = scored.arr_delay.notna()
    late = scored.arr_delay[known] > 15
    probability = scored.late_probability[known]
    assert abs(probability.mean() - late.mean()) < 0.01
    ranks = probability.rank()
    positives = late.sum()
    area = (ranks[late].sum() - positives * (positives + 1) / 2) / (positives * (~late).sum())
    assert area > 0.7, f"area under the ROC curve: {area:.3f}"
    assert table.late_predicted.between(0.05, 0.6).all()
