"""What the worker gives back when the supervisor says that its memory runs short.

The supervisor writes a byte to the pipe that is the worker's standard input at its start. The
collector then runs on the main thread between two instructions of user code, as it does by
itself when enough objects have been made: nothing sees it but objects that nobody refers to.
No signal is sent, so no system call of a library is interrupted.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# A collection looks at every object. It takes one part in this many of the time at most.
SHARE = 20
# As much as glibc may come to keep by itself, which depends on what was freed before.
KEPT_BYTES_MAX = 32 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Release:
    """Gives memory back, on the main thread while user code runs there.

    Parameters
    ----------
    busy
        Whether the main thread runs a bundle. It waits in a lock otherwise, where nothing
        reaches it, and memory is given back by whoever asks for it.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._alone = threading.Lock()
        self._not_before = 0.0
        # A number that is only made up, never sent. Nobody asks where there is none.
        self._signal = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
        signal.signal(self._signal, lambda *_: self.now())

    def ask(self) -> None:
        """Have memory given back soon; any thread may ask."""
        if time.monotonic() < self._not_before:
            return
        if self._busy():
            _thread.interrupt_main(self._signal)
        else:
            self.now()

    def now(self) -> None:
        """Collect garbage, and return what allocators keep for later."""
        if not self._alone.acquire(blocking=False):
            return
        try:
            begun = time.monotonic()
            gc.collect()
            if arrow := sys.modules.get("pyarrow"):
                arrow.default_memory_pool().release_unused()
            _trim_heap()
            ended = time.monotonic()
            self._not_before = ended + SHARE * (ended - begun)
        finally:
            self._alone.release()


def keep_heap() -> None:
    """Have the C library keep what is freed, up to a bound, where it is glibc.

    numpy takes its arrays from it. By itself it returns them to the system as soon as a few are
    free, and every page of the next ones is then made anew. All is given back when memory runs
    short.
    """
    with contextlib.suppress(AttributeError, OSError):
        option = _c_library().mallopt
        option(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
        option(_M_MMAP_THRESHOLD, KEPT_BYTES_MAX)


def _trim_heap() -> None:
    """Return the free parts of the C library's heap, where it is glibc's."""
    with contextlib.suppress(AttributeError, OSError):
        _c_library().malloc_trim(0)


def _c_library() -> Any:
    import ctypes  # which numpy has imported, where there is one

    return ctypes.CDLL(None)
