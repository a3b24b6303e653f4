"""The table of what Spark ML has and what does the same here."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from alink import operators
from alink.operators._catalogue import catalogue
from alink.operators._define import BUILT

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "tools/sparkml.tsv"
PAGE = ROOT / "docs/sparkml.md"
_HEAD = """\
# Spark ML's names here

What `pyspark.ml` 4 has, and which operators of ours do the same: estimators and transformers are
in `alink.operators` under these names, and in `alink.ml`; the other names are batch operators.
Parameters and defaults are Alink's, not Spark's. This page is written by `make generate`, of
`tools/sparkml.tsv` and of what is built.
"""


@dataclass(frozen=True)
class Counterpart:
    """A class of Spark ML, and what does the same.

    Attributes
    ----------
    module, kind, name : str
        Of the class: ``"classification"``, ``"estimator"``, ``"LinearSVC"``.
    operators : tuple of str
        Names of ours; none where Alink has no such operator.
    later : str
        The category in which it comes, where there are no names.
    """

    module: str
    kind: str
    name: str
    operators: tuple[str, ...]
    later: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The operators that are not built."""
        return tuple(name for name in self.operators if not is_built(name))

    @property
    def built(self) -> bool:
        """Whether all of them are built."""
        return bool(self.operators) and not self.missing

    @property
    def status(self) -> str:
        """Tell whether it is built, and what comes later in which category."""
        if self.built:
            return "built"
        if not self.operators:
            return f"later, in {self.later}: Alink has none"
        names = ", ".join(f"`{name}`" for name in self.missing)
        groups = ", ".join(dict.fromkeys(category(name) for name in self.missing))
        begun = "built in part; " if len(self.missing) < len(self.operators) else ""
        return f"{begun}{names} later, in {groups}"


def is_built(name: str) -> bool:
    """Tell whether an operator or another class of ours exists and works."""
    if name in BUILT:
        return True
    return name not in catalogue() and name in operators.__all__


def category(name: str) -> str:
    """Give the category of an operator; what is in none of the catalogue's sets up a tuner."""
    entry = catalogue().get(name)
    return entry.category if entry is not None else "tuning"


def counterparts() -> list[Counterpart]:
    """Read the facts."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader((r for r in file if not r.startswith("#")), delimiter="\t")
        return [
            Counterpart(
                r["module"], r["kind"], r["name"], tuple(r["operators"].split()), r["later"]
            )
            for r in rows
        ]


def page() -> str:
    """Give the page."""
    all_ = counterparts()
    kinds = Counter(each.kind for each in all_)
    done = Counter(each.kind for each in all_ if each.built)
    lines = [_HEAD, "| | built | of |", "|---|---|---|"]
    lines += [f"| {kind}s | {done[kind]} | {count} |" for kind, count in kinds.items()]
    lines.append(f"| together | {done.total()} | {len(all_)} |")
    for module in dict.fromkeys(each.module for each in all_):
        lines += ["", f"## pyspark.ml.{module}", "", "| Spark | | ours | |", "|---|---|---|---|"]
        for each in all_:
            if each.module == module:
                ours = ", ".join(f"`{name}`" for name in each.operators) or "–"
                lines.append(f"| `{each.name}` | {each.kind} | {ours} | {each.status} |")
    return "\n".join(lines) + "\n"
