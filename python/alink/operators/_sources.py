"""Sources: files, rows of the program, numbers."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alink._algorithms import _ak_meta, _tfrecord_types
from alink._algorithms._strings import Unreadable
from alink._algorithms._types import MTABLE, TENSOR, VECTOR, is_kind, type_name, type_words
from alink._confinement import confinement
from alink._diag import quote
from alink._environment import Environment
from alink._files import absolute_path
from alink._functions import FunctionOptions
from alink._options import bad_option
from alink._table import Table
from alink.operators import _frame
from alink.operators._base import BatchOperator, StreamOperator, read_schema
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT, Make, batch_and_stream
from alink.operators._downloads import is_url
from alink.operators._mapping import apply_step, spreadsheet_libraries, with_schema
from alink.operators._operator import AlgoOperator
from alink.operators._session import session

Params = Mapping[str, Any]

_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
_FILES_MAX = 10_000


def local_path(name: str, params: Params) -> str:
    """Give the path of a file or folder of the engine's machine."""
    if params.get("partitions"):
        raise bad_option(
            name,
            f"{name}: partitions is not supported",
            "name the folder of the partition as filePath, or filter the rows behind",
        )
    return absolute_path(name, params["filePath"])


def readable_path(name: str, params: Params) -> str:
    """Give the path of what is read; a file at a URL is downloaded before."""
    path = params["filePath"]
    if is_url(path) and not session().context.is_served:
        return session().downloads.path_of(name, path)
    return local_path(name, params)


def unescaped(text: str) -> str:
    """Read a delimiter that is written as in Java's source, as two characters."""
    return _ESCAPES.get(text, text)


# --- text ---


def _lines(path: str, skip: bool) -> Table:
    """Give the lines of files in a column "text": a zero byte stands in no text."""
    return session().context.read_csv(
        path, schema="text string", header=False, delimiter="\0", quote=None, null_values=[],
        skip_rows=int(skip), partitions=False,
    )  # fmt: skip


def text_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read text: a row for each line."""
    lines = _lines(readable_path(name, params), params["ignoreFirstLine"])
    return lines.rename({"text": params["textCol"]})


def csv_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read CSV; ``schemaStr`` names the columns and their types.

    Lines of a plain form are read by the engine, those of another one (``lenient``, blank lines
    that count, rows left out, long delimiters) in workers, where a field ends with its line.
    """
    path = readable_path(name, params)
    schema = read_schema(name, params["schemaStr"])
    for field in schema:
        if is_kind(field.type, TENSOR) or is_kind(field.type, MTABLE):
            raise bad_option(
                name,
                f"{name}: column {quote(field.name)} of {type_name(field.type)} cannot be read "
                "from CSV",
                "read it as string, and convert it behind",
            )
    if unescaped(params["rowDelimiter"]) not in ("\n", "\r\n"):
        raise bad_option(
            name, f"{name}: rowDelimiter {params['rowDelimiter']!r:.20} is not read, only lines are"
        )
    given = {**params, "fieldDelimiter": unescaped(params["fieldDelimiter"])}
    if _is_plain(given):
        return _read_csv(name, path, schema, given)
    outputs = [(field.name, field.type) for field in schema]
    lines = _lines(path, params["ignoreFirstLine"])
    return apply_step(lines, name, "_sources.csv_lines", given, outputs, [])


def _is_plain(params: Params) -> bool:
    marks = [params["fieldDelimiter"], params["quoteChar"] or '"']
    return (
        not params["lenient"]
        and params["skipBlankLine"]
        and (params["handleInvalidMethod"] or "ERROR").upper() == "ERROR"
        and all(len(mark) == 1 and mark.isascii() and mark not in "\r\n" for mark in marks)
    )


def _read_csv(name: str, path: str, schema: pa.Schema, params: Params) -> Table:
    vectors = [field.name for field in schema if is_kind(field.type, VECTOR)]
    read = pa.schema(
        [pa.field(f.name, pa.string() if f.name in vectors else f.type) for f in schema]
    )
    table = session().context.read_csv(
        path, schema=read, header=False, delimiter=params["fieldDelimiter"],
        quote=params["quoteChar"], skip_rows=int(params["ignoreFirstLine"]), partitions=False,
    )  # fmt: skip
    if len(schema) == 1:  # a line without anything is a NULL
        table = table.filter(f'"{schema.names[0].replace(chr(34), chr(34) * 2)}" IS NOT NULL')
    if not vectors:
        return with_schema(table, schema)
    outputs = [(column, VECTOR) for column in vectors]
    return apply_step(table, name, "_sources.cells", {"columns": vectors}, outputs, None)


