"""Alink's clauses of aggregates over windows, ``"sum(x) as s, lag(y) as before"``, as SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from alink._diag import did_you_mean
from alink._options import bad_option
from alink.operators._brackets import closing, pieces
from alink.operators._dialect import quoted, translate
from alink.operators._table_aggregates import gather_rows

_ALIAS = re.compile(r"(?is)(.*\S)\s+as\s+(\"(?:[^\"]|\"\")*\"|\w+)\s*\Z")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_COUNT = re.compile(r"[1-9]\d{0,8}\Z")
_PRECEDING = "_preceding"


@dataclass(frozen=True)
class Frame:
    """What an aggregate is computed of.

    Attributes
    ----------
    rows : str
        Stands behind the call: OVER of the window's rows; nothing in a group of rows.
    preceding : str
        As `rows`, without the current row.
    order : str
        OVER of all rows before and after, in their order.
    back : str
        How many rows before the current one there are at most; "" without a limit.
    time : str
        The rows' time, which they have ranks by; "" where there is none.
    inner : str
        Stands within the brackets of a call whose result hangs on the order of a group's rows.
    bounds : mapping
        Calls that give the bounds of the window: SQL by lower-case names.
    """

    rows: str = ""
    preceding: str = ""
    order: str = ""
    back: str = ""
    time: str = ""
    inner: str = ""
    bounds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    """An aggregate's call: its name, its arguments, and OVER of its rows."""

    name: str
    args: Sequence[str]
    frame: Frame
    over: str

    @property
    def first(self) -> str:
        return self.args[0]

    def list(self, over: str | None = None) -> str:
        inner = f"list({self.first}{self.frame.inner}) FILTER (({self.first}) IS NOT NULL)"
        return f"coalesce({inner} {self.over if over is None else over}, [])"


def _plain(call: _Call) -> str:
    return f"{call.name}({', '.join(call.args)}) {call.over}"


def _joined(call: _Call) -> str:
    delimiter = call.args[1] if len(call.args) > 1 else "','"
    return f"string_agg(({call.first})::VARCHAR, {delimiter}{call.frame.inner}) {call.over}"


def _last(call: _Call) -> str:
    if len(call.args) > 1:
        return _lag(call)
    if call.over:
        return f"last_value({call.first}) {call.over}"
    return f"last({call.first}{call.frame.inner})"


def _first(call: _Call) -> str:
    return f"({call.list()})[1]"


def _back(call: _Call) -> tuple[str, str]:
    """Give how many values back one is asked for, and what stands for one that is not there."""
    count = call.args[1] if len(call.args) > 1 else "1"
    if not _COUNT.match(count):
        raise ValueError(f"{call.name}: {count:.40} is not a number of rows from 1")
    return count, call.args[2] if len(call.args) > 2 else "NULL"


def _lag(call: _Call) -> str:
    """Write the value a number of values back; those that are NULL do not count."""
    count, default = _back(call)
    if call.frame.back:
        return f"coalesce(({call.list(call.frame.preceding)})[-{count}], {default})"
    return f"lag({call.first}, {count}, {default} IGNORE NULLS) {call.frame.order}"


def _lag_including_null(call: _Call) -> str:
    count, default = _back(call)
    lagged = f"lag({call.first}, {count}, {default}) {call.frame.order}"
    if not call.frame.back:
        return lagged
    return f"CASE WHEN {count} <= {call.frame.back} THEN {lagged} ELSE {default} END"


def _last_distinct(call: _Call) -> str:
    """Write the last value that is another one; or, with a second column, what that has there."""
    differs = "IS DISTINCT FROM" if call.name.endswith("_including_null") else "<>"
    pairs = f"list({{'k': {call.first}, 'v': {call.args[-1]}}}) {call.frame.preceding}"
    return f"([p.v FOR p IN coalesce({pairs}, []) IF p.k {differs} ({call.first})][-1])"


def _sum_last(call: _Call) -> str:
    """Write the sum of the last rows, the current one among them; NULL counts as 0."""
    count, _ = _back(call)
    return f"list_sum((list(coalesce({call.first}, 0)) {call.over})[-{count}:])"


def _last_time(call: _Call) -> str:
    """Write the current row's time, or that of a number of values back."""
    if not call.frame.time:
        raise ValueError(f"{call.name} has no time here")
    if len(call.args) == 1:
        return call.frame.time
    count, _ = _back(call)
    known = f"FILTER (({call.first}) IS NOT NULL) {call.frame.preceding}"
    return f"((list({call.frame.time}) {known})[-{count}])"


def _among(expression: str) -> Callable[[_Call], str]:
    """Make an aggregate that compares the current row's value, {x}, with the window's."""

    def write(call: _Call) -> str:
        values = call.list(call.frame.preceding if "{before}" in expression else None)
        return "(" + expression.format(x=f"({call.first})", rows=values, before=values) + ")"

    return write


def _rank(among: Callable[[_Call], str]) -> Callable[[_Call], str]:
    """Make a rank: by time where rows have one, as Alink's is whatever it is given."""

    def write(call: _Call) -> str:
        if not call.frame.time and not call.args:
            raise ValueError(f"{call.name} takes one column, but 0 are given")
        by = [call.frame.time] if call.frame.time else call.args
        return among(_Call(call.name, by, call.frame, call.over))

    return write


#: The aggregates of windows and of groups, with how they are written.
_AGGREGATES: Mapping[str, Callable[[_Call], str]] = {
    **dict.fromkeys(("count", "sum", "avg", "min", "max", "median", "mode"), _plain),
    **dict.fromkeys(("stddev_samp", "stddev_pop", "var_samp", "var_pop"), _plain),
    "square_sum": lambda call: f"sum(({call.first}) * ({call.first})) {call.over}",
    "listagg": _joined,
    "concat_agg": _joined,
    "last_value": _last,
    "first_value": _first,
}

