"""What it costs to look at functions: the clocks that tell their time apart, and a profile."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from alink._worker import _calls
from alink._worker._calls import Call
from alink._worker._clock import CLOCK, Clock
from alink._worker._functions import Library
from alink._worker._sampler import Sampler

ROUNDS = 101
SLICE_S = 0.03  # of one way to run a function, before it is another's turn
NAMES = ["line"]
SAMPLER = Sampler()


def line(a: Any, b: Any) -> Any:
    """Compute a row, or whole columns."""
    return a * 2 + b


class _Loaded(Library):
    def load(self, call: object) -> Callable[..., Any]:
        del call
        return line


class _Still(Clock):
    """A clock that is never read."""

    def begin(self, names: object) -> None:
        del names

    def end(self) -> bytes:
        return b""

    def to(self, cell: int) -> int:
        return cell

    def enter(self, name: str) -> None:
        del name


def bundle_s(call: Call, clock: Clock, columns: list[pa.Array]) -> float:
    """Run bundles for a while; give the seconds of processor time that one takes."""
    with mock.patch.object(_calls, "CLOCK", clock):
        began, bundles = time.process_time(), 0
        while (spent := time.process_time() - began) < SLICE_S or not bundles:
            clock.begin(NAMES)
            clock.enter(NAMES[0])
            call.column(columns, len(columns[0]), 0, True)
            clock.end()
            bundles += 1
    return spent / bundles


def sampled_bundle_s(call: Call, clock: Clock, columns: list[pa.Array]) -> float:
    """Do the same while samples are taken as for ``ctx.profile``."""
    SAMPLER.begin()
    try:
        return bundle_s(call, clock, columns)
    finally:
        SAMPLER.end()


def measured(kind: str, rows: int) -> tuple[float, list[float]]:
    """Give the seconds of a bundle, and what clocks and profile add to it, as ratios."""
    values = np.random.default_rng(7).random(rows)
    columns = [pa.array(values), pa.array(values)]
    spec = {"id": "f", "name": NAMES[0], "kind": kind, "parameters": ["a", "b"], "args": [0, 1]}
    call, still, clock = Call(spec, pa.float64(), _Loaded()), _Still(), CLOCK
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: bundle_s(call, still, columns),
        "clocks": lambda: bundle_s(call, clock, columns),
        "profile": lambda: sampled_bundle_s(call, clock, columns),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for _ in range(ROUNDS):
        random.shuffle(order)  # nobody always comes behind the same one
        for way in order:
            taken[way].append(ways[way]())
    ratios = [
        statistics.median(b / a for a, b in zip(taken[before], taken[after], strict=True))
        for before, after in (("bare", "clocks"), ("clocks", "profile"))
    ]
    return statistics.median(taken["bare"]), ratios


def report() -> list[str]:
    """Give the section of the report."""
    lines = [
        "",
        "## Clocks and profile",
        "",
        "What it adds to a function's bundle, `a * 2 + b` of doubles within the worker, to read "
        "the clocks that tell Python from conversion, which always run, and beyond that to take "
        f"samples for `ctx.profile`: processor time, median of {ROUNDS} pairs in turns.",
        "",
        "| | bundle, µs | clocks | profile |",
        "|---|---|---|---|",
    ]
    for name, kind, rows in (
        ("row function, 8,192 rows", "row", 8_192),
        ("numpy function, 8,192 rows", "numpy", 8_192),
        ("numpy function, 65,536 rows", "numpy", 65_536),
    ):
        bundle, ratios = measured(kind, rows)
        added = " | ".join(f"{100 * (ratio - 1):+.1f} %" for ratio in ratios)
        lines.append(f"| {name} | {bundle * 1e6:,.0f} | {added} |")
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
