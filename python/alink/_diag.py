"""Diagnostics: the one type in which the user is told what went wrong.

The same type exists in Go (``diag/``). The files of ``diag/testdata`` are rendered by
both sides, so that the two cannot drift apart.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# Limits on what a rendered diagnostic may fill; the same as in diag/render.go.
_LINES_MAX = 15
_CHARS_MAX = 200
_CAUSE_LINES_MAX = 4
_FRAMES_MAX = 2
_VALUES_MAX = 8

_SUGGESTIONS_MAX = 3
_LISTED_MAX = 12


@dataclass(frozen=True)
class Source:
    """A place in the user's program.

    Parameters
    ----------
    file : str
        The file as Python names it.
    line : int
        Line number, from 1.
    function : str
        The function that holds the line, or "".
    text : str
        The line itself, with its indentation, or "" where it is not known.
    column, end_column : int
        Range of characters in `text`, from 1, the end excluded; 0 where not known.
    """

    file: str
    line: int
    function: str = ""
    text: str = ""
    column: int = 0
    end_column: int = 0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Source:
        """Read the wire form."""
        return cls(
            file=data.get("file", ""),
            line=data.get("line", 0),
            function=data.get("function", ""),
            text=data.get("text", ""),
            column=data.get("column", 0),
            end_column=data.get("end_column", 0),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the wire form, without what is not known."""
        data: dict[str, Any] = {"file": self.file, "line": self.line}
        for name in ("function", "text", "column", "end_column"):
            if value := getattr(self, name):
                data[name] = value
        return data

    def with_text(self) -> Source:
        """Fill in the text from the client's own files where it is missing."""
        if self.text:
            return self
        return replace(self, text=linecache.getline(self.file, self.line).rstrip("\r\n"))

    def _render(self) -> list[str]:
        where = f"  File {quote(self.file)}, line {self.line}"
        if "IPython" in sys.modules and (cell := _cell_name(self.file)) != self.file:
            where = f"  {cell}, line {self.line}"
        if self.function:
            where += f", in {self.function}"
        text = self.text.lstrip(" \t")
        if not text:
            return [where]
        lines = [where, "    " + text]
        start = self.column - 1 - (len(self.text) - len(text))
        if self.column > 0 and self.end_column > self.column and start >= 0:
            lines.append("    " + " " * start + "^" * (self.end_column - self.column))
        return lines


def _cell_name(file: str) -> str:
    from alink._notebook import cell_name

    return cell_name(file)


@dataclass(frozen=True)
class Row:
    """One row of a function's input; `index` counts from 0 within that input."""

    index: int
    values: tuple[tuple[str, str], ...] = ()

    def _render(self) -> str:
        parts = [f"{name}={text}" for name, text in self.values[:_VALUES_MAX]]
        if len(self.values) > _VALUES_MAX:
            parts.append("…")
        line = f"  row {self.index}"
        return f"{line}: {', '.join(parts)}" if parts else line


@dataclass(frozen=True)
class ExceptionInfo:
    """A Python exception as plain data; nothing is unpickled to read it."""

    module: str
    type: str
    message: str


