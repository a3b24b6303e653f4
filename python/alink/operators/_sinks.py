"""Sinks: what the next ``execute`` writes, files for the most part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from alink._algorithms import _tfrecord_types
from alink._algorithms._ak_meta import refuse_others
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import VECTOR, format_schema, is_kind
from alink._confinement import Confinement, confinement
from alink._environment import Environment
from alink._files import absolute_path, csv_output_args, output_args
from alink._functions import FitFunction, FunctionOptions
from alink._options import bad_option, find_column
from alink._origin import user_origin
from alink._plan import Node
from alink._ship import Shipment
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._define import build
from alink.operators._mapping import (
    apply_step,
    environment,
    in_workers,
    spreadsheet_libraries,
    task_shipment,
)
from alink.operators._operator import AlgoOperator
from alink.operators._session import Waiting, session
from alink.operators._sources import unescaped

Params = Mapping[str, Any]

#: Makes what is to run: a step of a plan that writes, or a table whose one row is made when a
#: worker has written.
MakeSink = Callable[[str, Params, Table], "Node | Table"]


class Writer(FitFunction[..., Any]):
    """A writer of the package of algorithms: one worker gets all rows.

    What it may do is `confined`, or to write into the folder of the file that ``path`` names.
    """

    def __init__(
        self,
        name: str,
        spec: Params,
        env: Environment | None = None,
        task: str = "_sinks.writer",
        confined: Confinement | None = None,
    ) -> None:
        if confined is None:
            folder = str(Path(spec["path"]).parent)
            confined = confinement(name, {"mounts": {folder: "rw"}}, ())
        options = FunctionOptions(
            env=env or environment(), timeout=None, timeout_ms_default=0, confined=confined
        )
        super().__init__(in_workers, options)
        self.name = name
        self.origin = None
        self.parameters = ("batches",)
        self._spec = dict(spec)
        self._task = task

    def shipment(self, same_python: bool) -> Shipment:
        """Give the function as it travels."""
        del same_python
        return task_shipment(self._task, self._spec)


def _written(
    name: str,
    params: Params,
    table: Table,
    form: str,
    *,
    env: Environment | None = None,
    **more: Any,
) -> Table:
    """Make the table whose row is there when a worker has written the file."""
    refuse_several(name, params)
    path = absolute_path(name, params["filePath"])
    spec = {"format": form, "path": path, "overwrite": params["overwriteSink"], **more}
    return table._derive("fit", {"function": Writer(name, spec, env)})


def refuse_several(name: str, params: Params) -> None:
    """Refuse to write several files."""
    if params.get("numFiles", 1) != 1 or params.get("partitionCols"):
        raise bad_option(
            name,
            f"{name} writes one file: numFiles and partitionCols are not supported",
            "CsvSinkBatchOp writes folders",
        )


def text_sink(name: str, params: Params, table: Table) -> Table:
    """Write the only column, a row a line."""
    if len(table.columns) != 1:
        raise bad_option(name, f"{name} writes one column, not {len(table.columns)}")
    return _written(name, params, table, "text")


def libsvm_sink(name: str, params: Params, table: Table) -> Table:
    """Write LibSVM's lines, ``label index:value …``."""
    columns = {key: find_column(name, table.schema, params[key]) for key in _LIBSVM_COLUMNS}
    given: dict[str, Any] = {"startIndex": params["startIndex"], **columns}
    return _written(name, params, table, "libsvm", **given)


_LIBSVM_COLUMNS = ("labelCol", "vectorCol")


def ak_sink(name: str, params: Params, table: Table) -> Table:
    """Write an .ak file, Alink's own format."""
    try:
        refuse_others(table.schema)
    except Unreadable as error:
        hint = "leave the column out, or cast it to string"
        raise bad_option(name, f"{name}: {error}", hint) from None
    return _written(name, params, table, "ak", schemaStr=format_schema(table.schema))


