"""What the loop of row functions costs for each type, beside the plain loop in one process.

Both call the same function, which returns its argument, on the same column: the worker's own
code as it runs in a worker, and ``pa.array([f(x) for x in column.to_pylist()], type)``.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from alink._worker._calls import Call
from alink._worker._functions import Library

ROWS = 65_536
ROUNDS = 5
EPOCH = dt.datetime(2020, 1, 1)
UTC = dt.timezone.utc


def columns() -> dict[str, pa.Array]:
    """Give a column of each type; in those with NULLs every tenth row is one."""
    floats = np.random.default_rng(7).random(ROWS + 2).tolist()
    moments = [EPOCH + dt.timedelta(microseconds=i * 1_000_003) for i in range(ROWS)]
    texts = [f"k{i:011d}" for i in range(ROWS + 2)]
    pair = pa.struct([("a", pa.float64()), ("b", pa.string())])
    values: dict[str, tuple[pa.DataType, list[Any]]] = {
        "double": (pa.float64(), floats[:ROWS]),
        "bigint": (pa.int64(), [i * 1_000_003 for i in range(ROWS)]),
        "boolean": (pa.bool_(), [i % 3 == 0 for i in range(ROWS)]),
        "string": (pa.string(), texts[:ROWS]),
        "string, not ASCII": (pa.string(), [f"é{text}" for text in texts[:ROWS]]),
        "binary": (pa.binary(), [text.encode() for text in texts[:ROWS]]),
        "timestamp": (pa.timestamp("us"), moments),
        "timestamp_ns": (pa.timestamp("ns"), moments),
        "timestamptz": (pa.timestamp("us", "UTC"), [m.replace(tzinfo=UTC) for m in moments]),
        "date": (pa.date32(), [m.date() for m in moments]),
        "time": (pa.time64("us"), [m.time() for m in moments]),
        "decimal(18,2)": (pa.decimal128(18, 2), [Decimal(i) / 100 for i in range(ROWS)]),
        "list of three doubles": (
            pa.list_(pa.float64()),
            [floats[i : i + 3] for i in range(ROWS)],
        ),
        "struct of a double and a string": (
            pair,
            [{"a": a, "b": b} for a, b in zip(floats, texts, strict=True)][:ROWS],
        ),
        "map of one string to a bigint": (
            pa.map_(pa.string(), pa.int64()),
            [[(texts[i], i)] for i in range(ROWS)],
        ),
    }
    arrays = {name: pa.array(list_, type_) for name, (type_, list_) in values.items()}
    for name in ("double", "bigint", "string", "timestamp"):
        type_, list_ = values[name]
        holes = [None if i % 10 == 0 else value for i, value in enumerate(list_)]
        arrays[f"{name} with NULLs"] = pa.array(holes, type_)
    return arrays


def same(value: Any) -> Any:
    """Give the row: the function that both call."""
    return value


class _Loaded(Library):
    def load(self, call: object) -> Callable[..., Any]:
        del call
        return same


def worker_loop(array: pa.Array) -> pa.Array:
    """Do what a worker does with a batch."""
    spec = {"id": "f", "name": "same", "kind": "row", "parameters": ["value"], "args": [0]}
    return Call(spec, array.type, _Loaded()).column([array], len(array), 0, True)


def plain_loop(array: pa.Array) -> pa.Array:
    """Do the same in the plainest way."""
    return pa.array([same(value) for value in array.to_pylist()], array.type)


def report() -> list[str]:
    """Give the section of the report."""
    lines = [
        "",
        "## Row loop by type",
        "",
        f"A row function that returns its argument, on one column of {ROWS:,} rows: ns a row of "
        "processor time of the worker's loop and of "
        "`pa.array([f(x) for x in column.to_pylist()], type)` in one process, best of "
        f"{ROUNDS} rounds in turns. The worker's loop refuses what a type cannot hold, the plain "
        "one takes `True` for 1.",
        "",
        "| | worker | plain | ratio |",
        "|---|---|---|---|",
    ]
    for name, array in columns().items():
        best = {worker_loop: float("inf"), plain_loop: float("inf")}
        for _ in range(ROUNDS):
            for loop in best:
                began = time.process_time()
                column = loop(array)
                best[loop] = min(best[loop], time.process_time() - began)
                if not column.equals(array):
                    raise AssertionError(f"{name}: the loop changed a value")
        worker, plain = (seconds / ROWS * 1e9 for seconds in best.values())
        lines.append(f"| {name} | {worker:.0f} | {plain:.0f} | {plain / worker:.2f} |")
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
