"""The portable lane: Beam's gRPC services.

One thread reads the control stream, one each data stream. What goes out waits in bounded queues
that gRPC's own threads take from. Every one of these threads ends with the process; none is
waited for, because user code may hold the main thread for as long as it likes.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from . import _data, _wire
from ._errors import Failure
from ._fields import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._log import Journal

PROTOCOL_KEY = "alink:protocol"
MESSAGE_BYTES_MAX = (64 << 20) + (1 << 20)  # 64 MiB of data, and what is around them
CALL_SECONDS_MAX = 30
REQUESTS_MAX = 1_024
RESPONSE_BYTES_MAX = 16 << 20
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


class PortableLane:
    """A worker's streams to the engine, or to another runner of Beam.

    Parameters
    ----------
    launch
        The launch line.
    leave
        Ends the process: gets its status and a text.
    """

    def __init__(
        self,
        launch: Mapping[str, Any],
        leave: Callable[[int, str], NoReturn],
        protocol: str,
    ) -> None:
        self._leave = leave
        self._protocol = protocol
        self._metadata: tuple[tuple[str, str], ...] = (("worker_id", str(launch["worker_id"])),)
        # Another runner has no token, and asks nothing of its workers but Beam's protocol.
        self.ours = bool(launch.get("token"))
        if self.ours:
            self._metadata += (("authorization", f"Bearer {launch['token']}"),)
        self._options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        self._endpoint: str = launch["endpoint"]
        self._channels: dict[str, Any] = {}
        self._channel = self._channel_to(self._endpoint)
        self._provision: str = launch.get("provision") or self._endpoint
        self._logging: str = launch.get("logging") or self._endpoint
        self._inbox = _data.Inbox()
        # What goes out on the data streams, by their addresses.
        self._outputs: dict[str, _data.Outbox] = {}
        self._responses = _data.Outbox(RESPONSE_BYTES_MAX)
        self._requests: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue(REQUESTS_MAX)
        self._running = "", _data.Outbox(RESPONSE_BYTES_MAX)

    # Streams --------------------------------------------------------------------------------

    def connect(self, journal: Journal) -> None:
        """Shake hands and open the streams."""
        self._journal = journal
        try:
            self._check_protocol()
        except grpc.RpcError as error:
            self._leave(1, f"the engine refuses this worker: {_status_of(error)}")
        except _wire.WireError as error:
            self._leave(1, f"the engine's greeting is malformed: {error}")
        self._log_stream = self._open("BeamFnLogging.Logging", journal, self._logging)
        if self.ours:
            self._data_to(self._endpoint)
        control = self._open("BeamFnControl.Control", self._responses, self._endpoint)
        self._read("control", lambda: self._sort_requests(control))

    def _check_protocol(self) -> None:
        channel = self._channel_to(self._provision)
        call = channel.unary_unary(METHODS["ProvisionService.GetProvisionInfo"])
        answer = call(b"", metadata=self._metadata, timeout=CALL_SECONDS_MAX)
        info = _wire.decode("GetProvisionInfoResponse", answer).get("info") or {}
        theirs = info.get("metadata", {}).get(PROTOCOL_KEY)
        if self.ours and theirs != self._protocol:
            text = f"the engine speaks protocol {theirs}, this worker {self._protocol}"
            self._leave(1, text)

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
                    self._leave(1, f"the {stream} stream broke: {_status_of(error)}")
            except _wire.WireError as error:
                self._leave(1, f"the {stream} stream is malformed: {error}")
            self._journal.drain(LOG_DRAIN_SECONDS)
            self._leave(0, "")

        threading.Thread(target=run, name=f"alink-{stream}", daemon=True).start()

    def _sort_requests(self, messages: Iterator[bytes]) -> None:
        for message in messages:
            request = _wire.decode("InstructionRequest", message)
            id_ = request["instruction_id"]
            kind = next((key for key in request if key != "instruction_id"), "unknown to it")
            if kind == "process_bundle":
                self._requests.put((id_, request[kind]))
            elif kind in _EMPTY_ANSWERS:
                self.respond(id_, {kind: b""})
            else:
                failure = Failure("protocol", f"the worker cannot do an instruction {kind}")
                self.respond(id_, {"error": failure.json()})

    # What the bundles' owner calls ----------------------------------------------------------

    def next(self) -> tuple[str, Mapping[str, Any]]:
        """Wait for the next request to run a bundle; give its id and what it says."""
        return self._requests.get()

    def respond(self, id_: str, answer: Mapping[str, Any]) -> None:
        """Answer a request."""
        response = {"instruction_id": id_, **answer}
        self._responses.put(_wire.encode("InstructionResponse", response))

    def descriptor(self, id_: str) -> Mapping[str, Any]:
        """Ask for a bundle descriptor."""
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

    def start(self, bundle: str, url: str) -> None:
        """Begin to take a bundle's pieces, which come and go at an address, "" the engine's."""
        self._inbox.start(bundle)
        self._running = bundle, self._data_to(url or self._endpoint)

    def ready(self) -> bool:
        """Tell whether the running bundle's next piece is known to have come."""
        return False

    def take(self) -> memoryview | None:
        """Give the running bundle's next piece; None at its end."""
        return self._inbox.take()

    def room(self, size: int) -> memoryview | None:
        """Lend no memory: there is none that both sides see."""
        return None

    def put(self, transform: str, parts: list[Any], last: bool) -> None:
        """Send a piece of the running bundle's output."""
        bundle, output = self._running
        piece = {
            "instruction_id": bundle,
            "transform_id": transform,
            "data": parts,
            "is_last": last,
        }
        output.put(_wire.encode("Elements", {"data": [piece]}))

    def finish(self) -> None:
        """Drop what the running bundle has not taken, and what still comes for it."""
        self._inbox.finish()


# How a stream ends when the engine is done with the worker.
_PEACEFUL = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)


def _status_of(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
