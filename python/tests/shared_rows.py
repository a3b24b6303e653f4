"""Trainings whose rows are shared by several workers, as threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from alink._algorithms._chain import _task
from alink._algorithms._group import Group


class _Part(Group):
    """The part of the rows that one of the workers has."""

    def __init__(self, batches: Sequence[pa.RecordBatch], rank: int, start: int, all_: _All):
        super().__init__(batches)
        self.rank, self.size = rank, all_.size
        self._start, self._all = start, all_

    def numbered(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        for start, batch in super().numbered():
            yield self._start + start, batch

    def sum(self, *arrays: Any) -> Any:
        return tuple(np.sum(given, axis=0) for given in self._exchanged(arrays))

    def least(self, array: Any) -> Any:
        return np.min(self._exchanged([array])[0], axis=0)

    def largest(self, array: Any) -> Any:
        return np.max(self._exchanged([array])[0], axis=0)

    def gather(self, value: bytes) -> list[bytes]:
        return self._all.exchange(self.rank, value)

    def _exchanged(self, arrays: Any) -> Any:
        given = self._all.exchange(self.rank, [np.asarray(array, np.float64) for array in arrays])
        return list(zip(*given, strict=True))


class _All:
    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=30)
        self._given: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self._given[rank] = value
        self._barrier.wait()
        found = list(self._given)
        self._barrier.wait()
        return found


def train(task: str, params: Any, rows: pa.Table, workers: int = 1, batch: int = 1000) -> pa.Table:
    """Train on rows that so many workers share; the model is the same in all of them."""
    all_ = _All(workers)
    cuts = np.linspace(0, len(rows), workers + 1).astype(int)
    models: list[Any] = [None] * workers

    def work(rank: int) -> None:
        own = rows.slice(cuts[rank], cuts[rank + 1] - cuts[rank])
        part = _Part(own.to_batches(max_chunksize=batch), rank, int(cuts[rank]), all_)
        try:
            models[rank] = _task(task)(params)(part)
        except BaseException as error:  # noqa: BLE001 it is raised where the models are taken
            models[rank] = error
            all_._barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        if isinstance(model, BaseException) and not isinstance(model, threading.BrokenBarrierError):
            raise model
    assert all(model.equals(models[0]) for model in models)
    return models[0]
