"""Folders of files by time: streams of models, and the windows of a stream."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alink._algorithms._ak_meta import read_schema as read_ak_schema
from alink._algorithms._ak_meta import refuse_others
from alink._algorithms._schemas import COUNT, TIMESTAMP
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import format_schema, type_name
from alink._diag import quote
from alink._files import absolute_path
from alink._options import bad_option, find_column
from alink._table import Table
from alink._window import refuse_unbounded
from alink.operators._base import BatchOperator, StreamOperator, read_schema
from alink.operators._define import operator
from alink.operators._dialect import quoted
from alink.operators._sinks import Writer, refuse_several, sink
from alink.operators._sources import local_path, read_files
from alink.operators._time_windows import length_of, numbered, row_time, tumbling

Params = Mapping[str, Any]

_LETTERS = re.compile(r"([A-Za-z])\1*|[^A-Za-z]+")
_KNOWN = "yMdHmsS"
_PARTITION = re.compile(r"[^=/]+=[^=/]+")


def _time(name: str, parameter: str, text: str | None) -> str | None:
    """Read a time, ``yyyy-mm-dd hh:mm:ss.ffffff``; gives it in ISO's form."""
    if text is None:
        return None
    try:
        time = datetime.datetime.fromisoformat(text.strip())
        if time.tzinfo is not None:
            raise ValueError
    except ValueError:
        raise bad_option(
            name,
            f"{name}: {quote(parameter)} cannot be {text!r:.40}",
            "it is a time in UTC: 2024-01-31 12:00:00",
        ) from None
    return time.isoformat()


def _written(name: str, params: Params, table: Table, task: str, **spec: Any) -> Table:
    """Make the table whose row is there when a worker has written."""
    schema = pa.schema([table.schema.field(column) for column in spec.pop("columns")])
    try:
        refuse_others(schema)
    except Unreadable as error:
        hint = "leave the column out, or cast it to string"
        raise bad_option(name, f"{name}: {error}", hint) from None
    spec |= {"path": absolute_path(name, params["filePath"]), "schemaStr": format_schema(schema)}
    return table._derive("fit", {"function": Writer(name, spec, task=f"_timed_files.{task}")})


def _keep(name: str, params: Params) -> int:
    if params["numKeepModel"] < 1:
        raise bad_option(name, f"{name}: 'numKeepModel' cannot be {params['numKeepModel']}")
    return params["numKeepModel"]


def append_model(name: str, params: Params, table: Table) -> Table:
    """Add a model, the rows, to a stream of models in a folder.

    Its time is ``modelTime``, or that of the job; of all models the ``numKeepModel`` latest stay.
    """
    refuse_several(name, params)
    time = _time(name, "modelTime", params["modelTime"])
    given = {"time": time, "keep": _keep(name, params), "columns": table.columns}
    return _written(name, params, table, "append_model", **given)


def write_models(name: str, params: Params, table: Table) -> Table:
    """Add the models of a stream of models to a folder.

    Nothing is added unless all models are whole; the ``numKeepModel`` latest stay.
    """
    schema = table.schema
    refuse_unbounded(name, table._node)
    first = [find_column(name, schema, column) for column in (TIMESTAMP, COUNT)]
    for column, right in zip(first, (pa.types.is_timestamp, pa.types.is_integer), strict=True):
        if not right(schema.field(column).type):
            raise bad_option(
                name, f"{name}: column {quote(column)} is {type_name(schema.field(column).type)}"
            )
    rest = [column for column in schema.names if column not in first]
    shown = ", ".join(map(quoted, [*first, *rest]))
    ordered = table._context.sql(
        f"WITH numbered AS (SELECT *, row_number() OVER () AS __row FROM a) "
        f"SELECT {shown} FROM numbered ORDER BY {quoted(first[0])}, __row",
        tables={"a": table},
    )
    keep = _keep(name, params)
    return _written(name, params, ordered, "write_models", keep=keep, columns=rest)


