"""Programs of PyAlink, unchanged, as scripts and as notebooks."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .conftest import PACKAGE_PARENT

FOLDER = Path(__file__).with_name("programs")
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py"))
TIMEOUT_S = 180


def _source(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def _expected(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture
def environment(pyrunner: str, tmp_path: Path) -> dict[str, str]:
    """Programs import this alink, and write where they run."""
    del pyrunner
    found = {**os.environ, "PYTHONPATH": PACKAGE_PARENT, "NO_COLOR": "1"}
    found["IPYTHONDIR"] = str(tmp_path / "ipython")
    found["JUPYTER_RUNTIME_DIR"] = str(tmp_path / "runtime")
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_a_script(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == _expected(name)


def test_as_notebooks(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other in one kernel, which is the longest to start."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    cells = [(name, cell) for name in PROGRAMS for cell in _source(name).split("# %%\n")]
    notebook = new_notebook(cells=[new_code_cell(cell) for _, cell in cells])
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises where a cell does
    shown: dict[str, list[Any]] = {name: [] for name in PROGRAMS}
    for (name, _), cell in zip(cells, notebook.cells, strict=True):
        shown[name] += cell.outputs
    for name, outputs in shown.items():
        words = " ".join(map(_text, outputs)).split()
        assert sorted(words) == sorted(_expected(name).split()), name
        assert any("<table" in _html(output) for output in outputs), "rows are shown as HTML"


def _html(output: Any) -> str:
    content = output.get("data", {}).get("text/html", "")
    return content if "dataframe" in content else ""  # jobs show their progress too


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return output.text
    return html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", _html(output), flags=re.S))
