"""Parameters of a job, as ``pyrunner run job.py --param name=value`` passes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from alink._diag import did_you_mean, quote
from alink._options import bad_option

T = TypeVar("T")


class Params(Mapping[str, str]):
    """The parameters of this run; a mapping of names to texts.

    `int`, `float` and `bool` read a value as a number or a switch. All take a default for a
    parameter that was not given, without which it is an error.

    Examples
    --------
    >>> import alink as al
    >>> al.params.int("rows", 100)
    100
    """

    def __init__(self, variable: str = "ALINK_PARAMS") -> None:
        self._variable = variable

    def _values(self) -> dict[str, str]:
        text = os.environ.get(self._variable) or "{}"
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise bad_option(
                "params", f"{self._variable} must be a JSON object of texts", 'write {"day": "1"}'
            )
        return values

    def __getitem__(self, name: str) -> str:
        values = self._values()
        if name not in values:
            # A KeyError would be the mapping's own word; this one says how to pass it.
            raise KeyError(name)
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __repr__(self) -> str:
        return f"<alink.params {self._values()!r}>"

    def _text(self, name: str) -> str | None:
        return self._values().get(name)

    def _missing(self, name: str) -> Exception:
        hint = did_you_mean(name, "parameters", list(self)) if len(self) else ""
        return bad_option(
            "params",
            f"the parameter {quote(name)} was not given",
            hint if hint.startswith("did you") else f"pyrunner run … --param {name}=VALUE",
        )

    def _wrong(self, name: str, what: str) -> Exception:
        return bad_option("params", f"the parameter {name} must be {what}, not {self[name]!r}")

    def _read(self, name: str, default: T | None, read: Callable[[str], T], what: str) -> T:
        """Give a parameter as `read` makes it of its text, or the default."""
        text = self._text(name)
        if text is None:
            if default is None:
                raise self._missing(name)
            return default
        try:
            return read(text)
        except ValueError:
            raise self._wrong(name, what) from None

    def str(self, name: str, default: str | None = None) -> str:
        """Give a parameter as it was written."""
        return self._read(name, default, lambda text: text, "a text")

    def int(self, name: str, default: int | None = None) -> int:
        """Give a parameter as a whole number."""
        return self._read(name, default, int, "a whole number")

    def float(self, name: str, default: float | None = None) -> float:
        """Give a parameter as a number."""
        return self._read(name, default, float, "a number")

    def bool(self, name: str, default: bool | None = None) -> bool:
        """Give a parameter as a switch: true, 1, yes, on, or false, 0, no, off."""
        return self._read(name, default, _switch, "true or false")


def _switch(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(text)


params = Params()