def tsv_source(name: str, params: Params, inputs: Sequence[Table]) -> Table:
    """Read text with tabs between the fields."""
    given = {
        "fieldDelimiter": "\t", "rowDelimiter": "\n", "quoteChar": '"', "lenient": False,
        "handleInvalidMethod": "ERROR",
    }  # fmt: skip
    return csv_source(name, {**given, **params}, inputs)


def libsvm_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read LibSVM's lines, ``label index:value …``."""
    outputs = [("label", pa.float64()), ("features", VECTOR)]
    given = {"startIndex": params["startIndex"]}
    lines = _lines(readable_path(name, params), skip=False)
    return apply_step(lines, name, "_sources.libsvm", given, outputs, [])


def parquet_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read Parquet."""
    return session().context.read_parquet(readable_path(name, params))


def ak_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read .ak files: one, or all of a folder.

    The client opens the first for its schema; a worker reads each whole file.
    """
    path = readable_path(name, params)
    try:
        paths = files_of(name, path)
        schema = _ak_meta.read_schema(str(paths[0]))
        for other in paths[1:]:
            if not _ak_meta.read_schema(str(other)).equals(schema):
                raise Unreadable(f"{other} has other columns than {paths[0]}")
    except (OSError, Unreadable) as error:
        hint = "an .ak file is what AkSinkBatchOp writes; the path is one of this machine"
        raise bad_option(name, f"{name}: {error}", hint) from None
    return read_files(name, path, paths, "_sources.ak_files", {}, schema)


def files_of(name: str, path: str) -> list[Path]:
    """Give a file, or the files of a folder but those whose names begin with . or _."""
    found = [Path(path)]
    if found[0].is_dir():
        found = sorted(p for p in found[0].iterdir() if not p.name.startswith((".", "_")))
    if not 0 < len(found) <= _FILES_MAX or not found[0].exists():
        what = f"holds {len(found)} files" if Path(path).is_dir() else "is no file"
        raise bad_option(name, f"{name}: {path} {what}", "the path is one of this machine")
    return found


def read_files(
    name: str,
    path: str,
    paths: Sequence[Path],
    task: str,
    params: Params,
    schema: pa.Schema,
    env: Environment | None = None,
) -> Table:
    """Have workers read whole files, each by itself; a task gets their paths.

    Parameters
    ----------
    name : str
        The operator's, for messages.
    path : str
        What the workers may see.
    paths : sequence of path
        The files.
    task : str
        ``"module.name"`` within the package of algorithms.
    params : mapping
        What the task is made with.
    schema : pyarrow.Schema
        The columns that it gives.
    env : Environment, optional
        Where it needs more than numpy.
    """
    files = session().context.from_arrow(pa.table({"path": [str(p) for p in paths]}))
    outputs = [(field.name, field.type) for field in schema]
    confined = confinement(name, {"mounts": {path: "ro"}}, ())
    options = FunctionOptions(env=env, batch_rows=1, timeout=None, confined=confined)
    return apply_step(files, name, task, params, outputs, [], options=options)


def tfrecord_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read TFRecords of examples: a file, or all of a folder.

    ``schemaStr`` names features: numbers and texts are a feature's first value, tensors and
    vectors all of them. A feature that an example lacks is NULL. A worker reads a whole file.
    """
    path = readable_path(name, params)
    schema = read_schema(name, params["schemaStr"])
    try:
        _tfrecord_types.refuse_others(schema)
    except Unreadable as error:
        raise bad_option(name, f"{name}: {error}", "read it as STRING or VARBINARY") from None
    kinds = [_TENSOR_WORDS.match(word) for word in type_words(params["schemaStr"])]
    tensors = [
        "" if match is None else _TENSOR_KINDS.get(m := match[1].upper(), m) for match in kinds
    ]
    given = {"names": schema.names, "tensors": tensors}
    return read_files(name, path, files_of(name, path), "_tfrecords.read_files", given, schema)


_TENSOR_WORDS = re.compile(r"([A-Za-z]+)_TENSOR\Z", re.IGNORECASE)
_TENSOR_KINDS = {"BOOL": "BOOLEAN"}


def xls_source(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Read a sheet of .xls and .xlsx files: one file, or all of a folder.

    ``schemaStr`` names the columns, from the first one, and their types. Formulas are read as
    the values that they had when the file was saved. An empty cell, or an empty text, is NULL; a
    row without any value is left out, and with ``lenient`` one that cannot be read.
    """
    path = readable_path(name, params)
    schema = read_schema(name, params["schemaStr"])
    for field in schema:
        if (
            pa.types.is_binary(field.type)
            or is_kind(field.type, TENSOR)
            or is_kind(field.type, MTABLE)
        ):
            raise bad_option(
                name,
                f"{name}: column {quote(field.name)} of {type_name(field.type)} cannot be read "
                "from a sheet",
                "read it as string, and convert it behind",
            )
    if params["sheetIndex"] < 0:
        raise bad_option(name, f"{name}: sheetIndex is {params['sheetIndex']}", "it counts from 0")
    wanted = ("sheetIndex", "ignoreFirstLine", "lenient")
    given = {"names": schema.names, **{key: params[key] for key in wanted}}
    paths = files_of(name, path)
    env = spreadsheet_libraries()
    return read_files(name, path, paths, "_sheets.read_files", given, schema, env)


