"""Functions in a real worker: kinds, types, NULLs, errors."""

from __future__ import annotations

import datetime as dt
import importlib
import math
import os
import pickle
import sys
import textwrap
import zipfile
from decimal import Decimal
from pathlib import Path

import cloudpickle
import pyarrow as pa
import pytest

from .conftest import BundleFailed, element, stage

UTC = dt.timezone.utc
DOUBLE = pa.schema([("y", pa.float64())])
MODEL = pa.schema([("model", pa.large_binary())])


def call(text, kind="row", args=(0,), name="f", **more):
    code = {"source": textwrap.dedent(text), "name": name}
    return {"code": code, "kind": kind, "args": list(args), "name": name, **more}


def pickled(function, folder, kind="row", args=(0,), **more):
    path = Path(folder) / f"{function.__name__}-{len(list(Path(folder).iterdir()))}.pkl"
    path.write_bytes(cloudpickle.dumps(function))
    code = {"pickle": str(path)}
    return {"code": code, "kind": kind, "args": list(args), "name": function.__name__, **more}


def columns(engine, calls, data, schema=DOUBLE):
    return engine.run("columns", calls, pa.table(data), schema)


def failure(engine, kind, calls, table, schema=DOUBLE):
    with pytest.raises(BundleFailed) as caught:
        engine.run(kind, calls, table, schema)
    # The worker lives on, and the next bundle is none the worse.
    ok = columns(engine, [call("def f(x): return x")], {"x": pa.array([1.0])})
    assert ok["y"].to_pylist() == [1.0]
    return caught.value.details


TYPED = [
    (pa.bool_(), [True, False]),
    (pa.int8(), [1, -128]),
    (pa.uint64(), [1, 2**64 - 1]),
    (pa.int64(), [1, -(2**63)]),
    (pa.float32(), [0.5, -math.inf]),
    (pa.float64(), [0.1, math.inf]),
    (pa.string(), ["", "é€😀"]),
    (pa.binary(), [b"", b"\x00\xff"]),
    (pa.date32(), [dt.date(1, 1, 1), dt.date(2024, 2, 29)]),
    (pa.time64("us"), [dt.time(0), dt.time(23, 59, 59, 999_999)]),
    (pa.timestamp("us"), [dt.datetime(1969, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 4)]),
    (pa.timestamp("us", "UTC"), [dt.datetime(2024, 1, 1, tzinfo=UTC)] * 2),
    (pa.timestamp("ns"), [dt.datetime(2024, 1, 1, 1, 2, 3, 4)] * 2),
    (pa.decimal128(20, 3), [Decimal("-1.500"), Decimal("12345678901234567.000")]),
    (pa.list_(pa.float64()), [[], [1.0, None]]),
    (pa.list_(pa.string()), [[], ["a", None]]),
    (pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]), [{"a": 1, "b": ["x"]}] * 2),
    (pa.map_(pa.string(), pa.int64()), [[("k", 1)], []]),
    (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3])] * 2),
    (pa.duration("us"), [dt.timedelta(days=-1, microseconds=1)] * 2),
]
IDENTITY = "def f(x): return x"


@pytest.mark.parametrize("with_null", [False, True], ids=["whole", "nulls"])
@pytest.mark.parametrize("kind", ["row", "numpy", "arrow"])
@pytest.mark.parametrize(("type_", "values"), TYPED, ids=[str(t)[:20] for t, _ in TYPED])
def test_every_type_passes_through_every_kind(shared_engine, kind, type_, values, with_null):
    values = [values[0], None, values[1]] if with_null else values
    x = pa.array(values, type_)
    # More than one bitmap byte, and a batch that starts in the middle of a buffer.
    table = pa.table({"x": pa.concat_arrays([x] * 5)}).slice(1)
    result = shared_engine.run("columns", [call(IDENTITY, kind)], table, pa.schema([("y", type_)]))
    assert result["y"].to_pylist() == table["x"].to_pylist()


