"""Files that one worker writes: lines of text, LibSVM, .ak, TFRecords, sheets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from . import _ak, _sheets, _tfrecords
from ._arrays import string
from ._formats import texts_of
from ._strings import Unreadable, java_double
from ._types import parse_schema
from ._vectors import read_vectors

Write = Callable[[IO[bytes], Iterator[pa.RecordBatch]], int]


def writer(spec: Mapping[str, Any]) -> Callable[[Iterator[pa.RecordBatch]], int]:
    """Make the function that writes all batches; it gives the number of rows.

    The file appears under its name when it is whole: what a worker that died has written is
    begun anew.

    Parameters
    ----------
    spec : mapping
        ``format`` ("text", "libsvm", "ak", "tfrecord" or "xls"), ``path``, ``overwrite``, and the
        parameters of the format.
    """
    write = _WRITERS[spec["format"]](spec)
    path = Path(spec["path"])
    part = path.with_name(f".{path.name}.part")

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        if not spec["overwrite"]:
            refuse_existing(path)
        try:
            with part.open("wb") as file:
                rows = write(file, batches)
                file.flush()
                os.fsync(file.fileno())
            if spec["overwrite"]:
                part.replace(path)
            else:
                try:
                    os.link(part, path)  # unlike a rename, it does not replace
                except FileExistsError:
                    refuse_existing(path)
        finally:
            part.unlink(missing_ok=True)
        return rows

    return run


def refuse_existing(path: Path) -> None:
    """Refuse to replace what is there."""
    if path.exists():
        raise FileExistsError(f"{path} is there already; setOverwriteSink(True) replaces it")


def _text(_spec: Mapping[str, Any]) -> Write:
    """Write the only column, a row a line."""

    def write(file: IO[bytes], batches: Iterator[pa.RecordBatch]) -> int:
        rows = 0
        for batch in batches:
            column = batch.column(0)
            if not pa.types.is_string(column.type):
                column = pa.array(texts_of(column), pa.string())
            _write_lines(file, column)
            rows += batch.num_rows
        return rows

    return write


def _write_lines(file: IO[bytes], column: pa.Array) -> None:
    if len(column) == 0:
        return
    column = pc.fill_null(column, "")
    offsets = pa.array([0, len(column)], pa.int32())
    together = pc.binary_join(pa.ListArray.from_arrays(offsets, column), string("\n"))
    file.write(together[0].as_buffer())
    file.write(b"\n")


def _libsvm(spec: Mapping[str, Any]) -> Write:
    """Write lines ``label index:value …``; the first index is startIndex."""
    start = spec["startIndex"]

    def write(file: IO[bytes], batches: Iterator[pa.RecordBatch]) -> int:
        rows = 0
        for batch in batches:
            labels = texts_of(batch.column(spec["labelCol"]))
            lines: list[str] = []
            for label, vector in zip(labels, read_vectors(batch, spec["vectorCol"]), strict=True):
                if label is None or vector is None:
                    raise Unreadable("LibSVM has no way to write NULL: leave such rows out")
                _, indices, values = vector
                at = range(len(values)) if indices is None else indices.tolist()
                pairs = zip(at, values.tolist(), strict=True)
                lines.append(
                    " ".join([label, *(f"{i + start}:{java_double(v)}" for i, v in pairs)])
                )
            _write_lines(file, pa.array(lines, pa.string()))
            rows += batch.num_rows
        return rows

    return write


def _ak_file(spec: Mapping[str, Any]) -> Write:
    schema = parse_schema(spec["schemaStr"])
    return lambda file, batches: _ak.write(file, schema, batches)


def _tfrecord_file(spec: Mapping[str, Any]) -> Write:
    schema = parse_schema(spec["schemaStr"])
    return lambda file, batches: _tfrecords.write(file, schema, batches)


def _xls_file(_spec: Mapping[str, Any]) -> Write:
    return _sheets.write


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], Write]] = {
    "text": _text,
    "libsvm": _libsvm,
    "ak": _ak_file,
    "tfrecord": _tfrecord_file,
    "xls": _xls_file,
}


def texts(params: Mapping[str, Any], types: Any) -> Any:
    """Make the task that writes columns of vectors as text; ``columns`` names them."""
    del types

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        columns = [read_vectors(batch, name) for name in params["columns"]]
        return [pa.array(column.to_texts(), pa.string()) for column in columns]

    return run
