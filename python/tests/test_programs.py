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

from alink.operators._define import BUILT

from .conftest import PACKAGE_PARENT

FOLDER = Path(__file__).with_name("programs")
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py"))
TIMEOUT_S = 180
_NAME = re.compile(r"\b[A-Z]\w*(?:BatchOp|StreamOp)\b")


def _source(name: str) -> str:
    """Read a program; it is skipped where it needs what is not built yet."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    if missing := sorted(set(_NAME.findall(text)) - BUILT.keys()):
        pytest.skip(f"not built yet: {', '.join(missing)}")
    return text


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
    _source(name)
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


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_a_notebook(
    name: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = _source(name).split("# %%\n")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises where a cell does
    shown = [output for cell in notebook.cells for output in cell.outputs]
    words = " ".join(map(_text, shown)).split()
    assert sorted(words) == sorted(_expected(name).split())
    tables = [_html(output) for output in shown]
    assert any("<table" in table for table in tables), "print shows rows as HTML"


def _html(output: Any) -> str:
    content = output.get("data", {}).get("text/html", "")
    return content if "dataframe" in content else ""  # jobs show their progress too


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return output.text
    return html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", _html(output), flags=re.S))
