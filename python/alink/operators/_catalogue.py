"""Alink's catalogue: the names of all operators, their kinds, categories and parameters.

``catalogue.tsv`` holds these facts about Alink 1.6.2, one operator a line. Of the classes that
its documentation does not have (category "undocumented") it holds the names alone.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("catalogue.tsv")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an operator.

    Attributes
    ----------
    name : str
        As Alink writes it: ``vectorCol`` is set by ``setVectorCol``.
    type : str
        The Java type: ``String``, ``Double``, ``String[]`` and so on.
    default : Any
        None where there is none.
    required : bool
        Whether an operator cannot do without it.
    """

    name: str
    type: str
    default: Any
    required: bool


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of an operator."""

    name: str
    kind: str
    category: str
    _parameters: str

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The operator's parameters by their names."""
        return {
            name: Parameter(name, kind, _default(default), required)
            for name, kind, default, required in json.loads(self._parameters)
        }


class Parameters(Mapping[str, Parameter]):
    """The parameters of an entry, which are read when they are first asked for.

    A program uses few of the hundreds of operators that it imports.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __getitem__(self, name: str) -> Parameter:
        return self._entry.parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry.parameters)

    def __len__(self) -> int:
        return len(self._entry.parameters)


def _default(text: str) -> Any:
    """Read a default as Java writes it; "" and null are none."""
    if text in ("", "null"):
        return None
    if text in ("Infinity", "-Infinity", "NaN"):
        return math.nan if text == "NaN" else math.copysign(math.inf, -1 if text[0] == "-" else 1)
    return json.loads(text)


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Give all operators by their names."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()[1:]
    return {entry.name: entry for entry in (Entry(*line.split("\t")) for line in lines)}
