"""The rows of a training as points of a space, in blocks that are read as often as needed."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._arrays import numpy_of
from ._course import Course
from ._group import Group
from ._moments import numbers
from ._nearest import ROUNDING, Array, Block, Dense
from ._random import uniform
from ._spaces import Space
from ._strings import Unreadable
from ._types import VECTOR
from ._vectors import Vectors, read_vectors

_BLOCK_ROWS = 2**16
#: A sample of the rows is this large at most, over all workers.
_SAMPLE_ROWS = 2**15
_SAMPLE_BYTES = 2**26
#: Vectors with more of their values than this share are kept dense.
_DENSE_SHARE = 0.25
_MATRIX_VALUES_MAX = 2**28

Numbers = npt.NDArray[np.int64]


@dataclass
class Part:
    """Some rows.

    Attributes
    ----------
    numbers : array of int64
        Their numbers among all rows.
    rows : array, shape (n, d), or Vectors
        Without NULL.
    """

    numbers: Numbers
    rows: Array | Vectors

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        if isinstance(self.rows, Vectors):
            return 12 * len(self.rows.values) + 24 * len(self.numbers)
        return self.rows.nbytes + 8 * len(self.numbers)


class Reader:
    """Reads batches: a column of vectors, or several of numbers.

    Rows with a NULL are left out; NaN and infinite values are refused.

    Parameters
    ----------
    vector : str or None
    columns : sequence of str
        Where there is no vector.
    """

    def __init__(self, vector: str | None, columns: Sequence[str] = ()) -> None:
        self.vector = vector
        self.columns = list(columns)

    @property
    def names(self) -> str:
        """What it reads, for messages."""
        names = self.columns if self.vector is None else [self.vector]
        return ", ".join(repr(name) for name in names)

    def read(self, start: int, batch: pa.RecordBatch) -> Part:
        """Read the rows of a batch, the first of which has a number."""
        rows, known = self.values(batch)
        places = np.arange(start, start + batch.num_rows)
        if known is not None:
            places = places[known]
            rows = taken(rows, known)
        flat = rows.values if isinstance(rows, Vectors) else rows
        if not np.isfinite(flat).all():
            raise Unreadable(
                f"{self.names} has NaN or infinite values: fill or leave out those rows"
            )
        if isinstance(rows, Vectors) and rows.indices is None and len(rows):
            size = int(rows.lengths[0])
            if (rows.lengths == size).all():  # they are a matrix where they lie
                rows = rows.matrix(size)
        return Part(places, rows)

    def values(self, batch: pa.RecordBatch) -> tuple[Array | Vectors, npt.NDArray[Any] | None]:
        """Give the rows of a batch, and which are not NULL; None stands for all."""
        if self.vector is not None:
            vectors = read_vectors(batch, self.vector)
            return vectors, vectors.valid
        values = numbers(batch, self.columns)
        missing = np.zeros(batch.num_rows, np.bool_)
        for name in self.columns:
            column = batch.column(name)
            if column.null_count:
                missing |= numpy_of(column.is_null())
        return values, ~missing if missing.any() else None

    def sound(self, batch: pa.RecordBatch) -> tuple[Array | Vectors, Numbers]:
        """Give the rows of a batch without NULL, NaN and infinite values, and their places."""
        rows, known = self.values(batch)
        places = np.arange(batch.num_rows) if known is None else np.flatnonzero(known)
        if known is not None:
            rows = taken(rows, places)
        fine = _finite(rows)
        if not fine.all():
            rows, places = taken(rows, fine), places[fine]
        return rows, places

    def matrix(self, rows: Array | Vectors, size: int) -> Array:
        """Give rows as a dense matrix; those of another size are refused."""
        if not isinstance(rows, Vectors):
            if rows.shape[1] != size:
                raise Unreadable(
                    f"column {self.vector!r}: a vector of size {rows.shape[1]} stands where size "
                    f"{size} is expected"
                )
            return rows
        try:
            return rows.matrix(size)
        except Unreadable as error:
            raise Unreadable(f"column {self.vector!r}: {error}") from None


def _finite(rows: Array | Vectors) -> Any:
    """Tell which rows have no NaN and nothing infinite."""
    if not isinstance(rows, Vectors):
        return np.isfinite(rows).all(axis=1)
    wrong = ~np.isfinite(rows.values)
    fine = np.ones(len(rows), np.bool_)
    fine[rows.rows_of_values[wrong]] = False
    return fine


def taken(rows: Array | Vectors, which: npt.NDArray[Any]) -> Array | Vectors:
    """Give some rows: by their places, or a flag for each row."""
    if not isinstance(rows, Vectors):
        return rows[which]
    places = np.flatnonzero(which) if which.dtype == np.bool_ else which
    lengths = rows.lengths[places]
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    at = np.repeat(rows.offsets[places] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Vectors(
        offsets,
        rows.values[at],
        None if rows.indices is None else rows.indices[at],
        rows.sizes[places],
        rows.dense[places],
    )


@dataclass
class Numbered:
    """A block of points.

    Attributes
    ----------
    numbers : array of int64
        Of its rows, among all rows.
    block : Block
    """

    numbers: Numbers
    block: Block


class Points:
    """The points of a worker, and what all workers know of theirs.

    They are kept in memory as far as the worker may; beyond it each pass reads the rows again.

    Parameters
    ----------
    group : Group
    reader : Reader
    space : Space
    dense : bool, default False
        Make dense points of sparse vectors too.

    Attributes
    ----------
    count : int
        How many rows there are.
    size : int
        Of the vectors.
    origin : array, shape (size,)
        Where the points have their zero.
    """

    def __init__(
        self,
        group: Group,
        reader: Reader,
        space: Space,
        *,
        dense: bool = False,
    ) -> None:
        self.group = group
        self.space = space
        self._reader = reader
        self._parts = self._survey()
        self._dense = dense or self._filled > _DENSE_SHARE * self.count * self.size
        self.origin = np.zeros(self.size)
        if self._dense and space.centred and self.count:
            self._find_origin()
        self._blocks: list[Numbered] | None = None
        if self._parts is not None and (
            not self._dense or self._rows * (self.size + 1) * 8 <= group.cache_bytes
        ):
            self._blocks = list(self._made())
        self._parts = None

    def _survey(self) -> list[Part] | None:
        """Count rows and values, and find the size; give what is read, where it may be kept."""
        parts: list[Part] | None = []
        self._rows = values = held = 0
        size = -1
        for part in self._reading():
            rows = part.rows
            self._rows += len(part.numbers)
            if isinstance(rows, Vectors):
                values += len(rows.values)
                size = max(size, rows.known_size)
            else:
                values += rows.size
                size = max(size, rows.shape[1])
            held += part.bytes
            if parts is not None:
                parts.append(part)
            if held > self.group.cache_bytes:
                parts = None
        totals = self.group.sum(self._rows, values)
        self.count, self._filled = int(totals[0]), int(totals[1])
        self.size = max(int(self.group.largest(size)), 0)
        return parts

    def _reading(self) -> Iterator[Part]:
        for start, batch in self.group.numbered():
            for at in range(0, batch.num_rows, _BLOCK_ROWS):
                yield self._reader.read(start + at, batch.slice(at, _BLOCK_ROWS))

    def _find_origin(self) -> None:
        total = np.zeros(self.size)
        for part in self._reading() if self._parts is None else self._parts:
            total += self._reader.matrix(part.rows, self.size).sum(axis=0)
        self.origin = self.group.sum(total)[0] / self.count

    def _made(self) -> Iterator[Numbered]:
        if self._parts is None:
            yield from map(self._block, self._reading())
            return
        waiting, self._parts = self._parts, None
        waiting.reverse()
        while waiting:  # what is made into blocks is given up
            yield self._block(waiting.pop())

    def _block(self, part: Part) -> Numbered:
        return Numbered(part.numbers, self._made_of(part.rows))

    def _made_of(self, rows: Array | Vectors) -> Block:
        if self._dense or not isinstance(rows, Vectors):
            matrix = self._reader.matrix(rows, self.size)
            return self.space.dense(matrix, self.origin)
        wrong = rows.dense & (rows.lengths != self.size)
        rows.refuse(wrong, f"of column {self._reader.vector!r} has not size {self.size}")
        return self.space.sparse(rows, self.size)

    def __iter__(self) -> Iterator[Numbered]:
        """Give the worker's points; they may be asked for again and again."""
        return self._made() if self._blocks is None else iter(self._blocks)

    def courses(self) -> list[Course] | None:
        """Give Lloyd's iterations over the worker's blocks, where they are such as have them."""
        if self._blocks is None or not self.space.straight:
            return None
        blocks = [item.block for item in self._blocks]
        dense = [block for block in blocks if isinstance(block, Dense)]
        return [Course(block) for block in dense] if len(dense) == len(blocks) else None

    def farthest(self, centres: Array, wanted: int) -> Array:
        """Give up to so many different points, of all workers, those farthest from the centres.

        None of them is a centre.
        """
        best = (np.empty(0), np.empty(0, np.int64), np.empty((0, self.size)))
        for item in self:
            squares = item.block.nearest(self.space.places(centres))[1]
            # Rows that are equal are as far as each other: more than are wanted are kept.
            near = np.argsort(-squares, kind="stable")[: 4 * wanted]
            near = near[squares[near] > 0]
            kept = (squares[near], item.numbers[near], item.block.rows(near))
            best = _largest(best, kept, 4 * wanted)
        for squares, places, rows in map(_unpacked, self.group.gather(_packed(*best))):
            best = _largest(best, (squares, places, rows), 4 * wanted * self.group.size)
        return distinct(best[2], wanted)

    def sample(self, seed: int, least: int) -> Sample:
        """Draw rows of all workers, the same in each: all of them where they are few.

        Parameters
        ----------
        seed : int
        least : int
            More than so many are drawn, where there are as many.
        """
        each = 8 * max(1, self.size if self._dense else self._filled // max(self.count, 1))
        wanted = max(min(_SAMPLE_ROWS, _SAMPLE_BYTES // each), 2 * least)
        share = 1.0 if self.count <= wanted else wanted / self.count
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, _SAMPLE_SCHEMA) as writer:
            for start, batch in self.group.numbered():
                places = np.arange(start, start + batch.num_rows)
                drawn = np.flatnonzero(uniform(seed, 0, places) < share)
                part = self._reader.read(0, batch.take(pa.array(drawn)))
                rows = part.rows if isinstance(part.rows, Vectors) else Vectors.of_matrix(part.rows)
                arrays = [pa.array(places[drawn[part.numbers]]), rows.to_arrow()]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SAMPLE_SCHEMA))
        table = pa.concat_tables(
            pa.ipc.open_stream(text).read_all() for text in self.group.gather(sink.getvalue())
        )
        # Workers have their rows, as these lie, one after the other.
        places = numpy_of(table.column("number"))
        vectors = Vectors.of(pa.concat_arrays([*table.column("row").chunks, _NO_ROWS]))
        rows = vectors if self._reader.vector is not None else vectors.matrix(self.size)
        return Sample(places, self._made_of(rows), self.space, share == 1.0)


