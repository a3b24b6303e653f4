"""Tables as text, and DataFrames of pandas in and out."""

from __future__ import annotations

import datetime
import random
import string
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import alink
from alink._algorithms._types import (
    VECTOR,
    BadSchema,
    format_schema,
    parse_schema,
    shown_schema,
)
from alink.operators import DenseVector, SparseVector
from alink.operators._frame import from_pandas, render, to_pandas

_INT_MAX = 2**63 - 1


def _printed(rows: pa.Table) -> str:
    with pd.option_context("display.width", 10**6, "display.max_columns", None):
        return str(to_pandas(rows))


def _float(rng: random.Random, style: int) -> float:
    if style == 0:
        return rng.choice([0.0, 1.0, -2.5, 0.125, 100.0])
    if style == 1:
        return rng.uniform(-10, 10) * 10.0 ** rng.randint(-9, 9)
    if style == 2:
        return rng.choice([float("inf"), float("-inf"), float("nan"), 1e6, 1e7, 1e-6, 1e-7, -0.0])
    return round(rng.uniform(-1e7, 1e7), rng.randint(0, 7))


def _text(rng: random.Random) -> str:
    alphabet = rng.choice([string.ascii_letters, "äöß漢字🙂 é", "a\t\n\r'\"\\ ", "0123456789.-"])
    length = rng.choice([0, 1, 3, 8, 20, 45, 46, 47, 48, 49, 50, 51, 52, 80])
    return "".join(rng.choice(alphabet) for _ in range(length))


def _time(rng: random.Random, style: int) -> int:
    days = rng.randint(-25_000, 80_000) * 86_400_000_000
    return days + [0, 1_000_000, 1000, 1][style] * rng.randint(0, 86_399)


def _vector(rng: random.Random) -> dict[str, Any]:
    values = [_float(rng, 0) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.5:
        return DenseVector(values).to_cell()
    return SparseVector(rng.choice([-1, 9]), range(len(values)), values).to_cell()


def _array(rng: random.Random, rows: int) -> pa.Array:
    style = rng.randint(0, 3)
    makers: list[tuple[pa.DataType, Any]] = [
        (pa.int64(), lambda: rng.choice([0, -1, 7, rng.randint(-_INT_MAX, _INT_MAX)])),
        (pa.int32(), lambda: rng.randint(-1000, 1000)),
        (pa.int8(), lambda: rng.randint(-128, 127)),
        (pa.float64(), lambda: _float(rng, style)),
        (pa.float32(), lambda: _float(rng, style)),
        (pa.bool_(), lambda: rng.random() < 0.5),
        (pa.string(), lambda: _text(rng)),
        (pa.timestamp("us"), lambda: _time(rng, style)),
        (pa.date32(), lambda: rng.randint(-20_000, 20_000)),
        (VECTOR, lambda: _vector(rng)),
        (pa.binary(), lambda: _text(rng).encode()),
    ]
    kind, make = rng.choice(makers)
    nulls = rng.choice([0.0, 0.0, 0.2, 1.0])
    return pa.array([None if rng.random() < nulls else make() for _ in range(rows)], kind)


@pytest.mark.parametrize("seed", range(400))
def test_rows_are_printed_as_pandas_does(seed: int) -> None:
    rng = random.Random(seed)
    rows = rng.choice([0, 1, 2, 5, 10, 59, 60, 61, 100, 1000, 1001])
    columns = rng.choice([1, 2, 3, 5, 40])
    names = [f"{i}{_text(rng)}"[: rng.choice([1, 2, 5, 70])] + str(i) for i in range(columns)]
    table = pa.table([_array(rng, rows) for _ in range(columns)], names=names)
    assert render(table) == _printed(table)


def test_names_beyond_a_hundred_are_left_out_where_there_are_no_rows() -> None:
    table = pa.table({f"c{i}": pa.array([], pa.int64()) for i in range(101)})
    assert render(table) == _printed(table)


@pytest.mark.parametrize("year", [1, 999, 1969, 9999])
def test_the_years_that_python_knows(year: int) -> None:
    moment = datetime.datetime(year, 2, 28, 23, 59, 59, 123000)
    table = pa.table({"t": pa.array([moment, None], pa.timestamp("us"))})
    assert render(table) == _printed(table)


def test_a_year_that_python_does_not_know() -> None:
    table = pa.table({"t": pa.array([253_402_300_800_000_000], pa.timestamp("us"))})
    assert "10000-01-01" in render(table)


def test_printing_does_not_import_pandas() -> None:
    code = (
        "import sys, pyarrow as pa\n"
        "from alink.operators._frame import render\n"
        "kinds = [pa.int64(), pa.float64(), pa.string(), pa.timestamp('us'), pa.bool_()]\n"
        "numbers = pa.py_buffer(bytes(24))\n"
        "columns = [pa.Array.from_buffers(kinds[0], 3, [None, numbers])]\n"
        "columns += [pa.nulls(3, kind) for kind in kinds]\n"
        "print(render(pa.Table.from_arrays(columns, names=list('abcdef'))))\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dataframe_keeps_every_bit() -> None:
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, 123457)
    table = pa.table(
        {
            "i": pa.array([_INT_MAX, None, -_INT_MAX - 1], pa.int64()),
            "t": pa.array([moment, None, moment], pa.timestamp("us")),
            "b": pa.array([True, None, False]),
            "s": pa.array(["ä", None, ""]),
            "f": pa.array([0.1, None, float("inf")], pa.float32()),
        }
    )
    frame = to_pandas(table)
    kinds = [str(dtype) for dtype in frame.dtypes]
    assert kinds == ["Int64", "datetime64[us]", "boolean", "string", "float32"]
    assert frame["i"].tolist() == [_INT_MAX, pd.NA, -_INT_MAX - 1]
    assert frame["t"].tolist()[0] == moment
    back = from_pandas("here", frame, table.schema)
    assert back.equals(table)


_MISSING = [None, float("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("missing", _MISSING, ids=repr)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 5),
        ("bigint", 2**62 + 1),
        ("double", 1.5),
        ("string", "ä"),
        ("boolean", True),
        ("timestamp", pd.Timestamp("2024-05-06 07:08:09.123456")),
        ("vector", DenseVector([1.0, 2.0])),
        ("vector", "$4$1:2.0"),
        ("vector", [1.0, 2.0]),
    ],
)
def test_what_is_missing_is_null(kind: str, value: Any, missing: Any) -> None:
    frame = pd.DataFrame({"x": pd.Series([value, missing], dtype="object")})
    column = from_pandas("here", frame, parse_schema(f"c {kind}")).column("c")
    assert column.is_null().to_pylist() == [False, True]
    if kind == "bigint":
        assert column[0].as_py() == value


def test_whole_numbers_with_gaps_come_as_floats() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0]})
    assert from_pandas("here", frame, parse_schema("c int")).column(0).to_pylist() == [1, None, 3]