@pytest.mark.parametrize("with_null", [False, True], ids=["whole", "nulls"])
@pytest.mark.parametrize("kind", ["map_batches", "fit"])
def test_every_type_reaches_whole_batches(shared_engine, kind, with_null):
    arrays = [pa.array([*values, None] if with_null else values, type_) for type_, values in TYPED]
    table = pa.table(arrays, [f"c{i}" for i in range(len(arrays))])
    if kind == "map_batches":
        result = shared_engine.run(kind, [call(IDENTITY, kind)], table, table.schema)
        assert result.to_pylist() == table.to_pylist()
    else:
        text = "import pyarrow as pa\ndef f(batches): return pa.Table.from_batches(batches)"
        result = shared_engine.run(kind, [call(text, kind)], table, MODEL)
        assert pickle.loads(result["model"][0].as_py()).equals(table)


def test_several_calls_fill_their_columns(shared_engine):
    schema = pa.schema([("s", pa.string()), ("d", pa.float64()), ("i", pa.int64())])
    calls = [
        call("def f(b, a): return f'{a}/{b}'", args=[1, 0], output=0),
        call("def g(a): return a * 2", "numpy", args=[0], output=1, name="g"),
        call("def h(): return 7", args=[], output=2, name="h"),
    ]
    data = {"a": pa.array([1.0, 2.0]), "b": pa.array([3, 4])}
    result = columns(shared_engine, calls[::-1], data, schema)
    assert result.to_pydict() == {"s": ["1.0/3", "2.0/4"], "d": [2.0, 4.0], "i": [7, 7]}


def test_order_and_batches_are_kept(shared_engine):
    table = pa.table({"x": pa.array(range(10_000), pa.float64())})
    batches = table.to_batches(max_chunksize=700)
    description = stage("columns", [call("def f(x): return x + 0.5")], table.schema, DOUBLE)
    result = shared_engine.output(shared_engine.submit(description, batches), DOUBLE)
    assert [b.num_rows for b in result] == [b.num_rows for b in batches]
    values = pa.Table.from_batches(result)["y"].to_pylist()
    assert values == [i + 0.5 for i in range(10_000)]


@pytest.mark.parametrize("kind", ["row", "numpy", "arrow"])
def test_empty_batches_do_not_call(shared_engine, kind):
    text = "def f(x): raise AssertionError('called')"
    empty = {"x": pa.array([], pa.float64())}
    table = pa.table(empty)
    description = stage("columns", [call(text, kind)], table.schema, DOUBLE)
    batch = pa.RecordBatch.from_pydict(empty)
    result = shared_engine.output(shared_engine.submit(description, [batch, batch]), DOUBLE)
    assert [b.num_rows for b in result] == [0, 0]


@pytest.mark.parametrize("kind", ["row", "numpy", "arrow", "map_batches", "fit"])
def test_a_bundle_without_batches(shared_engine, kind):
    schema = pa.schema([("x", pa.float64())])
    out = MODEL if kind == "fit" else DOUBLE
    text = "def f(x): return len(list(x))" if kind == "fit" else "def f(x): raise ValueError"
    description = stage(
        kind if kind in ("map_batches", "fit") else "columns", [call(text, kind)], schema, out
    )
    result = shared_engine.output(shared_engine.submit(description, []), out)
    if kind == "fit":
        assert pickle.loads(result[0]["model"][0].as_py()) == 0
    else:
        assert result == []


def test_null_is_none_for_a_row_function(shared_engine):
    result = columns(
        shared_engine,
        [call("def f(x): return -1.0 if x is None else x")],
        {"x": pa.array([1.0, None, math.nan])},
    )
    assert str(result["y"].to_pylist()) == "[1.0, -1.0, nan]"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("row", "def f(a, b): return a + b"),
        ("numpy", "def f(a, b):\n assert type(a).__name__ == 'ndarray'\n return a + b"),
        ("arrow", "import pyarrow.compute as pc\ndef f(a, b):\n return pc.add(a, b)"),
    ],
)
@pytest.mark.parametrize("batch_rows", [0, 1, 2])
def test_rows_with_null_are_skipped(shared_engine, kind, text, batch_rows):
    data = {
        "a": pa.array([1.0, None, 3.0, 4.0, None, 6.0]),
        "b": pa.array([10.0, 20.0, None, 40.0, None, 60.0]),
    }
    calls = [call(text, kind, [0, 1], on_null="skip", batch_rows=batch_rows)]
    result = columns(shared_engine, calls, data)
    assert result["y"].to_pylist() == [11.0, None, None, 44.0, None, 66.0]
    nothing = {"a": pa.nulls(2, pa.float64()), "b": pa.array([1.0, 2.0])}
    assert columns(shared_engine, calls, nothing)["y"].to_pylist() == [None, None]


