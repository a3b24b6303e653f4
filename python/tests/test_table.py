"""Relational methods of tables, in a real engine."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

import alink as al


@pytest.fixture(scope="module")
def rows(shared_ctx):
    return shared_ctx.from_arrow(
        pa.table(
            {
                "a": [1, 2, 2, None],
                "s": ["x", "y", "y", None],
                "l": [[1, 2], [], None, [3]],
                "f": [1.5, math.nan, None, 0.5],
            }
        )
    )


def refused(code, function):
    with pytest.raises(al.PlanError) as caught:
        function()
    assert caught.value.code == code
    return caught.value.diagnostic


def test_union(shared_ctx, rows):
    other = shared_ctx.from_arrow(pa.table({"S": ["z"], "b": [True]}))
    both = rows.select("a", "s").union(other, by_name=True)
    assert both.columns == ["a", "s", "b"]
    assert both.collect()[3:] == [
        {"a": None, "s": None, "b": None},
        {"a": None, "s": "z", "b": True},
    ]
    twice = rows.union(rows, rows.limit(1))
    assert twice.count() == 9
    assert twice.to_arrow().column("s").to_pylist() == ["x", "y", "y", None] * 2 + ["x"]
    assert rows.union().to_arrow().num_rows == 4
    assert "by_name=True" in refused("ALK1004", lambda: rows.union(other).columns).hint
    assert refused("ALK1006", lambda: rows.union(3)).message == "union takes a table, not int"
    with al.connect() as elsewhere:
        stranger = elsewhere.from_arrow(pa.table({"a": [1]}))
        refused("ALK1004", lambda: rows.union(stranger))


def test_distinct(rows):
    assert rows.select("a", "s").distinct().collect() == [
        {"a": 1, "s": "x"},
        {"a": 2, "s": "y"},
        {"a": None, "s": None},
    ]
    assert rows.distinct("A").to_arrow().column("l").to_pylist() == [[1, 2], [], [3]]
    problem = refused("ALK1001", lambda: rows.distinct("q").columns)
    assert problem.source is not None
    assert problem.source.text.endswith('lambda: rows.distinct("q").columns)')


def test_sample(shared_ctx):
    numbers = shared_ctx.from_arrow(pa.table({"n": range(10_000)}))
    for sample in (numbers.sample(100, seed=1), numbers.sample(fraction=0.01, seed=1)):
        once = sample.to_arrow().column("n").to_pylist()
        assert once == sample.to_arrow().column("n").to_pylist() == sorted(set(once))
        assert 40 < len(once) < 160
    assert numbers.sample(100).count() == 100
    assert numbers.sample(20_000).to_arrow().equals(numbers.to_arrow())
    drawn = numbers.sample(5_000)
    assert drawn.to_arrow().equals(drawn.to_arrow())  # a table is the same each time
    assert not drawn.to_arrow().equals(numbers.sample(5_000).to_arrow())
    for arguments in ({}, {"n": 1, "fraction": 0.1}, {"n": -1}, {"fraction": 1.1}, {"n": True}):
        refused("ALK1006", lambda a=arguments: numbers.sample(**a))
    refused("ALK1006", lambda: numbers.sample(1, seed=2**63))


def test_unnest(shared_ctx, rows):
    assert rows.unnest("L").select("a", "l").to_arrow().to_pydict() == {
        "a": [1, 1, None],
        "l": [1, 2, 3],
    }
    kept = rows.unnest("l", keep_empty=True).to_arrow()
    assert kept.column("l").to_pylist() == [1, 2, None, None, 3]
    structs = shared_ctx.from_arrow(pa.table({"s": [{"x": 1, "it's": "p"}, None], "z": [1, 2]}))
    assert structs.unnest("s").to_arrow().to_pydict() == {
        "x": [1, None],
        "it's": ["p", None],
        "z": [1, 2],
    }
    assert "not a list" in refused("ALK1005", lambda: rows.unnest("s").columns).message


def test_joins_with_common_names(rows):
    joined = rows.join(rows, "a", suffix="_right", nulls_equal=True)
    assert joined.columns == ["a", "s", "l", "f", "s_right", "l_right", "f_right"]
    assert joined.count() == 1 + 4 + 1
    assert rows.join(rows, "a", suffix="_right").count() == 5
    assert rows.join(rows, how="cross", suffix="2").count() == 16
    assert "suffix=" in refused("ALK1004", lambda: rows.join(rows, "a").columns).hint
    refused("ALK1006", lambda: rows.join(rows))
    refused("ALK1006", lambda: rows.join(rows, "a", how="cross"))
    refused("ALK1006", lambda: rows.join(rows, "a", suffix=""))


def test_describe(shared_ctx, rows):
    described = {row["column"]: row for row in rows.describe().collect()}
    assert list(described) == ["a", "s", "l", "f"]
    a = described["a"]
    assert (a["type"], a["count"], a["nulls"], a["distinct"]) == ("bigint", 3, 1, 2)
    assert (a["min"], a["max"]) == ("1", "2")
    assert a["mean"] == pytest.approx(5 / 3)
    assert a["std"] == pytest.approx(3**-0.5)
    assert math.isnan(described["f"]["mean"])
    assert math.isnan(described["f"]["std"])
    assert (described["s"]["min"], described["s"]["mean"]) == ("x", None)
    assert described["l"]["min"] is None
    huge = shared_ctx.from_arrow(pa.table({'it\'s "x"': [1e300, -1e300]})).describe().collect()
    assert math.isnan(huge[0]["std"])  # not an overflow
    empty = shared_ctx.from_arrow(pa.table({"a": pa.array([], pa.int8())})).describe().collect()
    assert (empty[0]["count"], empty[0]["mean"], empty[0]["std"]) == (0, None, None)
    assert shared_ctx.from_arrow(pa.table({})).describe().collect() == []


def test_wide_tables_are_described_as_narrow_ones(shared_ctx):
    named = {
        "place": [3, None, 1, 1],
        "x": [0.5, math.nan, None, -2.0],
        'it\'s "t"': ["b", None, "a", "a"],
        "texts": pa.array(["c", "c", None, "d"]).dictionary_encode(),
        "days": pa.array([1, 2, 3, None], pa.date32()),
        "lists": [[1], None, [], [2, None]],
        "huge": [1e300, -1e300, None, 1.0],
        "money": pa.array([1, 2, None, 4], pa.decimal128(9, 2)),
        "nothing": pa.nulls(4),
    }
    more = {f"c{i}": [i, None, i, i + 1] for i in range(40)}
    for data in (pa.table(named | more), pa.table(named | more).slice(0, 0)):
        wide = shared_ctx.from_arrow(data).describe().to_arrow()
        narrow = shared_ctx.from_arrow(data.select(list(named))).describe().to_arrow()
        assert wide.schema == narrow.schema
        assert wide["column"].to_pylist() == data.column_names
        assert repr(wide.slice(0, len(named)).to_pylist()) == repr(narrow.to_pylist())


def test_equal_keys_keep_their_order(shared_ctx):
    rows = pa.table({"n": range(300_000), "k": [i % 3 for i in range(300_000)]})
    table = shared_ctx.from_arrow(rows)
    expected = rows.sort_by([("k", "descending"), ("n", "ascending")])
    assert table.order_by("k desc").to_arrow().equals(expected)
    assert table.order_by("k desc").limit(7, offset=2).to_arrow().equals(expected.slice(2, 7))


# --- odd tables and names ---


ODD_NAMES = ["two words", 'with "quotes"', "it's", "größe", "select", "列", "a.b", "$x", "--", " "]


def test_odd_names(shared_ctx):
    data = pa.table({name: [i, i, None] for i, name in enumerate(ODD_NAMES)})
    table = shared_ctx.from_arrow(data)
    assert table.distinct(*ODD_NAMES).to_arrow().equals(data.slice(1))
    assert table.order_by(*(al.col(n) for n in ODD_NAMES)).to_arrow().equals(data)
    assert table.union(table, by_name=True).to_arrow().equals(pa.concat_tables([data, data]))
    assert table.join(table, ODD_NAMES, nulls_equal=True).columns == ODD_NAMES
    assert [r["column"] for r in table.describe().collect()] == ODD_NAMES
    by = table.group_by(al.col("it's")).agg({"größte": 'max("größe")'})
    assert by.order_by("größte").collect()[0] == {"it's": 2, "größte": 3}


def test_empty_tables(shared_ctx):
    schema = pa.schema([("a", pa.int64()), ("l", pa.list_(pa.string()))])
    empty = shared_ctx.from_arrow(schema.empty_table())
    for table in (
        empty.union(empty),
        empty.distinct(),
        empty.distinct("a"),
        empty.sample(3),
        empty.order_by("a"),
        empty.limit(1),
    ):
        assert table.to_arrow().equals(schema.empty_table())
    assert empty.unnest("l").to_arrow().num_rows == 0
    assert empty.join(empty, "a", how="full", suffix="2").count() == 0
    assert empty.agg(n="count(*)", s="sum(a)").collect() == [{"n": 0, "s": None}]


def test_a_table_without_columns(shared_ctx):
    one = shared_ctx.from_arrow(pa.table({"a": [1, 2, 3]}))
    assert "no columns" in refused("ALK1004", lambda: one.drop("a")).message
    bare = shared_ctx.from_arrow(pa.table({}))
    assert bare.to_arrow().shape == (0, 0)
    assert bare.union(bare).count() == 0
    assert bare.join(bare, how="cross").count() == 0


def test_many_columns(shared_ctx):
    data = pa.table({f"c{i}": [i, i + 1, i] for i in range(2_000)})
    wide = shared_ctx.from_arrow(data)
    assert wide.union(wide).distinct().to_arrow().equals(data.slice(0, 2))
    assert wide.order_by("c7 desc").select("c0", "c1999").collect()[0] == {"c0": 1, "c1999": 2000}
    assert wide.describe().to_arrow().num_rows == 2_000


def test_deep_plans_and_wide_unions(shared_ctx):
    rows = shared_ctx.from_arrow(pa.table({"a": [0, 1000]}))
    deep = rows
    for i in range(250):
        deep = deep.with_columns(a="a + 1").filter(f"a < {2000 + i}")
    assert deep.to_arrow().column("a").to_pylist() == [250, 1250]
    wide = rows.union(*[rows] * 200)
    assert wide.agg(s="sum(a)").collect() == [{"s": 201_000}]
    chain = rows
    for _ in range(200):
        chain = chain.union(rows)
    assert chain.count() == 402


def test_a_cell_of_100_megabytes(shared_ctx):
    text = "ä" * 50_000_000
    table = shared_ctx.from_arrow(pa.table({"t": [text, "b", None]}))
    out = table.with_columns(n="length(t)").order_by("t").to_arrow()
    assert out.column("n").to_pylist() == [1, 50_000_000, None]
    assert out.column("t")[1].as_py() == text


def test_null_and_nan_in_order_and_groups(shared_ctx):
    table = shared_ctx.from_arrow(pa.table({"f": [math.nan, 1.0, None, math.inf, math.nan, None]}))
    assert str(table.order_by("f").to_arrow().column("f").to_pylist()) == (
        "[1.0, inf, nan, nan, None, None]"
    )
    assert str(table.order_by("f desc nulls first").to_arrow().column("f").to_pylist()) == (
        "[None, None, nan, nan, inf, 1.0]"
    )
    groups = table.group_by("f").agg(n="count(*)").order_by("f").to_arrow()
    assert groups.column("n").to_pylist() == [1, 1, 2, 2]


def test_names_that_differ_in_case(shared_ctx):
    with pytest.raises(al.PlanError, match="two columns have the name"):
        shared_ctx.from_arrow(pa.table({"a": [1], "A": [2]}))
    table = shared_ctx.from_arrow(pa.table({"Ab": [1]}))
    assert table.select("aB", n="AB + 1").to_arrow().column_names == ["aB", "n"]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ns", "Europe/Berlin"), pa.time64("ns"), pa.duration("ns")], ids=str
)
@pytest.mark.parametrize("nested", [False, True])
def test_nanoseconds_are_refused_where_they_would_be_cut(shared_ctx, kind, nested):
    def table(nanoseconds):
        column = pa.array([None, nanoseconds], pa.int64()).cast(kind)
        if nested:
            column = pa.ListArray.from_arrays([0, 0, 2], column)
        return shared_ctx.from_arrow(pa.table({"id": [1, 2], "x": column}))

    assert table(5_000).filter("id = 2").select("x").to_arrow().num_rows == 1
    assert table(5_001).filter("id = 2").select("id").to_arrow().num_rows == 1  # x is not read
    problem = refused("ALK1007", lambda: table(5_001).filter("id = 2").to_arrow())
    assert 'column "x": the value' in problem.cause
    assert "has nanoseconds" in problem.cause


def test_aggregates_see_rows_in_their_order(shared_ctx):
    rows = 400_000
    table = shared_ctx.from_arrow(pa.table({"x": range(rows), "k": [i % 2 for i in range(rows)]}))
    aggregates = {"f": "first(x)", "l": "LAST(x)", "some": "upper(string_agg(x, ','))[1:3]"}
    falling = table.order_by("x DESC")
    for _ in range(3):  # threads take batches as they come, differently each time
        assert table.agg(aggregates).collect() == [{"f": 0, "l": rows - 1, "some": "0,1"}]
        assert falling.group_by("k").agg(aggregates).order_by("k").collect() == [
            {"k": 0, "f": rows - 2, "l": 0, "some": "399"},
            {"k": 1, "f": rows - 1, "l": 1, "some": "399"},
        ]
        assert falling.agg(same="list(x) = list(x ORDER BY x DESC)").collect() == [{"same": True}]


def test_tables_without_columns(shared_ctx, capsys):
    nothing = shared_ctx.from_arrow(pa.table({}))
    nothing.show()
    assert capsys.readouterr().out == "no columns, 0 rows\n"
    assert nothing.distinct().with_columns(a="1").collect() == []


def test_describe_knows_every_type(shared_ctx):
    times = {
        "d": pa.array([1, None], pa.duration("us")),
        "t": pa.array([1, 2], pa.time32("s")),
        "l": pa.array([[1], []], pa.list_(pa.duration("s"))),
    }
    described = shared_ctx.from_arrow(pa.table(times)).describe().collect()
    assert [row["type"] for row in described] == [
        "duration[us]",
        "time32[s]",
        "list<item: duration[s]>",
    ]
    assert [row["nulls"] for row in described] == [1, 0, 0]


def test_windows_keep_the_order_of_rows(shared_ctx):
    rows = 150_000
    table = shared_ctx.from_arrow(pa.table({"x": range(rows), "k": [i % 5 for i in range(rows)]}))
    running = table.with_columns(n="row_number() OVER (PARTITION BY k ORDER BY x)")
    assert running.select("x").to_arrow().column("x").to_pylist() == list(range(rows))
    assert running.limit(7).select("n").to_arrow().column("n").to_pylist() == [1] * 5 + [2] * 2
    ranks = table.select("x", r="rank() OVER (ORDER BY k)").limit(2, rows - 2).collect()
    first_of = {k: rows // 5 * k + 1 for k in range(5)}
    assert ranks == [{"x": x, "r": first_of[x % 5]} for x in (rows - 2, rows - 1)]