_SAMPLE_SCHEMA = pa.schema([("number", pa.int64()), ("row", VECTOR)])
_NO_ROWS = pa.array([], VECTOR)


@dataclass
class Sample:
    """Rows that all workers know.

    Attributes
    ----------
    numbers : array of int64
    block : Block
    space : Space
    whole : bool
        Whether they are all rows.
    """

    numbers: Numbers
    block: Block
    space: Space
    whole: bool

    def __len__(self) -> int:
        return len(self.numbers)

    def course(self) -> Course | None:
        """Give Lloyd's iterations over the points, where they are such as have them."""
        if isinstance(self.block, Dense) and self.space.straight:
            return Course(self.block)
        return None

    @functools.cached_property
    def _squares(self) -> Array:
        return self.block.squared()

    def apart(self, centres: Array) -> Array:
        """Give the squared distances of the points from centres, shape (k, n)."""
        places = self.space.places(centres)
        own = self._squares + np.einsum("ij,ij->i", places, places)[:, None]
        squares = own - 2 * self.block.products(places).T
        return np.where(squares <= ROUNDING * own, 0.0, squares)


def distinct(rows: Array, wanted: int) -> Array:
    """Give the first rows that differ from one another, up to so many."""
    kept: list[int] = []
    seen: set[bytes] = set()
    for place, row in enumerate(rows + 0.0):  # −0 is 0
        if len(kept) == wanted:
            break
        if (key := row.tobytes()) not in seen:
            seen.add(key)
            kept.append(place)
    return rows[kept]


