"""How a function may end its worker, or be ended, and what its user is told."""

from __future__ import annotations

import errno
import os
import re
import signal

import pyarrow as pa
import pytest

import alink as al

LINES_MAX = 15
TABLE = pa.table({"x": range(10), "s": [f"né {i}" for i in range(10)]})


@pytest.fixture(scope="module")
def table(pyrunner):
    with al.connect(parallelism=1) as ctx:
        yield ctx.from_arrow(TABLE)


def text_of(error: al.Error) -> str:
    """Give an error's text without what differs between runs."""
    text = str(error)
    text = re.sub(r'"[^"]*/(\w+\.py)", line \d+', r'"\1", line N', text)
    text = re.sub(r"process \d+ in environment \w+ \(Python [\d.]+\)", "process N in E", text)
    text = re.sub(r"memory (of the worker )?\d+ MiB", r"memory \1N MiB", text)
    return re.sub(r"CPU time [\w.]+", "CPU time N", text)


@al.udf("bigint")
def raises(x):
    if x == 7:
        raise ValueError("no sevens")
    return x


@al.udf("bigint")
def exits(x):
    import sys

    sys.exit(3)


@al.udf("bigint", retries=1)
def leaves(x):
    import os

    os._exit(3)


@al.udf("bigint", retries=0)
def segfaults(x):
    import ctypes

    return ctypes.string_at(0)


@al.udf("bigint")
def kills(x):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


@al.udf("bigint", timeout=0.3)
def hangs(x, s):
    while x == 7:
        pass
    return x


@al.udf("bigint", timeout=0.3, on_null="skip")
def hangs_without_nulls(x):
    while x == 9:
        pass
    return x


@al.udf("bigint", timeout="300ms")
def does_not_listen(x, s):
    import time

    while x == 7:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001
            pass
    return x


@al.udf("bigint", timeout=0.3, batch="numpy")
def hangs_in_a_call(x):
    import time

    time.sleep(100)


@al.udf("bigint", timeout=0.3)
class HangsInSetup:
    def setup(self):
        import time

        time.sleep(100)

    def __call__(self, x):
        return x


@al.udf("bigint", memory="200MiB", retries=0)
def hoards(x):
    kept = []
    while True:
        kept.append(b"x" * (1 << 20))


@al.udf("bigint")
def wants_too_much(x):
    return len(bytearray(1 << 60))


def deeper(x):
    return deeper(x + 1)


@al.udf("bigint")
def recurses(x):
    return deeper(x)


@al.udf("bigint")
class SetupKills:
    def setup(self):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    def __call__(self, x):
        return x


@al.udf("bigint")
def has_no_module(x):
    import not_there  # pyright: ignore

    return not_there


CALL = """\
  File "test_deaths.py", line N, in test_what_its_user_is_told
    table.with_columns(y=function(*columns)).to_arrow()
          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""

GOLDEN = [
    (raises, al.UdfError, """\
ALK2001: raises raised ValueError: no sevens
  File "test_deaths.py", line N, in raises
    raise ValueError("no sevens")
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  row 7: x=7
  hint: call raises.local(...) with the values of this row"""),
    (exits, al.UdfError, """\
ALK2001: exits raised SystemExit: 3
  File "test_deaths.py", line N, in exits
    sys.exit(3)
    ^^^^^^^^^^^
  row 0: x=0
  hint: a function returns a value or raises; it does not end programs"""),
    (leaves, al.WorkerCrashed, f"""\
ALK2004: function leaves ended its Python worker 2 times (exit status 3)
{CALL}  row 0: x=0
  process N in E
  peak memory N MiB, limit 1.0 GiB, CPU time N
  hint: the function, or a library that it calls, ended the process (os._exit does that): \
raise an exception instead"""),
    (segfaults, al.WorkerCrashed, f"""\
ALK2004: function segfaults killed its Python worker once (signal 11, SIGSEGV)
{CALL}  row 0: x=0
  process N in E
  peak memory N MiB, limit 1.0 GiB, CPU time N
  because: Fatal Python error: Segmentation fault
      File "__init__.py", line N in string_at
      File "test_deaths.py", line N in segfaults
  hint: this is a fault in native code: run the function on these rows with \
