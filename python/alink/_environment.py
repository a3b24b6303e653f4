"""Dependency environments of functions."""

from __future__ import annotations

import functools
import os
import re
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from alink import _codes as codes
from alink._diag import quote
from alink._errors import failure
from alink._index import read_indexes
from alink._options import bad_option, refuse_unknown
from alink._origin import user_origin
from alink._placed import (
    FileArtifact,
    placed_files,
    placed_wheels,
    read_lock,
    read_requirements,
)
from alink._script import Header, check_python, read_header

_Path = str | os.PathLike[str]
_Files = Sequence[_Path] | Mapping[str, _Path]

_PYTHON = re.compile(r"3\.(\d+)(?:\.\d+)?")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_OPTIONS = (
    "python", "requirements", "lock", "wheels", "files", "archives", "variables", "index", "path",
    "source_builds",
)  # fmt: skip
_PUBLIC_INDEX = "https://pypi.org/simple"
_PROBE_TIMEOUT_S = 20


class Environment:
    """The Python and the packages that functions run with.

    Equal environments are one on disk: it is built once, when a job first needs it, and
    used by every job after that. Functions of one job may use conflicting versions.

    Parameters
    ----------
    python : str, optional
        Version of Python, for example "3.11". The default is the client's.
    requirements : sequence of str, or path, default ()
        Requirements as pip and uv read them, for example "numpy==2.2.*"; or the path of a
        file of them, which may take in others with ``-r``.
    lock : path, optional
        A lock file that says exactly what is installed: a requirements file with a version
        and hashes in each line, or a ``pylock.toml``. It excludes `requirements`. What the
        worker itself needs and the lock does not have is added, in versions that fit.
    wheels : sequence of path, default ()
        Local wheels, which are installed with the rest.
    files : sequence of path, or mapping of str to path, default ()
        Files and folders for the functions, read-only, in the folder that the variable
        ``ALINK_FILES`` names in a worker: under their own names, or under those of the mapping.
    archives : sequence of path, or mapping of str to path, default ()
        Archives (.zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.zst) that are unpacked there, each
        into a folder of its name without the ending.
    variables : mapping of str to str, optional
        Environment variables of the workers.
    index : str or sequence of str, default ()
        URLs of the package indexes that are asked, in this order, and no others. A login
        stands in the URL, best as variables of this program:
        ``"https://user:${TOKEN}@host/simple"``. It is sent to the builder alone.
    path : path, optional
        An existing environment (its folder, or its Python), which is used as it is: nothing is
        installed into it. On a server the path is one of the server's.
    source_builds : bool, default False
        Whether packages without a wheel are built from source, which runs their code. The
        engine must allow it too.

    Raises
    ------
    PlanError
        If an option has a value that it cannot take.
    EnvironmentBuildError
        If a file that it names cannot be used.

    Examples
    --------
    >>> import alink as al
    >>> al.Environment(requirements=["holidays==0.80"])
    alink.Environment(requirements=['holidays==0.80'])
    >>> al.Environment(index="https://me:${TOKEN}@packages.example/simple")
    alink.Environment(index=['https://packages.example/simple'])
    """

    __slots__ = (
        "_archives", "_files", "_index", "_lock", "_path", "_python", "_requirements",
        "_source_builds", "_variables", "_wheels",
    )  # fmt: skip

    def __init__(
        self,
        *,
        python: str | None = None,
        requirements: Sequence[str] | str | os.PathLike[str] = (),
        lock: str | os.PathLike[str] | None = None,
        wheels: Sequence[str | os.PathLike[str]] = (),
        files: _Files = (),
        archives: _Files = (),
        variables: Mapping[str, str] | None = None,
        index: str | Sequence[str] = (),
        path: str | os.PathLike[str] | None = None,
        source_builds: bool = False,
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown("Environment", unknown, _OPTIONS)
        if python is not None and not (isinstance(python, str) and _PYTHON.fullmatch(python)):
            raise bad_option(
                "Environment",
                f"Environment: python must be a version, not {python!r}",
                'write it as "3.11"',
            )
        self._python = python
        self._requirements = _requirements(requirements)
        self._lock = None if lock is None else read_lock(lock)
        self._wheels = placed_wheels(wheels)
        self._files = placed_files("files", files)
        self._archives = placed_files("archives", archives)
        self._variables = _variables(variables)
        self._index = read_indexes(index)
        self._path = None if path is None else _prebuilt(path)
        self._source_builds = source_builds
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options that contradict each other."""
        if not isinstance(self._source_builds, bool):
            raise bad_option(
                "Environment",
                "Environment: source_builds must be True or False, "
                f"not {self._source_builds!r:.80}",
            )
        if self._lock is not None and self._requirements:
            raise bad_option(
                "Environment",
                "Environment: lock and requirements exclude each other",
                "a lock file says all that is installed: lock the requirements too",
            )
        building = ("requirements", "lock", "wheels", "index", "source_builds")
        if self._path is not None and (
            given := [name for name in building if getattr(self, f"_{name}")]
        ):
            raise bad_option(
                "Environment",
                f"Environment: path and {given[0]} exclude each other",
                "an environment that is there is used as it is: install into it what it lacks",
            )

    @classmethod
    def from_script(cls, path: str | os.PathLike[str]) -> Environment:
        """Make the environment that a script's header describes (PEP 723).

        Functions without ``env=`` of a script that has such a header run in it without
        being told to. A requirement of alink itself is left out.

        Parameters
        ----------
        path : str or path-like
            The script.

        Raises
        ------
        PlanError
            If it has no header, or one that cannot be read (ALK5040).
        """
        header = read_header(Path(path))
        if header is None:
            raise failure(
                codes.BAD_SCRIPT_HEADER,
                f"{quote(os.fspath(path))} has no header that says what it requires",
                source=user_origin(),
                hint='begin it with "# /// script", "# dependencies = [...]" and "# ///"',
            )
        check_python(Path(path), header)
        return cls(requirements=header.requirements, index=_header_indexes(header))

    @property
    def python(self) -> str | None:
        """The version of Python that was asked for; None is the client's."""
        return self._python

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements, as they were given."""
        return self._requirements

    @property
    def path(self) -> str | None:
        """The existing environment that is used as it is; None is one that is built."""
        return self._path

    def with_library(self, library: str) -> Environment:
        """Give this environment with a package that a kind of function needs.

        It is this one where it names the package, or has a list of its own that says what is
        installed.
        """
        wheels = {wheel.name.split("-", 1)[0].lower() for wheel in self._wheels}
        names = {m[1].lower() for r in self._requirements if (m := _NAME.match(r))}
        if self._path is not None or self._lock is not None or library in names | wheels:
            return self
        copy = Environment()
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        copy._requirements = (*self._requirements, library)
        return copy

    def artifacts(self) -> Iterator[tuple[str, str, FileArtifact]]:
        """Give the files that it needs: the option, the name, and what is sent."""
        for option in ("wheels", "files", "archives"):
            for placed in getattr(self, f"_{option}"):
                yield option, placed.name, placed.artifact(option)

    def to_json(self, shares_machine: bool) -> dict[str, Any]:
        """Give the plan's form, without what depends on the client's interpreter."""
        data: dict[str, Any] = {}
        if self._path is not None:
            data["interpreter"] = self._path
        if self._python is not None:
            data["python"] = self._python
        if self._requirements:
            data["requirements"] = list(self._requirements)
        if self._lock is not None:
            data["lock"] = {"name": self._lock[0], "text": self._lock[1]}
        for option, name, artifact in self.artifacts():
            data.setdefault(option, []).append({"name": name, "artifact": artifact.digest})
        if self._variables:
            data["variables"] = dict(self._variables)
        if self._index:
            data["indexes"] = [index.to_json() for index in self._index]
        if self._source_builds:
            data["source_builds"] = True
        if shares_machine and self._path is not None:
            _interpreter_of(self._path)  # says what is wrong with it
        return data

    def minor_version(self, shares_machine: bool) -> int | None:
        """Give the minor version of its Python; None is the client's."""
        if self._python is not None:
            match = _PYTHON.fullmatch(self._python)
            assert match is not None
            return int(match[1])
        if self._path is None:
            return None
        if not shares_machine:
            raise bad_option(
                "Environment",
                f"Environment: the Python at {quote(self._path)} is not known here",
                'say its version: al.Environment(path=…, python="3.11")',
            )
        return _minor_version(_interpreter_of(self._path))

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Environment):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __getstate__(self) -> dict[str, Any]:
        """Leave passwords behind: a function that refers to its environment travels."""
        state = {name: getattr(self, name) for name in self.__slots__}
        state["_index"] = tuple(index.without_credentials() for index in self._index)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        shown: dict[str, Any] = {
            "path": self._path,
            "python": self._python,
            "requirements": list(self._requirements),
            "lock": self._lock and self._lock[0],
            "wheels": [wheel.name for wheel in self._wheels],
            "files": [file.name for file in self._files],
            "archives": [archive.name for archive in self._archives],
            "variables": [name for name, _ in self._variables],  # values may be secrets
            "index": [index.shown() for index in self._index],
            "source_builds": self._source_builds,
        }
        parts = [f"{name}={value!r}" for name, value in shown.items() if value]
        return f"alink.Environment({', '.join(parts)})"


