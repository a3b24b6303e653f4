"""Files of rows in Alink's own format, .ak.

A zip archive of ``alink_meta.json``, which holds the schema, and ``data``: the letters ALK, then
for each row its length in 3 bytes (0xFFFFFF and 4 bytes more where that is too little) and the
row as Flink writes one: a bit for each field that is NULL, then the other fields, numbers with
their high bytes first. After the letters FLK lengths have 4 bytes. Vectors are written as text.
"""

from __future__ import annotations

import datetime
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from ._ak_meta import META, schema_of
from ._strings import Unreadable
from ._types import VECTOR, format_schema, is_kind
from ._vectors import Vectors

DATA = "data"
_SHORT = b"ALK"
_LONG = b"FLK"
_ROW_BYTES_MAX = 1 << 30
_BATCH_ROWS = 8192
_EPOCH = datetime.datetime(1970, 1, 1)

Encode = Callable[[Any, bytearray], None]
#: Reads a value of a row at a place; gives it and the place behind it.
Decode = Callable[[bytes, int], tuple[Any, int]]

_FORMS = {
    pa.int32(): ">i", pa.int64(): ">q", pa.int16(): ">h", pa.int8(): ">b",
    pa.float64(): ">d", pa.float32(): ">f", pa.bool_(): ">?",
}  # fmt: skip


def read(path: str) -> pa.RecordBatch:
    """Read the rows of a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            schema = schema_of(archive)
            with archive.open(DATA) as data:
                batches = list(_batches(data, schema))
    except (zipfile.BadZipFile, KeyError, struct.error, IndexError) as error:
        raise Unreadable(f"{path} is not an .ak file, or is cut off: {error}") from None
    whole = pa.Table.from_batches(batches, schema)
    return pa.RecordBatch.from_arrays([one_chunk(c) for c in whole.columns], schema=schema)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Give a column in one piece."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else joined.chunk(0)


def _batches(data: IO[bytes], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    decoders = [_decoder(field.type) for field in schema]
    mask_bytes = (len(decoders) + 7) // 8
    columns: list[list[Any]] = [[] for _ in decoders]
    for record in _records(data):
        at = mask_bytes
        for i, decode in enumerate(decoders):
            value = None
            if not record[i >> 3] & (0x80 >> (i & 7)):
                value, at = decode(record, at)
            columns[i].append(value)
        if len(columns[0]) == _BATCH_ROWS:
            yield _batch(columns, schema)
            columns = [[] for _ in decoders]
    yield _batch(columns, schema)


def _batch(columns: Sequence[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays: list[pa.Array] = []
    for values, field in zip(columns, schema, strict=True):
        if is_kind(field.type, VECTOR):
            arrays.append(Vectors.of(pa.array(values, pa.string())).to_arrow())
        else:
            arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _records(data: IO[bytes]) -> Iterator[bytes]:
    magic = data.read(3)
    if magic not in (_SHORT, _LONG):
        raise Unreadable(f"the rows of an .ak file begin with ALK or FLK, not {magic!r}")
    width = 3 if magic == _SHORT else 4
    while head := data.read(width):
        length = int.from_bytes(head, "big")
        if width == 3 and length == 0xFFFFFF:
            length = int.from_bytes(data.read(4), "big")
        record = data.read(length) if 0 < length <= _ROW_BYTES_MAX else b""
        if len(head) < width or len(record) < length:
            raise Unreadable("the rows of an .ak file end in the middle of one")
        yield record


def _decoder(kind: pa.DataType) -> Decode:
    if (form := _FORMS.get(kind)) is not None:
        unpack = struct.Struct(form)
        size = unpack.size
        return lambda record, at: (unpack.unpack_from(record, at)[0], at + size)
    if pa.types.is_string(kind) or is_kind(kind, VECTOR):
        return _decode_text
    if pa.types.is_timestamp(kind):
        return _decode_timestamp
    if pa.types.is_date(kind):
        return lambda record, at: (_date(struct.unpack_from(">q", record, at)[0]), at + 8)
    assert pa.types.is_binary(kind)  # others were refused
    return _decode_bytes


def _decode_text(record: bytes, at: int) -> tuple[str | None, int]:
    length, at = _decode_count(record, at)
    if length == 0:
        return None, at
    end = at + length - 1
    part = record[at:end]
    if len(part) == length - 1 and part.isascii():
        return part.decode("ascii"), end
    units = bytearray()
    for _ in range(length - 1):
        unit, at = _decode_count(record, at)
        units += unit.to_bytes(2, "little")
    return units.decode("utf-16-le", "surrogatepass"), at


def _decode_count(record: bytes, at: int) -> tuple[int, int]:
    """Read a number of which each byte holds 7 bits, the low ones first."""
    value = shift = 0
    while True:
        byte = record[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _decode_timestamp(record: bytes, at: int) -> tuple[datetime.datetime, int]:
    millis, nanos = struct.unpack_from(">qi", record, at)
    whole = millis // 1000 * 1_000_000 + nanos // 1000
    return _EPOCH + datetime.timedelta(microseconds=whole), at + 12


def _date(millis: int) -> datetime.date:
    return (_EPOCH + datetime.timedelta(milliseconds=millis)).date()


def _decode_bytes(record: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">i", record, at)
    end = at + 4 + length
    if not at + 4 <= end <= len(record):
        raise IndexError("a field is longer than its row")
    return record[at + 4 : end], end


# --- writing ---


def write(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows to a file; gives their number."""
    encoders = [_encoder(field.type) for field in schema]
    meta = {
        "fileFormat": "binary", "schemaStr": format_schema(schema), "numFiles": 1,
        "version": "v0.1",
    }  # fmt: skip
    rows = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(META, json.dumps(meta, ensure_ascii=False))
        with archive.open(DATA, "w", force_zip64=True) as data:
            data.write(_SHORT)
            for batch in batches:
                data.write(_encoded(batch, encoders))
                rows += batch.num_rows
    return rows


