"""Features of columns: thresholds, buckets, cosine transforms and hashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._arrays import numpy_of, string, valid_rows
from ._formats import texts_of
from ._hash import hashes
from ._strings import Unreadable, cut_points
from ._types import is_number
from ._vectors import Vectors, numbers, read_vectors

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]
Run = Callable[[pa.RecordBatch], Sequence[pa.Array]]
_Floats = npt.NDArray[np.float64]


def binarize(params: Params, types: Types) -> Run:
    """Make 1 of what is above ``threshold`` and 0 of the rest."""
    name, threshold = params["selectedCol"], params["threshold"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        column = batch.column(name)
        if is_number(column.type):
            numbers = pc.cast(column, pa.float64(), safe=False)
            above = pc.greater(numbers, pa.scalar(float(threshold), pa.float64()))
            return [pc.cast(pc.cast(above, pa.int8()), types[0])]
        vectors = read_vectors(batch, name)
        if threshold < 0:
            vectors = vectors.to_dense()  # what a sparse vector does not name is 0, and above
        above = vectors.values > threshold
        rows = vectors.rows_of_values
        kept = above | vectors.dense[rows]
        result = Vectors.of_entries(
            rows[kept],
            vectors.indices_of_values[kept],
            above[kept].astype(np.float64),
            vectors.sizes,
            vectors.dense,
            vectors.valid,
        )
        return [result.to_arrow()]

    return run


def bucketize(params: Params, types: Types) -> Run:
    """Give the number of the bucket that each number is in, or vectors with a 1 there."""
    cuts = [np.sort(np.array(points, np.float64)) for points in cut_points(params) or ()]
    names, side = params["selectedCols"], "left" if params["leftOpen"] else "right"
    encoding = Encoding(params, [len(points) + 2 for points in cuts])

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        columns: list[npt.NDArray[np.int64]] = []
        for name, points in zip(names, cuts, strict=True):
            values, _ = numbers(batch.column(name))
            missing = np.isnan(values)
            if missing.any() and encoding.refuses:
                raise Unreadable(f"column {name!r} has a value that is in no bucket: NULL or NaN")
            buckets = np.searchsorted(points, values, side)
            columns.append(np.where(missing, len(points) + 1, buckets))
        return encoding(columns, [len(points) - 1 for points in cuts], types)

    return run


class Encoding:
    """Writes numbers of categories as they are, as vectors, or as one vector together.

    Parameters
    ----------
    params : mapping
        ``encode``, ``handleInvalid`` and ``dropLast``.
    sizes : sequence of int
        How many categories each column has; the last one is of what is invalid.
    narrow : bool, default False
        Whether vectors have no place for what is invalid, unless ``handleInvalid`` is KEEP.
    """

    def __init__(self, params: Params, sizes: Sequence[int], narrow: bool = False) -> None:
        self.encode = params["encode"].upper()
        self.invalid = params["handleInvalid"].upper()
        self.drop = params["dropLast"]
        self.sizes = sizes
        self.narrow = narrow and self.invalid != "KEEP"

    @property
    def refuses(self) -> bool:
        """Whether what is invalid fails the job."""
        return self.invalid == "ERROR"

    def __call__(
        self, columns: Sequence[npt.NDArray[np.int64]], dropped: Sequence[int], types: Types
    ) -> list[pa.Array]:
        """Write columns.

        Parameters
        ----------
        columns : sequence of arrays
            The categories of each column; one below the column's size is of what is invalid.
        dropped : sequence of int
            The category of each column that ``dropLast`` leaves out of vectors.
        types : sequence of types
        """
        skipped = [
            (column == size - 1) & (self.invalid == "SKIP")
            for column, size in zip(columns, self.sizes, strict=True)
        ]
        if self.encode == "INDEX":
            return [
                pa.array(column, kind, mask=mask)
                for column, mask, kind in zip(columns, skipped, types, strict=True)
            ]
        parts = [
            self._vectors(column, size, drop, mask)
            for column, size, drop, mask in zip(columns, self.sizes, dropped, skipped, strict=True)
        ]
        if self.encode == "VECTOR":
            return [part.to_arrow() for part in parts]
        return [join_sparse(parts).to_arrow()]

    def _vectors(
        self, column: npt.NDArray[np.int64], size: int, drop: int, skipped: npt.NDArray[np.bool_]
    ) -> Vectors:
        if self.drop and drop >= 0:
            shown = ~skipped & (column != drop)
            index, size = column - (column > drop), size - 1
        else:
            shown, index = ~skipped, column
        size -= self.narrow
        return sparse_ones(index, shown, size, ~skipped if skipped.any() else None)


def sparse_ones(
    index: npt.NDArray[Any],
    shown: npt.NDArray[np.bool_],
    size: int,
    valid: npt.NDArray[np.bool_] | None = None,
) -> Vectors:
    """Give sparse vectors with a 1 at an index each, where `shown` says so."""
    rows = np.flatnonzero(shown)
    count = len(shown)
    return Vectors.of_entries(
        rows,
        index[rows],
        np.ones(len(rows)),
        np.full(count, size),
        np.zeros(count, np.bool_),
        valid,
    )


def join_sparse(parts: Sequence[Vectors]) -> Vectors:
    """Put sparse vectors one behind the other; NULL where one of them is."""
    valid = None
    start = 0
    rows: list[npt.NDArray[np.int64]] = []
    indices: list[npt.NDArray[np.int64]] = []
    for part in parts:
        if part.valid is not None:
            valid = part.valid if valid is None else valid & part.valid
        rows.append(part.rows_of_values)
        indices.append(part.indices_of_values.astype(np.int64) + start)
        start += int(part.sizes.max(initial=0))
    row, index = np.concatenate(rows), np.concatenate(indices)
    values = np.concatenate([part.values for part in parts])
    if valid is not None:
        kept = valid[row]
        row, index, values = row[kept], index[kept], values[kept]
    by = np.argsort(row, kind="stable")
    count = len(parts[0])
    return Vectors.of_entries(
        row[by], index[by], values[by], np.full(count, start), np.zeros(count, np.bool_), valid
    )


# --- cosine transform ---


def cosine_transform(params: Params, types: Types) -> Run:
    """Give the discrete cosine transform (type II, orthonormal) of vectors, or its inverse."""
    name, inverse = params["selectedCol"], params["inverse"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        vectors = read_vectors(batch, name).to_dense()
        values = vectors.values.copy()
        lengths = vectors.lengths
        for length in np.unique(lengths[lengths > 0]).tolist():
            group = np.flatnonzero(lengths == length)
            places = vectors.offsets[group][:, None] + np.arange(length)
            change = _inverse_cosines if inverse else _cosines
            values[places] = change(vectors.values[places])
        return [pa.array(vectors.with_values(values).to_texts(), types[0])]

    return run


def _cosines(rows: _Floats) -> _Floats:
    """Transform rows by one Fourier transform of the same length.

    J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE Trans. ASSP 28, 1980.
    """
    size = rows.shape[1]
    folded = np.concatenate([rows[:, ::2], rows[:, 1::2][:, ::-1]], axis=1)
    turn = np.exp(-0.5j * np.pi * np.arange(size) / size)
    result = (np.fft.fft(folded, axis=1) * turn).real * np.sqrt(2 / size)
    result[:, 0] /= np.sqrt(2)
    return result


def _inverse_cosines(rows: _Floats) -> _Floats:
    size = rows.shape[1]
    scaled = rows * np.sqrt(size / 2)
    scaled[:, 0] *= np.sqrt(2)
    mirrored = np.concatenate([np.zeros((len(rows), 1)), scaled[:, :0:-1]], axis=1)
    turn = np.exp(0.5j * np.pi * np.arange(size) / size)
    folded = np.fft.ifft((scaled - 1j * mirrored) * turn, axis=1).real
    result = np.empty_like(rows)
    half = (size + 1) // 2
    result[:, ::2] = folded[:, :half]
    result[:, 1::2] = folded[:, half:][:, ::-1]
    return result


# --- hashes ---


def hash_features(params: Params, _types: Types) -> Run:
    """Add up, at the hash of its name, each number, and 1 at that of each ``column=category``."""
    names, size = params["selectedCols"], params["numFeatures"]
    categorical = set(params["categoricalCols"] or ())

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        rows: list[npt.NDArray[np.int64]] = []
        indices: list[npt.NDArray[np.int64]] = []
        values: list[_Floats] = []
        for name in names:
            column = batch.column(name)
            known = valid_rows(column)
            row = np.flatnonzero(known)
            if name in categorical or not is_number(column.type):
                places = _category_hashes(column, f"{name}=", size)[row]
                given = np.ones(len(row))
            else:
                places = np.full(len(row), int(_places(hashes([name]), size)[0]))
                given = numbers(column)[0][row]
            rows.append(row)
            indices.append(places)
            values.append(given)
        return [_summed(batch.num_rows, rows, indices, values, size).to_arrow()]

    return run


def _places(hashed: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int64]:
    """Give the places of hashes: that of the largest negative number, too, is not below 0."""
    return np.mod(np.abs(hashed).astype(np.int64), size)


def _category_hashes(column: pa.Array, prefix: str, size: int) -> npt.NDArray[np.int64]:
    coded = column.dictionary_encode()
    texts = texts_of(coded.dictionary)
    places = _places(hashes([f"{prefix}{text}" for text in texts]), size)
    if not len(places):
        return np.zeros(len(column), np.int64)
    return places[numpy_of(coded.indices.fill_null(0))]


def _summed(
    count: int,
    rows: Sequence[npt.NDArray[np.int64]],
    indices: Sequence[npt.NDArray[np.int64]],
    values: Sequence[_Floats],
    size: int,
) -> Vectors:
    """Give sparse vectors with the sums of what stands at the same place."""
    row, index, value = np.concatenate(rows), np.concatenate(indices), np.concatenate(values)
    by = np.lexsort((index, row))
    row, index, value = row[by], index[by], value[by]
    new = np.ones(len(row), np.bool_)
    new[1:] = (row[1:] != row[:-1]) | (index[1:] != index[:-1])
    starts = np.flatnonzero(new)
    sums = np.add.reduceat(value, starts) if len(starts) else value
    return Vectors.of_entries(
        row[starts], index[starts], sums, np.full(count, size), np.zeros(count, np.bool_)
    )


def hash_cross(params: Params, _types: Types) -> Run:
    """Give a 1 at the hash of the values of columns together; nothing where one is NULL."""
    names, size = params["selectedCols"], params["numFeatures"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        columns = [pa.array(texts_of(batch.column(name)), pa.string()) for name in names]
        crossed = pc.binary_join_element_wise(*columns, string(","))
        coded = crossed.dictionary_encode()
        places = np.mod(hashes(coded.dictionary.to_pylist()).astype(np.int64), size)
        shown = valid_rows(crossed)
        index = np.zeros(len(crossed), np.int64)
        if len(places):
            index = places[numpy_of(coded.indices.fill_null(0))]
        return [sparse_ones(index, shown, size).to_arrow()]

    return run
