"""Tables to plans: the form that engine/plan reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import alink as al
from alink._plan import build_plan


@pytest.fixture
def ctx():
    with al.connect() as ctx:  # no engine is started by making tables
        yield ctx
        assert ctx._engine is None


@pytest.fixture
def flights(ctx):
    return ctx.read_parquet("/data/flights.parquet", columns=["carrier", "dep", "arr"])


def nodes_of(table):
    """Give the nodes of a table's plan without where they were written."""
    nodes = build_plan(table._node).json["nodes"]
    return [{k: v for k, v in node.items() if k != "origin"} for node in nodes]


def last_args(table):
    return nodes_of(table)[-1]["args"]


def test_a_whole_plan(ctx, flights):
    environment = al.Environment(requirements=["numpy==2.2.*"])

    @al.udf("double", env=environment, on_null="skip", retries=0, batch_rows=100)
    def made_up(dep, arr):
        return dep - arr

    @al.map_batches("carrier string, gain double", columns=["carrier", "gain"], workers=2)
    def same(batch):
        return batch

    airlines = ctx.read_parquet("/data/airlines.parquet")
    table = (
        flights.filter("arr IS NOT NULL")
        .with_columns(gain=made_up("dep", "arr"))
        .map_batches(same)
        .join(airlines, on={"carrier": "code"}, how="left")
        .group_by("name", {"first letter": "name[1]"})
        .agg({"mean gain": "avg(gain)"}, n="count(*)")
        .order_by("n DESC NULLS FIRST", '"mean gain"')
        .limit(10, offset=2)
    )
    plan = build_plan(table._node).json
    text = json.dumps(plan)
    assert json.loads(text) == plan
    assert plan["version"] == 1
    assert nodes_of(table) == [
        {"id": "n1", "op": "read_parquet",
         "args": {"path": "/data/flights.parquet", "columns": ["carrier", "dep", "arr"]}},
        {"id": "n2", "op": "filter", "inputs": ["n1"],
         "args": {"predicate": {"sql": "arr IS NOT NULL"}}},
        {"id": "n3", "op": "with_columns", "inputs": ["n2"],
         "args": {"keep": True, "exprs": [
             {"name": "gain",
              "expr": {"call": "f1", "args": [{"column": "dep"}, {"column": "arr"}]}}]}},
        {"id": "n4", "op": "map_batches", "inputs": ["n3"],
         "args": {"function": "f2", "columns": ["carrier", "gain"]}},
        {"id": "n5", "op": "read_parquet", "args": {"path": "/data/airlines.parquet"}},
        {"id": "n6", "op": "join", "inputs": ["n4", "n5"],
         "args": {"on": [{"left": "carrier", "right": "code"}], "how": "left"}},
        {"id": "n7", "op": "agg", "inputs": ["n6"],
         "args": {"keys": [{"name": "name", "expr": {"column": "name"}},
                           {"name": "first letter", "expr": {"sql": "name[1]"}}],
                  "aggregates": [{"name": "mean gain", "expr": {"sql": "avg(gain)"}},
                                 {"name": "n", "expr": {"sql": "count(*)"}}]}},
        {"id": "n8", "op": "order_by", "inputs": ["n7"],
         "args": {"by": [{"expr": {"column": "n"}, "descending": True, "nulls_first": True},
                         {"expr": {"column": "mean gain"}}]}},
        {"id": "n9", "op": "limit", "inputs": ["n8"], "args": {"n": 10, "offset": 2}},
    ]  # fmt: skip
    functions = plan["functions"]
    assert functions.keys() == {"f1", "f2"}
    first, second = functions["f1"], functions["f2"]
    assert first.keys() == {
        "name", "kind", "parameters", "result", "code", "environment", "modules", "options",
        "origin",
    }  # fmt: skip
    assert (first["name"], first["kind"], first["result"]) == ("made_up", "row", "double")
    assert first["parameters"] == ["dep", "arr"]
    assert first["options"] == {"on_null": "skip", "retries": 0, "batch_rows": 100}
    assert first["code"].keys() == {"artifact"}
    assert len(first["modules"]) == 1
    assert second["kind"] == "map_batches"
    assert second["schema"] == [
        {"name": "carrier", "type": "string"},
        {"name": "gain", "type": "double"},
    ]
    assert second["options"] == {"workers": 2}
    assert second["modules"] == first["modules"], "both have cloudpickle only"
    environments = plan["environments"]
    assert environments[first["environment"]] == {
        "base_interpreter": sys.executable,
        "requirements": ["numpy==2.2.*"],
    }
    assert environments[second["environment"]]["interpreter"] == sys.executable
    assert table.explain() == (
        'limit 10 offset 2\n'
        '  order_by n desc nulls first, "mean gain"\n'
        '    agg mean gain = avg(gain), n = count(*) by name, first letter = name[1]\n'
        '      join left on carrier = code\n'
        '        map_batches same(carrier, gain)\n'
        '          with_columns gain = made_up(dep, arr)\n'
        '            filter arr IS NOT NULL\n'
        '              read_parquet /data/flights.parquet [carrier, dep, arr]\n'
        '        read_parquet /data/airlines.parquet'
    )  # fmt: skip


