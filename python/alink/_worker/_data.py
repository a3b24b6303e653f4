"""The pieces of bytes that come and go on the data stream.

A piece belongs to a bundle; a bundle's pieces, put together, are its input (see ``_elements``).

Bounds. All bundles share one stream, so a reader that waits holds up all of them. The reader
waits while a bundle has ``INPUT_BYTES_MAX`` of pieces that nobody has taken — unless the
bundle that is running has no piece left to take, because what it waits for may come behind.
So a slow bundle stalls the reading of others only by its own bound, never to a standstill, and
what is read beyond the bound is what the engine sends ahead for other bundles.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from . import _wire

if TYPE_CHECKING:
    from collections.abc import Iterable

INPUT_BYTES_MAX = 64 << 20
OUTPUT_BYTES_MAX = 64 << 20
# How many bundles that ended early are remembered, so that what still comes for them is dropped.
DROPPED_MAX = 1_024


class _Pieces:
    """What has arrived for one bundle and was not taken yet."""

    def __init__(self) -> None:
        self.queue: deque[memoryview] = deque()
        self.size = 0
        self.whole = False  # the last piece has arrived

    def starved(self) -> bool:
        return not self.queue and not self.whole


class Inbox:
    """The pieces of all bundles. One thread puts, one takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bundles: dict[str, _Pieces] = {}
        self._dropped: OrderedDict[str, None] = OrderedDict()
        self._running: str | None = None

    def put(self, bundle: str, piece: memoryview, last: bool) -> None:
        """Add a piece; wait while the bundle has too many, as described above."""
        with self._changed:
            if bundle in self._dropped:
                if last:
                    del self._dropped[bundle]
                return
            pieces = self._bundles.setdefault(bundle, _Pieces())
            if len(piece):
                pieces.queue.append(piece)
                pieces.size += len(piece)
            pieces.whole = pieces.whole or last
            self._changed.notify_all()
            while self._holds_up(bundle) and not self._running_starved():
                self._changed.wait()

    def _holds_up(self, bundle: str) -> bool:
        pieces = self._bundles.get(bundle)  # none once it has ended
        return pieces is not None and pieces.size > INPUT_BYTES_MAX

    def _running_starved(self) -> bool:
        return self._running is not None and self._bundles[self._running].starved()

    def start(self, bundle: str) -> None:
        """Begin to take a bundle's pieces."""
        with self._changed:
            self._running = bundle
            self._bundles.setdefault(bundle, _Pieces())
            self._changed.notify_all()

    def take(self) -> memoryview | None:
        """Give the running bundle's next piece; None at its end."""
        with self._changed:
            assert self._running is not None
            pieces = self._bundles[self._running]
            while pieces.starved():
                self._changed.wait()
            if not pieces.queue:
                return None
            piece = pieces.queue.popleft()
            pieces.size -= len(piece)
            self._changed.notify_all()
            return piece

    def finish(self) -> None:
        """Drop what the running bundle has not taken, and what still comes for it."""
        with self._changed:
            if self._running is None:
                return
            if not self._bundles.pop(self._running).whole:
                self._dropped[self._running] = None
                if len(self._dropped) > DROPPED_MAX:
                    self._dropped.popitem(last=False)
            self._running = None
            self._changed.notify_all()


def sort_pieces(messages: Iterable[bytes], inbox: Inbox) -> None:
    """Put the engine's messages into the inbox until the stream ends."""
    for message in messages:
        for piece in _wire.decode("Elements", message)["data"]:
            inbox.put(piece["instruction_id"], memoryview(piece["data"]), piece["is_last"])


class Outbox:
    """Messages that wait to be sent; gRPC takes them by iterating."""

    def __init__(self, bytes_max: int = OUTPUT_BYTES_MAX) -> None:
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._bytes_max = bytes_max

    def put(self, message: bytes) -> None:
        """Add a message; wait while there are too many bytes."""
        with self._changed:
            while self._size and self._size + len(message) > self._bytes_max:
                self._changed.wait()
            self._queue.append(message)
            self._size += len(message)
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._queue:
                self._changed.wait()
            message = self._queue.popleft()
            self._size -= len(message)
            self._changed.notify_all()
            return message
