"""Dependency environments of functions."""

from __future__ import annotations

import functools
import os
import re
import site
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from alink import _codes as codes
from alink._diag import quote
from alink._errors import failure
from alink._options import bad_option, refuse_unknown
from alink._origin import user_origin
from alink._script import check_python, read_header

_PYTHON = re.compile(r"3\.(\d+)(?:\.\d+)?")
_OPTIONS = ("python", "requirements")
# Options that are planned; until then they are refused, not ignored.
_PLANNED = {
    "lock": "pin the versions in requirements=",
    "wheels": 'requirements= takes a path: "name @ file:///…/name-1.0-py3-none-any.whl"',
    "files": "modules beside the script travel with the function",
    "archives": "modules beside the script travel with the function",
    "variables": "set them in the function: os.environ[…] = …",
    "index": "set UV_INDEX_URL for the whole program",
}


class Environment:
    """The Python and the packages that functions run with.

    Equal environments are one on disk: it is built once, when a job first needs it, and
    used by every job after that. Functions of one job may use conflicting versions.

    Parameters
    ----------
    python : str, optional
        Version of Python, for example "3.11". The default is the client's.
    requirements : sequence of str, default ()
        Requirements as pip and uv read them, for example "numpy==2.2.*".

    Raises
    ------
    PlanError
        If an option has a value that it cannot take.

    Examples
    --------
    >>> import alink as al
    >>> al.Environment(requirements=["holidays==0.80"])
    alink.Environment(requirements=['holidays==0.80'])
    """

    __slots__ = ("_python", "_requirements")

    def __init__(
        self,
        *,
        python: str | None = None,
        requirements: Sequence[str] = (),
        **unknown: NoReturn,
    ) -> None:
        for name in unknown:
            if hint := _PLANNED.get(name):
                raise bad_option("Environment", f"Environment: {name}= is not supported yet", hint)
        refuse_unknown("Environment", unknown, _OPTIONS)
        if python is not None and not (isinstance(python, str) and _PYTHON.fullmatch(python)):
            raise bad_option(
                "Environment",
                f"Environment: python must be a version, not {python!r}",
                'write it as "3.11"',
            )
        if isinstance(requirements, str) or not all(isinstance(r, str) for r in requirements):
            raise bad_option(
                "Environment",
                f"Environment: requirements must be a list of strings, not {requirements!r}",
                f"write [{requirements!r}]" if isinstance(requirements, str) else "",
            )
        self._python = python
        self._requirements = tuple(r.strip() for r in requirements)

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
        return cls(requirements=header.requirements)

    @property
    def python(self) -> str | None:
        """The version of Python that was asked for; None is the client's."""
        return self._python

    @property
    def requirements(self) -> tuple[str, ...]:
        """The requirements, as they were given."""
        return self._requirements

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Environment):
            return NotImplemented
        return (self._python, self._requirements) == (other._python, other._requirements)

    def __hash__(self) -> int:
        return hash((self._python, self._requirements))

    def __repr__(self) -> str:
        parts = [f"python={self._python!r}"] if self._python else []
        if self._requirements:
            parts.append(f"requirements={list(self._requirements)!r}")
        return f"alink.Environment({', '.join(parts)})"


def runs_client_bytecode(environment: Environment | None) -> bool:
    """Tell whether an environment's Python has the minor version of the client's.

    Byte code, and so a pickled function, is only valid within one minor version.
    """
    if environment is None or environment.python is None:
        return True
    match = _PYTHON.fullmatch(environment.python)
    assert match is not None
    return int(match[1]) == sys.version_info.minor


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
    data = {"base_interpreter": _interpreter()}
    if environment.python is not None:
        data["python"] = environment.python
    if environment.requirements:
        data["requirements"] = list(environment.requirements)
    return data


def _environment_elsewhere(environment: Environment | None, library: str) -> dict[str, Any]:
    """Give the form of an environment on a machine that lacks the client's interpreter."""
    requirements = list(environment.requirements) if environment else []
    if environment is None and library in ("pandas", "polars"):
        requirements.append(library)
    python = environment.python if environment else None
    data: dict[str, Any] = {"python": python or f"3.{sys.version_info.minor}"}
    if requirements:
        data["requirements"] = requirements
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
    return Environment(requirements=header.requirements) if header.requirements else None


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
