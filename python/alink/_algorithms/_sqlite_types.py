"""Columns of SQLite's tables, and their types."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa

from ._strings import Unreadable
from ._types import VECTOR, is_kind, parse_type, type_name

if TYPE_CHECKING:
    import sqlite3

#: What SQLite is told of a column, by our names of types; text is what it does not change.
_DECLARED = {
    "INT": "INT", "BIGINT": "BIGINT", "SMALLINT": "SMALLINT", "TINYINT": "TINYINT",
    "DOUBLE": "DOUBLE", "FLOAT": "REAL", "BOOLEAN": "BOOLEAN", "TIMESTAMP": "TIMESTAMP",
    "DATE": "DATE", "TIME": "TIME", "STRING": "TEXT", "VARBINARY": "BLOB", "VECTOR": "TEXT",
}  # fmt: skip
_READ = {
    **{
        name: name
        for name in ("INT", "SMALLINT", "TINYINT", "BOOLEAN", "TIMESTAMP", "DATE", "TIME")
    },
    "DATETIME": "TIMESTAMP",
    "BLOB": "VARBINARY",
    "VARBINARY": "VARBINARY",
}
#: Parts of declared types, in the order in which SQLite looks for them.
_PARTS = (
    ("INT", "BIGINT"), ("CHAR", "STRING"), ("CLOB", "STRING"), ("TEXT", "STRING"),
    ("STRING", "STRING"), ("REAL", "DOUBLE"), ("FLOA", "DOUBLE"), ("DOUB", "DOUBLE"),
    ("NUMERIC", "DOUBLE"), ("DECIMAL", "DOUBLE"),
)  # fmt: skip


def quoted(name: str) -> str:
    """Write a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def connect_uri(path: str, mode: str) -> str:
    """Write what SQLite opens a file by."""
    return f"file:{quote(str(path))}?mode={mode}"


def declared(schema: pa.Schema) -> list[tuple[str, str]]:
    """Give columns with the types that SQLite is told.

    Raises
    ------
    Unreadable
        For a column that SQLite would change.
    """
    found: list[tuple[str, str]] = []
    for field in schema:
        kind = "VECTOR" if is_kind(field.type, VECTOR) else type_name(field.type)
        if kind not in _DECLARED:
            raise Unreadable(f"column {field.name!r:.60}: SQLite has no {kind}")
        found.append((field.name, _DECLARED[kind]))
    return found


def tables_of(path: str) -> list[str]:
    """Give the names of a file's tables and views."""
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
    if not Path(path).exists():
        return []
    with _reading(path) as database:
        return [name for (name,) in database.execute(query) if not name.startswith("sqlite_")]


def read_schema(path: str, table: str) -> pa.Schema:
    """Read the columns of a table.

    Raises
    ------
    Unreadable
        If there is none.
    """
    with _reading(path) as database:
        rows = database.execute("SELECT name, type FROM pragma_table_info(?)", [table]).fetchall()
    if not rows:
        known = ", ".join(tables_of(path)) or "no table"
        raise Unreadable(f"{path} has no table {table}; it has {known:.300}")
    return pa.schema([(name, parse_type(_kind(kind))) for name, kind in rows])


@contextlib.contextmanager
def _reading(path: str) -> Generator[sqlite3.Connection, None, None]:
    import sqlite3  # which takes time that programs without a database do not need

    try:
        with contextlib.closing(sqlite3.connect(connect_uri(path, "ro"), uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise Unreadable(f"{path} is no database of SQLite's that is read: {error}") from None


def _kind(text: str) -> str:
    """Give the type that a declared one is read as, by SQLite's own rules where it has any."""
    word = text.upper().partition("(")[0].strip()
    if word in _READ:
        return _READ[word]
    return next((kind for part, kind in _PARTS if part in word), "STRING")
