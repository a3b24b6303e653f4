"""Tables of SQLite's databases: what is written is read again, and what others have written."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import alink as al
from alink._algorithms import _sqlite
from alink._algorithms._sqlite_types import read_schema
from alink._algorithms._strings import Unreadable
from pyalink import alink as pyalink
from pyalink.alink import BatchOperator, StreamOperator

SCHEMA = "i int, l bigint, sh smallint, d double, o boolean, `s x` string, t timestamp"
MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)
ROWS: list[list[Any]] = [
    [1, 2**63 - 1, -3, 1.5, True, 'ü "漢字" 🙂', MOMENT],
    [-(2**31), -(2**63), 0, float("inf"), False, "007", datetime.datetime(1, 1, 1)],
    [None] * 7,
]


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    pyalink.resetEnv()
    yield
    pyalink.resetEnv()


def place(path: Path, table: str = "t", **params: Any) -> Any:
    catalog = pyalink.SqliteCatalog("c", None, "3.19.3", [str(path)])
    return pyalink.CatalogObject(catalog, pyalink.ObjectPath(path.stem, table), params)


def listed(operator: Any) -> list[list[Any]]:
    return [list(row.values()) for row in operator.toTable().to_arrow().to_pylist()]


def ask(path: Path, *queries: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        return [database.execute(query).fetchall() for query in queries][-1]


@pytest.mark.parametrize("form", ["Batch", "Stream"])
def test_what_is_written_is_read_again(form: str, tmp_path: Path) -> None:
    base = BatchOperator if form == "Batch" else StreamOperator
    path = tmp_path / "a b?.db"
    rows = getattr(pyalink, f"MemSource{form}Op")(ROWS, SCHEMA)
    sink = getattr(pyalink, f"CatalogSink{form}Op")().setCatalogObject(place(path))
    rows.link(sink)
    assert not path.exists()
    base.execute()
    source = getattr(pyalink, f"CatalogSource{form}Op")().setCatalogObject(place(path))
    assert source.getSchemaStr() == rows.getSchemaStr()
    assert listed(source) == ROWS
    assert [p.name for p in tmp_path.iterdir()] == ["a b?.db"]
    rows.link(getattr(pyalink, f"CatalogSink{form}Op")(catalogObject=place(path)))
    if form == "Stream":  # adds
        base.execute()
        assert listed(source) == [*ROWS, *ROWS]
        return
    with pytest.raises(al.Error, match="has a table t already; the parameter overwriteSink"):
        base.execute()
    rows.select("i").link(
        pyalink.CatalogSinkBatchOp(catalogObject=place(path, "T", overwriteSink=True))
    )
    base.execute()
    assert ask(path, "SELECT * FROM t") == [(1,), (-(2**31),), (None,)]


def test_a_table_that_others_have_written(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    ask(
        path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC(10, 2), v VARCHAR(5), x, u UNSIGNED, "
        "r REAL, b BLOB, at DATETIME, day DATE, clock TIME, ok BOOLEAN, f FLOAT)",
        "INSERT INTO t VALUES (1, 2.5, 'ü', 3, 'w', 1, x'00ff', 1715000000123, '2024-01-02', "
        "'03:04:05', 1, 0.1), (2, 3, 7, NULL, NULL, NULL, 'text', '2024-01-02T03:04:05', "
        "'2024-01-02 00:00:00', NULL, 'true', 1)",
        "CREATE VIEW v AS SELECT id FROM t WHERE id > 1",
    )
    source = pyalink.CatalogSourceBatchOp(catalogObject=place(path))
    assert source.getSchemaStr() == (
        "id BIGINT, n DOUBLE, v VARCHAR, x VARCHAR, u VARCHAR, r DOUBLE, b VARBINARY, "
        "at TIMESTAMP, day DATE, clock TIME, ok BOOLEAN, f DOUBLE"
    )
    day = datetime.date(2024, 1, 2)
    first = datetime.datetime(2024, 5, 6, 12, 53, 20, 123000)
    assert listed(source) == [
        [1, 2.5, "ü", "3", "w", 1.0, b"\x00\xff", first, day, datetime.time(3, 4, 5), True, 0.1],
        [2, 3.0, "7", None, None, None, b"text", datetime.datetime(2024, 1, 2, 3, 4, 5), day,
         None, True, 1.0],
    ]  # fmt: skip
    catalog = place(path).getCatalog()
    assert catalog.list_databases() == ["other"]
    assert catalog.list_tables("other") == ["t", "v"]
    assert catalog.table_exists(pyalink.ObjectPath("other", "V"))
    assert listed(pyalink.CatalogSourceBatchOp(catalogObject=place(path, "v"))) == [[2]]


def test_tables_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    ask(path, "CREATE TABLE t (a INT)")
    catalog, name = place(path).getCatalog(), pyalink.ObjectPath("some", "t")
    catalog.open()
    catalog.drop_table(name, False)
    assert not catalog.table_exists(name)
    catalog.drop_table(name, True)
    with pytest.raises(al.Error, match="there is no table 't'"):
        catalog.drop_table(name, False)
    catalog.close()
    assert name.get_full_name() == "some.t"
    with pytest.raises(al.Error, match="there is no database 'somme'"):
        catalog.list_tables("somme")


def spec(path: Path, **given: Any) -> dict[str, Any]:
    columns = [("a", "INT"), ("v", "TEXT")]
    plain = {"path": str(path), "table": "t", "overwrite": False, "append": False}
    return {**plain, "columns": columns, **given}


def batches(*values: Any) -> Iterator[pa.RecordBatch]:
    for value in values:
        if isinstance(value, Exception):
            raise value
        yield pa.record_batch({"a": pa.array([value], pa.int64()), "v": ["x"]})


def test_nothing_is_written_unless_all_is(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with pytest.raises(ValueError, match="broken"):
        _sqlite.writer(spec(path))(batches(1, ValueError("broken")))
    assert list(tmp_path.iterdir()) == []
    assert _sqlite.writer(spec(path))(batches(1, 2)) == 2
    with pytest.raises(ValueError, match="broken"):
        _sqlite.writer(spec(path, overwrite=True))(batches(3, ValueError("broken")))
    with pytest.raises(ValueError, match="broken"):
        _sqlite.writer(spec(path, append=True))(batches(3, ValueError("broken")))
    assert ask(path, "SELECT a FROM t") == [(1,), (2,)]
    assert _sqlite.writer(spec(path, append=True))(batches()) == 0
    with pytest.raises(Unreadable, match=r"table t: .*no column named b"):
        _sqlite.writer(spec(path, append=True, columns=[("a", "INT"), ("b", "TEXT")]))(batches(1))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("INT", "'x'", "which is read as INT: 'x' is not"),
        ("INT", "1.5", "not a whole"),
        ("TINYINT", "300", "as TINYINT: "),
        ("TIMESTAMP", "'x'", "as TIMESTAMP: "),
        ("DATE", "x'00'", "as DATE: "),
    ],
)
def test_values_that_a_type_has_not(kind: str, value: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    ask(path, f"CREATE TABLE t (a {kind})", f"INSERT INTO t VALUES ({value})")
    schema = read_schema(str(path), "t")
    task = _sqlite.read_tables({"names": ["a"], "table": "t"}, schema.types)
    with pytest.raises(Unreadable, match=said):
        task(pa.record_batch({"path": [str(path)]}))


def test_what_catalogs_refuse(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    source = pyalink.CatalogSourceBatchOp
    with pytest.raises(al.Error, match="is no database of SQLite's"):
        source(catalogObject=place(path)).toTable()
    ask(path, "CREATE TABLE known (a INT)")
    with pytest.raises(al.Error, match="has no table t; it has known"):
        source(catalogObject=place(path)).toTable()
    path.write_text("no database, but long enough to be read as one" * 99)
    with pytest.raises(al.Error, match="is no database of SQLite's"):
        source(catalogObject=place(path)).toTable()
    with pytest.raises(al.Error, match="no CatalogObject"):
        source(catalogObject="{}").toTable()
    with pytest.raises(al.Error, match="takes a SqliteCatalog and an ObjectPath"):
        pyalink.CatalogObject(None, pyalink.ObjectPath("a", "b"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(al.Error, match="with names of their own"):
        pyalink.SqliteCatalog("c", None, "3.19.3", ["/a/x.db", "/b/x.db"])
    rows = pyalink.MemSourceBatchOp([["1.5"]], "a string").select("cast(a as decimal(38,18)) as a")
    with pytest.raises(al.Error, match="column 'a': SQLite has no DECIMAL"):
        rows.link(pyalink.CatalogSinkBatchOp(catalogObject=place(path)))
