"""The engine of a server: sessions, what is refused, and ends of either side.

That functions, tables and results are the same as with an embedded engine is shown by the
tests that are marked `anywhere`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alink as al


def endless(ctx, rate=1000):
    """A stream of rows that never ends."""
    return ctx.read_generator(
        {"i": al.generate.sequence(), "ts": al.generate.event_time()}, rows_per_second=rate
    )


def stored(ctx, folder, rate=1000):
    """Start a job without an end that writes files."""
    return endless(ctx, rate).write_parquet(
        f"{folder}/out/", name="to-files", checkpoint=f"{folder}/state/", wait=False
    )


def states(server):
    return {job["id"]: job["state"] for job in json.loads(server.jobs("ls", "--json").stdout)}


def rows_of_the_only_job(server):
    (job,) = json.loads(server.jobs("ls", "--json").stdout)
    return job["rows"]


def message(error):
    """The text of an error without what differs from run to run."""
    return str(error.value)


# --- connecting ---


def test_a_context_of_a_server(server):
    with server.connect() as ctx:
        assert repr(ctx) == f"<alink.Context server={server.address}>"
        assert ctx.status()["engine_pid"] == server.pid
        assert ctx.from_arrow(pa.table({"a": [1, 2]})).filter("a > 1").collect() == [{"a": 2}]
    with pytest.raises(al.ConnectionLost, match="the connection is closed"):
        ctx.status()


def test_settings_name_the_server(server, monkeypatch):
    monkeypatch.setenv("ALINK_SERVER", server.address)
    monkeypatch.setenv("ALINK_TLS_CA", server.tls_ca)
    monkeypatch.setenv("ALINK_TOKEN", server.token)
    monkeypatch.setattr("alink._connection._default", None)
    monkeypatch.setenv("ALINK_MEMORY", "1GiB")  # for embedded engines, so of no concern here
    with al.connect() as ctx:
        assert ctx.status()["engine_pid"] == server.pid
    monkeypatch.delenv("ALINK_TOKEN")
    monkeypatch.setenv("ALINK_TOKEN_FILE", str(server.token_file))
    table = al.from_arrow(pa.table({"a": [1]}))  # the default context
    assert table.count() == 1
    assert table._context.status()["engine_pid"] == server.pid
    table._context.close()
    # What is passed wins: an engine of the process's own.
    with al.connect(memory="1GiB") as ctx:
        assert ctx.status()["engine_pid"] != server.pid


def test_a_file_of_settings_names_the_server(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALINK_TOKEN", raising=False)
    for name, path in [("ca.pem", server.tls_ca), ("token", server.token_file)]:
        (tmp_path / name).write_bytes(Path(path).read_bytes())
        (tmp_path / name).chmod(0o600)
    (tmp_path / "alink.toml").write_text(
        f'server = "{server.address}"\ntls_ca = "ca.pem"\ntoken_file = "token"\n'
    )
    with al.connect() as ctx:
        assert ctx.status()["engine_pid"] == server.pid
    listed = subprocess.run(
        [al.find_pyrunner(), "jobs", "ls"], capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    (tmp_path / "script.py").write_text("import alink as al\nprint(al.connect())\n")
    ran = subprocess.run(
        [al.find_pyrunner(), "run", "script.py", "--python", sys.executable],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout == f"<alink.Context server={server.address}>\n", ran.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"memory": "1GiB"}, 'connect: memory= is for an engine of this process, not for a server|'
         'the server is started with it: pyrunner serve --memory'),
        ({"spill_dir": "/tmp"}, 'connect: spill_dir= is for an engine of this process, not for a '
         'server|the server is started with it: pyrunner serve --spill-dir'),
        ({"server": "grpc+tls://host"}, "connect: 'grpc+tls://host' is not the address of a server|"
         "write it as pyrunner serve printed it: grpc+tls://host:port, grpc://127.0.0.1:port or "
         "grpc+unix:///path"),
        ({"server": "grpc+unix://here"}, "connect: 'grpc+unix://here' is not the address of a "
         "server|write it as pyrunner serve printed it: grpc+tls://host:port, "
         "grpc://127.0.0.1:port or grpc+unix:///path"),
        ({"server": "grpc://a.org:1", "token": "t"}, 'connect: "grpc://a.org:1" would send '
         "the token in the clear|use grpc+tls://, or a tunnel that ends at 127.0.0.1"),
        ({"server": None, "token": "t"}, "connect: token= is for a server, and none is named|"
         'connect("grpc+tls://host:port", token=...)'),
        ({"adress": "x"}, 'connect has no option "adress"|options are: server, token, tls_ca, '
         "memory, parallelism, spill_dir, sandbox"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options, expected):
    with pytest.raises(al.PlanError) as caught:
        al.connect(**{"server": "grpc://127.0.0.1:1", **options})
    diagnostic = caught.value.diagnostic
    assert f"{diagnostic.message}|{diagnostic.hint}" == expected
    assert diagnostic.code == "ALK1006"
    assert diagnostic.source is not None
    assert "al.connect(" in diagnostic.source.text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_no_server(server, tmp_path):
    address = f"grpc://127.0.0.1:{free_port()}"
    begin = time.monotonic()
    with pytest.raises(al.ConnectionLost) as caught:
        al.connect(address)
    assert time.monotonic() - begin < 5
    lines = message(caught).splitlines()
    assert lines[0] == f"ALK5037: no server answers at {address}"
    assert lines[1].startswith("  because: ")
    assert "refused" in lines[1].lower()
    assert lines[2] == (
        "  hint: check the address that pyrunner serve printed, "
        "and tls_ca= for a certificate of your own"
    )
    missing = f"grpc+unix://{tmp_path}/none.sock"
    with pytest.raises(al.ConnectionLost, match=re.escape(f"no server answers at {missing}\n")):
        al.connect(missing)


@pytest.mark.parametrize("token", ["wrong", None])
def test_a_token_that_is_refused(server, token, monkeypatch):
    monkeypatch.delenv("ALINK_TOKEN", raising=False)
    with pytest.raises(al.ConnectionLost) as caught:
        al.connect(server.address, token=token, tls_ca=server.tls_ca)
    told = "no token was given" if token is None else "the token is not the server's"
    assert message(caught) == (
        f"ALK5032: the server refuses the connection: {told}\n"
        "  hint: pass the content of the server's token file: al.connect(…, token=…), "
        "ALINK_TOKEN or ALINK_TOKEN_FILE"
    )


def test_certificates_that_are_refused(server, tmp_path):
    with pytest.raises(al.ConnectionLost) as caught:  # the system does not know who signed it
        al.connect(server.address, token=server.token)
    assert message(caught).startswith(f"ALK5037: no server answers at {server.address}\n")
    assert "certificate" in message(caught).lower()
    for path, told in [(tmp_path / "none.pem", "cannot be read"), (__file__, "no certificate")]:
        with pytest.raises(al.PlanError, match=f"ALK5030.*{told}"):
            al.connect(server.address, token=server.token, tls_ca=path)
    plain = server.address.replace("grpc+tls", "grpc")
    with pytest.raises(al.ConnectionLost, match="ALK5037"):  # TLS is not left out
        al.connect(plain, token=server.token)


def test_another_protocol(server, monkeypatch):
    monkeypatch.setattr("alink._remote.PROTOCOL", 99)
    monkeypatch.setattr("alink._remote._version", lambda: "9.9")
    with pytest.raises(al.ConnectionLost) as caught:
        server.connect()
    lines = message(caught).splitlines()
    assert lines[0] == "ALK5038: the client speaks protocol 99, the server protocol 1"
    assert lines[1].startswith("  client 9.9, server ")
    assert lines[2:] == ["  hint: install the same version of client and server"]


def test_a_server_that_says_nothing(monkeypatch):
    """Something listens and never answers."""
    monkeypatch.setattr("alink._remote._ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr("alink._remote._CLOSE_TIMEOUT_S", 0.2)
    told = r"ALK5037[^\n]*\n  because: no answer within"
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(al.ConnectionLost, match=told),
    ):
        al.connect(f"grpc://127.0.0.1:{mute.getsockname()[1]}")


# --- sessions ---


def test_leaving_cancels_what_is_waited_for_and_keeps_the_rest(server, tmp_path, eventually):
    ctx = server.connect()
    kept = stored(ctx, tmp_path)
    rows = endless(ctx).iter_batches()
    next(rows)
    waited = max(states(server), key=lambda job: int(job[1:]))
    assert waited != kept.id
    ctx.close()
    assert states(server)[waited] == "cancelled"
    assert states(server)[kept.id] == "running"
    assert server.jobs("cancel", kept.id).stdout == f"cancelled {kept.id}\n"
    assert eventually(lambda: states(server)[kept.id] == "cancelled")
    with pytest.raises(al.Cancelled, match="cancelled because its client's connection ended"):
        for _ in rows:
            pass


def test_an_interrupt_cancels_the_job_and_keeps_the_connection(server, eventually):
    with server.connect() as ctx:
        rows = endless(ctx).iter_batches()
        next(rows)
        job = max(states(server), key=lambda name: int(name[1:]))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            for _ in rows:
                pass
        assert eventually(lambda: states(server)[job] == "cancelled")
        assert ctx.from_arrow(pa.table({"a": [1]})).count() == 1


@pytest.mark.parametrize("ending", ["os._exit(0)", "os.kill(os.getpid(), 9)", "1 / 0", "pass"])
def test_a_client_that_ends_however(server, script_environment, eventually, ending):
    script = f"""
        import os
        import alink as al
        ctx = al.connect({server.address!r}, token={server.token!r}, tls_ca={server.tls_ca!r})
        rows = ctx.read_generator({{"i": al.generate.sequence()}}).iter_batches()
        next(rows)
        print(ctx.status()["jobs"][0]["id"], flush=True)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=script_environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    job = done.stdout.strip()
    assert job, done.stderr
    assert eventually(lambda: states(server)[job] == "cancelled")
    assert "terminate called" not in done.stderr


