"""What is behind `Table.describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from alink._types import describe_type, type_string

if TYPE_CHECKING:
    from alink._table import Table

# DuckDB's time to plan aggregates grows faster than their number. Of more columns the values
# are put below each other and aggregated by column: a plan as long as there are types of columns,
# while a value costs half as much again.
_COLUMNS_MAX = 32
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
# Those that a column without rows has too.
_COUNTS = ("count", "nulls", "distinct")


def describe(table: Table) -> Table:
    """Make a row of statistics of each column of a table that has some."""
    schema = table.schema
    if len(schema) > _COLUMNS_MAX:
        return table._context.sql(_by_column(schema), tables={"t": table})
    of_columns = ", ".join(_struct(field) for field in schema)
    return table.agg({"s": f"[{of_columns}]"}).unnest("s").unnest("s")


def _struct(field: pa.Field) -> str:
    values = {
        "column": _string(field.name),
        "type": _string(describe_type(field.type)),
        **_of_values(_quoted(field.name), field.type),
    }
    return "struct_pack(" + ", ".join(f'"{name}" := {sql}' for name, sql in values.items()) + ")"


def _by_column(schema: pa.Schema) -> str:
    """Write a query of the table t that aggregates the values of a type by the column's place."""
    places: dict[pa.DataType, list[int]] = {}
    for place, kind in enumerate(schema.types):
        places.setdefault(kind, []).append(place)
    of_types: list[str] = []
    for kind, columns in places.items():
        listed = ", ".join(_quoted(schema.names[place]) for place in columns)
        values = f"SELECT unnest({columns}) AS place, unnest([{listed}]) AS x FROM t"
        aggregated = ", ".join(f'{sql} AS "{name}"' for name, sql in _of_values("x", kind).items())
        of_types.append(f"SELECT place, {aggregated} FROM ({values}) GROUP BY place")
    names = ", ".join(map(_string, schema.names))
    kinds = ", ".join(_string(describe_type(kind)) for kind in schema.types)
    shown = ", ".join(
        f'coalesce("{name}", 0) AS "{name}"' if name in _COUNTS else f'"{name}"'
        for name in STATISTICS.names
    )
    return (
        f"SELECT {shown} FROM (SELECT unnest(range({len(schema)})) AS place, "
        f'unnest([{names}]) AS "column", unnest([{kinds}]) AS "type") '
        f"LEFT JOIN ({' UNION ALL '.join(of_types)}) USING (place) ORDER BY place"
    )


def _of_values(name: str, kind: pa.DataType) -> dict[str, str]:
    """Write the aggregates of a column of a type, but for its name and type."""
    texts = {
        "count": f"count({name})",
        "nulls": f"count(*) - count({name})",
        "distinct": f"approx_count_distinct({name})",
    }
    if _is_number(kind):
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
    if not pa.types.is_nested(kind) and not pa.types.is_binary(kind):
        texts["min"] = f"min({name})::varchar"
        texts["max"] = f"max({name})::varchar"
    return {
        statistic.name: texts.get(statistic.name) or f"NULL::{type_string(statistic.type)}"
        for statistic in list(STATISTICS)[2:]
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_number(arrow: pa.DataType) -> bool:
    return pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow)
