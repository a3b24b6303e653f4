"""Bundles: what a descriptor asks for, and doing it with the batches of one instruction."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _arrays, _errors, _wire
from ._calls import Call
from ._elements import BatchWriter, read_batches
from ._errors import Failure
from ._exact import Misfit, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
        Is told the name of each function that is about to be called.

    Raises
    ------
    Failure
        Of kind "protocol": the descriptor is not one that the worker can follow.
    """

    def __init__(
        self, descriptor: Mapping[str, Any], library: Library, enter: Callable[[str], None]
    ) -> None:
        transforms = descriptor["transforms"]
        source = _only(transforms, SOURCE_URN)[1]
        self._sink = _only(transforms, SINK_URN)[0]
        self._schema = _schema_of(source["spec"]["payload"], descriptor["coders"])
        spec = _function_spec(_only(transforms, PARDO_URN)[1])
        try:
            output = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(spec["output_schema"])))
            kind = _KINDS[spec["kind"]]
            self._function = kind(spec["calls"], output, library, enter)
        except (KeyError, IndexError, TypeError, ValueError, pa.ArrowException) as error:
            text = f"the function's payload is malformed: {type(error).__name__}: {error}"
            raise Failure("protocol", text) from None

    def run(
        self, bundle: str, take: Callable[[], memoryview | None], send: Callable[[bytes], None]
    ) -> None:
        """Run a bundle: take pieces of input until the end, send pieces of output."""
        writer = BatchWriter(send, bundle, self._sink)
        for batch in self._function.run(read_batches(take, self._schema)):
            writer.write(batch)
        writer.close()


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
    """Each call adds a column."""

    def __init__(
        self, specs: list[Any], output: pa.Schema, library: Library, enter: Callable[[str], None]
    ) -> None:
        self._output = output
        self._enter = enter
        specs = sorted(specs, key=lambda spec: spec["output"])
        if [spec["output"] for spec in specs] != list(range(len(output))):
            raise ValueError("the calls do not fill the output's columns")
        self._calls = [Call(spec, output.field(i).type, library) for i, spec in enumerate(specs)]

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        row = 0
        alone = len(self._calls) == 1
        for batch in batches:
            columns = []
            for call in self._calls:
                self._enter(call.name)
                columns.append(call.column(batch, row, alone))
            yield pa.RecordBatch.from_arrays(columns, schema=self._output)
            row += batch.num_rows


class _Whole:
    """A function of whole batches: what map_batches and fit have in common."""

    def __init__(
        self, specs: list[Any], output: pa.Schema, library: Library, enter: Callable[[str], None]
    ) -> None:
        if len(specs) != 1:
            raise ValueError(f"{len(specs)} calls where one is expected")
        self._spec = specs[0]
        self._id: str = specs[0]["id"]
        self._name: str = specs[0]["name"]
        self._rows_max: int = specs[0].get("batch_rows") or 0
        self._output = output
        self._library = library
        self._enter = enter

    def run(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        self._enter(self._name)
        try:
            yield from self._outputs(self._library.load(self._spec), self._cuts(batches))
        except Failure as failure:
            failure.details.setdefault("function", self._id)
            failure.details.setdefault("name", self._name)
            raise

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _cuts(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Leave out empty batches and cut large ones to ``batch_rows``."""
        for batch in batches:
            cut = self._rows_max or batch.num_rows
            for start in range(0, batch.num_rows, cut or 1):
                yield batch if cut >= batch.num_rows else batch.slice(start, cut)

    def _type_failure(self, got: str, expected: str, hint: str = "", **details: Any) -> Failure:
        text = f"{self._name} returned {got} where {expected} is expected"
        return Failure("type", text, got=got, expected=expected, hint=hint or None, **details)


class _MapBatches(_Whole):
    """Each batch gives any number of batches."""

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            try:
                result = function(batch)
            except BaseException as exception:
                raise _errors.raised(exception, f"{self._name} raised") from None
            for table in self._tables(result):
                self._check_columns(table)
                for part in table.to_batches():
                    columns = [self._cast(part, field) for field in self._output]
                    yield pa.RecordBatch.from_arrays(columns, schema=self._output)

    def _tables(self, result: Any) -> Iterator[pa.Table]:
        if result is None:
            return
        table = _as_table(result)
        if table is not None:
            yield table
            return
        if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
            raise self._type_failure(
                type_name(result), "a RecordBatch, a Table or an iterator of them"
            )
        for item in self._items(result):
            table = _as_table(item)
            if table is None:
                raise self._type_failure(
                    f"an iterator of {type_name(item)}", "one of RecordBatch or Table"
                )
            yield table

    def _items(self, result: Any) -> Iterator[Any]:
        """Iterate what the function returned; a generator runs user code at every step."""
        try:
            items = iter(result)
        except BaseException as exception:
            raise _errors.raised(exception, f"{self._name} raised") from None
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except BaseException as exception:
                raise _errors.raised(exception, f"{self._name} raised") from None
            yield item

    def _check_columns(self, table: pa.Table) -> None:
        given, wanted = table.schema.names, self._output.names
        missing = [name for name in wanted if name not in given]
        if missing or sorted(given) != sorted(wanted):
            extra = [name for name in given if name not in wanted]
            hint = f"missing: {', '.join(missing)}" if missing else ""
            if extra:
                hint += ("; " if hint else "") + f"not declared: {', '.join(extra)}"
            hint = hint or "a column's name stands twice"
            columns = f"a table of the columns {', '.join(given) or '(none)'}"
            raise self._type_failure(columns, ", ".join(wanted), hint)

    def _cast(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        try:
            return _arrays.exact_cast(batch.column(field.name), field.type)
        except Misfit as misfit:
            got, hint = misfit.got, misfit.hint
            if misfit.row is not None:
                got = f"{_errors.short_repr(misfit.value)} ({got})"
            column = f"its column {field.name}, which is {misfit.expected}"
            text = f"{self._name} returned {got} in {column}"
            raise Failure(
                "type", text, got=misfit.got, expected=misfit.expected, hint=hint or None
            ) from None


def _as_table(value: Any) -> pa.Table | None:
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame":
        return pa.Table.from_pandas(value, preserve_index=False)
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value)
    return None


class _Fit(_Whole):
    """All batches give one object, which is pickled."""

    def _outputs(
        self, function: Callable[..., Any], batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        try:
            model = function(batches)
        except Failure:
            raise  # of the input, which the function was reading
        except BaseException as exception:
            raise _errors.raised(exception, f"{self._name} raised") from None
        try:
            pickled = self._library.dump(model)
        except BaseException as exception:
            failure = _errors.raised(
                exception, f"what {self._name} returned cannot be pickled:", "type"
            )
            failure.details.update(got=type_name(model), expected="an object that can be pickled")
            raise failure from None
        yield pa.RecordBatch.from_arrays(
            [pa.array([pickled], self._output.field(0).type)], schema=self._output
        )


_KINDS: dict[str, Callable[..., _Columns | _Whole]] = {
    "columns": _Columns,
    "map_batches": _MapBatches,
    "fit": _Fit,
}
