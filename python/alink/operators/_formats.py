"""Operators between formats of rows: columns, CSV, JSON, key-value text, vectors, triples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alink._algorithms._types import VECTOR
from alink._options import find_column
from alink._table import Table
from alink.operators._base import read_schema
from alink.operators._define import Mapper, mapper, one_of, operator
from alink.operators._dialect import quoted
from alink.operators._mapping import apply_step

_TEXT = pa.string()
_COLUMNS = ("selectedCols", "csvCol", "jsonCol", "kvCol", "vectorCol", "reservedCols")


def _outputs(to: str, params: Mapping[str, Any], name: str) -> Sequence[tuple[str, pa.DataType]]:
    if to == "Columns":
        return [(field.name, field.type) for field in read_schema(name, params["schemaStr"])]
    if to == "Triple":
        schema = read_schema(name, params["tripleColumnValueSchemaStr"])
        return [(field.name, field.type) for field in schema]
    return [(params[_COLUMN[to]], VECTOR if to == "Vector" else _TEXT)]


_HANDLING = ("ERROR", "SKIP")
_COLUMN = {"Csv": "csvCol", "Json": "jsonCol", "Kv": "kvCol", "Vector": "vectorCol"}
_WORDS = {
    "Columns": "columns",
    "Csv": "text of CSV",
    "Json": "an object of JSON",
    "Kv": "key-value text",
    "Vector": "a vector",
    "Triple": "triples of row, column and value",
}


def _declare(source: str, to: str) -> None:
    name = f"{source}To{to}"
    reads = [_COLUMN[source]] if source in _COLUMN else ["selectedCols"]

    def outputs(params: Mapping[str, Any], _schema: pa.Schema) -> Sequence[tuple[str, Any]]:
        one_of(name, "handleInvalid", params["handleInvalid"], _HANDLING)
        return _outputs(to, params, name)

    mapper(
        Mapper(
            name,
            "_formats.convert",
            outputs,
            columns=[*reads, "reservedCols"],
            settings={"from": source, "to": to},
            doc=f"Turn {_WORDS[source]} into {_WORDS[to]}.",
        )
    )


def _from_triples(to: str) -> None:
    def make(name: str, params: Mapping[str, Any], inputs: Sequence[Table]) -> Table:
        table = inputs[0]
        schema = table.schema
        column, value = (
            find_column(name, schema, params[key]) for key in ("tripleColumnCol", "tripleValueCol")
        )
        row = params["tripleRowCol"]
        kept = [] if row is None else [find_column(name, schema, row)]
        keys = "".join(f"{quoted(key)}, " for key in kept)
        gathered = table._context.sql(
            f"SELECT {keys}list({quoted(column)}) AS __names, list({quoted(value)}) AS __values "
            f"FROM a {f'GROUP BY {quoted(kept[0])}' if kept else ''}",
            tables={"a": table},
        )
        one_of(name, "handleInvalid", params["handleInvalid"], _HANDLING)
        settings = {**params, "from": "Triple", "to": to}
        return apply_step(
            gathered, name, "_formats.convert", settings, _outputs(to, params, name), kept
        )

    make.__doc__ = f"Turn {_WORDS['Triple']} into {_WORDS[to]}, a row for each row's name."
    operator(f"TripleTo{to}BatchOp", make)


def declare() -> None:
    """Declare the operators of this module."""
    formats = ("Columns", "Csv", "Json", "Kv", "Vector")
    for source in formats:
        for to in (*formats, "Triple"):
            if source != to:
                _declare(source, to)
    for to in formats:
        _from_triples(to)
