"""What an .ak file says of itself."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import pyarrow as pa

from ._strings import Unreadable
from ._types import VECTOR, is_kind, parse_schema, type_name

META = "alink_meta.json"
_PORTABLE = (
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(),
    pa.string(), pa.date32(), pa.binary(),
)  # fmt: skip


def read_schema(file: Any) -> pa.Schema:
    """Read the schema of a file, a path or an open one.

    Raises
    ------
    Unreadable
        If it is no .ak file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return schema_of(archive)
    except zipfile.BadZipFile:
        raise Unreadable(f"{file} is not an .ak file: it is no zip archive") from None


def schema_of(archive: zipfile.ZipFile) -> pa.Schema:
    """Read the schema of an open archive."""
    try:
        meta = json.loads(archive.read(META))
        schema = parse_schema(meta["schemaStr"])
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"{archive.filename} is not an .ak file: {META}: {error}") from None
    refuse_others(schema)
    return schema


def is_plain(kind: pa.DataType) -> bool:
    """Tell whether Flink's rows have values of a type in a form that does not hang on Java."""
    return any(kind == known for known in _PORTABLE) or pa.types.is_timestamp(kind)


def refuse_others(schema: pa.Schema) -> None:
    """Refuse columns of types that these files do not have in a portable form.

    Raises
    ------
    Unreadable
        For the first of them.
    """
    for field in schema:
        kind = field.type
        if not (is_plain(kind) or is_kind(kind, VECTOR)):
            raise Unreadable(
                f"column {field.name!r:.60}: {type_name(kind)} is not portable in .ak files"
            )