def model_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read the models that a folder has, by their times, as a stream of models.

    Those before ``startTime`` are left out; without it all are read. ``schemaStr`` is needed
    where there is no model yet.
    """
    path = local_path(name, params)
    start = _time(name, "startTime", params["startTime"])
    if params["schemaStr"] is None:
        columns = list(_schema_of(name, Path(path)))
    else:
        columns = list(read_schema(name, params["schemaStr"]))
        refused = [field for field in columns if field.name.lower() in (TIMESTAMP, COUNT)]
        if refused:
            raise bad_option(name, f"{name}: schemaStr is of the model, without {refused[0].name}")
    if not Path(path).is_dir():
        raise bad_option(name, f"{name}: {path} is no folder", "the path is one of this machine")
    prefix = [pa.field(TIMESTAMP, pa.timestamp("us")), pa.field(COUNT, pa.int64())]
    schema = pa.schema([*prefix, *columns])
    return read_files(
        name, path, [Path(path)], "_timed_files.read_models", {"start": start}, schema
    )


def _schema_of(name: str, folder: Path) -> pa.Schema:
    """Give the columns of the models of a folder, by a file of one of them."""
    logs = sorted((folder / "conf").glob("[0-9]*.log"))
    for log in logs:
        for file in sorted(folder.glob(f"{log.stem}/*")):
            try:
                return read_ak_schema(str(file))
            except (OSError, Unreadable) as error:
                raise bad_option(name, f"{name}: {error}") from None
    raise bad_option(
        name,
        f"{name}: {folder} has no model",
        "set schemaStr where there is none yet; the path is one of this machine",
    )


def export(name: str, params: Params, table: Table) -> Table:
    """Write an .ak file for each window of ``windowTime``, named by its start, into a folder.

    Windows are counted from 1970, by ``timeCol``; without it all rows are of the job's time.
    ``partitionsFormat``, as year=yyyy/month=MM, has them stand in folders. AkSource reads them.
    """
    refuse_unbounded(name, table._node)
    length = length_of(name, params, "windowTime")
    time = "make_timestamp(epoch_us(now()))"
    if params["timeCol"] is not None:
        time = row_time(name, table.schema, params)
    shown = ", ".join(map(quoted, table.columns))
    windows = table._context.sql(
        f"{numbered(time)}, timed AS ({tumbling(length)}) "
        f"SELECT {shown}, __start FROM timed ORDER BY __start, __time, __row",
        tables={"a": table},
    )
    given = {
        "overwrite": params["overwriteSink"],
        "partitions": _partitions(name, params["partitionsFormat"]),
        "columns": table.columns,
    }
    return _written(name, params, windows, "export", **given)


def _partitions(name: str, text: str | None) -> list[tuple[str, list[tuple[str, int]]]]:
    """Read ``year=yyyy/month=MM``: folders with the pieces of their values."""
    found: list[tuple[str, list[tuple[str, int]]]] = []
    for folder in (text or "").strip("/").split("/") if text else ():
        pieces = [(match[0], match[1]) for match in _LETTERS.finditer(folder.partition("=")[2])]
        wrong = [piece for piece, letter in pieces if letter and letter not in _KNOWN]
        if not _PARTITION.fullmatch(folder) or wrong or not any(letter for _, letter in pieces):
            raise bad_option(
                name,
                f"{name}: {folder!r:.60} in partitionsFormat is not understood",
                "write year=yyyy/month=MM/day=dd; the letters are y, M, d, H, m, s and S",
            )
        values = [(letter, len(piece)) if letter else (piece, 0) for piece, letter in pieces]
        found.append((folder.partition("=")[0], values))
    return found


def declare() -> None:
    """Declare the operators of this module."""
    sink("AppendModelStreamFileSinkBatchOp", BatchOperator, append_model)
    sink("ModelStreamFileSinkStreamOp", StreamOperator, write_models)
    sink("Export2FileSinkStreamOp", StreamOperator, export)
    operator("ModelStreamFileSourceStreamOp", model_source, 0)
