"""The Python blocks of the README and the user guide run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/operators.md"])
def test_python_blocks_run(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S)
    assert blocks
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_the_guide_shows_the_error_as_it_is(tmp_path: Path) -> None:
    text = (ROOT / "docs/guide.md").read_text()
    shown = re.search(r"^```\n(ALK2001.*?)^```", text, re.M | re.S)
    assert shown
    script = tmp_path / "guide.py"
    # The same function on the same row, at the line that the guide names.
    script.write_text(
        "import alink as al; import pyarrow as pa\n"
        "def reciprocal(x):\n"
        "    return 1 / (x - 3)\n"
        'f = al.udf("double")(reciprocal)\n'
        't = al.from_arrow(pa.table({"x": [1.0, 3.0]}))\n'
        "try:\n"
        '    t.with_columns(r=f("x")).to_arrow()\n'
        "except al.UdfError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    got = done.stdout.replace(str(script), "guide.py")
    if sys.version_info < (3, 11):  # without columns of code there is no caret
        expected = "".join(line for line in shown[1].splitlines(True) if "^" not in line)
    else:
        expected = shown[1]
    assert got == expected, done.stderr
