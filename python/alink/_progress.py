"""Progress of a running job on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from alink._config import origin, setting
from alink._diag import harmless
from alink._options import bad_option

if TYPE_CHECKING:
    from alink._notebook import ProgressOutput

_DELAY_S = 0.5  # a job that ends sooner shows nothing
_PLAIN_INTERVAL_S = 5.0
_LINES_MAX = 16
_MARKS = {"waiting": "·", "running": "▸", "done": "✓"}
_ASCII_MARKS = {"waiting": ".", "running": ">", "done": "x"}


@dataclass(frozen=True)
class OperatorProgress:
    """How far one operator of a job is.

    Parameters
    ----------
    id, name : str
        The operator in the plan.
    rows_in, rows_out : int
        Rows so far.
    bytes_out : int
        Bytes of Arrow memory handed on so far.
    state : {"waiting", "running", "done"}
        What it does.
    note : str
        What it waits for, for example an environment that is being built.
    memory_bytes : int
        Memory of the workers that it uses, 0 where that is not known; when it is done, the
        most that was seen.
    time_s : float
        Seconds that it has worked, without waiting for input or for whoever reads its output:
        the sum over its subtasks or, where Python functions run, over their workers.
    detail : str
        What more it does than its name says, for example which columns a file is read by.
    workers, bundles, restarts : int
        Of Python functions: their workers, the bundles that these have run, and the workers
        that died and were replaced.
    failed_rows : int
        Rows on which a function has failed, and that gave NULL or were left out.
    python_s, conversion_s, load_s, transfer_s : float
        Of Python functions the four parts of ``time_s``: the functions themselves, the
        conversion of their values from Arrow and back, their loading (with the imports that
        it makes), and the way of batches to the workers and back.
    queue_s : float
        How long input waited for a worker besides: because it was started, or busy.
    functions : list of dict
        ``name``, ``python_s`` and ``conversion_s`` of each function.
    imports : dict
        The seconds of ``load_s`` in which modules were imported, by package.
    batches, bytes_to_workers, bytes_from_workers : int
        Batches that went to workers, their bytes, and the bytes that came back.
    workers_started : int
        Workers that had not been used before.
    """

    id: str
    name: str
    rows_in: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    state: str = "waiting"
    note: str = ""
    memory_bytes: int = 0
    time_s: float = 0.0
    workers: int = 0
    bundles: int = 0
    restarts: int = 0
    failed_rows: int = 0
    detail: str = ""
    queue_s: float = 0.0
    transfer_s: float = 0.0
    conversion_s: float = 0.0
    python_s: float = 0.0
    load_s: float = 0.0
    functions: list[dict[str, Any]] = field(default_factory=list)
    imports: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    bytes_to_workers: int = 0
    bytes_from_workers: int = 0
    workers_started: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a job is: its operators, and the seconds since it began."""

    operators: tuple[OperatorProgress, ...] = ()
    elapsed_s: float = 0.0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Progress:
        """Read the wire form; what a newer engine adds is left out."""
        known = OperatorProgress.__dataclass_fields__
        operators = tuple(
            OperatorProgress(**{k: v for k, v in operator.items() if k in known})
            for operator in data.get("operators") or ()
        )
        return cls(operators, data.get("elapsed_s", 0.0))


