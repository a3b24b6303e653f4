"""A profile of functions by samples of the stack that they run on, mostly the main thread's.

A thread looks at the stack a hundred times a second while a function runs. A sample counts for
the time since the one before, so that native code which keeps the interpreter to itself counts
for as long as it has run, at the line that called it.
"""

from __future__ import annotations

import os
import sys
import threading
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING

from ._clock import CLOCK

if TYPE_CHECKING:
    from types import FrameType

INTERVAL_S = 0.01
STACKS_MAX = 10_000
FRAMES_MAX = 128
_HARNESS = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Sampler:
    """Adds up microseconds by stack. The main thread begins, ends and takes."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._spent: dict[str, int] = {}
        self._started = False

    def begin(self) -> None:
        """Sample from now on."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._look, name="alink-profile", daemon=True).start()
        self._wake.set()

    def end(self) -> dict[str, int]:
        """Sample no more; give the microseconds by stack, the outermost frame first."""
        self._wake.clear()
        with self._lock:
            spent, self._spent = self._spent, {}
        return spent

    def _look(self) -> None:
        while True:
            self._wake.wait()
            before = perf_counter_ns()
            while self._wake.is_set():
                sleep(INTERVAL_S)
                now = perf_counter_ns()
                function = CLOCK.function if CLOCK.in_function else ""
                if function:
                    frame = sys._current_frames().get(CLOCK.thread or self._main)
                    self._note(_stack(function, frame), (now - before) // 1000)
                before = now

    def _note(self, stack: str, us: int) -> None:
        with self._lock:
            if stack in self._spent or len(self._spent) < STACKS_MAX:
                self._spent[stack] = self._spent.get(stack, 0) + us


def _stack(function: str, frame: FrameType | None) -> str:
    """Write the frames of user code, below the name of the function that runs."""
    names: list[str] = []
    while frame is not None and len(names) < FRAMES_MAX:
        code = frame.f_code
        if code.co_filename.startswith(_HARNESS):
            if names:
                break  # what called the function
        else:
            name = getattr(code, "co_qualname", code.co_name)
            names.append(f"{name} ({_short(code.co_filename)}:{frame.f_lineno})")
        frame = frame.f_back
    names.append(function)
    return ";".join(name.replace(";", ",") for name in reversed(names))


def _short(path: str) -> str:
    """Give the part of a path that says which file it is: two folders at most."""
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = path.rpartition(os.sep + folder + os.sep)
        if found:
            return rest
    return os.sep.join(path.split(os.sep)[-2:])