def test_tables_are_dropped_with_their_last_reference(server, eventually):
    def uploads():
        return metrics(server)["alink_upload_bytes"]

    before = uploads()
    with server.connect() as ctx:
        table = ctx.from_arrow(pa.table({"a": range(100_000)}))
        assert table.count() == 100_000
        assert uploads() >= before + 800_000
        kept = table.filter("a < 10").cache()
        assert kept.count() == kept.count() == 10
        del table
        gc.collect()
        assert kept.count() == 10
        del kept
        gc.collect()
        assert eventually(lambda: uploads() == before)


def test_workers_are_shown_with_their_sandbox_and_lane(server):
    @al.udf("bigint")
    def one_more(x):
        return x + 1

    with server.connect() as ctx:
        ctx.from_arrow(pa.table({"x": [1]})).select(y=one_more("x")).to_arrow()
        mine = ctx.status()["workers"]
        shown = json.loads(ask(server, "/api/workers"))
    assert shown["lane"] == "local"
    assert mine[0]["sandbox"] in ("L0", "L1", "L2", "L3")
    assert {(w["id"], w["pid"], w["sandbox"]) for w in mine} <= {
        (w["id"], w["pid"], w["sandbox"]) for w in shown["workers"]
    }


def ask(server, path):
    request = urllib.request.Request(
        server.http.replace("127.0.0.1", "localhost") + path,
        headers={"Authorization": f"Bearer {server.token}"},
    )
    import ssl

    context = ssl.create_default_context(cafile=server.tls_ca)
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        return answer.read().decode()


