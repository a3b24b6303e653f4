"""What users are told of input that cannot be used; nothing is left behind."""

from __future__ import annotations

import os
import re
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al

LINES_MAX = 15
FIRST_DAY_OF_10000 = 2_932_897


@pytest.fixture(scope="module")
def rows(shared_ctx):
    return shared_ctx.from_arrow(pa.table({"x": [1.0, 2.0, None]}))


@pytest.fixture(scope="module")
def late(shared_ctx):
    days = pa.array([0, FIRST_DAY_OF_10000], pa.int32()).cast(pa.date32())
    instants = pa.array([None, 253_402_300_800 * 10**6], pa.int64()).cast(pa.timestamp("us"))
    return shared_ctx.from_arrow(pa.table({"d": days, "t": instants}))


def told(kind, work):
    """Give what an error says, without the lines of the test that caused it."""
    with pytest.raises(kind) as caught:
        work()
    lines = str(caught.value).split("\n")
    assert len(lines) <= LINES_MAX
    at = next((i for i, line in enumerate(lines) if line.startswith("  File ")), None)
    if at is not None:
        del lines[at : at + 3]
    return "\n".join(lines)


@al.udf("double")
class SetupRaises:
    def setup(self):
        raise ValueError("no model at /data/m.bin")

    def __call__(self, x):
        return x


@al.udf("double")
class InitRaises:
    def __init__(self):
        raise RuntimeError("no licence")

    def __call__(self, x):
        return x


@al.udf("date")
def same_date(x):
    return x


@al.udf("timestamp")
def same_time(x):
    return x


@al.udf("date", batch="arrow")
def same_dates(x):
    return x


GOLDEN_FUNCTIONS = [
    (SetupRaises, "x", """\
ALK2001: SetupRaises.setup raised ValueError: no model at /data/m.bin
  hint: call SetupRaises.local(...) on the same data"""),
    (InitRaises, "x", """\
ALK2001: InitRaises.__init__ raised RuntimeError: no licence
  hint: call InitRaises.local(...) on the same data"""),
    (same_date, "d", """\
ALK2002: same_date cannot be given 10000-01-01, which Python's dates cannot hold
  row 1: x='10000-01-01'
  hint: Python's dates end with the year 9999: a function with batch= gets any"""),
    (same_time, "t", """\
ALK2002: same_time cannot be given 10000-01-01 00:00:00.000000, which Python's dates cannot hold
  row 1: x='10000-01-01 00:00:00.000000'
  hint: Python's dates end with the year 9999: a function with batch= gets any"""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "column", "text"), GOLDEN_FUNCTIONS, ids=[g[0].name for g in GOLDEN_FUNCTIONS]
)
def test_functions(rows, late, function, column, text):
    table = rows if column == "x" else late
    assert told(al.UdfError, lambda: table.select(y=function(column)).to_arrow()) == text
    assert table.count() > 0, "the engine goes on"


def test_dates_that_python_lacks_pass_where_they_are_not_looked_at(late):
    table = late.select("t", y=same_dates("d")).to_arrow()
    assert table["y"].cast(pa.int32()).to_pylist() == [0, FIRST_DAY_OF_10000]
    assert told(al.Error, late.collect) == (
        'ALK1005: collect: Python cannot hold the value of "d" in row 1\n'
        "  because: date value out of range\n"
        "  hint: take the rows with to_arrow(), or cast it: d::string"
    )
    assert late.select(y="year(t)").collect() == [{"y": None}, {"y": 10_000}]


def test_names_in_quotes_are_names(shared_ctx):
    data = pa.table({"a b": [1], 'the "best"': [2], "é\U0001f600": [3], "SELECT": [4]})
    table = shared_ctx.from_arrow(data)
    quoted = table.select('"a b"', '"the ""best"""', '"é\U0001f600"', '"SELECT"')
    assert quoted.to_arrow().equals(data)
    assert quoted.with_columns({"x y": '"a b" + 1'}).collect()[0]["x y"] == 2
    assert table.group_by('"a b"').agg(n="count(*)").columns == ["a b", "n"]
    assert table.order_by('"the ""best""" DESC').filter(al.col('the "best"') == 2).count() == 1


