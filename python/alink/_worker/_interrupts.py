"""SIGINT, which cancels the bundle that runs."""

from __future__ import annotations

import signal


class Interrupts:
    """Raise KeyboardInterrupt in the bundle that runs, once; ignore SIGINT between bundles.

    As a context manager it holds an interrupt back until the block is left.
    """

    def __init__(self) -> None:
        self.armed = False
        self._held = 0
        self._pending = False
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, signum: int, frame: object) -> None:
        if not self.armed:
            return
        if self._held:
            self._pending = True
            return
        self.armed = False
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        self._held += 1

    def __exit__(self, *exception: object) -> None:
        self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
