"""Measure trainings and predictions of ours beside the libraries in one process, in the same run.

``make bench-ml`` runs it and writes its part of ``docs/performance.md``. The libraries have an
environment of their own, which is made in ``.cache/peers`` when it is first needed. Whoever is
measured has the machine to itself.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import peers
import report

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "learn"
sys.path.append(str(SCRIPTS))

import lessons  # noqa: E402 — it lies with the scripts

from alink.operators._define import BUILT  # noqa: E402

LIBRARIES = peers.Peer("the libraries", "with_library.py", str(SCRIPTS / "libraries.txt"))
ROWS, FEWER = 1_000_000, 200_000
ROW_GROUP_ROWS = 65_536
LOOK_S = 0.1  # between looks at memory
ONE_CORE = 1.2  # as many processors as a library uses on average count as one
STARTS = 5
# What is aimed at.
FIT_GOAL = 1.2  # times the library's fit
MEMORY_GOAL = 1.5  # times the data
WORKERS_GOAL = 1.4  # times as fast with two
PREDICT_GOAL = 1.0  # millions of rows a second
PRINT_S_GOAL = 1.5
SMALL_S_GOAL = 1.0
#: How much worse a result may be before its time says nothing.
WORSE = 1e-3

PRINT_PROGRAM = """
from pyalink.alink import *
useLocalEnv(1)
source = BatchOperator.fromDataframe(
    __import__("pandas").DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0, 0, 1, 1]}),
    "x double, y bigint",
)
source.print()
"""
TRAIN_PROGRAM = (
    PRINT_PROGRAM
    + """
