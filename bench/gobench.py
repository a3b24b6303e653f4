"""Benchmarks that are written in Go, run from here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def compiled(folder: Path, package: str) -> Path:
    """Build the tests of a package into a program."""
    program = folder / f"{Path(package).name}.test"
    command = [os.environ.get("GO", "go"), "test", "-c", "-o", str(program), package]
    subprocess.run(command, check=True, cwd=ROOT)
    return program


def printed(program: Path, pattern: str, times: int) -> str:
    """Run benchmarks so many times each, and give what they print."""
    return subprocess.run(
        [str(program), "-test.run=^$", f"-test.bench={pattern}", f"-test.benchtime={times}x"],
        check=True, cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"ALINK_TEST_PYTHON": sys.executable},
    ).stdout  # fmt: skip
