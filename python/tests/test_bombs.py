"""Functions that take all the memory they can get, in every way that is known.

Whatever they do, they end: their worker is killed, Python raises MemoryError, or the sandbox
refuses. Their peak, measured from outside, stays within the limit; a job beside them gets its
rows, and the engine lives. ``make bombs`` runs all of them, under each control of memory that
this machine has, and prints the table of peaks; otherwise a few run.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import alink as al

MIB = 1 << 20
LIMIT = 256 * MIB
# What a bomb takes if nobody stops it.
BYTES = 1024 * MIB
ALL = os.environ.get("ALINK_BOMBS") == "all"
CONTROLS = ("cgroup2", "cgroup1", "watch")
LEVELS = ("L2", "L1", "off")
# The supervisor looks every 10 ms near the limit, and at each process takes its time; a machine
# with more to do than processors lets it wait for its turn.
PERIOD_SECONDS = 0.04
# The kernel charges some pages ahead, for each processor.
AHEAD = MIB


def numpy_arrays():
    import numpy as np

    return [np.ones(4 << 20, np.uint8) for _ in range(256)]


def private_map():
    import mmap

    kept = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, 1 << 30, 4096):
        kept[at] = 1
    return kept


def shared_map():
    import mmap

    kept = mmap.mmap(-1, 1 << 30)
    for at in range(0, 1 << 30, 4096):
        kept[at] = 1
    return kept


def memfds():
    import os

    kept = []
    for _ in range(32):
        kept.append(os.memfd_create("bomb"))
        for _ in range(32):
            os.write(kept[-1], bytes(1 << 20))
    return kept


def page_tables():
    import mmap

    size = 1 << 39
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    kept = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ)
    kept.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, 2 << 20):
        kept[at]
    return kept


def dev_shm():
    import tempfile

    with tempfile.TemporaryFile(dir="/dev/shm", buffering=0) as file:
        for _ in range(1024):
            file.write(bytes(1 << 20))


def scratch_files():
    import tempfile
    import time

    for _ in range(8):
        with tempfile.NamedTemporaryFile(delete=False, buffering=0) as file:
            for _ in range(128):
                file.write(bytes(1 << 20))
    time.sleep(5)  # a disk is looked at once a second


def sixteen_children():
    import multiprocessing

    def hold():
        import time

        kept = [bytes(b"x" * (1 << 20)) for _ in range(64)]
        time.sleep(20)
        return kept

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=hold) for _ in range(16)]
    for child in children:
        child.start()
    for child in children:
        child.join()


def setsid_child():
    import os
    import time

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            kept = []
            for _ in range(1024):
                kept.append(b"x" * (1 << 20))
            time.sleep(20)
        os._exit(0)
    time.sleep(20)


def pipes():
    import fcntl
    import os

    kept = []
    for _ in range(1024):
        reader, writer = os.pipe()
        kept.append((reader, writer))
        fcntl.fcntl(writer, 1031, 1 << 20)  # F_SETPIPE_SZ
        os.set_blocking(writer, False)
        os.write(writer, bytes(1 << 20))
    return kept


BOMBS = (
    numpy_arrays,
    private_map,
    shared_map,
    memfds,
    page_tables,
    dev_shm,
    scratch_files,
    sixteen_children,
    setsid_child,
    pipes,
)
SHORT = (numpy_arrays, shared_map, setsid_child)


# What a watch cannot see and only a sandbox bounds: memory that nobody maps.
UNSEEN = (memfds, dev_shm, pipes)


def explode(bomb, sandbox):
    @al.udf("bigint", memory=LIMIT, retries=0, workers=1, sandbox=sandbox)
    def bang(x):
        if x == 5:
            bomb()
        return x

    return bang


@al.udf("bigint", workers=1)
def bystander(x):
    import time

    time.sleep(0.001)
    return x * 2


def fill_rate():
    """Bytes a second that this machine fills memory with, at this moment."""
    begun = time.perf_counter()
    kept = [np.ones(4 * MIB, np.uint8) for _ in range(64)]
    return sum(a.nbytes for a in kept) / (time.perf_counter() - begun)


class Outside:
    """The most that the processes of a bomb had together, seen from outside."""

    def __init__(self, ctx):
        self._ctx = ctx
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.peak = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        supervisor = self._ctx.status()["supervisor_pid"]
        while not self._stop.wait(0.01):
            if not supervisor:
                supervisor = self._ctx.status()["supervisor_pid"]
                continue
            pids = below(supervisor)
            groups = {group_of(pid) for pid in pids} - {None}
            if groups:
                self.peak = max(self.peak, *map(charged, groups))
            elif sum(held_bytes(pid, exact=False) for pid in pids) > self.peak:
                # Being asked keeps processes from going on.
                self.peak = max(self.peak, sum(map(held_bytes, pids)))
            if not groups:
                self.peak = max(self.peak, *map(temporary_bytes, pids), 0)


def below(pid):
    """Give the processes below one."""
    pids, found = [pid], []
    while pids:
        tasks: list[Path] = []
        with contextlib.suppress(OSError):  # any of them may end meanwhile
            tasks = list(Path(f"/proc/{pids.pop()}/task").glob("*/children"))
        for task in tasks:
            with contextlib.suppress(OSError):
                new = [int(p) for p in task.read_text().split()]
                pids += new
                found += new
    return found


def temporary_bytes(pid):
    """Give what is in a process's own file systems in memory."""
    total = 0
    for place in ("/tmp", "/dev/shm"):
        with contextlib.suppress(OSError):
            inside = f"/proc/{pid}/root{place}"
            if Path(inside).stat().st_dev != Path(place).stat().st_dev:
                use = os.statvfs(inside)
                total += (use.f_blocks - use.f_bfree) * use.f_frsize
    return total


