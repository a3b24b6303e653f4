"""A worker's life: start, streams, interrupts, logs, end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pyarrow as pa
import pytest

from .conftest import BOOT, BundleFailed, descriptor, element, stage

DOUBLE = pa.schema([("y", pa.float64())])
X = pa.schema([("x", pa.float64())])
MODEL = pa.schema([("model", pa.large_binary())])
NEVER_SECONDS = 60


def call(text, kind="row", name="f", **more):
    code = {"source": textwrap.dedent(text), "name": name}
    return {"code": code, "kind": kind, "args": [0], "name": name, **more}


def rows(*values):
    return pa.record_batch([pa.array(values, pa.float64())], schema=X)


def submit(engine, text, *values, kind="row"):
    whole = kind in ("fit", "map_batches")
    description = stage(
        kind if whole else "columns", [call(text, kind)], X, MODEL if kind == "fit" else DOUBLE
    )
    return engine.submit(description, [rows(*values)])


def run(engine, text, *values):
    [batch] = engine.output(submit(engine, text, *values), DOUBLE)
    return batch["y"].to_pylist()


def test_it_greets_with_id_and_token(engine, start):
    start(worker_id="w-17")
    assert run(engine, "def f(x): return x", 1.0) == [1.0]
    assert len(engine.metadata) == 5
    for metadata in engine.metadata:
        assert metadata["worker_id"] == "w-17"
        assert metadata["authorization"] == "Bearer a-secret"


@pytest.mark.parametrize("protocol", ["2", ""])
def test_another_protocol_is_refused(engine, start, protocol):
    engine.protocol = protocol
    status, _, stderr = start().wait()
    assert status == 1
    assert (
        stderr.decode() == f"alink worker: the engine speaks protocol {protocol}, this worker 1\n"
    )


def test_a_wrong_token_ends_it(engine, start):
    status, _, stderr = start(token="wrong").wait()
    assert status == 1
    assert b"UNAUTHENTICATED: wrong token" in stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [(b"", b"no launch line"), (b"{", b"no launch line"), (b"{\n", b"not JSON")],
)
def test_a_bad_launch_line_ends_it(line, says):
    done = subprocess.run(
        [sys.executable, "-I", str(BOOT)], input=line, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert says in done.stderr


def test_a_descriptor_is_fetched_once(engine, start):
    start()
    description = stage("columns", [call("def f(x): return x")], X, DOUBLE)
    for _ in range(3):
        engine.output(engine.submit(description, [rows(1.0)]), DOUBLE)
    assert engine.descriptor_calls == ["stage-1"]


def test_an_unknown_descriptor_is_an_error(shared_engine):
    id_ = shared_engine.request("process_bundle", {"process_bundle_descriptor_id": "gone"})
    with pytest.raises(BundleFailed, match="NOT_FOUND: no descriptor gone"):
        shared_engine.output(id_, DOUBLE)


def broken_descriptors():
    whole = stage("columns", [call("def f(x): return x")], X, DOUBLE)
    no_sink = {**whole, "transforms": {k: v for k, v in whole["transforms"].items() if k != "sink"}}
    yield "no sink", no_sink
    other_coder = {**whole["coders"], "batch": {"spec": {"urn": "beam:coder:bytes:v1"}}}
    yield "other coder", {**whole, "coders": other_coder}
    yield "no coder", {**whole, "coders": {}}
    schema = {"spec": {"urn": "alink:coder:arrow:v1", "payload": b"nonsense"}}
    yield "damaged schema", {**whole, "coders": {**whole["coders"], "batch": schema}}
    yield "no payload", descriptor({}, X)
    yield "unknown kind", stage("other", [call("def f(x): return x")], X, DOUBLE)
    yield "unknown kind of call", stage("columns", [call("", "other")], X, DOUBLE)
    yield "no calls", stage("columns", [], X, DOUBLE)
    yield "two calls", stage("fit", [call("", "fit"), call("", "fit")], X, MODEL)
    yield "no output", stage("columns", [call("", output=3)], X, DOUBLE)


@pytest.mark.parametrize(("what", "description"), list(broken_descriptors()))
def test_a_descriptor_that_makes_no_sense_is_an_error(shared_engine, what, description):
    id_ = shared_engine.submit(description, [rows(1.0)])
    with pytest.raises(BundleFailed) as caught:
        shared_engine.output(id_, DOUBLE)
    assert caught.value.details["error"] == "protocol", what
    assert run(shared_engine, "def f(x): return x", 2.0) == [2.0]


def test_an_argument_that_does_not_exist_is_an_error(shared_engine):
    description = stage("columns", [{**call("def f(x): return x"), "args": [5]}], X, DOUBLE)
    with pytest.raises(BundleFailed) as caught:
        shared_engine.output(shared_engine.submit(description, [rows(1.0)]), DOUBLE)
    assert caught.value.details["error"] == "protocol"


def test_damaged_input_is_an_error(shared_engine):
    description = stage("columns", [call("def f(x): return x")], X, DOUBLE)
    id_ = shared_engine.begin(description)
    shared_engine.send(id_, element(rows(1.0))[:-3], last=True)
    with pytest.raises(BundleFailed) as caught:
        shared_engine.output(id_, DOUBLE)
    assert caught.value.details["error"] == "protocol"
    assert run(shared_engine, "def f(x): return x", 2.0) == [2.0]


def test_every_instruction_is_answered(shared_engine):
    for kind in (
        "process_bundle_progress",
        "process_bundle_split",
        "finalize_bundle",
        "monitoring_infos",
        "harness_monitoring_infos",
    ):
        response = shared_engine.answer(shared_engine.request(kind, b""))
        assert response["error"] == ""
        assert response[kind] == b""
    for kind in ("register", "sample_data"):
        response = shared_engine.answer(shared_engine.request(kind, b""))
        assert f"cannot do an instruction {kind}" in response["error"]


def test_requests_are_answered_while_a_bundle_runs(shared_engine):
    id_ = shared_engine.begin(stage("columns", [call("def f(x): return x")], X, DOUBLE))
    progress = shared_engine.request("process_bundle_progress", b"")
    assert shared_engine.answer(progress)["error"] == ""
    shared_engine.send(id_, element(rows(3.0)), last=True)
    [batch] = shared_engine.output(id_, DOUBLE)
    assert batch["y"].to_pylist() == [3.0]


def test_bundles_run_in_the_order_of_their_requests(shared_engine):
    text = """
        ran = []
        def f(x):
            ran.append(x)
            return float(len(ran))
    """
    description = stage("columns", [call(text)], X, DOUBLE)
    ids = [shared_engine.begin(description) for _ in range(20)]
    for i, id_ in reversed(list(enumerate(ids))):  # the data comes the other way round
        shared_engine.send(id_, element(rows(float(i))), last=True)
    for i, id_ in enumerate(ids):
        [batch] = shared_engine.output(id_, DOUBLE)
        assert batch["y"].to_pylist() == [i + 1.0]


def test_a_slow_bundle_does_not_keep_others_from_being_read(engine, start, tmp_path):
    start()
    gate = tmp_path / "gate"
    slow = f"""
        import os, time
        def f(batches):
            while not os.path.exists({str(gate)!r}): time.sleep(0.01)
            return sum(b.num_rows for b in batches)
    """
    first = submit(engine, slow, 1.0, kind="fit")
    # Several bundles, each beyond the bound of one, arrive before their turn comes.
    large = pa.record_batch([pa.array(range(3_000_000), pa.float64())], schema=X)
    text = "import pyarrow as pa\ndef f(batch): return pa.table({'y': [float(batch.num_rows)]})"
    description = stage("map_batches", [call(text, "map_batches")], X, DOUBLE)
    others = [engine.submit(description, [large] * 4) for _ in range(3)]
    last = engine.begin(description)
    gate.touch()
    engine.send(last, element(large), last=True)
    assert [b["model"][0].as_py() for b in engine.output(first, MODEL)]
    for id_ in others:
        assert [b["y"][0].as_py() for b in engine.output(id_, DOUBLE)] == [3e6] * 4
    assert [b["y"][0].as_py() for b in engine.output(last, DOUBLE)] == [3e6]


def test_a_batch_larger_than_a_piece_goes_both_ways(shared_engine):
    schema = pa.schema([("x", pa.string())])
    table = pa.table({"x": ["é" * 1000] * 25_000 + [None]})
    assert table.nbytes > 40 << 20
    text = "def f(x): return x"
    result = shared_engine.run("columns", [call(text, "arrow")], table, schema.with_metadata(None))
    assert result["x"].equals(table["x"])


def test_input_is_read_without_a_copy(engine, start):
    text = """
        def f(x):
            import gc
            assert not x.flags.writeable and not x.flags.owndata
            return x * 0 + x.__array_interface__["data"][0] % 8
    """
    start()
    description = stage("columns", [call(text, "numpy")], X, DOUBLE)
    id_ = engine.begin(description)
    for padding in range(8):
        engine.send(id_, element(rows(1.0, 2.0), padding), last=padding == 7)
    for batch in engine.output(id_, DOUBLE):
        assert batch["y"].to_pylist() == [0.0, 0.0]


# Interrupts and the end ---------------------------------------------------------------------


def wait_until(condition):
    deadline = time.monotonic() + NEVER_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "loop",
    ["time.sleep(1000)", "while True: pass"],
)
def test_an_interrupt_ends_the_bundle_and_not_the_worker(engine, start, tmp_path, loop):
    worker = start()
    mark = tmp_path / "mark"
    text = f"""
        import time
        def f(x):
            open({str(mark)!r}, "w").close()
            {loop}
    """
    id_ = submit(engine, text, 1.0)
    behind = submit(engine, "def f(x): return x", 5.0)
    wait_until(mark.exists)
    worker.process.send_signal(signal.SIGINT)
    with pytest.raises(BundleFailed) as caught:
        engine.output(id_, DOUBLE)
    details = caught.value.details
    assert (details["error"], details["exception"]["type"]) == ("raised", "KeyboardInterrupt")
    assert details["row"] == 0
    assert engine.output(behind, DOUBLE)[0]["y"].to_pylist() == [5.0]
    worker.process.send_signal(signal.SIGINT)  # between bundles it means nothing
    assert run(engine, "def f(x): return x", 6.0) == [6.0]


def test_an_interrupt_reaches_a_bundle_that_waits_for_input(engine, start):
    worker = start()
    assert run(engine, "def f(x): return x", 6.0) == [6.0]
    id_ = engine.begin(stage("fit", [call("def f(b): return list(b)", "fit")], X, MODEL))
    time.sleep(0.3)
    worker.process.send_signal(signal.SIGINT)
    with pytest.raises(BundleFailed) as caught:
        engine.output(id_, MODEL)
    assert caught.value.details["exception"]["type"] == "KeyboardInterrupt"
    assert run(engine, "def f(x): return x", 6.0) == [6.0]


@pytest.mark.parametrize("loop", ["time.sleep(1000)", "while True: pass"])
def test_it_ends_with_its_supervisor(engine, start, tmp_path, loop):
    worker = start()
    mark = tmp_path / "mark"
    submit(engine, f"import time\ndef f(x):\n    open({str(mark)!r}, 'w').close()\n    {loop}", 1.0)
    wait_until(mark.exists)
    began = time.monotonic()
    status, _, stderr = worker.close()
    assert (status, stderr) == (0, b"")
    assert time.monotonic() - began < 5


def test_it_ends_with_the_engine(tmp_path, request):
    engine = request.getfixturevalue("engine")
    worker = request.getfixturevalue("start")()
    assert run(engine, "def f(x): return x", 6.0) == [6.0]
    engine.close()
    status, _, _ = worker.wait()
    assert status in (0, 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("ctypes.string_at(0)", -11)],
)
def test_what_kills_it_kills_it(engine, start, body, status):
    worker = start()
    submit(engine, f"import os, ctypes\ndef f(x): {body}", 1.0)
    got, _, stderr = worker.wait()
    assert got == status
    if status == -11:
        assert b"Segmentation fault" in stderr
        assert b"in f" in stderr


def test_user_code_cannot_read_the_launch_line(shared_engine):
    text = "import sys\ndef f(x): return float(len(sys.stdin.read()))"
    assert run(shared_engine, text, 1.0) == [0.0]


def test_it_starts_with_little(shared_engine):
    text = """
        import sys
        def f(x): return "google" in sys.modules or "apache_beam" in sys.modules
    """
    result = shared_engine.run(
        "columns", [call(text)], pa.table({"x": [1.0]}), pa.schema([("y", pa.bool_())])
    )
    assert result["y"].to_pylist() == [False]


def test_paths_are_package_folders(engine, start, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "found_here.py").write_text("def f(x): raise ValueError('here')\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "found_too.py").write_text("VALUE = 8.0\n")
    (tmp_path / "site" / "editable.pth").write_text(f"{tmp_path / 'more'}\n")
    start(paths=[str(tmp_path / "site")])
    assert run(engine, "import found_too\ndef f(x): return found_too.VALUE", 1.0) == [8.0]
    id_ = submit(engine, "import found_here\ndef f(x): return found_here.f(x)", 1.0)
    with pytest.raises(BundleFailed) as caught:
        engine.output(id_, DOUBLE)
    assert [frame["function"] for frame in caught.value.details["frames"]] == ["f"]
    assert caught.value.details["frames"][0]["file"] == "<source of f>"


@pytest.mark.parametrize(
    "body",
    [
        "subprocess.run([sys.executable, '-c', 'exit(3)']).returncode",
        "multiprocessing.get_context('fork').Pool(1).map(abs, [-3])[0]",
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_user_code_may_start_processes(engine, start, body):
    worker = start()
    text = f"import subprocess, sys, multiprocessing\ndef f(x): return {body}"
    assert run(engine, text, 1.0) == [3.0]
    status, _, _ = worker.close()
    assert status == 0


# Logs ---------------------------------------------------------------------------------------


def test_prints_and_logs(engine, start):
    start()
    text = """
        import logging, sys
        def f(x):
            print("to stdout", x)
            print("to stderr", file=sys.stderr)
            print("without an end", end="", flush=True)
            logger = logging.getLogger("mine")
            logger.debug("below INFO")
            for level in (20, 30, 40, 50): logger.log(level, "level %d", level)
            sys.stdout.buffer.write(b"; bytes\\xff\\n")
            sys.stdout.flush()
            print("a" * 20_000)
            print("one\\ntwo")
            sys.stdout.write("the last")
            return x
    """
    id_ = submit(engine, text, 1.0)
    engine.output(id_, DOUBLE)
    engine.wait_for_log(lambda entry: entry["message"] == "the last")
    seen = [(entry["message"], entry["severity"]) for entry in engine.logs]
    assert ("to stdout 1.0", 4) in seen
    assert ("to stderr", 4) in seen
    assert [s for m, s in seen if m.startswith("level")] == [3, 5, 6, 7]
    assert not any("below" in message for message, _ in seen)
    assert ("without an end; bytes\ufffd", 4) in seen
    assert ("one", 4) in seen
    assert ("two", 4) in seen
    [long] = [message for message, _ in seen if message.startswith("aaa")]
    assert len(long.encode()) == 8 << 10
    assert long.endswith("…")
    for entry in engine.logs:
        assert entry["instruction_id"] == id_
        assert (entry["transform_id"], entry["log_location"]) == ("fn", "f")
        assert abs(entry["timestamp"]["seconds"] - time.time()) < NEVER_SECONDS


def test_too_many_lines_are_dropped_and_counted(engine, start):
    start()
    text = """
        import sys
        def f(x):
            sys.setswitchinterval(1000)  # so that no line is sent meanwhile
            for i in range(5000): print("line", i)
            sys.setswitchinterval(0.005)
            return x
    """
    assert run(engine, text, 1.0) == [1.0]
    engine.wait_for_log(lambda entry: "were dropped" in entry["message"])

    def sent():
        return len([entry for entry in engine.logs if entry["message"].startswith("line")])

    def dropped():
        notes = [e["message"] for e in engine.logs if "were dropped" in e["message"]]
        return sum(int(note.split()[0]) for note in notes)

    wait_until(lambda: sent() + dropped() == 5000)
    assert sent() >= 1000


def test_a_log_of_a_bundle_that_failed_arrives(shared_engine):
    id_ = submit(shared_engine, "def f(x):\n    print('before it failed')\n    1 / 0", 1.0)
    with pytest.raises(BundleFailed):
        shared_engine.output(id_, DOUBLE)
    entry = shared_engine.wait_for_log(lambda entry: entry["message"] == "before it failed")
    assert entry["instruction_id"] == id_


def test_streams_that_user_code_closed(engine, start):
    start()
    assert run(engine, "import sys\ndef f(x):\n    sys.stdout.close()\n    return x", 1.0) == [1.0]
    assert run(engine, "def f(x): return x", 2.0) == [2.0]


def test_output_of_child_processes_goes_to_the_supervisor(engine, start):
    worker = start()
    text = """
        import os
        def f(x):
            if os.fork() == 0:
                print("from the child", flush=True)
                os._exit(0)
            os.wait()
            return x
    """
    assert run(engine, text, 1.0) == [1.0]
    _, stdout, _ = worker.close()
    assert stdout == b"from the child\n"


# pandas -------------------------------------------------------------------------------------

NO_PANDAS = """
def f(x):
    import sys
    assert "pandas" not in sys.modules, "pandas was imported"
    return x
