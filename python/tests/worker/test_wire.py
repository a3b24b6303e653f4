"""The codec, against Beam's real descriptors and against garbage."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alink._worker import _wire
from alink._worker._fields import MESSAGES
from alink._worker._wire import WireError

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGES = (
    "org.apache.beam.model.fn_execution.v1.",
    "org.apache.beam.model.pipeline.v1.",
    "google.protobuf.",
)
# Entries of maps are messages only on the wire.
NAMES = sorted(name for name in MESSAGES if not name.endswith("Entry") or name == "LogEntry")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Give Beam's own class for a message's name."""
    if shutil.which("go") is None:
        pytest.skip("go, which writes the real descriptors, is not on PATH")
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = tmp_path_factory.mktemp("descriptors") / "fnapi.pb"
    subprocess.run(
        ["go", "run", "./tools/gen", "-descriptors", str(file)], cwd=REPOSITORY, check=True
    )
    pool = descriptor_pool.DescriptorPool()
    for one in descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes()).file:
        pool.Add(one)

    def find(name):
        for package in PACKAGES:
            try:
                return message_factory.GetMessageClass(pool.FindMessageTypeByName(package + name))
            except KeyError:
                continue
        raise AssertionError(name)

    return find


KINDS = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "bytes": st.binary(max_size=200),
    "opaque": st.just(b""),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
}


def messages(name):
    """Make dicts of a message, with some fields set."""

    def value(kind, label, message):
        one = st.deferred(lambda: messages(message)) if kind == "message" else KINDS[kind]
        if label == "repeated":
            return st.lists(one, min_size=1, max_size=3)
        if label == "map":
            _, kind, _, inner = MESSAGES[message][2]
            item = messages(inner) if kind == "message" else KINDS[kind]
            return st.dictionaries(KINDS["string"], item, min_size=1, max_size=3)
        return one

    fields = {
        field: value(kind, label, message)
        for field, kind, label, message in MESSAGES[name].values()
    }
    return st.fixed_dictionaries({}, optional=fields)


def to_real(real, name, message):
    """Write a dict with Beam's own class."""
    out = real(name)()
    for field, kind, label, inner in MESSAGES[name].values():
        if field not in message:
            continue
        target, value = getattr(out, field), message[field]
        if label == "map":
            fill_map(real, target, MESSAGES[inner][2], value)
        elif kind in ("message", "opaque"):
            for one in value if label == "repeated" else [value]:
                made = target.add() if label == "repeated" else target
                made.SetInParent()
                if kind == "message":
                    made.CopyFrom(to_real(real, inner, one))
        elif label == "repeated":
            target.extend(value)
        else:
            setattr(out, field, value)
    return out


def fill_map(real, target, value_field, items):
    _, kind, _, inner = value_field
    for key, item in items.items():
        if kind == "message":
            target[key].CopyFrom(to_real(real, inner, item))
        elif kind == "opaque":
            target[key].SetInParent()
        else:
            target[key] = item


def plain(value: Any) -> Any:
    """Turn views into bytes, so that messages can be compared."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, memoryview) else value


# Of a oneof only one field may be set, which the strategies do not know.
ONEOFS = {"InstructionRequest", "InstructionResponse"}


def only_one_request(name: str, message: dict[str, Any]) -> dict[str, Any]:
    if name not in ONEOFS:
        return message
    keep = next((key for key in message if key not in ("instruction_id", "error")), None)
    return {k: v for k, v in message.items() if k in ("instruction_id", "error", keep)}


@pytest.mark.parametrize("name", NAMES)
def test_codec_agrees_with_beam(real, name):
    @settings(max_examples=40, deadline=None)
    @given(messages(name))
    def check(message):
        message = only_one_request(name, message)
        theirs = to_real(real, name, message)
        ours = _wire.encode(name, message)
        assert real(name).FromString(ours) == theirs
        data = theirs.SerializeToString()
        assert plain(_wire.decode(name, data)) == plain(_wire.decode(name, ours))
        again = plain(_wire.decode(name, _wire.encode(name, plain(_wire.decode(name, data)))))
        assert again == plain(_wire.decode(name, data))

    check()


def test_fields_and_methods_are_beams(real):
    for name in NAMES:
        theirs = {f.number: f for f in real(name).DESCRIPTOR.fields}
        assert MESSAGES[name].keys() == theirs.keys()
        for number, (field, _, label, _) in MESSAGES[name].items():
            assert theirs[number].name == field
            assert (label in ("repeated", "map")) == theirs[number].is_repeated


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(NAMES), st.binary(max_size=60))
def test_garbage_gives_a_message_or_an_error(name, data):
    try:
        message = _wire.decode(name, data)
    except WireError:
        return
    assert set(message) <= {field for field, *_ in MESSAGES[name].values()}


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damaged_messages_give_a_message_or_an_error(data):
    name = data.draw(st.sampled_from(NAMES))
    message = only_one_request(name, data.draw(messages(name)))
    raw = bytearray(_wire.encode(name, message))
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        _wire.decode(name, bytes(cut))
    except WireError:
        pass


def test_unknown_fields_of_every_wire_type_are_skipped():
    known = _wire.encode("InstructionRequest", {"instruction_id": "i1"})
    unknown = b"".join(
        [
            _wire.write_varint(900 << 3 | 0) + b"\x96\x01",
            _wire.write_varint(901 << 3 | 1) + b"12345678",
            _wire.write_varint(902 << 3 | 2) + b"\x03abc",
            _wire.write_varint(903 << 3 | 5) + b"1234",
            _wire.write_varint(904 << 3 | 3) + b"\x08\x01" + _wire.write_varint(904 << 3 | 4),
        ]
    )
    decoded = _wire.decode("InstructionRequest", unknown + known + unknown)
    assert decoded == {"instruction_id": "i1"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x0a\x05abc", "5 bytes is cut off after 3"),
        (b"\x0a\x02\xff\xfe", "not UTF-8"),
        (b"\x08\x01", "wire type 0 where 2 is expected"),
        (b"\x80" * 10, "longer than 10 bytes"),
        (b"\x80", "cut off"),
        (b"\x00\x00", "0 is no field number"),
        (b"\x16", "wire type 6"),
        (_wire.write_varint(900 << 3 | 3), "cut off"),
        (_wire.write_varint(900 << 3 | 3) * 100, "cannot be read"),
        (_wire.write_varint(900 << 3 | 3) + _wire.write_varint(901 << 3 | 4), "ends as group"),
    ],
)
def test_malformed_messages_say_what_is_wrong(data, says):
    with pytest.raises(WireError, match=says):
        _wire.decode("GetProcessBundleDescriptorRequest", data)


def test_large_payloads_are_views():
    payload = bytes(range(256)) * 100
    data = _wire.encode("FunctionSpec", {"urn": "u", "payload": [payload, memoryview(payload)]})
    decoded = _wire.decode("FunctionSpec", data)
    assert decoded["payload"].obj is data
    assert decoded["payload"] == payload * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FunctionSpec", {"url": "u"}),
        ("Timestamp", {"nanos": 2**31}),
        ("Timestamp", {"seconds": -(2**63) - 1}),
    ],
)
def test_what_cannot_be_written_is_an_error(name, message):
    with pytest.raises(WireError):
        _wire.encode(name, message)


def test_a_lone_surrogate_does_not_stop_a_log_line():
    data = _wire.encode("LogEntry", {"message": "a\ud800b"})
    assert _wire.decode("LogEntry", data)["message"] == "a?b"