def tfrecord_sink(name: str, params: Params, table: Table) -> Table:
    """Write TFRecords of examples: floats of 32 bits, int64 and bytes.

    Truths are 0 and 1, NULL is a feature without values, vectors and tensors lose their shape.
    """
    try:
        _tfrecord_types.refuse_others(table.schema)
    except Unreadable as error:
        raise bad_option(name, f"{name}: {error}", "cast it to string, or leave it out") from None
    return _written(name, params, table, "tfrecord", schemaStr=format_schema(table.schema))


def xls_sink(name: str, params: Params, table: Table) -> Table:
    """Write an .xlsx file of one sheet, without a line of names.

    What a sheet would change is written as text, which XlsSource reads back as it was: numbers of
    more than 15 digits, NaN, times of microseconds or before March 1900.
    """
    return _written(name, params, table, "xls", env=spreadsheet_libraries())


def csv_sink(name: str, params: Params, table: Table) -> Node:
    """Write CSV without a header; with ``numFiles`` or ``partitionCols`` a folder of files."""
    if unescaped(params["rowDelimiter"]) != "\n":
        raise bad_option(
            name, f"{name}: rowDelimiter {params['rowDelimiter']!r:.20} is not written, lines are"
        )
    vectors = [f.name for f in table.schema if is_kind(f.type, VECTOR)]
    if vectors:
        outputs = [(column, pa.string()) for column in vectors]
        table = apply_step(table, name, "_sinks.texts", {"columns": vectors}, outputs, None)
    args = output_args(
        name,
        params["filePath"],
        mode="overwrite" if params["overwriteSink"] else "error",
        partition_by=params.get("partitionCols") or None,
        compression=None,
    )
    if params["numFiles"] > 1:
        args["folder"] = True
    args |= csv_output_args(
        name,
        delimiter=unescaped(params["fieldDelimiter"]),
        quote_mark=params["quoteChar"] or '"',
        header=False,
        null_value="",
    )
    return Node("write_csv", (table._node,), args, user_origin())


def tsv_sink(name: str, params: Params, table: Table) -> Node:
    """Write text with tabs between the fields."""
    given = {"fieldDelimiter": "\t", "rowDelimiter": "\n", "quoteChar": '"'}
    return csv_sink(name, {**given, **params}, table)


def sink(name: str, base: type[AlgoOperator], make: MakeSink, **members: Any) -> None:
    """Declare a sink of one kind; `members` are the class's, besides those of all sinks."""

    def _link(self: AlgoOperator) -> Table:
        table = self._inputs[0]._table()
        made = make(name, self._all(), table)
        current = session()
        if isinstance(made, Node):
            current.sinks.setdefault(self._kind, []).append(made)
        else:
            waiting = Waiting(self._of(made), lambda _rows: None)
            current.waiting.setdefault(self._kind, []).append(waiting)
        return table

    build(name, base, make.__doc__, _link=_link, **members)


def _print(self: AlgoOperator) -> Table:
    most = self._get("maxLimit") if "maxLimit" in self._parameters else None
    self._inputs[0].lazyPrint(most or -1)
    return self._inputs[0]._table()


def declare() -> None:
    """Declare the operators of this module."""
    sinks: dict[str, MakeSink] = {
        "CsvSink": csv_sink,
        "TsvSink": tsv_sink,
        "TextSink": text_sink,
        "LibSvmSink": libsvm_sink,
        "AkSink": ak_sink,
        "TFRecordDatasetSink": tfrecord_sink,
        "XlsSink": xls_sink,
    }
    for name, make in sinks.items():
        sink(f"{name}BatchOp", BatchOperator, make)
        sink(f"{name}StreamOp", StreamOperator, make)
    build("PrintBatchOp", BatchOperator, "Print the rows.", _link=_print)
    build("PrintStreamOp", StreamOperator, "Print the rows.", _link=_print)
