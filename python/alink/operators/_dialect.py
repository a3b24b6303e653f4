"""Alink's SQL, which is Flink's, in DuckDB's words."""

from __future__ import annotations

import re

from alink._options import bad_option

# What is copied as it is: texts, names in quotes; and a name in backticks.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`((?:[^`]|``)*)`")
_QUOTES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_TO_TIMESTAMP = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?<![\w.])(to_timestamp)\s*\(", re.IGNORECASE
)


def translate(text: str) -> str:
    """Write names in backticks as DuckDB has them, in double quotes, and ``to_timestamp``.

    Alink's ``to_timestamp`` takes a text, or milliseconds since 1970.
    """

    def name(match: re.Match[str]) -> str:
        inner = match[1]
        if inner is None:
            return match[0]
        return '"' + inner.replace("``", "`").replace('"', '""') + '"'

    return _timestamps(_TOKEN.sub(name, text))


def _timestamps(text: str) -> str:
    parts: list[str] = []
    at = 0
    for match in _TO_TIMESTAMP.finditer(text):
        if match[1] is None or match.start() < at:
            continue
        end = closing(text, match.end() - 1, "to_timestamp")
        inside = _timestamps(text[match.end() : end - 1])
        millis = f"try_cast(({inside})::VARCHAR AS BIGINT)"
        parts += [
            text[at : match.start()],
            f"coalesce(epoch_ms({millis}), try_cast(({inside})::VARCHAR AS TIMESTAMP))",
        ]
        at = end
    return "".join([*parts, text[at:]])


def quoted(name: str) -> str:
    """Write a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


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


def pieces(text: str, name: str) -> list[str]:
    """Cut a text at the commas that stand in no brackets and no quotes."""
    found: list[str] = []
    start = at = 0
    while at < len(text):
        if text[at] in "'\"([":
            at = closing(text, at, name)
            continue
        if text[at] == ",":
            found.append(text[start:at])
            start = at + 1
        at += 1
    return [*found, text[start:]]
