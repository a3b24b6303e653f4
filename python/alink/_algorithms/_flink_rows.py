"""Rows as Flink writes them, which Alink keeps in files and in stores of keys and values.

A bit for each field that is NULL, the first one the highest of its byte, then the other fields:
numbers with their high bytes first, texts as the number of their UTF-16 units plus 1 and these
units, each of them a count of which a byte holds 7 bits, the low ones first. Vectors are their
texts.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from ._strings import Unreadable
from ._types import VECTOR, is_kind
from ._vectors import Vectors

_EPOCH = datetime.datetime(1970, 1, 1)

_Encode = Callable[[Any, bytearray], None]
#: Reads a value of a row at a place; gives it and the place behind it.
_Decode = Callable[[bytes, int], tuple[Any, int]]

_FORMS = {
    pa.int32(): ">i", pa.int64(): ">q", pa.int16(): ">h", pa.int8(): ">b",
    pa.float64(): ">d", pa.float32(): ">f", pa.bool_(): ">?",
}  # fmt: skip


class Misfit(Unreadable):
    """The bytes of a row are not those of its types; ``at`` is the row's number."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(why)
        self.at = at


class FlinkRows:
    """Rows of a schema, of types that `_ak_meta.refuse_others` lets pass."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._encoders = [_encoder(kind) for kind in schema.types]
        self._decoders = [_decoder(kind) for kind in schema.types]
        self._mask_bytes = (len(schema) + 7) // 8

    def encoded(self, columns: Sequence[pa.Array]) -> Iterator[bytes]:
        """Give the bytes of each row of some columns."""
        values = [
            Vectors.of(c).to_texts() if is_kind(c.type, VECTOR) else c.to_pylist() for c in columns
        ]
        for row in zip(*values, strict=True):
            record = bytearray(self._mask_bytes)
            for i, (value, encode) in enumerate(zip(row, self._encoders, strict=True)):
                if value is None:
                    record[i >> 3] |= 0x80 >> (i & 7)
                else:
                    encode(value, record)
            yield bytes(record)

    def decoded(self, records: Iterable[bytes]) -> pa.RecordBatch:
        """Give rows of their bytes.

        Raises
        ------
        Misfit
            If the bytes of one are not those of a row of the schema.
        """
        columns: list[list[Any]] = [[] for _ in self._decoders]
        for number, record in enumerate(records):
            try:
                self._decode(record, columns)
            except (struct.error, IndexError):
                raise Misfit(number, "a field is longer than its row") from None
            except (ValueError, OverflowError) as error:
                raise Misfit(number, str(error)) from None
        arrays: list[pa.Array] = []
        for values, field in zip(columns, self._schema, strict=True):
            if is_kind(field.type, VECTOR):
                arrays.append(Vectors.of(pa.array(values, pa.string())).to_arrow())
            else:
                arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _decode(self, record: bytes, columns: Sequence[list[Any]]) -> None:
        at = self._mask_bytes
        for i, decode in enumerate(self._decoders):
            value = None
            if not record[i >> 3] & (0x80 >> (i & 7)):
                value, at = decode(record, at)
            columns[i].append(value)
        if at != len(record):
            raise ValueError(f"its fields end after {at} of {len(record)} bytes")


# --- reading ---


def _decoder(kind: pa.DataType) -> _Decode:
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
    return units.decode("utf-16-le"), at


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
        raise IndexError
    return record[at + 4 : end], end


# --- writing ---


def _encoder(kind: pa.DataType) -> _Encode:
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
