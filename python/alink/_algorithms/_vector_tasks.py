"""What is done to vectors row by row, on whole columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import valid_rows
from ._rows import RowStep, Rowwise
from ._strings import Unreadable, java_double, parse_double, parse_vector
from ._types import VECTOR, is_number
from ._vectors import Vectors, numbers, read_vectors, row_max, row_sums

Params = Mapping[str, Any]
Types = Sequence[pa.DataType]
Run = Callable[[pa.RecordBatch], Sequence[pa.Array]]
_Floats = npt.NDArray[np.float64]

#: Above this share of its size an assembled vector is dense.
_DENSE_SHARE = 1 / 1.5
_INDEX_MAX = 2**31 - 1
_VALUES_MAX = 2**31 - 1  # of a column
_POWER_MIN = 1e-280  # below it a sum of powers has lost digits


def on_vectors(params: Params, change: Callable[[Vectors], Vectors]) -> Run:
    """Make the task that changes the vectors of ``selectedCol``."""
    column = params["selectedCol"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        return [change(read_vectors(batch, column)).to_arrow()]

    return run


# --- one vector ---


def normalize(params: Params, _types: Types) -> Run:
    """Divide vectors by their norm; a vector of zeros stays as it is."""
    p = params["p"]
    return on_vectors(params, lambda vectors: normalized(vectors, p))


def normalized(vectors: Vectors, p: float) -> Vectors:
    """Divide vectors by their p-norm; a vector of zeros stays as it is."""
    norms = norms_of(vectors, p)
    norms[norms == 0] = 1
    with np.errstate(invalid="ignore"):  # an infinite value by its infinite norm is NaN
        if (width := vectors.width) is not None:
            matrix = vectors.values.reshape(-1, width)
            return vectors.with_values((matrix / norms[:, None]).reshape(-1))
        return vectors.with_values(vectors.values / np.repeat(norms, vectors.lengths))


def norms_of(vectors: Vectors, p: float) -> _Floats:
    """Give the p-norm of each vector; p may be infinite."""
    values, offsets = vectors.values, vectors.offsets
    if math.isinf(p):
        return row_max(np.abs(values), offsets)
    # A matrix is not added up in another way: a row gives the same whatever its batch holds.
    with np.errstate(over="ignore", under="ignore"):
        norms = _powers(values, offsets, p)
    # Powers of very large and very small numbers leave what a double can hold.
    lost = np.isinf(norms) | (norms < _POWER_MIN ** (1 / p))
    if lost.any():
        largest = row_max(np.abs(values), offsets)
        lost &= np.isfinite(largest) & (largest > 0)
        scale = np.where(lost, largest, 1.0)
        scaled = _powers(values / np.repeat(scale, vectors.lengths), offsets, p) * scale
        norms = np.where(lost, scaled, norms)
    return norms


def _powers(values: _Floats, offsets: npt.NDArray[np.int64], p: float) -> _Floats:
    if p == 1:
        return row_sums(np.abs(values), offsets)
    if p == 2:
        return np.sqrt(row_sums(values * values, offsets))
    return row_sums(np.abs(values) ** p, offsets) ** (1 / p)


def slice_(params: Params, _types: Types) -> Run:
    """Keep the values at some indices, in their order."""
    wanted = np.array(params["indices"], np.int64)
    return on_vectors(params, lambda vectors: sliced(vectors, wanted))


def sliced(vectors: Vectors, wanted: npt.NDArray[np.int64]) -> Vectors:
    """Keep the values at indices, which may be there more than once."""
    top = int(wanted.max(initial=-1))
    short = (vectors.sizes >= 0) & (vectors.sizes <= top)
    vectors.refuse(short, f"has no index {top}")
    if (width := vectors.width) is not None:
        return Vectors.of_matrix(vectors.values.reshape(-1, width)[:, wanted])
    order = np.argsort(wanted, kind="stable")
    at = vectors.indices_of_values
    first = np.searchsorted(wanted, at, "left", order)
    times = np.searchsorted(wanted, at, "right", order) - first
    rows = np.repeat(vectors.rows_of_values, times)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    places = order[np.repeat(first, times) + within]
    values = np.repeat(vectors.values, times)
    by = np.lexsort((places, rows))
    return Vectors.of_entries(
        rows[by],
        places[by],
        values[by],
        np.full(len(vectors), len(wanted)),
        vectors.dense,
        vectors.valid,
    )


def elementwise_product(params: Params, _types: Types) -> Run:
    """Multiply each value with the one at its index in ``scalingVector``."""
    size, indices, factors = parse_vector(params["scalingVector"])
    known = np.arange(size) if indices is None else np.array(indices, np.int64)
    scale = np.array([*factors, 0.0])  # the last one is of what the vector does not name

    def change(vectors: Vectors) -> Vectors:
        at = vectors.indices_of_values
        if size >= 0 and (beyond := at >= size).any():
            wrong = np.zeros(len(vectors), np.bool_)
            wrong[vectors.rows_of_values[beyond]] = True
            vectors.refuse(wrong, f"is larger than scalingVector, of size {size}")
        if indices is None:
            return vectors.with_values(vectors.values * scale[at])
        place = np.searchsorted(known, at)
        named = np.append(known, -1)[place] == at
        return vectors.with_values(vectors.values * scale[np.where(named, place, len(known))])

    return on_vectors(params, change)


def size_hint(params: Params, _types: Types) -> Run:
    """Refuse NULL and vectors of another size, or with ``SKIP`` let all through."""
    column, size = params["selectedCol"], params["size"]
    checked = params["handleInvalidMethod"].upper() == "ERROR"

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        vectors = read_vectors(batch, column)
        if checked:
            if vectors.valid is not None:
                raise Unreadable(f"column {column!r} has NULL in place of a vector of size {size}")
            vectors.refuse(vectors.sizes != size, f"is not of size {size}")
        return [vectors.to_arrow()]

    return run


def polynomial_expand(params: Params, _types: Types) -> Run:
    """Give all products of up to ``degree`` values, without the constant."""
    degree = params["degree"]
    return on_vectors(params, lambda vectors: expanded(vectors, degree))


def _choose(n: npt.NDArray[Any], k: int) -> npt.NDArray[np.float64]:
    """Give n + k over k; as doubles, so that what is too large is seen as such."""
    result = np.ones(np.shape(n))
    for i in range(1, k + 1):
        result = result * (n + i) / i
    return np.rint(result)


def expanded(vectors: Vectors, degree: int) -> Vectors:
    """Give the products of up to `degree` values of each vector.

    They stand in the order of the highest index first: x, x², y, xy, y² of (x, y).
    """
    sizes = vectors.sizes.astype(np.int64)
    spans = vectors.spans
    highest = _choose(spans, degree) - 1
    vectors.refuse(highest > _INDEX_MAX, f"has too many products of degree {degree}")
    lengths = vectors.lengths
    if (_choose(lengths, degree) - 1).sum() > _VALUES_MAX:
        raise Unreadable(f"the products of degree {degree} are too many for a batch")
    rows: list[npt.NDArray[np.int64]] = []
    indices: list[npt.NDArray[np.int64]] = []
    values: list[_Floats] = []
    at = vectors.indices_of_values
    for length in np.unique(lengths).tolist():
        group = np.flatnonzero(lengths == length)
        places = vectors.offsets[group][:, None] + np.arange(length)
        products, where = _products(vectors.values[places], at[places], degree)
        rows.append(np.repeat(group, products.shape[1]))
        indices.append(where.reshape(-1))
        values.append(products.reshape(-1))
    if not rows:
        return vectors
    row = np.concatenate(rows)
    by = np.argsort(row, kind="stable")
    result_sizes = np.where(sizes < 0, -1, highest)
    return Vectors.of_entries(
        row[by],
        np.concatenate(indices)[by],
        np.concatenate(values)[by],
        result_sizes,
        vectors.dense,
        vectors.valid,
    )


def _products(
    values: _Floats, at: npt.NDArray[Any], degree: int
) -> tuple[_Floats, npt.NDArray[np.int64]]:
    """Give the products of rows with equally many values, and where they stand.

    With `left` degrees to go at the variable of index k, its power e skips the products in
    which its power is lower: of the k variables before it of degrees left, left-1, … .
    """
    count = values.shape[0]
    products: list[_Floats] = []
    places: list[_Floats] = []
    waiting = [(values.shape[1] - 1, degree, np.ones(count), np.full(count, -1.0))]
    while waiting:
        variable, left, product, place = waiting.pop()
        if variable < 0 or left == 0:
            products.append(product)
            places.append(place)
            continue
        k = at[:, variable].astype(np.float64)
        powers: list[tuple[int, int, _Floats, _Floats]] = []
        for power in range(left + 1):
            powers.append((variable - 1, left - power, product, place))
            place = place + _choose(k, left - power)
            product = product * values[:, variable]
        waiting += reversed(powers)
    # The first is the constant.
    if len(products) == 1:
        return np.empty((count, 0)), np.empty((count, 0), np.int64)
    return np.stack(products[1:], 1), np.stack(places[1:], 1).astype(np.int64)


# --- a number of a vector, and vectors of two ---


def function(params: Params, types: Types) -> Run:
    """Apply the function ``funcName``."""
    column, name = params["selectedCol"], params["funcName"].upper()
    if name in ("SCALE", "NORMALIZE"):
        variable = parse_double(params["WithVariable"])
        if name == "SCALE":
            return on_vectors(params, lambda v: v.with_values(v.values * variable))
        return on_vectors(params, lambda v: normalized(v, variable))
    norms = {
        "NORML1": lambda v: norms_of(v, 1),
        "NORML2": lambda v: norms_of(v, 2),
        "NORML2SQUARE": lambda v: row_sums(v.values * v.values, v.offsets),
    }

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        vectors = read_vectors(batch, column)
        missing = np.zeros(len(vectors), np.bool_) if vectors.valid is None else ~vectors.valid
        if name in norms:
            return [pa.array(norms[name](vectors), types[0], mask=missing)]
        missing |= vectors.spans == 0
        sign = -1.0 if name.endswith("MIN") else 1.0
        largest, index = _extremes(vectors, sign)
        if name.startswith("ARG"):
            texts = [str(i) for i in index.tolist()]
        else:
            texts = [java_double(value) for value in (sign * largest).tolist()]
        return [pa.array(texts, types[0], mask=missing)]

    return run


def _extremes(vectors: Vectors, sign: float) -> tuple[_Floats, npt.NDArray[np.int64]]:
    """Give the largest value of each vector, times `sign`, and its first index.

    What a sparse vector does not name is 0. NaN counts only where there is nothing else.
    """
    values, at = sign * vectors.values, vectors.indices_of_values
    numbers_only = np.where(np.isnan(values), -np.inf, values)
    largest = row_max(numbers_only, vectors.offsets, -np.inf)
    gap, has_gap = _first_gaps(vectors)
    zero_wins = has_gap & (largest < 0)
    rows = vectors.rows_of_values
    index = np.zeros(len(vectors), np.int64)
    hits = np.flatnonzero(numbers_only == largest[rows])[::-1]
    index[rows[hits]] = at[hits]
    tie = has_gap & (largest == 0)
    index = np.where(zero_wins, gap, np.where(tie, np.minimum(index, gap), index))
    largest = np.where(zero_wins, 0.0, largest)
    lowest = np.isneginf(largest)
    if lowest.any():
        seen = row_max(np.where(np.isneginf(values), 1.0, 0.0), vectors.offsets)
        largest = np.where(lowest & (seen == 0), np.nan, largest)
    return largest, index


def _first_gaps(vectors: Vectors) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Give the first index that each vector does not name, and whether there is one."""
    has_gap = vectors.lengths < vectors.spans
    gap = vectors.lengths.copy()
    rows = vectors.rows_of_values
    ranks = np.arange(len(rows)) - vectors.offsets[rows]
    off = np.flatnonzero(vectors.indices_of_values != ranks)[::-1]
    gap[rows[off]] = ranks[off]
    return gap, has_gap


