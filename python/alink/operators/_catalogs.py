"""Tables of databases, which catalogs name: those of SQLite."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alink._algorithms import _sqlite_types
from alink._algorithms._strings import Unreadable
from alink._diag import did_you_mean
from alink._files import absolute_path
from alink._options import bad_option
from alink._table import Table
from alink.operators._base import BatchOperator, StreamOperator
from alink.operators._catalogue import Parameter, catalogue
from alink.operators._define import build
from alink.operators._operator import AlgoOperator
from alink.operators._sinks import Writer, sink
from alink.operators._sources import read_files

_HINT = 'CatalogObject(SqliteCatalog("c", None, "3.19.3", ["file.db"]), ObjectPath("file", "t"))'


class ObjectPath:
    """The name of a table in a database.

    Parameters
    ----------
    database_name, object_name : str
    """

    def __init__(self, database_name: str, object_name: str) -> None:
        self._names = (database_name, object_name)

    def get_database_name(self) -> str:
        """Give the database's name."""
        return self._names[0]

    def get_object_name(self) -> str:
        """Give the table's name."""
        return self._names[1]

    def get_full_name(self) -> str:
        """Give both."""
        return ".".join(self._names)


class BaseCatalog:
    """What finds tables of databases by their names."""


class _NoCatalog(BaseCatalog):
    """Refuses to be made."""

    def __init__(self, *_given: Any, **_more: Any) -> None:
        name = type(self).__name__
        raise bad_option(
            name,
            f"{name}: there are catalogs of SQLite alone",
            "read the table with a library of its database, and give it to "
            "BatchOperator.fromDataframe(df, schemaStr)",
        )


class HiveCatalog(_NoCatalog):
    """Tables of Hive, which are not read."""


class DerbyCatalog(_NoCatalog):
    """Tables of Derby, which are not read."""


class MySqlCatalog(_NoCatalog):
    """Tables of MySQL, which are not read."""


class OdpsCatalog(_NoCatalog):
    """Tables of ODPS, which are not read."""


class SqliteCatalog(BaseCatalog):
    """Files of SQLite, each of them a database that is called as the file without its ending.

    Parameters
    ----------
    catalogName : str
    defaultDatabase : str, optional
    sqliteVersion : str
        Of Alink's plugin; it changes nothing.
    dbUrls : str or sequence of str
        Paths of files, of the engine's machine.
    userName, password : str, optional
        SQLite has none; they change nothing.
    """

    def __init__(
        self,
        catalogName: str,
        defaultDatabase: str | None,
        sqliteVersion: str,
        dbUrls: str | os.PathLike[str] | Sequence[str],
        userName: str | None = None,
        password: str | None = None,
    ) -> None:
        del catalogName, sqliteVersion, userName, password
        given = [dbUrls] if isinstance(dbUrls, (str, os.PathLike)) else list(dbUrls)
        paths = [absolute_path("SqliteCatalog", os.fspath(path)) for path in given]
        self._files = {Path(path).stem: path for path in paths}
        if not paths or len(self._files) < len(paths):
            raise bad_option(
                "SqliteCatalog",
                f"SqliteCatalog: dbUrls {given!r:.100} are not files with names of their own",
                'name one or several files: ["/data/sales.db"]',
            )
        self._default = defaultDatabase or next(iter(self._files))

    def _file(self, database: str | None) -> str:
        """Give the path of a database's file."""
        name = database or self._default
        if name not in self._files and len(self._files) == 1 and name == self._default:
            return next(iter(self._files.values()))
        if name not in self._files:
            raise bad_option(
                "SqliteCatalog",
                f"SqliteCatalog: there is no database {name!r:.60}",
                did_you_mean(name, "databases", list(self._files)),
            )
        return self._files[name]

    def open(self) -> None:
        """Do nothing: a file is opened when it is read or written."""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def list_databases(self) -> list[str]:
        """Give the databases' names."""
        return list(self._files)

    def database_exists(self, database_name: str) -> bool:
        """Tell whether a database is one of the catalog's."""
        return database_name in self._files

    def list_tables(self, database_name: str) -> list[str]:
        """Give the names of a database's tables and views."""
        try:
            return _sqlite_types.tables_of(self._file(database_name))
        except Unreadable as error:
            raise bad_option("SqliteCatalog", f"SqliteCatalog: {error}") from None

    def table_exists(self, table_path: ObjectPath) -> bool:
        """Tell whether a table is there."""
        tables = self.list_tables(table_path.get_database_name())
        return table_path.get_object_name().lower() in map(str.lower, tables)

    def drop_table(self, table_path: ObjectPath, ignore_if_not_exists: bool) -> None:
        """Remove a table at once."""
        name = table_path.get_object_name()
        if not self.table_exists(table_path):
            if ignore_if_not_exists:
                return
            raise bad_option("SqliteCatalog", f"SqliteCatalog: there is no table {name!r:.60}")
        import sqlite3

        path = self._file(table_path.get_database_name())
        uri = _sqlite_types.connect_uri(path, "rw")
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database, database:
            database.execute(f"DROP TABLE {_sqlite_types.quoted(name)}")


