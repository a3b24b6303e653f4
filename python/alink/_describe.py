"""The expression behind `Table.describe`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

# DuckDB's time to plan an aggregate grows faster than the number of columns.
_COLUMNS_MAX = 100
# Beyond, the squares of DuckDB's standard deviation overflow, which is an error there.
_SQUARABLE_MAX = "1e150"

#: The statistics and their types, in the order of the result's columns.
STATISTICS = pa.schema(
    [
        ("column", pa.string()),
        ("type", pa.string()),
        ("count", pa.int64()),
        ("nulls", pa.int64()),
        ("distinct", pa.int64()),
        ("mean", pa.float64()),
        ("std", pa.float64()),
        ("min", pa.string()),
        ("q25", pa.float64()),
        ("median", pa.float64()),
        ("q75", pa.float64()),
        ("max", pa.string()),
    ]
)


def statistics(schema: pa.Schema) -> Iterator[str]:
    """Write SQL aggregates that give lists with a struct of statistics per column."""
    for start in range(0, len(schema), _COLUMNS_MAX):
        fields = (schema.field(i) for i in range(start, min(start + _COLUMNS_MAX, len(schema))))
        yield "[" + ", ".join(map(_of_column, fields)) + "]"


def _of_column(field: pa.Field) -> str:
    from alink._types import describe_type, type_string

    name = '"' + field.name.replace('"', '""') + '"'
    shown = describe_type(field.type)
    texts = {
        "column": _string(field.name),
        "type": _string(shown),
        "count": f"count({name})",
        "nulls": f"count(*) - count({name})",
        "distinct": f"approx_count_distinct({name})",
    }
    if _is_number(field.type):
        x = f"{name}::double"
        squarable = f"abs({x}) < {_SQUARABLE_MAX}"
        texts["mean"] = f"avg({x})"
        texts["std"] = (
            f"CASE WHEN bool_and({squarable})"
            f" THEN stddev_samp(CASE WHEN {squarable} THEN {x} END)"
            f" WHEN count({name}) > 0 THEN 'nan'::double END"
        )
        quartiles = f"approx_quantile({x}, [0.25, 0.5, 0.75])"
        for i, quantile in enumerate(("q25", "median", "q75"), start=1):
            texts[quantile] = f"{quartiles}[{i}]"
    if not pa.types.is_nested(field.type) and not pa.types.is_binary(field.type):
        texts["min"] = f"min({name})::varchar"
        texts["max"] = f"max({name})::varchar"
    parts = (
        f'"{statistic.name}" := '
        + (texts.get(statistic.name) or f"NULL::{type_string(statistic.type)}")
        for statistic in STATISTICS
    )
    return f"struct_pack({', '.join(parts)})"


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_number(arrow: pa.DataType) -> bool:
    return pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow)
