"""The local lane: frames on a unix socket, with shared memory for what is large.

The form of frames is described in the engine's ``fnapi/frame.go``. The main thread reads and
writes them itself, when it has nothing else to do: whatever comes meanwhile waits in the
socket and in the slots, so nobody has to take the interpreter from the function that runs. The
engine always reads, so writing never waits for long.

Slots are segments of memory that the engine has made. What lies in an input slot is used where
it is, and the slot goes back when nothing refers to it any more, however long a function keeps
what it got. An output slot is lent, filled, and comes back when the engine has copied it.
"""

from __future__ import annotations

import array
import gc
import json
import mmap
import os
import select
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from . import _wire
from ._errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._interrupts import Interrupts

SCHEME = "local:"
MESSAGE_BYTES_MAX = (64 << 20) + (1 << 20)
INLINE_BYTES_MAX = 64 << 10
# How often, at most, garbage is collected because slots are kept that nobody may need.
FRAMES_A_COLLECTION = 64

_HEADER = struct.Struct("<IIQHBB4x")
_NO_SLOT = 0xFFFF
_PARTS_A_CALL = 512  # buffers of one sendmsg; the system takes 1,024
_DESCRIPTOR_BYTES = array.array("i").itemsize

(
    _HELLO, _WELCOME, _REFUSED, _REQUEST, _RESPONSE, _DATA, _ASK, _DESCRIPTOR, _LOG,
    _INPUT_SLOT, _OUTPUT_SLOT, _FREE,
) = range(1, 13)  # fmt: skip


class LaneBroken(Exception):
    """The engine has hung up, or says what it should not."""


class _Lent:
    """Stands for the use of an input slot; it ends with the last reference to its bytes."""

    __slots__ = ("_given_back", "_slot")

    def __init__(self, slot: int, given_back: deque[int]) -> None:
        self._slot = slot
        self._given_back = given_back

    def __del__(self) -> None:
        self._given_back.append(self._slot)


class _Input:
    """What has come of a bundle's input and was not taken yet."""

    __slots__ = ("pieces", "whole")

    def __init__(self) -> None:
        self.pieces: deque[memoryview] = deque()
        self.whole = False