def test_columns_without_a_name(shared_ctx, tmp_path):
    expected = (
        "ALK1004: column 2 of the table has no name\n"
        "  hint: give it one before it comes in: no expression could refer to it"
    )
    data = pa.table([[1], [2]], names=["a", ""])
    assert told(al.PlanError, shared_ctx.from_arrow(data).to_arrow) == expected
    pq.write_table(data, tmp_path / "t.parquet")
    assert told(al.DataError, shared_ctx.read_parquet(tmp_path / "t.parquet").count) == (
        f"ALK4002: column 2 of {tmp_path}/t.parquet has no name\n"
        "  hint: write the file again with a name for each column: no expression could refer to it"
    )
    (tmp_path / "t.csv").write_text("a,,b\n1,2,3\n")
    assert shared_ctx.read_csv(tmp_path / "t.csv").columns == ["a", "column2", "b"]


def test_numbers_beyond_a_double_are_not_infinite(shared_ctx, tmp_path):
    csv, js = tmp_path / "a.csv", tmp_path / "a.json"
    csv.write_text("x\n1e400\n2\n")
    js.write_text('{"x": 1e400}\n{"x": 2}\n')
    assert told(al.DataError, shared_ctx.read_csv(csv, schema={"x": "double"}).to_arrow) == (
        f'ALK4010: {csv}, line 2: the value "1e400" of column "x" does not fit its type double\n'
        "  hint: the type is declared: another one, string for example, in schema= reads it"
    )
    assert told(al.DataError, shared_ctx.read_json(js, schema={"x": "double"}).to_arrow) == (
        f'ALK4010: {js}, line 1: the value "1e400" of column "x" does not fit its type double\n'
        '  hint: declare the type of "x" in schema=, or read it as string, '
        "which keeps the JSON text"
    )
    assert shared_ctx.read_csv(csv).to_arrow()["x"].to_pylist() == ["1e400", "2"]
    assert shared_ctx.read_json(js).to_arrow()["x"].to_pylist() == ["1e400", "2"]


def test_lists_of_a_fixed_size_with_nulls(shared_ctx):
    values = [[1.0, 2.0], None, [3.0, None]]
    table = shared_ctx.from_arrow(pa.table({"v": pa.array(values, pa.list_(pa.float64(), 2))}))

    @al.udf("list<double>")
    def same(v):
        return v

    for result in (table, table.filter("true"), table.select(v=same("v"))):
        assert result.to_arrow()["v"].to_pylist() == values


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_come_back(shared_ctx, unit):
    data = pa.table({"t": pa.array([1, None, -5_000], pa.duration(unit))})
    table = shared_ctx.from_arrow(data)
    assert table.to_arrow().equals(data)


def test_one_of_two_jobs_dies(shared_ctx):
    """A function that kills its worker fails its own job and no other."""
    numbers = shared_ctx.read_generator({"n": al.generate.sequence()}, rows=400, batch_rows=10)

    @al.udf("bigint", workers=1)
    def slow(n):
        import time

        time.sleep(0.005)
        return n + 1

    @al.udf("bigint", retries=1, workers=1)
    def dies(n):
        if n == 100:
            os.kill(os.getpid(), 11)
        return n

    results = []
    other = threading.Thread(target=lambda: results.append(numbers.select(m=slow("n")).to_arrow()))
    other.start()
    text = told(al.WorkerCrashed, lambda: numbers.select(m=dies("n")).to_arrow())
    other.join()
    assert re.match(r"ALK2004: function dies killed its Python worker 2 times \(signal 11", text)
    assert results[0]["m"].to_pylist() == list(range(1, 401))


def test_a_table_without_columns(shared_ctx, tmp_path):
    nothing = shared_ctx.from_arrow(pa.table({}))
    assert nothing.columns == []
    assert nothing.count() == 0
    assert nothing.collect() == []
    nothing.write_parquet(tmp_path / "t.parquet")
    assert shared_ctx.read_parquet(tmp_path / "t.parquet").columns == []
