"""Settings: variables of the environment, then the file of the working directory.

Variables are read here; a file is read by ``pyrunner config``, so that there is one reader of
TOML and of its faults. It is only asked where there is a file with settings.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from alink import _codes as codes
from alink._errors import failure
from alink._find import find_pyrunner
from alink._settings import SETTINGS

_OWN_FILE, _PROJECT_FILE = "alink.toml", "pyproject.toml"
# What may begin the table [tool.alink]; whether it does, pyrunner tells.
_PERHAPS = re.compile(
    r"""^\s*(\[\s*["']?tool["']?\s*(\]|\.\s*["']?alink["']?\s*[].])|["']?tool["']?\s*[.=])""",
    re.MULTILINE,
)
_TIMEOUT_S = 30.0

# The file's settings by what identifies its content: path, size, time.
_read: dict[tuple[str, int, int], dict[str, str]] = {}


def setting(name: str) -> str | None:
    """Give a setting as a text; None where nobody has set it.

    Raises
    ------
    PlanError
        If the file of the working directory has a fault (ALK5030).
    """
    variable = SETTINGS[name][0]
    return os.environ.get(variable) or _from_file().get(name)


def switch(name: str) -> bool:
    """Give a setting that is true or false; False where nobody has set it.

    Raises
    ------
    PlanError
        If it is neither (ALK5030).
    """
    text = (setting(name) or "false").lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise failure(
        codes.BAD_SETTING, f"{origin(name)} must be true or false, not {json.dumps(setting(name))}"
    )


def choice(name: str) -> str | None:
    """Give a setting that is one of a few words; None where nobody has set it.

    Raises
    ------
    PlanError
        If it is another word (ALK5030).
    """
    text = setting(name)
    *others, last = choices = SETTINGS[name][2]
    if text is None or text in choices:
        return text
    expected = f"{', '.join(others)} or {last}"
    raise failure(codes.BAD_SETTING, f"{origin(name)} must be {expected}, not {json.dumps(text)}")


def origin(name: str) -> str:
    """Name a setting as the user knows it, for messages."""
    variable = SETTINGS[name][0]
    return variable if os.environ.get(variable) else name


def _from_file() -> dict[str, str]:
    for path in (Path(_OWN_FILE), Path(_PROJECT_FILE)):
        try:
            stat = path.stat()
            if path.name == _PROJECT_FILE and not _PERHAPS.search(path.read_text("utf-8")):
                continue
        except (OSError, UnicodeDecodeError):  # not there, or nothing that has settings
            continue
        key = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
        if key not in _read:
            _read[key] = _ask()
        return _read[key]
    return {}


def _ask() -> dict[str, str]:
    command = [find_pyrunner(), "config", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode == 0:
        listed = json.loads(done.stdout)["settings"]
        return {s["name"]: s["value"] for s in listed if ".toml:" in s["origin"]}
    first, _, rest = done.stderr.strip().partition("\n")
    raise failure(codes.BAD_SETTING, first.removeprefix(f"{codes.BAD_SETTING}: "), cause=rest)
