"""Engines, and the calls to them.

Each `EmbeddedEngine` is one process ``pyrunner engine`` that belongs to this client. It is
reached over Arrow Flight on a private unix socket. Its standard input is a pipe that stays
open: the engine ends when the pipe closes or the client's pidfd becomes readable, so that it
never outlives the client, however the client ends. `alink._remote` has the engine of a server.

Calls block in background threads while the calling thread waits in short steps: the main
thread stays interruptible, and the engine's death is noticed although nothing answers.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import os
import queue
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa

from alink import _codes as codes
from alink._config import setting
from alink._diag import Diagnostic
from alink._environment import environment_to_warm
from alink._errors import ConnectionLost, Error, error_of, failure
from alink._find import find_pyrunner
from alink._plan import Plan

if TYPE_CHECKING:
    from pyarrow import flight

    from alink._flame import Profiling

T = TypeVar("T")

_START_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 3.0
_DEATH_TIMEOUT_S = 1.0  # from a broken connection to the end of its process
_POLL_S = 0.1
_CRASH_LINES = 8
_LOG_BYTES_SHOWN_MAX = 8192
_LOG_LINES_SHOWN_MAX = 4
_READY_BYTES_MAX = 2**20
# A unix socket's path has at most 107 bytes; the engine adds "/engine.sock" and the like.
_RUN_PARENT_CHARS_MAX = 60
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")


@dataclass(frozen=True)
class EngineOptions:
    """What `connect` was told. Zero and None leave the choice to the engine."""

    memory_limit_bytes: int = 0
    worker_memory_bytes: int = 0
    parallelism: int = 0
    spill_dir: str | None = None
    offline: bool = False
    source_builds: bool = True
    sandbox: str = "auto"
    lane: str = "local"
    launcher: str | None = None


# Calls that have not returned. Adding and discarding are atomic.
_RUNNING: set[Background[Any]] = set()


class Background(Generic[T]):
    """A blocking call in a thread of its own.

    The thread is a daemon: a call that never returns doesn't keep the client from ending.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        _RUNNING.add(self)
        threading.Thread(target=self._run, name="alink-call", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 handed to the thread that waits
            self._error = error
        finally:
            self._done.set()
            _RUNNING.discard(self)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the call's end; tell whether it has ended."""
        return self._done.wait(timeout_s)

    def result(self) -> T:
        """Give the result of a call that has ended, or raise its exception."""
        assert self._done.is_set()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Engine:
    """A running engine. All methods may be called from several threads.

    What is common to engines of this process and of servers: the calls. How an engine
    begins, ends and is lost is for the classes below it to say.
    """

    #: Whether the engine sees the client's own files and interpreter.
    shares_machine = True
    #: How the workers of functions that do not say are shut in; None leaves it to the engine.
    sandbox: str | None = None
    _client: flight.FlightClient
    _call_options: flight.FlightCallOptions

    def __init__(self) -> None:
        if _forked_from is not None:
            raise failure(
                codes.CONNECTION_LOST,
                f"this process was forked from process {_forked_from}, which has a connection",
                facts=("gRPC cannot be used on both sides of a fork",),
                hint="connect in the child only, or start it with multiprocessing's spawn",
            )
        self._owner = os.getpid()
        #: The context whose engine this is. Jobs keep it, so that it is not collected, and
        #: the engine closed, while they run.
        self.owner: Callable[[], object | None] = lambda: None
        self._lock = threading.Lock()
        self._closed = False
        self._artifacts: set[str] = set()
        #: Names of uploaded tables that nothing refers to any more. Putting into a
        #: SimpleQueue is allowed in finalizers.
        self.dropped: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        #: The last job that keeps dead letters, with those of the tables that were
        #: computed ahead of it.
        self.last_jobs: list[str] = []
        self._ahead: list[str] = []
        #: What gathers samples of the functions of the jobs that are started.
        self.profiling: Profiling | None = None
        self.pid = 0
        self.version = ""

    def note_job(self, job: str, ahead: bool, keeps: bool) -> list[str]:
        """Note a job that has been started, and give those with its dead letters.

        Parameters
        ----------
        ahead
            It computes a table for the job that follows.
        keeps
            It has functions that keep dead letters.
        """
        with self._lock:
            if ahead:
                self._ahead += [job] * keeps
                return [job]
            jobs, self._ahead = [*self._ahead, job], []
            if keeps or len(jobs) > 1:
                self.last_jobs = jobs
            return jobs

    def _begun(self) -> None:
        """Note that calls are possible from now on."""
        _note_connected(self)
        threading.Thread(target=self._drop_tables, name="alink-drop", daemon=True).start()

    # --- calls ---

    def call(self, name: str, body: dict[str, Any]) -> Any:
        """Call an action that gives one result.

        Raises
        ------
        Error
            What the engine answered, or `ConnectionLost`.
        """
        return self.run(lambda: self.call_blocking(name, json.dumps(body).encode()))

    def run(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread; the calling one stays interruptible."""
        self.check()
        background = Background(work)
        while not background.wait(_POLL_S):
            self.check()
        return background.result()

    def call_blocking(self, name: str, body: bytes) -> Any:
        """Call an action from a background thread."""
        results = list(self.stream_blocking(name, body))
        if not results:
            raise failure(codes.INTERNAL, f"the engine gave no answer to {name}")
        if error := results[0].get("error"):
            raise error_of(Diagnostic.from_json(error))
        return results[0].get("ok")

    def stream_blocking(self, name: str, body: bytes) -> Iterator[dict[str, Any]]:
        """Give the results of an action one by one, from a background thread."""
        from pyarrow import flight

        with self.translated(name):
            for result in self._client.do_action(flight.Action(name, body), self._call_options):
                yield json.loads(result.body.to_pybytes())

    def rows_blocking(
        self, job: str, output: str, letters: int | None = None
    ) -> flight.FlightStreamReader:
        """Open the stream of a job's rows, or of dead letters, from a background thread."""
        from pyarrow import flight

        request: dict[str, Any] = {"job": job, "output": output}
        if letters is not None:
            request["letters"] = letters
        ticket = flight.Ticket(json.dumps(request).encode())
        return self._client.do_get(ticket, self._call_options)

    def put_table(self, name: str, table: pa.Table) -> None:
        """Send a table."""
        from pyarrow import flight

        def put() -> None:
            descriptor = flight.FlightDescriptor.for_path("table", name)
            with self.translated("put-table"):
                writer, _ = self._client.do_put(descriptor, table.schema, self._call_options)
                with writer:
                    writer.write_table(table)

        self.run(put)

    def prepare(self, plan: Plan) -> None:
        """Send what a plan refers to: artifacts and tables that the engine lacks."""
        missing = [a for digest, a in plan.artifacts.items() if digest not in self._artifacts]

        def put() -> None:
            for artifact in missing:
                query = json.dumps({"artifact": artifact.digest}).encode()
                if not self.call_blocking("has-artifact", query):
                    self.call_blocking("put-artifact", artifact.data)

        if missing:
            self.run(put)
            self._artifacts.update(artifact.digest for artifact in missing)
        for upload in plan.uploads:
            upload.ensure(self)
        for cache in plan.caches:
            cache.args["table"].ensure(self, cache)

    def describe(self, plan: Plan) -> pa.Schema:
        """Ask for the schema of a plan's last node."""
        self.prepare(plan)
        answer = self.call("describe", {"plan": plan.json, "node": plan.root})
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))

    def status(self) -> dict[str, Any]:
        """Ask what the engine holds: processes, workers, Arrow memory, jobs."""
        return self.call("status", {})

    @contextlib.contextmanager
    def translated(self, what: str) -> Generator[None]:
        """Turn an exception of the transport into one that says what happened."""
        try:
            yield
            return
        except (pa.ArrowException, OSError) as error:
            text = str(error)
        if (diagnostic := diagnostic_in(text)) is not None:
            raise error_of(diagnostic)
        if self._has_ended(_DEATH_TIMEOUT_S):
            raise self.lost()
        raise failure(codes.INTERNAL, f"the call {what} to the engine failed", cause=text)

    # --- life and death ---

    def check(self) -> None:
        """Raise `ConnectionLost` if the engine cannot be called (any more)."""
        if os.getpid() != self._owner:
            raise failure(
                codes.CONNECTION_LOST,
                f"the connection belongs to process {self._owner}, from which this one was forked",
                hint="connect in the child only, or start it with multiprocessing's spawn",
            )
        if self._closed:
            raise failure(
                codes.CONNECTION_LOST, "the connection is closed", hint="call al.connect() again"
            )
        if self._has_ended(0):
            raise self.lost()

    @property
    def usable(self) -> bool:
        """Whether calls are possible."""
        return os.getpid() == self._owner and not self._closed and not self._has_ended(0)

    def lost(self) -> Error:
        """Describe the engine's end."""
        raise NotImplementedError

    def close(self) -> None:
        """End the engine, or the connection to it. Never raises."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End the engine at the interpreter's own end, without a call."""
        raise NotImplementedError

    def _has_ended(self, timeout_s: float) -> bool:
        """Tell whether the engine has ended, or does within a time."""
        raise NotImplementedError

    def _last_call(self, name: str, timeout_s: float) -> None:
        """Call an action in this thread: at exit no other can be started. Never raises."""
        from pyarrow import flight

        options = self._with_timeout(timeout_s)
        with contextlib.suppress(pa.ArrowException, OSError):
            list(self._client.do_action(flight.Action(name, b"{}"), options))

    def _with_timeout(self, timeout_s: float) -> flight.FlightCallOptions:
        """Give the options of a call that is bounded."""
        raise NotImplementedError

    def _drop_tables(self) -> None:
        """Drop tables that nothing refers to; a thread of its own until `close`."""
        while (name := self.dropped.get()) is not None:
            with contextlib.suppress(Error):
                self.call_blocking("drop-table", json.dumps({"table": name}).encode())


