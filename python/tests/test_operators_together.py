"""Trainings in several workers of a real engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import alink as al
from alink._algorithms._models import read_model
from alink._algorithms._tree_models import Predict
from alink._ship import Shipment
from alink.operators import _training
from alink.operators._session import session
from pyalink import alink as pyalink

ROWS = 300_000
RANDOM = np.random.default_rng(3)
FEATURES = {f"f{i}": RANDOM.normal(size=ROWS) for i in range(6)}
SCORE = sum(FEATURES.values()) + RANDOM.logistic(size=ROWS)
TABLE = pa.table({**FEATURES, "y": np.where(SCORE > 0, "good", "bad")})


@pytest.fixture
def workers(monkeypatch):
    return lambda n: monkeypatch.setattr(_training, "WORKERS", n)


def train(table=TABLE, name="LogisticRegression", **params):
    rows = pyalink.BatchOperator.fromTable(session().context.from_arrow(table))
    given = {"featureCols": list(FEATURES), "labelCol": "y", **params}
    return getattr(pyalink, f"{name}TrainBatchOp")(**given).linkFrom(rows)


def coefficients(operator):
    model = read_model(operator.toTable().to_arrow())
    return np.array(json.loads(model.data[0])["coefVector"]["data"]), model.labels


def test_three_workers_find_what_one_finds(workers):
    workers(1)
    alone, labels = coefficients(train())
    assert labels == ["good", "bad"]
    np.testing.assert_allclose(alone, [0, 1, 1, 1, 1, 1, 1], atol=0.03)
    workers(3)
    together, labels = coefficients(train())
    assert labels == ["good", "bad"]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def kill_while(run):
    """Run something while its workers are killed, up to three of them; give the result."""
    killed: list[int] = []
    over = threading.Event()

    def kill():
        while not over.wait(0.02) and len(killed) < 3:
            busy = [w["pid"] for w in session().context.status()["workers"] if w["busy"]]
            if busy:
                pid = busy[len(killed) % len(busy)]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run()
    finally:
        over.set()
        killer.join()
    assert killed
    return found


def test_a_killed_worker_changes_nothing(workers):
    workers(2)
    undisturbed, _ = coefficients(train(epsilon=1e-12))
    found, _ = kill_while(lambda: coefficients(train(epsilon=1e-12)))
    assert found.tolist() == undisturbed.tolist()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("KMeans", {"vectorCol": "v", "k": 5, "maxIter": 10}),
        ("NaiveBayes", {"featureCols": list(FEATURES), "labelCol": "y"}),
        ("QuantileDiscretizer", {"selectedCols": list(FEATURES), "numBuckets": 50}),
        ("Gbdt", {"featureCols": list(FEATURES), "labelCol": "y", "numTrees": 5}),
    ],
)
def test_whatever_is_trained_is_the_same_where_workers_are_killed(workers, name, params):
    workers(2)
    rows = pyalink.BatchOperator.fromTable(session().context.from_arrow(TABLE))
    if "vectorCol" in params:
        rows = rows.link(pyalink.VectorAssemblerBatchOp(selectedCols=list(FEATURES), outputCol="v"))
    kept = rows.toTable().cache()  # what makes the rows is not disturbed
    kept.count()

    def model():
        operator = getattr(pyalink, f"{name}TrainBatchOp")(**params)
        return operator.linkFrom(pyalink.BatchOperator.fromTable(kept)).toTable().to_arrow()

    assert kill_while(model) == model()


def test_what_goes_wrong_in_one_worker_ends_all(workers):
    workers(3)
    values = TABLE["f3"].to_pylist()
    values[-1] = None
    table = TABLE.set_column(3, "f3", pa.array(values))
    for _ in range(2):  # and leaves workers that can be used
        with pytest.raises(al.UdfError, match="'f3' has NULL, NaN or infinite values"):
            train(table).collectToDataframe()
    assert len(coefficients(train())[0]) == 7


def test_boosted_trees_of_several_workers_are_as_good_as_those_of_one(workers):
    count = 20_000
    kind = RANDOM.integers(0, 4, count)
    gap = RANDOM.random(count) < 0.1
    score = SCORE[:count] + 2 * (kind == 1) - gap
    table = pa.table(
        {
            **{name: values[:count] for name, values in FEATURES.items()},
            "f0": pa.array(FEATURES["f0"][:count], mask=gap),
            "kind": pa.array(["a", "b", "c", "d"]).take(pa.array(kind)),
            "w": RANDOM.integers(1, 4, count),
            "y": np.where(score > 2, "high", np.where(score > 0, "mid", "low")),
        }
    )
    # Labels come in order: no worker sees what the others see.
    table = table.sort_by("y")
    params = {"featureCols": [*FEATURES, "kind"], "weightCol": "w", "numTrees": 3, "maxDepth": 4}
    right = []
    models = []
    for size in (1, 2, 2):
        workers(size)
        models.append(train(table, "Gbdt", **params).toTable().to_arrow())
        task = Predict({}, [pa.string()])
        task.load(models[-1])
        found = task(table.combine_chunks().to_batches()[0])[0]
        right.append(pc.mean(pc.equal(found, table["y"])).as_py())
    assert models[0] != models[1] == models[2]
    assert right[0] > 0.6  # the most frequent label is that of 45 %
    np.testing.assert_allclose(right, right[0], atol=0.01)


def test_boosting_that_fails_in_one_worker_ends_all(workers):
    workers(2)
    labels = TABLE["y"].to_pylist()
    labels[-1] = None
    table = TABLE.set_column(6, "y", pa.array(labels))
    with pytest.raises(al.UdfError, match="'y' is NULL"):
        train(table, "Gbdt", numTrees=2).collectToDataframe()
    assert train(name="Gbdt", numTrees=2).toTable().count() > 2


def test_a_warning_is_shown_once(workers, capfd):
    workers(3)
    train(maxIter=1).collectToDataframe()
    assert capfd.readouterr().err.count("warning: not converged after 1 iterations") == 1


def test_a_worker_that_has_no_memory_is_named(workers, monkeypatch):
    workers(2)
    monkeypatch.setattr(
        _training.Training,
        "shipment",
        lambda self, same_python: Shipment(
            {"source": "def train(share): return bytearray(3 << 30)", "name": "train"}, (), None
        ),
    )
    with pytest.raises(al.Error, match="LogisticRegressionTrainBatchOp") as caught:
        train().collectToDataframe()
    assert "limit" in str(caught.value)
