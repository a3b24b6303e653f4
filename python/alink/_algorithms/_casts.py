"""Values of columns in other types."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._chain import Expansion
from ._formats import parser, texts_of
from ._strings import Unreadable
from ._tables import cell_table, parse_table
from ._types import VECTOR, is_kind, is_number, type_name

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]


def cast_column(column: pa.Array, kind: pa.DataType, skip: bool = False) -> pa.Array:
    """Give a column's values in another type.

    A number loses what stands behind its point where it becomes a whole one; times are
    milliseconds since 1970 as numbers.

    Parameters
    ----------
    column : array
    kind : type
    skip : bool
        Whether a value that cannot be cast becomes NULL.

    Raises
    ------
    Unreadable
        If a value cannot be cast.
    """
    if column.type.equals(kind) or column.type.equals(pa.null()):
        return column.cast(kind)
    if pa.types.is_string(kind):
        return pa.array(_texts(column), kind)
    if is_kind(kind, VECTOR):
        from ._vectors import Vectors

        return Vectors.of(column).to_arrow()
    if pa.types.is_timestamp(column.type) and is_number(kind):
        column = pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64())
    if pa.types.is_boolean(column.type) and is_number(kind):
        column = pc.cast(column, pa.int8())
    if is_number(column.type):
        return _numbers(column, kind, skip)
    if pa.types.is_string(column.type):
        return _parsed(column, kind, skip)
    raise Unreadable(f"{type_name(column.type)} cannot be cast to {type_name(kind)}")


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_struct(column.type) and not is_kind(column.type, VECTOR):
        raise Unreadable(f"{type_name(column.type)} cannot be cast to STRING")
    return texts_of(column)


def _numbers(column: pa.Array, kind: pa.DataType, skip: bool) -> pa.Array:
    if pa.types.is_boolean(kind):
        return pc.not_equal(column, pa.scalar(0, column.type))
    if pa.types.is_timestamp(kind):
        return pc.cast(pc.cast(column, pa.int64(), safe=False), pa.timestamp("ms")).cast(kind)
    if not pa.types.is_integer(kind):
        return _tried(lambda: pc.cast(column, kind, safe=False), column, kind)
    if not pa.types.is_integer(column.type):
        values = pc.cast(column, pa.float64(), safe=False)
        limit = 2.0 ** (kind.bit_width - 1)
        column = pc.trunc(values)
        fits = _between(column, -limit, math.nextafter(limit, 0))
    else:
        most = 2 ** (kind.bit_width - 1) - 1
        whole = pc.cast(column, pa.int64())
        fits = _between(whole, -most - 1, most)
        values = column
    if not pc.all(fits, min_count=0).as_py():
        if not skip:
            wrong = values.filter(pc.invert(fits))[0].as_py()
            raise Unreadable(f"{wrong!r} cannot be cast to {type_name(kind)}")
        column = pc.if_else(fits, column, pa.scalar(None, column.type))
    return pc.cast(column, kind, safe=False)


def _between(column: pa.Array, least: float, most: float) -> pa.Array:
    least, most = (pa.scalar(value, column.type) for value in (least, most))
    return pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))


def _tried(cast: Callable[[], pa.Array], column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return cast()
    except pa.ArrowException as error:
        raise Unreadable(
            f"{type_name(column.type)} cannot be cast to {type_name(kind)}: {error}"
        ) from None


def _parsed(column: pa.Array, kind: pa.DataType, skip: bool) -> pa.Array:
    parse = parser(kind)

    def value(text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except (Unreadable, pa.ArrowException, ValueError, OverflowError):
            if skip:
                return None
            raise Unreadable(f"{text!r:.80} cannot be cast to {type_name(kind)}") from None

    values = [value(text) for text in column.to_pylist()]
    if pa.types.is_integer(kind):
        whole = pa.array(values, pa.int64()) if _small(values) else None
        if whole is None:
            raise Unreadable(f"a whole number of 64 bits is too small for {max(values, key=_size)}")
        return _numbers(whole, kind, skip)
    return pa.array(values, kind)


def _size(value: int | None) -> int:
    return abs(value or 0)


def _small(values: Sequence[int | None]) -> bool:
    return all(value is None or -(2**63) <= value < 2**63 for value in values)


def convert_types(params: Params, types: Types) -> Any:
    """Give columns in another type."""
    columns = params["selectedCols"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [
            _named(name, lambda name=name, kind=kind: cast_column(batch.column(name), kind))
            for name, kind in zip(columns, types, strict=True)
        ]

    return run


def _named(column: str, cast: Callable[[], pa.Array]) -> pa.Array:
    try:
        return cast()
    except Unreadable as error:
        raise Unreadable(f"column {column!r}: {error}") from None


def flatten_table(params: Params, types: Types) -> Any:
    """Give a row for each row of the tables in a column; for NULL one of NULLs."""
    column, names = params["selectedCol"], params["names"]
    skip = params["handleInvalidMethod"].upper() == "SKIP"

    def columns_of(value: Any) -> tuple[int, list[pa.Array]]:
        if value is None:
            return 1, [pa.nulls(1, kind) for kind in types]
        table = parse_table(value) if isinstance(value, str) else cell_table(value)
        found = {name.lower(): name for name in table.schema.names}
        arrays: list[pa.Array] = []
        for name, kind in zip(names, types, strict=True):
            own = found.get(name.lower())
            if own is None and not skip:
                raise Unreadable(
                    f"a table has no column {name!r}, but {', '.join(table.schema.names)}"
                )
            if own is None:
                arrays.append(pa.nulls(table.num_rows, kind))
                continue
            values = table.column(own).combine_chunks()
            arrays.append(_named(name, lambda v=values, k=kind: cast_column(v, k, skip)))
        return table.num_rows, arrays

    def run(batch: pa.RecordBatch) -> Expansion:
        counts: list[int] = []
        parts: list[list[pa.Array]] = []
        for value in batch.column(column).to_pylist():
            try:
                count, arrays = columns_of(value)
            except Unreadable as error:
                raise Unreadable(f"column {column!r}: {error}") from None
            counts.append(count)
            parts.append(arrays)
        rows = np.repeat(np.arange(len(counts)), np.array(counts, np.int64))
        return Expansion(
            pa.array(rows, pa.int64()),
            [
                pa.concat_arrays([part[i] for part in parts]) if parts else pa.array([], kind)
                for i, kind in enumerate(types)
            ],
        )

    return run
