"""Stages of a standard Beam runner: elements are bytes, not batches.

A runner that knows nothing of Arrow sends each element by itself, as a windowed value of Beam's
bytes coder. Elements are gathered into batches of one binary column, and functions run on them
as on any other; timestamp, windows and pane of an element go to what is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _wire
from ._elements import PIECE_BYTES_MAX, ByteSource
from ._errors import Failure
from ._task import Task, decode_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ._elements import Room, Send
    from ._functions import Library

BYTES_URN = "beam:coder:bytes:v1"
LENGTH_PREFIX_URN = "beam:coder:length_prefix:v1"
WINDOWED_URN = "beam:coder:windowed_value:v1"
INTERVAL_WINDOW_URN = "beam:coder:interval_window:v1"
GLOBAL_WINDOW_URN = "beam:coder:global_window:v1"
INPUT = pa.schema([("element", pa.binary())])
ROWS_MAX = 8_192
GATHER_BYTES = 1 << 20

# Elements and, for each, the header that it came with.
Elements = tuple[pa.Array, list[bytes]]


class BeamStage:
    """A chain of functions between the elements of a source and those of a sink.

    Raises
    ------
    Failure
        Of kind "protocol": the descriptor is not one that the worker can follow.
    """

    def __init__(
        self,
        transforms: Mapping[str, Any],
        coders: Mapping[str, Any],
        urns: Sequence[str],
        functions: Callable[[Any], tuple[Mapping[str, Any], Callable[..., Any]]],
        library: Library,
        enter: Callable[..., None],
    ) -> None:
        source_urn, function_urn, sink_urn = urns
        by_input: dict[str, tuple[str, Any]] = {}
        sources = []
        for id_, transform in transforms.items():
            if transform["spec"]["urn"] == source_urn:
                sources.append(transform)
            for collection in (transform.get("inputs") or {}).values():
                if by_input.setdefault(collection, (id_, transform))[0] != id_:
                    raise Failure("protocol", f"several transforms read {collection}")
        if len(sources) != 1:
            raise Failure("protocol", f"the descriptor has {len(sources)} sources")
        self._windows = _window_of(sources[0], coders)
        self._functions: list[tuple[bool, Any]] = []
        self._sink: str | None = None
        found = _next(sources[0], by_input)
        while found is not None:
            id_, transform = found
            urn = transform["spec"]["urn"]
            if urn == sink_urn:
                _window_of(transform, coders)
                self._sink = id_
                break
            if urn != function_urn:
                raise Failure("protocol", f"the worker knows no transform {urn}")
            spec, kind = functions(transform)
            output = decode_schema(spec["output_schema"])
            multiplies = spec["kind"] == "flat_map"
            if output.types[int(multiplies) :] != [pa.binary()]:
                raise Failure("protocol", f"a function gives {output.types}, not elements of bytes")
            self._functions.append((multiplies, kind(Task(spec, INPUT, output, library, enter))))
            found = _next(transform, by_input)

    #: What the times of functions would be told by: another runner does not ask.
    names: Sequence[str] = ()
    profiled = False

    def run(self, take: Callable[[], memoryview | None], send: Send, room: Room) -> None:
        """Run a bundle: take pieces of input until the end, send pieces of output."""
        del room  # there is none on gRPC
        parts: list[bytes] = []
        size = 0
        for elements, headers in self._outputs(self._read(ByteSource(take))):
            for header, element in zip(headers, elements.to_pylist(), strict=True):
                if element is None:
                    raise Failure("type", "a function returned None where an element is expected")
                parts += [header, _wire.write_varint(len(element)), element]
                size += len(header) + len(element) + 10
                if size >= GATHER_BYTES:
                    self._send(send, parts, False)
                    parts, size = [], 0
        self._send(send, parts, True)

    def _send(self, send: Send, parts: list[bytes], last: bool) -> None:
        if self._sink is None:
            return  # nobody reads what the last function gives
        data = memoryview(b"".join(parts))
        for start in range(0, max(len(data), 1), PIECE_BYTES_MAX):
            end = start + PIECE_BYTES_MAX
            send(self._sink, [data[start:end]], last and end >= len(data))

    def _read(self, source: ByteSource) -> Iterator[Elements]:
        headers: list[bytes] = []
        elements: list[bytes] = []
        size = 0
        while source.more():
            headers.append(self._header(source))
            elements.append(bytes(source.read(source.varint())))
            size += len(elements[-1])
            if len(elements) == ROWS_MAX or size >= GATHER_BYTES:
                yield pa.array(elements, pa.binary()), headers
                headers, elements, size = [], [], 0
        if elements:
            yield pa.array(elements, pa.binary()), headers

    def _header(self, source: ByteSource) -> bytes:
        parts = [bytes(source.read(12))]  # timestamp, number of windows
        windows = int.from_bytes(parts[0][8:], "big")
        if self._windows == INTERVAL_WINDOW_URN:
            for _ in range(windows):
                parts += [bytes(source.read(8)), _wire.write_varint(source.varint())]
        pane = bytes(source.read(1))
        numbers = pane[0] >> 4
        if numbers > 2:
            raise Failure("protocol", "an element's pane is malformed")
        parts.append(pane)
        parts += [_wire.write_varint(source.varint()) for _ in range(numbers)]
        return b"".join(parts)

    def _outputs(self, inputs: Iterator[Elements]) -> Iterator[Elements]:
        for multiplies, function in self._functions:
            inputs = _applied(function, multiplies, inputs)
        return inputs


def _applied(function: Any, multiplies: bool, inputs: Iterator[Elements]) -> Iterator[Elements]:
    for elements, headers in inputs:
        batch = pa.RecordBatch.from_arrays([elements], schema=INPUT)
        results = function.run(iter([batch]))
        for result in results:
            if multiplies:
                rows = result.column(0).to_pylist()
                yield result.column(1), [headers[row] for row in rows]
            else:
                yield result.column(0), headers


def _next(transform: Any, by_input: Mapping[str, tuple[str, Any]]) -> tuple[str, Any] | None:
    """Give what reads the one output of a transform."""
    outputs = list((transform.get("outputs") or {}).values())
    if len(outputs) > 1:
        raise Failure("protocol", f"a transform has {len(outputs)} outputs")
    return by_input.get(outputs[0]) if outputs else None


def _window_of(port_transform: Any, coders: Mapping[str, Any]) -> str:
    """Check the coder of a source or sink, and give that of its windows."""
    try:
        port = _wire.decode("RemoteGrpcPort", port_transform["spec"]["payload"])
        windowed = coders[port["coder_id"]]
        element, window = (coders[id_]["spec"] for id_ in windowed["component_coder_ids"])
        urns = windowed["spec"]["urn"], element["urn"], window["urn"]
    except (KeyError, ValueError) as error:
        raise Failure("protocol", f"the coder of a port is malformed: {error!r}") from None
    known = (
        urns[0] == WINDOWED_URN
        and urns[1] in (BYTES_URN, LENGTH_PREFIX_URN)
        and urns[2] in (GLOBAL_WINDOW_URN, INTERVAL_WINDOW_URN)
    )
    if not known:
        raise Failure("protocol", f"the worker cannot read elements of the coders {urns}")
    return urns[2]
