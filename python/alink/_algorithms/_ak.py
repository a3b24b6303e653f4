"""Files of rows in Alink's own format, .ak.

A zip archive of ``alink_meta.json``, which holds the schema, and ``data``: the letters ALK, then
for each row its length in 3 bytes (0xFFFFFF and 4 bytes more where that is too little) and the
row as Flink writes one (see `_flink_rows`). After the letters FLK lengths have 4 bytes.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa

from ._ak_meta import META, schema_of
from ._flink_rows import FlinkRows, Misfit
from ._strings import Unreadable
from ._types import format_schema

DATA = "data"
_SHORT = b"ALK"
_LONG = b"FLK"
_ROW_BYTES_MAX = 1 << 30
_BATCH_ROWS = 8192


def read(path: str) -> pa.RecordBatch:
    """Read the rows of a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            schema = schema_of(archive)
            with archive.open(DATA) as data:
                batches = list(_batches(data, schema))
    except (zipfile.BadZipFile, KeyError, Misfit) as error:
        raise Unreadable(f"{path} is not an .ak file, or is cut off: {error}") from None
    whole = pa.Table.from_batches(batches, schema)
    return pa.RecordBatch.from_arrays([one_chunk(c) for c in whole.columns], schema=schema)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Give a column in one piece."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else joined.chunk(0)


def _batches(data: IO[bytes], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = FlinkRows(schema)
    records = _records(data)
    while some := list(itertools.islice(records, _BATCH_ROWS)):
        yield rows.decoded(some)


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


def write(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows to a file; gives their number."""
    rows = FlinkRows(schema)
    meta = {
        "fileFormat": "binary", "schemaStr": format_schema(schema), "numFiles": 1,
        "version": "v0.1",
    }  # fmt: skip
    count = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(META, json.dumps(meta, ensure_ascii=False))
        with archive.open(DATA, "w", force_zip64=True) as data:
            data.write(_SHORT)
            for batch in batches:
                data.write(b"".join(map(_measured, rows.encoded(batch.columns))))
                count += batch.num_rows
    return count


def _measured(record: bytes) -> bytes:
    """Give a row with its length before it."""
    if len(record) < 0xFFFFFF:
        return len(record).to_bytes(3, "big") + record
    return b"\xff\xff\xff" + len(record).to_bytes(4, "big") + record
