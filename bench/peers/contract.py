"""What the scripts of all peers share: the functions, the two commands, what they print.

``SCRIPT start FOLDER`` runs a job of ten rows through a Python function twice, says
when each is done, and stays until its standard input ends, so that its memory can be
looked at. ``SCRIPT rates FOLDER ROWS SMALL`` times whole jobs over a file of ROWS rows.
Each answer is a line of JSON. A script runs with the Python of its own environment:
this module needs the standard library only.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROW, ROW_TEXT = "row, a*2+b", "row, string"
VECTOR, VECTOR_TEXT = "vectorised, a*2+b", "vectorised, string"
GROUPED = "grouped, 1,000 keys"
MEASURES = (ROW, ROW_TEXT, VECTOR, VECTOR_TEXT, GROUPED)

# The lines of ours that others are set beside: with one worker, with two.
OURS = ("ours, one worker", "ours, two workers")

# Where the number of the descriptor for answers stands; without it they are printed.
ANSWERS_FD = "PEER_ANSWERS_FD"
JVM_HEAP = "2g"

# A way to run functions (a line of the table) and a measure, with the job that takes
# a file and gives the number that is checked.
Jobs = Mapping[tuple[str, str], Callable[[Path], float]]

# A quick job is timed again until this much time is spent on it.
AGAIN_S, TIMES = 2.0, 3


def line(a: Any, b: Any) -> Any:
    """Compute a row of numbers, or whole columns of them."""
    return a * 2 + b


def shout(s: str) -> str:
    """Compute a row of text."""
    return s.upper()


def product(group: Any) -> float:
    """Aggregate the rows of a key, a pandas data frame."""
    return float((group["a"] * group["b"]).mean())


def main(
    first: Callable[[Path], float], jobs: Jobs, packages: str, *, starts_workers: bool = False
) -> None:
    """Do what the command line asks for.

    Parameters
    ----------
    first
        The job of ten rows; gives the sum of ``line``.
    jobs
        The jobs that are timed.
    packages
        The packages whose versions matter.
    starts_workers
        Every job of this peer starts Python anew. The same job over the small file is
        timed as well, for its time to be subtracted: the rate would be that of the start.
    """
    command, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(int(os.environ.get(ANSWERS_FD, "1")), "w", encoding="utf-8")
    ten = folder / "ten.parquet"

    def say(**answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    if command == "start":
        say(first=first(ten))
        began = time.perf_counter()
        value = first(ten)
        say(second=value, seconds=time.perf_counter() - began)
        sys.stdin.read()
        return
    rows, small = int(sys.argv[3]), int(sys.argv[4])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages.split())
    say(versions=versions, lines=[[name, measure] for name, measure in jobs])
    first(ten)
    for (name, measure), job in jobs.items():
        try:
            measured = _timed(job, folder, rows, small if starts_workers else 0)
        except Exception as failure:  # noqa: BLE001 — its cell says so, the others go on
            measured = {"failed": str(failure).strip() or repr(failure)}
        say(line=name, measure=measure, **measured)


def _timed(
    job: Callable[[Path], float], folder: Path, rows: int, small: int
) -> dict[str, float | str]:
    data = folder / f"rows{rows}.parquet"
    began = time.perf_counter()
    job(folder / f"rows{small}.parquet" if small else data)  # what is slow the first time is past
    small_s = time.perf_counter() - began if small else 0.0
    times: list[float] = []
    value = 0.0
    while not times or (sum(times) < AGAIN_S and len(times) < TIMES):
        began = time.perf_counter()
        value = job(data)
        times.append(time.perf_counter() - began)
    return {"value": value, "rows": rows - small, "seconds": min(times), "small_seconds": small_s}
