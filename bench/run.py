"""Measure what a user notices first, each beside its yardstick in the same run.

``make bench`` runs it and writes its part of ``docs/performance.md``. Absolute figures move
from machine to machine; read the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import alink as al
import boundary
import confined
import report
import watched

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
# What is aimed at, with one worker where workers count.
FIRST_ROWS_GOAL = 4.0  # times import pyarrow
SECOND_JOB_S_GOAL = 0.05
IDLE_MIB_GOAL = 60
TEN_ROWS_MIB_GOAL = 300
LARGE_MIB_GOAL = 400
GROWTH_GOAL = 1.10  # from the smaller to the larger table

BATCH_ROWS = 65_536
IMPORT_PYARROW = "import pyarrow"
MIB = 1024  # KiB

FIRST_ROW = """
import sys
import alink as al

@al.udf("double")
def double_it(x: float) -> float:
    return x * 2

{source}
rows = t.with_columns(y=double_it("x")).to_arrow()
assert rows["y"].to_pylist() == [float(2 * i) for i in range(10)]
"""

# pyarrow imports pandas, where it is installed, when it makes arrays of Python
# values: that is the second script's, and no part of a yardstick.
FIRST_ROW_SOURCES = {
    "a Parquet file": "t = al.read_parquet(sys.argv[1])",
    "`pa.table` of Python values": (
        'import pyarrow as pa\nt = al.from_arrow(pa.table({"x": [float(i) for i in range(10)]}))'
    ),
}


def at_most(value: float, goal: float, unit: str = "") -> str:
    """Give the cell of a goal that a figure must not pass."""
    return f"≤ {goal:g}{unit}, {'met' if value <= goal else 'not met'}"


def at_least(value: float, goal: float) -> str:
    """Give the cell of a goal that a figure must reach."""
    return f"≥ {goal:g}, {'met' if value >= goal else 'not met'}"


def line(a: float, b: float) -> float:
    """Compute one row: the row function."""
    return a * 2 + b


def line_numpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute whole columns: the same as a numpy function."""
    return a * 2 + b


def tag(s: str) -> str:
    """Change one string: the row function of strings."""
    return s + "!"


def tag_arrow(s: pa.Array) -> pa.Array:
    """Change a column of strings: the same as an Arrow function."""
    return pc.binary_join_element_wise(s, "!", "")


def mean(values: pd.Series) -> float:
    """Aggregate one group: the function of pandas."""
    return float(values.sum()) / len(values)


def mean_of_group(group: pd.DataFrame) -> pd.DataFrame:
    """Do the same as a function of groups."""
    return type(group)({"m": [mean(group["a"])]})


