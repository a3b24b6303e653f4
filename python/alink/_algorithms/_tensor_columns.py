"""Columns of tensors of one shape as arrays of floats, read where they lie as far as may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string
from ._group import Group
from ._strings import Unreadable
from ._tensor_tasks import to_tensor
from ._tensors import FORMS
from ._types import TENSOR, is_kind

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


class Tensors:
    """The tensors of a training, of which any rows are read when they are asked for.

    Parameters
    ----------
    group : Group
    column : str
        Of tensors.

    Attributes
    ----------
    shape : tuple of int
        Of each of them.

    Raises
    ------
    Unreadable
        If one is NULL, they have different shapes, or are tensors of strings.
    """

    def __init__(self, group: Group, column: str) -> None:
        self._column = column
        self._parts: list[Array] = []
        self._starts: list[int] = []
        self.shape: tuple[int, ...] = ()
        for start, batch in group.numbered():
            cells = batch.column(column)
            if cells.null_count:
                raise Unreadable(f"the tensor {column!r} is NULL in a row of the training")
            values = _values(cells, column)
            if self._parts and values.shape[1:] != self.shape:
                raise _different(column, self.shape, values.shape[1:])
            self.shape = values.shape[1:]
            self._parts.append(values)
            self._starts.append(start)

    def take(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Give the tensors of rows, shape (rows, *shape)."""
        found = np.empty((len(rows), *self.shape), np.float32)
        places = np.searchsorted(self._starts, rows, side="right") - 1
        for place in np.unique(places):
            here = places == place
            found[here] = self._parts[place][rows[here] - self._starts[place]]
        if not np.isfinite(found).all():
            raise Unreadable(
                f"the tensors {self._column!r} have NaN or infinite values, or such as are beyond "
                "floats of 32 bits: fill or leave out the rows"
            )
        return found


def read_tensors(batch: pa.RecordBatch, column: str, shape: Sequence[int]) -> tuple[Floats, Flags]:
    """Give a column's tensors, which have the shape, and which of them are missing.

    The column may have tensors, vectors or numbers, or their texts. What is missing is 0.
    """
    cells = batch.column(column)
    if not is_kind(cells.type, TENSOR):
        params = {
            "selectedCol": column,
            "tensorShape": None,
            "tensorDataType": "FLOAT",
            "handleInvalidMethod": "ERROR",
        }
        cells = to_tensor(params, [TENSOR])(batch)[0]
    missing = numpy_of(cells.is_null())
    values = np.zeros((len(cells), *shape), np.float32)
    if not missing.all():
        found = _values(
            cells.filter(pc.invert(cells.is_null())) if missing.any() else cells, column
        )
        if found.shape[1:] != tuple(shape):
            raise Unreadable(
                f"a tensor in {column!r} has shape {list(found.shape[1:])}, the model takes "
                f"{list(shape)}"
            )
        values[~missing] = found
    return values, missing


def _values(cells: pa.StructArray, column: str) -> Array:
    """Give the values of tensors, shape (rows, *shape), where they lie if they have one type."""
    kinds = pc.unique(cells.field("type")).to_pylist()
    if "STRING" in kinds:
        raise Unreadable(f"column {column!r} has tensors of strings, not of numbers")
    shape = _shape(cells.field("shape"), column)
    if len(kinds) == 1:
        return _together(cells.field("data"), kinds[0], shape)
    found = np.empty((len(cells), *shape))
    for kind in kinds:
        here = pc.equal(cells.field("type"), string(kind))
        found[numpy_of(here)] = _together(cells.field("data").filter(here), kind, shape)
    return found


def _shape(shapes: pa.ListArray, column: str) -> tuple[int, ...]:
    lengths = numpy_of(pc.list_value_length(shapes))
    first = shapes[0].as_py()
    if (lengths == len(first)).all():
        sizes = numpy_of(shapes.flatten()).reshape(len(shapes), -1)
        other = np.flatnonzero((sizes != sizes[0]).any(axis=1))
    else:
        other = np.flatnonzero(lengths != len(first))
    if len(other):
        raise _different(column, first, shapes[int(other[0])].as_py())
    return tuple(first) or (1,)


def _different(column: str, one: Sequence[int], other: Sequence[int]) -> Unreadable:
    return Unreadable(
        f"the tensors {column!r} have different shapes, {list(one)} and {list(other)}: bring them "
        "to one, with ToTensor or TensorReshape"
    )


def _together(data: pa.BinaryArray, kind: str, shape: Sequence[int]) -> Array:
    form = np.dtype(f"<{FORMS[kind]}")
    data = data.cast(pa.binary())
    offsets, values = data.buffers()[1:]
    begin = int(np.frombuffer(offsets, np.int32, 1, 4 * data.offset)[0])
    count = len(data) * math.prod(shape)
    return np.frombuffer(values, form, count, begin).reshape(len(data), *shape)
