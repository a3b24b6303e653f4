"""Dependency environments: what one may be made of, and what must not be seen of it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

import alink as al
from alink._plan import build_plan

from .package_index import PrivateIndex, make_wheel

PUBLIC = os.environ.get("UV_DEFAULT_INDEX", "https://pypi.org/simple")


# --- what is refused before anything is sent ---


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_wheel(tmp_path, "mine", "1.0")
    (tmp_path / "model.bin").write_bytes(b"weights")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.bin").write_bytes(b"others")
    (tmp_path / "lock.txt").write_text("a==1 --hash=sha256:" + "0" * 64 + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"requirments": []}, "ALK1006", "did you mean requirements?"),
        ({"requirements": "numpy"}, "ALK1006", "write ['numpy']"),
        ({"requirements": "missing.txt"}, "ALK3006", "missing.txt"),
        ({"requirements": ["a"], "lock": "lock.txt"}, "ALK1006", "exclude each other"),
        ({"lock": "missing.lock"}, "ALK3005", "missing.lock"),
        ({"lock": 7}, "ALK1006", "7 is not a path"),
        ({"wheels": "mine-1.0-py3-none-any.whl"}, "ALK1006", "wheels must be a list of paths"),
        ({"wheels": ["missing-1.0-py3-none-any.whl"]}, "ALK3006", "does not exist"),
        ({"wheels": ["model.bin"]}, "ALK3006", "is not a wheel"),
        ({"files": ["missing"]}, "ALK3006", "does not exist"),
        (
            {"files": ["model.bin", "other/model.bin"]},
            "ALK3006",
            'two files are called "model.bin"',
        ),
        ({"archives": ["other"]}, "ALK3006", "is a folder"),
        ({"archives": [7]}, "ALK1006", "archives: 7 is not a path"),
        ({"variables": {"A": 1}}, "ALK1006", "strings to strings"),
        ({"index": 7}, "ALK1006", "a URL or a list of URLs"),
        ({"index": "ftp://s3cr3t@host/"}, "ALK1006", 'has the scheme "ftp"'),
        ({"index": "s3cr3t"}, "ALK1006", "has no scheme"),
        ({"index": "https://:s3cr3t@host/"}, "ALK1006", "a password without a user name"),
        ({"index": "https://s3cr3t@host:x/"}, "ALK1006", "cannot be read"),
        ({"index": "https://host/${s3cr3t}"}, "ALK1006", "no plain host and path"),
        ({"path": "/opt/venv", "requirements": ["a"]}, "ALK1006", "path and requirements exclude"),
        ({"path": "/opt/venv", "lock": "lock.txt"}, "ALK1006", "path and lock exclude"),
        ({"path": 7}, "ALK1006", "path must be a path"),
        ({"source_builds": "yes"}, "ALK1006", "source_builds must be True or False"),
    ],
)
def test_options_that_are_refused(folder, options, code, words):
    with pytest.raises(al.Error, match=code) as caught:
        al.Environment(**options)
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 15


def test_a_file_of_requirements(folder):
    (folder / "more.txt").write_text("six==1.16.0  # pinned\n")
    (folder / "requirements.txt").write_text(
        "# all of them\n\nnumpy==2.2.* ; \\\n  python_version > '3'\n-r more.txt\n"
    )
    wanted = al.Environment(requirements=["numpy==2.2.* ;    python_version > '3'", "six==1.16.0"])
    assert al.Environment(requirements="requirements.txt") == wanted
    assert al.Environment(requirements=folder / "requirements.txt") == wanted
    for line, words in {
        "-r requirements.txt": "takes itself in",
        "-e .": "editable installs travel",
        "a==1 --hash=sha256:00": "is a lock file: lock=",
        "--index-url https://u:s3cr3t@host": 'name the index in the environment: index="https',
        "-c other.txt": "put the versions into the requirements",
    }.items():
        (folder / "requirements.txt").write_text("six\n" + line)
        with pytest.raises(al.PlanError, match="ALK1006") as caught:
            al.Environment(requirements="requirements.txt")
        assert words in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


def plan_of(environment, **options):
    """Give the plan's form of an environment, and the artifacts that go with it."""

    @al.udf("bigint", env=environment)
    def f(x):
        return x

    table = al.from_arrow(pa.table({"x": [1]})).select(y=f("x"))
    plan = build_plan(table._node, **options)
    return plan.json["environments"]["e1"], plan.artifacts