def bi_function(params: Params, types: Types) -> Run:
    """Apply the function ``biFuncName`` to the vectors of two columns."""
    columns, name = params["selectedCols"], params["biFuncName"].upper()

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        a, b = (read_vectors(batch, column) for column in columns)
        valid = _both(a, b)
        if name == "MERGE":
            return [_joined([a, b], valid).to_arrow()]
        _same_sizes(a, b)
        if name in _COMBINED:
            return [_combined(a, b, _COMBINED[name], valid).to_arrow()]
        if name == "EUCLIDDISTANCE":
            result = norms_of(_combined(a, b, np.subtract, valid), 2)
        else:
            product = _combined(a, b, np.multiply, valid)
            result = row_sums(product.values, product.offsets)
        if name == "COSINE":
            with np.errstate(invalid="ignore", divide="ignore"):
                result = result / (norms_of(a, 2) * norms_of(b, 2))
        return [pa.array(result, types[0], mask=None if valid is None else ~valid)]

    return run


_COMBINED: dict[str, np.ufunc] = {
    "PLUS": np.add,
    "MINUS": np.subtract,
    "ELEMENTWISEMULTIPLY": np.multiply,
}


def _both(a: Vectors, b: Vectors) -> npt.NDArray[np.bool_] | None:
    if a.valid is None:
        return b.valid
    return a.valid if b.valid is None else a.valid & b.valid