class Mean:
    """Do the same as an aggregate function."""

    def create(self) -> tuple[float, int]:
        """Give the state of no rows."""
        return 0.0, 0

    def add(self, state: tuple[float, int], values: np.ndarray) -> tuple[float, int]:
        """Take rows in."""
        return state[0] + float(values.sum()), state[1] + len(values)

    def merge(self, state: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
        """Take another state in."""
        return state[0] + other[0], state[1] + other[1]

    def result(self, state: tuple[float, int]) -> float:
        """Give the mean."""
        return state[0] / state[1]


def seconds(argv: list[str]) -> float:
    """Wall time of a command."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def cold_start(runs: int) -> dict[str, float]:
    """Median seconds of importing pyarrow, and of scripts to their first rows."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "ten.parquet")
        pq.write_table(pa.table({"x": [float(i) for i in range(10)]}), data)
        commands = {IMPORT_PYARROW: [sys.executable, "-c", "import pyarrow"]}
        for name, source in FIRST_ROW_SOURCES.items():
            script = Path(folder, f"first_row_{len(commands)}.py")
            script.write_text(FIRST_ROW.format(source=source))
            commands[name] = [sys.executable, str(script), str(data)]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs + 1):  # the first of each warms the disk's cache
            for name, command in commands.items():
                times[name].append(seconds(command))
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def best(run: Callable[[], None], runs: int) -> float:
    """Time several runs and give the shortest, in seconds."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def make_table(path: Path, rows: int) -> None:
    """Write (id bigint, a double, b double, s string, ts timestamp)."""
    random = np.random.default_rng(7)
    writer = None
    for start in range(0, rows, 1_000_000):
        n = min(1_000_000, rows - start)
        ids = np.arange(start, start + n)
        batch = pa.table(
            {
                "id": ids,
                "a": random.random(n),
                "b": random.random(n),
                "s": pc.binary_join_element_wise("k", pa.array(ids % 1000).cast(pa.string()), ""),
                "ts": pa.array(ids * 1_000_000, pa.timestamp("us")),
            }
        )
        writer = writer or pq.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
    if writer is not None:
        writer.close()


def columns_of(path: Path, *names: str) -> Iterator[pa.RecordBatch]:
    """Read the columns that a function needs, batch by batch."""
    return pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(names))


def row_in_process(path: Path) -> float:
    """Run the row function in this process, reading and summing included."""
    total = 0.0
    for batch in columns_of(path, "a", "b"):
        values = list(map(line, batch["a"].to_pylist(), batch["b"].to_pylist()))
        total += pc.sum(pa.array(values, pa.float64())).as_py()
    return total


def numpy_in_process(path: Path) -> float:
    """Run the numpy function in this process, reading and summing included."""
    total = 0.0
    for batch in columns_of(path, "a", "b"):
        total += float(line_numpy(batch["a"].to_numpy(), batch["b"].to_numpy()).sum())
    return total


def string_in_process(path: Path) -> float:
    """Run the row function of strings in this process, reading and counting included."""
    total = 0.0
    for batch in columns_of(path, "s"):
        values = pa.array([tag(text) for text in batch["s"].to_pylist()], pa.string())
        total += pc.sum(pc.utf8_length(values)).as_py()
    return total


def arrow_in_process(path: Path) -> float:
    """Run the Arrow function of strings in this process, reading and counting included."""
    return float(
        sum(
            pc.sum(pc.utf8_length(tag_arrow(batch["s"]))).as_py() for batch in columns_of(path, "s")
        )
    )


def groups_in_process(path: Path) -> float:
    """Aggregate by pandas, reading and summing included."""
    frame = pq.read_table(path, columns=["s", "a"]).to_pandas()
    return float(frame.groupby("s")["a"].agg(mean).sum())


def through_engine(table: al.Table, function: object) -> float:
    """Run a function of a and b through the engine and its workers."""
    applied = table.select("a", "b").with_columns(y=function("a", "b"))  # type: ignore[operator]
    return applied.agg(total="sum(y)").to_arrow()["total"][0].as_py()


def line_through_engine(table: al.Table, workers: int) -> float:
    """Run the row function through the engine."""
    return through_engine(table, al.udf("double", workers=workers)(line))


def numpy_through_engine(table: al.Table, workers: int) -> float:
    """Run the numpy function through the engine."""
    return through_engine(table, al.udf("double", batch="numpy", workers=workers)(line_numpy))


def length_through_engine(table: al.Table, function: object) -> float:
    """Run a function of s through the engine, and count what it gives."""
    applied = table.select("s").with_columns(y=function("s"))  # type: ignore[operator]
    return applied.agg(total="sum(length(y))").to_arrow()["total"][0].as_py()


def string_through_engine(table: al.Table, workers: int) -> float:
    """Run the row function of strings through the engine."""
    return length_through_engine(table, al.udf("string", workers=workers)(tag))


def arrow_through_engine(table: al.Table, workers: int) -> float:
    """Run the Arrow function of strings through the engine."""
    return length_through_engine(table, al.udf("string", batch="arrow", workers=workers)(tag_arrow))


def aggregate_through_engine(table: al.Table, workers: int) -> float:
    """Aggregate through the engine."""
    make = al.udaf("double", state="sum double, n bigint", batch="numpy", workers=workers)
    means = table.group_by("s").agg(m=make(Mean)("a"))
    return means.agg(total="sum(m)").to_arrow()["total"][0].as_py()


def groups_through_engine(table: al.Table, workers: int) -> float:
    """Give whole groups to a function through the engine."""
    make = al.map_groups("m double", columns=["a"], batch="pandas", workers=workers)
    means = table.group_by("s").map_groups(make(mean_of_group))
    return means.agg(total="sum(m)").to_arrow()["total"][0].as_py()


# What is run: its goals with one worker and with two, in process and through the engine.
CASES = {
    "row function": ((0.95, 1.8), row_in_process, line_through_engine),
    "numpy function": ((0.8, 1.0), numpy_in_process, numpy_through_engine),
    "row function of strings": ((0.95, 1.8), string_in_process, string_through_engine),
    "Arrow function of strings": ((0.85, 1.0), arrow_in_process, arrow_through_engine),
    "aggregate function of 1,000 groups": (
        (0.8, 1.2),
        groups_in_process,
        aggregate_through_engine,
    ),
    "`map_groups` of 1,000 groups": ((0.8, 1.2), groups_in_process, groups_through_engine),
}


class PssWatch:
    """The largest proportional set size of each named process, sampled."""

    def __init__(self, processes: Callable[[], dict[str, list[int]]]) -> None:
        self.processes = processes
        self.peak_kib: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PssWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for name, pids in self.processes().items():
                now = sum(pss_kib(pid) for pid in pids)
                self.peak_kib[name] = max(self.peak_kib.get(name, 0), now)


def pss_kib(pid: int) -> int:
    """Proportional set size of a process in KiB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in text.splitlines() if row.startswith("Pss:")), 0)


