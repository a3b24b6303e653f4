"""Table functions, aggregates and functions of groups in a real worker."""

from __future__ import annotations

import math
import textwrap

import pyarrow as pa
import pytest

from .conftest import BundleFailed, encode_schema, group_batches, in_runs, stage

WORDS = pa.schema([("__alink_row", pa.int64()), ("word", pa.string()), ("n", pa.int32())])
GROUP = ("__alink_group", pa.int64())


def call(text, kind, args=(0,), name="f", **more):
    code = {"source": textwrap.dedent(text), "name": name}
    return {"code": code, "kind": kind, "args": list(args), "name": name, **more}


def refused(engine, kind, calls, table, schema, **payload):
    with pytest.raises(BundleFailed) as caught:
        engine.run(kind, calls, table, schema, **payload)
    return caught.value.details


# Table functions ----------------------------------------------------------------------------

SPLIT = """
    def f(text):
        for i, word in enumerate(text.split()):
            yield word, i
"""


def flat_map(engine, text, data, schema=WORDS, args=(0,), **more):
    return engine.run("flat_map", [call(text, "flat_map", args, **more)], pa.table(data), schema)


def test_a_table_function_gives_any_number_of_rows(shared_engine):
    result = flat_map(shared_engine, SPLIT, {"text": ["a b", "", "c"]})
    assert result.schema == WORDS
    assert result.to_pydict() == {"__alink_row": [0, 0, 2], "word": ["a", "b", "c"], "n": [0, 1, 0]}


@pytest.mark.parametrize(
    "body",
    [
        "return [(text, 1)]",
        "yield [text, 1]",
        "yield {'n': 1, 'word': text}",
        "yield Row(n=1, word=text)",
        "yield Record(n=1, word=text)",
        "return iter([(text, 1.0)])",
    ],
)
def test_rows_may_be_written_in_every_natural_way(shared_engine, body):
    text = f"""
        import collections, dataclasses
        Row = collections.namedtuple("Row", "n word")
        @dataclasses.dataclass
        class Record:
            n: int
            word: str
        def f(text): {body}
    """
    result = flat_map(shared_engine, text, {"text": ["x"]})
    assert result.to_pydict() == {"__alink_row": [0], "word": ["x"], "n": [1]}


@pytest.mark.parametrize(
    ("type_", "body", "expected"),
    [
        (pa.int64(), "yield 1; yield (2,); yield {'y': 3}; yield None", [1, 2, 3, None]),
        (pa.string(), "return ['ab', 'c']", ["ab", "c"]),
        (pa.list_(pa.int64()), "yield [1, 2]; yield ([3],); yield []", [[1, 2], [3], []]),
        (pa.struct([("a", pa.int64())]), "yield {'a': 1}; yield ({'a': 2},)", [{"a": 1}, {"a": 2}]),
        (pa.map_(pa.string(), pa.int64()), "yield {'k': 1}", [[("k", 1)]]),
    ],
    ids=str,
)
def test_one_column_takes_bare_values(shared_engine, type_, body, expected):
    schema = pa.schema([("__alink_row", pa.int64()), ("y", type_)])
    result = flat_map(shared_engine, f"def f(x): {body}", {"x": [0]}, schema)
    assert result["y"].to_pylist() == expected
    assert result["__alink_row"].to_pylist() == [0] * len(expected)