model = LogisticRegression(featureCols=["x"], labelCol="y", predictionCol="p").fit(source)
model.transform(source).print()
"""
)


@dataclass
class Figures:
    """What has been measured of one program and one lesson."""

    versions: str = ""
    read_s: float = 0.0
    train_s: list[float] = field(default_factory=list)
    predict_s: list[float] = field(default_factory=list)
    rows: int = 0
    quality: float = float("nan")
    memory_kib: int = 0
    failed: str = ""
    idle_kib: int = 0
    cores: float = 1.0

    @property
    def fit(self) -> float:
        """The shortest training."""
        return min(self.train_s, default=float("nan"))

    @property
    def rate(self) -> float:
        """Millions of rows a second of the fastest prediction."""
        return self.rows / min(self.predict_s) / 1e6 if self.predict_s else float("nan")


# --- data ---


def make_data(folder: Path, share: float) -> dict[str, int]:
    """Write the files; give the bytes of each as Arrow holds it."""
    rows, fewer = int(ROWS * share), int(FEWER * share)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, lessons.FEATURES))
    weights = rng.standard_normal(lessons.FEATURES)
    curved = x @ weights + np.sin(2 * x[:, 0]) * x[:, 1] + 0.5 * (x[:, 2] * x[:, 3] > 0)
    y = (rng.random(rows) < 1 / (1 + np.exp(-curved))).astype(np.int64)
    dense = pa.table({**{name: x[:, at] for at, name in enumerate(lessons.columns())}, "y": y})
    # So near to each other that what is found hardly depends on where a search begins.
    centres = rng.standard_normal((lessons.CLUSTERS, lessons.FEATURES))
    points = x + centres[rng.integers(lessons.CLUSTERS, size=rows)]
    tables = {
        "dense": dense,
        "fewer": dense.slice(0, fewer),
        "points": pa.table({"vec": vectors(lessons.FEATURES, points.ravel(), None)}),
        "hashed": hashed(rng, rows),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROW_GROUP_ROWS)
    return {name: table.nbytes for name, table in tables.items()}


def vectors(size: int, values: np.ndarray, indices: np.ndarray | None) -> pa.Array:
    """Make a column of vectors of which all have as many values."""
    each = lessons.FEATURES if indices is None else lessons.NON_ZEROS
    count = len(values) // each
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * each)
    places = (
        pa.nulls(count, pa.list_(pa.int32()))
        if indices is None
        else pa.ListArray.from_arrays(offsets, pa.array(indices))
    )
    return pa.StructArray.from_arrays(
        [
            pa.array(np.full(count, size, np.int32)),
            places,
            pa.ListArray.from_arrays(offsets, pa.array(values)),
        ],
        ["size", "indices", "values"],
    )


def hashed(rng: np.random.Generator, rows: int) -> pa.Table:
    """Make rows like those of hashed words: few are frequent, most are rare."""
    ranks = np.minimum(rng.zipf(1.3, (rows, lessons.NON_ZEROS)), 10**7)
    places = np.sort(ranks * 2_654_435_761 % lessons.HASHED, axis=1)
    while (twice := np.diff(places, axis=1, prepend=-1) == 0).any():
        places[twice] = rng.integers(lessons.HASHED, size=int(twice.sum()))
        places.sort(axis=1)
    weights = rng.standard_normal(lessons.HASHED)
    margin = weights[places].sum(axis=1) / 2
    y = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    column = vectors(lessons.HASHED, np.ones(places.size), places.astype(np.int32).ravel())
    return pa.table({"vec": column, "y": y})


# --- programs ---


class Looked:
    """The largest memory of a process and all below it, while it runs."""

    def __init__(self, pid: int) -> None:
        self.peak_kib = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Looked:
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            self.peak_kib = max(self.peak_kib, peers.pss_kib(self._pid))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def run(script: str, name: str, folder: Path, times: int, workers: int, limit_s: float) -> Figures:
    """Train and predict some times; look at memory in a run of its own, of long ones in the same.

    A look takes some ten milliseconds, of each tenth of a second.
    """
    figures = Figures()
    times = min(times, lessons.LESSONS[name].times_max)
    python = str(peers.interpreter(LIBRARIES)) if script == "library" else sys.executable
    command = [python, str(SCRIPTS / f"with_{script}.py"), str(folder), name]
    try:
        looked = figures if times == 1 else None
        for answer in answers([*command, str(times), str(workers)], limit_s, looked):
            figures.versions = answer.get("versions", figures.versions)
            figures.read_s = answer.get("read_s", figures.read_s)
            figures.rows = answer.get("rows", figures.rows)
            figures.train_s += [answer["train_s"]] if "train_s" in answer else []
            figures.cores = max(figures.cores, answer.get("cores", 0.0))
            figures.predict_s += [answer["predict_s"]] if "predict_s" in answer else []
        if times > 1:
            for _ in answers([*command, "1", str(workers)], limit_s, figures):
                pass
        learned = folder / f"{name}-{script}.npy"
        if learned.exists():
            figures.quality = judge(folder, name, np.load(learned))
    except peers.Unmeasured as failure:
        figures.failed = str(failure)
    return figures


def answers(command: list[str], limit_s: float, looked: Figures | None) -> Iterator[dict[str, Any]]:
    """Run a script; give its answers, and look at its memory if it is wanted."""
    with contextlib.ExitStack() as running:
        script = running.enter_context(peers.Script(command, dict(os.environ), limit_s))
        look = None
        if looked is not None:
            look = running.enter_context(Looked(script.process.pid))
        for _, answer in script.answers():
            yield answer
            if look is not None and looked is not None:
                if "versions" in answer:  # all that is needed runs, and nothing is trained
                    looked.idle_kib = peers.pss_kib(script.process.pid)
                if "train_s" in answer:
                    looked.memory_kib = look.peak_kib


def judge(folder: Path, name: str, learned: np.ndarray) -> float:
    """Give what is the less the better, of weights, centres or probabilities."""
    lesson = lessons.LESSONS[name]
    table = pq.read_table(folder / f"{lesson.file}.parquet")
    if lesson.measure == "mean square":
        points = table["vec"].combine_chunks().field("values").flatten().to_numpy()
        points = points.reshape(-1, lessons.FEATURES)
        squares = (points**2).sum(axis=1)
        near = np.full(len(points), np.inf)
        for centre in learned:
            near = np.minimum(near, squares - 2 * points @ centre + centre @ centre)
        return float(near.mean())
    y = table["y"].to_numpy()
    if "trees" in name:
        return float(-np.log(np.where(y > 0, learned, 1 - learned)).mean())
    penalty = 0.0
    if name == "hashed":
        places = table["vec"].combine_chunks().field("indices").flatten().to_numpy()
        margin = learned[0] + learned[1:][places].reshape(len(y), -1).sum(axis=1)
        penalty = lessons.PENALTY * float(learned[1:] @ learned[1:])
    else:
        margin = np.full(len(y), learned[0])
        for column, weight in zip(lessons.columns(), learned[1:], strict=True):
            margin += weight * table[column].to_numpy()
    return float(np.logaddexp(0, np.where(y > 0, -margin, margin)).mean()) + penalty


def started(program: str) -> float:
    """Give the median seconds of whole processes, their start and end included.

    Modules are compiled already, as those of an installed package are.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    taken = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# --- the page ---