def children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    with contextlib.suppress(OSError):  # a thread that has ended
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def named_processes(ctx: al.Context) -> Callable[[], dict[str, list[int]]]:
    """Name the processes of a connection by their part."""

    def now() -> dict[str, list[int]]:
        status = ctx.status()
        return {
            "client": [os.getpid()],
            "engine": [status["engine_pid"]],
            "supervisor": [status["supervisor_pid"]],
            "workers": children(status["supervisor_pid"]),  # zygotes too, and who reaps
        }

    return now


def ten_row_memory() -> dict[str, int]:
    """Peak PSS in KiB of each process for a job of ten rows and one worker."""
    code = textwrap.dedent(
        """
        import json, sys
        sys.path.insert(0, sys.argv[1])
        import pyarrow as pa
        import alink as al
        from run import PssWatch, named_processes, line
        with al.connect() as ctx:
            t = ctx.from_arrow(pa.table({"a": [1.0] * 10, "b": [2.0] * 10}))
            f = al.udf("double")(line)
            with PssWatch(named_processes(ctx)) as watch:
                for _ in range(5):
                    t.with_columns(y=f("a", "b")).to_arrow()
        print(json.dumps(watch.peak_kib))
        """
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(HERE)], check=True, capture_output=True, text=True
    )
    return json.loads(out.stdout)


def throughput(
    ctx: al.Context, path: Path, rows: int, runs: int
) -> list[tuple[str, float, float, float]]:
    """For each way to run a function: its name, M rows/s, that in process, and its goal."""
    table = ctx.read_parquet(str(path))
    results = []
    for name, (goals, here, through) in CASES.items():
        want = here(path)
        plain = rows / best(partial(check_of, partial(here, path), want), runs) / 1e6
        for workers, goal in zip((1, 2), goals, strict=True):
            through(table.limit(BATCH_ROWS * 4), workers)  # start the workers
            run = partial(through, table, workers)
            rate = rows / best(partial(check_of, run, want), runs) / 1e6
            results.append((f"{name}, {workers} worker{'s' * (workers > 1)}", rate, plain, goal))
    return results


def check_of(run: Callable[[], float], want: float) -> None:
    """Run something, and refuse a fast wrong answer."""
    check(run(), want)


def check(got: float, want: float) -> None:
    """Refuse a fast wrong answer."""
    if abs(got - want) > 1e-6 * abs(want):
        raise AssertionError(f"got {got}, want {want}")


def second_job(ctx: al.Context, runs: int) -> float:
    """Median seconds of a job of ten rows in a process that has run one."""
    table = ctx.from_arrow(pa.table({"a": [1.0] * 10, "b": [2.0] * 10}))
    function = al.udf("double")(line)
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        table.with_columns(y=function("a", "b")).to_arrow()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def idle_engine_kib() -> int:
    """Proportional set size in KiB of an engine that has done nothing but start."""
    with al.connect() as ctx:
        ctx.status()
        time.sleep(1)  # what start-up has left over is collected meanwhile
        return pss_kib(ctx.status()["engine_pid"])


def memory_by_rows(folder: Path, sizes: list[int]) -> list[tuple[str, dict[str, int]]]:
    """Peak PSS in KiB of each process, for jobs over files of several sizes."""
    measured = []
    for rows in sizes:
        path = folder / f"rows{rows}.parquet"
        if not path.exists():
            make_table(path, rows)
        for kind, function in (
            ("row", al.udf("double", workers=1)(line)),
            ("numpy", al.udf("double", batch="numpy", workers=1)(line_numpy)),
        ):
            with al.connect() as ctx, PssWatch(named_processes(ctx)) as watch:
                through_engine(ctx.read_parquet(str(path)), function)
            measured.append((f"{rows:,} rows, {kind} function, one worker", watch.peak_kib))
        path.unlink()
    return measured


