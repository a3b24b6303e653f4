"""Batches as elements: alignment, pieces, damage; and the queues in between."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alink._worker import _data, _elements, _wire
from alink._worker._errors import Failure

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])
WAIT_SECONDS = 20


def batch(rows, width=10):
    return pa.record_batch(
        [pa.array(range(rows), pa.int64()), pa.array(["x" * width] * rows, pa.string())],
        schema=SCHEMA,
    )


def written(batches, room=lambda size: None):
    """Write batches; return the pieces as (data, is_last)."""
    pieces = []

    def send(transform, parts, last):
        assert transform == "sink"
        pieces.append((b"".join(parts), last))

    writer = _elements.BatchWriter(send, "sink", room)
    writer.begin()
    for one in batches:
        writer.write(one)
    writer.close()
    return pieces


class Slots:
    """Lends memory of a size, as often as there is some, from so many bytes on."""

    def __init__(self, size=1 << 20, count=1_000, least=0):
        self.lent = []
        self._size, self._count, self._least = size, count, least

    def room(self, size):
        if not self._least <= size <= self._size or len(self.lent) == self._count:
            return None
        self.lent.append(memoryview(bytearray(b"\xaa" * self._size)))
        return self.lent[-1]


def read(chunks, schema=SCHEMA):
    views = iter([memoryview(chunk) for chunk in chunks])
    return list(_elements.read_batches(lambda: next(views, None), schema))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=6),
    st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_batches_survive_any_cut(shapes, cuts):
    batches = [batch(rows, width) for rows, width in shapes]
    data = b"".join(data for data, _ in written(batches))
    chunks, at = [], 0
    while at < len(data):
        size = cuts[len(chunks) % len(cuts)]
        chunks.append(data[at : at + size])
        at += size
    assert read([b"", *chunks, b""]) == batches


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 12, 13, 100, 1000, 20_000])
def test_messages_are_aligned_within_their_piece(rows):
    [(data, last)] = written([batch(rows, 3), batch(rows, 5)])
    assert last
    at, found = 0, 0
    while at < len(data):
        size, body = _wire.read_varint(memoryview(data), at + len(_elements._GLOBAL_HEADER))
        start = body + 1 + data[body]
        assert data[start : start + 4] == b"\xff\xff\xff\xff"
        assert start % 64 == 0
        at, found = body + size, found + 1
    assert found == 2


def test_the_header_is_beams():
    [(data, _)] = written([batch(1)])
    # The smallest timestamp in milliseconds, shifted by 2**63; one window; no pane number.
    assert data[:13].hex() == "7fdf3b645a1cac0900000001" + "0f"


def test_large_elements_come_in_pieces_and_small_ones_together():
    large = batch(200_000, 100)
    pieces = written([batch(10), batch(10), large, batch(10)])
    sizes = [len(data) for data, _ in pieces]
    assert large.nbytes > 16 << 20
    assert max(sizes) == 16 << 20
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) == 4  # what is small, a full piece, the rest, what is small
    again = read([data for data, _ in pieces])
    assert [one.num_rows for one in again] == [10, 10, 200_000, 10]
    assert again[2] == large


def test_what_has_gathered_is_sent():
    pieces = written([batch(1000, 500)] * 6)
    assert len(pieces) == 3
    assert all(1 << 20 <= len(data) < 2 << 20 for data, last in pieces if not last)


def test_an_empty_bundle_has_one_empty_last_piece():
    assert written([]) == [(b"", True)]


def test_whole_elements_are_views_of_the_piece():
    [(data, _)] = written([batch(1000)])
    [one] = read([data])
    address = one.column(0).buffers()[1].address
    start = pa.py_buffer(data).address
    assert start <= address < start + len(data)


@pytest.mark.parametrize("shift", range(8))
def test_an_element_that_is_not_aligned_is_copied(shift):
    [(data, _)] = written([batch(100)])
    [one] = read([memoryview(bytes(shift) + data)[shift:]])
    assert one.column(0).buffers()[1].address % 8 == 0
    assert one == batch(100)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_input_is_a_protocol_error(data):
    [(raw, _)] = written([batch(3)])
    head = len(_elements._GLOBAL_HEADER) + 2
    damaged = bytearray(raw)
    # Within the element's frame; the Arrow message itself comes from a trusted engine.
    damaged[data.draw(st.integers(8, head))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    kinds = {"protocol"}
    try:
        read([bytes(damaged[:cut])])
    except Failure as failure:
        kinds.add(failure.details["error"])
    assert kinds == {"protocol"}


def test_input_that_ends_early_says_so():
    [(data, _)] = written([batch(3)])
    with pytest.raises(Failure, match="ends 5 bytes too early"):
        read([data[:-5]])


# Batches that are written in place ----------------------------------------------------------

POINT = pa.struct([("a", pa.float64()), ("b", pa.list_(pa.string()))])


def shapes():
    """Batches whose buffers are not what their values are: cut, nested, with NULLs, empty."""
    numbers = pa.array([1, None, 3, 4, None, 6, 7, 8, 9, 10, 11], pa.int64())
    flags = pa.array([True, None, False] * 5)
    texts = pa.array(["a", None, "", "long " * 50] * 4)
    lists = pa.array([[1, 2], None, [], [3]] * 5, pa.list_(pa.int32()))
    points = pa.array([{"a": 1.0, "b": ["x", None]}, None, {"a": None, "b": None}] * 4, POINT)
    maps = pa.array([[("k", 1)], None, []] * 4, pa.map_(pa.string(), pa.int64()))
    fixed = pa.array([[1.0, 2.0], None] * 6, pa.list_(pa.float64(), 2))
    decimals = pa.array([1, None, 3] * 4).cast(pa.decimal128(20, 0))
    for name, array in [
        ("numbers", numbers), ("flags", flags), ("texts", texts), ("lists", lists),
        ("points", points), ("maps", maps), ("fixed", fixed), ("decimals", decimals),
        ("nulls", pa.nulls(11)), ("all NULL", pa.nulls(11, pa.string())),
    ]:  # fmt: skip
        for start, size in [(0, 11), (3, 7), (8, 3), (1, 0), (0, 0)]:
            part = array.slice(start, size)
            yield f"{name} {start}+{size}", pa.record_batch([part, part], ["x", "y"])
    yield "no columns", pa.RecordBatch.from_arrays([], schema=pa.schema([]))
    yield "no rows", batch(0)


@pytest.mark.parametrize(("what", "one"), list(shapes()))
def test_a_batch_in_place_is_the_same_message(what, one):
    slots = Slots()
    [(data, last)] = written([one, one, one], slots.room)
    assert last
    assert len(slots.lent) == 1
    assert data == written([one, one, one])[0][0], what
    again = read([data], one.schema)
    assert again == [one, one, one]
    for each in again:
        each.validate(full=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8),
    st.integers(200, 100_000),
    st.integers(0, 3),
    st.integers(0, 50_000),
)
def test_batches_survive_any_room(shapes, size, count, least):
    batches = [batch(rows, width) for rows, width in shapes]
    slots = Slots(size, count, least)
    pieces = written(batches, slots.room)
    assert read([data for data, _ in pieces]) == batches
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]


def test_what_has_gathered_goes_first_into_the_room():
    slots = Slots(least=50_000)
    small, large = batch(10), batch(1000, 100)
    [(data, _)] = written([small, small, large, small], slots.room)
    assert bytes(slots.lent[0][: len(data)]) == data
    assert read([data]) == [small, small, large, small]


def test_what_is_larger_than_the_room_goes_as_before():
    slots = Slots(size=100_000)
    large = batch(2000, 100)
    pieces = written([batch(10), large, batch(10)], slots.room)
    assert read([data for data, _ in pieces]) == [batch(10), large, batch(10)]
    assert len(slots.lent) == 1  # before it


def test_what_is_more_than_a_message_is_refused():
    texts = [pa.array(texts).dictionary_encode() for texts in (["a", "b"], ["c", "d"])]
    batches = [pa.record_batch([column], ["x"]) for column in texts]
    with pytest.raises(Failure, match="no single message"):
        written(batches, Slots().room)


def test_a_writer_goes_on_after_a_bundle_that_failed():
    pieces = []
    slots = Slots()
    writer = _elements.BatchWriter(
        lambda _, parts, __: pieces.append(b"".join(parts)), "s", slots.room
    )
    writer.begin()
    writer.write(batch(10))
    strange = pa.record_batch([pa.array([1])], ["z"])
    with pytest.raises(pa.ArrowInvalid, match="schema"):
        writer.write(strange)
    writer.begin()
    writer.write(batch(3))
    writer.close()
    assert read(pieces) == [batch(3)]


# The inbox --------------------------------------------------------------------------------


@pytest.fixture
def small_bound(monkeypatch):
    monkeypatch.setattr(_data, "INPUT_BYTES_MAX", 100)


def size_of(piece):
    assert piece is not None
    return len(piece)


class Putter:
    """Puts pieces on a thread and tells how far it came."""

    def __init__(self, inbox, pieces):
        self.done = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._put, args=(inbox, pieces), daemon=True)
        self._thread.start()

    def _put(self, inbox, pieces):
        for bundle, size, last in pieces:
            inbox.put(bundle, memoryview(bytes(size)), last)
            with self._changed:
                self.done += 1
                self._changed.notify_all()

    def reaches(self, count):
        with self._changed:
            return self._changed.wait_for(lambda: self.done >= count, WAIT_SECONDS)

    def stays_at(self, count, seconds=0.2):
        self.reaches(count)
        with self._changed:
            return not self._changed.wait_for(lambda: self.done > count, seconds)


def test_a_bundle_beyond_its_bound_holds_up_the_reader(small_bound):
    inbox = _data.Inbox()
    inbox.start("a")
    putter = Putter(inbox, [("a", 60, False)] * 4 + [("b", 1, True)])
    assert putter.stays_at(1)
    assert size_of(inbox.take()) == 60
    assert putter.stays_at(2)
    inbox.finish()
    assert putter.reaches(5)


def test_the_reader_goes_on_for_a_bundle_that_waits_behind_another(small_bound):
    inbox = _data.Inbox()
    putter = Putter(inbox, [("b", 200, False), ("b", 200, True), ("a", 10, True)])
    assert putter.stays_at(0)  # nobody takes anything
    inbox.start("a")  # whose data comes behind that of b
    assert size_of(inbox.take()) == 10
    assert inbox.take() is None
    inbox.finish()
    inbox.start("b")
    assert [size_of(inbox.take()), size_of(inbox.take()), inbox.take()] == [200, 200, None]


def test_what_comes_for_a_bundle_that_ended_is_dropped(small_bound):
    inbox = _data.Inbox()
    inbox.start("a")
    inbox.put("a", memoryview(b"1"), False)
    inbox.finish()
    putter = Putter(inbox, [("a", 300, False), ("a", 300, True), ("b", 1, True)])
    assert putter.reaches(3)
    inbox.start("b")
    assert inbox.take() is not None
    assert not inbox._dropped


def test_the_bundles_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(_data, "DROPPED_MAX", 3)
    inbox = _data.Inbox()
    for i in range(10):
        inbox.start(str(i))
        inbox.finish()
    assert list(inbox._dropped) == ["7", "8", "9"]


def test_the_outbox_waits_for_room():
    outbox = _data.Outbox(10)
    outbox.put(bytes(100))  # alone it may be larger than the bound
    sent = threading.Event()
    thread = threading.Thread(target=lambda: (outbox.put(b"x"), sent.set()), daemon=True)
    thread.start()
    assert not sent.wait(0.1)
    assert len(next(outbox)) == 100
    assert sent.wait(WAIT_SECONDS)
    thread.join(WAIT_SECONDS)
    assert next(outbox) == b"x"
