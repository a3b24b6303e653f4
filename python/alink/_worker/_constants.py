"""Arguments that are the same for every row: they come once, with the function.

Among a call's columns each stands as a dictionary with one entry, which costs a byte a row and
can be cut, filtered and counted like any other column. The engine sends no dictionaries, so
nothing else looks like one.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types

from . import _values

if TYPE_CHECKING:
    from collections.abc import Mapping


class Constants:
    """The constant arguments of a call, by their places among all."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._values = [
            (constant["place"], _one(base64.b64decode(constant["value"])))
            for constant in spec.get("constants") or ()
        ]
        self._indices = pa.array([], pa.int8())

    def among(self, arrays: list[pa.Array], rows: int) -> list[pa.Array]:
        """Put the constants between columns, in their places."""
        for place, value in self._values:
            arrays.insert(place, self._column(value, rows))
        return arrays

    def _column(self, value: pa.Array, rows: int) -> pa.Array:
        if value.null_count:
            return pa.nulls(rows, value.type)
        if len(self._indices) < rows:
            self._indices = pa.Array.from_buffers(
                pa.int8(), rows, [None, pa.py_buffer(bytes(rows))]
            )
        return pa.DictionaryArray.from_arrays(self._indices.slice(0, rows), value)


def _one(stream: bytes) -> pa.Array:
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_next_batch().column(0)


def values_of(array: pa.Array) -> list[Any]:
    """Give a column's values as ``_values.to_values`` does, those of a constant too."""
    if types.is_dictionary(array.type):
        return _values.to_values(array.dictionary) * len(array)
    return _values.to_values(array)


def spread(array: pa.Array) -> pa.Array:
    """Give a column as functions of whole columns get it."""
    return array.dictionary_decode() if types.is_dictionary(array.type) else array