def _same_sizes(a: Vectors, b: Vectors) -> None:
    """Refuse vectors of two sizes; one whose size is not known has the other's."""
    valid = _both(a, b)
    fit = (a.sizes == b.sizes) | ((a.sizes < 0) & (a.spans <= b.sizes))
    fit |= (b.sizes < 0) & (b.spans <= a.sizes)
    wrong = ~fit if valid is None else ~fit & valid
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        a.refuse(wrong, f"stands beside one of size {b.sizes[row]}")


def _combined(
    a: Vectors, b: Vectors, ufunc: np.ufunc, valid: npt.NDArray[np.bool_] | None
) -> Vectors:
    """Combine the values at the same indices."""
    if a.width is not None and a.width == b.width:
        return a.with_values(ufunc(a.values, b.values))
    product = ufunc is np.multiply
    dense = (a.dense & b.dense) if product else (a.dense | b.dense)
    sizes = np.maximum(a.sizes, b.sizes).astype(np.int64)
    rows = np.concatenate([a.rows_of_values, b.rows_of_values])
    at = np.concatenate([a.indices_of_values, b.indices_of_values]).astype(np.int64)
    second = np.zeros(len(rows), np.bool_)
    second[len(a.values) :] = True
    values = np.concatenate([a.values, b.values])
    if valid is not None:
        kept = valid[rows]
        rows, at, second, values = rows[kept], at[kept], second[kept], values[kept]
    by = np.lexsort((second, at, rows))
    rows, at, second, values = rows[by], at[by], second[by], values[by]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (rows[1:] != rows[:-1]) | (at[1:] != at[:-1])
    place = np.cumsum(new) - 1
    left, right = np.zeros(int(new.sum())), np.zeros(int(new.sum()))
    left[place[~second]] = values[~second]
    right[place[second]] = values[second]
    result = ufunc(left, right)
    rows, at = rows[new], at[new]
    if product:
        both = np.bincount(place, minlength=len(rows)) == 2
        rows, at, result = rows[both], at[both], result[both]
    return Vectors.of_entries(rows, at, result, sizes, dense, valid)


