"""A site's own launcher of workers."""

from __future__ import annotations

import json
import os
import signal
import time

import pyarrow as pa
import pytest

import alink as al


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    """A launcher that writes down how it was called, and runs the command below itself."""
    script = tmp_path / "launch"
    script.write_text(
        f"""#!/bin/sh
        printf '%s\\n' "$@" > {tmp_path}/called
        while [ "$1" != -- ]; do shift; done
        shift
        export LAUNCHED=by-the-site
        "$@" <&0
        """
    )
    script.chmod(0o755)
    monkeypatch.setenv(
        "ALINK_LAUNCHER",
        f"{script} [--see {{visible}}] [--write {{writable}}] [--net {{network}}] -- {{command}}",
    )
    return tmp_path


def launched(x):
    return os.environ.get("LAUNCHED", "")


def test_workers_are_started_by_it(launcher, pyrunner):
    with al.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]}))
        assert table.select(y=al.udf("string")(launched)("x")).collect() == [{"y": "by-the-site"}]
        status = ctx.status()
        called = (launcher / "called").read_text().splitlines()
        granted = al.udf("string", network=True, mounts={launcher: "ro"})(launched)
        assert table.select(y=granted("x")).collect() == [{"y": "by-the-site"}]
        with_more = (launcher / "called").read_text().splitlines()
        plain = al.udf("string", sandbox="off")(launched)
        assert table.select(y=plain("x")).collect() == [{"y": ""}]
    assert json.dumps(status).count('"external"') >= 1
    assert called[-3].endswith("python")
    assert called[-1].endswith("boot.py")
    assert "--net" not in called
    assert str(launcher) not in called
    assert "--net" in with_more
    assert with_more[with_more.index(str(launcher)) - 1] == "--see"


def test_a_function_under_it_is_interrupted_and_dies(launcher, pyrunner):
    @al.udf("bigint", timeout="500ms")
    def slow(x):
        time.sleep(60)
        return x

    @al.udf("bigint", retries=0)
    def dies(x):
        os.kill(os.getpid(), signal.SIGSEGV)
        return x

    with al.connect() as ctx:
        table = ctx.from_arrow(pa.table({"x": [1]}))
        with pytest.raises(al.WorkerTimeout, match="function slow was stopped"):
            table.select(y=slow("x")).to_arrow()
        with pytest.raises(al.WorkerCrashed, match="dies"):
            table.select(y=dies("x")).to_arrow()


def test_a_launcher_that_cannot_be_used_is_refused(pyrunner, monkeypatch):
    for template, message in [
        ("bwrap --unshare-all", "{command} must stand in it once"),
        ("no-such-launcher {command}", "there is no program no-such-launcher"),
    ]:
        monkeypatch.setenv("ALINK_LAUNCHER", template)
        with al.connect() as ctx, pytest.raises(al.PlanError) as caught:
            ctx.from_arrow(pa.table({"x": [1]})).count()
        assert message in str(caught.value)
