"""The local lane: frames however they come, slots, answers; the engine is played by the test."""

from __future__ import annotations

import array
import json
import mmap
import os
import signal
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alink._worker import _local, _wire
from alink._worker._interrupts import Interrupts

HEADER = _local._HEADER
NO_SLOT = _local._NO_SLOT
SLOT_BYTES = 1 << 20
WAIT_SECONDS = 20


def frame(kind, payload=b"", bundle=0, slot=NO_SLOT, slot_bytes=0, last=False):
    return HEADER.pack(len(payload), slot_bytes, bundle, slot, kind, last) + payload


def request(number, id_=None, stage="stage"):
    message = {
        "instruction_id": id_ or f"i{number}",
        "process_bundle": {"process_bundle_descriptor_id": stage},
    }
    return frame(_local._REQUEST, _wire.encode("InstructionRequest", message))


def data(number, payload, last=False):
    return frame(_local._DATA, payload, number, last=last)


class Left(BaseException):
    """What the lane would have ended the process with."""


def leave(status, text):
    raise Left(status, text)


class Engine:
    """The engine's ends of a lane's two connections."""

    def __init__(self):
        self._log, log = socket.socketpair()
        self.socket, bundles = socket.socketpair()
        self.socket.settimeout(WAIT_SECONDS)
        for connection in (self._log, self.socket):
            connection.sendall(frame(_local._WELCOME))
        self.interrupts = Interrupts()
        passed = {"log": log.detach(), "bundles": bundles.detach()}
        launch = {"endpoint": "local:", "worker_id": "w", "token": "t", "passed": passed}
        self.lane = _local.LocalLane(launch, self.interrupts, leave, "1")
        self.lane.connect(iter([]))
        assert json.loads(self.read()[1])["connection"] == "bundles"

    def close(self):
        self._log.close()
        self.socket.close()
        self.lane._socket.close()

    def read(self):
        """Read a frame: its kind, its payload, bundle, slot and bytes in it, and whether last."""
        size, slot_bytes, bundle, slot, kind, last = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(size), bundle, slot, slot_bytes, bool(last)

    def _exactly(self, size):
        parts = b""
        while len(parts) < size:
            parts += self.socket.recv(size - len(parts))
        return parts

    def hand_out(self, kind, slot):
        """Make a slot; return its memory."""
        descriptor = os.memfd_create("slot")
        os.ftruncate(descriptor, SLOT_BYTES)
        memory = mmap.mmap(descriptor, SLOT_BYTES)
        head = frame(kind, slot=slot, slot_bytes=SLOT_BYTES)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        self.socket.sendmsg([head], rights)
        os.close(descriptor)
        return memory

    def bundle(self, number):
        """Have a bundle without input run."""
        self.socket.sendall(request(number) + data(number, b"", last=True))
        id_, _ = self.lane.next()
        self.lane.start(id_, "")


@pytest.fixture
def engine():
    before = signal.getsignal(signal.SIGINT)
    engine = Engine()
    yield engine
    engine.close()
    signal.signal(signal.SIGINT, before)


def pieces_of(lane):
    return [bytes(piece) for piece in iter(lane.take, None)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 200_000), max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=8),
)
def test_frames_come_in_any_cut(bundles, cuts):
    before = signal.getsignal(signal.SIGINT)
    engine = Engine()
    stream = b""
    expected = []
    for number, sizes in enumerate(bundles, 1):
        pieces = [bytes([number]) * size for size in sizes]
        expected.append([piece for piece in pieces if piece])
        stream += request(number) + b"".join(data(number, piece) for piece in pieces)
        stream += data(number, b"", last=True)

    def send():
        at = turn = 0
        while at < len(stream):
            size = cuts[turn % len(cuts)]
            engine.socket.sendall(stream[at : at + size])
            at, turn = at + size, turn + 1

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        for number, pieces in enumerate(expected, 1):
            id_, what = engine.lane.next()
            assert id_ == f"i{number}"
            assert what["process_bundle_descriptor_id"] == "stage"
            engine.lane.start(id_, "")
            assert pieces_of(engine.lane) == pieces
            assert engine.lane.take() is None
            engine.lane.finish()
    finally:
        sender.join(WAIT_SECONDS)
        engine.close()
        signal.signal(signal.SIGINT, before)


def test_requests_of_several_stages_are_told_apart(engine):
    stages = ["a", "b", "a", "a stage of a longer name", "b"]
    for number, stage in enumerate(stages, 1):
        engine.socket.sendall(request(number, stage=stage))
    found = [engine.lane.next()[1]["process_bundle_descriptor_id"] for _ in stages]
    assert found == stages


