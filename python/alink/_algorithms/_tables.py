"""Tables within cells: their string form, how a column has them, and what is done to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ._strings import Unreadable, parse_vector
from ._tensors import parse_tensor, tensor_cell
from ._types import MTABLE, TENSOR, VECTOR, BadSchema, format_schema, is_kind, parse_schema

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]


def parse_table(text: str) -> pa.Table:
    """Read a table, ``{"data":{"col":[…]},"schema":"col INT"}``.

    Raises
    ------
    Unreadable
        If the text is none.
    """
    try:
        value = json.loads(text)
        schema = parse_schema(value["schema"])
        data = value.get("data") or {}
        columns = [list(data.get(name) or []) for name in schema.names]
    except (ValueError, TypeError, KeyError, AttributeError, BadSchema) as error:
        raise Unreadable(f"{text!r:.80} is not a table of JSON: {error}") from None
    count = max(map(len, columns), default=0)
    if any(column and len(column) != count for column in columns):
        raise Unreadable(f"{text!r:.80} is not a table: its columns have several lengths")
    try:
        arrays = [
            _column(column or [None] * count, field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise Unreadable(f"{text!r:.80} is not a table: {error}") from None
    return pa.table(arrays, schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if is_kind(kind, VECTOR):
        return pa.array([None if v is None else vector_parts(v) for v in values], VECTOR)
    if is_kind(kind, TENSOR):
        cells = [None if v is None else tensor_cell(*parse_tensor(v)) for v in values]
        return pa.array(cells, TENSOR)
    if is_kind(kind, MTABLE):
        return pa.array([None if v is None else table_cell(parse_table(v)) for v in values], MTABLE)
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError):
        from ._casts import cast_column  # texts of times and the like

        return cast_column(
            pa.array([None if v is None else str(v) for v in values], pa.string()), kind
        )


def vector_parts(text: str) -> dict[str, Any]:
    """Give a vector's text as a column has it."""
    size, indices, values = parse_vector(text)
    return {"size": size, "indices": indices, "values": values}


def table_cell(table: pa.Table) -> dict[str, Any]:
    """Give a table as a column has it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {"schema": format_schema(table.schema), "rows": sink.getvalue().to_pybytes()}


def cell_table(cell: Mapping[str, Any]) -> pa.Table:
    """Read a table as a column has it."""
    return pa.ipc.open_stream(pa.py_buffer(cell["rows"])).read_all()


def to_table(params: Params, types: Types) -> Callable[[pa.RecordBatch], Sequence[pa.Array]]:
    """Read tables."""
    column = params["selectedCol"]
    skip = params["handleInvalidMethod"].upper() == "SKIP"

    def cell(value: Any) -> Any:
        try:
            return table_cell(parse_table(value)) if isinstance(value, str) else value
        except Unreadable as error:
            if skip:
                return None
            raise Unreadable(f"column {column!r}: {error}") from None

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [pa.array([cell(v) for v in batch.column(column).to_pylist()], types[0])]

    return run


def gather(params: Params, types: Types) -> Callable[[pa.RecordBatch], Sequence[pa.Array]]:
    """Make tables of lists of structs, without the structs' first field, a mark."""
    columns = params["columns"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [
            pa.array(_tables_of(batch.column(column)), kind)
            for column, kind in zip(columns, types, strict=True)
        ]

    return run


def _tables_of(lists: pa.ListArray) -> list[dict[str, Any] | None]:
    structs = lists.values
    names = [field.name for field in structs.type][1:]
    fields = structs.flatten()[1:]
    offsets = lists.offsets.to_pylist()
    cells: list[dict[str, Any] | None] = []
    for row, known in enumerate(lists.is_valid().to_pylist()):
        begin, end = offsets[row], offsets[row + 1]
        rows = [column.slice(begin, end - begin) for column in fields]
        cells.append(table_cell(pa.table(rows, names=names)) if known else None)
    return cells
