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
# What is read at once: as many headers and small frames as there are.
_READ_BYTES = 4096
# How many different requests are remembered as they were decoded: one for each stage in turn.
_REQUESTS_KNOWN_MAX = 64
_PARTS_A_CALL = 512  # buffers of one sendmsg; the system takes 1,024
_DESCRIPTOR_BYTES = array.array("i").itemsize
# What a request begins with: the tag of its first field, instruction_id.
_INSTRUCTION_TAG = 1 << 3 | 2

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
        # What was read and is not taken apart yet, and the descriptors that came with it.
        self._received = memoryview(b"")
        self._descriptors: deque[int] = deque()
        # Frames that go out with the next that somebody waits for.
        self._unsent: list[Any] = []
        # Requests of a stage are the same but for the instruction, which stands first.
        self._known: dict[bytes, Mapping[str, Any]] = {}

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
                self._send(_DATA, [], slot=number, slot_bytes=size, last=last, with_next=last)
                return
        self._send(_DATA, views, last=last, with_next=last)

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
            self._send(_FREE, [numbers.tobytes()], with_next=True)

    # Frames ---------------------------------------------------------------------------------

    def _send(
        self, kind: int, parts: list[Any], slot: int = _NO_SLOT, slot_bytes: int = 0,
        last: bool = False, with_next: bool = False,
    ) -> None:  # fmt: skip
        """Send a frame; with_next, if it is small, together with the next one."""
        size = sum(map(len, parts))
        header = _HEADER.pack(size, slot_bytes, self._bundle, slot, kind, last)
        with self._interrupts:
            self._unsent += [header, *parts]
            if not with_next or size > INLINE_BYTES_MAX:
                self._flush_held()

    def _flush(self) -> None:
        """Send what waits to be sent with something else."""
        if self._unsent:
            with self._interrupts:
                self._flush_held()

    def _flush_held(self) -> None:
        """Send all frames; interrupts are held."""
        parts, self._unsent = self._unsent, []
        try:
            if sum(map(len, parts)) <= INLINE_BYTES_MAX:
                self._socket.sendall(b"".join(parts))
            else:
                self._send_parts(list(map(memoryview, parts)))
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
        """Take the next frame, which is waited for, and put away what it brings."""
        if not len(self._received):
            self._flush()
            self._poll.poll()  # may be interrupted: nothing has been read yet
        with self._interrupts:
            try:
                while len(self._received) < _HEADER.size:
                    self._receive()
                header = _HEADER.unpack_from(self._received)
                size, slot_bytes, bundle, slot, kind, last = header
                if size > MESSAGE_BYTES_MAX:
                    self._leave(1, f"the engine sends a frame of {size} bytes")
                payload = self._payload(size)
            except (OSError, LaneBroken) as error:
                self._end(error)
            try:
                self._heard(kind, payload, bundle, slot, slot_bytes, bool(last))
            except (_wire.WireError, OSError, ValueError, KeyError, IndexError) as error:
                self._leave(1, f"the engine's frames are malformed: {error!r}")

    def _receive(self) -> None:
        """Read what there is, and the file descriptor that was passed with it."""
        data, ancillary, _, _ = self._socket.recvmsg(
            _READ_BYTES, socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, passed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._descriptors.append(array.array("i", passed[:_DESCRIPTOR_BYTES])[0])
        if not data:
            raise LaneBroken("it hung up")
        if len(self._received):
            data = b"".join([self._received, data])
        self._received = memoryview(data)

    def _payload(self, size: int) -> memoryview:
        """Take the payload behind the header that stands first in what was read."""
        end = _HEADER.size + size
        if end <= len(self._received):
            payload = self._received[_HEADER.size : end]
            self._received = self._received[end:]
            return payload
        whole = memoryview(bytearray(size))
        at = len(self._received) - _HEADER.size
        whole[:at] = self._received[_HEADER.size :]
        self._received = memoryview(b"")
        while at < size:
            read = self._socket.recv_into(whole[at:], size - at, socket.MSG_WAITALL)
            if not read:
                raise LaneBroken("it hung up")
            at += read
        return whole.toreadonly()

    def _request(self, payload: memoryview) -> tuple[str, Mapping[str, Any]]:
        """Read a request: the instruction and what it asks for."""
        end = 2 + payload[1]
        if payload[0] != _INSTRUCTION_TAG or payload[1] > 0x7F or end > len(payload):
            request = _wire.decode("InstructionRequest", payload)
            return request["instruction_id"], request["process_bundle"]
        text = bytes(payload[end:])
        known = self._known.get(text)
        if known is None:
            known = _wire.decode("InstructionRequest", text)["process_bundle"]
            while len(self._known) >= _REQUESTS_KNOWN_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[text] = known
        return str(payload[2:end], "utf-8"), known

    def _heard(
        self, kind: int, payload: memoryview, bundle: int, slot: int, slot_bytes: int, last: bool
    ) -> None:
        if kind == _DATA:
            piece = payload if slot == _NO_SLOT else self._lend(slot, slot_bytes)
            if slot == _NO_SLOT and len(payload) > INLINE_BYTES_MAX:
                self._make_room()
            if (to := self._inputs.get(bundle)) is not None:  # else it has ended early
                if len(piece):
                    to.pieces.append(piece)
                to.whole = to.whole or last
        elif kind == _REQUEST:
            id_, request = self._request(payload)
            self._inputs[int(id_[1:])] = _Input()
            self._requests.append((id_, request))
        elif kind == _DESCRIPTOR:
            self._descriptor = payload
        elif kind == _FREE:
            self._free_outputs.extend(array.array("H", bytes(payload)))
        elif kind in (_INPUT_SLOT, _OUTPUT_SLOT):
            self._map(kind == _INPUT_SLOT, slot, slot_bytes, self._descriptors.popleft())
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
