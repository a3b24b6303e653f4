"""SQL queries over tables: which table a name stands for, and parameters."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alink import _codes as codes
from alink._diag import did_you_mean, quote
from alink._errors import Error, failure
from alink._expr import literal_parts
from alink._options import bad_option
from alink._origin import is_ours, user_origin
from alink._plan import Node
from alink._table import Table
from alink._upload import arrow_table

if TYPE_CHECKING:
    from alink._connection import Context

_OPERATOR = "sql"
_FRAMES = ("pandas", "polars")
_LISTED_MAX = 6


def query_table(
    context: Context,
    query: str,
    tables: Mapping[str, Any],
    params: Mapping[str, Any],
    registered: Mapping[str, Table],
) -> Table:
    """Make the table of a query; the engine is asked for the names in it."""
    if not isinstance(query, str) or not query.strip():
        raise bad_option(_OPERATOR, f"sql takes the text of a query, not {query!r:.80}")
    if not isinstance(tables, Mapping) or not isinstance(params, Mapping):
        raise bad_option(
            _OPERATOR,
            "sql: tables and params are dicts",
            'write sql("SELECT … FROM t WHERE x > $low", tables={"t": t}, params={"low": 1})',
        )
    origin = user_origin()
    request = {"query": query, "origin": None if origin is None else origin.to_json()}
    names = context.engine().call("query-names", request)
    values = _parameters(params, names["parameters"])
    found = _Names(context, tables, registered)
    inputs = [found.table(name) for name in names["tables"]]
    args: dict[str, Any] = {"query": query}
    if inputs:
        args["tables"] = names["tables"]
    if values:
        args["params"] = values
    return Table(context, Node(_OPERATOR, [t._node for t in inputs], args, origin))


class _Names:
    """What the names of a query may stand for."""

    def __init__(
        self, context: Context, tables: Mapping[str, Any], registered: Mapping[str, Table]
    ) -> None:
        self._context = context
        self._given = _by_folded_name(tables)
        self._registered = registered
        self._function, variables = _variables(_caller())
        self._variables = {n: v for n, v in variables.items() if _is_tabular(v)}
        self._others = {n: v for n, v in variables.items() if n not in self._variables}

    def table(self, name: str) -> Table:
        folded = fold(name)
        if folded in self._given:
            return self._made(self._given[folded])
        if folded in self._registered:
            return self._registered[folded]
        candidates = {n: v for n, v in self._variables.items() if fold(n) == folded}
        if len(candidates) > 1:
            raise failure(
                codes.UNKNOWN_TABLE,
                f"the table {quote(name)} could be the variable {' or '.join(candidates)}",
                operator=_OPERATOR,
                source=user_origin(),
                hint=f"say which: sql(…, tables={{{name!r}: {next(iter(candidates))}}})",
            )
        for value in candidates.values():
            return self._made(value)
        raise self._unknown(name)

    def _made(self, value: Any) -> Table:
        if not isinstance(value, Table):
            return self._context._from_table(arrow_table(value, _OPERATOR))
        if value._context is not self._context:
            raise failure(
                codes.INVALID_PLAN,
                "sql: a table belongs to another connection",
                operator=_OPERATOR,
                source=user_origin(),
                hint="make all with the same context",
            )
        return value

    def _unknown(self, name: str) -> Error:
        places = (
            ("tables=", list(self._given)),
            ("registered tables", list(self._registered)),
            (f"variables of {self._function}", list(self._variables)),
        )
        known = [n for _, names in places for n in names]
        looked = "; ".join(f"{place}: {_listed(names)}" for place, names in places)
        hint = did_you_mean(name, "tables", sorted(set(known)))
        if "." in name or "/" in name:
            hint = "a query reads no files: t = ctx.read_parquet(…), then FROM t"
        elif not known:
            hint = f"name it: sql(…, tables={{{name!r}: t}})"
        facts = [f"looked for in {looked}"]
        for other, value in self._others.items():
            if fold(other) == fold(name):
                facts.append(f"the variable {other} is of type {type(value).__name__}")
        return failure(
            codes.UNKNOWN_TABLE,
            f"there is no table {quote(name)}",
            operator=_OPERATOR,
            source=user_origin(),
            facts=tuple(facts),
            hint=hint,
        )


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = ", …" if len(names) > _LISTED_MAX else ""
    return ", ".join(names[:_LISTED_MAX]) + more


def fold(name: str) -> str:
    """Give the form in which names are compared: SQL disregards the case of ASCII letters."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


