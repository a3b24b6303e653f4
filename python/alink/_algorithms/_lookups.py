"""Looks up the values of rows in a table, and the vectors of the words of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, valid_rows
from ._encoders import split
from ._formats import text_column
from ._models import BadModel
from ._tokens import UNSEEN, Tokens
from ._vectors import Vectors

_Rows = npt.NDArray[np.int64]


class Lookup:
    """Gives what stands in the row of a table that has the same keys; NULL where none has.

    NULL is equal to nothing; of rows with the same keys the last one counts.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._names: list[str] = params["selectedCols"]
        self._of_table: tuple[list[str], list[str]] = params["keys"], params["values"]
        self._find: Any = None
        self._values: list[pa.Array] = []

    def load(self, table: pa.Table) -> None:
        """Take the table."""
        names, values = self._of_table
        keys = [_whole(table.column(name)) for name in names]
        self._values = [_whole(table.column(name)) for name in values]
        if len(keys) == 1 and pa.types.is_integer(keys[0].type):
            self._find = _Integers(keys[0])
        else:
            self._find = _Hashed(keys)

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the values."""
        rows = self._find([batch.column(name) for name in self._names])
        places = pa.array(rows, mask=rows == UNSEEN)
        return [
            values.take(places).cast(kind) if values.type != kind else values.take(places)
            for values, kind in zip(self._values, self._types, strict=True)
        ]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class _Integers:
    """Rows by one whole number, which needs no more than the numbers themselves in memory."""

    def __init__(self, keys: pa.Array) -> None:
        known = np.flatnonzero(valid_rows(keys))
        values = numpy_of(pc.cast(keys.drop_null(), pa.int64()))
        order = np.argsort(values, kind="stable")  # of equal ones the last one stays the last
        self._values = values[order]
        self._rows = known[order]

    def __call__(self, columns: Sequence[pa.Array]) -> _Rows:
        column = columns[0]
        if not pa.types.is_integer(column.type):
            wanted = pc.cast(column, pa.float64(), safe=False).fill_null(np.nan)
            given = numpy_of(wanted)
            whole = (np.floor(given) == given) & (np.abs(given) < 2.0**63)
            numbers = np.where(whole, given, 0).astype(np.int64)
        else:
            whole = valid_rows(column)
            numbers = numpy_of(pc.cast(column, pa.int64()).fill_null(0))
        if not len(self._values):
            return np.full(len(column), UNSEEN)
        at = np.maximum(np.searchsorted(self._values, numbers, "right") - 1, 0)
        return np.where(whole & (self._values[at] == numbers), self._rows[at], UNSEEN)


class _Hashed:
    """Rows by one or several values of any type."""

    def __init__(self, keys: Sequence[pa.Array]) -> None:
        self._rows: dict[Any, int] = {}
        lists = [key.to_pylist() for key in keys]
        if len(lists) == 1:
            self._rows = {key: i for i, key in enumerate(lists[0]) if key is not None}
        else:
            for i, key in enumerate(zip(*lists, strict=True)):
                if None not in key:
                    self._rows[key] = i

    def __call__(self, columns: Sequence[pa.Array]) -> _Rows:
        if len(columns) == 1:
            coded = columns[0].dictionary_encode()
            known = [self._rows.get(key, UNSEEN) for key in coded.dictionary.to_pylist()]
            rows = np.array([*known, UNSEEN], np.int64)
            return rows[numpy_of(coded.indices.fill_null(len(known)))]
        lists = [column.to_pylist() for column in columns]
        found = [self._rows.get(key, UNSEEN) for key in zip(*lists, strict=True)]
        return np.array(found, np.int64)


class AggLookup:
    """Gives, of the vectors of the words of texts, sums, means, extremes or all of them.

    The first column of the table has the words, the second one their vectors. Words that it
    does not have are left out; a text without any gives NULL.
    """

    def __init__(self, params: Mapping[str, Any], types: Sequence[pa.DataType]) -> None:
        #: Function, column, and how many vectors are put together, or None.
        self._calls: list[tuple[str, str, int | None]] = params["calls"]
        self._delimiter: str = params["delimiter"]
        self._tokens = Tokens([], [])
        self._vectors: npt.NDArray[np.float64] = np.empty((0, 0))

    def load(self, table: pa.Table) -> None:
        """Take the table."""
        if table.num_columns < 2:
            raise BadModel("a table of words and their vectors has two columns")
        table = table.combine_chunks()
        words = text_column(_whole(table.column(0)))
        vectors = Vectors.of(_whole(table.column(1)))
        valid = valid_rows(words)
        if vectors.valid is not None:
            valid = valid & vectors.valid
        self._vectors = vectors.matrix()
        rows = np.flatnonzero(valid)
        self._tokens = Tokens(words.take(pa.array(rows)).to_pylist(), rows.tolist())

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Give the vectors of each call."""
        found: dict[str, tuple[_Rows, _Rows]] = {}
        results: list[pa.Array] = []
        for function, name, count in self._calls:
            if name not in found:
                rows, parts = split(text_column(batch.column(name)), self._delimiter)
                numbers = self._tokens.find(parts)
                found[name] = rows[numbers != UNSEEN], numbers[numbers != UNSEEN]
            results.append(self._call(function, count, *found[name], batch.num_rows).to_arrow())
        return results

    def _call(
        self, function: str, count: int | None, rows: _Rows, numbers: _Rows, total: int
    ) -> Vectors:
        lengths = np.bincount(rows, minlength=total)
        some = lengths > 0
        width = self._vectors.shape[1]
        if function == "CONCAT" and count is None:
            sizes = lengths * width
            flat = self._vectors[numbers].reshape(-1)
            offsets = np.concatenate(([0], np.cumsum(sizes)))
            dense = np.ones(total, np.bool_)
            return Vectors(offsets, flat, None, sizes.astype(np.int32), dense, some)
        begins = (np.cumsum(lengths) - lengths)[some]
        result = np.zeros((total, width * (count or 1)))
        if function == "CONCAT":
            assert count is not None
            ranks = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            kept = ranks < count
            places = result.reshape(total, count, width)
            places[rows[kept], ranks[kept]] = self._vectors[numbers[kept]]
        elif len(rows):
            ufunc = {"MAX": np.maximum, "MIN": np.minimum}.get(function, np.add)
            result[some] = ufunc.reduceat(self._vectors[numbers], begins, axis=0)
            if function == "AVG":
                result[some] /= lengths[some][:, None]
        return _without(result, some)


def _without(matrix: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> Vectors:
    """Give the rows of a matrix as vectors, NULL where they are not valid."""
    if valid.all():
        return Vectors.of_matrix(matrix)
    lengths = np.where(valid, matrix.shape[1], 0)
    return Vectors(
        np.concatenate(([0], np.cumsum(lengths))),
        matrix[valid].reshape(-1),
        None,
        lengths.astype(np.int32),
        np.ones(len(matrix), np.bool_),
        valid,
    )