def metrics(server):
    lines = ask(server, "/metrics").splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_files_of_the_server(server, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    (tmp_path / "link.parquet").symlink_to("/etc/hostname")
    with server.connect() as ctx:
        assert ctx.read_parquet(tmp_path / "a.parquet").count() == 1
        ctx.read_parquet(tmp_path / "a.parquet").write_csv(tmp_path / "b.csv")
        assert (tmp_path / "b.csv").read_text() == "a\n1\n"
        for path in ["/etc/hostname", tmp_path / "link.parquet"]:
            with pytest.raises(al.DataError, match=f"ALK4015: the server does not let.*{path}"):
                ctx.read_parquet(path).count()
        with pytest.raises(al.DataError, match="ALK4015"):
            ctx.from_arrow(pa.table({"a": [1]})).write_csv("/etc/alink.csv")
        with pytest.raises(al.DataError, match=r"ALK4001[^$]*paths are of the disk of the server"):
            ctx.read_parquet(tmp_path / "none.parquet").count()
        with pytest.raises(al.PlanError, match="ALK1011"):
            ctx.sql("SELECT * FROM read_csv('/etc/passwd')").count()


def test_functions_run_in_environments_of_the_server(server):
    @al.udf("string")
    def interpreter(x):
        import sys

        return sys.prefix

    @al.udf("double", batch="pandas")
    def doubled(x):
        return x * 2.0

    with server.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]}))
        result = table.with_columns(p=interpreter("x"), d=doubled("x")).collect()
    assert result[0]["p"] != sys.prefix
    assert result[0]["d"] == 2.0