def test_the_form_in_a_plan(folder, monkeypatch):
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x", "x")
    environment = al.Environment(
        python="3.11",
        lock="lock.txt",
        wheels=["mine-1.0-py3-none-any.whl"],
        files={"conf": "other", "m": "model.bin"},
        archives=["a.zip"],
        variables={"A": "s3cr3t"},
        index=["https://me:${TOKEN}@host:8080/simple", "https://u:p%40ss@host/", "${WHOLE}"],
        source_builds=True,
    )
    assert "s3cr3t" not in repr(environment)
    assert "p@ss" not in repr(environment)
    assert "p%40ss" not in repr(environment)
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(al.PlanError, match="needs the variable TOKEN, which is not set"):
        plan_of(environment)
    monkeypatch.setenv("TOKEN", "a%b")
    monkeypatch.setenv("WHOLE", "https://v:p%41@w/simple")
    data, artifacts = plan_of(environment)
    assert data.pop("base_interpreter") == sys.executable
    files = {
        option: {f["name"]: artifacts[f["artifact"]].data for f in data.pop(option)}
        for option in ("wheels", "files", "archives")
    }
    assert files["wheels"].keys() == {"mine-1.0-py3-none-any.whl"}
    assert files["files"] == {"conf/model.bin": b"others", "m": b"weights"}
    assert files["archives"]["a.zip"][:2] == b"PK"
    assert data == {
        "python": "3.11",
        "lock": {"name": "lock.txt", "text": (folder / "lock.txt").read_text()},
        "variables": {"A": "s3cr3t"},
        "indexes": [
            {"url": "https://host:8080/simple", "username": "me", "password": "a%b"},
            {"url": "https://host/", "username": "u", "password": "p@ss"},
            {"url": "https://w/simple", "username": "v", "password": "pA"},
        ],
        "source_builds": True,
    }
    # A function that refers to its environment takes no password along.
    copy = pickle.loads(pickle.dumps(environment))
    assert b"p@ss" not in pickle.dumps(environment)
    assert repr(copy) == repr(environment)
    assert copy != environment


def test_a_file_that_changes_is_another_one(folder):
    environment = al.Environment(files=["model.bin"])
    before = plan_of(environment)[0]
    assert plan_of(environment)[0] == before
    (folder / "model.bin").write_bytes(b"better weights")
    after, artifacts = plan_of(environment)
    assert after != before
    (folder / "model.bin").write_bytes(b"while it is sent")
    with pytest.raises(al.EnvironmentBuildError, match="has changed while the job was being sent"):
        _ = artifacts[after["files"][0]["artifact"]].data
    (folder / "model.bin").unlink()
    with pytest.raises(al.EnvironmentBuildError, match=r'ALK3006: files: ".*model.bin" cannot be'):
        plan_of(environment)


def test_an_environment_that_is_there(folder):
    environment = al.Environment(path=sys.prefix, variables={"A": "b"})
    assert plan_of(environment)[0] == {"interpreter": sys.prefix, "variables": {"A": "b"}}
    assert environment.path == sys.prefix
    with pytest.raises(al.EnvironmentBuildError, match=r'ALK3003: ".*other" is not an environment'):
        plan_of(al.Environment(path="other"))
    with pytest.raises(al.EnvironmentBuildError, match="cannot be executed"):
        plan_of(al.Environment(path="model.bin"))
    with pytest.raises(al.EnvironmentBuildError, match="does not exist"):
        plan_of(al.Environment(path="missing"))
    silent = folder / "python"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    with pytest.raises(al.EnvironmentBuildError, match="does not answer as a Python does"):
        plan_of(al.Environment(path="python"))
    with pytest.raises(al.PlanError, match=r'say its version: .*python="3\.11"'):
        plan_of(environment, shares_machine=False)


# --- what runs ---


