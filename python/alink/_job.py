"""Jobs: running a plan, following it, reading its rows."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from alink import _codes as codes
from alink._diag import Diagnostic
from alink._engine import Background, Engine
from alink._errors import Error, error_of, failure, without_our_frames
from alink._plan import Node, build_plan
from alink._progress import Display, Progress

if TYPE_CHECKING:
    from alink._connection import Context
    from alink._table import Table

_POLL_S = 0.1
_CANCEL_TIMEOUT_S = 2.0
_END_TIMEOUT_S = 2.0  # from the end of a job's rows to the news of its end
_BATCHES_AHEAD_MAX = 4  # read before the caller asks for them
# Results of one job that are read at once. An engine takes so many calls of a connection and no
# more: what is read first might wait for one that has to wait for it.
_STREAMS_MAX = 16

RUNNING, SUCCEEDED, FAILED, CANCELLED = "running", "succeeded", "failed", "cancelled"


class Job:
    """A job of the engine, as ``write_parquet(…, wait=False)`` gives it."""

    def __init__(
        self,
        engine: Engine,
        root: Node,
        quiet: bool = False,
        detached: bool = False,
        ahead: bool = False,
    ) -> None:
        display = Display(quiet=quiet)
        plan = build_plan(root, shares_machine=engine.shares_machine, sandbox=engine.sandbox)
        self._profiling = engine.profiling
        if self._profiling is not None:
            plan.json["profile"] = True
        engine.prepare(plan)
        self._engine = engine
        self._context = engine.owner()  # an engine ends with its context
        self._root = root  # keeps uploaded tables alive while the job reads them
        self._outputs = plan.outputs
        self._display = display
        self._ended = threading.Event()
        self._progress = Progress()
        self._state = RUNNING
        self._error: Error | None = None
        self._metrics: dict[str, Any] = {}
        self.id = _submit(engine, {"plan": plan.json, "name": _name(root), "detached": detached})
        self._jobs = engine.note_job(self.id, ahead, plan.keeps_letters)
        self._watcher = Background(self._watch)

    @property
    def state(self) -> str:
        """One of "running", "succeeded", "failed" and "cancelled"."""
        return self._state

    def progress(self) -> Progress:
        """Tell how far the job is."""
        return self._progress

    def metrics(self) -> dict[str, Any]:
        """Give what is measured of a job: its operators, and its checkpoints if it makes any.

        ``operators`` are dicts of what `OperatorProgress` has.
        Of operators that event time passes through, ``watermark`` tells where it is and
        ``lag_s`` how far behind the clock; ``late_rows`` counts what windows left out.
        ``checkpoints`` has ``completed``, ``last``, ``last_duration_ms``, ``last_bytes`` and
        ``restored``, the checkpoint that the job went on from.
        """
        return dict(self._metrics)

    @without_our_frames
    def dead_letters(self, function: str | None = None) -> Table:
        """Give the rows that were left out since a function failed on them.

        They are those of functions with ``on_error="dead_letter"``, as far as the job is; also
        of one that has failed. The engine keeps them as long as it knows the job.

        Parameters
        ----------
        function : str, optional
            The name of a function; by default those of all are put together, by the names of
            their columns.

        Returns
        -------
        Table
            The columns that the row had where the function was called, then ``error_kind``
            ("exception", "time limit", "memory limit", "signal", "exit", "killed" or "lost
            connection"), ``error_type`` and ``error_message`` of the exception or, of a
            worker's death, what happened; ``error_function``, ``error_row``, the row's number
            in the input of the function; ``error_worker`` and ``error_time``.
        """
        from alink._letters import dead_letters

        context = cast("Context", self._context)  # a job keeps it
        return dead_letters(context, self._engine, self._jobs, function)

    @without_our_frames
    def cancel(self) -> None:
        """Ask for the job's end. Its outputs do not appear; `result` raises `Cancelled`."""
        if not self._ended.is_set():
            self._engine.call("cancel", {"job": self.id})

    @without_our_frames
    def result(self, timeout_s: float | None = None) -> None:
        """Wait for the job's end.

        Parameters
        ----------
        timeout_s : float, optional
            Longest time to wait in seconds; then a `TimeoutError` is raised and the job
            goes on.

        Raises
        ------
        Error
            Why the job failed, or `Cancelled`.
        KeyboardInterrupt
            On Ctrl-C; the job has been cancelled then.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._cancelled_on_interrupt():
            while not self._ended.wait(_POLL_S):
                self._check()
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"job {self.id} has not ended within {timeout_s} s")
        if self._error is not None:
            raise self._error

    def batches(self) -> tuple[pa.Schema, Generator[pa.RecordBatch]]:
        """Give the schema and the rows of a job that collects one table.

        The rows are complete only when the iterator ends without an exception. A caller
        that gives the iterator up cancels the job.
        """
        stream = _RowStream(self._engine, self.id, self._outputs[0])
        with self._cancelled_on_interrupt(), self._explained(stream):
            schema = stream.schema(self._check)
        rows = self._iterate(stream)
        # A generator that was never begun runs no code when it is given up.
        weakref.finalize(rows, self._give_up, stream).atexit = False
        return schema, rows

    def tables(self, outputs: Sequence[int]) -> list[pa.Table]:
        """Give the rows of a job that collects several tables, and wait for its end.

        Parameters
        ----------
        outputs : sequence of int
            Which of the job's outputs are collected, by their places.
        """
        names = deque(self._outputs[i] for i in outputs)
        streams: deque[_RowStream] = deque()
        tables: list[pa.Table] = []
        complete = False
        try:
            with self._cancelled_on_interrupt():
                while names or streams:
                    while names and len(streams) < _STREAMS_MAX:
                        streams.append(_RowStream(self._engine, self.id, names.popleft()))
                    tables.append(self._read(streams[0]))
                    streams.popleft()
                self.result()
                complete = True
            return tables
        finally:
            if not complete:
                for stream in streams:
                    stream.close()
                self._cancel_quietly()

    def _read(self, stream: _RowStream) -> pa.Table:
        with self._explained(stream):
            schema = stream.schema(self._check)
            batches: list[pa.RecordBatch] = []
            while (batch := stream.next(self._check)) is not None:
                batches.append(batch)
        return pa.Table.from_batches(batches, schema)

    def _give_up(self, stream: _RowStream) -> None:
        if not self._ended.is_set():
            stream.close()
            self._cancel_quietly()

    def _iterate(self, stream: _RowStream) -> Generator[pa.RecordBatch]:
        complete = False
        try:
            with self._cancelled_on_interrupt(), self._explained(stream):
                while (batch := stream.next(self._check)) is not None:
                    yield batch
                self.result()
                complete = True
        finally:
            if not complete:
                stream.close()
                self._cancel_quietly()

    def _check(self) -> None:
        """Raise `ConnectionLost` if the engine has gone before the job ended."""
        if not self._ended.is_set():
            self._engine.check()

    @contextlib.contextmanager
    def _explained(self, stream: _RowStream) -> Generator[None]:
        """Prefer the job's own diagnostic to the text of a broken stream."""
        try:
            yield
            return
        except (pa.ArrowException, OSError) as error:
            broken = error
        # Raised out here: "from None" would take the user's own exception, its cause.
        if self._ended.wait(_END_TIMEOUT_S) and self._error is not None:
            raise self._error
        with self._engine.translated("read the rows"):
            raise broken

    @contextlib.contextmanager
    def _cancelled_on_interrupt(self) -> Generator[None]:
        """Cancel the job on Ctrl-C and wait a moment for its end."""
        try:
            yield
        except KeyboardInterrupt:
            self._cancel_quietly()
            self._ended.wait(_CANCEL_TIMEOUT_S)
            self._display.finish()
            raise

    def _cancel_quietly(self) -> None:
        """Cancel without waiting for the answer, and without an exception."""
        if self._ended.is_set() or not self._engine.usable:
            return
        body = json.dumps({"job": self.id}).encode()
        Background(lambda: self._engine.call_blocking("cancel", body))

    def _watch(self) -> None:
        """Follow the job until it ends, in a background thread."""
        try:
            for event in self._engine.stream_blocking("watch", self._watch_body()):
                if "progress" in event:
                    self._progress = Progress.from_json(event["progress"])
                    self._metrics = event["progress"]
                    self._display.update(self._progress)
                elif "log" in event:
                    self._display.log(event["log"].get("function", ""), event["log"]["text"])
                elif "end" in event:
                    self._note_end(event["end"])
                elif "error" in event:
                    raise error_of(Diagnostic.from_json(event["error"]))
            if self._state == RUNNING:
                raise failure(codes.INTERNAL, f"the engine stopped telling of job {self.id}")
        except Error as error:
            if self._state == RUNNING:
                self._state, self._error = FAILED, error
        except Exception as error:  # noqa: BLE001 an event that is not of the protocol
            self._state = FAILED
            self._error = failure(
                codes.INTERNAL, "the client cannot read what the engine says", cause=repr(error)
            )
        finally:
            self._display.finish(self._state)
            self._record()
            self._ended.set()

    def _record(self) -> None:
        """Tell ``pyrunner run --json`` of the job's end."""
        if not (path := os.environ.get("ALINK_JOBS_FILE")):
            return
        operators = self._progress.operators
        line = {
            "id": self.id,
            "state": self._state,
            "rows": max(operators[-1].rows_in, operators[-1].rows_out) if operators else 0,
            "elapsed_s": self._progress.elapsed_s,
            "error": None if self._error is None else self._error.diagnostic.to_json(),
        }
        # One write of a file that is only appended to: threads and children may share it.
        with contextlib.suppress(OSError), Path(path).open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def _watch_body(self) -> bytes:
        return json.dumps({"job": self.id}).encode()

    def _note_end(self, end: dict[str, Any]) -> None:
        self._metrics = end.get("metrics") or {}
        if self._profiling is not None:
            self._profiling.add(end.get("profile") or {})
        if error := end.get("error"):
            self._error = error_of(Diagnostic.from_json(error))
        elif end["state"] == CANCELLED:
            self._error = failure(codes.CANCELLED, f"job {self.id} was cancelled")
        elif end["state"] == FAILED:
            self._error = failure(codes.INTERNAL, f"job {self.id} failed without a reason")
        self._state = end["state"]

    def __repr__(self) -> str:
        return f"<alink.Job {self.id} {self._state}>"


def _name(root: Node) -> str:
    """Name a job for lists of jobs: as its stream is called, or by the line that starts it."""
    if checkpoint := root.args.get("checkpoint"):
        return checkpoint["name"]
    if root.origin is None:
        return root.op
    return f"{root.op} ({Path(root.origin.file).name}:{root.origin.line})"


def _submit(engine: Engine, request: dict[str, Any]) -> str:
    """Start a job. On Ctrl-C the job is cancelled although its id is not known yet."""
    body = json.dumps(request).encode()
    engine.check()
    submission = Background(lambda: engine.call_blocking("submit", body))
    try:
        while not submission.wait(_POLL_S):
            engine.check()
    except KeyboardInterrupt:
        if submission.wait(_CANCEL_TIMEOUT_S):
            with contextlib.suppress(Error):
                engine.call("cancel", {"job": submission.result()["job"]})
        raise
    return submission.result()["job"]


class _RowStream:
    """Reads a job's rows in a background thread, a bounded number of batches ahead."""

    def __init__(self, engine: Engine, job: str, output: str) -> None:
        self._engine = engine
        self._job = job
        self._output = output
        self._closed = threading.Event()
        self._items: queue.Queue[pa.Schema | pa.RecordBatch | BaseException | None]
        self._items = queue.Queue(_BATCHES_AHEAD_MAX)
        self._thread = Background(self._read)

    def schema(self, check: Callable[[], None]) -> pa.Schema:
        item = self._get(check)
        assert isinstance(item, pa.Schema)
        return item

    def next(self, check: Callable[[], None]) -> pa.RecordBatch | None:
        """Give the next batch; None at the end."""
        return self._get(check)

    def close(self) -> None:
        """Stop reading. The thread ends by itself."""
        self._closed.set()

    def _get(self, check: Callable[[], None]) -> Any:
        while True:
            try:
                item = self._items.get(timeout=_POLL_S)
            except queue.Empty:
                check()
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def _read(self) -> None:
        try:
            reader = self._engine.rows_blocking(self._job, self._output)
            if not self._put(reader.schema):
                reader.cancel()
                return
            while True:
                try:
                    chunk = reader.read_chunk()
                except StopIteration:
                    break
                if not self._put(chunk.data):
                    reader.cancel()
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 handed to the thread that reads
            self._put(error)

    def _put(self, item: pa.Schema | pa.RecordBatch | BaseException | None) -> bool:
        """Put into the queue; False if nobody reads any more."""
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False