def _encoded(batch: pa.RecordBatch, encoders: Sequence[Encode]) -> bytes:
    columns = [
        Vectors.of(c).to_texts() if is_kind(c.type, VECTOR) else c.to_pylist()
        for c in batch.columns
    ]
    mask_bytes = (len(encoders) + 7) // 8
    out = bytearray()
    for values in zip(*columns, strict=True):
        record = bytearray(mask_bytes)
        for i, (value, encode) in enumerate(zip(values, encoders, strict=True)):
            if value is None:
                record[i >> 3] |= 0x80 >> (i & 7)
            else:
                encode(value, record)
        if len(record) < 0xFFFFFF:
            out += len(record).to_bytes(3, "big")
        else:
            out += b"\xff\xff\xff" + len(record).to_bytes(4, "big")
        out += record
    return bytes(out)


def _encoder(kind: pa.DataType) -> Encode:
    if (form := _FORMS.get(kind)) is not None:
        pack = struct.Struct(form).pack
        return lambda value, record: record.extend(pack(value))
    if pa.types.is_string(kind) or is_kind(kind, VECTOR):
        return _encode_text
    if pa.types.is_timestamp(kind):
        return _encode_timestamp
    if pa.types.is_date(kind):
        return lambda value, record: record.extend(
            struct.pack(">q", (value - _EPOCH.date()).days * 86_400_000)
        )
    assert pa.types.is_binary(kind)  # others were refused
    return lambda value, record: record.extend(struct.pack(">i", len(value)) + value)


def _encode_text(value: str, record: bytearray) -> None:
    if value.isascii():
        _encode_count(len(value) + 1, record)
        record += value.encode("ascii")
        return
    units = value.encode("utf-16-le")
    _encode_count(len(units) // 2 + 1, record)
    for i in range(0, len(units), 2):
        _encode_count(units[i] | units[i + 1] << 8, record)


def _encode_count(value: int, record: bytearray) -> None:
    while value >= 0x80:
        record.append(value & 0x7F | 0x80)
        value >>= 7
    record.append(value)


def _encode_timestamp(value: datetime.datetime, record: bytearray) -> None:
    micros = (value - _EPOCH) // datetime.timedelta(microseconds=1)
    record += struct.pack(">qi", micros // 1000, micros % 1_000_000 * 1000)
