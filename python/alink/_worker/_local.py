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
INLINE_BYTES_MAX = 16 << 10
# How often, at most, garbage is collected because slots are kept that nobody may need.
FRAMES_A_COLLECTION = 64

_HEADER = struct.Struct("<IIQHBB4x")
_NO_SLOT = 0xFFFF
# What is read at once: as many small frames as there are.
_READ_BYTES = 64 << 10
# How many different requests are remembered as they were decoded: one for each stage in turn.
_REQUESTS_KNOWN_MAX = 64
_PARTS_A_CALL = 512  # buffers of one sendmsg; the system takes 1,024
_DESCRIPTOR_BYTES = array.array("i").itemsize
_CONTROL_BYTES = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
# What a request begins with: the tag of its first field, instruction_id, and its size in a byte.
_INSTRUCTION_TAG = 1 << 3 | 2
_ONE_BYTE_MAX = 0x7F

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


class _Answers:
    """Writes answers to bundles that have gone well, as ``_wire.encode`` does.

    Most of one is the same for every bundle, and a worker of small bundles writes thousands a
    second.
    """

    _ID = _wire.tag("InstructionResponse", "instruction_id")
    _ANSWER = _wire.tag("InstructionResponse", "process_bundle")
    _ENTRY = _wire.tag("ProcessBundleResponse", "monitoring_data")
    _KEY = _wire.tag("ProcessBundleResponse.MonitoringDataEntry", "key")
    _VALUE = _wire.tag("ProcessBundleResponse.MonitoringDataEntry", "value")

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def write(self, id_: str, told: Mapping[str, bytes]) -> bytes:
        """Write the answer to an instruction, with what is told of the bundle by its keys."""
        size = _wire.write_varint
        entries = b""
        for key, value in told.items():
            head = self._keys.get(key)
            if head is None:
                text = key.encode()
                head = self._keys[key] = self._KEY + size(len(text)) + text + self._VALUE
            entry = head + size(len(value)) + value
            entries += self._ENTRY + size(len(entry)) + entry
        id_bytes = id_.encode()
        answer = self._ANSWER + size(len(entries)) + entries
        return self._ID + size(len(id_bytes)) + id_bytes + answer


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
        # What has come of the bundles that were asked for and are not done, by their numbers, and
        # was not taken yet; None stands at the end.
        self._inputs: dict[int, deque[memoryview | None]] = {}
        self._bundle = 0
        self._input: deque[memoryview | None] = deque()
        self._descriptor: memoryview | None = None
        self._input_slots: dict[int, tuple[Any, int]] = {}
        self._given_back: deque[int] = deque()
        self._output_slots: dict[int, memoryview] = {}
        self._free_outputs: list[int] = []
        # The output slot that the next piece lies in.
        self._filled: int | None = None
        self._crowded = 0
        # The descriptors that have come and were not used yet.
        self._descriptors: deque[int] = deque()
        # Frames that go out with the next that somebody waits for.
        self._unsent: list[Any] = []
        # Requests of a stage are the same but for the instruction, which stands first.
        self._known: dict[bytes, Mapping[str, Any]] = {}
        self._answers = _Answers()

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
        while not self._requests:
            self._give_back()
            self._flush()
            self._read()  # no bundle runs, so nothing interrupts it
        return self._requests.popleft()

    def descriptor(self, id_: str) -> Mapping[str, Any]:
        """Ask for a bundle descriptor."""
        message = _wire.encode(
            "GetProcessBundleDescriptorRequest", {"process_bundle_descriptor_id": id_}
        )
        self._unsent += [_HEADER.pack(len(message), 0, 0, _NO_SLOT, _ASK, 0), message]
        self._descriptor = None
        while self._descriptor is None:
            self._wait()
        if not len(self._descriptor):
            raise Failure("protocol", f"the engine gives no descriptor {id_!r}: NOT_FOUND")
        return _wire.decode("ProcessBundleDescriptor", self._descriptor)

    def start(self, bundle: str, url: str) -> None:
        """Begin to take a bundle's pieces; the address is the engine's own."""
        self._bundle = int(bundle[1:])
        self._input = self._inputs[self._bundle]

    def ready(self) -> bool:
        """Tell whether the running bundle's next piece, or its end, has come."""
        return bool(self._input)

    def take(self) -> memoryview | None:
        """Give the running bundle's next piece; None at its end."""
        while not self._input:
            self._wait()
        return None if self._input[0] is None else self._input.popleft()

    def room(self, size: int) -> memoryview | None:
        """Lend memory for a piece of up to a size, which the next that is put must lie in.

        There may be none, or the piece be too small for it.
        """
        if size <= INLINE_BYTES_MAX or not self._free_outputs:
            return None
        slot = self._output_slots[self._free_outputs[-1]]
        if size > len(slot):
            return None
        with self._interrupts:
            self._filled = self._free_outputs.pop()
        return slot

    def put(self, transform: str, parts: list[Any], last: bool) -> None:
        """Send a piece of the running bundle's output; the last one goes with the answer."""
        size = sum(map(len, parts))
        with self._interrupts:
            if self._filled is None:
                header = _HEADER.pack(size, 0, self._bundle, _NO_SLOT, _DATA, last)
                self._unsent += [header, *parts]
            else:
                header = _HEADER.pack(0, size, self._bundle, self._filled, _DATA, last)
                self._unsent.append(header)
                self._filled, size = None, 0
            if not last or size > INLINE_BYTES_MAX:
                self._flush()

    def respond(self, id_: str, answer: Mapping[str, Any]) -> None:
        """Answer a request."""
        self._give_back()
        if "error" in answer:
            message = _wire.encode("InstructionResponse", {"instruction_id": id_, **answer})
        else:
            message = self._answers.write(id_, answer["process_bundle"]["monitoring_data"])
        header = _HEADER.pack(len(message), 0, self._bundle, _NO_SLOT, _RESPONSE, 0)
        self._unsent += [header, message]
        self._flush()

    def finish(self) -> None:
        """Drop what the running bundle has not taken, what it wrote, and what still comes."""
        self._inputs.pop(self._bundle, None)
        self._input = deque()
        if self._filled is not None:
            self._free_outputs.append(self._filled)
            self._filled = None

    def _give_back(self) -> None:
        """Give back the input slots that nothing refers to any more, with the next frame."""
        if self._given_back:
            numbers = array.array("H")
            while self._given_back:
                numbers.append(self._given_back.popleft())
            text = numbers.tobytes()
            self._unsent += [_HEADER.pack(len(text), 0, 0, _NO_SLOT, _FREE, 0), text]

    # Frames ---------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send what waits to be sent. While a bundle runs, interrupts are held."""
        parts, self._unsent = self._unsent, []
        if not parts:
            return
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

    def _wait(self) -> None:
        """Wait, while a bundle runs, for frames, and put away what they bring."""
        with self._interrupts:
            self._give_back()
            self._flush()
        self._poll.poll()  # may be interrupted: nothing has been read yet
        with self._interrupts:
            self._read()

    def _read(self) -> None:
        """Read the frames that there are, which are waited for, and put away what they bring."""
        try:
            data, at = self._receive(), 0
            while (left := len(data) - at) > 0:
                if left < _HEADER.size:
                    data, at = data[at:] + self._receive(), 0
                    continue
                size, slot_bytes, bundle, slot, kind, last = _HEADER.unpack_from(data, at)
                if size > MESSAGE_BYTES_MAX:
                    self._leave(1, f"the engine sends a frame of {size} bytes")
                at += _HEADER.size
                if size <= left - _HEADER.size:
                    payload = memoryview(data)[at : at + size]
                else:
                    payload = self._rest(data[at:], size)
                at += size
                if kind == _REQUEST:
                    id_, request = self._request(payload)
                    self._inputs[int(id_[1:])] = deque()
                    self._requests.append((id_, request))
                elif kind == _DATA:
                    self._heard_data(payload, bundle, slot, slot_bytes, last)
                else:
                    self._heard(kind, payload, slot, slot_bytes)
        except LaneBroken as error:
            self._end(error)
        except (_wire.WireError, OSError, ValueError, KeyError, IndexError) as error:
            self._leave(1, f"the engine's frames are malformed: {error!r}")

    def _receive(self) -> bytes:
        """Read what there is, and the file descriptor that was passed with it."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                _READ_BYTES, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise LaneBroken(str(error)) from None
        for level, kind, passed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._descriptors.append(array.array("i", passed[:_DESCRIPTOR_BYTES])[0])
        if not data:
            raise LaneBroken("it hung up")
        return data

    def _rest(self, begun: bytes, size: int) -> memoryview:
        """Read the rest of a payload of a size, of which some has been read."""
        whole = memoryview(bytearray(size))
        at = len(begun)
        whole[:at] = begun
        while at < size:
            try:
                read = self._socket.recv_into(whole[at:], size - at, socket.MSG_WAITALL)
            except OSError as error:
                raise LaneBroken(str(error)) from None
            if not read:
                raise LaneBroken("it hung up")
            at += read
        return whole.toreadonly()

    def _request(self, payload: memoryview) -> tuple[str, Mapping[str, Any]]:
        """Read a request: the instruction and what it asks for."""
        raw = bytes(payload)
        end = 2 + raw[1]
        if raw[0] != _INSTRUCTION_TAG or raw[1] > _ONE_BYTE_MAX or end > len(raw):
            request = _wire.decode("InstructionRequest", raw)
            return request["instruction_id"], request["process_bundle"]
        text = raw[end:]
        known = self._known.get(text)
        if known is None:
            known = _wire.decode("InstructionRequest", text)["process_bundle"]
            while len(self._known) >= _REQUESTS_KNOWN_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[text] = known
        return raw[2:end].decode(), known

    def _heard_data(
        self, payload: memoryview, bundle: int, slot: int, slot_bytes: int, last: int
    ) -> None:
        if slot != _NO_SLOT:
            payload = self._lend(slot, slot_bytes)
        elif len(payload) > INLINE_BYTES_MAX:
            self._make_room()
        if (to := self._inputs.get(bundle)) is not None:  # else it has ended early
            if len(payload):
                to.append(payload)
            if last:
                to.append(None)

    def _heard(self, kind: int, payload: memoryview, slot: int, slot_bytes: int) -> None:
        if kind == _DESCRIPTOR:
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
