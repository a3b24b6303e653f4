"""Ours, as a program of a user's has it: an engine of its own, the sandbox on.

The number of workers is the last word of the command line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lessons
import numpy as np

import alink as al
from alink._algorithms._models import read_model
from alink.operators import GbdtPredictBatchOp, _training
from alink.operators._base import TableBatch

FEW_ROWS = 1000


def prepare(folder: Path, name: str) -> lessons.Prepared:
    """Start the engine and its workers with a small training; give what trains, and predicts."""
    _training.WORKERS = int(sys.argv[4])
    table = al.read_parquet(str(folder / f"{lessons.LESSONS[name].file}.parquet"))
    few = al.from_arrow(table.limit(FEW_ROWS).to_arrow())
    stage(name).fit(few).model_.to_arrow()

    def learn() -> Any:
        fitted = stage(name).fit(table)
        return fitted, fitted.model_.to_arrow()

    def read() -> float:
        names = ["vec"] if "vec" in table.columns else lessons.columns()
        began = time.perf_counter()
        table.filter(" AND ".join(f"{name} IS NOT NULL" for name in names)).count()
        return time.perf_counter() - began

    def predict(learned: Any) -> int:
        return int(learned[0].predict(table).filter("p IS NOT NULL").count())

    def kept(learned: Any) -> None:
        if "trees" in name:
            np.save(folder / f"{name}-alink.npy", chances(learned[0], table))
        else:
            keep(folder, name, learned[1])

    return lessons.Prepared(read(), learn, kept, predict)


def stage(name: str) -> Any:
    """Make what is fitted."""
    ml: Any = al.ml
    if name == "dense":
        return ml.LogisticRegression(
            features=lessons.columns(), label="y", prediction="p", max_iter=1000
        )
    if name == "hashed":
        return ml.LogisticRegression(
            vector="vec", label="y", prediction="p", l2=lessons.PENALTY,
            max_iter=lessons.HASHED_STEPS, standardization=False,
        )  # fmt: skip
    if name == "kmeans":
        return ml.KMeans(
            vector="vec", prediction="p", k=lessons.CLUSTERS, max_iter=lessons.KMEANS_STEPS,
            init_mode="K_MEANS_PARALLEL", epsilon=1e-300, random_seed=1,
        )  # fmt: skip
    return ml.GbdtClassifier(
        features=lessons.columns(), label="y", prediction="p", num_trees=lessons.TREES,
        max_depth=lessons.DEPTH, max_bins=lessons.BINS, learning_rate=lessons.RATE,
        min_samples_per_leaf=lessons.LEAF_ROWS,
    )  # fmt: skip


def keep(folder: Path, name: str, model: Any) -> None:
    """Write weights or centres, so that they can be judged by one and the same measure."""
    found = read_model(model)
    if name == "kmeans":
        learned = [json.loads(text)["vec"]["data"] for text in found.data]
    else:
        # The positive label is the first one, and comes first.
        sign = 1 if float(found.labels[0]) > 0 else -1
        learned = sign * np.array(json.loads(found.data[0])["coefVector"]["data"])
    np.save(folder / f"{name}-alink.npy", np.array(learned))


def chances(fitted: Any, table: al.Table) -> Any:
    """Give the probabilities of label 1 that trees tell."""
    predict: Any = GbdtPredictBatchOp(predictionCol="p", predictionDetailCol="d")
    out = predict.linkFrom(TableBatch(fitted.model_), TableBatch(table))._table()
    return np.array([float(json.loads(text)["1"]) for text in out.to_arrow()["d"].to_pylist()])


if __name__ == "__main__":
    lessons.main(prepare, "alink pyarrow numpy")
