"""Tables of SQLite's files.

Times are texts as SQLite's own functions write them; what Java's driver has written, milliseconds
since 1970, is read too.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ._chain import Expansion
from ._formats import parser, texts_of
from ._sqlite_types import connect_uri, quoted
from ._strings import Unreadable
from ._types import type_name

_EPOCH = datetime.datetime(1970, 1, 1)
_WAIT_S = 30  # for a writer of the same file


def read_tables(params: Mapping[str, Any], types: Sequence[pa.DataType]) -> Any:
    """Make the task that reads the table ``table`` of files, whose paths are in ``path``."""
    names: Sequence[str] = params["names"]
    cells = [_cell(kind) for kind in types]
    listed = ", ".join(map(quoted, names))

    def read(path: str) -> list[Sequence[Any]]:
        try:
            with contextlib.closing(_open(path, "ro")) as database:
                return database.execute(
                    f"SELECT {listed} FROM {quoted(params['table'])}"
                ).fetchall()
        except sqlite3.Error as error:
            raise Unreadable(f"{path}, table {params['table']}: {error}") from None

    def run(batch: pa.RecordBatch) -> Expansion:
        at: list[int] = []
        rows: list[Sequence[Any]] = []
        for i, path in enumerate(batch.column("path").to_pylist()):
            found = read(path)
            at += [i] * len(found)
            rows += found
        columns = [
            _column(name, [row[i] for row in rows], cell, kind)
            for i, (name, cell, kind) in enumerate(zip(names, cells, types, strict=True))
        ]
        return Expansion(pa.array(at, pa.int64()), columns)

    return run


def _open(path: str, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(connect_uri(path, mode), uri=True, timeout=_WAIT_S, isolation_level=None)


def _column(
    name: str, values: Sequence[Any], cell: Callable[[Any], Any], kind: pa.DataType
) -> pa.Array:
    try:
        return pa.array([None if value is None else cell(value) for value in values], kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        what = type_name(kind)
        raise Unreadable(f"column {name}, which is read as {what}: {error}") from None


def _cell(kind: pa.DataType) -> Callable[[Any], Any]:
    """Give the function that makes a value of a type of what SQLite has, which has no types."""
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_boolean(kind):
        return lambda value: bool(value) if isinstance(value, (int, float)) else parser(kind)(value)
    if pa.types.is_timestamp(kind):
        return _timestamp
    if pa.types.is_date(kind):
        return lambda value: _timestamp(value).date()
    if pa.types.is_time(kind):
        return parser(kind)
    if pa.types.is_binary(kind):
        return lambda value: value.encode() if isinstance(value, str) else value
    plain = int if pa.types.is_integer(kind) else (int, float)
    return lambda value: value if isinstance(value, plain) else parser(kind)(_text(value))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _timestamp(value: Any) -> datetime.datetime:
    if isinstance(value, (int, float)):
        return _EPOCH + datetime.timedelta(milliseconds=value)
    return datetime.datetime.fromisoformat(value.strip())


def writer(spec: Mapping[str, Any]) -> Callable[[Iterator[pa.RecordBatch]], int]:
    """Make the function that writes a table, all of it or nothing; it gives the number of rows.

    Parameters
    ----------
    spec : mapping
        ``path``, ``table``, ``columns`` (names and the types that SQLite is told), ``overwrite``
        to replace a table, ``append`` to add rows to one.
    """
    path, table = Path(spec["path"]), quoted(spec["table"])
    columns = ", ".join(f"{quoted(name)} {kind}".strip() for name, kind in spec["columns"])
    names = ", ".join(quoted(name) for name, _ in spec["columns"])
    marks = ", ".join("?" for _ in spec["columns"])

    def write(database: sqlite3.Connection, batches: Iterator[pa.RecordBatch]) -> int:
        found = database.execute(
            "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') "
            "AND lower(name) = lower(?)",
            [spec["table"]],
        ).fetchone()[0]
        if found and not spec["append"] and not spec["overwrite"]:
            raise FileExistsError(
                f"{path} has a table {spec['table']} already; the parameter overwriteSink of the "
                "CatalogObject replaces it"
            )
        if found and spec["overwrite"]:
            database.execute(f"DROP TABLE {table}")
        if not found or spec["overwrite"]:
            database.execute(f"CREATE TABLE {table} ({columns})")
        rows = 0
        for batch in batches:
            values = [_written(column) for column in batch.columns]
            insert = f"INSERT INTO {table} ({names}) VALUES ({marks})"
            database.executemany(insert, zip(*values, strict=True))
            rows += batch.num_rows
        return rows

    def run(batches: Iterator[pa.RecordBatch]) -> int:
        new = not path.exists()
        try:
            with contextlib.closing(_open(str(path), "rwc")) as database:
                database.execute("BEGIN IMMEDIATE")
                rows = write(database, batches)
                database.execute("COMMIT")  # closing without it takes everything back
        except sqlite3.Error as error:
            _forget(path, new)
            raise Unreadable(f"{path}, table {spec['table']}: {error}") from None
        except BaseException:
            _forget(path, new)
            raise
        return rows

    return run


def _forget(path: Path, new: bool) -> None:
    if new:
        path.unlink(missing_ok=True)


def _written(column: pa.Array) -> Sequence[Any]:
    """Give the values of a column as SQLite takes them."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return [None if v is None else str(v) for v in column.to_pylist()]
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    if any(of(kind) for of in (*plain, pa.types.is_binary)):
        return column.to_pylist()
    return texts_of(column)