def _requirements(given: Any) -> tuple[str, ...]:
    """Check ``requirements=``; a path is read."""
    looks = isinstance(given, str) and (given.endswith((".txt", ".in")) or Path(given).is_file())
    if looks or isinstance(given, os.PathLike):
        return tuple(read_requirements(Path(os.fsdecode(given)).expanduser().absolute()))
    if isinstance(given, str) or not all(isinstance(r, str) for r in given):
        raise bad_option(
            "Environment",
            "Environment: requirements must be a list of strings, or the path of a file, "
            f"not {given!r}",
            f"write [{given!r}]" if isinstance(given, str) else "",
        )
    return tuple(r.strip() for r in given)


def _variables(given: Any) -> tuple[tuple[str, str], ...]:
    """Check ``variables=``; which names a worker can have is the engine's to say."""
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in given.items()
    ):
        raise bad_option(
            "Environment",
            "Environment: variables must be a mapping of strings to strings",
            'write {"OMP_NUM_THREADS": "2"}',
        )
    return tuple(sorted(given.items()))


def _prebuilt(given: Any) -> str:
    if not isinstance(given, (str, os.PathLike)):
        raise bad_option("Environment", f"Environment: path must be a path, not {given!r:.80}")
    # Not resolved: a virtual environment's Python is a symbolic link.
    return os.path.normpath(Path(os.fsdecode(given)).expanduser().absolute())


