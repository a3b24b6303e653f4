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
import numpy as np
import pandas as pd
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


def _numbers(line: str) -> list[float]:
    return [float(text) for text in re.findall(r"-?\d+\.\d+", line)]


def test_the_regression_is_that_of_least_squares() -> None:
    """What the program prints follows from its rows, which stand in it."""
    rows = np.array(re.findall(r"\[(\d+\.\d), (\d), (\d+\.\d)\]", _source("regression")), float)
    design = np.column_stack((np.ones(len(rows)), rows[:, :2]))
    at, residual, _, _ = np.linalg.lstsq(design, rows[:, 2], rcond=None)
    errors = rows[:, 2] - design @ at
    r2 = 1 - residual[0] / ((rows[:, 2] - rows[:, 2].mean()) ** 2).sum()
    lines = _expected("regression").splitlines()
    assert np.allclose(_numbers(lines[0]), at, atol=1e-4)
    known = [r2, np.sqrt((errors**2).mean()), np.abs(errors).mean()]
    assert np.allclose(_numbers(lines[1]), known, atol=1e-4)
    predicted = [_numbers(line)[-1] for line in lines[3:]]
    assert np.allclose(predicted, [at @ [1, 70, 2], at @ [1, 95, 3]], atol=1e-5)


def test_the_groups_are_those_of_pandas() -> None:
    found = re.findall(r'\["(\w+)", "([\d :-]+)", ([\d.]+)\]', _source("times"))
    frame = pd.DataFrame(found, columns=["who", "at", "amount"]).astype({"amount": float})
    grouped = frame.groupby("who").agg(n=("at", "size"), at=("at", "max"), s=("amount", "sum"))
    lines = _expected("times").splitlines()
    for line, (who, row) in zip(lines[1:4], grouped.iterrows(), strict=True):
        assert line.split() == [line[0], str(who), str(row.n), *row["at"].split(), str(row.s)]
    means = frame.groupby("who").amount.mean().nlargest(2)
    shown = {line.split()[1]: float(line.split()[2]) for line in lines[5:7]}
    assert shown == pytest.approx(means.to_dict(), abs=1e-6)
    assert lines[7] == str((frame.who == "cem").sum())


def test_the_values_of_cells_are_those_of_numpy() -> None:
    lines = _expected("tables").splitlines()
    assert lines[0] == f"{np.linalg.norm([3.0, 0.0, 4.0])} 2 {4.0 * 2.0}"
    solved = np.linalg.solve([[2.0, 1.0], [1.0, 3.0]], [3.0, 5.0])
    assert lines[1] == f"{solved.round(6).tolist()} 5.0"
    sums = np.arange(6.0).reshape(2, 3).sum(axis=0)
    assert lines[2] == f"FloatTensor [2, 3] {sums.tolist()}"
    mean = (2.0 + 6.0) / 2
    assert lines[3:5] == [f"['b', 'c', 'a'] {mean} 3", f"[9, {mean}, 'z']"]