class Display:
    """Shows progress and what functions print on standard error.

    In a notebook the operators are a table below the cell, folded when the job has ended. On
    a terminal the operators are a block of lines that is drawn anew; lines that
    functions print appear above it. ``ALINK_PROGRESS`` is ``auto`` (the default), ``plain``
    (a line every five seconds, terminal or not) or ``off``. Called from the thread that
    watches a job and from those that wait for it.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        mode = progress_mode()
        shown = mode == "auto" and not quiet
        self._output = _notebook_output() if stream is None else None
        self._html = self._output if shown else None
        self._live = shown and self._html is None and _is_terminal(self._stream)
        self._plain = mode == "plain" and not quiet
        self._last = Progress()
        self._lock = threading.Lock()
        self._drawn = 0  # lines of the block that stand on the terminal
        self._next_plain_s = _PLAIN_INTERVAL_S
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}

    def update(self, progress: Progress) -> None:
        """Take note of a job's progress and show it if it is time."""
        self._note_times(progress)
        self._last = progress
        if self._html is not None and progress.elapsed_s >= _DELAY_S:
            self._show_html("running")
        elif self._live and progress.elapsed_s >= _DELAY_S:
            width = shutil.get_terminal_size().columns
            lines = render_progress(
                progress, self._rates(progress), width - 1, _marks(self._stream)
            )
            with self._lock:
                self._write(self._erasing() + "".join(line + "\n" for line in lines))
                self._drawn = len(lines)
        elif self._plain and progress.elapsed_s >= self._next_plain_s:
            self._next_plain_s = progress.elapsed_s + _PLAIN_INTERVAL_S
            with self._lock:
                self._write(plain_line(progress) + "\n")

    def log(self, function: str, text: str) -> None:
        """Show a line that a function printed or logged."""
        label = f"[{function}] " if function else ""
        with self._lock:
            self._write(self._erasing() + f"{harmless(label + text, colours=True)}\n")
            self._drawn = 0

    def finish(self, state: str = "ended") -> None:
        """Take the block off the terminal; fold it in a notebook."""
        with self._lock:
            self._write(self._erasing())
            self._drawn = 0
        if self._html is not None and self._html.shown:
            self._show_html(state)

    def _show_html(self, state: str) -> None:
        from alink._notebook import progress_html

        assert self._html is not None
        rates = {name: f"{_short(rate)} rows/s" for name, rate in self._rates(self._last).items()}
        self._html.show(progress_html(self._last, rates, state))

    def _erasing(self) -> str:
        """Give the control sequence that takes the drawn block away."""
        return f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            if self._output is not None:
                self._output.write(self._stream, text)
                return
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # standard error is closed: nobody looks
            self._live = self._plain = False

    def _note_times(self, progress: Progress) -> None:
        now = time.monotonic()
        for operator in progress.operators:
            if operator.rows_out > 0 or operator.state == "running":
                self._started.setdefault(operator.id, now)
            if operator.state == "done":
                self._ended.setdefault(operator.id, now)

    def _rates(self, progress: Progress) -> dict[str, float]:
        now = time.monotonic()
        rates: dict[str, float] = {}
        for operator in progress.operators:
            if operator.id in self._started:
                seconds = self._ended.get(operator.id, now) - self._started[operator.id]
                if seconds > 0:
                    rates[operator.id] = operator.rows_out / seconds
        return rates


def progress_mode() -> str:
    """Read the setting ``progress``."""
    mode = setting("progress") or "auto"
    if mode not in ("auto", "plain", "off"):
        name = origin("progress")
        raise bad_option(name, f"{name} must be auto, plain or off, not {mode!r}")
    return mode


def render_progress(
    progress: Progress, rates: dict[str, float], width: int, marks: dict[str, str] = _MARKS
) -> list[str]:
    """Write one line for each operator, no wider than `width` characters."""
    operators = progress.operators
    names = max((len(o.name) for o in operators), default=0)
    rows = max((len(f"{o.rows_out:,}") for o in operators), default=1)
    memory = max((len(mebibytes(o.memory_bytes)) for o in operators), default=0)
    lines = [f"running for {progress.elapsed_s:.1f} s"]
    for operator in operators[-_LINES_MAX:]:
        rate = f"{_short(rates[operator.id])} rows/s" if operator.id in rates else ""
        line = f" {marks.get(operator.state, ' ')} {operator.name:<{names}}"
        line += f"  {operator.rows_out:>{rows},} rows  {rate:>12}"
        if memory:
            line += f"  {mebibytes(operator.memory_bytes):>{memory}}"
        if operator.note:
            line += f"  {operator.note}"
        lines.append(line.rstrip())
    return [line if len(line) <= width else line[: max(0, width)] for line in lines]


_DETAIL_MAX = 100  # characters
_SHOWN_S_MIN = 0.005
_IMPORTS_SHOWN = 6
_COSTS = (
    "rows in", "rows out", "MiB out", "time", "workers", "memory", "bundles", "restarts", "failed",
)  # fmt: skip