def main() -> None:
    """Run everything and write the report."""
    import rowloop  # a function of this file travels with what the file imports

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--large", type=int, default=100_000_000, help="rows of the memory test")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=report.PAGE)
    options = parser.parse_args()

    lines = [
        f"Written by `make bench` on {os.cpu_count()} processors, Python "
        f"{platform.python_version()}, pyarrow {pa.__version__}, best of {options.runs} runs "
        "where nothing else is said. Read the ratios, which were taken in one run: absolute "
        "figures move from machine to machine.",
        "",
        "## Start",
        "",
        "Medians of whole processes, their end included. The second script's `pa.table` imports "
        "pandas, which takes part of its time.",
        "",
        "| | s | beside `import pyarrow` | goal |",
        "|---|---|---|---|",
    ]
    first = cold_start(max(9, options.runs))
    yardstick = first.pop(IMPORT_PYARROW)
    lines.append(f'| `python -c "import pyarrow"` | {yardstick:.3f} | 1.00 × | |')
    lines += [
        f"| script to first rows through a function, from {name} | {wall:.3f} "
        f"| {wall / yardstick:.2f} × | {at_most(wall / yardstick, FIRST_ROWS_GOAL, ' ×')} |"
        for name, wall in first.items()
    ]
    idle = idle_engine_kib()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"rows{options.rows}.parquet")
        make_table(path, options.rows)
        with al.connect() as ctx:
            second = second_job(ctx, 20)
            rates = throughput(ctx, path, options.rows, options.runs)
        lines.append(
            f"| second job in the same process | {second:.3f} | {second / yardstick:.2f} × "
            f"| {at_most(second, SECOND_JOB_S_GOAL, ' s')} |"
        )
        lines += [
            "",
            f"## Functions over a Parquet file of {options.rows:,} rows",
            "",
            "Reading and summing included, beside the same in one process: `a * 2 + b`, a letter "
            "put behind a string, the mean of a group beside `groupby(…).agg` of pandas.",
            "",
            "| | M rows/s | in process | ratio | goal |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {rate:.2f} | {plain:.2f} | {rate / plain:.2f} "
            f"| {at_least(rate / plain, goal)} |"
            for name, rate, plain, goal in rates
        ]
        lines += rowloop.report()
        by_rows = memory_by_rows(Path(folder), [options.rows, options.large])
    lines += [
        "",
        "## Memory",
        "",
        f"Peak proportional set size in MiB, sampled. An idle engine has {idle / MIB:.0f} "
        f"({at_most(idle / MIB, IDLE_MIB_GOAL, ' MiB')}). "
        "The client is this benchmark, with numpy and pyarrow.parquet; the process that workers "
        "are forked from counts as one of them.",
        "",
        "| | client | engine | supervisor | workers | together | engine and workers | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ten = ten_row_memory()
    goal = f"together {at_most(sum(ten.values()) / MIB, TEN_ROWS_MIB_GOAL)}"
    lines.append(memory_row("10 rows, row function, one worker", ten, goal))
    lines += [
        memory_row(name, peak, f"engine and workers {at_most(data_mib(peak), LARGE_MIB_GOAL)}")
        for name, peak in by_rows
    ]
    kinds = len(by_rows) // 2
    lines += ["", "From the smaller to the larger table, engine and workers together:", ""]
    for (small, less), (large, more) in zip(by_rows[:kinds], by_rows[kinds:], strict=True):
        growth = data_mib(more) / data_mib(less)
        lines.append(f"- {small} to {large}: {growth:.2f} × ({at_most(growth, GROWTH_GOAL, ' ×')})")
    lines += boundary.report()
    lines += watched.report()
    lines += confined.report()
    print(report.write_part(options.output, "make bench", lines))


def data_mib(peak_kib: dict[str, int]) -> float:
    """Give what the processes hold through which the data flows."""
    return (peak_kib.get("engine", 0) + peak_kib.get("workers", 0)) / MIB


def memory_row(name: str, peak_kib: dict[str, int], goal: str) -> str:
    """Format a row of the memory table."""
    parts = [peak_kib.get(part, 0) / MIB for part in ("client", "engine", "supervisor", "workers")]
    shown = [*parts, sum(parts), parts[1] + parts[3]]
    return f"| {name} | " + " | ".join(f"{part:.0f}" for part in shown) + f" | {goal} |"


if __name__ == "__main__":
    main()
