"""Alink's SQL, which is Flink's, in DuckDB's words."""

from __future__ import annotations

import re

# What is copied as it is: texts, names in quotes; and a name in backticks.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`((?:[^`]|``)*)`")


def translate(text: str) -> str:
    """Write names in backticks as DuckDB has them, in double quotes."""

    def name(match: re.Match[str]) -> str:
        inner = match[1]
        if inner is None:
            return match[0]
        return '"' + inner.replace("``", "`").replace('"', '""') + '"'

    return _TOKEN.sub(name, text)


def quoted(name: str) -> str:
    """Write a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'
