"""Tensors of texts, vectors and numbers, and vectors of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ._arrays import string
from ._strings import Unreadable, parse_vector
from ._tensors import FORMS, cell_tensor, check_tensor, parse_tensor, tensor_cell
from ._types import TENSOR, is_kind, is_number
from ._vectors import Vectors, read_vectors

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]
Run = Callable[[pa.RecordBatch], Sequence[pa.Array]]
_Parts = tuple[str, Sequence[int], Sequence[Any]]


def to_tensor(params: Params, types: Types) -> Run:
    """Read tensors, and give them the type ``tensorDataType`` and the shape ``tensorShape``."""
    column, shape = params["selectedCol"], params["tensorShape"]
    kind = params["tensorDataType"]
    kind = None if not kind else kind.upper()
    skip = params["handleInvalidMethod"].upper() == "SKIP"

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        array = batch.column(column)
        if pa.types.is_struct(array.type) and not is_kind(array.type, TENSOR):
            together = _of_vectors(read_vectors(batch, column), kind or "DOUBLE", shape)
            if together is not None:
                return [together]
        cells: list[dict[str, Any] | None] = []
        for value in _values(batch, column):
            try:
                cells.append(None if value is None else _cell(value, kind, shape))
            except Unreadable as error:
                if not skip:
                    raise Unreadable(f"column {column!r}: {error}") from None
                cells.append(None)
        return [pa.array(cells, types[0])]

    return run


def _of_vectors(vectors: Vectors, kind: str, shape: Sequence[int] | None) -> pa.Array | None:
    """Make tensors of vectors together; None where they are not all dense, of one size."""
    if (width := vectors.width) is None or kind not in ("DOUBLE", "FLOAT"):
        return None
    wanted = [width] if shape is None else _resolved(shape, width)
    if math.prod(wanted) != width:
        return None
    count = len(vectors)
    data = np.ascontiguousarray(vectors.values, "<f8" if kind == "DOUBLE" else "<f4")
    step = width * data.itemsize
    if count * step > 2**31 - 1:
        return None
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * step)
    buffers = [None, offsets.buffers()[1], pa.py_buffer(data)]
    shapes = pa.ListArray.from_arrays(
        pa.array(np.arange(count + 1, dtype=np.int32) * len(wanted)),
        pa.array(np.tile(np.array(wanted, np.int64), count)),
    )
    return pa.StructArray.from_arrays(
        [
            pa.repeat(string(kind), count),
            shapes,
            pa.BinaryArray.from_buffers(pa.binary(), count, buffers),
            pa.nulls(count, TENSOR.field("texts").type),
        ],
        fields=list(TENSOR),
    )


def _values(batch: pa.RecordBatch, column: str) -> list[Any]:
    """Give the values of a column: texts, or tensors as (type, shape, values)."""
    array = batch.column(column)
    if is_kind(array.type, TENSOR):
        return [None if cell is None else cell_tensor(cell) for cell in array.to_pylist()]
    if pa.types.is_struct(array.type) or is_number(array.type):
        return [
            None if vector is None else ("DOUBLE", [len(vector[2])], vector[2].tolist())
            for vector in read_vectors(batch, column).to_dense()
        ]
    return array.to_pylist()


def _cell(value: Any, kind: str | None, shape: Sequence[int] | None) -> dict[str, Any]:
    parts: _Parts = value if isinstance(value, tuple) else _parsed(value, kind)
    if kind is not None and parts[0] != kind:
        parts = (kind, parts[1], converted(parts, kind))
    if shape is not None:
        parts = reshaped(parts, shape)
    return tensor_cell(*parts)


def _parsed(text: str, kind: str | None) -> _Parts:
    """Read a tensor, or the text of a vector; another text is a tensor of one string."""
    if "#" in text and (kind != "STRING" or text.startswith("STRING#")):
        return parse_tensor(text)
    if kind != "STRING":
        try:
            size, indices, values = parse_vector(text)
        except Unreadable:
            if kind is not None:
                raise
        else:
            if indices is None:
                return "DOUBLE", [size], values
            row = Vectors.of_rows([(size, indices, values)]).to_dense()
            return "DOUBLE", [len(row.values)], row.values.tolist()
    return "STRING", [], [text]


def converted(parts: _Parts, kind: str) -> Sequence[Any]:
    """Give a tensor's values in another type; only what stays the same value is whole there."""
    source, _, values = parts
    if "STRING" in (source, kind):
        raise Unreadable(f"a tensor of {source} cannot be made one of {kind}")
    if kind in ("DOUBLE", "FLOAT"):
        return [float(value) for value in values]
    if kind == "BOOLEAN":
        raise Unreadable(f"a tensor of {source} cannot be made one of {kind}")
    info = np.iinfo(np.dtype(FORMS[kind]))
    for value in values:
        if not (info.min <= value <= info.max and value == int(value)):
            raise Unreadable(f"{value!r} is no element of a tensor of {kind}")
    return [int(value) for value in values]


def reshaped(parts: _Parts, shape: Sequence[int]) -> _Parts:
    """Give a tensor another shape; one size may be -1, which is what is left for it."""
    kind, _, values = parts
    wanted = _resolved(shape, len(values))
    check_tensor(kind, wanted, len(values))
    return kind, wanted, values


def _resolved(shape: Sequence[int], count: int) -> list[int]:
    rest = math.prod(size for size in shape if size != -1)
    if list(shape).count(-1) != 1 or rest == 0:
        return list(shape)
    return [count // rest if size == -1 else size for size in shape]


def reshape(params: Params, types: Types) -> Run:
    """Give tensors another shape."""
    column, shape = params["selectedCol"], params["size"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        try:
            cells = [
                None if value is None else _cell(value, None, shape)
                for value in _values(batch, column)
            ]
        except Unreadable as error:
            raise Unreadable(f"column {column!r}: {error}") from None
        return [pa.array(cells, types[0])]

    return run


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "SUM": np.sum,
    "MEAN": np.mean,
    "MAX": np.max,
    "MIN": np.min,
}


def to_vector(params: Params, _types: Types) -> Run:
    """Give the values of tensors, or what is left of them along the first dimension."""
    column = params["selectedCol"]
    reduce_ = _REDUCTIONS.get(params["convertMethod"].upper())

    def row(value: Any) -> tuple[int, None, list[float]] | None:
        if value is None:
            return None
        kind, shape, values = value if isinstance(value, tuple) else _parsed(value, None)
        if kind == "STRING":
            raise Unreadable(f"{values[:1]!r:.80}: a tensor of strings is no vector")
        numbers = np.array(values, np.float64)
        if reduce_ is not None and shape:
            if not len(numbers) and reduce_ in (np.max, np.min):
                raise Unreadable("a tensor without values has no extreme")
            numbers = np.atleast_1d(reduce_(numbers.reshape(shape), axis=0)).reshape(-1)
        return len(numbers), None, numbers.tolist()

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        try:
            return [Vectors.of_rows(map(row, _values(batch, column))).to_arrow()]
        except Unreadable as error:
            raise Unreadable(f"column {column!r}: {error}") from None

    return run
