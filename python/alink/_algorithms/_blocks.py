"""The rows of a training, block by block: features, dense or sparse, labels and weights.

A pass reads a worker's rows from the file where they lie, in blocks that fit into the
processor's cache, so that what is computed of a block reads it from there and nothing is kept
between passes. Bringing columns together to a block's matrix costs a sixth of a pass over it. Two
things are kept, as far as the worker may: vectors that are texts, which take far longer to read
anew, and the order of sparse values by their features, where these are many.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._group import Group
from ._strings import Unreadable
from ._types import VECTOR
from ._vectors import Vectors, read_vectors

Array = npt.NDArray[np.float64]

#: Rows of a block of dense features: at 20 features 2.6 MB.
BLOCK_ROWS = 16_384
#: Features that are kept in memory as an array, if they are no more.
_FEW_BYTES = 4 << 20

#: From so many features on a cache near the processor does not hold a weight for each: 0.5 MB.
WIDE = 2**16

#: As many values of a feature lie in layers; of more, one after the other.
_LAYERS = 16


class Dense:
    """Features of a block as a matrix, shape (n, d)."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def times(self, weights: Array) -> Array:
        """Multiply by weights, shape (d,) or (d, k)."""
        return self.values @ weights

    def transposed(self, values: Array) -> Array:
        """Multiply the transposed features by values, shape (n,) or (n, k)."""
        return self.values.T @ values

    def add_transposed(self, values: Array, sums: Array) -> None:
        """Add the transposed features times values, shape (n,), to sums, shape (d,)."""
        sums += self.transposed(values)

    def squared(self, values: Array) -> Array:
        """Multiply the transposed squares of the features by values, shape (n,)."""
        return (self.values**2).T @ values

    def times_squared(self, weights: Array) -> Array:
        """Multiply the squares of the features by weights, shape (d,)."""
        return (self.values**2) @ weights

    def largest(self) -> Array:
        """Give the largest magnitude of each feature, shape (d,)."""
        return np.abs(self.values).max(axis=0, initial=0.0)

    def matrices(self) -> Iterator[tuple[slice, Array]]:
        """Give the features as matrices of some of the rows each."""
        yield slice(0, len(self)), self.values