def test_categories_and_numbers_become_text() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.Categorical(["x", None, "x"]),
            "b": pd.Categorical([3, 4, 3]),
            "c": pd.Series([1, "b", None], dtype="object"),
            "d": [True, False, True],
        }
    )
    rows = from_pandas("here", frame, parse_schema("a string, b int, c string, d string"))
    assert rows.to_pydict() == {
        "a": ["x", None, "x"],
        "b": [3, 4, 3],
        "c": ["1", "b", None],
        "d": ["true", "false", "true"],
    }


def test_types_are_found_where_no_schema_is_given() -> None:
    frame = pd.DataFrame(
        {
            "v": [DenseVector([1.0]), None],
            "n": [1, 2],
            "c": pd.Categorical(["x", "y"]),
            "s": ["a", None],
        }
    )
    schema = from_pandas("here", frame, None).schema
    assert schema.types == [VECTOR, pa.int64(), pa.string(), pa.string()]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int", ["a", "b"]),
        ("int", [1.5, 2.0]),
        ("tinyint", [1, 300]),
        ("double", [[1], [2]]),
        ("vector", ["1 x", "2"]),
        ("timestamp", ["yesterday", "today"]),
    ],
)
def test_a_value_that_does_not_fit_names_its_column(kind: str, values: list[Any]) -> None:
    frame = pd.DataFrame({"x": values, "y": [1, 2]})
    with pytest.raises(alink.PlanError, match=r'column "?c"? cannot be read as'):
        from_pandas("here", frame, parse_schema(f"c {kind}, d int"))


@pytest.mark.parametrize(
    ("words", "shown", "written"),
    [
        ("string varchar", "VARCHAR", "STRING"),
        ("int integer", "INT", "INT"),
        ("long bigint", "BIGINT", "BIGINT"),
        ("short smallint", "SMALLINT", "SMALLINT"),
        ("byte tinyint", "TINYINT", "TINYINT"),
        ("float", "FLOAT", "FLOAT"),
        ("double", "DOUBLE", "DOUBLE"),
        ("boolean", "BOOLEAN", "BOOLEAN"),
        ("decimal", "DECIMAL", "DECIMAL"),
        ("timestamp sql_timestamp", "TIMESTAMP", "TIMESTAMP"),
        ("date sql_date", "DATE", "DATE"),
        ("time sql_time", "TIME", "TIME"),
        ("varbinary", "VARBINARY", "VARBINARY"),
        ("vector dense_vector sparse_vector VEC_TYPES_DENSE_VECTOR", "VECTOR", "VECTOR"),
        ("tensor float_tensor TENSOR_TYPES_TENSOR TENSOR_TYPES_INT_TENSOR", "TENSOR", "TENSOR"),
        ("mtable", "MTABLE", "MTABLE"),
    ],
)
def test_a_type_has_one_name_in_what_is_shown_and_one_in_files(words, shown, written) -> None:
    for word in words.split():
        schema = parse_schema(f"a {word}, b {word.upper()}")
        assert shown_schema(schema) == f"a {shown}, b {shown}"
        assert format_schema(schema) == f"a {written},b {written}"
        assert parse_schema(shown_schema(schema)) == parse_schema(format_schema(schema)) == schema


def test_old_names_of_types_are_not_those_of_other_types() -> None:
    for word in ("VEC_TYPES_INT", "TENSOR_TYPES_", "VEC_TYPES_", "TENSOR_TYPES_STRING"):
        with pytest.raises(BadSchema, match=f"there is no type '{word}'"):
            parse_schema(f"a {word}")


def test_too_few_columns_are_refused() -> None:
    with pytest.raises(alink.PlanError, match="the schema has 2 columns, the DataFrame 1"):
        from_pandas("here", pd.DataFrame({"x": [1]}), parse_schema("a int, b int"))
