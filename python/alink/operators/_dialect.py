"""Alink's SQL, which is Flink's, in DuckDB's words."""

from __future__ import annotations

import re

from alink._options import bad_option
from alink.operators._brackets import closing, pieces
from alink.operators._flink_functions import ADDED, CHANGED, written
from alink.operators._quotients import QUOTIENT, quotients

_TEXT = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
# What is copied as it is: texts, names in quotes; and a name in backticks.
_TOKEN = re.compile(rf"{_TEXT}|`((?:[^`]|``)*)`")
_CALL = re.compile(
    rf"{_TEXT}|(?<![\w.])({'|'.join([*CHANGED, *ADDED, 'avg'])})\s*\(", re.IGNORECASE
)
#: What may stand behind an aggregate and belongs to it.
_OF_AGGREGATE = re.compile(r"\s*(?:FILTER\s*(?=\()|OVER\s*(?=\()|OVER\s+[\w\"]+)", re.IGNORECASE)
_PHRASE = re.compile(
    r"\bINTERVAL\s+(?P<interval>'[^']*')\s+(?P<first>[A-Z]+)\s+TO\s+(?P<last>[A-Z]+)\b"
    r"|\bSIMILAR\s+TO\s+(?P<similar>'(?:[^']|'')*')"
    rf"|(?P<time>(?<![\w.])CURRENT_TIME\b)|{_TEXT}",
    re.IGNORECASE,
)


def translate(text: str, means: bool = True) -> str:
    """Write Flink's names, functions and phrases as DuckDB has them, where these differ.

    Names in backticks get double quotes. A function that `registerFunction` has named is the
    program's own. What has been translated may be translated again. `means` tells whether AVG
    is Flink's, the quotient of sum and count: of whole numbers a whole number.
    """
    return _calls(_PHRASE.sub(_phrase, _TOKEN.sub(_name, quotients(text))), means)


def _name(match: re.Match[str]) -> str:
    inner = match[1]
    return match[0] if inner is None else quoted(inner.replace("``", "`"))


def _phrase(match: re.Match[str]) -> str:
    if match["interval"] is not None:
        return _interval(match)
    if match["similar"] is not None:
        pattern = re.sub(r"[%_]", lambda sign: {"%": ".*", "_": "."}[sign[0]], match["similar"])
        return f"SIMILAR TO {pattern}"
    return match[0] if match["time"] is None else "LOCALTIME"


#: The fields of intervals, the largest first, with the sign that stands before each.
_FIELDS = {"YEAR": "", "MONTH": "-", "DAY": "", "HOUR": " ", "MINUTE": ":", "SECOND": ":"}


def _interval(match: re.Match[str]) -> str:
    """Write an interval of several fields, ``'1 02:03' DAY TO MINUTE``, as a sum."""
    names = list(_FIELDS)
    given, first, last = match["interval"][1:-1], match["first"].upper(), match["last"].upper()
    fields: list[str] = []
    if first in names and last in names:
        fields = names[names.index(first) : names.index(last) + 1]
    number = r"(\d+(?:\.\d+)?)"
    form = "".join(f"{_FIELDS[name] if i else ''}{number}" for i, name in enumerate(fields))
    found = re.fullmatch(rf"\s*([+-]?){form}\s*", given)
    if not fields or found is None:
        raise bad_option(
            "INTERVAL",
            f"INTERVAL: {match['interval']} is not of {first} TO {last}",
            "INTERVAL '1-2' YEAR TO MONTH, INTERVAL '1 02:03:04' DAY TO SECOND",
        )
    sign = "-" if found[1] == "-" else ""
    return (
        "("
        + " + ".join(
            f"INTERVAL '{sign}{count}' {name}"
            for count, name in zip(found.groups()[1:], fields, strict=True)
        )
        + ")"
    )


def _calls(text: str, means: bool) -> str:
    parts: list[str] = []
    at = 0
    for match in _CALL.finditer(text):
        if match[1] is None or match.start() < at or _is_own(match[1]):
            continue
        name = match[1]
        end = closing(text, match.end() - 1, name)
        inner = text[match.end() : end - 1]
        given = (
            [_calls(piece, means).strip() for piece in pieces(inner, name)] if inner.strip() else []
        )
        made = written(name, given)
        if means and name.lower() == "avg" and len(given) == 1:
            behind = _end_of_aggregate(text, end)
            where = _calls(text[end:behind], means)
            made = f"{QUOTIENT}(sum({given[0]}){where}, count({given[0]}){where})"
            end = behind
        parts += [text[at : match.start()], f"{name}({', '.join(given)})" if made is None else made]
        at = end
    return "".join([*parts, text[at:]])


def _end_of_aggregate(text: str, at: int) -> int:
    while (match := _OF_AGGREGATE.match(text, at)) is not None:
        at = match.end()
        if text[at : at + 1] == "(":
            at = closing(text, at, "AVG")
    return at


def _is_own(name: str) -> bool:
    from alink.operators._session import session

    return name.lower() in session().functions


def quoted(name: str) -> str:
    """Write a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'