class Sparse:
    """Features of a block as sparse vectors of one size."""

    def __init__(self, vectors: Vectors, size: int) -> None:
        self.vectors = vectors
        self.size = size

    @functools.cached_property
    def indices(self) -> npt.NDArray[np.intp]:
        """The index of each value, of the kind that numpy takes and counts by without a copy."""
        found = self.vectors.indices_of_values
        if len(found) and int(found.max()) >= self.size:
            raise Unreadable(f"a vector has index {int(found.max())}, the size is {self.size}")
        return found.astype(np.intp, copy=False)

    def __len__(self) -> int:
        return len(self.vectors)

    def times(self, weights: Array) -> Array:
        """Multiply by weights, shape (d,) or (d, k)."""
        if weights.ndim > 1:
            return np.column_stack([self.times(column) for column in weights.T])
        return self._times(self.vectors.values, weights)

    def times_squared(self, weights: Array) -> Array:
        """Multiply the squares of the features by weights, shape (d,)."""
        return self._times(self.vectors.values**2, weights)

    def _times(self, values: Array, weights: Array) -> Array:
        if not len(self.indices):
            return np.zeros(len(self))
        # "clip" takes without a look at each index; they were looked at above.
        products = weights.take(self.indices, mode="clip")
        products *= values
        begins, lengths = self.vectors.offsets[:-1], self.vectors.lengths
        if lengths.all():
            return np.add.reduceat(products, begins)
        result = np.zeros(len(self))
        some = lengths > 0
        result[some] = np.add.reduceat(products, begins[some])
        return result

    def transposed(self, values: Array) -> Array:
        """Multiply the transposed features by values, shape (n,) or (n, k)."""
        if values.ndim > 1:
            return np.column_stack([self.transposed(column) for column in values.T])
        return self._collect(self.vectors.values, values)

    def add_transposed(self, values: Array, sums: Array) -> None:
        """Add the transposed features times values, shape (n,), to sums, shape (d,)."""
        sums += self.transposed(values)

    def squared(self, values: Array) -> Array:
        """Multiply the transposed squares of the features by values, shape (n,)."""
        return self._collect(self.vectors.values**2, values)

    def largest(self) -> Array:
        """Give the largest magnitude of each feature, shape (d,)."""
        found = np.zeros(self.size)
        np.maximum.at(found, self.indices, np.abs(self.vectors.values))
        return found

    def _collect(self, features: Array, values: Array) -> Array:
        spread = np.repeat(values, self.vectors.lengths) * features
        return np.bincount(self.indices, spread, self.size).astype(np.float64, copy=False)

    def matrices(self) -> Iterator[tuple[slice, Array]]:
        """Give the features as matrices of some of the rows each."""
        rows = max(1, BLOCK_ROWS * 128 // max(self.size, 1))
        for begin in range(0, len(self), rows):
            part = slice(begin, min(begin + rows, len(self)))
            yield part, _part(self.vectors, part).matrix(self.size)


class Order:
    """The values of sparse vectors, ordered by their features.

    Row by row a weight is fetched for each value from wherever it lies in memory. Feature by
    feature weights are read one after the other, and what is fetched from everywhere are the
    margins of a block's rows, which a cache holds. Features come with those first that have most
    values. Of these (`_LAYERS` and more) all values of a feature stand together; of the others
    the first value of each makes a layer, the second of each the next, and so on, so that a layer
    is computed by few operations on whole arrays.

    Parameters
    ----------
    vectors : Vectors
    """

    def __init__(self, vectors: Vectors) -> None:
        # Index and place in one number, so that they are sorted together.
        keys = vectors.indices_of_values.astype(np.int64)
        keys <<= 32
        keys |= np.arange(len(keys))
        keys.sort()
        places = keys & 0xFFFF_FFFF
        keys >>= 32
        begins = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(begins, append=len(keys))
        order = np.argsort(-counts, kind="stable")
        begins, fewer = begins[order], -counts[order]  # the latter rise
        many = int(np.searchsorted(fewer, -_LAYERS, side="right"))
        lengths = -fewer[:many]
        #: Where the values of each feature that has many of them begin.
        self._begins = np.cumsum(lengths) - lengths
        self._lengths = lengths
        whole = np.repeat(begins[:many] - self._begins, lengths) + np.arange(lengths.sum())
        layers = [
            begins[many : int(np.searchsorted(fewer, -layer))] + layer
            for layer in range(-int(fewer[many]) if many < len(fewer) else 0)
        ]
        #: How many features each layer has, the first ones of those that have few values.
        self._layers = [len(layer) for layer in layers]
        at = places[np.concatenate([whole, *layers])]
        self._features = keys[begins].astype(np.int32)
        count = len(vectors)
        rows = np.repeat(
            np.arange(count, dtype=np.min_scalar_type(max(count - 1, 0))), vectors.lengths
        )
        self._rows = rows[at]
        ones = bool((vectors.values == 1).all())
        self._values = None if ones else vectors.values[at]
        self._count = count

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        held = [self._features, self._rows, self._begins, self._lengths]
        held += [] if self._values is None else [self._values]
        return sum(array.nbytes for array in held)

    def times(self, weights: Array) -> Array:
        """Multiply the vectors by weights, shape (d,)."""
        own = weights.take(self._features)
        many = len(self._lengths)
        result = np.zeros(self._count)
        self._scatter(np.repeat(own[:many], self._lengths), 0, result)
        begin = int(self._lengths.sum())
        for length in self._layers:
            self._scatter(own[many : many + length], begin, result)
            begin += length
        return result

    def _scatter(self, products: Array, begin: int, result: Array) -> None:
        part = slice(begin, begin + len(products))
        if self._values is not None:
            products = products * self._values[part]
        result += np.bincount(self._rows[part].astype(np.intp), products, self._count)

    def add_transposed(self, values: Array, sums: Array) -> None:
        """Add the transposed vectors times values, shape (n,), to sums, shape (d,)."""
        many = len(self._lengths)
        own = np.zeros(len(self._features))
        begin = int(self._lengths.sum())
        if many:
            own[:many] = np.add.reduceat(self._gather(values, 0, begin), self._begins)
        for length in self._layers:
            own[many : many + length] += self._gather(values, begin, length)
            begin += length
        # Each feature stands there once.
        sums[self._features] += own

    def _gather(self, values: Array, begin: int, length: int) -> Array:
        part = slice(begin, begin + length)
        found = values.take(self._rows[part].astype(np.intp), mode="clip")
        if self._values is not None:
            found *= self._values[part]
        return found


class Ordered(Sparse):
    """Sparse features of which the order is known."""

    def __init__(self, vectors: Vectors, size: int, order: Order) -> None:
        super().__init__(vectors, size)
        self._order = order

    def times(self, weights: Array) -> Array:
        """Multiply by weights, shape (d,) or (d, k)."""
        return self._order.times(weights) if weights.ndim == 1 else super().times(weights)

    def transposed(self, values: Array) -> Array:
        """Multiply the transposed features by values, shape (n,) or (n, k)."""
        if values.ndim > 1:
            return super().transposed(values)
        sums = np.zeros(self.size)
        self._order.add_transposed(values, sums)
        return sums

    def add_transposed(self, values: Array, sums: Array) -> None:
        """Add the transposed features times values, shape (n,), to sums, shape (d,)."""
        self._order.add_transposed(values, sums)


def _part(vectors: Vectors, rows: slice) -> Vectors:
    begin, end = int(vectors.offsets[rows.start]), int(vectors.offsets[rows.stop])
    return Vectors(
        vectors.offsets[rows.start : rows.stop + 1] - begin,
        vectors.values[begin:end],
        None if vectors.indices is None else vectors.indices[begin:end],
        vectors.sizes[rows],
        vectors.dense[rows],
    )


class Block:
    """Some rows of a worker.

    Attributes
    ----------
    rows : slice
        Their numbers among the worker's own rows.
    features : Dense or Sparse
        Valid until the next block is asked for.
    label : pyarrow.Array
        NULL where no column has labels.
    weight : array, shape (n,)
        1 where no column has weights.
    """

    __slots__ = ("features", "label", "rows", "weight")

    def __init__(
        self, rows: slice, features: Dense | Sparse, label: pa.Array, weight: Array
    ) -> None:
        self.rows = rows
        self.features = features
        self.label = label
        self.weight = weight


class Blocks:
    """The rows of a training, which may be read again and again.

    Parameters
    ----------
    group : Group
    params : mapping
        ``featureCols``, or ``vectorCol``, and perhaps ``labelCol`` and ``weightCol``.

    Attributes
    ----------
    group : Group
    size : int
        d, the number of features, in all workers.
    dense : bool
        Whether all features are dense, in all workers.
    rows, total : float
        The number of all rows, and the sum of their weights.

    Raises
    ------
    Unreadable
        If a label is NULL, or a feature NULL, NaN or infinite, or a weight no number of 0 or more.
    """

    def __init__(self, group: Group, params: Mapping[str, Any]) -> None:
        self.group = group
        self._vector: str | None = params.get("vectorCol")
        self._names: Sequence[str] = params.get("featureCols") or []
        self._label: str | None = params.get("labelCol")
        self._weight: str | None = params.get("weightCol")
        # Vectors that were read from texts, and orders, by the number of their batch.
        self._kept: dict[int, Vectors] = {}
        self._orders: dict[int, Order | None] = {}
        self._matrices: dict[int, Array] = {}
        self._kept_bytes = 0
        self._passes = 0
        # Where the columns of a block come together: memory that is new costs as much as a pass.
        self._matrix = np.empty((len(self._names), BLOCK_ROWS))
        self.size = len(self._names)
        self.dense = True
        self.rows = self.total = 0.0
        self._check()

    def __len__(self) -> int:
        """Give the number of the worker's rows."""
        return len(self.group)

    def _check(self) -> None:
        size, sparse, total = self.size, 0.0, 0.0
        for number, batch in enumerate(self.group):
            if self._label is not None and batch.column(self._label).null_count:
                raise Unreadable(f"the label {self._label!r} is NULL in a row of the training")
            total += float(self._weights(batch).sum())
            if self._vector is None:
                for name in self._names:
                    _refuse_missing(floats(batch.column(name), name), name)
            else:
                vectors = self._vectors(self._vector, number, batch)
                if vectors.valid is not None:
                    raise Unreadable(f"the vector {self._vector!r} is NULL in a row")
                _refuse_missing(vectors.values, self._vector)
                size = max(size, vectors.known_size)
                sparse = max(sparse, float(vectors.indices is not None))
        self.rows, self.total = (float(x) for x in self.group.sum(len(self.group), total))
        if self._weight is not None and self.rows and self.total == 0:
            raise Unreadable(f"the weights in {self._weight!r} are all 0")
        found = self.group.largest([size, sparse])
        self.size, self.dense = int(found[0]), not found[1]

    def _weights(self, batch: pa.RecordBatch) -> Array:
        if self._weight is None:
            return np.ones(batch.num_rows)
        weights = floats(batch.column(self._weight), self._weight)
        if not (weights >= 0).all():  # NaN is not
            raise Unreadable(f"the weights in {self._weight!r} are not numbers of 0 and more")
        return weights

    def _labels(self, batch: pa.RecordBatch) -> pa.Array:
        return pa.nulls(batch.num_rows) if self._label is None else batch.column(self._label)

    def _vectors(self, name: str, number: int, batch: pa.RecordBatch) -> Vectors:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        vectors = read_vectors(batch, name)
        if batch.column(name).type != VECTOR:
            size = vectors.values.nbytes + vectors.offsets.nbytes + vectors.sizes.nbytes
            size += 0 if vectors.indices is None else vectors.indices.nbytes
            if self._kept_bytes + size <= self.group.cache_bytes:
                self._kept[number] = vectors
                self._kept_bytes += size
        return vectors

    def __iter__(self) -> Iterator[Block]:
        self._passes += 1
        start = 0
        for number, batch in enumerate(self.group):
            if self._vector is None:
                yield from self._of_columns(start, number, batch)
            else:
                yield from self._of_vectors(self._vector, start, number, batch)
            start += batch.num_rows

    def _of_columns(self, start: int, number: int, batch: pa.RecordBatch) -> Iterator[Block]:
        columns = self._columns(number, batch)
        weights, label = self._weights(batch), self._labels(batch)
        for begin in range(0, batch.num_rows, BLOCK_ROWS):
            end = min(begin + BLOCK_ROWS, batch.num_rows)
            if isinstance(columns, np.ndarray):
                part = columns[:, begin:end]
            else:
                part = self._matrix[:, : end - begin]
                for j, column in enumerate(columns):
                    part[j] = column[begin:end]
            yield Block(
                slice(start + begin, start + end),
                Dense(part.T),
                label.slice(begin, end - begin),
                weights[begin:end],
            )

    def _columns(self, number: int, batch: pa.RecordBatch) -> Array | list[Array]:
        """Give the features of a batch, shape (size, rows); as one array where it is kept.

        That is so where there are few, of which the calls take longer than the arithmetic, and
        where they would have to be converted again with each pass.
        """
        kept = self._matrices.get(number)
        if kept is not None:
            return kept
        columns = [floats(batch.column(name), name) for name in self._names]
        size = 8 * batch.num_rows * len(columns)
        few = self._kept_bytes + size <= _FEW_BYTES
        if not few:
            lie = all(is_plain(batch.column(name)) for name in self._names)
            few = not lie and self._kept_bytes + size <= self.group.cache_bytes
        if not few or not columns:
            return columns
        kept = self._matrices[number] = np.stack(columns)
        kept.flags.writeable = False
        self._kept_bytes += size
        return kept

    def _of_vectors(
        self, name: str, start: int, number: int, batch: pa.RecordBatch
    ) -> Iterator[Block]:
        vectors = self._vectors(name, number, batch)
        weights, label = self._weights(batch), self._labels(batch)
        if not self.dense:
            rows = slice(start, start + batch.num_rows)
            yield Block(rows, self._sparse(number, vectors), label, weights)
            return
        matrix = vectors.matrix(self.size)
        for begin in range(0, batch.num_rows, BLOCK_ROWS):
            end = min(begin + BLOCK_ROWS, batch.num_rows)
            yield Block(
                slice(start + begin, start + end),
                Dense(matrix[begin:end]),
                label.slice(begin, end - begin),
                weights[begin:end],
            )

    def _sparse(self, number: int, vectors: Vectors) -> Sparse:
        if self.size < WIDE or self._passes == 1:
            # To order the values takes as long as two passes do without.
            return Sparse(vectors, self.size)
        if number not in self._orders:
            made = Order(vectors)
            fits = self._kept_bytes + made.nbytes <= self.group.cache_bytes
            self._orders[number] = made if fits else None
            self._kept_bytes += made.nbytes if fits else 0
        order = self._orders[number]
        if order is None:
            return Sparse(vectors, self.size)
        return Ordered(vectors, self.size, order)

    def labels(self) -> list[Any]:
        """Give the distinct labels of all workers, the largest first."""
        assert self._label is not None
        return labels_of(self.group, self._label)

    def pair(self) -> list[Any]:
        """Give the labels, of which there have to be two."""
        labels = self.labels()
        if len(labels) != 2:
            shown = ", ".join(map(repr, labels[:5]))
            raise Unreadable(
                f"the label {self._label!r} has {counted(labels)} where 2 are needed"
                + (f": {shown}" if labels else "")
            )
        return labels

    def require_rows(self) -> None:
        """Refuse a training without rows."""
        if self.total == 0:
            raise Unreadable("there are no rows to train with")

    def codes(self, labels: Sequence[Any]) -> npt.NDArray[Any]:
        """Give for each of the worker's rows the place of its label among all labels."""
        kind = np.dtype(np.int8 if len(labels) <= np.iinfo(np.int8).max else np.int32)
        codes = np.empty(len(self), kind)
        start = 0
        for batch in self.group:
            codes[start : start + batch.num_rows] = codes_of(self._labels(batch), labels)
            start += batch.num_rows
        return codes

    def target(self, block: Block) -> Array:
        """Give the labels of a block as numbers."""
        values = floats(block.label, self._label or "")
        if not np.isfinite(values).all():
            raise Unreadable(f"the label {self._label!r} has NaN or infinite values")
        return values


def labels_of(group: Group, column: str) -> list[Any]:
    """Give the distinct values of a column, over all workers, the largest first."""
    kind = group.schema.field(column).type
    mine = pa.chunked_array([batch.column(column) for batch in group], kind).unique()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("label", kind)])) as writer:
        writer.write_batch(pa.record_batch([mine], names=["label"]))
    values: set[Any] = set()
    for part in group.gather(sink.getvalue().to_pybytes()):
        values.update(pa.ipc.open_stream(part).read_all().column(0).to_pylist())
    return sorted(values, reverse=True)


