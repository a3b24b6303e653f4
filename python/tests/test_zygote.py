"""Workers that are forked from a process that has imported what they need."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import venv
from pathlib import Path

import pyarrow as pa
import pytest

import alink as al

# The CPU time of a process that has imported pyarrow, in seconds, is above this one; that of a
# worker that was forked is far below. It does not depend on how busy the machine is.
IMPORTED_SECONDS = 0.15
BATCHES = 16
# The files of a worker in a file system for temporary files.
FILES_MAX = 65_536
ZYGOTE_BYTES = 128 << 20


@al.udf("double", batch_rows=1)
def drawn(x: int) -> float:
    import random
    import time

    import numpy as np

    time.sleep(0.05)  # both workers get some
    return float(np.random.rand()) + 2 * random.randrange(1_000_000)


@al.udf("string", batch_rows=1)
def self_portrait(x: int) -> str:
    import json
    import os
    import time
    from pathlib import Path

    cpu = time.process_time()
    Path(os.environ["TMPDIR"], "mine").write_text("x")
    import numpy as np

    a = np.ones((300, 300))
    _ = a @ a  # with the threads that a worker has for it
    return json.dumps(
        {
            "cpu": cpu,
            "home": str(Path.cwd()),
            "name": os.environ["ALINK_WORKER_ID"],
            "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
            "descriptors": [int(p.name) for p in Path("/proc/self/fd").glob("*")],
            "shared": [p.name for p in Path("/tmp").glob("left-*")],
        }
    )


@al.udf("bigint", retries=0)
def leaves_a_file(x: int) -> int:
    import os
    from pathlib import Path

    Path("/tmp/left-behind").write_text("x" * 1000)
    os.kill(os.getpid(), 9)
    return x


@al.udf("string", batch_rows=1)
def fills_its_folder(x: int) -> str:
    import json
    import os
    import time
    from pathlib import Path

    folder = Path(os.environ["TMPDIR"])
    made = 0
    if not (folder / "0").exists():
        try:
            while True:
                os.mknod(folder / str(made))
                made += 1
        except OSError:
            pass
    time.sleep(0.05)  # both workers get some
    return json.dumps({"name": os.environ["ALINK_WORKER_ID"], "made": made})


@al.udf("string")
def fills_what_is_shared(x: int) -> str:
    import json
    import os
    from pathlib import Path

    made = {}
    for folder in ("/tmp", "/dev/shm"):
        count = 0
        try:
            while True:
                os.mknod(f"{folder}/many-{count}")
                count += 1
        except OSError:
            made[folder] = count
        Path(os.environ["TMPDIR"], "mine").write_text("x")  # there is room in its own
        for number in range(count):
            Path(folder, f"many-{number}").unlink()
    return json.dumps(made)


@pytest.fixture(scope="module")
def ctx(pyrunner):
    with al.connect(parallelism=2) as context:
        yield context


@pytest.fixture(name="table")
def table_fixture(ctx):
    batches = [pa.record_batch({"x": [x]}) for x in range(BATCHES)]
    return ctx.from_arrow(pa.Table.from_batches(batches))


@pytest.fixture(autouse=True)
def _needs_groups(ctx, table):
    table.with_columns(y=drawn("x")).to_arrow()
    if not ctx.status()["memory_control"]["kind"].startswith("cgroup"):
        pytest.skip("workers are forked where control groups tell them apart")


def run(table, function):
    import json

    rows = table.with_columns(y=function("x")).select("y").to_arrow().column("y").to_pylist()
    return [json.loads(row) if isinstance(row, str) else row for row in rows]


def processes(ctx):
    return [worker["pid"] for worker in ctx.status()["workers"]]


def kill_workers(ctx, eventually):
    for pid in processes(ctx):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not ctx.status()["workers"])


def children(pid):
    return {
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def zygote_of(ctx):
    """Give the one zygote: the Python below the supervisor that is no worker."""
    status = ctx.status()
    others = children(status["supervisor_pid"]) - set(processes(ctx))
    [zygote] = [p for p in others if b"boot.py" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return zygote


def test_workers_of_one_kind_are_forked_from_one_process(ctx, table):
    values = run(table, drawn)
    status = ctx.status()
    assert [worker["forked"] for worker in status["workers"]] == [True, True]
    assert status["zygotes"] == 1
    # Each draws its own numbers, as does each row.
    assert len({value % 1 for value in values}) == len({value // 2 for value in values}) == BATCHES


def test_a_worker_that_has_died_is_replaced_without_importing_anything(ctx, table, eventually):
    zygote = zygote_of(ctx)
    kill_workers(ctx, eventually)
    portrait = run(table.limit(1), self_portrait)[0]
    assert portrait["cpu"] < IMPORTED_SECONDS
    assert zygote_of(ctx) == zygote


def test_a_forked_worker_has_a_name_a_folder_and_descriptors_of_its_own(ctx, table):
    portraits = run(table, self_portrait)
    names = {portrait["name"] for portrait in portraits}
    assert names <= {worker["id"] for worker in ctx.status()["workers"]}
    for portrait in portraits:
        assert Path(portrait["home"]).name.split("-")[0] == portrait["name"]
        # Standard input, output and error, what watches the first, two connections and a poll
        # of one of them; the last is that of the folder itself.
        assert len(portrait["descriptors"]) <= 9, portrait
        assert portrait["blas"] == os.environ.get("OPENBLAS_NUM_THREADS")


def test_what_a_dead_worker_has_left_is_not_met_by_the_next(ctx, table, eventually):
    if ctx.status()["sandbox"]["level"] < "L2":
        pytest.skip("only from L2 on has a worker a /tmp of its own")
    with pytest.raises(al.Error, match="signal 9"):
        run(table.limit(1), leaves_a_file)
    kill_workers(ctx, eventually)
    portrait = run(table.limit(1), self_portrait)[0]
    assert portrait["shared"] == []


def test_what_a_dead_worker_has_left_while_others_live_is_not_met_by_the_next(ctx, table):
    if ctx.status()["sandbox"]["level"] < "L2":
        pytest.skip("only from L2 on has a worker a /tmp of its own")
    run(table, drawn)  # there are two
    with pytest.raises(al.Error, match="signal 9"):
        run(table.limit(1), leaves_a_file)
    before = {worker["id"] for worker in ctx.status()["workers"]}
    portraits = run(table, self_portrait)
    old = [p["shared"] for p in portraits if p["name"] in before]
    new = [p["shared"] for p in portraits if p["name"] not in before]
    assert old == [["left-behind"]] * len(old)
    assert new == [[]] * len(new)
    assert old
    assert new


def test_a_forked_worker_may_have_as_many_files_as_one_by_itself_and_each_has(
    ctx, table, eventually
):
    if ctx.status()["sandbox"]["level"] < "L2":
        pytest.skip("only from L2 on does the kernel keep the number of files")
    kill_workers(ctx, eventually)
    made = {}
    for told in run(table, fills_its_folder):
        made[told["name"]] = made.get(told["name"], 0) + told["made"]
    assert len(made) == 2
    for files in made.values():
        assert FILES_MAX - 10 <= files < FILES_MAX
    kill_workers(ctx, eventually)
    [shared] = run(table.limit(1), fills_what_is_shared)
    assert FILES_MAX // 2 - 100 <= min(shared.values()) <= max(shared.values()) < FILES_MAX // 2


def test_the_death_of_the_zygote_is_no_worker_s(ctx, table, eventually):
    run(table, drawn)
    before, zygote = processes(ctx), zygote_of(ctx)
    os.kill(zygote, signal.SIGKILL)
    assert eventually(lambda: ctx.status()["zygotes"] == 0)
    assert len(run(table, drawn)) == BATCHES
    assert set(before) <= set(processes(ctx))  # they live on
    kill_workers(ctx, eventually)
    assert len(run(table, drawn)) == BATCHES
    assert zygote_of(ctx) != zygote


def test_nothing_is_left_of_workers_and_zygotes(ctx, table, eventually):
    supervisor = ctx.status()["supervisor_pid"]

    def open_files():
        return len(list(Path(f"/proc/{supervisor}/fd").iterdir()))

    def round_of_deaths():
        for pid in [zygote_of(ctx), *processes(ctx)]:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not ctx.status()["workers"] and not ctx.status()["zygotes"])
        run(table.limit(1), drawn)

    round_of_deaths()
    assert eventually(lambda: len(children(supervisor)) == 3)  # process 1, zygote and worker
    before = open_files()
    for _ in range(3):
        round_of_deaths()
        for _ in range(5):
            run(table.limit(1), drawn)
    assert eventually(lambda: open_files() <= before)
    assert eventually(lambda: len(children(supervisor)) <= 3)


def test_what_may_be_held_together_counts_the_zygote(ctx, table, eventually):
    run(table, drawn)
    workers = len(ctx.status()["workers"])
    assert ctx.status()["worker_memory"]["bytes"] == workers * 2**30 + ZYGOTE_BYTES
    os.kill(zygote_of(ctx), signal.SIGKILL)  # the workers share its memory all the same
    assert eventually(lambda: ctx.status()["zygotes"] == 0)
    assert ctx.status()["worker_memory"]["bytes"] == workers * 2**30 + ZYGOTE_BYTES
    kill_workers(ctx, eventually)
    assert eventually(lambda: ctx.status()["worker_memory"]["bytes"] == 0)


@pytest.mark.parametrize(
    "start",
    [
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        f"threading.much = b'x' * {200 << 20}",  # more than a zygote may hold
    ],
    ids=["thread", "memory"],
)
def test_where_no_worker_can_be_forked_they_are_started_one_by_one(tmp_path, pyrunner, start):
    venv.create(tmp_path / "env", symlinks=True)
    packages = tmp_path / "env" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (packages / "site-packages" / "all.pth").write_text(
        f"{sysconfig.get_path('purelib')}\nimport threading; {start}\n"
    )
    environment = al.Environment(path=tmp_path / "env")
    with al.connect(parallelism=1) as context:
        table = context.from_arrow(pa.table({"x": [1]}))

        @al.udf("bigint", env=environment)
        def doubled(x: int) -> int:
            return 2 * x

        assert run(table, doubled) == [2]
        # The other worker was started ahead, for functions that name no environment.
        workers = {
            worker["environment"]: worker["forked"] for worker in context.status()["workers"]
        }
        assert sorted(workers.values()) == [False, True]