def goal(met: bool, text: str) -> str:
    """Give the cell of a goal."""
    return f"{text}, {'met' if met else 'not met'}"


def training_table(found: dict[str, dict[str, Figures]], data: dict[str, int]) -> list[str]:
    """Give the table of trainings."""
    rows = [
        "| | rows | library: read, s | fit, s | cores | ours, 1 worker: s | beside its fit | ours, "
        "2 workers: s | beside its fit | goal | 2 workers beside 1 | goal |",
        "|---" * 12 + "|",
    ]
    for name, each in found.items():
        lesson = lessons.LESSONS[name]
        library, one, two = each["library"], each["one"], each.get("two")
        if lacking := next((f.failed for f in each.values() if f.failed), ""):
            rows.append(f"| {lesson.title} | not measured: {lacking} |" + " |" * 10)
            continue
        best = min(of.fit for of in (one, two) if of) / library.fit
        met = goal(best <= FIT_GOAL, f"≤ {FIT_GOAL:g} ×")
        of_two, sped, sped_goal = "| | ", "", ""
        if two:
            of_two = f"| {two.fit:.2f} | {two.fit / library.fit:.2f} × "
            sped = f"{one.fit / two.fit:.2f}"
            if library.cores <= ONE_CORE:
                sped_goal = goal(one.fit / two.fit >= WORKERS_GOAL, f"≥ {WORKERS_GOAL:g}")
        rows.append(
            f"| {lesson.title} | {library.rows:,} | {library.read_s:.2f} | {library.fit:.2f} "
            f"| {library.cores:.1f} | {one.fit:.2f} | {one.fit / library.fit:.2f} × "
            f"{of_two}| {met} | {sped} | {sped_goal} |"
        )
    rows += [
        "",
        "| | measure | library | ours, 1 worker | ours, 2 workers | | data, MiB | peak, library "
        "| ours, 1 worker: idle | peak | more, beside the data | 2 workers: idle | peak "
        "| more, beside the data | goal |",
        "|---" * 15 + "|",
    ]
    for name, each in found.items():
        lesson = lessons.LESSONS[name]
        library, one, two = each["library"], each["one"], each.get("two")
        if any(f.failed for f in each.values()):
            continue
        worse = max(of.quality for of in (one, two) if of) - library.quality
        verdict = "as good" if worse <= WORSE * abs(library.quality) else "worse"
        kib = data[lesson.file] / 1024
        memory, most = "", 0.0
        for of in (one, two):
            if of is None:
                memory += "| | | "
                continue
            more = (of.memory_kib - of.idle_kib) / kib
            memory += f"| {of.idle_kib / 1024:.0f} | {of.memory_kib / 1024:.0f} | {more:.2f} × "
            most = max(most, more)
        rows.append(
            f"| {lesson.title} | {lesson.measure} | {library.quality:.7g} | {one.quality:.7g} "
            f"| {f'{two.quality:.7g}' if two else ''} | {verdict} | {kib / 1024:.0f} "
            f"| {library.memory_kib / 1024:.0f} {memory}"
            f"| {goal(most <= MEMORY_GOAL, f'≤ {MEMORY_GOAL:g} ×')} |"
        )
    return rows