def test_where_the_user_wrote_it(flights):
    table = (
        flights.filter("dep > 3")
        .limit(5)
    )  # fmt: skip
    limited = table.head(3).limit(2)
    text = "    limited = table.head(3).limit(2)"
    line = Path(__file__).read_text().splitlines().index(text) + 1
    origins = [node["origin"] for node in build_plan(limited._node).json["nodes"]]
    assert [o["file"] for o in origins[1:]] == [__file__] * 4
    assert [o["line"] for o in origins[1:]] == [line - 3, line - 2, line, line]
    assert [o["function"] for o in origins[1:]] == ["test_where_the_user_wrote_it"] * 4
    assert origins[-1]["text"] == text
    if sys.version_info < (3, 11):
        assert "column" not in origins[-1]
        return
    ranges = [o["text"][o["column"] - 1 : o["end_column"] - 1] for o in origins[1:]]
    assert ranges == ['filter("dep > 3")', "limit(5)", "head(3)", "limit(2)"]


def test_shared_steps_stand_once(flights):
    late = flights.filter("dep > 3")
    joined = late.join(late.select("carrier").limit(1), on="carrier")
    assert [node["op"] for node in nodes_of(joined)] == [
        "read_parquet", "filter", "select", "limit", "join",
    ]  # fmt: skip
    assert joined.explain().count("(as above)") == 1


def test_long_chains(flights):
    table = flights
    for _ in range(3000):
        table = table.filter("dep > 3")
    assert len(nodes_of(table)) == 3001


def test_functions_stand_once_and_environments_by_value(flights):
    @al.udf("double", env=al.Environment(requirements=["a==1"]))
    def f(x):
        return x

    @al.udf("double", env=al.Environment(requirements=["a==1"]))
    def g(x):
        return x

    table = flights.with_columns(a=f("dep"), b=f("arr"), c=g(f("dep")))
    plan = build_plan(table._node).json
    assert {entry["name"] for entry in plan["functions"].values()} == {"f", "g"}
    assert len(plan["environments"]) == 1


def test_models_are_artifacts(flights):
    model = al.Model(b"a pickle")

    @al.udf("double", models={"m": model})
    def score(x, m):
        return m.predict(x)

    plan = build_plan(flights.with_columns(p=score("dep"))._node)
    digest = plan.json["functions"]["f1"]["models"]["m"]
    assert plan.artifacts[digest].data == b"a pickle"


def test_selected_names(flights):
    args = last_args(flights.select("carrier", al.col("dep").alias("d"), {"a b": "1"}, n="dep + 1"))
    assert args == {
        "exprs": [
            {"name": "carrier", "expr": {"column": "carrier"}},
            {"name": "d", "expr": {"column": "dep"}},
            {"name": "a b", "expr": {"sql": "1"}},
            {"name": "n", "expr": {"sql": "dep + 1"}},
        ]
    }
    assert last_args(flights.select("dep + 1"))["exprs"][0]["name"] == "dep + 1"


