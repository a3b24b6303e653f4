from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

import alink as al
from alink import _connection

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE_PARENT = str(Path(al.__file__).resolve().parents[1])


@pytest.fixture(scope="session")
def pyrunner():
    """The engine's binary. Tests that need it are skipped in a tree where it is not built."""
    if os.environ.get("ALINK_PYRUNNER"):
        return al.find_pyrunner()  # an error, not a skip, if it is not there
    try:
        return al.find_pyrunner()
    except al.ConnectionLost as error:
        pytest.skip(f"the engine is not built: {error.diagnostic.message}")


@pytest.fixture(scope="module")
def shared_ctx(pyrunner):
    """One engine for the tests of a module that do not look at processes."""
    with al.connect() as ctx:
        yield ctx


@pytest.fixture
def ctx(pyrunner):
    """An engine of the test's own."""
    with al.connect() as ctx:
        yield ctx


@pytest.fixture
def script_environment():
    """Variables for a subprocess that imports this alink."""
    environment = dict(os.environ, PYTHONPATH=PACKAGE_PARENT, ALINK_PROGRESS="off")
    return environment


class FakeEngine:
    """Starts fake engines and tells which calls they got."""

    def __init__(self, folder: Path) -> None:
        self._scenario = folder / "scenario.json"
        self._calls = folder / "calls.jsonl"

    def plays(self, **scenario):
        self._scenario.write_text(json.dumps(scenario))

    def calls(self, action=None):
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        calls = [json.loads(line) for line in lines]
        return calls if action is None else [c for c in calls if c.get("action") == action]


@pytest.fixture
def fake_engine(tmp_path, monkeypatch):
    """A stand-in for the engine; see fake_engine.py."""
    script = tmp_path / "pyrunner"
    target = Path(__file__).with_name("fake_engine.py")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{target}" "$@"\n')
    script.chmod(0o755)
    fake = FakeEngine(tmp_path)
    fake.plays()
    monkeypatch.setenv("ALINK_PYRUNNER", str(script))
    monkeypatch.setenv("ALINK_FAKE", str(tmp_path / "scenario.json"))
    # A default context of the fake's is no other test's.
    monkeypatch.setattr("alink._connection._default", None)
    yield fake
    fakes = _connection._default
    if fakes is not None:
        fakes.close()


def eventually(condition, timeout_s=5.0):
    """Wait until a condition holds; False if it takes too long."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def is_running(pid):
    """Tell whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually


@pytest.fixture(name="is_running")
def is_running_fixture():
    return is_running
