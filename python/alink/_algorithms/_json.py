"""JSON as people write it, and paths within it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._strings import Unreadable

_DEPTH_MAX = 200  # of a text of JSON


class BadPath(ValueError):
    """A text is not a path within JSON; the message says where."""


#: A step of a path: the values that a value has there.
Select = Callable[[Any], "Iterator[Any]"]

_STEP = re.compile(
    r"(?P<deep>\.\.)?(?:"
    r"\.?(?P<name>[^.\[\]'\"()?@,:*\s][^.\[\]]*)|\.?(?P<all>\*)|\[\s*(?P<inner>'(?:[^'\\]|\\.)*'"
    r"(?:\s*,\s*'(?:[^'\\]|\\.)*')*|\"(?:[^\"\\]|\\.)*\"|\*|-?\d+(?:\s*,\s*-?\d+)*|"
    r"-?\d*\s*:\s*-?\d*)\s*\])"
)


def parse_path(text: str) -> tuple[list[Select], bool]:
    """Read a path: ``$.a.b[0]``, ``$['a']``, ``$.a[*]``, ``$..b``, ``$.a[0:2]``, ``$.a[0,2]``.

    Returns
    -------
    steps, definite
        A path that is not definite gives a list of what it finds.

    Raises
    ------
    BadPath
        If the text is none.
    """
    body = text.strip()
    if not body.startswith("$"):
        body = f"$.{body}"
    steps: list[Select] = []
    definite, at = True, 1
    while at < len(body):
        match = _STEP.match(body, at)
        if match is None:
            raise BadPath(f"{text!r:.80} is not a path within JSON: {body[at:]!r:.40}")
        if match["deep"]:
            steps.append(_descendants)
            definite = False
        step, single = _select(match)
        steps.append(step)
        definite = definite and single
        at = match.end()
    return steps, definite


def _select(match: re.Match[str]) -> tuple[Select, bool]:
    inner = match["inner"]
    if match["all"] or inner == "*":
        return _children, False
    if inner is None:
        return _members([match["name"]]), True
    if inner[0] in "'\"":
        names = [
            re.sub(r"\\(.)", r"\1", part[1:-1])
            for part in re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", inner)
        ]
        return _members(names), len(names) == 1
    if ":" in inner:
        begin, _, end = inner.partition(":")
        return _slice(int(begin) if begin.strip() else None, int(end) if end.strip() else None)
    places = [int(part) for part in inner.split(",")]
    return _items(places), len(places) == 1


def _members(names: Sequence[str]) -> Select:
    def select(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (value[name] for name in names if name in value)

    return select


def _items(places: Sequence[int]) -> Select:
    def select(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (value[i] for i in places if -len(value) <= i < len(value))

    return select


def _slice(begin: int | None, end: int | None) -> tuple[Select, bool]:
    def select(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[begin:end]

    return select, False


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descendants(value: Any) -> Iterator[Any]:
    """Give a value and all within it."""
    yield value
    for child in _children(value):
        yield from _descendants(child)


def value_at(value: Any, path: tuple[list[Select], bool]) -> Any:
    """Give what stands at a path.

    Raises
    ------
    LookupError
        If nothing does.
    """
    steps, definite = path
    found = [value]
    for step in steps:
        found = [item for value in found for item in step(value)]
    if not definite:
        return found
    if not found:
        raise LookupError
    return found[0]


# --- JSON as people write it ---

_BLANK = re.compile(r"[\s\ufeff]*")
_BARE = re.compile(r"[^\s,:\[\]{}\"'][^,:\[\]{}]*")
_NUMBER = re.compile(r"-?\d+(?P<real>\.\d+)?(?P<exponent>[eE][+-]?\d+)?")


def parse_json(text: str) -> Any:
    """Read JSON; names and texts may stand without quotes, or in single ones.

    Raises
    ------
    Unreadable
        If the text is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    value, at = _Loose(text).value(0, 0)
    if _BLANK.match(text, at).end() != len(text):  # type: ignore[union-attr]
        raise Unreadable(f"{text!r:.80} is not JSON: {text[at:]!r:.40} follows its end")
    return value


class _Loose:
    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        """Give the value that begins here, and where it ends."""
        at = self.skip(at)
        char = self.text[at : at + 1]
        if depth > _DEPTH_MAX:
            raise Unreadable(f"{self.text!r:.80} is not JSON: it is too deep")
        if char == "{":
            return self.members(at + 1, depth)
        if char == "[":
            return self.items(at + 1, depth)
        if char in ('"', "'") and char:
            return self.quoted(at)
        return self.bare(at)

    def skip(self, at: int) -> int:
        return _BLANK.match(self.text, at).end()  # type: ignore[union-attr]

    def members(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        at = self.skip(at)
        while not self.text.startswith("}", at):
            if self.text[at : at + 1] in ('"', "'") and at < len(self.text):
                name, at = self.quoted(at)
            else:
                bare, at = self.word(at)
                name = bare
            at = self.expect(at, ":")
            result[name], at = self.value(at, depth + 1)
            at = self.separated(at, "}")
        return result, at + 1

    def items(self, at: int, depth: int) -> tuple[list[Any], int]:
        result: list[Any] = []
        at = self.skip(at)
        while not self.text.startswith("]", at):
            item, at = self.value(at, depth + 1)
            result.append(item)
            at = self.separated(at, "]")
        return result, at + 1

    def separated(self, at: int, end: str) -> int:
        at = self.skip(at)
        if self.text.startswith(end, at):
            return at
        return self.skip(self.expect(at, ","))

    def expect(self, at: int, char: str) -> int:
        at = self.skip(at)
        if not self.text.startswith(char, at):
            raise Unreadable(f"{self.text!r:.80} is not JSON: {char!r} is missing at {at}")
        return at + 1

    def quoted(self, at: int) -> tuple[str, int]:
        quote = self.text[at]
        match = re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL).match(
            self.text, at
        )
        if match is None:
            raise Unreadable(f"{self.text!r:.80} is not JSON: a quote at {at} is not closed")
        body = match[1]
        if quote == "'":
            body = body.replace("\\'", "'").replace('"', '\\"')
        try:
            return json.loads(f'"{body}"', strict=False), match.end()
        except ValueError as error:
            raise Unreadable(f"{self.text!r:.80} is not JSON: {error}") from None

    def word(self, at: int) -> tuple[str, int]:
        match = _BARE.match(self.text, at)
        if match is None:
            raise Unreadable(f"{self.text!r:.80} is not JSON: no value at {at}")
        return match[0].rstrip(), match.end()

    def bare(self, at: int) -> tuple[Any, int]:
        word, at = self.word(at)
        named = {"true": True, "false": False, "null": None}
        if word in named:
            return named[word], at
        number = _NUMBER.fullmatch(word)
        if number is None:
            return word, at
        return (float(word) if number["real"] or number["exponent"] else int(word)), at
