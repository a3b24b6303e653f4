"""The life of a worker: launch line, the lane to the engine, one bundle after the other.

A process whose launch line asks for a zygote imports what workers need and forks them; each goes
on from there with a launch line of its own.

Bundles run on the main thread, so that SIGINT reaches user code as KeyboardInterrupt. One thread
reads standard input, whose end means that the supervisor is gone; a lane may have threads of its
own. All end with the process, by ``_leave``; none is waited for, because user code may hold the
main thread for as long as it likes.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import json
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NoReturn

from . import _functions, _imports, _local, _log
from ._clock import CLOCK, ELSEWHERE
from ._errors import Failure, failure_of
from ._interrupts import Interrupts
from ._memory import Release, keep_heap
from ._progress import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._beam import BeamStage
    from ._bundle import Stage
    from ._portable import PortableLane
    from ._sampler import Sampler

PROTOCOL = "1"
LOGGED_KEY = "alink:logged"
SPENT_KEY = "alink:spent"
IMPORTS_KEY = "alink:imports"
PROFILE_KEY = "alink:profile"
LAUNCH_BYTES_MAX = 1 << 20
STAGES_MAX = 64
# For how many cycles of the processor, as a power of two, a thread of OpenBLAS that has nothing
# to do goes on looking for work before it sleeps: 0.4 ms. By itself it burns a core for 0.1 s,
# when it is started, which a worker does, and behind each operation.
_BLAS_TIMEOUT, _BLAS_TIMEOUT_EXPONENT = "OPENBLAS_THREAD_TIMEOUT", "20"


def run() -> NoReturn:
    """Be a worker, until the supervisor or the engine is gone."""
    faulthandler.enable()
    launch = _read_launch_line()
    passed: dict[str, int] = {}
    if forked := launch.get("zygote", False):
        from . import _zygote

        _prepare(launch)
        passed = _zygote.breed(_import_rest)
        launch = _read_launch_line()
        _move_in(launch["environ"])
    interrupts = Interrupts()
    _watch_supervisor(Release(lambda: interrupts.armed))
    if not forked:
        _prepare(launch)
    if page := passed.get("page", launch.get("page")):
        PROGRESS.open(page)
    worker = _Worker({**launch, "passed": passed}, interrupts)
    worker.connect()
    if not forked:
        # The engine knows by now that the worker is there, and sends while this is imported.
        began = time.perf_counter_ns()
        _import_rest()
        CLOCK.starting = time.perf_counter_ns() - began
    gc.freeze()  # what start-up made lives on: the collector need not look at it again
    worker.serve()


def _prepare(launch: Mapping[str, Any]) -> None:
    """Set what libraries read when they are loaded, and where they are."""
    # Here and not at the process's start, where whoever lists processes would see them.
    _set_variables(launch.get("variables") or {})
    os.environ.setdefault(_BLAS_TIMEOUT, _BLAS_TIMEOUT_EXPONENT)
    _functions.add_package_folders(launch.get("paths") or ())
    if importlib.util.find_spec("pyarrow") is None:  # to be told before the engine counts on us
        _leave(1, "No module named 'pyarrow'")


def _move_in(environ: Mapping[str, str]) -> None:
    """Take over the name and the folder of a worker that was forked."""
    os.environ.update(environ)
    os.chdir(environ["HOME"])


def _read_launch_line() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # no more than the line, whose end nothing follows
        if not byte or len(line) > LAUNCH_BYTES_MAX:
            _leave(1, "the supervisor sent no launch line")
        line += byte
    try:
        return json.loads(line)
    except ValueError as error:
        _leave(1, f"the launch line is not JSON: {error}")


def _set_variables(variables: Mapping[str, str]) -> None:
    """Set what the environment asks for, before any library is imported that reads it."""
    os.environ.update(variables)
    if "TZ" in variables:
        time.tzset()


def _watch_supervisor(release: Release) -> None:
    """Leave when standard input ends; keep it away from user code and its children.

    A byte there says that memory runs short.
    """
    watched = os.dup(0)  # not inherited by child processes
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        while os.read(watched, 4096):
            release.ask()
        os._exit(0)

    threading.Thread(target=watch, name="alink-supervisor", daemon=True).start()


def _import_rest() -> None:
    """Import what needs pyarrow, with what it keeps out."""
    from . import _pandas

    _pandas.keep_out()
    importlib.import_module("._bundle", __package__)
    keep_heap()


def _leave(status: int, text: str = "") -> NoReturn:
    """End the process at once, whatever user code does; the text goes to the supervisor."""
    if text:
        os.write(2, f"alink worker: {text}\n".encode("utf-8", "replace"))
    os._exit(status)


def _leave_child(exception: BaseException | None) -> NoReturn:
    """End a child that user code has forked, with the status that it meant."""
    while exception is not None and not isinstance(exception, SystemExit):
        exception = exception.__context__
    code = 1 if exception is None else exception.code
    os._exit(code if isinstance(code, int) else int(code is not None))


def _lane_of(launch: Mapping[str, Any], interrupts: Interrupts) -> _local.LocalLane | PortableLane:
    """Make the lane that the address names."""
    if str(launch["endpoint"]).startswith(_local.SCHEME):
        return _local.LocalLane(launch, interrupts, _leave, PROTOCOL)
    from ._portable import PortableLane

    return PortableLane(launch, _leave, PROTOCOL)


class _Worker:
    def __init__(self, launch: Mapping[str, Any], interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._pid = os.getpid()
        self._lane = _lane_of(launch, interrupts)
        self._journal = _log.Journal()
        self._capture = _log.Capture(self._journal)
        self._library = _functions.Library()
        self._sampler: Sampler | None = None
        # Stages by their descriptors, with the addresses of their data.
        self._stages: OrderedDict[str, tuple[Stage | BeamStage, str]] = OrderedDict()

    def connect(self) -> None:
        """Say hello to the engine."""
        self._lane.connect(self._journal)

    def serve(self) -> NoReturn:
        """Run bundles in the order of their requests."""
        while True:
            id_, request = self._lane.next()
            failure = self._attempt(id_, request)
            self._lane.finish()
            self._capture.end()
            # Streams overtake each other: the engine waits for as many log entries.
            told = {LOGGED_KEY: str(self._journal.added).encode(), SPENT_KEY: CLOCK.end()}
            if imports := _imports.taken():
                told[IMPORTS_KEY] = json.dumps(imports).encode()
            if self._sampler is not None and (samples := self._sampler.end()):
                told[PROFILE_KEY] = json.dumps(samples).encode()
            answer: dict[str, Any] = {"process_bundle": {"monitoring_data": told}}
            if not self._lane.ours:
                answer = {"process_bundle": {}}
            if failure is not None:
                answer["error"] = failure.json()
            self._lane.respond(id_, answer)

    def _attempt(self, id_: str, request: Mapping[str, Any]) -> Failure | None:
        try:
            # Two blocks: an interrupt may come until the inner one has disarmed it, and the
            # outer one catches it wherever it came.
            try:
                self._interrupts.armed = True
                self._run(id_, request)
            finally:
                self._interrupts.armed = False
                PROGRESS.end()
        except BaseException as exception:
            if os.getpid() != self._pid:
                _leave_child(exception)
            return failure_of(exception)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that returned from the function: only one process answers
        return None

    def _run(self, id_: str, request: Mapping[str, Any]) -> None:
        stage, url = self._stage(request["process_bundle_descriptor_id"])
        CLOCK.begin(stage.names)
        if stage.profiled:
            self._sample()
        self._lane.start(id_, url)
        self._capture.begin(id_)
        PROGRESS.begin(id_)
        stage.run(self._take, self._put, self._room)

    def _sample(self) -> None:
        if self._sampler is None:
            from ._sampler import Sampler

            self._sampler = Sampler()
        self._sampler.begin()

    # Time that the worker waits for the engine is not the function's.

    def _take(self) -> memoryview | None:
        if self._lane.ready():
            PROGRESS.step()
            return self._lane.take()
        PROGRESS.pause()
        before = CLOCK.to(ELSEWHERE)
        try:
            return self._lane.take()
        finally:
            CLOCK.to(before)
            PROGRESS.resume()

    def _room(self, size: int) -> memoryview | None:
        if os.getpid() != self._pid:
            os._exit(0)
        return self._lane.room(size)

    def _put(self, transform: str, parts: list[Any], last: bool) -> None:
        if os.getpid() != self._pid:
            os._exit(0)
        PROGRESS.pause()
        try:
            self._lane.put(transform, parts, last)
        finally:
            PROGRESS.resume()

    def _enter(self, function: str, call: int = 0) -> None:
        self._capture.enter(function)
        PROGRESS.enter(call)
        CLOCK.enter(function)

    def _stage(self, id_: str) -> tuple[Stage | BeamStage, str]:
        stage = self._stages.get(id_)
        if stage is None:
            from ._bundle import data_url_of, stage_of

            descriptor = self._lane.descriptor(id_)
            url = "" if self._lane.ours else data_url_of(descriptor)
            stage = stage_of(descriptor, self._library, self._enter), url
            while len(self._stages) >= STAGES_MAX:
                self._stages.popitem(last=False)
            self._stages[id_] = stage
        self._stages.move_to_end(id_)
        return stage