"""


@pytest.fixture
def pandas_is_there():
    pytest.importorskip("pandas")


def test_pandas_is_not_imported_behind_the_users_back(pandas_is_there, engine, start):
    start()
    types = [
        pa.array([1.0, 2.0]),
        pa.array([1, None]),
        pa.array(["a", None]),
        pa.array([True, None]),
        pa.array([[1.0], None]),
        pa.array([1, None], pa.timestamp("us", "UTC")),
        pa.array([1000, None], pa.timestamp("ns")),
        pa.array([1, None], pa.date32()),
    ]
    for kind in ("row", "numpy", "arrow"):
        for x in types:
            schema = pa.schema([("y", x.type)])
            result = engine.run("columns", [call(NO_PANDAS, kind)], pa.table({"x": x}), schema)
            assert result["y"].to_pylist() == x.to_pylist()
        skip = call(NO_PANDAS, kind, on_null="skip")
        nullable = pa.table({"x": pa.array([1.0, None])})
        assert engine.run("columns", [skip], nullable, DOUBLE)["y"].to_pylist() == [1.0, None]
    for kind in ("map_batches", "fit"):
        text = NO_PANDAS if kind == "map_batches" else NO_PANDAS.replace("return x", "list(x)")
        out = X if kind == "map_batches" else MODEL
        engine.run(kind, [call(text, kind)], pa.table({"x": pa.array([1.0])}), out)
    assert run(engine, NO_PANDAS, 1.0) == [1.0]


def test_pandas_works_with_pyarrow_once_user_code_imports_it(pandas_is_there, engine, start):
    start()
    assert run(engine, NO_PANDAS, 1.0) == [1.0]
    text = """
        import pandas as pd, pyarrow as pa
        def f(x):
            assert pa.array(pd.Series([1.0, None])).null_count == 1
            times = [pd.NaT, pd.Timestamp(0)]
            frame = pd.DataFrame({"a": [1, None], "o": [pd.NA, "s"], "t": times})
            table = pa.Table.from_pandas(frame)
            assert [c.null_count for c in table.columns] == [1, 1, 1], table
            assert isinstance(table.to_pandas(), pd.DataFrame)
            assert pa.array([pd.NA, pd.NaT], from_pandas=True).null_count == 2
            assert isinstance(pa.scalar(1, pa.timestamp("ns")).as_py(), pd.Timestamp)
            assert pd.__loader__ is pd.__spec__.loader
            assert type(pd.__loader__).__name__ == "SourceFileLoader"
            return x
    """
    assert run(engine, text, 1.0) == [1.0]
    # A nanosecond timestamp is still a datetime, not a pandas Timestamp.
    now = pa.table({"x": pa.array([1000], pa.timestamp("ns"))})
    text = "def f(x): return type(x).__name__"
    result = engine.run("columns", [call(text)], now, pa.schema([("y", pa.string())]))
    assert result["y"].to_pylist() == ["datetime"]


def test_pyarrow_finds_pandas_by_itself_where_it_needs_it(pandas_is_there, engine, start):
    start()
    text = """
        import sys
        def f(batch):
            assert "pandas" not in sys.modules
            frame = batch.to_pandas()
            assert "pandas" in sys.modules
            frame["y"] = frame.pop("x") * 2
            return frame
    """
    table = pa.table({"x": pa.array([1.0])})
    result = engine.run("map_batches", [call(text, "map_batches")], table, DOUBLE)
    assert result["y"].to_pylist() == [2.0]


def test_a_missing_part_of_pandas_is_reported_as_any_other(engine, start):
    start()
    text = "import pandas.no_such_part\ndef f(x): return x"
    with pytest.raises(BundleFailed) as caught:
        engine.output(submit(engine, text, 1.0), DOUBLE)
    assert caught.value.details["error"] == "module"
    assert run(engine, "def f(x): return x", 2.0) == [2.0]