def test_clients_share_no_worker(server, eventually):
    """What a client's functions leave in a process is out of another's reach."""

    @al.udf("bigint", workers=1)
    def worker(x):
        import random
        import sys

        # In a sandbox every worker has the same number.
        return sys.__dict__.setdefault("mark", random.SystemRandom().getrandbits(60))

    def mark(ctx):
        table = ctx.from_arrow(pa.table({"x": [1]}))
        return table.with_columns(p=worker("x")).collect()[0]["p"]

    def workers():
        told = metrics(server)
        return told['alink_workers{state="busy"}'] + told['alink_workers{state="idle"}']

    before = workers()
    with server.connect() as mine, server.connect() as yours:
        first = mark(mine)
        assert mark(yours) != first
        assert mark(mine) == first, "the worker was not kept warm"
        assert workers() >= 2
    assert eventually(lambda: workers() <= before, 10), "one has outlived its client"


def test_limits_of_the_server(start_server, tmp_path, token_file):
    own = start_server(
        tmp_path, "--upload-limit", "1MB", "--function-memory", "100MiB", "--sessions", "1",
        "--table-limit", "2MB",
        token_file=token_file,
    )  # fmt: skip

    @al.udf("bigint", memory="1GiB")
    def large(x):
        return x

    with own.connect() as ctx:
        with pytest.raises(al.PlanError, match="ALK5039: the server has 1 connections"):
            own.connect()
        table = ctx.from_arrow(pa.table({"x": range(1000)}))
        assert table.count() == 1000
        with pytest.raises(al.PlanError, match="ALK5041: large asks for 1024 MiB of memory"):
            table.with_columns(y=large("x")).count()
        with pytest.raises(al.PlanError, match="ALK5039: the tables of this connection"):
            ctx.from_arrow(pa.table({"x": range(1_000_000)})).count()
        assert table.count() == 1000, "the connection has suffered"
        wide = ctx.read_generator({"i": al.generate.sequence()}, rows=1_000_000).cache()
        with pytest.raises(al.PlanError, match="ALK5039: the tables of all connections"):
            wide.count()
        small = table.filter("x < 10").cache()
        assert small.count() == small.count() == 10
        with pytest.raises(al.DataError, match="ALK4015"):  # no --files on a TCP address
            table.write_csv(tmp_path / "out.csv")
    with own.connect() as ctx:
        assert ctx.from_arrow(pa.table({"x": [1]})).count() == 1


def test_a_socket_of_the_user(start_server, tmp_path, short_socket):
    """On a unix socket there is no token, and the client's own interpreter is used."""

    @al.udf("string")
    def interpreter(x):
        import sys

        return sys.prefix

    server = start_server(tmp_path, "--listen", f"unix:{short_socket}")
    try:
        assert server.address == f"grpc+unix://{short_socket}"
        assert server.token is None
        with server.connect() as ctx:
            table = ctx.from_arrow(pa.table({"x": [1]}))
            assert table.with_columns(p=interpreter("x")).collect() == [{"x": 1, "p": sys.prefix}]
            assert ctx.read_csv("/proc/self/comm", header=False, schema="c string").count() == 1
    finally:
        assert server.end(signal.SIGTERM) == 0
    assert not short_socket.exists()