@dataclass(frozen=True)
class Diagnostic:
    """What a user is told of one failure.

    Only `code` and `message` are always set.

    Parameters
    ----------
    code : str
        Names the kind of failure, for example "ALK1001".
    message : str
        One sentence with the user's own names, without a final stop.
    operator : str
        The table method in which it happened.
    function : str
        The user's name of the Python function concerned.
    source : Source or None
        Where the user wrote the step that failed.
    frames : tuple of Source
        The user's own stack frames, outermost first.
    row : Row or None
        The row in which it happened.
    facts : tuple of str
        What was measured: environment, signal or exit status, memory.
    exception : ExceptionInfo or None
        The Python exception behind the failure.
    cause : str
        Text of a lower layer's error.
    hint : str
        How to mend it.
    """

    code: str
    message: str
    operator: str = ""
    function: str = ""
    source: Source | None = None
    frames: tuple[Source, ...] = ()
    row: Row | None = None
    facts: tuple[str, ...] = ()
    exception: ExceptionInfo | None = None
    cause: str = ""
    hint: str = field(default="")

    def to_json(self) -> dict[str, Any]:
        """Give the wire form, without what is not set."""
        data = {k: v for k, v in asdict(self).items() if v not in (None, "", ())}
        if self.source is not None:
            data["source"] = self.source.to_json()
        if self.frames:
            data["frames"] = [frame.to_json() for frame in self.frames]
        if self.row is not None:
            values = [{"name": name, "repr": shown} for name, shown in self.row.values]
            data["row"] = {"index": self.row.index, "values": values}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Diagnostic:
        """Read the wire form; frames without text get it from the client's files."""
        row = data.get("row")
        exception = data.get("exception")
        source = data.get("source")
        return cls(
            code=data["code"],
            message=data["message"],
            operator=data.get("operator", ""),
            function=data.get("function", ""),
            source=Source.from_json(source).with_text() if source else None,
            frames=tuple(Source.from_json(f).with_text() for f in data.get("frames") or ()),
            row=Row(
                row["index"],
                tuple((value["name"], value["repr"]) for value in row.get("values") or ()),
            )
            if row
            else None,
            facts=tuple(data.get("facts") or ()),
            exception=ExceptionInfo(
                exception.get("module", ""), exception["type"], exception.get("message", "")
            )
            if exception
            else None,
            cause=data.get("cause", ""),
            hint=data.get("hint", ""),
        )

    def render(self) -> str:
        """Write the diagnostic as the user sees it.

        At most fifteen lines: the first has the code and the sentence, the last the hint.
        """
        lines = [f"{self.code}: {self.message}"]
        frames = self.frames
        if not frames and self.source is not None:
            frames = (self.source,)
        for frame in frames[-_FRAMES_MAX:]:
            lines += frame._render()
        if self.row is not None:
            lines.append(self.row._render())
        lines += [f"  {fact}" for fact in self.facts]
        lines += _cause_lines(self.cause)
        if self.hint:
            lines = [*lines[: _LINES_MAX - 1], f"  hint: {self.hint}"]
        return "\n".join(_cut(harmless(line)) for line in lines[:_LINES_MAX])


def _cause_lines(cause: str) -> list[str]:
    lines: list[str] = []
    for line in cause.strip().split("\n"):
        if not line.strip():
            continue
        if len(lines) == _CAUSE_LINES_MAX:
            return [*lines, "    …"]
        lines.append(("    " if lines else "  because: ") + line.rstrip(" \t\r"))
    return lines


# What moves a terminal's cursor or turns the direction of text around, but for the end of a
# line and the tabulator.
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HARMFUL_UNLESS_COLOURED = re.compile(rf"(?!\x1b\[[0-9;]{{0,32}}m){_HARMFUL.pattern}")


def harmless(text: str, colours: bool = False) -> str:
    """Show as escapes what a terminal would obey: the text may hold a worker's words.

    Changes of colour may be let through.
    """

    def escape(found: re.Match[str]) -> str:
        number = ord(found[0])
        return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"

    return (_HARMFUL_UNLESS_COLOURED if colours else _HARMFUL).sub(escape, text)


def _cut(line: str) -> str:
    return line if len(line) <= _CHARS_MAX else line[: _CHARS_MAX - 1] + "…"


_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def quote(text: str) -> str:
    r"""Quote a text as Go's ``%q`` does, so that both sides write the same.

    Examples
    --------
    >>> quote('a "b"')
    '"a \\"b\\""'
    """
    out: list[str] = []
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char == " " or char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


def suggest(name: str, candidates: Iterable[str]) -> list[str]:
    """Return the names nearest to `name`, best first, at most three.

    Those count that are within a third of its length in edits, without regard to case.

    Examples
    --------
    >>> suggest("dep_dealy", ["dep_delay", "arr_delay"])
    ['dep_delay']
    """
    limit = max(1, len(name.encode()) // 3)
    near = [(_edit_distance(name.lower(), c.lower()), c) for c in candidates]
    near = sorted((pair for pair in near if pair[0] <= limit), key=lambda pair: pair[0])
    return [candidate for _, candidate in near[:_SUGGESTIONS_MAX]]


def did_you_mean(name: str, what: str, candidates: Sequence[str]) -> str:
    """Give the hint for an unknown name: the nearest names, or a list of what there is."""
    if near := suggest(name, candidates):
        return f"did you mean {' or '.join(near)}?"
    if not candidates:
        return f"there are no {what}"
    more = ", …" if len(candidates) > _LISTED_MAX else ""
    return f"{what} are: {', '.join(candidates[:_LISTED_MAX])}{more}"


def no_attribute(name: str, text: str) -> AttributeError:
    """Make the error of an attribute that is not there, to which Python adds no hint of its own.

    Python would look among the attributes of the object, unless the error names another.
    """
    return AttributeError(text, name=name, obj=None)


def _edit_distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance with adjacent transpositions (optimal string alignment)."""
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) + 1):
        rows[i][0] = i
    for j in range(len(b) + 1):
        rows[0][j] = j
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            cost = 0 if a[i - 1] == b[j - 1] else 1
            best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            rows[i][j] = best
    return rows[len(a)][len(b)]
