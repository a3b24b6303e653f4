"""Groups of workers within the test: threads that train together, as the engine's workers do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from alink._algorithms._group import Group


class _Meeting:
    """Where the threads meet: each brings bytes, all get what the engine would make of them."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=60)
        self._brought: list[tuple[str, bytes]] = [("", b"")] * size

    def exchange(self, rank: int, kind: str, mine: bytes) -> bytes:
        self._brought[rank] = kind, mine
        self._barrier.wait()
        kinds = {kind for kind, _ in self._brought}
        parts = [part for _, part in self._brought]
        self._barrier.wait()
        assert len(kinds) == 1, f"the workers wait for different things: {kinds}"
        if kind == "gather":
            return b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        numbers = [np.frombuffer(part, "<f8") for part in parts]
        assert len({len(n) for n in numbers}) == 1, "the workers bring different numbers"
        reduce = {"sum": np.add, "least": np.minimum, "largest": np.maximum}[kind]
        return reduce.reduce(numbers).tobytes()

    def leave(self) -> None:
        self._barrier.abort()


class _Share:
    def __init__(self, path: str, rank: int, size: int, cache: int, meeting: _Meeting) -> None:
        self.path, self.rank, self.size, self.cache_bytes = path, rank, size, cache
        self._meeting = meeting

    def exchange(self, kind: str, mine: bytes) -> bytes:
        return self._meeting.exchange(self.rank, kind, mine)


def train(
    training: Callable[[Group], pa.Table],
    rows: pa.Table,
    size: int = 1,
    *,
    batch_rows: int | None = None,
    cache_bytes: int = 1 << 30,
) -> Any:
    """Run a training in so many workers over rows; give what the first one gives.

    Parameters
    ----------
    batch_rows : int, optional
        The largest number of rows in a batch.
    cache_bytes : int
        How much of its rows each worker may keep in memory.
    """
    meeting = _Meeting(size)
    results: list[Any] = [None] * size
    failures: list[BaseException] = []

    def work(rank: int, path: str) -> None:
        try:
            results[rank] = training(Group(_Share(path, rank, size, cache_bytes, meeting)))
        except BaseException as error:  # noqa: BLE001 it is raised below
            failures.append(error)
            meeting.leave()

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.arrow")
        with pa.ipc.new_file(path, rows.schema) as writer:
            for batch in rows.to_batches(max_chunksize=batch_rows):
                writer.write_batch(batch)
        threads = [threading.Thread(target=work, args=(i, path)) for i in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for error in sorted(failures, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return results[0]
