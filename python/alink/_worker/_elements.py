"""Batches as the elements of a bundle's input and output.

A bundle's input is a stream of elements, cut into pieces anywhere. An element is a windowed
value: 13 bytes of header (timestamp, one global window, pane), then a length and as many bytes:
the number of padding bytes, the padding, and an Arrow IPC message with one record batch. The
padding puts the message on a multiple of 64 bytes where the sender knows how to; the reader
copies what is not aligned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _wire
from ._errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Takes a piece of output: its transform, buffers, and whether it is the last.
    Send = Callable[[str, list[Any], bool], None]
    #: Lends memory of at least a size, or none; the next piece that is sent must lie in it.
    Room = Callable[[int], memoryview | None]

PIECE_BYTES_MAX = 16 << 20
# Output elements are gathered into one gRPC message up to this size: a message costs about
# 0.3 ms whatever it carries.
GATHER_BYTES = 1 << 20

ALIGNMENT = 64
_ALIGNMENT_MIN = 8
_TIMESTAMP_BYTES = 8
_WINDOW_COUNT_BYTES = 4
_PANE_NUMBERS_MAX = 2
# Beam's smallest timestamp in milliseconds, shifted so that bytes sort as times do; one window,
# which is the global one and takes no bytes; a pane without a number.
_GLOBAL_HEADER = (
    (-9_223_372_036_854_775 + (1 << 63)).to_bytes(8, "big") + (1).to_bytes(4, "big") + b"\x0f"
)
# The header and a size of 28 bits, the number of which comes out of one look at the bytes.
_HEAD_BYTES = len(_GLOBAL_HEADER) + 4
# What stands before a message at most: header, size, the number of padding bytes, and these.
_BEFORE_MESSAGE_MAX = len(_GLOBAL_HEADER) + 10 + 1 + ALIGNMENT


def read_batches(
    take: Callable[[], memoryview | None], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Give the batches of a bundle as they arrive, views of the bytes where they lie."""
    source = ByteSource(take)
    while source.more():
        element = source.element()
        padding = element[0] + 1 if len(element) else 1
        if padding > ALIGNMENT or padding >= len(element):
            raise Failure("protocol", f"an element of {len(element)} bytes has no Arrow message")
        message = pa.py_buffer(element[padding:])
        if message.address % _ALIGNMENT_MIN:
            message = pa.py_buffer(bytes(element[padding:]))
        try:
            batch = pa.ipc.read_record_batch(message, schema)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise Failure("protocol", f"an element is no Arrow batch: {error}") from None
        yield batch


class ByteSource:
    """Reads across the pieces of a stream; joins only what lies in two pieces."""

    def __init__(self, take: Callable[[], memoryview | None]) -> None:
        self._take = take
        self._piece = memoryview(b"")
        self._at = 0

    def more(self) -> bool:
        while self._at == len(self._piece):
            piece = self._take()
            if piece is None:
                return False
            self._piece, self._at = piece, 0
        return True

    def read(self, size: int) -> memoryview:
        end = self._at + size
        if end <= len(self._piece):
            self._at, start = end, self._at
            return self._piece[start:end]
        parts: list[memoryview] = []
        while size > 0:
            if not self.more():
                raise Failure("protocol", f"the input ends {size} bytes too early")
            part = self._piece[self._at : self._at + size]
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return memoryview(b"".join(parts))

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Failure("protocol", "an element's size is malformed")

    def element(self) -> memoryview:
        """Read an element that stands in the global window."""
        head = bytes(self._piece[self._at : self._at + _HEAD_BYTES])
        if len(head) == _HEAD_BYTES and head.startswith(_GLOBAL_HEADER):
            size = shift = 0
            for at in range(len(_GLOBAL_HEADER), _HEAD_BYTES):
                size |= (head[at] & 0x7F) << shift
                shift += 7
                if head[at] < 0x80:
                    self._at += at + 1
                    return self.read(size)
        self._skip_header()
        return self.read(self.varint())

    def _skip_header(self) -> None:
        self.read(_TIMESTAMP_BYTES)
        windows = int.from_bytes(self.read(_WINDOW_COUNT_BYTES), "big")
        if windows != 1:
            raise Failure("protocol", f"an element is in {windows} windows, not in the global one")
        numbers = self.read(1)[0] >> 4  # Beam's pane has no number, one, or two
        if numbers > _PANE_NUMBERS_MAX:
            raise Failure("protocol", "an element's pane is malformed")
        for _ in range(numbers):
            self.varint()