class LocalLane:
    """A worker's connections to the engine.

    Parameters
    ----------
    launch
        The launch line.
    interrupts
        Are held while a frame is read or written, so that none is cut in the middle.
    leave
        Ends the process: gets its status and a text.
    """

    #: Whether the engine at the other end is ours.
    ours = True

    def __init__(
        self,
        launch: Mapping[str, Any],
        interrupts: Interrupts,
        leave: Callable[[int, str], NoReturn],
        protocol: str,
    ) -> None:
        self._path = str(launch["endpoint"])[len(SCHEME) :]
        self._passed: Mapping[str, int] = launch["passed"]
        self._hello = {
            "worker": str(launch["worker_id"]),
            "token": launch.get("token", ""),
            "protocol": protocol,
        }
        self._interrupts = interrupts
        self._leave = leave
        self._pid = os.getpid()
        self._requests: deque[tuple[str, Mapping[str, Any]]] = deque()
        # What has come of the bundles that were asked for and are not done, by their numbers.
        self._inputs: dict[int, _Input] = {}
        self._bundle = 0
        self._input = _Input()
        self._descriptor: memoryview | None = None
        self._input_slots: dict[int, tuple[Any, int]] = {}
        self._given_back: deque[int] = deque()
        self._output_slots: dict[int, memoryview] = {}
        self._free_outputs: list[int] = []
        self._crowded = 0

    # Connections ----------------------------------------------------------------------------

    def connect(self, journal: Iterable[bytes]) -> None:
        """Make the connections; the log's has a thread of its own."""
        try:
            log = self._dial("log")
            self._socket = self._dial("bundles")
        except (OSError, LaneBroken) as error:
            self._leave(1, f"the engine refuses this worker: {error}")
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

        def send_log() -> None:
            for message in journal:
                if os.getpid() != self._pid:
                    return
                try:
                    log.sendall(_HEADER.pack(len(message), 0, 0, _NO_SLOT, _LOG, 0) + message)
                except OSError:
                    return  # the engine has gone, which the main thread sees too

        threading.Thread(target=send_log, name="alink-log", daemon=True).start()

    def _dial(self, connection: str) -> socket.socket:
        # A worker that was forked got its connections from the supervisor.
        peer = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM, fileno=self._passed.get(connection)
        )
        if connection not in self._passed:
            peer.connect(self._path)
        text = json.dumps({**self._hello, "connection": connection}).encode()
        peer.sendall(_HEADER.pack(len(text), 0, 0, _NO_SLOT, _HELLO, 0) + text)
        header = peer.recv(_HEADER.size, socket.MSG_WAITALL)
        if len(header) < _HEADER.size:
            raise LaneBroken("it hung up")
        size, _, _, _, kind, _ = _HEADER.unpack(header)
        said = peer.recv(size, socket.MSG_WAITALL) if size else b""
        if kind != _WELCOME:
            raise LaneBroken(said.decode("utf-8", "replace"))
        return peer

    # What the bundles' owner calls ----------------------------------------------------------

    def next(self) -> tuple[str, Mapping[str, Any]]:
        """Wait for the next request to run a bundle; give its id and what it says."""
        self._give_back()
        while not self._requests:
            self._read()
        return self._requests.popleft()

    def descriptor(self, id_: str) -> Mapping[str, Any]:
        """Ask for a bundle descriptor."""
        message = _wire.encode(
            "GetProcessBundleDescriptorRequest", {"process_bundle_descriptor_id": id_}
        )
        self._send(_ASK, [message])
        self._descriptor = None
        while self._descriptor is None:
            self._read()
        if not len(self._descriptor):
            raise Failure("protocol", f"the engine gives no descriptor {id_!r}: NOT_FOUND")
        return _wire.decode("ProcessBundleDescriptor", self._descriptor)

    def start(self, bundle: str, url: str) -> None:
        """Begin to take a bundle's pieces; the address is the engine's own."""
        self._bundle = int(bundle[1:])
        self._input = self._inputs[self._bundle]

    def take(self) -> memoryview | None:
        """Give the running bundle's next piece; None at its end."""
        while not self._input.pieces:
            if self._input.whole:
                return None
            self._read()
        return self._input.pieces.popleft()

    def put(self, transform: str, parts: list[Any], last: bool) -> None:
        """Send a piece of the running bundle's output."""
        views = [memoryview(part).cast("B") for part in parts]
        size = sum(map(len, views))
        if size > INLINE_BYTES_MAX and self._free_outputs:
            number = self._free_outputs[-1]
            slot = self._output_slots[number]
            if size <= len(slot):
                self._free_outputs.pop()
                at = 0
                for view in views:
                    slot[at : at + len(view)] = view
                    at += len(view)
                self._send(_DATA, [], slot=number, slot_bytes=size, last=last)
                return
        self._send(_DATA, views, last=last)

    def respond(self, id_: str, answer: Mapping[str, Any]) -> None:
        """Answer a request."""
        self._give_back()
        message = _wire.encode("InstructionResponse", {"instruction_id": id_, **answer})
        self._send(_RESPONSE, [message])

    def finish(self) -> None:
        """Drop what the running bundle has not taken, and what still comes for it."""
        self._inputs.pop(self._bundle, None)
        self._input = _Input()

    def _give_back(self) -> None:
        """Give back the input slots that nothing refers to any more."""
        if self._given_back:
            numbers = array.array("H")
            while self._given_back:
                numbers.append(self._given_back.popleft())
            self._send(_FREE, [numbers.tobytes()])

    # Frames ---------------------------------------------------------------------------------

    def _send(
        self, kind: int, parts: list[Any], slot: int = _NO_SLOT, slot_bytes: int = 0,
        last: bool = False,
    ) -> None:  # fmt: skip
        size = sum(map(len, parts))
        header = _HEADER.pack(size, slot_bytes, self._bundle, slot, kind, last)
        with self._interrupts:
            try:
                if size <= INLINE_BYTES_MAX:
                    self._socket.sendall(b"".join([header, *parts]))
                else:
                    self._send_parts([memoryview(header), *map(memoryview, parts)])
            except OSError as error:
                self._end(error)

    def _send_parts(self, parts: list[memoryview]) -> None:
        at = 0
        while at < len(parts):
            sent = self._socket.sendmsg(parts[at : at + _PARTS_A_CALL])
            while at < len(parts) and sent >= len(parts[at]):
                sent -= len(parts[at])
                at += 1
            if sent:
                parts[at] = parts[at][sent:]

    def _end(self, error: object) -> NoReturn:
        self._leave(0, "")
        raise AssertionError(error)

    def _read(self) -> None:
        """Read one frame and put away what it brings."""
        self._poll.poll()  # may be interrupted: nothing has been read yet
        with self._interrupts:
            try:
                header, passed = self._receive_header()
                size, slot_bytes, bundle, slot, kind, last = _HEADER.unpack(header)
                if size > MESSAGE_BYTES_MAX:
                    self._leave(1, f"the engine sends a frame of {size} bytes")
                payload = memoryview(self._receive(size)) if size else memoryview(b"")
            except (OSError, LaneBroken) as error:
                self._end(error)
            try:
                self._heard(kind, payload, bundle, slot, slot_bytes, bool(last), passed)
            except (_wire.WireError, OSError, ValueError, KeyError) as error:
                self._leave(1, f"the engine's frames are malformed: {error!r}")

    def _receive_header(self) -> tuple[bytes, int]:
        """Read a header, and the file descriptor that was passed with it, or -1."""
        header, ancillary, _, _ = self._socket.recvmsg(
            _HEADER.size,
            socket.CMSG_SPACE(_DESCRIPTOR_BYTES),
            socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC,
        )
        passed = -1
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed = array.array("i", data[:_DESCRIPTOR_BYTES])[0]
        if not header:
            raise LaneBroken("it hung up")
        if len(header) < _HEADER.size:
            header += self._receive(_HEADER.size - len(header))
        return header, passed

    def _receive(self, size: int) -> bytes:
        data = self._socket.recv(size, socket.MSG_WAITALL)
        while len(data) < size:
            more = self._socket.recv(size - len(data), socket.MSG_WAITALL)
            if not more:
                raise LaneBroken("it hung up")
            data += more
        return data

    def _heard(
        self, kind: int, payload: memoryview, bundle: int, slot: int, slot_bytes: int, last: bool,
        passed: int,
    ) -> None:  # fmt: skip
        if kind == _DATA:
            piece = payload if slot == _NO_SLOT else self._lend(slot, slot_bytes)
            if slot == _NO_SLOT and len(payload) > INLINE_BYTES_MAX:
                self._make_room()
            if (to := self._inputs.get(bundle)) is not None:  # else it has ended early
                if len(piece):
                    to.pieces.append(piece)
                to.whole = to.whole or last
        elif kind == _REQUEST:
            request = _wire.decode("InstructionRequest", payload)
            id_ = request["instruction_id"]
            self._inputs[int(id_[1:])] = _Input()
            self._requests.append((id_, request["process_bundle"]))
        elif kind == _DESCRIPTOR:
            self._descriptor = payload
        elif kind == _FREE:
            self._free_outputs.extend(array.array("H", bytes(payload)))
        elif kind in (_INPUT_SLOT, _OUTPUT_SLOT):
            self._map(kind == _INPUT_SLOT, slot, slot_bytes, passed)
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _map(self, is_input: bool, slot: int, size: int, descriptor: int) -> None:
        protection = mmap.PROT_READ if is_input else mmap.PROT_READ | mmap.PROT_WRITE
        try:
            memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)
        finally:
            os.close(descriptor)
        if is_input:
            self._input_slots[slot] = memory, 0
        else:
            self._output_slots[slot] = memoryview(memory)
            self._free_outputs.append(slot)

    def _lend(self, slot: int, size: int) -> memoryview:
        """Give the bytes in an input slot, which goes back with the last reference to them."""
        import pyarrow as pa

        memory, address = self._input_slots[slot]
        if not address:
            address = pa.py_buffer(memory).address
            self._input_slots[slot] = memory, address
        lent = pa.foreign_buffer(address, size, _Lent(slot, self._given_back))
        return memoryview(lent).cast("B")

    def _make_room(self) -> None:
        """Collect garbage now and then: the engine has no slot left, so many are kept."""
        if self._crowded % FRAMES_A_COLLECTION == 0:
            gc.collect()
        self._crowded += 1
        self._give_back()