def render_costs(progress: Progress) -> str:
    """Write what each operator of a job has cost, as a table of text."""
    rows = [("operator", *_COSTS), *map(_costs, progress.operators)]
    used = [i for i in range(len(rows[0])) if i < 5 or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in used}
    lines = [f"ran in {progress.elapsed_s:.2f} s"]
    details = [[], *map(_details, progress.operators)]
    for row, below in zip(rows, details, strict=True):
        cells = [row[i].rjust(widths[i]) if i else row[i].ljust(widths[i]) for i in used]
        lines.append("  ".join(cells).rstrip())
        lines += [f"  {line}" for line in below]
    return "\n".join(lines)


def _details(o: OperatorProgress) -> list[str]:
    """Write what stands below the cells of an operator."""
    lines = []
    if o.detail:
        lines.append(o.detail if len(o.detail) <= _DETAIL_MAX else o.detail[:_DETAIL_MAX] + "…")
    return lines + split_lines(o)


def split_lines(o: OperatorProgress) -> list[str]:
    """Write where the time of an operator of Python functions has gone."""
    if not o.bundles:
        return []
    parts = ("python", o.python_s), ("conversion", o.conversion_s), ("transfer", o.transfer_s)
    split = " + ".join(f"{name} {seconds:.2f} s" for name, seconds in parts)
    if o.load_s >= _SHOWN_S_MIN:
        split += f" + load {o.load_s:.2f} s"
    lines = [f"{split}; queue {o.queue_s:.2f} s"]
    if len(o.functions) > 1:
        lines += [
            f"{f['name']}: python {f['python_s']:.2f} s, conversion {f['conversion_s']:.2f} s"
            for f in o.functions
        ]
    to, back = o.bytes_to_workers / 2**20, o.bytes_from_workers / 2**20
    crossed = f"{o.batches:,} batches, {to:,.1f} MiB to workers, {back:,.1f} MiB back"
    if o.workers_started:
        crossed += f"; {o.workers_started} workers started"
    lines.append(crossed)
    longest = sorted(o.imports.items(), key=lambda item: -item[1])[:_IMPORTS_SHOWN]
    if shown := [f"{name} {s:.2f} s" for name, s in longest if s >= _SHOWN_S_MIN]:
        lines.append(f"imported {', '.join(shown)}")
    return lines


def _costs(o: OperatorProgress) -> tuple[str, ...]:
    """Write the cells of one operator; those that say nothing are empty."""
    is_function = o.workers > 0
    return (
        o.name,
        f"{o.rows_in:,}",
        f"{o.rows_out:,}",
        f"{o.bytes_out / 2**20:,.1f}",
        f"{o.time_s:.2f} s",
        f"{o.workers}" if is_function else "",
        mebibytes(o.memory_bytes),
        f"{o.bundles:,}" if is_function else "",
        f"{o.restarts}" if o.restarts else "",
        f"{o.failed_rows:,}" if o.failed_rows else "",
    )


def plain_line(progress: Progress) -> str:
    """Write progress as one line of a log."""
    running = [o for o in progress.operators if o.state == "running"]
    parts = [
        f"{o.name} {o.rows_out:,} rows" + (f" ({o.note})" if o.note else "")
        for o in running or progress.operators[-1:]
    ]
    return f"alink: {progress.elapsed_s:.0f} s: {'; '.join(parts)}"


def _short(rate: float) -> str:
    """Write a rate with three digits and a unit.

    Examples
    --------
    >>> [_short(r) for r in (7.0, 12_345.0, 2_500_000.0)]
    ['7', '12.3k', '2.5M']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.3g}{unit}"
    return f"{rate:.0f}"


def mebibytes(size: int) -> str:
    """Write the memory of an operator's workers; "" where it is not known.

    Examples
    --------
    >>> mebibytes(52_428_800), mebibytes(0)
    ('50 MiB', '')
    """
    return f"{size / 2**20:,.0f} MiB" if size > 0 else ""


def _notebook_output() -> ProgressOutput | None:
    """Give a piece of output of the running cell, where this is a notebook's kernel."""
    if "ipykernel" not in sys.modules:
        return None
    from alink._notebook import ProgressOutput, in_notebook

    return ProgressOutput() if in_notebook() else None


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _marks(stream: TextIO) -> dict[str, str]:
    try:
        "".join(_MARKS.values()).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII_MARKS
    return _MARKS
