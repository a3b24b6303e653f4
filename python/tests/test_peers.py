"""The measurements beside other engines (bench/peers.py), on tables of a few rows."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("peers")


# A script of a peer without its jobs; `right` does what a peer must.
SCRIPT = """
import subprocess, sys
import contract

def right(path):
    import pyarrow.parquet as pq
    columns = pq.read_table(path, columns=["a", "b"]).to_pydict()
    return sum(map(contract.line, columns["a"], columns["b"]))

def raises(path):
    raise ValueError("no such thing |")

"""


@pytest.fixture
def measure(peers, monkeypatch, tmp_path):
    """Measure a peer that is a script of a test, and give the page."""
    monkeypatch.setattr(peers, "CACHE", tmp_path / "cache")

    def run(body: str, *options: str, **peer: object) -> str:
        script = tmp_path / "with_test.py"
        script.write_text(SCRIPT + body)
        monkeypatch.setattr(peers, "PEERS", (peers.Peer("Test", str(script), **peer),))
        page = tmp_path / "page.md"
        command = ["peers.py", "--rows", "40", "--runs", "1", "--output", str(page), *options]
        monkeypatch.setattr(sys, "argv", command)
        peers.main()
        return page.read_text()

    return run


def test_ours_and_in_process(tmp_path):
    page = tmp_path / "performance.md"
    kept = "# Measurements\n\n<!-- begin: make bench -->\nours alone\n<!-- end: make bench -->\n"
    page.write_text(kept)
    command = [sys.executable, str(BENCH / "peers.py"), "--rows", "100", "--runs", "1"]
    command += ["--peers", "ours", "in process", "--output", str(page)]
    subprocess.run(command, check=True, timeout=240)
    text = page.read_text()
    assert text.startswith(kept)
    assert "failed" not in text
    assert "not measured" not in text
    rate = r"\| [\d.e-]+ "
    assert re.search(rf"^\| ours, one worker {rate * 5}\|$", text, re.M)
    assert re.search(rf"^\| ours, two workers {rate * 5}\|$", text, re.M)
    assert re.search(rf"^\| in process, a loop {rate * 2}\|", text, re.M)
    assert re.search(r"^\| in process \| [\d.e-]+, [\d.e-]+ \|", text, re.M)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # that of a zombie is empty
    except FileNotFoundError:
        return False


def test_only_right_results_have_a_rate(measure):
    text = measure(
        """
contract.main(right, {
    ("Test", contract.ROW): right,
    ("Test", contract.VECTOR): lambda path: right(path) * (1 + 1e-6),
    ("Test", contract.GROUPED): raises,
}, "pyarrow")
"""
    )
    assert re.search(r"^\| Test \| [\d.e-]+ \|  \| failed \|  \| failed \|$", text, re.M)
    assert re.search(
        r"^- Test: Test, vectorised, a\*2\+b: gave [\d.]+ where [\d.]+ is right$", text, re.M
    )
    assert "- Test: Test, grouped, 1,000 keys: no such thing \\|\n" in text
    assert re.search(r"^\| Test \| [\d.]+ \| – × \| [\d.]+ \| – × \| \d+ \|$", text, re.M)


def test_a_wrong_first_row_is_no_start(measure):
    text = measure('contract.main(lambda path: 1.0, {("Test", contract.ROW): right}, "pyarrow")')
    assert re.search(r"^\| Test \| not measured: gave 1.0 where [\d.]+ is right \|", text, re.M)


def test_a_peer_that_hangs_is_ended_with_what_it_has_started(measure, tmp_path):
    child = tmp_path / "child"
    text = measure(
        f"""
if sys.argv[1] == "start":
    sys.exit("Error: not this time")
# in a session of its own, as some workers are
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
open({str(child)!r}, "w").write(str(child.pid))
child.wait()
""",
        "--limit",
        "10",
    )
    assert "| Test | not measured: not done within 10 s |" in text
    assert "| Test | not measured: ended with status 1: Error: not this time |" in text
    deadline = time.monotonic() + 60
    while runs(int(child.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_peer_that_crashes_keeps_what_it_has_shown(measure):
    text = measure(
        """
contract.main(right, {
    ("Test", contract.ROW): right,
    ("Test", contract.VECTOR): lambda path: sys.exit("Error: no more"),
}, "pyarrow")
"""
    )
    assert re.search(r"^\| Test \| [\d.e-]+ \|  \| not measured \|", text, re.M)
    assert "- Test: what is not measured: ended with status 1: Error: no more\n" in text


def test_a_peer_that_cannot_be_installed(measure, monkeypatch, tmp_path):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    requirements = tmp_path / "absent.txt"
    requirements.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    text = measure("", requirements=str(requirements))
    assert re.search(r"^\| Test \| not measured: cannot be installed: \S.+ \|", text, re.M)


def test_each_command_rewrites_its_own_part(peers, tmp_path):
    page = tmp_path / "page.md"
    peers.report.write_part(page, "make one", ["1"])
    peers.report.write_part(page, "make two", ["2"])
    page.write_text(page.read_text() + "\nthe end\n")
    peers.report.write_part(page, "make one", ["3", "4"])
    assert page.read_text() == (
        "# Measurements\n\n<!-- begin: make one -->\n\n3\n4\n\n<!-- end: make one -->\n\n"
        "<!-- begin: make two -->\n\n2\n\n<!-- end: make two -->\n\nthe end\n"
    )
    page.write_text(page.read_text().replace("<!-- end: make one -->", ""))
    with pytest.raises(SystemExit, match="without the other"):
        peers.report.write_part(page, "make one", ["5"])
