"""Where the engine's binary is."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from alink import _codes as codes
from alink._errors import failure

_NAME = "pyrunner" + (sysconfig.get_config_var("EXE") or "")


def find_pyrunner() -> str:
    """Find the engine's binary.

    Looked for, in this order: what ``ALINK_PYRUNNER`` names, the scripts folder that the
    wheel installs to, beside the package, ``bin/`` of the repository, the user's scripts
    folder, ``PATH``.

    Raises
    ------
    ConnectionLost
        If it is in none of them (ALK5005); the message lists where it was looked for.
    """
    if named := os.environ.get("ALINK_PYRUNNER"):
        if _is_executable(Path(named)):
            return str(Path(named).absolute())
        raise failure(
            codes.ENGINE_NOT_FOUND,
            f"ALINK_PYRUNNER names {named}, which is not an executable file",
            hint="unset ALINK_PYRUNNER to have the engine found by itself",
        )
    looked: list[str] = []
    for folder in _folders():
        candidate = folder / _NAME
        if _is_executable(candidate):
            return str(candidate)
        looked.append(str(candidate))
    if found := shutil.which(_NAME):
        return str(Path(found).absolute())
    raise failure(
        codes.ENGINE_NOT_FOUND,
        "the engine's binary pyrunner was not found",
        facts=(*(f"looked for {path}" for path in looked), "looked on PATH"),
        hint="in a checkout run make build, or let ALINK_PYRUNNER name its path",
    )


def _folders() -> Iterator[Path]:
    package = Path(__file__).resolve().parent
    yield Path(sysconfig.get_path("scripts"))
    yield package
    # python/alink/ of a checkout; an installed package has no go.mod two folders up.
    repository = package.parent.parent
    if (repository / "go.mod").is_file():
        yield repository / "bin"
    scheme = sysconfig.get_preferred_scheme("user")
    yield Path(sysconfig.get_path("scripts", scheme))
    yield Path(sys.prefix) / "bin"


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
