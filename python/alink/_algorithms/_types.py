"""Alink's types of columns and the Arrow types that they travel as."""

from __future__ import annotations

import re

import pyarrow as pa

#: A vector: dense where it has no indices, sparse otherwise; size -1 is a size not known.
VECTOR = pa.struct(
    [("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)
#: A tensor: the name of its type, its shape, and its elements in row-major order, little-endian;
#: those of a tensor of strings are ``texts``.
TENSOR = pa.struct(
    [
        ("type", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("data", pa.binary()),
        ("texts", pa.list_(pa.string())),
    ]
)
#: A table within a cell: its schema as Alink writes it, and an Arrow stream of its rows.
MTABLE = pa.struct([("schema", pa.string()), ("rows", pa.binary())])

#: The name that a schema string is written with, of each Arrow type.
_NAMES: tuple[tuple[str, pa.DataType], ...] = (
    ("STRING", pa.string()),
    ("INT", pa.int32()),
    ("BIGINT", pa.int64()),
    ("DOUBLE", pa.float64()),
    ("FLOAT", pa.float32()),
    ("BOOLEAN", pa.bool_()),
    ("SMALLINT", pa.int16()),
    ("TINYINT", pa.int8()),
    ("TIMESTAMP", pa.timestamp("us")),
    ("DATE", pa.date32()),
    ("TIME", pa.time64("us")),
    ("DECIMAL", pa.decimal128(38, 18)),
    ("VARBINARY", pa.binary()),
    ("VECTOR", VECTOR),
    ("TENSOR", TENSOR),
    ("MTABLE", MTABLE),
)
_BY_NAME: dict[str, pa.DataType] = {
    **dict(_NAMES),
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "LONG": pa.int64(),
    "SHORT": pa.int16(),
    "BYTE": pa.int8(),
    "BIGDECIMAL": pa.decimal128(38, 18),
    "DENSE_VECTOR": VECTOR,
    "SPARSE_VECTOR": VECTOR,
    **{
        f"{kind}_TENSOR": TENSOR
        for kind in ("BOOL", "BOOLEAN", "BYTE", "UBYTE", "INT", "LONG", "FLOAT", "DOUBLE", "STRING")
    },
    "SQL_DATE": pa.date32(),
    "SQL_TIME": pa.time64("us"),
    "SQL_TIMESTAMP": pa.timestamp("us"),
}

#: The names that a type may be written with.
TYPE_NAMES = tuple(_BY_NAME)

_OLD_PREFIX = re.compile(r"^(?:VEC|TENSOR)_TYPES_(?=(?:\w+_)?(?:VECTOR|TENSOR)$)")
_FIELD = re.compile(r"\s*(`[^`]+`|\"[^\"]+\"|\S+)\s+([A-Za-z_]\w*)\s*(\([^)]*\))?\s*")


class BadSchema(ValueError):
    """A schema string is not one; the message names what is wrong with it."""


def parse_type(name: str) -> pa.DataType:
    """Read the name of a type; its case does not matter.

    Files of old versions of Alink have ``VEC_TYPES_VECTOR`` and ``TENSOR_TYPES_TENSOR``.
    """
    try:
        return _BY_NAME[_OLD_PREFIX.sub("", name.upper())]
    except KeyError:
        raise BadSchema(f"there is no type {name!r:.60}") from None


def parse_schema(text: str) -> pa.Schema:
    """Read a schema string, ``"id int, vec vector"``."""
    fields: list[pa.Field] = []
    for part in _split(text):
        match = _FIELD.fullmatch(part)
        if match is None:
            raise BadSchema(f"{part.strip()!r:.60} is not a name and a type")
        fields.append(pa.field(match[1].strip('`"'), parse_type(match[2])))
    if not fields:
        raise BadSchema("it has no columns")
    return pa.schema(fields)


def type_words(text: str) -> list[str]:
    """Give the names of the types of a schema string, as it has them."""
    return [match[2] for part in _split(text) if (match := _FIELD.fullmatch(part)) is not None]


def _split(text: str) -> list[str]:
    """Cut at the commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts if any(part.strip() for part in parts) else []


def type_name(arrow: pa.DataType) -> str:
    """Give the name that a schema string has for a type; of another one Arrow's own."""
    for name, known in _NAMES:
        if arrow.equals(known) or (pa.types.is_struct(known) and is_kind(arrow, known)):
            return name
    if pa.types.is_timestamp(arrow):
        return "TIMESTAMP"
    if pa.types.is_decimal(arrow):
        return "DECIMAL"
    if pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return "STRING"
    return str(arrow).upper()


def flink_name(arrow: pa.DataType) -> str:
    """Give the name that Flink has for a type: a text is VARCHAR."""
    name = type_name(arrow)
    return "VARCHAR" if name == "STRING" else name


def format_schema(schema: pa.Schema) -> str:
    """Write a schema string as Alink's files and cells have it, ``"id INT,name STRING"``."""
    return ",".join(f"{field.name} {type_name(field.type)}" for field in schema)


def shown_schema(schema: pa.Schema) -> str:
    """Write a schema string as PyAlink's ``getSchemaStr`` gives it, ``"id INT, name VARCHAR"``."""
    return ", ".join(f"{field.name} {flink_name(field.type)}" for field in schema)


def is_number(arrow: pa.DataType) -> bool:
    """Tell whether a column holds numbers."""
    return pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow)


def is_kind(arrow: pa.DataType, kind: pa.DataType) -> bool:
    """Tell whether a type is one of the structs above, whatever its lists call their items."""
    return pa.types.is_struct(arrow) and [f.name for f in arrow] == [f.name for f in kind]