def group_of(pid):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "alink-pool-" in path and controllers in ("memory", ""):
                return Path("/sys/fs/cgroup", controllers, path[1:])
    return None


def charged(group):
    for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current"):
        with contextlib.suppress(OSError, ValueError):
            limit = (group / "memory.limit_in_bytes", group / "memory.max")
            if any(f.exists() and f.read_text().strip() == str(LIMIT) for f in limit):
                return int((group / name).read_text())
    return 0


def held_bytes(pid, exact=True):
    lines = {}
    with contextlib.suppress(OSError):
        for name in ("smaps_rollup", "status")[not exact :]:
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                key, _, value = line.partition(":")
                if value.endswith(" kB"):
                    lines[key] = int(value.split()[0]) << 10
    parts = ("Pss_Anon", "Pss_Shmem") if exact else ("RssAnon", "RssShmem")
    return sum(lines.get(key, 0) for key in (*parts, "VmPTE"))


def settings():
    """Give what the bombs run under: a control of memory, "" for the best, and a sandbox."""
    pairs = [(c, level) for c in CONTROLS for level in LEVELS] if ALL else [("", ""), ("watch", "")]
    return [pytest.param(pair, id="-".join(filter(None, pair)) or "best") for pair in pairs]


@pytest.fixture(params=settings(), scope="module")
def setting(pyrunner, request, table_of_peaks):
    control, level = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALINK_MEMORY_CONTROL", control)
        if level not in ("", "off"):
            patch.setenv("ALINK_SANDBOX_LEVEL_MAX", level)
        with al.connect(parallelism=2) as ctx:
            rows = ctx.from_arrow(pa.table({"x": [1]})).select(y=bystander("x")).to_arrow()
            assert rows.num_rows == 1
            found = ctx.status()["memory_control"]
            if control and found["kind"] != control:
                pytest.skip(f"there is no {control}: {found['reason']}")
            yield ctx, level


@pytest.fixture(scope="module")
def table_of_peaks(request):
    rows = []
    yield rows
    if not ALL:
        return
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        heads = ("bomb", "control", "sandbox", "peak MiB", "limit", "fill MiB/s", "ended by")
        print("\n\n{:18} {:8} {:8} {:>8} {:>6} {:>10}  {}".format(*heads))
        for row in rows:
            print("{:18} {:8} {:8} {:8.0f} {:6.0f} {:10.0f}  {}".format(*row))


def how(error):
    """Say in a word how a bomb ended."""
    if isinstance(error, al.WorkerMemoryExceeded):
        return "killed"
    if "temporary files" in str(error):
        return "killed for its files"
    if "MemoryError" in str(error):
        return "MemoryError"
    refusal = re.search(r"(PermissionError|OSError|BlockingIOError)[^\n]*", str(error))
    return f"refused: {refusal[0][:60]}" if refusal else f"? {error}"


@pytest.mark.parametrize("bomb", BOMBS if ALL else SHORT, ids=lambda bomb: bomb.__name__)
def test_a_bomb_ends(setting, bomb, table_of_peaks):
    ctx, level = setting
    control = ctx.status()["memory_control"]["kind"]
    if control == "watch" and level == "off" and bomb in UNSEEN:
        pytest.skip("a watch does not see it, and there is no sandbox")
    rate = fill_rate()
    numbers = pa.table({"x": range(400)})
    beside = ctx.from_arrow(numbers).select(y=bystander("x"))
    got = {}
    other = threading.Thread(target=lambda: got.update(rows=beside.to_arrow()))
    other.start()
    table = ctx.from_arrow(pa.table({"x": range(10)}))
    with Outside(ctx) as outside, pytest.raises(al.Error) as caught:
        table.select(y=explode(bomb, "off" if level == "off" else "auto")("x")).to_arrow()
    other.join()
    rate = max(rate, fill_rate())
    ended = how(caught.value)
    row = (
        bomb.__name__,
        control,
        level or "auto",
        outside.peak / MIB,
        LIMIT / MIB,
        rate / MIB,
        ended,
    )
    table_of_peaks.append(row)
    allowed = LIMIT + (
        AHEAD if control != "watch" else rate * (os.cpu_count() or 1) * PERIOD_SECONDS
    )
    text = str(caught.value)
    assert not ended.startswith("?"), text
    assert outside.peak <= allowed, row
    assert "bang" in text
    assert re.search(r"\brows? \d+|rows from \d+", text), text
    if ended.startswith("killed"):
        assert "limit 256 MiB" in text
    if ended == "killed":
        assert outside.peak > LIMIT / 2, "what was seen from outside was not the bomb"
    assert got["rows"].column("y").to_pylist() == [x * 2 for x in range(400)]
    assert table.count() == 10