def test_local_schema_drop_and_rename(ctx):
    table = ctx.from_arrow(pa.table({"a": [1], "B": [2.0], "c": ["x"]}))
    assert table.columns == ["a", "B", "c"]
    assert [e["name"] for e in last_args(table.drop("b"))["exprs"]] == ["a", "c"]
    assert last_args(table.rename({"b": "beta"}))["exprs"][1] == {
        "name": "beta",
        "expr": {"column": "B"},
    }
    with pytest.raises(al.PlanError, match='ALK1001: drop: there is no column "d"') as caught:
        table.drop("d")
    assert "did you mean a or B or c?" in str(caught.value)
    with pytest.raises(al.PlanError, match="drop leaves no columns"):
        table.drop("a", "b", "c")
    with pytest.raises(al.PlanError, match="two columns would have the name"):
        table.rename({"a": "C"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t.filter(5), "ALK1003: an expression is SQL text"),
        (lambda t: t.select(al.col("a") + 1), "needs a name"),
        (lambda t: t.select(), "select needs at least one expression"),
        (lambda t: t.agg(), "agg needs at least one expression"),
        (lambda t: t.with_columns(x="1", X="2"), 'two columns would have the name "X"'),
        (lambda t: t.with_columns({"": "1"}), "is not a column name"),
        (lambda t: t.limit(-1), "n must be a whole number of at least 0, not -1"),
        (lambda t: t.limit("3"), "n must be a whole number"),
        (lambda t: t.order_by(), "order_by needs at least one key"),
        (lambda t: t.join(t, on="a", how="iner"), "did you mean inner?"),
        (lambda t: t.join(t, on=[]), "on must name at least one column"),
        (lambda t: t.join(t, on=[1]), "on must name columns"),
        (lambda t: t.join("t", on="a"), "join takes a table, not str"),
        (lambda t: t.join(al.from_arrow(pa.table({"a": [1]})), on="a"), "different connections"),
        (lambda t: t.map_batches(len), "made with @al.map_batches"),
        (
            lambda t: t.write_parquet("x", mode="replace"),
            "mode must be one of 'error', 'overwrite'",
        ),
        (lambda t: t.write_parquet(""), "is not a path"),
    ],
)
def test_steps_that_are_refused(flights, make, words):
    with pytest.raises(al.PlanError) as caught:
        make(flights)
    assert words in str(caught.value)
    assert "test_plan.py" in str(caught.value), "the user's line is shown"


def test_tables_of_memory(ctx):
    import pandas as pd

    data = pd.DataFrame({"k": pd.Categorical(["a", "b"]), "v": [1, None]}, index=[7, 8])
    for table in (ctx.from_pandas(data), ctx.from_any(data), ctx.from_arrow(data)):
        assert table.schema == pa.schema([("k", pa.string()), ("v", pa.float64())]) or (
            table.schema.field("k").type == pa.large_string()
        )
    batch = pa.record_batch({"x": [1]})
    reader = pa.RecordBatchReader.from_batches(batch.schema, [batch, batch])
    assert ctx.from_arrow(batch).columns == ["x"]
    assert ctx.from_arrow(reader).explain() == "table 2 rows: x"
    with pytest.raises(al.PlanError, match="from_any cannot read list as a table"):
        ctx.from_any([1])
    with pytest.raises(al.PlanError, match="from_pandas cannot read this DataFrame as a table"):
        ctx.from_pandas(pd.DataFrame({"x": [1, "a"]}))
    with pytest.raises(al.PlanError, match='two columns have the name "X"'):
        ctx.from_arrow(pa.table([[1], [2]], names=["x", "X"]))


def test_types_of_memory(ctx):
    dictionary = pa.array(["a"]).dictionary_encode()
    data = pa.table(
        {
            "d": dictionary,
            "v": pa.array(["a"], pa.string_view()),
            "l": pa.ListArray.from_arrays([0, 1], dictionary),
            "s": pa.StructArray.from_arrays([dictionary], ["x"]),
        }
    )
    schema = ctx.from_arrow(data).schema
    assert [str(t) for t in schema.types] == [
        "string", "string", "list<item: string>", "struct<x: string>",
    ]  # fmt: skip


def test_paths(ctx, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert last_args(ctx.read_parquet("a/../b.parquet"))["path"] == str(tmp_path / "b.parquet")
    monkeypatch.setenv("HOME", "/home/me")
    assert last_args(ctx.read_parquet("~/b.parquet"))["path"] == "/home/me/b.parquet"
    assert last_args(ctx.read_parquet(Path("c")))["path"] == str(tmp_path / "c")


def test_models(tmp_path):
    model = al.Model(b"abc")
    model.save(tmp_path / "m.model")
    assert al.Model.load(tmp_path / "m.model").nbytes == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "m.model"]
    with pytest.raises(al.DataError, match="ALK4001"):
        al.Model.load(tmp_path / "nothing")
    with pytest.raises(al.DataError, match="ALK4004"):
        model.save(tmp_path / "nothing" / "m")
