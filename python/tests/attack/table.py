"""What is expected of attacks at each level, and tables of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.case import ATTACKS
from attack.inner import names
from attack.returned import OUTSIDE

LEVELS = ["off", "L1", "L2", "L3"]

#: With no sandbox at least so many must succeed, or the suite has lost its teeth.
BITES_MIN = 20
_BITES_SHARE = 2  # of a selection, one in so many

_EXPECTED = Path(__file__).with_name("expected.txt")
_BEGIN, _END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
_WORDS = ("open", "root", "shut")


@dataclass(frozen=True)
class Expected:
    """Whether an attack may succeed: ``open``, ``shut``, or ``root``, which is open for root."""

    off: str
    l1: str
    #: Why it may at L1.
    why: str

    def may(self, level: str, user: str) -> bool:
        """Tell whether it may succeed. None may at L2 and L3."""
        word = {"off": self.off, "L1": self.l1}.get(level, "shut")
        return word == "open" or (word == "root" and user == "root")


def read_expected() -> dict[str, Expected]:
    """Read ``expected.txt``: a name, a word for off, one for L1, and the reason for the latter."""
    found: dict[str, Expected] = {}
    for line in _EXPECTED.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, off, l1, *why = line.split(None, 3)
        if off not in _WORDS or l1 not in _WORDS or name in found:
            raise SystemExit(f"expected.txt: {line!r} is not a name and two of {_WORDS}")
        if (l1 != "shut") != bool(why):
            raise SystemExit(f"expected.txt: {name} needs a reason where it is open at L1 only")
        found[name] = Expected(off, l1, why[0] if why else "")
    return found


def check_complete(expected: Mapping[str, Expected]) -> None:
    """Refuse a list that lacks an attack, or has one that is not there."""
    if odd := set(expected) ^ set(names()):
        raise SystemExit(f"expected.txt does not agree with the attacks: {sorted(odd)}")


def faults(
    level: str,
    user: str,
    outcomes: Mapping[str, Mapping[str, Any]],
    expected: Mapping[str, Expected],
    selected: Sequence[str],
) -> list[str]:
    """Say what was not expected."""
    found: list[str] = []
    for name in selected:
        outcome, evidence = outcomes[name]["outcome"], outcomes[name]["evidence"]
        if outcome not in ("done", "refused", "absent"):
            found.append(f"{level} {user}: {name} is {outcome}: {evidence}")
        elif outcome == "done" and not expected[name].may(level, user):
            found.append(f"{level} {user}: {name} succeeded: {success(name)} ({evidence[:200]})")
    done = sum(o["outcome"] == "done" for o in outcomes.values())
    least = min(BITES_MIN, len(selected) // _BITES_SHARE) if len(selected) > 1 else 0
    if level == "off" and done < least:
        found.append(f"off {user}: {done} attacks succeeded without a sandbox, not even {least}")
    return found


def success(name: str) -> str:
    """Say what it means that an attack has succeeded."""
    return (ATTACKS.get(name) or OUTSIDE[name]).success


def category(name: str) -> str:
    """Give the kind of an attack."""
    return (ATTACKS.get(name) or OUTSIDE[name]).category


_SHOWN = {"done": "OPEN", "refused": "-", "absent": "n/a"}


def drawn(
    columns: Mapping[str, Mapping[str, Mapping[str, Any]]],
    expected: Mapping[str, Expected],
    selected: Sequence[str],
) -> str:
    """Draw the table of what has succeeded; ``!`` marks what was not expected."""
    width = max(map(len, selected))
    lines = [f"{'':{width}}  " + "  ".join(f"{title:9}" for title in columns)]
    for name in selected:
        cells = []
        for title, outcomes in columns.items():
            level, user = title.split()
            outcome = outcomes[name]["outcome"]
            unexpected = outcome not in _SHOWN or (
                outcome == "done" and not expected[name].may(level, user)
            )
            cells.append(f"{_SHOWN.get(outcome, outcome) + '!' * unexpected:9}")
        lines.append(f"{name:{width}}  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def documented() -> str:
    """Give the tables of docs/security.md."""
    expected = read_expected()
    off = {"open": "succeeds", "root": "as root", "shut": "–"}
    lines = ["| attack | it succeeds if | off | L1 | L2, L3 |", "|---|---|---|---|---|"]
    for name, one in expected.items():
        meaning = success(name).replace("|", "\\|")
        lines.append(f"| {name} | {meaning} | {off[one.off]} | {off[one.l1]} | – |")
    why = [f"- **{name}**: {one.why}" for name, one in expected.items() if one.why]
    return "\n".join([*lines, "", "Open at L1:", "", *why])


def documents() -> Path:
    """Give the file that holds the tables."""
    return Path(__file__).resolve().parents[3] / "docs" / "security.md"


def with_tables(text: str) -> str:
    """Put the tables into a text in place of those that it has."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}\n{documented()}\n{_END}{tail}"


def write_docs() -> int:
    """Write the tables into docs/security.md."""
    file = documents()
    file.write_text(with_tables(file.read_text()))
    sys.stdout.write(f"{file.name} is written\n")
    return 0


def check_docs() -> int:
    """Tell whether docs/security.md shows what is expected."""
    text = documents().read_text()
    if with_tables(text) == text:
        return 0
    sys.stdout.write("docs/security.md is behind: python -m attack --docs writes it\n")
    return 1
