"""Trainings: a function that runs in several workers at once, from bundle to bundle.

Each of the workers has a part of the rows, in a file that all of them map into their memory. Where
the function has to know what all of them have, the bundle ends with what this worker has, and
the next one brings the answer; meanwhile the function waits in a thread of its own.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ._calls import called
from ._clock import CLOCK
from ._errors import Failure
from ._whole import Whole

if TYPE_CHECKING:
    from ._task import Task

#: The name of the table that has the rows.
ROWS = "rows"
DONE, LOST = "done", "lost"
_ANSWER_FIELDS = 2


class Share:
    """A worker's share of a training, which its function is given.

    Attributes
    ----------
    path : str
        A file of Arrow's with all rows.
    rank, size : int
        The worker's number, from 0, and how many there are.
    cache_bytes : int
        How much of its rows the worker may keep in memory.
    exchange : callable
        Is given a kind, "sum", "least", "largest" or "gather", and bytes; gives what the engine
        makes of the bytes of all workers.
    """

    __slots__ = ("cache_bytes", "exchange", "path", "rank", "size")

    def __init__(self, path: str, start: str, exchange: Callable[[str, bytes], bytes]) -> None:
        said = json.loads(start)
        self.path = path
        self.rank: int = said["rank"]
        self.size: int = said["size"]
        self.cache_bytes: int = said["cache_bytes"]
        self.exchange = exchange


class _Abandoned(BaseException):
    """Ends a function that nobody waits for any more."""


class _Running:
    """A function that runs in a thread, and stops to ask."""

    def __init__(self, run: Callable[[Callable[[str, bytes], bytes]], Any]) -> None:
        self._run = run
        self._said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._answers: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="alink-training", daemon=True)
        #: The step whose answer it waits for.
        self.step = 1

    def start(self) -> tuple[str, Any]:
        """Run the function until it asks or ends; "raised" brings an exception."""
        self._thread.start()
        return self._wait()

    def go_on(self, answer: bytes) -> tuple[str, Any]:
        """Give the function its answer, and run it until it asks or ends."""
        self.step += 1
        self._answers.put(answer)
        return self._wait()

    def abandon(self) -> None:
        """End the function, which is asking."""
        self._answers.put(None)
        self._thread.join()

    def _wait(self) -> tuple[str, Any]:
        CLOCK.thread = self._thread.ident
        before = CLOCK.python()
        try:
            return self._said.get()
        finally:
            CLOCK.to(before)
            CLOCK.thread = None

    def _work(self) -> None:
        try:
            result = self._run(self._ask)
        except _Abandoned:
            return
        except BaseException as exception:
            self._said.put(("raised", exception))
        else:
            self._said.put((DONE, result))

    def _ask(self, kind: str, mine: bytes) -> bytes:
        self._said.put((kind, mine))
        answer = self._answers.get()
        if answer is None:
            raise _Abandoned
        return answer


class Train(Whole):
    """The function goes one step further with each bundle."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._answer = task.output
        self._output = pa.schema(list(task.output)[_ANSWER_FIELDS:])
        self._running: _Running | None = None

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            step, body = batch.column(0)[0].as_py(), batch.column(1)[0].as_py()
            if step <= 0:
                self._leave()
            if step < 0:
                continue
            if step == 0:
                kind, said = self._begin(function, body)
            elif self._running is not None and self._running.step == step:
                kind, said = self._running.go_on(body)
            else:
                kind, said = LOST, b""
            yield from self._said(kind, said)

    def _begin(self, function: Callable[..., Any], start: bytes) -> tuple[str, Any]:
        path = self._tables[ROWS]
        # One alone has nobody to ask.
        alone = Share(path, start.decode(), _refuse)
        if alone.size == 1:
            return DONE, called(self._name, self._form, function, (alone,))

        def run(ask: Callable[[str, bytes], bytes]) -> Any:
            share = Share(path, start.decode(), ask)
            if share.rank == 0:
                return function(share)
            # What the others print and give is what the first one does.
            with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
                function(share)
            return None

        self._running = _Running(run)
        return self._running.start()

    def _leave(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.abandon()

    def _said(self, kind: str, said: Any) -> Iterator[pa.RecordBatch]:
        if kind == "raised":
            self._running = None

            def fail(*_: Any) -> Any:
                raise said

            called(self._name, self._form, fail, ())
        elif kind == DONE:
            self._running = None
            for batch in self._results(lambda result: result, said):
                kinds = pa.array([DONE] * batch.num_rows, pa.string())
                none = pa.nulls(batch.num_rows, self._answer.field(1).type)
                yield pa.RecordBatch.from_arrays([kinds, none, *batch.columns], schema=self._answer)
        else:
            columns = [pa.array([kind], pa.string()), pa.array([said], self._answer.field(1).type)]
            columns += [pa.nulls(1, field.type) for field in self._output]
            yield pa.RecordBatch.from_arrays(columns, schema=self._answer)


def _refuse(kind: str, mine: bytes) -> bytes:
    raise Failure("protocol", f"a worker that trains alone asks for {kind} of {len(mine)} bytes")
