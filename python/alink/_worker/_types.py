"""Names of Arrow types as users write them, and which types are akin."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types

# Of the engine's type names (engine/plan/types.go) those that differ from Arrow's.
_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "utinyint",
    pa.uint16(): "usmallint",
    pa.uint32(): "uinteger",
    pa.uint64(): "ubigint",
    pa.date32(): "date",
    pa.time64("us"): "time",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("s"): "timestamp_s",
    pa.timestamp("ms"): "timestamp_ms",
    pa.timestamp("ns"): "timestamp_ns",
    pa.month_day_nano_interval(): "interval",
}


def name_of(type_: pa.DataType) -> str:
    """Give a type's name as the engine prints it."""
    if type_ in _NAMES:
        return _NAMES[type_]
    if types.is_timestamp(type_):
        return "timestamptz"
    if types.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if is_list(type_):
        return f"list<{name_of(type_.value_type)}>"
    if types.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return "struct<" + ", ".join(f"{f.name}: {name_of(f.type)}" for f in fields) + ">"
    if types.is_map(type_):
        return f"map<{name_of(type_.key_type)}, {name_of(type_.item_type)}>"
    return str(type_)


def is_number(type_: pa.DataType) -> bool:
    """Tell whether values are integers or floats, half floats left out."""
    return types.is_integer(type_) or types.is_float32(type_) or types.is_float64(type_)


def is_list(type_: pa.DataType) -> bool:
    """Tell whether values are lists: of any length or of a fixed one."""
    return types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)


def is_text(type_: pa.DataType) -> bool:
    """Tell whether values are strings."""
    return types.is_string(type_) or types.is_large_string(type_) or _is_view(type_, "string")


def is_bytes(type_: pa.DataType) -> bool:
    """Tell whether values are byte strings."""
    return (
        types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
        or _is_view(type_, "binary")
    )


def _is_view(type_: pa.DataType, of: str) -> bool:
    check = getattr(types, f"is_{of}_view", None)  # since pyarrow 16
    return check is not None and check(type_)


def scale_of(unit: str) -> int:
    """Give how many of a time unit make a second."""
    return {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
