"""What functions print and log, on its way to the engine."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from . import _wire
from ._fields import SEVERITY

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_BYTES_MAX = 8 << 10
ENTRIES_MAX = 1_000
ENTRIES_A_MESSAGE = 100
# A line without an end is kept this long at most.
_PARTIAL_BYTES_MAX = LINE_BYTES_MAX
TRANSFORM = "fn"


class Journal:
    """A bounded queue of log entries; gRPC takes them by iterating.

    Nothing ever waits for room: what does not fit is dropped, and a line says how much.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: deque[dict[str, Any]] = deque()
        self._dropped = 0
        # Entries so far: with a bundle's answer it tells the engine how many belong before it.
        self.added = 0
        # What runs now; prints of threads that user code started are counted to it too.
        self.bundle = ""
        self.function = ""

    def add(self, severity: str, text: str, location: str | None = None) -> None:
        """Add an entry.

        Parameters
        ----------
        location
            The function's name; by default that of the one that runs.
        """
        entry = self._entry(severity, text, self.function if location is None else location)
        with self._changed:
            if len(self._entries) >= ENTRIES_MAX:
                self._dropped += 1
                return
            self._entries.append(entry)
            self.added += 1
            self._changed.notify_all()

    def _entry(self, severity: str, text: str, location: str) -> dict[str, Any]:
        now = time.time_ns()
        return {
            "severity": SEVERITY[severity],
            "timestamp": {"seconds": now // 1_000_000_000, "nanos": now % 1_000_000_000},
            "message": cut(text),
            "instruction_id": self.bundle,
            "transform_id": TRANSFORM,
            "log_location": location,
        }

    def __iter__(self) -> Journal:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._entries:
                self._changed.wait()
            count = min(len(self._entries), ENTRIES_A_MESSAGE)
            entries = [self._entries.popleft() for _ in range(count)]
            if self._dropped:
                lost = (
                    f"{self._dropped} lines were dropped: they came faster than they could be sent"
                )
                entries.append(self._entry("WARN", lost, ""))
                self.added += 1
                self._dropped = 0
            self._changed.notify_all()
        return _wire.encode("LogEntry.List", {"log_entries": entries})

    def drain(self, seconds: float) -> None:
        """Wait until everything has been taken, but not longer than that."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._entries and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)


def cut(text: str) -> str:
    """Cut a line to ``LINE_BYTES_MAX``."""
    if len(text) * 4 <= LINE_BYTES_MAX:
        return text
    raw = text.encode("utf-8", "replace")
    if len(raw) <= LINE_BYTES_MAX:
        return text
    mark = "…"
    return raw[: LINE_BYTES_MAX - len(mark.encode())].decode("utf-8", "ignore") + mark


class _Lines(io.RawIOBase):
    """A file that makes entries of the lines that are written to it.

    A process that user code forks has no thread that sends entries: there the lines go to the
    file descriptor, as they would in any program.
    """

    def __init__(self, add: Callable[[str], None], descriptor: int) -> None:
        super().__init__()
        self._add = add
        self._descriptor = descriptor
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._partial = b""
        self._skips = False  # the rest of a line that was too long

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        if os.getpid() != self._process:
            return os.write(self._descriptor, raw)
        with self._lock:
            *lines, self._partial = (self._partial + raw).split(b"\n")
            if lines and self._skips:
                del lines[0]
                self._skips = False
            if self._skips:
                self._partial = b""
            elif len(self._partial) > _PARTIAL_BYTES_MAX:
                lines.append(self._partial)
                self._partial, self._skips = b"", True
        for line in lines:
            self._add(line.rstrip(b"\r").decode("utf-8", "replace"))
        return len(raw)

    def end_line(self) -> None:
        """Make an entry of a line that was begun."""
        if not self._partial and not self._skips:
            return
        with self._lock:
            line, self._partial, self._skips = self._partial, b"", False
        if line:
            self._add(line.decode("utf-8", "replace"))


class _Handler(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._journal.add(_severity(record.levelno), self.format(record))
        except Exception:
            self.handleError(record)


def _severity(level: int) -> str:
    for limit, severity in (
        (logging.CRITICAL, "CRITICAL"),
        (logging.ERROR, "ERROR"),
        (logging.WARNING, "WARN"),
        (logging.INFO, "INFO"),
    ):
        if level >= limit:
            return severity
    return "DEBUG"


class Capture:
    """Leads ``sys.stdout``, ``sys.stderr`` and Python's logging into a journal.

    The root logger passes on what is INFO or worse, since a ``logging.basicConfig`` in user code
    does nothing once there is a handler. Output of native code and of child processes goes to
    the process's own descriptors, which the supervisor reads.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._streams = [self._stream(1), self._stream(2)]
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        root.addHandler(_Handler(journal))
        root.setLevel(logging.INFO)

    def _stream(self, descriptor: int) -> io.TextIOWrapper:
        lines = _Lines(lambda line: self._journal.add("NOTICE", line), descriptor)
        return io.TextIOWrapper(
            io.BufferedWriter(lines),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def begin(self, bundle: str) -> None:
        """Say which bundle runs from now on."""
        self._journal.bundle = bundle

    def enter(self, function: str) -> None:
        """Say which function runs from now on."""
        self._journal.function = function

    def end(self) -> None:
        """Send lines that were begun, and say that nothing runs."""
        for stream in self._streams:
            try:
                stream.flush()
                raw = stream.buffer.raw  # type: ignore[attr-defined]
            except ValueError:
                continue  # user code closed it
            raw.end_line()
        self._journal.bundle = self._journal.function = ""
