"""What it costs to get rows into a worker and back, with a function that does nothing."""

from __future__ import annotations

import re
import statistics
import tempfile
from pathlib import Path

import gobench

COPY_GOAL = 0.3  # of the rate of a copy of the same bytes
ONE_ROW_GOAL_US = 100.0
ROUNDS = 5
SIZES = {1024: 1000, 8192: 500, 65_536: 100}  # rows of a batch, and how many batches
ONE_ROW_TIMES = 1000


def measured(program: Path, name: str, times: int) -> dict[str, float]:
    """Run one benchmark and give its figures by their units."""
    text = gobench.printed(program, f"^BenchmarkBoundary$/^{name}$", times)
    return {unit: float(value) for value, unit in re.findall(r"([\d.]+(?:e-\d+)?) (\S+)", text)}


def report() -> list[str]:
    """Give the section of the report."""
    sizes: dict[int, list[dict[str, float]]] = {rows: [] for rows in SIZES}
    one_row = []
    with tempfile.TemporaryDirectory() as folder:
        program = gobench.compiled(Path(folder), "./fnapi")
        for _ in range(ROUNDS):  # in turns, so that all meet the same machine
            for rows, times in SIZES.items():
                sizes[rows].append(measured(program, f"rows={rows}", times))
            one_row.append(measured(program, "one-row", ONE_ROW_TIMES)["median-µs"])
    lines = [
        "",
        "## Boundary",
        "",
        "From the engine to a worker and back, 40 bytes a row each way, 3 bundles in flight, what "
        "comes back checked, its numbers where the worker wrote them, with a function that gives "
        "what it gets. Beside it a copy of the same bytes within the engine. Best of "
        f"{ROUNDS} rounds in turns; one row by itself is the median of each, and the best of "
        "these.",
        "",
        "| rows in a batch | M rows/s | copied, M rows/s | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for rows, rounds in sizes.items():
        best = max(rounds, key=lambda one: one["of-a-copy"])
        met = "met" if best["of-a-copy"] >= COPY_GOAL else "not met"
        lines.append(
            f"| {rows:,} | {best['Mrows/s']:.1f} | {best['copied-Mrows/s']:.0f} "
            f"| {best['of-a-copy']:.3f} | ≥ {COPY_GOAL:g}, {met} |"
        )
    best_us = min(one_row)
    met = "met" if best_us <= ONE_ROW_GOAL_US else "not met"
    lines += [
        "",
        f"One row: {best_us:.0f} µs (median of the rounds {statistics.median(one_row):.0f}; "
        f"≤ {ONE_ROW_GOAL_US:g} µs, {met}).",
    ]
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
