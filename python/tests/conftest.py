from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import alink as al
from alink import _connection

REPOSITORY = Path(__file__).resolve().parents[2]
TOLD = "told"
PACKAGE_PARENT = str(Path(al.__file__).resolve().parents[1])

# A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pyrunner():
    """The engine's binary. Tests that need it are skipped in a tree where it is not built."""
    if os.environ.get("ALINK_PYRUNNER"):
        return al.find_pyrunner()  # an error, not a skip, if it is not there
    try:
        return al.find_pyrunner()
    except al.ConnectionLost as error:
        pytest.skip(f"the engine is not built: {error.diagnostic.message}")


def pytest_generate_tests(metafunc):
    """Tests that are marked `anywhere` run with an embedded engine and with a server's."""
    if metafunc.definition.get_closest_marker("anywhere"):
        metafunc.parametrize("shared_ctx", ["embedded", "server"], indirect=True, scope="module")


@pytest.fixture
def tell(request):
    """Say something behind all tests, wherever this one runs."""

    def add(text):
        request.node.user_properties.append((TOLD, text))

    return add


def pytest_terminal_summary(terminalreporter):
    """Print what tests have to say."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for kind, text in report.user_properties:
                    if kind == TOLD:
                        terminalreporter.write_line(text)


@pytest.fixture(scope="module")
def shared_ctx(pyrunner, request):
    """One engine for the tests of a module that do not look at processes."""
    if getattr(request, "param", "embedded") == "server":
        with request.getfixturevalue("server").connect() as ctx:
            yield ctx
        return
    with al.connect() as ctx:
        yield ctx


class Server:
    """A process ``pyrunner serve``, by default on a TCP address with TLS and a token."""

    def __init__(self, pyrunner, folder, *args, tls=None, token_file=None, env=None):
        command = [pyrunner, "serve", "--json", *args]
        if "--listen" not in args:
            command += ["--listen", "127.0.0.1:0"]
        if tls is not None:
            command += ["--tls-cert", str(tls[0]), "--tls-key", str(tls[1])]
        if token_file is not None:
            command += ["--token-file", str(token_file)]
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True
            )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout
        line = self._stdout.readline()
        if not line:
            self.process.wait(10)
            raise RuntimeError(f"the server did not start: {self.log.read_text()}")
        told = json.loads(line)
        self.pid, self.address, self.http = told["pid"], told["address"], told.get("http")
        self.token_file = told.get("token_file")
        self.token = Path(self.token_file).read_text().strip() if self.token_file else None
        self.tls_ca = None if tls is None else str(tls[0])

    def connect(self):
        return al.connect(self.address, token=self.token, tls_ca=self.tls_ca)

    def jobs(self, *args):
        """Run ``pyrunner jobs`` against the server."""
        command = [al.find_pyrunner(), "jobs", *args, "--server", self.address]
        if self.token_file:
            command += ["--token-file", self.token_file]
        if self.tls_ca:
            command += ["--tls-ca", self.tls_ca]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def end(self, *signals):
        """Send signals, one after the other, and give the exit status."""
        for i, number in enumerate(signals):
            if i:
                time.sleep(0.3)
            self.process.send_signal(number)
        try:
            return self.process.wait(60 if signals else 0.1)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.process.kill()
            self.process.wait()
            self._stdout.close()


@pytest.fixture
def start_server(pyrunner):
    """Start a server of the test's own, which the test ends; one that it has not is killed."""
    started = []

    def start(folder, *args, **options):
        started.append(Server(pyrunner, folder, *args, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for this machine, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl, which makes the certificate of the test's server")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key, "-out", cert,
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture(scope="session")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("t0ken-of-the-tests\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def server(pyrunner, tmp_path_factory, certificate, token_file):
    """A server that the tests of a session share; plans may use the tests' folders."""
    base = tmp_path_factory.getbasetemp()
    one = Server(
        pyrunner, tmp_path_factory.mktemp("server"), "--http", "127.0.0.1:0",
        "--files", str(base), "--files", str(REPOSITORY / "examples" / "data"),
        tls=certificate, token_file=token_file,
    )  # fmt: skip
    yield one
    assert one.end(signal.SIGTERM) == 0, one.log.read_text()


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
