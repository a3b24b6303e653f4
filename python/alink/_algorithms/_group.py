"""The rows of a training, as each of the workers that share them sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Array = npt.NDArray[np.float64]


class Group:
    """Workers that train a model together: the rows of one of them, and what all of them know.

    Each worker has a part of the rows and runs the same program. Where a sum over all rows is
    needed, each adds up its own and calls `sum`, which gives all of them the same total; so all
    of them take the same decisions and come to the same model, which the first one gives. They
    have to call `sum`, `least`, `largest` and `gather` in the same order, and whether they call
    one must not depend on their own rows.

    Parameters
    ----------
    batches : iterable of RecordBatch
        The worker's rows.

    Attributes
    ----------
    rank : int
        The worker's number, from 0.
    size : int
        How many workers there are.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self.rank = 0
        self.size = 1
        self._batches = list(batches)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Give the worker's rows; they may be read again and again."""
        return iter(self._batches)

    def numbered(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Give the worker's rows with the number, among all rows, of each batch's first row."""
        start = 0
        for batch in self._batches:
            yield start, batch
            start += batch.num_rows

    def sum(self, *arrays: Any) -> tuple[_Array, ...]:
        """Add up arrays, or numbers, over all workers; they have the same shapes in each."""
        return tuple(np.asarray(array, np.float64) for array in arrays)

    def least(self, array: Any) -> _Array:
        """Give the least of each element over all workers."""
        return np.asarray(array, np.float64)

    def largest(self, array: Any) -> _Array:
        """Give the largest of each element over all workers."""
        return np.asarray(array, np.float64)

    def gather(self, value: bytes) -> list[bytes]:
        """Give what each worker has, in the order of their numbers."""
        return [value]
