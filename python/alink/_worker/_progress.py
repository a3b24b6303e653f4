"""How far the worker is, on a page that the engine reads too.

The engine ends a function that makes no progress for too long. What counts as progress is
written to a file that is mapped into memory, so that nothing has to be sent and nobody has to
answer: a function that hangs in native code shows as well as one that loops. The words of the
page are described in the engine's fnapi/page.go.

A row function is not slowed down to count its rows: a thread looks ten times a second at how
many results there are.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_BYTES = 4096
LOOK_SECONDS = 0.1
# The thread goes to sleep when nothing has run for as many looks.
IDLE_LOOKS = 20

_INSTRUCTION, _RUNNING, _CALL, _ROW, _STEPS, _ROWS, _BEGUN, _STATE, _LOOKS = range(9)
_LOADING, _EXACT = 1, 2


class Progress:
    """The page, or memory of the worker's own where the engine has none."""

    def __init__(self) -> None:
        self._words = memoryview(bytearray(PAGE_BYTES)).cast("Q")
        self._wake = threading.Event()
        self._asleep = False
        self._busy = False
        self._steps = 0
        self._count: Callable[[], int] | None = None
        self._first: int | None = None

    def open(self, page: str | int) -> None:
        """Map the page, a path or a descriptor, and start the thread that counts rows."""
        descriptor = os.open(page, os.O_RDWR | os.O_CLOEXEC) if isinstance(page, str) else page
        try:
            self._words = memoryview(mmap.mmap(descriptor, PAGE_BYTES)).cast("Q")
        finally:
            os.close(descriptor)
        threading.Thread(target=self._look, name="alink-progress", daemon=True).start()

    def begin(self, instruction: str) -> None:
        """Say that a bundle is run from now on."""
        self.step()
        number = instruction[1:]
        self._words[_STATE] = 0
        self._words[_INSTRUCTION] = int(number) if number.isdecimal() else 0
        self._words[_BEGUN] = self._words[_INSTRUCTION]
        self._words[_RUNNING] = 1
        self._busy = True
        if self._asleep:
            self._wake.set()

    def end(self) -> None:
        """Say that nothing is run."""
        self._words[_RUNNING] = self._words[_INSTRUCTION] = 0
        self._busy = False
        self.rows_end()

    def pause(self) -> None:
        """Say that the worker waits for the engine."""
        self._words[_RUNNING] = 0

    def resume(self) -> None:
        """Say that it does not any more."""
        self.step()
        self._words[_RUNNING] = 1

    def step(self) -> None:
        """Count something that has been done."""
        self._steps += 1
        self._words[_STEPS] = self._steps

    def enter(self, call: int) -> None:
        """Say which call of the stage runs from now on."""
        self.rows_end()
        self._words[_CALL] = call
        self.step()

    def load_begin(self) -> int:
        """Say that a function is loaded and set up until ``load_end`` gets what this gives."""
        before = self._words[_STATE]
        self._words[_STATE] = _LOADING
        return before

    def load_end(self, before: int) -> None:
        """Say that it is loaded."""
        self._words[_STATE] = before

    def exact(self, row: int) -> None:
        """Say exactly which row of the bundle runs from now on."""
        self._words[_ROW] = row + 1
        self._words[_STATE] = _EXACT

    def rows_begin(self, count: Callable[[], int]) -> None:
        """Say how to count the rows that the running call has done."""
        self._words[_ROWS] = 0
        self._words[_ROW] = 0 if self._first is None else self._first + 1
        self._count = count

    def rows_end(self) -> None:
        """Say that no rows are counted."""
        self._count = None
        self._words[_ROW] = 0
        if self._words[_STATE] == _EXACT:
            self._words[_STATE] = 0

    def rows_from(self, first: int | None) -> None:
        """Say which row of the bundle is the first that is counted; None if none is."""
        self._first = first

    def _look(self) -> None:
        idle = 0
        while True:
            if idle >= IDLE_LOOKS:
                self._wake.clear()
                self._asleep = True
                if not self._busy:  # or else a bundle has begun before that
                    self._wake.wait()
                self._asleep = False
                idle = 0
            time.sleep(LOOK_SECONDS)
            count, first = self._count, self._first
            if count is None:
                idle += 1
                continue
            idle = 0
            rows = count()
            if count is self._count:
                self._words[_ROWS] = rows
                self._words[_LOOKS] += 1
                self._words[_ROW] = 0 if first is None else first + rows + 1


PROGRESS = Progress()