class CatalogObject:
    """A table of a catalog.

    Parameters
    ----------
    catalog : SqliteCatalog
    objectPath : ObjectPath
    params : mapping, optional
        ``overwriteSink`` has the batch sink replace a table.
    """

    def __init__(
        self,
        catalog: SqliteCatalog,
        objectPath: ObjectPath,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(catalog, SqliteCatalog) or not isinstance(objectPath, ObjectPath):
            raise bad_option(
                "CatalogObject",
                "CatalogObject takes a SqliteCatalog and an ObjectPath",
                _HINT,
            )
        self._catalog, self._path, self._params = catalog, objectPath, dict(params or {})

    def getCatalog(self) -> SqliteCatalog:
        """Give the catalog."""
        return self._catalog

    def getObjectPath(self) -> ObjectPath:
        """Give the table's name."""
        return self._path

    def getParams(self) -> dict[str, Any]:
        """Give the parameters."""
        return dict(self._params)

    def _place(self) -> tuple[str, str]:
        """Give the file and the table."""
        return self._catalog._file(self._path.get_database_name()), self._path.get_object_name()


def _object(name: str, params: Mapping[str, Any]) -> CatalogObject:
    given = params["catalogObject"]
    if not isinstance(given, CatalogObject):
        raise bad_option(name, f"{name}: catalogObject is {given!r:.60}, no CatalogObject", _HINT)
    return given


def _source(self: AlgoOperator) -> Table:
    name = self._name
    path, table = _object(name, self._all())._place()
    try:
        schema = _sqlite_types.read_schema(path, table)
    except Unreadable as error:
        raise bad_option(name, f"{name}: {error}", "the path is one of this machine") from None
    given = {"table": table, "names": schema.names}
    folder = str(Path(path).parent)  # SQLite looks for a journal beside the file
    return read_files(name, folder, [Path(path)], "_sqlite.read_tables", given, schema)


def write_table(name: str, params: Mapping[str, Any], table: Table) -> Table:
    """Write a table of a database, all of it or nothing.

    The batch operator makes the table, the stream operator adds rows to one that is there. NaN
    becomes NULL, FLOAT is read back as DOUBLE, and vectors as their texts.
    """
    given = _object(name, params)
    path, into = given._place()
    try:
        columns = _sqlite_types.declared(table.schema)
    except Unreadable as error:
        hint = "cast it to string, or leave it out"
        raise bad_option(name, f"{name}: {error}", hint) from None
    spec = {
        "path": path,
        "table": into,
        "columns": columns,
        "overwrite": given._params.get("overwriteSink", False) and name.endswith("BatchOp"),
        "append": name.endswith("StreamOp"),
    }
    return table._derive("fit", {"function": Writer(name, spec, task="_sqlite.writer")})


def _parameters(name: str) -> dict[str, Parameter]:
    """Give the parameters: an object of the program, where Alink's own has a text of JSON."""
    return {
        key: replace(parameter, type="CatalogObject")
        for key, parameter in catalogue()[name].parameters.items()
    }


def declare() -> None:
    """Declare the operators of this module."""
    doc = "Read a table of a database of SQLite's, with the types that its columns were declared."
    for kind, base in (("Batch", BatchOperator), ("Stream", StreamOperator)):
        source, into = f"CatalogSource{kind}Op", f"CatalogSink{kind}Op"
        members: dict[str, Any] = {"_inputs_min": 0, "_inputs_max": 0, "_link": _source}
        build(source, base, doc, _parameters=_parameters(source), **members)
        sink(into, base, write_table, _parameters=_parameters(into))