def _by_folded_name(tables: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in tables.items():
        if not isinstance(name, str) or not name:
            raise bad_option(_OPERATOR, f"sql: {name!r} is not a table's name")
        if fold(name) in out:
            raise bad_option(
                _OPERATOR, f"sql: two tables= have the name {quote(name)}, case disregarded"
            )
        out[fold(name)] = value
    return out


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame):
        frame = frame.f_back
    return frame


def _variables(frame: FrameType | None) -> tuple[str, dict[str, Any]]:
    """Give the name of a function and the variables that its code sees, inner ones first."""
    if frame is None:
        return "the caller", {}
    name = frame.f_code.co_name
    where = "the module" if name == "<module>" else name
    variables = dict(frame.f_locals)
    for key, value in frame.f_globals.items():
        variables.setdefault(key, value)
    return where, variables


def _is_tabular(value: Any) -> bool:
    if isinstance(value, (Table, pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return True
    cls = type(value)
    return cls.__name__ == "DataFrame" and cls.__module__.split(".")[0] in _FRAMES


# --- parameters ---


def _parameters(params: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Give the plan's form of the values; each must be of use."""
    values: dict[str, Any] = {}
    for name, value in params.items():
        if not isinstance(name, str) or fold(name) not in map(fold, wanted):
            raise failure(
                codes.BAD_OPTION,
                f"sql: the query has no parameter ${name}",
                operator=_OPERATOR,
                source=user_origin(),
                hint=did_you_mean(f"${name}", "parameters", [f"${w}" for w in wanted]),
            )
        type_name, data = _parameter(value)
        values[name] = {"type": type_name, "value": data}
    return values


def _parameter(value: Any) -> tuple[str, Any]:
    if not isinstance(value, (list, tuple)):
        return literal_parts(value)
    parts = [_parameter(item) for item in value]
    element = _common_type([type_name for type_name, _ in parts])
    return f"list<{element}>", [_as(element, type_name, data) for type_name, data in parts]


def _as(element: str, type_name: str, data: Any) -> Any:
    """Write a value in the form that literals of the list's type have."""
    if data is not None and element.startswith("decimal") and not isinstance(data, str):
        return str(data)
    return data


def _common_type(types: Sequence[str]) -> str:
    """Find the type of a list's elements; NULL goes with any."""
    distinct = sorted({t for t in types if t != "null"})
    if not distinct:
        return "null"
    if len(distinct) == 1:
        return distinct[0]
    if all(t.startswith("list<") for t in distinct):
        return f"list<{_common_type([t[len('list<') : -1] for t in distinct])}>"
    numbers = {"bigint", "ubigint"}
    if set(distinct) == {"bigint", "double"}:
        return "double"
    if all(t in numbers or t.startswith("decimal(") for t in distinct):
        shapes = [_decimal_shape(t) for t in distinct]
        scale = max(s for _, s in shapes)
        whole = max(p - s for p, s in shapes)
        if whole + scale <= 38:
            return f"decimal({whole + scale},{scale})"
    raise failure(
        codes.TYPE_MISMATCH,
        f"sql: the values of a list have different types: {', '.join(distinct)}",
        operator=_OPERATOR,
        source=user_origin(),
        hint="make them all of one type",
    )


def _decimal_shape(type_name: str) -> tuple[int, int]:
    if not type_name.startswith("decimal("):
        return len(str(2**64)), 0
    precision, scale = type_name[len("decimal(") : -1].split(",")
    return int(precision), int(scale)


__all__ = ["fold", "query_table"]
