"""What functions may do in their workers: the options, and how they reach the plan."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import alink as al
from alink._plan import build_plan

DECORATORS = {
    "udf": lambda **options: al.udf("double", **options)(lambda x: x),
    "udtf": lambda **options: al.udtf("y double", **options)(lambda x: [x]),
    "map_batches": lambda **options: al.map_batches("y double", **options)(lambda batch: batch),
    "map_groups": lambda **options: al.map_groups("y double", **options)(lambda group: group),
}


@pytest.mark.parametrize("decorator", DECORATORS)
def test_options_reach_the_plan(decorator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    f = DECORATORS[decorator](
        sandbox="strict",
        network=True,
        mounts={"data": "ro", Path("/srv/x/../y"): "rw", "~/z": "ro"},
        secrets=["TOKEN", "TOKEN"],
        isolation="own",
    )
    home = os.path.expanduser("~")  # noqa: PTH111
    mounts = {str(tmp_path / "data"): False, "/srv/y": True, f"{home}/z": False}
    assert f.options.to_json() == {
        "sandbox": "strict",
        "network": True,
        "mounts": [
            {"path": path, "write": True} if mounts[path] else {"path": path}
            for path in sorted(mounts)
        ],
        "secrets": ["TOKEN"],
        "isolation": "own",
    }
    plain = DECORATORS[decorator](network=False, mounts={}, secrets=[], isolation="shared")
    assert plain.options.to_json() == {}


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"sandbox": "stict"}, "sandbox must be one of 'auto', 'strict', 'off'", "strict"),
        ({"sandbox": True}, "sandbox must be one of", ""),
        ({"network": "localhost"}, "network must be True or False", "all of the machine's network"),
        ({"mounts": ["/data"]}, "mounts must be a dict", '{"/data": "ro"}'),
        ({"mounts": {"/data": "read"}}, "mounts['/data'] must be one of 'ro', 'rw'", ""),
        ({"mounts": {"": "ro"}}, "a mount is a path", ""),
        ({"mounts": {1: "ro"}}, "a mount is a path, not 1", ""),
        ({"mounts": {"/": "ro"}}, "the root of the file system cannot be mounted", "name the"),
        ({"mounts": {"/a": "ro", "/a/": "rw"}}, 'mounted both "ro" and "rw"', ""),
        ({"mounts": {f"/{i}": "ro" for i in range(65)}}, "at most 64 mounts", "a folder that"),
        ({"secrets": "TOKEN"}, "secrets must be a list of names", 'secrets=["DB_PASSWORD"]'),
        ({"isolation": "alone"}, "isolation must be one of 'shared', 'own'", ""),
        ({"netwrok": True}, "has no option", "network"),
    ],
)
@pytest.mark.parametrize("decorator", DECORATORS)
def test_bad_options(decorator, options, message, hint):
    with pytest.raises(al.PlanError) as caught:
        DECORATORS[decorator](**options)
    assert message in caught.value.diagnostic.message
    assert caught.value.diagnostic.message.startswith(decorator)
    assert hint in caught.value.diagnostic.hint


@pytest.mark.parametrize("secrets", [{"TOKEN": "hunter2"}, ["hunter 2"], [object()]])
def test_a_secret_that_stands_in_the_program_is_not_shown(secrets):
    with pytest.raises(al.PlanError) as caught:
        al.udf("double", secrets=secrets)
    assert "hunter" not in str(caught.value)


@al.udf("string", secrets=["ALINK_TEST_SECRET"])
def secret_of(x):
    return os.environ["ALINK_TEST_SECRET"] + str(x)


@al.udf("string")
def without_secret(x):
    return str(os.environ.get("ALINK_TEST_SECRET"))


@pytest.mark.anywhere
def test_secrets(shared_ctx, monkeypatch, tmp_path):
    table = shared_ctx.from_arrow(pa.table({"x": [1]}))
    called = table.with_columns(y=secret_of("x"), z=without_secret("x"))
    with pytest.raises(al.PlanError, match="needs the secret ALINK_TEST_SECRET") as caught:
        called.to_arrow()
    assert caught.value.diagnostic.function == "secret_of"
    for value in ("hunter2", "kötter\n3"):  # a second value is not served by an old worker
        monkeypatch.setenv("ALINK_TEST_SECRET", value)
        assert called.to_arrow().to_pylist() == [{"x": 1, "y": f"{value}1", "z": "None"}]
    # What it is called with is told, what it knows is not.
    assert "hunter2" not in called.explain()


def test_a_secret_is_in_no_list_of_processes(shared_ctx, monkeypatch):
    monkeypatch.setenv("ALINK_TEST_SECRET", "hunter2-in-proc")

    @al.udf("boolean", secrets=["ALINK_TEST_SECRET"], sandbox="off")
    def seen(x):
        own = Path("/proc/self/environ").read_bytes() + Path("/proc/self/cmdline").read_bytes()
        return b"hunter2-in-proc" in own

    table = shared_ctx.from_arrow(pa.table({"x": [1]}))
    assert table.select(y=seen("x")).to_arrow().to_pylist() == [{"y": False}]


def test_isolation(shared_ctx):
    def function(isolation: Any):
        @al.udf("string", isolation=isolation)
        def process(x):
            # Numbers of processes say nothing where each has a namespace of its own.
            return sys.__dict__.setdefault("test_process", os.urandom(8).hex())

        return process

    table = shared_ctx.from_arrow(pa.table({"x": [1]}))

    def processes(*kinds):
        columns = {f"c{i}": function(kind)("x") for i, kind in enumerate(kinds)}
        return list(table.select(columns).to_arrow().to_pylist()[0].values())

    assert len(set(processes("shared", "shared"))) == 1
    assert len(set(processes("shared", "own"))) == 2
    # Workers of a function's own are found again by its next job.
    own = table.select(y=function("own")("x"))
    assert own.to_arrow().equals(own.to_arrow())


def test_a_context_for_a_server_says_it_for_functions_that_do_not(shared_ctx):
    f, g = al.udf("double")(abs), al.udf("double", sandbox="off")(abs)
    table = shared_ctx.from_arrow(pa.table({"x": [1.0]})).select(a=f("x"), b=g("x"))
    functions = build_plan(table._node, sandbox="strict").json["functions"].values()
    assert [f["options"]["sandbox"] for f in functions] == ["strict", "off"]
    functions = build_plan(table._node).json["functions"].values()
    assert [f["options"].get("sandbox") for f in functions] == [None, "off"]


def test_a_strict_engine_runs_nothing_with_less(pyrunner):
    with al.connect(sandbox="strict") as ctx:
        table = ctx.from_arrow(pa.table({"x": [1.0]}))
        loose = al.udf("double", sandbox="off")(abs)
        with pytest.raises(al.PlanError, match=r"asks for sandbox=.off., but the engine was") as e:
            table.select(y=loose("x")).to_arrow()
        assert e.value.diagnostic.code == "ALK5041"
