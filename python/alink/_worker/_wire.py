"""A small Protocol Buffers codec for the messages in ``_fields``.

A message is a dict. Decoding fills in defaults for everything but fields whose absence is told
apart ("optional"), skips fields it does not know, and gives bytes as views of the input, so
that a large payload is never copied. Encoding joins all parts once, at the end.
"""

from __future__ import annotations

from typing import Any

from ._fields import MESSAGES

Message = dict[str, Any]

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_VARINT_BYTES_MAX = 10
_GROUP_DEPTH_MAX = 32
_MASK64 = (1 << 64) - 1
_ONE_BYTE = [bytes([value]) for value in range(0x80)]


class WireError(ValueError):
    """Bytes that are not a well-formed message, or a message that cannot be written."""


def read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """Read a base-128 number; return it and where it ends."""
    value = shift = 0
    for end in range(at, min(at + _VARINT_BYTES_MAX, len(view))):
        byte = view[end]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, end + 1
        shift += 7
    if len(view) - at < _VARINT_BYTES_MAX:
        raise WireError("a number is cut off")
    raise WireError(f"a number is longer than {_VARINT_BYTES_MAX} bytes")


def write_varint(value: int) -> bytes:
    """Write a number from 0 to 2**64-1."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(name: str, field: str) -> bytes:
    """Write what stands before the size of a field that has one."""
    numbers = [number for number, known in MESSAGES[name].items() if known[0] == field]
    return write_varint(numbers[0] << 3 | _LENGTH)


def decode(name: str, data: bytes | memoryview) -> Message:
    """Read a message; bytes fields are views of ``data``."""
    view = memoryview(data)
    fields = MESSAGES[name]
    message = _defaults(fields)
    at = 0
    while at < len(view):
        tag, at = read_varint(view, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"{name}: {number} is no field number")
        field = fields.get(number)
        if field is None:
            at = _skip(view, at, number, wire, 0)
        else:
            at = _read_field(message, field, name, view, at, wire)
    return message


def encode(name: str, message: Message) -> bytes:
    """Write a message. A bytes field may be a list of buffers, which are joined."""
    parts: list[Any] = []
    _write_message(parts, name, message)
    return b"".join(parts)


_DEFAULTS: dict[str, Any] = {"string": "", "bytes": b"", "bool": False, "int32": 0, "int64": 0}


def _defaults(fields: dict[int, tuple[str, str, str, str]]) -> Message:
    message: Message = {}
    for name, kind, label, _ in fields.values():
        if label == "repeated":
            message[name] = []
        elif label == "map":
            message[name] = {}
        elif label == "":
            message[name] = _DEFAULTS[kind]
    return message


def _read_field(
    message: Message,
    field: tuple[str, str, str, str],
    parent: str,
    view: memoryview,
    at: int,
    wire: int,
) -> int:
    """Read one occurrence of a field into ``message``; return where it ends."""
    name, kind, label, message_name = field
    want = _LENGTH if kind in _LENGTH_KINDS else _VARINT
    if wire != want:
        raise WireError(f"{parent}.{name}: wire type {wire} where {want} is expected")
    value: Any
    if wire == _LENGTH:
        chunk, at = _read_chunk(view, at)
        value = _read_bytes(kind, message_name, f"{parent}.{name}", chunk)
    else:
        number, at = read_varint(view, at)
        value = _from_unsigned(kind, number)
    if label == "repeated":
        message[name].append(value)
    elif label == "map":
        message[name][value["key"]] = _entry_value(message_name, value)
    else:
        message[name] = value
    return at


def _entry_value(entry_name: str, entry: Message) -> Any:
    """Give the value of a map's entry, which is left out where it is the default."""
    if "value" in entry:
        return entry["value"]
    _, kind, _, message_name = MESSAGES[entry_name][2]
    return decode(message_name, b"") if kind == "message" else b""


def _read_chunk(view: memoryview, at: int) -> tuple[memoryview, int]:
    size, at = read_varint(view, at)
    if size > len(view) - at:
        raise WireError(f"a field of {size} bytes is cut off after {len(view) - at}")
    return view[at : at + size], at + size


def _read_bytes(kind: str, message_name: str, where: str, chunk: memoryview) -> Any:
    if kind == "message":
        return decode(message_name, chunk)
    if kind == "string":
        try:
            return str(chunk, "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"{where}: the text is not UTF-8") from error
    return chunk


def _from_unsigned(kind: str, value: int) -> int:
    """Read a number's sign: negative ones are sent as their two's complement in 64 bits."""
    if kind == "bool":
        return value != 0
    bits = _BITS[kind]
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _skip(view: memoryview, at: int, number: int, wire: int, depth: int) -> int:
    """Step over a field that the table does not have."""
    if wire == _VARINT:
        return read_varint(view, at)[1]
    if wire == _LENGTH:
        return _read_chunk(view, at)[1]
    if wire in (_FIXED32, _FIXED64):
        end = at + (4 if wire == _FIXED32 else 8)
        if end > len(view):
            raise WireError("a number is cut off")
        return end
    if wire != _GROUP or depth == _GROUP_DEPTH_MAX:
        raise WireError(f"field {number} has wire type {wire}, which cannot be read")
    while True:
        tag, at = read_varint(view, at)
        if tag & 7 == _GROUP_END:
            if tag >> 3 != number:
                raise WireError(f"group {number} ends as group {tag >> 3}")
            return at
        at = _skip(view, at, tag >> 3, tag & 7, depth + 1)


def _write_message(parts: list[Any], name: str, message: Message) -> int:
    """Append a message's parts; return their size in bytes."""
    size = 0
    unknown = message.keys() - {field[0] for field in MESSAGES[name].values()}
    if unknown:
        raise WireError(f"{name} has no field {min(unknown)}")
    for number, (field, kind, label, message_name) in MESSAGES[name].items():
        value = message.get(field)
        if value is None or (label != "optional" and not value):
            continue
        if label == "map":
            value = [{"key": key, "value": value[key]} for key in value]
        elif label != "repeated":
            value = [value]
        for one in value:
            size += _write_field(parts, number, kind, message_name, one)
    return size


def _write_field(parts: list[Any], number: int, kind: str, message_name: str, value: Any) -> int:
    if kind not in _LENGTH_KINDS:
        parts.append(write_varint(number << 3 | _VARINT) + write_varint(_to_unsigned(kind, value)))
        return len(parts[-1])
    tag = write_varint(number << 3 | _LENGTH)
    at = len(parts)
    parts.append(b"")  # the tag and the size, once the size is known
    if kind == "message":
        size = _write_message(parts, message_name, value)
    else:
        size = _write_bytes(parts, value)
    parts[at] = tag + write_varint(size)
    return len(parts[at]) + size


def _write_bytes(parts: list[Any], value: Any) -> int:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")  # a lone surrogate must not break a log line
    if not isinstance(value, list):
        value = [value]
    parts.extend(value)
    return sum(len(part) for part in value)


def _to_unsigned(kind: str, value: int) -> int:
    bits = 2 if kind == "bool" else _BITS[kind]
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise WireError(f"{value} is out of the range of {kind}")
    return value & _MASK64


_LENGTH_KINDS = ("message", "opaque", "string", "bytes")
_BITS = {"int32": 32, "int64": 64}