def test_an_answer_goes_out_in_one_message_with_the_last_piece(engine):
    engine.bundle(1)
    engine.lane.put("sink", [b"abc", b"de"], True)
    engine.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        engine.socket.recv(1)
    engine.lane.finish()
    engine.lane.respond("i1", {"process_bundle": {"monitoring_data": {"k": b"v"}}})
    sent = engine.socket.recv(1 << 16)
    assert sent.startswith(frame(_local._DATA, b"abcde", 1, last=True))
    said = sent[HEADER.size + 5 :]
    assert HEADER.unpack_from(said)[4] == _local._RESPONSE
    answer = _wire.decode("InstructionResponse", said[HEADER.size :])
    assert answer["instruction_id"] == "i1"
    assert answer["process_bundle"]["monitoring_data"] == {"k": b"v"}


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
        st.binary(min_size=1, max_size=20_000),
        min_size=1,
        max_size=4,
    ),
)
def test_answers_are_what_the_codec_writes(id_, told):
    answers = _local._Answers()
    message = {"instruction_id": id_, "process_bundle": {"monitoring_data": told}}
    for _ in range(2):
        assert answers.write(id_, told) == _wire.encode("InstructionResponse", message)


def test_an_error_is_told(engine):
    engine.bundle(1)
    engine.lane.finish()
    engine.lane.respond("i1", {"process_bundle": {"monitoring_data": {}}, "error": "no"})
    kind, text, *_ = engine.read()
    assert kind == _local._RESPONSE
    assert _wire.decode("InstructionResponse", text)["error"] == "no"


def lend(engine):
    memory = engine.hand_out(_local._OUTPUT_SLOT, 7)
    engine.bundle(1)
    while not engine.lane._free_outputs:
        engine.lane._read()
    return memory


def test_what_lies_in_a_slot_is_sent_by_its_size(engine):
    memory = lend(engine)
    room = engine.lane.room(100_000)
    assert len(room) == SLOT_BYTES
    room[:3] = b"xyz"
    engine.lane.put("sink", [room[:3]], False)
    kind, payload, bundle, slot, slot_bytes, last = engine.read()
    assert (kind, payload, bundle, slot, slot_bytes) == (_local._DATA, b"", 1, 7, 3)
    assert not last
    assert memory[:3] == b"xyz"
    assert engine.lane.room(100_000) is None  # it has not come back
    engine.socket.sendall(frame(_local._FREE, b"\7\0"))
    engine.lane._read()
    assert engine.lane.room(100_000) is not None


def test_small_and_too_large_pieces_get_no_slot(engine):
    lend(engine)
    assert engine.lane.room(_local.INLINE_BYTES_MAX) is None
    assert engine.lane.room(SLOT_BYTES + 1) is None
    assert engine.lane.room(SLOT_BYTES) is not None


def test_a_slot_that_a_failed_bundle_has_begun_is_used_again(engine):
    lend(engine)
    for _ in range(3):
        assert engine.lane.room(100_000) is not None
        engine.lane.finish()
    assert engine.lane._free_outputs == [7]


def test_input_slots_go_back_when_nothing_refers_to_them(engine):
    memory = engine.hand_out(_local._INPUT_SLOT, 2)
    memory[:5] = b"hello"
    lent = frame(_local._DATA, bundle=1, slot=2, slot_bytes=5, last=True)
    engine.socket.sendall(request(1) + lent)
    engine.lane.start(engine.lane.next()[0], "")
    kept = engine.lane.take()[1:3]
    assert engine.lane.take() is None
    engine.lane.finish()
    answer = {"process_bundle": {"monitoring_data": {"k": b"v"}}}
    engine.lane.respond("i1", answer)
    assert engine.read()[0] == _local._RESPONSE
    assert bytes(kept) == b"el"
    del kept
    engine.lane.respond("i1", answer)
    assert engine.read()[:2] == (_local._FREE, b"\2\0")
    assert engine.read()[0] == _local._RESPONSE


def test_an_interrupt_ends_the_wait_for_input_and_harms_no_frame(engine):
    engine.socket.sendall(request(1) + data(1, b"one"))
    engine.lane.start(engine.lane.next()[0], "")
    assert bytes(engine.lane.take()) == b"one"
    engine.interrupts.armed = True
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        engine.lane.take()
    timer.join()
    engine.lane.finish()
    engine.socket.sendall(data(1, b"two", last=True) + request(2) + data(2, b"three", last=True))
    id_, _ = engine.lane.next()
    engine.lane.start(id_, "")
    assert pieces_of(engine.lane) == [b"three"]


@pytest.mark.parametrize(
    "frames",
    [
        frame(_local._DESCRIPTOR + 40),
        frame(_local._REQUEST, b"\xff\xff"),
        frame(_local._REQUEST, b""),
        frame(_local._DATA, bundle=1, slot=3, slot_bytes=5),
        frame(_local._FREE, b"\1"),
        frame(_local._INPUT_SLOT, slot=1, slot_bytes=10),
        HEADER.pack(_local.MESSAGE_BYTES_MAX + 1, 0, 0, NO_SLOT, _local._DATA, 0),
    ],
)
def test_frames_that_make_no_sense_end_the_worker(engine, frames):
    engine.socket.sendall(request(1))
    engine.lane.next()
    engine.socket.sendall(frames)
    with pytest.raises(Left) as left:
        engine.lane.next()
    assert left.value.args[0] == 1


def test_the_end_of_the_engine_ends_the_worker(engine):
    engine.socket.sendall(request(1)[:-3])
    engine.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(Left) as left:
        engine.lane.next()
    assert left.value.args == (0, "")
