"""Distinct values of columns, as texts: counted and numbered by queries of the engine.

A column may have millions of them: the engine's groups take what memory there is and then its
spill folder, where a worker would have to hold them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import type_name
from alink._diag import quote
from alink._options import bad_option
from alink._table import Table
from alink.operators._define import one_of
from alink.operators._dialect import quoted
from alink.operators._mapping import apply_step

#: How values are numbered: by ``stringOrderType``, what they are sorted by. What is called
#: random is the order of the texts too: any order is as good, and this one is the same in each
#: run. Values that are as frequent are in the order of their texts.
ORDERS = {
    "RANDOM": "token",
    "FREQUENCY_ASC": "frequency, token",
    "FREQUENCY_DESC": "frequency DESC, token",
    "ALPHABET_ASC": "token",
    "ALPHABET_DESC": "token DESC",
}


#: Where a parameter of a threshold is not set.
_UNSET = -(2**31)


def order_of(name: str, params: Mapping[str, Any]) -> str:
    """Give what values are sorted by, of the parameter ``stringOrderType``."""
    return ORDERS[one_of(name, "stringOrderType", params["stringOrderType"], list(ORDERS))]


def literal(text: str) -> str:
    """Write a text in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def selected(name: str, params: Mapping[str, Any], parameter: str = "selectedCols") -> list[str]:
    """Give the columns of a parameter; there must be one, and each only once."""
    columns: list[str] = list(params[parameter] or [])
    if not columns:
        raise bad_option(name, f"{name}: '{parameter}' names no column")
    if len(set(columns)) < len(columns):
        twice = next(c for i, c in enumerate(columns) if c in columns[:i])
        raise bad_option(name, f"{name}: '{parameter}' names column {quote(twice)} twice")
    return columns


def thresholds_of(name: str, params: Mapping[str, Any], columns: Sequence[str]) -> list[int]:
    """Give, of each column, how often a value has to be there to have a number."""
    several = params["discreteThresholdsArray"]
    if several is None:
        one = params["discreteThresholds"]
        return [max(0, _UNSET if one is None else one)] * len(columns)
    if len(several) != len(columns):
        raise bad_option(
            name,
            f"{name}: 'discreteThresholdsArray' has {len(several)} numbers for "
            f"{len(columns)} columns",
        )
    return [max(0, threshold) for threshold in several]


def _is_plain(kind: pa.DataType) -> bool:
    """Tell whether the engine writes values of a type as Java does."""
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_date(kind)
    )


def with_texts(name: str, table: Table, columns: Sequence[str]) -> tuple[Table, list[str]]:
    """Give a table and, of each column, the expression of its values' texts.

    The texts are Java's. Those that the engine would write in another way, of real numbers and
    times, are columns that workers add.
    """
    schema = table.schema
    others = [c for c in dict.fromkeys(columns) if not _is_plain(schema.field(c).type)]
    added = {column: f"__text{i}" for i, column in enumerate(others)}
    if added:
        outputs = [(text, pa.string()) for text in added.values()]
        table = apply_step(table, name, "_tokens.texts", {"columns": others}, outputs, None)
    return table, [
        quoted(added[column]) if column in added else f"CAST({quoted(column)} AS VARCHAR)"
        for column in columns
    ]


def grouped(
    name: str, table: Table, columns: Sequence[str], measure: str, *, where: str = "true"
) -> Table:
    """Group the rows by each of some columns, in one pass over them.

    Parameters
    ----------
    name : str
        The operator's.
    table : Table
    columns : sequence of str
    measure : str
        What is computed of each group: ``"count(*) AS frequency"``.
    where : str
        The rows that count.

    Returns
    -------
    Table
        ``column_index``, the column's place among `columns`; ``token``, the value's text, which
        is NULL for NULL; and the measure's columns.
    """
    values = [f"__value{i}" for i in range(len(columns))]
    places = " ".join(f"WHEN grouping({value}) = 0 THEN {i}" for i, value in enumerate(values))
    picked = ", ".join(
        f"{quoted(column)} AS {value}" for column, value in zip(columns, values, strict=True)
    )
    groups = table._context.sql(
        f"""SELECT (CASE {places} END)::BIGINT AS column_index, {", ".join(values)}, {measure}
        FROM (SELECT *, {picked} FROM a WHERE {where})
        GROUP BY GROUPING SETS ({", ".join(f"({value})" for value in values)})""",
        tables={"a": table},
    )
    measures = ", ".join(map(quoted, groups.columns[1 + len(values) :]))
    groups, texts = with_texts(name, groups, values)
    tokens = " ".join(f"WHEN {i} THEN {text}" for i, text in enumerate(texts))
    return groups._context.sql(
        f"SELECT column_index, CASE column_index {tokens} END AS token, {measures} FROM a",
        tables={"a": groups},
    )


def counted(name: str, table: Table, columns: Sequence[str]) -> Table:
    """Count the values of columns: ``column_index``, ``token``, ``frequency``, without NULL."""
    groups = grouped(name, table, columns, "count(*) AS frequency")
    return groups._context.sql("SELECT * FROM a WHERE token IS NOT NULL", tables={"a": groups})


def numbered(groups: Table, order: str, table: Table, columns: Sequence[str], **meta: Any) -> Table:
    """Make a model of the values of columns, numbered by themselves in each.

    Its rows are ``column_index``, ``token``, ``token_index``; the one of -1 holds, as JSON, what
    the model says of itself: the columns and their types, and what `meta` has.

    Parameters
    ----------
    groups : Table
        Of `grouped`.
    order : str
        What they are sorted by.
    table : Table
        The rows that are counted.
    columns : sequence of str
    """
    about = about_columns(table, columns, **meta)
    return groups._context.sql(
        f"""SELECT -1::BIGINT AS column_index, {literal(about)} AS token,
            NULL::BIGINT AS token_index
        UNION ALL
        SELECT column_index, token,
            row_number() OVER (PARTITION BY column_index ORDER BY {order}) - 1
        FROM a""",
        tables={"a": groups},
    )


def about_columns(table: Table, columns: Sequence[str], **meta: Any) -> str:
    """Write what a model says of itself: each value is JSON within JSON, as Alink has it."""
    types = [type_name(table.schema.field(column).type) for column in columns]
    types = ["VARCHAR" if kind == "STRING" else kind for kind in types]
    given = {"selectedCols": list(columns), "selectedColTypes": types, **meta}
    return _json({name: _json(value) for name, value in given.items()})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