# --- rows of the program ---


class _Memory(AlgoOperator):
    _inputs_min = 0
    _inputs_max = 0

    def __init__(self, rows: Any, schema: str | Sequence[str] | None = None) -> None:
        super().__init__()
        import pandas as pd

        types = read_schema(self._name, schema) if isinstance(schema, str) else None
        names = list(schema) if schema is not None and types is None else None
        frame = rows
        if not isinstance(rows, pd.DataFrame):
            cells = [row if isinstance(row, (list, tuple)) else [row] for row in rows]
            width = None if cells else range(len(types or names or ()))
            frame = pd.DataFrame(cells, columns=width, dtype="object")
        if names is not None:
            if len(names) != frame.shape[1]:
                raise bad_option(
                    self._name, f"{self._name}: {len(names)} names for {frame.shape[1]} columns"
                )
            frame = frame.set_axis(names, axis=1)
        self._output = session().context.from_arrow(_frame.from_pandas(self._name, frame, types))


class MemSourceBatchOp(_Memory, BatchOperator):
    """Take rows of the program.

    Parameters
    ----------
    rows : sequence of rows, or of values of one column, or a DataFrame
    schema : str or sequence of str
        A schema string, or the columns' names alone.
    """


class MemSourceStreamOp(_Memory, StreamOperator):
    """Take rows of the program as a stream; see `MemSourceBatchOp`."""


class _Given(AlgoOperator):
    _inputs_min = 0
    _inputs_max = 0

    def __init__(self, table: Any) -> None:
        super().__init__()
        if isinstance(table, AlgoOperator):
            table = table._table()
        self._output = table if isinstance(table, Table) else session().context.from_any(table)


class TableSourceBatchOp(_Given, BatchOperator):
    """Take the rows of a table of `alink`, an operator, or of pandas, polars and Arrow."""


class TableSourceStreamOp(_Given, StreamOperator):
    """Take the rows of a table as a stream; see `TableSourceBatchOp`."""


# --- numbers ---


def numbers(name: str, first: int, last: int, column: str) -> Table:
    """Give the whole numbers from one to another, both included."""
    for value in (first, last):
        if not -(2**63) <= value < 2**63:
            raise bad_option(name, f"{name}: {value} is no number of 64 bits")
    column = column.replace('"', '""')
    return session().context.sql(
        f'SELECT generate_series AS "{column}" FROM generate_series({first}, {last})'
    )


class _Sequence(AlgoOperator):
    # The catalogue knows none of the stream's: its constructor takes them.
    _parameters = catalogue()["NumSeqSourceBatchOp"].parameters
    _inputs_min = 0
    _inputs_max = 0

    def __init__(self, *args: Any, **params: Any) -> None:
        settings = [item for item in args if isinstance(item, Mapping)]
        places = [item for item in args if not isinstance(item, Mapping)]
        if len(places) > len(_PLACES):
            raise bad_option(self._name, f"{self._name} takes {', '.join(_PLACES)}")
        super().__init__(*settings, **dict(zip(_PLACES, places, strict=False)), **params)

    def _link(self) -> Table:
        params = self._all()
        return numbers(self._name, params["from"], params["to"], params["outputCol"] or "num")


_PLACES = ("from", "to", "outputCol")


class NumSeqSourceBatchOp(_Sequence, BatchOperator):
    """Count from one whole number to another, both included; the column is "num" by default."""


class NumSeqSourceStreamOp(_Sequence, StreamOperator):
    """Count as a stream; see `NumSeqSourceBatchOp`."""