def test_a_row_that_fails_after_skipped_ones_is_named(shared_engine):
    calls = [call("def f(x): return 1 / x", on_null="skip", parameters=["x"])]
    data = pa.table({"x": pa.array([1.0, None, None, 0.0])})
    details = failure(shared_engine, "columns", calls, data)
    assert details["row"] == 3
    assert details["values"] == [{"name": "x", "repr": "0.0"}]


@pytest.mark.parametrize("kind", ["numpy", "arrow"])
def test_batch_rows_cuts_the_calls(shared_engine, kind):
    convert = "len(x)" if kind == "numpy" else "pa.array([len(x)] * len(x), pa.float64())"
    ones = f"np.full(len(x), {convert})" if kind == "numpy" else convert
    text = f"import numpy as np, pyarrow as pa\ndef f(x): return {ones}"
    data = {"x": pa.array(range(10), pa.float64())}
    result = columns(shared_engine, [call(text, kind, batch_rows=4)], data)
    assert result["y"].to_pylist() == [4.0] * 8 + [2.0] * 2


def test_an_array_that_a_function_uses_again_is_copied(shared_engine):
    text = """
        import numpy as np
        class F:
            def setup(self): self.buffer = np.zeros(3)
            def __call__(self, x):
                self.buffer[:] = x
                return self.buffer[:len(x)]
    """
    two = pa.schema([("y", pa.float64()), ("z", pa.float64())])
    calls = [call(text, "numpy", [i], name="F", output=i) for i in (0, 1)]
    data = {"a": pa.array([1.0, 2.0, 3.0]), "b": pa.array([4.0, 5.0, 6.0])}
    result = columns(shared_engine, calls, data, two)
    assert result.to_pydict() == {"y": [1.0, 2.0, 3.0], "z": [4.0, 5.0, 6.0]}


def test_a_class_is_set_up_once_for_a_worker(shared_engine):
    text = """
        class Counter:
            made = 0
            def setup(self):
                Counter.made += 1
                self.calls = 0
            def __call__(self, x):
                self.calls += 1
                return float(Counter.made * 1000 + self.calls)
    """
    table = {"x": pa.array([0.0, 0.0])}
    first = columns(shared_engine, [call(text, name="Counter")], table)
    second = columns(shared_engine, [call(text, name="Counter")], table)
    assert first["y"].to_pylist() == [1001.0, 1002.0]
    assert second["y"].to_pylist() == [1003.0, 1004.0]


def test_pickled_functions_modules_and_models(shared_engine, tmp_path):
    folder = tmp_path / "modules" / "mine"
    folder.mkdir(parents=True)
    (folder / "wise_numbers.py").write_text("FACTOR = 3\n")
    model = tmp_path / "model.pkl"
    model.write_bytes(pickle.dumps({"bias": 0.25}))
    offset = 100

    def f(x, *, m):
        wise_numbers = importlib.import_module("wise_numbers")
        return x * wise_numbers.FACTOR + m["bias"] + offset

    one = pickled(f, tmp_path, modules=[str(folder)], models={"m": str(model)})
    result = columns(shared_engine, [one], {"x": pa.array([1.0, 2.0])})
    assert result["y"].to_pylist() == [103.25, 106.25]


def test_modules_stand_before_installed_packages_and_after_the_standard_library(
    shared_engine, tmp_path
):
    (tmp_path / "json.py").write_text("raise ImportError('shadowed')\n")
    (tmp_path / "pytest.py").write_text("MINE = True\n")
    text = """
        def f(x):
            import json, pytest
            return float(hasattr(pytest, "MINE") and hasattr(json, "dumps"))
    """
    result = columns(shared_engine, [call(text, modules=[str(tmp_path)])], {"x": pa.array([1.0])})
    assert result["y"].to_pylist() == [1.0]