class EmbeddedEngine(Engine):
    """An engine of this client's own, in a process that it starts."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__()
        self._token = secrets.token_hex(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._run_dir = _make_run_dir()
        try:
            ready = self._start(options)
        except BaseException:
            self._kill()
            shutil.rmtree(self._run_dir, ignore_errors=True)
            raise
        self.pid = ready["pid"]
        self.version = ready.get("version", "")
        self._client = _connect(ready["endpoint"])
        self._call_options = call_options(self._token)
        self._begun()

    def _start(self, options: EngineOptions) -> dict[str, Any]:
        pidfd = os.pidfd_open(os.getpid()) if hasattr(os, "pidfd_open") else -1
        try:
            with self._log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    [find_pyrunner(), "engine"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=() if pidfd < 0 else (pidfd,),
                    start_new_session=True,  # Ctrl-C is the client's to handle
                    bufsize=0,
                )
        except OSError as error:
            raise failure(
                codes.ENGINE_NOT_FOUND, "the engine's binary does not start", cause=str(error)
            ) from None
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        line = json.dumps(
            {
                "run_dir": str(self._run_dir),
                "token": self._token,
                "client_pidfd": pidfd,
                "cache_dir": str(cache_dir()),
                "uv": _find_uv(),
                "memory_limit_bytes": options.memory_limit_bytes,
                "worker_memory_bytes": options.worker_memory_bytes,
                "parallelism": options.parallelism,
                "spill_dir": options.spill_dir,
                "offline": options.offline,
                "source_builds": options.source_builds,
                "sandbox": options.sandbox,
                "lane": options.lane,
                "launcher": options.launcher or "",
                "warm": environment_to_warm(),
            }
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is noticed below
            self._process.stdin.write(line.encode() + b"\n")
        return self._read_ready()

    def _read_ready(self) -> dict[str, Any]:
        """Wait for the one line that the engine writes when it can be reached."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout, time.monotonic() + _START_TIMEOUT_S)
        try:
            ready = json.loads(line or b"{}")
        except ValueError:
            ready = {}
        if isinstance(ready, dict) and ready.get("ready"):
            return ready
        if isinstance(ready, dict) and ready.get("error"):
            raise error_of(Diagnostic.from_json(ready["error"]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_TIMEOUT_S)
        raise failure(
            codes.ENGINE_NOT_FOUND,
            "the engine did not start",
            facts=(self._how_ended(f"it said nothing for {_START_TIMEOUT_S:.0f} s"),),
            cause=self._log_tail(),
        )

    def lost(self) -> ConnectionLost:
        """Describe the engine's end."""
        error = failure(
            codes.CONNECTION_LOST,
            f"the engine (process {self.pid}) ended while it was in use",
            facts=(self._how_ended("it runs, but cannot be reached"),),
            cause=self._log_tail(),
            hint="a new connection starts a new engine: al.connect()",
        )
        assert isinstance(error, ConnectionLost)
        return error

    def close(self) -> None:
        """End the engine: ask it, wait a while, then kill it. Never raises."""
        if os.getpid() != self._owner:  # the parent's engine is not a forked child's to end
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        self.dropped.put(None)
        if not self._has_ended(0):
            self._last_call("shutdown", _CLOSE_TIMEOUT_S)
            self._has_ended(max(0.0, deadline - time.monotonic()))
        self._kill()
        with contextlib.suppress(Exception):
            self._client.close()
        shutil.rmtree(self._run_dir, ignore_errors=True)
        LIVE.discard(self)

    def abandon(self) -> None:
        """End the engine at the interpreter's own end, without a call."""
        if os.getpid() == self._owner and not self._closed:
            self._closed = True
            self._kill()
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def _with_timeout(self, timeout_s: float) -> flight.FlightCallOptions:
        return call_options(self._token, timeout_s=timeout_s)

    def _kill(self) -> None:
        """End the process if it still runs, and give up its pipes."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _has_ended(self, timeout_s: float) -> bool:
        process = self._process
        if process is None:
            return True
        if timeout_s <= 0:
            return process.poll() is not None
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _how_ended(self, otherwise: str) -> str:
        status = None if self._process is None else self._process.returncode
        if status is None:
            return otherwise
        if status >= 0:
            return f"exit status {status}"
        try:
            name = f" ({signal.Signals(-status).name})"
        except ValueError:
            name = ""
        return f"ended by signal {-status}{name}"

    @property
    def _log_path(self) -> Path:
        return self._run_dir / "engine.log"

    def _log_tail(self) -> str:
        """Give the last lines that the engine wrote to its standard error."""
        try:
            with self._log_path.open("rb") as log:
                if crash := _crash_in(log):
                    return crash
                log.seek(max(0, self._log_path.stat().st_size - _LOG_BYTES_SHOWN_MAX))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-_LOG_LINES_SHOWN_MAX:])


# Engines that have to be closed when the interpreter ends.
LIVE: set[Engine] = set()
# Whether this process has started an engine, and the process that had when it forked this one.
_connected = False
_forked_from: int | None = None


def _note_connected(engine: Engine) -> None:
    global _connected
    _connected = True
    LIVE.add(engine)


_exiting = False  # an engine that is started from now on is closed by nobody


def _close_all() -> None:
    global _exiting
    _exiting = True
    for engine in list(LIVE):
        engine.close()
    # Without their engines the calls return. A thread that came back from gRPC after the
    # interpreter's end would be stopped within C++, which aborts the process.
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    for background in list(_RUNNING):
        background.wait(max(0.0, deadline - time.monotonic()))


def _forget_after_fork() -> None:
    """Leave the parent's engines alone in a forked child.

    gRPC's threads do not exist in the child: destroying a client would wait for them for
    ever, and so would a new one. The references are kept until the child ends, beyond the
    interpreter's own end.
    """
    import ctypes

    global _forked_from
    if _connected:
        _forked_from = os.getppid()
    for engine in list(LIVE):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine._client))
    LIVE.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def close_when_collected(owner: object, engine: Engine) -> None:
    """Close an engine in the background once its owner is garbage."""

    def close() -> None:
        if _exiting:  # threads start no more; the engine ends with this process's pipe
            engine.abandon()
            return
        # Not a daemon: at the interpreter's end it is waited for.
        closing = threading.Thread(target=engine.close, name="alink-close")
        with contextlib.suppress(RuntimeError):  # at exit: _close_all does it
            closing.start()

    engine.owner = weakref.ref(owner)
    weakref.finalize(owner, close).atexit = False


def cache_dir() -> Path:
    """Give the folder in which environments are kept."""
    if named := setting("cache_dir"):
        return Path(named).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "alink"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "alink"


def _find_uv() -> str | None:
    if named := setting("uv"):
        return str(Path(named).absolute())
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def _make_run_dir() -> Path:
    """Make the private folder (mode 0700) of the engine's sockets and files."""
    parent = tempfile.gettempdir()
    # The address of a socket is a URI: what would have to be escaped there is avoided.
    if len(parent) > _RUN_PARENT_CHARS_MAX or not _PLAIN_PATH.fullmatch(parent):
        parent = "/tmp"
    return Path(tempfile.mkdtemp(prefix="alink-", dir=parent))


def _connect(endpoint: str) -> flight.FlightClient:
    from pyarrow import flight

    return flight.FlightClient(endpoint)


def call_options(
    token: str, session: str = "", timeout_s: float | None = None
) -> flight.FlightCallOptions:
    """Give the options of a call: the token, and the session where there are several."""
    from pyarrow import flight

    headers: list[tuple[bytes, bytes]] = []
    if token:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    if session:
        headers.append((b"alink-session", session.encode()))
    return flight.FlightCallOptions(timeout=timeout_s, headers=headers)


def diagnostic_in(text: str) -> Diagnostic | None:
    """Find the diagnostic that the engine puts into a gRPC status, among gRPC's own words."""
    start = text.find('{"code":')
    if start < 0:
        return None
    try:
        return Diagnostic.from_json(json.JSONDecoder().raw_decode(text, start)[0])
    except (ValueError, KeyError):
        return None


def _read_line(pipe: IO[bytes], deadline: float) -> bytes:
    """Read one line; less at the end of the pipe or when it takes too long."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < _READY_BYTES_MAX:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([pipe], [], [], remaining)[0]:
            break
        piece = os.read(pipe.fileno(), 65536)
        if not piece:
            break
        line += piece
    return bytes(line)


def _crash_in(log: IO[bytes]) -> str:
    """Give how the account of a crash begins: its end tells of goroutines without a part in it."""
    kept: list[bytes] = []
    for line in log:
        if kept or line.startswith((b"panic: ", b"fatal error: ", b"SIG")):
            kept.append(line)
        if len(kept) == _CRASH_LINES:
            break
    return b"".join(kept).decode(errors="replace").strip()
