"""Files that a user names in an environment: wheels, files, archives, lists of requirements.

They are looked for when the environment is made, so that a wrong name is told there, and read
when a plan is: what has changed since is another file.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alink import _codes as codes
from alink._diag import quote
from alink._errors import Error, failure
from alink._options import bad_option
from alink._origin import user_origin

FILES_MAX = 1_000  # files, after folders have been looked into
FILE_BYTES_MAX = 2**30  # of one file
TEXT_BYTES_MAX = 8 * 2**20  # of a list of requirements or a lock file
INCLUDES_MAX = 20  # lists of requirements that one takes in with -r

_BLOCK = 2**20


@dataclass(frozen=True)
class Placed:
    """A file, and the name that an environment has it under."""

    name: str
    path: Path

    def artifact(self, what: str) -> FileArtifact:
        """Give what is sent of it; `what` names the option."""
        try:
            stat = self.path.stat()
            if stat.st_size > FILE_BYTES_MAX:
                raise _bad_file(
                    f"{what}: {quote(str(self.path))} has {stat.st_size:,} bytes; "
                    f"a file of an environment may have {FILE_BYTES_MAX:,}",
                    "put it where workers can read it, and give the function its folder: mounts=",
                )
            digest = _digest(self.path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        except OSError as error:
            raise _bad_file(
                f"{what}: {quote(str(self.path))} cannot be read", cause=str(error)
            ) from None
        return FileArtifact(self.path, digest)


@dataclass(frozen=True)
class FileArtifact:
    """The bytes of a file, which are read when they are sent."""

    path: Path
    digest: str

    @property
    def data(self) -> bytes:
        """The content; an error if it is no longer the one that the plan means."""
        data = self.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise _bad_file(
                f"{quote(str(self.path))} has changed while the job was being sent",
                "run the job again when nobody writes the file",
            )
        return data


@functools.lru_cache(FILES_MAX)
def _digest(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Hash a file's content; the other arguments tell a changed file from the one before."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def placed_wheels(given: Any) -> tuple[Placed, ...]:
    """Check ``wheels=``: paths of wheels."""
    wheels = tuple(Placed(path.name, path) for path in _paths("wheels", given))
    for wheel in wheels:
        _check_file("wheels", wheel.path)
        if wheel.path.suffix != ".whl":
            raise _bad_file(
                f"wheels: {quote(str(wheel.path))} is not a wheel",
                "a wheel is called name-1.0-py3-none-any.whl; make one with: uv build --wheel",
            )
    return wheels


def placed_files(option: str, given: Any) -> tuple[Placed, ...]:
    """Check ``files=`` or ``archives=``: paths, or names within the environment to paths."""
    if isinstance(given, Mapping):
        named = {str(name): _path(option, path) for name, path in given.items()}
    else:
        named = {}
        for path in _paths(option, given):
            if path.name in named:
                raise _bad_file(
                    f"{option}: two files are called {quote(path.name)}",
                    f'give them names: {option}={{"other/{path.name}": "{path}"}}',
                )
            named[path.name] = path
    found: list[Placed] = []
    for name, path in named.items():
        if option == "files" and path.is_dir():
            found += (Placed(f"{name}/{inside}", file) for inside, file in _walk(path))
        else:
            _check_file(option, path)
            found.append(Placed(name, path))
        if len(found) > FILES_MAX:
            raise _bad_file(
                f"{option}: there are more than {FILES_MAX:,} files",
                "make an archive of them: archives=[…]",
            )
    return tuple(sorted(found, key=lambda placed: placed.name))


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(base, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _paths(option: str, given: Any) -> list[Path]:
    if isinstance(given, (str, os.PathLike)) or not isinstance(given, Sequence):
        raise bad_option(
            "Environment",
            f"Environment: {option} must be a list of paths, not {given!r:.80}",
            f"write [{given!r}]" if isinstance(given, str) else "",
        )
    return [_path(option, path) for path in given]


def _path(option: str, given: Any) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise bad_option("Environment", f"Environment: {option}: {given!r:.80} is not a path")
    return Path(os.fsdecode(given)).expanduser().absolute()


def _check_file(option: str, path: Path) -> None:
    if path.is_file():
        return
    hint = "make an archive of the folder, or give it with files=" if path.is_dir() else ""
    what = "is a folder" if path.is_dir() else "does not exist"
    raise _bad_file(f"{option}: {quote(str(path))} {what}", hint)


def _bad_file(message: str, hint: str = "", cause: str = "") -> Error:
    return failure(codes.BAD_FILE, message, source=user_origin(), hint=hint, cause=cause)


# --- lists of requirements and lock files ---


def read_lock(given: Any) -> tuple[str, str]:
    """Read ``lock=``: the name of the file, which tells its format, and its text."""
    path = _path("lock", given)
    return path.name, _read_text("lock", path)


def read_requirements(path: Path) -> list[str]:
    """Read a list of requirements, and those that it takes in with ``-r``."""
    return list(_requirement_lines(path, []))


def _requirement_lines(path: Path, within: list[Path]) -> Iterator[str]:
    if path in within or len(within) > INCLUDES_MAX:
        raise bad_option("Environment", f"Environment: {quote(str(path))} takes itself in with -r")
    text = _read_text("requirements", path).replace("\\\n", " ")
    for number, line in enumerate(text.split("\n"), start=1):
        requirement = f" {line}".split(" #", 1)[0].strip()
        option, _, rest = requirement.partition(" ")
        if option in ("-r", "--requirement"):
            yield from _requirement_lines(path.parent / rest.strip(), [*within, path])
        elif requirement.startswith("-") or " --" in requirement:
            raise _refused_option(path, number, requirement)
        elif requirement:
            yield requirement


def _refused_option(path: Path, number: int, line: str) -> Error:
    name = next(word for word in line.split() if word.startswith("-")).split("=")[0]
    hints = {
        "--hash": "a list with hashes is a lock file: lock=",
        "-e": "modules of editable installs travel with the functions that use them",
        "-c": "put the versions into the requirements themselves",
        "--find-links": "give local wheels with wheels=",
    }
    same = {"--editable": "-e", "--constraint": "-c", "-f": "--find-links"}
    hint = hints.get(same.get(name, name), "")
    if name in ("-i", "--index-url", "--extra-index-url", "--no-index"):
        hint = 'name the index in the environment: index="https://host/simple"'
    return bad_option(
        "Environment",
        f"Environment: line {number} of {quote(path.name)} has the option {name}",
        hint or "leave it out",
    )


def _read_text(option: str, path: Path) -> str:
    code = codes.BAD_LOCK if option == "lock" else codes.BAD_FILE
    try:
        if path.stat().st_size > TEXT_BYTES_MAX:
            cause = f"it has more than {TEXT_BYTES_MAX:,} bytes"
        else:
            return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = str(error)
    message = f"{option}: {quote(str(path))} cannot be read"
    raise failure(code, message, source=user_origin(), cause=cause) from None