@pytest.mark.parametrize("version", ["same", "other"])
def test_cloudpickle_may_come_with_a_function(engine, start, tmp_path, version):
    # As the engine ships it: a zip artifact, extracted to a folder.
    archive = tmp_path / "cloudpickle.zip"
    end = "" if version == "same" else "\n# another version\n"
    with zipfile.ZipFile(archive, "w") as file:
        for source in Path(cloudpickle.__file__).parent.glob("*.py"):
            file.writestr(f"cloudpickle/{source.name}", source.read_text() + end)
    folder = tmp_path / "extracted"
    zipfile.ZipFile(archive).extractall(folder)

    def f(x):
        import cloudpickle as used

        return float(used.__file__.startswith(str(folder)))

    start()
    result = columns(engine, [pickled(f, tmp_path, modules=[str(folder)])], {"x": pa.array([1.0])})
    # The same one is there already, and need not be compiled.
    assert result["y"].to_pylist() == [float(version == "other")]


def test_attributes_of_modules(shared_engine):
    one = {"code": {"attribute": "math:sqrt"}, "kind": "row", "args": [0], "name": "sqrt"}
    result = columns(shared_engine, [one], {"x": pa.array([4.0])})
    assert result["y"].to_pylist() == [2.0]


# map_batches and fit ----------------------------------------------------------------------

AB = pa.schema([("a", pa.float64()), ("b", pa.string())])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return None", []),
        ("return pa.record_batch({'a': [1.0], 'b': ['x']})", [(1.0, "x")]),
        ("return pa.table({'b': ['x'], 'a': [1]})", [(1.0, "x")]),
        ("return [pa.table({'b': ['x'], 'a': [i]}) for i in range(2)]", [(0.0, "x"), (1.0, "x")]),
        ("return pd.DataFrame({'a': [1, 2], 'b': ['x', None]})[1:]", [(2.0, None)]),
        ("return iter([])", []),
        ("return pa.table({'a': pa.nulls(1), 'b': pa.nulls(1)})", [(None, None)]),
    ],
)
def test_map_batches_may_return(shared_engine, body, expected):
    text = f"import pyarrow as pa, pandas as pd\ndef f(batch):\n    {body}"
    table = pa.table({"x": [1]})
    result = shared_engine.run("map_batches", [call(text, "map_batches")], table, AB)
    assert [(row["a"], row["b"]) for row in result.to_pylist()] == expected


def test_map_batches_may_generate(shared_engine):
    text = """
        def f(batch):
            assert type(batch).__name__ == "RecordBatch"
            for i in range(0, batch.num_rows, 3):
                yield batch.slice(i, 3)
    """
    table = pa.table({"x": pa.array(range(10))})
    description = stage("map_batches", [call(text, "map_batches")], table.schema, table.schema)
    batches = table.to_batches(max_chunksize=5)
    result = shared_engine.output(shared_engine.submit(description, batches), table.schema)
    assert [b.num_rows for b in result] == [3, 2, 3, 2]
    assert pa.Table.from_batches(result) == table


def test_map_batches_is_cut_to_batch_rows(shared_engine):
    text = "import pyarrow as pa\ndef f(b): return pa.table({'n': [b.num_rows]})"
    table = pa.table({"x": pa.array(range(10))})
    calls = [call(text, "map_batches", batch_rows=4)]
    result = shared_engine.run("map_batches", calls, table, pa.schema([("n", pa.int64())]))
    assert result["n"].to_pylist() == [4, 4, 2]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 5", "returned int where a RecordBatch"),
        ("return 'ab'", "returned str where"),
        ("return {'a': 1}", "returned dict where"),
        ("return [5]", "an iterator of int"),
        ("return pa.table({'a': [1.0]})", "missing: b"),
        ("return pa.table({'a': [1.0], 'b': ['x'], 'c': [1]})", "not declared: c"),
        ("return pa.table({'a': ['1'], 'b': ['x']})", "in its column a, which is double"),
        ("return pa.table([[1.0], ['x'], ['y']], ['a', 'b', 'b'])", "stands twice"),
    ],
)
def test_map_batches_must_fit_its_schema(shared_engine, body, says):
    text = f"import pyarrow as pa\ndef f(batch):\n    {body}"
    details = failure(
        shared_engine, "map_batches", [call(text, "map_batches")], pa.table({"x": [1]}), AB
    )
    assert details["error"] == "type"
    assert says in details["message"] + details.get("hint", "")
    assert (details["function"], details["name"]) == ("f1", "f")


