"""DuckDB in this process. It has no aggregates in Python."""

from __future__ import annotations

from pathlib import Path

import contract
import duckdb
import pyarrow as pa
import pyarrow.compute as pc

NATIVE, ARROW = "DuckDB, create_function", 'DuckDB, create_function(type="arrow")'


def line_arrow(a: pa.Array, b: pa.Array) -> pa.Array:
    return pc.add(pc.multiply(a, 2.0), b)


def shout_arrow(s: pa.Array) -> pa.Array:
    return pc.utf8_upper(s)


connection = duckdb.connect()
connection.create_function("line", contract.line, ["DOUBLE", "DOUBLE"], "DOUBLE")
connection.create_function("shout", contract.shout, ["VARCHAR"], "VARCHAR")
connection.create_function("line_arrow", line_arrow, ["DOUBLE", "DOUBLE"], "DOUBLE", type="arrow")
connection.create_function("shout_arrow", shout_arrow, ["VARCHAR"], "VARCHAR", type="arrow")


def numbers(path: Path, function: str) -> float:
    """Sum what a function of numbers gives."""
    return value(f"SELECT sum({function}(a, b)) FROM read_parquet($path)", path)


def texts(path: Path, function: str) -> float:
    """Count what a function of text gives."""
    return value(f"SELECT count(*) FROM read_parquet($path) WHERE {function}(s) LIKE '%F'", path)


def value(sql: str, path: Path) -> float:
    """Give the one value of a query."""
    row = connection.execute(sql, {"path": str(path)}).fetchone()
    assert row is not None
    return float(row[0])


if __name__ == "__main__":
    contract.main(
        lambda path: numbers(path, "line"),
        {
            (NATIVE, contract.ROW): lambda path: numbers(path, "line"),
            (NATIVE, contract.ROW_TEXT): lambda path: texts(path, "shout"),
            (ARROW, contract.VECTOR): lambda path: numbers(path, "line_arrow"),
            (ARROW, contract.VECTOR_TEXT): lambda path: texts(path, "shout_arrow"),
        },
        "duckdb pyarrow",
    )
