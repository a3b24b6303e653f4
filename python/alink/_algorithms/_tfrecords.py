"""Files of TFRecords that hold examples of TensorFlow.

A record is its length in 8 bytes, the checksum of these, the bytes, and their checksum; numbers
have their low bytes first, and checksums are CRC-32C, rotated and moved [TensorFlow,
lib/io/record_writer.h]. The bytes are a ``tf.train.Example`` of protocol buffers: features by
name, each a list of bytes, of floats or of int64.
"""

from __future__ import annotations

import difflib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._chain import Expansion
from ._crc32c import checksums
from ._strings import Unreadable
from ._tensors import cell_tensor, tensor_cell
from ._tfrecord_types import LIST_OF
from ._types import TENSOR, VECTOR, is_kind, type_name
from ._vectors import Vectors

FILE_BYTES_MAX = 1 << 30
_HEAD_BYTES = 12
_TAIL_BYTES = 4
_VARINT_BITS_MAX = 64
_LENGTH_DELIMITED = 2
_MASK_DELTA = 0xA282EAD8

#: A feature: "bytes", "float" or "int64", and its values; "" where it has no list.
Feature = tuple[str, Sequence[Any]]
_LISTS = {1: "bytes", 2: "float", 3: "int64"}
_NONE: Feature = ("", ())


