"""Flink's built-in functions, and those of Alink's own, in DuckDB's words where these differ.

What is written here may be translated again: functions that have the same name in both, and
another meaning, stand in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from alink._diag import did_you_mean, quote
from alink._options import bad_option
from alink.operators._brackets import pieces

Arguments = Sequence[str]

_LITERAL = re.compile(r"'((?:[^']|'')*)'\Z")
#: The units of TIMESTAMPADD and TIMESTAMPDIFF; each also stands behind SQL_TSI_.
_UNITS = ("MICROSECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")

# --- formats of times ---

#: Letters of java.text.SimpleDateFormat, the longest first, and what strftime calls them.
_JAVA = (
    ("yyyy", "%Y"), ("yy", "%y"), ("y", "%Y"), ("MMMM", "%B"), ("MMM", "%b"), ("MM", "%m"),
    ("M", "%-m"), ("dd", "%d"), ("d", "%-d"), ("DDD", "%j"), ("D", "%-j"), ("HH", "%H"),
    ("H", "%-H"), ("hh", "%I"), ("h", "%-I"), ("mm", "%M"), ("m", "%-M"), ("ss", "%S"),
    ("s", "%-S"), ("SSSSSS", "%f"), ("SSS", "%g"), ("a", "%p"), ("EEEE", "%A"), ("EEE", "%a"),
    ("E", "%a"), ("u", "%u"),
)  # fmt: skip
#: Letters of MySQL's formats that strftime calls otherwise.
_MYSQL = {
    "i": "%M", "s": "%S", "h": "%I", "k": "%-H", "l": "%-I", "M": "%B", "W": "%A", "c": "%-m",
    "e": "%-d", "T": "%H:%M:%S", "r": "%I:%M:%S %p",
}  # fmt: skip
_JAVA_PART = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z']+)")


def _format(name: str, text: str) -> str:
    """Give a format as strftime has it, in quotes."""
    match = _LITERAL.match(text.strip())
    if match is None:
        raise bad_option(
            name, f"{name}: the format of times is a text in quotes, not {text.strip()!r:.60}"
        )
    given = match[1].replace("''", "'")
    if "%" in given:
        made = re.sub(r"%(.)", lambda part: _MYSQL.get(part[1], part[0]), given)
    else:
        made = "".join(_java_part(name, given, part) for part in _JAVA_PART.finditer(given))
    return "'" + made.replace("'", "''") + "'"


def _java_part(name: str, whole: str, part: re.Match[str]) -> str:
    quoted, letters, _, other = part.groups()
    if letters is None:
        return other if quoted is None else quoted.replace("''", "'") or "'"
    known = dict(_JAVA)
    if letters not in known:
        raise bad_option(
            name,
            f"{name}: the format {whole!r:.60} has {quote(letters)}",
            "it may have yyyy, MM, dd, HH, mm, ss, SSS and their kin",
        )
    return known[letters]


# --- units of time ---


def _unit(name: str, text: str) -> str:
    given = text.strip().strip("\"`'").upper()
    found = given.removeprefix("SQL_TSI_")
    if found == "FRAC_SECOND":
        found = "MICROSECOND"
    if found not in _UNITS:
        raise bad_option(
            name, f"{name}: there is no unit {quote(given)}", did_you_mean(found, "units", _UNITS)
        )
    return found


def _timestamp(text: str) -> str:
    return f"CAST({text} AS TIMESTAMP)"


def _difference(name: str, given: Arguments) -> str:
    unit, begin, end = given
    # Whole units that have passed, as Calcite counts them, and not the boundaries between.
    whole = f"date_sub('{_unit(name, unit).lower()}', {_timestamp(begin)}, {_timestamp(end)})"
    return f"CAST({whole} AS INTEGER)"


def _later(name: str, given: Arguments) -> str:
    unit, count, at = given
    return f"({at} + INTERVAL ({count}) {_unit(name, unit)})"


def _rounded(up: bool) -> Callable[[str, Arguments], str | None]:
    """Write FLOOR and CEIL of a time TO a unit."""

    def write(name: str, given: Arguments) -> str | None:
        parts = pieces(given[0], name, "TO")
        if len(parts) != 2:
            return None  # of a number
        at, unit = parts[0].strip(), _unit(name, parts[1])
        low = f"date_trunc('{unit.lower()}', {at})"
        if not up:
            return low
        return f"CASE WHEN {low} = ({at}) THEN {low} ELSE {low} + INTERVAL 1 {unit} END"

    return write


def _extracted(name: str, given: Arguments) -> str | None:
    parts = pieces(given[0], name, "FROM")
    if len(parts) == 2 and parts[0].strip().upper() == "DOW":
        return _DAY_OF_WEEK.format(parts[1].strip())
    return None


# --- texts ---


def _overlaid(name: str, given: Arguments) -> str:
    text, put = _pair(pieces(given[0], name, "PLACING"))
    put, place = _pair(pieces(put, name, "FROM"))
    begin, length = _pair(pieces(place, name, "FOR"))
    if not begin:
        raise bad_option(
            name,
            f"{name} takes {given[0]!r:.60}",
            "OVERLAY(text PLACING other FROM place FOR length)",
        )
    before = f"substr({text}, 1, greatest(({begin}) - 1, 0))"
    return f"({before} || ({put}) || substr({text}, ({begin}) + ({length or f'length({put})'})))"


def _pair(parts: Sequence[str]) -> tuple[str, str]:
    return parts[0].strip(), parts[1].strip() if len(parts) == 2 else ""


def _concatenated(_name: str, given: Arguments) -> str:
    # DuckDB's concat leaves NULL out, Flink's is NULL then; the text makes texts of numbers.
    return "('' || " + " || ".join(f"({text})" for text in given) + ")"


_DAY_OF_WEEK = "(date_part('dow', {0}) + 1)"
_NOW = "CAST(floor(date_part('epoch', current_timestamp)) AS BIGINT)"
_MILLIS = "try_cast(({0})::VARCHAR AS BIGINT)"
_SECONDS = "(epoch_ms(CAST({0} AS TIMESTAMP)) // 1000)"
_AT = "make_timestamp(CAST({0} AS BIGINT) * 1000000)"
_DIGITS = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
#: As java.sql.Timestamp writes itself: the fraction without its zeros, but one digit.
_JAVA_TIME = r"regexp_replace(strftime({0}, '%Y-%m-%d %H:%M:%S.%f'), '(\.\d+?)0+$', '\1', '')"


def _parsed(template: str) -> Callable[[str, Arguments], str]:
    """Write what takes a time, or a text, and a format."""

    def write(name: str, given: Arguments) -> str:
        return template.format(given[0], _format(name, given[1]))

    return write


def _unseeded(name: str, given: Arguments) -> str:
    raise bad_option(
        name,
        f"{name}({', '.join(given)}): a seed is not taken",
        f"write {name}({', '.join(given[1:])}); sampling operators take a seed",
    )


_Written = str | Callable[[str, Arguments], "str | None"]

#: What DuckDB has too, with another meaning: by number of arguments, 0 of any number.
CHANGED: Mapping[str, Mapping[int, _Written]] = {
    "ceil": {1: _rounded(up=True)},
    "ceiling": {1: _rounded(up=True)},
    "concat": dict.fromkeys(range(1, 100), _concatenated),
    "dayofweek": {1: _DAY_OF_WEEK},
    "extract": {1: _extracted},
    "floor": {1: _rounded(up=False)},
    "from_base64": {1: 'decode("from_base64"({0}))'},
    "log": {1: "ln({0})"},
    "now": {0: _NOW, 1: f"({_NOW} + ({{0}}))"},
    "regexp_extract": {
        2: "regexp_extract_all({0}, {1})[1]",
        3: "regexp_extract_all({0}, {1}, {2})[1]",
    },
    "regexp_replace": {
        3: r"regexp_replace({0}, {1}, regexp_replace({2}, '\$(\d)', '\\\1', 'g'), 'g')"
    },
    "to_base64": {1: "base64(encode({0}))"},
    "to_timestamp": {
        1: f"coalesce(epoch_ms({_MILLIS}), try_cast(({{0}})::VARCHAR AS TIMESTAMP))",
        2: _parsed("try_strptime({0}, {1})"),
    },
}
#: What DuckDB has not.
ADDED: Mapping[str, Mapping[int, _Written]] = {
    "cardinality": {1: "len({0})"},
    "date_format": {2: _parsed("strftime(CAST({0} AS TIMESTAMP), {1})")},
    "date_format_ltz": {
        1: _JAVA_TIME,
        2: _parsed("strftime(CAST({0} AS TIMESTAMP), {1})"),
    },
    "e": {0: "exp(1)"},
    "from_unixtime": {
        1: f"strftime({_AT}, '%Y-%m-%d %H:%M:%S.0')",
        2: _parsed(f"strftime({_AT}, {{1}})"),
    },
    "initcap": {
        1: "coalesce(list_aggregate(list_transform(regexp_extract_all({0}, "
        r"'[\pL\pN]+|[^\pL\pN]+'), lambda word: upper(word[1]) || lower(word[2:])), "
        "'string_agg', ''), {0})"
    },
    "is_alpha": {1: r"coalesce(regexp_full_match(CAST({0} AS VARCHAR), '\pL+'), false)"},
    "is_decimal": {1: f"coalesce(regexp_full_match(CAST({{0}} AS VARCHAR), '{_DIGITS}'), false)"},
    "is_digit": {1: r"coalesce(regexp_full_match(CAST({0} AS VARCHAR), '\pN+'), false)"},
    "locate": {
        2: "instr({1}, {0})",
        3: "CASE WHEN instr(substr({1}, {2}), {0}) = 0 THEN 0 "
        "ELSE instr(substr({1}, {2}), {0}) + ({2}) - 1 END",
    },
    "overlay": {1: _overlaid},
    "rand": {0: "random()", 1: _unseeded},
    "rand_integer": {1: "CAST(floor(random() * ({0})) AS INTEGER)", 2: _unseeded},
    "regexp": {2: "regexp_matches({0}, {1})"},
    "split_index": {3: "CASE WHEN ({2}) >= 0 THEN string_split({0}, {1})[({2}) + 1] END"},
    "timestampadd": {3: _later},
    "timestampdiff": {3: _difference},
    "to_date": {
        1: "try_cast({0} AS DATE)",
        2: _parsed("CAST(try_strptime({0}, {1}) AS DATE)"),
    },
    "truncate": {1: "trunc({0})", 2: "trunc({0}, {1})"},
    "unix_timestamp": {
        0: _NOW,
        1: _SECONDS,
        2: _parsed(_SECONDS.replace("CAST({0} AS TIMESTAMP)", "try_strptime({0}, {1})")),
    },
}


def written(name: str, given: Arguments) -> str | None:
    """Give a call of a function in DuckDB's words; None where they are the same.

    Parameters
    ----------
    name : str
        The function, as it is written.
    given : sequence of str
        Its arguments, in DuckDB's words.

    Raises
    ------
    PlanError
        If Flink has no such function of so many arguments, units or formats.
    """
    known = name.lower()
    forms = CHANGED.get(known) or ADDED.get(known)
    if forms is None:
        return None
    form = forms.get(len(given))
    if form is None:
        if known in ADDED and known != "e":
            counts = " or ".join(map(str, forms))
            word = "argument" if counts == "1" else "arguments"
            raise bad_option(name, f"{name} takes {counts} {word}, not {len(given)}")
        return None
    return form.format(*given) if isinstance(form, str) else form(name, given)
