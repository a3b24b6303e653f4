"""Alink's aggregate ``mtable_agg``, which gathers the rows of a group as a table in a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from alink._algorithms._types import MTABLE
from alink._options import bad_option, find_column
from alink._table import Table
from alink.operators._dialect import quoted
from alink.operators._mapping import apply_step

#: The first field of what is gathered: it marks the columns that become tables.
MARK = "__mtable"

# What is copied as it is, texts and names in quotes; and a call with names of columns.
_CALL = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\bmtable_agg\s*\((?P<columns>(?:[^()\"]|\"(?:[^\"]|\"\")*\")*)\)",
    re.IGNORECASE,
)
_NAME = re.compile(r"\s*(?:\"(?P<quoted>(?:[^\"]|\"\")*)\"|(?P<plain>\w+))\s*")


def gather_rows(name: str, clause: str, schema: pa.Schema) -> str:
    """Write ``mtable_agg(a, b)`` in DuckDB's words: a list of structs."""

    def call(match: re.Match[str]) -> str:
        if match["columns"] is None:
            return match[0]
        columns = _columns(name, match["columns"], schema)
        fields = "".join(f", {quoted(column)} := {quoted(column)}" for column in columns)
        return f"list(struct_pack({MARK} := true{fields}))"

    return _CALL.sub(call, clause)


def _columns(name: str, text: str, schema: pa.Schema) -> Sequence[str]:
    columns: list[str] = []
    at = 0
    while at < len(text) or not columns:
        match = _NAME.match(text, at)
        if match is None or text[match.end() : match.end() + 1] not in ("", ","):
            raise bad_option(
                name, f"{name}: mtable_agg({text:.60}) does not name columns", "mtable_agg(a, b)"
            )
        found = match["plain"] or match["quoted"].replace('""', '"')
        columns.append(find_column(name, schema, found))
        at = match.end() + 1
    return columns


def gathered(name: str, table: Table) -> Table:
    """Make tables of the lists that `gather_rows` has written."""
    columns = [field.name for field in table.schema if _is_marked(field.type)]
    if not columns:
        return table
    outputs = [(column, MTABLE) for column in columns]
    return apply_step(table, name, "_tables.gather", {"columns": columns}, outputs, None)


def _is_marked(kind: pa.DataType) -> bool:
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    struct = kind.value_type
    return struct.num_fields > 0 and struct.field(0).name == MARK
