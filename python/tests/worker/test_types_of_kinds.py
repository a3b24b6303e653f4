"""Every type through every kind of function, with NULLs and without: nothing is lost.

What each kind gets and gives stands in the table "Types and NULL" of docs/guide.md.
"""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from .conftest import encode_schema, group_batches, in_runs, stage
from .test_kinds import call

UTC = dt.timezone.utc

TYPES = {
    "boolean": (pa.bool_(), [True, False]),
    "tinyint": (pa.int8(), [127, -128]),
    "smallint": (pa.int16(), [2**15 - 1, -(2**15)]),
    "integer": (pa.int32(), [2**31 - 1, -(2**31)]),
    "bigint": (pa.int64(), [2**63 - 1, -(2**63)]),
    "utinyint": (pa.uint8(), [0, 2**8 - 1]),
    "usmallint": (pa.uint16(), [0, 2**16 - 1]),
    "uinteger": (pa.uint32(), [0, 2**32 - 1]),
    "ubigint": (pa.uint64(), [0, 2**64 - 1]),
    "float": (pa.float32(), [0.5, math.nan]),
    "double": (pa.float64(), [0.1, math.nan]),
    "string": (pa.string(), ["", "é€😀"]),
    "binary": (pa.binary(), [b"", b"\x00\xff"]),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "time": (pa.time64("us"), [dt.time(0), dt.time(23, 59, 59, 999_999)]),
    "timestamp": (pa.timestamp("us"), [dt.datetime(1, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 4)]),
    "timestamp_s": (pa.timestamp("s"), [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)]),
    "timestamp_ms": (pa.timestamp("ms"), [dt.datetime(1969, 1, 1, 0, 0, 0, 1000)] * 2),
    "timestamp_ns": (pa.timestamp("ns"), [dt.datetime(2024, 1, 1, 1, 2, 3, 4)] * 2),
    "timestamptz": (pa.timestamp("us", "UTC"), [dt.datetime(2024, 1, 1, tzinfo=UTC)] * 2),
    "decimal": (pa.decimal128(38, 3), [Decimal("-1.500"), Decimal("12345678901234567890.125")]),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, -2, 3])] * 2),
    "list": (pa.list_(pa.float64()), [[], [1.5, None]]),
    "list of strings": (pa.list_(pa.string()), [["a", None], ["é"]]),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        [{"a": 1, "b": ["x", None]}, {"a": None, "b": None}],
    ),
    "map": (pa.map_(pa.string(), pa.int64()), [[("k", 1), ("l", None)], []]),
    "null": (pa.null(), [None, None]),
}

ROW = ["row", "numpy", "pandas", "polars", "arrow"]
BATCHES = [f"map_batches {form}" for form in ("arrow", "pandas", "polars")]
GROUPS = [f"map_groups {form}" for form in ("arrow", "pandas", "polars")]
KINDS = [*ROW, *BATCHES, "udtf", "udtf bare", "udaf", *GROUPS]

FIRST = """
class f:
    def create(self): return None
    def add(self, state, x): return x[0].as_py() if len(x) == 1 else 1 / 0
    def merge(self, state, other): return other
    def result(self, state): return state
"""


def column(table):
    """A type's values of a table's last column, comparable: NaN is equal to itself here."""
    return [repr(value) for value in table.column(table.num_columns - 1).to_pylist()]


def through(engine, kind, table):
    """Run the identity of a kind on a table of one column x; give the result in its order."""
    kind, _, form = kind.partition(" ")
    type_ = table.schema.field("x").type
    y = pa.schema([("x", type_)])
    numbered = table.add_column(0, "__alink_group", pa.array(range(table.num_rows), pa.int64()))
    if kind in ROW:
        return engine.run("columns", [call("def f(x): return x", kind)], table, y)
    if kind == "map_batches":
        return engine.run(kind, [call("def f(x): return x", kind, batch=form)], table, y)
    if kind == "map_groups":
        calls = [call("def f(x): return x", kind, [1], batch=form)]
        return engine.run(kind, calls, in_runs(numbered, 1), y)
    if kind == "udtf":
        out = pa.schema([("__alink_row", pa.int64()), *y])
        text = f"def f(x): yield {'x' if form else '(x,)'}"
        result = engine.run("flat_map", [call(text, "flat_map")], table, out)
        assert result["__alink_row"].to_pylist() == list(range(table.num_rows))
        return result
    state = {"state_schema": encode_schema(pa.schema([("s", type_)]))}
    partial = pa.schema([numbered.schema.field(0), ("__alink_s0_0", type_)])
    calls = [call(FIRST, "aggregate", [1], **state)]
    states = engine.run("aggregate", calls, numbered, partial, keys=1)
    states = states.add_column(0, "__alink_group", states.column(0)).rename_columns(
        ["__alink_group", "k", "__alink_s0_0"]
    )
    merged = pa.schema([("k", pa.int64()), *y])
    batches = group_batches(states, states.num_rows)
    calls = [call(FIRST, "aggregate", [2], **state)]
    description = stage("merge", calls, batches[0].schema, merged, keys=1)
    id_ = engine.submit(description, batches)
    return pa.Table.from_batches(engine.output(id_, merged), merged)