def _interpreter_of(path: str) -> Path:
    """Find the Python of an environment on this machine."""
    given = Path(path)
    hint = "give the folder that python -m venv or uv venv made, or the path of a Python"
    cause = ""
    try:
        python = given / "bin" / "python" if given.is_dir() else given
        if python.is_file() and os.access(python, os.X_OK):
            return python
        what = "is not an environment of Python" if given.is_dir() else "does not exist"
        if given.is_file():
            what = "cannot be executed"
    except PermissionError as error:  # a folder above it, or above what its Python links to
        what, cause = "cannot be used by this user", str(error)
        hint = "use an interpreter that this user may read, or open the folders above it"
    raise failure(
        codes.NO_INTERPRETER,
        f"{quote(path)} {what}",
        source=user_origin(),
        cause=cause,
        hint=hint,
    )


def _minor_version(python: Path) -> int:
    stat = python.stat()
    return _asked_minor_version(str(python), stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(64)
def _asked_minor_version(python: str, mtime_ns: int, inode: int) -> int:
    """Ask a Python for its minor version; the other arguments tell a changed one."""
    program = "import sys; print(sys.version_info[0], sys.version_info[1])"
    command = [python, "-I", "-S", "-c", program]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, timeout=_PROBE_TIMEOUT_S)
        major, minor = map(int, answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise failure(
            codes.NO_INTERPRETER,
            f"{quote(python)} does not answer as a Python does",
            source=user_origin(),
            cause=str(error),
            hint="give the folder that python -m venv or uv venv made, or the path of a Python",
        ) from None
    return minor if major == sys.version_info.major else -1


def _header_indexes(header: Header) -> list[str]:
    """Give the indexes of a header as uv asks them: the public one last, unless it is replaced."""
    if not header.indexes:
        return []
    first = [url for url, default in header.indexes if not default]
    last = [url for url, default in header.indexes if default]
    return [*first, *(last or [_PUBLIC_INDEX])]


def runs_client_bytecode(environment: Environment | None, shares_machine: bool = True) -> bool:
    """Tell whether an environment's Python has the minor version of the client's.

    Byte code, and so a pickled function, is only valid within one minor version.
    """
    if environment is None:
        return True
    return environment.minor_version(shares_machine) in (None, sys.version_info.minor)


# Whether a function has been defined that runs with the client's own interpreter.
_default_wanted = False


def note_function(environment: Environment | None) -> None:
    """Note that a function of an environment has been defined."""
    global _default_wanted
    _default_wanted = _default_wanted or environment is None


def environment_to_warm() -> dict[str, Any] | None:
    """Give the environment in which an engine should start a worker ahead of the first job."""
    if not _default_wanted or not sys.executable or _script_environment() is not None:
        return None  # an environment that has to be built first is no head start
    return environment_json(None)


def environment_json(
    environment: Environment | None, shares_machine: bool = True, library: str = ""
) -> dict[str, Any]:
    """Give the plan's form of an environment; None is the default one.

    That is what the running script's header asks for, or the client's own interpreter. An
    engine that does not share the machine builds one for the client's version of Python,
    with the `library` that a kind of function needs.
    """
    if environment is None:
        environment = _script_environment()
    if not shares_machine:
        return _environment_elsewhere(environment, library)
    if environment is None:
        data: dict[str, Any] = {"interpreter": _interpreter()}
        if paths := _hidden_paths():
            data["paths"] = paths
        return data
    data = environment.to_json(shares_machine)
    if environment.path is None:
        data["base_interpreter"] = _interpreter()
    return data


def environment_artifacts(environment: Environment | None) -> Iterator[FileArtifact]:
    """Give the files that the engine must have before the job starts."""
    if environment is not None:
        yield from (artifact for _, _, artifact in environment.artifacts())


def _environment_elsewhere(environment: Environment | None, library: str) -> dict[str, Any]:
    """Give the form of an environment on a machine that lacks the client's interpreter."""
    if environment is None:
        environment = Environment(requirements=[library] if library in ("pandas", "polars") else ())
    data = environment.to_json(shares_machine=False)
    if environment.path is None:
        data.setdefault("python", f"3.{sys.version_info.minor}")
    return data


def _script_environment() -> Environment | None:
    """Give the environment of the running script's header, if it asks for packages."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if path is None else _environment_of(os.path.realpath(path))


@functools.lru_cache(1)
def _environment_of(path: str) -> Environment | None:
    header = read_header(Path(path))
    if header is None:
        return None
    check_python(Path(path), header)
    if not header.requirements:
        return None
    return Environment(requirements=header.requirements, index=_header_indexes(header))


def _interpreter() -> str:
    if sys.executable:
        # Not resolved: a virtual environment's Python is a symbolic link.
        return str(Path(sys.executable).absolute())
    raise failure(
        codes.NO_INTERPRETER,
        "this Python does not know its own executable, which functions would run with",
        hint="give the functions an environment: al.Environment(requirements=[…])",
    )


def _hidden_paths() -> list[str]:
    """Package folders of sys.path that the isolated interpreter (-I) does not look at.

    These are the user site and what PYTHONPATH names. Folders of the user's own modules
    are not among them: those modules travel with the functions (`alink._ship`).
    """
    own = {os.path.realpath(path) for path in site.getsitepackages()}
    found: list[str] = []
    for entry in sys.path:
        path = Path(entry or os.curdir)
        if path.name not in ("site-packages", "dist-packages") or not path.is_dir():
            continue
        if os.path.realpath(path) not in own and str(path) not in found:
            found.append(str(path))
    return found
