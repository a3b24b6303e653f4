"""Divisions in SQL: where whole numbers are divided, Flink gives a whole number.

Which they are is known to the engine alone, so a division becomes a call of its function
``alink_quotient``. What is divided by what has to be found in the text for that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from alink._options import bad_option

#: DuckDB has no operator that divides so.
QUOTIENT = "alink_quotient"

_TOKEN = re.compile(
    r"(?P<space>(?:\s+|--[^\n]*|/\*.*?\*/)+)"
    r"|(?P<text>[eExX]?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<sign>//|::|\*\*|->>|->|\|\||[<>!]=|<>|.)",
    re.DOTALL,
)
_SPACE = re.compile(r"\s|--|/\*")
_WORDS = """
    ALL AND AS ASC BETWEEN BY CROSS DESC DISTINCT ELSE END ESCAPE EXCEPT EXCLUDE EXISTS FOR FROM
    FULL GROUP HAVING ILIKE IN INNER INTERSECT IS JOIN LEFT LIKE LIMIT MINUS NATURAL NOT NULLS
    OFFSET ON OR ORDER OUTER OVER PARTITION PLACING QUALIFY RANGE REPLACE RIGHT ROWS SELECT
    SIMILAR THEN TO UNION USING VALUES WHEN WHERE WINDOW WITH