python -X faulthandler, and update the library that it names"""),
    (kills, al.WorkerCrashed, f"""\
ALK2004: function kills killed its Python worker 5 times (signal 9, SIGKILL)
{CALL}  row 0: x=0
  process N in E
  peak memory N MiB, limit 1.0 GiB, CPU time N
  hint: if the function did not do it, look for what ends the engine's processes; the kernel's \
log tells whether memory was short"""),
    (hangs, al.WorkerTimeout, """\
ALK2020: function hangs was stopped: it took more than 0.3 s for one row
  File "test_deaths.py", line N, in hangs
    while x == 7:
          ^^^^^^
  row 7: x=7, s='né 7'
  process N in E
  hint: if it may take longer, say so: timeout="5min"; None is no limit. It is not tried again"""),
    (hangs_without_nulls, al.WorkerTimeout, """\
ALK2020: function hangs_without_nulls was stopped: it took more than 0.3 s for one row
  File "test_deaths.py", line N, in hangs_without_nulls
    while x == 9:
          ^^^^^^
  row 9: x=9
  process N in E
  hint: if it may take longer, say so: timeout="5min"; None is no limit. It is not tried again"""),
    (does_not_listen, al.WorkerTimeout, f"""\
ALK2020: function does_not_listen was stopped: it took more than 0.3 s for one row
{CALL}  row 7: x=7, s='né 7'
  process N in E
  hint: if it may take longer, say so: timeout="5min"; None is no limit. It is not tried again"""),
    (hangs_in_a_call, al.WorkerTimeout, """\
ALK2020: function hangs_in_a_call was stopped: it took more than 0.3 s for one call
  File "test_deaths.py", line N, in hangs_in_a_call
    time.sleep(100)
    ^^^^^^^^^^^^^^^
  rows 0 to 9 of its input
  process N in E
  hint: if it may take longer, say so: timeout="5min"; None is no limit. It is not tried again"""),
    (HangsInSetup, al.WorkerTimeout, """\
ALK2020: function HangsInSetup was stopped: it took more than 0.3 s to be set up, before its \
first row
  File "test_deaths.py", line N, in setup
    time.sleep(100)
    ^^^^^^^^^^^^^^^
  rows 0 to 9 of its input
  process N in E
  hint: if it may take longer, say so: timeout="5min"; None is no limit. It is not tried again"""),
    (hoards, al.WorkerMemoryExceeded, f"""\
ALK2021: function hoards needed more memory than its limit of 200 MiB (tried once)
{CALL}  row 0: x=0
  process N in E
  peak memory N MiB, limit 200 MiB, CPU time N
  hint: raise the limit (memory="4GiB"), or hold less at a time: a smaller batch_rows="""),
    (wants_too_much, al.UdfError, """\
ALK2001: wants_too_much raised MemoryError
  File "test_deaths.py", line N, in wants_too_much
    return len(bytearray(1 << 60))
               ^^^^^^^^^^^^^^^^^^
  row 0: x=0
  peak memory of the worker N MiB, limit 1.0 GiB
  hint: raise memory= ("4GiB"), or hold less at a time"""),
    (recurses, al.UdfError, """\
ALK2001: recurses raised RecursionError: maximum recursion depth exceeded
  File "test_deaths.py", line N, in deeper
    return deeper(x + 1)
           ^^^^^^^^^^^^^
  File "test_deaths.py", line N, in deeper
    return deeper(x + 1)
           ^^^^^^^^^^^^^
  row 0: x=0
  hint: call recurses.local(...) with the values of this row"""),
    (SetupKills, al.WorkerCrashed, f"""\