class BatchWriter:
    """Writes the output of a stage's bundles: batches to elements to pieces.

    What is large is written where it is sent from; what is small, or finds no room, is gathered.

    Parameters
    ----------
    send
        Takes a piece: the transform, buffers, and whether it is the last.
    transform
        The transform that the pieces carry.
    room
        Lends memory for a piece.
    """

    def __init__(self, send: Send, transform: str, room: Room) -> None:
        self._send = send
        self._transform = transform
        self._room = room
        self._parts: list[Any] = []
        self._size = 0
        # What the piece is written to, where it is not gathered in parts.
        self._lent: memoryview | None = None
        self._in_place: _InPlace | None = None

    def begin(self) -> None:
        """Forget what a bundle that has failed has left."""
        self._parts, self._size, self._lent = [], 0, None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch; what has gathered may be sent."""
        size = pa.ipc.get_record_batch_size(batch)
        if self._lent is not None and self._size + _BEFORE_MESSAGE_MAX + size > len(self._lent):
            self._flush()
        if self._lent is None:
            self._find_room(_BEFORE_MESSAGE_MAX + size)
        if self._lent is None and self._size + size > PIECE_BYTES_MAX:
            self._flush()
        element, padding = self._measure(size)
        head = _GLOBAL_HEADER + _wire.write_varint(element) + bytes([padding]) + bytes(padding)
        if self._lent is not None:
            self._write_in_place(self._lent, head, batch, size)
            return
        self._parts += [head, memoryview(batch.serialize()).cast("B")]
        self._size += len(head) + size
        while self._size > PIECE_BYTES_MAX:
            self._cut()
        if self._size >= GATHER_BYTES:
            self._flush()

    def close(self) -> None:
        """Send what is left, and the end."""
        self._send_piece(last=True)

    def _find_room(self, size: int) -> None:
        """Go on in memory that is lent, with what has gathered so far and room for more."""
        self._lent = self._room(self._size + size)
        if self._lent is not None:
            at = 0
            for part in self._parts:
                self._lent[at : at + len(part)] = part
                at += len(part)
            self._parts = []

    def _write_in_place(
        self, lent: memoryview, head: bytes, batch: pa.RecordBatch, size: int
    ) -> None:
        if self._in_place is None:
            self._in_place = _InPlace(batch)
        start = self._size + len(head)
        lent[self._size : start] = head
        try:
            self._size = self._in_place.write(batch, lent, start)
        except BaseException:
            self._in_place = None  # it may have stopped in the middle of a message
            raise
        if self._size != start + size:  # as with a dictionary, which no type of ours has
            raise Failure("protocol", f"a batch of {batch.schema} is no single message")

    def _measure(self, message_size: int) -> tuple[int, int]:
        """Give the size that stands before the element, and the padding in it.

        The message shall start on a multiple of 64 from the start of the piece; the padding
        changes the size, and the size perhaps the number of bytes that it takes itself.
        """
        before = self._size + len(_GLOBAL_HEADER)
        for size_bytes in range(1, 11):
            padding = -(before + size_bytes + 1) % ALIGNMENT
            size = 1 + padding + message_size
            if len(_wire.write_varint(size)) == size_bytes:
                return size, padding
        # The padding that one length of the size asks for can make it the next one, and the
        # other way round: then the message is not aligned, which costs its reader a copy.
        return 1 + message_size, 0

    def _cut(self) -> None:
        """Send one full piece and keep the rest, which lies in the last part."""
        rest = self._size - PIECE_BYTES_MAX
        last = self._parts.pop()
        self._parts.append(last[: len(last) - rest])
        self._send_piece(last=False)
        self._parts, self._size = [last[len(last) - rest :]], rest

    def _flush(self) -> None:
        if self._size:
            self._send_piece(last=False)

    def _send_piece(self, last: bool) -> None:
        parts = self._parts if self._lent is None else [self._lent[: self._size]]
        self.begin()
        self._send(self._transform, parts, last)


class _Memory:
    """A file for Arrow's writer, which hands its buffers over without a copy."""

    closed = False

    def __init__(self) -> None:
        self.to: memoryview | None = None
        self.at = 0

    def write(self, data: Any) -> int:
        """Take what follows; it goes nowhere while there is no memory."""
        size = len(data)
        if self.to is not None and size:
            self.to[self.at : self.at + size] = memoryview(data).cast("B")
            self.at += size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: the memory is not the file's."""


class _InPlace:
    """Writes the messages of batches of one schema, that of a first one, into memory."""

    def __init__(self, first: pa.RecordBatch) -> None:
        self._memory = _Memory()
        file = pa.PythonFile(self._memory, "w")
        self._writer = pa.RecordBatchStreamWriter(file, first.schema)
        self._writer.write_batch(first.slice(0, 0))  # the schema, which goes nowhere, is before it

    def write(self, batch: pa.RecordBatch, to: memoryview, at: int) -> int:
        """Write a batch's message from a place on; give where it ends."""
        self._memory.to, self._memory.at = to, at
        self._writer.write_batch(batch)
        self._memory.to = None
        return self._memory.at
