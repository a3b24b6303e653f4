"""Settings of files and variables, parameters, and scripts run by the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

import alink as al
from alink._engine import EngineOptions

PROGRAM = """
import sys
import pyarrow as pa
import alink as al
t = al.from_arrow(pa.table({"x": list(range(al.params.int("rows", 3)))}))
print("rows", t.filter("x >= 1").to_arrow().num_rows, sys.argv[1:])
"""


def run(pyrunner, folder, *args, environment, **options):
    return subprocess.run(
        [pyrunner, "run", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.fixture
def environment(script_environment, pyrunner):
    kept = {k: v for k, v in script_environment.items() if k != "ALINK_PROGRESS"}
    return dict(kept, ALINK_PYTHON=sys.executable)


def test_a_script_runs_with_parameters_and_arguments(pyrunner, tmp_path, environment):
    (tmp_path / "job.py").write_text(PROGRAM)
    done = run(pyrunner, tmp_path, "job.py", "a b", "--param", "rows=5", environment=environment)
    assert (done.returncode, done.stdout) == (0, "rows 4 ['a b']\n"), done.stderr


def test_a_summary_as_json(pyrunner, tmp_path, environment):
    (tmp_path / "job.py").write_text(PROGRAM + 't.filter("no > 1").to_arrow()\n')
    done = run(pyrunner, tmp_path, "job.py", "--json", environment=environment)
    summary = json.loads(done.stdout)
    assert done.returncode == summary["exit"] == 1
    assert summary["state"] == "failed"
    assert "rows 2" in done.stderr  # what the script prints
    assert "ALK1001" in done.stderr
    (job,) = summary["jobs"]
    assert (job["state"], job["rows"], job["error"]) == ("succeeded", 2, None)


def test_the_diagnostic_of_a_job_that_fails_is_in_the_summary(pyrunner, tmp_path, environment):
    (tmp_path / "job.py").write_text(PROGRAM + "t.with_columns(y=\"('x' || x)::int\").to_arrow()\n")
    done = run(pyrunner, tmp_path, "job.py", "--json", environment=environment)
    jobs = json.loads(done.stdout)["jobs"]
    assert [job["state"] for job in jobs] == ["succeeded", "failed"]
    assert jobs[1]["error"]["code"].startswith("ALK")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_the_exit_status_is_passed_on(pyrunner, tmp_path, environment, end, status):
    (tmp_path / "job.py").write_text(f"import sys\n{end}\n")
    assert run(pyrunner, tmp_path, "job.py", environment=environment).returncode == status


def test_signals_reach_the_script(pyrunner, tmp_path, environment):
    (tmp_path / "job.py").write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    command = [pyrunner, "run", "job.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.terminate()
        assert child.wait() == 3


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["nothing.py"], 1, "there is no job nothing.py"),
        (["job.txt"], 2, "job.txt is no job"),
        (["job.py", "--param", "x"], 2, 'must be name=value, not "x"'),
        (["job.py", "--python", "/not/there"], 1, "there is no Python at /not/there"),
        ([], 2, "usage: pyrunner run JOB"),
    ],
)
def test_what_cannot_be_run(pyrunner, tmp_path, environment, args, status, message):
    for name in ("job.py", "job.txt"):
        (tmp_path / name).write_text("")
    done = run(pyrunner, tmp_path, *args, environment=environment)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stdout == ""


def plan(tmp_path, source):
    nodes = [
        {"id": "t", "op": "read_parquet", "args": {"path": str(source)}},
        {"id": "out", "op": "collect", "inputs": ["t"]},
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"version": 1, "nodes": nodes}))


def test_a_plan_prints_its_rows_as_json_lines(pyrunner, tmp_path, environment):
    source = tmp_path / "x.parquet"
    with al.connect() as ctx:
        import pyarrow as pa

        table = pa.table({"x": [1, None], "s": ["ä\n", "b"]})
        ctx.from_arrow(table).write_parquet(str(source))
    plan(tmp_path, source)
    done = run(pyrunner, tmp_path, "plan.json", environment=environment)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [{"x": 1, "s": "ä\n"}, {"x": None, "s": "b"}]
    done = run(pyrunner, tmp_path, "plan.json", "--json", environment=environment)
    summary = json.loads(done.stdout)
    assert (summary["state"], summary["jobs"][0]["rows"]) == ("succeeded", 2)


def test_a_plan_that_fails(pyrunner, tmp_path, environment):
    plan(tmp_path, tmp_path / "missing.parquet")
    done = run(pyrunner, tmp_path, "plan.json", "--json", environment=environment)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["state"], summary["exit"]) == (1, "failed", 1)
    assert summary["jobs"][0]["error"]["code"] == "ALK4001"
    assert "missing.parquet" in done.stderr


def options_of(ctx):
    """The options of the engine that a context would start."""
    assert isinstance(ctx._options, EngineOptions)
    return ctx._options


def test_connect_reads_files_and_variables(pyrunner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ALINK_MEMORY", "ALINK_PARALLELISM", "ALINK_SPILL_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").write_text('[tool.alink]\nmemory = "1GiB"\nparallelism = 3\n')
    options = options_of(al.connect())
    assert (options.memory_limit_bytes, options.parallelism) == (2**30, 3)
    monkeypatch.setenv("ALINK_PARALLELISM", "2")
    options = options_of(al.connect(memory="2GiB"))
    assert (options.memory_limit_bytes, options.parallelism) == (2**31, 2)
    (tmp_path / "alink.toml").write_text('spill_dir = "spill"\n')
    options = options_of(al.connect())
    assert (options.memory_limit_bytes, options.spill_dir) == (0, str(tmp_path / "spill"))
    assert options.worker_memory_bytes == 0
    monkeypatch.setenv("ALINK_WORKER_MEMORY", "6GiB")
    assert options_of(al.connect()).worker_memory_bytes == 6 * 2**30
    monkeypatch.setenv("ALINK_WORKER_MEMORY", "much")
    with pytest.raises(al.PlanError, match="ALINK_WORKER_MEMORY must be a number of bytes"):
        al.connect()


SHOW_OPTIONS = """
import alink as al
options = al.connect()._options
print(options.offline, options.sandbox)
"""


@pytest.mark.parametrize(
    ("files", "variables", "flags", "shown"),
    [
        ({}, {}, [], "False auto"),
        ({"alink.toml": 'offline = true\nsandbox = "off"\n'}, {}, [], "True off"),
        (
            {"pyproject.toml": '[tool.alink]\noffline = "yes"\nsandbox = "off"\n'},
            {},
            [],
            "True off",
        ),
        ({}, {"ALINK_OFFLINE": "1", "ALINK_SANDBOX": "off"}, [], "True off"),
        ({}, {}, ["--offline", "--sandbox", "off"], "True off"),
        (
            {"alink.toml": 'offline = true\nsandbox = "off"\n'},
            {"ALINK_OFFLINE": "No", "ALINK_SANDBOX": "auto"},
            [],
            "False auto",
        ),
        ({}, {"ALINK_OFFLINE": "1"}, ["--offline=false"], "False auto"),
    ],
)
def test_offline_and_sandbox_of_every_origin(
    pyrunner, tmp_path, environment, files, variables, flags, shown
):
    (tmp_path / "job.py").write_text(SHOW_OPTIONS)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = run(pyrunner, tmp_path, "job.py", *flags, environment=environment | variables)
    assert (done.returncode, done.stdout.strip()) == (0, shown), done.stderr


def test_offline_reaches_the_engine(pyrunner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALINK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    (tmp_path / "alink.toml").write_text("offline = true\n")
    env = al.Environment(requirements=["six==1.17.0"])
    with al.connect() as ctx:
        import pyarrow as pa

        double = al.udf("bigint", env=env)(lambda x: 2 * x)
        table = ctx.from_arrow(pa.table({"x": [1]})).with_columns(y=double("x"))
        with pytest.raises(al.EnvironmentBuildError) as caught:
            table.to_arrow()
    assert "the engine is offline" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "given", "message"),
    [
        (None, 'sandbox = "stict"', None, "sandbox must be auto, strict or off"),
        (None, None, "stict", "sandbox"),
        ("ALINK_SANDBOX", "stict", None, 'ALINK_SANDBOX must be auto, strict or off, not "stict"'),
        ("ALINK_OFFLINE", "perhaps", None, 'ALINK_OFFLINE must be true or false, not "perhaps"'),
    ],
)
def test_what_cannot_be_had_is_refused_by_connect(
    pyrunner, tmp_path, monkeypatch, variable, text, given, message
):
    monkeypatch.chdir(tmp_path)
    if variable:
        monkeypatch.setenv(variable, text)
    elif text:
        (tmp_path / "alink.toml").write_text(text + "\n")
    with pytest.raises(al.PlanError) as caught:
        al.connect(sandbox=given)
    assert message in str(caught.value)
    if given is None:
        monkeypatch.setattr("alink._connection._default", None)
        with pytest.raises(al.PlanError):  # the default context's too
            al.read_parquet("x.parquet")


def test_what_is_passed_comes_before_what_is_set(pyrunner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALINK_SANDBOX", "strict")
    assert options_of(al.connect(sandbox="auto")).sandbox == "auto"


def test_faults_of_settings(pyrunner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alink.toml").write_text("# mine\nparalelism = 3\n")
    with pytest.raises(al.PlanError) as caught:
        al.connect()
    text = str(caught.value)
    assert text.startswith('ALK5030: alink.toml: there is no setting "paralelism"')
    assert "did you mean parallelism?" in text
    assert "alink.toml" in text
    assert "2" in text
    (tmp_path / "alink.toml").unlink()
    monkeypatch.setenv("ALINK_PARALLELISM", "many")
    with pytest.raises(al.PlanError, match="ALINK_PARALLELISM must be a whole number"):
        al.connect()
    monkeypatch.delenv("ALINK_PARALLELISM")
    with pytest.raises(al.PlanError, match="parallelism must be at most 256"):
        al.connect(parallelism=100_000)


def test_no_process_is_started_where_no_file_has_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALINK_PYRUNNER", "/not/there")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "alink"\n[tool.ruff]\nx = 1\n')
    assert options_of(al.connect(memory="1GiB")).memory_limit_bytes == 2**30


def test_params(monkeypatch):
    monkeypatch.setenv("ALINK_PARAMS", '{"day": "2013-01-01", "n": "4", "x": "0.5", "on": "Yes"}')
    p = al.params
    assert (p["day"], p.str("day"), p.int("n"), p.float("x"), p.bool("on")) == (
        "2013-01-01", "2013-01-01", 4, 0.5, True,
    )  # fmt: skip
    assert (p.int("m", 7), p.str("m", ""), p.bool("m", False)) == (7, "", False)
    assert sorted(p) == ["day", "n", "on", "x"]
    assert p.get("m") is None
    with pytest.raises(al.PlanError, match="the parameter n must be true or false, not '4'"):
        p.bool("n")
    with pytest.raises(al.PlanError, match="the parameter day must be a whole number"):
        p.int("day")
    with pytest.raises(al.PlanError, match='the parameter "dya" was not given') as caught:
        p.str("dya")
    assert "did you mean day?" in str(caught.value)
    monkeypatch.setenv("ALINK_PARAMS", "[]")
    with pytest.raises(al.PlanError, match="ALINK_PARAMS must be a JSON object"):
        len(p)
