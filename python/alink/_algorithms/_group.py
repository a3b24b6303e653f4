"""The rows of a training, as each of the workers that share them sees them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Array = npt.NDArray[np.float64]
_LENGTH_BYTES = 8


class Share(Protocol):
    """What a worker is told of its share: see ``alink._worker._training.Share``."""

    path: str
    rank: int
    size: int
    cache_bytes: int

    def exchange(self, kind: str, mine: bytes) -> bytes:
        """Give what all workers have of what each of them has."""
        ...


class Group:
    """Workers that train a model together: the rows of one of them, and what all of them know.

    Each worker has a part of the rows and runs the same program. Where a sum over all rows is
    needed, each adds up its own and calls `sum`, which gives all of them the same total; so all
    of them take the same decisions and come to the same model, which the first one gives. They
    have to call `sum`, `least`, `largest` and `gather` in the same order, and whether they call
    one must not depend on their own rows.

    Parameters
    ----------
    share : Share
        What the worker has of the rows, and whom it asks.

    Attributes
    ----------
    rank : int
        The worker's number, from 0.
    size : int
        How many workers there are.
    cache_bytes : int
        How many bytes of its rows the worker may keep in memory. Beyond that it reads them again,
        from a file that is mapped into memory.
    """

    def __init__(self, share: Share) -> None:
        self.rank = share.rank
        self.size = share.size
        self.cache_bytes = share.cache_bytes
        self._share = share

    @classmethod
    def of(cls, rows: pa.Table) -> Group:
        """Give a group of one, which has the rows of a table, within this process."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        group = cls.__new__(cls)
        group.rank, group.size, group.cache_bytes = 0, 1, sink.tell()
        group._file = pa.ipc.open_file(sink.getvalue())
        return group

    @functools.cached_property
    def _file(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(self._share.path))

    def unmap(self) -> None:
        """Let go of the rows' memory, until they are read again: they lie in a file."""
        if "_share" in vars(self):
            for name in ("_file", "_parts"):
                vars(self).pop(name, None)

    def alone(self) -> Group:
        """Give a group of this worker alone, which has all rows."""
        if self.size == 1:
            return self
        group = Group(self._share)
        group.rank, group.size = 0, 1
        return group

    @functools.cached_property
    def rows_of_all(self) -> int:
        """The number of the rows of all workers."""
        return sum(self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches))

    @functools.cached_property
    def _parts(self) -> list[tuple[int, pa.RecordBatch]]:
        """The worker's rows as they lie in the file, with the number of each one's first row."""
        batches = [self._file.get_batch(i) for i in range(self._file.num_record_batches)]
        begin, end = (self.rows_of_all * rank // self.size for rank in (self.rank, self.rank + 1))
        parts: list[tuple[int, pa.RecordBatch]] = []
        start = 0
        for batch in batches:
            first, last = max(begin, start), min(end, start + batch.num_rows)
            if first < last:
                parts.append((first, batch.slice(first - start, last - first)))
            start += batch.num_rows
        return parts

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return self._file.schema

    def __len__(self) -> int:
        """Give the number of the worker's rows."""
        return sum(batch.num_rows for _, batch in self._parts)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Give the worker's rows; they may be read again and again."""
        return (batch for _, batch in self._parts)

    def numbered(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Give the worker's rows with the number, among all rows, of each batch's first row."""
        return iter(self._parts)

    def sum(self, *arrays: Any) -> tuple[_Array, ...]:
        """Add up arrays, or numbers, over all workers; they have the same shapes in each."""
        return self._reduced("sum", arrays)

    def least(self, array: Any) -> _Array:
        """Give the least of each element over all workers; NaN where one has NaN."""
        return self._reduced("least", (array,))[0]

    def largest(self, array: Any) -> _Array:
        """Give the largest of each element over all workers; NaN where one has NaN."""
        return self._reduced("largest", (array,))[0]

    def gather(self, value: bytes) -> list[bytes]:
        """Give what each worker has, in the order of their numbers."""
        if self.size == 1:
            return [value]
        whole = self._share.exchange("gather", value)
        parts: list[bytes] = []
        end = 0
        for _ in range(self.size):
            begin = end + _LENGTH_BYTES
            end = begin + int.from_bytes(whole[end:begin], "little")
            parts.append(whole[begin:end])
        return parts

    def _reduced(self, kind: str, arrays: tuple[Any, ...]) -> tuple[_Array, ...]:
        mine = [np.asarray(array, np.float64) for array in arrays]
        if self.size == 1:
            return tuple(mine)
        joined = np.concatenate([array.ravel() for array in mine]) if mine else np.empty(0)
        body = self._share.exchange(kind, joined.astype("<f8", copy=False).tobytes())
        whole = np.frombuffer(body, "<f8").astype(np.float64)
        totals: list[_Array] = []
        at = 0
        for array in mine:
            totals.append(whole[at : at + array.size].reshape(array.shape))
            at += array.size
        return tuple(totals)
