"""Bundles: what a descriptor asks for, and doing it with the batches of one instruction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _wire
from ._aggregate import Aggregate, Merge
from ._calls import Call
from ._clock import CLOCK, ELSEWHERE
from ._elements import BatchWriter, read_batches
from ._errors import Failure
from ._flat import FlatMap
from ._groups import MapGroups
from ._task import Task, decode_schema
from ._training import Train
from ._whole import Fit, MapBatches, MapTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._beam import BeamStage
    from ._elements import Room, Send
    from ._functions import Library

SOURCE_URN = "beam:runner:source:v1"
SINK_URN = "beam:runner:sink:v1"
PARDO_URN = "beam:transform:pardo:v1"
FUNCTION_URN = "alink:fn:arrow:v1"
WINDOWED_URN = "beam:coder:windowed_value:v1"
GLOBAL_WINDOW_URN = "beam:coder:global_window:v1"
ARROW_CODER_URN = "alink:coder:arrow:v1"


class Stage:
    """What the bundles of one descriptor do.

    Parameters
    ----------
    enter
        Is told the name of each function that is about to be called, and the index of its call.

    Raises
    ------
    Failure
        Of kind "protocol": the descriptor is not one that the worker can follow.
    """

    def __init__(
        self, descriptor: Mapping[str, Any], library: Library, enter: Callable[..., None]
    ) -> None:
        transforms = descriptor["transforms"]
        source = _only(transforms, SOURCE_URN)[1]
        self._sink = _only(transforms, SINK_URN)[0]
        self._schema = _schema_of(source["spec"]["payload"], descriptor["coders"])
        spec = _function_spec(_only(transforms, PARDO_URN)[1])
        try:
            output = decode_schema(spec["output_schema"])
            kind = _KINDS[spec["kind"]]
            #: Samples are taken while the functions run.
            self.profiled = bool(spec.get("profile"))
            #: The names of the functions, each once.
            self.names = list(dict.fromkeys(call["name"] for call in spec["calls"]))
            self._writer: BatchWriter | None = None
            self._function = kind(Task(spec, self._schema, output, library, enter))
        except (KeyError, IndexError, TypeError, ValueError, pa.ArrowException) as error:
            text = f"the function's payload is malformed: {type(error).__name__}: {error}"
            raise Failure("protocol", text) from None

    def run(self, take: Callable[[], memoryview | None], send: Send, room: Room) -> None:
        """Run a bundle: take pieces of input until the end, send pieces of output."""
        writer = self._writer
        if writer is None:
            writer = self._writer = BatchWriter(send, self._sink, room)
        writer.begin()
        for batch in self._function.run(read_batches(take, self._schema)):
            before = CLOCK.to(ELSEWHERE)
            writer.write(batch)
            CLOCK.to(before)
        CLOCK.to(ELSEWHERE)
        writer.close()


def stage_of(
    descriptor: Mapping[str, Any], library: Library, enter: Callable[..., None]
) -> Stage | BeamStage:
    """Make the stage of a descriptor, which is the engine's or another runner's."""
    coders = descriptor.get("coders") or {}
    if any((coder.get("spec") or {}).get("urn") == ARROW_CODER_URN for coder in coders.values()):
        return Stage(descriptor, library, enter)
    from ._beam import BeamStage

    def function(transform: Mapping[str, Any]) -> tuple[Mapping[str, Any], Callable[..., Any]]:
        spec = _function_spec(transform)
        return spec, _KINDS[spec["kind"]]

    try:
        urns = SOURCE_URN, PARDO_URN, SINK_URN
        return BeamStage(descriptor["transforms"], coders, urns, function, library, enter)
    except (KeyError, IndexError, TypeError, ValueError, pa.ArrowException) as error:
        text = f"the descriptor is malformed: {type(error).__name__}: {error}"
        raise Failure("protocol", text) from None


def data_url_of(descriptor: Mapping[str, Any]) -> str:
    """Give the address that a descriptor's ports name, "" where it names none."""
    for transform in descriptor["transforms"].values():
        if transform["spec"]["urn"] in (SOURCE_URN, SINK_URN):
            port = _wire.decode("RemoteGrpcPort", transform["spec"]["payload"])
            return (port.get("api_service_descriptor") or {}).get("url", "")
    return ""


def _only(transforms: Mapping[str, Any], urn: str) -> tuple[str, Any]:
    found = [(id_, t) for id_, t in transforms.items() if (t.get("spec") or {}).get("urn") == urn]
    if len(found) != 1 or len(transforms) != 3:
        raise Failure(
            "protocol", f"the descriptor has {len(found)} transforms {urn}, not one of three"
        )
    return found[0]


def _schema_of(port_payload: memoryview, coders: Mapping[str, Any]) -> pa.Schema:
    """Find the schema in the coder of the source."""
    try:
        port = _wire.decode("RemoteGrpcPort", port_payload)
        windowed = coders[port["coder_id"]]
        element, window = (coders[id_]["spec"] for id_ in windowed["component_coder_ids"])
        urns = windowed["spec"]["urn"], element["urn"], window["urn"]
        if urns != (WINDOWED_URN, ARROW_CODER_URN, GLOBAL_WINDOW_URN):
            raise Failure("protocol", f"the worker cannot read elements of the coders {urns}")
        return pa.ipc.read_schema(pa.py_buffer(element["payload"]))
    except (KeyError, ValueError, OSError, pa.ArrowException) as error:
        raise Failure("protocol", f"the source's coder is malformed: {error!r}") from None


def _function_spec(transform: Mapping[str, Any]) -> dict[str, Any]:
    try:
        do_fn = _wire.decode("ParDoPayload", transform["spec"]["payload"])["do_fn"]
        if do_fn["urn"] != FUNCTION_URN:
            raise Failure("protocol", f"the worker knows no function {do_fn['urn']}")
        return json.loads(bytes(do_fn["payload"]))
    except (KeyError, ValueError) as error:
        raise Failure("protocol", f"the function's payload is malformed: {error!r}") from None


class _Columns:
    """Each call adds a column, and may use those that were added before."""

    def __init__(self, task: Task) -> None:
        output = self._output = task.output
        self._enter = task.enter
        specs = sorted(task.calls, key=lambda spec: spec["output"])
        # The last column tells on which rows the function has failed.
        self._told = bool(specs[0].get("on_error"))
        if [spec["output"] for spec in specs] != list(range(len(output) - self._told)):
            raise ValueError("the calls do not fill the output's columns")
        self._calls = [
            Call(spec, output.field(i).type, task.library, task.careful)
            for i, spec in enumerate(specs)
        ]

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        row = 0
        alone = len(self._calls) == 1
        errors = self._calls[0].errors if self._told else None
        if errors is not None:
            errors.begin()
        for batch in batches:
            columns = batch.columns
            for i, call in enumerate(self._calls):
                self._enter(call.name, i)
                try:
                    columns.append(call.column(columns, batch.num_rows, row, alone))
                except Failure as failure:
                    failure.details["call"] = i  # a function may be called twice
                    raise
            if errors is not None:
                columns.append(errors.column(row, batch.num_rows))
            made = columns[batch.num_columns :]
            yield pa.RecordBatch.from_arrays(made, schema=self._output)
            row += batch.num_rows


_KINDS: dict[str, Callable[..., Any]] = {
    "columns": _Columns,
    "map_batches": MapBatches,
    "map_table": MapTable,
    "train": Train,
    "fit": Fit,
    "flat_map": FlatMap,
    "aggregate": Aggregate,
    "merge": Merge,
    "map_groups": MapGroups,
}