ALK2004: function SetupKills killed its Python worker 3 times (signal 15, SIGTERM)
{CALL}  rows 0 to 9 of its input
  process N in E
  peak memory N MiB, limit 1.0 GiB, CPU time N
  hint: look for what sends this signal to the engine's processes"""),
    (has_no_module, al.UdfError, """\
ALK2006: has_no_module raised ModuleNotFoundError: No module named 'not_there'
  File "test_deaths.py", line N, in has_no_module
    import not_there  # pyright: ignore
    ^^^^^^^^^^^^^^^^
  row 0: x=0
  hint: add it to the function's environment: al.Environment(requirements=["not_there"])"""),
]  # fmt: skip


@pytest.mark.parametrize(("function", "kind", "text"), GOLDEN, ids=[g[0].name for g in GOLDEN])
def test_what_its_user_is_told(table, function, kind, text):
    columns = list(TABLE.column_names[: len(function.parameters)])
    with pytest.raises(kind) as caught:
        table.with_columns(y=function(*columns)).to_arrow()
    assert type(caught.value) is kind
    assert text_of(caught.value).split("\n") == text.split("\n")
    assert len(str(caught.value).split("\n")) <= LINES_MAX
    assert table.count() == 10, "the engine goes on"


def test_a_worker_that_goes_on_is_left_alone(table):
    """Rows count as progress, and so do the calls of a function that gets a few rows at a time."""

    @al.udf("bigint", timeout=2)
    def by_row(x):
        import time

        time.sleep(0.3)
        return x

    @al.udf("bigint", batch="numpy", batch_rows=1, timeout=2)
    def by_call(x):
        import time

        time.sleep(0.3)
        return x

    result = table.select(y=by_row("x"), z=by_call("x")).to_arrow()
    assert result.column("y").to_pylist() == result.column("z").to_pylist() == list(range(10))


@pytest.mark.parametrize("timeout", [None, 0])
def test_no_time_limit(table, timeout):
    @al.udf("bigint", timeout=timeout)
    def patient(x):
        import time

        time.sleep(0.05)
        return x

    assert table.limit(2).select(y=patient("x")).to_arrow().num_rows == 2


def test_map_batches_and_fit_have_limits(table):
    @al.map_batches("x bigint", timeout=0.3)
    def hangs(batch):
        import time

        yield batch.select(["x"])
        time.sleep(100)

    with pytest.raises(al.WorkerTimeout, match=r"hangs was stopped: it took more than 0.3 s"):
        table.map_batches(hangs).to_arrow()

    def train(batches):
        import time

        time.sleep(0.5)  # without a limit of its own it may
        return sum(batch.num_rows for batch in batches)

    assert table.fit(train).data
    with pytest.raises(al.WorkerTimeout, match="train was stopped"):
        table.fit(train, timeout=0.1)

    def hoard(batches):
        return [b"x" * (1 << 20) for _ in range(1000)]

    with pytest.raises(al.WorkerMemoryExceeded, match="100 MiB"):
        table.fit(hoard, memory="100MiB", retries=0)


def test_memory_of_child_processes_counts(table):
    @al.udf("bigint", memory="250MiB", retries=0)
    def parent(x):
        import subprocess
        import sys

        code = "kept = [b'x' * (1 << 20) for _ in range(600)]; input()"
        return subprocess.call([sys.executable, "-c", code], stdin=subprocess.PIPE)

    with pytest.raises(al.WorkerMemoryExceeded, match="250 MiB"):
        table.limit(1).select(y=parent("x")).to_arrow()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")],
    ids=["python", "call"],
)
def test_a_worker_without_memory_is_replaced(pyrunner, error):
    def pid_or_error(x):
        import os

        if x == 3:
            raise error
        return os.getpid()

    # Without a sandbox, where every worker is process 2.
    fails = al.udf("bigint", sandbox="off")(pid_or_error)
    goes_on = al.udf("bigint", sandbox="off", on_error="null")(pid_or_error)
    with al.connect(parallelism=1) as ctx:
        table = ctx.from_arrow(TABLE)
        [before] = table.limit(1).select(y=fails("x")).to_arrow().column("y").to_pylist()
        with pytest.raises(al.UdfError, match=r"peak memory of the worker .*limit 1\.0 GiB"):
            table.select(y=fails("x")).to_arrow()
        [after] = table.limit(1).select(y=fails("x")).to_arrow().column("y").to_pylist()
        assert before != after
        pids = table.select(y=goes_on("x")).to_arrow().column("y").to_pylist()
        assert [x for x, y in enumerate(pids) if y is None] == [3]


