"""The short form of ``make attack``, and the page that shows its table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SECURITY = TESTS.parents[1] / "docs" / "security.md"


def attack(*args):
    return subprocess.run(
        [sys.executable, "-m", "attack", *args], env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_short_form(pyrunner):
    done = attack("--short")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^off \w+: \d+ of", done.stdout, re.MULTILINE), done.stdout


def test_security_page_shows_what_is_expected():
    before = SECURITY.read_text()
    done = attack("--check-docs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECURITY.read_text() == before


def test_yaml_of_the_security_page():
    blocks = re.findall(r"```yaml\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        for line in block.splitlines():
            spaces = len(line) - len(line.lstrip(" "))
            assert "\t" not in line, line
            assert spaces % 2 == 0, line
            assert re.fullmatch(r"\s*(-\s+)?[\w./-]+:(\s+\S.*)?|\s*-\s+\S.*|---", line), line