def prediction_table(found: dict[str, dict[str, Figures]]) -> list[str]:
    """Give the table of predictions."""
    rows = [
        "| M rows/s | library, rows in memory | reading alone | ours | goal |",
        "|---" * 5 + "|",
    ]
    for name, each in found.items():
        if any(f.failed for f in each.values()):
            continue
        library, one = each["library"], each["one"]
        rate = max(each[by].rate for by in ("one", "two") if by in each)
        met = goal(rate >= PREDICT_GOAL, f"≥ {PREDICT_GOAL:g}")
        rows.append(
            f"| {lessons.LESSONS[name].title} | {library.rate:.2f} "
            f"| {one.rows / one.read_s / 1e6:.2f} | {rate:.2f} | {met} |"
        )
    return rows


def page(
    found: dict[str, dict[str, Figures]], data: dict[str, int], print_s: float, small_s: float
) -> list[str]:
    """Give this program's part of the page."""
    versions = dict.fromkeys(f.versions for each in found.values() for f in each.values())
    libraries = ", ".join(f"{name}: {of.library}" for name, of in lessons.LESSONS.items())
    more = small_s - print_s
    return [
        "## Machine learning beside libraries",
        "",
        f"Written by `make bench-ml` on {datetime.date.today()}: {peers.machine()}. Each has the "
        "machine to itself, in turns; the shortest time counts. Read the ratios.",
        "",
        f"- {'; '.join(filter(None, versions))}. {libraries}.",
        "- Ours reads a Parquet file each time, and the time includes that; a library has all "
        "rows in memory as it wants them, read before: its fit is what ours is set beside.",
        "- Cores are the processors that the library uses on average. More workers have a goal "
        "where it uses one. Boosted trees have one worker with all cores.",
        "- Memory is the proportional set size of all processes, the client and the engine "
        "included: idle, after a training of few rows, and the peak of a training, in MiB. The "
        "data is what Arrow holds.",
        "",
        *training_table(found, data),
        "",
        "Prediction of all rows, ours from the file to a count of what is not NULL, in as many "
        "workers as there are cores; reading alone counts the rows without a NULL among the "
        "features:",
        "",
        *prediction_table(found),
        "",
        "A PyAlink program of four rows, whole processes, median:",
        "",
        "| | s | goal |",
        "|---|---|---|",
        f"| first `print` | {print_s:.2f} "
        f"| {goal(print_s <= PRINT_S_GOAL, f'≤ {PRINT_S_GOAL:g} s')} |",
        f"| training and a second `print` | + {more:.2f} "
        f"| {goal(more <= SMALL_S_GOAL, f'≤ {SMALL_S_GOAL:g} s')} |",
    ]


def main() -> None:
    """Measure all lessons and write the part of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows")
    parser.add_argument("--times", type=int, default=3, help="of which the shortest counts")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a script may take")
    parser.add_argument("--lessons", nargs="+", choices=list(lessons.LESSONS))
    parser.add_argument("--output", type=Path, default=report.PAGE)
    options = parser.parse_args()
    built = [n for n in lessons.LESSONS if "trees" not in n or "GbdtClassifier" in BUILT]
    names = [n for n in built if options.lessons is None or n in options.lessons]
    peers.CACHE.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(dir=peers.CACHE, prefix="data") as made:
        folder = Path(made)
        data = make_data(folder, options.share)
        for name in names:
            print(f"== {name}", flush=True)
            found[name] = {
                key: run(script, name, folder, options.times, workers, options.limit)
                for key, script, workers in (
                    ("library", "library", 0), ("one", "alink", 1), ("two", "alink", 2),
                )
                if workers < 2 or not lessons.LESSONS[name].alone
            }  # fmt: skip
            for key, of in found[name].items():
                print(f"   {key}: {of}", flush=True)
        print("== starts", flush=True)
        part = page(found, data, started(PRINT_PROGRAM), started(TRAIN_PROGRAM))
    print(report.write_part(options.output, "make bench-ml", part))


if __name__ == "__main__":
    main()