@pytest.mark.anywhere
def test_wheels_files_archives_and_variables(shared_ctx, folder):
    make_wheel(folder, "mine", "1.0+local", ["six"])
    (folder / "tree").mkdir()
    (folder / "tree" / "inside.txt").write_text("inside")
    with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
        archive.add("tree", "tree")
    env = al.Environment(
        requirements=["six==1.17.0"],
        wheels=["mine-1.0+local-py3-none-any.whl"],
        files={"m/model.bin": "model.bin", "tree": "tree"},
        archives=["data.tar.gz"],
        variables={"GREETING": "hello", "OMP_NUM_THREADS": "3"},
    )

    @al.udf("string", env=env)
    def look(name):
        import mine  # pyright: ignore[reportMissingImports]
        import six

        files = os.environ["ALINK_FILES"]
        if name == "versions":
            return f"{mine.version} {six.__version__}"
        if name == "variables":
            return f"{os.environ['GREETING']} {os.environ['OMP_NUM_THREADS']}"
        if name == "write":
            inside = (path for path in Path(files).rglob("*") if path.is_file())
            modes = [path.stat().st_mode & 0o222 for path in inside]
            return f"{len(modes)} {max(modes)}"
        return Path(files, name).read_text()

    expected = {
        "versions": "1.0+local 1.17.0",
        "variables": "hello 3",
        "write": "3 0",
        "m/model.bin": "weights",
        "tree/inside.txt": "inside",
        "data/tree/inside.txt": "inside",
    }
    names = shared_ctx.from_arrow(pa.table({"name": list(expected)}))
    assert names.select("name", v=look("name")).collect() == [
        {"name": name, "v": value} for name, value in expected.items()
    ]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda d: {"archives": [_escaping(d)]}, "ALK3006", '"../../x" lies outside'),
        (
            lambda d: {"wheels": [_no_zip(d)]},
            "ALK3006",
            "broken-1.0-py3-none-any.whl is not a wheel",
        ),
        (
            lambda d: {"wheels": [make_wheel(d, "far", "1.0", tag="cp37-cp37m-win_amd64")]},
            "ALK3001",
            "the wheel is for another Python or another kind of machine",
        ),
        (lambda d: {"lock": _locked(d)}, "ALK3005", "six has no --hash"),
        (lambda d: {"variables": {"LD_PRELOAD": "x"}}, "ALK1006", "LD_PRELOAD"),
        (lambda d: {"requirements": ["no-such-package-of-alink"]}, "ALK3001", "was not found"),
    ],
)
def test_environments_that_cannot_be_built(shared_ctx, tmp_path, make, code, words):
    @al.udf("bigint", env=al.Environment(**make(tmp_path)))
    def f(x):
        return x

    table = shared_ctx.from_arrow(pa.table({"x": [1]})).select(y=f("x"))
    with pytest.raises(al.Error, match=code) as caught:
        table.collect()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 15


def _escaping(folder):
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../x", "x")
    return path


def _no_zip(folder):
    path = folder / "broken-1.0-py3-none-any.whl"
    path.write_text("text")
    return path


def _locked(folder):
    path = folder / "requirements.lock"
    path.write_text("six==1.17.0\n")
    return path


def test_source_builds_are_the_servers_to_allow(server):
    @al.udf("bigint", env=al.Environment(requirements=["six"], source_builds=True))
    def f(x):
        return x

    with server.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]})).select(y=f("x"))
        with pytest.raises(al.Error, match=r"ALK5041.*built from source") as caught:
            table.collect()
    assert "source_builds = true" in str(caught.value)


@al.udf("string")
def numpy_and_python(x):
    import sys

    import numpy as np

    return f"{np.__version__} {sys.version_info[0]}.{sys.version_info[1]} {x}"


def test_conflicting_versions_in_one_job(shared_ctx):
    """Three functions that can share neither packages nor a Python, on the same rows."""
    minor = 12 if sys.version_info.minor != 12 else 11
    environments = {
        "old": al.Environment(requirements=["numpy==1.26.4", "pyarrow==19.0.1"]),
        "new": al.Environment(requirements=["numpy==2.2.6"]),
        "other": al.Environment(python=f"3.{minor}", requirements=["numpy==2.2.6"]),
    }
    functions = {
        name: al.udf("string", env=env)(numpy_and_python.__wrapped__)
        for name, env in environments.items()
    }
    rows = shared_ctx.from_arrow(pa.table({"x": range(1000)}))
    table = rows.with_columns({name: f("x") for name, f in functions.items()})
    here, there = (f"3.{m}" for m in (sys.version_info.minor, minor))
    expected = [
        {
            "x": x,
            "old": f"1.26.4 {here} {x}",
            "new": f"2.2.6 {here} {x}",
            "other": f"2.2.6 {there} {x}",
        }
        for x in range(1000)
    ]
    try:
        assert table.collect() == expected
    except al.EnvironmentBuildError as error:
        if error.code == "ALK3003":
            pytest.skip(f"there is no Python 3.{minor} on this machine")
        raise