_Found = tuple[Array, Numbers, Array]


def _largest(one: _Found, other: _Found, wanted: int) -> _Found:
    squares = np.concatenate((one[0], other[0]))
    places = np.concatenate((one[1], other[1]))
    rows = np.concatenate((one[2], other[2]))
    order = np.lexsort((places, -squares))[:wanted]
    return squares[order], places[order], rows[order]


def _packed(squares: Array, places: Numbers, rows: Array) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, squares=squares, places=places, rows=rows)
    return sink.getvalue()


def _unpacked(text: bytes) -> _Found:
    with np.load(io.BytesIO(text), allow_pickle=False) as found:
        return found["squares"], found["places"], found["rows"]


def all_rows(group: Group, reader: Reader) -> tuple[Numbers, Array]:
    """Give all rows as a dense matrix, with their numbers, in a training of one worker.

    Raises
    ------
    Unreadable
        If they are too many to be dense.
    """
    parts = [reader.read(start, batch) for start, batch in group.numbered()]
    known = [part.rows.known_size if isinstance(part.rows, Vectors) else part.rows.shape[1]
             for part in parts]  # fmt: skip
    size = max(known, default=0)
    count = sum(len(part.numbers) for part in parts)
    if count * size > _MATRIX_VALUES_MAX:
        raise Unreadable(
            f"{reader.names} has {count} rows of size {size}, which is too much for one dense "
            "matrix: take fewer rows, or reduce their size first"
        )
    places = [np.empty(0, np.int64), *(part.numbers for part in parts)]
    matrices = [reader.matrix(part.rows, size) for part in parts if len(part.numbers)]
    return np.concatenate(places), np.concatenate([np.empty((0, size)), *matrices])


def points_of(group: Group, params: Mapping[str, Any], space: Space, **more: Any) -> Points:
    """Read the points that a training's parameters name."""
    vector = params.get("vectorCol")
    columns = [] if vector is not None else [params["latitudeCol"], params["longitudeCol"]]
    return Points(group, Reader(vector, columns), space, **more)