def _masked(crc: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return ((crc >> 15) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)


# --- records ---


def records(path: str, data: bytes) -> list[memoryview]:
    """Give the bytes of the records of a file, whose checksums are checked.

    Raises
    ------
    Unreadable
        For the first record that is broken, with its place.
    """
    starts: list[int] = []
    lengths: list[int] = []
    at = 0
    broken: int | None = None
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        end = at + _HEAD_BYTES + length + _TAIL_BYTES
        if at + _HEAD_BYTES > len(data) or end > len(data):
            broken = at
            break
        starts.append(at)
        lengths.append(length)
        at = end
    begins, sizes = np.array(starts, np.int64), np.array(lengths, np.int64)
    of_lengths = _masked(checksums(data, begins, np.full(len(begins), 8)))
    of_bytes = _masked(checksums(data, begins + _HEAD_BYTES, sizes))
    heads = _stored(data, begins + 8)
    tails = _stored(data, begins + _HEAD_BYTES + sizes)
    wrong = np.flatnonzero((heads != of_lengths) | (tails != of_bytes))
    if len(wrong):
        i = int(wrong[0])
        what = "length" if heads[i] != of_lengths[i] else "bytes"
        raise Unreadable(
            f"{path}: the record at byte {starts[i]} is broken: its {what} do not have the "
            "checksum that is written there"
        )
    if broken is not None:
        raise Unreadable(f"{path}: the record at byte {broken} is cut off, or its length is wrong")
    view = memoryview(data)
    return [
        view[start + _HEAD_BYTES : start + _HEAD_BYTES + length]
        for start, length in zip(starts, lengths, strict=True)
    ]


def _stored(data: bytes, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Read numbers of 4 bytes at places."""
    read = np.frombuffer(data, np.uint8)[places[:, None] + np.arange(4)]
    return read.astype(np.uint8).view("<u4").reshape(-1)


def framed(parts: Sequence[bytes]) -> bytes:
    """Write records."""
    sizes = np.array([len(part) for part in parts], np.int64)
    lengths = sizes.astype("<u8").tobytes()
    at = np.arange(len(parts), dtype=np.int64)
    of_lengths = _masked(checksums(lengths, at * 8, np.full(len(parts), 8)))
    of_bytes = _masked(checksums(b"".join(parts), np.cumsum(sizes) - sizes, sizes))
    out = bytearray()
    for part, head, tail in zip(parts, of_lengths.tolist(), of_bytes.tolist(), strict=True):
        out += struct.pack("<QI", len(part), head) + part + struct.pack("<I", tail)
    return bytes(out)


# --- examples ---


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < _VARINT_BITS_MAX:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("a number is too long")


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Give the fields of a message: number, form, and value."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        form = tag & 7
        if form == 0:
            value, at = _varint(data, at)
        elif form in (1, 5):
            end = at + (8 if form == 1 else 4)
            value, at = data[at:end], end
        elif form == _LENGTH_DELIMITED:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"a field has the form {form}")
        if at > len(data):
            raise IndexError
        yield tag >> 3, form, value


def read_example(record: memoryview) -> dict[str, Feature]:
    """Read an example: its features by their names.

    Raises
    ------
    ValueError, IndexError
        If it is none.
    """
    features: dict[str, Feature] = {}
    for number, form, value in _fields(record):
        if (number, form) != (1, _LENGTH_DELIMITED):
            continue
        for inner, inner_form, entry in _fields(value):
            if (inner, inner_form) != (1, _LENGTH_DELIMITED):
                continue
            name, feature = "", _NONE
            for place, place_form, part in _fields(entry):
                if place_form == _LENGTH_DELIMITED and place == 1:
                    name = bytes(part).decode()
                elif place_form == _LENGTH_DELIMITED and place == 2:
                    feature = _read_feature(part)
            features[name] = feature
    return features


def _read_feature(data: memoryview) -> Feature:
    kind, values = "", list[Any]()
    for number, form, value in _fields(data):
        if form != _LENGTH_DELIMITED or number not in _LISTS:
            continue
        if kind != _LISTS[number]:  # of several lists the last one counts
            kind, values = _LISTS[number], []
        for inner, inner_form, part in _fields(value):
            if inner != 1:
                continue
            if kind == "bytes" and inner_form == _LENGTH_DELIMITED:
                values.append(bytes(part))
            elif kind == "float" and inner_form in (_LENGTH_DELIMITED, 5):
                if len(part) % 4:
                    raise ValueError("a list of floats is cut off")
                values += struct.unpack(f"<{len(part) // 4}f", part)
            elif kind == "int64" and inner_form == 0:
                values.append(_signed(part))
            elif kind == "int64" and inner_form == _LENGTH_DELIMITED:
                at = 0
                while at < len(part):
                    number_, at = _varint(part, at)
                    values.append(_signed(number_))
    return kind, values


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _count(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _count(len(content)) + content


def write_example(features: Mapping[str, Feature]) -> bytes:
    """Write an example; a feature without a list is NULL."""
    out = bytearray()
    for name, (kind, values) in features.items():
        if kind == "bytes":
            content = _field(1, b"".join(_field(1, value) for value in values))
        elif kind == "float":
            packed = np.asarray(values, "<f8").astype("<f4").tobytes()
            content = _field(2, _field(1, packed))
        elif kind == "int64":
            packed = b"".join(_count(value & 0xFFFFFFFFFFFFFFFF) for value in values)
            content = _field(3, _field(1, packed))
        else:
            content = b""
        out += _field(1, _field(1, name.encode()) + _field(2, content))
    return _field(1, bytes(out))


# --- columns ---

_TENSORS = {
    "FLOAT": "float", "DOUBLE": "float", "LONG": "int64", "INT": "int64", "STRING": "bytes",
    "BYTE": "bytes", "BOOLEAN": "int64", "UBYTE": "int64",
}  # fmt: skip
_TENSOR_OF = {"float": "FLOAT", "int64": "LONG", "bytes": "STRING"}


def _value(kind: str, tensor: str, feature: Feature) -> Any:
    """Give a feature as a column of a type has it: its first value, or all of a tensor's."""
    given, values = feature
    if not given or (not values and kind != "TENSOR"):
        return None
    wanted = _TENSORS[tensor or _TENSOR_OF[given]] if kind == "TENSOR" else LIST_OF[kind]
    if given != wanted:
        raise Unreadable(f"it has {given}, and {tensor and tensor + '_'}{kind} is of {wanted}")
    if kind == "TENSOR":
        return _tensor(tensor or _TENSOR_OF[given], values)
    if kind == "VECTOR":
        return len(values), None, values
    if kind == "STRING":
        return _text(values[0])
    if kind == "DECIMAL":
        return str(values[0])
    return bool(values[0]) if kind == "BOOLEAN" else values[0]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unreadable("its bytes are no text in UTF-8: read them as VARBINARY") from None


def _tensor(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    shape = [len(values)]
    if kind == "STRING":
        values = [_text(value) for value in values]
    elif kind == "BYTE":
        sizes = {len(value) for value in values}
        if len(sizes) > 1:
            raise Unreadable("its bytes are of different lengths, which makes no BYTE_TENSOR")
        shape += [sizes.pop() if sizes else 0]
        values = np.frombuffer(b"".join(values), np.int8).tolist()
    try:
        return tensor_cell(kind, shape, values)
    except struct.error:
        raise Unreadable(f"it has a value that is too large for {kind}_TENSOR") from None


def read_files(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads files, whose paths are in the column ``path``.

    ``names`` are the features, ``tensors`` the kinds of those that are tensors, else "".
    """
    names, tensors = params["names"], params["tensors"]
    kinds = [type_name(kind) for kind in types]

    def read(path: str) -> tuple[int, list[list[Any]]]:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise Unreadable(f"{path} has more than 1 GiB: write its records to several files")
        columns: list[list[Any]] = [[] for _ in names]
        seen: dict[str, None] = {}
        found = records(path, data)
        for i, record in enumerate(found):
            try:
                features = read_example(record)
            except (ValueError, IndexError) as error:
                raise Unreadable(f"{path}: record {i} is no tf.train.Example: {error}") from None
            if len(seen) < len(features):
                seen.update(dict.fromkeys(features))
            for name, kind, tensor, column in zip(names, kinds, tensors, columns, strict=True):
                try:
                    column.append(_value(kind, tensor, features.get(name, _NONE)))
                except Unreadable as error:
                    raise Unreadable(
                        f"{path}: feature {name!r:.60} of record {i}: {error}"
                    ) from None
        missing = [name for name in names if found and name not in seen]
        if missing:
            near = difflib.get_close_matches(missing[0], seen, 1)
            known = ", ".join(near or list(seen)[:20])
            raise Unreadable(f"{path} has no feature {missing[0]!r:.60}; it has {known:.300}")
        return len(found), columns

    def run(batch: pa.RecordBatch) -> Expansion:
        rows: list[int] = []
        columns: list[list[Any]] = [[] for _ in names]
        for i, path in enumerate(batch.column("path").to_pylist()):
            count, values = read(path)
            rows += [i] * count
            for column, more in zip(columns, values, strict=True):
                column.extend(more)
        made = [
            _column(name, column, kind)
            for name, column, kind in zip(names, columns, types, strict=True)
        ]
        return Expansion(pa.array(rows, pa.int64()), made)

    return run


def _column(name: str, values: list[Any], kind: pa.DataType) -> pa.Array:
    if is_kind(kind, VECTOR):
        return Vectors.of_rows(values).to_arrow()
    if pa.types.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError) as error:
        raise Unreadable(f"feature {name!r:.60}: {error}") from None


def write(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows to a file; gives their number."""
    writers = [_feature_of(field) for field in schema]
    rows = 0
    for batch in batches:
        columns = [
            [None if v is None else write_one(v) for v in _cells(column)]
            for column, write_one in zip(batch.columns, writers, strict=True)
        ]
        file.write(
            framed(
                [
                    write_example(
                        {
                            name: value or _NONE
                            for name, value in zip(schema.names, row, strict=True)
                        }
                    )
                    for row in zip(*columns, strict=True)
                ]
            )
        )
        rows += batch.num_rows
    return rows


def _cells(column: pa.Array) -> Iterable[Any]:
    return Vectors.of(column).to_dense() if is_kind(column.type, VECTOR) else column.to_pylist()


def _feature_of(field: pa.Field) -> Callable[[Any], Feature]:
    """Give the function that makes a feature of a column's value."""
    kind = type_name(field.type)
    if is_kind(field.type, TENSOR):
        return lambda cell: _feature_of_tensor(field.name, cell)
    if kind == "VECTOR":
        return lambda vector: ("float", vector[2])
    if kind == "STRING":
        return lambda text: ("bytes", [text.encode()])
    if kind == "BOOLEAN":
        return lambda value: ("int64", [int(value)])
    if kind == "DECIMAL":
        return lambda value: ("float", [float(value)])
    return lambda value: (LIST_OF[kind], [value])


def _feature_of_tensor(name: str, cell: dict[str, Any]) -> Feature:
    kind, shape, values = cell_tensor(cell)
    if kind == "BYTE":
        data = np.array(values, np.int8).tobytes()
        if len(shape) == 1:
            return "bytes", [data]
        if len(shape) == 2:
            width = shape[1]
            return "bytes", [data[i * width : (i + 1) * width] for i in range(shape[0])]
        raise Unreadable(f"column {name!r:.60}: a BYTE tensor has 1 or 2 dimensions here")
    if kind == "STRING":
        return "bytes", [(value or "").encode() for value in values]
    return _TENSORS[kind], [int(v) for v in values] if _TENSORS[kind] == "int64" else values