@pytest.mark.parametrize("null", [False, True], ids=["whole", "null"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TYPES)
def test_every_type_passes_through_every_kind(shared_engine, name, kind, null):
    type_, values = TYPES[name]
    values = [values[0], None, values[1]] if null else values
    # More than one byte of validity, and a batch that starts in the middle of its buffers.
    table = pa.table({"x": pa.concat_arrays([pa.array(values, type_)] * 5).slice(1)})
    result = through(shared_engine, kind, table)
    assert result.schema.field(result.num_columns - 1).type == type_
    assert column(result) == column(table)


@pytest.mark.parametrize("form", ["numpy", "pandas", "polars", "arrow"])
def test_a_row_does_not_depend_on_the_nulls_of_others(shared_engine, form):
    """What an operation is not defined for is NaN, as without NULLs, and NULL stays NULL."""
    text = """
        import numpy as np, pyarrow.compute as pc
        def f(x):
            {body}
    """
    body = {
        "arrow": "return pc.divide(pc.sqrt(x), x)",
        "polars": "return x.sqrt() / x",
        "numpy": "return np.sqrt(x) / x",
        "pandas": "return np.sqrt(x) / x",
    }[form]
    y = pa.schema([("x", pa.float64())])
    whole = [-1.0, 0.0, 4.0, math.nan, math.inf]
    for values in (whole, [None, *whole], [*whole, None, None]):
        table = pa.table({"x": pa.array(values, pa.float64())})
        calls = [call(text.format(body=body), form)]
        result = shared_engine.run("columns", calls, table, y)["x"].to_pylist()
        expected = {None: None, -1.0: math.nan, 0.0: math.nan, 4.0: 0.5, math.inf: math.nan}
        assert list(map(repr, result)) == [repr(expected.get(v, math.nan)) for v in values]


DTYPES = {
    "boolean": "boolean", "tinyint": "Int8", "ubigint": "UInt64", "float": "Float32",
    "double": "Float64", "string": "string", "timestamp": "datetime64[us]",
    "timestamptz": "datetime64[us, UTC]", "date": "date32[day][pyarrow]",
    "decimal": "decimal128(38, 3)[pyarrow]", "list": "list<item: double>[pyarrow]",
}  # fmt: skip


@pytest.mark.parametrize("null", [False, True], ids=["whole", "null"])
@pytest.mark.parametrize(("name", "dtype"), DTYPES.items())
def test_pandas_dtypes_depend_on_the_type_alone(shared_engine, name, dtype, null):
    type_, values = TYPES[name]
    table = pa.table({"x": pa.array([*values, None] if null else values, type_)})
    text = "import pandas as pd\ndef f(x): return pd.Series([str(x.dtype)] * len(x))"
    y = pa.schema([("x", pa.string())])
    result = shared_engine.run("columns", [call(text, "pandas")], table, y)
    assert set(result["x"].to_pylist()) == {dtype}


@pytest.mark.parametrize(
    ("result", "type_", "expected"),
    [
        ("x.map({1: 'one'})", pa.string(), ["one", None, None]),
        ("pd.Categorical(['a', None, 'a'])", pa.string(), ["a", None, "a"]),
        ("x.astype('float64')", pa.float64(), [1.0, 2.0, math.nan]),
        ("x.to_numpy(dtype='float64', na_value=0)", pa.int64(), [1, 2, 0]),
        ("pd.to_datetime(['2024-01-01'] * 3, utc=True)", pa.timestamp("us", "UTC"), "2024-01-01"),
        ("pd.Series([[1], None, []])", pa.list_(pa.int64()), [[1], None, []]),
        ("x.to_list()", pa.int64(), [1, 2, None]),
        ("(x > 1).rename('other')[::-1]", pa.bool_(), [None, True, False]),
    ],
)  # fmt: skip
def test_what_a_function_of_pandas_may_return(shared_engine, result, type_, expected):
    text = f"import pandas as pd\ndef f(x): return {result}"
    table = pa.table({"x": pa.array([1, 2, None])})
    out = shared_engine.run("columns", [call(text, "pandas")], table, pa.schema([("x", type_)]))
    if expected == "2024-01-01":
        expected = pa.array([dt.datetime(2024, 1, 1, tzinfo=UTC)] * 3, type_).to_pylist()
    assert list(map(repr, out["x"].to_pylist())) == list(map(repr, expected))
