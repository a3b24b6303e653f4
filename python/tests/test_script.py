"""Scripts that say in a header (PEP 723) what their functions need."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alink as al
from alink._environment import environment_json
from alink._script import _satisfies, read_header

HEADER = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "alink",
#   "six==1.16.0",  # a comment
# ]
# ///
"""


def test_requirements_of_the_header(tmp_path):
    script = tmp_path / "a script.py"
    script.write_text(HEADER + "import alink\n")
    assert al.Environment.from_script(script) == al.Environment(requirements=["six==1.16.0"])
    script.write_text(HEADER.replace("\n", "\r\n"), newline="")
    assert al.Environment.from_script(script) == al.Environment(requirements=["six==1.16.0"])


def test_no_header(tmp_path):
    script = tmp_path / "plain.py"
    script.write_text("# /// other\n# x = 1\n# ///\nprint(1)\n")
    assert read_header(script) is None
    assert read_header(tmp_path / "nothing.py") is None
    with pytest.raises(al.PlanError, match=r"ALK5040.*plain\.py.*no header"):
        al.Environment.from_script(script)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("# /// script\n# dependencies = []\n", "has no end"),
        ("# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n", "more than once"),
        ("# /// script\n# dependencies = [\n# ///\n", "is not TOML"),
        ('# /// script\n# dependencies = "six"\n# ///\n', "must be a list of strings"),
        ("# /// script\n# requires-python = 3\n# ///\n", "must be a string"),
        ('# /// script\n# requires-python = ">=4"\n# ///\n', "is not met by this Python"),
        ('# /// script\n# requires-python = "new"\n# ///\n', "cannot be read"),
        ('# /// script\n# [tool.uv.sources]\n# a = "b"\n# ///\n', r"\[tool.uv\] sources"),
        ('# /// script\n# [tool.uv]\n# exclude-newer = "x"\n# ///\n', r"\[tool.uv\] exclude-newer"),
        ('# /// script\n# [[tool.uv.index]]\n# name = "b"\n# ///\n', "has no url"),
        (
            '# /// script\n# [[tool.uv.index]]\n# url = "https://a"\n# explicit = true\n# ///\n',
            "explicit is not read",
        ),
    ],
)
def test_bad_headers(tmp_path, header, message):
    script = tmp_path / "bad.py"
    script.write_text(header)
    with pytest.raises(al.PlanError, match=f"ALK5040.*{message}") as caught:
        al.Environment.from_script(script)
    assert len(str(caught.value).splitlines()) <= 15


@pytest.mark.parametrize(
    ("operator", "version", "star", "met"),
    [
        (">=", "3.11", None, True),
        (">", "3.11.4", None, False),
        ("<", "3.12", None, True),
        ("<=", "3.11", None, False),
        ("==", "3.11", ".*", True),
        ("==", "3.11", None, False),
        ("!=", "3.11", ".*", False),
        ("~=", "3.10", None, True),
        ("~=", "3.10.1", None, False),
    ],
)
def test_versions(operator, version, star, met):
    assert _satisfies((3, 11, 4), operator, version, star) is met


def test_indexes_of_the_header(tmp_path):
    script = tmp_path / "script.py"
    index = '[[tool.uv.index]]\n# name = "mine"\n# url = "https://u:s3cr3t@host/simple"\n'
    script.write_text(HEADER.removesuffix("# ///\n") + f"#\n# {index}# ///\n")
    environment = al.Environment.from_script(script)
    assert environment == al.Environment(
        requirements=["six==1.16.0"],
        index=["https://u:s3cr3t@host/simple", "https://pypi.org/simple"],
    )
    assert "s3cr3t" not in repr(environment)
    script.write_text(script.read_text().replace("# ///\n", "# default = true\n# ///\n"))
    assert al.Environment.from_script(script) == al.Environment(
        requirements=["six==1.16.0"], index="https://u:s3cr3t@host/simple"
    )


def test_functions_of_the_script_run_with_its_requirements(pyrunner, script_environment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        HEADER + "import alink as al, pyarrow as pa\n"
        "@al.udf('string')\n"
        "def version(x):\n"
        "    import six\n"
        "    return six.__version__\n"
        "t = al.from_arrow(pa.table({'x': [1]}))\n"
        "print(t.select(v=version('x')).to_arrow()['v'][0])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        env=script_environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout == "1.16.0\n", done.stderr


def test_without_a_header_it_is_the_clients_interpreter():
    assert environment_json(None)["interpreter"]
