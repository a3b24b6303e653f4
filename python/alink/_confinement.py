"""What functions may do in their workers beyond computing."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from alink import _codes as codes
from alink._errors import failure
from alink._options import bad_option, one_of, refuse_unknown
from alink._origin import user_origin

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack

SANDBOXES = ("auto", "strict", "off")
_MODES = ("ro", "rw")
_MOUNTS_MAX = 64
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Confined(TypedDict, total=False):
    """Options of functions of every kind: what their worker is allowed.

    ``sandbox`` is "auto", as far as the machine can; "strict", at least the namespaces of
    level L2, or an error; or "off". The default is the engine's. ``network`` leaves the
    function the machine's network, ``mounts`` shows it files and folders of the machine, by
    path, "ro" to read and "rw" to write as well. ``secrets`` names variables of the client's
    environment that the function finds in its own. ``isolation="own"`` keeps other functions
    out of its workers.
    """

    sandbox: Literal["auto", "strict", "off"] | None
    network: bool
    mounts: Mapping[str | os.PathLike[str], Literal["ro", "rw"]]
    secrets: Sequence[str]
    isolation: Literal["shared", "own"]


_OPTIONS = tuple(Confined.__annotations__)


@dataclass(frozen=True)
class Confinement:
    """The checked form of `Confined`."""

    sandbox: str | None = None
    network: bool = False
    #: By absolute path, sorted: whether the function may write there.
    mounts: tuple[tuple[str, bool], ...] = ()
    secrets: tuple[str, ...] = ()
    isolation: str = "shared"
    #: Values of secrets that the program has given itself; the others are the environment's.
    given: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Give the plan's form, without what is left to the engine."""
        data: dict[str, Any] = {}
        if self.sandbox is not None:
            data["sandbox"] = self.sandbox
        if self.network:
            data["network"] = True
        if self.mounts:
            data["mounts"] = [
                {"path": path, "write": True} if write else {"path": path}
                for path, write in self.mounts
            ]
        if self.secrets:
            data["secrets"] = list(self.secrets)
        if self.isolation != "shared":
            data["isolation"] = self.isolation
        return data


def confinement(what: str, options: Mapping[str, Any], others: Iterable[str]) -> Confinement:
    """Check the options that say what a function is allowed; refuse those that nobody knows."""
    refuse_unknown(
        what, {k: v for k, v in options.items() if k not in _OPTIONS}, (*others, *_OPTIONS)
    )
    sandbox = options.get("sandbox")
    if sandbox is not None:
        one_of(what, "sandbox", sandbox, SANDBOXES)
    network = options.get("network", False)
    if not isinstance(network, bool):
        raise bad_option(
            what,
            f"{what}: network must be True or False, not {network!r:.80}",
            "single hosts cannot be allowed: it is all of the machine's network, or none",
        )
    return Confinement(
        sandbox,
        network,
        _mounts(what, options.get("mounts") or {}),
        _secret_names(what, options.get("secrets") or ()),
        one_of(what, "isolation", options.get("isolation", "shared"), ("shared", "own")),
    )


def _mounts(what: str, mounts: Any) -> tuple[tuple[str, bool], ...]:
    if not isinstance(mounts, Mapping):
        raise bad_option(
            what,
            f"{what}: mounts must be a dict of paths, not {mounts!r:.80}",
            'write it as {"/data": "ro"}',
        )
    checked: dict[str, bool] = {}
    for path, mode in mounts.items():
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise bad_option(what, f"{what}: a mount is a path, not {path!r:.80}")
        one_of(what, f"mounts[{os.fspath(path)!r}]", mode, _MODES)
        absolute = os.path.abspath(os.path.expanduser(os.fspath(path)))  # noqa: PTH100, PTH111 # links stay
        if absolute == "/":
            raise bad_option(
                what,
                f"{what}: the root of the file system cannot be mounted",
                'name the folders that the function needs, or use sandbox="off"',
            )
        if checked.get(absolute, mode == "rw") != (mode == "rw"):
            raise bad_option(what, f'{what}: {absolute} is mounted both "ro" and "rw"')
        checked[absolute] = mode == "rw"
    if len(checked) > _MOUNTS_MAX:
        raise bad_option(
            what,
            f"{what}: at most {_MOUNTS_MAX} mounts are possible, not {len(checked)}",
            "mount a folder that holds them",
        )
    return tuple(sorted(checked.items(), key=lambda mount: os.fsencode(mount[0])))


def _secret_names(what: str, secrets: Any) -> tuple[str, ...]:
    hint = 'the values are taken from the client\'s environment: secrets=["DB_PASSWORD"]'
    if isinstance(secrets, (str, Mapping)) or not isinstance(secrets, Iterable):
        raise bad_option(
            what,
            f"{what}: secrets must be a list of names of variables"
            + (f", not {secrets!r:.80}" if isinstance(secrets, str) else ""),
            hint,
        )
    names = tuple(dict.fromkeys(secrets))
    for name in names:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            # What stands there may be the secret itself.
            raise bad_option(what, f"{what}: secrets holds what is no name of a variable", hint)
    return names


_names: dict[str, str] = {}
_numbers = itertools.count(1)


def given_secret(value: str) -> str:
    """Give the name under which functions find a value of the program's, always the same one."""
    return _names.setdefault(value, f"ALINK_GIVEN_SECRET_{next(_numbers)}")


def secret_value(function: str, name: str, given: Mapping[str, str]) -> str:
    """Give the value of a secret, one that is given or of the environment of this process."""
    value = given.get(name, os.environ.get(name))
    if value is None:
        raise failure(
            codes.BAD_OPTION,
            f"{function} needs the secret {name}, which is not set in the client's environment",
            function=function,
            source=user_origin(),
            hint=f"set the variable {name} before the program starts, or os.environ[{name!r}]",
        )
    return value