def test_a_generator_that_fails_half_way(shared_engine):
    text = """
        def f(batch):
            yield batch
            raise RuntimeError("half way")
    """
    table = pa.table({"x": pa.array([1.0])})
    details = failure(
        shared_engine, "map_batches", [call(text, "map_batches")], table, table.schema
    )
    assert details["error"] == "raised"
    assert details["exception"]["message"] == "half way"
    assert [frame["line"] for frame in details["frames"]] == [4]


def test_fit_reads_many_batches_as_they_come(shared_engine):
    text = """
        def f(batches):
            total = rows = 0
            for batch in batches:
                total += sum(batch.column("x").to_pylist())
                rows += batch.num_rows
            return {"mean": total / rows}
    """
    schema = pa.schema([("x", pa.int64())])
    id_ = shared_engine.begin(stage("fit", [call(text, "fit")], schema, MODEL))
    batch = pa.record_batch([pa.array(range(1000))], schema=schema)
    for _ in range(300):
        shared_engine.send(id_, element(batch))
    shared_engine.send(id_, b"", last=True)
    [result] = shared_engine.output(id_, MODEL)
    assert pickle.loads(result["model"][0].as_py()) == {"mean": 499.5}


def test_fit_may_stop_reading(shared_engine):
    text = "def f(batches): return next(batches).num_rows"
    table = pa.table({"x": pa.array(range(300_000))})
    batches = table.to_batches(max_chunksize=1000)
    description = stage("fit", [call(text, "fit")], table.schema, MODEL)
    ids = [shared_engine.submit(description, batches) for _ in range(3)]
    for id_ in ids:
        [result] = shared_engine.output(id_, MODEL)
        assert pickle.loads(result["model"][0].as_py()) == 1000


def test_a_model_of_a_class_from_source_can_be_read_elsewhere(
    shared_engine, engine, start, tmp_path
):
    text = """
        import dataclasses
        @dataclasses.dataclass
        class Mean:
            value: "float"
            def __call__(self, x): return x - self.value
        def f(batches): return Mean(2.0)
    """
    result = shared_engine.run("fit", [call(text, "fit")], pa.table({"x": [1]}), MODEL)
    model = tmp_path / "model.pkl"
    model.write_bytes(result["model"][0].as_py())
    start()
    one = call("def f(x, m): return m(x)", models={"m": str(model)})
    assert columns(engine, [one], {"x": pa.array([5.0])})["y"].to_pylist() == [3.0]


def test_a_model_that_cannot_be_pickled(shared_engine):
    text = "import threading\ndef f(batches): return threading.Lock()"
    details = failure(shared_engine, "fit", [call(text, "fit")], pa.table({"x": [1]}), MODEL)
    assert (details["error"], details["got"]) == ("type", "lock")
    assert "cannot be pickled" in details["message"]


# Errors -------------------------------------------------------------------------------------

FAILING = """
def helper(dep, arr):
    return dep / arr

def made_up(dep, arr):
    return 2 * helper(dep, arr)
"""


