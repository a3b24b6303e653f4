"""Ordinary programs in functions, at every level of the sandbox that the machine reaches."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
UID = 65_534

# What functions give at each level.
EXPECTED = {
    "helper_of_the_script": "40",
    "module_beside_the_script": "8",
    "editable_install": "12",
    "class_with_setup": "104",
    "fit_model": "0.0",
    "subprocess_": "shell 5",
    "fork": "7",
    "process_with_a_pipe": "16",
    "pool_of_processes": "[8, 10]",
    "queue_and_lock": "4",
    "pool_of_threads": "[16, 25]",
    "temporary_files": "4a",
    "home": "kept True",
    "time_zones": "2024-07-01T00:00:00+02:00",
    "locales": "UTF-8 b'\\xc3\\xa4'",
    "certificates": "True",
    "network": "hello",
    "network_without_the_grant": "PermissionError",
    "built_environment": "1.16.0",
}
# Where levels differ. The locks of a pool are files in /dev/shm, which L1 shares with others.
OTHERWISE = {
    "off": {"network_without_the_grant": "hello"},
    "L1": {"pool_of_processes": "PermissionError", "queue_and_lock": "PermissionError"},
    "L2": {},
}


@pytest.fixture(scope="module")
def port():
    """A listener on this machine, which greets whoever calls."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(b"hello")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script in a folder with its module, and a package that is installed from its source."""
    folder = tmp_path_factory.mktemp("levels")
    (folder / "here").mkdir()
    shutil.copy(TESTS / "at_levels.py", folder / "here" / "script.py")
    (folder / "here" / "beside_levels.py").write_text("def doubled(x): return 2 * x\n")
    package = folder / "project" / "src" / "editable_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import triple\n")
    (package / "inner.py").write_text("def triple(x): return 3 * x\n")
    # What an editable install leaves: a file of paths. test_job.py has pip make real ones.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))
    (site / "__editable__.project.pth").write_text(str(package.parent))
    return folder / "venv" / "bin" / "python", folder / "here" / "script.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
@pytest.mark.parametrize("level", OTHERWISE)
def test_ordinary_programs(pyrunner, script, script_environment, port, level):
    environment = dict(script_environment, LANG="C.UTF-8")
    if level != "off":
        environment["ALINK_SANDBOX_LEVEL_MAX"] = level
    home = os.path.expanduser("~")  # noqa: PTH111
    sandbox = "off" if level == "off" else "auto"
    done = subprocess.run(
        [script[0], script[1], str(port), home, sandbox], cwd=script[1].parent, env=environment,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = dict(json.loads(line) for line in done.stdout.splitlines())
    reached, wanted = outcomes.pop("level"), "L0" if level == "off" else level
    if reached < wanted:
        pytest.skip(f"{level} is not reached here, only {reached}")
    assert reached == wanted
    expected = {**EXPECTED, **OTHERWISE[level]}
    if not ssl.create_default_context().get_ca_certs():  # there are none on this machine
        del outcomes["certificates"], expected["certificates"]
    assert outcomes == expected


CLOSED_HOME = r"""
import sys
import alink as al
import pyarrow as pa

one = al.connect().from_arrow(pa.table({"x": [1]}))
closed = sys.argv[1]

@al.udf("boolean")
def own(x):
    import sys
    return sys.executable.startswith(closed)

print(one.select(y=own("x")).collect())
for path in sys.argv[2:]:
    try:
        env = al.Environment(path=path)
        print(one.select(y=al.udf("bigint", env=env)(lambda x: x)("x")).collect())
    except al.Error as error:
        print(error, end="\n--\n")
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="takes two users")
@pytest.mark.parametrize("level", ["L1", "L2"])
def test_an_interpreter_in_a_closed_home(pyrunner, monkeypatch, level):
    """A user's own closed home is reached; another's is refused with a sentence."""
    monkeypatch.syspath_prepend(str(TESTS))
    from attack.copied import Copy

    base = Path(tempfile.mkdtemp(prefix="alink-levels-", dir="/tmp"))
    try:
        base.chmod(0o755)
        (base / "home").mkdir()
        copy = Copy(base / "home")
        copy.give_to(UID)
        copy.folder.chmod(0o700)
        others = base / "others" / "venv" / "bin"
        others.mkdir(parents=True)
        (others / "python").symlink_to(sys.executable)
        (base / "others").chmod(0o700)
        linked = base / "open" / "bin"  # an environment of the user's on another's interpreter
        linked.mkdir(parents=True)
        (linked / "python").symlink_to(others / "python")
        done = subprocess.run(
            [copy.python, "-c", CLOSED_HOME, copy.folder, others.parent, linked.parent],
            env=copy.environ() | {"ALINK_SANDBOX_LEVEL_MAX": level}, cwd=copy.folder,
            user=UID, group=UID, extra_groups=[],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(base)
    assert done.returncode == 0, done.stderr
    own, _, rest = done.stdout.partition("\n")
    assert own == "[{'y': True}]"
    refusals = rest.split("\n--\n")[:-1]
    assert len(refusals) == 2, rest
    for refused, path in zip(refusals, (others.parent, linked.parent), strict=True):
        assert refused.startswith(f'ALK3003: "{path}" cannot be used by this user'), refused
        assert "Permission denied" in refused
        assert len(refused.splitlines()) <= 15