@pytest.mark.parametrize("child", ["sleeps", "returns"])
def test_a_fork_that_outlives_its_function(pyrunner, is_running, eventually, child):
    @al.udf("bigint", retries=0, sandbox="off")  # it says the number that its child has here
    def forks(x):
        import os
        import time

        if x > 0:
            return 0
        pid = os.fork()
        if pid == 0 and child == "sleeps":
            time.sleep(1000)
        return pid

    with al.connect(parallelism=1) as ctx:
        table = ctx.from_arrow(TABLE).select(y=forks("x")).to_arrow()
        pid = table.column("y").to_pylist()[0]
        assert table.num_rows == 10
        if child == "returns":
            assert eventually(lambda: not is_running(pid), 10), "two processes run one bundle"
    assert eventually(lambda: not is_running(pid), 10)


def test_a_lost_connection(pyrunner):
    """A worker that has closed its connection is replaced, and is told from one that died."""

    @al.udf("bigint", retries=0)
    def hangs_up(x):
        import os
        import stat
        import time

        for descriptor in range(3, 200):
            try:
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    import socket

                    socket.socket(fileno=os.dup(descriptor)).shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        while True:
            time.sleep(1)

    with al.connect(parallelism=1) as ctx:
        with pytest.raises(al.WorkerCrashed) as caught:
            ctx.from_arrow(TABLE).select(y=hangs_up("x")).to_arrow()
        assert "ALK2004" in str(caught.value)


def test_the_supervisor_dies(pyrunner, eventually, tmp_path):
    running = tmp_path / "running"

    @al.udf("bigint", retries=0, mounts={tmp_path: "rw"})
    def waits(x):
        import time

        running.touch()
        time.sleep(100)

    with al.connect(parallelism=1) as ctx:
        table = ctx.from_arrow(TABLE)
        job = table.select(y=waits("x")).write_parquet(tmp_path / "out", wait=False)
        assert eventually(running.exists, 20)
        os.kill(ctx.status()["supervisor_pid"], signal.SIGKILL)
        with pytest.raises(al.WorkerCrashed, match="supervisor of workers died") as caught:
            job.result()
        assert "worker-pool process" in str(caught.value)
        assert table.select(y=raises("x + 10")).to_arrow().num_rows == 10, "another one is started"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": -1}, "timeout must be a number of seconds, not -1"),
        ({"timeout": "soon"}, "timeout must be a number of seconds, not 'soon'"),
        ({"timeout": "5 lightyears"}, "timeout must be a number of seconds"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds"),
        ({"timeout": float("inf")}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds, not True"),
        ({"memory": "lots"}, "memory must be a number of bytes, not 'lots'"),
        ({"memory": "10MiB"}, "memory must be at least 64MiB, not '10MiB'"),
    ],
)
def test_limits_that_are_none(options, says):
    with pytest.raises(al.PlanError, match=f"ALK1006: udf: {says}"):
        al.udf("bigint", **options)(lambda x: x)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0), (0, 0), (0.0, 0), ("0s", 0), (90, 90_000), (0.0001, 1), (2.5, 2_500),
        ("60s", 60_000), ("2min", 120_000), ("1.5 h", 5_400_000), ("250ms", 250),
    ],
)  # fmt: skip
def test_times(value, expected):
    from alink._options import milliseconds

    assert milliseconds("udf", "timeout", value) == expected


def test_options_in_the_plan():
    def options(**given):
        return al.udf("bigint", **given)(lambda x: x).options.to_json()

    assert options() == {}
    assert options(timeout=None, memory="1GiB") == {"timeout_ms": 0, "memory_bytes": 1 << 30}
    assert options(timeout="2min") == {"timeout_ms": 120_000}
