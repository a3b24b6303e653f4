"""What the sandbox costs: at a worker's start, and while a function runs."""

from __future__ import annotations

import math
import os
import re
import signal
import statistics
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

import alink as al
import gobench

START_GOAL_MS = 5.0
REPLACED_GOAL_MS = 50.0
THROUGHPUT_GOAL = 0.03
PAIRS = 20
# Quantile of Student's distribution for a 95 % interval of PAIRS pairs.
STUDENT = 2.093
# Runs of each side of a pair, in the order ABBA…: short ones, so that both sides of a turn meet
# the same machine.
TURNS = 32
ROWS = {"row function": 250_000, "numpy function": 2_500_000}
ROUNDS, STARTS_A_ROUND = 15, 5


def start_ms(folder: Path) -> dict[str, float]:
    """Median milliseconds from a worker's launch to the end of an empty Python, by level."""
    program = gobench.compiled(folder, "./udfworker/sandbox")
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for level in ("L0", "L2"):  # in turns, so that both meet the same machine
            pattern = f"^BenchmarkStart$/^python$/^{level}$"
            text = gobench.printed(program, pattern, STARTS_A_ROUND)
            if found := re.search(r"(\d+(?:\.\d+)?) ns/op", text):
                times.setdefault(level, []).append(float(found[1]) / 1e6)
    return {level: statistics.median(each) for level, each in times.items()}


def _line(a: float, b: float) -> float:
    return a * 2 + b


def pair(name: str) -> float:
    """Logarithm of the rate with the sandbox over the rate without, on two fresh workers."""
    took: dict[Literal["auto", "off"], list[float]] = {"auto": [], "off": []}
    rows = ROWS[name]
    with al.connect() as ctx:
        table = ctx.from_arrow(pa.table({"a": np.arange(rows, dtype=float), "b": np.ones(rows)}))
        jobs = {}
        for sandbox in took:
            if name == "row function":
                function = al.udf("double", workers=1, sandbox=sandbox)(_line)
            else:
                function = al.udf("double", batch="numpy", workers=1, sandbox=sandbox)(_line)
            jobs[sandbox] = table.select(y=function("a", "b")).agg(s="sum(y)")
            jobs[sandbox].to_arrow()  # the worker is there, and warm
        for turn in range(TURNS):
            for sandbox in ("auto", "off") if turn % 2 else ("off", "auto"):
                began = time.perf_counter()
                jobs[sandbox].to_arrow()
                took[sandbox].append(time.perf_counter() - began)
    turns = zip(took["off"], took["auto"], strict=True)
    return statistics.median(math.log(off / auto) for off, auto in turns)


def throughput_pairs() -> list[tuple[str, float, float, float]]:
    """Rate with the sandbox over rate without: geometric mean of pairs, and its 95 % interval."""
    results = []
    for name in ROWS:
        logs = [pair(name) for _ in range(PAIRS)]
        half = STUDENT * statistics.stdev(logs) / math.sqrt(PAIRS)
        mean = statistics.fmean(logs)
        results.append((name, math.exp(mean), math.exp(mean - half), math.exp(mean + half)))
    return results


def replaced_ms() -> float:
    """Median milliseconds that a job takes longer because its worker has died before it."""
    added = []
    with al.connect(parallelism=1) as ctx:
        job = ctx.from_arrow(pa.table({"a": [1.0], "b": [2.0]})).select(
            y=al.udf("double")(_line)("a", "b")
        )
        job.to_arrow()
        for _ in range(ROUNDS):
            warm = _seconds(job)
            for worker in ctx.status()["workers"]:
                os.kill(worker["pid"], signal.SIGKILL)
            while ctx.status()["workers"]:
                time.sleep(0.001)
            added.append(_seconds(job) - warm)
    return statistics.median(added) * 1e3


def _seconds(job: al.Table) -> float:
    begun = time.perf_counter()
    job.to_arrow()
    return time.perf_counter() - begun


def report() -> list[str]:
    """Give the section of the report."""
    import tempfile

    with al.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]}))
        table.select(y=al.udf("bigint")(lambda x: x)("x")).to_arrow()
        level = ctx.status()["workers"][0]["sandbox"]
    lines = [
        "",
        "## Sandbox",
        "",
        f"The best level of this machine ({level}) beside `sandbox=\"off\"`. A start is that of an "
        f"empty Python, to its end, median of {ROUNDS} rounds of {STARTS_A_ROUND} in turns. "
        f"Throughput is the geometric mean of {PAIRS} pairs, with its 95 % interval. A pair has "
        "two fresh workers, one of each kind, since no two processes are equally fast, and "
        f"is the median of {TURNS} turns, in each of which both run one after the other; no pair "
        "is left out.",
        "",
        "| | with | without | | goal |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = start_ms(Path(folder))
    if "L2" in start:
        added = start["L2"] - start["L0"]
        met = "met" if added <= START_GOAL_MS else "not met"
        lines.append(
            f"| start of a process (L2, L0) | {start['L2']:.1f} ms | {start['L0']:.1f} ms "
            f"| + {added:.1f} ms | ≤ {START_GOAL_MS:g} ms, {met} |"
        )
    replaced = replaced_ms()
    met = "met" if replaced <= REPLACED_GOAL_MS else "not met"
    lines.append(
        f"| a worker in place of one that has died | {replaced:.0f} ms | | "
        f"| ≤ {REPLACED_GOAL_MS:g} ms, {met} |"
    )
    for name, mean, low, high in throughput_pairs():
        met = "met" if low >= 1 - THROUGHPUT_GOAL and high <= 1 + THROUGHPUT_GOAL else "not met"
        lines.append(
            f"| {name}, rate with over rate without | | | {mean:.3f} ({low:.3f}–{high:.3f}) "
            f"| within {THROUGHPUT_GOAL:.0%}, {met} |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