def test_a_prebuilt_environment_runs(shared_ctx, tmp_path):
    minor = 12 if sys.version_info.minor != 12 else 11
    built = subprocess.run(
        [al.find_pyrunner(), "env", "build", "--version", f"3.{minor}", "--json", "six==1.17.0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ALK3003" in built.stderr:
        pytest.skip(f"there is no Python 3.{minor} on this machine")
    path = Path(json.loads(built.stdout)["path"]) / "venv"

    labels = {1: "one"}

    @al.udf("string", env=al.Environment(path=path, variables={"A": "b"}))
    class Look:
        def setup(self):
            import six

            self.version = six.__version__

        def __call__(self, x):
            return f"{self.version} {sys.version_info[1]} {os.environ['A']} {labels[x]}"

    # Its Python is another than the client's: the class travels as source.
    rows = shared_ctx.from_arrow(pa.table({"x": [1]}))
    assert rows.select(y=Look("x")).collect() == [{"y": f"1.17.0 {minor} b one"}]


# --- credentials ---


@contextlib.contextmanager
def processes_watched(secret):
    """Look at the command lines and variables of all other processes, again and again."""
    found: set[str] = set()
    seen: set[str] = set()
    done = threading.Event()

    def look():
        while not done.wait(0.01):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    told = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                    seen.add(told[0].split(b"\0")[0].rpartition(b"/")[2].decode())
                    if any(secret in part for part in told):
                        found.add(told[0].replace(b"\0", b" ").decode())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found, seen
    finally:
        done.set()
        thread.join()


def files_with(secret, folders, since):
    """Find files that were written since a moment and hold a secret."""
    looked_at = 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                path = Path(base, name)
                with contextlib.suppress(OSError):
                    if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since:
                        looked_at += 1
                        if secret in path.read_bytes():
                            yield str(path)
    assert looked_at > 100  # it looked where something was written


def test_credentials_reach_the_builder_alone(
    start_server, tmp_path, certificate, token_file, monkeypatch
):
    """Neither files, nor processes, nor anything that is told holds the password of an index."""
    began = time.time() - 1
    secret = f"s3cr3t-{secrets.token_hex(8)}@"
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "mine", "1.0")
    cache = tmp_path / "cache"
    server = start_server(
        tmp_path, "--http", "127.0.0.1:0", "--cache-dir", str(cache),
        tls=certificate, token_file=token_file,
    )  # fmt: skip

    def nosy(what):
        import mine  # pyright: ignore[reportMissingImports]

        if what == "variables":
            return Path("/proc/self/environ").read_bytes().decode() + repr(dict(os.environ))
        return Path("/proc/self/cmdline").read_bytes().decode() + mine.version

    with PrivateIndex(tmp_path / "wheels", "reader", secret) as index, server.connect() as ctx:
        monkeypatch.setenv("PRIVATE_TOKEN", secret)  # after the server: it has its own variables
        url = index.url.replace("://", "://reader:${PRIVATE_TOKEN}@")
        env = al.Environment(requirements=["mine"], index=[url, PUBLIC])
        look = al.udf("string", env=env)(nosy)
        table = ctx.from_arrow(pa.table({"what": ["variables", "command line"]}))
        with processes_watched(secret.encode()) as (found, seen):
            told = table.select(v=look("what")).collect()
        assert index.served > 0
        assert "uv" in seen
        assert not found
        assert told[1]["v"].endswith("1.0")

        wrong = url.replace("${PRIVATE_TOKEN}", f"wrong-{secret[:-1]}")
        env = al.Environment(requirements=["mine==1.0"], index=[wrong, PUBLIC])
        refused = table.select(v=al.udf("string", env=env)(nosy)("what"))
        with pytest.raises(al.EnvironmentBuildError, match="does not let us in") as caught:
            refused.collect()
        asked = [("ls", "--json"), ("show", "j1"), ("show", "j2"), ("logs", "j1"), ("logs", "j2")]
        jobs = [server.jobs(*args).stdout for args in asked]
        assert "ALK3001" in jobs[2]
        shown = [*jobs, repr(told), str(caught.value), repr(caught.value.diagnostic), repr(env)]
        shown += [table.select(v=look("what")).explain(), server.log.read_text()]
    assert secret[:-1] not in "".join(shown)
    folders = [cache, tmp_path, os.environ.get("UV_CACHE_DIR", Path.home() / ".cache" / "uv")]
    assert not list(files_with(secret[:-1].encode(), folders, began))
    shutil.rmtree(cache)


# --- the command line and the cache ---


def test_the_command_line(pyrunner, folder, monkeypatch):
    """Build, list, show, collect and remove, in a cache of the test's own."""
    monkeypatch.setenv("ALINK_CACHE_DIR", str(folder / "cache"))

    def env(*args, code=0):
        done = subprocess.run([pyrunner, "env", *args], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    (folder / "more.txt").write_text("six==1.17.0\n")
    (folder / "wanted.txt").write_text("-r more.txt\n")
    build = (
        "build", "-r", "wanted.txt", "--wheel", "mine-1.0-py3-none-any.whl", "--file", "m=other",
        "--file", "model.bin", "--index", PUBLIC,
    )  # fmt: skip
    first = env(*build)
    assert "resolving six==1.17.0, mine-1.0-py3-none-any.whl…" in first.stderr
    assert "placing m/model.bin, model.bin…" in first.stderr
    packages, files = (line.split()[0] for line in first.stdout.splitlines())
    again = env(*build)
    assert again.stdout == first.stdout
    assert not again.stderr  # nothing is resolved, built or waited for
    told = json.loads(env(*build, "--json").stdout)
    assert (told["id"], [e["id"] for e in told["with"]]) == (packages, [files])
    assert told["indexes"] == [PUBLIC]

    listed = {e["id"]: e for e in json.loads(env("ls", "--json").stdout)}
    assert listed.keys() == {packages, files}
    assert listed[packages]["kind"] == "packages"
    assert "mine-1.0-py3-none-any.whl" in listed[packages]["requirements"]
    assert (listed[files]["kind"], listed[files]["files"]) == (
        "files",
        ["m/model.bin", "model.bin"],
    )
    assert "m/model.bin model.bin" in env("ls").stdout
    shown = env("show", packages[:8]).stdout
    assert "six==1.17.0" in shown
    assert PUBLIC in shown
    assert "model.bin" in env("show", files[:8]).stdout
    assert 'there is no environment "none"' in env("show", "none", code=1).stderr

    dry = json.loads(env("gc", "--cache-limit", "1", "--dry-run", "--json").stdout)
    assert {e["id"] for e in dry["removed"]} == {packages, files}
    assert json.loads(env("rm", files, "--json").stdout) == {"removed": [files]}
    gone = json.loads(env("gc", "--cache-limit", "1", "--json").stdout)
    assert ([e["id"] for e in gone["removed"]], gone["kept"]) == ([packages], [])
    assert json.loads(env("ls", "--json").stdout) == []


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--lock", "missing.lock"), "ALK4001", "missing.lock"),
        (("--lock", "uv.lock"), "ALK3005", "only together with its project"),
        (("--wheel", "missing.whl"), "ALK3006", "missing.whl cannot be read"),
        (("--file", "a=missing"), "ALK3006", "missing cannot be read"),
        (("--archive", "model.bin"), "ALK3006", "model.bin is not an archive"),
        (("--index", "https://u:s3cr3t@host"), "ALK1006", "has a password that is written out"),
        (("--index", "https://u:${NOT_SET}@host"), "ALK1006", "needs the variable NOT_SET"),
        (("-r", "itself.txt"), "ALK1006", "takes itself in with -r"),
        (("-r", "hashed.txt"), "ALK1006", "a list with hashes is a lock file"),
    ],
)
def test_builds_that_are_refused(pyrunner, folder, args, code, words):
    (folder / "uv.lock").write_text("version = 1\n")
    (folder / "itself.txt").write_text("-r itself.txt\n")
    (folder / "hashed.txt").write_text("six==1.17.0 --hash=sha256:s3cr3t\n")
    done = subprocess.run(
        [pyrunner, "env", "build", *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert code in done.stderr
    assert words in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_wheel_that_runs_code_at_start_runs_it_shut_in(shared_ctx, tmp_path):
    """A .pth file runs whenever Python starts, the first time while the environment is built."""
    canary = tmp_path / "canary"
    code = f"""
        import contextlib
        with contextlib.suppress(OSError):
            open({str(canary)!r}, "w").close()
        """
    files = {
        "sly.py": textwrap.dedent(code),
        "sly.pth": "import sly\n",
        "sly-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sly\nVersion: 1.0\n",
        "sly-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["sly-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    wheel = tmp_path / "sly-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)

    @al.udf("boolean", env=al.Environment(wheels=[wheel]))
    def it_has_run(x):
        return "sly" in sys.modules

    table = shared_ctx.from_arrow(pa.table({"x": [1]}))
    assert table.select(y=it_has_run("x")).collect() == [{"y": True}]
    assert not canary.exists(), "the wheel's code ran outside of the sandbox"