def test_a_missing_key_is_null_and_an_unknown_one_an_error(shared_engine):
    result = flat_map(shared_engine, "def f(x): yield {'word': x}", {"x": ["a"]})
    assert result["n"].to_pylist() == [None]
    details = refused(
        shared_engine,
        "flat_map",
        [call("def f(x): yield {'wrod': x}", "flat_map")],
        pa.table({"x": ["a"]}),
        WORDS,
    )
    assert details["message"] == "f yielded a row with 'wrod', which is not declared"
    assert details["hint"] == "the columns are word, n"


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        (
            "yield x, 'one'",
            "f yielded 'one' (str) in its column n, which is integer",
            "return int(...) or declare string",
        ),
        (
            "yield x, 1, 2",
            "f yielded a tuple of 3 where a row of 2 columns is expected",
            "yield a tuple (word, n) or a dict",
        ),
        (
            "yield x",
            "f yielded str where a row of 2 columns is expected",
            "yield a tuple (word, n) or a dict",
        ),
        (
            "return x",
            "f returned str where rows are expected",
            "yield each row, or return a list of rows",
        ),
        (
            "return 7",
            "f returned int where rows are expected",
            "yield each row, or return a list of rows",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_named(shared_engine, body, message, hint):
    text = f"def f(x):\n    if x == 'bad':\n        {body}\n"
    batches = pa.table({"x": ["good"] * 700 + ["bad", "good"]})
    details = refused(
        shared_engine, "flat_map", [call(text, "flat_map", parameters=["x"])], batches, WORDS
    )
    assert (details["error"], details["message"]) == ("type", message)
    assert details["hint"] == hint
    assert details["row"] == 700
    assert details["values"] == [{"name": "x", "repr": "'bad'"}]


def test_an_exception_in_a_generator_names_the_row_of_the_bundle(shared_engine):
    text = "def f(x):\n    yield 'w', 1\n    yield 'w', 10 // x"
    table = pa.concat_tables([pa.table({"x": [1, 2]}), pa.table({"x": [3, 0]})])
    details = refused(
        shared_engine, "flat_map", [call(text, "flat_map", parameters=["x"])], table, WORDS
    )
    assert details["error"] == "raised"
    assert details["message"].startswith("f raised ZeroDivisionError")
    assert (details["row"], details["values"]) == (3, [{"name": "x", "repr": "0"}])
    assert details["frames"][-1]["line"] == 3


def test_rows_with_null_can_be_skipped(shared_engine):
    data = {"a": pa.array(["x", None, "z"]), "b": pa.array([1, 2, None])}
    text = "def f(a, b): yield a, b"
    called = flat_map(shared_engine, text, data, args=(0, 1))
    assert called["__alink_row"].to_pylist() == [0, 1, 2]
    skipped = flat_map(shared_engine, text, data, args=(0, 1), on_null="skip")
    assert skipped["__alink_row"].to_pylist() == [0]


def test_a_table_function_without_arguments(shared_engine):
    result = flat_map(shared_engine, "def f(): yield 'a', 1", {"x": [1, 2]}, args=())
    assert result["__alink_row"].to_pylist() == [0, 1]


def test_each_batch_has_its_own_rows(shared_engine):
    table = pa.concat_tables(
        [pa.table({"x": ["a", "b c"]}), pa.table({"x": [""]}), pa.table({"x": ["d"]})]
    )
    description = stage("flat_map", [call(SPLIT, "flat_map")], table.schema, WORDS)
    batches = shared_engine.output(shared_engine.submit(description, table.to_batches()), WORDS)
    assert [b["__alink_row"].to_pylist() for b in batches] == [[0, 1, 1], [0]]


def test_a_million_rows_of_one_row_come_in_bounded_batches(shared_engine):
    schema = pa.schema([("__alink_row", pa.int64()), ("i", pa.int64())])
    text = """
        import resource
        def f(n):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            yield from range(n)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            yield -grown
    """
    table = pa.table({"n": [1_000_000]})
    description = stage("flat_map", [call(text, "flat_map")], table.schema, schema)
    batches = shared_engine.output(shared_engine.submit(description, table.to_batches()), schema)
    assert max(b.num_rows for b in batches) <= 65_536
    values = pa.Table.from_batches(batches)["i"]
    assert values.slice(0, 1_000_000).equals(pa.chunked_array([pa.array(range(1_000_000))]))
    # The million Python integers of a list would be more than 32 MiB.
    assert -values[-1].as_py() < 24 << 10


def test_large_rows_come_in_small_batches(shared_engine):
    schema = pa.schema([("__alink_row", pa.int64()), ("s", pa.string())])
    text = "def f(n):\n    for i in range(n):\n        yield str(i) * (1 << 18)"
    table = pa.table({"n": [300]})
    description = stage("flat_map", [call(text, "flat_map")], table.schema, schema)
    batches = shared_engine.output(shared_engine.submit(description, table.to_batches()), schema)
    assert sum(b.num_rows for b in batches) == 300
    assert max(b.nbytes for b in batches[1:]) < 64 << 20


# Aggregates ---------------------------------------------------------------------------------

MEAN = """
    import pyarrow.compute as pc
    class f:
        def create(self): return 0.0, 0
        def add(self, state, x):
            return state[0] + (pc.sum(x).as_py() or 0.0), state[1] + len(x) - x.null_count
        def merge(self, state, other): return state[0] + other[0], state[1] + other[1]
        def result(self, state): return state[0] / state[1] if state[1] else None
"""
MEAN_STATE = pa.schema([("sum", pa.float64()), ("n", pa.int64())])


def aggregate(engine, calls, table, keys, cut=None, runs=False):
    """Partial states of bundles of ``cut`` rows, sorted and merged as the engine does it.

    With ``runs`` the table's rows are in the order of their groups.
    """
    key_fields = [table.schema.field(i) for i in range(keys)]
    fields, at = list(key_fields), keys + 1
    merging = []
    for i, one in enumerate(calls):
        state = one["state"]
        fields += [pa.field(f"__alink_s{i}_{j}", f.type) for j, f in enumerate(state)]
        merging.append({**one, "args": list(range(at, at + len(state)))})
        at += len(state)
    partial_schema = pa.schema(fields)

    def wire(calls):
        kept = [{k: v for k, v in c.items() if k not in ("state", "result")} for c in calls]
        return [
            {**k, "state_schema": encode_schema(c["state"])}
            for k, c in zip(kept, calls, strict=True)
        ]

    cut = cut or max(table.num_rows, 1)
    bundles = [table.slice(i, cut) for i in range(0, max(table.num_rows, 1), cut)]
    parts = [
        engine.run(
            "aggregate",
            wire(calls),
            in_runs(bundle, keys) if runs else bundle,
            partial_schema,
            keys=keys,
        )
        for bundle in bundles
    ]
    partial = pa.concat_tables(parts)
    order = sorted(
        range(partial.num_rows), key=lambda i: repr([partial[k][i].as_py() for k in range(keys)])
    )
    partial = partial.take(pa.array(order, pa.int64()))
    shown = [repr([partial[k][i].as_py() for k in range(keys)]) for i in range(partial.num_rows)]
    groups = {text: i for i, text in enumerate(dict.fromkeys(shown))}
    numbered = partial.add_column(
        0, pa.field(*GROUP), pa.array([groups[t] for t in shown], pa.int64())
    )
    results = [pa.field(f"r{i}", one["result"]) for i, one in enumerate(calls)]
    batches = group_batches(numbered, 3)  # which groups span
    schema = in_runs(numbered, 1).schema
    description = stage(
        "merge", wire(merging), schema, pa.schema([*key_fields, *results]), keys=keys
    )
    out = engine.output(engine.submit(description, batches), pa.schema([*key_fields, *results]))
    return pa.Table.from_batches(out, pa.schema([*key_fields, *results]))


def mean(args=(1,), **more):
    return call(MEAN, "aggregate", args, state=MEAN_STATE, result=pa.float64(), **more)


@pytest.mark.parametrize("cut", [None, 1, 4])
def test_an_aggregate_of_groups(shared_engine, cut):
    keys = ["b", "a", None, "a", "b", None, "c", "a"]
    x = [1.0, 2.0, 3.0, None, 5.0, 6.0, None, 10.0]
    table = pa.table({"k": keys, "x": x})
    result = aggregate(shared_engine, [mean()], table, 1, cut)
    assert dict(zip(*result.to_pydict().values(), strict=True)) == {
        "a": 6.0,
        "b": 3.0,
        "c": None,
        None: 4.5,
    }


@pytest.mark.parametrize("rows", [0, 5])
def test_an_aggregate_of_the_whole_table(shared_engine, rows):
    table = pa.table({"x": pa.array([float(i) for i in range(rows)], pa.float64())})
    result = aggregate(shared_engine, [mean([0])], table, 0)
    assert result.to_pydict() == {"r0": [2.0 if rows else None]}


def test_no_row_means_no_group(shared_engine):
    table = pa.table({"k": pa.array([], pa.string()), "x": pa.array([], pa.float64())})
    assert aggregate(shared_engine, [mean()], table, 1).num_rows == 0


COLLECT = """
    class f:
        def create(self): {create}
        def add(self, state, x): {add}
        def merge(self, state, other): {merge}
        def result(self, state): {result}
"""
LISTS = pa.list_(pa.int64())


@pytest.mark.parametrize(
    ("state", "create", "add", "merge", "result"),
    [
        ("v", "return []", "state.extend(x.to_pylist())", "state.extend(other)", "return state"),
        (
            "v",
            "return ([],)",
            "return (state[0] + x.to_pylist(),)",
            "return (state[0] + other[0],)",
            "return state[0]",
        ),
        (
            "v",
            "return {'v': []}",
            "state['v'] += x.to_pylist()",
            "state['v'] += other['v']",
            "return state['v']",
        ),
        (
            "vn",
            "return [[], 0]",
            "state[0] += x.to_pylist(); state[1] += len(x)",
            "state[0] += other[0]; state[1] += other[1]",
            "return [v for v in state[0]][:state[1]]",
        ),
        (
            "vn",
            "return {'v': [], 'n': 0}",
            "state['v'] += x.to_pylist(); state['n'] += len(x)",
            "state['v'] += other['v']; state['n'] += other['n']",
            "return state['v'][:state['n']]",
        ),
        (
            "vn",
            "return S([], 0)",
            "return S(state.v + x.to_pylist(), 0)",
            "return S(state.v + other.v, 0)",
            "return state.v",
        ),
        (
            "vn",
            "return D([], 0)",
            "state.v += x.to_pylist()",
            "state.v += other.v",
            "return state.v",
        ),
    ],
)
def test_a_state_may_be_written_in_every_natural_way(
    shared_engine, state, create, add, merge, result
):
    head = """
    import collections, dataclasses
    S = collections.namedtuple("S", "v n")
    @dataclasses.dataclass
    class D:
        v: list
        n: int
    """
    text = textwrap.dedent(head) + textwrap.dedent(COLLECT).format(
        create=create, add=add, merge=merge, result=result
    )
    schema = pa.schema([("v", LISTS), ("n", pa.int64())][: len(state)])
    calls = [call(text, "aggregate", [1], state=schema, result=LISTS)]
    table = pa.table({"k": ["a", "b", "a", "a"], "x": [1, 2, 3, 4]})
    out = aggregate(shared_engine, calls, table, 1, cut=2)
    assert {k: sorted(v) for k, v in zip(*out.to_pydict().values(), strict=True)} == {
        "a": [1, 3, 4],
        "b": [2],
    }


KEYS = [
    pa.array([1, 2, None, 1, 2]),
    pa.array([1.5, math.nan, None, math.nan, 1.5]),
    pa.array(["a", "", None, "", "a"]),
    pa.array([True, False, None, False, True]),
    pa.array(
        [{"a": 1, "b": "x"}, {"a": 1, "b": None}, None, {"a": 1, "b": None}, {"a": 1, "b": "x"}]
    ),
    pa.array([[1, 2], [], None, [], [1, 2]]),
    pa.array([[("k", 1)], [], None, [], [("k", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array(
        [
            pa.MonthDayNano([1, 2, 3]),
            pa.MonthDayNano([0, 0, 0]),
            None,
            pa.MonthDayNano([0, 0, 0]),
            pa.MonthDayNano([1, 2, 3]),
        ]
    ),
    pa.array([b"\0", b"", None, b"", b"\0"]),
    pa.nulls(5),
]


@pytest.mark.parametrize("key", KEYS, ids=[str(k.type)[:12] for k in KEYS])
@pytest.mark.parametrize("two", [False, True], ids=["one", "two"])
def test_keys_of_every_kind_make_groups(shared_engine, key, two):
    """Equal keys make one group of a bundle, also if they come in several batches."""
    key = pa.concat_arrays([key, key]).slice(1)
    x = pa.array([float(i) for i in range(9)])
    columns = {"k": key, "l": pa.array([1, 1, 1, 2, 2, 1, 1, 1, 2]), "x": x}
    table = pa.table(columns if two else {"k": key, "x": x})
    seen = {}
    for row in range(9):
        at = repr([table[i][row].as_py() for i in range(1 + two)])
        seen.setdefault(at, []).append(float(row))
    count = 2 if two else 1
    fields = [table.schema.field(i) for i in range(count)]
    fields += [pa.field("__alink_s0_0", pa.float64()), pa.field("__alink_s0_1", pa.int64())]
    calls = [call(MEAN, "aggregate", [count], state_schema=encode_schema(MEAN_STATE))]
    for rows in (9, 4):
        batches = table.to_batches(max_chunksize=rows)
        description = stage("aggregate", calls, table.schema, pa.schema(fields), keys=count)
        out = pa.Table.from_batches(
            shared_engine.output(shared_engine.submit(description, batches), pa.schema(fields))
        )
        got = {
            repr([out[i][row].as_py() for i in range(count)]): (
                out[count][row].as_py(),
                out[count + 1][row].as_py(),
            )
            for row in range(out.num_rows)
        }
        assert len(got) == out.num_rows
        assert got == {at: (sum(values), len(values)) for at, values in seen.items()}


def test_several_calls_and_forms(shared_engine):
    text = """
        class f:
            def create(self): return None
            def add(self, state, x):
                assert type(x).__module__.split(".")[0] == {module!r}, type(x)
                top = x.max()
                return float(top) if state is None else max(state, float(top))
            def merge(self, state, other): return other if state is None else max(state, other)
            def result(self, state): return state
    """
    one = pa.schema([("top", pa.float64())])
    calls = [
        call(
            text.replace("{module!r}", repr(module)),
            "aggregate",
            [1],
            batch=module,
            state=one,
            result=pa.float64(),
        )
        for module in ("numpy", "pandas", "polars")
    ]
    table = pa.table({"k": [1, 2, 1, 2], "x": [1.0, 2.0, 3.0, 0.5]})
    result = aggregate(shared_engine, [*calls, mean()], table, 1, cut=3)
    assert result.to_pydict() == {
        "k": [1, 2],
        "r0": [3.0, 2.0],
        "r1": [3.0, 2.0],
        "r2": [3.0, 2.0],
        "r3": [2.0, 1.25],
    }


@pytest.mark.parametrize("runs", [False, True])
def test_rows_with_null_can_be_left_out_of_a_group(shared_engine, runs):
    text = """
        class f:
            def create(self): return 0
            def add(self, state, x, y): return state + len(x)
            def merge(self, state, other): return state + other
            def result(self, state): return state
    """
    state = pa.schema([("n", pa.int64())])
    calls = [
        call(text, "aggregate", [1, 2], on_null=how, state=state, result=pa.int64())
        for how in ("call", "skip")
    ]
    table = pa.table(
        {
            "k": ["a", "a", "b", None, None, None],
            "x": pa.array([1, None, None, 1, None, 2]),
            "y": pa.array([1, 1, None, 1, 1, 2]),
        }
    )
    result = aggregate(shared_engine, calls, table, 1, runs=runs)
    assert result.to_pydict() == {"k": ["a", "b", None], "r0": [2, 1, 3], "r1": [1, 0, 2]}


def test_runs_of_keys_are_groups(shared_engine):
    table = pa.table({"k": ["b", "b", "a", "a", "a"], "x": [1.0, 3.0, 2.0, 4.0, 6.0]})
    for cut in (5, 3):
        result = aggregate(shared_engine, [mean()], table, 1, cut=cut, runs=True)
        assert result.to_pydict() == {"k": ["a", "b"], "r0": [4.0, 2.0]}


def test_batch_rows_cuts_the_rows_of_a_group(shared_engine):
    text = """
        class f:
            def create(self): return []
            def add(self, state, x): state.append(len(x))
            def merge(self, state, other): state.extend(other)
            def result(self, state): return state
    """
    calls = [
        call(text, "aggregate", [0], batch_rows=3, state=pa.schema([("n", LISTS)]), result=LISTS)
    ]
    result = aggregate(shared_engine, calls, pa.table({"x": range(8)}), 0)
    assert result.to_pydict() == {"r0": [[3, 3, 2]]}


GOOD = {
    "create": "return 0",
    "add": "return state + 1",
    "merge": "return state + other",
    "result": "return state",
}


@pytest.mark.parametrize(
    ("change", "state", "message"),
    [
        ({"create": "1 / 0"}, "n", "f.create raised ZeroDivisionError: division by zero"),
        ({"add": "1 / 0"}, "n", "f.add, GROUP, raised ZeroDivisionError: division by zero"),
        ({"merge": "1 / 0"}, "n", "f.merge, GROUP, raised ZeroDivisionError: division by zero"),
        ({"result": "1 / 0"}, "n", "f.result, GROUP, raised ZeroDivisionError: division by zero"),
        ({"result": "return 'x'"}, "n", "f, GROUP, returned 'x' (str), which bigint cannot hold"),
        (
            {"add": "return 'x'"},
            "n",
            "f, GROUP, has the state n = 'x' (str), which bigint cannot hold",
        ),
        (
            {"create": "return 0, 0", "add": "pass"},
            "ns",
            "f.add, GROUP, returned None where the new state is expected",
        ),
        ({"create": "return 0"}, "ns", "a state of f is int where n bigint, s bigint is declared"),
        (
            {"create": "return 0, 0, 0"},
            "ns",
            "a state of f is a tuple of 3 where n bigint, s bigint is declared",
        ),
        (
            {"create": "return {'n': 0}"},
            "ns",
            "a state of f is n by name where n bigint, s bigint is declared",
        ),
        (
            {"create": "return self.one", "setup": "self.one = [0, 0]"},
            "ns",
            "f.create returned the same list twice",
        ),
    ],
)
@pytest.mark.parametrize("runs", [False, True])
def test_what_goes_wrong_in_an_aggregate_names_the_group(
    shared_engine, change, state, message, runs
):
    parameters = {
        "create": "",
        "add": ", state, x",
        "merge": ", state, other",
        "result": ", state",
        "setup": "",
    }
    methods = {**GOOD, **change}
    text = "class f:\n" + "\n".join(
        f" def {m}(self{parameters[m]}): {b}" for m, b in methods.items()
    )
    schema = pa.schema([(name, pa.int64()) for name in state])
    calls = [call(text, "aggregate", [1], state=schema, result=pa.int64())]
    table = pa.table({"k": ["b", "b"], "x": [1, 2]})
    with pytest.raises(BundleFailed) as caught:
        aggregate(shared_engine, calls, table, 1, cut=1, runs=runs)
    assert caught.value.details["message"] == message.replace("GROUP", "on the group k = 'b'")
    assert caught.value.details["function"] == "f1"


# Groups -------------------------------------------------------------------------------------


def numbered(groups, **columns):
    return pa.table({"__alink_group": pa.array(groups, pa.int64()), **columns})


OUT = pa.schema([("k", pa.string()), ("m", pa.float64())])


def map_groups(engine, text, table, args=(1, 2), rows=100, schema=OUT, **more):
    calls = [call(text, "map_groups", args, **more)]
    batches = group_batches(table, rows)
    description = stage("map_groups", calls, batches[0].schema, schema)
    return pa.Table.from_batches(engine.output(engine.submit(description, batches), schema), schema)


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize(
    ("batch", "body"),
    [
        ("", "return pa.table({'k': t['k'][:1], 'm': pa.array([float(t.num_rows)])})"),
        ("pandas", "return t.groupby('k', dropna=False, as_index=False).agg(m=('x', 'size'))"),
        ("pandas", "return pd.DataFrame({'m': [float(len(t))], 'k': t['k'].iloc[:1].array})"),
        ("polars", "return t.select(pl.col('k').first(), m=pl.len())"),
    ],
)
def test_a_function_gets_each_group_whole(shared_engine, batch, body, rows):
    table = numbered(
        [0, 0, 0, 7, 7, 9], k=["a", "a", "a", None, None, "c"], x=[1.0, 2.0, None, 3.0, 4.0, 5.0]
    )
    text = f"import pandas as pd, polars as pl, pyarrow as pa\ndef f(t): {body}"
    result = map_groups(shared_engine, text, table, batch=batch, rows=rows)
    assert result.to_pydict() == {"k": ["a", None, "c"], "m": [3.0, 2.0, 1.0]}


def test_groups_may_give_nothing_or_several_tables(shared_engine):
    text = """
        import pyarrow as pa
        def f(t):
            if t["k"][0].as_py() == "a":
                return None
            def parts():
                yield t.slice(0, 1)
                yield t.slice(1)
            return parts()
    """
    table = numbered([0, 0, 1, 1], k=["a", "a", "b", "b"], m=[1.0, 2.0, 3.0, 4.0])
    result = map_groups(shared_engine, text, table)
    assert result.to_pydict() == {"k": ["b", "b"], "m": [3.0, 4.0]}


@pytest.mark.parametrize("rows", [2, 100])
def test_a_groups_frame_is_its_functions_own(shared_engine, rows):
    text = """
        import warnings
        warnings.simplefilter("error")
        def f(t):
            assert t.index.tolist() == list(range(len(t))), t.index
            t["m"] = t["m"] + len(t)
            t["k"] = t["k"].fillna("none")
            t.index = t.index + 5
            return t
    """
    table = numbered([0, 0, 1, 2, 2, 2], k=["a", "b", None, "d", None, "f"], m=[0.0] * 6)
    result = map_groups(shared_engine, text, table, batch="pandas", rows=rows)
    assert result["m"].to_pylist() == [2.0, 2.0, 1.0, 3.0, 3.0, 3.0]
    assert result["k"].to_pylist() == ["a", "b", "none", "d", "none", "f"]


def test_a_frame_of_numpys_types_is_read_when_it_is_returned(shared_engine):
    text = """
        import pandas as pd
        def f(t):
            frame = pd.DataFrame({"k": ["a", "b"], "m": [1.5, float("nan")]})
            yield frame
            frame.loc[0, "m"] = 2.5
            yield frame
            yield frame[["m", "k"]]
            yield frame.astype({"m": "float32"})
            yield frame.assign(m=[3, 4])
    """
    table = numbered([0], k=["a"], m=[0.0])
    result = map_groups(shared_engine, text, table, batch="pandas")
    m = result["m"].to_pylist()
    assert [m[0], *m[2::2]] == [1.5, 2.5, 2.5, 2.5, 3.0]
    assert m[9] == 4.0
    assert all(m[i] != m[i] for i in (1, 3, 5, 7))  # NaN, and not NULL
    assert result["k"].to_pylist() == ["a", "b"] * 5


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("[1.5]", "1.5 (double) in its column m, which is bigint"),
        ("[True]", "a Series of bool in its column m, which is bigint"),
        ("['a']", "a Series of str in its column m, which is bigint"),
        ("[1.0], n=1", "a table of the columns k, m, n where k, m is expected"),
    ],
)
def test_a_column_of_a_groups_frame_that_does_not_fit_is_named(shared_engine, column, message):
    text = f"def f(t):\n return t.assign(m={column}) if t['k'][0] == 'b' else t"
    table = numbered([0, 1], k=["a", "b"], m=[1, 2])
    schema = pa.schema([("k", pa.string()), ("m", pa.int64())])
    calls = [call(text, "map_groups", [1, 2], batch="pandas")]
    details = refused(shared_engine, "map_groups", calls, in_runs(table, 1), schema)
    where = "f, on the group that begins with k = 'b', m = 2,"
    assert details["message"] == f"{where} returned {message}"


def test_pandas_tells_nan_from_null_in_every_group(shared_engine):
    text = """
        import contextlib, pandas as pd
        def f(t):
            result = t.assign(m=t["m"] / 0)
            with contextlib.suppress(KeyError):  # there is none before pandas 3
                pd.set_option("future.distinguish_nan_and_na", False)
            return result
    """
    table = numbered([0, 1, 2], k=["a", "b", "c"], m=[0.0, None, 0.0])
    for _ in range(2):
        result = map_groups(shared_engine, text, table, batch="pandas")["m"].to_pylist()
        assert result[1] is None
        assert [str(value) for value in result[::2]] == ["nan", "nan"]


def test_a_thousand_small_groups_come_in_one_batch(shared_engine):
    table = numbered(
        range(1000), k=[str(i) for i in range(1000)], m=[float(i) for i in range(1000)]
    )
    whole = group_batches(table, 1000)
    calls = [call("def f(t): return t", "map_groups", [1, 2])]
    description = stage("map_groups", calls, whole[0].schema, OUT)
    batches = shared_engine.output(shared_engine.submit(description, whole), OUT)
    assert [b.num_rows for b in batches] == [1000]
    assert pa.Table.from_batches(batches).equals(table.select(["k", "m"]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        (
            "return 1",
            "returned int where a RecordBatch, a Table or an iterator of them is expected",
        ),
        ("return t.select(['k'])", "returned a table of the columns k where k, m is expected"),
    ],
)
def test_what_goes_wrong_in_a_group_shows_its_first_row(shared_engine, body, message):
    text = f"def f(t):\n if t['k'][0].as_py() == 'b': {body}\n return t"
    table = numbered([0, 1], k=["a", "b"], m=[1.0, 2.0])
    calls = [call(text, "map_groups", [1, 2])]
    details = refused(shared_engine, "map_groups", calls, in_runs(table, 1), OUT)
    assert details["message"] == f"f, on the group that begins with k = 'b', m = 2.0, {message}"