def counted(labels: Sequence[Any]) -> str:
    """Say how many values labels have."""
    return f"{len(labels)} value" + ("" if len(labels) == 1 else "s")


def codes_of(column: pa.Array, labels: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Give for each value of a column its place among all labels."""
    places = {value: place for place, value in enumerate(labels)}
    encoded = column.dictionary_encode()
    table = np.array([places[value] for value in encoded.dictionary.to_pylist()], np.int64)
    return table[numpy_of(encoded.indices)]


def is_plain(column: pa.Array) -> bool:
    """Tell whether the values of a column lie as 64-bit floats, none of them NULL."""
    return column.type == pa.float64() and not column.null_count


def floats(column: pa.Array, name: str) -> Array:
    """Give the values of a column, as they lie or as 64-bit floats; NULL is NaN."""
    if is_plain(column):
        return numpy_of(column)
    try:
        return numpy_of(column.cast(pa.float64()))
    except pa.ArrowInvalid:
        texts = [text for text in column.to_pylist() if not _is_number(text)]
        raise Unreadable(f"column {name!r}: {str(texts[0])!r:.80} is not a number") from None
    except pa.ArrowNotImplementedError:
        raise Unreadable(f"column {name!r} is of type {column.type}, not numbers") from None


def _is_number(text: Any) -> bool:
    try:
        return text is None or pa.scalar(text, pa.string()).cast(pa.float64()) is not None
    except pa.ArrowInvalid:
        return False


def _refuse_missing(values: Array, name: str) -> None:
    if not np.isfinite(values).all():
        raise Unreadable(f"{name!r} has NULL, NaN or infinite values: fill or leave out the rows")


class Scaling:
    """Centres and scales by which a training sees features.

    A feature x is seen as ``(x - centre) / scale``, without a copy: weights are scaled instead,
    and a gradient is brought back. One that is constant has an infinite scale, which keeps its
    weight 0.

    Attributes
    ----------
    centre, scale : arrays, shape (d,)
    """

    def __init__(self, centre: Array, scale: Array) -> None:
        self.centre = centre
        self.scale = scale

    @classmethod
    def none(cls, size: int) -> Scaling:
        """See features as they are."""
        return cls(np.zeros(size), np.ones(size))

    @classmethod
    def standard(cls, blocks: Blocks, centred: bool) -> Scaling:
        """See features with standard deviation 1 and, where centred, mean 0."""
        if blocks.total == 0:
            return cls.none(blocks.size)
        mean, squares = _moments(blocks)
        deviation = np.sqrt(np.maximum(squares / blocks.total, 0))
        constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
        scale = np.where(constant, np.inf, deviation)
        return cls(mean if centred else np.zeros(blocks.size), scale)

    def weights(self, weights: Array, intercept: Any) -> tuple[Array, Any]:
        """Give weights, shape (d,) or (d, k), and intercept of the features as they come."""
        scaled = (weights.T / self.scale).T
        return scaled, intercept - self.centre @ scaled

    def gradient(self, raw: Array, total: Any) -> Array:
        """Give the gradient by weights of that by the features as they come.

        Parameters
        ----------
        raw : array, shape (d,) or (d, k)
            The transposed features times slopes.
        total : number, or array of shape (k,)
            The sum of the slopes.
        """
        centred = raw - (
            np.multiply.outer(self.centre, total) if raw.ndim > 1 else self.centre * total
        )
        transposed = centred.T
        transposed /= self.scale
        return centred


def deviations(blocks: Blocks, scaling: Scaling | None = None) -> Array:
    """Give the standard deviations of the features, of a sample: n - 1 in the denominator.

    Rows count by their weights; n is their number.

    Parameters
    ----------
    blocks : Blocks
    scaling : Scaling, optional
        What `Scaling.standard` gives, if it is known.
    """
    scale = (Scaling.standard(blocks, centred=False) if scaling is None else scaling).scale
    whole = np.where(np.isinf(scale), 0.0, scale)
    return whole * np.sqrt(blocks.rows / max(blocks.rows - 1, 1))


def weighted_mean(blocks: Blocks) -> Array:
    """Give the weighted mean of the features over all workers' rows."""
    sums = np.zeros(blocks.size)
    for block in blocks:
        sums += block.features.transposed(block.weight)
    (sums,) = blocks.group.sum(sums)
    return sums / blocks.total


def _moments(blocks: Blocks) -> tuple[Array, Array]:
    """Give the weighted means of the features, and the sums of squares about them.

    Those of dense features are about the mean of what has come, block by block [Chan, Golub and
    LeVeque 1983], so that large means lose nothing.
    """
    total, sums, squares = 0.0, np.zeros(blocks.size), np.zeros(blocks.size)
    room = np.empty(0)
    for block in blocks:
        features, weight = block.features, block.weight
        weighs, mine = float(weight.sum()), features.transposed(weight)
        if isinstance(features, Dense) and weighs > 0:
            mean = mine / weighs
            if room.shape != features.values.T.shape:
                room = np.empty(features.values.T.shape)
            away = np.subtract(features.values.T, mean[:, None], out=room)
            squares += np.multiply(away, away, out=room) @ weight
            if total > 0:
                squares += (mean - sums / total) ** 2 * (total * weighs / (total + weighs))
        elif not isinstance(features, Dense):
            squares += features.squared(weight)
        total += weighs
        sums += mine
    (together,) = blocks.group.sum(sums)
    mean = together / blocks.total
    if blocks.dense and total > 0:
        squares += total * (sums / total - mean) ** 2
    (squares,) = blocks.group.sum(squares)
    return mean, squares if blocks.dense else squares - blocks.total * mean**2