#: The aggregates that know a current row.
_OF_ROWS: Mapping[str, Callable[[_Call], str]] = {
    "lag": _lag,
    "lag_including_null": _lag_including_null,
    "last_value_including_null": _lag_including_null,
    "last_distinct": _last_distinct,
    "last_distinct_including_null": _last_distinct,
    "last_time": _last_time,
    "sum_last": _sum_last,
    "row_number": lambda call: f"count(*) {call.over}",
    "freq": _among("CASE WHEN {x} IS NOT NULL THEN len([v FOR v IN {rows} IF v = {x}]) END"),
    "rank": _rank(_among("1 + len([v FOR v IN {rows} IF v < {x}])")),
    "dense_rank": _rank(_among("1 + len(list_distinct([v FOR v IN {rows} IF v < {x}]))")),
    "is_exist": _among("coalesce(list_contains({before}, {x}), false)"),
}

_RANKS = frozenset({"rank", "dense_rank"})
_NO_ARGUMENTS = frozenset({"row_number"})
_MOST_ARGUMENTS = {
    **dict.fromkeys(("lag", "lag_including_null"), 3),
    **dict.fromkeys(("listagg", "concat_agg", "last_value", "last_value_including_null"), 2),
    **dict.fromkeys(("last_distinct", "last_distinct_including_null"), 2),
    **dict.fromkeys(("last_time", "sum_last"), 2),
}


def columns_of(name: str, clause: str, schema: pa.Schema, frame: Frame) -> dict[str, str]:
    """Give the columns that a clause makes: SQL by their names.

    Parameters
    ----------
    name : str
        The operator's, for messages.
    clause : str
        Expressions with aggregates, each with a name: ``sum(x) as s``.
    schema : pyarrow.Schema
        Of the rows.
    frame : Frame
        What the aggregates are computed of.
    """
    columns: dict[str, str] = {}
    for item in pieces(translate(clause, means=False), name):
        match = _ALIAS.match(item.strip())
        if match is None:
            raise bad_option(
                name, f"{name}: {item.strip():.60} has no name", "name it: sum(x) as total"
            )
        alias = match[2][1:-1].replace('""', '"') if match[2].startswith('"') else match[2]
        if alias.lower() in map(str.lower, columns):
            raise bad_option(name, f"{name}: two columns of the clause are called {alias}")
        columns[alias] = _expression(name, match[1], schema, frame)
    return columns


def _expression(name: str, text: str, schema: pa.Schema, frame: Frame) -> str:
    """Write the calls of aggregates in an expression as DuckDB has them."""
    parts: list[str] = []
    at = 0
    found = False
    while at < len(text):
        if text[at] in "'\"":
            end = closing(text, at, name)
            parts.append(text[at:end])
            at = end
            continue
        match = _CALL.match(text, at) if at == 0 or not _is_word(text[at - 1]) else None
        if match is None:
            parts.append(text[at])
            at += 1
            continue
        end = closing(text, match.end() - 1, name)
        written = _aggregate(name, match[1], text[match.end() : end - 1], schema, frame)
        found = found or written is not None
        parts.append(match[0] if written is None else written)
        at = match.end() if written is None else end
    if not found:
        known = sorted({*_AGGREGATES, *_OF_ROWS, "mtable_agg", *frame.bounds})
        called = _CALL.match(text.strip())
        hint = did_you_mean(called[1] if called else text, "aggregates", known)
        raise bad_option(name, f"{name}: {text.strip():.60} has no aggregate of the window", hint)
    return "".join(parts)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter in "_."


def _aggregate(name: str, called: str, inside: str, schema: pa.Schema, frame: Frame) -> str | None:
    """Write a call, or give None if it is no aggregate's."""
    lowered = called.lower()
    if lowered in frame.bounds:
        return frame.bounds[lowered]
    base = lowered.removesuffix(_PRECEDING)
    over = frame.rows if base == lowered else frame.preceding
    if base != "mtable_agg" and base not in _AGGREGATES and base not in _OF_ROWS:
        return None
    if not frame.rows and (base != lowered or base in _OF_ROWS):
        raise bad_option(
            name,
            f"{name}: {called} looks at the rows before the current one, which a group has not",
            "OverCountWindowStreamOp and OverTimeWindowStreamOp have windows that end with a row",
        )
    if base != lowered and base in _OF_ROWS and base != "freq":
        raise bad_option(name, f"{name}: there is no {called}", f"write {base}")
    if base == "mtable_agg":
        lists = gather_rows(name, f"mtable_agg({inside})", schema)
        return f"coalesce({lists[:-1]}{frame.inner}) {over}, [])"
    args = [arg.strip() for arg in pieces(inside, name)] if inside.strip() else []
    most = 0 if base in _NO_ARGUMENTS else _MOST_ARGUMENTS.get(base, 1)
    fewest = 0 if base in _RANKS else min(most, 1)
    if not fewest <= len(args) <= most:
        many = {0: "no column", 1: "one column"}.get(most, f"1 to {most} arguments")
        raise bad_option(name, f"{name}: {called} takes {many}, but {len(args)} are given")
    try:
        return {**_AGGREGATES, **_OF_ROWS}[base](_Call(base, args, frame, over))
    except ValueError as error:
        raise bad_option(name, f"{name}: {error}", "lag(x, 2) is the value two rows ago") from None


def selected(columns: Mapping[str, str]) -> str:
    """Write columns behind SELECT."""
    return ", ".join(f"{sql} AS {quoted(alias)}" for alias, sql in columns.items())
