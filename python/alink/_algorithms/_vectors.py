"""Columns of vectors, dense and sparse, as arrays of numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string, valid_rows, validity
from ._strings import Unreadable, format_dense, format_sparse, parse_vector
from ._types import VECTOR, is_number

#: One vector: its size (-1: not known), its indices (None: dense) and its values.
Vector = tuple[int, "npt.NDArray[np.int32] | None", "npt.NDArray[np.float64]"]

_VALUES_MAX = 2**31 - 1  # of a column: Arrow's lists count in 32 bits


class Vectors:
    """A column of vectors.

    Attributes
    ----------
    offsets : array of int64, shape (rows + 1,)
        Where the values of each row begin.
    values : array of float64
    indices : array of int32 or None
        Of the same length as `values`; None where all vectors are dense. Those of a dense
        vector among sparse ones count from 0.
    sizes : array of int32, shape (rows,)
        -1 is a size that is not known.
    dense : array of bool, shape (rows,)
    valid : array of bool, shape (rows,), or None
        None where no row is NULL.
    """

    __slots__ = ("dense", "indices", "offsets", "sizes", "valid", "values")

    def __init__(
        self,
        offsets: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        indices: npt.NDArray[np.int32] | None,
        sizes: npt.NDArray[np.int32],
        dense: npt.NDArray[np.bool_],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.offsets = offsets
        self.values = values
        self.indices = indices
        self.sizes = sizes
        self.dense = dense
        self.valid = valid

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def of(cls, column: pa.Array) -> Vectors:
        """Read a column of vectors, or of their texts; a number is a dense vector of size 1.

        Raises
        ------
        Unreadable
            If a text is not a vector.
        """
        if pa.types.is_struct(column.type):
            return cls._of_structs(column)
        if is_number(column.type):
            values, valid = numbers(column)
            if valid is None:
                return cls.of_matrix(values[:, None])
            rows, count = np.flatnonzero(valid), len(column)
            ones, dense = np.ones(count, np.int64), np.ones(count, np.bool_)
            return cls.of_entries(rows, np.zeros_like(rows), values[rows], ones, dense, valid)
        if not len(column):
            return cls.of_rows([])
        together = _of_dense_texts(column) or _of_sparse_texts(column)
        if together is not None:
            return together
        return cls.of_rows(None if text is None else _parsed(text) for text in column.to_pylist())

    @classmethod
    def _of_structs(cls, column: pa.StructArray) -> Vectors:
        sizes, indices, values = column.flatten()
        dense = numpy_of(indices.is_null())
        offsets = numpy_of(values.offsets).astype(np.int64)
        flat = numpy_of(values.values)
        first = int(offsets[0]) if len(offsets) else 0
        flat, offsets = flat[first : int(offsets[-1])], offsets - first
        valid = None
        if column.null_count:
            valid = valid_rows(column)
        if valid is not None and (np.diff(offsets) * ~valid).any():
            # What stands in memory under a NULL is no value.
            return cls._of_structs(pa.array(column.to_pylist(), VECTOR))
        counts = numpy_of(sizes.fill_null(-1))
        if dense.all():
            return cls(offsets, flat, None, counts, dense, valid)
        if not dense.any():
            at = numpy_of(indices.flatten())
            return cls(offsets, flat, at, counts, dense, valid)
        # Dense vectors among sparse ones have no indices to be read.
        lengths = np.diff(offsets)
        together = np.arange(len(flat), dtype=np.int32)
        together -= np.repeat(offsets[:-1], lengths).astype(np.int32)
        together[np.repeat(~dense, lengths)] = numpy_of(indices.flatten())
        return cls(offsets, flat, together, counts, dense, valid)

    @classmethod
    def of_rows(
        cls, rows: Iterable[tuple[int, Sequence[int] | None, Sequence[float]] | None]
    ) -> Vectors:
        """Put vectors together: (size, indices or None, values) each, or None for NULL."""
        sizes: list[int] = []
        dense: list[bool] = []
        valid: list[bool] = []
        offsets = [0]
        indices: list[npt.NDArray[np.int32]] = []
        values: list[npt.NDArray[np.float64]] = []
        for row in rows:
            size, at, numbers = row if row is not None else (-1, None, ())
            numbers = np.asarray(numbers, np.float64)
            sizes.append(size)
            dense.append(at is None)
            valid.append(row is not None)
            offsets.append(offsets[-1] + len(numbers))
            values.append(numbers)
            indices.append(
                np.arange(len(numbers), dtype=np.int32) if at is None else np.asarray(at, np.int32)
            )
        flags = np.array(dense, np.bool_)
        return cls(
            np.array(offsets, np.int64),
            np.concatenate(values) if values else np.empty(0),
            None if flags.all() else np.concatenate(indices).astype(np.int32),
            np.array(sizes, np.int32),
            flags,
            None if all(valid) else np.array(valid, np.bool_),
        )

    @classmethod
    def of_matrix(
        cls, matrix: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_] | None = None
    ) -> Vectors:
        """Make dense vectors of the rows of a matrix, shape (rows, size)."""
        rows, size = matrix.shape
        offsets = np.arange(rows + 1, dtype=np.int64) * size
        values = np.ascontiguousarray(matrix, np.float64).reshape(-1)
        return cls(
            offsets, values, None, np.full(rows, size, np.int32), np.ones(rows, np.bool_), valid
        )

    @classmethod
    def of_entries(
        cls,
        rows: npt.NDArray[np.int64],
        indices: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
        sizes: npt.NDArray[Any],
        dense: npt.NDArray[np.bool_],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> Vectors:
        """Put vectors together of their values.

        Parameters
        ----------
        rows, indices, values : arrays of the same length
            By row, and by index within a row; none of a row that is NULL. A dense vector has
            0 where nothing is given.
        sizes, dense, valid : arrays of as many as there are vectors

        Raises
        ------
        Unreadable
            If the dense ones would have more values than a column can hold.
        """
        if valid is not None:
            dense, sizes = dense | ~valid, np.where(valid, sizes, 0)
        given = np.bincount(rows, minlength=len(sizes))
        lengths = np.where(dense, sizes, given).astype(np.int64)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        if offsets[-1] > _VALUES_MAX:
            raise Unreadable(f"vectors of size {int(lengths.max())} are too large to be dense")
        begins = np.cumsum(given) - given
        ranks = np.arange(len(rows)) - begins[rows]
        at = offsets[rows] + np.where(dense[rows], indices, ranks)
        flat = np.zeros(int(offsets[-1]))
        flat[at] = values
        together = None
        if not dense.all():
            together = (np.arange(len(flat)) - np.repeat(offsets[:-1], lengths)).astype(np.int32)
            together[at] = indices
        return cls(offsets, flat, together, sizes.astype(np.int32), dense, valid)

    def with_values(self, values: npt.NDArray[np.float64]) -> Vectors:
        """Give vectors of the same shapes with other values."""
        return Vectors(self.offsets, values, self.indices, self.sizes, self.dense, self.valid)

    @property
    def rows_of_values(self) -> npt.NDArray[np.int64]:
        """The row that each value belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many values each row has."""
        return np.diff(self.offsets)

    @property
    def indices_of_values(self) -> npt.NDArray[Any]:
        """The index that each value stands at."""
        if self.indices is not None:
            return self.indices
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def spans(self) -> npt.NDArray[np.int64]:
        """The size of each row, or one above its last index where the size is not known."""
        spans = self.sizes.astype(np.int64)
        if self.indices is not None and len(self.indices):
            last = np.maximum(self.offsets[1:] - 1, 0)
            spans = np.where(
                (spans < 0) & (self.lengths > 0), self.indices[last].astype(np.int64) + 1, spans
            )
        return np.maximum(spans, 0)

    @property
    def width(self) -> int | None:
        """The size that all rows have, where all are dense; else None."""
        lengths = self.lengths
        if not len(lengths) or self.valid is not None or self.indices is not None:
            return None
        return int(lengths[0]) if (lengths == lengths[0]).all() else None

    def to_dense(self) -> Vectors:
        """Give all vectors dense."""
        if self.indices is None:
            return self
        dense = np.ones(len(self), np.bool_)
        return Vectors.of_entries(
            self.rows_of_values, self.indices, self.values, self.spans, dense, self.valid
        )

    def to_sparse(self) -> Vectors:
        """Give all vectors sparse: of the dense ones the values that are not 0."""
        rows = self.rows_of_values
        kept = ~self.dense[rows] | (self.values != 0)
        dense = np.zeros(len(self), np.bool_)
        return Vectors.of_entries(
            rows[kept],
            self.indices_of_values[kept],
            self.values[kept],
            np.where(self.dense, self.lengths, self.sizes),
            dense,
            self.valid,
        )

    def refuse(self, wrong: npt.NDArray[np.bool_], why: str) -> None:
        """Raise `Unreadable` with the first of the rows that are wrong, if there is one."""
        if self.valid is not None:
            wrong = wrong & self.valid
        if not wrong.any():
            return
        row = int(np.flatnonzero(wrong)[0])
        begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
        at = None if self.dense[row] or self.indices is None else self.indices[begin:end]
        text = vector_text((int(self.sizes[row]), at, self.values[begin:end]))
        raise Unreadable(f"vector {text!r:.80} {why}")

    @property
    def known_size(self) -> int:
        """The largest size, or one above the largest index where sizes are not known."""
        size = int(self.sizes.max(initial=-1))
        if self.indices is not None and len(self.indices):
            size = max(size, int(self.indices.max()) + 1)
        return max(size, 0)

    def matrix(self, size: int | None = None) -> npt.NDArray[np.float64]:
        """Give a dense matrix, shape (rows, size); rows of NULL are 0.

        Parameters
        ----------
        size : int, optional
            By default `known_size`. A dense vector of another size is refused.

        Raises
        ------
        Unreadable
            If a vector does not fit.
        """
        width = self.known_size if size is None else size
        self.require_size(width)
        if self.indices is None and (self.lengths == width).all():
            return self.values.reshape(len(self), width)
        result = np.zeros((len(self), width))
        result[self.rows_of_values, self.indices_of_values] = self.values
        return result

    def columns(
        self, size: int, chosen: npt.NDArray[np.intp], absent: float
    ) -> npt.NDArray[np.float64]:
        """Give some columns of a dense matrix, in their order, shape (rows, len(chosen)).

        Rows of NULL, and what a sparse vector has not, are `absent`.

        Raises
        ------
        Unreadable
            If a vector does not fit.
        """
        self.require_size(size)
        if self.indices is None and (self.lengths == size).all():
            whole = self.values.reshape(len(self), size)
            return whole if len(chosen) == size else whole[:, chosen]
        columns = np.full(size, -1, np.intp)
        columns[chosen] = np.arange(len(chosen))
        at = columns[self.indices_of_values]
        kept = at >= 0
        result = np.full((len(self), len(chosen)), absent)
        result[self.rows_of_values[kept], at[kept]] = self.values[kept]
        return result

    def require_size(self, size: int) -> None:
        """Raise `Unreadable` where a vector does not fit a size."""
        wrong = self.dense & (self.lengths != size)
        if self.valid is not None:
            wrong &= self.valid
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise Unreadable(
                f"a vector of size {self.lengths[row]} stands where size {size} is expected"
            )
        if self.indices is not None and len(self.indices) and int(self.indices.max()) >= size:
            raise Unreadable(f"index {int(self.indices.max())} of a vector is beyond size {size}")

    def __iter__(self) -> Iterator[Vector | None]:
        for row in range(len(self)):
            if self.valid is not None and not self.valid[row]:
                yield None
                continue
            begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
            at = None
            if not self.dense[row]:
                assert self.indices is not None
                at = self.indices[begin:end]
            yield int(self.sizes[row]), at, self.values[begin:end]

    def to_arrow(self) -> pa.Array:
        """Give the column as Arrow has it."""
        offsets = pa.array(self.offsets, pa.int32())
        null = None if self.valid is None else pa.array(~self.valid)
        values = pa.ListArray.from_arrays(offsets, pa.array(self.values, pa.float64()))
        if self.indices is None:
            indices = pa.nulls(len(self), VECTOR.field("indices").type)
        else:
            lengths = np.diff(self.offsets)
            kept = np.repeat(~self.dense, lengths)
            starts = np.concatenate(([0], np.cumsum(np.where(self.dense, 0, lengths))))
            indices = pa.ListArray.from_arrays(
                pa.array(starts, pa.int32()),
                pa.array(self.indices[kept], pa.int32()),
                mask=pa.array(self.dense),
            )
        arrays = [pa.array(self.sizes, pa.int32()), indices, values]
        return pa.StructArray.from_arrays(arrays, fields=list(VECTOR), mask=null)

    def to_texts(self) -> list[str | None]:
        """Give the vectors' texts."""
        return [None if row is None else vector_text(row) for row in self]