_CONF = re.compile(r"\s*(.+?)\s*:\s*(\w+)\s*\(([^)]*)\)\s*")
_ARGUMENTS = {"uniform": 2, "uniform_open": 2, "gauss": 2, "poisson": 1, "weight_set": 0}


def random_table(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Make rows of random numbers, by default from 0 to 1.

    ``outputColConfs`` says how: ``"a:uniform(0,10);b:gauss(0,1,nullper=0.1)"``, and poisson(mean),
    uniform_open(from,to), weight_set(value,weight,value,weight,…).
    """
    count = params["numRows"] if "numRows" in params else params["maxRows"]
    columns = params["outputCols"] or [f"col{i}" for i in range(params["numCols"])]
    confs = _confs(name, params["outputColConfs"], columns)
    default = {"kind": "uniform", "args": [0.0, 1.0], "nulls": 0.0}
    identity = params["idCol"]
    rows = numbers(name, 0, count - 1, identity or "__row")
    settings = {
        "rows": identity or "__row",
        "seed": seed_of(name),
        "columns": [{"name": column, **confs.get(column, default)} for column in columns],
    }
    outputs = [(column, pa.float64()) for column in columns]
    kept = [identity] if identity else []
    return apply_step(rows, name, "_sources.random_table", settings, outputs, kept)


def _confs(name: str, text: str | None, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    confs: dict[str, dict[str, Any]] = {}
    for part in filter(str.strip, (text or "").split(";")):
        match = _CONF.fullmatch(part)
        arguments = match[3].split(",") if match is not None else []
        nulls = [a.partition("=")[2] for a in arguments if a.strip().startswith("nullper")]
        try:
            assert match is not None
            args = [float(a) for a in arguments if "=" not in a]
            share = float(nulls[0]) if nulls else 0.0
            wanted = _ARGUMENTS[match[2]]
            assert len(args) == wanted if wanted else args and len(args) % 2 == 0
            assert match[2] != "weight_set" or (min(args[1::2]) >= 0 and sum(args[1::2]) > 0)
            assert match[2] != "poisson" or 0 <= args[0] <= 700
        except (AssertionError, ValueError, KeyError):
            raise bad_option(
                name,
                f"{name}: {quote(part.strip())} in outputColConfs is not understood",
                'write "a:uniform(0,10);b:gauss(0,1,nullper=0.1)"; there are '
                + ", ".join(_ARGUMENTS),
            ) from None
        if match[1] not in columns:
            raise bad_option(name, f"{name}: outputColConfs names {match[1]}, no column")
        confs[match[1]] = {"kind": match[2], "args": args, "nulls": share}
    return confs


def random_vectors(name: str, params: Params, _inputs: Sequence[Table]) -> Table:
    """Make rows of sparse random vectors, written as text."""
    count = params["numRows"] if "numRows" in params else params["maxRows"]
    size, share = params["size"], params["sparsity"]
    if len(size) != 1 or size[0] < 0:
        raise bad_option(name, f"{name}: size is one number, the vectors', not {size}")
    if not 0 <= share <= 1:
        raise bad_option(name, f"{name}: sparsity is the share of values, not {share}")
    identity, column = params["idCol"] or "__row", params["outputCol"]
    first = 1 if name.endswith("StreamOp") else 0
    rows = numbers(name, first, first + count - 1, identity)
    settings = {"rows": identity, "seed": seed_of(name), "size": size[0], "sparsity": share}
    kept = [identity] if params["idCol"] else []
    return apply_step(
        rows, name, "_sources.random_vectors", settings, [(column, pa.string())], kept
    )


def seed_of(name: str, *more: Any) -> int:
    """Give the seed of an operator that is given none: the same in each run."""
    return zlib.crc32(json.dumps([name, *more]).encode())


def declare() -> None:
    """Declare the operators of this module."""
    sources: dict[str, Make] = {
        "CsvSource": csv_source,
        "TsvSource": tsv_source,
        "TextSource": text_source,
        "LibSvmSource": libsvm_source,
        "ParquetSource": parquet_source,
        "AkSource": ak_source,
        "TFRecordDatasetSource": tfrecord_source,
        "XlsSource": xls_source,
        "RandomTableSource": random_table,
        "RandomVectorSource": random_vectors,
    }
    for name, make in sources.items():
        batch_and_stream(name, make, 0)
    for made in (
        MemSourceBatchOp, MemSourceStreamOp, TableSourceBatchOp, TableSourceStreamOp,
        NumSeqSourceBatchOp, NumSeqSourceStreamOp,
    ):  # fmt: skip
        made._name = made.__name__
        BUILT[made.__name__] = made
