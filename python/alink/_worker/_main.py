"""The life of a worker: launch line, streams to the engine, one bundle after the other.

Threads. Bundles run on the main thread, so that SIGINT reaches user code as KeyboardInterrupt.
One thread reads the control stream, one the data stream, one standard input, whose end means
that the supervisor is gone. What goes out waits in bounded queues that gRPC's own threads take
from. Every one of these threads ends with the process, by ``_leave``; none is waited for,
because user code may hold the main thread for as long as it likes.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import queue
import signal
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from . import _data, _functions, _log, _wire
from ._errors import Failure, failure_of
from ._fields import METHODS
from ._memory import Release
from ._progress import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._beam import BeamStage
    from ._bundle import Stage

PROTOCOL = "1"
PROTOCOL_KEY = "alink:protocol"
LOGGED_KEY = "alink:logged"
LAUNCH_BYTES_MAX = 1 << 20
MESSAGE_BYTES_MAX = (64 << 20) + (1 << 20)  # 64 MiB of data, and what is around them
CALL_SECONDS_MAX = 30
REQUESTS_MAX = 1_024
RESPONSE_BYTES_MAX = 16 << 20
STAGES_MAX = 64
LOG_DRAIN_SECONDS = 0.2

# Requests that Beam lets a worker answer with an empty message: no progress is known, the
# bundle cannot be split, there is nothing to finalise or to monitor.
_EMPTY_ANSWERS = (
    "process_bundle_progress",
    "process_bundle_split",
    "finalize_bundle",
    "monitoring_infos",
    "harness_monitoring_infos",
)


def run() -> NoReturn:
    """Be a worker, until the supervisor or the engine is gone."""
    faulthandler.enable()
    launch = _read_launch_line()
    interrupts = _Interrupts()
    _watch_supervisor(Release(lambda: interrupts.armed))
    # Here and not at the process's start, where whoever lists processes would see them.
    _set_variables(launch.get("variables") or {})
    _functions.add_package_folders(launch.get("paths") or ())
    if page := launch.get("page"):
        PROGRESS.open(page)
    worker = _Worker(launch, interrupts)
    worker.connect()
    # The engine knows by now that the worker is there, and sends while this is imported.
    _import_rest()
    gc.freeze()  # what start-up made lives on: the collector need not look at it again
    worker.serve()


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


class _Interrupts:
    """SIGINT cancels the bundle that runs, once, and is ignored between bundles."""

    def __init__(self) -> None:
        self.armed = False
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, signum: int, frame: object) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


class _Worker:
    def __init__(self, launch: Mapping[str, Any], interrupts: _Interrupts) -> None:
        self._interrupts = interrupts
        self._pid = os.getpid()
        self._metadata: tuple[tuple[str, str], ...] = (("worker_id", str(launch["worker_id"])),)
        # Another runner has no token, and asks nothing of its workers but Beam's protocol.
        self._ours = bool(launch.get("token"))
        if self._ours:
            self._metadata += (("authorization", f"Bearer {launch['token']}"),)
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        self._options = options
        self._endpoint: str = launch["endpoint"]
        self._channels: dict[str, Any] = {}
        self._channel = self._channel_to(self._endpoint)
        self._provision: str = launch.get("provision") or self._endpoint
        self._logging: str = launch.get("logging") or self._endpoint
        self._inbox = _data.Inbox()
        # What goes out on the data streams, by their addresses.
        self._outputs: dict[str, _data.Outbox] = {}
        self._responses = _data.Outbox(RESPONSE_BYTES_MAX)
        self._journal = _log.Journal()
        self._capture = _log.Capture(self._journal)
        self._library = _functions.Library()
        # Stages by their descriptors, with the addresses of their data.
        self._stages: OrderedDict[str, tuple[Stage | BeamStage, str]] = OrderedDict()
        self._requests: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue(REQUESTS_MAX)

    # Streams --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Shake hands and open the streams."""
        try:
            self._check_protocol()
        except grpc.RpcError as error:
            _leave(1, f"the engine refuses this worker: {_status_of(error)}")
        except _wire.WireError as error:
            _leave(1, f"the engine's greeting is malformed: {error}")
        self._log_stream = self._open("BeamFnLogging.Logging", self._journal, self._logging)
        if self._ours:
            self._data_to(self._endpoint)
        control = self._open("BeamFnControl.Control", self._responses, self._endpoint)
        self._read("control", lambda: self._sort_requests(control))

    def _check_protocol(self) -> None:
        channel = self._channel_to(self._provision)
        call = channel.unary_unary(METHODS["ProvisionService.GetProvisionInfo"])
        answer = call(b"", metadata=self._metadata, timeout=CALL_SECONDS_MAX)
        info = _wire.decode("GetProvisionInfoResponse", answer).get("info") or {}
        theirs = info.get("metadata", {}).get(PROTOCOL_KEY)
        if self._ours and theirs != PROTOCOL:
            _leave(1, f"the engine speaks protocol {theirs}, this worker {PROTOCOL}")

    def _channel_to(self, url: str) -> Any:
        if url not in self._channels:
            self._channels[url] = grpc.insecure_channel(url, options=self._options)
        return self._channels[url]

    def _open(self, method: str, outgoing: Iterator[bytes], url: str) -> Any:
        # No serialisers: messages are bytes on both sides.
        open_stream = self._channel_to(url).stream_stream(METHODS[method])
        return open_stream(outgoing, metadata=self._metadata)

    def _data_to(self, url: str) -> _data.Outbox:
        """Open the data stream to an address, once."""
        if url not in self._outputs:
            self._outputs[url] = _data.Outbox(_data.OUTPUT_BYTES_MAX)
            stream = self._open("BeamFnData.Data", self._outputs[url], url)
            self._read("data", lambda: _data.sort_pieces(stream, self._inbox))
        return self._outputs[url]

    def _read(self, stream: str, read: Callable[[], None]) -> None:
        """Read a stream on a thread of its own; its end is the worker's."""

        def run() -> None:
            try:
                read()
            except grpc.RpcError as error:
                if error.code() not in _PEACEFUL:
                    _leave(1, f"the {stream} stream broke: {_status_of(error)}")
            except _wire.WireError as error:
                _leave(1, f"the {stream} stream is malformed: {error}")
            self._journal.drain(LOG_DRAIN_SECONDS)
            _leave(0)

        threading.Thread(target=run, name=f"alink-{stream}", daemon=True).start()

    def _sort_requests(self, messages: Iterator[bytes]) -> None:
        for message in messages:
            request = _wire.decode("InstructionRequest", message)
            id_ = request["instruction_id"]
            kind = next((key for key in request if key != "instruction_id"), "unknown to it")
            if kind == "process_bundle":
                self._requests.put((id_, request[kind]))
            elif kind in _EMPTY_ANSWERS:
                self._respond(id_, **{kind: b""})
            else:
                failure = Failure("protocol", f"the worker cannot do an instruction {kind}")
                self._respond(id_, error=failure.json())

    def _respond(self, id_: str, **answer: Any) -> None:
        response = {"instruction_id": id_, **answer}
        self._responses.put(_wire.encode("InstructionResponse", response))

    # Bundles --------------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Run bundles in the order of their requests."""
        while True:
            id_, request = self._requests.get()
            failure = self._attempt(id_, request)
            self._inbox.finish()
            self._capture.end()
            # Streams overtake each other: the engine waits for as many log entries.
            logged = {LOGGED_KEY: str(self._journal.added).encode()}
            answer: dict[str, Any] = {"process_bundle": {"monitoring_data": logged}}
            if not self._ours:
                answer = {"process_bundle": {}}
            if failure is not None:
                answer["error"] = failure.json()
            self._respond(id_, **answer)

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
        self._inbox.start(id_)
        stage, url = self._stage(request["process_bundle_descriptor_id"])
        output = self._data_to(url)
        self._capture.begin(id_)
        PROGRESS.begin(id_)
        stage.run(id_, self._take, lambda message: self._put(output, message))

    # Time that the worker waits for the engine is not the function's.

    def _take(self) -> memoryview | None:
        PROGRESS.pause()
        try:
            return self._inbox.take()
        finally:
            PROGRESS.resume()

    def _put(self, output: _data.Outbox, message: bytes) -> None:
        if os.getpid() != self._pid:
            os._exit(0)
        PROGRESS.pause()
        try:
            output.put(message)
        finally:
            PROGRESS.resume()

    def _enter(self, function: str, call: int = 0) -> None:
        self._capture.enter(function)
        PROGRESS.enter(call)

    def _stage(self, id_: str) -> tuple[Stage | BeamStage, str]:
        stage = self._stages.get(id_)
        if stage is None:
            from ._bundle import data_url_of, stage_of

            descriptor = self._descriptor(id_)
            url = self._endpoint if self._ours else data_url_of(descriptor) or self._endpoint
            stage = stage_of(descriptor, self._library, self._enter), url
            while len(self._stages) >= STAGES_MAX:
                self._stages.popitem(last=False)
            self._stages[id_] = stage
        self._stages.move_to_end(id_)
        return stage

    def _descriptor(self, id_: str) -> Mapping[str, Any]:
        call = self._channel.unary_unary(METHODS["BeamFnControl.GetProcessBundleDescriptor"])
        request = {"process_bundle_descriptor_id": id_}
        try:
            answer = call(
                _wire.encode("GetProcessBundleDescriptorRequest", request),
                metadata=self._metadata,
                timeout=CALL_SECONDS_MAX,
            )
            return _wire.decode("ProcessBundleDescriptor", answer)
        except grpc.RpcError as error:
            text = f"the engine gives no descriptor {id_!r}: {_status_of(error)}"
            raise Failure("protocol", text) from None
        except _wire.WireError as error:
            raise Failure("protocol", f"the descriptor {id_!r} is malformed: {error}") from None


# How a stream ends when the engine is done with the worker.
_PEACEFUL = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)


def _status_of(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