def vector_text(vector: Vector) -> str:
    """Write a vector."""
    size, indices, values = vector
    if indices is None:
        return format_dense(values.tolist())
    return format_sparse(size, indices.tolist(), values.tolist())


def _parsed(text: str) -> tuple[int, Sequence[int] | None, Sequence[float]]:
    return parse_vector(text)


def read_vectors(batch: pa.RecordBatch, column: str) -> Vectors:
    """Read a column of a batch; what cannot be read is named with its column."""
    try:
        return Vectors.of(batch.column(column))
    except Unreadable as error:
        raise Unreadable(f"column {column!r}: {error}") from None


def numbers(
    column: pa.Array,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
    """Read a column of numbers or truths.

    Returns
    -------
    values, valid
        NULL is NaN among the values; `valid` is None where there is none.
    """
    values = numpy_of(pc.cast(column, pa.float64(), safe=False))
    valid = validity(column)
    return values, valid


def row_sums(
    values: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Add the values of each row."""
    return _reduced(np.add, values, offsets, 0.0)


def row_max(
    values: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64], nothing: float = 0.0
) -> npt.NDArray[np.float64]:
    """Give the largest value of each row; of a row without values `nothing`."""
    return _reduced(np.maximum, values, offsets, nothing)


def _reduced(
    ufunc: np.ufunc,
    values: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.int64],
    nothing: float,
) -> npt.NDArray[np.float64]:
    lengths = np.diff(offsets)
    result = np.full(len(lengths), nothing)
    filled = lengths > 0
    if filled.any():
        result[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return result


# --- texts of a column together: None where one of them needs to be looked at by itself ---


def _of_dense_texts(column: pa.Array) -> Vectors | None:
    if pc.any(pc.match_substring_regex(column, "[:$]")).as_py():
        return None
    pieces = _pieces(column)
    if pc.any(pc.equal(pieces.value_lengths(), pa.scalar(0, pa.int32()))).as_py():
        return None  # a blank text is a sparse vector
    values = _cast(pieces.flatten(), pa.float64())
    if values is None or not np.isfinite(values).all():
        return None
    lengths = numpy_of(pieces.value_lengths().fill_null(0))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return Vectors(
        offsets,
        values,
        None,
        lengths.astype(np.int32),
        np.ones(len(column), np.bool_),
        validity(column),
    )


def _of_sparse_texts(column: pa.Array) -> Vectors | None:
    parts = pc.extract_regex(column, r"^\s*(?:\$(?P<size>\d+)\$)?(?P<body>[^$]*)$")
    if parts.null_count != column.null_count:
        return None
    pieces = _pieces(parts.field("body"))
    pairs = pc.split_pattern(pieces.flatten(), ":")
    if not pc.all(pc.equal(pairs.value_lengths(), pa.scalar(2, pa.int32())), min_count=0).as_py():
        return None
    halves = pairs.flatten()
    flat = np.arange(len(halves) // 2) * 2
    indices = _cast(halves.take(pa.array(flat)), pa.int32())
    values = _cast(halves.take(pa.array(flat + 1)), pa.float64())
    digits = parts.field("size")
    known = pc.and_kleene(column.is_valid(), pc.not_equal(digits, string(""))).fill_null(False)
    sizes = _cast(pc.if_else(known, digits, string("-1")), pa.int32())
    if indices is None or values is None or sizes is None or not np.isfinite(values).all():
        return None
    lengths = numpy_of(pieces.value_lengths().fill_null(0))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    rows = np.repeat(np.arange(len(column)), lengths)
    falling = (np.diff(indices) <= 0) & (np.diff(rows) == 0)
    if falling.any() or (indices < 0).any():
        return None
    if ((sizes[rows] >= 0) & (indices >= sizes[rows])).any():
        return None
    dense = np.zeros(len(column), np.bool_)
    return Vectors(offsets, values, indices, sizes, dense, validity(column))


def _pieces(column: pa.Array) -> pa.ListArray:
    """Cut texts at blanks and commas; a blank text has no pieces."""
    clean = pc.utf8_trim_whitespace(pc.replace_substring(column, ",", " "))
    blank = pc.equal(clean, string(""))
    lists = pc.utf8_split_whitespace(clean)
    if not pc.any(blank).as_py():
        return lists
    empty = pa.array([[]], pa.list_(pa.string()))
    return pc.if_else(blank.fill_null(False), empty[0], lists)


def _cast(column: pa.Array, kind: pa.DataType) -> npt.NDArray[Any] | None:
    try:
        return numpy_of(pc.cast(column, kind))
    except pa.ArrowInvalid:
        return None