"""
#: What no operand begins with; but what some call, as LEFT and RIGHT, has a bracket behind it.
_RESERVED = frozenset(_WORDS.split())
_CALLED = frozenset({"LEFT", "RIGHT", "REPLACE"})
_TYPED = frozenset({"DATE", "TIME", "TIMESTAMP"})
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


class _Unclear(Exception):
    """No operand stands there."""


def quotients(text: str) -> str:
    """Write divisions as calls; what cannot be read as operands stays as it is."""
    tokens = [match[0] for match in _TOKEN.finditer(text)] if "/" in text else []
    if "/" not in tokens:
        return text
    try:
        return _Reader(tokens).text(0, len(tokens))
    except RecursionError:
        raise bad_option(
            "SQL",
            f"brackets with divisions are nested too deep: {text:.60}",
            "compute parts of it in a select before",
        ) from None


class _Reader:
    """Reads tokens; places are those of tokens, ends are behind the last one.

    Attributes
    ----------
    closing : dict
        By the place of each bracket, that behind the one that closes it.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.closing: dict[int, int] = {}
        opened: list[int] = []
        for i, token in enumerate(tokens):
            if token in _BRACKETS:
                opened.append(i)
            elif opened and token == _BRACKETS[tokens[opened[-1]]]:
                self.closing[opened.pop()] = i + 1

    def text(self, at: int, end: int) -> str:
        """Write what stands between two places."""
        parts: list[str] = []
        while at < end:
            try:
                part, at = self.product(at, end)
            except _Unclear:
                part, at = self.tokens[at], at + 1
            parts.append(part)
        return "".join(parts)

    def behind(self, at: int, end: int) -> int:
        """Give the next place that has no space."""
        while at < end and _SPACE.match(self.tokens[at]):
            at += 1
        return at

    def word(self, at: int, end: int) -> str:
        """Give the next word or sign in capitals; an empty one at the end."""
        at = self.behind(at, end)
        return self.tokens[at].upper() if at < end else ""

    def product(self, at: int, end: int) -> tuple[str, int]:
        """Read what is multiplied and divided, from the left to the right."""
        left, at = self.power(at, end)
        while self.word(at, end) in ("*", "/", "%", "//"):
            sign = self.behind(at, end)
            try:
                right, behind = self.signed(self.behind(sign + 1, end), end)
            except _Unclear:
                break
            if self.tokens[sign] == "/":
                left = f"{QUOTIENT}({left}, {right})"
            else:
                between = "".join(self.tokens[at : sign + 1])
                left += between + self.space(sign + 1, end) + right
            at = behind
        return left, at

    def space(self, at: int, end: int) -> str:
        return "".join(self.tokens[at : self.behind(at, end)])

    def signed(self, at: int, end: int) -> tuple[str, int]:
        if at < end and self.tokens[at] in "+-":
            found, behind = self.signed(self.behind(at + 1, end), end)
            return self.tokens[at] + self.space(at + 1, end) + found, behind
        return self.power(at, end)

    def power(self, at: int, end: int) -> tuple[str, int]:
        found, at = self.operand(at, end)
        while self.word(at, end) in ("^", "**"):
            sign = self.behind(at, end)
            right, behind = self.signed(self.behind(sign + 1, end), end)
            found += "".join(self.tokens[at : sign + 1]) + self.space(sign + 1, end) + right
            at = behind
        return found, at

    def operand(self, at: int, end: int) -> tuple[str, int]:
        """Read a value: a literal, a name, a call, a bracket, a CASE."""
        if at >= end:
            raise _Unclear
        token = self.tokens[at]
        if token in _BRACKETS:
            found, at = self.bracket(at)
            return self.added(found, at, end)
        kind = _TOKEN.match(token)
        if kind is None or kind.lastgroup in ("space", "sign"):
            raise _Unclear
        word = token.upper() if kind.lastgroup == "word" else ""
        if word == "CASE":
            return self.case(at, end)
        following = self.behind(at + 1, end)
        called = following < end and self.tokens[following] == "("
        if word in _RESERVED and not (word in _CALLED and called):
            raise _Unclear
        first = self.word(at + 1, end)[:1]
        if (word in _TYPED and first == "'") or (word == "INTERVAL" and re.match(r"['(\d]", first)):
            return self.literal(at, end, word)
        if called and kind.lastgroup != "number":
            found, behind = self.bracket(following)
            return self.added(token + self.space(at + 1, end) + found, behind, end)
        return self.added(token, at + 1, end)

    def bracket(self, at: int) -> tuple[str, int]:
        behind = self.closing.get(at)
        if behind is None:
            raise _Unclear
        inner = self.text(at + 1, behind - 1)
        return self.tokens[at] + inner + self.tokens[behind - 1], behind

    def literal(self, at: int, end: int, word: str) -> tuple[str, int]:
        """Read a time, or an interval with its unit."""
        value = self.behind(at + 1, end)
        if self.tokens[value] == "(":
            found, behind = self.bracket(value)
        else:
            found, behind = self.tokens[value], value + 1
        found = self.tokens[at] + self.space(at + 1, end) + found
        if word == "INTERVAL" and re.fullmatch(r"[A-Z]+", self.word(behind, end)):
            unit = self.behind(behind, end)
            found += "".join(self.tokens[behind : unit + 1])
            behind = unit + 1
        return self.added(found, behind, end)

    def case(self, at: int, end: int) -> tuple[str, int]:
        depth = 0
        for i in range(at, end):
            word = self.tokens[i].upper()
            depth += (word == "CASE") - (word == "END")
            if depth == 0:
                inner = self.text(at + 1, i)
                return self.added(self.tokens[at] + inner + self.tokens[i], i + 1, end)
        raise _Unclear

    def added(self, found: str, at: int, end: int) -> tuple[str, int]:
        """Read what belongs to the value before it: members, casts, windows."""
        while at < end:
            token, word = self.tokens[at], self.word(at, end)
            if token == "." and at + 1 < end:
                following = self.tokens[at + 1]
                found, at = found + token + following, at + 2
                if at < end and self.tokens[at] == "(":
                    inner, at = self.bracket(at)
                    found += inner
            elif token == "[":
                inner, at = self.bracket(at)
                found += inner
            elif word == "::":
                kind = self.behind(self.behind(at, end) + 1, end)
                found += "".join(self.tokens[at : kind + 1])
                at = kind + 1
                if at < end and self.tokens[at] in "([":
                    found += "".join(self.tokens[at : self.closing.get(at, at)])
                    at = self.closing.get(at, at + 1)
            elif word in ("OVER", "FILTER", "WITHIN"):
                place = self.behind(self.behind(at, end) + 1, end)
                if self.word(place, end) == "GROUP":
                    place = self.behind(place + 1, end)
                if place >= end:
                    break
                found += "".join(self.tokens[at:place])
                if self.tokens[place] == "(":
                    inner, at = self.bracket(place)
                    found += inner
                else:
                    found, at = found + self.tokens[place], place + 1
            else:
                break
        return found, at