def test_an_exception_names_row_values_and_frames(shared_engine):
    one = call(FAILING, args=[0, 1], name="made_up", parameters=["dep", "arr"], id="g7")
    table = pa.table(
        {"d": pa.array(range(5000), pa.float64()), "a": [1.0] * 4097 + [0.0] + [1.0] * 902}
    )
    description = stage("columns", [one], table.schema, DOUBLE)
    id_ = shared_engine.submit(description, table.to_batches(max_chunksize=1000))
    with pytest.raises(BundleFailed) as caught:
        shared_engine.output(id_, DOUBLE)
    details = caught.value.details
    assert details["error"] == "raised"
    assert (details["function"], details["name"]) == ("g7", "made_up")
    assert details["message"].startswith("made_up raised ZeroDivisionError: ")
    assert details["exception"]["module"] == "builtins"
    assert details["exception"]["type"] == "ZeroDivisionError"
    assert details["row"] == 4097
    assert details["values"] == [{"name": "dep", "repr": "4097.0"}, {"name": "arr", "repr": "0.0"}]
    outer, inner = details["frames"]
    assert (outer["function"], outer["line"], outer["text"]) == (
        "made_up",
        6,
        "    return 2 * helper(dep, arr)",
    )
    assert (inner["function"], inner["line"], inner["text"]) == (
        "helper",
        3,
        "    return dep / arr",
    )
    if sys.version_info >= (3, 11):
        assert outer["text"][outer["column"] - 1 : outer["end_column"] - 1] == "helper(dep, arr)"
        assert inner["text"][inner["column"] - 1 : inner["end_column"] - 1] == "dep / arr"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has columns since 3.11")
def test_columns_count_characters(shared_engine):
    text = 'def f(x):\n    return "äöü€😀" + (x / 0)\n'
    details = failure(shared_engine, "columns", [call(text)], pa.table({"x": pa.array([1.0])}))
    [frame] = details["frames"]
    assert frame["text"][frame["column"] - 1 : frame["end_column"] - 1] == "x / 0"


def test_frames_of_libraries_are_hidden(shared_engine):
    text = """
        import json
        def f(x): return json.loads("{")
    """
    details = failure(shared_engine, "columns", [call(text)], pa.table({"x": pa.array([1.0])}))
    assert details["exception"]["module"] == "json.decoder"
    assert [frame["function"] for frame in details["frames"]] == ["f"]


def test_the_last_frame_stays_if_all_are_hidden(shared_engine):
    one = {"code": {"attribute": "json:loads"}, "kind": "row", "args": [0], "name": "loads"}
    details = failure(shared_engine, "columns", [one], pa.table({"x": ["{"]}))
    assert len(details["frames"]) == 1
    assert details["frames"][0]["file"].endswith("decoder.py")


def test_frames_of_pickled_functions_without_their_file(shared_engine, tmp_path):
    namespace = {}
    exec(compile("def f(x):\n    return 1 / x\n", "/client/only/job.py", "exec"), namespace)
    one = pickled(namespace["f"], tmp_path)
    details = failure(shared_engine, "columns", [one], pa.table({"x": pa.array([0.0])}))
    [frame] = details["frames"]
    assert (frame["file"], frame["line"], frame["text"]) == ("/client/only/job.py", 2, "")
    if sys.version_info >= (3, 11):
        assert (frame["column"], frame["end_column"]) == (12, 17)


def test_many_frames_and_long_texts_are_cut(shared_engine):
    text = f"""
        def f(x):
            if x > 1: return f(x - 1)
            raise ValueError("{"long " * 5000}")
    """
    table = pa.table({"x": pa.array([300.0]), "s": ["y" * 10_000]})
    details = failure(shared_engine, "columns", [call(text)], table)
    assert len(details["frames"]) == 20
    assert len(details["exception"]["message"]) == 2000
    assert len(details["message"]) < 600


def test_values_are_cut_and_may_have_no_repr(shared_engine):
    text = "def f(*values): raise ValueError"
    table = pa.table({"s": ["y" * 10_000], "l": [list(range(10_000))], "x": pa.array([None])})
    one = call(text, args=[0, 1, 2], parameters=["s", "l"])
    details = failure(shared_engine, "columns", [one], table)
    names = [value["name"] for value in details["values"]]
    assert names == ["s", "l", "argument 3"]
    assert all(len(value["repr"]) <= 80 for value in details["values"])
    assert details["message"] == "f raised ValueError"