def interaction(params: Params, _types: Types) -> Run:
    """Multiply each value of the first vector with each of the second.

    The product of those at i and j stands at i + size·j, of the first vector's size.
    """
    columns = params["selectedCols"]

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        a, b = (read_vectors(batch, column) for column in columns)
        for vectors in (a, b):
            vectors.refuse(vectors.sizes < 0, "has no size, so its products have no place")
        valid = _both(a, b)
        if a.width is not None and b.width is not None:
            left, right = a.values.reshape(-1, a.width), b.values.reshape(-1, b.width)
            products = right[:, :, None] * left[:, None, :]
            return [Vectors.of_matrix(products.reshape(len(a), -1)).to_arrow()]
        return [_interacted(a, b, valid).to_arrow()]

    return run


def _interacted(a: Vectors, b: Vectors, valid: npt.NDArray[np.bool_] | None) -> Vectors:
    sizes = a.sizes.astype(np.int64) * b.sizes
    a.refuse(sizes > _INDEX_MAX, "has too many products")
    counts = a.lengths * b.lengths
    dense = a.dense & b.dense
    if valid is not None:
        counts = np.where(valid, counts, 0)
    rows = np.repeat(np.arange(len(a)), counts)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = a.lengths[rows]
    left, right = a.offsets[rows] + rank % width, b.offsets[rows] + rank // width
    at = a.indices_of_values[left].astype(np.int64)
    at += a.sizes[rows].astype(np.int64) * b.indices_of_values[right]
    values = a.values[left] * b.values[right]
    return Vectors.of_entries(rows, at, values, sizes, dense, valid)


# --- vectors of columns ---