@pytest.fixture
def short_socket():
    """A path of a socket, in a folder that does not exist yet."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="alink-", dir="/tmp"))
    yield folder / "own" / "server.sock"
    shutil.rmtree(folder)


# --- ends of the server ---


@pytest.fixture
def own_server(start_server, tmp_path, token_file):
    """A server of the test's own, on loopback without TLS."""
    return start_server(tmp_path, "--grace", "2s", "--files", str(tmp_path), token_file=token_file)


def test_a_server_that_dies(own_server):
    ctx = own_server.connect()
    rows = endless(ctx).iter_batches()
    next(rows)
    job = endless(ctx).filter("i > 5")
    threading.Timer(0.5, own_server.process.kill).start()
    begin = time.monotonic()
    with pytest.raises(al.ConnectionLost) as caught:
        for _ in rows:
            pass
    assert time.monotonic() - begin < 5
    text = message(caught)
    assert text.startswith(
        f"ALK5001: the connection to the server at {own_server.address} was lost\n"
    )
    assert text.endswith(
        "  hint: connect again; jobs that were written with wait=False go on "
        "if the server lives: pyrunner jobs ls"
    )
    with pytest.raises(al.ConnectionLost, match="ALK5001"):
        job.head(1).collect()
    assert not ctx.usable
    ctx.close()


def test_a_server_that_hangs(own_server):
    """A peer that no longer answers, or cannot be reached any more, is noticed by pings."""
    ctx = own_server.connect()
    rows = endless(ctx).iter_batches()
    next(rows)
    own_server.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(al.ConnectionLost, match=r"ALK5001[^$]*ping timeout"):
        for _ in rows:
            pass
    assert time.monotonic() - begin < 20
    ctx.close()


def test_a_server_that_drains(own_server, tmp_path):
    ctx = own_server.connect()
    short = ctx.read_generator(
        {"i": al.generate.sequence()}, rows=500, rows_per_second=500, batch_rows=100
    )
    collected = []
    reader = threading.Thread(target=lambda: collected.append(short.to_arrow().num_rows))
    reader.start()
    kept = stored(ctx, tmp_path)
    while len(states(own_server)) < 2:
        time.sleep(0.02)
    begin = time.monotonic()
    own_server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(al.ConnectionLost) as caught:
        ctx.from_arrow(pa.table({"a": [1]})).count()
    assert message(caught).splitlines()[0] == (
        "ALK5031: the server is being ended and takes no new jobs"
    )
    reader.join()
    assert collected == [500], "a job that had the time to end was cut off"
    with pytest.raises(al.Cancelled, match=r"the server was ended, and job .* had not ended"):
        kept.result()
    assert own_server.process.wait(20) == 0
    assert 2 < time.monotonic() - begin < 15
    with pytest.raises(al.ConnectionLost):
        ctx.status()


def test_a_second_signal_ends_at_once(start_server, tmp_path, token_file):
    server = start_server(tmp_path, "--files", str(tmp_path), token_file=token_file)
    ctx = server.connect()
    stored(ctx, tmp_path)
    begin = time.monotonic()
    assert server.end(signal.SIGTERM, signal.SIGTERM) == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 5
    ctx.close()


# --- pyrunner jobs ---


