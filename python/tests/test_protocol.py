"""The client against an engine that answers wrongly, dies or hangs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import alink as al

SUCCEEDED = {"events": [{"end": {"state": "succeeded", "error": None, "metrics": {"rows": 3}}}]}


def one_column(ctx):
    return ctx.from_arrow(pa.table({"a": [1, 2, 3]}))


def test_start_options_and_calls(fake_engine, monkeypatch, tmp_path):
    monkeypatch.setenv("ALINK_CACHE_DIR", str(tmp_path / "cache"))
    fake_engine.plays(actions={"watch": SUCCEEDED})
    with al.connect(memory="1GiB", parallelism=3, spill_dir=tmp_path) as ctx:
        result = one_column(ctx).to_arrow()
    assert result.to_pydict() == {"x": [0, 1, 2]}
    first, *calls = fake_engine.calls()
    assert first["argv"] == ["engine"]
    options = first["options"]
    assert options.keys() == {
        "run_dir", "token", "client_pidfd", "cache_dir", "uv",
        "memory_limit_bytes", "worker_memory_bytes", "parallelism", "spill_dir", "offline",
        "sandbox", "warm", "source_builds", "lane", "launcher",
    }  # fmt: skip
    assert options["memory_limit_bytes"] == 2**30
    assert options["parallelism"] == 3
    assert options["spill_dir"] == str(tmp_path)
    assert options["cache_dir"] == str(tmp_path / "cache")
    assert len(options["token"]) == 64
    assert not Path(options["run_dir"]).exists(), "the run directory was left behind"
    put = next(call for call in calls if "put" in call)
    assert put["put"][0] == "table"
    assert put["rows"] == 3
    plan = fake_engine.calls("submit")[0]["body"]["plan"]
    assert [node["op"] for node in plan["nodes"]] == ["table", "collect"]
    assert plan["nodes"][0]["args"] == {"table": put["put"][1]}
    get = next(call["get"] for call in calls if "get" in call)
    assert get == {"job": "j1", "output": "n2"}
    assert calls[-1]["action"] == "shutdown"


@pytest.mark.parametrize("defined", [False, True])
def test_a_worker_is_started_early_where_functions_are_defined(fake_engine, monkeypatch, defined):
    monkeypatch.setattr("alink._environment._default_wanted", False)
    fake_engine.plays(actions={"watch": SUCCEEDED})
    al.udf("double", env=al.Environment())(abs)  # one of another environment does not count
    if defined:
        al.udf("double")(abs)
    with al.connect() as ctx:
        one_column(ctx).to_arrow()
    warm = fake_engine.calls()[0]["options"]["warm"]
    assert (warm is not None) == defined
    if defined:
        assert warm["interpreter"] == str(Path(sys.executable).absolute())


def test_artifacts_are_sent_once(fake_engine):
    fake_engine.plays(actions={"watch": SUCCEEDED, "has-artifact": {"answer": {"ok": False}}})

    @al.udf("bigint")
    def same(x):
        return x

    with al.connect() as ctx:
        table = one_column(ctx).with_columns(y=same("a"))
        table.to_arrow()
        table.to_arrow()
    assert len(fake_engine.calls("put-artifact")) == 2, "the function and cloudpickle, once each"
    assert len([call for call in fake_engine.calls() if "put" in call]) == 1


def test_artifacts_of_the_engine_are_not_sent(fake_engine):
    fake_engine.plays(actions={"watch": SUCCEEDED, "has-artifact": {"answer": {"ok": True}}})

    @al.udf("bigint")
    def same(x):
        return x

    with al.connect() as ctx:
        one_column(ctx).with_columns(y=same("a")).to_arrow()
    assert fake_engine.calls("put-artifact") == []


def test_tables_are_dropped_when_collected(fake_engine, eventually):
    fake_engine.plays(actions={"watch": SUCCEEDED})
    with al.connect() as ctx:
        table = one_column(ctx)
        derived = table.filter("a > 1")
        derived.to_arrow()
        del table
        gc.collect()
        assert fake_engine.calls("drop-table") == []
        del derived
        gc.collect()
        assert eventually(lambda: len(fake_engine.calls("drop-table")) == 1)


def test_error_answer(fake_engine):
    error = {"code": "ALK1001", "message": 'there is no column "b"', "hint": "did you mean a?"}
    fake_engine.plays(actions={"submit": {"answer": {"error": error}}})
    with al.connect() as ctx, pytest.raises(al.PlanError) as caught:
        one_column(ctx).filter("b > 1").to_arrow()
    assert caught.value.code == "ALK1001"
    assert str(caught.value) == 'ALK1001: there is no column "b"\n  hint: did you mean a?'


def test_job_error_is_preferred_to_a_broken_stream(fake_engine):
    error = {
        "code": "ALK2001",
        "message": "f raised ValueError: no",
        "exception": {"module": "builtins", "type": "ValueError", "message": "no"},
    }
    end = {"end": {"state": "failed", "error": error, "metrics": {}}, "after_s": 0.3}
    fake_engine.plays(rows=1, rows_fault="raise", actions={"watch": {"events": [end]}})
    with al.connect() as ctx, pytest.raises(al.UdfError, match="f raised ValueError") as caught:
        one_column(ctx).to_arrow()
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "no"


def test_broken_stream_without_a_reason(fake_engine):
    fake_engine.plays(rows_fault="raise", actions={"watch": SUCCEEDED})
    with al.connect() as ctx, pytest.raises(al.Error, match=r"ALK5003.*read the rows") as caught:
        one_column(ctx).to_arrow()
    assert "the stream broke" in caught.value.diagnostic.cause


def test_diagnostic_in_a_broken_stream(fake_engine):
    fake_engine.plays(rows_fault="diagnostic", actions={"watch": SUCCEEDED})
    with al.connect() as ctx, pytest.raises(al.PlanError, match='ALK5006: no "memory"'):
        one_column(ctx).to_arrow()


@pytest.mark.parametrize(
    "scenario",
    [
        {"rows_fault": "die", "actions": {"watch": {"fault": "hang"}}},
        {"actions": {"submit": {"fault": "die"}}},
        {"rows_fault": "hang", "actions": {"watch": {"fault": "die"}}},
        {"actions": {"watch": SUCCEEDED, "has-artifact": {"fault": "die"}}},
    ],
    ids=["rows", "submit", "watch", "artifact"],
)
def test_engine_dies(fake_engine, scenario):
    fake_engine.plays(**scenario)

    @al.udf("bigint")
    def same(x):
        return x

    with al.connect() as ctx:
        table = one_column(ctx).with_columns(y=same("a"))
        start = time.monotonic()
        with pytest.raises(al.ConnectionLost) as caught:
            table.to_arrow()
        assert time.monotonic() - start < 2 + 2  # starting the stand-in takes up to 2 s
        text = str(caught.value)
        assert "ended by signal 9 (SIGKILL)" in text
        assert "the last words of the engine" in text
        with pytest.raises(al.ConnectionLost, match="ended while it was in use"):
            table.to_arrow()


def test_default_context_after_a_loss(fake_engine):
    fake_engine.plays(actions={"submit": {"fault": "die"}})
    with pytest.raises(al.ConnectionLost):
        al.from_arrow(pa.table({"a": [1]})).to_arrow()
    fake_engine.plays(actions={"watch": SUCCEEDED})
    assert al.from_arrow(pa.table({"a": [1]})).to_arrow().num_rows == 3


@pytest.mark.parametrize(
    ("start", "code", "words"),
    [
        ("exit", "ALK5005", ["exit status 3", "cannot start: no memory"]),
        ("error", "ALK5006", ["no memory", "buy some"]),
    ],
)
def test_engine_does_not_start(fake_engine, start, code, words):
    fake_engine.plays(start=start)
    with al.connect() as ctx, pytest.raises(al.Error) as caught:
        one_column(ctx).to_arrow()
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)
    run_dir = fake_engine.calls()[0]["options"]["run_dir"]
    assert not Path(run_dir).exists()


def test_silent_engine(fake_engine, monkeypatch, eventually, is_running):
    import alink._engine

    monkeypatch.setattr(alink._engine, "_START_TIMEOUT_S", 2.0)
    monkeypatch.setattr(alink._engine, "_DEATH_TIMEOUT_S", 0.1)
    fake_engine.plays(start="silent")
    with al.connect() as ctx, pytest.raises(al.Error, match="said nothing for 2 s"):
        one_column(ctx).to_arrow()


def test_wrong_token(fake_engine):
    fake_engine.plays(actions={"watch": SUCCEEDED})
    from pyarrow import flight

    with al.connect() as ctx:
        engine = ctx.engine()
        right = engine._call_options
        engine._call_options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer no")])
        with pytest.raises(al.Error, match="ALK5003") as caught:
            engine.status()
        assert "wrong token" in caught.value.diagnostic.cause
        engine._call_options = right


def test_missing_binary(monkeypatch, tmp_path):
    monkeypatch.setenv("ALINK_PYRUNNER", str(tmp_path / "nothing"))
    with al.connect() as ctx, pytest.raises(al.ConnectionLost, match=r"ALK5005.*nothing"):
        one_column(ctx).to_arrow()


def test_binary_not_found_lists_where(monkeypatch, tmp_path):
    import alink._find

    monkeypatch.delenv("ALINK_PYRUNNER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(alink._find, "_folders", lambda: iter([tmp_path / "here"]))
    with pytest.raises(al.ConnectionLost) as caught:
        al.find_pyrunner()
    assert caught.value.diagnostic.facts == (
        f"looked for {tmp_path / 'here' / 'pyrunner'}",
        "looked on PATH",
    )


def test_closed_context(fake_engine):
    ctx = al.connect()
    table = one_column(ctx)
    ctx.close()
    ctx.close()
    with pytest.raises(al.ConnectionLost, match="the connection is closed"):
        table.to_arrow()


def test_context_that_is_collected_ends_its_engine(fake_engine, eventually, is_running):
    fake_engine.plays(actions={"watch": SUCCEEDED})
    ctx = al.connect()
    table = one_column(ctx)
    table.to_arrow()
    pid = ctx.engine().pid
    del ctx
    gc.collect()
    assert is_running(pid), "the table still needs it"
    del table
    gc.collect()
    assert eventually(lambda: not is_running(pid))


def test_engine_that_hangs_is_killed(fake_engine, is_running, monkeypatch):
    import alink._engine

    monkeypatch.setattr(alink._engine, "_CLOSE_TIMEOUT_S", 0.5)
    ctx = al.connect()
    pid = ctx.engine().pid
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    ctx.close()
    assert time.monotonic() - start < 2
    assert not is_running(pid)


def test_iterating_part_of_the_rows_cancels(fake_engine, eventually):
    fake_engine.plays(rows=100, actions={"watch": {"fault": "hang"}})
    with al.connect() as ctx:
        batches = one_column(ctx).iter_batches()
        assert next(batches).num_rows == 1
        assert fake_engine.calls("cancel") == []
        batches.close()
        assert eventually(lambda: len(fake_engine.calls("cancel")) == 1)


def test_c_stream(fake_engine):
    fake_engine.plays(actions={"watch": SUCCEEDED})
    with al.connect() as ctx:
        assert pa.table(one_column(ctx)).to_pydict() == {"x": [0, 1, 2]}


def test_job_without_waiting(fake_engine, tmp_path):
    progress = {"operators": [{"id": "n1", "name": "table", "rows_out": 3, "new_field": 1}]}
    events = [{"progress": progress, "after_s": 0.2}, *SUCCEEDED["events"]]
    fake_engine.plays(actions={"watch": {"events": events}})
    with al.connect() as ctx:
        job = one_column(ctx).write_parquet(tmp_path / "out.parquet", wait=False)
        assert job.state == "running"
        job.result(timeout_s=5)
        assert job.state == "succeeded"
        assert job.metrics() == {"rows": 3}
        assert job.progress().operators[0].rows_out == 3
        job.result()
    node = fake_engine.calls("submit")[0]["body"]["plan"]["nodes"][-1]
    assert node["args"] == {"path": str(tmp_path / "out.parquet"), "mode": "error"}


def test_job_result_with_a_time_limit(fake_engine, tmp_path):
    fake_engine.plays(actions={"watch": {"fault": "hang"}})
    with al.connect() as ctx:
        job = one_column(ctx).write_parquet(tmp_path / "out.parquet", wait=False)
        with pytest.raises(TimeoutError):
            job.result(timeout_s=0.3)
        job.cancel()
        assert len(fake_engine.calls("cancel")) == 1


def test_cancelled_job(fake_engine):
    end = {"end": {"state": "cancelled", "error": None, "metrics": {}}}
    fake_engine.plays(actions={"watch": {"events": [end]}})
    with al.connect() as ctx, pytest.raises(al.Cancelled, match="ALK5002"):
        one_column(ctx).to_arrow()


def test_events_that_are_not_of_the_protocol(fake_engine):
    fake_engine.plays(actions={"watch": {"events": [{"log": 7}]}})
    with al.connect() as ctx, pytest.raises(al.Error, match="cannot read what the engine says"):
        one_column(ctx).to_arrow()


def test_watch_that_ends_too_soon(fake_engine):
    fake_engine.plays(actions={"watch": {"events": []}})
    with al.connect() as ctx, pytest.raises(al.Error, match="stopped telling of job j1"):
        one_column(ctx).to_arrow()


def test_prints_of_functions_go_to_standard_error(fake_engine, capfd):
    log = {"log": {"function": "made_up", "level": "print", "text": "hello"}}
    fake_engine.plays(actions={"watch": {"events": [log, *SUCCEEDED["events"]]}})
    with al.connect() as ctx:
        one_column(ctx).to_arrow()
    captured = capfd.readouterr()
    assert captured.err == "[made_up] hello\n"
    assert captured.out == ""


@pytest.mark.parametrize("hanging", ["submit", "watch"])
def test_interrupt(fake_engine, hanging, eventually):
    """Ctrl-C in the main thread cancels the job and raises KeyboardInterrupt soon."""
    fake_engine.plays(rows_fault="hang", actions={hanging: {"fault": "hang"}})
    with al.connect() as ctx:
        ctx.engine()
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            one_column(ctx).to_arrow()
        assert time.monotonic() - start < 4
        if hanging == "watch":
            assert eventually(lambda: len(fake_engine.calls("cancel")) >= 1)


def test_forked_child_leaves_the_engine_alone(fake_engine, script_environment, is_running):
    fake_engine.plays(actions={"watch": SUCCEEDED})
    script = """
        import os, sys
        import pyarrow as pa
        import alink as al
        ctx = al.connect()
        table = ctx.from_arrow(pa.table({"a": [1]}))
        table.to_arrow()
        child = os.fork()
        if child == 0:
            try:
                table.to_arrow()
            except al.ConnectionLost as error:
                print("child:", error.diagnostic.message, flush=True)
            try:
                al.from_arrow(pa.table({"a": [1]})).to_arrow()
            except al.ConnectionLost as error:
                print("default:", error.diagnostic.message, flush=True)
            ctx.close()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent:", table.to_arrow().num_rows)
    """
    environment = dict(script_environment, PYTHONWARNINGS="ignore::DeprecationWarning")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("child: the connection belongs to process")
    assert lines[1].startswith("default: this process was forked from process")
    assert lines[2:] == ["parent: 3"]


@pytest.mark.parametrize("ending", ["pass", "os._exit(0)", "os.kill(os.getpid(), 9)", "1 / 0"])
def test_engine_ends_with_its_client(
    fake_engine, script_environment, eventually, is_running, ending
):
    script = f"""
        import os
        import alink as al
        engine = al.connect().engine()
        ctx = al.connect()
        print(ctx.engine().pid, flush=True)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=script_environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    pid = int(done.stdout)
    assert eventually(lambda: not is_running(pid))


def test_tracebacks_show_the_users_lines(fake_engine, monkeypatch):
    error = {"code": "ALK1001", "message": "there is no column"}
    fake_engine.plays(actions={"submit": {"answer": {"error": error}}})
    with al.connect() as ctx:
        table = one_column(ctx)
        with pytest.raises(al.PlanError) as caught:
            table.show()
        files = [Path(entry.path).name for entry in caught.traceback]
        assert files == ["test_protocol.py", "_errors.py"]
        monkeypatch.setenv("ALINK_TRACEBACK", "full")
        with pytest.raises(al.PlanError) as caught:
            table.show()
        assert len(caught.traceback) > 4