def assemble(params: Params, _types: Types) -> Run:
    """Put numbers and vectors of columns together into one vector."""
    columns = params["selectedCols"]
    skip = params["handleInvalidMethod"].upper() == "SKIP"

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        valid: npt.NDArray[np.bool_] | None = None
        for column in columns:
            if not (array := batch.column(column)).null_count:
                continue
            if not skip:
                raise Unreadable(
                    f"column {column!r} has NULL: handleInvalidMethod SKIP makes the vector NULL"
                )
            known = valid_rows(array)
            valid = known if valid is None else valid & known
        if all(is_number(batch.column(column).type) for column in columns):
            matrix = np.empty((batch.num_rows, len(columns)))
            for i, column in enumerate(columns):
                matrix[:, i] = numbers(batch.column(column))[0]
            return [Vectors.of_matrix(matrix, valid).to_arrow()]
        parts = [read_vectors(batch, column) for column in columns]
        return [_denser(_joined(parts, valid)).to_arrow()]

    return Rowwise(run, lambda names: _assemble_row(run, names, columns))


def _assemble_row(run: Run, names: Sequence[str], columns: Sequence[str]) -> RowStep:
    """Give what assembles one row: numbers and dense vectors by hand, others as a batch."""
    places = [names.index(column) for column in columns]

    def assembled(values: Sequence[Any]) -> Sequence[Any]:
        parts: list[float] = []
        for at in places:
            value = values[at]
            if isinstance(value, float):
                parts.append(value)
            elif isinstance(value, dict) and value["indices"] is None:
                parts += value["values"]
            elif value is None or isinstance(value, (dict, str)):
                return _as_batch(run, {c: values[p] for c, p in zip(columns, places, strict=True)})
            else:
                parts.append(float(value))
        return ({"size": len(parts), "indices": None, "values": parts},)

    return assembled


def _as_batch(run: Run, row: Mapping[str, Any]) -> Sequence[Any]:
    kinds = {dict: VECTOR, str: pa.string()}
    arrays = [pa.array([v], kinds.get(type(v), pa.float64())) for v in row.values()]
    outputs = run(pa.RecordBatch.from_arrays(arrays, names=list(row)))
    return [output[0].as_py() for output in outputs]


def _joined(parts: Sequence[Vectors], valid: npt.NDArray[np.bool_] | None) -> Vectors:
    """Put vectors one behind the other: dense where all are."""
    widths = [part.width for part in parts]
    if None not in widths and valid is None:
        matrices = [
            part.values.reshape(len(part), width)
            for part, width in zip(parts, widths, strict=True)
            if width is not None
        ]
        return Vectors.of_matrix(np.hstack(matrices))
    count = len(parts[0])
    dense = np.ones(count, np.bool_)
    sizes = np.zeros(count, np.int64)
    rows: list[npt.NDArray[np.int64]] = []
    indices: list[npt.NDArray[np.int64]] = []
    for part in parts:
        part.refuse(part.sizes < 0, "has no size, so what follows it has no place")
        row = part.rows_of_values
        rows.append(row)
        indices.append(part.indices_of_values + sizes[row])
        sizes += part.sizes
        dense &= part.dense
    all_rows, at = np.concatenate(rows), np.concatenate(indices)
    values = np.concatenate([part.values for part in parts])
    if valid is not None:
        kept = valid[all_rows]
        all_rows, at, values = all_rows[kept], at[kept], values[kept]
    by = np.argsort(all_rows, kind="stable")
    return Vectors.of_entries(all_rows[by], at[by], values[by], sizes, dense, valid)


def _denser(vectors: Vectors) -> Vectors:
    """Make the sparse vectors dense that name most of their values."""
    full = ~vectors.dense & (vectors.lengths > _DENSE_SHARE * vectors.sizes)
    if vectors.valid is not None:
        full &= vectors.valid
    if not full.any():
        return vectors
    return Vectors.of_entries(
        vectors.rows_of_values,
        vectors.indices_of_values,
        vectors.values,
        vectors.sizes,
        vectors.dense | full,
        vectors.valid,
    )


def to_vector(params: Params, _types: Types) -> Run:
    """Read vectors, and make them dense or sparse as ``vectorType`` says."""
    column = params["selectedCol"]
    wanted = (params["vectorType"] or "").upper()
    skip = params["handleInvalidMethod"].upper() == "SKIP"

    def run(batch: pa.RecordBatch) -> list[pa.Array]:
        try:
            vectors = read_vectors(batch, column)
        except Unreadable:
            if not skip:
                raise
            vectors = Vectors.of_rows(map(_tolerant, batch.column(column).to_pylist()))
        if wanted == "DENSE":
            vectors = vectors.to_dense()
        elif wanted == "SPARSE":
            vectors = vectors.to_sparse()
        return [vectors.to_arrow()]

    return run


def _tolerant(text: str | None) -> Any:
    try:
        return None if text is None else parse_vector(text)
    except Unreadable:
        return None