@pytest.mark.parametrize(
    ("exception", "type_"),
    [
        ("SystemExit(3)", "SystemExit"),
        ("KeyboardInterrupt()", "KeyboardInterrupt"),
        ("GeneratorExit()", "GeneratorExit"),
        ("StopIteration(5)", "StopIteration"),
        ("MemoryError()", "MemoryError"),
        ("Exception('\\ud800')", "Exception"),
        ("Odd()", "Odd"),
    ],
)
@pytest.mark.parametrize("kind", ["row", "numpy", "arrow", "map_batches", "fit"])
def test_no_exception_ends_the_worker(shared_engine, kind, exception, type_):
    text = f"""
        class Odd(Exception):
            def __str__(self): raise RuntimeError("no text")
        def f(x): raise {exception}
    """
    name = kind if kind in ("map_batches", "fit") else "columns"
    schema = MODEL if kind == "fit" else DOUBLE
    details = failure(
        shared_engine, name, [call(text, kind)], pa.table({"x": pa.array([1.0])}), schema
    )
    assert details["error"] == "raised"
    assert details["exception"]["type"] == type_


def test_stop_iteration_does_not_pass_for_the_end(shared_engine):
    text = """
        def f(x):
            if x == 2: raise StopIteration
            return x
    """
    table = pa.table({"x": pa.array([0.0, 1.0, 2.0, 3.0])})
    details = failure(shared_engine, "columns", [call(text)], table)
    assert (details["row"], details["exception"]["type"]) == (2, "StopIteration")


