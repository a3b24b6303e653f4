"""The header in which a script says what it needs (PEP 723, "inline script metadata")."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alink._diag import Source
from alink._errors import Error, failure

_BLOCK = re.compile(
    r"^# /// (?P<kind>[a-zA-Z0-9-]+)[ \t]*\n(?P<body>(?:^#(?:| .*)\n)+?)^# ///[ \t]*$", re.MULTILINE
)
_OPENING = re.compile(r"^# /// script[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_CLAUSE = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*")
# What of [tool.uv] is read, or says nothing about packages.
_UV_KEYS = ("index", "package", "managed", "required-version", "cache-keys")
_READ_MAX = 2**20  # a header stands near the top


@dataclass(frozen=True)
class Header:
    """What a script's header says.

    Parameters
    ----------
    requirements : tuple of str
        The packages, without alink itself: functions need none of it.
    requires_python : str
        The versions of Python that the script wants, or "".
    indexes : tuple of (str, bool)
        The URLs of uv's package indexes, and whether one is asked in the public one's place.
    """

    requirements: tuple[str, ...]
    requires_python: str
    indexes: tuple[tuple[str, bool], ...] = ()


def read_header(path: Path) -> Header | None:
    """Read the header of a script; None if it has none or cannot be read.

    Raises
    ------
    PlanError
        If there is a header that is not as PEP 723 has it.
    """
    try:
        with path.open(encoding="utf-8", errors="replace", newline=None) as file:
            text = file.read(_READ_MAX)
    except OSError:
        return None
    opening = _OPENING.search(text)
    if opening is None:
        return None
    source = Source(str(path), text.count("\n", 0, opening.start()) + 1, text=opening[0])
    blocks = [m for m in _BLOCK.finditer(text) if m["kind"] == "script"]
    if len(blocks) != 1:
        reason = "has no end" if not blocks else "stands there more than once"
        raise _refused(source, f"the script's header {reason}", 'end it with a line "# ///"')
    lines = blocks[0]["body"].splitlines(keepends=True)
    return _header(source, "".join(line[2:] if line[1:2] == " " else line[1:] for line in lines))


def _header(source: Source, text: str) -> Header:
    toml = _toml()
    try:
        data = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise _refused(source, "the script's header is not TOML", cause=str(error)) from None
    requirements = data.get("dependencies", [])
    if not isinstance(requirements, list) or not all(isinstance(r, str) for r in requirements):
        raise _refused(source, "the header's dependencies must be a list of strings")
    wanted = data.get("requires-python", "")
    if not isinstance(wanted, str):
        raise _refused(source, "the header's requires-python must be a string")
    tool = data.get("tool", {})
    uv = tool.get("uv", {}) if isinstance(tool, dict) else {}
    for key in uv if isinstance(uv, dict) else ():
        if key not in _UV_KEYS:
            raise _refused(
                source,
                f"the header's [tool.uv] {key} is not read; packages would be others than uv's",
                "give the functions an al.Environment, or leave it out",
            )
    kept = tuple(r.strip() for r in requirements if not _is_alink(r))
    return Header(kept, wanted, _indexes(source, uv))


def _indexes(source: Source, uv: Any) -> tuple[tuple[str, bool], ...]:
    """Read uv's package indexes. An URL is not repeated: it may hold a password."""
    found: list[tuple[str, bool]] = []
    indexes = uv.get("index", []) if isinstance(uv, dict) else []
    for index in indexes if isinstance(indexes, list) else [None]:
        if not isinstance(index, dict) or not isinstance(index.get("url"), str):
            raise _refused(source, "the header's [[tool.uv.index]] has no url")
        if unknown := set(index) - {"url", "name", "default"}:
            raise _refused(
                source,
                f"the header's [[tool.uv.index]] {min(unknown)} is not read",
                "give the functions an al.Environment(index=…), or leave it out",
            )
        found.append((index["url"], bool(index.get("default"))))
    return tuple(found)


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    import tomli  # pyright: ignore[reportMissingImports]

    return tomli


def _is_alink(requirement: str) -> bool:
    match = _NAME.match(requirement)
    return match is not None and match[1].lower() == "alink"


def check_python(path: Path, header: Header) -> None:
    """Refuse to run a script with a Python that it says it is not for."""
    version = sys.version_info[:3]
    for clause in filter(str.strip, header.requires_python.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None or not _satisfies(version, *match.groups()):
            running = ".".join(map(str, version))
            what = "cannot be read" if match is None else f"is not met by this Python, {running}"
            raise _refused(
                Source(str(path), 1),
                f'the header\'s requires-python "{header.requires_python}" {what}',
                "run the script with another Python, or change its header",
            )


def _satisfies(version: tuple[int, ...], operator: str, text: str, star: str | None) -> bool:
    """Compare versions as PEP 440 does, of releases only."""
    wanted = tuple(map(int, text.split(".")))
    if operator == "~=":
        return version >= wanted and version[: len(wanted) - 1] == wanted[:-1]
    padded = (*wanted, 0, 0, 0)[:3]
    equal = version[: len(wanted)] == wanted if star else version == padded
    return {
        "==": equal,
        "!=": not equal,
        "<=": version <= padded,
        ">=": version >= padded,
        "<": version < padded,
        ">": version > padded,
    }[operator]


def _refused(source: Source, message: str, hint: str = "", cause: str = "") -> Error:
    from alink import _codes as codes

    return failure(codes.BAD_SCRIPT_HEADER, message, source=source, hint=hint, cause=cause)
