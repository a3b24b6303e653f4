"""What is trained in `make bench-ml`, by us and by a library: the same file, the same measure.

A script is called with a folder, the name of a lesson and a number of trainings. It reads
``<file>.parquet``, writes what it learned to ``<script>.npy`` and prints lines of JSON. It runs
with the Python of its own environment: this module needs the standard library only.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Where the number of the descriptor for answers stands; without it they are printed.
ANSWERS_FD = "PEER_ANSWERS_FD"
FEATURES = 20
HASHED = 2**20
NON_ZEROS = 30
CLUSTERS = 20
KMEANS_STEPS = 20
#: Of L-BFGS, on the hashed rows: either takes hundreds to its own idea of a minimum.
HASHED_STEPS = 40
#: The weight of Σw² beside the mean loss, of the hashed rows.
PENALTY = 1e-4
TREES, DEPTH, BINS, RATE, LEAF_ROWS = 100, 6, 128, 0.1, 20


@dataclass(frozen=True)
class Lesson:
    """Something that is trained.

    Attributes
    ----------
    title : str
        What the table calls it.
    file : str
        The file that is read, without its ending.
    measure : str
        What tells how good a result is, the less the better.
    library : str
        The name of what it is set beside.
    times_max : int
        How often it is trained at most.
    alone : bool
        Whether ours has one worker with all cores, as it has unless one is told.
    """

    title: str
    file: str
    measure: str
    library: str
    times_max: int = 5
    alone: bool = False


LESSONS = {
    "dense": Lesson("logistic regression, 20 features", "dense", "log loss", "scikit-learn, lbfgs"),
    "hashed": Lesson(
        f"logistic regression, 30 of 2^20 features, {HASHED_STEPS} steps",
        "hashed",
        "penalised log loss",
        "scikit-learn, lbfgs",
        times_max=1,
    ),
    "kmeans": Lesson(
        f"k-means, {CLUSTERS} clusters of 20 features, {KMEANS_STEPS} steps",
        "points",
        "mean square",
        "scikit-learn, lloyd",
    ),
    "trees": Lesson(
        f"boosted trees, {TREES} of depth {DEPTH}, 20 features",
        "dense",
        "log loss",
        "LightGBM",
        alone=True,
    ),
    "fewer_trees": Lesson(
        f"boosted trees, {TREES} of depth {DEPTH}, 20 features",
        "fewer",
        "log loss",
        "LightGBM",
        alone=True,
    ),
}


def columns() -> list[str]:
    """Give the names of the dense features."""
    return [f"x{number}" for number in range(FEATURES)]


def answer(**values: Any) -> None:
    """Say something to whoever measures."""
    text = json.dumps(values) + "\n"
    if number := os.environ.get(ANSWERS_FD):
        os.write(int(number), text.encode())
    else:
        print(text, end="", flush=True)


@dataclass(frozen=True)
class Prepared:
    """What a script does in a lesson.

    Attributes
    ----------
    read_s : float
        How long it took to read the rows.
    train : callable
        Trains once and gives what was learned.
    keep : callable
        Writes what a result is judged by.
    predict : callable
        Predicts all rows; gives how many they were.
    """

    read_s: float
    train: Callable[[], Any]
    keep: Callable[[Any], None]
    predict: Callable[[Any], int]


def main(prepare: Callable[[Path, str], Prepared], packages: str) -> None:
    """Train and predict as often as the command line says; tell the versions of packages."""
    folder, name, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages.split())
    prepared = prepare(folder, name)
    answer(versions=versions, read_s=prepared.read_s)
    learned: Any = None
    for _ in range(times):
        learned = None  # two models need not be held at a time
        began, processor = time.perf_counter(), time.process_time()
        learned = prepared.train()
        took = time.perf_counter() - began
        answer(train_s=took, cores=(time.process_time() - processor) / took)
    prepared.keep(learned)
    for _ in range(times):
        began = time.perf_counter()
        rows = prepared.predict(learned)
        answer(predict_s=time.perf_counter() - began, rows=rows)
