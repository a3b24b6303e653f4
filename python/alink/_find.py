"""Where the engine's binary is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from alink import _codes as codes
from alink._errors import failure

_NAME = "pyrunner.exe" if sys.platform == "win32" else "pyrunner"


def find_pyrunner() -> str:
    """Find the engine's binary.

    Looked for, in this order: what ``ALINK_PYRUNNER`` names; ``bin/`` of the checkout that
    the package lies in; the folders that a wheel installs scripts to: the interpreter's, the
    one that belongs to the package's own folder (another prefix, ``--target``), the user's;
    ``PATH``.

    Raises
    ------
    ConnectionLost
        If it is in none of them (ALK5005), or this Python runs on musl, for which there is
        none; the message lists where it was looked for.
    """
    if named := os.environ.get("ALINK_PYRUNNER"):
        if _is_executable(Path(named)):
            return str(Path(named).absolute())
        raise failure(
            codes.ENGINE_NOT_FOUND,
            f"ALINK_PYRUNNER names {named}, which is not an executable file",
            hint="unset ALINK_PYRUNNER to have the engine found by itself",
        )
    _refuse_musl()
    looked: list[str] = []
    for folder in _folders():
        candidate = folder / _NAME
        if str(candidate) in looked:
            continue
        if _is_executable(candidate):
            return str(candidate)
        looked.append(str(candidate))
    if found := shutil.which(_NAME):
        return str(Path(found).absolute())
    raise failure(
        codes.ENGINE_NOT_FOUND,
        "the engine's binary pyrunner was not found",
        facts=(*(f"looked for {path}" for path in looked), "looked on PATH"),
        hint="install alink from a wheel, which has it inside; in a checkout run make build; "
        "or let ALINK_PYRUNNER name its path",
    )


def _folders() -> Iterator[Path]:
    import sysconfig

    package = Path(__file__).resolve().parent
    # python/alink/ of a checkout; an installed package has no go.mod two folders up.
    checkout = package.parent.parent
    if (checkout / "go.mod").is_file():
        yield checkout / "bin"
    yield Path(sysconfig.get_path("scripts"))
    # PREFIX/lib/python3.X/site-packages/alink, of a prefix that is not the interpreter's:
    # pip install --prefix, an environment whose packages are on PYTHONPATH.
    if package.parent.name in ("site-packages", "dist-packages"):
        yield package.parents[3] / "bin"
    yield package.parent / "bin"  # pip install --target
    yield Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    yield Path(sys.prefix) / "bin"


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _refuse_musl() -> None:
    if sys.platform != "linux" or _c_library().startswith("glibc"):
        return
    raise failure(
        codes.ENGINE_NOT_FOUND,
        "there is no engine for this system: its C library is not glibc (Alpine has musl)",
        hint="use a system with glibc 2.34 or later, such as Debian 12, Ubuntu 22.04 or RHEL 9",
    )


def _c_library() -> str:
    """Give name and version of glibc, "" for another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""
