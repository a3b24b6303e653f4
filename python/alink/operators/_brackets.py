"""Texts of SQL cut at signs and words that stand in no brackets and no quotes."""

from __future__ import annotations

import re

from alink._options import bad_option

_QUOTES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def closing(text: str, start: int, name: str) -> int:
    """Find the place behind what a quote or a bracket at `start` begins.

    Raises
    ------
    PlanError
        If it does not end.
    """
    if text[start] in "'\"":
        match = _QUOTES.match(text, start)
        if match is not None:
            return match.end()
        raise bad_option(name, f"{name}: a quote is not closed: {text[start:]!r:.60}")
    depth, at = 0, start
    while at < len(text):
        if text[at] in "'\"":
            at = closing(text, at, name)
            continue
        depth += (text[at] in "([") - (text[at] in ")]")
        at += 1
        if depth == 0:
            return at
    raise bad_option(name, f"{name}: a bracket is not closed: {text[start:]!r:.60}")


def pieces(text: str, name: str, at_word: str = "") -> list[str]:
    """Cut a text at the commas, or at a word, that stand in no brackets and no quotes."""
    cut = re.compile(rf"\b{at_word}\b" if at_word else ",", re.IGNORECASE)
    found: list[str] = []
    start = at = 0
    while at < len(text):
        if text[at] in "'\"([":
            at = closing(text, at, name)
        elif (match := cut.match(text, at)) is not None:
            found.append(text[start:at])
            start = at = match.end()
        else:
            at += 1
    return [*found, text[start:]]
