"""What docs/operations.md says is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import alink as al
from alink._codes import CODES

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()


def tables():
    """The rows of the page's tables, as lists of cells."""
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@pytest.fixture(scope="module")
def ran(pyrunner):
    """The folder in which the page's shell blocks have run."""
    for tool in ("openssl", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}, which the page uses")
    folder = Path(tempfile.mkdtemp(prefix="alink-", dir="/tmp"))  # paths of sockets are short
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    assert len(blocks) >= 5
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    environment |= {
        "HOME": str(folder),
        "PATH": f"{Path(pyrunner).parent}{os.pathsep}{environment['PATH']}",
        "ALINK_PYRUNNER": str(pyrunner),
    }
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    done = subprocess.run(
        ["bash", "-c", script + "\n".join(blocks)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    log = (folder / "server.log").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    yield folder, done.stdout
    shutil.rmtree(folder)


def test_the_shell_blocks_run(ran):
    folder, printed = ran
    assert printed.count("JOB  NAME  STATE") == 3
    assert "ready\n" in printed
    assert '"jobs":[]' in printed
    assert "draining; jobs that run have 30s" in printed
    assert not (folder / ".local/state/alink/alink").exists(), "a socket is left"


def test_the_table_of_metrics(ran):
    told = dict(re.findall(r"^# TYPE (\w+) (\w+)$", (ran[0] / "metrics").read_text(), re.M))
    listed = {}
    for cells in tables():
        for name in re.findall(r"`(alink_\w+)[`{]", cells[0]):
            listed[name] = cells[1]
    assert listed == told


def test_codes_and_flags_exist(pyrunner):
    for code in re.findall(r"ALK\d{4}", PAGE):
        assert code in CODES
    help_text = subprocess.run(
        [pyrunner, "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    unit = PAGE.partition("```ini")[2].partition("```")[0]
    limits = " ".join(" ".join(cells) for cells in tables())
    for flag in re.findall(r"--[a-z][a-z-]+", unit + limits):
        if flag not in ("--dry-run",):
            assert f"{flag} " in help_text
    for flag, default in [("upload", "16.0 GiB"), ("table", "64.0 GiB"), ("artifact", "8.0 GiB")]:
        assert re.search(rf"--{flag}-limit size .*\(default {default}\)", help_text)
        assert f"{default.replace('.0', '')} | `--{flag}-limit`" in PAGE
    assert re.search(r"--sessions int .*\(default 64\)", help_text)
    assert "| clients | 64 |" in PAGE


def test_the_death_is_shown_as_it_is(pyrunner):
    import pyarrow as pa

    @al.udf("bigint")
    def broken(x):
        import ctypes

        return ctypes.string_at(0)

    with al.connect() as ctx, pytest.raises(al.WorkerCrashed) as caught:
        ctx.from_arrow(pa.table({"x": [1, 2]})).with_columns(y=broken("x")).to_arrow()
    lines = str(caught.value).splitlines()
    shown = re.search(r"^```\n(ALK2004.*?)^```", PAGE, re.M | re.S)
    assert shown
    page = shown[1].splitlines()
    assert lines[0] == page[0]
    assert lines[-1] == page[-1]
    for line in page[3:-1]:
        assert any(line.split()[0] == got.split()[0] for got in lines), line