@pytest.mark.parametrize(
    ("kind", "text", "row", "got"),
    [
        ("row", "def f(x): return 'abc' if x == 2 else x", 2, "str"),
        ("row", "def f(x): return x > 1", 0, "bool"),
        ("row", "async def f(x): return x", 0, "coroutine"),
        ("row", "def f(x): yield x", 0, "generator"),
        ("numpy", "def f(x): return x > 1", None, "array of bool"),
        ("numpy", "def f(x): return x.sum()", None, "np.float64"),
        ("numpy", "def f(x): return None", None, "NoneType"),
        ("arrow", "def f(x): return x.to_pylist()", None, "list"),
        ("arrow", "def f(x): return x.cast('string')", None, "string"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrong_types(shared_engine, kind, text, row, got):
    table = pa.table({"x": pa.array([0.0, 1.0, 2.0, 3.0])})
    details = failure(shared_engine, "columns", [call(text, kind, parameters=["x"])], table)
    assert details["error"] == "type"
    assert details["got"] == got
    assert "double" in details["expected"]
    assert details.get("row") == row
    if row is not None:
        assert details["values"] == [{"name": "x", "repr": repr(float(row))}]


def test_a_wrong_type_reads_well(shared_engine):
    text = "def f(x): return 'abc'"
    details = failure(shared_engine, "columns", [call(text)], pa.table({"x": pa.array([0.0])}))
    assert details["message"] == "f returned 'abc' (str), which double cannot hold"
    assert details["hint"] == "return float(...) or declare string"


@pytest.mark.parametrize("batch_rows", [0, 2])
def test_a_lossy_value_of_an_array_names_its_row(shared_engine, batch_rows):
    text = "def f(x): return x / 2"
    table = pa.table({"x": pa.array([0.0, 2.0, 4.0, 5.0])})
    schema = pa.schema([("y", pa.int64())])
    one = call(text, "numpy", parameters=["x"], batch_rows=batch_rows)
    details = failure(shared_engine, "columns", [one], table, schema)
    assert (details["row"], details["expected"]) == (3, "bigint")
    assert details["values"] == [{"name": "x", "repr": "5.0"}]
    assert details["message"] == "f returned 2.5 (array of float64), which bigint cannot hold"


@pytest.mark.parametrize(
    ("kind", "text", "got"),
    [
        ("numpy", "def f(x): return x[:2]", "2"),
        ("numpy", "def f(x): return [1.0]", "1"),
        ("arrow", "def f(x): return x.slice(1)", "3"),
    ],
)
def test_wrong_lengths(shared_engine, kind, text, got):
    table = pa.table({"x": pa.array([0.0, 1.0, 2.0, 3.0])})
    details = failure(shared_engine, "columns", [call(text, kind)], table)
    assert (details["error"], details["got"], details["expected"]) == ("length", got, "4")
    assert details["message"] == f"f returned {got} values for 4 rows"


def test_a_time_that_python_cannot_hold(shared_engine):
    table = pa.table({"t": pa.array([0, 1], pa.timestamp("ns"))})
    details = failure(shared_engine, "columns", [call("def f(t): return 1.0")], table)
    assert (details["error"], details["row"]) == ("type", 1)
    assert "cannot be given 1970-01-01 00:00:00.000000001" in details["message"]


def test_writing_to_a_view_has_a_hint(shared_engine):
    text = "def f(x):\n    x += 1\n    return x"
    table = pa.table({"x": pa.array([0.0])})
    details = failure(shared_engine, "columns", [call(text, "numpy")], table)
    assert details["error"] == "raised"
    assert "copy" in details["hint"]


ABSENT = "no_such_module"


def source(text):
    return {"source": text, "name": "f"}


@pytest.mark.parametrize(
    ("code", "error", "missing"),
    [
        (source(f"import {ABSENT}.part\ndef f(x): return x"), "module", ABSENT),
        (source(f"def f(x):\n    import {ABSENT}\n"), "module", ABSENT),
        ({"attribute": f"{ABSENT}:f"}, "module", ABSENT),
        ({"attribute": "math:no_such_name"}, "load", None),
        (source("def g(x): return x"), "load", None),
        (source("f = 5"), "load", None),
        (source("1 / 0"), "load", None),
        (source("def f(:"), "load", None),
        (source("raise SystemExit"), "load", None),
        (source("import sys; sys.exit(1)"), "load", None),
        ({"pickle": "/no/such/file"}, "load", None),
        ({}, "protocol", None),
    ],
)
def test_code_that_cannot_be_loaded(shared_engine, code, error, missing):
    one = {"code": code, "kind": "row", "args": [0], "name": "f"}
    details = failure(shared_engine, "columns", [one], pa.table({"x": pa.array([1.0])}))
    assert details["error"] == error
    assert details.get("missing") == missing
    assert (details["function"], details["name"]) == ("f1", "f")
    if error == "load" and code.get("source", "").startswith("def f(:"):
        assert details["frames"][0]["line"] == 1


@pytest.mark.parametrize("step", ["__init__", "setup"])
def test_a_class_that_cannot_be_set_up(shared_engine, step):
    text = f"""
        class f:
            def {step}(self):
                raise ValueError("no table")
            def __call__(self, x): return x
    """
    details = failure(shared_engine, "columns", [call(text)], pa.table({"x": pa.array([1.0])}))
    assert details["error"] == "raised"
    assert details["message"] == f"f.{step} raised ValueError: no table"
    assert details["frames"][-1]["line"] == 4
    assert "row" not in details


def test_an_interrupt_while_loading_is_no_fault_of_the_code(shared_engine):
    one = call("raise KeyboardInterrupt")
    details = failure(shared_engine, "columns", [one], pa.table({"x": pa.array([1.0])}))
    assert (details["error"], details["exception"]["type"]) == ("raised", "KeyboardInterrupt")


def test_a_pickle_that_needs_a_missing_module(shared_engine, tmp_path):
    path = tmp_path / "f.pkl"
    path.write_bytes(b"cabsent_package.inner\nf\n.")
    one = {"code": {"pickle": str(path)}, "kind": "row", "args": [0], "name": "f"}
    details = failure(shared_engine, "columns", [one], pa.table({"x": pa.array([1.0])}))
    assert (details["error"], details["missing"]) == ("module", "absent_package")
    assert details["message"].startswith("f needs the module 'absent_package'")


def test_code_is_loaded_again_after_it_failed(shared_engine, tmp_path):
    text = """
        import late_module
        def f(x): return late_module.VALUE
    """
    one = call(text, modules=[str(tmp_path)])
    table = pa.table({"x": pa.array([1.0])})
    assert failure(shared_engine, "columns", [one], table)["error"] == "module"
    (tmp_path / "late_module.py").write_text("VALUE = 4.0\n")
    os.utime(tmp_path, (1, 1))  # the import system's caches go by the folder's time
    assert shared_engine.run("columns", [one], table, DOUBLE)["y"].to_pylist() == [4.0]