def test_jobs_of_the_command_line(server, tmp_path, eventually):
    @al.udf("bigint", workers=1)
    def loud(i):
        if i < 3:
            print("line", i)
        return i

    with server.connect() as ctx:
        job = (
            endless(ctx, rate=200)
            .with_columns(x=loud("i"))
            .write_parquet(
                tmp_path / "out", name="loud", checkpoint=tmp_path / "state",
                checkpoint_interval="1 hour", wait=False,
            )
        )  # fmt: skip
        lines = ["[loud] line 0", "[loud] line 1", "[loud] line 2"]
        assert eventually(lambda: server.jobs("logs", job.id).stdout.splitlines() == lines, 30)
        assert server.jobs("logs", job.id).stdout.splitlines() == lines, "it was taken away"
        listed = server.jobs("ls").stdout.splitlines()
        assert listed[0].split() == ["JOB", "NAME", "STATE", "STARTED", "ELAPSED", "ROWS"]
        assert listed[1].split()[:3] == [job.id, "loud", "running"]
        shown = server.jobs("show", job.id).stdout
        assert "read_generator" in shown
        assert "it goes on when its client leaves" in shown
        path = Path(server.jobs("savepoint", job.id).stdout.strip())
        assert path.parent == tmp_path / "state"
        assert (path / "manifest.json").exists()
        rows = pq.read_table(tmp_path / "out").num_rows
        assert rows > 0
        follower = subprocess.Popen(
            [al.find_pyrunner(), "jobs", "logs", "-f", job.id, "--server", server.address,
             "--token-file", server.token_file, "--tls-ca", server.tls_ca],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert follower.stdout is not None
        assert [follower.stdout.readline().strip() for _ in range(3)] == lines
        assert server.jobs("cancel", job.id).returncode == 0
        assert follower.wait(20) == 0
        follower.stdout.close()
        assert eventually(lambda: job.state == "cancelled")
        failed = ctx.from_arrow(pa.table({"a": ["x"]})).with_columns(b="a::int")
        with pytest.raises(al.PlanError):
            failed.collect()
    last = max(states(server), key=lambda name: int(name[1:]))
    shown = server.jobs("show", last)
    assert "failed" in shown.stdout
    assert "ALK1007: " in shown.stdout
    assert "because: " in shown.stdout
    told = json.loads(server.jobs("show", last, "--json").stdout)
    assert told["error"]["code"] == "ALK1007"
    assert told["name"].startswith("collect (test_remote.py:")
    for args, says in [
        (("show", "j9999"), 'ALK5033: there is no job "j9999"'),
        (("savepoint", last), f"job {last} has ended: there is nothing to save"),
        (("cancel", last), f"job {last} has ended already: failed"),
    ]:
        done = server.jobs(*args)
        assert done.returncode == 1
        assert says in done.stderr


def test_a_job_that_nobody_waits_for_resumes_after_its_server(
    start_server, tmp_path, token_file, eventually
):
    """A stream goes on with the next server where the one before has left it."""
    counts = []
    for _ in range(2):
        server = start_server(
            tmp_path, "--grace", "0", "--files", str(tmp_path), token_file=token_file
        )
        with server.connect() as ctx:
            job = stored(ctx, tmp_path)
        assert eventually(lambda server=server: rows_of_the_only_job(server) > 100)
        assert server.jobs("savepoint", job.id).returncode == 0
        assert server.end(signal.SIGTERM) == 0, server.log.read_text()
        ids = pq.read_table(tmp_path / "out")["i"].to_pylist()
        assert sorted(ids) == list(range(len(ids))), "rows were lost or written twice"
        counts.append(len(ids))
    assert 0 < counts[0] < counts[1]


def test_forked_children_leave_the_connection_alone(server):
    with server.connect() as ctx:
        child = os.fork()
        if child == 0:
            try:
                ctx.status()
            except al.ConnectionLost as error:
                os._exit(7 if "forked" in error.diagnostic.message else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert ctx.status()["engine_pid"] == server.pid


def test_policy_of_the_server(start_server, tmp_path, token_file):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("42")
    (tmp_path / "policy.toml").write_text(
        f"""
        [functions]
        sandbox = "auto"
        read = ["{tmp_path.resolve()}/data"]
        [environments]
        build = true
        """
    )
    own = start_server(tmp_path, "--policy", str(tmp_path / "policy.toml"), token_file=token_file)

    def reader(path, **options):
        @al.udf("string", **options)
        def content(x):
            return Path(path).read_text()

        return content

    file = tmp_path.resolve() / "data" / "x.txt"
    with own.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]}))
        allowed = reader(file, mounts={file: "ro"})
        assert table.select(y=allowed("x")).to_arrow().to_pylist() == [{"y": "42"}]
        for options, message in [
            ({"mounts": {file: "rw"}}, "which functions of this server may not write"),
            ({"mounts": {tmp_path: "ro"}}, "which functions of this server may not read"),
            ({"network": True}, "content asks for the network"),
            ({"sandbox": "off"}, "content asks for sandbox=.off."),
        ]:
            with pytest.raises(al.PlanError, match=f"ALK5041: .*{message}") as caught:
                table.select(y=reader(file, **options)("x")).to_arrow()
            assert "the server can allow it in its policy file" in caught.value.diagnostic.hint
